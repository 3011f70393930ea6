#include "test/lib/group_sim.h"

/* ---- nothing comes: was there really nothing? ---- */

/* Does the quota, the breaker or an untold log hold it back by right? */
static bool is_held_back(struct sim *s)
{
    struct standing held;

    group_held_by(s->group, s->now, &held);
    sim_hear(s, held.gate, held.since_us, held.until_us);
    sim_trace(s, "nothing comes: %s", gate_word(held.gate));
    s->broken += held.gate == GATE_BREAKER;
    if (held.gate == GATE_BREAKER) {
        EXPECT(s, held.until_us <= s->now + BREAKER_TRIAL_US + TICK,
               "the breaker's next try is at %lu", held.until_us);
    }
    return held.gate == GATE_BREAKER || s->deaf || sim_is_ending(s)
           || (held.gate == GATE_QUOTA && !s->roomy
               && (s->few_keys || !sim_has_room(s)))
           || sim_count_aside(s, WAITING) + sim_count_aside(s, IN_FLIGHT) > 0;
}

static bool must_come(const struct sim *s, const struct lane *lane,
                      const struct msg *m, bool fresh_too)
{
    if (m->state == FRESH) {
        return fresh_too;
    }
    return sim_is_ready(s, m) && !sim_is_blocked(s, lane, m)
           && (!m->revived || fresh_too);
}

static void expect_nothing(struct sim *s)
{
    uint64_t in_flight = sim_total(s, IN_FLIGHT);
    uint64_t most = s->rules.in_flight_max;
    bool fresh_too = in_flight + sim_total(s, WAITING) < most;

    if (s->rules.paused || !sim_any_able(s) || in_flight >= most
        || is_held_back(s)) {
        return;
    }
    for (size_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1;
             lane->topic != 0 && seq <= lane->end; seq++) {
            EXPECT(s, !must_come(s, lane, &lane->msgs[seq], fresh_too),
                   "topic %u seq %lu is %s, and not given", lane->topic, seq,
                   lane->msgs[seq].state == FRESH ? "fresh" : "ready");
        }
    }
}

/* ---- something comes: may it? ---- */

static void check_member(struct sim *s, const struct offer *o)
{
    const struct person *p = member_user(o->member);

    EXPECT(s, !s->rules.paused, "a paused group gives");
    EXPECT(s, sim_is_able(s, p), "an offer to one who may not have it");
    EXPECT(s, s->rules.mode != MODE_EXCLUSIVE || p == sim_first_joined(s),
           "an offer to one who stands by");
}

static void check_offer(struct sim *s, const struct offer *o)
{
    struct lane *lane = sim_lane_of(s, o->topic);
    const struct msg *m;

    EXPECT(s, o->topic != 0 && lane != NULL, "an offer of no lane");
    check_member(s, o);
    if (s->failed) {
        return;
    }
    EXPECT(s, o->lane_user == lane, "an offer with another lane's user");
    EXPECT(s, o->seq >= 1 && o->seq <= lane->end, "seq %lu is not durable",
           o->seq);
    if (s->failed) {
        return;
    }
    m = &lane->msgs[o->seq];
    EXPECT(s, m->state != IN_FLIGHT, "seq %lu is leased to %lu", o->seq,
           m->lease);
    EXPECT(s, m->state != DEAD, "seq %lu is dead", o->seq);
    EXPECT(s, !sim_is_settled(m), "seq %lu is settled", o->seq);
    EXPECT(s, !sim_is_delayed(s, m) || m->revived,
           "seq %lu is not due before %lu", o->seq, m->due_min);
    EXPECT(s, o->attempt == m->attempts + 1, "seq %lu: attempt %u, not %u",
           o->seq, o->attempt, m->attempts + 1);
}

/* They wait after a delivery. */
static uint64_t came_back(const struct sim *s)
{
    uint64_t count = 0;

    for (size_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1;
             lane->topic != 0 && seq <= lane->end; seq++) {
            const struct msg *m = &lane->msgs[seq];
            count +=
                m->state == WAITING && m->given && !m->redriven && !m->revived;
        }
    }
    return count;
}

static void check_delivery(struct sim *s, const struct lane *lane,
                           const struct msg *m)
{
    uint64_t seq = sim_seq(lane, m);
    const struct msg *before = sim_before_it(s, lane, m);

    EXPECT(s, before == NULL || m->stray,
           "topic %u seq %lu overtakes seq %lu of its key", lane->topic, seq,
           before == NULL ? 0 : sim_seq(lane, before));
    EXPECT(s, !sim_is_delayed(s, m), "seq %lu is not due again before %lu", seq,
           m->due_min);
    EXPECT(s, !m->filtered, "seq %lu does not pass the filter", seq);
    EXPECT(s, m->due_facts <= s->now, "seq %lu is not due before %lu", seq,
           m->due_facts);
    EXPECT(s, m->expires == 0 || s->now < m->expires, "seq %lu has expired",
           seq);
    EXPECT(s, sim_total(s, IN_FLIGHT) < s->rules.in_flight_max,
           "more in flight than the rules say");
    EXPECT(s,
           m->state != FRESH
               || sim_total(s, IN_FLIGHT) + came_back(s)
                      < s->rules.in_flight_max,
           "fresh seq %lu beyond the quota", seq);
}

