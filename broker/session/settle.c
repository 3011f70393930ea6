/* Settling: outcomes are known at once, but told only when the records that
 * they made are durable. session_settle() and session_settle_in() gather them
 * in a reply; at the end of the turn, when the group's effects are in the
 * submission ring, session_place_settles() lets the replies wait for the sync.
 * A request that looks at very much takes several turns. */
#include "broker/session/session.h"

#include "broker/session/inside.h"

#include <stdlib.h>

enum { POOLED_RANGES_MAX = 256 };

static struct settle_reply *settle_reply_new(struct worker *w)
{
    struct settle_reply *reply = w->settle_pool;

    if (reply != NULL) {
        w->settle_pool = reply->next;
        reply->next = NULL;
        reply->count = 0;
        reply->failed = false;
        reply->overflowed = false;
        reply->gone = false;
        return reply;
    }
    return calloc(1, sizeof *reply);
}

void session_settle_reply_done(struct worker *w, struct settle_reply *reply)
{
    struct session *s = reply->session;

    s->outcomes -= (uint32_t)reply->count;
    reply->session = NULL;
    reply->count = 0;
    if (reply->capacity > POOLED_RANGES_MAX) {
        free(reply->ranges);
        reply->ranges = NULL;
        reply->capacity = 0;
    }
    reply->next = w->settle_pool;
    w->settle_pool = reply;
    session_pending_done(s);
}

static _Atomic uint64_t *outcome_metric(struct worker *w,
                                        enum settle_outcome outcome)
{
    switch (outcome) {
    case OUTCOME_ACCEPTED:
        return &w->metrics->settled_accepted;
    case OUTCOME_LATE:
        return &w->metrics->settled_late;
    case OUTCOME_UNKNOWN:
        break;
    }
    return &w->metrics->settled_unknown;
}

static void on_outcome(void *arg, const struct wire_settled_range *range)
{
    struct settle_reply *reply = arg;
    struct wire_settled_range *before =
        reply->count == 0 ? NULL : &reply->ranges[reply->count - 1];

    metric_add(outcome_metric(reply->session->worker, range->outcome),
               range->last - range->first + 1);
    /* Of two turns. */
    if (before != NULL && before->last + 1 == range->first
        && before->outcome == range->outcome
        && before->holder == range->holder) {
        before->last = range->last;
        return;
    }
    if (reply->count == SETTLE_OUTCOMES_MAX) {
        reply->overflowed = true;
        return;
    }
    if (reply->count == reply->capacity) {
        size_t capacity = reply->capacity * 2 + 4;
        struct wire_settled_range *ranges =
            realloc(reply->ranges, capacity * sizeof *ranges);
        if (ranges == NULL) {
            reply->failed = true;
            return;
        }
        reply->ranges = ranges;
        reply->capacity = capacity;
    }
    CHECK(reply->ranges != NULL);
    reply->ranges[reply->count++] = *range;
    reply->session->outcomes++;
}

/* The ranges as a set: whatever order and overlap they came in, each message is
 * looked at once. */
static enum status gather_ranges(struct worker *w,
                                 const struct wire_settle *settle)
{
    enum status status = STATUS_OK;

    seqset_clear(&w->settling);
    for (size_t i = 0; status == STATUS_OK && i < settle->count; i++) {
        status = seqset_add(&w->settling, settle->ranges[i].first,
                            settle->ranges[i].last, NULL);
    }
    return status;
}

/* ---- what is left of a large one ---- */

/* A request that looks at more than a turn may: the rest goes on in later
 * turns, and until it is done its connection is not read. */
struct settle_rest {
    struct settle_rest *next;
    struct settle_reply *reply; /* NULL: its session has closed */
    uint32_t group;
    struct settlement settlement;
    struct seqset ranges; /* still to be settled */
    uint8_t reason[REASON_LEN_MAX];
};

static void rest_free(struct settle_rest *rest)
{
    seqset_fini(&rest->ranges);
    free(rest);
}

static void append_rest(struct worker *w, struct settle_rest *rest)
{
    rest->next = NULL;
    if (w->rests.last == NULL) {
        w->rests.first = rest;
    } else {
        w->rests.last->next = rest;
    }
    w->rests.last = rest;
}

static struct settle_rest *take_rest(struct worker *w)
{
    struct settle_rest *rest = w->rests.first;

    CHECK(rest != NULL);
    w->rests.first = rest->next;
    if (w->rests.first == NULL) {
        w->rests.last = NULL;
    }
    return rest;
}

/* Its outcomes are known, all that there will be. */
static void reply_ready(struct worker *w, struct settle_reply *reply)
{
    *w->unplaced_end = reply;
    w->unplaced_end = &reply->next;
    session_choke(reply->session);
}

