/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/faulty_vfs.c */

/* Bytes that changed at rest, files cut, missing or strange: found, only that
 * lost, never a crash, never a message with other bytes. */
#include "test/lib/faulty_vfs.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include "proto/bytes.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* BATCHES commits with two messages and an ack each. */
enum { TOPIC = 2, GROUP = 6, BATCHES = 12, PER_BATCH = 2 };

static struct harness h;
static char saved[512];

static void body_of(uint64_t seq, char body[64])
{
    snprintf(body, 64, "message number %d stands here", (int)seq);
}

static void fill(void)
{
    for (uint64_t i = 0; i < BATCHES; i++) {
        char body[64];
        for (uint64_t k = 1; k <= PER_BATCH; k++) {
            body_of(i * PER_BATCH + k, body);
            add_message(&h, TOPIC, body);
        }
        add_ack(&h, GROUP, TOPIC, i * PER_BATCH + 1, i * PER_BATCH + 1);
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
}

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 32 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    fill();
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(damage, .init = set_up, .fini = tear_down, .timeout = 280);

/* How many of all messages can be read; each must be what was written. */
static uint64_t count_readable(uint64_t total)
{
    uint64_t readable = 0;

    for (uint64_t seq = 1; seq <= total; seq++) {
        char body[64];
        const char *text = message_text(&h, TOPIC, seq);
        body_of(seq, body);
        if (strcmp(text, body) == 0) {
            readable++;
        } else {
            cr_assert(strcmp(text, "") == 0 || strcmp(text, "?") == 0,
                      "message %d has other bytes: %s", (int)seq, text);
        }
    }
    return readable;
}

static void path_of_segment(char path[600])
{
    segment_file(&h, 1, path, 600);
}

/* Close cleanly, damage, open with the keydir or without. */
static void close_and_flip(uint64_t offset, bool delete_keydir)
{
    char path[600];

    harness_close(&h);
    path_of_segment(path);
    flip_bit(path, offset, 3);
    if (delete_keydir) {
        harness_delete_keydir(&h);
    }
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static uint64_t offset_of_message(uint64_t seq)
{
    char path[600];
    char body[64];

    path_of_segment(path);
    body_of(seq, body);
    return find_in_file(path, body);
}

/* The first batch begins behind the segment's first block. */
static uint64_t offset_of_batch(uint64_t number)
{
    uint8_t header[128];
    char path[600];
    uint64_t at = 4096;
    int fd;

    path_of_segment(path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(ge(int, fd, 0));
    for (uint64_t i = 0; i < number; i++) {
        cr_assert(eq(sz, (size_t)pread(fd, header, sizeof header, (off_t)at),
                     sizeof header));
        at += get_u32(header + 52);
    }
    close(fd);
    return at;
}

static uint64_t offset_of_index(uint64_t number)
{
    uint8_t header[128];
    char path[600];
    uint64_t at = offset_of_batch(number);
    int fd;

    path_of_segment(path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(sz, (size_t)pread(fd, header, sizeof header, (off_t)at),
                 sizeof header));
    close(fd);
    return at + sizeof header + get_u32(header + 56);
}

static const uint64_t total = BATCHES * PER_BATCH;

/* ---- one flipped bit, in each kind of place ---- */

Test(damage, in_a_body_loses_that_message)
{
    for (int pass = 0; pass < 2; pass++) {
        struct store_stats stats;
        if (pass == 0) {
            close_and_flip(offset_of_message(5), false);
        } else {
            harness_close(&h);
            harness_delete_keydir(&h);
            cr_assert(eq(int, harness_open(&h), STATUS_OK));
            cr_assert(gt(u64, h.recovery.damaged_bytes, 0));
            cr_assert(eq(u64, h.recovery.damaged_batches, 0));
        }
        cr_assert(eq(u64, count_readable(total), total - 1));
        cr_assert(eq(str, (char *)message_text(&h, TOPIC, 5), "?"));
        store_stats(h.store, &stats);
        cr_assert(gt(u64, stats.corrupt_reads, 0));
        cr_assert(eq(u64, last_seq(&h, TOPIC), total));
    }
}

Test(damage, in_a_records_header_loses_that_message)
{
    close_and_flip(offset_of_message(5) - 64 + 16, false);
    cr_assert(eq(u64, count_readable(total), total - 1));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(ge(u64, count_readable(total), total - PER_BATCH));
}

Test(damage, in_a_batch_header_loses_at_most_that_batch)
{
    close_and_flip(offset_of_batch(4) + 80, false);
    cr_assert(eq(u64, count_readable(total), total));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(eq(u64, h.recovery.damaged_batches, 1));
    cr_assert(eq(u64, count_readable(total), total - PER_BATCH));
    cr_assert(eq(u64, last_seq(&h, TOPIC), total));
}

/* What is gone is stepped over: the reader learns where to go on. */
Test(damage, a_lost_batch_says_which_message_is_next)
{
    struct record record;
    uint64_t next = 0;

    harness_close(&h);
    harness_delete_keydir(&h);
    {
        char path[600];
        path_of_segment(path);
        flip_bit(path, offset_of_batch(4) + 80, 0);
    }
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(
        eq(int, message_at(&h, TOPIC, 9, &record, &next), STATUS_NOT_FOUND));
    cr_assert(eq(u64, next, 11));
}

/* The records are whole, so they are found without the index. */
Test(damage, in_an_index_loses_nothing)
{
    close_and_flip(offset_of_index(3) + 8 + 16, false);
    cr_assert(eq(u64, count_readable(total), total));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(gt(u64, h.recovery.damaged_bytes, 0));
    cr_assert(eq(u64, count_readable(total), total));
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC),
                 "1-1,3-3,5-5,7-7,9-9,11-11,13-13,15-15,17-17,19-19,21-21,"
                 "23-23"));
}

