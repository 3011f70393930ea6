/* links: godwit_storage godwit_proto */
/* with: test/storage/upkeep.c test/storage/harness.c test/lib/tmpdir.c */

/* The snapshot by itself: what is written is read, a flipped bit costs one
 * entry at most and is counted, another store's or a newer one is not believed.
 * And in a store: what becomes of it when the snapshot was not written after
 * all. */
#include "storage/block.h"
#include "storage/snapshot.h"

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
#include <sys/stat.h>
#include <unistd.h>

enum { STORE_ID = 4711, FACTS_HERE = 40, PRODUCERS_HERE = 300, FLIPS = 400 };

static char dir[512];
static char keydir_path[600];
static struct keydir *keydir;

static void put_everything(void)
{
    struct keydir_meta meta = { .store_id = STORE_ID,
                                .place = UINT64_C(9) << 32 | 4096,
                                .number = 77,
                                .hash = 88 };
    char name[32];

    cr_assert(eq(int, keydir_begin(keydir), STATUS_OK));
    for (uint32_t i = 1; i <= FACTS_HERE; i++) {
        struct record_fact fact = { CATALOG_TOPIC, i, i % 7 == 0,
                                    slice_text(name), slice_text("value") };
        snprintf(name, sizeof name, "topic-%u", i);
        fact.name = slice_text(name);
        keydir_put_fact(keydir, &fact);
        keydir_put_topic(keydir,
                         &(struct store_topic) { i, 100 + i, i, i + 5 });
    }
    for (uint32_t i = 1; i <= PRODUCERS_HERE; i++) {
        keydir_put_producer(
            keydir, PRODUCERS,
            &(struct producer) { .app = i, .id = i * 3, .last = i * 5 });
    }
    keydir_put_meta(keydir, &meta);
    cr_assert(eq(int, keydir_commit(keydir, NULL), STATUS_OK));
}

static void set_up(void)
{
    struct keydir_meta meta;

    tmpdir_make(dir, sizeof dir);
    snprintf(keydir_path, sizeof keydir_path, "%s/keydir", dir);
    cr_assert(eq(int,
                 keydir_open(&keydir, keydir_path, 64 << 20, STORE_ID, true,
                             &meta, NULL),
                 STATUS_OK));
    put_everything();
}

static void tear_down(void)
{
    keydir_close(keydir);
    tmpdir_remove(dir);
}

TestSuite(snapshot, .init = set_up, .fini = tear_down, .timeout = 60);

static void write_one(size_t step)
{
    struct snapshot_writer *writer;
    struct seqset gone = { 0 };
    bool done = false;

    cr_assert(eq(int, seqset_add(&gone, 1, 3, NULL), STATUS_OK));
    cr_assert(eq(int, seqset_add(&gone, 6, 6, NULL), STATUS_OK));
    cr_assert(
        eq(int, snapshot_begin(&writer, vfs_system(), dir, keydir, &gone, NULL),
           STATUS_OK));
    while (!done) {
        cr_assert(
            eq(int, snapshot_step(writer, step, &done, NULL, NULL), STATUS_OK));
    }
    snapshot_end(writer);
    seqset_fini(&gone);
}

struct seen {
    uint64_t facts, topics, producers, wrong;
};

static void on_fact(void *arg, const struct record_fact *fact)
{
    struct seen *seen = arg;

    seen->facts++;
    seen->wrong += fact->deleted != (fact->id % 7 == 0);
}

static void on_topic(void *arg, const struct store_topic *topic)
{
    struct seen *seen = arg;

    seen->topics++;
    seen->wrong += topic->last_seq != 100 + topic->topic
                   || topic->first_seq != topic->topic
                   || topic->floor_seq != topic->topic + 5;
}

static void on_producer(void *arg, const struct producer *entry)
{
    struct seen *seen = arg;

    seen->producers++;
    seen->wrong += entry->id != entry->app * UINT64_C(3)
                   || entry->last != entry->app * UINT64_C(5);
}

static enum status on_value(void *arg, enum keydir_table table,
                            struct slice key, struct slice value)
{
    struct keydir_visitor visitor = {
        .fact = on_fact, .topic = on_topic, .producer = on_producer, .arg = arg
    };

    return keydir_decode(table, key, value, &visitor);
}

static enum status read_one(struct seen *seen, struct seqset *gone,
                            struct snapshot_head *head, uint64_t *damaged)
{
    struct snapshot_visitor visitor = { on_value, seen };

