/* links: godwit_client godwit_proto */
/* with: test/lib/fake_broker.c test/lib/client_fixture.c */
/* Pulling and calls over HTTP. */
#include "test/lib/client_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char answer[128 * 1024];

/* What the broker will answer to everything. */
static void answer_with(const char *head, const void *body, size_t len)
{
    int head_len = snprintf(answer, sizeof answer,
                            "%sContent-Length: %zu\r\n\r\n", head, len);

    cr_assert(head_len > 0 && (size_t)head_len + len <= sizeof answer);
    if (len > 0) {
        memcpy(answer + head_len, body, len);
    }
    broker.http_answer = answer;
    broker.http_answer_len = (size_t)head_len + len;
}

static void answer_text(const char *whole)
{
    broker.http_answer = whole;
    broker.http_answer_len = strlen(whole);
}

/* Calls need no engine: with a caller's loop nothing else connects. */
static void set_up(void)
{
    fixture_set_up();
    options.own_thread = false;
    open_client();
}

TestSuite(client_http, .init = set_up, .fini = fixture_tear_down,
          .timeout = 30);

/* Stops the broker, so that what it saw may be read. */
static const char *request_seen(void)
{
    fake_broker_stop(&broker);
    return broker.http_request;
}

Test(client_http, call_asks_with_a_signature_and_gives_the_answer)
{
    struct godwit_response response;
    const char *request;

    answer_with("HTTP/1.1 201 Created\r\n", "{\"a\":1}", 7);
    fake_broker_play(&broker);
    cr_assert_eq(godwit_call(client, "POST", "/v1/topics", "{\"name\":\"t\"}",
                             &response, 5000),
                 GODWIT_OK);
    cr_assert_eq(response.code, 201);
    cr_assert_str_eq(response.body, "{\"a\":1}");
    cr_assert_eq(response.body_len, 7);
    godwit_response_fini(&response);
    request = request_seen();
    cr_assert(strncmp(request, "POST /v1/topics HTTP/1.1\r\n", 26) == 0);
    cr_assert_not_null(strstr(
        request, "Authorization: Godwit-HMAC-SHA256 app=app,timestamp="));
    cr_assert_not_null(strstr(request, "Content-Type: application/json\r\n"));
    cr_assert_not_null(strstr(request, "\r\n\r\n{\"name\":\"t\"}"));
    cr_assert_null(strstr(request, "secret"));
}

Test(client_http, call_keeps_its_connection)
{
    struct godwit_response response;

    answer_with("HTTP/1.1 200 OK\r\n", "x", 1);
    fake_broker_play(&broker);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(
            godwit_call(client, "GET", "/health", NULL, &response, 5000),
            GODWIT_OK);
        godwit_response_fini(&response);
        cr_assert_eq(client->http.idle_count, 1);
    }
    answer_text("HTTP/1.1 200 OK\r\nConnection: close\r\n"
                "Content-Length: 0\r\n\r\n");
    cr_assert_eq(godwit_call(client, "GET", "/health", NULL, &response, 5000),
                 GODWIT_OK);
    cr_assert_eq(response.body_len, 0);
    godwit_response_fini(&response);
    cr_assert_eq(client->http.idle_count, 0);
}

Test(client_http, an_answer_in_chunks_is_whole)
{
    struct godwit_response response;

    answer_text(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "4\r\nabcd\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n");
    fake_broker_play(&broker);
    cr_assert_eq(godwit_call(client, "GET", "/x", NULL, &response, 5000),
                 GODWIT_OK);
    cr_assert_str_eq(response.body, "abcd0123456789");
    godwit_response_fini(&response);
}

Test(client_http, malformed_answers_are_errors_with_words)
{
    static const char *const bad[] = {
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
         "ffffffffffffffffff\r\n"),
    };
    struct godwit_response response;

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        answer_text(bad[i]);
        fake_broker_play(&broker);
        cr_assert_eq(godwit_call(client, "GET", "/x", NULL, &response, 5000),
                     GODWIT_IO, "%s", bad[i]);
        cr_assert(strncmp(last_error(), "HTTP:", 5) == 0, "%s", last_error());
        cr_assert_eq(client->http.idle_count, 0);
        fake_broker_stop(&broker);
        fake_broker_drop(&broker);
    }
}