Test(damage, in_a_segment_header_loses_nothing)
{
    for (uint64_t offset = 0; offset < 60; offset += 7) {
        close_and_flip(offset, offset % 2 == 0);
        cr_assert(gt(u64, h.recovery.damaged_bytes, 0));
        cr_assert(eq(u64, count_readable(total), total));
    }
}

Test(damage, in_both_halves_of_a_segment_header_loses_nothing)
{
    char path[600];

    harness_close(&h);
    path_of_segment(path);
    flip_bit(path, 20, 1);
    flip_bit(path, 2048 + 30, 1);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, count_readable(total), total));
    add_message(&h, TOPIC, "goes on");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_reopen(&h);
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, total + 1), "goes on"));
}

Test(damage, in_one_half_of_the_format_file_loses_nothing)
{
    char path[600];

    harness_close(&h);
    snprintf(path, sizeof path, "%s/format", h.dir);
    flip_bit(path, 17, 5);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, count_readable(total), total));
    harness_close(&h);
    flip_bit(path, 2048 + 17, 5);
    cr_assert(eq(int, harness_open(&h), STATUS_CORRUPT));
    cr_assert(strstr(h.err.text, "format is damaged") != NULL);
}

/* ---- everywhere ---- */

static void save(void)
{
    harness_kill(&h);
    tmpdir_make(saved, sizeof saved);
    tmpdir_copy(h.dir, saved);
}

static void restore(void)
{
    harness_close(&h);
    tmpdir_remove(h.dir);
    cr_assert(eq(int, mkdir(h.dir, 0700), 0));
    tmpdir_copy(saved, h.dir);
}

/* Killed, so that all of it is replayed. The last batch was not yet known to be
 * durable: damaged, it cannot be told from one that was torn. */
