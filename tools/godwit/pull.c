/* godwit pull: batches fetched over HTTP, to stdout, each acked as a whole
 * after it was written. */
#include "tools/godwit/commands.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/outlet.h"
#include "tools/godwit/session.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { POLL_SLICE_MS = 1000, RETRY_MS = 200 };

static const struct help help = {
    .usage = "godwit pull GROUP [options]",
    .text =
        "Fetches messages of a group over HTTP and prints their bodies, one "
        "line a\n"
        "message (with --json: one object a line, with topic, seq, attempt, "
        "time,\n"
        "key, headers and body). Each batch is acked after it was written. "
        "Ends\n"
        "after --count messages, or when none has come for --wait seconds.\n"
        "\n"
        "With --no-ack nothing is acked: what was shown comes again when its "
        "lease\n"
        "has run out.\n",
    .examples = "  godwit pull warehouse\n"
                "  godwit pull warehouse --count 10 --json | jq -r .key\n"
                "  godwit pull warehouse --max 500 --wait 30\n",
};

struct options {
    const char *group;
    uint64_t count; /* 0: until a pull comes back empty */
    uint64_t max;
    uint64_t wait_ms;
    uint64_t give_up_ms;
    bool no_ack;
    bool json;
    bool quiet;
};

struct pull {
    const struct options *options;
    struct session session;
    struct outlet outlet;
    uint64_t pulled;
    uint64_t accepted;
    bool ack_failed; /* the last one; earlier ones came again */
    uint64_t requests;
    uint64_t first_ns;
    uint64_t last_ns;
};

/* The next batch, waiting in slices so that Ctrl-C is heard. */
static enum godwit_status next_batch(struct pull *p, struct godwit_batch **out)
{
    const struct options *o = p->options;
    uint64_t deadline_ns = now_ns() + o->wait_ms * 1000000;
    uint64_t left = o->count == 0 ? o->max : o->count - p->pulled;
    uint32_t max = (uint32_t)(left < o->max ? left : o->max);

    for (;;) {
        uint64_t now = now_ns();
        uint64_t wait_ms =
            now < deadline_ns ? (deadline_ns - now) / 1000000 : 0;
        enum godwit_status status;

        if (wait_ms > POLL_SLICE_MS) {
            wait_ms = POLL_SLICE_MS;
        }
        status = godwit_pull(p->session.client, o->group, max,
                             (uint32_t)wait_ms, out);
        p->requests++;
        if (status != GODWIT_OK || godwit_batch_count(*out) > 0
            || now_ns() >= deadline_ns || interrupted()) {
            return status;
        }
        godwit_batch_free(*out);
        *out = NULL;
    }
}

/* The connection is away: may it come back? */
static bool may_retry(const struct pull *p, enum godwit_status status,
                      uint64_t lost_ns)
{
    bool transport = status == GODWIT_IO || status == GODWIT_CLOSED
                     || status == GODWIT_TIMEOUT;

    return transport && p->requests > 1 && !interrupted()
           && now_ns() - lost_ns < p->options->give_up_ms * 1000000;
}

static void pause_ms(int ms)
{
    struct pollfd fd = { .fd = interrupt_fd(), .events = POLLIN };

    (void)poll(&fd, 1, ms);
}

static enum godwit_status pull_patiently(struct pull *p,
                                         struct godwit_batch **out)
{
    uint64_t lost_ns = 0;
    enum godwit_status status;

    for (;;) {
        status = next_batch(p, out);
        if (status == GODWIT_OK) {
            return status;
        }
        if (lost_ns == 0) {
            lost_ns = now_ns();
            if (may_retry(p, status, lost_ns)) {
                (void)session_failed(&p->session, "trying again", status);
            }
        }
        if (!may_retry(p, status, lost_ns)) {
            return status;
        }
        pause_ms(RETRY_MS);
    }
}

static int print_batch(struct pull *p, const struct godwit_batch *batch)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; i < godwit_batch_count(batch) && status == STATUS_OK;
         i++) {
        status =
            outlet_add(&p->outlet, godwit_batch_at(batch, i), p->options->json);
    }
    if (status == STATUS_OK) {
        status = outlet_write(&p->outlet, STDOUT_FILENO);
    }
    outlet_clear(&p->outlet);
    switch ((int)status) {
    case STATUS_OK:
        return EXIT_OK;
    case STATUS_CLOSED: /* `| head` has had enough */
        return EXIT_FAILED;
    case STATUS_IO:
        return fail(EXIT_FAILED, "writing to stdout: %s", strerror(errno));
    default:
        return fail(EXIT_FAILED, "%s", status_text(status));
    }
}

