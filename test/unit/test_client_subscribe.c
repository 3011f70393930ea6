/* links: godwit_client godwit_proto */
/* with: test/lib/fake_broker.c test/lib/client_fixture.c */
/* Subscriptions: deliveries, verdicts, settlements, leases that move. */
#include "test/lib/client_fixture.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;
static char record[4096]; /* what the callbacks saw, in words */
static enum godwit_verdict verdict_of[256];
static struct godwit_subscription sub;

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void note(const char *format, ...)
{
    va_list args;
    size_t len;

    (void)pthread_mutex_lock(&record_lock);
    len = strlen(record);
    va_start(args, format);
    (void)vsnprintf(record + len, sizeof record - len, format, args);
    va_end(args);
    (void)pthread_mutex_unlock(&record_lock);
}

static bool noted(const char *text)
{
    struct timespec one = { .tv_nsec = 1000000 };
    bool found = false;

    for (int i = 0; i < 5000 && !found; i++) {
        (void)pthread_mutex_lock(&record_lock);
        found = strstr(record, text) != NULL;
        (void)pthread_mutex_unlock(&record_lock);
        if (!found) {
            (void)nanosleep(&one, NULL);
        }
    }
    return found;
}

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *d)
{
    (void)arg;
    note("[%s %llu %.*s=%.*s %zu %u %llu %.*s:%.*s]", d->topic,
         (unsigned long long)d->seq, (int)d->key_len, d->key, (int)d->body_len,
         (const char *)d->body, d->header_count, d->attempt,
         (unsigned long long)d->time_us, (int)d->headers[0].name_len,
         d->headers[0].name, (int)d->headers[0].value_len, d->headers[0].value);
    return verdict_of[d->seq];
}

static void on_settled(void *arg, const char *topic, uint64_t first,
                       uint64_t last, const char *outcome,
                       enum godwit_status status)
{
    (void)arg;
    note("{%s %llu-%llu %s %d}", topic, (unsigned long long)first,
         (unsigned long long)last, outcome, (int)status);
}

static void on_gap(void *arg, const char *topic, uint64_t first, uint64_t last)
{
    (void)arg;
    note("<gap %s %llu-%llu>", topic, (unsigned long long)first,
         (unsigned long long)last);
}

static void set_up(void)
{
    fixture_set_up();
    record[0] = '\0';
    sub = (struct godwit_subscription) { .group = "group",
                                         .handler = on_delivery,
                                         .on_settled = on_settled,
                                         .on_gap = on_gap };
}

TestSuite(client_subscribe, .init = set_up, .fini = fixture_tear_down,
          .timeout = 60);

static void expect(struct wire_request *request, enum request_kind kind)
{
    cr_assert(fake_broker_next(&broker, request), "no request: %s",
              last_error());
    cr_assert_eq(request->kind, kind);
}

static void attach(void)
{
    struct wire_request request;

    connect_client();
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
    expect(&request, REQUEST_ATTACH);
    cr_assert(fake_broker_attach(&broker, request.id));
}

static void expect_settle(struct wire_request *request,
                          enum settle_action action, uint64_t first,
                          uint64_t last)
{
    expect(request, REQUEST_SETTLE);
    cr_assert_eq(request->settle.action, action);
    cr_assert_eq(request->settle.count, 1);
    cr_assert_eq(request->settle.ranges[0].first, first);
    cr_assert_eq(request->settle.ranges[0].last, last);
    cr_assert_eq(request->settle.lease, 0);
}

Test(client_subscribe, attaches_with_its_credit_and_its_defaults)
{
    struct wire_request request;

    connect_client();
    sub.credit_messages = 5;
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_EXISTS);
    expect(&request, REQUEST_ATTACH);
    cr_assert(slice_is(request.attach.group, "group"));
    cr_assert_eq(request.attach.credit_messages, 5);
    cr_assert_eq(request.attach.credit_bytes, 16 * 1024 * 1024);
}

Test(client_subscribe, refuses_what_no_broker_would_take)
{
    connect_client();
    sub.group = "no group";
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_INVALID);
    sub.group = "group";
    sub.handler = NULL;
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_INVALID);
    sub.handler = on_delivery;
    sub.credit_messages = CREDIT_MESSAGES_MAX + 1;
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_INVALID);
    sub.credit_messages = CREDIT_MESSAGES_MAX;
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
}

