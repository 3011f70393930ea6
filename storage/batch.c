#include "storage/batch.h"

#include "storage/checksum.h"
#include "storage/record.h"

/* Where each field of the header stands; FORMAT.md says the same in prose. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_KIND = 12,
    AT_SHARD = 16,
    AT_SEGMENT = 20,
    AT_TERM = 24,
    AT_EPOCH = 32,
    AT_NUMBER = 40,
    AT_OFFSET = 48,
    AT_LEN = 52,
    AT_RECORDS_LEN = 56,
    AT_RECORD_COUNT = 60,
    AT_INDEX_LEN = 64,
    AT_DURABLE = 72,
    AT_TIME = 80,
    AT_PREVIOUS = 88,
    AT_INDEX_HASH = 96,
    AT_RECORDS_HASH = 104,
    AT_HASH = 120
};

enum { WITHOUT_RECORDS_HASH = 1 }; /* version 1: read, not written any more */

static const uint64_t batch_magic = UINT64_C(0x3154414254574447); /* GDWTBAT1 */

void batch_header_write(uint8_t *at, struct batch_header *header, uint64_t seed)
{
    header->version = BATCH_VERSION;
    memset(at, 0, BATCH_HEADER_LEN);
    put_u64(at + AT_MAGIC, batch_magic);
    put_u32(at + AT_VERSION, header->version);
    put_u32(at + AT_KIND, header->kind);
    put_u32(at + AT_SEGMENT, header->segment);
    put_u64(at + AT_EPOCH, header->epoch);
    put_u64(at + AT_NUMBER, header->number);
    put_u32(at + AT_OFFSET, header->offset);
    put_u32(at + AT_LEN, header->len);
    put_u32(at + AT_RECORDS_LEN, header->records_len);
    put_u32(at + AT_RECORD_COUNT, header->record_count);
    put_u32(at + AT_INDEX_LEN, header->index_len);
    put_u64(at + AT_DURABLE, header->durable);
    put_u64(at + AT_TIME, header->time_us);
    put_u64(at + AT_PREVIOUS, header->previous);
    put_u64(at + AT_INDEX_HASH, header->index_hash);
    put_u64(at + AT_RECORDS_HASH, header->records_hash);
    header->hash = checksum_seeded(at, AT_HASH, seed);
    put_u64(at + AT_HASH, header->hash);
}

bool batch_may_begin(const uint8_t *at)
{
    return get_u64(at) == batch_magic;
}

static void decode(const uint8_t *at, struct batch_header *out)
{
    out->version = get_u32(at + AT_VERSION);
    out->kind = (enum batch_kind)get_u32(at + AT_KIND);
    out->segment = get_u32(at + AT_SEGMENT);
    out->offset = get_u32(at + AT_OFFSET);
    out->len = get_u32(at + AT_LEN);
    out->records_len = get_u32(at + AT_RECORDS_LEN);
    out->record_count = get_u32(at + AT_RECORD_COUNT);
    out->index_len = get_u32(at + AT_INDEX_LEN);
    out->epoch = get_u64(at + AT_EPOCH);
    out->number = get_u64(at + AT_NUMBER);
    out->durable = get_u64(at + AT_DURABLE);
    out->time_us = get_u64(at + AT_TIME);
    out->previous = get_u64(at + AT_PREVIOUS);
    out->index_hash = get_u64(at + AT_INDEX_HASH);
    out->records_hash = get_u64(at + AT_RECORDS_HASH);
    out->hash = get_u64(at + AT_HASH);
}

static bool version_known(uint32_t version)
{
    return version == WITHOUT_RECORDS_HASH || version == BATCH_VERSION;
}

/* The lengths add up and the batch ends within the segment. */
static bool lengths_fit(const struct batch_header *h, uint32_t limit)
{
    uint64_t sum = (uint64_t)BATCH_HEADER_LEN + h->records_len + h->index_len;

    if (h->len != sum || h->len % BATCH_ALIGN != 0 || h->len > limit - h->offset
        || h->records_len % RECORD_ALIGN != 0) {
        return false;
    }
    if (h->kind == BATCH_SEAL) {
        return h->len == BATCH_SEAL_LEN;
    }
    return (h->kind == BATCH_RECORDS
            || (h->kind == BATCH_MERGE && h->version > WITHOUT_RECORDS_HASH))
           && h->index_len >= BATCH_INDEX_HEAD_LEN;
}

static const uint8_t *index_of(const struct batch *batch)
{
    return batch->base + batch->header.offset + BATCH_HEADER_LEN
           + batch->header.records_len;
}

static enum status read_index(struct batch *batch, uint64_t seed)
{
    const struct batch_header *h = &batch->header;
    const uint8_t *index = index_of(batch);
    uint64_t need;

    if (checksum_seeded(index, h->index_len, seed) != h->index_hash) {
        return STATUS_CORRUPT;
    }
    batch->run_count = get_u32(index);
    batch->visit_count = get_u32(index + 4);
    need = BATCH_INDEX_HEAD_LEN + (uint64_t)batch->run_count * BATCH_RUN_LEN
           + (uint64_t)batch->visit_count * 4;
    return need <= h->index_len ? STATUS_OK : STATUS_CORRUPT;
}

