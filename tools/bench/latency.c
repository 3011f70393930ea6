/* bench latency: messages at a fixed rate whether or not the broker keeps up
 * (open loop), measured from the time each was meant to be sent, so that a
 * stall counts for every message it delayed. One thread drives producer and
 * subscriber; who pulls has one of its own. */
#include "tools/bench/body.h"
#include "tools/bench/consumers.h"
#include "tools/bench/echo.h"
#include "tools/bench/meter.h"

#include "proto/limits.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

#include <stdlib.h>
#include <sys/prctl.h>

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_RATE | BENCH_PULL
              | BENCH_PROTOCOL | BENCH_DIR | BENCH_PLOT,
    WINDOW = 65536, /* an open loop does not wait for confirms */
    DEFAULT_SECONDS = 5,
    ECHO_PART = 5 /* so many messages, then one to the echo */
};

static const struct help help = {
    .usage = "godwit bench latency [options]",
    .text =
        "Publishes at a fixed --rate, whatever the broker does, and "
        "measures from\n"
        "the time a message was meant to be sent until the subscriber has "
        "it. A\n"
        "pause of the broker counts for every message it held up. The "
        "first second\n"
        "is not counted; without --count the next 5 are. For each fifth "
        "message one\n"
        "more goes over loopback to a thread that only sends it back: what "
        "the\n"
        "machine itself takes in the same seconds. With --dir one more "
        "goes to a thread\n"
        "that appends it to a file there, syncs it and sends it back, and "
        "the p50 is\n"
        "also told in times of the plain echo and a sync of 4 KiB, which is "
        "measured\n"
        "before and after. Such an echo's syncs and the broker's hold each "
        "other up.\n",
    .examples = "  godwit bench latency --rate 5000 --plot latency.svg\n"
                "  godwit bench latency --rate 20k --size 128 --count 200k\n",
};

static struct {
    uint64_t counted_from_ns;
    uint64_t sent;
    uint64_t confirmed;
    uint64_t failed;
    uint64_t delivered;
    struct histogram delivery_ns;
    struct histogram confirm_ns;
    struct histogram echo_ns;
    struct histogram synced_ns;
    struct echo echo;
    struct echo synced;       /* with --dir: it syncs what it sends back */
    struct histogram late_ns; /* our own fault: sent so long after it was due */
} run;

static struct meter meter;
static struct consumers *pullers; /* NULL: it is pushed */

static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    uint64_t intended = time_of_arg(arg);

    if (confirm->status != GODWIT_OK) {
        run.failed++;
        return;
    }
    run.confirmed++;
    if (intended >= run.counted_from_ns) {
        histogram_add(&run.confirm_ns, now_ns() - intended);
    }
}

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *delivery)
{
    uint64_t intended = body_time(delivery->body, delivery->body_len);

    (void)arg;
    if (delivery->attempt == 1) {
        run.delivered++;
        if (intended >= run.counted_from_ns) {
            histogram_add(&run.delivery_ns, now_ns() - intended);
        }
    }
    return GODWIT_ACK;
}

/* The broker's word on the acks is not asked for here. */
static void on_settled(void *arg, const char *topic, uint64_t first,
                       uint64_t last, const char *outcome,
                       enum godwit_status status)
{
    (void)arg;
    (void)topic;
    (void)first;
    (void)last;
    (void)outcome;
    (void)status;
}

/* Send what is due; when the next is due. */
static uint64_t send_due(struct clients *clients, const struct bench_options *o,
                         const char *topic, char *body, uint64_t begin_ns,
                         uint64_t total)
{
    const struct godwit_message message = { .body = body, .body_len = o->size };

    while (run.sent < total) {
        uint64_t intended = begin_ns + run.sent * 1000000000U / o->rate;
        uint64_t now = now_ns();

        if (intended > now) {
            return intended;
        }
        body_set_time(body, intended);
        if (clients_publish(clients, 0, topic, &message, on_confirm,
                            time_as_arg(intended))
            != GODWIT_OK) {
            return now_ns() + 1000000; /* full: the broker is far behind */
        }
        run.sent++;
        if (run.sent % ECHO_PART == 0) {
            (void)echo_send(&run.echo, intended);
            if (run.synced.fd >= 0) {
                (void)echo_send(&run.synced, intended);
            }
        }
        if (intended >= run.counted_from_ns) {
            histogram_add(&run.late_ns, now - intended);
        }
    }
    return UINT64_MAX;
}

static bool all_here(uint64_t total)
{
    struct consumer_figures figures;

    if (pullers != NULL) {
        consumers_figures(pullers, &figures);
        run.delivered = figures.delivered;
    }
    return run.delivered + run.failed >= total;
}

