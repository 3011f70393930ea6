#include "broker/net/inside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage storage;
};

/* ---- accepting ---- */

static bool is_loopback(const union address *from)
{
    const struct in6_addr *v6 = &from->v6.sin6_addr;

    if (from->any.sa_family == AF_INET) {
        return ntohl(from->v4.sin_addr.s_addr) >> 24 == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(v6)
           || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

static void name_peer(struct conn *conn, const union address *from)
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (from->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &from->v4.sin_addr, host, sizeof host);
        snprintf(conn->peer, sizeof conn->peer, "%s:%u", host,
                 (unsigned)ntohs(from->v4.sin_port));
    } else {
        inet_ntop(AF_INET6, &from->v6.sin6_addr, host, sizeof host);
        snprintf(conn->peer, sizeof conn->peer, "[%s]:%u", host,
                 (unsigned)ntohs(from->v6.sin6_port));
    }
    conn->loopback = is_loopback(from);
}

/* One answer without a connection of its own. What it may have asked already is
 * read first: closing with unread bytes would reset it. */
static void turn_away(struct net *net, int fd)
{
    static const char body[] =
        "{\"refused\":{\"status\":\"again\",\"text\":\"this broker has as "
        "many connections as it may have\"}}\n";
    char answer[512];
    int len = snprintf(answer, sizeof answer,
                       "HTTP/1.1 503 Service Unavailable\r\n"
                       "Server: godwit\r\n"
                       "Content-Length: %zu\r\n"
                       "Connection: close\r\n"
                       "Content-Type: application/json\r\n"
                       "Retry-After: 1\r\n"
                       "\r\n%s",
                       sizeof body - 1, body);

    CHECK(len > 0 && (size_t)len < sizeof answer);
    net->stats.refused++;
    if (net->config.tls == NULL) {
        (void)recv(fd, net->receive, NET_RECEIVE_LEN, 0);
        (void)send(fd, answer, (size_t)len, MSG_NOSIGNAL);
    }
    close(fd);
}

/* A connection keeps its place until it is freed, in whichever net. */
static bool take_place(struct net *net)
{
    _Atomic uint32_t *count = net->config.conn_count;

    if (atomic_fetch_add(count, 1) < net->config.conn_count_max) {
        return true;
    }
    atomic_fetch_sub(count, 1);
    return false;
}

static void welcome(struct net *net, int fd, const union address *from)
{
    int on = 1;
    struct conn *conn;
    bool wanted;

    if (!take_place(net)) {
        turn_away(net, fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    conn = conn_new(net, fd);
    if (conn == NULL) {
        net->stats.refused++;
        return;
    }
    name_peer(conn, from);
    net->visited = conn;
    wanted = net->config.handler->on_accepted(conn);
    if (net->visited != conn) {
        net->stats.accepted++; /* and handed over at once */
        return;
    }
    net->visited = NULL;
    if (!wanted) {
        net->stats.refused++;
        conn_die(conn, "refused");
        link_remove(&conn->all);
        net->stats.open--;
        conn_free(conn);
        return;
    }
    net->stats.accepted++;
    conn_expect(conn, true);
    conn_watch(conn);
}

static void set_accepting(struct net *net, bool on)
{
    for (size_t i = 0; i < net->listener_count; i++) {
        if (on) {
            ev_io_start(net->config.loop, &net->listeners[i].io);
        } else {
            ev_io_stop(net->config.loop, &net->listeners[i].io);
        }
    }
}

/* No descriptors or memory: the queue stays readable, so accepting must rest or
 * the loop would spin. */
static void pause_accepting(struct net *net)
{
    set_accepting(net, false);
    ev_timer_set(&net->accept_pause, NET_ACCEPT_PAUSE_MS / 1000.0, 0);
    ev_timer_start(net->config.loop, &net->accept_pause);
}

static void on_accept_pause_over(struct ev_loop *loop, ev_timer *watcher,
                                 int events)
{
    (void)loop;
    (void)events;
    set_accepting(container_of(watcher, struct net, accept_pause), true);
}

static bool accept_one(struct listener *listener)
{
    union address from = { .storage = { 0 } };
    socklen_t len = sizeof from;
    int fd =
        accept4(listener->fd, &from.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        welcome(listener->net, fd, &from);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        pause_accepting(listener->net);
        return false;
    case EAGAIN:
        return false;
    default:
        return true; /* that one went away again; the next may be fine */
    }
}

static void on_acceptable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct listener *listener = container_of(watcher, struct listener, io);

    (void)loop;
    (void)events;
    for (int i = 0; i < NET_ACCEPT_COUNT_MAX; i++) {
        if (!accept_one(listener)) {
            break;
        }
    }
}

/* ---- listening ---- */

static socklen_t address_len(const union address *address)
{
    return address->any.sa_family == AF_INET ? sizeof address->v4
                                             : sizeof address->v6;
}

static bool parse_address(const char *host, uint16_t port, union address *out)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        return true;
    }
    return false;
}

