#include "test/lib/group_sim.h"

/* ---- publishers ---- */

void sim_do_publish(struct sim *s)
{
    struct lane *lane = sim_some_lane(s);
    uint64_t count = 1 + sim_rnd(s, 8);

    if (lane == NULL || sim_total(s, FRESH) > 200) {
        return;
    }
    while (count-- > 0 && lane->end < LANE_END_MAX) {
        sim_publish_one(s, lane);
    }
    sim_trace(s, "topic %u ends at %lu", lane->topic, lane->end);
    group_extend(s->group, lane->topic, lane->end);
}

/* Some of it may have been there before the group. */
static void begin_lane(struct sim *s, struct lane *lane,
                       struct lane_start *start)
{
    uint64_t end = sim_chance(s, 2) ? 0 : sim_rnd(s, 20);

    while (lane->end < end) {
        sim_publish_one(s, lane);
    }
    lane->after = sim_chance(s, 2) ? 0 : sim_rnd(s, end + 1);
    lane->kept_after = lane->after;
    for (uint64_t seq = 1; seq <= lane->after; seq++) {
        struct msg *m = &lane->msgs[seq];
        m->counted = false;
        m->state = ACKED;
        m->told.state = ACKED;
        m->kept.state = ACKED;
    }
    sim_recount(lane);
    start->end = lane->end;
    start->after = lane->after;
    start->user = lane;
}

/* A new group is told what it is too late for. */
static void skip(struct sim *s, struct lane *lane)
{
    uint64_t last = sim_rnd(s, lane->end + 1);

    if (last == 0 || !sim_chance(s, 4)) {
        return;
    }
    sim_trace(s, "topic %u: skip %lu", lane->topic, last);
    EXPECT(s,
           group_skip(s->group, lane->topic, (struct seq_range) { 1, last })
               == STATUS_OK,
           "skip");
    for (uint64_t seq = 1; seq <= last; seq++) {
        if (lane->msgs[seq].state == FRESH) {
            sim_become(lane, &lane->msgs[seq], ACKED);
        }
    }
}

void sim_do_new_lane(struct sim *s)
{
    struct lane *lane = sim_lane_of(s, 0);
    struct lane_start start = { .topic = s->next_topic };
    struct msg *msgs;

    if (lane == NULL) {
        return;
    }
    msgs = lane->msgs;
    *lane =
        (struct lane) { .topic = s->next_topic++, .first = 1, .msgs = msgs };
    begin_lane(s, lane, &start);
    sim_trace(s, "topic %u begins: 1..%lu, after %lu", lane->topic, lane->end,
              lane->after);
    EXPECT(s, group_add_lane(s->group, &start) == STATUS_OK, "lane not added");
    skip(s, lane);
}

/* As in turns that have few looks left, if any. */
static size_t *some_looks(struct sim *s, size_t *looks)
{
    *looks = sim_rnd(s, 40);
    return sim_chance(s, 3) ? NULL : looks;
}

/* Mostly those that have had their time. */
void sim_do_drop_lane(struct sim *s)
{
    struct lane *lane = sim_some_lane(s);
    bool was_ending = sim_is_ending(s);
    size_t looks;

    if (lane != NULL && (lane->floor == LANE_END_MAX || sim_chance(s, 200))) {
        sim_trace(s, "topic %u is gone", lane->topic);
        group_drop_lane(s->group, lane->topic, some_looks(s, &looks));
        lane->topic = 0;
        s->long_drops += !was_ending && sim_is_ending(s);
    }
}

/* As turns do that have few looks left. */
static enum status trim_in_bits(struct sim *s, const struct lane *lane,
                                uint64_t first)
{
    enum status status;

    do {
        size_t looks = 1 + sim_rnd(s, 40);
        size_t *budget = sim_chance(s, 2) ? &looks : NULL;

        status = group_trim(s->group, lane->topic, first, budget);
    } while (status == STATUS_AGAIN);
    return status;
}

