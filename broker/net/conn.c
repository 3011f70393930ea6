#include "broker/net/conn.h"
#include "broker/net/inside.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static _Atomic uint64_t last_id; /* every worker takes from it */

static void on_io(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *conn = container_of(watcher, struct conn, io);

    (void)loop;
    if ((events & EV_WRITE) != 0) {
        conn->blocked = false;
        if (!conn_flush(conn)) {
            return; /* on_drained handed it over */
        }
    }
    if ((events & EV_READ) != 0 && conn->state != CONN_CLOSED) {
        conn_read(conn);
    }
}

struct conn *conn_new(struct net *net, int fd)
{
    struct conn *conn = calloc(1, sizeof *conn);

    if (conn == NULL
        || deadlines_reserve(&net->deadlines, net->stats.open + 1)
               != STATUS_OK) {
        goto fail;
    }
    if (net->config.tls != NULL) {
        conn->tls = tls_new(net->config.tls);
        if (conn->tls == NULL) {
            goto fail;
        }
        conn->secure = true;
    }
    conn->id = atomic_fetch_add(&last_id, 1) + 1;
    conn->net = net;
    conn->fd = fd;
    conn->keep_alive = true;
    conn->known = net->config.hello_len_max == 0;
    link_init(&conn->all);
    link_init(&conn->dirty);
    link_init(&conn->work);
    ev_io_init(&conn->io, on_io, fd, 0);
    list_append(&net->conns, &conn->all);
    net->stats.open++;
    return conn;

fail:
    atomic_fetch_sub(net->config.conn_count, 1);
    free(conn);
    close(fd);
    return NULL;
}

void conn_free(struct conn *conn)
{
    CHECK(conn->fd < 0 && link_is_alone(&conn->all)
          && link_is_alone(&conn->dirty));
    CHECK(conn->deadline.place == 0 && !ev_is_active(&conn->io));
    link_remove(&conn->work);
    atomic_fetch_sub(conn->net->config.conn_count, 1);
    free(conn);
}

bool conn_may_read(const struct conn *conn)
{
    switch (conn->state) {
    case CONN_OPEN:
        /* While a request is with the door a little of what follows is read, to
         * hear of the peer's end. */
        return !conn->peer_fin && !conn->paused
               && ((conn->websocket && conn->known) || !conn->congested)
               && !(conn->due && bytes_len(&conn->in) > 0);
    case CONN_CLOSING:
    case CONN_LINGERING:
        return !conn->peer_fin;
    case CONN_CLOSED:
        break;
    }
    return false;
}

static int wanted_events(const struct conn *conn)
{
    if (conn->state == CONN_CLOSED) {
        return 0;
    }
    return (conn->blocked ? EV_WRITE : 0) | (conn_may_read(conn) ? EV_READ : 0);
}

void conn_watch(struct conn *conn)
{
    int events = wanted_events(conn);
    bool active = ev_is_active(&conn->io);

    if (active == (events != 0)
        && (!active || (conn->io.events & (EV_READ | EV_WRITE)) == events)) {
        return;
    }
    ev_io_stop(conn->net->config.loop, &conn->io);
    if (events != 0) {
        ev_io_set(&conn->io, conn->fd, events);
        ev_io_start(conn->net->config.loop, &conn->io);
    }
}

void conn_die(struct conn *conn, const char *reason)
{
    struct net *net = conn->net;

    if (conn->state == CONN_CLOSED) {
        return;
    }
    conn->reason = conn->reason == NULL ? reason : conn->reason;
    conn->state = CONN_CLOSED;
    /* The watcher first: epoll may go on telling of a closed descriptor. */
    ev_io_stop(net->config.loop, &conn->io);
    close(conn->fd);
    conn->fd = -1;
    deadline_clear(&net->deadlines, &conn->deadline);
    link_remove(&conn->dirty);
    net_return_buffer(net, &conn->in);
    conn_count_input(conn);
    net_return_buffer(net, &conn->out);
    bytes_fini(&conn->wire);
    conn_count_output(conn);
    tls_free(conn->tls);
    conn->tls = NULL;
    ws_parts_free(conn);
    net_put_off(net, conn);
}

void conn_begin_close(struct conn *conn, const char *reason)
{
    struct net *net = conn->net;

    CHECK(conn->state == CONN_OPEN);
    conn->state = CONN_CLOSING;
    conn->reason = reason;
    conn->paused = false;
    conn->due = false;
    list_append(&net->dirty, &conn->dirty);
    net_put_off(net, conn); /* what is in conn->in, and the flush */
    conn_watch(conn);
    conn_expect(conn, false);
}

