#include "test/lib/group_sim.h"

#include <stdarg.h>

/* ---- odds and ends ---- */

uint64_t sim_rnd(struct sim *s, uint64_t below)
{
    uint64_t x = s->random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % below;
}

bool sim_chance(struct sim *s, uint64_t of)
{
    return sim_rnd(s, of) == 0;
}

bool sim_plant(struct sim *s, enum plant plant, uint64_t of)
{
    if (s->options.plant != plant || !sim_chance(s, of)) {
        return false;
    }
    s->planted++;
    return true;
}

void sim_fail(struct sim *s, const char *format, ...)
{
    va_list args;

    if (s->failed) {
        return;
    }
    s->failed = true;
    va_start(args, format);
    (void)vsnprintf(s->text, sizeof s->text, format, args);
    va_end(args);
    sim_trace(s, "FAILED: %s", s->text);
}

void sim_trace(struct sim *s, const char *format, ...)
{
    va_list args;

    if (s->options.trace == NULL) {
        return;
    }
    (void)fprintf(s->options.trace, "%lu at %lu: ", s->step, s->now);
    va_start(args, format);
    (void)vfprintf(s->options.trace, format, args);
    va_end(args);
    (void)fputc('\n', s->options.trace);
    (void)fflush(s->options.trace);
}

void sim_hear(struct sim *s, uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t words[] = { a, b, c };

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        s->hash = (s->hash ^ words[i]) * UINT64_C(0x100000001b3);
        s->hash ^= s->hash >> 29;
    }
}

const char *sim_plant_word(enum plant plant)
{
    static const char *const words[PLANTS] = {
        "none",           "lost-redelivery", "two-holders",
        "forgotten-ack",  "wrong-attempts",  "lost-credit",
        "forgotten-trim", "hasty-trim",      "mixed-keys",
        "early",          "no-ttl",          "filter-off",
        "deaf-to-pause",  "lost-dead",       "seek-off-by-one",
        "effect-dropped", "hasty-backoff",   "more-attempts",
        "lost-redrive",   "wrong-quota",     "clock-back",
        "no-notice",      "withheld",        "stuck-member",
        "lost-failure",   "stuck-seek",      "old-ack",
    };

    return plant < PLANTS ? words[plant] : NULL;
}

const char *sim_tiers_word(enum tiers tiers)
{
    static const char *const words[TIERS] = { "any",    "heap", "spread",
                                              "direct", "file", "middle" };

    return tiers < TIERS ? words[tiers] : NULL;
}

/* ---- lanes and messages ---- */

struct lane *sim_lane_of(struct sim *s, uint32_t topic)
{
    for (size_t i = 0; i < LANES_MAX; i++) {
        if (s->lanes[i].topic == topic) {
            return &s->lanes[i];
        }
    }
    return NULL;
}

struct lane *sim_some_lane(struct sim *s)
{
    struct lane *lane = &s->lanes[sim_rnd(s, LANES_MAX)];
    return lane->topic == 0 ? NULL : lane;
}

bool sim_is_settled(const struct msg *m)
{
    return m->state == ACKED || m->state == EXPIRED || m->state == FILTERED
           || m->state == GAP || m->state == DELETED;
}

uint64_t sim_seq(const struct lane *lane, const struct msg *m)
{
    return (uint64_t)(m - lane->msgs);
}

bool sim_is_lost(const struct lane *lane, const struct msg *m)
{
    return sim_seq(lane, m) < lane->first;
}

static void raise_floor(struct lane *lane)
{
    while (lane->floor < lane->end
           && sim_is_settled(&lane->msgs[lane->floor + 1])) {
        lane->floor++;
    }
}

void sim_become(struct lane *lane, struct msg *m, enum state state)
{
    if (m->counted) {
        lane->count[m->state]--;
        lane->count[state]++;
    }
    m->state = state;
    if (state != WAITING) {
        m->redriven = false;
    }
    if (state == FRESH || state == DEAD || sim_is_settled(m)) {
        m->stray = false;
        m->has_key = false;
    }
    raise_floor(lane);
}

