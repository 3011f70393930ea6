/* links: godwit_tool godwit_proto */
#include "tools/godwit/human.h"
#include "tools/godwit/json.h"
#include "tools/godwit/outlet.h"
#include "tools/godwit/print.h"
#include "tools/godwit/table.h"

#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static char text[HUMAN_LEN];

TestSuite(output, .timeout = 10);

Test(output, counts_have_commas)
{
    cr_assert_str_eq(human_count(text, 0), "0");
    cr_assert_str_eq(human_count(text, 999), "999");
    cr_assert_str_eq(human_count(text, 1000), "1,000");
    cr_assert_str_eq(human_count(text, UINT64_MAX),
                     "18,446,744,073,709,551,615");
}

Test(output, durations_take_the_unit_that_fits)
{
    cr_assert_str_eq(human_duration(text, 0), "0 ns");
    cr_assert_str_eq(human_duration(text, 999), "999 ns");
    cr_assert_str_eq(human_duration(text, 1000), "1.00 µs");
    cr_assert_str_eq(human_duration(text, 271400), "271 µs");
    cr_assert_str_eq(human_duration(text, 9994999), "9.99 ms");
    cr_assert_str_eq(human_duration(text, 9995000), "10.0 ms");
    cr_assert_str_eq(human_duration(text, 999500000), "1.00 s");
    cr_assert_str_eq(human_duration(text, 90000000000), "90.0 s");
}

Test(output, sizes_and_times)
{
    cr_assert_str_eq(human_bytes(text, 1023), "1023 B");
    cr_assert_str_eq(human_bytes(text, 1536), "1.5 KiB");
    cr_assert_str_eq(human_age(text, 7 * 24 * 3600 * 1000), "7 d");
    cr_assert_str_eq(human_age(text, 36 * 3600 * 1000), "36 h");
    cr_assert_str_eq(human_age(text, 120 * 1000), "2 min");
    cr_assert_str_eq(human_age(text, 90 * 1000), "90 s");
    cr_assert_str_eq(human_age(text, 10), "10 ms");
    cr_assert_str_eq(human_age(text, 999), "999 ms");
    cr_assert_str_eq(human_age(text, 1000), "1 s");
    cr_assert_str_eq(human_age(text, 1001), "1.001 s");
    cr_assert_str_eq(human_age(text, 0), "0 s");
    cr_assert_str_eq(human_time(text, 1510000000000001),
                     "2017-11-06T20:26:40.000001Z");
    cr_assert_str_eq(plural(1, "ack", "acks"), "ack");
    cr_assert_str_eq(plural(0, "ack", "acks"), "acks");
}

/* ---- messages ---- */

static const struct godwit_text_header headers[] = { { "h", 1, "v\n", 2 } };

static struct godwit_delivery delivery(const void *body, size_t len)
{
    return (struct godwit_delivery) { .topic = "orders",
                                      .seq = 7,
                                      .attempt = 2,
                                      .time_us = 1510000000000001,
                                      .key = "k\"1xx",
                                      .key_len = 3,
                                      .body = body,
                                      .body_len = len };
}

static void expect_line(const struct godwit_delivery *d, bool json,
                        const char *want)
{
    struct bytes out = { 0 };

    cr_assert_eq(print_delivery(&out, d, json), STATUS_OK);
    cr_assert(slice_is(slice_of(bytes_begin(&out), bytes_len(&out)), want),
              "%.*s", (int)bytes_len(&out), (const char *)bytes_begin(&out));
    bytes_fini(&out);
}

Test(output, a_body_is_a_line)
{
    struct godwit_delivery d = delivery("a,\"b\"", 5);

    expect_line(&d, false, "a,\"b\"\n");
    d.body_len = 0;
    expect_line(&d, false, "\n");
}

Test(output, json_tells_all)
{
    struct godwit_delivery d = delivery("a\t\"b\"\\", 6);

    d.headers = headers;
    d.header_count = 1;
    expect_line(
        &d, true,
        "{\"topic\":\"orders\",\"seq\":7,\"attempt\":2,"
        "\"time\":\"2017-11-06T20:26:40.000001Z\",\"key\":\"k\\\"1\","
        "\"headers\":{\"h\":\"v\\n\"},\"body\":\"a\\u0009\\\"b\\\"\\\\\"}"
        "\n");
}

Test(output, what_is_no_text_is_base64)
{
    static const struct {
        const char *body;
        const char *base64;
    } cases[] = { { "\xFF", "/w==" },
                  { "\xFF\xFE", "//4=" },
                  { "\xFF\xFE\xFD", "//79" },
                  { "\xFF\xFE\xFD\xFC", "//79/A==" } };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct godwit_delivery d =
            delivery(cases[i].body, strlen(cases[i].body));
        char want[256];

        d.key_len = 0;
        snprintf(want, sizeof want,
                 "{\"topic\":\"orders\",\"seq\":7,\"attempt\":2,"
                 "\"time\":\"2017-11-06T20:26:40.000001Z\","
                 "\"body_base64\":\"%s\"}\n",
                 cases[i].base64);
        expect_line(&d, true, want);
    }
}

