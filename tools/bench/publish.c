/* bench publish: producers that always have a full window of unconfirmed
 * messages, driven by one thread. */
#include "tools/bench/producers.h"
#include "tools/bench/sitting.h"

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
static struct sitting sitting;

static int publish_all(struct crew *crew, const struct bench_options *o)
{
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "confirmed", o->count);
    while (!producers_done(&producers) && !interrupted()
           && !crew_broken(crew, &code)) {
        producers_push(&producers);
        crew_turn(crew, now_ns() + REFILL_NS);
        progress_show(&progress, producers.confirmed);
    }
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static int print_report(const struct bench_options *o)
{
    const struct plot_curve curve = { "send to confirm", &producers.confirm_ns,
                                      false };
    double rate = (double)producers.confirmed / sitting.seconds;
    struct report r;

    report_begin(&r, o, "publish", OPTIONS);
    report_count(&r, "confirmed", "confirmed", producers.confirmed);
    if (producers.failed > 0 || o->json) {
        report_count(&r, "failed", "failed", producers.failed);
    }
    report_real(&r, "rate", "messages_per_second", rate, "msg/s");
    report_bytes(&r, "bodies", "bytes_per_second", rate * (double)o->size,
                 "/s");
    sitting_report(&sitting, &r, producers.confirmed, "message");
    sitting_report_disk(&sitting, &r, rate * (double)o->size);
    report_latency(&r, "send to confirm", "confirm_us", &producers.confirm_ns);
    report_end(&r);
    return report_plot(o, "publish", OPTIONS, &curve, 1);
}

/* Producers that are connected. */
static int prepare(struct crew *crew, const struct bench_options *o,
                   const struct bench_place *place)
{
    int code = crew != NULL ? producers_open(&producers, crew, o, place)
                            : fail(EXIT_FAILED, "out of memory");

    return code == EXIT_OK ? crew_connect(crew, o) : code;
}

static int measure(struct crew *crew, const struct bench_options *o,
                   struct bench_place *place)
{
    int code = prepare(crew, o, place);

    if (code == EXIT_OK) {
        code = sitting_begin(&sitting, o, &place->admin);
    }
    if (code == EXIT_OK) {
        code = sitting_end(&sitting, publish_all(crew, o), 0);
        code = bench_outcome(code, print_report, o);
    }
    return code == EXIT_OK ? producers_outcome(&producers) : code;
}

int bench_fill(const struct bench_options *o, const struct bench_place *place)
{
    struct crew *crew = crew_new(o->producers);
    int code = prepare(crew, o, place);

    if (code == EXIT_OK) {
        code = publish_all(crew, o);
    }
    if (code == EXIT_OK) {
        code = producers_outcome(&producers);
    }
    crew_free(crew);
    producers_close(&producers);
    return code;
}

int bench_publish(int argc, char **argv)
{
    struct bench_options o = {
        .size = 1024, .count = 1000000, .window = 1000, .producers = 1
    };
    struct bench_place place;
    struct crew *crew;
    int code;

    if (!bench_parse(&o, &help, OPTIONS, argc, argv, &code)) {
        return code;
    }
    code = bench_place_open(&place, &o, 1, 0);
    if (code != EXIT_OK) {
        return code;
    }
    crew = crew_new(o.producers);
    code = measure(crew, &o, &place);
    crew_free(crew);
    producers_close(&producers);
    bench_place_close(&place);
    return code;
}
