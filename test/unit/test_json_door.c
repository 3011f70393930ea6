/* links: godwit_door godwit_router godwit_storage godwit_proto */
/* with: test/lib/fake_session.c */
#include "broker/door/json.h"
#include "broker/door/json_read.h"
#include "proto/codec.h"
#include "test/lib/fake_session.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct session *session;

static void set_up(void)
{
    session = fake_session_new(&door_json);
}

static void tear_down(void)
{
    fake_session_free(session);
}

TestSuite(json_door, .init = set_up, .fini = tear_down, .timeout = 30);

/* In memory of exactly that length, for the address sanitizer. */
static void say(const char *text, size_t len)
{
    uint8_t *copy = malloc(len + 1);

    memcpy(copy, text, len);
    session->calls[0] = '\0';
    stream_json_message(session, copy, len);
    free(copy);
}

static void cr_calls(const char *text, const char *calls)
{
    say(text, strlen(text));
    cr_assert_str_eq(session->calls, calls, "%s\n  have %s\n  want %s", text,
                     session->calls, calls);
    cr_assert_null(fake_session_frame(session));
}

/* The refusal must hold all of the words. */
static void cr_refused(const char *text, const char *id, const char *count,
                       const char *word, const char *more)
{
    char want[64];
    const char *frame;

    say(text, strlen(text));
    cr_assert_str_eq(session->calls, "", "%s: %s", text, session->calls);
    frame = fake_session_frame(session);
    cr_assert_not_null(frame, "%s", text);
    snprintf(want, sizeof want,
             "{\"type\":\"refused\",\"id\":\"%s\",\"count\":\"%s\","
             "\"status\":\"%s\"",
             id, count, word);
    cr_assert_eq(strncmp(frame, want, strlen(want)), 0, "%s\n  %s", text,
                 frame);
    cr_assert_not_null(strstr(frame, more), "%s\n  %s", text, frame);
    cr_assert_null(fake_session_frame(session));
}

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

/* ---- requests ---- */

Test(json_door, takes_hello)
{
    cr_calls("{\"type\":\"hello\",\"id\":\"7\",\"app\":\"shop\","
             "\"secret\":\"s\",\"client\":\"page\",\"producer\":9}",
             "hello id=7 app=shop secret=s timestamp=0 nonce= signature=0 "
             "client=page producer=9\n");
    cr_calls("{\"type\":\"hello\",\"id\":8,\"app\":\"shop\","
             "\"timestamp_ms\":\"1790000000000\",\"nonce\":\"n\","
             "\"signature\":\"" HEX64 "\"}",
             "hello id=8 app=shop secret= timestamp=1790000000000 nonce=n "
             "signature=32 client= producer=0\n");
    cr_calls("{\"type\":\"hello\",\"producer\":\"18446744073709551615\"}",
             "hello id=0 app= secret= timestamp=0 nonce= signature=0 client= "
             "producer=18446744073709551615\n");
}

Test(json_door, takes_publish_in_its_three_ways)
{
    cr_calls("{\"type\":\"publish\",\"id\":\"2\",\"topic\":\"orders\","
             "\"producer_seq\":\"5\",\"messages\":["
             "{\"key\":\"k\",\"headers\":{\"a\":\"b\",\"c\":\"\"},"
             "\"body\":\"te\\u00e4xt\"},"
             "{\"body_base64\":\"QUJD\"},{\"body_base64\":\"\"},{},"
             "{\"json\":{\"any\":[ 1, 2.5,\"x\", true, null ]}}]}",
             "publish id=2 topic=orders seq=5 count=5 (k:a=b c= te\xc3\xa4xt) "
             "(ABC) () () ({\"any\":[1,2.5,\"x\",true,null]})\n");
}

