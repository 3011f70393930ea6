/* What stands behind the end of a segment, before its file is cut there or used
 * again. A start finds where the log ends by reading on for some MiB; a disk
 * that has lost more than that in a row hides what stands behind the hole. A
 * batch there which says that something behind the end was durable is proof of
 * that: then nothing is cut. */
#ifndef GODWIT_STORAGE_REST_H
#define GODWIT_STORAGE_REST_H

#include "storage/segment.h"

struct rest {
    const struct vfs *vfs;
    int fd; /* the caller's */
    uint64_t store_id;
    uint32_t segment;
    uint64_t epoch;
    uint32_t end; /* of what is known of it */
    uint32_t at;  /* where to go on; from `end` */
    uint32_t len; /* of the file */
    /* out, when `found`: the batch. Nothing is read after it. */
    bool found;
    uint32_t offset;
    uint32_t batch_len;
};

struct rest rest_of(const struct segment *segment, const struct log *log);

/* Read at most `budget` bytes more, past the page cache; the end is reached
 * when at == len. STATUS_NOMEM; STATUS_IO: some could not be read. */
MUST_CHECK enum status rest_search(struct rest *rest, uint32_t budget);

#endif
