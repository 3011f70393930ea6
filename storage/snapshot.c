#include "storage/snapshot.h"

#include "storage/block.h"
#include "storage/checksum.h"
#include "storage/io.h"
#include "storage/record.h"
#include "storage/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

/* Where each field of the head stands, and of an entry. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_STORE = 16,
    AT_PLACE = 24,
    AT_NUMBER = 32,
    AT_HASH = 40,
    AT_LEN = 48,
    AT_ALL = 56, /* the entries' hashes, folded */
    AT_COUNTS = 64,

    ENTRY_AT_HASH = 0,
    ENTRY_AT_KIND = 8,
    ENTRY_AT_KEY_LEN = 12,
    ENTRY_AT_VALUE_LEN = 16,
    ENTRY_HEAD_LEN = 24
};

enum {
    SNAPSHOT_VERSION = 2,
    ENTRY_ALIGN = 8,
    KEY_LEN_MAX_HERE = 16,
    GONE_RANGES_MAX = 1024, /* in one entry */
    RANGE_LEN = 16,
    CHUNK_LEN = 256 * 1024
};

static const uint64_t snapshot_magic = UINT64_C(0x31504e5354574447);

static const enum keydir_table tables[SNAPSHOT_KINDS] = {
    [SNAPSHOT_FACT] = FACTS,        [SNAPSHOT_TOPIC] = TOPICS,
    [SNAPSHOT_LANE] = LANES,        [SNAPSHOT_PRODUCER] = PRODUCERS,
    [SNAPSHOT_HISTORY] = HISTORIES, [SNAPSHOT_ID] = IDS,
};

static void path_of(const char *dir, const char *name, char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.3900s/%s", dir, name);
}

static uint64_t entry_size(uint64_t key_len, uint64_t value_len)
{
    return (ENTRY_HEAD_LEN + key_len + value_len + ENTRY_ALIGN - 1)
           / ENTRY_ALIGN * ENTRY_ALIGN;
}

/* ---- writing ---- */

struct snapshot_writer {
    const struct vfs *vfs;
    char dir[PATH_LEN_MAX];
    int fd;
    bool done;
    struct keydir_walk *walk;
    struct snapshot_head head;
    struct seqset gone;
    enum snapshot_kind kind; /* being written */
    uint64_t all;
    struct bytes buffer; /* not written yet: from `written` on */
    uint64_t written;
};

static enum status write_failed(const struct snapshot_writer *w,
                                struct error *err, const char *doing)
{
    int sys = errno;

    return error_set(err, status_of_errno(sys), sys, "snapshot: %s in %.200s",
                     doing, w->dir);
}

enum status snapshot_begin(struct snapshot_writer **out, const struct vfs *vfs,
                           const char *dir, struct keydir *keydir,
                           const struct seqset *gone, struct error *err)
{
    struct snapshot_writer *w = calloc(1, sizeof *w);
    struct keydir_meta meta;
    char path[PATH_LEN_MAX];
    enum status status = STATUS_OK;

    if (w == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "snapshot");
    }
    w->vfs = vfs;
    w->fd = -1;
    w->kind = SNAPSHOT_GONE;
    w->written = BLOCK_LEN;
    snprintf(w->dir, sizeof w->dir, "%s", dir);
    for (size_t i = 0; i < seqset_range_count(gone) && status == STATUS_OK;
         i++) {
        status = seqset_add(&w->gone, seqset_ranges(gone)[i].first,
                            seqset_ranges(gone)[i].last, NULL);
    }
    if (status == STATUS_OK) {
        status = keydir_walk_open(&w->walk, keydir, &meta);
    }
    if (status != STATUS_OK) {
        snapshot_end(w);
        return error_set(err, status, 0, "snapshot: keydir");
    }
    w->head = (struct snapshot_head) { .store_id = meta.store_id,
                                       .place = meta.place,
                                       .number = meta.number,
                                       .hash = meta.hash };
    path_of(dir, "snapshot.tmp", path);
    w->fd = io_open(vfs, path, O_RDWR | O_CREAT | O_TRUNC);
    if (w->fd < 0) {
        status = write_failed(w, err, "create");
        snapshot_end(w);
        return status;
    }
    *out = w;
    return STATUS_OK;
}

