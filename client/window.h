/* The publishes that are not confirmed yet, in order: encoded once when they
 * are made, kept until the broker has answered, sent again after a reconnect.
 *
 *      tail            sent             head
 *   ----|--------------|----------------|----   index, counting from 1
 *       on the wire,   waiting to be    free
 *       not answered   sent
 *
 * Two sides work at once without a lock between them. Publishers (serialised by
 * a lock of their own) append at the head; the engine's thread sends and
 * completes. Messages lie in blocks that are used again, last in first out, so
 * that steady publishing stays in the cache and allocates nothing. */
#ifndef GODWIT_CLIENT_WINDOW_H
#define GODWIT_CLIENT_WINDOW_H

#include "client/godwit.h"
#include "proto/bytes.h"
#include "proto/limits.h"
#include "proto/wire.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    WINDOW_BLOCK_LEN = 256 * 1024,
    WINDOW_SPARE_MAX = 16 /* blocks kept for later */
};

struct window_block;

struct window_item {
    struct slice message; /* encoded, in the block */
    struct slice topic;   /* in the block */
    struct window_block *block;
    uint64_t end; /* bytes of all messages so far: what waits is a difference */
    uint64_t number; /* producer sequence; 0: it has an id of its own */
    /* of an all-or-nothing batch: messages before it and behind it */
    uint32_t before;
    uint32_t behind;
    godwit_confirm_fn done;
    void *arg;
    bool completed; /* the engine's: refusals overtake confirms */
};

/* Messages on their way into the window: one, or a batch. */
struct window_draft {
    struct slice topic;
    uint64_t first; /* index */
    uint32_t count;
    uint32_t put;
    size_t used; /* of the block, before */
};

struct window {
    struct window_item *items;
    uint64_t mask;
    uint64_t limit;
    /* shared */
    _Atomic uint64_t head; /* the next index; stored by publishers */
    _Atomic uint64_t tail; /* the oldest not completed; stored by the engine */
    pthread_mutex_t spare_lock; /* of the three below */
    struct window_block *spare;
    size_t spare_count;
    size_t used_bytes;
    /* publishers */
    struct window_block *filling;
    bool filling_used;       /* an item points into it */
    struct slice last_topic; /* in `filling`, or empty */
    uint64_t end;
    uint64_t number; /* the last producer sequence given */
    struct window_draft draft;
    /* engine */
    uint64_t sent;               /* the next index to send */
    uint64_t sent_once;          /* below it: sent at least once */
    struct window_block *oldest; /* of the last item completed */
};

MUST_CHECK enum status window_init(struct window *w, uint32_t limit);
void window_fini(struct window *w);

/* ---- publishers ---- */

/* The length of the encoded message; or *refusal says which rule it or its
 * topic breaks, as far as that is seen before it is encoded. */
MUST_CHECK enum status window_measure(struct slice topic,
                                      const struct wire_message *message,
                                      size_t *len, struct refusal *refusal);

/* Append copies of `count` messages of `len` bytes in all that were measured:
 * window_open() makes room, window_put() is called for each of them, then
 * window_commit() shows them to the engine, all at once. More than one are
 * stored all or none. After any failure there is nothing of them.
 * STATUS_AGAIN: full, by count or by bytes. Others: *refusal says why. */
MUST_CHECK enum status window_open(struct window *w, struct slice topic,
                                   size_t count, size_t len,
                                   struct refusal *refusal);
MUST_CHECK enum status window_put(struct window *w,
                                  const struct wire_message *message,
                                  size_t len, godwit_confirm_fn done, void *arg,
                                  struct refusal *refusal);
void window_commit(struct window *w);

/* ---- the engine ---- */

/* What goes in one frame. */
struct window_run {
    uint64_t first;  /* index of the first; the rest follow without a hole */
    uint64_t number; /* producer sequence of the first; 0: they have none */
    bool atomic;     /* all of them or none */
    size_t count;
    size_t len; /* of the messages */
    struct slice topic;
    size_t again; /* how many were sent before */
};

/* Take the next run to send: one topic, `len_max` bytes unless a single message
 * is longer, `count_max` messages at most, all numbered or none; or one batch,
 * however large. `messages` gets their slices and has room for a batch. A count
 * of 0: nothing waits. */
void window_take(struct window *w, size_t len_max, size_t count_max,
                 struct slice *messages, struct window_run *out);
/* Put back the last run taken. */
void window_untake(struct window *w, const struct window_run *run);
/* The connection broke: all that is not completed waits again. */
void window_rewind(struct window *w);

/* Bytes that wait to be sent, and that were sent and are not completed. */
uint64_t window_waiting(const struct window *w);
uint64_t window_in_flight(const struct window *w);
/* window.end up to which all is sent. Something must wait. */
uint64_t window_sent_end(const struct window *w);

/* Whom to tell. */
struct window_done {
    godwit_confirm_fn fn;
    void *arg;
    size_t place; /* in its batch, from 0 */
};

/* Complete an index. True: it was not completed before, and *out is to be told.
 * `index` must be in tail..sent-1, or in tail..head-1 when everything ends. */
MUST_CHECK bool window_complete(struct window *w, uint64_t index,
                                struct window_done *out);

/* ---- both ---- */

static inline uint64_t window_head(const struct window *w)
{
    return atomic_load(&w->head);
}

static inline uint64_t window_tail(const struct window *w)
{
    return atomic_load_explicit(&w->tail, memory_order_acquire);
}

#endif
