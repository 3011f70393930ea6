/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* Long batches are written in pieces, and the disk has each before the next is
 * copied. What stands in the file is the same, and a disk that knows nothing of
 * such hints loses nothing. */
#include "test/storage/harness.h"

#include "storage/internal.h"
#include "storage/io.h"
#include "test/lib/tmpdir.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LEN_MAX = 3 * IO_PIECE_LEN, IOV_COUNT = 7 };

static struct {
    size_t longest; /* write, in bytes */
    size_t started; /* bytes the disk was given early */
    off_t end;      /* of them */
    bool gaps;      /* they did not follow on each other */
    bool refuse;    /* the hint */
    bool half;      /* of what is to be written, at each call */
    int fail_at;    /* which write fails; 0: none */
    int writes;
} seen;

static struct vfs vfs;

static ssize_t see_pwritev(const struct vfs *table, int fd,
                           const struct iovec *iov, int count, off_t at)
{
    size_t len = 0;

    (void)table;
    for (int i = 0; i < count; i++) {
        len += iov[i].iov_len;
    }
    seen.longest = len > seen.longest ? len : seen.longest;
    if (++seen.writes == seen.fail_at) {
        errno = EIO;
        return -1;
    }
    return seen.half ? pwrite(fd, iov->iov_base, (iov->iov_len + 1) / 2, at)
                     : pwritev(fd, iov, count, at);
}

static ssize_t see_pwrite(const struct vfs *table, int fd, const void *from,
                          size_t len, off_t at)
{
    struct iovec iov = { (void *)from, len };

    return see_pwritev(table, fd, &iov, 1, at);
}

static int see_start_sync(const struct vfs *table, int fd, off_t at, off_t len)
{
    (void)table;
    (void)fd;
    seen.gaps |= seen.started > 0 && at != seen.end;
    seen.started += (size_t)len;
    seen.end = at + len;
    errno = EINVAL;
    return seen.refuse ? -1 : 0;
}

static struct harness h;
static uint8_t *bytes;

static void set_up(void)
{
    harness_init(&h);
    memset(&seen, 0, sizeof seen);
    vfs = *vfs_system();
    vfs.pwrite = see_pwrite;
    vfs.pwritev = see_pwritev;
    vfs.start_sync = see_start_sync;
    bytes = malloc(LEN_MAX);
    cr_assert(bytes != NULL);
    for (size_t i = 0; i < LEN_MAX; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    }
}

static void tear_down(void)
{
    harness_fini(&h);
    free(bytes);
}

TestSuite(pieces, .init = set_up, .fini = tear_down, .timeout = 60);

static int write_some(int fd, size_t len, size_t first, off_t at)
{
    struct iovec iov[IOV_COUNT];
    size_t done = 0;

    for (int i = 0; i < IOV_COUNT; i++) {
        size_t left = len - done;
        size_t part = i == 0 ? first : left / 2;
        part = i == IOV_COUNT - 1 || part > left ? left : part;
        iov[i] = (struct iovec) { bytes + done, part };
        done += part;
    }
    return io_writev_early(&vfs, fd, iov, IOV_COUNT, at);
}

static void check_file(size_t len, size_t first)
{
    char path[600];
    uint8_t *back = calloc(1, LEN_MAX);
    int fd;

    snprintf(path, sizeof path, "%s/pieces", h.dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    cr_assert(ge(int, fd, 0));
    seen.longest = seen.started = 0;
    seen.gaps = false;
    cr_assert(eq(int, write_some(fd, len, first, 100), 0));
    cr_assert(eq(sz, (size_t)lseek(fd, 0, SEEK_END), len == 0 ? 0 : len + 100));
    cr_assert(eq(sz, (size_t)pread(fd, back, len, 100), len));
    cr_assert(eq(int, memcmp(back, bytes, len), 0));
    cr_assert(le(sz, seen.longest, IO_PIECE_LEN));
    cr_assert(eq(sz, seen.started, len - len % IO_PIECE_LEN));
    cr_assert(not(seen.gaps));
    close(fd);
    free(back);
}

static void check_all(void)
{
    static const size_t lens[] = { 0,
                                   1,
                                   IO_PIECE_LEN - 1,
                                   IO_PIECE_LEN,
                                   IO_PIECE_LEN + 1,
                                   2 * IO_PIECE_LEN,
                                   LEN_MAX - 5,
                                   LEN_MAX };
    static const size_t firsts[] = { 0,
                                     128,
                                     IO_PIECE_LEN - 1,
                                     IO_PIECE_LEN,
                                     IO_PIECE_LEN + 1,
                                     2 * IO_PIECE_LEN + 7,
                                     LEN_MAX };

    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        for (size_t k = 0; k < sizeof firsts / sizeof *firsts; k++) {
            check_file(lens[i], firsts[k]);
        }
    }
}

