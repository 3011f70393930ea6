/* links: godwit_router godwit_proto */
#include "broker/router/filter.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(filter, .timeout = 60);

static struct wire_message message;
static struct refusal refusal;

static void add_header(const char *name, const char *value)
{
    message.headers[message.header_count++] =
        (struct wire_header) { slice_text(name), slice_text(value) };
}

static struct filter *compiled(const char *text)
{
    struct filter *filter = NULL;

    refusal = (struct refusal) { 0 };
    cr_assert_eq(filter_compile(&filter, slice_text(text), &refusal), STATUS_OK,
                 "%s: %s", text, refusal.text);
    return filter;
}

static bool match(const char *text)
{
    struct filter *filter = compiled(text);
    size_t cost;
    bool truth = filter_match_cost(filter, &message, &cost);

    cr_assert_leq(cost, FILTER_COST_MAX);
    cr_assert_eq(filter_match(filter, &message), truth);
    filter_free(filter);
    return truth;
}

static enum status refused(struct slice text)
{
    struct filter *filter = NULL;
    enum status status;

    refusal = (struct refusal) { 0 };
    status = filter_compile(&filter, text, &refusal);
    if (status != STATUS_OK) {
        cr_assert_eq(refusal.status, status);
        cr_assert_null(filter);
    }
    filter_free(filter);
    return status;
}

static void an_order(void)
{
    message.key = slice_text("customer-7");
    message.tag = slice_text("paid");
    add_header("region", "cn");
    add_header("amount", "100.10");
    add_header("empty", "");
    add_header("key", "a header");
    add_header("in", "a word");
    add_header("caf\xc3\xa9 au lait", "2");
    add_header("x-id.v2", "a*b");
    add_header("flag", "true");
    add_header("big", "9007199254740993");
}

/* ---- what holds of one message ---- */

struct truth {
    const char *text;
    bool want;
};

static void check_truths(const struct truth *table, size_t count)
{
    an_order();
    for (size_t i = 0; i < count; i++) {
        char text[FILTER_LEN_MAX];

        cr_expect_eq(match(table[i].text), table[i].want, "%s", table[i].text);
        snprintf(text, sizeof text, "!(%s)", table[i].text);
        cr_expect_eq(match(text), !table[i].want, "%s", text);
    }
}

Test(filter, fields_are_compared_with_texts)
{
    static const struct truth table[] = {
        { "region == \"cn\"", true },
        { "region == 'cn'", true },
        { "region==\"CN\"", false },
        { "region != \"eu\"", true },
        { "region < \"d\" && region > \"b\"", true },
        { "region <= \"cn\" && region >= \"cn\"", true },
        { "region < \"cn\"", false },
        { "region > \"cna\"", false },
        { "key == \"customer-7\"", true },
        { "h\"key\" == \"a header\"", true },
        { "tag == \"paid\"", true },
        { "h\"tag\" == \"paid\"", false },
        { "h\"in\" == \"a word\"", true },
        { "h'caf\xc3\xa9 au lait' == 2", true },
        { "x-id.v2 == \"a*b\"", true },
        { "x-id.v2 == \"a\\*b\"", true },
        { "flag == true", true },
        { "flag == false", false },
        { "empty == \"\"", true },
        { "amount == \"100.1\"", false },
    };

    check_truths(table, COUNT_OF(table));
}

Test(filter, a_missing_field_is_equal_to_nothing)
{
    static const struct truth table[] = {
        { "none == \"\"", false },
        { "none != \"\"", true },
        { "none < \"z\"", false },
        { "none >= \"\"", false },
        { "none == 0", false },
        { "none != 0", true },
        { "none < 1", false },
        { "none > -1", false },
        { "none in (\"\")", false },
        { "none not in (\"\")", true },
        { "none like \"*\"", false },
        { "none not like \"*\"", true },
        { "has(none)", false },
        { "has(empty)", true },
        { "has(key) && has(tag)", true },
    };

    check_truths(table, COUNT_OF(table));
    message = (struct wire_message) { 0 };
    cr_assert_not(match("has(key)"));
    cr_assert_not(match("has(tag)"));
    cr_assert_not(match("key == \"\""));
    cr_assert(match("tag != \"\""));
}

