/* links: godwit_tool godwit_proto */
#include "tools/godwit/human.h"
#include "tools/godwit/message.h"
#include "tools/godwit/query.h"
#include "tools/godwit/when.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* What peek, search and tail ask and print, away from any broker. */

TestSuite(message, .timeout = 10);

static const struct message_style bare = { 0 };
static const struct message_style as_json = { .json = true };

static struct json *parse(const char *text)
{
    struct json *document;
    struct error err = { 0 };

    cr_assert_eq(json_parse(slice_text(text), &document, &err), STATUS_OK, "%s",
                 err.text);
    return document;
}

typedef enum status (*show_fn)(struct bytes *to, const struct json *message,
                               const struct message_style *style);

/* The text, good until the next call. */
static const char *shown(show_fn show, const char *message,
                         const struct message_style *style)
{
    static char text[4096];
    struct bytes to = { 0 };
    struct json *document = parse(message);

    cr_assert_eq(show(&to, document, style), STATUS_OK);
    cr_assert_eq(bytes_append(&to, "", 1), STATUS_OK);
    snprintf(text, sizeof text, "%s", bytes_begin(&to));
    bytes_fini(&to);
    json_free(document);
    return text;
}

#define MESSAGE                                                                \
    "{\"topic\":\"t\",\"seq\":\"7\",\"time_us\":\"1510000000000001\","

Test(message, a_line_has_all_of_it)
{
    cr_assert_str_eq(shown(message_line,
                           MESSAGE "\"key\":\"k\",\"tag\":\"g\",\"id\":\"i\","
                                   "\"headers\":{\"a\":\"1\",\"b\":\"2\"},"
                                   "\"body\":\"hello\"}",
                           &bare),
                     "     7  2017-11-06T20:26:40.000Z  "
                     "key=k tag=g id=i a=1 b=2  hello\n");
    cr_assert_str_eq(shown(message_line, MESSAGE "\"body\":\"hello\"}", &bare),
                     "     7  2017-11-06T20:26:40.000Z  hello\n");
    cr_assert_str_eq(shown(message_line, MESSAGE "\"body\":\"\"}", &bare),
                     "     7  2017-11-06T20:26:40.000Z  (empty)\n");
    cr_assert_str_eq(
        shown(message_line, MESSAGE "\"body_base64\":\"AAH/\"}", &bare),
        "     7  2017-11-06T20:26:40.000Z  (3 B, base64) AAH/\n");
}

Test(message, nothing_in_it_moves_the_cursor)
{
    const char *line =
        shown(message_line,
              MESSAGE "\"key\":\"\\u001b]0;x\\u0007\","
                      "\"headers\":{\"a\\r\":\"b\\u009bc\"},"
                      "\"body\":\"1\\n2\\u001b[2J\\u007f\\u00e4\"}",
              &bare);

    cr_assert_str_eq(line, "     7  2017-11-06T20:26:40.000Z  "
                           "key=\\x1b]0;x\\a a\\r=b\\u009bc  "
                           "1\\n2\\x1b[2J\\x7f\xc3\xa4\n");
}

Test(message, a_long_body_is_cut_at_a_character)
{
    const struct message_style five = { .body_max = 5 };

    cr_assert_str_eq(shown(message_line, MESSAGE "\"body\":\"12345\"}", &five),
                     "     7  2017-11-06T20:26:40.000Z  12345\n");
    cr_assert_str_eq(
        shown(message_line, MESSAGE "\"body\":\"1234\\u00e46\"}", &five),
        "     7  2017-11-06T20:26:40.000Z  1234\xc3\xa4… (7 B)\n");
}

Test(message, json_is_as_of_other_commands)
{
    cr_assert_str_eq(
        shown(message_line,
              MESSAGE "\"key\":\"k\",\"delay_ms\":\"5\",\"ttl_ms\":\"6\","
                      "\"headers\":{\"a\":\"1\"},\"body\":\"x\\ny\"}",
              &as_json),
        "{\"topic\":\"t\",\"seq\":7,\"time\":\"2017-11-06T20:26:40.000001Z\","
        "\"key\":\"k\",\"delay_ms\":5,\"ttl_ms\":6,\"headers\":{\"a\":\"1\"},"
        "\"body\":\"x\\ny\"}\n");
}

Test(message, what_is_lost_is_shown)
{
    static const char one[] =
        "{\"topic\":\"t\",\"first\":\"7\",\"last\":\"7\"}";
    static const char two[] =
        "{\"topic\":\"t\",\"first\":\"7\",\"last\":\"8\"}";

    cr_assert_str_eq(shown(message_gap, one, &bare),
                     "     7  lost: damaged on the broker's disk\n");
    cr_assert_str_eq(shown(message_gap, two, &bare),
                     "     7  to 8 lost: damaged on the broker's disk\n");
    cr_assert_str_eq(shown(message_gap, two, &as_json),
                     "{\"topic\":\"t\",\"first\":7,\"last\":8,\"gap\":true}\n");
}

