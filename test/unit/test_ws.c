/* links: godwit_net godwit_proto ev wslay */
/* with: test/lib/net_bed.c */
#include "test/lib/net_suite.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wslay/wslay.h>

TestSuite(ws, .init = set_up, .fini = tear_down, .timeout = 120);

Test(ws, frames_that_came_with_the_upgrade_are_read)
{
    struct bytes b = { 0 };
    int fd = client_connect(bed.port);

    cr_assert_eq(bytes_append(&b, upgrade_request, strlen(upgrade_request)),
                 STATUS_OK);
    put_text(&b, FIN_BINARY, "early");
    put_text(&b, FIN_TEXT, "b\xc3\xa4rd");
    cr_assert(send_bytes(fd, &b));
    cr_assert_str_eq(bed_log(&bed), "B:early\nT:b\xc3\xa4rd\n");
    close(fd);
}

Test(ws, a_refused_upgrade_is_the_end)
{
    int fd = client_connect(bed.port);
    char *reply;

    bed.refuse_upgrade = true;
    cr_assert(client_send_text(&bed, fd, upgrade_request));
    reply = client_reply(&bed, fd, NULL);
    cr_assert_eq(strncmp(reply, "HTTP/1.1 403 ", 13), 0);
    free(reply);
    close(fd);
}

Test(ws, a_frame_split_at_every_byte_is_one_message)
{
    size_t lens[] = { 0, 1, 125, 126, 200 };
    int fd = client_upgrade(&bed);

    for (size_t i = 0; i < COUNT_OF(lens); i++) {
        struct bytes b = { 0 };
        char payload[256];

        memset(payload, 'p', sizeof payload);
        put_frame(&b, FIN_BINARY, payload, lens[i]);
        for (size_t at = 1; at < bytes_len(&b); at++) {
            bed.messages = 0;
            bed.log.begin = bed.log.end = 0;
            cr_assert(client_send(&bed, fd, bytes_begin(&b), at));
            cr_assert_eq(bed.messages, 0);
            cr_assert(client_send(&bed, fd, bytes_begin(&b) + at,
                                  bytes_len(&b) - at));
            cr_assert_eq(bed.messages, 1, "%d messages of %zu cut at %zu",
                         bed.messages, lens[i], at);
            cr_assert_eq(bytes_len(&bed.log), lens[i] + 3);
        }
        bytes_fini(&b);
    }
    close(fd);
}

Test(ws, a_message_at_the_limit_passes_and_one_past_it_does_not)
{
    int fd = client_upgrade(&bed);
    uint8_t *payload = calloc(1, FRAME_LEN_MAX + 1);

    cr_assert(send_one(fd, FIN_BINARY, payload, FRAME_LEN_MAX));
    cr_assert_eq(bed.messages, 1);
    cr_assert_eq(bytes_len(&bed.log), FRAME_LEN_MAX + 3);
    cr_assert(send_one(fd, FIN_BINARY, payload, FRAME_LEN_MAX + 1));
    cr_assert_eq(bed.messages, 1);
    free(payload);
    expect_end(fd, "8:1009 the message is over its limit of 4194304",
               "bad_frame");
}

static void put_raw(struct bytes *to, const char *hex)
{
    for (; *hex != '\0'; hex += 2) {
        char two[3] = { hex[0], hex[1], '\0' };
        uint8_t byte = (uint8_t)strtoul(two, NULL, 16);

        cr_assert_eq(bytes_append(to, &byte, 1), STATUS_OK);
    }
}