static int flow(struct clients *clients, const struct bench_options *o,
                const char *topic, char *body)
{
    uint64_t total = o->count + o->rate; /* and a second to warm up */
    uint64_t begin_ns = now_ns() + 1000000;
    struct progress progress;
    int code = EXIT_OK;

    run.counted_from_ns = begin_ns + 1000000000U;
    if (pullers != NULL) {
        consumers_time_from(pullers, run.counted_from_ns);
    }
    /* else the kernel may wake us 50 us late, to save power */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    progress_begin(&progress, "delivered", total);
    while (!all_here(total) && !interrupted() && !clients_broken(clients, &code)
           && (pullers == NULL || !consumers_broken(pullers, &code))) {
        uint64_t next_ns = send_due(clients, o, topic, body, begin_ns, total);

        clients_push(clients, 0);
        clients_turn(clients, next_ns);
        echo_take(&run.echo, run.counted_from_ns, &run.echo_ns);
        if (run.synced.fd >= 0) {
            echo_take(&run.synced, run.counted_from_ns, &run.synced_ns);
        }
        progress_show(&progress, run.delivered);
    }
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

/* A delivery in times of what the machine needs for one, nearly: the sync is
 * measured before and after the run, when nobody else syncs. */
static void report_limit(struct report *r)
{
    double least = (double)histogram_percentile(&meter.sync_ns, 50)
                   + (double)histogram_percentile(&run.echo_ns, 50);

    if (meter.sync_ns.count > 0 && run.echo_ns.count > 0) {
        report_latency(r, "sync of 4 KiB", "sync_us", &meter.sync_ns);
        report_real(r, "p50 of echo + sync", "limit_us", least / 1e3, "µs");
        report_real(r, "p50 to echo + sync", "p50_to_limit",
                    (double)histogram_percentile(&run.delivery_ns, 50) / least,
                    "times");
    }
}

static int print_report(const struct bench_options *o)
{
    const struct plot_curve curves[] = {
        { o->pull ? "send to pull" : "send to push", &run.delivery_ns, false },
        { "send to confirm", &run.confirm_ns, false },
        { "loopback echo, no broker", &run.echo_ns, true }
    };
    struct report r;

    report_begin(&r, o, "latency", OPTIONS);
    report_count(&r, "measured", "measured", run.delivery_ns.count);
    if (run.failed > 0 || o->json) {
        report_count(&r, "not confirmed", "failed", run.failed);
    }
    meter_report(&meter, &r, run.delivered, "message");
    report_latency(&r, curves[0].name, "delivery_us", &run.delivery_ns);
    report_latency(&r, "send to confirm", "confirm_us", &run.confirm_ns);
    report_latency(&r, "loopback echo", "echo_us", &run.echo_ns);
    if (o->dir != NULL) {
        report_latency(&r, "echo that syncs", "synced_echo_us", &run.synced_ns);
    }
    report_latency(&r, "load sent late by", "late_us", &run.late_ns);
    report_limit(&r);
    report_end(&r);
    return report_plot(o, "latency", OPTIONS, curves, COUNT_OF(curves));
}

static int subscribe(struct clients *clients, const struct bench_options *o,
                     const char *group)
{
    const struct consumer_plan plan = {
        .o = o, .group = group, .count = 1, .pull = true
    };
    const struct godwit_subscription subscription = {
        .group = group,
        .credit_messages = 10000,
        .credit_bytes = CREDIT_BYTES_MAX,
        .handler = on_delivery,
        .on_settled = on_settled,
    };

    if (o->pull) {
        return consumers_start(&pullers, &plan);
    }
    return clients_subscribe(clients, 1, &subscription) == GODWIT_OK
               ? EXIT_OK
               : fail(EXIT_FAILED, "cannot subscribe");
}

/* Client 0 publishes, client 1 subscribes unless it is pulled. */
static int prepare(struct clients *clients, const struct bench_options *o,
                   const struct bench_setup *setup)
{
    char name[64];
    int code = clients_add(clients, o, WINDOW);

    if (code == EXIT_OK && !o->pull) {
        code = clients_add(clients, o, 0);
    }
    if (code == EXIT_OK) {
        code = clients_connect(clients, o);
    }
    if (code == EXIT_OK) {
        code = subscribe(clients, o, bench_name(setup, 0, name));
    }
    return code == EXIT_OK ? echo_open(&run.echo, o->size, NULL) : code;
}

/* In the file of the meter, which is its own but for the run. */
static int open_synced(const struct bench_options *o)
{
    run.synced.fd = -1;
    return o->dir == NULL ? EXIT_OK
                          : echo_open(&run.synced, o->size, &meter.file);
}

static int measure(struct clients *clients, const struct bench_options *o,
                   struct bench_setup *setup, char *body)
{
    char topic[64];
    int code = prepare(clients, o, setup);

    if (code == EXIT_OK) {
        code = meter_begin(&meter, o, &setup->admin);
        if (code == EXIT_OK) {
            code = open_synced(o);
            clients_watch(clients, run.echo.fd, run.synced.fd);
            if (code == EXIT_OK) {
                code = flow(clients, o, bench_name(setup, 0, topic), body);
            }
            echo_close(&run.synced);
            code = meter_end(&meter, code, 0);
            consumers_stop(pullers, &run.delivery_ns);
            pullers = NULL;
            code = bench_outcome(code, print_report, o);
        }
        echo_close(&run.echo);
    }
    consumers_stop(pullers, NULL);
    return code;
}

int bench_latency(int argc, char **argv)
{
    struct bench_options o = { .size = 1024, .rate = 5000 };
    struct bench_setup setup;
    struct clients *clients;
    char *body;
    int code;

    if (!bench_parse(&o, &help, OPTIONS, argc, argv, &code)) {
        return code;
    }
    if (o.count == 0) {
        o.count = o.rate * DEFAULT_SECONDS;
    }
    code = bench_setup_open(&setup, &o, 1, 1);
    if (code != EXIT_OK) {
        return code;
    }
    clients = clients_new(2);
    body = body_new(o.size);
    code = clients != NULL && body != NULL ? measure(clients, &o, &setup, body)
                                           : fail(EXIT_FAILED, "out of memory");
    clients_free(clients);
    free(body);
    bench_setup_close(&setup);
    return code;
}
