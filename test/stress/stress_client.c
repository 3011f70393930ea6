/* links: godwit_client godwit_proto */
/* with: test/lib/fake_broker.c */
/* Publishers, settlers, waiters and the client's own thread at once, against a
 * fake broker that drops connections. Made for ThreadSanitizer.
 *
 *   stress_client [messages of each [drop after so many [publishers]]]  */
#include "client/godwit.h"
#include "test/lib/fake_broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    PUBLISHER_COUNT_MAX = 8,
    DELIVERIES = 5000,
    BODY_LEN = 1024,
    BATCH_COUNT = 5
};

static _Atomic uint64_t completed;
static _Atomic uint64_t wrong;
static _Atomic uint64_t handled;

static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    (void)arg;
    atomic_fetch_add(&completed, 1);
    if (confirm->status != GODWIT_OK) {
        atomic_fetch_add(&wrong, 1);
    }
}

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *delivery)
{
    struct godwit *client = arg;

    atomic_fetch_add(&handled, 1);
    if (delivery->seq % 3 == 0) {
        if (godwit_settle(client, GODWIT_DO_ACK, delivery->topic, delivery->seq,
                          delivery->seq, 0, NULL)
            != GODWIT_OK) {
            atomic_fetch_add(&wrong, 1);
        }
        return GODWIT_LATER;
    }
    return GODWIT_ACK;
}

struct publisher {
    struct godwit *client;
    uint64_t count;
    bool mixed; /* some with ids, some in batches */
};

static void publish_batch(struct publisher *p,
                          const struct godwit_message *message)
{
    struct godwit_message batch[BATCH_COUNT];

    for (size_t i = 0; i < BATCH_COUNT; i++) {
        batch[i] = *message;
    }
    if (godwit_publish_atomic(p->client, "topic", batch, BATCH_COUNT,
                              on_confirm, NULL)
        != GODWIT_OK) {
        atomic_fetch_add(&wrong, 1);
    }
}

static void *publish(void *arg)
{
    struct publisher *p = arg;
    char body[BODY_LEN] = "body";
    struct godwit_message message = { .key = "key",
                                      .body = body,
                                      .body_len = sizeof body };

    for (uint64_t i = 0; i < p->count; i++) {
        message.id = p->mixed && i % 100 == 7 ? "id" : NULL;
        if (p->mixed && i % 500 == 9 && i + BATCH_COUNT <= p->count) {
            publish_batch(p, &message);
            i += BATCH_COUNT - 1;
            continue;
        }
        if (godwit_publish(p->client, i % 50 == 0 ? "other" : "topic", &message,
                           on_confirm, NULL)
            != GODWIT_OK) {
            atomic_fetch_add(&wrong, 1);
        }
        if (i % 10000 == 9999) {
            struct godwit_confirm confirm;
            if (godwit_publish_wait(p->client, "topic", &message, &confirm,
                                    20000)
                != GODWIT_OK) {
                atomic_fetch_add(&wrong, 1);
            }
        }
    }
    return NULL;
}

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int fail(const char *what, struct godwit *client)
{
    char text[512];

    godwit_last_error(client, text, sizeof text);
    (void)fprintf(stderr, "stress_client: %s (%s)\n", what, text);
    return 1;
}

static int run(struct fake_broker *b, const struct publisher *like,
               uint64_t publishers)
{
    struct godwit *client = like->client;
    uint64_t count = like->count;
    struct godwit_subscription sub = { .group = "group",
                                       .handler = on_delivery,
                                       .arg = client };
    struct publisher publisher = *like;
    pthread_t threads[PUBLISHER_COUNT_MAX];
    struct godwit_figures figures;
    double began = now_s();

    if (godwit_subscribe(client, &sub) != GODWIT_OK) {
        return fail("subscribe", client);
    }
    for (uint64_t i = 0; i < publishers; i++) {
        CHECK(pthread_create(&threads[i], NULL, publish, &publisher) == 0);
    }
    for (uint64_t i = 0; i < publishers; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    if (godwit_flush(client, 20000) != GODWIT_OK) {
        return fail("flush", client);
    }
    godwit_figures(client, &figures);
    (void)printf("%.0f publishes/s, resent %llu, connects %llu\n",
                 (double)(count * publishers) / (now_s() - began),
                 (unsigned long long)figures.resent,
                 (unsigned long long)figures.connects);
    if (atomic_load(&completed) != count * publishers
        || atomic_load(&wrong) != 0 || figures.unconfirmed != 0) {
        return fail("not all completed well", client);
    }
    while (atomic_load(&b->settled) < DELIVERIES) {
        if (now_s() - began > 60) {
            return fail("deliveries or their acks are missing", client);
        }
        (void)usleep(1000);
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 30000;
    uint64_t publishers = argc > 3 ? strtoull(argv[3], NULL, 10) : 3;
    struct fake_broker broker;
    struct godwit_options options;
    struct godwit *client;
    int result;

    if (publishers < 1 || publishers > PUBLISHER_COUNT_MAX) {
        return 2;
    }

    fake_broker_init(&broker);
    broker.deliver_count = DELIVERIES;
    broker.drop_after = argc > 2 ? strtoull(argv[2], NULL, 10) : count;
    broker.lose_confirms = true;
    fake_broker_play(&broker);
    godwit_options_init(&options);
    options.url = broker.url;
    options.app = "app";
    options.secret = "secret";
    if (godwit_open(&client, &options, NULL) != GODWIT_OK) {
        return 1;
    }
    /* With arguments it measures, and all messages are of one kind. */
    result = run(&broker, &(struct publisher) { client, count, argc == 1 },
                 publishers);
    godwit_close(client);
    fake_broker_fini(&broker);
    return result;
}
