#include "test/lib/net_bed.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REPLY_MS_MAX = 5000 };

const char upgrade_request[] = "GET /v1/stream HTTP/1.1\r\n"
                               "Host: localhost\r\n"
                               "Connection: Upgrade\r\n"
                               "Upgrade: websocket\r\n"
                               "Sec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                               "\r\n";

static struct bed *bed_of(struct conn *conn)
{
    return net_owner(conn_net(conn));
}

static void note(struct bed *bed, const void *from, size_t len)
{
    cr_assert_eq(bytes_append(&bed->log, from, len), STATUS_OK);
}

static void on_request(struct conn *conn, const struct http_request *request)
{
    static const char *const methods[] = { "GET ",   "POST ",   "PUT ",
                                           "PATCH ", "DELETE ", "HEAD " };
    struct bed *bed = bed_of(conn);

    bed->requests++;
    note(bed, methods[request->method], strlen(methods[request->method]));
    note(bed, request->path.at, request->path.len);
    note(bed, " ", 1);
    note(bed, request->body.at, request->body.len);
    note(bed, "\n", 1);
    if (bed->on_request != NULL) {
        bed->on_request(bed, conn, request);
    } else {
        conn_respond(conn, 200, "text/plain", NULL, request->path);
    }
}

static void on_upgrade(struct conn *conn, const struct http_request *request)
{
    struct bed *bed = bed_of(conn);

    cr_assert(request->upgrade);
    if (bed->refuse_upgrade) {
        conn_respond(conn, 403, "text/plain", NULL, slice_text("no"));
    } else {
        conn_upgrade(conn, "godwit.v1.proto");
    }
}

static void on_message(struct conn *conn, bool text, uint8_t *payload,
                       size_t len)
{
    struct bed *bed = bed_of(conn);

    bed->messages++;
    note(bed, text ? "T:" : "B:", 2);
    note(bed, payload, len);
    note(bed, "\n", 1);
    if (bed->on_message != NULL) {
        bed->on_message(bed, conn, text, payload, len);
    }
}

static void on_drained(struct conn *conn)
{
    bed_of(conn)->drained++;
}

static void on_closed(struct conn *conn, const char *reason)
{
    struct bed *bed = bed_of(conn);

    bed->closed++;
    snprintf(bed->reason, sizeof bed->reason, "%s", reason);
    if (bed->conn == conn) {
        bed->conn = NULL;
    }
}

static bool on_accepted(struct conn *conn)
{
    struct bed *bed = bed_of(conn);

    bed->conn = conn;
    return bed->on_accepted == NULL || bed->on_accepted(bed, conn);
}

static const struct conn_handler handler = {
    .on_request = on_request,
    .on_upgrade = on_upgrade,
    .on_message = on_message,
    .on_drained = on_drained,
    .on_closed = on_closed,
    .on_accepted = on_accepted,
};

static void on_flush(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    struct bed *bed = container_of(watcher, struct bed, flush);

    (void)loop;
    (void)events;
    net_flush(bed->net);
}

struct net_config bed_config(void)
{
    return (struct net_config) {
        .handler = &handler,
        .conn_count_max = 1000,
        .output_high = 1 << 20,
        .output_low = 1 << 18,
        .output_max = 64 << 20,
        .head_ms = 60000,
        .body_ms = 60000,
        .idle_ms = 60000,
        .ping_ms = 60000,
    };
}

void bed_open(struct bed *bed, const struct net_config *config)
{
    struct error err = { 0 };

    *bed = (struct bed) { .config = *config };
    bed->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    cr_assert_not_null(bed->loop);
    bed->config.loop = bed->loop;
    bed->config.owner = bed;
    cr_assert_eq(net_open(&bed->net, &bed->config, &err), STATUS_OK, "%s",
                 err.text);
    cr_assert_eq(net_listen(bed->net, "127.0.0.1", 0, &bed->port, &err),
                 STATUS_OK, "%s", err.text);
    ev_prepare_init(&bed->flush, on_flush);
    ev_prepare_start(bed->loop, &bed->flush);
}

void bed_close(struct bed *bed)
{
    ev_prepare_stop(bed->loop, &bed->flush);
    net_close(bed->net);
    ev_loop_destroy(bed->loop);
    bytes_fini(&bed->log);
}

