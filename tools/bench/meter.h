/* What is noted around a run: how long it took, the processor time of both
 * sides and, when a folder on the broker's disk is given, what the machine
 * could do just before and just after. */
#ifndef GODWIT_BENCH_METER_H
#define GODWIT_BENCH_METER_H

#include "tools/bench/limit.h"
#include "tools/bench/report.h"
#include "tools/bench/usage.h"

struct meter {
    const struct bench_options *o;
    struct session *admin;
    double own_cpu; /* seconds; from the beginning and then of the run */
    struct usage broker;
    bool broker_known;
    double broker_cpu;
    uint64_t begin_ns;
    double seconds;
    struct limit_file file;
    struct appends disk; /* both times together */
    struct pace loopback;
    struct histogram sync_ns;
};

/* Returns an exit code; what follows at once is the run. The struct is large:
 * make it static. */
int meter_begin(struct meter *m, const struct bench_options *o,
                struct session *admin);
/* The run is over, or was at `end_ns` (0: now), and ended with `code`. Returns
 * that, unless the limits could not be measured. Call it after each
 * meter_begin(). */
int meter_end(struct meter *m, int code, uint64_t end_ns);

/* Seconds, and the processor time for each of `count`: "message". */
void meter_report(const struct meter *m, struct report *r, uint64_t count,
                  const char *what);
/* With --dir: which share of plain appends or of a plain stream, measured
 * beside the run, these bytes of bodies were. */
void meter_report_disk(const struct meter *m, struct report *r,
                       double bytes_per_second);
void meter_report_loopback(const struct meter *m, struct report *r,
                           double bytes_per_second);

#endif
