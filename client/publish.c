/* A publish: copied into the window by the application's thread, sent in frames
 * by the engine, completed by a confirm, a refusal, or the end of the client.
 *
 *   godwit_publish --> window --publish_send--> broker
 *         done <-- publish_confirmed, publish_refused, publish_end */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>

/* While so much is in flight, less than a frame's worth may wait a little for
 * company: full frames cost the broker and us a fraction per message. At a
 * moderate rate there is never so much in flight, and nothing waits. */
enum { CORK_FLIGHT_LEN = 2 * PUBLISH_FRAME_LEN, FILL_COUNT_MAX = 8 };

/* ---- sending ---- */

static bool publish_wants(struct godwit *c, bool *corked)
{
    uint64_t waiting = window_waiting(&c->window);

    *corked = false;
    if (window_head(&c->window) == c->window.sent
        || bytes_len(&c->link.out) > LINK_REFILL_LEN) {
        return false;
    }
    *corked = waiting < PUBLISH_FRAME_LEN
              && window_in_flight(&c->window) >= CORK_FLIGHT_LEN
              && atomic_load(&c->room_waiters) == 0;
    return true;
}

bool publish_due(struct godwit *c)
{
    bool corked;

    if (!publish_wants(c, &corked)) {
        c->corked_ms = 0;
        return false;
    }
    if (!corked) {
        c->corked_ms = 0;
        return true;
    }
    if (c->corked_ms == 0) {
        c->corked_ms = clock_ms();
    }
    return clock_ms() - c->corked_ms >= 2; /* one whole one at least */
}

bool publish_corked(const struct godwit *c)
{
    return c->corked_ms != 0;
}

void publish_set_wake(struct godwit *c)
{
    atomic_store(&c->wake_end, publish_corked(c) ? window_sent_end(&c->window)
                                                       + PUBLISH_FRAME_LEN
                                                 : 0);
}

static enum status put_frame(struct godwit *c, const struct window_run *run)
{
    struct wire_publish publish = { .topic = run->topic,
                                    .producer_seq = run->number,
                                    .messages = c->gathered,
                                    .count = run->count,
                                    .atomic = run->atomic };
    size_t mark;
    enum status status = link_frame_begin(&c->link, &mark);

    if (status != STATUS_OK) {
        return status;
    }
    status = codec_publish_write(&c->link.out, run->first, &publish);
    if (status == STATUS_OK) {
        status = link_frame_end(&c->link, mark);
    }
    if (status != STATUS_OK) {
        link_frame_abort(&c->link, mark);
    }
    return status;
}

/* Frames until the send buffer is full. False: memory is short. */
static bool fill(struct godwit *c)
{
    struct window_run run;

    while (bytes_len(&c->link.out) < LINK_OUT_LEN) {
        window_take(&c->window, c->frame_len, PUBLISH_FRAME_COUNT, c->gathered,
                    &run);
        if (run.count == 0) {
            return true;
        }
        if (put_frame(c, &run) != STATUS_OK) {
            window_untake(&c->window, &run);
            return false;
        }
        atomic_fetch_add(&c->figures.resent, run.again);
    }
    return true;
}

void publish_send(struct godwit *c)
{
    struct error err = { 0 };

    for (int i = 0; i < FILL_COUNT_MAX && publish_due(c); i++) {
        if (!fill(c)) {
            engine_fail(c, STATUS_NOMEM, "send buffer: out of memory");
            return;
        }
        c->corked_ms = 0;
        if (link_flush(&c->link, &err) != STATUS_OK) {
            engine_fail(c, STATUS_IO, err.text);
            return;
        }
    }
}

/* ---- completing ---- */

/* Are these ids on the wire? */
static bool is_sent(const struct godwit *c, uint64_t id, uint64_t count)
{
    return id >= window_tail(&c->window) && id < c->window.sent && count > 0
           && count <= c->window.sent - id;
}

static bool complete(struct godwit *c, uint64_t index,
                     struct godwit_confirm *confirm)
{
    struct window_done done;

    if (!window_complete(&c->window, index, &done)) {
        return false;
    }
    confirm->index = done.place;
    if (done.fn != NULL) {
        done.fn(done.arg, confirm);
    }
    return true;
}

