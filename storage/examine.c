#include "storage/examine.h"

#include "storage/block.h"
#include "storage/checksum.h"
#include "storage/segment.h"

/* One batch while it is looked at. */
struct looking {
    struct examine *e;
    struct batch batch;
    uint32_t begin;   /* of the records */
    uint32_t end;     /* of the records */
    uint32_t damages; /* of single records */
    uint32_t count;
    bool quiet; /* only count: nothing is told */
};

static void tell(const struct examine *e, struct store_damage damage)
{
    if (e->visitor->damage != NULL) {
        damage.segment = e->source.segment;
        e->visitor->damage(e->visitor->arg, &damage);
    }
}

static void tell_record(struct looking *l, struct store_damage damage)
{
    l->damages++;
    if (!l->quiet) {
        tell(l->e, damage);
    }
}

void examine_head(const struct examine *e, const uint8_t *block)
{
    bool damaged = false;
    const uint8_t *fields = block_read(block, &damaged);

    if (fields == NULL || damaged) {
        tell(e,
             (struct store_damage) { .kind = DAMAGE_HEAD, .len = BLOCK_LEN });
    }
}

/* ---- what the index says of the records ---- */

static uint32_t table_entry(const struct batch *batch,
                            const struct store_run *run, uint32_t i)
{
    return get_u32(batch->base + run->table + (size_t)i * 4);
}

/* The first offset after `at` where the index has a record; the records' end
 * when there is none. */
static uint32_t indexed_after(const struct looking *l, uint32_t at)
{
    const struct batch *batch = &l->batch;
    uint32_t first = l->end;

    for (uint32_t i = 0; i < batch->run_count; i++) {
        struct store_run run;
        if (batch_run(batch, i, &run) != STATUS_OK) {
            continue;
        }
        for (uint32_t k = 0; k < run.count; k++) {
            uint32_t entry = table_entry(batch, &run, k);
            first = entry > at && entry < first ? entry : first;
        }
    }
    for (uint32_t i = 0; i < batch->visit_count; i++) {
        struct slice visit = batch_visit(batch, i);
        uint32_t entry =
            visit.at == NULL ? 0 : (uint32_t)(visit.at - batch->base);
        first = entry > at && entry < first ? entry : first;
    }
    return first;
}

/* Which message stands at `at`: of its own header nothing can be believed. */
static bool indexed_message(const struct batch *batch, uint32_t at,
                            uint32_t *topic, uint64_t *seq)
{
    for (uint32_t i = 0; i < batch->run_count; i++) {
        struct store_run run;
        if (batch_run(batch, i, &run) != STATUS_OK) {
            continue;
        }
        for (uint32_t k = 0; k < run.count; k++) {
            if (table_entry(batch, &run, k) == at) {
                *topic = run.topic;
                *seq = run.first_seq + k;
                return true;
            }
        }
    }
    return false;
}

static bool index_makes_sense(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->run_count; i++) {
        struct store_run run;
        if (batch_run(batch, i, &run) != STATUS_OK) {
            return false;
        }
    }
    for (uint32_t i = 0; i < batch->visit_count; i++) {
        if (batch_visit(batch, i).at == NULL) {
            return false;
        }
    }
    return true;
}

/* ---- records ---- */

static bool header_whole(const struct looking *l, uint32_t at)
{
    return l->end - at >= RECORD_HEADER_LEN
           && record_header_whole(l->batch.base + at);
}

/* Where the record after a damaged one begins. Its own length counts if its
 * header is whole, or if it leads to one that is; else the index helps; else
 * the rest of the batch cannot be read. */
static uint32_t after_damaged(const struct looking *l, uint32_t at)
{
    uint32_t indexed = indexed_after(l, at);
    size_t size = record_size_at(l->batch.base + at);
    uint32_t next;

    if (size < RECORD_HEADER_LEN || size > l->end - at) {
        return indexed;
    }
    next = at + (uint32_t)size;
    if (next > indexed) {
        return indexed;
    }
    return header_whole(l, at) || next == l->end || header_whole(l, next)
               ? next
               : indexed;
}