    *seen = (struct seen) { 0 };
    return snapshot_read(vfs_system(), dir, STORE_ID, &visitor, head, gone,
                         damaged, NULL);
}

static void file_of(char path[600])
{
    snprintf(path, 600, "%s/snapshot", dir);
}

Test(snapshot, what_is_written_is_read)
{
    struct snapshot_head head;
    struct seqset gone = { 0 };
    struct seen seen;
    uint64_t damaged;

    for (size_t step = 1; step <= 1024 * 1024; step *= 1024) {
        seqset_clear(&gone);
        write_one(step);
        cr_assert(eq(int, read_one(&seen, &gone, &head, &damaged), STATUS_OK));
        cr_assert(eq(u64, seen.facts, FACTS_HERE));
        cr_assert(eq(u64, seen.topics, FACTS_HERE));
        cr_assert(eq(u64, seen.producers, PRODUCERS_HERE));
        cr_assert(eq(u64, seen.wrong, 0));
        cr_assert(eq(u64, damaged, 0));
        cr_assert(eq(u64, seqset_count(&gone), 4));
        cr_assert(seqset_has(&gone, 6));
        cr_assert(eq(u64, head.place, UINT64_C(9) << 32 | 4096));
        cr_assert(eq(u64, head.number, 77));
        cr_assert(eq(u64, head.hash, 88));
    }
    seqset_fini(&gone);
}

Test(snapshot, the_list_is_read_without_the_rest)
{
    struct snapshot_head head;
    struct seqset gone = { 0 };
    uint64_t damaged;

    write_one(1024);
    cr_assert(eq(int,
                 snapshot_read(vfs_system(), dir, STORE_ID, NULL, &head, &gone,
                               &damaged, NULL),
                 STATUS_OK));
    cr_assert(eq(u64, seqset_count(&gone), 4));
    cr_assert(eq(u64, damaged, 0));
    seqset_fini(&gone);
}

/* Whatever the bit: nothing wrong is read, at most one entry is lost and then
 * it is counted. */
Test(snapshot, a_flipped_bit_costs_one_entry_at_most)
{
    uint64_t state = 5;
    char path[600];
    unsigned lost = 0;

    write_one(1024 * 1024);
    file_of(path);
    for (int i = 0; i < FLIPS; i++) {
        struct snapshot_head head;
        struct seqset gone = { 0 };
        struct seen seen;
        uint64_t damaged;
        uint64_t offset = random_next(&state) % file_len(path);
        int bit = (int)(random_next(&state) % 8);

        flip_bit(path, offset, bit);
        cr_assert(eq(int, read_one(&seen, &gone, &head, &damaged), STATUS_OK),
                  "bit %d at %" PRIu64, bit, offset);
        cr_assert(eq(u64, seen.wrong, 0));
        cr_assert(le(u64, damaged, 1));
        cr_assert(eq(u64,
                     seen.facts + seen.topics + seen.producers
                         + (seqset_count(&gone) == 4 ? 1 : 0) + damaged,
                     2 * FACTS_HERE + PRODUCERS_HERE + 1));
        cr_assert(eq(int, offset >= 4096, damaged == 1));
        lost += damaged == 1;
        flip_bit(path, offset, bit);
        seqset_fini(&gone);
    }
    cr_assert(gt(u32, lost, FLIPS / 2));
}

static enum status read_head_only(uint64_t store_id)
{
    struct snapshot_head head;
    struct seqset gone = { 0 };
    uint64_t damaged;
    enum status status = snapshot_read(vfs_system(), dir, store_id, NULL, &head,
                                       &gone, &damaged, NULL);

    seqset_fini(&gone);
    return status;
}

static void put_version(uint32_t version)
{
    uint8_t block[BLOCK_LEN];
    char path[600];
    int fd;

    file_of(path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, pread(fd, block, sizeof block, 0), BLOCK_LEN));
    put_u32(block + 8, version);
    block_close(block);
    cr_assert(eq(int, pwrite(fd, block, sizeof block, 0), BLOCK_LEN));
    close(fd);
}

Test(snapshot, none_another_stores_a_newer_and_a_damaged_head_are_told_apart)
{
    char path[600];

    cr_assert(eq(int, read_head_only(STORE_ID), STATUS_NOT_FOUND));
    write_one(1024);
    file_of(path);
    cr_assert(eq(int, read_head_only(STORE_ID + 1), STATUS_CORRUPT));
    put_version(3);
    cr_assert(eq(int, read_head_only(STORE_ID), STATUS_NEWER));
    for (uint32_t version = 1; version <= 2; version++) {
        put_version(version);
        cr_assert(eq(int, read_head_only(STORE_ID), STATUS_OK));
    }
    flip_bit(path, 40, 1);
    cr_assert(eq(int, read_head_only(STORE_ID), STATUS_OK)); /* twice over */
    flip_bit(path, 2048 + 40, 1);
    cr_assert(eq(int, read_head_only(STORE_ID), STATUS_CORRUPT));
}

