/* From commits to deliveries: the groups of one worker, their lanes on the
 * topics, and the pump that reads durable messages from the store and gives
 * them to members. What a member is (a session) stays outside: it is given back
 * through struct dispatch_out. One thread: the worker's. */
#ifndef GODWIT_BROKER_DISPATCH_H
#define GODWIT_BROKER_DISPATCH_H

#include "broker/delivery/group.h"
#include "broker/delivery/ring.h"
#include "broker/delivery/submission.h"
#include "broker/metrics.h"
#include "broker/router/catalog.h"
#include "storage/store.h"

struct dispatch;

/* How members are reached; `member` is what they joined with. */
struct dispatch_out {
    /* Consecutive deliveries of one topic. The slices live until it returns. */
    void (*deliver)(void *member, const char *topic,
                    const struct wire_delivery *deliveries, size_t count);
    void (*gap)(void *member, const char *topic, struct seq_range range);
    /* No more for now: its output is full. It will say when it has drained. */
    bool (*congested)(void *member);
    /* Leases of these end soon: the first of them in ends_in_ms. */
    void (*notice)(void *member, const char *topic, struct seq_range range,
                   uint64_t ends_in_ms);
    /* It is a member no more. STATUS_NOT_FOUND: its group was deleted;
     * STATUS_UNAUTHENTICATED: its app was. */
    void (*evicted)(void *member, enum status why);
    /* Did it log in as this app? */
    bool (*is_of_app)(const void *member, uint32_t app);
};

struct dispatch_config {
    struct store *store;
    struct ring *commits; /* all that is given to dispatch_commit(); NULL: the
                           * caller gives them as they come */
    size_t worker;        /* this one's number ... */
    size_t worker_count;  /* ... of these */
    size_t in_flight_bytes[TIER_COUNT]; /* the in-flight table's budgets */
    const char *in_flight_path;         /* of the last tier; NULL: none */
    uint64_t in_flight_disk_min;        /* free on its disk, for others */
    uint64_t now_us;                    /* monotonic */
    uint64_t wall_us;                   /* for the due times the log holds */
    uint64_t seed;
    struct dispatch_out out;
    struct worker_metrics *metrics;
};

/* Reads facts and lanes from the store; before the threads run. */
MUST_CHECK enum status dispatch_new(struct dispatch **out,
                                    const struct dispatch_config *config,
                                    struct error *err);
void dispatch_free(struct dispatch *dispatch); /* accepts NULL */

/* This thread's replica, kept current by dispatch_commit(). */
struct catalog *dispatch_catalog(const struct dispatch *dispatch);
/* Which worker owns this group. */
size_t dispatch_owner(const struct dispatch *dispatch,
                      const struct group_fact *group);
uint64_t dispatch_last_seq(const struct topic *topic);
/* Messages below are deleted; from 1. */
uint64_t dispatch_first_seq(const struct topic *topic);
/* Groups that are made now begin here at the earliest; from 1. */
uint64_t dispatch_floor_seq(const struct topic *topic);

/* A batch has become durable, in log order. One that cannot be read is reported
 * in the log, and its messages are found missing when their turn comes. Without
 * memory to take note of it the process ends: a restart has it whole. */
void dispatch_commit(struct dispatch *dispatch,
                     const struct store_commit *commit);

/* All that dispatch_log() wrote before this position of the submission ring is
 * durable, and so were the commits that were given to dispatch_commit(). */
void dispatch_durable(struct dispatch *dispatch, uint64_t position);

/* The thread is about to sleep: no file and no page is kept for it. */
void dispatch_rest(struct dispatch *dispatch);

/* Give out what can be given, within the budget of one loop turn. */
void dispatch_pump(struct dispatch *dispatch, uint64_t now_us);

/* Is there a group that may have something to give at once? */
bool dispatch_has_more(const struct dispatch *dispatch);

/* Write the groups' effects as records. False: the ring is full, go on later. */
bool dispatch_log(struct dispatch *dispatch, struct submission *to,
                  uint64_t now_us, uint64_t wall_us);

/* What is due: ends of leases and delays, redrive jobs. Bounded work; what is
 * left is due at once. */
void dispatch_tick(struct dispatch *dispatch, uint64_t now_us);
uint64_t dispatch_due_us(const struct dispatch *dispatch);

/* ---- members; `group` belongs to this worker ---- */

MUST_CHECK enum status dispatch_join(struct dispatch *dispatch,
                                     const struct group_fact *group,
                                     uint64_t lease, uint64_t credit_messages,
                                     uint64_t credit_bytes, void *user,
                                     struct member **out);
void dispatch_credit(struct dispatch *dispatch, const struct group_fact *group,
                     struct member *member, uint64_t messages, uint64_t bytes);
void dispatch_resume(struct dispatch *dispatch, const struct group_fact *group,
                     struct member *member);
void dispatch_leave(struct dispatch *dispatch, const struct group_fact *group,
                    struct member *member);
void dispatch_detach(struct dispatch *dispatch, const struct group_fact *group,
                     struct member *member);
void dispatch_retire(struct dispatch *dispatch, const struct group_fact *group,
                     struct member *member);
/* As group_settle_some(); `budget` NULL: all at once. */
MUST_CHECK enum status
dispatch_settle(struct dispatch *dispatch, const struct group_fact *group,
                const struct settlement *settlement, uint64_t now_us,
                size_t *budget, uint64_t *next, settled_fn fn, void *arg);

/* ---- operators; `group` belongs to this worker ---- */

/* Begin anew on a topic with message `seq`, or at the first one there is from
 * `seq` on: *begins. It is an effect like an ack: answer it when the records
 * written after this call are durable, with what dispatch_begins() makes of
 * *begins then. STATUS_INVALID: beyond the end + 1. */
