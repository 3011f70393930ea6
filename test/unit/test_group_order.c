/* links: godwit_delivery godwit_proto */
#define OWN_FACTS
#include "test/lib/group_bed.h"

/* Ordered groups. Message seq has key 1 + seq % 2, unless the test says
 * otherwise: odd ones have key 2, even ones key 1. */

static uint64_t keys_are_seq_modulo = 2;
static uint64_t keyless; /* this one has none */
static uint64_t due_seq;
static uint64_t due_us;
static bool unordered;

static struct message_facts facts_of(const struct offer *offer)
{
    struct message_facts facts = { .bytes = BYTES };

    if (offer->seq != keyless && !unordered) {
        facts.key_hash = 1 + offer->seq % keys_are_seq_modulo;
    }
    if (offer->seq == due_seq) {
        facts.due_us = due_us;
    }
    return facts;
}

static void set_up_ordered(void)
{
    rules = (struct group_rules) { .mode = MODE_ORDERED,
                                   .lease_us = LEASE,
                                   .attempts_max = 3,
                                   .in_flight_max = SIZE_MAX };
    open_with_rules(1024 * 1024);
    add_lane(TOPIC, 10);
}

TestSuite(group_order, .init = set_up_ordered, .fini = tear_down,
          .timeout = 60);

static void one_key(void)
{
    keys_are_seq_modulo = 1;
}

Test(group_order, one_of_each_key_is_in_flight)
{
    struct member *m = join(7, 100);

    expect_offer(1, 1);
    expect_offer(2, 1);
    cr_assert_eq(deliver(), 0);
    expect_books(0, 0, 8, 0, 2);
    (void)settle(SETTLE_ACK, 7, 2);
    expect_offer(4, 1);
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(3, 1);
    group_leave(group, m, now);
}

Test(group_order, who_has_the_key_is_told)
{
    struct member *m = join(7, 100);
    struct standing s;

    one_key();
    expect_offer(1, 1);
    cr_assert_eq(deliver(), 0);
    group_explain(group, TOPIC, 5, 1, now, &s);
    cr_assert_eq(s.gate, GATE_KEY_BUSY);
    cr_assert_eq(s.other_seq, 1);
    group_leave(group, m, now);
}

Test(group_order, a_message_without_a_key_waits_for_nobody)
{
    struct member *m = join(7, 100);

    one_key();
    keyless = 3;
    expect_offer(1, 1);
    expect_offer(3, 1);
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}

Test(group_order, order_holds_through_all_that_fails)
{
    struct member *m = join(7, 100);

    one_key();
    expect_offer(1, 1);
    (void)settle(SETTLE_NACK, 7, 1);
    cr_assert_eq(deliver(), 0);
    pass_until(due_of(1));
    expect_offer(1, 2);
    (void)settle(SETTLE_RELEASE, 7, 1);
    expect_offer(1, 2);
    group_leave(group, m, now);
    m = join(8, 100);
    expect_offer(1, 3);
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_ACK, 8, 1);
    expect_offer(2, 1);
    pass_until(now + LEASE);
    expect_offer(2, 2);
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}

Test(group_order, a_dead_one_lets_the_next_go)
{
    struct member *m = join(7, 100);

    one_key();
    expect_offer(1, 1);
    cr_assert_eq(settle(SETTLE_REJECT, 7, 1), OUTCOME_ACCEPTED);
    expect_offer(2, 1);
    group_leave(group, m, now);
}

Test(group_order, a_redriven_one_takes_its_place_behind_who_has_the_key)
{
    struct member *m = join(7, 100);
    uint64_t count;
    uint64_t next;

    one_key();
    expect_offer(1, 1);
    cr_assert_eq(settle(SETTLE_REJECT, 7, 1), OUTCOME_ACCEPTED);
    expect_offer(2, 1);
    cr_assert(group_redrive(group, TOPIC, (struct seq_range) { 1, 1 }, now,
                            &count, &next)
              == STATUS_OK);
    cr_assert_eq(deliver(), 0);
    expect_gate(1, GATE_KEY_BUSY);
    (void)settle(SETTLE_ACK, 7, 2);
    expect_offer(1, 1);
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(3, 1);
    group_leave(group, m, now);
}

Test(group_order, what_waits_behind_a_key_is_unknown_to_members)
{
    struct member *m = join(7, 100);

    one_key();
    expect_offer(1, 1);
    cr_assert_eq(deliver(), 0);
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_UNKNOWN);
    cr_assert_eq(settle(SETTLE_ACK, 0, 9), OUTCOME_UNKNOWN);
    expect_books(0, 0, 9, 0, 1);
    group_leave(group, m, now);
}

