/* links: godwit_delivery godwit_proto */
#include "broker/delivery/group_impl.h"
#include "test/lib/group_bed.h"

/* Redeliveries' share, the breaker, what is set aside. */

TestSuite(group_storm, .init = set_up, .fini = tear_down, .timeout = 60);

static struct member *open_lane(uint64_t end, uint64_t credit)
{
    tear_down();
    open_group(4 * 1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, end);
    return join(7, credit);
}

static struct group_figures figures(void)
{
    struct group_figures f;
    group_figures(group, &f);
    return f;
}

static enum gate held_by(void)
{
    struct standing s;
    group_held_by(group, now, &s);
    return s.gate;
}

/* ---- the share of redeliveries ---- */

Test(group_storm, redeliveries_get_half_when_fresh_ones_are_ready)
{
    struct member *m = open_lane(2000, 2000);
    size_t again = 0;

    for (uint64_t seq = 1; seq <= 500; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    settle_range(SETTLE_RELEASE, 7, 1, 500, 0);
    for (size_t i = 1; i <= 600; i++) {
        struct offer offer;
        uint64_t seq = deliver_to(&offer);
        cr_assert(seq != 0);
        again += seq <= 500;
        cr_assert(le(sz, again, i / 2 + REDO_BURST));
    }
    cr_assert(ge(sz, again, 300));
    group_leave(group, m, now);
}

Test(group_storm, without_fresh_ones_all_may_be_redeliveries)
{
    struct member *m = open_lane(200, 200);

    for (int round = 0; round < 3; round++) {
        for (uint64_t seq = 1; seq <= 200; seq++) {
            cr_assert_eq(deliver(), seq);
        }
        settle_range(SETTLE_RELEASE, 7, 1, 200, 0);
    }
    group_leave(group, m, now);
}

/* ---- the breaker ---- */

static void reject_until_it_opens(uint64_t first)
{
    for (uint64_t seq = first; held_by() != GATE_BREAKER; seq++) {
        cr_assert(lt(u64, seq, first + 100));
        cr_assert_eq(deliver(), seq);
        cr_assert_eq(settle(SETTLE_REJECT, 7, seq), OUTCOME_ACCEPTED);
        if (figures().breaker_opened > 0) {
            return;
        }
    }
}

Test(group_storm, when_nearly_all_fails_only_trials_are_given)
{
    struct member *m = open_lane(1000, 1000);
    size_t trials = 0;

    reject_until_it_opens(1);
    cr_assert_eq(figures().rejected, BREAKER_WINDOW);
    for (int ms = 0; ms < 1000; ms += 10) {
        uint64_t seq = deliver();
        if (seq != 0) {
            trials++;
            cr_assert_eq(settle(SETTLE_REJECT, 7, seq), OUTCOME_ACCEPTED);
        } else {
            cr_assert_eq(held_by(), GATE_BREAKER);
            cr_assert(group_due_us(group) > now);
            cr_assert(group_due_us(group) <= now + BREAKER_TRIAL_US);
        }
        now += 10000;
        tick();
        cr_assert(group_due_us(group) > now);
    }
    cr_assert_eq(trials, 10);
    cr_assert_eq(figures().breaker_opened, 1);
    group_leave(group, m, now);
}

Test(group_storm, some_acks_close_it)
{
    struct member *m = open_lane(1000, 1000);

    reject_until_it_opens(1);
    for (int i = 0; i < BREAKER_CLOSE; i++) {
        uint64_t seq = deliver();
        cr_assert(seq != 0);
        cr_assert_eq(deliver(), 0);
        cr_assert_eq(settle(SETTLE_ACK, 7, seq), OUTCOME_ACCEPTED);
        now += BREAKER_TRIAL_US;
    }
    for (int i = 0; i < 100; i++) {
        cr_assert(deliver() != 0);
    }
    cr_assert_eq(held_by(), GATE_NONE);
    group_leave(group, m, now);
}

Test(group_storm, a_few_acks_among_failures_keep_it_closed)
{
    struct member *m = open_lane(1000, 1000);

    for (uint64_t seq = 1; seq <= 300; seq++) {
        cr_assert_eq(deliver(), seq);
        (void)settle(seq % 20 == 0 ? SETTLE_ACK : SETTLE_REJECT, 7, seq);
    }
    cr_assert_eq(figures().breaker_opened, 0);
    group_leave(group, m, now);
}

Test(group_storm, a_lost_member_is_one_failure_and_a_long_wish_none)
{
    struct member *m = open_lane(1000, 300);

    for (uint64_t seq = 1; seq <= 300; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    settle_range(SETTLE_NACK, 7, 1, 100, 60 * SECOND);
    group_leave(group, m, now);
    m = join(8, 1000);
    for (int i = 0; i < 100; i++) {
        cr_assert(deliver() != 0);
    }
    cr_assert_eq(figures().breaker_opened, 0);
    group_leave(group, m, now);
}

/* ---- set aside ---- */

/* So often its lease ends that it is set aside; ready again. */
static void set_aside_first(void)
{
    for (uint32_t attempt = 1; attempt <= ASIDE_ENDS; attempt++) {
        expect_offer(1, attempt);
        pass_until(now + LEASE);
        if (attempt > 1) {
            pass_until(due_of(1));
        }
    }
}

Test(group_storm, what_is_set_aside_is_given_alone)
{
    struct member *m = join(7, 1);

    set_aside_first();
    member_set_credit(m, 100, UINT64_MAX);
    expect_offer(1, ASIDE_ENDS + 1);
    cr_assert_eq(deliver(), 0); /* credit for 99 more */
    cr_assert_eq(held_by(), GATE_NO_CREDIT);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(2, 1);
    expect_offer(3, 1);
    cr_assert_eq(figures().set_aside, 1);
    group_leave(group, m, now);
}

Test(group_storm, two_ends_are_not_enough)
{
    struct member *m = join(7, 1);

    for (uint32_t attempt = 1; attempt < ASIDE_ENDS; attempt++) {
        expect_offer(1, attempt);
        pass_until(now + LEASE);
    }
    expect_offer(2, 1);
    pass_until(due_of(1));
    (void)settle(SETTLE_RELEASE, 7, 2);
    member_set_credit(m, 100, UINT64_MAX);
    expect_offer(1, ASIDE_ENDS);
    expect_offer(2, 1);
    cr_assert_eq(figures().set_aside, 0);
    group_leave(group, m, now);
}

Test(group_storm, nacks_set_nothing_aside)
{
    struct member *m = join(7, 1);

    for (uint32_t attempt = 1; attempt <= 5; attempt++) {
        expect_offer(1, attempt);
        (void)settle(SETTLE_NACK, 7, 1);
        pass_until(due_of(1));
    }
    member_set_credit(m, 100, UINT64_MAX);
    expect_offer(1, 6);
    expect_offer(2, 1);
    group_leave(group, m, now);
}

/* The neighbours' attempts must not end with it. */
Test(group_storm, who_holds_something_is_passed_over)
{
    struct member *busy = join(7, 1);
    struct member *idle;
    struct offer offer;

    set_aside_first();
    expect_gate(1, GATE_NONE);
    member_set_credit(busy, 0, 0);
    idle = join(8, 2);
    cr_assert_eq(deliver_to(&offer), 1);
    cr_assert(offer.member == idle);
    member_set_credit(busy, 2, UINT64_MAX);
    cr_assert_eq(deliver_to(&offer), 2);
    cr_assert(offer.member == busy);
    cr_assert_eq(deliver_to(&offer), 3);
    cr_assert(offer.member == busy);
    cr_assert_eq(deliver(), 0);
    group_leave(group, busy, now);
    group_leave(group, idle, now);
}

Test(group_storm, one_of_the_busy_is_drained_and_then_given_it)
{
    struct member *a;
    struct member *b;
    struct offer offer;

    tear_down();
    open_group(1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, 1000);
    a = join(7, 1);
    set_aside_first();
    b = join(8, 1);
    member_set_credit(a, 3, UINT64_MAX);
    member_set_credit(b, 3, UINT64_MAX);
    cr_assert_eq(deliver_to(&offer), 1); /* idle: at once */
    (void)settle(SETTLE_RELEASE, 0, 1);
    /* ASIDE_BETWEEN others first. */
    for (int i = 0; i < ASIDE_BETWEEN; i++) {
        uint64_t seq = deliver_to(&offer);
        cr_assert(gt(u64, seq, 1));
        if (i < ASIDE_BETWEEN - 4) {
            (void)settle(SETTLE_ACK, 0, seq);
        }
    }
    /* Both hold some; one of them gets no more until it holds nothing. */
    cr_assert(gt(u64, deliver_to(&offer), 1));
    for (int i = 0; i < 20; i++) {
        uint64_t seq = deliver_to(&offer);
        if (seq == 1) {
            break;
        }
        settle_range(SETTLE_ACK, 0, 2, 1000, 0);
    }
    cr_assert_eq(offer.seq, 1);
    cr_assert_eq(figures().set_aside, 2);
    group_leave(group, a, now);
    group_leave(group, b, now);
}

/* Member 8 gives 1, which is set aside, back, holds `seq` for long, and gets
 * all that come before 1 again. */
static void keep_busy(uint64_t seq)
{
    expect_offer(1, ASIDE_ENDS + 1);
    (void)settle(SETTLE_RELEASE, 8, 1);
    expect_offer(seq, 1); /* others first */
    settle_range(SETTLE_EXTEND, 8, seq, seq, 3600 * SECOND);
    for (int i = 0; i < ASIDE_BETWEEN - 1; i++) {
        (void)settle(SETTLE_ACK, 8, deliver());
        group_extend(group, TOPIC, 10 + (uint64_t)i);
    }
    cr_assert_eq(deliver(), 0);
}

/* Long work must not keep it waiting for ever. */
Test(group_storm, after_a_lease_it_waits_no_longer_for_a_free_member)
{
    struct member *m = join(7, 1);
    uint64_t due;

    set_aside_first();
    cr_assert_eq(standing_of(1).gate, GATE_NONE);
    (void)settle(SETTLE_RELEASE, 7, 1);
    member_set_credit(m, 0, 0);
    expect_gate(1, GATE_NO_CREDIT);
    group_leave(group, m, now);
    m = join(8, 2);
    keep_busy(2);
    due = group_due_us(group);
    cr_assert(le(u64, due, now + LEASE));
    now = due;
    tick();
    expect_offer(1, ASIDE_ENDS + 1);
    group_leave(group, m, now);
}

/* One that is set aside does not end the wait that another one began. */
Test(group_storm, each_waits_a_lease_of_its_own)
{
    struct member *m = join(7, 2);

    for (uint32_t attempt = 1; attempt <= ASIDE_ENDS; attempt++) {
        expect_offer(1, attempt);
        expect_offer(2, attempt);
        pass_until(now + LEASE);
        if (attempt > 1) {
            pass_until(due_of(1) > due_of(2) ? due_of(1) : due_of(2));
        }
    }
    group_leave(group, m, now);
    m = join(8, 3);
    keep_busy(3);
    pass_until(now + LEASE - 1);
    cr_assert_eq(group_trim(group, TOPIC, 2, NULL), STATUS_OK);
    pass_until(now + 1);
    cr_assert_eq(deliver(), 0);
    pass_until(now + LEASE);
    expect_offer(2, ASIDE_ENDS + 1);
    group_leave(group, m, now);
}

/* It is no longer alone when that one is settled, whatever it held before. */
Test(group_storm, who_was_busy_gets_others_after_it)
{
    struct member *m = join(7, 1);

    set_aside_first();
    member_set_credit(m, 0, 0);
    group_leave(group, m, now);
    m = join(8, 3);
    keep_busy(2);
    pass_until(now + LEASE);
    expect_offer(1, ASIDE_ENDS + 1);
    group_extend(group, TOPIC, 100);
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_ACK, 8, 1);
    cr_assert(gt(u64, deliver(), 2)); /* it holds 2 as before */
    cr_assert(gt(u64, deliver(), 2));
    cr_assert_eq(deliver(), 0); /* its credit */
    group_leave(group, m, now);
}

/* ---- what is left without a holder ---- */

Test(group_storm, nothing_is_an_orphan)
{
    struct member *m = join(7, 5);

    cr_assert_eq(deliver(), 1);
    cr_assert_eq(group_sweep(group, TOPIC, now), 0);
    cr_assert_eq(group_sweep(group, OTHER, now), 0);
    group_retire(group, m);
    cr_assert_eq(deliver(), 0);
    cr_assert_eq(group_sweep(group, TOPIC, now), 0);
    cr_assert_eq(figures().orphans, 0);
}

/* Such a thing only a fault can make: here it is planted. */
Test(group_storm, an_orphan_is_an_alarm_and_taken_back)
{
    struct member *m = join(7, 5);
    struct inflight_list nobodys = { 0 };
    const struct transaction *t;
    struct transaction next;

    cr_assert_eq(deliver(), 1);
    cr_assert_eq(deliver(), 2);
    t = inflight_find(group->inflight, TOPIC, 1);
    next = *t;
    next.holder = 99;
    inflight_change(group->inflight, t, &next, &m->held, &nobodys, now);
    m->held_bytes -= BYTES;
    cr_assert_not(group_audit(group, TOPIC));
    cr_assert_eq(group_sweep(group, TOPIC, now), 1);
    audit();
    cr_assert_eq(figures().orphans, 1);
    expect_offer(1, 1);
    group_leave(group, m, now);
}

Test(group_storm, a_sweep_takes_so_many_orphans_and_the_next_one_the_rest)
{
    struct inflight_list nobodys = { 0 };
    struct member *m = join(7, ORPHANS_MAX + 1);

    group_extend(group, TOPIC, ORPHANS_MAX + 1);
    for (uint64_t seq = 1; seq <= ORPHANS_MAX + 1; seq++) {
        const struct transaction *t;
        struct transaction next;
        struct offer offer;

        cr_assert(group_next(group, now, &offer));
        cr_assert(take(&offer) == TAKE_DELIVERED);
        t = inflight_find(group->inflight, TOPIC, seq);
        next = *t;
        next.holder = 99;
        inflight_change(group->inflight, t, &next, &m->held, &nobodys, now);
        m->held_bytes -= BYTES;
    }
    cr_assert_eq(group_sweep(group, TOPIC, now), ORPHANS_MAX);
    cr_assert_not(group_audit(group, TOPIC));
    cr_assert_eq(group_sweep(group, TOPIC, now), 1);
    audit();
    group_leave(group, m, now);
}

/* Of many lanes nobody counts the bytes again. */
Test(group_storm, credits_in_bytes_are_counted_of_so_many_lanes)
{
    struct member *m = join(7, 5);

    cr_assert_eq(deliver(), 1);
    m->held_bytes++;
    for (uint32_t topic = 100; topic < 100 + AUDIT_CREDIT_LANES_MAX - 1;
         topic++) {
        add_lane(topic, 0);
    }
    cr_assert_not(group_audit(group, TOPIC));
    add_lane(99, 0);
    cr_assert(group_audit(group, TOPIC));
    m->held_bytes--;
    group_leave(group, m, now);
}

Test(group_storm, a_credit_that_is_not_what_is_held_is_an_alarm)
{
    struct member *m = join(7, 5);

    cr_assert_eq(deliver(), 1);
    m->held_bytes++;
    cr_assert_not(group_audit(group, TOPIC));
    m->held_bytes--;
    group_leave(group, m, now);
}
