/* Good ledgers of any size, made up by a seed: a small broker that keeps its
 * promises, clients that read, hold, nack and die, kills in between, all in
 * made-up time. What it writes the checker must find good; what is changed in
 * it, bad. */
#ifndef GODWIT_TEST_HISTORY_GENERATE_H
#define GODWIT_TEST_HISTORY_GENERATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct generate_options {
    uint64_t seed;
    uint64_t events; /* about so many lines */
    bool plain;      /* no kills, no deaths, no nacks: the fast path only */
    /* Open a client's ledger. The generator closes none of them. */
    FILE *(*open)(void *arg, const char *name);
    void *arg;
};

void generate(const struct generate_options *options);

#endif
