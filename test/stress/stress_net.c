/* links: godwit_net godwit_proto ev */
/* Connections wander between two workers, one hop per message, while their
 * clients wait for each echo: nothing is lost, doubled or touched by two
 * threads (run under TSan). Plain TCP; every message is answered by the worker
 * the connection arrives at. */
#include "broker/net/conn.h"

#include <arpa/inet.h>
#include <ev.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { CONN_COUNT = 16, ROUNDS = 1000, MAIL_MAX = CONN_COUNT };

struct letter {
    struct conn *conn;
    uint8_t payload[64];
    size_t len;
};

struct worker {
    /* shared, under the lock */
    pthread_mutex_t lock;
    struct letter mail[MAIL_MAX];
    size_t mail_count;
    ev_async arrived;
    atomic_bool stop;
    /* its thread's */
    struct ev_loop *loop;
    struct net *net;
    uint16_t port;
    ev_prepare flush;
    struct worker *other;
    uint64_t hops, closed;
};

static struct worker workers[2];
static _Atomic uint32_t conn_count; /* of both */

static void on_request(struct conn *conn, const struct http_request *request)
{
    conn_respond(conn, 404, "text/plain", NULL, request->path);
}

static void on_upgrade(struct conn *conn, const struct http_request *request)
{
    (void)request;
    conn_upgrade(conn, NULL);
}

static void on_message(struct conn *conn, bool text, uint8_t *payload,
                       size_t len)
{
    struct worker *worker = net_owner(conn_net(conn));
    struct worker *to = worker->other;
    struct letter *letter;

    (void)text;
    worker->hops++;
    conn_leave(conn);
    pthread_mutex_lock(&to->lock);
    CHECK(to->mail_count < MAIL_MAX);
    letter = &to->mail[to->mail_count++];
    CHECK(len <= sizeof letter->payload);
    letter->conn = conn;
    letter->len = len;
    memcpy(letter->payload, payload, len);
    pthread_mutex_unlock(&to->lock);
    ev_async_send(to->loop, &to->arrived);
}

static void on_drained(struct conn *conn)
{
    (void)conn;
}

static void on_closed(struct conn *conn, const char *reason)
{
    struct worker *worker = net_owner(conn_net(conn));

    (void)reason;
    worker->closed++;
}

static bool on_accepted(struct conn *conn)
{
    (void)conn;
    return true;
}

static const struct conn_handler handler = {
    .on_request = on_request,
    .on_upgrade = on_upgrade,
    .on_message = on_message,
    .on_drained = on_drained,
    .on_closed = on_closed,
    .on_accepted = on_accepted,
};

static void on_arrived(struct ev_loop *loop, ev_async *watcher, int events)
{
    struct worker *worker = container_of(watcher, struct worker, arrived);
    struct letter mail[MAIL_MAX];
    size_t count;

    (void)events;
    pthread_mutex_lock(&worker->lock);
    count = worker->mail_count;
    memcpy(mail, worker->mail, count * sizeof mail[0]);
    worker->mail_count = 0;
    pthread_mutex_unlock(&worker->lock);
    for (size_t i = 0; i < count; i++) {
        conn_enter(mail[i].conn, worker->net);
        conn_set_known(mail[i].conn, worker->hops % 2 == 0);
        conn_send(mail[i].conn, WS_BINARY,
                  slice_of(mail[i].payload, mail[i].len));
    }
    if (atomic_load(&worker->stop)) {
        ev_break(loop, EVBREAK_ALL);
    }
}

static void on_flush(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)loop;
    (void)events;
    net_flush(container_of(watcher, struct worker, flush)->net);
}

static void worker_init(struct worker *worker)
{
    struct net_config config = {
        .loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV),
        .handler = &handler,
        .owner = worker,
        .conn_count_max = 100,
        .conn_count = &conn_count,
        .hello_len_max = HELLO_LEN_MAX,
        .output_high = 1 << 20,
        .output_low = 1 << 18,
        .output_max = 1 << 24,
        .head_ms = 10000,
        .body_ms = 10000,
        .idle_ms = 60000,
        .ping_ms = 1, /* pings in between, as many as can be */
    };
    struct error err;

    pthread_mutex_init(&worker->lock, NULL);
    worker->loop = config.loop;
    worker->other = &workers[worker == &workers[0] ? 1 : 0];
    CHECK(net_open(&worker->net, &config, &err) == STATUS_OK);
    CHECK(net_listen(worker->net, "127.0.0.1", 0, &worker->port, &err)
          == STATUS_OK);
    ev_async_init(&worker->arrived, on_arrived);
    ev_async_start(worker->loop, &worker->arrived);
    ev_prepare_init(&worker->flush, on_flush);
    ev_prepare_start(worker->loop, &worker->flush);
}

