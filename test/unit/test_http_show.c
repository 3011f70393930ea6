/* links: godwit_door godwit_net godwit_router godwit_storage godwit_proto */
/* with: test/lib/fake_session.c */
#include "test/lib/http_bed.h"

TestSuite(http_show, .init = set_up, .fini = tear_down, .timeout = 30);

/* ---- the catalog ---- */

static void changed(enum catalog_op op, enum catalog_class class,
                    const char *name, const char *secret)
{
    struct catalog_request request = { .op = op, .class = class };
    struct change_done done = { 1, &request, secret };

    snprintf(request.name, sizeof request.name, "%s", name);
    session->door->changed(session, &done);
}

Test(http_show, creates_topics_groups_and_apps)
{
    ask("POST /v1/topics", "{\"name\":\"new\"}");
    cr_calls("change id=1 op=1 class=2 app=1 name=new keep=1 0 0 0 0\n");
    changed(CATALOG_CREATE, CATALOG_TOPIC, "new", "");
    cr_answer(201, "{\"name\":\"new\"}");
    ask("POST /v1/groups", "{\"name\":\"g\",\"topics\":[\"a.*\",\"b\"],"
                           "\"from\":\"latest\",\"lease_ms\":\"500\"}");
    cr_calls("change id=1 op=1 class=3 app=1 name=g topics=a.*,b, from=2 "
             "lease=500\n");
    changed(CATALOG_CREATE, CATALOG_GROUP, "g", "");
    cr_answer(201, "{\"name\":\"g\"}");
    ask("POST /v1/groups", "{\"name\":\"g\",\"topics\":\"a,b\"}");
    cr_calls("change id=1 op=1 class=3 app=1 name=g topics=a,b, from=1\n");
    changed(CATALOG_CREATE, CATALOG_GROUP, "g", "");
    ask("POST /v1/apps", "{\"name\":\"shop\",\"publish\":[\"a\"],"
                         "\"subscribe\":[\"b\",\"c\"]}");
    cr_calls("change id=1 op=1 class=1 app=1 name=shop admin=0 publish=a, "
             "subscribe=b,c,\n");
    changed(CATALOG_CREATE, CATALOG_APP, "shop", "s3cret");
    cr_answer(201, "{\"name\":\"shop\",\"secret\":\"s3cret\"}");
    ask("POST /v1/apps", "{\"name\":\"root\",\"admin\":true}");
    cr_calls("change id=1 op=1 class=1 app=1 name=root admin=1 publish= "
             "subscribe=\n");
}

Test(http_show, deletes_are_answered_with_nothing)
{
    ask("DELETE /v1/groups/billing", "");
    cr_calls("change id=1 op=2 class=3 app=1 name=billing\n");
    changed(CATALOG_DELETE, CATALOG_GROUP, "billing", "");
    cr_answer(204, "");
    ask("DELETE /v1/topics/orders", "");
    cr_calls("change id=1 op=2 class=2 app=1 name=orders\n");
    refuse_now(STATUS_FORBIDDEN, "owner", 1);
    cr_refused(403, "forbidden", "owner");
    ask("DELETE /v1/apps/admin", "");
    cr_calls("change id=1 op=2 class=1 app=1 name=admin\n");
}

Test(http_show, malformed_creations_are_refused)
{
    static const struct {
        const char *path, *body, *more;
    } table[] = {
        { "POST /v1/topics", "{}", "name" },
        { "POST /v1/topics", "{\"name\":\"\"}", "name" },
        { "POST /v1/topics", "{\"name\":5}", "name" },
        { "POST /v1/topics", "{\"nam\":\"x\"}", "nam" },
        { "POST /v1/topics", "{\"name\":\"x\",\"lease_ms\":1}", "lease_ms" },
        { "POST /v1/groups", "{\"name\":\"g\",\"topics\":5}", "topics" },
        { "POST /v1/groups", "{\"name\":\"g\",\"topics\":[5]}", "topics" },
        { "POST /v1/groups", "{\"name\":\"g\",\"topics\":[\"a b\"]}",
          "pattern" },
        { "POST /v1/groups", "{\"name\":\"g\",\"from\":\"now\"}", "from" },
        { "POST /v1/groups", "{\"name\":\"g\",\"from\":1}", "from" },
        { "POST /v1/groups", "{\"name\":\"g\",\"lease_ms\":-1}", "lease_ms" },
        { "POST /v1/apps", "{\"name\":\"a\",\"admin\":\"yes\"}", "admin" },
        { "POST /v1/apps", "{\"name\":\"a\",\"publish\":{}}", "publish" },
        { "POST /v1/apps", "{\"name\":\"a\",\"secret\":\"mine\"}", "secret" },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        ask(table[i].path, table[i].body);
        cr_refused(400, "invalid", table[i].more);
        cr_calls("");
    }
}

