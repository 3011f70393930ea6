#include "tools/bench/limit.h"

#include "tools/bench/echo.h"
#include "tools/godwit/command.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STREAM_LEN = 256 * 1024 };

double pace_bytes(const struct pace *p)
{
    return p->count == 0 ? NAN : (double)p->bytes * 1e9 / (double)p->ns;
}

double appends_bytes(const struct appends *a)
{
    return fmax(pace_bytes(&a->group), pace_bytes(&a->batch));
}

static void pace_add(struct pace *p, uint64_t bytes)
{
    p->count++;
    p->bytes += bytes;
}

/* ---- the disk ---- */

static int disk_failed(const struct limit_file *f, const char *what)
{
    return errno == ENOSPC
               ? fail(EXIT_FAILED,
                      "--dir %s: the disk is full: measuring it takes "
                      "%d MiB",
                      f->dir, LIMIT_FILE_LEN / (1024 * 1024))
               : fail(EXIT_FAILED, "--dir %s: %s: %s", f->dir, what,
                      strerror(errno));
}

/* Without the name: whatever ends us, nothing stays. */
static int make_file(struct limit_file *f)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof path, "%s/godwit-bench-XXXXXX", f->dir)
        >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return disk_failed(f, "the file to write");
    }
    f->fd = mkostemp(path, O_CLOEXEC);
    if (f->fd < 0) {
        return disk_failed(f, "no file can be made there");
    }
    if (unlink(path) != 0) {
        return disk_failed(f, "unlink");
    }
    return EXIT_OK;
}

/* Whole, or an error. */
static bool write_at(struct limit_file *f, size_t len, uint64_t at)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n =
            pwrite(f->fd, f->bytes + done, len - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR) {
            return false;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static int write_zeros(struct limit_file *f)
{
    for (uint64_t at = 0; at < LIMIT_FILE_LEN; at += LIMIT_GROUP_LEN) {
        if (interrupted()) {
            return EXIT_INTERRUPTED;
        }
        if (!write_at(f, LIMIT_GROUP_LEN, at)) {
            return disk_failed(f, "write");
        }
    }
    return fdatasync(f->fd) == 0 ? EXIT_OK : disk_failed(f, "fdatasync");
}

int limit_file_open(struct limit_file *f, const char *dir)
{
    int code;

    *f = (struct limit_file) { .dir = dir, .fd = -1 };
    f->bytes = calloc(1, LIMIT_BATCH_LEN);
    code = f->bytes != NULL ? make_file(f) : fail(EXIT_FAILED, "out of memory");
    if (code == EXIT_OK) {
        code = write_zeros(f);
    }
    if (code != EXIT_OK) {
        limit_file_close(f);
        return code;
    }
    memset(f->bytes, 'g', LIMIT_BATCH_LEN);
    return EXIT_OK;
}

void limit_file_close(struct limit_file *f)
{
    if (f->bytes == NULL) {
        return;
    }
    if (f->fd >= 0) {
        close(f->fd);
    }
    free(f->bytes);
    *f = (struct limit_file) { .fd = -1 };
}

int limit_append_one(struct limit_file *f, size_t len)
{
    if (interrupted()) {
        return EXIT_INTERRUPTED;
    }
    if (f->at + len > LIMIT_FILE_LEN) {
        f->at = 0;
    }
    if (!write_at(f, len, f->at)) {
        return disk_failed(f, "write");
    }
    f->at += len;
    return fdatasync(f->fd) == 0 ? EXIT_OK : disk_failed(f, "fdatasync");
}

static int append_for(struct limit_file *f, uint64_t ms, size_t len,
                      struct pace *pace)
{
    uint64_t begin = now_ns();
    uint64_t now = begin;
    int code = EXIT_OK;

    while (now - begin < ms * 1000000) {
        code = limit_append_one(f, len);
        if (code != EXIT_OK) {
            break;
        }
        pace_add(pace, len);
        now = now_ns();
    }
    pace->ns += now - begin;
    return code;
}

int limit_append(struct limit_file *f, uint64_t ms, struct appends *appends)
{
    int code = append_for(f, ms / 2, LIMIT_GROUP_LEN, &appends->group);

    return code == EXIT_OK
               ? append_for(f, ms / 2, LIMIT_BATCH_LEN, &appends->batch)
               : code;
}

int limit_sync(struct limit_file *f, uint64_t ms, struct histogram *h)
{
    uint64_t begin = now_ns();
    uint64_t now = begin;
    int code = EXIT_OK;

    while (code == EXIT_OK && now - begin < ms * 1000000) {
        uint64_t before = now;

        code = limit_append_one(f, LIMIT_PAGE_LEN);
        now = now_ns();
        if (code == EXIT_OK) {
            histogram_add(h, now - before);
        }
    }
    return code;
}

static uint64_t sum(const uint64_t *words, size_t count)
{
    uint64_t total = 0;

    for (size_t i = 0; i < count; i++) {
        total += words[i];
    }
    return total;
}

int limit_read(struct limit_file *f, uint64_t ms, struct pace *pace)
{
    static volatile uint64_t looked_at; /* so that the reads are not left out */
    const uint8_t *at =
        mmap(NULL, LIMIT_FILE_LEN, PROT_READ, MAP_SHARED, f->fd, 0);
    uint64_t begin;
    uint64_t now;
    size_t offset = 0;

    if (at == MAP_FAILED) {
        return disk_failed(f, "mmap");
    }
    for (size_t i = 0; i < LIMIT_FILE_LEN; i += LIMIT_PAGE_LEN) {
        looked_at += at[i]; /* page faults are not what is asked for */
    }
    begin = now = now_ns();
    while (!interrupted() && now - begin < ms * 1000000) {
        looked_at += sum((const uint64_t *)(const void *)(at + offset),
                         LIMIT_GROUP_LEN / sizeof(uint64_t));
        offset = (offset + LIMIT_GROUP_LEN) % LIMIT_FILE_LEN;
        pace_add(pace, LIMIT_GROUP_LEN);
        now = now_ns();
    }
    pace->ns += now - begin;
    (void)looked_at; /* clang: set, and never used */
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): it was mapped for reading */
    (void)munmap((void *)(uintptr_t)at, LIMIT_FILE_LEN);
    return interrupted() ? EXIT_INTERRUPTED : EXIT_OK;
}

