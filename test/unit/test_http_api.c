/* links: godwit_door godwit_net godwit_router godwit_storage godwit_proto */
/* with: test/lib/fake_session.c */
#include "broker/door/http_path.h"
#include "proto/codec.h"
#include "test/lib/http_bed.h"

TestSuite(http_api, .init = set_up, .fini = tear_down, .timeout = 30);

/* ---- paths ---- */

Test(http_api, paths_lead_where_they_should)
{
    static const struct {
        const char *line;
        int code; /* 0: not 404 or 405 */
        const char *allow;
    } table[] = {
        { "GET /", 404, NULL },
        { "GET /v1", 404, NULL },
        { "GET /v1/", 404, NULL },
        { "GET //v1/topics", 404, NULL },
        { "GET /v1/topics/", 400, NULL },
        { "GET /v1/topics//", 404, NULL },
        { "GET /v1/topics/a/b", 404, NULL },
        { "GET /v1/topics/a/messages/b", 400, NULL },
        { "GET /v1/topics/a/messages/0", 400, NULL },
        { "GET /v1/topics/a/messages/1/2", 404, NULL },
        { "POST /v1/topics/a/messages/1", 405, "Allow: GET, HEAD\r\n" },
        { "GET /v1/topicsx", 404, NULL },
        { "GET /V1/topics", 404, NULL },
        { "GET /v2/topics", 404, NULL },
        { "GET /v1/topics/..", 400, NULL },
        { "GET /v1/topics/%2e%2e", 400, NULL },
        { "GET /v1/topics/a%00b", 400, NULL },
        { "GET /v1/topics/a%2fb", 400, NULL },
        { "GET /v1/%74opics", 404, NULL },
        { "PUT /v1/topics", 405, "Allow: GET, HEAD, POST\r\n" },
        { "DELETE /v1/topics", 405, "Allow: GET, HEAD, POST\r\n" },
        { "POST /v1/topics/orders", 405, "Allow: GET, HEAD, PUT, DELETE\r\n" },
        { "PATCH /v1/topics/orders", 405, "Allow: GET, HEAD, PUT, DELETE\r\n" },
        { "PUT /v1/groups/g", 405, "Allow: GET, HEAD, PATCH, DELETE\r\n" },
        { "PUT /v1/topics/orders/messages", 405, "Allow: GET, HEAD, POST\r\n" },
        { "GET /v1/groups/g/pull", 405, "Allow: POST\r\n" },
        { "GET /v1/groups/g/settle", 405, "Allow: POST\r\n" },
        { "POST /health", 405, "Allow: GET, HEAD\r\n" },
        { "GET /v1/topics", 200, NULL },
        { "HEAD /v1/topics", 200, NULL },
        { "GET /v1/topics/%6Frders", 200, NULL },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        ask(table[i].line, "");
        cr_assert_eq(session->code, table[i].code, "%s: %d", table[i].line,
                     session->code);
        if (table[i].allow != NULL) {
            cr_assert_str_eq(session->extra, table[i].allow);
        }
    }
}

Test(http_api, percent_signs_are_decoded_or_refused)
{
    static const char *const bad[] = { "%", "a%4", "%4g", "%g4", "a%%", "%-1" };
    char to[64];
    size_t len;

    cr_assert(http_percent_decode(slice_text("a%20%c3%A4%25b"), to, &len));
    cr_assert(slice_equal(slice_of(to, len), slice_text("a \xc3\xa4%"
                                                        "b")));
    cr_assert(http_percent_decode(slice_text(""), to, &len));
    cr_assert_eq(len, 0);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cr_assert_not(http_percent_decode(slice_text(bad[i]), to, &len), "%s",
                      bad[i]);
    }
}

Test(http_api, names_in_paths_are_bounded)
{
    char line[256];

    for (int len = NAME_LEN_MAX; len <= NAME_LEN_MAX + 1; len++) {
        snprintf(line, sizeof line, "DELETE /v1/topics/%0*d", len, 7);
        ask(line, "");
        if (len == NAME_LEN_MAX) {
            cr_assert_eq(session->code, 0);
            cr_assert_not_null(strstr(session->calls, "name=000"));
            session->door->closed(session);
        } else {
            cr_refused(400, "invalid", "name");
        }
    }
}

