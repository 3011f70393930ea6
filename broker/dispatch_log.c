/* What the groups decided becomes records of the log. */
#include "broker/dispatch_inside.h"

#include <stdlib.h>

struct logging {
    struct dispatch *dispatch;
    struct group_run *run;
    struct submission *to;
    uint64_t now_us;
    uint64_t wall_us;
};

/* The body is in the scratch buffer. Room was looked for before. */
static void submit(struct logging *log, enum record_kind kind)
{
    struct bytes *body = &log->dispatch->scratch;
    const struct record record = {
        .kind = kind, .body = slice_of(bytes_begin(body), bytes_len(body))
    };

    submission_put(log->to, &record, false);
}

/* One part of a lane's effects is one record of each kind. */
_Static_assert((size_t)EFFECTS_COUNT_MAX <= RECORD_RANGES_MAX
                   && (size_t)EFFECTS_COUNT_MAX <= RECORD_RETRIES_MAX,
               "effects come in parts that fit a record");
_Static_assert(RECORD_HEADER_LEN + 16 + EFFECTS_COUNT_MAX * 24
                   <= SETTLED_RECORD_LEN_MAX,
               "which fits any segment");

static enum status log_ranges(struct logging *log, enum record_kind kind,
                              uint32_t topic, const struct seqset *set)
{
    const struct record_ranges ranges = {
        .group = log->run->fact->id,
        .topic = topic,
        .ranges = seqset_ranges(set),
        .count = seqset_range_count(set),
    };
    struct bytes *body = &log->dispatch->scratch;
    enum status status;

    if (ranges.count == 0) {
        return STATUS_OK;
    }
    bytes_consume(body, bytes_len(body));
    status = record_ranges_write(body, &ranges);
    if (status == STATUS_OK) {
        submit(log, kind);
    }
    return status;
}

static uint64_t due_to_wall(const struct logging *log, uint64_t due_us)
{
    return due_us <= log->now_us ? 0 : log->wall_us + (due_us - log->now_us);
}

static enum status log_retries(struct logging *log,
                               const struct effects *effects)
{
    size_t count = effects->retry_count;
    struct bytes *body = &log->dispatch->scratch;
    struct retry *retries;
    struct record_retries record = { .group = log->run->fact->id,
                                     .topic = effects->topic,
                                     .count = count };
    enum status status;

    if (count == 0) {
        return STATUS_OK;
    }
    retries = calloc(count, sizeof *retries);
    if (retries == NULL) {
        return STATUS_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        retries[i] = effects->retries[i];
        retries[i].due_us = due_to_wall(log, retries[i].due_us);
    }
    record.retries = retries;
    bytes_consume(body, bytes_len(body));
    status = record_retries_write(body, &record);
    free(retries);
    if (status == STATUS_OK) {
        submit(log, RECORD_RETRY);
    }
    return status;
}

/* More than its three records can take. */
static size_t effects_size_max(const struct effects *e)
{
    size_t entries = seqset_range_count(e->acked) + seqset_range_count(e->gaps)
                     + e->retry_count;

    return entries * 32 + 3 * (RECORD_HEADER_LEN + 64);
}

static bool log_lane(void *arg, const struct effects *effects)
{
    struct logging *log = arg;
    enum status status;

    if (submission_room(log->to) < effects_size_max(effects)) {
        return false;
    }
    /* Retries first: an ack of the same message in one turn is the newer word. */
    status = log_retries(log, effects);
    if (effects->retry_count > 0) {
        /* It may have been held back by failures it had not told. */
        dispatch_mark_ready(log->dispatch, log->run);
    }
    if (status == STATUS_OK) {
        status = log_ranges(log, RECORD_ACK, effects->topic, effects->acked);
    }
    if (status == STATUS_OK) {
        status = log_ranges(log, RECORD_GAP, effects->topic, effects->gaps);
    }
    /* Out of memory: the rest stays, and what was written is written again. */
    return status == STATUS_OK;
}

bool dispatch_log(struct dispatch *d, struct submission *to, uint64_t now_us,
                  uint64_t wall_us)
{
    while (d->changed != NULL) {
        struct group_run *run = d->changed;
        struct logging log = { d, run, to, now_us, wall_us };

        group_take_effects(run->group, log_lane, &log);
        if (group_has_effects(run->group)) {
            return false;
        }
        d->changed = run->next_changed;
        run->changed = false;
    }
    return true;
}
