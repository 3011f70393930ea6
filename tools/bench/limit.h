/* What the machine can do without a broker: the disk below a folder and the
 * loopback interface. Each call measures for some milliseconds and adds what it
 * found. Ends early, with EXIT_INTERRUPTED, on Ctrl-C. */
#ifndef GODWIT_BENCH_LIMIT_H
#define GODWIT_BENCH_LIMIT_H

#include "proto/limits.h"
#include "tools/bench/histogram.h"

#include <stdbool.h>

enum {
    LIMIT_GROUP_LEN = 256 * 1024,
    LIMIT_BATCH_LEN = BATCH_LEN_MAX, /* the most a broker syncs at once */
    LIMIT_PAGE_LEN = 4096,
    LIMIT_FILE_LEN = 128 * 1024 * 1024
};

/* Zero-initialised is empty. */
struct pace {
    uint64_t count;
    uint64_t bytes;
    uint64_t ns;
};

/* Bytes a second; NAN while empty: not measured. */
double pace_bytes(const struct pace *p);

/* Appends, each with fdatasync, by the length of one. */
struct appends {
    struct pace group; /* LIMIT_GROUP_LEN */
    struct pace batch; /* LIMIT_BATCH_LEN */
};

/* Bytes a second of the better length; NAN while empty. */
double appends_bytes(const struct appends *a);

/* A file in the folder that has no name any more: nothing of it can stay. */
struct limit_file {
    const char *dir; /* borrowed */
    int fd;          /* -1: not open */
    uint8_t *bytes;  /* LIMIT_BATCH_LEN of them, to write */
    uint64_t at;     /* where the next append goes */
};

/* Write it full of zeros, as the broker's segments are. Returns an exit code. */
int limit_file_open(struct limit_file *f, const char *dir);
void limit_file_close(struct limit_file *f); /* accepts one that is not open */

/* One append of `len` bytes, at most LIMIT_BATCH_LEN, and its sync; nothing is
 * measured. This and the others return exit codes. */
int limit_append_one(struct limit_file *f, size_t len);
/* Half of the time for each length. */
int limit_append(struct limit_file *f, uint64_t ms, struct appends *appends);
/* 4 KiB, each with fdatasync: nanoseconds into `h`. */
int limit_sync(struct limit_file *f, uint64_t ms, struct histogram *h);
/* All of it, by a mapping, from the page cache. */
int limit_read(struct limit_file *f, uint64_t ms, struct pace *pace);
/* From one thread to another over loopback TCP. */
int limit_loopback(uint64_t ms, struct pace *pace);

#endif
