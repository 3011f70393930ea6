#include "broker/net/inside.h"

#include <stdlib.h>
#include <sys/resource.h>

void net_wake(struct net *net)
{
    ev_idle_start(net->config.loop, &net->turn);
}

void net_put_off(struct net *net, struct conn *conn)
{
    list_append(&net->work, &conn->work);
    net_wake(net);
}

static void finish(struct net *net, struct conn *conn)
{
    net->stats.closed++;
    net->config.handler->on_closed(conn, conn->reason);
    link_remove(&conn->all);
    net->stats.open--;
    conn_free(conn);
}

/* What had to wait until no callback of the connection was running. */
static void on_turn(struct ev_loop *loop, ev_idle *watcher, int events)
{
    struct net *net = container_of(watcher, struct net, turn);
    struct link work;

    (void)events;
    ev_idle_stop(loop, watcher);
    list_take_all(&work, &net->work);
    while (!link_is_alone(&work)) {
        struct conn *conn = container_of(work.next, struct conn, work);

        link_remove(&conn->work);
        if (conn->state == CONN_CLOSED) {
            finish(net, conn);
        } else {
            conn_feed(conn);
        }
    }
}

/* The store must never lack a descriptor because of connections; it has one for
 * each segment of the log. */
static uint32_t descriptors_for_conns(void)
{
    struct rlimit limit;
    uint64_t reserve;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > UINT32_MAX) {
        return UINT32_MAX;
    }
    reserve = limit.rlim_cur / NET_DESCRIPTOR_PART;
    if (reserve < NET_DESCRIPTOR_RESERVE) {
        reserve = NET_DESCRIPTOR_RESERVE;
    }
    return (uint32_t)(limit.rlim_cur > 2 * reserve ? limit.rlim_cur - reserve
                                                   : limit.rlim_cur / 2);
}

static void set_defaults(struct net *net)
{
    struct net_config *config = &net->config;
    uint32_t possible = descriptors_for_conns();

    if (config->stall_ms == 0) {
        config->stall_ms = WRITE_STALL_MS;
    }
    if (config->close_ms == 0) {
        config->close_ms = CLOSE_WAIT_MS;
    }
    if (config->input_max == 0) {
        config->input_max = NET_INPUT_LEN_MAX;
    }
    if (config->output_total_max == 0) {
        config->output_total_max = NET_OUTPUT_LEN_MAX;
    }
    if (config->conn_count == NULL) {
        config->conn_count = &net->own_conn_count;
    }
    if (config->conn_count_max > possible) {
        config->conn_count_max = possible;
    }
}

enum status net_open(struct net **out, const struct net_config *config,
                     struct error *err)
{
    struct net *net = calloc(1, sizeof *net);

    CHECK(config->loop != NULL && config->handler != NULL);
    CHECK(config->output_low <= config->output_high);
    if (net == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "net");
    }
    net->config = *config;
    set_defaults(net);
    link_init(&net->conns);
    link_init(&net->dirty);
    link_init(&net->work);
    ev_idle_init(&net->turn, on_turn);
    ev_set_priority(&net->turn, EV_MAXPRI);
    listeners_start(net);
    clock_start(net);
    net->receive = malloc(NET_RECEIVE_LEN);
    if (net->receive == NULL) {
        net_close(net);
        return error_set(err, STATUS_NOMEM, 0, "net");
    }
    *out = net;
    return STATUS_OK;
}

void net_close(struct net *net)
{
    if (net == NULL) {
        return;
    }
    listeners_stop(net);
    while (!link_is_alone(&net->conns)) {
        struct conn *conn = container_of(net->conns.next, struct conn, all);

        if (conn->state != CONN_CLOSED) {
            conn_die(conn, "shutdown");
        }
        link_remove(&conn->all);
        conn_free(conn);
    }
    clock_stop(net);
    ev_idle_stop(net->config.loop, &net->turn);
    while (net->spare_count > 0) {
        bytes_fini(&net->spare[--net->spare_count]);
    }
    bytes_fini(&net->sink);
    free(net->receive);
    free(net);
}

/* A kept HTTP connection between two requests goes at once; one with a request
 * on its way goes after the answer, which says so. */
void net_drain_one(struct conn *conn)
{
    if (conn->websocket) {
        conn_close(conn, 1001, "being stopped");
    } else if (!conn->due && bytes_len(&conn->in) == 0) {
        conn_close(conn, 0, "drain");
    }
}

void net_drain(struct net *net)
{
    struct link *at = net->conns.next;

    net->draining = true;
    while (at != &net->conns) {
        struct conn *conn = container_of(at, struct conn, all);

        at = at->next;
        net_drain_one(conn);
    }
}

void net_flush(struct net *net)
{
    struct link dirty;

    list_take_all(&dirty, &net->dirty);
    while (!link_is_alone(&dirty)) {
        struct conn *conn = container_of(dirty.next, struct conn, dirty);

        link_remove(&conn->dirty);
        (void)conn_flush(conn);
    }
    net_bound_output(net);
    if (!link_is_alone(&net->dirty)) {
        net_wake(net); /* on_drained wrote more: the next turn's */
    }
}

void *net_owner(const struct net *net)
{
    return net->config.owner;
}

void net_stats(const struct net *net, struct net_stats *out)
{
    *out = net->stats;
}

void net_lend_buffer(struct net *net, struct bytes *b)
{
    if (b->at == NULL && net->spare_count > 0) {
        *b = net->spare[--net->spare_count];
    }
}

void net_return_buffer(struct net *net, struct bytes *b)
{
    if (b->at == NULL) {
        return;
    }
    if (b->capacity > NET_SPARE_LEN_MAX
        || net->spare_count == NET_SPARE_COUNT) {
        bytes_fini(b);
        return;
    }
    b->begin = b->end = 0;
    net->spare[net->spare_count++] = *b;
    *b = (struct bytes) { 0 };
}