Test(client_subscribe, hands_over_all_parts_and_acks_what_the_handler_acks)
{
    struct wire_request request;

    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 3));
    expect_settle(&request, SETTLE_ACK, 1, 3);
    cr_assert(slice_is(request.settle.topic, "topic"));
    cr_assert(noted("[topic 1 key=body 1 1 1 1000 name:value]"));
    cr_assert(noted("[topic 3 key=body 3 1 1 1002 name:value]"));
    cr_assert(fake_broker_settled(&broker, request.id, "topic", 1, 3,
                                  OUTCOME_ACCEPTED));
    cr_assert(noted("{topic 1-3 accepted 0}"));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
}

Test(client_subscribe, verdicts_that_differ_go_apart)
{
    struct wire_request request;

    verdict_of[2] = GODWIT_NACK;
    verdict_of[3] = GODWIT_NACK;
    verdict_of[4] = GODWIT_RELEASE;
    verdict_of[5] = GODWIT_LATER;
    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 6));
    expect(&request, REQUEST_SETTLE);
    cr_assert_eq(request.settle.action, SETTLE_ACK);
    cr_assert_eq(request.settle.count, 2); /* 1 and 6 in one request */
    cr_assert_eq(request.settle.ranges[1].first, 6);
    expect_settle(&request, SETTLE_NACK, 2, 3);
    expect_settle(&request, SETTLE_RELEASE, 4, 4);
    cr_assert(fake_broker_silent(&broker));
    cr_assert_eq(
        godwit_settle(client, GODWIT_DO_EXTEND, "topic", 5, 5, 700, "slow"),
        GODWIT_OK);
    expect_settle(&request, SETTLE_EXTEND, 5, 5);
    cr_assert_eq(request.settle.delay_ms, 700);
    cr_assert(slice_is(request.settle.reason, "slow"));
}

Test(client_subscribe, outcomes_and_refusals_are_told_range_by_range)
{
    struct wire_request request;

    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 1));
    expect_settle(&request, SETTLE_ACK, 1, 1);
    cr_assert(
        fake_broker_settled(&broker, request.id, "topic", 1, 1, OUTCOME_LATE));
    cr_assert(noted("{topic 1-1 late 0}"));
    cr_assert(fake_broker_deliver(&broker, "topic", 2, 2));
    expect_settle(&request, SETTLE_ACK, 2, 2);
    cr_assert(fake_broker_refuse(&broker, request.id, 0, STATUS_FROZEN, "ice"));
    cr_assert(noted("{topic 2-2 refused 11}"));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
}

Test(client_subscribe, flush_waits_for_the_answers_of_settlements)
{
    struct wire_request request;

    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 1));
    expect_settle(&request, SETTLE_ACK, 1, 1);
    cr_assert_eq(godwit_flush(client, 20), GODWIT_TIMEOUT);
    cr_assert(fake_broker_settled(&broker, request.id, "topic", 1, 1,
                                  OUTCOME_ACCEPTED));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
}

Test(client_subscribe, tells_gaps)
{
    attach();
    cr_assert_eq(codec_gap_write(fake_broker_reply(&broker),
                                 slice_text("topic"),
                                 (struct seq_range) { 4, 9 }),
                 STATUS_OK);
    cr_assert(fake_broker_send_reply(&broker));
    cr_assert(noted("<gap topic 4-9>"));
}

Test(client_subscribe, acks_go_again_after_a_reconnect_and_nacks_do_not)
{
    struct wire_request request;

    verdict_of[2] = GODWIT_NACK;
    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 2));
    expect_settle(&request, SETTLE_ACK, 1, 1);
    expect_settle(&request, SETTLE_NACK, 2, 2);
    cr_assert(fake_broker_connect(&broker)); /* nothing was answered */
    expect(&request, REQUEST_ATTACH);
    cr_assert(noted("{topic 2-2 refused 13}"));
    cr_assert(fake_broker_silent(&broker)); /* not before it is attached */
    cr_assert(fake_broker_attach(&broker, request.id));
    expect_settle(&request, SETTLE_ACK, 1, 1);
    cr_assert(fake_broker_settled(&broker, request.id, "topic", 1, 1,
                                  OUTCOME_ACCEPTED));
    cr_assert(noted("{topic 1-1 accepted 0}"));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
}