Test(http_show, lists_and_shows)
{
    ask("GET /v1/topics", "");
    cr_answer(200,
              "{\"topics\":["
              "{\"name\":\"a.other\",\"first_seq\":\"12\",\"floor_seq\":\"22\","
              "\"last_seq\":\"102\",\"keep\":\"settled\","
              "\"created_us\":\"5\",\"app\":\"admin\"},"
              "{\"name\":\"orders\",\"first_seq\":\"11\",\"floor_seq\":\"21\","
              "\"last_seq\":\"101\",\"keep\":\"settled\","
              "\"created_us\":\"5\",\"app\":\"admin\"}]}");
    ask("GET /v1/topics/orders", "");
    cr_answer(200,
              "{\"name\":\"orders\",\"first_seq\":\"11\",\"floor_seq\":\"21\","
              "\"last_seq\":\"101\",\"keep\":\"settled\","
              "\"created_us\":\"5\",\"app\":\"admin\"}");
    ask("GET /v1/topics/nope", "");
    cr_refused(404, "not_found", "nope");
    ask("GET /v1/groups", "");
    cr_answer(200, "{\"groups\":[{\"name\":\"billing\","
                   "\"topics\":[\"orders\"],\"from\":\"earliest\","
                   "\"mode\":\"shared\",\"priority\":\"normal\","
                   "\"lease_ms\":\"30000\",\"max_attempts\":20,"
                   "\"backoff_ms\":[],\"max_in_flight\":262144,"
                   "\"notice_ms\":\"0\",\"paused\":false,"
                   "\"created_us\":\"5\",\"app\":\"admin\"}]}");
    ask("GET /v1/apps/admin", "");
    cr_answer(200, "{\"name\":\"admin\",\"admin\":true,\"publish\":[],"
                   "\"subscribe\":[],\"created_us\":\"5\"}");
    ask("GET /v1/apps/nope", "");
    cr_refused(404, "not_found", "nope");
}

Test(http_show, a_topic_is_told_how_to_keep)
{
    ask("POST /v1/topics",
        "{\"name\":\"new\",\"keep\":\"limit\",\"keep_ms_max\":\"604800000\","
        "\"keep_bytes_max\":1024,\"keep_count_max\":\"9\"}");
    cr_calls("change id=1 op=1 class=2 app=1 name=new keep=2 0 604800000 1024 "
             "9\n");
    changed(CATALOG_CREATE, CATALOG_TOPIC, "new", "");
    ask("PUT /v1/topics/orders", "{\"keep_ms_min\":\"5000\"}");
    cr_calls("change id=1 op=3 class=2 app=1 name=orders keep=1 5000 0 0 0\n");
    changed(CATALOG_UPDATE, CATALOG_TOPIC, "orders", "");
    cr_answer(200, "{\"name\":\"orders\"}");
    ask("PUT /v1/topics/orders", "{\"keep\":\"for ever\"}");
    cr_refused(400, "invalid", "settled or limit");
    ask("PUT /v1/topics/orders", "{\"name\":\"other\"}");
    cr_refused(400, "invalid", "name");
    ask("PUT /v1/topics/orders", "{\"keep_count_max\":-1}");
    cr_refused(400, "invalid", "keep_count_max");
    ask("PUT /v1/apps/admin", "{}");
    cr_assert_eq(session->code, 405);
    cr_calls("");
}

Test(http_show, how_a_topic_keeps_is_shown)
{
    struct topic *topic = catalog_topic(session->catalog, slice_text("orders"));

    topic->retention = (struct retention) { .keep = KEEP_LIMIT,
                                            .ms_max = 1000,
                                            .bytes_max = UINT64_MAX,
                                            .count_max = 3 };
    ask("GET /v1/topics/orders", "");
    cr_assert_not_null(strstr(body(),
                              "\"keep\":\"limit\",\"keep_ms_max\":\"1000\","
                              "\"keep_bytes_max\":\"18446744073709551615\","
                              "\"keep_count_max\":\"3\",\"created_us\""));
}

Test(http_show, a_secret_is_never_shown)
{
    ask("GET /v1/apps", "");
    cr_assert_null(strstr(body(), "secret"));
    cr_assert_null(strstr(body(), session->app->secret));
    cr_assert_not_null(strstr(body(), "\"admin\""));
}