Test(client_http, an_answer_that_does_not_come_is_waited_for_no_longer)
{
    struct godwit_response response;

    answer_text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
    fake_broker_play(&broker);
    cr_assert_eq(godwit_call(client, "GET", "/x", NULL, &response, 50),
                 GODWIT_TIMEOUT);
}

Test(client_http, calls_that_are_no_requests_are_not_sent)
{
    struct godwit_response response;

    cr_assert_eq(godwit_call(client, "GET", "x", NULL, &response, 100),
                 GODWIT_INVALID);
    cr_assert_eq(godwit_call(client, "GET", "/a b", NULL, &response, 100),
                 GODWIT_INVALID);
    cr_assert_eq(godwit_call(client, "GET", "/a\r\nX: y", NULL, &response, 100),
                 GODWIT_INVALID);
    cr_assert_eq(godwit_call(client, "G\r\nT", "/a", NULL, &response, 100),
                 GODWIT_INVALID);
}

/* ---- pulling ---- */

static void add_deliveries(struct bytes *to, const char *topic, uint64_t first,
                           uint64_t last)
{
    struct bytes encoded = { .at = NULL };
    struct wire_message message = { .key = slice_text("k"),
                                    .body = slice_text("body"),
                                    .header_count = 1,
                                    .headers = { { slice_text("n"),
                                                   slice_text("v") } } };
    struct wire_delivery deliveries[16];
    size_t count = 0;

    cr_assert_eq(codec_message_write(&encoded, &message), STATUS_OK);
    for (uint64_t seq = first; seq <= last; seq++) {
        deliveries[count++] = (struct wire_delivery) {
            seq, 2, 1000, slice_of(bytes_begin(&encoded), bytes_len(&encoded))
        };
    }
    cr_assert_eq(codec_pulled_deliver(to, slice_text(topic), deliveries, count),
                 STATUS_OK);
    bytes_fini(&encoded);
}

static struct bytes pulled;

static struct bytes *pulled_begin(void)
{
    cr_assert_eq(codec_pulled_begin(&pulled, 77, 30000), STATUS_OK);
    return &pulled;
}

/* What was written since pulled_begin(). */
static struct godwit_batch *pull_it(void)
{
    struct godwit_batch *batch = NULL;

    answer_with("HTTP/1.1 200 OK\r\n", bytes_begin(&pulled),
                bytes_len(&pulled));
    bytes_fini(&pulled);
    fake_broker_play(&broker);
    cr_assert_eq(godwit_pull(client, "group", 10, 1500, &batch), GODWIT_OK,
                 "%s", last_error());
    return batch;
}

static struct godwit_batch *pull_batch(void)
{
    struct bytes *body = pulled_begin();

    add_deliveries(body, "a", 1, 3);
    add_deliveries(body, "a", 5, 5);
    add_deliveries(body, "b", 6, 7);
    return pull_it();
}

Test(client_http, pull_brings_messages_with_all_their_parts)
{
    struct godwit_batch *batch = pull_batch();
    const struct godwit_delivery *d;

    cr_assert_eq(godwit_batch_count(batch), 6);
    cr_assert_null(godwit_batch_at(batch, 6));
    d = godwit_batch_at(batch, 5);
    cr_assert_str_eq(d->topic, "b");
    cr_assert_eq(d->seq, 7);
    cr_assert_eq(d->attempt, 2);
    cr_assert_eq(d->time_us, 1000);
    cr_assert(memcmp(d->key, "k", 1) == 0 && d->key_len == 1);
    cr_assert(memcmp(d->body, "body", 4) == 0 && d->body_len == 4);
    cr_assert_eq(d->header_count, 1);
    cr_assert(memcmp(d->headers[0].value, "v", 1) == 0);
    godwit_batch_free(batch);
    cr_assert(
        strncmp(request_seen(), "POST /v1/groups/group/pull?max=10&wait=2 ", 41)
        == 0);
    cr_assert_not_null(
        strstr(broker.http_request, "Accept: application/protobuf\r\n"));
}

