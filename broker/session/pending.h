/* What waits for the sync: each answer that may only be given when the log is
 * durable up to a position of this worker's submission ring. First in, first
 * out. One thread. */
#ifndef GODWIT_BROKER_SESSION_PENDING_H
#define GODWIT_BROKER_SESSION_PENDING_H

#include "proto/limits.h"
#include "proto/wire.h"

struct session;
struct change;
struct operation_reply;
struct worker;

/* A settlement whose outcomes are known but not durable. */
struct settle_reply {
    struct settle_reply *next;
    struct session *session;
    uint64_t id;
    size_t topic_len;
    char topic[NAME_LEN_MAX];
    struct wire_settled_range *ranges;
    size_t count;
    size_t capacity;
    bool failed;     /* memory ran out: refused as a whole */
    bool overflowed; /* more outcomes than one reply may have: the same */
    bool gone;       /* its group was deleted on the way: the same */
};

/* What is left of settle requests that look at much, each session's one. */
struct settle_rest;
struct settle_rests {
    struct settle_rest *first;
    struct settle_rest *last;
};

enum pending_kind {
    PENDING_PUBLISH,
    PENDING_SETTLE,
    PENDING_OPERATION,
    PENDING_CHANGE
};

struct pending {
    enum pending_kind kind;
    uint32_t count; /* records of a publish */
    uint64_t begin; /* position of its first record */
    uint64_t end;   /* durable up to here: answer */
    uint64_t id;    /* of the first message */
    struct session *session;
    union {
        struct settle_reply *settle;
        struct operation_reply *operation;
        struct change *change;
    };
};

struct pending_queue {
    struct pending *at; /* a power of two of them */
    size_t capacity;
    uint64_t begin;
    uint64_t end;
};

void pending_fini(struct pending_queue *queue);
MUST_CHECK enum status pending_push(struct pending_queue *queue,
                                    const struct pending *pending);
/* Room for one more, so that the next push cannot fail. */
MUST_CHECK enum status pending_reserve(struct pending_queue *queue);

static inline bool pending_empty(const struct pending_queue *queue)
{
    return queue->begin == queue->end;
}

static inline struct pending *pending_first(struct pending_queue *queue)
{
    return &queue->at[queue->begin & (queue->capacity - 1)];
}

/* Answer all that is durable, release their records. The answers are those of
 * publish.c, settle.c and change.c. */
void pending_answer(struct worker *worker, uint64_t durable);
/* The store is frozen: refuse all that waits. */
void pending_refuse_all(struct worker *worker);

#endif