bool publish_confirmed(struct godwit *c, const struct wire_confirm *confirm)
{
    const struct godwit_receipt receipt = { .seq = confirm->seq,
                                            .count = confirm->count,
                                            .segment = confirm->segment,
                                            .offset = confirm->offset,
                                            .checksum = confirm->checksum };
    struct godwit_confirm answer = { .status = GODWIT_OK,
                                     .seq = confirm->seq,
                                     .duplicate = confirm->duplicate,
                                     .text = "",
                                     .receipt = confirm->segment == 0
                                                    ? NULL
                                                    : &receipt };
    uint64_t completed = 0;

    if (!is_sent(c, confirm->id, confirm->count)) {
        return false;
    }
    for (uint64_t i = 0; i < confirm->count; i++) {
        answer.seq = confirm->seq == 0 ? 0 : confirm->seq + i;
        completed += complete(c, confirm->id + i, &answer);
    }
    atomic_fetch_add(&c->figures.confirmed, completed);
    if (confirm->duplicate) {
        atomic_fetch_add(&c->figures.duplicates, completed);
    }
    return true;
}

bool publish_refused(struct godwit *c, uint64_t id, uint64_t count,
                     const struct refusal *refusal)
{
    struct godwit_confirm answer = { .status = public_status(refusal->status),
                                     .text = refusal->text };
    uint64_t completed = 0;

    count = count == 0 ? 1 : count;
    if (refusal->status == STATUS_OK || !is_sent(c, id, count)) {
        return false;
    }
    (void)client_note(c, refusal->status, refusal->text);
    for (uint64_t i = 0; i < count; i++) {
        completed += complete(c, id + i, &answer);
    }
    atomic_fetch_add(&c->figures.refused, completed);
    return true;
}

void publish_end(struct godwit *c, enum status why, const char *text)
{
    struct godwit_confirm answer = { .status = public_status(why),
                                     .text = text };

    CHECK(pthread_mutex_lock(&c->publish_lock) == 0);
    c->closed_to_publishers = true;
    CHECK(pthread_cond_broadcast(&c->room) == 0);
    CHECK(pthread_mutex_unlock(&c->publish_lock) == 0);
    for (uint64_t i = window_tail(&c->window); i < window_head(&c->window);
         i++) {
        (void)complete(c, i, &answer);
    }
}

void publish_room(struct godwit *c)
{
    atomic_store(&c->told, window_tail(&c->window));
    /* An addition of nothing and not a load: with the waiter's own addition it
     * makes sure that one of the two sees the other. */
    if (atomic_fetch_add(&c->room_waiters, 0) > 0) {
        CHECK(pthread_mutex_lock(&c->publish_lock) == 0);
        CHECK(pthread_cond_broadcast(&c->room) == 0);
        CHECK(pthread_mutex_unlock(&c->publish_lock) == 0);
    }
}

/* ---- publishing ---- */

static bool take_apart(const struct godwit_message *from,
                       struct wire_message *out)
{
    if (from->header_count > HEADER_COUNT_MAX
        || (from->body == NULL && from->body_len > 0)
        || (from->headers == NULL && from->header_count > 0)) {
        return false;
    }
    out->key = from->key == NULL ? slice_of(NULL, 0) : slice_text(from->key);
    out->body = slice_of(from->body, from->body_len);
    out->tag = from->tag == NULL ? slice_of(NULL, 0) : slice_text(from->tag);
    out->id = from->id == NULL ? slice_of(NULL, 0) : slice_text(from->id);
    out->delay_ms = from->delay_ms;
    out->deliver_at_ms = from->deliver_at_ms;
    out->ttl_ms = from->ttl_ms;
    out->header_count = from->header_count;
    for (size_t i = 0; i < from->header_count; i++) {
        const struct godwit_header *header = &from->headers[i];
        if (header->name == NULL || header->value == NULL) {
            return false;
        }
        out->headers[i].name = slice_text(header->name);
        out->headers[i].value = slice_text(header->value);
    }
    return true;
}

struct publish_order {
    struct slice topic;
    const struct godwit_message *messages;
    size_t count;
    size_t len; /* of all of them, encoded */
    godwit_confirm_fn done;
    void *arg;
    uint64_t deadline_ms; /* for room in the window; 0: do not wait */
};

static enum status refuse_parts(struct refusal *refusal)
{
    return refuse(refusal, STATUS_INVALID, "message",
                  "publish: a part is missing, or too many headers");
}

