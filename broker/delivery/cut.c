/* What the topic loses (gaps, what it does not keep), and where a lane begins:
 * skips and seeks. */
#include "broker/delivery/group_impl.h"

#include <stdlib.h>

/* ---- lost ---- */

/* One that waits. What somebody has is left to its holder. */
static enum status lose_one(struct group *group, struct lane *lane,
                            uint64_t seq)
{
    const struct transaction *t = group_find_open(group, lane, seq);
    enum status status;

    if (t != NULL && t->state == TRANSACTION_HELD) {
        return STATUS_OK;
    }
    status = lane_settle(lane, EFFECT_GAP, seq, seq);
    if (status != STATUS_OK) {
        return status;
    }
    group_mark_effects(group, lane);
    if (t != NULL) {
        group_end_as(group, lane, t, LANE_GAP);
    } else {
        lane_move(lane, LANE_READY, LANE_GAP, 1);
    }
    return STATUS_OK;
}

/* From *seq on, up to `last`, all of them open. */
static enum status lose_open_ones(struct group *group, struct lane *lane,
                                  uint64_t *seq, uint64_t last, size_t *budget)
{
    enum status status = STATUS_OK;

    while (*seq <= last && status == STATUS_OK) {
        status =
            group_may_look(budget) ? lose_one(group, lane, *seq) : STATUS_AGAIN;
        *seq += status == STATUS_OK;
    }
    return status;
}

static enum status lose_fresh(struct group *group, struct lane *lane,
                              struct seq_range range)
{
    enum status status = lane_settle(lane, EFFECT_GAP, range.first, range.last);

    if (status == STATUS_OK) {
        lane_move(lane, LANE_READY, LANE_GAP, range.last - range.first + 1);
        group_mark_effects(group, lane);
    }
    return status;
}

uint64_t group_lost(struct group *group, const struct offer *offer,
                    uint64_t last)
{
    struct lane *lane = group_find_lane(group, offer->topic);
    enum status status = STATUS_OK;
    size_t budget = LOST_LOOKS_MAX;
    uint64_t seq = offer->seq;

    CHECK(lane != NULL && seq > 0);
    last = last > lane->end ? lane->end : last;
    while (seq <= last && status == STATUS_OK && group_may_look(&budget)) {
        struct stretch stretch = lane_stretch(lane, seq, last);

        if (stretch.kind == STRETCH_OPEN) {
            status =
                lose_open_ones(group, lane, &seq, stretch.range.last, &budget);
            continue;
        }
        if (stretch.kind == STRETCH_FRESH) {
            status = lose_fresh(group, lane, stretch.range);
        }
        seq = status == STATUS_OK ? stretch.range.last + 1 : seq;
    }
    return seq - 1;
}

/* ---- deleted ---- */

/* One that waits. What is in flight is left to its holder. */
static enum status delete_one(struct group *group, struct lane *lane,
                              uint64_t seq)
{
    const struct transaction *t = group_find_open(group, lane, seq);
    enum status status;

    if (t != NULL && t->state == TRANSACTION_HELD) {
        return STATUS_OK;
    }
    status = lane_delete(lane, seq, seq);
    if (status != STATUS_OK) {
        return status;
    }
    if (t != NULL) {
        group_end_as(group, lane, t, LANE_DELETED);
    } else {
        lane_move(lane, LANE_READY, LANE_DELETED, 1);
    }
    group->figures.deleted++;
    return STATUS_OK;
}

static enum status delete_all(struct group *group, struct lane *lane,
                              struct seq_range range, enum lane_state from)
{
    uint64_t count = range.last - range.first + 1;
    enum status status = lane_delete(lane, range.first, range.last);

    if (status == STATUS_OK) {
        lane_move(lane, from, LANE_DELETED, count);
        group->figures.deleted += count;
    }
    return status;
}

/* From the lane's first on, which moves along. */
static enum status delete_each(struct group *group, struct lane *lane,
                               uint64_t last, size_t *budget)
{
    enum status status = STATUS_OK;

    while (lane->first <= last && status == STATUS_OK) {
        status = group_may_look(budget) ? delete_one(group, lane, lane->first)
                                        : STATUS_AGAIN;
        lane->first += status == STATUS_OK;
    }
    return status;
}

/* All of it waits, or is in flight. Without a transaction: behind its key. */
static enum status delete_open_ones(struct group *group, struct lane *lane,
                                    struct seq_range range, size_t *budget)
{
    struct open_list list;
    enum status status = STATUS_OK;

