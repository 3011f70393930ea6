/* links: godwit_storage godwit_proto */
/* with: test/storage/upkeep.c test/storage/harness.c test/lib/tmpdir.c */

/* One old message keeps no segment: what must stay is moved, the rest leaves
 * the disk, and nobody notices. */
#include "test/lib/tmpdir.h"
#include "test/storage/upkeep.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BODY_LEN = 1000, PER_SEGMENT = 55, SEGMENTS = 20 };
enum { MESSAGES = PER_SEGMENT * SEGMENTS };

static struct harness h;
static struct upkeep_bed bed;

static void set_up(void)
{
    harness_init(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    upkeep_bed_init(&bed, &h);
}

static void tear_down(void)
{
    upkeep_bed_fini(&bed);
    harness_fini(&h);
}

TestSuite(merge, .init = set_up, .fini = tear_down, .timeout = 120);

static char *body_of(uint64_t seq)
{
    static char body[BODY_LEN + 1];

    memset(body, 'a' + (int)(seq % 26), BODY_LEN);
    snprintf(body, 32, "message %" PRIu64 " ", seq);
    body[strlen(body)] = '.';
    body[BODY_LEN] = '\0';
    return body;
}

/* `count` messages of topic 1, a few to a batch. */
static void publish(uint64_t count)
{
    uint64_t last = last_seq(&h, 1);

    for (uint64_t i = 1; i <= count; i++) {
        add_sent(&h, 1, body_of(last + i), 9, last + i);
        if (i % 5 == 0 || i == count) {
            cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        }
    }
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
}

static void ack(uint64_t first, uint64_t last)
{
    add_ack(&h, 1, 1, first, last);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
}

static bool is_old_one(uint64_t seq)
{
    return seq % PER_SEGMENT == 1;
}

static void ack_all_but_old_ones(void)
{
    for (uint64_t seq = 1; seq <= MESSAGES; seq += PER_SEGMENT) {
        ack(seq + 1, seq + PER_SEGMENT - 1);
    }
}

static void check_old_ones(void)
{
    for (uint64_t seq = 1; seq <= MESSAGES; seq++) {
        if (is_old_one(seq)) {
            cr_assert(eq(str, (char *)message_text(&h, 1, seq), body_of(seq)),
                      "message %" PRIu64, seq);
        }
    }
}

static uint64_t count_readable(void)
{
    uint64_t count = 0;

    for (uint64_t seq = 1; seq <= MESSAGES; seq++) {
        count += message_text(&h, 1, seq)[0] != '\0';
    }
    return count;
}

/* Without the pool, which has a bound of its own. */
static uint64_t disk(void)
{
    uint64_t segments;

    log_files(&h, ".seg", &segments);
    return segments;
}

static void fill(void)
{
    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    publish(MESSAGES);
    ack_all_but_old_ones();
}

static void upkeep(void)
{
    enum status status = upkeep_all(&bed, NULL);

    cr_assert(eq(int, status, STATUS_OK), "%s", h.err.text);
}

Test(merge, one_old_message_keeps_no_segment)
{
    struct store_stats stats;
    uint64_t before;
    uint64_t after;

    fill();
    before = disk();
    upkeep();
    after = disk();
    store_stats(h.store, &stats);
    printf("%d messages of %d bytes, one in %d not acked: %" PRIu64
           " bytes on disk without merge, %" PRIu64
           " with; write amplification %.4f; keydir %.1f bytes a message\n",
           MESSAGES, BODY_LEN, PER_SEGMENT, before, after,
           1.0 + (double)stats.moved_bytes / (double)stats.log_bytes,
           (double)stats.keydir_bytes / MESSAGES);
    cr_assert(lt(u64, after * 4, before));
    check_old_ones();
    cr_assert(le(u64, count_readable(), SEGMENTS + 2 * PER_SEGMENT));
    cr_assert(gt(u64, stats.freed_bytes, before / 2));
}

Test(merge, what_was_moved_is_there_after_each_kind_of_start)
{
    fill();
    upkeep();
    harness_reopen(&h);
    check_old_ones();
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    check_old_ones();
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(h.recovery.keydir_rebuilt);
    cr_assert(eq(u64, h.recovery.missing_segments, 0));
    cr_assert(eq(u64, h.recovery.damaged_batches, 0));
    check_old_ones();
    cr_assert(eq(u64, last_seq(&h, 1), MESSAGES));
}

Test(merge, an_idle_store_has_no_work)
{
    bool more;

    fill();
    upkeep();
    for (int i = 0; i < 5; i++) {
        uint64_t moved = bed.moved_records;
        cr_assert(eq(int, upkeep_once(&bed, &more), STATUS_OK));
        cr_assert(not(more));
        cr_assert(eq(u64, bed.moved_records, moved));
    }
}

/* Only what a checkpoint covers can go: the look that came before it, when
 * nothing comes any more, is not the last. */
Test(merge, what_was_not_covered_yet_goes_without_traffic)
{
    uint64_t full;

    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    for (uint64_t seq = 1; seq <= MESSAGES; seq++) {
        add_sent(&h, 1, body_of(seq), 9, seq);
        if (seq % 5 == 0) {
            cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        }
    }
    ack(1, MESSAGES);
    full = disk();
    for (int i = 0; i < 40; i++) {
        bool more;
        cr_assert(eq(int, upkeep_once(&bed, &more), STATUS_OK));
        h.now_us += 2000000;
    }
    cr_assert(eq(u64, disk(), full));
    upkeep();
    cr_assert(lt(u64, disk(), full / 2));
}

Test(merge, what_a_merge_wrote_is_merged_again)
{
    fill();
    upkeep();
    for (uint64_t seq = 1; seq <= MESSAGES; seq += PER_SEGMENT) {
        if (seq != 1) {
            ack(seq, seq);
        }
    }
    for (int round = 0; round < 4; round++) {
        publish(PER_SEGMENT * 2);
        ack(MESSAGES + 1, last_seq(&h, 1));
        upkeep();
    }
    cr_assert(eq(str, (char *)message_text(&h, 1, 1), body_of(1)));
    cr_assert(lt(u64, disk(), UINT64_C(6) * 64 * 1024));
}

Test(merge, settled_state_and_numbers_outlive_the_segments_that_held_them)
{
    struct store_commit commit;
    char lane[256];

    add_fact(&h, CATALOG_TOPIC, 1, "orders", "kept", false);
    add_fact(&h, CATALOG_TOPIC, 5, "old", "", false);
    add_fact(&h, CATALOG_TOPIC, 5, "old", "", true);
    add_gap(&h, 1, 1, 3, 4);
    fill();
    add_retry(&h, 1, 1, (struct retry) { 56, 4, 777 });
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    publish(PER_SEGMENT * 3);
    ack(MESSAGES + 1, MESSAGES + PER_SEGMENT * 3);
    upkeep();
    snprintf(lane, sizeof lane, "%s", lane_text(&h, 1, 1));
    cr_assert(not(eq(ptr, strstr(lane, "gaps 3-4"), NULL)), "%s", lane);
    cr_assert(not(eq(ptr, strstr(lane, "56x4@777"), NULL)), "%s", lane);
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)lane_text(&h, 1, 1), lane));
    cr_assert(eq(str, (char *)facts_text(&h), "2:1:orders=kept "));
    cr_assert(eq(u64, last_seq(&h, 1), MESSAGES + PER_SEGMENT * 3));
    add_sent(&h, 1, "known", 9, 7);
    add_sent(&h, 1, "new", 9, MESSAGES + PER_SEGMENT * 3 + 1);
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 1));
    cr_assert(eq(int, record_flags_at(h.buffer), RECORD_DUPLICATE));
}

