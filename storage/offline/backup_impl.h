/* The insides of a backup being made, for backup.c (the whole, its files) and
 * backup_segment.c (one segment, batch by batch). */
#ifndef GODWIT_STORAGE_OFFLINE_BACKUP_IMPL_H
#define GODWIT_STORAGE_OFFLINE_BACKUP_IMPL_H

#include "proto/seqset.h"
#include "storage/offline/backup.h"
#include "storage/examine.h"

enum { BACKUP_READ_LEN = 1024 * 1024 };

/* A file of the log. */
struct source {
    uint32_t id;
    uint64_t len;
    uint64_t epoch;        /* 0: not known */
    uint64_t previous_end; /* place; 0: not known, or sealed */
    bool foreign;
};

/* A segment as it is read: at `base` as if all of it were there. */
struct reading {
    int fd;
    uint8_t *base;
    size_t room;
    uint32_t len;       /* of the file */
    uint32_t have;      /* read up to here */
    uint32_t forgotten; /* given back up to here */
    uint64_t epoch;
    struct batch_source source;
};

/* The last batches before a segment, as the next header names them. */
struct chain {
    struct examine_link last;
    struct examine_link unsealed;
};

struct backup {
    const struct backup_job *job;
    const struct vfs *vfs;
    struct manifest *out;
    struct error *err;
    struct landing landing;
    uint64_t store_id;
    struct source *sources; /* by id */
    size_t source_count;
    size_t source_capacity;
    enum status list_status;
    size_t last;          /* where the copy ends */
    uint32_t listed;      /* the highest id that was found */
    uint32_t copied;      /* id of the last segment that was copied, */
    uint32_t before;      /* and as it was before that one, */
    struct manifest told; /* as was the manifest, its files apart */
    struct chain chain;   /* up to the last segment that was copied, */
    struct chain broken;  /* and up to the one before that */
    bool sealed;          /* the last that was copied: another one follows */
    struct seqset gone;   /* segments that the snapshot says were removed */
    uint64_t place;       /* that the snapshot covers */
    uint64_t done;
    uint64_t total;
    struct reading reading;
    struct examine examine; /* tells damage, and counts what is whole */
    struct examine_visitor examined;
};

/* ---- backup.c ---- */

void backup_name_of(uint32_t id, struct landing_name *name);
/* The status of a call that just failed, with errno. */
enum status backup_fail(struct backup *b, const char *doing, const char *path);
/* STATUS_CLOSED: whoever asked for the backup had enough. */
MUST_CHECK enum status backup_go_on(struct backup *b, uint64_t by);
void backup_tell(struct backup *b, uint32_t id, uint64_t len, const char *text);
void backup_tell_damage(struct backup *b, const struct store_damage *damage);
MUST_CHECK enum status backup_open_source(struct backup *b,
                                          const struct source *s, int *fd);
/* What was read from it is what it held: it is still there. STATUS_AGAIN. */
MUST_CHECK enum status backup_still_there(struct backup *b,
                                          const struct source *s, int fd);
/* The landing's file is whole: into the manifest with it. */
MUST_CHECK enum status backup_end_file(struct backup *b, const char *name);

/* ---- backup_segment.c ---- */

/* Copy one file of the log up to the last batch in it, and count what is in it.
 */
MUST_CHECK enum status backup_segment(struct backup *b, size_t index);
/* *any: it has a batch. */
MUST_CHECK enum status backup_any_batch(struct backup *b,
                                        const struct source *s, bool *any);
void backup_reading_close(struct backup *b);

#endif