Test(ws, each_broken_rule_has_its_code)
{
    static const struct {
        const char *hex;
        const char *answer;
    } rules[] = {
        { "820161", "8:1002 a frame from a client must be masked" },
        { "C2810000000061", "8:1002 reserved bits" },
        { "83810000000061", "8:1002 unknown opcode" },
        { "8B810000000061", "8:1002 unknown opcode" },
        { "8180000000008181000000008081", "8:1007 " },
        { "81820000000"
          "0C328",
          "8:1007 the text is not UTF-8" },
        { "09800000000"
          "0",
          "8:1002 a control frame" },
        { "89FE007E00000000", "8:1002 a control frame" },
        { "82FE007D00000000", "8:1002 a frame length" },
        { "82FF000000000000000100000000", "8:1002 a frame length" },
        { "82FF800000000000000000000000", "8:1002 a frame length" },
        { "82FF000000000040000100000000", "8:1009 " },
        { "82FF7FFFFFFFFFFFFFFF00000000", "8:1009 " },
        { "88810000000003", "8:1002 " },
        { "8882000000000001", "8:1002 " }, /* 1 is no close code */
        { "80810000000061", "8:1002" },    /* continues nothing */
        { "02810000000061"
          "82810000000062",
          "8:1002" }, /* not continued */
        { "01810000000061"
          "808100000000FF",
          "8:1007" },
    };

    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        struct bytes b = { 0 };
        int fd = client_upgrade(&bed);
        char *frames;
        const char *close_frame;

        put_raw(&b, rules[i].hex);
        bed.messages = 0;
        cr_assert(send_bytes(fd, &b));
        frames = frames_of(fd);
        close_frame = strstr(frames, "8:");
        cr_assert(close_frame != NULL
                      && strncmp(close_frame, rules[i].answer,
                                 strlen(rules[i].answer))
                             == 0,
                  "%s: %s", rules[i].hex, frames);
        free(frames);
        close(fd);
        cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
        cr_assert_str_eq(bed.reason, "bad_frame", "%s", rules[i].hex);
    }
}

Test(ws, fragments_make_one_message_with_pings_between)
{
    struct bytes b = { 0 };
    int fd = client_upgrade(&bed);

    put_text(&b, WS_TEXT, "a\xc3");
    put_text(&b, FIN_PING, "p1");
    put_text(&b, WS_CONTINUATION, "\xa4");
    put_text(&b, FIN_PONG, "p2");
    put_text(&b, FIN_CONTINUATION, "z");
    put_text(&b, FIN_BINARY, "next");
    put_text(&b, FIN_CLOSE,
             "\x03\xe8"
             "bye");
    cr_assert(send_bytes(fd, &b));
    cr_assert_str_eq(bed_log(&bed), "T:a\xc3\xa4z\nB:next\n");
    expect_end(fd, "10:p1\n8:1000 ", "peer_closed");
}

Test(ws, a_message_in_fragments_has_the_same_limit)
{
    uint8_t *payload = calloc(1, FRAME_LEN_MAX);
    struct bytes b = { 0 };
    int fd = client_upgrade(&bed);

    put_frame(&b, WS_BINARY, payload, FRAME_LEN_MAX - 10);
    put_frame(&b, FIN_CONTINUATION, payload, 10);
    cr_assert(send_bytes(fd, &b));
    cr_assert_eq(bed.messages, 1);
    cr_assert_eq(bytes_len(&bed.log), FRAME_LEN_MAX + 3);
    put_frame(&b, WS_BINARY, payload, FRAME_LEN_MAX - 10);
    put_frame(&b, FIN_CONTINUATION, payload, 11);
    cr_assert(send_bytes(fd, &b));
    free(payload);
    expect_end(fd, "8:1009 ", "bad_frame");
    cr_assert_eq(bed.messages, 1);
}

Test(ws, empty_fragments_are_counted)
{
    struct bytes b = { 0 };
    int fd = client_upgrade(&bed);

    put_frame(&b, WS_BINARY, "", 0);
    for (int i = 2; i < WS_FRAGMENT_COUNT_MAX; i++) {
        put_frame(&b, WS_CONTINUATION, "", 0);
    }
    put_text(&b, FIN_CONTINUATION, "end");
    cr_assert(send_bytes(fd, &b));
    cr_assert_str_eq(bed_log(&bed), "B:end\n");
    put_frame(&b, WS_BINARY, "", 0);
    for (int i = 1; i <= WS_FRAGMENT_COUNT_MAX; i++) {
        put_frame(&b, WS_CONTINUATION, "", 0);
    }
    cr_assert(send_bytes(fd, &b));
    expect_end(fd, "8:1009 the message is in more than 1024 frames",
               "bad_frame");
}

