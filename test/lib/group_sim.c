#include "test/lib/group_sim.h"

#include "test/lib/tmpdir.h"

/* ---- another group in the same table ---- */

enum { HOG_TOPIC = 7, HOG_COUNT = 100000 };

void sim_open_hog(struct sim *s)
{
    struct lane_start start = { .topic = HOG_TOPIC, .end = HOG_COUNT };
    struct message_facts facts = { .bytes = 1 };
    struct offer offer;

    s->hog = group_new(
        &(struct group_config) { .id = 4,
                                 .rules = { .mode = MODE_SHARED,
                                            .lease_us = 10 * HOUR,
                                            .in_flight_max = HOG_COUNT },
                                 .inflight = s->inflight,
                                 .keys = &s->keys });
    CHECK(s->hog != NULL && group_add_lane(s->hog, &start) == STATUS_OK
          && group_join(s->hog, 1, HOG_COUNT, HOG_COUNT, NULL, &s->hog_member)
                 == STATUS_OK);
    while (group_next(s->hog, s->now, &offer)
           && group_take(s->hog, &offer, &facts, s->now) == TAKE_DELIVERED) {
    }
}

void sim_close_hog(struct sim *s)
{
    if (s->hog != NULL) {
        group_leave(s->hog, s->hog_member, s->now);
        group_free(s->hog);
        s->hog = NULL;
    }
}

bool sim_has_room(const struct sim *s)
{
    struct inflight_figures f;
    struct group_figures hog = { 0 };
    uint64_t count = 0;
    uint64_t most = 0;

    if (s->hog != NULL) {
        group_figures(s->hog, &hog);
    }
    inflight_figures(s->inflight, &f);
    for (size_t i = 0; i < TIER_COUNT; i++) {
        count += f.tiers[i].count;
        most += f.tiers[i].count_max;
    }
    return count - hog.delivered < most - count;
}

static void do_restart(struct sim *s)
{
    if (sim_chance(s, 20)) {
        sim_restart(s);
    }
}

/* The log takes nothing for a while. */
static void do_deafen(struct sim *s)
{
    s->deaf = !s->deaf && sim_chance(s, 4);
}

static void do_storm(struct sim *s)
{
    s->storm = !s->storm && sim_chance(s, 3);
}

static void step(struct sim *s)
{
    static void (*const steps[])(struct sim *) = {
        sim_do_publish,  sim_do_publish,   sim_do_publish, sim_do_deliver,
        sim_do_deliver,  sim_do_deliver,   sim_do_deliver, sim_do_settle,
        sim_do_settle,   sim_do_settle,    sim_do_settle,  sim_do_settle,
        sim_do_settle,   sim_do_settle,    sim_do_settle,  sim_do_settle,
        sim_do_settle,   sim_do_settle,    sim_do_settle,  sim_do_advance,
        sim_do_advance,  sim_do_tick,      sim_do_tick,    sim_do_join,
        sim_do_leave,    sim_do_credit,    sim_do_rules,   sim_do_pause,
        sim_do_new_lane, sim_do_drop_lane, sim_do_lose,    do_restart,
        sim_do_trim,     sim_do_seek,      sim_do_go_on,   sim_do_redrive,
        sim_do_redrive,  sim_do_bury,      sim_do_discard, do_deafen,
        do_storm,        sim_do_sweep,
    };

    s->step++;
    steps[sim_rnd(s, COUNT_OF(steps))](s);
    if (!s->failed) {
        sim_check(s);
    }
}

/* ---- the end ---- */

static uint64_t open_count(const struct sim *s)
{
    return sim_total(s, FRESH) + sim_total(s, WAITING)
           + sim_total(s, IN_FLIGHT);
}

static void one_willing_member(struct sim *s)
{
    struct person *p = &s->people[0];

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
    s->rules.paused = false;
    group_set_rules(s->group, &s->rules);
    s->deaf = false;
}

static void ack_all(struct sim *s)
{
    for (size_t i = 0; !s->failed && i < LANES_MAX; i++) {
        struct lane *lane = &s->lanes[i];
        if (lane->topic != 0 && lane->end > 0) {
            sim_settle(s, lane,
                       &(struct settlement) { .lease = s->people[0].lease,
                                              .topic = lane->topic,
                                              .action = SETTLE_ACK,
                                              .range = { 1, lane->end } });
        }
    }
}

/* With one willing member and time everything is settled, but for the dead. */
static void drain(struct sim *s)
{
    uint64_t rounds = 0;

    one_willing_member(s);
    while (!s->failed && open_count(s) > 0) {
        uint64_t due;
        s->step++;
        sim_do_go_on(s);
        while (!s->failed && sim_deliver_one(s)) {
        }
        if (!s->failed) {
            ack_all(s);
        }
        if (!s->failed) {
            sim_check(s);
        }
        due = group_due_us(s->group);
        s->now = due != UINT64_MAX && due > s->now ? due : s->now;
        if (!s->failed) {
            sim_do_tick(s);
        }
        if (!s->failed) {
            sim_check(s);
        }
        EXPECT(s, ++rounds < 10000, "not all is delivered in the end");
    }
}

static bool begin(struct sim *s, const struct sim_options *options)
{
    *s = (struct sim) { .options = *options,
                        .random = options->seed,
                        .now = 1000 * SECOND,
                        .ticked = 1000 * SECOND,
                        .next_topic = 1,
                        .next_lease = 1 };
    for (size_t i = 0; i < LANES_MAX; i++) {
        s->lanes[i].msgs = calloc(LANE_END_MAX + 1, sizeof(struct msg));
        CHECK(s->lanes[i].msgs != NULL);
    }
    tmpdir_make(s->folder, sizeof s->folder);
    sim_first_rules(s);
    sim_open_group(s);
    return !s->failed;
}

bool sim_run(struct sim *s, const struct sim_options *options)
{
    bool begun = begin(s, options);

    while (begun && !s->failed && s->step < options->steps) {
        step(s);
    }
    if (!s->failed) {
        drain(s);
    }
    if (s->group != NULL) {
        sim_close_group(s);
    }
    for (size_t i = 0; i < LANES_MAX; i++) {
        for (size_t seq = 0; seq <= LANE_END_MAX; seq++) {
            free(s->lanes[i].msgs[seq].owed);
        }
        free(s->lanes[i].msgs);
    }
    free(s->log);
    tmpdir_remove(s->folder);
    return !s->failed;
}
