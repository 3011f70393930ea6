/* The system calls of the store and of LMDB, seen on their way to the kernel.
 * The linker sends them here: a test that links this file says `wraps: calls`
 * in its first lines, which also links LMDB statically, because --wrap reaches
 * only what is linked into the program itself. One thread.
 *
 * Only calls about files below the watched folder are shown to the observer;
 * all others, and all of them while nobody watches, just go through. */
#ifndef GODWIT_TEST_LIB_CALLS_H
#define GODWIT_TEST_LIB_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum call_kind {
    CALL_OPEN = 1 << 0,
    CALL_ALLOCATE = 1 << 1,
    CALL_WRITE = 1 << 2, /* write, writev, pwrite, pwritev */
    CALL_READ = 1 << 3,  /* pread */
    CALL_SYNC = 1 << 4,  /* fdatasync, fsync, msync; of folders too */
    CALL_TRUNCATE = 1 << 5,
    CALL_MAP = 1 << 6,
    CALL_RENAME = 1 << 7,
    CALL_UNLINK = 1 << 8,
    CALL_MAKE_DIR = 1 << 9,
    CALL_STAT = 1 << 10, /* fstat */
    CALL_SEEK = 1 << 11,
    CALL_ALL = (1 << 12) - 1
};

struct call {
    enum call_kind kind;
    const char *path; /* as it was opened or named, below the folder */
    const char *to;   /* CALL_RENAME */
    int *tag;         /* the observer's own, kept with the descriptor; from 0 */
    const struct iovec *iov; /* CALL_WRITE; the first `len` bytes of it */
    int iov_count;
    uint64_t at;
    size_t len; /* bytes; the new length of the file */
    bool is_dir;
    bool cut_to_zero; /* CALL_OPEN with O_TRUNC */
    bool each_synced; /* CALL_WRITE to a descriptor opened with O_DSYNC */
};

struct calls_observer {
    /* Before it is made: the errno with which it fails instead, or 0. May
     * lower call->len of reads and writes. May be NULL. */
    int (*before)(void *arg, struct call *call);
    /* It was made, and did not fail. May be NULL. */
    void (*after)(void *arg, const struct call *call);
    void *arg;
};

/* Watch what happens below `dir`, which is not copied. NULL: stop. Descriptors
 * that are open by then are not known. */
void calls_watch(const char *dir, const struct calls_observer *observer);

/* Do not make the kernel find room for files that stay empty, and give the same
 * random numbers every time: `seed` of the next ones; 0: as always. */
void calls_be_cheap(bool cheap);
void calls_seed(uint64_t seed);

/* Planted bug: LMDB with MDB_NOSYNC. */
void calls_lmdb_without_sync(bool yes);

#endif
