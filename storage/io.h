/* The file calls of vfs.h made whole: interrupted calls are made again, short
 * ones continued, both a bounded number of times. -1 and errno otherwise; the
 * callers decide what a failure means. */
#ifndef GODWIT_STORAGE_IO_H
#define GODWIT_STORAGE_IO_H

#include "storage/vfs.h"

#include <stddef.h>

int io_open(const struct vfs *vfs, const char *path, int flags);
int io_allocate(const struct vfs *vfs, int fd, off_t len);
int io_truncate(const struct vfs *vfs, int fd, off_t len);
int io_sync(const struct vfs *vfs, int fd);
int io_sync_dir(const struct vfs *vfs, const char *path);
int io_write(const struct vfs *vfs, int fd, const void *from, size_t len,
             off_t at);

/* Any count; the entries are changed on the way. */
int io_writev(const struct vfs *vfs, int fd, struct iovec *iov, size_t count,
              off_t at);

/* The same for what will be synced at once: in pieces, each of which is on its
 * way to the disk while the next is copied. */
enum { IO_PIECE_LEN = 512 * 1024 };
int io_writev_early(const struct vfs *vfs, int fd, struct iovec *iov,
                    size_t count, off_t at);

/* How much was read: less than `len` only at the end of the file. */
ssize_t io_read(const struct vfs *vfs, int fd, void *into, size_t len,
                off_t at);

#endif