/* Whether a message has an id is what numbers it, or not: a frame cannot mix
 * them. And what was said of the message alone is said of the one it was. */
static enum status measure_one(const struct publish_order *order, size_t i,
                               bool *has_id, size_t *len,
                               struct refusal *refusal)
{
    struct wire_message message;
    enum status status;

    if (!take_apart(&order->messages[i], &message)) {
        return refuse_parts(refusal);
    }
    status = window_measure(order->topic, &message, len, refusal);
    if (status == STATUS_OK && i > 0 && *has_id != (message.id.len > 0)) {
        status = refuse(refusal, STATUS_INVALID, "message_id",
                        "of a batch all have an id or none has");
    }
    *has_id = message.id.len > 0;
    return status;
}

static enum status measure(struct publish_order *order, struct refusal *refusal)
{
    bool has_id = false;

    for (size_t i = 0; i < order->count; i++) {
        size_t len = 0;
        enum status status = measure_one(order, i, &has_id, &len, refusal);

        if (status != STATUS_OK) {
            return status;
        }
        order->len += len;
    }
    return STATUS_OK;
}

static enum status append(struct godwit *c, const struct publish_order *order,
                          struct refusal *refusal)
{
    struct window *w = &c->window;
    enum status status =
        window_open(w, order->topic, order->count, order->len, refusal);

    for (size_t i = 0; status == STATUS_OK && i < order->count; i++) {
        struct wire_message message;

        /* As it was when it was measured. */
        CHECK(take_apart(&order->messages[i], &message));
        status = window_put(w, &message, codec_message_len(&message),
                            order->done, order->arg, refusal);
    }
    if (status == STATUS_OK) {
        window_commit(w);
    }
    return status;
}

/* Wait under the publishers' lock for the engine to make room. False: the
 * deadline has passed. */
static bool await_room(struct godwit *c, uint64_t deadline_ms)
{
    struct timespec deadline = clock_deadline(deadline_ms);

    client_wake(c); /* it may be holding some back for company */
    if (deadline_ms == UINT64_MAX) {
        return pthread_cond_wait(&c->room, &c->publish_lock) == 0;
    }
    return pthread_cond_timedwait(&c->room, &c->publish_lock, &deadline) == 0;
}

/* A batch needs much room at once: while one waits for it, nobody else takes
 * what becomes free, or it would wait for ever. */
static enum status append_in_turn(struct godwit *c,
                                  const struct publish_order *order,
                                  struct refusal *refusal)
{
    if (c->batch_waits != NULL && c->batch_waits != order) {
        return STATUS_AGAIN;
    }
    return append(c, order, refusal);
}

static void begin_waiting(struct godwit *c, const struct publish_order *order)
{
    if (order->count > 1 && c->batch_waits == NULL) {
        c->batch_waits = order;
    }
}

static void end_waiting(struct godwit *c, const struct publish_order *order)
{
    if (c->batch_waits == order) {
        c->batch_waits = NULL;
        CHECK(pthread_cond_broadcast(&c->room) == 0);
    }
}

static enum status append_or_wait(struct godwit *c,
                                  const struct publish_order *order,
                                  struct refusal *refusal)
{
    enum status status = append_in_turn(c, order, refusal);
    bool in_time = true;

    if (status != STATUS_AGAIN || order->deadline_ms == 0) {
        return status;
    }
    /* Announce the waiter before each look: room made between a look and the
     * announcement would not be told to us. */
    atomic_fetch_add(&c->room_waiters, 1);
    do {
        begin_waiting(c, order);
        status = c->closed_to_publishers ? STATUS_CLOSED
                                         : append_in_turn(c, order, refusal);
        if (status == STATUS_AGAIN && !in_time) {
            status = STATUS_TIMEOUT;
        } else if (status == STATUS_AGAIN) {
            in_time = await_room(c, order->deadline_ms);
        }
    } while (status == STATUS_AGAIN);
    end_waiting(c, order);
    atomic_fetch_sub(&c->room_waiters, 1);
    return status;
}

static enum status submit(struct godwit *c, struct publish_order *order)
{
    struct refusal refusal = { .text = "" };
    enum status status = measure(order, &refusal);
    uint64_t end = 0;

