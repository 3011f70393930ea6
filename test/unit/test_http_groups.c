/* links: godwit_door godwit_net godwit_router godwit_storage godwit_proto */
/* with: test/lib/fake_session.c */
#include "test/lib/http_bed.h"

TestSuite(http_groups, .init = set_up, .fini = tear_down, .timeout = 30);

#define ALL_OPTIONS                                                            \
    "\"mode\":\"ordered\",\"priority\":\"high\",\"lease_ms\":\"5000\","        \
    "\"max_attempts\":4,\"backoff_ms\":[100,\"200\",300],"                     \
    "\"max_in_flight\":1000,\"notice_ms\":\"900\",\"paused\":true,"            \
    "\"filter\":\"region == \\\"eu\\\"\""
#define ALL_NOTED                                                              \
    " mode=2 priority=3 lease=5000 attempts=4 backoff=3,100,200,300 "          \
    "in_flight=1000 notice=900 paused=1 filter=region == \"eu\"\n"

static void changed(enum catalog_op op, const char *name)
{
    struct catalog_request request = { .op = op, .class = CATALOG_GROUP };
    struct change_done done = { 1, &request, "" };

    snprintf(request.name, sizeof request.name, "%s", name);
    session->door->changed(session, &done);
}

Test(http_groups, a_group_is_made_with_all_options)
{
    ask("POST /v1/groups", "{\"name\":\"g\",\"topics\":\"a\"," ALL_OPTIONS "}");
    cr_calls(
        "change id=1 op=1 class=3 app=1 name=g topics=a, from=1" ALL_NOTED);
    changed(CATALOG_CREATE, "g");
    cr_answer(201, "{\"name\":\"g\"}");
}

Test(http_groups, a_group_is_changed_in_what_is_said)
{
    ask("PATCH /v1/groups/billing", "{" ALL_OPTIONS "}");
    cr_calls("change id=1 op=3 class=3 app=1 name=billing" ALL_NOTED);
    changed(CATALOG_UPDATE, "billing");
    cr_answer(200, "{\"name\":\"billing\"}");
    ask("PATCH /v1/groups/billing", "{}");
    cr_calls("change id=1 op=3 class=3 app=1 name=billing\n");
    ask("PATCH /v1/groups/billing", "{\"lease_ms\":0,\"backoff_ms\":[]}");
    cr_calls("change id=1 op=3 class=3 app=1 name=billing lease=0 backoff=0\n");
    ask("PATCH /v1/groups/billing", "{\"filter\":\"\"}");
    cr_calls("change id=1 op=3 class=3 app=1 name=billing filter=-\n");
    ask("PATCH /v1/groups/billing", "{\"filter\":null}");
    cr_calls("change id=1 op=3 class=3 app=1 name=billing filter=-\n");
}

Test(http_groups, a_group_is_paused_and_resumed)
{
    ask("POST /v1/groups/billing/pause", "");
    cr_calls("change id=1 op=3 class=3 app=1 name=billing paused=1\n");
    changed(CATALOG_UPDATE, "billing");
    cr_answer(200, "{\"name\":\"billing\"}");
    ask("POST /v1/groups/billing/resume", "");
    cr_calls("change id=1 op=3 class=3 app=1 name=billing paused=0\n");
    refuse_now(STATUS_FORBIDDEN, "owner", 1);
    cr_refused(403, "forbidden", "owner");
    ask("GET /v1/groups/billing/pause", "");
    cr_assert_eq(session->code, 405);
}

Test(http_groups, a_group_begins_where_it_is_told)
{
    static const struct {
        const char *from, *noted;
    } table[] = {
        { "\"earliest\"", "from=1" },
        { "\"latest\"", "from=2" },
        { "{\"seq\":\"12\"}", "from=3 at=12" },
        { "{\"seq\":12}", "from=3 at=12" },
        { "{\"time_us\":\"1700000000000000\"}", "from=4 at=1700000000000000" },
        { "{\"time_us\":0}", "from=4" },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        char text[128];
        char want[128];

        snprintf(text, sizeof text, "{\"name\":\"g\",\"from\":%s}",
                 table[i].from);
        snprintf(want, sizeof want,
                 "change id=1 op=1 class=3 app=1 name=g topics= %s\n",
                 table[i].noted);
        ask("POST /v1/groups", text);
        cr_calls(want);
    }
}

