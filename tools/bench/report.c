#include "tools/bench/report.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"

#include <math.h>

#define AT(field) offsetof(struct bench_options, field)

static bool over_tls(const struct bench_options *o)
{
    return o->session.url != NULL
           && (strncmp(o->session.url, "wss:", 4) == 0
               || strncmp(o->session.url, "https:", 6) == 0);
}

static void report_words(struct report *r, const struct bench_options *o,
                         unsigned which)
{
    if ((which & BENCH_PROTOCOL) == 0) {
        return;
    }
    if (r->json) {
        json_put_text(&r->w, "protocol",
                      slice_text(o->speak_json ? "json" : "proto"));
        json_put_bool(&r->w, "tls", over_tls(o));
        if ((which & BENCH_PULL) != 0) {
            json_put_bool(&r->w, "pull", o->pull);
        }
        return;
    }
    printf("%s%s%s", o->speak_json ? ", JSON" : "",
           over_tls(o) ? ", over TLS" : "", o->pull ? ", pulled" : "");
}

static const struct {
    unsigned which;
    const char *name;
    size_t at;
} settings[] = { { BENCH_SIZE, "size", AT(size) },
                 { BENCH_WINDOW, "window", AT(window) },
                 { BENCH_RATE, "rate", AT(rate) },
                 { BENCH_PRODUCERS, "producers", AT(producers) },
                 { BENCH_CONSUMERS, "consumers", AT(consumers) },
                 { BENCH_TOPICS, "topics", AT(topics) },
                 { BENCH_CONNECTIONS, "connections", AT(connections) },
                 { BENCH_GROUPS | BENCH_FAN, "groups", AT(groups) } };

static uint64_t value_of(const struct bench_options *o, size_t setting)
{
    uint64_t value;

    memcpy(&value, (const char *)o + settings[setting].at, sizeof value);
    return value;
}

static void report_settings(struct report *r, const struct bench_options *o,
                            unsigned which)
{
    const char *separator = ": ";
    char text[HUMAN_LEN];

    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        if ((settings[i].which & which) == 0) {
            continue;
        }
        if (r->json) {
            json_put_number(&r->w, settings[i].name, value_of(o, i));
        } else {
            printf("%s%s %s", separator, settings[i].name,
                   human_count(text, value_of(o, i)));
            separator = ", ";
        }
    }
    report_words(r, o, which);
}

void report_begin(struct report *r, const struct bench_options *o,
                  const char *name, unsigned which)
{
    *r = (struct report) { .json = o->json };
    if (r->json) {
        json_begin(&r->w, NULL, '{');
        json_put_text(&r->w, "bench", slice_text(name));
        json_put_bool(&r->w, "interrupted", interrupted());
    } else {
        printf("%s", name);
    }
    report_settings(r, o, which);
    if (!r->json) {
        printf("%s\n", interrupted() ? " (interrupted)" : "");
    }
}

void report_count(struct report *r, const char *label, const char *field,
                  uint64_t value)
{
    char text[HUMAN_LEN];

    if (r->json) {
        json_put_number(&r->w, field, value);
    } else {
        printf("  %-20s %12s\n", label, human_count(text, value));
    }
}

void report_real(struct report *r, const char *label, const char *field,
                 double value, const char *unit)
{
    char text[HUMAN_LEN];

    if (r->json) {
        json_put_real(&r->w, field, value);
    } else if (!isnan(value)) {
        printf("  %-20s %12s %s\n", label, human_real(text, value), unit);
    }
}

void report_bytes(struct report *r, const char *label, const char *field,
                  double value, const char *unit)
{
    char text[HUMAN_LEN];

    if (r->json) {
        json_put_real(&r->w, field, value);
    } else if (!isnan(
                   value)) { /* the number in its column, "MiB/s" behind it */
        size_t digits = strcspn(human_bytes(text, value), " ");

        printf("  %-20s %12.*s%s%s\n", label, (int)digits, text, text + digits,
               unit);
    }
}

static void print_latency(const char *label, const char *point, uint64_t ns)
{
    char text[HUMAN_LEN];
    size_t digits = strcspn(human_duration(text, ns), " ");

    printf("  %-18s%6s %8.*s%s\n", label, point, (int)digits, text,
           text + digits);
}

void report_latency(struct report *r, const char *label, const char *field,
                    const struct histogram *h)
{
    static const struct {
        const char *label;
        const char *field;
        double percent;
    } points[] = { { "p50", "p50", 50 },          { "p90", "p90", 90 },
                   { "p99", "p99", 99 },          { "p99.9", "p99_9", 99.9 },
                   { "p99.99", "p99_99", 99.99 }, { "max", "max", 100 } };

    if (h->count == 0) {
        report_real(r, label, field, NAN, "");
        return;
    }
    if (r->json) {
        json_begin(&r->w, field, '{');
    }
    for (size_t i = 0; i < COUNT_OF(points); i++) {
        uint64_t ns = histogram_percentile(h, points[i].percent);
        bool known = histogram_tells(h, points[i].percent);

        if (r->json) {
            json_put_real(&r->w, points[i].field,
                          known ? (double)ns / 1e3 : NAN);
        } else if (known) {
            print_latency(i == 0 ? label : "", points[i].label, ns);
        }
    }
    if (r->json) {
        json_put_real(&r->w, "mean", histogram_mean(h) / 1e3);
        json_put_number(&r->w, "count", h->count);
        json_end(&r->w, '}');
    }
}

void report_end(struct report *r)
{
    if (r->json) {
        const char *text;

        json_end(&r->w, '}');
        text = json_done(&r->w);
        puts(text != NULL ? text : "");
        json_writer_fini(&r->w);
    }
}

int report_plot(const struct bench_options *o, const char *name, unsigned which,
                const struct plot_curve *curves, size_t count)
{
    char title[64];
    char subtitle[256];
    char text[HUMAN_LEN];
    size_t at;
    struct plot plot = { .title = title, .subtitle = subtitle };

    if (o->plot == NULL) {
        return EXIT_OK;
    }
    for (plot.count = 0; plot.count < count; plot.count++) {
        plot.curves[plot.count] = curves[plot.count];
    }
    snprintf(title, sizeof title, "godwit bench %s", name);
    at = (size_t)snprintf(subtitle, sizeof subtitle, "bodies of %s",
                          human_bytes(text, (double)o->size));
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        if ((settings[i].which & which) != 0 && settings[i].at != AT(size)) {
            at += (size_t)snprintf(subtitle + at, sizeof subtitle - at,
                                   ", %s %s%s", settings[i].name,
                                   human_count(text, value_of(o, i)),
                                   settings[i].at == AT(rate) ? "/s" : "");
        }
    }
    snprintf(subtitle + at, sizeof subtitle - at, "%s%s%s%s",
             o->speak_json ? ", JSON" : "", over_tls(o) ? ", TLS" : "",
             o->pull ? ", pulled" : "", interrupted() ? ", interrupted" : "");
    return plot_draw(o->plot, &plot);
}
