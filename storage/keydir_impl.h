/* The inside of the keydir, shared by keydir.c (opening, writing),
 * keydir_runs.c (where messages are) and keydir_read.c. Nobody else knows LMDB.
 */
#ifndef GODWIT_STORAGE_KEYDIR_IMPL_H
#define GODWIT_STORAGE_KEYDIR_IMPL_H

#include "storage/keydir.h"

#include "storage/keydir_value.h"

#include <lmdb.h>

struct keydir {
    MDB_env *env;
    MDB_dbi tables[TABLE_COUNT];
    MDB_txn *txn; /* the writer's, NULL outside */
    int failed;   /* its first error */
    struct bytes value;
    uint64_t sums[TABLE_COUNT]; /* of the last commit, */
    uint64_t next[TABLE_COUNT]; /* and of the open transaction */
};

extern const char *const keydir_table_names[TABLE_COUNT];

static inline MDB_val val_of(const void *at, size_t len)
{
    return (MDB_val) { len, (void *)at };
}

static inline struct slice slice_of_val(MDB_val val)
{
    return slice_of(val.mv_data, val.mv_size);
}

enum status keydir_status_of(int rc);
/* What the transaction sees. sums (may be NULL): of the tables. */
MUST_CHECK enum status keydir_read_meta(struct keydir *keydir, MDB_txn *txn,
                                        struct keydir_meta *meta,
                                        uint64_t sums[TABLE_COUNT]);

/* ---- in the writer's transaction; the first failure is kept ---- */
void keydir_put(struct keydir *keydir, enum keydir_table table, MDB_val key,
                MDB_val value);
void keydir_del(struct keydir *keydir, enum keydir_table table, MDB_val key);
/* Take what stands there out of the table's sum. */
int keydir_forget(struct keydir *keydir, enum keydir_table table, MDB_val old);

#endif
