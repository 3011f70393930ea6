#include "test/lib/fake_broker.h"
#include "client/tls.h"
#include "proto/limits.h"
#include "proto/ws_frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 5000, SILENCE_MS = 100, READ_LEN = 256 * 1024, TURN_MS = 20 };

void fake_broker_init(struct fake_broker *b)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t len = sizeof address;

    memset(b, 0, sizeof *b);
    b->fd = -1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    b->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(b->listen_fd >= 0);
    CHECK(bind(b->listen_fd, (struct sockaddr *)&address, len) == 0);
    CHECK(listen(b->listen_fd, 16) == 0);
    CHECK(getsockname(b->listen_fd, (struct sockaddr *)&address, &len) == 0);
    (void)snprintf(b->url, sizeof b->url, "ws://127.0.0.1:%u",
                   (unsigned)ntohs(address.sin_port));
    b->codec = codec_new();
    CHECK(b->codec != NULL);
}

void fake_broker_drop(struct fake_broker *b)
{
    if (b->fd >= 0) {
        (void)close(b->fd);
    }
    b->fd = -1;
    b->in.begin = b->in.end = b->taken = 0;
    b->out.begin = b->out.end = 0;
}

void fake_broker_fini(struct fake_broker *b)
{
    fake_broker_stop(b);
    fake_broker_drop(b);
    (void)close(b->listen_fd);
    bytes_fini(&b->in);
    bytes_fini(&b->out);
    codec_free(b->codec);
}

/* ---- sockets ---- */

static bool readable(int fd, int wait_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, wait_ms) == 1;
}

