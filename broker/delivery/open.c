/* One open message: how it comes back, how it ends.
 *
 * Memory for what comes back (its place among the ready ones, the note for the
 * log) is taken before anything moves. If there is none, nothing is lost: the
 * message stays in flight under its old lease, which then ends a little later. */
#include "broker/delivery/group_impl.h"

#include <stdlib.h>

/* Open stretches of this length, and so many times longer than the group has
 * transactions, are not looked at one by one. */
enum { SPARSE_STRETCH = 8192, SPARSE_TIMES = 4 };

const struct transaction *group_find_open(const struct group *group,
                                          const struct lane *lane, uint64_t seq)
{
    return inflight_find(group->inflight, lane->topic, seq);
}

static bool list_one(void *arg, const struct transaction *t)
{
    struct open_list *list = arg;

    if (t->seq >= list->range.first && t->seq <= list->range.last) {
        CHECK(list->count < list->looks);
        list->seqs[list->count++] = t->seq;
    }
    return true;
}

static int by_seq(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static bool is_sparse(const struct group *group, struct seq_range stretch,
                      size_t open)
{
    uint64_t len = stretch.last - stretch.first + 1;

    return group->config.sparse_stretch > 0
               ? len > group->config.sparse_stretch
               : len > SPARSE_STRETCH + SPARSE_TIMES * open;
}

bool group_list_open(const struct group *group, const struct lane *lane,
                     struct seq_range stretch, size_t looks_max,
                     struct open_list *out)
{
    size_t open =
        inflight_held(group->inflight) + inflight_waiting(group->inflight);

    *out = (struct open_list) { .range = stretch, .looks = open };
    if (open > looks_max || !is_sparse(group, stretch, open)) {
        return false;
    }
    out->seqs = malloc((open + 1) * sizeof *out->seqs);
    if (out->seqs == NULL) {
        return false;
    }
    inflight_each(group->inflight, lane->topic, list_one, out);
    qsort(out->seqs, out->count, sizeof *out->seqs, by_seq);
    return true;
}

enum lane_state open_state(const struct transaction *t)
{
    return t->state == TRANSACTION_HELD      ? LANE_IN_FLIGHT
           : t->state == TRANSACTION_DELAYED ? LANE_DELAYED
                                             : LANE_READY;
}

/* ---- ready again ---- */

struct looking {
    const struct group *group;
    const struct lane *lane;
    bool aside;
};

static bool is_offered_here(void *arg, uint64_t seq)
{
    const struct looking *l = arg;

    return open_is_offered(group_find_open(l->group, l->lane, seq), l->aside);
}

enum status group_reserve_ready(struct group *group, struct lane *lane,
                                const struct transaction *t)
{
    struct looking looking = { group, lane, open_is_aside(t) };
    struct seqheap *heap = looking.aside ? &lane->aside : &lane->redo;

    if (heap->count < heap->capacity) {
        return STATUS_OK;
    }
    /* Before it grows: entries that are out of date. */
    seqheap_filter(heap, is_offered_here, &looking);
    return heap->count < heap->capacity / 4 * 3 ? STATUS_OK
                                                : seqheap_grow(heap);
}

void group_push_ready(struct group *group, struct lane *lane,
                      const struct transaction *t)
{
    if (open_is_aside(t)) {
        seqheap_push(&lane->aside, t->seq);
        list_append(&group->aside, &lane->aside_link);
    } else {
        seqheap_push(&lane->redo, t->seq);
        group_mark_redo(group, lane);
    }
}

void group_change_waiting(struct group *group, const struct transaction *t,
                          const struct transaction *next)
{
    group->first_time -= open_is_first_time(t);
    group->first_time += open_is_first_time(next);
    inflight_change(group->inflight, t, next, NULL, NULL, group->now_us);
}

/* ---- the end ---- */

static void leave_key(struct group *group, struct lane *lane, uint64_t seq)
{
    if (lane->keys != NULL && keys_leave(lane->keys, seq)) {
        group_mark_redo(group, lane);
    }
}

void group_end_held(struct group *group, struct lane *lane,
                    const struct transaction *const *run, size_t count)
{
    const struct seq_range range = { run[0]->seq, run[count - 1]->seq };
    struct member *member = members_find(&group->members, run[0]->holder);
    size_t bytes = 0;

    CHECK(member != NULL);
    for (size_t i = 0; i < count; i++) {
        bytes += run[i]->bytes;
        group_disarm_lease(group, run[i]);
        inflight_end(group->inflight, run[i], &member->held, group->now_us);
        leave_key(group, lane, range.first + i);
    }
    member_credit(member, lane->topic, range, bytes);
}

void group_end_open(struct group *group, struct lane *lane,
                    const struct transaction *t)
{
    uint64_t seq = t->seq;

    if (t->state == TRANSACTION_HELD) {
        group_end_held(group, lane, &t, 1);
        return;
    }
    group->first_time -= open_is_first_time(t);
    inflight_end(group->inflight, t, NULL, group->now_us);
    leave_key(group, lane, seq);
}

void group_end_as(struct group *group, struct lane *lane,
                  const struct transaction *t, enum lane_state to)
{
    lane_move(lane, open_state(t), to, 1);
    group_end_open(group, lane, t);
}

/* ---- the way back ---- */

void group_note_failed(struct group *group)
{
    group->figures.breaker_opened += breaker_failed(&group->breaker);
}

/* It was deleted while somebody had it: it does not come back. */
static enum status give_up(struct group *group, struct lane *lane,
                           const struct transaction *t)
{
    enum status status = lane_delete(lane, t->seq, t->seq);

    if (status == STATUS_OK) {
        group_end_as(group, lane, t, LANE_DELETED);
        group->figures.deleted++;
    }
    return status;
}

/* Held no more, it waits. Room was looked for. `member` held it; NULL: nobody
 * that there is, which only a fault makes. */
static void wait_again(struct group *group, struct lane *lane,
                       const struct transaction *t,
                       const struct transaction *next, struct member *member)
{
    size_t bytes = t->bytes;

    lane_move(lane, LANE_IN_FLIGHT, open_state(next), 1);
    group_disarm_lease(group, t);
    inflight_change(group->inflight, t, next,
                    member != NULL
                        ? &member->held
                        : inflight_list_of(group->inflight, t->holder),
                    NULL, group->now_us);
    if (member != NULL) {
        member_credit(member, next->topic,
                      (struct seq_range) { next->seq, next->seq }, bytes);
    }
    if (next->state == TRANSACTION_READY) {
        group_push_ready(group, lane, next);
    }
}

static struct transaction waiting_again(const struct transaction *t,
                                        uint64_t due_us)
{
    struct transaction next = *t;

    next.state = due_us == 0 ? TRANSACTION_READY : TRANSACTION_DELAYED;
    next.due_us = due_us;
    next.holder = 0;
    next.bytes = 0;
    next.flags = t->flags & OPEN_ENDS;
    return next;
}

static struct member *holder_of(struct group *group,
                                const struct transaction *t)
{
    struct member *member = members_find(&group->members, t->holder);

    CHECK(member != NULL);
    return member;
}

static enum status release(struct group *group, struct lane *lane,
                           const struct transaction *t, struct member *member)
{
    struct transaction next = waiting_again(t, 0);
    enum status status = group_reserve_ready(group, lane, &next);

    if (status == STATUS_OK) {
        next.attempt--;
        wait_again(group, lane, t, &next, member);
    }
    return status;
}

enum status group_take_back(struct group *group, struct lane *lane,
                            const struct transaction *t)
{
    return release(group, lane, t, NULL);
}

/* One attempt more that ended by itself. */
static void count_end(struct transaction *t, enum failure_cause cause)
{
    if ((cause == CAUSE_LEASE || cause == CAUSE_GONE) && !open_is_aside(t)) {
        t->flags += 1 << OPEN_ENDS_SHIFT;
    }
}

static bool is_last_attempt(const struct group *group,
                            const struct transaction *t,
                            const struct comeback *how)
{
    uint32_t max = group->config.rules.attempts_max;

    return how->cause == CAUSE_REJECT || (max > 0 && t->attempt >= max);
}

static void note_failure(struct group *group, struct lane *lane,
                         const struct failure *failure)
{
    untold_note(&lane->untold, failure);
    group->untold_failures++;
    group->untold_reason_bytes += failure->reason.len;
    group_mark_effects(group, lane);
}

/* What a reason may take of the memory: all of it or nothing. */
static struct slice kept_reason(const struct group *group, struct slice reason)
{
    reason.len = reason.len > REASON_LEN_MAX ? REASON_LEN_MAX : reason.len;
    if (group->untold_reason_bytes + reason.len > REASONS_BYTES_MAX) {
        reason.len = 0;
    }
    return reason;
}

/* What can fail before the attempt is counted: a place in the dead or among the
 * ready ones. */
static enum status prepare(struct group *group, struct lane *lane, bool dies,
                           const struct transaction *next)
{
    if (dies) {
        return seqset_add(&lane->dead, next->seq, next->seq, NULL);
    }
    return next->state == TRANSACTION_READY
               ? group_reserve_ready(group, lane, next)
               : STATUS_OK;
}

static enum status fail_attempt(struct group *group, struct lane *lane,
                                const struct transaction *t,
                                const struct comeback *how)
{
    bool last = is_last_attempt(group, t, how);
    bool dies = last && seqset_range_count(&lane->dead) < DEAD_COUNT_MAX;
    uint64_t due_us =
        dies   ? 0
        : last ? group->now_us + group_backoff_us(group, t, UINT32_MAX)
               : how->due_us;
    struct transaction next = waiting_again(t, due_us);
    struct failure failure = { .seq = t->seq,
                               .attempts = t->attempt,
                               .due_us = due_us,
                               .holder = t->holder,
                               .cause = (uint8_t)how->cause,
                               .dead = dies };
    struct slice reason = kept_reason(group, how->reason);
    uint8_t *copy;
    enum status status = untold_reserve(&lane->untold, reason, &copy);

    if (status != STATUS_OK) {
        return status;
    }
    count_end(&next, how->cause);
    status = prepare(group, lane, dies, &next);
    if (status != STATUS_OK) {
        free(copy);
        return status;
    }
    failure.reason = (struct slice) { copy, reason.len };
    note_failure(group, lane, &failure);
    if (dies) {
        group_end_as(group, lane, t, LANE_DEAD);
        group->figures.died++;
    } else {
        wait_again(group, lane, t, &next, holder_of(group, t));
    }
    return STATUS_OK;
}

enum status group_give_back(struct group *group, struct lane *lane,
                            const struct transaction *t,
                            const struct comeback *how)
{
    if (t->seq < lane->first) {
        return give_up(group, lane, t);
    }
    return how->cause == 0 ? release(group, lane, t, holder_of(group, t))
                           : fail_attempt(group, lane, t, how);
}
