/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* What each kind of record does to a lane, against a model that knows the state
 * of every message by itself; and that a lane comes through checkpoints,
 * crashes and a lost keydir as it was. */
#include "storage/lanes.h"

#include "storage/ranges.h"

#include "test/storage/harness.h"

#include "proto/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQS = 48, GROUP = 3, TOPIC = 4 };

/* ---- one lane against a model ---- */

enum became { OWED, ACKED, LOST, EXPIRED, FILTERED, DISCARDED, DEAD, SKIPPED };

struct model {
    enum became became[SEQS + 1];
    uint32_t attempts[SEQS + 1]; /* of those owed */
    uint64_t first_seq;
    bool sought;
    uint64_t after;
    bool bury_settled; /* planted bug: it buries what is settled too */
};

static bool is_open(enum became became)
{
    return became == OWED || became == DEAD;
}

static void model_settle(struct model *m, enum became as, uint64_t seq)
{
    bool fits =
        as == DISCARDED ? m->became[seq] == DEAD : is_open(m->became[seq]);

    if (fits && (seq >= m->first_seq || m->became[seq] == OWED)) {
        /* How it was settled counts for what is behind the last seek. */
        m->became[seq] = m->sought && seq <= m->after ? SKIPPED : as;
        m->attempts[seq] = 0;
    }
}

static void model_range(struct model *m, enum record_kind kind, uint64_t seq)
{
    switch (kind) {
    case RECORD_ACK:
        model_settle(m, ACKED, seq);
        break;
    case RECORD_GAP:
        model_settle(m, LOST, seq);
        break;
    case RECORD_EXPIRED:
        model_settle(m, EXPIRED, seq);
        break;
    case RECORD_FILTERED:
        model_settle(m, FILTERED, seq);
        break;
    case RECORD_DISCARD:
        model_settle(m, DISCARDED, seq);
        break;
    case RECORD_REDRIVE:
        m->became[seq] = m->became[seq] == DEAD ? OWED : m->became[seq];
        break;
    case RECORD_BURY:
        if (seq >= m->first_seq
            && (m->became[seq] == OWED || m->bury_settled)) {
            m->became[seq] = DEAD;
            m->attempts[seq] = 0;
        }
        break;
    case RECORD_MESSAGE:
    case RECORD_RETRY:
    case RECORD_CATALOG:
    case RECORD_TRIM:
    case RECORD_FAILED:
    case RECORD_SEEK:
        break;
    }
}

static void model_failed(struct model *m, uint64_t seq, uint32_t attempts,
                         bool dead)
{
    if (seq >= m->first_seq && is_open(m->became[seq])) {
        m->became[seq] = dead ? DEAD : OWED;
        m->attempts[seq] = dead ? 0 : attempts;
    }
}

static void model_seek(struct model *m, uint64_t after)
{
    for (uint64_t seq = 1; seq <= SEQS; seq++) {
        if (seq > after) {
            m->became[seq] = OWED;
        } else if (m->became[seq] != DEAD) {
            m->became[seq] = SKIPPED;
        }
        m->attempts[seq] = 0;
    }
    m->sought = true;
    m->after = after;
}

/* What is deleted is neither dead nor to be delivered. */
static void model_trim(struct model *m, uint64_t first_seq)
{
    m->first_seq = first_seq;
    for (uint64_t seq = 1; seq < first_seq; seq++) {
        m->became[seq] = m->became[seq] == DEAD ? OWED : m->became[seq];
        m->attempts[seq] = 0;
    }
}

static uint64_t count_as(const struct model *m, enum became as)
{
    uint64_t count = 0;

    for (uint64_t seq = 1; seq <= SEQS; seq++) {
        count += m->became[seq] == as;
    }
    return count;
}

/* As many as the last seek left settled, and of its dead since. */
static uint64_t count_settled_below(const struct model *m)
{
    uint64_t count = 0;

    for (uint64_t seq = 1; seq <= m->after; seq++) {
        count += !is_open(m->became[seq]);
    }
    return count;
}

