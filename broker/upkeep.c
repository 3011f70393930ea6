#include "broker/upkeep.h"

#include "broker/clock.h"
#include "broker/log.h"
#include "broker/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

enum {
    ROOM_LEN = 2 * 1024 * 1024, /* of one call; a message fits in any case */
    PERIOD_US = 1000 * 1000,    /* between two looks when nothing is to do, */
    IDLE_US = 5000 * 1000,      /* and when nothing comes in either */
    WAIT_US = 2000, /* between two calls that wait for a sync or a reader */
    BUSY_SHARE = 4, /* with traffic: a fifth of the time; else half of it */
    NO_SPACE_US = 1000 * 1000,     /* without space or memory: until the next */
    SCRUB_BEGIN_US = 1000 * 1000,  /* after the start */
    SCRUB_SLICE_LEN = 1024 * 1024, /* at most in one call, */
    SCRUB_SLICE_US = 100 * 1000,   /* or what the rate gives in this time */
    SCRUB_AGAIN_US = 1000 * 1000,  /* when it failed: behind that place */
    SPACE_PART = 4, /* so much above the low-water publishes go on: 1/4 */
    REMOVAL_WAITS_US = 60 * 1000 * 1000, /* is worth a word */
    DAMAGE_LINES = 16 /* in the log of one look; the rest is only counted */
};

struct upkeep {
    struct upkeep_config config;
    struct policy *policy;
    struct store_policy answers;
    /* retention and merge */
    uint64_t due_us;
    bool commits;            /* there were some since the last call */
    bool waits;              /* the last call found no space or memory */
    struct store_stats told; /* figures as of the last line in the log */
    /* the scrub */
    uint64_t scrub_due_us;
    uint64_t pass_begun_us;
    uint64_t pass_ended_us; /* or the start */
    uint64_t pass_bytes;
    bool scrub_failed;
    /* the disk */
    uint64_t space_due_us;
    uint64_t damage_next; /* number of the first damage not told */
};

/* ---- how full the disk is ---- */

static void tell_low(struct upkeep *u, uint64_t free_bytes)
{
    bool low = free_bytes < u->config.free_bytes_min;

    if (low) {
        log_warn("disk space is low free_mib=%llu free_mib_min=%llu "
                 "effect=\"publishes are refused; acks and deliveries go on\" "
                 "do=\"make room, or let topics keep less\"",
                 (unsigned long long)(free_bytes >> 20),
                 (unsigned long long)(u->config.free_bytes_min >> 20));
    } else {
        log_info("disk space is back free_mib=%llu",
                 (unsigned long long)(free_bytes >> 20));
    }
    metric_set(&u->config.metrics->disk_low, low);
}

static uint64_t sensible_min(const char *dir)
{
    uint64_t min = UINT64_C(64) << 20;
    struct statvfs disk;
    uint64_t part;

    if (statvfs(dir, &disk) != 0) {
        return min;
    }
    part = (uint64_t)disk.f_blocks * disk.f_frsize / 16;
    return part < min ? part : min;
}

/* The two marks keep it from going to and fro with each segment. */
static void look_at_space(struct upkeep *u, uint64_t now_us)
{
    uint64_t min = u->config.free_bytes_min;
    uint64_t enough = upkeep_space_low(u) ? min + min / SPACE_PART : min;
    struct statvfs disk;
    uint64_t free_bytes;

    if (now_us < u->space_due_us || statvfs(u->config.data_dir, &disk) != 0) {
        return;
    }
    u->space_due_us = now_us + PERIOD_US;
    free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    metric_set(&u->config.metrics->disk_free_bytes, free_bytes);
    if ((free_bytes < enough) != upkeep_space_low(u)) {
        tell_low(u, free_bytes);
    }
}

bool upkeep_space_low(const struct upkeep *u)
{
    return atomic_load_explicit(&u->config.metrics->disk_low,
                                memory_order_relaxed)
           != 0;
}

/* ---- damage ---- */

static void tell_damage(struct upkeep *u, const struct store_damage *d)
{
    const char *topic =
        d->topic == 0 ? NULL : policy_topic_name(u->policy, d->topic);
    char len[32] = ""; /* where it is known */

    if (d->segment == 0) {
        log_error("damage found kind=\"%s\"", store_damage_word(d->kind));
        return;
    }
    if (d->len > 0) {
        (void)snprintf(len, sizeof len, " len=%u", d->len);
    }
    log_error("damage found kind=\"%s\" file=%010u.seg offset=%u%s topic=%s "
              "seq=%llu",
              store_damage_word(d->kind), d->segment, d->offset, len,
              topic == NULL ? "-" : topic, (unsigned long long)d->seq);
}

