/* A session: what one connection is to the broker, whichever way it speaks. The
 * doors (stream_proto, stream_json, http_api) turn frames and requests into
 * calls of this file and its answers back into frames and responses.
 *
 *   door  --hello, publish, attach, settle, pull, change-->  session
 *   door  <--struct door: welcome, confirm, deliver, ...---  session, dispatch
 *
 * Everything runs on the session's worker. Each call that has an id is answered
 * exactly once for that id (a publish: once for each of its ids, in ranges),
 * at once or later, unless the connection has gone. */
#ifndef GODWIT_BROKER_SESSION_SESSION_H
#define GODWIT_BROKER_SESSION_SESSION_H

#include "broker/delivery/group.h"
#include "broker/net/conn.h"
#include "broker/router/authenticate.h"
#include "broker/router/catalog.h"
#include "proto/codec.h"

struct session;
struct worker;
struct search_result;
struct operation_done;

struct change_done {
    uint64_t id;
    const struct catalog_request *request;
    const char *secret; /* of a new app; or "" */
};

/* The way back. All slices live until the call returns. What a door never asks
 * for it need not have. */
struct door {
    const char *name; /* for logs: "proto", "json", "http" */
    void (*welcome)(struct session *session, uint64_t id,
                    const struct wire_welcome *welcome);
    void (*confirm)(struct session *session,
                    const struct wire_confirm *confirm);
    void (*refused)(struct session *session, uint64_t id, uint64_t count,
                    const struct refusal *refusal);
    void (*attached)(struct session *session, uint64_t id,
                     const struct wire_attached *attached);
    void (*detached)(struct session *session, uint64_t id, const char *reason);
    void (*deliver)(struct session *session, const char *topic,
                    const struct wire_delivery *deliveries, size_t count);
    void (*gap)(struct session *session, const char *topic,
                struct seq_range range);
    /* Leases of an attached member end soon; a pull is told nothing. */
    void (*notice)(struct session *session, const struct wire_notice *notice);
    void (*settled)(struct session *session, uint64_t id, struct slice topic,
                    const struct wire_settled_range *ranges, size_t count);
    void (*pong)(struct session *session, uint64_t id);
    /* A pull is over: what deliver() and gap() were called with since is it.
     * lease 0: nothing came in time. */
    void (*pulled)(struct session *session, uint64_t id, uint64_t lease,
                   uint64_t lease_ms);
    void (*changed)(struct session *session, const struct change_done *done);
    /* A peek or a search is over: what deliver() and gap() were called with
     * since is it. See look.h. */
    void (*looked)(struct session *session, uint64_t id,
                   const struct search_result *result);
    void (*operated)(struct session *session,
                     const struct operation_done *done);
    /* The session now runs on the worker that owns the group it asked for with
     * session_go_to_group(). */
    void (*arrived)(struct session *session, uint64_t id);
    /* The connection has gone: free the door's own things. NULL: there are
     * none. */
    void (*closed)(struct session *session);
};

/* Called by the worker when a connection comes or upgrades; the session is the
 * connection's context and is freed after it has closed. */
struct session *session_new(struct worker *worker, struct conn *conn,
                            const struct door *door); /* NULL: no memory */
void session_set_door(struct session *session, const struct door *door);

struct conn *session_conn(const struct session *session);
/* The worker's codec; what it decoded lives until its next decode. */
struct codec *session_codec(const struct session *session);
void *session_door_state(const struct session *session);
void session_set_door_state(struct session *session, void *state);
/* NULL before a good hello, and after its app was deleted. */
const struct app *session_app(const struct session *session);
const struct catalog *session_catalog(const struct session *session);

/* Each HTTP request and each upgrade stands for itself: nobody is logged in by
 * what came before it on the connection. */
void session_forget_login(struct session *session);

/* Whatever a stream asked for: one of the calls below, or pong. */
void session_request(struct session *session,
                     const struct wire_request *request);

/* Who is it? Answered by welcome (with id) or refused. */
void session_hello(struct session *session, uint64_t id,
                   const struct wire_hello *hello);
/* A stream that has not said hello by then is closed. */
void session_hello_within(struct session *session, uint64_t ms);
/* The same from an Authorization header, with nothing answered. */
MUST_CHECK enum status session_authorize(struct session *session,
                                         struct slice authorization,
                                         struct refusal *refusal);

/* Messages are checked here. Answered by confirm and refused, by ids
 * id..id+count-1. With no room in the submission ring the session keeps a copy
 * and stops reading its connection. */
void session_publish(struct session *session, uint64_t id,
                     const struct wire_publish *publish);
/* A producer for a single HTTP publish; the streams say it in hello. */
void session_set_producer(struct session *session, uint64_t producer);

void session_attach(struct session *session, uint64_t id,
                    const struct wire_attach *attach);
void session_detach(struct session *session, uint64_t id);

/* On a stream: the attached group. Over HTTP: the group named by the path, see
 * session_settle_in(). Answered by settled or refused. */
void session_settle(struct session *session, uint64_t id,
                    const struct wire_settle *settle);

/* Ask for the group's worker: `arrived` is called there, at once when it is
 * this one, or refused. HTTP's pull, settle and group show begin with it. */
void session_go_to_group(struct session *session, uint64_t id,
                         struct slice group);
/* After arrived, on the group's worker: */
void session_settle_in(struct session *session, uint64_t id, struct slice group,
                       const struct wire_settle *settle);
void session_pull(struct session *session, uint64_t id, struct slice group,
                  uint64_t count_max, uint64_t wait_ms);

/* Ask for a change of the catalog; takes the request's patterns. Answered by
 * changed or refused. */
void session_change(struct session *session, uint64_t id,
                    struct catalog_request *request);

/* ---- what the HTTP door shows ---- */

typedef void (*lane_view_fn)(void *arg, const char *topic,
                             const struct lane_books *books);
/* On the group's worker: its figures, its members, and each lane's books.
 * False: no such group here. */
bool session_group_view(struct session *session, struct slice group,
                        struct group_figures *figures, size_t *members,
                        lane_view_fn lane, void *arg);
/* The topic's last durable seq, as this worker knows it. */
uint64_t session_topic_last_seq(const struct topic *topic);
uint64_t session_topic_first_seq(const struct topic *topic);
/* Groups made now begin here at the earliest. */
uint64_t session_topic_floor_seq(const struct topic *topic);

#endif
