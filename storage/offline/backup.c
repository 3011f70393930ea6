/* Making a backup.
 *
 * 1. A shared lock on store.hold keeps the broker from removing segments.
 * 2. The snapshot is opened first, and then the log is listed: what the log
 *    holds now reaches at least as far as the snapshot does.
 * 3. The last segment with a batch in it is where the copy ends. What a confirm
 *    was sent for stands there or before, because it was written before it was
 *    synced.
 * 4. Segments are read from front to back into memory of our own, a few pieces
 *    at a time; each batch is verified there and written from there. Behind the
 *    last batch nothing is copied.
 * 5. The log is listed again: when a broker has started after a crash
 * meanwhile, what it made is copied too.
 * 6. The format file comes last but one, so that no broker takes half a copy
 *    for a store, and `backup` last.
 *
 * A batch that is being written while we look may look torn: it is looked at
 * again before anybody calls it damaged, and it was not confirmed before. */
#include "storage/offline/backup_impl.h"

#include "storage/hold.h"
#include "storage/io.h"
#include "storage/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { PASSES_MAX = 10, SPACE_MARGIN = 1024 * 1024 };

/* Fields of a block at the head of a file; FORMAT.md has all of them. */
enum {
    AT_VERSION = 8,
    AT_FORMAT_STORE = 16,
    AT_SEGMENT_ID = 12,
    AT_SEGMENT_STORE = 16,
    AT_EPOCH = 24,
    AT_PREVIOUS_END = 48
};

static const uint64_t format_magic = UINT64_C(0x314d524654574447);
static const uint64_t segment_magic = UINT64_C(0x3147455354574447);

static void path_in(const struct backup *b, const char *name,
                    char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.3900s/%s", b->job->from, name);
}

void backup_name_of(uint32_t id, struct landing_name *name)
{
    snprintf(name->text, sizeof name->text, "log/%010u.seg", id);
}

enum status backup_fail(struct backup *b, const char *doing, const char *path)
{
    int sys = errno;

    return error_set(b->err, status_of_errno(sys), sys, "cannot %s %.300s",
                     doing, path);
}

enum status backup_go_on(struct backup *b, uint64_t by)
{
    b->done += by;
    if (b->job->progress == NULL
        || b->job->progress(b->job->arg, b->done, b->total)) {
        return STATUS_OK;
    }
    return error_set(b->err, STATUS_CLOSED, 0, "stopped");
}

static void tell(struct backup *b, const struct backup_damage *damage)
{
    b->out->damages++;
    b->out->damaged_bytes += damage->len;
    if (b->job->damage != NULL) {
        b->job->damage(b->job->arg, damage);
    }
}

void backup_tell(struct backup *b, uint32_t id, uint64_t len, const char *text)
{
    struct landing_name name;

    backup_name_of(id, &name);
    tell(b, &(struct backup_damage) {
                .file = name.text, .len = len, .text = text });
}

void backup_tell_damage(struct backup *b, const struct store_damage *damage)
{
    struct landing_name name;

    backup_name_of(damage->segment, &name);
    tell(b, &(struct backup_damage) { .file = name.text,
                                      .offset = damage->offset,
                                      .len = damage->len,
                                      .text = store_damage_word(damage->kind),
                                      .topic = damage->topic,
                                      .seq = damage->seq });
}

/* ---- is it a store? ---- */

static enum status newer(struct backup *b, const char *name, uint32_t version)
{
    return error_set(b->err, STATUS_NEWER, 0,
                     "%.300s/%s was written by a newer version: its format is "
                     "%u, this build reads up to %u",
                     b->job->from, name, version,
                     (unsigned)STORE_FORMAT_VERSION);
}

static enum status check_format(struct backup *b, const uint8_t *block)
{
    bool damaged;
    const uint8_t *fields = block_read(block, &damaged);
    uint32_t version = get_u32((fields != NULL ? fields : block) + AT_VERSION);

