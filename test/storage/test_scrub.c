/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/faulty_vfs.c */

/* Bits that rot are found: by the walk over a segment's bytes, whichever bit it
 * is; by the scrub of a running store; by whoever reads the message. Each place
 * is counted once and named. */
#include "test/lib/faulty_vfs.h"
#include "test/storage/harness.h"

#include "storage/examine.h"
#include "storage/internal.h"
#include "storage/snapshot.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOPIC = 2, GROUP = 6, FIRST = 1 };

static struct harness h;
static struct faulty_vfs faulty;

static void must_commit(void)
{
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
}

/* Batches of two messages and an ack; every fourth has a fact and a retry. */
static void fill(uint64_t batches)
{
    uint64_t from = last_seq(&h, TOPIC);

    for (uint64_t i = 0; i < batches; i++) {
        char body[64];
        for (uint64_t k = 1; k <= 2; k++) {
            snprintf(body, sizeof body, "message number %d stands here",
                     (int)(from + 2 * i + k));
            add_message(&h, TOPIC, body);
        }
        add_ack(&h, GROUP, TOPIC, from + 2 * i + 1, from + 2 * i + 1);
        if (i % 4 == 0) {
            add_fact(&h, CATALOG_TOPIC, TOPIC, "name", "value", false);
            add_retry(&h, GROUP, TOPIC,
                      (struct retry) { from + 2 * i + 2, 1, 77 });
        }
        must_commit();
    }
}

static void set_up(void)
{
    harness_init(&h);
    faulty_vfs_init(&faulty);
    h.config.vfs = &faulty.vfs;
    h.config.segment_len = 32 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(scrub, .init = set_up, .fini = tear_down, .timeout = 120);

/* One whole pass, in calls of `budget` bytes; what it read. */
static uint64_t scrub_all(size_t budget)
{
    struct store_scrub scrub = { .budget = budget };
    uint64_t read = 0;
    int calls = 0;

    do {
        cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_OK),
                  "%s", h.err.text);
        read += scrub.read;
        cr_assert(lt(int, calls++, 100000));
    } while (!scrub.done);
    return read;
}

static uint64_t seen(struct store_damage *out, size_t room)
{
    uint64_t next = 0;

    return store_damage_seen(h.store, &next, out, room);
}

static void path_of(uint32_t id, char path[600])
{
    segment_file(&h, id, path, 600);
}

static void flip(uint32_t id, uint64_t offset)
{
    char path[600];

    path_of(id, path);
    flip_bit(path, offset, 5);
}

static uint64_t place_of_text(uint32_t id, const char *text)
{
    char path[600];

    path_of(id, path);
    return find_in_file(path, text);
}

static bool wants_snapshot(void)
{
    return atomic_exchange(&h.store->snapshot_wanted, false);
}

/* ---- every bit ---- */

struct found {
    uint64_t damages;
    uint64_t records;
    struct store_damage last;
};

static void count_damage(void *arg, const struct store_damage *damage)
{
    struct found *found = arg;

    found->damages++;
    found->last = *damage;
}

static void count_record(void *arg, const struct batch *batch,
                         const struct record *record, uint32_t offset)
{
    struct found *found = arg;

    (void)batch;
    (void)record;
    (void)offset;
    found->records++;
}

static struct found examine_bytes(const uint8_t *bytes, uint32_t id,
                                  uint32_t end)
{
    struct found found = { 0 };
    struct examine_visitor visitor = { .damage = count_damage,
                                       .record = count_record,
                                       .arg = &found };
    struct examine e = {
        .source = { bytes, end, id, h.store->log.store_id },
        .visitor = &visitor,
        .at = SEGMENT_BEGIN,
        .loaded = end,
    };

    examine_head(&e, bytes);
    while (examine_next(&e) == EXAMINE_BATCH) {
    }
    return found;
}

