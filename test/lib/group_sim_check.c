#include "test/lib/group_sim.h"

/* ---- the books ---- */

static bool settled_agree(const struct lane_books *b, const struct lane *lane)
{
    return b->acked == lane->count[ACKED] && b->dead == lane->count[DEAD]
           && b->expired == lane->count[EXPIRED]
           && b->filtered == lane->count[FILTERED] && b->gap == lane->count[GAP]
           && b->deleted == lane->count[DELETED];
}

static uint64_t published(const struct lane *lane)
{
    uint64_t count = 0;

    for (size_t i = 0; i < STATES; i++) {
        count += lane->count[i];
    }
    return count;
}

static void say_books(struct sim *s, const struct lane *lane,
                      const struct lane_books *b)
{
    const uint64_t *c = lane->count;

    sim_fail(s,
             "books of topic %u: published %lu acked %lu dead %lu expired %lu "
             "deleted %lu filtered %lu gap %lu ready %lu delayed %lu in flight "
             "%lu; the model has %lu %lu %lu %lu %lu %lu %lu %lu+%lu %lu",
             lane->topic, b->published, b->acked, b->dead, b->expired,
             b->deleted, b->filtered, b->gap, b->ready, b->delayed,
             b->in_flight, published(lane), c[ACKED], c[DEAD], c[EXPIRED],
             c[DELETED], c[FILTERED], c[GAP], c[FRESH], c[WAITING],
             c[IN_FLIGHT]);
}

/* What waits is ready or delayed, as the time says; in between, either. */
static bool delayed_agree(const struct sim *s, const struct lane *lane,
                          uint64_t delayed)
{
    uint64_t least = 0;
    uint64_t most = 0;

    for (uint64_t seq = lane->floor + 1; seq <= lane->end; seq++) {
        const struct msg *m = &lane->msgs[seq];
        least += sim_is_delayed(s, m) && !m->revived;
        most += m->state == WAITING && !sim_is_ready(s, m);
    }
    return delayed >= least && delayed <= most;
}

static void check_books(struct sim *s, const struct lane *lane)
{
    struct lane_books b;

    EXPECT(s, group_books(s->group, lane->topic, &b), "no books");
    if (s->failed) {
        return;
    }
    if (!settled_agree(&b, lane) || b.published != published(lane)
        || b.in_flight != lane->count[IN_FLIGHT]
        || b.ready + b.delayed != lane->count[FRESH] + lane->count[WAITING]) {
        say_books(s, lane, &b);
    }
    EXPECT(s, delayed_agree(s, lane, b.delayed), "topic %u: %lu are delayed",
           lane->topic, b.delayed);
    EXPECT(s, lane_books_balance(&b), "books of topic %u do not balance",
           lane->topic);
    EXPECT(s, group_audit(s->group, lane->topic),
           "books of topic %u are not what is there", lane->topic);
    sim_hear(s, b.acked, b.dead, b.expired);
    sim_hear(s, b.deleted, b.filtered, b.gap);
}

/* ---- the log knows all ---- */

/* What the log would say of the message. */
static enum state written_state(const struct lane *lane, const struct msg *m)
{
    if (sim_is_lost(lane, m) && sim_is_settled(m)) {
        return m->told.state; /* the log knows it by where the topic begins */
    }
    /* Redriven between a seek and the trim that the log was told of first: it
     * takes what is below the seek for settled. Nobody is owed it any more. */
    if (sim_is_lost(lane, m) && lane->sought && m->told.state == ACKED) {
        return ACKED;
    }
    return m->state == WAITING || m->state == IN_FLIGHT ? FRESH : m->state;
}

