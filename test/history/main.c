/* history-check [--open] [--faults N] FILES...
 *
 * Check ledgers against the promises. Exit code 0: nothing found, 1: something
 * found, 2: could not check. See README.md. */
#include "test/history/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void print(const struct history_figures *f, double took)
{
    (void)printf(
        "%llu events in %.1f s: %llu publishes (%llu confirmed, %llu of them "
        "duplicates, %llu refused, %llu unknown), %llu deliveries (%llu "
        "again), "
        "%llu acks accepted, %llu gaps, %llu dead, %llu expired, %llu "
        "sessions, %llu kills\n",
        (unsigned long long)f->events, took, (unsigned long long)f->sent,
        (unsigned long long)f->confirmed, (unsigned long long)f->duplicates,
        (unsigned long long)f->refused, (unsigned long long)f->unknown,
        (unsigned long long)f->delivered, (unsigned long long)f->redelivered,
        (unsigned long long)f->acked, (unsigned long long)f->gaps,
        (unsigned long long)f->dead, (unsigned long long)f->expired,
        (unsigned long long)f->sessions, (unsigned long long)f->kills);
    for (int i = 0; i < RULE_COUNT; i++) {
        if (f->faults[i] > 0) {
            (void)printf("invariant %d: %llu faults (%s)\n", i,
                         (unsigned long long)f->faults[i],
                         history_rule_text(i));
        }
    }
    (void)printf("%s\n", f->fault_count == 0 ? "GOOD" : "BAD");
}

static int usage(void)
{
    (void)fprintf(stderr,
                  "usage: history-check [--open] [--faults N] FILES...\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct history_options options = { .faults_max = 20, .out = stdout };
    struct history *history;
    double began = seconds();
    int at = 1;
    bool good;

    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--open") == 0) {
            options.open = true;
        } else if (strcmp(argv[at], "--faults") == 0 && at + 1 < argc) {
            options.faults_max = strtoull(argv[++at], NULL, 10);
        } else {
            return usage();
        }
    }
    if (at == argc) {
        return usage();
    }
    history = history_new(&options);
    for (; at < argc; at++) {
        if (!history_add_file(history, argv[at])) {
            (void)fprintf(stderr, "history-check: %s: %s\n", argv[at],
                          strerror(errno));
            history_free(history);
            return 2;
        }
    }
    good = history_check(history);
    print(history_figures(history), seconds() - began);
    history_free(history);
    return good ? 0 : 1;
}