MUST_CHECK enum status dispatch_seek(struct dispatch *dispatch,
                                     const struct group_fact *group,
                                     const struct topic *topic, uint64_t seq,
                                     uint64_t *begins);
/* Where who asked for `seq` begins, as the topic is now: from there on no
 * message is missing. A trim that came into the log before the seek moved it
 * there, and this worker has heard of that before the seek is durable. */
uint64_t dispatch_begins(const struct topic *topic, uint64_t seq);

/* What is known of one failure of a message. */
struct dispatch_failure {
    uint64_t time_us; /* wall clock */
    uint64_t holder;
    enum failure_cause cause;
    uint32_t attempt;
    bool dead; /* it was the end */
    char reason[REASON_LEN_MAX + 1];
};
struct dispatch_explanation {
    struct standing standing; /* since and until on the wall clock here */
    unsigned may_be; /* GATE_SETTLED: 1U << one of these gates, and it is not
                      * known which; 0: nothing is known */
    struct dispatch_failure history[HISTORY_MAX]; /* oldest first */
    size_t history_count;
};
/* What has no number yet is not_durable. STATUS_NOT_FOUND: seq 0; STATUS_IO,
 * STATUS_NOMEM: it does not read. */
MUST_CHECK enum status dispatch_explain(struct dispatch *dispatch,
                                        const struct group_fact *group,
                                        const struct topic *topic, uint64_t seq,
                                        uint64_t now_us,
                                        struct dispatch_explanation *out);

struct dispatch_dead {
    const struct topic *topic;
    uint64_t seq;
    struct dispatch_failure last; /* why it is dead; time_us 0: not known */
};
/* The dead of a group from (topic, seq) on, by topic name, then seq; topic
 * NULL: from the first. Only this one topic if `one_topic`. Where to go on in
 * *topic and *seq; topic NULL at the end. */
size_t dispatch_dead(struct dispatch *dispatch, const struct group_fact *group,
                     const struct topic **topic, uint64_t *seq, bool one_topic,
                     struct dispatch_dead *out, size_t room);

/* Which dead ones. */
struct redrive_order {
    const struct topic *topic; /* NULL: of all topics */
    struct seqset ranges;      /* taken over; empty: all; else with a topic */
    enum failure_cause cause;  /* of the last failure; 0: any */
    struct filter *filter;     /* taken over; NULL: any */
    uint64_t rate;             /* messages a second; 0: as fast as it goes */
    uint64_t cap;              /* so many at most; 0: any number */
    bool dry_run;              /* only count */
};
struct redrive_state {
    bool running;
    bool dry_run;
    bool stopped;     /* by an operator, the group's end, or lack of room */
    uint64_t matched; /* so far */
    uint64_t redriven;
    uint64_t undone;
};
/* One at a time for each group; it goes on in dispatch_tick() in bounded bits
 * and is forgotten at a restart (what it redrove stays redriven).
 * STATUS_BUSY: one is running, or being undone. */
MUST_CHECK enum status dispatch_redrive(struct dispatch *dispatch,
                                        const struct group_fact *group,
                                        const struct redrive_order *order,
                                        uint64_t now_us);
void dispatch_redrive_stop(struct dispatch *dispatch,
                           const struct group_fact *group);
/* What the last job redrove and nobody was given since is dead again. Bounded
 * memory: of a job that redrove more than REDRIVE_UNDO_MAX ranges the first
 * ones cannot be undone. In bits, as group_bury(): STATUS_AGAIN: call again,
 * `undone` counts this bit. STATUS_NOT_FOUND: there was none. STATUS_BUSY: it
 * runs. */
MUST_CHECK enum status dispatch_redrive_undo(struct dispatch *dispatch,
                                             const struct group_fact *group,
                                             size_t *budget, uint64_t *undone);
/* False: there was none since the start. */
bool dispatch_redrive_state(const struct group_fact *group,
                            struct redrive_state *out);
/* As group_discard(). */
MUST_CHECK enum status dispatch_discard(struct dispatch *dispatch,
                                        const struct group_fact *group,
                                        uint32_t topic, struct seq_range range,
                                        size_t *budget, uint64_t *next,
                                        uint64_t *count);

/* ---- any topic, on any worker ---- */

/* As store_view_message(), for peeking; the record is lent until the next
 * commit or rest. */
MUST_CHECK enum status dispatch_read(struct dispatch *dispatch,
                                     struct store_cursor *cursor,
                                     const struct topic *topic, uint64_t seq,
                                     struct record *out, uint64_t *next_seq);
/* The first message stored at or after this wall time; last + 1: none. */
uint64_t dispatch_seq_at(struct dispatch *dispatch, const struct topic *topic,
                         uint64_t time_us);

/* ---- to look at ---- */

/* What holds the group as a whole; times on the wall clock. */
bool dispatch_held_by(struct dispatch *dispatch, const struct group_fact *group,
                      uint64_t now_us, struct standing *out);

bool dispatch_books(const struct group_fact *group, const struct topic *topic,
                    struct lane_books *out);
bool dispatch_figures(const struct group_fact *group, struct group_figures *out,
                      size_t *members);
/* Put the figures of the in-flight table into the metrics. */
void dispatch_show(const struct dispatch *dispatch,
                   struct worker_metrics *metrics);
/* Compare the books of the next groups, of all in some calls, and put the sums
 * into the metrics when all were seen. *more: call again soon, this round is
 * not over. The number of lanes that do not balance. */
size_t dispatch_check_books(struct dispatch *dispatch, uint64_t now_us,
                            bool *more);

#endif
