#include "broker/session/operate.h"

#include "broker/router/filter.h"
#include "broker/session/inside.h"
#include "proto/name.h"

#include <stdlib.h>

/* An operation that was carried out, until its records are durable. */
struct operation_reply {
    struct operation_reply *next;
    struct session *session;
    uint64_t id;
    enum operation_kind kind;
    uint32_t group;
    struct seek_done *seeks;
    size_t seek_count;
    size_t seek_capacity;
    uint64_t count;
    uint32_t topic;       /* discard: of this one ... */
    struct seqset ranges; /* ... what is left to look at */
};

void operation_fini(struct operation *operation)
{
    seqset_fini(&operation->ranges);
    filter_free(operation->filter);
    operation->filter = NULL;
}

/* ---- the reply ---- */

static void reply_free(struct operation_reply *reply)
{
    free(reply->seeks);
    seqset_fini(&reply->ranges);
    free(reply);
}

static void reply_done(struct operation_reply *reply)
{
    struct session *s = reply->session;

    reply_free(reply);
    session_pending_done(s);
}

static struct redrive_state redrive_of(const struct session *s, uint32_t group)
{
    const struct group_fact *fact =
        catalog_group_by_id(session_catalog(s), group);
    struct redrive_state state = { 0 };

    if (fact != NULL) {
        (void)dispatch_redrive_state(fact, &state);
    }
    return state;
}

/* A trim may have come into the log before the seek did. */
static void look_again(const struct session *s, struct seek_done *seek)
{
    const struct topic *topic =
        catalog_topic(session_catalog(s), slice_text(seek->topic));

    if (topic != NULL) {
        seek->seq = dispatch_begins(topic, seek->seq);
    }
}

void session_operation_durable(struct worker *w, struct operation_reply *reply)
{
    struct session *s = reply->session;
    const struct operation_done done = {
        .id = reply->id,
        .kind = reply->kind,
        .seeks = reply->seeks,
        .seek_count = reply->seek_count,
        .count = reply->count,
        .redrive = redrive_of(s, reply->group),
    };

    (void)w;
    for (size_t i = 0; i < reply->seek_count; i++) {
        look_again(s, &reply->seeks[i]);
    }
    if (s->conn != NULL) {
        s->door->operated(s, &done);
    }
    reply_done(reply);
}

void session_operation_refuse(struct worker *w, struct operation_reply *reply,
                              const struct refusal *refusal)
{
    struct session *s = reply->session;

    (void)w;
    if (refusal != NULL && s->conn != NULL) {
        s->door->refused(s, reply->id, 1, refusal);
    }
    reply_done(reply);
}

void session_place_operations(struct worker *w, uint64_t begin)
{
    while (w->operations != NULL) {
        struct operation_reply *reply = w->operations;
        const struct pending pending = {
            .kind = PENDING_OPERATION,
            .begin = begin,
            .end = submission_written(w->submission),
            .id = reply->id,
            .session = reply->session,
            .operation = reply,
        };
        struct refusal r;

        w->operations = reply->next;
        if (pending_push(&w->pending, &pending) != STATUS_OK) {
            refuse(&r, STATUS_NOMEM, "memory",
                   "the broker ran out of memory; look before you do it again");
            session_operation_refuse(w, reply, &r);
        }
    }
}

/* ---- seeking ---- */

static enum status no_topic(const struct group_fact *group, struct slice name,
                            struct refusal *r)
{
    return refuse(r, STATUS_NOT_FOUND, "topic", "group %s takes no topic %.*s",
                  group->name, name_valid(name) ? (int)name.len : 1,
                  name_valid(name) ? (const char *)name.at : "?");
}

static enum status no_memory(struct refusal *r)
{
    return refuse(r, STATUS_NOMEM, "memory", "the broker is out of memory");
}

static enum status note_seek(struct operation_reply *reply,
                             const struct topic *topic, uint64_t seq)
{
    struct seek_done *to;

    if (reply->seek_count == reply->seek_capacity) {
        size_t capacity = reply->seek_capacity * 2 + 4;
        struct seek_done *seeks =
            realloc(reply->seeks, capacity * sizeof *seeks);

        if (seeks == NULL) {
            return STATUS_NOMEM;
        }
        reply->seeks = seeks;
        reply->seek_capacity = capacity;
    }
    to = &reply->seeks[reply->seek_count++];
    memcpy(to->topic, topic->name, sizeof to->topic);
    to->seq = seq;
    return STATUS_OK;
}

