/* The commit ring: one producer, several consumers that each see every entry and
 * keep their own sequence, after the LMAX Disruptor (Thompson et al., 2011). No
 * locks. A slot is only used again when the slowest consumer is past it.
 *
 * Waiting is the caller's: a consumer that is about to sleep says so and looks
 * once more; the producer wakes only those that said so. An idle ring costs
 * nothing. */
#ifndef GODWIT_BROKER_DELIVERY_RING_H
#define GODWIT_BROKER_DELIVERY_RING_H

#include "proto/check.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;

/* slot_count: a power of two. NULL when memory is short. `wake` of a consumer
 * is called on the producer's thread when that consumer sleeps and an entry
 * came. */
typedef void (*ring_wake_fn)(void *arg);
struct ring *ring_new(size_t slot_len, size_t slot_count,
                      size_t consumer_count);
void ring_free(struct ring *ring); /* accepts NULL; all threads must be gone */
void ring_set_wake(struct ring *ring, size_t consumer, ring_wake_fn wake,
                   void *arg); /* before the threads start */

/* ---- producer ---- */

/* The next free slot to fill, or NULL when the slowest consumer is a whole ring
 * behind. Asking again without publishing gives the same slot. */
void *ring_claim(struct ring *ring);
/* The claimed slot is complete: all consumers may see it. Wakes sleepers. */
void ring_publish(struct ring *ring);
/* Producer about to park because ring_claim() gave NULL: `wake_producer` is
 * called by a consumer that makes room. Returns false when there is room. */
bool ring_wait_room(struct ring *ring);
void ring_set_producer_wake(struct ring *ring, ring_wake_fn wake, void *arg);

/* ---- consumers, each on its own thread ---- */

/* How many entries wait. The first is ring_entry(ring, consumer, 0). */
size_t ring_available(struct ring *ring, size_t consumer);
const void *ring_entry(const struct ring *ring, size_t consumer, size_t index);
/* Done with the first `count`; their slots may be used again. */
void ring_consumed(struct ring *ring, size_t consumer, size_t count);

/* About to sleep: true if nothing waits (then sleep; a wake will come), false
 * if something does. ring_awake() when it runs again. */
bool ring_sleep(struct ring *ring, size_t consumer);
void ring_awake(struct ring *ring, size_t consumer);

/* Any thread: entries published so far, and done by a consumer. */
uint64_t ring_published(const struct ring *ring);
uint64_t ring_done(const struct ring *ring, size_t consumer);

#endif
