/* links: godwit_delivery godwit_proto */
#include "broker/delivery/group.h"
#include "proto/limits.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

/* A group with one lane, topic 1, and time in our hands. */

enum { TOPIC = 1, OTHER = 2, BYTES = 100, OUTCOMES_MAX = 64 };
#define SECOND UINT64_C(1000000)
#define LEASE  (30 * SECOND)
#define START  (1000 * SECOND)
#define TICK   ((uint64_t)INFLIGHT_TICK_US)

static struct inflight *inflight;
static struct group *group;
static uint64_t now;
static struct wire_settled_range outcomes[OUTCOMES_MAX];
static size_t outcome_count;

static void open_group(size_t heap_bytes, size_t in_flight_max)
{
    inflight = inflight_new(&(struct inflight_config) {
        .heap_bytes = heap_bytes, .now_us = START });
    group = group_new(&(struct group_config) { .id = 9,
                                               .lease_us = LEASE,
                                               .in_flight_max = in_flight_max,
                                               .seed = 42,
                                               .inflight = inflight });
    cr_assert(group != NULL);
    now = START;
}

static void add_lane(uint32_t topic, uint64_t end)
{
    struct lane_start start = { .topic = topic, .end = end };
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
}

static void set_up(void)
{
    open_group(1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, 10);
}

static bool take_all(void *arg, const struct effects *effects)
{
    (void)arg;
    (void)effects;
    return true;
}

static void tear_down(void)
{
    group_free(group);
    inflight_free(inflight);
}

TestSuite(group, .init = set_up, .fini = tear_down, .timeout = 30);

static struct member *join(uint64_t lease, uint64_t credit)
{
    struct member *member = NULL;
    cr_assert(group_join(group, lease, credit, UINT64_MAX, NULL, &member)
              == STATUS_OK);
    return member;
}

static void audit(void)
{
    cr_assert(group_audit(group, TOPIC));
    cr_assert(group_audit(group, OTHER));
}

/* Deliver the next one; its seq, 0 if there is none. */
static uint64_t deliver_to(struct offer *offer)
{
    audit();
    if (!group_next(group, now, offer)) {
        return 0;
    }
    cr_assert(group_delivered(group, offer, BYTES, now) == STATUS_OK);
    audit();
    return offer->seq;
}

static uint64_t deliver(void)
{
    struct offer offer;
    return deliver_to(&offer);
}

static void expect_offer(uint64_t seq, uint32_t attempt)
{
    struct offer offer;
    cr_assert_eq(deliver_to(&offer), seq);
    cr_assert_eq(offer.attempt, attempt);
}

static void note_outcome(void *arg, const struct wire_settled_range *range)
{
    (void)arg;
    cr_assert(outcome_count < OUTCOMES_MAX);
    outcomes[outcome_count++] = *range;
}

static void settle_range(enum settle_action action, uint64_t lease,
                         uint64_t first, uint64_t last, uint64_t delay)
{
    struct settlement s = { .lease = lease,
                            .topic = TOPIC,
                            .action = action,
                            .range = { first, last },
                            .delay_us = delay };
    outcome_count = 0;
    cr_assert(group_settle(group, &s, now, note_outcome, NULL) == STATUS_OK);
    audit();
}

/* One message, one outcome. */
static enum settle_outcome settle(enum settle_action action, uint64_t lease,
                                  uint64_t seq)
{
    settle_range(action, lease, seq, seq, 0);
    cr_assert_eq(outcome_count, 1);
    cr_assert_eq(outcomes[0].first, seq);
    cr_assert_eq(outcomes[0].last, seq);
    return outcomes[0].outcome;
}

static void expect_outcome(size_t index, uint64_t first, uint64_t last,
                           enum settle_outcome outcome, uint64_t holder)
{
    cr_assert(index < outcome_count);
    cr_assert_eq(outcomes[index].first, first);
    cr_assert_eq(outcomes[index].last, last);
    cr_assert_eq(outcomes[index].outcome, outcome);
    cr_assert_eq(outcomes[index].holder, holder);
}

static void tick(void)
{
    while (group_tick(group, now, 16)) {
        audit();
    }
    audit();
}

