#include "tools/compare/load/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ANSWER_MS_MAX = 20 * 1000,
    RECEIVE_LEN = 256 * 1024,
    IN_LEN_MAX = 256 * 1024 * 1024
};

void peer_fail(struct peer *p, const char *format, ...)
{
    va_list args;

    if (p->failed) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(p->text, sizeof p->text, format, args);
    va_end(args);
    p->failed = true;
}

static void connect_to(struct peer *p, uint16_t port)
{
    const struct sockaddr_in name = { .sin_family = AF_INET,
                                      .sin_port = htons(port),
                                      .sin_addr.s_addr =
                                          htonl(INADDR_LOOPBACK) };
    int one = 1;

    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->fd < 0
        || connect(p->fd, (const struct sockaddr *)&name, sizeof name) != 0) {
        peer_fail(p, "connect to port %u: %s", (unsigned)port, strerror(errno));
        return;
    }
    (void)setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fcntl(p->fd, F_SETFL, O_NONBLOCK) != 0) {
        peer_fail(p, "O_NONBLOCK: %s", strerror(errno));
    }
}

struct peer *peer_connect(const struct driver *driver, struct load *load,
                          uint16_t port)
{
    struct peer *p = calloc(1, sizeof *p);

    if (p != NULL) {
        p->driver = driver;
        p->load = load;
        p->port = port;
        connect_to(p, port);
    }
    return p;
}

void peer_free(struct peer *p)
{
    if (p == NULL) {
        return;
    }
    if (p->fd >= 0) {
        close(p->fd);
    }
    bytes_fini(&p->in);
    bytes_fini(&p->out);
    free(p->own);
    free(p);
}

/* ---- to be sent ---- */

uint8_t *peer_room(struct peer *p, size_t len)
{
    if (bytes_reserve(&p->out, len, IN_LEN_MAX) != STATUS_OK) {
        peer_fail(p, "out of memory");
    }
    return p->failed ? NULL : bytes_end(&p->out);
}

void peer_put(struct peer *p, const void *from, size_t len)
{
    uint8_t *at = peer_room(p, len);

    if (at != NULL) {
        memcpy(at, from, len);
        bytes_filled(&p->out, len);
    }
}

void peer_print(struct peer *p, const char *format, ...)
{
    char text[1024];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    CHECK(len >= 0 && (size_t)len < sizeof text);
    peer_put(p, text, (size_t)len);
}

void peer_flush(struct peer *p)
{
    while (!p->failed && bytes_len(&p->out) > 0) {
        ssize_t n =
            send(p->fd, bytes_begin(&p->out), bytes_len(&p->out), MSG_NOSIGNAL);

        if (n > 0) {
            bytes_consume(&p->out, (size_t)n);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            peer_fail(p, "send: %s", strerror(errno));
        }
    }
}

/* ---- to be read ---- */

void peer_receive(struct peer *p)
{
    ssize_t n;

    if (p->failed) {
        return;
    }
    if (bytes_reserve(&p->in, RECEIVE_LEN, IN_LEN_MAX) != STATUS_OK) {
        peer_fail(p, "out of memory");
        return;
    }
    n = recv(p->fd, bytes_end(&p->in), bytes_room(&p->in), 0);
    if (n > 0) {
        bytes_filled(&p->in, (size_t)n);
        p->driver->parse(p);
    } else if (n == 0) {
        peer_fail(p, "it closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
        peer_fail(p, "receive: %s", strerror(errno));
    }
}

void peer_await(struct peer *p, uint64_t count)
{
    uint64_t wanted = p->answers + count;

    while (!p->failed && p->answers < wanted) {
        struct pollfd fd = { .fd = p->fd, .events = POLLIN };

        peer_flush(p);
        if (bytes_len(&p->out) > 0) {
            fd.events |= POLLOUT;
        }
        if (!p->failed && poll(&fd, 1, ANSWER_MS_MAX) == 0) {
            peer_fail(p, "no answer within %d s", ANSWER_MS_MAX / 1000);
        }
        peer_receive(p);
    }
}

bool peer_line(const struct peer *p, size_t from, struct slice *line,
               size_t *next)
{
    const uint8_t *at = p->in.at + p->in.begin + from;
    size_t len = bytes_len(&p->in) - from;
    const uint8_t *end = len < 2 ? NULL : memchr(at, '\n', len);

    if (end == NULL || end == at) {
        return false;
    }
    *line = slice_of(at, (size_t)(end - at) - 1);
    *next = from + (size_t)(end - at) + 1;
    return true;
}

size_t put_decimal(uint8_t *at, uint64_t value)
{
    uint8_t digits[20];
    size_t count = 0;

    do {
        digits[count++] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (size_t i = 0; i < count; i++) {
        at[i] = digits[count - 1 - i];
    }
    return count;
}

size_t put_slice(uint8_t *at, struct slice part)
{
    memcpy(at, part.at, part.len);
    return part.len;
}

static size_t put_line_end(uint8_t *at)
{
    at[0] = '\r';
    at[1] = '\n';
    return 2;
}

size_t put_sized(uint8_t *at, struct slice part)
{
    size_t len = put_decimal(at, part.len);

    len += put_line_end(at + len);
    len += put_slice(at + len, part);
    return len + put_line_end(at + len);
}
