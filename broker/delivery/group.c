#include "broker/delivery/group.h"

#include "broker/delivery/group_impl.h"
#include "proto/limits.h"

#include <stdlib.h>

/* Who is offered what is decided by three rings: the members that may have one,
 * the lanes with messages ready again, the lanes with fresh ones. A lane stays
 * at the head of its ring for a burst, then goes to the end. The two lane rings
 * are filled eagerly and cleaned lazily, by group_next().
 *
 * Memory for what comes back (a waiting message, a retry for the log) is taken
 * at that moment. If there is none, nothing is lost: the message stays in
 * flight under its old lease, which then ends a little later. */

enum {
    LANE_BURST_MAX = 64,      /* messages of one lane in a row */
    DUE_MAX = 64,             /* delayed made ready by one group_next() */
    EXPIRY_AGAIN_US = 1000000 /* no memory to take it back: once more then */
};

/* ---- making and ending ---- */

struct group *group_new(const struct group_config *config)
{
    struct group *group = calloc(1, sizeof *group);

    if (group == NULL) {
        return NULL;
    }
    group->config = *config;
    group->random = config->seed;
    members_init(&group->members);
    link_init(&group->redo.head);
    link_init(&group->fresh.head);
    link_init(&group->effects);
    group->inflight = inflight_group_new(config->inflight, config->id);
    if (group->inflight == NULL) {
        group_free(group);
        return NULL;
    }
    return group;
}

void group_free(struct group *group)
{
    size_t at = 0;
    struct lane *lane;

    if (group == NULL) {
        return;
    }
    inflight_group_free(group->inflight);
    members_fini(&group->members);
    while ((lane = hash_next(&group->lanes, &at)) != NULL) {
        lane_free(lane);
    }
    hash_fini(&group->lanes);
    schedule_fini(&group->schedule);
    free(group);
}

/* ---- lanes ---- */

struct lane *group_find_lane(const struct group *group, uint32_t topic)
{
    if (group->last_lane != NULL && group->last_lane->topic == topic) {
        return group->last_lane;
    }
    return hash_get(&group->lanes, topic, 0);
}

static void mark_fresh(struct group *group, struct lane *lane)
{
    if (lane->cursor <= lane->end) {
        list_append(&group->fresh.head, &lane->fresh);
    }
}

static void mark_redo(struct group *group, struct lane *lane)
{
    list_append(&group->redo.head, &lane->redo);
}

void group_mark_effects(struct group *group, struct lane *lane)
{
    list_append(&group->effects, &lane->effects);
}

static void lane_forget(struct group *group, struct lane *lane)
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

/* A message that failed before the restart. Wrong ones (not published, settled,
 * twice) are ignored: they come from a log, and the message is what counts. */
