#include "tools/bench/consumers.h"

#include "proto/limits.h"
#include "tools/godwit/human.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    CREDIT_MESSAGES = 10000,
    PULL_WAIT_MS = 1000 /* the shortest that the C client can ask for */
};

/* A thread's own: others only read. */
struct seat {
    struct consumers *of;
    pthread_t thread;
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
    _Atomic int broken; /* an exit code */
    struct crew *crew;  /* those that are pushed to */
    size_t seat_count;  /* 1 for all of them, or one for each puller */
    struct seat seats[];
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
static bool judge(struct seat *seat, const struct godwit_delivery *delivery)
{
    uint64_t sent_ns = body_time(delivery->body, delivery->body_len);
    uint64_t each = seat->of->plan.nack_each;

    if (delivery->attempt > 1) {
        count(&seat->repeated, 1);
        return false;
    }
    count(&seat->delivered, 1);
    if (sent_ns != 0
        && sent_ns >= atomic_load_explicit(&seat->of->timed_from_ns,
                                           memory_order_relaxed)) {
        histogram_add(&seat->delivery_ns, now_ns() - sent_ns);
    }
    if (each == 0 || seat->delivered % each != 0) {
        return false;
    }
    count(&seat->nacked, 1);
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
    struct seat *seat = arg;

    (void)topic;
    (void)status;
    count(strcmp(outcome, "accepted") == 0 ? &seat->settled
                                           : &seat->not_accepted,
          last - first + 1);
}

static void *be_pushed(void *arg)
{
    struct seat *seat = arg;
    struct consumers *c = seat->of;
    int code = EXIT_OK;

    while (!atomic_load(&c->stop) && !crew_broken(c->crew, &code)) {
        uint64_t before = seat->settled;

        crew_turn(c->crew, now_ns() + BENCH_LOOK_NS);
        if (seat->settled != before) {
            atomic_store(&seat->last_ns, now_ns());
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
        .arg = &c->seats[0],
    };
    int code = EXIT_OK;

    c->crew = crew_new(c->plan.count);
    if (c->crew == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    for (size_t i = 0; code == EXIT_OK && i < c->plan.count; i++) {
        code = crew_add(c->crew, c->plan.o, 0);
    }
    if (code == EXIT_OK) {
        code = crew_connect(c->crew, c->plan.o);
    }
    for (size_t i = 0; code == EXIT_OK && i < c->plan.count; i++) {
        if (crew_subscribe(c->crew, i, &subscription) != GODWIT_OK) {
            code = fail(EXIT_FAILED, "cannot subscribe");
        }
        crew_push(c->crew, i);
    }
    return code;
}

/* ---- pulling ---- */

/* Nacks those that fail, and acks the rest. */
static enum godwit_status settle(struct seat *seat, struct godwit_batch *batch)
{
    size_t size = godwit_batch_count(batch);
    uint64_t accepted = 0;
    enum godwit_status status = GODWIT_OK;

    for (size_t i = 0; i < size && status == GODWIT_OK; i++) {
        const struct godwit_delivery *d = godwit_batch_at(batch, i);
        uint64_t nacked = 0;

        if (judge(seat, d)) {
            status =
                godwit_batch_settle(seat->client, batch, GODWIT_DO_NACK,
                                    d->topic, d->seq, d->seq, 0, NULL, &nacked);
        }
        accepted += nacked;
    }
    if (status == GODWIT_OK) {
        uint64_t acked = 0;

        status = godwit_batch_ack(seat->client, batch, &acked);
        accepted += acked;
    }
    count(&seat->settled, accepted);
    if (status == GODWIT_OK) {
        count(&seat->not_accepted, size - accepted);
        atomic_store(&seat->last_ns, now_ns());
    }
    return status;
}

static void *pull_on(void *arg)
{
    struct seat *seat = arg;
    struct consumers *c = seat->of;
    enum godwit_status status = GODWIT_OK;

    while (status == GODWIT_OK && !atomic_load(&c->stop)) {
        struct godwit_batch *batch = NULL;

        status = godwit_pull(seat->client, c->group, PULL_COUNT_MAX,
                             PULL_WAIT_MS, &batch);
        if (status == GODWIT_OK && godwit_batch_count(batch) > 0) {
            status = settle(seat, batch);
        }
        godwit_batch_free(batch);
    }
    if (status != GODWIT_OK && !atomic_load(&c->stop)) {
        char text[256] = "";

        godwit_last_error(seat->client, text, sizeof text);
        atomic_store(&c->broken, crew_say_lost(status, text));
    }
    return NULL;
}

static int open_puller(struct seat *seat, const struct bench_options *o)
{
    struct godwit_options options;
    const char *problem = "";
    enum godwit_status status;

    session_client_options(&o->session, &options);
    options.own_thread = false; /* nobody steps it: it is for HTTP only */
    options.connect_timeout_ms = (uint32_t)o->session.connect_ms;
    status = godwit_open(&seat->client, &options, &problem);
    return status == GODWIT_OK ? EXIT_OK : fail(EXIT_FAILED, "%s", problem);
}

/* ---- all of them ---- */

static int start_threads(struct consumers *c)
{
    for (size_t i = 0; i < c->seat_count; i++) {
        struct seat *seat = &c->seats[i];

        if (pthread_create(&seat->thread, NULL,
                           c->plan.pull ? pull_on : be_pushed, seat)
            != 0) {
            return fail(EXIT_FAILED, "no thread for a consumer");
        }
        seat->started = true;
    }
    return EXIT_OK;
}

int consumers_start(struct consumers **out, const struct consumer_plan *plan)
{
    size_t seats = plan->pull ? plan->count : 1;
    struct consumers *c = calloc(1, sizeof *c + seats * sizeof c->seats[0]);
    int code = EXIT_OK;

    *out = NULL;
    if (c == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    c->plan = *plan;
    c->seat_count = seats;
    snprintf(c->group, sizeof c->group, "%s", plan->group);
    for (size_t i = 0; i < seats; i++) {
        c->seats[i].of = c;
        if (code == EXIT_OK && plan->pull) {
            code = open_puller(&c->seats[i], plan->o);
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
    for (size_t i = 0; i < c->seat_count; i++) {
        struct seat *seat = &c->seats[i];
        uint64_t nacked = seat->nacked;
        uint64_t settled = seat->settled;
        uint64_t last_ns = seat->last_ns;

        out->delivered += seat->delivered;
        out->repeated += seat->repeated;
        out->nacked += nacked;
        out->accepted += settled > nacked ? settled - nacked : 0;
        out->not_accepted += seat->not_accepted;
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
    for (size_t i = 0; i < c->seat_count; i++) {
        if (c->seats[i].started) {
            (void)pthread_join(c->seats[i].thread, NULL);
        }
        if (h != NULL) {
            histogram_merge(h, &c->seats[i].delivery_ns);
        }
        godwit_close(c->seats[i].client);
    }
    crew_free(c->crew);
    free(c);
}
