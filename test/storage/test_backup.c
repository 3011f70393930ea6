/* links: godwit_offline godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/faulty_vfs.c */

/* Copies of a store and the way back: whole, or nothing is left of them, for
 * every file call that may fail. */
#include "test/lib/faulty_vfs.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include "proto/check.h"
#include "storage/offline/backup.h"
#include "storage/block.h"
#include "storage/offline/inspect.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TOPIC = 3,
    GROUP = 8,
    COUNT = 60,
    SWEEP_MAX = 5000,
    INTERRUPTIBLE =
        FAULTY_OPEN | FAULTY_WRITE | FAULTY_READ | FAULTY_SYNC | FAULTY_SYNC_DIR
};

static struct harness h;
static struct faulty_vfs faulty;
static char place[400]; /* of the copies */
static char copy[500];
static char again[500];
static unsigned damages;
static char last_damage[200];
static uint64_t last_len;
static uint32_t last_topic;
static uint64_t told_seq;

static void on_damage(void *arg, const struct backup_damage *damage)
{
    (void)arg;
    damages++;
    snprintf(last_damage, sizeof last_damage, "%s: %s", damage->file,
             damage->text);
    last_len = damage->len;
    last_topic = damage->topic;
    told_seq = damage->seq;
}

static void body_of(uint64_t seq, char body[64])
{
    snprintf(body, 64, "message number %d stands here", (int)seq);
}

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 32 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    add_fact(&h, CATALOG_TOPIC, TOPIC, "orders", "value", false);
    for (uint64_t seq = 1; seq <= COUNT; seq++) {
        char body[64];
        body_of(seq, body);
        add_message(&h, TOPIC, body);
        add_sized(&h, TOPIC + 1, 1500, 'x');
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    add_ack(&h, GROUP, TOPIC, 1, 20);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    faulty_vfs_init(&faulty);
    tmpdir_make(place, sizeof place);
    snprintf(copy, sizeof copy, "%s/copy", place);
    snprintf(again, sizeof again, "%s/again", place);
}

static void tear_down(void)
{
    harness_fini(&h);
    tmpdir_remove(place);
}

TestSuite(backup, .init = set_up, .fini = tear_down, .timeout = 280);

static enum status make(const char *to, struct manifest *m)
{
    const struct backup_job job = { .from = h.dir,
                                    .to = to,
                                    .vfs = &faulty.vfs,
                                    .now_us = 77,
                                    .damage = on_damage };

    damages = 0;
    return backup_make(&job, m, &h.err);
}

static void must_make(const char *to)
{
    struct manifest m;

    cr_assert(eq(int, make(to, &m), STATUS_OK), "%s", h.err.text);
    manifest_fini(&m);
}

static enum status restore(const char *from, const char *to, bool despite)
{
    struct manifest m = { 0 };
    const struct backup_job job = { .from = from,
                                    .to = to,
                                    .vfs = &faulty.vfs,
                                    .despite_damage = despite,
                                    .damage = on_damage };
    enum status status;

    damages = 0;
    status = backup_restore(&job, &m, &h.err);
    manifest_fini(&m);
    return status;
}

static uint64_t files_damaged(const char *dir)
{
    const struct backup_job job = { .from = dir, .damage = on_damage };
    struct manifest m = { 0 };
    uint64_t count = 0;

    cr_assert(eq(int, backup_check(&job, &m, &count, &h.err), STATUS_OK), "%s",
              h.err.text);
    manifest_fini(&m);
    return count;
}

static bool is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* The offline reader finds nothing wrong with it. */
static void is_sound(const char *dir)
{
    const struct inspect_visitor visitor = { 0 };
    struct inspect_totals totals;
    struct inspect *inspect;

    cr_assert(eq(int, inspect_open(&inspect, dir, NULL, &h.err), STATUS_OK));
    cr_assert(
        eq(int, inspect_walk(inspect, &visitor, &totals, &h.err), STATUS_OK));
    cr_assert(eq(u64, totals.damages, 0));
    cr_assert(eq(u64, totals.missing + totals.missing_segments, 0));
    cr_assert(eq(u64, totals.unbalanced + totals.lost_batches, 0));
    inspect_close(inspect);
}

