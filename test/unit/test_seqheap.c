/* links: godwit_delivery godwit_proto */
#include "broker/delivery/seqheap.h"

#include <criterion/criterion.h>

static struct seqheap heap;

TestSuite(seqheap, .timeout = 10);

static void push(uint64_t seq)
{
    cr_assert(seqheap_reserve(&heap) == STATUS_OK);
    seqheap_push(&heap, seq);
}

static bool is_even(void *arg, uint64_t seq)
{
    (void)arg;
    return seq % 2 == 0;
}

Test(seqheap, the_smallest_comes_first_in_any_order)
{
    uint32_t random = 1;
    uint64_t before = 0;

    cr_assert_eq(seqheap_first(&heap), 0);
    for (int i = 0; i < 1000; i++) {
        random = random * 1664525 + 1013904223;
        push(1 + random % 500);
    }
    for (int i = 0; i < 1000; i++) {
        cr_assert(seqheap_first(&heap) >= before);
        before = seqheap_first(&heap);
        seqheap_pop(&heap);
    }
    cr_assert_eq(seqheap_first(&heap), 0);
    seqheap_fini(&heap);
}

Test(seqheap, a_filter_leaves_each_once)
{
    for (uint64_t seq = 100; seq > 0; seq--) {
        push(seq);
        push(seq);
    }
    seqheap_filter(&heap, is_even, NULL);
    cr_assert_eq(heap.count, 50);
    push(1);
    cr_assert_eq(seqheap_first(&heap), 1);
    seqheap_pop(&heap);
    for (uint64_t seq = 2; seq <= 100; seq += 2) {
        cr_assert_eq(seqheap_first(&heap), seq);
        seqheap_pop(&heap);
    }
    seqheap_fini(&heap);
}

Test(seqheap, what_is_below_is_dropped_in_any_order)
{
    uint32_t random = 7;
    uint64_t before = 300;
    size_t left = 0;

    for (int i = 0; i < 1000; i++) {
        random = random * 1664525 + 1013904223;
        push(1 + random % 500);
        left += 1 + random % 500 >= 300;
    }
    seqheap_drop_below(&heap, 300);
    cr_assert_eq(heap.count, left);
    for (; left > 0; left--) {
        cr_assert(seqheap_first(&heap) >= before);
        before = seqheap_first(&heap);
        seqheap_pop(&heap);
    }
    seqheap_drop_below(&heap, 1000);
    cr_assert_eq(heap.count, 0);
    seqheap_fini(&heap);
}
