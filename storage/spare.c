/* A file that does nothing but hold disk space. The segments have theirs ahead
 * of time, the keydir takes it commit by commit: when the disk is full this
 * file goes, so that acks can still be noted until somebody makes room. */
#include "storage/internal.h"

#include "storage/io.h"

#include <fcntl.h>
#include <stdio.h>

static void path_of(const struct store *store, char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.3900s/spare", store->dir);
}

void spare_make(struct store *store)
{
    const struct vfs *vfs = store->vfs;
    char path[PATH_LEN_MAX];
    int fd;

    if (store->spare_kept
        || vfs->free_bytes(vfs, store->dir) < SPARE_FREE_LEN_MIN) {
        return;
    }
    path_of(store, path);
    fd = io_open(vfs, path, O_RDWR | O_CREAT);
    if (fd < 0) {
        return;
    }
    store->spare_kept = io_allocate(vfs, fd, SPARE_LEN) == 0;
    vfs->close(vfs, fd);
    if (!store->spare_kept) {
        (void)vfs->unlink(vfs, path);
    } else if (store->keeper.pending_len == 0) {
        atomic_store_explicit(&store->keydir_low, false, memory_order_relaxed);
    }
}

bool spare_release(struct store *store)
{
    char path[PATH_LEN_MAX];

    store->spare_kept = false;
    path_of(store, path);
    return store->vfs->unlink(store->vfs, path) == 0;
}