/* One past the last batch of a segment, and its bytes. */
static uint32_t load(uint32_t id, uint8_t **bytes)
{
    char path[600];
    uint32_t end = atomic_load(&log_segment(&h.store->log, id)->end);
    int fd;

    path_of(id, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    *bytes = malloc(end);
    cr_assert(ne(ptr, *bytes, NULL));
    cr_assert(eq(sz, (size_t)pread(fd, *bytes, end, 0), end));
    close(fd);
    return end;
}

/* How many flipped bits of bytes 0..len the walk over bytes 0..end does not
 * see. Also: never a record more than were written, and none lost but those of
 * the batch that the bit is in. */
static uint64_t missed(uint32_t id, uint8_t *bytes, uint32_t len, uint32_t end,
                       uint64_t step)
{
    struct found whole = examine_bytes(bytes, id, end);
    uint64_t count = 0;

    cr_assert(eq(u64, whole.damages, 0));
    cr_assert(gt(u64, whole.records, 20));
    for (uint64_t bit = 0; bit < (uint64_t)len * 8; bit += step) {
        struct found found;
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        found = examine_bytes(bytes, id, end);
        count += found.damages == 0;
        cr_assert(le(u64, found.records, whole.records));
        cr_assert(ge(u64, found.records + 5, whole.records), "bit %llu",
                  (unsigned long long)bit);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
    }
    return count;
}

static void flip_each(uint32_t id, uint64_t step)
{
    uint8_t *bytes;
    uint32_t end = load(id, &bytes);

    cr_assert(eq(u64, missed(id, bytes, end, end, step), 0));
    free(bytes);
}

/* The planted bug: the last batch is not looked at. */
Test(scrub, a_walk_that_stops_early_is_caught)
{
    uint32_t before;
    uint32_t end;
    uint8_t *bytes;

    fill(12);
    before = atomic_load(&h.store->journal.active->end);
    fill(1);
    end = load(FIRST, &bytes);
    cr_assert(eq(u64, missed(FIRST, bytes, end, before, 1),
                 (uint64_t)(end - before) * 8));
    free(bytes);
}

Test(scrub, every_bit_of_the_active_segment_is_found)
{
    fill(12);
    flip_each(FIRST, 1);
}

Test(scrub, every_bit_of_a_sealed_segment_is_found)
{
    fill(90);
    cr_assert(gt(u64, h.store->journal.active->header.id, FIRST));
    flip_each(FIRST, 7);
}

/* ---- a running store ---- */

Test(scrub, a_sound_log_is_read_whole_and_has_no_damage)
{
    struct store_stats stats;
    uint64_t once;

    fill(90);
    once = scrub_all(SIZE_MAX);
    cr_assert(gt(u64, once, 32 * 1024));
    for (size_t budget = 1; budget < 1000000; budget *= 37) {
        cr_assert(eq(u64, scrub_all(budget), once));
    }
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.scrub_passes, 5));
    cr_assert(eq(u64, stats.scrubbed_bytes, 5 * once));
    cr_assert(eq(u64, stats.damaged_records + stats.damaged_batches, 0));
    cr_assert(not(wants_snapshot()));
}

Test(scrub, nothing_is_read_without_a_budget)
{
    struct store_scrub scrub = { 0 };

    fill(1);
    cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_OK));
    cr_assert(eq(sz, scrub.read, 0));
    cr_assert(not(scrub.done));
}

Test(scrub, a_message_is_named_and_counted_once)
{
    struct store_damage damage;
    struct store_stats stats;

    fill(4);
    flip(FIRST, place_of_text(FIRST, "message number 5"));
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(&damage, 1), 1));
    cr_assert(eq(int, (int)damage.kind, DAMAGE_MESSAGE));
    cr_assert(eq(u32, damage.topic, TOPIC));
    cr_assert(eq(u64, damage.seq, 5));
    cr_assert(eq(u32, damage.segment, FIRST));
    cr_assert(not(wants_snapshot()));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 5), "?"));
    scrub_all(1000);
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_records, 1));
    cr_assert(eq(u64, stats.damaged_batches, 0));
}

Test(scrub, a_reader_finds_it_first)
{
    struct store_damage damage[2];
    struct store_stats stats;

    fill(4);
    flip(FIRST, place_of_text(FIRST, "message number 5") - 64 + 16);
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 5), "?"));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 5), "?"));
    cr_assert(eq(u64, seen(damage, 2), 1));
    cr_assert(eq(u64, damage[0].seq, 5));
    cr_assert(eq(u32, damage[0].len, 0)); /* its header is what is damaged */
    scrub_all(SIZE_MAX);
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_records, 1));
    cr_assert(eq(u64, stats.corrupt_reads, 2));
}

