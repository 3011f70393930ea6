/* The files of the log as a start finds them: listed, opened, and one at a time
 * read into memory of our own. */
#include "storage/recovery.h"

#include "storage/io.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { READ_CHUNK_LEN = 1024 * 1024, NAME_DIGITS = 10 };

/* ---- listing ---- */

/* "0000000012.seg": its id, 0 when it is no such name. */
static uint32_t id_of_name(const char *name, const char *ending)
{
    uint64_t id = 0;

    for (int i = 0; i < NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return 0;
        }
        id = id * 10 + (uint64_t)(name[i] - '0');
    }
    if (strcmp(name + NAME_DIGITS, ending) != 0 || id > SEGMENT_ID_MAX) {
        return 0;
    }
    return (uint32_t)id;
}

static void on_name(void *arg, const char *name)
{
    struct recovery *r = arg;
    uint32_t made = id_of_name(name, ".tmp");
    uint32_t pooled = id_of_name(name, ".pool");
    uint32_t id = id_of_name(name, ".seg");
    char path[PATH_LEN_MAX];

    if (made != 0) {
        segment_path(&r->store->log, made, "tmp", path);
        (void)r->store->vfs->unlink(r->store->vfs, path);
    }
    if (pooled != 0) {
        pool_found(r->store, pooled, &r->epoch);
    }
    if (id == 0 || r->status != STATUS_OK) {
        return;
    }
    if (r->found_count == r->found_capacity) {
        size_t capacity = r->found_capacity == 0 ? 16 : r->found_capacity * 2;
        void *found = realloc(r->found, capacity * sizeof *r->found);
        if (found == NULL) {
            r->status = STATUS_NOMEM;
            return;
        }
        r->found = found;
        r->found_capacity = capacity;
    }
    r->found[r->found_count++] = (struct found_segment) { .id = id };
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = ((const struct found_segment *)a)->id;
    uint32_t y = ((const struct found_segment *)b)->id;

    return (x > y) - (x < y);
}

enum status recovery_list(struct recovery *r, struct error *err)
{
    const struct store *store = r->store;

    if (store->vfs->list(store->vfs, store->log.dir, on_name, r) != 0) {
        return error_set(err, STATUS_IO, errno, "list %.200s", store->log.dir);
    }
    if (r->status != STATUS_OK) {
        return error_set(err, r->status, 0, "list %.200s", store->log.dir);
    }
    if (r->found_count > 0) {
        qsort(r->found, r->found_count, sizeof *r->found, by_id);
    }
    for (size_t i = 1; i < r->found_count; i++) {
        r->out->missing_segments += r->found[i].id - r->found[i - 1].id - 1;
    }
    return STATUS_OK;
}

enum status recovery_open_segments(struct recovery *r, struct error *err)
{
    for (size_t i = 0; i < r->found_count; i++) {
        struct found_segment *f = &r->found[i];
        bool damaged = false;
        enum status status = segment_open(&f->segment, &r->store->log, f->id,
                                          &f->file_len, &damaged, err);

        if (status == STATUS_CORRUPT) { /* foreign: left alone, and reported */
            f->segment = NULL;
            r->out->missing_segments++;
            continue;
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (damaged) {
            r->out->damaged_bytes += BLOCK_LEN;
        }
        segment_let_go(f->segment, &r->store->log);
        log_disk(&r->store->log, (int64_t)f->file_len);
        if (f->segment->header.epoch > r->epoch) {
            r->epoch = f->segment->header.epoch;
        }
    }
    return STATUS_OK;
}

/* ---- a segment in memory ---- */

void recovery_unload(struct recovery *r)
{
    if (r->memory != NULL) {
        munmap(r->memory, r->memory_len);
    }
    r->memory = NULL;
    r->memory_id = 0;
}

bool recovery_all_zero(const uint8_t *at, size_t len)
{
    return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

/* Zeros are not copied, so that an empty tail takes no memory. */
static enum status read_all(struct recovery *r, const struct found_segment *f,
                            struct error *err)
{
    const struct vfs *vfs = r->store->vfs;
    uint8_t *chunk = malloc(READ_CHUNK_LEN);
    enum status status = STATUS_OK;

    if (chunk == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "segment %u: read", f->id);
    }
    for (size_t at = 0; at < r->limit && status == STATUS_OK;) {
        size_t len =
            r->limit - at < READ_CHUNK_LEN ? r->limit - at : READ_CHUNK_LEN;
        ssize_t have = io_read(vfs, f->segment->fd, chunk, len, (off_t)at);
        if (have < 0) {
            status = error_set(err, STATUS_IO, errno, "segment %u: read at %zu",
                               f->id, at);
        } else if (have > 0 && !recovery_all_zero(chunk, (size_t)have)) {
            memcpy(r->memory + at, chunk, (size_t)have);
        }
        at += len;
    }
    free(chunk);
    return status;
}

enum status recovery_load(struct recovery *r, const struct found_segment *f,
                          struct error *err)
{
    const struct vfs *vfs = r->store->vfs;
    enum status status;
    void *memory;

