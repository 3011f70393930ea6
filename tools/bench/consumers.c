#include "tools/bench/consumers.h"

#include "proto/limits.h"
#include "tools/bench/body.h"
#include "tools/godwit/human.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    CREDIT_MESSAGES = 10000,
    PULL_WAIT_MS = 1000 /* the shortest that the C client can ask for */
};

/* A thread's own: others only read. */
struct consumer_thread {
    struct consumers *of;
    pthread_t id;
    bool started;
    struct godwit *client; /* a puller's */
    _Atomic uint64_t delivered;
    _Atomic uint64_t repeated;
    _Atomic uint64_t nacked;
    _Atomic uint64_t settled; /* accepted, acks and nacks */
    _Atomic uint64_t not_accepted;
    _Atomic uint64_t last_ns;
    struct histogram delivery_ns;
};

struct consumers {
    struct consumer_plan plan;
    char group[64];
    _Atomic uint64_t timed_from_ns;
    atomic_bool stop;
    _Atomic int broken;      /* an exit code */
    struct clients *clients; /* those that are pushed to */
    size_t thread_count;     /* 1 for all of them, or one for each puller */
    struct consumer_thread threads[];
};

/* One writer: no locked instruction. */
static void count(_Atomic uint64_t *what, uint64_t by)
{
    atomic_store_explicit(what,
                          atomic_load_explicit(what, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

/* ---- what both do with a delivery ---- */

/* True: nack it. */
static bool judge(struct consumer_thread *thread,
                  const struct godwit_delivery *delivery)
{
    uint64_t sent_ns = body_time(delivery->body, delivery->body_len);
    uint64_t each = thread->of->plan.nack_each;

    if (delivery->attempt > 1) {
        count(&thread->repeated, 1);
        return false;
    }
    count(&thread->delivered, 1);
    if (sent_ns != 0
        && sent_ns >= atomic_load_explicit(&thread->of->timed_from_ns,
                                           memory_order_relaxed)) {
        histogram_add(&thread->delivery_ns, now_ns() - sent_ns);
    }
    if (each == 0 || thread->delivered % each != 0) {
        return false;
    }
    count(&thread->nacked, 1);
    return true;
}

/* ---- pushed to ---- */

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *delivery)
{
    return judge(arg, delivery) ? GODWIT_NACK : GODWIT_ACK;
}

static void on_settled(void *arg, const char *topic, uint64_t first,
                       uint64_t last, const char *outcome,
                       enum godwit_status status)
{
    struct consumer_thread *thread = arg;

    (void)topic;
    (void)status;
    count(strcmp(outcome, "accepted") == 0 ? &thread->settled
                                           : &thread->not_accepted,
          last - first + 1);
}

static void *be_pushed(void *arg)
{
    struct consumer_thread *thread = arg;
    struct consumers *c = thread->of;
    int code = EXIT_OK;

    while (!atomic_load(&c->stop) && !clients_broken(c->clients, &code)) {
        uint64_t before = thread->settled;

        clients_turn(c->clients, now_ns() + BENCH_LOOK_NS);
        if (thread->settled != before) {
            atomic_store(&thread->last_ns, now_ns());
        }
    }
    if (code != EXIT_OK) {
        atomic_store(&c->broken, code);
    }
    return NULL;
}

static int open_pushed(struct consumers *c)
{
    struct godwit_subscription subscription = {
        .group = c->group,
        .credit_messages = CREDIT_MESSAGES,
        .credit_bytes = CREDIT_BYTES_MAX,
        .handler = on_delivery,
        .on_settled = on_settled,
        .arg = &c->threads[0],
    };
    int code = EXIT_OK;

    c->clients = clients_new(c->plan.count);
    if (c->clients == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    for (size_t i = 0; code == EXIT_OK && i < c->plan.count; i++) {
        code = clients_add(c->clients, c->plan.o, 0);
    }
    if (code == EXIT_OK) {
        code = clients_connect(c->clients, c->plan.o);
    }
    for (size_t i = 0; code == EXIT_OK && i < c->plan.count; i++) {
        if (clients_subscribe(c->clients, i, &subscription) != GODWIT_OK) {
            code = fail(EXIT_FAILED, "cannot subscribe");
        }
        clients_push(c->clients, i);
    }
    return code;
}

/* ---- pulling ---- */

/* Nacks those that fail, and acks the rest. */
static enum godwit_status settle(struct consumer_thread *thread,
                                 struct godwit_batch *batch)
{
    size_t size = godwit_batch_count(batch);
    uint64_t accepted = 0;
    enum godwit_status status = GODWIT_OK;

    for (size_t i = 0; i < size && status == GODWIT_OK; i++) {
        const struct godwit_delivery *d = godwit_batch_at(batch, i);
        uint64_t nacked = 0;

        if (judge(thread, d)) {
            status =
                godwit_batch_settle(thread->client, batch, GODWIT_DO_NACK,
                                    d->topic, d->seq, d->seq, 0, NULL, &nacked);
        }
        accepted += nacked;
    }
    if (status == GODWIT_OK) {
        uint64_t acked = 0;

        status = godwit_batch_ack(thread->client, batch, &acked);
        accepted += acked;
    }
    count(&thread->settled, accepted);
    if (status == GODWIT_OK) {
        count(&thread->not_accepted, size - accepted);
        atomic_store(&thread->last_ns, now_ns());
    }
    return status;
}

static void *pull_on(void *arg)
{
    struct consumer_thread *thread = arg;
    struct consumers *c = thread->of;
    enum godwit_status status = GODWIT_OK;

    while (status == GODWIT_OK && !atomic_load(&c->stop)) {
        struct godwit_batch *batch = NULL;

        status = godwit_pull(thread->client, c->group, PULL_COUNT_MAX,
                             PULL_WAIT_MS, &batch);
        if (status == GODWIT_OK && godwit_batch_count(batch) > 0) {
            status = settle(thread, batch);
        }
        godwit_batch_free(batch);
    }
    if (status != GODWIT_OK && !atomic_load(&c->stop)) {
        char text[256] = "";

        godwit_last_error(thread->client, text, sizeof text);
        atomic_store(&c->broken, clients_say_lost(status, text));
    }
    return NULL;
}

static int open_puller(struct consumer_thread *thread,
                       const struct bench_options *o)
{
    struct godwit_options options;
    const char *problem = "";
    enum godwit_status status;

    session_client_options(&o->session, &options);
    options.own_thread = false; /* nobody steps it: it is for HTTP only */
    options.connect_timeout_ms = (uint32_t)o->session.connect_ms;
    status = godwit_open(&thread->client, &options, &problem);
    return status == GODWIT_OK ? EXIT_OK : fail(EXIT_FAILED, "%s", problem);
}

/* ---- all of them ---- */

static int start_threads(struct consumers *c)
{
    for (size_t i = 0; i < c->thread_count; i++) {
        struct consumer_thread *thread = &c->threads[i];

        if (pthread_create(&thread->id, NULL,
                           c->plan.pull ? pull_on : be_pushed, thread)
            != 0) {
            return fail(EXIT_FAILED, "no thread for a consumer");
        }
        thread->started = true;
    }
    return EXIT_OK;
}

int consumers_start(struct consumers **out, const struct consumer_plan *plan)
{
    size_t threads = plan->pull ? plan->count : 1;
    struct consumers *c = calloc(1, sizeof *c + threads * sizeof c->threads[0]);
    int code = EXIT_OK;

    *out = NULL;
    if (c == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    c->plan = *plan;
    c->thread_count = threads;
    snprintf(c->group, sizeof c->group, "%s", plan->group);
    for (size_t i = 0; i < threads; i++) {
        c->threads[i].of = c;
        if (code == EXIT_OK && plan->pull) {
            code = open_puller(&c->threads[i], plan->o);
        }
    }
    if (code == EXIT_OK && !plan->pull) {
        code = open_pushed(c);
    }
    if (code == EXIT_OK) {
        code = start_threads(c);
    }
    if (code != EXIT_OK) {
        consumers_stop(c, NULL);
        return code;
    }
    *out = c;
    return EXIT_OK;
}

void consumers_time_from(struct consumers *c, uint64_t ns)
{
    atomic_store(&c->timed_from_ns, ns);
}

void consumers_figures(struct consumers *c, struct consumer_figures *out)
{
    *out = (struct consumer_figures) { 0 };
    for (size_t i = 0; i < c->thread_count; i++) {
        struct consumer_thread *thread = &c->threads[i];
        uint64_t nacked = thread->nacked;
        uint64_t settled = thread->settled;
        uint64_t last_ns = thread->last_ns;

        out->delivered += thread->delivered;
        out->repeated += thread->repeated;
        out->nacked += nacked;
        out->accepted += settled > nacked ? settled - nacked : 0;
        out->not_accepted += thread->not_accepted;
        out->last_ns = last_ns > out->last_ns ? last_ns : out->last_ns;
    }
}

bool consumers_broken(struct consumers *c, int *code)
{
    int broken = atomic_load(&c->broken);

    if (broken != EXIT_OK) {
        *code = broken;
    }
    return broken != EXIT_OK;
}

void consumers_stop(struct consumers *c, struct histogram *h)
{
    if (c == NULL) {
        return;
    }
    atomic_store(&c->stop, true);
    for (size_t i = 0; i < c->thread_count; i++) {
        if (c->threads[i].started) {
            (void)pthread_join(c->threads[i].id, NULL);
        }
        if (h != NULL) {
            histogram_merge(h, &c->threads[i].delivery_ns);
        }
        godwit_close(c->threads[i].client);
    }
    clients_free(c->clients);
    free(c);
}
