#include "broker/delivery/lane.h"

#include <stdlib.h>

static const bool may_move[LANE_STATES][LANE_STATES] = {
    [LANE_READY] = { [LANE_IN_FLIGHT] = true,
                     [LANE_DELAYED] = true,
                     [LANE_DEAD] = true, /* a redrive is taken back */
                     [LANE_ACKED] = true,
                     [LANE_GAP] = true,
                     [LANE_DELETED] = true,
                     [LANE_EXPIRED] = true,
                     [LANE_FILTERED] = true },
    [LANE_IN_FLIGHT] = { [LANE_READY] = true,
                         [LANE_DELAYED] = true,
                         [LANE_DEAD] = true,
                         [LANE_ACKED] = true,
                         [LANE_DELETED] = true },
    [LANE_DELAYED] = { [LANE_READY] = true,
                       [LANE_ACKED] = true,
                       [LANE_GAP] = true,
                       [LANE_DELETED] = true },
    [LANE_DEAD] = { [LANE_READY] = true,
                    [LANE_ACKED] = true,
                    [LANE_DELETED] = true },
};

void lane_move(struct lane *lane, enum lane_state from, enum lane_state to,
               uint64_t count)
{
    CHECK(may_move[from][to] && lane->count[from] >= count);
    lane->count[from] -= count;
    lane->count[to] += count;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- how a lane begins ---- */

typedef enum status (*range_fn)(struct lane *lane, struct seq_range range);

/* Each range of a set from a log, cut to low..high. */
static enum status each_range(struct lane *lane, const struct seqset *set,
                              uint64_t low, uint64_t high, range_fn fn)
{
    size_t count = set == NULL ? 0 : seqset_range_count(set);
    enum status status = STATUS_OK;

    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct seq_range range = seqset_ranges(set)[i];
        range.first = range.first < low ? low : range.first;
        range.last = smaller(range.last, high);
        if (range.first <= range.last) {
            status = fn(lane, range);
        }
    }
    return status;
}

static enum status add_settled(struct lane *lane, struct seq_range range)
{
    return seqset_add(&lane->settled, range.first, range.last, NULL);
}

/* Those of a range that are not settled: else it is not dead. */
static enum status add_dead(struct lane *lane, struct seq_range range)
{
    enum status status = STATUS_OK;
    uint64_t seq = range.first;

    while (seq <= range.last && status == STATUS_OK) {
        struct stretch s = lane_stretch(lane, seq, range.last);
        if (s.kind != STRETCH_SETTLED) {
            status = seqset_add(&lane->dead, s.range.first, s.range.last, NULL);
        }
        seq = s.range.last + 1;
    }
    return status;
}

/* How many of a set are settled and the lane's: by the log's account all. */
static uint64_t count_settled(const struct lane *lane, const struct seqset *set)
{
    size_t range_count = set == NULL ? 0 : seqset_range_count(set);
    uint64_t count = 0;

    for (size_t i = 0; i < range_count; i++) {
        struct seq_range range = seqset_ranges(set)[i];
        uint64_t seq =
            range.first <= lane->after ? lane->after + 1 : range.first;
        while (seq <= range.last && seq <= lane->end) {
            struct stretch s = lane_stretch(lane, seq, range.last);
            if (s.kind == STRETCH_SETTLED) {
                count += s.range.last - seq + 1;
            }
            seq = s.range.last + 1;
        }
    }
    return count;
}

/* 1..last are settled, but for the dead. */
static enum status settle_through(struct seqset *settled,
                                  const struct seqset *dead, uint64_t last)
{
    enum status status = STATUS_OK;
    uint64_t seq = 1;

    for (size_t i = 0; i < seqset_range_count(dead) && status == STATUS_OK;
         i++) {
        struct seq_range range = seqset_ranges(dead)[i];
        if (range.first > last) {
            break;
        }
        if (range.first > seq) {
            status = seqset_add(settled, seq, range.first - 1, NULL);
        }
        seq = range.last + 1;
    }
    if (status == STATUS_OK && seq <= last) {
        status = seqset_add(settled, seq, last, NULL);
    }
    return status;
}

/* The books of a beginning: `counted` of them are known, the rest is ready. */
static void count_rest(struct lane *lane)
{
    uint64_t others = 0;

    for (size_t i = 0; i < LANE_STATES; i++) {
        others += i == LANE_READY ? 0 : lane->count[i];
    }
    CHECK(others <= lane->published);
    lane->count[LANE_READY] = lane->published - others;
}

