/* links: godwit_delivery godwit_proto */
#define OWN_FACTS
#include "test/lib/group_bed.h"

#include <string.h>

/* What is not due, too old, or not wanted; notices; pauses; one at a time. */

static struct message_facts special;
static uint64_t special_seq; /* 0: all */

static struct message_facts facts_of(const struct offer *offer)
{
    struct message_facts facts = { .bytes = BYTES };

    if (special_seq == 0 || special_seq == offer->seq) {
        facts = special;
    }
    return facts;
}

static void set_up_plain(void)
{
    set_up();
    special = (struct message_facts) { .bytes = BYTES };
}

TestSuite(group_time, .init = set_up_plain, .fini = tear_down, .timeout = 60);

static void open_noticing(uint64_t notice_us)
{
    tear_down();
    rules = (struct group_rules) { .mode = MODE_SHARED,
                                   .lease_us = LEASE,
                                   .notice_us = notice_us,
                                   .in_flight_max = SIZE_MAX };
    open_with_rules(1024 * 1024);
    add_lane(TOPIC, 10);
}

/* ---- publish options ---- */

Test(group_time, what_is_not_due_is_delayed_and_others_pass_it)
{
    struct member *m = join(7, 100);

    special_seq = 1;
    special.due_us = now + 5 * SECOND;
    expect_offer(2, 1);
    expect_books(0, 0, 8, 1, 1);
    expect_gate(1, GATE_NOT_DUE);
    cr_assert_eq(standing_of(1).until_us, START + 5 * SECOND);
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_UNKNOWN);
    cr_assert_eq(settle(SETTLE_ACK, 0, 1), OUTCOME_UNKNOWN);
    now += 5 * SECOND - 1;
    tick();
    expect_offer(3, 1);
    pass_until(now + 1);
    expect_offer(1, 1);
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_ACCEPTED);
    group_leave(group, m, now);
}

Test(group_time, a_first_delivery_after_a_delay_is_no_redelivery)
{
    struct member *m = join(7, 100);
    struct group_figures f;

    special_seq = 1;
    special.due_us = now + SECOND;
    expect_offer(2, 1);
    pass_until(now + SECOND);
    expect_offer(1, 1);
    group_figures(group, &f);
    cr_assert_eq(f.delivered, 2);
    cr_assert_eq(f.redelivered, 0);
    group_leave(group, m, now);
}

Test(group_time, what_is_scheduled_does_not_count_as_in_flight)
{
    struct member *m;

    tear_down();
    open_group(1024 * 1024, 3);
    add_lane(TOPIC, 1000);
    m = join(7, 100);
    special.due_us = now + SECOND;
    cr_assert_eq(deliver(), 0);
    expect_books(0, 0, 0, 1000, 0);
    special.due_us = 0;
    group_extend(group, TOPIC, 1010);
    expect_offer(1001, 1);
    pass_until(now + SECOND);
    expect_offer(1, 1);
    expect_offer(2, 1);
    cr_assert_eq(deliver(), 0); /* three are in flight */
    group_leave(group, m, now);
}

Test(group_time, too_old_ones_are_settled_as_expired)
{
    struct member *m = join(7, 100);
    struct group_figures f;

    special_seq = 2;
    special.expires_us = now;
    expect_offer(1, 1);
    expect_offer(3, 1);
    cr_assert_eq(books().expired, 1);
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_ACCEPTED); /* it is done */
    special_seq = 3;
    special.expires_us = now + SECOND;
    (void)settle(SETTLE_RELEASE, 7, 3);
    now += SECOND - 1;
    expect_offer(3, 1);
    (void)settle(SETTLE_RELEASE, 7, 3);
    now += 1;
    expect_offer(4, 1);
    cr_assert_eq(books().expired, 2);
    group_figures(group, &f);
    cr_assert_eq(f.expired, 2);
    group_leave(group, m, now);
}

Test(group_time, an_expired_one_with_a_delay_is_expired)
{
    struct member *m = join(7, 100);

    special.due_us = now + SECOND;
    special.expires_us = now;
    special.filtered = true;
    cr_assert_eq(deliver(), 0);
    cr_assert_eq(books().expired, 10);
    group_leave(group, m, now);
}

