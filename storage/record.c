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
    SEEK_LEN = 16,
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

void record_end_chain(uint8_t *at)
{
    at[AT_FLAGS] &= (uint8_t)~RECORD_MORE;
}

void record_seek_again(uint8_t *at, uint64_t after)
{
    CHECK(at[AT_KIND] == RECORD_SEEK
          && get_u32(at + AT_LEN) == RECORD_HEADER_LEN + SEEK_LEN);
    put_u64(at + RECORD_HEADER_LEN + SEEK_LEN - 8, after);
    put_u64(at + AT_BODY_HASH, checksum(at + RECORD_HEADER_LEN, SEEK_LEN));
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
        || at[AT_KIND] < RECORD_MESSAGE || at[AT_KIND] > RECORD_KIND_LAST
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

static size_t failures_len(const struct record_failures *f)
{
    size_t len = FAILURES_HEAD_LEN;

    for (size_t i = 0; i < f->count; i++) {
        CHECK(f->failures[i].reason.len <= REASON_LEN_MAX);
        len += FAILURE_LEN_MIN + f->failures[i].reason.len;
    }
    return len;
}

enum status record_failed_write(struct bytes *to,
                                const struct record_failures *f)
{
    struct writer w = { to, STATUS_OK };
    enum status status;

    CHECK(f->count <= RECORD_FAILURES_MAX);
    status = begin_body(to, failures_len(f));
    if (status != STATUS_OK) {
        return status;
    }
    writer_u32(&w, f->group);
    writer_u32(&w, f->topic);
    writer_u32(&w, (uint32_t)f->count);
    writer_u32(&w, 0);
    for (size_t i = 0; i < f->count; i++) {
        const struct failure *failure = &f->failures[i];
        writer_u64(&w, failure->seq);
        writer_u64(&w, failure->due_us);
        writer_u64(&w, failure->holder);
        writer_u32(&w, failure->attempts);
        writer_u8(&w, failure->cause);
        writer_u8(&w, failure->dead ? 1 : 0);
        writer_u16(&w, (uint16_t)failure->reason.len);
        writer_slice(&w, failure->reason);
    }
    return w.status;
}

enum status record_seek_write(struct bytes *to, const struct record_seek *seek)
{
    struct writer w = { to, STATUS_OK };
    enum status status = begin_body(to, SEEK_LEN);

    if (status != STATUS_OK) {
        return status;
    }
    writer_u32(&w, seek->group);
    writer_u32(&w, seek->topic);
    writer_u64(&w, seek->after);
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

struct failure failed_next(struct failed_reader *r)
{
    struct failure failure;

    failure.seq = reader_u64(&r->reader);
    failure.due_us = reader_u64(&r->reader);
    failure.holder = reader_u64(&r->reader);
    failure.attempts = reader_u32(&r->reader);
    failure.cause = reader_u8(&r->reader);
    failure.dead = reader_u8(&r->reader) != 0;
    failure.reason = reader_slice(&r->reader, reader_u16(&r->reader));
    return failure;
}

const char *failure_cause_word(uint8_t cause)
{
    switch ((enum failure_cause)cause) {
    case CAUSE_NACK:
        return "nack";
    case CAUSE_LEASE:
        return "lease";
    case CAUSE_GONE:
        return "gone";
    case CAUSE_REJECT:
        return "reject";
    }
    return "unknown";
}

static bool failure_whole(struct failed_reader *r)
{
    const uint8_t *at = r->reader.at;
    struct failure failure = failed_next(r);

    return !r->reader.failed && failure.seq != 0 && failure.seq != UINT64_MAX
           && failure.cause >= CAUSE_NACK && failure.cause <= CAUSE_REJECT
           && at[FAILURE_LEN_MIN - 3] <= 1
           && failure.reason.len <= REASON_LEN_MAX;
}

enum status failed_read(struct slice body, struct failed_reader *out)
{
    struct failed_reader walk;

    out->reader = reader_of(body);
    out->group = reader_u32(&out->reader);
    out->topic = reader_u32(&out->reader);
    out->count = reader_u32(&out->reader);
    (void)reader_u32(&out->reader);
    if (out->reader.failed || out->count > RECORD_FAILURES_MAX) {
        return STATUS_CORRUPT;
    }
    walk = *out;
    for (size_t i = 0; i < walk.count; i++) {
        if (!failure_whole(&walk)) {
            return STATUS_CORRUPT;
        }
    }
    return walk.reader.at == walk.reader.end ? STATUS_OK : STATUS_CORRUPT;
}

enum status seek_read(struct slice body, struct record_seek *out)
{
    struct reader r = reader_of(body);

    out->group = reader_u32(&r);
    out->topic = reader_u32(&r);
    out->after = reader_u64(&r);
    return r.failed || r.at != r.end || out->after == UINT64_MAX
               ? STATUS_CORRUPT
               : STATUS_OK;
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

/* ---- any body ---- */

/* Group and topic; both 0: of no lane. False: not whole. */
static bool read_lane(const struct record *record, uint32_t *group,
                      uint32_t *topic)
{
    struct ranges_reader ranges;
    struct retries_reader retries;
    struct failed_reader failed;
    struct record_seek seek;
    enum status status = STATUS_OK;

    *group = *topic = 0;
    switch (record->kind) {
    case RECORD_MESSAGE:
    case RECORD_CATALOG:
    case RECORD_TRIM:
        return true;
    case RECORD_RETRY:
        status = retries_read(record->body, &retries);
        *group = retries.group;
        *topic = retries.topic;
        break;
    case RECORD_FAILED:
        status = failed_read(record->body, &failed);
        *group = failed.group;
        *topic = failed.topic;
        break;
    case RECORD_SEEK:
        status = seek_read(record->body, &seek);
        *group = seek.group;
        *topic = seek.topic;
        break;
    case RECORD_ACK:
    case RECORD_GAP:
    case RECORD_EXPIRED:
    case RECORD_FILTERED:
    case RECORD_REDRIVE:
    case RECORD_BURY:
    case RECORD_DISCARD:
        status = ranges_read(record->body, &ranges);
        *group = ranges.group;
        *topic = ranges.topic;
        break;
    }
    if (status != STATUS_OK) {
        *group = *topic = 0;
    }
    return status == STATUS_OK;
}

bool record_body_whole(const struct record *record)
{
    struct record_fact fact;
    struct record_trim trim;
    uint32_t group;
    uint32_t topic;

    if (record->kind == RECORD_CATALOG) {
        return fact_read(record->body, &fact) == STATUS_OK;
    }
    if (record->kind == RECORD_TRIM) {
        return trim_read(record->body, &trim) == STATUS_OK;
    }
    return read_lane(record, &group, &topic);
}

uint32_t record_topic(const struct record *record)
{
    struct record_fact fact;
    struct record_trim trim;
    uint32_t group;
    uint32_t topic;

    if (record->kind == RECORD_MESSAGE) {
        return record->topic;
    }
    if (record->kind == RECORD_CATALOG) {
        return fact_read(record->body, &fact) == STATUS_OK
                       && fact.class == CATALOG_TOPIC
                   ? fact.id
                   : 0;
    }
    if (record->kind == RECORD_TRIM) {
        return trim_read(record->body, &trim) == STATUS_OK ? trim.topic : 0;
    }
    (void)read_lane(record, &group, &topic);
    return topic;
}

uint32_t record_group(const struct record *record)
{
    uint32_t group;
    uint32_t topic;

    (void)read_lane(record, &group, &topic);
    return group;
}
