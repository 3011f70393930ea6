/* A group: lanes (its view of each topic), members, and who gets what, when,
 * until when. Pure: no I/O, no clock, no randomness but the seed; time comes in
 * (microseconds of a monotonic clock), decisions and effects come out. One
 * thread: the worker that owns the group.
 *
 *            deliver                 ack
 *   READY ------------> IN FLIGHT ---------> ACKED
 *    ^ |                  |  |  |
 *    | |  release         |  |  | reject, or the last attempt failed
 *    +-|------------------+  |  +-----------------------> DEAD -- redrive --+
 *    | |                     | nack, lease end, member gone:      (to READY)|
 *    | | not due yet         | the attempt counts                           |
 *    | +---------> DELAYED <-+ backoff with jitter                          |
 *    +---------------+--------------------------------------------<---------+
 *
 * From READY a message may also turn out to be EXPIRED (its time to live),
 * FILTERED (the group's filter) or a GAP (lost to damage): settled, never
 * delivered. What the topic does not keep any more is DELETED from whichever of
 * these it stands in, but from IN FLIGHT only when it would come back: its
 * holder may still ack it. A DEAD one that an operator discards is DELETED too,
 * one that is acked without a claim is ACKED, and a redriven one that nobody
 * was given yet can be buried again.
 *
 * Modes. Shared: members take turns. Ordered: of a topic's messages with one
 * key (not empty) only one has the key, and only that is in flight or waits for
 * another attempt; the others stay READY behind it, in order of seq, and cost a
 * few bytes each. Settled or dead, it lets the next go. A message that was
 * published with a delay, or is redriven, takes its place in that order when it
 * is due. Retries of before a start keep their place: they come when the lane
 * gets to them, and are READY until then. Exclusive: all goes to the member
 * that joined first, the others stand by.
 *
 * Storms. Of what is given out while fresh messages are ready at most half are
 * redeliveries, after a burst of REDO_BURST. When BREAKER_FAILED of the last
 * BREAKER_WINDOW attempts that ended failed (a member that left counts once, a
 * nack with a delay of its own of a second and more not at all), the breaker
 * opens: one message each BREAKER_TRIAL_US, until BREAKER_CLOSE of the last
 * eight were acked. A message of which ASIDE_ENDS attempts ended with a lease
 * or a lost member since the start is set aside: it is given only to a member
 * that holds nothing else and gets nothing else until it is settled, so that
 * its neighbours' attempts do not end with it. Some member is kept free for
 * that, but no longer than a lease: then one that is busy gets it. Never more
 * than half of the members have such a message (one may always), and between
 * two of them ASIDE_BETWEEN others are given if there are any.
 *
 * Each change that must survive a restart is gathered as an effect, which the
 * worker writes to the log as records; an ack is answered only when its record
 * is durable. */
#ifndef GODWIT_BROKER_DELIVERY_GROUP_H
#define GODWIT_BROKER_DELIVERY_GROUP_H

#include "broker/delivery/gate.h"
#include "broker/delivery/inflight.h"
#include "broker/group_mode.h"
#include "proto/limits.h"
#include "proto/seqset.h"
#include "proto/wire.h"
#include "storage/record.h"

struct group;
struct member;

enum {
    REDO_BURST = 64,
    BREAKER_WINDOW = 64,
    BREAKER_FAILED = 62,
    BREAKER_CLOSE = 3,
    BREAKER_TRIAL_US = 100 * 1000,
    ASIDE_ENDS = 3,
    ASIDE_BETWEEN = 64
};

/* What may be changed while the group lives. */
struct group_rules {
    enum group_mode mode;
    uint64_t lease_us;
    uint32_t attempts_max;                  /* then it is dead; 0: no end */
    uint64_t backoff_us[BACKOFF_COUNT_MAX]; /* after the 1st, 2nd, ... failure;
                                             * the last one repeats */
    size_t backoff_count;                   /* 0: doubled from 1 s to 5 min */
    size_t in_flight_max; /* of the whole group; what waits after a delivery
                           * counts against fresh messages, but not what was
                           * never delivered because it is not due yet */
    uint64_t notice_us;   /* tell the holder so long before its lease ends; 0:
                           * no notice */
    bool paused;          /* nothing is given out */
};

/* Bytes for keys and what waits behind them, of all ordered groups of a worker;
 * one group may have as much as it leaves to the others. At the bound a message
 * with a key waits with its lane (`quota`). */
struct key_budget {
    size_t used;
    size_t max; /* KEYS_WAITING_MAX * 8 */
};