Test(group_time, filtered_ones_are_settled)
{
    struct member *m = join(7, 100);
    struct group_figures f;

    special_seq = 2;
    special.filtered = true;
    expect_offer(1, 1);
    expect_offer(3, 1);
    cr_assert_eq(books().filtered, 1);
    special_seq = 1; /* the filter was changed */
    (void)settle(SETTLE_RELEASE, 7, 1);
    expect_offer(4, 1);
    cr_assert_eq(books().filtered, 2);
    group_figures(group, &f);
    cr_assert_eq(f.filtered, 2);
    group_leave(group, m, now);
}

static uint64_t told[EFFECT_SETS];

static bool count_told(void *arg, const struct effects *e)
{
    (void)arg;
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        told[i] += seqset_count(e->sets[i]);
    }
    return true;
}

Test(group_time, the_log_is_told_of_both_and_of_no_delay)
{
    struct member *m = join(7, 1);

    special_seq = 1;
    special.due_us = now + SECOND;
    expect_offer(2, 1);
    cr_assert_not(group_has_effects(group));
    (void)settle(SETTLE_RELEASE, 7, 2);
    special_seq = 2;
    special.due_us = 0;
    special.expires_us = 1;
    expect_offer(3, 1);
    (void)settle(SETTLE_RELEASE, 7, 3);
    special_seq = 3;
    special.expires_us = 0;
    special.filtered = true;
    expect_offer(4, 1);
    group_take_effects(group, count_told, NULL);
    cr_assert_eq(told[EFFECT_EXPIRED], 1);
    cr_assert_eq(told[EFFECT_FILTERED], 1);
    cr_assert_eq(told[EFFECT_ACKED], 0);
    group_leave(group, m, now);
}

/* ---- notices ---- */

static struct notice notices[16];
static size_t notice_count;

static void on_notice(void *arg, const struct notice *notice)
{
    (void)arg;
    notices[notice_count++] = *notice;
}

static void tick_noticing(void)
{
    while (group_tick(group, now, 16, on_notice, NULL)) {
    }
    audit();
}

Test(group_time, a_notice_comes_once_before_the_lease_ends)
{
    struct member *m;

    open_noticing(5 * SECOND);
    m = join(7, 1);
    expect_offer(1, 1);
    cr_assert_eq(standing_of(1).until_us, START + LEASE);
    now = START + LEASE - 5 * SECOND - 1;
    tick_noticing();
    cr_assert_eq(notice_count, 0);
    now += 1 + TICK;
    tick_noticing();
    cr_assert_eq(notice_count, 1);
    cr_assert(notices[0].member == m);
    cr_assert_eq(notices[0].seq, 1);
    cr_assert_eq(notices[0].ends_us, START + LEASE);
    expect_gate(1, GATE_LEASED);
    cr_assert_eq(standing_of(1).until_us, START + LEASE);
    now = START + LEASE - 1;
    tick_noticing();
    expect_gate(1, GATE_LEASED);
    now += 1 + TICK;
    tick_noticing();
    cr_assert_eq(notice_count, 1);
    expect_offer(1, 2);
    group_leave(group, m, now);
}

Test(group_time, an_extended_lease_has_its_own_notice)
{
    struct member *m;

    open_noticing(5 * SECOND);
    m = join(7, 1);
    expect_offer(1, 1);
    now += LEASE - SECOND;
    tick_noticing();
    (void)settle(SETTLE_EXTEND, 7, 1);
    now += LEASE - SECOND;
    tick_noticing();
    cr_assert_eq(notice_count, 2);
    cr_assert_eq(notices[1].ends_us, START + 2 * LEASE - SECOND);
    group_leave(group, m, now);
}

Test(group_time, a_lease_keeps_its_end_when_the_notice_changes)
{
    struct member *m;

    open_noticing(5 * SECOND);
    m = join(7, 10);
    for (uint64_t seq = 1; seq <= 6; seq++) {
        expect_offer(seq, 1);
        rules.notice_us += SECOND;
        group_set_rules(group, &rules);
    }
    rules.notice_us = 0;
    group_set_rules(group, &rules);
    for (uint64_t seq = 1; seq <= 6; seq++) {
        cr_assert_eq(standing_of(seq).until_us, START + LEASE);
    }
    now = START + LEASE - 1;
    tick_noticing();
    cr_assert_eq(notice_count, 3); /* so many lengths at a time */
    expect_books(0, 0, 4, 0, 6);
    now += 1 + TICK;
    tick_noticing();
    expect_books(0, 0, 10, 0, 0);
    group_leave(group, m, now);
}

