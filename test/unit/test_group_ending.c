/* links: godwit_delivery godwit_proto */
#define OWN_FACTS
#include "test/lib/group_bed.h"

/* A seek, or a topic that goes, while more is open than one turn may end. */

enum { COUNT = 10 };

static uint64_t keys_are_seq_modulo; /* 0: none has a key */

static struct message_facts facts_of(const struct offer *offer)
{
    return (struct message_facts) {
        .bytes = BYTES,
        .key_hash =
            keys_are_seq_modulo == 0 ? 0 : 1 + offer->seq % keys_are_seq_modulo
    };
}

static struct member *m;

static void set_up_open(void)
{
    keys_are_seq_modulo = 0;
    rules = (struct group_rules) { .mode = MODE_SHARED,
                                   .lease_us = LEASE,
                                   .attempts_max = 3,
                                   .in_flight_max = SIZE_MAX };
    open_with_rules(1024 * 1024);
    add_lane(TOPIC, COUNT);
    m = join(7, COUNT);
}

static void tear_down_open(void)
{
    if (m != NULL) {
        group_leave(group, m, now);
    }
    tear_down();
    cr_assert_eq(keys.used, 0);
}

TestSuite(group_ending, .init = set_up_open, .fini = tear_down_open,
          .timeout = 30);

/* The first is dead, some wait, the others are held. */
static void open_all(void)
{
    for (uint64_t seq = 1; seq <= COUNT; seq++) {
        expect_offer(seq, 1);
    }
    cr_assert_eq(settle(SETTLE_REJECT, 7, 1), OUTCOME_ACCEPTED);
    cr_assert_eq(settle(SETTLE_NACK, 7, 2), OUTCOME_ACCEPTED);
    cr_assert_eq(settle(SETTLE_ACK, 7, 3), OUTCOME_ACCEPTED);
}

static size_t open_count(void)
{
    struct inflight_figures f;

    inflight_figures(inflight, &f);
    return f.tiers[TIER_HEAP].count;
}

/* So many looks. True: it is not done with. */
static bool seek(uint64_t after, size_t looks)
{
    cr_assert(group_seek(group, TOPIC, after, &looks) == STATUS_OK);
    audit();
    return group_is_ending(group);
}

static bool end_some(size_t looks)
{
    group_end_some(group, &looks);
    audit();
    return group_is_ending(group);
}

Test(group_ending, a_seek_within_its_looks_is_done_with)
{
    open_all();
    /* dead 1, open 2, settled 3, open 4..10: four stretches, eight messages */
    cr_assert_not(seek(1, 12));
    cr_assert_eq(open_count(), 0);
    expect_offer(2, 1);
}

Test(group_ending, a_seek_with_one_look_less_goes_on)
{
    open_all();
    cr_assert(seek(1, 11));
    cr_assert_eq(open_count(), 1);
    cr_assert_eq(deliver(), 0);
    cr_assert_not(end_some(2)); /* the stretch once more */
    cr_assert_eq(open_count(), 0);
    expect_offer(2, 1);
}

/* What it means is so at once. */
Test(group_ending, meanwhile_it_is_as_after_the_seek)
{
    struct group_figures f;

    open_all();
    cr_assert(seek(4, 0));
    cr_assert_eq(open_count(), 8);
    expect_books(0, 0, 6, 0, 0);
    cr_assert_eq(books().dead, 1);
    cr_assert_eq(deliver(), 0);
    expect_gate(1, GATE_DEAD);
    expect_gate(4, GATE_NOT_TAKEN);
    expect_gate(6, GATE_BEHIND);
    cr_assert_eq(standing_of(6).other_seq, 5);
    cr_assert_eq(settle(SETTLE_ACK, 7, 6), OUTCOME_UNKNOWN);
    cr_assert_eq(settle(SETTLE_EXTEND, 7, 6), OUTCOME_UNKNOWN);
    cr_assert_eq(settle(SETTLE_NACK, 7, 4), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_ACK, 7, 4), OUTCOME_ACCEPTED);
    expect_books(0, 0, 6, 0, 0);
    cr_assert_eq(group_sweep(group, TOPIC, now), 0);
    cr_assert_not(end_some(100));
    for (uint64_t seq = 5; seq <= COUNT; seq++) {
        expect_offer(seq, 1);
    }
    group_figures(group, &f);
    cr_assert_eq(f.acked, 1);
}