static void send_back(struct bed *b, struct conn *conn, bool text,
                      uint8_t *payload, size_t len)
{
    (void)b;
    conn_send(conn, text ? WS_TEXT : WS_BINARY, slice_of(payload, len));
}

static void close_it(struct bed *b, struct conn *conn, bool text,
                     uint8_t *payload, size_t len)
{
    (void)b;
    (void)text;
    (void)payload;
    (void)len;
    conn_close(conn, 4000, "had enough");
    conn_send(conn, WS_BINARY, slice_text("too late"));
}

Test(ws, our_close_waits_for_theirs_and_hears_nothing_else)
{
    struct bytes b = { 0 };
    int fd = client_upgrade(&bed);

    bed.on_message = close_it;
    put_text(&b, FIN_BINARY, "one");
    put_text(&b, FIN_BINARY, "two");
    put_text(&b, FIN_PING, "three");
    cr_assert(send_bytes(fd, &b));
    cr_assert_eq(bed.messages, 1);
    bed_run(&bed);
    cr_assert_eq(bed.closed, 0);
    cr_assert(send_one(fd, FIN_CLOSE, "\x0f\xa0", 2));
    expect_end(fd, "8:4000 had enough\n", "had enough");
}

Test(ws, a_peer_that_does_not_close_is_left_in_time)
{
    struct net_config config = bed_config();
    int fd;

    config.close_ms = 50;
    set_up_with(config);
    bed.on_message = close_it;
    fd = client_upgrade(&bed);
    cr_assert(send_one(fd, FIN_BINARY, "one", 3));
    expect_end(fd, "8:4000 had enough\n", "had enough");
}

Test(ws, a_peer_that_goes_without_a_close_frame_is_gone)
{
    int fd = client_upgrade(&bed);

    bed.on_message = send_back;
    cr_assert(send_one(fd, FIN_BINARY, "one", 3));
    shutdown(fd, SHUT_WR);
    expect_end(fd, "2:one\n", "peer_closed");
}

Test(ws, draining_says_going_away)
{
    int fd = client_upgrade(&bed);

    net_drain(bed.net);
    cr_assert(send_one(fd, FIN_CLOSE, "\x03\xe9", 2));
    expect_end(fd, "8:1001 being stopped\n", "being stopped");
}

Test(ws, silence_is_pinged_and_then_ended)
{
    struct net_config config = bed_config();
    int fd;

    config.ping_ms = 40;
    config.idle_ms = 40;
    config.close_ms = 40;
    set_up_with(config);
    fd = client_upgrade(&bed);
    expect_end(fd, "9:\n8:1008 idle\n", "idle");
}

static bool log_has_six(struct bed *b)
{
    return b->messages == 6;
}

Test(ws, anything_heard_keeps_it_alive)
{
    struct net_config config = bed_config();
    int fd;

    config.ping_ms = 400;
    config.idle_ms = 400;
    set_up_with(config);
    fd = client_upgrade(&bed);
    for (int i = 0; i < 6; i++) {
        (void)bed_run_until(&bed, log_has_six, 200);
        cr_assert(send_one(fd, FIN_BINARY, "alive", 5));
    }
    cr_assert_eq(bed.messages, 6);
    cr_assert_eq(bed.closed, 0);
    close(fd);
}

Test(ws, half_a_frame_must_be_completed_in_time)
{
    struct net_config config = bed_config();
    int fd;

    config.body_ms = 50;
    set_up_with(config);
    fd = client_upgrade(&bed);
    cr_assert(client_send(&bed, fd, "\x82\xfe", 2));
    expect_end(fd, "8:1008 the message took too long", "frame_timeout");
    fd = client_upgrade(&bed);
    cr_assert(send_one(fd, WS_BINARY, "a", 1));
    expect_end(fd, "8:1008 the message took too long", "frame_timeout");
}

static void pause_it(struct bed *b, struct conn *conn, bool text,
                     uint8_t *payload, size_t len)
{
    (void)b;
    (void)text;
    (void)payload;
    (void)len;
    conn_pause(conn);
}