/* All is there, in a store opened on that folder. */
static void holds_all(const char *dir)
{
    struct harness other = h;

    CHECK(strlen(dir) < sizeof other.dir);
    memcpy(other.dir, dir, strlen(dir) + 1);
    other.config.dir = other.dir;
    other.store = NULL;
    other.view = NULL;
    cr_assert(eq(int, harness_open(&other), STATUS_OK), "%s", other.err.text);
    cr_assert(eq(u64, other.recovery.damaged_batches, 0));
    for (uint64_t seq = 1; seq <= COUNT; seq++) {
        char body[64];
        body_of(seq, body);
        cr_assert(eq(str, (char *)message_text(&other, TOPIC, seq), body));
    }
    cr_assert(eq(u64, last_seq(&other, TOPIC), COUNT));
    cr_assert(eq(str, (char *)lane_text(&other, GROUP, TOPIC), "1-20"));
    cr_assert(eq(str, (char *)facts_text(&other), "2:3:orders=value "));
    harness_close(&other);
}

Test(backup, comes_back_as_it_was)
{
    must_make(copy);
    cr_assert(eq(u32, damages, 0));
    cr_assert(eq(u64, files_damaged(copy), 0));
    is_sound(copy);
    cr_assert(eq(int, restore(copy, again, false), STATUS_OK), "%s",
              h.err.text);
    holds_all(again);
    /* And once more, from the store that was restored. */
    harness_close(&h);
    snprintf(h.dir, sizeof h.dir, "%s", again);
    snprintf(copy, sizeof copy, "%s/second", place);
    must_make(copy);
    cr_assert(eq(u32, damages, 0));
}

/* What the store writes after it began may be in it or not; what it had synced
 * is. */
Test(backup, of_a_store_that_is_open)
{
    struct manifest m;

    add_message(&h, TOPIC + 2, "written, and not synced");
    cr_assert(
        eq(int, harness_append(&h, &(struct store_commit) { 0 }), STATUS_OK));
    cr_assert(eq(int, make(copy, &m), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, m.messages, 2 * COUNT + 1));
    cr_assert(eq(u64, m.damages, 0));
    manifest_fini(&m);
    cr_assert(eq(int, restore(copy, again, false), STATUS_OK));
    holds_all(again);
}

/* ---- calls that fail ---- */

static enum status work_make(void)
{
    struct manifest m;
    enum status status = make(copy, &m);

    if (status == STATUS_OK) {
        manifest_fini(&m);
    }
    return status;
}

static enum status work_restore(void)
{
    return restore(copy, again, false);
}

/* Fail the first, second... call until a whole run passes untouched. A failure
 * that was swallowed has to leave a whole result. */
static unsigned sweep(enum status (*work)(void), const char *result,
                      unsigned calls, int error, bool sticky)
{
    unsigned failures = 0;

    for (unsigned nth = 1; nth < SWEEP_MAX; nth++) {
        enum status status;
        faulty_vfs_arm(&faulty, (struct faulty_plan) { .calls = calls,
                                                       .nth = nth,
                                                       .sticky = sticky,
                                                       .error = error });
        status = work();
        faulty_vfs_disarm(&faulty);
        failures += status != STATUS_OK;
        if (status == STATUS_OK && work == work_make) {
            cr_assert(eq(u64, files_damaged(result), 0), "call %u", nth);
        } else if (status == STATUS_OK) {
            holds_all(result);
        } else if (!sticky) {
            cr_assert(not(is_there(result)), "call %u: %s", nth, h.err.text);
        }
        tmpdir_remove(result);
        if (faulty.fired == 0) {
            return failures;
        }
    }
    cr_assert(false, "no end of failures");
    return 0;
}

Test(backup, a_failed_call_leaves_nothing)
{
    cr_assert(ge(u32, sweep(work_make, copy, FAULTY_ALL, EIO, false), 20));
    cr_assert(ge(u32, sweep(work_make, copy, FAULTY_ALL, ENOSPC, false), 20));
    cr_assert(eq(u32, sweep(work_make, copy, INTERRUPTIBLE, EINTR, false), 0));
    cr_assert(
        eq(u32, sweep(work_make, copy, FAULTY_ALL, 0, false), 0)); /* half */
    cr_assert(ge(u32, sweep(work_make, copy, FAULTY_ALL, EIO, true), 20));
}