    /* A newer version may close its block in another way. */
    if (get_u64(fields != NULL ? fields : block) == format_magic
        && version > STORE_FORMAT_VERSION
        && (fields != NULL || version < UINT16_MAX)) {
        return newer(b, "format", version);
    }
    if (fields == NULL || get_u64(fields) != format_magic) {
        return error_set(b->err, STATUS_CORRUPT, 0,
                         "%.300s/format is damaged or not a store's",
                         b->job->from);
    }
    b->store_id = get_u64(fields + AT_FORMAT_STORE);
    b->out->store_id = b->store_id;
    b->out->format = version;
    return STATUS_OK;
}

static enum status read_format(struct backup *b, uint8_t block[BLOCK_LEN])
{
    char path[PATH_LEN_MAX];
    ssize_t have;
    int fd;

    path_in(b, "format", path);
    fd = io_open(b->vfs, path, O_RDONLY);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return error_set(
            b->err, STATUS_NOT_FOUND, 0,
            "there is no store in %.300s (it has no file `format`)",
            b->job->from);
    }
    if (fd < 0) {
        return backup_fail(b, "open", path);
    }
    have = io_read(b->vfs, fd, block, BLOCK_LEN, 0);
    if (have < 0) {
        enum status status = backup_fail(b, "read", path);
        b->vfs->close(b->vfs, fd);
        return status;
    }
    b->vfs->close(b->vfs, fd);
    memset(block + have, 0, (size_t)(BLOCK_LEN - have));
    return check_format(b, block);
}

static bool may_wait(void *arg)
{
    return backup_go_on(arg, 0) == STATUS_OK;
}

/* ---- which files there are ---- */

static bool segment_name(const char *name, uint32_t *id)
{
    struct landing_name same;
    uint64_t value = 0;

    for (int i = 0; i < 10; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(name[i] - '0');
    }
    if (value == 0 || value > SEGMENT_ID_MAX) {
        return false;
    }
    *id = (uint32_t)value;
    backup_name_of(*id, &same);
    return strcmp(same.text + sizeof "log/" - 1, name) == 0;
}

static void on_name(void *arg, const char *name)
{
    struct backup *b = arg;
    uint32_t id;

    if (!segment_name(name, &id) || b->list_status != STATUS_OK) {
        return;
    }
    if (b->source_count == b->source_capacity) {
        size_t capacity = b->source_capacity == 0 ? 16 : b->source_capacity * 2;
        void *sources = realloc(b->sources, capacity * sizeof *b->sources);
        if (sources == NULL) {
            b->list_status = STATUS_NOMEM;
            return;
        }
        b->sources = sources;
        b->source_capacity = capacity;
    }
    b->sources[b->source_count++] = (struct source) { .id = id };
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = ((const struct source *)a)->id;
    uint32_t y = ((const struct source *)b)->id;

    return (x > y) - (x < y);
}

static enum status went_away(struct backup *b, const char *path)
{
    return error_set(b->err, STATUS_AGAIN, 0,
                     "%.300s went away meanwhile: is a broker starting there? "
                     "Try again",
                     path);
}

/* A start removes segments without asking for the lock, and one that was
 * removed may be written over by the next. */
enum status backup_still_there(struct backup *b, const struct source *s, int fd)
{
    struct landing_name name;
    char path[PATH_LEN_MAX];
    struct stat opened;
    struct stat named;

    backup_name_of(s->id, &name);
    path_in(b, name.text, path);
    if (fstat(fd, &opened) != 0) {
        return backup_fail(b, "look at", path);
    }
    return stat(path, &named) == 0 && named.st_ino == opened.st_ino
                   && named.st_dev == opened.st_dev
               ? STATUS_OK
               : went_away(b, path);
}

enum status backup_open_source(struct backup *b, const struct source *s,
                               int *fd)
{
    struct landing_name name;
    char path[PATH_LEN_MAX];

    backup_name_of(s->id, &name);
    path_in(b, name.text, path);
    *fd = io_open(b->vfs, path, O_RDONLY);
    if (*fd < 0 && errno == ENOENT) {
        return went_away(b, path);
    }
    return *fd < 0 ? backup_fail(b, "open", path) : STATUS_OK;
}