/* The dead that a seek left behind, those of them that were redriven, and those
 * that were deleted since. */
static uint64_t count_not_settled_below(const struct lane *lane)
{
    uint64_t count = 0;
    uint64_t seq = 1;

    while (seq <= lane->after) {
        uint64_t next = seqset_next_absent(&lane->settled, seq);
        if (next > lane->after) {
            break;
        }
        seq = next;
        while (seq <= lane->after && !seqset_has(&lane->settled, seq)) {
            seq++;
            count++;
        }
    }
    return count;
}

static enum status delete_below_first(struct lane *lane)
{
    uint64_t deleted = 0;
    enum status status = STATUS_OK;

    if (lane->first > 1) {
        status = seqset_add(&lane->settled, 1, lane->first - 1, &deleted);
    }
    lane->count[LANE_DELETED] += deleted;
    return status;
}

/* All that is there before anything is delivered. */
static enum status count_all(struct lane *lane, const struct lane_start *start)
{
    uint64_t left = count_settled(lane, &lane->settled);
    uint64_t *count = lane->count;
    enum status status = STATUS_OK;

    count[LANE_GAP] = smaller(left, count_settled(lane, start->gaps));
    left -= count[LANE_GAP];
    count[LANE_EXPIRED] = smaller(left, count_settled(lane, start->expired));
    left -= count[LANE_EXPIRED];
    count[LANE_FILTERED] = smaller(left, start->filtered);
    left -= count[LANE_FILTERED];
    count[LANE_DELETED] = smaller(left, start->discarded);
    lane->discarded_through = start->discarded > 0 ? lane->end : 0;
    left -= count[LANE_DELETED];
    count[LANE_ACKED] = left;
    count[LANE_DEAD] = seqset_count(&lane->dead);
    if (!start->sought) { /* what lies up to `after` never was the lane's */
        status = settle_through(&lane->settled, &lane->dead, lane->after);
    }
    lane->published = lane->end - lane->after + count_not_settled_below(lane);
    if (status == STATUS_OK) {
        status = delete_below_first(lane);
    }
    count_rest(lane);
    return status;
}

static enum status begin(struct lane *lane, const struct lane_start *start)
{
    enum status status =
        each_range(lane, start->settled, 1, lane->end, add_settled);

    if (status == STATUS_OK) {
        status =
            each_range(lane, start->dead, lane->first, lane->end, add_dead);
    }
    if (status == STATUS_OK) {
        status = count_all(lane, start);
    }
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
    lane->after = smaller(start->after, start->end);
    lane->first =
        start->first_seq == 0 ? 1 : smaller(start->first_seq, start->end + 1);
    lane->cursor = 1;
    link_init(&lane->fresh_link);
    link_init(&lane->redo_link);
    link_init(&lane->aside_link);
    link_init(&lane->effects_link);
    if (begin(lane, start) != STATUS_OK) {
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
    link_remove(&lane->fresh_link);
    link_remove(&lane->redo_link);
    link_remove(&lane->aside_link);
    link_remove(&lane->effects_link);
    seqset_fini(&lane->settled);
    seqset_fini(&lane->dead);
    seqset_fini(&lane->early);
    seqheap_fini(&lane->redo);
    seqheap_fini(&lane->aside);
    keys_free(lane->keys);
    untold_fini(&lane->untold);
    free(lane);
}

void lane_extend(struct lane *lane, uint64_t end)
{
    if (end > lane->end) {
        lane->published += end - lane->end;
        lane->count[LANE_READY] += end - lane->end;
        lane->end = end;
    }
}

/* ---- how it begins anew ---- */

/* The dead at or below `after`. */
static enum status copy_dead(const struct lane *lane, uint64_t after,
                             struct seqset *out)
{
    enum status status = STATUS_OK;

    for (size_t i = 0;
         i < seqset_range_count(&lane->dead) && status == STATUS_OK; i++) {
        struct seq_range range = seqset_ranges(&lane->dead)[i];
        if (range.first > after) {
            break;
        }
        status = seqset_add(out, range.first, smaller(range.last, after), NULL);
    }
    return status;
}

enum status lane_plan_anew(const struct lane *lane, uint64_t after,
                           struct lane_plan *out)
{
    struct lane_plan plan = { .after = after };
    enum status status = copy_dead(lane, after, &plan.dead);

