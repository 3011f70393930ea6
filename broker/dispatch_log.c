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
    size_t len = record_size(bytes_len(body));
    const struct record record = {
        .kind = kind, .body = slice_of(bytes_begin(body), bytes_len(body))
    };
    uint8_t *at = submission_reserve(log->to, len);

    CHECK(at != NULL);
    memcpy(at + RECORD_HEADER_LEN, record.body.at, record.body.len);
    record_finish(at, &record);
    submission_write(log->to, len, false);
}

static enum status log_ranges(struct logging *log, enum record_kind kind,
                              uint32_t topic, const struct seqset *set)
{
    size_t count = set == NULL ? 0 : seqset_range_count(set);

    for (size_t i = 0; i < count; i += RECORD_RANGES_MAX) {
        const struct record_ranges ranges = {
            .group = log->run->fact->id,
            .topic = topic,
            .ranges = seqset_ranges(set) + i,
            .count =
                count - i < RECORD_RANGES_MAX ? count - i : RECORD_RANGES_MAX,
        };
        struct bytes *body = &log->dispatch->scratch;
        enum status status;

        bytes_consume(body, bytes_len(body));
        status = record_ranges_write(body, &ranges);
        if (status != STATUS_OK) {
            return status;
        }
        submit(log, kind);
    }
    return STATUS_OK;
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
    struct retry *retries = calloc(count + 1, sizeof *retries);
    enum status status = retries == NULL ? STATUS_NOMEM : STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        retries[i] = effects->retries[i];
        retries[i].due_us = due_to_wall(log, retries[i].due_us);
    }
    for (size_t i = 0; status == STATUS_OK && i < count;
         i += RECORD_RETRIES_MAX) {
        const struct record_retries part = {
            .group = log->run->fact->id,
            .topic = effects->topic,
            .retries = retries + i,
            .count =
                count - i < RECORD_RETRIES_MAX ? count - i : RECORD_RETRIES_MAX,
        };
        bytes_consume(body, bytes_len(body));
        status = record_retries_write(body, &part);
        if (status == STATUS_OK) {
            submit(log, RECORD_RETRY);
        }
    }
    free(retries);
    return status;
}

/* More than all its records can take, splitting included. */
static size_t effects_size_max(const struct effects *e)
{
    size_t ranges = (e->acked == NULL ? 0 : seqset_range_count(e->acked))
                    + (e->gaps == NULL ? 0 : seqset_range_count(e->gaps));
    size_t entries = ranges + e->retry_count;

    return entries * 32
           + (entries / RECORD_RETRIES_MAX + 4) * (RECORD_HEADER_LEN + 64);
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
