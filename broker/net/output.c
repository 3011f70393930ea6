#include "broker/net/inside.h"

#include <errno.h>
#include <sys/socket.h>

size_t conn_backlog(const struct conn *conn)
{
    return bytes_len(&conn->out) + bytes_len(&conn->wire);
}

struct bytes *conn_output(struct conn *conn)
{
    struct net *net = conn->net;

    CHECK(net != NULL);
    if (conn->state != CONN_OPEN) {
        net->sink.begin = net->sink.end = 0;
        return &net->sink;
    }
    net_lend_buffer(net, &conn->out);
    list_append(&net->dirty, &conn->dirty);
    return &conn->out;
}

bool conn_append(struct conn *conn, const void *from, size_t len)
{
    if (bytes_append(conn_output(conn), from, len) != STATUS_OK) {
        conn_die(conn, "no_memory");
        return false;
    }
    return true;
}

/* net_flush() begins by taking note of this, so whoever was told is called. */
bool conn_congested(const struct conn *conn)
{
    return conn->congested
           || conn_backlog(conn) >= conn->net->config.output_high;
}

/* A part of it at a time, so that what waits is not held twice. */
static bool encrypt_some(struct conn *conn)
{
    size_t len = bytes_len(&conn->out);

    if (len == 0 || !tls_established(conn->tls)) {
        return true;
    }
    if (len > NET_ENCRYPT_LEN) {
        len = NET_ENCRYPT_LEN;
    }
    net_lend_buffer(conn->net, &conn->wire);
    if (tls_send(conn->tls, slice_of(bytes_begin(&conn->out), len), &conn->wire)
        != STATUS_OK) {
        return false;
    }
    bytes_consume(&conn->out, len);
    return true;
}

/* False: a fatal error. */
static bool send_some(struct conn *conn, struct bytes *from)
{
    ssize_t sent =
        send(conn->fd, bytes_begin(from), bytes_len(from), MSG_NOSIGNAL);

    if (sent >= 0) {
        conn->net->stats.sent_bytes += (uint64_t)sent;
        bytes_consume(from, (size_t)sent);
        return true;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        conn->blocked = true;
        return true;
    }
    return errno == EINTR;
}

/* Until all is out or the socket takes no more. False: a fatal error. */
static bool write_out(struct conn *conn)
{
    struct bytes *from = conn->tls != NULL ? &conn->wire : &conn->out;

    while (!conn->blocked) {
        if (conn->tls != NULL && bytes_len(from) == 0 && !encrypt_some(conn)) {
            return false;
        }
        if (bytes_len(from) == 0) {
            break;
        }
        if (!send_some(conn, from)) {
            return false;
        }
    }
    if (bytes_len(&conn->out) == 0) {
        net_return_buffer(conn->net, &conn->out);
    }
    if (bytes_len(&conn->wire) == 0) {
        net_return_buffer(conn->net, &conn->wire);
    }
    return true;
}

/* CLOSING, and all is written: our side's end, unless the peer still owes us
 * its close frame. */
static void finish_close(struct conn *conn)
{
    if (conn->await_close && !conn->peer_fin) {
        return;
    }
    if (!conn->shut) {
        conn->shut = true;
        if (conn->tls != NULL) {
            tls_shutdown(conn->tls, &conn->wire);
        }
        if (!write_out(conn)) {
            conn_die(conn, "io");
            return;
        }
    }
    /* Output for which there never was a TLS session does not count. */
    if (bytes_len(&conn->wire) > 0) {
        return;
    }
    if (conn->peer_fin || shutdown(conn->fd, SHUT_WR) != 0) {
        conn_die(conn, "closed");
        return;
    }
    conn->state = CONN_LINGERING;
}

static bool all_written(const struct conn *conn)
{
    return bytes_len(&conn->wire) == 0
           && (bytes_len(&conn->out) == 0
               || (conn->tls != NULL && !tls_established(conn->tls)));
}

static void note_congestion(struct conn *conn)
{
    conn->congested |= conn_backlog(conn) >= conn->net->config.output_high;
}

static bool tell_drained(struct conn *conn)
{
    struct net *net = conn->net;
    size_t backlog = conn_backlog(conn);

    if (conn->state != CONN_OPEN || !conn->congested
        || (backlog >= net->config.output_low && backlog > 0)) {
        return true;
    }
    conn->congested = false;
    if (!conn->websocket) {
        net_put_off(net, conn); /* requests that waited */
    }
    net->visited = conn;
    net->config.handler->on_drained(conn);
    if (net->visited != conn) {
        return false;
    }
    net->visited = NULL;
    return true;
}

bool conn_flush(struct conn *conn)
{
    size_t before = conn_backlog(conn);

    if (conn->state == CONN_CLOSED) {
        return true;
    }
    note_congestion(conn);
    if (!write_out(conn)) {
        conn_die(conn, errno == EPIPE || errno == ECONNRESET ? "reset" : "io");
        return true;
    }
    if (conn_backlog(conn) > conn->net->config.output_max) {
        conn_die(conn, "slow_reader");
        return true;
    }
    if (conn->state == CONN_CLOSING && all_written(conn)) {
        finish_close(conn);
    }
    if (conn->state == CONN_CLOSED) {
        return true;
    }
    ws_late_pong(conn);
    conn_expect_write(conn, conn_backlog(conn) < before);
    if (conn->state != CONN_OPEN) {
        conn_expect(conn, false);
    }
    if (!tell_drained(conn)) {
        return false;
    }
    conn_watch(conn);
    return true;
}
