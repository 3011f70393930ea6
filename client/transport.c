#include "client/transport.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

void transport_init(struct transport *t, const struct url *url,
                    struct tls_context *trust)
{
    *t = (struct transport) { .url = url, .trust = trust, .fd = -1 };
}

static void socket_close(struct transport *t)
{
    tls_free(t->tls);
    t->tls = NULL;
    if (t->fd >= 0) {
        (void)close(t->fd);
    }
    t->fd = -1;
    t->connected = false;
    t->wants_write = false;
}

void transport_close(struct transport *t)
{
    socket_close(t);
    if (t->addresses != NULL) {
        freeaddrinfo(t->addresses);
    }
    t->addresses = t->next = NULL;
}

static enum status connect_failed(struct transport *t, int sys,
                                  struct error *err)
{
    socket_close(t);
    return error_set(err, STATUS_IO, sys, "connect %s", t->url->authority);
}

static void set_options(int fd)
{
    int on = 1;

    /* Frames are coalesced here, so the kernel need not wait for more. That
     * either fails is no reason not to go on. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

/* Begin with the next address. */
static enum status try_next(struct transport *t, struct error *err)
{
    const struct addrinfo *address = t->next;

    t->next = address->ai_next;
    t->fd = socket(address->ai_family,
                   address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (t->fd < 0) {
        return connect_failed(t, errno, err);
    }
    set_options(t->fd);
    if (connect(t->fd, address->ai_addr, address->ai_addrlen) != 0
        && errno != EINPROGRESS && errno != EINTR) {
        return connect_failed(t, errno, err);
    }
    t->wants_write = true;
    return STATUS_OK;
}

static enum status try_rest(struct transport *t, enum status status,
                            struct error *err)
{
    while (status != STATUS_OK && t->next != NULL) {
        status = try_next(t, err);
    }
    return status;
}

enum status transport_start(struct transport *t, struct error *err)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICSERV };
    int failure;

    transport_close(t);
    failure = getaddrinfo(t->url->host, t->url->port, &hints, &t->addresses);
    if (failure != 0) {
        t->addresses = NULL;
        return error_set(err, STATUS_IO, 0, "look up %s: %s", t->url->host,
                         gai_strerror(failure));
    }
    t->next = t->addresses;
    return try_rest(t, STATUS_IO, err);
}

/* The socket became writable: did it connect? */
static enum status socket_connected(struct transport *t, struct error *err)
{
    int error = 0;
    socklen_t len = sizeof error;
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof peer;

    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        error = errno;
    }
    if (error != 0) {
        return connect_failed(t, error, err);
    }
    if (getpeername(t->fd, (struct sockaddr *)&peer, &peer_len) != 0) {
        return errno == ENOTCONN ? STATUS_AGAIN : connect_failed(t, errno, err);
    }
    t->connected = true;
    t->wants_write = false;
    return STATUS_OK;
}

static enum status secure(struct transport *t, struct error *err)
{
    enum status status = STATUS_OK;

    if (!t->url->tls) {
        return STATUS_OK;
    }
    if (t->tls == NULL) {
        status = tls_new(&t->tls, t->trust, t->fd, t->url->host, err);
    }
    if (status == STATUS_OK) {
        status = tls_handshake(t->tls, err);
    }
    if (status == STATUS_AGAIN) {
        t->wants_write = tls_wants_write(t->tls);
    } else if (status != STATUS_OK) {
        socket_close(t);
        return error_prefix(err, STATUS_IO, "connect %s", t->url->authority);
    }
    return status;
}

enum status transport_connect(struct transport *t, struct error *err)
{
    enum status status = STATUS_OK;

    if (!t->connected) {
        status = socket_connected(t, err);
    }
    if (status == STATUS_OK) {
        status = secure(t, err);
    }
    if (status == STATUS_OK) {
        t->wants_write = false;
        return STATUS_OK;
    }
    if (status == STATUS_AGAIN || t->next == NULL) {
        return status;
    }
    status = try_rest(t, status, err);
    return status == STATUS_OK ? STATUS_AGAIN : status;
}

static enum status would_block_or_fail(const char *what, struct error *err)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        return STATUS_AGAIN;
    }
    return error_set(err, STATUS_IO, errno, "%s", what);
}

enum status transport_read(struct transport *t, void *to, size_t len,
                           size_t *got, struct error *err)
{
    ssize_t n;

    if (t->tls != NULL) {
        return tls_read(t->tls, to, len, got, err);
    }
    n = recv(t->fd, to, len, 0);
    if (n < 0) {
        return would_block_or_fail("receive", err);
    }
    if (n == 0) {
        return error_set(err, STATUS_CLOSED, 0, "closed by the broker");
    }
    *got = (size_t)n;
    return STATUS_OK;
}

enum status transport_write(struct transport *t, const void *from, size_t len,
                            size_t *put, struct error *err)
{
    ssize_t n;

    if (t->tls != NULL) {
        return tls_write(t->tls, from, len, put, err);
    }
    n = send(t->fd, from, len, MSG_NOSIGNAL);
    if (n < 0) {
        return would_block_or_fail("send", err);
    }
    *put = (size_t)n;
    return STATUS_OK;
}
