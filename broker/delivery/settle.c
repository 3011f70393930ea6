#include "broker/delivery/group_impl.h"

#include "proto/limits.h"

/* What settles a message, or tries to: the word of a member, or the store's
 * that it is lost or deleted. */

enum { JITTER_PERCENT = 20 };

/* ---- lost ---- */

/* One message that waits is settled. */
static enum status settle_waiting(struct group *group, struct lane *lane,
                                  struct waiting *w, bool lost)
{
    enum status status = lane_settle(lane, w->seq, w->seq, lost);

    if (status == STATUS_OK) {
        lane_move(lane, w->delayed ? LANE_DELAYED : LANE_READY,
                  lost ? LANE_GAP : LANE_ACKED, 1);
        group_stop_waiting(group, w);
        group_mark_effects(group, lane);
    }
    return status;
}

static enum status lose_open(struct group *group, struct lane *lane,
                             struct seq_range range)
{
    enum status status = STATUS_OK;

    for (uint64_t seq = range.first; seq <= range.last && status == STATUS_OK;
         seq++) {
        struct waiting *w = schedule_find(&group->schedule, lane->topic, seq);
        if (w != NULL) { /* else somebody has it already */
            status = settle_waiting(group, lane, w, true);
        }
    }
    return status;
}

static enum status lose_fresh(struct group *group, struct lane *lane,
                              struct seq_range range)
{
    enum status status = lane_settle(lane, range.first, range.last, true);

    if (status == STATUS_OK) {
        lane_move(lane, LANE_READY, LANE_GAP, range.last - range.first + 1);
        group_mark_effects(group, lane);
    }
    return status;
}

void group_lost(struct group *group, const struct offer *offer, uint64_t last)
{
    struct lane *lane = group_find_lane(group, offer->topic);
    enum status status = STATUS_OK;
    uint64_t seq = offer->seq;

    CHECK(lane != NULL && seq > 0);
    last = last > lane->end ? lane->end : last;
    while (seq <= last && status == STATUS_OK) {
        struct stretch stretch = lane_stretch(lane, seq, last);
        if (stretch.kind == STRETCH_OPEN) {
            status = lose_open(group, lane, stretch.range);
        } else if (stretch.kind == STRETCH_FRESH) {
            status = lose_fresh(group, lane, stretch.range);
        }
        seq = stretch.range.last + 1;
    }
    /* Without memory the rest is offered again, and lost then. */
}

/* ---- deleted ---- */

/* What is in flight of them is left to its holder. */
static enum status delete_open(struct group *group, struct lane *lane,
                               struct seq_range range)
{
    enum status status = STATUS_OK;

    for (uint64_t seq = range.first; seq <= range.last && status == STATUS_OK;
         seq++) {
        struct waiting *w = schedule_find(&group->schedule, lane->topic, seq);

        if (w == NULL) {
            continue;
        }
        status = lane_delete(lane, seq, seq);
        if (status == STATUS_OK) {
            lane_move(lane, w->delayed ? LANE_DELAYED : LANE_READY,
                      LANE_DELETED, 1);
            group_stop_waiting(group, w);
            group->figures.deleted++;
        }
    }
    return status;
}

static enum status delete_fresh(struct group *group, struct lane *lane,
                                struct seq_range range)
{
    uint64_t count = range.last - range.first + 1;
    enum status status = lane_delete(lane, range.first, range.last);

    if (status == STATUS_OK) {
        lane_move(lane, LANE_READY, LANE_DELETED, count);
        group->figures.deleted += count;
    }
    return status;
}

enum status group_trim(struct group *group, uint32_t topic, uint64_t first_seq)
{
    struct lane *lane = group_find_lane(group, topic);
    enum status status = STATUS_OK;
    uint64_t last;

