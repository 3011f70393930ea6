/* godwit sub: what is pushed to a group, to stdout. The client's thread puts
 * deliveries into an outlet; the main thread writes it out and then acks. */
#include "tools/godwit/commands.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/outlet.h"
#include "tools/godwit/session.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CREDIT_DEFAULT = 1000, FLUSH_STEP_MS = 200, FLUSH_MAX_MS = 10000 };

static const struct help help = {
    .usage = "godwit sub GROUP [options]",
    .text = "Attaches to a group over WebSocket and prints the body of each "
            "message\n"
            "that is pushed, one line a message (with --json: one object a "
            "line, with\n"
            "topic, seq, attempt, time, key, tag, headers, body and so on). A "
            "message is\n"
            "acked after its line was written. Runs until --count, --idle, "
            "Ctrl-C or "
            "SIGTERM;\n"
            "then the last acks are sent and their outcomes awaited.\n"
            "\n"
            "With --no-ack nothing is acked: what was shown goes back to the "
            "group when\n"
            "the command ends (or earlier, when its lease runs out). With "
            "--nack each\n"
            "message counts as failed and comes again after the group's "
            "backoff, with\n"
            "--reject it is dead at once; --reason stands in its history.\n",
    .examples = "  godwit sub billing\n"
                "  godwit sub billing --count 10 --json | jq -r .key\n"
                "  godwit sub billing --no-ack --idle 2       # just look\n"
                "  godwit sub billing --count 1 --reject --reason 'bad date'\n",
};

struct options {
    const char *group;
    uint64_t count; /* 0: no end */
    uint64_t idle_ms;
    uint64_t credit;
    bool no_ack;
    bool nack;
    bool reject;
    enum godwit_action action; /* of the three */
    const char *reason;
    uint64_t delay_ms;
    bool json;
    bool quiet;
};

struct sub {
    const struct options *options;
    struct session session;
    int arrived_fd;
    /* main thread */
    struct outlet writing;
    uint64_t written;
    /* guarded by `lock`: the client's thread fills, the main thread takes */
    pthread_mutex_t lock;
    struct outlet arriving;
    uint64_t arrived;
    uint64_t first_ns;
    /* the client's thread writes, the main thread reads */
    _Atomic uint64_t last_ns; /* a message came or an ack was accepted */
    _Atomic uint64_t accepted;
    _Atomic uint64_t late;
    _Atomic uint64_t unknown;
    _Atomic uint64_t missing; /* in gaps */
};

static enum godwit_verdict take(struct sub *sub,
                                const struct godwit_delivery *delivery)
{
    const struct options *o = sub->options;

    if (o->count != 0 && sub->arrived == o->count) {
        return GODWIT_LATER; /* more than was asked for: goes back in the end */
    }
    if (outlet_add(&sub->arriving, delivery, o->json) != STATUS_OK) {
        return GODWIT_NACK;
    }
    sub->last_ns = now_ns();
    if (sub->arrived == 0) {
        sub->first_ns = sub->last_ns;
    }
    sub->arrived++;
    if (sub->arriving.messages == 1) {
        (void)!eventfd_write(sub->arrived_fd, 1);
    }
    return GODWIT_LATER;
}

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *delivery)
{
    struct sub *sub = arg;
    enum godwit_verdict verdict;

    pthread_mutex_lock(&sub->lock);
    verdict = take(sub, delivery);
    pthread_mutex_unlock(&sub->lock);
    return verdict;
}

static void on_settled(void *arg, const char *topic, uint64_t first,
                       uint64_t last, const char *outcome,
                       enum godwit_status status)
{
    struct sub *sub = arg;
    uint64_t count = last - first + 1;

    (void)topic;
    (void)status;
    if (strcmp(outcome, "accepted") == 0) {
        atomic_fetch_add(&sub->accepted, count);
        sub->last_ns = now_ns();
    } else if (strcmp(outcome, "late") == 0) {
        atomic_fetch_add(&sub->late, count);
    } else {
        atomic_fetch_add(&sub->unknown, count);
    }
}

static void on_gap(void *arg, const char *topic, uint64_t first, uint64_t last)
{
    struct sub *sub = arg;

    atomic_fetch_add(&sub->missing, last - first + 1);
    fail(EXIT_FAILED,
         "%s: messages %" PRIu64 " to %" PRIu64
         " are damaged on the broker's disk and will not come",
         topic, first, last);
}

/* Settles what has just been written. */
static void settle_written(struct sub *sub)
{
    const struct options *o = sub->options;

    for (size_t i = 0; i < sub->writing.range_count; i++) {
        const struct outlet_range *r = &sub->writing.ranges[i];
        enum godwit_status status =
            godwit_settle(sub->session.client, o->action, r->topic, r->first,
                          r->last, o->delay_ms, o->reason);

        if (status != GODWIT_OK) {
            atomic_fetch_add(&sub->unknown, r->last - r->first + 1);
        }
    }
}