static void expect_books(uint64_t acked, uint64_t gap, uint64_t ready,
                         uint64_t delayed, uint64_t in_flight)
{
    struct lane_books b;
    cr_assert(group_books(group, TOPIC, &b));
    cr_assert_eq(b.acked, acked);
    cr_assert_eq(b.gap, gap);
    cr_assert_eq(b.ready, ready);
    cr_assert_eq(b.delayed, delayed);
    cr_assert_eq(b.in_flight, in_flight);
    cr_assert_eq(b.published, acked + gap + ready + delayed + in_flight);
}

/* ---- outcomes ---- */

Test(group, delivers_in_order_and_an_ack_is_accepted)
{
    struct member *m = join(7, 100);

    for (uint64_t seq = 1; seq <= 10; seq++) {
        expect_offer(seq, 1);
    }
    cr_assert_eq(deliver(), 0);
    expect_books(0, 0, 0, 0, 10);
    cr_assert_eq(settle(SETTLE_ACK, 7, 3), OUTCOME_ACCEPTED);
    settle_range(SETTLE_ACK, 7, 1, 10, 0);
    cr_assert_eq(outcome_count, 1);
    expect_outcome(0, 1, 10, OUTCOME_ACCEPTED, 0);
    expect_books(10, 0, 0, 0, 0);
    group_leave(group, m, now);
}

Test(group, nothing_is_offered_to_nobody)
{
    cr_assert_eq(deliver(), 0);
    group_leave(group, join(7, 100), now);
    cr_assert_eq(deliver(), 0);
}

Test(group, ack_twice_is_accepted_twice)
{
    struct member *m = join(7, 100);

    deliver();
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_ACCEPTED);
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_ACCEPTED);
    cr_assert_eq(settle(SETTLE_ACK, 8, 1), OUTCOME_ACCEPTED);
    group_leave(group, m, now);
}

Test(group, nothing_but_an_ack_is_accepted_after_an_ack)
{
    struct member *m = join(7, 100);

    deliver();
    (void)settle(SETTLE_ACK, 7, 1);
    cr_assert_eq(settle(SETTLE_NACK, 7, 1), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_RELEASE, 7, 1), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_EXTEND, 7, 1), OUTCOME_LATE);
    expect_books(1, 0, 9, 0, 0);
    group_leave(group, m, now);
}

Test(group, what_was_never_delivered_is_unknown)
{
    struct member *m = join(7, 100);

    deliver();
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_UNKNOWN);
    cr_assert_eq(settle(SETTLE_ACK, 7, 11), OUTCOME_UNKNOWN);
    cr_assert_eq(settle(SETTLE_ACK, 7, UINT64_MAX), OUTCOME_UNKNOWN);
    expect_books(0, 0, 9, 0, 1);
    group_leave(group, m, now);
}

Test(group, a_topic_without_a_lane_is_unknown)
{
    struct settlement s = { .lease = 7,
                            .topic = 77,
                            .action = SETTLE_ACK,
                            .range = { 1, UINT64_MAX } };
    outcome_count = 0;
    cr_assert(group_settle(group, &s, now, note_outcome, NULL) == STATUS_OK);
    cr_assert_eq(outcome_count, 1);
    expect_outcome(0, 1, UINT64_MAX, OUTCOME_UNKNOWN, 0);
}

Test(group, a_range_that_is_none_is_invalid)
{
    struct settlement s = { .topic = TOPIC,
                            .action = SETTLE_ACK,
                            .range = { 0, 4 } };
    cr_assert(group_settle(group, &s, now, note_outcome, NULL)
              == STATUS_INVALID);
    s.range = (struct seq_range) { 5, 4 };
    cr_assert(group_settle(group, &s, now, note_outcome, NULL)
              == STATUS_INVALID);
}

