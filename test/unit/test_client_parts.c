/* links: godwit_client godwit_proto */
/* The client's pure parts: URLs, HTTP heads, the window, settlements. */
#include "client/http_head.h"
#include "client/settle.h"
#include "client/url.h"
#include "client/window.h"
#include "proto/codec.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* ---- url ---- */

static bool url_fine(const char *text, struct url *out)
{
    const char *why = NULL;

    if (url_read(out, text, &why) == STATUS_OK) {
        return true;
    }
    cr_assert(why != NULL, "a refusal without words: %s", text);
    return false;
}

Test(client_url, takes_what_names_a_broker)
{
    struct url url;

    cr_assert(url_fine("ws://127.0.0.1:1", &url));
    cr_assert_str_eq(url.host, "127.0.0.1");
    cr_assert_str_eq(url.port, "1");
    cr_assert(!(url.tls));
    cr_assert(url_fine("wss://broker.example/", &url));
    cr_assert_str_eq(url.authority, "broker.example:7654");
    cr_assert(url.tls);
    cr_assert(url_fine("https://[::1]:65535", &url));
    cr_assert_str_eq(url.host, "::1");
    cr_assert_str_eq(url.authority, "[::1]:65535");
    cr_assert(url_fine("http://localhost", &url));
}

Test(client_url, refuses_everything_else)
{
    static const char *const bad[] = {
        "",          "127.0.0.1:1",       "tcp://a",       "ws://",
        "ws://:1",   "ws://a:0",          "ws://a:65536",  "ws://a:",
        "ws://a:1x", "ws://a/b",          "ws://a?b",      "ws://u@a",
        "ws://[::1", "ws://a b",          "ws://a\r\nX:1", "WS://a",
        "ws://[]:1", "ws://a:99999999999"
    };
    struct url url;

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cr_assert(!(url_fine(bad[i], &url)), "%s", bad[i]);
    }
}

Test(client_url, takes_a_host_at_the_bound_and_none_past_it)
{
    char text[HOST_LEN_MAX + 16] = "ws://";
    struct url url;

    memset(text + 5, 'a', HOST_LEN_MAX);
    cr_assert(url_fine(text, &url));
    text[5 + HOST_LEN_MAX] = 'a';
    cr_assert(!(url_fine(text, &url)));
}

/* ---- HTTP heads ---- */

static enum status head_of(const char *text, struct http_head *out)
{
    const char *fault = NULL;
    enum status status = http_head_read(slice_text(text), out, &fault);

    cr_assert(status == STATUS_OK || status == STATUS_AGAIN || fault != NULL);
    return status;
}

Test(client_http_head, reads_an_answer_and_its_headers)
{
    struct http_head head;

    cr_assert_eq(head_of("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n"
                         "CONNECTION: keep-alive, Close\r\n\r\nrest",
                         &head),
                 STATUS_OK);
    cr_assert_eq(head.code, 200);
    cr_assert(head.has_length);
    cr_assert_eq(head.content_length, 12);
    cr_assert(head.close);
    cr_assert(!(head.chunked));
}

Test(client_http_head, waits_for_the_blank_line_at_every_cut)
{
    const char *text = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\n\r\n";
    struct http_head head;
    const char *fault;

    for (size_t len = 0; len < strlen(text); len++) {
        cr_assert_eq(http_head_read(slice_of(text, len), &head, &fault),
                     STATUS_AGAIN);
    }
    cr_assert_eq(head_of(text, &head), STATUS_OK);
    cr_assert(head.upgrade_websocket && head.connection_upgrade);
    cr_assert_eq(head.len, strlen(text));
}

Test(client_http_head, refuses_what_is_no_http)
{
    static const char *const bad[] = {
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "garbage\n",
        "HTTP/1.1 200 OK\nA: b\n\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
        "Transfer-Encoding: chunked\r\n\r\n",
    };
    struct http_head head;

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cr_assert_eq(head_of(bad[i], &head), STATUS_INVALID, "%s", bad[i]);
    }
}

