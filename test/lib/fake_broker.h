/* A broker for the client's tests: one plain socket, no TLS, no store. Either
 * the test plays it call by call (each waits at most five seconds), or a thread
 * plays an honest one. */
#ifndef TEST_FAKE_BROKER_H
#define TEST_FAKE_BROKER_H

#include "proto/codec.h"

#include <pthread.h>
#include <stdatomic.h>

/* What its receipts say; the checksum rises with the number. */
enum { FAKE_SEGMENT = 3, FAKE_OFFSET = 4096, FAKE_CHECKSUM = 1000000 };

struct fake_broker {
    int listen_fd;
    int fd; /* of the connection, -1: none */
    char url[64];
    struct codec *codec;
    struct bytes in;
    size_t taken;
    struct bytes out;
    struct wire_hello hello; /* of the last fake_broker_accept() */
    uint64_t hello_id;
    char head[4096]; /* the last HTTP request, ended by NUL */
    /* the playing thread */
    pthread_t thread;
    bool playing;
    atomic_bool stop;
    uint64_t stored;        /* messages so far */
    uint64_t producer_seq;  /* highest stored: what comes again is answered
                             * as a duplicate */
    uint64_t deliver_count; /* to whoever attaches, so many */
    uint64_t delivered;
    _Atomic uint64_t settled; /* numbers acked so far */
    uint64_t drop_after;      /* messages; drop the connection once; 0: never */
    bool lose_confirms;       /* that drop comes before the confirm */
    const char *http_answer;  /* to any request that is no upgrade */
    size_t http_answer_len;
    char http_request[16384]; /* the last one, with its body */
    size_t http_request_len;
    atomic_int http_requests;
};

/* Listens on a free loopback port. Aborts when that fails. */
void fake_broker_init(struct fake_broker *b);
void fake_broker_fini(struct fake_broker *b);

/* ---- call by call; false: it did not happen in time ---- */

bool fake_broker_accept_socket(struct fake_broker *b);
/* The upgrade, without answering. */
bool fake_broker_read_head(struct fake_broker *b);
bool fake_broker_send(struct fake_broker *b, const void *bytes, size_t len);
bool fake_broker_answer_upgrade(struct fake_broker *b);
/* Socket, upgrade and hello, not welcomed yet. */
bool fake_broker_accept(struct fake_broker *b);
bool fake_broker_welcome(struct fake_broker *b);
/* Both. */
bool fake_broker_connect(struct fake_broker *b);
void fake_broker_drop(struct fake_broker *b);

/* The next request; slices live until the next call. */
bool fake_broker_next(struct fake_broker *b, struct wire_request *out);
/* Is there none within 100 ms? */
bool fake_broker_silent(struct fake_broker *b);

/* Replies: write with the codec into fake_broker_reply(), then send as a frame.
 */
struct bytes *fake_broker_reply(struct fake_broker *b);
bool fake_broker_send_reply(struct fake_broker *b);
bool fake_broker_confirm(struct fake_broker *b, uint64_t id, uint64_t count,
                         uint64_t seq, bool duplicate);
bool fake_broker_refuse(struct fake_broker *b, uint64_t id, uint64_t count,
                        enum status status, const char *text);
bool fake_broker_attach(struct fake_broker *b, uint64_t id);
/* Messages first..last with body "body <seq>". */
bool fake_broker_deliver(struct fake_broker *b, const char *topic,
                         uint64_t first, uint64_t last);
bool fake_broker_settled(struct fake_broker *b, uint64_t id, const char *topic,
                         uint64_t first, uint64_t last,
                         enum settle_outcome outcome);

/* ---- an honest one on a thread ---- */

void fake_broker_play(struct fake_broker *b);
void fake_broker_stop(struct fake_broker *b); /* waits */

#endif