Test(group, a_huge_range_is_bounded_work_and_says_what_it_met)
{
    struct member *a = join(7, 3);
    struct member *b = join(8, 1);

    /* In turn: 1 to 7, 2 to 8, then 3 and 4 to 7. */
    for (uint64_t seq = 1; seq <= 4; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    settle_range(SETTLE_ACK, 7, 1, UINT64_C(1) << 63, 0);
    cr_assert_eq(outcome_count, 4);
    expect_outcome(0, 1, 1, OUTCOME_ACCEPTED, 0);
    expect_outcome(1, 2, 2, OUTCOME_LATE, 8);
    expect_outcome(2, 3, 4, OUTCOME_ACCEPTED, 0);
    expect_outcome(3, 5, UINT64_C(1) << 63, OUTCOME_UNKNOWN, 0);
    group_leave(group, a, now);
    group_leave(group, b, now);
}

Test(group, who_does_not_hold_it_is_late_and_told_who_does)
{
    struct member *a = join(7, 100);
    struct member *b = join(8, 0);

    cr_assert_eq(deliver(), 1);
    cr_assert_eq(settle(SETTLE_ACK, 8, 1), OUTCOME_LATE);
    cr_assert_eq(outcomes[0].holder, 7);
    cr_assert_eq(settle(SETTLE_NACK, 8, 1), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_RELEASE, 8, 1), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_EXTEND, 8, 1), OUTCOME_LATE);
    expect_books(0, 0, 9, 0, 1);
    group_leave(group, a, now);
    group_leave(group, b, now);
}

Test(group, no_claim_settles_for_whoever_holds_it)
{
    struct member *a = join(7, 100);

    cr_assert_eq(deliver(), 1);
    cr_assert_eq(settle(SETTLE_ACK, 0, 1), OUTCOME_ACCEPTED);
    expect_books(1, 0, 9, 0, 0);
    group_leave(group, a, now);
}

/* ---- coming back ---- */

Test(group, expiry_counts_and_the_first_is_redelivered_at_once)
{
    struct member *m = join(7, 1);

    expect_offer(1, 1);
    now += LEASE - 1;
    tick();
    expect_books(0, 0, 9, 0, 1);
    now += 1 + TICK;
    tick();
    expect_books(0, 0, 10, 0, 0);
    expect_offer(1, 2);
    group_leave(group, m, now);
}

Test(group, the_second_expiry_waits_its_backoff)
{
    struct member *m = join(7, 1);
    uint64_t due;

    expect_offer(1, 1);
    now += LEASE + TICK;
    tick();
    expect_offer(1, 2);
    now += LEASE + TICK;
    tick();
    expect_books(0, 0, 9, 1, 0);
    due = group_due_us(group);
    cr_assert(ge(u64, due, now + 2 * SECOND * 8 / 10));
    cr_assert(le(u64, due, now + 2 * SECOND * 12 / 10));
    now = due - 1;
    expect_offer(2, 1);
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_ACCEPTED);
    now = due;
    expect_offer(1, 3);
    group_leave(group, m, now);
}

Test(group, ack_after_expiry_counts_if_nobody_has_it)
{
    struct member *m = join(7, 1);

    expect_offer(1, 1);
    now += LEASE + TICK;
    tick();
    cr_assert_eq(settle(SETTLE_EXTEND, 7, 1), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_RELEASE, 7, 1), OUTCOME_ACCEPTED);
    expect_books(0, 0, 10, 0, 0);
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_ACCEPTED);
    expect_books(1, 0, 9, 0, 0);
    expect_offer(2, 1);
    group_leave(group, m, now);
}

Test(group, ack_after_redelivery_to_another_is_late)
{
    struct member *a = join(7, 1);
    struct member *b;
    struct offer offer;

    expect_offer(1, 1);
    now += LEASE + TICK;
    tick();
    member_set_credit(a, 0, 0);
    b = join(8, 1);
    cr_assert_eq(deliver_to(&offer), 1);
    cr_assert(offer.member == b);
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_LATE);
    cr_assert_eq(outcomes[0].holder, 8);
    cr_assert_eq(settle(SETTLE_ACK, 8, 1), OUTCOME_ACCEPTED);
    group_leave(group, a, now);
    group_leave(group, b, now);
}

Test(group, extend_gives_a_lease_from_now)
{
    struct member *m = join(7, 1);

    expect_offer(1, 1);
    now += LEASE / 2;
    cr_assert_eq(settle(SETTLE_EXTEND, 7, 1), OUTCOME_ACCEPTED);
    now += LEASE - 1;
    tick();
    expect_books(0, 0, 9, 0, 1);
    settle_range(SETTLE_EXTEND, 7, 1, 1, 100 * SECOND);
    now += 100 * SECOND - 1;
    tick();
    expect_books(0, 0, 9, 0, 1);
    now += 1 + TICK;
    tick();
    expect_books(0, 0, 10, 0, 0);
    group_leave(group, m, now);
}

