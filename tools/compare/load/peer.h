/* A connection to another broker, and the few things that a driver makes each
 * kind of broker do. Everything here is one thread's. The drivers speak the
 * wire protocols themselves: many messages a write, no copy that is not needed,
 * so that the peer is what is measured and not a client. */
#ifndef GODWIT_COMPARE_PEER_H
#define GODWIT_COMPARE_PEER_H

#include "proto/bytes.h"

enum {
    PEER_TEXT_LEN = 256,
    PEER_NAME_MAX = 32,
    PEER_RING = 65536, /* unconfirmed messages of a connection at most */
    PEER_FLUSH_LEN = 64 * 1024,
    PEER_SIZED_MORE = 24,
    PEER_MESSAGE_MAX = 1024 * 1024,
    PEER_BACKLOG_LEN = 512 * 1024 /* unsent bytes at most */
};

struct load;
struct peer;

/* What the messages go through: a stream or queue and its groups. */
struct place {
    const char *name;
    size_t group_count;
    bool durable; /* keeps for subscribers that are not there */
};

struct driver {
    const char *name;
    uint64_t window_max;
    bool acks_are_answered; /* by load_acked() */
    void (*open)(struct peer *p);
    void (*make)(struct peer *p, const struct place *place);
    void (*unmake)(struct peer *p, const struct place *place);
    void (*producer)(struct peer *p, const struct place *place);
    /* Appends the message; its confirm has this id. */
    void (*publish)(struct peer *p, uint64_t id, struct slice body);
    /* Group `index`; each delivery is acked by itself. */
    void (*subscribe)(struct peer *p, const struct place *place, size_t index);
    /* Take what is whole from p->in. */
    void (*parse)(struct peer *p);
};

extern const struct driver driver_redis;
extern const struct driver driver_nats;
extern const struct driver driver_mqtt;
extern const struct driver driver_amqp;

/* After the first failure all that is done with it does nothing. */
struct peer {
    const struct driver *driver;
    struct load *load;
    uint16_t port;
    int fd; /* -1: none */
    struct bytes in;
    struct bytes out;
    uint64_t answers; /* to requests of set-up, so far */
    void *own;        /* the driver's, freed with the peer */
    bool failed;
    char text[PEER_TEXT_LEN]; /* why */
    /* the load's */
    uint32_t events;   /* of epoll */
    uint64_t next;     /* id of the next message */
    uint64_t lowest;   /* all below are confirmed */
    uint64_t window;   /* unconfirmed at most */
    uint64_t open;     /* unconfirmed */
    uint64_t expected; /* the next delivery's number */
    bool waiting[PEER_RING];
};

/* NULL: out of memory. Connected to 127.0.0.1:port, or failed. */
struct peer *peer_connect(const struct driver *driver, struct load *load,
                          uint16_t port);
void peer_free(struct peer *p); /* accepts NULL */

void peer_fail(struct peer *p, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- to be sent ---- */

/* Room for `len` bytes at the end of p->out, for bytes_filled(); NULL: failed. */
uint8_t *peer_room(struct peer *p, size_t len);
void peer_put(struct peer *p, const void *from, size_t len);
void peer_print(struct peer *p, const char *format, ...) PRINTF_LIKE(2, 3);
/* Write what the socket takes. */
void peer_flush(struct peer *p);

/* ---- to be read ---- */

/* Read what is there, and parse it. */
void peer_receive(struct peer *p);
/* Send, and wait until `count` more answers have come. */
void peer_await(struct peer *p, uint64_t count);
/* A line without its CR LF at the front of `in`, from offset `from`; false: it
 * is not whole yet. *next is the offset behind it. */
bool peer_line(const struct peer *p, size_t from, struct slice *line,
               size_t *next);

/* Decimal digits at `at`, no NUL; how many. At most 20. */
size_t put_decimal(uint8_t *at, uint64_t value);
/* What is at `part`, without more; its length. */
size_t put_slice(uint8_t *at, struct slice part);
/* "len CR LF part CR LF"; how many bytes: at most PEER_SIZED_MORE more than
 * `part` has. */
size_t put_sized(uint8_t *at, struct slice part);

/* ---- what a driver reports ---- */

void load_confirmed(struct peer *p, uint64_t id);
void load_confirmed_up_to(struct peer *p, uint64_t id);
/* The begin of a body. */
void load_delivered(struct peer *p, struct slice body);
void load_acked(struct peer *p);

#endif
