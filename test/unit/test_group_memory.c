/* links: godwit_delivery -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc */
#define OWN_FACTS
#include "test/lib/group_bed.h"

#include <stdlib.h>

/* Memory that ends at the n-th allocation, for each n: nothing is lost by it,
 * the books balance, and when there is memory again everything goes on. */

void *__real_malloc(size_t len);
void *__real_calloc(size_t count, size_t len);
void *__real_realloc(void *at, size_t len);
void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t count, size_t len);
void *__wrap_realloc(void *at, size_t len);

static size_t left = SIZE_MAX; /* allocations that still succeed */
static size_t refused;

static bool memory_ends(void)
{
    if (left == SIZE_MAX) {
        return false;
    }
    if (left > 0) {
        left--;
        return false;
    }
    refused++;
    return true;
}

void *__wrap_malloc(size_t len)
{
    return memory_ends() ? NULL : __real_malloc(len);
}

void *__wrap_calloc(size_t count, size_t len)
{
    return memory_ends() ? NULL : __real_calloc(count, len);
}

void *__wrap_realloc(void *at, size_t len)
{
    return memory_ends() ? NULL : __real_realloc(at, len);
}

static void arm(size_t allocations)
{
    left = allocations;
    refused = 0;
}

static size_t fired_count;

static bool disarm(void)
{
    left = SIZE_MAX;
    fired_count += refused > 0;
    return refused > 0;
}

/* A sweep in which hardly anything was refused would prove nothing. */
static void expect_swept(void)
{
    cr_assert(fired_count >= 3);
}

TestSuite(group_memory, .init = set_up, .fini = tear_down, .timeout = 60);

enum { COUNT = 40 };

static void deliver_some(struct member *m)
{
    member_set_credit(m, COUNT, UINT64_MAX);
    group_extend(group, TOPIC, COUNT);
    while (deliver() != 0) {
    }
}

/* All of it once more, acked. */
static void finish(void)
{
    struct member *m = join(1000, UINT64_MAX);

    for (int round = 0; round < 20; round++) {
        now += 1000 * SECOND;
        tick();
        while (deliver() != 0) {
        }
        settle_range(SETTLE_ACK, 1000, 1, COUNT, 0);
    }
    expect_books(COUNT, 0, 0, 0, 0);
    group_leave(group, m, now);
}

static enum status try_settle(enum settle_action action, uint64_t first,
                              uint64_t last)
{
    struct settlement s = {
        .lease = 7, .topic = TOPIC, .action = action, .range = { first, last }
    };
    outcome_count = 0;
    return group_settle(group, &s, now, note_outcome, NULL);
}

/* Every other one, so that each makes a range of its own. STATUS_NOMEM: those
 * that were told an outcome have it, the others are as they were. */
static void settle_until_memory_ends(enum settle_action action, size_t nth)
{
    uint64_t accepted = 0;
    struct lane_books b;

    arm(nth);
    for (uint64_t seq = 1; seq <= COUNT; seq += 2) {
        enum status status = try_settle(action, seq, seq);
        cr_assert(status == STATUS_OK || status == STATUS_NOMEM);
        cr_assert_eq(status == STATUS_OK, outcome_count == 1);
        accepted += status == STATUS_OK;
    }
    left = SIZE_MAX;
    audit();
    cr_assert(group_books(group, TOPIC, &b));
    cr_assert_eq(b.in_flight, COUNT - accepted);
}

static void sweep(enum settle_action action)
{
    bool fired = true;

    for (size_t nth = 0; fired; nth++) {
        struct member *m;
        cr_assert(nth < 1000);
        tear_down();
        set_up();
        m = join(7, 0);
        deliver_some(m);
        settle_until_memory_ends(action, nth);
        fired = disarm();
        group_retire(group, m);
        finish();
    }
    expect_swept();
}

Test(group_memory, an_ack_without_memory_is_refused_and_changes_nothing)
{
    sweep(SETTLE_ACK);
}

Test(group_memory, a_nack_without_memory_is_refused_and_changes_nothing)
{
    sweep(SETTLE_NACK);
}

Test(group_memory, a_release_without_memory_is_refused_and_changes_nothing)
{
    sweep(SETTLE_RELEASE);
}

Test(group_memory, what_a_leaver_holds_comes_back_without_memory_too)
{
    bool fired = true;

    for (size_t nth = 0; fired; nth++) {
        struct member *m;
        tear_down();
        set_up();
        m = join(7, 0);
        deliver_some(m);
        arm(nth);
        group_leave(group, m, now);
        fired = disarm();
        audit();
        finish();
    }
    expect_swept();
}

