/* links: godwit_offline */
/* wraps: batch_vouches_for_records batch_whole */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/faulty_vfs.c */

/* Files that are segments for the second and third time. What an earlier life
 * left in them stands exactly where the new one writes: same offsets, same
 * lengths, sectors that begin with whole records. None of it may ever be read
 * as part of the new one, whichever sectors a power cut kept. */
#include "storage/offline/inspect.h"
#include "storage/internal.h"
#include "test/lib/faulty_vfs.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include "proto/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TOPIC = 1,
    GROUP = 3,
    SECTOR_LEN = 512,
    PER_BATCH = 6,
    SEGMENT_LEN = 64 * 1024,
    LIVES = 5
};

static struct harness h;

/* A planted bug: a header vouches for nothing but itself. */
static bool vouch_for_anything;

bool __real_batch_vouches_for_records(const struct batch *batch, uint64_t seed);
bool __wrap_batch_vouches_for_records(const struct batch *batch, uint64_t seed);
bool __real_batch_whole(const struct batch *batch, uint64_t seed);
bool __wrap_batch_whole(const struct batch *batch, uint64_t seed);

bool __wrap_batch_vouches_for_records(const struct batch *batch, uint64_t seed)
{
    return vouch_for_anything || __real_batch_vouches_for_records(batch, seed);
}

bool __wrap_batch_whole(const struct batch *batch, uint64_t seed)
{
    struct batch seen = *batch;

    seen.header.version = vouch_for_anything ? 1 : 2; /* 1 has no such hash */
    return __real_batch_whole(&seen, seed);
}

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = SEGMENT_LEN;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(recycle, .init = set_up, .fini = tear_down, .timeout = 280);

/* ---- helpers ---- */

static struct store_stats stats(void)
{
    struct store_stats out;

    store_stats(h.store, &out);
    return out;
}

static void path_of(uint32_t id, const char *ending, char path[600])
{
    snprintf(path, 600, "%s/log/%010u.%s", h.dir, id, ending);
}

static bool there(uint32_t id, const char *ending)
{
    char path[600];

    path_of(id, ending, path);
    return access(path, F_OK) == 0;
}

/* All that the log's files take. */
static uint64_t bytes_on_disk(void)
{
    uint64_t sum = 0;
    char path[1024];
    DIR *dir;

    snprintf(path, sizeof path, "%s/log", h.dir);
    dir = opendir(path);
    CHECK(dir != NULL);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/log/%s", h.dir, e->d_name);
            sum += file_len(path);
        }
    }
    closedir(dir);
    return sum;
}

static void make_file(uint32_t id, const char *ending, size_t len)
{
    char path[600];
    int fd;

    path_of(id, ending, path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)len) == 0);
    close(fd);
}

static void read_file(const char *path, uint8_t *to)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0 && pread(fd, to, SEGMENT_LEN, 0) == SEGMENT_LEN);
    close(fd);
}

static void write_file(const char *path, const uint8_t *from)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    CHECK(fd >= 0 && pwrite(fd, from, SEGMENT_LEN, 0) == SEGMENT_LEN);
    close(fd);
}

/* ---- what is written ---- */

/* As far as the messages got. */
static uint64_t tried;
static uint64_t confirmed;
static uint64_t first_kept; /* the first that is in no removed segment */

enum { MESSAGES = PER_BATCH - 1, BATCH_ROOM = PER_BATCH * SECTOR_LEN + 2048 };

/* Its number, then a letter that depends on it. */
static void text_of(uint64_t seq, size_t len, char *text)
{
    memset(text, 'a' + (int)(seq % 26), len);
    text[len] = '\0';
    (void)snprintf(text, 21, "%020" PRIu64, seq);
    text[20] = ' ';
}

static bool is_text_of(uint64_t seq, const char *text)
{
    char right[8192];
    size_t len = strlen(text);

    CHECK(len < sizeof right);
    if (len < 21) {
        return false;
    }
    text_of(seq, len, right);
    return strcmp(text, right) == 0;
}