Test(damage, of_any_byte_loses_at_most_its_batch)
{
    char path[600];
    uint64_t end = offset_of_batch(BATCHES);
    uint64_t last = offset_of_batch(BATCHES - 1);
    uint64_t seed = random_seed();
    uint64_t state = seed;

    fprintf(stderr, "GODWIT_SEED=%llu\n", (unsigned long long)seed);
    save();
    for (uint64_t offset = 0; offset < end;
         offset += offset < 4096 ? 97 : 1 + random_next(&state) % 9) {
        uint64_t readable;
        restore();
        path_of_segment(path);
        flip_bit(path, offset, (int)(random_next(&state) % 8));
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "offset %d: %s",
                  (int)offset, h.err.text);
        readable = count_readable(total);
        cr_assert(ge(u64, readable, total - PER_BATCH), "offset %d: %d left",
                  (int)offset, (int)readable);
        if (readable < total && offset < last) {
            cr_assert(gt(u64, h.recovery.damaged_bytes, 0), "offset %d",
                      (int)offset);
        }
        if (readable < total && offset >= last) {
            cr_assert(gt(u64, h.recovery.torn_bytes, 0), "offset %d",
                      (int)offset);
            cr_assert(
                eq(u64, h.recovery.torn_batches, offset >= last + 128 ? 1 : 0),
                "offset %d", (int)offset);
        }
        add_message(&h, TOPIC, "goes on");
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    tmpdir_remove(saved);
}

Test(damage, a_file_cut_anywhere_keeps_what_is_before)
{
    char path[600];
    uint64_t end = offset_of_batch(BATCHES);
    uint64_t starts[BATCHES + 1];

    for (uint64_t i = 0; i <= BATCHES; i++) {
        starts[i] = offset_of_batch(i);
    }
    save();
    for (uint64_t len = 0; len <= end; len += len < 4096 ? 512 : 13) {
        uint64_t whole = 0;
        restore();
        path_of_segment(path);
        cr_assert(eq(int, truncate(path, (off_t)len), 0));
        harness_delete_keydir(&h);
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "len %d: %s", (int)len,
                  h.err.text);
        while (whole < BATCHES && starts[whole + 1] <= len) {
            whole++;
        }
        cr_assert(eq(u64, count_readable(total), whole * PER_BATCH), "len %d",
                  (int)len);
        add_message(&h, TOPIC, "goes on");
        cr_assert(eq(int, harness_commit(&h), STATUS_OK), "len %d", (int)len);
        harness_reopen(&h);
    }
    tmpdir_remove(saved);
}

/* ---- whole files ---- */

static void write_file(const char *name, size_t len)
{
    char path[700];
    int fd;

    snprintf(path, sizeof path, "%s/log/%s", h.dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    while (len-- > 0) {
        cr_assert(eq(sz, (size_t)write(fd, "x", 1), 1));
    }
    close(fd);
}

Test(damage, foreign_files_in_the_log_are_left_alone)
{
    char path[600];

    harness_kill(&h);
    write_file("README", 10);
    write_file("0000000002.seg.bak", 10);
    write_file("00000002.seg", 10);
    write_file("0000000002.seg", 0);
    write_file("0000000003.seg", 6000);
    write_file("9999999999.seg", 10);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, count_readable(total), total));
    add_message(&h, TOPIC, "goes on");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_reopen(&h);
    cr_assert(eq(u64, count_readable(total), total));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, total + 1), "goes on"));
    segment_file(&h, 3, path, sizeof path);
    cr_assert(eq(u64, file_len(path), 6000));
}

static void fill_segments(void)
{
    for (int i = 0; i < 100; i++) {
        add_sized(&h, TOPIC, 1000, 'z');
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
}

Test(damage, a_missing_segment_is_reported_and_the_rest_is_there)
{
    struct record record;
    uint64_t next = 0;
    char path[600];

    fill_segments();
    harness_close(&h);
    segment_file(&h, 2, path, sizeof path);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.missing_segments, 1));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 60), "?"));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.missing_segments, 1));
    cr_assert(eq(u64, count_readable(total), total));
    cr_assert(
        eq(int, message_at(&h, TOPIC, 60, &record, &next), STATUS_NOT_FOUND));
    cr_assert(gt(u64, next, 60));
    cr_assert(
        eq(int, message_at(&h, TOPIC, total + 100, &record, NULL), STATUS_OK));
}

