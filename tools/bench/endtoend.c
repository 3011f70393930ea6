/* bench endtoend: producers with full windows, and consumers of one group that
 * ack each message. One thread drives the producers and one those that are
 * pushed to; who pulls has a thread of its own. */
#include "tools/bench/consumers.h"
#include "tools/bench/producers.h"
#include "tools/bench/meter.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_WINDOW | BENCH_PRODUCERS
              | BENCH_CONSUMERS | BENCH_PULL | BENCH_PROTOCOL | BENCH_DIR
              | BENCH_PLOT
};

static const struct help help = {
    .usage = "godwit bench endtoend [options]",
    .text = "Producers publish as fast as the broker confirms; the consumers "
            "of one group\n"
            "are pushed to (or --pull) and ack each message. Ends when every "
            "ack has its\n"
            "outcome, and prints messages a second over the whole time. Of "
            "more than\n"
            "100,000 messages each eighth is timed.\n",
    .examples = "  godwit bench endtoend\n"
                "  godwit bench endtoend --size 16K --count 50k\n"
                "  godwit bench endtoend --pull --consumers 4 --producers 2\n",
};

static struct producers producers;
static struct meter meter;
static struct consumer_figures figures;
static struct histogram delivery_ns;

static int flow(struct clients *clients, struct consumers *consumers,
                const struct bench_options *o)
{
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "acked", o->count);
    do {
        producers_push(&producers);
        clients_turn(clients, now_ns() + BENCH_LOOK_NS);
        consumers_figures(consumers, &figures);
        progress_show(&progress, figures.accepted);
    } while (
        (!producers_done(&producers) || figures.accepted < producers.confirmed)
        && !interrupted() && !clients_broken(clients, &code)
        && !consumers_broken(consumers, &code));
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static int print_report(const struct bench_options *o)
{
    const struct plot_curve curves[] = {
        { o->pull ? "send to pull" : "send to push", &delivery_ns, false },
        { "send to confirm", &producers.confirm_ns, false }
    };
    double rate = (double)figures.accepted / meter.seconds;
    struct report r;

    report_begin(&r, o, "endtoend", OPTIONS);
    report_count(&r, "confirmed", "confirmed", producers.confirmed);
    report_count(&r, "delivered", "delivered", figures.delivered);
    report_count(&r, "acks accepted", "accepted", figures.accepted);
    if (o->json
        || figures.repeated + figures.not_accepted + producers.failed > 0) {
        report_count(&r, "delivered again", "repeated", figures.repeated);
        report_count(&r, "acks not accepted", "not_accepted",
                     figures.not_accepted);
        report_count(&r, "not confirmed", "failed", producers.failed);
    }
    report_real(&r, "rate", "messages_per_second", rate, "msg/s");
    report_bytes(&r, "bodies", "bytes_per_second", rate * (double)o->size,
                 "/s");
    meter_report(&meter, &r, figures.accepted, "message");
    meter_report_disk(&meter, &r, rate * (double)o->size);
    report_latency(&r, curves[0].name, "delivery_us", &delivery_ns);
    report_latency(&r, "send to confirm", "confirm_us", &producers.confirm_ns);
    report_end(&r);
    return report_plot(o, "endtoend", OPTIONS, curves, COUNT_OF(curves));
}

static int run(struct clients *clients, struct consumers *consumers,
               const struct bench_options *o, struct bench_setup *setup)
{
    int code = meter_begin(&meter, o, &setup->admin);

    if (code != EXIT_OK) {
        consumers_stop(consumers, NULL);
        return code;
    }
    code = flow(clients, consumers, o);
    code = meter_end(&meter, code, figures.last_ns);
    consumers_stop(consumers, &delivery_ns);
    return bench_outcome(code, print_report, o);
}

static int measure(struct clients *clients, const struct bench_options *o,
                   struct bench_setup *setup)
{
    char group[64];
    const struct consumer_plan plan = { .o = o,
                                        .group = bench_name(setup, 0, group),
                                        .count = o->consumers,
                                        .pull = o->pull };
    struct consumers *consumers = NULL;
    int code = clients_connect(clients, o);

    if (code == EXIT_OK) {
        code = consumers_start(&consumers, &plan);
    }
    if (code == EXIT_OK) {
        code = run(clients, consumers, o, setup);
    }
    return code;
}

int bench_endtoend(int argc, char **argv)
{
    struct bench_options o = { .size = 1024,
                               .count = 500000,
                               .window = 1000,
                               .producers = 1,
                               .consumers = 1 };
    int code;

    return bench_parse(&o, &help, OPTIONS, argc, argv, &code)
               ? producers_measure(&producers, &o, 1, 1, 0, measure)
               : code;
}
