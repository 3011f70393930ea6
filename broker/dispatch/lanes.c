/* Which groups and lanes this worker has, kept current by the facts of the
 * catalog. */
#include "broker/dispatch/dispatch.h"

#include "broker/delivery/digest.h"
#include "broker/dispatch/inside.h"
#include "broker/log.h"
#include "proto/limits.h"

#include <stdlib.h>

/* At the start, dispatch_new() says so. Later this worker would serve less than
 * its catalog has, without a sign to anybody; a restart serves it all, so
 * better to end here. */
static void no_memory(struct dispatch *d)
{
    CHECK(!d->started);
    d->failed = true;
}

/* ---- lanes ---- */

static struct lane_reader *
lane_reader_new(struct dispatch *d, struct group_run *run, struct topic *topic)
{
    struct lane_reader *lane = calloc(1, sizeof *lane);
    struct topic_state *state = topic->user;

    if (lane == NULL) {
        return NULL;
    }
    metric_add(&d->config.metrics->lanes, 1);
    lane->run = run;
    lane->topic = state;
    lane->topic_name = topic->name;
    lane->other_filter_through = d->loading ? state->last_seq : 0;
    link_init(&lane->trimming);
    lane->next = state->lanes;
    state->lanes = lane;
    return lane;
}

static void lane_reader_free(struct dispatch *d, struct lane_reader *lane)
{
    struct lane_reader **at = &lane->topic->lanes;

    while (*at != lane) {
        at = &(*at)->next;
    }
    *at = lane->next;
    link_remove(&lane->trimming);
    metric_set(&d->config.metrics->lanes, d->config.metrics->lanes - 1);
    free(lane);
}

enum status dispatch_add_lane(struct dispatch *d, struct group_run *run,
                              struct topic *topic, struct lane_start *start)
{
    struct topic_state *state = topic->user;
    struct lane_reader *lane = lane_reader_new(d, run, topic);
    enum status status;

    if (lane == NULL) {
        return STATUS_NOMEM;
    }
    start->topic = topic->id;
    start->end = state->last_seq;
    start->first_seq = state->first_seq;
    start->user = lane;
    status = group_add_lane(run->group, start);
    if (status != STATUS_OK) {
        lane_reader_free(d, lane);
        return status;
    }
    dispatch_touched(d, run);
    return STATUS_OK;
}

void dispatch_doubt_below_floor(const struct dispatch *d,
                                const struct group_run *run,
                                const struct topic *topic)
{
    const struct topic_state *state = topic->user;
    struct lane_reader *lane = group_lane_user(run->group, topic->id);

    if (!d->started && lane != NULL) {
        lane->absent_below = state->floor_seq;
    }
}

/* The group was decided when the floor was lower than it is now, where its fact
 * stands in the log: what is below was not kept for it and never its own. As
 * with a seek the log is told, or a restart would not know. Who dies before
 * that is durable has settled nothing: the next start then takes what is
 * missing below the floor for deleted. */
static bool begin_at_floor(struct dispatch *d, struct group_run *run,
                           const struct topic *topic)
{
    const struct topic_state *state = topic->user;
    uint64_t after = group_starts_after(run->fact, topic->id);
    uint64_t begins;

    if (!d->started || state->floor_seq - 1 <= after) {
        return true;
    }
    after = after < state->last_seq ? after : state->last_seq;
    return dispatch_seek(d, run->fact, topic, after + 1, &begins) == STATUS_OK;
}

static void add_fresh_lane(struct dispatch *d, struct group_run *run,
                           struct topic *topic)
{
    struct lane_start start = { .after =
                                    group_starts_after(run->fact, topic->id) };

    if (group_lane_user(run->group, topic->id) != NULL
        || !group_takes_topic(run->fact, slice_text(topic->name))) {
        return;
    }
    if (dispatch_add_lane(d, run, topic, &start) != STATUS_OK
        || !begin_at_floor(d, run, topic)) {
        no_memory(d);
    }
    dispatch_doubt_below_floor(d, run, topic);
}

/* ---- the catalog's changes ---- */

static void on_topic_added(void *arg, struct topic *topic)
{
    struct dispatch *d = arg;
    struct topic_state *state = calloc(1, sizeof *state);

    if (state == NULL) {
        no_memory(d);
        return;
    }
    state->id = topic->id;
    state->first_seq = 1;
    state->floor_seq = 1;
    topic->user = state;
    if (d->loading) {
        return;
    }
    for (struct link *at = d->groups.next; at != &d->groups; at = at->next) {
        add_fresh_lane(d, container_of(at, struct group_run, all), topic);
    }
}

static void on_topic_gone(void *arg, struct topic *topic)
{
    struct topic_state *state = topic->user;
    struct dispatch *d = arg;

    if (state == NULL) {
        return;
    }
    while (state->lanes != NULL) {
        struct lane_reader *lane = state->lanes;
        group_drop_lane(lane->run->group, topic->id, &d->trim_looks);
        dispatch_mark_ending(d, lane->run);
        dispatch_touched(d, lane->run);
        lane_reader_free(d, lane);
    }
    free(state);
    topic->user = NULL;
}

