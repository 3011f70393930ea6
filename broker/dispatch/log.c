/* What the groups decided becomes records of the log. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"

enum {
    FAILURES_PER_RECORD = 256,
    /* with what is between them, more than a range or the rest of a record
     * takes */
    RANGE_SIZE_MAX = 16,
    RECORD_SIZE_REST = RECORD_HEADER_LEN + 64
};

struct logging {
    struct dispatch *dispatch;
    struct group_run *run;
    struct submission *to;
    uint64_t now_us;
    uint64_t wall_us;
    bool held; /* nothing was given: among other things, too much is untold */
};

/* One part of a lane's effects is one record of each kind, but for failures. */
_Static_assert((size_t)EFFECTS_COUNT_MAX <= RECORD_RANGES_MAX,
               "effects come in parts that fit a record");
_Static_assert(RECORD_SIZE_REST + EFFECTS_COUNT_MAX * RANGE_SIZE_MAX
                   <= SETTLED_RECORD_LEN_MAX,
               "which fits any segment");
_Static_assert(RECORD_SIZE_REST + FAILURES_HEAD_LEN + FAILURE_LEN_MIN
                       + REASON_LEN_MAX
                   <= SETTLED_RECORD_LEN_MAX,
               "as does any failure");

/* ---- one record each ---- */

/* The body is in the scratch buffer. Room was looked for before. */
static void submit(struct logging *log, enum record_kind kind)
{
    struct bytes *body = &log->dispatch->scratch;
    const struct record record = {
        .kind = kind, .body = slice_of(bytes_begin(body), bytes_len(body))
    };

    submission_put(log->to, &record, false);
}

static struct bytes *empty_body(struct logging *log)
{
    struct bytes *body = &log->dispatch->scratch;

    bytes_consume(body, bytes_len(body));
    return body;
}

static enum status log_ranges(struct logging *log, enum record_kind kind,
                              uint32_t topic, const struct seqset *set)
{
    const struct record_ranges ranges = {
        .group = log->run->fact->id,
        .topic = topic,
        .ranges = seqset_ranges(set),
        .count = seqset_range_count(set),
    };
    enum status status;

    if (ranges.count == 0) {
        return STATUS_OK;
    }
    status = record_ranges_write(empty_body(log), &ranges);
    if (status == STATUS_OK) {
        submit(log, kind);
    }
    return status;
}

static enum status log_seek(struct logging *log, const struct effects *effects)
{
    const struct record_seek seek = {
        .group = log->run->fact->id,
        .topic = effects->topic,
        .after = effects->seek_after,
    };
    struct lane_reader *lane = group_lane_user(log->run->group, effects->topic);
    enum status status = record_seek_write(empty_body(log), &seek);

    if (status == STATUS_OK) {
        submit(log, RECORD_SEEK);
        if (lane != NULL) {
            lane->sought = submission_written(log->to);
        }
    }
    return status;
}

/* ---- failures ---- */

static uint64_t due_to_wall(const struct logging *log, uint64_t due_us)
{
    return due_us <= log->now_us ? 0 : log->wall_us + (due_us - log->now_us);
}

/* How many of them go into one record. */
static size_t fitting(const struct failure *failures, size_t count)
{
    size_t len = RECORD_SIZE_REST + FAILURES_HEAD_LEN;
    size_t fit = 0;

    while (fit < count && fit < FAILURES_PER_RECORD) {
        len += FAILURE_LEN_MIN + failures[fit].reason.len;
        if (len > SETTLED_RECORD_LEN_MAX) {
            break;
        }
        fit++;
    }
    return fit;
}

static enum status log_some_failures(struct logging *log, uint32_t topic,
                                     const struct failure *from, size_t count)
{
    struct failure failures[FAILURES_PER_RECORD];
    const struct record_failures record = { .group = log->run->fact->id,
                                            .topic = topic,
                                            .failures = failures,
                                            .count = count };
    enum status status;

    for (size_t i = 0; i < count; i++) {
        failures[i] = from[i];
        failures[i].due_us = due_to_wall(log, from[i].due_us);
        dispatch_remember(log->dispatch, log->run, topic, &failures[i],
                          log->wall_us);
    }
    status = record_failed_write(empty_body(log), &record);
    if (status == STATUS_OK) {
        submit(log, RECORD_FAILED);
    }
    return status;
}

