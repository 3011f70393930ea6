/* A mark beside the keydir that says: make it anew at the next start. It is
 * there while a keydir is opened and looked through, because damaged pages can
 * kill the process in LMDB; and for good once it gave a value that does not
 * fit. A start that was killed for other reasons leaves it too, so its length
 * counts: one byte is one start that did not come to its end, and forgiven. */
#include "storage/internal.h"

#include "storage/io.h"

#include <fcntl.h>
#include <stdio.h>

static void path_of(const struct store *store, char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.3900s/keydir.doubt", store->dir);
}

enum { FORGIVEN = 1 };

static int open_mark(struct store *store, int flags)
{
    char path[PATH_LEN_MAX];

    path_of(store, path);
    return io_open(store->vfs, path, flags);
}

/* Have it `len` long at least, or longer by one. Without the mark the keydir is
 * as good as one can be without it. */
static void make_longer(struct store *store, off_t len, bool by_one)
{
    static const uint8_t bytes[FORGIVEN + 1] = { '!', '!' };
    int fd = open_mark(store, O_RDWR | O_CREAT);
    off_t have;

    if (fd < 0) {
        return;
    }
    have = store->vfs->size(store->vfs, fd);
    if (have >= 0 && have < len) {
        (void)!io_write(store->vfs, fd, bytes, (size_t)len, 0);
        (void)!io_sync(store->vfs, fd);
    } else if (have >= 0 && by_one && have <= FORGIVEN) {
        (void)!io_write(store->vfs, fd, bytes, 1, have);
    }
    store->vfs->close(store->vfs, fd);
}

/* An empty one is from somewhere else, or cut off as it was made. */
bool doubt_found(struct store *store)
{
    int fd = open_mark(store, O_RDONLY);
    off_t len;

    if (fd < 0) {
        return false;
    }
    len = store->vfs->size(store->vfs, fd);
    store->vfs->close(store->vfs, fd);
    return len != FORGIVEN;
}

void doubt_begin(struct store *store)
{
    make_longer(store, 1, true);
}

void doubt_set(struct store *store)
{
    make_longer(store, 1, false);
}

void doubt_insist(struct store *store)
{
    make_longer(store, FORGIVEN + 1, false);
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
        doubt_insist(store);
    }
}
