/* A lane: one group's view of one topic, 1..end.
 *
 *   1 ..... after ............ cursor ................ end
 *   | never    | looked at once   | not looked at yet   |
 *   | its own  | settled, dead or | but for `early` ones, of before a start
 *                open
 *
 * `settled` has what is acked, lost, deleted, expired or filtered, and what was
 * never the lane's; `dead` what is dead. What is before the cursor and in
 * neither is open: in flight or waiting, with a transaction in the in-flight
 * table, or waiting behind its key, with a number in `keys`. So the fast path,
 * fresh messages in order and acks in order, moves two numbers. Below `first`
 * all are settled but what is in flight. Only the group's files use this. One
 * thread. */
#ifndef GODWIT_BROKER_DELIVERY_LANE_H
#define GODWIT_BROKER_DELIVERY_LANE_H

#include "broker/delivery/group.h"
#include "broker/delivery/keys.h"
#include "broker/delivery/seqheap.h"
#include "broker/delivery/untold.h"
#include "broker/list.h"

/* Where a message stands; see the picture in group.h. */
enum lane_state {
    LANE_READY,
    LANE_IN_FLIGHT,
    LANE_DELAYED,
    LANE_DEAD,
    LANE_ACKED,
    LANE_GAP,
    LANE_DELETED,
    LANE_EXPIRED,
    LANE_FILTERED
};
enum { LANE_STATES = LANE_FILTERED + 1 };

struct lane {
    uint32_t topic;
    bool early_in_turn; /* early ones come when the cursor gets to them: their
                         * keys are not known before */
    bool ending; /* what was open before a seek is not ended yet: nothing is
                  * given, nothing is open */
    void *user;  /* the worker's */
    uint64_t end;
    uint64_t after; /* up to here nothing was ever the lane's, or it is dead */
    uint64_t first; /* messages below are deleted, but for settled ones */
    uint64_t cursor;
    struct seqset settled;
    struct seqset dead;
    struct seqset early; /* at or behind the cursor, and open */

    /* Who may be given next but the fresh ones. An entry may be out of date:
     * the transaction says whether it still waits. */
    struct seqheap redo;  /* ready again */
    struct seqheap aside; /* the same, of those set aside */
    struct keys *keys;    /* NULL: none yet */

    uint64_t published;
    uint64_t count[LANE_STATES]; /* the books, kept by lane_move() alone */
    uint64_t discarded_through;  /* those discarded are at or below; 0: none */
    struct untold untold;
    size_t untold_ranges; /* of these the group's sum has */

    /* in the group's lists */
    struct link fresh_link;   /* may have a fresh message */
    struct link redo_link;    /* may have one ready again or a woken key */
    struct link aside_link;   /* may have one set aside */
    struct link effects_link; /* has something new for the log */
};

/* NULL: no memory. Numbers beyond the end are ignored. The retries are the
 * group's business. */
struct lane *lane_new(const struct lane_start *start);
void lane_free(struct lane *lane); /* accepts NULL */

/* The books: `count` messages move. CHECKs that the move is legal. */
void lane_move(struct lane *lane, enum lane_state from, enum lane_state to,
               uint64_t count);
void lane_extend(struct lane *lane, uint64_t end);
/* It is to begin anew behind `after`: all above is fresh, what is dead at or
 * below stays so. STATUS_NOMEM: nothing changed. Then, when nothing of it is
 * open any more, do it. */
struct lane_plan {
    uint64_t after;
    struct seqset settled;
    struct seqset dead;
};
MUST_CHECK enum status lane_plan_anew(const struct lane *lane, uint64_t after,
                                      struct lane_plan *out);
void lane_begin_anew(struct lane *lane, struct lane_plan *plan); /* takes it */

/* The next one not looked at; false: none. Moves the cursor over what is
 * settled, dead or early. */
bool lane_fresh(struct lane *lane, uint64_t *seq);
void lane_take_fresh(struct lane *lane); /* lane_fresh() was true just before */

/* Settle first..last, which was not settled and is no longer dead, and note it
 * for the log. STATUS_NOMEM: nothing changed but perhaps the note. */
MUST_CHECK enum status lane_settle(struct lane *lane, enum effect_set as,
                                   uint64_t first, uint64_t last);
/* The same, and nothing that the log must be told: the topic does not have them
 * any more. */
MUST_CHECK enum status lane_delete(struct lane *lane, uint64_t first,
                                   uint64_t last);

/* The longest stretch from `first`, up to `last`, that is all the same. */
enum stretch_kind {
    STRETCH_SETTLED,
    STRETCH_DEAD,
    STRETCH_OPEN,  /* looked at and not settled: each in flight or waiting */
    STRETCH_FRESH, /* durable, not looked at */
    STRETCH_BEYOND /* not published, or 0 */
};
struct stretch {
    enum stretch_kind kind;
    struct seq_range range;
};
struct stretch lane_stretch(const struct lane *lane, uint64_t first,
                            uint64_t last);

#endif
