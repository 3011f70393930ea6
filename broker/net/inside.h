/* What the files of broker/net share with each other and nobody else.
 *
 *   listener.c   accepts
 *   input.c      socket -> bytes -> one step of HTTP or WebSocket at a time
 *   http_conn.c  a step of HTTP: a request out of bytes, an answer into bytes
 *   ws.c         a step of WebSocket: a message out of bytes; control frames
 *   output.c     gathered bytes -> socket
 *   clock.c      what each connection waits for, and until when
 *   conn.c       a connection's life, and moving it to another net
 *   net.c        the worker's own: open, drain, close, and what is put off to
 *                the loop's next turn */
#ifndef GODWIT_BROKER_NET_INSIDE_H
#define GODWIT_BROKER_NET_INSIDE_H

#include "broker/list.h"
#include "broker/net/conn.h"
#include "broker/net/deadline.h"
#include "broker/net/tls.h"

#include <ev.h>

/*        close, a fault,               all sent             the peer's FIN,
 *        the peer's close              and agreed           or time is up
 *  OPEN ----------------> CLOSING ---------------> LINGERING ----------> CLOSED
 *    '------------------------'--- abort, error ------'-------------------^
 *
 * LINGERING: our side is shut; what the peer still sends is thrown away,
 * because closing with unread bytes would make the kernel reset the connection
 * and take our last words back. CLOSED: no socket any more; on_closed comes
 * next turn. */
enum conn_state { CONN_OPEN, CONN_CLOSING, CONN_LINGERING, CONN_CLOSED };

/* What the reading side waits for; each has its own deadline. */
enum conn_wait {
    WAIT_NOTHING, /* paused, or the door owes an answer */
    WAIT_HEAD,    /* the rest of a request head; TLS handshake included */
    WAIT_BODY,
    WAIT_REQUEST, /* the next one of a kept connection */
    WAIT_FRAME,   /* the rest of a frame, or of a fragmented message */
    WAIT_MESSAGE, /* anything at all; else a ping */
    WAIT_PONG,    /* anything at all; else the end */
    WAIT_CLOSE    /* the peer's half of the closing */
};

struct ws_parts; /* ws.c: what only some connections need */

struct conn {
    uint64_t id;
    struct net *net; /* NULL between conn_leave() and conn_enter() */
    void *context;
    int fd; /* -1: CLOSED */
    ev_io io;
    struct link all;   /* net->conns */
    struct link dirty; /* net->dirty: output to write */
    struct link work;  /* net->work: something to do next turn */

    enum conn_state state;
    const char *reason; /* of the end; static text */
    bool known;         /* conn_set_known() */
    bool websocket;
    bool loopback;
    bool secure;
    bool paused;
    bool due;        /* HTTP: a request is with the door */
    bool keep_alive; /* HTTP: after this answer */
    bool head_only;  /* HTTP: answer without body */
    bool http_1_0;
    bool served;      /* HTTP: had a request before this one */
    bool continued;   /* HTTP: 100 sent for the request that is coming in */
    bool discard;     /* what comes in is thrown away */
    bool await_close; /* WebSocket: our close frame is out, theirs is not in */
    bool peer_fin;    /* the peer's side is shut */
    bool congested;   /* above output_high, and not below output_low since */
    bool blocked;     /* the socket takes no more now */
    bool shut;        /* close_notify and FIN are out */

    /* input */
    struct bytes in; /* read and not handled yet */
    size_t need;    /* how many bytes the first thing in `in` has; 0: unknown */
    size_t counted; /* of it and `parts` in net->stats.input_bytes */
    size_t lingered; /* bytes thrown away */
    struct ws_parts *parts;

    /* output */
    struct bytes out;  /* gathered by conn_output() */
    struct bytes wire; /* TLS: encrypted, to be written first */
    size_t waiting;    /* of both after the last flush; in stats.output_bytes */
    struct tls *tls;

    /* time */
    struct deadline deadline; /* the earlier of the two, or before them */
    enum conn_wait wait;
    uint64_t wait_due_ms;  /* 0: none */
    uint64_t write_due_ms; /* 0: none */

    char peer[64];
};

struct listener {
    int fd;
    ev_io io;
    struct net *net;
};