static void cr_same_place(const struct store_damage *a,
                          const struct store_damage *b)
{
    cr_assert(eq(int, (int)a->kind, (int)b->kind));
    cr_assert(eq(u32, a->segment, b->segment));
    cr_assert(eq(u32, a->offset, b->offset));
    cr_assert(eq(u32, a->len, b->len));
    cr_assert(eq(u32, a->topic, b->topic));
    cr_assert(eq(u64, a->seq, b->seq));
}

/* One store reads the message, the other scrubs it. */
Test(scrub, a_reader_names_the_place_as_the_scrub_does)
{
    struct store_damage damage[2];

    fill(4);
    flip(FIRST, place_of_text(FIRST, "message number 5"));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 5), "?"));
    cr_assert(eq(u64, seen(damage, 2), 1));
    cr_assert(gt(u32, damage[0].len, 64));
    harness_reopen(&h);
    cr_assert(eq(u64, seen(damage + 1, 1), 0));
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(damage + 1, 1), 1));
    cr_same_place(&damage[0], &damage[1]);
}

Test(scrub, what_is_not_in_the_log_is_told_apart_but_has_no_place)
{
    struct store_damage damage[3];

    for (uint32_t number = 7; number <= 8; number++) {
        struct store_damage found = { .kind = DAMAGE_SNAPSHOT,
                                      .offset = number };
        cr_assert(store_damage_note(h.store, &found));
        cr_assert(not(store_damage_note(h.store, &found)));
    }
    cr_assert(eq(u64, seen(damage, 3), 2));
    cr_assert(eq(u32, damage[0].offset, 0));
    cr_assert(eq(u32, damage[1].offset, 0));
}

/* The table leads to another message: the batch is named, without a length. */
Test(scrub, a_reader_does_not_name_the_place_of_another_message)
{
    struct store_damage damage[2];
    struct batch_source source;
    struct store_run run;
    struct batch batch;

    fill(4);
    source = segment_source(log_segment(&h.store->log, FIRST), &h.store->log);
    cr_assert(eq(int, batch_read(&source, SEGMENT_BEGIN, &batch), STATUS_OK));
    cr_assert(eq(int, batch_run(&batch, 0, &run), STATUS_OK));
    cr_assert(eq(u64, run.first_seq, 1));
    run.first_seq = 5;
    store_damage_message(h.store, &run, 5, DAMAGE_MESSAGE);
    cr_assert(eq(u64, seen(damage, 2), 1));
    cr_assert(eq(u32, damage[0].offset, run.batch));
    cr_assert(eq(u32, damage[0].len, 0));
}

/* How many of the messages read as they were written; never one with other
 * bytes. */
static uint64_t count_good(uint64_t total)
{
    uint64_t good = 0;

    for (uint64_t seq = 1; seq <= total; seq++) {
        const char *got = message_text(&h, TOPIC, seq);
        char body[64];
        snprintf(body, sizeof body, "message number %d stands here", (int)seq);
        cr_assert(strcmp(got, "?") == 0 || strcmp(got, body) == 0, "%d: %s",
                  (int)seq, got);
        good += strcmp(got, body) == 0;
    }
    return good;
}

static void note_messages(void *arg, const struct batch *batch,
                          const struct record *record, uint32_t offset)
{
    bool *message = arg;

    (void)batch;
    if (record->kind == RECORD_MESSAGE) {
        memset(message + offset, true, RECORD_HEADER_LEN + record->body.len);
    }
}

/* A flipped bit in a message's record costs that message and is counted; any
 * other costs none, whatever its header, batch or index. */
Test(scrub, a_reader_notices_every_bit_of_a_message)
{
    struct examine_visitor visitor = { .record = note_messages };
    struct examine e = { .visitor = &visitor, .at = SEGMENT_BEGIN };
    bool *message;
    uint8_t *bytes;

    fill(8);
    e.loaded = e.source.limit = load(FIRST, &bytes);
    e.source.base = bytes;
    e.source.segment = FIRST;
    e.source.seed = h.store->log.store_id;
    message = calloc(e.loaded, sizeof *message);
    visitor.arg = message;
    while (examine_next(&e) == EXAMINE_BATCH) {
    }
    for (uint64_t bit = SEGMENT_BEGIN * 8; bit < (uint64_t)e.loaded * 8;
         bit += 11) {
        uint64_t before = atomic_load(&h.store->figures.corrupt_reads);
        char path[600];
        path_of(FIRST, path);
        flip_bit(path, bit / 8, (int)(bit % 8));
        cr_assert(eq(u64, count_good(16), message[bit / 8] ? 15 : 16), "bit %d",
                  (int)bit);
        cr_assert(eq(u64, atomic_load(&h.store->figures.corrupt_reads) - before,
                     message[bit / 8]));
        flip_bit(path, bit / 8, (int)(bit % 8));
    }
    free(message);
    free(bytes);
}