Test(snapshot, one_that_ends_early_is_read_as_far_as_it_goes)
{
    struct snapshot_head head;
    struct seqset gone = { 0 };
    struct seen seen;
    uint64_t damaged;
    char path[600];

    write_one(1024);
    file_of(path);
    cr_assert(eq(int, truncate(path, (off_t)file_len(path) / 2), 0));
    cr_assert(eq(int, read_one(&seen, &gone, &head, &damaged), STATUS_OK));
    cr_assert(eq(u64, seen.wrong, 0));
    cr_assert(eq(u64, seen.facts + seen.topics + seen.producers + damaged,
                 2 * FACTS_HERE + PRODUCERS_HERE));
    cr_assert(eq(int, truncate(path, 100), 0));
    cr_assert(eq(int, read_head_only(STORE_ID), STATUS_CORRUPT));
    seqset_fini(&gone);
}

Test(snapshot, one_that_was_not_finished_leaves_nothing)
{
    struct snapshot_writer *writer;
    struct seqset gone = { 0 };
    char path[600];
    bool done;

    cr_assert(
        eq(int, snapshot_begin(&writer, vfs_system(), dir, keydir, &gone, NULL),
           STATUS_OK));
    cr_assert(eq(int, snapshot_step(writer, 1, &done, NULL, NULL), STATUS_OK));
    cr_assert(not(done));
    snapshot_end(writer);
    snprintf(path, sizeof path, "%s/snapshot.tmp", dir);
    cr_assert(eq(int, access(path, F_OK), -1));
    cr_assert(eq(int, read_head_only(STORE_ID), STATUS_NOT_FOUND));
}

/* ---- in a store ---- */

static struct harness h;
static struct upkeep_bed bed;

/* A planted bug: the snapshot never gets its name. */
static int drop_rename(const struct vfs *vfs, const char *from, const char *to)
{
    size_t len = strlen(to);

    (void)vfs;
    return len > 9 && strcmp(to + len - 9, "/snapshot") == 0
               ? 0
               : vfs_system()->rename(vfs_system(), from, to);
}

static void publish_and_settle(void)
{
    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    add_fact(&h, CATALOG_TOPIC, 1, "one", "", false);
    for (int i = 0; i < 400; i++) {
        add_sized(&h, 1, 900, 'x');
        if (i % 5 == 4) {
            cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        }
    }
    add_ack(&h, 1, 1, 1, 399);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    for (int i = 0; i < 100; i++) {
        add_sized(&h, 2, 900, 'y');
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    cr_assert(eq(int, upkeep_all(&bed, NULL), STATUS_OK), "%s", h.err.text);
}

static void in_store(const struct vfs *vfs)
{
    harness_init(&h);
    h.config.vfs = vfs;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    upkeep_bed_init(&bed, &h);
    publish_and_settle();
    harness_close(&h);
    harness_delete_keydir(&h);
    h.config.vfs = NULL;
}

static void end_store(void)
{
    upkeep_bed_fini(&bed);
    harness_fini(&h);
}

Test(snapshot, a_store_lives_by_it_when_the_keydir_is_lost)
{
    in_store(NULL);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.missing_segments, 0));
    cr_assert(eq(str, (char *)facts_text(&h), "2:1:one= "));
    cr_assert(eq(str, (char *)lane_text(&h, 1, 1), "1-399"));
    cr_assert(eq(u64, last_seq(&h, 1), 400));
    end_store();
}

/* ---- damaged, in a store ---- */

/* Topic 2 has its first fact, and a first try of a message, in a segment that
 * stays; what came later of both stood in segments that are gone. */
