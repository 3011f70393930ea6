/* Why a message is where it is, and the books. */
#include "broker/delivery/group_impl.h"

#include <stdlib.h>

/* ---- the group ---- */

static enum gate gate_of(const struct group *group, uint64_t now_us)
{
    enum gate gate = group_gate(group);

    if (gate != GATE_NONE) {
        return gate;
    }
    if (group->members.joined_count == 0) {
        return GATE_NO_SUBSCRIBER;
    }
    if (group->breaker.open && now_us < group->breaker.next_us) {
        return GATE_BREAKER;
    }
    if (members_turn(&group->members) == NULL) {
        return GATE_NO_CREDIT;
    }
    return group->no_room || group->held_by == GATE_QUOTA ? GATE_QUOTA
                                                          : GATE_NONE;
}

void group_held_by(const struct group *group, uint64_t now_us,
                   struct standing *out)
{
    enum gate gate = gate_of(group, now_us);

    *out = (struct standing) { .gate = gate };
    if (gate == group->held_by) {
        out->since_us = group->held_since_us;
    }
    if (gate == GATE_BREAKER) {
        out->until_us = group->breaker.next_us;
    }
}

/* ---- one message ---- */

static void explain_open(const struct group *group, const struct lane *lane,
                         const struct transaction *t, uint64_t key_hash,
                         uint64_t now_us, struct standing *out)
{
    uint64_t since_us = inflight_since_us(t, now_us);
    enum gate held_by = out->gate;

    out->attempts = t->attempt;
    switch ((enum transaction_state)t->state) {
    case TRANSACTION_HELD:
        *out = (struct standing) { .gate = GATE_LEASED,
                                   .since_us = since_us,
                                   .until_us = group_lease_end(group, t),
                                   .holder = t->holder,
                                   .attempts = t->attempt - 1 };
        return;
    case TRANSACTION_DELAYED:
        *out = (struct standing) { .gate = (t->flags & OPEN_NEVER) != 0
                                               ? GATE_NOT_DUE
                                               : GATE_BACKOFF,
                                   .since_us = since_us,
                                   .until_us = t->due_us,
                                   .attempts = t->attempt };
        return;
    case TRANSACTION_READY:
        break;
    }
    if ((t->flags & OPEN_BEHIND) != 0) {
        *out = (struct standing) { .gate = GATE_KEY_BUSY,
                                   .since_us = since_us,
                                   .attempts = t->attempt,
                                   .other_seq =
                                       lane->keys == NULL
                                           ? 0
                                           : keys_owner(lane->keys, key_hash) };
    } else if ((t->flags & OPEN_EARLY) != 0 && held_by == GATE_NONE
               && t->seq > lane->cursor) {
        out->gate = GATE_BEHIND;
        out->other_seq = lane->cursor;
    }
}

static uint64_t next_fresh(const struct lane *lane)
{
    uint64_t seq = lane->cursor;

    while (seq <= lane->end) {
        struct stretch stretch = lane_stretch(lane, seq, lane->end);
        if (stretch.kind == STRETCH_FRESH) {
            break;
        }
        seq = stretch.range.last + 1;
    }
    return seq;
}

static void explain_fresh(const struct lane *lane, uint64_t seq,
                          struct standing *out)
{
    uint64_t next = next_fresh(lane);

    if (out->gate == GATE_NONE && next < seq) {
        *out = (struct standing) { .gate = GATE_BEHIND, .other_seq = next };
    }
}

/* It has no transaction: it waits behind its key, or has its turn now. */
static void explain_behind(const struct lane *lane, uint64_t key_hash,
                           struct standing *out)
{
    uint64_t owner = lane->keys == NULL ? 0 : keys_owner(lane->keys, key_hash);

    if (owner != 0 || out->gate == GATE_NONE) {
        *out = (struct standing) { .gate = GATE_KEY_BUSY, .other_seq = owner };
    }
}

void group_explain(const struct group *group, uint32_t topic, uint64_t seq,
                   uint64_t key_hash, uint64_t now_us, struct standing *out)
{
    const struct lane *lane = group_find_lane(group, topic);
    const struct transaction *t;

    group_held_by(group, now_us, out);
    if (lane == NULL) {
        *out = (struct standing) { .gate = GATE_NOT_TAKEN };
        return;
    }
    switch (lane_stretch(lane, seq, seq).kind) {
    case STRETCH_SETTLED:
        *out = (struct standing) { .gate = seq <= lane->after  ? GATE_NOT_TAKEN
                                           : seq < lane->first ? GATE_DELETED
                                                               : GATE_ACKED };
        return;
    case STRETCH_DEAD:
        *out = (struct standing) { .gate = GATE_DEAD };
        return;
    case STRETCH_BEYOND:
        *out = (struct standing) { .gate = GATE_NOT_DURABLE };
        return;
    case STRETCH_FRESH:
        explain_fresh(lane, seq, out);
        return;
    case STRETCH_OPEN:
        t = group_find_open(group, lane, seq);
        if (t != NULL) {
            explain_open(group, lane, t, key_hash, now_us, out);
        } else {
            explain_behind(lane, key_hash, out);
        }
        return;
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
                                 .published = lane->published,
                                 .acked = lane->count[LANE_ACKED],
                                 .dead = lane->count[LANE_DEAD],
                                 .expired = lane->count[LANE_EXPIRED],
                                 .deleted = lane->count[LANE_DELETED],
                                 .filtered = lane->count[LANE_FILTERED],
                                 .gap = lane->count[LANE_GAP],
                                 .ready = lane->count[LANE_READY],
                                 .delayed = lane->count[LANE_DELAYED],
                                 .in_flight = lane->count[LANE_IN_FLIGHT],
                                 .discarded_through = lane->discarded_through };
    return true;
}