/* An ack that is damaged is known to the keydir: it asks for a snapshot. */
Test(scrub, other_records_ask_for_a_snapshot)
{
    struct store_damage damage;

    fill(4);
    flip(FIRST, place_of_text(FIRST, "namevalue"));
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(&damage, 1), 1));
    cr_assert(eq(int, (int)damage.kind, DAMAGE_RECORD));
    cr_assert(wants_snapshot());
    scrub_all(SIZE_MAX);
    cr_assert(not(wants_snapshot()), "asked again for a known place");
}

static uint64_t offset_of_batch(uint64_t number)
{
    uint8_t *bytes;
    uint64_t at = SEGMENT_BEGIN;

    load(FIRST, &bytes);
    while (number-- > 0) {
        at += get_u32(bytes + at + 52);
    }
    free(bytes);
    return at;
}

Test(scrub, each_kind_of_place_is_named)
{
    struct store_damage damage[8];
    struct store_stats stats;
    uint8_t *bytes;
    uint64_t at;

    fill(8);
    load(FIRST, &bytes);
    flip(FIRST, 3000);                    /* the head's second half */
    flip(FIRST, offset_of_batch(2) + 80); /* a header */
    at = offset_of_batch(4);              /* an index */
    flip(FIRST, at + 128 + get_u32(bytes + at + 56) + 4);
    at = place_of_text(FIRST, "message number 12");
    flip(FIRST, at + strlen("message number 12 stands here")); /* padding */
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(damage, 8), 4));
    cr_assert(eq(int, (int)damage[0].kind, DAMAGE_HEAD));
    cr_assert(eq(int, (int)damage[1].kind, DAMAGE_BATCH));
    cr_assert(eq(u32, damage[1].offset, (uint32_t)offset_of_batch(2)));
    cr_assert(eq(int, (int)damage[2].kind, DAMAGE_INDEX));
    cr_assert(eq(int, (int)damage[3].kind, DAMAGE_PADDING));
    cr_assert(eq(u64, damage[3].seq, 12));
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_batches, 3));
    cr_assert(eq(u64, stats.damaged_records, 1));
    free(bytes);
}

/* The reader walks the batch instead, and says why. */
Test(scrub, a_reader_names_a_damaged_index)
{
    struct store_damage damage[2];
    uint8_t *bytes;
    uint64_t at;

    fill(4);
    load(FIRST, &bytes);
    at = offset_of_batch(1);
    at += 128 + get_u32(bytes + at + 56); /* the index, then its table */
    flip(FIRST, at + BATCH_INDEX_HEAD_LEN + BATCH_RUN_LEN);
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 3),
                 "message number 3 stands here"));
    cr_assert(eq(u64, seen(damage, 2), 1));
    cr_assert(eq(int, (int)damage[0].kind, DAMAGE_INDEX));
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(damage, 2), 1));
    free(bytes);
}

/* A batch that stands whole where it was written, but not behind what it was
 * written behind: an older version of the disk's blocks. */
Test(scrub, a_break_in_the_chain_is_found)
{
    struct batch_source source;
    struct store_damage damage[4];
    struct batch batch;
    uint8_t header[BATCH_HEADER_LEN];
    uint8_t *bytes;
    char path[600];
    int fd;

    fill(4);
    source.limit = load(FIRST, &bytes);
    source.base = bytes;
    source.segment = FIRST;
    source.seed = h.store->log.store_id;
    cr_assert(eq(
        int, batch_read_header(&source, (uint32_t)offset_of_batch(2), &batch),
        STATUS_OK));
    batch.header.previous++;
    batch_header_write(header, &batch.header, source.seed);
    path_of(FIRST, path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert(
        eq(sz,
           (size_t)pwrite(fd, header, sizeof header, (off_t)offset_of_batch(2)),
           sizeof header));
    close(fd);
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(damage, 4), 2)); /* from it and to it */
    cr_assert(eq(int, (int)damage[0].kind, DAMAGE_CHAIN));
    cr_assert(wants_snapshot());
    free(bytes);
}

