#include "test/lib/group_sim.h"

#include "test/lib/tmpdir.h"

#include <string.h>

/* ---- what the log says: the store's rules, message by message ---- */

static bool is_over(const struct written *w)
{
    return w->state != FRESH && w->state != DEAD;
}

static void write_seek(struct lane *lane, const struct note *n, bool kept)
{
    uint64_t after = n->seq;

    for (uint64_t seq = 1; seq <= lane->end; seq++) {
        struct msg *m = &lane->msgs[seq];
        struct written *w = kept ? &m->kept : &m->told;
        if (seq > after) {
            *w = (struct written) { .state = FRESH };
        } else if (w->state != DEAD || seq < n->first) {
            *w = (struct written) { .state = ACKED };
        }
    }
    if (kept) {
        lane->sought = true;
        lane->kept_after = after;
    }
}

static void write_one(struct written *w, const struct note *n)
{
    switch (n->kind) {
    case NOTE_SETTLED:
        *w = is_over(w) ? *w : (struct written) { .state = n->state };
        break;
    case NOTE_FAILED:
        if (w->state == FRESH) {
            w->attempts = n->attempts;
            w->due = n->due;
        }
        break;
    case NOTE_DEAD:
        if (!is_over(w)) {
            *w = (struct written) { DEAD, n->attempts, 0 };
        }
        break;
    case NOTE_REDRIVEN:
        if (w->state == DEAD) {
            *w = (struct written) { .state = FRESH };
        }
        break;
    case NOTE_BURIED:
        if (w->state == FRESH) {
            *w = (struct written) { .state = DEAD };
        }
        break;
    case NOTE_SEEK:
        break;
    }
}

static void write_note(struct sim *s, const struct note *n, bool kept)
{
    struct lane *lane = sim_lane_of(s, n->topic);

    if (lane == NULL) {
        return; /* dropped meanwhile */
    }
    if (n->kind == NOTE_SEEK) {
        write_seek(lane, n, kept);
        return;
    }
    write_one(kept ? &lane->msgs[n->seq].kept : &lane->msgs[n->seq].told, n);
}

static void note(struct sim *s, const struct note *n)
{
    if (s->log_count == s->log_capacity) {
        s->log_capacity = s->log_capacity == 0 ? 1024 : s->log_capacity * 2;
        s->log = realloc(s->log, s->log_capacity * sizeof *s->log);
        CHECK(s->log != NULL);
    }
    write_note(s, n, false);
    s->log[s->log_count++] = *n;
}

void sim_sync_log(struct sim *s, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        write_note(s, &s->log[i], true);
    }
    s->log_count -= count;
    if (s->log_count > 0) {
        memmove(s->log, s->log + count, s->log_count * sizeof *s->log);
    }
}

/* ---- effects ---- */

static void expect_owed(struct sim *s, const struct failure *f,
                        const struct owed *owed)
{
    EXPECT(s, f->dead == owed->dead, "seq %lu: dead %d after %u attempts",
           f->seq, (int)f->dead, f->attempts);
    EXPECT(s, f->attempts == owed->attempts, "seq %lu: attempts %u, not %u",
           f->seq, f->attempts, owed->attempts);
    EXPECT(s, f->cause == (uint8_t)owed->cause, "seq %lu: cause %d, not %d",
           f->seq, (int)f->cause, (int)owed->cause);
    EXPECT(s, f->holder == owed->holder, "seq %lu: holder %lu, not %lu", f->seq,
           f->holder, owed->holder);
    EXPECT(s, slice_equal(f->reason, slice_text(owed->reason)),
           "seq %lu: the reason '%.*s', not '%s'", f->seq, (int)f->reason.len,
           (const char *)f->reason.at, owed->reason);
    EXPECT(s,
           f->dead
               || (f->due_us >= owed->due_min && f->due_us <= owed->due_max),
           "seq %lu: due %lu, not in %lu..%lu", f->seq, f->due_us,
           owed->due_min, owed->due_max);
}

/* Whoever leaves gives back what it holds in any order, and that may depend on
 * where it lies: for a sum. */
static uint64_t mixed(const struct failure *f)
{
    uint64_t hash = f->seq * UINT64_C(0x9e3779b97f4a7c15);

    hash = (hash ^ hash >> 29 ^ f->due_us) * UINT64_C(0x100000001b3);
    return (hash ^ hash >> 32 ^ f->attempts) * UINT64_C(0x9e3779b97f4a7c15);
}

