/* godwit bench: what the measurements share. One file a measurement. */
#ifndef GODWIT_BENCH_BENCH_H
#define GODWIT_BENCH_BENCH_H

#include "proto/limits.h"
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
    BENCH_GROUPS = 128,
    BENCH_PRODUCERS = 256,
    BENCH_CONSUMERS = 512,
    BENCH_TOPICS = 1024,
    BENCH_FAN = 2048, /* groups of one topic */
    BENCH_PULL = 4096,
    BENCH_PROTOCOL = 8192,
    BENCH_DIR = 16384,
    BENCH_PLOT = 32768
};

enum {
    TIMED_ALL_MAX = 100000,
    TIMED_EACH = 8,
    BENCH_TOPICS_MAX = GROUP_PATTERN_COUNT_MAX,
    BENCH_BACKOFF_MS = 10, /* of our groups: what is nacked comes soon again */
    BENCH_LOOK_NS =
        20 * 1000 * 1000 /* between two looks at the other threads */
};

/* Set the defaults, then bench_parse(). */
struct bench_options {
    uint64_t size; /* of a body, bytes */
    uint64_t count;
    uint64_t window; /* of a producer */
    uint64_t rate;
    uint64_t producers;
    uint64_t consumers;
    uint64_t connections;
    uint64_t topics;
    uint64_t groups;
    uint64_t seconds_ms;
    uint64_t pid; /* 0: not given */
    bool pull;
    bool speak_json;      /* godwit.v1.json */
    const char *protocol; /* as it was given; NULL: it was not */
    const char *dir;      /* on the broker's disk; NULL: limits are not asked */
    const char *plot;     /* NULL: none */
    bool json;
    struct session_options session;
};

/* False: return *code. `which` is a sum of BENCH_*. */
bool bench_parse(struct bench_options *o, const struct help *help,
                 unsigned which, int argc, char **argv, int *code);

/* Is message `index` one of those that are timed? All of a few, of many each
 * TIMED_EACH-th: asking for the time takes some of the processor. */
static inline bool bench_timed(const struct bench_options *o, uint64_t index)
{
    return o->count <= TIMED_ALL_MAX || index % TIMED_EACH == 0;
}

/* ---- what a measurement needs on the broker ---- */

/* Topics bench-XXXX-0, ... and groups bench-XXXX-0, ... that take all of them,
 * made for one run and deleted at its end. */
struct bench_setup {
    struct session admin; /* HTTP */
    char name[40];        /* bench-XXXX */
    size_t topic_count;   /* made so far */
    size_t group_count;
};

/* POST to `path` {"name":name} and, unless NULL, "topics":[topic]. Returns an
 * exit code. */
int bench_make(struct session *s, const char *path, const char *name,
               const char *topics);
/* A random name for what a run makes, bench-XXXX. A second Ctrl-C tells that it
 * stays, until bench_name_end(), which tells it when it `stays`. */
void bench_name_begin(char name[40]);
void bench_name_end(bool stays);
/* `kind`: topics or groups. A refusal is said, a broker that is gone is not:
 * false. */
bool bench_delete(struct session *s, const char *kind, const char *name);
/* Returns an exit code; what was made has been deleted again on failure. */
int bench_setup_open(struct bench_setup *setup, struct bench_options *o,
                     size_t topic_count, size_t group_count);
/* What cannot be deleted is named on stderr. Accepts a zeroed one. */
void bench_setup_close(struct bench_setup *setup);
/* Publish `count` messages and wait for their confirms. Returns an exit code. */
int bench_fill(const struct bench_options *o, struct bench_setup *setup);
/* The name of a topic or a group, into `name`. */
const char *bench_name(const struct bench_setup *setup, size_t index,
                       char name[64]);

/* A run has ended with `code`: print what there is when it went well, or was
 * interrupted and what there is belongs together. Returns an exit code. */
int bench_outcome(int code, int (*print)(const struct bench_options *o),
                  const struct bench_options *o);

/* ---- the measurements ---- */

int bench_publish(int argc, char **argv);
int bench_endtoend(int argc, char **argv);
int bench_latency(int argc, char **argv);
int bench_fanout(int argc, char **argv);
int bench_mixed(int argc, char **argv);
int bench_idle(int argc, char **argv);
int bench_restart(int argc, char **argv);
int bench_disk(int argc, char **argv);

#endif
