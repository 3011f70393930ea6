/* Start: store, admin app, rings, workers (each reads the catalog and its
 * lanes), journal, keeper, listeners, loops. Stop: the same backwards. */
#include "broker/server.h"

#include "broker/admin.h"
#include "broker/clock.h"
#include "broker/journal.h"
#include "broker/keeper.h"
#include "broker/log.h"
#include "broker/net/tls.h"
#include "broker/progress.h"
#include "broker/worker.h"
#include "proto/limits.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DRAIN_STEP_MS = 5,
    LOCK_STEP_MS = 50,
    LOCK_WAIT_MS = 5000 /* for another process that has the data folder */
};

struct server {
    struct config config;
    struct store *store;
    struct store_recovery recovery;
    struct ring *commits;
    struct submission *submissions[WORKER_COUNT_MAX];
    struct worker *worker_table[WORKER_COUNT_MAX];
    struct workers workers;
    struct submission *keeper_submission;
    struct upkeep *upkeep;
    struct keeper *keeper;
    struct broker_metrics metrics;
};

static void log_recovery(const struct store_recovery *r, const char *dir)
{
    log_info("store open dir=%s state=%s segments=%llu replayed_records=%llu "
             "replayed_kib=%llu rescued_records=%llu torn_bytes=%llu "
             "keydir_rebuilt=%d ms=%llu",
             dir,
             r->fresh   ? "new"
             : r->clean ? "clean"
                        : "recovered",
             (unsigned long long)r->segment_count,
             (unsigned long long)r->replayed_records,
             (unsigned long long)(r->replayed_bytes >> 10),
             (unsigned long long)r->rescued_records,
             (unsigned long long)r->torn_bytes, r->keydir_rebuilt,
             (unsigned long long)(r->us / 1000));
    if (r->damaged_batches > 0 || r->damaged_bytes > 0
        || r->missing_segments > 0) {
        log_error("store damaged batches=%llu bytes=%llu missing_segments=%llu "
                  "effect=\"groups get "
                  "gap events for the messages in them\"",
                  (unsigned long long)r->damaged_batches,
                  (unsigned long long)r->damaged_bytes,
                  (unsigned long long)r->missing_segments);
    }
    if (r->torn_batches > 0) {
        log_warn(
            "store cut batches=%llu bytes=%llu reason=\"the last ones "
            "before an unclean end do not read; they were never confirmed, "
            "unless the disk damaged them\"",
            (unsigned long long)r->torn_batches,
            (unsigned long long)r->torn_bytes);
    }
}

static enum status try_store(struct server *server, struct error *err)
{
    struct progress *progress = NULL;
    struct store_config config = {
        .dir = server->config.data_dir,
        .segment_len = server->config.segment_len,
        .now_us = clock_wall_us(),
        .progress = progress_note,
    };
    uint64_t begun = clock_monotonic_us();
    enum status status = progress_start(&progress, err);

