/* Consumers of one group that settle what they get: pushed to, all driven by
 * one thread, or pulling over HTTP, a thread each. */
#ifndef GODWIT_BENCH_CONSUMERS_H
#define GODWIT_BENCH_CONSUMERS_H

#include "tools/bench/clients.h"

struct consumers;

struct consumer_plan {
    const struct bench_options *o;
    const char *group; /* copied */
    size_t count;
    bool pull;
    uint64_t nack_each;     /* one of so many first deliveries; 0: none */
    uint64_t timed_from_ns; /* what was sent before is not timed */
};

struct consumer_figures {
    uint64_t delivered; /* for the first time */
    uint64_t repeated;
    uint64_t nacked;
    uint64_t accepted; /* acks */
    uint64_t not_accepted;
    uint64_t last_ns; /* when the last ack so far was accepted */
};

/* Connect and begin. Returns an exit code; *out is NULL on failure. */
int consumers_start(struct consumers **out, const struct consumer_plan *plan);
/* Of what is sent from now on. */
void consumers_time_from(struct consumers *c, uint64_t ns);
/* So far; from any thread. */
void consumers_figures(struct consumers *c, struct consumer_figures *out);
/* Have they lost their connection? Said on stderr; *code is the exit code. */
bool consumers_broken(struct consumers *c, int *code);
/* End the threads and connections; a pull may hold it up for a second. Then the
 * times from the call that published to the handler are added to `h` (may be
 * NULL). Accepts NULL. */
void consumers_stop(struct consumers *c, struct histogram *h);

#endif