void bed_run(struct bed *bed)
{
    for (int i = 0; i < 6; i++) {
        ev_run(bed->loop, EVRUN_NOWAIT);
    }
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One turn that waits for at most a few milliseconds. */
static void on_tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
}

static void turn(struct bed *bed)
{
    ev_timer tick;

    ev_timer_init(&tick, on_tick, 0.002, 0);
    ev_timer_start(bed->loop, &tick);
    ev_run(bed->loop, EVRUN_ONCE);
    ev_timer_stop(bed->loop, &tick);
}

bool bed_run_until(struct bed *bed, bool (*done)(struct bed *bed), int ms)
{
    int64_t end_ms = now_ms() + ms;

    while (!done(bed)) {
        if (now_ms() > end_ms) {
            return false;
        }
        turn(bed);
    }
    return true;
}

uint64_t bed_open_count(struct bed *bed)
{
    struct net_stats stats;

    net_stats(bed->net, &stats);
    return stats.open;
}

bool bed_all_closed(struct bed *bed)
{
    return bed_open_count(bed) == 0;
}

const char *bed_log(struct bed *bed)
{
    cr_assert_eq(bytes_reserve(&bed->log, 1, SIZE_MAX / 2), STATUS_OK);
    *bytes_end(&bed->log) = '\0';
    return (const char *)bytes_begin(&bed->log);
}

int client_connect(uint16_t port)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int) { 1 }, sizeof(int));
    return fd;
}

bool client_send(struct bed *bed, int fd, const void *from, size_t len)
{
    const uint8_t *at = from;
    int64_t end_ms = now_ms() + REPLY_MS_MAX;

    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);

        if (sent > 0) {
            at += sent;
            len -= (size_t)sent;
        } else if (errno != EAGAIN || now_ms() > end_ms) {
            return false;
        }
        bed_run(bed);
    }
    return true;
}

bool client_send_text(struct bed *bed, int fd, const char *text)
{
    return client_send(bed, fd, text, strlen(text));
}

static bool holds(const struct bytes *b, const char *needle)
{
    return needle != NULL && bytes_len(b) > 0
           && memmem(bytes_begin(b), bytes_len(b), needle, strlen(needle))
                  != NULL;
}

bool client_receive(struct bed *bed, int fd, struct bytes *into,
                    const char *needle)
{
    int64_t end_ms = now_ms() + REPLY_MS_MAX;

    while (!holds(into, needle) && now_ms() < end_ms) {
        ssize_t got;

        cr_assert_eq(bytes_reserve(into, 65536, SIZE_MAX / 2), STATUS_OK);
        got = recv(fd, bytes_end(into), 65536, 0);
        if (got > 0) {
            bytes_filled(into, (size_t)got);
        } else if (got == 0 || errno != EAGAIN) {
            return needle == NULL;
        } else {
            turn(bed);
        }
    }
    return holds(into, needle);
}

char *client_reply(struct bed *bed, int fd, const char *needle)
{
    struct bytes reply = { 0 };
    bool good = client_receive(bed, fd, &reply, needle);
    char *text = calloc(1, bytes_len(&reply) + 1);

    memcpy(text, bytes_len(&reply) > 0 ? (char *)bytes_begin(&reply) : "",
           bytes_len(&reply));
    cr_assert(good, "no \"%s\" in \"%s\"", needle == NULL ? "end" : needle,
              text);
    bytes_fini(&reply);
    return text;
}

int client_upgrade(struct bed *bed)
{
    int fd = client_connect(bed->port);
    char *reply;

    cr_assert(client_send_text(bed, fd, upgrade_request));
    reply = client_reply(bed, fd, "\r\n\r\n");
    cr_assert_not_null(strstr(reply, " 101 "), "%s", reply);
    cr_assert_not_null(
        strstr(reply, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    free(reply);
    return fd;
}

void put_frame(struct bytes *to, unsigned first, const void *payload,
               size_t len)
{
    static const uint8_t mask[4] = { 0x9a, 0x01, 0xfe, 0x37 };
    size_t before = bytes_len(to);

    cr_assert_eq(ws_header_write(to, WS_BINARY, len, mask), STATUS_OK);
    bytes_begin(to)[before] = (uint8_t)first;
    cr_assert_eq(bytes_append(to, payload, len), STATUS_OK);
    ws_mask(bytes_end(to) - len, len, mask, 0);
}
