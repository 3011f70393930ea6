/* Producers that always have a full window of unconfirmed messages, driven by
 * the thread that drives their crew. Producer i publishes to topic i modulo the
 * number of topics. */
#ifndef GODWIT_BENCH_PRODUCERS_H
#define GODWIT_BENCH_PRODUCERS_H

#include "tools/bench/load.h"

/* The struct is large: make it static. */
struct producers {
    const struct bench_options *o;
    struct crew *crew; /* the first o->producers clients of it */
    char (*topics)[64];
    size_t topic_count;
    char *body;
    uint64_t sent;
    uint64_t confirmed;
    uint64_t failed;
    char first_failure[200];
    struct histogram confirm_ns; /* from the call; of those that are timed */
};

/* Adds them to an empty crew, which the caller connects. Returns an exit code.
 */
int producers_open(struct producers *p, struct crew *crew,
                   const struct bench_options *o,
                   const struct bench_place *place);
void producers_close(
    struct producers *p); /* not the crew; accepts a zeroed one */

/* Fill the windows as far as o->count goes, and send. */
void producers_push(struct producers *p);
/* Is everything answered? */
bool producers_done(const struct producers *p);
/* EXIT_OK, or the first refusal said on stderr. */
int producers_outcome(const struct producers *p);

#endif