static void take_failure(struct sim *s, struct lane *lane,
                         const struct failure *f)
{
    struct msg *m = &lane->msgs[f->seq];

    EXPECT(s, f->seq >= 1 && f->seq <= lane->end && m->owed_count > 0,
           "topic %u: a failure of seq %lu that was none", lane->topic, f->seq);
    if (s->failed) {
        return;
    }
    expect_owed(s, f, &m->owed[0]);
    m->owed_count--;
    memmove(m->owed, m->owed + 1, m->owed_count * sizeof *m->owed);
    if (m->owed_count == 0 && m->state == WAITING && !m->redriven
        && m->attempts == f->attempts && m->due_max != 0) {
        m->due_min = f->due_us;
        m->due_max = f->due_us;
    }
    note(s, &(struct note) { .kind = f->dead ? NOTE_DEAD : NOTE_FAILED,
                             .topic = lane->topic,
                             .seq = f->seq,
                             .attempts = f->attempts,
                             .due = f->due_us });
}

static void take_set(struct sim *s, struct lane *lane, enum effect_set which,
                     const struct seqset *set)
{
    static const struct {
        enum note_kind kind;
        enum state state;
    } means[EFFECT_SETS] = {
        [EFFECT_ACKED] = { NOTE_SETTLED, ACKED },
        [EFFECT_GAP] = { NOTE_SETTLED, GAP },
        [EFFECT_EXPIRED] = { NOTE_SETTLED, EXPIRED },
        [EFFECT_FILTERED] = { NOTE_SETTLED, FILTERED },
        [EFFECT_REDRIVEN] = { NOTE_REDRIVEN, 0 },
        [EFFECT_BURIED] = { NOTE_BURIED, 0 },
        [EFFECT_DISCARDED] = { NOTE_SETTLED, DELETED },
    };

    EXPECT(s, seqset_range_count(set) <= EFFECTS_COUNT_MAX,
           "too many effects at a time");
    for (size_t i = 0; i < seqset_range_count(set); i++) {
        struct seq_range range = seqset_ranges(set)[i];
        sim_hear(s, which, range.first, range.last);
        EXPECT(s, range.first >= 1 && range.last <= lane->end,
               "the log is told of seq %lu", range.last);
        for (uint64_t seq = range.first; !s->failed && seq <= range.last;
             seq++) {
            const struct msg *m = &lane->msgs[seq];
            EXPECT(s,
                   means[which].kind != NOTE_SETTLED || lane->untold_seeks > 0
                       || m->state == means[which].state,
                   "the log is told that seq %lu is settled", seq);
            note(s, &(struct note) { .kind = means[which].kind,
                                     .topic = lane->topic,
                                     .seq = seq,
                                     .state = means[which].state });
        }
    }
}

static void take_seek(struct sim *s, struct lane *lane, const struct effects *e)
{
    EXPECT(s, lane->untold_seeks > 0, "the log is told of a seek");
    EXPECT(s, lane->untold_seeks != 1 || e->seek_after == lane->after,
           "the log is told of a seek behind %lu", e->seek_after);
    lane->untold_seeks -= lane->untold_seeks > 0;
    EXPECT(s, e->failure_count == 0, "failures with a seek");
    for (size_t i = 0; i < EFFECT_SETS; i++) {
        EXPECT(s, seqset_range_count(e->sets[i]) == 0, "a set with a seek");
    }
    note(s, &(struct note) { .kind = NOTE_SEEK,
                             .topic = lane->topic,
                             .seq = e->seek_after,
                             .first = lane->first });
}

bool sim_on_effects(void *arg, const struct effects *e)
{
    static const enum effect_set after[] = {
        EFFECT_BURIED,  EFFECT_ACKED,    EFFECT_GAP,
        EFFECT_EXPIRED, EFFECT_FILTERED, EFFECT_DISCARDED
    };
    struct sim *s = arg;
    struct lane *lane = sim_lane_of(s, e->topic);
    uint64_t heard = 0;

    EXPECT(s, lane != NULL && e->topic != 0, "effects of a lane that is gone");
    if (s->failed || (!s->roomy && sim_chance(s, 30))) {
        return false; /* the ring is full */
    }
    if (sim_plant(s, PLANT_EFFECT_DROPPED, 20)) {
        return true;
    }
    if (e->seek) {
        take_seek(s, lane, e);
        return true;
    }
    take_set(s, lane, EFFECT_REDRIVEN, e->sets[EFFECT_REDRIVEN]);
    for (size_t i = 0; !s->failed && i < e->failure_count; i++) {
        take_failure(s, lane, &e->failures[i]);
        heard += mixed(&e->failures[i]);
    }
    sim_hear(s, e->topic, e->failure_count, heard);
    for (size_t i = 0; !s->failed && i < COUNT_OF(after); i++) {
        take_set(s, lane, after[i], e->sets[after[i]]);
    }
    return true;
}

