/* Everything that one life of a store asked the disk to do, in one order: the
 * files of the log, the format, snapshots, marks and LMDB's file alike. What a
 * power cut may leave of it is disk_image.h's affair. One thread. */
#ifndef GODWIT_TEST_STORAGE_DISK_TRACE_H
#define GODWIT_TEST_STORAGE_DISK_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DISK_NAMES_MAX = 96, DISK_NAME_LEN = 64 };

enum disk_op_kind {
    DISK_MAKE,     /* a file gets its name for the first time */
    DISK_MAKE_DIR, /* the same for a folder */
    DISK_WRITE,
    DISK_LEN, /* longer or shorter */
    DISK_RENAME,
    DISK_UNLINK,
    DISK_SYNC,    /* of a file */
    DISK_SYNC_DIR /* of the names in a folder */
};

struct disk_op {
    enum disk_op_kind kind;
    int file; /* index, -1 for a folder */
    bool each_synced;
    uint64_t at;
    size_t len; /* of the data; the new length of the file */
    uint8_t *data;
    size_t len_before;        /* of the file */
    char name[DISK_NAME_LEN]; /* below the folder; "" is the folder itself */
    char to[DISK_NAME_LEN];
};

struct disk_name {
    char name[DISK_NAME_LEN]; /* "" is free */
    int file;                 /* -1: a folder */
};

/* Bytes of a file; behind `data_len` all are zero. */
struct disk_bytes {
    uint8_t *at;
    size_t data_len;
    size_t capacity;
    size_t len;
};

struct disk_trace {
    char dir[512];
    struct disk_op *ops;
    size_t count;
    size_t capacity;
    size_t *lens; /* of each file, now */
    int file_count;
    struct disk_name names[DISK_NAMES_MAX]; /* now */
    /* What was there, all of it synced, when the trace began. */
    struct disk_name first_names[DISK_NAMES_MAX];
    struct disk_bytes *first;
    int first_count;
    uint64_t log_bytes;  /* written to segments */
    uint64_t read_bytes; /* by pread, of all files */
    /* Planted bugs. */
    bool forget_syncs;
    bool forget_dir_syncs;
};

/* Begin with what is in `dir`, and watch it until disk_trace_stop(). */
void disk_trace_start(struct disk_trace *trace, const char *dir);
void disk_trace_stop(struct disk_trace *trace);
void disk_trace_fini(struct disk_trace *trace);

struct disk_name *disk_find(struct disk_name *names, const char *name);
void disk_set(struct disk_name *names, const char *name, int file);
/* Make a change of names; a folder's content goes with it. */
void disk_change(struct disk_name *names, const struct disk_op *op);

void disk_bytes_put(struct disk_bytes *bytes, uint64_t at, const uint8_t *from,
                    size_t len);
void disk_bytes_zero(struct disk_bytes *bytes, uint64_t at, uint64_t stop);

#endif