struct group_config {
    uint32_t id;
    struct group_rules rules;
    uint64_t seed;             /* for jitter */
    struct inflight *inflight; /* the worker's table; outlives the group */
    struct key_budget *keys;   /* the same */
    /* For the simulator alone, whose lanes are short (test/lib/group_sim.c):
     * any open stretch of more messages is looked at by its transactions alone.
     * 0, as everywhere else: a long one in which these are few. */
    size_t sparse_stretch;
};

struct group *
group_new(const struct group_config *config); /* NULL: no memory */
void group_free(struct group *group); /* members must have left; accepts NULL */
/* What is in flight keeps the lease it has, and its notice. A change of the
 * mode while messages are open takes effect message by message: to ordered,
 * those delivered from then on have keys, and what was open then (a retry of
 * before a start among it) may come before fresh ones of its key; from ordered,
 * those that wait behind a key go when it is free. */
void group_set_rules(struct group *group, const struct group_rules *rules);

/* ---- lanes ---- */

struct lane_start {
    uint32_t topic;
    uint64_t end;       /* last durable seq of the topic, 0: none */
    uint64_t after;     /* what lies up to here was never the lane's */
    bool sought;        /* it began anew behind `after`: but what up to there is
                         * neither settled nor dead was redriven or deleted
                         * since */
    uint64_t first_seq; /* messages below are deleted; 0: none are */
    const struct seqset *settled; /* NULL: none. Of these ... */
    const struct seqset *gaps;    /* ... lost to damage; NULL: none */
    const struct seqset *expired; /* ... too old when their turn came */
    uint64_t filtered;            /* ... so many did not pass the filter */
    uint64_t discarded;           /* ... so many dead ones were dropped */
    const struct seqset *dead;    /* not settled; NULL: none */
    const struct retry *retries;  /* due_us already on the monotonic clock */
    size_t retry_count;
    void *user; /* the worker's, comes back in offers */
};
/* Without room in the in-flight table retries are taken for fresh messages. */
MUST_CHECK enum status group_add_lane(struct group *group,
                                      const struct lane_start *start);
/* Its topic is gone, and what it has open ends without a word, within *budget
 * (NULL: no bound) and then in group_end_some(). */
void group_drop_lane(struct group *group, uint32_t topic, size_t *budget);
void *group_lane_user(const struct group *group, uint32_t topic); /* or NULL */
/* Messages up to `end` are durable. */
void group_extend(struct group *group, uint32_t topic, uint64_t end);
void group_each_lane(struct group *group,
                     void (*fn)(void *arg, uint32_t topic, void *user),
                     void *arg);
/* Messages below first_seq are deleted, as far as the lane goes. Each message
 * and stretch that is looked at comes out of *budget (NULL: no bound).
 * STATUS_AGAIN, it is used up, and STATUS_NOMEM: not all of them yet; ask
 * again, and until then what is offered may be one of them. */
MUST_CHECK enum status group_trim(struct group *group, uint32_t topic,
                                  uint64_t first_seq, size_t *budget);
/* first..last are not for this lane, and the log has to be told: of them what
 * was not looked at yet is acked. STATUS_NOMEM: not all of it. */
MUST_CHECK enum status group_skip(struct group *group, uint32_t topic,
                                  struct seq_range range);
/* The lane begins anew behind `after` (at most its end): what is in flight is
 * taken back without a word, what is dead at or below stays dead, all above is
 * fresh. An effect. That is so at once, but what was open takes its places in
 * the in-flight table and its holders' credit until it is ended, and until then
 * the lane gives nothing: within *budget (NULL: no bound), then in
 * group_end_some(). STATUS_NOT_FOUND: no such lane; STATUS_INVALID: beyond the
 * end. */
MUST_CHECK enum status group_seek(struct group *group, uint32_t topic,
                                  uint64_t after, size_t *budget);
/* Go on with what seeks and dropped lanes left. Each message, stretch and key
 * that is looked at comes out of *budget. */
void group_end_some(struct group *group, size_t *budget);
bool group_is_ending(const struct group *group); /* they left something */

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
/* It is gone: all it holds is ready again at once, an attempt counted (or dead,
 * if that was the last). */
void group_leave(struct group *group, struct member *member, uint64_t now_us);
/* It goes in order: all it holds is ready again at once, as if released. */
void group_detach(struct group *group, struct member *member, uint64_t now_us);
/* It wants no more (a pull that was answered) but what it holds stays leased to
 * its number until settled or expired. */
void group_retire(struct group *group, struct member *member);

/* ---- delivery ---- */

struct offer {
    struct member *member;
    uint32_t topic;
    uint64_t seq;
    uint32_t attempt; /* from 1 */
    bool known;       /* it was delivered, read or dead before: it was there */
    void *lane_user;
};