void snapshot_end(struct snapshot_writer *w)
{
    char path[PATH_LEN_MAX];

    if (w == NULL) {
        return;
    }
    keydir_walk_close(w->walk);
    if (w->fd >= 0) {
        w->vfs->close(w->vfs, w->fd);
        if (!w->done) {
            path_of(w->dir, "snapshot.tmp", path);
            (void)w->vfs->unlink(w->vfs, path);
        }
    }
    seqset_fini(&w->gone);
    bytes_fini(&w->buffer);
    free(w);
}

static enum status add_entry(struct snapshot_writer *w, struct slice key,
                             struct slice value)
{
    uint64_t size = entry_size(key.len, value.len);
    uint64_t at = w->written + bytes_len(&w->buffer);
    uint64_t hash;
    uint8_t *entry;

    if (value.len > UINT32_MAX
        || bytes_reserve(&w->buffer, size, SIZE_MAX) != STATUS_OK) {
        return STATUS_NOMEM;
    }
    entry = bytes_end(&w->buffer);
    memset(entry, 0, ENTRY_HEAD_LEN);
    memset(entry + size - ENTRY_ALIGN, 0, ENTRY_ALIGN);
    put_u32(entry + ENTRY_AT_KIND, w->kind);
    put_u32(entry + ENTRY_AT_KEY_LEN, (uint32_t)key.len);
    put_u32(entry + ENTRY_AT_VALUE_LEN, (uint32_t)value.len);
    if (key.len > 0) {
        memcpy(entry + ENTRY_HEAD_LEN, key.at, key.len);
    }
    if (value.len > 0) {
        memcpy(entry + ENTRY_HEAD_LEN + key.len, value.at, value.len);
    }
    hash = checksum_seeded(entry + ENTRY_AT_KIND, size - ENTRY_AT_KIND,
                           w->head.store_id + at);
    put_u64(entry + ENTRY_AT_HASH, hash);
    bytes_filled(&w->buffer, size);
    w->all = record_receipt(w->all, hash);
    w->head.counts[w->kind]++;
    return STATUS_OK;
}

/* At the front, where they are found without reading the rest. */
static enum status add_gone(struct snapshot_writer *w)
{
    const struct seq_range *ranges = seqset_ranges(&w->gone);
    size_t count = seqset_range_count(&w->gone);
    enum status status = STATUS_OK;

    for (size_t i = 0; i < count && status == STATUS_OK; i += GONE_RANGES_MAX) {
        uint8_t value[GONE_RANGES_MAX * RANGE_LEN];
        size_t some = count - i < GONE_RANGES_MAX ? count - i : GONE_RANGES_MAX;
        for (size_t k = 0; k < some; k++) {
            put_u64(value + k * RANGE_LEN, ranges[i + k].first);
            put_u64(value + k * RANGE_LEN + 8, ranges[i + k].last);
        }
        status =
            add_entry(w, slice_of(NULL, 0), slice_of(value, some * RANGE_LEN));
    }
    w->kind = SNAPSHOT_FACT;
    return status;
}

static enum status add_next(struct snapshot_writer *w)
{
    struct slice key;
    struct slice value;
    enum status status;

    if (w->kind == SNAPSHOT_GONE) {
        return add_gone(w);
    }
    status = keydir_walk_next(w->walk, tables[w->kind], &key, &value);
    if (status == STATUS_OK) {
        return add_entry(w, key, value);
    }
    if (status == STATUS_NOT_FOUND) {
        w->kind++;
        return STATUS_OK;
    }
    return status;
}

