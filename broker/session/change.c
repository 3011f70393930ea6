/* Changes of the catalog. Any worker may be asked; worker 0 alone decides, one
 * at a time, so that names stay unique without a lock:
 *
 *   session_change    the asking worker: a letter to worker 0
 *   arrive            worker 0: wait for the one before, decide, the record
 *   change_durable    worker 0: every replica has it, or will: a letter back
 *   come_back         the asking worker, its replica current: the answer */
#include "broker/session/inside.h"

#include "broker/clock.h"
#include "broker/log.h"
#include "proto/limits.h"

#include <stdlib.h>

enum { CHANGE_RETRY_MS = 100 };

struct change {
    struct letter letter;
    struct change *next;
    struct worker *origin;
    struct session *session; /* the origin's */
    uint64_t id;
    struct catalog_request request;
    enum status status;
    struct refusal refusal;
    char secret[SECRET_LEN_MAX + 1];
};

static void come_back(struct letter *letter, void *receiver)
{
    struct change *c = container_of(letter, struct change, letter);
    struct worker *w = receiver;
    struct session *s = c->session;

    /* The answer may not run ahead of this worker's own replica. */
    worker_drain_commits(w);
    if (s->conn != NULL && c->status == STATUS_OK) {
        const struct change_done done = { c->id, &c->request, c->secret };
        s->door->changed(s, &done);
    } else if (s->conn != NULL) {
        s->door->refused(s, c->id, 1, &c->refusal);
    }
    session_pending_done(s);
    catalog_request_fini(&c->request);
    explicit_bzero(c->secret, sizeof c->secret);
    free(c);
}

static void send_back(struct change *c)
{
    c->letter.deliver = come_back;
    mailbox_push(c->origin->inbox, &c->letter);
}

void change_refuse(struct worker *w, struct change *c, const struct refusal *r)
{
    c->status = r->status;
    c->refusal = *r;
    if (w->change_active == c) {
        w->change_active = NULL;
    }
    send_back(c);
}

static const char *class_word(enum catalog_class class)
{
    switch (class) {
    case CATALOG_APP:
        return "app";
    case CATALOG_TOPIC:
        return "topic";
    case CATALOG_GROUP:
        return "group";
    }
    return "thing";
}

static uint64_t last_seq_of(void *arg, const struct topic *topic)
{
    (void)arg;
    return dispatch_last_seq(topic);
}

static uint64_t floor_seq_of(void *arg, const struct topic *topic)
{
    (void)arg;
    return dispatch_floor_seq(topic);
}

static uint64_t seq_at_of(void *arg, const struct topic *topic,
                          uint64_t time_us)
{
    return dispatch_seq_at(arg, topic, time_us);
}

/* The fact's record, and the wait for its sync. */
static void submit_fact(struct worker *w, struct change *c,
                        const struct bytes *body)
{
    const struct record record = {
        .kind = RECORD_CATALOG,
        .app = c->request.app,
        .body = slice_of(bytes_begin(body), bytes_len(body)),
    };
    struct pending pending = { .kind = PENDING_CHANGE, .change = c };
    enum status status;

    pending.begin = submission_written(w->submission);
    pending.end = submission_put(w->submission, &record, true);
    w->change_active = c;
    status = pending_push(&w->pending, &pending);
    CHECK(status == STATUS_OK); /* reserved before */
}

static const char *past_of(enum catalog_op op)
{
    switch (op) {
    case CATALOG_CREATE:
        return "created";
    case CATALOG_DELETE:
        return "deleted";
    case CATALOG_UPDATE:
        return "changed";
    }
    return "";
}

void change_durable(struct worker *w, struct change *c)
{
    w->change_active = NULL;
    c->status = STATUS_OK;
    log_info("catalog %s %s=%s by_app=%u", past_of(c->request.op),
             class_word(c->request.class), c->request.name, c->request.app);
    send_back(c);
    change_next(w);
}

