#include "tools/bench/bench.h"

#include "proto/limits.h"
#include "tools/bench/plot.h"
#include "tools/godwit/human.h"

enum {
    SIZE_MIN = 16, /* a time stands in the body */
    WINDOW_MAX = 65536,
    PRODUCERS_MAX = 1000,
    CONSUMERS_MAX = 250, /* a thread each when they pull */
    CONNECTIONS_MAX = 100000,
    RATE_MAX = 10 * 1000 * 1000,
    ARGS_MAX = 18
};

struct option {
    unsigned which; /* 0: all have it */
    size_t at;      /* where the value goes */
    struct arg arg;
};

#define AT(field) offsetof(struct bench_options, field)

static const struct option options[] = {
    { BENCH_SIZE,
      AT(size),
      { "size", ARG_SIZE, NULL, "BYTES", "of a body", SIZE_MIN,
        BODY_LEN_MAX } },
    { BENCH_COUNT,
      AT(count),
      { "count", ARG_COUNT, NULL, "N", "messages to publish and measure", 1,
        1000000000 } },
    { BENCH_WINDOW,
      AT(window),
      { "window", ARG_COUNT, NULL, "N",
        "unconfirmed messages of a producer at most", 1, WINDOW_MAX } },
    { BENCH_RATE,
      AT(rate),
      { "rate", ARG_COUNT, NULL, "N", "messages a second", 1, RATE_MAX } },
    { BENCH_PRODUCERS,
      AT(producers),
      { "producers", ARG_COUNT, NULL, "N", "connections that publish", 1,
        PRODUCERS_MAX } },
    { BENCH_CONSUMERS,
      AT(consumers),
      { "consumers", ARG_COUNT, NULL, "N", "members of a group", 1,
        CONSUMERS_MAX } },
    { BENCH_TOPICS,
      AT(topics),
      { "topics", ARG_COUNT, NULL, "N", "topics; a producer has one of them", 1,
        BENCH_TOPICS_MAX } },
    { BENCH_FAN,
      AT(groups),
      { "groups", ARG_COUNT, NULL, "N",
        "groups of the topic, with a subscriber each", 1, GROUP_COUNT_MAX } },
    { BENCH_CONNECTIONS,
      AT(connections),
      { "connections", ARG_COUNT, NULL, "N", "connections at once", 0,
        CONNECTIONS_MAX } },
    { BENCH_GROUPS,
      AT(groups),
      { "groups", ARG_COUNT, NULL, "N", "groups, and a topic for each", 0,
        GROUP_COUNT_MAX } },
    { BENCH_SECONDS,
      AT(seconds_ms),
      { "seconds", ARG_SECONDS, NULL, "SECONDS", "how long to watch", 100,
        3600 * 1000 } },
    { BENCH_PID,
      AT(pid),
      { "pid", ARG_COUNT, NULL, "PID",
        "the broker's process, when its /metrics does not tell", 1,
        INT32_MAX } },
    { BENCH_PULL,
      AT(pull),
      { "pull", ARG_FLAG, NULL, NULL,
        "consumers long-poll over HTTP instead of being pushed to", 0, 0 } },
    { BENCH_PROTOCOL,
      AT(protocol),
      { "protocol", ARG_TEXT, NULL, "NAME",
        "what the streams speak: proto (default) or json, the subprotocol "
        "of browsers",
        0, 0 } },
    { BENCH_DIR,
      AT(dir),
      { "dir", ARG_TEXT, NULL, "DIR",
        "a folder on the broker's disk: measure plain appends with a sync "
        "just before and after, and print the result as a share of them",
        0, 0 } },
    { BENCH_PLOT,
      AT(plot),
      { "plot", ARG_TEXT, NULL, "FILE.svg",
        "draw the latency percentiles (needs gnuplot)", 0, 0 } },
    { 0,
      AT(json),
      { "json", ARG_FLAG, NULL, NULL, "the figures as JSON", 0, 0 } },
};

/* The help of an option with the value it has before parsing. */
static const char *with_default(char *text, size_t len, const struct arg *arg)
{
    uint64_t value;
    char number[HUMAN_LEN];

    if (arg->kind != ARG_SECONDS && arg->kind != ARG_COUNT
        && arg->kind != ARG_SIZE) {
        return arg->help;
    }
    value = *(const uint64_t *)arg->to;
    if (value == 0) {
        return arg->help;
    }
    if (arg->kind == ARG_SECONDS) {
        snprintf(text, len, "%s; default %g", arg->help, (double)value / 1e3);
    } else {
        snprintf(text, len, "%s; default %s", arg->help,
                 human_count(number, value));
    }
    return text;
}

/* Those that the measurement has, ended, with their defaults. */
static void choose(struct arg table[ARGS_MAX], struct bench_options *o,
                   unsigned which)
{
    static char helps[ARGS_MAX][160];
    size_t count = 0;

    for (size_t i = 0; i < COUNT_OF(options); i++) {
        if (options[i].which == 0 || (options[i].which & which) != 0) {
            CHECK(count < ARGS_MAX - 1);
            table[count] = options[i].arg;
            table[count].to = (char *)o + options[i].at;
            table[count].help =
                with_default(helps[count], sizeof helps[count], &table[count]);
            count++;
        }
    }
    table[count] = (struct arg) { 0 };
}

static int read_protocol(struct bench_options *o)
{
    if (o->protocol == NULL || strcmp(o->protocol, "proto") == 0) {
        return EXIT_OK;
    }
    if (strcmp(o->protocol, "json") != 0) {
        return fail(EXIT_USAGE, "--protocol %s: expected proto or json",
                    o->protocol);
    }
    o->speak_json = true;
    return EXIT_OK;
}

bool bench_parse(struct bench_options *o, const struct help *help,
                 unsigned which, int argc, char **argv, int *code)
{
    struct arg table[ARGS_MAX];
    struct parsed parsed;

    choose(table, o, which);
    if (!command_parse(&parsed, help, table, session_args(&o->session), 0, 0,
                       argc, argv)) {
        *code = parsed.code;
        return false;
    }
    *code = read_protocol(o);
    if (*code == EXIT_OK) {
        *code = session_resolve(&o->session);
    }
    if (*code == EXIT_OK && o->plot != NULL) {
        *code = plot_check(o->plot);
    }
    return *code == EXIT_OK;
}
