#include "test/bench/meter.h"

#include <stdio.h>
#include <stdlib.h>
#include <valgrind/callgrind.h>

static uint64_t waste;

void must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        exit(2);
    }
}

void meter_begin(void)
{
    CALLGRIND_ZERO_STATS;
}

__attribute__((noinline)) void metered(void (*work)(void *arg), void *arg)
{
    work(arg);
}

void meter_waste(unsigned instructions)
{
    waste = instructions;
}

/* Two instructions a round: a subtraction and a jump. */
static void burn(void *arg)
{
    const uint64_t *instructions = arg;

    for (uint64_t i = *instructions / 2; i > 0; i--) {
        __asm__ volatile("" : "+r"(i));
    }
}

void meter_end(const struct step *step, uint64_t messages)
{
    uint64_t instructions = messages * waste;

    metered(burn, &instructions);
    printf("step\t%s\t%llu\n", step->name, (unsigned long long)messages);
    (void)fflush(stdout);
    CALLGRIND_DUMP_STATS_AT(step->name);
}
