/* green: all is well. yellow: it works, but somebody should look. red: nothing
 * can be confirmed any more. */
#include "broker/door/doors.h"

#include "broker/door/json.h"
#include "broker/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum colour { GREEN, YELLOW, RED };

enum { FINDINGS_MAX = 16, FINDING_LEN = 240 };

struct findings {
    enum colour colour;
    size_t count;
    char texts[FINDINGS_MAX][FINDING_LEN];
};

PRINTF_LIKE(4, 5)
static void find(struct findings *findings, bool there, enum colour colour,
                 const char *format, ...)
{
    va_list args;

    if (!there) {
        return;
    }
    CHECK(findings->count < FINDINGS_MAX);
    va_start(args, format);
    (void)vsnprintf(findings->texts[findings->count++], FINDING_LEN, format,
                    args);
    va_end(args);
    if (colour > findings->colour) {
        findings->colour = colour;
    }
}

/* Where damage was seen last, for the operator to begin with. */
static void describe(const struct store_damage *damage, char text[FINDING_LEN])
{
    if (damage->segment == 0) {
        (void)snprintf(text, FINDING_LEN, "the %s",
                       store_damage_word(damage->kind));
    } else {
        (void)snprintf(text, FINDING_LEN, "%010u.seg at %u (%s)",
                       damage->segment, damage->offset,
                       store_damage_word(damage->kind));
    }
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* Not all damage loses a message: how many were lost is in the groups' books.
 */
static void look_for_damage(struct store *store, struct findings *findings)
{
    struct store_damage seen[STORE_DAMAGE_KEPT];
    struct store_stats stats = { 0 };
    uint64_t places = 0;
    size_t count = store_damage_seen(store, &places, seen, COUNT_OF(seen));
    char last[FINDING_LEN] = "";

    store_stats(store, &stats);
    if (count > 0) {
        describe(&seen[count - 1], last);
    }
    find(findings, count > 0, YELLOW,
         "damage: stored bytes are damaged in %" PRIu64
         " place%s; the last: %.60s; what was lost comes to groups as gaps",
         places, plural(places), last);
    find(findings, count == 0 && stats.corrupt_reads > 0, YELLOW,
         "damage: %" PRIu64 " read%s found stored bytes damaged; what was lost "
         "comes to groups as gaps",
         stats.corrupt_reads, plural(stats.corrupt_reads));
}

static uint64_t figure(const _Atomic uint64_t *metric)
{
    return atomic_load_explicit(metric, memory_order_relaxed);
}

static void look_at_keeper(const struct keeper_metrics *m,
                           struct findings *findings)
{
    find(findings, figure(&m->disk_low) != 0, YELLOW,
         "disk_low: %" PRIu64 " MiB are free, %" PRIu64 " wanted "
         "(store.free_mib_min); publishes are refused until there is space",
         figure(&m->disk_free_bytes) >> 20,
         figure(&m->disk_free_bytes_min) >> 20);
    find(findings, figure(&m->upkeep_waits) != 0, YELLOW,
         "upkeep: no space to move messages or write a snapshot, so that no "
         "files are removed");
    find(findings, figure(&m->removal_waits) == STORE_WAIT_HOLD, YELLOW,
         "removal_waits: removal of segments waits for a backup or verify that "
         "holds store.hold in the data folder; let it end, or end it");
    find(findings, figure(&m->removal_waits) == STORE_WAIT_READER, YELLOW,
         "removal_waits: removal of segments waits for a reader; a worker does "
         "not get on");
    find(findings, figure(&m->nothing_deleted) != 0, YELLOW,
         "nothing_deleted: a catalog entry does not read; to be safe no "
         "message is deleted until a restart");
    find(findings, figure(&m->scrub_behind) != 0, YELLOW,
         "scrub: no whole pass in twice store.scrub_hours; raise "
         "store.scrub_mib_s");
}

static void look_at_store(const struct broker_metrics *metrics,
                          struct findings *findings)
{
    if (metrics->store == NULL) {
        return;
    }
    find(findings, store_frozen(metrics->store), RED,
         "store_frozen: a disk operation failed; nothing is confirmed any "
         "more. Look at the log, then restart");
    find(findings, store_space_low(metrics->store), YELLOW,
         "disk_full: no room for the next segment file or for the keydir when "
         "it was last needed; messages are refused until there is");
    look_for_damage(metrics->store, findings);
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
    look_at_keeper(&metrics->keeper, findings);
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
