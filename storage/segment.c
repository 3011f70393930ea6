#include "storage/segment.h"

#include "storage/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Where each field of the first block stands. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_ID = 12,
    AT_STORE = 16,
    AT_EPOCH = 24,
    AT_TIME = 32,
    AT_CAPACITY = 40,
    AT_SYNCED_END = 44,
    AT_PREVIOUS_END = 48,
    AT_RECYCLED = 56
};

enum { ZERO_CHUNK_LEN = 1024 * 1024, WALK_LEN = 64 * 1024 };

static const uint64_t segment_magic = UINT64_C(0x3147455354574447);

/* ---- the table ---- */

struct segment *log_segment(struct log *log, uint32_t id)
{
    _Atomic(struct segment *) *chunk;

    if (id > SEGMENT_ID_MAX) {
        return NULL;
    }
    chunk = atomic_load_explicit(&log->chunks[id / LOG_CHUNK_LEN],
                                 memory_order_acquire);
    if (chunk == NULL) {
        return NULL;
    }
    return atomic_load_explicit(&chunk[id % LOG_CHUNK_LEN],
                                memory_order_seq_cst); /* see readers.c */
}

struct segment *log_remove(struct log *log, uint32_t id)
{
    _Atomic(struct segment *) *chunk;

    if (id > SEGMENT_ID_MAX) {
        return NULL;
    }
    chunk = atomic_load_explicit(&log->chunks[id / LOG_CHUNK_LEN],
                                 memory_order_acquire);
    return chunk == NULL ? NULL
                         : atomic_exchange_explicit(&chunk[id % LOG_CHUNK_LEN],
                                                    NULL, memory_order_seq_cst);
}

enum status log_add(struct log *log, struct segment *segment)
{
    uint32_t id = segment->header.id;
    _Atomic(struct segment *) *chunk;

    if (id > SEGMENT_ID_MAX) {
        return STATUS_NO_SPACE;
    }
    chunk = atomic_load_explicit(&log->chunks[id / LOG_CHUNK_LEN],
                                 memory_order_acquire);
    if (chunk == NULL) {
        chunk = calloc(LOG_CHUNK_LEN, sizeof *chunk);
        if (chunk == NULL) {
            return STATUS_NOMEM;
        }
        atomic_store_explicit(&log->chunks[id / LOG_CHUNK_LEN], chunk,
                              memory_order_release);
    }
    atomic_store_explicit(&chunk[id % LOG_CHUNK_LEN], segment,
                          memory_order_release);
    return STATUS_OK;
}

void log_fini(struct log *log)
{
    for (size_t i = 0; i < LOG_CHUNK_COUNT; i++) {
        _Atomic(struct segment *) *chunk = atomic_load(&log->chunks[i]);
        for (size_t j = 0; chunk != NULL && j < LOG_CHUNK_LEN; j++) {
            segment_free(atomic_load(&chunk[j]), log);
        }
        free((void *)chunk);
        atomic_store(&log->chunks[i], NULL);
    }
}

/* ---- one file ---- */

enum status status_of_errno(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
        return STATUS_NO_SPACE;
    case ENOMEM:
        return STATUS_NOMEM;
    default:
        return STATUS_IO;
    }
}

void segment_path(const struct log *log, uint32_t id, const char *ending,
                  char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.4000s/%010u.%s", log->dir, id, ending);
}

static enum status fail(struct error *err, const struct segment *segment,
                        const char *doing)
{
    int sys = errno;

    return error_set(err, status_of_errno(sys), sys, "segment %u: %s",
                     segment->header.id, doing);
}

static struct segment *segment_new(uint32_t id)
{
    struct segment *segment = calloc(1, sizeof *segment);

    if (segment != NULL) {
        segment->header.id = id;
        segment->fd = -1;
        atomic_init(&segment->end, SEGMENT_BEGIN);
    }
    return segment;
}

void segment_free(struct segment *segment, struct log *log)
{
    if (segment == NULL) {
        return;
    }
    if (segment->map != NULL) {
        log->vfs->unmap(log->vfs, (void *)segment->map, segment->map_len);
    }
    segment_let_go(segment, log);
    free(segment);
}