Test(filter, words_and_signs_are_the_same)
{
    static const struct truth table[] = {
        { "region == \"cn\" and amount > 100", true },
        { "region == \"eu\" OR amount > 100", true },
        { "NOT region == \"eu\"", true },
        { "not not has(region)", true },
        { "region In (\"eu\", \"cn\")", true },
        { "region NOT IN (\"eu\", \"us\")", true },
        { "amount in (1, 100.1, \"x\")", true },
        { "\n\tregion\r=='cn' ", true },
    };

    check_truths(table, COUNT_OF(table));
}

/* not before and before or. */
Test(filter, each_sign_binds_as_it_should)
{
    static const struct truth table[] = {
        { "flag == 'x' && flag == 'x' || flag == 'true'", true },
        { "flag == 'true' || flag == 'true' && flag == 'x'", true },
        { "(flag == 'true' || flag == 'true') && flag == 'x'", false },
        { "! flag == 'x' && flag == 'x'", false },
        { "! (flag == 'x' && flag == 'x')", true },
        { "flag == 'x' || flag == 'y' || flag == 'true'", true },
        { "has(flag) && has(key) && has(none) && has(tag)", false },
    };

    check_truths(table, COUNT_OF(table));
}

Test(filter, a_star_stands_for_any_run)
{
    static const struct truth table[] = {
        { "key like \"customer-*\"", true },
        { "key like \"*-7\"", true },
        { "key like \"*\"", true },
        { "key like \"**\"", true },
        { "key like \"c*o*-*\"", true },
        { "key like \"c*t*t*\"", false },
        { "key like \"customer-7\"", true },
        { "key like \"customer\"", false },
        { "key like \"ustomer*\"", false },
        { "key like \"*customer\"", false },
        { "key like \"customer-7*customer-7\"", false },
        { "key like \"\"", false },
        { "empty like \"\"", true },
        { "empty like \"*\"", true },
        { "empty like \"a*\"", false },
        { "x-id.v2 like \"a\\*b\"", true },
        { "x-id.v2 like \"a\\*\"", false },
        { "key like \"customer\\*\"", false },
        { "key not like \"eu*\"", true },
    };

    check_truths(table, COUNT_OF(table));
}

/* ---- numbers ---- */

Test(filter, numbers_are_exact)
{
    static const struct truth table[] = {
        { "amount == 100.1", true },
        { "amount == 100.10", true },
        { "amount == +000100.1000", true },
        { "amount == 100.1000000000000000000000000000000000001", false },
        { "amount < 100.1000000000000000000000000000000000001", true },
        { "amount > 100.0999999999999999999999999999999999999", true },
        { "amount > 100", true },
        { "amount > 99.99", true },
        { "amount < 1000", true },
        { "amount > -100.2", true },
        { "big == 9007199254740993", true },
        { "big == 9007199254740992", false },
        { "big > 9007199254740992", true },
        { "region == 0", false },
        { "region != 0", true },
        { "empty == 0", false },
        { "region < 5", false },
    };

    check_truths(table, COUNT_OF(table));
}

/* Sorted: each is less than all behind it, and equal to itself. */
Test(filter, numbers_have_one_order)
{
    static const char *const sorted[] = {
        "-1000",  "-999.5", "-10",  "-9.99", "-9.9", "-1",
        "-0.001", "0",      "0.01", "0.1",   "0.11", "0.9",
        "1",      "1.001",  "2",    "10",    "100",  "18446744073709551616",
    };

    for (size_t i = 0; i < COUNT_OF(sorted); i++) {
        message = (struct wire_message) { 0 };
        add_header("n", sorted[i]);
        for (size_t j = 0; j < COUNT_OF(sorted); j++) {
            char text[80];

            snprintf(text, sizeof text, "n < %s", sorted[j]);
            cr_assert_eq(match(text), i < j, "%s: %s", sorted[i], text);
            snprintf(text, sizeof text, "n == %s", sorted[j]);
            cr_assert_eq(match(text), i == j, "%s: %s", sorted[i], text);
            snprintf(text, sizeof text, "n >= %s", sorted[j]);
            cr_assert_eq(match(text), i >= j, "%s: %s", sorted[i], text);
        }
    }
}