void sim_recount(struct lane *lane)
{
    for (size_t i = 0; i < STATES; i++) {
        lane->count[i] = 0;
    }
    for (uint64_t seq = 1; seq <= lane->end; seq++) {
        if (lane->msgs[seq].counted) {
            lane->count[lane->msgs[seq].state]++;
        }
    }
    lane->floor = 0;
    raise_floor(lane);
}

void sim_publish_one(struct sim *s, struct lane *lane)
{
    struct msg *m = &lane->msgs[++lane->end];

    free(m->owed);
    *m = (struct msg) { .bytes = (uint32_t)sim_rnd(s, 400), .counted = true };
    if (!sim_chance(s, 3)) {
        m->key = 1 + (uint32_t)sim_rnd(s, KEYS);
    }
    if (sim_chance(s, 8)) {
        m->due_facts = s->now + sim_rnd(s, sim_chance(s, 3) ? HOUR : SECOND);
    }
    if (sim_chance(s, 8)) {
        m->expires = (m->due_facts > s->now ? m->due_facts : s->now) + 1
                     + sim_rnd(s, sim_chance(s, 2) ? HOUR : 5 * SECOND);
    } else {
        m->filtered = sim_chance(s, 10);
    }
    lane->count[FRESH]++;
}

uint64_t sim_total(const struct sim *s, enum state state)
{
    uint64_t count = 0;

    for (size_t i = 0; i < LANES_MAX; i++) {
        count += s->lanes[i].topic == 0 ? 0 : s->lanes[i].count[state];
    }
    return count;
}

bool sim_is_ready(const struct sim *s, const struct msg *m)
{
    return m->state == WAITING && m->due_max + TICK <= s->ticked;
}

bool sim_is_delayed(const struct sim *s, const struct msg *m)
{
    return m->state == WAITING && m->due_min > s->now;
}

bool sim_is_aside(const struct msg *m)
{
    return m->ends >= ASIDE_ENDS;
}

uint64_t sim_count_aside(const struct sim *s, enum state state)
{
    uint64_t count = 0;

    for (size_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1;
             lane->topic != 0 && seq <= lane->end; seq++) {
            const struct msg *m = &lane->msgs[seq];
            count += m->state == state && m->ends_most >= ASIDE_ENDS;
        }
    }
    return count;
}

/* ---- keys ---- */

static bool is_open(const struct msg *m)
{
    return !sim_is_settled(m) && m->state != DEAD;
}

/* While one is held or waits for another attempt no other is, whichever comes
 * first; and nobody overtakes one of the same key that is not settled. */
static bool goes_before(const struct msg *other, const struct msg *m)
{
    if (other->key != m->key || other == m) {
        return false;
    }
    return other->state == IN_FLIGHT || other->has_key
           || (!m->has_key && other < m && is_open(other));
}

const struct msg *sim_before_it(const struct sim *s, const struct lane *lane,
                                const struct msg *m)
{
    if (s->rules.mode != MODE_ORDERED || m->key == 0) {
        return NULL;
    }
    for (uint64_t seq = lane->floor + 1; seq <= lane->end; seq++) {
        const struct msg *other = &lane->msgs[seq];
        if (!other->stray && goes_before(other, m)) {
            return other;
        }
    }
    return NULL;
}

bool sim_is_blocked(const struct sim *s, const struct lane *lane,
                    const struct msg *m)
{
    (void)s; /* it may have been ordered when the message was looked at */
    for (uint64_t seq = lane->floor + 1; m->key != 0 && seq <= lane->end;
         seq++) {
        const struct msg *other = &lane->msgs[seq];
        if (goes_before(other, m)
            || (other != m && other->key == m->key
                && other->state == WAITING)) {
            return true;
        }
    }
    return false;
}

/* ---- members ---- */

struct holding {
    uint64_t count;
    uint64_t bytes;
    bool aside; /* one that is set aside: it gets no more beside it */
};

/* What a member holds outlives it: by lease. */
static struct holding held_by(const struct sim *s, uint64_t lease)
{
    struct holding h = { 0 };

    for (size_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1;
             lane->topic != 0 && lane->count[IN_FLIGHT] > 0 && seq <= lane->end;
             seq++) {
            const struct msg *m = &lane->msgs[seq];
            if (m->state == IN_FLIGHT && m->lease == lease) {
                h.count++;
                h.bytes += m->bytes;
                h.aside |= sim_is_aside(m);
            }
        }
    }
    return h;
}

