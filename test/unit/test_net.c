/* links: godwit_net godwit_proto ev */
/* with: test/lib/net_bed.c */
#include "test/lib/net_bed.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct bed bed;

static void set_up(void)
{
    struct net_config config = bed_config();

    bed_open(&bed, &config);
}

static void tear_down(void)
{
    bed_close(&bed);
}

static void set_up_with(struct net_config config)
{
    bed_close(&bed);
    bed_open(&bed, &config);
}

TestSuite(net, .init = set_up, .fini = tear_down, .timeout = 60);

static bool one_closed(struct bed *b)
{
    return b->closed == 1;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static void expect_reply(int fd, const char *needle)
{
    free(client_reply(&bed, fd, needle));
}

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
    expect_refusal("PATCH / HTTP/1.1\r\nHost: x\r\n\r\n",
                   "Allow: GET, HEAD, POST, PUT, DELETE\r\n");
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

static void answer_much(struct bed *b, struct conn *conn,
                        const struct http_request *request)
{
    size_t len = 8 << 20; /* twice what a socket takes */
    uint8_t *body = calloc(1, len);

    (void)b;
    (void)request;
    conn_respond(conn, 200, NULL, NULL, slice_of(body, len));
    free(body);
}

static void answer_hugely(struct bed *b, struct conn *conn,
                          const struct http_request *request)
{
    size_t len = 32 << 20; /* more than the sockets at both ends take */
    uint8_t *body = calloc(1, len);

    (void)b;
    (void)request;
    conn_respond(conn, 200, NULL, NULL, slice_of(body, len));
    free(body);
}

static uint64_t input_bytes(void)
{
    struct net_stats stats;

    net_stats(bed.net, &stats);
    return stats.input_bytes;
}

static void send_much(struct conn *conn)
{
    static const uint8_t payload[16 << 20]; /* more than sockets take */

    conn_send(conn, WS_BINARY, slice_of(payload, sizeof payload));
    bed_run(&bed);
}

Test(net, a_client_that_never_reads_is_cut_off_past_output_max)
{
    struct net_config config = bed_config();
    int fd;

    config.output_max = 8 << 20;
    set_up_with(config);
    fd = client_upgrade(&bed);
    send_much(bed.conn);
    cr_assert_eq(bed.closed, 0, "one message may be longer");
    send_much(bed.conn);
    cr_assert(bed_run_until(&bed, one_closed, 5000));
    cr_assert_str_eq(bed.reason, "slow_reader");
    close(fd);
}

Test(net, one_answer_may_be_longer_than_output_max)
{
    struct net_config config = bed_config();
    struct bytes all = { 0 };
    int fd;

    config.output_max = 8 << 20;
    set_up_with(config);
    bed.on_request = answer_hugely;
    fd = client_connect(bed.port);
    cr_assert(client_send_text(&bed, fd, GET("/much") GET("/much")));
    cr_assert_eq(bed.requests, 1);
    shutdown(fd, SHUT_WR);
    cr_assert(client_receive(&bed, fd, &all, NULL));
    cr_assert_gt(bytes_len(&all), (size_t)64 << 20);
    bytes_fini(&all);
    close(fd);
}

static uint64_t output_bytes(void)
{
    struct net_stats stats;

    net_stats(bed.net, &stats);
    return stats.output_bytes;
}

Test(net, what_waits_for_all_together_is_bounded)
{
    struct net_config config = bed_config();
    int a, b, c;

    config.output_total_max = 40 << 20;
    set_up_with(config);
    a = client_upgrade(&bed);
    send_much(bed.conn);
    send_much(bed.conn);
    b = client_upgrade(&bed);
    cr_assert_eq(bed.closed, 0);
    cr_assert_gt(output_bytes(), 20 << 20);
    send_much(bed.conn);
    send_much(bed.conn);
    cr_assert_eq(bed.closed, 1);
    cr_assert_str_eq(bed.reason, "slow_reader");
    cr_assert_leq(output_bytes(), 40 << 20);
    cr_assert_gt(output_bytes(), 20 << 20);
    c = client_connect(bed.port);
    cr_assert(client_send_text(&bed, c, GET("/a")));
    expect_reply(c, "\r\n\r\n/a");
    close(a);
    close(b);
    close(c);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_eq(output_bytes(), 0);
}

Test(net, a_stranger_who_does_not_read_cuts_off_no_known_one)
{
    struct net_config config = bed_config();
    int a, b;

    config.output_total_max = 40 << 20; /* 5 of it for strangers */
    config.hello_len_max = HELLO_LEN_MAX;
    set_up_with(config);
    a = client_upgrade(&bed);
    conn_set_known(bed.conn, true);
    send_much(bed.conn);
    cr_assert_gt(output_bytes(), 5 << 20);
    b = client_upgrade(&bed);
    send_much(bed.conn);
    cr_assert_eq(bed.closed, 1);
    cr_assert_eq(bed_open_count(&bed), 1);
    cr_assert_null(bed.conn, "the stranger's, the last accepted");
    close(a);
    close(b);
}

static void answer_ten_kilobytes(struct bed *b, struct conn *conn,
                                 const struct http_request *request)
{
    static const uint8_t body[10 * 1024];

    (void)b;
    (void)request;
    conn_respond(conn, 200, NULL, NULL, slice_of(body, sizeof body));
}

static bool all_hundred(struct bed *b)
{
    return b->requests == 100;
}

Test(net, a_stranger_is_asked_to_read_before_more_is_answered)
{
    struct net_config config = bed_config();
    struct bytes all = { 0 };
    int fd;

    config.hello_len_max = HELLO_LEN_MAX;
    set_up_with(config);
    bed.on_request = answer_ten_kilobytes;
    fd = client_connect(bed.port);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(bytes_append(&all, GET("/a"), strlen(GET("/a"))),
                     STATUS_OK);
    }
    cr_assert_eq(send(fd, bytes_begin(&all), bytes_len(&all), MSG_NOSIGNAL),
                 (ssize_t)bytes_len(&all));
    while (bed.requests == 0) {
        ev_run(bed.loop, EVRUN_ONCE);
    }
    cr_assert_leq(bed.requests, 4, "%d before anything was written",
                  bed.requests);
    cr_assert(bed_run_until(&bed, all_hundred, 5000));
    bytes_fini(&all);
    close(fd);
}

