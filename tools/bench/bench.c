#include "tools/bench/bench.h"

#include "proto/limits.h"
#include "tools/godwit/commands.h"
#include "tools/godwit/interrupt.h"

#include <sys/random.h>

enum { CALL_MS = 30 * 1000 };

/* ---- what a run has on the broker ---- */

static char stays_line[128];

void bench_name_begin(char name[40])
{
    uint32_t random = 0;

    (void)!getrandom(&random, sizeof random, 0);
    snprintf(name, 40, "bench-%08x", random);
    snprintf(stays_line, sizeof stays_line,
             "godwit: %s-* stays on the broker: delete its topics and "
             "groups\n",
             name);
    interrupt_leaves(stays_line);
}

void bench_name_end(bool stays)
{
    interrupt_leaves(NULL);
    if (stays) {
        fputs(stays_line, stderr);
    }
}

const char *bench_name(const struct bench_setup *setup, size_t index,
                       char name[64])
{
    snprintf(name, 64, "%s-%zu", setup->name, index);
    return name;
}

int bench_make(struct session *s, const char *path, const char *name,
               const char *topics)
{
    struct json_writer w = { 0 };
    const char *text;
    int code;

    json_begin(&w, NULL, '{');
    json_put_text(&w, "name", slice_text(name));
    if (topics != NULL) {
        json_put_split(&w, "topics", topics);
        json_put_text(&w, "from", slice_text("earliest"));
        json_begin(&w, "backoff_ms", '[');
        json_put_number(&w, NULL, BENCH_BACKOFF_MS);
        json_end(&w, ']');
    }
    json_end(&w, '}');
    text = json_done(&w);
    code = text != NULL ? session_call(s, "POST", path, text, NULL)
                        : fail(EXIT_FAILED, "out of memory");
    json_writer_fini(&w);
    return code;
}

/* The topics with commas between. */
static void list_topics(const struct bench_setup *setup, char *text, size_t len)
{
    char name[64];
    size_t at = 0;

    for (size_t i = 0; i < setup->topic_count && at < len; i++) {
        at += (size_t)snprintf(text + at, len - at, "%s%s", i > 0 ? "," : "",
                               bench_name(setup, i, name));
    }
    CHECK(at < len);
}

int bench_setup_open(struct bench_setup *setup, struct bench_options *o,
                     size_t topic_count, size_t group_count)
{
    static char topics[BENCH_TOPICS_MAX * 64];
    char name[64];
    int code;

    CHECK(topic_count <= BENCH_TOPICS_MAX);
    *setup = (struct bench_setup) { 0 };
    bench_name_begin(setup->name);
    code = session_open_http(&setup->admin, &o->session);
    while (code == EXIT_OK && setup->topic_count < topic_count) {
        code = bench_make(&setup->admin, "/v1/topics",
                          bench_name(setup, setup->topic_count, name), NULL);
        setup->topic_count += code == EXIT_OK;
    }
    list_topics(setup, topics, sizeof topics);
    while (code == EXIT_OK && setup->group_count < group_count) {
        code = bench_make(&setup->admin, "/v1/groups",
                          bench_name(setup, setup->group_count, name), topics);
        setup->group_count += code == EXIT_OK;
    }
    if (code != EXIT_OK) {
        bench_setup_close(setup);
    }
    return code;
}

bool bench_delete(struct session *s, const char *kind, const char *name)
{
    struct godwit_response response = { 0 };
    char path[128];
    enum godwit_status status;

    snprintf(path, sizeof path, "/v1/%s/%s", kind, name);
    status = godwit_call(s->client, "DELETE", path, NULL, &response, CALL_MS);
    if (status == GODWIT_OK && response.code >= 400) {
        fail(EXIT_FAILED, "%s of this run stays (HTTP %d to DELETE)", path,
             response.code);
    }
    godwit_response_fini(&response);
    return status == GODWIT_OK;
}

void bench_setup_close(struct bench_setup *setup)
{
    bool there = true;
    char name[64];

    while (there && setup->group_count > 0) {
        there = bench_delete(&setup->admin, "groups",
                             bench_name(setup, --setup->group_count, name));
    }
    while (there && setup->topic_count > 0) {
        there = bench_delete(&setup->admin, "topics",
                             bench_name(setup, --setup->topic_count, name));
    }
    bench_name_end(!there);
    session_close(&setup->admin);
}

int bench_outcome(int code, int (*print)(const struct bench_options *o),
                  const struct bench_options *o)
{
    if (code == EXIT_OK) {
        return print(o);
    }
    if (code == EXIT_INTERRUPTED) {
        (void)print(o);
    }
    return code;
}

int cmd_bench(int argc, char **argv)
{
    static const struct command commands[] = {
        { "publish",
          "confirmed messages a second, and how long a confirm takes",
          bench_publish },
        { "endtoend", "producers to consumers of one group that ack each",
          bench_endtoend },
        { "latency", "at a fixed rate, from the intended send time to delivery",
          bench_latency },
        { "fanout", "one producer to many groups", bench_fanout },
        { "mixed", "topics, groups, push, pull and nacks at the same time",
          bench_mixed },
        { "idle", "what an idle connection costs the broker", bench_idle },
        { "restart", "from the start of a killed broker to its first delivery",
          bench_restart },
        { "disk", "what the disk and loopback can do, without a broker",
          bench_disk },
        { NULL, NULL, NULL },
    };

    return command_dispatch(commands, "godwit bench",
                            "Measures a broker with load made here, in one "
                            "process. Makes topics and\n"
                            "groups named bench-... for itself and deletes "
                            "them at the end, so it needs\n"
                            "the credentials of an admin app. A confirm means "
                            "that the message is on\n"
                            "the broker's disk. Broker and load share the "
                            "machine when they run on one:\n"
                            "the figures are then of both.\n",
                            NULL, argc, argv);
}
