/* links: godwit_storage godwit_proto */

/* How fast the store appends, as a ratio to the fastest that this disk gives to
 * anyone who writes the same bytes: pwrite() of ready groups into a file that
 * was filled with zeros, one fdatasync() a group. In turns, in one run, so that
 * what else the machine does hits all alike.
 *
 *   bench_append [DIR [GROUP_BYTES]]
 *
 * DIR: on the disk to be measured, the current folder when not given; what is
 * made there is removed. Not run by the tests. */
#include "storage/internal.h"

#include "proto/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    ROUNDS = 9,
    ROUND_LEN = 6 * 1024 * 1024,
    SEGMENT_LEN = 64 * 1024 * 1024,
    GROUP_LEN = 256 * 1024,
    TOPIC = 1
};

/* What is measured in turns. */
enum way {
    RAW,          /* zero-written file */
    STORE_FRESH,  /* a segment that was filled with zeros */
    STORE_REUSED, /* a segment made of a file of the pool */
    STORE_HASHED, /* the same, and records finished in the same thread */
    WAYS
};

static const char *const names[WAYS] = {
    [RAW] = "raw pwrite + fdatasync",
    [STORE_FRESH] = "store, zeroed segment",
    [STORE_REUSED] = "store, recycled segment",
    [STORE_HASHED] = "  the same with hashing bodies",
};

struct bench {
    char dir[3000];
    uint8_t *group; /* finished records */
    size_t group_len;
    size_t body_len;
    size_t record_count;
    int fd; /* the raw file */
    off_t at;
    struct store *fresh;
    struct store *reused;
    double rates[WAYS][ROUNDS]; /* messages a second */
    double cpu[WAYS][ROUNDS];   /* of this thread, ns a message */
};

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "bench_append: %s: %s\n", what,
            err == NULL ? strerror(errno) : err->text);
    exit(1);
}