static bool three_messages(struct bed *b)
{
    return b->messages == 3;
}

Test(ws, a_pause_between_two_frames_of_a_read_loses_nothing)
{
    struct bytes b = { 0 };
    int fd = client_upgrade(&bed);

    bed.on_message = pause_it;
    put_text(&b, FIN_BINARY, "one");
    put_text(&b, FIN_BINARY, "two");
    put_text(&b, FIN_BINARY, "three");
    cr_assert(send_bytes(fd, &b));
    cr_assert_eq(bed.messages, 1);
    conn_resume(bed.conn);
    cr_assert_eq(bed.messages, 1, "not from within the call");
    bed_run(&bed);
    cr_assert_eq(bed.messages, 2);
    conn_pause(bed.conn); /* twice is once */
    conn_resume(bed.conn);
    cr_assert(bed_run_until(&bed, three_messages, 5000));
    cr_assert_str_eq(bed_log(&bed), "B:one\nB:two\nB:three\n");
    close(fd);
}

Test(ws, a_flood_of_pings_to_one_who_does_not_read_costs_no_memory)
{
    struct net_config config = bed_config();
    struct net_stats stats;
    struct bytes pings = { 0 };
    char *big = calloc(1, 4 << 20);
    char payload[125];
    int fd;

    config.output_max = 8 << 20;
    set_up_with(config);
    fd = client_upgrade(&bed);
    for (int i = 0; i < 2; i++) { /* more than the socket takes */
        conn_send(bed.conn, WS_BINARY, slice_of(big, 4 << 20));
        bed_run(&bed);
    }
    cr_assert_gt(conn_backlog(bed.conn), WS_PONG_BACKLOG_MAX);
    for (int i = 0; i < 2000; i++) {
        memset(payload, 'a' + i % 26, sizeof payload);
        put_frame(&pings, FIN_PING, payload, sizeof payload);
    }
    put_text(&pings, FIN_PING, "the latest");
    for (int i = 0; i < 20; i++) {
        size_t before = conn_backlog(bed.conn);

        cr_assert(
            client_send(&bed, fd, bytes_begin(&pings), bytes_len(&pings)));
        cr_assert_leq(conn_backlog(bed.conn), before);
    }
    bytes_fini(&pings);
    net_stats(bed.net, &stats);
    cr_assert_eq(stats.pings_unanswered, 20 * 2001 - 1);
    cr_assert(client_receive(&bed, fd, &pings, "\x8a\x0athe latest"));
    cr_assert_eq(bytes_len(&pings), 2 * ((4 << 20) + 10) + 12);
    bytes_fini(&pings);
    free(big);
    close(fd);
}

/* ---- from one worker to another ---- */

static struct bed other;

static void hand_over(struct bed *b, struct conn *conn, bool text,
                      uint8_t *payload, size_t len)
{
    uint8_t first = len > 0 ? payload[0] : 0;

    (void)text;
    b->conn = NULL;
    conn_leave(conn);
    conn_enter(conn, other.net);
    cr_assert(len == 0 || payload[0] == first, "the payload is still there");
}

/* A stream of three messages, cut at `at`: what was read with the first goes
 * along, half a frame and half a fragmented message included. */
static void hand_over_at(size_t at)
{
    struct bytes b = { 0 };
    int fd = client_upgrade(&bed);

    bed.messages = other.messages = 0;
    other.log.begin = other.log.end = 0;
    put_text(&b, FIN_BINARY, "one");
    put_text(&b, WS_TEXT, "tw");
    put_text(&b, FIN_CONTINUATION, "o");
    put_text(&b, FIN_BINARY, "three");
    cr_assert(client_send(&bed, fd, bytes_begin(&b), at));
    bed_run(&other);
    cr_assert(client_send(&bed, fd, bytes_begin(&b) + at, bytes_len(&b) - at));
    bed_run(&other);
    cr_assert_eq(bed.messages, 1);
    cr_assert_str_eq(bed_log(&other), "T:two\nB:three\n", "cut at %zu", at);
    bytes_fini(&b);
    close(fd);
    cr_assert(bed_run_until(&other, bed_all_closed, 5000));
}

