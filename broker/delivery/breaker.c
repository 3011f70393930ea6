#include "broker/delivery/breaker.h"

#include "broker/delivery/group.h"

_Static_assert((int)BREAKER_WINDOW == 64, "one bit an attempt");

enum { LATELY = 0xff };

void breaker_init(struct breaker *breaker)
{
    *breaker = (struct breaker) { .wake_us = UINT64_MAX };
}

static void note(struct breaker *breaker, bool failed)
{
    breaker->failed = breaker->failed << 1 | (failed ? 1 : 0);
    breaker->count += breaker->count < BREAKER_WINDOW;
}

static void succeeded_while_open(struct breaker *breaker)
{
    note(breaker, false);
    if (__builtin_popcountll(~breaker->failed & LATELY) >= BREAKER_CLOSE) {
        breaker_init(breaker);
    }
}

void breaker_succeeded(struct breaker *breaker, size_t count)
{
    for (; breaker->open && count > 0; count--) {
        succeeded_while_open(breaker);
    }
    for (size_t i = 0; i < count && i < BREAKER_WINDOW; i++) {
        note(breaker, false);
    }
}

bool breaker_failed(struct breaker *breaker)
{
    note(breaker, true);
    if (breaker->open || breaker->count < BREAKER_WINDOW
        || __builtin_popcountll(breaker->failed) < BREAKER_FAILED) {
        return false;
    }
    /* What was acked before it opened says nothing about the trials. */
    breaker->failed = UINT64_MAX;
    breaker->open = true;
    breaker->next_us = 0;
    return true;
}

bool breaker_lets(struct breaker *breaker, uint64_t now_us)
{
    if (!breaker->open || now_us >= breaker->next_us) {
        return true;
    }
    breaker->wake_us = breaker->next_us;
    return false;
}

void breaker_gave(struct breaker *breaker, uint64_t now_us)
{
    if (breaker->open) {
        breaker->next_us = now_us + BREAKER_TRIAL_US;
    }
}

void breaker_woke(struct breaker *breaker, uint64_t now_us)
{
    if (breaker->wake_us <= now_us) {
        breaker->wake_us = UINT64_MAX;
    }
}
