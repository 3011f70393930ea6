#include "proto/seqset.h"

#include <stdlib.h>
#include <string.h>

enum { SEQSET_CAPACITY_MIN = 8 };

void seqset_fini(struct seqset *set)
{
    free(set->ranges);
    *set = (struct seqset) { 0 };
}

void seqset_clear(struct seqset *set)
{
    set->begin = set->end = 0;
}

/* Index of the first range whose last is >= seq; `end` when there is none.
 * The last range is tried first: most additions are at the end. */
static size_t find(const struct seqset *set, uint64_t seq)
{
    size_t low = set->begin;
    size_t high = set->end;

    if (low < high && set->ranges[high - 1].last < seq) {
        return high;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->ranges[middle].last < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* What was removed at the front is used again. */
static void pull_together(struct seqset *set)
{
    size_t count = seqset_range_count(set);

    memmove(set->ranges, set->ranges + set->begin, count * sizeof *set->ranges);
    set->begin = 0;
    set->end = count;
}

static enum status make_room(struct seqset *set)
{
    size_t capacity;
    struct seq_range *ranges;

    if (set->end < set->capacity) {
        return STATUS_OK;
    }
    if (set->begin > set->capacity / 2) {
        pull_together(set);
        return STATUS_OK;
    }
    capacity = set->capacity == 0 ? SEQSET_CAPACITY_MIN : set->capacity * 2;
    ranges = realloc(set->ranges, capacity * sizeof *ranges);
    if (ranges == NULL && set->begin > 0) {
        pull_together(set);
        return STATUS_OK;
    }
    if (ranges == NULL) {
        return STATUS_NOMEM;
    }
    set->ranges = ranges;
    set->capacity = capacity;
    return STATUS_OK;
}

/* A place for one more at *at; the fewer of the others move. */
static enum status insert_at(struct seqset *set, size_t *at,
                             struct seq_range range)
{
    size_t before = *at - set->begin;
    enum status status;

    if (set->begin > 0 && before < set->end - *at) {
        memmove(set->ranges + set->begin - 1, set->ranges + set->begin,
                before * sizeof *set->ranges);
        set->begin--;
        set->ranges[--*at] = range;
        return STATUS_OK;
    }
    status = make_room(set);
    if (status != STATUS_OK) {
        return status;
    }
    *at = set->begin + before;
    memmove(set->ranges + *at + 1, set->ranges + *at,
            (set->end - *at) * sizeof *set->ranges);
    set->ranges[*at] = range;
    set->end++;
    return STATUS_OK;
}

static uint64_t range_len(struct seq_range range)
{
    return range.last - range.first + 1;
}

/* The ranges at..stop - 1 go; the fewer of the others move. */
static void take_out(struct seqset *set, size_t at, size_t stop)
{
    size_t before = at - set->begin;
    size_t behind = set->end - stop;

    if (at == stop) {
        return;
    }
    if (before < behind) {
        memmove(set->ranges + stop - before, set->ranges + set->begin,
                before * sizeof *set->ranges);
        set->begin += stop - at;
    } else {
        memmove(set->ranges + at, set->ranges + stop,
                behind * sizeof *set->ranges);
        set->end -= stop - at;
    }
}

enum status seqset_add(struct seqset *set, uint64_t first, uint64_t last,
                       uint64_t *added)
{
    struct seq_range merged = { first, last };
    uint64_t had = 0;
    size_t at;
    size_t stop;

    CHECK(first <= last);
    /* Everything that overlaps or touches first..last becomes one range. */
    at = find(set, first == 0 ? 0 : first - 1);
    stop = at;
    while (stop < set->end
           && (last == UINT64_MAX || set->ranges[stop].first <= last + 1)) {
        struct seq_range old = set->ranges[stop];
        had += range_len(old);
        merged.first = old.first < merged.first ? old.first : merged.first;
        merged.last = old.last > merged.last ? old.last : merged.last;
        stop++;
    }
    if (stop == at) {
        enum status status = insert_at(set, &at, merged);
        if (status != STATUS_OK) {
            return status;
        }
    } else {
        set->ranges[stop - 1] = merged;
        take_out(set, at, stop - 1);
    }
    if (added != NULL) {
        *added = range_len(merged) - had;
    }
    return STATUS_OK;
}

/* The inside of the range at `at` goes: two are left of it. */
static enum status split(struct seqset *set, size_t at, uint64_t first,
                         uint64_t last, uint64_t *removed)
{
    struct seq_range before = { set->ranges[at].first, first - 1 };
    enum status status = insert_at(set, &at, before);

    if (status == STATUS_OK) {
        set->ranges[at + 1].first = last + 1;
        if (removed != NULL) {
            *removed = last - first + 1;
        }
    }
    return status;
}

enum status seqset_remove(struct seqset *set, uint64_t first, uint64_t last,
                          uint64_t *removed)
{
    size_t at = find(set, first);
    size_t stop;
    uint64_t gone = 0;

    CHECK(first <= last);
    if (at < set->end && set->ranges[at].first < first) {
        struct seq_range *range = &set->ranges[at];
        if (range->last > last) {
            return split(set, at, first, last, removed);
        }
        gone = range->last - first + 1;
        range->last = first - 1;
        at++;
    }
    for (stop = at; stop < set->end && set->ranges[stop].last <= last; stop++) {
        gone += range_len(set->ranges[stop]);
    }
    if (stop < set->end && set->ranges[stop].first <= last) {
        gone += last - set->ranges[stop].first + 1;
        set->ranges[stop].first = last + 1;
    }
    take_out(set, at, stop);
    if (removed != NULL) {
        *removed = gone;
    }
    return STATUS_OK;
}

bool seqset_has(const struct seqset *set, uint64_t seq)
{
    size_t at = find(set, seq);
    return at < set->end && set->ranges[at].first <= seq;
}

uint64_t seqset_next_absent(const struct seqset *set, uint64_t seq)
{
    size_t at = find(set, seq);

    if (at < set->end && set->ranges[at].first <= seq) {
        return set->ranges[at].last + 1;
    }
    return seq;
}

bool seqset_find(const struct seqset *set, struct seq_range within,
                 struct seq_range *out)
{
    size_t at = find(set, within.first);

    if (at == set->end || set->ranges[at].first > within.last) {
        return false;
    }
    *out = set->ranges[at];
    out->first = out->first < within.first ? within.first : out->first;
    out->last = out->last > within.last ? within.last : out->last;
    return true;
}

void seqset_drop_through(struct seqset *set, uint64_t seq)
{
    while (set->begin < set->end && set->ranges[set->begin].last <= seq) {
        set->begin++;
    }
    if (set->begin == set->end) {
        set->begin = set->end = 0;
    } else if (set->ranges[set->begin].first <= seq) {
        set->ranges[set->begin].first = seq + 1;
    }
}

uint64_t seqset_count(const struct seqset *set)
{
    uint64_t count = 0;

    for (size_t i = set->begin; i < set->end; i++) {
        count += range_len(set->ranges[i]);
    }
    return count;
}
