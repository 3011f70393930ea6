#include "storage/ranges.h"

#include <string.h>

size_t set_range_at(const struct seqset *set, uint64_t seq)
{
    const struct seq_range *ranges = seqset_ranges(set);
    size_t low = 0;
    size_t high = seqset_range_count(set);

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].last < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool set_stretch(const struct seqset *set, struct seq_range within, bool absent,
                 struct seq_range *out)
{
    size_t i = set_range_at(set, within.first);
    size_t count = seqset_range_count(set);
    const struct seq_range *ranges = seqset_ranges(set);

    *out = within;
    if (absent) {
        if (i < count && ranges[i].first <= within.first) {
            out->first = ranges[i].last + 1;
            i++;
        }
        if (i < count && ranges[i].first <= within.last) {
            out->last = ranges[i].first - 1;
        }
        return out->first <= within.last;
    }
    if (i == count || ranges[i].first > within.last) {
        return false;
    }
    if (ranges[i].first > within.first) {
        out->first = ranges[i].first;
    }
    if (ranges[i].last < within.last) {
        out->last = ranges[i].last;
    }
    return true;
}

/* One range loses its middle. */
static enum status split(struct seqset *set, size_t i, struct seq_range range)
{
    struct seq_range *r = &set->ranges[set->begin + i];
    struct seq_range tail = { range.last + 1, r->last };
    struct seq_range whole = *r;
    enum status status;

    r->last = range.first - 1;
    status = seqset_add(set, tail.first, tail.last, NULL);
    if (status != STATUS_OK) { /* it did not move anything */
        set->ranges[set->begin + i] = whole;
    }
    return status;
}

enum status set_remove(struct seqset *set, struct seq_range range)
{
    size_t count = seqset_range_count(set);
    size_t first = set_range_at(set, range.first);
    size_t stop = first;
    struct seq_range *ranges;

    if (first == count) { /* an empty set has no ranges at all */
        return STATUS_OK;
    }
    ranges = set->ranges + set->begin;
    if (ranges[first].first > range.last) {
        return STATUS_OK;
    }
    if (ranges[first].first < range.first) {
        if (ranges[first].last > range.last) {
            return split(set, first, range);
        }
        ranges[first].last = range.first - 1;
        stop = ++first;
    }
    while (stop < count && ranges[stop].last <= range.last) {
        stop++;
    }
    if (stop < count && ranges[stop].first <= range.last) {
        ranges[stop].first = range.last + 1;
    }
    if (stop > first) {
        memmove(ranges + first, ranges + stop, (count - stop) * sizeof *ranges);
        set->end -= stop - first;
    }
    return STATUS_OK;
}
