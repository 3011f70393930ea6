#include "test/lib/group_sim.h"

struct answer {
    enum settle_outcome outcome;
    uint64_t holder;
};

static const struct answer accepted = { OUTCOME_ACCEPTED, 0 };
static const struct answer late = { OUTCOME_LATE, 0 };
static const struct answer unknown = { OUTCOME_UNKNOWN, 0 };

void sim_release(struct sim *s, struct lane *lane, struct msg *m)
{
    m->due_min = 0;
    m->due_max = 0;
    sim_become(lane, m, sim_is_lost(lane, m) ? DELETED : WAITING);
}

static void apply(struct sim *s, struct lane *lane, struct msg *m,
                  const struct settlement *t)
{
    char reason[24];

    (void)snprintf(reason, sizeof reason, "%.*s", (int)t->reason.len,
                   (const char *)t->reason.at);
    switch (t->action) {
    case SETTLE_ACK:
        sim_become(lane, m, ACKED);
        break;
    case SETTLE_NACK:
        sim_fail_attempt(s, lane, m,
                         &(struct fault) { .cause = CAUSE_NACK,
                                           .delay = t->delay_us,
                                           .why = reason });
        break;
    case SETTLE_RELEASE:
        sim_release(s, lane, m);
        break;
    case SETTLE_EXTEND:
        m->lease_end =
            s->now + (t->delay_us == 0 ? s->rules.lease_us : t->delay_us);
        m->lease_began = s->now;
        m->noticed = false;
        m->old_rules = false;
        break;
    case SETTLE_REJECT:
        sim_fail_attempt(s, lane, m,
                         &(struct fault) { .cause = CAUSE_REJECT,
                                           .fatal = true,
                                           .why = reason });
        break;
    }
}

/* It is back with the group, and nobody holds it. */
static struct answer settle_waiting(struct lane *lane, struct msg *m,
                                    const struct settlement *t)
{
    switch (t->action) {
    case SETTLE_ACK:
        sim_become(lane, m, ACKED);
        return accepted;
    case SETTLE_NACK:
    case SETTLE_RELEASE:
        return accepted;
    case SETTLE_EXTEND:
    case SETTLE_REJECT:
        return late;
    }
    return late;
}

static struct answer settle_dead(struct lane *lane, struct msg *m,
                                 const struct settlement *t)
{
    if (t->action != SETTLE_ACK || t->lease != 0) {
        return late;
    }
    sim_become(lane, m, ACKED);
    return accepted;
}

static struct answer model_settle(struct sim *s, struct lane *lane,
                                  uint64_t seq, const struct settlement *t)
{
    struct msg *m;

    if (lane == NULL || seq > lane->end) {
        return unknown;
    }
    m = &lane->msgs[seq];
    if (sim_is_settled(m)) {
        return t->action == SETTLE_ACK ? accepted : late;
    }
    if (m->state == DEAD) {
        return settle_dead(lane, m, t);
    }
    if (m->state == FRESH || (m->state == WAITING && !m->given)) {
        return unknown;
    }
    if (m->state == WAITING) {
        return settle_waiting(lane, m, t);
    }
    if (t->lease != 0 && t->lease != m->lease) {
        return (struct answer) { OUTCOME_LATE, m->lease };
    }
    apply(s, lane, m, t);
    return accepted;
}

struct settling {
    struct sim *sim;
    struct lane *lane;
    const struct settlement *asked;
    uint64_t next; /* what the next outcome must begin with */
    struct wire_settled_range previous;
    bool any;
};