Test(group_ending, leases_and_delays_that_end_meanwhile_are_nobodys)
{
    struct group_figures f;

    open_all();
    cr_assert(seek(0, 0));
    pass_until(now + LEASE);
    cr_assert_eq(open_count(), 0);
    cr_assert(group_is_ending(group));
    cr_assert_not(end_some(100));
    expect_books(0, 0, COUNT, 0, 0);
    group_figures(group, &f);
    cr_assert_eq(f.leases_expired, 0);
    expect_offer(1, 1);
}

Test(group_ending, a_member_that_leaves_meanwhile_failed_at_nothing)
{
    open_all();
    cr_assert(seek(0, 3));
    group_leave(group, m, now);
    audit();
    m = join(8, COUNT);
    cr_assert_eq(deliver(), 0);
    cr_assert_not(end_some(100));
    expect_offer(1, 1);
    expect_offer(2, 1);
}

Test(group_ending, a_member_that_detaches_meanwhile_released_nothing)
{
    struct group_figures f;

    open_all();
    cr_assert(seek(0, 3));
    group_detach(group, m, now);
    audit();
    m = NULL;
    group_figures(group, &f);
    cr_assert_eq(f.released, 0);
    cr_assert_not(end_some(100));
}

/* A holder has its credit back as it goes on, for other lanes at once. */
Test(group_ending, credit_comes_back_bit_by_bit)
{
    struct offer offer;

    open_all();
    expect_books(1, 0, 0, 1, 7);
    add_lane(OTHER, 20);
    for (int i = 0; i < 3; i++) {
        (void)deliver_to(&offer);
        cr_assert_eq(offer.topic, OTHER);
    }
    cr_assert_eq(deliver(), 0);
    cr_assert(seek(0, 0));
    cr_assert_eq(deliver(), 0);
    cr_assert(end_some(6)); /* dead 1, 2, settled 3, and of 4 on the first */
    cr_assert_eq(deliver_to(&offer), 4);
    cr_assert_eq(offer.topic, OTHER);
    cr_assert_eq(deliver(), 0);
}

Test(group_ending, a_second_seek_before_the_first_is_done_with)
{
    open_all();
    cr_assert(seek(0, 3));
    cr_assert(seek(8, 3));
    expect_books(0, 0, 2, 0, 0);
    cr_assert_not(end_some(100));
    expect_offer(9, 1);
    expect_offer(10, 1);
    cr_assert_eq(deliver(), 0);
}

Test(group_ending, messages_that_come_meanwhile_wait)
{
    open_all();
    cr_assert(seek(COUNT, 0));
    group_extend(group, TOPIC, COUNT + 1);
    cr_assert_eq(deliver(), 0);
    expect_books(0, 0, 1, 0, 0);
    cr_assert_not(end_some(100));
    expect_offer(COUNT + 1, 1);
}

Test(group_ending, a_trim_meanwhile)
{
    open_all();
    cr_assert(seek(1, 0));
    cr_assert(group_trim(group, TOPIC, 5, NULL) == STATUS_OK);
    cr_assert_eq(books().deleted, 4); /* a dead one, and three fresh */
    cr_assert_not(end_some(100));
    expect_offer(5, 1);
}

Test(group_ending, a_redrive_waits_for_the_end_of_a_seek)
{
    struct seq_range all = { 1, UINT64_MAX };
    uint64_t count = 1;
    uint64_t next = 0;

    open_all();
    cr_assert(seek(5, 0));
    cr_assert(group_redrive(group, TOPIC, all, now, &count, &next)
              == STATUS_AGAIN);
    cr_assert_eq(count, 0);
    cr_assert_eq(next, 1);
    cr_assert_not(end_some(100));
    cr_assert(group_redrive(group, TOPIC, all, now, &count, &next)
              == STATUS_OK);
    cr_assert_eq(count, 1);
    expect_offer(1, 1);
}