Test(backup, a_failed_call_restores_nothing)
{
    must_make(copy);
    cr_assert(ge(u32, sweep(work_restore, again, FAULTY_ALL, EIO, false), 20));
    cr_assert(eq(u32, sweep(work_restore, again, FAULTY_ALL, 0, false), 0));
    cr_assert(
        ge(u32, sweep(work_restore, again, FAULTY_ALL, ENOSPC, true), 20));
}

/* The check itself: a copy with a byte changed is not taken for whole. */
Test(backup, a_changed_copy_is_noticed)
{
    char path[700];

    must_make(copy);
    snprintf(path, sizeof path, "%s/log/0000000001.seg", copy);
    flip_bit(path, 9000, 3);
    cr_assert(eq(u64, files_damaged(copy), 1));
    cr_assert(eq(int, restore(copy, again, false), STATUS_CORRUPT));
    cr_assert(not(is_there(again)));
    cr_assert(eq(int, restore(copy, again, true), STATUS_OK));
    cr_assert(is_there(again));
}

Test(backup, no_space_is_said_before_it_begins)
{
    struct manifest m;

    faulty.no_space = true;
    cr_assert(eq(int, make(copy, &m), STATUS_NO_SPACE));
    cr_assert(not(is_there(copy)));
    faulty.no_space = false;
    must_make(copy);
    faulty.no_space = true;
    cr_assert(eq(int, restore(copy, again, false), STATUS_NO_SPACE));
    cr_assert(not(is_there(again)));
}

/* ---- damage in the store ---- */

static void path_of(uint32_t id, char path[600])
{
    segment_file(&h, id, path, 600);
}

Test(backup, damage_is_copied_and_told)
{
    struct manifest m;
    char path[600];

    path_of(1, path);
    flip_bit(path, find_in_file(path, "message number 3 ") + 2, 1);
    cr_assert(eq(int, make(copy, &m), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, m.damages, 1));
    cr_assert(eq(u32, damages, 1));
    cr_assert(eq(str, last_damage, "log/0000000001.seg: message"));
    cr_assert(eq(u32, last_topic, TOPIC));
    cr_assert(eq(u64, told_seq, 3));
    cr_assert(lt(u64, last_len, 200)); /* it alone, not its batch */
    cr_assert(eq(u64, m.damaged_bytes, last_len));
    cr_assert(eq(u64, m.messages, 2 * COUNT - 1));
    manifest_fini(&m);
    cr_assert(eq(u64, files_damaged(copy), 0));
}

/* What is in the copy is what the file begins with. */
static void same_file(uint32_t id)
{
    char from[600];
    char to[600];
    FILE *a;
    FILE *b;
    int byte;

    path_of(id, from);
    snprintf(to, sizeof to, "%s/log/%010u.seg", copy, id);
    a = fopen(from, "rb");
    b = fopen(to, "rb");
    cr_assert(a != NULL && b != NULL);
    while ((byte = getc(b)) != EOF) {
        cr_assert(eq(int, getc(a), byte), "at %ld", ftell(b));
    }
    (void)fclose(a);
    (void)fclose(b);
}

static void on_place(void *arg, const struct store_damage *damage)
{
    (void)damage;
    ++*(unsigned *)arg;
}

/* Damaged places as verify finds them. */
static unsigned verify(struct inspect_totals *totals)
{
    unsigned places = 0;
    const struct inspect_visitor visitor = { .damage = on_place,
                                             .arg = &places };
    struct inspect *inspect;

    cr_assert(eq(int, inspect_open(&inspect, h.dir, NULL, &h.err), STATUS_OK));
    cr_assert(
        eq(int, inspect_walk(inspect, &visitor, totals, &h.err), STATUS_OK));
    inspect_close(inspect);
    return places;
}