/* The topic keeps less. What somebody has stays with it. */
void sim_do_trim(struct sim *s)
{
    struct lane *lane = sim_some_lane(s);
    uint64_t first;
    uint64_t hasty;

    if (!sim_chance(s, 10) || lane == NULL) {
        return;
    }
    first = 1 + (lane->floor < 10 ? 0 : lane->floor - 10) + sim_rnd(s, 40);
    first = first > lane->end + 1 ? lane->end + 1 : first;
    hasty = first < lane->end && sim_plant(s, PLANT_HASTY_TRIM, 1) ? 1 : 0;
    sim_trace(s, "topic %u: trim below %lu", lane->topic, first);
    EXPECT(s, trim_in_bits(s, lane, first + hasty) == STATUS_OK, "trim");
    lane->first = first > lane->first ? first : lane->first;
    for (uint64_t seq = 1; seq < lane->first; seq++) {
        struct msg *m = &lane->msgs[seq];
        if (!sim_is_settled(m) && m->state != IN_FLIGHT) {
            sim_become(lane, m, DELETED);
        }
    }
}

/* ---- members ---- */

void sim_do_join(struct sim *s)
{
    struct person *p = &s->people[sim_rnd(s, MEMBERS_MAX)];
    enum status status;

    if (p->member != NULL) {
        return;
    }
    *p = (struct person) { .lease = s->next_lease++,
                           .credit = sim_rnd(s, 30),
                           .credit_bytes = sim_rnd(s, 5000) };
    sim_trace(s, "%lu joins, credit %lu", p->lease, p->credit);
    status = group_join(s->group, p->lease, p->credit, p->credit_bytes, p,
                        &p->member);
    EXPECT(s, status == STATUS_OK, "join");
}

static void fail_all_of(struct sim *s, uint64_t lease)
{
    for (size_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = &s->lanes[i];
        for (uint64_t seq = 1; lane->topic != 0 && seq <= lane->end; seq++) {
            struct msg *m = &lane->msgs[seq];
            if (m->state == IN_FLIGHT && m->lease == lease) {
                sim_fail_attempt(
                    s, lane, m,
                    &(struct fault) { .cause = CAUSE_GONE, .at_once = true });
            }
        }
    }
}

static void release_all_of(struct sim *s, uint64_t lease)
{
    for (size_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = &s->lanes[i];

        for (uint64_t seq = 1; lane->topic != 0 && seq <= lane->end; seq++) {
            struct msg *m = &lane->msgs[seq];
            if (m->state == IN_FLIGHT && m->lease == lease) {
                sim_release(s, lane, m);
            }
        }
    }
}

void sim_do_leave(struct sim *s)
{
    static const char *const ways[] = { "retires", "leaves", "detaches" };
    struct person *p = &s->people[sim_rnd(s, MEMBERS_MAX)];
    uint64_t way = sim_rnd(s, COUNT_OF(ways));

    if (p->member == NULL) {
        return;
    }
    sim_trace(s, "%lu %s", p->lease, ways[way]);
    if (way == 0) {
        group_retire(s->group, p->member);
    } else if (way == 1) {
        group_leave(s->group, p->member, s->now);
        fail_all_of(s, p->lease);
    } else {
        group_detach(s->group, p->member, s->now);
        release_all_of(s, p->lease);
    }
    p->member = NULL;
}

void sim_do_credit(struct sim *s)
{
    struct person *p = &s->people[sim_rnd(s, MEMBERS_MAX)];

    if (p->member == NULL) {
        return;
    }
    if (sim_chance(s, 2)) {
        p->paused = !p->paused;
        sim_trace(s, "%lu %s", p->lease, p->paused ? "pauses" : "resumes");
        member_pause(p->member, p->paused);
        return;
    }
    if (sim_plant(s, PLANT_STUCK_MEMBER, 2)) {
        member_pause(p->member, true);
    }
    p->credit = sim_rnd(s, 30);
    p->credit_bytes = sim_rnd(s, 5000);
    sim_trace(s, "%lu has credit %lu, %lu bytes", p->lease, p->credit,
              p->credit_bytes);
    member_set_credit(p->member, p->credit + sim_plant(s, PLANT_LOST_CREDIT, 1),
                      p->credit_bytes);
}

/* ---- rules ---- */

