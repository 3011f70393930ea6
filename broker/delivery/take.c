/* Who gets what. An offer is picked from, in this order:
 *
 *   set aside      for a member that holds nothing
 *   ready again    lanes in turn; in each the ready heap and the woken keys,
 *                  by turns
 *   fresh          lanes in turn, at the cursor
 *
 * and what its reader knows of it decides what becomes of it. Lanes stay at the
 * head of their ring for a burst, then go to the end. Rings are filled eagerly
 * and cleaned here. */
#include "broker/delivery/group_impl.h"

enum { LANE_BURST_MAX = 64 /* messages of one lane in a row */ };

struct pick {
    struct lane *lane;
    uint64_t seq;
    uint32_t attempt;
};

/* ---- what there is ---- */

static bool pick_ready(const struct group *group, struct lane *lane,
                       struct seqheap *heap, struct pick *out)
{
    uint64_t seq;

    while ((seq = seqheap_first(heap)) != 0) {
        const struct transaction *t = group_find_open(group, lane, seq);
        if (t != NULL && t->state == TRANSACTION_READY
            && (t->flags & (OPEN_EARLY | OPEN_BEHIND)) == 0
            && open_is_aside(t) == (heap == &lane->aside)) {
            *out = (struct pick) { lane, seq, t->attempt + 1 };
            return true;
        }
        seqheap_pop(heap); /* out of date */
    }
    return false;
}

static bool pick_woken(const struct group *group, struct lane *lane,
                       struct pick *out)
{
    uint64_t seq;

    while (lane->keys != NULL && (seq = keys_woken(lane->keys)) != 0) {
        const struct transaction *t = group_find_open(group, lane, seq);
        bool waits = t != NULL
                         ? (t->flags & OPEN_BEHIND) != 0
                         : lane_stretch(lane, seq, seq).kind == STRETCH_OPEN;
        if (waits) {
            *out = (struct pick) { lane, seq, t == NULL ? 1 : t->attempt + 1 };
            return true;
        }
        keys_pop_woken(lane->keys);
    }
    return false;
}

static bool pick_from_lane(struct group *group, struct lane *lane,
                           struct pick *out)
{
    if (group->woken_turn) {
        return pick_woken(group, lane, out)
               || pick_ready(group, lane, &lane->ready, out);
    }
    return pick_ready(group, lane, &lane->ready, out)
           || pick_woken(group, lane, out);
}

static bool pick_redo(struct group *group, struct pick *out)
{
    struct link *first;

    while ((first = list_first(&group->redo.head)) != NULL) {
        struct lane *lane = container_of(first, struct lane, redo_link);
        if (pick_from_lane(group, lane, out)) {
            return true;
        }
        link_remove(first);
    }
    return false;
}

static bool pick_fresh(struct group *group, struct pick *out)
{
    struct link *first;

    while ((first = list_first(&group->fresh.head)) != NULL) {
        struct lane *lane = container_of(first, struct lane, fresh_link);
        uint64_t seq;
        if (lane_fresh(lane, &seq)) {
            const struct transaction *t =
                lane->early_in_turn && seqset_has(&lane->early, seq)
                    ? group_find_open(group, lane, seq)
                    : NULL;
            *out = (struct pick) { lane, seq, t == NULL ? 1 : t->attempt + 1 };
            return true;
        }
        link_remove(first);
    }
    return false;
}

/* What waits after a delivery counts: else a member that gives everything back
 * would fill the memory. */
static bool may_have_fresh(const struct group *group)
{
    return inflight_held(group->inflight) + inflight_waiting(group->inflight)
               - group->first_time
           < group->config.rules.in_flight_max;
}

/* The redeliveries' share is used up: fresh ones first, if there are. */
static enum gate pick_usual(struct group *group, struct pick *out)
{
    bool fresh = may_have_fresh(group);

    if (fresh && group->redo_share >= BREAKER_BURST && pick_fresh(group, out)) {
        return GATE_NONE;
    }
    if (pick_redo(group, out) || (fresh && pick_fresh(group, out))) {
        return GATE_NONE;
    }
    return fresh ? GATE_NONE : GATE_QUOTA;
}

static bool pick_from_aside(struct group *group, struct pick *out)
{
    struct link *first;

    while ((first = list_first(&group->aside)) != NULL) {
        struct lane *lane = container_of(first, struct lane, aside_link);
        if (pick_ready(group, lane, &lane->aside, out)) {
            return true;
        }
        link_remove(first);
    }
    return false;
}

/* Nobody holds nothing. One is kept free until it does; but after the length of
 * a lease it is given all the same, or long work would pin it. */
static struct member *wait_for_idle(struct group *group)
{
    struct members *members = &group->members;

