/* What the files of a session share among themselves: session.c (its life, who
 * it is, groups), publish.c, settle.c, pull.c, look.c, operate.c,
 * explain.c, change.c, pending.c; and what the worker, which drives them,
 * calls. Nobody else includes this. */
#ifndef GODWIT_BROKER_SESSION_INSIDE_H
#define GODWIT_BROKER_SESSION_INSIDE_H

#include "broker/session/look.h"
#include "broker/session/operate.h"
#include "broker/session/session.h"
#include "broker/worker.h"

/* A publish that found no room in the submission ring: a copy. */
struct held;

enum move_kind { MOVE_NONE, MOVE_ATTACH, MOVE_ARRIVE };

struct session {
    struct worker *worker;
    struct conn *conn; /* NULL: the connection has gone */
    const struct door *door;
    void *door_state;
    uint32_t app;      /* id, 0: nobody yet */
    uint64_t producer; /* the client's, 0: none */
    /* answers that wait for the sync or another thread; while there are any the
     * session stays, even without its connection, and on this worker */
    uint32_t pending;
    uint32_t outcomes;        /* in settlements that wait */
    bool choked;              /* not read: too many of either */
    struct settle_rest *rest; /* not read either before it is settled */
    size_t settle_looks;      /* left to it of this turn: */
    uint64_t settle_turn;
    /* membership */
    uint32_t group; /* id, 0: none */
    struct member *member;
    uint64_t lease;
    /* a pull */
    bool pulling;
    bool pull_waits; /* a long poll */
    bool pull_got;   /* something; on the worker's list */
    uint64_t pull_id;
    struct look *look; /* a search, or NULL */
    ev_timer timer;    /* a pull's or search's wait, or a stream's hello */
    /* publishes held back */
    struct held *held;
    struct session *next_stalled;
    /* on its way to another worker */
    enum move_kind move;
    size_t move_to;
    uint64_t move_id;
    char move_group[NAME_LEN_MAX];
    size_t move_group_len;
    uint64_t move_credit_messages;
    uint64_t move_credit_bytes;
    /* lists */
    struct session *next_pulled;
    struct session *next;
    struct session *previous;
};

/* ---- session.c ---- */
struct group_fact *session_group(const struct session *session); /* or NULL */
/* The group, if this session may use it and it has its run on this very worker;
 * otherwise NULL and why not. */
struct group_fact *session_group_here(const struct session *session,
                                      struct slice name,
                                      struct refusal *refusal);
/* Says so in `refusal`; STATUS_NOT_FOUND. */
enum status session_no_such_topic(struct slice name, struct refusal *refusal);
void session_unlink(struct session *session);  /* from its worker's list */
void session_closed(struct session *session);  /* its connection has gone */
void session_drained(struct session *session); /* its output has room again */
/* The end of a worker: all that is left, with nothing answered. */
void sessions_free(struct worker *worker);
void session_pending_add(struct session *session);
/* Stop reading it if too much of its own waits. */
void session_choke(struct session *session);
/* What it waited for is over: read it if there is nothing else. */
void session_read_on(struct session *session);
void session_pending_done(struct session *session); /* may free the session */
/* struct dispatch_out */
void session_deliver(void *member, const char *topic,
                     const struct wire_delivery *deliveries, size_t count);
void session_gap(void *member, const char *topic, struct seq_range range);
void session_notice(void *member, const char *topic, struct seq_range range,
                    uint64_t ends_in_ms);
bool session_congested(void *member);
void session_evicted(void *member, enum status why);
bool session_is_of_app(const void *member, uint32_t app);
/* ---- pull.c ---- */
void pull_end(struct session *session, bool got);
/* End of a turn: answer the pulls that got something. */
void session_finish_pulls(struct worker *worker);
/* Answer the pulls that wait, empty: the broker is being stopped. */
void session_end_pulls(struct worker *worker);

/* ---- settle.c ---- */
/* All records of the settlements so far are written, the last of them from
 * position `begin` on: let them wait. */
void session_place_settles(struct worker *worker, uint64_t begin);
void session_settle_reply_done(struct worker *worker,
                               struct settle_reply *reply);
/* A turn begins: go on with the requests that were too large for the last one.
 */
void session_go_on_settling(struct worker *worker);
/* What is left of its request is not settled any more. */
void session_forget_rest(struct session *session);
void session_free_rests(struct worker *worker); /* all are forgotten */

/* ---- publish.c ---- */
/* There may be room again. */
void publish_retry(struct worker *worker);
void publish_answer(struct worker *worker, const struct pending *pending);
void publish_forget_held(struct session *session);

/* ---- change.c ---- */
/* Worker 0: go on with the waiting changes. */
void change_next(struct worker *worker);
/* Its fact is durable and applied. */
void change_durable(struct worker *worker, struct change *change);
void change_refuse(struct worker *worker, struct change *change,
                   const struct refusal *refusal);

#endif
