/* The life of a session: made with its connection, told who it is by hello,
 * perhaps moved to the worker of the group it wants, freed when its connection
 * has gone and nothing waits in its name any more. Publishing is in publish.c,
 * catalog changes in change.c, what waits for the sync in pending.c. */
#include "broker/session/session.h"

#include "broker/session/inside.h"

#include "broker/clock.h"
#include "broker/log.h"
#include "proto/name.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOGIN_LINES_PER_SECOND = 10 };

/* ---- making and ending ---- */

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events);

struct session *session_new(struct worker *w, struct conn *conn,
                            const struct door *door)
{
    struct session *s = calloc(1, sizeof *s);

    if (s == NULL) {
        return NULL;
    }
    s->worker = w;
    s->conn = conn;
    s->door = door;
    ev_init(&s->timer, on_timer);
    s->next = w->sessions;
    if (w->sessions != NULL) {
        w->sessions->previous = s;
    }
    w->sessions = s;
    conn_set_context(conn, s);
    return s;
}

void session_unlink(struct session *s)
{
    if (s->previous != NULL) {
        s->previous->next = s->next;
    } else {
        s->worker->sessions = s->next;
    }
    if (s->next != NULL) {
        s->next->previous = s->previous;
    }
    s->next = s->previous = NULL;
}

struct group_fact *session_group(const struct session *s)
{
    return catalog_group_by_id(dispatch_catalog(s->worker->dispatch), s->group);
}

/* In order, or because its connection has gone. */
static void leave_group(struct session *s, bool in_order)
{
    struct group_fact *group = session_group(s);

    if (s->member != NULL && group != NULL) {
        if (in_order) {
            dispatch_detach(s->worker->dispatch, group, s->member);
        } else {
            dispatch_leave(s->worker->dispatch, group, s->member);
        }
        metric_set(&s->worker->metrics->attached_members,
                   s->worker->metrics->attached_members - 1);
    }
    s->member = NULL;
    s->group = 0;
}

static void close_door(struct session *s)
{
    if (s->door->closed != NULL) {
        s->door->closed(s);
    }
    s->door_state = NULL;
}

void session_closed(struct session *s)
{
    ev_timer_stop(s->worker->loop, &s->timer);
    leave_group(s, false);
    look_forget(s);
    session_forget_rest(s);
    publish_forget_held(s);
    s->pulling = false;
    s->move = MOVE_NONE;
    close_door(s);
    s->conn = NULL;
    if (s->pending == 0 && !s->pull_got) {
        session_unlink(s);
        free(s);
    }
}

void session_pending_add(struct session *s)
{
    s->pending++;
    session_choke(s);
}

void session_choke(struct session *s)
{
    bool full =
        s->pending >= SESSION_PENDING_HIGH || s->outcomes >= OUTCOMES_HIGH;

    if (full && !s->choked && s->conn != NULL) {
        s->choked = true;
        conn_pause(s->conn);
    }
}

void session_read_on(struct session *s)
{
    if (s->conn != NULL && !s->choked && s->held == NULL && s->rest == NULL
        && s->move == MOVE_NONE) {
        conn_resume(s->conn);
    }
}

static void go(struct session *s);

void session_pending_done(struct session *s)
{
    CHECK(s->pending > 0);
    s->pending--;
    if (s->choked && s->pending <= SESSION_PENDING_LOW
        && s->outcomes < OUTCOMES_HIGH && s->conn != NULL) {
        s->choked = false;
        session_read_on(s);
    }
    if (s->pending > 0) {
        return;
    }
    if (s->conn == NULL) {
        if (!s->pull_got) {
            session_unlink(s);
            free(s);
        }
    } else if (s->move != MOVE_NONE) {
        go(s);
    }
}

void sessions_free(struct worker *w)
{
    /* Their connections are gone already. */
    for (struct session *s = w->sessions; s != NULL; s = s->next) {
        if (s->conn != NULL) {
            close_door(s);
            s->conn = NULL;
        }
        look_forget(s);
        session_forget_rest(s);
        s->member = NULL;   /* the dispatch frees them */
        s->pull_got = true; /* freed below, not by what follows */
        publish_forget_held(s);
    }
    session_free_rests(w);
    session_drop_operating(w);
    session_place_settles(w, submission_written(w->submission));
    session_place_operations(w, submission_written(w->submission));
    while (!pending_empty(&w->pending)) {
        struct pending p = *pending_first(&w->pending);
        w->pending.begin++;
        if (p.kind == PENDING_SETTLE) {
            session_settle_reply_done(w, p.settle);
        } else if (p.kind == PENDING_OPERATION) {
            session_operation_refuse(w, p.operation, NULL);
        }
    }
    for (struct session *s = w->sessions, *next; s != NULL; s = next) {
        next = s->next;
        free(s);
    }
    w->sessions = NULL;
}

