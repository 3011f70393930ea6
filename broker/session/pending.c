#include "broker/session/pending.h"

#include "broker/session/inside.h"

#include <stdlib.h>

enum { PENDING_CAPACITY_MIN = 256 };

void pending_fini(struct pending_queue *queue)
{
    free(queue->at);
    *queue = (struct pending_queue) { 0 };
}

enum status pending_reserve(struct pending_queue *queue)
{
    size_t count = (size_t)(queue->end - queue->begin);
    size_t capacity =
        queue->capacity == 0 ? PENDING_CAPACITY_MIN : queue->capacity * 2;
    struct pending *at;

    if (count < queue->capacity) {
        return STATUS_OK;
    }
    at = malloc(capacity * sizeof *at);
    if (at == NULL) {
        return STATUS_NOMEM;
    }
    for (uint64_t i = queue->begin; i != queue->end; i++) {
        at[i & (capacity - 1)] = queue->at[i & (queue->capacity - 1)];
    }
    free(queue->at);
    queue->at = at;
    queue->capacity = capacity;
    return STATUS_OK;
}

enum status pending_push(struct pending_queue *queue,
                         const struct pending *pending)
{
    enum status status = pending_reserve(queue);

    if (status == STATUS_OK) {
        queue->at[queue->end & (queue->capacity - 1)] = *pending;
        queue->end++;
    }
    return status;
}

/* The store refuses messages and nothing else. */
static void check_written(const struct worker *worker, const struct pending *p)
{
    uint64_t position = p->begin;

    while (position < p->end) {
        const uint8_t *at = submission_at(worker->submission, position);

        CHECK((record_flags_at(at) & RECORD_REFUSED) == 0);
        position += record_size_at(at);
    }
}

static void answer(struct worker *worker, const struct pending *p)
{
    switch (p->kind) {
    case PENDING_PUBLISH:
        publish_answer(worker, p);
        session_pending_done(p->session);
        break;
    case PENDING_SETTLE:
        check_written(worker, p);
        if (p->session->conn != NULL) {
            p->session->door->settled(
                p->session, p->id,
                slice_of(p->settle->topic, p->settle->topic_len),
                p->settle->ranges, p->settle->count);
        }
        session_settle_reply_done(worker, p->settle);
        break;
    case PENDING_OPERATION:
        check_written(worker, p);
        session_operation_durable(worker, p->operation);
        break;
    case PENDING_CHANGE:
        check_written(worker, p);
        change_durable(worker, p->change);
        break;
    }
}

void pending_answer(struct worker *worker, uint64_t durable)
{
    struct pending_queue *queue = &worker->pending;

    while (!pending_empty(queue) && pending_first(queue)->end <= durable) {
        struct pending p = *pending_first(queue);
        answer(worker, &p);
        queue->begin++;
    }
    /* The records of what still waits must stay to be read. */
    if (!pending_empty(queue) && pending_first(queue)->begin < durable) {
        durable = pending_first(queue)->begin;
    }
    submission_release(worker->submission, durable);
}

static const struct refusal frozen = {
    .status = STATUS_FROZEN,
    .limit = "store_frozen",
    .text = "the store stopped after an I/O error before this was durable; "
            "after a restart it may be there or not",
};

void pending_refuse_all(struct worker *worker)
{
    struct pending_queue *queue = &worker->pending;

    session_place_settles(worker, submission_written(worker->submission));
    session_place_operations(worker, submission_written(worker->submission));
    while (!pending_empty(queue)) {
        struct pending p = *pending_first(queue);
        queue->begin++;
        if (p.kind == PENDING_CHANGE) {
            change_refuse(worker, p.change, &frozen);
            continue;
        }
        if (p.kind == PENDING_OPERATION) {
            session_operation_refuse(worker, p.operation, &frozen);
            continue;
        }
        if (p.session->conn != NULL) {
            p.session->door->refused(p.session, p.id,
                                     p.kind == PENDING_PUBLISH ? p.count : 1,
                                     &frozen);
        }
        if (p.kind == PENDING_SETTLE) {
            session_settle_reply_done(worker, p.settle);
        } else {
            session_pending_done(p.session);
        }
    }
}