static int write_header(struct segment *segment, struct log *log)
{
    const struct segment_header *h = &segment->header;
    uint8_t block[BLOCK_LEN] = { 0 };

    put_u64(block + AT_MAGIC, segment_magic);
    put_u32(block + AT_VERSION, STORE_FORMAT_VERSION);
    put_u32(block + AT_ID, h->id);
    put_u64(block + AT_STORE, log->store_id);
    put_u64(block + AT_EPOCH, h->epoch);
    put_u64(block + AT_TIME, h->time_us);
    put_u32(block + AT_CAPACITY, h->capacity);
    put_u32(block + AT_SYNCED_END, h->synced_end);
    put_u64(block + AT_PREVIOUS_END, h->previous_end);
    put_u32(block + AT_RECYCLED, h->recycled ? 1 : 0);
    block_close(block);
    return io_write(log->vfs, segment->fd, block, sizeof block, 0);
}

enum status segment_make(struct segment **out, struct log *log,
                         const struct segment_header *header, struct error *err)
{
    struct segment *segment = segment_new(header->id);
    char path[PATH_LEN_MAX];
    enum status status;

    if (segment == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "segment %u", header->id);
    }
    segment->header = *header;
    segment_path(log, header->id, "tmp", path);
    segment->fd = io_open(log->vfs, path, O_RDWR | O_CREAT | O_TRUNC);
    if (segment->fd < 0) {
        status = fail(err, segment, "create");
        segment_free(segment, log);
        return status;
    }
    log_disk(log, header->capacity);
    if (io_allocate(log->vfs, segment->fd, header->capacity) != 0) {
        status = fail(err, segment, "allocate");
        goto fail;
    }
    if (write_header(segment, log) != 0) {
        status = fail(err, segment, "write the header");
        goto fail;
    }
    status = segment_map(segment, log, header->capacity, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    *out = segment;
    return STATUS_OK;

fail:
    segment_discard(segment, log);
    return status;
}

enum status segment_zero(struct segment *segment, struct log *log, uint32_t at,
                         uint32_t len, struct error *err)
{
    uint32_t end = at + len;
    uint8_t *zeros = calloc(1, ZERO_CHUNK_LEN);
    int result = 0;

    CHECK(end >= at && end <= segment->header.capacity);
    if (zeros == NULL) {
        return STATUS_OK; /* slower syncs, nothing worse */
    }
    /* Each part is synced: the journal's own syncs wait behind what is on its
     * way to the disk, so that is never much. */
    while (at < end && result == 0) {
        uint32_t part = end - at < ZERO_CHUNK_LEN ? end - at : ZERO_CHUNK_LEN;
        result = io_write(log->vfs, segment->fd, zeros, part, at);
        if (result == 0) {
            result = io_sync(log->vfs, segment->fd);
        }
        at += part;
    }
    free(zeros);
    return result == 0 ? STATUS_OK : fail(err, segment, "fill with zeros");
}

enum status segment_reuse(struct segment **out, struct log *log,
                          const struct segment_header *header, uint32_t pool_id,
                          struct error *err)
{
    struct segment *segment = segment_new(header->id);
    char path[PATH_LEN_MAX];
    enum status status;

    if (segment == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "segment %u", header->id);
    }
    segment->header = *header;
    segment->pool_id = pool_id;
    segment_path(log, pool_id, "pool", path);
    segment->fd = io_open(log->vfs, path, O_RDWR);
    if (segment->fd < 0) {
        status = errno == ENOENT ? STATUS_NOT_FOUND
                                 : fail(err, segment, "open one of the pool");
        goto fail;
    }
    if (log->vfs->size(log->vfs, segment->fd) != (off_t)header->capacity) {
        status = STATUS_NOT_FOUND;
        goto fail;
    }
    status = segment_map(segment, log, header->capacity, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    if (write_header(segment, log) != 0
        || io_sync(log->vfs, segment->fd) != 0) {
        status = fail(err, segment, "write the header");
        goto fail;
    }
    *out = segment;
    return STATUS_OK;

fail:
    segment_free(segment, log);
    return status;
}

/* The name it has until it is published. */
static void path_before(const struct segment *segment, const struct log *log,
                        char path[PATH_LEN_MAX])
{
    if (segment->pool_id != 0) {
        segment_path(log, segment->pool_id, "pool", path);
    } else {
        segment_path(log, segment->header.id, "tmp", path);
    }
}

void segment_discard(struct segment *segment, struct log *log)
{
    char path[PATH_LEN_MAX];

    if (segment->pool_id == 0) {
        path_before(segment, log, path);
        (void)log->vfs->unlink(log->vfs, path);
        log_disk(log, -(int64_t)segment->header.capacity);
    }
    segment_free(segment, log);
}

/* A crash before the rename leaves a .tmp file, which the next start removes,
 * or a .pool file, which it keeps; one after it leaves a whole segment, with or
 * without its name on disk. */