Test(merge, a_view_that_does_not_rest_keeps_the_file)
{
    struct store_cursor cursor = { 0 };
    struct record record;
    uint64_t files;
    uint64_t bytes;

    fill();
    cr_assert(eq(int, store_view_message(h.view, &cursor, 1, 1, &record, NULL),
                 STATUS_OK));
    files = log_files(&h, ".seg", &bytes);
    bed.views_rest = false;
    for (int i = 0; i < 400; i++) {
        bool more;
        struct store_upkeep call = {
            .policy = &bed.policy, .now_us = h.now_us, .to = bed.to, .room = 0
        };
        h.now_us += 2000000;
        cr_assert(eq(int, store_upkeep(h.store, &call, &h.err), STATUS_OK));
        more = call.more;
        (void)more;
    }
    cr_assert(eq(u64, log_files(&h, ".seg", &bytes), files));
    cr_assert(eq(int, memcmp(record.body.at, body_of(1), BODY_LEN), 0));
    bed.views_rest = true;
    upkeep();
    cr_assert(lt(u64, log_files(&h, ".seg", &bytes), files));
    cr_assert(eq(int, store_view_message(h.view, &cursor, 1, 1, &record, NULL),
                 STATUS_OK));
    cr_assert(eq(int, memcmp(record.body.at, body_of(1), BODY_LEN), 0));
}

