/* The keydir's runs: which messages stand in which batch. Those of ordinary
 * batches never overlap; one that a merge moved takes the place of what was
 * said of its messages before. */
#include "storage/keydir_impl.h"

void keydir_put_run(struct keydir *keydir, const struct store_run *run)
{
    uint8_t key[RUN_KEY_LEN];
    uint8_t value[RUN_VALUE_LEN];

    run_key(key, run->topic, run->first_seq);
    run_value(value, run);
    keydir_put(keydir, RUNS, val_of(key, sizeof key),
               val_of(value, sizeof value));
}

static void del_run(struct keydir *keydir, uint32_t topic, uint64_t first_seq)
{
    uint8_t key[RUN_KEY_LEN];

    run_key(key, topic, first_seq);
    keydir_del(keydir, RUNS, val_of(key, sizeof key));
}

/* ---- moved runs ---- */

static int decode(MDB_val key, MDB_val value, struct store_run *out)
{
    struct slice bytes = slice_of_val(value);

    return seal_check(RUNS, slice_of_val(key), &bytes)
                   && run_read(slice_of_val(key), bytes, out)
               ? 0
               : MDB_CORRUPTED;
}

/* The topic's last run that begins before `seq` (MDB_PREV), or its first that
 * begins at or behind it (MDB_SET_RANGE). False: none, or failed. */
static bool look_up(struct keydir *keydir, uint32_t topic, uint64_t seq,
                    MDB_cursor_op op, struct store_run *out)
{
    uint8_t bytes[RUN_KEY_LEN];
    MDB_val key = val_of(bytes, sizeof bytes);
    MDB_cursor *cursor;
    MDB_val value;
    int rc = keydir->failed;

    if (rc != 0) {
        return false;
    }
    run_key(bytes, topic, seq);
    rc = mdb_cursor_open(keydir->txn, keydir->tables[RUNS], &cursor);
    if (rc != 0) {
        keydir->failed = rc;
        return false;
    }
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (op == MDB_PREV) {
        rc =
            mdb_cursor_get(cursor, &key, &value, rc == 0 ? MDB_PREV : MDB_LAST);
    }
    rc = rc == 0 ? decode(key, value, out) : rc;
    mdb_cursor_close(cursor);
    if (rc != 0 && rc != MDB_NOTFOUND) {
        keydir->failed = rc;
    }
    return rc == 0 && out->topic == topic;
}

static uint64_t last_of(const struct store_run *run)
{
    return run->first_seq + run->count - 1;
}

/* What is left of a run behind message `last`. */
static void put_rest(struct keydir *keydir, const struct store_run *run,
                     uint64_t last)
{
    uint32_t cut = (uint32_t)(last + 1 - run->first_seq);
    struct store_run rest = *run;

    if (last_of(run) <= last) {
        return;
    }
    rest.first_seq += cut;
    rest.count -= cut;
    rest.table = run->table == 0 ? 0 : run->table + cut * 4;
    keydir_put_run(keydir, &rest);
}

static void cut_out(struct keydir *keydir, uint32_t topic, uint64_t first,
                    uint64_t last)
{
    struct store_run run;

    if (look_up(keydir, topic, first, MDB_PREV, &run)
        && last_of(&run) >= first) {
        struct store_run left = run;
        left.count = (uint32_t)(first - run.first_seq);
        keydir_put_run(keydir, &left);
        put_rest(keydir, &run, last);
    }
    while (look_up(keydir, topic, first, MDB_SET_RANGE, &run)
           && run.first_seq <= last) {
        del_run(keydir, topic, run.first_seq);
        put_rest(keydir, &run, last);
    }
}

void keydir_put_moved(struct keydir *keydir, const struct store_run *run)
{
    cut_out(keydir, run->topic, run->first_seq, last_of(run));
    keydir_put_run(keydir, run);
}

/* ---- the runs of a topic in one segment ---- */

typedef int (*in_segment_fn)(void *arg, MDB_cursor *cursor, MDB_val value,
                             const struct store_run *run);

/* Call back with each, from *next_seq on, while there is budget: every run of
 * the topic that is looked at takes one. *next_seq: where to go on, or behind
 * last_seq. */
static int walk_segment(MDB_txn *txn, MDB_dbi table,
                        const struct keydir_stretch *s, uint64_t *next_seq,
                        size_t *budget, in_segment_fn fn, void *arg)
{
    uint8_t bytes[RUN_KEY_LEN];
    MDB_val key = val_of(bytes, sizeof bytes);
    MDB_cursor *cursor;
    struct store_run run = { 0 };
    MDB_val value;
    int rc = mdb_cursor_open(txn, table, &cursor);

    if (rc != 0) {
        return rc;
    }
    run_key(bytes, s->topic, *next_seq);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && (rc = decode(key, value, &run)) == 0
           && run.topic == s->topic && run.first_seq <= s->last_seq) {
        *next_seq = run.first_seq;
        if (*budget == 0) {
            mdb_cursor_close(cursor);
            return 0;
        }
        (*budget)--;
        rc = run.segment == s->segment ? fn(arg, cursor, value, &run) : 0;
        if (rc == 0) {
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
    }
    mdb_cursor_close(cursor);
    if (rc == 0 || rc == MDB_NOTFOUND) {
        *next_seq = s->last_seq + 1;
        return 0;
    }
    return rc;
}

static int erase_one(void *arg, MDB_cursor *cursor, MDB_val value,
                     const struct store_run *run)
{
    int rc = keydir_forget(arg, RUNS, value);

    (void)run;
    return rc != 0 ? rc : mdb_cursor_del(cursor, 0);
}

void keydir_erase_runs(struct keydir *keydir,
                       const struct keydir_stretch *stretch, uint64_t *next_seq,
                       size_t *budget)
{
    if (keydir->failed == 0) {
        keydir->failed =
            walk_segment(keydir->txn, keydir->tables[RUNS], stretch, next_seq,
                         budget, erase_one, keydir);
    }
    if (keydir->failed != 0) {
        *budget = 0;
    }
}

struct collect {
    struct store_run *runs;
    size_t room;
    size_t count;
};

static int collect_one(void *arg, MDB_cursor *cursor, MDB_val value,
                       const struct store_run *run)
{
    struct collect *collect = arg;

    (void)cursor;
    (void)value;
    CHECK(collect->count < collect->room);
    collect->runs[collect->count++] = *run;
    return 0;
}

enum status keydir_runs_in(struct keydir *keydir,
                           const struct keydir_stretch *stretch,
                           uint64_t *next_seq, struct store_run *runs,
                           size_t room, size_t *count)
{
    struct collect collect = { .runs = runs, .room = room };
    size_t budget = room;
    MDB_txn *txn;
    int rc = mdb_txn_begin(keydir->env, NULL, MDB_RDONLY, &txn);

    if (rc == 0) {
        rc = walk_segment(txn, keydir->tables[RUNS], stretch, next_seq, &budget,
                          collect_one, &collect);
        mdb_txn_abort(txn);
    }
    *count = collect.count;
    return keydir_status_of(rc);
}
