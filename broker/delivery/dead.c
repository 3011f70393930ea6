/* Dead letters in place: what operators do with them. */
#include "broker/delivery/group_impl.h"

/* first..last of the lane; false: nothing of it is there. */
static bool clip(const struct lane *lane, struct seq_range *range)
{
    range->first = range->first == 0 ? 1 : range->first;
    range->last = range->last < lane->end ? range->last : lane->end;
    return range->first <= range->last;
}

size_t group_dead(const struct group *group, uint32_t topic, uint64_t seq,
                  struct seq_range *out, size_t room)
{
    const struct lane *lane = group_find_lane(group, topic);
    struct seq_range left = { seq, UINT64_MAX };
    size_t count = 0;

    if (lane == NULL || !clip(lane, &left)) {
        return 0;
    }
    while (count < room && seqset_find(&lane->dead, left, &out[count])) {
        left.first = out[count].last + 1;
        count++;
    }
    return count;
}

/* They touch what is left of the set, or leave their place in it empty: no
 * memory is needed. */
static void put_back(struct lane *lane, struct seq_range range)
{
    CHECK(seqset_add(&lane->dead, range.first, range.last, NULL) == STATUS_OK);
}

enum status group_settle_dead(struct group *group, struct lane *lane,
                              enum effect_set as, enum lane_state to,
                              struct seq_range range)
{
    enum status status =
        seqset_remove(&lane->dead, range.first, range.last, NULL);

    if (status != STATUS_OK) {
        return status;
    }
    status = lane_settle(lane, as, range.first, range.last);
    if (status != STATUS_OK) {
        put_back(lane, range);
        return status;
    }
    lane_move(lane, LANE_DEAD, to, range.last - range.first + 1);
    group_mark_effects(group, lane);
    return STATUS_OK;
}

/* ---- redrive ---- */

static struct transaction redriven(const struct group *group,
                                   const struct lane *lane, uint64_t seq)
{
    struct transaction t = { .group = group->config.id,
                             .topic = lane->topic,
                             .seq = seq,
                             .state = TRANSACTION_READY,
                             .flags = OPEN_REDRIVEN };

    if (lane->early_in_turn && seq >= lane->cursor) {
        t.flags |= OPEN_EARLY;
    }
    return t;
}

/* Everything but the dead set and the books. */
static enum status begin_redriven(struct group *group, struct lane *lane,
                                  const struct transaction *t)
{
    enum status status = STATUS_OK;

    if (!inflight_group_has_room(group->inflight)) {
        return STATUS_AGAIN;
    }
    if ((t->flags & OPEN_EARLY) == 0) {
        status = group_reserve_ready(group, lane, t);
    }
    if (status == STATUS_OK && t->seq >= lane->cursor) {
        status = seqset_add(&lane->early, t->seq, t->seq, NULL);
    }
    if (status == STATUS_OK) {
        status = untold_add_redriven(&lane->untold,
                                     (struct seq_range) { t->seq, t->seq });
    }
    if (status == STATUS_OK) {
        status = inflight_begin(group->inflight, t, NULL, group->now_us);
    }
    return status;
}

static enum status redrive_one(struct group *group, struct lane *lane,
                               uint64_t seq)
{
    struct transaction t = redriven(group, lane, seq);
    struct seq_range one = { seq, seq };
    enum status status = seqset_remove(&lane->dead, seq, seq, NULL);

    if (status != STATUS_OK) {
        return status;
    }
    status = begin_redriven(group, lane, &t);
    group_mark_effects(group, lane);
    if (status != STATUS_OK) {
        /* It may be noted for the log by now: then it comes once more after a
         * restart. */
        put_back(lane, one);
        return status;
    }
    lane_move(lane, LANE_DEAD, LANE_READY, 1);
    if ((t.flags & OPEN_EARLY) != 0) {
        group->first_time++;
        group_mark_fresh(group, lane);
    } else {
        group_push_ready(group, lane, &t);
    }
    group->figures.redriven++;
    return STATUS_OK;
}

