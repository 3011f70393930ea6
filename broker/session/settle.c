/* Settling: outcomes are known at once, but told only when the records that they
 * made are durable. session_settle() and session_settle_in() gather them in a
 * reply; at the end of the turn, when the group's effects are in the submission
 * ring, session_place_settles() lets the replies wait for the sync. */
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

    metric_add(outcome_metric(reply->session->worker, range->outcome),
               range->last - range->first + 1);
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

static void settle_ranges(struct session *s, struct group_fact *group,
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
        return;
    }
    for (size_t i = 0; i < seqset_range_count(&w->settling); i++) {
        settlement.range = seqset_ranges(&w->settling)[i];
        if (dispatch_settle(w->dispatch, group, &settlement, w->now_us,
                            on_outcome, reply)
            != STATUS_OK) {
            reply->failed = true;
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

static void settle_in(struct session *s, uint64_t id, struct group_fact *group,
                      const struct wire_settle *settle, uint64_t lease)
{
    struct worker *w = s->worker;
    struct settle_reply *reply;
    struct refusal r;

    if (check_settle(s, settle, &r) != STATUS_OK) {
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
    settle_ranges(s, group, settle, lease, reply);
    *w->unplaced_end = reply;
    w->unplaced_end = &reply->next;
    session_choke(s);
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

    if (!reply->failed && !reply->overflowed
        && pending_push(&w->pending, &pending) == STATUS_OK) {
        return;
    }
    if (reply->overflowed) {
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
