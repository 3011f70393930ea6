/* links: godwit_door godwit_net godwit_router godwit_storage godwit_proto */
/* with: test/lib/fake_session.c */
#include "broker/door/http_path.h"
#include "broker/session/look.h"
#include "proto/codec.h"
#include "test/lib/http_bed.h"

TestSuite(http_messages, .init = set_up, .fini = tear_down, .timeout = 30);

/* ---- what is asked for ---- */

Test(http_messages, a_search_says_what_it_is_for)
{
    static const struct {
        const char *query;
        const char *call;
    } table[] = {
        { "", "0-0 time=0-0 max=100 wait=0\n" },
        { "?from=1&to=1", "1-1 time=0-0 max=100 wait=0\n" },
        { "?from=18446744073709551615",
          "18446744073709551615-0 time=0-0 max=100 wait=0\n" },
        { "?from=5&to=9&max=7", "5-9 time=0-0 max=7 wait=0\n" },
        { "?since=11&until=12", "0-0 time=11-12 max=100 wait=0\n" },
        { "?max=1", "0-0 time=0-0 max=1 wait=0\n" },
        { "?max=1000", "0-0 time=0-0 max=1000 wait=0\n" },
        { "?newest=1", "0-0 time=0-0 newest=1 wait=0\n" },
        { "?newest=1000&to=5", "0-5 time=0-0 newest=1000 wait=0\n" },
        { "?key=a%20b&tag=x+y",
          "0-0 time=0-0 max=100 key=\"a b\" tag=\"x y\" wait=0\n" },
        { "?key=", "0-0 time=0-0 max=100 key=\"\" wait=0\n" },
        { "?from=3&wait=60", "3-0 time=0-0 max=100 wait=60000\n" },
        { "?since=3&wait=0.5", "0-0 time=3-0 max=100 wait=500\n" },
    };
    char line[256];
    char want[256];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(line, sizeof line, "GET /v1/topics/orders/messages%s",
                 table[i].query);
        snprintf(want, sizeof want, "search id=1 topic=orders %s",
                 table[i].call);
        ask(line, "");
        cr_calls(want);
        session->door->closed(session);
    }
}

Test(http_messages, what_makes_no_sense_is_named)
{
    static const struct {
        const char *query;
        const char *more;
    } table[] = {
        { "?from=0", "from is at least 1" },
        { "?from=-1", "from is not a number" },
        { "?from=18446744073709551616", "from is not a number" },
        { "?to=18446744073709551615", "\"limit\":\"to\"" },
        { "?from=x", "from is not a number" },
        { "?to=0", "to is at least 1" },
        { "?from=3&to=2", "to is before from" },
        { "?since=0", "since is at least 1" },
        { "?since=9223372036854775808", "\"limit\":\"since\"" },
        { "?since=3&until=2", "until is before since" },
        { "?max=0", "max is at least 1" },
        { "?max=1001", "\"used\":\"1001\",\"allowed\":\"1000\"" },
        { "?newest=0", "newest is at least 1" },
        { "?newest=1001", "\"used\":\"1001\",\"allowed\":\"1000\"" },
        { "?newest=1&max=1", "there is no max" },
        { "?newest=1&wait=1", "wait is for what comes" },
        { "?to=1&wait=1", "wait is for what comes" },
        { "?until=1&wait=1", "wait is for what comes" },
        { "?wait=60.001", "\"used\":\"60001\",\"allowed\":\"60000\"" },
        { "?wait=x", "wait is a number of seconds" },
        { "?key=%00", "key is longer than 1024 bytes, or not decodable" },
        { "?key=a&key=b", "more than once in the query: key" },
        { "?tags=a", "unknown name in the query: tags" },
    };
    char line[256];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(line, sizeof line, "GET /v1/topics/orders/messages%s",
                 table[i].query);
        ask(line, "");
        cr_refused(400, "invalid", table[i].more);
        cr_assert_str_eq(session->calls, "", "%s: %s", line, session->calls);
    }
}

Test(http_messages, texts_are_bounded)
{
    static const struct {
        const char *name;
        int most;
    } table[] = { { "key", KEY_LEN_MAX }, { "tag", TAG_LEN_MAX } };
    char line[2048];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        for (int len = table[i].most; len <= table[i].most + 1; len++) {
            snprintf(line, sizeof line,
                     "GET /v1/topics/orders/messages?%s=%0*d", table[i].name,
                     len, 7);
            ask(line, "");
            if (len == table[i].most) {
                cr_assert_not_null(strstr(session->calls, "search"));
                session->door->closed(session);
            } else {
                cr_refused(400, "invalid", table[i].name);
            }
        }
    }
}