static void on_outcome(void *arg, const struct wire_settled_range *range)
{
    struct settling *g = arg;
    struct sim *s = g->sim;
    uint64_t end = g->lane == NULL ? 0 : g->lane->end;

    sim_hear(s, range->first, range->last, range->outcome + range->holder);
    sim_trace(s, "  %lu..%lu: %s, holder %lu", range->first, range->last,
              outcome_word(range->outcome), range->holder);
    EXPECT(s, range->first == g->next && range->last >= range->first,
           "outcome from %lu, not %lu", range->first, g->next);
    EXPECT(s,
           !g->any || g->previous.outcome != range->outcome
               || g->previous.holder != range->holder,
           "two outcomes that are one at %lu", range->first);
    for (uint64_t seq = range->first;
         !s->failed && seq <= range->last && seq <= end; seq++) {
        enum state was = g->lane->msgs[seq].state;
        struct answer a = model_settle(s, g->lane, seq, g->asked);
        EXPECT(s, a.outcome == range->outcome && a.holder == range->holder,
               "topic %u seq %lu, action %d on state %d: outcome %d holder %lu,"
               " not %d %lu",
               g->lane->topic, seq, (int)g->asked->action, (int)was,
               (int)range->outcome, range->holder, (int)a.outcome, a.holder);
    }
    EXPECT(s, range->last <= end || range->outcome == OUTCOME_UNKNOWN,
           "what was never published has an outcome");
    g->previous = *range;
    g->any = true;
    g->next = range->last + 1;
}

static void settle_in_bits(struct sim *s, struct settling *g)
{
    struct settlement rest = *g->asked;
    enum status status;

    do {
        size_t budget = 2 + sim_rnd(s, 6);

        g->any = false; /* neighbours of two bits are not joined */
        status = group_settle_some(s->group, &rest, s->now, &budget,
                                   &rest.range.first, on_outcome, g);
    } while (status == STATUS_AGAIN);
    EXPECT(s, status == STATUS_OK, "settle in bits");
}

void sim_settle(struct sim *s, struct lane *lane, const struct settlement *t)
{
    struct settling g = {
        .sim = s, .lane = lane, .asked = t, .next = t->range.first
    };

    sim_trace(s, "settle %u/%lu..%lu action %d by %lu, delay %lu", t->topic,
              t->range.first, t->range.last, (int)t->action, t->lease,
              t->delay_us);
    if (sim_chance(s, 4)) {
        settle_in_bits(s, &g);
    } else {
        EXPECT(s,
               group_settle(s->group, t, s->now, on_outcome, &g) == STATUS_OK,
               "settle");
    }
    EXPECT(s, g.next == t->range.last + 1, "outcomes end at %lu, not %lu",
           g.next - 1, t->range.last);
}

static struct seq_range some_range(struct sim *s, const struct lane *lane)
{
    uint64_t near = lane == NULL ? 1 : lane->floor + 1;
    uint64_t first = near + sim_rnd(s, 40);
    uint64_t back = sim_rnd(s, 4);

    first = first > back + 1 ? first - back : 1;
    if (sim_chance(s, 100)) {
        return (struct seq_range) { 1, UINT64_C(1) << 63 };
    }
    return (struct seq_range) { first,
                                first + sim_rnd(s, sim_chance(s, 4) ? 30 : 2) };
}

static uint64_t some_lease(struct sim *s)
{
    uint64_t back = sim_rnd(s, LEASES_KEPT);
    const struct person *p = &s->people[sim_rnd(s, MEMBERS_MAX)];

    if (sim_chance(s, 10)) {
        return 0; /* no claim */
    }
    if (p->member != NULL && !sim_chance(s, 4)) {
        return p->lease;
    }
    return s->next_lease > back + 1 ? s->next_lease - 1 - back : 1;
}

void sim_do_settle(struct sim *s)
{
    static const enum settle_action actions[] = {
        SETTLE_ACK,  SETTLE_ACK,     SETTLE_ACK,    SETTLE_ACK,   SETTLE_NACK,
        SETTLE_NACK, SETTLE_RELEASE, SETTLE_EXTEND, SETTLE_REJECT
    };
    struct lane *lane = sim_some_lane(s);
    char reason[24];
    enum settle_action action = actions[sim_rnd(s, COUNT_OF(actions))];
    struct settlement t = {
        .lease = some_lease(s),
        .topic = lane == NULL ? 999999 : lane->topic,
        .action = s->storm && action == SETTLE_ACK ? SETTLE_NACK : action,
        .range = some_range(s, lane),
        .delay_us = sim_chance(s, 2) ? 0 : 1 + sim_rnd(s, 20 * SECOND),
    };

    (void)snprintf(reason, sizeof reason, "in step %lu", s->step);
    if (sim_chance(s, 2)) {
        t.reason = slice_text(reason);
    }
    sim_settle(s, lane, &t);
}
