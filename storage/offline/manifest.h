/* What a backup says of itself: the file `backup` in its folder, text for
 * people and programs. It is written last, so a folder without it is no whole
 * backup. */
#ifndef GODWIT_STORAGE_OFFLINE_MANIFEST_H
#define GODWIT_STORAGE_OFFLINE_MANIFEST_H

#include "proto/bytes.h"
#include "proto/error.h"
#include "storage/offline/landing.h"

enum { MANIFEST_VERSION = 1, MANIFEST_LEN_MAX = 256 * 1024 * 1024 };
#define MANIFEST_NAME "backup"

struct manifest_file {
    struct landing_name name; /* "format", "log/0000000012.seg" */
    uint64_t len;
    uint64_t hash; /* see landing_hash() */
};

struct manifest {
    uint64_t made_us; /* wall clock */
    uint64_t store_id;
    uint64_t format;  /* version of the store */
    uint64_t segment; /* where the copy of the log ends */
    uint64_t offset;
    uint64_t batches; /* in the copy */
    uint64_t records;
    uint64_t messages; /* of the records; a moved one may be there twice */
    uint64_t damages;  /* found in the store while it was copied */
    uint64_t damaged_bytes;
    struct manifest_file *files;
    size_t file_count;
    size_t file_capacity;
};

/* Zero-initialised is empty. */
void manifest_fini(struct manifest *m);

/* Add a file. STATUS_NOMEM. */
MUST_CHECK enum status manifest_add(struct manifest *m,
                                    const struct manifest_file *file);

/* Append it as text. STATUS_NOMEM. */
MUST_CHECK enum status manifest_write(struct bytes *to,
                                      const struct manifest *m);

/* Read such a text; *out is empty before. STATUS_CORRUPT: it is none, or was
 * changed; STATUS_NEWER; STATUS_NOMEM. Names are safe to use in a folder. */
MUST_CHECK enum status manifest_read(struct slice text, struct manifest *out);

#endif
