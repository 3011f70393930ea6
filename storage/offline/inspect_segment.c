/* One segment of the log, read past the page cache into memory that is given
 * back behind what is being looked at; and of the last one what was durable,
 * what is doubtful and what is torn. */
#include "storage/offline/inspect_impl.h"

#include "proto/limits.h"
#include "storage/io.h"

#include <errno.h>
#include <sys/mman.h>

enum { LOAD_CHUNK_LEN = 1024 * 1024 };

/* ---- a segment's bytes ---- */

void inspect_unload(struct inspect_pass *p)
{
    if (p->memory != NULL) {
        munmap(p->memory, p->memory_len);
    }
    p->memory = NULL;
}

/* Room for the whole segment, and nothing in it yet. */
static enum status make_room(struct inspect_pass *p, uint32_t limit,
                             struct error *err)
{
    void *memory;

    inspect_unload(p);
    p->memory_len = (size_t)limit + BLOCK_LEN;
    memory = mmap(NULL, p->memory_len, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return error_set(err, STATUS_NOMEM, errno, "memory for a segment");
    }
    p->memory = memory;
    p->loaded = p->forgotten = p->data_end = 0;
    p->unread = false;
    p->limit = limit;
    return STATUS_OK;
}

/* Where what was just read is not zeros any more, counted from the back. */
static void note_data(struct inspect_pass *p, uint32_t at, size_t len)
{
    while (len > 0 && p->memory[at + len - 1] == 0) {
        len--;
    }
    if (len > 0) {
        p->data_end = at + (uint32_t)len;
    }
}

static void load(struct inspect_pass *p, bool quiet)
{
    struct inspect *inspect = p->inspect;
    uint32_t at = p->loaded;
    uint32_t left = p->limit - at;
    uint32_t len = left < LOAD_CHUNK_LEN ? left : LOAD_CHUNK_LEN;
    ssize_t have;

    if (p->file->header.id != p->cached) {
        (void)inspect->vfs.drop_cache(&inspect->vfs, p->file->fd, (off_t)at,
                                      (off_t)len);
    }
    have = io_read(&inspect->vfs, p->file->fd, p->memory + at, len, (off_t)at);
    if (have < 0 && !quiet) {
        inspect_damage(p,
                       &(struct store_damage) { .kind = DAMAGE_READ,
                                                .segment = p->file->header.id,
                                                .offset = at,
                                                .len = len });
    }
    p->unread = p->unread || have < 0;
    note_data(p, at, len);
    p->loaded += len;
    if (!quiet) {
        p->totals->bytes += len;
    }
}

static void forget_done(struct inspect_pass *p, uint32_t done)
{
    done &= ~(uint32_t)(BLOCK_LEN - 1);
    if (done > p->forgotten) {
        (void)madvise(p->memory + p->forgotten, done - p->forgotten,
                      MADV_DONTNEED);
        p->forgotten = done;
    }
}

static struct examine begin(const struct inspect_pass *p,
                            const struct examine_visitor *visitor, uint32_t end)
{
    return (struct examine) {
        .source = { p->memory, end, p->file->header.id, p->log->store_id },
        .epoch = p->file->header_lost ? 0 : p->file->header.epoch,
        .visitor = visitor,
        .at = SEGMENT_BEGIN,
    };
}

/* Examine up to e->source.limit. */
static void run(struct inspect_pass *p, struct examine *e, bool quiet)
{
    while (p->status == STATUS_OK) {
        e->loaded = p->loaded < e->source.limit ? p->loaded : e->source.limit;
        switch (examine_next(e)) {
        case EXAMINE_BATCH:
            break;
        case EXAMINE_MORE:
            forget_done(p, e->seeked);
            load(p, quiet);
            break;
        case EXAMINE_END:
            return;
        }
    }
}

/* ---- the last segment ---- */

static void on_tide(void *arg, const struct batch *batch)
{
    struct tide *tide = arg;
    uint64_t durable = batch->header.durable;

    tide->any = true;
    if (place_segment(durable) == tide->segment
        && place_offset(durable) <= batch->header.offset
        && place_offset(durable) > tide->durable) {
        tide->durable = place_offset(durable);
    }
}

enum status inspect_tide(struct inspect_pass *p, uint32_t limit,
                         struct tide *tide, struct error *err)
{
    struct examine_visitor visitor = { .batch = on_tide, .arg = tide };
    struct examine e;
    enum status status = make_room(p, limit, err);

    *tide = (struct tide) { .segment = p->file->header.id,
                            .durable = SEGMENT_BEGIN };
    if (status != STATUS_OK) {
        return status;
    }
    if (!p->file->header_lost && p->file->header.synced_end > tide->durable) {
        tide->durable = p->file->header.synced_end;
    }
    if (place_segment(p->place) == tide->segment
        && place_offset(p->place) > tide->durable) {
        tide->durable = place_offset(p->place);
    }
    e = begin(p, &visitor, limit);
    run(p, &e, true);
    while (p->loaded < p->limit) {
        forget_done(p, p->loaded);
        load(p, true);
    }
    p->cached = p->file->header.id;
    if (tide->durable > limit) { /* the file was cut */
        tide->durable = limit;
    }
    return p->status;
}