/* ---- small questions ---- */

void session_set_door(struct session *s, const struct door *door)
{
    close_door(s); /* what the old one kept */
    s->door = door;
}

void session_forget_login(struct session *s)
{
    s->app = 0;
    s->producer = 0;
    conn_set_known(s->conn, false);
}

struct conn *session_conn(const struct session *s)
{
    return s->conn;
}

struct codec *session_codec(const struct session *s)
{
    return s->worker->codec;
}

void *session_door_state(const struct session *s)
{
    return s->door_state;
}

void session_set_door_state(struct session *s, void *state)
{
    s->door_state = state;
}

const struct catalog *session_catalog(const struct session *s)
{
    return dispatch_catalog(s->worker->dispatch);
}

const struct app *session_app(const struct session *s)
{
    return s->app == 0 ? NULL : catalog_app_by_id(session_catalog(s), s->app);
}

uint64_t session_topic_last_seq(const struct topic *topic)
{
    return dispatch_last_seq(topic);
}

uint64_t session_topic_first_seq(const struct topic *topic)
{
    return dispatch_first_seq(topic);
}

uint64_t session_topic_floor_seq(const struct topic *topic)
{
    return dispatch_floor_seq(topic);
}

/* ---- who is it? ---- */

/* Strangers must not fill the log: some lines a second, the metric has all. */
static bool may_log_login(struct worker *w)
{
    uint64_t second = w->now_us / 1000000;

    if (second != w->login_lines_second) {
        w->login_lines_second = second;
        w->login_lines = 0;
    }
    return w->login_lines++ < LOGIN_LINES_PER_SECOND;
}

static enum status identify(struct session *s, const struct credentials *c,
                            struct refusal *r)
{
    const struct app *app = NULL;
    struct worker *w = s->worker;
    bool trusted = conn_secure(s->conn) || conn_loopback(s->conn);
    enum status status = authenticate(session_catalog(s), w->all->nonces, c,
                                      trusted, clock_wall_us() / 1000, &app, r);

    if (status != STATUS_OK) {
        metric_add(&w->metrics->authentication_failures, 1);
        if (!may_log_login(w)) {
            return status;
        }
        log_warn("login refused conn=%llu peer=%s door=%s app=%.*s "
                 "reason=\"%s\"",
                 (unsigned long long)conn_id(s->conn), conn_peer(s->conn),
                 s->door->name, name_valid(c->app) ? (int)c->app.len : 1,
                 name_valid(c->app) ? (const char *)c->app.at : "?", r->text);
        return status;
    }
    s->app = app->id;
    conn_set_known(s->conn, true);
    return STATUS_OK;
}

enum status session_authorize(struct session *s, struct slice authorization,
                              struct refusal *r)
{
    struct credentials credentials;
    uint8_t signature[32];
    enum status status =
        credentials_parse(authorization, &credentials, signature, r);

    return status == STATUS_OK ? identify(s, &credentials, r) : status;
}

static void welcome(struct session *s, uint64_t id)
{
    const struct wire_welcome welcome = {
        .broker = slice_text("godwit/" GODWIT_VERSION),
        .body_len_max = BODY_LEN_MAX,
        .frame_len_max = FRAME_LEN_MAX,
    };

    ev_timer_stop(s->worker->loop, &s->timer);
    log_debug("login conn=%llu peer=%s door=%s app=%u",
              (unsigned long long)conn_id(s->conn), conn_peer(s->conn),
              s->door->name, s->app);
    s->door->welcome(s, id, &welcome);
}

