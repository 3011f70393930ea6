#include "broker/net/inside.h"

#include <errno.h>
#include <sys/socket.h>

/* The plan of a read: bytes go to the worker's one receive buffer and are
 * handled there; what is left (a part of a request or frame) moves to the
 * connection's own buffer and goes in front of the next read. Only something
 * longer than half the receive buffer is read straight into a buffer of its
 * own. For a known connection that is reserved once to its whole length; for
 * others it grows as bytes come, because announcing a length costs nothing.
 * Every callback may close the connection or hand it over. */

enum { OWN_READ_LEN = 64 * 1024, UNKNOWN_READ_LEN = 4 * 1024 };

struct slice net_take(struct net *net, size_t len)
{
    struct slice taken = slice_of(net->rest.at, len);

    CHECK(len <= net->rest.len);
    net->rest.at += len;
    net->rest.len -= len;
    return taken;
}

static bool may_handle(const struct conn *conn)
{
    switch (conn->state) {
    case CONN_OPEN:
        return !conn->paused && !conn->due && !conn_is_held(conn);
    case CONN_CLOSING:
    case CONN_LINGERING:
        return conn->await_close && !conn->discard;
    case CONN_CLOSED:
        break;
    }
    return false;
}

static bool drops_input(const struct conn *conn)
{
    return conn->state != CONN_OPEN && !may_handle(conn);
}

/* Handle what is whole at the beginning of `bytes`; net->rest is what is left.
 * False: the connection was handed over and is not ours any more. */
static bool handle(struct conn *conn, struct slice bytes, bool *progress)
{
    struct net *net = conn->net;

    *progress = false;
    net->visited = conn;
    net->rest = bytes;
    conn->need = 0;
    while (net->rest.len > 0 && may_handle(conn)) {
        bool whole = conn->websocket ? ws_step(conn) : http_step(conn);

        if (net->visited != conn) {
            net->rest = (struct slice) { 0 };
            return false;
        }
        if (!whole) {
            break;
        }
        *progress = true;
    }
    net->visited = NULL;
    if (drops_input(conn)) {
        net->rest.len = 0;
    }
    return true;
}

/* How long a buffer for the first thing there shall be, `len` bytes of which
 * have come. */
static size_t wanted_len(const struct conn *conn, size_t len)
{
    return conn->known && conn->need > len ? conn->need : len;
}

/* The rest was in the receive buffer. */
static void keep_rest(struct conn *conn)
{
    struct slice rest = conn->net->rest;
    size_t len = wanted_len(conn, rest.len);

    conn->net->rest = (struct slice) { 0 };
    if (rest.len == 0) {
        return;
    }
    if (bytes_reserve(&conn->in, len, len) != STATUS_OK
        || bytes_append(&conn->in, rest.at, rest.len) != STATUS_OK) {
        conn_die(conn, "no_memory");
    }
}

/* The rest was in `own`: a little rest does not keep a large buffer. */
static void keep_own(struct conn *conn, struct bytes *own)
{
    struct slice rest = conn->net->rest;
    size_t len = wanted_len(conn, rest.len);

    if (rest.len > 0 && own->capacity / 4 > len) {
        keep_rest(conn);
    } else if (rest.len > 0) {
        bytes_consume(own, bytes_len(own) - rest.len);
        conn->in = *own;
        *own = (struct bytes) { 0 };
    }
    conn->net->rest = (struct slice) { 0 };
    net_return_buffer(conn->net, own);
}

static bool handle_own(struct conn *conn, struct bytes *own, bool *progress)
{
    struct net *net = conn->net;

    if (!handle(conn, slice_of(bytes_begin(own), bytes_len(own)), progress)) {
        net_return_buffer(net, own);
        return false;
    }
    keep_own(conn, own);
    return true;
}

/* By what has come, never by what was announced. */
void conn_count_input(struct conn *conn)
{
    struct net *net = conn->net;
    size_t len = conn->state == CONN_CLOSED
                     ? 0
                     : bytes_len(&conn->in) + ws_held_len(conn);

    net->stats.input_bytes += len;
    net->stats.input_bytes -= conn->counted;
    if (!conn->known) {
        net->unknown_input += len;
        net->unknown_input -= conn->counted;
    }
    conn->counted = len;
}

