/* What the segments hold past the keydir's place, taken note of batch by batch;
 * in the last one the durable is told from the doubtful and the torn. */
#include "storage/recovery.h"

#include <stdlib.h>

/* ---- replay ---- */

static void damage(struct recovery *r, uint64_t bytes)
{
    r->out->damaged_batches++;
    r->out->damaged_bytes += bytes;
}

static enum status apply(struct recovery *r, struct batch *batch,
                         struct error *err)
{
    struct store *store = r->store;
    struct batch_source source = recovery_source(r);
    enum status status;
    bool vouched = batch_vouches_for_records(batch, r->store->log.store_id);
    uint64_t lost = 0;

    if (batch_read(&source, batch->header.offset, batch) != STATUS_OK) {
        r->out->damaged_bytes += batch->header.index_len;
    }
    status = keeper_apply_batch(store, batch, TRUST_NOTHING, &lost);
    if (status == STATUS_AGAIN) {
        status = keeper_checkpoint(store, CHECKPOINT_NOTES, err);
        if (status == STATUS_OK) {
            status = keeper_apply_batch(store, batch, TRUST_NOTHING, &lost);
        }
    }
    if (status != STATUS_OK) {
        return error_set(err, status, 0, "segment %u: batch at %u: replay",
                         r->memory_id, batch->header.offset);
    }
    if (!vouched && lost == 0) {
        /* Each is whole by itself, and yet one of another time is among them:
         * the disk has lost a write. What is said in any of them was so once,
         * and messages are looked for by their seq: they are used. */
        damage(r, RECORD_HEADER_LEN);
    }
    r->out->damaged_bytes += lost;
    r->out->replayed_bytes += batch->header.len;
    r->out->replayed_records += batch->header.record_count;
    return STATUS_OK;
}

/* Where the segment at index `i` ends when the next one was made by a recovery,
 * else 0. */
static uint32_t fixed_end(const struct recovery *r, size_t i)
{
    for (size_t next = i + 1; next < r->found_count; next++) {
        const struct segment *segment = r->found[next].segment;
        if (segment != NULL) {
            uint64_t end = segment->header.previous_end;
            return place_segment(end) == r->found[i].id ? place_offset(end) : 0;
        }
    }
    return 0;
}

static void progress(struct recovery *r, uint64_t bytes)
{
    r->done_bytes += bytes;
    if (r->config->progress != NULL) {
        r->config->progress(r->config->progress_arg, r->done_bytes,
                            r->total_bytes);
    }
}

void recovery_set_end(struct found_segment *f, uint32_t end)
{
    atomic_store(&f->segment->end, end);
}

/* A segment with others after it: all that was in it was durable. */
static enum status replay_durable(struct recovery *r, size_t i, uint32_t from,
                                  struct error *err)
{
    uint32_t end = fixed_end(r, i);
    struct batch batch = { 0 };
    uint32_t at = from;