/* A copy says of the log what verify says of it, with whatever byte changed. */
Test(backup, counts_as_verify_does)
{
    uint64_t seed = random_seed();

    fprintf(stderr, "GODWIT_SEED=%llu\n", (unsigned long long)seed);
    harness_close(&h);
    for (int i = 0; i < 60; i++) {
        struct inspect_totals totals;
        struct manifest m;
        unsigned places;
        char path[600];
        uint64_t at;

        path_of(1, path);
        at = random_next(&seed) % 20000;
        flip_bit(path, at, 3);
        cr_assert(eq(int, make(copy, &m), STATUS_OK), "%s", h.err.text);
        places = verify(&totals);
        cr_assert(gt(u32, places, 0));
        cr_assert(eq(u32, damages, places), "byte %d", (int)at);
        cr_assert(eq(u64, m.damages, totals.damages), "byte %d", (int)at);
        cr_assert(eq(u64, m.damaged_bytes, totals.damaged_bytes), "byte %d",
                  (int)at);
        cr_assert(eq(u64, m.batches, totals.batches), "byte %d", (int)at);
        cr_assert(eq(u64, m.records, totals.records), "byte %d", (int)at);
        cr_assert(eq(u64, m.messages, totals.messages), "byte %d", (int)at);
        manifest_fini(&m);
        cr_assert(eq(u64, files_damaged(copy), 0));
        same_file(1);
        flip_bit(path, at, 3);
        tmpdir_remove(copy);
    }
}

/* The header of a batch in the middle, and the seal at the end. */
Test(backup, a_lost_header_is_stepped_over)
{
    char path[600];

    path_of(1, path);
    flip_bit(path, find_in_file(path, "message number 3 ") - 64 - 100, 1);
    must_make(copy);
    cr_assert(eq(u32, damages, 1));
    cr_assert(eq(str, last_damage, "log/0000000001.seg: batch"));
}

/* One past the last byte that is not zero. */
static uint64_t used_len(const char *path)
{
    uint64_t used = 0;
    FILE *file = fopen(path, "rb");
    int byte;

    cr_assert(ne(ptr, file, NULL));
    for (uint64_t at = 1; (byte = getc(file)) != EOF; at++) {
        used = byte != 0 ? at : used;
    }
    (void)fclose(file);
    return used;
}

Test(backup, a_lost_end_of_a_segment_is_told)
{
    struct inspect_totals totals;
    char path[600];

    path_of(1, path);
    cr_assert(eq(int, truncate(path, (off_t)used_len(path) - 64), 0));
    must_make(copy);
    cr_assert(gt(u32, damages, 0)); /* and what follows misses it */
    harness_close(&h);
    cr_assert(eq(u32, damages, verify(&totals)));
}

Test(backup, a_missing_segment_is_told)
{
    char path[600];

    path_of(2, path);
    cr_assert(eq(int, unlink(path), 0));
    must_make(copy);
    cr_assert(eq(u32, damages, 1));
    cr_assert(eq(str, last_damage, "log/0000000002.seg: it is missing"));
}

/* As many as there are; the highest of them. */
static uint32_t last_segment(void)
{
    char path[600];
    uint32_t id = 0;

    do {
        path_of(++id, path);
    } while (is_there(path));
    return id - 1;
}

Test(backup, a_log_that_is_gone_is_refused)
{
    struct manifest m;
    char path[600];

    harness_close(&h);
    for (uint32_t id = last_segment(); id > 0; id--) {
        path_of(id, path);
        cr_assert(eq(int, unlink(path), 0));
    }
    cr_assert(eq(int, make(copy, &m), STATUS_CORRUPT));
    cr_assert(ne(ptr, strstr(h.err.text, "the log is gone"), NULL), "%s",
              h.err.text);
    cr_assert(not(is_there(copy)));
}

/* Its sum is right, as a program of that kind would have made it. */
Test(backup, one_without_a_segment_is_not_restored)
{
    struct manifest_file format = { .name.text = "format" };
    struct bytes text = { 0 };
    struct manifest m;
    char path[600];
    FILE *file;

    must_make(copy);
    cr_assert(eq(int, backup_read(copy, NULL, &m, &h.err), STATUS_OK));
    for (size_t i = 0; i < m.file_count; i++) {
        format =
            strcmp(m.files[i].name.text, "format") == 0 ? m.files[i] : format;
    }
    m.files[0] = format;
    m.file_count = 1;
    cr_assert(eq(int, manifest_write(&text, &m), STATUS_OK));
    snprintf(path, sizeof path, "%s/backup", copy);
    file = fopen(path, "wb");
    cr_assert(ne(ptr, file, NULL));
    (void)fwrite(bytes_begin(&text), 1, bytes_len(&text), file);
    (void)fclose(file);
    bytes_fini(&text);
    manifest_fini(&m);
    for (int despite = 0; despite <= 1; despite++) {
        cr_assert(eq(int, restore(copy, again, despite), STATUS_CORRUPT));
        cr_assert(ne(ptr, strstr(h.err.text, "no segment"), NULL), "%s",
                  h.err.text);
        cr_assert(not(is_there(again)));
    }
}

