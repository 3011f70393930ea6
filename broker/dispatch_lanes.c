/* Which groups and lanes this worker has: read from the store at the start,
 * kept current by the facts of the catalog. */
#include "broker/dispatch_inside.h"

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
    metric_set(&d->config.metrics->lanes, d->config.metrics->lanes - 1);
    free(lane);
}

/* `acked` is what was settled before; what the group never was to get is added
 * to it and counts as settled. */
static enum status add_lane(struct dispatch *d, struct group_run *run,
                            struct topic *topic, struct seqset *acked,
                            struct lane_start *start)
{
    struct topic_state *state = topic->user;
    uint64_t after = group_starts_after(run->fact, topic->id);
    bool settled = seqset_range_count(acked) > 0;
    struct lane_reader *lane = lane_reader_new(d, run, topic);
    enum status status = STATUS_OK;

    if (lane == NULL) {
        return STATUS_NOMEM;
    }
    if (after > 0) {
        status = seqset_add(acked, 1, after, NULL);
    }
    if (status == STATUS_OK) {
        start->topic = topic->id;
        start->end = state->last_seq;
        start->first_seq = state->first_seq;
        start->acked = acked;
        start->user = lane;
        status = group_add_lane(run->group, start);
    }
    if (status != STATUS_OK) {
        lane_reader_free(d, lane);
        return status;
    }
    if (!d->started && !settled) { /* see skip_to_floor() */
        lane->absent_below = state->floor_seq;
    }
    dispatch_touched(d, run);
    return STATUS_OK;
}

/* The group was decided when the floor was lower than it is now, where its fact
 * stands in the log: what is below was not kept for it. The log is told, or a
 * restart would not know. Who dies before that is durable has settled nothing:
 * the next start then takes what is missing below the floor for deleted. */
static bool skip_to_floor(struct dispatch *d, struct group_run *run,
                          const struct topic *topic)
{
    const struct topic_state *state = topic->user;
    uint64_t last = state->floor_seq - 1;
    enum status status = STATUS_OK;

    if (d->started && last > group_starts_after(run->fact, topic->id)) {
        status = group_skip(run->group, topic->id, last);
        dispatch_touched(d, run);
    }
    return status == STATUS_OK;
}

static void add_fresh_lane(struct dispatch *d, struct group_run *run,
                           struct topic *topic)
{
    struct lane_start start = { 0 };
    struct seqset acked = { 0 };