Test(group_memory, what_expires_comes_back_without_memory_too)
{
    bool fired = true;

    for (size_t nth = 0; fired; nth++) {
        struct member *m;
        tear_down();
        set_up();
        m = join(7, 0);
        deliver_some(m);
        now += LEASE + TICK;
        arm(nth);
        tick();
        fired = disarm();
        cr_assert(gt(u64, group_due_us(group), now)); /* no spinning */
        group_retire(group, m);
        finish();
    }
    expect_swept();
}

/* Every other one is held, so that what is deleted makes many ranges. Asked
 * again, all is deleted. */
Test(group_memory, a_trim_without_memory_is_finished_when_asked_again)
{
    bool fired = true;

    for (size_t nth = 0; fired; nth++) {
        struct member *m;
        struct lane_books b;
        tear_down();
        set_up();
        m = join(7, 0);
        deliver_some(m);
        member_set_credit(m, 0, 0);
        for (uint64_t seq = 1; seq <= COUNT; seq += 2) {
            cr_assert(try_settle(SETTLE_RELEASE, seq, seq) == STATUS_OK);
        }
        arm(nth);
        (void)!group_trim(group, TOPIC, COUNT + 1, NULL);
        fired = disarm();
        audit();
        cr_assert(group_trim(group, TOPIC, COUNT + 1, NULL) == STATUS_OK);
        audit();
        cr_assert(group_books(group, TOPIC, &b));
        cr_assert_eq(b.deleted, COUNT / 2);
        cr_assert_eq(b.in_flight, COUNT / 2);
        group_retire(group, m);
    }
    cr_assert(fired_count >= 2);
}

/* ---- the dead ---- */

/* Every other one of COUNT is dead, so that each is a range of its own; the
 * others are fresh, or held by 7. */
static struct member *kill_half(void)
{
    struct member *m = join(7, 0);

    deliver_some(m);
    for (uint64_t seq = 2; seq <= COUNT; seq += 2) {
        cr_assert(try_settle(SETTLE_REJECT, seq, seq) == STATUS_OK);
    }
    cr_assert_eq(books().dead, COUNT / 2);
    return m;
}

static const struct seq_range everything = { 1, UINT64_MAX };

static enum status redrive_all(uint64_t *count)
{
    uint64_t next;
    return group_redrive(group, TOPIC, everything, now, count, &next);
}

static enum status bury_all(uint64_t *count)
{
    uint64_t next;

    return group_bury(group, TOPIC, everything, NULL, &next, count);
}

static enum status discard_all(uint64_t *count)
{
    uint64_t next;

    return group_discard(group, TOPIC, everything, NULL, &next, count);
}

static enum status ack_all_dead(uint64_t *count)
{
    enum status status = STATUS_OK;

    for (*count = 0; *count < COUNT / 2 && status == STATUS_OK;) {
        uint64_t seq = 2 * (*count + 1);
        struct settlement s = { .topic = TOPIC,
                                .action = SETTLE_ACK,
                                .range = { seq, seq } };
        status = group_settle(group, &s, now, NULL, NULL);
        *count += status == STATUS_OK;
    }
    return status;
}

static enum status seek_middle(uint64_t *count)
{
    *count = 0;
    return group_seek(group, TOPIC, COUNT / 2 + 1, NULL);
}

/* There is nobody to refuse it to: then it ends at once. */
Test(group_memory, a_topic_goes_without_memory)
{
    struct member *m = join(7, COUNT);

    deliver_some(m);
    arm(0);
    group_drop_lane(group, TOPIC, &(size_t) { 3 });
    cr_assert(disarm());
    cr_assert_not(group_is_ending(group));
    audit();
    group_leave(group, m, now);
}

/* What an operator asks for is done, or done in part and can be asked again. */
static void sweep_operation(enum status (*prepare)(uint64_t *count),
                            enum status (*fn)(uint64_t *count))
{
    bool fired = true;

    for (size_t nth = 0; fired; nth++) {
        struct member *m;
        enum status status;
        uint64_t count = 0;
        cr_assert(nth < 1000);
        tear_down();
        set_up();
        m = kill_half();
        cr_assert(prepare == NULL || prepare(&count) == STATUS_OK);
        count = 0;
        arm(nth);
        status = fn(&count);
        fired = disarm();
        audit();
        cr_assert_eq(status == STATUS_OK, !fired || status == STATUS_OK);
        cr_assert(status == STATUS_OK || fired);
        cr_assert(fn(&count) == STATUS_OK);
        audit();
        group_retire(group, m);
    }
    cr_assert(fired_count >= 2);
}

Test(group_memory, a_redrive_without_memory_is_finished_when_asked_again)
{
    sweep_operation(NULL, redrive_all);
}

Test(group_memory, a_burial_without_memory_is_finished_when_asked_again)
{
    sweep_operation(redrive_all, bury_all);
}