Test(group_order, what_was_trimmed_lets_the_rest_go_in_order)
{
    struct member *m = join(7, 100);

    one_key();
    expect_offer(1, 1);
    settle_range(SETTLE_NACK, 7, 1, 1, SECOND);
    cr_assert_eq(deliver(), 0);
    cr_assert(group_trim(group, TOPIC, 4, NULL) == STATUS_OK);
    audit();
    expect_offer(4, 1);
    cr_assert_eq(deliver(), 0);
    cr_assert(group_trim(group, TOPIC, 6, NULL) == STATUS_OK);
    cr_assert_eq(deliver(), 0); /* 4 is in flight still */
    (void)settle(SETTLE_ACK, 7, 4);
    expect_offer(6, 1);
    group_leave(group, m, now);
}

Test(group_order, what_was_lost_lets_the_rest_go_in_order)
{
    struct member *m = join(7, 100);
    struct offer offer;

    one_key();
    expect_offer(1, 1);
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_ACK, 7, 1);
    cr_assert(group_next(group, now, &offer));
    cr_assert_eq(offer.seq, 2);
    group_lost(group, &offer, 4);
    audit();
    expect_books(1, 3, 6, 0, 0);
    expect_offer(5, 1);
    group_leave(group, m, now);
}

Test(group_order, a_seek_frees_all_keys)
{
    struct member *m = join(7, 100);

    one_key();
    expect_offer(1, 1);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(2, 1);
    cr_assert_eq(deliver(), 0);
    cr_assert(group_seek(group, TOPIC, 0, NULL) == STATUS_OK);
    expect_offer(1, 1);
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(2, 1);
    group_leave(group, m, now);
}

/* After a start the key of a failed message is not known before it is read. */
Test(group_order, order_holds_across_a_restart)
{
    struct seqset acked = { 0 };
    struct retry retries[] = {
        { .seq = 3, .attempts = 2, .due_us = 0 },
        { .seq = 4, .attempts = 1, .due_us = START + 5 * SECOND }
    };
    struct lane_start start = { .topic = TOPIC,
                                .end = 10,
                                .settled = &acked,
                                .retries = retries,
                                .retry_count = 2 };
    struct member *m;

    cr_assert(seqset_add(&acked, 1, 1, NULL) == STATUS_OK);
    group_drop_lane(group, TOPIC, NULL);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    expect_books(1, 0, 9, 0, 0);
    m = join(7, 100);
    tick();
    expect_offer(2, 1); /* key 1 */
    expect_offer(3, 3); /* key 2, all its attempts remembered */
    cr_assert_eq(deliver(), 0);
    expect_gate(4, GATE_KEY_BUSY);
    (void)settle(SETTLE_ACK, 7, 2);
    cr_assert_eq(deliver(), 0); /* 4 is next of key 1, and not due */
    expect_gate(4, GATE_BACKOFF);
    expect_gate(6, GATE_KEY_BUSY);
    pass_until(START + 5 * SECOND);
    expect_offer(4, 2);
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
    seqset_fini(&acked);
}

Test(group_order, a_retry_of_before_a_restart_can_be_acked_before_its_turn)
{
    struct retry retry = { .seq = 4, .attempts = 2 };
    struct lane_start start = {
        .topic = TOPIC, .end = 10, .retries = &retry, .retry_count = 1
    };
    struct member *m;

    one_key();
    group_drop_lane(group, TOPIC, NULL);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    m = join(7, 100);
    expect_offer(1, 1);
    cr_assert_eq(settle(SETTLE_ACK, 3, 4), OUTCOME_ACCEPTED);
    for (uint64_t seq = 1; seq <= 10; seq += seq == 3 ? 2 : 1) {
        cr_assert_eq(settle(SETTLE_ACK, 7, seq), OUTCOME_ACCEPTED);
        (void)deliver();
    }
    expect_books(10, 0, 0, 0, 0);
    group_leave(group, m, now);
}

Test(group_order, a_delayed_message_takes_its_place_when_it_is_due)
{
    struct member *m = join(7, 100);

    one_key();
    due_seq = 1;
    due_us = now + SECOND;
    expect_offer(2, 1);
    expect_gate(1, GATE_NOT_DUE);
    cr_assert_eq(deliver(), 0);
    pass_until(due_us);
    cr_assert_eq(deliver(), 0);
    expect_gate(1, GATE_KEY_BUSY);
    (void)settle(SETTLE_ACK, 7, 2);
    expect_offer(1, 1);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(3, 1);
    group_leave(group, m, now);
}