    CHECK(after <= lane->end);
    if (status == STATUS_OK) {
        status = settle_through(&plan.settled, &plan.dead, after);
    }
    if (status == STATUS_OK && lane->first > after + 1) {
        status = seqset_add(&plan.settled, after + 1, lane->first - 1, NULL);
    }
    if (status != STATUS_OK) {
        seqset_fini(&plan.settled);
        seqset_fini(&plan.dead);
        return status;
    }
    *out = plan;
    return STATUS_OK;
}

void lane_begin_anew(struct lane *lane, struct lane_plan *plan)
{
    uint64_t after = plan->after;

    seqset_fini(&lane->settled);
    seqset_fini(&lane->dead);
    lane->settled = plan->settled;
    lane->dead = plan->dead;
    *plan = (struct lane_plan) { 0 };
    seqset_fini(&lane->early);
    seqheap_fini(&lane->redo);
    seqheap_fini(&lane->aside);
    lane->after = after;
    lane->cursor = after + 1;
    for (size_t i = 0; i < LANE_STATES; i++) {
        lane->count[i] = 0;
    }
    lane->discarded_through = 0;
    lane->count[LANE_DEAD] = seqset_count(&lane->dead);
    lane->count[LANE_DELETED] =
        lane->first > after + 1 ? lane->first - 1 - after : 0;
    lane->published = lane->end - after + lane->count[LANE_DEAD];
    count_rest(lane);
}

/* ---- fresh messages ---- */

static bool ends_before(const struct seqset *set, uint64_t seq)
{
    return seqset_range_count(set) == 0 || set->ranges[set->end - 1].last < seq;
}

static void skip(struct lane *lane, const struct seqset *set)
{
    if (!ends_before(set, lane->cursor)) {
        lane->cursor = seqset_next_absent(set, lane->cursor);
    }
}

bool lane_fresh(struct lane *lane, uint64_t *seq)
{
    uint64_t before;

    do {
        before = lane->cursor;
        skip(lane, &lane->settled);
        skip(lane, &lane->dead);
        if (!lane->early_in_turn) {
            skip(lane, &lane->early);
        }
    } while (lane->cursor != before);
    if (seqset_range_count(&lane->early) > 0) {
        seqset_drop_through(&lane->early, lane->cursor - 1);
    }
    *seq = lane->cursor;
    return lane->cursor <= lane->end;
}

void lane_take_fresh(struct lane *lane)
{
    CHECK(lane->cursor <= lane->end);
    lane->cursor++;
}

/* ---- settling ---- */

enum status lane_delete(struct lane *lane, uint64_t first, uint64_t last)
{
    uint64_t added;
    enum status status = seqset_add(&lane->settled, first, last, &added);

    if (status == STATUS_OK) {
        CHECK(added == last - first + 1);
    }
    return status;
}

enum status lane_settle(struct lane *lane, enum effect_set as, uint64_t first,
                        uint64_t last)
{
    /* The note first: settled and not noted would come back after a restart,
     * noted and not settled only comes once more before it. */
    enum status status =
        untold_add(&lane->untold, as, (struct seq_range) { first, last });

    return status == STATUS_OK ? lane_delete(lane, first, last) : status;
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

/* True: `first` is in the set, up to *limit; else none is before *limit. */
static bool cut(const struct seqset *set, uint64_t first, uint64_t *limit)
{
    const struct seq_range *range = range_at(set, first);

    if (range == NULL) {
        return false;
    }
    if (range->first <= first) {
        *limit = smaller(*limit, range->last);
        return true;
    }
    *limit = smaller(*limit, range->first - 1);
    return false;
}

static struct stretch stretch_of(enum stretch_kind kind, uint64_t first,
                                 uint64_t last)
{
    return (struct stretch) { kind, { first, last } };
}

struct stretch lane_stretch(const struct lane *lane, uint64_t first,
                            uint64_t last)
{
    uint64_t limit = smaller(last, lane->end);

    if (first == 0) {
        return stretch_of(STRETCH_BEYOND, 0, 0);
    }
    if (first > lane->end) {
        return stretch_of(STRETCH_BEYOND, first, last);
    }
    if (cut(&lane->settled, first, &limit)) {
        return stretch_of(STRETCH_SETTLED, first, limit);
    }
    if (cut(&lane->dead, first, &limit)) {
        return stretch_of(STRETCH_DEAD, first, limit);
    }
    if (first < lane->cursor) {
        return stretch_of(STRETCH_OPEN, first,
                          smaller(limit, lane->cursor - 1));
    }
    if (cut(&lane->early, first, &limit)) {
        return stretch_of(STRETCH_OPEN, first, limit);
    }
    return stretch_of(STRETCH_FRESH, first, limit);
}
