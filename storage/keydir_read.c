/* The keydir's reading side: everything in key order, one value, and what each
 * reader finds out about messages. */
#include "storage/keydir_impl.h"

#include <stdlib.h>

/* A keydir with more is opened without looking at all of them. */
enum { RUNS_CHECKED_MAX = 1 << 20 };

struct keydir_reader {
    struct keydir *keydir;
    MDB_txn *txn;
    MDB_cursor *runs;
    bool live;
    MDB_env *apart; /* NULL: the keydir's */
};

/* ---- reading everything ---- */

/* One table in key order; `each` gives a status that ends the walk unless OK. */
typedef enum status (*each_fn)(void *arg, struct slice key, struct slice value);

static enum status each(struct keydir *keydir, enum keydir_table table,
                        each_fn fn, void *arg)
{
    enum status status = STATUS_OK;
    MDB_cursor *cursor;
    MDB_txn *txn;
    MDB_val key;
    MDB_val value;
    int rc = mdb_txn_begin(keydir->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0) {
        return keydir_status_of(rc);
    }
    rc = mdb_cursor_open(txn, keydir->tables[table], &cursor);
    if (rc == 0) {
        while (status == STATUS_OK
               && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
            struct slice bytes = slice_of_val(value);
            status = seal_check(table, slice_of_val(key), &bytes)
                         ? fn(arg, slice_of_val(key), bytes)
                         : STATUS_CORRUPT;
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    if (status != STATUS_OK) {
        return status;
    }
    return rc == MDB_NOTFOUND ? STATUS_OK : keydir_status_of(rc);
}

static int count_of(struct keydir *keydir, enum keydir_table table,
                    size_t *count)
{
    MDB_txn *txn;
    MDB_stat stat_of_table = { 0 };
    int rc = mdb_txn_begin(keydir->env, NULL, MDB_RDONLY, &txn);

    if (rc == 0) {
        rc = mdb_stat(txn, keydir->tables[table], &stat_of_table);
        mdb_txn_abort(txn);
    }
    *count = stat_of_table.ms_entries;
    return rc;
}

struct check {
    uint64_t sum;
    size_t left;
};

static enum status check_value(void *arg, struct slice key, struct slice value)
{
    struct check *check = arg;

    (void)key;
    check->sum += get_u64(value.at + value.len); /* its seal, checked already */
    return check->left-- > 0 ? STATUS_OK : STATUS_CORRUPT;
}

enum status keydir_check(struct keydir *keydir, struct error *err)
{
    for (enum keydir_table table = RUNS; table <= IDS; table++) {
        struct check check = { 0 };
        enum status status =
            keydir_status_of(count_of(keydir, table, &check.left));
        if (status == STATUS_OK && table == RUNS
            && check.left > RUNS_CHECKED_MAX) {
            continue;
        }
        if (status == STATUS_OK) {
            status = each(keydir, table, check_value, &check);
        }
        if (status == STATUS_OK
            && (check.left != 0 || check.sum != keydir->sums[table])) {
            status = STATUS_CORRUPT;
        }
        if (status != STATUS_OK) {
            return error_set(err, status, 0, "keydir: table %s is damaged",
                             keydir_table_names[table]);
        }
    }
    return STATUS_OK;
}

struct walk {
    union {
        store_topic_fn topic;
        store_lane_fn lane;
        store_fact_fn fact;
        keydir_producer_fn producer;
        keydir_tally_fn tally;
    } fn;
    void *arg;
};

static enum status give_topic(void *arg, struct slice key, struct slice value)
{
    struct walk *walk = arg;
    struct store_topic topic;

    if (!topic_read(key, value, &topic)) {
        return STATUS_CORRUPT;
    }
    walk->fn.topic(walk->arg, &topic);
    return STATUS_OK;
}

enum status keydir_each_topic(struct keydir *keydir, store_topic_fn fn,
                              void *arg)
{
    struct walk walk = { .fn.topic = fn, .arg = arg };

    return each(keydir, TOPICS, give_topic, &walk);
}

/* The caller frees them; NULL without memory, or when there are none. */
static struct retry *copy_retries(const struct lane_image *lane)
{
    struct waiting_place place = { 0 };
    const struct retry *retry;
    struct retry *to = lane->retries.count == 0
                           ? NULL
                           : malloc(lane->retries.count * sizeof *to);

    for (size_t i = 0;
         to != NULL && (retry = waiting_next(&lane->retries, &place)) != NULL;
         i++) {
        to[i] = *retry;
    }
    return to;
}

static enum status give_lane(void *arg, struct slice key, struct slice value)
{
    struct walk *walk = arg;
    struct lane_image lane = { 0 };
    struct retry *retries = NULL;
    struct store_lane out;
    enum status status;

    if (key.len != LANE_KEY_LEN) {
        return STATUS_CORRUPT;
    }
    status = lane_read(&lane, value);
    if (status == STATUS_OK) {
        retries = copy_retries(&lane);
        if (retries == NULL && lane.retries.count > 0) {
            status = STATUS_NOMEM;
        }
    }
    if (status == STATUS_OK) {
        out = (struct store_lane) {
            .group = get_be32(key.at),
            .topic = get_be32(key.at + 4),
            .acked = &lane.acked,
            .gaps = &lane.gaps,
            .expired = &lane.expired,
            .filtered = lane.filtered,
            .discarded = lane.discarded,
            .dead = &lane.dead,
            .sought = lane.sought,
            .after = lane.after,
            .retries = retries,
            .retry_count = lane.retries.count,
        };
        walk->fn.lane(walk->arg, &out);
    }
    free(retries);
    lane_fini(&lane);
    return status;
}

enum status keydir_each_lane(struct keydir *keydir, store_lane_fn fn, void *arg)
{
    struct walk walk = { .fn.lane = fn, .arg = arg };

    return each(keydir, LANES, give_lane, &walk);
}

static enum status give_fact(void *arg, struct slice key, struct slice value)
{
    struct walk *walk = arg;
    struct record_fact fact;
    enum status status = fact_read(value, &fact);

    (void)key;
    if (status == STATUS_OK) {
        walk->fn.fact(walk->arg, &fact);
    }
    return status;
}

enum status keydir_each_fact(struct keydir *keydir, store_fact_fn fn, void *arg)
{
    struct walk walk = { .fn.fact = fn, .arg = arg };

    return each(keydir, FACTS, give_fact, &walk);
}

static enum status give_producer(void *arg, struct slice key,
                                 struct slice value)
{
    struct walk *walk = arg;
    struct producer entry;

    if (!producer_read(key, value, &entry)) {
        return STATUS_CORRUPT;
    }
    walk->fn.producer(walk->arg, &entry);
    return STATUS_OK;
}

enum status keydir_each_producer(struct keydir *keydir, enum keydir_table table,
                                 keydir_producer_fn fn, void *arg)
{
    struct walk walk = { .fn.producer = fn, .arg = arg };

    return each(keydir, table, give_producer, &walk);
}

static enum status give_tally(void *arg, struct slice key, struct slice value)
{
    struct walk *walk = arg;
    struct tally_entry entry;
    uint32_t segment;

    if (!tally_read(key, value, &segment, &entry)) {
        return STATUS_CORRUPT;
    }
    walk->fn.tally(walk->arg, segment, &entry);
    return STATUS_OK;
}

enum status keydir_each_tally(struct keydir *keydir, keydir_tally_fn fn,
                              void *arg)
{
    struct walk walk = { .fn.tally = fn, .arg = arg };

    return each(keydir, SEGMENTS, give_tally, &walk);
}

enum status keydir_decode(enum keydir_table table, struct slice key,
                          struct slice value,
                          const struct keydir_visitor *visitor)
{
    struct walk walk = { .arg = visitor->arg };

    if (table == FACTS && visitor->fact != NULL) {
        walk.fn.fact = visitor->fact;
        return give_fact(&walk, key, value);
    }
    if (table == TOPICS && visitor->topic != NULL) {
        walk.fn.topic = visitor->topic;
        return give_topic(&walk, key, value);
    }
    if (table == LANES && visitor->lane != NULL) {
        walk.fn.lane = visitor->lane;
        return give_lane(&walk, key, value);
    }
    if (table == PRODUCERS && visitor->producer != NULL) {
        walk.fn.producer = visitor->producer;
        return give_producer(&walk, key, value);
    }
    return STATUS_OK;
}

/* ---- all of one moment, bit by bit ---- */

struct keydir_walk {
    struct keydir *keydir;
    MDB_txn *txn;
    MDB_cursor *cursor;
    enum keydir_table table;
};

enum status keydir_walk_open(struct keydir_walk **out, struct keydir *keydir,
                             struct keydir_meta *meta)
{
    struct keydir_walk *walk = calloc(1, sizeof *walk);
    uint64_t unused[TABLE_COUNT];
    enum status status;
    int rc;

    if (walk == NULL) {
        return STATUS_NOMEM;
    }
    walk->keydir = keydir;
    rc = mdb_txn_begin(keydir->env, NULL, MDB_RDONLY, &walk->txn);
    if (rc != 0) {
        free(walk);
        return keydir_status_of(rc);
    }
    status = keydir_read_meta(keydir, walk->txn, meta, unused);
    if (status != STATUS_OK) {
        keydir_walk_close(walk);
        return status;
    }
    *out = walk;
    return STATUS_OK;
}

void keydir_walk_close(struct keydir_walk *walk)
{
    if (walk == NULL) {
        return;
    }
    if (walk->cursor != NULL) {
        mdb_cursor_close(walk->cursor);
    }
    mdb_txn_abort(walk->txn);
    free(walk);
}

enum status keydir_walk_next(struct keydir_walk *walk, enum keydir_table table,
                             struct slice *key, struct slice *value)
{
    MDB_val k;
    MDB_val v;
    int rc = 0;

    if (walk->cursor != NULL && walk->table != table) {
        mdb_cursor_close(walk->cursor);
        walk->cursor = NULL;
    }
    if (walk->cursor == NULL) {
        rc = mdb_cursor_open(walk->txn, walk->keydir->tables[table],
                             &walk->cursor);
        walk->table = table;
    }
    if (rc == 0) {
        rc = mdb_cursor_get(walk->cursor, &k, &v, MDB_NEXT);
    }
    if (rc != 0) {
        return keydir_status_of(rc);
    }
    *key = slice_of_val(k);
    *value = slice_of_val(v);
    return seal_check(table, *key, value) ? STATUS_OK : STATUS_CORRUPT;
}

/* ---- one value ---- */

enum status keydir_get_lane(struct keydir *keydir, struct lane_image *lane)
{
    uint8_t key_bytes[LANE_KEY_LEN];
    MDB_val key = val_of(key_bytes, sizeof key_bytes);
    enum status status;
    MDB_val value;
    MDB_txn *txn;
    int rc = mdb_txn_begin(keydir->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0) {
        return keydir_status_of(rc);
    }
    lane_key(key_bytes, lane->group, lane->topic);
    rc = mdb_get(txn, keydir->tables[LANES], &key, &value);
    status = keydir_status_of(rc);
    if (rc == 0) {
        struct slice bytes = slice_of_val(value);
        status = seal_check(LANES, slice_of_val(key), &bytes)
                     ? lane_read(lane, bytes)
                     : STATUS_CORRUPT;
    }
    mdb_txn_abort(txn);
    return status;
}

/* ---- a reader ---- */

enum status keydir_reader_open(struct keydir_reader **out,
                               struct keydir *keydir)
{
    struct keydir_reader *reader = calloc(1, sizeof *reader);
    int rc;

    if (reader == NULL) {
        return STATUS_NOMEM;
    }
    reader->keydir = keydir;
    rc = mdb_txn_begin(keydir->env, NULL, MDB_RDONLY, &reader->txn);
    if (rc == 0) {
        rc = mdb_cursor_open(reader->txn, keydir->tables[RUNS], &reader->runs);
        if (rc != 0) {
            mdb_txn_abort(reader->txn);
        }
    }
    if (rc != 0) {
        free(reader);
        return keydir_status_of(rc);
    }
    mdb_txn_reset(reader->txn);
    *out = reader;
    return STATUS_OK;
}

void keydir_reader_close(struct keydir_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    mdb_cursor_close(reader->runs);
    mdb_txn_abort(reader->txn);
    if (reader->apart != NULL) {
        mdb_env_close(reader->apart);
    }
    free(reader);
}

void keydir_reader_reset(struct keydir_reader *reader)
{
    if (reader->live && reader->apart == NULL) {
        mdb_txn_reset(reader->txn);
        reader->live = false;
    }
}

static int open_apart(const char *path, MDB_env **env, MDB_txn **txn,
                      MDB_cursor **runs)
{
    MDB_dbi table;
    int rc = mdb_env_create(env);

    if (rc == 0) {
        rc = mdb_env_set_maxdbs(*env, TABLE_COUNT);
    }
    if (rc == 0) {
        rc = mdb_env_open(*env, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0);
    }
    if (rc == 0) {
        rc = mdb_txn_begin(*env, NULL, MDB_RDONLY, txn);
    }
    if (rc == 0) {
        rc = mdb_dbi_open(*txn, keydir_table_names[RUNS], 0, &table);
    }
    return rc == 0 ? mdb_cursor_open(*txn, table, runs) : rc;
}

/* After LMDB failed to write its head it takes no reader any more. The file is
 * sound, the old head was put back, and with the store frozen nobody writes to
 * it: then it is read through an environment of the reader's own, without the
 * locks, which a process may hold only once. */
static int read_apart(struct keydir_reader *reader)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_cursor *runs;
    const char *path;
    int rc = mdb_env_get_path(reader->keydir->env, &path);

    if (rc == 0) {
        rc = open_apart(path, &env, &txn, &runs);
    }
    if (rc != 0) {
        if (txn != NULL) {
            mdb_txn_abort(txn);
        }
        if (env != NULL) {
            mdb_env_close(env);
        }
        return rc;
    }
    mdb_cursor_close(reader->runs);
    mdb_txn_abort(reader->txn);
    reader->apart = env;
    reader->txn = txn;
    reader->runs = runs;
    reader->live = true; /* for good: it keeps no page from anybody */
    return 0;
}

static int make_live(struct keydir_reader *reader)
{
    int rc;

    if (reader->live) {
        return 0;
    }
    rc = mdb_txn_renew(reader->txn);
    if (rc == MDB_PANIC) {
        return read_apart(reader);
    }
    if (rc != 0) {
        return rc;
    }
    reader->live = true;
    return mdb_cursor_renew(reader->txn, reader->runs);
}

/* STATUS_NOT_FOUND: the entry is of another topic; STATUS_IO: it is damaged. */
static enum status decode_run(uint32_t topic, MDB_val key, MDB_val value,
                              struct store_run *out)
{
    struct slice bytes = slice_of_val(value);

    if (!seal_check(RUNS, slice_of_val(key), &bytes)
        || !run_read(slice_of_val(key), bytes, out)) {
        return STATUS_IO;
    }
    return out->topic == topic ? STATUS_OK : STATUS_NOT_FOUND;
}

/* A run holds the message when it begins at or before it: the last such run is
 * the one before the first that begins after it. */
enum status keydir_find_run(struct keydir_reader *reader, uint32_t topic,
                            uint64_t seq, struct store_run *out,
                            uint64_t *next_seq)
{
    uint8_t key_bytes[RUN_KEY_LEN];
    MDB_val key = val_of(key_bytes, sizeof key_bytes);
    MDB_val value;
    struct store_run run;
    enum status status;
    int rc = make_live(reader);

    *next_seq = 0;
    if (rc != 0) {
        return STATUS_IO;
    }
    run_key(key_bytes, topic, seq);
    rc = mdb_cursor_get(reader->runs, &key, &value, MDB_SET_RANGE);
    if (rc == 0) {
        status = decode_run(topic, key, value, &run);
        if (status == STATUS_IO) {
            return status;
        }
        if (status == STATUS_OK && run.first_seq == seq) {
            *out = run;
            return STATUS_OK;
        }
        *next_seq = status == STATUS_OK ? run.first_seq : 0;
        rc = mdb_cursor_get(reader->runs, &key, &value, MDB_PREV);
    } else if (rc == MDB_NOTFOUND) {
        rc = mdb_cursor_get(reader->runs, &key, &value, MDB_LAST);
    }
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? STATUS_NOT_FOUND : STATUS_IO;
    }
    status = decode_run(topic, key, value, &run);
    if (status == STATUS_OK && seq - run.first_seq >= run.count) {
        status = STATUS_NOT_FOUND;
    }
    if (status == STATUS_OK) {
        *out = run;
    }
    return status;
}

static enum status find_value(struct keydir_reader *reader,
                              enum keydir_table table, MDB_val k,
                              struct slice *value)
{
    MDB_val v;
    int rc = make_live(reader);

    if (rc != 0) {
        return STATUS_IO;
    }
    if (reader->apart != NULL) { /* of messages alone */
        return STATUS_NOT_FOUND;
    }
    rc = mdb_get(reader->txn, reader->keydir->tables[table], &k, &v);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? STATUS_NOT_FOUND : STATUS_IO;
    }
    *value = slice_of_val(v);
    return seal_check(table, slice_of_val(k), value) ? STATUS_OK : STATUS_IO;
}

enum status keydir_find_history(struct keydir_reader *reader,
                                const uint8_t *key, struct slice *value)
{
    return find_value(reader, HISTORIES, val_of(key, HISTORY_KEY_LEN), value);
}

enum status keydir_find_lane(struct keydir_reader *reader, uint32_t group,
                             uint32_t topic, struct slice *value)
{
    uint8_t key[LANE_KEY_LEN];

    lane_key(key, group, topic);
    return find_value(reader, LANES, val_of(key, LANE_KEY_LEN), value);
}
