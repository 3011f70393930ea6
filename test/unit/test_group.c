/* links: godwit_delivery godwit_proto */
#include "test/lib/group_bed.h"

/* Outcomes, what comes back, who leaves, credit and turns. */

TestSuite(group, .init = set_up, .fini = tear_down, .timeout = 30);

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
    due = due_of(1);
    cr_assert(ge(u64, due, now + 2 * SECOND * 8 / 10));
    cr_assert(le(u64, due, now + 2 * SECOND * 12 / 10));
    cr_assert(le(u64, group_due_us(group), due + TICK));
    now = due - 1;
    tick();
    expect_offer(2, 1);
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_ACCEPTED);
    pass_until(due);
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
    cr_assert_eq(due_of(1), now + 5 * SECOND);
    now += 5 * SECOND - 1;
    tick();
    expect_offer(2, 1);
    (void)settle(SETTLE_ACK, 7, 2);
    pass_until(now + 1);
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
        wait = due_of(1) - now;
        cr_assert(ge(u64, wait, expected * 8 / 10));
        cr_assert(le(u64, wait, expected * 12 / 10));
        pass_until(now + wait);
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
    first = due_of(1);
    for (uint64_t seq = 2; seq <= 10; seq++) {
        (void)settle(SETTLE_NACK, 7, seq);
        differs |= due_of(seq) != first;
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
        cr_assert(offer.member == (i % 2 == 0 ? a : b));
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

Test(group, a_million_members_come_and_go)
{
    for (uint64_t lease = 1; lease <= 1000000; lease++) {
        struct member *m;
        cr_assert(group_join(group, lease, 1, 1, NULL, &m) == STATUS_OK);
        if (lease % 2 == 0) {
            group_leave(group, m, now);
        } else {
            group_retire(group, m);
        }
    }
    audit();
}

/* A member that attaches a thousand times has a thousand turns, and all that it
 * holds comes back. */
Test(group, a_thousand_members_share_what_there_is)
{
    enum { MEMBERS = 1000 };
    static struct member *members[MEMBERS];

    group_extend(group, TOPIC, MEMBERS);
    for (uint64_t i = 0; i < MEMBERS; i++) {
        members[i] = join(i + 1, 10);
    }
    for (uint64_t i = 0; i < MEMBERS; i++) {
        struct offer offer;
        cr_assert(group_next(group, now, &offer));
        cr_assert(offer.member == members[i]);
        cr_assert(take(&offer) == TAKE_DELIVERED);
    }
    for (uint64_t i = 0; i < MEMBERS; i++) {
        group_leave(group, members[i], now);
    }
    expect_books(0, 0, MEMBERS, 0, 0);
    audit();
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

/* ---- settling in bits ---- */

Test(group, a_settlement_looks_at_no_more_than_its_budget)
{
    struct member *m = join(7, 100);
    struct settlement s = { .lease = 7,
                            .topic = TOPIC,
                            .action = SETTLE_ACK,
                            .range = { 1, UINT64_MAX } };
    size_t budget = 4; /* a stretch, and three messages */
    uint64_t next = 0;

    while (deliver() != 0) {
    }
    outcome_count = 0;
    cr_assert_eq(
        group_settle_some(group, &s, now, &budget, &next, note_outcome, NULL),
        STATUS_AGAIN);
    cr_assert_eq(budget, 0);
    cr_assert_eq(next, 4);
    cr_assert_eq(outcome_count, 1);
    expect_outcome(0, 1, 3, OUTCOME_ACCEPTED, 0);
    expect_books(3, 0, 0, 0, 7);
    s.range.first = next;
    budget = 9; /* a stretch and seven messages, and what is beyond */
    cr_assert_eq(
        group_settle_some(group, &s, now, &budget, &next, note_outcome, NULL),
        STATUS_OK);
    cr_assert_eq(budget, 0);
    cr_assert_eq(outcome_count, 3);
    expect_outcome(1, 4, 10, OUTCOME_ACCEPTED, 0);
    expect_outcome(2, 11, UINT64_MAX, OUTCOME_UNKNOWN, 0);
    expect_books(10, 0, 0, 0, 0);
    group_leave(group, m, now);
}
