#include "broker/progress.h"

#include "broker/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { LINE_SECONDS = 2 };

struct progress {
    pthread_t thread;
    _Atomic uint64_t done_bytes;
    _Atomic uint64_t total_bytes;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool over; /* under the lock */
};

static void tell(struct progress *p, unsigned seconds)
{
    log_info("recovering seconds=%u done_mib=%llu total_mib=%llu", seconds,
             (unsigned long long)(atomic_load(&p->done_bytes) >> 20),
             (unsigned long long)(atomic_load(&p->total_bytes) >> 20));
}

static void *progress_run(void *arg)
{
    struct progress *p = arg;
    struct timespec at;
    unsigned seconds = 0;

    pthread_setname_np(pthread_self(), "progress");
    clock_gettime(CLOCK_MONOTONIC, &at);
    pthread_mutex_lock(&p->lock);
    while (!p->over) {
        at.tv_sec += LINE_SECONDS;
        while (!p->over
               && pthread_cond_timedwait(&p->ended, &p->lock, &at) == 0) {
        }
        if (!p->over) {
            seconds += LINE_SECONDS;
            tell(p, seconds);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void init_condition(struct progress *p)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->ended, &attr);
    pthread_condattr_destroy(&attr);
}

static void release(struct progress *p)
{
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

enum status progress_start(struct progress **out, struct error *err)
{
    struct progress *p = calloc(1, sizeof *p);
    int failed;

    if (p == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "progress");
    }
    init_condition(p);
    failed = pthread_create(&p->thread, NULL, progress_run, p);
    if (failed != 0) {
        release(p);
        return error_set(err, STATUS_NOMEM, failed, "progress: thread");
    }
    *out = p;
    return STATUS_OK;
}

void progress_note(void *progress, uint64_t done_bytes, uint64_t total_bytes)
{
    struct progress *p = progress;

    atomic_store(&p->done_bytes, done_bytes);
    atomic_store(&p->total_bytes, total_bytes);
}

void progress_stop(struct progress *p)
{
    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->over = true;
    pthread_cond_signal(&p->ended);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    release(p);
}
