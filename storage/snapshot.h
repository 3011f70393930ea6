/* DIR/snapshot: what the log said up to a place, apart from where its messages
 * are, so that the segments that said it may be removed. A second copy of what
 * the keydir holds: from it and the segments that are left the keydir is made
 * again. It also names the segments that were removed, or are about to be.
 * Each entry has a hash of its own; a damaged one is skipped. */
#ifndef GODWIT_STORAGE_SNAPSHOT_H
#define GODWIT_STORAGE_SNAPSHOT_H

#include "proto/seqset.h"
#include "storage/keydir.h"
#include "storage/vfs.h"

enum snapshot_kind {
    SNAPSHOT_GONE = 1, /* ranges of segment ids */
    SNAPSHOT_FACT = 2, /* these as in the keydir */
    SNAPSHOT_TOPIC = 3,
    SNAPSHOT_LANE = 4,
    SNAPSHOT_PRODUCER = 5,
    SNAPSHOT_HISTORY = 6, /* these two from version 2 on */
    SNAPSHOT_ID = 7
};
enum { SNAPSHOT_KINDS = SNAPSHOT_ID + 1 };

struct snapshot_head {
    uint64_t store_id;
    uint64_t place;                  /* the log is covered up to here */
    uint64_t number;                 /* of the last batch covered */
    uint64_t hash;                   /* of its header */
    uint64_t len;                    /* of the file */
    uint64_t counts[SNAPSHOT_KINDS]; /* of entries */
};

/* ---- writing; the keeper ---- */

struct snapshot_writer;

/* Begin one of what the keydir's last commit holds, as DIR/snapshot.tmp; `gone`
 * is copied. Ends with snapshot_end(). */
MUST_CHECK enum status snapshot_begin(struct snapshot_writer **out,
                                      const struct vfs *vfs, const char *dir,
                                      struct keydir *keydir,
                                      const struct seqset *gone,
                                      struct error *err);
/* Write about `budget` bytes more. *done: it is whole, synced, and has its
 * name; *len (may be NULL) is its length. After a failure only end is left. */
MUST_CHECK enum status snapshot_step(struct snapshot_writer *writer,
                                     size_t budget, bool *done, uint64_t *len,
                                     struct error *err);
/* Accepts NULL. One that is not done is removed. */
void snapshot_end(struct snapshot_writer *writer);

/* ---- reading ---- */

struct snapshot_visitor {
    /* One of the keydir's tables, as keydir_decode() and keydir_put_raw() take
     * it. Not OK ends the reading. */
    enum status (*value)(void *arg, enum keydir_table table, struct slice key,
                         struct slice value);
    void *arg;
};

/* Read DIR/snapshot: its head, what is `gone` (added to the set), and with a
 * visitor the rest. *damaged: entries that were skipped; without a visitor of
 * `gone` alone. STATUS_NOT_FOUND: there is none; STATUS_CORRUPT: its head is
 * damaged, or another store's; STATUS_NEWER. */
MUST_CHECK enum status snapshot_read(const struct vfs *vfs, const char *dir,
                                     uint64_t store_id,
                                     const struct snapshot_visitor *visitor,
                                     struct snapshot_head *head,
                                     struct seqset *gone, uint64_t *damaged,
                                     struct error *err);

#endif