/* ---- loopback ---- */

struct stream {
    int from;
    atomic_bool stop;
};

/* Until it is told to stop, and then the stream ends. */
static void *send_much(void *arg)
{
    struct stream *stream = arg;
    char *bytes = calloc(1, STREAM_LEN);

    while (bytes != NULL && !atomic_load(&stream->stop)
           && (send(stream->from, bytes, STREAM_LEN, MSG_NOSIGNAL) > 0
               || errno == EINTR)) {
    }
    free(bytes);
    (void)shutdown(stream->from, SHUT_WR);
    return NULL;
}

/* To the end of the stream: a sender whose receiver only goes away would wait
 * for room for ever. What comes after `ms` does not count. */
static void receive(struct stream *stream, int fd, char *to, uint64_t ms,
                    struct pace *pace)
{
    uint64_t begin = now_ns();
    uint64_t now = begin;
    ssize_t n;

    while ((n = recv(fd, to, STREAM_LEN, 0)) > 0 || (n < 0 && errno == EINTR)) {
        if (atomic_load(&stream->stop)) {
            continue;
        }
        pace_add(pace, n > 0 ? (uint64_t)n : 0);
        now = now_ns();
        if (interrupted() || now - begin >= ms * 1000000) {
            atomic_store(&stream->stop, true);
        }
    }
    pace->ns += now - begin;
}

int limit_loopback(uint64_t ms, struct pace *pace)
{
    struct stream stream = { .from = -1 };
    pthread_t thread;
    int fd = loopback_pair(&stream.from);
    char *to = malloc(STREAM_LEN);
    bool runs = fd >= 0 && to != NULL
                && pthread_create(&thread, NULL, send_much, &stream) == 0;

    if (runs) {
        receive(&stream, fd, to, ms, pace);
        (void)pthread_join(thread, NULL);
    }
    if (fd >= 0) {
        close(fd);
        close(stream.from);
    }
    free(to);
    if (!runs) {
        return fail(EXIT_FAILED, "no connection over loopback");
    }
    return interrupted() ? EXIT_INTERRUPTED : EXIT_OK;
}