/* A message that brings the next record to a sector's beginning, then messages
 * that fill a sector each, and a fact that does: it holds the number of the
 * batch's last message. */
static void add_aligned(uint32_t offset)
{
    size_t len = SECTOR_LEN - (offset + BATCH_HEADER_LEN) % SECTOR_LEN;
    char text[2 * SECTOR_LEN];

    len += len < RECORD_HEADER_LEN + 32 ? SECTOR_LEN : 0;
    for (int i = 0; i < MESSAGES; i++) {
        text_of(++tried, len - RECORD_HEADER_LEN, text);
        add_message(&h, TOPIC, text);
        len = SECTOR_LEN;
    }
    text_of(tried, SECTOR_LEN - RECORD_HEADER_LEN - 16 - 1, text);
    add_fact(&h, CATALOG_TOPIC, TOPIC, "t", text, false);
}

/* What is left of the active segment. */
static uint32_t room(void)
{
    const struct journal *journal = &h.store->journal;

    return journal->active->header.capacity - journal->offset;
}

/* The next batch, not synced. When it would not fit, one of another size that
 * begins the next segment. */
static struct store_commit append(void)
{
    struct store_commit commit;
    char text[BATCH_ROOM + 1];

    if (room() < BATCH_ROOM) {
        text_of(++tried, BATCH_ROOM, text);
        add_message(&h, TOPIC, text);
    } else {
        add_aligned(h.store->journal.offset);
    }
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK), "%s",
              h.err.text);
    return commit;
}

static struct store_commit commit_one(void)
{
    struct store_commit commit = append();

    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    confirmed = tried;
    return commit;
}

/* Until the log goes on in another segment: the id of the one that is full. */
static uint32_t fill_segment(void)
{
    uint32_t id = h.store->journal.active->header.id;

    while (commit_one().segment == id) {
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    return id;
}

/* The active segment's file has had `lives` lives, and its end is among bytes
 * of an earlier one. */
static void live(int lives)
{
    uint32_t last = h.store->journal.active->header.id;

    while (lives-- > 0) {
        last = fill_segment();
        first_kept = tried;
        harness_remove_segment(&h, last);
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    for (int i = 0; i < 3; i++) {
        (void)commit_one();
    }
}

/* ---- the pool ---- */

Test(recycle, a_removed_segment_becomes_the_next_one)
{
    uint32_t first = fill_segment();
    uint64_t before = bytes_on_disk();

    cr_assert(eq(u64, stats().disk_bytes, before));
    harness_remove_segment(&h, first);
    cr_assert(eq(u64, stats().pool_segments, 1));
    cr_assert(eq(u64, stats().freed_bytes, SEGMENT_LEN));
    cr_assert(not(there(first, "seg")));
    cr_assert(there(first, "pool"));
    cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
    cr_assert(eq(u64, bytes_on_disk(), before));
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    cr_assert(eq(u64, stats().pool_segments, 0));
    cr_assert(not(there(first, "pool")));
    cr_assert(there(first + 2, "seg"));
    cr_assert(eq(u64, bytes_on_disk(), before));
    (void)fill_segment();
    cr_assert(h.store->journal.active->header.recycled);
    cr_assert(is_text_of(tried, message_text(&h, TOPIC, tried)));
}

Test(recycle, the_pool_has_a_bound)
{
    uint32_t ids[SEGMENT_POOL_MAX + 1];

    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        ids[i] = fill_segment();
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        harness_remove_segment(&h, ids[i]);
        cr_assert(eq(int, there(ids[i], "pool"), i < SEGMENT_POOL_MAX));
        cr_assert(not(there(ids[i], "seg")));
        cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
    }
    cr_assert(eq(u64, stats().pool_segments, SEGMENT_POOL_MAX));
    cr_assert(
        eq(u64, stats().freed_bytes, (uint64_t)COUNT_OF(ids) * SEGMENT_LEN));
}

Test(recycle, a_shorter_file_is_removed)
{
    uint32_t cut = h.store->journal.active->header.id;

    (void)commit_one();
    harness_kill(&h); /* what is left of it is as long as what is in it */
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    (void)commit_one();
    harness_remove_segment(&h, cut);
    cr_assert(not(there(cut, "pool")));
    cr_assert(not(there(cut, "seg")));
    cr_assert(eq(u64, stats().pool_segments, 0));
    cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
}

Test(recycle, a_start_keeps_the_pool_and_nothing_else)
{
    uint32_t first = fill_segment();

    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    harness_remove_segment(&h, first);
    harness_close(&h);
    make_file(70, "pool", SEGMENT_LEN);     /* no segment's head */
    make_file(71, "pool", SEGMENT_LEN - 1); /* of another length */
    make_file(72, "pool", 0);
    make_file(73, "tmp", SEGMENT_LEN);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, stats().pool_segments, 1));
    cr_assert(there(first, "pool"));
    for (uint32_t id = 70; id <= 72; id++) {
        cr_assert(not(there(id, "pool")), "%u", id);
    }
    cr_assert(not(there(73, "tmp")));
    cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
}