Test(net, little_is_read_behind_a_request_that_waits)
{
    uint8_t *more = calloc(1, 1 << 20);
    int fd = client_connect(bed.port);

    bed.on_request = answer_later;
    cr_assert(client_send_text(&bed, fd, GET("/a")));
    cr_assert_eq(bed.requests, 1);
    for (int i = 0; i < 100; i++) {
        (void)send(fd, more, 1 << 20, MSG_NOSIGNAL);
        bed_run(&bed);
    }
    cr_assert_gt(input_bytes(), 0);
    cr_assert_leq(input_bytes(), HTTP_HEAD_LEN_MAX);
    free(more);
    close(fd);
}

Test(net, a_client_that_never_reads_is_cut_off_after_a_while)
{
    struct net_config config = bed_config();
    int fd;

    config.stall_ms = 60;
    set_up_with(config);
    bed.on_request = answer_much;
    fd = client_connect(bed.port);
    for (int i = 0; i < 4; i++) {
        client_send_text(&bed, fd, GET("/much"));
    }
    cr_assert(bed_run_until(&bed, one_closed, 5000));
    cr_assert_str_eq(bed.reason, "stalled");
    close(fd);
}

static bool all_drained(struct bed *b)
{
    return b->requests == 4 && !conn_congested(b->conn);
}

/* The client's side takes little: an answer fills it whatever the system's
 * defaults are. */
static int connect_narrow(void)
{
    int fd = client_connect(bed.port);
    int len = 64 * 1024;

    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &len, sizeof len), 0);
    return fd;
}

