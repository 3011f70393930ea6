/* links: godwit_delivery godwit_proto */
#include "test/lib/group_bed.h"

#include <string.h>

/* The last attempt, rejections, and what operators do with the dead; seeks. */

static void set_up_mortal(void)
{
    rules = (struct group_rules) { .mode = MODE_SHARED,
                                   .lease_us = LEASE,
                                   .attempts_max = 3,
                                   .in_flight_max = SIZE_MAX };
    open_with_rules(1024 * 1024);
    add_lane(TOPIC, 10);
}

TestSuite(group_dead, .init = set_up_mortal, .fini = tear_down, .timeout = 30);

static void expect_dead(uint64_t dead, uint64_t ready)
{
    struct lane_books b = books();
    cr_assert_eq(b.dead, dead);
    cr_assert_eq(b.ready, ready);
    cr_assert(lane_books_balance(&b));
    audit();
}

static void reject(uint64_t lease, uint64_t seq)
{
    cr_assert_eq(settle(SETTLE_REJECT, lease, seq), OUTCOME_ACCEPTED);
}

static uint64_t redrive(uint64_t first, uint64_t last)
{
    uint64_t count;
    uint64_t next;
    cr_assert(group_redrive(group, TOPIC, (struct seq_range) { first, last },
                            now, &count, &next)
              == STATUS_OK);
    cr_assert(gt(u64, next, last == UINT64_MAX ? 0 : last));
    audit();
    return count;
}

static uint64_t bury(uint64_t first, uint64_t last)
{
    uint64_t count;
    uint64_t next;
    cr_assert(group_bury(group, TOPIC, (struct seq_range) { first, last }, NULL,
                         &next, &count)
              == STATUS_OK);
    audit();
    return count;
}

static uint64_t discard(uint64_t first, uint64_t last)
{
    uint64_t count;
    uint64_t next;
    cr_assert(group_discard(group, TOPIC, (struct seq_range) { first, last },
                            NULL, &next, &count)
              == STATUS_OK);
    audit();
    return count;
}

static void seek(uint64_t after)
{
    cr_assert(group_seek(group, TOPIC, after, NULL) == STATUS_OK);
    audit();
}

/* ---- how it dies ---- */

Test(group_dead, the_last_attempt_is_the_end)
{
    struct member *m = join(7, 1);

    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        expect_offer(1, attempt);
        cr_assert_eq(settle(SETTLE_NACK, 7, 1), OUTCOME_ACCEPTED);
        if (attempt < 3) {
            pass_until(due_of(1));
        }
    }
    expect_dead(1, 9);
    expect_gate(1, GATE_DEAD);
    expect_offer(2, 1);
    group_leave(group, m, now);
}

Test(group_dead, leases_and_lost_members_count)
{
    struct member *m = join(7, 1);
    struct group_figures f;

    expect_offer(1, 1);
    pass_until(now + LEASE);
    expect_offer(1, 2);
    group_leave(group, m, now);
    m = join(8, 1);
    expect_offer(1, 3);
    group_leave(group, m, now);
    expect_dead(1, 9);
    group_figures(group, &f);
    cr_assert_eq(f.died, 1);
    cr_assert_eq(f.leases_expired, 1);
}

Test(group_dead, a_release_is_no_attempt)
{
    struct member *m = join(7, 1);

    for (int i = 0; i < 10; i++) {
        expect_offer(1, 1);
        (void)settle(SETTLE_RELEASE, 7, 1);
    }
    expect_dead(0, 10);
    group_leave(group, m, now);
}

Test(group_dead, without_a_maximum_it_never_dies)
{
    struct member *m;

    rules.attempts_max = 0;
    group_set_rules(group, &rules);
    m = join(7, 1);
    for (uint32_t attempt = 1; attempt <= 40; attempt++) {
        expect_offer(1, attempt);
        (void)settle(SETTLE_NACK, 7, 1);
        pass_until(due_of(1));
    }
    group_leave(group, m, now);
}

struct seen {
    struct failure failures[16];
    char reason[16][REASON_LEN_MAX + 1];
    size_t count;
    uint64_t sets[EFFECT_SETS];
    bool seek;
    uint64_t seek_after;
    size_t calls;
};

static bool see(void *arg, const struct effects *e)
{
    struct seen *s = arg;

    s->calls++;
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        s->sets[i] += seqset_count(e->sets[i]);
    }
    for (size_t i = 0; i < e->failure_count; i++) {
        s->failures[s->count] = e->failures[i];
        if (e->failures[i].reason.len > 0) {
            memcpy(s->reason[s->count], e->failures[i].reason.at,
                   e->failures[i].reason.len);
        }
        s->count++;
    }
    if (e->seek) {
        cr_assert_eq(e->failure_count, 0);
        cr_assert_eq(seqset_count(e->sets[EFFECT_ACKED]), 0);
        s->seek = true;
        s->seek_after = e->seek_after;
    }
    return true;
}

