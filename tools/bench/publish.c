/* bench publish: producers that always have a full window of unconfirmed
 * messages, driven by one thread. */
#include "tools/bench/producers.h"
#include "tools/bench/meter.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_WINDOW | BENCH_PRODUCERS
              | BENCH_PROTOCOL | BENCH_DIR | BENCH_PLOT,
    REFILL_NS = 100 * 1000 * 1000
};

static const struct help help = {
    .usage = "godwit bench publish [options]",
    .text = "Publishes as fast as the broker confirms: each producer keeps "
            "--window\n"
            "messages unconfirmed. Prints confirmed messages a second and how "
            "long a\n"
            "confirm took from the call that published (waiting in the window "
            "included).\n"
            "Of more than 100,000 messages each eighth is timed.\n",
    .examples =
        "  godwit bench publish\n"
        "  godwit bench publish --size 128 --producers 4 --count 2M\n"
        "  godwit bench publish --window 1 --count 5k    # one at a time\n"
        "  godwit bench publish --dir /var/lib/godwit    # share of the disk\n",
};

static struct producers producers;
static struct meter meter;

static int publish_all(struct clients *clients, const struct bench_options *o)
{
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "confirmed", o->count);
    while (!producers_done(&producers) && !interrupted()
           && !clients_broken(clients, &code)) {
        producers_push(&producers);
        clients_turn(clients, now_ns() + REFILL_NS);
        progress_show(&progress, producers.confirmed);
    }
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static int print_report(const struct bench_options *o)
{
    const struct plot_curve curve = { "send to confirm", &producers.confirm_ns,
                                      false };
    double rate = (double)producers.confirmed / meter.seconds;
    struct report r;

    report_begin(&r, o, "publish", OPTIONS);
    report_count(&r, "confirmed", "confirmed", producers.confirmed);
    if (producers.failed > 0 || o->json) {
        report_count(&r, "failed", "failed", producers.failed);
    }
    report_real(&r, "rate", "messages_per_second", rate, "msg/s");
    report_bytes(&r, "bodies", "bytes_per_second", rate * (double)o->size,
                 "/s");
    meter_report(&meter, &r, producers.confirmed, "message");
    meter_report_disk(&meter, &r, rate * (double)o->size);
    report_latency(&r, "send to confirm", "confirm_us", &producers.confirm_ns);
    report_end(&r);
    return report_plot(o, "publish", OPTIONS, &curve, 1);
}

static int measure(struct clients *clients, const struct bench_options *o,
                   struct bench_setup *setup)
{
    int code = clients_connect(clients, o);

    if (code == EXIT_OK) {
        code = meter_begin(&meter, o, &setup->admin);
    }
    if (code == EXIT_OK) {
        code = meter_end(&meter, publish_all(clients, o), 0);
        code = bench_outcome(code, print_report, o);
    }
    return code;
}

static int fill(struct clients *clients, const struct bench_options *o,
                struct bench_setup *setup)
{
    int code = clients_connect(clients, o);

    (void)setup;
    return code == EXIT_OK ? publish_all(clients, o) : code;
}

int bench_fill(const struct bench_options *o, struct bench_setup *setup)
{
    return producers_run(&producers, o, setup, 0, fill);
}

int bench_publish(int argc, char **argv)
{
    struct bench_options o = {
        .size = 1024, .count = 1000000, .window = 1000, .producers = 1
    };
    int code;

    return bench_parse(&o, &help, OPTIONS, argc, argv, &code)
               ? producers_measure(&producers, &o, 1, 0, 0, measure)
               : code;
}