void sim_take_effects(struct sim *s)
{
    if (!s->deaf) {
        group_take_effects(s->group, sim_on_effects, s);
    }
}

/* ---- a new life ---- */

static const size_t budgets[TIERS][TIER_COUNT] = {
    [TIERS_HEAP] = { 16 << 20, 0, 0 },
    [TIERS_SPREAD] = { 8192, 8192, 16 << 20 },
    [TIERS_DIRECT] = { 0, 16 << 20, 0 },
    [TIERS_FILE] = { 0, 0, 16 << 20 },
    [TIERS_MIDDLE] = { 8192, 16 << 20, 0 },
};

static struct inflight_config some_tiers(struct sim *s)
{
    struct inflight_config config = { .now_us = s->now };

    for (size_t i = 0; i < TIER_COUNT; i++) {
        config.bytes[i] = budgets[s->options.tiers][i];
    }
    if (s->options.tiers != TIERS_ANY) {
        return config;
    }
    for (size_t i = 0; i < TIER_COUNT; i++) {
        config.bytes[i] = sim_chance(s, 3) ? 0 : 4096 + sim_rnd(s, 16 * 1024);
    }
    if (config.bytes[TIER_HEAP] + config.bytes[TIER_DIRECT]
            + config.bytes[TIER_FILE]
        == 0) {
        config.bytes[TIER_HEAP] = 8192;
    }
    return config;
}

void sim_open_group(struct sim *s)
{
    struct inflight_config config = some_tiers(s);
    struct error err = { 0 };
    char path[96];

    (void)snprintf(path, sizeof path, "%s/tier", s->folder);
    config.file_path = config.bytes[TIER_FILE] == 0 ? NULL : path;
    CHECK(inflight_new(&s->inflight, &config, &err) == STATUS_OK);
    s->roomy = s->options.tiers != TIERS_ANY;
    s->few_keys = !s->roomy && sim_chance(s, 3);
    s->keys = (struct key_budget) { .max = s->few_keys ? 1000 + sim_rnd(s, 6000)
                                                       : SIZE_MAX };
    s->group =
        group_new(&(struct group_config) { .id = 3,
                                           .rules = s->rules,
                                           .seed = s->options.seed,
                                           .inflight = s->inflight,
                                           .keys = &s->keys,
                                           .sparse_stretch = sim_rnd(s, 16) });
    EXPECT(s, s->group != NULL, "no group");
    if (!s->roomy && sim_chance(s, 3)) {
        sim_open_hog(s);
    }
}

void sim_close_group(struct sim *s)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (s->people[i].member != NULL) {
            group_leave(s->group, s->people[i].member, s->now);
            s->people[i].member = NULL;
        }
    }
    group_free(s->group);
    sim_close_hog(s);
    inflight_free(s->inflight);
    EXPECT(s, s->keys.used == 0, "a group that is gone has keys");
}

/* The message as the log has it. */
static void revive(struct lane *lane, struct msg *m)
{
    uint64_t seq = sim_seq(lane, m);
    struct written w = m->kept;

    m->told = w;
    m->owed_count = 0;
    m->has_key = false;
    m->given = false;
    m->redriven = false;
    m->stray = false;
    m->revived = false;
    m->ends = 0;
    m->ends_most = 0;
    m->noticed = false;
    m->attempts = w.attempts;
    m->due_min = w.due;
    m->due_max = w.due;
    m->state = w.state;
    if (w.state == FRESH && seq <= lane->kept_after && seq < lane->first) {
        m->state = DELETED;
    } else if (!is_over(&w) && seq < lane->first) {
        m->state = DELETED;
    } else if (w.state == FRESH && w.attempts > 0) {
        m->state = WAITING;
        m->given = true;
        m->revived = lane->in_turn;
    }
    m->counted = seq > lane->kept_after || m->state == DEAD
                 || m->state == WAITING || m->state == FRESH
                 || (lane->sought && !is_over(&w)); /* deleted since */
}

struct found {
    struct seqset settled, gaps, expired, dead;
    struct retry *retries;
};

static void must_add(struct seqset *set, uint64_t seq)
{
    CHECK(seqset_add(set, seq, seq, NULL) == STATUS_OK);
}

static void find(struct sim *s, const struct msg *m, uint64_t seq,
                 struct found *f, struct lane_start *start)
{
    enum state state = m->kept.state;

