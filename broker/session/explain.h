/* What operators look at in a group: where a message stands, what is dead, what
 * holds the group. Answered at once; on the group's worker, that is after
 * session_go_to_group() has arrived. */
#ifndef GODWIT_BROKER_SESSION_EXPLAIN_H
#define GODWIT_BROKER_SESSION_EXPLAIN_H

#include "broker/dispatch/dispatch.h"
#include "broker/session/session.h"

/* STATUS_NOT_FOUND: no such group here, no such topic, or never such a message:
 * *refusal says which. */
MUST_CHECK enum status session_explain(struct session *session,
                                       struct slice group, struct slice topic,
                                       uint64_t seq,
                                       struct dispatch_explanation *out,
                                       struct refusal *refusal);

/* Some of the dead of a group, by topic name, then seq. */
struct dead_page {
    struct slice group;
    struct slice topic;         /* to begin with; empty: the first one */
    uint64_t seq;               /* to begin with */
    bool one_topic;             /* this one alone */
    struct dispatch_dead *dead; /* the caller's, ... */
    size_t room;                /* ... for so many */
    /* what was found */
    size_t count;
    const struct topic *next; /* where to go on; NULL: that was all */
    uint64_t next_seq;
};
/* STATUS_NOT_FOUND: no such group here, or no such topic. */
MUST_CHECK enum status session_dead(struct session *session,
                                    struct dead_page *page,
                                    struct refusal *refusal);

/* False: no redrive since the start. */
bool session_redrive_state(struct session *session, struct slice group,
                           struct redrive_state *out);
/* What holds the group as a whole; times on the wall clock. False: no such
 * group here. */
bool session_held_by(struct session *session, struct slice group,
                     struct standing *out);

#endif
