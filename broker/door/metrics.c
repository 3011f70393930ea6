#include "broker/metrics.h"

#include "broker/door/doors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* One family of one sample; counters end in _total. */
static enum status put(struct bytes *to, const char *name, const char *type,
                       const char *help, double value)
{
    char text[640];
    const char *suffix = strcmp(type, "counter") == 0 ? "_total" : "";
    int len =
        snprintf(text, sizeof text,
                 "# HELP godwit_%s%s %s\n# TYPE godwit_%s%s %s\n"
                 "godwit_%s%s %.17g\n",
                 name, suffix, help, name, suffix, type, name, suffix, value);

    CHECK(len > 0 && (size_t)len < sizeof text);
    return bytes_append(to, text, (size_t)len);
}

struct row {
    const char *name, *type, *help;
    uint64_t value;
};

static enum status put_rows(struct bytes *to, const struct row *rows,
                            size_t count)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = put(to, rows[i].name, rows[i].type, rows[i].help,
                     (double)rows[i].value);
    }
    return status;
}

/* The workers' sum: which worker it was is nobody's business outside. */
#define X(name, type, help)                                                    \
    static uint64_t sum_##name(const struct broker_metrics *metrics)           \
    {                                                                          \
        uint64_t sum = 0;                                                      \
                                                                               \
        for (size_t i = 0; i < metrics->worker_count; i++) {                   \
            sum += atomic_load_explicit(&metrics->workers[i].name,             \
                                        memory_order_relaxed);                 \
        }                                                                      \
        return sum;                                                            \
    }
WORKER_METRICS(X)
#undef X

static enum status put_workers(const struct broker_metrics *metrics,
                               struct bytes *to)
{
    const struct row rows[] = {
#define X(name, type, help) { #name, #type, help, sum_##name(metrics) },
        WORKER_METRICS(X)
#undef X
    };

    return put_rows(to, rows, COUNT_OF(rows));
}

/* ---- one family with a label ---- */

struct sample {
    const char *label;
    uint64_t value;
};

static enum status put_labelled(struct bytes *to, const struct row *family,
                                const char *label_name,
                                const struct sample *samples, size_t count)
{
    const char *suffix = strcmp(family->type, "counter") == 0 ? "_total" : "";
    char text[640];
    int len = snprintf(
        text, sizeof text, "# HELP godwit_%s%s %s\n# TYPE godwit_%s%s %s\n",
        family->name, suffix, family->help, family->name, suffix, family->type);
    enum status status = bytes_append(to, text, (size_t)len);

    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        len = snprintf(text, sizeof text,
                       "godwit_%s%s{%s=\"%s\"} %" PRIu64 "\n", family->name,
                       suffix, label_name, samples[i].label, samples[i].value);
        CHECK(len > 0 && (size_t)len < sizeof text);
        status = bytes_append(to, text, (size_t)len);
    }
    return status;
}

static uint64_t sum_of(const struct broker_metrics *metrics, size_t offset)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < metrics->worker_count; i++) {
        const char *at = (const char *)&metrics->workers[i] + offset;

        sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)at,
                                    memory_order_relaxed);
    }
    return sum;
}

static enum status put_books(const struct broker_metrics *metrics,
                             struct bytes *to)
{
    static const struct row family = {
        "messages", "gauge",
        "Messages of all groups' lanes by where they stand, at the last look", 0
    };
    const struct sample samples[] = {
#define X(name)                                                                \
    { #name, sum_of(metrics, offsetof(struct worker_metrics, books.name)) },
        BOOKS_METRICS(X)
#undef X
    };

    return put_labelled(to, &family, "state", samples, COUNT_OF(samples));
}

static const char *const tier_words[TIERS] = { "heap", "direct", "file" };

static enum status put_tiers(const struct broker_metrics *metrics,
                             struct bytes *to)
{
    static const struct {
        struct row family;
        size_t offset;
    } rows[] = {
#define X(name, type, help)                                                    \
    { { #name, #type, help, 0 }, offsetof(struct tier_metrics, name) },
        TIER_METRICS(X)
#undef X
    };
    enum status status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < COUNT_OF(rows); i++) {
        struct sample samples[TIERS];

        for (size_t tier = 0; tier < TIERS; tier++) {
            samples[tier].label = tier_words[tier];
            samples[tier].value =
                sum_of(metrics, offsetof(struct worker_metrics, tiers)
                                    + tier * sizeof(struct tier_metrics)
                                    + rows[i].offset);
        }
        status = put_labelled(to, &rows[i].family, "tier", samples, TIERS);
    }
    return status;
}

static enum status put_journal(const struct broker_metrics *metrics,
                               struct bytes *to)
{
    const struct row rows[] = {
#define X(name, type, help)                                                    \
    { "journal_" #name, #type, help,                                           \
      atomic_load_explicit(&metrics->journal.name, memory_order_relaxed) },
        JOURNAL_METRICS(X)
#undef X
    };

    return put_rows(to, rows, COUNT_OF(rows));
}

static enum status put_keeper(const struct broker_metrics *metrics,
                              struct bytes *to)
{
    const struct row rows[] = {
#define X(name, type, help)                                                    \
    { "keeper_" #name, #type, help,                                            \
      atomic_load_explicit(&metrics->keeper.name, memory_order_relaxed) },
        KEEPER_METRICS(X)
#undef X
    };

