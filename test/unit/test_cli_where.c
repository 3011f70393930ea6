/* links: godwit_tool godwit_proto */
#include "tools/godwit/args.h"
#include "tools/godwit/when.h"
#include "tools/godwit/where.h"

#include <criterion/criterion.h>
#include <string.h>

/* A place in a topic, and "-n", as they are said on the command line. */

TestSuite(where, .timeout = 10);

static struct where of(const char *text)
{
    struct where where = { .kind = WHERE_SEQ, .at = 77 };

    cr_assert(where_read("--from", text, &where), "%s", text);
    return where;
}

static void check_json(const char *text, const char *want)
{
    struct where where = of(text);
    struct json_writer w = { 0 };

    json_begin(&w, NULL, '{');
    where_put(&w, "to", &where);
    json_end(&w, '}');
    cr_assert_str_eq(json_done(&w), want);
    json_writer_fini(&w);
}

Test(where, each_kind_of_place)
{
    cr_assert_eq(of(NULL).kind, WHERE_NOT_SAID);
    cr_assert_eq(of("earliest").kind, WHERE_EARLIEST);
    cr_assert_eq(of("latest").kind, WHERE_LATEST);
    cr_assert_eq(of("1").kind, WHERE_SEQ);
    cr_assert_eq(of("18446744073709551615").at, UINT64_MAX);
    cr_assert_eq(of("2026").kind, WHERE_SEQ);
    cr_assert_eq(of("2026-11-20").kind, WHERE_TIME);
    cr_assert_eq(of("1970-01-01T00:00:01").at, 1000000);
}

Test(where, an_age_is_a_time)
{
    uint64_t before = wall_us();
    struct where where = of("2h");
    uint64_t hours = UINT64_C(2) * 3600 * 1000000;

    cr_assert_eq(where.kind, WHERE_TIME);
    cr_assert_geq(where.at, before - hours);
    cr_assert_leq(where.at, wall_us() - hours);
}

Test(where, what_is_no_place_is_refused)
{
    static const char *const table[] = {
        "",     "0",         "-1",         "first",
        "last", "Latest",    "latest ",    "18446744073709551616",
        "soon", "2h30m",     "2026-02-30", "1970-01-01",
        "1.5",  "999999999w"
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct where where;

        cr_assert_not(where_read("--from", table[i], &where), "%s", table[i]);
    }
}

Test(where, the_broker_is_told_as_it_reads_it)
{
    check_json(NULL, "{}");
    check_json("earliest", "{\"to\":\"earliest\"}");
    check_json("latest", "{\"to\":\"latest\"}");
    check_json("41", "{\"to\":{\"seq\":41}}");
    check_json("1970-01-01T00:00:01", "{\"to\":{\"time_us\":1000000}}");
}

/* ---- -n ---- */

static enum status parse(const struct arg *own, char *value)
{
    char command[] = "tail";
    char n[] = "-n";
    char *argv[] = { command, n, value, NULL };
    struct operands operands;
    struct error err;

    return args_parse(own, NULL, 3, argv, &operands, &err);
}

Test(where, n_is_short_for_count_where_there_is_one)
{
    uint64_t count = 0;
    char ten[] = "10";
    char many[] = "101";
    const struct arg with[] = {
        { "count", ARG_COUNT, &count, "N", "so many", 1, 100 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    const struct arg without[] = {
        { "number", ARG_COUNT, &count, "N", "so many", 1, 100 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };

    cr_assert_eq(parse(with, ten), STATUS_OK);
    cr_assert_eq(count, 10);
    cr_assert_eq(parse(with, many), STATUS_INVALID);
    cr_assert_eq(parse(without, ten), STATUS_INVALID);
}
