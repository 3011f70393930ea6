#include "test/lib/group_sim.h"

/* ---- steps ---- */

static void do_publish(struct sim *s)
{
    struct lane *lane = &s->lanes[sim_rnd(s, LANES_MAX)];
    uint64_t count = 1 + sim_rnd(s, 8);

    if (lane->topic == 0 || sim_total(s, FRESH) > 200) {
        return;
    }
    while (count-- > 0 && lane->end < LANE_END_MAX) {
        lane->end++;
        lane->msgs[lane->end] = (struct msg) { 0 };
        lane->count[FRESH]++;
    }
    group_extend(s->group, lane->topic, lane->end);
}

static void do_new_lane(struct sim *s)
{
    struct lane *lane = sim_lane_of(s, 0);
    struct lane_start start = { .topic = s->next_topic };

    if (lane == NULL) {
        return;
    }
    *lane = (struct lane) { .topic = s->next_topic++, .first = 1 };
    EXPECT(s, group_add_lane(s->group, &start) == STATUS_OK, "lane not added");
}

/* Mostly those that have had their time. */
static void do_drop_lane(struct sim *s)
{
    struct lane *lane = &s->lanes[sim_rnd(s, LANES_MAX)];

    if (lane->topic != 0
        && (lane->floor == LANE_END_MAX || sim_rnd(s, 200) == 0)) {
        group_drop_lane(s->group, lane->topic);
        *lane = (struct lane) { .topic = 0 };
    }
}

static void do_join(struct sim *s)
{
    struct person *p = &s->people[sim_rnd(s, MEMBERS_MAX)];

    if (p->member != NULL) {
        return;
    }
    *p = (struct person) { .lease = s->next_lease++,
                           .credit = sim_rnd(s, 30),
                           .credit_bytes = sim_rnd(s, 5000) };
    EXPECT(s,
           group_join(s->group, p->lease, p->credit, p->credit_bytes, p,
                      &p->member)
               == STATUS_OK,
           "join");
}

static bool is_deleted(const struct lane *lane, const struct msg *m)
{
    return m < lane->msgs + lane->first;
}

static void fail_attempt(struct sim *s, struct lane *lane, struct msg *m,
                         bool at_once, uint64_t delay)
{
    if (is_deleted(lane, m)) {
        sim_become(lane, m, DELETED);
        return;
    }
    m->attempts++;
    sim_expect_retry(s, m, at_once, delay);
    sim_become(lane, m, at_once ? READY : DELAYED);
}

static void do_leave(struct sim *s)
{
    struct person *p = &s->people[sim_rnd(s, MEMBERS_MAX)];

    if (p->member == NULL) {
        return;
    }
    if (sim_rnd(s, 2) == 0) {
        group_retire(s->group, p->member);
        p->member = NULL;
        return;
    }
    group_leave(s->group, p->member);
    p->member = NULL;
    for (size_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1; seq <= lane->end; seq++) {
            struct msg *m = &lane->msgs[seq];
            if (m->state == IN_FLIGHT && m->lease == p->lease) {
                fail_attempt(s, lane, m, true, 0);
            }
        }
    }
}

static void do_credit(struct sim *s)
{
    struct person *p = &s->people[sim_rnd(s, MEMBERS_MAX)];

    if (p->member == NULL) {
        return;
    }
    if (sim_rnd(s, 2) == 0) {
        p->paused = !p->paused;
        member_pause(p->member, p->paused);
        return;
    }
    p->credit = sim_rnd(s, 30);
    p->credit_bytes = sim_rnd(s, 5000);
    member_set_credit(p->member,
                      s->plant == PLANT_LOST_CREDIT ? p->credit + 1 : p->credit,
                      p->credit_bytes);
    s->planted += s->plant == PLANT_LOST_CREDIT;
}

static bool any_due(const struct sim *s)
{
    for (size_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1;
             lane->count[DELAYED] > 0 && seq <= lane->end; seq++) {
            if (lane->msgs[seq].state == DELAYED
                && lane->msgs[seq].due <= s->now) {
                return true;
            }
        }
    }
    return false;
}