/* A start lists its folder in any order, and keeps as many as it may. */
Test(recycle, a_start_finds_more_files_than_the_pool_may_have)
{
    char from[600];
    char to[600];
    uint32_t first = fill_segment();

    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    harness_remove_segment(&h, first);
    harness_close(&h);
    path_of(first, "pool", from);
    for (uint32_t id = 70; id < 70 + SEGMENT_POOL_MAX; id++) {
        path_of(id, "pool", to);
        cr_assert(eq(int, link(from, to), 0));
    }
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, stats().pool_segments, SEGMENT_POOL_MAX));
    cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
}

Test(recycle, a_file_somebody_took_away_is_done_without)
{
    char path[600];
    uint32_t first = fill_segment();

    harness_remove_segment(&h, first);
    path_of(first, "pool", path);
    cr_assert(eq(int, unlink(path), 0));
    (void)fill_segment();
    cr_assert(not(h.store->journal.active->header.recycled));
    cr_assert(eq(u64, stats().pool_segments, 0));
}

/* What was prepared and not used serves the epoch after a kill. */
Test(recycle, a_start_after_a_kill_uses_what_was_prepared)
{
    uint32_t active = h.store->journal.active->header.id;

    (void)commit_one();
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    cr_assert(there(active + 1, "seg"));
    (void)append();
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u32, h.store->journal.active->header.id, active + 1));
    cr_assert(h.store->journal.active->header.recycled);
    cr_assert(eq(u64, h.recovery.rescued_records, PER_BATCH));
    cr_assert(eq(u64, last_seq(&h, TOPIC), tried));
    cr_assert(eq(u64, stats().freed_bytes, 0));
    cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
}

/* ---- when calls fail ---- */

static enum status take_in(const struct store_commit *commit)
{
    enum status status = store_sync(h.store, &h.err);

    if (status == STATUS_OK) {
        confirmed = tried;
        status = store_view_commit(h.view, commit, NULL);
    }
    if (status == STATUS_OK) {
        status = store_apply(h.store, commit);
    }
    if (status == STATUS_OK) {
        status = store_prepare(h.store, &h.err);
    }
    return status == STATUS_NO_SPACE ? STATUS_OK : status;
}

/* Remove the segment, and write until its file has its next life. */
static enum status go_round(uint32_t id)
{
    struct segment *segment;
    uint64_t epoch;
    enum status status;

    store_view_rest(h.view);
    segment = store_retire_begin(h.store, id, &epoch);
    status = store_recycle(h.store, segment, &h.err);
    while (status == STATUS_OK && h.store->journal.active->header.id < id + 3) {
        struct store_commit commit;
        char text[BATCH_ROOM + 1];
        text_of(++tried, BATCH_ROOM, text);
        add_message(&h, TOPIC, text);
        status = harness_append(&h, &commit);
        if (status == STATUS_OK && commit.record_count == 0) {
            tried--; /* refused: no space for another segment */
            break;
        }
        if (status == STATUS_OK) {
            status = take_in(&commit);
        }
    }
    return status;
}

