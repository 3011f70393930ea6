/* links: godwit_delivery godwit_proto */
#include "broker/delivery/untold.h"

#include <criterion/criterion.h>
#include <string.h>

static struct untold untold;
static struct untold_view part;

static void set_up(void)
{
    untold = (struct untold) { 0 };
}

static void tear_down(void)
{
    untold_fini(&untold);
}

TestSuite(untold, .init = set_up, .fini = tear_down, .timeout = 10);

static void add(enum effect_set set, uint64_t first, uint64_t last)
{
    cr_assert(untold_add(&untold, set, (struct seq_range) { first, last })
              == STATUS_OK);
}

static void redrive(uint64_t seq)
{
    cr_assert(untold_add_redriven(&untold, (struct seq_range) { seq, seq })
              == STATUS_OK);
}

static void fail(uint64_t seq, const char *reason)
{
    struct failure failure = { .seq = seq, .attempts = 1 };
    struct slice text = { (const uint8_t *)reason, strlen(reason) };
    uint8_t *copy;

    cr_assert(untold_reserve(&untold, text, &copy) == STATUS_OK);
    failure.reason = (struct slice) { copy, text.len };
    untold_note(&untold, &failure);
}

static uint64_t count_of(enum effect_set set)
{
    return seqset_count(part.effects.sets[set]);
}

static void next_part(void)
{
    cr_assert_not(untold_is_empty(&untold));
    untold_first(&untold, &part);
    cr_assert(part.effects.failure_count <= EFFECTS_COUNT_MAX);
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        cr_assert(seqset_range_count(part.effects.sets[i])
                  <= EFFECTS_COUNT_MAX);
    }
}

static void told(void)
{
    untold_told(&untold, &part);
}

Test(untold, a_reason_is_kept_until_it_is_told)
{
    cr_assert(untold_is_empty(&untold));
    fail(4, "no such table");
    cr_assert_eq(untold.reason_bytes, 13);
    next_part();
    cr_assert_eq(part.effects.failure_count, 1);
    cr_assert_eq(
        memcmp(part.effects.failures[0].reason.at, "no such table", 13), 0);
    told();
    cr_assert(untold_is_empty(&untold));
    cr_assert_eq(untold.reason_bytes, 0);
    cr_assert_eq(untold.failure_count, 0);
}

/* What settles comes when all failures of its batch are told. */
Test(untold, parts_keep_the_order_of_a_batch)
{
    size_t failures = 0;
    size_t parts = 0;

    for (uint64_t seq = 1; seq <= 1000; seq++) {
        fail(seq, "");
    }
    add(EFFECT_ACKED, 1, 1);
    for (; !untold_is_empty(&untold); parts++) {
        next_part();
        failures += part.effects.failure_count;
        cr_assert_eq(count_of(EFFECT_ACKED), failures == 1000);
        told();
    }
    cr_assert_eq(failures, 1000);
    cr_assert_eq(parts, 2);
}

Test(untold, a_part_of_failures_fits_its_record)
{
    char reason[REASON_LEN_MAX + 1] = { 0 };
    size_t len = 0;

    memset(reason, 'x', REASON_LEN_MAX);
    for (uint64_t seq = 1; seq <= 200; seq++) {
        fail(seq, reason);
    }
    next_part();
    for (size_t i = 0; i < part.effects.failure_count; i++) {
        len += FAILURE_LEN_MIN + part.effects.failures[i].reason.len;
    }
    cr_assert(len <= EFFECTS_FAILURES_LEN_MAX);
    cr_assert(len + FAILURE_LEN_MIN + REASON_LEN_MAX
              > EFFECTS_FAILURES_LEN_MAX);
}

/* Dead and redriven before anybody was told: the log must hear it in that
 * order. */
Test(untold, a_redrive_is_told_after_the_failure_before_it)
{
    fail(4, "a");
    redrive(4);
    fail(4, "b");
    next_part();
    cr_assert_eq(part.effects.failure_count, 1);
    cr_assert_eq(part.effects.failures[0].reason.at[0], 'a');
    cr_assert_eq(count_of(EFFECT_REDRIVEN), 0);
    told();
    next_part();
    cr_assert_eq(count_of(EFFECT_REDRIVEN), 1);
    cr_assert_eq(part.effects.failures[0].reason.at[0], 'b');
    told();
    cr_assert(untold_is_empty(&untold));
}

Test(untold, a_redrive_is_told_after_a_burial_and_before_the_next)
{
    redrive(4);
    add(EFFECT_BURIED, 4, 4);
    redrive(4);
    next_part();
    cr_assert_eq(count_of(EFFECT_BURIED), 1);
    told();
    next_part();
    cr_assert_eq(count_of(EFFECT_BURIED), 0);
    cr_assert_eq(count_of(EFFECT_REDRIVEN), 1);
    told();
    cr_assert(untold_is_empty(&untold));
}

Test(untold, a_seek_is_told_alone_and_behind_all_before)
{
    fail(1, "gone");
    add(EFFECT_ACKED, 2, 3);
    cr_assert(untold_seek(&untold, 7) == STATUS_OK);
    add(EFFECT_ACKED, 8, 8);
    next_part();
    cr_assert_not(part.effects.seek);
    cr_assert_eq(part.effects.failure_count, 1);
    cr_assert_eq(count_of(EFFECT_ACKED), 2);
    told();
    next_part();
    cr_assert(part.effects.seek);
    cr_assert_eq(part.effects.seek_after, 7);
    cr_assert_eq(count_of(EFFECT_ACKED), 0);
    told();
    next_part();
    cr_assert_not(part.effects.seek);
    cr_assert_eq(count_of(EFFECT_ACKED), 1);
    told();
    cr_assert(untold_is_empty(&untold));
}