    if (state == DEAD) {
        if (m->state == DEAD && !sim_plant(s, PLANT_LOST_DEAD, 5)) {
            must_add(&f->dead, seq);
        }
        return;
    }
    if (state == FRESH) {
        if (m->state == WAITING && !sim_plant(s, PLANT_LOST_FAILURE, 10)) {
            uint32_t less = sim_plant(s, PLANT_WRONG_ATTEMPTS, 1);
            f->retries[start->retry_count++] =
                (struct retry) { seq, m->attempts - less, m->due_min };
        }
        return;
    }
    if (sim_plant(s, PLANT_FORGOTTEN_ACK, 50)) {
        return;
    }
    must_add(&f->settled, seq);
    if (state == GAP) {
        must_add(&f->gaps, seq);
    } else if (state == EXPIRED) {
        must_add(&f->expired, seq);
    }
    start->filtered += state == FILTERED && seq > start->after;
    start->discarded += state == DELETED && seq > start->after;
}

/* Below the first message that is kept the store only counts. */
static void fold(struct seqset *set, uint64_t from, uint64_t first)
{
    uint64_t count = 0;

    for (uint64_t seq = from; seq < first; seq++) {
        count += seqset_has(set, seq);
    }
    if (count > 0) {
        CHECK(seqset_remove(set, from, first - 1, NULL) == STATUS_OK);
        CHECK(seqset_add(set, first - count, first - 1, NULL) == STATUS_OK);
    }
}

/* On either side of where it began anew. */
static void fold_sides(const struct lane *lane, struct seqset *set)
{
    uint64_t after = lane->sought ? lane->kept_after : 0;

    after = after < lane->first ? after : lane->first - 1;
    fold(set, 1, after + 1);
    fold(set, after + 1, lane->first);
}

/* Retries that found no place are fresh. */
static void look_at_retries(struct sim *s, struct lane *lane)
{
    for (uint64_t seq = 1; !s->roomy && seq <= lane->end; seq++) {
        struct msg *m = &lane->msgs[seq];
        struct standing standing;
        if (m->state != WAITING) {
            continue;
        }
        sim_explain(s, lane, seq, &standing);
        if (standing.attempts == 0) {
            EXPECT(s, !sim_has_room(s),
                   "topic %u seq %lu: %u failures are forgotten", lane->topic,
                   seq, m->attempts);
            s->refused++;
            m->attempts = 0;
            m->told.attempts = 0;
            m->given = false;
            sim_become(lane, m, FRESH);
        }
    }
}

static void restart_lane(struct sim *s, struct lane *lane)
{
    struct found f = { .retries = calloc(lane->end + 1, sizeof *f.retries) };
    struct lane_start start = { .topic = lane->topic,
                                .end = lane->end,
                                .after = lane->kept_after,
                                .sought = lane->sought,
                                .first_seq = lane->first,
                                .settled = &f.settled,
                                .gaps = &f.gaps,
                                .expired = &f.expired,
                                .dead = &f.dead,
                                .retries = f.retries,
                                .user = lane };

    lane->after = lane->kept_after;
    lane->untold_seeks = 0;
    lane->in_turn = s->rules.mode == MODE_ORDERED;
    if (lane->first > 1 && sim_plant(s, PLANT_FORGOTTEN_TRIM, 1)) {
        start.first_seq = 0;
    }
    for (uint64_t seq = 1; seq <= lane->end; seq++) {
        struct msg *m = &lane->msgs[seq];
        revive(lane, m);
        if (lane->sought
            || seq > lane->after) { /* else the log knows nothing */
            find(s, m, seq, &f, &start);
        }
    }
    sim_recount(lane);
    if (lane->first > 1 && sim_chance(s, 2)) {
        fold_sides(lane, &f.settled);
        fold_sides(lane, &f.gaps);
        fold_sides(lane, &f.expired);
    }
    EXPECT(s, group_add_lane(s->group, &start) == STATUS_OK, "lane %u again",
           lane->topic);
    look_at_retries(s, lane);
    seqset_fini(&f.settled);
    seqset_fini(&f.gaps);
    seqset_fini(&f.expired);
    seqset_fini(&f.dead);
    free(f.retries);
}

void sim_restart(struct sim *s)
{
    size_t synced = sim_rnd(s, s->log_count + 1);

    sim_trace(s, "restart, with %zu of %zu notes", synced, s->log_count);
    s->restarts++;
    sim_sync_log(s, synced);
    s->log_count = 0; /* the rest was never synced */
    sim_close_group(s);
    sim_open_group(s);
    s->ticked = s->now - 1;
    s->again_run = 0;
    for (size_t i = 0; i < LANES_MAX; i++) {
        if (s->lanes[i].topic != 0) {
            restart_lane(s, &s->lanes[i]);
        }
    }
    sim_do_tick(s);
}