/* The group says there is nothing. Is there really? */
static void expect_nothing(struct sim *s)
{
    uint64_t in_flight = sim_total(s, IN_FLIGHT);
    uint64_t waiting = sim_total(s, READY) + sim_total(s, DELAYED);
    bool able = false;

    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        able |= sim_is_able(s, &s->people[i]);
    }
    if (!able || in_flight >= s->in_flight_max) {
        return;
    }
    EXPECT(s, sim_total(s, READY) == 0, "a ready redelivery is not given");
    EXPECT(s, !any_due(s), "a due redelivery is not given");
    EXPECT(s,
           sim_total(s, FRESH) == 0 || in_flight + waiting >= s->in_flight_max,
           "a fresh message is not given");
}

static void check_offer(struct sim *s, const struct offer *o)
{
    struct lane *lane = sim_lane_of(s, o->topic);
    const struct person *p = member_user(o->member);
    const struct msg *m;

    EXPECT(s, o->topic != 0 && lane != NULL, "an offer of no lane");
    EXPECT(s, sim_is_able(s, p), "an offer to one who may not have it");
    if (s->failed) {
        return;
    }
    EXPECT(s, o->seq >= 1 && o->seq <= lane->end, "seq %lu is not durable",
           o->seq);
    m = &lane->msgs[o->seq];
    EXPECT(s, m->state != IN_FLIGHT, "seq %lu is leased to %lu", o->seq,
           m->lease);
    EXPECT(s, !sim_is_settled(m), "seq %lu is settled", o->seq);
    EXPECT(s, m->state != DELAYED || m->due <= s->now, "seq %lu is not due",
           o->seq);
    EXPECT(s, o->attempt == m->attempts + 1, "seq %lu: attempt %u, not %u",
           o->seq, o->attempt, m->attempts + 1);
    EXPECT(s, m->state != FRESH || sim_total(s, READY) == 0,
           "fresh seq %lu before a ready redelivery", o->seq);
}

/* Faults that happen while the group is delivering. */
static bool plant_in_delivery(struct sim *s, const struct offer *o)
{
    struct settlement release = { .topic = o->topic,
                                  .action = SETTLE_RELEASE,
                                  .range = { 1, o->seq } };

    if (s->plant == PLANT_LOST_REDELIVERY && o->attempt > 1
        && sim_rnd(s, 20) == 0) {
        s->planted++;
        group_lost(s->group, o, o->seq);
        return true;
    }
    if (s->plant == PLANT_TWO_HOLDERS && sim_total(s, IN_FLIGHT) > 0
        && sim_rnd(s, 50) == 0) {
        s->planted++;
        (void)!group_settle(s->group, &release, s->now, NULL, NULL);
        return true;
    }
    return false;
}

/* The only group may have half of the table; what waits keeps its places. */
static bool has_room(struct sim *s)
{
    struct inflight_figures f;
    uint64_t own =
        sim_total(s, IN_FLIGHT) + sim_total(s, READY) + sim_total(s, DELAYED);

    inflight_figures(s->inflight, &f);
    return 2 * own < f.heap_count_max;
}

