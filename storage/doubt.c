/* A mark beside the keydir that says: make it anew at the next start. It is
 * there while a keydir is opened and looked through, because damaged pages can
 * kill the process in LMDB; and for good once it gave a value that does not
 * fit. */
#include "storage/internal.h"

#include "storage/io.h"

#include <fcntl.h>
#include <stdio.h>

static void path_of(const struct store *store, char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.3900s/keydir.doubt", store->dir);
}

static bool open_mark(struct store *store, int flags)
{
    char path[PATH_LEN_MAX];
    int fd;

    path_of(store, path);
    fd = io_open(store->vfs, path, flags);
    if (fd >= 0) {
        store->vfs->close(store->vfs, fd);
    }
    return fd >= 0;
}

bool doubt_found(struct store *store)
{
    return open_mark(store, O_RDONLY);
}

/* Without the mark it is as good as a keydir can be without it. */
void doubt_set(struct store *store)
{
    (void)open_mark(store, O_WRONLY | O_CREAT);
}

void doubt_clear(struct store *store)
{
    char path[PATH_LEN_MAX];

    path_of(store, path);
    (void)store->vfs->unlink(store->vfs, path);
}

void store_doubt(struct store *store)
{
    if (!atomic_exchange(&store->keydir_doubtful, true)) {
        doubt_set(store);
    }
}