static void drop_input(struct conn *conn)
{
    bytes_fini(&conn->in);
    ws_parts_free(conn);
    conn->need = 0;
    conn_count_input(conn);
}

static void refuse_input(struct conn *conn)
{
    if (conn->state != CONN_OPEN || conn->due) {
        conn_die(conn, "input_max"); /* no answer can come in between */
        return;
    }
    if (conn->websocket) {
        ws_refuse(conn, 1013, "too many half messages wait here; try again",
                  "input_max");
    } else {
        http_refuse(conn, 503, "too many half requests wait here; try again",
                    "input_max");
    }
    if (conn->state != CONN_CLOSED) {
        drop_input(conn);
    }
}

static struct conn *largest_unknown_input(struct conn *largest)
{
    struct link *conns = &largest->net->conns;

    for (struct link *at = conns->next; at != conns; at = at->next) {
        struct conn *conn = container_of(at, struct conn, all);

        if (!conn->known && conn->counted > largest->counted) {
            largest = conn;
        }
    }
    return largest;
}

/* Memory for what is half there is bounded over all connections: the known one
 * that goes over the bound is refused. Those that are not known share a small
 * part of it, and there the one that holds most goes: a few strangers with much
 * do not keep out all others with little. */
static void refuse_over_input_max(struct conn *conn)
{
    struct net *net = conn->net;
    size_t max = net->config.input_max;
    size_t before = conn->counted;
    bool waits;

    conn_count_input(conn);
    if (conn->counted <= before) {
        return;
    }
    if (!conn->known && net->unknown_input > max / NET_UNKNOWN_PART) {
        refuse_input(largest_unknown_input(conn));
    }
    waits =
        conn->need > bytes_len(&conn->in) || ws_held_len(conn) > 0 || conn->due;
    if (conn->state == CONN_OPEN && net->stats.input_bytes > max && waits) {
        refuse_input(conn);
    }
}

static struct bytes detach(struct bytes *from)
{
    struct bytes own = *from;

    *from = (struct bytes) { 0 };
    return own;
}

/* Nothing more will come. What was asked for is still answered. */
static void on_fin(struct conn *conn)
{
    switch (conn->state) {
    case CONN_OPEN:
        if (may_handle(conn)) { /* and has: no whole one is left */
            conn->discard = true;
            conn_begin_close(conn, "peer_closed");
        }
        break;
    case CONN_CLOSING:
        list_append(&conn->net->dirty, &conn->dirty);
        break;
    case CONN_LINGERING:
        conn_die(conn, "peer_closed");
        break;
    case CONN_CLOSED:
        break;
    }
}

static void after_input(struct conn *conn, bool progress)
{
    refuse_over_input_max(conn);
    if (drops_input(conn)) {
        drop_input(conn);
    }
    if (conn->peer_fin) {
        on_fin(conn);
    }
    if (conn->state != CONN_CLOSED) {
        conn_expect(conn, progress);
        conn_watch(conn);
    }
}

void conn_feed(struct conn *conn)
{
    struct bytes own;
    bool progress = false;

    if (bytes_len(&conn->in) > 0 && may_handle(conn)) {
        own = detach(&conn->in);
        if (!handle_own(conn, &own, &progress)) {
            return;
        }
    }
    after_input(conn, progress);
}

/* How many bytes came; 0: none now, or the end, or an error that was fatal. */
static size_t receive(struct conn *conn, uint8_t *into, size_t len)
{
    ssize_t got;

    do {
        got = recv(conn->fd, into, len, 0);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        conn->net->stats.received_bytes += (uint64_t)got;
        return (size_t)got;
    }
    if (got == 0) {
        conn->peer_fin = true;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        conn_die(conn, errno == ECONNRESET ? "reset" : "io");
    }
    return 0;
}

enum read_result {
    READ_MORE, /* there may be more in the socket */
    READ_DONE,
    READ_GONE /* the connection is not ours any more */
};

static enum read_result read_and_drop(struct conn *conn)
{
    size_t got = receive(conn, conn->net->receive, NET_RECEIVE_LEN);

    conn->lingered += got;
    if (conn->lingered > LINGER_LEN_MAX) {
        conn_die(conn, "talks_on");
    }
    return got == NET_RECEIVE_LEN ? READ_MORE : READ_DONE;
}

