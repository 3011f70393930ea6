/* What a lane had open when it began anew or its topic went. It ends in bits,
 * and nobody is told. Until it has, the topic gives nothing: so each
 * transaction that it has is of before. */
#include "broker/delivery/group_impl.h"

#include <stdlib.h>

/* One of a topic. */
struct ending {
    struct link link; /* in group->endings */
    struct lane lane; /* what was open, as the lane had it; in no list */
    struct keys *keys;
    uint64_t seq; /* what is below has ended */
};

/* ---- what is left ---- */

static void take_over(struct ending *e, struct lane *lane)
{
    *e = (struct ending) { .lane = { .topic = lane->topic,
                                     .end = lane->end,
                                     .cursor = lane->cursor,
                                     .settled = lane->settled,
                                     .dead = lane->dead,
                                     .early = lane->early },
                           .keys = lane->keys,
                           .seq = 1 };
    link_init(&e->link);
    lane->settled = lane->dead = lane->early = (struct seqset) { 0 };
    lane->keys = NULL;
}

static void fini(struct ending *e)
{
    link_remove(&e->link);
    seqset_fini(&e->lane.settled);
    seqset_fini(&e->lane.dead);
    seqset_fini(&e->lane.early);
    keys_free(e->keys);
}

static struct ending *first_ending(const struct group *group)
{
    struct link *first = list_first(&group->endings);

    return first == NULL ? NULL : container_of(first, struct ending, link);
}

void group_forget_endings(struct group *group)
{
    struct link *at = group->endings.next;

    while (at != &group->endings) {
        struct ending *e = container_of(at, struct ending, link);

        at = at->next;
        fini(e);
        free(e);
    }
}

bool group_is_ending(const struct group *group)
{
    return !link_is_alone(&group->endings);
}

bool group_is_left(const struct group *group, const struct transaction *t)
{
    const struct lane *lane = group_find_lane(group, t->topic);

    return lane == NULL || lane->ending;
}

void group_end_left(struct group *group, const struct transaction *t)
{
    struct lane left = { .topic = t->topic }; /* its keys go as a whole */

    CHECK(group_is_ending(group));
    group_end_open(group, &left, t);
}

void group_each_of_gone(const struct group *group,
                        bool (*fn)(void *arg, const struct transaction *t),
                        void *arg)
{
    for (const struct link *at = group->endings.next; at != &group->endings;
         at = at->next) {
        const struct ending *e = container_of(at, struct ending, link);

        if (group_find_lane(group, e->lane.topic) == NULL) {
            inflight_each(group->inflight, e->lane.topic, fn, arg);
        }
    }
}

/* ---- ending it ---- */

static void end_one(struct group *group, struct ending *e, uint64_t seq)
{
    const struct transaction *t = group_find_open(group, &e->lane, seq);

    if (t != NULL) {
        group_end_open(group, &e->lane, t);
    }
}

/* From e->seq on, up to `last`, all of them open. Without a transaction: behind
 * its key. False: the budget is used up. */
static bool end_open_ones(struct group *group, struct ending *e, uint64_t last,
                          size_t *budget)
{
    struct open_list list;

    if (!group_list_open(group, &e->lane, (struct seq_range) { e->seq, last },
                         budget == NULL ? SIZE_MAX : *budget, &list)) {
        for (; e->seq <= last; e->seq++) {
            if (!group_may_look(budget)) {
                return false;
            }
            end_one(group, e, e->seq);
        }
        return true;
    }
    if (budget != NULL) {
        *budget -= list.looks;
    }
    for (size_t i = 0; i < list.count; i++) {
        end_one(group, e, list.seqs[i]);
    }
    free(list.seqs);
    return true;
}

/* It lies in the open stretches: no need to look at other lanes' messages.
 * False: the budget is used up. */
static bool end_all(struct group *group, struct ending *e, size_t *budget)
{
    while (e->seq <= e->lane.end) {
        struct stretch stretch;

        if (!group_may_look(budget)) {
            return false;
        }
        stretch = lane_stretch(&e->lane, e->seq, e->lane.end);
        if (stretch.kind == STRETCH_OPEN
            && !end_open_ones(group, e, stretch.range.last, budget)) {
            return false;
        }
        e->seq = stretch.range.last + 1;
    }
    return e->keys == NULL || keys_free_some(e->keys, budget);
}

void group_end_some(struct group *group, size_t *budget)
{
    struct ending *e;

    while ((e = first_ending(group)) != NULL && end_all(group, e, budget)) {
        struct lane *lane = group_find_lane(group, e->lane.topic);

        if (lane != NULL) {
            lane->ending = false;
            group_mark_fresh(group, lane);
        }
        fini(e);
        free(e);
    }
}

void group_end_before(struct group *group, uint32_t topic)
{
    for (const struct link *at = group->endings.next; at != &group->endings;
         at = at->next) {
        if (container_of(at, const struct ending, link)->lane.topic == topic) {
            group_end_some(group, NULL);
            return;
        }
    }
}

/* ---- how it begins ---- */

struct ending *group_ending_new(void)
{
    return calloc(1, sizeof(struct ending));
}

void group_ending_free(struct ending *e)
{
    free(e);
}

void group_begin_ending(struct group *group, struct lane *lane,
                        struct ending *e)
{
    CHECK(!lane->ending);
    take_over(e, lane);
    list_append(&group->endings, &e->link);
    lane->ending = true;
    link_remove(&lane->fresh_link);
}

void group_end_at_once(struct group *group, struct lane *lane)
{
    struct ending e;

    take_over(&e, lane);
    CHECK(end_all(group, &e, NULL));
    fini(&e);
}
