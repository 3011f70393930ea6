#include "storage/offline/landing.h"

#include "storage/checksum.h"
#include "storage/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DIR_MODE = 0700 };

uint64_t landing_hash(const uint8_t *piece, size_t len, uint64_t before)
{
    return checksum_seeded(piece, len, before);
}

static void path_in(const struct landing *l, const char *name,
                    char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.3900s/%s", l->dir, name);
}

static enum status fail(const char *doing, const char *path, struct error *err)
{
    int sys = errno;

    return error_set(err, status_of_errno(sys), sys, "cannot %s %.300s", doing,
                     path);
}

/* ---- the folder ---- */

static enum status no_parent(const char *dir, struct error *err)
{
    size_t len = strlen(dir);

    while (len > 1 && dir[len - 1] == '/') {
        len--;
    }
    while (len > 1 && dir[len - 1] != '/') {
        len--;
    }
    while (len > 1 && dir[len - 1] == '/') {
        len--;
    }
    return error_set(
        err, status_of_errno(ENOENT), ENOENT,
        "the folder %.*s does not exist, in which %.200s was to be "
        "made",
        (int)(len > 200 ? 200 : len), dir, dir);
}

static void count_name(void *arg, const char *name)
{
    (void)name;
    ++*(size_t *)arg;
}

/* Names that begin with a dot are not listed; a file system's own folder does
 * not count either. */
static void count_foreign(void *arg, const char *name)
{
    if (strcmp(name, "lost+found") != 0) {
        count_name(arg, name);
    }
}

static enum status check_empty(struct landing *l, struct error *err)
{
    size_t count = 0;

    if (l->vfs->list(l->vfs, l->dir, count_foreign, &count) != 0) {
        return fail("list", l->dir, err);
    }
    if (count > 0) {
        return error_set(err, STATUS_EXISTS, 0,
                         "%.300s is there already and not empty", l->dir);
    }
    return STATUS_OK;
}

enum status landing_begin(struct landing *l, const struct vfs *vfs,
                          const char *dir, struct error *err)
{
    char log[PATH_LEN_MAX];

    *l = (struct landing) { .vfs = vfs, .fd = -1 };
    snprintf(l->dir, sizeof l->dir, "%.3900s", dir);
    l->piece = malloc(LANDING_PIECE_LEN);
    if (l->piece == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "%.300s", dir);
    }
    if (vfs->make_dir(vfs, l->dir, DIR_MODE) == 0) {
        l->made_dir = true;
    } else if (errno == ENOENT) {
        return no_parent(l->dir, err);
    } else if (errno != EEXIST) {
        return fail("make", l->dir, err);
    } else {
        enum status status = check_empty(l, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    path_in(l, "log", log);
    if (vfs->make_dir(vfs, log, DIR_MODE) != 0) {
        return fail("make", log, err);
    }
    l->made_log = true;
    return STATUS_OK;
}

enum status landing_keep(struct landing *l, struct error *err)
{
    char path[PATH_LEN_MAX];

    path_in(l, "log", path);
    if (io_sync_dir(l->vfs, path) != 0) {
        return fail("sync", path, err);
    }
    if (io_sync_dir(l->vfs, l->dir) != 0) {
        return fail("sync", l->dir, err);
    }
    path_in(l, "..", path);
    /* A parent that may not be read is no reason to fail. */
    (void)io_sync_dir(l->vfs, path);
    l->name_count = 0;
    l->made_dir = false;
    l->made_log = false;
    return STATUS_OK;
}

void landing_undo(struct landing *l)
{
    char path[PATH_LEN_MAX];

    CHECK(l->fd < 0 && l->name_count > 0);
    path_in(l, l->names[--l->name_count].text, path);
    (void)l->vfs->unlink(l->vfs, path);
}

/* Nobody but us has written there, so the folders are empty again. */
static void remove_all(struct landing *l)
{
    char path[PATH_LEN_MAX];

    while (l->name_count > 0) {
        landing_undo(l);
    }
    path_in(l, "log", path);
    if (l->made_log) {
        (void)rmdir(path);
    }
    if (l->made_dir) {
        (void)rmdir(l->dir);
    }
}

void landing_fini(struct landing *l)
{
    if (l->fd >= 0) {
        l->vfs->close(l->vfs, l->fd);
    }
    l->fd = -1;
    remove_all(l);
    free(l->names);
    free(l->piece);
    l->names = NULL;
    l->piece = NULL;
}

/* ---- one file ---- */

static enum status note_name(struct landing *l, const char *name,
                             struct error *err)
{
    if (l->name_count == l->name_capacity) {
        size_t capacity = l->name_capacity == 0 ? 16 : l->name_capacity * 2;
        void *names = realloc(l->names, capacity * sizeof *l->names);
        if (names == NULL) {
            return error_set(err, STATUS_NOMEM, 0, "%.300s", l->dir);
        }
        l->names = names;
        l->name_capacity = capacity;
    }
    snprintf(l->names[l->name_count].text, sizeof l->names->text, "%s", name);
    return STATUS_OK;
}

enum status landing_file(struct landing *l, const char *name, struct error *err)
{
    char path[PATH_LEN_MAX];
    enum status status = note_name(l, name, err);

    CHECK(l->fd < 0);
    if (status != STATUS_OK) {
        return status;
    }
    path_in(l, name, path);
    l->fd = io_open(l->vfs, path, O_RDWR | O_CREAT | O_EXCL);
    if (l->fd < 0) {
        return fail("make", path, err);
    }
    l->name_count++;
    l->piece_len = 0;
    l->len = 0;
    l->hash = 0;
    return STATUS_OK;
}

static enum status write_piece(struct landing *l, struct error *err)
{
    l->hash = landing_hash(l->piece, l->piece_len, l->hash);
    if (io_write(l->vfs, l->fd, l->piece, l->piece_len, (off_t)l->len) != 0) {
        return fail("write", l->dir, err);
    }
    l->len += l->piece_len;
    l->piece_len = 0;
    return STATUS_OK;
}

enum status landing_put(struct landing *l, struct slice bytes,
                        struct error *err)
{
    while (bytes.len > 0) {
        size_t room = LANDING_PIECE_LEN - l->piece_len;
        size_t len = bytes.len < room ? bytes.len : room;
        memcpy(l->piece + l->piece_len, bytes.at, len);
        l->piece_len += len;
        bytes = slice_of(bytes.at + len, bytes.len - len);
        if (l->piece_len == LANDING_PIECE_LEN) {
            enum status status = write_piece(l, err);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return STATUS_OK;
}

/* What was synced leaves the page cache: the broker beside us wants it more. */
enum status landing_end(struct landing *l, uint64_t *len, uint64_t *hash,
                        struct error *err)
{
    enum status status = l->piece_len > 0 ? write_piece(l, err) : STATUS_OK;

    if (status == STATUS_OK && io_sync(l->vfs, l->fd) != 0) {
        status = fail("sync", l->dir, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    (void)l->vfs->drop_cache(l->vfs, l->fd, 0, (off_t)l->len);
    l->vfs->close(l->vfs, l->fd);
    l->fd = -1;
    *len = l->len;
    *hash = l->hash;
    return STATUS_OK;
}
