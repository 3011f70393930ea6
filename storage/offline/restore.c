/* Reading a backup, and the way back: each file is checked while it is copied,
 * the format file comes last, so that no broker takes half a copy for a store. */
#include "storage/offline/backup.h"

#include "storage/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct restore {
    const struct backup_job *job;
    const struct vfs *vfs;
    const struct manifest *manifest;
    struct error *err;
    bool writing; /* else only checked */
    struct landing landing;
    uint8_t *piece;
    uint64_t damages;
    uint64_t done;
    uint64_t total;
};

static enum status fail(const char *doing, const char *path, struct error *err)
{
    int sys = errno;

    return error_set(err, status_of_errno(sys), sys, "cannot %s %.300s", doing,
                     path);
}

/* ---- the manifest ---- */

static enum status read_text(const struct vfs *vfs, int fd, const char *path,
                             struct bytes *text, struct error *err)
{
    off_t len = vfs->size(vfs, fd);
    ssize_t have;

    if (len < 0) {
        return fail("read", path, err);
    }
    if (len > MANIFEST_LEN_MAX) {
        return error_set(err, STATUS_CORRUPT, 0, "%.300s is no backup's", path);
    }
    if (bytes_reserve(text, (size_t)len, MANIFEST_LEN_MAX) != STATUS_OK) {
        return error_set(err, STATUS_NOMEM, 0, "%.300s", path);
    }
    have = io_read(vfs, fd, bytes_end(text), (size_t)len, 0);
    if (have < 0) {
        return fail("read", path, err);
    }
    bytes_filled(text, (size_t)have);
    return STATUS_OK;
}

static enum status open_manifest(const struct vfs *vfs, const char *dir,
                                 const char *path, int *fd, struct error *err)
{
    *fd = io_open(vfs, path, O_RDONLY);
    if (*fd >= 0) {
        return STATUS_OK;
    }
    if (errno == ENOENT || errno == ENOTDIR) {
        return error_set(err, STATUS_NOT_FOUND, 0,
                         "%.300s is no backup, or not a whole one (it has no "
                         "file `" MANIFEST_NAME "`)",
                         dir);
    }
    return fail("open", path, err);
}

enum status backup_read(const char *dir, const struct vfs *vfs,
                        struct manifest *out, struct error *err)
{
    struct bytes text = { 0 };
    char path[PATH_LEN_MAX];
    enum status status;
    int fd;

    vfs = vfs == NULL ? vfs_system() : vfs;
    *out = (struct manifest) { 0 };
    snprintf(path, sizeof path, "%.3900s/%s", dir, MANIFEST_NAME);
    status = open_manifest(vfs, dir, path, &fd, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = read_text(vfs, fd, path, &text, err);
    vfs->close(vfs, fd);
    if (status == STATUS_OK) {
        status =
            manifest_read(slice_of(bytes_begin(&text), bytes_len(&text)), out);
        if (status == STATUS_CORRUPT) {
            error_set(err, status, 0,
                      "%.300s is damaged: its content does not fit its sum",
                      path);
        } else if (status == STATUS_NEWER) {
            error_set(err, status, 0,
                      "%.300s was written by a newer version of godwit; "
                      "nothing was changed",
                      path);
        } else if (status != STATUS_OK) {
            error_set(err, status, 0, "%.300s", path);
        }
    }
    bytes_fini(&text);
    return status;
}

/* ---- copying ---- */

static void tell(struct restore *r, const struct manifest_file *file,
                 uint64_t len, const char *text)
{
    struct backup_damage damage = { .file = file->name.text,
                                    .len = len,
                                    .text = text };

    r->damages++;
    if (r->job->damage != NULL) {
        r->job->damage(r->job->arg, &damage);
    }
}

static enum status go_on(struct restore *r, uint64_t by)
{
    r->done += by;
    if (r->job->progress == NULL
        || r->job->progress(r->job->arg, r->done, r->total)) {
        return STATUS_OK;
    }
    return error_set(r->err, STATUS_CLOSED, 0, "stopped");
}

static enum status write_piece(struct restore *r, size_t len)
{
    return r->writing
               ? landing_put(&r->landing, slice_of(r->piece, len), r->err)
               : STATUS_OK;
}

/* Read all of it; the pieces are those of landing_hash(). */
static enum status copy_content(struct restore *r, int fd, const char *path,
                                struct manifest_file *found)
{
    enum status status = STATUS_OK;
    ssize_t have = 1;

    while (status == STATUS_OK && have > 0) {
        have =
            io_read(r->vfs, fd, r->piece, LANDING_PIECE_LEN, (off_t)found->len);
        if (have < 0) {
            return fail("read", path, r->err);
        }
        if (have > 0) {
            found->hash = landing_hash(r->piece, (size_t)have, found->hash);
            found->len += (uint64_t)have;
            status = write_piece(r, (size_t)have);
        }
        if (status == STATUS_OK) {
            status = go_on(r, (uint64_t)have);
        }
    }
    return status;
}

static enum status copy_open_file(struct restore *r, int fd, const char *path,
                                  struct manifest_file *found)
{
    uint64_t hash;
    uint64_t len;
    enum status status = STATUS_OK;

