/* bench fanout: producers, and many groups with one subscriber each; every
 * message goes to all of them. One thread drives all connections. */
#include "tools/bench/body.h"
#include "tools/bench/meter.h"
#include "tools/bench/producers.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_WINDOW | BENCH_PRODUCERS
              | BENCH_FAN | BENCH_PROTOCOL | BENCH_DIR | BENCH_PLOT
};

static const struct help help = {
    .usage = "godwit bench fanout [options]",
    .text = "Publishes --count messages to a topic that --groups groups "
            "take, each\n"
            "with one subscriber that acks what is pushed. Prints deliveries a "
            "second\n"
            "over all groups.\n",
    .examples = "  godwit bench fanout\n"
                "  godwit bench fanout --groups 100 --count 5k --size 128\n",
};

/* One thread does all of it. */
static struct {
    uint64_t delivered;
    uint64_t accepted;
    struct histogram delivery_ns;
} run;

static struct producers producers;
static struct meter meter;

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *delivery)
{
    uint64_t sent_ns = body_time(delivery->body, delivery->body_len);

    (void)arg;
    if (delivery->attempt == 1) {
        run.delivered++;
        if (sent_ns != 0) {
            histogram_add(&run.delivery_ns, now_ns() - sent_ns);
        }
    }
    return GODWIT_ACK;
}

static void on_settled(void *arg, const char *topic, uint64_t first,
                       uint64_t last, const char *outcome,
                       enum godwit_status status)
{
    (void)arg;
    (void)topic;
    (void)status;
    if (strcmp(outcome, "accepted") == 0) {
        run.accepted += last - first + 1;
    }
}

static int flow(struct clients *clients, const struct bench_options *o)
{
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "delivered", o->count * o->groups);
    while ((!producers_done(&producers)
            || run.accepted < producers.confirmed * o->groups)
           && !interrupted() && !clients_broken(clients, &code)) {
        producers_push(&producers);
        clients_turn(clients, now_ns() + BENCH_LOOK_NS);
        progress_show(&progress, run.delivered);
    }
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static int print_report(const struct bench_options *o)
{
    const struct plot_curve curve = { "send to push", &run.delivery_ns, false };
    double published = (double)producers.confirmed / meter.seconds;
    double delivered = (double)run.accepted / meter.seconds;
    struct report r;

    report_begin(&r, o, "fanout", OPTIONS);
    report_count(&r, "published", "confirmed", producers.confirmed);
    report_count(&r, "delivered", "delivered", run.delivered);
    report_count(&r, "acks accepted", "accepted", run.accepted);
    if (producers.failed > 0 || o->json) {
        report_count(&r, "not confirmed", "failed", producers.failed);
    }
    report_real(&r, "publish rate", "messages_per_second", published, "msg/s");
    report_real(&r, "delivery rate", "deliveries_per_second", delivered,
                "msg/s");
    meter_report(&meter, &r, run.accepted, "delivery");
    meter_report_disk(&meter, &r, published * (double)o->size);
    meter_report_loopback(&meter, &r, delivered * (double)o->size);
    report_latency(&r, "send to push", "delivery_us", &run.delivery_ns);
    report_end(&r);
    return report_plot(o, "fanout", OPTIONS, &curve, 1);
}

/* The first clients publish, the others subscribe to a group each. */
static int prepare(struct clients *clients, const struct bench_options *o,
                   const struct bench_setup *setup)
{
    struct godwit_subscription subscription = {
        .handler = on_delivery,
        .on_settled = on_settled,
    };
    char name[64];
    int code = EXIT_OK;

    for (size_t i = 0; code == EXIT_OK && i < o->groups; i++) {
        code = clients_add(clients, o, 0);
    }
    if (code == EXIT_OK) {
        code = clients_connect(clients, o);
    }
    for (size_t i = 0; code == EXIT_OK && i < o->groups; i++) {
        size_t client = o->producers + i;

        subscription.group = bench_name(setup, i, name);
        if (clients_subscribe(clients, client, &subscription) != GODWIT_OK) {
            code = fail(EXIT_FAILED, "cannot subscribe");
        }
        clients_push(clients, client);
    }
    return code;
}

static int measure(struct clients *clients, const struct bench_options *o,
                   struct bench_setup *setup)
{
    int code = prepare(clients, o, setup);

    if (code == EXIT_OK) {
        code = meter_begin(&meter, o, &setup->admin);
    }
    if (code == EXIT_OK) {
        code = meter_end(&meter, flow(clients, o), 0);
        code = bench_outcome(code, print_report, o);
    }
    return code;
}

int bench_fanout(int argc, char **argv)
{
    struct bench_options o = { .size = 1024,
                               .count = 50000,
                               .window = 1000,
                               .producers = 1,
                               .groups = 10 };
    int code;

    return bench_parse(&o, &help, OPTIONS, argc, argv, &code)
               ? producers_measure(&producers, &o, 1, o.groups, o.groups,
                                   measure)
               : code;
}
