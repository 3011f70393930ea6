#include "test/lib/client_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

enum { WAIT_COUNT = 5000 }; /* milliseconds */

struct fake_broker broker;
struct godwit *client;
struct godwit_options options;
struct confirm_seen seen[1001];

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;

void fixture_set_up(void)
{
    fake_broker_init(&broker);
    godwit_options_init(&options);
    options.url = broker.url;
    options.app = "app";
    options.secret = "secret";
    options.retry_min_ms = 1;
    options.retry_max_ms = 5;
}

void fixture_tear_down(void)
{
    godwit_close(client);
    fake_broker_fini(&broker);
}

void open_client(void)
{
    const char *why = "";

    cr_assert_eq(godwit_open(&client, &options, &why), GODWIT_OK, "%s", why);
}

void connect_client(void)
{
    open_client();
    cr_assert(fake_broker_connect(&broker));
    cr_assert_eq(godwit_wait_connected(client, WAIT_COUNT), GODWIT_OK);
}

static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    struct confirm_seen *s = arg;

    (void)pthread_mutex_lock(&seen_lock);
    s->calls++;
    s->status = confirm->status;
    s->seq = confirm->seq;
    s->duplicate = confirm->duplicate;
    if (confirm->receipt != NULL) {
        s->receipt = *confirm->receipt;
    }
    (void)snprintf(s->text, sizeof s->text, "%s", confirm->text);
    (void)pthread_mutex_unlock(&seen_lock);
}

enum godwit_status publish_one(const char *topic, int number)
{
    char body[32];
    struct godwit_message message = { .body = body };

    message.body_len = (size_t)snprintf(body, sizeof body, "body %d", number);
    return godwit_publish(client, topic, &message, on_confirm, &seen[number]);
}

static void pause_ms(void)
{
    struct timespec one = { .tv_nsec = 1000000 };

    (void)nanosleep(&one, NULL);
}

static int calls_of(int number)
{
    int calls;

    (void)pthread_mutex_lock(&seen_lock);
    calls = seen[number].calls;
    (void)pthread_mutex_unlock(&seen_lock);
    return calls;
}

bool was_called(int number)
{
    for (int i = 0; i < WAIT_COUNT && calls_of(number) == 0; i++) {
        pause_ms();
    }
    return calls_of(number) == 1;
}

static enum godwit_state state_now(void)
{
    enum godwit_state state;

    client_lock(client);
    state = client->state;
    client_unlock(client);
    return state;
}

bool wait_state(enum godwit_state state)
{
    for (int i = 0; i < WAIT_COUNT && state_now() != state; i++) {
        pause_ms();
    }
    return state_now() == state;
}

const char *last_error(void)
{
    static char text[512];

    godwit_last_error(client, text, sizeof text);
    return text;
}

bool error_says(const char *words)
{
    for (int i = 0; i < WAIT_COUNT && strstr(last_error(), words) == NULL;
         i++) {
        pause_ms();
    }
    return strstr(last_error(), words) != NULL;
}