Test(group, extend_is_bounded_by_the_longest_lease)
{
    struct member *m = join(7, 1);

    expect_offer(1, 1);
    settle_range(SETTLE_EXTEND, 7, 1, 1, UINT64_MAX);
    now += (uint64_t)LEASE_MS_MAX * 1000 - 1;
    tick();
    expect_books(0, 0, 9, 0, 1);
    now += 1 + TICK;
    tick();
    expect_books(0, 0, 10, 0, 0);
    group_leave(group, m, now);
}

Test(group, nack_waits_exactly_the_delay_asked_for)
{
    struct member *m = join(7, 1);

    expect_offer(1, 1);
    settle_range(SETTLE_NACK, 7, 1, 1, 5 * SECOND);
    expect_outcome(0, 1, 1, OUTCOME_ACCEPTED, 0);
    expect_books(0, 0, 9, 1, 0);
    cr_assert_eq(group_due_us(group), now + 5 * SECOND);
    now += 5 * SECOND - 1;
    expect_offer(2, 1);
    (void)settle(SETTLE_ACK, 7, 2);
    now += 1;
    expect_offer(1, 2);
    group_leave(group, m, now);
}

Test(group, nack_backoff_doubles_up_to_its_maximum)
{
    struct member *m = join(7, 1);
    uint64_t expected = (uint64_t)BACKOFF_MS_MIN * 1000;
    uint64_t max = (uint64_t)BACKOFF_MS_MAX * 1000;

    for (uint32_t attempt = 1; attempt <= 12; attempt++) {
        uint64_t wait;
        expect_offer(1, attempt);
        (void)settle(SETTLE_NACK, 7, 1);
        wait = group_due_us(group) - now;
        cr_assert(ge(u64, wait, expected * 8 / 10));
        cr_assert(le(u64, wait, expected * 12 / 10));
        now += wait;
        expected = expected * 2 > max ? max : expected * 2;
    }
    group_leave(group, m, now);
}

Test(group, backoff_is_spread_by_the_seed)
{
    struct member *m = join(7, 10);
    uint64_t first;
    bool differs = false;

    for (uint64_t seq = 1; seq <= 10; seq++) {
        expect_offer(seq, 1);
    }
    (void)settle(SETTLE_NACK, 7, 1);
    first = group_due_us(group);
    for (uint64_t seq = 2; seq <= 10; seq++) {
        (void)settle(SETTLE_NACK, 7, seq);
        differs |= group_due_us(group) != first;
    }
    cr_assert(differs);
    group_leave(group, m, now);
}

Test(group, release_is_not_counted_and_ready_at_once)
{
    struct member *m = join(7, 1);

    expect_offer(1, 1);
    cr_assert_eq(settle(SETTLE_RELEASE, 7, 1), OUTCOME_ACCEPTED);
    cr_assert(not(group_has_effects(group)));
    expect_books(0, 0, 10, 0, 0);
    expect_offer(1, 1);
    group_leave(group, m, now);
}

Test(group, a_member_that_leaves_gives_all_back_counted_at_once)
{
    struct member *a = join(7, 3);
    struct member *b;

    expect_offer(1, 1);
    expect_offer(2, 1);
    expect_offer(3, 1);
    (void)settle(SETTLE_ACK, 7, 2);
    group_leave(group, a, now);
    audit();
    expect_books(1, 0, 9, 0, 0);
    cr_assert_eq(group_member_count(group), 0);
    b = join(8, 10);
    expect_offer(1, 2);
    expect_offer(3, 2);
    expect_offer(4, 1);
    group_leave(group, b, now);
}

Test(group, redeliveries_come_first_and_by_seq)
{
    struct member *m = join(7, 5);

    for (uint64_t seq = 1; seq <= 5; seq++) {
        expect_offer(seq, 1);
    }
    (void)settle(SETTLE_RELEASE, 7, 4);
    (void)settle(SETTLE_RELEASE, 7, 2);
    (void)settle(SETTLE_RELEASE, 7, 5);
    expect_offer(2, 1);
    expect_offer(4, 1);
    expect_offer(5, 1);
    group_leave(group, m, now);
}