    if (r->memory_id == f->id) {
        return STATUS_OK;
    }
    recovery_unload(r);
    status = segment_hold(f->segment, &r->store->log, err);
    if (status != STATUS_OK) {
        return status;
    }
    r->limit =
        f->file_len > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX : (uint32_t)f->file_len;
    r->memory_len = (size_t)r->limit + BLOCK_LEN;
    memory = mmap(NULL, r->memory_len, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return error_set(err, STATUS_NOMEM, errno, "segment %u: memory", f->id);
    }
    r->memory = memory;
    (void)vfs->drop_cache(vfs, f->segment->fd, 0, (off_t)f->file_len);
    status = read_all(r, f, err);
    segment_let_go(f->segment, &r->store->log);
    if (status != STATUS_OK) {
        recovery_unload(r);
        return status;
    }
    r->memory_id = f->id;
    r->memory_epoch = f->segment->header_lost ? 0 : f->segment->header.epoch;
    return STATUS_OK;
}

struct batch_source recovery_source(const struct recovery *r)
{
    return (struct batch_source) { .base = r->memory,
                                   .limit = r->limit,
                                   .segment = r->memory_id,
                                   .seed = r->store->log.store_id };
}

/* A batch of this life of the segment stands at `offset`; with_index: whole. */
bool recovery_batch_at(struct recovery *r, uint32_t offset, bool with_index,
                       struct batch *out)
{
    struct batch_source source = recovery_source(r);

    if (offset < SEGMENT_BEGIN
        || batch_read_header(&source, offset, out) != STATUS_OK
        || (r->memory_epoch != 0 && out->header.epoch != r->memory_epoch)) {
        return false;
    }
    if (with_index && batch_read(&source, offset, out) != STATUS_OK) {
        return false;
    }
    r->memory_epoch = out->header.epoch;
    if (out->header.epoch > r->epoch) {
        r->epoch = out->header.epoch;
    }
    return true;
}

/* The first batch at or after `from`, by its header. */
bool recovery_find_batch(struct recovery *r, uint32_t from, struct batch *out)
{
    for (uint64_t at = from; at + BATCH_HEADER_LEN <= r->limit;
         at += BATCH_ALIGN) {
        if (batch_may_begin(r->memory + at)
            && recovery_batch_at(r, (uint32_t)at, false, out)) {
            return true;
        }
    }
    return false;
}

bool recovery_untouched(struct recovery *r, const struct found_segment *f,
                        uint32_t offset)
{
    uint8_t at[BATCH_HEADER_LEN];
    struct batch_header header;

    if (io_read(r->store->vfs, f->segment->fd, at, sizeof at, offset)
        != (ssize_t)sizeof at) {
        return false;
    }
    if (!f->segment->header.recycled) {
        return recovery_all_zero(at, sizeof at);
    }
    return !batch_header_read(at, r->store->log.store_id, &header)
           || header.segment != f->id || header.offset != offset
           || header.epoch != f->segment->header.epoch;
}

/* One past the last byte at or after `from` that is not zero; in a file that
 * had a life before, one past the last batch of this one. */
uint32_t recovery_data_end(struct recovery *r, const struct found_segment *f,
                           uint32_t from)
{
    uint32_t end = r->limit > from ? r->limit : from;
    struct batch batch;

    if (f->segment->header_lost || f->segment->header.recycled) {
        for (end = from; recovery_find_batch(r, end, &batch);) {
            end = batch.header.offset + batch.header.len;
        }
        return end;
    }
    while (end > from && r->memory[end - 1] == 0) {
        end--;
    }
    return end;
}