static double now(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the bytes ---- */

static void finish(struct bench *b)
{
    size_t size = record_size(b->body_len);

    for (size_t i = 0; i < b->record_count; i++) {
        uint8_t *at = b->group + i * size;
        struct record record = { .kind = RECORD_MESSAGE,
                                 .topic = TOPIC,
                                 .app = 1 };
        record.body = slice_of(at + RECORD_HEADER_LEN, b->body_len);
        record_finish(at, &record);
    }
}

static void make_group(struct bench *b, size_t group_len)
{
    size_t size = record_size(b->body_len);

    b->record_count = group_len / size == 0 ? 1 : group_len / size;
    b->group_len = b->record_count * size;
    b->group = aligned_alloc(4096, (b->group_len + 4095) & ~(size_t)4095);
    CHECK(b->group != NULL);
    for (size_t i = 0; i < b->group_len; i++) {
        b->group[i] = (uint8_t)(i * 131 >> 3);
    }
    finish(b);
}

/* ---- the raw file ---- */

static void make_raw(struct bench *b)
{
    uint8_t *zeros = calloc(1, ROUND_LEN);
    char path[4000];

    CHECK(zeros != NULL);
    snprintf(path, sizeof path, "%s/raw", b->dir);
    b->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (b->fd < 0 || fallocate(b->fd, 0, 0, SEGMENT_LEN) != 0) {
        die("raw file", NULL);
    }
    for (off_t at = 0; at + ROUND_LEN <= SEGMENT_LEN; at += ROUND_LEN) {
        if (pwrite(b->fd, zeros, ROUND_LEN, at) != ROUND_LEN) {
            die("raw file", NULL);
        }
    }
    free(zeros);
    if (fsync(b->fd) != 0) {
        die("raw file", NULL);
    }
}

static void write_raw(struct bench *b)
{
    if (pwrite(b->fd, b->group, b->group_len, b->at) != (ssize_t)b->group_len
        || fdatasync(b->fd) != 0) {
        die("raw write", NULL);
    }
    b->at += (off_t)b->group_len;
}

/* ---- the store ---- */

static struct store *open_store(struct bench *b, const char *name)
{
    struct store_config config = { .segment_len = SEGMENT_LEN,
                                   .keydir_len_max = 64 * 1024 * 1024,
                                   .now_us = 1 };
    struct store *store = NULL;
    struct error err;
    char dir[4000];

    snprintf(dir, sizeof dir, "%s/%s", b->dir, name);
    config.dir = dir;
    if (store_open(&store, &config, NULL, &err) != STATUS_OK) {
        die("open", &err);
    }
    return store;
}

static uint32_t append(struct bench *b, struct store *store)
{
    struct store_commit commit = { 0 };
    size_t done = 0;

    while (done < b->group_len) {
        struct store_span span = { .at = b->group + done,
                                   .len = b->group_len - done };
        struct error err;
        if (store_append(store, &span, 1, 1, &commit, &err) != STATUS_OK) {
            die("append", &err);
        }
        done += span.taken;
    }
    return commit.segment;
}

static void write_store(struct bench *b, struct store *store)
{
    struct error err;

    (void)append(b, store);
    if (store_sync(store, &err) != STATUS_OK) {
        die("sync", &err);
    }
}

static void prepare(struct store *store)
{
    struct error err;

    while (atomic_load(&store->next) == NULL) {
        if (store_prepare(store, &err) != STATUS_OK) {
            die("prepare", &err);
        }
    }
}

/* Until the log goes on in another segment. */
static void fill(struct bench *b, struct store *store)
{
    uint32_t id = store->journal.active->header.id;
    struct error err;

    prepare(store);
    while (append(b, store) == id) {
    }
    if (store_sync(store, &err) != STATUS_OK
        || keeper_catch_up(store, &err) != STATUS_OK
        || store_checkpoint(store, &err) != STATUS_OK) {
        die("fill", &err);
    }
}

/* The second segment, the first of full length, is full and removed; the fourth
 * is made of its file. */
static void reuse(struct bench *b, struct store *store)
{
    struct segment *segment;
    struct error err;
    uint64_t epoch;

    fill(b, store);
    fill(b, store);
    segment = store_retire_begin(store, 2, &epoch);
    if (store_recycle(store, segment, &err) != STATUS_OK) {
        die("recycle", &err);
    }
    fill(b, store);
    if (!store->journal.active->header.recycled) { /* 3 was there already */
        fill(b, store);
    }
    CHECK(store->journal.active->header.recycled);
}

/* ---- the rounds ---- */

static void write_group(struct bench *b, enum way way)
{
    switch (way) {
    case RAW:
        write_raw(b);
        break;
    case STORE_FRESH:
        write_store(b, b->fresh);
        break;
    case STORE_HASHED:
        finish(b);
        write_store(b, b->reused);
        break;
    case STORE_REUSED:
        write_store(b, b->reused);
        break;
    case WAYS:
        CHECK(false);
    }
}

static void run_round(struct bench *b, int round)
{
    size_t groups = ROUND_LEN / b->group_len / 2;

    for (int i = 0; i < WAYS; i++) {
        enum way way = (enum way)((i + round) % WAYS);
        double count = (double)(groups * b->record_count);
        double begin = now(CLOCK_MONOTONIC);
        double cpu = now(CLOCK_THREAD_CPUTIME_ID);
        for (size_t k = 0; k < groups; k++) {
            write_group(b, way);
        }
        cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
        b->cpu[way][round] = cpu / count * 1e9;
        b->rates[way][round] = count / (now(CLOCK_MONOTONIC) - begin);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, by_value);
    return values[ROUNDS / 2];
}

/* Of each round's own ratio: its neighbours in time count. */
static double median_ratio(const struct bench *b, enum way way)
{
    double ratios[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        ratios[i] = b->rates[way][i] / b->rates[RAW][i];
    }
    return median(ratios);
}

static void print(struct bench *b)
{
    double ratios[WAYS];

    for (int way = 0; way < WAYS; way++) {
        ratios[way] = median_ratio(b, (enum way)way);
    }
    printf("%zu bytes, groups of %zu (%zu KiB), medians of %d rounds\n",
           b->body_len, b->record_count, b->group_len / 1024, ROUNDS);
    for (int way = 0; way < WAYS; way++) {
        printf("  %-32s %10.0f messages/s  %6.0f ns of CPU  ratio %.2f\n",
               names[way], median(b->rates[way]), median(b->cpu[way]),
               ratios[way]);
    }
}

static void remove_dir(const struct bench *b)
{
    static const char *const entries[] = { "raw",
                                           "a/log/0000000001.seg",
                                           "a/log/0000000002.seg",
                                           "b/log/0000000002.pool",
                                           "b/log/0000000001.seg",
                                           "b/log/0000000002.seg",
                                           "b/log/0000000003.seg",
                                           "b/log/0000000004.seg",
                                           "b/log/0000000005.seg",
                                           "b/log/0000000006.seg",
                                           "a/keydir/data.mdb",
                                           "a/keydir/lock.mdb",
                                           "b/keydir/data.mdb",
                                           "b/keydir/lock.mdb",
                                           "a/format",
                                           "a/spare",
                                           "a/store.lock",
                                           "a/store.hold",
                                           "b/format",
                                           "b/spare",
                                           "b/store.lock",
                                           "b/store.hold",
                                           "a/keydir",
                                           "b/keydir",
                                           "a/log",
                                           "b/log",
                                           "a",
                                           "b",
                                           "" };
    char path[4000];

    for (size_t i = 0; i < COUNT_OF(entries); i++) {
        snprintf(path, sizeof path, "%s/%s", b->dir, entries[i]);
        if (remove(path) != 0 && errno != ENOENT) {
            fprintf(stderr, "bench_append: %s: %s\n", path, strerror(errno));
        }
    }
}

static void measure(const char *dir, size_t body_len, size_t group_len)
{
    struct bench b = { .body_len = body_len };

    snprintf(b.dir, sizeof b.dir, "%s/bench-append-XXXXXX", dir);
    if (mkdtemp(b.dir) == NULL) {
        die(dir, NULL);
    }
    make_group(&b, group_len);
    make_raw(&b);
    b.fresh = open_store(&b, "a");
    b.reused = open_store(&b, "b");
    reuse(&b, b.reused);
    for (int round = 0; round < ROUNDS; round++) {
        run_round(&b, round);
    }
    print(&b);
    store_close(b.fresh);
    store_close(b.reused);
    close(b.fd);
    free(b.group);
    remove_dir(&b);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : ".";
    size_t group_len =
        argc > 2 ? (size_t)strtoull(argv[2], NULL, 10) : GROUP_LEN;

    if (group_len < 4096 || group_len > ROUND_LEN / 4) {
        fprintf(stderr, "bench_append: groups of 4096 to %d bytes\n",
                ROUND_LEN / 4);
        return 2;
    }
    measure(dir, 128, group_len);
    measure(dir, 1024, group_len);
    measure(dir, 16 * 1024, group_len);
    return 0;
}