static void look_for_damage(struct upkeep *u)
{
    struct store_damage damage[DAMAGE_LINES];
    size_t count = store_damage_seen(u->config.store, &u->damage_next, damage,
                                     DAMAGE_LINES);

    for (size_t i = 0; i < count; i++) {
        tell_damage(u, &damage[i]);
    }
}

/* ---- retention and merge ---- */

static void tell_progress(struct upkeep *u)
{
    struct store_stats now;

    store_stats(u->config.store, &now);
    if (now.freed_bytes != u->told.freed_bytes) {
        log_debug("segments freed bytes=%llu moved_bytes=%llu disk_mib=%llu",
                  (unsigned long long)(now.freed_bytes - u->told.freed_bytes),
                  (unsigned long long)(now.moved_bytes - u->told.moved_bytes),
                  (unsigned long long)(now.disk_bytes >> 20));
    }
    if (now.snapshots != u->told.snapshots) {
        log_debug("snapshot written");
    }
    u->told = now;
}

static void tell_waits(struct upkeep *u, bool waits, const struct error *err)
{
    if (waits && !u->waits) {
        log_warn("upkeep waits reason=\"%s\" effect=\"no space is freed for "
                 "now\"",
                 err->text);
    } else if (!waits && u->waits) {
        log_info("upkeep goes on");
    }
    u->waits = waits;
    metric_set(&u->config.metrics->upkeep_waits, waits);
}

/* Nothing is wrong yet, but the disk fills. */
static void tell_removal_waits(struct upkeep *u)
{
    _Atomic uint64_t *metric = &u->config.metrics->removal_waits;
    uint64_t before = atomic_load_explicit(metric, memory_order_relaxed);
    struct store_stats now;
    uint64_t waits;

    store_stats(u->config.store, &now);
    waits = now.removal_waits_us >= REMOVAL_WAITS_US ? now.removal_waits : 0;
    if (waits != 0 && waits != before) {
        log_warn("removal of segments waits for=\"%s\" effect=\"no space is "
                 "freed for now\"",
                 waits == STORE_WAIT_HOLD
                     ? "a backup or verify that holds store.hold"
                     : "a reader");
    } else if (waits == 0 && before != 0) {
        log_info("removal of segments goes on");
    }
    metric_set(metric, waits);
}

static void hand_over(struct upkeep *u, const struct store_upkeep *done)
{
    if (done->len == 0) {
        return;
    }
    CHECK(done->len <= done->room);
    submission_write(u->config.to, done->len, false);
    if (submission_publish(u->config.to)) {
        journal_wake(u->config.journal);
    }
}

/* When the next call is due: with much to do it has a share of the time, and
 * all of it while publishes are refused for want of what it frees. */
static uint64_t next_due(const struct upkeep *u,
                         const struct store_upkeep *done, uint64_t begun_us,
                         bool busy)
{
    uint64_t now_us = clock_monotonic_us();
    uint64_t took_us = now_us - begun_us;

    if (!done->more) {
        return now_us + (u->commits ? PERIOD_US : IDLE_US);
    }
    if (done->len == 0 && took_us < WAIT_US) {
        return now_us + WAIT_US;
    }
    if (upkeep_space_low(u) || store_space_low(u->config.store)) {
        return now_us;
    }
    return now_us + took_us * (busy ? BUSY_SHARE : 1);
}

static enum status keep_up(struct upkeep *u, uint64_t now_us, bool busy,
                           struct error *err)
{
    struct store_upkeep call = { .policy = &u->answers,
                                 .now_us = clock_wall_us() };
    enum status status;
    bool waits;

    submission_release(u->config.to, submission_durable(u->config.to));
    if (submission_room(u->config.to) >= ROOM_LEN) {
        call.to = submission_reserve(u->config.to, ROOM_LEN);
        call.room = ROOM_LEN;
    } /* else the journal has enough to do: without it what is dead may go,
       * which makes the space it may be waiting for */
    status = store_upkeep(u->config.store, &call, err);
    waits = status == STATUS_NO_SPACE || status == STATUS_NOMEM;
    if (status != STATUS_OK && !waits) {
        return status;
    }
    hand_over(u, &call);
    u->due_us = waits ? now_us + NO_SPACE_US : next_due(u, &call, now_us, busy);
    if (call.room == 0 && !waits) {
        u->due_us = now_us + WAIT_US;
    }
    u->commits = false;
    tell_waits(u, waits, err);
    tell_removal_waits(u);
    tell_progress(u);
    metric_set(&u->config.metrics->nothing_deleted,
               policy_keeps_all(u->policy));
    metric_add(&u->config.metrics->upkeep_us, clock_monotonic_us() - now_us);
    return STATUS_OK;
}

/* ---- the scrub ---- */

