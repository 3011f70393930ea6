#include "broker/keeper.h"

#include "broker/clock.h"
#include "broker/log.h"
#include "broker/priority.h"
#include "proto/limits.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    EARLY_SHARE = 20,        /* early checkpoints take 1/20 of the time */
    NAP_MS = 10,             /* between two looks while traffic flows */
    PREPARE_RETRY_MS = 1000, /* when there was no space for a segment */
    FULL_NAP_MS = 100,       /* between two looks when the keydir is full */
    QUIET_MS = 60 * 1000     /* when nothing at all is due */
};

struct keeper {
    struct keeper_config config;
    pthread_t thread;
    int wake_fd; /* eventfd */
    _Atomic bool stopping;
    /* the keeper's thread only */
    uint64_t pending_since_us; /* 0: nothing to checkpoint */
    uint64_t early_us;         /* from then on the next may be early */
    bool no_space;
    bool keydir_full;       /* the last checkpoint found no space; */
    uint64_t not_before_us; /* the next is tried then */
    bool frozen_told;
};

static void on_commits(void *arg)
{
    struct keeper *k = arg;
    const uint64_t one = 1;

    if (write(k->wake_fd, &one, sizeof one) < 0) {
        return; /* a full counter: it is awake */
    }
}

/* STATUS_FROZEN says that somebody else has told already. */
static void tell_frozen(struct keeper *k, enum status status,
                        const struct error *err)
{
    bool first = !k->frozen_told;

    k->frozen_told = true;
    if (first && status != STATUS_FROZEN) {
        log_error("store frozen reason=\"%s\" effect=\"no publish or ack is "
                  "confirmed any more; reads go on\" do=\"mend the disk, then "
                  "restart\"",
                  err->text);
        k->config.frozen(k->config.arg);
    }
}

/* The notes wait in memory; the log has them too. */
static void tell_full(struct keeper *k, const struct error *err)
{
    if (!k->keydir_full) {
        log_error("no checkpoint reason=\"%s\" effect=\"publishes are refused; "
                  "acks go on\" do=\"make room on the disk\"",
                  err->text);
    }
    k->keydir_full = true;
    k->not_before_us = clock_monotonic_us() + UINT64_C(1000) * PREPARE_RETRY_MS;
}

static void checkpoint(struct keeper *k)
{
    struct error err = { 0 };
    enum status status;
    uint64_t begun_us = clock_monotonic_us();
    uint64_t ended_us;

    if (k->keydir_full && begun_us < k->not_before_us) {
        return;
    }
    status = store_checkpoint(k->config.store, &err);
    ended_us = clock_monotonic_us();
    k->early_us = ended_us + EARLY_SHARE * (ended_us - begun_us);
    if (status == STATUS_NO_SPACE) {
        tell_full(k, &err);
        return;
    }
    k->pending_since_us = 0;
    if (status != STATUS_OK) {
        tell_frozen(k, status, &err);
    } else if (k->keydir_full) {
        log_info("checkpoints go on");
    }
    k->keydir_full = false;
}

static void prepare(struct keeper *k)
{
    struct error err = { 0 };
    enum status status = store_prepare(k->config.store, &err);

    if (store_frozen(k->config.store)) {
        /* Anything else is how far we got while somebody else froze it. */
        tell_frozen(k, status == STATUS_IO ? status : STATUS_FROZEN, &err);
        return;
    }
    if (status == STATUS_OK && k->no_space) {
        log_info("disk space is back");
    } else if (status != STATUS_OK && !k->no_space) {
        log_warn("disk space is short reason=\"%s\" effect=\"publishes are "
                 "refused%s\"",
                 err.text,
                 store_space_low(k->config.store)
                     ? ""
                     : " when this segment is full");
    }
    k->no_space = status != STATUS_OK;
}

/* Take note of what waits. True if there was anything. What cannot be noted
 * before the next checkpoint stays in the ring. */
static bool apply_waiting(struct keeper *k)
{
    struct ring *ring = k->config.commits;
    size_t count = ring_available(ring, k->config.consumer);
    size_t done = 0;

    for (; done < count; done++) {
        const struct store_commit *commit =
            ring_entry(ring, k->config.consumer, 0);
        enum status status = store_apply(k->config.store, commit);

        if (status == STATUS_AGAIN) {
            checkpoint(k);
            status = store_apply(k->config.store, commit);
        }
        if (status == STATUS_AGAIN && k->keydir_full) {
            break;
        }
        if (status != STATUS_OK) {
            /* The log has it: the next start replays it. Checkpoints must not
             * go on past it, so this is the end of them. */
            struct error err = { 0 };
            error_set(&err, status, 0, "keydir: apply: %s",
                      status_text(status));
            tell_frozen(k, status, &err);
        }
        if (status == STATUS_OK) {
            upkeep_commit(k->config.upkeep, commit);
        }
        ring_consumed(ring, k->config.consumer, 1);
    }
    if (done > 0 && k->pending_since_us == 0) {
        k->pending_since_us = clock_monotonic_us();
    }
    return done > 0;
}