static void nack_with(const char *reason)
{
    struct settlement s = { .lease = 7,
                            .topic = TOPIC,
                            .action = SETTLE_NACK,
                            .range = { 1, 1 },
                            .reason = { (const uint8_t *)reason,
                                        strlen(reason) } };
    cr_assert(group_settle(group, &s, now, NULL, NULL) == STATUS_OK);
}

Test(group_dead, the_log_is_told_why)
{
    struct member *m = join(7, 2);
    struct seen seen = { 0 };
    char longer[REASON_LEN_MAX + 2] = { 0 };

    expect_offer(1, 1);
    nack_with("no such table");
    pass_until(due_of(1));
    expect_offer(1, 2);
    memset(longer, 'x', REASON_LEN_MAX + 1);
    nack_with(longer);
    pass_until(due_of(1));
    expect_offer(1, 3);
    pass_until(now + LEASE);
    expect_offer(2, 1);
    reject(7, 2);
    group_take_effects(group, see, &seen);
    cr_assert_eq(seen.count, 4);
    cr_assert_str_eq(seen.reason[0], "no such table");
    cr_assert_eq(seen.failures[0].cause, CAUSE_NACK);
    cr_assert_eq(seen.failures[0].attempts, 1);
    cr_assert_eq(seen.failures[0].holder, 7);
    cr_assert_not(seen.failures[0].dead);
    cr_assert_eq(strlen(seen.reason[1]), REASON_LEN_MAX);
    cr_assert_eq(seen.failures[2].cause, CAUSE_LEASE);
    cr_assert(seen.failures[2].dead);
    cr_assert_eq(seen.failures[2].attempts, 3);
    cr_assert_eq(seen.failures[2].due_us, 0);
    cr_assert_eq(seen.failures[3].cause, CAUSE_REJECT);
    cr_assert(seen.failures[3].dead);
    cr_assert_eq(seen.failures[3].attempts, 1);
    group_leave(group, m, now);
}

/* With so many ranges of dead ones nothing dies any more. */
Test(group_dead, at_the_bound_of_the_dead_attempts_go_on)
{
    struct seqset dead = { 0 };
    struct lane_start start = { .topic = TOPIC,
                                .end = 2 * (uint64_t)DEAD_COUNT_MAX + 10,
                                .dead = &dead };
    struct member *m;
    struct settlement s = {
        .lease = 7, .topic = TOPIC, .action = SETTLE_REJECT, .range = { 1, 1 }
    };
    struct offer offer;
    uint64_t count;

    for (uint64_t i = 1; i <= DEAD_COUNT_MAX; i++) {
        cr_assert(seqset_add(&dead, 2 * i, 2 * i, NULL) == STATUS_OK);
    }
    group_drop_lane(group, TOPIC, NULL);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    m = join(7, 1);
    cr_assert(group_next(group, now, &offer));
    cr_assert(take(&offer) == TAKE_DELIVERED);
    cr_assert(group_settle(group, &s, now, NULL, NULL) == STATUS_OK);
    cr_assert_eq(books().dead, DEAD_COUNT_MAX);
    cr_assert(ge(u64, due_of(1) - now, (uint64_t)BACKOFF_MS_MAX * 800));
    cr_assert(group_discard(group, TOPIC, (struct seq_range) { 4, 4 }, NULL,
                            &(uint64_t) { 0 }, &count)
              == STATUS_OK);
    now = due_of(1) + TICK;
    (void)group_tick(group, now, 16, NULL, NULL);
    cr_assert(group_next(group, now, &offer));
    cr_assert_eq(offer.seq, 1);
    cr_assert(take(&offer) == TAKE_DELIVERED);
    cr_assert(group_settle(group, &s, now, NULL, NULL) == STATUS_OK);
    expect_gate(1, GATE_DEAD);
    cr_assert_eq(books().dead, DEAD_COUNT_MAX);
    group_leave(group, m, now);
    seqset_fini(&dead);
}

static size_t reasons_told;

static bool count_reasons(void *arg, const struct effects *e)
{
    (void)arg;
    for (size_t i = 0; i < e->failure_count; i++) {
        reasons_told += e->failures[i].reason.len > 0;
    }
    return true;
}

