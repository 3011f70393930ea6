/* godwit tail: the last messages of a topic, and those that come. Waiting costs
 * nobody anything: each request stays with the broker until there is something
 * to show. */
#include "tools/godwit/commands.h"

#include "proto/limits.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/look.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

enum { WAIT_SECONDS = 20, RETRY_MS = 500, COUNT_DEFAULT = 10 };

static const struct help help = {
    .usage = "godwit tail TOPIC [options]",
    .text =
        "Prints the last messages of a topic, one line each: seq, time, key, "
        "tag,\nheaders and body (with --json: one object a line); then those "
        "that come, until\nCtrl-C. No group knows of it: nothing is taken or "
        "acked. When the connection is\nlost it is made again, and nothing is "
        "left out.\n",
    .examples = "  godwit tail orders\n"
                "  godwit tail orders -n 100 --no-follow\n"
                "  godwit tail orders --filter 'region == \"cn\"'\n"
                "  godwit tail orders -n 0 --json | jq -r .body\n",
};

struct options {
    const char *topic;
    struct look_options look;
    uint64_t count;
    uint64_t give_up_ms;
    bool no_follow;
    bool json;
    bool full;
};

struct tail {
    const struct options *o;
    struct session session;
    struct message_style style;
    uint64_t next;
    uint64_t lost_ns; /* since when the broker is away; 0: it is not */
    /* held while there is something to finish: who has it may end the process */
    pthread_mutex_t busy;
};

/* Ctrl-C while a request waits ends the command at once, but never in the
 * middle of a line. */
static void *end_when_interrupted(void *arg)
{
    struct tail *t = arg;
    struct pollfd fd = { .fd = interrupt_fd(), .events = POLLIN };

    while (poll(&fd, 1, -1) < 1) {
    }
    pthread_mutex_lock(&t->busy);
    _exit(EXIT_OK);
}

static bool start_watch(struct tail *t)
{
    pthread_t thread;

    pthread_mutex_lock(&t->busy);
    if (interrupt_fd() < 0
        || pthread_create(&thread, NULL, end_when_interrupted, t) != 0) {
        return false;
    }
    pthread_detach(thread);
    return true;
}

static bool put_path(struct query *q, const struct tail *t)
{
    const struct options *o = t->o;

    query_path(q, "/v1/topics/%s/messages", o->topic);
    if (t->next == 0) {
        query_number(q, "newest", o->count > 0 ? o->count : 1);
    } else {
        query_number(q, "from", t->next);
        query_number(q, "max", PULL_COUNT_MAX);
        query_number(q, "wait", WAIT_SECONDS);
    }
    return look_query(q, &o->look);
}

static void tell_deleted(const struct json *deleted)
{
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];

    if (deleted != NULL) {
        fprintf(stderr, "godwit: messages %s to %s were deleted meanwhile\n",
                human_count(a, json_number(json_get(deleted, "first"), 0)),
                human_count(b, json_number(json_get(deleted, "last"), 0)));
    }
}

static int take(struct tail *t, const struct json *answer)
{
    bool shown = t->next > 0 || t->o->count > 0;
    enum status status = STATUS_OK;

    t->next = json_number(json_get(answer, "next_seq"), 1);
    tell_deleted(json_get(answer, "deleted"));
    if (shown) {
        status = look_print(answer, &t->style, NULL);
    }
    return status == STATUS_OK ? EXIT_OK : look_print_failed(status);
}

/* The broker is away: wait a little, if it may still come back. */
static int wait_for_broker(struct tail *t)
{
    const struct options *o = t->o;
    char text[HUMAN_LEN];

    if (t->lost_ns == 0) {
        t->lost_ns = now_ns();
        fprintf(stderr,
                "godwit: no connection to the broker (%s); trying "
                "again\n",
                t->session.url);
    } else if (now_ns() - t->lost_ns >= o->give_up_ms * 1000000) {
        return fail(EXIT_UNREACHABLE, "the broker stays away for %s",
                    human_about(text, o->give_up_ms * 1000));
    }
    pthread_mutex_unlock(&t->busy);
    (void)poll(NULL, 0, RETRY_MS);
    pthread_mutex_lock(&t->busy);
    return EXIT_OK;
}

static int ask(struct tail *t, const char *path, struct json **answer,
               bool *lost)
{
    int code;

    pthread_mutex_unlock(&t->busy);
    if (t->next == 0) { /* a broker that never was there is not waited for */
        code = session_call(&t->session, "GET", path, NULL, answer);
    } else {
        code = session_try(&t->session, path, answer, lost);
    }
    pthread_mutex_lock(&t->busy);
    return code;
}

static int look_once(struct tail *t)
{
    struct query path = { 0 };
    struct json *answer = NULL;
    bool lost = false;
    int code = EXIT_USAGE;

    if (put_path(&path, t)) {
        code = ask(t, query_done(&path), &answer, &lost);
    }
    if (lost) {
        code = wait_for_broker(t);
    } else if (code == EXIT_OK) {
        if (t->lost_ns > 0) {
            fprintf(stderr, "godwit: connected to %s again\n", t->session.url);
            t->lost_ns = 0;
        }
        code = take(t, answer);
    }
    json_free(answer);
    query_fini(&path);
    return code;
}

static int run(struct tail *t, struct session_options *so)
{
    int code = session_open_http(&t->session, so);
    bool watched = code == EXIT_OK && start_watch(t);

    if (code != EXIT_OK) {
        return code;
    }
    do {
        code = look_once(t);
    } while (code == EXIT_OK && (!t->o->no_follow || t->next == 0)
             && (watched || !interrupted()));
    session_close(&t->session);
    return code;
}

int cmd_tail(int argc, char **argv)
{
    struct session_options so;
    struct options o = { .count = COUNT_DEFAULT, .give_up_ms = 60000 };
    const struct arg table[] = {
        LOOK_ARGS(&o.look),
        { "count", ARG_COUNT, &o.count, "N",
          "begin with the last N that match; default 10", 0, PULL_COUNT_MAX },
        { "no-follow", ARG_FLAG, &o.no_follow, NULL, "and end then", 0, 0 },
        { "give-up", ARG_SECONDS, &o.give_up_ms, "SECONDS",
          "end when a lost broker stays away so long; default 60", 0,
          24 * 3600 * 1000 },
        { "json", ARG_FLAG, &o.json, NULL, "one JSON object a line", 0, 0 },
        { "full", ARG_FLAG, &o.full, NULL,
          "long bodies as a whole on a terminal too", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct tail t = { .o = &o, .busy = PTHREAD_MUTEX_INITIALIZER };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    o.topic = parsed.operands.at[0];
    if (!check_name("topic", o.topic)) {
        return EXIT_USAGE;
    }
    t.style = message_style_of_stdout(o.json, o.full);
    so.filter = o.look.headers.count == 0 ? o.look.filter : NULL;
    code = session_resolve(&so);
    return code != EXIT_OK ? code : run(&t, &so);
}