/* The next message somebody may have now, members in turn, due redeliveries
 * before new ones (but see the breaker), lanes in turn. False: nothing for now;
 * group_held_by() says why. Changes nothing that can be seen; follow it by
 * exactly one of group_take() and group_lost(), or by neither. */
bool group_next(struct group *group, uint64_t now_us, struct offer *out);

/* What its reader knows of the offered message. Times are monotonic. */
struct message_facts {
    size_t bytes;
    uint64_t key_hash;   /* 0: no key, or the group is not ordered */
    uint64_t due_us;     /* not before; 0: at once */
    uint64_t expires_us; /* 0: never */
    bool filtered;       /* the group's filter does not want it */
};
/* Looked at in this order: expired, filtered, not due, key busy. */
enum take {
    TAKE_DELIVERED, /* the lease begins: put it into the member's output */
    TAKE_PASSED,    /* expired, filtered, not due, behind its key: done with */
    TAKE_AGAIN      /* no room in the in-flight table, or no memory: it stays
                     * as it was, stop with this group for now */
};
enum take group_take(struct group *group, const struct offer *offer,
                     const struct message_facts *facts, uint64_t now_us);
/* The store cannot give offer->seq..last: settle them as a gap, as far as
 * LOST_LOOKS_MAX messages and stretches go. The last one that was looked at;
 * offer->seq - 1: none, for want of memory. The rest is offered again. */
enum { LOST_LOOKS_MAX = 8192 };
uint64_t group_lost(struct group *group, const struct offer *offer,
                    uint64_t last);

/* ---- settling ---- */

struct settlement {
    uint64_t lease; /* who says so; 0: whoever holds it (no claim made) */
    uint32_t topic;
    enum settle_action action;
    struct seq_range range;
    uint64_t delay_us;   /* nack: 0 = backoff; extend: from now */
    struct slice reason; /* nack, reject; at most REASON_LEN_MAX */
};
/* Called for each stretch with one outcome, in order. */
typedef void (*settled_fn)(void *arg, const struct wire_settled_range *range);
/* Outcomes: accepted (also for an ack of what is acked already, of what went
 * back to ready and nobody else holds, and, with lease 0, of what is dead),
 * late (another lease has it, or it is dead; extend and reject when nobody has
 * it any more; anything but an ack of what is settled), unknown (never
 * delivered, no such lane). Bounded work: ranges are clipped to what was ever
 * delivered; one `unknown` covers the rest. STATUS_NOMEM: nothing done for the
 * rest of the range. */
MUST_CHECK enum status group_settle(struct group *group,
                                    const struct settlement *settlement,
                                    uint64_t now_us, settled_fn fn, void *arg);
/* The same in bits: each message and each stretch that is looked at comes out
 * of *budget. STATUS_AGAIN: it is used up, go on with *next. */
MUST_CHECK enum status group_settle_some(struct group *group,
                                         const struct settlement *settlement,
                                         uint64_t now_us, size_t *budget,
                                         uint64_t *next, settled_fn fn,
                                         void *arg);

/* ---- dead letters ---- */

/* The dead of a lane from `seq` on, at most `room` ranges. */
size_t group_dead(const struct group *group, uint32_t topic, uint64_t seq,
                  struct seq_range *out, size_t room);
/* Dead ones of first..last become ready with no failures counted; *count of
 * them. An effect. STATUS_NOMEM, STATUS_AGAIN (no room in the in-flight
 * table, or a seek is not done with): those up to *next - 1 were looked at. */
MUST_CHECK enum status group_redrive(struct group *group, uint32_t topic,
                                     struct seq_range range, uint64_t now_us,
                                     uint64_t *count, uint64_t *next);
/* Those of first..last that were redriven and are still ready, given to nobody,
 * are dead again. An effect. Each message and stretch that is looked at comes
 * out of *budget (NULL: no bound). STATUS_AGAIN: it is used up, go on with
 * *next. */
MUST_CHECK enum status group_bury(struct group *group, uint32_t topic,
                                  struct seq_range range, size_t *budget,
                                  uint64_t *next, uint64_t *count);
/* Dead ones of first..last are settled for good. An effect. The same budget,
 * of ranges. */
MUST_CHECK enum status group_discard(struct group *group, uint32_t topic,
                                     struct seq_range range, size_t *budget,
                                     uint64_t *next, uint64_t *count);

/* ---- time ---- */

/* A lease of this member ends soon. */
struct notice {
    struct member *member;
    uint32_t topic;
    uint64_t seq;
    uint64_t ends_us;
    void *lane_user;
};
/* Take back what has expired and make due what waited: both happen here and
 * nowhere else, up to INFLIGHT_TICK_US late. At most `budget` moves; true if
 * more is to do at once. `fn` (may be NULL) is called for notices. */
bool group_tick(struct group *group, uint64_t now_us, size_t budget,
                void (*fn)(void *arg, const struct notice *notice), void *arg);