Test(client_http_head, refuses_a_head_without_end)
{
    static uint8_t text[HTTP_RESPONSE_HEAD_MAX + 1];
    struct http_head head;
    const char *fault;

    memset(text, 'a', sizeof text);
    cr_assert_eq(http_head_read(slice_of(text, sizeof text - 1), &head, &fault),
                 STATUS_AGAIN);
    cr_assert_eq(http_head_read(slice_of(text, sizeof text), &head, &fault),
                 STATUS_TOO_LARGE);
}

/* ---- the window ---- */

static struct window window;
static int calls;

static void on_done(void *arg, const struct godwit_confirm *confirm)
{
    (void)arg;
    (void)confirm;
}

static enum status append(const char *topic, const struct wire_message *message)
{
    struct refusal refusal;
    size_t len = 0;
    enum status status =
        window_measure(slice_text(topic), message, &len, &refusal);

    if (status == STATUS_OK) {
        status = window_open(&window, slice_text(topic), 1, len, &refusal);
    }
    if (status == STATUS_OK) {
        status = window_put(&window, message, len, on_done, &calls, &refusal);
    }
    if (status == STATUS_OK) {
        window_commit(&window);
    }
    return status;
}

static enum status add(const char *topic, size_t body_len)
{
    static const uint8_t body[BODY_LEN_MAX + 1];
    struct wire_message message = { .body = slice_of(body, body_len) };

    return append(topic, &message);
}

static bool finish(uint64_t index)
{
    struct window_done done;
    bool fresh = window_complete(&window, index, &done);

    cr_assert(!(fresh) || (done.fn == on_done && done.arg == &calls));
    return fresh;
}

static struct window_run take(size_t len_max, size_t count_max)
{
    static struct slice messages[2000];
    struct window_run run;

    window_take(&window, len_max, count_max, messages, &run);
    return run;
}

static void window_begin(uint32_t limit)
{
    cr_assert_eq(window_init(&window, limit), STATUS_OK);
}

static void window_end(void)
{
    window_fini(&window);
}

TestSuite(client_window, .fini = window_end, .timeout = 20);

Test(client_window, takes_its_limit_and_not_one_more)
{
    window_begin(3);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(add("t", 10), STATUS_OK);
    }
    cr_assert_eq(add("t", 10), STATUS_AGAIN);
    cr_assert_eq(take(1000, 100).count, 3);
    cr_assert(finish(1));
    cr_assert_eq(add("t", 10), STATUS_OK);
    cr_assert_eq(add("t", 10), STATUS_AGAIN);
}

Test(client_window, is_bounded_by_bytes_too)
{
    size_t count = 0;

    window_begin(1000);
    while (add("t", BODY_LEN_MAX) == STATUS_OK) {
        count++;
    }
    cr_assert_gt(count, 40);
    cr_assert_lt(count, 65);
    cr_assert_eq(add("t", BODY_LEN_MAX), STATUS_AGAIN);
    (void)take(1, 1);
    (void)take(1, 1);
    cr_assert(finish(1));
    cr_assert(finish(2)); /* passes into the next block: the first is free */
    cr_assert_eq(add("t", BODY_LEN_MAX), STATUS_OK);
}

Test(client_window, refuses_a_body_one_past_its_bound)
{
    window_begin(3);
    cr_assert_eq(add("t", BODY_LEN_MAX), STATUS_OK);
    cr_assert_eq(add("t", BODY_LEN_MAX + 1), STATUS_TOO_LARGE);
    cr_assert_eq(add("", 1), STATUS_INVALID);
    cr_assert_eq(add(".t", 1), STATUS_INVALID);
    cr_assert_eq(window_head(&window), 2);
}