void session_forget_rest(struct session *s)
{
    if (s->rest != NULL) {
        reply_ready(s->worker, s->rest->reply);
        s->rest->reply = NULL;
        s->rest = NULL;
    }
}

/* Takes the ranges that are left. */
static void keep_rest(struct session *s, const struct group_fact *group,
                      const struct settlement *settlement,
                      struct settle_reply *reply)
{
    struct worker *w = s->worker;
    struct settle_rest *rest = malloc(sizeof *rest);
    size_t len = settlement->reason.len;

    if (rest == NULL) {
        reply->failed = true;
        reply_ready(w, reply);
        return;
    }
    *rest = (struct settle_rest) { .reply = reply,
                                   .group = group->id,
                                   .settlement = *settlement,
                                   .ranges = w->settling };
    w->settling = (struct seqset) { 0 };
    len = len > REASON_LEN_MAX ? REASON_LEN_MAX : len;
    if (len > 0) {
        memcpy(rest->reason, settlement->reason.at, len);
    }
    rest->settlement.reason = slice_of(rest->reason, len);
    s->rest = rest;
    append_rest(w, rest);
    metric_add(&w->metrics->settles_continued, 1);
    if (s->conn != NULL) {
        conn_pause(s->conn);
    }
}

/* ---- settling ---- */

static size_t looks_left(struct session *s)
{
    const struct worker *w = s->worker;

    if (s->settle_turn != w->turn) {
        s->settle_turn = w->turn;
        s->settle_looks = SETTLE_LOOKS_SESSION;
    }
    return s->settle_looks < w->settle_looks ? s->settle_looks
                                             : w->settle_looks;
}

/* False: what the turn allows is used up; `ranges` has what is left. */
static bool settle_ranges(struct session *s, const struct group_fact *group,
                          struct settlement *settlement, struct seqset *ranges,
                          struct settle_reply *reply)
{
    struct worker *w = s->worker;

    while (seqset_range_count(ranges) > 0) {
        size_t looks = looks_left(s);
        size_t left = looks;
        uint64_t next = 0;
        enum status status;

        settlement->range = seqset_ranges(ranges)[0];
        status = dispatch_settle(w->dispatch, group, settlement, w->now_us,
                                 &left, &next, on_outcome, reply);
        s->settle_looks -= looks - left;
        w->settle_looks -= looks - left;
        if (status == STATUS_AGAIN) {
            seqset_drop_through(ranges, next - 1);
            return false;
        }
        reply->failed = reply->failed || status != STATUS_OK;
        seqset_drop_through(ranges, settlement->range.last);
    }
    return true;
}

static void settle_first(struct session *s, const struct group_fact *group,
                         const struct wire_settle *settle, uint64_t lease,
                         struct settle_reply *reply)
{
    struct worker *w = s->worker;
    const struct topic *topic =
        catalog_topic(session_catalog(s), settle->topic);
    struct settlement settlement = {
        .lease = lease,
        .topic = topic == NULL ? 0 : topic->id,
        .action = settle->action,
        .delay_us = settle->delay_ms * 1000,
        .reason = settle->reason,
    };

    if (gather_ranges(w, settle) != STATUS_OK) {
        reply->failed = true;
        reply_ready(w, reply);
    } else if (settle_ranges(s, group, &settlement, &w->settling, reply)) {
        reply_ready(w, reply);
    } else {
        keep_rest(s, group, &settlement, reply);
    }
}

/* False: there is still some left of it. */
static bool go_on(struct worker *w, struct settle_rest *rest)
{
    struct settle_reply *reply = rest->reply;
    struct session *s = reply->session;
    const struct group_fact *group =
        catalog_group_by_id(session_catalog(s), rest->group);

    if (group == NULL || group->user == NULL) {
        reply->gone = true;
    } else if (!store_frozen(w->all->store)
               && !settle_ranges(s, group, &rest->settlement, &rest->ranges,
                                 reply)) {
        return false;
    }
    s->rest = NULL;
    reply_ready(w, reply);
    session_read_on(s);
    return true;
}

void session_free_rests(struct worker *w)
{
    while (w->rests.first != NULL) {
        rest_free(take_rest(w));
    }
}

void session_go_on_settling(struct worker *w)
{
    const struct settle_rest *last = w->rests.last;
    bool more = last != NULL;

    while (more) {
        struct settle_rest *rest = take_rest(w);

        /* The others are the first ones of the next turn. */
        more = rest != last && w->settle_looks > 0;
        if (rest->reply == NULL || go_on(w, rest)) {
            rest_free(rest);
        } else {
            append_rest(w, rest);
        }
    }
}