Test(filter, what_is_no_number_is_equal_to_none)
{
    static const char *const none[] = { "",    " 1",   "1 ",    "1e3",
                                        "1.",  ".5",   "-",     "+",
                                        "--1", "0x10", "NaN",   "inf",
                                        "1,5", "1_0",  "1.2.3", "\xd9\xa1" };

    for (size_t i = 0; i < COUNT_OF(none); i++) {
        message = (struct wire_message) { 0 };
        add_header("n", none[i]);
        cr_assert_not(match("n == 1 || n < 1 || n > 1 || n <= 1 || n >= 1"),
                      "%s", none[i]);
        cr_assert(match("n != 1"), "%s", none[i]);
    }
    message = (struct wire_message) { 0 };
    add_header("n", "-0.00");
    cr_assert(match("n == 0 && n >= 0 && n <= -0"));
}

/* ---- what is no filter ---- */

Test(filter, an_error_names_its_column_and_what_was_expected)
{
    static const struct {
        const char *text;
        uint64_t column;
        const char *says;
    } table[] = {
        { "", 1, "found the end" },
        { "   ", 4, "key, tag or the name of a header" },
        { "region", 7, "a comparison" },
        { "region =", 8, "write ==" },
        { "region = \"cn\"", 8, "write ==" },
        { "region ==", 10, "a text or a number" },
        { "region == cn", 11, "quotes" },
        { "region == \"cn", 11, "no end" },
        { "region == \"c\\n\"", 13, "stands before" },
        { "region == \"cn\\", 14, "stands before" },
        { "\"cn\" == region", 1, "key, tag or the name" },
        { "a == 1 b == 2", 8, "&& or ||" },
        { "a == 1 & b == 2", 8, "write &&" },
        { "a == 1 | b == 2", 8, "write ||" },
        { "a == 1 && ", 11, "key, tag or the name" },
        { "(a == 1", 8, "expected )" },
        { "a == 1)", 7, "nothing is open" },
        { "a in ()", 7, "a text or a number" },
        { "a in (1", 8, ") or a comma" },
        { "a in 1", 6, "expected (" },
        { "a in (1,)", 9, "a text or a number" },
        { "a like 5", 8, "in quotes" },
        { "a not == 5", 7, "in or like" },
        { "a == 1e3", 6, "digits" },
        { "a == 1.", 6, "digits" },
        { "a == -", 6, "digits" },
        { "a == 0x10", 6, "digits" },
        { "has region", 5, "expected (" },
        { "has()", 5, "name" },
        { "has(region", 11, "expected )" },
        { "h\"\" == 1", 1, "has a name" },
        { "or == 1", 1, "key, tag or the name" },
        { "a == \"\xc3\xa9\" ? 1", 10, "means nothing" },
        { "\xc3\xa9 == 1", 1, "means nothing" },
        { "a == 1 && (b == 2 || c ~ 3)", 24, "means nothing" },
        { "a == averyveryverylongwordthatgoeson", 6, "..." },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        cr_expect_eq(refused(slice_text(table[i].text)), STATUS_INVALID, "%s",
                     table[i].text);
        cr_expect_str_eq(refusal.limit, "filter");
        cr_expect_eq(refusal.used, table[i].column, "%s: %llu", table[i].text,
                     (unsigned long long)refusal.used);
        cr_expect_not_null(strstr(refusal.text, table[i].says), "%s: %s",
                           table[i].text, refusal.text);
    }
    cr_assert_eq(refused(slice_of("a == \"\0\"", 8)), STATUS_INVALID);
    cr_assert_eq(refused(slice_of("a == \"\xff\"", 8)), STATUS_INVALID);
}

/* ---- bounds ---- */

static void repeat(char *to, const char *what, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        memcpy(to, what, strlen(what));
        to += strlen(what);
    }
    *to = '\0';
}

Test(filter, its_length_is_bounded)
{
    char text[FILTER_LEN_MAX + 2];

    memset(text, ' ', sizeof text);
    memcpy(text, "has(a)", 6);
    cr_assert_eq(refused(slice_of(text, FILTER_LEN_MAX)), STATUS_OK);
    cr_assert_eq(refused(slice_of(text, FILTER_LEN_MAX + 1)), STATUS_TOO_LARGE);
    cr_assert_str_eq(refusal.limit, "filter_len");
    cr_assert_eq(refusal.used, FILTER_LEN_MAX + 1);
    cr_assert_eq(refusal.allowed, FILTER_LEN_MAX);
    memset(text, '"', sizeof text);
    memcpy(text, "a==", 3);
    memset(text + 4, 'x', FILTER_LEN_MAX - 5);
    cr_assert_eq(refused(slice_of(text, FILTER_LEN_MAX)), STATUS_OK);
}

