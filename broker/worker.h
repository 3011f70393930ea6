/* One event loop thread: its connections and sessions, its groups, its end of
 * the rings. A turn of the loop goes:
 *
 *   1. what the journal made durable: commits to the dispatch, then confirms,
 *      outcomes and catalog answers to those who wait for them
 *   2. letters from other threads
 *   3. sockets and timers (libev's callbacks)
 *   4. deliveries, their records, the submission ring shown to the journal, and
 *      all output written
 *
 * Steps 1 and 2 stand in on_turn_begins(), step 4 in on_turn_ends(). */
#ifndef GODWIT_BROKER_WORKER_H
#define GODWIT_BROKER_WORKER_H

#include "broker/config.h"
#include "broker/dispatch/dispatch.h"
#include "broker/delivery/mailbox.h"
#include "broker/delivery/ring.h"
#include "broker/session/look.h"
#include "broker/session/pending.h"
#include "broker/journal.h"
#include "broker/metrics.h"
#include "broker/net/conn.h"
#include "broker/router/authenticate.h"
#include "proto/codec.h"

#include <ev.h>
#include <pthread.h>

struct session;
struct change;

/* What all workers share; read-only once they run, but for what is said. */
struct workers {
    size_t count;
    struct worker **at;
    struct store *store;
    struct ring *commits;
    struct nonces *nonces; /* behind its own lock */
    struct journal *journal;
    const struct config *config;
    struct tls_context *tls; /* NULL: plain */
    struct broker_metrics *metrics;
    _Atomic uint32_t conn_count; /* open, in all workers' nets */
    _Atomic bool draining;       /* main sets it: nothing new is taken */
    _Atomic size_t drained;      /* workers that have nothing left to answer */
};

/* How much of its time a worker works, looked at every LOAD_WINDOW_US or later.
 * Monotonic microseconds. */
struct worker_load {
    uint64_t turn_us;   /* when this turn began */
    uint64_t window_us; /* when these began to be added up */
    uint64_t worked_us;
    bool high; /* more than half of the window before */
};

struct worker {
    /* other threads touch only these */
    struct mailbox *inbox;
    ev_async awake;
    /* before the threads run */
    struct workers *all;
    size_t index;
    struct submission *submission;
    struct worker_metrics *metrics;
    pthread_t thread;
    bool started;
    /* this worker's thread only */
    struct ev_loop *loop;
    ev_check turn_begins;
    ev_prepare turn_ends;
    ev_idle more;        /* keeps the loop from sleeping while there is more */
    ev_timer due;        /* leases and backoffs */
    ev_timer books;      /* checks the books while there is traffic */
    uint64_t books_mark; /* what had moved at the last check */
    struct net *net;
    struct dispatch *dispatch;
    struct codec *codec;
    struct pending_queue pending;
    /* of the submission ring, as read before the commits were: whatever is
     * durable up to here is in this worker's replica */
    uint64_t durable;
    struct settle_reply *unplaced; /* their records are not written yet */
    struct settle_reply **unplaced_end;
    struct settle_reply *settle_pool;   /* free ones */
    struct operation_reply *operations; /* not written either */
    struct operation_reply *operating;  /* not done yet, in order */
    struct operation_reply **operating_end;
    struct seqset settling;        /* scratch of one settle request */
    struct settle_rests rests;     /* of requests for more than a turn */
    size_t settle_looks;           /* left of this turn's */
    uint64_t turn;                 /* number of this one */
    struct session *stalled_first; /* publishes that found no room */
    struct session *stalled_last;
    size_t held_bytes;
    struct session *pulled;       /* pulls that got something this turn */
    struct session *sessions;     /* all of this worker */
    struct looks looks;           /* searches, and tails that wait */
    struct change *changes_first; /* worker 0: waiting catalog changes */
    struct change *changes_last;
    struct change *change_active;
    size_t change_count;
    uint64_t lease_count;
    uint64_t login_lines_second; /* refused logins told in this one ... */
    unsigned login_lines;        /* ... so far */
    uint64_t now_us;             /* monotonic, of this turn */
    struct worker_load load;
    bool stopping;
    bool drain_begun;
};

/* In main's thread: `port` gets the bound port. */
MUST_CHECK enum status worker_new(struct worker **out, struct workers *all,
                                  size_t index, struct submission *submission,
                                  struct error *err);
MUST_CHECK enum status worker_listen(struct worker *worker, const char *host,
                                     uint16_t port, uint16_t *port_out,
                                     struct error *err);
MUST_CHECK enum status worker_start(struct worker *worker, struct error *err);
/* Any thread. */
void worker_wake(struct worker *worker);
/* End the loop and join; drain first (workers.draining, then worker_wake). */
void worker_stop(struct worker *worker);
/* After all threads have ended, before the first worker_free(): letters that
 * were still on their way. They may write new ones: call until all say false.
 */
bool worker_take_letters_left(struct worker *worker);
void worker_free(struct worker *worker); /* accepts NULL */

/* ---- for the sessions, on its thread ---- */

/* Take note of the commits that wait on the ring now. */
void worker_drain_commits(struct worker *worker);
/* A lease number nobody had. */
uint64_t worker_lease(struct worker *worker);
bool worker_draining(const struct worker *worker);

#endif
