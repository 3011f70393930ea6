/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* Where messages are, when some are moved and segments emptied: against a table
 * with one line a message. */
#include "storage/keydir.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SEQ_MAX = 400, ROUNDS = 300, TOPIC = 7 };

struct line {
    uint32_t segment; /* 0: nowhere */
    uint32_t batch;
    uint32_t entry; /* offset of its own entry of the table */
};

static char dir[512];
static struct keydir *keydir;
static struct keydir_reader *reader;
static struct line lines[SEQ_MAX + 1];
static uint64_t state;

static void set_up(void)
{
    struct keydir_meta meta;
    char path[600];

    tmpdir_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/keydir", dir);
    cr_assert(eq(int,
                 keydir_open(&keydir, path, 64 << 20, 1, true, &meta, NULL),
                 STATUS_OK));
    cr_assert(eq(int, keydir_reader_open(&reader, keydir), STATUS_OK));
    memset(lines, 0, sizeof lines);
}

static void tear_down(void)
{
    keydir_reader_close(reader);
    keydir_close(keydir);
    tmpdir_remove(dir);
}

TestSuite(keydir_runs, .init = set_up, .fini = tear_down, .timeout = 60);

static void begin(void)
{
    keydir_reader_reset(reader);
    cr_assert(eq(int, keydir_begin(keydir), STATUS_OK));
}

static void commit(void)
{
    struct keydir_meta meta = { .store_id = 1 };
    struct error err;

    keydir_put_meta(keydir, &meta);
    cr_assert(eq(int, keydir_commit(keydir, &err), STATUS_OK), "%s", err.text);
}

static void put(uint32_t segment, uint64_t first, uint32_t count, bool moved)
{
    struct store_run run = { .topic = TOPIC,
                             .count = count,
                             .first_seq = first,
                             .segment = segment,
                             .batch = 4096 + segment * 8,
                             .table = 100000 + segment * 10000 };

    if (moved) {
        keydir_put_moved(keydir, &run);
    } else {
        keydir_put_run(keydir, &run);
    }
    for (uint32_t i = 0; i < count; i++) {
        lines[first + i] =
            (struct line) { segment, run.batch, run.table + i * 4 };
    }
}

static void check(void)
{
    uint64_t next_there = 0;

    for (uint64_t seq = SEQ_MAX; seq >= 1; seq--) {
        struct store_run run;
        uint64_t next;
        enum status status = keydir_find_run(reader, TOPIC, seq, &run, &next);
        if (lines[seq].segment == 0) {
            cr_assert(eq(int, status, STATUS_NOT_FOUND), "seq %" PRIu64, seq);
            cr_assert(eq(u64, next, next_there), "seq %" PRIu64, seq);
            continue;
        }
        next_there = seq;
        cr_assert(eq(int, status, STATUS_OK), "seq %" PRIu64, seq);
        cr_assert(eq(u32, run.segment, lines[seq].segment), "seq %" PRIu64,
                  seq);
        cr_assert(eq(u32, run.batch, lines[seq].batch));
        cr_assert(eq(u32, run.table + (uint32_t)(seq - run.first_seq) * 4,
                     lines[seq].entry));
        cr_assert(lt(u64, seq - run.first_seq, run.count));
    }
    cr_assert(eq(int, keydir_check(keydir, NULL), STATUS_OK));
}

/* Other topics beside it must not be touched. */
static void put_neighbours(void)
{
    struct store_run before = { TOPIC - 1, 50, 380, 99, 4096, 5000 };
    struct store_run after = { TOPIC + 1, 50, 1, 99, 4096, 5000 };

    keydir_put_run(keydir, &before);
    keydir_put_run(keydir, &after);
}

static void check_neighbours(void)
{
    struct store_run run;
    uint64_t next;

    cr_assert(eq(int, keydir_find_run(reader, TOPIC - 1, 429, &run, &next),
                 STATUS_OK));
    cr_assert(eq(u32, run.count, 50));
    cr_assert(
        eq(int, keydir_find_run(reader, TOPIC + 1, 1, &run, &next), STATUS_OK));
    cr_assert(eq(u32, run.count, 50));
}

static void erase(uint32_t segment)
{
    struct keydir_stretch stretch = { TOPIC, segment, SEQ_MAX };
    uint64_t next = 1;

    while (next <= SEQ_MAX) {
        size_t budget = 1 + random_next(&state) % 5;
        keydir_erase_runs(keydir, &stretch, &next, &budget);
    }
    for (uint64_t seq = 1; seq <= SEQ_MAX; seq++) {
        if (lines[seq].segment == segment) {
            lines[seq] = (struct line) { 0 };
        }
    }
}

/* The runs that keydir_runs_in() gives are those the table has. */
static void check_segment(uint32_t segment)
{
    struct keydir_stretch stretch = { TOPIC, segment, SEQ_MAX };
    uint64_t found = 0;
    uint64_t there = 0;
    uint64_t next = 1;

    while (next <= SEQ_MAX) {
        struct store_run runs[4];
        size_t count;
        cr_assert(eq(int,
                     keydir_runs_in(keydir, &stretch, &next, runs, 4, &count),
                     STATUS_OK));
        for (size_t i = 0; i < count; i++) {
            cr_assert(eq(u32, runs[i].segment, segment));
            found += runs[i].count;
        }
    }
    for (uint64_t seq = 1; seq <= SEQ_MAX; seq++) {
        there += lines[seq].segment == segment;
    }
    cr_assert(eq(u64, found, there));
}

Test(keydir_runs, a_moved_run_cuts_out_what_was_there)
{
    begin();
    put(1, 1, 100, false);
    put(2, 101, 100, false);
    put_neighbours();
    put(3, 40, 20, true);  /* out of the middle */
    put(4, 1, 10, true);   /* at the front */
    put(5, 190, 11, true); /* at the end */
    put(6, 90, 21, true);  /* over two */
    put(7, 45, 5, true);   /* of a moved one */
    put(8, 40, 20, true);  /* over all of several */
    put(9, 300, 3, true);  /* where there was nothing */
    commit();
    check();
    check_neighbours();
}

Test(keydir_runs, moves_and_erasures_in_any_order)
{
    uint32_t segment = 1;

    state = random_seed();
    printf("GODWIT_SEED=%" PRIu64 "\n", state);
    begin();
    put_neighbours();
    for (uint64_t seq = 1; seq <= SEQ_MAX;) {
        uint32_t count = 1 + (uint32_t)(random_next(&state) % 30);
        count =
            seq + count > SEQ_MAX + 1 ? (uint32_t)(SEQ_MAX + 1 - seq) : count;
        put(segment + (uint32_t)(seq / 60), seq, count, false);
        seq += count;
    }
    commit();
    segment += SEQ_MAX / 60 + 1;
    for (int round = 0; round < ROUNDS; round++) {
        begin();
        for (int i = 0; i < 3; i++) {
            uint64_t first = 1 + random_next(&state) % SEQ_MAX;
            uint64_t count = 1 + random_next(&state) % 20;
            count = first + count > SEQ_MAX + 1 ? SEQ_MAX + 1 - first : count;
            put(++segment, first, (uint32_t)count, true);
        }
        if (round % 3 == 0) {
            erase(1 + (uint32_t)(random_next(&state) % segment));
        }
        commit();
        check();
        check_segment(1 + (uint32_t)(random_next(&state) % segment));
    }
    check_neighbours();
}
