#include "storage/lanes.h"

#include <stdlib.h>

enum { BUCKETS_MIN = 64, LANE_HEAD_LEN = 12, RANGE_LEN = 16, RETRY_LEN = 20 };

/* ---- the table ---- */

void lane_fini(struct lane *lane)
{
    seqset_fini(&lane->acked);
    seqset_fini(&lane->gaps);
    free(lane->retries);
    lane->retries = NULL;
    lane->retry_count = lane->retry_capacity = 0;
}

static void lane_free(struct lane *lane)
{
    lane_fini(lane);
    free(lane);
}

void lanes_fini(struct lanes *lanes)
{
    for (size_t i = 0; i < lanes->bucket_count; i++) {
        while (lanes->buckets[i] != NULL) {
            struct lane *lane = lanes->buckets[i];
            lanes->buckets[i] = lane->chained;
            lane_free(lane);
        }
    }
    free(lanes->buckets);
    *lanes = (struct lanes) { 0 };
}

static size_t bucket_of(uint32_t group, uint32_t topic, size_t bucket_count)
{
    uint64_t x = ((uint64_t)group << 32 | topic) * UINT64_C(0x9e3779b97f4a7c15);

    return (size_t)(x >> 32) & (bucket_count - 1);
}

struct lane *lanes_find(const struct lanes *lanes, uint32_t group,
                        uint32_t topic)
{
    struct lane *lane;

    if (lanes->bucket_count == 0) {
        return NULL;
    }
    lane = lanes->buckets[bucket_of(group, topic, lanes->bucket_count)];
    while (lane != NULL && (lane->group != group || lane->topic != topic)) {
        lane = lane->chained;
    }
    return lane;
}

static bool grow(struct lanes *lanes)
{
    size_t count =
        lanes->bucket_count == 0 ? BUCKETS_MIN : lanes->bucket_count * 2;
    struct lane **buckets = calloc(count, sizeof(struct lane *));

    if (buckets == NULL) {
        return lanes->bucket_count != 0;
    }
    for (size_t i = 0; i < lanes->bucket_count; i++) {
        while (lanes->buckets[i] != NULL) {
            struct lane *lane = lanes->buckets[i];
            size_t to = bucket_of(lane->group, lane->topic, count);
            lanes->buckets[i] = lane->chained;
            lane->chained = buckets[to];
            buckets[to] = lane;
        }
    }
    free(lanes->buckets);
    lanes->buckets = buckets;
    lanes->bucket_count = count;
    return true;
}

struct lane *lanes_add(struct lanes *lanes, uint32_t group, uint32_t topic)
{
    struct lane *lane;
    size_t bucket;

    if (lanes->count >= lanes->bucket_count && !grow(lanes)) {
        return NULL;
    }
    lane = calloc(1, sizeof *lane);
    if (lane == NULL) {
        return NULL;
    }
    lane->group = group;
    lane->topic = topic;
    bucket = bucket_of(group, topic, lanes->bucket_count);
    lane->chained = lanes->buckets[bucket];
    lanes->buckets[bucket] = lane;
    lanes->count++;
    return lane;
}

void lanes_drop(struct lanes *lanes,
                bool (*which)(const void *arg, const struct lane *lane),
                const void *arg)
{
    for (size_t i = 0; i < lanes->bucket_count; i++) {
        struct lane **link = &lanes->buckets[i];
        while (*link != NULL) {
            struct lane *lane = *link;
            if (which(arg, lane)) {
                *link = lane->chained;
                lane_free(lane);
                lanes->count--;
            } else {
                link = &lane->chained;
            }
        }
    }
}

/* ---- one lane ---- */

