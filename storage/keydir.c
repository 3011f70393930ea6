#include "storage/keydir.h"

#include "storage/keydir_value.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READERS_MAX = 256, KEYDIR_PATH_MAX = 4200 };
/* A keydir with more is opened without looking at all of them. */
enum { RUNS_CHECKED_MAX = 1 << 20 };

static const char *const table_names[TABLE_COUNT] = {
    [META] = "meta",     [RUNS] = "runs",   [TOPICS] = "topics",
    [LANES] = "lanes",   [FACTS] = "facts", [PRODUCERS] = "producers",
    [SWEEPS] = "sweeps",
};

struct keydir {
    MDB_env *env;
    MDB_dbi tables[TABLE_COUNT];
    MDB_txn *txn; /* the writer's, NULL outside */
    int failed;   /* its first error */
    struct bytes value;
    uint64_t sums[TABLE_COUNT]; /* of the last commit, */
    uint64_t next[TABLE_COUNT]; /* and of the open transaction */
};

struct keydir_reader {
    struct keydir *keydir;
    MDB_txn *txn;
    MDB_cursor *runs;
    bool live;
};

/* ---- small things ---- */

static MDB_val val_of(const void *at, size_t len)
{
    return (MDB_val) { len, (void *)at };
}

static struct slice slice_of_val(MDB_val val)
{
    return slice_of(val.mv_data, val.mv_size);
}

static enum status status_of(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return STATUS_OK;
    case MDB_NOTFOUND:
        return STATUS_NOT_FOUND;
    case ENOMEM:
        return STATUS_NOMEM;
    case ENOSPC:
    case EDQUOT:
    case MDB_MAP_FULL:
        return STATUS_NO_SPACE;
    case EINVAL:
        return STATUS_CORRUPT;
    default:
        return rc < 0 ? STATUS_CORRUPT : STATUS_IO;
    }
}

static enum status fail(struct error *err, int rc, const char *doing)
{
    return error_set(err, status_of(rc), 0, "keydir: %s: %s", doing,
                     mdb_strerror(rc));
}

/* ---- opening ---- */

static enum status read_meta(struct keydir *keydir, MDB_txn *txn,
                             struct keydir_meta *meta)
{
    MDB_val key = val_of("meta", 4);
    MDB_val value;
    struct slice bytes;

    if (mdb_get(txn, keydir->tables[META], &key, &value) != 0) {
        return STATUS_CORRUPT;
    }
    bytes = slice_of_val(value);
    return seal_check(META, slice_of_val(key), &bytes)
                   && meta_read(bytes, meta, keydir->sums)
               ? STATUS_OK
               : STATUS_CORRUPT;
}

static int open_tables(struct keydir *keydir, bool create, MDB_txn **txn)
{
    int rc = mdb_txn_begin(keydir->env, NULL, create ? 0 : MDB_RDONLY, txn);

    if (rc != 0) {
        *txn = NULL;
        return rc;
    }
    for (size_t i = 0; i < TABLE_COUNT && rc == 0; i++) {
        rc = mdb_dbi_open(*txn, table_names[i], create ? MDB_CREATE : 0,
                          &keydir->tables[i]);
    }
    return rc;
}

/* LMDB maps pages without asking whether the file reaches that far. */
static bool file_is_whole(struct keydir *keydir, const char *path)
{
    char file[KEYDIR_PATH_MAX];
    MDB_envinfo info;
    MDB_stat stat_of_env;
    struct stat st;

    snprintf(file, sizeof file, "%.4100s/data.mdb", path);
    return mdb_env_info(keydir->env, &info) == 0
           && mdb_env_stat(keydir->env, &stat_of_env) == 0
           && stat(file, &st) == 0
           && (uint64_t)st.st_size
                  >= ((uint64_t)info.me_last_pgno + 1) * stat_of_env.ms_psize;
}