enum status segment_publish(struct segment *segment, struct log *log,
                            struct error *err)
{
    char made[PATH_LEN_MAX];
    char name[PATH_LEN_MAX];

    path_before(segment, log, made);
    segment_path(log, segment->header.id, "seg", name);
    if (io_sync(log->vfs, segment->fd) != 0) {
        return fail(err, segment, "sync");
    }
    if (log->vfs->rename(log->vfs, made, name) != 0) {
        return fail(err, segment, "rename");
    }
    if (io_sync_dir(log->vfs, log->dir) != 0) {
        return fail(err, segment, "sync the folder");
    }
    return STATUS_OK;
}

/* In the pool a file is named after what it was when it came there; the header
 * may be a later one's, whose making was cut short. */
static enum status decode_header(struct segment *segment, struct log *log,
                                 const uint8_t *fields, bool pooled,
                                 struct error *err)
{
    struct segment_header *h = &segment->header;
    uint32_t id = h->id;
    uint32_t version = get_u32(fields + AT_VERSION);

    if (get_u64(fields + AT_MAGIC) != segment_magic) {
        return error_set(err, STATUS_CORRUPT, 0, "segment %u: not a segment",
                         id);
    }
    if (version > STORE_FORMAT_VERSION) {
        return error_set(err, STATUS_NEWER, 0,
                         "segment %u has format %u, this build reads up to %u",
                         id, version, (unsigned)STORE_FORMAT_VERSION);
    }
    if ((!pooled && get_u32(fields + AT_ID) != id)
        || get_u64(fields + AT_STORE) != log->store_id) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "segment %u: belongs elsewhere", id);
    }
    h->epoch = get_u64(fields + AT_EPOCH);
    h->time_us = get_u64(fields + AT_TIME);
    h->capacity = get_u32(fields + AT_CAPACITY);
    h->synced_end = get_u32(fields + AT_SYNCED_END);
    h->previous_end = get_u64(fields + AT_PREVIOUS_END);
    h->recycled = get_u32(fields + AT_RECYCLED) != 0;
    return STATUS_OK;
}

static enum status read_header(struct segment *segment, struct log *log,
                               bool pooled, bool *damaged, struct error *err)
{
    uint8_t block[BLOCK_LEN] = { 0 };
    const uint8_t *fields;
    ssize_t have = io_read(log->vfs, segment->fd, block, sizeof block, 0);

    if (have < 0) {
        return fail(err, segment, "read the header");
    }
    fields = block_read(block, damaged);
    if (have < (ssize_t)sizeof block || fields == NULL) {
        segment->header_lost = true;
        *damaged = true;
        return STATUS_OK;
    }
    return decode_header(segment, log, fields, pooled, err);
}

static enum status open_file(struct segment **out, struct log *log, uint32_t id,
                             bool pooled, uint64_t *file_len, bool *damaged,
                             struct error *err)
{
    struct segment *segment = segment_new(id);
    char path[PATH_LEN_MAX];
    enum status status;
    off_t len;

    if (segment == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "segment %u", id);
    }
    segment_path(log, id, pooled ? "pool" : "seg", path);
    segment->fd = io_open(log->vfs, path, O_RDWR);
    if (segment->fd < 0) {
        status = fail(err, segment, "open");
        goto fail;
    }
    len = log->vfs->size(log->vfs, segment->fd);
    if (len < 0) {
        status = fail(err, segment, "size");
        goto fail;
    }
    *file_len = (uint64_t)len;
    status = read_header(segment, log, pooled, damaged, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    *out = segment;
    return STATUS_OK;

fail:
    segment_free(segment, log);
    return status;
}

enum status segment_open(struct segment **out, struct log *log, uint32_t id,
                         uint64_t *file_len, bool *damaged, struct error *err)
{
    return open_file(out, log, id, false, file_len, damaged, err);
}

enum status segment_peek(struct segment **out, struct log *log, uint32_t id,
                         uint64_t *file_len, struct error *err)
{
    bool damaged;

    return open_file(out, log, id, true, file_len, &damaged, err);
}

void segment_let_go(struct segment *segment, struct log *log)
{
    if (segment->fd >= 0) {
        log->vfs->close(log->vfs, segment->fd);
        segment->fd = -1;
    }
}

enum status segment_hold(struct segment *segment, struct log *log,
                         struct error *err)
{
    char path[PATH_LEN_MAX];

