/* links: godwit_delivery godwit_proto */
#include "broker/delivery/submission.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

enum { LEN = 4096 };

static struct submission *s;

static void set_up(void)
{
    s = submission_new(LEN);
    cr_assert(s != NULL);
}

static void tear_down(void)
{
    submission_free(s);
}

TestSuite(submission, .init = set_up, .fini = tear_down, .timeout = 10);

static uint64_t write_record(size_t len, int byte, bool urgent)
{
    uint8_t *at = submission_reserve(s, len);
    cr_assert(at != NULL);
    memset(at, byte, len);
    return submission_write(s, len, urgent);
}

static void take_all(void)
{
    uint8_t *at;
    submission_take(s, submission_peek(s, &at));
    submission_settle(s);
}

Test(submission, a_record_goes_there_and_comes_back)
{
    uint64_t behind = write_record(64, 7, true);
    uint8_t *at;

    cr_assert_eq(behind, 64);
    cr_assert_eq(submission_peek(s, &at), 0); /* not shown yet */
    (void)submission_publish(s);
    cr_assert_eq(submission_peek(s, &at), 64);
    cr_assert_eq(at[0], 7);
    at[0] = 8; /* the journal's note */
    submission_take(s, 64);
    cr_assert_eq(submission_peek(s, &at), 0);
    cr_assert_eq(submission_durable(s), 0);
    submission_settle(s);
    cr_assert_eq(submission_durable(s), 64);
    cr_assert_eq(submission_at(s, 0)[0], 8);
    cr_assert_eq(submission_room(s), LEN - 64);
    submission_release(s, 64);
    cr_assert_eq(submission_room(s), LEN);
}

Test(submission, no_record_wraps)
{
    for (int i = 0; i < 100; i++) {
        uint8_t *at;
        uint64_t begin = submission_written(s);
        (void)write_record(1000, i, true);
        (void)submission_publish(s);
        cr_assert_eq(submission_peek(s, &at), 1000);
        for (size_t k = 0; k < 1000; k++) {
            cr_assert_eq(at[k], (uint8_t)i);
            cr_assert_eq(submission_at(s, begin)[k], (uint8_t)i);
        }
        take_all();
        submission_release(s, submission_written(s));
    }
}

Test(submission, room_is_exact)
{
    cr_assert(submission_reserve(s, LEN) != NULL);
    cr_assert(submission_reserve(s, LEN + 8) == NULL);
    (void)write_record(8, 1, true);
    cr_assert(submission_reserve(s, LEN) == NULL);
    (void)write_record(LEN - 8, 2, true);
    cr_assert_eq(submission_room(s), 0);
    cr_assert(submission_reserve(s, 8) == NULL);
    (void)submission_publish(s);
    take_all();
    cr_assert(submission_reserve(s, 8) == NULL); /* not read yet */
    submission_release(s, 8);
    cr_assert(submission_reserve(s, 8) != NULL);
    cr_assert(submission_reserve(s, 16) == NULL);
}

Test(submission, a_reservation_not_used_costs_nothing)
{
    cr_assert(submission_reserve(s, 800) != NULL);
    cr_assert_eq(submission_room(s), LEN);
    cr_assert(!submission_publish(s));
}

Test(submission, a_part_can_be_taken)
{
    uint8_t *at;

    (void)write_record(16, 1, true);
    (void)write_record(24, 2, true);
    (void)submission_publish(s);
    cr_assert_eq(submission_peek(s, &at), 40);
    submission_take(s, 16);
    cr_assert_eq(submission_peek(s, &at), 24);
    cr_assert_eq(at[0], 2);
    submission_settle(s);
    cr_assert_eq(submission_durable(s), 16);
}

Test(submission, urgency_lasts_until_it_is_taken)
{
    (void)write_record(8, 1, false);
    (void)submission_publish(s);
    cr_assert(!submission_urgent(s));
    (void)write_record(8, 2, true);
    cr_assert(!submission_urgent(s)); /* not shown yet */
    (void)write_record(8, 3, false);
    (void)submission_publish(s);
    cr_assert(submission_urgent(s));
    submission_take(s, 8);
    cr_assert(submission_urgent(s));
    submission_take(s, 8);
    cr_assert(!submission_urgent(s));
}

Test(submission, only_a_sleeping_journal_is_woken_and_once)
{
    (void)write_record(8, 1, true);
    cr_assert(!submission_publish(s));
    take_all();
    cr_assert(submission_sleep(s, false));
    cr_assert(!submission_publish(s)); /* nothing new */
    (void)write_record(8, 2, false);
    cr_assert(submission_publish(s));
    (void)write_record(8, 3, false);
    cr_assert(!submission_publish(s));
}

Test(submission, the_journal_does_not_sleep_on_a_record)
{
    (void)write_record(8, 1, false);
    (void)submission_publish(s);
    cr_assert(!submission_sleep(s, false));
    cr_assert(submission_sleep(s, true)); /* it may ride */
    submission_awake(s);
    (void)write_record(8, 1, true);
    (void)submission_publish(s);
    cr_assert(!submission_sleep(s, true));
}

Test(submission, what_may_ride_wakes_nobody_who_waits_for_urgency)
{
    cr_assert(submission_sleep(s, true));
    (void)write_record(8, 1, false);
    cr_assert(!submission_publish(s));
    (void)write_record(8, 2, true);
    cr_assert(submission_publish(s));
}

Test(submission, what_is_not_durable_cannot_be_released, .signal = SIGABRT)
{
    (void)write_record(8, 1, true);
    (void)submission_publish(s);
    submission_release(s, 8);
}

Test(submission, an_unaligned_record_is_a_bug, .signal = SIGABRT)
{
    (void)submission_write(s, 12, true);
}

Test(submission, free_takes_null)
{
    submission_free(NULL);
}
