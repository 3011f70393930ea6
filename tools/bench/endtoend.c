/* bench endtoend: one producer with a full window, one push subscriber that
 * acks each message. The subscriber has its own thread, the producer the main
 * one. */
#include "tools/bench/load.h"
#include "tools/bench/report.h"

#include "proto/limits.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

#include <stdlib.h>

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_WINDOW,
    LOOK_NS = 20 * 1000 * 1000
};

static const struct help help = {
    .usage = "godwit bench endtoend [options]",
    .text = "One producer publishes as fast as the broker confirms; one "
            "subscriber is\n"
            "pushed to and acks each message. Ends when every ack has its "
            "outcome, and\n"
            "prints messages a second over the whole time.\n",
    .examples = "  godwit bench endtoend\n"
                "  godwit bench endtoend --size 16K --count 50k\n",
};

static struct {
    /* producer: main thread */
    uint64_t sent;
    uint64_t confirmed;
    uint64_t failed;
    /* subscriber: its client's thread */
    _Atomic uint64_t delivered;
    _Atomic uint64_t repeated; /* attempt > 1 */
    _Atomic uint64_t accepted;
    _Atomic uint64_t not_accepted;
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
    atomic_fetch_add_explicit(&run.delivered, 1, memory_order_relaxed);
    if (delivery->attempt > 1) {
        atomic_fetch_add_explicit(&run.repeated, 1, memory_order_relaxed);
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
        atomic_fetch_add_explicit(&run.accepted, last - first + 1,
                                  memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(&run.not_accepted, last - first + 1,
                                  memory_order_relaxed);
    }
}

static bool all_settled(const struct bench_options *o)
{
    return run.confirmed + run.failed >= o->count
           && run.accepted >= run.confirmed;
}

static int flow(struct crew *producer, struct session *subscriber,
                const struct bench_options *o, const char *topic,
                const char *body)
{
    const struct godwit_message message = { .body = body, .body_len = o->size };
    struct godwit *client = crew_client(producer, 0);
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "acked", o->count);
    while (!all_settled(o) && !interrupted() && !crew_broken(producer, &code)) {
        if (atomic_load(&subscriber->ended)) {
            code = session_failed(subscriber, "the subscriber has ended",
                                  (enum godwit_status)subscriber->end_status);
            break;
        }
        while (run.sent < o->count
               && godwit_publish(client, topic, &message, on_confirm, NULL)
                      == GODWIT_OK) {
            run.sent++;
        }
        crew_push(producer, 0);
        crew_turn(producer, now_ns() + LOOK_NS);
        progress_show(&progress, run.accepted);
    }
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static void print_report(const struct bench_options *o, double seconds)
{
    struct report r;
    double rate = (double)run.accepted / seconds;

    report_begin(&r, o, "endtoend", OPTIONS);
    report_count(&r, "confirmed", "confirmed", run.confirmed);
    report_count(&r, "delivered", "delivered", run.delivered);
    report_count(&r, "acks accepted", "accepted", run.accepted);
    if (o->json || run.repeated + run.not_accepted + run.failed > 0) {
        report_count(&r, "delivered again", "repeated", run.repeated);
        report_count(&r, "acks not accepted", "not_accepted", run.not_accepted);
        report_count(&r, "not confirmed", "failed", run.failed);
    }
    report_real(&r, "time", "seconds", seconds, "s");
    report_real(&r, "rate", "messages_per_second", rate, "msg/s");
    report_bytes(&r, "bodies", "bytes_per_second", rate * (double)o->size,
                 "/s");
    report_end(&r);
}

static int subscribe(struct session *s, struct bench_options *o,
                     const struct bench_place *place)
{
    char name[64];
    struct godwit_subscription subscription = {
        .group = bench_name(place, 0, name),
        .credit_messages = 10000,
        .credit_bytes = CREDIT_BYTES_MAX,
        .handler = on_delivery,
        .on_settled = on_settled,
    };
    int code =
        session_open_stream(s, &o->session, 0, (uint32_t)o->session.connect_ms);
    enum godwit_status status;

    if (code != EXIT_OK) {
        return code;
    }
    status = godwit_subscribe(s->client, &subscription);
    return status == GODWIT_OK ? EXIT_OK
                               : session_failed(s, "cannot subscribe", status);
}

static int measure(struct bench_options *o, const struct bench_place *place)
{
    struct session subscriber = { 0 };
    char topic[64];
    struct crew *producer = crew_new(1);
    char *body = bench_body(o->size);
    uint64_t begin;
    int code = producer != NULL && body != NULL
                   ? crew_add(producer, o, (uint32_t)o->window)
                   : fail(EXIT_FAILED, "out of memory");

    if (code == EXIT_OK) {
        code = crew_connect(producer, o);
    }
    if (code == EXIT_OK) {
        code = subscribe(&subscriber, o, place);
    }
    if (code == EXIT_OK) {
        begin = now_ns();
        code =
            flow(producer, &subscriber, o, bench_name(place, 0, topic), body);
        print_report(o, (double)(now_ns() - begin) / 1e9);
    }
    session_close(&subscriber);
    crew_free(producer);
    free(body);
    return code == EXIT_OK && run.failed > 0
               ? fail(EXIT_FAILED, "not all was confirmed")
               : code;
}

int bench_endtoend(int argc, char **argv)
{
    struct bench_options o = { .size = 1024, .count = 300000, .window = 1000 };
    struct bench_place place;
    int code;

    if (!bench_parse(&o, &help, OPTIONS, argc, argv, &code)) {
        return code;
    }
    code = bench_place_open(&place, &o, 1, 1);
    if (code == EXIT_OK) {
        code = measure(&o, &place);
        bench_place_close(&place);
    }
    return code;
}