static enum status open_env(struct keydir *keydir, const char *path,
                            uint64_t len_max, struct error *err)
{
    int rc = mdb_env_create(&keydir->env);

    if (rc != 0) {
        return fail(err, rc, "create");
    }
    rc = mdb_env_set_mapsize(keydir->env, len_max);
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(keydir->env, TABLE_COUNT);
    }
    if (rc == 0) {
        rc = mdb_env_set_maxreaders(keydir->env, READERS_MAX);
    }
    if (rc == 0) {
        rc = mdb_env_open(keydir->env, path, MDB_NOTLS, 0600);
        /* A damaged head can ask for any length. */
        rc = rc == ENOMEM ? MDB_CORRUPTED : rc;
    }
    if (rc != 0) {
        return fail(err, rc, "open");
    }
    return STATUS_OK;
}

static enum status open_existing(struct keydir *keydir, const char *path,
                                 uint64_t store_id, struct keydir_meta *meta,
                                 struct error *err)
{
    enum status status = STATUS_CORRUPT;
    MDB_txn *txn = NULL;
    int rc;

    if (!file_is_whole(keydir, path)) {
        return error_set(err, STATUS_CORRUPT, 0, "keydir: cut short");
    }
    rc = open_tables(keydir, false, &txn);
    if (rc == 0) {
        status = read_meta(keydir, txn, meta);
        /* Handles opened in a transaction stay only if it commits. */
        rc = mdb_txn_commit(txn);
    } else if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    if (rc == MDB_NOTFOUND) {
        return error_set(err, STATUS_CORRUPT, 0, "keydir: empty");
    }
    if (rc != 0) {
        return fail(err, rc, "read");
    }
    if (status != STATUS_OK || meta->store_id != store_id) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "keydir: of another version or store");
    }
    return STATUS_OK;
}

static enum status open_new(struct keydir *keydir, uint64_t store_id,
                            struct keydir_meta *meta, struct error *err)
{
    MDB_txn *txn = NULL;
    int rc = open_tables(keydir, true, &txn);

    if (rc != 0) {
        if (txn != NULL) {
            mdb_txn_abort(txn);
        }
        return fail(err, rc, "make tables");
    }
    rc = mdb_txn_commit(txn);
    if (rc != 0) {
        return fail(err, rc, "make tables");
    }
    *meta = (struct keydir_meta) { .store_id = store_id };
    return STATUS_OK;
}

static bool has_file(const char *path)
{
    char file[KEYDIR_PATH_MAX];
    struct stat st;

    snprintf(file, sizeof file, "%.4100s/data.mdb", path);
    return stat(file, &st) == 0;
}

enum status keydir_open(struct keydir **out, const char *path, uint64_t len_max,
                        uint64_t store_id, bool create,
                        struct keydir_meta *meta, struct error *err)
{
    struct keydir *keydir;
    enum status status;

    if (!create && !has_file(path)) {
        return error_set(err, STATUS_CORRUPT, 0, "keydir: missing");
    }
    if (create && mkdir(path, 0700) != 0 && errno != EEXIST) {
        return error_set(err, STATUS_IO, errno, "keydir: mkdir %s", path);
    }
    keydir = calloc(1, sizeof *keydir);
    if (keydir == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "keydir");
    }
    status = open_env(keydir, path, len_max, err);
    if (status == STATUS_OK) {
        status = create ? open_new(keydir, store_id, meta, err)
                        : open_existing(keydir, path, store_id, meta, err);
    }
    if (status != STATUS_OK) {
        keydir_close(keydir);
        return status;
    }
    *out = keydir;
    return STATUS_OK;
}

void keydir_close(struct keydir *keydir)
{
    if (keydir == NULL) {
        return;
    }
    keydir_abort(keydir);
    if (keydir->env != NULL) {
        mdb_env_close(keydir->env);
    }
    bytes_fini(&keydir->value);
    free(keydir);
}

