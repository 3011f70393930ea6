/* The outcome of a measurement, as a table or as JSON on stdout. */
#ifndef GODWIT_BENCH_REPORT_H
#define GODWIT_BENCH_REPORT_H

#include "tools/bench/bench.h"
#include "tools/bench/plot.h"

struct report {
    bool json;
    struct json_writer w;
};

/* Name and settings. Says also whether the run was interrupted: the figures are
 * then of what was done. */
void report_begin(struct report *r, const struct bench_options *o,
                  const char *name, unsigned which);
void report_count(struct report *r, const char *label, const char *field,
                  uint64_t value);
/* `unit` as "msg/s". NAN is a figure that was not measured: null in the JSON
 * and no line in the table; so is an empty histogram. */
void report_real(struct report *r, const char *label, const char *field,
                 double value, const char *unit);
void report_bytes(struct report *r, const char *label, const char *field,
                  double value, const char *unit);
/* Nanoseconds in; microseconds in the JSON. A percentile above the median needs
 * one value beyond it: without, it is left out. */
void report_latency(struct report *r, const char *label, const char *field,
                    const struct histogram *h);
void report_end(struct report *r);

/* Draw the curves when --plot asks for it. Returns an exit code. */
int report_plot(const struct bench_options *o, const char *name, unsigned which,
                const struct plot_curve *curves, size_t count);

#endif