static uint32_t attempts_of(const struct lane_image *lane, uint64_t seq)
{
    const struct retry *retry = waiting_find(&lane->retries, seq);

    return retry == NULL ? 0 : retry->attempts;
}

/* 0 when they agree, else a message about which they do not, or SEQS + 1. */
static uint64_t differs(const struct model *m, const struct lane_image *lane)
{
    for (uint64_t seq = m->first_seq; seq <= SEQS; seq++) {
        enum became b = m->became[seq];
        if (seqset_has(&lane->acked, seq) == is_open(b)
            || seqset_has(&lane->dead, seq) != (b == DEAD)
            || seqset_has(&lane->gaps, seq) != (b == LOST)
            || seqset_has(&lane->expired, seq) != (b == EXPIRED)
            || attempts_of(lane, seq) != m->attempts[seq]) {
            return seq;
        }
    }
    return set_count(&lane->acked, (struct seq_range) { 1, m->after })
                       == count_settled_below(m)
                   && seqset_count(&lane->gaps) == count_as(m, LOST)
                   && seqset_count(&lane->expired) == count_as(m, EXPIRED)
                   && seqset_count(&lane->dead) == count_as(m, DEAD)
                   && lane->filtered == count_as(m, FILTERED)
                   && lane->discarded == count_as(m, DISCARDED)
                   && seqset_count(&lane->acked)
                          == SEQS - count_as(m, OWED) - count_as(m, DEAD)
                   && lane->sought == m->sought && lane->after == m->after
               ? 0
               : SEQS + 1;
}

static void apply(struct lane_image *lane, enum record_kind kind,
                  const struct bytes *body, uint64_t first_seq)
{
    struct record record = { .kind = kind,
                             .body = slice_of(body->at, bytes_len(body)) };
    struct lane_record r;
    uint64_t last_seq;

    cr_assert(eq(int, lane_record_read(&record, &r), STATUS_OK));
    cr_assert(eq(u32, r.group, GROUP));
    cr_assert(eq(u32, r.topic, TOPIC));
    cr_assert(
        eq(int, lane_record_apply(lane, &r, first_seq, &last_seq), STATUS_OK));
    cr_assert(le(u64, last_seq, SEQS));
}

static void do_ranges(struct model *m, struct lane_image *lane,
                      enum record_kind kind, struct seq_range range)
{
    struct record_ranges ranges = { GROUP, TOPIC, &range, 1 };
    struct bytes body = { 0 };

    cr_assert(eq(int, record_ranges_write(&body, &ranges), STATUS_OK));
    apply(lane, kind, &body, m->first_seq);
    bytes_fini(&body);
    for (uint64_t seq = range.first; seq <= range.last; seq++) {
        model_range(m, kind, seq);
    }
}

static void do_failed(struct model *m, struct lane_image *lane, uint64_t seq,
                      uint32_t attempts, bool dead)
{
    struct failure failure = {
        .seq = seq, .attempts = attempts, .cause = CAUSE_NACK, .dead = dead
    };
    struct record_failures failures = { GROUP, TOPIC, &failure, 1 };
    struct bytes body = { 0 };

    cr_assert(eq(int, record_failed_write(&body, &failures), STATUS_OK));
    apply(lane, RECORD_FAILED, &body, m->first_seq);
    bytes_fini(&body);
    model_failed(m, seq, attempts, dead);
}

static void do_seek(struct model *m, struct lane_image *lane, uint64_t after)
{
    struct record_seek seek = { GROUP, TOPIC, after };
    struct bytes body = { 0 };

    cr_assert(eq(int, record_seek_write(&body, &seek), STATUS_OK));
    apply(lane, RECORD_SEEK, &body, m->first_seq);
    bytes_fini(&body);
    model_seek(m, after);
}

/* A look into the value finds what reading it does. */
static void look_into(const struct lane_image *lane, struct slice value)
{
    for (uint64_t seq = 1; seq <= SEQS; seq++) {
        struct lane_look look;
        bool plainly = seqset_has(&lane->acked, seq);
        cr_assert(eq(int, lane_value_look(value, seq, &look), STATUS_OK));
        cr_assert(eq(int, look.gap, seqset_has(&lane->gaps, seq)));
        cr_assert(eq(int, look.expired, seqset_has(&lane->expired, seq)));
        cr_assert(eq(int, look.settled, plainly || look.gap || look.expired));
    }
}