enum status keydir_delete(const char *path, struct error *err)
{
    static const char *const names[] = { "data.mdb", "lock.mdb" };
    char file[KEYDIR_PATH_MAX];

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(file, sizeof file, "%.4100s/%s", path, names[i]);
        if (unlink(file) != 0 && errno != ENOENT && errno != ENOTDIR) {
            return error_set(err, STATUS_IO, errno, "keydir: remove %s", file);
        }
    }
    return STATUS_OK;
}

/* ---- writing ---- */

enum status keydir_begin(struct keydir *keydir)
{
    int rc;

    CHECK(keydir->txn == NULL);
    keydir->failed = 0;
    memcpy(keydir->next, keydir->sums, sizeof keydir->next);
    rc = mdb_txn_begin(keydir->env, NULL, 0, &keydir->txn);
    if (rc != 0) {
        keydir->txn = NULL;
    }
    return status_of(rc);
}

/* Take what stands there out of the table's sum. */
static int forget_old(struct keydir *keydir, enum keydir_table table,
                      MDB_val old)
{
    if (old.mv_size < SEAL_LEN) {
        return MDB_CORRUPTED;
    }
    keydir->next[table] -=
        get_u64((const uint8_t *)old.mv_data + old.mv_size - SEAL_LEN);
    return 0;
}

static int forget_key(struct keydir *keydir, enum keydir_table table,
                      MDB_val key)
{
    MDB_val old;
    int rc = mdb_get(keydir->txn, keydir->tables[table], &key, &old);

    return rc == 0 ? forget_old(keydir, table, old) : rc;
}

static void put(struct keydir *keydir, enum keydir_table table, MDB_val key,
                MDB_val value)
{
    uint64_t seal = seal_of(table, slice_of_val(key), slice_of_val(value));
    MDB_val room = { value.mv_size + SEAL_LEN, NULL };
    int rc;

    if (keydir->failed != 0) {
        return;
    }
    rc = table == META ? 0 : forget_key(keydir, table, key);
    if (rc == 0 || rc == MDB_NOTFOUND) {
        rc = mdb_put(keydir->txn, keydir->tables[table], &key, &room,
                     MDB_RESERVE);
    }
    if (rc == 0) {
        memcpy(room.mv_data, value.mv_data, value.mv_size);
        put_u64((uint8_t *)room.mv_data + value.mv_size, seal);
        keydir->next[table] += seal;
    }
    keydir->failed = rc;
}

static void del(struct keydir *keydir, enum keydir_table table, MDB_val key)
{
    int rc;

    if (keydir->failed != 0) {
        return;
    }
    rc = forget_key(keydir, table, key);
    if (rc == 0) {
        rc = mdb_del(keydir->txn, keydir->tables[table], &key, NULL);
    }
    keydir->failed = rc == MDB_NOTFOUND ? 0 : rc;
}

void keydir_put_run(struct keydir *keydir, const struct store_run *run)
{
    uint8_t key[RUN_KEY_LEN];
    uint8_t value[RUN_VALUE_LEN];

    run_key(key, run->topic, run->first_seq);
    run_value(value, run);
    put(keydir, RUNS, val_of(key, sizeof key), val_of(value, sizeof value));
}

void keydir_put_topic(struct keydir *keydir, uint32_t topic, uint64_t last_seq)
{
    uint8_t key[4];
    uint8_t value[TOPIC_VALUE_LEN];

    put_be32(key, topic);
    put_u64(value, last_seq);
    put(keydir, TOPICS, val_of(key, sizeof key), val_of(value, sizeof value));
}

void keydir_put_lane(struct keydir *keydir, uint32_t group, uint32_t topic,
                     struct slice value)
{
    uint8_t key[LANE_KEY_LEN];

    lane_key(key, group, topic);
    put(keydir, LANES, val_of(key, sizeof key), val_of(value.at, value.len));
}

