/* links: godwit_client godwit_proto */
/* with: test/lib/fake_broker.c test/lib/client_fixture.c */
/* The client's connection and its publishes, against a broker the test plays. */
#include "test/lib/client_fixture.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

TestSuite(client, .init = fixture_set_up, .fini = fixture_tear_down,
          .timeout = 30);

/* ---- connecting ---- */

Test(client, open_names_what_is_missing_or_wrong)
{
    const char *why = NULL;

    options.url = "nonsense";
    cr_assert_eq(godwit_open(&client, &options, &why), GODWIT_INVALID);
    cr_assert(strncmp(why, "url:", 4) == 0);
    options.url = broker.url;
    options.app = NULL;
    cr_assert_eq(godwit_open(&client, &options, &why), GODWIT_INVALID);
    cr_assert(strncmp(why, "app:", 4) == 0);
    options.app = "app";
    options.secret = "";
    cr_assert_eq(godwit_open(&client, &options, &why), GODWIT_INVALID);
    cr_assert(strncmp(why, "secret:", 7) == 0);
    options.secret = "secret";
    options.window = WINDOW_COUNT_MAX + 1;
    cr_assert_eq(godwit_open(&client, &options, &why), GODWIT_INVALID);
    options.window = 1000;
    options.url = "wss://127.0.0.1:1";
    options.ca_file = "/nonexistent";
    cr_assert_eq(godwit_open(&client, &options, &why), GODWIT_INVALID);
    cr_assert(strncmp(why, "ca_file:", 8) == 0);
    cr_assert_null(client);
}

Test(client, greets_with_a_signature_over_app_time_and_nonce)
{
    uint8_t expected[HMAC_LEN];
    char text[256];

    open_client();
    cr_assert(fake_broker_accept(&broker));
    cr_assert_not_null(strstr(broker.head, "GET /v1/stream HTTP/1.1\r\n"));
    cr_assert_not_null(
        strstr(broker.head, "Sec-WebSocket-Protocol: godwit.v1.proto\r\n"));
    cr_assert(slice_is(broker.hello.app, "app"));
    cr_assert_eq(broker.hello.secret.len, 0);
    cr_assert_eq(broker.hello.nonce.len, 32);
    cr_assert_neq(broker.hello.producer, 0);
    (void)snprintf(text, sizeof text, "app\n%llu\n%.*s",
                   (unsigned long long)broker.hello.timestamp_ms, 32,
                   (const char *)broker.hello.nonce.at);
    cr_assert(hmac_sha256(slice_text("secret"), slice_text(text), expected));
    cr_assert(slice_equal(broker.hello.signature,
                          slice_of(expected, sizeof expected)));
}

Test(client, greets_with_the_secret_when_asked_not_to_sign)
{
    options.sign = false;
    open_client();
    cr_assert(fake_broker_accept(&broker));
    cr_assert(slice_is(broker.hello.secret, "secret"));
    cr_assert_eq(broker.hello.signature.len, 0);
    cr_assert_neq(broker.hello.producer, 0);
}

Test(client, is_connected_only_when_welcomed)
{
    open_client();
    cr_assert(fake_broker_accept(&broker));
    cr_assert_eq(godwit_wait_connected(client, 20), GODWIT_TIMEOUT);
    cr_assert(fake_broker_welcome(&broker));
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_OK);
}

Test(client, says_in_words_that_nobody_listens)
{
    char url[64];

    (void)snprintf(url, sizeof url, "%s", broker.url);
    (void)close(broker.listen_fd);
    options.url = url;
    open_client();
    cr_assert_eq(godwit_wait_connected(client, 100), GODWIT_TIMEOUT);
    cr_assert_not_null(strstr(last_error(), url + strlen("ws://")), "%s",
                       last_error());
    cr_assert_not_null(strstr(last_error(), "Connection refused"), "%s",
                       last_error());
    broker.listen_fd = dup(0);
}

Test(client, a_wrong_secret_ends_it_with_the_brokers_words)
{
    open_client();
    cr_assert_eq(publish_one("topic", 1), GODWIT_OK);
    cr_assert(fake_broker_accept(&broker));
    cr_assert(fake_broker_refuse(&broker, broker.hello_id, 0,
                                 STATUS_UNAUTHENTICATED, "wrong signature"));
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_UNAUTHENTICATED);
    cr_assert_not_null(strstr(last_error(), "wrong signature"));
    cr_assert(was_called(1));
    cr_assert_eq(seen[1].status, GODWIT_UNAUTHENTICATED);
    cr_assert_eq(publish_one("topic", 2), GODWIT_CLOSED);
    cr_assert_eq(seen[2].calls, 0);
}

