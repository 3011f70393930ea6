#include "broker/journal.h"

#include "broker/clock.h"
#include "broker/log.h"
#include "broker/priority.h"
#include "proto/limits.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    RIDE_US = 2000,      /* acks wait this long for a publish to ride with */
    QUICK_SYNC_US = 500, /* a disk slower than this on average gets no worker */
    SYNC_WEIGHT = 16,    /* of the average: the newest counts one in so many */
    NO_SPACE_RETRY_MS = 100, /* not even the reserve has room */
    RING_FULL_RETRY_MS = 100 /* a lost wake-up would cost no more than this */
};

struct journal {
    struct journal_config config;
    pthread_t thread;
    int wake_fd; /* eventfd */
    _Atomic bool stopping;
    _Atomic uint64_t sync_us; /* a running average */
    /* Held by whoever commits: the journal's thread, unless it sleeps for
     * records, or a worker in its place. It guards all that follows, the
     * journal's side of the rings and its half of the store. */
    pthread_mutex_t lock;
    struct store_span spans[WORKER_COUNT_MAX];
    struct store_span merge;  /* the keeper's */
    uint64_t merge_wait_us;   /* it found no room: not before then; 0: go on */
    uint64_t riding_since_us; /* 0: no acks wait for a ride */
    bool wants_urgent; /* what the sleeping thread wants to be woken for */
    bool told_full;    /* that the disk is full, */
    bool told_frozen;  /* that the store froze: each is logged once */
    bool stuck;        /* the last group found no room at all */
};

static void drain_wakes(struct journal *j)
{
    uint64_t count;

    while (read(j->wake_fd, &count, sizeof count) > 0) {
    }
}

static void park(struct journal *j, int timeout_ms)
{
    struct pollfd fd = { .fd = j->wake_fd, .events = POLLIN };

    if (poll(&fd, 1, timeout_ms) > 0) {
        drain_wakes(j);
    }
}

/* The keeper's records are left alone for now. */
static bool merge_waits(struct journal *j)
{
    if (j->merge_wait_us != 0 && clock_monotonic_us() >= j->merge_wait_us) {
        j->merge_wait_us = 0;
    }
    return j->merge_wait_us != 0;
}

/* Sleep until a ring has something (for urgent_only: something urgent), or the
 * time is over (0: no time). Each ring is told first, then looked at once more.
 * Meanwhile a worker may hold the lock. */
static void sleep_for_records(struct journal *j, bool urgent_only,
                              uint64_t timeout_us)
{
    bool quiet = true;
    struct pollfd fd = { .fd = j->wake_fd, .events = POLLIN };
    struct timespec ts;

    if (merge_waits(j) && timeout_us == 0) {
        timeout_us = NO_SPACE_RETRY_MS * 1000;
    }
    ts = (struct timespec) { .tv_sec = (time_t)(timeout_us / 1000000),
                             .tv_nsec = (long)(timeout_us % 1000000) * 1000 };
    for (size_t w = 0; w < j->config.worker_count; w++) {
        quiet &= submission_sleep(j->config.submissions[w], urgent_only);
    }
    if (j->merge_wait_us == 0) {
        quiet &= submission_sleep(j->config.keeper, urgent_only);
    }
    if (quiet && !atomic_load(&j->stopping)) {
        j->wants_urgent = urgent_only;
        CHECK(pthread_mutex_unlock(&j->lock) == 0);
        if (ppoll(&fd, 1, timeout_us == 0 ? NULL : &ts, NULL) > 0) {
            drain_wakes(j);
        }
        CHECK(pthread_mutex_lock(&j->lock) == 0);
    }
    for (size_t w = 0; w < j->config.worker_count; w++) {
        submission_awake(j->config.submissions[w]);
    }
    submission_awake(j->config.keeper);
}

/* What each worker has to offer. Returns whether there is anything; *urgent
 * whether somebody waits for it. */
static bool collect_from_workers(struct journal *j, bool *urgent)
{
    bool any = false;

    *urgent = false;
    for (size_t w = 0; w < j->config.worker_count; w++) {
        struct submission *s = j->config.submissions[w];
        struct store_span *span = &j->spans[w];

        /* Asked first: what is urgent is then surely within the peek. */
        *urgent |= submission_urgent(s);
        span->len = submission_peek(s, &span->at);
        span->taken = 0;
        any |= span->len > 0;
    }
    return any;
}

static bool collect(struct journal *j, bool *urgent)
{
    bool any = collect_from_workers(j, urgent);

    /* At the end what the keeper moves may as well stay where it is. */
    j->merge.len = atomic_load(&j->stopping) || merge_waits(j)
                       ? 0
                       : submission_peek(j->config.keeper, &j->merge.at);
    j->merge.taken = 0;
    return any || j->merge.len > 0;
}

/* Acks, and what the keeper moves, wait a little for a publish whose sync they
 * can share. */
static bool should_ride(struct journal *j, bool urgent)
{
    uint64_t now = clock_monotonic_us();

    if (urgent || atomic_load(&j->stopping)) {
        j->riding_since_us = 0;
        return false;
    }
    if (j->riding_since_us == 0) {
        j->riding_since_us = now;
    }
    if (now - j->riding_since_us >= RIDE_US) {
        j->riding_since_us = 0;
        return false;
    }
    sleep_for_records(j, true, RIDE_US - (now - j->riding_since_us));
    return true;
}