static uint64_t seek_target(struct dispatch *d, const struct topic *topic,
                            const struct operation *operation)
{
    switch (operation->to) {
    case SEEK_SEQ:
        return operation->seek;
    case SEEK_TIME:
        return dispatch_seq_at(d, topic, operation->seek);
    case SEEK_EARLIEST:
        return 1;
    case SEEK_LATEST:
        break;
    }
    return dispatch_last_seq(topic) + 1;
}

static enum status seek_topic(struct session *s, const struct group_fact *group,
                              const struct topic *topic,
                              const struct operation *operation,
                              struct operation_reply *reply, struct refusal *r)
{
    struct dispatch *d = s->worker->dispatch;
    uint64_t seq = seek_target(d, topic, operation);
    uint64_t begins = 0;
    enum status status = dispatch_seek(d, group, topic, seq, &begins);

    if (status == STATUS_NOT_FOUND) {
        return no_topic(group, slice_text(topic->name), r);
    }
    if (status == STATUS_INVALID) {
        refuse(r, status, "seek", "topic %s ends at %llu; %llu is possible",
               topic->name, (unsigned long long)dispatch_last_seq(topic),
               (unsigned long long)dispatch_last_seq(topic) + 1);
        r->used = seq;
        r->allowed = dispatch_last_seq(topic) + 1;
        return status;
    }
    if (status == STATUS_OK) {
        status = note_seek(reply, topic, begins);
    }
    return status == STATUS_OK ? status : no_memory(r);
}

/* The topics that a group takes, for what is done to all of them. */
struct taken {
    const struct group_fact *group;
    struct topic **at;
    size_t count;
    size_t most;
};

static void take_topic(void *arg, struct topic *topic)
{
    struct taken *taken = arg;
    struct lane_books books;

    if (dispatch_books(taken->group, topic, &books)) {
        if (taken->count < taken->most && taken->at != NULL) {
            taken->at[taken->count] = topic;
        }
        taken->count++;
    }
}

/* *out: a list of its own, in the order of names. */
static enum status list_taken(const struct session *s,
                              const struct group_fact *group, struct taken *out)
{
    *out = (struct taken) { .group = group };
    catalog_each_topic(session_catalog(s), take_topic, out);
    out->most = out->count;
    out->at = calloc(out->count + 1, sizeof(struct topic *));
    if (out->at == NULL) {
        return STATUS_NOMEM;
    }
    out->count = 0;
    catalog_each_topic(session_catalog(s), take_topic, out);
    return STATUS_OK;
}

static enum status seek_all(struct session *s, const struct group_fact *group,
                            const struct operation *operation,
                            struct operation_reply *reply, struct refusal *r)
{
    enum status status;
    struct taken taken;

    if (operation->to == SEEK_SEQ) {
        return refuse(r, STATUS_INVALID, "topic",
                      "a seq is one topic's: say which");
    }
    if (list_taken(s, group, &taken) != STATUS_OK) {
        return no_memory(r);
    }
    if (operation->to == SEEK_TIME && taken.count > FROM_TIME_TOPIC_COUNT_MAX) {
        free(taken.at);
        refuse(r, STATUS_TOO_LARGE, "topics",
               "a time is looked for in at most %d topics at once; say which",
               FROM_TIME_TOPIC_COUNT_MAX);
        r->used = taken.count;
        r->allowed = FROM_TIME_TOPIC_COUNT_MAX;
        return STATUS_TOO_LARGE;
    }
    status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < taken.count; i++) {
        status = seek_topic(s, group, taken.at[i], operation, reply, r);
    }
    free(taken.at);
    return status;
}

/* ---- dead letters ---- */

static enum status begin_redrive(struct session *s,
                                 const struct group_fact *group,
                                 const struct topic *topic,
                                 struct operation *operation, struct refusal *r)
{
    const struct redrive_order order = {
        .topic = topic,
        .ranges = operation->ranges,
        .cause = operation->cause,
        .filter = operation->filter,
        .rate = operation->rate,
        .cap = operation->cap,
        .dry_run = operation->dry_run,
    };
    enum status status;