static uint32_t damaged_record(struct looking *l, uint32_t at)
{
    uint32_t left = l->end - at;
    uint32_t next = left < RECORD_HEADER_LEN ? l->end : after_damaged(l, at);
    struct store_damage damage = { .kind = DAMAGE_RECORD,
                                   .offset = at,
                                   .len = next - at };
    struct record record;

    if (left >= RECORD_HEADER_LEN && header_whole(l, at)) {
        record_fields_at(l->batch.base + at, &record);
        damage.topic = record.topic;
        damage.seq = record.seq;
        damage.kind =
            record.kind == RECORD_MESSAGE ? DAMAGE_MESSAGE : DAMAGE_RECORD;
    } else if (indexed_message(&l->batch, at, &damage.topic, &damage.seq)) {
        damage.kind = DAMAGE_MESSAGE;
    }
    tell_record(l, damage);
    return next;
}

/* The hashes fit, so what it says was written like this. */
static bool body_makes_sense(const struct record *record)
{
    return record->kind == RECORD_MESSAGE
               ? record->topic != 0 && record->seq != 0
               : record_body_whole(record);
}

/* No hash covers it. */
static void look_at_padding(struct looking *l, const struct record *record,
                            uint32_t at, uint32_t next)
{
    const uint8_t *end = record->body.at + record->body.len;
    const uint8_t *stop = l->batch.base + next;

    while (end < stop && *end == 0) {
        end++;
    }
    if (end < stop && !l->quiet) {
        tell(l->e, (struct store_damage) { .kind = DAMAGE_PADDING,
                                           .offset = at,
                                           .len = next - at,
                                           .topic = record->topic,
                                           .seq = record->seq });
    }
}

static uint32_t whole_record(struct looking *l, const struct record *record,
                             uint32_t at)
{
    const struct examine_visitor *visitor = l->e->visitor;
    uint32_t next = at + (uint32_t)record_size(record->body.len);

    l->count++;
    look_at_padding(l, record, at, next);
    if (!body_makes_sense(record)) {
        tell_record(l, (struct store_damage) { .kind = DAMAGE_RECORD,
                                               .offset = at,
                                               .len = next - at,
                                               .topic = record->topic,
                                               .seq = record->seq });
    } else if (!l->quiet && visitor->record != NULL) {
        visitor->record(visitor->arg, &l->batch, record, at);
    }
    return next;
}

static void walk_records(struct looking *l, bool quiet)
{
    uint32_t at = l->begin;

    l->quiet = quiet;
    l->count = l->damages = 0;
    while (at < l->end) {
        struct slice bytes = slice_of(l->batch.base + at, l->end - at);
        struct record record;
        if (record_read(bytes, &record) == STATUS_OK
            && record_size(record.body.len) <= bytes.len) {
            at = whole_record(l, &record, at);
        } else {
            at = damaged_record(l, at);
        }
    }
}

/* ---- a batch ---- */

/* When the header's hash of them fails, one of the records at least is damaged.
 * If each looks whole, something whole stands where it does not belong, and
 * none can be believed. */
static void look_at_records(struct looking *l)
{
    if (!batch_vouches_for_records(&l->batch, l->e->source.seed)) {
        walk_records(l, true);
        if (l->damages == 0) {
            tell(l->e, (struct store_damage) { .kind = DAMAGE_RECORD,
                                               .offset = l->begin,
                                               .len = l->end - l->begin });
            return;
        }
    }
    walk_records(l, false);
    if (l->damages == 0 && l->count != l->batch.header.record_count) {
        tell(l->e, (struct store_damage) { .kind = DAMAGE_RECORD,
                                           .offset = l->begin,
                                           .len = l->end - l->begin });
    }
}