Test(http_api, without_authorization_only_health_and_metrics)
{
    static const char *const closed[] = {
        "GET /v1/topics",
        "POST /v1/topics",
        "GET /v1/topics/orders",
        "DELETE /v1/topics/orders",
        "POST /v1/topics/x/batch",
        "POST /v1/topics/x/messages",
        "GET /v1/groups",
        "POST /v1/groups",
        "GET /v1/groups/g",
        "DELETE /v1/groups/g",
        "POST /v1/groups/g/pull",
        "POST /v1/groups/g/settle",
        "GET /v1/apps",
        "POST /v1/apps",
        "GET /v1/apps/admin",
        "DELETE /v1/apps/admin",
    };

    for (size_t i = 0; i < COUNT_OF(closed); i++) {
        ask_with(closed[i], "", "{}", 2);
        cr_refused(401, "unauthenticated", "");
        cr_assert_not_null(strstr(session->extra, "WWW-Authenticate: Bearer"));
        cr_calls("");
    }
    ask_with("GET /health", "", "", 0);
    cr_assert_eq(session->code, 200);
    ask_with("GET /metrics", "", "", 0);
    cr_assert_eq(session->code, 200);
}

Test(http_api, a_stream_needs_an_upgrade)
{
    ask("GET /v1/stream", "");
    cr_refused(426, "unsupported", "WebSocket");
    cr_assert_str_eq(session->extra, "Upgrade: websocket\r\n");
}

#define UPGRADE                                                                \
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"                            \
    "Sec-WebSocket-Version: 13\r\n"                                            \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define OFFER "Sec-WebSocket-Protocol: chat, godwit.v1.json\r\n"

Test(http_api, an_upgrade_makes_a_stream_of_the_offered_kind)
{
    /* Its exchange is not the stream's. */
    ask("GET /v1/topics", "");
    ask_with("GET /v1/stream", UPGRADE OFFER, "", 0);
    cr_assert_eq(session->answer_count, 0);
    cr_calls("upgrade godwit.v1.json\nhello within 5000\n");
    cr_assert_eq(session->door, &door_json);
    cr_assert_null(session->door_state);
    session->door = &door_http;
    ask_with("GET /v1/stream",
             UPGRADE AUTH "Sec-WebSocket-Protocol: godwit.v1.json, "
                          "godwit.v1.proto\r\n",
             "", 0);
    cr_calls("upgrade godwit.v1.proto\n");
    cr_assert_eq(session->door, &door_proto);
}

Test(http_api, a_refused_upgrade_says_why)
{
    ask_with("GET /v1/topics", UPGRADE OFFER, "", 0);
    cr_refused(404, "not_found", "/v1/stream");
    ask_with("GET /v1/stream", UPGRADE, "", 0);
    cr_refused(400, "unsupported", "godwit.v1.proto");
    session->authorized = false;
    ask_with("GET /v1/stream", UPGRADE OFFER AUTH, "", 0);
    cr_refused(401, "unauthenticated", "\"limit\":\"credentials\"");
    cr_assert_not_null(strstr(session->extra, "WWW-Authenticate: Bearer"));
    session->refusal = (struct refusal) { .status = STATUS_AGAIN,
                                          .limit = "nonces",
                                          .text = "too many",
                                          .retry_after_ms = 1500 };
    ask_with("GET /v1/stream", UPGRADE OFFER AUTH, "", 0);
    cr_refused(429, "again", "\"limit\":\"nonces\"");
    cr_assert_str_eq(session->extra, "Retry-After: 2\r\n");
    session->refusal = (struct refusal) { .status = STATUS_NOMEM,
                                          .limit = "memory",
                                          .text = "out of memory" };
    ask_with("GET /v1/stream", UPGRADE OFFER AUTH, "", 0);
    cr_refused(503, "no_memory", "memory");
    cr_calls("");
    cr_assert_eq(session->door, &door_http);
}