Test(filter, its_comparisons_are_counted)
{
    static const struct {
        const char *begin, *each, *end;
    } shapes[] = { { "", "a==1||", "a==1" },
                   { "", "a==1&&", "a==1" },
                   { "a in (", "1,", "1)" },
                   { "", "has(a)||", "has(a)" } };
    char text[FILTER_LEN_MAX];

    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        for (size_t more = 0; more < 2; more++) {
            strcpy(text, shapes[i].begin);
            repeat(text + strlen(text), shapes[i].each,
                   FILTER_TERMS_MAX - 1 + more);
            strcat(text, shapes[i].end);
            cr_assert_eq(refused(slice_text(text)),
                         more == 0 ? STATUS_OK : STATUS_TOO_LARGE, "%s", text);
        }
        cr_assert_str_eq(refusal.limit, "filter_terms");
        cr_assert_eq(refusal.used, FILTER_TERMS_MAX + 1);
        cr_assert_eq(refusal.allowed, FILTER_TERMS_MAX);
        cr_assert_not_null(strstr(refusal.text, "column"));
    }
}

Test(filter, its_depth_is_bounded)
{
    static const char *const openings[] = { "(", "!", "not " };
    char text[FILTER_LEN_MAX];

    for (size_t i = 0; i < COUNT_OF(openings); i++) {
        for (size_t more = 0; more < 2; more++) {
            size_t depth = FILTER_DEPTH_MAX + more;

            repeat(text, openings[i], depth);
            strcat(text, "has(a)");
            repeat(text + strlen(text), ")", i == 0 ? depth : 0);
            cr_assert_eq(refused(slice_text(text)),
                         more == 0 ? STATUS_OK : STATUS_TOO_LARGE, "%s", text);
        }
        cr_assert_str_eq(refusal.limit, "filter_depth");
        cr_assert_eq(refusal.used, FILTER_DEPTH_MAX + 1);
        cr_assert_eq(refusal.allowed, FILTER_DEPTH_MAX);
    }
    /* Side by side is not deep. */
    repeat(text, "(has(a))||", FILTER_TERMS_MAX - 1);
    strcat(text, "has(a)");
    cr_assert_eq(refused(slice_text(text)), STATUS_OK);
}

/* ---- bombs ---- */

enum { BOMB_HEADERS = HEADER_COUNT_MAX };
static char bomb_names[BOMB_HEADERS][HEADER_NAME_LEN_MAX + 1];
static char bomb_value[HEADER_VALUE_LEN_MAX + 1];

/* 32 headers of 4 KiB, their names alike up to the last byte but one. */
static void a_heavy_message(char fill)
{
    message = (struct wire_message) { 0 };
    memset(bomb_value, fill, HEADER_VALUE_LEN_MAX);
    for (size_t i = 0; i < BOMB_HEADERS; i++) {
        memset(bomb_names[i], 'n', HEADER_NAME_LEN_MAX);
        bomb_names[i][HEADER_NAME_LEN_MAX - 2] = (char)('0' + i / 10);
        bomb_names[i][HEADER_NAME_LEN_MAX - 1] = (char)('0' + i % 10);
        add_header(bomb_names[i], bomb_value);
    }
    message.key = slice_of(bomb_value, KEY_LEN_MAX);
}

static size_t cost_of(const char *text)
{
    struct filter *filter = compiled(text);
    size_t cost;

    (void)filter_match_cost(filter, &message, &cost);
    filter_free(filter);
    return cost;
}

Test(filter, a_bomb_costs_what_the_bound_says)
{
    static const struct {
        const char *each, *last;
        size_t count;
    } bombs[] = {
        { "key like'*a*a*a*b'||", "has(x)", 48 },
        { "key<'b'&&", "has(x)", FILTER_TERMS_MAX - 1 },
        { "key==111111||", "has(x)", FILTER_TERMS_MAX - 1 },
        { "k!='a'&&", "has(x)", FILTER_TERMS_MAX - 1 },
    };
    char text[FILTER_LEN_MAX];

    a_heavy_message('a');
    for (size_t i = 0; i < COUNT_OF(bombs); i++) {
        repeat(text, bombs[i].each, bombs[i].count);
        strcat(text, bombs[i].last);
        cr_assert_leq(cost_of(text), FILTER_COST_MAX, "%s", text);
        cr_assert_gt(cost_of(text), bombs[i].count / 2, "%s", text);
    }
}

