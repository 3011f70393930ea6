/* A group: lanes (its view of each topic), members, and who gets what, when,
 * until when. Pure: no I/O, no clock, no randomness but the seed; time comes in
 * (microseconds of a monotonic clock), decisions and effects come out. One
 * thread: the worker that owns the group.
 *
 *            deliver                 ack
 *   READY ------------> IN FLIGHT ---------> ACKED
 *     ^                  |    |
 *     |  release         |    | nack, lease end, member gone:
 *     +------------------+    | the attempt counts
 *     |                       v
 *     +------------------- DELAYED   backoff with jitter (member gone: none)
 *
 * What the topic does not keep any more is DELETED from whichever of these it
 * stands in, but from IN FLIGHT only when it would come back: its holder may
 * still ack it.
 *
 * Each change that must survive a restart (acked, attempts, gaps) is gathered
 * as an effect, which the worker writes to the log as records; an ack is
 * answered only when its record is durable. */
#ifndef GODWIT_BROKER_DELIVERY_GROUP_H
#define GODWIT_BROKER_DELIVERY_GROUP_H

#include "broker/delivery/inflight.h"
#include "proto/seqset.h"
#include "proto/wire.h"
#include "storage/record.h"

struct group;
struct member;

struct group_config {
    uint32_t id;
    uint64_t lease_us;
    size_t in_flight_max;      /* of the whole group; what waits for
                                * redelivery counts against fresh messages */
    uint64_t seed;             /* for jitter */
    struct inflight *inflight; /* the worker's table; outlives the group */
};

struct group *
group_new(const struct group_config *config); /* NULL: no memory */
void group_free(struct group *group); /* members must have left; accepts NULL */

/* ---- lanes ---- */

struct lane_start {
    uint32_t topic;
    uint64_t end;                /* last durable seq of the topic, 0: none */
    uint64_t first_seq;          /* messages below are deleted; 0: none are */
    const struct seqset *acked;  /* settled before; NULL: none */
    const struct seqset *gaps;   /* of those, lost to damage; NULL: none */
    const struct retry *retries; /* due_us already on the monotonic clock */
    size_t retry_count;
    void *user; /* the worker's, comes back in offers */
};
MUST_CHECK enum status group_add_lane(struct group *group,
                                      const struct lane_start *start);
void group_drop_lane(struct group *group,
                     uint32_t topic); /* its topic is gone */
void *group_lane_user(const struct group *group, uint32_t topic); /* or NULL */
/* Messages up to `end` are durable. */
void group_extend(struct group *group, uint32_t topic, uint64_t end);
void group_each_lane(struct group *group,
                     void (*fn)(void *arg, uint32_t topic, void *user),
                     void *arg);
/* Messages below first_seq are deleted, as far as the lane goes. STATUS_NOMEM:
 * not all of them yet; ask again. */
MUST_CHECK enum status group_trim(struct group *group, uint32_t topic,
                                  uint64_t first_seq);
/* A new lane begins behind `last`, and the log has to be told: what nobody was
 * delivered yet is acked. STATUS_NOMEM: not all of it. */
MUST_CHECK enum status group_skip(struct group *group, uint32_t topic,
                                  uint64_t last);

/* ---- members ---- */

/* `lease` is the holder number of all that this member will hold: unique in the
 * broker's life, never 0. Credit bounds what it holds unsettled: messages, and
 * delivery goes on while fewer than credit_bytes are unsettled. */
MUST_CHECK enum status group_join(struct group *group, uint64_t lease,
                                  uint64_t credit_messages,
                                  uint64_t credit_bytes, void *user,
                                  struct member **out);
void member_set_credit(struct member *member, uint64_t credit_messages,
                       uint64_t credit_bytes);
/* A member whose connection is congested gets nothing for a while. */
void member_pause(struct member *member, bool paused);
void *member_user(const struct member *member);
/* It is gone: all it holds is ready again at once, an attempt counted. */
void group_leave(struct group *group, struct member *member);
/* It wants no more (a pull that was answered) but what it holds stays leased to
 * its number until settled or expired. */
