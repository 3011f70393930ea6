/* links: godwit_delivery godwit_proto */
#include "test/lib/group_bed.h"

/* What the topic loses, of groups that have very much open: how far one call
 * goes, and that the next one goes on where it ended. */

TestSuite(group_cut, .fini = tear_down, .timeout = 60);

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
Test(group_cut, a_trim_that_its_looks_suffice_for)
{
    struct member *m = open_with(COUNT, 1);

    cr_assert(trim_some(COUNT + 1, COUNT + 1) == STATUS_OK);
    cr_assert_eq(books().deleted, COUNT - 1);
    cr_assert_eq(books().in_flight, 1);
    group_leave(group, m, now);
}

Test(group_cut, a_trim_goes_on_where_its_looks_ended)
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
Test(group_cut, what_comes_back_between_two_parts_of_a_trim)
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

Test(group_cut, a_gap_as_long_as_one_call_goes)
{
    struct member *m = open_with(LOST_LOOKS_MAX - 1, 0);
    struct offer offer = first_offer();

    cr_assert_eq(group_lost(group, &offer, UINT64_MAX), LOST_LOOKS_MAX - 1);
    cr_assert_eq(books().gap, LOST_LOOKS_MAX - 1);
    group_leave(group, m, now);
    group_leave(group, offer.member, now);
}

Test(group_cut, the_rest_of_a_longer_gap_is_offered_again)
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