/* As the keydir has it and gives it back. */
static void save_and_load(struct lane_image *lane)
{
    struct lane_image again = { .group = GROUP, .topic = TOPIC };
    struct bytes value = { 0 };

    cr_assert(eq(int, lane_write(lane, &value), STATUS_OK));
    cr_assert(
        eq(int, lane_read(&again, slice_of(value.at, value.end)), STATUS_OK));
    look_into(lane, slice_of(value.at, value.end));
    lane_fini(lane);
    *lane = again;
    bytes_fini(&value);
}

static void step(struct model *m, struct lane_image *lane, uint64_t *random)
{
    static const enum record_kind kinds[] = { RECORD_ACK,     RECORD_GAP,
                                              RECORD_EXPIRED, RECORD_FILTERED,
                                              RECORD_REDRIVE, RECORD_BURY,
                                              RECORD_DISCARD };
    uint64_t first = 1 + random_next(random) % SEQS;
    uint64_t last = first + random_next(random) % 6;

    last = last > SEQS ? SEQS : last;
    switch (random_next(random) % 12) {
    case 0:
        do_seek(m, lane, m->first_seq - 1 + last % (SEQS - m->first_seq + 2));
        break;
    case 1:
        if (first > m->first_seq && first < m->first_seq + 6) {
            model_trim(m, first);
            cr_assert(eq(int, lane_trim(lane, first), STATUS_OK));
        }
        break;
    case 2:
        save_and_load(lane);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        do_failed(m, lane, first, (uint32_t)(1 + last),
                  random_next(random) % 2 == 0);
        break;
    default:
        if (first >= m->first_seq) {
            do_ranges(m, lane, kinds[random_next(random) % COUNT_OF(kinds)],
                      (struct seq_range) { first, last });
        }
        break;
    }
}

/* The step after which they differ; 0 never. */
static unsigned live(uint64_t seed, struct model *m, unsigned steps)
{
    struct lane_image lane = { .group = GROUP, .topic = TOPIC };
    unsigned found = 0;

    m->first_seq = 1;
    for (unsigned i = 1; i <= steps && found == 0; i++) {
        step(m, &lane, &seed);
        found = differs(m, &lane) != 0 ? i : 0;
    }
    lane_fini(&lane);
    return found;
}

TestSuite(lane, .timeout = 12);

Test(lane, is_what_a_model_says_through_many_lives)
{
    uint64_t seed = random_seed();

    for (uint64_t i = 0; i < 2000; i++) {
        struct model m = { 0 };
        cr_assert(eq(uint, live(seed + i, &m, 60), 0), "GODWIT_SEED=%llu",
                  (unsigned long long)(seed + i));
    }
}

Test(lane, that_is_not_what_the_model_says_is_found)
{
    unsigned found = 0;

    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct model m = { .bury_settled = true };
        found += live(seed, &m, 60) != 0;
    }
    cr_assert(gt(uint, found, 50));
}

Test(lane, without_anything_new_has_the_value_it_always_had)
{
    struct lane_image lane = { .group = GROUP, .topic = TOPIC };
    struct retry retry = { 9, 2, 77 };
    struct bytes value = { 0 };

    cr_assert(eq(int,
                 lane_settle_as(&lane, RECORD_ACK, (struct seq_range) { 1, 5 }),
                 STATUS_OK));
    cr_assert(eq(int,
                 lane_settle_as(&lane, RECORD_GAP, (struct seq_range) { 7, 7 }),
                 STATUS_OK));
    cr_assert(eq(int, lane_retry(&lane, &retry), STATUS_OK));
    cr_assert(eq(int, lane_write(&lane, &value), STATUS_OK));
    cr_assert(eq(sz, bytes_len(&value), 12 + 3 * 16 + 20));
    cr_assert(eq(u32, get_u32(value.at), 2));
    cr_assert(eq(u32, get_u32(value.at + 4), 1));
    cr_assert(eq(u32, get_u32(value.at + 8), 1));
    save_and_load(&lane);
    cr_assert(eq(u64, seqset_count(&lane.acked), 6));
    cr_assert(eq(u64, seqset_count(&lane.gaps), 1));
    cr_assert(eq(u32, attempts_of(&lane, 9), 2));
    bytes_fini(&value);
    lane_fini(&lane);
}