Test(ws, a_hand_over_takes_along_whatever_was_read)
{
    struct net_config config = bed_config();

    bed_open(&other, &config);
    bed.on_message = hand_over;
    for (size_t at = 9; at <= 9 + 8 + 7 + 11; at++) {
        hand_over_at(at);
    }
    bed_close(&other);
}

Test(ws, what_waits_to_be_sent_goes_along_too)
{
    struct net_config config = bed_config();
    int fd = client_upgrade(&bed);
    char *big = calloc(1, 4 << 20);
    struct bytes got = { 0 };
    struct conn *conn = bed.conn;

    bed_open(&other, &config);
    for (int i = 0; i < 4; i++) {
        conn_send(conn, WS_BINARY, slice_of(big, 4 << 20));
        bed_run(&bed);
    }
    cr_assert_gt(conn_backlog(conn), 0);
    conn_leave(conn);
    conn_enter(conn, other.net);
    conn_close(conn, 1000, "moved");
    cr_assert(client_receive(&other, fd, &got, "moved"));
    cr_assert_eq(bytes_len(&got), 4 * ((4 << 20) + 10) + 2 + 2 + 5);
    bytes_fini(&got);
    free(big);
    close(fd);
    cr_assert(bed_run_until(&other, bed_all_closed, 5000));
    bed_close(&other);
}

Test(ws, a_paused_connection_stays_paused_in_another_net)
{
    struct net_config config = bed_config();
    int fd = client_upgrade(&bed);
    struct conn *conn = bed.conn;

    bed_open(&other, &config);
    conn_pause(conn);
    cr_assert(send_one(fd, FIN_BINARY, "one", 3));
    conn_leave(conn);
    conn_enter(conn, other.net);
    bed_run(&other);
    cr_assert_eq(other.messages, 0);
    conn_resume(conn);
    bed_run(&other);
    cr_assert_eq(other.messages, 1);
    close(fd);
    cr_assert(bed_run_until(&other, bed_all_closed, 5000));
    bed_close(&other);
}

/* ---- wslay as the oracle ---- */

struct oracle {
    struct slice from;
    struct bytes log;
};

static ssize_t on_oracle_recv(wslay_event_context_ptr wslay, uint8_t *into,
                              size_t len, int flags, void *arg)
{
    struct oracle *oracle = arg;

    (void)flags;
    if (oracle->from.len == 0) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    len = len < oracle->from.len ? len : oracle->from.len;
    memcpy(into, oracle->from.at, len);
    oracle->from.at += len;
    oracle->from.len -= len;
    return (ssize_t)len;
}

static ssize_t on_oracle_send(wslay_event_context_ptr wslay,
                              const uint8_t *from, size_t len, int flags,
                              void *arg)
{
    (void)wslay;
    (void)from;
    (void)flags;
    (void)arg;
    return (ssize_t)len;
}

static void on_oracle_message(wslay_event_context_ptr wslay,
                              const struct wslay_event_on_msg_recv_arg *msg,
                              void *arg)
{
    struct oracle *oracle = arg;

    (void)wslay;
    if (!wslay_is_ctrl_frame(msg->opcode)) {
        cr_assert_eq(
            bytes_append(&oracle->log, msg->opcode == WS_TEXT ? "T:" : "B:", 2),
            STATUS_OK);
        cr_assert_eq(bytes_append(&oracle->log, msg->msg, msg->msg_length),
                     STATUS_OK);
        cr_assert_eq(bytes_append(&oracle->log, "\n", 1), STATUS_OK);
    }
}