static void answer_settled(const struct wire_settled_range *ranges,
                           size_t count)
{
    struct bytes body = { .at = NULL };

    cr_assert_eq(
        codec_settled_body_write(&body, 1, slice_text("a"), ranges, count),
        STATUS_OK);
    fake_broker_stop(&broker);
    fake_broker_drop(&broker);
    answer_with("HTTP/1.1 200 OK\r\n", bytes_begin(&body), bytes_len(&body));
    bytes_fini(&body);
    fake_broker_play(&broker);
}

static void read_settle(struct codec *codec, struct wire_request *out)
{
    const char *end = strstr(request_seen(), "\r\n\r\n") + 4;
    struct slice body = slice_of(
        end, broker.http_request_len - (size_t)(end - broker.http_request));
    struct refusal refusal;

    cr_assert_eq(codec_settle_body_read(codec, body, out, &refusal), STATUS_OK);
}

Test(client_http, settle_names_the_lease_and_counts_what_was_accepted)
{
    struct godwit_batch *batch = pull_batch();
    struct wire_settled_range ranges[] = { { 1, 2, OUTCOME_ACCEPTED, 0 },
                                           { 3, 3, OUTCOME_LATE, 9 } };
    struct codec *codec = codec_new();
    struct wire_request request;
    uint64_t accepted = 0;

    answer_settled(ranges, 2);
    cr_assert_eq(godwit_batch_settle(client, batch, GODWIT_DO_NACK, "a", 1, 3,
                                     500, "no stock", &accepted),
                 GODWIT_OK, "%s", last_error());
    cr_assert_eq(accepted, 2);
    read_settle(codec, &request);
    cr_assert_eq(request.settle.action, SETTLE_NACK);
    cr_assert_eq(request.settle.lease, 77);
    cr_assert_eq(request.settle.delay_ms, 500);
    cr_assert(slice_is(request.settle.reason, "no stock"));
    cr_assert_eq(request.settle.ranges[0].last, 3);
    cr_assert_eq(godwit_batch_settle(client, batch, GODWIT_DO_ACK, "a", 3, 2, 0,
                                     NULL, NULL),
                 GODWIT_INVALID);
    godwit_batch_free(batch);
    codec_free(codec);
}

Test(client_http, ack_of_a_batch_is_one_request_a_topic)
{
    struct godwit_batch *batch = pull_batch();
    struct wire_settled_range all = { 1, 3, OUTCOME_ACCEPTED, 0 };
    struct codec *codec = codec_new();
    struct wire_request request;
    uint64_t accepted = 0;
    int before;

    answer_settled(&all, 1);
    before = atomic_load(&broker.http_requests);
    cr_assert_eq(godwit_batch_ack(client, batch, &accepted), GODWIT_OK);
    cr_assert_eq(accepted, 6); /* three in each of two answers */
    cr_assert_eq(atomic_load(&broker.http_requests), before + 2);
    read_settle(codec, &request);
    cr_assert(slice_is(request.settle.topic, "b"));
    cr_assert_eq(request.settle.count, 1);
    cr_assert_eq(request.settle.ranges[0].first, 6);
    godwit_batch_free(batch);
    codec_free(codec);
}

