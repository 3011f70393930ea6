/* links: godwit_delivery godwit_proto */
#include "test/lib/group_bed.h"

#include <stdlib.h>

/* Lanes, gaps, bounds, effects and time. */

TestSuite(group_lanes, .init = set_up, .fini = tear_down, .timeout = 30);

static bool take_all(void *arg, const struct effects *effects)
{
    (void)arg;
    (void)effects;
    return true;
}

/* ---- lanes ---- */

Test(group_lanes, lanes_take_turns_in_bursts)
{
    struct member *m = join(7, 100000);
    struct offer offer;
    unsigned in_a_row = 0;
    uint32_t last = 0;

    group_extend(group, TOPIC, 1000);
    add_lane(OTHER, 1000);
    for (int i = 0; i < 2000; i++) {
        cr_assert(gt(u64, deliver_to(&offer), 0));
        in_a_row = offer.topic == last ? in_a_row + 1 : 1;
        last = offer.topic;
        if (i < 1900) { /* then one of them is at its end */
            cr_assert(le(uint, in_a_row, 64));
        }
    }
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}

Test(group_lanes, extend_makes_new_messages_ready)
{
    struct member *m = join(7, 100);

    for (uint64_t seq = 1; seq <= 10; seq++) {
        expect_offer(seq, 1);
    }
    cr_assert_eq(deliver(), 0);
    group_extend(group, TOPIC, 12);
    group_extend(group, TOPIC, 11); /* an older word changes nothing */
    expect_offer(11, 1);
    expect_offer(12, 1);
    cr_assert_eq(deliver(), 0);
    group_extend(group, 77, 5); /* no lane of this group */
    group_leave(group, m, now);
}

Test(group_lanes, a_lane_is_added_once)
{
    struct lane_start start = { .topic = TOPIC, .end = 1 };
    cr_assert(group_add_lane(group, &start) == STATUS_EXISTS);
}

Test(group_lanes, a_lane_starts_from_what_was_settled_before)
{
    struct seqset acked = { 0 };
    struct seqset gaps = { 0 };
    struct lane_start start = {
        .topic = OTHER, .end = 10, .settled = &acked, .gaps = &gaps
    };
    struct member *m;
    struct lane_books b;
    static const uint64_t expected[] = { 3, 6, 7, 10 };
    struct offer offer;

    group_drop_lane(group, TOPIC, NULL);
    cr_assert(seqset_add(&acked, 1, 2, NULL) == STATUS_OK);
    cr_assert(seqset_add(&acked, 4, 5, NULL) == STATUS_OK);
    cr_assert(seqset_add(&acked, 8, 9, NULL) == STATUS_OK);
    cr_assert(seqset_add(&acked, 20, 30, NULL) == STATUS_OK); /* beyond */
    cr_assert(seqset_add(&gaps, 5, 5, NULL) == STATUS_OK);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    cr_assert(group_books(group, OTHER, &b));
    cr_assert_eq(b.acked, 5);
    cr_assert_eq(b.gap, 1);
    cr_assert_eq(b.ready, 4);
    m = join(7, 100);
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        cr_assert_eq(deliver_to(&offer), expected[i]);
    }
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
    seqset_fini(&acked);
    seqset_fini(&gaps);
}

static size_t lane_count;

static void count_lane(void *arg, uint32_t topic, void *user)
{
    (void)topic;
    cr_assert(user == NULL || user == arg);
    lane_count++;
}

