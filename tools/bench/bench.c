#include "tools/bench/bench.h"

#include "proto/limits.h"
#include "tools/godwit/commands.h"
#include "tools/godwit/human.h"

#include <sys/random.h>

enum {
    WINDOW_MAX = 65536,
    CONNECTIONS_MAX = 100000,
    RATE_MAX = 10 * 1000 * 1000,
    ARGS_MAX = 10
};

/* The help of an option with the value it has before parsing. */
static const char *with_default(char *text, size_t len, const struct arg *arg)
{
    uint64_t value = *(const uint64_t *)arg->to;
    char number[HUMAN_LEN];

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

bool bench_parse(struct bench_options *o, const struct help *help,
                 unsigned which, int argc, char **argv, int *code)
{
    const struct {
        unsigned which;
        struct arg arg;
    } all[] = {
        { BENCH_SIZE,
          { "size", ARG_SIZE, &o->size, "BYTES", "of a body", 16,
            BODY_LEN_MAX } },
        { BENCH_COUNT,
          { "count", ARG_COUNT, &o->count, "N",
            "messages to publish and measure", 1, 1000000000 } },
        { BENCH_WINDOW,
          { "window", ARG_COUNT, &o->window, "N",
            "unconfirmed messages of a producer at most", 1, WINDOW_MAX } },
        { BENCH_RATE,
          { "rate", ARG_COUNT, &o->rate, "N", "messages a second", 1,
            RATE_MAX } },
        { BENCH_CONNECTIONS,
          { "connections", ARG_COUNT, &o->connections, "N",
            "connections at once", 0, CONNECTIONS_MAX } },
        { BENCH_GROUPS,
          { "groups", ARG_COUNT, &o->groups, "N",
            "groups, and a topic for each", 0, GROUP_COUNT_MAX } },
        { BENCH_SECONDS,
          { "seconds", ARG_SECONDS, &o->seconds_ms, "SECONDS",
            "how long to watch", 100, 3600 * 1000 } },
        { BENCH_PID,
          { "pid", ARG_COUNT, &o->pid, "PID",
            "the broker's process, when its /metrics does not tell", 1,
            INT32_MAX } },
    };
    static char helps[ARGS_MAX][96]; /* with the defaults of this bench */
    struct arg table[ARGS_MAX] = { 0 };
    size_t count = 0;
    struct parsed parsed;

    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if ((all[i].which & which) != 0) {
            table[count] = all[i].arg;
            table[count].help =
                with_default(helps[count], sizeof helps[count], &all[i].arg);
            count++;
        }
    }
    table[count++] =
        (struct arg) { "json", ARG_FLAG, &o->json, NULL, "the figures as JSON",
                       0,      0 };
    CHECK(count < ARGS_MAX);
    if (!command_parse(&parsed, help, table, session_args(&o->session), 0, 0,
                       argc, argv)) {
        *code = parsed.code;
        return false;
    }
    *code = session_resolve(&o->session);
    return *code == EXIT_OK;
}

/* ---- a place on the broker ---- */

const char *bench_group(const struct bench_place *place, size_t index,
                        char name[64])
{
    snprintf(name, 64, "%s-%zu", place->topic, index);
    return name;
}

int bench_make(struct session *s, const char *path, const char *name,
               const char *topic)
{
    struct json_writer w = { 0 };
    const char *text;
    int code;

    json_begin(&w, NULL, '{');
    json_put_text(&w, "name", slice_text(name));
    if (topic != NULL) {
        json_put_split(&w, "topics", topic);
        json_put_text(&w, "from", slice_text("earliest"));
    }
    json_end(&w, '}');
    text = json_done(&w);
    code = text != NULL ? session_call(s, "POST", path, text, NULL)
                        : fail(EXIT_FAILED, "out of memory");
    json_writer_fini(&w);
    return code;
}

int bench_place_open(struct bench_place *place, struct bench_options *o,
                     size_t group_count)
{
    uint32_t random = 0;
    char name[64];
    int code;

    *place = (struct bench_place) { 0 };
    (void)!getrandom(&random, sizeof random, 0);
    snprintf(place->topic, sizeof place->topic, "bench-%08x", random);
    code = session_open_http(&place->admin, &o->session);
    if (code != EXIT_OK) {
        return code;
    }
    code = bench_make(&place->admin, "/v1/topics", place->topic, NULL);
    if (code != EXIT_OK) {
        session_close(&place->admin);
        return code;
    }
    while (code == EXIT_OK && place->group_count < group_count) {
        code = bench_make(&place->admin, "/v1/groups",
                          bench_group(place, place->group_count, name),
                          place->topic);
        place->group_count += code == EXIT_OK;
    }
    if (code != EXIT_OK) {
        bench_place_close(place);
    }
    return code;
}