bool batch_header_read(const uint8_t *at, uint64_t seed,
                       struct batch_header *out)
{
    if (!batch_may_begin(at) || !version_known(get_u32(at + AT_VERSION))
        || checksum_seeded(at, AT_HASH, seed) != get_u64(at + AT_HASH)) {
        return false;
    }
    decode(at, out);
    return true;
}

enum status batch_read_header(const struct batch_source *source,
                              uint32_t offset, struct batch *out)
{
    const uint8_t *at = source->base + offset;

    if (offset % BATCH_ALIGN != 0 || offset > source->limit
        || source->limit - offset < BATCH_HEADER_LEN
        || !batch_header_read(at, source->seed, &out->header)) {
        return STATUS_CORRUPT;
    }
    out->base = source->base;
    out->run_count = 0;
    out->visit_count = 0;
    out->index_lost = true;
    if (out->header.segment != source->segment || out->header.offset != offset
        || !lengths_fit(&out->header, source->limit)) {
        return STATUS_CORRUPT;
    }
    return STATUS_OK;
}

enum status batch_read(const struct batch_source *source, uint32_t offset,
                       struct batch *out)
{
    enum status status = batch_read_header(source, offset, out);

    if (status == STATUS_OK && out->header.kind != BATCH_SEAL) {
        status = read_index(out, source->seed);
    }
    out->index_lost = status != STATUS_OK;
    return status;
}

/* True when `count` entries of `len` bytes from `offset` on lie in the batch. */
static bool inside(const struct batch *batch, uint32_t offset, uint64_t len)
{
    uint32_t begin = batch->header.offset + BATCH_HEADER_LEN;
    uint64_t end = (uint64_t)batch->header.offset + batch->header.len;

    return offset >= begin && offset <= end && len <= end - offset;
}

enum status batch_run(const struct batch *batch, uint32_t i,
                      struct store_run *out)
{
    const uint8_t *at =
        index_of(batch) + BATCH_INDEX_HEAD_LEN + (size_t)i * BATCH_RUN_LEN;

    CHECK(i < batch->run_count);
    out->topic = get_u32(at);
    out->count = get_u32(at + 4);
    out->first_seq = get_u64(at + 8);
    out->table = get_u32(at + 16);
    out->segment = batch->header.segment;
    out->batch = batch->header.offset;
    if (out->topic == 0 || out->count == 0 || out->first_seq == 0
        || out->first_seq > UINT64_MAX - out->count
        || !inside(batch, out->table, (uint64_t)out->count * 4)) {
        return STATUS_CORRUPT;
    }
    return STATUS_OK;
}

struct slice batch_visit(const struct batch *batch, uint32_t i)
{
    const uint8_t *at = index_of(batch) + BATCH_INDEX_HEAD_LEN
                        + (size_t)batch->run_count * BATCH_RUN_LEN
                        + (size_t)i * 4;
    uint32_t offset = get_u32(at);
    uint32_t end =
        batch->header.offset + BATCH_HEADER_LEN + batch->header.records_len;

    CHECK(i < batch->visit_count);
    if (!inside(batch, offset, RECORD_HEADER_LEN) || offset > end) {
        return slice_of(NULL, 0);
    }
    return slice_of(batch->base + offset, end - offset);
}

bool batch_next(const struct batch *batch, uint32_t *at, struct slice *record)
{
    uint32_t begin = batch->header.offset + BATCH_HEADER_LEN;
    uint32_t end = begin + batch->header.records_len;
    uint32_t left;
    size_t size;

    if (*at == 0) {
        *at = begin;
    }
    if (*at >= end) {
        return false;
    }
    left = end - *at;
    size = left < RECORD_HEADER_LEN ? 0 : record_size_at(batch->base + *at);
    if (size < RECORD_HEADER_LEN || size > left) {
        *at = UINT32_MAX;
        return false;
    }
    *record = slice_of(batch->base + *at, size);
    *at += (uint32_t)size;
    return true;
}

struct records_walk {
    const struct batch *batch;
    uint32_t at;
    uint32_t count;
};

static bool next_hash(void *arg, uint64_t *hash)
{
    struct records_walk *walk = arg;
    struct slice record;

    if (!batch_next(walk->batch, &walk->at, &record)) {
        return false;
    }
    walk->count++;
    *hash = record_hash_at(record.at);
    return true;
}

uint64_t batch_records_hash(const struct batch *batch, uint64_t seed)
{
    struct records_walk walk = { .batch = batch };

    return checksum_numbers(next_hash, &walk, seed);
}

bool batch_vouches_for_records(const struct batch *batch, uint64_t seed)
{
    const struct batch_header *h = &batch->header;
    struct records_walk walk = { .batch = batch };

    if (h->version == WITHOUT_RECORDS_HASH || h->kind == BATCH_SEAL) {
        return true;
    }
    return checksum_numbers(next_hash, &walk, seed) == h->records_hash
           && walk.at != UINT32_MAX && walk.count == h->record_count;
}

bool batch_whole(const struct batch *batch, uint64_t seed)
{
    struct record record;
    struct slice bytes;
    uint32_t count = 0;
    uint32_t at = 0;

    while (batch_next(batch, &at, &bytes)) {
        if (record_read(bytes, &record) != STATUS_OK) {
            return false;
        }
        count++;
    }
    return at != UINT32_MAX && count == batch->header.record_count
           && batch_vouches_for_records(batch, seed);
}