Test(json_door, takes_the_options_of_messages)
{
    cr_calls("{\"type\":\"publish\",\"id\":\"2\",\"topic\":\"t\","
             "\"atomic\":true,\"messages\":["
             "{\"tag\":\"red\",\"id\":\"o-7\",\"delay_ms\":1500,"
             "\"ttl_ms\":\"60000\",\"body\":\"x\"},"
             "{\"deliver_at_ms\":\"1790000000000\"}]}",
             "publish id=2 topic=t seq=0 count=2 atomic "
             "(tag=red id=o-7 delay=1500 ttl=60000 x) (at=1790000000000 )\n");
    cr_calls("{\"type\":\"publish\",\"id\":\"2\",\"topic\":\"t\","
             "\"atomic\":false,\"messages\":[{\"ttl_ms\":0,\"tag\":\"\"}]}",
             "publish id=2 topic=t seq=0 count=1 ()\n");
}

static void cr_refused_option(const char *member, const char *more)
{
    char text[256];

    snprintf(text, sizeof text,
             "{\"type\":\"publish\",\"id\":\"2\",\"topic\":\"t\","
             "\"messages\":[{},{%s}]}",
             member);
    cr_refused(text, "2", "2", "invalid", more);
    cr_refused(text, "2", "2", "invalid", "messages[1]");
}

Test(json_door, refuses_options_of_a_wrong_type_by_name)
{
    cr_refused_option("\"tag\":5", "tag is not a string");
    cr_refused_option("\"id\":7", "id is not a string");
    cr_refused_option("\"delay_ms\":-1", "delay_ms is not a whole number");
    cr_refused_option("\"delay_ms\":1.5", "delay_ms is not a whole number");
    cr_refused_option("\"deliver_at_ms\":\"tomorrow\"",
                      "deliver_at_ms is not a whole number");
    cr_refused_option("\"ttl_ms\":\"18446744073709551616\"",
                      "ttl_ms is not a whole number");
    cr_refused("{\"type\":\"publish\",\"id\":\"2\",\"topic\":\"t\","
               "\"atomic\":1,\"messages\":[{},{}]}",
               "2", "2", "invalid", "atomic is not true or false");
}

Test(json_door, json_bodies_are_compact_and_exact)
{
    static const char *const same[] = {
        "0",
        "-1",
        "9007199254740993",
        "-9223372036854775808",
        "0.1",
        "1e100",
        "1.7976931348623157e+308",
        "5e-324",
        "\"\"",
        "\"\xc3\xa4\"",
        "\"a\\\"b\\\\c\\n\"",
        "[]",
        "{}",
        "[[],{}]",
        "{\"b\":1,\"a\":2}",
        "[1,-0.5]",
        "true",
        "false",
        "null",
        "\"\\u0001\"",
    };
    char text[512];
    char calls[512];

    for (size_t i = 0; i < COUNT_OF(same); i++) {
        snprintf(text, sizeof text,
                 "{\"type\":\"publish\",\"id\":\"1\",\"topic\":\"t\","
                 "\"messages\":[{\"json\": %s }]}",
                 same[i]);
        snprintf(calls, sizeof calls,
                 "publish id=1 topic=t seq=0 count=1 (%s)\n",
                 strcmp(same[i], "1e100") == 0 ? "1e+100" : same[i]);
        if (strcmp(same[i], "5e-324") == 0) {
            snprintf(calls, sizeof calls,
                     "publish id=1 topic=t seq=0 count=1 "
                     "(4.94065645841247e-324)\n");
        }
        cr_calls(text, calls);
    }
}

Test(json_door, takes_attach_detach_and_settle)
{
    cr_calls("{\"type\":\"attach\",\"id\":\"5\",\"group\":\"g\","
             "\"credit_messages\":\"100\",\"credit_bytes\":1000000}",
             "attach id=5 group=g messages=100 bytes=1000000\n");
    cr_calls("{\"type\":\"detach\",\"id\":\"6\"}", "detach id=6\n");
    cr_calls("{\"type\":\"settle\",\"id\":\"7\",\"topic\":\"t\","
             "\"action\":\"ack\",\"seqs\":[\"5\",7,8,\"9\",12,11]}",
             "settle id=7 group= topic=t action=1 delay=0 reason= lease=0 5-5 "
             "7-9 12-12 11-11\n");
    cr_calls("{\"type\":\"settle\",\"id\":\"8\",\"topic\":\"t\","
             "\"action\":\"nack\",\"ranges\":[[\"1\",\"5\"],"
             "{\"first\":\"6\",\"last\":7},[9,9]],\"delay_ms\":\"20\","
             "\"reason\":\"no\"}",
             "settle id=8 group= topic=t action=2 delay=20 reason=no lease=0 "
             "1-7 9-9\n");
    cr_calls("{\"type\":\"settle\",\"id\":\"8\",\"topic\":\"t\","
             "\"action\":\"extend\",\"seqs\":[\"18446744073709551614\"]}",
             "settle id=8 group= topic=t action=4 delay=0 reason= lease=0 "
             "18446744073709551614-18446744073709551614\n");
    cr_calls("{\"type\":\"settle\",\"id\":\"9\",\"topic\":\"t\","
             "\"action\":\"reject\",\"seqs\":[5],\"reason\":\"bad date\"}",
             "settle id=9 group= topic=t action=5 delay=0 reason=bad date "
             "lease=0 5-5\n");
}