/* Whichever call fails, once or all from then on: what was confirmed after the
 * removed segment is there when the store is opened again. False: no call was
 * left to fail. */
static bool goes_round(struct faulty_plan plan)
{
    static struct faulty_vfs faulty;
    uint64_t kept;
    uint32_t id;
    bool fired;

    harness_close(&h);
    tmpdir_remove(h.dir);
    faulty_vfs_init(&faulty);
    h.config.vfs = &faulty.vfs;
    tried = confirmed = 0;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    id = fill_segment();
    kept = tried;
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    faulty_vfs_arm(&faulty, plan);
    (void)!go_round(id);
    fired = faulty.fired > 0;
    harness_close(&h);
    faulty_vfs_disarm(&faulty);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "call %u: %s", plan.nth,
              h.err.text);
    cr_assert(ge(u64, last_seq(&h, TOPIC), confirmed), "call %u", plan.nth);
    cr_assert(le(u64, last_seq(&h, TOPIC), tried), "call %u", plan.nth);
    for (uint64_t seq = kept; seq <= last_seq(&h, TOPIC); seq++) {
        cr_assert(is_text_of(seq, message_text(&h, TOPIC, seq)),
                  "call %u: message %" PRIu64, plan.nth, seq);
    }
    cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
    return fired;
}

static void sweep(int error, bool sticky)
{
    unsigned nth = 0;

    while (
        goes_round((struct faulty_plan) { FAULTY_ALL, ++nth, sticky, error })) {
    }
    cr_assert(gt(u32, nth, 50));
}

Test(recycle, may_fail_at_any_call)
{
    sweep(EIO, false);
}

Test(recycle, may_fail_from_any_call_on)
{
    sweep(EIO, true);
}

Test(recycle, may_find_no_space_at_any_call)
{
    sweep(ENOSPC, true);
}

/* ---- what stands behind the end ---- */

/* The end lies right before whole batches of an earlier life. */
Test(recycle, a_clean_end_among_old_bytes_is_gone_on_from)
{
    live(LIVES);
    for (int i = 0; i < 4; i++) {
        struct record record;
        uint32_t active = h.store->journal.active->header.id;
        harness_reopen(&h);
        cr_assert(h.recovery.clean);
        cr_assert(eq(u32, h.store->journal.active->header.id, active));
        cr_assert(eq(u64, last_seq(&h, TOPIC), tried));
        cr_assert(eq(int, message_at(&h, TOPIC, tried + 1, &record, NULL),
                     STATUS_NOT_FOUND));
        (void)commit_one();
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
}

Test(recycle, a_kill_among_old_bytes_tears_nothing)
{
    live(LIVES);
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.torn_bytes, 0));
    cr_assert(eq(u64, h.recovery.torn_batches, 0));
    cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
    cr_assert(eq(u64, last_seq(&h, TOPIC), tried));
    cr_assert(is_text_of(tried, message_text(&h, TOPIC, tried)));
}

/* What stands behind the place of a lost seal is not believed. */
Test(recycle, a_lost_seal_among_old_bytes_is_damage_and_no_more)
{
    char path[600];
    uint32_t sealed;
    uint32_t end;
    uint64_t first;

    live(LIVES);
    first = tried - MESSAGES + 1;
    sealed = fill_segment();
    segment_file(&h, sealed, path, sizeof path);
    end = atomic_load(&log_segment(&h.store->log, sealed)->end);
    harness_kill(&h);
    harness_delete_keydir(&h);
    flip_bit(path, end - BATCH_SEAL_LEN, 2);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.damaged_batches, 1));
    cr_assert(gt(u64, h.recovery.damaged_bytes, 0));
    for (uint64_t seq = first; seq <= tried; seq++) {
        cr_assert(is_text_of(seq, message_text(&h, TOPIC, seq)));
    }
    cr_assert(eq(u64, last_seq(&h, TOPIC), tried));
}

/* With no space left for anything else, the pool gives up what is not wanted
 * for the next segment. */