/* One that nobody was free for in the time of a lease is given all the same. */
static void check_aside(struct sim *s, const struct msg *given, uint64_t lease)
{
    bool waited = given->due_max + s->lease_least <= s->now;

    for (size_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1;
             lane->topic != 0 && seq <= lane->end; seq++) {
            const struct msg *m = &lane->msgs[seq];
            bool held = m->state == IN_FLIGHT && m->lease == lease;
            EXPECT(s, !held || !sim_is_aside(given) || waited,
                   "one that is set aside comes to %lu, who holds seq %lu",
                   lease, seq);
            EXPECT(s, !held || !sim_is_aside(m),
                   "%lu holds seq %lu, which is set aside, and gets more",
                   lease, seq);
        }
    }
}

/* While fresh messages are ready at most half of all are redeliveries. */
static void check_share(struct sim *s, const struct msg *m)
{
    uint64_t open = sim_total(s, IN_FLIGHT) + sim_total(s, WAITING);

    if (sim_total(s, FRESH) == 0 || open >= s->rules.in_flight_max
        || sim_is_ending(s)) {
        s->again_run = 0;
    } else if (sim_is_aside(m)) {
        return;
    } else if (m->state != FRESH && m->given && !m->revived) {
        s->again_run++;
    } else if (s->again_run > 0) {
        s->again_run--;
    }
    EXPECT(s, s->again_run <= REDO_BURST + 2,
           "redeliveries alone, and %lu fresh messages wait, %lu of %zu open",
           sim_total(s, FRESH), open, s->rules.in_flight_max);
}

/* ---- what became of it ---- */

static void on_delivered(struct sim *s, struct lane *lane, struct msg *m,
                         const struct offer *o)
{
    struct person *p = member_user(o->member);

    check_delivery(s, lane, m);
    check_share(s, m);
    check_aside(s, m, p->lease);
    s->aside += sim_is_aside(m);
    m->revived = false;
    s->delivered++;
    s->redelivered += m->attempts > 0;
    m->lease = p->lease;
    m->lease_began = s->now;
    m->lease_end = s->now + s->rules.lease_us;
    m->noticed = false;
    m->old_rules = false;
    m->given = true;
    m->has_key = m->has_key || (s->rules.mode == MODE_ORDERED && m->key != 0);
    m->stray = !m->has_key; /* should the group be ordered from now on */
    sim_become(lane, m, IN_FLIGHT);
}

/* It takes its place in line with its key when it is due. */
static void on_not_due(struct lane *lane, struct msg *m)
{
    m->due_min = m->due_facts;
    m->due_max = m->due_facts;
    m->stray = true;
    sim_become(lane, m, WAITING);
}

/* Somebody before it in its key's order was not looked at yet: it was open when
 * the group became ordered. */
static bool is_behind_fresh(const struct lane *lane, const struct msg *m)
{
    for (const struct msg *other = lane->msgs + 1; other < m; other++) {
        if (other->key == m->key && other->state == FRESH) {
            return true;
        }
    }
    return false;
}

/* Behind the one that has its key. */
static void on_behind(struct lane *lane, struct msg *m)
{
    bool redriven = m->redriven;

    if (!m->revived) {
        m->due_min = 0;
        m->due_max = 0;
    }
    m->stray = m->stray && is_behind_fresh(lane, m);
    m->ends = 0; /* its key says when it comes, and to whom */
    sim_become(lane, m, WAITING);
    m->redriven = redriven;
}

static void on_passed(struct sim *s, struct lane *lane, struct msg *m)
{
    s->passed++;
    if (m->expires != 0 && s->now >= m->expires) {
        s->expired++;
        sim_become(lane, m, EXPIRED);
    } else if (m->filtered) {
        sim_become(lane, m, FILTERED);
    } else if (m->due_facts > s->now) {
        on_not_due(lane, m);
    } else if (s->rules.mode == MODE_ORDERED && sim_is_blocked(s, lane, m)
               && (m->due_min <= s->now || sim_before_it(s, lane, m) != NULL)) {
        on_behind(lane, m);
    } else if (m->revived && m->due_min > s->now) {
        m->revived = false; /* it waits for its time now, and has its key */
        m->has_key = s->rules.mode == MODE_ORDERED && m->key != 0;
    } else {
        struct standing w;
        sim_explain(s, lane, sim_seq(lane, m), &w);
        sim_fail(s, "topic %u seq %lu is passed by for no reason: %s %lu",
                 lane->topic, sim_seq(lane, m), gate_word(w.gate), w.other_seq);
    }
}