static void tell_rules(struct sim *s)
{
    struct group_rules told = s->rules;

    if (told.paused && sim_plant(s, PLANT_DEAF_TO_PAUSE, 1)) {
        told.paused = false;
    }
    if (sim_plant(s, PLANT_HASTY_BACKOFF, 1)) {
        told.backoff_count = 1;
        told.backoff_us[0] = 1000;
    }
    told.attempts_max +=
        told.attempts_max > 0 && sim_plant(s, PLANT_MORE_ATTEMPTS, 1);
    told.in_flight_max += sim_plant(s, PLANT_WRONG_QUOTA, 1);
    if (told.notice_us > 0 && sim_plant(s, PLANT_NO_NOTICE, 1)) {
        told.notice_us = 0;
    }
    if (s->group != NULL) {
        group_set_rules(s->group, &told);
    }
}

/* What is open now keeps its lease, and when the group was not ordered its
 * place, whatever its key. */
static void rules_changed(struct sim *s, bool ordered_now)
{
    for (size_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = &s->lanes[i];
        for (uint64_t seq = 1; lane->topic != 0 && seq <= lane->end; seq++) {
            struct msg *m = &lane->msgs[seq];
            m->stray |=
                ordered_now && (m->state == IN_FLIGHT || m->state == WAITING);
            m->old_rules = true;
        }
    }
}

static void some_rules(struct sim *s)
{
    static const enum group_mode modes[] = { MODE_SHARED, MODE_ORDERED,
                                             MODE_ORDERED, MODE_EXCLUSIVE };
    struct group_rules *r = &s->rules;

    if (r->mode == 0 || sim_chance(s, 4)) {
        r->mode = modes[sim_rnd(s, COUNT_OF(modes))];
    }
    r->lease_us = 100000 + sim_rnd(s, 30 * SECOND);
    if (s->lease_least == 0 || r->lease_us < s->lease_least) {
        s->lease_least = r->lease_us;
    }
    r->attempts_max = sim_chance(s, 3) ? 0 : 1 + (uint32_t)sim_rnd(s, 6);
    r->backoff_count = sim_chance(s, 2) ? 0 : 1 + sim_rnd(s, BACKOFF_COUNT_MAX);
    for (size_t i = 0; i < r->backoff_count; i++) {
        r->backoff_us[i] = 1000 * (1 + sim_rnd(s, 60000));
    }
    r->in_flight_max = 5 + sim_rnd(s, 200);
    r->notice_us = sim_chance(s, 2) ? 0 : 1 + sim_rnd(s, r->lease_us);
}

void sim_first_rules(struct sim *s)
{
    some_rules(s);
}

void sim_do_rules(struct sim *s)
{
    enum group_mode mode = s->rules.mode;

    if (!sim_chance(s, 20)) {
        return;
    }
    some_rules(s);
    sim_trace(s,
              "rules: mode %d, lease %lu, attempts %u, backoffs %zu, "
              "in flight %zu, notice %lu",
              (int)s->rules.mode, s->rules.lease_us, s->rules.attempts_max,
              s->rules.backoff_count, s->rules.in_flight_max,
              s->rules.notice_us);
    rules_changed(s, s->rules.mode == MODE_ORDERED && mode != MODE_ORDERED);
    tell_rules(s);
}

void sim_do_pause(struct sim *s)
{
    if (!s->rules.paused && !sim_chance(s, 5)) {
        return;
    }
    s->rules.paused = !s->rules.paused;
    sim_trace(s, "the group %s", s->rules.paused ? "pauses" : "resumes");
    tell_rules(s);
}

/* ---- operators ---- */

static void forget(struct lane *lane, uint64_t after)
{
    for (uint64_t seq = 1; seq <= lane->end; seq++) {
        struct msg *m = &lane->msgs[seq];
        bool dead_below = seq <= after && m->state == DEAD;
        if (dead_below) {
            m->counted = true;
            continue;
        }
        m->redriven = false;
        m->stray = false;
        m->has_key = false;
        m->counted = seq > after;
        m->state = seq <= after ? ACKED : seq < lane->first ? DELETED : FRESH;
        m->attempts = 0;
        m->ends = 0;
        m->ends_most = 0;
        m->given = false;
        m->revived = false;
    }
    lane->after = after;
    sim_recount(lane);
}

/* One behind `after` that somebody has; 0: there is none. */
static uint64_t in_flight_behind(const struct lane *lane, uint64_t after)
{
    for (uint64_t seq = after + 1; seq <= lane->end; seq++) {
        if (lane->msgs[seq].state == IN_FLIGHT) {
            return seq;
        }
    }
    return 0;
}