static void check_told(struct sim *s, const struct lane *lane)
{
    for (uint64_t seq = 1; !s->failed && seq <= lane->end; seq++) {
        const struct msg *m = &lane->msgs[seq];
        EXPECT(s, m->owed_count == 0,
               "the log was not told that seq %lu failed", seq);
        EXPECT(s, m->told.state == written_state(lane, m),
               "topic %u seq %lu: state %d, and the log has %d", lane->topic,
               seq, (int)m->state, (int)m->told.state);
        EXPECT(s,
               (m->state != WAITING && m->state != IN_FLIGHT)
                   || m->told.attempts == m->attempts,
               "topic %u seq %lu: %u attempts, and the log has %u", lane->topic,
               seq, m->attempts, m->told.attempts);
    }
}

/* ---- the dead ---- */

static void check_dead(struct sim *s, const struct lane *lane)
{
    struct seq_range found[8];
    uint64_t seq = 1 + sim_rnd(s, lane->end + 1);
    size_t count = group_dead(s->group, lane->topic, seq, found, 8);
    uint64_t end = count == COUNT_OF(found) ? found[7].last : lane->end;

    EXPECT(s, count <= COUNT_OF(found), "too many of the dead");
    for (size_t i = 0; !s->failed && seq <= end; seq++) {
        bool listed;
        while (i < count && found[i].last < seq) {
            i++;
        }
        listed = i < count && found[i].first <= seq;
        EXPECT(s, listed == (lane->msgs[seq].state == DEAD),
               "topic %u seq %lu is %s the dead", lane->topic, seq,
               listed ? "among" : "not among");
    }
}

/* ---- why ---- */

void sim_explain(struct sim *s, const struct lane *lane, uint64_t seq,
                 struct standing *out)
{
    uint64_t key = seq >= 1 && seq <= lane->end ? lane->msgs[seq].key : 0;

    *out = (struct standing) { 0 };
    group_explain(s->group, lane->topic, seq,
                  s->rules.mode != MODE_ORDERED || key == 0
                      ? 0
                      : key * UINT64_C(0x9e3779b97f4a7c15),
                  s->now, out);
    sim_hear(s, out->gate, out->attempts, out->holder);
}

static bool is_group_gate(enum gate gate)
{
    return gate == GATE_PAUSED || gate == GATE_NO_SUBSCRIBER
           || gate == GATE_NO_CREDIT || gate == GATE_QUOTA
           || gate == GATE_BREAKER;
}

static bool waiting_agrees(const struct sim *s, const struct lane *lane,
                           const struct msg *m, const struct standing *w)
{
    bool ready_too = !sim_is_delayed(s, m) || m->revived;
    bool delayed_too = !sim_is_ready(s, m);

    if (w->attempts != m->attempts) {
        return false;
    }
    if (w->gate == GATE_BACKOFF || w->gate == GATE_NOT_DUE) {
        return delayed_too && w->until_us >= m->due_min
               && w->until_us <= m->due_max;
    }
    if (w->gate == GATE_KEY_BUSY) {
        return sim_is_blocked(s, lane, m) || w->other_seq == 0;
    }
    return ready_too
           && (w->gate == GATE_NONE || w->gate == GATE_BEHIND
               || is_group_gate(w->gate));
}

static bool settled_agrees(const struct lane *lane, const struct msg *m,
                           enum gate gate)
{
    if (sim_seq(lane, m) <= lane->after) {
        return gate == GATE_NOT_TAKEN
               || (m->counted && (gate == GATE_ACKED || gate == GATE_DELETED));
    }
    return gate == GATE_ACKED || (gate == GATE_GAP && m->state == GAP)
           || (gate == GATE_EXPIRED && m->state == EXPIRED)
           || (gate == GATE_DELETED
               && (sim_is_lost(lane, m) || m->state == DELETED));
}