static void tell_pass(struct upkeep *u, uint64_t now_us)
{
    struct store_stats now;

    store_stats(u->config.store, &now);
    log_info("scrub done mib=%llu seconds=%llu damaged_records=%llu "
             "damaged_batches=%llu",
             (unsigned long long)(u->pass_bytes >> 20),
             (unsigned long long)((now_us - u->pass_begun_us) / 1000000),
             (unsigned long long)now.damaged_records,
             (unsigned long long)now.damaged_batches);
}

static void end_pass(struct upkeep *u, uint64_t now_us)
{
    tell_pass(u, now_us);
    u->pass_ended_us = now_us;
    u->scrub_due_us = u->pass_begun_us + u->config.scrub_every_us;
    if (u->scrub_due_us < now_us) {
        u->scrub_due_us = now_us;
    }
    u->pass_begun_us = 0;
    u->pass_bytes = 0;
}

static size_t slice_len(const struct upkeep *u)
{
    uint64_t len = u->config.scrub_bytes_s * SCRUB_SLICE_US / 1000000;

    return len > SCRUB_SLICE_LEN ? SCRUB_SLICE_LEN : (size_t)len;
}

static void scrub_fails(struct upkeep *u, uint64_t now_us,
                        const struct error *err)
{
    if (!u->scrub_failed) {
        log_warn("scrub fails reason=\"%s\"", err->text);
    }
    u->scrub_failed = true;
    u->scrub_due_us = now_us + SCRUB_AGAIN_US;
}

static void scrub_some(struct upkeep *u, uint64_t now_us)
{
    struct store_scrub scrub = { .budget = slice_len(u) };
    struct error err = { 0 };

    if (u->pass_begun_us == 0) {
        u->pass_begun_us = now_us;
    }
    if (store_scrub(u->config.store, &scrub, &err) != STATUS_OK) {
        scrub_fails(u, now_us, &err);
        return;
    }
    u->scrub_failed = false;
    u->pass_bytes += scrub.read;
    u->scrub_due_us = now_us
                      + (scrub.read == 0 ? PERIOD_US
                                         : scrub.read * UINT64_C(1000000)
                                               / u->config.scrub_bytes_s);
    if (scrub.done) {
        end_pass(u, now_us);
    }
    metric_add(&u->config.metrics->scrub_us, clock_monotonic_us() - now_us);
}

static void look_at_scrub(struct upkeep *u, uint64_t now_us)
{
    bool behind = u->config.scrub_bytes_s > 0
                  && now_us - u->pass_ended_us > 2 * u->config.scrub_every_us;

    metric_set(&u->config.metrics->scrub_behind, behind);
    if (u->config.scrub_bytes_s > 0 && now_us >= u->scrub_due_us) {
        scrub_some(u, now_us);
    }
}

/* ---- the face ---- */

void upkeep_commit(struct upkeep *u, const struct store_commit *commit)
{
    policy_commit(u->policy, commit);
    u->commits = true;
    if (u->due_us > clock_monotonic_us() + PERIOD_US) {
        u->due_us = 0;
    }
}

enum status upkeep_step(struct upkeep *u, bool busy, struct error *err)
{
    uint64_t now_us = clock_monotonic_us();
    enum status status = STATUS_OK;

    look_at_space(u, now_us);
    if (now_us >= u->due_us) {
        status = keep_up(u, now_us, busy, err);
    }
    if (status == STATUS_OK) {
        look_at_scrub(u, clock_monotonic_us());
        look_for_damage(u);
    }
    return status;
}

uint64_t upkeep_due_us(const struct upkeep *u)
{
    return u->config.scrub_bytes_s > 0 && u->scrub_due_us < u->due_us
               ? u->scrub_due_us
               : u->due_us;
}

void upkeep_rest(struct upkeep *u)
{
    policy_rest(u->policy);
}

enum status upkeep_new(struct upkeep **out, const struct upkeep_config *config,
                       struct error *err)
{
    struct upkeep *u = calloc(1, sizeof *u);
    enum status status;

    if (u == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "upkeep");
    }
    u->config = *config;
    u->pass_ended_us = clock_monotonic_us();
    u->scrub_due_us = u->pass_ended_us + SCRUB_BEGIN_US;
    if (config->free_bytes_min == FREE_BYTES_BY_DISK) {
        u->config.free_bytes_min = sensible_min(config->data_dir);
    }
    metric_set(&config->metrics->disk_free_bytes_min, u->config.free_bytes_min);
    status = policy_new(&u->policy, config->store, err);
    if (status != STATUS_OK) {
        upkeep_free(u);
        return status;
    }
    u->answers = (struct store_policy) { policy_topic, u->policy };
    *out = u;
    return STATUS_OK;
}

void upkeep_free(struct upkeep *u)
{
    if (u == NULL) {
        return;
    }
    policy_free(u->policy);
    free(u);
}