    if (lane == NULL || first_seq == 0) {
        return STATUS_OK;
    }
    last = first_seq - 1 < lane->end ? first_seq - 1 : lane->end;
    while (lane->first <= last && status == STATUS_OK) {
        struct stretch stretch = lane_stretch(lane, lane->first, last);
        if (stretch.kind == STRETCH_OPEN) {
            status = delete_open(group, lane, stretch.range);
        } else if (stretch.kind == STRETCH_FRESH) {
            status = delete_fresh(group, lane, stretch.range);
        }
        if (status == STATUS_OK) {
            lane->first = stretch.range.last + 1;
        }
    }
    return status;
}

enum status group_skip(struct group *group, uint32_t topic, uint64_t last)
{
    struct lane *lane = group_find_lane(group, topic);
    enum status status = STATUS_OK;
    uint64_t seq = 1;

    CHECK(lane != NULL);
    last = last < lane->end ? last : lane->end;
    while (seq <= last && status == STATUS_OK) {
        struct stretch stretch = lane_stretch(lane, seq, last);
        if (stretch.kind == STRETCH_FRESH) {
            status = lane_settle(lane, seq, stretch.range.last, false);
        }
        if (stretch.kind == STRETCH_FRESH && status == STATUS_OK) {
            lane_move(lane, LANE_READY, LANE_ACKED,
                      stretch.range.last - seq + 1);
            group_mark_effects(group, lane);
        }
        seq = stretch.range.last + 1;
    }
    return status;
}

/* ---- settling ---- */

/* Outcomes on their way to the caller, neighbours joined. */
struct report {
    settled_fn fn;
    void *arg;
    struct wire_settled_range range;
    bool any;
};

static void report_flush(struct report *report)
{
    if (report->any && report->fn != NULL) {
        report->fn(report->arg, &report->range);
    }
    report->any = false;
}

static void report_add(struct report *report,
                       const struct wire_settled_range *range)
{
    struct wire_settled_range *last = &report->range;

    if (report->any && last->last + 1 == range->first
        && last->outcome == range->outcome && last->holder == range->holder) {
        last->last = range->last;
        return;
    }
    report_flush(report);
    *last = *range;
    report->any = true;
}

/* The delay after `attempts` failures: doubled each time up to the maximum, and
 * spread so that what failed together does not come back together. */
uint64_t group_backoff_us(struct group *group, uint32_t attempts)
{
    uint64_t us = (uint64_t)BACKOFF_MS_MIN * 1000;
    uint64_t max = (uint64_t)BACKOFF_MS_MAX * 1000;
    uint64_t spread;

    for (uint32_t i = 1; i < attempts && us < max; i++) {
        us *= 2;
    }
    us = us > max ? max : us;
    spread = us / 100 * JITTER_PERCENT;
    group->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    return us - spread + hash_mix(group->random) % (2 * spread + 1);
}

static uint64_t bounded(uint64_t us, uint64_t max_ms)
{
    return us > max_ms * 1000 ? max_ms * 1000 : us;
}

static enum status nack(struct group *group, struct lane *lane,
                        const struct transaction *t, uint64_t delay_us,
                        uint64_t now_us)
{
    struct comeback how = { .counted = true };

    how.due_us = now_us
                 + (delay_us == 0 ? group_backoff_us(group, t->attempt)
                                  : bounded(delay_us, DELAY_MS_MAX));
    return group_give_back(group, lane, t, &how);
}

static enum status ack(struct group *group, struct lane *lane,
                       const struct transaction *t)
{
    enum status status = lane_settle(lane, t->seq, t->seq, false);

    if (status == STATUS_OK) {
        group_end_transaction(group, t);
        lane_move(lane, LANE_IN_FLIGHT, LANE_ACKED, 1);
        group_mark_effects(group, lane);
        group->figures.acked++;
    }
    return status;
}

static void extend(struct group *group, const struct transaction *t,
                   uint64_t delay_us, uint64_t now_us)
{
    uint64_t us = delay_us == 0 ? group->config.lease_us
                                : bounded(delay_us, LEASE_MS_MAX);

    inflight_extend(group->inflight, t, now_us + us);
}

