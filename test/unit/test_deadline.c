/* links: godwit_net godwit_proto */
#include "broker/net/deadline.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>

TestSuite(deadline, .timeout = 30);

enum { COUNT = 500 };

static struct deadline entries[COUNT];

static void expect_first_is_least(const struct deadlines *d)
{
    struct deadline *first = deadlines_first(d);
    size_t count = 0;

    for (size_t i = 0; i < COUNT; i++) {
        if (entries[i].place != 0) {
            count++;
            cr_assert_leq(first->due_ms, entries[i].due_ms);
        }
    }
    cr_assert_eq(count, d->count);
    cr_assert_eq(first == NULL, count == 0);
}

Test(deadline, the_first_is_always_the_least)
{
    struct deadlines d = { 0 };

    srand(1);
    cr_assert_eq(deadlines_reserve(&d, COUNT), STATUS_OK);
    for (int i = 0; i < 20000; i++) {
        struct deadline *one = &entries[rand() % COUNT];

        if (rand() % 3 == 0) {
            deadline_clear(&d, one);
        } else {
            deadline_set(&d, one, (uint64_t)(rand() % 1000));
        }
        expect_first_is_least(&d);
    }
    deadlines_fini(&d);
}

Test(deadline, they_come_out_in_order)
{
    struct deadlines d = { 0 };
    uint64_t last = 0;

    cr_assert_eq(deadlines_reserve(&d, COUNT), STATUS_OK);
    for (size_t i = 0; i < COUNT; i++) {
        deadline_set(&d, &entries[i], (i * 7919) % 1009);
    }
    while (deadlines_first(&d) != NULL) {
        struct deadline *first = deadlines_first(&d);

        cr_assert_geq(first->due_ms, last);
        last = first->due_ms;
        deadline_clear(&d, first);
    }
    deadlines_fini(&d);
}