Test(group_time, a_notice_longer_than_the_lease_is_none)
{
    struct member *m;

    open_noticing(LEASE);
    m = join(7, 1);
    expect_offer(1, 1);
    now += LEASE + TICK;
    tick_noticing();
    cr_assert_eq(notice_count, 0);
    expect_offer(1, 2);
    group_leave(group, m, now);
}

Test(group_time, who_went_away_gets_no_notice)
{
    struct member *pull;

    open_noticing(5 * SECOND);
    pull = join(7, 1);
    expect_offer(1, 1);
    group_retire(group, pull);
    now += LEASE + TICK;
    tick_noticing();
    cr_assert_eq(notice_count, 0);
    expect_books(0, 0, 10, 0, 0);
}

/* ---- backoff lists ---- */

Test(group_time, a_list_of_delays_is_followed_and_its_last_repeats)
{
    static const uint64_t expected[] = { 2, 10, 3, 3, 3 };
    struct member *m = join(7, 1);

    rules.backoff_us[0] = 2 * SECOND;
    rules.backoff_us[1] = 10 * SECOND;
    rules.backoff_us[2] = 3 * SECOND;
    rules.backoff_count = 3;
    group_set_rules(group, &rules);
    for (uint32_t i = 0; i < COUNT_OF(expected); i++) {
        expect_offer(1, i + 1);
        (void)settle(SETTLE_NACK, 7, 1);
        cr_assert(ge(u64, due_of(1) - now, expected[i] * SECOND * 8 / 10));
        cr_assert(le(u64, due_of(1) - now, expected[i] * SECOND * 12 / 10));
        pass_until(due_of(1));
    }
    group_leave(group, m, now);
}

/* ---- paused, exclusive ---- */

Test(group_time, a_paused_group_gives_nothing_and_settles)
{
    struct member *m = join(7, 100);

    expect_offer(1, 1);
    rules.paused = true;
    group_set_rules(group, &rules);
    cr_assert_eq(deliver(), 0);
    expect_gate(2, GATE_PAUSED);
    cr_assert_eq(settle(SETTLE_ACK, 7, 1), OUTCOME_ACCEPTED);
    rules.paused = false;
    group_set_rules(group, &rules);
    expect_offer(2, 1);
    group_leave(group, m, now);
}

Test(group_time, one_has_it_all_until_it_leaves)
{
    struct member *first;
    struct member *second;
    struct member *third;
    struct offer offer;

    rules.mode = MODE_EXCLUSIVE;
    group_set_rules(group, &rules);
    first = join(7, 2);
    second = join(8, 100);
    third = join(9, 100);
    expect_offer(1, 1);
    expect_offer(2, 1);
    cr_assert_eq(deliver(), 0); /* the others stand by */
    expect_gate(3, GATE_NO_CREDIT);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(3, 1);
    group_leave(group, first, now);
    for (uint64_t seq = 2; seq <= 5; seq++) {
        cr_assert_eq(deliver_to(&offer), seq);
        cr_assert(offer.member == second);
    }
    group_leave(group, second, now);
    cr_assert_eq(deliver_to(&offer), 2);
    cr_assert(offer.member == third);
    group_leave(group, third, now);
}

/* ---- why ---- */

Test(group_time, each_gate_has_a_word_and_says_what_releases_it)
{
    for (enum gate gate = GATE_NONE; gate <= GATE_GAP; gate++) {
        cr_assert(strlen(gate_word(gate)) > 0);
        cr_assert(strlen(gate_releases(gate)) > 0);
        for (enum gate other = GATE_NONE; other < gate; other++) {
            cr_assert_str_neq(gate_word(gate), gate_word(other));
        }
    }
}