    if (status == STATUS_OK) {
        config.progress_arg = progress;
        status = store_open(&server->store, &config, &server->recovery, err);
    }
    progress_stop(progress);
    if (status == STATUS_OK) {
        server->recovery.us = clock_monotonic_us() - begun;
        log_recovery(&server->recovery, server->config.data_dir);
    }
    return status;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec) { ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* Blocked signals wait for who handles them: see main.c. */
static bool stop_is_asked(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0
           && (sigismember(&pending, SIGTERM) == 1
               || sigismember(&pending, SIGINT) == 1);
}

/* A broker that was killed a moment ago keeps its lock until the kernel has
 * taken all of it down, and who starts the next one need not know of that. */
static enum status open_store(struct server *server, struct error *err)
{
    enum status status = try_store(server, err);

    if (status == STATUS_BUSY) {
        log_warn("waiting for the data folder wait_ms=%d reason=\"%s\"",
                 LOCK_WAIT_MS, err->text);
    }
    for (int ms = 0; status == STATUS_BUSY && ms < LOCK_WAIT_MS;
         ms += LOCK_STEP_MS) {
        if (stop_is_asked()) {
            return error_set(err, STATUS_CLOSED, 0,
                             "stopped while it waited for the data folder");
        }
        pause_ms(LOCK_STEP_MS);
        status = try_store(server, err);
    }
    return status;
}

static void wake_worker(void *arg, size_t worker)
{
    struct server *server = arg;

    worker_wake(server->worker_table[worker]);
}

static void on_keeper_frozen(void *arg)
{
    struct server *server = arg;

    for (size_t i = 0; i < server->workers.count; i++) {
        worker_wake(server->worker_table[i]);
    }
}

static enum status make_rings(struct server *server, struct error *err)
{
    size_t workers = server->workers.count;

    server->commits =
        ring_new(sizeof(struct store_commit), COMMIT_SLOTS, workers + 1);
    if (server->commits == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "commit ring");
    }
    for (size_t i = 0; i < workers; i++) {
        server->submissions[i] = submission_new(SUBMISSION_LEN);
        if (server->submissions[i] == NULL) {
            return error_set(err, STATUS_NOMEM, 0, "submission ring");
        }
    }
    server->keeper_submission = submission_new(SUBMISSION_LEN);
    if (server->keeper_submission == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "submission ring");
    }
    server->workers.commits = server->commits;
    return STATUS_OK;
}

static enum status make_shared(struct server *server, struct error *err)
{
    const struct config *config = &server->config;
    struct workers *w = &server->workers;

    w->count = config->workers;
    w->at = server->worker_table;
    w->store = server->store;
    w->config = &server->config;
    w->metrics = &server->metrics;
    w->nonces = nonces_new(clock_wall_us() / 1000);
    server->metrics.worker_count = w->count;
    server->metrics.workers = calloc(w->count, sizeof *server->metrics.workers);
    server->metrics.store = server->store;
    server->metrics.recovery = &server->recovery;
    server->metrics.started_us = clock_wall_us();
    if (w->nonces == NULL || server->metrics.workers == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "server");
    }
    if (config->certificate[0] != '\0') {
        return tls_context_new(&w->tls, config->certificate, config->key, err);
    }
    return STATUS_OK;
}

static enum status make_workers(struct server *server, struct error *err)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < server->workers.count; i++) {
        status = worker_new(&server->worker_table[i], &server->workers, i,
                            server->submissions[i], err);
    }
    return status;
}

/* All workers share one port: with port 0 the first one chooses. */
static enum status listen_all(struct server *server, uint16_t *port,
                              struct error *err)
{
    enum status status =
        net_probe(server->config.host, server->config.port, err);

    *port = server->config.port;
    for (size_t i = 0; status == STATUS_OK && i < server->workers.count; i++) {
        status = worker_listen(server->worker_table[i], server->config.host,
                               *port, port, err);
    }
    return status;
}

static enum status make_upkeep(struct server *server, struct error *err)
{
    const struct config *config = &server->config;
    const struct upkeep_config upkeep = {
        .store = server->store,
        .data_dir = config->data_dir,
        .to = server->keeper_submission,
        .journal = server->workers.journal,
        .scrub_bytes_s = config->scrub_mib_s << 20,
        .scrub_every_us = config->scrub_hours * 3600 * 1000000,
        .free_bytes_min = config->free_bytes_min,
        .metrics = &server->metrics.keeper,
    };

    return upkeep_new(&server->upkeep, &upkeep, err);
}

static enum status start_threads(struct server *server, struct error *err)
{
    const struct journal_config journal = {
        .store = server->store,
        .commits = server->commits,
        .submissions = server->submissions,
        .worker_count = server->workers.count,
        .keeper = server->keeper_submission,
        .wake_worker = wake_worker,
        .arg = server,
        .metrics = &server->metrics.journal,
    };
    struct keeper_config keeper = {
        .store = server->store,
        .commits = server->commits,
        .consumer = server->workers.count,
        .checkpoint_us = server->config.checkpoint_ms * 1000,
        .frozen = on_keeper_frozen,
        .arg = server,
    };
    enum status status = journal_start(&server->workers.journal, &journal, err);