static bool deliver_one(struct sim *s)
{
    struct offer o;
    uint32_t bytes = (uint32_t)sim_rnd(s, 400);
    struct lane *lane;
    struct msg *m;
    enum status status;

    if (!group_next(s->group, s->now, &o)) {
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
    status = group_delivered(s->group, &o, bytes, s->now);
    if (status == STATUS_AGAIN) {
        /* Retries found at a restart may be more than there are places. */
        EXPECT(s, m->state == FRESH || s->restarts > 0,
               "what keeps its place is refused");
        EXPECT(s, !has_room(s) || sim_total(s, IN_FLIGHT) >= s->in_flight_max,
               "a refusal with room");
        s->refused++;
        return false;
    }
    EXPECT(s, status == STATUS_OK, "delivered: status %d", (int)status);
    m->lease = ((const struct person *)member_user(o.member))->lease;
    m->lease_end = s->now + s->lease_us;
    m->bytes = bytes;
    sim_become(lane, m, IN_FLIGHT);
    s->delivered++;
    return true;
}

static void do_deliver(struct sim *s)
{
    uint64_t count = 1 + sim_rnd(s, 20);

    while (!s->failed && count-- > 0 && deliver_one(s)) {
    }
}

/* The store lost some: settled as a gap, but for what somebody has. */
static void do_lose(struct sim *s)
{
    struct offer o;
    struct lane *lane;
    uint64_t last;

    if (sim_rnd(s, 20) != 0 || !group_next(s->group, s->now, &o)) {
        return;
    }
    check_offer(s, &o);
    if (s->failed) {
        return;
    }
    last = o.seq + sim_rnd(s, 4);
    group_lost(s->group, &o, last);
    lane = sim_lane_of(s, o.topic);
    for (uint64_t seq = o.seq; seq <= last && seq <= lane->end; seq++) {
        struct msg *m = &lane->msgs[seq];
        if (!sim_is_settled(m) && m->state != IN_FLIGHT) {
            sim_become(lane, m, GAP);
        }
    }
}

/* The topic keeps less. What somebody has stays with it. */
static void do_trim(struct sim *s)
{
    struct lane *lane = &s->lanes[sim_rnd(s, LANES_MAX)];
    uint64_t first;
    uint64_t hasty;

    if (sim_rnd(s, 10) != 0 || lane->topic == 0) {
        return;
    }
    first = 1 + (lane->floor < 10 ? 0 : lane->floor - 10) + sim_rnd(s, 40);
    first = first > lane->end + 1 ? lane->end + 1 : first;
    hasty = s->plant == PLANT_HASTY_TRIM && first < lane->end ? 1 : 0;
    s->planted += hasty;
    EXPECT(s, group_trim(s->group, lane->topic, first + hasty) == STATUS_OK,
           "trim");
    lane->first = first > lane->first ? first : lane->first;
    for (uint64_t seq = 1; seq < lane->first; seq++) {
        struct msg *m = &lane->msgs[seq];
        if (!sim_is_settled(m) && m->state != IN_FLIGHT) {
            sim_become(lane, m, DELETED);
        }
    }
}

/* ---- settling ---- */

struct answer {
    enum settle_outcome outcome;
    uint64_t holder;
};

static void apply(struct sim *s, struct lane *lane, struct msg *m,
                  const struct settlement *t)
{
    switch (t->action) {
    case SETTLE_ACK:
        sim_become(lane, m, ACKED);
        break;
    case SETTLE_NACK:
        fail_attempt(s, lane, m, false, t->delay_us);
        break;
    case SETTLE_RELEASE:
        sim_become(lane, m, is_deleted(lane, m) ? DELETED : READY);
        break;
    case SETTLE_EXTEND:
        m->lease_end = s->now + (t->delay_us == 0 ? s->lease_us : t->delay_us);
        break;
    case SETTLE_REJECT:
        break;
    }
}

static struct answer model_settle(struct sim *s, struct lane *lane,
                                  uint64_t seq, const struct settlement *t)
{
    struct msg *m;

    if (lane == NULL || seq > lane->end || lane->msgs[seq].state == FRESH) {
        return (struct answer) { OUTCOME_UNKNOWN, 0 };
    }
    m = &lane->msgs[seq];
    if (m->state == IN_FLIGHT && t->lease != 0 && t->lease != m->lease) {
        return (struct answer) { OUTCOME_LATE, m->lease };
    }
    if (m->state == IN_FLIGHT) {
        apply(s, lane, m, t);
    } else if (sim_is_settled(m) && t->action != SETTLE_ACK) {
        return (struct answer) { OUTCOME_LATE, 0 };
    } else if (!sim_is_settled(m) && t->action == SETTLE_EXTEND) {
        return (struct answer) { OUTCOME_LATE, 0 };
    } else if (!sim_is_settled(m) && t->action == SETTLE_ACK) {
        sim_become(lane, m, ACKED);
    }
    return (struct answer) { OUTCOME_ACCEPTED, 0 };
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

    EXPECT(s, range->first == g->next && range->last >= range->first,
           "outcome from %lu, not %lu", range->first, g->next);
    EXPECT(s,
           !g->any || g->previous.outcome != range->outcome
               || g->previous.holder != range->holder,
           "two outcomes that are one at %lu", range->first);
    for (uint64_t seq = range->first;
         !s->failed && seq <= range->last && seq <= end; seq++) {
        struct answer a = model_settle(s, g->lane, seq, g->asked);
        EXPECT(s, a.outcome == range->outcome && a.holder == range->holder,
               "seq %lu: outcome %d holder %lu, not %d %lu", seq,
               (int)range->outcome, range->holder, (int)a.outcome, a.holder);
    }
    EXPECT(s, range->last <= end || range->outcome == OUTCOME_UNKNOWN,
           "what was never published has an outcome");
    g->previous = *range;
    g->any = true;
    g->next = range->last + 1;
}

static struct seq_range some_range(struct sim *s, const struct lane *lane)
{
    uint64_t near = lane == NULL ? 1 : lane->floor + 1;
    uint64_t first = near + sim_rnd(s, 40);
    uint64_t back = sim_rnd(s, 4);

    first = first > back + 1 ? first - back : 1;
    if (sim_rnd(s, 100) == 0) {
        return (struct seq_range) { 1, UINT64_C(1) << 63 };
    }
    return (struct seq_range) {
        first, first + sim_rnd(s, sim_rnd(s, 4) == 0 ? 30 : 2)
    };
}

static uint64_t some_lease(struct sim *s)
{
    uint64_t back = sim_rnd(s, LEASES_KEPT);
    const struct person *p = &s->people[sim_rnd(s, MEMBERS_MAX)];

    if (sim_rnd(s, 10) == 0) {
        return 0; /* no claim */
    }
    if (p->member != NULL && sim_rnd(s, 4) != 0) {
        return p->lease;
    }
    return s->next_lease > back + 1 ? s->next_lease - 1 - back : 1;
}

static void do_settle(struct sim *s)
{
    static const enum settle_action actions[] = { SETTLE_ACK,    SETTLE_ACK,
                                                  SETTLE_ACK,    SETTLE_ACK,
                                                  SETTLE_NACK,   SETTLE_RELEASE,
                                                  SETTLE_EXTEND, SETTLE_ACK };
    struct lane *lane = &s->lanes[sim_rnd(s, LANES_MAX)];
    struct settlement t;
    struct settling g = { .sim = s, .asked = &t };

    lane = lane->topic == 0 ? NULL : lane;
    t = (struct settlement) {
        .lease = some_lease(s),
        .topic = lane == NULL ? 999999 : lane->topic,
        .action = actions[sim_rnd(s, COUNT_OF(actions))],
        .range = some_range(s, lane),
        .delay_us = sim_rnd(s, 2) == 0 ? 0 : 1 + sim_rnd(s, 20 * SECOND),
    };
    g.lane = lane;
    g.next = t.range.first;
    EXPECT(s, group_settle(s->group, &t, s->now, on_outcome, &g) == STATUS_OK,
           "settle");
    EXPECT(s, g.next == t.range.last + 1, "outcomes end at %lu, not %lu",
           g.next - 1, t.range.last);
}

/* ---- time ---- */

static void do_advance(struct sim *s)
{
    static const uint64_t spans[] = { 1000,       100000,      SECOND,
                                      5 * SECOND, 40 * SECOND, 3600 * SECOND };
    uint64_t pick = sim_rnd(s, 100);

    s->now += 1
              + sim_rnd(s, spans[pick < 60   ? pick % 3
                                 : pick < 98 ? 3
                                             : 4 + pick % 2]);
}

static bool has_expired(const struct sim *s, const struct msg *m)
{
    return m->state == IN_FLIGHT
           && s->now / TICK >= (m->lease_end + TICK - 1) / TICK;
}

static void do_tick(struct sim *s)
{
    int rounds = 0;

    while (group_tick(s->group, s->now, 1 + sim_rnd(s, 50))
           && ++rounds < 100000) {
    }
    EXPECT(s, rounds < 100000, "ticking never ends");
    EXPECT(s, group_due_us(s->group) > s->now, "due at once after a tick");
    for (size_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1; seq <= lane->end; seq++) {
            struct msg *m = &lane->msgs[seq];
            if (m->state == DELAYED && m->due <= s->now) {
                sim_become(lane, m, READY);
            } else if (has_expired(s, m)) {
                fail_attempt(s, lane, m, m->attempts == 0, 0);
            }
        }
    }
}

