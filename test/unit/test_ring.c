/* links: godwit_delivery godwit_proto */
#include "broker/delivery/ring.h"

#include <criterion/criterion.h>
#include <signal.h>

enum { SLOTS = 4, CONSUMERS = 2 };

static struct ring *ring;
static int wakes[CONSUMERS];
static int producer_wakes;

static void count_call(void *arg)
{
    ++*(int *)arg;
}

static void set_up(void)
{
    ring = ring_new(sizeof(uint64_t), SLOTS, CONSUMERS);
    for (size_t i = 0; i < CONSUMERS; i++) {
        ring_set_wake(ring, i, count_call, &wakes[i]);
    }
    ring_set_producer_wake(ring, count_call, &producer_wakes);
}

static void tear_down(void)
{
    ring_free(ring);
}

TestSuite(ring, .init = set_up, .fini = tear_down, .timeout = 10);

static bool publish(uint64_t value)
{
    uint64_t *slot = ring_claim(ring);
    if (slot != NULL) {
        *slot = value;
        ring_publish(ring);
    }
    return slot != NULL;
}

static uint64_t entry(size_t consumer, size_t index)
{
    return *(const uint64_t *)ring_entry(ring, consumer, index);
}

Test(ring, every_consumer_sees_every_entry)
{
    cr_assert(publish(10) && publish(11));
    for (size_t i = 0; i < CONSUMERS; i++) {
        cr_assert_eq(ring_available(ring, i), 2);
        cr_assert_eq(entry(i, 0), 10);
        cr_assert_eq(entry(i, 1), 11);
        ring_consumed(ring, i, 2);
        cr_assert_eq(ring_available(ring, i), 0);
        cr_assert_eq(ring_done(ring, i), 2);
    }
    cr_assert_eq(ring_published(ring), 2);
}

Test(ring, consumers_go_at_their_own_pace)
{
    cr_assert(publish(1) && publish(2) && publish(3));
    ring_consumed(ring, 0, 1);
    cr_assert_eq(entry(0, 0), 2);
    cr_assert_eq(ring_available(ring, 0), 2);
    cr_assert_eq(entry(1, 0), 1);
    cr_assert_eq(ring_available(ring, 1), 3);
}

Test(ring, the_slowest_consumer_holds_the_producer)
{
    for (uint64_t i = 0; i < SLOTS; i++) {
        cr_assert(publish(i));
    }
    cr_assert(ring_claim(ring) == NULL);
    ring_consumed(ring, 0, SLOTS);
    cr_assert(ring_claim(ring) == NULL);
    ring_consumed(ring, 1, 1);
    cr_assert(publish(SLOTS));
    cr_assert(ring_claim(ring) == NULL);
    cr_assert_eq(entry(0, 0), SLOTS);
    cr_assert_eq(entry(1, 0), 1);
}

Test(ring, claiming_again_gives_the_same_slot)
{
    void *slot = ring_claim(ring);
    cr_assert(slot != NULL && ring_claim(ring) == slot);
    ring_publish(ring);
    cr_assert(ring_claim(ring) != slot);
}

Test(ring, goes_round_many_times)
{
    for (uint64_t i = 0; i < 100; i++) {
        cr_assert(publish(i));
        for (size_t c = 0; c < CONSUMERS; c++) {
            cr_assert_eq(entry(c, 0), i);
            ring_consumed(ring, c, 1);
        }
    }
    cr_assert_eq(ring_published(ring), 100);
}

Test(ring, only_sleepers_are_woken_and_once)
{
    cr_assert(ring_sleep(ring, 0));
    cr_assert(publish(1));
    cr_assert_eq(wakes[0], 1);
    cr_assert_eq(wakes[1], 0);
    cr_assert(publish(2));
    cr_assert_eq(wakes[0], 1);
}

Test(ring, nobody_sleeps_on_an_entry)
{
    cr_assert(publish(1));
    cr_assert(!ring_sleep(ring, 0));
    cr_assert(publish(2));
    cr_assert_eq(wakes[0], 0);
    ring_consumed(ring, 0, 2);
    cr_assert(ring_sleep(ring, 0));
    ring_awake(ring, 0);
    cr_assert(publish(3));
    cr_assert_eq(wakes[0], 0);
}

Test(ring, a_parked_producer_is_woken_when_there_is_room)
{
    for (uint64_t i = 0; i < SLOTS; i++) {
        cr_assert(publish(i));
    }
    cr_assert(ring_wait_room(ring));
    ring_consumed(ring, 0, 1);
    cr_assert_eq(producer_wakes, 1);
    cr_assert(ring_wait_room(ring)); /* the other one is still behind */
    ring_consumed(ring, 1, 1);
    cr_assert_eq(producer_wakes, 2);
    cr_assert(!ring_wait_room(ring));
    ring_consumed(ring, 0, 1);
    cr_assert_eq(producer_wakes, 2);
}

Test(ring, more_than_there_is_cannot_be_consumed, .signal = SIGABRT)
{
    cr_assert(publish(1));
    ring_consumed(ring, 0, 2);
}

Test(ring, an_unclaimed_slot_cannot_be_published, .signal = SIGABRT)
{
    for (uint64_t i = 0; i < SLOTS; i++) {
        cr_assert(publish(i));
    }
    ring_publish(ring);
}

Test(ring, a_length_that_is_no_power_of_two_is_a_bug, .signal = SIGABRT)
{
    (void)ring_new(8, 3, 1);
}

Test(ring, free_takes_null)
{
    ring_free(NULL);
}