static bool agrees(const struct sim *s, const struct lane *lane,
                   const struct msg *m, const struct standing *w)
{
    switch (m->state) {
    case FRESH:
        return w->gate == GATE_BEHIND || w->gate == GATE_NONE
               || w->gate == GATE_KEY_BUSY || is_group_gate(w->gate);
    case WAITING:
        return waiting_agrees(s, lane, m, w);
    case IN_FLIGHT:
        return w->gate == GATE_LEASED && w->holder == m->lease
               && w->until_us == m->lease_end && w->attempts == m->attempts;
    case DEAD:
        return w->gate == GATE_DEAD;
    case EXPIRED:
    case GAP:
    case ACKED:
    case FILTERED:
    case DELETED:
        return settled_agrees(lane, m, w->gate);
    case STATES:
        break;
    }
    return false;
}

static void check_one_standing(struct sim *s, const struct lane *lane)
{
    uint64_t seq = 1 + lane->floor + sim_rnd(s, lane->end - lane->floor + 2);
    struct standing w;

    sim_explain(s, lane, seq, &w);
    if (seq > lane->end) {
        EXPECT(s, w.gate == GATE_NOT_DURABLE, "seq %lu beyond the end is %s",
               seq, gate_word(w.gate));
        return;
    }
    EXPECT(s, agrees(s, lane, &lane->msgs[seq], &w),
           "topic %u seq %lu in state %d: explained as %s until %lu by %lu "
           "after %u",
           lane->topic, seq, (int)lane->msgs[seq].state, gate_word(w.gate),
           w.until_us, w.holder, w.attempts);
}

/* What holds the group is what the model knows, or what only the group does. */
static void check_group_standing(struct sim *s)
{
    struct standing w = { 0 };
    uint64_t in_flight = sim_total(s, IN_FLIGHT);

    group_held_by(s->group, s->now, &w);
    if (w.gate == GATE_NO_CREDIT && sim_any_able(s)) {
        /* Who is kept free is looked at with the next offer. */
        struct offer offer;
        (void)group_next(s->group, s->now, &offer);
        group_held_by(s->group, s->now, &w);
    }
    if (s->rules.paused) {
        EXPECT(s, w.gate == GATE_PAUSED, "a paused group is %s",
               gate_word(w.gate));
    } else if (sim_joined(s) == 0) {
        EXPECT(s, w.gate == GATE_NO_SUBSCRIBER || w.gate == GATE_QUOTA,
               "a lonely group is %s", gate_word(w.gate));
    } else if (!sim_any_able(s)) {
        EXPECT(s,
               w.gate == GATE_NO_CREDIT || w.gate == GATE_QUOTA
                   || w.gate == GATE_BREAKER,
               "a group of the unable is %s", gate_word(w.gate));
    } else {
        EXPECT(s,
               w.gate == GATE_NONE || w.gate == GATE_QUOTA
                   || w.gate == GATE_BREAKER
                   || (w.gate == GATE_NO_CREDIT
                       && (sim_is_ending(s)
                           || sim_count_aside(s, IN_FLIGHT)
                                      + sim_count_aside(s, WAITING)
                                  > 0)),
               "an able group is %s (mode %d)", gate_word(w.gate),
               (int)s->rules.mode);
        EXPECT(s, w.gate != GATE_NONE || in_flight < s->rules.in_flight_max,
               "a full group is held by nothing");
    }
}

/* ---- all of it ---- */

static bool is_all_told(const struct sim *s)
{
    return !group_has_effects(s->group);
}

void sim_check(struct sim *s)
{
    sim_take_effects(s);
    for (size_t i = 0; !s->failed && i < LANES_MAX; i++) {
        const struct lane *lane = &s->lanes[i];
        if (lane->topic == 0) {
            continue;
        }
        check_books(s, lane);
        if (!s->failed && is_all_told(s)) {
            check_told(s, lane);
        }
        if (!s->failed && s->step % 8 == 0) {
            check_dead(s, lane);
        }
        if (!s->failed) {
            check_one_standing(s, lane);
        }
    }
    if (!s->failed) {
        check_group_standing(s);
    }
    if (s->log_count > 2048 || sim_chance(s, 50)) {
        sim_sync_log(s, s->log_count);
    }
}
