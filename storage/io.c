#include "storage/io.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>

enum { INTERRUPTIONS_MAX = 1000, FILE_MODE = 0600 };

/* True: the call was only interrupted and may be made again. */
static bool again(int result, int *budget)
{
    return result < 0 && errno == EINTR && --*budget > 0;
}

int io_open(const struct vfs *vfs, const char *path, int flags)
{
    int budget = INTERRUPTIONS_MAX;
    int fd;

    do {
        fd = vfs->open(vfs, path, flags, FILE_MODE);
    } while (again(fd, &budget));
    return fd;
}

int io_allocate(const struct vfs *vfs, int fd, off_t len)
{
    int budget = INTERRUPTIONS_MAX;
    int result;

    do {
        result = vfs->allocate(vfs, fd, len);
    } while (again(result, &budget));
    return result;
}

int io_truncate(const struct vfs *vfs, int fd, off_t len)
{
    int budget = INTERRUPTIONS_MAX;
    int result;

    do {
        result = vfs->truncate(vfs, fd, len);
    } while (again(result, &budget));
    return result;
}

/* An interrupted sync has reported nothing yet, so it may be asked again; after
 * any other failure the kernel may have thrown the pages away. */
int io_sync(const struct vfs *vfs, int fd)
{
    int budget = INTERRUPTIONS_MAX;
    int result;

    do {
        result = vfs->sync(vfs, fd);
    } while (again(result, &budget));
    return result;
}

int io_sync_dir(const struct vfs *vfs, const char *path)
{
    int budget = INTERRUPTIONS_MAX;
    int result;

    do {
        result = vfs->sync_dir(vfs, path);
    } while (again(result, &budget));
    return result;
}

int io_write(const struct vfs *vfs, int fd, const void *from, size_t len,
             off_t at)
{
    struct iovec iov = { (void *)from, len };

    return io_writev(vfs, fd, &iov, 1, at);
}

/* Drop the first `len` bytes of what is still to be written. */
static void advance(struct iovec **iov, size_t *count, size_t len)
{
    while (*count > 0 && len >= (*iov)->iov_len) {
        len -= (*iov)->iov_len;
        (*iov)++;
        (*count)--;
    }
    if (len > 0 && *count > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + len;
        (*iov)->iov_len -= len;
    }
}

int io_writev(const struct vfs *vfs, int fd, struct iovec *iov, size_t count,
              off_t at)
{
    int budget = INTERRUPTIONS_MAX;

    advance(&iov, &count, 0); /* empty entries at the front */
    while (count > 0) {
        int part = count > IOV_MAX ? IOV_MAX : (int)count;
        ssize_t done =
            part == 1 ? vfs->pwrite(vfs, fd, iov->iov_base, iov->iov_len, at)
                      : vfs->pwritev(vfs, fd, iov, part, at);
        if (done < 0) {
            if (again(-1, &budget)) {
                continue;
            }
            return -1;
        }
        if (done == 0 && --budget <= 0) {
            errno = EIO;
            return -1;
        }
        advance(&iov, &count, (size_t)done);
        at += done;
    }
    return 0;
}

/* Make one piece of the first entries, and *rest of what the last of them has
 * more. How many they are. */
static size_t cut_piece(struct iovec *iov, size_t count, size_t *len,
                        struct iovec *rest)
{
    size_t part = 0;
    struct iovec *last;

    *len = 0;
    *rest = (struct iovec) { NULL, 0 };
    while (part < count && *len < IO_PIECE_LEN) {
        *len += iov[part++].iov_len;
    }
    if (*len > IO_PIECE_LEN) {
        last = &iov[part - 1];
        rest->iov_len = *len - IO_PIECE_LEN;
        last->iov_len -= rest->iov_len;
        rest->iov_base = (char *)last->iov_base + last->iov_len;
        *len = IO_PIECE_LEN;
    }
    return part;
}

int io_writev_early(const struct vfs *vfs, int fd, struct iovec *iov,
                    size_t count, off_t at)
{
    while (count > 0) {
        struct iovec rest;
        size_t len;
        size_t part = cut_piece(iov, count, &len, &rest);

        if (io_writev(vfs, fd, iov, part, at) != 0) {
            return -1;
        }
        if (len == IO_PIECE_LEN) {
            (void)vfs->start_sync(vfs, fd, at, (off_t)len);
        }
        at += (off_t)len;
        if (rest.iov_len > 0) {
            iov[--part] = rest;
        }
        iov += part;
        count -= part;
    }
    return 0;
}

ssize_t io_read(const struct vfs *vfs, int fd, void *into, size_t len, off_t at)
{
    int budget = INTERRUPTIONS_MAX;
    size_t have = 0;

    while (have < len) {
        ssize_t done = vfs->pread(vfs, fd, (char *)into + have, len - have,
                                  at + (off_t)have);
        if (done < 0) {
            if (again(-1, &budget)) {
                continue;
            }
            return -1;
        }
        if (done == 0) {
            break;
        }
        have += (size_t)done;
    }
    return (ssize_t)have;
}