static enum status flush(struct snapshot_writer *w, struct error *err)
{
    size_t len = bytes_len(&w->buffer);

    if (io_write(w->vfs, w->fd, bytes_begin(&w->buffer), len, (off_t)w->written)
        != 0) {
        return write_failed(w, err, "write");
    }
    w->written += len;
    bytes_consume(&w->buffer, len);
    return STATUS_OK;
}

/* A crash before the rename leaves a snapshot.tmp, which the next start
 * removes; one after it the new snapshot or, if the folder was not synced yet,
 * the old one: nothing is removed before it is. */
static enum status finish(struct snapshot_writer *w, struct error *err)
{
    uint8_t block[BLOCK_LEN] = { 0 };
    char made[PATH_LEN_MAX];
    char name[PATH_LEN_MAX];

    w->head.len = w->written;
    put_u64(block + AT_MAGIC, snapshot_magic);
    put_u32(block + AT_VERSION, SNAPSHOT_VERSION);
    put_u64(block + AT_STORE, w->head.store_id);
    put_u64(block + AT_PLACE, w->head.place);
    put_u64(block + AT_NUMBER, w->head.number);
    put_u64(block + AT_HASH, w->head.hash);
    put_u64(block + AT_LEN, w->head.len);
    put_u64(block + AT_ALL, w->all);
    for (size_t i = 1; i < SNAPSHOT_KINDS; i++) {
        put_u64(block + AT_COUNTS + (i - 1) * 8, w->head.counts[i]);
    }
    block_close(block);
    path_of(w->dir, "snapshot.tmp", made);
    path_of(w->dir, "snapshot", name);
    if (io_write(w->vfs, w->fd, block, sizeof block, 0) != 0) {
        return write_failed(w, err, "write");
    }
    if (io_sync(w->vfs, w->fd) != 0) {
        return write_failed(w, err, "sync");
    }
    if (w->vfs->rename(w->vfs, made, name) != 0) {
        return write_failed(w, err, "rename");
    }
    w->done = true;
    if (io_sync_dir(w->vfs, w->dir) != 0) {
        return write_failed(w, err, "sync the folder");
    }
    return STATUS_OK;
}

