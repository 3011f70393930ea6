#include "tools/bench/sitting.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"

#include <math.h>

enum { APPEND_MS = 500, OTHER_MS = 150 };

static int measure_limits(struct sitting *s)
{
    int code = EXIT_OK;

    if (s->o->dir == NULL || interrupted()) {
        return EXIT_OK;
    }
    if (s->file.bytes == NULL) {
        code = limit_file_open(&s->file, s->o->dir);
    }
    if (code == EXIT_OK) {
        code = limit_append(&s->file, APPEND_MS, &s->disk);
    }
    if (code == EXIT_OK) {
        code = limit_sync(&s->file, OTHER_MS, &s->sync_ns);
    }
    return code == EXIT_OK ? limit_loopback(OTHER_MS, &s->loopback) : code;
}

int sitting_begin(struct sitting *s, const struct bench_options *o,
                  struct session *admin)
{
    int code;

    *s = (struct sitting) { .o = o, .admin = admin, .file.fd = -1 };
    code = measure_limits(s);
    if (code != EXIT_OK) {
        limit_file_close(&s->file);
        return code;
    }
    s->broker = usage_of_broker(admin, 0);
    s->own_cpu = usage_own_cpu();
    s->begin_ns = now_ns();
    return EXIT_OK;
}

int sitting_end(struct sitting *s, int code, uint64_t end_ns)
{
    struct usage after = { 0 };

    s->seconds =
        (double)((end_ns != 0 ? end_ns : now_ns()) - s->begin_ns) / 1e9;
    s->own_cpu = usage_own_cpu() - s->own_cpu;
    if (code == EXIT_OK || code == EXIT_INTERRUPTED) {
        after = usage_of_broker(s->admin, 0);
    }
    s->broker_known = s->broker.known && after.known;
    s->broker_cpu = after.cpu_seconds - s->broker.cpu_seconds;
    if (code == EXIT_OK) {
        code = measure_limits(s);
    }
    limit_file_close(&s->file);
    return code;
}

void sitting_report(const struct sitting *s, struct report *r, uint64_t count,
                    const char *what)
{
    double each = count > 0 ? 1e6 / (double)count : NAN;
    char unit[32];

    snprintf(unit, sizeof unit, "µs a %s", what);
    report_real(r, "time", "seconds", s->seconds, "s");
    report_real(r, "broker's processor", "broker_cpu_us",
                s->broker_known ? s->broker_cpu * each : NAN, unit);
    report_real(r, "this side's", "load_cpu_us", s->own_cpu * each, unit);
}

static void report_share(struct report *r, const char *label, const char *field,
                         double have, double of)
{
    report_real(r, label, field, have / of * 100, "%");
}

void sitting_report_disk(const struct sitting *s, struct report *r,
                         double bytes_per_second)
{
    if (s->o->dir == NULL) {
        return;
    }
    report_bytes(r, "plain synced appends", "disk_bytes_per_second",
                 appends_bytes(&s->disk), "/s");
    report_share(r, "share of them", "disk_percent", bytes_per_second,
                 appends_bytes(&s->disk));
}

void sitting_report_loopback(const struct sitting *s, struct report *r,
                             double bytes_per_second)
{
    if (s->o->dir == NULL) {
        return;
    }
    report_bytes(r, "plain loopback", "loopback_bytes_per_second",
                 pace_bytes(&s->loopback), "/s");
    report_share(r, "share of it", "loopback_percent", bytes_per_second,
                 pace_bytes(&s->loopback));
}
