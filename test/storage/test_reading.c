/* links: godwit_offline godwit_storage godwit_proto */
/* with: test/storage/harness.c test/storage/upkeep.c test/lib/tmpdir.c */

/* How much of the log a start reads: what the keydir does not have, and so much
 * behind it that nothing can be missed. */
#include "storage/internal.h"
#include "storage/offline/inspect.h"
#include "test/storage/harness.h"
#include "test/storage/upkeep.h"

#include "proto/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    TOPIC = 1,
    MIB = 1024 * 1024,
    BODY_LEN = MIB - 1024,
    BATCH_LEN_AT = 52 /* FORMAT.md */
};

static struct harness h;

/* ---- a table that counts what is read ---- */

static uint64_t read_bytes;

static ssize_t count_read(const struct vfs *vfs, int fd, void *into, size_t len,
                          off_t at)
{
    ssize_t have = vfs_system()->pread(vfs, fd, into, len, at);

    read_bytes += have > 0 ? (uint64_t)have : 0;
    return have;
}

static bool full; /* but for something small */

static int allocate(const struct vfs *vfs, int fd, off_t len)
{
    if (full && len > 64 * 1024) {
        errno = ENOSPC;
        return -1;
    }
    return vfs_system()->allocate(vfs, fd, len);
}

static struct vfs counting;