/* ---- crash and restart ---- */

static void restart_lane(struct sim *s, struct lane *lane)
{
    struct seqset acked = { 0 };
    struct seqset gaps = { 0 };
    struct retry *retries = calloc(lane->end + 1, sizeof *retries);
    struct lane_start start = { .topic = lane->topic,
                                .end = lane->end,
                                .first_seq = lane->first,
                                .acked = &acked,
                                .gaps = &gaps,
                                .retries = retries };
    uint64_t end = lane->end;
    uint32_t topic = lane->topic;

    if (s->plant == PLANT_FORGOTTEN_TRIM && lane->first > 1) {
        s->planted++;
        start.first_seq = 0;
    }
    for (size_t i = 0; i < STATES; i++) {
        lane->count[i] = 0;
    }
    for (uint64_t seq = 1; seq <= end; seq++) {
        struct msg *m = &lane->msgs[seq];
        bool settled = m->kept_state != FRESH;
        m->state = settled                ? m->kept_state
                   : seq < lane->first    ? DELETED
                   : m->kept_attempts > 0 ? DELAYED
                                          : FRESH;
        m->attempts = m->kept_attempts;
        m->due = m->kept_due;
        m->retry_expected = false;
        lane->count[m->state]++;
        if (settled && s->plant == PLANT_FORGOTTEN_ACK && sim_rnd(s, 50) == 0) {
            s->planted++;
            settled = false;
        }
        if (settled) {
            CHECK(seqset_add(&acked, seq, seq, NULL) == STATUS_OK);
        }
        if (m->kept_state == GAP) {
            CHECK(seqset_add(&gaps, seq, seq, NULL) == STATUS_OK);
        }
        if (!settled && m->attempts > 0) {
            bool wrong =
                s->plant == PLANT_WRONG_ATTEMPTS && m->state == DELAYED;
            s->planted += wrong;
            retries[start.retry_count++] =
                (struct retry) { seq, m->attempts - (wrong ? 1 : 0), m->due };
        }
    }
    lane->floor = 0;
    while (lane->floor < end && sim_is_settled(&lane->msgs[lane->floor + 1])) {
        lane->floor++;
    }
    EXPECT(s, group_add_lane(s->group, &start) == STATUS_OK, "lane %u again",
           topic);
    seqset_fini(&acked);
    seqset_fini(&gaps);
    free(retries);
}