static void *worker_run(void *arg)
{
    struct worker *worker = arg;

    ev_run(worker->loop, 0);
    return NULL;
}

/* All input is handled; of the output pings may be on their way. */
static void check_account(struct worker *worker)
{
    struct net_stats stats;

    net_stats(worker->net, &stats);
    CHECK(stats.input_bytes == 0);
    CHECK(stats.output_bytes <= CONN_COUNT * NET_UNKNOWN_OUTPUT_HIGH);
}

static void worker_fini(struct worker *worker)
{
    ev_prepare_stop(worker->loop, &worker->flush);
    ev_async_stop(worker->loop, &worker->arrived);
    net_close(worker->net);
    ev_loop_destroy(worker->loop);
    pthread_mutex_destroy(&worker->lock);
}

/* ---- clients: blocking, with a time limit ---- */

static int client_open(uint16_t port)
{
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval limit = { .tv_sec = 20 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char byte;
    int ends = 0;

    CHECK(fd >= 0);
    CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    CHECK(send(fd, request, sizeof request - 1, 0)
          == (ssize_t)sizeof request - 1);
    while (ends < 4) { /* "\r\n\r\n" */
        CHECK(recv(fd, &byte, 1, 0) == 1);
        ends = byte == (ends % 2 == 0 ? '\r' : '\n') ? ends + 1 : 0;
    }
    return fd;
}

static void client_send(int fd, const char *text)
{
    static const uint8_t mask[4] = { 1, 2, 3, 4 };
    struct bytes b = { 0 };
    size_t len = strlen(text);

    CHECK(ws_header_write(&b, WS_BINARY, len, mask) == STATUS_OK);
    CHECK(bytes_append(&b, text, len) == STATUS_OK);
    ws_mask(bytes_end(&b) - len, len, mask, 0);
    CHECK(send(fd, bytes_begin(&b), bytes_len(&b), 0)
          == (ssize_t)bytes_len(&b));
    bytes_fini(&b);
}

/* The next echo; pings are passed over. */
static void client_expect(int fd, const char *text)
{
    uint8_t header[2];
    char payload[128];

    do {
        CHECK(recv(fd, header, 2, MSG_WAITALL) == 2);
        CHECK(header[1] < 126);
        CHECK(recv(fd, payload, header[1], MSG_WAITALL) == header[1]);
    } while (header[0] == (0x80 | WS_PING));
    CHECK(header[0] == (0x80 | WS_BINARY));
    CHECK(header[1] == strlen(text) && memcmp(payload, text, header[1]) == 0);
}

int main(void)
{
    pthread_t threads[2];
    int fds[CONN_COUNT];
    char text[32];

    for (size_t i = 0; i < 2; i++) {
        worker_init(&workers[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, worker_run, &workers[i]) == 0);
    }
    for (int i = 0; i < CONN_COUNT; i++) {
        fds[i] = client_open(workers[i % 2].port);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CONN_COUNT; i++) {
            snprintf(text, sizeof text, "%d of %d", round, i);
            client_send(fds[i], text);
        }
        for (int i = 0; i < CONN_COUNT; i++) {
            snprintf(text, sizeof text, "%d of %d", round, i);
            client_expect(fds[i], text);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        atomic_store(&workers[i].stop, true);
        ev_async_send(workers[i].loop, &workers[i].arrived);
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(workers[0].hops + workers[1].hops == CONN_COUNT * ROUNDS);
    CHECK(workers[0].closed + workers[1].closed == 0);
    CHECK(atomic_load(&conn_count) == CONN_COUNT);
    for (size_t i = 0; i < 2; i++) {
        check_account(&workers[i]);
        worker_fini(&workers[i]);
    }
    CHECK(atomic_load(&conn_count) == 0);
    for (int i = 0; i < CONN_COUNT; i++) {
        close(fds[i]);
    }
    printf("%d hops\n", CONN_COUNT * ROUNDS);
    return 0;
}
