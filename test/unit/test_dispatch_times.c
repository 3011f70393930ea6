/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "test/lib/dispatch_bed.h"

/* What a message says of itself, and what the dispatch makes of it for a group:
 * delay, delivery time, time to live, key, filter; and the two clocks. */

TestSuite(dispatch_times, .init = set_up, .fini = tear_down, .timeout = 60);

#define SECOND UINT64_C(1000000)
#define YEAR   (UINT64_C(366) * 24 * 3600 * SECOND)

static void start(void)
{
    make_topic();
    make_group();
    join();
}

static struct dispatch_explanation explained(uint64_t seq)
{
    struct dispatch_explanation e;

    cr_assert_eq(dispatch_explain(d, group(), topic(), seq, now_us, &e),
                 STATUS_OK);
    return e;
}

static const char *gate_of(uint64_t seq)
{
    return gate_word(explained(seq).standing.gate);
}

/* ---- delay ---- */

Test(dispatch_times, a_delayed_message_comes_in_time)
{
    start();
    publish_message(&(struct wire_message) { .delay_ms = 5000 });
    publish_message(&(struct wire_message) { .tag = slice_text("now") });
    cr_assert_str_eq(pump(), "2 ");
    cr_assert_eq(books().delayed, 1);
    cr_assert_str_eq(gate_of(1), "not_due");
    pass(4 * SECOND + SECOND / 2);
    cr_assert_str_eq(pump(), "");
    pass(SECOND / 2 + 50000);
    cr_assert_str_eq(pump(), "1 ");
}

Test(dispatch_times, a_delivery_time)
{
    start();
    publish_message(
        &(struct wire_message) { .deliver_at_ms = wall_us / 1000 + 3000 });
    publish_message(
        &(struct wire_message) { .deliver_at_ms = wall_us / 1000 - 3000 });
    cr_assert_str_eq(pump(), "2 ");
    pass(3 * SECOND + 50000);
    cr_assert_str_eq(pump(), "1 ");
}

Test(dispatch_times, a_delay_goes_on_over_a_start)
{
    start();
    publish_message(&(struct wire_message) { .delay_ms = 5000 });
    cr_assert_str_eq(pump(), "");
    log_all();
    wall_us += 2 * SECOND;
    open_again();
    join();
    cr_assert_str_eq(pump(), "");
    pass(2 * SECOND);
    cr_assert_str_eq(pump(), "");
    pass(SECOND + 50000);
    cr_assert_str_eq(pump(), "1 ");
}

/* The very last moment that a publish may ask for; overflows would show. */
Test(dispatch_times, the_longest_delay_and_life)
{
    start();
    publish_message(&(struct wire_message) { .delay_ms = PUBLISH_DELAY_MS_MAX,
                                             .ttl_ms = TTL_MS_MAX });
    cr_assert_str_eq(pump(), "");
    pass(YEAR - SECOND);
    cr_assert_str_eq(pump(), "");
    pass(SECOND + 50000);
    cr_assert_str_eq(pump(), "1 ");
}

/* ---- the wall clock jumps ---- */

static void jump(int64_t us)
{
    wall_us = (uint64_t)((int64_t)wall_us + us);
    cr_assert(dispatch_log(d, submission, now_us, wall_us));
}

Test(dispatch_times, what_waits_does_not_move_when_the_clock_jumps)
{
    start();
    publish_message(&(struct wire_message) { .delay_ms = 5000 });
    cr_assert_str_eq(pump(), "");
    jump((int64_t)(10 * YEAR));
    pass(4 * SECOND);
    cr_assert_str_eq(pump(), "");
    jump(-(int64_t)(20 * YEAR));
    pass(SECOND + 50000);
    cr_assert_str_eq(pump(), "1 ");
}

