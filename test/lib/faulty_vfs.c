#include "test/lib/faulty_vfs.h"

#include <errno.h>
#include <sys/mman.h>

static struct faulty_vfs *self(const struct vfs *vfs)
{
    return vfs->context;
}

/* Is it this call's turn? */
static bool turn(const struct vfs *vfs, enum faulty_call call)
{
    struct faulty_vfs *f = self(vfs);

    if (f->plan.nth == 0 || (f->plan.calls & call) == 0) {
        return false;
    }
    f->count++;
    if (f->count != f->plan.nth
        && !(f->plan.sticky && f->count > f->plan.nth)) {
        return false;
    }
    f->fired++;
    return true;
}

/* For calls that fail or do not: half of one makes no sense. */
static bool fails(const struct vfs *vfs, enum faulty_call call)
{
    if (self(vfs)->plan.error == 0 || !turn(vfs, call)) {
        return false;
    }
    errno = self(vfs)->plan.error;
    return true;
}

static int faulty_open(const struct vfs *vfs, const char *path, int flags,
                       mode_t mode)
{
    return fails(vfs, FAULTY_OPEN)
               ? -1
               : vfs_system()->open(vfs_system(), path, flags, mode);
}

static int faulty_close(const struct vfs *vfs, int fd)
{
    (void)vfs;
    return vfs_system()->close(vfs_system(), fd);
}

static int faulty_allocate(const struct vfs *vfs, int fd, off_t len)
{
    if (self(vfs)->no_space) {
        errno = ENOSPC;
        return -1;
    }
    return fails(vfs, FAULTY_ALLOCATE)
               ? -1
               : vfs_system()->allocate(vfs_system(), fd, len);
}

static ssize_t faulty_pwrite(const struct vfs *vfs, int fd, const void *from,
                             size_t len, off_t at)
{
    if (turn(vfs, FAULTY_WRITE)) {
        if (self(vfs)->plan.error != 0) {
            errno = self(vfs)->plan.error;
            return -1;
        }
        len = (len + 1) / 2;
    }
    return vfs_system()->pwrite(vfs_system(), fd, from, len, at);
}

static ssize_t faulty_pwritev(const struct vfs *vfs, int fd,
                              const struct iovec *iov, int count, off_t at)
{
    if (turn(vfs, FAULTY_WRITE)) {
        if (self(vfs)->plan.error != 0) {
            errno = self(vfs)->plan.error;
            return -1;
        }
        /* the first piece, and not all of it */
        return vfs_system()->pwrite(vfs_system(), fd, iov->iov_base,
                                    (iov->iov_len + 1) / 2, at);
    }
    return vfs_system()->pwritev(vfs_system(), fd, iov, count, at);
}

static ssize_t faulty_pread(const struct vfs *vfs, int fd, void *into,
                            size_t len, off_t at)
{
    if (turn(vfs, FAULTY_READ)) {
        if (self(vfs)->plan.error != 0) {
            errno = self(vfs)->plan.error;
            return -1;
        }
        len = (len + 1) / 2;
    }
    return vfs_system()->pread(vfs_system(), fd, into, len, at);
}

static int faulty_sync(const struct vfs *vfs, int fd)
{
    return fails(vfs, FAULTY_SYNC) ? -1 : vfs_system()->sync(vfs_system(), fd);
}

static int faulty_start_sync(const struct vfs *vfs, int fd, off_t at, off_t len)
{
    (void)vfs;
    return vfs_system()->start_sync(vfs_system(), fd, at, len);
}

static int faulty_drop_cache(const struct vfs *vfs, int fd, off_t at, off_t len)
{
    (void)vfs;
    return vfs_system()->drop_cache(vfs_system(), fd, at, len);
}

static off_t faulty_size(const struct vfs *vfs, int fd)
{
    return fails(vfs, FAULTY_SIZE) ? -1 : vfs_system()->size(vfs_system(), fd);
}

static int faulty_truncate(const struct vfs *vfs, int fd, off_t len)
{
    return fails(vfs, FAULTY_TRUNCATE)
               ? -1
               : vfs_system()->truncate(vfs_system(), fd, len);
}

static void *faulty_map(const struct vfs *vfs, int fd, size_t len)
{
    return fails(vfs, FAULTY_MAP) ? MAP_FAILED
                                  : vfs_system()->map(vfs_system(), fd, len);
}

static int faulty_unmap(const struct vfs *vfs, void *at, size_t len)
{
    (void)vfs;
    return vfs_system()->unmap(vfs_system(), at, len);
}

static int faulty_touch(const struct vfs *vfs, const void *at, size_t len)
{
    (void)vfs;
    return vfs_system()->touch(vfs_system(), at, len);
}

static int faulty_rename(const struct vfs *vfs, const char *from,
                         const char *to)
{
    return fails(vfs, FAULTY_RENAME)
               ? -1
               : vfs_system()->rename(vfs_system(), from, to);
}

static int faulty_unlink(const struct vfs *vfs, const char *path)
{
    return fails(vfs, FAULTY_UNLINK) ? -1
                                     : vfs_system()->unlink(vfs_system(), path);
}

static int faulty_sync_dir(const struct vfs *vfs, const char *path)
{
    return fails(vfs, FAULTY_SYNC_DIR)
               ? -1
               : vfs_system()->sync_dir(vfs_system(), path);
}

static int faulty_make_dir(const struct vfs *vfs, const char *path, mode_t mode)
{
    return fails(vfs, FAULTY_MAKE_DIR)
               ? -1
               : vfs_system()->make_dir(vfs_system(), path, mode);
}

static int faulty_list(const struct vfs *vfs, const char *path,
                       void (*entry)(void *arg, const char *name), void *arg)
{
    return fails(vfs, FAULTY_LIST)
               ? -1
               : vfs_system()->list(vfs_system(), path, entry, arg);
}

static uint64_t faulty_free_bytes(const struct vfs *vfs, const char *path)
{
    return self(vfs)->no_space ? 0
                               : vfs_system()->free_bytes(vfs_system(), path);
}

void faulty_vfs_init(struct faulty_vfs *f)
{
    *f = (struct faulty_vfs) {
        .vfs = { .open = faulty_open,
                 .close = faulty_close,
                 .allocate = faulty_allocate,
                 .pwrite = faulty_pwrite,
                 .pwritev = faulty_pwritev,
                 .pread = faulty_pread,
                 .sync = faulty_sync,
                 .start_sync = faulty_start_sync,
                 .drop_cache = faulty_drop_cache,
                 .size = faulty_size,
                 .truncate = faulty_truncate,
                 .map = faulty_map,
                 .unmap = faulty_unmap,
                 .touch = faulty_touch,
                 .rename = faulty_rename,
                 .unlink = faulty_unlink,
                 .sync_dir = faulty_sync_dir,
                 .make_dir = faulty_make_dir,
                 .list = faulty_list,
                 .free_bytes = faulty_free_bytes },
    };
    f->vfs.context = f;
}

void faulty_vfs_arm(struct faulty_vfs *f, struct faulty_plan plan)
{
    f->plan = plan;
    f->count = 0;
    f->fired = 0;
}

void faulty_vfs_disarm(struct faulty_vfs *f)
{
    f->plan = (struct faulty_plan) { 0 };
}