Test(json_door, answers_a_ping_itself)
{
    say("{\"type\":\"ping\",\"id\":\"3\"}", 24);
    cr_assert_str_eq(fake_session_frame(session),
                     "{\"type\":\"pong\",\"id\":\"3\"}");
}

Test(json_door, refuses_what_is_no_request)
{
    static const struct {
        const char *text, *id, *word, *more;
    } table[] = {
        { "", "0", "invalid", "not valid JSON" },
        { "{", "0", "invalid", "not valid JSON" },
        { "[]", "0", "invalid", "object" },
        { "\"x\"", "0", "invalid", "" },
        { "{}", "0", "invalid", "type" },
        { "{} {}", "0", "invalid", "not valid JSON" },
        { "{\"id\":\"4\"}", "4", "invalid", "type" },
        { "{\"id\":\"4\",\"type\":5}", "4", "invalid", "type" },
        { "{\"id\":\"4\",\"type\":\"dance\"}", "4", "unsupported", "dance" },
        { "{\"id\":-1,\"type\":\"ping\"}", "0", "invalid", "id" },
        { "{\"id\":1.5,\"type\":\"ping\"}", "0", "invalid", "id" },
        { "{\"id\":\"1x\",\"type\":\"ping\"}", "0", "invalid", "id" },
        { "{\"id\":\"\",\"type\":\"ping\"}", "0", "invalid", "id" },
        { "{\"id\":\"18446744073709551616\",\"type\":\"ping\"}", "0", "invalid",
          "id" },
        { "{\"id\":\"4\",\"type\":\"ping\",\"id\":\"5\"}", "0", "invalid",
          "duplicate" },
        { "{\"id\":\"4\",\"type\":\"ping\",\"colour\":1}", "4", "invalid",
          "colour" },
        { "{\"type\":\"ping\",\"id\":\"4\",\"x\":\"a\\u0000b\"}", "0",
          "invalid", "" },
        { "{\"type\":\"ping\",\"id\":\"4\",\"x\":\"\xff\"}", "0", "invalid",
          "" },
        { "{\"type\":\"attach\",\"id\":\"4\"}", "4", "invalid", "group" },
        { "{\"type\":\"attach\",\"id\":\"4\",\"group\":7}", "4", "invalid",
          "group" },
        { "{\"type\":\"attach\",\"id\":\"4\",\"group\":\"g\","
          "\"credit_bytes\":true}",
          "4", "invalid", "credit_bytes" },
        { "{\"type\":\"hello\",\"id\":\"4\",\"app\":\"a\","
          "\"signature\":\"abc\"}",
          "4", "invalid", "signature" },
        { "{\"type\":\"hello\",\"id\":\"4\",\"app\":\"a\","
          "\"signature\":\"" HEX64 "00\"}",
          "4", "invalid", "signature" },
        { "{\"type\":\"hello\",\"id\":\"4\",\"app\":\"a\",\"lease\":1}", "4",
          "invalid", "lease" },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        cr_refused(table[i].text, table[i].id, "1", table[i].word,
                   table[i].more);
    }
}

static void cr_refused_settle(const char *rest, const char *more)
{
    char text[256];

    snprintf(text, sizeof text, "{\"type\":\"settle\",\"id\":\"4\",%s}", rest);
    cr_refused(text, "4", "1", "invalid", more);
}