static void look_at_index(struct looking *l)
{
    struct batch *batch = &l->batch;

    if (batch_read(&l->e->source, batch->header.offset, batch) == STATUS_OK
        && index_makes_sense(batch)) {
        return;
    }
    batch->index_lost = true;
    batch->run_count = batch->visit_count = 0;
    tell(l->e, (struct store_damage) { .kind = DAMAGE_INDEX,
                                       .offset = l->end,
                                       .len = batch->header.index_len });
}

static bool follows(const struct batch_header *h, const struct examine_link *l)
{
    return h->number == l->number + 1 && h->previous == l->hash;
}

/* Each header names the one before, so a batch that is gone without a trace, or
 * an older version of this place, shows here. A recovery that cut everything
 * behind a seal goes on from the batch before it. */
static void look_at_chain(struct examine *e, const struct batch_header *h,
                          bool after_damage)
{
    bool known = e->last.number != 0;
    bool good = follows(h, &e->last)
                || (h->offset == SEGMENT_BEGIN && follows(h, &e->unsealed));

    if (known && !good && h->number > e->last.number + 1) {
        e->lost += h->number - e->last.number - 1;
    }
    if (known && !good && (!after_damage || h->number <= e->last.number)) {
        tell(e, (struct store_damage) { .kind = DAMAGE_CHAIN,
                                        .offset = h->offset,
                                        .len = BATCH_HEADER_LEN });
    }
    e->last = (struct examine_link) { h->number, h->hash };
    if (h->kind != BATCH_SEAL) {
        e->unsealed = e->last;
    }
}

static void look_at_batch(struct examine *e, const struct batch *batch,
                          bool after_damage)
{
    const struct batch_header *h = &batch->header;
    struct looking l = { .e = e,
                         .batch = *batch,
                         .begin = h->offset + BATCH_HEADER_LEN,
                         .end = h->offset + BATCH_HEADER_LEN + h->records_len };

    look_at_chain(e, h, after_damage);
    e->epoch = h->epoch;
    if (h->kind == BATCH_SEAL) {
        e->sealed = true;
    } else {
        look_at_index(&l);
        look_at_records(&l);
    }
    if (e->visitor->batch != NULL) {
        e->visitor->batch(e->visitor->arg, &l.batch);
    }
    e->at = e->seeked = h->offset + h->len;
}

static bool batch_at(const struct examine *e, uint32_t at, struct batch *out)
{
    return batch_may_begin(e->source.base + at)
           && batch_read_header(&e->source, at, out) == STATUS_OK
           && (e->epoch == 0 || out->header.epoch == e->epoch);
}

static enum examine_step want(struct examine *e, uint32_t want)
{
    e->want = want;
    return EXAMINE_MORE;
}

/* No header of a batch fits in what is left. */
static enum examine_step at_end(struct examine *e)
{
    if (e->at < e->source.limit) {
        tell(e, (struct store_damage) { .kind = DAMAGE_BATCH,
                                        .offset = e->at,
                                        .len = e->source.limit - e->at });
    }
    e->at = e->seeked = e->source.limit;
    return EXAMINE_END;
}

enum examine_step examine_next(struct examine *e)
{
    struct batch batch;

    if (e->sealed) {
        return EXAMINE_END;
    }
    e->seeked = e->seeked < e->at ? e->at : e->seeked;
    for (;; e->seeked += BATCH_ALIGN) {
        uint64_t header_end = (uint64_t)e->seeked + BATCH_HEADER_LEN;
        if (header_end > e->source.limit) {
            return at_end(e);
        }
        if (header_end > e->loaded) {
            return want(e, (uint32_t)header_end);
        }
        if (batch_at(e, e->seeked, &batch)) {
            break;
        }
    }
    if (e->seeked + batch.header.len > e->loaded) {
        return want(e, e->seeked + batch.header.len);
    }
    if (e->seeked != e->at) {
        tell(e, (struct store_damage) { .kind = DAMAGE_BATCH,
                                        .offset = e->at,
                                        .len = e->seeked - e->at });
    }
    look_at_batch(e, &batch, e->seeked != e->at);
    return EXAMINE_BATCH;
}
