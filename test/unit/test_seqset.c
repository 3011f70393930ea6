/* links: godwit_proto */
#include "proto/seqset.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

static struct seqset set;

static void set_up(void)
{
    set = (struct seqset) { 0 };
}

static void tear_down(void)
{
    seqset_fini(&set);
}

TestSuite(seqset, .init = set_up, .fini = tear_down, .timeout = 30);

static uint64_t add(uint64_t first, uint64_t last)
{
    uint64_t added = UINT64_MAX;

    cr_assert_eq(seqset_add(&set, first, last, &added), STATUS_OK);
    return added;
}

Test(seqset, empty_has_nothing)
{
    cr_expect_not(seqset_has(&set, 0));
    cr_expect_not(seqset_has(&set, 1));
    cr_expect_eq(seqset_next_absent(&set, 7), 7);
    cr_expect_eq(seqset_count(&set), 0);
    cr_expect_eq(seqset_range_count(&set), 0);
    seqset_drop_through(&set, 100);
    seqset_clear(&set);
    cr_expect_eq(seqset_count(&set), 0);
}

Test(seqset, neighbours_become_one_range)
{
    cr_expect_eq(add(5, 5), 1);
    cr_expect_eq(add(7, 7), 1);
    cr_expect_eq(seqset_range_count(&set), 2);
    cr_expect_eq(add(6, 6), 1);
    cr_assert_eq(seqset_range_count(&set), 1);
    cr_expect_eq(seqset_ranges(&set)[0].first, 5);
    cr_expect_eq(seqset_ranges(&set)[0].last, 7);
}

Test(seqset, what_is_there_already_is_not_new)
{
    cr_expect_eq(add(10, 20), 11);
    cr_expect_eq(add(10, 20), 0);
    cr_expect_eq(add(12, 13), 0);
    cr_expect_eq(add(18, 25), 5);
    cr_expect_eq(add(1, 100), 100 - 16);
    cr_expect_eq(seqset_count(&set), 100);
    cr_assert_eq(seqset_add(&set, 1, 1, NULL), STATUS_OK);
}

Test(seqset, both_ends_of_the_number_line_fit)
{
    cr_expect_eq(add(UINT64_MAX, UINT64_MAX), 1);
    cr_expect_eq(add(0, 0), 1);
    cr_expect_eq(add(UINT64_MAX - 1, UINT64_MAX), 1);
    cr_expect(seqset_has(&set, UINT64_MAX));
    cr_expect(seqset_has(&set, 0));
    cr_expect_not(seqset_has(&set, 1));
    cr_expect_eq(seqset_range_count(&set), 2);
    seqset_drop_through(&set, UINT64_MAX);
    cr_expect_eq(seqset_count(&set), 0);
}

Test(seqset, every_other_number_comes_together_at_last)
{
    for (uint64_t i = 1; i < 2000; i += 2) {
        add(i, i);
    }
    cr_expect_eq(seqset_range_count(&set), 1000);
    cr_expect_eq(seqset_next_absent(&set, 1), 2);
    for (uint64_t i = 2; i < 2000; i += 2) {
        add(i, i);
    }
    cr_expect_eq(seqset_range_count(&set), 1);
    cr_expect_eq(seqset_next_absent(&set, 1), 2000);
}

Test(seqset, a_range_that_ends_before_it_begins_is_a_bug, .signal = SIGABRT)
{
    add(2, 1);
}

/* ---- against a bitmap ---- */

enum { MODEL = 400 };

static bool model[MODEL];

static uint32_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(random_state >> 8) * bound >> 24);
}

static uint64_t model_add(uint64_t first, uint64_t last)
{
    uint64_t added = 0;

    for (uint64_t i = first; i <= last; i++) {
        added += !model[i];
        model[i] = true;
    }
    return added;
}

static void expect_well_formed(void)
{
    const struct seq_range *ranges = seqset_ranges(&set);

    for (size_t i = 0; i < seqset_range_count(&set); i++) {
        cr_assert_leq(ranges[i].first, ranges[i].last);
        cr_assert(i == 0 || ranges[i - 1].last + 1 < ranges[i].first,
                  "ranges touch or are out of order");
    }
}

static void expect_same(void)
{
    uint64_t count = 0;
    uint64_t next = MODEL;

    expect_well_formed();
    for (uint64_t i = MODEL; i-- > 0;) {
        next = model[i] ? next : i;
        count += model[i];
        cr_assert_eq(seqset_has(&set, i), model[i], "number %lu", i);
        cr_assert_eq(seqset_next_absent(&set, i), next, "number %lu", i);
    }
    cr_assert_eq(seqset_count(&set), count);
}

