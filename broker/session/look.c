/* A search looks in bits of SEARCH_TURN_US at the end of its worker's turns,
 * one search after the other, so that deliveries of this worker never wait
 * longer for it. A tail that has come to the end of the topic waits in a list
 * that is looked over once a turn: no turn, no cost. */
#include "broker/session/look.h"

#include "broker/clock.h"
#include "broker/session/inside.h"
#include "proto/name.h"

#include <stdlib.h>

struct look {
    struct session *session;
    uint64_t id;
    uint32_t topic;
    struct search *search;
    bool tail;         /* would wait */
    bool listening;    /* waits */
    bool over;         /* waits no longer, whatever comes */
    uint64_t next_seq; /* what it waits for */
    uint64_t counted;  /* messages looked at that the metrics have */
    struct look *next;
    struct look *previous;
};

/* ---- lists ---- */

static void add_last(struct looks *looks, struct look *look)
{
    look->next = NULL;
    look->previous = looks->last;
    if (looks->last == NULL) {
        looks->first = look;
    } else {
        looks->last->next = look;
    }
    looks->last = look;
}

static void add_first(struct looks *looks, struct look *look)
{
    look->previous = NULL;
    look->next = looks->first;
    if (looks->first == NULL) {
        looks->last = look;
    } else {
        looks->first->previous = look;
    }
    looks->first = look;
}

static void add_waiting(struct looks *looks, struct look *look)
{
    look->previous = NULL;
    look->next = looks->waiting;
    if (looks->waiting != NULL) {
        looks->waiting->previous = look;
    }
    looks->waiting = look;
    look->listening = true;
}

static void take_out(struct looks *looks, struct look *look)
{
    if (look->next != NULL) {
        look->next->previous = look->previous;
    } else if (!look->listening) {
        looks->last = look->previous;
    }
    if (look->previous != NULL) {
        look->previous->next = look->next;
    } else if (look->listening) {
        looks->waiting = look->next;
    } else {
        looks->first = look->next;
    }
    look->listening = false;
}

static size_t *place_of(struct looks *looks, bool tail)
{
    return tail ? &looks->tails : &looks->searches;
}

/* ---- ends ---- */

void look_forget(struct session *s)
{
    struct look *look = s->look;

    if (look == NULL) {
        return;
    }
    s->look = NULL;
    ev_timer_stop(s->worker->loop, &s->timer);
    take_out(&s->worker->looks, look);
    *place_of(&s->worker->looks, look->tail) -= 1;
    search_free(look->search);
    free(look);
}

static void answer(struct look *look)
{
    struct session *s = look->session;
    uint64_t id = look->id;
    struct search_result result;

    search_result(look->search, s->worker->dispatch, &result);
    look_forget(s);
    s->door->looked(s, id, &result);
}

static void refuse_look(struct look *look, const struct refusal *r)
{
    struct session *s = look->session;
    uint64_t id = look->id;

    look_forget(s);
    s->door->refused(s, id, 1, r);
}

/* ---- may it? ---- */

static enum status may_look(const struct session *s, const struct topic *topic,
                            struct refusal *r)
{
    const struct app *app = session_app(s);

    if (app == NULL) {
        return refuse(r, STATUS_UNAUTHENTICATED, "hello",
                      "say hello with an app and its secret first");
    }
    if (!app_may_subscribe(app, slice_text(topic->name))) {
        return refuse(r, STATUS_FORBIDDEN, "grant",
                      "app %s has no subscribe grant that covers topic %s",
                      app->name, topic->name);
    }
    return STATUS_OK;
}

static const struct topic *find_topic(const struct session *s,
                                      struct slice name, struct refusal *r)
{
    const struct topic *topic = catalog_topic(session_catalog(s), name);

    if (topic == NULL) {
        (void)session_no_such_topic(name, r);
        return NULL;
    }
    return may_look(s, topic, r) == STATUS_OK ? topic : NULL;
}

static enum status refuse_failed(struct refusal *r, enum status status)
{
    if (status == STATUS_NOT_FOUND) {
        return refuse(r, status, "topic", "the topic was deleted meanwhile");
    }
    if (status == STATUS_NOMEM) {
        return refuse(r, status, "memory", "the broker is out of memory");
    }
    return refuse(r, status, "disk", "the message could not be read: %s",
                  status_text(status));
}

/* ---- one message ---- */

static enum status never_there(const struct topic *topic, uint64_t seq,
                               struct refusal *r)
{
    uint64_t first = dispatch_first_seq(topic);
    uint64_t last = dispatch_last_seq(topic);

