/* What becomes of an offer: its reader knows the message, and that decides. */
#include "broker/delivery/group_impl.h"

enum { LANE_BURST_MAX = 64 /* messages of one lane in a row */ };

/* ---- where it was offered ---- */

enum source { SOURCE_CURSOR, SOURCE_KEYS, SOURCE_READY, SOURCE_ASIDE };

struct taking {
    struct group *group;
    const struct offer *offer;
    const struct message_facts *facts;
    struct lane *lane;
    const struct transaction *t; /* NULL: fresh, or behind its key since */
    enum source source;
    bool claims; /* its key; there is room to */
};

static enum source source_of(const struct taking *k)
{
    if (k->t == NULL) {
        return k->offer->seq == k->lane->cursor ? SOURCE_CURSOR : SOURCE_KEYS;
    }
    return (k->t->flags & OPEN_EARLY) != 0    ? SOURCE_CURSOR
           : (k->t->flags & OPEN_BEHIND) != 0 ? SOURCE_KEYS
           : open_is_aside(k->t)              ? SOURCE_ASIDE
                                              : SOURCE_READY;
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

static void pop_if_first(struct seqheap *heap, uint64_t seq)
{
    if (seqheap_first(heap) == seq) {
        seqheap_pop(heap);
    }
}

/* It was offered there, and is no more. */
static void leave_source(const struct taking *k)
{
    struct lane *lane = k->lane;

    switch (k->source) {
    case SOURCE_CURSOR:
        CHECK(k->offer->seq == lane->cursor);
        lane_take_fresh(lane);
        count_burst(&k->group->fresh, lane);
        return;
    case SOURCE_KEYS:
        k->group->woken_turn = false;
        if (!k->claims) {
            CHECK(keys_woken(lane->keys) == k->offer->seq);
            keys_pop_woken(lane->keys);
        }
        break;
    case SOURCE_READY:
        k->group->woken_turn = true;
        pop_if_first(&lane->redo, k->offer->seq);
        break;
    case SOURCE_ASIDE:
        pop_if_first(&lane->aside, k->offer->seq);
        return;
    }
    count_burst(&k->group->redo, lane);
}

/* ---- what it becomes ---- */

static enum take find_no_room(struct group *group)
{
    group->no_room = true;
    group_note_held_by(group, GATE_QUOTA);
    /* What waits behind a key gives back what it takes of the budget, and
     * another lane's may free room. */
    group->woken_turn = true;
    list_rotate(&group->redo.head);
    group->redo.at = NULL;
    return TAKE_AGAIN;
}

/* Expired or filtered: settled. */
static enum take settle_now(const struct taking *k, enum effect_set as,
                            enum lane_state to)
{
    uint64_t seq = k->offer->seq;

    if (lane_settle(k->lane, as, seq, seq) != STATUS_OK) {
        return TAKE_AGAIN;
    }
    group_mark_effects(k->group, k->lane);
    leave_source(k);
    if (k->t != NULL) {
        group_end_as(k->group, k->lane, k->t, to);
    } else {
        lane_move(k->lane, LANE_READY, to, 1);
    }
    return TAKE_PASSED;
}

/* It has or gets a transaction that waits, in this state. Not due yet, or it is
 * behind its key and must remember how often it failed. */
static enum take wait_with(const struct taking *k,
                           const struct transaction *next)
{
    struct group *group = k->group;

    if (k->t == NULL) {
        if (!inflight_group_has_room(group->inflight)
            || inflight_begin(group->inflight, next, NULL, group->now_us)
                   != STATUS_OK) {
            return find_no_room(group);
        }
        group->first_time++;
    }
    leave_source(k);
    if (k->t != NULL) {
        group_change_waiting(group, k->t, next);
    }
    if (next->state == TRANSACTION_DELAYED) {
        lane_move(k->lane, LANE_READY, LANE_DELAYED, 1);
    }
    return TAKE_PASSED;
}

static enum take wait_until(const struct taking *k, uint64_t due_us)
{
    struct transaction next = { .group = k->group->config.id,
                                .topic = k->offer->topic,
                                .seq = k->offer->seq,
                                .flags = OPEN_NEVER };

    if (k->t != NULL) {
        next = *k->t;
        next.flags &= (uint8_t) ~(OPEN_EARLY | OPEN_BEHIND);
    }
    next.state = TRANSACTION_DELAYED;
    next.due_us = due_us;
    return wait_with(k, &next);
}

static enum take wait_behind(const struct taking *k)
{
    struct transaction next;