static enum status take_retry(struct group *group, struct lane *lane,
                              const struct retry *retry)
{
    struct stretch at = lane_stretch(lane, retry->seq, retry->seq);
    enum status status;
    struct waiting *w;

    if (at.kind != STRETCH_FRESH) {
        return STATUS_OK;
    }
    status = schedule_reserve(&group->schedule, lane);
    if (status == STATUS_OK) {
        status = seqset_add(&lane->early, retry->seq, retry->seq, NULL);
    }
    if (status != STATUS_OK) {
        return status;
    }
    w = schedule_add(&group->schedule, lane, retry->seq, retry->attempts);
    inflight_keep_place(group->inflight);
    schedule_delay(&group->schedule, w, retry->due_us);
    lane_move(lane, LANE_READY, LANE_DELAYED, 1);
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
    lane = lane_new(start);
    if (lane == NULL) {
        return STATUS_NOMEM;
    }
    hash_put(&group->lanes, start->topic, 0, lane);
    for (size_t i = 0; i < start->retry_count; i++) {
        status = take_retry(group, lane, &start->retries[i]);
        if (status != STATUS_OK) {
            group_drop_lane(group, start->topic);
            return status;
        }
    }
    mark_fresh(group, lane);
    return STATUS_OK;
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
        mark_fresh(group, lane);
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

/* ---- one transaction ends ---- */

void group_end_transaction(struct group *group, const struct transaction *t)
{
    struct member *member = members_find(&group->members, t->holder);
    size_t bytes = t->bytes;

    CHECK(member != NULL);
    inflight_end(group->inflight, t, &member->held);
    member_credit(member, bytes);
}

/* It was deleted while somebody had it: it does not come back. */
static enum status give_up(struct group *group, struct lane *lane,
                           const struct transaction *t)
{
    enum status status = lane_delete(lane, t->seq, t->seq);

    if (status == STATUS_OK) {
        group_end_transaction(group, t);
        lane_move(lane, LANE_IN_FLIGHT, LANE_DELETED, 1);
        group->figures.deleted++;
    }
    return status;
}

static enum status come_back(struct group *group, struct lane *lane,
                             const struct transaction *t,
                             const struct comeback *how)
{
    struct retry retry = { .seq = t->seq,
                           .attempts = t->attempt - (how->counted ? 0 : 1),
                           .due_us = how->due_us };
    enum status status = schedule_reserve(&group->schedule, lane);
    struct waiting *w;

    if (status == STATUS_OK && how->counted) {
        status = lane_reserve_retry(lane);
    }
    if (status != STATUS_OK) {
        return status;
    }
    group_end_transaction(group, t);
    w = schedule_add(&group->schedule, lane, retry.seq, retry.attempts);
    inflight_keep_place(group->inflight);
    if (how->due_us == 0) {
        lane_move(lane, LANE_IN_FLIGHT, LANE_READY, 1);
        mark_redo(group, lane);
    } else {
        schedule_delay(&group->schedule, w, how->due_us);
        lane_move(lane, LANE_IN_FLIGHT, LANE_DELAYED, 1);
    }
    if (how->counted) {
        lane_note_retry(lane, &retry);
        group->retry_backlog++;
        group_mark_effects(group, lane);
    }
    return STATUS_OK;
}

enum status group_give_back(struct group *group, struct lane *lane,
                            const struct transaction *t,
                            const struct comeback *how)
{
    return t->seq < lane->first ? give_up(group, lane, t)
                                : come_back(group, lane, t, how);
}

void group_leave(struct group *group, struct member *member)
{
    const struct comeback at_once = { .counted = true, .due_us = 0 };
    const struct transaction *t;

    CHECK(member->of == &group->members && !member->retired);
    while ((t = inflight_first(group->inflight, &member->held)) != NULL) {
        struct lane *lane = group_find_lane(group, t->topic);
        CHECK(lane != NULL);
        if (group_give_back(group, lane, t, &at_once) != STATUS_OK) {
            break; /* the rest comes back when the leases end */
        }
    }
    member_retire(member);
}

void group_stop_waiting(struct group *group, struct waiting *w)
{
    schedule_remove(&group->schedule, w);
    inflight_leave_place(group->inflight);
}

static void drop_open(struct group *group, struct lane *lane, uint64_t seq)
{
    const struct transaction *t =
        inflight_find(group->inflight, lane->topic, seq);

    if (t != NULL) {
        group_end_transaction(group, t);
    } else {
        group_stop_waiting(group,
                           schedule_find(&group->schedule, lane->topic, seq));
    }
}

void group_drop_lane(struct group *group, uint32_t topic)
{
    struct lane *lane = group_find_lane(group, topic);
    uint64_t seq = 1;

    if (lane == NULL) {
        return;
    }
    /* What is in flight or waiting lies in the open stretches, and nowhere
     * else: no need to look at other lanes' messages. */
    while (seq <= lane->end) {
        struct stretch stretch = lane_stretch(lane, seq, lane->end);
        while (stretch.kind == STRETCH_OPEN && seq <= stretch.range.last) {
            drop_open(group, lane, seq++);
        }
        seq = stretch.range.last + 1;
    }
    group->retry_backlog -= lane->new_retry_count - lane->new_retry_begin;
    lane_forget(group, lane);
    hash_remove(&group->lanes, topic, 0);
    lane_free(lane);
}

/* ---- delivery ---- */

/* At most `budget` delayed messages whose time has come. Returns how many. */
static size_t make_due_ready(struct group *group, uint64_t now_us,
                             size_t budget)
{
    size_t count = 0;

    while (count < budget && schedule_due_us(&group->schedule) <= now_us) {
        struct waiting *w = heap_first(&group->schedule.delayed);
        schedule_make_ready(&group->schedule, w);
        lane_move(w->lane, LANE_DELAYED, LANE_READY, 1);
        mark_redo(group, w->lane);
        count++;
    }
    return count;
}

static struct lane *next_redo(struct group *group)
{
    struct link *first;

    while ((first = list_first(&group->redo.head)) != NULL) {
        struct lane *lane = container_of(first, struct lane, redo);
        if (lane->ready.count > 0) {
            return lane;
        }
        link_remove(first);
    }
    return NULL;
}

static struct lane *next_fresh(struct group *group, uint64_t *seq)
{
    struct link *first;

    while ((first = list_first(&group->fresh.head)) != NULL) {
        struct lane *lane = container_of(first, struct lane, fresh);
        if (lane_fresh(lane, seq)) {
            return lane;
        }
        link_remove(first);
    }
    return NULL;
}

bool group_next(struct group *group, uint64_t now_us, struct offer *out)
{
    struct member *member = members_turn(&group->members);
    size_t in_flight = inflight_group_count(group->inflight);
    size_t waiting = schedule_count(&group->schedule);
    uint64_t seq = 0;
    uint32_t attempt = 1;
    struct lane *lane;

    if (member == NULL || in_flight >= group->config.in_flight_max
        || group->retry_backlog >= RETRY_BACKLOG_MAX) {
        return false;
    }
    if (waiting > 0) {
        (void)make_due_ready(group, now_us, DUE_MAX);
    }
    lane = next_redo(group);
    if (lane != NULL) {
        seq = heap_first(&lane->ready)->seq;
        attempt = heap_first(&lane->ready)->attempts + 1;
    } else if (in_flight + waiting < group->config.in_flight_max) {
        /* What waits counts: else a member that gives everything back would
         * fill the memory. */
        lane = next_fresh(group, &seq);
    }
    if (lane == NULL) {
        return false;
    }
    *out = (struct offer) { .member = member,
                            .topic = lane->topic,
                            .seq = seq,
                            .attempt = attempt,
                            .lane_user = lane->user };
    group->last_lane = lane;
    return true;
}

/* A message was taken from the lane at the head of the ring. */
static void count_burst(struct lane_ring *ring, struct lane *lane)
{
    if (ring->at != lane) {
        ring->at = lane;
        ring->burst = 0;
    }
    if (++ring->burst >= LANE_BURST_MAX) {
        list_rotate(&ring->head);
        ring->at = NULL;
    }
}

/* It leaves the ready ones, again or fresh. */
static void take_ready(struct group *group, struct lane *lane,
                       struct waiting *w, uint64_t seq)
{
    if (w == NULL) {
        CHECK(seq == lane->cursor);
        lane_take_fresh(lane);
        count_burst(&group->fresh, lane);
        return;
    }
    CHECK(!w->delayed);
    group_stop_waiting(group, w);
    count_burst(&group->redo, lane);
    group->figures.redelivered++;
}

enum status group_delivered(struct group *group, const struct offer *offer,
                            size_t bytes, uint64_t now_us)
{
    struct lane *lane = group_find_lane(group, offer->topic);
    struct member *member = offer->member;
    struct waiting *w;
    enum status status;

    CHECK(lane != NULL && bytes <= UINT32_MAX);
    w = schedule_find(&group->schedule, offer->topic, offer->seq);
    if (w == NULL && !inflight_group_has_room(group->inflight)) {
        return STATUS_AGAIN; /* what waits has its place already */
    }
    status = inflight_begin(group->inflight,
                            &(struct transaction) {
                                .group = group->config.id,
                                .topic = offer->topic,
                                .seq = offer->seq,
                                .attempt = offer->attempt,
                                .bytes = (uint32_t)bytes,
                                .holder = member->lease,
                                .lease_end_us = now_us + group->config.lease_us,
                            },
                            &member->held);
    if (status != STATUS_OK) {
        return status;
    }
    take_ready(group, lane, w, offer->seq);
    lane_move(lane, LANE_READY, LANE_IN_FLIGHT, 1);
    member_charge(member, bytes);
    group->figures.delivered++;
    return STATUS_OK;
}

/* ---- time ---- */

/* The first failure may be a slow or a dead subscriber's: at once to another.
 * From the second on it may be the message's: wait. */
static void expire(struct group *group, const struct transaction *t,
                   uint64_t now_us)
{
    struct lane *lane = group_find_lane(group, t->topic);
    struct comeback how = { .counted = true };

    CHECK(lane != NULL);
    if (t->attempt > 1) {
        how.due_us = now_us + group_backoff_us(group, t->attempt);
    }
    if (group_give_back(group, lane, t, &how) != STATUS_OK) {
        inflight_extend(group->inflight, t, now_us + EXPIRY_AGAIN_US);
        return;
    }
    group->figures.expired++;
}

bool group_tick(struct group *group, uint64_t now_us, size_t budget)
{
    const struct transaction *t;

    budget -= make_due_ready(group, now_us, budget);
    while ((t = inflight_expired(group->inflight, now_us)) != NULL) {
        if (budget == 0) {
            return true;
        }
        expire(group, t, now_us);
        budget--;
    }
    return schedule_due_us(&group->schedule) <= now_us;
}

uint64_t group_due_us(const struct group *group)
{
    uint64_t expiry = inflight_due_us(group->inflight);
    uint64_t delayed = schedule_due_us(&group->schedule);

    return expiry < delayed ? expiry : delayed;
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
        struct lane *lane = container_of(first, struct lane, effects);
        struct lane_effects part;
        struct effects effects = { .topic = lane->topic,
                                   .acked = &part.acked,
                                   .gaps = &part.gaps };

        lane_effects(lane, &part);
        effects.retries = part.retries;
        effects.retry_count = part.retry_count;
        if (!fn(arg, &effects)) {
            return;
        }
        lane_effects_told(lane, &part);
        group->retry_backlog -= part.retry_count;
        if (!lane_has_effects(lane)) {
            link_remove(first);
        }
    }
}