    if (seq < first) {
        (void)refuse(r, STATUS_NOT_FOUND, "seq",
                     "message %llu of %s is deleted; the first one that is "
                     "kept is %llu",
                     (unsigned long long)seq, topic->name,
                     (unsigned long long)first);
    } else {
        (void)refuse(r, STATUS_NOT_FOUND, "seq",
                     "message %llu of %s is not there yet; the last one is "
                     "%llu",
                     (unsigned long long)seq, topic->name,
                     (unsigned long long)last);
    }
    return STATUS_NOT_FOUND;
}

static bool is_there(const struct topic *topic, uint64_t seq)
{
    return seq >= dispatch_first_seq(topic) && seq <= dispatch_last_seq(topic);
}

/* What the store does not have may have been deleted by a commit that was not
 * read yet. */
static enum status peek(struct session *s, struct slice name, uint64_t seq,
                        struct record *record, struct refusal *r)
{
    struct store_cursor cursor = { 0 };
    const struct topic *topic;
    enum status status;

    worker_drain_commits(s->worker);
    topic = find_topic(s, name, r);
    if (topic == NULL) {
        return r->status;
    }
    if (!is_there(topic, seq)) {
        return never_there(topic, seq, r);
    }
    status =
        dispatch_read(s->worker->dispatch, &cursor, topic, seq, record, NULL);
    if (status == STATUS_NOT_FOUND) {
        worker_drain_commits(s->worker);
        topic = find_topic(s, name, r);
        if (topic == NULL) {
            return r->status;
        }
        if (!is_there(topic, seq)) {
            return never_there(topic, seq, r);
        }
        return STATUS_CORRUPT;
    }
    if (status != STATUS_OK && status != STATUS_CORRUPT) {
        return refuse_failed(r, status);
    }
    return status;
}

void session_peek(struct session *s, uint64_t id, struct slice name,
                  uint64_t seq)
{
    struct search_result result = { .next_seq = seq + 1, .scanned = 1 };
    struct record record;
    struct refusal r;
    enum status status = peek(s, name, seq, &record, &r);
    const struct topic *topic = catalog_topic(session_catalog(s), name);

    if (status == STATUS_OK) {
        const struct wire_delivery delivery = {
            .seq = seq,
            .time_us = record.time_us,
            .message = record.body,
        };

        result.found = 1;
        s->door->deliver(s, topic->name, &delivery, 1);
    } else if (status == STATUS_CORRUPT) {
        s->door->gap(s, topic->name, (struct seq_range) { seq, seq });
    } else {
        s->door->refused(s, id, 1, &r);
        return;
    }
    s->door->looked(s, id, &result);
}

/* ---- searches ---- */

static void on_found(void *arg, const char *topic,
                     const struct wire_delivery *delivery)
{
    const struct look *look = arg;

    look->session->door->deliver(look->session, topic, delivery, 1);
}

static void on_lost(void *arg, const char *topic, struct seq_range range)
{
    const struct look *look = arg;

    look->session->door->gap(look->session, topic, range);
}

static void on_catch_up(void *arg)
{
    const struct look *look = arg;

    worker_drain_commits(look->session->worker);
}

static void wait_for_more(struct look *look, uint64_t next_seq)
{
    struct looks *looks = &look->session->worker->looks;

    look->next_seq = next_seq;
    take_out(looks, look);
    add_waiting(looks, look);
}

static void count_looked_at(struct look *look, uint64_t scanned)
{
    metric_add(&look->session->worker->metrics->searched_messages,
               scanned - look->counted);
    look->counted = scanned;
}

/* One bit of one search. */
static void look_on(struct worker *w, struct look *look, uint64_t until_us)
{
    const struct search_out out = {
        .found = on_found,
        .lost = on_lost,
        .catch_up = on_catch_up,
        .arg = look,
    };
    enum search_state state = SEARCH_DONE;
    struct search_result result;
    struct refusal r;
    enum status status =
        search_run(look->search, w->dispatch, &out, until_us, &state);

    if (status != STATUS_OK) {
        (void)refuse_failed(&r, status);
        refuse_look(look, &r);
        return;
    }
    search_result(look->search, w->dispatch, &result);
    count_looked_at(look, result.scanned);
    if (state == SEARCH_GOES_ON) {
        return; /* in the next turn */
    }
    if (state == SEARCH_AT_END && look->tail && !look->over && result.found == 0
        && result.deleted.first == 0) {
        wait_for_more(look, result.next_seq);
    } else {
        answer(look);
    }
}