Test(client_subscribe, a_group_that_is_not_there_ends_it)
{
    struct wire_request request;

    connect_client();
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
    expect(&request, REQUEST_ATTACH);
    cr_assert(fake_broker_refuse(&broker, request.id, 0, STATUS_NOT_FOUND,
                                 "no group of this name"));
    cr_assert(wait_state(GODWIT_ENDED));
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_NOT_FOUND);
    cr_assert_not_null(strstr(last_error(), "attach refused: no group"));
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_CLOSED);
}

Test(client_subscribe, a_detached_one_attaches_again)
{
    struct wire_request request;

    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 1));
    expect_settle(&request, SETTLE_ACK, 1, 1);
    cr_assert_eq(codec_detached_write(fake_broker_reply(&broker), 0,
                                      slice_text("deleted")),
                 STATUS_OK);
    cr_assert(fake_broker_send_reply(&broker));
    cr_assert(fake_broker_connect(&broker));
    expect(&request, REQUEST_ATTACH);
}

Test(client_subscribe, unsubscribing_sends_verdicts_first_and_drops_the_rest)
{
    struct wire_request request;

    verdict_of[1] = GODWIT_LATER;
    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 1));
    cr_assert(noted("[topic 1 "));
    cr_assert_eq(godwit_settle(client, GODWIT_DO_ACK, "topic", 1, 1, 0, NULL),
                 GODWIT_OK);
    expect_settle(&request, SETTLE_ACK, 1, 1);
    cr_assert_eq(godwit_unsubscribe(client), GODWIT_OK);
    cr_assert_eq(godwit_unsubscribe(client), GODWIT_NOT_FOUND);
    cr_assert_eq(godwit_settle(client, GODWIT_DO_ACK, "topic", 1, 1, 0, NULL),
                 GODWIT_CLOSED);
    cr_assert(fake_broker_settled(&broker, request.id, "topic", 1, 1,
                                  OUTCOME_ACCEPTED));
    expect(&request, REQUEST_DETACH);
    cr_assert(fake_broker_deliver(&broker, "topic", 2, 2));
    cr_assert_eq(codec_detached_write(fake_broker_reply(&broker), request.id,
                                      slice_text("asked")),
                 STATUS_OK);
    cr_assert(fake_broker_send_reply(&broker));
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
    expect(&request, REQUEST_ATTACH); /* no verdict on 2 before it */
    cr_assert_null(strstr(record, "[topic 2"));
}

Test(client_subscribe, another_group_is_taken_after_leaving_the_first)
{
    struct wire_request request;

    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 1));
    expect_settle(&request, SETTLE_ACK, 1, 1); /* so it is attached */
    cr_assert_eq(godwit_unsubscribe(client), GODWIT_OK);
    sub.group = "other";
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
    expect(&request, REQUEST_DETACH);
    cr_assert_eq(codec_detached_write(fake_broker_reply(&broker), request.id,
                                      slice_text("asked")),
                 STATUS_OK);
    cr_assert(fake_broker_send_reply(&broker));
    expect(&request, REQUEST_ATTACH);
    cr_assert(slice_is(request.attach.group, "other"));
}

Test(client_subscribe, settle_refuses_what_is_out_of_range)
{
    static char reason[REASON_LEN_MAX + 2];

    attach();
    cr_assert_eq(godwit_settle(client, GODWIT_DO_ACK, "topic", 0, 1, 0, NULL),
                 GODWIT_INVALID);
    cr_assert_eq(godwit_settle(client, GODWIT_DO_ACK, "topic", 2, 1, 0, NULL),
                 GODWIT_INVALID);
    cr_assert_eq(
        godwit_settle(client, (enum godwit_action)6, "topic", 1, 1, 0, NULL),
        GODWIT_INVALID);
    cr_assert_eq(godwit_settle(client, GODWIT_DO_NACK, "topic", 1, 1,
                               DELAY_MS_MAX + (uint64_t)1, NULL),
                 GODWIT_INVALID);
    memset(reason, 'r', REASON_LEN_MAX + 1);
    cr_assert_eq(
        godwit_settle(client, GODWIT_DO_NACK, "topic", 1, 1, 0, reason),
        GODWIT_INVALID);
    reason[REASON_LEN_MAX] = '\0';
    cr_assert_eq(
        godwit_settle(client, GODWIT_DO_NACK, "topic", 1, 1, 0, reason),
        GODWIT_OK);
}

/* ---- a broker that breaks the rules ---- */

static void on_state(void *arg, enum godwit_state state, enum godwit_status why,
                     const char *text)
{
    (void)arg;
    (void)why;
    if (state == GODWIT_CONNECTING) {
        note("(%s)", text);
    }
}

