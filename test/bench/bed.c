#include "test/bench/bed.h"

#include "broker/admin.h"
#include "broker/clock.h"
#include "broker/session/inside.h"
#include "test/bench/meter.h"
#include "test/lib/tmpdir.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SEGMENT_LEN = 64 * 1024 * 1024, IDLE_TURNS = 4, RECEIVE_LEN = 1 << 18 };

static const uint8_t mask[4] = { 0x37, 0xfa, 0x21, 0x3d };

static void must_ok(enum status status, const struct error *err,
                    const char *what)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, status_word(status),
                err == NULL ? "" : err->text);
        exit(2);
    }
}

/* ---- time ---- */

/* Time passes by turns, for libev too: what a slow machine would see end (a
 * lease, a wait for the next look at the books) ends at the same turn on all. */
enum { TURN_US = 1000 };
static uint64_t now_us = UINT64_C(1000000000);
static const uint64_t wall_us = UINT64_C(1700000000000000);

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock,
                                                         struct timespec *out)
{
    uint64_t us = clock == CLOCK_REALTIME ? wall_us + now_us : now_us;

    *out = (struct timespec) { .tv_sec = (time_t)(us / 1000000),
                               .tv_nsec = (long)(us % 1000000) * 1000 };
    return 0;
}

__attribute__((visibility("default"))) int
gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    uint64_t us = wall_us + now_us;

    (void)zone;
    *out = (struct timeval) { .tv_sec = (time_t)(us / 1000000),
                              .tv_usec = (suseconds_t)(us % 1000000) };
    return 0;
}

/* ---- the broker ---- */

static void read_secret(struct bed *bed)
{
    char path[600];
    char line[SECRET_LEN_MAX + 16];
    FILE *file;

    snprintf(path, sizeof path, "%s/admin.credentials", bed->dir);
    file = fopen(path, "re");
    must(file != NULL, path);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "secret=", 7) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(bed->secret, sizeof bed->secret, "%.*s", SECRET_LEN_MAX,
                     line + 7);
        }
    }
    fclose(file);
    must(bed->secret[0] != '\0', "no secret in admin.credentials");
}

static void open_store(struct bed *bed)
{
    struct error err = { 0 };
    const struct store_config config = { .dir = bed->dir,
                                         .segment_len = SEGMENT_LEN,
                                         .keydir_len_max = 256 << 20,
                                         .now_us = clock_wall_us() };

    must_ok(store_open(&bed->store, &config, &bed->recovery, &err), &err,
            "store");
    must_ok(admin_make_if_none(bed->store, bed->dir, &err), &err, "admin");
}

static void make_shared(struct bed *bed)
{
    struct workers *w = &bed->workers;

    bed->commits = ring_new(sizeof(struct store_commit), COMMIT_SLOTS, 2);
    bed->submission = submission_new(SUBMISSION_LEN);
    *w = (struct workers) { .count = 1,
                            .at = &bed->worker,
                            .store = bed->store,
                            .commits = bed->commits,
                            .nonces = nonces_new(clock_wall_us() / 1000),
                            .config = &bed->config,
                            .metrics = &bed->metrics };
    must(bed->commits != NULL && bed->submission != NULL && w->nonces != NULL,
         "memory");
    bed->metrics.worker_count = 1;
    bed->metrics.workers = &bed->worker_metrics;
    bed->metrics.store = bed->store;
    bed->metrics.recovery = &bed->recovery;
}

void bed_open(struct bed *bed)
{
    struct error err = { 0 };

    *bed = (struct bed) { 0 };
    log_set_level(LOG_WARN);
    tmpdir_make(bed->dir, sizeof bed->dir);
    config_init(&bed->config);
    bed->config.workers = 1;
    bed->config.log_level = LOG_ERROR;
    snprintf(bed->config.data_dir, sizeof bed->config.data_dir, "%s", bed->dir);
    open_store(bed);
    read_secret(bed);
    make_shared(bed);
    must_ok(worker_new(&bed->worker, &bed->workers, 0, bed->submission, &err),
            &err, "worker");
    must_ok(worker_listen(bed->worker, "127.0.0.1", 0, &bed->port, &err), &err,
            "listen");
}

void bed_close(struct bed *bed)
{
    worker_free(bed->worker);
    submission_free(bed->submission);
    ring_free(bed->commits);
    nonces_free(bed->workers.nonces);
    store_close(bed->store);
    tmpdir_remove(bed->dir);
}

/* ---- the threads ---- */

void bed_turn(struct bed *bed)
{
    now_us += TURN_US;
    ev_run(bed->worker->loop, EVRUN_NOWAIT);
}

bool bed_has_records(const struct bed *bed)
{
    uint8_t *at;

    return submission_peek(bed->submission, &at) > 0;
}

void bed_append(struct bed *bed)
{
    struct error err = { 0 };

    bed->span = (struct store_span) { 0 };
    bed->span.len = submission_peek(bed->submission, &bed->span.at);
    must_ok(store_append(bed->store, &bed->span, 1, clock_wall_us(),
                         &bed->commit, &err),
            &err, "append");
}

/* As the journal does it: the ring is told first. */
void bed_tell(struct bed *bed)
{
    struct error err = { 0 };
    struct store_commit *slot = ring_claim(bed->commits);
    const struct submission_place place = { bed->commit.segment,
                                            bed->span.offset };

    must_ok(store_sync(bed->store, &err), &err, "sync");
    must(slot != NULL, "commit ring");
    if (bed->commit.record_count > 0) {
        *slot = bed->commit;
        ring_publish(bed->commits);
    }
    if (bed->span.offset != 0) {
        submission_note(bed->submission, bed->span.taken, place);
    }
    submission_take(bed->submission, bed->span.taken);
    submission_settle(bed->submission);
}

