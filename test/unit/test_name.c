/* links: godwit_proto */
#include "proto/limits.h"
#include "proto/name.h"

#include <criterion/criterion.h>

TestSuite(name, .timeout = 10);

static bool matches(const char *pattern, const char *name)
{
    return pattern_matches(slice_text(pattern), slice_text(name));
}

static struct slice of_len(size_t len, char *into)
{
    memset(into, 'a', len);
    return slice_of(into, len);
}

Test(name, holds_its_bounds)
{
    char text[NAME_LEN_MAX + 1];

    cr_expect_not(name_valid(of_len(0, text)));
    cr_expect(name_valid(of_len(1, text)));
    cr_expect(name_valid(of_len(NAME_LEN_MAX, text)));
    cr_expect_not(name_valid(of_len(NAME_LEN_MAX + 1, text)));
    cr_expect(pattern_valid(of_len(PATTERN_LEN_MAX, text)));
    cr_expect_not(pattern_valid(of_len(PATTERN_LEN_MAX + 1, text)));
    cr_expect_not(pattern_valid(of_len(0, text)));
}

Test(name, exactly_these_bytes_may_be_in_it)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    for (unsigned c = 0; c < 256; c++) {
        char text[2] = { 'a', (char)c };
        bool expected = c != 0 && strchr(allowed, (int)c) != NULL;

        cr_expect_eq(name_valid(slice_of(text, 2)), expected, "byte %u", c);
        cr_expect_eq(pattern_valid(slice_of(text, 2)), expected || c == '*',
                     "byte %u", c);
    }
}

Test(name, does_not_begin_with_a_dot_or_a_dash)
{
    cr_expect_not(name_valid(slice_text(".")));
    cr_expect_not(name_valid(slice_text("..")));
    cr_expect_not(name_valid(slice_text(".a")));
    cr_expect_not(name_valid(slice_text("-a")));
    cr_expect(name_valid(slice_text("_a")));
    cr_expect(name_valid(slice_text("a.")));
    cr_expect(name_valid(slice_text("0")));
    cr_expect_not(pattern_valid(slice_text(".*")));
    cr_expect_not(pattern_valid(slice_text("-*")));
    cr_expect(pattern_valid(slice_text("*")));
    cr_expect(pattern_valid(slice_text("*.-")));
}

Test(name, pattern_without_a_star_is_the_name)
{
    cr_expect(matches("orders", "orders"));
    cr_expect_not(matches("orders", "order"));
    cr_expect_not(matches("order", "orders"));
    cr_expect_not(matches("orders", "Orders"));
    cr_expect_not(matches("a.b", "axb"));
    cr_expect(matches("", ""));
    cr_expect_not(matches("", "a"));
    cr_expect_not(matches("a", ""));
}

Test(name, star_is_any_run_also_none)
{
    cr_expect(matches("*", ""));
    cr_expect(matches("*", "a.b.c"));
    cr_expect(matches("orders.*", "orders."));
    cr_expect(matches("orders.*", "orders.eu.de"));
    cr_expect_not(matches("orders.*", "orders"));
    cr_expect(matches("*.eu", "orders.eu"));
    cr_expect_not(matches("*.eu", "orders.eux"));
    cr_expect(matches("a*c", "ac"));
    cr_expect(matches("a*c", "abcbc"));
    cr_expect_not(matches("a*c", "abcb"));
    cr_expect(matches("**", "x"));
    cr_expect(matches("a**b***", "ab"));
    cr_expect(matches("*ab*ab*", "xxabyyabzz"));
    cr_expect_not(matches("*ab*ab*", "xxabyyazz"));
}

/* Backtracking into every star would take longer than the universe has. */
Test(name, hostile_pattern_ends_soon)
{
    char pattern[PATTERN_LEN_MAX + 1] = { 0 };
    char name[NAME_LEN_MAX + 1] = { 0 };

    for (size_t i = 0; i + 2 < PATTERN_LEN_MAX; i += 2) {
        pattern[i] = '*';
        pattern[i + 1] = 'a';
    }
    pattern[PATTERN_LEN_MAX - 2] = '*';
    pattern[PATTERN_LEN_MAX - 1] = 'b';
    memset(name, 'a', NAME_LEN_MAX);
    cr_expect_not(matches(pattern, name));
    name[NAME_LEN_MAX - 1] = 'b';
    cr_expect(matches(pattern, name));
    cr_expect_not(matches("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"));
}

/* A plain recursive matcher as the oracle, on all short patterns and names. */
static bool slow_match(const char *pattern, const char *name)
{
    if (*pattern == '\0') {
        return *name == '\0';
    }
    if (*pattern == '*') {
        return slow_match(pattern + 1, name)
               || (*name != '\0' && slow_match(pattern, name + 1));
    }
    return *pattern == *name && slow_match(pattern + 1, name + 1);
}

static void spell(unsigned number, unsigned letters, const char *alphabet,
                  char *out)
{
    size_t i = 0;

    for (; number > 0; number /= letters) {
        number--;
        out[i++] = alphabet[number % letters];
    }
    out[i] = '\0';
}

Test(name, agrees_with_the_plain_matcher_on_all_short_ones)
{
    for (unsigned p = 0; p < 364; p++) {     /* up to 5 of "*ab" */
        for (unsigned n = 0; n < 127; n++) { /* up to 6 of "ab" */
            char pattern[8];
            char name[8];

            spell(p, 3, "*ab", pattern);
            spell(n, 2, "ab", name);
            cr_assert_eq(matches(pattern, name), slow_match(pattern, name),
                         "%s on %s", pattern, name);
        }
    }
}