static int hold_files(void)
{
    char path[600];
    int fd;

    snprintf(path, sizeof path, "%s/store.hold", h.dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(eq(int, flock(fd, LOCK_SH), 0));
    return fd;
}

Test(merge, a_backup_holds_the_files)
{
    uint64_t files;
    uint64_t bytes;
    int fd;

    fill();
    fd = hold_files();
    files = log_files(&h, ".seg", &bytes);
    upkeep();
    cr_assert(ge(u64, log_files(&h, ".seg", &bytes), files));
    close(fd);
    upkeep();
    cr_assert(lt(u64, log_files(&h, ".seg", &bytes), files));
    check_old_ones();
}

static struct store_stats stats(void)
{
    struct store_stats out;

    store_stats(h.store, &out);
    return out;
}

Test(merge, limits_go_on_while_a_backup_holds_the_files)
{
    int fd = hold_files();

    keep_until_limit(&bed, 1, 0, 0, PER_SEGMENT);
    for (int i = 0; i < 4; i++) {
        publish(PER_SEGMENT * 5);
        upkeep();
        cr_assert(eq(u64, first_seq(&h, 1), last_seq(&h, 1) - PER_SEGMENT + 1));
    }
    cr_assert(eq(u64, stats().freed_bytes, 0));
    cr_assert(eq(int, (int)stats().removal_waits, STORE_WAIT_HOLD));
    cr_assert(gt(u64, stats().removal_waits_us, 0));
    close(fd);
    upkeep();
    cr_assert(gt(u64, stats().freed_bytes, 0));
    cr_assert(eq(int, (int)stats().removal_waits, 0));
    cr_assert(eq(u64, stats().removal_waits_us, 0));
}

Test(merge, limits_go_on_while_a_reader_keeps_a_segment)
{
    struct store_cursor cursor = { 0 };
    struct record record;

    keep_until_limit(&bed, 1, 0, 0, PER_SEGMENT);
    publish(PER_SEGMENT * 5);
    cr_assert(eq(int, store_view_message(h.view, &cursor, 1, 1, &record, NULL),
                 STATUS_OK));
    bed.views_rest = false;
    upkeep();
    cr_assert(eq(u64, stats().freed_bytes, 0));
    cr_assert(eq(int, (int)stats().removal_waits, STORE_WAIT_READER));
    cr_assert(gt(u64, stats().removal_waits_us, 0));
    cr_assert(eq(u64, first_seq(&h, 1), last_seq(&h, 1) - PER_SEGMENT + 1));
    bed.views_rest = true;
    upkeep();
    cr_assert(gt(u64, stats().freed_bytes, 0));
    cr_assert(eq(int, (int)stats().removal_waits, 0));
}

/* A backup would lock the new one. */
Test(merge, a_hold_file_that_was_removed_is_made_again)
{
    char path[600];
    int fd;

    fill();
    snprintf(path, sizeof path, "%s/store.hold", h.dir);
    cr_assert(eq(int, unlink(path), 0));
    fd = hold_files();
    upkeep();
    cr_assert(eq(u64, stats().freed_bytes, 0));
    cr_assert(eq(int, (int)stats().removal_waits, STORE_WAIT_HOLD));
    cr_assert(eq(int, unlink(path), 0));
    upkeep();
    cr_assert(gt(u64, stats().freed_bytes, 0));
    cr_assert(eq(int, access(path, F_OK), 0));
    close(fd);
    check_old_ones();
}

Test(merge, what_is_in_the_way_of_the_hold_file_shows_at_the_start)
{
    char path[600];

    harness_close(&h);
    snprintf(path, sizeof path, "%s/store.hold", h.dir);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, mkdir(path, 0700), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_IO));
    cr_assert(not(eq(ptr, strstr(h.err.text, "store.hold"), NULL)));
    cr_assert(eq(int, rmdir(path), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
}

/* Full rate with the default retention: nothing is copied, all is freed. */
Test(merge, dead_segments_are_freed_without_copying)
{
    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    for (int round = 0; round < 10; round++) {
        uint64_t from = last_seq(&h, 1) + 1;
        publish(PER_SEGMENT * 4);
        ack(from, last_seq(&h, 1));
        h.now_us += 2000000;
        for (int i = 0; i < 40; i++) {
            bool more;
            cr_assert(eq(int, upkeep_once(&bed, &more), STATUS_OK), "%s",
                      h.err.text);
        }
    }
    upkeep();
    {
        struct store_stats stats;
        store_stats(h.store, &stats);
        cr_assert(eq(u64, stats.moved_bytes, 0));
        cr_assert(lt(u64, disk(), UINT64_C(6) * 64 * 1024));
    }
}

Test(merge, a_damaged_message_is_left_behind_and_counted)
{
    struct store_stats stats;
    char path[600];
    char text[64];
    uint64_t at;

    fill();
    segment_file(&h, 1, path, sizeof path);
    snprintf(text, sizeof text, "message %d ", 1);
    at = find_in_file(path, text);
    flip_bit(path, at + 100, 3);
    upkeep();
    store_stats(h.store, &stats);
    cr_assert(ge(u64, stats.damaged_records, 1));
    cr_assert(eq(str, (char *)message_text(&h, 1, 1), ""));
    for (uint64_t seq = 2; seq <= MESSAGES; seq++) {
        if (is_old_one(seq)) {
            cr_assert(eq(str, (char *)message_text(&h, 1, seq), body_of(seq)));
        }
    }
}

/* ---- file calls that fail ---- */

static bool unreadable;

static int touch(const struct vfs *vfs, const void *at, size_t len)
{
    (void)vfs;
    errno = EIO;
    return unreadable ? -1 : vfs_system()->touch(vfs_system(), at, len);
}

static void again_with(const struct vfs *vfs)
{
    harness_close(&h);
    h.config.vfs = vfs;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

/* An error is no proof that the bytes are gone. */
Test(merge, a_segment_that_cannot_be_read_stays)
{
    struct vfs vfs = *vfs_system();
    uint64_t bytes;
    uint64_t files;

    vfs.touch = touch;
    again_with(&vfs);
    fill();
    files = log_files(&h, ".seg", &bytes);
    unreadable = true;
    for (int i = 0; i < 200; i++) {
        struct store_upkeep call = { .policy = &bed.policy,
                                     .now_us = h.now_us,
                                     .to = bed.to,
                                     .room = bed.room };
        h.now_us += 500000;
        cr_assert(eq(int, store_upkeep(h.store, &call, &h.err), STATUS_OK));
        if (call.len > 0) { /* trims: they can be written */
            break;
        }
    }
    unreadable = false;
    again_with(&vfs);
    upkeep();
    unreadable = true;
    upkeep();
    unreadable = false;
    check_old_ones();
    cr_assert(not(store_frozen(h.store)));
    cr_assert(le(u64, log_files(&h, ".seg", &bytes), files));
    again_with(NULL);
}

/* A disk of so many bytes. */
static uint64_t quota;

static uint64_t used(void)
{
    uint64_t segments;
    uint64_t making;
    uint64_t pool;

    log_files(&h, ".seg", &segments);
    log_files(&h, ".tmp", &making);
    log_files(&h, ".pool", &pool);
    return segments + making + pool;
}

static int allocate(const struct vfs *vfs, int fd, off_t len)
{
    (void)vfs;
    if (used() + (uint64_t)len > quota) {
        errno = ENOSPC;
        return -1;
    }
    return vfs_system()->allocate(vfs_system(), fd, len);
}

static uint64_t free_bytes(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    (void)path;
    return used() < quota ? quota - used() : 0;
}

static uint64_t publish_until_refused(void)
{
    uint64_t stored = 0;

    for (int i = 0; i < MESSAGES; i++) {
        struct store_commit commit;
        enum status status;
        add_sent(&h, 1, body_of(last_seq(&h, 1) + stored + 1), 0, 0);
        status = harness_append(&h, &commit);
        cr_assert(eq(int, status, STATUS_OK), "%s", h.err.text);
        if (commit.record_count == 0) {
            break;
        }
        stored++;
        cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
        cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
        cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
        if (i % 10 == 0) {
            enum status prepared = store_prepare(h.store, &h.err);
            (void)prepared;
        }
    }
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK), "%s",
              h.err.text);
    return stored;
}

