/* links: godwit_tool godwit_proto */
#include "tools/bench/histogram.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { MANY = 20000 };

static struct histogram h;

TestSuite(histogram, .timeout = 10);

Test(histogram, empty_answers_nothing)
{
    cr_assert_eq(histogram_percentile(&h, 50), 0);
    cr_assert_eq(histogram_percentile(&h, 100), 0);
    cr_assert_float_eq(histogram_mean(&h), 0.0, 1e-9);
}

Test(histogram, small_values_are_exact)
{
    for (uint64_t v = 1; v <= 100; v++) {
        histogram_add(&h, v);
    }
    cr_assert_eq(histogram_percentile(&h, 50), 50);
    cr_assert_eq(histogram_percentile(&h, 99), 99);
    cr_assert_eq(histogram_percentile(&h, 100), 100);
    cr_assert_eq(histogram_percentile(&h, 0), 1);
    cr_assert_float_eq(histogram_mean(&h), 50.5, 1e-9);
}

Test(histogram, a_high_percentile_needs_a_value_beyond_it)
{
    cr_assert_not(histogram_tells(&h, 50));
    cr_assert_not(histogram_tells(&h, 100));
    histogram_add(&h, 7);
    cr_assert(histogram_tells(&h, 50));
    cr_assert_not(histogram_tells(&h, 90));
    cr_assert(histogram_tells(&h, 100));
    while (h.count < 9999) {
        histogram_add(&h, 7);
    }
    cr_assert(histogram_tells(&h, 99.9));
    cr_assert_not(histogram_tells(&h, 99.99));
    histogram_add(&h, 7);
    cr_assert(histogram_tells(&h, 99.99));
}

Test(histogram, a_rank_is_not_off_by_one)
{
    for (uint64_t v = 0; v < 1000; v++) {
        histogram_add(&h, v < 999 ? 10 : 100);
    }
    cr_assert_eq(histogram_percentile(&h, 99.9), 10);
    cr_assert_eq(histogram_percentile(&h, 99.91), 100);
}

/* Every value at and around each bucket's edge reads back at most 1/128 above. */
Test(histogram, the_error_is_bounded_over_the_whole_range)
{
    for (unsigned bits = 0; bits < HISTOGRAM_VALUE_BITS; bits++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t value =
                off < 0 ? (1ULL << bits) - 1 : (1ULL << bits) + (unsigned)off;
            uint64_t back;

            h = (struct histogram) { 0 };
            histogram_add(&h, value);
            histogram_add(&h, 1ULL << 50); /* so that max does not cap it */
            back = histogram_percentile(&h, 50);
            cr_assert_geq(back, value);
            cr_assert_leq(back - value, value / HISTOGRAM_STEPS);
        }
    }
}

Test(histogram, order_is_kept_across_buckets)
{
    uint64_t last = 0;

    for (uint64_t v = 1; v < 1ULL << 41; v += v / 100 + 1) {
        uint64_t back;

        h = (struct histogram) { 0 };
        histogram_add(&h, v);
        histogram_add(&h, UINT64_MAX);
        back = histogram_percentile(&h, 50);
        cr_assert_geq(back, last);
        last = back;
    }
}

Test(histogram, what_is_too_large_is_counted_and_max_is_exact)
{
    histogram_add(&h, 1);
    histogram_add(&h, 1ULL << HISTOGRAM_VALUE_BITS);
    histogram_add(&h, UINT64_MAX);
    cr_assert_eq(h.count, 3);
    cr_assert_eq(histogram_percentile(&h, 99), UINT64_MAX);
    cr_assert_eq(h.max, UINT64_MAX);
    cr_assert_eq(h.min, 1);
}

Test(histogram, merged_is_as_if_all_were_added_to_one)
{
    static struct histogram one;
    static struct histogram other;

    for (uint64_t v = 1; v < 100000; v += v / 7 + 1) {
        histogram_add(v % 3 == 0 ? &one : &other, v);
        histogram_add(&h, v);
    }
    histogram_merge(&one, &other);
    cr_assert_arr_eq(&one, &h, sizeof h);
    other = (struct histogram) { 0 };
    histogram_merge(&one, &other);
    cr_assert_arr_eq(&one, &h, sizeof h);
    histogram_merge(&other, &one);
    cr_assert_arr_eq(&other, &h, sizeof h);
}

/* ---- against the sorted values ---- */

typedef uint64_t (*percentile_fn)(const struct histogram *h, double percent);

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Values from 1 ns to about a minute, each power of two as often as another. */
static void draw(uint64_t values[MANY])
{
    uint64_t random = 88172645463325252U;

    for (size_t i = 0; i < MANY; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        values[i] = (uint64_t)exp((double)(random % 250000) / 10000.0);
        histogram_add(&h, values[i]);
    }
    qsort(values, MANY, sizeof values[0], by_value);
}

/* How many of a thousand percentiles are below the value of that rank, or more
 * than 1/128 above it. */
static int wrong_ones(percentile_fn percentile)
{
    static uint64_t values[MANY];
    int wrong = 0;

    h = (struct histogram) { 0 };
    draw(values);
    for (size_t i = 1; i <= 1000; i++) {
        uint64_t exact = values[i * MANY / 1000 - 1];
        uint64_t back = percentile(&h, (double)i / 10.0);

        wrong += back < exact || back - exact > exact / HISTOGRAM_STEPS;
    }
    return wrong;
}

Test(histogram, percentiles_are_those_of_the_sorted_values)
{
    cr_assert_eq(wrong_ones(histogram_percentile), 0);
}

/* Planted: the lower edge of the bucket, not the upper one. */
static uint64_t lower_edge(const struct histogram *from, double percent)
{
    uint64_t upper = histogram_percentile(from, percent);

    return upper - upper / (HISTOGRAM_STEPS + 2);
}

/* Planted: the next value but one. */
static uint64_t rank_beside(const struct histogram *from, double percent)
{
    return histogram_percentile(from, percent + 0.01);
}

/* Planted: buckets half as fine. */
static uint64_t coarse(const struct histogram *from, double percent)
{
    return histogram_percentile(from, percent) / 64 * 65;
}

Test(histogram, planted_bugs_are_found)
{
    cr_assert_gt(wrong_ones(lower_edge), 500);
    cr_assert_gt(wrong_ones(rank_beside), 50);
    cr_assert_gt(wrong_ones(coarse), 500);
}