static void plant_old_ack(struct sim *s, const struct lane *lane, uint64_t seq)
{
    if (seq > 0 && sim_plant(s, PLANT_OLD_ACK, 1)) {
        (void)!group_skip(s->group, lane->topic,
                          (struct seq_range) { seq, seq });
    }
}

static void seek(struct sim *s, struct lane *lane, uint64_t after, uint64_t off)
{
    bool was_ending = sim_is_ending(s);
    uint64_t held = in_flight_behind(lane, after);
    size_t looks;

    EXPECT(s,
           group_seek(s->group, lane->topic, after + off, some_looks(s, &looks))
               == STATUS_OK,
           "seek");
    s->seeks++;
    s->long_seeks += !was_ending && sim_is_ending(s);
    plant_old_ack(s, lane, held);
    lane->untold_seeks++;
    forget(lane, after);
}

/* The rest of seeks, and of lanes that are gone. */
void sim_do_go_on(struct sim *s)
{
    size_t looks;
    size_t *budget = some_looks(s, &looks);

    if (!sim_is_ending(s)) {
        return;
    }
    if (!sim_plant(s, PLANT_STUCK_SEEK, 1)) {
        group_end_some(s->group, budget);
    }
    EXPECT(s, budget != NULL || !sim_is_ending(s), "what a seek left is kept");
    sim_trace(s, "what seeks left is %sended", sim_is_ending(s) ? "not " : "");
}

void sim_do_seek(struct sim *s)
{
    struct lane *lane = sim_some_lane(s);
    uint64_t after;
    uint64_t off;

    if (!sim_chance(s, 20)) {
        return;
    }
    if (lane == NULL) {
        EXPECT(s, group_seek(s->group, 999999, 0, NULL) == STATUS_NOT_FOUND,
               "a seek on no lane");
        return;
    }
    after = lane->floor < 30 ? 0 : lane->floor - 30;
    after += sim_rnd(s, lane->end - after + 2);
    sim_trace(s, "topic %u: seek behind %lu", lane->topic, after);
    off = after < lane->end && sim_plant(s, PLANT_SEEK_OFF_BY_ONE, 1) ? 1 : 0;
    if (after > lane->end) {
        EXPECT(s,
               group_seek(s->group, lane->topic, after, NULL) == STATUS_INVALID,
               "a seek beyond the end");
        return;
    }
    seek(s, lane, after, off);
}

static struct seq_range range_of_dead(struct sim *s, const struct lane *lane)
{
    struct seq_range found[4];
    uint64_t from = 1 + sim_rnd(s, lane->end + 1);
    size_t count = group_dead(s->group, lane->topic, from, found, 4);

    if (count == 0 || sim_chance(s, 3)) {
        return (struct seq_range) { from, from + sim_rnd(s, 40) };
    }
    return found[sim_rnd(s, count)];
}

static uint64_t count_of(const struct lane *lane, struct seq_range range,
                         bool (*which)(const struct msg *m))
{
    uint64_t count = 0;

    for (uint64_t seq = range.first; seq <= range.last && seq <= lane->end;
         seq++) {
        count += which(&lane->msgs[seq]);
    }
    return count;
}

static bool is_dead(const struct msg *m)
{
    return m->state == DEAD;
}

static bool is_redriven(const struct msg *m)
{
    return m->state == WAITING && m->redriven;
}

static void redrive_up_to(struct sim *s, struct lane *lane,
                          struct seq_range range)
{
    for (uint64_t seq = range.first; seq <= range.last && seq <= lane->end;
         seq++) {
        struct msg *m = &lane->msgs[seq];
        if (m->state != DEAD) {
            continue;
        }
        sim_become(lane, m, WAITING);
        m->attempts = 0;
        m->ends = 0;
        m->ends_most = 0;
        m->due_min = 0;
        m->due_max = 0;
        m->redriven = true;
        m->revived = lane->in_turn;
        m->stray = true; /* others of its key went on without it */
        m->given = true;
        s->redriven++;
    }
}