/* ---- many, in an order that a client chose ---- */

enum { MANY = 200000, PIECES = 500000 };

/* Whatever the order: each change moves a chunk at most, and a record with many
 * ranges goes over the lane once. Where each moved what lay behind it these
 * took many minutes; the suite's time is the bound. */
Test(lane, takes_many_failures_in_any_order)
{
    struct lane_image lane = { .group = GROUP, .topic = TOPIC };
    struct waiting_place place = { 0 };
    const struct retry *retry;
    uint64_t next = 0;
    uint64_t failed = 0;

    /* From the last to the first, then those between in strides. */
    for (uint64_t seq = 2 * MANY; seq > 0; seq -= 2) {
        struct retry even = { seq, 1, seq };
        failed += lane_retry(&lane, &even) != STATUS_OK;
    }
    for (uint64_t i = 0; i < MANY; i++) {
        struct retry odd = { 2 * (i * 7919 % MANY) + 1, 2, 0 };
        failed += lane_retry(&lane, &odd) != STATUS_OK;
    }
    cr_assert(eq(sz, lane.retries.count, 2 * MANY));
    while ((retry = waiting_next(&lane.retries, &place)) != NULL) {
        next++;
        failed += retry->seq != next || retry->attempts != 1 + next % 2;
    }
    cr_assert(eq(u64, failed, 0));
    for (uint64_t i = 0; i < MANY / 8; i++) { /* none is next to another */
        uint64_t seq = 2 * (i * 7919 % MANY) + 1;
        struct seq_range one = { seq, seq };
        failed += lane_settle_as(&lane, RECORD_ACK, one) != STATUS_OK;
    }
    cr_assert(eq(u64, failed, 0));
    cr_assert(eq(sz, lane.retries.count, 2 * MANY - MANY / 8));
    for (uint64_t seq = 100; seq <= 2 * MANY; seq += 100) {
        struct seq_range before = { seq - 99, seq - 1 };
        cr_assert(
            eq(int, lane_settle_as(&lane, RECORD_ACK, before), STATUS_OK));
    }
    /* What few are left take little. */
    cr_assert(eq(sz, lane.retries.count, 2 * MANY / 100));
    cr_assert(le(sz, lane.retries.chunk_count, 2 * MANY / 100 / 16));
    cr_assert(eq(
        int,
        lane_settle_as(&lane, RECORD_ACK, (struct seq_range) { 1, 2 * MANY }),
        STATUS_OK));
    cr_assert(eq(sz, lane.retries.count, 0));
    cr_assert(eq(sz, lane.retries.chunk_count, 0));
    lane_fini(&lane);
}

static void apply_many(struct lane_image *lane, enum record_kind kind,
                       const struct seq_range *ranges, size_t count)
{
    struct record_ranges r = { GROUP, TOPIC, ranges, count };
    struct bytes body = { 0 };
    struct record record = { .kind = kind };
    struct lane_record read;
    uint64_t last_seq;

    cr_assert(eq(int, record_ranges_write(&body, &r), STATUS_OK));
    record.body = slice_of(body.at, bytes_len(&body));
    cr_assert(eq(int, lane_record_read(&record, &read), STATUS_OK));
    cr_assert(eq(int, lane_record_apply(lane, &read, 1, &last_seq), STATUS_OK));
    bytes_fini(&body);
}

/* Every other one of PIECES, in records of the most that one holds: `step`
 * apart in each, so that a record speaks of the whole lane. */
