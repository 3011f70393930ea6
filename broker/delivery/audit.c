/* The books, counted again from the lane's parts, and orphans. */
#include "broker/delivery/group_impl.h"

/* ---- the table's part ---- */

struct counting {
    const struct group *group;
    uint64_t state[LANE_STATES];
    uint64_t bytes;
    uint64_t orphans;
    uint64_t orphan_seqs[ORPHANS_MAX];
};

static bool is_orphan(const struct group *group, const struct transaction *t)
{
    return t->state == TRANSACTION_HELD
           && hash_get(&group->members.by_lease, t->holder, 0) == NULL;
}

static bool count_one(void *arg, const struct transaction *t)
{
    struct counting *c = arg;

    c->state[open_state(t)]++;
    c->bytes += t->state == TRANSACTION_HELD ? t->bytes : 0;
    if (is_orphan(c->group, t)) {
        if (c->orphans < ORPHANS_MAX) {
            c->orphan_seqs[c->orphans] = t->seq;
        }
        c->orphans++;
    }
    return true;
}

/* ---- the lane's part ---- */

struct behind {
    const struct group *group;
    const struct lane *lane;
};

static bool has_no_transaction(void *arg, uint64_t seq)
{
    const struct behind *b = arg;

    return lane_stretch(b->lane, seq, seq).kind == STRETCH_OPEN
           && group_find_open(b->group, b->lane, seq) == NULL;
}

static uint64_t count_behind(const struct group *group, const struct lane *lane)
{
    struct behind behind = { group, lane };

    return lane->keys == NULL
               ? 0
               : keys_count(lane->keys, has_no_transaction, &behind);
}

static uint64_t count_kind(const struct lane *lane, enum stretch_kind kind)
{
    uint64_t count = 0;
    uint64_t seq = 1;

    while (seq <= lane->end) {
        struct stretch stretch = lane_stretch(lane, seq, lane->end);
        if (stretch.kind == kind) {
            count += stretch.range.last - stretch.range.first + 1;
        }
        seq = stretch.range.last + 1;
    }
    return count;
}

static bool lane_agrees(const struct group *group, const struct lane *lane,
                        const struct counting *c)
{
    const uint64_t *count = lane->count;
    uint64_t behind = count_behind(group, lane);
    uint64_t settled = count[LANE_ACKED] + count[LANE_GAP] + count[LANE_DELETED]
                       + count[LANE_EXPIRED] + count[LANE_FILTERED];
    uint64_t never_its_own = lane->end - lane->published;

    return count[LANE_IN_FLIGHT] == c->state[LANE_IN_FLIGHT]
           && count[LANE_DELAYED] == c->state[LANE_DELAYED]
           && count[LANE_READY]
                  == c->state[LANE_READY] + behind
                         + count_kind(lane, STRETCH_FRESH)
           && count_kind(lane, STRETCH_OPEN)
                  == behind + c->state[LANE_READY] + c->state[LANE_DELAYED]
                         + c->state[LANE_IN_FLIGHT]
           && count[LANE_DEAD] == seqset_count(&lane->dead)
           && settled + never_its_own == seqset_count(&lane->settled);
}

/* ---- credits ---- */

static uint64_t count_held_bytes(const struct group *group)
{
    struct counting all = { .group = group };
    const struct lane *lane;
    size_t at = 0;

    while ((lane = hash_next(&group->lanes, &at)) != NULL) {
        inflight_each(group->inflight, lane->topic, count_one, &all);
    }
    group_each_of_gone(group, count_one, &all);
    return all.bytes;
}

static bool credits_agree(const struct group *group)
{
    const struct member *member;
    uint64_t held = 0;
    uint64_t bytes = 0;
    size_t at = 0;

    while ((member = hash_next(&group->members.by_lease, &at)) != NULL) {
        held += member->held.count;
        bytes += member->held_bytes;
    }
    return held == inflight_held(group->inflight)
           && (group->lanes.count > AUDIT_CREDIT_LANES_MAX
               || bytes == count_held_bytes(group));
}

bool group_audit(const struct group *group, uint32_t topic)
{
    const struct lane *lane = group_find_lane(group, topic);
    struct counting c = { .group = group };
    struct lane_books books;

    if (lane == NULL || !group_books(group, topic, &books)) {
        return true;
    }
    if (!lane->ending) { /* else it is of before */
        inflight_each(group->inflight, topic, count_one, &c);
    }
    return c.orphans == 0 && lane_books_balance(&books)
           && lane_agrees(group, lane, &c) && credits_agree(group);
}

/* ---- orphans ---- */

size_t group_sweep(struct group *group, uint32_t topic, uint64_t now_us)
{
    struct lane *lane = group_find_lane(group, topic);
    struct counting c = { .group = group };
    size_t count = 0;

    if (lane == NULL || lane->ending) {
        return 0;
    }
    group->now_us = now_us;
    inflight_each(group->inflight, topic, count_one, &c);
    for (size_t i = 0; i < ORPHANS_MAX && i < c.orphans; i++) {
        const struct transaction *t =
            group_find_open(group, lane, c.orphan_seqs[i]);
        count += t != NULL && group_take_back(group, lane, t) == STATUS_OK;
    }
    group->figures.orphans += count;
    return count;
}
