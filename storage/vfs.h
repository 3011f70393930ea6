/* Every byte of the log goes to disk through this table, so that a test can
 * make any call fail, record what was written, or replay a power cut. LMDB does
 * its own I/O and stays outside. All functions follow the system calls: -1 and
 * errno, short counts and EINTR included; the callers deal with those. */
#ifndef GODWIT_STORAGE_VFS_H
#define GODWIT_STORAGE_VFS_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct vfs {
    int (*open)(const struct vfs *vfs, const char *path, int flags,
                mode_t mode);
    int (*close)(const struct vfs *vfs, int fd);
    int (*allocate)(const struct vfs *vfs, int fd, off_t len); /* fallocate */
    ssize_t (*pwrite)(const struct vfs *vfs, int fd, const void *from,
                      size_t len, off_t at);
    ssize_t (*pwritev)(const struct vfs *vfs, int fd, const struct iovec *iov,
                       int count, off_t at);
    ssize_t (*pread)(const struct vfs *vfs, int fd, void *into, size_t len,
                     off_t at);
    int (*sync)(const struct vfs *vfs, int fd); /* fdatasync */
    /* Have what was written there go to the disk, and do not wait: a hint,
     * nothing is durable by it, and what fails is told by sync. */
    int (*start_sync)(const struct vfs *vfs, int fd, off_t at, off_t len);
    int (*drop_cache)(const struct vfs *vfs, int fd, off_t at, off_t len);
    off_t (*size)(const struct vfs *vfs, int fd);
    int (*truncate)(const struct vfs *vfs, int fd, off_t len);
    /* To read, shared; MAP_FAILED and errno. */
    void *(*map)(const struct vfs *vfs, int fd, size_t len);
    int (*unmap)(const struct vfs *vfs, void *at, size_t len);
    /* Have the pages of a mapping, whole pages. -1: to read them would raise
     * SIGBUS. 0 also where the kernel cannot tell. */
    int (*touch)(const struct vfs *vfs, const void *at, size_t len);
    int (*rename)(const struct vfs *vfs, const char *from, const char *to);
    int (*unlink)(const struct vfs *vfs, const char *path);
    int (*sync_dir)(const struct vfs *vfs, const char *path);
    int (*make_dir)(const struct vfs *vfs, const char *path, mode_t mode);
    /* Calls back with each entry's name, those that begin with a dot apart. */
    int (*list)(const struct vfs *vfs, const char *path,
                void (*entry)(void *arg, const char *name), void *arg);
    uint64_t (*free_bytes)(const struct vfs *vfs, const char *path);
    void *context; /* a test's own */
};

/* The real system calls. */
const struct vfs *vfs_system(void);

#endif
