/* links: godwit_delivery godwit_proto */
#include "broker/delivery/group.h"
#include "broker/delivery/lane.h"

#include <criterion/criterion.h>
#include <signal.h>

static struct lane *lane;

static void set_up(void)
{
    lane = lane_new(&(struct lane_start) { .topic = 1, .end = 10 });
}

static void tear_down(void)
{
    lane_free(lane);
}

TestSuite(lane, .init = set_up, .fini = tear_down, .timeout = 10);

static uint64_t take(void)
{
    uint64_t seq;
    if (!lane_fresh(lane, &seq)) {
        return 0;
    }
    lane_take_fresh(lane);
    return seq;
}

static void settle(uint64_t first, uint64_t last, bool lost)
{
    cr_assert(lane_settle(lane, first, last, lost) == STATUS_OK);
}

static void expect_stretch(uint64_t first, uint64_t last,
                           enum stretch_kind kind, uint64_t until)
{
    struct stretch s = lane_stretch(lane, first, last);
    cr_assert_eq(s.kind, kind);
    cr_assert_eq(s.range.first, first);
    cr_assert_eq(s.range.last, until);
}

Test(lane, fresh_messages_come_in_order_to_the_end)
{
    for (uint64_t seq = 1; seq <= 10; seq++) {
        cr_assert_eq(take(), seq);
    }
    cr_assert_eq(take(), 0);
    lane_extend(lane, 11);
    cr_assert_eq(take(), 11);
    cr_assert_eq(take(), 0);
}

Test(lane, what_is_settled_or_early_is_not_fresh)
{
    settle(1, 2, false);
    settle(5, 6, true);
    cr_assert(seqset_add(&lane->early, 3, 3, NULL) == STATUS_OK);
    cr_assert(seqset_add(&lane->early, 7, 8, NULL) == STATUS_OK);
    cr_assert_eq(take(), 4);
    cr_assert_eq(take(), 9);
    cr_assert_eq(take(), 10);
    cr_assert_eq(take(), 0);
    cr_assert_eq(seqset_count(&lane->early), 0);
}

Test(lane, a_stretch_is_all_of_one_kind)
{
    for (int i = 0; i < 4; i++) {
        (void)take();
    }
    settle(2, 3, false);
    settle(7, 7, false);
    cr_assert(seqset_add(&lane->early, 8, 9, NULL) == STATUS_OK);
    expect_stretch(0, 5, STRETCH_BEYOND, 0);
    expect_stretch(1, 20, STRETCH_OPEN, 1);
    expect_stretch(2, 20, STRETCH_SETTLED, 3);
    expect_stretch(2, 2, STRETCH_SETTLED, 2);
    expect_stretch(3, 20, STRETCH_SETTLED, 3);
    expect_stretch(4, 20, STRETCH_OPEN, 4);
    expect_stretch(5, 20, STRETCH_FRESH, 6);
    expect_stretch(5, 5, STRETCH_FRESH, 5);
    expect_stretch(7, 20, STRETCH_SETTLED, 7);
    expect_stretch(8, 20, STRETCH_OPEN, 9);
    expect_stretch(10, 20, STRETCH_FRESH, 10);
    expect_stretch(11, UINT64_MAX, STRETCH_BEYOND, UINT64_MAX);
    expect_stretch(1, UINT64_MAX, STRETCH_OPEN, 1);
}

Test(lane, effects_are_told_in_parts_and_none_is_forgotten)
{
    struct lane_effects part;
    uint64_t acked = 0;
    size_t retries = 0;
    size_t parts = 0;

    lane_extend(lane, 4 * EFFECTS_COUNT_MAX);
    for (uint64_t seq = 1; seq <= 2 * EFFECTS_COUNT_MAX + 2; seq += 2) {
        struct retry retry = { .seq = seq + 1, .attempts = 1 };
        settle(seq, seq, false);
        cr_assert(lane_reserve_retry(lane) == STATUS_OK);
        lane_note_retry(lane, &retry);
    }
    while (lane_has_effects(lane)) {
        lane_effects(lane, &part);
        cr_assert(seqset_range_count(&part.acked) <= EFFECTS_COUNT_MAX);
        cr_assert(part.retry_count <= EFFECTS_COUNT_MAX);
        acked += seqset_count(&part.acked);
        for (size_t i = 0; i < part.retry_count; i++) {
            cr_assert_eq(part.retries[i].seq, 2 * ++retries);
        }
        lane_effects_told(lane, &part);
        parts++;
    }
    cr_assert_eq(parts, 2);
    cr_assert_eq(acked, EFFECTS_COUNT_MAX + 1);
    cr_assert_eq(retries, EFFECTS_COUNT_MAX + 1);
}

Test(lane, settling_twice_is_a_bug, .signal = SIGABRT)
{
    settle(1, 1, false);
    settle(1, 1, false);
}

Test(lane, an_acked_message_never_moves_again, .signal = SIGABRT)
{
    lane_move(lane, LANE_READY, LANE_ACKED, 1);
    lane_move(lane, LANE_ACKED, LANE_READY, 1);
}

Test(lane, no_more_can_move_than_there_are, .signal = SIGABRT)
{
    lane_move(lane, LANE_READY, LANE_IN_FLIGHT, 11);
}

Test(lane, the_books_move)
{
    lane_move(lane, LANE_READY, LANE_IN_FLIGHT, 10);
    lane_move(lane, LANE_IN_FLIGHT, LANE_DELAYED, 3);
    lane_move(lane, LANE_IN_FLIGHT, LANE_ACKED, 7);
    lane_move(lane, LANE_DELAYED, LANE_GAP, 1);
    cr_assert_eq(lane->count[LANE_READY], 0);
    cr_assert_eq(lane->count[LANE_IN_FLIGHT], 0);
    cr_assert_eq(lane->count[LANE_DELAYED], 2);
    cr_assert_eq(lane->count[LANE_ACKED], 7);
    cr_assert_eq(lane->count[LANE_GAP], 1);
}