    leave_source(k);
    keys_wait(k->lane->keys, k->facts->key_hash, k->offer->seq);
    if (k->t != NULL) {
        next = *k->t;
        next.flags = (uint8_t)((next.flags & ~OPEN_EARLY) | OPEN_BEHIND);
        group_change_waiting(k->group, k->t, &next);
    }
    return TAKE_PASSED;
}

static void count_delivery(const struct taking *k, bool again)
{
    struct group *group = k->group;

    group->no_room = false;
    group->figures.delivered++;
    group->figures.redelivered += again;
    if (again && group->redo_share < REDO_BURST) {
        group->redo_share++;
    } else if (!again && group->redo_share > 0) {
        group->redo_share--;
    }
    if (group->breaker.open) {
        breaker_gave(&group->breaker, group->now_us);
    }
    if (k->source == SOURCE_ASIDE) {
        members_reserve(&group->members, NULL);
        member_set_alone(k->offer->member, k->offer->topic, k->offer->seq);
        group->aside_wait = ASIDE_BETWEEN;
        group->figures.set_aside++;
    } else if (group->aside_wait > 0) {
        group->aside_wait--;
    }
}

static struct transaction held_by_offered(const struct taking *k)
{
    struct transaction t = {
        .group = k->group->config.id,
        .topic = k->offer->topic,
        .seq = k->offer->seq,
        .attempt = k->offer->attempt,
        .bytes = (uint32_t)k->facts->bytes,
        .holder = k->offer->member->lease,
        .state = TRANSACTION_HELD,
        .flags = k->t == NULL ? 0 : k->t->flags & OPEN_ENDS,
    };

    group_arm_lease(k->group, &t,
                    k->group->now_us + k->group->config.rules.lease_us);
    return t;
}

static enum take deliver(const struct taking *k)
{
    struct group *group = k->group;
    struct member *member = k->offer->member;
    bool again = k->t != NULL && (k->t->flags & OPEN_NEVER) == 0;
    struct transaction next;

    /* What has a transaction has its place. */
    if (k->t == NULL && !inflight_group_has_room(group->inflight)) {
        return find_no_room(group);
    }
    next = held_by_offered(k);
    if (k->t == NULL
        && inflight_begin(group->inflight, &next, &member->held, group->now_us)
               != STATUS_OK) {
        group_disarm_lease(group, &next);
        return find_no_room(group);
    }
    leave_source(k);
    if (k->t != NULL) {
        group->first_time -= open_is_first_time(k->t);
        inflight_change(group->inflight, k->t, &next, NULL, &member->held,
                        group->now_us);
    }
    lane_move(k->lane, LANE_READY, LANE_IN_FLIGHT, 1);
    member_charge(member, k->facts->bytes);
    count_delivery(k, again);
    return TAKE_DELIVERED;
}

/* Its turn has come, and its key is its own. */
static enum take take_turn(const struct taking *k)
{
    /* Of before a start, and its delay is not over. */
    if (k->t != NULL && k->t->due_us > k->group->now_us) {
        return wait_until(k, k->t->due_us);
    }
    return deliver(k);
}

static bool waits(void *arg, uint64_t seq)
{
    const struct taking *k = arg;

    return group_waits_behind(k->group, k->lane, seq);
}

/* With a key in an ordered group. */
static enum take take_in_order(struct taking *k)
{
    struct lane *lane = k->lane;
    uint64_t hash = k->facts->key_hash;
    uint64_t seq = k->offer->seq;
    enum take result;

    if (lane->keys == NULL) {
        lane->keys = keys_new(&k->group->keys);
    }
    if (lane->keys != NULL) {
        keys_drop_gone(lane->keys, hash, waits, k);
    }
    if (lane->keys == NULL
        || keys_reserve(lane->keys, hash, seq) != STATUS_OK) {
        return find_no_room(k->group);
    }
    if (!keys_is_free(lane->keys, hash, seq)) {
        return wait_behind(k);
    }
    k->claims = true;
    result = take_turn(k);
    if (result == TAKE_AGAIN) {
        keys_tidy(lane->keys, hash);
    } else {
        keys_claim(lane->keys, hash, seq);
    }
    return result;
}

enum take group_take(struct group *group, const struct offer *offer,
                     const struct message_facts *facts, uint64_t now_us)
{
    struct taking k = { group, offer, facts, .lane = NULL };
    enum take result;

    group->now_us = now_us;
    k.lane = group_find_lane(group, offer->topic);
    CHECK(k.lane != NULL && facts->bytes <= UINT32_MAX);
    /* The usual one is fresh: no need to look. */
    if (offer->seq != k.lane->cursor
        || seqset_range_count(&k.lane->early) > 0) {
        k.t = group_find_open(group, k.lane, offer->seq);
    }
    k.source = source_of(&k);
    if (facts->expires_us != 0 && facts->expires_us <= now_us) {
        result = settle_now(&k, EFFECT_EXPIRED, LANE_EXPIRED);
        group->figures.expired += result == TAKE_PASSED;
        return result;
    }
    if (facts->filtered) {
        result = settle_now(&k, EFFECT_FILTERED, LANE_FILTERED);
        group->figures.filtered += result == TAKE_PASSED;
        return result;
    }
    /* Once: what has a transaction waited or was delivered before, whatever a
     * wall clock that was set since makes of its time. */
    if (facts->due_us > now_us
        && (k.t == NULL || (k.t->flags & OPEN_NEVER) == 0)) {
        return wait_until(&k, facts->due_us);
    }
    if (facts->key_hash != 0 && group->config.rules.mode == MODE_ORDERED) {
        return take_in_order(&k);
    }
    return take_turn(&k);
}
