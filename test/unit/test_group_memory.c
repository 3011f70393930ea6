/* links: godwit_delivery -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc */
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
        (void)!group_trim(group, TOPIC, COUNT + 1);
        fired = disarm();
        audit();
        cr_assert(group_trim(group, TOPIC, COUNT + 1) == STATUS_OK);
        audit();
        cr_assert(group_books(group, TOPIC, &b));
        cr_assert_eq(b.deleted, COUNT / 2);
        cr_assert_eq(b.in_flight, COUNT / 2);
        group_retire(group, m);
    }
    cr_assert(fired_count >= 2);
}

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
            g = group_new(&(struct group_config) {
                .rules = { .lease_us = LEASE }, .inflight = table });
        }
        cr_assert(disarm() == (g == NULL));
        made = g != NULL;
        group_free(g);
        inflight_free(table);
    }
    expect_swept();
}
