#include "client/settle.h"

#include <stdlib.h>

void settler_init(struct settler *s)
{
    *s = (struct settler) { .epoch = 1 };
}

static void batch_free(struct settle_batch *batch)
{
    seqset_fini(&batch->set);
    free(batch);
}

static void chain_free(struct settle_batch *batch)
{
    while (batch != NULL) {
        struct settle_batch *next = batch->next;
        batch_free(batch);
        batch = next;
    }
}

void settler_fini(struct settler *s)
{
    chain_free(s->gathering.first);
    chain_free(s->closed.first);
    chain_free(s->spare);
    *s = (struct settler) { .epoch = 1 };
}

static void list_push(struct settle_list *list, struct settle_batch *batch)
{
    batch->next = NULL;
    if (list->last == NULL) {
        list->first = batch;
    } else {
        list->last->next = batch;
    }
    list->last = batch;
}

static bool batch_takes(const struct settle_batch *batch,
                        const struct settle_order *order)
{
    return batch->action == order->action
           && seqset_range_count(&batch->set) < RANGE_COUNT_MAX
           && batch->delay_ms == order->delay_ms
           && slice_is(order->topic, batch->topic)
           && slice_is(order->reason, batch->reason);
}

static struct settle_batch *find(const struct settler *s,
                                 const struct settle_order *order)
{
    struct settle_batch *last = s->gathering.last;
    struct settle_batch *batch = s->gathering.first;

    if (last != NULL && batch_takes(last, order)) {
        return last;
    }
    for (int i = 0; i < SETTLE_LOOK_MAX && batch != NULL; i++) {
        if (batch_takes(batch, order)) {
            return batch;
        }
        batch = batch->next;
    }
    return NULL;
}

static void copy_text(char *to, struct slice from)
{
    if (from.len > 0) {
        memcpy(to, from.at, from.len);
    }
    to[from.len] = '\0';
}

static struct settle_batch *batch_new(struct settler *s,
                                      const struct settle_order *order)
{
    struct settle_batch *batch = s->spare;

    if (batch != NULL) {
        s->spare = batch->next;
        s->spare_count--;
    } else {
        batch = calloc(1, sizeof *batch);
        if (batch == NULL) {
            return NULL;
        }
    }
    CHECK(order->topic.len <= NAME_LEN_MAX);
    CHECK(order->reason.len <= REASON_LEN_MAX);
    batch->action = order->action;
    batch->delay_ms = order->delay_ms;
    batch->id = 0;
    batch->epoch = s->epoch;
    batch->on_wire = false;
    copy_text(batch->topic, order->topic);
    copy_text(batch->reason, order->reason);
    return batch;
}

static void put_spare(struct settler *s, struct settle_batch *batch)
{
    if (s->spare_count == SETTLE_SPARE_MAX) {
        batch_free(batch);
        return;
    }
    seqset_clear(&batch->set);
    batch->next = s->spare;
    s->spare = batch;
    s->spare_count++;
}

enum status settler_add(struct settler *s, const struct settle_order *order)
{
    struct settle_batch *batch = find(s, order);
    bool fresh = batch == NULL;
    enum status status;

    if (fresh) {
        if (s->count >= SETTLE_BATCH_COUNT_MAX) {
            return STATUS_AGAIN;
        }
        batch = batch_new(s, order);
        if (batch == NULL) {
            return STATUS_NOMEM;
        }
    }
    status =
        seqset_add(&batch->set, order->range.first, order->range.last, NULL);
    if (!fresh) {
        return status;
    }
    if (status != STATUS_OK) {
        put_spare(s, batch);
        return status;
    }
    list_push(&s->gathering, batch);
    s->count++;
    return STATUS_OK;
}

void settler_close(struct settler *s)
{
    if (s->gathering.first == NULL) {
        return;
    }
    if (s->closed.last == NULL) {
        s->closed = s->gathering;
    } else {
        s->closed.last->next = s->gathering.first;
        s->closed.last = s->gathering.last;
    }
    s->gathering = (struct settle_list) { NULL, NULL };
    s->epoch++;
}

struct settle_batch *settler_waiting(struct settler *s)
{
    struct settle_batch *batch = s->closed.first;

    while (batch != NULL && batch->on_wire) {
        batch = batch->next;
    }
    return batch;
}

struct settle_batch *settler_take(struct settler *s, uint64_t id)
{
    struct settle_batch *before = NULL;
    struct settle_batch *batch = s->closed.first;

    while (batch != NULL && (batch->id != id || !batch->on_wire)) {
        before = batch;
        batch = batch->next;
    }
    if (batch == NULL) {
        return NULL;
    }
    if (before == NULL) {
        s->closed.first = batch->next;
    } else {
        before->next = batch->next;
    }
    if (s->closed.last == batch) {
        s->closed.last = before;
    }
    return batch;
}

void settler_recycle(struct settler *s, struct settle_batch *batch)
{
    CHECK(s->count > 0);
    s->count--;
    put_spare(s, batch);
}

void settler_renew(struct settler *s, bool everything,
                   struct settle_list *dropped)
{
    struct settle_batch *batch;
    struct settle_list kept = { NULL, NULL };

    settler_close(s);
    *dropped = (struct settle_list) { NULL, NULL };
    batch = s->closed.first;
    while (batch != NULL) {
        struct settle_batch *next = batch->next;
        bool keep = batch->action == SETTLE_ACK && !everything;
        batch->on_wire = false;
        list_push(keep ? &kept : dropped, batch);
        batch = next;
    }
    s->closed = kept;
}

bool settler_done(const struct settler *s, uint64_t epoch)
{
    const struct settle_batch *oldest = s->closed.first;

    return (s->epoch > epoch || s->gathering.first == NULL)
           && (oldest == NULL || oldest->epoch > epoch);
}