Test(json_door, refuses_settlements_of_nothing)
{
    cr_refused_settle("\"action\":\"ack\",\"seqs\":[1]", "topic");
    cr_refused_settle("\"topic\":\"t\",\"seqs\":[1]", "action");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"eat\",\"seqs\":[1]",
                      "action");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\"", "seqs or ranges");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\",\"seqs\":[]",
                      "seqs or ranges");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\",\"seqs\":5",
                      "seqs or ranges");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\",\"seqs\":[1],"
                      "\"ranges\":[[1,1]]",
                      "seqs or ranges");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\",\"seqs\":[0]",
                      "seqs");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\",\"ranges\":[[5,4]]",
                      "ranges");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\",\"ranges\":[[5]]",
                      "ranges");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\",\"ranges\":[5]",
                      "ranges");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\","
                      "\"ranges\":[{\"first\":1,\"last\":2,\"x\":3}]",
                      "ranges");
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\","
                      "\"seqs\":[\"18446744073709551615\"]",
                      "seqs");
    /* The lease is HTTP's. */
    cr_refused_settle("\"topic\":\"t\",\"action\":\"ack\",\"seqs\":[1],"
                      "\"lease\":1",
                      "lease");
}

/* A publish stands for as many ids as it has messages. */
Test(json_door, refuses_all_ids_of_a_malformed_publish)
{
    static const struct {
        const char *messages, *count, *more;
    } table[] = {
        { "[{},{\"bodi\":\"x\"}]", "2", "bodi" },
        { "[{},{},{\"body\":5}]", "3", "messages[2]" },
        { "[{\"body\":\"x\",\"json\":1}]", "1", "one of" },
        { "[{\"body_base64\":\"QUI\"}]", "1", "base64" },
        { "[{\"body_base64\":\"QUJ=\"}]", "1", "base64" },
        { "[{\"body_base64\":\"Q=JD\"}]", "1", "base64" },
        { "[{\"body_base64\":\"QU JD\"}]", "1", "base64" },
        { "[{\"body_base64\":\"QUJDRA==QUJD\"}]", "1", "base64" },
        { "[{\"headers\":[]}]", "1", "headers" },
        { "[{\"headers\":{\"a\":1}}]", "1", "headers" },
        { "[{\"key\":1}]", "1", "key" },
        { "[5]", "1", "object" },
        { "[]", "1", "messages" },
        { "{}", "1", "messages" },
        { "5", "1", "messages" },
    };
    char text[256];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(text, sizeof text,
                 "{\"type\":\"publish\",\"id\":\"4\",\"topic\":\"t\","
                 "\"messages\":%s}",
                 table[i].messages);
        cr_refused(text, "4", table[i].count, "invalid", table[i].more);
    }
    cr_refused("{\"type\":\"publish\",\"id\":\"4\",\"topic\":\"t\"}", "4", "1",
               "invalid", "messages");
    cr_refused("{\"type\":\"publish\",\"id\":\"4\",\"messages\":[{},{}]}", "4",
               "2", "invalid", "topic");
}

/* ---- bounds ---- */

/* {"type":"publish",..,"messages":[ITEM,ITEM,..]} */
static char *publish_of(const char *item, size_t count)
{
    static const char head[] = "{\"type\":\"publish\",\"id\":\"1\","
                               "\"topic\":\"t\",\"messages\":[";
    size_t len = strlen(item);
    char *text = malloc(sizeof head + count * (len + 1) + 8);
    size_t at = sizeof head - 1;

    memcpy(text, head, at);
    for (size_t i = 0; i < count; i++) {
        memcpy(text + at, item, len);
        text[at + len] = ',';
        at += len + 1;
    }
    memcpy(text + at - 1, "]}", 3);
    return text;
}

Test(json_door, messages_of_a_publish_are_bounded)
{
    char *text = publish_of("{}", PUBLISH_COUNT_MAX);

    say(text, strlen(text));
    cr_assert_not_null(strstr(session->calls, "count=10000"));
    free(text);
    text = publish_of("{}", PUBLISH_COUNT_MAX + 1);
    cr_refused(text, "1", "10001", "too_large",
               "\"used\":\"10001\",\"allowed\":\"10000\"");
    free(text);
}