/* Unreadable heads leave the epoch 0: a batch says it too. */
static enum status decode_head(struct backup *b, struct source *s,
                               const uint8_t *block)
{
    bool damaged;
    const uint8_t *fields = block_read(block, &damaged);
    struct landing_name name;

    backup_name_of(s->id, &name);
    if (fields == NULL) {
        return STATUS_OK;
    }
    if (get_u64(fields) == segment_magic
        && get_u32(fields + AT_VERSION) > STORE_FORMAT_VERSION) {
        return newer(b, name.text, get_u32(fields + AT_VERSION));
    }
    s->foreign = get_u64(fields) != segment_magic
                 || get_u32(fields + AT_SEGMENT_ID) != s->id
                 || get_u64(fields + AT_SEGMENT_STORE) != b->store_id;
    s->epoch = get_u64(fields + AT_EPOCH);
    s->previous_end = s->foreign ? 0 : get_u64(fields + AT_PREVIOUS_END);
    return STATUS_OK;
}

static enum status read_head(struct backup *b, struct source *s)
{
    uint8_t block[BLOCK_LEN] = { 0 };
    enum status status;
    off_t len;
    int fd;

    status = backup_open_source(b, s, &fd);
    if (status != STATUS_OK) {
        return status;
    }
    len = b->vfs->size(b->vfs, fd);
    if (len < 0 || io_read(b->vfs, fd, block, sizeof block, 0) < 0) {
        status = backup_fail(b, "read the log in", b->job->from);
    }
    b->vfs->close(b->vfs, fd);
    if (status != STATUS_OK) {
        return status;
    }
    s->len = (uint64_t)len > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX : (uint64_t)len;
    return decode_head(b, s, block);
}

/* A segment that a recovery made says where the one before ends: what stands
 * behind that is in both, or is nobody's. */
static void end_where_told(struct backup *b)
{
    for (size_t i = 0; i < b->source_count; i++) {
        uint64_t place = b->sources[i].previous_end;
        size_t k = i;
        while (k > 0 && b->sources[k].id > place_segment(place)) {
            k--;
        }
        if (place != 0 && b->sources[k].id == place_segment(place)
            && b->sources[k].len > place_offset(place)) {
            b->sources[k].len = place_offset(place);
        }
    }
}

/* Files that are not ours stay where they are; so do segments that the snapshot
 * makes needless: the next start would remove them. */
static void leave_out(struct backup *b)
{
    size_t kept = 0;

    for (size_t i = 0; i < b->source_count; i++) {
        const struct source *s = &b->sources[i];
        if (s->foreign && s->id > b->listed) {
            backup_tell(b, s->id, s->len,
                        "not a segment of this store; left out");
        }
        if (!s->foreign && !seqset_has(&b->gone, s->id)) {
            b->sources[kept++] = *s;
        }
    }
    b->listed = b->source_count > 0 ? b->sources[b->source_count - 1].id : 0;
    b->source_count = kept;
}

/* Those from `id` to before `end` that are not said to be gone are lost. */
static void tell_missing_between(struct backup *b, uint32_t id, uint32_t end)
{
    for (; id < end; id++) {
        if (!seqset_has(&b->gone, id)) {
            backup_tell(b, id, 0, "it is missing");
        }
    }
}

/* Ids rise by one from 1 on, and the log reaches as far as the snapshot. */
static void tell_missing(struct backup *b)
{
    uint32_t id = 1;

    for (size_t i = 0; i < b->source_count && i <= b->last; i++) {
        tell_missing_between(b, id, b->sources[i].id);
        id = b->sources[i].id + 1;
    }
    tell_missing_between(b, id, place_segment(b->place) + 1);
}

static enum status list_log(struct backup *b)
{
    enum status status = STATUS_OK;
    char path[PATH_LEN_MAX];

