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