/* A bound socket; -1 with errno. `shared`: other threads bind it too. */
static int bind_socket(const union address *address, bool shared)
{
    int on = 1;
    int fd = socket(address->any.sa_family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int kept;

    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0
        && (!shared
            || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0)
        && (address->any.sa_family == AF_INET
            || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0)
        && bind(fd, &address->any, address_len(address)) == 0) {
        return fd;
    }
    kept = errno;
    close(fd);
    errno = kept;
    return -1;
}

static enum status cannot(const char *what, const char *host, uint16_t port,
                          struct error *err)
{
    int sys = errno;

    return error_set(err, sys == EADDRINUSE ? STATUS_BUSY : STATUS_IO, sys,
                     "%s %s port %u", what, host, (unsigned)port);
}

static enum status bound_port(int fd, const char *host, uint16_t *out,
                              struct error *err)
{
    union address bound = { .storage = { 0 } };
    socklen_t len = sizeof bound;

    if (getsockname(fd, &bound.any, &len) != 0) {
        return cannot("listen on", host, 0, err);
    }
    *out = ntohs(bound.any.sa_family == AF_INET ? bound.v4.sin_port
                                                : bound.v6.sin6_port);
    return STATUS_OK;
}

static enum status listen_on(struct net *net, const char *host, uint16_t port,
                             uint16_t *port_out, struct error *err)
{
    struct listener *listener = &net->listeners[net->listener_count];
    union address address;
    uint16_t bound = 0;
    int fd;

    if (!parse_address(host, port, &address)) {
        return error_set(err, STATUS_INVALID, 0,
                         "listen on %s: neither an IPv4 nor an IPv6 address "
                         "nor localhost",
                         host);
    }
    if (net->listener_count == NET_LISTENER_COUNT_MAX) {
        return error_set(err, STATUS_TOO_LARGE, 0,
                         "listen on %s: more than %d listeners", host,
                         NET_LISTENER_COUNT_MAX);
    }
    fd = bind_socket(&address, true);
    if (fd < 0) {
        return cannot("listen on", host, port, err);
    }
    if (listen(fd, BACKLOG) != 0
        || bound_port(fd, host, &bound, err) != STATUS_OK) {
        enum status status = cannot("listen on", host, port, err);

        close(fd);
        return status;
    }
    *listener = (struct listener) { .fd = fd, .net = net };
    ev_io_init(&listener->io, on_acceptable, fd, EV_READ);
    ev_io_start(net->config.loop, &listener->io);
    net->listener_count++;
    if (port_out != NULL) {
        *port_out = bound;
    }
    return STATUS_OK;
}

/* Without IPv6 in this kernel, or without ::1, localhost is 127.0.0.1 alone. A
 * port the system chose may be taken in IPv6. */
static bool may_lack_v6(const struct error *err, uint16_t asked)
{
    return err->sys == EAFNOSUPPORT || err->sys == EADDRNOTAVAIL
           || (err->sys == EADDRINUSE && asked == 0);
}

enum status net_listen(struct net *net, const char *host, uint16_t port,
                       uint16_t *port_out, struct error *err)
{
    struct error v6_err = { 0 };
    uint16_t bound = 0;
    enum status status;

    if (strcmp(host, "localhost") != 0) {
        return listen_on(net, host, port, port_out, err);
    }
    status = listen_on(net, "127.0.0.1", port, &bound, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = listen_on(net, "::1", bound, NULL, &v6_err);
    if (status != STATUS_OK && !may_lack_v6(&v6_err, port)) {
        if (err != NULL) {
            *err = v6_err;
        }
        return status;
    }
    if (port_out != NULL) {
        *port_out = bound;
    }
    return STATUS_OK;
}

enum status net_probe(const char *host, uint16_t port, struct error *err)
{
    union address address;
    int fd;

    if (strcmp(host, "localhost") == 0) {
        host = "127.0.0.1";
    }
    if (port == 0 || !parse_address(host, port, &address)) {
        return STATUS_OK; /* net_listen() will tell */
    }
    fd = bind_socket(&address, false);
    if (fd < 0) {
        return cannot("listen on", host, port, err);
    }
    close(fd);
    return STATUS_OK;
}

void net_stop_listening(struct net *net)
{
    ev_timer_stop(net->config.loop, &net->accept_pause);
    set_accepting(net, false);
    while (net->listener_count > 0) {
        close(net->listeners[--net->listener_count].fd);
    }
}

void listeners_start(struct net *net)
{
    ev_timer_init(&net->accept_pause, on_accept_pause_over, 0, 0);
}

void listeners_stop(struct net *net)
{
    net_stop_listening(net);
}
