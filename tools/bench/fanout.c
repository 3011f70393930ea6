/* bench fanout: one producer, many groups with one subscriber each; every
 * message goes to all of them. One thread drives all groups. */
#include "tools/bench/load.h"
#include "tools/bench/report.h"

#include "proto/limits.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

#include <stdlib.h>

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_WINDOW | BENCH_FAN,
    LOOK_NS = 20 * 1000 * 1000
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

static struct {
    uint64_t sent;
    uint64_t confirmed;
    uint64_t failed;
    uint64_t delivered;
    uint64_t accepted;
    struct histogram delivery_ns;
} run;

static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    (void)arg;
    if (confirm->status == GODWIT_OK) {
        run.confirmed++;
    } else {
        run.failed++;
    }
}

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *delivery)
{
    (void)arg;
    if (delivery->attempt == 1) {
        run.delivered++;
        histogram_add(&run.delivery_ns,
                      now_ns() - body_time(delivery->body, delivery->body_len));
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

static void fill_window(struct godwit *client, const struct bench_options *o,
                        const char *topic, char *body)
{
    const struct godwit_message message = { .body = body, .body_len = o->size };

    while (run.sent < o->count) {
        body_set_time(body, now_ns());
        if (godwit_publish(client, topic, &message, on_confirm, NULL)
            != GODWIT_OK) {
            return;
        }
        run.sent++;
    }
}

static int flow(struct crew *crew, const struct bench_options *o,
                const char *topic, char *body)
{
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "delivered", o->count * o->groups);
    while (run.accepted + run.failed * o->groups < o->count * o->groups
           && !interrupted() && !crew_broken(crew, &code)) {
        fill_window(crew_client(crew, 0), o, topic, body);
        crew_push(crew, 0);
        crew_turn(crew, now_ns() + LOOK_NS);
        progress_show(&progress, run.delivered);
    }
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static void print_report(const struct bench_options *o, double seconds)
{
    struct report r;

    report_begin(&r, o, "fanout", OPTIONS);
    report_count(&r, "published", "confirmed", run.confirmed);
    report_count(&r, "delivered", "delivered", run.delivered);
    report_count(&r, "acks accepted", "accepted", run.accepted);
    if (run.failed > 0 || o->json) {
        report_count(&r, "not confirmed", "failed", run.failed);
    }
    report_real(&r, "time", "seconds", seconds, "s");
    report_real(&r, "publish rate", "messages_per_second",
                (double)run.confirmed / seconds, "msg/s");
    report_real(&r, "delivery rate", "deliveries_per_second",
                (double)run.accepted / seconds, "msg/s");
    report_latency(&r, "call to push", "delivery_us", &run.delivery_ns);
    report_end(&r);
}

/* Client 0 publishes, client i + 1 subscribes to group i. */
static int prepare(struct crew *crew, const struct bench_options *o,
                   const struct bench_place *place)
{
    struct godwit_subscription subscription = {
        .handler = on_delivery,
        .on_settled = on_settled,
    };
    char name[64];
    int code = crew_add(crew, o, (uint32_t)o->window);

    for (size_t i = 0; code == EXIT_OK && i < o->groups; i++) {
        code = crew_add(crew, o, 0);
    }
    if (code == EXIT_OK) {
        code = crew_connect(crew, o);
    }
    for (size_t i = 0; code == EXIT_OK && i < o->groups; i++) {
        subscription.group = bench_name(place, i, name);
        if (godwit_subscribe(crew_client(crew, i + 1), &subscription)
            != GODWIT_OK) {
            code = fail(EXIT_FAILED, "cannot subscribe");
        } else {
            crew_push(crew, i + 1);
        }
    }
    return code;
}

int bench_fanout(int argc, char **argv)
{
    struct bench_options o = {
        .size = 1024, .count = 20000, .window = 1000, .groups = 10
    };
    struct bench_place place;
    char topic[64];
    struct crew *crew;
    char *body;
    uint64_t begin;
    int code;

    if (!bench_parse(&o, &help, OPTIONS, argc, argv, &code)) {
        return code;
    }
    code = bench_place_open(&place, &o, 1, o.groups);
    if (code != EXIT_OK) {
        return code;
    }
    crew = crew_new(o.groups + 1);
    body = bench_body(o.size);
    code = crew != NULL && body != NULL ? prepare(crew, &o, &place)
                                        : fail(EXIT_FAILED, "out of memory");
    if (code == EXIT_OK) {
        begin = now_ns();
        code = flow(crew, &o, bench_name(&place, 0, topic), body);
        print_report(&o, (double)(now_ns() - begin) / 1e9);
    }
    crew_free(crew);
    free(body);
    bench_place_close(&place);
    return code;
}
