/* A subscription: attach after each connect, hand deliveries to the handler,
 * gather its verdicts into ranges, send them once a step, tell their outcomes.
 *
 *   attach --> Deliver --> handler --> settler --subscribe_send--> broker
 *                                  on_settled <-- subscribe_settled */
#include "client/client.h"
#include "proto/name.h"

#include <stdio.h>

enum {
    CREDIT_MESSAGES_DEFAULT = 1000,
    CREDIT_BYTES_DEFAULT = 16 * 1024 * 1024
};

/* ---- attach and detach ---- */

static bool may_attach(struct godwit *c)
{
    return c->attachment == DETACHED && atomic_load(&c->wanted) != 0;
}

static bool must_detach(struct godwit *c)
{
    return c->attachment == ATTACHED && atomic_load(&c->wanted) != c->attached;
}

static bool may_settle(struct godwit *c)
{
    return c->attachment == ATTACHED && atomic_load(&c->settling)
           && bytes_len(&c->link.out) < LINK_OUT_LEN;
}

bool subscribe_due(struct godwit *c)
{
    return may_attach(c) || must_detach(c) || may_settle(c);
}

/* Takes the frame that was begun at `mark` back when it could not be filled. */
static bool frame_done(struct godwit *c, size_t mark, enum status status)
{
    if (status == STATUS_OK) {
        status = link_frame_end(&c->link, mark);
    }
    if (status != STATUS_OK) {
        link_frame_abort(&c->link, mark);
    }
    return status == STATUS_OK;
}

static bool put_attach(struct godwit *c)
{
    char group[NAME_LEN_MAX + 1];
    struct wire_attach attach;
    size_t mark;

    client_lock(c);
    c->attached = atomic_load(&c->wanted);
    memcpy(group, c->group, sizeof group);
    attach.credit_messages = c->subscription.credit_messages;
    attach.credit_bytes = c->subscription.credit_bytes;
    client_unlock(c);
    attach.group = slice_text(group);
    c->attach_id = c->next_id++;
    return link_frame_begin(&c->link, &mark) == STATUS_OK
           && frame_done(
               c, mark,
               codec_attach_write(&c->link.out, c->attach_id, &attach));
}

static bool put_detach(struct godwit *c)
{
    size_t mark;

    c->detach_id = c->next_id++;
    return link_frame_begin(&c->link, &mark) == STATUS_OK
           && frame_done(c, mark,
                         codec_detach_write(&c->link.out, c->detach_id));
}

static bool put_settle(struct godwit *c, struct settle_batch *batch)
{
    struct wire_settle settle = { .topic = slice_text(batch->topic),
                                  .action = batch->action,
                                  .ranges = seqset_ranges(&batch->set),
                                  .count = seqset_range_count(&batch->set),
                                  .delay_ms = batch->delay_ms,
                                  .reason = slice_text(batch->reason) };
    size_t mark;

    if (link_frame_begin(&c->link, &mark) != STATUS_OK) {
        return false;
    }
    batch->id = c->next_id++;
    batch->on_wire = true;
    return frame_done(c, mark,
                      codec_settle_write(&c->link.out, batch->id, &settle));
}

/* False: memory is short. */
static bool put_settlements(struct godwit *c)
{
    struct settle_batch *batch;
    bool fine = true;

    client_lock(c);
    atomic_store(&c->settling, false);
    settler_close(&c->settler);
    batch = settler_waiting(&c->settler);
    while (batch != NULL && fine && bytes_len(&c->link.out) < LINK_OUT_LEN) {
        fine = batch->on_wire || put_settle(c, batch);
        batch = batch->next;
    }
    if (batch != NULL) {
        atomic_store(&c->settling, true);
    }
    client_unlock(c);
    return fine;
}

void subscribe_send(struct godwit *c)
{
    bool fine = true;

    if (may_attach(c)) {
        fine = put_attach(c);
        c->attachment = ATTACHING;
    }
    if (fine && may_settle(c)) {
        fine = put_settlements(c);
    }
    if (fine && must_detach(c) && !atomic_load(&c->settling)) {
        fine = put_detach(c);
        c->attachment = DETACHING;
    }
    if (!fine) {
        engine_fail(c, STATUS_NOMEM, "send buffer: out of memory");
    }
}

/* ---- dropped settlements ---- */

/* A copy, because another thread may unsubscribe and subscribe anew. */
static struct godwit_subscription current(struct godwit *c)
{
    struct godwit_subscription sub;

