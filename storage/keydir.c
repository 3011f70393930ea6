#include "storage/keydir_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READERS_MAX = 256, KEYDIR_PATH_MAX = 4200 };

const char *const keydir_table_names[TABLE_COUNT] = {
    [META] = "meta",     [RUNS] = "runs",         [TOPICS] = "topics",
    [LANES] = "lanes",   [FACTS] = "facts",       [PRODUCERS] = "producers",
    [SWEEPS] = "sweeps", [SEGMENTS] = "segments", [HISTORIES] = "histories",
    [IDS] = "ids",
};

/* ---- small things ---- */

enum status keydir_status_of(int rc)
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
    return error_set(err, keydir_status_of(rc), 0, "keydir: %s: %s", doing,
                     mdb_strerror(rc));
}

/* ---- opening ---- */

enum status keydir_read_meta(struct keydir *keydir, MDB_txn *txn,
                             struct keydir_meta *meta,
                             uint64_t sums[TABLE_COUNT])
{
    MDB_val key = val_of("meta", 4);
    MDB_val value;
    struct slice bytes;

    if (mdb_get(txn, keydir->tables[META], &key, &value) != 0) {
        return STATUS_CORRUPT;
    }
    bytes = slice_of_val(value);
    return seal_check(META, slice_of_val(key), &bytes)
                   && meta_read(bytes, meta, sums)
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
        rc = mdb_dbi_open(*txn, keydir_table_names[i], create ? MDB_CREATE : 0,
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
        status = keydir_read_meta(keydir, txn, meta, keydir->sums);
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
    return keydir_status_of(rc);
}

int keydir_forget(struct keydir *keydir, enum keydir_table table, MDB_val old)
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

    return rc == 0 ? keydir_forget(keydir, table, old) : rc;
}

void keydir_put(struct keydir *keydir, enum keydir_table table, MDB_val key,
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

void keydir_del(struct keydir *keydir, enum keydir_table table, MDB_val key)
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

void keydir_put_topic(struct keydir *keydir, const struct store_topic *topic)
{
    uint8_t key[4];
    uint8_t value[TOPIC_VALUE_LEN];

    put_be32(key, topic->topic);
    topic_value(value, topic);
    keydir_put(keydir, TOPICS, val_of(key, sizeof key),
               val_of(value, sizeof value));
}

void keydir_put_tally(struct keydir *keydir, uint32_t segment,
                      const struct tally_entry *entry)
{
    uint8_t key[TALLY_KEY_LEN];
    uint8_t value[TALLY_VALUE_LEN];

    tally_key(key, segment, entry->topic);
    tally_value(value, entry);
    keydir_put(keydir, SEGMENTS, val_of(key, sizeof key),
               val_of(value, sizeof value));
}

void keydir_put_lane(struct keydir *keydir, uint32_t group, uint32_t topic,
                     struct slice value)
{
    uint8_t key[LANE_KEY_LEN];

    lane_key(key, group, topic);
    keydir_put(keydir, LANES, val_of(key, sizeof key),
               val_of(value.at, value.len));
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
    keydir_put(keydir, FACTS, val_of(key, sizeof key),
               val_of(bytes_begin(&keydir->value), bytes_len(&keydir->value)));
    if (fact->deleted && fact->class != CATALOG_APP) {
        keydir_put(keydir, SWEEPS, val_of(key, sizeof key), val_of("", 1));
    }
}

void keydir_put_producer(struct keydir *keydir, enum keydir_table table,
                         const struct producer *entry)
{
    uint8_t key[PRODUCER_KEY_LEN];
    uint8_t value[PRODUCER_VALUE_LEN];

    producer_key(key, entry);
    producer_value(value, entry);
    keydir_put(
        keydir, table, val_of(key, sizeof key),
        val_of(value, table == IDS ? producer_value_len(entry) : sizeof value));
}

void keydir_remove_producer(struct keydir *keydir, enum keydir_table table,
                            const struct producer *entry)
{
    uint8_t key[PRODUCER_KEY_LEN];

    producer_key(key, entry);
    keydir_del(keydir, table, val_of(key, sizeof key));
}

void keydir_put_raw(struct keydir *keydir, enum keydir_table table,
                    struct slice key, struct slice value)
{
    keydir_put(keydir, table, val_of(key.at, key.len),
               val_of(value.at, value.len));
}

void keydir_put_meta(struct keydir *keydir, const struct keydir_meta *meta)
{
    uint8_t value[META_LEN];

    meta_value(value, meta, keydir->next);
    keydir_put(keydir, META, val_of("meta", 4), val_of(value, sizeof value));
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
            rc = keydir_forget(keydir, sweep->table, value);
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

void keydir_remove_tally(struct keydir *keydir, uint32_t segment)
{
    size_t budget = SIZE_MAX;

    if (keydir->failed == 0) {
        keydir->failed = sweep_table(
            keydir, &(struct sweep) { SEGMENTS, segment, false }, &budget);
    }
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
            keydir_del(keydir, SWEEPS, val_of(copy, sizeof copy));
        }
    }
}

uint64_t keydir_size(const struct keydir *keydir)
{
    MDB_envinfo info;
    MDB_stat stat_of_env;

    if (mdb_env_info(keydir->env, &info) != 0
        || mdb_env_stat(keydir->env, &stat_of_env) != 0) {
        return 0;
    }
    return ((uint64_t)info.me_last_pgno + 1) * stat_of_env.ms_psize;
}