    if (r->writing) {
        status = landing_file(&r->landing, found->name.text, r->err);
    }
    if (status == STATUS_OK) {
        status = copy_content(r, fd, path, found);
    }
    if (status == STATUS_OK && r->writing) {
        status = landing_end(&r->landing, &len, &hash, r->err);
    }
    return status;
}

static enum status copy_file(struct restore *r,
                             const struct manifest_file *file)
{
    struct manifest_file found = { .name = file->name };
    char path[PATH_LEN_MAX];
    enum status status;
    int fd;

    snprintf(path, sizeof path, "%.3900s/%s", r->job->from, file->name.text);
    fd = io_open(r->vfs, path, O_RDONLY);
    if (fd < 0 && errno == ENOENT) {
        tell(r, file, file->len, "it is missing");
        return STATUS_OK;
    }
    if (fd < 0) {
        return fail("open", path, r->err);
    }
    status = copy_open_file(r, fd, path, &found);
    r->vfs->close(r->vfs, fd);
    if (status == STATUS_OK && found.len != file->len) {
        tell(r, file, found.len, "its length is not what it was");
    } else if (status == STATUS_OK && found.hash != file->hash) {
        tell(r, file, found.len, "its content is not what it was");
    }
    return status;
}

static enum status check_damages(struct restore *r)
{
    if (r->damages == 0 || r->job->despite_damage) {
        return STATUS_OK;
    }
    return error_set(r->err, STATUS_CORRUPT, 0,
                     "%.300s is damaged: %" PRIu64 " of %zu files; nothing was "
                     "restored",
                     r->job->from, r->damages, r->manifest->file_count);
}

/* The format file is the one that makes it a store. */
static enum status copy_files(struct restore *r)
{
    const struct manifest *m = r->manifest;
    const struct manifest_file *format = NULL;
    enum status status = STATUS_OK;

    for (size_t i = 0; i < m->file_count; i++) {
        r->total += m->files[i].len;
    }
    for (size_t i = 0; i < m->file_count && status == STATUS_OK; i++) {
        if (strcmp(m->files[i].name.text, "format") == 0) {
            format = &m->files[i];
        } else {
            status = copy_file(r, &m->files[i]);
        }
    }
    if (status == STATUS_OK && format != NULL) {
        status = copy_file(r, format);
    }
    return status;
}

static enum status check_space(struct restore *r)
{
    uint64_t free_bytes = r->vfs->free_bytes(r->vfs, r->landing.dir);
    uint64_t need = 0;

    for (size_t i = 0; i < r->manifest->file_count; i++) {
        need += r->manifest->files[i].len;
    }
    if (free_bytes >= need) {
        return STATUS_OK;
    }
    return error_set(r->err, STATUS_NO_SPACE, 0,
                     "%.300s: %" PRIu64 " MiB are needed, %" PRIu64
                     " MiB are free",
                     r->landing.dir, need >> 20, free_bytes >> 20);
}

/* A broker that starts on a folder without a segment makes the first one, as
 * in a new store. */
static enum status check_log(const struct restore *r)
{
    for (size_t i = 0; i < r->manifest->file_count; i++) {
        if (memcmp(r->manifest->files[i].name.text, "log/", 4) == 0) {
            return STATUS_OK;
        }
    }
    return error_set(
        r->err, STATUS_CORRUPT, 0,
        "%.300s holds no segment of a log: what it was made of had "
        "lost it; nothing was restored",
        r->job->from);
}

static enum status restore_all(struct restore *r)
{
    enum status status = landing_begin(&r->landing, r->vfs, r->job->to, r->err);

    if (status == STATUS_OK) {
        status = check_space(r);
    }
    if (status == STATUS_OK) {
        status = copy_files(r);
    }
    if (status == STATUS_OK) {
        status = check_damages(r);
    }
    return status == STATUS_OK ? landing_keep(&r->landing, r->err) : status;
}

static enum status begin(struct restore *r, const struct backup_job *job,
                         struct manifest *out, struct error *err)
{
    const struct vfs *vfs = job->vfs == NULL ? vfs_system() : job->vfs;
    enum status status = backup_read(job->from, vfs, out, err);

    *r = (struct restore) { .job = job,
                            .vfs = vfs,
                            .manifest = out,
                            .err = err,
                            .landing = { .vfs = vfs, .fd = -1 } };
    if (status != STATUS_OK) {
        return status;
    }
    if (out->format > STORE_FORMAT_VERSION) {
        return error_set(err, STATUS_NEWER, 0,
                         "%.300s is the backup of a store of format %" PRIu64
                         ", this build reads up to %u; nothing was changed",
                         job->from, out->format,
                         (unsigned)STORE_FORMAT_VERSION);
    }
    r->piece = malloc(LANDING_PIECE_LEN);
    return r->piece != NULL ? STATUS_OK
                            : error_set(err, STATUS_NOMEM, 0, "restore");
}

enum status backup_check(const struct backup_job *job, struct manifest *out,
                         uint64_t *damages, struct error *err)
{
    struct restore r;
    enum status status = begin(&r, job, out, err);

    if (status == STATUS_OK) {
        status = copy_files(&r);
    }
    if (status == STATUS_OK) {
        *damages = r.damages;
    }
    free(r.piece);
    return status;
}

enum status backup_restore(const struct backup_job *job, struct manifest *out,
                           struct error *err)
{
    struct restore r;
    enum status status = begin(&r, job, out, err);

    r.writing = true;
    if (status == STATUS_OK) {
        status = check_log(&r);
    }
    if (status == STATUS_OK) {
        status = restore_all(&r);
    }
    landing_fini(&r.landing);
    free(r.piece);
    return status;
}