/* As many terms as there may be, over all the headers there may be, each as
 * long as it may be, and each term reads all of its. */
Test(filter, the_heaviest_filter_reads_each_value_once_a_term)
{
    char text[FILTER_LEN_MAX] = "";
    size_t len = 0;
    size_t cost;

    a_heavy_message('a');
    for (size_t i = 0; i < BOMB_HEADERS; i++) {
        snprintf(bomb_names[i], sizeof bomb_names[i], "%c",
                 (int)(i < 26 ? 'a' + i : 'A' + i - 26));
        message.headers[i].name = slice_text(bomb_names[i]);
    }
    for (size_t i = 0; i < FILTER_TERMS_MAX; i++) {
        len +=
            (size_t)snprintf(text + len, sizeof text - len, "%s%s like'*aab*'",
                             i == 0 ? "" : "||", bomb_names[i % BOMB_HEADERS]);
    }
    cost = cost_of(text);
    cr_assert_geq(cost, (size_t)FILTER_TERMS_MAX * HEADER_VALUE_LEN_MAX);
    cr_assert_leq(cost, (size_t)FILTER_TERMS_MAX * (HEADER_VALUE_LEN_MAX + 8)
                            + BOMB_HEADERS * 2 * BOMB_HEADERS);
    cr_assert_not(match(text));
}

/* A header is looked for once, whoever asks for it how often. */
Test(filter, a_field_is_looked_for_once)
{
    char text[FILTER_LEN_MAX] = "";
    size_t once;
    size_t often;

    a_heavy_message('a');
    snprintf(text, sizeof text, "h'%s'!='x'", bomb_names[31]);
    once = cost_of(text);
    snprintf(text, sizeof text, "h'%s'not in(1,1,1,1,1,1,1,1,1,1)",
             bomb_names[31]);
    often = cost_of(text);
    cr_assert_gt(once, 31U * HEADER_NAME_LEN_MAX);
    cr_assert_lt(often - once, 10U * (HEADER_VALUE_LEN_MAX + 1));
}

/* ---- against another evaluator ---- */

static uint64_t rng;

static unsigned pick(unsigned count)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)((rng >> 11) % count);
}

/* Values of which is known what they are. `like` patterns are of these too,
 * where a 1 is a star that is meant. */
static const struct value {
    const char *text;
    bool number;
    int thousandths;
} values[] = {
    { "eu", false, 0 },         { "eu-west", false, 0 },
    { "", false, 0 },           { "a*b", false, 0 },
    { "a\"b'c\\d", false, 0 },  { "100", true, 100000 },
    { "100.10", true, 100100 }, { "100.1", true, 100100 },
    { "-0.5", true, -500 },     { "-00.500", true, -500 },
    { "0", true, 0 },           { "-0", true, 0 },
    { "1e3", false, 0 },        { "9", true, 9000 },
    { "true", false, 0 },       { "1.", false, 0 },
};
static const char *const likes[] = { "eu*", "*", "*west", "e*-*t", "a\1b",
                                     "a*b", "",  "1*0",   "\1" };

enum { FIELDS = 6 };
static const char *const field_texts[FIELDS] = {
    "key", "tag", "a", "re.gion", "h\"x y\"", "h'or'"
};
static const char *const header_names[FIELDS] = { NULL,      NULL,  "a",
                                                  "re.gion", "x y", "or" };

enum node_kind {
    NODE_OR,
    NODE_AND,
    NODE_NOT,
    NODE_COMPARE,
    NODE_IN,
    NODE_LIKE,
    NODE_HAS
};

struct node {
    enum node_kind kind;
    const struct node *left, *right;
    unsigned field;
    unsigned op;          /* of ops[] */
    unsigned literals[4]; /* of values[], of likes[] */
    bool as_number[4];
    unsigned count;
    bool negated;
};

static struct node nodes[256];
static size_t node_count;
static const char *const ops[] = { "==", "!=", "<", "<=", ">", ">=" };