/* When to call group_tick() next; UINT64_MAX: never as things are. */
uint64_t group_due_us(const struct group *group);

/* ---- effects: what the log must be told ---- */

enum effect_set {
    EFFECT_ACKED,
    EFFECT_GAP,
    EFFECT_EXPIRED,
    EFFECT_FILTERED,
    EFFECT_REDRIVEN,
    EFFECT_BURIED,
    EFFECT_DISCARDED
};
enum { EFFECT_SETS = EFFECT_DISCARDED + 1 };

/* Write them in this order: `seek` alone (nothing else with it), then
 * redriven, failures, buried, then the sets that settle. */
struct effects {
    uint32_t topic;
    bool seek;
    uint64_t seek_after;
    const struct seqset *sets[EFFECT_SETS]; /* never NULL */
    const struct failure *failures;         /* due_us monotonic */
    size_t failure_count;
};
bool group_has_effects(const struct group *group);
/* Give them lane by lane, a long lane in parts: at most EFFECTS_COUNT_MAX ranges
 * of each set and failures, and these fit a body of EFFECTS_FAILURES_LEN_MAX
 * (FAILURE_LEN_MIN and the reason each). What fn returns true for is told; at
 * the first false (no room in the submission ring) it stops and keeps the rest.
 * While very much is untold, group_next() gives nothing. */
enum { EFFECTS_COUNT_MAX = 1024, EFFECTS_FAILURES_LEN_MAX = 24 * 1024 };
void group_take_effects(struct group *group,
                        bool (*fn)(void *arg, const struct effects *effects),
                        void *arg);

/* ---- why ---- */

struct standing {
    enum gate gate;
    uint64_t since_us;  /* monotonic; 0: not known */
    uint64_t until_us;  /* 0: no time releases it */
    uint64_t holder;    /* leased: lease number */
    uint32_t attempts;  /* deliveries that failed so far (held: this one's
                         * number - 1) */
    uint64_t other_seq; /* key_busy: who has the key; behind: the next one */
};
/* Where one message stands, as far as the group alone can say: what it has not
 * looked at yet is `behind`, or what holds the whole group, and its reader may
 * know better (filtered, not_due, expired). What is settled, in whatever way,
 * is `acked`, below the first one kept `deleted`, and up to where the lane
 * begins `not_taken`. key_hash: for key_busy, or 0. */
void group_explain(const struct group *group, uint32_t topic, uint64_t seq,
                   uint64_t key_hash, uint64_t now_us, struct standing *out);
/* What holds the group as a whole: none, paused, no_subscriber, no_credit,
 * quota, breaker; since when. */
void group_held_by(const struct group *group, uint64_t now_us,
                   struct standing *out);

/* ---- the books (promise 8) ---- */

struct lane_books {
    uint32_t topic;
    uint64_t published; /* numbers from the lane's start to the durable end,
                         * and the dead that a seek left below */
    uint64_t acked, dead, expired, deleted, filtered, gap, ready, delayed,
        in_flight;
    /* What an operator discarded, counted as deleted, is not above. */
    uint64_t discarded_through;
};
/* published is the sum of the others, counted, not derived: each figure is kept
 * by its own moves. False: no such lane. */
bool group_books(const struct group *group, uint32_t topic,
                 struct lane_books *out);
static inline bool lane_books_balance(const struct lane_books *b)
{
    return b->published
           == b->acked + b->dead + b->expired + b->deleted + b->filtered
                  + b->gap + b->ready + b->delayed + b->in_flight;
}

/* Count it all again from the lane's parts and compare, credits and holders
 * too (no transaction without a member): false is an alarm. Costs a look at
 * everything open; the bytes of credits are counted when the group has at most
 * AUDIT_CREDIT_LANES_MAX lanes. True when there is no such lane. */
enum { AUDIT_CREDIT_LANES_MAX = 16 };
bool group_audit(const struct group *group, uint32_t topic);
/* Take back what is in flight of this lane and nobody holds: only a fault makes
 * such an orphan, so each is an alarm. How many there were; at most ORPHANS_MAX
 * a call. */
enum { ORPHANS_MAX = 64 };
size_t group_sweep(struct group *group, uint32_t topic, uint64_t now_us);

struct group_figures {
    uint64_t delivered, redelivered, acked, nacked, released, leases_expired,
        late, rejected, died, redriven, expired, filtered;
    uint64_t deleted; /* before they were settled, and discarded ones */
    uint64_t orphans; /* see group_sweep() */
    uint64_t breaker_opened;
    uint64_t set_aside; /* deliveries to a member that got nothing else */
};
void group_figures(const struct group *group, struct group_figures *out);

#endif