Test(group_lanes, a_dropped_lane_takes_its_messages_along)
{
    struct member *m = join(7, 6);
    int user;
    struct lane_start start = { .topic = OTHER, .end = 3, .user = &user };

    cr_assert_eq(deliver(), 1);
    cr_assert_eq(deliver(), 2);
    cr_assert_eq(deliver(), 3);
    (void)settle(SETTLE_NACK, 7, 1);
    (void)settle(SETTLE_RELEASE, 7, 2);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    cr_assert(group_lane_user(group, OTHER) == &user);
    group_each_lane(group, count_lane, &user);
    cr_assert_eq(lane_count, 2);
    group_drop_lane(group, TOPIC, NULL);
    group_drop_lane(group, TOPIC, NULL); /* gone: nothing */
    cr_assert(group_lane_user(group, TOPIC) == NULL);
    cr_assert_eq(settle(SETTLE_ACK, 7, 3), OUTCOME_UNKNOWN);
    cr_assert(not(group_has_effects(group)));
    /* Its credit is back, and nothing of it is left to expire. */
    for (uint64_t seq = 1; seq <= 3; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    now += 2 * LEASE;
    tick();
    cr_assert_eq(group_due_us(group), UINT64_MAX);
    group_leave(group, m, now);
}

Test(group_lanes, thousands_of_lanes_are_all_served)
{
    enum { LANES = 5000 };
    struct member *m;
    uint64_t delivered = 0;
    struct offer offer;
    uint64_t *last = calloc(LANES + 100, sizeof *last);

    tear_down();
    open_group(4 * 1024 * 1024, SIZE_MAX);
    m = join(7, UINT64_MAX);
    group_drop_lane(group, TOPIC, NULL);
    for (uint32_t topic = 100; topic < 100 + LANES; topic++) {
        add_lane(topic, 2);
    }
    while (group_next(group, now, &offer)) {
        cr_assert(take(&offer) == TAKE_DELIVERED);
        cr_assert_eq(offer.seq, ++last[offer.topic]);
        delivered++;
    }
    cr_assert_eq(delivered, 2 * LANES);
    group_leave(group, m, now);
    cr_assert(group_audit(group, 100));
    free(last);
}

/* ---- gaps ---- */

Test(group_lanes, what_the_store_lost_is_settled_as_a_gap)
{
    struct member *m = join(7, 100);
    struct offer offer;

    cr_assert_eq(deliver(), 1);
    cr_assert(group_next(group, now, &offer));
    group_lost(group, &offer, 4);
    audit();
    expect_books(0, 3, 6, 0, 1);
    expect_offer(5, 1);
    cr_assert_eq(settle(SETTLE_ACK, 7, 3), OUTCOME_ACCEPTED);
    expect_books(0, 3, 5, 0, 2);
    group_leave(group, m, now);
}

Test(group_lanes, a_gap_leaves_alone_what_somebody_has_and_what_is_settled)
{
    struct member *m = join(7, 4);
    struct offer offer;

    for (uint64_t seq = 1; seq <= 4; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    (void)settle(SETTLE_ACK, 7, 2);
    (void)settle(SETTLE_RELEASE, 7, 1);
    settle_range(SETTLE_NACK, 7, 4, 4, SECOND);
    cr_assert(group_next(group, now, &offer));
    cr_assert_eq(offer.seq, 1);
    group_lost(group, &offer, 1000); /* one past the end and more */
    audit();
    expect_books(1, 8, 0, 0, 1);
    cr_assert_eq(settle(SETTLE_ACK, 7, 3), OUTCOME_ACCEPTED);
    expect_books(2, 8, 0, 0, 0);
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}

/* ---- bounds ---- */

Test(group_lanes, the_cap_on_the_group_is_exact_and_counts_what_waits)
{
    struct member *m;

    tear_down();
    open_group(1024 * 1024, 3);
    add_lane(TOPIC, 10);
    m = join(7, 100);
    cr_assert_eq(deliver(), 1);
    cr_assert_eq(deliver(), 2);
    cr_assert_eq(deliver(), 3);
    cr_assert_eq(deliver(), 0);
    settle_range(SETTLE_NACK, 7, 1, 2, SECOND);
    cr_assert_eq(deliver(), 0); /* one in flight, two wait */
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(4, 1);
    cr_assert_eq(deliver(), 0);
    pass_until(now + SECOND);
    expect_offer(2, 2);
    group_leave(group, m, now);
}

/* The whole budget: how many fit is the table's affair, but at that number it
 * is STATUS_AGAIN, nothing is changed by it, and one settled makes room for
 * one. */
Test(group_lanes, past_the_budget_delivery_waits_and_goes_on)
{
    struct member *m;
    struct offer offer;
    uint64_t fit = 0;
    struct inflight_figures figures;

    tear_down();
    open_group(4096, SIZE_MAX);
    add_lane(TOPIC, 1000);
    m = join(7, UINT64_MAX);
    inflight_figures(inflight, &figures);
    while (2 * fit < figures.tiers[TIER_HEAP].count_max) { /* half: one group */
        cr_assert_eq(deliver(), ++fit);
    }
    cr_assert(gt(u64, fit, 10));
    cr_assert(group_next(group, now, &offer));
    cr_assert(take(&offer) == TAKE_AGAIN);
    audit();
    expect_books(0, 0, 1000 - fit, 0, fit);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(fit + 1, 1);
    /* What is given back keeps its place, and needs no other to come again. */
    (void)settle(SETTLE_RELEASE, 7, 2);
    expect_offer(2, 1);
    settle_range(SETTLE_NACK, 7, 3, 3, SECOND);
    cr_assert(group_next(group, now, &offer));
    cr_assert(take(&offer) == TAKE_AGAIN);
    pass_until(now + SECOND);
    expect_offer(3, 2);
    group_leave(group, m, now);
}

/* ---- effects ---- */

struct gathered {
    uint64_t acked;
    uint64_t gaps;
    struct failure failures[64];
    size_t failure_count;
    size_t calls;
    bool refuse;
};

static bool gather(void *arg, const struct effects *effects)
{
    struct gathered *g = arg;

    g->calls++;
    if (g->refuse) {
        return false;
    }
    g->acked += seqset_count(effects->sets[EFFECT_ACKED]);
    g->gaps += seqset_count(effects->sets[EFFECT_GAP]);
    for (size_t i = 0; i < effects->failure_count; i++) {
        g->failures[g->failure_count++] = effects->failures[i];
    }
    return true;
}

Test(group_lanes, effects_tell_what_must_survive)
{
    struct member *m = join(7, 5);
    struct gathered g = { 0 };
    struct offer offer;

    for (uint64_t seq = 1; seq <= 5; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    settle_range(SETTLE_ACK, 7, 1, 2, 0);
    settle_range(SETTLE_NACK, 7, 3, 3, SECOND);
    (void)settle(SETTLE_RELEASE, 7, 4);
    group_leave(group, m, now);
    m = join(8, 5);
    expect_offer(4, 1);
    expect_offer(5, 2);
    cr_assert(group_next(group, now, &offer));
    group_lost(group, &offer, 7);
    cr_assert(group_has_effects(group));
    g.refuse = true;
    group_take_effects(group, gather, &g);
    cr_assert_eq(g.calls, 1);
    cr_assert(group_has_effects(group));
    g.refuse = false;
    group_take_effects(group, gather, &g);
    cr_assert(not(group_has_effects(group)));
    cr_assert_eq(g.acked, 2);
    cr_assert_eq(g.gaps, 2);
    cr_assert_eq(g.failure_count, 2);
    cr_assert_eq(g.failures[0].seq, 3);
    cr_assert_eq(g.failures[0].attempts, 1);
    cr_assert_eq(g.failures[0].due_us, now + SECOND);
    cr_assert_eq(g.failures[1].seq, 5);
    cr_assert_eq(g.failures[1].attempts, 1);
    cr_assert_eq(g.failures[1].due_us, 0);
    group_leave(group, m, now);
}

static size_t parts;
static uint64_t told;

static bool count_part(void *arg, const struct effects *effects)
{
    const struct seqset *acked = effects->sets[EFFECT_ACKED];

    (void)arg;
    cr_assert(le(sz, seqset_range_count(acked), EFFECTS_COUNT_MAX));
    cr_assert(le(sz, effects->failure_count * FAILURE_LEN_MIN,
                 EFFECTS_FAILURES_LEN_MAX));
    if (++parts == 2) {
        return false; /* once the log has no room */
    }
    told += seqset_count(acked) + effects->failure_count;
    return true;
}

Test(group_lanes, a_long_lane_tells_its_effects_in_parts)
{
    enum { N = 2 * EFFECTS_COUNT_MAX + 1 };
    struct member *m;
    struct offer offer;

    tear_down();
    open_group(64 * 1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, 2 * N);
    m = join(7, UINT64_MAX);
    while (group_next(group, now, &offer)) {
        cr_assert(take(&offer) == TAKE_DELIVERED);
    }
    for (uint64_t seq = 1; seq < 2 * N; seq += 2) {
        struct settlement s = { .lease = 7,
                                .topic = TOPIC,
                                .action = SETTLE_ACK,
                                .range = { seq, seq } };
        cr_assert(group_settle(group, &s, now, NULL, NULL) == STATUS_OK);
    }
    group_leave(group, m, now);
    group_take_effects(group, count_part, NULL);
    cr_assert(group_has_effects(group));
    cr_assert_eq(parts, 2);
    group_take_effects(group, count_part, NULL);
    cr_assert(not(group_has_effects(group)));
    cr_assert_eq(parts, 6); /* three of failures; acks from the last one on */
    cr_assert_eq(told, 2 * N);
    audit();
}

/* A log that takes nothing, as on a frozen store, must not let failures fill
 * the memory: at the bound nothing more is given. */
Test(group_lanes, untold_failures_stop_deliveries_until_they_are_told)
{
    enum { UNTOLD_MAX = 256 * 1024 };
    struct member *m;
    struct settlement s = { .lease = 7,
                            .topic = TOPIC,
                            .action = SETTLE_NACK,
                            .range = { 1, 1 },
                            .delay_us = 1 };
    struct offer offer;

    tear_down();
    open_group(1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, 1);
    m = join(7, 1);
    for (int i = 0; i < UNTOLD_MAX; i++) {
        cr_assert(group_next(group, now, &offer));
        cr_assert_eq(offer.seq, 1);
        cr_assert(take(&offer) == TAKE_DELIVERED);
        cr_assert(group_settle(group, &s, now, NULL, NULL) == STATUS_OK);
        now += BREAKER_TRIAL_US; /* it opens soon */
        cr_assert(not(group_tick(group, now, 1, NULL, NULL)));
    }
    cr_assert(not(group_next(group, now, &offer)));
    parts = 2; /* all of it this time */
    group_take_effects(group, count_part, NULL);
    cr_assert_eq(told, UNTOLD_MAX);
    expect_offer(1, UNTOLD_MAX + 1);
    group_leave(group, m, now);
}

static bool tell_all(void *arg, const struct effects *effects)
{
    uint64_t *ranges = arg;

    for (size_t i = 0; i < EFFECT_SETS; i++) {
        *ranges += seqset_range_count(effects->sets[i]);
    }
    return true;
}

/* The same for what is settled without a member: every other one is expired,
 * the rest filtered, so that nothing touches. */
Test(group_lanes, untold_ranges_stop_deliveries_until_they_are_told)
{
    struct member *m;
    struct offer offer;
    uint64_t ranges = 0;

    tear_down();
    open_group(1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, 2 * UNTOLD_RANGES_MAX);
    m = join(7, 1);
    for (uint64_t seq = 1; seq <= UNTOLD_RANGES_MAX; seq++) {
        struct message_facts facts = { .bytes = 1,
                                       .expires_us = seq % 2,
                                       .filtered = seq % 2 == 0 };

        cr_assert(group_next(group, now, &offer));
        cr_assert_eq(offer.seq, seq);
        cr_assert(group_take(group, &offer, &facts, now) == TAKE_PASSED);
    }
    cr_assert(not(group_next(group, now, &offer)));
    expect_gate(UNTOLD_RANGES_MAX + 1, GATE_QUOTA);
    group_take_effects(group, tell_all, &ranges);
    cr_assert_eq(ranges, UNTOLD_RANGES_MAX);
    expect_offer(UNTOLD_RANGES_MAX + 1, 1);
    group_leave(group, m, now);
}

Test(group_lanes, attempts_survive_in_what_the_log_was_told)
{
    struct member *m = join(7, 10);
    struct gathered g = { 0 };
    struct seqset acked = { 0 };
    struct retry retry;
    struct lane_start start = { .topic = TOPIC, .end = 10, .settled = &acked };

    expect_offer(1, 1);
    expect_offer(2, 1);
    expect_offer(3, 1);
    (void)settle(SETTLE_ACK, 7, 1);
    settle_range(SETTLE_NACK, 7, 2, 2, SECOND);
    group_take_effects(group, gather, &g);
    group_leave(group, m, now); /* the crash: 3 failed, and nobody was told */

    tear_down();
    open_group(1024 * 1024, SIZE_MAX);
    cr_assert(seqset_add(&acked, 1, 1, NULL) == STATUS_OK);
    cr_assert_eq(g.failure_count, 1);
    retry = (struct retry) { .seq = g.failures[0].seq,
                             .attempts = g.failures[0].attempts,
                             .due_us = g.failures[0].due_us };
    start.retries = &retry;
    start.retry_count = 1;
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    expect_books(1, 0, 8, 1, 0);
    m = join(8, 100);
    /* Of before the restart: the ack counts, the message never comes again. */
    expect_offer(3, 1);
    pass_until(now + SECOND);
    expect_offer(2, 2);
    expect_offer(4, 1);
    group_leave(group, m, now);
    seqset_fini(&acked);
}

Test(group_lanes, a_retry_of_before_the_restart_can_be_acked_before_it_comes)
{
    struct retry retry = { .seq = 4, .attempts = 3, .due_us = START + SECOND };
    struct lane_start start = {
        .topic = OTHER, .end = 5, .retries = &retry, .retry_count = 1
    };
    struct settlement s = {
        .topic = OTHER, .lease = 3, .action = SETTLE_ACK, .range = { 3, 5 }
    };
    struct member *m;
    struct lane_books b;

    group_drop_lane(group, TOPIC, NULL);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    audit();
    cr_assert(group_settle(group, &s, now, note_outcome, NULL) == STATUS_OK);
    audit();
    cr_assert_eq(outcome_count, 3);
    expect_outcome(0, 3, 3, OUTCOME_UNKNOWN, 0);
    expect_outcome(1, 4, 4, OUTCOME_ACCEPTED, 0);
    expect_outcome(2, 5, 5, OUTCOME_UNKNOWN, 0);
    m = join(7, 100);
    now += 2 * SECOND;
    cr_assert_eq(deliver(), 1);
    cr_assert_eq(deliver(), 2);
    cr_assert_eq(deliver(), 3);
    cr_assert_eq(deliver(), 5);
    cr_assert_eq(deliver(), 0);
    cr_assert(group_books(group, OTHER, &b));
    cr_assert_eq(b.acked, 1);
    group_leave(group, m, now);
}

Test(group_lanes, retries_that_make_no_sense_are_ignored)
{
    struct seqset acked = { 0 };
    struct retry retries[] = { { .seq = 0, .attempts = 1 },
                               { .seq = 1, .attempts = 1 },
                               { .seq = 3, .attempts = 2 },
                               { .seq = 3, .attempts = 9 },
                               { .seq = 6, .attempts = 1 } };
    struct lane_start start = { .topic = OTHER,
                                .end = 5,
                                .settled = &acked,
                                .retries = retries,
                                .retry_count = COUNT_OF(retries) };
    struct lane_books b;

    cr_assert(seqset_add(&acked, 1, 1, NULL) == STATUS_OK);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    audit();
    cr_assert(group_books(group, OTHER, &b));
    cr_assert_eq(b.delayed, 1);
    cr_assert_eq(b.ready, 3);
    seqset_fini(&acked);
}

Test(group_lanes, figures_count_what_happened)
{
    struct member *m = join(7, 100);
    struct group_figures f;

    for (uint64_t seq = 1; seq <= 5; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    (void)settle(SETTLE_ACK, 7, 1);
    (void)settle(SETTLE_NACK, 7, 2);
    (void)settle(SETTLE_RELEASE, 7, 3);
    (void)settle(SETTLE_ACK, 8, 4);
    expect_offer(3, 1);
    now += LEASE + TICK;
    tick();
    group_figures(group, &f);
    cr_assert_eq(f.delivered, 6);
    cr_assert_eq(f.redelivered, 1);
    cr_assert_eq(f.acked, 1);
    cr_assert_eq(f.nacked, 1);
    cr_assert_eq(f.released, 1);
    cr_assert_eq(f.late, 1);
    cr_assert_eq(f.leases_expired, 3);
    group_take_effects(group, take_all, NULL);
    group_leave(group, m, now);
}

/* ---- time ---- */

Test(group_lanes, time_may_jump_far_ahead)
{
    struct member *m = join(7, 100);

    for (uint64_t seq = 1; seq <= 10; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    now += UINT64_C(1000) * 24 * 3600 * SECOND;
    cr_assert(le(u64, group_due_us(group), now));
    tick();
    expect_books(0, 0, 10, 0, 0);
    cr_assert_eq(group_due_us(group), UINT64_MAX);
    expect_offer(1, 2);
    group_leave(group, m, now);
}

Test(group_lanes, a_tick_does_no_more_than_its_budget)
{
    struct member *m = join(7, 100);

    for (uint64_t seq = 1; seq <= 10; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    now += LEASE + TICK;
    cr_assert(group_tick(group, now, 4, NULL, NULL));
    expect_books(0, 0, 4, 0, 6);
    cr_assert(le(u64, group_due_us(group), now));
    cr_assert(group_tick(group, now, 4, NULL, NULL));
    cr_assert(not(group_tick(group, now, 4, NULL, NULL)));
    expect_books(0, 0, 10, 0, 0);
    group_leave(group, m, now);
}

Test(group_lanes, when_due_is_past_a_tick_then_always_moves)
{
    struct member *m = join(7, 100);
    int calls = 0;

    cr_assert_eq(deliver(), 1);
    settle_range(SETTLE_EXTEND, 7, 1, 1, 6 * 3600 * SECOND);
    cr_assert_eq(deliver(), 2);
    while (group_due_us(group) != UINT64_MAX) {
        uint64_t due = group_due_us(group);
        cr_assert(gt(u64, due, now)); /* else a worker's timer would spin */
        now = due;
        tick();
        cr_assert(lt(int, ++calls, 20));
    }
    expect_books(0, 0, 10, 0, 0);
    cr_assert(ge(u64, now, START + 6 * 3600 * SECOND));
    cr_assert(le(u64, now, START + 6 * 3600 * SECOND + TICK));
    group_leave(group, m, now);
}

/* ---- what the topic does not keep ---- */

static void trim(uint64_t first_seq)
{
    cr_assert(group_trim(group, TOPIC, first_seq, NULL) == STATUS_OK);
    audit();
}

static uint64_t deleted(void)
{
    struct lane_books b;
    cr_assert(group_books(group, TOPIC, &b));
    return b.deleted;
}

Test(group_lanes, deleted_messages_are_never_given)
{
    struct member *m = join(7, 100);

    trim(4);
    expect_offer(4, 1);
    expect_books(0, 0, 6, 0, 1);
    cr_assert_eq(deleted(), 3);
    group_leave(group, m, now);
}

Test(group_lanes, a_trim_that_was_heard_before_changes_nothing)
{
    trim(4);
    trim(4);
    trim(2);
    trim(0);
    cr_assert_eq(deleted(), 3);
    expect_books(0, 0, 7, 0, 0);
}

Test(group_lanes, a_trim_goes_no_further_than_the_lane)
{
    trim(11);
    trim(1000);
    cr_assert_eq(deleted(), 10);
    group_extend(group, TOPIC, 12);
    expect_books(0, 0, 2, 0, 0);
    trim(1000);
    cr_assert_eq(deleted(), 12);
    cr_assert(group_trim(group, OTHER, 5, NULL)
              == STATUS_OK); /* no such lane */
}

Test(group_lanes, what_waits_is_deleted_ready_or_delayed)
{
    struct member *m = join(7, 3);

    (void)deliver();
    (void)deliver();
    (void)deliver();
    settle_range(SETTLE_RELEASE, 7, 1, 1, 0);
    settle_range(SETTLE_NACK, 7, 2, 2, SECOND);
    settle_range(SETTLE_ACK, 7, 3, 3, 0);
    trim(4);
    expect_books(1, 0, 7, 0, 0);
    cr_assert_eq(deleted(), 2);
    now += 10 * SECOND;
    tick();
    expect_offer(4, 1);
    group_leave(group, m, now);
}

Test(group_lanes, what_is_in_flight_may_still_be_acked)
{
    struct member *m = join(7, 2);

    (void)deliver();
    (void)deliver();
    trim(3);
    expect_books(0, 0, 8, 0, 2);
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_ACCEPTED);
    expect_books(1, 0, 8, 0, 1);
    cr_assert_eq(deleted(), 0);
    cr_assert(group_has_effects(group)); /* the log is told of the ack */
    group_leave(group, m, now);
}

Test(group_lanes, what_is_in_flight_and_deleted_does_not_come_back)
{
    struct member *m = join(7, 4);
    struct member *leaver = join(8, 1);

    for (int i = 0; i < 5; i++) {
        (void)deliver();
    }
    trim(6);
    group_leave(group, leaver, now);
    cr_assert_eq(deleted(), 1);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        settle_range(seq % 2 == 0 ? SETTLE_NACK : SETTLE_RELEASE, 7, seq, seq,
                     0);
    }
    cr_assert_eq(deleted(), 5);
    expect_books(0, 0, 5, 0, 0);
    cr_assert_not(group_has_effects(group));
    expect_offer(6, 1);
    now += LEASE + TICK; /* and the lease end of a deleted one */
    trim(7);
    tick();
    cr_assert_eq(deleted(), 6);
    group_leave(group, m, now);
}

Test(group_lanes, an_ack_of_a_deleted_message_is_accepted)
{
    trim(4);
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_ACCEPTED);
    cr_assert_eq(settle(SETTLE_NACK, 7, 2), OUTCOME_LATE);
    cr_assert_eq(deleted(), 3);
}

Test(group_lanes, a_lane_begins_with_what_is_deleted)
{
    struct seqset acked = { 0 };
    struct seqset gaps = { 0 };
    struct retry retries[2] = { { .seq = 3, .attempts = 1 },
                                { .seq = 7, .attempts = 1 } };
    struct lane_start start = { .topic = OTHER,
                                .end = 10,
                                .first_seq = 6,
                                .settled = &acked,
                                .gaps = &gaps,
                                .retries = retries,
                                .retry_count = COUNT_OF(retries) };
    struct lane_books b;

    cr_assert(seqset_add(&acked, 2, 2, NULL) == STATUS_OK);
    cr_assert(seqset_add(&acked, 4, 4, NULL) == STATUS_OK);
    cr_assert(seqset_add(&acked, 8, 8, NULL) == STATUS_OK);
    cr_assert(seqset_add(&gaps, 4, 4, NULL) == STATUS_OK);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    audit();
    cr_assert(group_books(group, OTHER, &b));
    cr_assert_eq(b.acked, 2);
    cr_assert_eq(b.gap, 1);
    cr_assert_eq(b.deleted, 3);
    cr_assert_eq(b.delayed, 1);
    cr_assert_eq(b.ready, 3);
    seqset_fini(&acked);
    seqset_fini(&gaps);
}

static bool take_acked(void *arg, const struct effects *effects)
{
    uint64_t *count = arg;

    *count += seqset_count(effects->sets[EFFECT_ACKED]);
    return true;
}

Test(group_lanes, the_log_is_told_where_a_lane_begins)
{
    struct member *m = join(7, 1);
    uint64_t told_count = 0;

    cr_assert(group_skip(group, TOPIC, (struct seq_range) { 1, 4 })
              == STATUS_OK);
    audit();
    expect_books(4, 0, 6, 0, 0);
    group_take_effects(group, take_acked, &told_count);
    cr_assert_eq(told_count, 4);
    expect_offer(5, 1);
    group_leave(group, m, now);
}

/* One in the middle is missing: those before it are owed. */
Test(group_lanes, a_skip_begins_where_it_is_told)
{
    struct member *m = join(7, 2);

    cr_assert(group_skip(group, TOPIC, (struct seq_range) { 3, 5 })
              == STATUS_OK);
    audit();
    expect_books(3, 0, 7, 0, 0);
    expect_offer(1, 1);
    expect_offer(2, 1);
    group_leave(group, m, now);
}

/* What has a transaction was there once; of what has none nobody knows. */
Test(group_lanes, an_offer_says_whether_it_was_there_before)
{
    struct member *m = join(7, 1);
    struct offer offer;

    cr_assert_eq(deliver_to(&offer), 1);
    cr_assert_not(offer.known);
    (void)settle(SETTLE_RELEASE, 7, 1);
    cr_assert_eq(deliver_to(&offer), 1);
    cr_assert_eq(offer.attempt, 1);
    cr_assert(offer.known);
    group_leave(group, m, now);
}
