/* What the files of the dispatch share: dispatch.c (commits, what is due,
 * members), pump.c (deliveries), clock.c (what a message's
 * own times mean), facts.c (what a group asks of a message),
 * lanes.c (which groups and lanes there are), load.c (the start), log.c
 * (effects to records), seek.c, dead.c, redrive.c, explain.c, books.c and
 * read.c. Nobody else includes this. */
#ifndef GODWIT_BROKER_DISPATCH_INSIDE_H
#define GODWIT_BROKER_DISPATCH_INSIDE_H

#include "broker/dispatch/dispatch.h"
#include "broker/list.h"
#include "broker/router/filter.h"

enum {
    GATHER_COUNT = 256,  /* deliveries given out together */
    CLOCK_JUMPS_MAX = 8, /* remembered of the wall clock */
    RECENT_FAILURES = 1024,
    STARVED_ASKED_TURN = 64, /* groups that found no room, asked again */
    /* an audit: so many lanes of one group, counted again entry by entry, ... */
    AUDIT_LANES = 16,
    AUDIT_OPEN_MAX = 65536 /* ... unless that is too much to look at */
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
     * the group or of its seek. */
    uint64_t absent_below;
    /* It was sought, which is told the log before this position of the
     * submission ring; SEEK_UNTOLD: later. 0: it was not. */
    uint64_t sought;
    /* What is above was never looked at with another filter than the group has
     * now. */
    uint64_t other_filter_through;
    struct link trimming;     /* more is to be deleted, in later turns */
    struct lane_reader *next; /* of the topic */
};
#define SEEK_UNTOLD UINT64_MAX

/* A group of this worker; hangs on the catalog's entry. */
struct group_run {
    struct group *group;
    struct group_fact *fact;
    struct member **members;
    uint32_t member_count;
    uint32_t member_capacity;
    struct link ready;   /* may have something to give */
    struct link changed; /* has effects */
    struct link starved; /* stopped for want of room in the in-flight table; in
                          * d->starved, or in d->asked */
    struct link ending;  /* seeks and topics that went left something open */
    struct link all;
    bool takes_apart;     /* each message is looked into: a filter, ordered */
    uint64_t filter_hash; /* of its text; 0: there is none */
    bool behind;     /* stopped because the ring says more than we have read */
    uint64_t due_us; /* its place in the heap; UINT64_MAX: it is not in it */
    size_t due_index;
    struct group_figures told; /* to the metrics */
    struct redrive *redrive;   /* the last one; NULL: none since the start */
};

/* How far the wall clock was ahead of the monotonic one, from when on. */
struct clock_offset {
    uint64_t from_us; /* monotonic */
    int64_t us;
};

/* A failure that the log was told of, for its history. */
struct recent_failure {
    uint32_t group;
    uint32_t topic;
    uint64_t seq;
    struct store_failure failure;
};

struct dispatch {
    struct dispatch_config config;
    struct catalog *catalog;
    struct store_view *view;
    struct inflight *inflight;
    struct key_budget keys; /* of all ordered groups */
    uint64_t now_us;        /* when it was last said */
    struct link groups;
    size_t group_count;
    struct link ready[PRIORITY_HIGH]; /* by priority, the highest last */
    struct link changed;
    struct link starved;
    struct link asked;    /* those that starved when something ended, ... */
    bool room_made;       /* ... which something did since that was looked at */
    struct link trimming; /* lanes */
    struct link ending;   /* groups */
    size_t trim_looks;    /* left of this turn's */
    bool loading;         /* lanes come later, from the store */
    bool started;         /* dispatch_new() is over */
    bool failed;          /* memory ran out while loading */
    bool read_error_told;
    struct group_run **due; /* a heap */
    size_t due_count;
    size_t due_capacity;
    struct clock_offset offsets[CLOCK_JUMPS_MAX]; /* the newest last */
    size_t offset_count;
    bool look_for_congestion; /* output was written since the last look */
    /* gathered for one member and topic */
    struct wire_delivery gathered[GATHER_COUNT];
    size_t gathered_count;
    size_t gathered_bytes;
    void *gathered_member;
    const struct lane_reader *gathered_lane;
    uint64_t commit_count;         /* given to dispatch_commit() */
    uint64_t durable;              /* see dispatch_durable() */
    struct bytes scratch;          /* a record body in the making */
    struct recent_failure *recent; /* a ring; NULL: there was none yet */
    uint64_t recent_count;
    /* a round through the books */
    struct link *books_at;   /* the group that comes next; NULL: none runs */
    struct lane_books books; /* sums so far */
    uint64_t breakers;       /* groups whose breaker is open, so far */
    struct link *audit_at;   /* the group that is audited next, or NULL, ... */
    size_t audit_lane;       /* ... from which of its lanes on */
};

