#include "broker/delivery/group.h"

#include "broker/delivery/group_impl.h"

#include <stdlib.h>

/* ---- making and ending ---- */

struct group *group_new(const struct group_config *config)
{
    struct group *group = calloc(1, sizeof *group);

    if (group == NULL) {
        return NULL;
    }
    group->config = *config;
    members_init(&group->members);
    breaker_init(&group->breaker);
    link_init(&group->redo.head);
    link_init(&group->fresh.head);
    link_init(&group->aside);
    link_init(&group->effects);
    link_init(&group->endings);
    group->aside_wake_us = UINT64_MAX;
    group->keys.budget = config->keys;
    group_set_rules(group, &config->rules);
    group->inflight = inflight_group_new(config->inflight, config->id);
    if (group->inflight == NULL) {
        group_free(group);
        return NULL;
    }
    return group;
}

static void forget_members(struct group *group)
{
    size_t at = 0;
    struct member *member;

    while ((member = hash_next(&group->members.by_lease, &at)) != NULL) {
        inflight_forget_list(group->inflight, &member->held, member->lease);
    }
}

void group_free(struct group *group)
{
    size_t at = 0;
    struct lane *lane;

    if (group == NULL) {
        return;
    }
    forget_members(group);
    group_forget_endings(group);
    inflight_group_free(group->inflight);
    members_fini(&group->members);
    while ((lane = hash_next(&group->lanes, &at)) != NULL) {
        lane_free(lane);
    }
    hash_fini(&group->lanes);
    free(group);
}

void group_set_rules(struct group *group, const struct group_rules *rules)
{
    CHECK(rules->backoff_count <= BACKOFF_COUNT_MAX && rules->lease_us > 0);
    group->config.rules = *rules;
    group->members.exclusive = rules->mode == MODE_EXCLUSIVE;
}

/* ---- lanes ---- */

struct lane *group_find_lane(const struct group *group, uint32_t topic)
{
    if (group->last_lane != NULL && group->last_lane->topic == topic) {
        return group->last_lane;
    }
    return hash_get(&group->lanes, topic, 0);
}

void group_mark_fresh(struct group *group, struct lane *lane)
{
    if (lane->cursor <= lane->end && !lane->ending) {
        list_append(&group->fresh.head, &lane->fresh_link);
    }
}

void group_mark_redo(struct group *group, struct lane *lane)
{
    list_append(&group->redo.head, &lane->redo_link);
}

static void count_untold(struct group *group, struct lane *lane)
{
    group->untold_ranges += lane->untold.range_count - lane->untold_ranges;
    lane->untold_ranges = lane->untold.range_count;
}

void group_mark_effects(struct group *group, struct lane *lane)
{
    count_untold(group, lane);
    list_append(&group->effects, &lane->effects_link);
}

/* A message that failed before the start. Wrong ones (not published, settled,
 * dead, twice) are ignored: they come from a log, and the message is what
 * counts. */
static enum status take_retry(struct group *group, struct lane *lane,
                              const struct retry *retry)
{
    struct transaction t = { .group = group->config.id,
                             .topic = lane->topic,
                             .seq = retry->seq,
                             .due_us = retry->due_us,
                             .attempt = retry->attempts,
                             .state = TRANSACTION_DELAYED };

    if (lane_stretch(lane, retry->seq, retry->seq).kind != STRETCH_FRESH
        || !inflight_group_has_room(group->inflight)) {
        return STATUS_OK;
    }
    if (lane->early_in_turn) {
        t.state = TRANSACTION_READY;
        t.flags = OPEN_EARLY;
    }
    if (seqset_add(&lane->early, t.seq, t.seq, NULL) != STATUS_OK) {
        return STATUS_NOMEM;
    }
    if (inflight_begin(group->inflight, &t, NULL, group->now_us) != STATUS_OK) {
        return seqset_remove(&lane->early, t.seq, t.seq, NULL);
    }
    group->first_time += lane->early_in_turn;
    if (!lane->early_in_turn) {
        lane_move(lane, LANE_READY, LANE_DELAYED, 1);
    }
    return STATUS_OK;
}

enum status group_add_lane(struct group *group, const struct lane_start *start)
{
    enum status status = hash_reserve(&group->lanes);
    struct lane *lane;

    if (status != STATUS_OK) {
        return status;
    }
    if (group_find_lane(group, start->topic) != NULL) {
        return STATUS_EXISTS;
    }
    group_end_before(group, start->topic);
    lane = lane_new(start);
    if (lane == NULL) {
        return STATUS_NOMEM;
    }
    lane->early_in_turn = group->config.rules.mode == MODE_ORDERED;
    hash_put(&group->lanes, start->topic, 0, lane);
    for (size_t i = 0; i < start->retry_count; i++) {
        status = take_retry(group, lane, &start->retries[i]);
        if (status != STATUS_OK) {
            group_drop_lane(group, start->topic, NULL);
            return status;
        }
    }
    group_mark_fresh(group, lane);
    return STATUS_OK;
}

