/* What operators do to a group. On the group's worker, that is after
 * session_go_to_group() has arrived.
 *
 * An operation is carried out at once, but for those that may concern millions
 * of messages (discard, undo): they go on from turn to turn. What it changed is
 * an effect of the group like an ack, so it is answered (door->operated) when
 * its records are durable. */
#ifndef GODWIT_BROKER_SESSION_OPERATE_H
#define GODWIT_BROKER_SESSION_OPERATE_H

#include "broker/dispatch/dispatch.h"
#include "broker/session/session.h"

enum operation_kind {
    OPERATION_SEEK = 1,
    OPERATION_REDRIVE, /* begin a job */
    OPERATION_STOP,    /* the job */
    OPERATION_UNDO,    /* what the last job did */
    OPERATION_DISCARD
};

enum seek_to { SEEK_SEQ = 1, SEEK_TIME, SEEK_EARLIEST, SEEK_LATEST };

struct operation {
    enum operation_kind kind;
    struct slice topic; /* empty: all that the group takes */
    /* seek */
    enum seek_to to;
    uint64_t seek; /* the first seq that will come, or a wall time in us */
    /* redrive, discard */
    struct seqset ranges; /* empty: all; else a topic is needed */
    /* redrive */
    enum failure_cause cause; /* 0: any */
    struct filter *filter;    /* NULL: any */
    uint64_t rate;            /* messages a second; 0: as fast as it goes */
    uint64_t cap;             /* 0: any number */
    bool dry_run;
};
void operation_fini(struct operation *operation); /* ranges and filter */

struct seek_done {
    char topic[NAME_LEN_MAX + 1];
    uint64_t seq; /* the first that will come, when this is answered */
};
/* Lent for the call. */
struct operation_done {
    uint64_t id;
    enum operation_kind kind;
    const struct seek_done *seeks;
    size_t seek_count;
    uint64_t count;               /* undone, discarded */
    struct redrive_state redrive; /* redrive, stop, undo: as of the answer */
};

/* Takes the operation's ranges and filter. Answered by door->operated or
 * refused: limits "topic" (none such, or one is needed), "seek" (beyond the
 * end), "topics" (too many at once), "redrive" (one runs, or there is none). */
void session_operate(struct session *session, uint64_t id, struct slice group,
                     struct operation *operation);

/* ---- for the worker ---- */

struct operation_reply;

/* A turn begins: go on with what takes several. */
void session_go_on_operating(struct worker *worker);
/* What is not done will not be done, and is not answered. */
void session_drop_operating(struct worker *worker);
/* All records of the operations so far are written, from position `begin` on:
 * let them wait. */
void session_place_operations(struct worker *worker, uint64_t begin);
/* It is durable. */
void session_operation_durable(struct worker *worker,
                               struct operation_reply *reply);
/* It is refused, or with NULL not answered at all. */
void session_operation_refuse(struct worker *worker,
                              struct operation_reply *reply,
                              const struct refusal *refusal);

#endif
