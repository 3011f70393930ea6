/* links: godwit_delivery godwit_proto */
#include "broker/delivery/inflight.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 5 };
#define TICK   ((uint64_t)INFLIGHT_TICK_US)
#define SECOND UINT64_C(1000000)
#define HOUR   (3600 * SECOND)
#define START  (500 * SECOND)

static struct inflight *table;
static struct inflight_group *part;
static struct inflight_list list;

static void open_table(size_t heap_bytes)
{
    struct inflight_config config = { .bytes = { heap_bytes },
                                      .now_us = START };

    cr_assert(inflight_new(&table, &config, NULL) == STATUS_OK);
    part = inflight_group_new(table, GROUP);
    list = (struct inflight_list) { 0 };
}

static void set_up(void)
{
    open_table(16 * 1024 * 1024);
}

static void tear_down(void)
{
    inflight_group_free(part);
    inflight_free(table);
}

TestSuite(inflight, .init = set_up, .fini = tear_down, .timeout = 30);

static struct transaction transaction(uint32_t topic, uint64_t seq,
                                      uint64_t lease_end_us)
{
    return (struct transaction) { .group = GROUP,
                                  .topic = topic,
                                  .seq = seq,
                                  .attempt = 1,
                                  .bytes = 10,
                                  .holder = 7,
                                  .state = TRANSACTION_HELD,
                                  .due_us = lease_end_us };
}

static enum status begin(uint32_t topic, uint64_t seq, uint64_t lease_end_us)
{
    struct transaction t = transaction(topic, seq, lease_end_us);
    return inflight_begin(part, &t, &list, START);
}

static void end(uint32_t topic, uint64_t seq)
{
    const struct transaction *t = inflight_find(part, topic, seq);
    cr_assert(t != NULL);
    inflight_end(part, t, &list, START);
}

static struct inflight_figures figures(void)
{
    struct inflight_figures f;
    inflight_figures(table, &f);
    return f;
}

static bool has_room(void)
{
    struct inflight_figures f = figures();
    return f.tiers[TIER_HEAP].count < f.tiers[TIER_HEAP].count_max;
}

static bool count_one(void *arg, const struct transaction *t)
{
    (void)t;
    ++*(size_t *)arg;
    return true;
}

static size_t count_in(uint32_t topic)
{
    size_t count = 0;
    inflight_each(part, topic, count_one, &count);
    return count;
}

static void extend(uint32_t topic, uint64_t seq, uint64_t lease_end_us)
{
    const struct transaction *t = inflight_find(part, topic, seq);
    struct transaction next = *t;
    next.due_us = lease_end_us;
    inflight_change(part, t, &next, &list, &list, START);
}

static uint64_t count_after_free(uint64_t count)
{
    for (uint64_t seq = 1; seq <= count; seq++) {
        cr_assert(begin(1, seq, START + SECOND) == STATUS_OK);
    }
    inflight_forget_list(part, &list, 7);
    inflight_group_free(part);
    part = NULL;
    return figures().tiers[TIER_HEAP].count;
}

Test(inflight, a_group_with_little_ends_at_once)
{
    cr_assert_eq(count_after_free(ENDED_AT_ONCE), 0);
    cr_assert_not(inflight_has_ended_groups(table));
}

Test(inflight, a_group_with_more_ends_in_bits)
{
    size_t budget = ENDED_AT_ONCE;

    cr_assert_eq(count_after_free(ENDED_AT_ONCE + 1), ENDED_AT_ONCE + 1);
    cr_assert(inflight_has_ended_groups(table));
    inflight_end_some(table, &budget);
    cr_assert_eq(budget, 0);
    cr_assert_eq(figures().tiers[TIER_HEAP].count, 1);
    cr_assert(inflight_has_ended_groups(table));
    budget = 2;
    inflight_end_some(table, &budget);
    cr_assert_eq(budget, 1);
    cr_assert_eq(figures().tiers[TIER_HEAP].count, 0);
    cr_assert_not(inflight_has_ended_groups(table));
}

