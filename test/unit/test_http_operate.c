/* links: godwit_door godwit_net godwit_router godwit_storage godwit_proto */
/* with: test/lib/fake_session.c */
#include "broker/door/http_path.h"
#include "broker/delivery/gate.h"
#include "broker/door/json_operation.h"
#include "test/lib/http_bed.h"

/* Seek, redrive, discard, the dead, and explain. */

TestSuite(http_operate, .init = set_up, .fini = tear_down, .timeout = 30);

static const struct topic *orders(void)
{
    return catalog_topic(session->catalog, slice_text("orders"));
}

/* ---- what is asked for ---- */

Test(http_operate, an_operation_says_what_it_is)
{
    static const struct {
        const char *path;
        const char *body;
        const char *call;
    } table[] = {
        { "seek", "{\"topic\":\"orders\",\"to\":{\"seq\":\"7\"}}",
          "kind=1 topic=orders to=1 7" },
        { "seek", "{\"topic\":\"orders\",\"to\":{\"seq\":7}}",
          "kind=1 topic=orders to=1 7" },
        { "seek", "{\"topic\":\"orders\",\"to\":{\"seq\":0}}",
          "kind=1 topic=orders to=1 0" },
        { "seek", "{\"to\":{\"time_us\":\"123\"}}", "kind=1 topic= to=2 123" },
        { "seek", "{\"to\":\"earliest\"}", "kind=1 topic= to=3 0" },
        { "seek", "{\"topic\":\"a\",\"to\":\"latest\"}",
          "kind=1 topic=a to=4 0" },
        { "redrive", "", "kind=2 topic= cause=0 rate=0 cap=0" },
        { "redrive", "{}", "kind=2 topic= cause=0 rate=0 cap=0" },
        { "redrive",
          "{\"topic\":\"orders\",\"ranges\":[[\"1\",\"9\"],"
          "{\"first\":\"11\",\"last\":\"12\"}],\"cause\":\"reject\","
          "\"filter\":\"key == \\\"a\\\"\",\"rate\":100,\"cap\":\"5\","
          "\"dry_run\":true}",
          "kind=2 topic=orders 1-9 11-12 cause=4 rate=100 cap=5 filtered "
          "dry" },
        { "redrive", "{\"topic\":\"orders\",\"seqs\":[\"3\",\"5\",4]}",
          "kind=2 topic=orders 3-5 cause=0 rate=0 cap=0" },
        { "redrive", "{\"cause\":\"lease\"}",
          "kind=2 topic= cause=2 rate=0 cap=0" },
        { "redrive/stop", "", "kind=3 topic=" },
        { "redrive/undo", "{}", "kind=4 topic=" },
        { "discard", "{\"topic\":\"orders\"}", "kind=5 topic=orders" },
        { "discard", "{\"topic\":\"orders\",\"seqs\":[1]}",
          "kind=5 topic=orders 1-1" },
    };
    char line[256];
    char want[512];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(line, sizeof line, "POST /v1/groups/billing/%s",
                 table[i].path);
        snprintf(want, sizeof want,
                 "go billing\noperate id=1 group=billing %s\n", table[i].call);
        ask(line, table[i].body);
        cr_calls(want);
        session->door->closed(session);
    }
}