static void wake_workers(struct journal *j)
{
    for (size_t w = 0; w < j->config.worker_count; w++) {
        j->config.wake_worker(j->config.arg, w);
    }
}

/* Whatever it was, nothing that is not durable by now will ever be confirmed.
 * The workers see store_frozen() and answer what waits. */
static void report_frozen(struct journal *j, const struct error *err)
{
    if (!j->told_frozen) {
        j->told_frozen = true;
        log_error("store frozen reason=\"%s\" effect=\"no publish or ack is "
                  "confirmed any more; reads go on\" do=\"mend the disk, then "
                  "restart\"",
                  err->text);
    }
    wake_workers(j);
}

static void no_space(struct journal *j, const struct error *err)
{
    if (!j->told_full) {
        j->told_full = true;
        log_error("disk full reason=\"%s\" effect=\"acks wait too\"",
                  err->text);
    }
    j->stuck = true;
    park(j, NO_SPACE_RETRY_MS);
}

static void count_group(struct journal *j, const struct store_commit *commit,
                        uint64_t append_us, uint64_t sync_us)
{
    struct journal_metrics *m = j->config.metrics;
    uint64_t average = atomic_load_explicit(&j->sync_us, memory_order_relaxed);

    atomic_store_explicit(&j->sync_us,
                          (average * (SYNC_WEIGHT - 1) + sync_us) / SYNC_WEIGHT,
                          memory_order_relaxed);
    metric_add(&m->groups, 1);
    metric_add(&m->group_records, commit->record_count);
    metric_add(&m->group_bytes, commit->len);
    metric_add(&m->append_us, append_us);
    metric_add(&m->sync_us, sync_us);
    if (sync_us > atomic_load_explicit(&m->sync_us_max, memory_order_relaxed)) {
        metric_set(&m->sync_us_max, sync_us);
    }
}

/* Two batches that share a sync. */
struct group {
    struct store_commit commit; /* of the workers' records; */
    struct store_commit merge;  /* of the keeper's; record_count 0: none */
    bool no_space;              /* for the workers' */
};

static bool workers_wait(const struct journal *j)
{
    for (size_t w = 0; w < j->config.worker_count; w++) {
        if (j->spans[w].len > 0) {
            return true;
        }
    }
    return false;
}

/* It may find room where the workers' found none: it is what makes room again.
 * Without any it waits, and nobody else for it. */
static enum status append_merge(struct journal *j, struct group *group,
                                struct error *err)
{
    struct error why = { 0 };
    enum status status = store_append_merge(
        j->config.store, &j->merge, clock_wall_us(), &group->merge, &why);

    if (status == STATUS_NO_SPACE) {
        j->merge_wait_us =
            clock_monotonic_us() + UINT64_C(1000) * NO_SPACE_RETRY_MS;
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        *err = why;
    }
    return status;
}

static enum status append(struct journal *j, struct group *group,
                          struct error *err)
{
    enum status status = STATUS_OK;

    if (workers_wait(j)) {
        status = store_append(j->config.store, j->spans, j->config.worker_count,
                              clock_wall_us(), &group->commit, err);
    }
    if (status == STATUS_NO_SPACE) {
        group->no_space = true;
        status = STATUS_OK;
    }
    if (j->merge.len > 0 && status == STATUS_OK) {
        status = append_merge(j, group, err);
    }
    return status;
}

static enum status append_and_sync(struct journal *j, struct group *group,
                                   struct error *err)
{
    uint64_t begun = clock_monotonic_us();
    uint64_t appended;
    enum status status = append(j, group, err);

    if (status != STATUS_OK
        || group->commit.record_count + group->merge.record_count == 0) {
        return status;
    }
    appended = clock_monotonic_us();
    status = store_sync(j->config.store, err);
    if (status == STATUS_OK && group->commit.record_count > 0) {
        count_group(j, &group->commit, appended - begun,
                    clock_monotonic_us() - appended);
    }
    return status;
}

/* For the receipts. */
static void note_place(struct submission *s, const struct store_span *span,
                       const struct store_commit *commit)
{
    const struct submission_place place = { commit->segment, span->offset };

    if (span->offset != 0) {
        submission_note(s, span->taken, place);
    }
}

static void tell_ring(struct journal *j, const struct store_commit *commit)
{
    struct store_commit *slot;

    if (commit->record_count == 0) {
        return;
    }
    slot = ring_claim(j->config.commits);
    while (slot == NULL) {
        if (ring_wait_room(j->config.commits)) {
            park(j, RING_FULL_RETRY_MS);
        }
        slot = ring_claim(j->config.commits);
    }
    *slot = *commit;
    ring_publish(j->config.commits);
}

/* The order matters: a worker that sees its records durable finds the batch on
 * the ring already, so its replica and its view are current before it answers.
 * A crash anywhere here loses only confirms: the batch is durable. */
