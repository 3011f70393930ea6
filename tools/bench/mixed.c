/* bench mixed: what a broker does on an ordinary day, all at once: producers of
 * several topics, one group that is pushed to, one that pulls, and some
 * messages that fail and come again. */
#include "tools/bench/consumers.h"
#include "tools/bench/producers.h"
#include "tools/bench/meter.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_WINDOW | BENCH_PRODUCERS
              | BENCH_CONSUMERS | BENCH_TOPICS | BENCH_PROTOCOL | BENCH_DIR
              | BENCH_PLOT,
    NACK_EACH = 1000,
    PUSHED = 0,
    PULLED = 1,
    GROUPS = 2
};

static const struct help help = {
    .usage = "godwit bench mixed [options]",
    .text =
        "All at once: --producers connections, each with a full window, "
        "publish to\n"
        "--topics topics (producer i to topic i modulo their number). Two "
        "groups take\n"
        "every message of all topics: of one, --consumers subscribers are "
        "pushed to; of\n"
        "the other, as many pull over HTTP, up to 1,000 messages a request. "
        "Each acks\n"
        "what it gets, but of its first deliveries nacks each 1,000th, which "
        "comes again\n"
        "10 ms later and is acked then. Ends when both groups have acked "
        "every message;\n"
        "the rate is of messages that are done in both. Of more than 100,000 "
        "messages\n"
        "each eighth is timed.\n",
    .examples = "  godwit bench mixed\n"
                "  godwit bench mixed --producers 8 --topics 8 --consumers 4\n",
};

static struct producers producers;
static struct meter meter;
static struct consumer_figures figures[GROUPS];
static struct histogram delivery_ns[GROUPS];

static bool all_done(struct consumers *const consumers[GROUPS])
{
    bool done = producers_done(&producers);

    for (int i = 0; i < GROUPS; i++) {
        consumers_figures(consumers[i], &figures[i]);
        done = done && figures[i].accepted >= producers.confirmed;
    }
    return done;
}

static uint64_t done_in_both(void)
{
    return figures[PUSHED].accepted < figures[PULLED].accepted
               ? figures[PUSHED].accepted
               : figures[PULLED].accepted;
}

static int flow(struct clients *clients,
                struct consumers *const consumers[GROUPS],
                const struct bench_options *o)
{
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "acked in both groups", o->count);
    do {
        producers_push(&producers);
        clients_turn(clients, now_ns() + BENCH_LOOK_NS);
        progress_show(&progress, done_in_both());
    } while (!all_done(consumers) && !interrupted()
             && !clients_broken(clients, &code)
             && !consumers_broken(consumers[PUSHED], &code)
             && !consumers_broken(consumers[PULLED], &code));
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static int print_report(const struct bench_options *o)
{
    const struct plot_curve curves[] = {
        { "send to push", &delivery_ns[PUSHED], false },
        { "send to pull", &delivery_ns[PULLED], false },
        { "send to confirm", &producers.confirm_ns, false }
    };
    uint64_t done = done_in_both();
    double rate = (double)done / meter.seconds;
    struct report r;

    report_begin(&r, o, "mixed", OPTIONS);
    report_count(&r, "confirmed", "confirmed", producers.confirmed);
    report_count(&r, "pushed and acked", "pushed", figures[PUSHED].accepted);
    report_count(&r, "pulled and acked", "pulled", figures[PULLED].accepted);
    report_count(&r, "nacked", "nacked",
                 figures[PUSHED].nacked + figures[PULLED].nacked);
    report_count(&r, "delivered again", "repeated",
                 figures[PUSHED].repeated + figures[PULLED].repeated);
    if (o->json || producers.failed > 0) {
        report_count(&r, "not confirmed", "failed", producers.failed);
    }
    report_real(&r, "rate", "messages_per_second", rate, "msg/s");
    report_bytes(&r, "bodies", "bytes_per_second", rate * (double)o->size,
                 "/s");
    meter_report(&meter, &r, done, "message");
    meter_report_disk(&meter, &r, rate * (double)o->size);
    report_latency(&r, "send to push", "push_us", &delivery_ns[PUSHED]);
    report_latency(&r, "send to pull", "pull_us", &delivery_ns[PULLED]);
    report_latency(&r, "send to confirm", "confirm_us", &producers.confirm_ns);
    report_end(&r);
    return report_plot(o, "mixed", OPTIONS, curves, COUNT_OF(curves));
}

static int run(struct clients *clients, struct consumers *consumers[GROUPS],
               const struct bench_options *o, struct bench_setup *setup)
{
    int code = meter_begin(&meter, o, &setup->admin);
    bool begun = code == EXIT_OK;
    uint64_t end_ns = 0;

    if (begun) {
        code = flow(clients, consumers, o);
        for (int i = 0; i < GROUPS; i++) {
            end_ns = figures[i].last_ns > end_ns ? figures[i].last_ns : end_ns;
        }
        code = meter_end(&meter, code, end_ns);
    }
    for (int i = 0; i < GROUPS; i++) {
        consumers_stop(consumers[i], &delivery_ns[i]);
        consumers[i] = NULL;
    }
    return begun ? bench_outcome(code, print_report, o) : code;
}

static int measure(struct clients *clients, const struct bench_options *o,
                   struct bench_setup *setup)
{
    struct consumers *consumers[GROUPS] = { NULL };
    char group[64];
    struct consumer_plan plan = { .o = o,
                                  .count = o->consumers,
                                  .nack_each = NACK_EACH };
    int code = clients_connect(clients, o);

    for (int i = 0; i < GROUPS && code == EXIT_OK; i++) {
        plan.group = bench_name(setup, (size_t)i, group);
        plan.pull = i == PULLED;
        code = consumers_start(&consumers[i], &plan);
    }
    if (code == EXIT_OK) {
        code = run(clients, consumers, o, setup);
    }
    for (int i = 0; i < GROUPS; i++) {
        consumers_stop(consumers[i], NULL);
    }
    return code;
}

int bench_mixed(int argc, char **argv)
{
    struct bench_options o = { .size = 1024,
                               .count = 200000,
                               .window = 1000,
                               .producers = 4,
                               .consumers = 2,
                               .topics = 4 };
    int code;

    return bench_parse(&o, &help, OPTIONS, argc, argv, &code)
               ? producers_measure(&producers, &o, o.topics, GROUPS, 0, measure)
               : code;
}