void group_forget_untold(struct group *group, struct lane *lane)
{
    group->untold_ranges -= lane->untold_ranges;
    group->untold_failures -= lane->untold.failure_count;
    group->untold_reason_bytes -= lane->untold.reason_bytes;
    untold_fini(&lane->untold);
}

static void forget_lane(struct group *group, const struct lane *lane)
{
    if (group->last_lane == lane) {
        group->last_lane = NULL;
    }
    if (group->redo.at == lane) {
        group->redo.at = NULL;
    }
    if (group->fresh.at == lane) {
        group->fresh.at = NULL;
    }
}

void group_drop_lane(struct group *group, uint32_t topic, size_t *budget)
{
    struct lane *lane = group_find_lane(group, topic);

    if (lane == NULL) {
        return;
    }
    if (!lane->ending) {
        struct ending *ending = group_ending_new();

        if (ending != NULL) {
            group_begin_ending(group, lane, ending);
        } else {
            group_end_at_once(group, lane);
        }
    }
    group_forget_untold(group, lane);
    forget_lane(group, lane);
    hash_remove(&group->lanes, topic, 0);
    lane_free(lane);
    group_end_some(group, budget);
}

void *group_lane_user(const struct group *group, uint32_t topic)
{
    const struct lane *lane = group_find_lane(group, topic);

    return lane == NULL ? NULL : lane->user;
}

void group_extend(struct group *group, uint32_t topic, uint64_t end)
{
    struct lane *lane = group_find_lane(group, topic);

    if (lane != NULL) {
        lane_extend(lane, end);
        group_mark_fresh(group, lane);
    }
}

void group_each_lane(struct group *group,
                     void (*fn)(void *arg, uint32_t topic, void *user),
                     void *arg)
{
    size_t at = 0;
    const struct lane *lane;

    while ((lane = hash_next(&group->lanes, &at)) != NULL) {
        fn(arg, lane->topic, lane->user);
    }
}

/* ---- members ---- */

enum status group_join(struct group *group, uint64_t lease,
                       uint64_t credit_messages, uint64_t credit_bytes,
                       void *user, struct member **out)
{
    struct member *member;
    enum status status = members_join(&group->members, lease, &member);

    if (status != STATUS_OK) {
        return status;
    }
    member->user = user;
    member_set_credit(member, credit_messages, credit_bytes);
    *out = member;
    return STATUS_OK;
}

void group_retire(struct group *group, struct member *member)
{
    CHECK(member->of == &group->members);
    member_retire(member);
}

/* What it holds comes back, and it is a member no more. True: there was
 * something. */
static bool let_go(struct group *group, struct member *member,
                   const struct comeback *how)
{
    const struct transaction *t;
    bool any = false;

    CHECK(member->of == &group->members && !member->retired);
    while ((t = inflight_first(group->inflight, &member->held)) != NULL) {
        if (group_is_left(group, t)) {
            group_end_left(group, t);
            continue;
        }
        any = true;
        if (group_give_back(group, group_find_lane(group, t->topic), t, how)
            != STATUS_OK) {
            break; /* the rest comes back when the leases end */
        }
        group->figures.released += how->cause == 0;
    }
    member_retire(member);
    return any;
}

void group_leave(struct group *group, struct member *member, uint64_t now_us)
{
    group->now_us = now_us;
    if (let_go(group, member, &(struct comeback) { .cause = CAUSE_GONE })) {
        group_note_failed(group);
    }
}

void group_detach(struct group *group, struct member *member, uint64_t now_us)
{
    group->now_us = now_us;
    (void)let_go(group, member, &(struct comeback) { .due_us = 0 });
}

/* ---- effects ---- */

bool group_has_effects(const struct group *group)
{
    return list_first(&group->effects) != NULL;
}

void group_take_effects(struct group *group,
                        bool (*fn)(void *arg, const struct effects *effects),
                        void *arg)
{
    struct link *first;

    while ((first = list_first(&group->effects)) != NULL) {
        struct lane *lane = container_of(first, struct lane, effects_link);
        size_t reason_bytes = lane->untold.reason_bytes;
        struct untold_view view;

        if (untold_is_empty(&lane->untold)) {
            link_remove(first);
            continue;
        }
        untold_first(&lane->untold, &view);
        view.effects.topic = lane->topic;
        if (!fn(arg, &view.effects)) {
            return;
        }
        untold_told(&lane->untold, &view);
        count_untold(group, lane);
        group->untold_failures -= view.effects.failure_count;
        group->untold_reason_bytes -= reason_bytes - lane->untold.reason_bytes;
        if (untold_is_empty(&lane->untold)) {
            link_remove(first);
        }
    }
}

void group_figures(const struct group *group, struct group_figures *out)
{
    *out = group->figures;
}