Test(scrub, bytes_cut_off_are_found)
{
    struct store_damage damage[4];
    uint64_t at;
    char path[600];

    fill(90);
    at = offset_of_batch(9);
    path_of(FIRST, path);
    cr_assert(eq(int, truncate(path, (off_t)at + 100), 0));
    scrub_all(SIZE_MAX);
    cr_assert(ge(u64, seen(damage, 4), 1));
    cr_assert(eq(int, (int)damage[0].kind, DAMAGE_BATCH));
    cr_assert(eq(u32, damage[0].offset, (uint32_t)at));
}

Test(scrub, goes_on_behind_what_does_not_read)
{
    struct store_scrub scrub = { .budget = 1 << 20 };
    struct store_damage damage[4];

    fill(90);
    faulty_vfs_arm(&faulty, (struct faulty_plan) {
                                .calls = FAULTY_READ, .nth = 1, .error = EIO });
    cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_IO));
    faulty_vfs_disarm(&faulty);
    cr_assert(eq(u64, seen(damage, 4), 2)); /* it did not read; no head */
    cr_assert(eq(int, (int)damage[0].kind, DAMAGE_READ));
    cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_OK));
    cr_assert(scrub.done);
    cr_assert(not(store_frozen(h.store)));
}

Test(scrub, what_cannot_be_opened_is_stepped_over)
{
    struct store_scrub scrub = { .budget = 1 << 20 };

    fill(90);
    faulty_vfs_arm(&faulty, (struct faulty_plan) {
                                .calls = FAULTY_OPEN, .nth = 1, .error = EIO });
    cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_IO));
    faulty_vfs_disarm(&faulty);
    cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_OK));
    cr_assert(scrub.done);
    cr_assert(gt(sz, scrub.read, 0));
}

/* What is written but not applied may not be durable yet. */
Test(scrub, the_end_that_is_not_durable_is_left_alone)
{
    struct store_commit commit;
    struct store_damage damage;

    fill(4);
    add_message(&h, TOPIC, "not synced yet");
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    flip(FIRST, place_of_text(FIRST, "not synced yet"));
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(&damage, 1), 0));
}

Test(scrub, a_segment_may_go_while_it_is_read)
{
    struct store_scrub scrub = { .budget = 1 };
    struct store_damage damage;
    struct segment *segment;
    uint64_t epoch;

    fill(200);
    cr_assert(gt(u64, h.store->journal.active->header.id, FIRST + 1));
    cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_OK));
    cr_assert(gt(sz, scrub.read, 0));
    segment = store_retire_begin(h.store, FIRST, &epoch);
    cr_assert(ne(ptr, segment, NULL));
    segment_free(segment, &h.store->log);
    while (!scrub.done) {
        cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_OK));
    }
    cr_assert(eq(u64, seen(&damage, 1), 0));
}

/* The segment behind it, which said where it ends, is gone. */
Test(scrub, a_segment_that_was_cut_has_a_length)
{
    struct store_damage damage;
    char path[600];
    uint64_t epoch;
    uint32_t end;
    uint32_t id;

    fill(30);
    id = h.store->journal.active->header.id;
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    fill(90);
    cr_assert(gt(u32, h.store->journal.active->header.id, id + 1));
    path_of(id, path);
    end = atomic_load(&log_segment(&h.store->log, id)->end);
    cr_assert(eq(int, truncate(path, end), 0));
    segment_free(store_retire_begin(h.store, id + 1, &epoch), &h.store->log);
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(&damage, 1), 0), "%s in segment %u at %u",
              store_damage_word(damage.kind), damage.segment, damage.offset);
}

Test(scrub, survives_a_restart_after_a_crash)
{
    struct store_damage damage;

    for (int i = 0; i < 4; i++) {
        fill(30);
        harness_kill(&h);
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    }
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(&damage, 1), 0), "%s in segment %u at %u",
              store_damage_word(damage.kind), damage.segment, damage.offset);
}

/* ---- beside the log ---- */

static void write_snapshot(void)
{
    struct snapshot_writer *writer;
    struct seqset gone = { 0 };
    bool done = false;

    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int,
                 snapshot_begin(&writer, vfs_system(), h.dir, h.store->keydir,
                                &gone, &h.err),
                 STATUS_OK));
    while (!done) {
        cr_assert(eq(int, snapshot_step(writer, 1 << 20, &done, NULL, &h.err),
                     STATUS_OK));
    }
    snapshot_end(writer);
}