Test(inflight, a_number_that_comes_again_finds_nothing_of_before)
{
    cr_assert_gt(count_after_free(ENDED_AT_ONCE + 1), 0);
    part = inflight_group_new(table, GROUP);
    cr_assert(inflight_find(part, 1, 1) == NULL);
    cr_assert_eq(figures().tiers[TIER_HEAP].count, 0);
    cr_assert(begin(1, 1, START + SECOND) == STATUS_OK);
}

/* In whichever order they began, and whatever lies between. */
Test(inflight, the_next_one_is_found_from_the_one_before)
{
    const uint64_t order[] = { 4, 5, 6, 2, 3, 8 };
    const struct transaction *t;

    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        cr_assert(begin(1, order[i], START + SECOND) == STATUS_OK);
    }
    cr_assert(begin(2, 7, START + SECOND) == STATUS_OK);
    for (uint64_t seq = 2; seq <= 8; seq++) {
        t = inflight_find(part, 1, seq);
        if (t != NULL) {
            cr_assert(inflight_find_next(part, t)
                      == inflight_find(part, 1, seq + 1));
        }
    }
    t = inflight_find(part, 1, 8);
    cr_assert(begin(2, 9, START + SECOND) == STATUS_OK);
    cr_assert(inflight_find_next(part, t) == NULL, "of another topic");
    end(1, 5);
    cr_assert(inflight_find_next(part, inflight_find(part, 1, 4)) == NULL);
}

Test(inflight, what_began_is_found_until_it_ends)
{
    const struct transaction *t;

    cr_assert(begin(1, 2, START + SECOND) == STATUS_OK);
    t = inflight_find(part, 1, 2);
    cr_assert(t != NULL);
    cr_assert(t->seq == 2 && t->topic == 1 && t->bytes == 10 && t->holder == 7);
    cr_assert(inflight_find(part, 1, 3) == NULL);
    cr_assert(inflight_find(part, 2, 2) == NULL);
    cr_assert_eq(inflight_held(part), 1);
    end(1, 2);
    cr_assert(inflight_find(part, 1, 2) == NULL);
    cr_assert_eq(inflight_held(part), 0);
}

Test(inflight, groups_do_not_see_each_others)
{
    struct inflight_group *other = inflight_group_new(table, GROUP + 1);
    struct inflight_list others = { 0 };
    struct transaction t = transaction(1, 2, START + SECOND);

    t.group = GROUP + 1;
    cr_assert(inflight_begin(other, &t, &others, START) == STATUS_OK);
    cr_assert(inflight_find(part, 1, 2) == NULL);
    cr_assert(begin(1, 2, START + 2 * SECOND) == STATUS_OK);
    cr_assert(inflight_due(part, START + SECOND + TICK) == NULL);
    cr_assert(inflight_due(other, START + SECOND + TICK) != NULL);
    inflight_group_free(other);
    cr_assert_eq(figures().tiers[TIER_HEAP].count, 1);
    cr_assert(inflight_find(part, 1, 2) != NULL);
    end(1, 2);
}

/* Many keys in and out in no order, against a plain array of flags. */
Test(inflight, remembers_exactly_what_is_in)
{
    enum { KEYS = 5000 };
    bool *in = calloc(KEYS, sizeof *in);
    size_t count = 0;
    uint64_t x = 1;

    for (int i = 0; i < 200000; i++) {
        uint32_t key;
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        key = (uint32_t)(x >> 33) % KEYS;
        if (in[key]) {
            end(key % 3, key);
            count--;
        } else {
            cr_assert(begin(key % 3, key, START + (x >> 40)) == STATUS_OK);
            count++;
        }
        in[key] = !in[key];
        cr_assert_eq(inflight_held(part), count);
    }
    for (uint32_t key = 0; key < KEYS; key++) {
        cr_assert((inflight_find(part, key % 3, key) != NULL) == in[key]);
    }
    cr_assert_eq(count_in(0) + count_in(1) + count_in(2), count);
    free(in);
}

