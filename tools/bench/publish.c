/* bench publish: producers that always have a full window of unconfirmed
 * messages, driven by one thread. */
#include "tools/bench/load.h"
#include "tools/bench/sitting.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

#include <stdlib.h>

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_WINDOW | BENCH_PRODUCERS
              | BENCH_DIR | BENCH_PLOT,
    REFILL_NS = 100 * 1000 * 1000
};

static const struct help help = {
    .usage = "godwit bench publish [options]",
    .text = "Publishes as fast as the broker confirms: each producer keeps "
            "--window\n"
            "messages unconfirmed. Prints confirmed messages a second and how "
            "long a\n"
            "confirm took from the call that published (waiting in the window "
            "included).\n",
    .examples =
        "  godwit bench publish\n"
        "  godwit bench publish --size 128 --producers 4 --count 2M\n"
        "  godwit bench publish --window 1 --count 5k    # one at a time\n",
};

/* One thread does all of it; the confirm's argument is the time of sending. */
static struct {
    uint64_t sent;
    uint64_t confirmed;
    uint64_t failed;
    char first_failure[200];
    struct histogram confirm_ns;
} run;

static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    if (confirm->status == GODWIT_OK) {
        run.confirmed++;
        histogram_add(&run.confirm_ns, now_ns() - time_of_arg(arg));
        return;
    }
    if (run.failed == 0) {
        snprintf(run.first_failure, sizeof run.first_failure, "%s",
                 confirm->text != NULL && confirm->text[0] != '\0'
                     ? confirm->text
                     : godwit_status_text(confirm->status));
    }
    run.failed++;
}

static struct sitting sitting;

/* Publish until this client's window is full. */
static void fill_window(struct godwit *client, const char *topic,
                        const struct godwit_message *message, uint64_t count)
{
    while (run.sent < count
           && godwit_publish(client, topic, message, on_confirm,
                             time_as_arg(now_ns()))
                  == GODWIT_OK) {
        run.sent++;
    }
}

static int publish_all(struct crew *crew, const struct bench_options *o,
                       const char *topic, const char *body)
{
    const struct godwit_message message = { .body = body, .body_len = o->size };
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "confirmed", o->count);
    while (run.confirmed + run.failed < o->count && !interrupted()
           && !crew_broken(crew, &code)) {
        for (size_t i = 0; i < crew_count(crew); i++) {
            fill_window(crew_client(crew, i), topic, &message, o->count);
            crew_push(crew, i);
        }
        crew_turn(crew, now_ns() + REFILL_NS);
        progress_show(&progress, run.confirmed);
    }
    progress_end(&progress);
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static void print_report(const struct bench_options *o)
{
    struct report r;
    double rate = (double)run.confirmed / sitting.seconds;

    report_begin(&r, o, "publish", OPTIONS);
    report_count(&r, "confirmed", "confirmed", run.confirmed);
    if (run.failed > 0 || o->json) {
        report_count(&r, "failed", "failed", run.failed);
    }
    report_real(&r, "rate", "messages_per_second", rate, "msg/s");
    report_bytes(&r, "bodies", "bytes_per_second", rate * (double)o->size,
                 "/s");
    sitting_report(&sitting, &r, run.confirmed);
    sitting_report_disk(&sitting, &r, rate * (double)o->size);
    report_latency(&r, "confirm", "confirm_us", &run.confirm_ns);
    report_end(&r);
}

static int all_confirmed(void)
{
    return run.failed == 0 ? EXIT_OK
                           : fail(EXIT_FAILED, "not all was confirmed: %s",
                                  run.first_failure);
}

static int outcome(const struct bench_options *o)
{
    const struct plot_curve curve = { "send to confirm", &run.confirm_ns,
                                      false };

    print_report(o);
    return report_plot(o, "publish", OPTIONS, &curve, 1);
}

static int measure(struct crew *crew, const struct bench_options *o,
                   struct bench_place *place)
{
    char name[64];
    char *body = bench_body(o->size);
    int code = body != NULL ? crew_connect(crew, o)
                            : fail(EXIT_FAILED, "out of memory");

    if (code == EXIT_OK) {
        code = sitting_begin(&sitting, o, &place->admin);
    }
    if (code == EXIT_OK) {
        int ended = publish_all(crew, o, bench_name(place, 0, name), body);

        code = sitting_end(&sitting, 0);
        code = ended == EXIT_OK ? code : ended;
        if (code == EXIT_OK || code == EXIT_INTERRUPTED) {
            int drawn = outcome(o);

            code = code == EXIT_OK ? drawn : code;
        }
    }
    free(body);
    return code == EXIT_OK ? all_confirmed() : code;
}

int bench_fill(const struct bench_options *o, const char *topic)
{
    char *body = bench_body(o->size);
    struct crew *crew = crew_new(1);
    int code;

    memset(&run, 0, sizeof run);
    code = body != NULL && crew != NULL ? crew_add(crew, o, (uint32_t)o->window)
                                        : fail(EXIT_FAILED, "out of memory");
    if (code == EXIT_OK) {
        code = crew_connect(crew, o);
    }
    if (code == EXIT_OK) {
        code = publish_all(crew, o, topic, body);
    }
    crew_free(crew);
    free(body);
    return code == EXIT_OK ? all_confirmed() : code;
}

int bench_publish(int argc, char **argv)
{
    struct bench_options o = {
        .size = 1024, .count = 500000, .window = 1000, .producers = 1
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
    for (uint64_t i = 0; crew != NULL && code == EXIT_OK && i < o.producers;
         i++) {
        code = crew_add(crew, &o, (uint32_t)o.window);
    }
    if (code == EXIT_OK) {
        code = crew != NULL ? measure(crew, &o, &place)
                            : fail(EXIT_FAILED, "out of memory");
    }
    crew_free(crew);
    bench_place_close(&place);
    return code;
}
