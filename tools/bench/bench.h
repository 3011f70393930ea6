/* godwit bench: what the measurements share. One file a measurement. */
#ifndef GODWIT_BENCH_BENCH_H
#define GODWIT_BENCH_BENCH_H

#include "tools/bench/histogram.h"
#include "tools/godwit/session.h"

/* Which options a measurement has. */
enum {
    BENCH_SIZE = 1,
    BENCH_COUNT = 2,
    BENCH_WINDOW = 4,
    BENCH_RATE = 8,
    BENCH_CONNECTIONS = 16,
    BENCH_SECONDS = 32,
    BENCH_PID = 64,
    BENCH_GROUPS = 128
};

/* Set the defaults, then bench_parse(). */
struct bench_options {
    uint64_t size; /* of a body, bytes */
    uint64_t count;
    uint64_t window;
    uint64_t rate;
    uint64_t connections;
    uint64_t groups; /* with a topic of its own each */
    uint64_t seconds_ms;
    uint64_t pid; /* 0: not given */
    bool json;
    struct session_options session;
};

/* False: return *code. `which` is a sum of BENCH_*. */
bool bench_parse(struct bench_options *o, const struct help *help,
                 unsigned which, int argc, char **argv, int *code);

/* ---- what a measurement needs on the broker ---- */

/* A topic bench-XXXX and groups of it, made for one run and deleted at its end.
 */
struct bench_place {
    struct session admin; /* HTTP */
    char topic[40];
    size_t group_count; /* made so far */
};

/* POST to `path` {"name":name} and, unless NULL, "topics":[topic]. Returns an
 * exit code. */
int bench_make(struct session *s, const char *path, const char *name,
               const char *topic);
/* Returns an exit code; what was made has been deleted again on failure. */
int bench_place_open(struct bench_place *place, struct bench_options *o,
                     size_t group_count);
void bench_place_close(struct bench_place *place); /* accepts a zeroed one */
/* Publish `count` messages and wait for their confirms. Returns an exit code. */
int bench_fill(const struct bench_options *o, const char *topic);
/* The name of a group, into `name`. */
const char *bench_group(const struct bench_place *place, size_t index,
                        char name[64]);

/* ---- the outcome, as a table or as JSON on stdout ---- */

struct report {
    bool json;
    struct json_writer w;
};

void report_begin(struct report *r, const struct bench_options *o,
                  const char *name, unsigned which);
void report_count(struct report *r, const char *label, const char *field,
                  uint64_t value);
/* `unit` as "msg/s". */
void report_real(struct report *r, const char *label, const char *field,
                 double value, const char *unit);
void report_bytes(struct report *r, const char *label, const char *field,
                  double value, const char *unit);
/* Nanoseconds in; microseconds in the JSON. */
void report_latency(struct report *r, const char *label, const char *field,
                    const struct histogram *h);
void report_end(struct report *r);

/* ---- the measurements ---- */

int bench_publish(int argc, char **argv);
int bench_endtoend(int argc, char **argv);
int bench_latency(int argc, char **argv);
int bench_fanout(int argc, char **argv);
int bench_idle(int argc, char **argv);
int bench_restart(int argc, char **argv);

#endif