    b->source_count = 0;
    path_in(b, "log", path);
    if (b->vfs->list(b->vfs, path, on_name, b) != 0 && errno != ENOENT) {
        return backup_fail(b, "list", path);
    }
    if (b->list_status != STATUS_OK) {
        return error_set(b->err, b->list_status, 0, "list %.300s", path);
    }
    if (b->source_count > 0) {
        qsort(b->sources, b->source_count, sizeof *b->sources, by_id);
    }
    for (size_t i = 0; i < b->source_count && status == STATUS_OK; i++) {
        status = read_head(b, &b->sources[i]);
    }
    if (status == STATUS_OK) {
        end_where_told(b);
        leave_out(b);
    }
    return status;
}

enum status backup_end_file(struct backup *b, const char *name)
{
    struct manifest_file file = { 0 };
    enum status status =
        landing_end(&b->landing, &file.len, &file.hash, b->err);

    snprintf(file.name.text, sizeof file.name.text, "%s", name);
    if (status == STATUS_OK && manifest_add(b->out, &file) != STATUS_OK) {
        status = error_set(b->err, STATUS_NOMEM, 0, "backup");
    }
    return status;
}

/* The last segment that has a batch; the copy of the log ends in it. When
 * nothing was ever written it has the first segment's head, so that it can be
 * told from a log that was lost. */
static enum status find_last(struct backup *b)
{
    b->last = 0;
    for (size_t i = b->source_count; i-- > 0;) {
        bool any;
        enum status status = backup_any_batch(b, &b->sources[i], &any);
        if (status != STATUS_OK || any) {
            b->last = i;
            return status;
        }
    }
    return STATUS_OK;
}

static enum status copy_listed(struct backup *b)
{
    enum status status = STATUS_OK;

    for (size_t i = 0;
         i < b->source_count && i <= b->last && status == STATUS_OK; i++) {
        if (b->sources[i].id > b->copied) {
            b->before = b->copied;
            b->told = *b->out;
            b->broken = b->chain;
            status = backup_segment(b, i);
            b->copied = b->sources[i].id;
        }
    }
    backup_reading_close(b);
    return status;
}

/* A recovery made a segment behind those that were copied, and wrote to it. */
static bool recovered_behind(const struct backup *b)
{
    for (size_t i = 0; i < b->source_count && i <= b->last; i++) {
        if (b->sources[i].id > b->copied && b->sources[i].previous_end != 0) {
            return true;
        }
    }
    return false;
}

/* As if the last segment had not been copied. */
static void undo_last(struct backup *b)
{
    struct manifest told = b->told;

    if (b->copied == 0) {
        return;
    }
    landing_undo(&b->landing);
    told.files = b->out->files;
    told.file_count = b->out->file_count - 1;
    told.file_capacity = b->out->file_capacity;
    *b->out = told;
    b->chain = b->broken;
    b->copied = b->before;
}

/* A segment that is sealed has another one behind it, since before it was
 * sealed. The head of that is copied too: without it the copy would look like a
 * log that lost its end. True: it is to be copied now. */
static bool follow_seal(struct backup *b)
{
    size_t next = 0;

    if (!b->sealed) {
        return false;
    }
    while (next < b->source_count && b->sources[next].id <= b->copied) {
        next++;
    }
    if (next == b->source_count) {
        backup_tell(b, b->copied + 1, 0, "it is missing");
        return false;
    }
    if (b->sources[next].len > SEGMENT_BEGIN) {
        b->sources[next].len = SEGMENT_BEGIN;
    }
    b->last = next;
    return true;
}

/* When a broker starts after a crash meanwhile, it writes the end of the last
 * segment into a new one, gives that its name, and then cuts the old one. The
 * old one was copied either before all of it was written, or after it was cut:
 * it is copied again, and the new one too. */