Test(http_operate, what_makes_no_sense_is_named)
{
    static const struct {
        const char *path;
        const char *body;
        const char *more;
    } table[] = {
        { "seek", "", "to is not" },
        { "seek", "{\"topic\":\"orders\"}", "to is not" },
        { "seek", "{\"topic\":\"t\",\"to\":{\"seq\":1,\"time_us\":1}}",
          "to is not" },
        { "seek", "{\"topic\":\"t\",\"seq\":1}", "seq" },
        { "seek", "{\"to\":{\"seq\":1}}", "a seq is of one topic" },
        { "seek", "{\"to\":\"middle\"}", "earliest" },
        { "seek", "{\"topic\":\"t\",\"to\":{\"seq\":-1}}", "seq" },
        { "seek", "{\"topic\":\"t\",\"to\":{\"seq\":\"x\"}}", "seq" },
        { "seek", "{\"topic\":\"..\",\"to\":{\"seq\":1}}", "topic" },
        { "seek", "{\"topics\":\"t\",\"to\":\"latest\"}", "topics" },
        { "seek", "[]", "refused" },
        { "redrive", "{\"seqs\":[1]}", "are of one topic" },
        { "redrive", "{\"topic\":\"t\",\"seqs\":[]}", "something in it" },
        { "redrive", "{\"topic\":\"t\",\"seqs\":[0]}", "from 1" },
        { "redrive", "{\"topic\":\"t\",\"ranges\":[[2,1]]}",
          "1 <= first <= last" },
        { "redrive", "{\"topic\":\"t\",\"seqs\":[1],\"ranges\":[[1,1]]}",
          "seqs or ranges" },
        { "redrive", "{\"cause\":\"bad luck\"}",
          "one of nack, lease, gone, reject" },
        { "redrive", "{\"rate\":0}", "leave it out" },
        { "redrive", "{\"cap\":0}", "leave it out" },
        { "redrive", "{\"rate\":\"fast\"}", "rate" },
        { "redrive", "{\"filter\":\"key = 1\"}", "column 5" },
        { "redrive", "{\"dry_run\":1}", "dry_run" },
        { "redrive/stop", "{\"now\":true}", "now" },
        { "redrive/undo", "{\"topic\":\"t\"}", "topic" },
        { "discard", "{}", "name the topic" },
        { "discard", "", "name the topic" },
        { "discard", "{\"topic\":\"t\",\"cause\":\"nack\"}", "cause" },
    };
    char line[256];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(line, sizeof line, "POST /v1/groups/billing/%s",
                 table[i].path);
        ask(line, table[i].body);
        cr_refused(400, "invalid", table[i].more);
        cr_calls("go billing\n");
    }
}

/* A filter that was read before what makes no sense is let go (under ASan). */
Test(http_operate, ranges_are_bounded)
{
    static char body[RANGE_COUNT_MAX * 8 + 128];

    for (unsigned count = RANGE_COUNT_MAX; count <= RANGE_COUNT_MAX + 1;
         count++) {
        size_t len = (size_t)snprintf(body, sizeof body,
                                      "{\"topic\":\"t\",\"filter\":\"has(a)\","
                                      "\"seqs\":[1");

        for (unsigned i = 1; i < count; i++) {
            len += (size_t)snprintf(body + len, sizeof body - len, ",%u",
                                    2 * i + 1);
        }
        snprintf(body + len, sizeof body - len, "]}");
        ask("POST /v1/groups/billing/redrive", body);
        if (count == RANGE_COUNT_MAX) {
            cr_assert_not_null(strstr(session->calls, " 2047-2047 "));
            session->door->closed(session);
        } else {
            cr_refused(413, "too_large", "range_count");
        }
    }
}

Test(http_operate, methods_and_paths)
{
    static const struct {
        const char *line;
        int code;
    } table[] = {
        { "GET /v1/groups/g/seek", 405 },
        { "GET /v1/groups/g/discard", 405 },
        { "POST /v1/groups/g/dead", 405 },
        { "GET /v1/groups/g/redrive/stop", 405 },
        { "DELETE /v1/groups/g/redrive", 405 },
        { "POST /v1/groups/g/messages/t/1", 405 },
        { "GET /v1/groups/g/messages/t/0", 400 },
        { "GET /v1/groups/g/messages/../1", 400 },
        { "GET /v1/groups/g/messages/t", 404 },
        { "GET /v1/groups/g/messages/t/1/2", 404 },
        { "POST /v1/groups/g/redrive/undone", 404 },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        ask(table[i].line, "");
        cr_assert_eq(session->code, table[i].code, "%s: %d", table[i].line,
                     session->code);
    }
}

/* ---- answers of operations ---- */

static void operated(const struct operation_done *done)
{
    session->door->operated(session, done);
}

Test(http_operate, a_seek_says_where_it_begins)
{
    const struct seek_done seeks[] = { { "orders", 7 }, { "other", 1 } };
    const struct operation_done done = {
        .id = 1, .kind = OPERATION_SEEK, .seeks = seeks, .seek_count = 2
    };

    ask("POST /v1/groups/billing/seek", "{\"to\":\"earliest\"}");
    cr_assert_eq(session->answer_count, 0, "not before it is durable");
    operated(&done);
    cr_answer(200, "{\"seeks\":[{\"topic\":\"orders\",\"seq\":\"7\"},"
                   "{\"topic\":\"other\",\"seq\":\"1\"}]}");
}

