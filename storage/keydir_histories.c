/* The keydir's table of histories: what a checkpoint does with it. */
#include "storage/keydir_impl.h"

enum status keydir_get_history(struct keydir *keydir, const uint8_t *key,
                               struct bytes *to)
{
    MDB_val k = val_of(key, HISTORY_KEY_LEN);
    MDB_val v;
    struct slice value;
    int rc = mdb_get(keydir->txn, keydir->tables[HISTORIES], &k, &v);

    if (rc != 0) {
        return keydir_status_of(rc);
    }
    value = slice_of_val(v);
    return seal_check(HISTORIES, slice_of_val(k), &value)
               ? bytes_append(to, value.at, value.len)
               : STATUS_CORRUPT;
}

/* One key at the cursor: kept or removed. */
static int look(struct keydir *keydir, MDB_cursor *cursor, MDB_val key,
                MDB_val value, struct keydir_sweep_keys *sweep,
                enum status *status)
{
    bool wanted = false;
    int rc = 0;

    if (key.mv_size != HISTORY_KEY_LEN) {
        return MDB_CORRUPTED;
    }
    *status = sweep->fn(sweep->arg, key.mv_data, &wanted);
    if (*status == STATUS_OK && wanted) {
        sweep->kept++;
    } else if (*status == STATUS_OK) {
        rc = keydir_forget(keydir, HISTORIES, value);
        rc = rc != 0 ? rc : mdb_cursor_del(cursor, 0);
    }
    return rc;
}

static int sweep_some(struct keydir *keydir, MDB_cursor *cursor,
                      struct keydir_sweep_keys *sweep, enum status *status)
{
    MDB_val key = val_of(sweep->key, HISTORY_KEY_LEN);
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);

    while (rc == 0 && *status == STATUS_OK && sweep->budget-- > 0) {
        rc = look(keydir, cursor, key, value, sweep, status);
        if (rc == 0 && *status == STATUS_OK) {
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
    }
    if (rc == 0 && key.mv_size == HISTORY_KEY_LEN) {
        memcpy(sweep->key, key.mv_data, HISTORY_KEY_LEN);
    }
    return rc;
}

enum status keydir_sweep_histories(struct keydir *keydir,
                                   struct keydir_sweep_keys *sweep)
{
    enum status status = STATUS_OK;
    MDB_cursor *cursor;
    int rc;

    sweep->kept = 0;
    sweep->ended = false;
    if (keydir->failed != 0) {
        return STATUS_OK; /* the commit will say so */
    }
    rc = mdb_cursor_open(keydir->txn, keydir->tables[HISTORIES], &cursor);
    if (rc == 0) {
        rc = sweep_some(keydir, cursor, sweep, &status);
        mdb_cursor_close(cursor);
    }
    sweep->ended = rc == MDB_NOTFOUND;
    keydir->failed = rc == MDB_NOTFOUND ? 0 : rc;
    return status;
}