static void forget_notes(void)
{
    (void)pthread_mutex_lock(&record_lock);
    record[0] = '\0';
    (void)pthread_mutex_unlock(&record_lock);
}

/* Each of these must cost the connection, not the process, and for the reason
 * it was made for: the client comes back and works. */
static void break_with(const void *bytes, size_t len, const char *words)
{
    forget_notes();
    cr_assert(fake_broker_send(&broker, bytes, len));
    cr_assert(noted(words), "wanted %s, got %s", words, record);
    cr_assert(fake_broker_connect(&broker));
}

#define BREAK(bytes, words) break_with(bytes, sizeof(bytes) - 1, words)

Test(client_subscribe, bad_frames_cost_the_connection_only)
{
    struct wire_request request;

    options.on_state = on_state;
    connect_client();
    BREAK("\x82\x81\x01\x02\x03\x04\x05", "sent a masked frame");
    BREAK("\xC2\x01z", "reserved bits");
    BREAK("\x81\x02{}", "a text frame");
    BREAK("\x83\x01z", "unknown opcode");
    BREAK("\x80\x01z", "a fragment out of place");
    BREAK("\x02\x01z\x82\x01z", "a fragment out of place");
    BREAK("\x09\x00", "a control frame in pieces, or too long");
    BREAK("\x89\x7E\x00\x7E", "a control frame in pieces, or too long");
    BREAK("\x82\x7E\x00\x01z", "a malformed frame");
    BREAK("\x82\x7F\x00\x00\x00\x00\x00\x40\x00\x01",
          "a message over 4194304 bytes");
    BREAK("\x82\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "a malformed frame");
    BREAK("\x88\x00", "closed by the broker with code 0");
    BREAK("\x88\x05\x03\xE9why", "closed by the broker with code 1001: why");
    BREAK("\x82\x00", "a malformed reply");
    BREAK("\x82\x04\xFF\xFF\xFF\xFF", "a malformed reply");
    BREAK("HTTP/1.1 200 OK\r\n\r\n", "the broker sent");
    cr_assert_eq(publish_one("topic", 1), GODWIT_OK);
    expect(&request, REQUEST_PUBLISH);
}

Test(client_subscribe, a_reply_of_an_unknown_kind_is_ignored)
{
    static const char newer[] = "\x82\x02\x7A\x00"        /* kind 15, empty */
                                "\x82\x05\xFA\x07\x02zz"; /* kind 127 */
    struct wire_request request;

    options.on_state = on_state;
    connect_client();
    forget_notes();
    cr_assert(fake_broker_send(&broker, newer, sizeof newer - 1));
    cr_assert_eq(publish_one("topic", 1), GODWIT_OK);
    expect(&request, REQUEST_PUBLISH);
    cr_assert(fake_broker_confirm(&broker, request.id, 1, 1, false));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
    cr_assert_str_eq(record, "", "the connection was kept");
}

Test(client_subscribe, a_message_of_4_mib_in_pieces_is_over_the_bound_too)
{
    static uint8_t piece[10 + 3 * 1024 * 1024] = { 0x02, 0x7F, 0,    0, 0,
                                                   0,    0,    0x30, 0, 0 };

    options.on_state = on_state;
    connect_client();
    cr_assert(fake_broker_send(&broker, piece, sizeof piece));
    piece[0] = 0x00;
    break_with(piece, 10, "a message over 4194304 bytes");
}

static void reconnected_for(const char *words)
{
    cr_assert(noted(words), "wanted %s, got %s", words, record);
    forget_notes();
    cr_assert(fake_broker_connect(&broker));
}

Test(client_subscribe, replies_out_of_place_cost_the_connection_only)
{
    struct wire_request request;

    options.on_state = on_state;
    connect_client();
    cr_assert_eq(publish_one("topic", 1), GODWIT_OK);
    expect(&request, REQUEST_PUBLISH);
    cr_assert(fake_broker_confirm(&broker, 1, 2, 1, false)); /* one too many */
    reconnected_for("confirmed what was not sent");
    expect(&request, REQUEST_PUBLISH);
    cr_assert(fake_broker_confirm(&broker, 0, 1, 1, false));
    reconnected_for("confirmed what was not sent");
    expect(&request, REQUEST_PUBLISH);
    cr_assert(fake_broker_confirm(&broker, 1, UINT64_MAX, 1, false));
    reconnected_for("confirmed what was not sent");
    expect(&request, REQUEST_PUBLISH);
    cr_assert(fake_broker_refuse(&broker, 2, 1, STATUS_INVALID, "x"));
    reconnected_for("refused what was not sent");
    expect(&request, REQUEST_PUBLISH);
    cr_assert(fake_broker_attach(&broker, 5));
    reconnected_for("attached us out of place");
    expect(&request, REQUEST_PUBLISH);
    cr_assert(fake_broker_settled(&broker, 5, "t", 1, 1, OUTCOME_ACCEPTED));
    reconnected_for("settled what was not asked");
    expect(&request, REQUEST_PUBLISH);
    cr_assert(fake_broker_welcome(&broker)); /* a second one */
    reconnected_for("a welcome out of place");
    expect(&request, REQUEST_PUBLISH);
    cr_assert_eq(seen[1].calls, 0);
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, false));
    cr_assert(was_called(1));
}