/* ---- retire ---- */

Test(group, what_a_retired_member_holds_is_settled_by_its_lease)
{
    struct member *pull = join(7, 2);
    struct member *other;

    expect_offer(1, 1);
    expect_offer(2, 1);
    group_retire(group, pull);
    cr_assert_eq(group_member_count(group), 0);
    cr_assert_eq(deliver(), 0);
    expect_books(0, 0, 8, 0, 2);
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_ACCEPTED);
    cr_assert_eq(settle(SETTLE_NACK, 7, 2), OUTCOME_ACCEPTED);
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_ACCEPTED);
    other = join(8, 100);
    expect_offer(3, 1);
    group_leave(group, other, now);
}

Test(group, what_a_retired_member_holds_expires)
{
    struct member *pull = join(7, 2);

    expect_offer(1, 1);
    group_retire(group, pull);
    now += LEASE + TICK;
    tick();
    expect_books(0, 0, 10, 0, 0);
    pull = join(8, 1);
    expect_offer(1, 2);
    group_retire(group, pull);
}

Test(group, a_lease_number_is_used_once)
{
    struct member *m = join(7, 2);
    struct member *again;

    cr_assert(group_join(group, 7, 1, 1, NULL, &again) == STATUS_EXISTS);
    group_leave(group, m, now);
}

/* ---- credit and turns ---- */

Test(group, credit_in_messages_is_exact)
{
    struct member *m = join(7, 3);

    cr_assert_eq(deliver(), 1);
    cr_assert_eq(deliver(), 2);
    cr_assert_eq(deliver(), 3);
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_ACK, 7, 2);
    cr_assert_eq(deliver(), 4);
    cr_assert_eq(deliver(), 0);
    member_set_credit(m, 4, UINT64_MAX);
    cr_assert_eq(deliver(), 5);
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}

Test(group, delivery_goes_on_while_fewer_bytes_are_held_than_credited)
{
    struct member *m;

    cr_assert(group_join(group, 7, 100, 2 * BYTES + 1, NULL, &m) == STATUS_OK);
    cr_assert_eq(deliver(), 1);
    cr_assert_eq(deliver(), 2);
    cr_assert_eq(deliver(), 3); /* 2 * BYTES were held: one byte below */
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_NACK, 7, 1);
    cr_assert_eq(deliver(), 4);
    member_set_credit(m, 100, 3 * BYTES);
    cr_assert_eq(deliver(), 0); /* exactly all of it */
    group_leave(group, m, now);
}

Test(group, members_take_turns)
{
    struct member *a = join(7, 100);
    struct member *b = join(8, 100);
    struct offer offer;

    for (int i = 0; i < 6; i++) {
        cr_assert(gt(u64, deliver_to(&offer), 0));
        cr_assert_eq(member_lease(offer.member), i % 2 == 0 ? 7 : 8);
    }
    member_pause(a, true);
    for (int i = 0; i < 2; i++) {
        cr_assert(gt(u64, deliver_to(&offer), 0));
        cr_assert(offer.member == b);
    }
    member_pause(a, false);
    member_pause(b, true);
    cr_assert(gt(u64, deliver_to(&offer), 0));
    cr_assert(offer.member == a);
    group_leave(group, a, now);
    group_leave(group, b, now);
}

Test(group, an_offer_not_taken_changes_nothing)
{
    struct member *m = join(7, 1);
    struct offer one;
    struct offer two;

    cr_assert(group_next(group, now, &one));
    cr_assert(group_next(group, now, &two));
    cr_assert_eq(one.seq, two.seq);
    expect_books(0, 0, 10, 0, 0);
    group_leave(group, m, now);
}

/* ---- lanes ---- */

Test(group, lanes_take_turns_in_bursts)
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

Test(group, extend_makes_new_messages_ready)
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

Test(group, a_lane_is_added_once)
{
    struct lane_start start = { .topic = TOPIC, .end = 1 };
    cr_assert(group_add_lane(group, &start) == STATUS_EXISTS);
}

