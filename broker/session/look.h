/* Looking at the messages of a topic: one of them, those that match, the
 * newest, and those that come. Takes nothing from anybody: no group knows of
 * it. On the session's own worker, whichever that is.
 *
 * What is found comes by door->deliver() (with attempt 0) and door->gap(), then
 * door->looked(); or the look is refused: limits "topic", "grant", "seq",
 * "searches", "tails", "draining". The app needs a subscribe grant that covers
 * the topic. */
#ifndef GODWIT_BROKER_SESSION_LOOK_H
#define GODWIT_BROKER_SESSION_LOOK_H

#include "broker/search.h"
#include "broker/session/session.h"

/* Message `seq` alone. */
void session_peek(struct session *session, uint64_t id, struct slice topic,
                  uint64_t seq);

/* As the order says; its texts are copied and its filter is taken in any case.
 * With nothing found up to the end of the topic it waits up to `wait_ms` for
 * what comes. */
void session_search(struct session *session, uint64_t id, struct slice topic,
                    const struct search_order *order, uint64_t wait_ms);

/* ---- for the worker and session.c ---- */

struct look;

/* The looks of one worker. */
struct looks {
    struct look *first; /* these look, in turn */
    struct look *last;
    struct look *waiting; /* these wait for messages */
    size_t searches;      /* of all, those that would not wait */
    size_t tails;         /* and those that would */
};

/* A turn of the loop: see who need not wait any more, and look for a while.
 * True: there is more to look at. */
bool looks_run(struct worker *worker);
/* The broker is being stopped: answer them all. */
void looks_end(struct worker *worker);
/* Its time to wait is over. */
void look_timeout(struct session *session);
/* Its connection has gone: nothing is answered. */
void look_forget(struct session *session);

#endif