    return put_rows(to, rows, COUNT_OF(rows));
}

static enum status put_store(const struct broker_metrics *metrics,
                             struct bytes *to)
{
    struct store_stats stats = { 0 };

    store_stats(metrics->store, &stats);
    const struct row rows[] = {
        { "store_segments", "gauge", "Segment files", stats.segments },
        { "store_log_bytes", "counter", "Bytes appended since the start",
          stats.log_bytes },
        { "store_records", "counter", "Records appended", stats.records },
        { "store_batches", "counter", "Commit batches appended",
          stats.batches },
        { "store_syncs", "counter", "fdatasync calls", stats.syncs },
        { "store_checkpoints", "counter", "Keydir transactions",
          stats.checkpoints },
        { "store_duplicates", "counter", "Publishes stored before",
          stats.duplicates },
        { "store_refused", "counter", "Messages refused for want of space",
          stats.refused },
        { "store_corrupt_reads", "counter", "Reads that found damage",
          stats.corrupt_reads },
        { "store_disk_bytes", "gauge", "Bytes of all files of the log",
          stats.disk_bytes },
        { "store_pool_segments", "gauge", "Files kept to be used again",
          stats.pool_segments },
        { "store_keydir_bytes", "gauge", "Bytes of the keydir's file",
          stats.keydir_bytes },
        { "store_moved_bytes", "counter",
          "Bytes of messages moved out of old files", stats.moved_bytes },
        { "store_freed_bytes", "counter",
          "Bytes of files removed or used again", stats.freed_bytes },
        { "store_snapshots", "counter", "Snapshots written", stats.snapshots },
        { "store_scrubbed_bytes", "counter", "Bytes read again and verified",
          stats.scrubbed_bytes },
        { "store_scrub_passes", "counter", "Whole passes over the log",
          stats.scrub_passes },
        { "store_damaged_records", "counter", "Damaged records found",
          stats.damaged_records },
        { "store_damaged_batches", "counter", "Damaged batches found",
          stats.damaged_batches },
        { "store_frozen", "gauge", "1 after an I/O error",
          store_frozen(metrics->store) },
        { "store_space_low", "gauge",
          "1 while messages are refused: no room for the next segment file or "
          "for the keydir",
          store_space_low(metrics->store) },
    };

    return put_rows(to, rows, COUNT_OF(rows));
}

static enum status put_recovery(const struct broker_metrics *metrics,
                                struct bytes *to)
{
    const struct store_recovery *recovery = metrics->recovery;
    enum status status =
        put(to, "recovery_seconds", "gauge",
            "What the last start took to recover", (double)recovery->us / 1e6);

    if (status == STATUS_OK) {
        status = put(to, "recovery_replayed_bytes", "gauge",
                     "Bytes of the log replayed at the last start",
                     (double)recovery->replayed_bytes);
    }
    if (status == STATUS_OK) {
        status = put(to, "recovery_damaged_bytes", "gauge",
                     "Bytes found damaged at the last start",
                     (double)recovery->damaged_bytes);
    }
    return status;
}

/* The second number of the file is pages. */
static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    char text[128] = "";
    const char *space;

    if (file == NULL) {
        return 0;
    }
    if (fgets(text, sizeof text, file) == NULL) {
        text[0] = '\0';
    }
    fclose(file);
    space = strchr(text, ' ');
    return space == NULL
               ? 0
               : strtoull(space, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The names every exporter uses, without our prefix. */
static enum status put_process(struct bytes *to)
{
    char text[512];
    struct timespec cpu = { 0 };
    int len;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    len = snprintf(
        text, sizeof text,
        "# HELP process_cpu_seconds_total Time on the processors\n"
        "# TYPE process_cpu_seconds_total counter\n"
        "process_cpu_seconds_total %.6f\n"
        "# HELP process_resident_memory_bytes Memory, mapped files included\n"
        "# TYPE process_resident_memory_bytes gauge\n"
        "process_resident_memory_bytes %" PRIu64 "\n",
        (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9, resident_bytes());
    CHECK(len > 0 && (size_t)len < sizeof text);
    return bytes_append(to, text, (size_t)len);
}

enum status metrics_write(const struct broker_metrics *metrics,
                          struct bytes *to)
{
    enum status status = put(to, "start_time_seconds", "gauge",
                             "When the broker started, since 1970",
                             (double)metrics->started_us / 1e6);

    if (status == STATUS_OK) {
        status = put_process(to);
    }
    if (status == STATUS_OK) {
        status = put_workers(metrics, to);
    }
    if (status == STATUS_OK) {
        status = put_books(metrics, to);
    }
    if (status == STATUS_OK) {
        status = put_tiers(metrics, to);
    }
    if (status == STATUS_OK) {
        status = put_journal(metrics, to);
    }
    if (status == STATUS_OK) {
        status = put_keeper(metrics, to);
    }
    if (status == STATUS_OK && metrics->store != NULL) {
        status = put_store(metrics, to);
    }
    if (status == STATUS_OK && metrics->recovery != NULL) {
        status = put_recovery(metrics, to);
    }
    return status;
}
