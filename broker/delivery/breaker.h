/* Does a group still get anything done? It remembers how the last attempts
 * ended; when nearly all failed it opens and lets only trials through. Numbers
 * and words are in group.h. Zero-initialised is closed, but for wake_us. */
#ifndef GODWIT_BROKER_DELIVERY_BREAKER_H
#define GODWIT_BROKER_DELIVERY_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct breaker {
    uint64_t failed; /* the last attempts, newest lowest: 1 = failed */
    unsigned count;  /* of them known, at most BREAKER_WINDOW */
    bool open;
    uint64_t next_us; /* of the next trial */
    uint64_t wake_us; /* somebody was refused and wants to know; UINT64_MAX */
};

void breaker_init(struct breaker *breaker);
/* So many one after the other. */
void breaker_succeeded(struct breaker *breaker, size_t count);
/* True: it opened. */
bool breaker_failed(struct breaker *breaker);
bool breaker_lets(struct breaker *breaker, uint64_t now_us);
void breaker_gave(struct breaker *breaker, uint64_t now_us);
/* The time that somebody waited for has come. */
void breaker_woke(struct breaker *breaker, uint64_t now_us);

#endif
