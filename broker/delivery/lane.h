/* A lane: one group's view of one topic, 1..end.
 *
 *   1 ............ cursor ................ end
 *   | delivered once  | never delivered     |
 *   | settled or open | but for `early` ones, of before a restart
 *
 * `settled` has what is acked, lost or deleted, for good. What is before the
 * cursor and not settled is open: in flight or waiting. So the fast path, fresh
 * messages in order and acks in order, moves two numbers. Below `first` all are
 * settled but what is in flight. Only group.c, settle.c and schedule.c use
 * this. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_LANE_H
#define GODWIT_BROKER_DELIVERY_LANE_H

#include "broker/list.h"
#include "broker/delivery/schedule.h"
#include "proto/seqset.h"
#include "storage/record.h"

struct lane_start;

/* Where a message stands; see the picture in group.h. */
enum lane_state {
    LANE_READY,
    LANE_IN_FLIGHT,
    LANE_DELAYED,
    LANE_ACKED,
    LANE_GAP,
    LANE_DELETED
};
enum { LANE_STATES = LANE_DELETED + 1 };

struct lane {
    uint32_t topic;
    void *user; /* the worker's */
    uint64_t end;
    uint64_t first; /* messages below are deleted, but for settled ones */
    uint64_t cursor;
    struct seqset settled;
    struct seqset
        early;         /* at or behind the cursor: delivered in a former life */
    struct heap ready; /* given back and due, by seq */
    size_t waiting_count;        /* of it in the schedule, ready or delayed */
    uint64_t count[LANE_STATES]; /* the books, kept by lane_move() alone */

    /* what the log has not been told */
    struct seqset new_acked;
    struct seqset new_gaps;
    struct retry *new_retries; /* begin..count are still to tell */
    size_t new_retry_begin;
    size_t new_retry_count;
    size_t new_retry_capacity;

    /* in the group's lists */
    struct link fresh;   /* may have a fresh message */
    struct link redo;    /* may have a ready one again */
    struct link effects; /* has something new for the log */
};

/* NULL: no memory. Settled numbers beyond the end are ignored. The retries are
 * the group's business. */
struct lane *lane_new(const struct lane_start *start);
void lane_free(struct lane *lane);

/* The books: `count` messages move. CHECKs that the move is legal. */
void lane_move(struct lane *lane, enum lane_state from, enum lane_state to,
               uint64_t count);
void lane_extend(struct lane *lane, uint64_t end);

/* The next fresh message; false: none. Moves the cursor over what is settled. */
bool lane_fresh(struct lane *lane, uint64_t *seq);
void lane_take_fresh(struct lane *lane); /* lane_fresh() was true just before */

/* Settle first..last, which was not settled, and note it for the log: as acked,
 * or as lost. STATUS_NOMEM: nothing changed but perhaps the note. */
MUST_CHECK enum status lane_settle(struct lane *lane, uint64_t first,
                                   uint64_t last, bool lost);
/* Its messages first..last, not settled, are deleted: settled, and nothing that
 * the log must be told. STATUS_NOMEM: nothing changed. */
MUST_CHECK enum status lane_delete(struct lane *lane, uint64_t first,
                                   uint64_t last);
/* Room for one more retry to tell the log; then note one. */
MUST_CHECK enum status lane_reserve_retry(struct lane *lane);
void lane_note_retry(struct lane *lane, const struct retry *retry);
bool lane_has_effects(const struct lane *lane);
/* The first of them, at most EFFECTS_COUNT_MAX of each kind; lent until the
 * lane changes. The sets are views. Then: they were told. */
struct lane_effects {
    struct seqset acked;
    struct seqset gaps;
    const struct retry *retries;
    size_t retry_count;
};
void lane_effects(const struct lane *lane, struct lane_effects *out);
void lane_effects_told(struct lane *lane, const struct lane_effects *told);

/* The longest stretch from `first`, up to `last`, that is all the same. */
enum stretch_kind {
    STRETCH_SETTLED,
    STRETCH_OPEN,  /* delivered and not settled: in flight or waiting, each */
    STRETCH_FRESH, /* durable, never delivered */
    STRETCH_BEYOND /* not published, or 0 */
};
struct stretch {
    enum stretch_kind kind;
    struct seq_range range;
};
struct stretch lane_stretch(const struct lane *lane, uint64_t first,
                            uint64_t last);

#endif