static void random_step(void)
{
    uint32_t what = random_below(100);
    uint64_t first = random_below(MODEL);
    uint64_t last = first + random_below(what < 70 ? 3 : 60);

    if (what < 30) {
        uint64_t had = 0;
        uint64_t removed = 0;
        last = last < MODEL ? last : MODEL - 1;
        for (uint64_t seq = first; seq <= last; seq++) {
            had += model[seq];
            model[seq] = 0;
        }
        cr_assert_eq(seqset_remove(&set, first, last, &removed), STATUS_OK);
        cr_assert_eq(removed, had);
    } else if (what < 92) {
        last = last < MODEL ? last : MODEL - 1;
        cr_assert_eq(add(first, last), model_add(first, last));
    } else if (what < 99) {
        first /= 4;
        seqset_drop_through(&set, first);
        memset(model, 0, (size_t)first + 1);
    } else {
        seqset_clear(&set);
        memset(model, 0, sizeof model);
    }
}

Test(seqset, the_first_stretch_within_is_found)
{
    struct seq_range out;

    cr_expect_not(
        seqset_find(&set, (struct seq_range) { 1, UINT64_MAX }, &out));
    (void)add(3, 5);
    (void)add(8, 9);
    cr_expect_not(seqset_find(&set, (struct seq_range) { 1, 2 }, &out));
    cr_assert(seqset_find(&set, (struct seq_range) { 1, 3 }, &out));
    cr_expect(out.first == 3 && out.last == 3);
    cr_assert(seqset_find(&set, (struct seq_range) { 4, 20 }, &out));
    cr_expect(out.first == 4 && out.last == 5);
    cr_assert(seqset_find(&set, (struct seq_range) { 6, 20 }, &out));
    cr_expect(out.first == 8 && out.last == 9);
    cr_expect_not(seqset_find(&set, (struct seq_range) { 6, 7 }, &out));
    cr_expect_not(seqset_find(&set, (struct seq_range) { 10, 20 }, &out));
}

Test(seqset, the_inside_of_a_range_is_taken_out)
{
    uint64_t removed = 0;

    (void)add(1, 10);
    cr_assert_eq(seqset_remove(&set, 4, 6, &removed), STATUS_OK);
    cr_expect_eq(removed, 3);
    cr_assert_eq(seqset_range_count(&set), 2);
    cr_expect_eq(seqset_ranges(&set)[0].last, 3);
    cr_expect_eq(seqset_ranges(&set)[1].first, 7);
    cr_assert_eq(seqset_remove(&set, 1, UINT64_MAX, &removed), STATUS_OK);
    cr_expect_eq(removed, 7);
    cr_expect_eq(seqset_range_count(&set), 0);
}

Test(seqset, behaves_as_a_bitmap_does)
{
    for (uint32_t seed = 1; seed <= 20; seed++) {
        random_state = seed;
        seqset_clear(&set);
        memset(model, 0, sizeof model);
        for (int i = 0; i < 400; i++) {
            random_step();
            expect_same();
        }
    }
}

/* A million dead messages are redriven from the first on. */
Test(seqset, ranges_are_taken_out_at_the_front_without_moving_the_rest)
{
    enum { COUNT = 1000000 };

    for (uint64_t i = 0; i < COUNT; i++) {
        add(2 * i, 2 * i);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        cr_assert_eq(seqset_remove(&set, 2 * i, 2 * i, NULL), STATUS_OK);
    }
    cr_expect_eq(seqset_count(&set), 0);
    cr_expect_eq(add(5, 5), 1);
}

/* One ack of all over a lane in which every other one is settled. */
Test(seqset, ranges_become_one_at_the_front_without_moving_the_rest)
{
    enum { COUNT = 1000000 };

    for (uint64_t i = 0; i < COUNT; i++) {
        add(2 * i, 2 * i);
    }
    for (uint64_t i = 0; i < COUNT - 1; i++) {
        cr_assert_eq(add(2 * i + 1, 2 * i + 1), 1);
        cr_assert_eq(set.end, COUNT); /* the last one lies where it lay */
    }
    cr_expect_eq(seqset_range_count(&set), 1);
    cr_expect_eq(seqset_count(&set), 2 * COUNT - 1);
}

/* What was taken out at the front is room for what is added there. */
Test(seqset, a_range_is_added_at_the_front_without_moving_the_rest)
{
    for (uint64_t i = 0; i < 100; i++) {
        add(10 * i, 10 * i);
    }
    cr_assert_eq(seqset_remove(&set, 0, 100, NULL), STATUS_OK);
    for (uint64_t i = 1; i <= 10; i++) {
        cr_assert_eq(add(10 * i, 10 * i), 1);
        cr_assert_eq(set.end, 100);
    }
    cr_expect_eq(seqset_range_count(&set), 99);
}

/* The usual life: added in order, dropped at the front. The array must not grow
 * with what was dropped. */
Test(seqset, memory_follows_what_is_in_it)
{
    for (uint64_t i = 1; i < 100000; i += 2) {
        add(i, i);
        if (i > 20) {
            seqset_drop_through(&set, i - 20);
        }
    }
    cr_expect_leq(set.capacity, 64);
    cr_expect_eq(seqset_range_count(&set), 10);
}
