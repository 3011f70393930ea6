/* Counts of values (here nanoseconds) in buckets that grow with the value: each
 * power of two is cut into HISTOGRAM_STEPS equal buckets, so that what is read
 * back is at most 1/HISTOGRAM_STEPS above the value that was put in. One
 * thread; give each its own and merge them at the end. */
#ifndef GODWIT_BENCH_HISTOGRAM_H
#define GODWIT_BENCH_HISTOGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HISTOGRAM_STEP_BITS = 7,
    HISTOGRAM_STEPS = 1 << HISTOGRAM_STEP_BITS, /* 0.8 % */
    HISTOGRAM_VALUE_BITS = 42,                  /* 73 minutes in ns */
    HISTOGRAM_BUCKETS =
        (HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS
};

/* Zero-initialised is empty. */
struct histogram {
    uint64_t count;
    uint64_t min; /* exact, as max; 0 while empty */
    uint64_t max;
    double sum;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Larger values than 2^HISTOGRAM_VALUE_BITS are counted in the last bucket. */
void histogram_add(struct histogram *h, uint64_t value);

/* Add all that is in `from`. */
void histogram_merge(struct histogram *h, const struct histogram *from);

/* The value that `percent` (0 to 100) of all values do not exceed: the upper
 * edge of its bucket, never more than max. 0 while empty. */
uint64_t histogram_percentile(const struct histogram *h, double percent);
/* Are there enough values to speak of this percentile: is one beyond it? The
 * median and the maximum need but one value. */
bool histogram_tells(const struct histogram *h, double percent);
double histogram_mean(const struct histogram *h);

#endif
