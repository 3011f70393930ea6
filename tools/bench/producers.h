/* Producers that always have a full window of unconfirmed messages, all driven
 * by one thread. Producer i publishes to topic i modulo the number of topics. */
#ifndef GODWIT_BENCH_PRODUCERS_H
#define GODWIT_BENCH_PRODUCERS_H

#include "tools/bench/clients.h"

/* The struct is large: make it static. */
struct producers {
    const struct bench_options *o;
    struct clients *clients; /* the first o->producers of them */
    char (*topics)[64];
    size_t topic_count;
    char *body;
    uint64_t sent;
    uint64_t confirmed;
    uint64_t failed;
    char first_failure[200];
    struct histogram confirm_ns; /* from the call; of those that are timed */
};

/* Connects them and measures something. Returns an exit code. */
typedef int (*producers_fn)(struct clients *clients,
                            const struct bench_options *o,
                            struct bench_setup *setup);

/* Make producers for the topics of `setup`, the first of a set of clients with
 * room for `more`, and call `run`. Afterwards all are closed; what `p` counted
 * stays. Returns an exit code, of a failure too when a message was not
 * confirmed, which is said. */
int producers_run(struct producers *p, const struct bench_options *o,
                  struct bench_setup *setup, size_t more, producers_fn run);
/* As that, with topics and groups that are made for it and deleted again. */
int producers_measure(struct producers *p, struct bench_options *o,
                      size_t topic_count, size_t group_count, size_t more,
                      producers_fn run);

/* Fill the windows as far as o->count goes, and send. */
void producers_push(struct producers *p);
/* Is everything answered? */
bool producers_done(const struct producers *p);

#endif
