/* Who gets what. An offer is picked from, in this order:
 *
 *   set aside      for a member that holds nothing
 *   ready again    lanes in turn; in each the ready heap and the woken keys,
 *                  by turns
 *   fresh          lanes in turn, at the cursor
 *
 * Lanes stay at the head of their ring for a burst, then go to the end. Rings
 * are filled eagerly and cleaned here. */
#include "broker/delivery/group_impl.h"

struct pick {
    struct lane *lane;
    uint64_t seq;
    uint32_t attempt;
    bool known;
};

/* ---- what there is ---- */

static bool pick_ready(const struct group *group, struct lane *lane,
                       struct seqheap *heap, struct pick *out)
{
    uint64_t seq;

    while ((seq = seqheap_first(heap)) != 0) {
        const struct transaction *t = group_find_open(group, lane, seq);
        if (open_is_offered(t, heap == &lane->aside)) {
            *out = (struct pick) { lane, seq, t->attempt + 1, true };
            return true;
        }
        seqheap_pop(heap); /* out of date */
    }
    return false;
}

bool group_waits_behind(const struct group *group, const struct lane *lane,
                        uint64_t seq)
{
    const struct transaction *t = group_find_open(group, lane, seq);

    return t != NULL ? (t->flags & OPEN_BEHIND) != 0
                     : lane_stretch(lane, seq, seq).kind == STRETCH_OPEN;
}

static bool pick_woken(const struct group *group, struct lane *lane,
                       struct pick *out)
{
    uint64_t seq;

    while (lane->keys != NULL && (seq = keys_woken(lane->keys)) != 0) {
        const struct transaction *t = group_find_open(group, lane, seq);
        if (group_waits_behind(group, lane, seq)) {
            *out = (struct pick) { lane, seq, t == NULL ? 1 : t->attempt + 1,
                                   true };
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
               || pick_ready(group, lane, &lane->redo, out);
    }
    return pick_ready(group, lane, &lane->redo, out)
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
            *out = (struct pick) { lane, seq, t == NULL ? 1 : t->attempt + 1,
                                   t != NULL };
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

    if (fresh && group->redo_share >= REDO_BURST && pick_fresh(group, out)) {
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
 * a lease `pick` is given all the same, or long work would pin it. */
static struct member *wait_for_idle(struct group *group,
                                    const struct pick *pick)
{
    struct members *members = &group->members;

    if (members->reserved == NULL || group->aside_topic != pick->lane->topic
        || group->aside_seq != pick->seq) {
        if (members->reserved == NULL) {
            members_reserve(members, members_turn(members));
        }
        group->aside_topic = pick->lane->topic;
        group->aside_seq = pick->seq;
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
        member = wait_for_idle(group, &pick);
    }
    if (member != NULL) {
        *out = pick;
    }
    return member;
}

/* ---- the offer ---- */

enum gate group_gate(const struct group *group)
{
    if (group->config.rules.paused) {
        return GATE_PAUSED;
    }
    if (inflight_held(group->inflight) >= group->config.rules.in_flight_max
        || group->untold_ranges >= UNTOLD_RANGES_MAX
        || group->untold_failures >= UNTOLD_FAILURES_MAX
        || group->untold_reason_bytes + REASON_LEN_MAX > REASONS_BYTES_MAX) {
        return GATE_QUOTA;
    }
    return GATE_NONE;
}

void group_note_held_by(struct group *group, enum gate gate)
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
    enum gate gate = group_gate(group);
    struct member *member = NULL;

    group->now_us = now_us;
    if (gate == GATE_NONE && !breaker_lets(&group->breaker, now_us)) {
        gate = GATE_BREAKER;
    }
    if (gate == GATE_NONE) {
        member = pick_next(group, &pick, &gate);
    }
    group->no_room = group->no_room && member != NULL;
    group_note_held_by(group,
                       group->no_room && gate == GATE_NONE ? GATE_QUOTA : gate);
    if (member == NULL) {
        return false;
    }
    *out = (struct offer) { .member = member,
                            .topic = pick.lane->topic,
                            .seq = pick.seq,
                            .attempt = pick.attempt,
                            .known = pick.known,
                            .lane_user = pick.lane->user };
    group->last_lane = pick.lane;
    return true;
}