Test(net, all_that_waits_is_sent_before_the_end)
{
    int fd = connect_narrow();
    struct bytes all = { 0 };

    bed.on_request = answer_much;
    for (int i = 0; i < 4; i++) {
        cr_assert(client_send_text(&bed, fd, GET("/much")));
    }
    cr_assert(conn_congested(bed.conn));
    cr_assert_eq(bed.drained, 0);
    shutdown(fd, SHUT_WR); /* so that the answers have an end */
    cr_assert(client_receive(&bed, fd, &all, NULL));
    cr_assert_gt(bytes_len(&all), (size_t)4 * (8 << 20));
    bytes_fini(&all);
    close(fd);
    cr_assert(bed_run_until(&bed, one_closed, 5000));
    cr_assert_str_eq(bed.reason, "peer_closed");
}

Test(net, drained_comes_while_the_connection_lives_on)
{
    int fd = connect_narrow();
    static char sink[1 << 20];

    bed.on_request = answer_much;
    for (int i = 0; i < 4; i++) {
        cr_assert(client_send_text(&bed, fd, GET("/much")));
    }
    cr_assert(conn_congested(bed.conn));
    for (int i = 0; i < 100000 && !all_drained(&bed); i++) {
        (void)recv(fd, sink, sizeof sink, 0);
        bed_run(&bed);
    }
    cr_assert_geq(bed.drained, 1);
    cr_assert_leq(bed.drained, 4);
    cr_assert_not(conn_congested(bed.conn));
    close(fd);
}

static void answer_a_megabyte(struct bed *b, struct conn *conn,
                              const struct http_request *request)
{
    static const uint8_t body[1 << 20];

    (void)b;
    (void)request;
    conn_respond(conn, 200, NULL, NULL, slice_of(body, sizeof body));
}

Test(net, pipelined_requests_wait_for_a_slow_reader)
{
    enum { COUNT = 100 };
    struct net_config config = bed_config();
    struct bytes all = { 0 };
    int fd;

    config.output_max = 8 << 20; /* all the answers at once would be over it */
    config.head_ms = 200;        /* it is not the client who dawdles */
    set_up_with(config);
    bed.on_request = answer_a_megabyte;
    fd = client_connect(bed.port);
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(bytes_append(&all, GET("/a"), strlen(GET("/a"))),
                     STATUS_OK);
    }
    cr_assert(client_send(&bed, fd, bytes_begin(&all), bytes_len(&all)));
    cr_assert_lt(bed.requests, COUNT);
    cr_assert_not(bed_run_until(&bed, one_closed, 400));
    bytes_fini(&all);
    shutdown(fd, SHUT_WR);
    cr_assert(client_receive(&bed, fd, &all, NULL));
    cr_assert_eq(bed.requests, COUNT);
    cr_assert_gt(bytes_len(&all), (size_t)COUNT << 20);
    bytes_fini(&all);
    close(fd);
}

#define HALF(len)                                                              \
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " len "\r\n\r\nstart"

/* Half a request of 4 MB, `len` bytes of whose body are sent. */
static int send_half(size_t len)
{
    int fd = client_connect(bed.port);
    uint8_t *body = calloc(1, len);

    cr_assert(client_send_text(&bed, fd, HALF("4000000")));
    (void)client_send(&bed, fd, body, len); /* it may be cut off */
    free(body);
    bed_run(&bed);
    return fd;
}

Test(net, half_requests_of_all_together_are_bounded)
{
    struct net_config config = bed_config();
    int a, b, c;

    config.input_max = 6 << 20;
    set_up_with(config);
    a = send_half(3900000);
    b = send_half(2000000);
    cr_assert_gt(input_bytes(), 5900000);
    c = send_half(1000000);
    expect_reply(c, "HTTP/1.1 503 ");
    close(c);
    cr_assert(bed_run_until(&bed, one_closed, 5000));
    close(b); /* makes room */
    bed_run(&bed);
    c = send_half(1000000);
    cr_assert_eq(bed_open_count(&bed), 2);
    close(a);
    close(c);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_eq(input_bytes(), 0);
}

Test(net, what_is_announced_and_does_not_come_takes_no_room)
{
    struct net_config config = bed_config();
    int fds[20];

    config.input_max = 6 << 20;
    set_up_with(config);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = client_connect(bed.port);
        cr_assert(client_send_text(&bed, fds[i], HALF("4000000")));
    }
    bed_run(&bed);
    cr_assert_eq(bed_open_count(&bed), COUNT_OF(fds));
    cr_assert_lt(input_bytes(), COUNT_OF(fds) * 100);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        close(fds[i]);
    }
}