Test(client_window, a_run_is_one_topic_within_bytes_and_count)
{
    struct window_run run;

    window_begin(100);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(add(i < 6 ? "a" : "b", 98), STATUS_OK);
    }
    run = take(250, 100); /* 100 bytes each, encoded */
    cr_assert_eq(run.count, 2);
    cr_assert_eq(run.first, 1);
    run = take(10000, 3);
    cr_assert_eq(run.count, 3);
    run = take(10000, 100);
    cr_assert_eq(run.count, 1); /* the topic ends */
    run = take(1, 100);
    cr_assert_eq(run.count, 1); /* one at least, however long */
    cr_assert(slice_is(run.topic, "b"));
    window_untake(&window, &run);
    cr_assert_eq(take(10000, 100).count, 4);
    cr_assert_eq(take(10000, 100).count, 0);
}

Test(client_window, rewinds_to_what_is_not_completed)
{
    struct window_run run;

    window_begin(100);
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(add("a", 10), STATUS_OK);
    }
    cr_assert_eq(take(10000, 4).count, 4);
    cr_assert(finish(1));
    cr_assert(finish(3)); /* refused before the others are confirmed */
    cr_assert(!(finish(3)));
    cr_assert_eq(window_tail(&window), 2);
    window_rewind(&window);
    run = take(10000, 100);
    cr_assert_eq(run.first, 2);
    cr_assert_eq(run.count, 1);
    cr_assert_eq(run.again, 1);
    run = take(10000, 100);
    cr_assert_eq(run.first, 4);
    cr_assert_eq(run.count, 3);
    cr_assert_eq(run.again, 1); /* 5 and 6 go for the first time */
    cr_assert(finish(2));
    cr_assert_eq(window_tail(&window), 4);
}

Test(client_window, counts_the_bytes_that_wait_and_that_fly)
{
    window_begin(100);
    cr_assert_eq(window_waiting(&window), 0);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(add("a", 98), STATUS_OK);
    }
    cr_assert_eq(window_waiting(&window), 500);
    (void)take(10000, 2);
    cr_assert_eq(window_waiting(&window), 300);
    cr_assert_eq(window_in_flight(&window), 200);
    cr_assert(finish(1));
    cr_assert_eq(window_in_flight(&window), 100);
}

static enum status add_with(const char *id, size_t body_len)
{
    static const uint8_t body[1000];
    struct wire_message message = { .body = slice_of(body, body_len),
                                    .id = slice_text(id) };

    return append("a", &message);
}

/* What has an id has no number, and leaves no hole among those that have. */
Test(client_window, numbers_what_has_no_id)
{
    static const struct {
        uint64_t first, number;
        size_t count;
    } want[] = { { 1, 1, 2 }, { 3, 0, 2 }, { 5, 3, 1 }, { 6, 0, 1 } };

    window_begin(100);
    for (int i = 1; i <= 6; i++) {
        bool has = i == 3 || i == 4 || i == 6;
        cr_assert_eq(add_with(has ? "id" : "", 10), STATUS_OK);
    }
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < COUNT_OF(want); i++) {
            struct window_run run = take(10000, 100);
            cr_expect_eq(run.first, want[i].first);
            cr_expect_eq(run.number, want[i].number);
            cr_expect_eq(run.count, want[i].count);
            cr_expect(!run.atomic);
        }
        window_rewind(&window);
    }
    cr_assert(finish(1));
    window_rewind(&window);
    cr_expect_eq(take(10000, 100).number, 2, "the same number again");
}

/* A batch of `count`; its message number `bad` breaks a rule. */
static enum status add_batch(size_t count, size_t bad)
{
    static const uint8_t body[98 - 2];
    struct wire_message message = { .body = slice_of(body, sizeof body) };
    struct refusal refusal;
    size_t len = codec_message_len(&message);
    enum status status =
        window_open(&window, slice_text("b"), count, count * len, &refusal);

    for (size_t i = 1; status == STATUS_OK && i <= count; i++) {
        message.body.len = i == bad ? sizeof body - 3 : sizeof body;
        message.key = slice_text(i == bad ? "\xff" : "");
        status = window_put(&window, &message, len, on_done, &calls, &refusal);
    }
    if (status == STATUS_OK) {
        window_commit(&window);
    }
    return status;
}