Test(http_operate, counts_of_operations)
{
    struct operation_done done = { .id = 1,
                                   .kind = OPERATION_UNDO,
                                   .count = 3 };

    ask("POST /v1/groups/billing/redrive/undo", "");
    operated(&done);
    cr_answer(200, "{\"undone\":\"3\"}");
    done.kind = OPERATION_DISCARD;
    ask("POST /v1/groups/billing/discard", "{\"topic\":\"orders\"}");
    operated(&done);
    cr_answer(200, "{\"discarded\":\"3\"}");
    ask("POST /v1/groups/billing/seek", "{\"to\":\"latest\"}");
    refuse_now(STATUS_INVALID, "seek", 1);
    cr_refused(400, "invalid", "seek");
}

Test(http_operate, a_redrive_says_how_far_it_is)
{
    struct operation_done done = {
        .id = 1,
        .kind = OPERATION_REDRIVE,
        .redrive = { .running = true, .matched = 4, .redriven = 3 }
    };

    ask("POST /v1/groups/billing/redrive", "");
    operated(&done);
    cr_answer(200, "{\"job\":\"running\",\"dry_run\":false,\"matched\":\"4\","
                   "\"redriven\":\"3\",\"undone\":\"0\"}");
    done.kind = OPERATION_STOP;
    done.redrive.running = false;
    done.redrive.stopped = true;
    ask("POST /v1/groups/billing/redrive/stop", "");
    operated(&done);
    cr_answer(200, "{\"job\":\"stopped\",\"dry_run\":false,\"matched\":\"4\","
                   "\"redriven\":\"3\",\"undone\":\"0\"}");
}

Test(http_operate, the_last_redrive_is_shown)
{
    ask("GET /v1/groups/billing/redrive", "");
    cr_refused(404, "not_found", "nothing was redriven in group billing");
    session->redriven = true;
    session->redrive = (struct redrive_state) { .dry_run = true, .matched = 9 };
    ask("GET /v1/groups/billing/redrive", "");
    cr_answer(200, "{\"job\":\"done\",\"dry_run\":true,\"matched\":\"9\","
                   "\"redriven\":\"0\",\"undone\":\"0\"}");
}

/* ---- the dead ---- */

Test(http_operate, the_dead_are_asked_for)
{
    static const struct {
        const char *query;
        const char *call;
    } table[] = {
        { "", " 0 room=100" },
        { "?max=1", " 0 room=1" },
        { "?max=1000", " 0 room=1000" },
        { "?topic=orders", "orders 0 only room=100" },
        { "?topic=orders&from=7", "orders 7 only room=100" },
        { "?at=orders&from=7", "orders 7 room=100" },
        { "?at=orders", "orders 0 room=100" },
    };
    char line[256];
    char want[256];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(line, sizeof line, "GET /v1/groups/billing/dead%s",
                 table[i].query);
        snprintf(want, sizeof want, "go billing\ndead billing %s\n",
                 table[i].call);
        ask(line, "");
        cr_calls(want);
        cr_answer(200, "{\"dead\":[]}");
    }
}

Test(http_operate, the_dead_are_asked_for_wrongly)
{
    static const struct {
        const char *query;
        const char *more;
    } table[] = {
        { "?max=0", "max is at least 1" },
        { "?max=1001", "\"allowed\":\"1000\"" },
        { "?from=1", "name it, topic or at" },
        { "?from=0&topic=a", "from is at least 1" },
        { "?topic=a&at=b", "one of them" },
        { "?seq=1", "unknown name in the query: seq" },
    };
    char line[256];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(line, sizeof line, "GET /v1/groups/billing/dead%s",
                 table[i].query);
        ask(line, "");
        cr_refused(400, "invalid", table[i].more);
        cr_calls("");
    }
    (void)refuse(&session->look_refusal, STATUS_NOT_FOUND, "topic", "none");
    ask("GET /v1/groups/billing/dead?topic=nope", "");
    cr_refused(404, "not_found", "none");
}

