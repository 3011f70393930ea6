/* A publish from the frame to the confirm:
 *
 *   session_publish   may this app, is there such a topic, is there room
 *   write_messages    each message is checked and becomes a finished record in
 *                     the submission ring; good stretches wait as one pending
 *   (journal)         numbers, appends, syncs
 *   publish_answer    the records in the ring now say seq, duplicate or refused
 *
 * Failures: nobody logged in, topic unknown or not granted, a message over a
 * limit (that one alone is refused), no room (held back, its connection is not
 * read), too much held back (refused), draining, frozen. */
#include "broker/session/inside.h"

#include "proto/limits.h"
#include "proto/name.h"

#include <stdlib.h>

enum { HELD_RETRY_MS = 100, NO_SPACE_RETRY_MS = 1000 };

struct held {
    uint64_t id;
    uint64_t producer_seq;
    size_t count;
    size_t bytes; /* all of this allocation */
    struct slice topic;
    struct slice messages[];
};

static void refuse_topic(const struct app *app, struct slice name, bool known,
                         struct refusal *r)
{
    bool shown = name_valid(name);

    refuse(r, known ? STATUS_FORBIDDEN : STATUS_NOT_FOUND,
           known ? "grant" : "topic",
           known ? "app %s has no grant to publish to topic %.*s"
                 : "app %s publishes to topic %.*s, which does not exist; "
                   "create it first",
           app->name, shown ? (int)name.len : 1,
           shown ? (const char *)name.at : "?");
}

/* The rest of the disk is for acks, for the keydir, and for what makes room. */
static bool disk_is_low(const struct worker *w, struct refusal *r)
{
    const struct keeper_metrics *m = &w->all->metrics->keeper;

    if (atomic_load_explicit(&m->disk_low, memory_order_relaxed) == 0) {
        return false;
    }
    refuse(r, STATUS_NO_SPACE, "free_mib_min",
           "less is free on the disk of the broker (used) than it needs "
           "(allowed, in bytes); acks and deliveries go on");
    r->used = atomic_load_explicit(&m->disk_free_bytes, memory_order_relaxed);
    r->allowed =
        atomic_load_explicit(&m->disk_free_bytes_min, memory_order_relaxed);
    r->retry_after_ms = NO_SPACE_RETRY_MS;
    return true;
}

/* The topic to publish to, or NULL and why not. */
static const struct topic *check_request(const struct session *s,
                                         const struct wire_publish *publish,
                                         struct refusal *r)
{
    const struct app *app = session_app(s);
    const struct topic *topic;

    if (app == NULL) {
        refuse(r, STATUS_UNAUTHENTICATED, "hello",
               "say hello with an app and its secret first");
        return NULL;
    }
    if (store_frozen(s->worker->all->store)) {
        refuse(r, STATUS_FROZEN, "store_frozen",
               "the store stopped after an I/O error; nothing is confirmed "
               "until the broker is restarted");
        return NULL;
    }
    if (worker_draining(s->worker)) {
        refuse(r, STATUS_CLOSED, "draining",
               "the broker is being stopped; connect again");
        return NULL;
    }
    if (disk_is_low(s->worker, r)) {
        return NULL;
    }
    topic = catalog_topic(session_catalog(s), publish->topic);
    if (topic == NULL || !app_may_publish(app, publish->topic)) {
        refuse_topic(app, publish->topic, topic != NULL, r);
        return NULL;
    }
    if (publish->producer_seq != 0 && s->producer == 0) {
        refuse(r, STATUS_INVALID, "producer",
               "producer_seq without a producer: name one in hello");
        return NULL;
    }
    if (publish->atomic) {
        refuse(r, STATUS_UNSUPPORTED, "atomic",
               "all-or-nothing batches are not offered here yet");
        return NULL;
    }
    return topic;
}

static size_t records_size(const struct wire_publish *publish)
{
    size_t size = 0;

    for (size_t i = 0; i < publish->count; i++) {
        size += record_size(publish->messages[i].len);
    }
    return size;
}

static void write_record(struct session *s, const struct topic *topic,
                         struct slice message, uint64_t producer_seq)
{
    const struct record record = {
        .kind = RECORD_MESSAGE,
        .topic = topic->id,
        .app = s->app,
        .producer = producer_seq == 0 ? 0 : s->producer,
        .producer_seq = producer_seq,
        .body = message,
    };

    submission_put(s->worker->submission, &record, true);
}

/* The records written since `begin` are the messages id..id+count-1. */
static void wait_for_sync(struct session *s, uint64_t id, uint64_t count,
                          uint64_t begin)
{
    struct worker *w = s->worker;
    const struct pending pending = {
        .kind = PENDING_PUBLISH,
        .count = (uint32_t)count,
        .begin = begin,
        .end = submission_written(w->submission),
        .id = id,
        .session = s,
    };
    enum status status;

    if (count == 0) {
        return;
    }
    status = pending_push(&w->pending, &pending);
    CHECK(status == STATUS_OK); /* reserved below */
    session_pending_add(s);
}

