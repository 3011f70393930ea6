#include "broker/net/inside.h"

#include <time.h>

/* One timer for all connections of a net, at the earliest deadline. A deadline
 * that moves to later stays where it is in the heap and is looked at again when
 * it comes up: a busy connection moves nothing. Waits of many seconds are
 * rounded up to whole ones, so that idle connections come up together. */

enum { COARSE_MS = 1000 };

uint64_t net_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void arm(struct net *net)
{
    const struct deadline *first = deadlines_first(&net->deadlines);
    uint64_t now_ms = net_clock_ms();
    uint64_t after_ms;

    if (first == NULL
        || (ev_is_active(&net->clock) && net->clock_due_ms <= first->due_ms)) {
        return;
    }
    after_ms = first->due_ms > now_ms ? first->due_ms - now_ms : 0;
    net->clock_due_ms = first->due_ms;
    ev_timer_stop(net->config.loop, &net->clock);
    ev_timer_set(&net->clock, (double)(after_ms + 1) / 1000, 0);
    ev_timer_start(net->config.loop, &net->clock);
}

void conn_schedule(struct conn *conn)
{
    struct net *net = conn->net;
    uint64_t due_ms = conn->wait_due_ms;

    if (conn->write_due_ms != 0
        && (due_ms == 0 || conn->write_due_ms < due_ms)) {
        due_ms = conn->write_due_ms;
    }
    if (due_ms != 0
        && (conn->deadline.place == 0 || due_ms < conn->deadline.due_ms)) {
        deadline_set(&net->deadlines, &conn->deadline, due_ms);
        arm(net);
    }
}

static enum conn_wait open_waits_for(const struct conn *conn)
{
    uint64_t ignored;

    if (conn->paused || conn->due || conn_is_held(conn)) {
        return WAIT_NOTHING;
    }
    if (conn->websocket) {
        return bytes_len(&conn->in) > 0 || ws_in_fragments(conn, &ignored)
                   ? WAIT_FRAME
                   : WAIT_MESSAGE;
    }
    if (conn->need > 0) {
        return WAIT_BODY;
    }
    return bytes_len(&conn->in) > 0 || !conn->served ? WAIT_HEAD : WAIT_REQUEST;
}

static enum conn_wait waits_for(const struct conn *conn)
{
    switch (conn->state) {
    case CONN_OPEN:
        return open_waits_for(conn);
    case CONN_CLOSING: /* its output has a deadline of its own */
        return conn_backlog(conn) > 0 ? WAIT_NOTHING : WAIT_CLOSE;
    case CONN_LINGERING:
        return WAIT_CLOSE;
    case CONN_CLOSED:
        break;
    }
    return WAIT_NOTHING;
}

static uint64_t after(uint64_t ms)
{
    return ms == 0 ? 0 : net_clock_ms() + ms;
}

static uint64_t after_coarse(uint64_t ms)
{
    if (ms < COARSE_MS) {
        return after(ms);
    }
    return (net_clock_ms() + ms + COARSE_MS - 1) / COARSE_MS * COARSE_MS;
}

static uint64_t due_of(const struct conn *conn, enum conn_wait wait)
{
    const struct net_config *config = &conn->net->config;
    uint64_t due_ms;

    switch (wait) {
    case WAIT_NOTHING:
        break;
    case WAIT_HEAD:
        return after(config->head_ms);
    case WAIT_BODY:
        return after(config->body_ms);
    case WAIT_REQUEST:
    case WAIT_PONG:
        return after_coarse(config->idle_ms);
    case WAIT_FRAME:
        return ws_in_fragments(conn, &due_ms) ? due_ms : after(config->body_ms);
    case WAIT_MESSAGE:
        return after_coarse(config->ping_ms);
    case WAIT_CLOSE:
        return after(config->close_ms);
    }
    return 0;
}

static void wait_for(struct conn *conn, enum conn_wait wait)
{
    conn->wait = wait;
    conn->wait_due_ms = due_of(conn, wait);
    conn_schedule(conn);
}

void conn_expect(struct conn *conn, bool progress)
{
    enum conn_wait wait = waits_for(conn);

    if (!progress
        && (wait == conn->wait
            || (wait == WAIT_MESSAGE && conn->wait == WAIT_PONG))
        && conn->wait_due_ms != 0) {
        return;
    }
    wait_for(conn, wait);
}

void conn_expect_write(struct conn *conn, bool progress)
{
    if (conn_backlog(conn) == 0 || !conn->blocked) {
        conn->write_due_ms = 0;
    } else if (progress || conn->write_due_ms == 0) {
        conn->write_due_ms = after(conn->net->config.stall_ms);
        conn_schedule(conn);
    }
}

/* ---- when one has come ---- */

static void expire(struct conn *conn)
{
    switch (conn->wait) {
    case WAIT_NOTHING:
        break;
    case WAIT_HEAD:
        if (bytes_len(&conn->in) == 0) {
            conn_die(conn, "head_timeout"); /* or no TLS handshake */
        } else {
            http_refuse(conn, 408, "the request head took too long",
                        "head_timeout");
        }
        break;
    case WAIT_BODY:
        http_refuse(conn, 408, "the request body took too long",
                    "body_timeout");
        break;
    case WAIT_REQUEST:
        conn_close(conn, 0, "idle");
        break;
    case WAIT_FRAME:
        ws_refuse(conn, 1008, "the message took too long", "frame_timeout");
        break;
    case WAIT_MESSAGE:
        ws_ping(conn);
        if (conn->state == CONN_OPEN) {
            wait_for(conn, WAIT_PONG);
        }
        break;
    case WAIT_PONG:
        conn_close(conn, 1008, "idle");
        break;
    case WAIT_CLOSE:
        conn_die(conn, "close_timeout");
        break;
    }
}

static void on_clock(struct ev_loop *loop, ev_timer *watcher, int events)
{
    struct net *net = container_of(watcher, struct net, clock);
    uint64_t now_ms = net_clock_ms();
    struct deadline *first;

    (void)loop;
    (void)events;
    while ((first = deadlines_first(&net->deadlines)) != NULL
           && first->due_ms <= now_ms) {
        struct conn *conn = container_of(first, struct conn, deadline);

        deadline_clear(&net->deadlines, first);
        if (conn->write_due_ms != 0 && conn->write_due_ms <= now_ms) {
            conn_die(conn, "stalled");
        } else if (conn->wait_due_ms != 0 && conn->wait_due_ms <= now_ms) {
            conn->wait_due_ms = 0;
            expire(conn);
        }
        if (conn->state != CONN_CLOSED) {
            conn_schedule(conn);
        }
    }
    arm(net);
}

void clock_start(struct net *net)
{
    ev_timer_init(&net->clock, on_clock, 0, 0);
}

void clock_stop(struct net *net)
{
    ev_timer_stop(net->config.loop, &net->clock);
    deadlines_fini(&net->deadlines);
}