void conn_close(struct conn *conn, unsigned ws_code, const char *reason)
{
    if (conn->state != CONN_OPEN) {
        return;
    }
    if (conn->websocket) {
        ws_send_close(conn, ws_code, reason);
        conn->await_close = true;
    } else {
        conn->discard = true;
    }
    if (conn->state == CONN_OPEN) { /* there was memory for the frame */
        conn_begin_close(conn, reason);
    }
}

void conn_abort(struct conn *conn, const char *reason)
{
    conn_die(conn, reason);
}

void conn_pause(struct conn *conn)
{
    if (conn->state != CONN_OPEN || conn->paused) {
        return;
    }
    conn->paused = true;
    conn_watch(conn);
    conn_expect(conn, false);
}

void conn_resume(struct conn *conn)
{
    if (conn->state != CONN_OPEN || !conn->paused) {
        return;
    }
    conn->paused = false;
    net_put_off(conn->net, conn);
}

/* ---- from one worker to another ---- */

void conn_leave(struct conn *conn)
{
    struct net *net = conn->net;
    enum status status = STATUS_OK;

    CHECK(net != NULL);
    if (net->visited == conn) {
        /* Its payload may live in the buffer that is being handled: the rest
         * gets a new one. */
        if (net->rest.len > 0 && conn->state != CONN_CLOSED) {
            CHECK(bytes_len(&conn->in) == 0);
            status = bytes_append(&conn->in, net->rest.at, net->rest.len);
        }
        net->visited = NULL;
    }
    if (status != STATUS_OK) {
        conn_die(conn, "no_memory");
    }
    /* libev has no call to take a descriptor out of the epoll set: it stays
     * until an event comes for it here, and goes then by its number. The other
     * net may have closed it meanwhile, which took it out as well. If the
     * number is then nobody's, or a file's that is not in this set, the call
     * fails and libev makes the set anew. If it is in this set again, it is by
     * this thread, so not between the event and the call; an old event for it
     * has another generation, is dropped, and the set is made anew. Nothing is
     * lost or given to the wrong connection; the price is one such set-up. */
    ev_io_stop(net->config.loop, &conn->io);
    deadline_clear(&net->deadlines, &conn->deadline);
    link_remove(&conn->all);
    link_remove(&conn->dirty);
    link_remove(&conn->work);
    net->stats.open--;
    net->stats.input_bytes -= conn->counted;
    net->unknown_input -= conn->known ? 0 : conn->counted;
    conn->counted = 0;
    net->stats.output_bytes -= conn->waiting;
    net->unknown_output -= conn->known ? 0 : conn->waiting;
    conn->waiting = 0;
    conn->net = NULL;
}

void conn_enter(struct conn *conn, struct net *net)
{
    CHECK(conn->net == NULL);
    conn->net = net;
    list_append(&net->conns, &conn->all);
    net->stats.open++;
    net_put_off(net, conn);
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (deadlines_reserve(&net->deadlines, net->stats.open) != STATUS_OK) {
        conn_die(conn, "no_memory");
        return;
    }
    list_append(&net->dirty, &conn->dirty);
    conn_count_input(conn);
    conn_count_output(conn);
    conn_schedule(conn);
    conn_watch(conn);
    if (net->draining) {
        net_drain_one(conn);
    }
}

/* ---- what it is ---- */

void conn_set_known(struct conn *conn, bool known)
{
    struct net *net = conn->net;

    if (net != NULL && known != conn->known) {
        net->unknown_input += known ? 0 : conn->counted;
        net->unknown_input -= known ? conn->counted : 0;
        net->unknown_output += known ? 0 : conn->waiting;
        net->unknown_output -= known ? conn->waiting : 0;
        net_put_off(net, conn); /* what it had to wait with */
    }
    conn->known = known;
}

uint64_t conn_id(const struct conn *conn)
{
    return conn->id;
}

const char *conn_peer(const struct conn *conn)
{
    return conn->peer;
}

bool conn_secure(const struct conn *conn)
{
    return conn->secure;
}

bool conn_loopback(const struct conn *conn)
{
    return conn->loopback;
}

struct net *conn_net(const struct conn *conn)
{
    return conn->net;
}

bool conn_peer_finished(const struct conn *conn)
{
    return conn->peer_fin || conn->state == CONN_CLOSED;
}

void *conn_context(const struct conn *conn)
{
    return conn->context;
}

void conn_set_context(struct conn *conn, void *context)
{
    conn->context = context;
}