/* Write what has come and ack it. An exit code other than 0: stop. */
static int pass_on(struct sub *sub)
{
    struct outlet swap;
    enum status status;

    pthread_mutex_lock(&sub->lock);
    swap = sub->arriving;
    sub->arriving = sub->writing;
    sub->writing = swap;
    pthread_mutex_unlock(&sub->lock);
    status = outlet_write(&sub->writing, STDOUT_FILENO);
    if (status != STATUS_OK) {
        return status == STATUS_CLOSED
                   ? EXIT_FAILED /* `| head` has had enough */
                   : fail(EXIT_FAILED, "writing to stdout: %s",
                          strerror(errno));
    }
    if (!sub->options->no_ack) {
        settle_written(sub);
    }
    sub->written += sub->writing.messages;
    outlet_clear(&sub->writing);
    return EXIT_OK;
}

static bool all_there(const struct sub *sub)
{
    return sub->options->count != 0 && sub->written == sub->options->count;
}

/* How long to wait for the next message. */
static int wait_ms(const struct sub *sub)
{
    enum { LOOK_AT_STATE_MS = 500 };
    uint64_t idle = sub->options->idle_ms;

    return idle != 0 && idle < LOOK_AT_STATE_MS ? (int)idle : LOOK_AT_STATE_MS;
}

static int receive(struct sub *sub)
{
    uint64_t quiet_since = now_ns();
    int code = EXIT_OK;

    while (code == EXIT_OK && !all_there(sub) && !interrupted()
           && !atomic_load(&sub->session.ended)) {
        struct pollfd fds[2] = { { .fd = sub->arrived_fd, .events = POLLIN },
                                 { .fd = interrupt_fd(), .events = POLLIN } };
        eventfd_t seen;

        if (poll(fds, 2, wait_ms(sub)) > 0 && fds[0].revents != 0) {
            (void)!eventfd_read(sub->arrived_fd, &seen);
            code = pass_on(sub);
            quiet_since = now_ns();
        }
        if (sub->options->idle_ms != 0
            && now_ns() - quiet_since >= sub->options->idle_ms * 1000000) {
            break;
        }
    }
    return code;
}

/* The last acks and their outcomes. */
static void await_outcomes(struct sub *sub)
{
    for (int waited = 0; waited < FLUSH_MAX_MS; waited += FLUSH_STEP_MS) {
        if (godwit_flush(sub->session.client, FLUSH_STEP_MS) != GODWIT_TIMEOUT
            || atomic_load(&sub->session.ended)) {
            break;
        }
    }
}

static const char *action_words(enum godwit_action action, uint64_t count)
{
    switch (action) {
    case GODWIT_DO_NACK:
        return plural(count, "nack", "nacks");
    case GODWIT_DO_REJECT:
        return plural(count, "reject", "rejects");
    case GODWIT_DO_ACK:
    case GODWIT_DO_RELEASE:
    case GODWIT_DO_EXTEND:
        break;
    }
    return plural(count, "ack", "acks");
}

static void print_summary(const struct sub *sub)
{
    uint64_t asked = sub->options->no_ack ? 0 : sub->written;
    uint64_t answered = sub->accepted + sub->late + sub->unknown;
    uint64_t silent = asked > answered ? asked - answered : 0;
    double seconds = (double)(sub->last_ns - sub->first_ns) / 1e9;
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];

    fprintf(stderr, "%s: %s %s", sub->options->group,
            human_count(a, sub->written),
            plural(sub->written, "message", "messages"));
    if (sub->written > 1 && seconds > 0) {
        fprintf(stderr, " in %s, %s/s",
                human_duration(b, sub->last_ns - sub->first_ns),
                human_real(a, (double)sub->written / seconds));
    }
    if (sub->options->no_ack) {
        fputs("; none acked\n", stderr);
        return;
    }
    fprintf(stderr, "; %s %s accepted", human_count(a, sub->accepted),
            action_words(sub->options->action, sub->accepted));
    if (sub->late > 0) {
        fprintf(stderr, ", %s late (the lease had moved on)",
                human_count(a, sub->late));
    }
    if (sub->unknown + silent > 0) {
        fprintf(stderr, ", %s without an outcome (these may come again)",
                human_count(a, sub->unknown + silent));
    }
    fputc('\n', stderr);
}

static int finish(struct sub *sub, int code)
{
    enum status end_status;
    char why[512] = "";

    if (!sub->options->no_ack) {
        await_outcomes(sub);
    }
    end_status = atomic_load(&sub->session.end_status);
    godwit_last_error(sub->session.client, why, sizeof why);
    (void)godwit_unsubscribe(sub->session.client);
    session_close(&sub->session);
    if (!sub->options->quiet && (end_status == STATUS_OK || sub->written > 0)) {
        print_summary(sub);
    }
    if (end_status != STATUS_OK) {
        return fail(exit_code_of(end_status), "%s: %s", sub->options->group,
                    why[0] != '\0' ? why : status_text(end_status));
    }
    if (code != EXIT_OK) {
        return code;
    }
    return !sub->options->no_ack && sub->accepted + sub->late < sub->written
               ? EXIT_FAILED
               : EXIT_OK;
}