Test(group_time, each_message_can_be_explained)
{
    struct member *m = join(7, 4);
    struct standing s;

    special_seq = 99;
    for (uint64_t seq = 1; seq <= 4; seq++) {
        expect_offer(seq, 1);
    }
    (void)settle(SETTLE_ACK, 7, 1);
    (void)settle(SETTLE_REJECT, 7, 2);
    settle_range(SETTLE_NACK, 7, 3, 3, SECOND);
    expect_gate(1, GATE_ACKED);
    expect_gate(2, GATE_DEAD);
    s = standing_of(3);
    cr_assert_eq(s.gate, GATE_BACKOFF);
    cr_assert_eq(s.attempts, 1);
    cr_assert_eq(s.until_us, now + SECOND);
    s = standing_of(4);
    cr_assert_eq(s.gate, GATE_LEASED);
    cr_assert_eq(s.holder, 7);
    cr_assert_eq(s.attempts, 0);
    cr_assert_eq(s.until_us, now + LEASE);
    cr_assert(ge(u64, s.since_us, now - 1024));
    cr_assert(le(u64, s.since_us, now));
    expect_gate(5, GATE_NONE);
    s = standing_of(8);
    cr_assert_eq(s.gate, GATE_BEHIND);
    cr_assert_eq(s.other_seq, 5);
    expect_gate(11, GATE_NOT_DURABLE);
    expect_gate(0, GATE_NOT_DURABLE);
    cr_assert(group_trim(group, TOPIC, 2, NULL) == STATUS_OK);
    expect_gate(1, GATE_DELETED);
    group_explain(group, 77, 1, 0, now, &s);
    cr_assert_eq(s.gate, GATE_NOT_TAKEN);
    group_leave(group, m, now);
    expect_gate(5, GATE_NO_SUBSCRIBER);
}

Test(group_time, since_when_it_is_held_or_waits_is_known)
{
    struct member *m = join(7, 1);

    expect_offer(1, 1);
    now += LEASE / 2;
    (void)settle(SETTLE_EXTEND, 7, 1); /* the same lease, longer */
    now += 4 * SECOND;
    cr_assert(ge(u64, standing_of(1).since_us, START - 1024));
    cr_assert(le(u64, standing_of(1).since_us, START + 1024));
    settle_range(SETTLE_NACK, 7, 1, 1, 60 * SECOND);
    now += SECOND;
    cr_assert(ge(u64, standing_of(1).since_us, now - SECOND - 1024));
    cr_assert(le(u64, standing_of(1).since_us, now - SECOND + 1024));
    group_leave(group, m, now);
}

Test(group_time, what_holds_the_group_is_known_with_its_time)
{
    struct member *m;
    struct standing s;

    cr_assert_eq(deliver(), 0);
    now += SECOND;
    cr_assert_eq(deliver(), 0);
    group_held_by(group, now, &s);
    cr_assert_eq(s.gate, GATE_NO_SUBSCRIBER);
    cr_assert_eq(s.since_us, START);
    m = join(7, 1);
    expect_offer(1, 1);
    now += SECOND;
    cr_assert_eq(deliver(), 0);
    now += SECOND;
    group_held_by(group, now, &s);
    cr_assert_eq(s.gate, GATE_NO_CREDIT);
    cr_assert_eq(s.since_us, START + 2 * SECOND);
    group_leave(group, m, now);
}

Test(group_time, the_quota_is_told_at_the_bound)
{
    struct member *m;

    tear_down();
    open_group(1024 * 1024, 2);
    add_lane(TOPIC, 10);
    m = join(7, 100);
    expect_offer(1, 1);
    expect_offer(2, 1);
    cr_assert_eq(deliver(), 0);
    expect_gate(3, GATE_QUOTA);
    settle_range(SETTLE_NACK, 7, 1, 1, SECOND);
    cr_assert_eq(deliver(), 0);
    expect_gate(3, GATE_QUOTA); /* what waits counts */
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(3, 1);
    group_leave(group, m, now);
}

Test(group_time, who_detaches_is_not_counted)
{
    struct member *m = join(7, 2);

    expect_offer(1, 1);
    expect_offer(2, 1);
    group_detach(group, m, now);
    m = join(8, 2);
    expect_offer(1, 1);
    expect_offer(2, 1);
    group_leave(group, m, now);
    m = join(9, 1);
    expect_offer(1, 2);
    group_leave(group, m, now);
}
