#include "storage/lanes.h"

#include "storage/ranges.h"

#include <stdlib.h>

enum { BUCKETS_MIN = 64, RANGE_LEN = 16, RETRY_LEN = 20 };

/* A value that begins with this, which no number of ranges is, has the longer
 * head. */
#define LANE_MARK UINT32_MAX
enum { LANE_SOUGHT = 1 };

/* ---- the table ---- */

void lane_fini(struct lane_image *lane)
{
    seqset_fini(&lane->acked);
    seqset_fini(&lane->gaps);
    seqset_fini(&lane->expired);
    seqset_fini(&lane->dead);
    waiting_fini(&lane->retries);
}

static void lane_free(struct lane_image *lane)
{
    lane_fini(lane);
    free(lane);
}

void lanes_fini(struct lanes *lanes)
{
    for (size_t i = 0; i < lanes->bucket_count; i++) {
        while (lanes->buckets[i] != NULL) {
            struct lane_image *lane = lanes->buckets[i];
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

struct lane_image *lanes_find(const struct lanes *lanes, uint32_t group,
                              uint32_t topic)
{
    struct lane_image *lane;

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
    struct lane_image **buckets = calloc(count, sizeof(struct lane_image *));

    if (buckets == NULL) {
        return lanes->bucket_count != 0;
    }
    for (size_t i = 0; i < lanes->bucket_count; i++) {
        while (lanes->buckets[i] != NULL) {
            struct lane_image *lane = lanes->buckets[i];
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

struct lane_image *lanes_add(struct lanes *lanes, uint32_t group,
                             uint32_t topic)
{
    struct lane_image *lane;
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
                bool (*which)(const void *arg, const struct lane_image *lane),
                const void *arg)
{
    for (size_t i = 0; i < lanes->bucket_count; i++) {
        struct lane_image **link = &lanes->buckets[i];
        while (*link != NULL) {
            struct lane_image *lane = *link;
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

static void drop_retries(struct lane_image *lane, const struct seqset *set)
{
    for (size_t i = 0; i < seqset_range_count(set) && lane->retries.count > 0;
         i++) {
        (void)waiting_drop(&lane->retries, seqset_ranges(set)[i]);
    }
}

/* In which way they are settled. What a seek left behind counts no more. */
static enum status tell_apart(struct lane_image *lane, enum record_kind how,
                              struct seqset *fresh)
{
    seqset_drop_through(fresh, lane->after);
    if (how == RECORD_GAP) {
        return set_add_all(&lane->gaps, fresh);
    }
    if (how == RECORD_EXPIRED) {
        return set_add_all(&lane->expired, fresh);
    }
    if (how == RECORD_FILTERED) {
        lane->filtered += seqset_count(fresh);
    } else if (how == RECORD_DISCARD) {
        lane->discarded += seqset_count(fresh);
    }
    return STATUS_OK;
}

/* Those not settled yet. */
static enum status settle_new(struct lane_image *lane, enum record_kind how,
                              const struct seqset *set)
{
    struct seqset fresh = { 0 };
    enum status status = set_common(set, &lane->acked, true, &fresh);

    if (status == STATUS_OK) {
        status = set_add_all(&lane->acked, set);
    }
    if (status == STATUS_OK) {
        status = tell_apart(lane, how, &fresh);
    }
    seqset_fini(&fresh);
    return status;
}

static enum status discard(struct lane_image *lane, const struct seqset *set)
{
    struct seqset dead = { 0 };
    enum status status = set_common(set, &lane->dead, false, &dead);

    if (status == STATUS_OK && seqset_range_count(&dead) > 0) {
        lane->dirty = true;
        status = settle_new(lane, RECORD_DISCARD, &dead);
    }
    if (status == STATUS_OK) {
        status = set_remove_all(&lane->dead, set);
    }
    seqset_fini(&dead);
    return status;
}

static enum status settle_all(struct lane_image *lane, enum record_kind how,
                              const struct seqset *set)
{
    enum status status;

    if (how == RECORD_DISCARD) {
        return discard(lane, set);
    }
    status = how == RECORD_ACK ? set_add_all(&lane->acked, set)
                               : settle_new(lane, how, set);
    if (status == STATUS_OK) {
        status = set_remove_all(&lane->dead, set);
    }
    if (status == STATUS_OK) {
        drop_retries(lane, set);
        lane->dirty = true;
    }
    return status;
}

static enum status bury_all(struct lane_image *lane, const struct seqset *set)
{
    struct seqset owed = { 0 };
    enum status status = set_common(set, &lane->acked, true, &owed);

    if (status == STATUS_OK && seqset_range_count(&owed) > 0) {
        lane->dirty = true;
        status = set_add_all(&lane->dead, &owed);
    }
    if (status == STATUS_OK) {
        drop_retries(lane, set);
    }
    seqset_fini(&owed);
    return status;
}

static enum status redrive_all(struct lane_image *lane,
                               const struct seqset *set)
{
    lane->dirty = true;
    return set_remove_all(&lane->dead, set);
}

/* A set of one range, which is not the set's. */
static struct seqset set_of(struct seq_range *range)
{
    return (struct seqset) { range, 0, 1, 1 };
}

enum status lane_settle_as(struct lane_image *lane, enum record_kind how,
                           struct seq_range range)
{
    struct seqset set = set_of(&range);

    return settle_all(lane, how, &set);
}

enum status lane_bury(struct lane_image *lane, struct seq_range range)
{
    struct seqset set = set_of(&range);

    return bury_all(lane, &set);
}

/* Dead ones up to `after` stay out of what is settled. */
static enum status seek(struct lane_image *lane, uint64_t after)
{
    enum status status = STATUS_OK;

    waiting_clear(&lane->retries);
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
        status = seqset_remove(&lane->dead, after + 1, UINT64_MAX, NULL);
    }
    return status == STATUS_OK ? set_remove_all(&lane->acked, &lane->dead)
                               : status;
}

/* ---- what is deleted ---- */

/* More than one range has numbers of `range`. */
static bool is_split(const struct seqset *set, struct seq_range range)
{
    size_t i = set_range_at(set, range.first) + 1;

    return i < seqset_range_count(set)
           && seqset_ranges(set)[i].first <= range.last;
}

/* As many as there are in `range`, the last ones of it, without holes: a group
 * may have begun behind the first ones. */
static enum status fold(struct seqset *set, struct seq_range range)
{
    uint64_t count = set_count(set, range);
    enum status status;

    if (count == 0) {
        return STATUS_OK;
    }
    status = seqset_remove(set, range.first, range.last, NULL);
    return status == STATUS_OK
               ? seqset_add(set, range.last - count + 1, range.last, NULL)
               : status;
}

static void forget_below(struct lane_image *lane, uint64_t first_seq)
{
    struct waiting_place begin = { 0 };
    const struct retry *retry = waiting_next(&lane->retries, &begin);

    if (retry != NULL && retry->seq < first_seq) {
        (void)waiting_drop(&lane->retries,
                           (struct seq_range) { 1, first_seq - 1 });
        lane->dirty = true;
    }
    if (seqset_range_count(&lane->dead) > 0
        && seqset_ranges(&lane->dead)[0].first < first_seq) {
        seqset_drop_through(&lane->dead, first_seq - 1);
        lane->dirty = true;
    }
}

/* Gaps and expired ones stay some of those settled. */
static enum status fold_all(struct lane_image *lane, struct seq_range range)
{
    enum status status = STATUS_OK;

    if (range.first > range.last
        || (!is_split(&lane->acked, range) && !is_split(&lane->gaps, range)
            && !is_split(&lane->expired, range))) {
        return STATUS_OK;
    }
    lane->dirty = true;
    status = fold(&lane->acked, range);
    if (status == STATUS_OK) {
        status = fold(&lane->gaps, range);
    }
    return status == STATUS_OK ? fold(&lane->expired, range) : status;
}

/* What a seek settled up to `after` counts no more, and what it did not, the
 * dead, was counted until it was deleted: neither may come to lie on the other
 * side. */
enum status lane_trim(struct lane_image *lane, uint64_t first_seq)
{
    uint64_t last = first_seq - 1;
    uint64_t after = lane->after < last ? lane->after : last;
    enum status status;

    forget_below(lane, first_seq);
    status = fold_all(lane, (struct seq_range) { 1, after });
    return status == STATUS_OK
               ? fold_all(lane, (struct seq_range) { after + 1, last })
               : status;
}

static enum status put_retry(struct lane_image *lane, const struct retry *retry)
{
    enum status status;

    if (retry->seq == 0 || seqset_has(&lane->acked, retry->seq)) {
        return STATUS_OK;
    }
    status = waiting_put(&lane->retries, retry);
    if (status == STATUS_OK) {
        lane->dirty = true;
    }
    return status;
}

/* Whoever failed since is not dead any more, even if the record that said so is
 * lost. */
enum status lane_retry(struct lane_image *lane, const struct retry *retry)
{
    enum status status =
        seqset_remove(&lane->dead, retry->seq, retry->seq, NULL);

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

/* All that it names, so that it takes one pass; they come in order, or else
 * this takes longer. */
static enum status collect_ranges(struct ranges_reader *r, struct seqset *out)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; i < r->count && status == STATUS_OK; i++) {
        struct seq_range range = ranges_next(r);
        status = seqset_add(out, range.first, range.last, NULL);
    }
    return status;
}

static enum status apply_set(struct lane_image *lane, enum record_kind kind,
                             struct seqset *set, uint64_t first_seq)
{
    if (kind == RECORD_REDRIVE) {
        return redrive_all(lane, set);
    }
    if (kind == RECORD_BURY) {
        seqset_drop_through(set, first_seq - 1);
        return bury_all(lane, set);
    }
    return settle_all(lane, kind, set);
}

static enum status apply_ranges(struct lane_image *lane,
                                struct lane_record *record, uint64_t first_seq,
                                uint64_t *last_seq)
{
    struct seqset set = { 0 };
    enum status status = collect_ranges(&record->body.ranges, &set);
    size_t count = seqset_range_count(&set);

    if (status == STATUS_OK && count > 0) {
        *last_seq = seqset_ranges(&set)[count - 1].last;
        status = apply_set(lane, record->kind, &set, first_seq);
    }
    seqset_fini(&set);
    return status;
}

static enum status apply_retries(struct lane_image *lane,
                                 struct retries_reader *r, uint64_t first_seq)
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

/* `dead`: those of the record that are to be buried. */
static enum status apply_failure(struct lane_image *lane,
                                 const struct failure *failure,
                                 struct seqset *dead)
{
    struct retry retry = { failure->seq, failure->attempts, failure->due_us };
    enum status status;

    if (failure->dead) {
        return seqset_add(dead, failure->seq, failure->seq, NULL);
    }
    status = seqset_remove(dead, failure->seq, failure->seq, NULL);
    return status == STATUS_OK ? lane_retry(lane, &retry) : status;
}

static enum status apply_failures(struct lane_image *lane,
                                  struct failed_reader *r, uint64_t first_seq,
                                  uint64_t *last_seq)
{
    struct seqset dead = { 0 };
    enum status status = STATUS_OK;

    for (size_t i = 0; i < r->count && status == STATUS_OK; i++) {
        struct failure failure = failed_next(r);
        if (failure.seq >= first_seq) {
            status = apply_failure(lane, &failure, &dead);
        }
        *last_seq = failure.seq > *last_seq ? failure.seq : *last_seq;
    }
    if (status == STATUS_OK) {
        status = bury_all(lane, &dead);
    }
    seqset_fini(&dead);
    return status;
}

enum status lane_record_apply(struct lane_image *lane,
                              struct lane_record *record, uint64_t first_seq,
                              uint64_t *last_seq)
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
        return seek(lane, record->body.seek.after);
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
static bool is_plain(const struct lane_image *lane)
{
    return seqset_range_count(&lane->expired) == 0
           && seqset_range_count(&lane->dead) == 0 && lane->filtered == 0
           && lane->discarded == 0 && !lane->sought;
}

static void write_head(struct writer *w, const struct lane_image *lane)
{
    if (is_plain(lane)) {
        writer_u32(w, count_of(&lane->acked));
        writer_u32(w, count_of(&lane->gaps));
        writer_u32(w, (uint32_t)lane->retries.count);
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
    writer_u32(w, (uint32_t)lane->retries.count);
}

enum status lane_write(const struct lane_image *lane, struct bytes *to)
{
    struct writer w = { to, STATUS_OK };
    struct waiting_place place = { 0 };
    const struct retry *retry;

    write_head(&w, lane);
    write_set(&w, &lane->acked);
    write_set(&w, &lane->gaps);
    write_set(&w, &lane->expired); /* nothing in a plain one */
    write_set(&w, &lane->dead);
    while ((retry = waiting_next(&lane->retries, &place)) != NULL) {
        writer_u64(&w, retry->seq);
        writer_u64(&w, retry->due_us);
        writer_u32(&w, retry->attempts);
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
                                struct lane_image *lane)
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

static bool read_head(struct reader *r, struct lane_image *lane,
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

/* The head, when what follows is as long as it says; `r` stands behind it. */
static bool read_whole_head(struct reader *r, struct lane_image *lane,
                            struct lane_counts *counts)
{
    bool good = read_head(r, lane, counts);
    uint64_t ranges =
        (uint64_t)counts->acked + counts->gaps + counts->expired + counts->dead;
    uint64_t need = ranges * RANGE_LEN + (uint64_t)counts->retries * RETRY_LEN;

    return good && !r->failed && need == (uint64_t)(r->end - r->at);
}

enum status lane_read(struct lane_image *lane, struct slice value)
{
    struct reader r = reader_of(value);
    struct lane_counts counts;
    enum status status;

    if (!read_whole_head(&r, lane, &counts)) {
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

/* Is `seq` in one of `count` ranges that are in order? */
static bool is_within(const uint8_t *ranges, uint32_t count, uint64_t seq)
{
    uint32_t low = 0;
    uint32_t high = count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (get_u64(ranges + (size_t)middle * RANGE_LEN + 8) < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && get_u64(ranges + (size_t)low * RANGE_LEN) <= seq;
}

enum status lane_value_look(struct slice value, uint64_t seq,
                            struct lane_look *out)
{
    struct reader r = reader_of(value);
    struct lane_image head = { 0 };
    struct lane_counts counts;
    const uint8_t *gaps;

    if (!read_whole_head(&r, &head, &counts)) {
        return STATUS_CORRUPT;
    }
    gaps = r.at + (size_t)counts.acked * RANGE_LEN;
    out->gap = is_within(gaps, counts.gaps, seq);
    out->expired =
        is_within(gaps + (size_t)counts.gaps * RANGE_LEN, counts.expired, seq);
    out->settled =
        out->gap || out->expired || is_within(r.at, counts.acked, seq);
    return STATUS_OK;
}
