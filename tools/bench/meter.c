#include "tools/bench/meter.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"

#include <math.h>

enum { APPEND_MS = 500, OTHER_MS = 150 };

static int measure_limits(struct meter *m)
{
    int code = EXIT_OK;

    if (m->o->dir == NULL || interrupted()) {
        return EXIT_OK;
    }
    if (m->file.bytes == NULL) {
        code = limit_file_open(&m->file, m->o->dir);
    }
    if (code == EXIT_OK) {
        code = limit_append(&m->file, APPEND_MS, &m->disk);
    }
    if (code == EXIT_OK) {
        code = limit_sync(&m->file, OTHER_MS, &m->sync_ns);
    }
    return code == EXIT_OK ? limit_loopback(OTHER_MS, &m->loopback) : code;
}

int meter_begin(struct meter *m, const struct bench_options *o,
                struct session *admin)
{
    int code;

    *m = (struct meter) { .o = o, .admin = admin, .file.fd = -1 };
    code = measure_limits(m);
    if (code != EXIT_OK) {
        limit_file_close(&m->file);
        return code;
    }
    m->broker = usage_of_broker(admin, 0);
    m->own_cpu = usage_own_cpu();
    m->begin_ns = now_ns();
    return EXIT_OK;
}

int meter_end(struct meter *m, int code, uint64_t end_ns)
{
    struct usage after = { 0 };

    m->seconds =
        (double)((end_ns != 0 ? end_ns : now_ns()) - m->begin_ns) / 1e9;
    m->own_cpu = usage_own_cpu() - m->own_cpu;
    if (code == EXIT_OK || code == EXIT_INTERRUPTED) {
        after = usage_of_broker(m->admin, 0);
    }
    m->broker_known = m->broker.known && after.known;
    m->broker_cpu = after.cpu_seconds - m->broker.cpu_seconds;
    if (code == EXIT_OK) {
        code = measure_limits(m);
    }
    limit_file_close(&m->file);
    return code;
}

void meter_report(const struct meter *m, struct report *r, uint64_t count,
                  const char *what)
{
    double each = count > 0 ? 1e6 / (double)count : NAN;
    char unit[32];

    snprintf(unit, sizeof unit, "µs a %s", what);
    report_real(r, "time", "seconds", m->seconds, "s");
    report_real(r, "broker's processor", "broker_cpu_us",
                m->broker_known ? m->broker_cpu * each : NAN, unit);
    report_real(r, "this side's", "load_cpu_us", m->own_cpu * each, unit);
}

static void report_share(struct report *r, const char *label, const char *field,
                         double have, double of)
{
    report_real(r, label, field, have / of * 100, "%");
}

void meter_report_disk(const struct meter *m, struct report *r,
                       double bytes_per_second)
{
    if (m->o->dir == NULL) {
        return;
    }
    report_bytes(r, "plain synced appends", "disk_bytes_per_second",
                 appends_bytes(&m->disk), "/s");
    report_share(r, "share of them", "disk_percent", bytes_per_second,
                 appends_bytes(&m->disk));
}

void meter_report_loopback(const struct meter *m, struct report *r,
                           double bytes_per_second)
{
    if (m->o->dir == NULL) {
        return;
    }
    report_bytes(r, "plain loopback", "loopback_bytes_per_second",
                 pace_bytes(&m->loopback), "/s");
    report_share(r, "share of it", "loopback_percent", bytes_per_second,
                 pace_bytes(&m->loopback));
}