Test(net, strangers_with_much_keep_out_neither_known_ones_nor_each_other)
{
    struct net_config config = bed_config();
    static const uint8_t body[2999990];
    int much, little, known;

    config.input_max = 8 << 20; /* a megabyte of it for strangers */
    config.hello_len_max = HELLO_LEN_MAX;
    set_up_with(config);
    much = send_half(900000);
    little = send_half(200000);
    expect_reply(much, "HTTP/1.1 503 ");
    cr_assert_eq(input_bytes() / 1000, 200, "%d", (int)input_bytes());
    known = client_connect(bed.port);
    bed_run(&bed);
    conn_set_known(bed.conn, true);
    cr_assert(client_send_text(&bed, known, HALF("3000000")));
    cr_assert(client_send(&bed, known, body, sizeof body));
    cr_assert_eq(input_bytes() / 1000, 3200, "%d", (int)input_bytes());
    cr_assert(client_send_text(&bed, known, "xxxxx"));
    expect_reply(known, "HTTP/1.1 200 ");
    close(much);
    close(little);
    close(known);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_eq(input_bytes(), 0);
}

Test(net, a_stranger_s_long_request_comes_whole_as_its_buffer_grows)
{
    struct net_config config = bed_config();
    int fd;

    config.hello_len_max = HELLO_LEN_MAX;
    set_up_with(config);
    fd = send_half(3999995);
    expect_reply(fd, "HTTP/1.1 200 ");
    cr_assert_eq(bytes_len(&bed.log), strlen("POST / \n") + 4000000);
    close(fd);
}

Test(net, connections_over_the_limit_get_503)
{
    struct net_config config = bed_config();
    int a, b;
    char *reply;

    config.conn_count_max = 1;
    set_up_with(config);
    a = client_connect(bed.port);
    bed_run(&bed);
    b = client_connect(bed.port);
    reply = client_reply(&bed, b, NULL);
    cr_assert_eq(strncmp(reply, "HTTP/1.1 503 ", 13), 0, "%s", reply);
    cr_assert_not_null(strstr(reply, "Content-Length: "));
    cr_assert_eq((size_t)atol(strstr(reply, "Length: ") + 8),
                 strlen(strstr(reply, "\r\n\r\n") + 4));
    free(reply);
    close(b);
    cr_assert(client_send_text(&bed, a, GET("/still")));
    expect_reply(a, "/still");
    close(a);
}

Test(net, nets_that_count_in_one_place_share_the_limit)
{
    struct net_config config = bed_config();
    _Atomic uint32_t count = 0;
    struct bed second;
    int a, b;

    config.conn_count_max = 1;
    config.conn_count = &count;
    set_up_with(config);
    bed_open(&second, &config);
    a = client_connect(bed.port);
    bed_run(&bed);
    cr_assert_eq(count, 1);
    conn_leave(bed.conn);
    conn_enter(bed.conn, second.net);
    b = client_connect(bed.port);
    expect_reply(b, "HTTP/1.1 503 ");
    close(b);
    close(a);
    cr_assert(bed_run_until(&second, bed_all_closed, 5000));
    cr_assert_eq(count, 0);
    b = client_connect(second.port);
    cr_assert(client_send_text(&second, b, GET("/a")));
    free(client_reply(&second, b, "\r\n\r\n/a"));
    close(b);
    bed_close(&second);
    cr_assert_eq(count, 0);
    bed_close(&bed);
    set_up();
}

Test(net, connections_leave_descriptors_for_others)
{
    struct rlimit before, few;
    int fds[21];

    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = NET_DESCRIPTOR_RESERVE - 24; /* half of so few */
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    set_up_with(bed_config());
    setrlimit(RLIMIT_NOFILE, &before);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = client_connect(bed.port);
        bed_run(&bed);
    }
    cr_assert_eq(bed_open_count(&bed), 20);
    expect_reply(fds[20], "HTTP/1.1 503 ");
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        close(fds[i]);
    }
}

