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

TestSuite(net_bounds, .init = set_up, .fini = tear_down, .timeout = 60);

static void answer_later(struct bed *b, struct conn *conn,
                         const struct http_request *request)
{
    (void)b;
    (void)conn;
    (void)request;
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

Test(net_bounds, a_client_that_never_reads_is_cut_off_past_output_max)
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

Test(net_bounds, one_answer_may_be_longer_than_output_max)
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

Test(net_bounds, what_waits_for_all_together_is_bounded)
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

Test(net_bounds, a_stranger_who_does_not_read_cuts_off_no_known_one)
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

Test(net_bounds, a_stranger_is_asked_to_read_before_more_is_answered)
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

Test(net_bounds, little_is_read_behind_a_request_that_waits)
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

Test(net_bounds, a_client_that_never_reads_is_cut_off_after_a_while)
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

Test(net_bounds, all_that_waits_is_sent_before_the_end)
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

Test(net_bounds, drained_comes_while_the_connection_lives_on)
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

Test(net_bounds, pipelined_requests_wait_for_a_slow_reader)
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

Test(net_bounds, half_requests_of_all_together_are_bounded)
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

Test(net_bounds, what_is_announced_and_does_not_come_takes_no_room)
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

Test(net_bounds, strangers_with_much_keep_out_neither_known_ones_nor_each_other)
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

Test(net_bounds, a_stranger_s_long_request_comes_whole_as_its_buffer_grows)
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

Test(net_bounds, connections_over_the_limit_get_503)
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

Test(net_bounds, nets_that_count_in_one_place_share_the_limit)
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

Test(net_bounds, connections_leave_descriptors_for_others)
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

Test(net_bounds, a_connection_the_door_does_not_want_is_closed_unheard)
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

Test(net_bounds, accepting_rests_when_descriptors_run_out_and_recovers)
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

Test(net_bounds, draining_ends_what_is_idle_and_then_what_was_asked)
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

Test(net_bounds, one_who_keeps_talking_after_the_end_is_closed_in_time)
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

Test(net_bounds, a_connection_can_be_ended_from_its_own_callback)
{
    int fd = client_connect(bed.port);

    bed.on_request = abort_it;
    client_send_text(&bed, fd, GET("/a") GET("/b"));
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_eq(bed.requests, 1);
    cr_assert_str_eq(bed.reason, "enough");
    close(fd);
}

Test(net_bounds, each_connection_has_an_id_and_a_peer)
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