static void tell(struct journal *j, const struct group *group)
{
    const struct store_commit *commit = &group->commit;

    tell_ring(j, commit);
    tell_ring(j, &group->merge);
    for (size_t w = 0; w < j->config.worker_count; w++) {
        if (j->spans[w].taken > 0) {
            note_place(j->config.submissions[w], &j->spans[w], commit);
            submission_take(j->config.submissions[w], j->spans[w].taken);
            submission_settle(j->config.submissions[w]);
        }
    }
    if (j->merge.taken > 0) {
        submission_take(j->config.keeper, j->merge.taken);
        submission_settle(j->config.keeper);
    }
    wake_workers(j);
}

static void commit_group(struct journal *j)
{
    struct group group = { 0 };
    struct error err = { 0 };
    enum status status = append_and_sync(j, &group, &err);

    if (status != STATUS_OK) {
        report_frozen(j, &err);
        park(j, -1);
        return;
    }
    tell(j, &group);
    if (group.no_space) {
        no_space(j, &err);
    } else {
        j->told_full = false;
        j->stuck = false;
    }
}

static void run_turns(struct journal *j)
{
    bool urgent;

    for (;;) {
        bool stopping = atomic_load(&j->stopping);
        if (stopping && (store_frozen(j->config.store) || j->stuck)) {
            return; /* what is left was never confirmed */
        }
        if (!collect(j, &urgent)) {
            j->riding_since_us = 0;
            if (stopping) {
                return;
            }
            sleep_for_records(j, false, 0);
        } else if (!should_ride(j, urgent)) {
            commit_group(j);
        }
    }
}

static void *journal_run(void *arg)
{
    struct journal *j = arg;

    pthread_setname_np(pthread_self(), "journal");
    priority_prompt();
    CHECK(pthread_mutex_lock(&j->lock) == 0);
    run_turns(j);
    CHECK(pthread_mutex_unlock(&j->lock) == 0);
    return NULL;
}

/* ---- a worker in its place ---- */

/* With the lock held. False: the journal must look after it, as there is more
 * to it than a write and a sync: a wait for room, or for a publish to ride
 * with. */
static bool commit_of_worker(struct journal *j)
{
    struct group group = { 0 };
    struct error err = { 0 };
    uint8_t *waits;
    bool urgent;
    enum status status;

    /* With a slot claimed tell_ring() does not park. */
    if (j->stuck || store_frozen(j->config.store)
        || ring_claim(j->config.commits) == NULL) {
        return false;
    }
    if (!collect_from_workers(j, &urgent)) {
        return true;
    }
    if (!urgent) {
        return false; /* it lets them ride */
    }
    j->merge = (struct store_span) { 0 }; /* the keeper waits for the journal */
    /* No longer than before: or it would wait for as long as workers write
     * every few milliseconds. */
    if (submission_peek(j->config.keeper, &waits) == 0) {
        j->riding_since_us = 0;
    }
    status = append_and_sync(j, &group, &err);
    if (status != STATUS_OK) {
        report_frozen(j, &err);
        return true;
    }
    tell(j, &group);
    return !group.no_space;
}

void journal_commit(struct journal *journal, size_t worker)
{
    bool done = false;

    if (atomic_load_explicit(&journal->sync_us, memory_order_relaxed)
            <= QUICK_SYNC_US
        && pthread_mutex_trylock(&journal->lock) == 0) {
        done = commit_of_worker(journal);
        /* submission_publish() used up the journal's wish to be woken. */
        done &= submission_sleep(journal->config.submissions[worker],
                                 journal->wants_urgent);
        CHECK(pthread_mutex_unlock(&journal->lock) == 0);
    }
    if (!done) {
        journal_wake(journal);
    }
}

enum status journal_start(struct journal **out,
                          const struct journal_config *config,
                          struct error *err)
{
    struct journal *j = calloc(1, sizeof *j);
    int failed;

    CHECK(config->worker_count > 0 && config->worker_count <= WORKER_COUNT_MAX);
    if (j == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "journal");
    }
    j->config = *config;
    j->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (j->wake_fd < 0) {
        failed = errno;
        free(j);
        return error_set(err, STATUS_IO, failed, "journal: eventfd");
    }
    CHECK(pthread_mutex_init(&j->lock, NULL) == 0);
    ring_set_producer_wake(config->commits, (ring_wake_fn)journal_wake, j);
    failed = pthread_create(&j->thread, NULL, journal_run, j);
    if (failed != 0) {
        journal_free(j);
        return error_set(err, STATUS_NOMEM, failed, "journal: thread");
    }
    *out = j;
    return STATUS_OK;
}

void journal_wake(struct journal *journal)
{
    const uint64_t one = 1;

    /* Only a counter at its top fails, and then it is awake. */
    if (write(journal->wake_fd, &one, sizeof one) < 0) {
        return;
    }
}

void journal_stop(struct journal *journal)
{
    if (journal == NULL) {
        return;
    }
    atomic_store(&journal->stopping, true);
    journal_wake(journal);
    pthread_join(journal->thread, NULL);
}

void journal_free(struct journal *journal)
{
    if (journal == NULL) {
        return;
    }
    close(journal->wake_fd);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
}