Test(group_memory, a_discard_without_memory_is_finished_when_asked_again)
{
    sweep_operation(NULL, discard_all);
}

Test(group_memory, an_ack_of_the_dead_without_memory_can_be_given_again)
{
    sweep_operation(NULL, ack_all_dead);
}

Test(group_memory, a_seek_without_memory_changes_nothing)
{
    sweep_operation(NULL, seek_middle);
}

Test(group_memory, a_rejection_without_memory_is_refused_and_changes_nothing)
{
    bool fired = true;

    for (size_t nth = 0; fired; nth++) {
        struct member *m;
        cr_assert(nth < 1000);
        tear_down();
        set_up();
        m = join(7, 0);
        deliver_some(m);
        settle_until_memory_ends(SETTLE_REJECT, nth);
        fired = disarm();
        group_retire(group, m);
    }
    expect_swept();
}

/* ---- taking ---- */

static uint64_t due_us;
static uint64_t key_count;

static struct message_facts facts_of(const struct offer *offer)
{
    return (struct message_facts) {
        .bytes = BYTES,
        .key_hash = key_count == 0 ? 0 : 1 + offer->seq % key_count,
        .due_us = offer->seq % 3 == 0 ? due_us : 0,
        .filtered = due_us != 0 && offer->seq % 7 == 0
    };
}

/* Whatever is refused for want of memory is offered again. */
static void sweep_taking(enum group_mode mode, uint64_t key_count_then)
{
    bool fired = true;

    for (size_t nth = 0; fired; nth++) {
        struct member *m;
        uint64_t settled;
        cr_assert(nth < 1000);
        tear_down();
        set_up();
        rules.mode = mode;
        group_set_rules(group, &rules);
        key_count = key_count_then;
        due_us = now + SECOND;
        m = join(7, COUNT);
        group_extend(group, TOPIC, COUNT);
        arm(nth);
        while (deliver() != 0) {
        }
        fired = disarm();
        audit();
        for (int round = 0; round < 1000 && books().acked < COUNT; round++) {
            pass_until(now + SECOND);
            while (deliver() != 0) {
            }
            (void)try_settle(SETTLE_ACK, 1, COUNT);
            settled = books().acked + books().filtered;
            if (settled == COUNT) {
                break;
            }
        }
        cr_assert_eq(books().acked + books().filtered, COUNT);
        group_leave(group, m, now);
        key_count = 0;
        due_us = 0;
    }
    cr_assert(fired_count >= 2);
}

Test(group_memory, what_cannot_be_taken_is_offered_again)
{
    sweep_taking(MODE_SHARED, 0);
}

Test(group_memory, what_has_no_room_behind_its_key_is_offered_again)
{
    sweep_taking(MODE_ORDERED, 5);
}

/* ---- beginnings ---- */

Test(group_memory, a_lane_or_a_member_without_memory_is_refused_whole)
{
    struct seqset acked = { 0 };
    struct retry retries[3] = { { .seq = 4, .attempts = 1 },
                                { .seq = 6, .attempts = 1 },
                                { .seq = 8, .attempts = 1 } };
    struct lane_start start = { .topic = OTHER,
                                .end = 10,
                                .settled = &acked,
                                .retries = retries,
                                .retry_count = COUNT_OF(retries) };
    enum status status = STATUS_NOMEM;

    cr_assert(seqset_add(&acked, 1, 2, NULL) == STATUS_OK);
    for (size_t nth = 0; status != STATUS_OK; nth++) {
        struct member *m = NULL;
        tear_down();
        set_up();
        arm(nth);
        status = group_add_lane(group, &start);
        if (status == STATUS_OK) {
            status = group_join(group, 7, 1, 1, NULL, &m);
        } else {
            cr_assert(group_lane_user(group, OTHER) == NULL);
        }
        cr_assert_eq(status == STATUS_NOMEM, disarm());
        audit();
        if (m != NULL) {
            group_leave(group, m, now);
        }
    }
    seqset_fini(&acked);
    expect_swept();
}

Test(group_memory, a_group_and_its_table_are_made_whole_or_not)
{
    bool made = false;

    for (size_t nth = 0; !made; nth++) {
        const struct inflight_config config = { .bytes = { 4096 } };
        struct inflight *table = NULL;
        struct group *g = NULL;
        cr_assert(nth < 40);
        arm(nth);
        if (inflight_new(&table, &config, NULL) == STATUS_OK) {
            g = group_new(
                &(struct group_config) { .rules = { .lease_us = LEASE },
                                         .inflight = table,
                                         .keys = &keys });
        }
        cr_assert(disarm() == (g == NULL));
        made = g != NULL;
        group_free(g);
        inflight_free(table);
    }
    expect_swept();
}
