/* A folder that is being filled with files: either all of them arrive, synced,
 * or nothing of it stays. Each file's content is hashed on its way. One thread;
 * no logging. */
#ifndef GODWIT_STORAGE_OFFLINE_LANDING_H
#define GODWIT_STORAGE_OFFLINE_LANDING_H

#include "proto/error.h"
#include "storage/segment.h"

enum { LANDING_PIECE_LEN = 1024 * 1024, LANDING_NAME_LEN_MAX = 63 };

/* The hash of a file in pieces: each piece's hash is seeded with the hash of
 * the pieces before it, beginning with 0. */
uint64_t landing_hash(const uint8_t *piece, size_t len, uint64_t before);

struct landing_name {
    char text[LANDING_NAME_LEN_MAX + 1];
};

struct landing {
    const struct vfs *vfs;
    char dir[PATH_LEN_MAX];
    bool made_dir; /* else it was there, and empty */
    bool made_log;
    struct landing_name *names; /* of the files made */
    size_t name_count;
    size_t name_capacity;
    /* the file that is open */
    int fd; /* -1: none */
    uint8_t *piece;
    size_t piece_len;
    uint64_t len; /* written, the piece apart */
    uint64_t hash;
};

/* Make the folder (mode 0700) and `log` in it, or take an empty one.
 * STATUS_EXISTS: there is something in it. After it, whatever it returned,
 * landing_fini() is owed. */
MUST_CHECK enum status landing_begin(struct landing *l, const struct vfs *vfs,
                                     const char *dir, struct error *err);

/* One file after the other, mode 0600: begin, put any number of times, end,
 * which syncs it and says how long it is and what its hash is. */
MUST_CHECK enum status landing_file(struct landing *l, const char *name,
                                    struct error *err);
MUST_CHECK enum status landing_put(struct landing *l, struct slice bytes,
                                   struct error *err);
MUST_CHECK enum status landing_end(struct landing *l, uint64_t *len,
                                   uint64_t *hash, struct error *err);

/* Remove the file that was ended last. */
void landing_undo(struct landing *l);

/* Sync the folders: all that was written stays. */
MUST_CHECK enum status landing_keep(struct landing *l, struct error *err);

/* Remove what was made, unless it was kept. */
void landing_fini(struct landing *l);

#endif