/* Write a batch out and ack it. */
static int take_batch(struct pull *p, struct godwit_batch *batch)
{
    uint64_t accepted = 0;
    enum godwit_status status;
    int code = print_batch(p, batch);

    if (code != EXIT_OK) {
        return code;
    }
    p->last_ns = now_ns();
    p->pulled += godwit_batch_count(batch);
    if (p->options->no_ack) {
        return EXIT_OK;
    }
    status = godwit_batch_ack(p->session.client, batch, &accepted);
    p->accepted += accepted;
    p->ack_failed = accepted < godwit_batch_count(batch);
    if (status
        != GODWIT_OK) { /* the messages may come again, nothing is lost */
        (void)session_failed(&p->session, "acking failed", status);
    }
    return EXIT_OK;
}

static int pull_all(struct pull *p)
{
    const struct options *o = p->options;
    int code = EXIT_OK;

    p->first_ns = now_ns();
    p->last_ns = p->first_ns;
    while (code == EXIT_OK && !interrupted()
           && (o->count == 0 || p->pulled < o->count)) {
        struct godwit_batch *batch = NULL;
        enum godwit_status status = pull_patiently(p, &batch);

        if (status != GODWIT_OK) {
            return session_failed(&p->session, o->group, status);
        }
        if (godwit_batch_count(batch) == 0) {
            godwit_batch_free(batch);
            break;
        }
        code = take_batch(p, batch);
        godwit_batch_free(batch);
    }
    return code;
}

static void print_summary(const struct pull *p)
{
    double seconds = (double)(p->last_ns - p->first_ns) / 1e9;
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];

    fprintf(stderr, "%s: %s %s", p->options->group, human_count(a, p->pulled),
            plural(p->pulled, "message", "messages"));
    if (p->pulled > 0 && seconds > 0) {
        fprintf(stderr, " in %s, %s/s",
                human_duration(b, p->last_ns - p->first_ns),
                human_real(a, (double)p->pulled / seconds));
    }
    if (p->options->no_ack) {
        fputs("; none acked\n", stderr);
        return;
    }
    fprintf(stderr, "; %s %s accepted", human_count(a, p->accepted),
            plural(p->accepted, "ack", "acks"));
    if (p->accepted < p->pulled) {
        fprintf(stderr, ", %s not (these come again)",
                human_count(a, p->pulled - p->accepted));
    }
    fputc('\n', stderr);
}

static int run(struct pull *p, struct session_options *so)
{
    int code = session_open_http(&p->session, so);

    if (code != EXIT_OK) {
        return code;
    }
    code = pull_all(p);
    session_close(&p->session);
    if (!p->options->quiet && (code == EXIT_OK || p->pulled > 0)) {
        print_summary(p);
    }
    outlet_fini(&p->outlet);
    return code == EXIT_OK && p->ack_failed ? EXIT_FAILED : code;
}

int cmd_pull(int argc, char **argv)
{
    struct session_options so;
    struct options o = { .max = 100, .wait_ms = 5000, .give_up_ms = 60000 };
    const struct arg table[] = {
        { "count", ARG_COUNT, &o.count, "N", "end after N messages", 1,
          UINT64_MAX },
        { "max", ARG_COUNT, &o.max, "N",
          "messages in one batch at most; default 100", 1, PULL_COUNT_MAX },
        { "wait", ARG_SECONDS, &o.wait_ms, "SECONDS",
          "wait so long for a message; default 5, 0 does not wait", 0,
          24 * 3600 * 1000 },
        { "no-ack", ARG_FLAG, &o.no_ack, NULL, "show without taking", 0, 0 },
        { "json", ARG_FLAG, &o.json, NULL, "one JSON object a line", 0, 0 },
        { "give-up", ARG_SECONDS, &o.give_up_ms, "SECONDS",
          "end when a lost broker stays away so long; default 60", 0,
          24 * 3600 * 1000 },
        { "quiet", ARG_FLAG, &o.quiet, NULL, "only errors on stderr", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct pull p = { .options = &o };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    o.group = parsed.operands.at[0];
    if (!check_name("group", o.group)) {
        return EXIT_USAGE;
    }
    code = session_resolve(&so);
    return code != EXIT_OK ? code : run(&p, &so);
}
