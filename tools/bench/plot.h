/* Latency percentiles as a picture: SVG, drawn by gnuplot, which is another
 * program. The axis of percentiles is logarithmic in what is missing to 100 %,
 * so that 99 and 99.99 are as far apart as 0 and 99. */
#ifndef GODWIT_BENCH_PLOT_H
#define GODWIT_BENCH_PLOT_H

#include "tools/bench/histogram.h"

#include <stdbool.h>

enum { PLOT_CURVES_MAX = 4 };

struct plot_curve {
    const char *name;               /* in the legend */
    const struct histogram *values; /* ns */
    bool beside;                    /* not the broker's: drawn thin and grey */
};

struct plot {
    const char *title;
    const char *subtitle;
    struct plot_curve curves[PLOT_CURVES_MAX];
    size_t count;
};

/* Before the measurement: can `path` be written, and is there a gnuplot?
 * Returns an exit code and leaves nothing behind. */
int plot_check(const char *path);
/* Returns an exit code; `path` is then whole, or as it was. */
int plot_draw(const char *path, const struct plot *plot);

#endif