/* Under a running store: no signal, and what is left is still read. */
Test(damage, a_file_cut_while_it_is_open_kills_nobody)
{
    uint64_t readable = 0;
    char path[600];

    for (int i = 0; i < 10; i++) {
        add_sized(&h, TOPIC, 1500, 'z');
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(int, truncate(path, 8192), 0));
    for (uint64_t seq = 1; seq <= total + 10; seq++) {
        struct record record;
        enum status status = message_at(&h, TOPIC, seq, &record, NULL);
        cr_assert(status == STATUS_OK || status == STATUS_CORRUPT);
        readable += status == STATUS_OK;
    }
    cr_assert(gt(u64, readable, 5));
    cr_assert(lt(u64, readable, total + 10));
}

Test(damage, a_batch_cut_before_it_is_noted_freezes_the_store)
{
    struct store_commit commit;
    char path[600];

    add_sized(&h, TOPIC, 9000, 'z');
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(int, truncate(path, 8192), 0));
    cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_IO));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_IO));
    cr_assert(store_frozen(h.store));
}

/* Both messages and acks are in the keydir, and the log behind them is cut. */
static void known_then_cut(bool clean, bool gone)
{
    uint64_t seq;
    char path[600];
    char lane[512];
    uint32_t last = 1;

    if (gone) {
        fill_segments();
    }
    add_ack(&h, GROUP, TOPIC, 1, 3);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    seq = last_seq(&h, TOPIC);
    snprintf(lane, sizeof lane, "%s", lane_text(&h, GROUP, TOPIC));
    cr_assert(eq(int, strncmp(lane, "1-3,", 4), 0));
    if (clean) {
        harness_close(&h);
    } else {
        harness_kill(&h);
    }
    for (segment_file(&h, last + 1, path, sizeof path);
         gone && access(path, F_OK) == 0;
         segment_file(&h, last + 1, path, sizeof path)) {
        last++;
    }
    if (gone) { /* the last one with something in it, and what was prepared */
        cr_assert(gt(u32, last, 2));
        for (uint32_t id = 2; id <= last; id++) {
            segment_file(&h, id, path, sizeof path);
            cr_assert(eq(int, unlink(path), 0));
        }
    } else {
        segment_file(&h, 1, path, sizeof path);
        cr_assert(eq(int, truncate(path, (off_t)offset_of_batch(1)), 0));
    }
    for (int life = 0; life < 3; life++) {
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
        cr_assert(not(h.recovery.keydir_rebuilt));
        if (life == 0) {
            cr_assert(not(h.recovery.clean));
            cr_assert(gt(u64,
                         h.recovery.missing_segments + h.recovery.damaged_bytes,
                         0));
        }
        cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), lane));
        cr_assert(eq(u64, last_seq(&h, TOPIC), seq + (uint64_t)life));
        cr_assert(ne(str, (char *)message_text(&h, TOPIC, 1), "?"));
        cr_assert(eq(str, (char *)message_text(&h, TOPIC, seq), "?"));
        add_message(&h, TOPIC, "goes on");
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        cr_assert(eq(str,
                     (char *)message_text(&h, TOPIC, seq + 1 + (uint64_t)life),
                     "goes on"));
        if (life == 1) {
            harness_kill(&h);
        } else {
            harness_close(&h);
        }
    }
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, seq + 3), "goes on"));
}

Test(damage, a_log_cut_after_a_clean_end_is_no_silent_loss)
{
    known_then_cut(true, false);
}

Test(damage, a_log_cut_before_its_checkpoint_is_no_silent_loss)
{
    known_then_cut(false, false);
}

Test(damage, a_last_segment_that_is_gone_is_no_silent_loss)
{
    known_then_cut(true, true);
}

Test(damage, segments_gone_after_a_kill_are_no_silent_loss)
{
    known_then_cut(false, true);
}

Test(damage, a_segment_of_another_store_is_not_believed)
{
    struct harness other;
    char from[600];
    char to[600];

    harness_init(&other);
    other.config.segment_len = h.config.segment_len;
    cr_assert(eq(int, harness_open(&other), STATUS_OK));
    add_message(&other, TOPIC, "intruder");
    cr_assert(eq(int, harness_commit(&other), STATUS_OK));
    harness_kill(&other);
    segment_file(&other, 1, from, sizeof from);
    harness_kill(&h);
    segment_file(&h, 2, to, sizeof to);
    cr_assert(eq(int, rename(from, to), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.missing_segments, 1));
    cr_assert(eq(u64, count_readable(total), total));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, total + 1), ""));
    harness_fini(&other);
}