Test(inflight, the_budget_holds_and_one_out_lets_one_in)
{
    static const size_t budgets[] = { 1200, 4096, 65536, 100000, 1000000 };

    for (size_t i = 0; i < COUNT_OF(budgets); i++) {
        uint64_t fit = 0;
        tear_down();
        open_table(budgets[i]);
        while (has_room()) {
            cr_assert(begin(1, ++fit, START) == STATUS_OK);
            cr_assert(figures().tiers[TIER_HEAP].bytes <= budgets[i]);
        }
        cr_assert(fit >= budgets[i] / 130, "%zu bytes: only %zu fit",
                  budgets[i], (size_t)fit);
        cr_assert(begin(1, fit + 1, START) == STATUS_AGAIN);
        end(1, 1 + fit / 2);
        cr_assert(has_room());
        cr_assert(begin(1, fit + 1, START) == STATUS_OK);
        cr_assert(begin(1, fit + 2, START) == STATUS_AGAIN);
    }
}

Test(inflight, a_budget_of_nothing_has_room_for_nothing)
{
    tear_down();
    open_table(0);
    cr_assert(!has_room());
    cr_assert(begin(1, 1, START) == STATUS_AGAIN);
}

Test(inflight, one_group_leaves_half_of_the_table_to_others)
{
    size_t all = SIZE_MAX;
    struct inflight_group *other = inflight_group_new(table, GROUP + 1);
    struct inflight_list others = { 0 };
    struct transaction t = transaction(1, 1, START);
    uint64_t mine = 0;
    uint64_t theirs = 0;

    while (inflight_group_has_room(part)) {
        cr_assert(begin(1, ++mine, START) == STATUS_OK);
    }
    cr_assert_eq(mine, (figures().tiers[TIER_HEAP].count_max + 1) / 2);
    t.group = GROUP + 1;
    for (; inflight_group_has_room(other); theirs++) {
        t.seq = theirs + 1;
        cr_assert(inflight_begin(other, &t, &others, START) == STATUS_OK);
    }
    cr_assert(theirs >= mine / 2 && theirs < mine);
    cr_assert(has_room()); /* nobody takes the last of it */
    end(1, 1);
    cr_assert(!inflight_group_has_room(part)); /* it has far too much still */
    inflight_group_free(other);
    inflight_end_some(table, &all);
    cr_assert(inflight_group_has_room(part));
}

Test(inflight, a_list_leads_to_what_its_holder_has)
{
    struct inflight_list other = { 0 };
    struct transaction t = transaction(9, 9, START);

    t.holder = 8;
    cr_assert(inflight_first(part, &list) == NULL);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        cr_assert(begin(1, seq, START) == STATUS_OK);
    }
    cr_assert(inflight_begin(part, &t, &other, START) == STATUS_OK);
    end(1, 3);
    end(1, 5);
    end(1, 1);
    cr_assert_eq(list.count, 2);
    while (list.count > 0) {
        cr_assert_eq(inflight_first(part, &list)->topic, 1);
        inflight_end(part, inflight_first(part, &list), &list, START);
    }
    cr_assert(inflight_first(part, &list) == NULL);
    cr_assert_eq(inflight_first(part, &other)->seq, 9);
}

/* ---- leases ---- */

Test(inflight, a_lease_ends_within_a_tick_and_not_before)
{
    static const uint64_t leases[] = {
        1,      TICK - 1,   TICK,       TICK + 1,    100000,
        SECOND, 4 * SECOND, 5 * SECOND, 30 * SECOND, 262 * SECOND,
        HOUR,   5 * HOUR,   12 * HOUR,  400 * HOUR,  5000 * HOUR
    };

    for (size_t i = 0; i < COUNT_OF(leases); i++) {
        uint64_t lease_end = START + leases[i];
        tear_down();
        open_table(65536);
        cr_assert(begin(1, 1, lease_end) == STATUS_OK);
        cr_assert(inflight_due(part, lease_end - 1) == NULL);
        cr_assert(inflight_due_us(part) >= lease_end - 1);
        cr_assert(inflight_due(part, lease_end + TICK) != NULL);
        cr_assert(inflight_due(part, lease_end + TICK) != NULL);
        end(1, 1);
        cr_assert(inflight_due(part, lease_end + TICK) == NULL);
    }
}