Test(recycle, a_full_disk_takes_the_pools_files)
{
    static struct faulty_vfs faulty;
    uint32_t ids[SEGMENT_POOL_MAX];

    faulty_vfs_init(&faulty);
    h.config.vfs = &faulty.vfs;
    harness_reopen(&h);
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        ids[i] = fill_segment();
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        harness_remove_segment(&h, ids[i]);
    }
    cr_assert(eq(u64, stats().pool_segments, SEGMENT_POOL_MAX));
    atomic_store(&h.store->keydir_low, true);
    for (int i = 0; i < SEGMENT_POOL_MAX; i++) {
        cr_assert(ne(ptr, atomic_load(&h.store->next), NULL));
        (void)!store_prepare(h.store, &h.err);
        cr_assert(eq(u64, stats().pool_segments,
                     SEGMENT_POOL_MAX - 1u - (unsigned)i));
        cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
    }
    atomic_store(&h.store->keydir_low, false);
    h.config.vfs = NULL;
}

/* A start that failed after it had written the doubtful tail into a file of the
 * pool: the next one, which finds less of the tail, gives out another epoch. */
Test(recycle, an_epoch_is_given_out_once)
{
    static struct faulty_vfs faulty;
    struct store_commit commits[3];
    char path[600];
    uint64_t epoch;

    live(LIVES);
    segment_file(&h, h.store->journal.active->header.id, path, sizeof path);
    for (size_t i = 0; i < COUNT_OF(commits); i++) {
        commits[i] = append();
    }
    epoch = h.store->epoch;
    harness_kill(&h);
    faulty_vfs_init(&faulty);
    h.config.vfs = &faulty.vfs;
    /* the first puts what was prepared into the pool */
    faulty_vfs_arm(&faulty,
                   (struct faulty_plan) { FAULTY_RENAME, 2, true, EIO });
    cr_assert(eq(int, harness_open(&h), STATUS_IO));
    faulty_vfs_disarm(&faulty);
    flip_bit(path, commits[1].offset, 0); /* as if it had never been written */
    for (int life = 0; life < 3; life++) {
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
        cr_assert(eq(u64, last_seq(&h, TOPIC), confirmed + MESSAGES));
        if (life == 0) {
            cr_assert(h.store->journal.active->header.recycled);
            cr_assert(eq(u64, h.recovery.rescued_records, PER_BATCH));
            cr_assert(eq(u64, h.store->epoch, epoch + 2));
        }
        harness_kill(&h);
    }
    h.config.vfs = NULL;
}

/* ---- who reads the files without the store ---- */

static bool count_old(void *arg, const struct inspect_record *record)
{
    unsigned *old = arg;

    *old += record->record.kind == RECORD_MESSAGE
            && record->record.seq < first_kept;
    return true;
}

/* How many records of earlier lives the offline reader takes for records. */
static unsigned inspect_old(struct inspect_totals *totals)
{
    unsigned old = 0;
    struct inspect_visitor visitor = { .record = count_old, .arg = &old };
    struct inspect *inspect = NULL;

    cr_assert(eq(int, inspect_open(&inspect, h.dir, NULL, &h.err), STATUS_OK));
    cr_assert(
        eq(int, inspect_walk(inspect, &visitor, totals, &h.err), STATUS_OK),
        "%s", h.err.text);
    inspect_close(inspect);
    return old;
}

Test(recycle, scrub_and_offline_reader_see_this_life_only)
{
    struct store_scrub scrub = { .budget = SIZE_MAX };
    struct inspect_totals totals;

    live(LIVES);
    while (!scrub.done) {
        cr_assert(eq(int, store_scrub(h.store, &scrub, &h.err), STATUS_OK));
    }
    cr_assert(eq(u64, stats().damaged_records, 0));
    cr_assert(eq(u64, stats().damaged_batches, 0));
    harness_kill(&h);
    cr_assert(eq(u32, inspect_old(&totals), 0));
    cr_assert(eq(u64, totals.damages, 0));
    cr_assert(eq(u64, totals.torn_batches, 0));
    cr_assert(eq(u64, totals.torn_bytes, 0));
    cr_assert(eq(u64, totals.messages, tried - first_kept + 1));
}