/* ---- dispatch.c ---- */
struct group_run *dispatch_run(const struct group_fact *group);
/* Something about the group moved: see what follows from it. */
void dispatch_touched(struct dispatch *d, struct group_run *run);
void dispatch_mark_ready(struct dispatch *d, struct group_run *run);
void dispatch_mark_changed(struct dispatch *d, struct group_run *run);
/* Room for one more group in the heap of what is due. */
MUST_CHECK enum status dispatch_reserve_due(struct dispatch *d);
void dispatch_note_due(struct dispatch *d, struct group_run *run);
void dispatch_forget_due(struct dispatch *d, struct group_run *run);
void dispatch_forget_member(struct group_run *run, const struct member *member);
/* A fact of the log, for the catalog. */
void dispatch_apply(struct dispatch *d, const struct record_fact *fact);
/* What its topic does not keep is deleted, as far as this turn's looks go; the
 * rest in later turns. STATUS_NOMEM: not all of it, and it is not gone on. */
MUST_CHECK enum status dispatch_trim(struct dispatch *d,
                                     struct lane_reader *lane);
/* With what is left of this turn's looks. */
void dispatch_go_on_trimming(struct dispatch *d);
/* What the group counted since the last time goes into the metrics. */
void dispatch_count(struct dispatch *d, struct group_run *run);

/* ---- lanes.c ---- */
/* start->after: what it was never to get. */
MUST_CHECK enum status dispatch_add_lane(struct dispatch *d,
                                         struct group_run *run,
                                         struct topic *topic,
                                         struct lane_start *start);
/* Lanes on the topics it takes and has none on yet. */
void dispatch_add_fresh_lanes(struct dispatch *d, struct group_run *run);
/* At a start, what is missing below the floor may have been deleted before the
 * log was told that it is owed: to a group of which it knows nothing but the
 * fact, or to one that was sought. */
void dispatch_doubt_below_floor(const struct dispatch *d,
                                const struct group_run *run,
                                const struct topic *topic);

/* ---- load.c ---- */
MUST_CHECK enum status dispatch_load(struct dispatch *d, struct error *err);

/* ---- clock.c ---- */
/* The present offset; a jump is noted. */
void dispatch_clock_set(struct dispatch *d, uint64_t now_us, uint64_t wall_us);
uint64_t dispatch_to_wall(const struct dispatch *d, uint64_t monotonic_us);
/* When it is due and when its time is over, for a record with RECORD_TIMED. */
void dispatch_times(const struct dispatch *d, const struct record *record,
                    const struct wire_message *m, uint64_t now_us,
                    struct message_facts *out);

/* ---- facts.c ---- */
/* What is asked of a stored message before it is given to this group, and how
 * many bytes its filter looked at. False: it does not read. */
bool dispatch_facts(const struct dispatch *d, const struct group_run *run,
                    const struct record *record, uint64_t now_us,
                    struct message_facts *out, size_t *filter_cost);

/* ---- seek.c ---- */
/* A seek, or the end of a topic, may have left something for later turns. */
void dispatch_mark_ending(struct dispatch *d, struct group_run *run);
/* With what is left of this turn's looks. */
void dispatch_go_on_ending(struct dispatch *d);

/* ---- explain.c ---- */
/* For the history of a message, until a checkpoint has it. */
void dispatch_remember(struct dispatch *d, const struct group_run *run,
                       uint32_t topic, const struct failure *failure,
                       uint64_t wall_us);
/* At most HISTORY_MAX, oldest first. */
size_t dispatch_history(struct dispatch *d, const struct group_run *run,
                        uint32_t topic, uint64_t seq,
                        struct dispatch_failure out[HISTORY_MAX]);

/* ---- redrive.c ---- */
/* When the job wants to go on; UINT64_MAX: there is none. */
uint64_t dispatch_redrive_due_us(const struct group_run *run);
void dispatch_redrive_go_on(struct dispatch *d, struct group_run *run,
                            uint64_t now_us);
void dispatch_redrive_free(struct group_run *run);

/* ---- books.c ---- */
/* The group goes: no round of the books may stand at it. */
void dispatch_books_forget(struct dispatch *d, const struct group_run *run);

#endif
