/* bench idle: authenticated connections that do nothing, and what they cost the
 * broker in memory and processor time. */
#include "tools/bench/clients.h"
#include "tools/bench/report.h"
#include "tools/bench/usage.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    OPTIONS = BENCH_CONNECTIONS | BENCH_GROUPS | BENCH_SECONDS | BENCH_PID,
    SHOWN = BENCH_CONNECTIONS | BENCH_GROUPS
};

static const struct help help = {
    .usage = "godwit bench idle [options]",
    .text =
        "Opens --connections authenticated connections, makes --groups groups "
        "with a\n"
        "topic each, leaves them alone for --seconds, and prints how much "
        "memory and\n"
        "processor time the broker used for them. The figures come from the "
        "broker's\n"
        "/metrics or, with --pid, from /proc on the same machine. Measure just "
        "after\n"
        "the broker's start: memory that it has used before is used again and "
        "counts\n"
        "as nothing.\n",
    .examples = "  godwit bench idle --connections 1000\n"
                "  godwit bench idle --connections 10k --seconds 30\n",
};

static void raise_file_limit(uint64_t wanted)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted + 64) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Answer pings, else sleep. */
static int watch(struct clients *clients, const struct bench_options *o)
{
    uint64_t end = now_ns() + o->seconds_ms * 1000000;
    int code = EXIT_OK;

    while (now_ns() < end && !interrupted()
           && !clients_broken(clients, &code)) {
        clients_turn(clients, end);
    }
    return interrupted() ? EXIT_INTERRUPTED : code;
}

/* What one of them costs, when there is only one kind. */
static void report_each(struct report *r, const struct bench_options *o,
                        double grown)
{
    report_bytes(r, "grown by", "rss_bytes_grown", grown, "");
    if (o->groups == 0 && o->connections > 0) {
        report_bytes(r, "for a connection", "rss_bytes_per_connection",
                     grown / (double)o->connections, "");
    } else if (o->connections == 0 && o->groups > 0) {
        report_bytes(r, "for group and topic", "rss_bytes_per_group",
                     grown / (double)o->groups, "");
    }
}

static int print_report(const struct bench_options *o, double seconds,
                        const struct usage *before,
                        const struct usage *connected,
                        const struct usage *after)
{
    struct report r;
    bool known = before->known && connected->known && after->known;
    double grown = known ? after->rss_bytes - before->rss_bytes : NAN;
    double used = known ? after->cpu_seconds - connected->cpu_seconds : NAN;

    report_begin(&r, o, "idle", SHOWN);
    report_real(&r, "watched for", "seconds", seconds, "s");
    report_bytes(&r, "broker's memory", "rss_bytes",
                 known ? after->rss_bytes : NAN, "");
    report_each(&r, o, grown < 0 ? 0 : grown);
    report_real(&r, "broker's processor", "cpu_percent", used / seconds * 100,
                "% of a core");
    report_end(&r);
    if (interrupted()) {
        return EXIT_INTERRUPTED;
    }
    if (!known) {
        return fail(EXIT_FAILED,
                    "the broker's memory and processor time are not known: "
                    "give its process with --pid");
    }
    if (grown <= 0) {
        fprintf(stderr, "The broker's memory did not grow: it reused what it "
                        "had. Measure just after its start.\n");
    }
    return EXIT_OK;
}

/* ---- groups, each with a topic ---- */

struct made {
    char name[40]; /* of all of them, before the number */
    uint64_t topics;
    uint64_t groups;
};

static int make_groups(struct made *made, struct session *s,
                       const struct bench_options *o)
{
    struct progress progress;
    int code = EXIT_OK;

    bench_name_begin(made->name);
    progress_begin(&progress, "groups", o->groups);
    while (code == EXIT_OK && made->groups < o->groups && !interrupted()) {
        char name[64];

        snprintf(name, sizeof name, "%s-%" PRIu64, made->name, made->groups);
        code = bench_make(s, "/v1/topics", name, NULL);
        made->topics += code == EXIT_OK;
        if (code == EXIT_OK) {
            code = bench_make(s, "/v1/groups", name, name);
            made->groups += code == EXIT_OK;
        }
        progress_show(&progress, made->groups);
    }
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static bool delete_each(struct session *s, const char *kind,
                        const struct made *made, uint64_t count)
{
    char name[64];
    bool there = true;

    for (uint64_t i = 0; there && i < count; i++) {
        snprintf(name, sizeof name, "%s-%" PRIu64, made->name, i);
        there = bench_delete(s, kind, name);
    }
    return there;
}

static void delete_groups(const struct made *made, struct session *s)
{
    bench_name_end(!delete_each(s, "groups", made, made->groups)
                   || !delete_each(s, "topics", made, made->topics));
}

static int connect_all(struct clients *clients, const struct bench_options *o)
{
    int code = EXIT_OK;

    for (uint64_t i = 0; code == EXIT_OK && i < o->connections; i++) {
        code = clients_add(clients, o, 1);
    }
    return code == EXIT_OK ? clients_connect(clients, o) : code;
}

static int measure(struct clients *clients, struct session *s,
                   const struct bench_options *o, struct made *made)
{
    struct usage before = usage_of_broker(s, o->pid);
    struct usage connected = { 0 };
    struct usage after = { 0 };
    uint64_t begin_ns = now_ns();
    int code = make_groups(made, s, o);

    if (code == EXIT_OK) {
        code = connect_all(clients, o);
    }
    if (code == EXIT_OK) {
        connected = usage_of_broker(s, o->pid);
        begin_ns = now_ns();
        code = watch(clients, o);
        after = usage_of_broker(s, o->pid);
    }
    return code == EXIT_OK || code == EXIT_INTERRUPTED
               ? print_report(o, (double)(now_ns() - begin_ns) / 1e9, &before,
                              &connected, &after)
               : code;
}

int bench_idle(int argc, char **argv)
{
    struct bench_options o = { .connections = 100, .seconds_ms = 5000 };
    struct session session = { 0 };
    struct made made = { 0 };
    struct clients *clients;
    int code;

    if (!bench_parse(&o, &help, OPTIONS, argc, argv, &code)) {
        return code;
    }
    if (o.pid != 0 && kill((pid_t)o.pid, 0) != 0 && errno == ESRCH) {
        return fail(EXIT_FAILED, "--pid: no process %" PRIu64, o.pid);
    }
    raise_file_limit(o.connections);
    code = session_open_http(&session, &o.session);
    if (code != EXIT_OK) {
        return code;
    }
    clients = clients_new(o.connections + 1);
    code = clients != NULL ? measure(clients, &session, &o, &made)
                           : fail(EXIT_FAILED, "out of memory");
    clients_free(clients);
    delete_groups(&made, &session);
    session_close(&session);
    return code;
}