Test(client_window, a_batch_is_a_run_of_its_own_however_long)
{
    struct window_done done;
    struct window_run run;

    window_begin(1500);
    cr_assert_eq(add("b", 10), STATUS_OK);
    cr_assert_eq(add_batch(1100, 0), STATUS_OK);
    cr_assert_eq(add_batch(2, 0), STATUS_OK);
    cr_assert_eq(add("b", 10), STATUS_OK);
    for (int turn = 0; turn < 2; turn++) {
        run = take(500, 100);
        cr_expect_eq(run.count, 1);
        cr_expect(!run.atomic);
        run = take(500, 100);
        cr_expect_eq(run.count, 1100);
        cr_expect_eq(run.number, 2);
        cr_expect(run.atomic);
        run = take(500, 100);
        cr_expect_eq(run.count, 2);
        cr_expect_eq(run.number, 1102);
        cr_expect(run.atomic);
        run = take(500, 100);
        cr_expect_eq(run.count, 1);
        cr_expect(!run.atomic);
        window_rewind(&window);
    }
    cr_assert(window_complete(&window, 1, &done));
    cr_assert(window_complete(&window, 4, &done));
    cr_expect_eq(done.place, 2);
}

Test(client_window, a_batch_with_a_bad_one_leaves_nothing)
{
    struct window_run run;

    window_begin(100);
    cr_assert_eq(add("b", 10), STATUS_OK);
    cr_assert_eq(add_batch(5, 4), STATUS_INVALID);
    cr_assert_eq(window_head(&window), 2);
    cr_assert_eq(window_waiting(&window), 12);
    cr_assert_eq(add_batch(2, 0), STATUS_OK);
    run = take(10000, 100);
    cr_expect_eq(run.count, 1);
    run = take(10000, 100);
    cr_expect_eq(run.first, 2);
    cr_expect_eq(run.number, 2);
    cr_expect_eq(run.count, 2);
}

Test(client_window, a_batch_has_bounds)
{
    struct refusal refusal;

    window_begin(5);
    cr_assert_eq(add_batch(6, 0), STATUS_TOO_LARGE, "more than the window");
    cr_assert_eq(add("b", 10), STATUS_OK);
    cr_assert_eq(add_batch(5, 0), STATUS_AGAIN);
    cr_assert_eq(add_batch(4, 0), STATUS_OK);
    window_fini(&window);
    window_begin(PUBLISH_COUNT_MAX + 1);
    cr_expect_eq(add_batch(PUBLISH_COUNT_MAX, 0), STATUS_OK);
    cr_expect_eq(add_batch(PUBLISH_COUNT_MAX + 1, 0), STATUS_TOO_LARGE);
    window_fini(&window);
    window_begin(5);
    cr_expect_eq(
        window_open(&window, slice_text("b"), 2, ATOMIC_LEN_MAX, &refusal),
        STATUS_OK);
    cr_expect_eq(
        window_open(&window, slice_text("b"), 2, ATOMIC_LEN_MAX + 1, &refusal),
        STATUS_TOO_LARGE);
    cr_expect_str_eq(refusal.limit, "atomic_len");
}

Test(client_window, uses_its_blocks_again)
{
    window_begin(10);
    for (uint64_t i = 1; i <= 20000; i++) {
        cr_assert_eq(add("a", 1000), STATUS_OK);
        cr_assert_eq(take(10000, 1).count, 1);
        cr_assert(finish(i));
    }
    cr_assert_leq(window.used_bytes, 2 * (size_t)WINDOW_BLOCK_LEN);
    cr_assert_leq(window.spare_count, 2);
}

/* ---- settlements ---- */

static struct settler settler;

static void settle_begin(void)
{
    settler_init(&settler);
}

static void settle_end(void)
{
    settler_fini(&settler);
}

TestSuite(client_settler, .init = settle_begin, .fini = settle_end,
          .timeout = 20);