static void close_group(struct sim *s)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (s->people[i].member != NULL) {
            group_leave(s->group, s->people[i].member);
            s->people[i].member = NULL;
        }
    }
    group_free(s->group);
    inflight_free(s->inflight);
}

static void open_group(struct sim *s)
{
    s->inflight = inflight_new(&(struct inflight_config) {
        .heap_bytes = 2000 + sim_rnd(s, 24 * 1024), .now_us = s->now });
    s->group =
        group_new(&(struct group_config) { .id = 3,
                                           .lease_us = s->lease_us,
                                           .in_flight_max = s->in_flight_max,
                                           .seed = s->seed,
                                           .inflight = s->inflight });
    EXPECT(s, s->group != NULL, "no group");
}

static void do_restart(struct sim *s)
{
    if (sim_rnd(s, 20) != 0) {
        return;
    }
    s->restarts++;
    sim_sync_log(s, sim_rnd(s, s->log_count + 1));
    s->log_count = 0; /* the rest was never synced */
    close_group(s);
    open_group(s);
    for (size_t i = 0; i < LANES_MAX; i++) {
        if (s->lanes[i].topic != 0) {
            restart_lane(s, &s->lanes[i]);
        }
    }
}

/* ---- after each step ---- */

static void check_lane(struct sim *s, const struct lane *lane)
{
    struct lane_books b;

    EXPECT(s, group_books(s->group, lane->topic, &b), "no books");
    if (s->failed) {
        return;
    }
    EXPECT(s,
           b.published == lane->end && b.acked == lane->count[ACKED]
               && b.gap == lane->count[GAP] && b.deleted == lane->count[DELETED]
               && b.in_flight == lane->count[IN_FLIGHT]
               && b.ready + b.delayed
                      == lane->count[FRESH] + lane->count[READY]
                             + lane->count[DELAYED],
           "books of topic %u differ from the model's", lane->topic);
    EXPECT(s,
           b.published
               == b.acked + b.gap + b.deleted + b.ready + b.delayed
                      + b.in_flight,
           "books of topic %u do not balance", lane->topic);
    EXPECT(s, group_audit(s->group, lane->topic),
           "books of topic %u are not what is there", lane->topic);
}