static void have(struct inspect_pass *p, uint32_t end)
{
    while (p->loaded < end && p->loaded < p->limit) {
        load(p, false);
    }
}

/* A batch of this life of the segment. */
static bool header_at(const struct inspect_pass *p, const struct examine *e,
                      uint32_t at, struct batch *out)
{
    struct batch_source source = e->source;

    source.limit = p->limit;
    return (uint64_t)at + BATCH_HEADER_LEN <= p->limit
           && batch_may_begin(p->memory + at)
           && batch_read_header(&source, at, out) == STATUS_OK
           && (e->epoch == 0 || out->header.epoch == e->epoch);
}

/* Whole in every part: the next start keeps it. */
static bool whole_at(struct inspect_pass *p, const struct examine *e,
                     uint32_t at, struct batch *out)
{
    struct batch_source source = e->source;

    have(p, at + BATCH_HEADER_LEN);
    if (!header_at(p, e, at, out)) {
        return false;
    }
    have(p, at + out->header.len);
    source.limit = p->limit;
    return batch_read(&source, at, out) == STATUS_OK
           && batch_whole(out, source.seed);
}

/* A header that is damaged says nothing, and what stands behind it in a file
 * that had a life before may be of that. Whole records that are younger than
 * the last batch are of this one. */
static uint32_t young_records_end(struct inspect_pass *p, uint32_t from)
{
    uint64_t at = (uint64_t)from + BATCH_HEADER_LEN;
    struct record record;

    forget_done(p, from);
    while (at < p->limit) {
        have(p, (uint32_t)at + BATCH_LEN_MAX);
        if (record_read(slice_of(p->memory + at, p->limit - at), &record)
                != STATUS_OK
            || record.time_us < p->newest_us) {
            break;
        }
        from = (uint32_t)(at + record_size(record.body.len));
        at = from;
    }
    return from < p->limit ? from : p->limit;
}

/* Behind the first that is not whole the next start cuts. */
static void count_torn(struct inspect_pass *p, const struct examine *e,
                       uint32_t from, uint32_t data_end)
{
    bool reused = p->file->header_lost || p->file->header.recycled;
    uint32_t end = reused ? young_records_end(p, from) : from;
    struct batch batch;

    for (uint64_t at = from; at + BATCH_HEADER_LEN <= p->limit;) {
        forget_done(p, (uint32_t)at);
        have(p, (uint32_t)at + BATCH_HEADER_LEN);
        if (header_at(p, e, (uint32_t)at, &batch)) {
            p->totals->torn_batches++;
            at += batch.header.len;
            end = (uint32_t)at;
        } else {
            at += BATCH_ALIGN;
        }
    }
    if (!reused) {
        end = data_end > from ? data_end : from;
    }
    p->totals->torn_bytes += end - from;
}

enum status inspect_last(struct inspect_pass *p, uint32_t limit,
                         struct error *err)
{
    struct examine e;
    struct batch batch;
    struct tide tide;
    uint32_t data_end;
    enum status status = inspect_tide(p, limit, &tide, err);

    data_end = p->data_end;
    if (status == STATUS_OK) {
        status = make_room(p, limit, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    e = begin(p, &p->examined, tide.durable);
    e.last = p->last;
    e.unsealed = p->unsealed;
    have(p, BLOCK_LEN);
    examine_head(&e, p->memory);
    run(p, &e, false);
    while (p->status == STATUS_OK && !e.sealed
           && whole_at(p, &e, e.at, &batch)) {
        e.source.limit = e.at + batch.header.len;
        p->totals->doubtful_batches += batch.header.kind != BATCH_SEAL;
        run(p, &e, false);
    }
    p->totals->lost_batches += e.lost;
    p->segment.end = e.at;
    p->segment.sealed = e.sealed;
    if (p->status == STATUS_OK && !e.sealed) {
        count_torn(p, &e, e.at, data_end);
    }
    return p->status;
}

/* ---- the others ---- */

/* A segment with others behind it: all in it was durable. */
enum status inspect_durable(struct inspect_pass *p, uint32_t limit,
                            struct error *err)
{
    enum status status = make_room(p, limit, err);
    struct examine e;

    if (status != STATUS_OK) {
        return status;
    }
    e = begin(p, &p->examined, limit);
    e.last = p->last;
    e.unsealed = p->unsealed;
    load(p, false);
    examine_head(&e, p->memory);
    run(p, &e, false);
    p->last = e.last;
    p->unsealed = e.unsealed;
    p->totals->lost_batches += e.lost;
    p->segment.end = e.at;
    p->segment.sealed = e.sealed;
    return p->status;
}
