#include "broker/worker.h"

#include "broker/clock.h"
#include "broker/door/doors.h"
#include "broker/session/inside.h"
#include "broker/log.h"
#include "broker/priority.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LETTERS_PER_TURN = 256,
    DUE_MS_MIN = 5, /* lease ends and backoffs need no finer clock */
    BOOKS_SECONDS = 5,
    OUTPUT_HIGH = 1024 * 1024, /* a connection with more to send waits ... */
    OUTPUT_LOW = 256 * 1024,   /* ... until this */
    LIGHT_BYTES = 16 * 1024,   /* a turn that wrote no more may sync itself */
    LOAD_WINDOW_US = 4000 /* at least, from one look at the load to the next */
};

static const double books_seconds = BOOKS_SECONDS;
static const double books_part_seconds = 0.02; /* to the next part of a round */

/* ---- 1: what became durable ---- */

void worker_drain_commits(struct worker *w)
{
    size_t count = ring_available(w->all->commits, w->index);

    for (size_t i = 0; i < count; i++) {
        const struct store_commit *commit =
            ring_entry(w->all->commits, w->index, i);
        dispatch_commit(w->dispatch, commit);
    }
    if (count > 0) {
        ring_consumed(w->all->commits, w->index, count);
    }
}

static void take_durable(struct worker *w)
{
    /* Read before the ring is: the journal tells the ring first. */
    w->durable = submission_durable(w->submission);
    worker_drain_commits(w);
    dispatch_durable(w->dispatch, w->durable);
    pending_answer(w, w->durable);
    if (store_frozen(w->all->store)
        && (!pending_empty(&w->pending) || w->unplaced != NULL
            || w->operations != NULL)) {
        pending_refuse_all(w);
    }
    publish_retry(w);
    if (w->index == 0) {
        change_next(w);
    }
}

/* ---- 2: letters ---- */

static void take_letters(struct worker *w)
{
    for (int i = 0; i < LETTERS_PER_TURN; i++) {
        struct letter *letter = mailbox_take(w->inbox);
        if (letter == NULL) {
            return;
        }
        letter->deliver(letter, w);
    }
    ev_idle_start(w->loop, &w->more);
}

static void begin_drain(struct worker *w)
{
    if (!w->drain_begun) {
        w->drain_begun = true;
        net_stop_listening(w->net);
        session_end_pulls(w);
        looks_end(w);
    }
}

static void on_turn_begins(struct ev_loop *loop, ev_check *watcher, int events)
{
    struct worker *w = container_of(watcher, struct worker, turn_begins);

    (void)loop;
    (void)events;
    w->now_us = clock_monotonic_us();
    w->load.turn_us = w->now_us;
    w->turn++;
    w->settle_looks = SETTLE_LOOKS_TURN;
    take_durable(w);
    session_go_on_settling(w);
    session_go_on_operating(w);
    take_letters(w);
    if (worker_draining(w)) {
        begin_drain(w);
    }
}

/* ---- 4: what goes out ---- */

static void show_figures(struct worker *w)
{
    struct worker_metrics *m = w->metrics;
    struct net_stats net;

    net_stats(w->net, &net);
    metric_set(&m->sessions, net.open);
    metric_set(&m->net_received_bytes, net.received_bytes);
    metric_set(&m->net_sent_bytes, net.sent_bytes);
    metric_set(&m->net_requests, net.requests);
    metric_set(&m->net_frames, net.frames);
    metric_set(&m->net_bad_requests, net.bad_requests);
    metric_set(&m->net_bad_frames, net.bad_frames);
    metric_set(&m->net_accepted, net.accepted);
    metric_set(&m->net_refused, net.refused);
    metric_set(&m->net_pings_unanswered, net.pings_unanswered);
    metric_set(&m->searches, w->looks.searches);
    metric_set(&m->tails, w->looks.tails);
    metric_set(&m->pending_confirms, w->pending.end - w->pending.begin);
    metric_set(&m->submission_bytes,
               SUBMISSION_LEN - submission_room(w->submission));
    dispatch_show(w->dispatch, m);
}

/* All that was taken is answered: let the connections go. */
static void go_on_draining(struct worker *w)
{
    if (w->drain_begun && pending_empty(&w->pending) && w->unplaced == NULL
        && w->operations == NULL && w->stalled_first == NULL
        && w->rests.first == NULL && w->operating == NULL) {
        net_drain(w->net);
        if (w->metrics->sessions == 0 && !w->stopping) {
            w->stopping = true;
            atomic_fetch_add(&w->all->drained, 1);
        }
    }
}