Test(dispatch_times, a_delay_is_as_long_after_a_jump)
{
    start();
    jump((int64_t)(10 * YEAR));
    publish_message(&(struct wire_message) { .delay_ms = 5000 });
    jump(-(int64_t)(20 * YEAR));
    publish_message(&(struct wire_message) { .delay_ms = 5000 });
    cr_assert_str_eq(pump(), "");
    pass(4 * SECOND);
    cr_assert_str_eq(pump(), "");
    pass(SECOND + 50000);
    cr_assert_str_eq(pump(), "1 2 ");
}

/* Stored before the jump, looked at behind it: it is not ten years old. */
Test(dispatch_times, a_jump_makes_no_message_old)
{
    make_topic();
    make_group();
    read_ring();
    publish_message(&(struct wire_message) { .ttl_ms = 60000 });
    now_us += SECOND;
    jump((int64_t)(10 * YEAR));
    now_us += SECOND;
    join();
    cr_assert_str_eq(pump(), "1 ");
}

Test(dispatch_times, nor_young_when_it_goes_back)
{
    make_topic();
    make_group();
    read_ring();
    publish_message(&(struct wire_message) { .ttl_ms = 3000 });
    now_us += SECOND;
    jump(-(int64_t)(10 * YEAR));
    pass(3 * SECOND);
    join();
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(books().expired, 1);
}

/* The machine comes up with a clock that is ten years late. */
Test(dispatch_times, a_late_clock_at_a_start_makes_nothing_wait_longer)
{
    make_topic();
    make_group();
    read_ring();
    publish_message(&(struct wire_message) { .delay_ms = 5000 });
    publish_message(
        &(struct wire_message) { .deliver_at_ms = wall_us / 1000 + 5000 });
    wall_us -= 10 * YEAR;
    open_again();
    join();
    cr_assert_str_eq(pump(), "");
    pass(5 * SECOND + 50000);
    cr_assert_str_eq(pump(), "1 ");
    pass(YEAR);
    settle(SETTLE_ACK, 1, 1, "");
    cr_assert_str_eq(pump(), "2 ");
}

Test(dispatch_times, nor_live_longer)
{
    make_topic();
    make_group();
    read_ring();
    publish_message(
        &(struct wire_message) { .delay_ms = 2000, .ttl_ms = 3000 });
    wall_us -= 10 * YEAR;
    open_again();
    join();
    cr_assert_str_eq(pump(), "");
    pass(2 * SECOND + 50000);
    cr_assert_str_eq(pump(), "1 ");
    settle(SETTLE_NACK, 1, 1, "");
    pass(30 * SECOND);
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(books().expired, 1);
}

/* ---- time to live ---- */

Test(dispatch_times, what_is_over_is_not_given_out)
{
    make_topic();
    make_group();
    read_ring();
    publish_message(&(struct wire_message) { .ttl_ms = 1000 });
    publish_message(&(struct wire_message) { .ttl_ms = 5000 });
    pass(2 * SECOND);
    cr_assert_str_eq(gate_of(1), "expired");
    join();
    cr_assert_str_eq(pump(), "2 ");
    cr_assert_eq(books().expired, 1);
    log_all();
    cr_assert_eq(metrics.expired_messages, 1);
    open_again();
    cr_assert_eq(books().expired, 1);
}

/* What is only in the log yet, and what the checkpoint of a stop knows. */
Test(dispatch_times, what_is_over_may_have_been_acked_until_the_log_says)
{
    start();
    publish_message(&(struct wire_message) { .ttl_ms = 500 });
    publish_message(&(struct wire_message) { .ttl_ms = 500 });
    publish_message(&(struct wire_message) { .delay_ms = 0 });
    cr_assert_str_eq(pump(), "1 2 3 ");
    settle(SETTLE_ACK, 1, 1, "");
    settle(SETTLE_ACK, 3, 3, "");
    settle(SETTLE_NACK, 2, 2, "");
    pass(10 * SECOND);
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(books().expired, 1);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        cr_assert_str_eq(gate_of(seq), "settled");
        cr_assert_eq(explained(seq).may_be,
                     1U << GATE_ACKED | 1U << GATE_EXPIRED);
    }
    cr_assert_str_eq(gate_of(3), "acked", "it would live for ever");
    log_all();
    open_again();
    cr_assert_str_eq(gate_of(1), "acked");
    cr_assert_str_eq(gate_of(2), "expired");
}

