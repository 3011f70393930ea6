/* Leases, notices, delays, backoff. */
#include "broker/delivery/group_impl.h"

enum {
    JITTER_PERCENT = 20,
    AGAIN_US = 1000000 /* no memory to take it back: once more then */
};

/* ---- backoff ---- */

static uint64_t doubled(uint32_t attempts)
{
    uint64_t us = (uint64_t)BACKOFF_MS_MIN * 1000;
    uint64_t max = (uint64_t)BACKOFF_MS_MAX * 1000;

    for (uint32_t i = 1; i < attempts && us < max; i++) {
        us *= 2;
    }
    return us > max ? max : us;
}

/* The group's own list, or doubled each time up to the maximum, and spread so
 * that what failed together does not come back together. The spread hangs on
 * the message and the attempt, so that it is the same in whichever order the
 * table gives what is due. */
uint64_t group_backoff_us(const struct group *group,
                          const struct transaction *t, uint32_t attempts)
{
    const struct group_rules *rules = &group->config.rules;
    size_t step =
        attempts < rules->backoff_count ? attempts : rules->backoff_count;
    uint64_t us = step == 0 ? doubled(attempts) : rules->backoff_us[step - 1];
    uint64_t spread = us / 100 * JITTER_PERCENT;
    uint64_t random =
        hash_pair(group->config.seed + t->attempt, hash_pair(t->topic, t->seq));

    return us - spread + random % (2 * spread + 1);
}

/* ---- leases with a notice ---- */

/* A place for leases with this notice: 1 + its index; 0: all are taken by other
 * lengths, as after many changes in a row. */
static unsigned notice_place(struct group *group, uint64_t us)
{
    struct notice_length *unused = NULL;

    for (unsigned i = 0; i < NOTICES; i++) {
        struct notice_length *n = &group->notices[i];
        if (n->count > 0 && n->us == us) {
            return i + 1;
        }
        unused = n->count == 0 ? n : unused;
    }
    if (unused == NULL) {
        return 0;
    }
    unused->us = us;
    return (unsigned)(unused - group->notices) + 1;
}

static struct notice_length *notice_of(struct group *group,
                                       const struct transaction *t)
{
    unsigned place = (unsigned)(t->flags & OPEN_NOTICE) >> OPEN_NOTICE_SHIFT;

    return place == 0 ? NULL : &group->notices[place - 1];
}

void group_arm_lease(struct group *group, struct transaction *t,
                     uint64_t ends_us)
{
    uint64_t before = group->config.rules.notice_us;
    unsigned place = 0;

    t->due_us = ends_us;
    if (before > 0 && group->now_us + before < ends_us) {
        place = notice_place(group, before);
    }
    if (place > 0) {
        group->notices[place - 1].count++;
        t->due_us -= before;
    }
    t->flags = (uint8_t)(((unsigned)t->flags & ~(unsigned)OPEN_NOTICE)
                         | place << OPEN_NOTICE_SHIFT);
}

void group_disarm_lease(struct group *group, const struct transaction *t)
{
    struct notice_length *notice = notice_of(group, t);

    if (notice != NULL) {
        CHECK(notice->count > 0);
        notice->count--;
    }
}

uint64_t group_lease_end(const struct group *group, const struct transaction *t)
{
    unsigned place = (unsigned)(t->flags & OPEN_NOTICE) >> OPEN_NOTICE_SHIFT;

    return t->due_us + (place == 0 ? 0 : group->notices[place - 1].us);
}

/* ---- what is due ---- */

typedef void (*notice_fn)(void *arg, const struct notice *notice);

static struct lane *lane_of(const struct group *group,
                            const struct transaction *t)
{
    struct lane *lane = group_find_lane(group, t->topic);

    CHECK(lane != NULL);
    return lane;
}

/* No longer before the end of its lease, but at it. */
static void give_notice(struct group *group, const struct transaction *t,
                        notice_fn fn, void *arg)
{
    struct member *member = members_find(&group->members, t->holder);
    struct transaction next = *t;
    struct notice notice = { .member = member,
                             .topic = t->topic,
                             .seq = t->seq,
                             .ends_us = group_lease_end(group, t),
                             .lane_user = lane_of(group, t)->user };

    CHECK(member != NULL);
    group_disarm_lease(group, t);
    next.due_us = notice.ends_us;
    next.flags &= (uint8_t)~OPEN_NOTICE;
    inflight_change(group->inflight, t, &next, &member->held, &member->held,
                    group->now_us);
    if (fn != NULL && !member->retired) {
        fn(arg, &notice);
    }
}

/* It cannot be taken back now. */
static void hold_longer(struct group *group, const struct transaction *t)
{
    struct member *member = members_find(&group->members, t->holder);
    struct transaction next = *t;

    CHECK(member != NULL);
    next.due_us = group->now_us + AGAIN_US;
    inflight_change(group->inflight, t, &next, &member->held, &member->held,
                    group->now_us);
}

/* The first failure may be a slow or a dead subscriber's: at once to another.
 * From the second on it may be the message's: wait. */
static void end_lease(struct group *group, const struct transaction *t)
{
    struct comeback how = { .cause = CAUSE_LEASE };

    if (t->attempt > 1) {
        how.due_us = group->now_us + group_backoff_us(group, t, t->attempt);
    }
    if (group_give_back(group, lane_of(group, t), t, &how) != STATUS_OK) {
        hold_longer(group, t);
        return;
    }
    group->figures.leases_expired++;
    group_note_failed(group);
}

static void end_delay(struct group *group, const struct transaction *t)
{
    struct lane *lane = lane_of(group, t);
    struct transaction next = *t;

    if (group_reserve_ready(group, lane, t) != STATUS_OK) {
        next.due_us = group->now_us + AGAIN_US;
        group_change_waiting(group, t, &next);
        return;
    }
    next.state = TRANSACTION_READY;
    next.due_us = 0;
    group_change_waiting(group, t, &next);
    lane_move(lane, LANE_DELAYED, LANE_READY, 1);
    group_push_ready(group, lane, &next);
}

bool group_tick(struct group *group, uint64_t now_us, size_t budget,
                notice_fn fn, void *arg)
{
    const struct transaction *t;

    group->now_us = now_us;
    breaker_woke(&group->breaker, now_us);
    if (group->aside_wake_us <= now_us) {
        group->aside_wake_us = UINT64_MAX;
    }
    while ((t = inflight_due(group->inflight, now_us)) != NULL) {
        if (budget-- == 0) {
            return true;
        }
        if (group_is_left(group, t)) {
            group_end_left(group, t);
        } else if (t->state == TRANSACTION_DELAYED) {
            end_delay(group, t);
        } else if ((t->flags & OPEN_NOTICE) != 0) {
            give_notice(group, t, fn, arg);
        } else {
            end_lease(group, t);
        }
    }
    return inflight_due_us(group->inflight) <= now_us;
}

uint64_t group_due_us(const struct group *group)
{
    uint64_t due = inflight_due_us(group->inflight);

    due = due < group->breaker.wake_us ? due : group->breaker.wake_us;
    return due < group->aside_wake_us ? due : group->aside_wake_us;
}