struct net {
    struct net_config config;
    struct net_stats stats;
    struct link conns;
    struct link dirty;
    struct link work;
    _Atomic uint32_t own_conn_count; /* config.conn_count, unless it is given */
    uint64_t unknown_input;  /* in stats.input_bytes, of those not known */
    uint64_t unknown_output; /* the same of stats.output_bytes */
    ev_idle turn; /* active while there is work put off to the next turn */
    bool draining;

    struct listener listeners[NET_LISTENER_COUNT_MAX];
    size_t listener_count;
    ev_timer accept_pause;

    struct deadlines deadlines;
    ev_timer clock; /* at the earliest of them */
    uint64_t clock_due_ms;

    /* reading: the connection whose bytes are being handled. What it has left
     * is in net->rest, not in conn->in; a callback that hands the connection
     * over takes the rest along and sets `visited` to NULL. */
    uint8_t *receive;
    struct conn *visited;
    struct slice rest;
    const struct http_request *request; /* while on_upgrade runs */

    struct bytes sink; /* output for connections that are closing */
    struct bytes spare[NET_SPARE_COUNT];
    size_t spare_count;
};

/* net.c */
void net_put_off(struct net *net, struct conn *conn); /* to the next turn */
void net_wake(struct net *net);
void net_drain_one(struct conn *conn);
/* A connection's buffer, out of the spare ones and back. */
void net_lend_buffer(struct net *net, struct bytes *b);
void net_return_buffer(struct net *net, struct bytes *b);

/* conn.c */
/* Takes fd, and its place in the count, which is taken already. NULL: no
 * memory, and both are given back. */
struct conn *conn_new(struct net *net, int fd);
void conn_free(struct conn *conn);  /* CLOSED, or its net is being closed */
void conn_watch(struct conn *conn); /* for what it can use now */
bool conn_may_read(const struct conn *conn);
void conn_die(struct conn *conn, const char *reason); /* to CLOSED */
/* Out of OPEN: no more input for the door, output goes first. */
void conn_begin_close(struct conn *conn, const char *reason);

/* input.c */
void conn_read(struct conn *conn);
/* Handle what has been read before. */
void conn_feed(struct conn *conn);
/* Keep net->stats.input_bytes right when the input changed. */
void conn_count_input(struct conn *conn);
/* The first `len` bytes of net->rest are handled by the caller. */
struct slice net_take(struct net *net, size_t len);

/* http_conn.c, ws.c: handle one thing at the beginning of net->rest. False: it
 * is not all there, conn->need may say how long it is. */
bool http_step(struct conn *conn);
bool ws_step(struct conn *conn);
void http_refuse(struct conn *conn, int code, const char *text,
                 const char *reason);
void ws_send_close(struct conn *conn, unsigned code, const char *text);
/* Send a close frame, and hear nothing more. */
void ws_refuse(struct conn *conn, unsigned code, const char *text,
               const char *reason);
void ws_ping(struct conn *conn);
/* The pong that was held back, once there is room. */
void ws_late_pong(struct conn *conn);
/* Bytes that a half message holds outside of conn->in. */
size_t ws_held_len(const struct conn *conn);
bool ws_in_fragments(const struct conn *conn, uint64_t *due_ms);
void ws_parts_free(struct conn *conn);

/* output.c */
/* Write what it can. False: on_drained handed it over, it is not ours. */
bool conn_flush(struct conn *conn);
bool conn_append(struct conn *conn, const void *from, size_t len);
/* Keep net->stats.output_bytes right. */
void conn_count_output(struct conn *conn);
/* Nothing of it is handled while what it was told waits to be sent. Not so a
 * known WebSocket: its door looks after its own output. */
bool conn_is_held(const struct conn *conn);
/* Cut off who has most while all of them together are over their bound. */
void net_bound_output(struct net *net);

/* clock.c */
uint64_t net_clock_ms(void);
/* Set what it waits for from its state. `progress`: something was handled whole
 * since the last call. */
void conn_expect(struct conn *conn, bool progress);
void conn_expect_write(struct conn *conn, bool progress);
void conn_schedule(struct conn *conn);
void clock_start(struct net *net);
void clock_stop(struct net *net);

/* listener.c */
void listeners_start(struct net *net);
void listeners_stop(struct net *net);

#endif
