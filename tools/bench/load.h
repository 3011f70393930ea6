/* Clients that a thread of ours drives (no thread of their own): fewer switches
 * between threads, on a machine where each is taken from the broker's cores. */
#ifndef GODWIT_BENCH_LOAD_H
#define GODWIT_BENCH_LOAD_H

#include "tools/bench/bench.h"

struct crew;

struct crew_client {
    struct godwit *client;
    /* set by the state callback */
    bool connected;
    bool ended;
    enum godwit_status why;
};

/* Room for `count` clients. NULL: out of memory. */
struct crew *crew_new(size_t count);
void crew_free(struct crew *crew); /* closes the clients; accepts NULL */

/* One more client with its own options. Returns an exit code. */
int crew_add(struct crew *crew, const struct bench_options *o, uint32_t window);
struct godwit *crew_client(struct crew *crew, size_t index);
size_t crew_count(const struct crew *crew);

/* Drive them until all are connected. Returns an exit code. */
int crew_connect(struct crew *crew, const struct bench_options *o);

/* Sleep until one of them can do something, or until `until_ns` (monotonic),
 * and do it. */
void crew_turn(struct crew *crew, uint64_t until_ns);

/* Something to read from `fd` ends the sleep too; -1: no more. */
void crew_watch(struct crew *crew, int fd);

/* Do what can be done now, without sleeping or asking the kernel first. */
void crew_push(struct crew *crew, size_t index);

/* Has one of them ended for good? Said on stderr once; *code is the exit code. */
bool crew_broken(struct crew *crew, int *code);

/* A body of `size` bytes that does not compress to nothing. The caller frees
 * it; NULL: out of memory. */
char *bench_body(size_t size);

/* The first 8 bytes of a body carry a time. */
void body_set_time(char *body, uint64_t ns);
uint64_t body_time(const void *body, size_t len);

#endif