    client_lock(c);
    sub = c->subscription;
    client_unlock(c);
    return sub;
}

static void tell_refused(struct godwit *c, const struct settle_batch *batch,
                         enum status status)
{
    struct godwit_subscription sub = current(c);

    if (sub.on_settled == NULL) {
        return;
    }
    for (size_t i = 0; i < seqset_range_count(&batch->set); i++) {
        struct seq_range range = seqset_ranges(&batch->set)[i];
        sub.on_settled(sub.arg, batch->topic, range.first, range.last,
                       "refused", public_status(status));
    }
}

static void recycle(struct godwit *c, struct settle_batch *batch)
{
    client_lock(c);
    c->answering = false;
    settler_recycle(&c->settler, batch);
    client_unlock(c);
}

static void drop_settlements(struct godwit *c, bool everything)
{
    struct settle_list dropped;

    client_lock(c);
    settler_renew(&c->settler, everything, &dropped);
    atomic_store(&c->settling, !settler_idle(&c->settler));
    client_unlock(c);
    while (dropped.first != NULL) {
        struct settle_batch *next = dropped.first->next;
        tell_refused(c, dropped.first, STATUS_CLOSED);
        recycle(c, dropped.first);
        dropped.first = next;
    }
}

void subscribe_disconnected(struct godwit *c)
{
    drop_settlements(c, atomic_load(&c->wanted) == 0);
}

void subscribe_end(struct godwit *c)
{
    drop_settlements(c, true);
}

/* ---- what arrives ---- */

void subscribe_attached(struct godwit *c, const struct wire_reply *reply)
{
    if (c->attachment != ATTACHING || reply->id != c->attach_id) {
        engine_fail(c, STATUS_IO, "the broker attached us out of place");
        return;
    }
    c->attachment = ATTACHED;
    /* Nacks made while there was no lease have nothing to act on. */
    drop_settlements(c, false);
}

void subscribe_detached(struct godwit *c, const struct wire_reply *reply)
{
    char text[REASON_LEN_MAX + 32];
    struct slice reason = reply->detached.reason;
    int len = reason.len > REASON_LEN_MAX ? REASON_LEN_MAX : (int)reason.len;

    if (c->attachment == DETACHING && reply->id == c->detach_id) {
        c->attachment = DETACHED;
        drop_settlements(c, true);
        return;
    }
    (void)snprintf(text, sizeof text, "detached by the broker: %.*s", len,
                   len > 0 ? (const char *)reason.at : "");
    engine_fail(c, STATUS_CLOSED, text);
}

/* Verdicts of consecutive messages, gathered before the lock is taken. */
struct verdict_run {
    struct godwit *client;
    struct slice topic;
    enum godwit_verdict verdict;
    struct seq_range range;
    bool any;
};

static void run_end(struct verdict_run *run)
{
    static const enum settle_action actions[] = {
        [GODWIT_ACK] = SETTLE_ACK,
        [GODWIT_NACK] = SETTLE_NACK,
        [GODWIT_RELEASE] = SETTLE_RELEASE,
        [GODWIT_REJECT] = SETTLE_REJECT,
    };
    struct godwit *c = run->client;
    struct settle_order order = { .topic = run->topic, .range = run->range };
    enum status status;

    if (!run->any || run->verdict == GODWIT_LATER) {
        return;
    }
    run->any = false;
    order.action = actions[run->verdict];
    client_lock(c);
    status = settler_add(&c->settler, &order);
    atomic_store(&c->settling, true);
    client_unlock(c);
    if (status != STATUS_OK) {
        /* Its lease will run out and it will come again. */
        (void)client_note(c, status, "a verdict was lost: too many unanswered");
    }
}

static void run_take(struct verdict_run *run, uint64_t seq,
                     enum godwit_verdict verdict)
{
    if (run->any && run->verdict == verdict && run->range.last + 1 == seq) {
        run->range.last = seq;
        return;
    }
    run_end(run);
    run->any = true;
    run->verdict = verdict;
    run->range = (struct seq_range) { seq, seq };
}

static const char *text_or_null(struct slice text)
{
    return text.len == 0 ? NULL : (const char *)text.at;
}

static const char *text_or_empty(struct slice text)
{
    return text.len == 0 ? "" : (const char *)text.at;
}