Test(http_groups, malformed_options_are_refused_by_name)
{
    static const struct {
        const char *options, *more;
    } table[] = {
        { "\"mode\":\"fifo\"", "shared, ordered or exclusive" },
        { "\"mode\":1", "mode" },
        { "\"priority\":\"urgent\"", "low, normal or high" },
        { "\"lease_ms\":\"soon\"", "lease_ms" },
        { "\"max_attempts\":-1", "max_attempts" },
        { "\"max_attempts\":4294967296", "\"used\":\"4294967296\"" },
        { "\"backoff_ms\":1000", "backoff_ms" },
        { "\"backoff_ms\":[\"a\"]", "backoff_ms" },
        { "\"backoff_ms\":[null]", "backoff_ms" },
        { "\"backoff_ms\":[1,[2]]", "backoff_ms" },
        { "\"backoff_ms\":[4294967296]", "\"used\":\"4294967296\"" },
        { "\"backoff_ms\":[4294967296,\"x\"]", "\"used\":\"4294967296\"" },
        { "\"max_in_flight\":1.5", "max_in_flight" },
        { "\"notice_ms\":[]", "notice_ms" },
        { "\"paused\":\"yes\"", "paused" },
        { "\"filter\":5", "filter" },
        { "\"attempts\":5", "attempts" },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        char text[160];

        snprintf(text, sizeof text, "{%s}", table[i].options);
        ask("PATCH /v1/groups/billing", text);
        cr_refused(400, "invalid", table[i].more);
        cr_calls("");
        snprintf(text, sizeof text, "{\"name\":\"g\",%s}", table[i].options);
        ask("POST /v1/groups", text);
        cr_refused(400, "invalid", table[i].more);
        cr_calls("");
    }
}

Test(http_groups, malformed_beginnings_are_refused)
{
    static const char *const table[] = { "\"now\"",
                                         "5",
                                         "null",
                                         "[]",
                                         "{}",
                                         "{\"seq\":\"1\",\"time_us\":\"1\"}",
                                         "true",
                                         "{\"at\":1}",
                                         "{\"seq\":\"x\"}",
                                         "{\"time_us\":-1}" };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        char text[128];

        snprintf(text, sizeof text, "{\"name\":\"g\",\"from\":%s}", table[i]);
        ask("POST /v1/groups", text);
        cr_assert_eq(session->code, 400, "%s", table[i]);
        cr_calls("");
    }
}

Test(http_groups, what_a_group_takes_stays)
{
    ask("PATCH /v1/groups/billing", "{\"topics\":[\"a\"]}");
    cr_refused(400, "invalid", "stays as it is");
    ask("PATCH /v1/groups/billing", "{\"from\":\"latest\"}");
    cr_refused(400, "invalid", "stays as it is");
    ask("PATCH /v1/groups/billing", "{\"name\":\"other\"}");
    cr_refused(400, "invalid", "name");
    cr_calls("");
}

Test(http_groups, all_options_are_shown)
{
    struct group_fact *group =
        catalog_group(session->catalog, slice_text("billing"));

    group->options.mode = MODE_EXCLUSIVE;
    group->options.priority = PRIORITY_LOW;
    group->options.attempts_max = 3;
    group->options.backoff_ms[0] = 1500;
    group->options.backoff_ms[1] = 60000;
    group->options.backoff_count = 2;
    group->options.in_flight_max = 17;
    group->options.notice_ms = 250;
    group->options.paused = true;
    group->options.filter = strdup("a == \"b\"");
    group->from = FROM_SEQ;
    group->from_at = 42;
    ask("GET /v1/groups", "");
    cr_answer(200, "{\"groups\":[{\"name\":\"billing\","
                   "\"topics\":[\"orders\"],\"from\":{\"seq\":\"42\"},"
                   "\"mode\":\"exclusive\",\"priority\":\"low\","
                   "\"lease_ms\":\"30000\",\"max_attempts\":3,"
                   "\"backoff_ms\":[1500,60000],\"max_in_flight\":17,"
                   "\"notice_ms\":\"250\",\"paused\":true,"
                   "\"filter\":\"a == \\\"b\\\"\","
                   "\"created_us\":\"5\",\"app\":\"admin\"}]}");
}

Test(http_groups, what_holds_a_group_is_shown)
{
    ask("GET /v1/groups/billing", "");
    cr_assert_null(strstr(body(), "held_by"));
    session->held = (struct standing) { .gate = GATE_PAUSED, .since_us = 99 };
    ask("GET /v1/groups/billing", "");
    cr_assert_not_null(strstr(body(), "\"held_by\":{\"gate\":\"paused\","
                                      "\"since_us\":\"99\",\"releases\":"
                                      "\"resuming the group\"},"),
                       "%s", body());
    session->held =
        (struct standing) { .gate = GATE_BREAKER, .until_us = 5000 };
    ask("GET /v1/groups/billing", "");
    cr_assert_not_null(strstr(body(), "\"gate\":\"breaker\","
                                      "\"until_us\":\"5000\","),
                       "%s", body());
    cr_assert_not_null(strstr(body(), "\"died\":\"0\""));
    cr_assert_not_null(strstr(body(), "\"leases_expired\":\"0\""));
}