static enum status card(struct bytes *to, const struct json *message,
                        const struct message_style *style)
{
    (void)style;
    return message_card(to, message, 1510000180000001);
}

Test(message, a_card_has_a_row_for_each)
{
    cr_assert_str_eq(shown(card,
                           MESSAGE "\"key\":\"k\",\"delay_ms\":\"60000\","
                                   "\"deliver_at_ms\":\"1510007380001\","
                                   "\"headers\":{\"a\":\"1\",\"b\":\"2\"},"
                                   "\"body\":\"x\\ny\\u001b\"}",
                           NULL),
                     "topic      t\n"
                     "seq        7\n"
                     "stored     2017-11-06T20:26:40.000001Z (3 min ago)\n"
                     "key        k\n"
                     "delay      1 min\n"
                     "deliver at 2017-11-06T22:29:40.001000Z (in 2 h)\n"
                     "headers    a = 1\n"
                     "           b = 2\n"
                     "body       4 B\n"
                     "\n"
                     "x\ny\\x1b\n");
}

static enum status body(struct bytes *to, const struct json *message,
                        const struct message_style *style)
{
    (void)style;
    return message_body(to, message);
}

Test(message, a_body_is_its_bytes)
{
    static const struct {
        const char *text;
        const char *bytes;
    } table[] = { { "", "" },
                  { "YQ==", "a" },
                  { "YWI=", "ab" },
                  { "YWJj", "abc" },
                  { "+/+/", "\xfb\xff\xbf" } };
    char message[128];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(message, sizeof message, "{\"body_base64\":\"%s\"}",
                 table[i].text);
        cr_assert_str_eq(shown(body, message, NULL), table[i].bytes);
    }
    cr_assert_str_eq(shown(body, "{\"body\":\"x\\u001b\"}", NULL), "x\x1b");
}

/* ---- what is asked ---- */

Test(message, queries_are_escaped)
{
    struct query q = { 0 };

    query_path(&q, "/v1/topics/%s/messages", "t");
    query_text(&q, "key", "a b&c=\xc3\xa4%+~");
    query_number(&q, "max", UINT64_MAX);
    cr_assert_str_eq(query_done(&q), "/v1/topics/t/messages"
                                     "?key=a%20b%26c%3D%C3%A4%25%2B~"
                                     "&max=18446744073709551615");
    query_fini(&q);
}

Test(message, times_as_people_say_them)
{
    static const uint64_t now_us = 1510000000000001;
    static const struct {
        const char *text;
        uint64_t us;
    } table[] = {
        { "now", now_us },
        { "90s", now_us - 90000000 },
        { "2h", now_us - UINT64_C(7200000000) },
        { "2017-11-06", UINT64_C(1509926400000000) },
        { "2017-11-06T20:26", UINT64_C(1509999960000000) },
        { "2017-11-06 20:26:40", UINT64_C(1510000000000000) },
        { "2017-11-06T20:26:40Z", UINT64_C(1510000000000000) },
        { "2017-11-06T20:26:40.5Z", UINT64_C(1510000000500000) },
        { "2017-11-06T20:26:40.000001", UINT64_C(1510000000000001) },
        { "1970-01-01", 0 },
        { "2016-02-29", UINT64_C(1456704000000000) },
    };
    static const char *const bad[] = {
        "",
        "yesterday",
        "-1h",
        "2017",
        "2017-11",
        "2017-13-01",
        "2017-02-29",
        "2017-11-06T",
        "2017-11-06T20",
        "2017-11-06T24:00",
        "2017-11-06T20:60",
        "2017-11-06T20:26:40.",
        "2017-11-06T20:26:40.1234567",
        "2017-11-06x",
        "1969-12-31",
        "99999999d",
    };
    uint64_t us;

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        cr_assert(when_parse(table[i].text, now_us, &us), "%s", table[i].text);
        cr_assert_eq(us, table[i].us, "%s: %lu", table[i].text,
                     (unsigned long)us);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cr_assert_not(when_parse(bad[i], now_us, &us), "%s", bad[i]);
    }
}

Test(message, about_how_long)
{
    static const struct {
        uint64_t us;
        const char *text;
    } table[] = { { 999, "0 ms" },
                  { 999999, "999 ms" },
                  { 1000000, "1 s" },
                  { 119999999, "119 s" },
                  { 120000000, "2 min" },
                  { UINT64_C(7199999999), "119 min" },
                  { UINT64_C(7200000000), "2 h" },
                  { UINT64_C(172799999999), "47 h" },
                  { UINT64_C(172800000000), "2 d" } };
    char text[HUMAN_LEN];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        cr_assert_str_eq(human_about(text, table[i].us), table[i].text);
    }
}