Test(group_ending, a_topic_that_goes_ends_in_bits)
{
    struct offer offer;

    open_all();
    group_drop_lane(group, TOPIC, &(size_t) { 3 });
    audit();
    cr_assert(group_is_ending(group));
    cr_assert_eq(open_count(), 7);
    add_lane(OTHER, 20);
    cr_assert_not(group_tick(group, now + LEASE / 2, 100, NULL, NULL));
    cr_assert_eq(deliver_to(&offer), 1);
    cr_assert_eq(offer.topic, OTHER);
    cr_assert_eq(settle(SETTLE_ACK, 7, 5), OUTCOME_UNKNOWN);
    cr_assert_not(end_some(100));
    cr_assert_eq(open_count(), 1);
}

Test(group_ending, its_member_leaves_and_its_leases_end_meanwhile)
{
    open_all();
    group_drop_lane(group, TOPIC, &(size_t) { 3 });
    group_leave(group, m, now);
    m = NULL;
    pass_until(now + LEASE);
    cr_assert_eq(open_count(), 0);
    cr_assert_not(end_some(100));
}

Test(group_ending, a_topic_goes_before_a_seek_is_done_with)
{
    open_all();
    cr_assert(seek(2, 2));
    group_drop_lane(group, TOPIC, &(size_t) { 2 });
    audit();
    cr_assert(group_is_ending(group));
    cr_assert_not(end_some(100));
    cr_assert_eq(open_count(), 0);
}

Test(group_ending, a_lane_that_is_added_again_begins_with_nothing_of_before)
{
    open_all();
    group_drop_lane(group, TOPIC, &(size_t) { 0 });
    cr_assert_eq(open_count(), 8);
    add_lane(TOPIC, COUNT);
    cr_assert_eq(open_count(), 0);
    cr_assert_not(group_is_ending(group));
    expect_offer(1, 1);
}

Test(group_ending, a_group_goes_before_it_is_done_with)
{
    open_all();
    cr_assert(seek(2, 2));
    group_leave(group, m, now);
    tear_down();
    set_up_open();
}

/* ---- keys ---- */

static void reopen_ordered(void)
{
    group_leave(group, m, now);
    tear_down();
    keys_are_seq_modulo = 5;
    rules.mode = MODE_ORDERED;
    open_with_rules(1024 * 1024);
    add_lane(TOPIC, COUNT);
    m = join(7, COUNT);
}

static void set_up_ordered(void)
{
    set_up_open();
    reopen_ordered();
}

TestSuite(group_ending_ordered, .init = set_up_ordered, .fini = tear_down_open,
          .timeout = 30);

/* Five are held, five wait behind them: a look at each, one for the stretch,
 * and one for each key. */
Test(group_ending_ordered, keys_go_in_bits_too)
{
    size_t used;

    for (uint64_t seq = 1; seq <= 5; seq++) {
        expect_offer(seq, 1);
    }
    cr_assert_eq(deliver(), 0);
    used = keys.used;
    cr_assert(seek(0, 11));
    cr_assert_eq(open_count(), 0);
    cr_assert_eq(keys.used, used);
    cr_assert(end_some(4));
    cr_assert(keys.used > 0 && keys.used < used);
    cr_assert_eq(deliver(), 0);
    cr_assert_not(end_some(2));
    cr_assert_eq(keys.used, 0);
    expect_offer(1, 1);
}

Test(group_ending_ordered, a_group_goes_with_keys_half_gone)
{
    for (uint64_t seq = 1; seq <= 5; seq++) {
        expect_offer(seq, 1);
    }
    cr_assert_eq(deliver(), 0);
    cr_assert(seek(0, 13));
    cr_assert_gt(keys.used, 0);
}