Test(http_api, unknown_words_in_a_query_are_refused)
{
    ask("GET /v1/topics?page=2", "");
    cr_refused(400, "invalid", "page");
    ask("POST /v1/groups/billing/pull?maks=2", "");
    cr_refused(400, "invalid", "maks");
    ask("POST /v1/groups/billing/pull?max=1&max=2", "");
    cr_refused(400, "invalid", "more than once");
}

Test(http_api, bodies_of_other_types_are_refused)
{
    static const struct {
        const char *type;
        bool taken;
    } table[] = { { "application/json", true },
                  { "application/json; charset=utf-8", true },
                  { "Application/JSON", true },
                  { "application/x-www-form-urlencoded", true },
                  { "application/jsonp", false },
                  { "text/plain", false },
                  { "application/protobuf", false } };
    char headers[128];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(headers, sizeof headers, AUTH "Content-Type: %s\r\n",
                 table[i].type);
        ask_with("POST /v1/topics", headers, "{\"name\":\"n\"}", 12);
        if (table[i].taken) {
            cr_assert_eq(session->answer_count, 0, "%s", table[i].type);
            session->door->closed(session);
        } else {
            cr_refused(415, "unsupported", "content_type");
        }
    }
}

/* ---- one message ---- */

Test(http_api, publishes_a_body_as_it_is)
{
    struct wire_confirm confirm = { .id = 1, .count = 1, .seq = 41 };

    ask_with("POST /v1/topics/orders/messages",
             AUTH "Content-Type: image/png\r\nGodwit-Key: k%20%C3%A4\r\n"
                  "godwit-header-Source: a%25b\r\nGodwit-Header-X: \r\n",
             "{body}", 6);
    cr_calls("producer 0\npublish id=1 topic=orders seq=0 count=1 "
             "(k \xc3\xa4:source=a%b x= {body})\n");
    cr_assert_eq(session->answer_count, 0);
    session->door->confirm(session, &confirm);
    cr_answer(200, "{\"seq\":\"41\",\"duplicate\":false}");
    ask("POST /v1/topics/orders/messages", "");
    cr_calls("producer 0\npublish id=1 topic=orders seq=0 count=1 ()\n");
    confirm.duplicate = true;
    session->door->confirm(session, &confirm);
    cr_answer(200, "{\"seq\":\"41\",\"duplicate\":true}");
}

Test(http_api, a_confirm_brings_its_receipt)
{
    struct wire_confirm confirm = { 1, 1, 41, false, 2, 4096, 0xabcdef };

    ask("POST /v1/topics/orders/messages", "");
    cr_calls("producer 0\npublish id=1 topic=orders seq=0 count=1 ()\n");
    session->door->confirm(session, &confirm);
    cr_answer(200, "{\"seq\":\"41\",\"duplicate\":false,"
                   "\"receipt\":\"41:1:2:4096:0000000000abcdef\"}");
}

Test(http_api, a_batch_has_each_receipt_with_the_first_message_it_is_for)
{
    struct wire_confirm last = { 3, 1, 43, false, 5, 128, 0x22 };
    struct wire_confirm first = { 1, 2, 41, false, 4, 64, 0x11 };

    ask("POST /v1/topics/orders/batch", "{\"messages\":[{},{},{}]}");
    session->door->confirm(session, &last);
    session->door->confirm(session, &first);
    cr_answer(200, "{\"results\":[{\"seq\":\"41\","
                   "\"receipt\":\"41:2:4:64:0000000000000011\"},"
                   "{\"seq\":\"42\"},{\"seq\":\"43\","
                   "\"receipt\":\"43:1:5:128:0000000000000022\"}]}");
}

Test(http_api, publishes_for_a_producer)
{
    ask_with("POST /v1/topics/orders/messages",
             AUTH "Godwit-Producer: 77\r\n"
                  "Godwit-Producer-Seq: 18446744073709551615\r\n",
             "x", 1);
    cr_calls("producer 77\npublish id=1 topic=orders "
             "seq=18446744073709551615 count=1 (x)\n");
}

