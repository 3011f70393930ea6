/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/faulty_vfs.c */

/* Batches of messages that a merge moves: written as they are, whatever order
 * and holes they come in, and found again by every reader of a batch. */
#include "storage/internal.h"
#include "test/lib/faulty_vfs.h"
#include "test/storage/harness.h"

#include "proto/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOVED_LEN_MAX = 512 * 1024, TEXT_LEN = 64 };

static struct harness h;
static struct faulty_vfs faulty;
static uint8_t *moved; /* what a merge wrote */
static size_t moved_len;

static void set_up(void)
{
    harness_init(&h);
    faulty_vfs_init(&faulty);
    h.config.vfs = &faulty.vfs;
    moved = aligned_alloc(RECORD_ALIGN, MOVED_LEN_MAX);
    CHECK(moved != NULL);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
    free(moved);
}

TestSuite(moved, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- helpers ---- */

static const char *text_of(uint32_t topic, uint64_t seq)
{
    static char text[TEXT_LEN];

    snprintf(text, sizeof text, "topic %u message %" PRIu64, topic, seq);
    return text;
}

static void publish(uint32_t topic, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        add_message(&h, topic, text_of(topic, last_seq(&h, topic) + 1 + i));
    }
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
}

/* The record as it stands in the log. */
static void move(uint32_t topic, uint64_t seq)
{
    struct record record;
    const uint8_t *at;
    size_t size;

    cr_assert(eq(int, message_at(&h, topic, seq, &record, NULL), STATUS_OK));
    at = record.body.at - RECORD_HEADER_LEN;
    size = record_size_at(at);
    CHECK(moved_len + size <= MOVED_LEN_MAX);
    memcpy(moved + moved_len, at, size);
    moved_len += size;
}

static void move_trim(uint32_t topic, uint64_t first, uint64_t floor)
{
    struct record_trim trim = { topic, first, floor };
    struct record record = { .kind = RECORD_TRIM };
    struct bytes body = { 0 };

    CHECK(record_trim_write(&body, &trim) == STATUS_OK);
    memcpy(moved + moved_len + RECORD_HEADER_LEN, body.at, bytes_len(&body));
    record.body =
        slice_of(moved + moved_len + RECORD_HEADER_LEN, bytes_len(&body));
    record_finish(moved + moved_len, &record);
    moved_len += record_size(bytes_len(&body));
    bytes_fini(&body);
}

static enum status append_moved(struct store_commit *commit,
                                struct store_span *span)
{
    *span = (struct store_span) { .at = moved, .len = moved_len };
    h.now_us += 1000;
    return store_append_merge(h.store, span, h.now_us, commit, &h.err);
}

static struct store_commit must_append(void)
{
    struct store_commit commit;
    struct store_span span;

    cr_assert(eq(int, append_moved(&commit, &span), STATUS_OK), "%s",
              h.err.text);
    cr_assert(eq(sz, span.taken, moved_len));
    moved_len = 0;
    return commit;
}

static struct batch read_back(const struct store_commit *commit)
{
    struct segment *segment = log_segment(&h.store->log, commit->segment);
    struct batch_source source = segment_source(segment, &h.store->log);
    struct batch batch;

    cr_assert(eq(int, batch_read(&source, commit->offset, &batch), STATUS_OK));
    cr_assert(eq(int, (int)batch.header.kind, BATCH_MERGE));
    cr_assert(batch_vouches_for_records(&batch, h.store->log.store_id));
    return batch;
}

/* Message number i of the run, by the batch's own tables. */
static void check_run(const struct batch *batch, uint32_t number,
                      struct store_run right)
{
    struct store_run run;

    cr_assert(eq(int, batch_run(batch, number, &run), STATUS_OK));
    cr_assert(eq(u32, run.topic, right.topic));
    cr_assert(eq(u32, run.count, right.count));
    cr_assert(eq(u64, run.first_seq, right.first_seq));
    for (uint32_t i = 0; i < run.count; i++) {
        uint32_t offset = get_u32(batch->base + run.table + (size_t)i * 4);
        struct record record;
        cr_assert(eq(int,
                     record_read(slice_of(batch->base + offset,
                                          batch->header.offset
                                              + batch->header.len - offset),
                                 &record),
                     STATUS_OK));
        cr_assert(eq(u32, record.topic, run.topic));
        cr_assert(eq(u64, record.seq, run.first_seq + i));
        cr_assert(slice_is(record.body, text_of(record.topic, record.seq)));
    }
}

static struct store_run run_of(uint32_t topic, uint64_t first, uint32_t count)
{
    return (struct store_run) { .topic = topic,
                                .first_seq = first,
                                .count = count };
}

/* ---- what is written ---- */