enum status group_redrive(struct group *group, uint32_t topic,
                          struct seq_range range, uint64_t now_us,
                          uint64_t *count, uint64_t *next)
{
    struct lane *lane = group_find_lane(group, topic);
    struct seq_range dead;
    enum status status = STATUS_OK;

    *count = 0;
    *next = range.last == UINT64_MAX ? range.last : range.last + 1;
    group->now_us = now_us;
    if (lane == NULL || !clip(lane, &range)) {
        return STATUS_OK;
    }
    if (lane->ending) {
        *next = range.first;
        return STATUS_AGAIN;
    }
    while (status == STATUS_OK && seqset_find(&lane->dead, range, &dead)) {
        for (; dead.first <= dead.last && status == STATUS_OK; dead.first++) {
            status = redrive_one(group, lane, dead.first);
            *count += status == STATUS_OK;
        }
        range.first = dead.first;
    }
    if (status != STATUS_OK) {
        *next = range.first - 1; /* the one that there was no room for */
    }
    return status;
}

/* ---- and back ---- */

static enum status bury_one(struct group *group, struct lane *lane,
                            const struct transaction *t)
{
    struct seq_range one = { t->seq, t->seq };
    enum status status = untold_add(&lane->untold, EFFECT_BURIED, one);

    if (status == STATUS_OK) {
        group_mark_effects(group, lane);
        status = seqset_add(&lane->dead, one.first, one.last, NULL);
    }
    if (status == STATUS_OK) {
        group_end_as(group, lane, t, LANE_DEAD);
    }
    return status;
}

static bool can_be_buried(const struct lane *lane, const struct transaction *t)
{
    return t != NULL && t->state == TRANSACTION_READY
           && (t->flags & OPEN_REDRIVEN) != 0
           && seqset_range_count(&lane->dead) < DEAD_COUNT_MAX;
}

/* From *seq on, up to `last`, all of them open. */
static enum status bury_stretch(struct group *group, struct lane *lane,
                                uint64_t *seq, uint64_t last, size_t *budget,
                                uint64_t *count)
{
    enum status status = STATUS_OK;

    for (; *seq <= last; ++*seq) {
        const struct transaction *t;

        if (!group_may_look(budget)) {
            return STATUS_AGAIN;
        }
        t = group_find_open(group, lane, *seq);
        if (can_be_buried(lane, t)) {
            status = bury_one(group, lane, t);
            if (status != STATUS_OK) {
                return status;
            }
            ++*count;
        }
    }
    return STATUS_OK;
}

enum status group_bury(struct group *group, uint32_t topic,
                       struct seq_range range, size_t *budget, uint64_t *next,
                       uint64_t *count)
{
    struct lane *lane = group_find_lane(group, topic);
    enum status status = STATUS_OK;

    *count = 0;
    *next = range.first;
    if (lane == NULL || !clip(lane, &range)) {
        return STATUS_OK;
    }
    while (status == STATUS_OK && range.first <= range.last) {
        struct stretch stretch;

        if (!group_may_look(budget)) {
            status = STATUS_AGAIN;
            break;
        }
        stretch = lane_stretch(lane, range.first, range.last);
        if (stretch.kind == STRETCH_OPEN) {
            status = bury_stretch(group, lane, &range.first, stretch.range.last,
                                  budget, count);
        } else {
            range.first = stretch.range.last + 1;
        }
    }
    *next = range.first;
    return status;
}

enum status group_discard(struct group *group, uint32_t topic,
                          struct seq_range range, size_t *budget,
                          uint64_t *next, uint64_t *count)
{
    struct lane *lane = group_find_lane(group, topic);
    struct seq_range dead;
    enum status status = STATUS_OK;

    *count = 0;
    *next = range.first;
    if (lane == NULL || !clip(lane, &range)) {
        return STATUS_OK;
    }
    while (seqset_find(&lane->dead, range, &dead)) {
        status = group_may_look(budget) ? group_settle_dead(
                     group, lane, EFFECT_DISCARDED, LANE_DELETED, dead)
                                        : STATUS_AGAIN;
        if (status != STATUS_OK) {
            break;
        }
        *count += dead.last - dead.first + 1;
        if (lane->discarded_through < dead.last) {
            lane->discarded_through = dead.last;
        }
        group->figures.deleted += dead.last - dead.first + 1;
        range.first = dead.last + 1;
    }
    *next = range.first;
    return status;
}
