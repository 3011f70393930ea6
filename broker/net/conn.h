/* A connection of one worker: TCP or TLS, HTTP/1.1 requests, and after an
 * upgrade WebSocket messages. This layer knows bytes, requests and frames; what
 * they mean is the door's, which gets them by the callbacks below. Everything
 * runs on the worker's thread.
 *
 * Reading goes through one big buffer of the worker: a connection that has no
 * half request or frame waiting owns no input buffer, and one that has nothing
 * to send owns no output buffer. Output is gathered and written once per loop
 * turn by net_flush(). */
#ifndef GODWIT_BROKER_NET_CONN_H
#define GODWIT_BROKER_NET_CONN_H

#include "broker/net/http.h"
#include "proto/bytes.h"
#include "proto/error.h"
#include "proto/ws_frame.h"

#include <stdatomic.h>

struct conn;
struct ev_loop;
struct net; /* one a worker: loop, receive buffer, listener, connections */

/* What the door does. Any of them may call conn_close(); the connection stays
 * valid until on_closed has returned, which comes from the loop, never from
 * within another call. */
struct conn_handler {
    /* A whole request, body included. The slices live until the call returns.
     * Answer with conn_respond(), now or later; no further request of this
     * connection is read before that (pipelined ones wait). */
    void (*on_request)(struct conn *conn, const struct http_request *request);
    /* GET with a valid WebSocket upgrade. Answer at once: conn_upgrade() with
     * one of the offered subprotocols, or conn_respond() with an error. */
    void (*on_upgrade)(struct conn *conn, const struct http_request *request);
    /* One whole message, unmasked, `text` says which kind (text is valid UTF-8).
     * The payload may be written to and lives until the call returns. */
    void (*on_message)(struct conn *conn, bool text, uint8_t *payload,
                       size_t len);
    /* What waits to be sent fell below the low mark after it had been above the
     * high one (conn_congested() was true). */
    void (*on_drained)(struct conn *conn);
    /* Called once, last. */
    void (*on_closed)(struct conn *conn, const char *reason);
    /* A new connection was accepted, before anything is read. False: close,
     * without on_closed. */
    bool (*on_accepted)(struct conn *conn);
};

struct net_config {
    struct ev_loop *loop;
    const struct conn_handler *handler;
    void *owner;             /* the worker, for the handler: net_owner() */
    struct tls_context *tls; /* NULL: plain TCP. Shared by all workers */
    /* Together with all nets that count in the same place; the process's
     * descriptors less what is reserved (NET_DESCRIPTOR_PART) when fewer. */
    uint32_t conn_count_max;
    _Atomic uint32_t *conn_count; /* outlives the nets; NULL: this net's alone */
    size_t output_high;           /* bytes waiting: congested from here ... */
    size_t output_low;            /* ... until it is below this */
    /* Past it, and more was written while it was congested: the peer is cut
     * off, "slow_reader". One answer may be longer. */
    size_t output_max;
    size_t output_total_max; /* of all connections; past it the one with most is
                              * cut off; 0: NET_OUTPUT_LEN_MAX */
    uint64_t head_ms;     /* absolute deadline for a request head, TLS incl. */
    uint64_t body_ms;     /* absolute deadline for a request body or frame */
    size_t hello_len_max; /* of a WebSocket message before conn_set_known();
                           * 0: connections are known from the start */
    uint64_t idle_ms;     /* HTTP keep-alive, and a WebSocket without pong */
    uint64_t ping_ms;     /* WebSocket: ping after this silence */
    size_t input_max;     /* what has come of half requests and messages of all
                           * connections; past it one is refused;
                           * 0: NET_INPUT_LEN_MAX */
    uint64_t stall_ms;    /* the peer takes no output; 0: WRITE_STALL_MS */
    uint64_t close_ms;    /* the peer's half of a close; 0: CLOSE_WAIT_MS */
};

struct net_stats {
    uint64_t accepted, refused, closed, open;
    uint64_t received_bytes, sent_bytes;
    uint64_t requests, frames, bad_requests, bad_frames;
    uint64_t input_bytes; /* of half requests and frames, as input_max counts */
    uint64_t output_bytes;     /* waiting, as output_total_max counts */
    uint64_t pings_unanswered; /* a later one was, or will be */
};

