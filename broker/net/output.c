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

static size_t at_most(size_t len, size_t max)
{
    return len < max ? len : max;
}

static size_t output_high(const struct conn *conn)
{
    size_t high = conn->net->config.output_high;

    return conn->known ? high : at_most(high, NET_UNKNOWN_OUTPUT_HIGH);
}

static size_t output_low(const struct conn *conn)
{
    size_t low = conn->net->config.output_low;

    return conn->known ? low : at_most(low, NET_UNKNOWN_OUTPUT_LOW);
}

/* net_flush() begins by taking note of this, so whoever was told is called. */
bool conn_congested(const struct conn *conn)
{
    return conn->congested || conn_backlog(conn) >= output_high(conn);
}

bool conn_is_held(const struct conn *conn)
{
    return !(conn->websocket && conn->known) && conn_congested(conn);
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
    conn->congested |= conn_backlog(conn) >= output_high(conn);
}

void conn_count_output(struct conn *conn)
{
    struct net *net = conn->net;
    size_t len = conn_backlog(conn);

    net->stats.output_bytes += len;
    net->stats.output_bytes -= conn->waiting;
    if (!conn->known) {
        net->unknown_output += len;
        net->unknown_output -= conn->waiting;
    }
    conn->waiting = len;
}

/* A single answer may be longer than output_max, and so may what one turn adds:
 * too much is what comes on top while the peer has not taken that. */
static bool is_over_output_max(const struct conn *conn, size_t before)
{
    return conn->waiting > conn->net->config.output_max
           && before >= output_high(conn) && conn->waiting > before;
}

static void cut_off_largest(struct net *net, bool unknown_only)
{
    struct conn *largest = NULL;

    for (struct link *at = net->conns.next; at != &net->conns; at = at->next) {
        struct conn *conn = container_of(at, struct conn, all);

        if ((!unknown_only || !conn->known)
            && (largest == NULL || conn->waiting > largest->waiting)) {
            largest = conn;
        }
    }
    CHECK(largest != NULL && largest->waiting > 0);
    conn_die(largest, "slow_reader");
}

void net_bound_output(struct net *net)
{
    uint64_t max = net->config.output_total_max;

    while (net->unknown_output > max / NET_UNKNOWN_PART) {
        cut_off_largest(net, true);
    }
    while (net->stats.output_bytes > max) {
        cut_off_largest(net, false);
    }
}

static bool tell_drained(struct conn *conn)
{
    struct net *net = conn->net;
    size_t backlog = conn_backlog(conn);

    if (conn->state != CONN_OPEN || !conn->congested
        || (backlog >= output_low(conn) && backlog > 0)) {
        return true;
    }
    conn->congested = false;
    if (!conn->websocket || !conn->known) {
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
    size_t gathered = conn_backlog(conn);
    size_t before = conn->waiting;

    if (conn->state == CONN_CLOSED) {
        return true;
    }
    note_congestion(conn);
    if (!write_out(conn)) {
        conn_die(conn, errno == EPIPE || errno == ECONNRESET ? "reset" : "io");
        return true;
    }
    conn_count_output(conn);
    if (is_over_output_max(conn, before)) {
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
    conn_expect_write(conn, conn_backlog(conn) < gathered);
    if (conn->state != CONN_OPEN) {
        conn_expect(conn, false);
    }
    if (!tell_drained(conn)) {
        return false;
    }
    conn_watch(conn);
    return true;
}