/* Is there something for it, or nobody any more who wants it? Looked at in each
 * turn, so it is cheap; grants end with their app alone. */
static void look_over(struct worker *w, struct look *look)
{
    struct session *s = look->session;
    const struct topic *topic =
        catalog_topic_by_id(dispatch_catalog(w->dispatch), look->topic);
    struct refusal r;

    if (topic == NULL) {
        (void)refuse_failed(&r, STATUS_NOT_FOUND);
        refuse_look(look, &r);
    } else if (session_app(s) == NULL) {
        (void)may_look(s, topic, &r);
        refuse_look(look, &r);
    } else if (dispatch_last_seq(topic) >= look->next_seq) {
        take_out(&w->looks, look);
        add_first(&w->looks, look);
    } else if (conn_peer_finished(s->conn)) {
        answer(look); /* who has hung up needs no place among the tails */
    }
}

bool looks_run(struct worker *w)
{
    uint64_t until_us;
    struct look *next;

    if (w->looks.waiting == NULL && w->looks.first == NULL) {
        return false;
    }
    until_us = clock_monotonic_us() + SEARCH_TURN_US;
    for (struct look *look = w->looks.waiting; look != NULL; look = next) {
        next = look->next;
        look_over(w, look);
    }
    while (w->looks.first != NULL && clock_monotonic_us() < until_us) {
        look_on(w, w->looks.first, until_us);
    }
    return w->looks.first != NULL;
}

static void end_waiting(struct look *look)
{
    look->over = true;
    if (look->listening) {
        answer(look);
    }
}

void looks_end(struct worker *w)
{
    while (w->looks.waiting != NULL) {
        answer(w->looks.waiting);
    }
    while (w->looks.first != NULL) {
        answer(w->looks.first);
    }
}

void look_timeout(struct session *s)
{
    end_waiting(s->look);
}

static enum status too_many(struct refusal *r, const char *limit,
                            const char *text, size_t used, size_t allowed)
{
    (void)refuse(r, STATUS_AGAIN, limit, "%s", text);
    r->used = used;
    r->allowed = allowed;
    r->retry_after_ms = 1000;
    return STATUS_AGAIN;
}

static enum status has_place(const struct session *s, bool tail,
                             struct refusal *r)
{
    const struct looks *looks = &s->worker->looks;

    if (worker_draining(s->worker)) {
        return refuse(r, STATUS_CLOSED, "draining",
                      "the broker is being stopped; connect again");
    }
    CHECK(s->look == NULL && !s->pulling); /* one request at a time */
    if (!tail && looks->searches >= SEARCH_COUNT_MAX) {
        return too_many(r, "searches", "too many searches at a time",
                        looks->searches, SEARCH_COUNT_MAX);
    }
    if (tail && looks->tails >= TAIL_WAITING_MAX) {
        return too_many(r, "tails",
                        "too many wait for what comes; ask without wait",
                        looks->tails, TAIL_WAITING_MAX);
    }
    return STATUS_OK;
}

/* Takes the order's filter. */
static enum status begin(struct session *s, uint64_t id,
                         const struct topic *topic,
                         const struct search_order *order, bool tail,
                         struct refusal *r)
{
    struct search *search;
    struct look *look;

    if (search_new(&search, topic->id, order) != STATUS_OK) {
        return refuse_failed(r, STATUS_NOMEM);
    }
    look = calloc(1, sizeof *look);
    if (look == NULL) {
        search_free(search);
        return refuse_failed(r, STATUS_NOMEM);
    }
    look->session = s;
    look->id = id;
    look->topic = topic->id;
    look->search = search;
    look->tail = tail;
    s->look = look;
    *place_of(&s->worker->looks, tail) += 1;
    add_last(&s->worker->looks, look);
    return STATUS_OK;
}

void session_search(struct session *s, uint64_t id, struct slice name,
                    const struct search_order *order, uint64_t wait_ms)
{
    const struct topic *topic;
    struct refusal r;

    worker_drain_commits(s->worker);
    topic = find_topic(s, name, &r);
    if (topic == NULL || has_place(s, wait_ms > 0, &r) != STATUS_OK) {
        filter_free(order->filter);
        s->door->refused(s, id, 1, &r);
        return;
    }
    if (begin(s, id, topic, order, wait_ms > 0, &r) != STATUS_OK) {
        s->door->refused(s, id, 1, &r);
        return;
    }
    if (wait_ms > 0) {
        ev_timer_set(&s->timer, (double)wait_ms / 1000.0, 0.0);
        ev_timer_start(s->worker->loop, &s->timer);
    }
}