/* A log that takes nothing must not let reasons fill the memory. */
Test(group_dead, at_the_bound_of_reasons_none_is_kept_and_nothing_given)
{
    enum { REASONS = REASONS_BYTES_MAX / REASON_LEN_MAX };
    uint8_t reason[REASON_LEN_MAX] = { 'x' };
    struct settlement s = { .lease = 7,
                            .topic = TOPIC,
                            .action = SETTLE_NACK,
                            .delay_us = 60 * SECOND,
                            .reason = { reason, sizeof reason } };
    struct member *m;
    struct offer offer;

    tear_down();
    open_with_rules(64 * 1024 * 1024);
    add_lane(TOPIC, REASONS + 20);
    m = join(7, UINT64_MAX);
    for (uint64_t seq = 1; seq <= REASONS + 10; seq++) {
        cr_assert(group_next(group, now, &offer));
        cr_assert(take(&offer) == TAKE_DELIVERED);
    }
    for (uint64_t seq = 1; seq <= REASONS + 10; seq++) {
        s.range = (struct seq_range) { seq, seq };
        cr_assert(group_settle(group, &s, now, NULL, NULL) == STATUS_OK);
        cr_assert_eq(group_next(group, now, &offer), seq < REASONS);
    }
    expect_gate(REASONS + 11, GATE_QUOTA);
    group_take_effects(group, count_reasons, NULL);
    cr_assert_eq(reasons_told, REASONS);
    cr_assert(group_next(group, now, &offer));
    audit();
    group_leave(group, m, now);
}

/* ---- what is said of the dead ---- */

Test(group_dead, only_who_claims_no_lease_may_ack_the_dead)
{
    struct member *m = join(7, 3);

    for (uint64_t seq = 1; seq <= 3; seq++) {
        expect_offer(seq, 1);
        reject(7, seq);
    }
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_NACK, 0, 2), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_EXTEND, 0, 2), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_RELEASE, 0, 2), OUTCOME_LATE);
    cr_assert_eq(settle(SETTLE_REJECT, 0, 2), OUTCOME_LATE);
    expect_dead(3, 7);
    cr_assert_eq(settle(SETTLE_ACK, 0, 2), OUTCOME_ACCEPTED);
    expect_dead(2, 7);
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_ACCEPTED); /* it is acked */
    cr_assert_eq(books().acked, 1);
    group_leave(group, m, now);
}

Test(group_dead, to_reject_what_one_does_not_hold_is_late)
{
    struct member *m = join(7, 1);

    expect_offer(1, 1);
    cr_assert_eq(settle(SETTLE_REJECT, 8, 1), OUTCOME_LATE);
    pass_until(now + LEASE);
    cr_assert_eq(settle(SETTLE_REJECT, 7, 1), OUTCOME_LATE);
    expect_dead(0, 10);
    group_leave(group, m, now);
}

/* ---- operators ---- */

static void kill_first(struct member *m, uint64_t count)
{
    (void)m;
    for (uint64_t seq = 1; seq <= count; seq++) {
        expect_offer(seq, 1);
        reject(7, seq);
        now += BREAKER_TRIAL_US; /* after 64 of them it is open */
    }
}

Test(group_dead, they_are_listed_in_ranges)
{
    struct member *m = join(7, 10);
    struct seq_range out[2];

    kill_first(m, 7);
    (void)settle(SETTLE_ACK, 0, 3);
    (void)settle(SETTLE_ACK, 0, 5);
    cr_assert_eq(group_dead(group, TOPIC, 2, out, 2), 2);
    cr_assert_eq(out[0].first, 2);
    cr_assert_eq(out[0].last, 2);
    cr_assert_eq(out[1].first, 4);
    cr_assert_eq(out[1].last, 4);
    cr_assert_eq(group_dead(group, TOPIC, 5, out, 2), 1);
    cr_assert_eq(out[0].first, 6);
    cr_assert_eq(out[0].last, 7);
    cr_assert_eq(group_dead(group, TOPIC, 8, out, 2), 0);
    cr_assert_eq(group_dead(group, OTHER, 1, out, 2), 0);
    group_leave(group, m, now);
}

Test(group_dead, redriven_ones_begin_with_the_first_attempt)
{
    struct member *m = join(7, 1);
    struct seen seen = { 0 };

    kill_first(m, 4);
    cr_assert_eq(redrive(2, 3), 2);
    expect_dead(2, 8);
    expect_offer(2, 1);
    (void)settle(SETTLE_ACK, 7, 2);
    expect_offer(3, 1);
    (void)settle(SETTLE_ACK, 7, 3);
    cr_assert_eq(redrive(1, UINT64_MAX), 2);
    group_take_effects(group, see, &seen);
    cr_assert_eq(seen.sets[EFFECT_REDRIVEN], 4);
    cr_assert_eq(seen.sets[EFFECT_ACKED], 2);
    cr_assert_eq(redrive(1, 10), 0);
    group_leave(group, m, now);
}