Test(scrub, the_snapshot_is_looked_at)
{
    struct store_damage damage[2];
    char path[600];
    uint64_t offset;
    uint64_t without;

    fill(8);
    without = scrub_all(SIZE_MAX);
    write_snapshot();
    snprintf(path, sizeof path, "%s/snapshot", h.dir);
    cr_assert(ge(u64, scrub_all(SIZE_MAX), without + file_len(path)));
    cr_assert(eq(u64, seen(damage, 2), 0));
    offset = find_in_file(path, "namevalue");
    flip_bit(path, offset, 2);
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(damage, 2), 1));
    cr_assert(eq(int, (int)damage[0].kind, DAMAGE_SNAPSHOT));
    cr_assert(eq(u32, damage[0].offset, 0), "it is no place");
    cr_assert(wants_snapshot());
    scrub_all(SIZE_MAX);
    cr_assert(wants_snapshot(), "until there is a good one");
    write_snapshot();
    scrub_all(SIZE_MAX);
    cr_assert(not(wants_snapshot()));
    flip_bit(path, 100, 2);  /* its head, */
    flip_bit(path, 2148, 2); /* twice */
    scrub_all(SIZE_MAX);
    cr_assert(wants_snapshot());
}

Test(scrub, the_keydirs_values_are_looked_at)
{
    struct store_damage damage[2];
    char path[600];

    fill(8);
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    scrub_all(1);
    cr_assert(eq(u64, seen(damage, 2), 0));
    snprintf(path, sizeof path, "%s/keydir/data.mdb", h.dir);
    flip_bit(path, find_in_file(path, "namevalue"), 2);
    scrub_all(SIZE_MAX);
    cr_assert(eq(u64, seen(damage, 2), 1));
    cr_assert(eq(int, (int)damage[0].kind, DAMAGE_KEYDIR));
    snprintf(path, sizeof path, "%s/keydir.doubt", h.dir);
    cr_assert(eq(int, access(path, F_OK), 0), "the next start makes it anew");
}

/* ---- the list ---- */

Test(scrub, the_last_places_are_kept_and_all_are_told_apart)
{
    struct store_damage out[STORE_DAMAGE_KEPT + 1];
    struct store_stats stats;
    uint64_t next = 0;

    for (uint32_t i = 0; i < DAMAGE_PLACES_MAX; i++) {
        struct store_damage d = { .kind = DAMAGE_MESSAGE,
                                  .segment = 1,
                                  .offset = 4096 + 8 * i };
        cr_assert(store_damage_note(h.store, &d));
        cr_assert(not(store_damage_note(h.store, &d)));
    }
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_records, DAMAGE_PLACES_MAX));
    cr_assert(eq(sz, store_damage_seen(h.store, &next, out, COUNT_OF(out)),
                 STORE_DAMAGE_KEPT));
    cr_assert(eq(u64, next, DAMAGE_PLACES_MAX));
    cr_assert(eq(u32, out[0].offset,
                 4096 + 8 * (DAMAGE_PLACES_MAX - STORE_DAMAGE_KEPT)));
    cr_assert(eq(sz, store_damage_seen(h.store, &next, out, 1), 0));
    { /* one more than can be told apart: rather twice than never */
        struct store_damage d = { .kind = DAMAGE_MESSAGE, .segment = 2 };
        cr_assert(store_damage_note(h.store, &d));
        cr_assert(store_damage_note(h.store, &d));
    }
    cr_assert(eq(sz, store_damage_seen(h.store, &next, out, 1), 1));
    cr_assert(eq(u32, out[0].segment, 2));
}

Test(scrub, has_a_word_for_each_kind)
{
    cr_assert(eq(str, (char *)store_damage_word(DAMAGE_MESSAGE), "message"));
    cr_assert(
        eq(str, (char *)store_damage_word((enum damage_kind)99), "unknown"));
}

/* The scrub reads the active segment to its end, then the log goes on there and
 * into the next one: what stands in that follows batches it has not seen. */
Test(scrub, a_segment_that_grew_behind_the_scrub_is_no_damage)
{
    struct store_scrub scrub = { .budget = 1 };
    struct store_damage damage;

    fill(4);
    cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_OK));
    fill(100);
    (void)scrub_all(64 * 1024);
    cr_assert(eq(u64, seen(&damage, 1), 0), "%s",
              store_damage_word(damage.kind));
}