void bed_apply(struct bed *bed)
{
    size_t count = ring_available(bed->commits, 1);

    for (size_t i = 0; i < count; i++) {
        must_ok(store_apply(bed->store, ring_entry(bed->commits, 1, i)), NULL,
                "apply");
    }
    ring_consumed(bed->commits, 1, count);
}

void bed_checkpoint(struct bed *bed)
{
    struct error err = { 0 };

    must_ok(store_checkpoint(bed->store, &err), &err, "checkpoint");
}

static void prepare(struct bed *bed)
{
    struct error err = { 0 };

    do {
        must_ok(store_prepare(bed->store, &err), &err, "prepare");
    } while (store_leftovers(bed->store));
}

void bed_settle(struct bed *bed)
{
    for (int idle = 0; idle < IDLE_TURNS; idle++) {
        bed_turn(bed);
        while (bed_has_records(bed)) {
            bed_append(bed);
            bed_tell(bed);
            bed_apply(bed);
            idle = 0;
        }
    }
    prepare(bed);
}

/* ---- clients ---- */

static int connect_to(uint16_t port)
{
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons(port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(fd >= 0, "socket");
    must(connect(fd, (const struct sockaddr *)&to, sizeof to) == 0, "connect");
    must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0,
         "TCP_NODELAY");
    return fd;
}

static void send_all(int fd, struct bed *bed, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t sent =
            send(fd, bytes.at, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent < 0) {
            must(errno == EAGAIN, "send");
            bed_turn(bed);
            continue;
        }
        bytes.at += sent;
        bytes.len -= (size_t)sent;
    }
}

static size_t receive(int fd, struct bytes *into)
{
    static uint8_t buffer[RECEIVE_LEN];
    size_t sum = 0;

    for (;;) {
        ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);

        if (got < 0) {
            must(errno == EAGAIN, "recv");
            return sum;
        }
        must(got > 0, "the broker closed the connection");
        if (into != NULL) {
            must_ok(bytes_append(into, buffer, (size_t)got), NULL, "memory");
        }
        sum += (size_t)got;
    }
}

void peer_send(struct peer *peer, struct bed *bed, struct slice bytes)
{
    send_all(peer->fd, bed, bytes);
}

size_t peer_receive(struct peer *peer, struct bytes *into)
{
    size_t got = receive(peer->fd, into);

    peer->received += got;
    return got;
}

/* An answer to a request head: its first line must have this code. */
static void expect(int fd, struct bed *bed, const char *code)
{
    struct bytes in = { 0 };

    for (int i = 0; i < 100 && bytes_len(&in) < 16; i++) {
        bed_settle(bed);
        (void)receive(fd, &in);
    }
    must_ok(bytes_append(&in, "", 1), NULL, "memory");
    if (strncmp((const char *)bytes_begin(&in) + 9, code, strlen(code)) != 0) {
        fprintf(stderr, "instead of %s: %s\n", code, bytes_begin(&in));
        exit(2);
    }
    bytes_fini(&in);
}

void bed_post(struct bed *bed, const char *path, const char *json)
{
    char text[2048];
    int fd = connect_to(bed->port);

    snprintf(text, sizeof text,
             "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin:%s\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
             path, bed->secret, strlen(json), json);
    send_all(fd, bed, slice_text(text));
    expect(fd, bed, "20");
    close(fd);
    bed_settle(bed);
}

void put_frame(struct bytes *to, struct slice payload)
{
    size_t mark;

    must_ok(ws_frame_begin(to, true, &mark), NULL, "frame");
    must_ok(bytes_append(to, payload.at, payload.len), NULL, "frame");
    must_ok(ws_frame_end(to, mark, WS_BINARY, mask), NULL, "frame");
}

static void send_payload(struct peer *peer, struct bed *bed,
                         struct bytes *payload)
{
    struct bytes frame = { 0 };

    put_frame(&frame, slice_of(bytes_begin(payload), bytes_len(payload)));
    peer_send(peer, bed, slice_of(bytes_begin(&frame), bytes_len(&frame)));
    bed_settle(bed);
    must(peer_receive(peer, NULL) > 0, "no answer");
    bytes_fini(&frame);
    bytes_fini(payload);
}

void peer_open(struct peer *peer, struct bed *bed)
{
    static const char upgrade[] =
        "GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: godwit.v1.proto\r\n\r\n";
    const struct wire_hello hello = { .app = slice_text("admin"),
                                      .secret = slice_text(bed->secret),
                                      .producer = 1 };
    struct bytes payload = { 0 };

    *peer = (struct peer) { .fd = connect_to(bed->port), .next_id = 1 };
    send_all(peer->fd, bed, slice_text(upgrade));
    expect(peer->fd, bed, "101");
    must_ok(codec_hello_write(&payload, 1, &hello), NULL, "hello");
    send_payload(peer, bed, &payload);
}

void peer_attach(struct peer *peer, struct bed *bed, const char *group)
{
    const struct wire_attach attach = { .group = slice_text(group),
                                        .credit_messages = CREDIT_MESSAGES_MAX,
                                        .credit_bytes = CREDIT_BYTES_MAX };
    struct bytes payload = { 0 };

    must_ok(codec_attach_write(&payload, 2, &attach), NULL, "attach");
    send_payload(peer, bed, &payload);
}

void peer_close(struct peer *peer)
{
    close(peer->fd);
}
