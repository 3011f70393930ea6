#include "storage/ranges.h"

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

enum status set_remove(struct seqset *set, struct seq_range range)
{
    return seqset_remove(set, range.first, range.last, NULL);
}
