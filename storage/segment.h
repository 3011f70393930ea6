/* One file of the log, and the table of all of them. A segment is made under a
 * temporary name, written, synced and only then given its own, so a file named
 * like a segment always has a whole header. The table may be read by any thread
 * without a lock; one thread at a time adds to it. */
#ifndef GODWIT_STORAGE_SEGMENT_H
#define GODWIT_STORAGE_SEGMENT_H

#include "proto/error.h"
#include "storage/batch.h"
#include "storage/block.h"
#include "storage/vfs.h"

#include <stdatomic.h>

enum {
    SEGMENT_BEGIN = BLOCK_LEN, /* offset of the first batch */
    SEGMENT_LEN_MIN = 32 * 1024,
    SEGMENT_LEN_MAX = 1024 * 1024 * 1024,
    /* The table: chunks of slots. Ids are never used again, and each unclean
     * start takes one. */
    LOG_CHUNK_COUNT = 65536,
    LOG_CHUNK_LEN = 1024,
    SEGMENT_ID_MAX = LOG_CHUNK_COUNT * LOG_CHUNK_LEN - 1,
    PATH_LEN_MAX = 4096
};

/* What a segment's first block says. */
struct segment_header {
    uint32_t id;
    uint64_t epoch;   /* rises with every unclean start */
    uint64_t time_us; /* when it was made */
    uint32_t capacity;
    /* Where the segment before ends when a recovery made this one, else 0. */
    uint64_t previous_end;
    /* What stands before this offset was synced before the file got its name. */
    uint32_t synced_end;
    /* The file had a life before: behind the last batch may stand anything. */
    bool recycled;
};

/* What stands in the file behind the end, as far as is known. */
enum rest_state { REST_UNKNOWN, REST_NOTHING, REST_DAMAGED };

struct segment {
    struct segment_header header;
    bool header_lost; /* unreadable: epoch and ends are not known */
    int fd;           /* -1 while nothing is written to it */
    uint32_t pool_id; /* made of this file of the pool; 0: of a new one */
    const uint8_t *map;
    size_t map_len;
    _Atomic uint32_t end; /* one past the last whole batch; readers stop here */
    enum rest_state rest; /* the keeper's, see rest.h */
};

struct log {
    const struct vfs *vfs;
    char dir[PATH_LEN_MAX];
    uint64_t store_id;
    _Atomic uint64_t disk_bytes; /* all files of the folder */
    _Atomic(_Atomic(struct segment *) *) chunks[LOG_CHUNK_COUNT];
};

/* Any thread; NULL when there is none. */
struct segment *log_segment(struct log *log, uint32_t id);
/* STATUS_NOMEM, or STATUS_NO_SPACE when ids have run out. */
MUST_CHECK enum status log_add(struct log *log, struct segment *segment);
/* Take it out of the table (NULL: was not there); the caller owns it now. Who
 * looked before may still read it: see readers.c. */
struct segment *log_remove(struct log *log, uint32_t id);
/* Free all segments. */
void log_fini(struct log *log);

/* A new file under its temporary name, allocated, mapped, its header written.
 * Batches may be written to it before segment_publish(). STATUS_NO_SPACE for
 * want of space or descriptors, STATUS_IO for all else. */
MUST_CHECK enum status segment_make(struct segment **out, struct log *log,
                                    const struct segment_header *header,
                                    struct error *err);
/* The same of the file `pool_id` of the pool, which has that length and keeps
 * its name until segment_publish(). Nothing has to be filled with zeros; the
 * header is synced before this returns. STATUS_NOT_FOUND: the file is not there
 * or has another length. */
MUST_CHECK enum status segment_reuse(struct segment **out, struct log *log,
                                     const struct segment_header *header,
                                     uint32_t pool_id, struct error *err);
/* Write zeros and sync them: a sync of blocks that were written before is twice
 * as fast as of ones that were only allocated, and the pages are there. */
MUST_CHECK enum status segment_zero(struct segment *segment, struct log *log,
                                    uint32_t at, uint32_t len,
                                    struct error *err);
/* Sync it, give it its name, sync the folder. */
MUST_CHECK enum status segment_publish(struct segment *segment, struct log *log,
                                       struct error *err);
/* Remove one that was made and not published; a file of the pool stays there. */
void segment_discard(struct segment *segment, struct log *log);

/* Open a file of the log for reading and writing; its header may be damaged
 * (*damaged, header_lost). STATUS_CORRUPT: of another store; STATUS_NEWER;
 * STATUS_IO. Not mapped. */
MUST_CHECK enum status segment_open(struct segment **out, struct log *log,
                                    uint32_t id, uint64_t *file_len,
                                    bool *damaged, struct error *err);
/* Look at the file `id` of the pool, whose header names what it was last. */
MUST_CHECK enum status segment_peek(struct segment **out, struct log *log,
                                    uint32_t id, uint64_t *file_len,
                                    struct error *err);
/* Let go of the file, and have it again. Most segments are only mapped. */
void segment_let_go(struct segment *segment, struct log *log);
MUST_CHECK enum status segment_hold(struct segment *segment, struct log *log,
                                    struct error *err);
/* Map it whole, `len` bytes long. */
MUST_CHECK enum status segment_map(struct segment *segment, struct log *log,
                                   size_t len, struct error *err);

/* Cut the file to its end and let go of its descriptor. */
MUST_CHECK enum status segment_trim(struct segment *segment, struct log *log,
                                    struct error *err);

/* Before the segment is removed: what it says of the end of the one before must
 * outlive it, so that one is cut there for good. *cut: by so much. */
MUST_CHECK enum status segment_pass_on_end(const struct segment *segment,
                                           struct log *log, uint64_t *cut,
                                           struct error *err);

void segment_free(struct segment *segment, struct log *log); /* accepts NULL */

/* Can these bytes of the map be read? False: to do so would raise SIGBUS. */
bool segment_readable(const struct segment *segment, const struct log *log,
                      uint64_t from, uint64_t to);

/* A walk over the map, that asks before it reads. Zero but for the first two
 * before its first step. */
struct segment_walk {
    const struct segment *segment;
    const struct log *log;
    uint64_t from; /* can be read, */
    uint64_t to;   /* up to here */
};

/* Can these bytes be read? They lie before the segment's end. Where one step
 * follows on the other it asks for more at once; pages that are stepped over,
 * such as those of long bodies, are not asked for. */
bool segment_walk_to(struct segment_walk *walk, uint64_t at, uint64_t len);

/* The folder's files have become so much longer, or shorter. */
static inline void log_disk(struct log *log, int64_t by)
{
    atomic_fetch_add_explicit(&log->disk_bytes, (uint64_t)by,
                              memory_order_relaxed);
}

/* The mapped segment up to its end, for batch_read(). */
struct batch_source segment_source(const struct segment *segment,
                                   const struct log *log);

/* batch_read() of the map. STATUS_IO: header or index cannot be read. Nobody
 * has asked for the records yet. */
MUST_CHECK enum status segment_batch(const struct segment *segment,
                                     const struct log *log, uint32_t offset,
                                     struct batch *out);

/* The status for a failed call that needed space or descriptors. */
enum status status_of_errno(int error);

/* "DIR/0000000012.seg" into `path`, with another ending if asked. */
void segment_path(const struct log *log, uint32_t id, const char *ending,
                  char path[PATH_LEN_MAX]);

#endif