/* Index of the first retry whose seq is >= seq. */
static size_t retry_at(const struct lane *lane, uint64_t seq)
{
    size_t low = 0;
    size_t high = lane->retry_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (lane->retries[middle].seq < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void drop_retries(struct lane *lane, struct seq_range range)
{
    size_t first = retry_at(lane, range.first);
    size_t stop = retry_at(lane, range.last + 1);

    if (first < stop) {
        memmove(lane->retries + first, lane->retries + stop,
                (lane->retry_count - stop) * sizeof *lane->retries);
        lane->retry_count -= stop - first;
    }
}

enum status lane_ack(struct lane *lane, struct seq_range range)
{
    enum status status =
        seqset_add(&lane->acked, range.first, range.last, NULL);

    if (status == STATUS_OK) {
        drop_retries(lane, range);
        lane->dirty = true;
    }
    return status;
}

enum status lane_gap(struct lane *lane, struct seq_range range)
{
    enum status status = seqset_add(&lane->gaps, range.first, range.last, NULL);

    return status == STATUS_OK ? lane_ack(lane, range) : status;
}

/* More than one range begins below. */
static bool is_split(const struct seqset *set, uint64_t seq)
{
    return seqset_range_count(set) > 1 && seqset_ranges(set)[1].first < seq;
}

/* As many as there are below `seq`, the last ones before it, without holes: a
 * group may have begun behind the first ones. */
static enum status fold(struct seqset *set, uint64_t seq)
{
    uint64_t count = 0;

    for (size_t i = 0;
         i < seqset_range_count(set) && seqset_ranges(set)[i].first < seq;
         i++) {
        const struct seq_range *range = &seqset_ranges(set)[i];
        uint64_t last = range->last < seq ? range->last : seq - 1;
        count += last - range->first + 1;
    }
    if (count == 0) {
        return STATUS_OK;
    }
    seqset_drop_through(set, seq - 1);
    return seqset_add(set, seq - count, seq - 1, NULL);
}

enum status lane_trim(struct lane *lane, uint64_t first_seq)
{
    enum status status = STATUS_OK;

    if (lane->retry_count > 0 && lane->retries[0].seq < first_seq) {
        drop_retries(lane, (struct seq_range) { 1, first_seq - 1 });
        lane->dirty = true;
    }
    if (is_split(&lane->acked, first_seq) || is_split(&lane->gaps, first_seq)) {
        status = fold(&lane->acked, first_seq);
        if (status == STATUS_OK) { /* they stay some of those */
            status = fold(&lane->gaps, first_seq);
        }
        lane->dirty = true;
    }
    return status;
}

static enum status reserve_retry(struct lane *lane)
{
    size_t capacity = lane->retry_capacity == 0 ? 8 : lane->retry_capacity * 2;
    struct retry *retries;

    if (lane->retry_count < lane->retry_capacity) {
        return STATUS_OK;
    }
    retries = realloc(lane->retries, capacity * sizeof *retries);
    if (retries == NULL) {
        return STATUS_NOMEM;
    }
    lane->retries = retries;
    lane->retry_capacity = capacity;
    return STATUS_OK;
}

enum status lane_retry(struct lane *lane, const struct retry *retry)
{
    enum status status;
    size_t at;

    if (retry->seq == 0 || seqset_has(&lane->acked, retry->seq)) {
        return STATUS_OK;
    }
    at = retry_at(lane, retry->seq);
    if (at < lane->retry_count && lane->retries[at].seq == retry->seq) {
        lane->retries[at] = *retry;
        lane->dirty = true;
        return STATUS_OK;
    }
    status = reserve_retry(lane);
    if (status != STATUS_OK) {
        return status;
    }
    memmove(lane->retries + at + 1, lane->retries + at,
            (lane->retry_count - at) * sizeof *lane->retries);
    lane->retries[at] = *retry;
    lane->retry_count++;
    lane->dirty = true;
    return STATUS_OK;
}

/* ---- its value ---- */

static void write_set(struct writer *w, const struct seqset *set)
{
    for (size_t i = 0; i < seqset_range_count(set); i++) {
        writer_u64(w, seqset_ranges(set)[i].first);
        writer_u64(w, seqset_ranges(set)[i].last);
    }
}

enum status lane_write(const struct lane *lane, struct bytes *to)
{
    struct writer w = { to, STATUS_OK };

    writer_u32(&w, (uint32_t)seqset_range_count(&lane->acked));
    writer_u32(&w, (uint32_t)seqset_range_count(&lane->gaps));
    writer_u32(&w, (uint32_t)lane->retry_count);
    write_set(&w, &lane->acked);
    write_set(&w, &lane->gaps);
    for (size_t i = 0; i < lane->retry_count; i++) {
        writer_u64(&w, lane->retries[i].seq);
        writer_u64(&w, lane->retries[i].due_us);
        writer_u32(&w, lane->retries[i].attempts);
    }
    return w.status;
}

static enum status read_set(struct reader *r, uint32_t count,
                            struct seqset *set)
{
    while (count-- > 0) {
        uint64_t first = reader_u64(r);
        uint64_t last = reader_u64(r);
        if (first == 0 || last < first || last == UINT64_MAX) {
            return STATUS_CORRUPT;
        }
        if (seqset_add(set, first, last, NULL) != STATUS_OK) {
            return STATUS_NOMEM;
        }
    }
    return STATUS_OK;
}

static enum status read_retries(struct reader *r, uint32_t count,
                                struct lane *lane)
{
    while (count-- > 0) {
        struct retry retry;
        enum status status;

        retry.seq = reader_u64(r);
        retry.due_us = reader_u64(r);
        retry.attempts = reader_u32(r);
        status = lane_retry(lane, &retry);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status lane_read(struct lane *lane, struct slice value)
{
    struct reader r = reader_of(value);
    uint32_t acked = reader_u32(&r);
    uint32_t gaps = reader_u32(&r);
    uint32_t retries = reader_u32(&r);
    uint64_t need = LANE_HEAD_LEN + ((uint64_t)acked + gaps) * RANGE_LEN
                    + (uint64_t)retries * RETRY_LEN;
    enum status status;

    if (r.failed || need != value.len) {
        return STATUS_CORRUPT;
    }
    status = read_set(&r, acked, &lane->acked);
    if (status == STATUS_OK) {
        status = read_set(&r, gaps, &lane->gaps);
    }
    if (status == STATUS_OK) {
        status = read_retries(&r, retries, lane);
    }
    lane->dirty = false;
    return status;
}