/* A new store, in which nothing was ever written, is none that lost its log. */
Test(backup, of_an_empty_store)
{
    struct harness empty;
    struct manifest m;

    harness_init(&empty);
    cr_assert(eq(int, harness_open(&empty), STATUS_OK));
    harness_close(&h);
    snprintf(h.dir, sizeof h.dir, "%s", empty.dir);
    cr_assert(eq(int, make(copy, &m), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, m.damages, 0));
    cr_assert(eq(u64, m.batches, 0));
    manifest_fini(&m);
    is_sound(copy);
    cr_assert(eq(int, restore(copy, again, false), STATUS_OK), "%s",
              h.err.text);
    harness_fini(&empty);
}

static void starts(const char *dir)
{
    struct harness other = h;

    CHECK(strlen(dir) < sizeof other.dir);
    memcpy(other.dir, dir, strlen(dir) + 1);
    other.config.dir = other.dir;
    other.store = NULL;
    other.view = NULL;
    cr_assert(eq(int, harness_open(&other), STATUS_OK), "%s", other.err.text);
    cr_assert(eq(u64, other.recovery.damaged_batches, 0));
    cr_assert(eq(u64, other.recovery.missing_segments, 0));
    harness_close(&other);
}

/* What is behind the seal of the last one that has batches, is copied too. */
Test(backup, ends_with_a_segment_that_is_not_sealed)
{
    enum { LAST = 2 };
    struct manifest m;
    char path[600];

    harness_close(&h);
    for (uint32_t id = last_segment(); id > LAST + 1; id--) {
        path_of(id, path);
        cr_assert(eq(int, unlink(path), 0));
    }
    path_of(LAST + 1, path);
    cr_assert(eq(int, truncate(path, BLOCK_LEN), 0)); /* only prepared */
    cr_assert(eq(int, make(copy, &m), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, m.damages, 0));
    cr_assert(eq(u64, m.segment, LAST));
    manifest_fini(&m);
    is_sound(copy);
    snprintf(path, sizeof path, "%s/log/%010u.seg", copy, LAST + 1);
    cr_assert(is_there(path));
    cr_assert(eq(int, restore(copy, again, false), STATUS_OK), "%s",
              h.err.text);
    is_sound(again);
    starts(again);
    tmpdir_remove(copy);
    path_of(LAST + 1, path);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, make(copy, &m), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, m.damages, 1));
    cr_assert(eq(str, last_damage, "log/0000000003.seg: it is missing"));
    manifest_fini(&m);
}

/* A broker on it would change it for good. */
Test(backup, is_no_data_folder)
{
    struct harness other = h;

    must_make(copy);
    CHECK(strlen(copy) < sizeof other.dir);
    memcpy(other.dir, copy, strlen(copy) + 1);
    other.config.dir = other.dir;
    other.store = NULL;
    other.view = NULL;
    cr_assert(eq(int, harness_open(&other), STATUS_INVALID));
    cr_assert(ne(ptr, strstr(other.err.text, "godwit restore"), NULL), "%s",
              other.err.text);
    cr_assert(eq(u64, files_damaged(copy), 0));
    is_sound(copy);
}

Test(backup, a_segment_of_another_store_is_left_out)
{
    char path[600];
    struct harness other;
    char from[600];
    char command_to[700];

    harness_init(&other);
    other.config.segment_len = 32 * 1024;
    cr_assert(eq(int, harness_open(&other), STATUS_OK));
    add_message(&other, TOPIC, "of somebody else");
    cr_assert(eq(int, harness_commit(&other), STATUS_OK));
    harness_close(&other);
    segment_file(&other, 1, from, sizeof from);
    path_of(2, path);
    cr_assert(eq(int, rename(from, path), 0));
    must_make(copy);
    cr_assert(ge(u32, damages, 1));
    snprintf(command_to, sizeof command_to, "%s/log/0000000002.seg", copy);
    cr_assert(not(is_there(command_to)));
    harness_fini(&other);
}

