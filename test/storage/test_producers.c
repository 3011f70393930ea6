/* links: godwit_storage godwit_proto */
#include "storage/producers.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static struct producers p;
static uint64_t gone_ids[16];
static unsigned gone_count;

static void on_gone(void *arg, const struct producer *entry)
{
    (void)arg;
    gone_ids[gone_count++] = entry->id;
}

static void set_up(void)
{
    cr_assert(eq(int, producers_init(&p, 4, 12345), STATUS_OK));
    p.gone = on_gone;
}

static void tear_down(void)
{
    producers_fini(&p);
}

TestSuite(producers, .init = set_up, .fini = tear_down);

static void store(uint64_t id, uint64_t number, uint64_t seq)
{
    struct producer message = { .app = 1,
                                .id = id,
                                .topic = 2,
                                .last = number,
                                .run_seq = seq,
                                .used = number };

    producers_note(&p, producers_find(&p, 1, id), &message);
}

/* The seq it was stored as, 0 when that is forgotten, -1 when not stored. */
static long stored(uint64_t id, uint64_t number)
{
    struct producer *entry = producers_find(&p, 1, id);
    uint64_t seq;

    if (entry == NULL || !producer_stored(entry, number, &seq)) {
        return -1;
    }
    return (long)seq;
}

Test(producers, at_the_bound_all_are_known_and_past_it_the_oldest_goes)
{
    for (uint64_t id = 1; id <= 4; id++) {
        store(id, 1, id * 10);
    }
    cr_assert(eq(u32, gone_count, 0));
    for (uint64_t id = 1; id <= 4; id++) {
        cr_assert(eq(long, stored(id, 1), (long)id * 10));
    }
    (void)stored(1, 1); /* heard of again: 2 is the oldest now */
    store(5, 1, 50);
    cr_assert(eq(u32, gone_count, 1));
    cr_assert(eq(u64, gone_ids[0], 2));
    cr_assert(eq(long, stored(2, 1), -1));
    cr_assert(eq(long, stored(1, 1), 10));
    cr_assert(eq(long, stored(5, 1), 50));
}

Test(producers, many_come_and_go)
{
    p.gone = NULL;
    for (uint64_t id = 1; id <= 10000; id++) {
        store(id, 1, id);
        if (id > 4) {
            cr_assert(eq(long, stored(id, 1), (long)id));
            cr_assert(eq(long, stored(id - 4, 1), -1));
        }
    }
}

Test(producers, the_last_run_is_known_by_its_seqs)
{
    store(1, 1, 100);
    store(1, 2, 101);
    store(1, 3, 102);
    cr_assert(eq(long, stored(1, 1), 100));
    cr_assert(eq(long, stored(1, 3), 102));
    store(1, 4, 110); /* somebody else's came between */
    store(1, 5, 111);
    cr_assert(eq(long, stored(1, 3), 0));
    cr_assert(eq(long, stored(1, 4), 110));
    cr_assert(eq(long, stored(1, 5), 111));
    cr_assert(eq(long, stored(1, 6), -1));
}

Test(producers, a_first_number_above_one_leaves_the_lower_ones_open)
{
    store(1, 5, 1);
    cr_assert(eq(long, stored(1, 4), -1));
    store(1, 4, 2);
    cr_assert(eq(long, stored(1, 4), 2));
    cr_assert(eq(long, stored(1, 3), -1));
}

/* Against a plain table of what was stored: with many holes a stored one may be
 * taken for new, never the other way round. */
static void check_against_table(void)
{
    bool is_stored[400] = { false };
    uint64_t x = 7;

    for (int i = 0; i < 2000; i++) {
        uint64_t number;
        x = x * 6364136223846793005u + 1442695040888963407u;
        number = 1 + (x >> 33) % 399;
        if (stored(1, number) < 0) {
            store(1, number, (uint64_t)i + 1);
            is_stored[number] = true;
        } else {
            cr_assert(is_stored[number], "%d", (int)number);
        }
    }
}

Test(producers, what_was_not_stored_is_never_dropped)
{
    check_against_table();
}

Test(producers, up_to_four_holes_are_exact)
{
    static const uint64_t order[] = { 3, 6, 9, 12, 5, 2, 11, 8, 1, 4, 7, 10 };

    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        cr_assert(eq(long, stored(1, order[i]), -1));
        store(1, order[i], i + 1);
        for (size_t k = 0; k <= i; k++) {
            cr_assert(ge(long, stored(1, order[k]), 0));
        }
    }
}