static void ask_oracle(struct oracle *oracle, const struct bytes *stream)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_oracle_recv,
        .send_callback = on_oracle_send,
        .on_msg_recv_callback = on_oracle_message,
    };
    wslay_event_context_ptr wslay;

    oracle->from = slice_of(bytes_begin(stream), bytes_len(stream));
    cr_assert_eq(wslay_event_context_server_init(&wslay, &callbacks, oracle),
                 0);
    wslay_event_config_set_max_recv_msg_length(wslay, FRAME_LEN_MAX);
    while (wslay_event_want_read(wslay)) {
        size_t before = oracle->from.len;

        if (wslay_event_recv(wslay) != 0
            || (oracle->from.len == before && before == 0)) {
            break;
        }
    }
    (void)wslay_event_send(wslay);
    wslay_event_context_free(wslay);
}

static size_t random_below(size_t bound)
{
    return (size_t)rand() % bound;
}

static size_t random_len(void)
{
    static const size_t edges[] = { 0,   1,    2,     3,     125,   126,
                                    127, 4096, 65535, 65536, 65537, 300000 };

    return random_below(4) == 0 ? edges[random_below(COUNT_OF(edges))]
                                : random_below(2000);
}

/* Mostly legal: now and then a frame that must end it. */
static void put_random_frames(struct bytes *to)
{
    static char payload[300000];
    bool fragments = false;

    for (size_t i = 0; i < sizeof payload; i++) {
        payload[i] = (char)('a' + random_below(26));
    }
    for (size_t i = 0, count = 1 + random_below(40); i < count; i++) {
        size_t kind = random_below(20);
        unsigned opcode = random_below(2) == 0 ? WS_TEXT : WS_BINARY;
        size_t len = random_len();

        if (kind == 0) {
            payload[random_below(100)] = (char)0xC3; /* maybe no UTF-8 */
        } else if (kind < 3) {
            put_frame(to, FIN_PING, payload, random_below(126));
            continue;
        } else if (kind == 3) {
            put_frame(to, FIN_PONG, payload, random_below(126));
            continue;
        } else if (kind == 4 && random_below(4) == 0) {
            put_frame(to, FIN_CLOSE, "\x03\xe8", random_below(3));
            continue;
        } else if (kind == 5 && random_below(4) == 0) {
            fragments = !fragments; /* out of order */
        } else if (kind == 6 && random_below(8) == 0) {
            opcode |= 0x40;
        }
        opcode = fragments ? WS_CONTINUATION : opcode;
        fragments = random_below(3) == 0;
        put_frame(to, (fragments ? 0 : FIN) | opcode, payload, len);
    }
}

static struct slice all_of(const struct bytes *b)
{
    return slice_of(b->at == NULL ? NULL : bytes_begin(b), bytes_len(b));
}

/* Wants to know only that the same messages came. */
static void compare_with_oracle(unsigned seed)
{
    struct bytes stream = { 0 };
    struct oracle oracle = { 0 };
    int fd = client_upgrade(&bed);
    size_t piece_max;

    srand(seed);
    bed.log.begin = bed.log.end = 0;
    put_random_frames(&stream);
    ask_oracle(&oracle, &stream);
    piece_max = 1 + random_below(random_below(2) == 0 ? 100 : 200000);
    while (bytes_len(&stream) > 0) {
        size_t len = 1 + random_below(piece_max);

        len = len < bytes_len(&stream) ? len : bytes_len(&stream);
        if (bytes_len(&stream) > 50000 && len < 500) {
            len = 500; /* no hour-long runs */
        }
        if (!client_send(&bed, fd, bytes_begin(&stream), len)) {
            break; /* it has ended us */
        }
        bytes_consume(&stream, len);
    }
    bed_run(&bed);
    cr_assert(slice_equal(all_of(&oracle.log), all_of(&bed.log)),
              "seed %u: %zu bytes, wslay has %zu", seed, bytes_len(&bed.log),
              bytes_len(&oracle.log));
    bytes_fini(&stream);
    bytes_fini(&oracle.log);
    close(fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
}

Test(ws, random_streams_give_the_same_messages_as_wslay)
{
    struct net_config config = bed_config();

    config.close_ms = 50;
    set_up_with(config);
    cr_assert_eq(bytes_append(&bed.log, "", 1), STATUS_OK);
    for (unsigned seed = 1; seed <= 200; seed++) {
        compare_with_oracle(seed);
    }
}