Test(group_dead, a_redrive_is_taken_back_for_those_nobody_was_given)
{
    struct member *m = join(7, 1);
    struct seen seen = { 0 };

    kill_first(m, 4);
    cr_assert_eq(redrive(1, 3), 3);
    expect_offer(1, 1);
    cr_assert_eq(bury(1, UINT64_MAX), 2);
    expect_dead(3, 6);
    (void)settle(SETTLE_RELEASE, 7, 1);
    cr_assert_eq(bury(1, 10), 0); /* it was given to somebody */
    group_take_effects(group, see, &seen);
    cr_assert_eq(seen.sets[EFFECT_BURIED], 2);
    expect_offer(1, 1);
    (void)settle(SETTLE_ACK, 7, 1);
    expect_offer(5, 1); /* 2 and 3 are dead again */
    group_leave(group, m, now);
}

/* What is out of date in the lane's heap must not pile up. */
Test(group_dead, redriven_and_buried_a_thousand_times)
{
    struct member *m = join(7, 10);

    kill_first(m, 10);
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(redrive(1, 10), 10);
        cr_assert_eq(bury(1, 10), 10);
    }
    cr_assert_eq(redrive(1, 10), 10);
    for (uint64_t seq = 1; seq <= 10; seq++) {
        expect_offer(seq, 1);
    }
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
}

Test(group_dead, discarded_ones_are_settled)
{
    struct member *m = join(7, 1);
    struct seen seen = { 0 };

    kill_first(m, 4);
    cr_assert_eq(discard(2, 3), 2);
    expect_dead(2, 6);
    cr_assert_eq(books().deleted, 2);
    cr_assert_eq(redrive(1, 10), 2);
    cr_assert_eq(discard(1, 10), 0);
    group_take_effects(group, see, &seen);
    cr_assert_eq(seen.sets[EFFECT_DISCARDED], 2);
    group_leave(group, m, now);
}

Test(group_dead, without_room_a_redrive_says_where_it_stopped)
{
    struct member *m;
    uint64_t count;
    uint64_t next;
    uint64_t killed;
    struct seq_range all = { 1, UINT64_MAX };

    tear_down();
    open_with_rules(4096);
    add_lane(TOPIC, 1000);
    m = join(7, 1);
    kill_first(m, 200);
    cr_assert(group_redrive(group, TOPIC, all, now, &count, &next)
              == STATUS_AGAIN);
    audit();
    cr_assert(gt(u64, count, 0));
    cr_assert_eq(next, count + 1);
    killed = 200 - count;
    expect_dead(killed, 800 + count);
    for (uint64_t seq = 1; seq <= count; seq++) {
        expect_offer(seq, 1);
        (void)settle(SETTLE_ACK, 7, seq);
        now += BREAKER_TRIAL_US;
    }
    cr_assert(group_redrive(group, TOPIC, all, now, &count, &next)
              != STATUS_NOMEM);
    cr_assert(gt(u64, count, 0));
    group_leave(group, m, now);
}

Test(group_dead, what_is_not_kept_is_not_dead_any_more)
{
    struct member *m = join(7, 1);

    kill_first(m, 4);
    cr_assert(group_trim(group, TOPIC, 3, NULL) == STATUS_OK);
    expect_dead(2, 6);
    cr_assert_eq(books().deleted, 2);
    cr_assert_eq(redrive(1, 10), 2);
    group_leave(group, m, now);
}

Test(group_dead, a_lane_begins_with_its_dead)
{
    struct seqset dead = { 0 };
    struct lane_start start = { .topic = OTHER, .end = 6, .dead = &dead };
    struct member *m;
    uint64_t count;
    uint64_t next;

    cr_assert(seqset_add(&dead, 2, 3, NULL) == STATUS_OK);
    cr_assert(seqset_add(&dead, 5, 5, NULL) == STATUS_OK);
    group_drop_lane(group, TOPIC, NULL);
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
    audit();
    m = join(7, 100);
    cr_assert(group_redrive(group, OTHER, (struct seq_range) { 3, 3 }, now,
                            &count, &next)
              == STATUS_OK);
    audit();
    cr_assert_eq(deliver(), 3); /* the others before it are fresh */
    cr_assert_eq(deliver(), 1);
    cr_assert_eq(deliver(), 4);
    cr_assert_eq(deliver(), 6);
    cr_assert_eq(deliver(), 0);
    group_leave(group, m, now);
    seqset_fini(&dead);
}