void group_retire(struct group *group, struct member *member);

/* ---- delivery ---- */

struct offer {
    struct member *member;
    uint32_t topic;
    uint64_t seq;
    uint32_t attempt; /* from 1 */
    void *lane_user;
};

/* The next message somebody may have now, members in turn, due redeliveries
 * before new ones, lanes in turn. False: nothing for now. Changes nothing that
 * can be seen; follow it by exactly one of the three below. */
bool group_next(struct group *group, uint64_t now_us, struct offer *out);
/* It was put into the member's output: the lease begins. STATUS_AGAIN: the
 * in-flight budget is used up (then the message stays ready). */
MUST_CHECK enum status group_delivered(struct group *group,
                                       const struct offer *offer, size_t bytes,
                                       uint64_t now_us);
/* The store cannot give offer->seq..last: settle them as a gap. */
void group_lost(struct group *group, const struct offer *offer, uint64_t last);

/* ---- settling ---- */

struct settlement {
    uint64_t lease; /* who says so; 0: whoever holds it (no claim made) */
    uint32_t topic;
    enum settle_action action;
    struct seq_range range;
    uint64_t delay_us; /* nack: 0 = backoff; extend: from now */
};
/* Called for each stretch with one outcome, in order. */
typedef void (*settled_fn)(void *arg, const struct wire_settled_range *range);
/* Outcomes: accepted (also for an ack of what is acked already, and for what
 * went back to ready and nobody else holds), late (another lease has it),
 * unknown (never delivered, no such lane). Bounded work: ranges are clipped to
 * what was ever delivered; one `unknown` covers the rest. STATUS_NOMEM: nothing
 * done for the rest of the range. */
MUST_CHECK enum status group_settle(struct group *group,
                                    const struct settlement *settlement,
                                    uint64_t now_us, settled_fn fn, void *arg);

/* ---- time ---- */

/* Take back what has expired and make due what waited. At most `budget` moves;
 * true if more is to do at once. */
bool group_tick(struct group *group, uint64_t now_us, size_t budget);
/* When to call group_tick() next; UINT64_MAX: never as things are. */
uint64_t group_due_us(const struct group *group);

/* ---- effects: what the log must be told ---- */

struct effects {
    uint32_t topic;
    const struct seqset *acked;
    const struct seqset *gaps;
    const struct retry *retries; /* due_us monotonic */
    size_t retry_count;
};
bool group_has_effects(const struct group *group);
/* Give them lane by lane, a long lane in parts of at most EFFECTS_COUNT_MAX
 * ranges acked, ranges lost and retries each. What fn returns true for is told;
 * at the first false (no room in the submission ring) it stops and keeps the
 * rest. While very much is untold, group_next() gives nothing. */
enum { EFFECTS_COUNT_MAX = 1024 };
void group_take_effects(struct group *group,
                        bool (*fn)(void *arg, const struct effects *effects),
                        void *arg);

/* ---- the books (promise 8) ---- */

struct lane_books {
    uint32_t topic;
    uint64_t published; /* numbers up to the durable end */
    uint64_t acked, gap, deleted, ready, delayed, in_flight;
};
/* published == acked + gap + deleted + ready + delayed + in_flight, counted,
 * not derived: each figure is kept by its own moves. False: no such lane. */
bool group_books(const struct group *group, uint32_t topic,
                 struct lane_books *out);

/* Count it all again from the lane's parts and compare: false is an alarm.
 * Costs a look at everything in flight. True when there is no such lane. */
bool group_audit(const struct group *group, uint32_t topic);

struct group_figures {
    uint64_t delivered, redelivered, acked, nacked, released, expired, late;
    uint64_t deleted; /* before they were settled */
};
void group_figures(const struct group *group, struct group_figures *out);

#endif
