/* One WebSocket connection to the broker: connect, upgrade, frames in and out.
 * Knows nothing of what the frames say. Non-blocking; one thread. After a
 * failure it is closed with link_close() and may be started again. */
#ifndef GODWIT_CLIENT_LINK_H
#define GODWIT_CLIENT_LINK_H

#include "client/transport.h"
#include "proto/limits.h"
#include "proto/ws_frame.h"

enum {
    LINK_IN_LEN = 256 * 1024,   /* receive buffer; longer for long frames */
    LINK_OUT_LEN = 256 * 1024,  /* no more frames are begun above this */
    LINK_REFILL_LEN = 64 * 1024 /* left unsent when filling begins again */
};

/*   CLOSED --start--> CONNECTING --> UPGRADING --> OPEN
 *      ^------------------+-------------+-----------'   close */
enum link_state { LINK_CLOSED, LINK_CONNECTING, LINK_UPGRADING, LINK_OPEN };

struct link {
    enum link_state state;
    bool text; /* godwit.v1.json; set after link_init(), false by it */
    struct transport transport;
    uint64_t random;     /* of the masks; seeded by the system */
    struct bytes in;     /* received, not consumed */
    struct bytes out;    /* whole frames to be sent */
    size_t taken;        /* of `in`: the frame that is lent */
    struct bytes pieces; /* of a fragmented message */
    bool fragmented;     /* one has begun */
    bool pieces_lent;
    char accept[ACCEPT_LEN + 1];
    bool pong_due;
    size_t pong_len;
    uint8_t pong[CONTROL_LEN_MAX];
};

MUST_CHECK enum status link_init(struct link *link, const struct url *url,
                                 struct tls_context *trust);
void link_fini(struct link *link);

MUST_CHECK enum status link_start(struct link *link, struct error *err);
void link_close(struct link *link);

/* Go on towards LINK_OPEN. STATUS_AGAIN: not yet. STATUS_UNAUTHENTICATED,
 * FORBIDDEN, UNSUPPORTED: the broker's word; others: try again later. */
MUST_CHECK enum status link_advance(struct link *link, struct error *err);

/* Receive once. STATUS_AGAIN: nothing there. STATUS_CLOSED, STATUS_IO. */
MUST_CHECK enum status link_receive(struct link *link, struct error *err);

/* The next whole message of what was received, good until the next call
 * of this function or link_receive(). STATUS_AGAIN: none. STATUS_CLOSED: the
 * broker said goodbye. STATUS_INVALID, STATUS_TOO_LARGE: it broke the rules. */
MUST_CHECK enum status link_next(struct link *link, struct slice *payload,
                                 struct error *err);

/* Write one frame: begin, append the payload to link->out, end. On
 * failure of any step abort. */
MUST_CHECK enum status link_frame_begin(struct link *link, size_t *mark);
MUST_CHECK enum status link_frame_end(struct link *link, size_t mark);
void link_frame_abort(struct link *link, size_t mark);

/* Say goodbye, as far as that goes without waiting. */
void link_goodbye(struct link *link);

/* Send what waits. STATUS_OK: all of it or what the socket takes now. */
MUST_CHECK enum status link_flush(struct link *link, struct error *err);

/* What to poll for; fd -1 when closed. */
struct link_interest {
    int fd;
    bool read;
    bool write;
};
struct link_interest link_interest(const struct link *link);

#endif