static enum status copy_log(struct backup *b)
{
    for (int i = 0; i < PASSES_MAX; i++) {
        enum status status = copy_listed(b);
        if (status == STATUS_OK) {
            status = list_log(b);
        }
        if (status == STATUS_OK) {
            status = find_last(b);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (recovered_behind(b)) {
            undo_last(b);
        } else if (!follow_seal(b)) {
            return STATUS_OK;
        }
    }
    return error_set(b->err, STATUS_AGAIN, 0,
                     "%.300s: brokers keep starting there. Try again",
                     b->job->from);
}

/* The last segment is mostly room to grow, so it does not count. */
static enum status check_space(struct backup *b)
{
    uint64_t free_bytes = b->vfs->free_bytes(b->vfs, b->landing.dir);
    uint64_t need = SPACE_MARGIN;

    for (size_t i = 0; i < b->source_count && i <= b->last; i++) {
        b->total += b->sources[i].len;
        need += i < b->last ? b->sources[i].len : 0;
    }
    if (free_bytes < need) {
        return error_set(b->err, STATUS_NO_SPACE, 0,
                         "%.300s: %" PRIu64 " MiB are needed, %" PRIu64
                         " MiB are free",
                         b->landing.dir, need >> 20, free_bytes >> 20);
    }
    return STATUS_OK;
}

/* ---- other files ---- */

static enum status copy_open_file(struct backup *b, int fd, const char *name)
{
    uint8_t *piece = malloc(BACKUP_READ_LEN);
    enum status status = landing_file(&b->landing, name, b->err);
    uint64_t at = 0;
    ssize_t have = 1;

    if (piece == NULL && status == STATUS_OK) {
        status = error_set(b->err, STATUS_NOMEM, 0, "backup");
    }
    while (status == STATUS_OK && have > 0) {
        have = io_read(b->vfs, fd, piece, BACKUP_READ_LEN, (off_t)at);
        if (have < 0) {
            status = backup_fail(b, "read", name);
            break;
        }
        at += (uint64_t)have;
        status =
            landing_put(&b->landing, slice_of(piece, (size_t)have), b->err);
    }
    free(piece);
    return status == STATUS_OK ? backup_end_file(b, name) : status;
}

static enum status skip_value(void *arg, enum keydir_table table,
                              struct slice key, struct slice value)
{
    (void)arg;
    (void)table;
    (void)key;
    (void)value;
    return STATUS_OK;
}

/* The copy is what is verified, because the one it was made of may have been
 * replaced meanwhile. */
static enum status copy_snapshot(struct backup *b, int fd)
{
    const struct snapshot_visitor visitor = { skip_value, NULL };
    struct snapshot_head head;
    uint64_t damaged = 0;
    enum status status = copy_open_file(b, fd, "snapshot");

    if (status == STATUS_OK) {
        status = snapshot_read(b->vfs, b->job->to, b->store_id, &visitor, &head,
                               &b->gone, &damaged, b->err);
    }
    if (status == STATUS_NEWER) {
        return error_prefix(b->err, status,
                            "%.300s was written by a newer "
                            "version",
                            b->job->from);
    }
    if (status == STATUS_CORRUPT) {
        tell(b, &(struct backup_damage) { .file = "snapshot",
                                          .text = "its head is damaged" });
        return STATUS_OK;
    }
    if (status == STATUS_OK && damaged > 0) {
        tell(b, &(struct backup_damage) {
                    .file = "snapshot", .text = "entries of it are damaged" });
    }
    b->place = status == STATUS_OK ? head.place : 0;
    return status;
}

/* *fd is -1 when there is none. */
static enum status open_if_there(struct backup *b, const char *name, int *fd)
{
    char path[PATH_LEN_MAX];

    path_in(b, name, path);
    *fd = io_open(b->vfs, path, O_RDONLY);
    return *fd < 0 && errno != ENOENT ? backup_fail(b, "open", path)
                                      : STATUS_OK;
}

static enum status copy_also(struct backup *b)
{
    enum status status = STATUS_OK;