static char *nested(size_t depth)
{
    char *value = malloc(2 * depth + 16);
    char *text;
    size_t at = 0;

    at += (size_t)sprintf(value, "{\"json\":");
    memset(value + at, '[', depth);
    memset(value + at + depth, ']', depth);
    memcpy(value + at + 2 * depth, "}", 2);
    text = publish_of(value, 1);
    free(value);
    return text;
}

/* An object, an array and an object stand around the value. */
Test(json_door, nesting_is_bounded)
{
    char *text = nested(JSON_DEPTH_MAX - 3);

    say(text, strlen(text));
    cr_assert_not_null(strstr(session->calls, "([[[[[[[[[[[[[]]]]]]]]]]]]])"));
    free(text);
    text = nested(JSON_DEPTH_MAX - 2);
    cr_refused(text, "0", "1", "too_large",
               "\"limit\":\"json_depth\",\"used\":\"17\",\"allowed\":\"16\"");
    free(text);
    text = nested(1000000);
    cr_refused(text, "0", "1", "too_large", "json_depth");
    free(text);
}

Test(json_door, brackets_in_strings_do_not_nest)
{
    cr_calls("{\"type\":\"publish\",\"id\":\"1\",\"topic\":\"t\",\"messages\":"
             "[{\"body\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[\\\\\"}]}",
             "publish id=1 topic=t seq=0 count=1 "
             "([[[[[[[[[[[[[[[[[[[[\"[[[[\\)\n");
}

Test(json_door, values_are_bounded)
{
    size_t len = 2 * JSON_VALUE_COUNT_MAX + 64;
    char *text = malloc(len);
    size_t at = (size_t)sprintf(text, "{\"type\":\"ping\",\"x\":[");

    for (size_t i = 0; i < JSON_VALUE_COUNT_MAX; i++) {
        text[at++] = '1';
        text[at++] = ',';
    }
    memcpy(text + at - 1, "]}", 3);
    cr_refused(text, "0", "1", "too_large", "json_values");
    free(text);
}

Test(json_door, ranges_are_bounded)
{
    char *text = malloc(64 * 1024);
    size_t at = (size_t)sprintf(text, "{\"type\":\"settle\",\"id\":\"1\","
                                      "\"topic\":\"t\",\"action\":\"ack\","
                                      "\"seqs\":[1");
    size_t end;

    for (size_t i = 1; i < RANGE_COUNT_MAX; i++) {
        at += (size_t)sprintf(text + at, ",%zu", 2 * i + 1);
    }
    end = at;
    memcpy(text + end, "]}", 3);
    say(text, strlen(text));
    cr_assert_eq(strncmp(session->calls, "settle", 6), 0);
    /* The last one once more is not one of its own; the one after is. */
    sprintf(text + end, ",%d]}", 2 * RANGE_COUNT_MAX);
    say(text, strlen(text));
    cr_assert_eq(strncmp(session->calls, "settle", 6), 0);
    sprintf(text + end, ",%d]}", 2 * RANGE_COUNT_MAX + 1);
    cr_refused(text, "1", "1", "too_large",
               "\"used\":\"1025\",\"allowed\":\"1024\"");
    free(text);
}

Test(json_door, headers_of_a_message_are_bounded)
{
    char item[1024];

    for (int count = HEADER_COUNT_MAX; count <= HEADER_COUNT_MAX + 1; count++) {
        size_t at = (size_t)sprintf(item, "{\"headers\":{");
        char *text;

        for (int i = 0; i < count; i++) {
            at += (size_t)sprintf(item + at, "%s\"h%d\":\"\"",
                                  i == 0 ? "" : ",", i);
        }
        sprintf(item + at, "}}");
        text = publish_of(item, 1);
        if (count == HEADER_COUNT_MAX) {
            say(text, strlen(text));
            cr_assert_not_null(strstr(session->calls, "h31="));
        } else {
            cr_refused(text, "1", "1", "too_large",
                       "\"used\":\"33\",\"allowed\":\"32\"");
        }
        free(text);
    }
}