/* Early ones make the next start quick; a broker with many lanes to write must
 * not do them all the time. */
static bool checkpoint_is_due(const struct keeper *k)
{
    uint64_t now_us = clock_monotonic_us();
    uint64_t pending = store_pending(k->config.store);

    return k->pending_since_us != 0
           && (now_us - k->pending_since_us >= k->config.checkpoint_us
               || pending >= REPLAY_BYTES_MAX
               || (pending >= REPLAY_BYTES_EARLY && now_us >= k->early_us));
}

static void keep_up(struct keeper *k, bool busy)
{
    struct error err = { 0 };
    enum status status = upkeep_step(k->config.upkeep, busy, &err);

    if (status != STATUS_OK) {
        tell_frozen(k, status, &err);
    }
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The next segment, and what the last run left, are seen to without traffic. */
static bool leftovers(const struct keeper *k)
{
    return !k->frozen_told && !k->no_space && store_leftovers(k->config.store);
}

/* How long nothing but a commit concerns us, at most `at_most_ms`; in whole
 * milliseconds, up. */
static int quiet_ms(const struct keeper *k, uint64_t at_most_ms)
{
    uint64_t now_us = clock_monotonic_us();
    uint64_t due_us = now_us + at_most_ms * 1000;

    if (k->no_space || upkeep_space_low(k->config.upkeep)) {
        due_us = sooner(due_us, now_us + UINT64_C(1000) * PREPARE_RETRY_MS);
    }
    if (leftovers(k)) {
        due_us = sooner(due_us, now_us + UINT64_C(1000) * NAP_MS);
    }
    if (k->pending_since_us != 0) {
        due_us = sooner(due_us, k->pending_since_us + k->config.checkpoint_us);
    }
    if (!store_frozen(k->config.store)) {
        due_us = sooner(due_us, upkeep_due_us(k->config.upkeep));
    }
    return due_us <= now_us ? 0 : (int)((due_us - now_us + 999) / 1000);
}

static void wait_for_more(struct keeper *k, bool busy)
{
    struct pollfd fd = { .fd = k->wake_fd, .events = POLLIN };
    uint64_t count;

    upkeep_rest(k->config.upkeep);
    if (k->keydir_full && !store_frozen(k->config.store)) {
        poll(&fd, 1, FULL_NAP_MS);
        while (read(k->wake_fd, &count, sizeof count) > 0) {
        }
        return;
    }
    if (busy) {
        /* Traffic: nap without asking for a wake at each commit. */
        poll(&fd, 1, quiet_ms(k, NAP_MS));
        return;
    }
    if (ring_sleep(k->config.commits, k->config.consumer)
        && !atomic_load(&k->stopping)) {
        poll(&fd, 1, quiet_ms(k, QUIET_MS));
    }
    ring_awake(k->config.commits, k->config.consumer);
    while (read(k->wake_fd, &count, sizeof count) > 0) {
    }
}

static void *keeper_run(void *arg)
{
    struct keeper *k = arg;

    pthread_setname_np(pthread_self(), "keeper");
    priority_background(); /* no confirm waits for a checkpoint's time slice */
    for (;;) {
        bool stopping = atomic_load(&k->stopping);
        bool busy = apply_waiting(k);

        if (!k->frozen_told && checkpoint_is_due(k)) {
            checkpoint(k);
        }
        if (busy || k->no_space || upkeep_space_low(k->config.upkeep)
            || leftovers(k)) {
            prepare(k);
        }
        if (!stopping && !k->frozen_told && !store_frozen(k->config.store)) {
            keep_up(k, busy);
        }
        if (stopping && !busy) {
            return NULL;
        }
        if (!stopping) {
            wait_for_more(k, busy);
        }
    }
}

enum status keeper_start(struct keeper **out,
                         const struct keeper_config *config, struct error *err)
{
    struct keeper *k = calloc(1, sizeof *k);
    int failed;

    if (k == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "keeper");
    }
    k->config = *config;
    k->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (k->wake_fd < 0) {
        free(k);
        return error_set(err, STATUS_IO, errno, "keeper: eventfd");
    }
    ring_set_wake(config->commits, config->consumer, on_commits, k);
    failed = pthread_create(&k->thread, NULL, keeper_run, k);
    if (failed != 0) {
        close(k->wake_fd);
        free(k);
        return error_set(err, STATUS_NOMEM, failed, "keeper: thread");
    }
    *out = k;
    return STATUS_OK;
}

void keeper_stop(struct keeper *keeper)
{
    if (keeper == NULL) {
        return;
    }
    atomic_store(&keeper->stopping, true);
    on_commits(keeper);
    pthread_join(keeper->thread, NULL);
    close(keeper->wake_fd);
    free(keeper);
}
