#include "broker/delivery/untold.h"

#include <stdlib.h>
#include <string.h>

enum { FAILURE_CAPACITY_MIN = 16 };

struct part {
    bool seek; /* before the rest of it */
    uint64_t seek_after;
    struct seqset sets[EFFECT_SETS];
    struct failure *failures; /* begin..count are still to tell */
    size_t failure_begin;
    size_t failure_count;
    size_t failure_capacity;
    struct part *next;
};

/* ---- making and ending ---- */

static void drop_reason(struct untold *untold, const struct failure *failure)
{
    untold->reason_bytes -= failure->reason.len;
    free((void *)failure->reason.at);
}

static void part_free(struct untold *untold, struct part *part)
{
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        seqset_fini(&part->sets[i]);
    }
    for (size_t i = part->failure_begin; i < part->failure_count; i++) {
        drop_reason(untold, &part->failures[i]);
    }
    free(part->failures);
    free(part);
}

void untold_fini(struct untold *untold)
{
    while (untold->first != NULL) {
        struct part *next = untold->first->next;
        part_free(untold, untold->first);
        untold->first = next;
    }
    *untold = (struct untold) { 0 };
}

/* ---- more to tell ---- */

static struct part *begin_part(struct untold *untold)
{
    struct part *part = calloc(1, sizeof *part);

    if (part == NULL) {
        return NULL;
    }
    if (untold->last == NULL) {
        untold->first = part;
    } else {
        untold->last->next = part;
    }
    untold->last = part;
    return part;
}

static struct part *current(struct untold *untold)
{
    return untold->last != NULL ? untold->last : begin_part(untold);
}

static bool part_is_empty(const struct part *part)
{
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        if (seqset_range_count(&part->sets[i]) > 0) {
            return false;
        }
    }
    return !part->seek && part->failure_count == part->failure_begin;
}

enum status untold_seek(struct untold *untold, uint64_t after)
{
    struct part *part = untold->last;

    if (part == NULL || !part_is_empty(part)) {
        part = begin_part(untold);
    }
    if (part == NULL) {
        return STATUS_NOMEM;
    }
    part->seek = true;
    part->seek_after = after;
    return STATUS_OK;
}

enum status untold_add(struct untold *untold, enum effect_set set,
                       struct seq_range range)
{
    struct part *part = current(untold);
    size_t before;
    enum status status;

    if (part == NULL) {
        return STATUS_NOMEM;
    }
    before = seqset_range_count(&part->sets[set]);
    status = seqset_add(&part->sets[set], range.first, range.last, NULL);
    untold->range_count += seqset_range_count(&part->sets[set]) - before;
    return status;
}

enum status untold_add_redriven(struct untold *untold, struct seq_range range)
{
    const struct part *part = untold->last;

    /* Within a part redriven ones come before failures and burials. */
    if (part != NULL
        && (part->failure_count > part->failure_begin
            || seqset_range_count(&part->sets[EFFECT_BURIED]) > 0)
        && begin_part(untold) == NULL) {
        return STATUS_NOMEM;
    }
    return untold_add(untold, EFFECT_REDRIVEN, range);
}

static enum status reserve_failure(struct part *part)
{
    size_t capacity = part->failure_capacity == 0 ? FAILURE_CAPACITY_MIN
                                                  : part->failure_capacity * 2;
    struct failure *failures;

    if (part->failure_count < part->failure_capacity) {
        return STATUS_OK;
    }
    failures = realloc(part->failures, capacity * sizeof *failures);
    if (failures == NULL) {
        return STATUS_NOMEM;
    }
    part->failures = failures;
    part->failure_capacity = capacity;
    return STATUS_OK;
}

enum status untold_reserve(struct untold *untold, struct slice reason,
                           uint8_t **copy)
{
    struct part *part = current(untold);
    uint8_t *text = NULL;

    if (part == NULL || reserve_failure(part) != STATUS_OK) {
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
    struct part *part = untold->last;

    CHECK(part != NULL && part->failure_count < part->failure_capacity);
    part->failures[part->failure_count++] = *failure;
    untold->failure_count++;
    untold->reason_bytes += failure->reason.len;
}

/* ---- telling ---- */

bool untold_is_empty(const struct untold *untold)
{
    return untold->first == NULL
           || (untold->first->next == NULL && part_is_empty(untold->first));
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

static size_t count_failures(const struct part *part)
{
    size_t count = 0;
    size_t bytes = 0;

    for (size_t i = part->failure_begin;
         i < part->failure_count && count < EFFECTS_COUNT_MAX; i++) {
        bytes += FAILURE_LEN_MIN + part->failures[i].reason.len;
        if (bytes > EFFECTS_FAILURES_LEN_MAX) {
            break;
        }
        count++;
    }
    return count;
}

/* A kind is begun when those before it are told to their end: a record of it
 * may speak of the same message. */
static void view_part(const struct part *part, struct untold_view *out)
{
    size_t left = part->failure_count - part->failure_begin;

    if (!view_first(&part->sets[EFFECT_REDRIVEN],
                    &out->sets[EFFECT_REDRIVEN])) {
        return;
    }
    if (left > 0) {
        out->effects.failures = part->failures + part->failure_begin;
        out->effects.failure_count = count_failures(part);
    }
    if (out->effects.failure_count < left
        || !view_first(&part->sets[EFFECT_BURIED], &out->sets[EFFECT_BURIED])) {
        return;
    }
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        if (i != EFFECT_REDRIVEN && i != EFFECT_BURIED) {
            (void)view_first(&part->sets[i], &out->sets[i]);
        }
    }
}

void untold_first(const struct untold *untold, struct untold_view *out)
{
    const struct part *part = untold->first;

    *out = (struct untold_view) { 0 };
    if (part != NULL && part->seek) {
        out->effects.seek = true;
        out->effects.seek_after = part->seek_after;
    } else if (part != NULL) {
        view_part(part, out);
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

void untold_told(struct untold *untold, const struct untold_view *view)
{
    struct part *part = untold->first;
    size_t count = view->effects.failure_count;

    CHECK(part != NULL);
    part->seek = false;
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        untold->range_count -= seqset_range_count(&part->sets[i]);
        drop_told(&part->sets[i], &view->sets[i]);
        untold->range_count += seqset_range_count(&part->sets[i]);
    }
    for (size_t i = 0; i < count; i++) {
        drop_reason(untold, &part->failures[part->failure_begin + i]);
    }
    untold->failure_count -= count;
    part->failure_begin += count;
    if (part->failure_begin == part->failure_count) {
        part->failure_begin = part->failure_count = 0;
    }
    if (part->next != NULL && part_is_empty(part)) {
        untold->first = part->next;
        part_free(untold, part);
    }
}