static size_t long_read_len(const struct conn *conn)
{
    size_t kept = bytes_len(&conn->in);
    size_t want = conn->need > kept ? conn->need - kept : OWN_READ_LEN;
    size_t bound = kept > UNKNOWN_READ_LEN ? kept : UNKNOWN_READ_LEN;

    return conn->known || want < bound ? want : bound;
}

/* Behind what is there, in a buffer of its own. */
static enum read_result read_long(struct conn *conn, bool *progress)
{
    size_t kept = bytes_len(&conn->in);
    size_t want = long_read_len(conn);
    struct bytes own;
    size_t got;

    if (bytes_reserve(&conn->in, want, kept + want) != STATUS_OK) {
        conn_die(conn, "no_memory");
        return READ_DONE;
    }
    got = receive(conn, bytes_end(&conn->in), want);
    if (got == 0) {
        return READ_DONE;
    }
    bytes_filled(&conn->in, got);
    if (bytes_len(&conn->in) < conn->need) {
        /* parsing again would tell nothing new */
        return got == want ? READ_MORE : READ_DONE;
    }
    own = detach(&conn->in);
    return handle_own(conn, &own, progress)
               ? (got == want ? READ_MORE : READ_DONE)
               : READ_GONE;
}

/* Behind a request that is with the door only a little is read. */
static size_t read_len(const struct conn *conn)
{
    return conn->due ? HTTP_HEAD_LEN_MAX : NET_RECEIVE_LEN;
}

static enum read_result read_short(struct conn *conn, bool *progress)
{
    struct net *net = conn->net;
    size_t kept = bytes_len(&conn->in);
    size_t room = read_len(conn) - kept;
    size_t got = receive(conn, net->receive + kept, room);

    if (got == 0) {
        return READ_DONE;
    }
    if (kept > 0) {
        memcpy(net->receive, bytes_begin(&conn->in), kept);
        bytes_fini(&conn->in);
    }
    if (!handle(conn, slice_of(net->receive, kept + got), progress)) {
        return READ_GONE;
    }
    keep_rest(conn);
    return got == room ? READ_MORE : READ_DONE;
}

/* Decrypted bytes go behind what is there; alerts and handshakes to the wire. */
static enum read_result read_tls(struct conn *conn, bool *progress)
{
    struct net *net = conn->net;
    size_t room = read_len(conn);
    size_t got = receive(conn, net->receive, room);
    const char *why = NULL;
    enum status status;
    struct bytes own;

    if (got == 0) {
        return READ_DONE;
    }
    own = detach(&conn->in);
    net_lend_buffer(net, &own);
    status = tls_receive(conn->tls, slice_of(net->receive, got), &own,
                         &conn->wire, &why);
    if (conn_backlog(conn) > 0) {
        list_append(&net->dirty, &conn->dirty);
    }
    conn->peer_fin |= status == STATUS_CLOSED;
    if (!handle_own(conn, &own, progress)) {
        return READ_GONE;
    }
    if (status == STATUS_INVALID || status == STATUS_NOMEM) {
        conn->discard = true;
        conn->await_close = false;
        if (conn->state == CONN_OPEN) {
            conn_begin_close(conn,
                             status == STATUS_INVALID ? "tls" : "no_memory");
        }
    }
    return got == room ? READ_MORE : READ_DONE;
}

static enum read_result read_once(struct conn *conn, bool *progress)
{
    if (drops_input(conn)) {
        return read_and_drop(conn);
    }
    if (conn->tls != NULL) {
        return read_tls(conn, progress);
    }
    if (conn->need > NET_RECEIVE_LEN / 2
        || bytes_len(&conn->in) > NET_RECEIVE_LEN / 2) {
        return read_long(conn, progress);
    }
    return read_short(conn, progress);
}

void conn_read(struct conn *conn)
{
    enum read_result result = READ_MORE;
    bool any = false;

    for (int i = 0; i < NET_READ_COUNT_MAX && result == READ_MORE; i++) {
        bool progress = false;

        if (!conn_may_read(conn)) {
            break;
        }
        result = read_once(conn, &progress);
        any |= progress;
    }
    if (result != READ_GONE) {
        after_input(conn, any);
    }
}