Test(client, an_upgrade_refused_for_good_ends_it_and_others_do_not)
{
    static const char no[] =
        "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nlate";
    static const char never[] =
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno go";

    open_client();
    cr_assert(fake_broker_accept_socket(&broker));
    cr_assert(fake_broker_read_head(&broker));
    cr_assert(fake_broker_send(&broker, no, strlen(no)));
    cr_assert(fake_broker_accept_socket(&broker)); /* it tries again */
    cr_assert_not_null(strstr(last_error(), "HTTP 503"));
    cr_assert(fake_broker_read_head(&broker));
    cr_assert(fake_broker_send(&broker, never, strlen(never)));
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_FORBIDDEN);
    cr_assert_not_null(strstr(last_error(), "no go"));
}

Test(client, an_answer_for_another_key_is_no_handshake)
{
    static const char other[] =
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: "
        "Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        "Sec-WebSocket-Protocol: godwit.v1.proto\r\n\r\n";
    struct wire_request request;

    open_client();
    cr_assert(fake_broker_accept_socket(&broker));
    cr_assert(fake_broker_read_head(&broker));
    cr_assert(fake_broker_send(&broker, other, strlen(other)));
    cr_assert(!fake_broker_next(&broker, &request)); /* no hello: it left */
    cr_assert(error_says("not a WebSocket handshake"), "%s", last_error());
    cr_assert(fake_broker_connect(&broker)); /* the next try */
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_OK);
}

Test(client, a_broker_that_never_answers_is_left_for_another_try)
{
    options.connect_timeout_ms = 30;
    open_client();
    cr_assert(fake_broker_accept_socket(&broker));
    cr_assert(fake_broker_connect(&broker));
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_OK);
}

Test(client, gives_up_when_told_to)
{
    options.connect_timeout_ms = 20;
    options.give_up_ms = 60;
    open_client();
    cr_assert_eq(publish_one("topic", 1), GODWIT_OK);
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_TIMEOUT);
    cr_assert(wait_state(GODWIT_ENDED));
    cr_assert(was_called(1));
    cr_assert_eq(seen[1].status, GODWIT_TIMEOUT);
}

/* ---- publishing ---- */

Test(client, publishes_are_pipelined_under_consecutive_ids_and_sequences)
{
    struct wire_request request;
    uint64_t next = 1;

    connect_client();
    for (int i = 1; i <= 10; i++) {
        cr_assert_eq(publish_one("topic", i), GODWIT_OK);
    }
    while (next <= 10) {
        cr_assert(fake_broker_next(&broker, &request));
        cr_assert_eq(request.kind, REQUEST_PUBLISH);
        cr_assert(slice_is(request.publish.topic, "topic"));
        cr_assert_eq(request.id, next);
        cr_assert_eq(request.publish.producer_seq, next);
        next += request.publish.count;
    }
    cr_assert(fake_broker_confirm(&broker, 1, 10, 101, false));
    for (int i = 1; i <= 10; i++) {
        cr_assert(was_called(i));
        cr_assert_eq(seen[i].status, GODWIT_OK);
        cr_assert_eq(seen[i].seq, 100 + (uint64_t)i);
        cr_assert_eq(seen[i].receipt.seq, 101);
        cr_assert_eq(seen[i].receipt.count, 10);
        cr_assert_eq(seen[i].receipt.segment, FAKE_SEGMENT);
        cr_assert_eq(seen[i].receipt.offset, FAKE_OFFSET);
        cr_assert_eq(seen[i].receipt.checksum, FAKE_CHECKSUM + 101);
    }
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
}

Test(client, a_message_arrives_whole)
{
    struct godwit_header headers[] = { { "h1", "v1" }, { "h2", "" } };
    struct godwit_message message = { .key = "key",
                                      .headers = headers,
                                      .header_count = 2,
                                      .body = "a\0b",
                                      .body_len = 3 };
    struct wire_request request;
    struct wire_message parts;
    struct refusal refusal;

    connect_client();
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_OK);
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert_eq(
        codec_message_check(request.publish.messages[0], &parts, &refusal),
        STATUS_OK);
    cr_assert(slice_is(parts.key, "key"));
    cr_assert(slice_equal(parts.body, slice_of("a\0b", 3)));
    cr_assert_eq(parts.header_count, 2);
    cr_assert(slice_is(parts.headers[0].name, "h1"));
    cr_assert(slice_is(parts.headers[1].value, ""));
}