/* 2 3, then of another topic, 4, and behind a hole 7 8 and once more 1. */
Test(moved, runs_are_cut_at_holes_and_kept_over_other_topics)
{
    static const uint64_t seqs[] = { 2, 3, 0, 4, 7, 8, 0, 1 };
    struct store_commit commit;
    struct batch batch;

    publish(5, 8);
    publish(6, 3);
    for (size_t i = 0, other = 1; i < COUNT_OF(seqs); i++) {
        if (seqs[i] == 0) {
            move(6, other);
            other += 2;
        } else {
            move(5, seqs[i]);
        }
    }
    commit = must_append();
    cr_assert(eq(u32, commit.record_count, COUNT_OF(seqs)));
    batch = read_back(&commit);
    cr_assert(eq(u32, batch.run_count, 5));
    check_run(&batch, 0, run_of(5, 2, 3));
    check_run(&batch, 1, run_of(6, 1, 1));
    check_run(&batch, 2, run_of(5, 7, 2));
    check_run(&batch, 3, run_of(6, 3, 1));
    check_run(&batch, 4, run_of(5, 1, 1));
}

Test(moved, a_message_keeps_every_byte)
{
    struct store_commit commit;
    struct batch batch;
    struct slice record;
    size_t size;
    uint32_t at = 0;

    add_sent(&h, 5, "idempotent", 44, 7);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    h.now_us += 1000000;
    move(5, 1);
    size = moved_len;
    commit = must_append();
    batch = read_back(&commit);
    cr_assert(batch_next(&batch, &at, &record));
    cr_assert(eq(sz, record.len, size));
    cr_assert(eq(int, memcmp(record.at, moved, size), 0));
}

Test(moved, nothing_is_numbered_or_dropped)
{
    struct store_commit commit;
    uint8_t flags;

    add_sent(&h, 5, "one", 44, 7);
    add_sent(&h, 5, "two", 44, 8);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    move(5, 1);
    move(5, 1);
    commit = must_append();
    cr_assert(eq(u32, commit.record_count, 2));
    add_sent(&h, 5, "three", 44, 9);
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u64, record_seq_at(h.buffer), 3));
    flags = record_flags_at(h.buffer);
    cr_assert(eq(u8, flags, 0));
}

Test(moved, a_trim_gets_its_time_and_is_visited)
{
    struct store_commit commit;
    struct record record;
    struct record_trim trim;
    struct batch batch;

    publish(5, 3);
    move(5, 2);
    move_trim(5, 2, 3);
    commit = must_append();
    batch = read_back(&commit);
    cr_assert(eq(u32, batch.visit_count, 1));
    cr_assert(eq(int, record_read(batch_visit(&batch, 0), &record), STATUS_OK));
    cr_assert(eq(int, (int)record.kind, RECORD_TRIM));
    cr_assert(eq(u64, record.time_us, h.now_us));
    cr_assert(eq(int, trim_read(record.body, &trim), STATUS_OK));
    cr_assert(eq(u64, trim.first_seq, 2));
}

Test(moved, a_trim_is_visited_however_it_comes)
{
    struct store_commit commit;
    struct store_span span;
    struct segment *segment;
    struct batch_source source;
    struct batch batch;

    move_trim(5, 2, 3);
    span = (struct store_span) { .at = moved, .len = moved_len };
    cr_assert(eq(int, store_append(h.store, &span, 1, 9, &commit, &h.err),
                 STATUS_OK));
    segment = log_segment(&h.store->log, commit.segment);
    source = segment_source(segment, &h.store->log);
    cr_assert(eq(int, batch_read(&source, commit.offset, &batch), STATUS_OK));
    cr_assert(eq(int, (int)batch.header.kind, BATCH_RECORDS));
    cr_assert(eq(u32, batch.visit_count, 1));
}

Test(moved, nothing_to_move_writes_nothing)
{
    struct store_commit commit = must_append();

    cr_assert(eq(u32, commit.record_count, 0));
}

/* The walk that does without an index finds the same. */
Test(moved, without_its_index_a_batch_is_walked)
{
    struct store_commit commit;
    char path[600];

    publish(5, 6);
    move(5, 2);
    move(5, 5);
    move_trim(5, 2, 2);
    commit = must_append();
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    publish(7, 1); /* what comes later says that it was durable */
    harness_kill(&h);
    harness_delete_keydir(&h);
    segment_file(&h, commit.segment, path, sizeof path);
    flip_bit(path, commit.offset + commit.len - 9, 0);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(gt(u64, h.recovery.damaged_bytes, 0));
    cr_assert(eq(u64, h.recovery.damaged_batches, 0));
    for (uint64_t seq = 2; seq <= 6; seq++) {
        cr_assert(
            eq(str, (char *)message_text(&h, 5, seq), (char *)text_of(5, seq)));
    }
}

/* ---- where spans begin ---- */

