/* One segment at a time in memory of our own, from where it is wanted to where
 * it ends, past the page cache.
 *
 * A segment is prepared as long as it may get, so most of the last one is what
 * was never written. Where that begins is not known before it is read; but the
 * batches follow each other without gaps, and no more than two of them wait for
 * a sync at any time. So behind BLANK_LEN bytes with nothing in them the log
 * has ended, whatever a power cut has lost. A disk may lose more than that:
 * where zeros were written when the file was made, a look every PROBE_STEP at
 * what should still be zeros finds what stands behind such a hole. A file with
 * an earlier life shows no such difference; there the blank must be longer. */
#include "storage/recovery.h"

#include "storage/io.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    READ_STEP_LEN = 1024 * 1024,
    DROP_STEP_LEN =
        16 * READ_STEP_LEN, /* forgotten by the page cache at once */
    BLANK_LEN = 3 * BATCH_LEN_MAX,
    RECYCLED_BLANK_LEN = 8 * BATCH_LEN_MAX,
    PROBE_STEP = BATCH_LEN_MAX,
    PROBE_LEN = BLOCK_LEN
};

/* ---- reading ---- */

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

static enum status reserve(struct recovery *r, const struct found_segment *f,
                           uint32_t file_len, struct error *err)
{
    void *memory;

    r->memory_len = (size_t)file_len + BLOCK_LEN;
    memory = mmap(NULL, r->memory_len, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return error_set(err, STATUS_NOMEM, errno, "segment %u: memory", f->id);
    }
    r->memory = memory;
    r->memory_id = f->id;
    r->memory_epoch = f->segment->header_lost ? 0 : f->segment->header.epoch;
    return STATUS_OK;
}

static enum status read_at(struct recovery *r, const struct found_segment *f,
                           uint32_t at, size_t len, void *into,
                           struct error *err)
{
    ssize_t have = io_read(r->store->vfs, f->segment->fd, into, len, (off_t)at);

    if (have < 0) {
        return error_set(err, STATUS_IO, errno, "segment %u: read at %u", f->id,
                         at);
    }
    memset((uint8_t *)into + have, 0, len - (size_t)have); /* it got shorter */
    return STATUS_OK;
}

/* Where the reading of a segment has come to. */
struct reading {
    const struct found_segment *f;
    uint32_t file_len;
    uint32_t at;      /* read up to here */
    uint32_t dropped; /* the page cache has forgotten up to here */
    uint32_t zeros;   /* nothing but zeros from here on, as far as was read */
    uint32_t found;   /* behind the last batch found */
    uint32_t looked;  /* for batches, up to here */
    uint8_t *step;    /* READ_STEP_LEN bytes */
    bool whole;       /* to its end, whatever comes */
    bool sealed;
};

/* What is to be kept goes into memory. Zeros are there already; left alone they
 * take no memory, and no time for the kernel to find some. */
static void keep_step(struct recovery *r, struct reading *reading, uint32_t len)
{
    uint32_t at = reading->at;

    reading->at += len;
    r->limit = reading->at;
    if (!recovery_all_zero(reading->step, len)) {
        memcpy(r->memory + at, reading->step, len);
        reading->zeros = reading->at;
    } else if (reading->looked >= at && reading->looked < reading->at) {
        reading->looked = reading->at;
    }
}

static enum status read_step(struct recovery *r, struct reading *reading,
                             struct error *err)
{
    uint32_t left = reading->file_len - reading->at;
    uint32_t len = left < READ_STEP_LEN ? left : READ_STEP_LEN;
    enum status status;

    if (reading->at >= reading->dropped) {
        (void)r->store->vfs->drop_cache(
            r->store->vfs, reading->f->segment->fd, (off_t)reading->at,
            left < DROP_STEP_LEN ? (off_t)left : DROP_STEP_LEN);
        reading->dropped = reading->at + DROP_STEP_LEN;
    }
    status = read_at(r, reading->f, reading->at, len, reading->step, err);
    if (status == STATUS_OK) {
        keep_step(r, reading, len);
    }
    return status;
}

/* Step over the batches in what was read. A header is enough: its batch may end
 * in what is read next. */
