#include "broker/delivery/lane.h"

#include "broker/delivery/group.h"

#include <stdlib.h>

enum { RETRY_CAPACITY_MIN = 16 };

static const bool may_move[LANE_STATES][LANE_STATES] = {
    [LANE_READY] = { [LANE_IN_FLIGHT] = true,
                     [LANE_DELAYED] = true,
                     [LANE_ACKED] = true,
                     [LANE_GAP] = true,
                     [LANE_DELETED] = true },
    [LANE_IN_FLIGHT] = { [LANE_READY] = true,
                         [LANE_DELAYED] = true,
                         [LANE_ACKED] = true,
                         [LANE_DELETED] = true },
    [LANE_DELAYED] = { [LANE_READY] = true,
                       [LANE_ACKED] = true,
                       [LANE_GAP] = true,
                       [LANE_DELETED] = true },
};

void lane_move(struct lane *lane, enum lane_state from, enum lane_state to,
               uint64_t count)
{
    CHECK(may_move[from][to] && lane->count[from] >= count);
    lane->count[from] -= count;
    lane->count[to] += count;
}

static enum status copy_settled(struct lane *lane, const struct seqset *acked)
{
    size_t count = acked == NULL ? 0 : seqset_range_count(acked);

    for (size_t i = 0; i < count; i++) {
        struct seq_range range = seqset_ranges(acked)[i];
        enum status status;

        range.first = range.first == 0 ? 1 : range.first;
        range.last = range.last > lane->end ? lane->end : range.last;
        if (range.first > range.last) {
            continue;
        }
        status = seqset_add(&lane->settled, range.first, range.last, NULL);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* How many of the gaps are settled: by the log's account all of them. */
static uint64_t count_gaps(const struct lane *lane, const struct seqset *gaps)
{
    size_t range_count = gaps == NULL ? 0 : seqset_range_count(gaps);
    uint64_t count = 0;

    for (size_t i = 0; i < range_count; i++) {
        struct seq_range gap = seqset_ranges(gaps)[i];
        while (gap.first <= gap.last && gap.first <= lane->end) {
            struct stretch stretch = lane_stretch(lane, gap.first, gap.last);
            if (stretch.kind == STRETCH_SETTLED) {
                count += stretch.range.last - stretch.range.first + 1;
            }
            if (stretch.range.last == UINT64_MAX) {
                break;
            }
            gap.first = stretch.range.last + 1;
        }
    }
    return count;
}

/* All that is there before anything was delivered. */
static enum status count_all(struct lane *lane, const struct lane_start *start)
{
    uint64_t settled = seqset_count(&lane->settled);
    uint64_t deleted = 0;
    enum status status = STATUS_OK;

    lane->count[LANE_GAP] = count_gaps(lane, start->gaps);
    lane->count[LANE_ACKED] = settled - lane->count[LANE_GAP];
    if (start->first_seq > 1) {
        lane->first =
            start->first_seq > lane->end ? lane->end + 1 : start->first_seq;
    }
    if (lane->first > 1) {
        status = seqset_add(&lane->settled, 1, lane->first - 1, &deleted);
    }
    lane->count[LANE_DELETED] = deleted;
    lane->count[LANE_READY] = lane->end - settled - deleted;
    return status;
}

struct lane *lane_new(const struct lane_start *start)
{
    struct lane *lane = calloc(1, sizeof *lane);

    if (lane == NULL) {
        return NULL;
    }
    lane->topic = start->topic;
    lane->user = start->user;
    lane->end = start->end;
    lane->first = 1;
    lane->cursor = 1;
    link_init(&lane->fresh);
    link_init(&lane->redo);
    link_init(&lane->effects);
    if (copy_settled(lane, start->acked) != STATUS_OK
        || count_all(lane, start) != STATUS_OK) {
        lane_free(lane);
        return NULL;
    }
    return lane;
}

void lane_free(struct lane *lane)
{
    if (lane == NULL) {
        return;
    }
    link_remove(&lane->fresh);
    link_remove(&lane->redo);
    link_remove(&lane->effects);
    seqset_fini(&lane->settled);
    seqset_fini(&lane->early);
    seqset_fini(&lane->new_acked);
    seqset_fini(&lane->new_gaps);
    heap_fini(&lane->ready);
    free(lane->new_retries);
    free(lane);
}

void lane_extend(struct lane *lane, uint64_t end)
{
    if (end > lane->end) {
        lane->count[LANE_READY] += end - lane->end;
        lane->end = end;
    }
}

/* ---- fresh messages ---- */

static bool ends_before(const struct seqset *set, uint64_t seq)
{
    return seqset_range_count(set) == 0 || set->ranges[set->end - 1].last < seq;
}

bool lane_fresh(struct lane *lane, uint64_t *seq)
{
    uint64_t before;

    do {
        before = lane->cursor;
        if (!ends_before(&lane->settled, lane->cursor)) {
            lane->cursor = seqset_next_absent(&lane->settled, lane->cursor);
        }
        if (!ends_before(&lane->early, lane->cursor)) {
            lane->cursor = seqset_next_absent(&lane->early, lane->cursor);
        }
    } while (lane->cursor != before);
    seqset_drop_through(&lane->early, lane->cursor - 1);
    *seq = lane->cursor;
    return lane->cursor <= lane->end;
}

void lane_take_fresh(struct lane *lane)
{
    CHECK(lane->cursor <= lane->end);
    lane->cursor++;
}

/* ---- settling, and what the log must know ---- */

enum status lane_settle(struct lane *lane, uint64_t first, uint64_t last,
                        bool lost)
{
    uint64_t added;
    /* The note first: settled and not noted would come back after a restart,
     * noted and not settled only comes once more before it. */
    enum status status = seqset_add(lost ? &lane->new_gaps : &lane->new_acked,
                                    first, last, NULL);

    if (status == STATUS_OK) {
        status = seqset_add(&lane->settled, first, last, &added);
    }
    if (status == STATUS_OK) {
        CHECK(added == last - first + 1);
    }
    return status;
}

enum status lane_delete(struct lane *lane, uint64_t first, uint64_t last)
{
    uint64_t added;
    enum status status = seqset_add(&lane->settled, first, last, &added);

    if (status == STATUS_OK) {
        CHECK(added == last - first + 1);
    }
    return status;
}

enum status lane_reserve_retry(struct lane *lane)
{
    size_t capacity = lane->new_retry_capacity == 0
                          ? RETRY_CAPACITY_MIN
                          : lane->new_retry_capacity * 2;
    struct retry *retries;

    if (lane->new_retry_count < lane->new_retry_capacity) {
        return STATUS_OK;
    }
    retries = realloc(lane->new_retries, capacity * sizeof *retries);
    if (retries == NULL) {
        return STATUS_NOMEM;
    }
    lane->new_retries = retries;
    lane->new_retry_capacity = capacity;
    return STATUS_OK;
}

void lane_note_retry(struct lane *lane, const struct retry *retry)
{
    CHECK(lane->new_retry_count < lane->new_retry_capacity);
    lane->new_retries[lane->new_retry_count++] = *retry;
}

bool lane_has_effects(const struct lane *lane)
{
    return seqset_range_count(&lane->new_acked) > 0
           || seqset_range_count(&lane->new_gaps) > 0
           || lane->new_retry_count > lane->new_retry_begin;
}

static struct seqset first_ranges(const struct seqset *set)
{
    struct seqset view = *set;

    if (seqset_range_count(set) > EFFECTS_COUNT_MAX) {
        view.end = view.begin + EFFECTS_COUNT_MAX;
    }
    return view;
}

void lane_effects(const struct lane *lane, struct lane_effects *out)
{
    size_t count = lane->new_retry_count - lane->new_retry_begin;

    *out = (struct lane_effects) {
        .acked = first_ranges(&lane->new_acked),
        .gaps = first_ranges(&lane->new_gaps),
        .retries =
            count == 0 ? NULL : lane->new_retries + lane->new_retry_begin,
        .retry_count = count > EFFECTS_COUNT_MAX ? EFFECTS_COUNT_MAX : count,
    };
}

static void drop_told(struct seqset *set, const struct seqset *told)
{
    if (seqset_range_count(told) > 0) {
        seqset_drop_through(set, told->ranges[told->end - 1].last);
    }
}

void lane_effects_told(struct lane *lane, const struct lane_effects *told)
{
    drop_told(&lane->new_acked, &told->acked);
    drop_told(&lane->new_gaps, &told->gaps);
    lane->new_retry_begin += told->retry_count;
    if (lane->new_retry_begin == lane->new_retry_count) {
        lane->new_retry_begin = lane->new_retry_count = 0;
    }
}

/* ---- stretches ---- */

/* The range that holds seq or is the first behind it; NULL: none. */
static const struct seq_range *range_at(const struct seqset *set, uint64_t seq)
{
    size_t low = set->begin;
    size_t high = set->end;

    if (ends_before(set, seq)) {
        return NULL;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->ranges[middle].last < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return &set->ranges[low];
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct stretch stretch_of(enum stretch_kind kind, uint64_t first,
                                 uint64_t last)
{
    return (struct stretch) { kind, { first, last } };
}

struct stretch lane_stretch(const struct lane *lane, uint64_t first,
                            uint64_t last)
{
    const struct seq_range *range;
    uint64_t limit = smaller(last, lane->end);

    if (first == 0) {
        return stretch_of(STRETCH_BEYOND, 0, 0);
    }
    if (first > lane->end) {
        return stretch_of(STRETCH_BEYOND, first, last);
    }
    range = range_at(&lane->settled, first);
    if (range != NULL && range->first <= first) {
        return stretch_of(STRETCH_SETTLED, first, smaller(limit, range->last));
    }
    limit = range == NULL ? limit : smaller(limit, range->first - 1);
    if (first < lane->cursor) {
        return stretch_of(STRETCH_OPEN, first,
                          smaller(limit, lane->cursor - 1));
    }
    range = range_at(&lane->early, first);
    if (range != NULL && range->first <= first) {
        return stretch_of(STRETCH_OPEN, first, smaller(limit, range->last));
    }
    limit = range == NULL ? limit : smaller(limit, range->first - 1);
    return stretch_of(STRETCH_FRESH, first, limit);
}
