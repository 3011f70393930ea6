/* Deadlines ordered by time in a binary heap of pointers: whoever has one
 * embeds a struct deadline. With room reserved, no call fails. One thread. */
#ifndef GODWIT_BROKER_NET_DEADLINE_H
#define GODWIT_BROKER_NET_DEADLINE_H

#include "proto/check.h"
#include "proto/status.h"

#include <stddef.h>
#include <stdint.h>

struct deadline {
    uint64_t due_ms;
    size_t place; /* in the heap, counted from 1; 0: not in it */
};

struct deadlines {
    struct deadline **at;
    size_t count;
    size_t capacity;
};

void deadlines_fini(struct deadlines *d); /* zeroed is empty */

/* Room for `count` in all. STATUS_NOMEM. */
MUST_CHECK enum status deadlines_reserve(struct deadlines *d, size_t count);

/* Put it in, or move it. */
void deadline_set(struct deadlines *d, struct deadline *deadline,
                  uint64_t due_ms);
void deadline_clear(struct deadlines *d, struct deadline *deadline);

/* The earliest, or NULL. */
struct deadline *deadlines_first(const struct deadlines *d);

#endif
