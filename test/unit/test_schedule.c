/* links: godwit_delivery godwit_proto */
#include "broker/delivery/group.h"
#include "broker/delivery/lane.h"
#include "broker/delivery/schedule.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

static struct schedule schedule;
static struct lane *one;
static struct lane *two;

static void set_up(void)
{
    one = lane_new(&(struct lane_start) { .topic = 1, .end = 100000 });
    two = lane_new(&(struct lane_start) { .topic = 2, .end = 100000 });
}

static void tear_down(void)
{
    schedule_fini(&schedule);
    lane_free(one);
    lane_free(two);
}

TestSuite(schedule, .init = set_up, .fini = tear_down, .timeout = 10);

static struct waiting *add(struct lane *lane, uint64_t seq, uint32_t attempts)
{
    cr_assert(schedule_reserve(&schedule, lane) == STATUS_OK);
    return schedule_add(&schedule, lane, seq, attempts);
}

Test(schedule, an_empty_one_is_never_due)
{
    cr_assert_eq(schedule_due_us(&schedule), UINT64_MAX);
    cr_assert_eq(schedule_count(&schedule), 0);
    cr_assert(schedule_find(&schedule, 1, 1) == NULL);
}

Test(schedule, ready_ones_come_by_seq_in_their_lane)
{
    static const uint64_t seqs[] = { 50, 10, 40, 20, 30 };

    for (size_t i = 0; i < COUNT_OF(seqs); i++) {
        (void)add(one, seqs[i], 1);
        (void)add(two, seqs[i] + 1, 1);
    }
    cr_assert_eq(schedule_count(&schedule), 10);
    for (uint64_t seq = 10; seq <= 50; seq += 10) {
        cr_assert_eq(heap_first(&one->ready)->seq, seq);
        cr_assert(schedule_find(&schedule, 1, seq) == heap_first(&one->ready));
        schedule_remove(&schedule, heap_first(&one->ready));
        cr_assert(schedule_find(&schedule, 1, seq) == NULL);
    }
    cr_assert(heap_first(&one->ready) == NULL);
    cr_assert_eq(heap_first(&two->ready)->seq, 11);
    cr_assert_eq(one->waiting_count, 0);
    cr_assert_eq(two->waiting_count, 5);
}

Test(schedule, delayed_ones_come_by_due_time_over_all_lanes)
{
    schedule_delay(&schedule, add(one, 1, 2), 300);
    schedule_delay(&schedule, add(two, 1, 2), 100);
    schedule_delay(&schedule, add(one, 2, 2), 200);
    cr_assert(heap_first(&one->ready) == NULL);
    cr_assert_eq(schedule_due_us(&schedule), 100);
    schedule_delay(&schedule, schedule_find(&schedule, 2, 1), 400);
    cr_assert_eq(schedule_due_us(&schedule), 200);
    schedule_make_ready(&schedule, schedule_find(&schedule, 1, 2));
    cr_assert_eq(schedule_due_us(&schedule), 300);
    cr_assert_eq(heap_first(&one->ready)->seq, 2);
    cr_assert_eq(heap_first(&one->ready)->attempts, 2);
    schedule_remove(&schedule, schedule_find(&schedule, 1, 1));
    cr_assert_eq(schedule_due_us(&schedule), 400);
}

/* Both heaps in random order, against a plain look. */
Test(schedule, the_heaps_keep_their_order)
{
    enum { N = 500 };
    static uint64_t due[N + 1]; /* 0: not in; 1: ready */
    uint64_t x = 5;

    for (int step = 0; step < 20000; step++) {
        uint64_t first_ready = UINT64_MAX;
        uint64_t first_due = UINT64_MAX;
        uint64_t seq;
        struct waiting *w;
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        seq = 1 + (x >> 33) % N;
        w = schedule_find(&schedule, 1, seq);
        cr_assert((w != NULL) == (due[seq] != 0));
        if (w == NULL) {
            (void)add(one, seq, 1);
            due[seq] = 1;
        } else if (x >> 62 == 0) {
            schedule_remove(&schedule, w);
            due[seq] = 0;
        } else if (x >> 62 == 1) {
            schedule_make_ready(&schedule, w);
            due[seq] = 1;
        } else {
            due[seq] = 2 + (x >> 20) % 1000;
            schedule_delay(&schedule, w, due[seq]);
        }
        if (step % 16 != 0) {
            continue;
        }
        for (seq = N; seq >= 1; seq--) {
            first_ready = due[seq] == 1 ? seq : first_ready;
            first_due =
                due[seq] > 1 && due[seq] < first_due ? due[seq] : first_due;
        }
        cr_assert_eq(schedule_due_us(&schedule), first_due);
        w = heap_first(&one->ready);
        cr_assert_eq(w == NULL ? UINT64_MAX : w->seq, first_ready);
    }
}

Test(schedule, one_message_waits_once, .signal = SIGABRT)
{
    (void)add(one, 1, 1);
    (void)add(one, 1, 1);
}