void session_hello(struct session *s, uint64_t id,
                   const struct wire_hello *hello)
{
    const struct credentials credentials = {
        .app = hello->app,
        .secret = hello->secret,
        .timestamp_ms = hello->timestamp_ms,
        .nonce = hello->nonce,
        .signature = hello->signature,
    };
    struct refusal r;

    if (s->pending > 0 || s->member != NULL) {
        refuse(&r, STATUS_INVALID, "hello",
               "say hello before anything else, not in between");
        s->door->refused(s, id, 1, &r);
        return;
    }
    /* After a login by the handshake's header, hello needs no credentials. */
    if (!(s->app != 0 && hello->app.len == 0)
        && identify(s, &credentials, &r) != STATUS_OK) {
        s->door->refused(s, id, 1, &r);
        if (s->conn != NULL) {
            conn_close(s->conn, 1008, "login refused");
        }
        return;
    }
    s->producer = hello->producer;
    welcome(s, id);
}

void session_set_producer(struct session *s, uint64_t producer)
{
    s->producer = producer;
}

void session_hello_within(struct session *s, uint64_t ms)
{
    ev_timer_set(&s->timer, (double)ms / 1000.0, 0.0);
    ev_timer_start(s->worker->loop, &s->timer);
}

void session_request(struct session *s, const struct wire_request *request)
{
    switch (request->kind) {
    case REQUEST_HELLO:
        session_hello(s, request->id, &request->hello);
        break;
    case REQUEST_PUBLISH:
        session_publish(s, request->id, &request->publish);
        break;
    case REQUEST_ATTACH:
        session_attach(s, request->id, &request->attach);
        break;
    case REQUEST_DETACH:
        session_detach(s, request->id);
        break;
    case REQUEST_SETTLE:
        session_settle(s, request->id, &request->settle);
        break;
    case REQUEST_PING:
        s->door->pong(s, request->id);
        break;
    }
}

/* ---- to another worker ---- */

struct move {
    struct letter letter;
    struct session *session;
};

static void take_up(struct session *s);

static void arrive(struct letter *letter, void *receiver)
{
    struct move *move = container_of(letter, struct move, letter);
    struct session *s = move->session;
    struct worker *w = receiver;

    free(move);
    s->worker = w;
    s->next = w->sessions;
    if (w->sessions != NULL) {
        w->sessions->previous = s;
    }
    w->sessions = s;
    conn_enter(s->conn, w->net);
    conn_resume(s->conn);
    take_up(s);
}

/* Nothing waits in its name here any more: hand it over. */
static void go(struct session *s)
{
    struct move *move = malloc(sizeof *move);
    struct refusal r;

    if (move == NULL) {
        s->move = MOVE_NONE;
        refuse(&r, STATUS_NOMEM, "memory", "the broker is out of memory");
        conn_resume(s->conn);
        s->door->refused(s, s->move_id, 1, &r);
        return;
    }
    *move = (struct move) { .letter.deliver = arrive, .session = s };
    ev_timer_stop(s->worker->loop, &s->timer);
    conn_leave(s->conn);
    session_unlink(s);
    mailbox_push(s->worker->all->at[s->move_to]->inbox, &move->letter);
}

static void request_move(struct session *s, enum move_kind kind, uint64_t id,
                         const struct group_fact *group)
{
    s->move = kind;
    s->move_id = id;
    s->move_group_len = strlen(group->name);
    memcpy(s->move_group, group->name, s->move_group_len);
    s->move_to = dispatch_owner(s->worker->dispatch, group);
    if (s->move_to == s->worker->index) {
        take_up(s);
        return;
    }
    conn_pause(s->conn);
    if (s->pending == 0) {
        go(s);
    }
}

enum status session_no_such_topic(struct slice name, struct refusal *r)
{
    return refuse(r, STATUS_NOT_FOUND, "topic", "there is no topic %.*s",
                  name_valid(name) ? (int)name.len : 1,
                  name_valid(name) ? (const char *)name.at : "?");
}

/* The group, if this session may use it; otherwise NULL and why not. */
static struct group_fact *find_group(const struct session *s, struct slice name,
                                     struct refusal *r)
{
    const struct app *app = session_app(s);
    struct group_fact *group;

    if (app == NULL) {
        refuse(r, STATUS_UNAUTHENTICATED, "hello",
               "say hello with an app and its secret first");
        return NULL;
    }
    group = catalog_group(session_catalog(s), name);
    if (group == NULL) {
        refuse(r, STATUS_NOT_FOUND, "group",
               "there is no group %.*s; create it first",
               name_valid(name) ? (int)name.len : 1,
               name_valid(name) ? (const char *)name.at : "?");
        return NULL;
    }
    if (group->app != app->id && !app->admin) {
        refuse(r, STATUS_FORBIDDEN, "owner", "group %s belongs to another app",
               group->name);
        return NULL;
    }
    return group;
}