static void settle_and_free(void)
{
    for (int i = 0; i < 400; i++) {
        bool more;
        enum status status = upkeep_once(&bed, &more);
        cr_assert(status == STATUS_OK || status == STATUS_NO_SPACE, "%s",
                  h.err.text);
        h.now_us += more ? 0 : 1100000;
        status = store_prepare(h.store, &h.err);
        cr_assert(status == STATUS_OK || status == STATUS_NO_SPACE, "%s",
                  h.err.text);
    }
}

Test(merge, a_full_disk_is_freed_by_acks_alone)
{
    struct vfs vfs = *vfs_system();

    vfs.allocate = allocate;
    vfs.free_bytes = free_bytes;
    quota = UINT64_C(12) * 64 * 1024;
    again_with(&vfs);
    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    for (int round = 0; round < 3; round++) {
        uint64_t first = last_seq(&h, 1) + 1;
        uint64_t stored = publish_until_refused();
        cr_assert(gt(u64, stored, 100), "round %d", round);
        cr_assert(lt(u64, stored, MESSAGES));
        cr_assert(store_space_low(h.store));
        ack(first, last_seq(&h, 1));
        settle_and_free();
        cr_assert(lt(u64, used(), quota / 2), "round %d", round);
    }
    again_with(NULL);
}

/* With one old message in each segment nothing is quite dead: those of a full
 * disk that are least alive must go through the reserve. */
Test(merge, a_full_disk_with_old_messages_loses_none)
{
    struct vfs vfs = *vfs_system();
    uint64_t last;

    vfs.allocate = allocate;
    vfs.free_bytes = free_bytes;
    quota = UINT64_C(12) * 64 * 1024;
    again_with(&vfs);
    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    publish_until_refused();
    last = last_seq(&h, 1);
    for (uint64_t seq = 1; seq <= last; seq += PER_SEGMENT * 3) {
        ack(seq + 1, seq + PER_SEGMENT * 3 - 1 < last
                         ? seq + PER_SEGMENT * 3 - 1
                         : last);
    }
    settle_and_free();
    cr_assert(lt(u64, used(), quota));
    for (uint64_t seq = 1; seq <= last; seq += PER_SEGMENT * 3) {
        cr_assert(eq(str, (char *)message_text(&h, 1, seq), body_of(seq)));
    }
    again_with(NULL);
}
