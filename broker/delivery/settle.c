/* What members say of messages, and what they are told. */
#include "broker/delivery/group_impl.h"

/* A nack with so long a delay of its own is the subscriber's way of waiting,
 * and no sign of a storm. */
enum { UNHURRIED_US = 1000000 };

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

static uint64_t bounded(uint64_t us, uint64_t max_ms)
{
    return us > max_ms * 1000 ? max_ms * 1000 : us;
}

/* ---- by its holder ---- */

static enum status ack(struct group *group, struct lane *lane,
                       const struct transaction *t)
{
    enum status status = lane_settle(lane, EFFECT_ACKED, t->seq, t->seq);

    if (status == STATUS_OK) {
        group_end_as(group, lane, t, LANE_ACKED);
        group_mark_effects(group, lane);
        group->figures.acked++;
        breaker_succeeded(&group->breaker);
    }
    return status;
}

static enum status nack(struct group *group, struct lane *lane,
                        const struct transaction *t, const struct settlement *s)
{
    struct comeback how = { .cause = CAUSE_NACK, .reason = s->reason };
    enum status status;

    how.due_us = group->now_us
                 + (s->delay_us == 0 ? group_backoff_us(group, t, t->attempt)
                                     : bounded(s->delay_us, DELAY_MS_MAX));
    status = group_give_back(group, lane, t, &how);
    group->figures.nacked += status == STATUS_OK;
    if (status == STATUS_OK && s->delay_us < UNHURRIED_US) {
        group_note_failed(group);
    }
    return status;
}

static enum status reject(struct group *group, struct lane *lane,
                          const struct transaction *t,
                          const struct settlement *s)
{
    const struct comeback how = { .cause = CAUSE_REJECT, .reason = s->reason };
    enum status status = group_give_back(group, lane, t, &how);

    if (status == STATUS_OK) {
        group->figures.rejected++;
        group_note_failed(group);
    }
    return status;
}

static void extend(struct group *group, const struct transaction *t,
                   uint64_t delay_us)
{
    uint64_t us = delay_us == 0 ? group->config.rules.lease_us
                                : bounded(delay_us, LEASE_MS_MAX);
    struct member *member = members_find(&group->members, t->holder);
    struct transaction next = *t;

    CHECK(member != NULL);
    group_disarm_lease(group, t);
    group_arm_lease(group, &next, group->now_us + us);
    inflight_change(group->inflight, t, &next, &member->held, &member->held,
                    group->now_us);
}

static enum status settle_held(struct group *group, struct lane *lane,
                               const struct transaction *t,
                               const struct settlement *s)
{
    const struct comeback released = { .due_us = 0 };
    enum status status;

    switch (s->action) {
    case SETTLE_ACK:
        return ack(group, lane, t);
    case SETTLE_NACK:
        return nack(group, lane, t, s);
    case SETTLE_REJECT:
        return reject(group, lane, t, s);
    case SETTLE_RELEASE:
        status = group_give_back(group, lane, t, &released);
        group->figures.released += status == STATUS_OK;
        return status;
    case SETTLE_EXTEND:
        extend(group, t, s->delay_us);
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

/* ---- when nobody holds it ---- */

/* It was delivered once, and waits: an ack still counts, to give it back
 * changes nothing, and a lease that is over can neither be extended nor end in
 * the dead. */
static enum status settle_waiting(struct group *group, struct lane *lane,
                                  const struct transaction *t,
                                  const struct settlement *s,
                                  struct wire_settled_range *out)
{
    switch (s->action) {
    case SETTLE_ACK:
        return ack(group, lane, t);
    case SETTLE_EXTEND:
    case SETTLE_REJECT:
        out->outcome = OUTCOME_LATE;
        break;
    case SETTLE_NACK:
    case SETTLE_RELEASE:
        break;
    }
    return STATUS_OK;
}

/* One message that was looked at and is not settled. */
static enum status settle_open(struct group *group, struct lane *lane,
                               const struct settlement *s,
                               struct wire_settled_range *out)
{
    const struct transaction *t = group_find_open(group, lane, out->first);

    if (t == NULL || (t->flags & OPEN_NEVER) != 0) {
        out->outcome = OUTCOME_UNKNOWN; /* not due, or behind its key */
        return STATUS_OK;
    }
    out->outcome = OUTCOME_ACCEPTED;
    if (t->state != TRANSACTION_HELD) {
        return settle_waiting(group, lane, t, s, out);
    }
    if (s->lease == 0 || s->lease == t->holder) {
        return settle_held(group, lane, t, s);
    }
    out->outcome = OUTCOME_LATE;
    out->holder = t->holder;
    return STATUS_OK;
}

/* Only who claims no lease may ack what is dead. */
static enum status settle_dead(struct group *group, struct lane *lane,
                               const struct settlement *s,
                               struct wire_settled_range *range)
{
    enum status status;

    range->outcome = OUTCOME_LATE;
    if (s->action != SETTLE_ACK || s->lease != 0) {
        return STATUS_OK;
    }
    range->outcome = OUTCOME_ACCEPTED;
    status =
        group_settle_dead(group, lane, EFFECT_ACKED, LANE_ACKED,
                          (struct seq_range) { range->first, range->last });
    if (status == STATUS_OK) {
        group->figures.acked += range->last - range->first + 1;
    }
    return status;
}

/* ---- a range ---- */

static enum status settle_each(struct group *group, struct lane *lane,
                               const struct settlement *s, struct seq_range all,
                               struct report *report)
{
    enum status status = STATUS_OK;

    for (uint64_t seq = all.first; seq <= all.last && status == STATUS_OK;
         seq++) {
        struct wire_settled_range range = { .first = seq, .last = seq };
        status = settle_open(group, lane, s, &range);
        if (status == STATUS_OK) {
            group->figures.late += range.outcome == OUTCOME_LATE;
            report_add(report, &range);
        }
    }
    return status;
}

static enum status settle_stretch(struct group *group, struct lane *lane,
                                  const struct settlement *s,
                                  const struct stretch *stretch,
                                  struct report *report)
{
    struct wire_settled_range range = { .first = stretch->range.first,
                                        .last = stretch->range.last };
    enum status status = STATUS_OK;

    switch (stretch->kind) {
    case STRETCH_OPEN:
        return settle_each(group, lane, s, stretch->range, report);
    case STRETCH_DEAD:
        status = settle_dead(group, lane, s, &range);
        break;
    case STRETCH_SETTLED:
        range.outcome =
            s->action == SETTLE_ACK ? OUTCOME_ACCEPTED : OUTCOME_LATE;
        break;
    case STRETCH_FRESH:
    case STRETCH_BEYOND:
        range.outcome = OUTCOME_UNKNOWN;
        break;
    }
    if (status == STATUS_OK) {
        report_add(report, &range);
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
    group->now_us = now_us;
    group->last_lane = lane;
    for (bool more = true; more && status == STATUS_OK;) {
        struct stretch stretch = { STRETCH_BEYOND, { seq, last } };
        if (lane != NULL) {
            stretch = lane_stretch(lane, seq, last);
        }
        status = settle_stretch(group, lane, settlement, &stretch, &report);
        more = stretch.range.last < last;
        seq = stretch.range.last + 1;
    }
    report_flush(&report);
    return status;
}