Test(damage, a_log_that_is_gone_altogether_is_refused)
{
    char path[600];

    harness_close(&h);
    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_CORRUPT));
    cr_assert(strstr(h.err.text, "the log is gone") != NULL);
}

Test(damage, a_log_without_its_format_file_is_refused)
{
    char path[600];

    harness_close(&h);
    snprintf(path, sizeof path, "%s/format", h.dir);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_CORRUPT));
    cr_assert(strstr(h.err.text, "no format file") != NULL);
}

/* ---- the keydir ---- */

Test(damage, a_strange_keydir_is_made_again)
{
    char path[600];
    int fd;

    for (int kind = 0; kind < 4; kind++) {
        harness_close(&h);
        snprintf(path, sizeof path, "%s/keydir/data.mdb", h.dir);
        if (kind == 0) {
            cr_assert(eq(int, truncate(path, 0), 0));
        } else if (kind == 1) {
            cr_assert(eq(int, truncate(path, 100), 0));
        } else if (kind == 2) {
            cr_assert(eq(int, truncate(path, 3 * 4096), 0));
        } else {
            fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
            cr_assert(ge(int, fd, 0));
            for (int i = 0; i < 4096; i++) {
                cr_assert(eq(sz, (size_t)write(fd, "garbage ", 8), 8));
            }
            close(fd);
        }
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "kind %d: %s", kind,
                  h.err.text);
        cr_assert(h.recovery.keydir_rebuilt, "kind %d", kind);
        cr_assert(eq(u64, count_readable(total), total));
    }
}

Test(damage, the_keydir_of_another_store_is_made_again)
{
    struct harness other;
    char from[600];
    char to[600];

    harness_init(&other);
    cr_assert(eq(int, harness_open(&other), STATUS_OK));
    harness_close(&other);
    harness_close(&h);
    harness_delete_keydir(&h);
    snprintf(from, sizeof from, "%s/keydir", other.dir);
    snprintf(to, sizeof to, "%s/keydir", h.dir);
    cr_assert(eq(int, rename(from, to), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(h.recovery.keydir_rebuilt);
    cr_assert(eq(u64, count_readable(total), total));
    harness_fini(&other);
}

/* Restored from an older backup: behind the log, so it is brought up to date. */
Test(damage, an_older_keydir_catches_up)
{
    char path[600];
    char copy[512];

    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    tmpdir_make(copy, sizeof copy);
    snprintf(path, sizeof path, "%s/keydir", h.dir);
    tmpdir_copy(path, copy);
    add_message(&h, TOPIC, "later");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, rename(copy, path), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(not(h.recovery.keydir_rebuilt));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, total + 1), "later"));
}

/* ---- errors while recovering ---- */

/* A start that fails changes nothing that the next one needs. */
Test(damage, a_recovery_that_fails_anywhere_can_be_repeated)
{
    struct faulty_vfs faulty;
    unsigned nth = 0;

    faulty_vfs_init(&faulty);
    save();
    do {
        restore();
        nth++;
        h.config.vfs = &faulty.vfs;
        faulty_vfs_arm(&faulty, (struct faulty_plan) { FAULTY_ALL, nth,
                                                       nth % 2 == 0, EIO });
        if (harness_open(&h) == STATUS_OK) {
            cr_assert(eq(u64, count_readable(total), total));
        }
        harness_close(&h);
        faulty_vfs_disarm(&faulty);
        h.config.vfs = NULL;
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "call %u: %s", nth,
                  h.err.text);
        cr_assert(eq(u64, count_readable(total), total), "call %u", nth);
        cr_assert(eq(u64, h.recovery.damaged_bytes, 0), "call %u", nth);
    } while (faulty.fired > 0);
    cr_assert(gt(u32, nth, 10));
    tmpdir_remove(saved);
}