static void step_over(struct recovery *r, struct reading *reading)
{
    struct batch_header header;
    uint64_t at = reading->looked;

    while (!reading->sealed && at + BATCH_HEADER_LEN <= r->limit) {
        if (batch_may_begin(r->memory + at)
            && batch_header_read(r->memory + at, r->store->log.store_id,
                                 &header)
            && header.segment == r->memory_id && header.offset == at
            && header.len >= BATCH_HEADER_LEN && header.len <= BATCH_LEN_MAX
            && (r->memory_epoch == 0 || header.epoch == r->memory_epoch)) {
            reading->sealed = header.kind == BATCH_SEAL;
            at += header.len;
            reading->found = (uint32_t)at;
        } else {
            at += BATCH_ALIGN;
        }
    }
    reading->looked = (uint32_t)at;
}

/* Does anything stand in what was not read yet? */
static enum status probe(struct recovery *r, const struct reading *reading,
                         bool *anything, struct error *err)
{
    uint8_t block[PROBE_LEN];
    const struct vfs *vfs = r->store->vfs;

    *anything = false;
    for (uint64_t at = reading->at;
         at + PROBE_LEN <= reading->file_len && !*anything; at += PROBE_STEP) {
        enum status status;
        (void)vfs->drop_cache(vfs, reading->f->segment->fd, (off_t)at,
                              PROBE_LEN);
        status = read_at(r, reading->f, (uint32_t)at, sizeof block, block, err);
        if (status != STATUS_OK) {
            return status;
        }
        *anything = !recovery_all_zero(block, sizeof block);
    }
    return STATUS_OK;
}

/* Has the log ended? */
static enum status look_for_end(struct recovery *r, struct reading *reading,
                                bool *ended, struct error *err)
{
    bool recycled = reading->f->segment->header.recycled;
    uint32_t last = reading->found;
    bool anything;
    enum status status;

    if (!recycled && reading->zeros > last) {
        last = reading->zeros;
    }
    *ended = false;
    if (reading->whole || reading->at < last
        || reading->at - last < (recycled ? RECYCLED_BLANK_LEN : BLANK_LEN)) {
        return STATUS_OK;
    }
    if (recycled) {
        *ended = true;
        return STATUS_OK;
    }
    status = probe(r, reading, &anything, err);
    reading->whole = anything;
    *ended = !anything;
    return status;
}

/* What is known to be nothing need not be searched. */
static void leave_zeros(struct recovery *r, const struct reading *reading)
{
    uint32_t end =
        reading->zeros > reading->found ? reading->zeros : reading->found;

    r->limit = end < reading->at ? end : reading->at;
}

static enum status read_from(struct recovery *r, struct reading *reading,
                             struct error *err)
{
    bool ended = false;
    enum status status = STATUS_OK;

    reading->step = malloc(READ_STEP_LEN);
    if (reading->step == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "segment %u: read",
                         reading->f->id);
    }
    while (status == STATUS_OK && !ended && !reading->sealed
           && reading->at < reading->file_len) {
        status = read_step(r, reading, err);
        if (status == STATUS_OK) {
            step_over(r, reading);
            status = look_for_end(r, reading, &ended, err);
        }
    }
    free(reading->step);
    leave_zeros(r, reading);
    return status;
}

enum status recovery_load(struct recovery *r, const struct found_segment *f,
                          uint32_t from, bool whole, struct error *err)
{
    enum status status;
    struct reading reading = {
        .f = f,
        .file_len = f->file_len > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX
                                                  : (uint32_t)f->file_len,
        .found = from,
        .looked = from,
        .whole = whole || f->whole || f->segment->header_lost,
    };

    if (r->memory_id == f->id && r->memory_from == from
        && (r->memory_whole || !reading.whole)) {
        return STATUS_OK;
    }
    recovery_unload(r);
    reading.at = from - from % BLOCK_LEN;
    reading.at = reading.at < reading.file_len ? reading.at : reading.file_len;
    r->limit = reading.at;
    r->memory_from = from;
    r->memory_whole = reading.whole;
    status = segment_hold(f->segment, &r->store->log, err);
    if (status == STATUS_OK) {
        status = reserve(r, f, reading.file_len, err);
    }
    if (status == STATUS_OK) {
        status = read_from(r, &reading, err);
    }
    segment_let_go(f->segment, &r->store->log);
    if (status != STATUS_OK) {
        recovery_unload(r);
    }
    return status;
}

/* ---- what stands there ---- */

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
