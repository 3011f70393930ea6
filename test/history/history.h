/* The history checker: reads what clients wrote down and says whether a broker
 * that keeps its promises can have done that. Linear in time; knows nothing of
 * the broker but its promises. The ledger's lines and the invariants are
 * in README.md. */
#ifndef GODWIT_TEST_HISTORY_HISTORY_H
#define GODWIT_TEST_HISTORY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The numbers are those of the README; 0 is the ledger itself: a client that
 * wrote down what cannot have happened. */
enum { RULE_COUNT = 14 };

struct history_options {
    bool open;           /* the run goes on: nothing is asked about its end */
    uint64_t faults_max; /* printed; more are only counted */
    FILE *out;           /* NULL: print nothing */
};

struct history_figures {
    uint64_t events;
    uint64_t sent, confirmed, duplicates, refused, unknown;
    uint64_t delivered, redelivered, acked, gaps, dead, expired;
    uint64_t kills, sessions;
    uint64_t faults[RULE_COUNT];
    uint64_t fault_count; /* of all */
};

struct history;

struct history *history_new(const struct history_options *options);
void history_free(struct history *history); /* accepts NULL */
/* False with errno: cannot be opened. */
bool history_add_file(struct history *history, const char *path);
/* `text` is borrowed until history_free(). */
void history_add_text(struct history *history, const char *name,
                      const char *text, size_t len);
/* Once. True: nothing found. */
bool history_check(struct history *history);
const struct history_figures *history_figures(const struct history *history);
const char *history_rule_text(int rule);

#endif