void keydir_put_fact(struct keydir *keydir, const struct record_fact *fact)
{
    uint8_t key[ID_KEY_LEN];

    key[0] = (uint8_t)fact->class;
    put_be32(key + 1, fact->id);
    keydir->value.begin = keydir->value.end = 0;
    if (record_fact_write(&keydir->value, fact) != STATUS_OK) {
        keydir->failed = keydir->failed == 0 ? ENOMEM : keydir->failed;
        return;
    }
    put(keydir, FACTS, val_of(key, sizeof key),
        val_of(bytes_begin(&keydir->value), bytes_len(&keydir->value)));
    if (fact->deleted && fact->class != CATALOG_APP) {
        put(keydir, SWEEPS, val_of(key, sizeof key), val_of("", 1));
    }
}

void keydir_put_producer(struct keydir *keydir, const struct producer *entry)
{
    uint8_t key[PRODUCER_KEY_LEN];
    uint8_t value[PRODUCER_VALUE_LEN];

    producer_key(key, entry);
    producer_value(value, entry);
    put(keydir, PRODUCERS, val_of(key, sizeof key),
        val_of(value, sizeof value));
}

void keydir_remove_producer(struct keydir *keydir, const struct producer *entry)
{
    uint8_t key[PRODUCER_KEY_LEN];

    producer_key(key, entry);
    del(keydir, PRODUCERS, val_of(key, sizeof key));
}

void keydir_put_meta(struct keydir *keydir, const struct keydir_meta *meta)
{
    uint8_t value[META_LEN];

    meta_value(value, meta, keydir->next);
    put(keydir, META, val_of("meta", 4), val_of(value, sizeof value));
}

enum status keydir_commit(struct keydir *keydir, struct error *err)
{
    int rc = keydir->failed;

    CHECK(keydir->txn != NULL);
    if (rc != 0) {
        keydir_abort(keydir);
        return fail(err, rc, "write");
    }
    rc = mdb_txn_commit(keydir->txn);
    keydir->txn = NULL;
    if (rc != 0) {
        return fail(err, rc, "commit");
    }
    memcpy(keydir->sums, keydir->next, sizeof keydir->sums);
    return STATUS_OK;
}

void keydir_abort(struct keydir *keydir)
{
    if (keydir->txn != NULL) {
        mdb_txn_abort(keydir->txn);
        keydir->txn = NULL;
    }
}

/* ---- removing what belonged to deleted things ---- */

/* Delete keys from the cursor's on while they begin with the id, or for lanes
 * of a topic those whose second half is the id. */
struct sweep {
    enum keydir_table table;
    uint32_t id;
    bool second; /* the id is the second part of the key: look at all keys */
};

