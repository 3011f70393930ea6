#include "storage/vfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int system_open(const struct vfs *vfs, const char *path, int flags,
                       mode_t mode)
{
    (void)vfs;
    return open(path, flags | O_CLOEXEC, mode);
}

static int system_close(const struct vfs *vfs, int fd)
{
    (void)vfs;
    return close(fd);
}

/* Not posix_fallocate: where the file system cannot allocate, glibc writes
 * every block instead. */
static int system_allocate(const struct vfs *vfs, int fd, off_t len)
{
    (void)vfs;
    return fallocate(fd, 0, 0, len);
}

static ssize_t system_pwrite(const struct vfs *vfs, int fd, const void *from,
                             size_t len, off_t at)
{
    (void)vfs;
    return pwrite(fd, from, len, at);
}

static ssize_t system_pwritev(const struct vfs *vfs, int fd,
                              const struct iovec *iov, int count, off_t at)
{
    (void)vfs;
    return pwritev(fd, iov, count, at);
}

static ssize_t system_pread(const struct vfs *vfs, int fd, void *into,
                            size_t len, off_t at)
{
    (void)vfs;
    return pread(fd, into, len, at);
}

static int system_sync(const struct vfs *vfs, int fd)
{
    (void)vfs;
    return fdatasync(fd);
}

static int system_start_sync(const struct vfs *vfs, int fd, off_t at, off_t len)
{
    (void)vfs;
    return sync_file_range(fd, at, len, SYNC_FILE_RANGE_WRITE);
}

static int system_drop_cache(const struct vfs *vfs, int fd, off_t at, off_t len)
{
    (void)vfs;
    int error = posix_fadvise(fd, at, len, POSIX_FADV_DONTNEED);

    if (error != 0) {
        errno = error;
        return -1;
    }
    return 0;
}

static off_t system_size(const struct vfs *vfs, int fd)
{
    (void)vfs;
    struct stat st;

    return fstat(fd, &st) == 0 ? st.st_size : -1;
}

static int system_truncate(const struct vfs *vfs, int fd, off_t len)
{
    (void)vfs;
    return ftruncate(fd, len);
}

static void *system_map(const struct vfs *vfs, int fd, size_t len)
{
    (void)vfs;
    return mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
}

static int system_unmap(const struct vfs *vfs, void *at, size_t len)
{
    (void)vfs;
    return munmap(at, len);
}

/* Only an answer that says so is a failure: kernels before 5.14 know no such
 * advice. */
static int system_touch(const struct vfs *vfs, const void *at, size_t len)
{
    (void)vfs;
    if (madvise((void *)at, len, MADV_POPULATE_READ) == 0
        || (errno != EFAULT && errno != EHWPOISON)) {
        return 0;
    }
    return -1;
}

static int system_rename(const struct vfs *vfs, const char *from,
                         const char *to)
{
    (void)vfs;
    return rename(from, to);
}

static int system_unlink(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    return unlink(path);
}

static int system_sync_dir(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result;
    int kept;

    if (fd < 0) {
        return -1;
    }
    result = fsync(fd);
    kept = errno;
    close(fd);
    errno = kept;
    return result;
}

static int system_make_dir(const struct vfs *vfs, const char *path, mode_t mode)
{
    (void)vfs;
    return mkdir(path, mode);
}

static int system_list(const struct vfs *vfs, const char *path,
                       void (*entry)(void *arg, const char *name), void *arg)
{
    (void)vfs;
    DIR *dir = opendir(path);
    struct dirent *found;
    int failed;

    if (dir == NULL) {
        return -1;
    }
    errno = 0;
    while ((found = readdir(dir)) != NULL) {
        if (found->d_name[0] != '.') {
            entry(arg, found->d_name);
        }
        errno = 0;
    }
    failed = errno;
    closedir(dir);
    errno = failed;
    return failed == 0 ? 0 : -1;
}

static uint64_t system_free_bytes(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    struct statvfs st;

    if (statvfs(path, &st) != 0) {
        return 0;
    }
    return (uint64_t)st.f_bavail * st.f_frsize;
}

const struct vfs *vfs_system(void)
{
    static const struct vfs vfs = {
        .open = system_open,
        .close = system_close,
        .allocate = system_allocate,
        .pwrite = system_pwrite,
        .pwritev = system_pwritev,
        .pread = system_pread,
        .sync = system_sync,
        .start_sync = system_start_sync,
        .drop_cache = system_drop_cache,
        .size = system_size,
        .truncate = system_truncate,
        .map = system_map,
        .unmap = system_unmap,
        .touch = system_touch,
        .rename = system_rename,
        .unlink = system_unlink,
        .sync_dir = system_sync_dir,
        .make_dir = system_make_dir,
        .list = system_list,
        .free_bytes = system_free_bytes,
    };
    return &vfs;
}