    if (group_lane_user(run->group, topic->id) != NULL
        || !group_takes_topic(run->fact, slice_text(topic->name))) {
        return;
    }
    if (add_lane(d, run, topic, &acked, &start) != STATUS_OK
        || !skip_to_floor(d, run, topic)) {
        no_memory(d);
    }
    seqset_fini(&acked);
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
    for (struct group_run *run = d->groups; run != NULL; run = run->next) {
        add_fresh_lane(d, run, topic);
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
        group_drop_lane(lane->run->group, topic->id);
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

size_t dispatch_owner(const struct dispatch *d, const struct group_fact *group)
{
    return group->id % d->config.worker_count;
}

static void on_group_added(void *arg, struct group_fact *fact)
{
    struct dispatch *d = arg;
    struct group_run *run;
    const struct group_config config = {
        .id = fact->id,
        .lease_us = fact->options.lease_ms * 1000,
        .in_flight_max = GROUP_IN_FLIGHT_DEFAULT,
        .seed = d->config.seed + fact->id,
        .inflight = d->inflight,
    };

    if (dispatch_owner(d, fact) != d->config.worker) {
        return;
    }
    run = calloc(1, sizeof *run);
    if (run != NULL) {
        run->group = group_new(&config);
    }
    if (run == NULL || run->group == NULL) {
        free(run);
        no_memory(d);
        return;
    }
    run->fact = fact;
    run->next = d->groups;
    if (d->groups != NULL) {
        d->groups->previous = run;
    }
    d->groups = run;
    fact->user = run;
    if (!d->loading) {
        struct lanes_of of = { d, run };
        catalog_each_topic(d->catalog, add_lane_of, &of);
    }
}

static void free_reader(void *arg, uint32_t topic, void *user)
{
    (void)topic;
    lane_reader_free(arg, user);
}

static void unlink_from_lists(struct dispatch *d, struct group_run *run)
{
    struct group_run **at = &d->changed;

    for (; *at != NULL; at = &(*at)->next_changed) {
        if (*at == run) {
            *at = run->next_changed;
            break;
        }
    }
    if (run->ready) {
        struct group_run *previous = NULL;
        struct group_run *r = d->ready_first;
        while (r != run) {
            previous = r;
            r = r->next_ready;
        }
        if (previous == NULL) {
            d->ready_first = run->next_ready;
        } else {
            previous->next_ready = run->next_ready;
        }
        if (d->ready_last == run) {
            d->ready_last = previous;
        }
    }
    if (run->previous != NULL) {
        run->previous->next = run->next;
    } else {
        d->groups = run->next;
    }
    if (run->next != NULL) {
        run->next->previous = run->previous;
    }
}

static void group_run_free(struct dispatch *d, struct group_run *run)
{
    unlink_from_lists(d, run);
    group_each_lane(run->group, free_reader, d);
    group_free(run->group);
    free(run->members);
    free(run);
}

static void evict(struct dispatch *d, struct group_run *run,
                  struct member *member, enum status why)
{
    void *user = member_user(member);

    dispatch_forget_member(run, member);
    group_leave(run->group, member);
    d->config.out.evicted(user, why);
}

static void on_group_gone(void *arg, struct group_fact *fact)
{
    struct dispatch *d = arg;
    struct group_run *run = fact->user;

    if (run == NULL) {
        return;
    }
    while (run->member_count > 0) {
        evict(d, run, run->members[0], STATUS_NOT_FOUND);
    }
    group_run_free(d, run);
    fact->user = NULL;
}

/* What it may not have any more must not go on to its sessions. */
static void on_app_gone(void *arg, const struct app *app)
{
    struct dispatch *d = arg;

    for (struct group_run *run = d->groups; run != NULL; run = run->next) {
        /* From the end: the last one takes the place of who leaves. */
        for (size_t i = run->member_count; i > 0; i--) {
            struct member *member = run->members[i - 1];

            if (d->config.out.is_of_app(member_user(member), app->id)) {
                evict(d, run, member, STATUS_UNAUTHENTICATED);
            }
        }
        dispatch_touched(d, run);
    }
}

/* ---- start ---- */

static void load_fact(void *arg, const struct record_fact *fact)
{
    struct dispatch *d = arg;

    dispatch_apply(d, fact);
}

static enum status load_last_ids(struct dispatch *d)
{
    enum status status = STATUS_OK;

    for (enum catalog_class class = CATALOG_APP;
         status == STATUS_OK && class <= CATALOG_GROUP; class ++) {
        uint32_t id = 0;

        status = store_last_id(d->config.store, class, &id);
        if (status == STATUS_OK) {
            catalog_set_last_id(d->catalog, class, id);
        }
    }
    return status;
}

static void load_topic(void *arg, const struct store_topic *stored)
{
    struct dispatch *d = arg;
    struct topic *topic = catalog_topic_by_id(d->catalog, stored->topic);

    if (topic != NULL && topic->user != NULL) {
        struct topic_state *state = topic->user;
        state->last_seq = stored->last_seq;
        state->first_seq = stored->first_seq > 0 ? stored->first_seq : 1;
        state->floor_seq = stored->floor_seq > 0 ? stored->floor_seq : 1;
    }
}

/* A due time of the log's wall clock on the monotonic one. A wall clock that
 * jumped can neither hold a message back for ever nor lose it. */
static uint64_t due_from_wall(const struct dispatch *d, uint64_t due_wall_us)
{
    uint64_t wait;

    if (due_wall_us <= d->config.wall_us) {
        return d->config.now_us;
    }
    wait = due_wall_us - d->config.wall_us;
    if (wait > (uint64_t)DELAY_MS_MAX * 1000) {
        wait = (uint64_t)DELAY_MS_MAX * 1000;
    }
    return d->config.now_us + wait;
}

static enum status copy_set(struct seqset *to, const struct seqset *from)
{
    const struct seq_range *ranges = seqset_ranges(from);
    enum status status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < seqset_range_count(from);
         i++) {
        status = seqset_add(to, ranges[i].first, ranges[i].last, NULL);
    }
    return status;
}

static void load_lane(void *arg, const struct store_lane *stored)
{
    struct dispatch *d = arg;
    struct topic *topic = catalog_topic_by_id(d->catalog, stored->topic);
    struct group_fact *fact = catalog_group_by_id(d->catalog, stored->group);
    struct seqset acked = { 0 };
    struct retry *retries = NULL;
    struct lane_start start = { .gaps = stored->gaps,
                                .retry_count = stored->retry_count };

    if (topic == NULL || topic->user == NULL || fact == NULL
        || fact->user == NULL) {
        return; /* deleted, or another worker's */
    }
    retries = calloc(stored->retry_count + 1, sizeof *retries);
    if (retries == NULL || copy_set(&acked, stored->acked) != STATUS_OK) {
        d->failed = true;
        goto done;
    }
    for (size_t i = 0; i < stored->retry_count; i++) {
        retries[i] = stored->retries[i];
        retries[i].due_us = due_from_wall(d, retries[i].due_us);
    }
    start.retries = retries;
    if (add_lane(d, fact->user, topic, &acked, &start) != STATUS_OK) {
        d->failed = true;
    }
done:
    free(retries);
    seqset_fini(&acked);
}

static enum status load(struct dispatch *d, struct error *err)
{
    struct store *store = d->config.store;
    enum status status;