    operation->ranges = (struct seqset) { 0 };
    operation->filter = NULL;
    status =
        dispatch_redrive(s->worker->dispatch, group, &order, s->worker->now_us);
    if (status == STATUS_BUSY) {
        return refuse(r, status, "redrive",
                      "a redrive of group %s runs; stop it, or wait",
                      group->name);
    }
    return status == STATUS_OK ? status : no_memory(r);
}

static enum status no_redrive(const struct group_fact *group, struct refusal *r)
{
    return refuse(r, STATUS_NOT_FOUND, "redrive",
                  "no redrive of group %s since the broker's start",
                  group->name);
}

static enum status stop_redrive(struct session *s,
                                const struct group_fact *group,
                                struct refusal *r)
{
    struct redrive_state state;

    if (!dispatch_redrive_state(group, &state)) {
        return no_redrive(group, r);
    }
    dispatch_redrive_stop(s->worker->dispatch, group);
    return STATUS_OK;
}

static enum status check_store(const struct session *s, struct refusal *r)
{
    return store_frozen(s->worker->all->store)
               ? refuse(r, STATUS_FROZEN, "store_frozen",
                        "the store stopped after an I/O error; nothing can be "
                        "made durable until the broker is restarted")
               : STATUS_OK;
}

/* ---- what takes several turns ---- */

static bool takes_turns(enum operation_kind kind)
{
    return kind == OPERATION_UNDO || kind == OPERATION_DISCARD;
}

static void begin_in_turns(struct operation_reply *reply)
{
    struct worker *w = reply->session->worker;

    *w->operating_end = reply;
    w->operating_end = &reply->next;
}

static enum status undo_some(struct worker *w, const struct group_fact *group,
                             struct operation_reply *reply, size_t *budget,
                             struct refusal *r)
{
    uint64_t undone = 0;
    enum status status =
        dispatch_redrive_undo(w->dispatch, group, budget, &undone);

    reply->count += undone;
    if (status == STATUS_BUSY) {
        return refuse(r, status, "redrive",
                      "the redrive of group %s runs; stop it first",
                      group->name);
    }
    if (status == STATUS_NOT_FOUND) {
        return no_redrive(group, r);
    }
    return status == STATUS_NOMEM ? no_memory(r) : status;
}

static enum status discard_some(struct worker *w,
                                const struct group_fact *group,
                                struct operation_reply *reply, size_t *budget,
                                struct refusal *r)
{
    enum status status = STATUS_OK;

    while (status == STATUS_OK && seqset_range_count(&reply->ranges) > 0) {
        struct seq_range range = seqset_ranges(&reply->ranges)[0];
        uint64_t count = 0;
        uint64_t next = 0;

        status = dispatch_discard(w->dispatch, group, reply->topic, range,
                                  budget, &next, &count);
        reply->count += count;
        seqset_drop_through(&reply->ranges,
                            status == STATUS_OK ? range.last : next - 1);
    }
    return status == STATUS_NOMEM ? no_memory(r) : status;
}

static enum status go_on(struct worker *w, struct operation_reply *reply,
                         size_t *budget, struct refusal *r)
{
    const struct group_fact *group =
        catalog_group_by_id(session_catalog(reply->session), reply->group);

    if (group == NULL || group->user == NULL) {
        return refuse(r, STATUS_NOT_FOUND, "group",
                      "the group was deleted meanwhile");
    }
    if (check_store(reply->session, r) != STATUS_OK) {
        return r->status;
    }
    return reply->kind == OPERATION_UNDO
               ? undo_some(w, group, reply, budget, r)
               : discard_some(w, group, reply, budget, r);
}

static struct operation_reply *take_first(struct worker *w)
{
    struct operation_reply *reply = w->operating;

    w->operating = reply->next;
    reply->next = NULL;
    if (w->operating == NULL) {
        w->operating_end = &w->operating;
    }
    return reply;
}