static uint64_t lane_count(const struct workers *all)
{
    uint64_t count = 0;

    for (size_t i = 0; i < all->count; i++) {
        count += atomic_load_explicit(&all->metrics->workers[i].lanes,
                                      memory_order_relaxed);
    }
    return count;
}

static enum status decide(struct worker *w, struct change *c,
                          struct bytes *body)
{
    uint8_t random[SECRET_RANDOM_LEN];
    const struct catalog_context context = { .now_us = clock_wall_us(),
                                             .random = random,
                                             .lane_count = lane_count(w->all),
                                             .last_seq = last_seq_of,
                                             .floor_seq = floor_seq_of,
                                             .seq_at = seq_at_of,
                                             .arg = w->dispatch };

    if (random_bytes(random, sizeof random) != STATUS_OK
        || pending_reserve(&w->pending) != STATUS_OK) {
        return refuse(&c->refusal, STATUS_NOMEM, "memory",
                      "the broker is out of memory");
    }
    return catalog_decide(dispatch_catalog(w->dispatch), &c->request, &context,
                          body, c->secret, &c->refusal);
}

/* False: no room in the submission ring; the change stays first in the queue. */
static bool begin_change(struct worker *w, struct change *c)
{
    struct bytes body = { 0 };
    struct refusal r;
    bool begun = true;

    if (store_frozen(w->all->store)) {
        refuse(&r, STATUS_FROZEN, "store_frozen",
               "the store stopped after an I/O error; nothing can be changed "
               "until the broker is restarted");
        change_refuse(w, c, &r);
        return true;
    }
    if (worker_draining(w)) {
        refuse(&r, STATUS_CLOSED, "draining",
               "the broker is being stopped; connect again");
        change_refuse(w, c, &r);
        return true;
    }
    c->status = decide(w, c, &body);
    if (c->status != STATUS_OK) {
        send_back(c);
    } else if (submission_room(w->submission) < record_size(bytes_len(&body))) {
        begun = false;
    } else {
        submit_fact(w, c, &body);
    }
    bytes_fini(&body);
    return begun;
}

void change_next(struct worker *w)
{
    while (w->change_active == NULL && w->changes_first != NULL) {
        struct change *c = w->changes_first;
        struct change *next = c->next;

        if (!begin_change(w, c)) {
            return;
        }
        w->changes_first = next;
        if (next == NULL) {
            w->changes_last = NULL;
        }
        w->change_count--;
    }
}

static void arrive(struct letter *letter, void *receiver)
{
    struct change *c = container_of(letter, struct change, letter);
    struct worker *w = receiver;
    struct refusal r;

    if (w->change_count >= CHANGE_WAITING_MAX) {
        refuse(&r, STATUS_AGAIN, "catalog_changes",
               "too many catalog changes wait");
        r.used = w->change_count;
        r.allowed = CHANGE_WAITING_MAX;
        r.retry_after_ms = CHANGE_RETRY_MS;
        change_refuse(w, c, &r);
        return;
    }
    c->next = NULL;
    if (w->changes_last == NULL) {
        w->changes_first = c;
    } else {
        w->changes_last->next = c;
    }
    w->changes_last = c;
    w->change_count++;
    change_next(w);
}

void session_change(struct session *s, uint64_t id,
                    struct catalog_request *request)
{
    struct change *c;
    const struct app *app = session_app(s);
    struct refusal r;

    if (app == NULL) {
        catalog_request_fini(request);
        refuse(&r, STATUS_UNAUTHENTICATED, "hello", "who are you?");
        s->door->refused(s, id, 1, &r);
        return;
    }
    c = calloc(1, sizeof *c);
    if (c == NULL) {
        catalog_request_fini(request);
        refuse(&r, STATUS_NOMEM, "memory", "the broker is out of memory");
        s->door->refused(s, id, 1, &r);
        return;
    }
    c->origin = s->worker;
    c->session = s;
    c->id = id;
    c->request = *request;
    c->request.app = app->id;
    *request = (struct catalog_request) { 0 };
    c->letter.deliver = arrive;
    session_pending_add(s);
    mailbox_push(s->worker->all->at[0]->inbox, &c->letter);
}