void bench_place_close(struct bench_place *place)
{
    char path[128];
    char name[64];

    if (place->admin.client == NULL) {
        return;
    }
    for (size_t i = 0; i < place->group_count; i++) {
        snprintf(path, sizeof path, "/v1/groups/%s",
                 bench_group(place, i, name));
        (void)session_call(&place->admin, "DELETE", path, NULL, NULL);
    }
    snprintf(path, sizeof path, "/v1/topics/%s", place->topic);
    (void)session_call(&place->admin, "DELETE", path, NULL, NULL);
    session_close(&place->admin);
}

/* ---- the outcome ---- */

static void report_settings(struct report *r, const struct bench_options *o,
                            unsigned which)
{
    const struct {
        unsigned which;
        const char *name;
        uint64_t value;
    } settings[] = { { BENCH_SIZE, "size", o->size },
                     { BENCH_WINDOW, "window", o->window },
                     { BENCH_RATE, "rate", o->rate },
                     { BENCH_CONNECTIONS, "connections", o->connections },
                     { BENCH_GROUPS, "groups", o->groups } };
    const char *separator = ": ";
    char text[HUMAN_LEN];

    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        if ((settings[i].which & which) == 0) {
            continue;
        }
        if (r->json) {
            json_put_number(&r->w, settings[i].name, settings[i].value);
        } else {
            printf("%s%s %s", separator, settings[i].name,
                   human_count(text, settings[i].value));
            separator = ", ";
        }
    }
}

void report_begin(struct report *r, const struct bench_options *o,
                  const char *name, unsigned which)
{
    *r = (struct report) { .json = o->json };
    if (r->json) {
        json_begin(&r->w, NULL, '{');
        json_put_text(&r->w, "bench", slice_text(name));
    } else {
        printf("%s", name);
    }
    report_settings(r, o, which);
    if (!r->json) {
        putchar('\n');
    }
}

void report_count(struct report *r, const char *label, const char *field,
                  uint64_t value)
{
    char text[HUMAN_LEN];

    if (r->json) {
        json_put_number(&r->w, field, value);
    } else {
        printf("  %-20s %12s\n", label, human_count(text, value));
    }
}

void report_real(struct report *r, const char *label, const char *field,
                 double value, const char *unit)
{
    char text[HUMAN_LEN];

    if (r->json) {
        json_put_real(&r->w, field, value);
    } else {
        printf("  %-20s %12s %s\n", label, human_real(text, value), unit);
    }
}

void report_bytes(struct report *r, const char *label, const char *field,
                  double value, const char *unit)
{
    char text[HUMAN_LEN];

    if (r->json) {
        json_put_real(&r->w, field, value);
    } else { /* the number in its column, "MiB/s" behind it */
        size_t digits = strcspn(human_bytes(text, value), " ");

        printf("  %-20s %12.*s%s%s\n", label, (int)digits, text, text + digits,
               unit);
    }
}

void report_latency(struct report *r, const char *label, const char *field,
                    const struct histogram *h)
{
    static const struct {
        const char *label;
        const char *field;
        double percent;
    } points[] = { { "p50", "p50", 50 },
                   { "p90", "p90", 90 },
                   { "p99", "p99", 99 },
                   { "p99.9", "p99_9", 99.9 },
                   { "max", "max", 100 } };
    char text[HUMAN_LEN];

    if (r->json) {
        json_begin(&r->w, field, '{');
    }
    for (size_t i = 0; i < COUNT_OF(points); i++) {
        uint64_t ns = histogram_percentile(h, points[i].percent);

        if (r->json) {
            json_put_real(&r->w, points[i].field, (double)ns / 1e3);
        } else {
            size_t digits = strcspn(human_duration(text, ns), " ");

            printf("  %-15s%6s %11.*s%s\n", i == 0 ? label : "",
                   points[i].label, (int)digits, text, text + digits);
        }
    }
    if (r->json) {
        json_put_real(&r->w, "mean", histogram_mean(h) / 1e3);
        json_end(&r->w, '}');
    }
}

void report_end(struct report *r)
{
    if (r->json) {
        const char *text;

        json_end(&r->w, '}');
        text = json_done(&r->w);
        puts(text != NULL ? text : "");
        json_writer_fini(&r->w);
    }
}

int cmd_bench(int argc, char **argv)
{
    static const struct command commands[] = {
        { "publish",
          "confirmed messages a second, and how long a confirm takes",
          bench_publish },
        { "endtoend", "one producer to one push subscriber that acks each",
          bench_endtoend },
        { "latency", "at a fixed rate, from the intended send time to delivery",
          bench_latency },
        { "fanout", "one producer to many groups", bench_fanout },
        { "idle", "what an idle connection costs the broker", bench_idle },
        { "restart", "from the start of a killed broker to its first delivery",
          bench_restart },
        { NULL, NULL, NULL },
    };

    return command_dispatch(commands, "godwit bench",
                            "Measures a broker with load made here, in one "
                            "process. Makes a topic and\n"
                            "groups named bench-... for itself and deletes "
                            "them at the end, so it needs\n"
                            "the credentials of an admin app. A confirm means "
                            "that the message is on\n"
                            "the broker's disk. Broker and load share the "
                            "machine when they run on one:\n"
                            "the figures are then of both.\n",
                            NULL, argc, argv);
}
