#include "broker/delivery/untold.h"

#include <stdlib.h>
#include <string.h>

enum { FAILURE_CAPACITY_MIN = 16 };

struct batch {
    bool seek; /* before the rest of it */
    uint64_t seek_after;
    struct seqset sets[EFFECT_SETS];
    struct failure *failures; /* begin..count are still to tell */
    size_t failure_begin;
    size_t failure_count;
    size_t failure_capacity;
    struct batch *next;
};

/* ---- making and ending ---- */

static void drop_reason(struct untold *untold, const struct failure *failure)
{
    untold->reason_bytes -= failure->reason.len;
    free((void *)failure->reason.at);
}

static void batch_free(struct untold *untold, struct batch *batch)
{
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        seqset_fini(&batch->sets[i]);
    }
    for (size_t i = batch->failure_begin; i < batch->failure_count; i++) {
        drop_reason(untold, &batch->failures[i]);
    }
    free(batch->failures);
    free(batch);
}

void untold_fini(struct untold *untold)
{
    while (untold->first != NULL) {
        struct batch *next = untold->first->next;
        batch_free(untold, untold->first);
        untold->first = next;
    }
    *untold = (struct untold) { 0 };
}

/* ---- more to tell ---- */

static struct batch *begin_batch(struct untold *untold)
{
    struct batch *batch = calloc(1, sizeof *batch);

    if (batch == NULL) {
        return NULL;
    }
    if (untold->last == NULL) {
        untold->first = batch;
    } else {
        untold->last->next = batch;
    }
    untold->last = batch;
    return batch;
}

static struct batch *current(struct untold *untold)
{
    return untold->last != NULL ? untold->last : begin_batch(untold);
}

static bool batch_is_empty(const struct batch *batch)
{
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        if (seqset_range_count(&batch->sets[i]) > 0) {
            return false;
        }
    }
    return !batch->seek && batch->failure_count == batch->failure_begin;
}

enum status untold_seek(struct untold *untold, uint64_t after)
{
    struct batch *batch = untold->last;

    if (batch == NULL || !batch_is_empty(batch)) {
        batch = begin_batch(untold);
    }
    if (batch == NULL) {
        return STATUS_NOMEM;
    }
    batch->seek = true;
    batch->seek_after = after;
    return STATUS_OK;
}

enum status untold_add(struct untold *untold, enum effect_set set,
                       struct seq_range range)
{
    struct batch *batch = current(untold);

    if (batch == NULL) {
        return STATUS_NOMEM;
    }
    return seqset_add(&batch->sets[set], range.first, range.last, NULL);
}

enum status untold_add_redriven(struct untold *untold, struct seq_range range)
{
    const struct batch *batch = untold->last;

    /* Within a batch redriven ones come before failures and burials. */
    if (batch != NULL
        && (batch->failure_count > batch->failure_begin
            || seqset_range_count(&batch->sets[EFFECT_BURIED]) > 0)
        && begin_batch(untold) == NULL) {
        return STATUS_NOMEM;
    }
    return untold_add(untold, EFFECT_REDRIVEN, range);
}

static enum status reserve_failure(struct batch *batch)
{
    size_t capacity = batch->failure_capacity == 0
                          ? FAILURE_CAPACITY_MIN
                          : batch->failure_capacity * 2;
    struct failure *failures;

    if (batch->failure_count < batch->failure_capacity) {
        return STATUS_OK;
    }
    failures = realloc(batch->failures, capacity * sizeof *failures);
    if (failures == NULL) {
        return STATUS_NOMEM;
    }
    batch->failures = failures;
    batch->failure_capacity = capacity;
    return STATUS_OK;
}

enum status untold_reserve(struct untold *untold, struct slice reason,
                           uint8_t **copy)
{
    struct batch *batch = current(untold);
    uint8_t *text = NULL;

    if (batch == NULL || reserve_failure(batch) != STATUS_OK) {
        return STATUS_NOMEM;
    }
    if (reason.len > 0) {
        text = malloc(reason.len);
        if (text == NULL) {
            return STATUS_NOMEM;
        }
        memcpy(text, reason.at, reason.len);
    }
    *copy = text;
    return STATUS_OK;
}

void untold_note(struct untold *untold, const struct failure *failure)
{
    struct batch *batch = untold->last;

    CHECK(batch != NULL && batch->failure_count < batch->failure_capacity);
    batch->failures[batch->failure_count++] = *failure;
    untold->failure_count++;
    untold->reason_bytes += failure->reason.len;
}

/* ---- telling ---- */

bool untold_is_empty(const struct untold *untold)
{
    return untold->first == NULL
           || (untold->first->next == NULL && batch_is_empty(untold->first));
}

/* True: that is all of it. */
static bool view_first(const struct seqset *set, struct seqset *view)
{
    *view = *set;
    if (seqset_range_count(set) <= EFFECTS_COUNT_MAX) {
        return true;
    }
    view->end = view->begin + EFFECTS_COUNT_MAX;
    return false;
}

static size_t count_failures(const struct batch *batch)
{
    size_t count = 0;
    size_t bytes = 0;

    for (size_t i = batch->failure_begin;
         i < batch->failure_count && count < EFFECTS_COUNT_MAX; i++) {
        bytes += FAILURE_LEN_MIN + batch->failures[i].reason.len;
        if (bytes > EFFECTS_FAILURES_LEN_MAX) {
            break;
        }
        count++;
    }
    return count;
}

/* A kind is begun when those before it are told to their end: a record of it
 * may speak of the same message. */
static void view_batch(const struct batch *batch, struct untold_part *out)
{
    size_t left = batch->failure_count - batch->failure_begin;

    if (!view_first(&batch->sets[EFFECT_REDRIVEN],
                    &out->sets[EFFECT_REDRIVEN])) {
        return;
    }
    if (left > 0) {
        out->effects.failures = batch->failures + batch->failure_begin;
        out->effects.failure_count = count_failures(batch);
    }
    if (out->effects.failure_count < left
        || !view_first(&batch->sets[EFFECT_BURIED],
                       &out->sets[EFFECT_BURIED])) {
        return;
    }
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        if (i != EFFECT_REDRIVEN && i != EFFECT_BURIED) {
            (void)view_first(&batch->sets[i], &out->sets[i]);
        }
    }
}

void untold_first(const struct untold *untold, struct untold_part *out)
{
    const struct batch *batch = untold->first;

    *out = (struct untold_part) { 0 };
    if (batch != NULL && batch->seek) {
        out->effects.seek = true;
        out->effects.seek_after = batch->seek_after;
    } else if (batch != NULL) {
        view_batch(batch, out);
    }
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        out->effects.sets[i] = &out->sets[i];
    }
}

static void drop_told(struct seqset *set, const struct seqset *told)
{
    if (seqset_range_count(told) > 0) {
        seqset_drop_through(set, told->ranges[told->end - 1].last);
    }
}

void untold_told(struct untold *untold, const struct untold_part *part)
{
    struct batch *batch = untold->first;
    size_t count = part->effects.failure_count;

    CHECK(batch != NULL);
    batch->seek = false;
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        drop_told(&batch->sets[i], &part->sets[i]);
    }
    for (size_t i = 0; i < count; i++) {
        drop_reason(untold, &batch->failures[batch->failure_begin + i]);
    }
    untold->failure_count -= count;
    batch->failure_begin += count;
    if (batch->failure_begin == batch->failure_count) {
        batch->failure_begin = batch->failure_count = 0;
    }
    if (batch->next != NULL && batch_is_empty(batch)) {
        untold->first = batch->next;
        batch_free(untold, batch);
    }
}