Test(http_api, headers_that_mean_nothing_are_refused)
{
    static const struct {
        const char *headers, *more;
    } table[] = {
        { "Godwit-Kee: k\r\n", "Godwit-Kee" },
        { "Godwit-Key: a\r\nGodwit-Key: b\r\n", "more than once" },
        { "Godwit-Key: 100%\r\n", "hexadecimal" },
        { "Godwit-Header-A: %4\r\n", "hexadecimal" },
        { "Godwit-Producer: 5\r\n", "together" },
        { "Godwit-Producer-Seq: 5\r\n", "together" },
        { "Godwit-Producer: 0\r\nGodwit-Producer-Seq: 1\r\n", "from 1" },
        { "Godwit-Producer: 1\r\nGodwit-Producer-Seq: x\r\n", "from 1" },
        { "Godwit-Producer: 1\r\nGodwit-Producer: 1\r\n"
          "Godwit-Producer-Seq: 1\r\n",
          "from 1" },
    };
    char headers[256];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(headers, sizeof headers, AUTH "%s", table[i].headers);
        ask_with("POST /v1/topics/orders/messages", headers, "x", 1);
        cr_refused(400, "invalid", table[i].more);
        cr_calls("");
    }
}

Test(http_api, headers_of_a_message_are_bounded)
{
    char headers[4096];

    for (int count = HEADER_COUNT_MAX; count <= HEADER_COUNT_MAX + 1; count++) {
        size_t at = (size_t)sprintf(headers, AUTH);

        for (int i = 0; i < count; i++) {
            at += (size_t)sprintf(headers + at, "Godwit-Header-%d: v\r\n", i);
        }
        ask_with("POST /v1/topics/orders/messages", headers, "x", 1);
        if (count == HEADER_COUNT_MAX) {
            cr_assert_not_null(strstr(session->calls, "31=v"));
            session->door->closed(session);
        } else {
            cr_refused(413, "too_large", "\"used\":\"33\",\"allowed\":\"32\"");
        }
    }
}

Test(http_api, refusals_have_fitting_codes)
{
    static const struct {
        enum status status;
        int code;
        const char *extra;
    } table[] = {
        { STATUS_AGAIN, 429, "Retry-After: 1\r\n" },
        { STATUS_NOMEM, 503, "Retry-After: 1\r\n" },
        { STATUS_INVALID, 400, "" },
        { STATUS_TOO_LARGE, 413, "" },
        { STATUS_NOT_FOUND, 404, "" },
        { STATUS_EXISTS, 409, "" },
        { STATUS_FORBIDDEN, 403, "" },
        { STATUS_CORRUPT, 503, "Retry-After: 1\r\n" },
        { STATUS_IO, 503, "Retry-After: 1\r\n" },
        { STATUS_FROZEN, 503, "Retry-After: 1\r\n" },
        { STATUS_NO_SPACE, 507, "" },
        { STATUS_CLOSED, 503, "Retry-After: 1\r\n" },
        { STATUS_TIMEOUT, 408, "" },
        { STATUS_UNSUPPORTED, 501, "" },
        { STATUS_BUSY, 409, "" },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        ask("POST /v1/topics/orders/messages", "x");
        refuse_now(table[i].status, "limit", 1);
        cr_refused(table[i].code, status_word(table[i].status), "because");
        cr_assert_str_eq(session->extra, table[i].extra);
    }
}

Test(http_api, retry_after_is_rounded_up)
{
    static const struct {
        uint64_t ms;
        const char *extra;
    } table[] = { { 1, "Retry-After: 1\r\n" },
                  { 1000, "Retry-After: 1\r\n" },
                  { 1001, "Retry-After: 2\r\n" },
                  { 60000, "Retry-After: 60\r\n" } };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct refusal refusal;

        (void)refuse(&refusal, STATUS_AGAIN, "rate", "because");
        refusal.retry_after_ms = table[i].ms;
        ask("POST /v1/topics/orders/messages", "x");
        session->door->refused(session, 1, 1, &refusal);
        cr_assert_str_eq(session->extra, table[i].extra);
    }
}

/* ---- a batch ---- */