Test(json_door, fields_are_bounded)
{
    static const struct {
        const char *key;
        size_t len_max;
    } table[] = { { "app", NAME_LEN_MAX },
                  { "secret", SECRET_LEN_MAX },
                  { "nonce", NONCE_LEN_MAX },
                  { "client", CLIENT_LEN_MAX } };
    char text[1024];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        for (size_t len = table[i].len_max; len <= table[i].len_max + 1;
             len++) {
            size_t at = (size_t)sprintf(
                text, "{\"type\":\"hello\",\"id\":\"1\",\"%s\":\"",
                table[i].key);

            memset(text + at, 'x', len);
            memcpy(text + at + len, "\"}", 3);
            if (len == table[i].len_max) {
                say(text, strlen(text));
                cr_assert_eq(strncmp(session->calls, "hello", 5), 0, "%s",
                             table[i].key);
            } else {
                cr_refused(text, "1", "1", "too_large", table[i].key);
            }
        }
    }
}

Test(json_door, strangers_send_small_frames)
{
    size_t len = HELLO_LEN_MAX;
    char *text = malloc(len + 2);

    session->app = NULL;
    memset(text, ' ', len);
    memcpy(text, "{\"type\":\"hello\"}", 16);
    say(text, len);
    cr_assert_eq(strncmp(session->calls, "hello", 5), 0);
    text[len] = ' ';
    text[len + 1] = '\0';
    cr_refused(text, "0", "1", "unauthenticated", "hello_len");
    session->app = catalog_app(session->catalog, slice_text("admin"));
    say(text, len + 1);
    cr_assert_eq(strncmp(session->calls, "hello", 5), 0);
    free(text);
}

/* ---- replies ---- */

static void cr_frame(const char *want)
{
    const char *frame = fake_session_frame(session);

    cr_assert_not_null(frame);
    cr_assert_str_eq(frame, want, "have %s\nwant %s", frame, want);
    cr_assert_null(fake_session_frame(session));
}

Test(json_door, writes_welcome_confirm_attached_and_detached)
{
    struct wire_welcome welcome = { .broker = slice_text("godwit/0.1"),
                                    .body_len_max = UINT64_MAX,
                                    .frame_len_max = 6 };
    struct wire_confirm confirm = { .id = 3, .count = 2, .seq = 41 };
    struct wire_attached attached = { slice_text("g"), 30000, 12 };

    door_json.welcome(session, 1, &welcome);
    cr_frame("{\"type\":\"welcome\",\"id\":\"1\",\"broker\":\"godwit/0.1\","
             "\"body_len_max\":\"18446744073709551615\","
             "\"frame_len_max\":\"6\"}");
    door_json.confirm(session, &confirm);
    cr_frame("{\"type\":\"confirm\",\"id\":\"3\",\"count\":\"2\","
             "\"seq\":\"41\"}");
    confirm.duplicate = true;
    door_json.confirm(session, &confirm);
    cr_frame("{\"type\":\"confirm\",\"id\":\"3\",\"count\":\"2\","
             "\"seq\":\"41\",\"duplicate\":true}");
    confirm = (struct wire_confirm) { 3, 2, 41, false, 12, 64, 0xc0ffee };
    door_json.confirm(session, &confirm);
    cr_frame("{\"type\":\"confirm\",\"id\":\"3\",\"count\":\"2\","
             "\"seq\":\"41\","
             "\"receipt\":\"41:2:12:64:0000000000c0ffee\"}");
    confirm = (struct wire_confirm) { 1,          UINT64_MAX, UINT64_MAX, false,
                                      UINT32_MAX, UINT32_MAX, UINT64_MAX };
    door_json.confirm(session, &confirm);
    cr_frame("{\"type\":\"confirm\",\"id\":\"1\","
             "\"count\":\"18446744073709551615\","
             "\"seq\":\"18446744073709551615\","
             "\"receipt\":\"18446744073709551615:18446744073709551615:"
             "4294967295:4294967295:ffffffffffffffff\"}");
    door_json.attached(session, 4, &attached);
    cr_frame("{\"type\":\"attached\",\"id\":\"4\",\"group\":\"g\","
             "\"lease_ms\":\"30000\",\"lease\":\"12\"}");
    door_json.detached(session, 5, "group deleted");
    cr_frame("{\"type\":\"detached\",\"id\":\"5\","
             "\"reason\":\"group deleted\"}");
    door_json.gap(session, "t", (struct seq_range) { 3, 4 });
    cr_frame("{\"type\":\"gap\",\"topic\":\"t\",\"first\":\"3\","
             "\"last\":\"4\"}");
}