static enum status order(enum settle_action action, const char *topic,
                         uint64_t first, uint64_t last)
{
    struct settle_order o = { .action = action,
                              .topic = slice_text(topic),
                              .range = { first, last } };

    return settler_add(&settler, &o);
}

Test(client_settler, gathers_acks_of_a_topic_into_ranges)
{
    struct settle_batch *batch;

    for (uint64_t seq = 1; seq <= 100; seq++) {
        cr_assert_eq(order(SETTLE_ACK, "a", seq, seq), STATUS_OK);
        cr_assert_eq(order(SETTLE_ACK, "b", 2 * seq, 2 * seq), STATUS_OK);
    }
    cr_assert(settler_waiting(&settler) == NULL); /* not closed */
    settler_close(&settler);
    batch = settler_waiting(&settler);
    cr_assert_str_eq(batch->topic, "a");
    cr_assert_eq(seqset_range_count(&batch->set), 1);
    cr_assert_eq(seqset_range_count(&batch->next->set), 100);
    cr_assert(batch->next->next == NULL);
}

Test(client_settler, never_gathers_more_ranges_than_a_request_takes)
{
    for (uint64_t i = 0; i < RANGE_COUNT_MAX + 1; i++) {
        cr_assert_eq(order(SETTLE_ACK, "a", 2 * i + 1, 2 * i + 1), STATUS_OK);
    }
    settler_close(&settler);
    cr_assert_eq(seqset_range_count(&settler.closed.first->set),
                 RANGE_COUNT_MAX);
    cr_assert_eq(seqset_range_count(&settler.closed.last->set), 1);
}

Test(client_settler, refuses_one_past_its_bound)
{
    for (size_t i = 0; i < SETTLE_BATCH_COUNT_MAX; i++) {
        cr_assert_eq(order(i % 2 == 0 ? SETTLE_ACK : SETTLE_NACK, "a",
                           2 * i + 1, 2 * i + 1),
                     STATUS_OK);
        settler_close(&settler);
    }
    cr_assert_eq(order(SETTLE_ACK, "a", 1, 1), STATUS_AGAIN);
}

Test(client_settler, keeps_acks_and_drops_the_rest_when_the_lease_is_new)
{
    struct settle_list dropped;

    cr_assert_eq(order(SETTLE_ACK, "a", 1, 2), STATUS_OK);
    cr_assert_eq(order(SETTLE_NACK, "a", 3, 3), STATUS_OK);
    settler_close(&settler);
    settler.closed.first->on_wire = true;
    settler.closed.first->id = 5;
    cr_assert(settler_waiting(&settler)->action == SETTLE_NACK);
    settler_renew(&settler, false, &dropped);
    cr_assert(dropped.first->action == SETTLE_NACK);
    settler_recycle(&settler, dropped.first);
    cr_assert(settler_waiting(&settler)->action == SETTLE_ACK);
    cr_assert(settler_take(&settler, 5) == NULL); /* not on this wire */
    cr_assert(!(settler_done(&settler, 1)));
    settler_waiting(&settler)->on_wire = true;
    settler_recycle(&settler, settler_take(&settler, 5));
    cr_assert(settler_done(&settler, 1));
    cr_assert(settler_idle(&settler));
}

Test(client_settler, is_done_when_all_before_is_answered)
{
    cr_assert(settler_done(&settler, settler.epoch));
    cr_assert_eq(order(SETTLE_ACK, "a", 1, 1), STATUS_OK);
    cr_assert(!(settler_done(&settler, settler.epoch)));
    settler_close(&settler);
    settler.closed.first->on_wire = true;
    settler.closed.first->id = 1;
    cr_assert_eq(order(SETTLE_ACK, "a", 2, 2), STATUS_OK);
    cr_assert(!(settler_done(&settler, 1)));
    settler_recycle(&settler, settler_take(&settler, 1));
    cr_assert(settler_done(&settler, 1)); /* the later one does not count */
    cr_assert(!(settler_done(&settler, 2)));
}
