/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "test/lib/dispatch_bed.h"

/* What a filter costs comes out of its group's share of a turn. */

TestSuite(dispatch_filter, .init = set_up, .fini = tear_down, .timeout = 60);

enum { HEADERS = 8 };
static char value[HEADER_VALUE_LEN_MAX + 1];

static void publish_heavy(unsigned count)
{
    static const char *const names[HEADERS] = { "a", "b", "c", "d",
                                                "e", "f", "g", "h" };
    struct wire_message message = { .header_count = HEADERS };

    memset(value, 'a', HEADER_VALUE_LEN_MAX);
    for (size_t i = 0; i < HEADERS; i++) {
        message.headers[i] =
            (struct wire_header) { slice_text(names[i]), slice_text(value) };
    }
    while (count-- > 0) {
        publish_message(&message);
    }
}

/* Takes the filter. */
static void make_filtered(char *filter)
{
    make_topic();
    make_group_with((struct group_options) { .filter = filter }, OPTION_FILTER);
    join();
}

/* So many searches of a whole header, none of which finds anything. */
static char *searches(size_t count, const char *last)
{
    char *text = calloc(1, FILTER_LEN_MAX);
    size_t len = 0;

    for (size_t i = 0; i < count; i++) {
        len += (size_t)snprintf(text + len, FILTER_LEN_MAX - len,
                                "%c like '*aab*'||", (int)('a' + i % HEADERS));
    }
    snprintf(text + len, FILTER_LEN_MAX - len, "%s", last);
    return text;
}

Test(dispatch_filter, a_light_one_lets_many_pass_in_a_turn)
{
    make_filtered(strdup("has(a) && has(h)"));
    publish_heavy(5);
    cr_assert_str_eq(pump(), "1 2 3 4 5 ");
}

/* Sixty-three times four kibibytes for each message. */
Test(dispatch_filter, a_heavy_one_ends_its_turn)
{
    make_filtered(searches(FILTER_TERMS_MAX - 1, "has(a)"));
    publish_heavy(3);
    cr_assert_str_eq(pump(), "1 ");
    cr_assert(dispatch_has_more(d));
    cr_assert_str_eq(pump(), "2 ");
    cr_assert_str_eq(pump(), "3 ");
    cr_assert_str_eq(pump(), "");
}

Test(dispatch_filter, also_when_it_is_true_for_nothing)
{
    make_filtered(searches(FILTER_TERMS_MAX - 1, "has(none)"));
    publish_heavy(3);
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(books().filtered, 1);
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(books().filtered, 2);
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(books().filtered, 3);
    cr_assert_not(dispatch_has_more(d) && books().ready > 0);
}

/* ---- how one was settled, when there was a filter ---- */

static const char *gate_of(uint64_t seq)
{
    struct dispatch_explanation e;

    cr_assert_eq(dispatch_explain(d, group(), topic(), seq, now_us, &e),
                 STATUS_OK);
    return gate_word(e.standing.gate);
}

static void publish_tagged(const char *tag)
{
    publish_message(&(struct wire_message) { .tag = slice_text(tag) });
}

static void take_filter(char *filter)
{
    change_group((struct group_options) { .filter = filter }, OPTION_FILTER);
}

/* Message 1 is acked, and 2 not wanted. */
static void filter_a(void)
{
    make_filtered(strdup("tag == 'a'"));
    publish_tagged("a");
    publish_tagged("b");
    cr_assert_str_eq(pump(), "1 ");
    settle(SETTLE_ACK, 1, 1, "");
    log_all();
}

Test(dispatch_filter, one_that_stays_tells_what_it_did)
{
    filter_a();
    cr_assert_str_eq(gate_of(1), "acked");
    cr_assert_str_eq(gate_of(2), "filtered");
}

Test(dispatch_filter, a_change_of_anything_else_leaves_it_known)
{
    filter_a();
    change_group((struct group_options) { .attempts_max = 3 }, OPTION_ATTEMPTS);
    cr_assert_str_eq(gate_of(1), "acked");
    cr_assert_str_eq(gate_of(2), "filtered");
}

Test(dispatch_filter, todays_says_nothing_of_what_was_acked_before)
{
    make_filtered(strdup("tag == 'a'"));
    publish_tagged("a");
    cr_assert_str_eq(pump(), "1 ");
    settle(SETTLE_ACK, 1, 1, "");
    take_filter(strdup("tag == 'b'"));
    cr_assert_str_eq(gate_of(1), "acked", "nothing was filtered yet");
    publish_tagged("a");
    publish_tagged("b");
    cr_assert_str_eq(pump(), "3 ");
    settle(SETTLE_ACK, 3, 3, "");
    cr_assert_str_eq(gate_of(1), "settled");
    cr_assert_str_eq(gate_of(2), "filtered");
    cr_assert_str_eq(gate_of(3), "acked");
}

Test(dispatch_filter, nor_does_it_of_what_was_filtered_before)
{
    make_filtered(strdup("tag == 'a'"));
    publish_tagged("b");
    cr_assert_str_eq(pump(), "");
    take_filter(strdup("tag == 'b'"));
    cr_assert_str_eq(gate_of(1), "filtered", "nothing was acked yet");
    publish_tagged("b");
    cr_assert_str_eq(pump(), "2 ");
    settle(SETTLE_ACK, 2, 2, "");
    cr_assert_str_eq(gate_of(1), "settled");
}

Test(dispatch_filter, a_start_does_not_know_since_when_there_is_one)
{
    filter_a();
    open_again();
    cr_assert_str_eq(gate_of(1), "settled");
    cr_assert_str_eq(gate_of(2), "settled");
    join();
    publish_tagged("b");
    cr_assert_str_eq(pump(), "");
    cr_assert_str_eq(gate_of(3), "filtered");
}

Test(dispatch_filter, time_is_looked_at_first)
{
    make_filtered(strdup("tag == 'a'"));
    change_group((struct group_options) { .paused = true }, OPTION_PAUSED);
    publish_message(
        &(struct wire_message) { .tag = slice_text("b"), .ttl_ms = 1000 });
    cr_assert_str_eq(gate_of(1), "filtered");
    pass(2000000);
    cr_assert_str_eq(gate_of(1), "expired");
    change_group((struct group_options) { .paused = false }, OPTION_PAUSED);
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(books().expired, 1);
}
