/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "test/lib/dispatch_bed.h"

/* The dispatch over a real store: what it does about trims, and about what the
 * store does not have. */

TestSuite(dispatch, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- trims ---- */

Test(dispatch, deleted_messages_are_not_delivered)
{
    make_topic();
    make_group();
    publish(6);
    trim(4, 4);
    join();
    cr_assert_str_eq(pump(), "4 5 6 ");
    cr_assert_eq(books().deleted, 3);
    cr_assert_eq(
        dispatch_first_seq(catalog_topic_by_id(dispatch_catalog(d), TOPIC)), 4);
}

Test(dispatch, a_trim_while_they_wait)
{
    make_topic();
    make_group();
    publish(3);
    join();
    cr_assert_str_eq(pump(), "1 2 3 ");
    publish(3);
    trim(6, 6);
    read_ring();
    cr_assert_str_eq(pump(), "6 ");
    cr_assert_eq(metrics.deleted_messages, 2);
    cr_assert_eq(books().deleted, 2);
    cr_assert_eq(books().in_flight, 4);
}

Test(dispatch, a_trim_never_goes_back)
{
    make_topic();
    make_group();
    publish(6);
    trim(5, 6);
    trim(2, 3);
    join();
    cr_assert_str_eq(pump(), "5 6 ");
    cr_assert_eq(
        dispatch_floor_seq(catalog_topic_by_id(dispatch_catalog(d), TOPIC)), 6);
}

Test(dispatch, a_start_knows_what_was_deleted)
{
    make_topic();
    make_group();
    publish(6);
    trim(4, 5);
    cr_assert_eq(store_checkpoint(h.store, &h.err), STATUS_OK);
    close_dispatch();
    ring = ring_new(sizeof(struct store_commit), 64, 1);
    open_dispatch();
    join();
    cr_assert_eq(books().deleted, 3);
    cr_assert_str_eq(pump(), "4 5 6 ");
}

/* ---- where a group begins ---- */

static uint64_t acked_in_log(void)
{
    uint8_t *at;
    size_t len;
    uint64_t count = 0;

    (void)submission_publish(submission);
    len = submission_peek(submission, &at);
    for (size_t done = 0; done < len; done += record_size_at(at + done)) {
        struct record record;
        struct ranges_reader r;

        record_fields_at(at + done, &record);
        cr_assert_eq(record.kind, RECORD_ACK);
        cr_assert_eq(ranges_read(record.body, &r), STATUS_OK);
        for (size_t i = 0; i < r.count; i++) {
            struct seq_range range = ranges_next(&r);
            count += range.last - range.first + 1;
        }
    }
    return count;
}

/* Its fact was decided when the floor was lower, and stands behind the trim:
 * what is below was never its own. */
static void begin_beside_a_trim(void)
{
    make_topic();
    publish(6);
    trim(2, 5);
    make_group();
    join();
    cr_assert_str_eq(pump(), "5 6 ");
}

static void expect_two_published(void)
{
    struct dispatch_explanation e;

    cr_assert_eq(books().published, 2);
    cr_assert_eq(books().acked, 0);
    cr_assert_eq(books().deleted, 0);
    for (uint64_t seq = 1; seq <= 4; seq++) {
        cr_assert_eq(dispatch_explain(d, group(), topic(), seq, now_us, &e),
                     STATUS_OK);
        cr_assert_str_eq(gate_word(e.standing.gate), "not_taken");
    }
}

Test(dispatch, a_group_that_begins_at_the_floor_was_never_owed_what_is_below)
{
    begin_beside_a_trim();
    expect_two_published();
}

Test(dispatch, a_group_begins_at_the_floor_and_the_log_is_told)
{
    begin_beside_a_trim();
    log_all();
    open_again();
    join();
    cr_assert_str_eq(pump(), "5 6 ");
    expect_two_published();
}

/* An ack that comes before the log has that. */
Test(dispatch, a_group_begins_at_the_floor_and_acks_before_the_log_is_told)
{
    begin_beside_a_trim();
    settle(SETTLE_ACK, 5, 5, "");
    log_all();
    open_again();
    join();
    cr_assert_str_eq(pump(), "6 ");
    cr_assert_eq(books().published, 2);
    cr_assert_eq(books().acked, 1);
}

/* Messages 1 to 4 of 6 are gone: another group has settled them. */
static void lose_four(void)
{
    make_topic();
    add_ack(&h, GROUP + 7, TOPIC, 1, 4);
    put_on_ring(false);
    open_again();
    publish(2);
}

/* ... and the broker died before the log was told. */
Test(dispatch, a_group_begins_at_the_floor_although_the_log_was_not_told)
{
    lose_four();
    trim(2, 5);
    make_group();
    open_again();
    join();
    cr_assert_str_eq(pump(), "5 6 ");
    cr_assert_eq(books().gap, 0);
    cr_assert(dispatch_log(d, submission, now_us, now_us));
    cr_assert_eq(acked_in_log(), 3);
}

/* A group that has settled something began before: what it misses is lost. */
Test(dispatch, what_is_missing_below_the_floor_is_lost_to_who_was_there)
{
    lose_four();
    make_group();
    add_ack(&h, GROUP, TOPIC, 5, 5);
    put_on_ring(false);
    trim(2, 5);
    open_again();
    join();
    cr_assert_str_eq(pump(), "gap2-4 6 ");
    cr_assert_eq(books().gap, 3);
}

/* At the floor and above it is lost in any case. */
Test(dispatch, what_is_missing_at_the_floor_is_lost)
{
    lose_four();
    trim(2, 4);
    make_group();
    open_again();
    join();
    cr_assert_str_eq(pump(), "gap4-4 5 6 ");
    cr_assert_eq(books().gap, 1);
}

Test(dispatch, a_group_that_was_there_before_is_owed_what_is_below_the_floor)
{
    make_topic();
    make_group();
    publish(6);
    trim(2, 5);
    join();
    cr_assert_str_eq(pump(), "2 3 4 5 6 ");
    cr_assert(dispatch_log(d, submission, now_us, now_us));
    cr_assert_eq(acked_in_log(), 0);
}

/* ---- what the store does not have ---- */

static void damage_message(const char *text)
{
    char path[600];

    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, find_in_file(path, text), 3);
}

Test(dispatch, what_is_lost_is_a_gap)
{
    make_topic();
    make_group();
    publish(3);
    damage_message("message number 2");
    join();
    cr_assert_str_eq(pump(), "1 gap2-2 3 ");
    cr_assert_eq(books().gap, 1);
}

/* The keeper is ahead: what it deleted is gone before we hear of it. */
Test(dispatch, what_may_have_been_deleted_waits_for_the_ring)
{
    make_topic();
    make_group();
    publish(4);
    damage_message("message number 2");
    join();
    trim(4, 4); /* on the ring, not read */
    cr_assert_str_eq(pump(), "1 ");
    cr_assert(dispatch_has_more(d));
    cr_assert_eq(books().gap, 0);
    read_ring();
    cr_assert_str_eq(pump(), "4 ");
    cr_assert_eq(books().gap, 0);
    cr_assert_eq(books().deleted, 2);
}

Test(dispatch, what_was_not_deleted_after_all_is_a_gap)
{
    make_topic();
    make_group();
    publish(4);
    damage_message("message number 2");
    join();
    trim(2, 2);
    cr_assert_str_eq(pump(), "1 ");
    cr_assert_str_eq(pump(), ""); /* as long as the ring is not read */
    read_ring();
    publish(1); /* more on the ring, but what was there then is read */
    cr_assert_str_eq(pump(), "gap2-2 3 4 ");
}
