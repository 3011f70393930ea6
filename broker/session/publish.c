/* A publish from the frame to the confirm:
 *
 *   session_publish   may this app, is there such a topic, is there room
 *   write_messages    each message is checked and becomes a finished record in
 *                     the submission ring; good stretches wait as one pending
 *   write_atomic      the same when they are all or none: checked first, then
 *                     written as a chain that the journal does not divide
 *   (journal)         numbers, appends, syncs
 *   publish_answer    the records in the ring now say seq, duplicate or refused
 *
 * Failures: nobody logged in, topic unknown or not granted, a message over a
 * limit (that one alone is refused, or the whole chain), no room (held back, its
 * connection is not read), too much held back (refused), draining, frozen. */
#include "broker/session/inside.h"

#include "broker/clock.h"
#include "broker/delivery/digest.h"
#include "proto/limits.h"
#include "proto/name.h"

#include <stdio.h>
#include <stdlib.h>

enum { HELD_RETRY_MS = 100, NO_SPACE_RETRY_MS = 1000 };

struct held {
    uint64_t id;
    uint64_t producer_seq;
    bool atomic;
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

static size_t records_size(const struct wire_publish *publish)
{
    size_t size = 0;

    for (size_t i = 0; i < publish->count; i++) {
        size += record_size(publish->messages[i].len);
    }
    return size;
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
    if (publish->atomic && records_size(publish) > ATOMIC_LEN_MAX) {
        refuse(r, STATUS_TOO_LARGE, "atomic_len",
               "an all-or-nothing batch takes more of the log (used, in bytes) "
               "than one may");
        r->used = records_size(publish);
        r->allowed = ATOMIC_LEN_MAX;
        return NULL;
    }
    return topic;
}

/* ---- messages to records ---- */

/* What the message itself cannot know: who numbers it, and what time it is. */
static enum status check_options(const struct wire_message *m,
                                 uint64_t producer_seq, struct refusal *r)
{
    uint64_t at_ms_max;

    if (m->id.len > 0 && producer_seq != 0) {
        return refuse(r, STATUS_INVALID, "message_id",
                      "a message has an id or a producer sequence, not both");
    }
    if (m->delay_ms != 0 && m->deliver_at_ms != 0) {
        return refuse(r, STATUS_INVALID, "delay_ms",
                      "a message has delay_ms or deliver_at_ms, not both");
    }
    if (m->deliver_at_ms == 0) {
        return STATUS_OK;
    }
    at_ms_max = clock_wall_us() / 1000 + PUBLISH_DELAY_MS_MAX;
    if (m->deliver_at_ms > at_ms_max) {
        refuse(r, STATUS_INVALID, "deliver_at_ms",
               "deliver_at_ms is more than %d days ahead",
               PUBLISH_DELAY_DAYS_MAX);
        r->used = m->deliver_at_ms;
        r->allowed = at_ms_max;
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static bool is_timed(const struct wire_message *m)
{
    return (m->delay_ms | m->deliver_at_ms | m->ttl_ms) != 0;
}

static enum status check_message(struct slice message, uint64_t producer_seq,
                                 struct wire_message *out, struct refusal *r)
{
    enum status status = codec_message_check(message, out, r);

    if (status == STATUS_OK && (is_timed(out) || out->id.len > 0)) {
        status = check_options(out, producer_seq, r);
    }
    return status;
}

/* A message and its record to be. */
struct draft {
    const struct topic *topic;
    struct slice message;
    uint64_t producer_seq; /* 0: none */
    bool more;             /* the next one belongs to it */
};

static void write_record(struct session *s, const struct draft *draft,
                         const struct wire_message *parts)
{
    struct record record = {
        .kind = RECORD_MESSAGE,
        .topic = draft->topic->id,
        .app = s->app,
        .producer = draft->producer_seq == 0 ? 0 : s->producer,
        .producer_seq = draft->producer_seq,
        .body = draft->message,
    };

    if (is_timed(parts)) {
        record.flags |= RECORD_TIMED;
    }
    if (parts->id.len > 0) {
        const struct digest_id id = digest_id(draft->topic->id, parts->id);

        record.flags |= RECORD_ID;
        record.producer = id.high;
        record.producer_seq = id.low;
    }
    if (draft->more) {
        record.flags |= RECORD_MORE;
    }
    submission_put(s->worker->submission, &record, true);
}

static struct draft draft_of(const struct topic *topic,
                             const struct wire_publish *publish, size_t i)
{
    return (struct draft) {
        .topic = topic,
        .message = publish->messages[i],
        .producer_seq =
            publish->producer_seq == 0 ? 0 : publish->producer_seq + i,
        .more = publish->atomic && i + 1 < publish->count,
    };
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

static enum status reserve_pending(struct worker *w, struct refusal *r)
{
    if (pending_reserve(&w->pending) == STATUS_OK) {
        return STATUS_OK;
    }
    return refuse(r, STATUS_NOMEM, "memory", "the broker is out of memory");
}

static void write_messages(struct session *s, const struct topic *topic,
                           uint64_t id, const struct wire_publish *publish)
{
    struct worker *w = s->worker;
    uint64_t begin = submission_written(w->submission);
    uint64_t written = 0; /* since `begin` */
    uint64_t bytes = 0;
    struct wire_message parts;
    struct refusal r;

    for (size_t i = 0; i < publish->count; i++) {
        const struct draft draft = draft_of(topic, publish, i);

        if (reserve_pending(w, &r) == STATUS_OK
            && check_message(draft.message, draft.producer_seq, &parts, &r)
                   == STATUS_OK) {
            write_record(s, &draft, &parts);
            bytes += draft.message.len;
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

/* All of them, or the first that is bad. */
static enum status check_all(const struct wire_publish *publish,
                             struct refusal *r)
{
    struct wire_message parts;

    for (size_t i = 0; i < publish->count; i++) {
        const struct draft draft = draft_of(NULL, publish, i);
        enum status status =
            check_message(draft.message, draft.producer_seq, &parts, r);

        if (status != STATUS_OK) {
            snprintf(r->scope, sizeof r->scope, "messages[%zu]", i);
            return status;
        }
    }
    return STATUS_OK;
}

static void write_atomic(struct session *s, const struct topic *topic,
                         uint64_t id, const struct wire_publish *publish)
{
    struct worker *w = s->worker;
    uint64_t begin = submission_written(w->submission);
    uint64_t bytes = 0;
    struct wire_message parts;
    struct refusal r;

    if (check_all(publish, &r) != STATUS_OK
        || reserve_pending(w, &r) != STATUS_OK) {
        refuse_one(s, id, publish->count, &r);
        return;
    }
    for (size_t i = 0; i < publish->count; i++) {
        const struct draft draft = draft_of(topic, publish, i);
        enum status status = codec_message_check(draft.message, &parts, &r);

        CHECK(status == STATUS_OK); /* as a moment ago */
        write_record(s, &draft, &parts);
        bytes += draft.message.len;
    }
    wait_for_sync(s, id, publish->count, begin);
    metric_add(&w->metrics->published_messages, publish->count);
    metric_add(&w->metrics->published_bytes, bytes);
}

static void write_publish(struct session *s, const struct topic *topic,
                          uint64_t id, const struct wire_publish *publish)
{
    if (publish->atomic) {
        write_atomic(s, topic, id, publish);
    } else {
        write_messages(s, topic, id, publish);
    }
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
    held->atomic = publish->atomic;
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
                                      .count = held->count,
                                      .atomic = held->atomic };
    topic = check_request(s, &publish, &r);
    if (topic == NULL) {
        refuse_one(s, held->id, held->count, &r);
    } else if (submission_room(w->submission) < records_size(&publish)) {
        return false;
    } else {
        write_publish(s, topic, held->id, &publish);
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
        session_read_on(s);
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
    write_publish(s, topic, id, publish);
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
