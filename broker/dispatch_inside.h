/* What the files of the dispatch share: dispatch.c (commits, the pump,
 * members), dispatch_lanes.c (which groups and lanes there are), dispatch_log.c
 * (effects to records). Nobody else includes this. */
#ifndef GODWIT_BROKER_DISPATCH_INSIDE_H
#define GODWIT_BROKER_DISPATCH_INSIDE_H

#include "broker/dispatch.h"

enum {
    GATHER_COUNT = 256 /* deliveries given out together */
};

/* A topic as this worker sees it; hangs on the catalog's entry. */
struct topic_state {
    uint32_t id;
    uint64_t last_seq;  /* durable */
    uint64_t first_seq; /* messages below are deleted */
    uint64_t floor_seq; /* new groups begin here at the earliest */
    struct lane_reader *lanes;
};

/* Where a group stands on a topic, for reading; the group's lane has the rest. */
struct lane_reader {
    struct group_run *run;
    struct topic_state *topic;
    const char *topic_name; /* the catalog's */
    struct store_cursor cursor;
    /* the store does not have it; it is lost when so many commits were read */
    uint64_t missing_seq;
    uint64_t missing_mark;
    /* What the store does not have below was perhaps deleted before it knew of
     * the group; and what of that was skipped. */
    uint64_t absent_below;
    uint64_t absent_through;
    struct lane_reader *next; /* of the topic */
};

/* A group of this worker; hangs on the catalog's entry. */
struct group_run {
    struct group *group;
    const struct group_fact *fact;
    struct member **members;
    size_t member_count;
    size_t member_capacity;
    bool ready;   /* on the ready list */
    bool changed; /* on the changed list */
    bool starved; /* stopped because the in-flight budget was used up */
    uint64_t deleted_told; /* to the metrics */
    bool behind; /* stopped because the ring says more than we have read */
    struct group_run *next_ready;
    struct group_run *next_changed;
    struct group_run *next; /* of all */
    struct group_run *previous;
};

struct dispatch {
    struct dispatch_config config;
    struct catalog *catalog;
    struct store_view *view;
    struct inflight *inflight;
    struct group_run *groups;
    struct group_run *ready_first;
    struct group_run *ready_last;
    struct group_run *changed;
    bool loading; /* lanes come later, from the store */
    bool started; /* dispatch_new() is over */
    bool failed;  /* memory ran out while loading */
    bool any_starved;
    bool read_error_told;
    uint64_t due_us;          /* at or before the earliest of the groups */
    bool look_for_congestion; /* output was written since the last look */
    /* gathered for one member and topic */
    struct wire_delivery gathered[GATHER_COUNT];
    size_t gathered_count;
    size_t gathered_bytes;
    void *gathered_member;
    const struct lane_reader *gathered_lane;
    uint64_t commit_count; /* given to dispatch_commit() */
    struct bytes scratch;  /* a record body in the making */
};

/* Something about the group moved: see what follows from it. */
void dispatch_touched(struct dispatch *d, struct group_run *run);
/* A fact of the log, for the catalog. */
void dispatch_apply(struct dispatch *d, const struct record_fact *fact);
void dispatch_mark_ready(struct dispatch *d, struct group_run *run);
void dispatch_mark_changed(struct dispatch *d, struct group_run *run);
void dispatch_forget_member(struct group_run *run, const struct member *member);

#endif
