/* green: all is well. yellow: it works, but somebody should look. red: nothing
 * can be confirmed any more. */
#include "broker/door/doors.h"

#include "broker/door/json.h"
#include "broker/metrics.h"

#include <stdio.h>
#include <time.h>

enum colour { GREEN, YELLOW, RED };

struct findings {
    enum colour colour;
    size_t count;
    const char *texts[8];
};

static void find(struct findings *findings, bool there, enum colour colour,
                 const char *text)
{
    if (!there) {
        return;
    }
    CHECK(findings->count < COUNT_OF(findings->texts));
    findings->texts[findings->count++] = text;
    if (colour > findings->colour) {
        findings->colour = colour;
    }
}

static void look_at_store(const struct broker_metrics *metrics,
                          struct findings *findings)
{
    struct store_stats stats = { 0 };

    if (metrics->store == NULL) {
        return;
    }
    store_stats(metrics->store, &stats);
    find(findings, store_frozen(metrics->store), RED,
         "store_frozen: a disk operation failed; nothing is confirmed any "
         "more. Look at the log, then restart");
    find(findings, store_space_low(metrics->store), YELLOW,
         "disk_full: messages are refused until there is space");
    find(findings, stats.corrupt_reads > 0, YELLOW,
         "corrupt_reads: stored messages were found damaged and reported as "
         "gaps");
}

static bool is_damaged(const struct store_recovery *recovery)
{
    return recovery->damaged_batches > 0 || recovery->damaged_bytes > 0;
}

static void look(const struct broker_metrics *metrics,
                 struct findings *findings)
{
    uint64_t differences = 0;

    look_at_store(metrics, findings);
    find(findings, metrics->recovery != NULL && is_damaged(metrics->recovery),
         YELLOW, "damage: the last start found damaged parts of the log");
    find(findings,
         metrics->recovery != NULL && metrics->recovery->missing_segments > 0,
         YELLOW,
         "missing_segments: the last start found files of the log gone; their "
         "messages are reported as gaps");
    for (size_t i = 0; i < metrics->worker_count; i++) {
        differences += atomic_load_explicit(
            &metrics->workers[i].books_differences, memory_order_relaxed);
    }
    find(findings, differences > 0, YELLOW,
         "books: the counts of a group's lane do not add up");
}

static uint64_t uptime_s(uint64_t started_us)
{
    struct timespec now;
    uint64_t now_us;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return 0;
    }
    now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return now_us > started_us ? (now_us - started_us) / 1000000 : 0;
}

enum status health_write(const struct broker_metrics *metrics, struct bytes *to,
                         int *code)
{
    static const char *const colours[] = { "green", "yellow", "red" };
    struct findings findings = { 0 };
    struct json json = json_to(to);

    look(metrics, &findings);
    *code = findings.colour == RED ? 503 : 200;
    json_begin_object(&json, NULL);
    json_word(&json, "status", colours[findings.colour]);
    json_begin_array(&json, "reasons");
    for (size_t i = 0; i < findings.count; i++) {
        json_word(&json, NULL, findings.texts[i]);
    }
    json_end_array(&json);
    json_word(&json, "version", GODWIT_VERSION);
    json_number(&json, "uptime_s", uptime_s(metrics->started_us));
    json_end_object(&json);
    return json.status;
}