static void set_due_timer(struct worker *w)
{
    uint64_t due = dispatch_due_us(w->dispatch);
    uint64_t wait_us;

    ev_timer_stop(w->loop, &w->due);
    if (due == UINT64_MAX) {
        return;
    }
    wait_us = due > w->now_us ? due - w->now_us : 0;
    if (wait_us < DUE_MS_MIN * 1000) {
        wait_us = DUE_MS_MIN * 1000;
    }
    ev_timer_set(&w->due, (double)wait_us / 1e6, 0.0);
    ev_timer_start(w->loop, &w->due);
}

static uint64_t messages_moved(const struct worker *w)
{
    return w->metrics->delivered_messages + w->metrics->settled_accepted
           + w->metrics->published_messages;
}

/* The books are checked every few seconds while anything moves; an idle broker
 * sleeps. */
static void watch_books(struct worker *w)
{
    if (messages_moved(w) != w->books_mark && !ev_is_active(&w->books)) {
        ev_timer_set(&w->books, books_seconds, 0.0);
        ev_timer_start(w->loop, &w->books);
    }
}

/* ---- 5: who syncs ---- */

/* Called before a sync of our own, which is no work: without it we would wait
 * for the journal's. */
static void note_load(struct worker *w, uint64_t now_us)
{
    struct worker_load *load = &w->load;
    uint64_t window_us = now_us - load->window_us;

    load->worked_us += now_us - load->turn_us;
    if (window_us >= LOAD_WINDOW_US) {
        load->high = load->worked_us > window_us / 2;
        load->window_us = now_us;
        load->worked_us = 0;
    }
}

/* Show the journal what this turn wrote. With little to do here the turn may
 * write and sync it itself, at its very end: true. */
static bool publish_records(struct worker *w)
{
    bool light = submission_written(w->submission) - w->durable <= LIGHT_BYTES
                 && !w->load.high && !dispatch_has_more(w->dispatch)
                 && mailbox_empty(w->inbox);

    if (!submission_publish(w->submission)) {
        return false;
    }
    if (!light) {
        journal_wake(w->all->journal);
    }
    return light;
}

static void on_turn_ends(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    struct worker *w = container_of(watcher, struct worker, turn_ends);
    uint64_t begin;
    bool looking;
    bool sync;

    (void)events;
    w->now_us = clock_monotonic_us();
    dispatch_tick(w->dispatch, w->now_us);
    dispatch_pump(w->dispatch, w->now_us);
    session_finish_pulls(w);
    begin = submission_written(w->submission);
    if (!store_frozen(w->all->store)
        && dispatch_log(w->dispatch, w->submission, w->now_us,
                        clock_wall_us())) {
        session_place_settles(w, begin);
        session_place_operations(w, begin);
    }
    sync = publish_records(w);
    /* Outcomes that needed no record are durable already. What became durable
     * during this turn waits for the next: an answer may not run ahead of this
     * worker's replica. */
    pending_answer(w, w->durable);
    looking = looks_run(w);
    net_flush(w->net);
    show_figures(w);
    go_on_draining(w);
    set_due_timer(w);
    watch_books(w);
    /* Asked last: what was written may have made room for members. */
    if (dispatch_has_more(w->dispatch) || looking || !mailbox_empty(w->inbox)
        || w->rests.first != NULL || w->operating != NULL) {
        ev_idle_start(loop, &w->more);
    } else {
        ev_idle_stop(loop, &w->more);
    }
    note_load(w, clock_monotonic_us());
    if (sync) {
        journal_commit(w->all->journal, w->index);
    }
    dispatch_rest(w->dispatch);
}

static void on_due(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)timer;
    (void)events; /* the end of each turn looks at what is due */
}

static void on_books(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct worker *w = container_of(timer, struct worker, books);
    bool more = false;

    (void)events;
    w->books_mark = messages_moved(w);
    metric_add(&w->metrics->books_differences,
               dispatch_check_books(w->dispatch, w->now_us, &more));
    if (more) {
        ev_timer_set(timer, books_part_seconds, 0.0);
        ev_timer_start(loop, timer);
    }
}

static void on_more(struct ev_loop *loop, ev_idle *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events; /* the turn itself does the work */
}

static void on_awake(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events; /* the turn itself looks at what there is */
}

/* ---- connections ---- */

static bool on_accepted(struct conn *conn)
{
    return session_new(net_owner(conn_net(conn)), conn, &door_http) != NULL;
}