    if (segment->fd >= 0) {
        return STATUS_OK;
    }
    segment_path(log, segment->header.id, "seg", path);
    segment->fd = io_open(log->vfs, path, O_RDWR);
    return segment->fd >= 0 ? STATUS_OK : fail(err, segment, "open");
}

enum status segment_map(struct segment *segment, struct log *log, size_t len,
                        struct error *err)
{
    void *map = log->vfs->map(log->vfs, segment->fd, len);

    if (map == MAP_FAILED) {
        return fail(err, segment, "map");
    }
    segment->map = map;
    segment->map_len = len;
    return STATUS_OK;
}

/* Nobody reads past `end`, so the mapping may stay longer than the file. */
enum status segment_trim(struct segment *segment, struct log *log,
                         struct error *err)
{
    uint32_t end = atomic_load_explicit(&segment->end, memory_order_acquire);

    enum status status = segment_hold(segment, log, err);
    off_t len;

    if (status != STATUS_OK) {
        return status;
    }
    len = log->vfs->size(log->vfs, segment->fd);
    if (io_truncate(log->vfs, segment->fd, end) != 0) {
        status = fail(err, segment, "trim");
    } else if (len > 0) {
        log_disk(log, end - len);
    }
    segment_let_go(segment, log);
    return status;
}

static int cut_for_good(struct log *log, int fd, off_t end, uint64_t *cut)
{
    off_t len = log->vfs->size(log->vfs, fd);

    if (len < 0) {
        return -1;
    }
    if (len <= end) {
        return 0;
    }
    *cut = (uint64_t)(len - end);
    return io_truncate(log->vfs, fd, end) != 0 || io_sync(log->vfs, fd) != 0
               ? -1
               : 0;
}

enum status segment_pass_on_end(const struct segment *segment, struct log *log,
                                uint64_t *cut, struct error *err)
{
    uint64_t place = segment->header.previous_end;
    char path[PATH_LEN_MAX];
    int result;
    int kept;
    int fd;

    *cut = 0;
    if (place == 0) {
        return STATUS_OK;
    }
    segment_path(log, place_segment(place), "seg", path);
    fd = io_open(log->vfs, path, O_RDWR);
    if (fd < 0) {
        return errno == ENOENT ? STATUS_OK : fail(err, segment, "open before");
    }
    result = cut_for_good(log, fd, (off_t)place_offset(place), cut);
    kept = errno;
    log->vfs->close(log->vfs, fd);
    errno = kept;
    return result == 0 ? STATUS_OK : fail(err, segment, "cut the one before");
}

bool segment_readable(const struct segment *segment, const struct log *log,
                      uint64_t from, uint64_t to)
{
    from &= ~(uint64_t)(BLOCK_LEN - 1);
    return log->vfs->touch(log->vfs, segment->map + from, to - from) == 0;
}

bool segment_walk_to(struct segment_walk *walk, uint64_t at, uint64_t len)
{
    uint64_t from = at & ~(uint64_t)(BLOCK_LEN - 1);
    uint64_t to = at + len;
    uint64_t end;

    if (at >= walk->from && to <= walk->to) {
        return true;
    }
    if (walk->to != 0 && from <= walk->to && to < from + WALK_LEN) {
        to = from + WALK_LEN;
    }
    end = atomic_load_explicit(&walk->segment->end, memory_order_acquire);
    to = to < end ? to : end;
    if (at + len > to
        || !segment_readable(walk->segment, walk->log, from, to)) {
        return false;
    }
    walk->from = from;
    walk->to = to;
    return true;
}

struct batch_source segment_source(const struct segment *segment,
                                   const struct log *log)
{
    uint32_t end = atomic_load_explicit(&segment->end, memory_order_acquire);

    return (struct batch_source) { .base = segment->map,
                                   .limit = end,
                                   .segment = segment->header.id,
                                   .seed = log->store_id };
}

enum status segment_batch(const struct segment *segment, const struct log *log,
                          uint32_t offset, struct batch *out)
{
    struct batch_source source = segment_source(segment, log);
    uint64_t end = (uint64_t)offset + BATCH_HEADER_LEN;
    enum status status;

    if (end > source.limit) {
        return STATUS_CORRUPT;
    }
    if (!segment_readable(segment, log, offset, end)) {
        return STATUS_IO;
    }
    status = batch_read_header(&source, offset, out);
    if (status != STATUS_OK) {
        return status;
    }
    end += out->header.records_len;
    return segment_readable(segment, log, end, end + out->header.index_len)
               ? batch_read(&source, offset, out)
               : STATUS_IO;
}