bool sim_is_able(const struct sim *s, const struct person *p)
{
    struct holding h;

    if (p->member == NULL || p->paused || p->credit == 0) {
        return false;
    }
    h = held_by(s, p->lease);
    return !h.aside && h.count < p->credit && h.bytes < p->credit_bytes;
}

size_t sim_joined(const struct sim *s)
{
    size_t count = 0;

    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        count += s->people[i].member != NULL;
    }
    return count;
}

const struct person *sim_first_joined(const struct sim *s)
{
    const struct person *first = NULL;

    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        const struct person *p = &s->people[i];
        if (p->member != NULL && (first == NULL || p->lease < first->lease)) {
            first = p;
        }
    }
    return first;
}

bool sim_any_able(const struct sim *s)
{
    bool able = false;

    if (s->rules.mode == MODE_EXCLUSIVE) {
        const struct person *first = sim_first_joined(s);
        return first != NULL && sim_is_able(s, first);
    }
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        able |= sim_is_able(s, &s->people[i]);
    }
    return able;
}

/* ---- what seeks left ---- */

bool sim_is_ending(const struct sim *s)
{
    return group_is_ending(s->group);
}

/* ---- failures ---- */

/* After so many failures, without jitter. */
static uint64_t backoff(const struct sim *s, uint32_t failures)
{
    const struct group_rules *rules = &s->rules;
    uint64_t us = (uint64_t)BACKOFF_MS_MIN * 1000;
    uint64_t most = (uint64_t)BACKOFF_MS_MAX * 1000;

    if (rules->backoff_count > 0) {
        size_t at = failures <= rules->backoff_count ? failures - 1
                                                     : rules->backoff_count - 1;
        return rules->backoff_us[at];
    }
    for (uint32_t i = 1; i < failures && us < most; i++) {
        us *= 2;
    }
    return us < most ? us : most;
}

static void wait_for(struct sim *s, struct owed *owed,
                     const struct fault *fault)
{
    uint64_t us = backoff(s, owed->attempts);

    owed->due_min = s->now + us - us / 5;
    owed->due_max = s->now + us + us / 5 + 1;
    if (fault->delay > 0) {
        owed->due_min = s->now + fault->delay;
        owed->due_max = owed->due_min;
    }
    if (fault->at_once) {
        owed->due_min = 0;
        owed->due_max = 0;
    }
}

/* The log has to be told. */
static struct owed *owe(struct sim *s, struct msg *m, const struct fault *fault)
{
    uint32_t most = s->rules.attempts_max;
    struct owed *owed;

    if (m->owed == NULL) {
        m->owed = calloc(OWED_MAX, sizeof *m->owed);
        CHECK(m->owed != NULL);
    }
    CHECK(m->owed_count < OWED_MAX);
    owed = &m->owed[m->owed_count++];
    *owed = (struct owed) { .cause = fault->cause,
                            .attempts = m->attempts,
                            .holder = m->lease };
    owed->dead = fault->fatal || (most > 0 && m->attempts >= most);
    (void)snprintf(owed->reason, sizeof owed->reason, "%s",
                   fault->why == NULL ? "" : fault->why);
    if (!owed->dead) {
        wait_for(s, owed, fault);
    }
    if (m->owed_count + 2 > OWED_MAX) {
        s->deaf = false;
    }
    return owed;
}

void sim_fail_attempt(struct sim *s, struct lane *lane, struct msg *m,
                      const struct fault *fault)
{
    const struct owed *owed;

    if (sim_is_lost(lane, m)) {
        sim_become(lane, m, DELETED);
        return;
    }
    m->attempts++;
    m->ends += fault->cause == CAUSE_LEASE || fault->cause == CAUSE_GONE;
    m->ends_most += fault->cause == CAUSE_LEASE || fault->cause == CAUSE_GONE;
    owed = owe(s, m, fault);
    if (owed->dead) {
        s->died++;
        sim_become(lane, m, DEAD);
        return;
    }
    m->due_min = owed->due_min;
    m->due_max = owed->due_max;
    sim_become(lane, m, WAITING);
}