struct group_fact *session_group_here(const struct session *s,
                                      struct slice name, struct refusal *r)
{
    struct group_fact *group = find_group(s, name, r);

    if (group != NULL && group->user == NULL) {
        refuse(r, STATUS_AGAIN, "group",
               "group %s was made anew meanwhile; try again", group->name);
        return NULL;
    }
    return group;
}

/* ---- groups: attach ---- */

static void refuse_credit(struct refusal *r, const char *which, uint64_t used,
                          uint64_t allowed)
{
    refuse(r, STATUS_INVALID, which, "a credit of 1 to %llu is allowed",
           (unsigned long long)allowed);
    r->used = used;
    r->allowed = allowed;
}

/* The group to attach to, or NULL and why not. */
static struct group_fact *check_attach(const struct session *s,
                                       const struct wire_attach *attach,
                                       struct refusal *r)
{
    struct group_fact *group = find_group(s, attach->group, r);

    if (group == NULL) {
        return NULL;
    }
    if (worker_draining(s->worker)) {
        refuse(r, STATUS_CLOSED, "draining",
               "the broker is being stopped; connect again");
    } else if (attach->credit_messages < 1
               || attach->credit_messages > CREDIT_MESSAGES_MAX) {
        refuse_credit(r, "credit_messages", attach->credit_messages,
                      CREDIT_MESSAGES_MAX);
    } else if (attach->credit_bytes < 1
               || attach->credit_bytes > CREDIT_BYTES_MAX) {
        refuse_credit(r, "credit_bytes", attach->credit_bytes,
                      CREDIT_BYTES_MAX);
    } else if (s->move != MOVE_NONE || s->pulling
               || (s->member != NULL && s->group != group->id)) {
        refuse(r, STATUS_BUSY, "one_group",
               "this connection is attached to a group already; detach first "
               "or open another connection");
    } else {
        return group;
    }
    return NULL;
}

static void attached(struct session *s, uint64_t id,
                     const struct group_fact *group)
{
    const struct wire_attached attached = {
        .group = slice_text(group->name),
        .lease_ms = group->options.lease_ms,
        .lease = s->lease,
    };

    s->door->attached(s, id, &attached);
}

static void join(struct session *s, uint64_t id, struct group_fact *group)
{
    struct worker *w = s->worker;
    struct refusal r;
    enum status status;

    s->lease = worker_lease(w);
    status =
        dispatch_join(w->dispatch, group, s->lease, s->move_credit_messages,
                      s->move_credit_bytes, s, &s->member);
    if (status != STATUS_OK) {
        refuse(&r, status, "memory", "the broker is out of memory");
        s->door->refused(s, id, 1, &r);
        return;
    }
    s->group = group->id;
    metric_add(&w->metrics->attached_members, 1);
    attached(s, id, group);
}

/* On the group's worker: go on with what it came for. May ask for another move
 * in turn, each of which takes a deletion and a creation of the group. */
static void take_up(struct session *s)
{
    enum move_kind kind = s->move;
    struct slice name = slice_of(s->move_group, s->move_group_len);
    struct group_fact *group;
    struct refusal r;

    s->move = MOVE_NONE;
    worker_drain_commits(s->worker); /* the group may be news here */
    group = find_group(s, name, &r);
    if (group == NULL) {
        s->door->refused(s, s->move_id, 1, &r);
    } else if (dispatch_owner(s->worker->dispatch, group) != s->worker->index) {
        /* Deleted and made anew while we were on our way: it lives elsewhere. */
        request_move(s, kind, s->move_id, group);
    } else if (kind == MOVE_ATTACH) {
        join(s, s->move_id, group);
    } else {
        s->door->arrived(s, s->move_id);
    }
}

void session_attach(struct session *s, uint64_t id,
                    const struct wire_attach *attach)
{
    struct refusal r;
    struct group_fact *group = check_attach(s, attach, &r);

    if (group == NULL) {
        s->door->refused(s, id, 1, &r);
        return;
    }
    if (s->member != NULL) {
        dispatch_credit(s->worker->dispatch, group, s->member,
                        attach->credit_messages, attach->credit_bytes);
        attached(s, id, group);
        return;
    }
    s->move_credit_messages = attach->credit_messages;
    s->move_credit_bytes = attach->credit_bytes;
    request_move(s, MOVE_ATTACH, id, group);
}

