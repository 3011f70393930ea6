#include "storage/ranges.h"

/* To copy a range in a pass costs as much as to move so many of them. */
enum { PASS_COST = 8 };

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

uint64_t set_count(const struct seqset *set, struct seq_range range)
{
    size_t count = seqset_range_count(set);
    const struct seq_range *ranges = seqset_ranges(set);
    uint64_t sum = 0;

    for (size_t i = set_range_at(set, range.first);
         i < count && ranges[i].first <= range.last; i++) {
        uint64_t first =
            ranges[i].first < range.first ? range.first : ranges[i].first;
        uint64_t last =
            ranges[i].last > range.last ? range.last : ranges[i].last;
        sum += last - first + 1;
    }
    return sum;
}

/* The stretches of `range` that are in `other`, or are not. */
static enum status common_stretches(struct seq_range range,
                                    const struct seqset *other, bool absent,
                                    struct seqset *out)
{
    size_t count = seqset_range_count(other);
    const struct seq_range *ranges = seqset_ranges(other);
    enum status status = STATUS_OK;
    uint64_t next = range.first;

    for (size_t i = set_range_at(other, range.first);
         i < count && ranges[i].first <= range.last && status == STATUS_OK;
         i++) {
        uint64_t first = ranges[i].first < next ? next : ranges[i].first;
        uint64_t last =
            ranges[i].last > range.last ? range.last : ranges[i].last;
        if (!absent) {
            status = seqset_add(out, first, last, NULL);
        } else if (first > next) {
            status = seqset_add(out, next, first - 1, NULL);
        }
        next = last + 1;
    }
    return absent && next <= range.last && status == STATUS_OK
               ? seqset_add(out, next, range.last, NULL)
               : status;
}

enum status set_common(const struct seqset *set, const struct seqset *other,
                       bool absent, struct seqset *out)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; i < seqset_range_count(set) && status == STATUS_OK;
         i++) {
        status = common_stretches(seqset_ranges(set)[i], other, absent, out);
    }
    return status;
}

/* `built` takes the place of the set, if it is whole. */
static enum status replace(struct seqset *set, struct seqset *built,
                           enum status status)
{
    if (status == STATUS_OK) {
        struct seqset old = *set;
        *set = *built;
        *built = old;
    }
    seqset_fini(built);
    return status;
}

/* One by one each moves those of `to` that lie behind it, or those before. */
static bool is_worth_a_pass(const struct seqset *to, const struct seqset *set)
{
    size_t count = seqset_range_count(set);
    size_t to_count = seqset_range_count(to);
    size_t before;
    size_t behind;

    if (count == 0 || to_count == 0) {
        return false;
    }
    before = set_range_at(to, seqset_ranges(set)[count - 1].last);
    behind = to_count - set_range_at(to, seqset_ranges(set)[0].first);
    return count * (before < behind ? before : behind) / PASS_COST > to_count;
}

enum status set_add_all(struct seqset *to, const struct seqset *set)
{
    size_t count = seqset_range_count(set);
    size_t to_count = seqset_range_count(to);
    enum status status = STATUS_OK;
    struct seqset built = { 0 };

    if (!is_worth_a_pass(to, set)) {
        for (size_t i = 0; i < count && status == STATUS_OK; i++) {
            const struct seq_range *range = &seqset_ranges(set)[i];
            status = seqset_add(to, range->first, range->last, NULL);
        }
        return status;
    }
    for (size_t i = 0, j = 0;
         i + j < count + to_count && status == STATUS_OK;) {
        const struct seq_range *range =
            j == to_count
                    || (i < count
                        && seqset_ranges(set)[i].first
                               < seqset_ranges(to)[j].first)
                ? &seqset_ranges(set)[i++]
                : &seqset_ranges(to)[j++];
        status = seqset_add(&built, range->first, range->last, NULL);
    }
    return replace(to, &built, status);
}

enum status set_remove_all(struct seqset *from, const struct seqset *set)
{
    struct seqset built = { 0 };
    enum status status = STATUS_OK;

    if (is_worth_a_pass(from, set)) {
        return replace(from, &built, set_common(from, set, true, &built));
    }
    for (size_t i = 0; i < seqset_range_count(set) && status == STATUS_OK;
         i++) {
        const struct seq_range *range = &seqset_ranges(set)[i];
        status = seqset_remove(from, range->first, range->last, NULL);
    }
    return status;
}