    if (end != 0 && end < r->limit) {
        r->limit = end;
    }
    while (recovery_find_batch(r, at, &batch)) {
        enum status status;
        if (batch.header.offset != at) {
            damage(r, batch.header.offset - at);
        }
        at = batch.header.offset + batch.header.len;
        if (batch.header.kind == BATCH_SEAL) {
            recovery_set_end(&r->found[i], at);
            return STATUS_OK;
        }
        status = apply(r, &batch, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (end == 0) { /* the seal at least is lost */
        uint32_t last = recovery_data_end(r, &r->found[i], at);
        /* Or the segment behind it said where it ends, and is removed. */
        if (last > at
            || !seqset_has(&r->store->gone, (uint64_t)r->found[i].id + 1)) {
            damage(r, last > at ? last - at : BATCH_SEAL_LEN);
        }
    } else if (at < end) {
        damage(r, end - at);
    }
    recovery_set_end(&r->found[i], at);
    return STATUS_OK;
}

/* ---- the last segment ---- */

static enum status note_batch(struct recovery *r, const struct batch *batch,
                              bool whole)
{
    if (r->batch_count == r->batch_capacity) {
        size_t capacity = r->batch_capacity == 0 ? 256 : r->batch_capacity * 2;
        void *batches = realloc(r->batches, capacity * sizeof *r->batches);
        if (batches == NULL) {
            return STATUS_NOMEM;
        }
        r->batches = batches;
        r->batch_capacity = capacity;
    }
    r->batches[r->batch_count++] =
        (struct found_batch) { batch->header.offset, batch->header.len, whole };
    return STATUS_OK;
}

/* Collect its batches, and what they say was durable. */
static enum status survey(struct recovery *r, uint32_t from,
                          uint64_t *watermark, struct error *err)
{
    struct batch batch = { 0 };
    uint32_t at = from;

    r->batch_count = 0;
    while (recovery_find_batch(r, at, &batch)) {
        struct batch whole;
        bool good = recovery_batch_at(r, batch.header.offset, true, &whole)
                    && batch_whole(&whole, r->store->log.store_id);
        if (batch.header.durable > *watermark
            && batch.header.durable
                   <= place_of(r->memory_id, batch.header.offset)) {
            *watermark = batch.header.durable;
        }
        if (batch.header.kind == BATCH_SEAL) {
            break;
        }
        if (note_batch(r, &batch, good) != STATUS_OK) {
            return error_set(err, STATUS_NOMEM, 0, "segment %u: survey",
                             r->memory_id);
        }
        at = batch.header.offset + batch.header.len;
    }
    return STATUS_OK;
}

/* A batch never ends within a chain; one that does, by whatever mistake, is not
 * written again as long as the rest of the chain is not there. */
static bool breaks_chain(struct recovery *r, const struct found_batch *found)
{
    struct batch batch;
    struct slice record;
    uint32_t at = 0;
    bool more = false;

    if (!recovery_batch_at(r, found->offset, true, &batch)
        || batch.header.kind != BATCH_RECORDS) {
        return false;
    }
    while (batch_next(&batch, &at, &record)) {
        more = record.at[4] == RECORD_MESSAGE
               && (record_flags_at(record.at) & RECORD_MORE) != 0;
    }
    return more;
}

/* Apply what was durable; find the doubtful batches that stand whole, one
 * behind the other, right after it. */
static enum status replay_last(struct recovery *r, uint32_t from,
                               uint64_t watermark, struct tail *tail,
                               struct error *err)
{
    uint32_t durable = place_offset(watermark);
    uint32_t at = from;
    size_t i = 0;

    for (; i < r->batch_count && r->batches[i].offset < durable; i++) {
        struct batch batch;
        enum status status;
        if (r->batches[i].offset != at) {
            damage(r, r->batches[i].offset - at);
        }
        at = r->batches[i].offset + r->batches[i].len;
        CHECK(recovery_batch_at(r, r->batches[i].offset, false, &batch));
        status = apply(r, &batch, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (at < durable) {
        damage(r, durable - at);
        at = durable;
    }
    *tail = (struct tail) { .first = i, .stop = i, .end = at };
    while (i < r->batch_count && r->batches[i].offset == at
           && r->batches[i].whole) {
        at += r->batches[i].len;
        tail->len += r->batches[i].len;
        tail->stop = ++i;
    }
    while (i > tail->first && breaks_chain(r, &r->batches[i - 1])) {
        tail->stop = --i;
        at -= r->batches[i].len;
        tail->len -= r->batches[i].len;
    }
    tail->keep = at;
    r->out->torn_batches += r->batch_count - i;
    r->out->torn_bytes += recovery_data_end(r, &r->found[r->last], at) - at;
    return STATUS_OK;
}

/* Segments before the replay's start end with their file, or where a later
 * header says. */
void recovery_end_covered(struct recovery *r, size_t i)
{
    struct found_segment *f = &r->found[i];
    uint32_t end = fixed_end(r, i);

    if (f->segment == NULL) {
        return;
    }
    if (end == 0 || end > f->file_len) {
        end = f->file_len > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX
                                            : (uint32_t)f->file_len;
    }
    recovery_set_end(f, end);
}

static void count_total(struct recovery *r, uint64_t place)
{
    for (size_t i = 0; i < r->found_count; i++) {
        if (r->found[i].id >= place_segment(place)) {
            r->total_bytes += r->found[i].file_len;
        }
    }
}

/* The log was durable up to the place of a snapshot. */
static uint64_t known_durable(struct recovery *r, const struct found_segment *f,
                              uint64_t watermark)
{
    if (place_segment(r->known) > f->id) {
        return place_of(f->id,
                        recovery_data_end(r, f, place_offset(watermark)));
    }
    return r->known > watermark ? r->known : watermark;
}

enum status recovery_replay(struct recovery *r, uint64_t place,
                            struct tail *tail, struct error *err)
{
    enum status status = STATUS_OK;

    count_total(r, place);
    for (size_t i = 0; i <= r->last && status == STATUS_OK; i++) {
        struct found_segment *f = &r->found[i];
        uint64_t watermark = place > place_of(f->id, SEGMENT_BEGIN)
                                 ? place
                                 : place_of(f->id, SEGMENT_BEGIN);
        uint32_t from = place_offset(watermark);

        if (f->id < place_segment(place) || f->segment == NULL) {
            recovery_end_covered(r, i);
            continue;
        }
        status = recovery_load(r, f, from, i < r->last, err);
        if (status != STATUS_OK) {
            break;
        }
        if (i < r->last) {
            status = replay_durable(r, i, from, err);
        } else {
            uint64_t synced = place_of(f->id, f->segment->header.synced_end);
            watermark = synced > watermark ? synced : watermark;
            watermark = known_durable(r, f, watermark);
            status = survey(r, from, &watermark, err);
            if (status == STATUS_OK) {
                status = replay_last(r, from, watermark, tail, err);
            }
            if (status == STATUS_OK) {
                recovery_set_end(f, tail->end);
            }
        }
        progress(r, f->file_len);
    }
    return status;
}