static void on_request(struct conn *conn, const struct http_request *request)
{
    struct worker *w = net_owner(conn_net(conn));

    http_api_request(conn_context(conn), request, w->all->metrics);
}

static void on_upgrade(struct conn *conn, const struct http_request *request)
{
    struct worker *w = net_owner(conn_net(conn));

    http_api_upgrade(conn_context(conn), request, w->all->config->head_ms);
}

static void on_message(struct conn *conn, bool text, uint8_t *payload,
                       size_t len)
{
    struct session *s = conn_context(conn);
    bool json = s->door == &door_json;

    if (json != text) {
        conn_close(conn, 1003,
                   json ? "text frames are spoken here"
                        : "binary frames are spoken here");
    } else if (json) {
        stream_json_message(s, payload, len);
    } else {
        stream_proto_message(s, payload, len);
    }
}

static void on_drained(struct conn *conn)
{
    session_drained(conn_context(conn));
}

/* Cut off, and not by either side's wish: an operator may want to know. */
static bool is_remarkable(const char *reason)
{
    static const char *const ordinary[] = { "peer_closed",   "closed",
                                            "shutdown",      "drain",
                                            "being stopped", "idle" };

    for (size_t i = 0; i < COUNT_OF(ordinary); i++) {
        if (strcmp(reason, ordinary[i]) == 0) {
            return false;
        }
    }
    return true;
}

static void on_closed(struct conn *conn, const char *reason)
{
    struct session *s = conn_context(conn);

    log_line(is_remarkable(reason) ? LOG_INFO : LOG_DEBUG,
             "conn closed id=%llu peer=%s reason=\"%s\"",
             (unsigned long long)conn_id(conn), conn_peer(conn), reason);
    if (s != NULL) {
        session_closed(s);
    }
}

static const struct conn_handler handler = {
    .on_request = on_request,
    .on_upgrade = on_upgrade,
    .on_message = on_message,
    .on_drained = on_drained,
    .on_closed = on_closed,
    .on_accepted = on_accepted,
};

/* ---- making ---- */

static void on_letter(void *arg)
{
    worker_wake(arg);
}

static void init_watchers(struct worker *w)
{
    ev_check_init(&w->turn_begins, on_turn_begins);
    ev_set_priority(&w->turn_begins, EV_MAXPRI);
    ev_check_start(w->loop, &w->turn_begins);
    ev_prepare_init(&w->turn_ends, on_turn_ends);
    ev_prepare_start(w->loop, &w->turn_ends);
    ev_idle_init(&w->more, on_more);
    ev_timer_init(&w->due, on_due, 0.0, 0.0);
    ev_timer_init(&w->books, on_books, 0.0, 0.0);
    ev_async_init(&w->awake, on_awake);
    ev_async_start(w->loop, &w->awake);
}

static enum status open_net(struct worker *w, struct error *err)
{
    const struct config *config = w->all->config;
    size_t output_max = (size_t)config->output_len_max;
    const struct net_config net = {
        .loop = w->loop,
        .handler = &handler,
        .owner = w,
        .tls = w->all->tls,
        .conn_count_max = config->connections,
        .conn_count = &w->all->conn_count,
        .output_high =
            OUTPUT_HIGH < output_max / 2 ? OUTPUT_HIGH : output_max / 2,
        .output_low = OUTPUT_LOW < output_max / 4 ? OUTPUT_LOW : output_max / 4,
        .output_max = output_max,
        .head_ms = config->head_ms,
        .body_ms = config->body_ms,
        .hello_len_max = HELLO_LEN_MAX,
        .idle_ms = config->idle_ms,
        .ping_ms = config->ping_ms,
    };

    return net_open(&w->net, &net, err);
}

static const struct dispatch_out dispatch_out = {
    .deliver = session_deliver,
    .gap = session_gap,
    .congested = session_congested,
    .notice = session_notice,
    .evicted = session_evicted,
    .is_of_app = session_is_of_app,
};

/* Ack transactions leave twice the disk space below which publishes are
 * refused, or what that is by default: they never make the log stop. */
static uint64_t disk_min(const struct config *c)
{
    uint64_t min = c->free_bytes_min;

    return 2 * (min == FREE_BYTES_BY_DISK ? UINT64_C(64) << 20 : min);
}