Test(http_api, a_batch_is_answered_item_by_item)
{
    struct wire_confirm first = { .id = 1, .count = 2, .seq = 41 };
    struct wire_confirm last = {
        .id = 4, .count = 1, .seq = 7, .duplicate = true
    };
    struct refusal refusal;

    ask("POST /v1/topics/orders/batch",
        "{\"messages\":[{\"body\":\"a\"},{\"body\":\"b\"},{},{\"json\":1}]}");
    cr_calls("producer 0\npublish id=1 topic=orders seq=0 count=4 (a) (b) () "
             "(1)\n");
    session->door->confirm(session, &last);
    (void)refuse(&refusal, STATUS_TOO_LARGE, "key_len", "too long");
    session->door->refused(session, 3, 1, &refusal);
    cr_assert_eq(session->answer_count, 0);
    session->door->confirm(session, &first);
    cr_answer(200, "{\"results\":[{\"seq\":\"41\"},{\"seq\":\"42\"},"
                   "{\"refused\":{\"status\":\"too_large\","
                   "\"limit\":\"key_len\",\"text\":\"too long\"}},"
                   "{\"seq\":\"7\",\"duplicate\":true}]}");
}

Test(http_api, a_batch_refused_at_once_is_a_refused_request)
{
    ask("POST /v1/topics/nope/batch", "{\"messages\":[{},{}]}");
    refuse_now(STATUS_NOT_FOUND, "topic", 2);
    cr_refused(404, "not_found", "topic");
}

Test(http_api, a_batch_refused_piece_by_piece_is_not)
{
    struct refusal refusal;

    ask("POST /v1/topics/orders/batch", "{\"messages\":[{},{},{}]}");
    refuse_now(STATUS_NO_SPACE, "space", 2);
    (void)refuse(&refusal, STATUS_IO, "", "disk");
    session->door->refused(session, 3, 1, &refusal);
    cr_answer(200, "{\"results\":["
                   "{\"refused\":{\"status\":\"no_space\",\"limit\":\"space\","
                   "\"text\":\"because\"}},"
                   "{\"refused\":{\"status\":\"no_space\",\"limit\":\"space\","
                   "\"text\":\"because\"}},"
                   "{\"refused\":{\"status\":\"io\",\"text\":\"disk\"}}]}");
}

Test(http_api, malformed_batches_are_refused)
{
    static const char *const bad[] = { "",
                                       "[]",
                                       "{}",
                                       "{\"messages\":[]}",
                                       "{\"messages\":[{}],\"x\":1}",
                                       "{\"messages\":[{\"boddy\":1}]}" };

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        ask("POST /v1/topics/orders/batch", bad[i]);
        cr_refused(400, "invalid", "");
        cr_calls("");
    }
    ask_with("POST /v1/topics/orders/batch", AUTH "Godwit-Key: k\r\n",
             "{\"messages\":[{}]}", 17);
    cr_refused(400, "invalid", "in a batch");
}

/* The answer comes from within the call, and again for the next request. */
static void confirm_at_once(struct session *s)
{
    struct wire_confirm confirm = { .id = 1, .count = 2, .seq = 5 };

    s->door->confirm(s, &confirm);
}

Test(http_api, answers_may_come_from_within_the_call)
{
    session->on_call = confirm_at_once;
    for (int i = 0; i < 3; i++) {
        ask("POST /v1/topics/orders/batch", "{\"messages\":[{},{}]}");
        cr_answer(200, "{\"results\":[{\"seq\":\"5\"},{\"seq\":\"6\"}]}");
    }
}

/* ---- pull ---- */

Test(http_api, a_pull_has_defaults_and_bounds)
{
    static const struct {
        const char *query, *calls;
    } good[] = {
        { "", "max=100 wait=0" },
        { "?max=1", "max=1 wait=0" },
        { "?max=1000&wait=60", "max=1000 wait=60000" },
        { "?wait=0.25", "max=100 wait=250" },
        { "?wait=1.5&max=7", "max=7 wait=1500" },
        { "?wait=0.001", "max=100 wait=1" },
    };
    static const char *const bad[] = {
        "?max=0",
        "?max=1001",
        "?max=",
        "?max=x",
        "?max=-1",
        "?max=1.5",
        "?wait=60.001",
        "?wait=61",
        "?wait=-1",
        "?wait=x",
        "?wait=1.",
        "?wait=.5",
        "?wait=0.0001",
        "?wait=1e3",
        "?wait=",
        "?max",
        "?wait=99999999999999999999",
    };
    char line[128];
    char want[128];

    for (size_t i = 0; i < COUNT_OF(good); i++) {
        snprintf(line, sizeof line, "POST /v1/groups/billing/pull%s",
                 good[i].query);
        ask(line, "");
        snprintf(want, sizeof want, "go billing\npull id=1 group=billing %s\n",
                 good[i].calls);
        cr_calls(want);
        session->door->pulled(session, 1, 0, 30000);
        cr_answer(200, "{\"lease\":\"0\",\"lease_ms\":\"30000\","
                       "\"messages\":[],\"gaps\":[]}");
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        snprintf(line, sizeof line, "POST /v1/groups/billing/pull%s", bad[i]);
        ask(line, "");
        cr_refused(400, "invalid", "");
        cr_calls("");
    }
}

