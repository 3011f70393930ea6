/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/faulty_vfs.c */

/* What version 1 left is read; before anything of this version is written the
 * format file says so; what a later version wrote is not touched.
 * (test_golden.c has whole stores of each version.) */
#include "storage/batch.h"
#include "storage/block.h"
#include "storage/checksum.h"
#include "storage/segment.h"
#include "test/lib/faulty_vfs.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include "proto/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TOPIC = 4,
    COUNT = 30,
    LEN = 64 * 1024,
    /* fields that every version has where it is */
    AT_VERSION = 8,
    AT_STORE_ID = 16,
    AT_RECORDS_HASH = 104,
    AT_HASH = 120
};

static struct harness h;

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = LEN;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(versions, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- helpers ---- */

static void load(const char *path, uint8_t *to, size_t len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0 && pread(fd, to, len, 0) == (ssize_t)len);
    close(fd);
}

static void save(const char *path, const uint8_t *from, size_t len)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    CHECK(fd >= 0 && pwrite(fd, from, len, 0) == (ssize_t)len);
    close(fd);
}

static void format_path(char path[600])
{
    snprintf(path, 600, "%s/format", h.dir);
}

static uint32_t format_version(void)
{
    uint8_t block[BLOCK_LEN];
    char path[600];

    format_path(path);
    load(path, block, sizeof block);
    return get_u32(block + AT_VERSION);
}

static void set_block_version(const char *path, uint32_t version)
{
    uint8_t block[BLOCK_LEN];

    load(path, block, sizeof block);
    put_u32(block + AT_VERSION, version);
    block_close(block);
    save(path, block, sizeof block);
}

/* Make every batch of the file what version 1 would have written. */
static void age_segment(uint32_t id, uint64_t store_id)
{
    static uint8_t bytes[LEN];
    char path[600];
    uint32_t at = SEGMENT_BEGIN;

    segment_file(&h, id, path, sizeof path);
    CHECK(file_len(path) <= LEN);
    set_block_version(path, 1);
    load(path, bytes, (size_t)file_len(path));
    while (at + BATCH_HEADER_LEN <= file_len(path)
           && batch_may_begin(bytes + at)) {
        put_u32(bytes + at + AT_VERSION, 1);
        put_u64(bytes + at + AT_RECORDS_HASH, 0);
        put_u64(bytes + at + AT_HASH,
                checksum_seeded(bytes + at, AT_HASH, store_id));
        at += get_u32(bytes + at + 52);
    }
    CHECK(at > SEGMENT_BEGIN);
    save(path, bytes, (size_t)file_len(path));
}

/* The closed store's first segment and format file, as of version 1. */
static void age(void)
{
    uint8_t block[BLOCK_LEN];
    char path[600];

    format_path(path);
    load(path, block, sizeof block);
    age_segment(1, get_u64(block + AT_STORE_ID));
    set_block_version(path, 1);
}

static void fill(void)
{
    for (int i = 1; i <= COUNT; i++) {
        char text[32];
        snprintf(text, sizeof text, "message %d", i);
        add_message(&h, TOPIC, text);
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
}

static void check_messages(int count)
{
    for (int i = 1; i <= count; i++) {
        char text[32];
        snprintf(text, sizeof text, "message %d", i);
        cr_assert(eq(str, (char *)message_text(&h, TOPIC, (uint64_t)i), text));
    }
    cr_assert(eq(u64, last_seq(&h, TOPIC), (uint64_t)count));
}

static uint32_t batch_version(uint32_t segment, uint64_t offset)
{
    static uint8_t bytes[LEN];
    char path[600];

    segment_file(&h, segment, path, sizeof path);
    load(path, bytes, LEN);
    CHECK(batch_may_begin(bytes + offset));
    return get_u32(bytes + offset + AT_VERSION);
}

/* ---- version 1 ---- */

Test(versions, a_store_of_1_that_ended_cleanly_is_gone_on_with)
{
    struct store_commit commit;

    fill();
    harness_close(&h);
    age();
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(h.recovery.clean);
    cr_assert(eq(u32, format_version(), STORE_FORMAT_VERSION));
    check_messages(COUNT);
    add_message(&h, TOPIC, "message 31");
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.segment, 1)); /* behind those of version 1 */
    cr_assert(eq(u32, batch_version(1, SEGMENT_BEGIN), 1));
    cr_assert(eq(u32, batch_version(1, commit.offset), 2));
    harness_kill(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    check_messages(COUNT + 1);
    cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
}

/* What it wrote last is written again, as this version does. */
Test(versions, a_store_of_1_that_was_killed_is_recovered)
{
    fill();
    harness_kill(&h);
    age();
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(gt(u64, h.recovery.rescued_records, 0));
    cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
    cr_assert(eq(u32, format_version(), STORE_FORMAT_VERSION));
    cr_assert(eq(u32, batch_version(2, SEGMENT_BEGIN), 2));
    check_messages(COUNT);
    harness_kill(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    check_messages(COUNT);
}

/* Whatever call fails, the store is one of version 1 or one of this one, and
 * nothing of it was written before the format file says so. */
Test(versions, raising_the_format_may_fail_anywhere)
{
    static struct faulty_vfs faulty;
    unsigned raised = 0;
    bool fired = true;

    fill();
    harness_close(&h);
    age();
    faulty_vfs_init(&faulty);
    h.config.vfs = &faulty.vfs;
    for (unsigned nth = 1; fired; nth++) {
        enum status status;
        age();
        faulty_vfs_arm(&faulty, (struct faulty_plan) {
                                    FAULTY_OPEN | FAULTY_WRITE | FAULTY_SYNC
                                        | FAULTY_RENAME | FAULTY_SYNC_DIR,
                                    nth, true, EIO });
        status = harness_open(&h);
        fired = faulty.fired > 0;
        if (format_version() == 1) {
            cr_assert(ne(int, status, STATUS_OK));
            cr_assert(eq(u32, batch_version(1, SEGMENT_BEGIN), 1));
        } else {
            raised++;
        }
        harness_close(&h);
        faulty_vfs_disarm(&faulty);
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "call %u: %s", nth,
                  h.err.text);
        cr_assert(eq(u32, format_version(), STORE_FORMAT_VERSION));
        check_messages(COUNT);
        harness_close(&h);
    }
    cr_assert(gt(u32, raised, 0));
    h.config.vfs = NULL;
}

/* ---- later ones ---- */

Test(versions, a_newer_format_is_refused_and_left_alone)
{
    uint8_t before[BLOCK_LEN];
    uint8_t after[BLOCK_LEN];
    char path[600];

    fill();
    harness_close(&h);
    format_path(path);
    set_block_version(path, STORE_FORMAT_VERSION + 1);
    load(path, before, sizeof before);
    cr_assert(eq(int, harness_open(&h), STATUS_NEWER));
    cr_assert(strstr(h.err.text, "its format is 4, this build reads up to 3")
              != NULL);
    load(path, after, sizeof after);
    cr_assert(eq(int, memcmp(before, after, sizeof before), 0));
    set_block_version(path, STORE_FORMAT_VERSION);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(h.recovery.clean);
    check_messages(COUNT);
}

Test(versions, a_newer_segment_is_refused)
{
    char path[600];

    fill();
    harness_close(&h);
    segment_file(&h, 1, path, sizeof path);
    set_block_version(path, STORE_FORMAT_VERSION + 1);
    cr_assert(eq(int, harness_open(&h), STATUS_NEWER));
    set_block_version(path, STORE_FORMAT_VERSION);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    check_messages(COUNT);
}