static void every_other(struct lane_image *lane, enum record_kind kind)
{
    size_t records = PIECES / (RECORD_RANGES_MAX / 4);
    size_t count = 0;
    struct seq_range *ranges = calloc(RECORD_RANGES_MAX, sizeof *ranges);

    for (size_t record = 0; record <= records; record++) {
        for (uint64_t i = record; i < PIECES; i += records + 1) {
            ranges[count++] = (struct seq_range) { 2 * i + 1, 2 * i + 1 };
        }
        apply_many(lane, kind, ranges, count);
        count = 0;
    }
    free(ranges);
}

Test(lane, of_many_pieces_is_gone_over_once_for_a_record)
{
    static const struct seq_range all[] = { { 1, 2 * PIECES } };
    struct lane_image lane = { .group = GROUP, .topic = TOPIC };

    every_other(&lane, RECORD_ACK);
    cr_assert(eq(u64, seqset_count(&lane.acked), PIECES));
    apply_many(&lane, RECORD_BURY, all, 1);
    cr_assert(eq(u64, seqset_count(&lane.dead), PIECES));
    apply_many(&lane, RECORD_DISCARD, all, 1);
    cr_assert(eq(u64, lane.discarded, PIECES));
    cr_assert(eq(sz, seqset_range_count(&lane.acked), 1));
    cr_assert(eq(sz, seqset_range_count(&lane.dead), 0));
    lane_fini(&lane);

    lane = (struct lane_image) { .group = GROUP, .topic = TOPIC };
    every_other(&lane, RECORD_EXPIRED);
    every_other(&lane, RECORD_GAP); /* they were settled before */
    apply_many(&lane, RECORD_GAP, all, 1);
    cr_assert(eq(u64, seqset_count(&lane.expired), PIECES));
    cr_assert(eq(u64, seqset_count(&lane.gaps), PIECES));
    cr_assert(eq(sz, seqset_range_count(&lane.acked), 1));
    lane_fini(&lane);

    lane = (struct lane_image) { .group = GROUP, .topic = TOPIC };
    every_other(&lane, RECORD_BURY);
    every_other(&lane, RECORD_REDRIVE);
    cr_assert(eq(sz, seqset_range_count(&lane.dead), 0));
    lane_fini(&lane);
}

/* A seek settles up to 6, but 2 and 4 that are dead; what is settled behind it
 * does not come to lie below, nor the other way round. */
Test(lane, below_a_seek_what_was_settled_is_counted_for_itself)
{
    struct model m = { .first_seq = 1 };
    struct lane_image lane = { .group = GROUP, .topic = TOPIC };

    do_failed(&m, &lane, 2, 1, true);
    do_failed(&m, &lane, 4, 1, true);
    do_seek(&m, &lane, 6);
    do_ranges(&m, &lane, RECORD_ACK, (struct seq_range) { 8, 8 });
    do_ranges(&m, &lane, RECORD_GAP, (struct seq_range) { 10, 11 });
    model_trim(&m, 5);
    cr_assert(eq(int, lane_trim(&lane, 5), STATUS_OK));
    cr_assert(eq(u64, differs(&m, &lane), 0));
    model_trim(&m, 30);
    cr_assert(eq(int, lane_trim(&lane, 30), STATUS_OK));
    cr_assert(eq(u64, differs(&m, &lane), 0));
    cr_assert(eq(sz, seqset_range_count(&lane.acked), 2));
    cr_assert(eq(u64, seqset_ranges(&lane.acked)[0].first, 3));
    cr_assert(eq(u64, seqset_ranges(&lane.acked)[0].last, 6));
    cr_assert(eq(u64, seqset_ranges(&lane.acked)[1].first, 27));
    cr_assert(eq(u64, seqset_ranges(&lane.acked)[1].last, 29));
    cr_assert(eq(u64, seqset_ranges(&lane.gaps)[0].first, 28));
    lane_fini(&lane);
}