Test(group, a_lane_starts_from_what_was_settled_before)
{
    struct seqset acked = { 0 };
    struct seqset gaps = { 0 };
    struct lane_start start = {
        .topic = OTHER, .end = 10, .acked = &acked, .gaps = &gaps
    };
    struct member *m;
    struct lane_books b;
    static const uint64_t expected[] = { 3, 6, 7, 10 };
    struct offer offer;

    group_drop_lane(group, TOPIC);
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

Test(group, a_dropped_lane_takes_its_messages_along)
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
    group_drop_lane(group, TOPIC);
    group_drop_lane(group, TOPIC); /* gone: nothing */
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

Test(group, thousands_of_lanes_are_all_served)
{
    enum { LANES = 5000 };
    struct member *m = join(7, UINT64_MAX);
    uint64_t delivered = 0;
    struct offer offer;
    uint64_t *last = calloc(LANES + 100, sizeof *last);

    group_drop_lane(group, TOPIC);
    for (uint32_t topic = 100; topic < 100 + LANES; topic++) {
        add_lane(topic, 2);
    }
    while (group_next(group, now, &offer)) {
        cr_assert(group_delivered(group, &offer, BYTES, now) == STATUS_OK);
        cr_assert_eq(offer.seq, ++last[offer.topic]);
        delivered++;
    }
    cr_assert_eq(delivered, 2 * LANES);
    group_leave(group, m, now);
    cr_assert(group_audit(group, 100));
    free(last);
}

/* ---- gaps ---- */

Test(group, what_the_store_lost_is_settled_as_a_gap)
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

Test(group, a_gap_leaves_alone_what_somebody_has_and_what_is_settled)
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

Test(group, the_cap_on_the_group_is_exact_and_counts_what_waits)
{
    struct member *m;

    tear_down();
    open_group(1024 * 1024, 3);
    add_lane(TOPIC, 10);
    m = join(7, 100);
    cr_assert_eq(deliver(), 1);
    cr_assert_eq(deliver(), 2);
    cr_assert(group_has_room(group));
    cr_assert_eq(deliver(), 3);
    cr_assert(not(group_has_room(group)));
    cr_assert_eq(deliver(), 0);
    settle_range(SETTLE_NACK, 7, 1, 2, SECOND);
    cr_assert_eq(deliver(), 0); /* one in flight, two wait */
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(4, 1);
    cr_assert_eq(deliver(), 0);
    now += SECOND;
    tick();
    expect_offer(2, 2);
    group_leave(group, m, now);
}

/* The whole budget: how many fit is the table's affair, but at that number it
 * is STATUS_AGAIN, nothing is changed by it, and one settled makes room for
 * one. */
Test(group, past_the_budget_delivery_waits_and_goes_on)
{
    struct member *m;
    struct offer offer;
    uint64_t fit = 0;

    tear_down();
    open_group(4096, SIZE_MAX);
    add_lane(TOPIC, 1000);
    m = join(7, UINT64_MAX);
    while (group_has_room(group)) {
        cr_assert_eq(deliver(), ++fit);
    }
    cr_assert(gt(u64, fit, 20));
    cr_assert(group_next(group, now, &offer));
    cr_assert(group_delivered(group, &offer, BYTES, now) == STATUS_AGAIN);
    audit();
    expect_books(0, 0, 1000 - fit, 0, fit);
    (void)settle(SETTLE_ACK, 7, 1);
    cr_assert(group_has_room(group));
    expect_offer(fit + 1, 1);
    /* What is given back keeps its place, and needs no other to come again. */
    (void)settle(SETTLE_RELEASE, 7, 2);
    cr_assert(not(group_has_room(group)));
    expect_offer(2, 1);
    settle_range(SETTLE_NACK, 7, 3, 3, SECOND);
    cr_assert(group_next(group, now, &offer));
    cr_assert(group_delivered(group, &offer, BYTES, now) == STATUS_AGAIN);
    now += SECOND;
    expect_offer(3, 2);
    group_leave(group, m, now);
}

/* ---- effects ---- */

struct gathered {
    uint64_t acked;
    uint64_t gaps;
    struct retry retries[64];
    size_t retry_count;
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
    g->acked += seqset_count(effects->acked);
    g->gaps += seqset_count(effects->gaps);
    for (size_t i = 0; i < effects->retry_count; i++) {
        g->retries[g->retry_count++] = effects->retries[i];
    }
    return true;
}

Test(group, effects_tell_what_must_survive)
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
    cr_assert_eq(g.retry_count, 2);
    cr_assert_eq(g.retries[0].seq, 3);
    cr_assert_eq(g.retries[0].attempts, 1);
    cr_assert_eq(g.retries[0].due_us, now + SECOND);
    cr_assert_eq(g.retries[1].seq, 5);
    cr_assert_eq(g.retries[1].attempts, 1);
    cr_assert_eq(g.retries[1].due_us, 0);
    group_leave(group, m, now);
}