    if (status == STATUS_OK) {
        status = STATUS_CLOSED;
        CHECK(pthread_mutex_lock(&c->publish_lock) == 0);
        if (!c->closed_to_publishers) {
            status = append_or_wait(c, order, &refusal);
        }
        end = c->window.end;
        CHECK(pthread_mutex_unlock(&c->publish_lock) == 0);
    }
    if (status == STATUS_OK) {
        if (atomic_load(&c->sleeping) && end >= atomic_load(&c->wake_end)) {
            client_wake(c);
        }
        return status;
    }
    if (refusal.text[0] != '\0') {
        (void)client_note(c, status, refusal.text);
    }
    return status;
}

static uint64_t patience(const struct godwit *c)
{
    return c->own_thread && !client_in_callback(c) ? UINT64_MAX : 0;
}

enum godwit_status godwit_publish(struct godwit *c, const char *topic,
                                  const struct godwit_message *message,
                                  godwit_confirm_fn done, void *arg)
{
    return godwit_publish_atomic(c, topic, message, 1, done, arg);
}

enum godwit_status godwit_publish_atomic(struct godwit *c, const char *topic,
                                         const struct godwit_message *messages,
                                         size_t count, godwit_confirm_fn done,
                                         void *arg)
{
    struct publish_order order = { .messages = messages,
                                   .count = count,
                                   .done = done,
                                   .arg = arg,
                                   .deadline_ms = patience(c) };

    if (topic == NULL || messages == NULL || count == 0) {
        return public_status(
            client_note(c, STATUS_INVALID, "publish: a part is missing"));
    }
    order.topic = slice_text(topic);
    return public_status(submit(c, &order));
}

/* ---- publishing and waiting ---- */

/* Shared by the caller and the callback: whoever is last frees it. */
struct waiter {
    _Atomic int owners;
    _Atomic bool answered;
    struct godwit_confirm confirm;
    struct godwit_receipt receipt;
    char text[sizeof((struct refusal *)0)->text];
};

static void waiter_unref(struct waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->owners, 1) == 1) {
        free(waiter);
    }
}

static void on_answer(void *arg, const struct godwit_confirm *confirm)
{
    struct waiter *waiter = arg;

    waiter->confirm = *confirm;
    (void)snprintf(waiter->text, sizeof waiter->text, "%s", confirm->text);
    if (confirm->receipt != NULL) {
        waiter->receipt = *confirm->receipt;
    }
    atomic_store(&waiter->answered, true);
    waiter_unref(waiter);
}

static bool is_answered(struct godwit *c, void *arg)
{
    struct waiter *waiter = arg;

    (void)c;
    return atomic_load(&waiter->answered);
}

enum godwit_status godwit_publish_wait(struct godwit *c, const char *topic,
                                       const struct godwit_message *message,
                                       struct godwit_confirm *confirm,
                                       uint32_t timeout_ms)
{
    static _Thread_local char text[sizeof((struct waiter *)0)->text];
    static _Thread_local struct godwit_receipt receipt;
    uint64_t deadline_ms = clock_ms() + timeout_ms;
    struct publish_order order = { .messages = message,
                                   .count = 1,
                                   .done = on_answer,
                                   .deadline_ms =
                                       c->own_thread ? deadline_ms : 0 };
    struct waiter *waiter;
    enum status status;

    if (topic == NULL || message == NULL || client_in_callback(c)) {
        return public_status(
            client_note(c, STATUS_INVALID,
                        "publish: a part is missing, or called from a "
                        "callback"));
    }
    waiter = calloc(1, sizeof *waiter);
    if (waiter == NULL) {
        return GODWIT_NO_MEMORY;
    }
    atomic_init(&waiter->owners, 2);
    order.topic = slice_text(topic);
    order.arg = waiter;
    status = submit(c, &order);
    if (status != STATUS_OK) {
        free(waiter); /* the callback will not come for its share */
        return public_status(status);
    }
    status = client_wait(c, is_answered, waiter, deadline_ms);
    if (status == STATUS_OK) {
        memcpy(text, waiter->text, sizeof text);
        status = (enum status)waiter->confirm.status;
        if (confirm != NULL) {
            receipt = waiter->receipt;
            *confirm = waiter->confirm;
            confirm->text = text;
            confirm->receipt =
                waiter->confirm.receipt == NULL ? NULL : &receipt;
        }
    }
    waiter_unref(waiter);
    return public_status(status);
}