static bool refuse_all(struct bed *b, struct conn *conn)
{
    (void)b;
    (void)conn;
    return false;
}

Test(net, a_connection_the_door_does_not_want_is_closed_unheard)
{
    int fd = client_connect(bed.port);

    bed.on_accepted = refuse_all;
    free(client_reply(&bed, fd, NULL));
    cr_assert_eq(bed.closed, 0);
    cr_assert_eq(bed_open_count(&bed), 0);
    close(fd);
}

static bool four_open(struct bed *b)
{
    return bed_open_count(b) == 4;
}

Test(net, accepting_rests_when_descriptors_run_out_and_recovers)
{
    struct rlimit before, none;
    int fds[4];
    int turns = 0;

    getrlimit(RLIMIT_NOFILE, &before);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = client_connect(bed.port);
    }
    none = before;
    none.rlim_cur = (rlim_t)fds[3] + 1;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    /* were it to spin, each turn would come back at once: it sleeps in one of
     * them until accepting is tried again */
    bed_run(&bed);
    cr_assert_lt(bed_open_count(&bed), 4);
    while (turns < 50 && !four_open(&bed)) {
        ev_run(bed.loop, EVRUN_ONCE);
        turns++;
        if (turns == 3) {
            setrlimit(RLIMIT_NOFILE, &before);
        }
    }
    cr_assert(four_open(&bed));
    cr_assert_lt(turns, 20, "%d turns: it spins", turns);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        close(fds[i]);
    }
}

Test(net, draining_ends_what_is_idle_and_then_what_was_asked)
{
    int idle = client_connect(bed.port);
    int asked = client_connect(bed.port);
    char *reply;

    bed.on_request = answer_later;
    cr_assert(client_send_text(&bed, asked, GET("/a")));
    net_stop_listening(bed.net);
    net_drain(bed.net);
    free(client_reply(&bed, idle, NULL));
    close(idle);
    bed_run(&bed);
    cr_assert_eq(bed_open_count(&bed), 1);
    conn_respond(bed.conn, 200, "text/plain", NULL, slice_text("last"));
    reply = client_reply(&bed, asked, NULL);
    cr_assert_not_null(strstr(reply, "Connection: close\r\n"));
    cr_assert_not_null(strstr(reply, "last"));
    free(reply);
    close(asked);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, "drain");
}

Test(net, one_who_keeps_talking_after_the_end_is_closed_in_time)
{
    struct net_config config = bed_config();
    int fd;

    config.close_ms = 60;
    set_up_with(config);
    fd = client_connect(bed.port);
    cr_assert(client_send_text(&bed, fd, "nonsense\r\n"));
    for (int i = 0; i < 10000 && bed.closed == 0; i++) {
        if (!client_send_text(&bed, fd, "more and more nonsense")) {
            break;
        }
    }
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, "bad_request");
    close(fd);
}

static void abort_it(struct bed *b, struct conn *conn,
                     const struct http_request *request)
{
    (void)b;
    (void)request;
    conn_abort(conn, "enough");
    conn_respond(conn, 200, NULL, NULL, slice_text("lost"));
    cr_assert_eq(bytes_append(conn_output(conn), "x", 1), STATUS_OK);
}

Test(net, a_connection_can_be_ended_from_its_own_callback)
{
    int fd = client_connect(bed.port);

    bed.on_request = abort_it;
    client_send_text(&bed, fd, GET("/a") GET("/b"));
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_eq(bed.requests, 1);
    cr_assert_str_eq(bed.reason, "enough");
    close(fd);
}

Test(net, each_connection_has_an_id_and_a_peer)
{
    int a = client_connect(bed.port);
    uint64_t id;

    bed_run(&bed);
    id = conn_id(bed.conn);
    cr_assert_neq(id, 0);
    cr_assert_eq(strncmp(conn_peer(bed.conn), "127.0.0.1:", 10), 0);
    cr_assert(conn_loopback(bed.conn) && !conn_secure(bed.conn));
    cr_assert_null(conn_context(bed.conn));
    close(a);
    a = client_connect(bed.port);
    bed_run(&bed);
    cr_assert_neq(conn_id(bed.conn), id);
    close(a);
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