void delivery_fill(struct godwit_delivery *out,
                   struct godwit_text_header *headers,
                   const struct wire_delivery *from,
                   const struct wire_message *message)
{
    out->seq = from->seq;
    out->attempt = from->attempt;
    out->time_us = from->time_us;
    out->key = text_or_null(message->key);
    out->key_len = message->key.len;
    out->tag = text_or_null(message->tag);
    out->tag_len = message->tag.len;
    out->id = text_or_null(message->id);
    out->id_len = message->id.len;
    out->delay_ms = message->delay_ms;
    out->deliver_at_ms = message->deliver_at_ms;
    out->ttl_ms = message->ttl_ms;
    out->body = message->body.len == 0 ? (const void *)"" : message->body.at;
    out->body_len = message->body.len;
    out->headers = headers;
    out->header_count = message->header_count;
    for (size_t i = 0; i < message->header_count; i++) {
        const struct wire_header *header = &message->headers[i];
        headers[i] =
            (struct godwit_text_header) { .name = text_or_empty(header->name),
                                          .name_len = header->name.len,
                                          .value = text_or_empty(header->value),
                                          .value_len = header->value.len };
    }
}

/* False: it is no message. */
static bool handle(const struct godwit_subscription *sub, const char *topic,
                   const struct wire_delivery *from,
                   enum godwit_verdict *verdict)
{
    struct godwit_text_header headers[HEADER_COUNT_MAX];
    struct godwit_delivery delivery = { .topic = topic };
    struct wire_message message;
    struct refusal refusal;

    if (codec_message_check(from->message, &message, &refusal) != STATUS_OK) {
        return false;
    }
    delivery_fill(&delivery, headers, from, &message);
    *verdict = sub->handler(sub->arg, &delivery);
    return *verdict >= GODWIT_ACK && *verdict <= GODWIT_REJECT;
}

static bool is_current(struct godwit *c)
{
    return c->attachment == ATTACHED && atomic_load(&c->wanted) == c->attached;
}

static void deliver(struct godwit *c, const char *topic,
                    const struct wire_reply *reply)
{
    struct godwit_subscription sub = current(c);
    struct verdict_run run = { .client = c, .topic = slice_text(topic) };
    enum godwit_verdict verdict;
    uint64_t count = 0;
    bool fine = true;

    for (size_t i = 0; i < reply->deliver.count && is_current(c); i++) {
        const struct wire_delivery *from = &reply->deliver.deliveries[i];
        fine = handle(&sub, topic, from, &verdict);
        if (!fine) {
            break;
        }
        run_take(&run, from->seq, verdict);
        count++;
    }
    run_end(&run);
    atomic_fetch_add(&c->figures.delivered, count);
    if (!fine) {
        engine_fail(c, STATUS_IO,
                    "a message or the handler's verdict on it is malformed");
    }
}

/* The name with NUL. False: it is none. */
static bool topic_copy(char out[NAME_LEN_MAX + 1], struct slice topic)
{
    if (!name_valid(topic)) {
        return false;
    }
    memcpy(out, topic.at, topic.len);
    out[topic.len] = '\0';
    return true;
}

void subscribe_delivered(struct godwit *c, const struct wire_reply *reply)
{
    char topic[NAME_LEN_MAX + 1];

    if (!topic_copy(topic, reply->deliver.topic)) {
        engine_fail(c, STATUS_IO, "the broker delivered from a nameless topic");
        return;
    }
    deliver(c, topic, reply);
}

void subscribe_gap(struct godwit *c, const struct wire_reply *reply)
{
    char topic[NAME_LEN_MAX + 1];
    struct godwit_subscription sub = current(c);

    if (is_current(c) && sub.on_gap != NULL
        && topic_copy(topic, reply->gap.topic)) {
        sub.on_gap(sub.arg, topic, reply->gap.range.first,
                   reply->gap.range.last);
    }
}

void subscribe_notice(struct godwit *c, const struct wire_reply *reply)
{
    char topic[NAME_LEN_MAX + 1];
    struct godwit_subscription sub = current(c);

    if (is_current(c) && sub.on_notice != NULL
        && topic_copy(topic, reply->notice.topic)) {
        sub.on_notice(sub.arg, topic, reply->notice.range.first,
                      reply->notice.range.last, reply->notice.ends_in_ms);
    }
}

static struct settle_batch *take(struct godwit *c, uint64_t id)
{
    struct settle_batch *batch;

