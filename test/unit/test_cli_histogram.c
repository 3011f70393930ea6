/* links: godwit_tool godwit_proto */
#include "tools/bench/histogram.h"

#include <criterion/criterion.h>
#include <stdbool.h>

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
