#include "storage/lanes.h"

#include "storage/ranges.h"

#include <stdlib.h>

enum { BUCKETS_MIN = 64, RANGE_LEN = 16, RETRY_LEN = 20 };

/* A value that begins with this, which no number of ranges is, has the longer
 * head. */
#define LANE_MARK UINT32_MAX
enum { LANE_SOUGHT = 1 };

/* ---- the table ---- */

void lane_fini(struct lane *lane)
{
    seqset_fini(&lane->acked);
    seqset_fini(&lane->gaps);
    seqset_fini(&lane->expired);
    seqset_fini(&lane->dead);
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

/* In which way they are settled. What a seek left behind counts no more. */
static enum status tell_apart(struct lane *lane, enum record_kind how,
                              struct seq_range fresh)
{
    if (fresh.first <= lane->after) {
        fresh.first = lane->after + 1;
    }
    if (fresh.first > fresh.last) {
        return STATUS_OK;
    }
    if (how == RECORD_GAP) {
        return seqset_add(&lane->gaps, fresh.first, fresh.last, NULL);
    }
    if (how == RECORD_EXPIRED) {
        return seqset_add(&lane->expired, fresh.first, fresh.last, NULL);
    }
    if (how == RECORD_FILTERED) {
        lane->filtered += fresh.last - fresh.first + 1;
    } else if (how == RECORD_DISCARD) {
        lane->discarded += fresh.last - fresh.first + 1;
    }
    return STATUS_OK;
}

/* Those not settled yet. */
static enum status settle_new(struct lane *lane, enum record_kind how,
                              struct seq_range range)
{
    struct seq_range fresh;
    enum status status = STATUS_OK;

    while (status == STATUS_OK
           && set_stretch(&lane->acked, range, true, &fresh)) {
        status = tell_apart(lane, how, fresh);
        if (status == STATUS_OK) {
            status = seqset_add(&lane->acked, fresh.first, fresh.last, NULL);
        }
    }
    return status;
}

static enum status discard(struct lane *lane, struct seq_range range)
{
    struct seq_range dead;
    enum status status = STATUS_OK;

    while (status == STATUS_OK
           && set_stretch(&lane->dead, range, false, &dead)) {
        status = settle_new(lane, RECORD_DISCARD, dead);
        if (status == STATUS_OK) {
            status = set_remove(&lane->dead, dead);
        }
        lane->dirty = true;
    }
    return status;
}

enum status lane_settle_as(struct lane *lane, enum record_kind how,
                           struct seq_range range)
{
    enum status status;

    if (how == RECORD_DISCARD) {
        return discard(lane, range);
    }
    status = how == RECORD_ACK
                 ? seqset_add(&lane->acked, range.first, range.last, NULL)
                 : settle_new(lane, how, range);
    if (status == STATUS_OK) {
        status = set_remove(&lane->dead, range);
    }
    if (status == STATUS_OK) {
        drop_retries(lane, range);
        lane->dirty = true;
    }
    return status;
}

enum status lane_bury(struct lane *lane, struct seq_range range)
{
    struct seq_range owed;
    enum status status = STATUS_OK;

    for (struct seq_range left = range;
         status == STATUS_OK && left.first <= range.last
         && set_stretch(&lane->acked, left, true, &owed);
         left.first = owed.last + 1) {
        status = seqset_add(&lane->dead, owed.first, owed.last, NULL);
        lane->dirty = true;
    }
    if (status == STATUS_OK) {
        drop_retries(lane, range);
    }
    return status;
}

/* They are dead no more, with no attempts yet. */
static enum status lane_redrive(struct lane *lane, struct seq_range range)
{
    lane->dirty = true;
    return set_remove(&lane->dead, range);
}

/* Dead ones up to `after` stay out of what is settled. */
static enum status lane_seek(struct lane *lane, uint64_t after)
{
    enum status status = STATUS_OK;

    lane->retry_count = 0;
    seqset_clear(&lane->acked);
    seqset_clear(&lane->gaps);
    seqset_clear(&lane->expired);
    lane->filtered = lane->discarded = 0;
    lane->sought = true;
    lane->after = after;
    lane->dirty = true;
    if (after > 0) {
        status = seqset_add(&lane->acked, 1, after, NULL);
    }
    if (status == STATUS_OK) {
        status = set_remove(&lane->dead,
                            (struct seq_range) { after + 1, UINT64_MAX - 1 });
    }
    for (size_t i = 0;
         i < seqset_range_count(&lane->dead) && status == STATUS_OK; i++) {
        status = set_remove(&lane->acked, seqset_ranges(&lane->dead)[i]);
    }
    return status;
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

static void forget_below(struct lane *lane, uint64_t first_seq)
{
    if (lane->retry_count > 0 && lane->retries[0].seq < first_seq) {
        drop_retries(lane, (struct seq_range) { 1, first_seq - 1 });
        lane->dirty = true;
    }
    if (seqset_range_count(&lane->dead) > 0
        && seqset_ranges(&lane->dead)[0].first < first_seq) {
        seqset_drop_through(&lane->dead, first_seq - 1);
        lane->dirty = true;
    }
}

enum status lane_trim(struct lane *lane, uint64_t first_seq)
{
    enum status status = STATUS_OK;

    forget_below(lane, first_seq);
    if (is_split(&lane->acked, first_seq) || is_split(&lane->gaps, first_seq)
        || is_split(&lane->expired, first_seq)) {
        status = fold(&lane->acked, first_seq);
        if (status == STATUS_OK) { /* they stay some of those */
            status = fold(&lane->gaps, first_seq);
        }
        if (status == STATUS_OK) {
            status = fold(&lane->expired, first_seq);
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

static enum status put_retry(struct lane *lane, const struct retry *retry)
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

/* Whoever failed since is not dead any more, even if the record that said so is
 * lost. */
enum status lane_retry(struct lane *lane, const struct retry *retry)
{
    enum status status =
        set_remove(&lane->dead, (struct seq_range) { retry->seq, retry->seq });

    return status == STATUS_OK ? put_retry(lane, retry) : status;
}

/* ---- what a record says ---- */

enum status lane_record_read(const struct record *record,
                             struct lane_record *out)
{
    enum status status = STATUS_CORRUPT;

    out->kind = record->kind;
    switch (record->kind) {
    case RECORD_MESSAGE:
    case RECORD_CATALOG:
    case RECORD_TRIM:
        return STATUS_CORRUPT;
    case RECORD_RETRY:
        status = retries_read(record->body, &out->body.retries);
        out->group = out->body.retries.group;
        out->topic = out->body.retries.topic;
        return status;
    case RECORD_FAILED:
        status = failed_read(record->body, &out->body.failed);
        out->group = out->body.failed.group;
        out->topic = out->body.failed.topic;
        return status;
    case RECORD_SEEK:
        status = seek_read(record->body, &out->body.seek);
        out->group = out->body.seek.group;
        out->topic = out->body.seek.topic;
        return status;
    case RECORD_ACK:
    case RECORD_GAP:
    case RECORD_EXPIRED:
    case RECORD_FILTERED:
    case RECORD_REDRIVE:
    case RECORD_BURY:
    case RECORD_DISCARD:
        status = ranges_read(record->body, &out->body.ranges);
        out->group = out->body.ranges.group;
        out->topic = out->body.ranges.topic;
        return status;
    }
    return status;
}

static enum status apply_range(struct lane *lane, enum record_kind kind,
                               struct seq_range range, uint64_t first_seq)
{
    if (kind == RECORD_REDRIVE) {
        return lane_redrive(lane, range);
    }
    if (kind == RECORD_BURY) {
        range.first = range.first < first_seq ? first_seq : range.first;
        return range.first <= range.last ? lane_bury(lane, range) : STATUS_OK;
    }
    return lane_settle_as(lane, kind, range);
}

static enum status apply_ranges(struct lane *lane, struct lane_record *record,
                                uint64_t first_seq, uint64_t *last_seq)
{
    struct ranges_reader *r = &record->body.ranges;
    enum status status = STATUS_OK;

    for (size_t i = 0; i < r->count && status == STATUS_OK; i++) {
        struct seq_range range = ranges_next(r);
        status = apply_range(lane, record->kind, range, first_seq);
        *last_seq = range.last > *last_seq ? range.last : *last_seq;
    }
    return status;
}

static enum status apply_retries(struct lane *lane, struct retries_reader *r,
                                 uint64_t first_seq)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; i < r->count && status == STATUS_OK; i++) {
        struct retry retry = retries_next(r);
        if (retry.seq >= first_seq) {
            status = lane_retry(lane, &retry);
        }
    }
    return status;
}

static enum status apply_failure(struct lane *lane,
                                 const struct failure *failure)
{
    struct retry retry = { failure->seq, failure->attempts, failure->due_us };

    return failure->dead ? lane_bury(
               lane, (struct seq_range) { failure->seq, failure->seq })
                         : lane_retry(lane, &retry);
}

static enum status apply_failures(struct lane *lane, struct failed_reader *r,
                                  uint64_t first_seq, uint64_t *last_seq)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; i < r->count && status == STATUS_OK; i++) {
        struct failure failure = failed_next(r);
        if (failure.seq >= first_seq) {
            status = apply_failure(lane, &failure);
        }
        *last_seq = failure.seq > *last_seq ? failure.seq : *last_seq;
    }
    return status;
}

enum status lane_record_apply(struct lane *lane, struct lane_record *record,
                              uint64_t first_seq, uint64_t *last_seq)
{
    *last_seq = 0;
    if (seqset_range_count(&lane->dead) > 0) {
        forget_below(lane, first_seq);
    }
    switch (record->kind) {
    case RECORD_RETRY:
        return apply_retries(lane, &record->body.retries, first_seq);
    case RECORD_FAILED:
        return apply_failures(lane, &record->body.failed, first_seq, last_seq);
    case RECORD_SEEK:
        *last_seq = record->body.seek.after;
        return lane_seek(lane, record->body.seek.after);
    case RECORD_MESSAGE:
    case RECORD_CATALOG:
    case RECORD_TRIM:
        break;
    case RECORD_ACK:
    case RECORD_GAP:
    case RECORD_EXPIRED:
    case RECORD_FILTERED:
    case RECORD_REDRIVE:
    case RECORD_BURY:
    case RECORD_DISCARD:
        return apply_ranges(lane, record, first_seq, last_seq);
    }
    return STATUS_CORRUPT;
}

/* ---- its value ---- */

static void write_set(struct writer *w, const struct seqset *set)
{
    for (size_t i = 0; i < seqset_range_count(set); i++) {
        writer_u64(w, seqset_ranges(set)[i].first);
        writer_u64(w, seqset_ranges(set)[i].last);
    }
}

static uint32_t count_of(const struct seqset *set)
{
    return (uint32_t)seqset_range_count(set);
}

/* Most lanes have nothing that the first version's value had no place for, and
 * are written as that. */
static bool is_plain(const struct lane *lane)
{
    return seqset_range_count(&lane->expired) == 0
           && seqset_range_count(&lane->dead) == 0 && lane->filtered == 0
           && lane->discarded == 0 && !lane->sought;
}

static void write_head(struct writer *w, const struct lane *lane)
{
    if (is_plain(lane)) {
        writer_u32(w, count_of(&lane->acked));
        writer_u32(w, count_of(&lane->gaps));
        writer_u32(w, (uint32_t)lane->retry_count);
        return;
    }
    writer_u32(w, LANE_MARK);
    writer_u32(w, lane->sought ? LANE_SOUGHT : 0);
    writer_u64(w, lane->after);
    writer_u64(w, lane->filtered);
    writer_u64(w, lane->discarded);
    writer_u32(w, count_of(&lane->acked));
    writer_u32(w, count_of(&lane->gaps));
    writer_u32(w, count_of(&lane->expired));
    writer_u32(w, count_of(&lane->dead));
    writer_u32(w, (uint32_t)lane->retry_count);
}

enum status lane_write(const struct lane *lane, struct bytes *to)
{
    struct writer w = { to, STATUS_OK };

    write_head(&w, lane);
    write_set(&w, &lane->acked);
    write_set(&w, &lane->gaps);
    write_set(&w, &lane->expired); /* nothing in a plain one */
    write_set(&w, &lane->dead);
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
        status = put_retry(lane, &retry);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

struct lane_counts {
    uint32_t acked, gaps, expired, dead, retries;
};

static bool read_head(struct reader *r, struct lane *lane,
                      struct lane_counts *counts)
{
    uint32_t flags;

    *counts = (struct lane_counts) { .acked = reader_u32(r) };
    if (counts->acked != LANE_MARK) {
        counts->gaps = reader_u32(r);
        counts->retries = reader_u32(r);
        return true;
    }
    flags = reader_u32(r);
    lane->sought = flags == LANE_SOUGHT;
    lane->after = reader_u64(r);
    lane->filtered = reader_u64(r);
    lane->discarded = reader_u64(r);
    counts->acked = reader_u32(r);
    counts->gaps = reader_u32(r);
    counts->expired = reader_u32(r);
    counts->dead = reader_u32(r);
    counts->retries = reader_u32(r);
    return flags <= LANE_SOUGHT && lane->after < UINT64_MAX;
}

enum status lane_read(struct lane *lane, struct slice value)
{
    struct reader r = reader_of(value);
    struct lane_counts counts;
    bool good = read_head(&r, lane, &counts);
    uint64_t ranges =
        (uint64_t)counts.acked + counts.gaps + counts.expired + counts.dead;
    uint64_t need = ranges * RANGE_LEN + (uint64_t)counts.retries * RETRY_LEN;
    enum status status;

    if (!good || r.failed || need != (uint64_t)(r.end - r.at)) {
        return STATUS_CORRUPT;
    }
    status = read_set(&r, counts.acked, &lane->acked);
    if (status == STATUS_OK) {
        status = read_set(&r, counts.gaps, &lane->gaps);
    }
    if (status == STATUS_OK) {
        status = read_set(&r, counts.expired, &lane->expired);
    }
    if (status == STATUS_OK) {
        status = read_set(&r, counts.dead, &lane->dead);
    }
    if (status == STATUS_OK) {
        status = read_retries(&r, counts.retries, lane);
    }
    lane->dirty = false;
    return status;
}