Test(group_order, a_group_that_becomes_shared_lets_all_go)
{
    struct member *m = join(7, 100);

    one_key();
    expect_offer(1, 1);
    cr_assert_eq(deliver(), 0);
    rules.mode = MODE_SHARED;
    group_set_rules(group, &rules);
    unordered = true;
    cr_assert_eq(deliver(), 0); /* they wait where they are */
    (void)settle(SETTLE_ACK, 7, 1);
    for (uint64_t seq = 2; seq <= 10; seq++) {
        expect_offer(seq, 1);
    }
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}

Test(group_order, a_group_that_becomes_ordered_is_so_from_the_next_on)
{
    struct member *m;

    rules.mode = MODE_SHARED;
    group_set_rules(group, &rules);
    m = join(7, 100);
    one_key();
    unordered = true;
    expect_offer(1, 1);
    expect_offer(2, 1);
    rules.mode = MODE_ORDERED;
    group_set_rules(group, &rules);
    unordered = false;
    expect_offer(3, 1);
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_RELEASE, 7, 1); /* its key is another's now */
    cr_assert_eq(deliver(), 0);
    (void)settle(SETTLE_ACK, 7, 3);
    expect_offer(1, 1);
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}

/* One stuck key must not stop the others before the budget is used up, and at
 * the bound the lane waits and goes on. */
Test(group_order, at_the_bound_of_what_may_wait_the_lane_waits)
{
    struct key_budget budget = { .max = 8 * 100 };
    struct inflight_config table = { .bytes = { 1024 * 1024 },
                                     .now_us = START };
    struct offer offer;
    uint64_t behind;

    tear_down();
    one_key();
    cr_assert(inflight_new(&inflight, &table, NULL) == STATUS_OK);
    group = group_new(&(struct group_config) {
        .id = 9, .rules = rules, .inflight = inflight, .keys = &budget });
    add_lane(TOPIC, 200);
    (void)join(7, 1000);
    expect_offer(1, 1);
    cr_assert_eq(deliver(), 0); /* it takes what may wait, then: */
    cr_assert(group_next(group, now, &offer));
    behind = offer.seq - 2;
    cr_assert(gt(u64, behind, 10));
    cr_assert(lt(u64, behind, 50)); /* half the budget */
    cr_assert(take(&offer) == TAKE_AGAIN);
    cr_assert_eq(standing_of(offer.seq).gate, GATE_QUOTA);
    for (uint64_t seq = 1; seq <= 200; seq++) {
        cr_assert_eq(settle(SETTLE_ACK, 7, seq), OUTCOME_ACCEPTED);
        (void)deliver();
    }
    expect_books(200, 0, 0, 0, 0);
    rules.mode = MODE_SHARED;
    group_leave(group, (struct member *)offer.member, now);
}

/* Those ready again must not wait for all that wait behind keys. */
Test(group_order, redeliveries_and_woken_keys_take_turns)
{
    struct member *m = join(7, 100);
    struct offer offer;
    bool came = false;

    keys_are_seq_modulo = 5;
    keyless = 1;
    group_extend(group, TOPIC, 100);
    while (deliver() != 0) {
    }
    settle_range(SETTLE_ACK, 7, 2, 100, 0);
    member_set_credit(m, 2, UINT64_MAX);
    (void)settle(SETTLE_RELEASE, 7, 1);
    for (int i = 0; i < 4 && !came; i++) {
        uint64_t seq = deliver_to(&offer);
        came = seq == 1;
        (void)settle(SETTLE_ACK, 7, seq);
    }
    cr_assert(came);
    group_leave(group, m, now);
}

/* Random everything against one promise: a key is never given out while an
 * earlier message of it, delivered since and not dead, is unsettled. */