struct lanes_of {
    struct dispatch *dispatch;
    struct group_run *run;
};

static void add_lane_of(void *arg, struct topic *topic)
{
    struct lanes_of *of = arg;

    if (topic->user != NULL) {
        add_fresh_lane(of->dispatch, of->run, topic);
    }
}

void dispatch_add_fresh_lanes(struct dispatch *d, struct group_run *run)
{
    struct lanes_of of = { d, run };

    catalog_each_topic(d->catalog, add_lane_of, &of);
}

size_t dispatch_owner(const struct dispatch *d, const struct group_fact *group)
{
    return group->id % d->config.worker_count;
}

/* What the catalog says in milliseconds, for the group. */
static struct group_rules rules_of(const struct group_fact *fact)
{
    const struct group_options *o = &fact->options;
    struct group_rules rules = {
        .mode = o->mode,
        .lease_us = o->lease_ms * 1000,
        .attempts_max = o->attempts_max,
        .backoff_count = o->backoff_count,
        .in_flight_max = (size_t)o->in_flight_max,
        .notice_us = o->notice_ms * 1000,
        .paused = o->paused,
    };

    for (size_t i = 0; i < o->backoff_count; i++) {
        rules.backoff_us[i] = (uint64_t)o->backoff_ms[i] * 1000;
    }
    return rules;
}

static bool takes_apart(const struct group_fact *fact)
{
    return fact->filter != NULL || fact->options.mode == MODE_ORDERED;
}

static uint64_t filter_hash(const struct dispatch *d,
                            const struct group_fact *fact)
{
    const char *filter = fact->options.filter;

    return filter == NULL ? 0 : digest_key(slice_text(filter), d->config.seed);
}

static struct group_run *group_run_new(struct dispatch *d,
                                       struct group_fact *fact)
{
    const struct group_config config = {
        .id = fact->id,
        .rules = rules_of(fact),
        .seed = d->config.seed + fact->id,
        .inflight = d->inflight,
        .keys = &d->keys,
    };
    struct group_run *run = calloc(1, sizeof *run);

    if (run == NULL) {
        return NULL;
    }
    run->group = group_new(&config);
    if (run->group == NULL) {
        free(run);
        return NULL;
    }
    run->fact = fact;
    run->takes_apart = takes_apart(fact);
    run->filter_hash = filter_hash(d, fact);
    run->due_us = UINT64_MAX;
    link_init(&run->ready);
    link_init(&run->changed);
    link_init(&run->starved);
    link_init(&run->ending);
    link_init(&run->all);
    return run;
}

static void on_group_added(void *arg, struct group_fact *fact)
{
    struct dispatch *d = arg;
    struct group_run *run;

    if (dispatch_owner(d, fact) != d->config.worker) {
        return;
    }
    run = dispatch_reserve_due(d) == STATUS_OK ? group_run_new(d, fact) : NULL;
    if (run == NULL) {
        no_memory(d);
        return;
    }
    d->group_count++;
    list_append(&d->groups, &run->all);
    fact->user = run;
    if (!d->loading) {
        dispatch_add_fresh_lanes(d, run);
    }
}

static void note_filter(void *arg, uint32_t topic, void *user)
{
    struct lane_reader *lane = user;

    (void)arg;
    (void)topic;
    lane->other_filter_through = lane->topic->last_seq;
}

static void look_at_filter(const struct dispatch *d, struct group_run *run)
{
    uint64_t hash = filter_hash(d, run->fact);

    if (hash != run->filter_hash) {
        run->filter_hash = hash;
        group_each_lane(run->group, note_filter, NULL);
    }
}

static void on_group_changed(void *arg, struct group_fact *fact)
{
    struct group_run *run = fact->user;
    const struct group_rules rules = rules_of(fact);

    if (run != NULL) {
        run->takes_apart = takes_apart(fact);
        look_at_filter(arg, run);
        group_set_rules(run->group, &rules);
        link_remove(&run->ready); /* its priority may be another */
        dispatch_touched(arg, run);
    }
}

static void free_reader(void *arg, uint32_t topic, void *user)
{
    (void)topic;
    lane_reader_free(arg, user);
}

static void group_run_free(struct dispatch *d, struct group_run *run)
{
    dispatch_books_forget(d, run);
    dispatch_forget_due(d, run);
    link_remove(&run->ready);
    link_remove(&run->changed);
    link_remove(&run->starved);
    link_remove(&run->ending);
    link_remove(&run->all);
    d->group_count--;
    group_each_lane(run->group, free_reader, d);
    group_free(run->group);
    dispatch_redrive_free(run);
    free(run->members);
    free(run);
}

static void evict(struct dispatch *d, struct group_run *run,
                  struct member *member)
{
    void *user = member_user(member);

