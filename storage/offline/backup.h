/* A copy of a store's log, consistent while a broker writes to it, and the way
 * back. The copy is a folder like a store's, with the file `backup` (see
 * manifest.h) and without the keydir, which the first start on a restored
 * folder makes again from the log and the snapshot. In the source
 * nothing is changed; the empty file store.hold is made when it is not there.
 * One thread; no logging. */
#ifndef GODWIT_STORAGE_OFFLINE_BACKUP_H
#define GODWIT_STORAGE_OFFLINE_BACKUP_H

#include "storage/offline/manifest.h"
#include "storage/store.h"

/* Something in a file that is not as it was written. */
struct backup_damage {
    const char *file; /* "log/0000000012.seg" */
    uint64_t offset;
    uint64_t len;
    const char *text; /* "message", "its content is not what it was" */
    uint32_t topic;   /* id; 0: not of one message */
    uint64_t seq;
};

struct backup_job {
    const char *from;
    const char *to;
    const struct vfs *vfs; /* NULL: vfs_system() */
    uint64_t now_us;       /* wall clock */
    /* Names of other files of the folder that are taken along when they are
     * there; NULL ends the list, NULL: none. Lower case, digits, '.' and '-'. */
    const char *const *also;
    bool despite_damage; /* restore: what is damaged too, as it is */
    /* Told of each piece of work; false ends it. May be NULL. */
    bool (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void (*damage)(void *arg, const struct backup_damage *damage); /* or NULL */
    void *arg;
};

/* Copy the store in `from` into `to`, which must be absent or empty, and verify
 * every batch and record on the way. Damage is no failure: it is copied as it
 * is, told, and counted in *out. Every message whose confirm was sent before
 * the call is in the copy.
 *
 * STATUS_NOT_FOUND: no store there; STATUS_NEWER: of a newer format;
 * STATUS_CORRUPT: its format file is beyond reading, or there is no segment at
 * all: the log is gone; STATUS_EXISTS: something is in `to`; STATUS_BUSY: a
 * removal of segments did not end; STATUS_AGAIN: a segment went away meanwhile
 * (a broker was just starting); STATUS_CLOSED: progress() had enough;
 * STATUS_NO_SPACE, STATUS_IO, STATUS_NOMEM. Nothing is left of `to` then. The
 * caller ends *out with manifest_fini(). */
MUST_CHECK enum status backup_make(const struct backup_job *job,
                                   struct manifest *out, struct error *err);

/* What the backup in `dir` says of itself. STATUS_NOT_FOUND: it is none, or not
 * a whole one; STATUS_CORRUPT: what it says was changed. */
MUST_CHECK enum status backup_read(const char *dir, const struct vfs *vfs,
                                   struct manifest *out, struct error *err);

/* Read the backup in `from` and check each file against what the backup says of
 * it; those that differ or are missing are told to damage() and counted.
 * `to` is not used. */
MUST_CHECK enum status backup_check(const struct backup_job *job,
                                    struct manifest *out, uint64_t *damages,
                                    struct error *err);

/* Copy the backup in `from` into `to`, which must be absent or empty, and check
 * each file against what the backup says of it. STATUS_CORRUPT: some are
 * damaged (each was told to damage()), and nothing is left of `to`; unless
 * despite_damage; or the backup holds no segment, so no broker could tell it
 * from a new store. Else as backup_make(). */
MUST_CHECK enum status backup_restore(const struct backup_job *job,
                                      struct manifest *out, struct error *err);

#endif