/* A recovery wrote into its new segment where the old one ends, and cut that;
 * a power cut undoes the cut. Once the new segment is gone, what was torn there
 * must not come back as what was durable. */
Test(recycle, the_end_of_the_segment_before_outlives_the_head_that_says_it)
{
    static uint8_t torn[SEGMENT_LEN];
    struct store_commit hole;
    char path[600];
    uint64_t end;

    (void)commit_one();
    hole = append();
    (void)append(); /* whole, behind a hole */
    harness_kill(&h);
    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, hole.offset, 0);
    read_file(path, torn);
    tried = confirmed;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.store->journal.active->header.previous_end,
                 place_of(1, hole.offset)));
    harness_close(&h);
    end = file_len(path);
    cr_assert(eq(u64, end, hole.offset));
    write_file(path, torn);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u32, fill_segment(), 2));
    harness_remove_segment(&h, 2);
    cr_assert(eq(u64, file_len(path), end));
    cr_assert(eq(u64, stats().disk_bytes, bytes_on_disk()));
    harness_kill(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, last_seq(&h, TOPIC), tried));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, MESSAGES + 1), ""));
    cr_assert(is_text_of(tried, message_text(&h, TOPIC, tried)));
}

/* ---- torn batches over old ones ---- */

struct sectors {
    uint8_t old[SEGMENT_LEN]; /* as synced last */
    uint8_t new[SEGMENT_LEN]; /* with batches that were not synced */
    uint32_t first;           /* sector that was written to */
    uint32_t count;
    char saved[512]; /* the folder, with the new ones */
    char path[600];  /* of the segment in the harness's folder */
    uint64_t seed;
};

/* Two batches that nobody synced, over what an earlier life left, somewhere in
 * the segment or at its beginning. */
static void tear_up(struct sectors *s, bool at_begin)
{
    struct store_commit one;
    struct store_commit two;
    uint32_t id;

    live(LIVES);
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    do { /* the keydir does not cover all that is durable */
        (void)commit_one();
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    } while (at_begin && room() >= BATCH_ROOM);
    id = h.store->journal.active->header.id + at_begin;
    segment_file(&h, id, s->path, sizeof s->path);
    read_file(s->path, s->old);
    one = append();
    two = append();
    cr_assert(eq(u32, one.record_count, at_begin ? 1 : PER_BATCH));
    cr_assert(eq(u32, two.record_count, PER_BATCH));
    cr_assert(eq(u32, one.segment, id));
    cr_assert(h.store->journal.active->header.recycled);
    read_file(s->path, s->new);
    s->first = one.offset / SECTOR_LEN;
    s->count = (two.offset + two.len - 1) / SECTOR_LEN - s->first + 1;
    tmpdir_make(s->saved, sizeof s->saved);
    tmpdir_copy(h.dir, s->saved);
}

/* The facts and messages are those of one moment: none older than what was
 * confirmed, none newer than what was written, and as they were written. */
static unsigned count_violations(void)
{
    uint64_t last = last_seq(&h, TOPIC);
    unsigned violations = last < confirmed || last > tried;
    const char *facts = facts_text(&h);
    uint64_t of_fact = strtoull(facts + strlen("2:1:t="), NULL, 10);

    /* a segment's first batch has no fact */
    violations +=
        of_fact != last && (of_fact != confirmed || last != of_fact + 1);
    for (uint64_t seq = confirmed - MESSAGES + 1; seq <= last; seq++) {
        violations += !is_text_of(seq, message_text(&h, TOPIC, seq));
    }
    return violations;
}