static uint32_t credit_of(const struct options *o)
{
    uint64_t credit = o->credit;

    if (credit == 0) { /* without acks it is also how many can be shown */
        credit = o->no_ack ? CREDIT_MESSAGES_MAX : CREDIT_DEFAULT;
    }
    if (o->count != 0 && credit > o->count) {
        credit = o->count;
    }
    return (uint32_t)credit;
}

static int subscribe(struct sub *sub)
{
    struct godwit_subscription subscription = {
        .group = sub->options->group,
        .credit_messages = credit_of(sub->options),
        .credit_bytes = sub->options->no_ack ? CREDIT_BYTES_MAX : 0,
        .handler = on_delivery,
        .on_gap = on_gap,
        .on_settled = on_settled,
        .arg = sub,
    };
    enum godwit_status status =
        godwit_subscribe(sub->session.client, &subscription);

    return status == GODWIT_OK
               ? EXIT_OK
               : session_failed(&sub->session, "cannot subscribe", status);
}

static int run(struct sub *sub, struct session_options *so, uint64_t give_up_ms)
{
    int code = session_open_stream(&sub->session, so, 0, (uint32_t)give_up_ms);

    if (code != EXIT_OK) {
        return code;
    }
    code = subscribe(sub);
    if (code != EXIT_OK) {
        session_close(&sub->session);
        return code;
    }
    return finish(sub, receive(sub));
}

static int check_options(struct options *o)
{
    if (!check_name("group", o->group)) {
        return EXIT_USAGE;
    }
    if (o->no_ack + o->nack + o->reject > 1) {
        return fail(EXIT_USAGE, "--no-ack, --nack and --reject: one of them");
    }
    if (o->delay_ms != 0 && !o->nack) {
        return fail(EXIT_USAGE, "--delay is for --nack");
    }
    if (o->reason != NULL && !o->nack && !o->reject) {
        return fail(EXIT_USAGE, "--reason is for --nack and --reject");
    }
    if (o->reason != NULL && strlen(o->reason) > REASON_LEN_MAX) {
        return fail(EXIT_USAGE, "--reason: at most %d bytes", REASON_LEN_MAX);
    }
    o->action = o->nack     ? GODWIT_DO_NACK
                : o->reject ? GODWIT_DO_REJECT
                            : GODWIT_DO_ACK;
    return EXIT_OK;
}

int cmd_sub(int argc, char **argv)
{
    struct session_options so;
    struct options o = { 0 };
    uint64_t give_up_ms = 60000;
    const struct arg table[] = {
        { "count", ARG_COUNT, &o.count, "N", "end after N messages", 1,
          UINT64_MAX },
        { "idle", ARG_SECONDS, &o.idle_ms, "SECONDS",
          "end after so long without a message", 1, 24 * 3600 * 1000 },
        { "no-ack", ARG_FLAG, &o.no_ack, NULL, "show without taking", 0, 0 },
        { "nack", ARG_FLAG, &o.nack, NULL, "show, and say that it failed", 0,
          0 },
        { "reject", ARG_FLAG, &o.reject, NULL,
          "show, and send it to the dead letters", 0, 0 },
        { "reason", ARG_TEXT, &o.reason, "TEXT", "of --nack or --reject", 0,
          0 },
        { "delay", ARG_AGE, &o.delay_ms, "TIME",
          "of --nack: again after this, not the group's backoff; 90s, 15m, 12h",
          1, DELAY_MS_MAX },
        { "credit", ARG_COUNT, &o.credit, "N",
          "messages on their way and not yet acked at most; default 1000", 1,
          CREDIT_MESSAGES_MAX },
        { "give-up", ARG_SECONDS, &give_up_ms, "SECONDS",
          "end when a lost broker stays away so long; default 60", 100,
          24 * 3600 * 1000 },
        { "json", ARG_FLAG, &o.json, NULL, "one JSON object a line", 0, 0 },
        { "quiet", ARG_FLAG, &o.quiet, NULL, "only errors on stderr", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct sub sub = { .options = &o, .lock = PTHREAD_MUTEX_INITIALIZER };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    o.group = parsed.operands.at[0];
    code = check_options(&o);
    if (code == EXIT_OK) {
        code = session_resolve(&so);
    }
    if (code != EXIT_OK) {
        return code;
    }
    sub.arrived_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sub.arrived_fd < 0) {
        return fail(EXIT_FAILED, "eventfd: %s", strerror(errno));
    }
    code = run(&sub, &so, give_up_ms);
    outlet_fini(&sub.arriving);
    outlet_fini(&sub.writing);
    close(sub.arrived_fd);
    return code;
}