    dispatch_forget_member(run, member);
    group_detach(run->group, member, d->now_us); /* it is not their fault */
    d->config.out.evicted(user, STATUS_UNAUTHENTICATED);
}

static void on_group_gone(void *arg, struct group_fact *fact)
{
    struct dispatch *d = arg;
    struct group_run *run = fact->user;

    if (run == NULL) {
        return;
    }
    while (run->member_count > 0) {
        struct member *member = run->members[0];
        void *user = member_user(member);

        /* What it holds goes with the group. */
        dispatch_forget_member(run, member);
        group_retire(run->group, member);
        d->config.out.evicted(user, STATUS_NOT_FOUND);
    }
    group_run_free(d, run);
    fact->user = NULL;
}

/* What it may not have any more must not go on to its sessions. */
static void on_app_gone(void *arg, const struct app *app)
{
    struct dispatch *d = arg;

    for (struct link *at = d->groups.next; at != &d->groups; at = at->next) {
        struct group_run *run = container_of(at, struct group_run, all);

        /* From the end: the last one takes the place of who leaves. */
        for (size_t i = run->member_count; i > 0; i--) {
            struct member *member = run->members[i - 1];

            if (d->config.out.is_of_app(member_user(member), app->id)) {
                evict(d, run, member);
            }
        }
        dispatch_touched(d, run);
    }
}

/* ---- start and end ---- */

static void init_lists(struct dispatch *d)
{
    link_init(&d->groups);
    link_init(&d->changed);
    link_init(&d->starved);
    link_init(&d->asked);
    link_init(&d->trimming);
    link_init(&d->ending);
    for (size_t i = 0; i < PRIORITY_HIGH; i++) {
        link_init(&d->ready[i]);
    }
}

static enum status open_parts(struct dispatch *d, struct error *err)
{
    struct inflight_config inflight = {
        .file_path = d->config.in_flight_path,
        .disk_free_min = d->config.in_flight_disk_min,
        .now_us = d->config.now_us,
    };
    const struct catalog_watch watch = {
        .topic_added = on_topic_added,
        .topic_gone = on_topic_gone,
        .group_added = on_group_added,
        .group_changed = on_group_changed,
        .group_gone = on_group_gone,
        .app_gone = on_app_gone,
        .arg = d,
    };
    enum status status;

    for (size_t i = 0; i < TIER_COUNT; i++) {
        inflight.bytes[i] = d->config.in_flight_bytes[i];
    }
    status = inflight_new(&d->inflight, &inflight, err);
    if (status != STATUS_OK) {
        return status;
    }
    d->catalog = catalog_new();
    if (d->catalog == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "dispatch");
    }
    catalog_set_watch(d->catalog, &watch);
    return store_view_open(&d->view, d->config.store, err);
}

enum status dispatch_new(struct dispatch **out,
                         const struct dispatch_config *config,
                         struct error *err)
{
    struct dispatch *d = calloc(1, sizeof *d);
    enum status status;

    if (d == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "dispatch");
    }
    d->config = *config;
    d->now_us = config->now_us;
    d->keys.max = (size_t)KEYS_WAITING_MAX * 8;
    d->trim_looks = TRIM_LOOKS_TURN;
    init_lists(d);
    dispatch_clock_set(d, config->now_us, config->wall_us);
    status = open_parts(d, err);
    if (status == STATUS_OK) {
        status = dispatch_load(d, err);
    }
    if (status != STATUS_OK) {
        dispatch_free(d);
        return status;
    }
    d->started = true;
    *out = d;
    return STATUS_OK;
}

static void free_topic_state(void *arg, struct topic *topic)
{
    (void)arg;
    free(topic->user);
    topic->user = NULL;
}

void dispatch_free(struct dispatch *d)
{
    struct link *link;

    if (d == NULL) {
        return;
    }
    while ((link = list_first(&d->groups)) != NULL) {
        struct group_run *run = container_of(link, struct group_run, all);

        while (run->member_count > 0) {
            struct member *member = run->members[0];
            dispatch_forget_member(run, member);
            group_leave(run->group, member, d->now_us);
        }
        group_run_free(d, run);
    }
    if (d->catalog != NULL) {
        catalog_each_topic(d->catalog, free_topic_state, NULL);
    }
    catalog_free(d->catalog);
    inflight_free(d->inflight);
    store_view_close(d->view);
    bytes_fini(&d->scratch);
    free(d->due);
    free(d->recent);
    free(d);
}

struct catalog *dispatch_catalog(const struct dispatch *d)
{
    return d->catalog;
}

uint64_t dispatch_last_seq(const struct topic *topic)
{
    const struct topic_state *state = topic->user;

    return state == NULL ? 0 : state->last_seq;
}

uint64_t dispatch_first_seq(const struct topic *topic)
{
    const struct topic_state *state = topic->user;

    return state == NULL ? 1 : state->first_seq;
}

uint64_t dispatch_floor_seq(const struct topic *topic)
{
    const struct topic_state *state = topic->user;

    return state == NULL ? 1 : state->floor_seq;
}