static enum status log_failures(struct logging *log,
                                const struct effects *effects)
{
    enum status status = STATUS_OK;
    size_t count;

    for (size_t at = 0; status == STATUS_OK && at < effects->failure_count;
         at += count) {
        count = fitting(effects->failures + at, effects->failure_count - at);
        status = log_some_failures(log, effects->topic, effects->failures + at,
                                   count);
    }
    return status;
}

/* ---- one part of a lane ---- */

/* More than its records can take. */
static size_t effects_size_max(const struct effects *e)
{
    size_t size = (1 + EFFECT_SETS) * RECORD_SIZE_REST;

    for (size_t i = 0; i < EFFECT_SETS; i++) {
        size += seqset_range_count(e->sets[i]) * RANGE_SIZE_MAX;
    }
    for (size_t i = 0; i < e->failure_count; i++) {
        size += FAILURE_LEN_MIN + e->failures[i].reason.len;
    }
    /* Failures may take more than one record; each but the last is full one
     * way or the other. */
    return size
           + (size / (SETTLED_RECORD_LEN_MAX / 2)
              + e->failure_count / FAILURES_PER_RECORD)
                 * (RECORD_SIZE_REST + FAILURES_HEAD_LEN);
}

/* What makes messages owed again, or dead, comes before what settles them: in
 * one turn that is the newer word. */
static enum status log_effects(struct logging *log, const struct effects *e)
{
    static const struct {
        enum record_kind kind;
        enum effect_set set;
    } after_failures[] = {
        { RECORD_BURY, EFFECT_BURIED },
        { RECORD_ACK, EFFECT_ACKED },
        { RECORD_GAP, EFFECT_GAP },
        { RECORD_EXPIRED, EFFECT_EXPIRED },
        { RECORD_FILTERED, EFFECT_FILTERED },
        { RECORD_DISCARD, EFFECT_DISCARDED },
    };
    enum status status;

    if (e->seek) {
        return log_seek(log, e);
    }
    status =
        log_ranges(log, RECORD_REDRIVE, e->topic, e->sets[EFFECT_REDRIVEN]);
    if (status == STATUS_OK) {
        status = log_failures(log, e);
    }
    for (size_t i = 0; status == STATUS_OK && i < COUNT_OF(after_failures);
         i++) {
        status = log_ranges(log, after_failures[i].kind, e->topic,
                            e->sets[after_failures[i].set]);
    }
    return status;
}

static bool log_lane(void *arg, const struct effects *effects)
{
    struct logging *log = arg;

    if (submission_room(log->to) < effects_size_max(effects)) {
        return false;
    }
    /* Out of memory: the rest stays, and what was written is written again. */
    if (log_effects(log, effects) != STATUS_OK) {
        return false;
    }
    if (effects->failure_count > 0 || log->held) {
        /* It may have been held back by how much it had not told. */
        dispatch_mark_ready(log->dispatch, log->run);
    }
    return true;
}

bool dispatch_log(struct dispatch *d, struct submission *to, uint64_t now_us,
                  uint64_t wall_us)
{
    struct link *link;

    d->now_us = now_us;
    dispatch_clock_set(d, now_us, wall_us);
    while ((link = list_first(&d->changed)) != NULL) {
        struct group_run *run = container_of(link, struct group_run, changed);
        struct logging log = { d, run, to, now_us, wall_us, false };
        struct standing standing;

        group_held_by(run->group, now_us, &standing);
        log.held = standing.gate == GATE_QUOTA;
        group_take_effects(run->group, log_lane, &log);
        if (group_has_effects(run->group)) {
            return false;
        }
        link_remove(link);
        dispatch_count(d, run);
    }
    return true;
}