Test(dispatch_times, a_life_begins_when_it_is_due)
{
    start();
    publish_message(
        &(struct wire_message) { .delay_ms = 5000, .ttl_ms = 1000 });
    cr_assert_str_eq(pump(), "");
    pass(5 * SECOND + 50000);
    cr_assert_str_eq(pump(), "1 ");
}

Test(dispatch_times, it_ends_before_a_second_attempt_too)
{
    start();
    publish_message(&(struct wire_message) { .ttl_ms = 500 });
    cr_assert_str_eq(pump(), "1 ");
    settle(SETTLE_NACK, 1, 1, "");
    pass(10 * SECOND);
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(books().expired, 1);
}

/* ---- filter ---- */

static struct group_options filtering(const char *text)
{
    return (struct group_options) { .filter = strdup(text) };
}

Test(dispatch_times, a_filter_takes_what_it_wants)
{
    make_topic();
    make_group_with(filtering("tag == \"a\""), OPTION_FILTER);
    join();
    publish_message(&(struct wire_message) { .tag = slice_text("a") });
    publish_message(&(struct wire_message) { .tag = slice_text("b") });
    publish_message(&(struct wire_message) { .tag = slice_text("a") });
    cr_assert_str_eq(gate_of(2), "filtered");
    cr_assert_str_eq(pump(), "1 3 ");
    cr_assert_eq(books().filtered, 1);
    cr_assert_str_eq(gate_of(2), "filtered");
    log_all();
    cr_assert_eq(metrics.filtered_messages, 1);
    open_again();
    cr_assert_eq(books().filtered, 1);
}

Test(dispatch_times, a_new_filter_is_for_what_comes)
{
    make_topic();
    make_group_with(filtering("tag == \"a\""), OPTION_FILTER);
    join();
    publish_message(&(struct wire_message) { .tag = slice_text("b") });
    cr_assert_str_eq(pump(), "");
    change_group(filtering("tag == \"b\""), OPTION_FILTER);
    publish_message(&(struct wire_message) { .tag = slice_text("b") });
    cr_assert_str_eq(pump(), "2 ");
}

/* ---- key order ---- */

Test(dispatch_times, an_ordered_group_gives_a_key_one_by_one)
{
    make_topic();
    make_group_with((struct group_options) { .mode = MODE_ORDERED },
                    OPTION_MODE);
    join();
    publish_message(&(struct wire_message) { .key = slice_text("k") });
    publish_message(&(struct wire_message) { .key = slice_text("k") });
    publish_message(&(struct wire_message) { .key = slice_text("l") });
    publish_message(&(struct wire_message) { .tag = slice_text("no key") });
    publish_message(&(struct wire_message) { .tag = slice_text("no key") });
    cr_assert_str_eq(pump(), "1 3 4 5 ");
    cr_assert_str_eq(gate_of(2), "key_busy");
    settle(SETTLE_ACK, 1, 1, "");
    cr_assert_str_eq(pump(), "2 ");
}

/* ---- notice ---- */

Test(dispatch_times, a_notice_before_the_lease_ends)
{
    make_topic();
    make_group_with(
        (struct group_options) { .lease_ms = 10000, .notice_ms = 2000 },
        OPTION_LEASE | OPTION_NOTICE);
    publish(3);
    join();
    cr_assert_str_eq(pump(), "1 2 3 ");
    pass(7 * SECOND);
    cr_assert_str_eq(out, "");
    pass(SECOND + 50000);
    cr_assert_str_eq(out, "notice1-3:1950 ");
}