Test(client_http, ack_of_a_batch_that_mixes_topics_is_one_request_a_topic)
{
    static const char *const topics[] = { "a", "b", "c", "d" };
    struct wire_settled_range all = { 1, 4, OUTCOME_ACCEPTED, 0 };
    struct bytes *body = pulled_begin();
    struct codec *codec = codec_new();
    struct wire_request request;
    struct godwit_batch *batch;
    uint64_t accepted = 0;
    int before;

    for (uint64_t seq = 1; seq <= 4; seq++) {
        for (size_t i = 0; i < COUNT_OF(topics); i++) {
            add_deliveries(body, topics[i], seq, seq);
        }
    }
    batch = pull_it();
    answer_settled(&all, 1);
    before = atomic_load(&broker.http_requests);
    cr_assert_eq(godwit_batch_ack(client, batch, &accepted), GODWIT_OK);
    cr_assert_eq(accepted, 16);
    cr_assert_eq(atomic_load(&broker.http_requests), before + 4);
    read_settle(codec, &request);
    cr_assert(slice_is(request.settle.topic, "d"));
    cr_assert_eq(request.settle.count, 1);
    cr_assert_eq(request.settle.ranges[0].first, 1);
    cr_assert_eq(request.settle.ranges[0].last, 4);
    godwit_batch_free(batch);
    codec_free(codec);
}

static struct godwit_batch *pull_runs(uint64_t count)
{
    struct bytes *body = pulled_begin();

    for (uint64_t i = 0; i < count; i++) {
        add_deliveries(body, "a", 1 + 2 * i, 1 + 2 * i);
    }
    return pull_it();
}

Test(client_http, ack_of_more_runs_than_a_request_holds_is_two)
{
    for (int more = 0; more <= 1; more++) {
        struct wire_settled_range one = { 1, 1, OUTCOME_ACCEPTED, 0 };
        struct godwit_batch *batch =
            pull_runs((uint64_t)(RANGE_COUNT_MAX + more));
        int before;

        answer_settled(&one, 1);
        before = atomic_load(&broker.http_requests);
        cr_assert_eq(godwit_batch_ack(client, batch, NULL), GODWIT_OK, "%s",
                     last_error());
        cr_assert_eq(atomic_load(&broker.http_requests), before + 1 + more);
        fake_broker_stop(&broker);
        fake_broker_drop(&broker);
        godwit_batch_free(batch);
    }
}

Test(client_http, ack_after_a_nack_is_of_the_rest)
{
    static const enum godwit_action actions[] = {
        GODWIT_DO_NACK, GODWIT_DO_RELEASE, GODWIT_DO_REJECT, GODWIT_DO_ACK
    };
    struct wire_settled_range one = { 2, 2, OUTCOME_ACCEPTED, 0 };
    struct codec *codec = codec_new();
    struct wire_request request;

    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        struct godwit_batch *batch = pull_batch();
        int before;

        answer_settled(&one, 1);
        before = atomic_load(&broker.http_requests);
        cr_assert_eq(godwit_batch_settle(client, batch, GODWIT_DO_ACK, "b", 6,
                                         7, 0, NULL, NULL),
                     GODWIT_OK);
        cr_assert_eq(godwit_batch_settle(client, batch, actions[i], "a", 2, 2,
                                         0, NULL, NULL),
                     GODWIT_OK);
        cr_assert_eq(godwit_batch_ack(client, batch, NULL), GODWIT_OK);
        cr_assert_eq(atomic_load(&broker.http_requests), before + 3);
        cr_assert_eq(godwit_batch_ack(client, batch, NULL), GODWIT_OK);
        cr_assert_eq(atomic_load(&broker.http_requests), before + 3);
        read_settle(codec, &request);
        cr_assert_eq(request.settle.action, SETTLE_ACK);
        cr_assert(slice_is(request.settle.topic, "a"));
        cr_assert_eq(request.settle.count, 3);
        cr_assert_eq(request.settle.ranges[0].last, 1);
        cr_assert_eq(request.settle.ranges[1].first, 3);
        cr_assert_eq(request.settle.ranges[1].last, 3);
        cr_assert_eq(request.settle.ranges[2].first, 5);
        fake_broker_drop(&broker);
        godwit_batch_free(batch);
    }
    codec_free(codec);
}