static enum status check_settle(const struct session *s,
                                const struct wire_settle *settle,
                                struct refusal *r)
{
    if (store_frozen(s->worker->all->store)) {
        return refuse(r, STATUS_FROZEN, "store_frozen",
                      "the store stopped after an I/O error; no outcome can be "
                      "made durable until the broker is restarted");
    }
    if (settle->topic.len > NAME_LEN_MAX) {
        return refuse(r, STATUS_INVALID, "topic", "no such topic");
    }
    for (size_t i = 0; i < settle->count; i++) {
        const struct seq_range *range = &settle->ranges[i];
        if (range->first == 0 || range->first > range->last) {
            return refuse(r, STATUS_INVALID, "range",
                          "a range goes from a first of at least 1 to a last "
                          "not below it");
        }
    }
    if (settle->delay_ms > DELAY_MS_MAX) {
        refuse(r, STATUS_INVALID, "delay_ms",
               "a delay of at most %d ms is "
               "allowed",
               DELAY_MS_MAX);
        r->used = settle->delay_ms;
        r->allowed = DELAY_MS_MAX;
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

/* Its connection is not read, so none comes. */
static enum status check_rest(const struct session *s, struct refusal *r)
{
    return s->rest == NULL
               ? STATUS_OK
               : refuse(r, STATUS_BUSY, "settle",
                        "the settle request before this one is under way");
}

static void settle_in(struct session *s, uint64_t id, struct group_fact *group,
                      const struct wire_settle *settle, uint64_t lease)
{
    struct worker *w = s->worker;
    struct settle_reply *reply;
    struct refusal r;

    if (check_settle(s, settle, &r) != STATUS_OK
        || check_rest(s, &r) != STATUS_OK) {
        s->door->refused(s, id, 1, &r);
        return;
    }
    reply = settle_reply_new(w);
    if (reply == NULL) {
        refuse(&r, STATUS_NOMEM, "memory", "the broker is out of memory");
        s->door->refused(s, id, 1, &r);
        return;
    }
    reply->session = s;
    reply->id = id;
    reply->topic_len = settle->topic.len;
    if (settle->topic.len > 0) {
        memcpy(reply->topic, settle->topic.at, settle->topic.len);
    }
    session_pending_add(s);
    settle_first(s, group, settle, lease, reply);
}

void session_settle(struct session *s, uint64_t id,
                    const struct wire_settle *settle)
{
    struct group_fact *group = s->member == NULL ? NULL : session_group(s);
    struct refusal r;

    if (group == NULL) {
        bool known = session_app(s) != NULL;
        refuse(&r, known ? STATUS_INVALID : STATUS_UNAUTHENTICATED,
               known ? "attach" : "hello",
               known ? "attach to a group before settling its messages"
                     : "say hello with an app and its secret first");
        s->door->refused(s, id, 1, &r);
        return;
    }
    settle_in(s, id, group, settle, s->lease);
}

void session_settle_in(struct session *s, uint64_t id, struct slice name,
                       const struct wire_settle *settle)
{
    struct refusal r;
    struct group_fact *group = session_group_here(s, name, &r);

    if (group == NULL) {
        s->door->refused(s, id, 1, &r);
        return;
    }
    settle_in(s, id, group, settle, settle->lease);
}

static void place(struct worker *w, struct settle_reply *reply, uint64_t begin)
{
    const struct pending pending = {
        .kind = PENDING_SETTLE,
        .begin = begin,
        .end = submission_written(w->submission),
        .id = reply->id,
        .session = reply->session,
        .settle = reply,
    };
    struct refusal r;

    if (!reply->failed && !reply->overflowed && !reply->gone
        && pending_push(&w->pending, &pending) == STATUS_OK) {
        return;
    }
    if (reply->gone) {
        refuse(&r, STATUS_NOT_FOUND, "group",
               "the group was deleted before all of this was settled");
    } else if (reply->overflowed) {
        refuse(&r, STATUS_TOO_LARGE, "settle_outcomes",
               "more than %d stretches with outcomes of their own; settle "
               "again in smaller ranges: what was accepted stays accepted",
               SETTLE_OUTCOMES_MAX);
        r.used = r.allowed = SETTLE_OUTCOMES_MAX;
    } else {
        refuse(&r, STATUS_NOMEM, "memory",
               "the broker ran out of memory; settle again");
    }
    if (reply->session->conn != NULL) {
        reply->session->door->refused(reply->session, reply->id, 1, &r);
    }
    session_settle_reply_done(w, reply);
}

void session_place_settles(struct worker *w, uint64_t begin)
{
    while (w->unplaced != NULL) {
        struct settle_reply *reply = w->unplaced;

        w->unplaced = reply->next;
        reply->next = NULL;
        place(w, reply, begin);
        begin = submission_written(w->submission);
    }
    w->unplaced_end = &w->unplaced;
}