static enum status open_dispatch(struct worker *w, struct error *err)
{
    const struct config *c = w->all->config;
    char path[sizeof c->data_dir + 32];
    const struct dispatch_config config = {
        .store = w->all->store,
        .commits = w->all->commits,
        .worker = w->index,
        .worker_count = w->all->count,
        .in_flight_bytes = { (size_t)c->in_flight_bytes,
                             (size_t)c->in_flight_direct_bytes,
                             (size_t)c->in_flight_file_bytes },
        .in_flight_path = c->in_flight_file_bytes > 0 ? path : NULL,
        .in_flight_disk_min = disk_min(c),
        .now_us = clock_monotonic_us(),
        .wall_us = clock_wall_us(),
        .seed = clock_wall_us(),
        .out = dispatch_out,
        .metrics = w->metrics,
    };

    snprintf(path, sizeof path, "%s/in-flight.%zu", c->data_dir, w->index);
    return dispatch_new(&w->dispatch, &config, err);
}

enum status worker_new(struct worker **out, struct workers *all, size_t index,
                       struct submission *submission, struct error *err)
{
    struct worker *w = calloc(1, sizeof *w);
    enum status status;

    if (w == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "worker");
    }
    w->all = all;
    w->index = index;
    w->submission = submission;
    w->metrics = &all->metrics->workers[index];
    w->unplaced_end = &w->unplaced;
    w->operating_end = &w->operating;
    /* Not the default: its backend may be changed by the environment. */
    w->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    w->codec = codec_new();
    w->inbox = mailbox_new(on_letter, w);
    if (w->loop == NULL || w->codec == NULL || w->inbox == NULL) {
        worker_free(w);
        return error_set(err, STATUS_NOMEM, 0, "worker: loop");
    }
    ev_set_userdata(w->loop, w);
    init_watchers(w);
    status = open_dispatch(w, err);
    if (status == STATUS_OK) {
        status = open_net(w, err);
    }
    if (status != STATUS_OK) {
        worker_free(w);
        return status;
    }
    *out = w;
    return STATUS_OK;
}

enum status worker_listen(struct worker *w, const char *host, uint16_t port,
                          uint16_t *port_out, struct error *err)
{
    return net_listen(w->net, host, port, port_out, err);
}

static void *worker_run(void *arg)
{
    struct worker *w = arg;
    char name[16];

    snprintf(name, sizeof name, "worker-%zu", w->index);
    pthread_setname_np(pthread_self(), name);
    priority_prompt();
    w->now_us = clock_monotonic_us();
    ev_run(w->loop, 0);
    return NULL;
}

enum status worker_start(struct worker *w, struct error *err)
{
    int failed = pthread_create(&w->thread, NULL, worker_run, w);

    if (failed != 0) {
        return error_set(err, STATUS_NOMEM, failed, "worker: thread");
    }
    w->started = true;
    return STATUS_OK;
}

void worker_wake(struct worker *w)
{
    ev_async_send(w->loop, &w->awake);
}

/* The drain is over, or its time is: end the loop. */
static void stop_now(struct letter *letter, void *receiver)
{
    struct worker *w = receiver;

    (void)letter;
    ev_break(w->loop, EVBREAK_ALL);
}

void worker_stop(struct worker *w)
{
    struct letter stop = { .deliver = stop_now };

    if (!w->started) {
        return;
    }
    mailbox_push(w->inbox, &stop);
    pthread_join(w->thread, NULL);
    w->started = false;
}

bool worker_take_letters_left(struct worker *w)
{
    struct letter *letter;
    bool any = false;

    while ((letter = mailbox_take(w->inbox)) != NULL) {
        letter->deliver(letter, w);
        any = true;
    }
    return any;
}

static void free_settle_pool(struct worker *w)
{
    while (w->settle_pool != NULL) {
        struct settle_reply *reply = w->settle_pool;
        w->settle_pool = reply->next;
        free(reply->ranges);
        free(reply);
    }
}

void worker_free(struct worker *w)
{
    if (w == NULL) {
        return;
    }
    net_close(w->net);
    sessions_free(w);
    dispatch_free(w->dispatch);
    free_settle_pool(w);
    seqset_fini(&w->settling);
    pending_fini(&w->pending);
    codec_free(w->codec);
    if (w->inbox != NULL) {
        mailbox_free(w->inbox);
    }
    if (w->loop != NULL) {
        ev_loop_destroy(w->loop);
    }
    free(w);
}

uint64_t worker_lease(struct worker *w)
{
    w->lease_count++;
    return w->all->metrics->started_us + w->lease_count * WORKER_COUNT_MAX
           + w->index;
}

bool worker_draining(const struct worker *w)
{
    return atomic_load_explicit(&w->all->draining, memory_order_relaxed);
}