    if (status == STATUS_OK) {
        status = make_upkeep(server, err);
        keeper.upkeep = server->upkeep;
    }
    if (status == STATUS_OK) {
        status = keeper_start(&server->keeper, &keeper, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < server->workers.count; i++) {
        status = worker_start(server->worker_table[i], err);
    }
    return status;
}

/* A connection between two workers, or a catalog answer: nobody's until read. */
static void deliver_letters_left(struct workers *w)
{
    bool any = true;

    while (any) {
        any = false;
        for (size_t i = 0; i < w->count; i++) {
            any |= w->at[i] != NULL && worker_take_letters_left(w->at[i]);
        }
    }
}

static void end_all(struct server *server)
{
    struct workers *w = &server->workers;

    for (size_t i = 0; i < w->count; i++) {
        if (server->worker_table[i] != NULL) {
            worker_stop(server->worker_table[i]);
        }
    }
    journal_stop(w->journal);
    keeper_stop(server->keeper);
    upkeep_free(server->upkeep);
    journal_free(w->journal);
    deliver_letters_left(w);
    for (size_t i = 0; i < w->count; i++) {
        worker_free(server->worker_table[i]);
    }
    for (size_t i = 0; i < w->count; i++) {
        submission_free(server->submissions[i]);
    }
    submission_free(server->keeper_submission);
    ring_free(server->commits);
    tls_context_free(w->tls);
    nonces_free(w->nonces);
    store_close(server->store);
    free(server->metrics.workers);
    free(server);
}

enum status server_start(struct server **out, const struct config *config,
                         struct error *err)
{
    struct server *server = calloc(1, sizeof *server);
    enum status status;
    uint16_t port = 0;

    if (server == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "server");
    }
    server->config = *config;
    status = open_store(server, err);
    if (status == STATUS_OK) {
        status = admin_make_if_none(server->store, config->data_dir, err);
    }
    if (status == STATUS_OK) {
        status = make_shared(server, err);
    }
    if (status == STATUS_OK) {
        status = make_rings(server, err);
    }
    if (status == STATUS_OK) {
        status = make_workers(server, err);
    }
    if (status == STATUS_OK) {
        status = listen_all(server, &port, err);
    }
    if (status == STATUS_OK) {
        status = admin_write_url(config->data_dir, config->host, port,
                                 config->certificate[0] != '\0', err);
    }
    if (status == STATUS_OK) {
        status = start_threads(server, err);
    }
    if (status != STATUS_OK) {
        end_all(server);
        return status;
    }
    log_info("listening address=%s%s%s:%u tls=%s workers=%zu",
             strchr(config->host, ':') ? "[" : "", config->host,
             strchr(config->host, ':') ? "]" : "", port,
             config->certificate[0] != '\0' ? "on" : "off",
             server->workers.count);
    *out = server;
    return STATUS_OK;
}

static void drain(struct server *server)
{
    uint64_t deadline = clock_monotonic_us() + server->config.drain_ms * 1000;

    atomic_store(&server->workers.draining, true);
    while (atomic_load(&server->workers.drained) < server->workers.count
           && clock_monotonic_us() < deadline) {
        for (size_t i = 0; i < server->workers.count; i++) {
            worker_wake(server->worker_table[i]);
        }
        pause_ms(DRAIN_STEP_MS);
    }
    if (atomic_load(&server->workers.drained) < server->workers.count) {
        log_warn("drain cut short after_ms=%llu",
                 (unsigned long long)server->config.drain_ms);
    }
}

bool server_stop(struct server *server)
{
    bool good;

    drain(server);
    good = !store_frozen(server->store);
    end_all(server);
    return good;
}
