/* Sequence numbers, the smallest first: what is ready again in a lane, what
 * waits behind a key. Rising numbers, the usual case, are put in for nothing.
 * Zero-initialised is empty. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_SEQHEAP_H
#define GODWIT_BROKER_DELIVERY_SEQHEAP_H

#include "proto/check.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seqheap {
    uint64_t *items;
    size_t count;
    size_t capacity;
};

void seqheap_fini(struct seqheap *heap);
/* Room for one more push, which then cannot fail. STATUS_NOMEM. */
MUST_CHECK enum status seqheap_reserve(struct seqheap *heap);
/* Twice the room, now. STATUS_NOMEM. */
MUST_CHECK enum status seqheap_grow(struct seqheap *heap);
void seqheap_push(struct seqheap *heap, uint64_t seq);
/* The smallest goes; there must be one. */
void seqheap_pop(struct seqheap *heap);
/* Only those that `keep` wants stay, each once. */
void seqheap_filter(struct seqheap *heap, bool (*keep)(void *arg, uint64_t seq),
                    void *arg);

/* Numbers below `first` go, however many. */
void seqheap_drop_below(struct seqheap *heap, uint64_t first);

/* The smallest; 0: empty. */
static inline uint64_t seqheap_first(const struct seqheap *heap)
{
    return heap->count == 0 ? 0 : heap->items[0];
}

#endif