Test(moved, a_span_says_where_its_first_record_stands)
{
    struct store_commit commit;
    struct store_span spans[3] = { 0 };
    size_t first;
    size_t second;

    add_sent(&h, 1, "a", 7, 1);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    add_sent(&h, 1, "a", 7, 1); /* a duplicate: not written */
    add_message(&h, 1, "b");
    first = h.len;
    add_sent(&h, 1, "a", 7, 1); /* nothing else in this span */
    second = h.len;
    add_message(&h, 2, "c");
    spans[0] = (struct store_span) { .at = h.buffer, .len = first };
    spans[1] =
        (struct store_span) { .at = h.buffer + first, .len = second - first };
    spans[2] =
        (struct store_span) { .at = h.buffer + second, .len = h.len - second };
    spans[1].offset = 99;
    cr_assert(eq(int, store_append(h.store, spans, 3, 9, &commit, &h.err),
                 STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 2));
    cr_assert(eq(u32, spans[0].offset, commit.offset + BATCH_HEADER_LEN));
    cr_assert(eq(u32, spans[1].offset, 0));
    cr_assert(
        eq(u32, spans[2].offset, spans[0].offset + (uint32_t)record_size(1)));
    move(1, 1);
    spans[0] = (struct store_span) { .at = moved, .len = moved_len };
    cr_assert(eq(int,
                 store_append_merge(h.store, &spans[0], 9, &commit, &h.err),
                 STATUS_OK));
    cr_assert(eq(u32, spans[0].offset, commit.offset + BATCH_HEADER_LEN));
    h.len = 0;
}

/* ---- space ---- */

/* More than one batch may hold, and more than what is left of the segment. */
Test(moved, what_does_not_fit_is_taken_by_the_next_call)
{
    struct store_commit commit;
    struct store_span span;
    uint32_t records = 0;
    uint32_t batches = 0;
    uint32_t segment = 0;
    bool went_on = false;

    for (int i = 0; i < 40; i++) {
        add_sized(&h, 5, 3000, 'x');
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    for (uint64_t seq = 1; seq <= 40; seq++) {
        move(5, seq);
    }
    span = (struct store_span) { .at = moved, .len = moved_len };
    while (span.len > 0) {
        cr_assert(eq(int,
                     store_append_merge(h.store, &span, 9, &commit, &h.err),
                     STATUS_OK));
        cr_assert(gt(sz, span.taken, 0));
        went_on = went_on || (segment != 0 && segment != commit.segment);
        segment = commit.segment;
        records += commit.record_count;
        batches++;
        span.at += span.taken;
        span.len -= span.taken;
    }
    cr_assert(eq(u32, records, 40));
    cr_assert(gt(u32, batches, 1));
    cr_assert(went_on);
}

/* Fill the segment with messages until they are refused. */
static void fill_disk(void)
{
    struct store_commit commit;

    faulty.no_space = true;
    do {
        add_sized(&h, 5, 1000, 'x');
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
        h.now_us += 1000 * 1000;
    } while (commit.record_count > 0);
    cr_assert(store_space_low(h.store));
}

Test(moved, a_merge_goes_on_into_the_reserve_until_it_is_full)
{
    struct store_commit commit;
    struct store_span span;
    enum status status;
    int count = 0;

    publish(6, 1);
    fill_disk();
    move(6, 1);
    do {
        status = append_moved(&commit, &span);
        count += status == STATUS_OK;
    } while (status == STATUS_OK && count < 10000);
    cr_assert(gt(i32, count, 5));
    cr_assert(eq(int, status, STATUS_NO_SPACE));
    cr_assert(eq(sz, span.taken, 0));
    cr_assert(eq(u32, commit.record_count, 0));
    cr_assert(not(store_frozen(h.store)));
    faulty.no_space = false;
    h.now_us += 1000 * 1000;
    cr_assert(eq(int, append_moved(&commit, &span), STATUS_OK), "%s",
              h.err.text);
    cr_assert(eq(sz, span.taken, moved_len));
}

Test(moved, a_frozen_store_moves_nothing)
{
    struct store_commit commit;
    struct store_span span;

    publish(5, 2);
    move(5, 1);
    faulty_vfs_arm(&faulty, (struct faulty_plan) { FAULTY_WRITE, 1, false, 5 });
    cr_assert(eq(int, append_moved(&commit, &span), STATUS_IO));
    cr_assert(eq(int, append_moved(&commit, &span), STATUS_FROZEN));
    faulty_vfs_disarm(&faulty);
}

/* ---- after a kill ---- */

/* Written, never synced: the next start writes it again as what it is. */
Test(moved, a_doubtful_tail_keeps_its_kind)
{
    struct store_commit commit = { 0 };
    uint64_t last;

    publish(5, 8);
    last = last_seq(&h, 5);
    move(5, 7);
    move(5, 2);
    move(5, 3);
    (void)must_append();
    add_message(&h, 5, text_of(5, 9));
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    for (int life = 0; life < 2; life++) {
        struct batch batch;
        harness_kill(&h);
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
        cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
        if (life == 0) {
            cr_assert(eq(u64, h.recovery.rescued_records, 4));
            commit =
                (struct store_commit) { .segment =
                                            h.store->journal.active->header.id,
                                        .offset = SEGMENT_BEGIN };
        }
        batch = read_back(&commit);
        cr_assert(eq(u32, batch.run_count, 2));
        check_run(&batch, 0, run_of(5, 7, 1));
        check_run(&batch, 1, run_of(5, 2, 2));
        cr_assert(eq(u64, last_seq(&h, 5), last + 1));
        for (uint64_t seq = 1; seq <= last + 1; seq++) {
            cr_assert(eq(str, (char *)message_text(&h, 5, seq),
                         (char *)text_of(5, seq)));
        }
        harness_close(&h);
        harness_delete_keydir(&h);
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    }
}
