/* The inside of a group, shared by its files:
 *
 *   group.c    making and ending, lanes, members, effects
 *   pick.c     who is offered what
 *   take.c     what becomes of the offer
 *   open.c     one open message: how it comes back, how it ends
 *   settle.c   what members say
 *   dead.c     what operators say of dead ones
 *   cut.c      what the topic loses: gaps, what is not kept; skips, seeks
 *   ending.c   what was open before a seek, or before the topic went
 *   timing.c   leases, notices, delays, backoff
 *   explain.c  why, and the books
 *   audit.c    the books counted again, orphans */
#ifndef GODWIT_BROKER_DELIVERY_GROUP_IMPL_H
#define GODWIT_BROKER_DELIVERY_GROUP_IMPL_H

#include "broker/delivery/breaker.h"
#include "broker/delivery/group.h"
#include "broker/delivery/lane.h"
#include "broker/delivery/member.h"

struct lane_ring {
    struct link head;
    struct lane *at; /* at the head for `burst` messages already */
    unsigned burst;
};

/* Leases with a notice: by how much each lease ends later than its transaction
 * says. A new length of notice takes a place that no lease has. */
enum { NOTICES = 3 };
struct notice_length {
    uint64_t us;
    size_t count; /* leases that have it */
};

struct group {
    struct group_config config;
    struct inflight_group *inflight;
    uint64_t now_us; /* of the last call that told it */
    struct members members;
    struct hash lanes; /* topic -> struct lane */
    struct lane *last_lane;
    struct lane_ring redo;
    struct lane_ring fresh;
    struct link aside;   /* lanes that may have one set aside */
    struct link effects; /* lanes with something for the log */
    struct link endings; /* what lanes had open that began anew, or are gone */
    struct breaker breaker;
    bool woken_turn;      /* those behind keys before those ready again */
    unsigned redo_share;  /* redeliveries above fresh ones lately */
    unsigned aside_wait;  /* others to be given before one set aside */
    uint32_t aside_topic; /* the one that a member is kept free for ... */
    uint64_t aside_seq;
    uint64_t aside_by_us;   /* ... and need not be free any more from then on */
    uint64_t aside_wake_us; /* UINT64_MAX: nobody waits for that */
    struct key_account keys;
    struct notice_length notices[NOTICES];
    size_t first_time; /* with a transaction, but as yet for the first time in
                        * this life: not due, or early and in turn */
    size_t untold_ranges; /* sums over the lanes */
    size_t untold_failures;
    size_t untold_reason_bytes;
    bool no_room; /* the last take found none */
    enum gate held_by;
    uint64_t held_since_us;
    struct group_figures figures;
};

/* ---- what a transaction's flags say ---- */

enum {
    OPEN_NEVER = 1,    /* it was never delivered: not due when its turn came */
    OPEN_REDRIVEN = 2, /* and not given to anybody since */
    OPEN_EARLY = 4,    /* of before a start: comes when the cursor is there */
    OPEN_BEHIND = 8,   /* it waits in lane->keys */
    OPEN_ENDS_SHIFT = 4, /* two bits: how many attempts ended with a lease or a
                          * lost member, up to ASIDE_ENDS */
    OPEN_ENDS = 3 << OPEN_ENDS_SHIFT,
    OPEN_NOTICE_SHIFT = 6, /* two bits: held, and due_us is so much before the
                            * lease ends: 1 + index of group->notices */
    OPEN_NOTICE = 3 << OPEN_NOTICE_SHIFT
};
_Static_assert((int)ASIDE_ENDS <= 3 && (int)NOTICES <= 3, "two bits each");

static inline bool open_is_aside(const struct transaction *t)
{
    return (t->flags & OPEN_ENDS) >> OPEN_ENDS_SHIFT >= ASIDE_ENDS;
}

/* As yet it waits for the first time in this life. */
static inline bool open_is_first_time(const struct transaction *t)
{
    return (t->flags & (OPEN_NEVER | OPEN_EARLY)) != 0;
}

/* It has its turn in lane->redo, or in lane->aside. NULL: it has not. */
static inline bool open_is_offered(const struct transaction *t, bool aside)
{
    return t != NULL && t->state == TRANSACTION_READY
           && (t->flags & (OPEN_EARLY | OPEN_BEHIND)) == 0
           && open_is_aside(t) == aside;
}

/* One more look; false: the budget is used up. NULL: there is no bound. */
static inline bool group_may_look(size_t *budget)
{
    if (budget == NULL) {
        return true;
    }
    if (*budget == 0) {
        return false;
    }
    --*budget;
    return true;
}

/* ---- group.c ---- */

/* NULL: none. */
struct lane *group_find_lane(const struct group *group, uint32_t topic);
/* The lane has something new for the log. */
void group_mark_effects(struct group *group, struct lane *lane);
void group_mark_fresh(struct group *group, struct lane *lane);
void group_mark_redo(struct group *group, struct lane *lane);
void group_forget_untold(struct group *group, struct lane *lane);

/* ---- open.c ---- */

