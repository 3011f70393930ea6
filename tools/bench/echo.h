/* The machine's own noise: messages over loopback TCP to a thread that only
 * sends them back, or that appends them to a file and syncs it before: what it
 * takes of each, or of several that came together, with one sync. Measured in
 * the same seconds as the broker, whose syncs and these hold each other up. One
 * thread drives it, besides the echoing one. */
#ifndef GODWIT_BENCH_ECHO_H
#define GODWIT_BENCH_ECHO_H

#include "tools/bench/histogram.h"
#include "tools/bench/limit.h"

#include <pthread.h>
#include <stdbool.h>

struct echo {
    int fd;                  /* ours; -1: not open */
    int peer;                /* the thread's */
    struct limit_file *file; /* borrowed; NULL: nothing is synced */
    pthread_t thread;
    size_t size;
    size_t got; /* of the message that is coming back */
    char *out;
    char *in;
};

/* Messages of `size` bytes, BODY_TIME_LEN at least. With a file they are synced
 * there, and it is the echo's until echo_close(); when that fails, which is
 * said on stderr, none comes back any more. Returns an exit code. */
int echo_open(struct echo *echo, size_t size, struct limit_file *file);
void echo_close(struct echo *echo); /* accepts one that is not open */

/* Send one that was meant to be sent at `intended_ns`. False: not now, too much
 * is on its way already. */
bool echo_send(struct echo *echo, uint64_t intended_ns);
/* Take what has come back; from the intended time until now into `h` when that
 * is at or after `counted_from_ns`. Does not block. */
void echo_take(struct echo *echo, uint64_t counted_from_ns,
               struct histogram *h);

/* Both ends of a TCP connection over loopback: returns one, the caller closes
 * both; -1: none. */
int loopback_pair(int *peer);

#endif