Test(client, what_the_broker_would_refuse_is_refused_at_once)
{
    struct godwit_header unnamed = { "", "value" };
    struct godwit_message message = { .key = "\xff" };
    static char long_body[BODY_LEN_MAX + 1];

    connect_client();
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_INVALID);
    message.key = NULL;
    message.headers = &unnamed;
    message.header_count = 1;
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_INVALID);
    message.header_count = 0;
    cr_assert_eq(godwit_publish(client, "no topic", &message, NULL, NULL),
                 GODWIT_INVALID);
    message.body = long_body;
    message.body_len = BODY_LEN_MAX + 1;
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_TOO_LARGE);
    cr_assert_not_null(strstr(last_error(), "1048577"));
    message.body_len = BODY_LEN_MAX;
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_OK);
}

Test(client, a_refusal_completes_its_range_and_nothing_else)
{
    struct wire_request request;

    connect_client();
    for (int i = 1; i <= 5; i++) {
        cr_assert_eq(publish_one("topic", i), GODWIT_OK);
    }
    for (uint64_t got = 0; got < 5; got += request.publish.count) {
        cr_assert(fake_broker_next(&broker, &request));
    }
    cr_assert(fake_broker_refuse(&broker, 2, 3, STATUS_FORBIDDEN, "not yours"));
    for (int i = 2; i <= 4; i++) {
        cr_assert(was_called(i));
        cr_assert_eq(seen[i].status, GODWIT_FORBIDDEN);
        cr_assert_str_eq(seen[i].text, "not yours");
    }
    cr_assert_eq(seen[1].calls, 0);
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, false));
    cr_assert(fake_broker_confirm(&broker, 5, 1, 2, false));
    cr_assert(was_called(1));
    cr_assert(was_called(5));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
}

Test(client, a_full_window_is_said_in_a_callers_loop_and_waited_for_elsewhere)
{
    struct wire_request request;

    options.window = 4;
    connect_client();
    for (int i = 1; i <= 4; i++) {
        cr_assert_eq(publish_one("topic", i), GODWIT_OK);
    }
    for (uint64_t got = 0; got < 4; got += request.publish.count) {
        cr_assert(fake_broker_next(&broker, &request));
    }
    cr_assert(fake_broker_silent(&broker));
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, false));
    cr_assert_eq(publish_one("topic", 5), GODWIT_OK); /* waits for room */
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert_eq(request.id, 5);
}

static enum godwit_status in_callback[2];

static void on_confirm_publish(void *arg, const struct godwit_confirm *confirm)
{
    (void)confirm;
    in_callback[0] = publish_one("topic", 2);
    in_callback[1] = publish_one("topic", 3);
    *(atomic_bool *)arg = true;
}

Test(client, a_callback_may_publish_and_is_told_when_there_is_no_room)
{
    struct godwit_message message = { .body = "b", .body_len = 1 };
    atomic_bool called = false;
    struct wire_request request;

    options.window = 1;
    connect_client();
    cr_assert_eq(
        godwit_publish(client, "topic", &message, on_confirm_publish, &called),
        GODWIT_OK);
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, false));
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert_eq(request.id, 2);
    cr_assert(fake_broker_confirm(&broker, 2, 1, 2, false));
    cr_assert(was_called(2));
    cr_assert_eq(in_callback[0], GODWIT_OK);
    cr_assert_eq(in_callback[1], GODWIT_AGAIN);
}

static enum godwit_status wait_in_callback[4];

static void on_confirm_wait(void *arg, const struct godwit_confirm *confirm)
{
    struct godwit_message message = { .body = "b", .body_len = 1 };

    (void)confirm;
    wait_in_callback[0] = godwit_flush(client, 1000);
    wait_in_callback[1] = godwit_wait_connected(client, 1000);
    wait_in_callback[2] =
        godwit_publish_wait(client, "topic", &message, NULL, 1000);
    wait_in_callback[3] = godwit_step(client);
    atomic_store((atomic_bool *)arg, true);
}

Test(client, a_callback_that_would_wait_for_itself_is_told_so)
{
    struct godwit_message message = { .body = "b", .body_len = 1 };
    atomic_bool called = false;
    struct wire_request request;

    connect_client();
    cr_assert_eq(
        godwit_publish(client, "topic", &message, on_confirm_wait, &called),
        GODWIT_OK);
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, false));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
    cr_assert(atomic_load(&called)); /* flush waits for callbacks, too */
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(wait_in_callback[i], GODWIT_INVALID);
    }
}