/* Memory of exactly that length, so that reading on is seen. */
Test(lane, half_a_value_is_none)
{
    struct model m = { .first_seq = 1 };
    struct lane_image lane = { .group = GROUP, .topic = TOPIC };
    struct bytes value = { 0 };

    do_failed(&m, &lane, 3, 2, true);
    do_failed(&m, &lane, 9, 2, false);
    do_ranges(&m, &lane, RECORD_EXPIRED, (struct seq_range) { 5, 6 });
    do_seek(&m, &lane, 4);
    do_failed(&m, &lane, 9, 2, false);
    cr_assert(eq(int, lane_write(&lane, &value), STATUS_OK));
    for (size_t cut = 0; cut < bytes_len(&value); cut++) {
        struct lane_image out = { 0 };
        uint8_t *exact = malloc(cut + 1);
        struct lane_look look;
        memcpy(exact, value.at, cut);
        cr_assert(eq(int, lane_value_look(slice_of(exact, cut), 3, &look),
                     STATUS_CORRUPT));
        cr_assert(
            eq(int, lane_read(&out, slice_of(exact, cut)), STATUS_CORRUPT));
        lane_fini(&out);
        free(exact);
    }
    bytes_fini(&value);
    lane_fini(&lane);
}

/* ---- in a store ---- */

static struct harness h;

static void set_up(void)
{
    harness_init(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(lanes, .init = set_up, .fini = tear_down, .timeout = 60);

static void publish(int count)
{
    for (int i = 0; i < count; i++) {
        add_message(&h, TOPIC, "m");
    }
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
}

static void fail_one(uint64_t seq, uint32_t attempts, uint64_t due_us,
                     bool dead)
{
    add_failed(&h, GROUP, TOPIC,
               (struct failure) { .seq = seq,
                                  .attempts = attempts,
                                  .due_us = due_us,
                                  .cause = CAUSE_NACK,
                                  .dead = dead,
                                  .reason = slice_text("no") });
}

/* After a checkpoint, a clean end, a crash, and with a new keydir. */
static void expect_lane(const char *text)
{
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), (char *)text));
    harness_reopen(&h);
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), (char *)text));
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), (char *)text));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), (char *)text));
    cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
}

Test(lanes, the_dead_are_neither_settled_nor_waiting)
{
    publish(9);
    fail_one(2, 1, 500, false);
    fail_one(3, 1, 500, false);
    fail_one(3, 20, 0, true);
    fail_one(4, 1, 0, true);
    add_ack(&h, GROUP, TOPIC, 1, 1);
    expect_lane("1-1 dead 3-4 retries 2x1@500");
}

Test(lanes, a_dead_one_that_is_acked_or_discarded_is_settled)
{
    publish(9);
    for (uint64_t seq = 2; seq <= 6; seq++) {
        fail_one(seq, 3, 0, true);
    }
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    add_ack(&h, GROUP, TOPIC, 3, 3);
    add_lane(&h, RECORD_DISCARD, GROUP, TOPIC, 4, 8); /* 7 and 8 are not dead */
    expect_lane("3-6 discarded 3 dead 2-2");
}

Test(lanes, a_redrive_begins_anew_and_can_be_taken_back)
{
    publish(9);
    fail_one(2, 20, 0, true);
    fail_one(3, 20, 0, true);
    fail_one(4, 20, 0, true);
    add_lane(&h, RECORD_REDRIVE, GROUP, TOPIC, 1, 9);
    fail_one(2, 1, 900, false);
    add_ack(&h, GROUP, TOPIC, 4, 4);
    expect_lane("4-4 retries 2x1@900");
    add_lane(&h, RECORD_BURY, GROUP, TOPIC, 2, 4);
    expect_lane("4-4 dead 2-3");
}

Test(lanes, expired_and_filtered_ones_are_settled_once)
{
    publish(20);
    add_lane(&h, RECORD_FILTERED, GROUP, TOPIC, 1, 4);
    add_lane(&h, RECORD_FILTERED, GROUP, TOPIC, 3, 6);
    add_lane(&h, RECORD_EXPIRED, GROUP, TOPIC, 6, 8);
    add_gap(&h, GROUP, TOPIC, 8, 9);
    expect_lane("1-9 gaps 9-9 expired 7-8 filtered 6");
}