static size_t parts;
static uint64_t told;

static bool count_part(void *arg, const struct effects *effects)
{
    (void)arg;
    cr_assert(le(sz, seqset_range_count(effects->acked), EFFECTS_COUNT_MAX));
    cr_assert(le(sz, effects->retry_count, EFFECTS_COUNT_MAX));
    told += seqset_count(effects->acked) + effects->retry_count;
    parts++;
    return parts != 2; /* once the log has no room */
}

Test(group, a_long_lane_tells_its_effects_in_parts)
{
    enum { N = 2 * EFFECTS_COUNT_MAX + 1 };
    struct member *m;
    struct offer offer;

    tear_down();
    open_group(64 * 1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, 2 * N);
    m = join(7, UINT64_MAX);
    while (group_next(group, now, &offer)) {
        cr_assert(group_delivered(group, &offer, BYTES, now) == STATUS_OK);
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
    told -= 2 * EFFECTS_COUNT_MAX; /* the second was refused */
    group_take_effects(group, count_part, NULL);
    cr_assert(not(group_has_effects(group)));
    cr_assert_eq(parts, 4);
    cr_assert_eq(told, 2 * N);
    audit();
}

Test(group, attempts_survive_in_what_the_log_was_told)
{
    struct member *m = join(7, 10);
    struct gathered g = { 0 };
    struct seqset acked = { 0 };
    struct lane_start start = { .topic = TOPIC, .end = 10, .acked = &acked };

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
    start.retries = g.retries;
    start.retry_count = g.retry_count;
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    expect_books(1, 0, 8, 1, 0);
    m = join(8, 100);
    /* Of before the restart: the ack counts, the message never comes again. */
    expect_offer(3, 1);
    now += SECOND;
    expect_offer(2, 2);
    expect_offer(4, 1);
    group_leave(group, m, now);
    seqset_fini(&acked);
}

Test(group, a_retry_of_before_the_restart_can_be_acked_before_it_comes)
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

    group_drop_lane(group, TOPIC);
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

Test(group, retries_that_make_no_sense_are_ignored)
{
    struct seqset acked = { 0 };
    struct retry retries[] = { { .seq = 0, .attempts = 1 },
                               { .seq = 1, .attempts = 1 },
                               { .seq = 3, .attempts = 2 },
                               { .seq = 3, .attempts = 9 },
                               { .seq = 6, .attempts = 1 } };
    struct lane_start start = { .topic = OTHER,
                                .end = 5,
                                .acked = &acked,
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

Test(group, figures_count_what_happened)
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
    cr_assert_eq(f.expired, 3);
    group_take_effects(group, take_all, NULL);
    group_leave(group, m, now);
}

/* ---- time ---- */

Test(group, time_may_jump_far_ahead)
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

Test(group, a_tick_does_no_more_than_its_budget)
{
    struct member *m = join(7, 100);

    for (uint64_t seq = 1; seq <= 10; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    now += LEASE + TICK;
    cr_assert(group_tick(group, now, 4));
    expect_books(0, 0, 4, 0, 6);
    cr_assert(le(u64, group_due_us(group), now));
    cr_assert(group_tick(group, now, 4));
    cr_assert(not(group_tick(group, now, 4)));
    expect_books(0, 0, 10, 0, 0);
    group_leave(group, m, now);
}

Test(group, when_due_is_past_a_tick_then_always_moves)
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