/* A backup may come in the midst of a start: the next segment is there already,
 * and the old one is not cut yet. */
Test(backup, of_a_store_that_is_being_recovered)
{
    char before[500];
    char path[600];
    char uncut[600];
    unsigned put_back = 0;

    harness_kill(&h);
    snprintf(before, sizeof before, "%s/before", place);
    cr_assert(eq(int, mkdir(before, 0700), 0));
    tmpdir_copy(h.dir, before);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(ge(u64, h.recovery.rescued_records, 1));
    for (uint32_t id = 1; id < 20; id++) {
        path_of(id, path);
        snprintf(uncut, sizeof uncut, "%s/log/%010u.seg", before, id);
        if (is_there(path) && file_len(uncut) > file_len(path)) {
            cr_assert(eq(int, rename(uncut, path), 0));
            put_back++;
        }
    }
    cr_assert(eq(u32, put_back, 1), "the segment that was cut");
    must_make(copy);
    cr_assert(eq(u32, damages, 0), "%s", last_damage);
    is_sound(copy);
    cr_assert(eq(int, restore(copy, again, false), STATUS_OK));
    holds_all(again);
}

/* ---- the manifest ---- */

static void sample(struct manifest *m, const char *name)
{
    struct manifest_file file = { .len = 9, .hash = 0xfedcba9876543210 };

    *m =
        (struct manifest) { .made_us = 1, .store_id = UINT64_MAX, .format = 2 };
    snprintf(file.name.text, sizeof file.name.text, "%s", name);
    cr_assert(eq(int, manifest_add(m, &file), STATUS_OK));
}

static enum status read_back(const char *name, struct manifest *out)
{
    struct bytes text = { 0 };
    struct manifest m;
    enum status status;

    *out = (struct manifest) { 0 };
    sample(&m, name);
    cr_assert(eq(int, manifest_write(&text, &m), STATUS_OK));
    status = manifest_read(slice_of(bytes_begin(&text), bytes_len(&text)), out);
    bytes_fini(&text);
    manifest_fini(&m);
    return status;
}

Test(backup, a_manifest_is_read_as_written)
{
    struct manifest m;

    cr_assert(eq(int, read_back("log/0000000001.seg", &m), STATUS_OK));
    cr_assert(eq(u64, m.store_id, UINT64_MAX));
    cr_assert(eq(sz, m.file_count, 1));
    cr_assert(eq(str, m.files[0].name.text, "log/0000000001.seg"));
    cr_assert(eq(u64, m.files[0].hash, 0xfedcba9876543210));
    manifest_fini(&m);
}

Test(backup, a_manifest_names_nothing_outside)
{
    static const char *const bad[] = { "../format", "/etc/passwd", "log/../x",
                                       "log/.x",    ".x",          "a/b",
                                       "log/",      "A",           "log/a/b" };
    struct manifest m;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert(eq(int, read_back(bad[i], &m), STATUS_CORRUPT), "%s", bad[i]);
    }
}

Test(backup, a_changed_or_cut_manifest_is_refused)
{
    struct bytes text = { 0 };
    struct manifest m;
    size_t len;

    sample(&m, "format");
    cr_assert(eq(int, manifest_write(&text, &m), STATUS_OK));
    manifest_fini(&m);
    len = bytes_len(&text);
    for (size_t i = 0; i < len; i++) {
        uint8_t *at = bytes_begin(&text) + i;
        cr_assert(ne(int, manifest_read(slice_of(text.at, i), &m), STATUS_OK));
        *at = (uint8_t)(*at ^ 1);
        cr_assert(ne(int, manifest_read(slice_of(text.at, len), &m), STATUS_OK),
                  "byte %zu", i);
        *at = (uint8_t)(*at ^ 1);
    }
    cr_assert(eq(int, manifest_read(slice_of(text.at, len), &m), STATUS_OK));
    manifest_fini(&m);
    bytes_fini(&text);
}

Test(backup, a_newer_manifest_is_told_from_a_damaged_one)
{
    static const char text[] = "godwit backup 2\nwhatever it says\n";
    struct manifest m;

    cr_assert(eq(int, manifest_read(slice_text(text), &m), STATUS_NEWER));
}