/* Something its holder may decide about. */
static enum status settle_held(struct group *group, struct lane *lane,
                               const struct transaction *t,
                               const struct settlement *s, uint64_t now_us)
{
    const struct comeback released = { .counted = false, .due_us = 0 };
    enum status status = STATUS_OK;

    switch (s->action) {
    case SETTLE_ACK:
        return ack(group, lane, t);
    case SETTLE_NACK:
        status = nack(group, lane, t, s->delay_us, now_us);
        group->figures.nacked += status == STATUS_OK;
        return status;
    case SETTLE_RELEASE:
        status = group_give_back(group, lane, t, &released);
        group->figures.released += status == STATUS_OK;
        return status;
    case SETTLE_EXTEND:
        extend(group, t, s->delay_us, now_us);
        return STATUS_OK;
    case SETTLE_REJECT:
        break;
    }
    return STATUS_INVALID;
}

/* One message that was delivered and is not settled. */
static enum status settle_open(struct group *group, struct lane *lane,
                               const struct settlement *s, uint64_t now_us,
                               struct wire_settled_range *out)
{
    const struct transaction *t =
        inflight_find(group->inflight, lane->topic, out->first);
    struct waiting *w;

    out->outcome = OUTCOME_ACCEPTED;
    if (t != NULL && (s->lease == 0 || s->lease == t->holder)) {
        return settle_held(group, lane, t, s, now_us);
    }
    if (t != NULL) {
        out->outcome = OUTCOME_LATE;
        out->holder = t->holder;
        return STATUS_OK;
    }
    /* Nobody holds it: an ack still counts, to give it back changes nothing,
     * and a lease that is over cannot be extended. */
    if (s->action == SETTLE_EXTEND) {
        out->outcome = OUTCOME_LATE;
    }
    if (s->action != SETTLE_ACK) {
        return STATUS_OK;
    }
    w = schedule_find(&group->schedule, lane->topic, out->first);
    CHECK(w != NULL);
    group->figures.acked++;
    return settle_waiting(group, lane, w, false);
}

static enum status settle_stretch(struct group *group, struct lane *lane,
                                  const struct settlement *s, uint64_t now_us,
                                  const struct stretch *stretch,
                                  struct report *report)
{
    struct wire_settled_range range = { .first = stretch->range.first,
                                        .last = stretch->range.last };
    enum status status = STATUS_OK;

    if (stretch->kind != STRETCH_OPEN) {
        range.outcome = stretch->kind != STRETCH_SETTLED ? OUTCOME_UNKNOWN
                        : s->action == SETTLE_ACK        ? OUTCOME_ACCEPTED
                                                         : OUTCOME_LATE;
        report_add(report, &range);
        return STATUS_OK;
    }
    for (uint64_t seq = stretch->range.first;
         seq <= stretch->range.last && status == STATUS_OK; seq++) {
        range = (struct wire_settled_range) { .first = seq, .last = seq };
        status = settle_open(group, lane, s, now_us, &range);
        if (status == STATUS_OK) {
            group->figures.late += range.outcome == OUTCOME_LATE;
            report_add(report, &range);
        }
    }
    return status;
}

enum status group_settle(struct group *group,
                         const struct settlement *settlement, uint64_t now_us,
                         settled_fn fn, void *arg)
{
    struct lane *lane = group_find_lane(group, settlement->topic);
    struct report report = { .fn = fn, .arg = arg };
    uint64_t seq = settlement->range.first;
    uint64_t last = settlement->range.last;
    enum status status = STATUS_OK;

    if (seq == 0 || seq > last) {
        return STATUS_INVALID;
    }
    group->last_lane = lane;
    for (bool more = true; more && status == STATUS_OK;) {
        struct stretch stretch = { STRETCH_BEYOND, { seq, last } };
        if (lane != NULL) {
            stretch = lane_stretch(lane, seq, last);
        }
        status =
            settle_stretch(group, lane, settlement, now_us, &stretch, &report);
        more = stretch.range.last < last;
        seq = stretch.range.last + 1;
    }
    report_flush(&report);
    return status;
}
