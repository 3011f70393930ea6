#include "storage/record.h"

#include "storage/checksum.h"

/* Where each field of the header stands; FORMAT.md says the same in prose. */
enum {
    AT_LEN = 0,
    AT_KIND = 4,
    AT_FLAGS = 5,
    AT_ZERO = 6,
    AT_TOPIC = 8,
    AT_APP = 12,
    AT_SEQ = 16,
    AT_TIME = 24,
    AT_PRODUCER = 32,
    AT_PRODUCER_SEQ = 40,
    AT_BODY_HASH = 48,
    AT_HEADER_HASH = 56
};

enum {
    RANGES_HEAD_LEN = 16,
    RANGE_LEN = 16,
    RETRIES_HEAD_LEN = 16,
    RETRY_LEN = 24,
    TRIM_LEN = 24,
    FACT_HEAD_LEN = 16
};

static size_t padded(size_t len)
{
    return (len + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

size_t record_size(size_t body_len)
{
    return padded(RECORD_HEADER_LEN + body_len);
}

void record_finish(uint8_t *at, const struct record *record)
{
    size_t len = RECORD_HEADER_LEN + record->body.len;

    CHECK(len <= UINT32_MAX - RECORD_ALIGN);
    put_u32(at + AT_LEN, (uint32_t)len);
    at[AT_KIND] = (uint8_t)record->kind;
    at[AT_FLAGS] = record->flags;
    put_u16(at + AT_ZERO, 0);
    put_u32(at + AT_TOPIC, record->topic);
    put_u32(at + AT_APP, record->app);
    put_u64(at + AT_SEQ, 0);
    put_u64(at + AT_TIME, 0);
    put_u64(at + AT_PRODUCER, record->producer);
    put_u64(at + AT_PRODUCER_SEQ, record->producer_seq);
    put_u64(at + AT_BODY_HASH,
            checksum(at + RECORD_HEADER_LEN, record->body.len));
    put_u64(at + AT_HEADER_HASH, 0);
    memset(at + len, 0, padded(len) - len);
}

void record_number(uint8_t *at, uint64_t seq, uint64_t time_us)
{
    put_u64(at + AT_SEQ, seq);
    put_u64(at + AT_TIME, time_us);
    put_u64(at + AT_HEADER_HASH, checksum(at, AT_HEADER_HASH));
}

size_t record_size_at(const uint8_t *at)
{
    return padded(get_u32(at + AT_LEN));
}

bool record_header_whole(const uint8_t *at)
{
    return checksum(at, RECORD_HEADER_LEN - sizeof(uint64_t))
           == record_hash_at(at);
}

uint64_t record_hash_at(const uint8_t *at)
{
    return get_u64(at + AT_HEADER_HASH);
}

uint64_t record_seq_at(const uint8_t *at)
{
    return get_u64(at + AT_SEQ);
}

uint8_t record_flags_at(const uint8_t *at)
{
    return at[AT_FLAGS];
}

void record_drop(uint8_t *at, uint8_t flag, uint64_t seq)
{
    at[AT_FLAGS] |= flag;
    put_u64(at + AT_SEQ, seq);
}

void record_fields_at(const uint8_t *at, struct record *out)
{
    out->kind = (enum record_kind)at[AT_KIND];
    out->flags = at[AT_FLAGS];
    out->topic = get_u32(at + AT_TOPIC);
    out->app = get_u32(at + AT_APP);
    out->seq = get_u64(at + AT_SEQ);
    out->time_us = get_u64(at + AT_TIME);
    out->producer = get_u64(at + AT_PRODUCER);
    out->producer_seq = get_u64(at + AT_PRODUCER_SEQ);
    out->body = slice_of(at + RECORD_HEADER_LEN,
                         get_u32(at + AT_LEN) - (size_t)RECORD_HEADER_LEN);
}

enum status record_read(struct slice from, struct record *out)
{
    const uint8_t *at = from.at;
    size_t len;

    if (from.len < RECORD_HEADER_LEN) {
        return STATUS_CORRUPT;
    }
    len = get_u32(at + AT_LEN);
    if (len < RECORD_HEADER_LEN || len > from.len
        || checksum(at, AT_HEADER_HASH) != get_u64(at + AT_HEADER_HASH)
        || at[AT_KIND] < RECORD_MESSAGE || at[AT_KIND] > RECORD_TRIM
        || checksum(at + RECORD_HEADER_LEN, len - RECORD_HEADER_LEN)
               != get_u64(at + AT_BODY_HASH)) {
        return STATUS_CORRUPT;
    }
    record_fields_at(at, out);
    return STATUS_OK;
}

/* ---- bodies ---- */

/* Room for the whole body first, so that a failure appends nothing. */
static enum status begin_body(struct bytes *to, size_t len)
{
    return bytes_reserve(to, len, SIZE_MAX / 2);
}

enum status record_ranges_write(struct bytes *to,
                                const struct record_ranges *ranges)
{
    struct writer w = { to, STATUS_OK };
    enum status status;

    CHECK(ranges->count <= RECORD_RANGES_MAX);
    status = begin_body(to, RANGES_HEAD_LEN + ranges->count * RANGE_LEN);
    if (status != STATUS_OK) {
        return status;
    }
    writer_u32(&w, ranges->group);
    writer_u32(&w, ranges->topic);
    writer_u32(&w, (uint32_t)ranges->count);
    writer_u32(&w, 0);
    for (size_t i = 0; i < ranges->count; i++) {
        writer_u64(&w, ranges->ranges[i].first);
        writer_u64(&w, ranges->ranges[i].last);
    }
    return w.status;
}

enum status record_retries_write(struct bytes *to,
                                 const struct record_retries *r)
{
    struct writer w = { to, STATUS_OK };
    enum status status;

    CHECK(r->count <= RECORD_RETRIES_MAX);
    status = begin_body(to, RETRIES_HEAD_LEN + r->count * RETRY_LEN);
    if (status != STATUS_OK) {
        return status;
    }
    writer_u32(&w, r->group);
    writer_u32(&w, r->topic);
    writer_u32(&w, (uint32_t)r->count);
    writer_u32(&w, 0);
    for (size_t i = 0; i < r->count; i++) {
        writer_u64(&w, r->retries[i].seq);
        writer_u64(&w, r->retries[i].due_us);
        writer_u32(&w, r->retries[i].attempts);
        writer_u32(&w, 0);
    }
    return w.status;
}

enum status record_fact_write(struct bytes *to, const struct record_fact *fact)
{
    struct writer w = { to, STATUS_OK };
    enum status status;

    CHECK(fact->class >= CATALOG_APP && fact->class <= CATALOG_GROUP);
    CHECK(fact->name.len <= UINT32_MAX && fact->value.len <= UINT32_MAX);
    status = begin_body(to, FACT_HEAD_LEN + fact->name.len + fact->value.len);
    if (status != STATUS_OK) {
        return status;
    }
    writer_u8(&w, (uint8_t)fact->class);
    writer_u8(&w, fact->deleted ? 1 : 0);
    writer_u16(&w, 0);
    writer_u32(&w, fact->id);
    writer_u32(&w, (uint32_t)fact->name.len);
    writer_u32(&w, (uint32_t)fact->value.len);
    writer_slice(&w, fact->name);
    writer_slice(&w, fact->value);
    return w.status;
}

enum status record_trim_write(struct bytes *to, const struct record_trim *trim)
{
    struct writer w = { to, STATUS_OK };
    enum status status = begin_body(to, TRIM_LEN);

    if (status != STATUS_OK) {
        return status;
    }
    writer_u32(&w, trim->topic);
    writer_u32(&w, 0);
    writer_u64(&w, trim->first_seq);
    writer_u64(&w, trim->floor_seq);
    return w.status;
}

/* The head that ranges and retries share; the rest must be exactly `count`
 * entries of entry_len bytes. */
static enum status read_head(struct reader *r, size_t entry_len,
                             size_t count_max, uint32_t *group, uint32_t *topic,
                             size_t *count)
{
    *group = reader_u32(r);
    *topic = reader_u32(r);
    *count = reader_u32(r);
    (void)reader_u32(r);
    if (r->failed || *count > count_max
        || (size_t)(r->end - r->at) != *count * entry_len) {
        return STATUS_CORRUPT;
    }
    return STATUS_OK;
}

enum status ranges_read(struct slice body, struct ranges_reader *out)
{
    struct ranges_reader walk;

    out->reader = reader_of(body);
    if (read_head(&out->reader, RANGE_LEN, RECORD_RANGES_MAX, &out->group,
                  &out->topic, &out->count)
        != STATUS_OK) {
        return STATUS_CORRUPT;
    }
    walk = *out;
    for (size_t i = 0; i < walk.count; i++) {
        struct seq_range range = ranges_next(&walk);
        if (range.first == 0 || range.last < range.first
            || range.last == UINT64_MAX) {
            return STATUS_CORRUPT;
        }
    }
    return STATUS_OK;
}

struct seq_range ranges_next(struct ranges_reader *r)
{
    struct seq_range range;

    range.first = reader_u64(&r->reader);
    range.last = reader_u64(&r->reader);
    return range;
}

enum status retries_read(struct slice body, struct retries_reader *out)
{
    out->reader = reader_of(body);
    return read_head(&out->reader, RETRY_LEN, RECORD_RETRIES_MAX, &out->group,
                     &out->topic, &out->count);
}

struct retry retries_next(struct retries_reader *r)
{
    struct retry retry;

    retry.seq = reader_u64(&r->reader);
    retry.due_us = reader_u64(&r->reader);
    retry.attempts = reader_u32(&r->reader);
    (void)reader_u32(&r->reader);
    return retry;
}

enum status fact_read(struct slice body, struct record_fact *out)
{
    struct reader r = reader_of(body);
    unsigned class = reader_u8(&r);
    unsigned deleted = reader_u8(&r);
    size_t name_len;
    size_t value_len;

    (void)reader_u16(&r);
    out->id = reader_u32(&r);
    name_len = reader_u32(&r);
    value_len = reader_u32(&r);
    out->name = reader_slice(&r, name_len);
    out->value = reader_slice(&r, value_len);
    if (r.failed || r.at != r.end || class < CATALOG_APP
        || class > CATALOG_GROUP || deleted > 1) {
        return STATUS_CORRUPT;
    }
    out->class = (enum catalog_class) class;
    out->deleted = deleted == 1;
    return STATUS_OK;
}

enum status trim_read(struct slice body, struct record_trim *out)
{
    struct reader r = reader_of(body);

    out->topic = reader_u32(&r);
    (void)reader_u32(&r);
    out->first_seq = reader_u64(&r);
    out->floor_seq = reader_u64(&r);
    if (r.failed || r.at != r.end || out->topic == 0 || out->first_seq == 0
        || out->floor_seq < out->first_seq || out->floor_seq == UINT64_MAX) {
        return STATUS_CORRUPT;
    }
    return STATUS_OK;
}