Test(json_door, writes_outcomes)
{
    struct wire_settled_range ranges[] = { { 5, 5, OUTCOME_ACCEPTED, 0 },
                                           { 7, 8, OUTCOME_LATE, 14 },
                                           { 9, 9, OUTCOME_UNKNOWN, 0 } };

    door_json.settled(session, 6, slice_text("t"), ranges, 3);
    cr_frame("{\"type\":\"settled\",\"id\":\"6\",\"topic\":\"t\",\"ranges\":["
             "{\"first\":\"5\",\"last\":\"5\",\"outcome\":\"accepted\"},"
             "{\"first\":\"7\",\"last\":\"8\",\"outcome\":\"late\","
             "\"holder\":\"14\"},"
             "{\"first\":\"9\",\"last\":\"9\",\"outcome\":\"unknown\"}]}");
}

Test(json_door, writes_refusals_with_all_they_know)
{
    struct refusal refusal;

    (void)refuse(&refusal, STATUS_AGAIN, "rate", "too \"fast\"\xff");
    snprintf(refusal.scope, sizeof refusal.scope, "app shop");
    refusal.used = 5;
    refusal.allowed = 4;
    refusal.retry_after_ms = 1500;
    door_json.refused(session, 3, 9, &refusal);
    cr_frame("{\"type\":\"refused\",\"id\":\"3\",\"count\":\"9\","
             "\"status\":\"again\",\"limit\":\"rate\",\"scope\":\"app shop\","
             "\"used\":\"5\",\"allowed\":\"4\",\"retry_after_ms\":\"1500\","
             "\"text\":\"too \\\"fast\\\"?\"}");
}

static void encode(struct bytes *to, const char *key, struct slice body)
{
    struct wire_message message = { .key = slice_text(key), .body = body };

    if (key[0] != '\0') {
        message.header_count = 1;
        message.headers[0].name = slice_text("na\"me");
        message.headers[0].value = slice_text("value\n");
    }
    cr_assert_eq(codec_message_write(to, &message), STATUS_OK);
}

Test(json_door, delivers_text_as_text_and_the_rest_as_base64)
{
    static const struct {
        const char *body;
        size_t len;
        const char *want;
    } table[] = {
        { "", 0, "\"body\":\"\"" },
        { "a\"\\\x01\x7f\t", 6, "\"body\":\"a\\\"\\\\\\u0001\\u007f\\t\"" },
        { "\xe2\x82\xac", 3, "\"body\":\"\xe2\x82\xac\"" },
        { "a\0b", 3, "\"body_base64\":\"YQBi\"" },
        { "\xff", 1, "\"body_base64\":\"/w==\"" },
        { "\xff\xfe", 2, "\"body_base64\":\"//4=\"" },
        { "\xed\xa0\x80", 3, "\"body_base64\":\"7aCA\"" },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct bytes encoded = { 0 };
        struct wire_delivery delivery = { 41, 2, 1790000000123456, { 0 } };
        char want[256];

        encode(&encoded, "", slice_of(table[i].body, table[i].len));
        delivery.message = slice_of(encoded.at, bytes_len(&encoded));
        door_json.deliver(session, "t", &delivery, 1);
        snprintf(want, sizeof want,
                 "{\"type\":\"deliver\",\"topic\":\"t\",\"deliveries\":["
                 "{\"seq\":\"41\",\"attempt\":2,"
                 "\"time_us\":\"1790000000123456\",%s}]}",
                 table[i].want);
        cr_frame(want);
        bytes_fini(&encoded);
    }
}