static void deliver_some(void)
{
    struct wire_message message = { .key = slice_text("k"),
                                    .body = slice_text("b") };
    struct wire_delivery deliveries[2];
    struct bytes encoded = { 0 };

    cr_assert_eq(codec_message_write(&encoded, &message), STATUS_OK);
    for (size_t i = 0; i < 2; i++) {
        deliveries[i] =
            (struct wire_delivery) { 41 + i, (uint32_t)(1 + i), 99,
                                     slice_of(encoded.at,
                                              bytes_len(&encoded)) };
    }
    session->door->deliver(session, "orders", deliveries, 2);
    session->door->gap(session, "orders", (struct seq_range) { 3, 4 });
    session->door->deliver(session, "other", deliveries, 1);
    session->door->gap(session, "other", (struct seq_range) { 5, 5 });
    memset(encoded.at, 0xaa, bytes_len(&encoded));
    bytes_fini(&encoded);
}

Test(http_api, a_pull_gathers_messages_and_gaps)
{
    session->arrives = false;
    ask("POST /v1/groups/billing/pull?max=10&wait=5", "");
    cr_calls("go billing\n");
    session->door->arrived(session, 1);
    cr_calls("go billing\npull id=1 group=billing max=10 wait=5000\n");
    deliver_some();
    cr_assert_eq(session->answer_count, 0);
    session->door->pulled(session, 1, 12, 30000);
    cr_answer(200,
              "{\"lease\":\"12\",\"lease_ms\":\"30000\",\"messages\":["
              "{\"topic\":\"orders\",\"seq\":\"41\",\"attempt\":1,"
              "\"time_us\":\"99\",\"key\":\"k\",\"body\":\"b\"},"
              "{\"topic\":\"orders\",\"seq\":\"42\",\"attempt\":2,"
              "\"time_us\":\"99\",\"key\":\"k\",\"body\":\"b\"},"
              "{\"topic\":\"other\",\"seq\":\"41\",\"attempt\":1,"
              "\"time_us\":\"99\",\"key\":\"k\",\"body\":\"b\"}],"
              "\"gaps\":[{\"topic\":\"orders\",\"first\":\"3\",\"last\":\"4\"},"
              "{\"topic\":\"other\",\"first\":\"5\",\"last\":\"5\"}]}");
}

Test(http_api, a_pull_can_be_had_in_protobuf)
{
    struct wire_pulled pulled;

    ask_with("POST /v1/groups/billing/pull",
             AUTH "Accept: text/html, application/protobuf\r\n", "", 0);
    deliver_some();
    session->door->pulled(session, 1, 12, 30000);
    cr_assert_eq(session->code, 200);
    cr_assert_str_eq(session->type, "application/protobuf");
    cr_assert_eq(codec_pulled_read(session->codec,
                                   slice_of(bytes_begin(&session->body),
                                            bytes_len(&session->body) - 1),
                                   &pulled),
                 STATUS_OK);
    cr_assert_eq(pulled.lease, 12);
    cr_assert_eq(pulled.lease_ms, 30000);
    cr_assert_eq(pulled.count, 3);
    cr_assert_eq(pulled.deliveries[1].seq, 42);
    cr_assert_eq(pulled.deliveries[1].attempt, 2);
    cr_assert(slice_is(pulled.topics[2], "other"));
    cr_assert_eq(pulled.gap_count, 2);
    cr_assert_eq(pulled.gaps[0].range.last, 4);
}