Test(http_operate, the_dead_and_why)
{
    const struct dispatch_dead dead[] = {
        { orders(),
          7,
          { .time_us = 99,
            .attempt = 20,
            .cause = CAUSE_NACK,
            .dead = true,
            .reason = "no \"stock\"" } },
        { orders(), 9, { .attempt = 3 } }, /* of an older log */
        { orders(), 12, { .attempt = 1 } },
    };

    session->dead = dead;
    session->dead_count = 3;
    ask("GET /v1/groups/billing/dead?max=2", "");
    cr_answer(200, "{\"dead\":["
                   "{\"topic\":\"orders\",\"seq\":\"7\",\"attempts\":20,"
                   "\"died_us\":\"99\",\"cause\":\"nack\","
                   "\"reason\":\"no \\\"stock\\\"\"},"
                   "{\"topic\":\"orders\",\"seq\":\"9\",\"attempts\":3}],"
                   "\"next\":{\"topic\":\"orders\",\"seq\":\"12\"}}");
}

/* ---- explain ---- */

Test(http_operate, where_a_message_stands)
{
    session->explanation.standing = (struct standing) { .gate = GATE_LEASED,
                                                        .since_us = 5,
                                                        .until_us = 6,
                                                        .holder = 17,
                                                        .attempts = 1 };
    session->explanation.history[0] = (struct dispatch_failure) {
        .time_us = 4, .attempt = 1, .cause = CAUSE_GONE, .holder = 16
    };
    session->explanation.history_count = 1;
    ask("GET /v1/groups/billing/messages/orders/7", "");
    cr_answer(200, "{\"group\":\"billing\",\"topic\":\"orders\",\"seq\":\"7\","
                   "\"gate\":\"leased\",\"since_us\":\"5\",\"until_us\":\"6\","
                   "\"attempts\":1,\"holder\":\"17\","
                   "\"releases\":\"its holder, or the end of the lease\","
                   "\"history\":[{\"time_us\":\"4\",\"attempt\":1,"
                   "\"cause\":\"gone\",\"holder\":\"16\"}]}");
    cr_calls("go billing\nexplain billing orders 7\n");
}

Test(http_operate, since_when_and_why_it_is_dead)
{
    session->explanation.standing = (struct standing) { .gate = GATE_DEAD };
    session->explanation.history[0] =
        (struct dispatch_failure) { .time_us = 4,
                                    .attempt = 3,
                                    .cause = CAUSE_REJECT,
                                    .dead = true,
                                    .reason = "bad" };
    session->explanation.history_count = 1;
    ask("GET /v1/groups/billing/messages/orders/7", "");
    cr_answer(200, "{\"group\":\"billing\",\"topic\":\"orders\",\"seq\":\"7\","
                   "\"gate\":\"dead\",\"since_us\":\"4\",\"attempts\":3,"
                   "\"releases\":\"a redrive\","
                   "\"history\":[{\"time_us\":\"4\",\"attempt\":3,"
                   "\"cause\":\"reject\",\"reason\":\"bad\",\"dead\":true}]}");
}

Test(http_operate, what_holds_its_key)
{
    session->explanation.standing =
        (struct standing) { .gate = GATE_KEY_BUSY, .other_seq = 3 };
    ask("GET /v1/groups/billing/messages/orders/7", "");
    cr_answer(200, "{\"group\":\"billing\",\"topic\":\"orders\",\"seq\":\"7\","
                   "\"gate\":\"key_busy\",\"attempts\":0,"
                   "\"key_held_by_seq\":\"3\","
                   "\"releases\":\"the one before it with the same key\","
                   "\"history\":[]}");
}

Test(http_operate, every_gate_has_words)
{
    for (enum gate gate = GATE_NONE; gate <= GATE_GAP; gate++) {
        session->explanation.standing = (struct standing) { .gate = gate };
        ask("GET /v1/groups/billing/messages/orders/7", "");
        cr_assert_eq(session->code, 200);
        cr_assert_not_null(strstr(body(), gate_word(gate)));
        cr_assert_not_null(strstr(body(), gate_releases(gate)));
    }
    (void)refuse(&session->look_refusal, STATUS_NOT_FOUND, "seq", "not yet");
    ask("GET /v1/groups/billing/messages/orders/7", "");
    cr_refused(404, "not_found", "not yet");
}