    client_lock(c);
    batch = settler_take(&c->settler, id);
    c->answering = batch != NULL;
    client_unlock(c);
    return batch;
}

void subscribe_settled(struct godwit *c, const struct wire_reply *reply)
{
    struct godwit_subscription sub = current(c);
    struct settle_batch *batch = take(c, reply->id);

    if (batch == NULL) {
        engine_fail(c, STATUS_IO, "the broker settled what was not asked");
        return;
    }
    for (size_t i = 0; i < reply->settled.count; i++) {
        const struct wire_settled_range *range = &reply->settled.ranges[i];
        if (range->outcome == OUTCOME_ACCEPTED && range->last >= range->first) {
            atomic_fetch_add(&c->figures.settled,
                             range->last - range->first + 1);
        }
        if (sub.on_settled != NULL) {
            sub.on_settled(sub.arg, batch->topic, range->first, range->last,
                           outcome_word(range->outcome), GODWIT_OK);
        }
    }
    recycle(c, batch);
}

bool subscribe_refused(struct godwit *c, uint64_t id,
                       const struct refusal *refusal)
{
    struct settle_batch *batch = take(c, id);

    if (batch == NULL) {
        return false;
    }
    (void)client_note(c, refusal->status, refusal->text);
    tell_refused(c, batch, refusal->status);
    recycle(c, batch);
    return true;
}

/* ---- the application's calls ---- */

enum godwit_status godwit_subscribe(struct godwit *c,
                                    const struct godwit_subscription *sub)
{
    enum status status = STATUS_OK;

    if (sub == NULL || sub->group == NULL || sub->handler == NULL
        || !name_valid(slice_text(sub->group))
        || sub->credit_messages > CREDIT_MESSAGES_MAX
        || sub->credit_bytes > CREDIT_BYTES_MAX) {
        return public_status(client_note(c, STATUS_INVALID,
                                         "subscribe: needs a group's name, a "
                                         "handler, and credit in bounds"));
    }
    client_lock(c);
    if (c->state == GODWIT_ENDED) {
        status = STATUS_CLOSED;
    } else if (atomic_load(&c->wanted) != 0) {
        status = STATUS_EXISTS;
    } else {
        c->subscription = *sub;
        (void)snprintf(c->group, sizeof c->group, "%s", sub->group);
        c->subscription.group = c->group;
        if (sub->credit_messages == 0) {
            c->subscription.credit_messages = CREDIT_MESSAGES_DEFAULT;
        }
        if (sub->credit_bytes == 0) {
            c->subscription.credit_bytes = CREDIT_BYTES_DEFAULT;
        }
        c->subscriptions++;
        atomic_store(&c->wanted, c->subscriptions);
    }
    client_unlock(c);
    client_wake(c);
    return public_status(status);
}

enum godwit_status godwit_unsubscribe(struct godwit *c)
{
    bool was = atomic_exchange(&c->wanted, 0) != 0;

    client_wake(c);
    return was ? GODWIT_OK : GODWIT_NOT_FOUND;
}

static bool order_read(struct settle_order *out, enum godwit_action action,
                       const char *topic, const char *reason)
{
    if (topic == NULL || action < GODWIT_DO_ACK || action > GODWIT_DO_REJECT) {
        return false;
    }
    out->action = (enum settle_action)action;
    out->topic = slice_text(topic);
    out->reason = reason == NULL ? slice_of(NULL, 0) : slice_text(reason);
    return name_valid(out->topic) && out->reason.len <= REASON_LEN_MAX
           && out->range.first > 0 && out->range.first <= out->range.last
           && out->delay_ms <= DELAY_MS_MAX;
}

enum godwit_status godwit_settle(struct godwit *c, enum godwit_action action,
                                 const char *topic, uint64_t first,
                                 uint64_t last, uint64_t delay_ms,
                                 const char *reason)
{
    struct settle_order order = { .range = { first, last },
                                  .delay_ms = delay_ms };
    enum status status;

    if (!order_read(&order, action, topic, reason)) {
        return public_status(
            client_note(c, STATUS_INVALID, "settle: a part is out of range"));
    }
    client_lock(c);
    if (atomic_load(&c->wanted) == 0 || c->state == GODWIT_ENDED) {
        status = STATUS_CLOSED;
    } else {
        status = settler_add(&c->settler, &order);
        atomic_store(&c->settling, true);
    }
    client_unlock(c);
    client_wake(c);
    return public_status(status);
}
