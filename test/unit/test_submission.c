/* links: godwit_delivery godwit_proto */
#include "broker/delivery/submission.h"

#include "proto/limits.h"

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

/* ---- where it went ---- */

/* The next `len` bytes stand at `offset` of `segment`; 0: none was written. */
static void take_to(size_t len, uint32_t segment, uint32_t offset)
{
    if (offset != 0) {
        submission_note(s, len, (struct submission_place) { segment, offset });
    }
    submission_take(s, len);
    submission_settle(s);
}

static void cr_place(uint64_t position, uint32_t segment, uint32_t offset)
{
    struct submission_place place = { 0 };

    cr_assert(submission_placed(s, position, &place), "position %llu",
              (unsigned long long)position);
    cr_assert_eq(place.segment, segment);
    cr_assert_eq(place.offset, offset, "position %llu: %u",
                 (unsigned long long)position, place.offset);
}

static void write_records(int count)
{
    for (int i = 0; i < count; i++) {
        (void)write_record(64, i, true);
    }
    (void)submission_publish(s);
}

Test(submission, each_record_has_its_place_in_its_batch)
{
    write_records(5);
    take_to(128, 1, 4000);
    take_to(192, 2, 200);
    cr_place(0, 1, 4000);
    cr_place(64, 1, 4064);
    cr_place(128, 2, 200);
    cr_place(256, 2, 328);
}

/* Dropped: at the begin, in the middle, and all of a batch. */
Test(submission, a_dropped_record_takes_no_room)
{
    struct submission_place place;

    write_records(7);
    take_to(256, 1, 4000);
    take_to(64, 1, 0);
    take_to(128, 1, 9000);
    submission_dropped(s, 0, 64);
    cr_place(64, 1, 4000);
    submission_dropped(s, 128, 64);
    cr_place(192, 1, 4064);
    submission_dropped(s, 256, 64);
    cr_assert(!submission_placed(s, 256, &place));
    cr_place(320, 1, 9000);
    cr_place(384, 1, 9064);
}

Test(submission, what_was_released_is_forgotten)
{
    write_records(4);
    take_to(128, 1, 4000);
    submission_dropped(s, 0, 64);
    submission_release(s, 128);
    take_to(128, 1, 8000);
    cr_place(192, 1, 8064);
}

Test(submission, only_so_many_places_are_remembered_and_none_is_wrong)
{
    struct submission_place place;

    submission_free(s);
    s = submission_new(1 << 20);
    cr_assert_not_null(s);
    for (int i = 0; i < PLACES_MAX + 2; i++) {
        (void)write_record(64, i, true);
        (void)submission_publish(s);
        take_to(64, 1, 1000 + (uint32_t)i);
    }
    cr_place(0, 1, 1000);
    cr_place((PLACES_MAX - 1) * 64, 1, 1000 + PLACES_MAX - 1);
    cr_assert(!submission_placed(s, PLACES_MAX * 64, &place));
    submission_release(s, PLACES_MAX * 64);
    (void)write_record(64, 9, true);
    (void)submission_publish(s);
    take_to(64, 2, 777);
    cr_assert(!submission_placed(s, (PLACES_MAX + 1) * 64, &place));
    cr_place((PLACES_MAX + 2) * 64, 2, 777);
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
