/* One start of the store: what its parts share. recover.c decides;
 * recover_files.c lists and opens, recover_read.c has one file in memory,
 * recover_replay.c its batches, recover_removed.c what merges took away. For
 * the files of storage/ alone. */
#ifndef GODWIT_STORAGE_RECOVERY_H
#define GODWIT_STORAGE_RECOVERY_H

#include "storage/internal.h"
#include "storage/snapshot.h"

/* A file of the log as it was found. */
struct found_segment {
    uint32_t id;
    struct segment *segment; /* once in the table not ours */
    uint64_t file_len;
    bool in_table;
    bool whole; /* read to its end, whatever seems to be missing */
};

/* A whole batch of the last segment. */
struct found_batch {
    uint32_t offset;
    uint32_t len;
    bool whole; /* its records too */
};

struct recovery {
    struct store *store;
    const struct store_config *config;
    struct store_recovery *out;
    struct found_segment *found; /* by id */
    size_t found_count;
    size_t found_capacity;
    enum status status; /* of the listing */
    uint64_t total_bytes;
    uint64_t done_bytes;
    uint64_t epoch; /* the highest seen */
    bool log_short; /* the keydir's place lies behind what is left of it */
    struct snapshot_head snapshot;
    bool has_snapshot;
    bool snapshot_whole;
    uint64_t known; /* the place of the snapshot the keydir was made from */
    size_t last;    /* index of the last segment with something in it */
    /* the segment being looked at, in memory of our own */
    uint8_t *memory;
    size_t memory_len;
    uint32_t memory_from;  /* asked for from here, */
    bool memory_whole;     /* and to the end of the file */
    uint32_t limit;        /* it was read so far */
    uint64_t memory_epoch; /* its batches must carry; 0: not known yet */
    uint32_t memory_id;    /* which; 0 none */
    struct found_batch *batches;
    size_t batch_count;
    size_t batch_capacity;
};

/* What the last segment came to. */
struct tail {
    size_t first;  /* of the doubtful batches to be written again, */
    size_t stop;   /* one past the last */
    uint32_t end;  /* where the segment ends for good */
    uint32_t len;  /* of those batches */
    uint32_t keep; /* behind it the file holds nothing that counts */
};

/* ---- recover_files.c ---- */

/* Ids of the files in the log's folder; unfinished ones are removed, those of
 * the pool given to it. */
MUST_CHECK enum status recovery_list(struct recovery *r, struct error *err);
/* Read their heads; the files are let go of again. */
MUST_CHECK enum status recovery_open_segments(struct recovery *r,
                                              struct error *err);

/* ---- recover_read.c ---- */

/* Read one from offset `from` on, past the page cache, to the seal or to where
 * nothing stands any more; `whole`: to the seal or the end of the file,
 * whatever is missing before. It stays until the next one. */
MUST_CHECK enum status recovery_load(struct recovery *r,
                                     const struct found_segment *f,
                                     uint32_t from, bool whole,
                                     struct error *err);
void recovery_unload(struct recovery *r);
struct batch_source recovery_source(const struct recovery *r);

/* A batch of this life of the segment stands at `offset`; with_index: its index
 * is whole too. */
bool recovery_batch_at(struct recovery *r, uint32_t offset, bool with_index,
                       struct batch *out);
/* The first batch at or after `from`, by its header. */
bool recovery_find_batch(struct recovery *r, uint32_t from, struct batch *out);
/* Nothing was written to the open file at `offset` in this life of it. */
bool recovery_untouched(struct recovery *r, const struct found_segment *f,
                        uint32_t offset);
/* One past what was written to the loaded segment at or after `from`. */
uint32_t recovery_data_end(struct recovery *r, const struct found_segment *f,
                           uint32_t from);
bool recovery_all_zero(const uint8_t *at, size_t len);

/* ---- recover_removed.c ---- */

/* The head of DIR/snapshot and the segments that are gone, if there is one. */
MUST_CHECK enum status recovery_read_snapshot(struct recovery *r,
                                              struct error *err);
/* Segments of that list which are on the disk still are removed. */
MUST_CHECK enum status recovery_end_removals(struct recovery *r,
                                             struct error *err);
/* With the keydir open: which ids are missing that should not be? */
MUST_CHECK enum status recovery_count_missing(struct recovery *r,
                                              struct error *err);
/* Into a keydir that was made anew; its meta is written. */
MUST_CHECK enum status recovery_load_snapshot(struct recovery *r,
                                              struct keydir_meta *meta,
                                              struct error *err);

/* ---- recover_replay.c ---- */

/* Apply what the segments up to r->last hold past `place`, and say where each
 * ends. */
MUST_CHECK enum status recovery_replay(struct recovery *r, uint64_t place,
                                       struct tail *tail, struct error *err);
void recovery_set_end(struct found_segment *f, uint32_t end);
/* A segment before the replay's start ends with its file, or where a later
 * header says. */
void recovery_end_covered(struct recovery *r, size_t i);

#endif