    d->loading = true;
    status = store_each_fact(store, load_fact, d);
    if (status == STATUS_OK) {
        status = load_last_ids(d);
    }
    if (status == STATUS_OK) {
        status = store_each_topic(store, load_topic, d);
    }
    if (status == STATUS_OK) {
        status = store_each_lane(store, load_lane, d);
    }
    d->loading = false;
    if (status != STATUS_OK) {
        return error_set(err, status, 0, "reading the keydir: %s",
                         status_text(status));
    }
    for (struct group_run *run = d->groups; run != NULL; run = run->next) {
        struct lanes_of of = { d, run };
        catalog_each_topic(d->catalog, add_lane_of, &of);
    }
    return d->failed ? error_set(err, STATUS_NOMEM, 0, "loading the groups")
                     : STATUS_OK;
}

enum status dispatch_new(struct dispatch **out,
                         const struct dispatch_config *config,
                         struct error *err)
{
    struct dispatch *d = calloc(1, sizeof *d);
    const struct inflight_config inflight = { .heap_bytes =
                                                  config->in_flight_bytes,
                                              .now_us = config->now_us };
    const struct catalog_watch watch = {
        .topic_added = on_topic_added,
        .topic_gone = on_topic_gone,
        .group_added = on_group_added,
        .group_gone = on_group_gone,
        .app_gone = on_app_gone,
        .arg = d,
    };
    enum status status;

    if (d == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "dispatch");
    }
    d->config = *config;
    d->due_us = UINT64_MAX;
    d->catalog = catalog_new();
    d->inflight = inflight_new(&inflight);
    if (d->catalog == NULL || d->inflight == NULL) {
        dispatch_free(d);
        return error_set(err, STATUS_NOMEM, 0, "dispatch");
    }
    catalog_set_watch(d->catalog, &watch);
    status = store_view_open(&d->view, config->store, err);
    if (status == STATUS_OK) {
        status = load(d, err);
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
    if (d == NULL) {
        return;
    }
    for (struct group_run *run = d->groups, *next; run != NULL; run = next) {
        next = run->next;
        while (run->member_count > 0) {
            struct member *member = run->members[0];
            dispatch_forget_member(run, member);
            group_leave(run->group, member);
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