static void check_no_retry_is_owed(struct sim *s, const struct lane *lane)
{
    for (uint64_t seq = lane->floor + 1; seq <= lane->end; seq++) {
        EXPECT(s, !lane->msgs[seq].retry_expected,
               "the log was not told that seq %lu failed", seq);
    }
}

static void check(struct sim *s)
{
    group_take_effects(s->group, sim_on_effects, s);
    for (size_t i = 0; !s->failed && i < LANES_MAX; i++) {
        if (s->lanes[i].topic != 0) {
            check_lane(s, &s->lanes[i]);
            check_no_retry_is_owed(s, &s->lanes[i]);
        }
    }
    if (s->log_count > LOG_MAX / 2 || sim_rnd(s, 50) == 0) {
        sim_sync_log(s, s->log_count);
    }
}

static void step(struct sim *s)
{
    static void (*const steps[])(struct sim *) = {
        do_publish, do_publish,  do_publish,   do_deliver, do_deliver,
        do_deliver, do_deliver,  do_settle,    do_settle,  do_settle,
        do_settle,  do_settle,   do_settle,    do_settle,  do_settle,
        do_settle,  do_settle,   do_settle,    do_settle,  do_advance,
        do_advance, do_tick,     do_tick,      do_join,    do_leave,
        do_credit,  do_new_lane, do_drop_lane, do_lose,    do_restart,
        do_trim,
    };

    s->step++;
    steps[sim_rnd(s, COUNT_OF(steps))](s);
    check(s);
}

/* With one willing member and time everything is delivered and acked. */
static void drain(struct sim *s)
{
    struct person *p = &s->people[0];
    uint64_t rounds = 0;

    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (s->people[i].member != NULL) {
            group_retire(s->group, s->people[i].member);
            s->people[i].member = NULL;
        }
    }
    *p = (struct person) { .lease = s->next_lease++,
                           .credit = 10,
                           .credit_bytes = 100000 };
    CHECK(group_join(s->group, p->lease, 10, 100000, p, &p->member)
          == STATUS_OK);
    while (!s->failed
           && sim_total(s, FRESH) + sim_total(s, READY) + sim_total(s, DELAYED)
                      + sim_total(s, IN_FLIGHT)
                  > 0) {
        uint64_t due;
        while (!s->failed && deliver_one(s)) {
        }
        for (size_t i = 0; i < LANES_MAX; i++) {
            struct lane *lane = &s->lanes[i];
            struct settlement t = { .lease = p->lease,
                                    .topic = lane->topic,
                                    .action = SETTLE_ACK,
                                    .range = { 1, lane->end } };
            struct settling g = {
                .sim = s, .lane = lane, .asked = &t, .next = 1
            };
            if (lane->end > 0) {
                (void)!group_settle(s->group, &t, s->now, on_outcome, &g);
            }
        }
        check(s);
        due = group_due_us(s->group);
        s->now = due != UINT64_MAX && due > s->now ? due : s->now;
        do_tick(s);
        check(s);
        EXPECT(s, ++rounds < 100000, "not all is delivered in the end");
    }
}

bool sim_run(struct sim *s, uint64_t seed, uint64_t steps, enum plant plant)
{
    *s = (struct sim) { .seed = seed,
                        .random = seed,
                        .steps = steps,
                        .plant = plant,
                        .now = 1000 * SECOND,
                        .next_topic = 1,
                        .next_lease = 1 };
    s->lanes = calloc(LANES_MAX, sizeof *s->lanes);
    s->log = calloc(LOG_MAX, sizeof *s->log);
    s->in_flight_max = 5 + sim_rnd(s, 200);
    s->lease_us = 100000 + sim_rnd(s, 30 * SECOND);
    open_group(s);
    while (!s->failed && s->step < steps) {
        step(s);
    }
    if (!s->failed) {
        drain(s);
    }
    close_group(s);
    free(s->lanes);
    free(s->log);
    return !s->failed;
}
