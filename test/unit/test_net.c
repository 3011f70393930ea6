/* links: godwit_net godwit_proto ev */
/* with: test/lib/net_bed.c */
#include "test/lib/net_suite.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(net, .init = set_up, .fini = tear_down, .timeout = 60);

/* Send, and expect an answer with `needle`, and then the end. */
static void expect_refusal(const char *request, const char *needle)
{
    int fd = client_connect(bed.port);
    char *reply;

    client_send_text(&bed, fd, request);
    reply = client_reply(&bed, fd, NULL);
    cr_assert_not_null(strstr(reply, needle), "no %s in %s", needle, reply);
    cr_assert_not_null(strstr(reply, "Connection: close\r\n"), "%s", reply);
    cr_assert_not_null(strstr(reply, "{\"refused\":{\"status\":\""), "%s",
                       reply);
    free(reply);
    close(fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
}

Test(net, a_request_split_at_every_byte_is_one_request)
{
    const char *request = "POST /abc HTTP/1.1\r\nHost: x\r\n"
                          "Content-Length: 10\r\n\r\n0123456789";

    for (size_t at = 1; at < strlen(request); at++) {
        int fd = client_connect(bed.port);

        bed.requests = 0;
        bed.log.begin = bed.log.end = 0;
        cr_assert(client_send(&bed, fd, request, at));
        cr_assert_eq(bed.requests, 0);
        cr_assert(client_send(&bed, fd, request + at, strlen(request) - at));
        expect_reply(fd, "\r\n\r\n/abc");
        cr_assert_str_eq(bed_log(&bed), "POST /abc 0123456789\n");
        close(fd);
    }
}

Test(net, pipelined_requests_are_answered_in_order)
{
    int fd = client_connect(bed.port);
    char *reply;
    const char *a, *b, *c;

    cr_assert(client_send_text(&bed, fd, GET("/a") GET("/bb") GET("/ccc")));
    reply = client_reply(&bed, fd, "/ccc");
    a = strstr(reply, "\r\n\r\n/aHTTP/1.1 200 OK\r\n");
    b = strstr(reply, "\r\n\r\n/bbHTTP/1.1 200 OK\r\n");
    c = strstr(reply, "\r\n\r\n/ccc");
    cr_assert(a != NULL && b > a && c > b, "%s", reply);
    cr_assert_eq(bed_open_count(&bed), 1);
    free(reply);
    close(fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_eq(bed.closed, 1);
    cr_assert_str_eq(bed.reason, "peer_closed");
}

static void answer_later(struct bed *b, struct conn *conn,
                         const struct http_request *request)
{
    (void)b;
    (void)conn;
    (void)request;
}

Test(net, a_pipelined_request_waits_for_the_answer_before_it)
{
    int fd = client_connect(bed.port);

    bed.on_request = answer_later;
    cr_assert(client_send_text(&bed, fd, GET("/a") GET("/b")));
    cr_assert_eq(bed.requests, 1);
    for (int i = 1; i <= 2; i++) {
        conn_respond(bed.conn, 201, "text/plain", "X-Extra: 1\r\n",
                     slice_text(i == 1 ? "one" : "two"));
        expect_reply(fd, i == 1 ? "X-Extra: 1\r\n\r\none" : "two");
        bed_run(&bed);
        cr_assert_eq(bed.requests, 2);
    }
    close(fd);
}

Test(net, head_is_answered_with_the_length_but_no_body)
{
    int fd = client_connect(bed.port);
    char *reply;

    cr_assert(client_send_text(
        &bed, fd,
        "HEAD /abc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    reply = client_reply(&bed, fd, NULL);
    cr_assert_not_null(strstr(reply, "Content-Length: 4\r\n"));
    cr_assert_null(strstr(reply, "/abc"));
    free(reply);
    close(fd);
}

Test(net, http_1_0_is_closed_unless_it_asks_otherwise)
{
    int fd = client_connect(bed.port);

    cr_assert(client_send_text(
        &bed, fd, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    expect_reply(fd, "Connection: keep-alive\r\n");
    cr_assert(client_send_text(&bed, fd, "GET /b HTTP/1.0\r\n\r\n"));
    free(client_reply(&bed, fd, NULL));
    close(fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, "done");
}

Test(net, a_client_that_waits_for_100_gets_it_once)
{
    int fd = client_connect(bed.port);
    char *reply;

    cr_assert(client_send_text(&bed, fd,
                               "POST /a HTTP/1.1\r\nHost: x\r\n"
                               "Expect: 100-continue\r\n"
                               "Content-Length: 6\r\n\r\n"));
    expect_reply(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    cr_assert(client_send_text(&bed, fd, "abc"));
    cr_assert(client_send_text(&bed, fd, "def"));
    reply = client_reply(&bed, fd, "/a");
    cr_assert_eq(strncmp(reply, "HTTP/1.1 200", 12), 0, "%s", reply);
    cr_assert_str_eq(bed_log(&bed), "POST /a abcdef\n");
    free(reply);
    close(fd);
}

Test(net, bad_requests_get_their_code_and_the_end)
{
    expect_refusal("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
    expect_refusal("nonsense\r\n\r\n", "HTTP/1.1 400 ");
    expect_refusal("POST / HTTP/1.1\r\nHost: x\r\n"
                   "Content-Length: 4194305\r\n\r\n",
                   "HTTP/1.1 413 ");
    expect_refusal("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                   "Content-Length: 4194305\r\n\r\n",
                   "HTTP/1.1 413 ");
    expect_refusal(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET("/smuggled"),
        "HTTP/1.1 400 ");
    expect_refusal(
        "POST / HTTP/1.1\r\nHost: x\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET("/smuggled"),
        "HTTP/1.1 411 ");
    expect_refusal("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 501 ");
    expect_refusal("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
                   "Allow: GET, HEAD, POST, PUT, PATCH, DELETE\r\n");
    expect_refusal("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
                   "Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n",
                   "Sec-WebSocket-Version: 13\r\n");
    cr_assert_eq(bed.requests, 0);
}

Test(net, an_endless_head_is_refused_at_its_limit)
{
    char *text = malloc(20001);

    memset(text, 'a', 20000);
    text[20000] = '\0';
    memcpy(text, "GET /", 5);
    expect_refusal(text, "HTTP/1.1 431 ");
    free(text);
}

static char *post_of_len(size_t len, size_t *total)
{
    char *text = malloc(len + 200);
    int head = snprintf(text, 200,
                        "POST /big HTTP/1.1\r\nHost: x\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        len);

    memset(text + head, 'b', len);
    *total = (size_t)head + len;
    return text;
}

Test(net, a_body_at_its_limit_arrives_whole)
{
    int fd = client_connect(bed.port);
    size_t total;
    char *text = post_of_len(HTTP_BODY_LEN_MAX, &total);

    cr_assert(client_send(&bed, fd, text, total));
    expect_reply(fd, "/big");
    cr_assert_eq(bytes_len(&bed.log),
                 strlen("POST /big \n") + HTTP_BODY_LEN_MAX);
    free(text);
    close(fd);
}

Test(net, a_head_or_body_that_dawdles_is_refused_with_408)
{
    struct net_config config = bed_config();

    config.head_ms = 50;
    config.body_ms = 50;
    set_up_with(config);
    expect_refusal("GET / HTTP/1.1\r\nHo", "HTTP/1.1 408 ");
    cr_assert_str_eq(bed.reason, "head_timeout");
    expect_refusal("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na",
                   "HTTP/1.1 408 ");
    cr_assert_str_eq(bed.reason, "body_timeout");
}

Test(net, a_byte_now_and_then_does_not_move_the_deadline)
{
    struct net_config config = bed_config();
    int fd, sent = 0;

    config.head_ms = 150;
    config.close_ms = 50;
    set_up_with(config);
    fd = client_connect(bed.port);
    while (bed.closed == 0 && sent < 500) {
        client_send(&bed, fd, &"GET /aaaa"[sent < 8 ? sent : 8], 1);
        sent++;
        usleep(5000);
    }
    cr_assert_lt(sent, 500);
    cr_assert_str_eq(bed.reason, "head_timeout");
    close(fd);
}

Test(net, silence_before_and_between_requests_ends)
{
    struct net_config config = bed_config();
    int fd;

    config.head_ms = 300;
    config.idle_ms = 100;
    set_up_with(config);
    fd = client_connect(bed.port);
    free(client_reply(&bed, fd, NULL));
    close(fd);
    cr_assert(bed_run_until(&bed, one_closed, 5000));
    cr_assert_str_eq(bed.reason, "head_timeout");
    fd = client_connect(bed.port);
    cr_assert(client_send_text(&bed, fd, GET("/a")));
    free(client_reply(&bed, fd, NULL));
    close(fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, "idle");
}

Test(net, a_request_with_the_door_has_no_deadline)
{
    struct net_config config = bed_config();
    int fd;

    config.head_ms = config.body_ms = config.idle_ms = 20;
    set_up_with(config);
    bed.on_request = answer_later;
    fd = client_connect(bed.port);
    cr_assert(client_send_text(&bed, fd, GET("/a")));
    cr_assert_not(bed_run_until(&bed, bed_all_closed, 150));
    conn_respond(bed.conn, 204, NULL, NULL, (struct slice) { 0 });
    expect_reply(fd, "HTTP/1.1 204 No Content\r\nServer: godwit\r\n\r\n");
    close(fd);
}

Test(net, a_half_closed_client_still_gets_its_answers)
{
    int fd = client_connect(bed.port);
    char *reply;

    bed.on_request = answer_later;
    cr_assert(client_send_text(&bed, fd, GET("/a")));
    shutdown(fd, SHUT_WR);
    bed_run(&bed);
    cr_assert(conn_peer_finished(bed.conn));
    cr_assert_eq(bed.closed, 0);
    conn_respond(bed.conn, 200, "text/plain", NULL, slice_text("late"));
    reply = client_reply(&bed, fd, NULL);
    cr_assert_not_null(strstr(reply, "late"));
    free(reply);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    close(fd);
}

Test(net, a_half_closed_client_gets_its_pipelined_answers_too)
{
    int fd = client_connect(bed.port);
    char *reply;

    cr_assert_eq(send(fd, GET("/a") GET("/b"), strlen(GET("/a")) * 2, 0),
                 (ssize_t)strlen(GET("/a")) * 2);
    shutdown(fd, SHUT_WR);
    reply = client_reply(&bed, fd, NULL);
    cr_assert_not_null(strstr(reply, "/aHTTP"));
    cr_assert_not_null(strstr(reply, "\r\n\r\n/b"));
    free(reply);
    close(fd);
}

Test(net, a_door_that_pauses_loses_nothing)
{
    int fd = client_connect(bed.port);

    bed_run(&bed);
    conn_pause(bed.conn);
    cr_assert(client_send_text(&bed, fd, GET("/a") GET("/b")));
    cr_assert_eq(bed.requests, 0);
    conn_resume(bed.conn);
    expect_reply(fd, "\r\n\r\n/b");
    cr_assert_eq(bed.requests, 2);
    close(fd);
}

/* ---- listening ---- */

Test(net, addresses_are_checked_and_what_is_wrong_is_said)
{
    struct error err = { 0 };

    cr_assert_eq(net_listen(bed.net, "example.org", 0, NULL, &err),
                 STATUS_INVALID);
    cr_assert_not_null(strstr(err.text, "example.org"));
    cr_assert_eq(net_listen(bed.net, "192.0.2.1", 0, NULL, &err), STATUS_IO);
    cr_assert_not_null(strstr(err.text, "192.0.2.1"));
}

Test(net, a_port_in_use_is_found_before_it_is_shared)
{
    struct error err = { 0 };
    struct bed other;
    struct net_config config = bed_config();

    cr_assert_eq(net_probe("127.0.0.1", bed.port, &err), STATUS_BUSY);
    cr_assert_not_null(strstr(err.text, "in use"), "%s", err.text);
    bed_open(&other, &config);
    cr_assert_eq(net_listen(other.net, "127.0.0.1", bed.port, NULL, &err),
                 STATUS_OK, "workers share it: %s", err.text);
    bed_close(&other);
    net_stop_listening(bed.net);
    cr_assert_eq(net_probe("127.0.0.1", bed.port, &err), STATUS_OK);
}

Test(net, localhost_is_both_loopback_addresses_on_one_port)
{
    uint16_t port = 0;
    struct error err = { 0 };
    int fd;

    cr_assert_eq(net_listen(bed.net, "localhost", 0, &port, &err), STATUS_OK,
                 "%s", err.text);
    cr_assert_neq(port, 0);
    fd = client_connect(port);
    cr_assert(client_send_text(&bed, fd, GET("/a")));
    expect_reply(fd, "/a");
    close(fd);
}

/* ---- from one worker to another ---- */

static struct bed other;

static void hand_over(struct bed *b, struct conn *conn,
                      const struct http_request *request)
{
    (void)request;
    b->conn = NULL;
    other.conn = conn;
    conn_leave(conn);
    conn_enter(conn, other.net);
}

Test(net, a_connection_goes_on_in_another_net_with_what_was_read)
{
    struct net_config config = bed_config();
    int fd = client_connect(bed.port);
    struct bytes got = { 0 };

    bed_open(&other, &config);
    bed.on_request = hand_over;
    other.on_request = answer_later;
    cr_assert(client_send_text(&bed, fd, GET("/a") GET("/b")));
    cr_assert_eq(bed.requests, 1);
    cr_assert_eq(bed_open_count(&bed), 0);
    cr_assert_eq(bed_open_count(&other), 1);
    bed_run(&other);
    cr_assert_eq(other.requests, 0, "the first is not answered yet");
    conn_abort(other.conn, "enough");
    bed_run(&other);
    cr_assert_eq(other.closed, 1);
    cr_assert_eq(bed.closed, 0);
    cr_assert(client_receive(&other, fd, &got, NULL));
    bytes_fini(&got);
    close(fd);
    bed_close(&other);
}

static bool hand_over_at_once(struct bed *b, struct conn *conn)
{
    b->conn = NULL;
    conn_leave(conn);
    conn_enter(conn, other.net);
    return true;
}

Test(net, a_connection_may_be_handed_over_when_it_is_accepted)
{
    struct net_config config = bed_config();
    int fd = client_connect(bed.port);

    bed_open(&other, &config);
    bed.on_accepted = hand_over_at_once;
    bed_run(&bed);
    cr_assert(client_send_text(&other, fd, GET("/a")));
    free(client_reply(&other, fd, "\r\n\r\n/a"));
    close(fd);
    cr_assert(bed_run_until(&other, bed_all_closed, 5000));
    cr_assert_eq(bed.requests + bed.closed, 0);
    bed_close(&other);
}

static struct conn *moved;

static void leave_only(struct bed *b, struct conn *conn,
                       const struct http_request *request)
{
    (void)b;
    (void)request;
    conn_leave(conn);
    moved = conn;
}

static void *serve_the_rest(void *arg)
{
    conn_enter(moved, other.net);
    conn_respond(moved, 200, "text/plain", NULL, slice_text("elsewhere"));
    while (other.closed == 0) {
        ev_run(other.loop, EVRUN_ONCE);
    }
    return arg;
}

Test(net, a_connection_goes_on_in_another_thread)
{
    struct net_config config = bed_config();
    int fd = client_connect(bed.port);
    struct bytes got = { 0 };
    pthread_t thread;

    bed_open(&other, &config);
    bed.on_request = leave_only;
    cr_assert(client_send_text(&bed, fd, GET("/a") GET("/b") GET("/c")));
    cr_assert_not_null(moved);
    cr_assert_eq(pthread_create(&thread, NULL, serve_the_rest, NULL), 0);
    cr_assert(client_receive(&bed, fd, &got, "\r\n\r\n/c"));
    cr_assert(memmem(bytes_begin(&got), bytes_len(&got), "elsewhere", 9));
    close(fd);
    pthread_join(thread, NULL);
    cr_assert_str_eq(bed_log(&other), "GET /b \nGET /c \n");
    bytes_fini(&got);
    bed_close(&other);
}