Test(client_subscribe, a_second_attachment_costs_the_connection)
{
    struct wire_request request;

    options.on_state = on_state;
    connect_client();
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
    expect(&request, REQUEST_ATTACH);
    cr_assert(fake_broker_attach(&broker, request.id));
    cr_assert(fake_broker_attach(&broker, request.id));
    reconnected_for("attached us out of place");
}

Test(client_subscribe, a_message_in_fragments_with_a_ping_between_is_whole)
{
    struct bytes *reply;
    struct wire_confirm confirm = { .id = 1, .count = 1, .seq = 77 };
    struct wire_request request;
    uint8_t frame[64];

    connect_client();
    cr_assert_eq(publish_one("topic", 1), GODWIT_OK);
    expect(&request, REQUEST_PUBLISH);
    reply = fake_broker_reply(&broker);
    cr_assert_eq(codec_confirm_write(reply, &confirm), STATUS_OK);
    for (size_t i = 0; i < bytes_len(reply); i++) {
        bool last = i + 1 == bytes_len(reply);
        frame[0] = (uint8_t)((last ? 0x80 : 0) | (i == 0 ? 2 : 0));
        frame[1] = 1;
        frame[2] = bytes_begin(reply)[i];
        cr_assert(fake_broker_send(&broker, frame, 3));
        cr_assert(fake_broker_send(&broker, "\x89\x02hi", 4));
    }
    cr_assert(was_called(1));
    cr_assert_eq(seen[1].seq, 77);
}

Test(client_subscribe, a_delivery_that_is_no_message_costs_the_connection_only)
{
    struct wire_delivery bad = { .seq = 1,
                                 .attempt = 1,
                                 .message = slice_text("\x0A\x05x") };
    struct bytes *reply;
    struct wire_request request;

    attach();
    reply = fake_broker_reply(&broker);
    cr_assert_eq(codec_deliver_begin(reply, slice_text("topic"),
                                     codec_delivery_len(&bad)),
                 STATUS_OK);
    cr_assert_eq(codec_delivery_write(reply, &bad), STATUS_OK);
    cr_assert(fake_broker_send_reply(&broker));
    cr_assert(fake_broker_connect(&broker));
    expect(&request, REQUEST_ATTACH);
}

/* Bytes by chance, and good replies with one byte changed. */
Test(client_subscribe, garbage_never_harms)
{
    uint64_t random = 0x9E3779B97F4A7C15u;
    struct wire_request request;

    attach();
    for (int round = 0; round < 200; round++) {
        struct bytes *reply = fake_broker_reply(&broker);
        struct wire_confirm confirm = { .id = 1, .count = 1, .seq = 77 };
        size_t at;
        cr_assert_eq(codec_confirm_write(reply, &confirm), STATUS_OK);
        cr_assert_eq(codec_gap_write(reply, slice_text("topic"),
                                     (struct seq_range) { 1, 2 }),
                     STATUS_OK);
        random = random * 6364136223846793005u + 1442695040888963407u;
        at = (size_t)(random >> 33) % bytes_len(reply);
        bytes_begin(reply)[at] = (uint8_t)(random >> 20);
        if (!fake_broker_send_reply(&broker)
            || !fake_broker_send(&broker, &random, sizeof random)) {
            cr_assert(fake_broker_connect(&broker));
        }
    }
    fake_broker_drop(&broker);
    do { /* tries that were begun before may be waiting in the backlog */
        cr_assert(fake_broker_connect(&broker));
    } while (!fake_broker_next(&broker, &request));
    cr_assert_eq(request.kind, REQUEST_ATTACH);
}