Test(http_show, a_group_is_shown_where_it_lives)
{
    session->arrives = false;
    ask("GET /v1/groups/billing", "");
    cr_calls("go billing\n");
    session->door->arrived(session, 1);
    cr_assert_eq(session->code, 200);
    cr_assert_not_null(strstr(
        body(), "\"lanes\":[{\"topic\":\"orders\",\"published\":\"28\","
                "\"acked\":\"4\",\"dead\":\"7\",\"expired\":\"5\","
                "\"filtered\":\"3\",\"gap\":\"1\",\"deleted\":\"3\","
                "\"ready\":\"2\","
                "\"delayed\":\"1\",\"in_flight\":\"2\",\"balanced\":true},"));
    cr_assert_not_null(strstr(body(), "\"topic\":\"other\""));
    cr_assert_not_null(strstr(body(), "\"balanced\":false}]"));
    cr_assert_not_null(strstr(body(), "\"members\":3,\"delivered\":\"7\""));
    session->known_group = false;
    ask("GET /v1/groups/billing", "");
    session->door->arrived(session, 1);
    cr_refused(404, "not_found", "billing");
    ask("GET /v1/groups/nope", "");
    cr_refused(404, "not_found", "nope");
    cr_calls("");
}

Test(http_show, others_see_what_they_are_granted)
{
    fake_session_add(session, CATALOG_APP, "shop", 0, "a.*", false);
    session->app = catalog_app(session->catalog, slice_text("shop"));
    ask("GET /v1/topics", "");
    cr_assert_not_null(strstr(body(), "a.other"));
    cr_assert_null(strstr(body(), "orders"));
    ask("GET /v1/topics/orders", "");
    cr_refused(403, "forbidden", "grant");
    ask("GET /v1/groups", "");
    cr_answer(200, "{\"groups\":[]}");
    ask("GET /v1/groups/billing", "");
    cr_refused(403, "forbidden", "owner");
    cr_calls("");
    ask("GET /v1/apps", "");
    cr_refused(403, "forbidden", "admin");
    ask("GET /v1/apps/admin", "");
    cr_refused(403, "forbidden", "admin");
    ask("GET /v1/apps/shop", "");
    cr_assert_eq(session->code, 200);
}

/* ---- health and metrics ---- */

static void cr_health(int code, const char *colour, const char *reason)
{
    char want[64];

    ask("GET /health", "");
    snprintf(want, sizeof want, "{\"status\":\"%s\",\"reasons\":[%s", colour,
             reason[0] == '\0' ? "]" : "\"");
    cr_assert_eq(session->code, code, "%s", body());
    cr_assert_eq(strncmp(body(), want, strlen(want)), 0, "%s", body());
    cr_assert_not_null(strstr(body(), reason), "%s", body());
}

Test(http_show, health_has_three_colours)
{
    struct store_recovery recovery = { 0 };

    cr_health(200, "green", "");
    recovery.damaged_batches = 1;
    metrics.recovery = &recovery;
    cr_health(200, "yellow", "damage");
    recovery = (struct store_recovery) { .damaged_bytes = 1 };
    cr_health(200, "yellow", "damage");
    recovery = (struct store_recovery) { .missing_segments = 1 };
    cr_health(200, "yellow", "missing_segments");
    metrics.recovery = NULL;
    workers[1].books_differences = 1;
    cr_health(200, "yellow", "books");
    space_low = true;
    cr_health(200, "yellow", "disk_full: no room for the next segment");
    frozen = true;
    cr_health(503, "red", "store_frozen");
}

Test(http_show, health_says_where_bytes_are_damaged)
{
    const char *rest = "; what was lost comes to groups as gaps\"]";

    damaged_records = 3; /* a figure: the places count */
    cr_health(200, "green", "");
    damage[0] = (struct store_damage) { .kind = DAMAGE_SNAPSHOT };
    damage[1] = (struct store_damage) { .kind = DAMAGE_MESSAGE,
                                        .segment = 7,
                                        .offset = 4096 };
    damage_count = 1;
    corrupt_reads = 1; /* the same event, told once */
    cr_health(200, "yellow", "damaged in 1 place; the last: the snapshot; ");
    cr_assert_not_null(strstr(body(), rest), "%s", body());
    damage_count = 2;
    cr_health(200, "yellow",
              "damaged in 2 places; the last: 0000000007.seg at "
              "4096 (message); ");
    cr_assert_not_null(strstr(body(), rest), "%s", body());
}

/* A batch that a reader found damaged has no place of its own. */
Test(http_show, health_hears_of_reads_that_name_no_place)
{
    corrupt_reads = 1;
    cr_health(200, "yellow", "damage: 1 read found");
    corrupt_reads = 2;
    cr_health(200, "yellow", "damage: 2 reads found");
}