static const struct node *a_node(unsigned depth)
{
    struct node *n = &nodes[node_count++];

    *n = (struct node) { .kind = (enum node_kind)(depth == 0 ? 3 + pick(4)
                                                             : pick(7)),
                         .field = pick(FIELDS),
                         .op = pick(COUNT_OF(ops)),
                         .count = 1 + pick(4),
                         .negated = pick(2) == 0 };
    if (n->kind <= NODE_NOT) {
        n->left = a_node(depth - 1);
        n->right = n->kind == NODE_NOT ? NULL : a_node(depth - 1);
        return n;
    }
    for (unsigned i = 0; i < n->count; i++) {
        n->literals[i] =
            pick(n->kind == NODE_LIKE ? COUNT_OF(likes) : COUNT_OF(values));
        n->as_number[i] = n->kind != NODE_LIKE && values[n->literals[i]].number
                          && pick(2) == 0;
    }
    return n;
}

/* ---- as a text ---- */

static char expression[FILTER_LEN_MAX * 4];
static size_t expression_len;

static void put(const char *text)
{
    size_t len = strlen(text);

    cr_assert_lt(expression_len + len, sizeof expression);
    memcpy(expression + expression_len, text, len + 1);
    expression_len += len;
}

static void blank(void)
{
    put(pick(2) == 0 ? " " : "  ");
}

static void put_quoted(const char *text, bool like)
{
    char quote[2] = { pick(2) == 0 ? '"' : '\'', '\0' };

    put(quote);
    for (; *text != '\0'; text++) {
        char c[3] = { '\\', *text, '\0' };

        if (*text == '\1') {
            put("\\*");
        } else if (*text == quote[0] || *text == '\\'
                   || (*text == '*' && !like && pick(2) == 0)) {
            put(c);
        } else {
            put(c + 1);
        }
    }
    put(quote);
}

static void put_literal(const struct node *n, unsigned i)
{
    if (n->kind == NODE_LIKE) {
        put_quoted(likes[n->literals[i]], true);
    } else if (n->as_number[i]) {
        put(values[n->literals[i]].text);
    } else {
        put_quoted(values[n->literals[i]].text, false);
    }
}

static void put_node(const struct node *n, unsigned binding);

static void put_two(const struct node *n, const char *sign, const char *word,
                    unsigned binding)
{
    put_node(n->left, binding);
    blank();
    put(pick(2) == 0 ? sign : word);
    blank();
    put_node(n->right, binding);
}

static void put_test(const struct node *n)
{
    put(n->kind == NODE_HAS ? "has(" : "");
    put(field_texts[n->field]);
    blank();
    switch (n->kind) {
    case NODE_COMPARE:
        put(ops[n->op]);
        blank();
        put_literal(n, 0);
        break;
    case NODE_IN:
        put(n->negated ? "not in (" : "in(");
        for (unsigned i = 0; i < n->count; i++) {
            put(i == 0 ? "" : " ,");
            put_literal(n, i);
        }
        put(")");
        break;
    case NODE_LIKE:
        put(n->negated ? "NOT LIKE " : "like");
        put_literal(n, 0);
        break;
    case NODE_HAS:
        put(")");
        break;
    case NODE_OR:
    case NODE_AND:
    case NODE_NOT:
        break;
    }
}

/* In parentheses where its sign binds less than what is around it, and now and
 * then where it need not be. */
static void put_node(const struct node *n, unsigned binding)
{
    bool enclosed = (unsigned)n->kind < binding || pick(8) == 0;

    put(enclosed ? "(" : "");
    switch (n->kind) {
    case NODE_OR:
        put_two(n, "||", "or", NODE_OR);
        break;
    case NODE_AND:
        put_two(n, "&&", "AND", NODE_AND);
        break;
    case NODE_NOT:
        put(pick(2) == 0 ? "!" : "not ");
        put_node(n->left, NODE_NOT);
        break;
    case NODE_COMPARE:
    case NODE_IN:
    case NODE_LIKE:
    case NODE_HAS:
        put_test(n);
        break;
    }
    put(enclosed ? ")" : "");
}

/* ---- what it should be ---- */

/* How the other evaluator may go wrong, to see that the difference shows. */
enum plant {
    PLANT_NONE,
    PLANT_MISSING_IS_EMPTY,
    PLANT_NUMBERS_ARE_TEXTS,
    PLANT_AND_IS_OR,
    PLANT_LIKE_IS_EQUAL
};
static enum plant plant;
static int held[FIELDS]; /* of values[]; -1: missing */

