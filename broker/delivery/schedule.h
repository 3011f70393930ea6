/* The messages of a group that were given back and wait to be delivered again:
 * ready, by seq, in a heap of their lane; or delayed, by due time, in one heap
 * of the group. They are found by (topic, seq) too, for a late ack. Only a
 * message that came back is in here: fresh ones cost nothing. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_SCHEDULE_H
#define GODWIT_BROKER_DELIVERY_SCHEDULE_H

#include "broker/delivery/hash.h"

#include <stdbool.h>

struct lane;

struct waiting {
    uint64_t seq;
    uint32_t attempts; /* deliveries that failed, 0: it was released */
    bool delayed;      /* else ready */
    struct lane *lane;
    /* the schedule's */
    uint64_t key; /* in its heap: seq or due time */
    size_t place; /* in its heap */
    struct waiting *next_free;
};

/* The smallest key first. Zero-initialised is empty. */
struct heap {
    struct waiting **items;
    size_t count;
    size_t capacity;
};

void heap_fini(struct heap *heap);
static inline struct waiting *heap_first(const struct heap *heap)
{
    return heap->count == 0 ? NULL : heap->items[0];
}

struct waiting_block;

/* Zero-initialised is empty. */
struct schedule {
    struct hash all; /* (topic, seq) -> struct waiting */
    struct heap delayed;
    struct waiting_block *blocks;
    struct waiting *free_first;
};

void schedule_fini(struct schedule *schedule);

static inline size_t schedule_count(const struct schedule *schedule)
{
    return schedule->all.count;
}

/* NULL: it does not wait. */
struct waiting *schedule_find(const struct schedule *schedule, uint32_t topic,
                              uint64_t seq);

/* Make room for one more of this lane, ready or delayed. STATUS_NOMEM: nothing
 * changed. After STATUS_OK the next add cannot fail. */
MUST_CHECK enum status schedule_reserve(struct schedule *schedule,
                                        struct lane *lane);
/* Add as ready. The schedule owns it. */
struct waiting *schedule_add(struct schedule *schedule, struct lane *lane,
                             uint64_t seq, uint32_t attempts);
/* Between the two heaps. To the one it is in: only the due time changes. */
void schedule_delay(struct schedule *schedule, struct waiting *w,
                    uint64_t due_us);
void schedule_make_ready(struct schedule *schedule, struct waiting *w);
/* It is delivered or settled: *w is gone. */
void schedule_remove(struct schedule *schedule, struct waiting *w);

/* The earliest due time; UINT64_MAX: nothing is delayed. */
uint64_t schedule_due_us(const struct schedule *schedule);

#endif