    for (const char *const *name = b->job->also;
         name != NULL && *name != NULL && status == STATUS_OK; name++) {
        int fd;
        status = open_if_there(b, *name, &fd);
        if (status == STATUS_OK && fd >= 0) {
            status = copy_open_file(b, fd, *name);
            b->vfs->close(b->vfs, fd);
        }
    }
    return status;
}

static enum status write_block(struct backup *b, const uint8_t *block)
{
    enum status status = landing_file(&b->landing, "format", b->err);

    if (status == STATUS_OK) {
        status = landing_put(&b->landing, slice_of(block, BLOCK_LEN), b->err);
    }
    return status == STATUS_OK ? backup_end_file(b, "format") : status;
}

static enum status write_manifest(struct backup *b)
{
    struct bytes text = { 0 };
    uint64_t len;
    uint64_t hash;
    enum status status = landing_file(&b->landing, MANIFEST_NAME, b->err);

    if (status == STATUS_OK && manifest_write(&text, b->out) != STATUS_OK) {
        status = error_set(b->err, STATUS_NOMEM, 0, "backup");
    }
    if (status == STATUS_OK) {
        status =
            landing_put(&b->landing,
                        slice_of(bytes_begin(&text), bytes_len(&text)), b->err);
    }
    bytes_fini(&text);
    return status == STATUS_OK ? landing_end(&b->landing, &len, &hash, b->err)
                               : status;
}

/* ---- the whole ---- */

static enum status copy_all(struct backup *b, const uint8_t *block,
                            int snapshot)
{
    enum status status = landing_begin(&b->landing, b->vfs, b->job->to, b->err);

    if (status == STATUS_OK && snapshot >= 0) {
        status = copy_snapshot(b, snapshot);
    }
    if (status == STATUS_OK) {
        status = list_log(b);
    }
    if (status == STATUS_OK && b->source_count == 0) {
        status = error_set(b->err, STATUS_CORRUPT, 0,
                           "the log is gone: no segment of this store is in "
                           "%.300s/log; nothing was backed up",
                           b->job->from);
    }
    if (status == STATUS_OK) {
        status = find_last(b);
    }
    if (status == STATUS_OK) {
        status = check_space(b);
    }
    if (status == STATUS_OK) {
        tell_missing(b);
        status = copy_log(b);
    }
    if (status == STATUS_OK) {
        status = copy_also(b);
    }
    if (status == STATUS_OK) {
        status = write_block(b, block);
    }
    if (status == STATUS_OK) {
        status = write_manifest(b);
    }
    return status == STATUS_OK ? landing_keep(&b->landing, b->err) : status;
}

/* With the format known and the lock held. */
static enum status backup_held(struct backup *b, const uint8_t *block)
{
    int snapshot;
    enum status status = open_if_there(b, "snapshot", &snapshot);

    if (status != STATUS_OK) {
        return status;
    }
    status = copy_all(b, block, snapshot);
    if (snapshot >= 0) {
        b->vfs->close(b->vfs, snapshot);
    }
    return status;
}

enum status backup_make(const struct backup_job *job, struct manifest *out,
                        struct error *err)
{
    struct backup b = { .job = job,
                        .vfs = job->vfs == NULL ? vfs_system() : job->vfs,
                        .out = out,
                        .err = err,
                        .landing = { .fd = -1 },
                        .reading = { .fd = -1 } };
    uint8_t block[BLOCK_LEN];
    enum status status;
    int hold = -1;

    *out = (struct manifest) { .made_us = job->now_us };
    b.landing.vfs = b.vfs;
    status = read_format(&b, block);
    if (status == STATUS_OK) {
        status = hold_take(&hold, b.vfs, job->from, may_wait, &b, err);
    }
    if (status == STATUS_OK) {
        status = backup_held(&b, block);
    }
    backup_reading_close(&b);
    landing_fini(&b.landing);
    free(b.sources);
    seqset_fini(&b.gone);
    if (hold >= 0) {
        b.vfs->close(b.vfs, hold);
    }
    if (status != STATUS_OK) {
        manifest_fini(out);
    }
    return status;
}