/* The transaction of a message; NULL: none. */
const struct transaction *group_find_open(const struct group *group,
                                          const struct lane *lane,
                                          uint64_t seq);
/* Of a long open stretch those that have a transaction, in order, if they are
 * so few that nearly all of it waits behind keys. */
struct open_list {
    struct seq_range range;
    uint64_t *seqs; /* freed by the caller */
    size_t count;
    size_t looks; /* what it cost, in messages */
};
/* False: too many, or no memory: look at one after the other. At most
 * `looks_max` are looked at. */
bool group_list_open(const struct group *group, const struct lane *lane,
                     struct seq_range stretch, size_t looks_max,
                     struct open_list *out);
/* In which of the books' states it is. */
enum lane_state open_state(const struct transaction *t);
/* Room to become ready; then group_push_ready() cannot fail. */
MUST_CHECK enum status group_reserve_ready(struct group *group,
                                           struct lane *lane,
                                           const struct transaction *t);
/* A transaction became ready: it is offered from now on. */
void group_push_ready(struct group *group, struct lane *lane,
                      const struct transaction *t);
/* They are no longer open: the transactions of neighbours, all of one holder,
 * end, it has credit again, and their keys go to the next. The books are the
 * caller's. */
void group_end_held(struct group *group, struct lane *lane,
                    const struct transaction *const *run, size_t count);
/* It is no longer open: its transaction ends, its holder has credit again, its
 * key goes to the next. The books are the caller's. *t is gone. */
void group_end_open(struct group *group, struct lane *lane,
                    const struct transaction *t);
/* The same, and it moves to this state. */
void group_end_as(struct group *group, struct lane *lane,
                  const struct transaction *t, enum lane_state to);
/* Held by nobody that there is, it is ready again as if it was released.
 * STATUS_NOMEM: nothing changed. */
MUST_CHECK enum status group_take_back(struct group *group, struct lane *lane,
                                       const struct transaction *t);
/* One that waits becomes *next, which waits too. The books are the caller's. */
void group_change_waiting(struct group *group, const struct transaction *t,
                          const struct transaction *next);

/* An attempt failed: what the breaker should know. */
void group_note_failed(struct group *group);

/* How an attempt ends without an ack. */
struct comeback {
    enum failure_cause cause; /* 0: released, the attempt does not count */
    uint64_t due_us;          /* 0: at once */
    struct slice reason;
};
/* From in flight to ready, delayed, or dead if it was the last attempt or
 * CAUSE_REJECT; to deleted if its topic does not have it any more.
 * STATUS_NOMEM: it stays in flight. */
MUST_CHECK enum status group_give_back(struct group *group, struct lane *lane,
                                       const struct transaction *t,
                                       const struct comeback *how);

/* ---- dead.c ---- */

/* Dead ones, all of first..last, are settled. STATUS_NOMEM: nothing changed but
 * perhaps the note for the log. */
MUST_CHECK enum status group_settle_dead(struct group *group, struct lane *lane,
                                         enum effect_set as, enum lane_state to,
                                         struct seq_range range);

/* ---- ending.c ---- */

struct ending;

struct ending *group_ending_new(void);         /* NULL: no memory */
void group_ending_free(struct ending *ending); /* before it began */
/* Nothing of the lane is open any more: it is ended in group_end_some(), and
 * the lane, if it stays, gives nothing until then. Takes *ending. */
void group_begin_ending(struct group *group, struct lane *lane,
                        struct ending *ending);
/* The same without memory: it is ended now. */
void group_end_at_once(struct group *group, struct lane *lane);
/* What a lane of this topic left that is gone is ended now. */
void group_end_before(struct group *group, uint32_t topic);
/* Its lane began anew or is gone: nobody is to hear of it but who has it. */
bool group_is_left(const struct group *group, const struct transaction *t);
void group_end_left(struct group *group, const struct transaction *t);
/* All of lanes that are gone: as inflight_each(). */
void group_each_of_gone(const struct group *group,
                        bool (*fn)(void *arg, const struct transaction *t),
                        void *arg);
void group_forget_endings(struct group *group); /* it is freed */

/* ---- timing.c ---- */

/* The delay after so many failures, with jitter by message. */
uint64_t group_backoff_us(const struct group *group,
                          const struct transaction *t, uint32_t attempts);
/* *t is held until then: its due time, now with a notice before it. */
void group_arm_lease(struct group *group, struct transaction *t,
                     uint64_t ends_us);
/* There is no lease with this notice any more. */
void group_disarm_lease(struct group *group, const struct transaction *t);
uint64_t group_lease_end(const struct group *group,
                         const struct transaction *t);

/* ---- pick.c ---- */

/* Does this number of lane->keys still wait? */
bool group_waits_behind(const struct group *group, const struct lane *lane,
                        uint64_t seq);
/* Something holds the group as a whole, from now on. */
void group_note_held_by(struct group *group, enum gate gate);

/* What holds all of the group but for members and the breaker's next trial;
 * GATE_NONE: nothing. */
enum gate group_gate(const struct group *group);

#endif
