/* The broker's two clocks. Everything that waits (leases, backoff, deadlines)
 * goes by the monotonic one; the wall clock is data only. */
#ifndef GODWIT_BROKER_CLOCK_H
#define GODWIT_BROKER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_us(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static inline uint64_t clock_monotonic_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

static inline uint64_t clock_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

#endif