Test(group_order, no_message_overtakes_another_of_its_key)
{
    enum { SEQS = 400, STEPS = 6000 };
    static uint64_t held_by_key[8];
    struct member *m = join(7, 20);
    uint32_t random = 11;

    keys_are_seq_modulo = 7;
    group_extend(group, TOPIC, SEQS);
    for (int i = 0; i < STEPS; i++) {
        struct offer offer;
        uint64_t seq;
        random = random * 1664525 + 1013904223;
        if (random / 65536 % 3 != 0 && deliver_to(&offer) != 0) {
            uint64_t *last = &held_by_key[1 + offer.seq % 7];
            cr_assert(ge(u64, offer.seq, *last));
            cr_assert(offer.seq == *last || *last == 0
                      || standing_of(*last).gate == GATE_ACKED
                      || standing_of(*last).gate == GATE_DEAD);
            *last = offer.seq;
            continue;
        }
        seq = held_by_key[1 + random / 65536 % 7];
        if (seq != 0 && standing_of(seq).gate == GATE_LEASED) {
            static const enum settle_action what[] = { SETTLE_ACK, SETTLE_ACK,
                                                       SETTLE_NACK,
                                                       SETTLE_RELEASE };
            (void)settle(what[random / 1048576 % 4], 7, seq);
        }
        pass_until(now + 300000);
    }
    cr_assert(gt(u64, books().acked, SEQS / 2));
    group_leave(group, m, now);
}

/* ---- very many behind one key ---- */

enum { MANY = 20000 };

static void give_all(void)
{
    struct offer offer;

    while (group_next(group, now, &offer)) {
        cr_assert(take(&offer) != TAKE_AGAIN);
    }
}

static void open_one_key(void)
{
    keys_are_seq_modulo = 1;
    rules = (struct group_rules) { .mode = MODE_ORDERED,
                                   .lease_us = LEASE,
                                   .in_flight_max = SIZE_MAX };
    open_with_rules(1024 * 1024);
    add_lane(TOPIC, MANY);
}

/* The suite's own group was made before. */
static void reopen_one_key(void)
{
    tear_down();
    open_one_key();
}

/* Nobody looks at each of them for a settlement of all. */
Test(group_order, all_that_waits_behind_a_key_has_one_outcome,
     .init = reopen_one_key)
{
    struct member *m = join(7, 100);
    struct settlement s = { .lease = 7,
                            .topic = TOPIC,
                            .action = SETTLE_EXTEND,
                            .range = { 1, UINT64_MAX } };
    size_t budget = 10;
    uint64_t next;

    give_all();
    outcome_count = 0;
    cr_assert_eq(
        group_settle_some(group, &s, now, &budget, &next, note_outcome, NULL),
        STATUS_OK);
    cr_assert_eq(outcome_count, 2);
    expect_outcome(0, 1, 1, OUTCOME_ACCEPTED, 0);
    expect_outcome(1, 2, UINT64_MAX, OUTCOME_UNKNOWN, 0);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(2, 1);
    (void)settle(SETTLE_NACK, 7, 2);
    pass_until(due_of(2));
    settle_range(SETTLE_ACK, 7, 2, MANY, 0);
    cr_assert_eq(outcome_count, 2);
    expect_outcome(0, 2, 2, OUTCOME_ACCEPTED, 0);
    expect_outcome(1, 3, MANY, OUTCOME_UNKNOWN, 0);
    expect_offer(3, 1);
    group_leave(group, m, now);
}

Test(group_order, all_that_waits_behind_a_key_is_trimmed_at_once,
     .init = reopen_one_key)
{
    struct member *m = join(7, 100);

    give_all();
    (void)settle(SETTLE_NACK, 7, 1);
    pass_until(due_of(1));
    expect_offer(1, 2);
    cr_assert(group_trim(group, TOPIC, MANY - 9, NULL) == STATUS_OK);
    audit();
    cr_assert_eq(books().deleted, MANY - 11);
    cr_assert_eq(books().ready, 10);
    cr_assert_eq(books().in_flight, 1);
    (void)settle(SETTLE_ACK, 7, 1);
    for (uint64_t seq = MANY - 9; seq <= MANY; seq++) {
        expect_offer(seq, 1);
        (void)settle(SETTLE_ACK, 7, seq);
    }
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
    audit();
    tear_down();
    cr_assert_eq(keys.used, 0);
    open_one_key();
}

Test(group_order, a_seek_frees_all_that_waits_behind_a_key,
     .init = reopen_one_key)
{
    struct member *m = join(7, 100);

    give_all();
    cr_assert(group_seek(group, TOPIC, MANY - 3, NULL) == STATUS_OK);
    audit();
    for (uint64_t seq = MANY - 2; seq <= MANY; seq++) {
        expect_offer(seq, 1);
        (void)settle(SETTLE_ACK, 7, seq);
    }
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}