void session_go_on_operating(struct worker *w)
{
    size_t budget = OPERATE_LOOKS_TURN;

    while (w->operating != NULL) {
        struct refusal r;
        enum status status = go_on(w, w->operating, &budget, &r);
        struct operation_reply *reply;

        if (status == STATUS_AGAIN) {
            return;
        }
        reply = take_first(w);
        if (status == STATUS_OK) {
            reply->next = w->operations;
            w->operations = reply;
        } else {
            session_operation_refuse(w, reply, &r);
        }
    }
}

void session_drop_operating(struct worker *w)
{
    while (w->operating != NULL) {
        session_operation_refuse(w, take_first(w), NULL);
    }
}

static enum status begin_discard(const struct topic *topic,
                                 struct operation *operation,
                                 struct operation_reply *reply,
                                 struct refusal *r)
{
    reply->topic = topic->id;
    reply->ranges = operation->ranges;
    operation->ranges = (struct seqset) { 0 };
    return seqset_range_count(&reply->ranges) > 0
                   || seqset_add(&reply->ranges, 1, UINT64_MAX, NULL)
                          == STATUS_OK
               ? STATUS_OK
               : no_memory(r);
}

/* ---- one of them ---- */

static enum status carry_out(struct session *s, const struct group_fact *group,
                             const struct topic *topic,
                             struct operation *operation,
                             struct operation_reply *reply, struct refusal *r)
{
    switch (operation->kind) {
    case OPERATION_SEEK:
        return topic == NULL ? seek_all(s, group, operation, reply, r)
                             : seek_topic(s, group, topic, operation, reply, r);
    case OPERATION_REDRIVE:
        return begin_redrive(s, group, topic, operation, r);
    case OPERATION_STOP:
        return stop_redrive(s, group, r);
    case OPERATION_UNDO:
        return STATUS_OK; /* in turns */
    case OPERATION_DISCARD:
        break;
    }
    return topic == NULL ? refuse(r, STATUS_INVALID, "topic",
                                  "name the topic whose dead are given up")
                         : begin_discard(topic, operation, reply, r);
}

/* Which topic is meant: *topic NULL for all. */
static enum status find_topic(const struct session *s,
                              const struct group_fact *group,
                              const struct operation *operation,
                              const struct topic **topic, struct refusal *r)
{
    struct lane_books books;

    *topic = NULL;
    if (operation->topic.len == 0) {
        return seqset_range_count(&operation->ranges) == 0
                   ? STATUS_OK
                   : refuse(r, STATUS_INVALID, "topic",
                            "ranges are one topic's: say which");
    }
    *topic = catalog_topic(session_catalog(s), operation->topic);
    if (*topic == NULL || !dispatch_books(group, *topic, &books)) {
        return no_topic(group, operation->topic, r);
    }
    return STATUS_OK;
}

/* What was done before it failed stays, and is durable like all else. */
static enum status operate(struct session *s, uint64_t id, struct slice name,
                           struct operation *operation, struct refusal *r)
{
    const struct group_fact *group = session_group_here(s, name, r);
    const struct topic *topic = NULL;
    struct operation_reply *reply;
    enum status status;

    if (group == NULL) {
        return r->status;
    }
    status = check_store(s, r);
    if (status == STATUS_OK) {
        status = find_topic(s, group, operation, &topic, r);
    }
    if (status != STATUS_OK) {
        return status;
    }
    reply = calloc(1, sizeof *reply);
    if (reply == NULL) {
        return no_memory(r);
    }
    reply->session = s;
    reply->id = id;
    reply->kind = operation->kind;
    reply->group = group->id;
    status = carry_out(s, group, topic, operation, reply, r);
    if (status != STATUS_OK) {
        reply_free(reply);
        return status;
    }
    session_pending_add(s);
    if (takes_turns(reply->kind)) {
        begin_in_turns(reply);
        return STATUS_OK;
    }
    reply->next = s->worker->operations;
    s->worker->operations = reply;
    return STATUS_OK;
}

void session_operate(struct session *s, uint64_t id, struct slice group,
                     struct operation *operation)
{
    struct refusal r;

    if (operate(s, id, group, operation, &r) != STATUS_OK) {
        s->door->refused(s, id, 1, &r);
    }
    operation_fini(operation);
}