static void refuse_one(struct session *s, uint64_t id, uint64_t count,
                       const struct refusal *r)
{
    metric_add(&s->worker->metrics->refused_messages, count);
    s->door->refused(s, id, count, r);
}

static void write_messages(struct session *s, const struct topic *topic,
                           uint64_t id, const struct wire_publish *publish)
{
    struct worker *w = s->worker;
    uint64_t begin = submission_written(w->submission);
    uint64_t written = 0; /* since `begin` */
    uint64_t bytes = 0;
    struct refusal r;

    for (size_t i = 0; i < publish->count; i++) {
        struct slice message = publish->messages[i];

        if (pending_reserve(&w->pending) != STATUS_OK) {
            refuse(&r, STATUS_NOMEM, "memory", "the broker is out of memory");
        } else if (codec_message_check(message, NULL, &r) == STATUS_OK) {
            write_record(
                s, topic, message,
                publish->producer_seq == 0 ? 0 : publish->producer_seq + i);
            bytes += message.len;
            written++;
            continue;
        }
        wait_for_sync(s, id + i - written, written, begin);
        metric_add(&w->metrics->published_messages, written);
        refuse_one(s, id + i, 1, &r);
        written = 0;
        begin = submission_written(w->submission);
    }
    wait_for_sync(s, id + publish->count - written, written, begin);
    metric_add(&w->metrics->published_messages, written);
    metric_add(&w->metrics->published_bytes, bytes);
}

/* ---- no room ---- */

static struct held *held_copy(uint64_t id, const struct wire_publish *publish)
{
    size_t slices = publish->count * sizeof(struct slice);
    size_t bytes = sizeof(struct held) + slices + publish->topic.len;
    struct held *held;
    uint8_t *at;

    for (size_t i = 0; i < publish->count; i++) {
        bytes += publish->messages[i].len;
    }
    held = malloc(bytes);
    if (held == NULL) {
        return NULL;
    }
    held->id = id;
    held->producer_seq = publish->producer_seq;
    held->count = publish->count;
    held->bytes = bytes;
    at = (uint8_t *)held + sizeof *held + slices;
    memcpy(at, publish->topic.at, publish->topic.len);
    held->topic = slice_of(at, publish->topic.len);
    at += publish->topic.len;
    for (size_t i = 0; i < publish->count; i++) {
        struct slice message = publish->messages[i];
        if (message.len > 0) {
            memcpy(at, message.at, message.len);
        }
        held->messages[i] = slice_of(at, message.len);
        at += message.len;
    }
    return held;
}

static void hold(struct session *s, uint64_t id,
                 const struct wire_publish *publish)
{
    struct worker *w = s->worker;
    struct refusal r;

    if (s->held == NULL && w->held_bytes < HELD_BYTES_MAX) {
        s->held = held_copy(id, publish);
    } else {
        /* Its connection is not read: only what was in one buffer comes here. */
        refuse(&r, STATUS_AGAIN, "held_bytes",
               "the disk does not keep up; send again");
        r.used = w->held_bytes;
        r.allowed = HELD_BYTES_MAX;
        r.retry_after_ms = HELD_RETRY_MS;
        refuse_one(s, id, publish->count, &r);
        return;
    }
    if (s->held == NULL) {
        refuse(&r, STATUS_NOMEM, "memory", "the broker is out of memory");
        refuse_one(s, id, publish->count, &r);
        return;
    }
    w->held_bytes += s->held->bytes;
    conn_pause(s->conn);
    session_pending_add(s);
    s->next_stalled = NULL;
    if (w->stalled_last == NULL) {
        w->stalled_first = s;
    } else {
        w->stalled_last->next_stalled = s;
    }
    w->stalled_last = s;
    metric_add(&w->metrics->stalled_sessions, 1);
}

void publish_forget_held(struct session *s)
{
    if (s->held != NULL) {
        s->worker->held_bytes -= s->held->bytes;
        free(s->held);
        s->held = NULL;
    }
}

static bool retry_one(struct worker *w, struct session *s)
{
    const struct topic *topic;
    struct refusal r;
    struct wire_publish publish;
    struct held *held = s->held;

    if (held == NULL) { /* its connection has gone */
        return true;
    }
    publish = (struct wire_publish) { .topic = held->topic,
                                      .producer_seq = held->producer_seq,
                                      .messages = held->messages,
                                      .count = held->count };
    topic = check_request(s, &publish, &r);
    if (topic == NULL) {
        refuse_one(s, held->id, held->count, &r);
    } else if (submission_room(w->submission) < records_size(&publish)) {
        return false;
    } else {
        write_messages(s, topic, held->id, &publish);
    }
    publish_forget_held(s);
    return true;
}

