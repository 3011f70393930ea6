/* Take messages of a group as they come, until Ctrl-C or COUNT of them.
 *
 *   GODWIT_APP=admin GODWIT_SECRET=... ./subscribe billing 10
 *
 * The URL is GODWIT_URL, or ws://127.0.0.1:7654. */
#include <godwit.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PATIENCE_MS = 10000 };

static volatile sig_atomic_t interrupted;
static atomic_bool ended;
static atomic_long left; /* to be handled; 0: all */

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* Runs on the client's thread, one message at a time. The verdict may be late,
 * never wrong: acks are gathered and sent in ranges, and only when the broker
 * has one on disk does the message never come again. */
static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *d)
{
    (void)arg;
    if (atomic_load(&ended)) {
        return GODWIT_RELEASE; /* somebody else may have it at once */
    }
    if (d->body_len == 0) {
        return GODWIT_REJECT; /* another try would find it as empty */
    }
    printf("%s %llu: %.*s\n", d->topic, (unsigned long long)d->seq,
           (int)d->body_len, (const char *)d->body);
    if (atomic_fetch_sub(&left, 1) == 1) {
        atomic_store(&ended, true);
    }
    return GODWIT_ACK;
}

static void on_state(void *arg, enum godwit_state state, enum godwit_status why,
                     const char *text)
{
    (void)arg;
    if (state == GODWIT_CONNECTING) {
        fprintf(stderr, "%s; trying again\n", text);
    } else if (state == GODWIT_ENDED && why != GODWIT_CLOSED) {
        fprintf(stderr, "%s: %s\n", godwit_status_text(why), text);
        atomic_store(&ended, true);
    }
}

int main(int argc, char **argv)
{
    const struct timespec tenth = { .tv_nsec = 100 * 1000 * 1000 };
    struct godwit_subscription subscription = { .handler = on_delivery };
    const char *url = getenv("GODWIT_URL");
    const char *why = "";
    struct godwit_options options;
    struct godwit *client;
    enum godwit_status status;

    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: %s GROUP [COUNT]\n", argv[0]);
        return 2;
    }
    atomic_store(&left, argc == 3 ? strtol(argv[2], NULL, 10) : 0);
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);

    godwit_options_init(&options);
    options.url = url != NULL ? url : "ws://127.0.0.1:7654";
    options.app = getenv("GODWIT_APP");
    options.secret = getenv("GODWIT_SECRET");
    options.on_state = on_state;
    if (godwit_open(&client, &options, &why) != GODWIT_OK) {
        fprintf(stderr, "cannot begin: %s\n", why);
        return 2;
    }
    subscription.group = argv[1];
    status = godwit_subscribe(client, &subscription);
    while (status == GODWIT_OK && !interrupted && !atomic_load(&ended)) {
        nanosleep(&tenth, NULL);
    }

    /* Give back what has not been handled, and wait until the broker has said
     * that the acks are on its disk. */
    (void)godwit_unsubscribe(client);
    status = godwit_flush(client, PATIENCE_MS);
    godwit_close(client);
    return status == GODWIT_OK ? 0 : 1;
}