MUST_CHECK enum status
net_open(struct net **out, const struct net_config *config, struct error *err);
/* Closes what is still open, without on_closed. */
void net_close(struct net *net);

/* Listen on host:port with SO_REUSEPORT. *port_out (may be NULL) is the port
 * that was bound, for port 0. `host` is an IPv4 or IPv6 literal or "localhost",
 * which means both loopback addresses. With err->text for the operator. */
MUST_CHECK enum status net_listen(struct net *net, const char *host,
                                  uint16_t port, uint16_t *port_out,
                                  struct error *err);
/* Before the first net_listen(): with SO_REUSEPORT the kernel would share the
 * port with another broker of the same user without a word. STATUS_BUSY: in use
 * by somebody. */
MUST_CHECK enum status net_probe(const char *host, uint16_t port,
                                 struct error *err);
void net_stop_listening(struct net *net);

/* Begin to close every connection: WebSocket close 1001, HTTP after the answer
 * that is due. net_stats().open says when all are gone. */
void net_drain(struct net *net);

/* Once per loop turn, after all work: write what was gathered. */
void net_flush(struct net *net);

void *net_owner(const struct net *net);
void net_stats(const struct net *net, struct net_stats *out);

/* ---- one connection ---- */

uint64_t conn_id(const struct conn *conn); /* unique in the process, never 0 */
const char *conn_peer(const struct conn *conn); /* "127.0.0.1:5021" */
bool conn_secure(const struct conn *conn);      /* TLS */
bool conn_loopback(const struct conn *conn);    /* from this very machine */
struct net *conn_net(const struct conn *conn);
/* The peer has shut its sending side. It may still wait for an answer, but most
 * that do this while a request is being answered are gone. */
bool conn_peer_finished(const struct conn *conn);

/* The door's own, NULL at first. */
void *conn_context(const struct conn *conn);
void conn_set_context(struct conn *conn, void *context);

/* The door knows who this is, after a good login. Until then (unless the config
 * says otherwise) a WebSocket message is at most hello_len_max long; nothing
 * more is read while NET_UNKNOWN_OUTPUT_HIGH bytes wait to be sent; and all
 * that are not known share a small part of input_max and output_total_max.
 * Moves with the connection. */
void conn_set_known(struct conn *conn, bool known);

/* Answer the request. `extra` is NULL or whole header lines, each ended by
 * CRLF. The body is copied; for HEAD only its length is told. Nothing happens
 * when the connection is closing. */
void conn_respond(struct conn *conn, int code, const char *content_type,
                  const char *extra, struct slice body);
/* Answer an upgrade with 101 and this subprotocol (static text). */
void conn_upgrade(struct conn *conn, const char *subprotocol);

/* The output buffer, to append to directly; a whole frame or nothing must be in
 * it when the caller returns. For WebSocket: ws_frame_begin/end on it. Marks
 * the connection for the next net_flush(). */
struct bytes *conn_output(struct conn *conn);
size_t conn_backlog(const struct conn *conn); /* bytes not yet written */
bool conn_congested(const struct conn *conn);

/* Send a whole WebSocket message. */
void conn_send(struct conn *conn, enum ws_opcode opcode, struct slice payload);

/* Stop and go on reading: back-pressure. What has been read already and was not
 * handled yet stays in the connection's input buffer; conn_resume() handles it
 * from the loop, not from within the call. Nested pauses do not count up. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);

/* WebSocket: send a close frame with this code and text, then close. HTTP: just
 * close after what waits is sent. `reason` (static text) goes to on_closed. */
void conn_close(struct conn *conn, unsigned ws_code, const char *reason);
/* At once, unsent output dropped. */
void conn_abort(struct conn *conn, const char *reason);

/* Hand a connection to another worker: conn_leave() stops its watchers and
 * takes it out of its net (no callbacks any more), conn_enter() on the other
 * thread puts it into that net and goes on, input that had been read included.
 * Legal from within its own callbacks, on_closed apart; a paused connection
 * stays paused. An HTTP request that is not answered yet stays due. In between
 * only conn_id(), conn_peer() and the context may be used: whoever holds such a
 * connection and wants its end enters it first. Both nets have the same handler
 * and both TLS or both not. */
void conn_leave(struct conn *conn);
void conn_enter(struct conn *conn, struct net *net);

#endif
