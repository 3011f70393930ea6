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

static void settle(uint64_t first, uint64_t last)
{
    cr_assert(lane_settle(lane, EFFECT_ACKED, first, last) == STATUS_OK);
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
    settle(1, 2);
    settle(5, 6);
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
    settle(2, 3);
    settle(7, 7);
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

Test(lane, what_is_dead_is_not_fresh_and_a_stretch_of_its_own)
{
    cr_assert(seqset_add(&lane->dead, 2, 3, NULL) == STATUS_OK);
    cr_assert(seqset_add(&lane->dead, 9, 9, NULL) == STATUS_OK);
    cr_assert_eq(take(), 1);
    cr_assert_eq(take(), 4);
    expect_stretch(1, 20, STRETCH_OPEN, 1);
    expect_stretch(2, 20, STRETCH_DEAD, 3);
    expect_stretch(4, 20, STRETCH_OPEN, 4);
    expect_stretch(5, 20, STRETCH_FRESH, 8);
    expect_stretch(9, 9, STRETCH_DEAD, 9);
}

Test(lane, early_ones_come_in_turn_where_their_keys_are_not_known)
{
    cr_assert(seqset_add(&lane->early, 1, 2, NULL) == STATUS_OK);
    lane->early_in_turn = true;
    cr_assert_eq(take(), 1);
    cr_assert_eq(take(), 2);
    cr_assert_eq(take(), 3);
}

static void begin(uint64_t after, const struct seqset *settled,
                  const struct seqset *dead)
{
    struct lane_start start = { .topic = 1,
                                .end = 10,
                                .after = after,
                                .settled = settled,
                                .dead = dead,
                                .filtered = 1,
                                .discarded = 1 };
    lane_free(lane);
    lane = lane_new(&start);
    cr_assert(lane != NULL);
}

/* Of 10: 1..4 were never its own but for the dead 2; 6..8 are settled, one of
 * them filtered, one discarded; 10 is dead. */
Test(lane, it_begins_with_what_the_log_says)
{
    struct seqset settled = { 0 };
    struct seqset dead = { 0 };

    cr_assert(seqset_add(&settled, 6, 8, NULL) == STATUS_OK);
    cr_assert(seqset_add(&settled, 20, 30, NULL) == STATUS_OK);
    cr_assert(seqset_add(&dead, 2, 2, NULL) == STATUS_OK);
    cr_assert(seqset_add(&dead, 7, 7, NULL) == STATUS_OK); /* settled since */
    cr_assert(seqset_add(&dead, 10, 40, NULL) == STATUS_OK);
    begin(4, &settled, &dead);
    cr_assert_eq(lane->published, 7);
    cr_assert_eq(lane->count[LANE_ACKED], 1);
    cr_assert_eq(lane->count[LANE_FILTERED], 1);
    cr_assert_eq(lane->count[LANE_DELETED], 1);
    cr_assert_eq(lane->count[LANE_DEAD], 2);
    cr_assert_eq(lane->count[LANE_READY], 2);
    cr_assert_eq(take(), 5);
    cr_assert_eq(take(), 9);
    cr_assert_eq(take(), 0);
    expect_stretch(1, 1, STRETCH_SETTLED, 1);
    expect_stretch(2, 2, STRETCH_DEAD, 2);
    seqset_fini(&settled);
    seqset_fini(&dead);
}

Test(lane, it_begins_anew_and_keeps_the_dead_below)
{
    struct lane_plan plan;

    settle(1, 2);
    lane_move(lane, LANE_READY, LANE_ACKED, 2);
    cr_assert(seqset_add(&lane->dead, 3, 5, NULL) == STATUS_OK);
    lane_move(lane, LANE_READY, LANE_IN_FLIGHT, 3);
    lane_move(lane, LANE_IN_FLIGHT, LANE_DEAD, 3);
    cr_assert(lane_plan_anew(lane, 4, &plan) == STATUS_OK);
    lane_begin_anew(lane, &plan);
    cr_assert_eq(lane->published, 8);
    cr_assert_eq(lane->count[LANE_DEAD], 2);
    cr_assert_eq(lane->count[LANE_READY], 6);
    cr_assert_eq(lane->count[LANE_ACKED], 0);
    cr_assert_eq(take(), 5);
    expect_stretch(3, 10, STRETCH_DEAD, 4);
}

Test(lane, settling_twice_is_a_bug, .signal = SIGABRT)
{
    settle(1, 1);
    settle(1, 1);
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