/* Walking from due time to due time finds the end, in few steps. */
Test(inflight, the_due_time_leads_to_the_lease_end)
{
    static const uint64_t leases[] = { 100000, SECOND,    30 * SECOND,
                                       HOUR,   12 * HOUR, 1000 * HOUR };

    for (size_t i = 0; i < COUNT_OF(leases); i++) {
        uint64_t now = START;
        int steps = 0;
        cr_assert(begin(1, i, START + leases[i]) == STATUS_OK);
        while (inflight_due(part, now) == NULL) {
            uint64_t due = inflight_due_us(part);
            cr_assert(due > now, "due %zu, now %zu", (size_t)due, (size_t)now);
            cr_assert(due < START + leases[i] + TICK);
            now = due;
            cr_assert(++steps < 12);
        }
        end(1, i);
        cr_assert_eq(inflight_due_us(part), UINT64_MAX);
        tear_down();
        open_table(65536);
    }
}

Test(inflight, time_may_jump_over_everything)
{
    size_t ended = 0;

    for (uint64_t seq = 0; seq < 1000; seq++) {
        cr_assert(begin(1, seq, START + seq * seq * 37 * SECOND) == STATUS_OK);
    }
    for (;;) {
        const struct transaction *t = inflight_due(part, UINT64_MAX / 2);
        if (t == NULL) {
            cr_assert(inflight_due_us(part) > UINT64_MAX / 2);
            break;
        }
        inflight_end(part, t, &list, START);
        ended++;
    }
    cr_assert_eq(ended, 1000);
}

Test(inflight, time_that_goes_back_changes_nothing)
{
    cr_assert(begin(1, 1, START + 10 * SECOND) == STATUS_OK);
    cr_assert(inflight_due(part, START + 9 * SECOND) == NULL);
    cr_assert(inflight_due(part, START) == NULL);
    cr_assert(begin(1, 2, START + SECOND) == STATUS_OK); /* over already */
    cr_assert_eq(inflight_due(part, START + 9 * SECOND)->seq, 2);
    end(1, 2);
    cr_assert(inflight_due(part, START + 9 * SECOND) == NULL);
    cr_assert(inflight_due(part, START + 10 * SECOND + TICK) != NULL);
}

Test(inflight, an_extended_lease_ends_later_or_sooner)
{
    cr_assert(begin(1, 1, START + SECOND) == STATUS_OK);
    extend(1, 1, START + 12 * HOUR);
    cr_assert(inflight_due(part, START + 12 * HOUR - 1) == NULL);
    extend(1, 1, START + HOUR);
    cr_assert(inflight_due(part, START + 12 * HOUR - 1) != NULL);
    /* Even while it is due. */
    extend(1, 1, START + 13 * HOUR);
    cr_assert(inflight_due(part, START + 12 * HOUR) == NULL);
    cr_assert(inflight_due(part, START + 13 * HOUR + TICK) != NULL);
}

/* Random leases and steps of time; what comes up is what a plain look over all
 * says is over, at each step. */
Test(inflight, the_wheel_agrees_with_a_plain_look)
{
    enum { N = 300 };
    static uint64_t ends[N]; /* 0: free */
    uint64_t now = START;
    uint64_t x = 7;

    for (int step = 0; step < 30000; step++) {
        size_t i;
        const struct transaction *t;
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        i = (size_t)(x >> 33) % N;
        if (ends[i] == 0) {
            ends[i] = now + (x >> 20) % (1 + (UINT64_C(1) << (x >> 59)) * TICK);
            cr_assert(begin(1, i, ends[i]) == STATUS_OK);
        }
        now += (x >> 40) % (x % 50 == 0 ? 1000 * TICK : TICK);
        while ((t = inflight_due(part, now)) != NULL) {
            cr_assert(ends[t->seq] <= now && ends[t->seq] != 0);
            ends[t->seq] = 0;
            inflight_end(part, t, &list, START);
        }
        for (i = 0; i < N; i++) {
            cr_assert(ends[i] == 0 || (ends[i] + TICK - 1) / TICK > now / TICK);
        }
    }
}

Test(inflight, a_key_cannot_end_twice, .signal = SIGABRT)
{
    const struct transaction *t;

    cr_assert(begin(1, 1, START) == STATUS_OK);
    t = inflight_find(part, 1, 1);
    inflight_end(part, t, &list, START);
    inflight_end(part, t, &list, START);
}

Test(inflight, free_takes_null)
{
    inflight_group_free(NULL);
    inflight_free(NULL);
}