Test(json_door, delivers_keys_and_headers)
{
    struct bytes encoded = { 0 };
    struct wire_delivery delivery = { 1, 1, 2, { 0 } };

    encode(&encoded, "k", slice_text("b"));
    delivery.message = slice_of(encoded.at, bytes_len(&encoded));
    door_json.deliver(session, "t", &delivery, 1);
    cr_frame("{\"type\":\"deliver\",\"topic\":\"t\",\"deliveries\":["
             "{\"seq\":\"1\",\"attempt\":1,\"time_us\":\"2\",\"key\":\"k\","
             "\"headers\":{\"na\\\"me\":\"value\\n\"},\"body\":\"b\"}]}");
    bytes_fini(&encoded);
}

Test(json_door, delivers_options_as_they_were_said)
{
    struct bytes encoded = { 0 };
    struct wire_delivery delivery = { 1, 1, 2, { 0 } };
    struct wire_message message = { .tag = slice_text("r\"ed"),
                                    .id = slice_text("o-7"),
                                    .delay_ms = 5,
                                    .deliver_at_ms = 6,
                                    .ttl_ms = PUBLISH_DELAY_MS_MAX };

    cr_assert_eq(codec_message_write(&encoded, &message), STATUS_OK);
    delivery.message = slice_of(encoded.at, bytes_len(&encoded));
    door_json.deliver(session, "t", &delivery, 1);
    cr_frame("{\"type\":\"deliver\",\"topic\":\"t\",\"deliveries\":["
             "{\"seq\":\"1\",\"attempt\":1,\"time_us\":\"2\","
             "\"tag\":\"r\\\"ed\",\"id\":\"o-7\",\"delay_ms\":\"5\","
             "\"deliver_at_ms\":\"6\",\"ttl_ms\":\"31622400000\","
             "\"body\":\"\"}]}");
    bytes_fini(&encoded);
}

Test(json_door, tells_that_leases_end)
{
    const struct wire_notice notice = { slice_text("t"), { 5, 7 }, 1200 };

    door_json.notice(session, &notice);
    cr_frame("{\"type\":\"notice\",\"topic\":\"t\",\"first\":\"5\","
             "\"last\":\"7\",\"ends_in_ms\":\"1200\"}");
}

Test(json_door, large_deliveries_come_in_several_frames)
{
    enum { COUNT = 10, LEN = 100000 };
    static uint8_t body[LEN];
    struct wire_delivery deliveries[COUNT];
    struct bytes encoded = { 0 };
    size_t seen = 0;
    size_t frames = 0;
    const char *frame;

    memset(body, 'x', sizeof body);
    encode(&encoded, "", slice_of(body, sizeof body));
    for (size_t i = 0; i < COUNT; i++) {
        deliveries[i] = (struct wire_delivery) {
            i + 1, 1, 1, slice_of(encoded.at, bytes_len(&encoded))
        };
    }
    door_json.deliver(session, "t", deliveries, COUNT);
    while ((frame = fake_session_frame(session)) != NULL) {
        cr_assert_lt(strlen(frame), 512 * 1024);
        frames++;
        for (const char *at = frame; (at = strstr(at, "\"seq\":")) != NULL;
             at++) {
            char want[32];

            snprintf(want, sizeof want, "\"seq\":\"%zu\"", ++seen);
            cr_assert_eq(strncmp(at, want, strlen(want)), 0);
        }
    }
    cr_assert_eq(seen, COUNT);
    cr_assert_gt(frames, 1);
    bytes_fini(&encoded);
}

/* ---- base64, all lengths ---- */

Test(json_door, base64_round_trips)
{
    uint8_t from[260];

    for (size_t i = 0; i < sizeof from; i++) {
        from[i] = (uint8_t)(i * 37);
    }
    for (size_t len = 0; len <= sizeof from; len++) {
        struct bytes text = { 0 };
        struct bytes back = { 0 };
        struct json json = json_to(&text);

        json_base64(&json, NULL, slice_of(from, len));
        cr_assert_eq(json.status, STATUS_OK);
        cr_assert_eq(bytes_len(&text), 2 + (len + 2) / 3 * 4);
        cr_assert_eq(
            base64_decode(&back, slice_of(text.at + 1, bytes_len(&text) - 2)),
            STATUS_OK);
        cr_assert_eq(bytes_len(&back), len);
        cr_assert(len == 0 || memcmp(back.at, from, len) == 0);
        bytes_fini(&text);
        bytes_fini(&back);
    }
}
