/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "test/lib/dispatch_bed.h"

/* What one turn does of very much: where it stops, and that it goes on. */

static void set_up_large(void)
{
    in_flight_bytes = 16 << 20;
    segment_len = 64 << 20;
    set_up();
    make_topic();
    make_group();
    read_ring();
}

TestSuite(dispatch_bounds, .init = set_up_large, .fini = tear_down,
          .timeout = 60);

static void publish_many(size_t count)
{
    while (count > 0) {
        unsigned some = count < 4096 ? (unsigned)count : 4096;

        publish(some);
        read_ring();
        count -= some;
    }
}

/* So many were delivered, and wait again. */
static void open_many(size_t count)
{
    publish_many(count);
    cr_assert_eq(dispatch_join(d, group(), 7, 65536, UINT64_MAX, &h, &member),
                 STATUS_OK);
    while (books().in_flight < count) {
        pump();
    }
    dispatch_detach(d, group(), member);
    cr_assert_eq(books().ready, count);
    pump();
    cr_assert_not(dispatch_has_more(d));
}

/* ---- trims ---- */

/* A look at the stretch, and one at each message. */
enum { TRIMMED_MAX = TRIM_LOOKS_TURN - 1 };

Test(dispatch_bounds, a_trim_of_what_fits_a_turn)
{
    open_many(TRIMMED_MAX);
    trim(TRIMMED_MAX + 1, TRIMMED_MAX + 1);
    read_ring();
    cr_assert_eq(books().deleted, TRIMMED_MAX);
    pump();
    cr_assert_not(dispatch_has_more(d));
}

Test(dispatch_bounds, a_trim_of_more_goes_on_in_the_next_turn)
{
    open_many(TRIMMED_MAX + 1);
    trim(TRIMMED_MAX + 2, TRIMMED_MAX + 2);
    read_ring();
    cr_assert_eq(books().deleted, TRIMMED_MAX);
    pump(); /* the turn of the trim ends */
    cr_assert_eq(books().deleted, TRIMMED_MAX);
    cr_assert(dispatch_has_more(d));
    pump();
    cr_assert_eq(books().deleted, TRIMMED_MAX + 1);
    pump();
    cr_assert_not(dispatch_has_more(d));
}

Test(dispatch_bounds, nothing_of_a_long_trim_is_given_meanwhile)
{
    enum { COUNT = 3 * TRIM_LOOKS_TURN };
    unsigned turns = 0;

    open_many(COUNT);
    publish(2);
    trim(COUNT + 1, COUNT + 1);
    join();
    while (out[0] == '\0') {
        cr_assert_lt(turns++, 10);
        cr_assert(dispatch_has_more(d));
        pump();
    }
    cr_assert_str_eq(out, "24577 24578 ");
    cr_assert_eq(books().deleted, COUNT);
    cr_assert_eq(turns, 4); /* a look of each for the stretch */
}

Test(dispatch_bounds, a_topic_goes_in_the_midst_of_a_long_trim)
{
    struct catalog_request request = { .op = CATALOG_DELETE,
                                       .class = CATALOG_TOPIC,
                                       .name = "t" };

    open_many(TRIM_LOOKS_TURN * 2);
    trim(TRIM_LOOKS_TURN * 2 + 1, TRIM_LOOKS_TURN * 2 + 1);
    read_ring();
    change(&request);
    read_ring();
    for (int turn = 0; turn < 4; turn++) {
        cr_assert_str_eq(pump(), "");
    }
    cr_assert_not(dispatch_has_more(d));
}