Test(output, an_outlet_merges_what_follows_and_writes_all)
{
    struct outlet o = { 0 };
    struct godwit_delivery d = delivery("x", 1);
    int fds[2];
    char got[16];

    cr_assert_eq(pipe(fds), 0);
    for (d.seq = 7; d.seq < 9; d.seq++) {
        cr_assert_eq(outlet_add(&o, &d, false), STATUS_OK);
    }
    d.topic = "other";
    cr_assert_eq(outlet_add(&o, &d, false), STATUS_OK);
    d.seq = 11;
    cr_assert_eq(outlet_add(&o, &d, false), STATUS_OK);
    cr_assert_eq(o.messages, 4);
    cr_assert_eq(o.range_count, 3);
    cr_assert_eq(o.ranges[0].first, 7);
    cr_assert_eq(o.ranges[0].last, 8);
    cr_assert_str_eq(o.ranges[1].topic, "other");
    cr_assert_eq(o.ranges[2].last, 11);
    cr_assert_eq(outlet_write(&o, fds[1]), STATUS_OK);
    cr_assert_eq(read(fds[0], got, sizeof got), 8);
    cr_assert_eq(memcmp(got, "x\nx\nx\nx\n", 8), 0);
    outlet_clear(&o);
    cr_assert_eq(o.range_count, 0);
    outlet_fini(&o);
}

Test(output, an_outlet_knows_when_nobody_reads)
{
    struct outlet o = { 0 };
    struct godwit_delivery d = delivery("x", 1);
    int fds[2];

    signal(SIGPIPE, SIG_IGN);
    cr_assert_eq(pipe(fds), 0);
    close(fds[0]);
    cr_assert_eq(outlet_add(&o, &d, true), STATUS_OK);
    cr_assert_eq(outlet_write(&o, fds[1]), STATUS_CLOSED);
    outlet_fini(&o);
}

/* ---- tables and JSON ---- */

Test(output, tables_line_up)
{
    static const struct column columns[] = { { "NAME", ALIGN_LEFT },
                                             { "N", ALIGN_RIGHT },
                                             { "WHAT", ALIGN_LEFT } };
    struct table *table = table_new(columns, COUNT_OF(columns));
    char shown[256] = "";
    FILE *out = fmemopen(shown, sizeof shown, "w");

    table_add(table, "a");
    table_add(table, "1,000");
    table_add(table, "x");
    table_add(table, "\xC3\xA4longer");
    table_add(table, "7");
    table_add(table, NULL);
    table_print(table, out);
    fclose(out);
    table_free(table);
    cr_assert_str_eq(shown, "NAME         N  WHAT\n"
                            "a        1,000  x\n"
                            "\xC3\xA4longer      7  -\n");
}

Test(output, json_is_read_back)
{
    static const char given[] =
        "{\"big\":\"18446744073709551615\",\"n\":12,\"neg\":-1,\"b\":true,"
        "\"list\":[\"a\",\"b.*\"],\"x\":\"12x\",\"none\":null}";
    struct json *doc = NULL;
    const struct json *value;
    struct error err;
    char *shown;

    cr_assert_eq(json_parse(slice_text(given), &doc, &err), STATUS_OK);
    cr_assert_eq(json_number(json_get(doc, "big"), 0), UINT64_MAX);
    cr_assert_eq(json_number(json_get(doc, "n"), 0), 12);
    cr_assert_eq(json_number(json_get(doc, "neg"), 5), 5);
    cr_assert_eq(json_number(json_get(doc, "x"), 5), 5);
    cr_assert_eq(json_number(json_get(doc, "absent"), 5), 5);
    cr_assert_eq(json_count(json_get(doc, "list")), 2);
    shown = json_display(json_get(doc, "list"));
    cr_assert_str_eq(shown, "a, b.*");
    free(shown);
    cr_assert_str_eq(json_member(doc, 1, &value), "n");
    cr_assert_null(json_member(doc, 7, &value));
    cr_assert_null(json_member(json_get(doc, "n"), 0, &value));
    json_free(doc);
    doc = NULL;
    cr_assert_eq(json_parse(slice_text("{\"a\":1,\"a\":2}"), &doc, &err),
                 STATUS_INVALID);
}

Test(output, json_is_written_with_its_commas)
{
    struct json_writer w = { 0 };

    json_begin(&w, NULL, '{');
    json_put_text(&w, "t", slice_text("x"));
    json_put_split(&w, "s", "a,b.*,,c");
    json_put_bool(&w, "b", false);
    json_begin(&w, "o", '{');
    json_put_real(&w, "r", 0.5);
    json_put_real(&w, "none", NAN);
    json_end(&w, '}');
    json_put_number(&w, "n", UINT64_MAX);
    json_end(&w, '}');
    cr_assert_str_eq(
        json_done(&w),
        "{\"t\":\"x\",\"s\":[\"a\",\"b.*\",\"c\"],\"b\":false,"
        "\"o\":{\"r\":0.5,\"none\":null},\"n\":18446744073709551615}");
    json_writer_fini(&w);
}