void sim_do_redrive(struct sim *s)
{
    struct lane *lane = sim_some_lane(s);
    struct seq_range range;
    enum status status;
    uint64_t count = 0;
    uint64_t next = 0;

    if (lane == NULL || sim_total(s, DEAD) == 0 || !sim_chance(s, 2)) {
        return;
    }
    range = range_of_dead(s, lane);
    status = group_redrive(s->group, lane->topic, range, s->now, &count, &next);
    sim_hear(s, status, count, next);
    sim_trace(s, "redrive %u/%lu..%lu: %lu up to %lu", lane->topic, range.first,
              range.last, count, next);
    EXPECT(s,
           status == STATUS_OK
               || (status == STATUS_AGAIN && (!s->roomy || sim_is_ending(s))),
           "redrive: %d", (int)status);
    if (status == STATUS_AGAIN) {
        s->refused += !sim_is_ending(s);
        range.last = next - 1;
    }
    EXPECT(s, count == count_of(lane, range, is_dead), "redriven: %lu, not %lu",
           count, count_of(lane, range, is_dead));
    redrive_up_to(s, lane, range);
    if (count > 0 && sim_plant(s, PLANT_LOST_REDRIVE, 1)) {
        (void)!group_settle(
            s->group,
            &(struct settlement) { .topic = lane->topic,
                                   .action = SETTLE_ACK,
                                   .range = { range.first, range.first } },
            s->now, NULL, NULL);
    }
}

typedef enum status (*cut_fn)(struct group *group, uint32_t topic,
                              struct seq_range range, size_t *budget,
                              uint64_t *next, uint64_t *count);

static enum status in_bits(struct sim *s, cut_fn fn, const struct lane *lane,
                           struct seq_range range, uint64_t *count)
{
    enum status status;

    *count = 0;
    do {
        size_t budget = 2 + sim_rnd(s, 30);
        uint64_t bit = 0;

        status = fn(s->group, lane->topic, range, &budget, &range.first, &bit);
        *count += bit;
    } while (status == STATUS_AGAIN);
    return status;
}

void sim_do_bury(struct sim *s)
{
    struct lane *lane = sim_some_lane(s);
    struct seq_range range;
    uint64_t count = 0;

    if (lane == NULL || sim_total(s, WAITING) == 0 || !sim_chance(s, 2)) {
        return;
    }
    range.first = 1 + lane->floor + sim_rnd(s, 20);
    range.last = range.first + sim_rnd(s, 100);
    EXPECT(s, in_bits(s, group_bury, lane, range, &count) == STATUS_OK, "bury");
    sim_hear(s, count, 0, 0);
    sim_trace(s, "bury %u/%lu..%lu: %lu", lane->topic, range.first, range.last,
              count);
    EXPECT(s, count == count_of(lane, range, is_redriven),
           "buried: %lu, not %lu", count, count_of(lane, range, is_redriven));
    for (uint64_t seq = range.first; seq <= range.last && seq <= lane->end;
         seq++) {
        if (is_redriven(&lane->msgs[seq])) {
            sim_become(lane, &lane->msgs[seq], DEAD);
        }
    }
}

void sim_do_discard(struct sim *s)
{
    struct lane *lane = sim_some_lane(s);
    struct seq_range range;
    uint64_t count = 0;

    if (lane == NULL || sim_total(s, DEAD) == 0 || !sim_chance(s, 4)) {
        return;
    }
    range = range_of_dead(s, lane);
    EXPECT(s, in_bits(s, group_discard, lane, range, &count) == STATUS_OK,
           "discard");
    sim_hear(s, count, 1, 0);
    sim_trace(s, "discard %u/%lu..%lu: %lu", lane->topic, range.first,
              range.last, count);
    EXPECT(s, count == count_of(lane, range, is_dead),
           "discarded: %lu, not %lu", count, count_of(lane, range, is_dead));
    for (uint64_t seq = range.first; seq <= range.last && seq <= lane->end;
         seq++) {
        if (is_dead(&lane->msgs[seq])) {
            sim_become(lane, &lane->msgs[seq], DELETED);
        }
    }
}

/* ---- time ---- */