void session_detach(struct session *s, uint64_t id)
{
    struct refusal r;

    if (s->member == NULL) {
        bool known = session_app(s) != NULL;
        refuse(&r, known ? STATUS_INVALID : STATUS_UNAUTHENTICATED,
               known ? "attach" : "hello",
               known ? "not attached to a group"
                     : "say hello with an app and its secret first");
        s->door->refused(s, id, 1, &r);
        return;
    }
    leave_group(s, true);
    s->door->detached(s, id, "");
}

void session_go_to_group(struct session *s, uint64_t id, struct slice name)
{
    struct refusal r;
    struct group_fact *group = find_group(s, name, &r);

    if (group == NULL) {
        s->door->refused(s, id, 1, &r);
        return;
    }
    request_move(s, MOVE_ARRIVE, id, group);
}

/* ---- what the group sends ---- */

static void pull_got_something(struct session *s)
{
    if (s->pulling && !s->pull_got) {
        s->pull_got = true;
        s->next_pulled = s->worker->pulled;
        s->worker->pulled = s;
    }
}

void session_deliver(void *member, const char *topic,
                     const struct wire_delivery *deliveries, size_t count)
{
    struct session *s = member;

    pull_got_something(s);
    s->door->deliver(s, topic, deliveries, count);
}

void session_gap(void *member, const char *topic, struct seq_range range)
{
    struct session *s = member;

    pull_got_something(s);
    s->door->gap(s, topic, range);
}

void session_notice(void *member, const char *topic, struct seq_range range,
                    uint64_t ends_in_ms)
{
    struct session *s = member;
    const struct wire_notice notice = { slice_text(topic), range, ends_in_ms };

    if (s->door->notice != NULL) {
        s->door->notice(s, &notice);
    }
}

bool session_congested(void *member)
{
    const struct session *s = member;

    /* Who has hung up during a long poll would only keep what it gets from
     * others until the lease ends. */
    return conn_congested(s->conn)
           || (s->pulling && s->pull_waits && conn_peer_finished(s->conn));
}

void session_drained(struct session *s)
{
    struct group_fact *group = session_group(s);

    if (s->member != NULL && group != NULL) {
        dispatch_resume(s->worker->dispatch, group, s->member);
    }
}

bool session_is_of_app(const void *member, uint32_t app)
{
    const struct session *s = member;

    return s->app == app;
}

void session_evicted(void *member, enum status why)
{
    struct session *s = member;
    bool no_app = why == STATUS_UNAUTHENTICATED;
    const char *reason =
        no_app ? "the app was deleted" : "the group was deleted";
    struct refusal r;

    s->member = NULL;
    s->group = 0;
    metric_set(&s->worker->metrics->attached_members,
               s->worker->metrics->attached_members - 1);
    if (s->pulling) {
        s->pulling = false;
        ev_timer_stop(s->worker->loop, &s->timer);
        refuse(&r, why, no_app ? "app" : "group", "%s", reason);
        s->door->refused(s, s->pull_id, 1, &r);
    } else {
        s->door->detached(s, 0, reason);
    }
}

/* ---- its timer ---- */

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct session *s = container_of(timer, struct session, timer);

    (void)loop;
    (void)events;
    if (s->pulling) {
        pull_end(s, false);
    } else if (s->look != NULL) {
        look_timeout(s);
    } else if (s->app == 0 && s->conn != NULL) {
        conn_close(s->conn, 1008, "no hello in time");
    }
}

/* ---- what the HTTP door shows ---- */

struct viewing {
    struct group_fact *group;
    lane_view_fn lane;
    void *arg;
};

static void view_lane(void *arg, struct topic *topic)
{
    struct viewing *v = arg;
    struct lane_books books;

    if (dispatch_books(v->group, topic, &books)) {
        v->lane(v->arg, topic->name, &books);
    }
}

bool session_group_view(struct session *s, struct slice name,
                        struct group_figures *figures, size_t *members,
                        lane_view_fn lane, void *arg)
{
    struct group_fact *group = catalog_group(session_catalog(s), name);
    struct viewing viewing = { group, lane, arg };

    if (group == NULL || !dispatch_figures(group, figures, members)) {
        return false;
    }
    catalog_each_topic(session_catalog(s), view_lane, &viewing);
    return true;
}