    if (members->reserved == NULL) {
        members_reserve(members, members_turn(members));
        group->aside_by_us = group->now_us + group->config.rules.lease_us;
        group->aside_wake_us = group->aside_by_us;
        return NULL;
    }
    if (group->now_us < group->aside_by_us) {
        return NULL;
    }
    members_reserve(members, NULL);
    return members_turn(members);
}

/* One set aside, and who may have it. NULL: not now. */
static struct member *pick_aside(struct group *group, struct pick *out)
{
    struct members *members = &group->members;
    struct pick pick;
    struct member *member;

    if (!pick_from_aside(group, &pick)) {
        members_reserve(members, NULL);
        return NULL;
    }
    if (members->alone_count > 0
        && 2 * (members->alone_count + 1) > members->joined_count) {
        return NULL;
    }
    member = members_idle(members);
    if (member == NULL) {
        member = wait_for_idle(group);
    }
    if (member != NULL) {
        *out = pick;
    }
    return member;
}

/* ---- the offer ---- */

enum gate group_closed(const struct group *group)
{
    if (group->config.rules.paused) {
        return GATE_PAUSED;
    }
    if (inflight_held(group->inflight) >= group->config.rules.in_flight_max
        || group->untold_failures >= RETRY_BACKLOG_MAX
        || group->untold_reason_bytes + REASON_LEN_MAX > REASONS_BYTES_MAX) {
        return GATE_QUOTA;
    }
    return GATE_NONE;
}

static void note_held_by(struct group *group, enum gate gate)
{
    if (group->held_by != gate || group->held_since_us == 0) {
        group->held_by = gate;
        group->held_since_us = group->now_us;
    }
}

/* Who gets the next one, and which. NULL: nobody, and what holds it. */
static struct member *pick_next(struct group *group, struct pick *out,
                                enum gate *gate)
{
    bool any_aside = !link_is_alone(&group->aside);
    struct member *member = NULL;

    if (!any_aside) {
        members_reserve(&group->members, NULL);
    }
    if (any_aside && group->aside_wait == 0) {
        member = pick_aside(group, out);
        if (member != NULL) {
            return member;
        }
    }
    member = members_turn(&group->members);
    if (member == NULL && any_aside) {
        /* Perhaps only because it is kept free. */
        member = pick_aside(group, out);
        if (member != NULL) {
            return member;
        }
        member = members_turn(&group->members);
    }
    if (member == NULL) {
        *gate = group->members.joined_count == 0 ? GATE_NO_SUBSCRIBER
                                                 : GATE_NO_CREDIT;
        return NULL;
    }
    *gate = pick_usual(group, out);
    if (out->lane == NULL && any_aside) {
        member = pick_aside(group, out); /* nothing else is there */
        *gate = member != NULL ? GATE_NONE : *gate;
    }
    return out->lane == NULL ? NULL : member;
}

bool group_next(struct group *group, uint64_t now_us, struct offer *out)
{
    struct pick pick = { 0 };
    enum gate gate = group_closed(group);
    struct member *member = NULL;

    group->now_us = now_us;
    if (gate == GATE_NONE && !breaker_lets(&group->breaker, now_us)) {
        gate = GATE_BREAKER;
    }
    if (gate == GATE_NONE) {
        member = pick_next(group, &pick, &gate);
    }
    group->no_room = group->no_room && member != NULL;
    note_held_by(group,
                 group->no_room && gate == GATE_NONE ? GATE_QUOTA : gate);
    if (member == NULL) {
        return false;
    }
    *out = (struct offer) { .member = member,
                            .topic = pick.lane->topic,
                            .seq = pick.seq,
                            .attempt = pick.attempt,
                            .lane_user = pick.lane->user };
    group->last_lane = pick.lane;
    return true;
}

/* ---- what becomes of it ---- */

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
        pop_if_first(&lane->ready, k->offer->seq);
        break;
    case SOURCE_ASIDE:
        pop_if_first(&lane->aside, k->offer->seq);
        return;
    }
    count_burst(&k->group->redo, lane);
}

static enum take find_no_room(struct group *group)
{
    group->no_room = true;
    note_held_by(group, GATE_QUOTA);
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
        group_close(k->group, k->lane, k->t, to);
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
    if (again && group->redo_share < BREAKER_BURST) {
        group->redo_share++;
    } else if (!again && group->redo_share > 0) {
        group->redo_share--;
    }
    if (group->breaker.open) {
        breaker_gave(&group->breaker, group->now_us);
    }
    if (k->source == SOURCE_ASIDE) {
        members_reserve(&group->members, NULL);
        member_set_alone(k->offer->member);
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
        group->first_time -= (k->t->flags & (OPEN_NEVER | OPEN_EARLY)) != 0;
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
    if (facts->due_us > now_us) {
        return wait_until(&k, facts->due_us);
    }
    if (facts->key_hash != 0 && group->config.rules.mode == MODE_ORDERED) {
        return take_in_order(&k);
    }
    return take_turn(&k);
}
