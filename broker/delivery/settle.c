/* What members say of messages, and what they are told. */
#include "broker/delivery/group_impl.h"

#include <stdlib.h>

/* A nack with so long a delay of its own is the subscriber's way of waiting,
 * and no sign of a storm. */
enum { UNHURRIED_US = 1000000 };

/* Neighbours that are acked as one. */
enum { ACK_RUN_MAX = 64 };

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

static void count_acked(struct group *group, struct lane *lane, size_t count)
{
    group_mark_effects(group, lane);
    group->figures.acked += count;
    breaker_succeeded(&group->breaker, count);
}

static enum status ack(struct group *group, struct lane *lane,
                       const struct transaction *t)
{
    enum status status = lane_settle(lane, EFFECT_ACKED, t->seq, t->seq);

    if (status == STATUS_OK) {
        group_end_as(group, lane, t, LANE_ACKED);
        count_acked(group, lane, 1);
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

/* One request: what it may still look at, and how far it came. */
struct settling {
    struct group *group;
    struct lane *lane; /* NULL: no such lane */
    const struct settlement *s;
    struct report report;
    size_t budget;
    uint64_t seq; /* the next one to look at */
};

static void report_outcome(struct settling *k,
                           const struct wire_settled_range *range)
{
    report_add(&k->report, range);
    k->seq = range->last + 1;
}

static enum status settle_one(struct settling *k)
{
    struct wire_settled_range range = { .first = k->seq, .last = k->seq };
    enum status status = settle_open(k->group, k->lane, k->s, &range);

    if (status == STATUS_OK) {
        k->group->figures.late += range.outcome == OUTCOME_LATE;
        report_outcome(k, &range);
    }
    return status;
}

/* How many of the next ones, up to `last`, one holder has who may ack them. */
static size_t find_run(const struct settling *k, uint64_t last,
                       const struct transaction *run[ACK_RUN_MAX])
{
    uint64_t holder = k->s->lease;
    size_t count = 0;

    while (count < ACK_RUN_MAX && count < k->budget && count <= last - k->seq) {
        const struct transaction *t =
            count == 0 ? group_find_open(k->group, k->lane, k->seq)
                       : inflight_find_next(k->group->inflight, run[count - 1]);

        if (t == NULL || t->state != TRANSACTION_HELD
            || (holder != 0 && t->holder != holder)) {
            break;
        }
        holder = t->holder;
        run[count++] = t;
    }
    return count;
}

/* The usual request: what was delivered in a row is acked in a row, and noted
 * once. */
static enum status ack_run(struct settling *k, uint64_t last)
{
    const struct transaction *run[ACK_RUN_MAX];
    size_t count = find_run(k, last, run);
    struct wire_settled_range range = { .first = k->seq,
                                        .last = k->seq + count - 1,
                                        .outcome = OUTCOME_ACCEPTED };
    enum status status;

    if (count == 0) {
        k->budget--;
        return settle_one(k);
    }
    status = lane_settle(k->lane, EFFECT_ACKED, range.first, range.last);
    if (status == STATUS_OK) {
        k->budget -= count;
        lane_move(k->lane, LANE_IN_FLIGHT, LANE_ACKED, count);
        group_end_held(k->group, k->lane, run, count);
        count_acked(k->group, k->lane, count);
        report_outcome(k, &range);
    }
    return status;
}

/* Up to `last`, all of them open. */
static enum status settle_each(struct settling *k, uint64_t last)
{
    enum status status = STATUS_OK;

    while (k->seq <= last && k->budget > 0 && status == STATUS_OK) {
        if (k->s->action == SETTLE_ACK) {
            status = ack_run(k, last);
        } else {
            k->budget--;
            status = settle_one(k);
        }
    }
    return status;
}

static void report_never_given(struct settling *k, uint64_t last)
{
    const struct wire_settled_range range = { .first = k->seq,
                                              .last = last,
                                              .outcome = OUTCOME_UNKNOWN };

    if (k->seq <= last) {
        report_outcome(k, &range);
    }
}

/* Up to `last`, all of them open. Without a transaction: behind its key. */
static enum status settle_open_ones(struct settling *k, uint64_t last)
{
    struct open_list list;
    enum status status = STATUS_OK;

    if (!group_list_open(k->group, k->lane, (struct seq_range) { k->seq, last },
                         k->budget, &list)) {
        return settle_each(k, last);
    }
    k->budget -= list.looks;
    for (size_t i = 0; i < list.count && status == STATUS_OK; i++) {
        report_never_given(k, list.seqs[i] - 1);
        status = settle_one(k);
    }
    free(list.seqs);
    if (status == STATUS_OK) {
        report_never_given(k, last);
    }
    return status;
}

static enum status settle_stretch(struct settling *k,
                                  const struct stretch *stretch)
{
    struct wire_settled_range range = { .first = stretch->range.first,
                                        .last = stretch->range.last };
    enum status status = STATUS_OK;

    switch (stretch->kind) {
    case STRETCH_OPEN:
        return settle_open_ones(k, range.last);
    case STRETCH_DEAD:
        status = settle_dead(k->group, k->lane, k->s, &range);
        break;
    case STRETCH_SETTLED:
        range.outcome =
            k->s->action == SETTLE_ACK ? OUTCOME_ACCEPTED : OUTCOME_LATE;
        break;
    case STRETCH_FRESH:
    case STRETCH_BEYOND:
        range.outcome = OUTCOME_UNKNOWN;
        break;
    }
    if (status == STATUS_OK) {
        report_outcome(k, &range);
    }
    return status;
}

enum status group_settle_some(struct group *group, const struct settlement *s,
                              uint64_t now_us, size_t *budget, uint64_t *next,
                              settled_fn fn, void *arg)
{
    struct settling k = { .group = group,
                          .lane = group_find_lane(group, s->topic),
                          .s = s,
                          .report = { .fn = fn, .arg = arg },
                          .budget = *budget,
                          .seq = s->range.first };
    uint64_t last = s->range.last;
    enum status status = STATUS_OK;

    if (k.seq == 0 || k.seq > last) {
        return STATUS_INVALID;
    }
    group->now_us = now_us;
    group->last_lane = k.lane;
    do {
        struct stretch stretch = { STRETCH_BEYOND, { k.seq, last } };

        if (k.budget == 0) {
            status = STATUS_AGAIN;
            break;
        }
        k.budget--;
        if (k.lane != NULL) {
            stretch = lane_stretch(k.lane, k.seq, last);
        }
        status = settle_stretch(&k, &stretch);
    } while (status == STATUS_OK && k.seq - 1 < last);
    report_flush(&k.report);
    *budget = k.budget;
    *next = k.seq;
    return status;
}

enum status group_settle(struct group *group, const struct settlement *s,
                         uint64_t now_us, settled_fn fn, void *arg)
{
    size_t budget = SIZE_MAX;
    uint64_t next;

    return group_settle_some(group, s, now_us, &budget, &next, fn, arg);
}