/* ---- reconnecting ---- */

Test(client, what_was_not_confirmed_is_sent_again_under_the_same_sequences)
{
    struct wire_request request;
    struct godwit_figures figures;
    uint64_t next = 3;
    uint64_t producer;

    connect_client();
    for (int i = 1; i <= 6; i++) {
        cr_assert_eq(publish_one("topic", i), GODWIT_OK);
    }
    for (uint64_t got = 0; got < 6; got += request.publish.count) {
        cr_assert(fake_broker_next(&broker, &request));
    }
    cr_assert(fake_broker_confirm(&broker, 1, 2, 1, false));
    cr_assert(was_called(2));
    cr_assert(fake_broker_refuse(&broker, 4, 1, STATUS_NO_SPACE, "full"));
    cr_assert(was_called(4));
    producer = broker.hello.producer;
    cr_assert_neq(producer, 0);
    cr_assert(fake_broker_connect(&broker)); /* drops the old connection */
    cr_assert_eq(broker.hello.producer, producer);
    while (next <= 6) {
        cr_assert(fake_broker_next(&broker, &request));
        cr_assert_eq(request.id, next);
        cr_assert_eq(request.publish.producer_seq, next);
        next += request.publish.count;
        next += next == 4; /* refused: it does not come again */
    }
    cr_assert(fake_broker_confirm(&broker, 3, 1, 3, true));
    cr_assert(fake_broker_confirm(&broker, 5, 2, 4, false));
    cr_assert(was_called(3));
    cr_assert(seen[3].duplicate);
    cr_assert(was_called(6));
    cr_assert(!seen[6].duplicate);
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
    godwit_figures(client, &figures);
    cr_assert_eq(figures.connects, 2);
    cr_assert_eq(figures.resent, 3);
    cr_assert_eq(figures.duplicates, 1);
    cr_assert_eq(figures.confirmed, 5);
    cr_assert_eq(figures.refused, 1);
    cr_assert_eq(figures.unconfirmed, 0);
}

Test(client, a_duplicate_whose_seq_is_forgotten_has_none)
{
    struct wire_request request;

    connect_client();
    cr_assert_eq(publish_one("topic", 1), GODWIT_OK);
    cr_assert_eq(publish_one("topic", 2), GODWIT_OK);
    for (uint64_t got = 0; got < 2; got += request.publish.count) {
        cr_assert(fake_broker_next(&broker, &request));
    }
    cr_assert(fake_broker_confirm(&broker, 1, 2, 0, true));
    cr_assert(was_called(2));
    cr_assert(seen[2].duplicate);
    cr_assert_eq(seen[2].seq, 0);
}

Test(client, publishes_made_without_a_connection_wait_for_one)
{
    struct wire_request request;

    open_client();
    cr_assert_eq(publish_one("a", 1), GODWIT_OK);
    cr_assert_eq(publish_one("b", 2), GODWIT_OK);
    cr_assert_eq(publish_one("b", 3), GODWIT_OK);
    cr_assert(fake_broker_connect(&broker));
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert(slice_is(request.publish.topic, "a"));
    cr_assert_eq(request.publish.count, 1);
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert(slice_is(request.publish.topic, "b"));
    cr_assert_eq(request.publish.count, 2);
}

/* ---- closing ---- */

Test(client, close_completes_what_waits_and_says_so)
{
    struct wire_request request;

    connect_client();
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(publish_one("topic", i), GODWIT_OK);
    }
    for (uint64_t got = 0; got < 3; got += request.publish.count) {
        cr_assert(fake_broker_next(&broker, &request));
    }
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, false));
    cr_assert(was_called(1));
    godwit_close(client);
    client = NULL;
    for (int i = 2; i <= 3; i++) {
        cr_assert_eq(seen[i].calls, 1);
        cr_assert_eq(seen[i].status, GODWIT_CLOSED);
    }
    cr_assert(
        !fake_broker_next(&broker, &request)); /* a close frame, the end */
}

Test(client, close_accepts_null_and_an_unconnected_client)
{
    godwit_close(NULL);
    open_client();
    godwit_close(client);
    client = NULL;
}

/* ---- waiting publishes ---- */