Test(http_api, a_pull_can_be_refused_on_the_way)
{
    session->arrives = false;
    ask("POST /v1/groups/nope/pull", "");
    refuse_now(STATUS_NOT_FOUND, "group", 1);
    cr_refused(404, "not_found", "group");
}

Test(http_api, what_comes_after_the_answer_is_dropped)
{
    struct wire_confirm confirm = { .id = 1, .count = 1, .seq = 1 };

    ask("POST /v1/groups/billing/pull", "");
    session->door->pulled(session, 1, 0, 1);
    session->answer_count = 0;
    deliver_some();
    session->door->pulled(session, 1, 0, 1);
    session->door->confirm(session, &confirm);
    session->door->arrived(session, 1);
    refuse_now(STATUS_IO, "", 1);
    cr_assert_eq(session->answer_count, 0);
}

/* ---- settle ---- */

static void settle_at_once(struct session *s)
{
    struct wire_settled_range ranges[] = { { 1, 2, OUTCOME_ACCEPTED, 0 },
                                           { 3, 3, OUTCOME_LATE, 9 } };

    s->door->settled(s, 1, slice_text("orders"), ranges, 2);
}

#define SETTLED                                                                \
    "{\"topic\":\"orders\",\"ranges\":["                                       \
    "{\"first\":\"1\",\"last\":\"2\",\"outcome\":\"accepted\"},"               \
    "{\"first\":\"3\",\"last\":\"3\",\"outcome\":\"late\","                    \
    "\"holder\":\"9\"}]}"

Test(http_api, settles_where_the_group_lives)
{
    session->arrives = false;
    ask("POST /v1/groups/billing/settle",
        "{\"lease\":\"12\",\"topic\":\"orders\",\"action\":\"nack\","
        "\"seqs\":[\"1\",2,3],\"delay_ms\":50,\"reason\":\"r\"}");
    cr_calls("go billing\n");
    session->door->arrived(session, 1);
    cr_calls("go billing\nsettle id=1 group=billing topic=orders action=2 "
             "delay=50 reason=r lease=12 1-3\n");
    settle_at_once(session);
    cr_answer(200, SETTLED);
}

Test(http_api, settles_at_once)
{
    session->on_call = settle_at_once;
    ask("POST /v1/groups/billing/settle",
        "{\"topic\":\"orders\",\"action\":\"ack\",\"ranges\":[[1,3]]}");
    cr_answer(200, SETTLED);
}

Test(http_api, settles_in_protobuf)
{
    struct seq_range range = { 1, 3 };
    struct wire_settle settle = { .topic = slice_text("orders"),
                                  .action = SETTLE_ACK,
                                  .ranges = &range,
                                  .count = 1,
                                  .lease = 12 };
    struct wire_reply reply;
    struct bytes encoded = { 0 };

    cr_assert_eq(codec_settle_body_write(&encoded, 0, &settle), STATUS_OK);
    session->on_call = settle_at_once;
    ask_with("POST /v1/groups/billing/settle",
             AUTH "Content-Type: application/protobuf\r\n", encoded.at,
             bytes_len(&encoded));
    cr_calls("go billing\nsettle id=1 group=billing topic=orders action=1 "
             "delay=0 reason= lease=12 1-3\n");
    cr_assert_str_eq(session->type, "application/protobuf");
    cr_assert_eq(
        codec_settled_body_read(session->codec,
                                slice_of(bytes_begin(&session->body),
                                         bytes_len(&session->body) - 1),
                                &reply),
        STATUS_OK);
    cr_assert_eq(reply.settled.count, 2);
    cr_assert_eq(reply.settled.ranges[1].holder, 9);
    bytes_fini(&encoded);
    ask_with("POST /v1/groups/billing/settle",
             AUTH "Content-Type: application/protobuf\r\n", "\xff\xff", 2);
    cr_refused(400, "invalid", "");
}

Test(http_api, malformed_settlements_are_refused)
{
    ask("POST /v1/groups/billing/settle", "{}");
    cr_refused(400, "invalid", "topic");
    ask("POST /v1/groups/billing/settle", "");
    cr_refused(400, "invalid", "JSON");
}
