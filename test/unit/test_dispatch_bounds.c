/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "broker/delivery/group_impl.h"
#include "broker/dispatch/inside.h"
#include "test/lib/dispatch_bed.h"

/* What one turn does of very much: where it stops, and that it goes on. */

static void set_up_with(size_t bytes)
{
    in_flight_bytes = bytes;
    segment_len = 64 << 20;
    set_up();
    make_topic();
    make_group();
    read_ring();
}

static void set_up_large(void)
{
    set_up_with(16 << 20);
}

TestSuite(dispatch_bounds, .init = set_up_large, .fini = tear_down,
          .timeout = 60);

/* The in-flight table is soon full. */
static void set_up_small(void)
{
    set_up_with(128 * 1024);
}

TestSuite(dispatch_bounds_small, .init = set_up_small, .fini = tear_down,
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

static void delete_group(void)
{
    struct catalog_request request = { .op = CATALOG_DELETE,
                                       .class = CATALOG_GROUP,
                                       .name = "g" };

    change(&request);
    read_ring();
}

static const struct group_fact *group_all(void)
{
    return catalog_group(dispatch_catalog(d), slice_text("all"));
}

static void settle_in(const char *name, uint64_t first, uint64_t last)
{
    const struct settlement settlement = { .topic = TOPIC,
                                           .action = SETTLE_ACK,
                                           .range = { first, last } };

    cr_assert_eq(
        dispatch_settle(d, catalog_group(dispatch_catalog(d), slice_text(name)),
                        &settlement, now_us, NULL, NULL, NULL, NULL),
        STATUS_OK);
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

/* ---- a group goes, with very much in flight ---- */

static uint64_t in_flight_now(void)
{
    dispatch_show(d, &metrics);
    return metrics.tiers[TIER_HEAP].in_flight_messages;
}

Test(dispatch_bounds, a_group_that_goes_ends_in_turns)
{
    enum { COUNT = 2 * TRIM_LOOKS_TURN + 1 };

    publish_many(COUNT);
    cr_assert_eq(dispatch_join(d, group(), 7, 65536, UINT64_MAX, &h, &member),
                 STATUS_OK);
    while (books().in_flight < COUNT) {
        pump();
    }
    delete_group();
    cr_assert(member == NULL, "told that it is one no more");
    cr_assert_eq(in_flight_now(), COUNT);
    for (size_t left = COUNT; left > TRIM_LOOKS_TURN;) {
        cr_assert(dispatch_has_more(d));
        pump();
        left -= TRIM_LOOKS_TURN;
        cr_assert_eq(in_flight_now(), left);
    }
    pump();
    cr_assert_eq(in_flight_now(), 0);
    cr_assert_not(dispatch_has_more(d));
}

/* ---- a seek, and a topic that goes, with very much in flight ---- */

/* All in flight, of the one member. */
static void hold_many(size_t count)
{
    publish_many(count);
    cr_assert_eq(dispatch_join(d, group(), 7, 65536, UINT64_MAX, &h, &member),
                 STATUS_OK);
    while (books().in_flight < count) {
        pump();
    }
    pump();
}

static void seek_to(uint64_t seq)
{
    uint64_t begins;

    cr_assert_eq(dispatch_seek(d, group(), topic(), seq, &begins), STATUS_OK);
    cr_assert_eq(begins, seq);
}

/* A look at the stretch, and one at each message. */
Test(dispatch_bounds, a_seek_of_what_fits_a_turn)
{
    hold_many(TRIM_LOOKS_TURN - 1);
    seek_to(1);
    cr_assert_eq(in_flight_now(), 0);
    pump();
    cr_assert(strncmp(out, "1 2 3 ", 6) == 0);
}

Test(dispatch_bounds, a_seek_of_more_goes_on_in_the_next_turn)
{
    hold_many(TRIM_LOOKS_TURN);
    seek_to(1);
    cr_assert_eq(in_flight_now(), 1);
    cr_assert_eq(books().ready, TRIM_LOOKS_TURN);
    cr_assert_str_eq(pump(), ""); /* the turn of the seek ends */
    cr_assert(dispatch_has_more(d));
    pump();
    cr_assert(strncmp(out, "1 2 3 ", 6) == 0);
}

Test(dispatch_bounds, a_long_seek_goes_on_in_turns)
{
    enum { COUNT = 3 * TRIM_LOOKS_TURN };
    unsigned turns = 0;

    hold_many(COUNT);
    seek_to(COUNT - 1);
    log_all();
    while (out[0] == '\0' || turns == 0) {
        cr_assert_lt(turns++, 10);
        cr_assert_str_eq(settle(SETTLE_ACK, 1, COUNT - 2, ""),
                         "accepted1-24574 ");
        cr_assert_str_eq(settle(SETTLE_ACK, COUNT, COUNT, ""),
                         "unknown24576-24576 ");
        cr_assert(dispatch_has_more(d));
        pump();
    }
    cr_assert_str_eq(out, "24575 24576 ");
    cr_assert_eq(turns, 4);
    cr_assert_eq(in_flight_now(), 2);
    pump();
    cr_assert_not(dispatch_has_more(d));
}

Test(dispatch_bounds, a_start_in_the_midst_of_a_long_seek)
{
    enum { COUNT = 2 * TRIM_LOOKS_TURN };

    hold_many(COUNT);
    seek_to(COUNT - 1);
    log_all();
    pump();
    cr_assert(dispatch_has_more(d));
    open_again();
    cr_assert_eq(books().ready, 2);
    join();
    cr_assert_str_eq(pump(), "16383 16384 ");
}

Test(dispatch_bounds, a_topic_that_goes_ends_in_turns)
{
    enum { COUNT = 2 * TRIM_LOOKS_TURN + 1 };
    struct catalog_request request = { .op = CATALOG_DELETE,
                                       .class = CATALOG_TOPIC,
                                       .name = "t" };

    hold_many(COUNT);
    change(&request);
    read_ring();
    cr_assert_eq(in_flight_now(), TRIM_LOOKS_TURN + 2); /* and the stretch */
    cr_assert_str_eq(pump(), "");                       /* the turn ends */
    cr_assert(dispatch_has_more(d));
    pump();
    cr_assert_eq(in_flight_now(), 3);
    cr_assert(dispatch_has_more(d));
    pump();
    cr_assert_eq(in_flight_now(), 0);
    pump();
    cr_assert_not(dispatch_has_more(d));
}

Test(dispatch_bounds, a_group_goes_in_the_midst_of_a_long_seek)
{
    hold_many(2 * TRIM_LOOKS_TURN);
    seek_to(1);
    delete_group();
    cr_assert(member == NULL);
    pump();
    pump();
    pump();
    cr_assert_eq(in_flight_now(), 0);
    cr_assert_not(dispatch_has_more(d));
}

/* ---- audits: a difference is planted that only they can find ---- */

static void make_difference(uint32_t topic)
{
    struct lane *lane = group_find_lane(dispatch_run(group())->group, topic);

    cr_assert(lane != NULL && lane->count[LANE_READY] > 0);
    lane->count[LANE_READY]--;
    lane->count[LANE_GAP]++;
}

/* In one round of the books. */
static size_t differences(void)
{
    size_t count = 0;
    bool more = true;

    while (more) {
        count += dispatch_check_books(d, now_us, &more);
    }
    return count;
}

Test(dispatch_bounds, an_audit_of_as_much_as_one_looks_at)
{
    open_many(AUDIT_OPEN_MAX);
    make_difference(TOPIC);
    cr_assert_eq(differences(), 1);
}

Test(dispatch_bounds, no_audit_of_more)
{
    open_many(AUDIT_OPEN_MAX);
    publish(1);
    join();
    cr_assert_gt(strlen(pump()), 0);
    while (metrics.delivered_messages <= AUDIT_OPEN_MAX) {
        settle(SETTLE_NACK, 1, AUDIT_OPEN_MAX + 1, ""); /* makes room for it */
        cr_assert_gt(strlen(pump()), 0);
    }
    make_difference(TOPIC);
    cr_assert_eq(differences(), 0);
}

/* What waits behind keys is looked at one by one too. */
Test(dispatch_bounds, audits_count_what_waits_behind_keys)
{
    open_many(10);
    make_difference(TOPIC);
    d->keys.used = (AUDIT_OPEN_MAX - 10) * sizeof(uint64_t);
    cr_assert_eq(differences(), 1);
    d->keys.used += sizeof(uint64_t);
    cr_assert_eq(differences(), 0);
    d->keys.used = 0;
}

/* A group on so many topics, each with a message, in all of which the books
 * are not what is there. */
static void differ_in(size_t lane_count)
{
    struct catalog_request all = { .op = CATALOG_CREATE,
                                   .class = CATALOG_GROUP,
                                   .name = "all",
                                   .from = FROM_EARLIEST };
    struct refusal refusal;

    delete_group();
    for (size_t i = 1; i < lane_count; i++) {
        struct catalog_request one = { .op = CATALOG_CREATE,
                                       .class = CATALOG_TOPIC };

        snprintf(one.name, sizeof one.name, "t%zu", i);
        change(&one);
        add_message(&h, (uint32_t)(TOPIC + i), "message");
        put_on_ring(false);
        read_ring();
    }
    publish(1);
    cr_assert_eq(patterns_add(&all.topics, slice_text("*"), &refusal),
                 STATUS_OK);
    change(&all);
    read_ring();
    for (size_t i = 0; i < lane_count; i++) {
        struct lane *lane = group_find_lane(dispatch_run(group_all())->group,
                                            (uint32_t)(TOPIC + i));

        lane->count[LANE_READY]--;
        lane->count[LANE_GAP]++;
    }
}

Test(dispatch_bounds, an_audit_of_as_many_lanes_as_one_looks_at)
{
    differ_in(AUDIT_LANES);
    cr_assert_eq(differences(), AUDIT_LANES);
    cr_assert_eq(differences(), AUDIT_LANES, "and from the first one again");
}

Test(dispatch_bounds, an_audit_goes_on_with_the_other_lanes)
{
    differ_in(AUDIT_LANES + 1);
    cr_assert_eq(differences(), AUDIT_LANES);
    cr_assert_eq(differences(), 1);
    cr_assert_eq(differences(), AUDIT_LANES);
}

/* ---- who was held, and is asked again ---- */

Test(dispatch_bounds, who_had_too_much_untold_is_asked_when_it_is_told)
{
    struct group *g = dispatch_run(group())->group;

    publish(1);
    join();
    cr_assert_str_eq(pump(), "1 ");
    settle(SETTLE_ACK, 1, 1, "");
    g->untold_ranges += UNTOLD_RANGES_MAX - 1; /* besides the one there is */
    publish(1);
    read_ring();
    cr_assert_str_eq(pump(), "");
    cr_assert_not(dispatch_has_more(d));
    log_all();
    g->untold_ranges -= UNTOLD_RANGES_MAX - 1;
    cr_assert(dispatch_has_more(d));
    cr_assert_str_eq(pump(), "2 ");
}

enum { WAITING = 300, EACH = 4 };
static char names[WAITING][16];
static size_t got[WAITING];

static void count_given(void)
{
    for (size_t i = 0; i < WAITING; i++) {
        for (const char *at = out; (at = strstr(at, names[i])) != NULL; at++) {
            got[i]++;
        }
    }
}

static size_t how_many_wait(void)
{
    size_t count = 0;

    for (size_t i = 0; i < WAITING; i++) {
        cr_assert_leq(got[i], EACH);
        count += got[i] < EACH;
    }
    return count;
}

static void pump_all(void)
{
    do {
        pump();
        count_given();
    } while (dispatch_has_more(d));
}

/* One end of very much makes room for all, also for those that are not asked
 * in the first turn after it. */
Test(dispatch_bounds_small, all_that_found_no_room_are_asked_again)
{
    size_t taken;

    publish_many(1000);
    join_group("g", 65536);
    while (dispatch_has_more(d)) {
        pump();
    }
    taken = metrics.delivered_messages;
    cr_assert_lt(taken, 1000, "the table is too large for this test");
    for (size_t i = 0; i < WAITING; i++) {
        snprintf(names[i], sizeof names[i], "w%03zu", i);
        make_group_named(names[i], (struct group_options) { 0 }, 0);
        read_ring();
        join_group(names[i], EACH);
    }
    pump_all();
    cr_assert_gt(how_many_wait(), STARVED_ASKED_TURN);
    cr_assert_lt(how_many_wait(), taken / EACH, "there will be room");
    settle_in("g", 1, taken);
    pump_all();
    cr_assert_eq(how_many_wait(), 0);
}
