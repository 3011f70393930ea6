#include "tools/bench/histogram.h"

#include <math.h>

/* Values below HISTOGRAM_STEPS have a bucket each; from there on the top
 * HISTOGRAM_STEP_BITS + 1 bits of a value choose it. */
static size_t bucket_of(uint64_t value)
{
    unsigned shift;

    if (value >> HISTOGRAM_VALUE_BITS != 0) {
        return HISTOGRAM_BUCKETS - 1;
    }
    if (value < HISTOGRAM_STEPS) {
        return (size_t)value;
    }
    shift = 63U - (unsigned)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
    return (size_t)shift * HISTOGRAM_STEPS + (size_t)(value >> shift);
}

/* The largest value that falls into a bucket. */
static uint64_t upper_edge(size_t bucket)
{
    size_t shift;
    uint64_t top;

    if (bucket < 2 * HISTOGRAM_STEPS) {
        return bucket;
    }
    shift = bucket / HISTOGRAM_STEPS - 1;
    top = bucket - shift * HISTOGRAM_STEPS;
    return ((top + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    if (h->count == 0 || value < h->min) {
        h->min = value;
    }
    if (value > h->max) {
        h->max = value;
    }
    h->count++;
    h->sum += (double)value;
    h->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
    if (from->count == 0) {
        return;
    }
    if (h->count == 0 || from->min < h->min) {
        h->min = from->min;
    }
    if (from->max > h->max) {
        h->max = from->max;
    }
    h->count += from->count;
    h->sum += from->sum;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        h->buckets[i] += from->buckets[i];
    }
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    /* 99.9 % of 1,000 is 999, whatever the last bit of the product says */
    double wanted = ceil(percent / 100.0 * (double)h->count - 1e-6);
    uint64_t rank = wanted < 1.0 ? 1 : (uint64_t)wanted;
    uint64_t seen = 0;

    if (h->count == 0) {
        return 0;
    }
    for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        seen += h->buckets[i];
        if (seen >= rank) {
            uint64_t edge = upper_edge(i);

            return edge < h->max ? edge : h->max;
        }
    }
    return h->max;
}

bool histogram_tells(const struct histogram *h, double percent)
{
    /* 0.01 % of 10,000 is 1, whatever the last bit of the product says */
    double beyond = (100.0 - percent) / 100.0 * (double)h->count + 1e-6;

    return h->count > 0 && (percent <= 50 || percent >= 100 || beyond >= 1);
}

double histogram_mean(const struct histogram *h)
{
    return h->count > 0 ? h->sum / (double)h->count : 0.0;
}