/* ---- the books ---- */

bool group_books(const struct group *group, uint32_t topic,
                 struct lane_books *out)
{
    const struct lane *lane = group_find_lane(group, topic);

    if (lane == NULL) {
        return false;
    }
    *out = (struct lane_books) { .topic = topic,
                                 .published = lane->end,
                                 .acked = lane->count[LANE_ACKED],
                                 .gap = lane->count[LANE_GAP],
                                 .deleted = lane->count[LANE_DELETED],
                                 .ready = lane->count[LANE_READY],
                                 .delayed = lane->count[LANE_DELAYED],
                                 .in_flight = lane->count[LANE_IN_FLIGHT] };
    return true;
}

static size_t count_delayed(const struct group *group, const struct lane *lane)
{
    const struct heap *delayed = &group->schedule.delayed;
    size_t count = 0;

    for (size_t i = 0; i < delayed->count; i++) {
        count += delayed->items[i]->lane == lane;
    }
    return count;
}

static uint64_t count_fresh(const struct lane *lane)
{
    uint64_t count = 0;
    uint64_t seq = lane->cursor;

    while (seq <= lane->end) {
        struct stretch stretch = lane_stretch(lane, seq, lane->end);
        if (stretch.kind == STRETCH_FRESH) {
            count += stretch.range.last - stretch.range.first + 1;
        }
        seq = stretch.range.last + 1;
    }
    return count;
}

bool group_audit(const struct group *group, uint32_t topic)
{
    const struct lane *lane = group_find_lane(group, topic);
    const uint64_t *count;

    if (lane == NULL) {
        return true;
    }
    count = lane->count;
    return count[LANE_ACKED] + count[LANE_GAP] + count[LANE_DELETED]
               == seqset_count(&lane->settled)
           && count[LANE_READY] == lane->ready.count + count_fresh(lane)
           && count[LANE_DELAYED] == count_delayed(group, lane)
           && count[LANE_IN_FLIGHT] == inflight_count_in(group->inflight, topic)
           && lane->end
                  == count[LANE_ACKED] + count[LANE_GAP] + count[LANE_DELETED]
                         + count[LANE_READY] + count[LANE_DELAYED]
                         + count[LANE_IN_FLIGHT];
}

void group_figures(const struct group *group, struct group_figures *out)
{
    *out = group->figures;
}
