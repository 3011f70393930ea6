/* Opening a folder for reading alone. All file calls go through a table that
 * opens to read and refuses to change anything. */
#include "storage/offline/inspect_impl.h"

#include "storage/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { DIR_LEN_MAX = 3900 };

/* The format file; store.c writes it. */
enum { AT_MAGIC = 0, AT_VERSION = 8, AT_STORE = 16, AT_TIME = 24 };
static const uint64_t format_magic = UINT64_C(0x314d524654574447);

/* ---- files that are only read ---- */

static const struct inspect *inspect_of(const struct vfs *vfs)
{
    return (
        const struct inspect *)(const void *)((const char *)vfs
                                              - offsetof(struct inspect, vfs));
}

static int open_to_read(const struct vfs *vfs, const char *path, int flags,
                        mode_t mode)
{
    const struct vfs *base = inspect_of(vfs)->base;

    (void)flags;
    return base->open(base, path, O_RDONLY | O_CLOEXEC, mode);
}

static int close_file(const struct vfs *vfs, int fd)
{
    const struct vfs *base = inspect_of(vfs)->base;

    return base->close(base, fd);
}

static ssize_t read_file(const struct vfs *vfs, int fd, void *into, size_t len,
                         off_t at)
{
    const struct vfs *base = inspect_of(vfs)->base;

    return base->pread(base, fd, into, len, at);
}

static int drop_cache(const struct vfs *vfs, int fd, off_t at, off_t len)
{
    const struct vfs *base = inspect_of(vfs)->base;

    return base->drop_cache(base, fd, at, len);
}

static off_t size_of_file(const struct vfs *vfs, int fd)
{
    const struct vfs *base = inspect_of(vfs)->base;

    return base->size(base, fd);
}

static int list_folder(const struct vfs *vfs, const char *path,
                       void (*entry)(void *arg, const char *name), void *arg)
{
    const struct vfs *base = inspect_of(vfs)->base;

    return base->list(base, path, entry, arg);
}

static int refuse(void)
{
    errno = EROFS;
    return -1;
}

static int no_allocate(const struct vfs *vfs, int fd, off_t len)
{
    (void)vfs;
    (void)fd;
    (void)len;
    return refuse();
}

static ssize_t no_pwrite(const struct vfs *vfs, int fd, const void *from,
                         size_t len, off_t at)
{
    (void)vfs;
    (void)fd;
    (void)from;
    (void)len;
    (void)at;
    return refuse();
}

static ssize_t no_pwritev(const struct vfs *vfs, int fd,
                          const struct iovec *iov, int count, off_t at)
{
    (void)vfs;
    (void)fd;
    (void)iov;
    (void)count;
    (void)at;
    return refuse();
}

static int no_truncate(const struct vfs *vfs, int fd, off_t len)
{
    (void)vfs;
    (void)fd;
    (void)len;
    return refuse();
}

static int no_rename(const struct vfs *vfs, const char *from, const char *to)
{
    (void)vfs;
    (void)from;
    (void)to;
    return refuse();
}

static int no_unlink(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    (void)path;
    return refuse();
}

static int no_make_dir(const struct vfs *vfs, const char *path, mode_t mode)
{
    (void)vfs;
    (void)path;
    (void)mode;
    return refuse();
}

static int no_sync(const struct vfs *vfs, int fd)
{
    (void)vfs;
    (void)fd;
    return refuse();
}

static int no_sync_dir(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    (void)path;
    return refuse();
}

/* Nothing here maps files or asks for free space. */
static void make_read_only(struct inspect *inspect, const struct vfs *base)
{
    inspect->base = base;
    inspect->vfs = (struct vfs) {
        .open = open_to_read,
        .close = close_file,
        .pread = read_file,
        .drop_cache = drop_cache,
        .size = size_of_file,
        .list = list_folder,
        .allocate = no_allocate,
        .pwrite = no_pwrite,
        .pwritev = no_pwritev,
        .sync = no_sync,
        .truncate = no_truncate,
        .rename = no_rename,
        .unlink = no_unlink,
        .sync_dir = no_sync_dir,
        .make_dir = no_make_dir,
    };
}

/* ---- opening ---- */

static enum status decode_format(struct inspect *inspect, const uint8_t *block,
                                 const char *path, struct error *err)
{
    bool damaged;
    const uint8_t *fields = block_read(block, &damaged);
    uint32_t version = get_u32(block + AT_VERSION);

    /* A newer version may close its block in another way. */
    if (fields != NULL) {
        version = get_u32(fields + AT_VERSION);
    } else if (get_u64(block + AT_MAGIC) != format_magic
               || version >= UINT16_MAX) {
        version = 0;
    }
    if (version > STORE_FORMAT_VERSION) {
        return error_set(err, STATUS_NEWER, 0,
                         "%.300s: format %u, this build reads up to %u", path,
                         version, (unsigned)STORE_FORMAT_VERSION);
    }
    if (fields == NULL || get_u64(fields + AT_MAGIC) != format_magic) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "%.300s is damaged or not a store's", path);
    }
    inspect->format_damaged = damaged;
    inspect->store =
        (struct inspect_store) { version, get_u64(fields + AT_STORE),
                                 get_u64(fields + AT_TIME) };
    inspect->log.store_id = inspect->store.store_id;
    return STATUS_OK;
}

static enum status read_format(struct inspect *inspect, struct error *err)
{
    uint8_t block[BLOCK_LEN] = { 0 };
    char path[PATH_LEN_MAX];
    ssize_t have;
    int sys;
    int fd;

    snprintf(path, sizeof path, "%.3900s/format", inspect->dir);
    fd = io_open(&inspect->vfs, path, O_RDONLY);
    if (fd < 0) {
        sys = errno;
        return error_set(
            err, sys == ENOENT || sys == ENOTDIR ? STATUS_NOT_FOUND : STATUS_IO,
            sys, "open %.300s", path);
    }
    have = io_read(&inspect->vfs, fd, block, sizeof block, 0);
    sys = errno;
    inspect->vfs.close(&inspect->vfs, fd);
    if (have < 0) {
        return error_set(err, STATUS_IO, sys, "read %.300s", path);
    }
    return decode_format(inspect, block, path, err);
}

enum status inspect_open(struct inspect **out, const char *dir,
                         const struct vfs *vfs, struct error *err)
{
    struct inspect *inspect;
    enum status status;

    if (strlen(dir) > DIR_LEN_MAX) {
        return error_set(err, STATUS_INVALID, 0,
                         "the folder's name is longer "
                         "than %d bytes",
                         DIR_LEN_MAX);
    }
    inspect = calloc(1, sizeof *inspect);
    if (inspect == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "inspect");
    }
    make_read_only(inspect, vfs == NULL ? vfs_system() : vfs);
    snprintf(inspect->dir, sizeof inspect->dir, "%s", dir);
    inspect->log.vfs = &inspect->vfs;
    snprintf(inspect->log.dir, sizeof inspect->log.dir, "%.3900s/log", dir);
    status = read_format(inspect, err);
    if (status != STATUS_OK) {
        inspect_close(inspect);
        return status;
    }
    *out = inspect;
    return STATUS_OK;
}

void inspect_close(struct inspect *inspect)
{
    if (inspect == NULL) {
        return;
    }
    books_fini(&inspect->books);
    free(inspect);
}

const struct inspect_store *inspect_store(const struct inspect *inspect)
{
    return &inspect->store;
}