Test(client_http, what_was_extended_is_acked)
{
    struct godwit_batch *batch = pull_batch();
    struct wire_settled_range one = { 6, 7, OUTCOME_ACCEPTED, 0 };
    struct codec *codec = codec_new();
    struct wire_request request;

    answer_settled(&one, 1);
    cr_assert_eq(godwit_batch_settle(client, batch, GODWIT_DO_EXTEND, "b", 6, 7,
                                     0, NULL, NULL),
                 GODWIT_OK);
    cr_assert_eq(godwit_batch_ack(client, batch, NULL), GODWIT_OK);
    read_settle(codec, &request);
    cr_assert_eq(request.settle.action, SETTLE_ACK);
    cr_assert(slice_is(request.settle.topic, "b"));
    godwit_batch_free(batch);
    codec_free(codec);
}

/* Whether it counted is not known; an ack would undo it. */
Test(client_http, a_nack_that_fails_is_not_acked_and_an_ack_that_fails_is_again)
{
    struct godwit_batch *batch = pull_batch();
    struct wire_settled_range all = { 1, 3, OUTCOME_ACCEPTED, 0 };
    uint64_t accepted = 0;
    int before;

    fake_broker_stop(&broker);
    fake_broker_drop(&broker);
    answer_with("HTTP/1.1 503 Service Unavailable\r\n", "no", 2);
    fake_broker_play(&broker);
    cr_assert_eq(godwit_batch_settle(client, batch, GODWIT_DO_NACK, "a", 1, 5,
                                     0, NULL, NULL),
                 GODWIT_IO);
    cr_assert_eq(godwit_batch_ack(client, batch, NULL), GODWIT_IO);
    answer_settled(&all, 1);
    before = atomic_load(&broker.http_requests);
    cr_assert_eq(godwit_batch_ack(client, batch, &accepted), GODWIT_OK);
    cr_assert_eq(accepted, 3);
    cr_assert_eq(atomic_load(&broker.http_requests), before + 1);
    godwit_batch_free(batch);
}

Test(client_http, an_empty_batch_is_no_error)
{
    struct bytes body = { .at = NULL };
    struct godwit_batch *batch = NULL;

    cr_assert_eq(codec_pulled_begin(&body, 1, 30000), STATUS_OK);
    answer_with("HTTP/1.1 200 OK\r\n", bytes_begin(&body), bytes_len(&body));
    bytes_fini(&body);
    fake_broker_play(&broker);
    cr_assert_eq(godwit_pull(client, "group", 10, 0, &batch), GODWIT_OK);
    cr_assert_eq(godwit_batch_count(batch), 0);
    cr_assert_eq(godwit_batch_ack(client, batch, NULL), GODWIT_OK);
    godwit_batch_free(batch);
    godwit_batch_free(NULL);
}

Test(client_http, a_refused_pull_has_the_brokers_status_and_words)
{
    static const char json[] = "{\"refused\":{\"status\":\"frozen\","
                               "\"limit\":\"store\","
                               "\"text\":\"an \\\"I/O\\\" error\"}}";
    struct godwit_batch *batch = NULL;

    answer_with("HTTP/1.1 503 Service Unavailable\r\n", json, strlen(json));
    fake_broker_play(&broker);
    cr_assert_eq(godwit_pull(client, "group", 10, 0, &batch), GODWIT_FROZEN);
    cr_assert_not_null(strstr(last_error(), "I/O"), "%s", last_error());
    cr_assert_null(batch);
    fake_broker_stop(&broker);
    fake_broker_drop(&broker);
    answer_with("HTTP/1.1 404 Not Found\r\n", "plain", 5);
    fake_broker_play(&broker);
    cr_assert_eq(godwit_pull(client, "group", 10, 0, &batch), GODWIT_NOT_FOUND);
    cr_assert_not_null(strstr(last_error(), "plain"));
    cr_assert_eq(godwit_pull(client, "no group", 10, 0, &batch),
                 GODWIT_INVALID);
}

Test(client_http, an_answer_that_is_no_batch_is_an_error)
{
    struct godwit_batch *batch = NULL;

    answer_with("HTTP/1.1 200 OK\r\n", "\xFF\xFF\xFF", 3);
    fake_broker_play(&broker);
    cr_assert_eq(godwit_pull(client, "group", 10, 0, &batch), GODWIT_IO);
    cr_assert_null(batch);
}