/* An image with the sectors of which `kept` is true as they were written. */
static unsigned try_image(struct sectors *s, const bool *kept)
{
    static uint8_t image[SEGMENT_LEN];
    struct inspect_totals totals;
    unsigned violations;

    harness_close(&h);
    tmpdir_remove(h.dir);
    cr_assert(eq(int, mkdir(h.dir, 0700), 0));
    tmpdir_copy(s->saved, h.dir);
    memcpy(image, s->new, sizeof image);
    for (uint32_t i = 0; i < s->count; i++) {
        size_t at = (size_t)(s->first + i) * SECTOR_LEN;
        if (!kept[i]) {
            memcpy(image + at, s->old + at, SECTOR_LEN);
        }
    }
    write_file(s->path, image);
    violations = inspect_old(&totals);
    if (harness_open(&h) != STATUS_OK) {
        return 1;
    }
    violations += count_violations();
    return violations + (h.recovery.damaged_bytes != 0);
}

/* Each sector lost alone and kept alone, each beginning and each end, and a
 * hundred at random. How many images were not as they may be. */
static unsigned try_all(struct sectors *s)
{
    bool kept[2 * BATCH_ROOM / SECTOR_LEN];
    uint64_t state = s->seed;
    unsigned bad = 0;

    cr_assert(le(u32, s->count, (uint32_t)COUNT_OF(kept)));
    for (uint32_t shape = 0; shape < 4; shape++) {
        for (uint32_t at = 0; at < s->count; at++) {
            for (uint32_t i = 0; i < s->count; i++) {
                kept[i] = shape == 0   ? i != at
                          : shape == 1 ? i == at
                          : shape == 2 ? i < at
                                       : i >= at;
            }
            bad += try_image(s, kept) != 0;
        }
    }
    for (int round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < s->count; i++) {
            kept[i] = random_next(&state) % 2 == 0;
        }
        bad += try_image(s, kept) != 0;
    }
    return bad;
}

/* A disk that confirmed a write and lost it: what it shows instead are whole
 * records, of another time. Known to have been durable, so it is damage. */
Test(recycle, a_lost_write_that_was_confirmed_is_damage)
{
    static struct sectors s;
    struct store_commit commit;
    uint64_t seq;

    live(LIVES);
    segment_file(&h, h.store->journal.active->header.id, s.path, sizeof s.path);
    read_file(s.path, s.old);
    seq = tried + 2; /* the first that fills a sector */
    commit = commit_one();
    for (int i = 0; i < 3; i++) {
        (void)commit_one();
    }
    harness_kill(&h);
    harness_delete_keydir(&h);
    read_file(s.path, s.new);
    s.first = (commit.offset + BATCH_HEADER_LEN) / SECTOR_LEN + 1;
    memcpy(s.new + (size_t)s.first *SECTOR_LEN,
           s.old + (size_t)s.first * SECTOR_LEN, SECTOR_LEN);
    write_file(s.path, s.new);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.damaged_batches, 1));
    cr_assert(gt(u64, h.recovery.damaged_bytes, 0));
    cr_assert(eq(u64, last_seq(&h, TOPIC), tried));
    for (uint64_t i = first_kept; i <= tried; i++) {
        const char *text = message_text(&h, TOPIC, i);
        cr_assert(i == seq ? strcmp(text, "?") == 0 : is_text_of(i, text),
                  "message %" PRIu64 ": %.30s", i, text);
    }
}

static unsigned torn_over_old(bool at_begin, bool planted)
{
    static struct sectors s;
    unsigned bad;

    s.seed = random_seed();
    fprintf(stderr, "GODWIT_SEED=%" PRIu64 "\n", s.seed);
    tear_up(&s, at_begin);
    vouch_for_anything = planted;
    bad = try_all(&s);
    vouch_for_anything = false;
    tmpdir_remove(s.saved);
    return bad;
}

Test(recycle, a_batch_torn_over_an_old_one_is_never_taken)
{
    cr_assert(eq(u32, torn_over_old(false, false), 0));
}

Test(recycle, a_segments_first_batch_torn_over_an_old_one_is_never_taken)
{
    cr_assert(eq(u32, torn_over_old(true, false), 0));
}

/* The test above sees it when records of another life pass. */
Test(recycle, planted_a_header_that_vouches_for_nothing_is_seen)
{
    cr_assert(gt(u32, torn_over_old(false, true), 10));
}
