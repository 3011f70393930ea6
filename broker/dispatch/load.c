/* What the store has of topics, groups and lanes, at the start. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"
#include "proto/limits.h"

#include <stdlib.h>

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

/* The retries with their times on our clock; NULL: no memory. */
static struct retry *take_retries(const struct dispatch *d,
                                  const struct store_lane *stored)
{
    struct retry *retries = calloc(stored->retry_count + 1, sizeof *retries);

    for (size_t i = 0; retries != NULL && i < stored->retry_count; i++) {
        retries[i] = stored->retries[i];
        retries[i].due_us = due_from_wall(d, retries[i].due_us);
    }
    return retries;
}

static bool knows_nothing(const struct store_lane *stored)
{
    return !stored->sought && seqset_range_count(stored->acked) == 0
           && seqset_range_count(stored->dead) == 0;
}

static void load_lane(void *arg, const struct store_lane *stored)
{
    struct dispatch *d = arg;
    struct topic *topic = catalog_topic_by_id(d->catalog, stored->topic);
    struct group_fact *fact = catalog_group_by_id(d->catalog, stored->group);
    struct lane_start start = {
        .settled = stored->acked,
        .gaps = stored->gaps,
        .expired = stored->expired,
        .filtered = stored->filtered,
        .discarded = stored->discarded,
        .sought = stored->sought,
        .dead = stored->dead,
        .retry_count = stored->retry_count,
    };
    struct retry *retries;

    if (topic == NULL || topic->user == NULL || fact == NULL
        || fact->user == NULL) {
        return; /* deleted, or another worker's */
    }
    retries = take_retries(d, stored);
    start.retries = retries;
    start.after = stored->sought ? stored->after
                                 : group_starts_after(fact, stored->topic);
    if (retries == NULL
        || dispatch_add_lane(d, fact->user, topic, &start) != STATUS_OK) {
        d->failed = true;
    } else if (stored->sought || knows_nothing(stored)) {
        dispatch_doubt_below_floor(d, fact->user, topic);
    }
    free(retries);
}

enum status dispatch_load(struct dispatch *d, struct error *err)
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
    for (struct link *at = d->groups.next; at != &d->groups; at = at->next) {
        dispatch_add_fresh_lanes(d, container_of(at, struct group_run, all));
    }
    return d->failed ? error_set(err, STATUS_NOMEM, 0, "loading the groups")
                     : STATUS_OK;
}