void publish_retry(struct worker *w)
{
    while (w->stalled_first != NULL) {
        struct session *s = w->stalled_first;

        if (!retry_one(w, s)) {
            return;
        }
        w->stalled_first = s->next_stalled;
        if (w->stalled_first == NULL) {
            w->stalled_last = NULL;
        }
        metric_set(&w->metrics->stalled_sessions,
                   w->metrics->stalled_sessions - 1);
        if (s->conn != NULL && !s->choked && s->move == MOVE_NONE) {
            conn_resume(s->conn);
        }
        session_pending_done(s);
    }
}

void session_publish(struct session *s, uint64_t id,
                     const struct wire_publish *publish)
{
    struct refusal r;
    const struct topic *topic = check_request(s, publish, &r);

    if (topic == NULL) {
        refuse_one(s, id, publish->count == 0 ? 1 : publish->count, &r);
        return;
    }
    if (s->held != NULL
        || submission_room(s->worker->submission) < records_size(publish)) {
        hold(s, id, publish);
        return;
    }
    write_messages(s, topic, id, publish);
}

/* ---- durable ---- */

enum fate { FATE_STORED, FATE_DUPLICATE, FATE_NO_SPACE };

/* A stretch of messages with one answer. */
struct stretch {
    enum fate fate;
    uint64_t id;
    uint64_t count;
    uint64_t seq; /* of the first; duplicates may have 0 */
    /* of what was stored */
    struct submission_place place; /* of the first; segment 0: not known */
    uint64_t checksum;
};

static void answer_stretch(struct session *s, const struct stretch *stretch)
{
    struct worker *w = s->worker;
    struct refusal r;

    if (stretch->count == 0) {
        return;
    }
    if (stretch->fate == FATE_NO_SPACE) {
        metric_add(&w->metrics->refused_messages, stretch->count);
        refuse(&r, STATUS_NO_SPACE, "disk_space",
               "the disk of the broker is full; acks and deliveries go on");
        r.used = atomic_load_explicit(&w->all->metrics->keeper.disk_free_bytes,
                                      memory_order_relaxed);
        r.retry_after_ms = NO_SPACE_RETRY_MS;
        if (s->conn != NULL) {
            s->door->refused(s, stretch->id, stretch->count, &r);
        }
        return;
    }
    metric_add(&w->metrics->confirmed_messages, stretch->count);
    if (stretch->fate == FATE_DUPLICATE) {
        metric_add(&w->metrics->duplicate_messages, stretch->count);
    }
    if (s->conn != NULL) {
        const struct wire_confirm confirm = {
            .id = stretch->id,
            .count = stretch->count,
            .seq = stretch->seq,
            .duplicate = stretch->fate == FATE_DUPLICATE,
            .segment = stretch->place.segment,
            .offset = stretch->place.offset,
            .checksum = stretch->place.segment == 0 ? 0 : stretch->checksum,
        };
        s->door->confirm(s, &confirm);
    }
}

static enum fate fate_of(uint8_t flags)
{
    if ((flags & RECORD_REFUSED) != 0) {
        return FATE_NO_SPACE;
    }
    return (flags & RECORD_DUPLICATE) != 0 ? FATE_DUPLICATE : FATE_STORED;
}

static bool continues(const struct stretch *stretch, enum fate fate,
                      uint64_t seq)
{
    if (stretch->count == 0 || stretch->fate != fate) {
        return false;
    }
    return fate == FATE_NO_SPACE || (stretch->seq == 0 && seq == 0)
           || (stretch->seq != 0 && seq == stretch->seq + stretch->count);
}

static struct stretch begin_stretch(struct submission *s, uint64_t position,
                                    enum fate fate)
{
    struct stretch stretch = { .fate = fate };

    if (fate == FATE_STORED
        && !submission_placed(s, position, &stretch.place)) {
        stretch.place = (struct submission_place) { 0 };
    }
    return stretch;
}

void publish_answer(struct worker *w, const struct pending *p)
{
    struct stretch stretch = { 0 };
    uint64_t position = p->begin;

    for (uint32_t i = 0; i < p->count; i++) {
        const uint8_t *at = submission_at(w->submission, position);
        enum fate fate = fate_of(record_flags_at(at));
        uint64_t seq = record_seq_at(at);

        if (!continues(&stretch, fate, seq)) {
            answer_stretch(p->session, &stretch);
            stretch = begin_stretch(w->submission, position, fate);
            stretch.id = p->id + i;
            stretch.seq = seq;
        }
        if (fate == FATE_STORED) {
            stretch.checksum =
                record_receipt(stretch.checksum, record_hash_at(at));
        } else {
            submission_dropped(w->submission, position, record_size_at(at));
        }
        stretch.count++;
        position += record_size_at(at);
    }
    answer_stretch(p->session, &stretch);
    CHECK(position <= p->end);
}