Test(http_messages, a_publish_has_no_query)
{
    ask("POST /v1/topics/orders/messages?from=1", "body");
    cr_refused(400, "invalid", "unknown name in the query: from");
}

/* ---- what is answered ---- */

static void give(uint64_t seq, const char *key, const char *text)
{
    const struct wire_message message = { .key = slice_text(key),
                                          .body = slice_text(text) };
    struct bytes encoded = { 0 };
    struct wire_delivery delivery = { .seq = seq, .time_us = 77 };

    cr_assert_eq(codec_message_write(&encoded, &message), STATUS_OK);
    delivery.message = slice_of(bytes_begin(&encoded), bytes_len(&encoded));
    session->door->deliver(session, "orders", &delivery, 1);
    bytes_fini(&encoded);
}

Test(http_messages, a_message_is_shown_as_in_a_pull)
{
    struct search_result result = { .next_seq = 8 };

    ask("GET /v1/topics/orders/messages/7", "");
    cr_calls("peek id=1 topic=orders seq=7\n");
    give(7, "k", "hello");
    session->door->looked(session, 1, &result);
    cr_answer(200, "{\"topic\":\"orders\",\"seq\":\"7\",\"time_us\":\"77\","
                   "\"key\":\"k\",\"body\":\"hello\"}");
}

Test(http_messages, a_lost_message_is_said_to_be_lost)
{
    struct search_result result = { .next_seq = 8 };

    ask("GET /v1/topics/orders/messages/7", "");
    session->door->gap(session, "orders", (struct seq_range) { 7, 7 });
    session->door->looked(session, 1, &result);
    cr_answer(200, "{\"topic\":\"orders\",\"seq\":\"7\",\"gap\":true}");
}

Test(http_messages, a_search_tells_all_it_knows)
{
    struct search_result result = { .next_seq = 9,
                                    .scanned = 6,
                                    .found = 2,
                                    .first_seq = 3,
                                    .last_seq = 100,
                                    .deleted = { 1, 2 } };

    ask("GET /v1/topics/orders/messages?from=1", "");
    give(3, "", "a");
    session->door->gap(session, "orders", (struct seq_range) { 4, 6 });
    give(7, "", "b");
    session->door->looked(session, 1, &result);
    cr_answer(
        200, "{\"messages\":["
             "{\"topic\":\"orders\",\"seq\":\"3\",\"time_us\":\"77\","
             "\"body\":\"a\"},"
             "{\"topic\":\"orders\",\"seq\":\"7\",\"time_us\":\"77\","
             "\"body\":\"b\"}],"
             "\"gaps\":[{\"topic\":\"orders\",\"first\":\"4\",\"last\":\"6\"}],"
             "\"deleted\":{\"first\":\"1\",\"last\":\"2\"},"
             "\"next_seq\":\"9\",\"done\":false,\"scanned\":6,"
             "\"first_seq\":\"3\",\"last_seq\":\"100\"}");
}

Test(http_messages, a_search_that_found_nothing)
{
    struct search_result result = { .next_seq = 1,
                                    .first_seq = 1,
                                    .done = true };

    ask("GET /v1/topics/orders/messages", "");
    session->door->looked(session, 1, &result);
    cr_answer(200, "{\"messages\":[],\"gaps\":[],\"next_seq\":\"1\","
                   "\"done\":true,\"scanned\":0,\"first_seq\":\"1\","
                   "\"last_seq\":\"0\"}");
}

Test(http_messages, a_look_that_is_refused)
{
    ask("GET /v1/topics/orders/messages?from=1", "");
    refuse_now(STATUS_FORBIDDEN, "grant", 1);
    cr_refused(403, "forbidden", "grant");
    ask("GET /v1/topics/orders/messages/5", "");
    refuse_now(STATUS_NOT_FOUND, "seq", 1);
    cr_refused(404, "not_found", "seq");
}

/* An answer that comes when nobody waits for one is let go. */
Test(http_messages, a_late_answer_hurts_nobody)
{
    struct search_result result = { .next_seq = 1 };

    ask("GET /v1/topics/orders/messages", "");
    session->door->closed(session);
    session->door->looked(session, 1, &result);
    cr_assert_eq(session->answer_count, 0);
}
