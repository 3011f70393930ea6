/* The inside of a group, shared by group.c (lanes, members, delivery, time,
 * books) and settle.c. */
#ifndef GODWIT_BROKER_DELIVERY_GROUP_IMPL_H
#define GODWIT_BROKER_DELIVERY_GROUP_IMPL_H

#include "broker/delivery/group.h"
#include "broker/delivery/lane.h"
#include "broker/delivery/member.h"
#include "broker/delivery/schedule.h"

struct lane_ring {
    struct link head;
    struct lane *at; /* at the head for `burst` messages already */
    unsigned burst;
};

struct group {
    struct group_config config;
    uint64_t random;
    struct inflight_group *inflight;
    struct schedule schedule;
    struct members members;
    struct hash lanes; /* topic -> struct lane */
    struct lane *last_lane;
    struct lane_ring redo;
    struct lane_ring fresh;
    struct link effects;
    size_t retry_backlog; /* failures the log has not been told */
    struct group_figures figures;
};

/* NULL: none. */
struct lane *group_find_lane(const struct group *group, uint32_t topic);
/* The lane has something new for the log. */
void group_mark_effects(struct group *group, struct lane *lane);

/* It is no longer in flight: its holder has credit again. *t is gone. */
void group_end_transaction(struct group *group, const struct transaction *t);
/* It waits no more: it is delivered, settled or gone. *w is gone. */
void group_stop_waiting(struct group *group, struct waiting *w);

/* How it comes back. */
struct comeback {
    bool counted;    /* the attempt failed */
    uint64_t due_us; /* 0: at once */
};

/* From in flight to ready or delayed, or to deleted if it is. STATUS_NOMEM: it
 * stays in flight. */
MUST_CHECK enum status group_give_back(struct group *group, struct lane *lane,
                                       const struct transaction *t,
                                       const struct comeback *how);
/* The delay after so many failures, with jitter. */
uint64_t group_backoff_us(struct group *group, uint32_t attempts);

#endif