Test(pieces, make_the_same_file)
{
    check_all();
}

Test(pieces, make_the_same_file_where_writes_are_short)
{
    seen.half = true;
    check_all();
}

Test(pieces, make_the_same_file_where_hints_are_refused)
{
    seen.refuse = true;
    check_all();
}

Test(pieces, a_write_that_fails_ends_it)
{
    char path[600];
    int fd;

    snprintf(path, sizeof path, "%s/pieces", h.dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    seen.fail_at = 2;
    cr_assert(eq(int, write_some(fd, LEN_MAX, LEN_MAX, 0), -1));
    cr_assert(eq(int, seen.writes, 2));
    cr_assert(eq(sz, (size_t)lseek(fd, 0, SEEK_END), IO_PIECE_LEN));
    close(fd);
}

/* One batch of `count` messages. */
static void append_batch(int count, size_t len, struct store_commit *commit)
{
    uint8_t *all =
        aligned_alloc(RECORD_ALIGN, (size_t)count * record_size(len));
    struct store_span span = { .at = all };

    cr_assert(all != NULL);
    for (int i = 0; i < count; i++) {
        add_sized(&h, 1, len, (uint8_t)i);
        memcpy(all + span.len, h.buffer, h.len);
        span.len += h.len;
        h.len = 0;
    }
    seen.longest = seen.started = 0;
    seen.gaps = false;
    cr_assert(
        eq(int, store_append(h.store, &span, 1, 1, commit, &h.err), STATUS_OK));
    cr_assert(eq(sz, span.taken, span.len));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_view_commit(h.view, commit, NULL), STATUS_OK));
    cr_assert(eq(int, store_apply(h.store, commit), STATUS_OK));
    free(all);
}

static void check_messages(uint64_t first, int count, size_t len)
{
    struct record record;

    for (int i = 0; i < count; i++) {
        cr_assert(eq(int, message_at(&h, 1, first + (uint64_t)i, &record, NULL),
                     STATUS_OK));
        cr_assert(eq(sz, record.body.len, len));
        cr_assert(eq(int, record.body.at[len - 1], i));
    }
}

/* The first batch is long enough for pieces, the second a message too short,
 * the third of short messages. */
Test(pieces, of_a_long_batch_come_back)
{
    enum { LEN = 200000, LONG = 11, SHORT = 10, MANY = 600 };
    struct store_commit commit;

    h.config.vfs = &vfs;
    h.config.segment_len = 16 * 1024 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    append_batch(LONG, LEN, &commit);
    cr_assert(ge(u32, commit.len, 4 * IO_PIECE_LEN));
    cr_assert(eq(sz, seen.longest, IO_PIECE_LEN));
    cr_assert(eq(sz, seen.started, 4 * IO_PIECE_LEN));
    cr_assert(not(seen.gaps));
    append_batch(SHORT, LEN, &commit);
    cr_assert(eq(sz, seen.longest, commit.len));
    cr_assert(eq(sz, seen.started, 0));
    append_batch(MANY, LEN / 50, &commit);
    cr_assert(ge(u32, commit.len, 4 * IO_PIECE_LEN));
    cr_assert(eq(sz, seen.started, 0));
    harness_reopen(&h);
    check_messages(1, LONG, LEN);
    check_messages(LONG + 1, SHORT, LEN);
    cr_assert(eq(u64, h.recovery.damaged_batches, 0));
}