static void on_again(struct sim *s, const struct msg *m)
{
    s->refused++;
    EXPECT(s, s->few_keys || (!sim_has_room(s) && !s->roomy),
           "seq %s is refused with room",
           m->state == FRESH ? "fresh" : "again");
}

/* ---- faults ---- */

static void plant_facts(struct sim *s, struct message_facts *f)
{
    if (f->key_hash != 0 && sim_plant(s, PLANT_MIXED_KEYS, 10)) {
        f->key_hash = 0;
    }
    if (f->due_us > s->now && sim_plant(s, PLANT_EARLY, 5)) {
        f->due_us = 0;
    }
    if (f->expires_us != 0 && f->expires_us <= s->now
        && sim_plant(s, PLANT_NO_TTL, 2)) {
        f->expires_us = 0;
    }
    if (f->filtered && sim_plant(s, PLANT_FILTER_OFF, 5)) {
        f->filtered = false;
    }
}

/* Faults that happen while the group is delivering. */
static bool plant_in_delivery(struct sim *s, const struct offer *o)
{
    struct settlement release = { .topic = o->topic,
                                  .action = SETTLE_RELEASE,
                                  .range = { 1, o->seq } };

    if (o->attempt > 1 && sim_plant(s, PLANT_LOST_REDELIVERY, 20)) {
        group_lost(s->group, o, o->seq);
        return true;
    }
    if (sim_total(s, IN_FLIGHT) > 0 && sim_plant(s, PLANT_TWO_HOLDERS, 50)) {
        (void)!group_settle(s->group, &release, s->now, NULL, NULL);
        return true;
    }
    return false;
}

/* ---- the steps ---- */

static const char *take_word(enum take take)
{
    return take == TAKE_DELIVERED ? "delivered"
           : take == TAKE_PASSED  ? "passed"
                                  : "again";
}

static enum take take(struct sim *s, const struct offer *o, const struct msg *m)
{
    struct message_facts facts = {
        .bytes = m->bytes,
        .key_hash = s->rules.mode != MODE_ORDERED || m->key == 0
                        ? 0
                        : m->key * UINT64_C(0x9e3779b97f4a7c15),
        .due_us = m->due_facts,
        .expires_us = m->expires,
        .filtered = m->filtered,
    };
    enum take answer;

    plant_facts(s, &facts);
    answer = group_take(s->group, o, &facts, s->now);
    sim_hear(s, (uint64_t)o->topic << 32 | o->attempt, o->seq, answer);
    sim_trace(s, "offer of %u/%lu attempt %u key %u to %lu%s: %s", o->topic,
              o->seq, o->attempt, m->key,
              ((const struct person *)member_user(o->member))->lease,
              sim_is_aside(m) ? ", set aside" : "", take_word(answer));
    return answer;
}

bool sim_deliver_one(struct sim *s)
{
    struct offer o;
    struct lane *lane;
    struct msg *m;

    if (!group_next(s->group, s->now, &o)
        || sim_plant(s, PLANT_WITHHELD, 100)) {
        expect_nothing(s);
        return false;
    }
    if (plant_in_delivery(s, &o)) {
        return true;
    }
    check_offer(s, &o);
    if (s->failed) {
        return false;
    }
    lane = sim_lane_of(s, o.topic);
    m = &lane->msgs[o.seq];
    switch (take(s, &o, m)) {
    case TAKE_DELIVERED:
        on_delivered(s, lane, m, &o);
        return true;
    case TAKE_PASSED:
        on_passed(s, lane, m);
        return true;
    case TAKE_AGAIN:
        on_again(s, m);
        return false;
    }
    return false;
}

void sim_do_deliver(struct sim *s)
{
    uint64_t count = 1 + sim_rnd(s, 20);

    while (!s->failed && count-- > 0 && sim_deliver_one(s)) {
    }
}

/* The store lost some: settled as a gap, but for what somebody has, and what
 * is dead. */
void sim_do_lose(struct sim *s)
{
    struct offer o;
    struct lane *lane;
    uint64_t last;

    if (!sim_chance(s, 20) || !group_next(s->group, s->now, &o)) {
        return;
    }
    check_offer(s, &o);
    if (s->failed) {
        return;
    }
    last = o.seq + sim_rnd(s, 4);
    sim_trace(s, "%u/%lu..%lu are lost", o.topic, o.seq, last);
    group_lost(s->group, &o, last);
    lane = sim_lane_of(s, o.topic);
    for (uint64_t seq = o.seq; seq <= last && seq <= lane->end; seq++) {
        struct msg *m = &lane->msgs[seq];
        if (!sim_is_settled(m) && m->state != IN_FLIGHT && m->state != DEAD) {
            sim_become(lane, m, GAP);
        }
    }
}