Test(lanes, a_seek_back_makes_owed_again_and_leaves_the_dead_below)
{
    publish(20);
    add_ack(&h, GROUP, TOPIC, 1, 10);
    add_lane(&h, RECORD_FILTERED, GROUP, TOPIC, 15, 15);
    fail_one(11, 3, 0, true);
    fail_one(12, 3, 700, false);
    fail_one(13, 3, 0, true);
    add_seek(&h, GROUP, TOPIC, 12);
    expect_lane("1-10,12-12 dead 11-11 after 12");
    add_seek(&h, GROUP, TOPIC, 5);
    expect_lane("1-5 after 5");
    add_seek(&h, GROUP, TOPIC, 0);
    expect_lane(" after 0");
    add_ack(&h, GROUP, TOPIC, 2, 2);
    expect_lane("2-2 after 0");
}

static void add_trim(uint64_t first_seq, uint64_t floor_seq)
{
    struct record_trim trim = { TOPIC, first_seq, floor_seq };
    struct record record = { .kind = RECORD_TRIM };
    struct bytes body = { 0 };
    uint8_t *at = h.buffer + h.len;

    cr_assert(eq(int, record_trim_write(&body, &trim), STATUS_OK));
    memcpy(at + RECORD_HEADER_LEN, body.at, bytes_len(&body));
    record.body = slice_of(at + RECORD_HEADER_LEN, bytes_len(&body));
    record_finish(at, &record);
    h.len += record_size(bytes_len(&body));
    bytes_fini(&body);
}

/* What the log says is where it went. */
Test(lanes, a_seek_stays_between_the_floor_and_the_end)
{
    static const struct {
        uint64_t asked, after;
    } seeks[] = { { 0, 6 },   { 5, 6 },   { 6, 6 },   { 7, 7 },
                  { 19, 19 }, { 20, 20 }, { 21, 20 }, { 1000, 20 } };

    publish(20);
    add_trim(3, 7);
    for (size_t i = 0; i < COUNT_OF(seeks); i++) {
        struct record record;
        struct record_seek seek;
        struct store_commit commit;
        add_seek(&h, GROUP, TOPIC, seeks[i].asked);
        if (i % 2 == 0) { /* the start has to remember it too */
            cr_assert(eq(int, harness_commit(&h), STATUS_OK));
            harness_reopen(&h);
            add_seek(&h, GROUP, TOPIC, seeks[i].asked);
        }
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
        cr_assert(
            eq(int, record_read(slice_of(h.buffer, 512), &record), STATUS_OK));
        cr_assert(eq(int, seek_read(record.body, &seek), STATUS_OK));
        cr_assert(eq(u64, seek.after, seeks[i].after), "%zu", i);
        cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
        cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    }
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), "1-20 after 20"));
}

/* The seek's writer had not heard of the trim, and delivers what it finds. */
Test(lanes, what_a_seek_went_to_behind_the_floor_stays_settled)
{
    publish(20);
    add_ack(&h, GROUP, TOPIC, 1, 9);
    add_trim(3, 7);
    add_seek(&h, GROUP, TOPIC, 2);
    fail_one(4, 1, 900, false);
    fail_one(5, 3, 0, true);
    add_ack(&h, GROUP, TOPIC, 6, 6);
    fail_one(8, 3, 0, true);
    expect_lane("1-6 dead 8-8 after 6");
}

Test(lanes, of_a_deleted_group_are_gone_whatever_is_in_them)
{
    publish(9);
    fail_one(2, 20, 0, true);
    add_seek(&h, GROUP, TOPIC, 4);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    add_fact(&h, CATALOG_GROUP, GROUP, "g", "", true);
    fail_one(5, 20, 0, true); /* from before the worker knew */
    expect_lane("");
}

/* In logs of versions 1 and 2. */
Test(lanes, an_old_retry_is_a_failure)
{
    publish(9);
    add_retry(&h, GROUP, TOPIC, (struct retry) { 5, 2, 900 });
    expect_lane(" retries 5x2@900");
}
