/* Clients that a thread of ours drives (no thread of their own): fewer switches
 * between threads, on a machine where each is taken from the broker's cores. */
#ifndef GODWIT_BENCH_CLIENTS_H
#define GODWIT_BENCH_CLIENTS_H

#include "tools/bench/bench.h"

struct clients;

/* Room for `count` clients. NULL: out of memory. */
struct clients *clients_new(size_t count);
void clients_free(struct clients *clients); /* closes them; accepts NULL */

/* One more client, which speaks what the options say. Returns an exit code. */
int clients_add(struct clients *clients, const struct bench_options *o,
                uint32_t window);

/* As godwit_publish() and godwit_subscribe(). */
enum godwit_status clients_publish(struct clients *clients, size_t index,
                                   const char *topic,
                                   const struct godwit_message *message,
                                   godwit_confirm_fn done, void *arg);
enum godwit_status clients_subscribe(struct clients *clients, size_t index,
                                     const struct godwit_subscription *sub);

/* Drive them until all are connected. Returns an exit code. */
int clients_connect(struct clients *clients, const struct bench_options *o);

/* Sleep until one of them can do something, or until `until_ns` (monotonic),
 * and do it. */
void clients_turn(struct clients *clients, uint64_t until_ns);

/* Something to read from these ends the sleep too; -1: none. */
void clients_watch(struct clients *clients, int fd, int other);

/* Do what can be done now, without sleeping or asking the kernel first. */
void clients_push(struct clients *clients, size_t index);

/* Has one of them lost its connection? Said on stderr, once in this process;
 * *code is the exit code. */
bool clients_broken(struct clients *clients, int *code);

/* Say, once in this process, that a connection has ended so. Returns the exit
 * code. */
int clients_say_lost(enum godwit_status why, const char *text);

#endif
