/* links: godwit_offline godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* Ids of segments: they run out one day, and files that are only named like a
 * segment neither take any away nor are harmed. */
#include "storage/offline/inspect.h"
#include "storage/internal.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TOPIC = 1,
    AT_ID = 12, /* in the head of a segment, FORMAT.md */
    AT_STORE = 16
};

static struct harness h;

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 64 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(ids, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- helpers ---- */

/* Until the log has gone on in so many new segments. */
static void roll(uint64_t count)
{
    struct store_stats stats;

    store_stats(h.store, &stats);
    count += stats.segments;
    while (stats.segments < count) {
        add_sized(&h, TOPIC, 900, 'x');
        cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
        store_stats(h.store, &stats);
    }
}

static bool all_there(void)
{
    uint64_t last = last_seq(&h, TOPIC);

    for (uint64_t seq = 1; seq <= last; seq++) {
        struct record record;
        if (message_at(&h, TOPIC, seq, &record, NULL) != STATUS_OK) {
            return false;
        }
    }
    return true;
}

/* A whole head with another id, or of another store, and nothing else. */
static void write_head(uint32_t from, uint32_t id, uint64_t store_id)
{
    uint8_t block[BLOCK_LEN];
    char path[600];
    int fd;

    segment_file(&h, from, path, sizeof path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(eq(int, (int)read(fd, block, sizeof block), BLOCK_LEN));
    close(fd);
    put_u32(block + AT_ID, id);
    if (store_id != 0) {
        put_u64(block + AT_STORE, store_id);
    }
    block_close(block);
    segment_file(&h, id, path, sizeof path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(eq(int, (int)write(fd, block, sizeof block), BLOCK_LEN));
    close(fd);
}

static void write_text(uint32_t id)
{
    char path[600];
    int fd;

    segment_file(&h, id, path, sizeof path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (int i = 0; i < 6000; i++) {
        cr_assert(eq(int, (int)write(fd, "x", 1), 1));
    }
    close(fd);
}

static uint64_t len_of(uint32_t id)
{
    char path[600];
    struct stat stat_of;

    segment_file(&h, id, path, sizeof path);
    return stat(path, &stat_of) == 0 ? (uint64_t)stat_of.st_size : 0;
}

static void start_again(void)
{
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void inspect_all(struct inspect_totals *totals)
{
    struct inspect_visitor visitor = { .arg = NULL };
    struct inspect *inspect = NULL;

    cr_assert(eq(int, inspect_open(&inspect, h.dir, NULL, &h.err), STATUS_OK),
              "%s", h.err.text);
    cr_assert(
        eq(int, inspect_walk(inspect, &visitor, totals, &h.err), STATUS_OK));
    inspect_close(inspect);
}

/* ---- files that are not ours ---- */

Test(ids, another_stores_file_with_the_last_id_is_left_alone)
{
    struct inspect_totals totals;

    roll(2);
    write_head(1, SEGMENT_ID_MAX, 4711);
    start_again();
    cr_assert(eq(u64, h.recovery.missing_segments, 1));
    roll(2);
    harness_reopen(&h);
    cr_assert(eq(u64, h.recovery.missing_segments, 1));
    cr_assert(all_there());
    cr_assert(eq(u64, len_of(SEGMENT_ID_MAX), BLOCK_LEN));
    inspect_all(&totals);
    cr_assert(eq(u64, totals.foreign_files, 1));
    cr_assert(eq(u64, totals.missing_segments, 1));
    cr_assert(eq(u64, totals.missing, 0));
}

Test(ids, neither_does_a_file_that_is_no_segment_count)
{
    roll(2);
    write_text(SEGMENT_ID_MAX);
    start_again();
    cr_assert(eq(u64, h.recovery.missing_segments, 1));
    roll(2);
    harness_reopen(&h);
    cr_assert(all_there());
    cr_assert(eq(u64, len_of(SEGMENT_ID_MAX), 6000));
}

Test(ids, the_log_goes_round_a_name_that_is_taken)
{
    uint32_t next;

    roll(2);
    next = h.store->journal.active->header.id + 3;
    write_head(1, next, 4711);
    write_text(next + 1);
    start_again();
    roll(4);
    cr_assert(gt(u32, h.store->journal.active->header.id, next + 1));
    cr_assert(eq(u64, len_of(next), BLOCK_LEN));
    cr_assert(eq(u64, len_of(next + 1), 6000));
    cr_assert(all_there());
    harness_reopen(&h); /* the keydir's way */
    cr_assert(all_there());
    start_again();
    cr_assert(all_there());
    harness_kill(&h); /* the log's way */
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(all_there());
    cr_assert(eq(u64, len_of(next), BLOCK_LEN));
    cr_assert(eq(u64, len_of(next + 1), 6000));
}

Test(ids, a_name_that_was_gone_round_is_not_missed)
{
    char path[600];
    uint32_t next;

    roll(1);
    next = h.store->journal.active->header.id + 2;
    write_head(1, next, 4711);
    start_again();
    roll(3);
    harness_close(&h);
    segment_file(&h, next, path, sizeof path);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.missing_segments, 0));
    cr_assert(all_there());
}

/* ---- the bound ---- */

/* The store has used all ids but `left`. */
static void age(uint32_t left)
{
    char path[600];

    harness_close(&h);
    write_head(1, SEGMENT_ID_MAX - left, 0);
    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(int, unlink(path), 0));
    harness_delete_keydir(&h);
}

Test(ids, the_last_id_is_used_and_none_after_it)
{
    struct store_commit commit;

    age(1);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u32, h.store->journal.active->header.id, SEGMENT_ID_MAX));
    add_message(&h, TOPIC, "the last segment");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    harness_reopen(&h); /* a clean one takes no id */
    cr_assert(h.recovery.clean);
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 1), "the last segment"));
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_NO_SPACE));
    cr_assert(ne(ptr, strstr(h.err.text, "no segment id is left"), NULL));
    for (int i = 0; i < 100; i++) {
        add_sized(&h, TOPIC, 900, 'x');
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
        h.now_us += 1000 * 1000;
    }
    cr_assert(eq(u8, record_flags_at(h.buffer), RECORD_REFUSED));
    cr_assert(store_space_low(h.store));
    cr_assert(not(store_frozen(h.store)));
}

Test(ids, a_start_without_an_id_says_so)
{
    age(0);
    cr_assert(eq(int, harness_open(&h), STATUS_NO_SPACE));
    cr_assert(ne(ptr, strstr(h.err.text, "no segment id is left"), NULL), "%s",
              h.err.text);
}