static bool like(const char *text, const char *pattern)
{
    if (*pattern == '\0') {
        return *text == '\0';
    }
    if (*pattern == '*') {
        return like(text, pattern + 1)
               || (*text != '\0' && like(text + 1, pattern));
    }
    return *text == (*pattern == '\1' ? '*' : *pattern)
           && like(text + 1, pattern + 1);
}

static bool ordered(unsigned op, int order)
{
    const bool is[] = { order == 0, order != 0, order<0, order <= 0, order> 0,
                        order >= 0 };

    return is[op];
}

static bool compare(const struct node *n, unsigned i, unsigned op)
{
    const struct value *want = &values[n->literals[i]];
    const struct value *got;

    if (held[n->field] < 0 && plant != PLANT_MISSING_IS_EMPTY) {
        return op == 1;
    }
    got = &values[held[n->field] < 0 ? 2 : held[n->field]];
    if (!n->as_number[i] || plant == PLANT_NUMBERS_ARE_TEXTS) {
        return ordered(op, strcmp(got->text, want->text));
    }
    if (!got->number) {
        return op == 1;
    }
    return ordered(op, (got->thousandths > want->thousandths)
                           - (got->thousandths < want->thousandths));
}

static bool naive(const struct node *n)
{
    bool any = false;

    switch (n->kind) {
    case NODE_OR:
        return naive(n->left) || naive(n->right);
    case NODE_AND:
        return plant == PLANT_AND_IS_OR ? naive(n->left) || naive(n->right)
                                        : naive(n->left) && naive(n->right);
    case NODE_NOT:
        return !naive(n->left);
    case NODE_COMPARE:
        return compare(n, 0, n->op);
    case NODE_IN:
        for (unsigned i = 0; i < n->count; i++) {
            any = any || compare(n, i, 0);
        }
        return any != n->negated;
    case NODE_LIKE:
        any =
            held[n->field] >= 0
            && (plant == PLANT_LIKE_IS_EQUAL
                    ? strcmp(values[held[n->field]].text, likes[n->literals[0]])
                          == 0
                    : like(values[held[n->field]].text, likes[n->literals[0]]));
        return any != n->negated;
    case NODE_HAS:
        return held[n->field] >= 0;
    }
    return false;
}

/* A message with some of the fields; an empty key or tag is none. */
static void a_message(void)
{
    message = (struct wire_message) { 0 };
    for (unsigned i = 0; i < FIELDS; i++) {
        unsigned v = pick(COUNT_OF(values) + 3);
        bool missing =
            v >= COUNT_OF(values) || (i < 2 && values[v].text[0] == '\0');

        held[i] = missing ? -1 : (int)v;
        if (missing) {
            continue;
        }
        if (i == 0) {
            message.key = slice_text(values[v].text);
        } else if (i == 1) {
            message.tag = slice_text(values[v].text);
        } else {
            add_header(header_names[i], values[v].text);
        }
    }
}

/* One expression against some messages: does any come out differently? */
static bool differs(uint64_t seed)
{
    struct filter *filter = NULL;
    const struct node *root;
    bool found = false;

    rng = seed * 2654435761U + 88172645463325252U;
    node_count = expression_len = 0;
    root = a_node(4);
    put_node(root, 0);
    if (expression_len > FILTER_LEN_MAX) {
        return false;
    }
    cr_assert_eq(
        filter_compile(&filter, slice_of(expression, expression_len), &refusal),
        STATUS_OK, "seed %llu: %s: %s", (unsigned long long)seed, expression,
        refusal.text);
    for (int i = 0; i < 20 && !found; i++) {
        a_message();
        found = filter_match(filter, &message) != naive(root);
    }
    filter_free(filter);
    return found;
}

Test(filter, it_agrees_with_a_naive_evaluator)
{
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        cr_assert_not(differs(seed), "seed %llu: %s", (unsigned long long)seed,
                      expression);
    }
}

Test(filter, a_planted_difference_is_found)
{
    for (plant = PLANT_MISSING_IS_EMPTY; plant <= PLANT_LIKE_IS_EQUAL;
         plant++) {
        uint64_t seed = 1;

        while (seed <= 1000 && !differs(seed)) {
            seed++;
        }
        cr_assert_leq(seed, 1000, "plant %d", (int)plant);
    }
}