static void set_up(void)
{
    counting = *vfs_system();
    counting.pread = count_read;
    counting.allocate = allocate;
    full = false;
    harness_init(&h);
    h.config.segment_len = 64 * MIB;
    h.config.vfs = &counting;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(reading, .init = set_up, .fini = tear_down, .timeout = 120);

/* ---- helpers ---- */

/* One a batch, a little less than a MiB each. */
static void write_messages(int count)
{
    for (int i = 0; i < count; i++) {
        add_sized(&h, TOPIC, BODY_LEN, (uint8_t)('a' + i % 26));
        cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    }
}

static void start_again(void)
{
    read_bytes = 0;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static uint64_t all_there(uint64_t first, uint64_t last)
{
    uint64_t there = 0;

    for (uint64_t seq = first; seq <= last; seq++) {
        struct record record;
        there += message_at(&h, TOPIC, seq, &record, NULL) == STATUS_OK;
    }
    return there;
}

/* Where message number `seq` begins to stand in the segment: that of its batch.
 * All batches are of one length. */
static uint64_t batch_offset(uint32_t segment, uint64_t seq)
{
    char path[600];
    uint8_t len[4];
    int fd;

    segment_file(&h, segment, path, sizeof path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0
          && pread(fd, len, sizeof len, SEGMENT_BEGIN + BATCH_LEN_AT)
                 == (ssize_t)sizeof len);
    close(fd);
    return SEGMENT_BEGIN + (seq - 1) * get_u32(len);
}

/* Messages first..last are gone from the disk, all of their batches. */
static void lose(uint32_t segment, uint64_t first, uint64_t last)
{
    uint64_t from = batch_offset(segment, first);
    uint64_t to = batch_offset(segment, last + 1);
    uint8_t *zeros = calloc(1, to - from);
    char path[600];
    int fd;

    segment_file(&h, segment, path, sizeof path);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(zeros != NULL && fd >= 0
          && pwrite(fd, zeros, to - from, (off_t)from) == (ssize_t)(to - from));
    close(fd);
    free(zeros);
}

/* The present segment is one with an earlier life, and nothing in it. */
static void take_recycled(void)
{
    for (int i = 0; i < 1000; i++) {
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    harness_kill(&h);
    start_again();
    cr_assert(h.store->journal.active->header.recycled);
}

/* As an idle keeper does. */
static void see_to_leftovers(void)
{
    int calls = 0;

    while (store_leftovers(h.store)) {
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK), "%s",
                  h.err.text);
        cr_assert(lt(int, calls++, 1000));
    }
}

/* ---- what is read ---- */

Test(reading, what_the_keydir_has_is_not_read_again)
{
    write_messages(40);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    write_messages(2);
    harness_kill(&h);
    start_again();
    cr_assert(
        ge(u64, h.recovery.replayed_bytes + h.recovery.rescued_records, 1));
    cr_assert(lt(u64, read_bytes, 18 * MIB), "%llu bytes",
              (unsigned long long)read_bytes);
    cr_assert(eq(u64, all_there(1, 42), 42));
}

Test(reading, the_rest_of_a_prepared_file_is_not_read)
{
    write_messages(2);
    for (int i = 0; i < 1000; i++) {
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    harness_kill(&h);
    start_again();
    /* Twice: of the segment in use, and of the one prepared behind it. */
    cr_assert(lt(u64, read_bytes, 2 * 15 * MIB), "%llu bytes",
              (unsigned long long)read_bytes);
    cr_assert(eq(u64, all_there(1, 2), 2));
}

Test(reading, all_is_read_that_the_keydir_does_not_have)
{
    write_messages(50);
    harness_kill(&h);
    start_again();
    cr_assert(ge(u64, read_bytes, 50 * (uint64_t)BODY_LEN));
    cr_assert(eq(u64, all_there(1, 50), 50));
}

/* ---- what is not waited for ---- */

static bool there(uint32_t id, const char *ending)
{
    char path[600];

    snprintf(path, sizeof path, "%s/log/%010u.%s", h.dir, id, ending);
    return access(path, F_OK) == 0;
}

static void make_unfinished(uint32_t id)
{
    char path[600];
    int fd;

    snprintf(path, sizeof path, "%s/log/%010u.tmp", h.dir, id);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
}

static int old_files(void)
{
    int count = 0;

    for (uint32_t id = 10; id < 20; id++) {
        cr_assert(not(there(id, "tmp")));
        count += there(id, "old");
    }
    return count;
}

Test(reading, unfinished_files_are_removed_by_the_keeper)
{
    write_messages(1);
    harness_kill(&h);
    for (uint32_t id = 10; id <= 10 + OLD_FILES_MAX; id++) {
        make_unfinished(id);
    }
    start_again();
    cr_assert(eq(int, old_files(), OLD_FILES_MAX));
    harness_kill(&h);
    start_again(); /* found again */
    cr_assert(eq(int, old_files(), OLD_FILES_MAX));
    for (int i = 0; i < OLD_FILES_MAX; i++) {
        cr_assert(eq(int, old_files(), OLD_FILES_MAX - i));
        cr_assert(store_leftovers(h.store));
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    see_to_leftovers();
    cr_assert(eq(int, old_files(), 0));
}

/* A long rest of the last segment is cut by the keeper, a short one at once. */
Test(reading, the_end_is_cut_in_time)
{
    char path[600];

    segment_file(&h, 1, path, sizeof path);
    write_messages(1);
    harness_kill(&h);
    start_again();
    cr_assert(gt(u64, file_len(path), 30 * MIB));
    see_to_leftovers();
    cr_assert(lt(u64, file_len(path), 2 * MIB));
    cr_assert(eq(u64, all_there(1, 1), 1));
}

/* ---- what a disk loses ---- */

/* Larger than the blank at which the reading ends: the looks behind it see that
 * there is more. */
Test(reading, behind_a_large_hole_the_log_goes_on)
{
    write_messages(28);
    harness_kill(&h);
    lose(1, 6, 19);
    start_again();
    cr_assert(eq(u64, all_there(1, 5), 5));
    cr_assert(eq(u64, all_there(20, 28), 9));
    cr_assert(ge(u64, h.recovery.damaged_bytes, 14 * (uint64_t)BODY_LEN));
    cr_assert(eq(u64, last_seq(&h, TOPIC), 28));
}

Test(reading, in_a_recycled_file_a_hole_of_seven_batches_is_stepped_over)
{
    take_recycled();
    write_messages(45);
    harness_kill(&h);
    lose(2, 6, 36);
    start_again();
    cr_assert(eq(u64, all_there(1, 5), 5));
    cr_assert(eq(u64, all_there(37, 45), 9));
    cr_assert(ge(u64, h.recovery.damaged_bytes, 31 * (uint64_t)BODY_LEN));
}

/* ---- more than a start can see past ---- */

enum { WRITTEN = 58, LAST_BEFORE = 2, FIRST_AFTER = 46 };

/* The log of segment 2 seems to end where the hole begins. */
static void lose_far_too_much(void)
{
    take_recycled();
    write_messages(WRITTEN);
    harness_kill(&h);
    lose(2, LAST_BEFORE + 1, FIRST_AFTER - 1);
}

static void must_be_known(void)
{
    struct store_damage damage[STORE_DAMAGE_KEPT];
    uint64_t next = 0;
    size_t count = store_damage_seen(h.store, &next, damage, STORE_DAMAGE_KEPT);
    uint64_t offset = batch_offset(2, FIRST_AFTER);

    cr_assert(eq(sz, count, 1));
    cr_assert(eq(int, (int)damage[0].kind, DAMAGE_BATCH));
    cr_assert(eq(u32, damage[0].segment, 2));
    cr_assert(eq(u64, damage[0].offset, offset));
}

static void must_be_found_offline(void)
{
    struct inspect_visitor visitor = { .arg = NULL };
    struct inspect_totals totals;
    struct inspect *inspect = NULL;

    cr_assert(eq(int, inspect_open(&inspect, h.dir, NULL, &h.err), STATUS_OK),
              "%s", h.err.text);
    cr_assert(
        eq(int, inspect_walk(inspect, &visitor, &totals, &h.err), STATUS_OK));
    inspect_close(inspect);
    cr_assert(eq(u64, totals.damages, 1));
    cr_assert(eq(u64, totals.lost_batches, 0)); /* of what readers see */
}

Test(reading, what_stands_behind_a_hole_is_never_cut)
{
    char path[600];

    segment_file(&h, 2, path, sizeof path);
    lose_far_too_much();
    for (int i = 0; i < 2; i++) { /* each start sees it */
        start_again();
        cr_assert(eq(u64, last_seq(&h, TOPIC), LAST_BEFORE));
        see_to_leftovers();
        must_be_known();
        cr_assert(eq(u64, file_len(path), 64 * MIB));
        harness_kill(&h);
    }
    must_be_found_offline();
    start_again();
    cr_assert(eq(u64, all_there(1, LAST_BEFORE), LAST_BEFORE));
}

Test(reading, nor_is_its_segment_removed)
{
    struct upkeep_bed bed;
    char path[600];
    uint64_t end;

    lose_far_too_much();
    end = batch_offset(2, LAST_BEFORE + 1);
    start_again();
    upkeep_bed_init(&bed, &h);
    keep_until_limit(&bed, TOPIC, 0, 0, 1);
    write_messages(3);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(int, upkeep_all(&bed, NULL), STATUS_OK)); /* not known yet */
    cr_assert(there(2, "seg"));
    see_to_leftovers();
    cr_assert(eq(int, upkeep_all(&bed, NULL), STATUS_OK));
    cr_assert(there(2, "seg"));
    cr_assert(there(3, "seg")); /* which says where that one ends */
    harness_close(&h);          /* the operator gives it up */
    segment_file(&h, 2, path, sizeof path);
    cr_assert(eq(int, truncate(path, (off_t)end), 0));
    start_again();
    cr_assert(eq(int, upkeep_all(&bed, NULL), STATUS_OK));
    cr_assert(not(there(2, "seg")));
    upkeep_bed_fini(&bed);
}

Test(reading, nor_is_it_cut_for_want_of_space)
{
    char path[600];

    segment_file(&h, 2, path, sizeof path);
    lose_far_too_much();
    full = true;
    start_again();
    cr_assert(eq(u64, file_len(path), 64 * MIB));
}

/* As if the segment were made of a file of the pool. */
static void make_recycled(uint32_t id)
{
    enum { AT_RECYCLED = 56 }; /* FORMAT.md */
    uint8_t block[BLOCK_LEN];
    char path[600];
    int fd;

    segment_file(&h, id, path, sizeof path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && pread(fd, block, sizeof block, 0) == BLOCK_LEN);
    put_u32(block + AT_RECYCLED, 1);
    block_close(block);
    CHECK(pwrite(fd, block, sizeof block, 0) == BLOCK_LEN);
    close(fd);
}

/* All that a start looks at of a new segment is lost: it seems unused. */
Test(reading, a_segment_behind_a_seal_is_looked_at_to_its_end)
{
    uint32_t id;
    uint64_t first = 0; /* of the messages in it */

    while (h.store->journal.active->header.id < 3) {
        write_messages(1);
        first++;
    }
    id = h.store->journal.active->header.id;
    write_messages(WRITTEN - 1);
    harness_kill(&h);
    make_recycled(id);
    lose(id, 1, FIRST_AFTER - 1);
    start_again();
    cr_assert(eq(u64, last_seq(&h, TOPIC), first + WRITTEN - 1));
    cr_assert(eq(u64, all_there(1, first - 1), first - 1));
    cr_assert(eq(u64, all_there(first + FIRST_AFTER - 1, first + WRITTEN - 1),
                 WRITTEN - FIRST_AFTER + 1));
    cr_assert(gt(u64, h.recovery.damaged_bytes, 40 * (uint64_t)MIB));
}

/* What a crash tore was never confirmed. */
Test(reading, a_torn_batch_behind_the_end_is_no_damage)
{
    struct store_stats stats;
    char path[600];

    segment_file(&h, 2, path, sizeof path);
    take_recycled();
    write_messages(4);
    for (int i = 0; i < 2; i++) { /* not synced */
        struct store_commit commit;
        add_sized(&h, TOPIC, BODY_LEN, 'x');
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    }
    harness_kill(&h);
    lose(2, 5, 5);
    start_again();
    cr_assert(eq(u64, last_seq(&h, TOPIC), 4));
    see_to_leftovers();
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_batches, 0));
    cr_assert(lt(u64, file_len(path), 10 * MIB));
}