bool fake_broker_accept_socket(struct fake_broker *b)
{
    int on = 1;

    fake_broker_drop(b);
    if (!readable(b->listen_fd, WAIT_MS)) {
        return false;
    }
    b->fd = accept4(b->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (b->fd >= 0) {
        (void)setsockopt(b->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return b->fd >= 0;
}

bool fake_broker_send(struct fake_broker *b, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    while (len > 0) {
        ssize_t put = send(b->fd, at, len, MSG_NOSIGNAL);
        if (put <= 0) {
            return false;
        }
        at += put;
        len -= (size_t)put;
    }
    return true;
}

static bool receive(struct fake_broker *b, int wait_ms)
{
    ssize_t got;

    if (!readable(b->fd, wait_ms)) {
        return false;
    }
    CHECK(bytes_reserve(&b->in, READ_LEN, SIZE_MAX / 2) == STATUS_OK);
    got = recv(b->fd, bytes_end(&b->in), bytes_room(&b->in), 0);
    if (got <= 0) {
        return false;
    }
    bytes_filled(&b->in, (size_t)got);
    return true;
}

/* ---- HTTP ---- */

bool fake_broker_read_head(struct fake_broker *b)
{
    for (;;) {
        size_t len = bytes_len(&b->in);
        const uint8_t *end =
            len == 0 ? NULL : memmem(bytes_begin(&b->in), len, "\r\n\r\n", 4);
        if (end != NULL) {
            size_t head_len = (size_t)(end - bytes_begin(&b->in)) + 4;
            CHECK(head_len < sizeof b->head);
            memcpy(b->head, bytes_begin(&b->in), head_len);
            b->head[head_len] = '\0';
            bytes_consume(&b->in, head_len);
            return true;
        }
        if (!receive(b, WAIT_MS)) {
            return false;
        }
    }
}

bool fake_broker_answer_upgrade(struct fake_broker *b)
{
    const char *at = strcasestr(b->head, "Sec-WebSocket-Key: ");
    char key[25] = { 0 };
    char accept[ACCEPT_LEN + 1];
    char answer[256];

    if (at == NULL) {
        return false;
    }
    memcpy(key, at + strlen("Sec-WebSocket-Key: "), 24);
    if (!websocket_accept(key, accept)) {
        return false;
    }
    (void)snprintf(answer, sizeof answer,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                   "Sec-WebSocket-Protocol: godwit.v1.proto\r\n\r\n",
                   accept);
    return fake_broker_send(b, answer, strlen(answer));
}

/* ---- frames ---- */

/* 1: a request, 0: none whole, -1: the client broke the rules or went away. */
static int parse(struct fake_broker *b, struct wire_request *out)
{
    struct ws_header header;
    struct refusal refusal;
    uint8_t *payload;
    enum status status;

    for (;;) {
        bytes_consume(&b->in, b->taken);
        b->taken = 0;
        if (bytes_len(&b->in) == 0) {
            return 0;
        }
        status = ws_header_read(
            slice_of(bytes_begin(&b->in), bytes_len(&b->in)), &header);
        if (status == STATUS_AGAIN
            || (status == STATUS_OK
                && bytes_len(&b->in) - header.header_len
                       < header.payload_len)) {
            return 0;
        }
        if (status != STATUS_OK || !header.masked || !header.fin
            || header.rsv != 0) {
            return -1;
        }
        payload = bytes_begin(&b->in) + header.header_len;
        ws_mask(payload, (size_t)header.payload_len, header.mask, 0);
        b->taken = header.header_len + (size_t)header.payload_len;
        if (header.opcode == WS_BINARY) {
            break;
        }
        if (header.opcode == WS_CLOSE) {
            return -1;
        }
    }
    status = codec_request_read(
        b->codec, slice_of(payload, (size_t)header.payload_len), out, &refusal);
    return status == STATUS_OK ? 1 : -1;
}

bool fake_broker_next(struct fake_broker *b, struct wire_request *out)
{
    int got = parse(b, out);

    while (got == 0 && receive(b, WAIT_MS)) {
        got = parse(b, out);
    }
    return got == 1;
}

bool fake_broker_silent(struct fake_broker *b)
{
    struct wire_request request;

    return parse(b, &request) == 0 && !readable(b->fd, SILENCE_MS);
}

bool fake_broker_accept(struct fake_broker *b)
{
    struct wire_request request;

    if (!fake_broker_accept_socket(b) || !fake_broker_read_head(b)
        || !fake_broker_answer_upgrade(b) || !fake_broker_next(b, &request)
        || request.kind != REQUEST_HELLO) {
        return false;
    }
    b->hello = request.hello;
    b->hello_id = request.id;
    return true;
}

struct bytes *fake_broker_reply(struct fake_broker *b)
{
    b->out.begin = b->out.end = 0;
    return &b->out;
}

bool fake_broker_send_reply(struct fake_broker *b)
{
    struct bytes head = { .at = NULL };
    bool sent;

    CHECK(ws_header_write(&head, WS_BINARY, bytes_len(&b->out), NULL)
          == STATUS_OK);
    CHECK(bytes_append(&head, bytes_begin(&b->out), bytes_len(&b->out))
          == STATUS_OK);
    sent = fake_broker_send(b, bytes_begin(&head), bytes_len(&head));
    bytes_fini(&head);
    return sent;
}

bool fake_broker_welcome(struct fake_broker *b)
{
    struct wire_welcome welcome = { .broker = slice_text("fake"),
                                    .body_len_max = BODY_LEN_MAX,
                                    .frame_len_max = FRAME_LEN_MAX };

    return codec_welcome_write(fake_broker_reply(b), b->hello_id, &welcome)
               == STATUS_OK
           && fake_broker_send_reply(b);
}

bool fake_broker_connect(struct fake_broker *b)
{
    return fake_broker_accept(b) && fake_broker_welcome(b);
}

bool fake_broker_confirm(struct fake_broker *b, uint64_t id, uint64_t count,
                         uint64_t seq, bool duplicate)
{
    const struct wire_confirm confirm = {
        .id = id,
        .count = count,
        .seq = seq,
        .duplicate = duplicate,
        .segment = duplicate ? 0 : FAKE_SEGMENT,
        .offset = duplicate ? 0 : FAKE_OFFSET,
        .checksum = duplicate ? 0 : FAKE_CHECKSUM + seq,
    };

    return codec_confirm_write(fake_broker_reply(b), &confirm) == STATUS_OK
           && fake_broker_send_reply(b);
}

bool fake_broker_refuse(struct fake_broker *b, uint64_t id, uint64_t count,
                        enum status status, const char *text)
{
    struct refusal refusal;

    (void)refuse(&refusal, status, "test", "%s", text);
    return codec_refused_write(fake_broker_reply(b), id, count, &refusal)
               == STATUS_OK
           && fake_broker_send_reply(b);
}

bool fake_broker_attach(struct fake_broker *b, uint64_t id)
{
    struct wire_attached attached = { .group = slice_text("group"),
                                      .lease_ms = 30000,
                                      .lease = 7 };

    return codec_attached_write(fake_broker_reply(b), id, &attached)
               == STATUS_OK
           && fake_broker_send_reply(b);
}

bool fake_broker_deliver(struct fake_broker *b, const char *topic,
                         uint64_t first, uint64_t last)
{
    struct bytes messages = { .at = NULL };
    struct bytes *to = fake_broker_reply(b);
    struct wire_delivery deliveries[64];
    size_t ends[64];
    size_t count = (size_t)(last - first + 1);
    size_t len = 0;

    CHECK(count <= 64);
    for (size_t i = 0; i < count; i++) {
        char body[32];
        struct wire_message message = { .header_count = 1 };
        (void)snprintf(body, sizeof body, "body %llu",
                       (unsigned long long)(first + i));
        message.key = slice_text("key");
        message.headers[0] =
            (struct wire_header) { slice_text("name"), slice_text("value") };
        message.body = slice_text(body);
        CHECK(codec_message_write(&messages, &message) == STATUS_OK);
        ends[i] = bytes_len(&messages);
    }
    for (size_t i = 0; i < count; i++) {
        size_t begin = i == 0 ? 0 : ends[i - 1];
        deliveries[i] = (struct wire_delivery) {
            .seq = first + i,
            .attempt = 1,
            .time_us = 1000 + i,
            .message = slice_of(bytes_begin(&messages) + begin, ends[i] - begin)
        };
        len += codec_delivery_len(&deliveries[i]);
    }
    CHECK(codec_deliver_begin(to, slice_text(topic), len) == STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        CHECK(codec_delivery_write(to, &deliveries[i]) == STATUS_OK);
    }
    bytes_fini(&messages);
    return fake_broker_send_reply(b);
}

bool fake_broker_settled(struct fake_broker *b, uint64_t id, const char *topic,
                         uint64_t first, uint64_t last,
                         enum settle_outcome outcome)
{
    struct wire_settled_range range = { first, last, outcome, 0 };

    return codec_settled_write(fake_broker_reply(b), id, slice_text(topic),
                               &range, 1)
               == STATUS_OK
           && fake_broker_send_reply(b);
}

/* ---- playing ---- */

/* What one read brought is confirmed by one range, as group commit would. */
struct turn {
    uint64_t id;
    uint64_t count;
    bool duplicate;
};

static bool turn_end(struct fake_broker *b, struct turn *turn)
{
    uint64_t seq = b->stored - turn->count + 1;
    bool sent =
        turn->count == 0
        || fake_broker_confirm(b, turn->id, turn->count,
                               turn->duplicate ? 0 : seq, turn->duplicate);

    turn->count = 0;
    return sent;
}

static bool play_publish(struct fake_broker *b, struct turn *turn,
                         const struct wire_request *request)
{
    uint64_t first = request->publish.producer_seq;
    uint64_t last = first + request->publish.count - 1;
    bool numbered = first != 0; /* else they have ids, and are always new */
    bool duplicate = numbered && last <= b->producer_seq;

    /* What was stored as one is sent again as one. */
    CHECK(!request->publish.atomic || duplicate
          || first == b->producer_seq + 1);
    if (numbered && first != b->producer_seq + 1 && !duplicate) {
        /* Partly stored: a real broker splits it, here it is as good to say
         * that the first ones are duplicates one by one. */
        for (uint64_t i = 0; first + i <= b->producer_seq; i++) {
            if (!turn_end(b, turn)
                || !fake_broker_confirm(b, request->id + i, 1, 0, true)) {
                return false;
            }
        }
        CHECK(first <= b->producer_seq); /* never a hole */
        turn->id = request->id + (b->producer_seq - first + 1);
        turn->count = last - b->producer_seq;
        b->stored += turn->count;
        b->producer_seq = last;
        return turn_end(b, turn);
    }
    if (turn->count > 0 && turn->duplicate != duplicate && !turn_end(b, turn)) {
        return false;
    }
    if (turn->count == 0) {
        turn->id = request->id;
        turn->duplicate = duplicate;
    }
    turn->count += request->publish.count;
    if (!duplicate) {
        b->stored += request->publish.count;
        b->producer_seq = numbered ? last : b->producer_seq;
    }
    return true;
}

static bool play_deliveries(struct fake_broker *b)
{
    while (b->delivered < b->deliver_count) {
        uint64_t left = b->deliver_count - b->delivered;
        uint64_t count = left < 50 ? left : 50;
        if (!fake_broker_deliver(b, "topic", b->delivered + 1,
                                 b->delivered + count)) {
            return false;
        }
        b->delivered += count;
    }
    return true;
}

static bool play_settle(struct fake_broker *b,
                        const struct wire_request *request)
{
    struct wire_settled_range ranges[RANGE_COUNT_MAX];

    for (size_t i = 0; i < request->settle.count; i++) {
        struct seq_range range = request->settle.ranges[i];
        ranges[i] = (struct wire_settled_range) { range.first, range.last,
                                                  OUTCOME_ACCEPTED, 0 };
        atomic_fetch_add(&b->settled, range.last - range.first + 1);
    }
    return codec_settled_write(fake_broker_reply(b), request->id,
                               request->settle.topic, ranges,
                               request->settle.count)
               == STATUS_OK
           && fake_broker_send_reply(b);
}

static bool play_request(struct fake_broker *b, struct turn *turn,
                         const struct wire_request *request)
{
    switch (request->kind) {
    case REQUEST_HELLO:
        b->hello_id = request->id;
        return fake_broker_welcome(b);
    case REQUEST_PUBLISH:
        return play_publish(b, turn, request);
    case REQUEST_ATTACH:
        b->delivered = 0; /* all over again: nothing is known to have come */
        return fake_broker_attach(b, request->id) && play_deliveries(b);
    case REQUEST_DETACH:
        return codec_detached_write(fake_broker_reply(b), request->id,
                                    slice_text("asked"))
                   == STATUS_OK
               && fake_broker_send_reply(b);
    case REQUEST_SETTLE:
        return play_settle(b, request);
    case REQUEST_PING:
        return codec_pong_write(fake_broker_reply(b), request->id) == STATUS_OK
               && fake_broker_send_reply(b);
    }
    return false;
}

static bool must_drop(struct fake_broker *b)
{
    if (b->drop_after == 0 || b->stored < b->drop_after) {
        return false;
    }
    b->drop_after = 0;
    return true;
}

/* False: the connection is over. */
static bool play_turn(struct fake_broker *b)
{
    struct turn turn = { .count = 0 };
    struct wire_request request;
    int got;

    while ((got = parse(b, &request)) == 1) {
        if (!play_request(b, &turn, &request)) {
            return false;
        }
    }
    if (got < 0) {
        return false;
    }
    if (must_drop(b)) {
        return !b->lose_confirms && turn_end(b, &turn) && false;
    }
    return turn_end(b, &turn);
}

static void play_stream(struct fake_broker *b)
{
    while (!atomic_load(&b->stop)) {
        if (!readable(b->fd, TURN_MS)) {
            continue;
        }
        if (!receive(b, 0) || !play_turn(b)) {
            return;
        }
    }
}

static size_t body_len(const char *head)
{
    const char *at = strcasestr(head, "Content-Length: ");

    return at == NULL ? 0 : strtoul(at + strlen("Content-Length: "), NULL, 10);
}

/* Keeps head and body for the test to look at. */
static bool play_http(struct fake_broker *b)
{
    size_t head_len = strlen(b->head);
    size_t len = body_len(b->head);

    CHECK(head_len + len <= sizeof b->http_request);
    while (bytes_len(&b->in) < len) {
        if (!receive(b, WAIT_MS)) {
            return false;
        }
    }
    memcpy(b->http_request, b->head, head_len);
    if (len > 0) {
        memcpy(b->http_request + head_len, bytes_begin(&b->in), len);
        bytes_consume(&b->in, len);
    }
    b->http_request_len = head_len + len;
    atomic_fetch_add(&b->http_requests, 1);
    return fake_broker_send(b, b->http_answer, b->http_answer_len);
}

static void play_connection(struct fake_broker *b)
{
    while (!atomic_load(&b->stop)) {
        if (bytes_len(&b->in) == 0 && !readable(b->fd, TURN_MS)) {
            if (readable(b->listen_fd, 0)) {
                return; /* one at a time: an idle one makes room */
            }
            continue;
        }
        if (!fake_broker_read_head(b)) {
            return;
        }
        if (strcasestr(b->head, "Upgrade: websocket") == NULL) {
            if (b->http_answer == NULL || !play_http(b)) {
                return;
            }
            continue;
        }
        if (fake_broker_answer_upgrade(b)) {
            play_stream(b);
        }
        return;
    }
}

static void *play(void *arg)
{
    struct fake_broker *b = arg;

    while (!atomic_load(&b->stop)) {
        if (readable(b->listen_fd, TURN_MS) && fake_broker_accept_socket(b)) {
            play_connection(b);
            if (!atomic_load(&b->stop)) { /* else the test goes on with it */
                fake_broker_drop(b);
            }
        }
    }
    return NULL;
}

void fake_broker_play(struct fake_broker *b)
{
    CHECK(!b->playing);
    atomic_store(&b->stop, false);
    CHECK(pthread_create(&b->thread, NULL, play, b) == 0);
    b->playing = true;
}

void fake_broker_stop(struct fake_broker *b)
{
    if (b->playing) {
        atomic_store(&b->stop, true);
        CHECK(pthread_join(b->thread, NULL) == 0);
        b->playing = false;
    }
}