enum status snapshot_step(struct snapshot_writer *w, size_t budget, bool *done,
                          uint64_t *len, struct error *err)
{
    uint64_t enough = w->written + budget;
    enum status status = STATUS_OK;

    *done = false;
    while (w->kind <= SNAPSHOT_ID
           && w->written + bytes_len(&w->buffer) < enough) {
        status = add_next(w);
        if (status != STATUS_OK) {
            return error_set(err, status, 0, "snapshot: keydir");
        }
        if (bytes_len(&w->buffer) >= CHUNK_LEN) {
            status = flush(w, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (bytes_len(&w->buffer) > 0) {
        status = flush(w, err);
    }
    if (status != STATUS_OK || w->kind <= SNAPSHOT_ID) {
        return status;
    }
    status = finish(w, err);
    *done = status == STATUS_OK;
    if (len != NULL) {
        *len = w->head.len;
    }
    return status;
}

/* ---- reading ---- */

struct source {
    const struct vfs *vfs;
    int fd;
    uint64_t store_id;
    uint64_t file_len;
    uint8_t *memory; /* file bytes from..from+len */
    uint64_t from;
    uint64_t len;
    uint64_t capacity;
    bool failed; /* a read error, or no memory */
};

/* Bytes at..at+len of the file, NULL when they are not there. */
static const uint8_t *fetch(struct source *s, uint64_t at, uint64_t len)
{
    uint64_t want = len < CHUNK_LEN ? CHUNK_LEN : len;
    ssize_t have;

    if (at > s->file_len || len > s->file_len - at) {
        return NULL;
    }
    if (at >= s->from && at + len <= s->from + s->len) {
        return s->memory + (at - s->from);
    }
    if (want > s->capacity) {
        uint8_t *grown = realloc(s->memory, want);
        if (grown == NULL) {
            errno = ENOMEM;
            s->failed = true;
            return NULL;
        }
        s->memory = grown;
        s->capacity = want;
    }
    have = io_read(s->vfs, s->fd, s->memory, want, (off_t)at);
    s->from = at;
    s->len = have < 0 ? 0 : (uint64_t)have;
    s->failed = have < 0;
    return s->len >= len ? s->memory : NULL;
}

static enum status read_head(struct source *s, struct snapshot_head *head,
                             uint64_t *all, struct error *err)
{
    const uint8_t *block = fetch(s, 0, BLOCK_LEN);
    const uint8_t *fields;
    bool damaged;

    if (block == NULL) {
        return error_set(err, s->failed ? STATUS_IO : STATUS_CORRUPT,
                         s->failed ? errno : 0, "snapshot: head");
    }
    fields = block_read(block, &damaged);
    if (fields == NULL || get_u64(fields + AT_MAGIC) != snapshot_magic) {
        return error_set(err, STATUS_CORRUPT, 0, "snapshot: head is damaged");
    }
    if (get_u32(fields + AT_VERSION) > SNAPSHOT_VERSION) {
        return error_set(err, STATUS_NEWER, 0,
                         "snapshot has version %u, this build reads up to %d",
                         get_u32(fields + AT_VERSION), SNAPSHOT_VERSION);
    }
    *head = (struct snapshot_head) { .store_id = get_u64(fields + AT_STORE),
                                     .place = get_u64(fields + AT_PLACE),
                                     .number = get_u64(fields + AT_NUMBER),
                                     .hash = get_u64(fields + AT_HASH),
                                     .len = get_u64(fields + AT_LEN) };
    *all = get_u64(fields + AT_ALL);
    for (size_t i = 1; i < SNAPSHOT_KINDS; i++) {
        head->counts[i] = get_u64(fields + AT_COUNTS + (i - 1) * 8);
    }
    if (head->store_id != s->store_id) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "snapshot: belongs to another store");
    }
    return STATUS_OK;
}

struct entry {
    enum snapshot_kind kind;
    uint64_t hash;
    struct slice key;
    struct slice value;
    uint64_t size;
};

/* A whole entry stands there. */
static bool entry_at(struct source *s, uint64_t at, struct entry *out)
{
    const uint8_t *bytes = fetch(s, at, ENTRY_HEAD_LEN);
    uint32_t kind;
    uint32_t key_len;
    uint32_t value_len;
    uint64_t size;

    if (bytes == NULL) {
        return false;
    }
    kind = get_u32(bytes + ENTRY_AT_KIND);
    key_len = get_u32(bytes + ENTRY_AT_KEY_LEN);
    value_len = get_u32(bytes + ENTRY_AT_VALUE_LEN);
    size = entry_size(key_len, value_len);
    if (kind < SNAPSHOT_GONE || kind >= SNAPSHOT_KINDS
        || key_len > KEY_LEN_MAX_HERE || get_u32(bytes + 20) != 0
        || size > s->file_len - at) {
        return false;
    }
    bytes = fetch(s, at, size);
    if (bytes == NULL) {
        return false;
    }
    out->kind = (enum snapshot_kind)kind;
    out->hash = get_u64(bytes + ENTRY_AT_HASH);
    out->key = slice_of(bytes + ENTRY_HEAD_LEN, key_len);
    out->value = slice_of(bytes + ENTRY_HEAD_LEN + key_len, value_len);
    out->size = size;
    return checksum_seeded(bytes + ENTRY_AT_KIND, size - ENTRY_AT_KIND,
                           s->store_id + at)
           == out->hash;
}

static enum status take_gone(struct slice value, struct seqset *gone)
{
    for (size_t at = 0; at + RANGE_LEN <= value.len; at += RANGE_LEN) {
        uint64_t first = get_u64(value.at + at);
        uint64_t last = get_u64(value.at + at + 8);
        if (first == 0 || last < first || last > SEGMENT_ID_MAX) {
            return STATUS_CORRUPT;
        }
        if (seqset_add(gone, first, last, NULL) != STATUS_OK) {
            return STATUS_NOMEM;
        }
    }
    return STATUS_OK;
}

struct reading {
    const struct snapshot_visitor *visitor;
    struct seqset *gone;
    uint64_t counts[SNAPSHOT_KINDS];
    uint64_t all;
};

static enum status take_entry(struct reading *r, const struct entry *entry)
{
    r->counts[entry->kind]++;
    r->all = record_receipt(r->all, entry->hash);
    if (entry->kind == SNAPSHOT_GONE) {
        return take_gone(entry->value, r->gone);
    }
    return r->visitor->value(r->visitor->arg, tables[entry->kind], entry->key,
                             entry->value);
}

/* A damaged one is passed by to where the next whole one begins. */
static enum status read_entries(struct source *s,
                                const struct snapshot_head *head,
                                struct reading *r)
{
    uint64_t at = BLOCK_LEN;

    while (at < s->file_len) {
        struct entry entry;
        enum status status;
        if (r->visitor == NULL
            && r->counts[SNAPSHOT_GONE] == head->counts[SNAPSHOT_GONE]) {
            return STATUS_OK;
        }
        if (!entry_at(s, at, &entry)) {
            if (s->failed) {
                return errno == ENOMEM ? STATUS_NOMEM : STATUS_IO;
            }
            at += ENTRY_ALIGN;
            continue;
        }
        if (r->visitor == NULL && entry.kind != SNAPSHOT_GONE) {
            return STATUS_OK; /* they are at the front */
        }
        status = take_entry(r, &entry);
        if (status != STATUS_OK) {
            return status;
        }
        at += entry.size;
    }
    return STATUS_OK;
}

static uint64_t count_damaged(const struct reading *r,
                              const struct snapshot_head *head, uint64_t all)
{
    uint64_t damaged = 0;

    for (size_t i = 1; i < SNAPSHOT_KINDS; i++) {
        if ((r->visitor != NULL || i == SNAPSHOT_GONE)
            && r->counts[i] < head->counts[i]) {
            damaged += head->counts[i] - r->counts[i];
        }
    }
    return damaged == 0 && r->visitor != NULL && r->all != all ? 1 : damaged;
}

enum status snapshot_read(const struct vfs *vfs, const char *dir,
                          uint64_t store_id,
                          const struct snapshot_visitor *visitor,
                          struct snapshot_head *head, struct seqset *gone,
                          uint64_t *damaged, struct error *err)
{
    struct source s = { .vfs = vfs, .store_id = store_id };
    struct reading r = { .visitor = visitor, .gone = gone };
    char path[PATH_LEN_MAX];
    enum status status;
    uint64_t all = 0;
    off_t len;

    *damaged = 0;
    path_of(dir, "snapshot", path);
    s.fd = io_open(vfs, path, O_RDONLY);
    if (s.fd < 0) {
        return errno == ENOENT ? STATUS_NOT_FOUND
                               : error_set(err, status_of_errno(errno), errno,
                                           "open %.200s", path);
    }
    len = vfs->size(vfs, s.fd);
    if (len < 0) {
        status = error_set(err, STATUS_IO, errno, "snapshot: size");
    } else {
        s.file_len = (uint64_t)len;
        status = read_head(&s, head, &all, err);
    }
    if (status == STATUS_OK) {
        status = read_entries(&s, head, &r);
        if (status != STATUS_OK) {
            status = error_set(err, status, 0, "snapshot: read");
        }
    }
    if (status == STATUS_OK) {
        *damaged = count_damaged(&r, head, all);
    }
    free(s.memory);
    vfs->close(vfs, s.fd);
    return status;
}
