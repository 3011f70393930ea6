/* links: godwit_delivery godwit_proto */
#include "test/lib/group_bed.h"

/* Very much at once: what the topic loses of groups that have it open, and acks
 * of what was delivered in a row; how far one call goes, and that the next one
 * goes on where it ended. */

TestSuite(group_many, .fini = tear_down, .timeout = 60);

/* All of 1..count were delivered; `held` of them, the first ones, somebody
 * has, the others wait. */
static struct member *open_with(uint64_t count, uint64_t held)
{
    struct member *m;
    struct offer offer;

    open_group(16 * 1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, count);
    m = join(7, count);
    for (uint64_t seq = 1; seq <= count; seq++) {
        cr_assert(group_next(group, now, &offer));
        cr_assert(take(&offer) == TAKE_DELIVERED);
    }
    if (held < count) {
        settle_range(SETTLE_RELEASE, 7, held + 1, count, 0);
    }
    member_set_credit(m, 0, 0);
    return m;
}

static enum status trim_some(uint64_t first_seq, size_t looks)
{
    enum status status = group_trim(group, TOPIC, first_seq, &looks);

    cr_assert_eq(looks, 0);
    return status;
}

/* ---- trims ---- */

enum { COUNT = 8 };

/* A look at the stretch, and one at each message. */
Test(group_many, a_trim_that_its_looks_suffice_for)
{
    struct member *m = open_with(COUNT, 1);

    cr_assert(trim_some(COUNT + 1, COUNT + 1) == STATUS_OK);
    cr_assert_eq(books().deleted, COUNT - 1);
    cr_assert_eq(books().in_flight, 1);
    group_leave(group, m, now);
}

Test(group_many, a_trim_goes_on_where_its_looks_ended)
{
    struct member *m = open_with(COUNT, 1);

    cr_assert(trim_some(COUNT + 1, COUNT) == STATUS_AGAIN);
    cr_assert_eq(books().deleted, COUNT - 2);
    cr_assert_eq(books().ready, 1);
    cr_assert(trim_some(COUNT + 1, 0) == STATUS_AGAIN);
    cr_assert(trim_some(COUNT + 1, 1) == STATUS_AGAIN);
    cr_assert_eq(books().ready, 1);
    cr_assert(trim_some(COUNT + 1, 2) == STATUS_OK);
    cr_assert_eq(books().deleted, COUNT - 1);
    cr_assert_eq(books().in_flight, 1);
    group_leave(group, m, now); /* what was held comes back to nothing */
    cr_assert_eq(books().deleted, COUNT);
}

/* What came back meanwhile, below where the trim stands and above. */
Test(group_many, what_comes_back_between_two_parts_of_a_trim)
{
    struct member *m = open_with(COUNT, COUNT);

    cr_assert(trim_some(COUNT + 1, 1 + COUNT / 2) == STATUS_AGAIN);
    settle_range(SETTLE_RELEASE, 7, 1, COUNT, 0);
    cr_assert_eq(books().deleted, COUNT / 2);
    cr_assert_eq(books().ready, COUNT / 2);
    cr_assert(trim_some(COUNT + 1, 1 + COUNT / 2) == STATUS_OK);
    cr_assert_eq(books().deleted, COUNT);
    group_leave(group, m, now);
}

/* ---- gaps ---- */

static struct offer first_offer(void)
{
    struct offer offer;

    (void)join(8, 1);
    cr_assert(group_next(group, now, &offer));
    cr_assert_eq(offer.seq, 1);
    return offer;
}

Test(group_many, a_gap_as_long_as_one_call_goes)
{
    struct member *m = open_with(LOST_LOOKS_MAX - 1, 0);
    struct offer offer = first_offer();

    cr_assert_eq(group_lost(group, &offer, UINT64_MAX), LOST_LOOKS_MAX - 1);
    cr_assert_eq(books().gap, LOST_LOOKS_MAX - 1);
    group_leave(group, m, now);
    group_leave(group, offer.member, now);
}

Test(group_many, the_rest_of_a_longer_gap_is_offered_again)
{
    struct member *m = open_with(LOST_LOOKS_MAX, 0);
    struct offer offer = first_offer();

    cr_assert_eq(group_lost(group, &offer, UINT64_MAX), LOST_LOOKS_MAX - 1);
    cr_assert_eq(books().ready, 1);
    cr_assert(group_next(group, now, &offer));
    cr_assert_eq(offer.seq, LOST_LOOKS_MAX);
    cr_assert_eq(group_lost(group, &offer, UINT64_MAX), LOST_LOOKS_MAX);
    cr_assert_eq(books().gap, LOST_LOOKS_MAX);
    group_leave(group, m, now);
    group_leave(group, offer.member, now);
}

/* ---- acks in a row ---- */

static void give(struct member *m, uint64_t count)
{
    struct offer offer;

    member_set_credit(m, books().in_flight + count, UINT64_MAX);
    for (uint64_t i = 0; i < count; i++) {
        cr_assert(group_next(group, now, &offer));
        cr_assert_eq(offer.member, m);
        cr_assert(take(&offer) == TAKE_DELIVERED);
    }
    member_set_credit(m, 0, 0);
}

/* 1 to 100 and 151 to 200 are 7's, those between 8's. */
static void give_in_turns(void)
{
    struct member *seven;
    struct member *eight;

    open_group(1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, 200);
    seven = join(7, 0);
    eight = join(8, 0);
    give(seven, 100);
    give(eight, 50);
    give(seven, 50);
    audit();
    group_retire(group, seven);
    group_retire(group, eight);
}

Test(group_many, acks_in_a_row_are_the_holders_own)
{
    give_in_turns();
    settle_range(SETTLE_ACK, 7, 1, 200, 0);
    cr_assert_eq(outcome_count, 3);
    expect_outcome(0, 1, 100, OUTCOME_ACCEPTED, 0);
    expect_outcome(1, 101, 150, OUTCOME_LATE, 8);
    expect_outcome(2, 151, 200, OUTCOME_ACCEPTED, 0);
    cr_assert_eq(books().acked, 150);
    cr_assert_eq(books().in_flight, 50);
    settle_range(SETTLE_ACK, 8, 1, 200, 0);
    cr_assert_eq(books().acked, 200);
}

/* Whose they are does not matter to who claims none. */
Test(group_many, acks_in_a_row_of_several_holders)
{
    give_in_turns();
    settle_range(SETTLE_ACK, 0, 99, 152, 0);
    cr_assert_eq(outcome_count, 1);
    expect_outcome(0, 99, 152, OUTCOME_ACCEPTED, 0);
    cr_assert_eq(books().acked, 54);
    settle_range(SETTLE_ACK, 0, 1, 200, 0);
    cr_assert_eq(books().acked, 200);
}

Test(group_many, acks_in_a_row_stop_where_the_looks_end)
{
    struct settlement s = { .topic = TOPIC, .range = { 1, 200 } };
    size_t looks = 1 + 99; /* the stretch is one */
    uint64_t next = 0;

    s.action = SETTLE_ACK;
    give_in_turns();
    cr_assert(group_settle_some(group, &s, now, &looks, &next, NULL, NULL)
              == STATUS_AGAIN);
    cr_assert_eq(next, 100);
    cr_assert_eq(looks, 0);
    cr_assert_eq(books().acked, 99);
    audit();
}