Test(http_show, health_hears_of_the_keeper)
{
    metrics.keeper.disk_low = 1;
    metrics.keeper.disk_free_bytes = 5 << 20;
    metrics.keeper.disk_free_bytes_min = 64 << 20;
    cr_health(200, "yellow", "disk_low: 5 MiB are free, 64 wanted");
    metrics.keeper.disk_low = 0;
    metrics.keeper.upkeep_waits = 1;
    cr_health(200, "yellow", "upkeep");
    metrics.keeper.upkeep_waits = 0;
    metrics.keeper.removal_waits = STORE_WAIT_HOLD;
    cr_health(200, "yellow", "store.hold");
    metrics.keeper.removal_waits = STORE_WAIT_READER;
    cr_health(200, "yellow", "waits for a reader");
    metrics.keeper.removal_waits = 0;
    metrics.keeper.nothing_deleted = 1;
    cr_health(200, "yellow", "nothing_deleted");
    metrics.keeper.nothing_deleted = 0;
    metrics.keeper.scrub_behind = 1;
    cr_health(200, "yellow", "scrub");
    metrics.keeper.scrub_behind = 0;
    cr_health(200, "green", "");
}

Test(http_show, the_store_is_shown_to_admins)
{
    damaged_records = 3;
    damage_count = 2;
    damage[0] = (struct store_damage) { .kind = DAMAGE_SNAPSHOT };
    damage[1] = (struct store_damage) { .kind = DAMAGE_MESSAGE,
                                        .segment = 7,
                                        .offset = 4096,
                                        .len = 200,
                                        .topic = 1,
                                        .seq = 9 };
    ask("GET /v1/store", "");
    cr_assert_eq(session->code, 200);
    cr_assert_not_null(strstr(body(), "\"damaged_records\":\"3\""));
    cr_assert_not_null(strstr(
        body(), "\"damage\":[{\"kind\":\"snapshot\"},{\"kind\":\"message\","
                "\"file\":\"0000000007.seg\",\"offset\":4096,\"len\":200,"
                "\"topic\":\"orders\",\"seq\":\"9\"}]}"));
    damage[1].len = 0;
    ask("GET /v1/store", "");
    cr_assert_not_null(strstr(body(), "\"offset\":4096,\"topic\":\"orders\""));
    fake_session_add(session, CATALOG_APP, "shop", 0, "*", false);
    session->app = catalog_app(session->catalog, slice_text("shop"));
    ask("GET /v1/store", "");
    cr_refused(403, "forbidden", "admin");
}

Test(http_show, metrics_are_in_prometheus_text)
{
    struct store_recovery recovery = { .us = 1500000 };
    const char *at;

    metrics.recovery = &recovery;
    workers[0].published_messages = UINT64_C(9007199254740991);
    workers[1].published_messages = 1;
    workers[1].sessions = 4;
    workers[0].tiers[1].in_flight_messages = 2;
    workers[1].tiers[1].in_flight_messages = 3;
    workers[1].tiers[2].transactions_ended = 6;
    workers[1].books.dead = 7;
    metrics.journal.groups = 6;
    ask("GET /metrics", "");
    cr_assert_eq(session->code, 200);
    cr_assert_eq(strncmp(session->type, "text/plain; version=0.0.4", 25), 0);
    cr_assert_not_null(
        strstr(body(), "# TYPE godwit_published_messages_total counter\n"
                       "godwit_published_messages_total 9007199254740992\n"));
    cr_assert_not_null(strstr(body(), "\ngodwit_sessions 4\n"));
    cr_assert_not_null(strstr(body(), "\ngodwit_journal_groups_total 6\n"));
    cr_assert_not_null(strstr(body(), "\ngodwit_store_segments 3\n"));
    cr_assert_not_null(strstr(body(), "\ngodwit_recovery_seconds 1.5\n"));
    cr_assert_not_null(strstr(body(), "\ngodwit_start_time_seconds 1\n"));
    cr_assert_not_null(
        strstr(body(), "\ngodwit_in_flight_messages{tier=\"direct\"} 5\n"));
    cr_assert_not_null(
        strstr(body(), "\ngodwit_transactions_ended_total{tier=\"file\"} 6\n"));
    cr_assert_not_null(strstr(body(), "\ngodwit_messages{state=\"dead\"} 7\n"));
    /* Each family once: HELP, TYPE and its samples. */
    for (at = body(); *at != '\0';) {
        char name[128];

        cr_assert_eq(sscanf(at, "# HELP %127s", name), 1, "%.80s", at);
        at = strchr(at, '\n') + 1;
        cr_assert_eq(strncmp(at, "# TYPE ", 7), 0);
        cr_assert_eq(strncmp(at + 7, name, strlen(name)), 0);
        at = strchr(at, '\n') + 1;
        cr_assert_eq(strncmp(at, name, strlen(name)), 0);
        while (strncmp(at, name, strlen(name)) == 0) {
            at = strchr(at, '\n') + 1;
        }
    }
}