Test(client, publish_wait_brings_the_confirm_or_the_refusal)
{
    struct godwit_message message = { .body = "b", .body_len = 1 };
    struct godwit_confirm confirm = { .seq = 0 };

    fake_broker_play(&broker);
    open_client();
    for (uint64_t i = 1; i <= 3; i++) {
        cr_assert_eq(
            godwit_publish_wait(client, "topic", &message, &confirm, 5000),
            GODWIT_OK);
        cr_assert_eq(confirm.seq, i);
        cr_assert_eq(confirm.receipt->seq, i);
        cr_assert_eq(confirm.receipt->count, 1);
        cr_assert_eq(confirm.receipt->checksum, FAKE_CHECKSUM + i);
    }
    cr_assert_eq(godwit_publish_wait(client, "-", &message, &confirm, 5000),
                 GODWIT_INVALID);
}

Test(client, publish_wait_that_times_out_may_complete_later_without_harm)
{
    struct godwit_message message = { .body = "b", .body_len = 1 };
    struct godwit_confirm confirm;
    struct wire_request request;

    options.window = 1;
    connect_client();
    cr_assert_eq(godwit_publish_wait(client, "topic", &message, &confirm, 20),
                 GODWIT_TIMEOUT);
    cr_assert_eq(godwit_publish_wait(client, "topic", &message, &confirm, 20),
                 GODWIT_TIMEOUT); /* for want of room */
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, false));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
}

Test(client, flush_times_out_while_something_is_unconfirmed)
{
    connect_client();
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
    cr_assert_eq(publish_one("topic", 1), GODWIT_OK);
    cr_assert_eq(godwit_flush(client, 30), GODWIT_TIMEOUT);
}

/* ---- the caller's own loop ---- */

static void poll_and_step(void)
{
    struct godwit_interest interest;
    struct pollfd fd;

    godwit_interest(client, &interest);
    fd = (struct pollfd) { .fd = interest.fd };
    fd.events =
        (short)((interest.read ? POLLIN : 0) | (interest.write ? POLLOUT : 0));
    (void)poll(&fd, 1,
               interest.timeout_ms < 0 || interest.timeout_ms > 100
                   ? 100
                   : interest.timeout_ms);
    cr_assert_eq(godwit_step(client), GODWIT_OK);
}

Test(client, a_callers_loop_drives_it)
{
    struct godwit_figures figures = { .confirmed = 0 };

    fake_broker_play(&broker);
    options.own_thread = false;
    options.window = 3;
    open_client();
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(publish_one("topic", i), GODWIT_OK);
    }
    cr_assert_eq(publish_one("topic", 4), GODWIT_AGAIN);
    for (int i = 0; i < 1000 && figures.confirmed < 3; i++) {
        poll_and_step();
        godwit_figures(client, &figures);
    }
    cr_assert_eq(figures.confirmed, 3);
    cr_assert_eq(publish_one("topic", 4), GODWIT_OK);
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK); /* steps by itself */
    cr_assert_eq(seen[4].calls, 1);
}

Test(client, a_callers_loop_survives_a_broken_connection)
{
    fake_broker_play(&broker);
    broker.drop_after = 5;
    broker.lose_confirms = true;
    options.own_thread = false;
    open_client();
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_OK);
    for (int i = 1; i <= 10; i++) {
        cr_assert_eq(publish_one("topic", i), GODWIT_OK);
    }
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
    for (int i = 1; i <= 10; i++) {
        cr_assert_eq(seen[i].calls, 1);
        cr_assert_eq(seen[i].status, GODWIT_OK);
    }
}

Test(client, with_an_own_thread_there_is_nothing_to_drive)
{
    struct godwit_interest interest;

    open_client();
    godwit_interest(client, &interest);
    cr_assert_eq(interest.fd, -1);
    cr_assert_eq(interest.timeout_ms, -1);
    cr_assert_eq(godwit_step(client), GODWIT_INVALID);
}

/* ---- silence ---- */

Test(client, asks_a_silent_broker_twice_and_then_takes_another_connection)
{
    struct wire_request request;

    options.own_thread = false;
    open_client();
    client->ping_ms = 30;
    fake_broker_play(&broker);
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_OK);
    fake_broker_stop(&broker);
    for (int i = 0; i < 1000 && client->phase == PHASE_RUNNING; i++) {
        poll_and_step();
    }
    cr_assert_not_null(strstr(last_error(), "no sign of life"), "%s",
                       last_error());
    for (int i = 0; i < CLIENT_PING_COUNT_MAX; i++) {
        cr_assert(fake_broker_next(&broker, &request));
        cr_assert_eq(request.kind, REQUEST_PING);
    }
    cr_assert(!fake_broker_next(&broker, &request));
}