static int sweep_table(struct keydir *keydir, const struct sweep *sweep,
                       size_t *budget)
{
    MDB_cursor *cursor;
    uint8_t prefix[4];
    MDB_val key = val_of(prefix, sizeof prefix);
    MDB_val value;
    int rc =
        mdb_cursor_open(keydir->txn, keydir->tables[sweep->table], &cursor);

    if (rc != 0) {
        return rc;
    }
    put_be32(prefix, sweep->id);
    rc = mdb_cursor_get(cursor, &key, &value,
                        sweep->second ? MDB_FIRST : MDB_SET_RANGE);
    while (rc == 0 && *budget > 0) {
        const uint8_t *at = key.mv_data;
        if (get_be32(sweep->second ? at + 4 : at) == sweep->id) {
            rc = forget_old(keydir, sweep->table, value);
            rc = rc != 0 ? rc : mdb_cursor_del(cursor, 0);
            (*budget)--;
        } else if (!sweep->second) {
            rc = MDB_NOTFOUND;
        }
        if (rc == 0) {
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int sweep_one(struct keydir *keydir, const uint8_t *key, size_t *budget)
{
    uint32_t id = get_be32(key + 1);
    struct sweep lanes = { LANES, id, key[0] == CATALOG_TOPIC };
    int rc = 0;

    if (key[0] == CATALOG_TOPIC) {
        rc = sweep_table(keydir, &(struct sweep) { RUNS, id, false }, budget);
    }
    if (rc == 0 && *budget > 0) {
        rc = sweep_table(keydir, &lanes, budget);
    }
    return rc;
}

void keydir_sweep(struct keydir *keydir, size_t budget, bool *more)
{
    uint8_t copy[ID_KEY_LEN] = { 0 };
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    int rc;

    *more = true;
    while (keydir->failed == 0 && budget > 0) {
        keydir->failed =
            mdb_cursor_open(keydir->txn, keydir->tables[SWEEPS], &cursor);
        if (keydir->failed != 0) {
            return;
        }
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        if (rc == 0 && key.mv_size != ID_KEY_LEN) {
            rc = MDB_CORRUPTED;
        }
        if (rc == 0) {
            memcpy(copy, key.mv_data, sizeof copy);
        }
        mdb_cursor_close(cursor);
        if (rc == MDB_NOTFOUND) {
            *more = false;
            return;
        }
        keydir->failed = rc != 0 ? rc : sweep_one(keydir, copy, &budget);
        if (budget > 0) {
            del(keydir, SWEEPS, val_of(copy, sizeof copy));
        }
    }
}

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
        return status_of(rc);
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
    return rc == MDB_NOTFOUND ? STATUS_OK : status_of(rc);
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
    for (enum keydir_table table = RUNS; table <= SWEEPS; table++) {
        struct check check = { 0 };
        enum status status = status_of(count_of(keydir, table, &check.left));
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
                             table_names[table]);
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
    } fn;
    void *arg;
};

static enum status give_topic(void *arg, struct slice key, struct slice value)
{
    struct walk *walk = arg;
    struct store_topic topic;

    if (key.len != 4 || value.len != TOPIC_VALUE_LEN) {
        return STATUS_CORRUPT;
    }
    topic = (struct store_topic) { .topic = get_be32(key.at),
                                   .last_seq = get_u64(value.at),
                                   .first_seq = 1,
                                   .floor_seq = 1 };
    walk->fn.topic(walk->arg, &topic);
    return STATUS_OK;
}

enum status keydir_each_topic(struct keydir *keydir, store_topic_fn fn,
                              void *arg)
{
    struct walk walk = { .fn.topic = fn, .arg = arg };

    return each(keydir, TOPICS, give_topic, &walk);
}

static enum status give_lane(void *arg, struct slice key, struct slice value)
{
    struct walk *walk = arg;
    struct lane lane = { 0 };
    struct store_lane out;
    enum status status;

    if (key.len != LANE_KEY_LEN) {
        return STATUS_CORRUPT;
    }
    status = lane_read(&lane, value);
    if (status == STATUS_OK) {
        out = (struct store_lane) {
            .group = get_be32(key.at),
            .topic = get_be32(key.at + 4),
            .acked = &lane.acked,
            .gaps = &lane.gaps,
            .retries = lane.retries,
            .retry_count = lane.retry_count,
        };
        walk->fn.lane(walk->arg, &out);
    }
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

enum status keydir_each_producer(struct keydir *keydir, keydir_producer_fn fn,
                                 void *arg)
{
    struct walk walk = { .fn.producer = fn, .arg = arg };

    return each(keydir, PRODUCERS, give_producer, &walk);
}

enum status keydir_get_lane(struct keydir *keydir, struct lane *lane)
{
    uint8_t key_bytes[LANE_KEY_LEN];
    MDB_val key = val_of(key_bytes, sizeof key_bytes);
    enum status status;
    MDB_val value;
    MDB_txn *txn;
    int rc = mdb_txn_begin(keydir->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0) {
        return status_of(rc);
    }
    lane_key(key_bytes, lane->group, lane->topic);
    rc = mdb_get(txn, keydir->tables[LANES], &key, &value);
    status = status_of(rc);
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
        return status_of(rc);
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
    free(reader);
}

void keydir_reader_reset(struct keydir_reader *reader)
{
    if (reader->live) {
        mdb_txn_reset(reader->txn);
        reader->live = false;
    }
}

static int make_live(struct keydir_reader *reader)
{
    int rc;

    if (reader->live) {
        return 0;
    }
    rc = mdb_txn_renew(reader->txn);
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
