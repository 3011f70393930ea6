/* What is known of idempotent producers: for each (app, producer) the numbers
 * stored so far, so that one sent again is dropped. Message ids are kept in the
 * same way, in a table of their own: half of an id's hash is the producer, of
 * no app, the other half its only number. Bounded: the one heard of
 * least recently goes. What is not known to be stored is let through: a message
 * twice is better than none. One thread. */
#ifndef GODWIT_STORAGE_PRODUCERS_H
#define GODWIT_STORAGE_PRODUCERS_H

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/seqset.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stdint.h>

struct producer {
    uint32_t app;
    uint32_t topic; /* of the last run */
    uint64_t id;
    uint64_t last; /* the highest number stored */
    /* Its last run: numbers run_first..run_last are messages run_seq.. */
    uint64_t run_first;
    uint64_t run_last;
    uint64_t run_seq;
    uint64_t used; /* batch number of the last message: for the order of age */
    uint32_t hole_count;
    bool dirty; /* changed since producers_clean(), */
    bool saved; /* and what it was before is in the keydir */
    /* kept by producers.c */
    uint32_t older, newer, chained;
    /* Numbers below `last` not stored: refused, or sent out of order. */
    struct seq_range holes[PRODUCER_HOLES_MAX];
};

struct producers {
    struct producer *entries;
    uint32_t count;
    uint32_t capacity;
    uint32_t count_max;
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t newest, oldest;
    uint32_t hot; /* the entry found last */
    uint64_t seed;
    /* Told of an entry that had to go; may be NULL. */
    void (*gone)(void *arg, const struct producer *entry);
    void *gone_arg;
};

/* count_max: 0 for PRODUCER_COUNT_MAX. */
MUST_CHECK enum status producers_init(struct producers *p, uint32_t count_max,
                                      uint64_t seed);
void producers_fini(struct producers *p);

/* NULL: not known. Good until the next producers_note() or producers_put(). */
struct producer *producers_find(struct producers *p, uint32_t app, uint64_t id);

/* Was this number stored? *seq: as which message, 0 when no longer known. */
bool producer_stored(const struct producer *entry, uint64_t number,
                     uint64_t *seq);

/* Number `message->last` is stored as message `run_seq` of `topic` in batch
 * `used`. `entry`: what producers_find() gave. Without memory for a first entry
 * nothing is noted: then its messages may come twice. */
void producers_note(struct producers *p, struct producer *entry,
                    const struct producer *message);

/* What is dirty is saved now. */
void producers_clean(struct producers *p);

/* Add one that was saved; from the least to the most recently used. */
MUST_CHECK enum status producers_put(struct producers *p,
                                     const struct producer *saved);

#endif
