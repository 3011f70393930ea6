/* What processes use: the broker's memory and processor time, and our own. */
#ifndef GODWIT_BENCH_USAGE_H
#define GODWIT_BENCH_USAGE_H

#include "tools/godwit/session.h"

struct usage {
    bool known;
    double rss_bytes;
    double cpu_seconds;
};

/* Of the broker: its /metrics or, with a `pid` that is not 0, /proc. Not known:
 * neither tells. */
struct usage usage_of_broker(struct session *s, uint64_t pid);

/* Processor time of this process, all its threads. */
double usage_own_cpu(void);

#endif