static void old_and_new(void)
{
    struct retry retry = { .seq = 5, .due_us = 100, .attempts = 1 };

    harness_init(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    upkeep_bed_init(&bed, &h);
    keep_until_settled(&bed, 2, 0);
    keep_until_limit(&bed, 1, 0, 0, 10);
    add_fact(&h, CATALOG_TOPIC, 2, "two", "old", false);
    for (uint64_t i = 1; i <= 50; i++) {
        add_sent(&h, 2, "stays", 77, i);
        add_sized(&h, 2, 900, 'y');
    }
    add_retry(&h, 1, 2, retry);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    for (int i = 0; i < 800; i++) {
        add_sized(&h, 1, 900, 'x');
        if (i == 200) {
            retry.attempts = 9;
            add_fact(&h, CATALOG_TOPIC, 2, "two", "new", false);
            add_retry(&h, 1, 2, retry);
        }
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    cr_assert(eq(int, upkeep_all(&bed, NULL), STATUS_OK), "%s", h.err.text);
    harness_close(&h);
    harness_delete_keydir(&h);
}

/* The bit is one of the entry that holds `text`, or of the last one. */
static void damage_entry(const char *text)
{
    char path[600];

    snprintf(path, sizeof path, "%s/snapshot", h.dir);
    flip_bit(path,
             text == NULL ? file_len(path) - 10 : find_in_file(path, text), 2);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(h.recovery.keydir_rebuilt);
    cr_assert(gt(u64, h.recovery.damaged_batches, 0));
}

Test(snapshot, what_a_damaged_one_gives_is_not_undone_by_what_is_older)
{
    old_and_new();
    damage_entry(NULL); /* the producer's */
    cr_assert(eq(str, (char *)facts_text(&h), "2:2:two=new "));
    cr_assert(eq(str, (char *)lane_text(&h, 1, 2), " retries 5x9@100"));
    harness_reopen(&h);
    cr_assert(eq(str, (char *)facts_text(&h), "2:2:two=new "));
    end_store();
}

Test(snapshot, what_a_damaged_one_does_not_give_comes_from_the_log)
{
    struct store_commit commit;

    old_and_new();
    damage_entry("twonew");
    cr_assert(eq(str, (char *)facts_text(&h), "2:2:two=old "));
    cr_assert(eq(str, (char *)lane_text(&h, 1, 2), " retries 5x9@100"));
    add_sent(&h, 2, "again", 77, 50);
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(int, record_flags_at(h.buffer), RECORD_DUPLICATE));
    end_store();
}

static int sync_fails(const struct vfs *vfs, int fd)
{
    (void)vfs;
    (void)fd;
    errno = EIO;
    return -1;
}

/* Nobody knows any more then which fact came from where. */
Test(snapshot, a_start_that_ends_before_it_has_read_the_log_is_made_again)
{
    struct vfs vfs = *vfs_system();
    char path[600];

    old_and_new();
    vfs.sync = sync_fails;
    h.config.vfs = &vfs;
    snprintf(path, sizeof path, "%s/snapshot", h.dir);
    flip_bit(path, file_len(path) - 10, 2);
    cr_assert(eq(int, harness_open(&h), STATUS_IO));
    h.config.vfs = NULL;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(h.recovery.keydir_rebuilt);
    cr_assert(eq(str, (char *)facts_text(&h), "2:2:two=new "));
    end_store();
}

Test(snapshot, removal_without_it_is_noticed)
{
    struct vfs vfs = *vfs_system();

    vfs.rename = drop_rename;
    in_store(&vfs);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(gt(u64, h.recovery.missing_segments, 0));
    cr_assert(not(eq(str, (char *)facts_text(&h), "2:1:one= ")));
    end_store();
}

Test(snapshot, a_store_with_a_newer_one_is_not_touched)
{
    char own[512];

    in_store(NULL);
    snprintf(own, sizeof own, "%s", dir);
    snprintf(dir, sizeof dir, "%s", h.dir);
    put_version(9);
    cr_assert(eq(int, harness_open(&h), STATUS_NEWER));
    put_version(1);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)facts_text(&h), "2:1:one= "));
    snprintf(dir, sizeof dir, "%s", own);
    end_store();
}

Test(snapshot, the_log_is_not_gone_while_a_segment_is_there)
{
    struct store_recovery recovery;

    in_store(NULL);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    recovery = h.recovery;
    cr_assert(recovery.keydir_rebuilt);
    harness_close(&h);
    {
        char log[600];
        snprintf(log, sizeof log, "%s/log", h.dir);
        tmpdir_remove(log);
        cr_assert(eq(int, mkdir(log, 0700), 0));
    }
    cr_assert(eq(int, harness_open(&h), STATUS_CORRUPT));
    cr_assert(not(eq(ptr, strstr(h.err.text, "the log is gone"), NULL)));
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_CORRUPT));
    cr_assert(not(eq(ptr, strstr(h.err.text, "the log is gone"), NULL)));
    end_store();
}