void sim_do_advance(struct sim *s)
{
    static const uint64_t spans[] = { 1000,       100000,      SECOND,
                                      5 * SECOND, 40 * SECOND, HOUR,
                                      100 * HOUR };
    uint64_t pick = sim_rnd(s, 1000);

    s->now += 1
              + sim_rnd(s, spans[pick < 600   ? pick % 3
                                 : pick < 970 ? 3
                                              : 4 + pick % 3]);
    if (sim_chance(s, 20000)) {
        s->now += sim_rnd(s, 10 * 366 * 24 * HOUR);
    }
    sim_trace(s, "time goes on");
}

static void on_notice(void *arg, const struct notice *n)
{
    struct sim *s = arg;
    struct lane *lane = sim_lane_of(s, n->topic);
    const struct person *p = member_user(n->member);
    struct msg *m;

    EXPECT(s, lane != NULL && n->seq >= 1 && n->seq <= lane->end,
           "a notice of no message");
    if (s->failed) {
        return;
    }
    m = &lane->msgs[n->seq];
    sim_trace(s, "notice of %u/%lu to %lu", n->topic, n->seq, p->lease);
    EXPECT(s, m->state == IN_FLIGHT && m->lease == p->lease,
           "a notice of seq %lu to one who does not hold it", n->seq);
    EXPECT(s, n->ends_us == m->lease_end, "seq %lu: the lease ends at %lu",
           n->seq, m->lease_end);
    EXPECT(s, m->old_rules || s->now + s->rules.notice_us >= m->lease_end,
           "the notice of seq %lu is too early", n->seq);
    EXPECT(s, !m->noticed, "two notices of seq %lu", n->seq);
    EXPECT(s, n->lane_user == lane, "a notice with another lane's user");
    m->noticed = true;
    s->noticed++;
}

/* Its time is over: was it taken back? A tick of the wheel later it must be. */
static void look_at_lease(struct sim *s, struct lane *lane, struct msg *m)
{
    struct standing standing;
    uint64_t seq = sim_seq(lane, m);

    if (m->lease_end > s->now) {
        return;
    }
    sim_explain(s, lane, seq, &standing);
    if (standing.gate == GATE_LEASED && standing.holder == m->lease) {
        EXPECT(s, m->lease_end + TICK > s->now,
               "the lease of topic %u seq %lu never ends", lane->topic, seq);
        return;
    }
    sim_fail_attempt(
        s, lane, m,
        &(struct fault) { .cause = CAUSE_LEASE, .at_once = m->attempts == 0 });
}

static bool is_known(const struct sim *s, uint64_t lease)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (s->people[i].member != NULL && s->people[i].lease == lease) {
            return true;
        }
    }
    return false;
}

/* Whoever had the time for it was told. */
static void look_at_notice(struct sim *s, const struct lane *lane,
                           const struct msg *m)
{
    uint64_t notice = s->rules.notice_us;

    if (notice == 0 || m->noticed || m->old_rules || !is_known(s, m->lease)
        || m->lease_end <= s->now || m->lease_began + notice >= m->lease_end) {
        return;
    }
    EXPECT(s, s->now + notice < m->lease_end + 2 * TICK,
           "no notice of topic %u seq %lu", lane->topic, sim_seq(lane, m));
}

void sim_do_tick(struct sim *s)
{
    int rounds = 0;
    uint64_t now = s->now;

    if (sim_plant(s, PLANT_CLOCK_BACK, 10)) {
        now = s->ticked;
    }
    while (group_tick(s->group, now, 1 + sim_rnd(s, 50), on_notice, s)
           && ++rounds < 1000000) {
    }
    EXPECT(s, rounds < 1000000, "ticking never ends");
    EXPECT(s, group_due_us(s->group) > s->now - TICK,
           "due at once after a tick");
    s->ticked = s->now;
    for (size_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1;
             lane->topic != 0 && lane->count[IN_FLIGHT] > 0 && seq <= lane->end;
             seq++) {
            struct msg *m = &lane->msgs[seq];
            if (m->state == IN_FLIGHT) {
                look_at_lease(s, lane, m);
            }
            if (m->state == IN_FLIGHT) {
                look_at_notice(s, lane, m);
            }
        }
    }
}

/* Nothing is ever in flight that nobody holds. */
void sim_do_sweep(struct sim *s)
{
    struct lane *lane = sim_some_lane(s);

    EXPECT(s, lane == NULL || group_sweep(s->group, lane->topic, s->now) == 0,
           "orphans");
}