    if (!group_list_open(group, lane, range,
                         budget == NULL ? SIZE_MAX : *budget, &list)) {
        return delete_each(group, lane, range.last, budget);
    }
    if (budget != NULL) {
        *budget -= list.looks;
    }
    for (size_t i = 0; i <= list.count && status == STATUS_OK; i++) {
        uint64_t last = i < list.count ? list.seqs[i] - 1 : range.last;

        if (range.first <= last) {
            status = delete_all(group, lane,
                                (struct seq_range) { range.first, last },
                                LANE_READY);
        }
        if (i < list.count && status == STATUS_OK) {
            status = delete_one(group, lane, list.seqs[i]);
            range.first = list.seqs[i] + 1;
        }
    }
    free(list.seqs);
    return status;
}

static enum status delete_stretch(struct group *group, struct lane *lane,
                                  const struct stretch *s, size_t *budget)
{
    enum status status = STATUS_OK;

    switch (s->kind) {
    case STRETCH_OPEN:
        return delete_open_ones(group, lane, s->range, budget);
    case STRETCH_FRESH:
        return delete_all(group, lane, s->range, LANE_READY);
    case STRETCH_DEAD:
        status = delete_all(group, lane, s->range, LANE_DEAD);
        if (status == STATUS_OK) {
            /* The front of the set goes: that needs no memory. */
            CHECK(
                seqset_remove(&lane->dead, s->range.first, s->range.last, NULL)
                == STATUS_OK);
        }
        return status;
    case STRETCH_SETTLED:
    case STRETCH_BEYOND:
        break;
    }
    return STATUS_OK;
}

enum status group_trim(struct group *group, uint32_t topic, uint64_t first_seq,
                       size_t *budget)
{
    struct lane *lane = group_find_lane(group, topic);
    enum status status = STATUS_OK;
    uint64_t last;

    if (lane == NULL || first_seq == 0) {
        return STATUS_OK;
    }
    last = first_seq - 1 < lane->end ? first_seq - 1 : lane->end;
    while (lane->first <= last && status == STATUS_OK) {
        struct stretch stretch;

        if (!group_may_look(budget)) {
            return STATUS_AGAIN;
        }
        stretch = lane_stretch(lane, lane->first, last);
        status = delete_stretch(group, lane, &stretch, budget);
        if (status == STATUS_OK) {
            lane->first = stretch.range.last + 1;
        }
    }
    if (lane->keys != NULL && status == STATUS_OK) {
        keys_trim(lane->keys, lane->first);
    }
    return status;
}

/* ---- where it begins ---- */

enum status group_skip(struct group *group, uint32_t topic,
                       struct seq_range range)
{
    struct lane *lane = group_find_lane(group, topic);
    enum status status = STATUS_OK;
    uint64_t seq = range.first;
    uint64_t last;

    CHECK(lane != NULL && seq > 0);
    last = range.last < lane->end ? range.last : lane->end;
    while (seq <= last && status == STATUS_OK) {
        struct stretch stretch = lane_stretch(lane, seq, last);
        if (stretch.kind == STRETCH_FRESH) {
            status = lane_settle(lane, EFFECT_ACKED, seq, stretch.range.last);
        }
        if (stretch.kind == STRETCH_FRESH && status == STATUS_OK) {
            lane_move(lane, LANE_READY, LANE_ACKED,
                      stretch.range.last - seq + 1);
            group_mark_effects(group, lane);
        }
        seq = stretch.range.last + 1;
    }
    return status;
}

static void drop_plan(struct lane_plan *plan)
{
    seqset_fini(&plan->settled);
    seqset_fini(&plan->dead);
}

enum status group_seek(struct group *group, uint32_t topic, uint64_t after,
                       size_t *budget)
{
    struct lane *lane = group_find_lane(group, topic);
    struct ending *ending;
    struct lane_plan plan;
    enum status status;

    if (lane == NULL) {
        return STATUS_NOT_FOUND;
    }
    if (after > lane->end) {
        return STATUS_INVALID;
    }
    status = lane_plan_anew(lane, after, &plan);
    if (status != STATUS_OK) {
        return status;
    }
    ending = group_ending_new();
    if (ending == NULL || untold_seek(&lane->untold, after) != STATUS_OK) {
        group_ending_free(ending);
        drop_plan(&plan);
        return STATUS_NOMEM;
    }
    if (lane->ending) { /* since the last one nothing was opened */
        group_ending_free(ending);
    } else {
        group_begin_ending(group, lane, ending);
    }
    lane_begin_anew(lane, &plan);
    group_mark_effects(group, lane);
    group_end_some(group, budget);
    group_mark_fresh(group, lane);
    return STATUS_OK;
}
