/* A group begins anew on a topic. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"

static uint64_t greater(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Below the floor there may be holes: what only older groups were owed. */
uint64_t dispatch_begins(const struct topic *topic, uint64_t seq)
{
    const struct topic_state *state = topic->user;

    return state == NULL
               ? seq
               : greater(seq, greater(state->first_seq, state->floor_seq));
}

enum status dispatch_seek(struct dispatch *d, const struct group_fact *group,
                          const struct topic *topic, uint64_t seq,
                          uint64_t *begins)
{
    struct group_run *run = dispatch_run(group);
    const struct topic_state *state = topic->user;
    struct lane_reader *lane = group_lane_user(run->group, topic->id);
    uint64_t first;
    enum status status;

    if (state == NULL || lane == NULL) {
        return STATUS_NOT_FOUND;
    }
    if (seq > state->last_seq + 1) {
        return STATUS_INVALID;
    }
    first = dispatch_begins(topic, seq);
    if (first > state->last_seq + 1) {
        first = state->last_seq + 1;
    }
    status = group_seek(run->group, topic->id, first - 1, &d->trim_looks);
    if (status != STATUS_OK) {
        return status;
    }
    lane->sought = SEEK_UNTOLD;
    lane->missing_seq = 0;
    lane->absent_below = 0;
    dispatch_mark_ending(d, run);
    dispatch_touched(d, run);
    *begins = first;
    return STATUS_OK;
}

void dispatch_mark_ending(struct dispatch *d, struct group_run *run)
{
    if (group_is_ending(run->group)) {
        list_append(&d->ending, &run->ending);
    }
}

void dispatch_go_on_ending(struct dispatch *d)
{
    struct link *first;

    while (d->trim_looks > 0 && (first = list_first(&d->ending)) != NULL) {
        struct group_run *run = container_of(first, struct group_run, ending);

        group_end_some(run->group, &d->trim_looks);
        if (!group_is_ending(run->group)) {
            link_remove(first);
        }
        dispatch_touched(d, run);
    }
}