/* ---- seek ---- */

Test(group_dead, a_seek_back_gives_all_again)
{
    struct member *m = join(7, 4);
    struct seen seen = { 0 };

    for (uint64_t seq = 1; seq <= 4; seq++) {
        expect_offer(seq, 1);
    }
    (void)settle(SETTLE_ACK, 7, 1);
    settle_range(SETTLE_NACK, 7, 2, 2, SECOND);
    reject(7, 3);
    seek(0);
    expect_dead(0, 10);
    cr_assert_eq(books().published, 10);
    expect_offer(1, 1);
    expect_offer(2, 1);
    expect_offer(3, 1);
    cr_assert_eq(settle(SETTLE_ACK, 7, 4), OUTCOME_UNKNOWN);
    (void)settle(SETTLE_ACK, 7, 1);
    group_take_effects(group, see, &seen);
    cr_assert(seen.seek);
    cr_assert_eq(seen.seek_after, 0);
    cr_assert_eq(seen.calls, 3); /* what was before, the seek, what is since */
    cr_assert_eq(seen.count, 2);
    cr_assert_eq(seen.sets[EFFECT_ACKED], 2);
    group_leave(group, m, now);
}

Test(group_dead, a_seek_ahead_leaves_the_dead_where_they_are)
{
    struct member *m = join(7, 2);

    expect_offer(1, 1);
    reject(7, 1);
    expect_offer(2, 1);
    seek(6);
    cr_assert_eq(books().published, 5);
    expect_dead(1, 4);
    cr_assert_eq(settle(SETTLE_ACK, 7, 2), OUTCOME_ACCEPTED); /* not its own */
    expect_gate(2, GATE_NOT_TAKEN);
    expect_offer(7, 1);
    cr_assert_eq(redrive(1, 10), 1);
    expect_offer(1, 1);
    cr_assert_eq(books().published, 5);
    group_leave(group, m, now);
}

Test(group_dead, a_seek_knows_its_bounds)
{
    cr_assert(group_seek(group, TOPIC, 11, NULL) == STATUS_INVALID);
    cr_assert(group_seek(group, 77, 0, NULL) == STATUS_NOT_FOUND);
    seek(10);
    expect_dead(0, 0);
    cr_assert_eq(books().published, 0);
    group_extend(group, TOPIC, 11);
    expect_dead(0, 1);
}

Test(group_dead, a_seek_gives_nothing_that_is_not_kept)
{
    struct member *m = join(7, 2);

    cr_assert(group_trim(group, TOPIC, 5, NULL) == STATUS_OK);
    seek(1);
    cr_assert_eq(books().published, 9);
    cr_assert_eq(books().deleted, 3);
    expect_offer(5, 1);
    group_leave(group, m, now);
}

Test(group_dead, time_forgets_what_a_seek_took_back)
{
    struct member *m = join(7, 10);

    for (uint64_t seq = 1; seq <= 5; seq++) {
        expect_offer(seq, 1);
    }
    settle_range(SETTLE_NACK, 7, 2, 3, SECOND);
    seek(8);
    pass_until(now + 2 * LEASE);
    expect_dead(0, 2);
    cr_assert_eq(group_due_us(group), UINT64_MAX);
    expect_offer(9, 1);
    group_leave(group, m, now);
}

/* ---- in bits ---- */

Test(group_dead, a_discard_looks_at_no_more_than_its_budget)
{
    struct member *m = join(7, 100);
    size_t budget = 3; /* ranges */
    uint64_t count;
    uint64_t next;

    for (uint64_t seq = 1; seq <= 10; seq++) {
        cr_assert_eq(deliver(), seq);
    }
    for (uint64_t seq = 1; seq <= 9; seq += 2) {
        cr_assert_eq(settle(SETTLE_REJECT, 7, seq), OUTCOME_ACCEPTED);
    }
    cr_assert_eq(group_discard(group, TOPIC, (struct seq_range) { 1, 9 },
                               &budget, &next, &count),
                 STATUS_AGAIN);
    cr_assert_eq(count, 3);
    cr_assert_eq(budget, 0);
    cr_assert(next > 5 && next <= 7);
    cr_assert_eq(books().deleted, 3);
    audit();
    budget = 3;
    cr_assert_eq(group_discard(group, TOPIC, (struct seq_range) { next, 9 },
                               &budget, &next, &count),
                 STATUS_OK);
    cr_assert_eq(count, 2);
    cr_assert_eq(budget, 1);
    cr_assert_eq(books().deleted, 5);
    group_leave(group, m, now);
}
