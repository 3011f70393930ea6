#include "tools/bench/clients.h"

#include "tools/bench/json_stream.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { CONNECTING_AT_ONCE = 128, TURN_MAX_NS = 100 * 1000 * 1000, WATCHED = 2 };

struct bench_client {
    struct godwit *client;    /* one of the two */
    struct json_stream *json; /* NULL: it speaks protobuf */
    /* set by the state callback */
    bool connected;
    bool lost; /* it was connected, or will never be */
    enum godwit_status why;
    char text[256];
};

struct clients {
    struct bench_client *at;
    struct pollfd *fds;
    uint64_t *due_ns; /* when a client wants its step without an event */
    size_t capacity;
    size_t count;
    int watched[WATCHED]; /* more descriptors that end a sleep; -1: none */
};

/* Of all clients: one broker that ends is one line. */
static atomic_bool told;

struct clients *clients_new(size_t count)
{
    struct clients *clients = calloc(1, sizeof *clients);

    if (clients == NULL) {
        return NULL;
    }
    clients->capacity = count;
    clients_watch(clients, -1, -1);
    clients->at = calloc(count, sizeof *clients->at);
    clients->fds = calloc(count + WATCHED, sizeof *clients->fds);
    clients->due_ns = calloc(count, sizeof *clients->due_ns);
    if (clients->at == NULL || clients->fds == NULL
        || clients->due_ns == NULL) {
        clients_free(clients);
        return NULL;
    }
    return clients;
}

void clients_free(struct clients *clients)
{
    if (clients == NULL) {
        return;
    }
    for (size_t i = 0; i < clients->count; i++) {
        godwit_close(clients->at[i].client);
        json_stream_close(clients->at[i].json);
    }
    free(clients->at);
    free(clients->fds);
    free(clients->due_ns);
    free(clients);
}

/* A broken connection is not made again here: the figures would be of something
 * else. */
static void on_state(void *arg, enum godwit_state state, enum godwit_status why,
                     const char *text)
{
    struct bench_client *c = arg;
    bool was_connected = c->connected;

    c->connected = state == GODWIT_CONNECTED;
    if (!c->lost
        && (state == GODWIT_ENDED ? why != GODWIT_OK
                                  : was_connected && !c->connected)) {
        c->lost = true;
        c->why = why;
        snprintf(c->text, sizeof c->text, "%s", text);
    }
}

static enum godwit_status open_client(struct bench_client *c,
                                      const struct bench_options *o,
                                      const struct godwit_options *options,
                                      const char **problem)
{
    return o->speak_json ? json_stream_open(&c->json, options, problem)
                         : godwit_open(&c->client, options, problem);
}

int clients_add(struct clients *clients, const struct bench_options *o,
                uint32_t window)
{
    struct bench_client *c = &clients->at[clients->count];
    struct godwit_options options;
    const char *problem = "";
    enum godwit_status status;

    CHECK(clients->count < clients->capacity);
    session_client_options(&o->session, &options);
    options.own_thread = false;
    options.window = window;
    options.on_state = on_state;
    options.state_arg = c;
    options.connect_timeout_ms = (uint32_t)o->session.connect_ms;
    options.give_up_ms = (uint32_t)o->session.connect_ms;
    status = open_client(c, o, &options, &problem);
    if (status != GODWIT_OK) {
        c->client = NULL;
        c->json = NULL;
        return fail(EXIT_FAILED, "%s",
                    problem != NULL && problem[0] != '\0'
                        ? problem
                        : godwit_status_text(status));
    }
    clients->count++;
    return EXIT_OK;
}

enum godwit_status clients_publish(struct clients *clients, size_t index,
                                   const char *topic,
                                   const struct godwit_message *message,
                                   godwit_confirm_fn done, void *arg)
{
    struct bench_client *c = &clients->at[index];

    return c->json != NULL
               ? json_stream_publish(c->json, topic, message, done, arg)
               : godwit_publish(c->client, topic, message, done, arg);
}

enum godwit_status clients_subscribe(struct clients *clients, size_t index,
                                     const struct godwit_subscription *sub)
{
    struct bench_client *c = &clients->at[index];

    if (c->json == NULL) {
        return godwit_subscribe(c->client, sub);
    }
    json_stream_subscribe(c->json, sub);
    return GODWIT_OK;
}

static void interest(struct bench_client *c, struct godwit_interest *out)
{
    if (c->json != NULL) {
        json_stream_interest(c->json, out);
    } else {
        godwit_interest(c->client, out);
    }
}

static void step(struct bench_client *c)
{
    if (c->json != NULL) {
        json_stream_step(c->json);
    } else {
        (void)godwit_step(c->client);
    }
}

/* What clients first..first+count-1 wait for, and how long at most. */
static uint64_t gather(struct clients *clients, size_t first, size_t count,
                       uint64_t now, uint64_t until_ns)
{
    uint64_t wake_ns = until_ns;

    for (size_t i = first; i < first + count; i++) {
        struct godwit_interest want = { .fd = -1, .timeout_ms = -1 };

        interest(&clients->at[i], &want);
        clients->fds[i] = (struct pollfd) {
            .fd = want.fd,
            .events =
                (short)((want.read ? POLLIN : 0) | (want.write ? POLLOUT : 0)),
        };
        clients->due_ns[i] = want.timeout_ms < 0
                                 ? UINT64_MAX
                                 : now + (uint64_t)want.timeout_ms * 1000000;
        if (clients->due_ns[i] < wake_ns) {
            wake_ns = clients->due_ns[i];
        }
    }
    return wake_ns;
}

static void turn(struct clients *clients, size_t first, size_t count,
                 uint64_t until_ns)
{
    uint64_t now = now_ns();
    uint64_t wake_ns = gather(clients, first, count, now, until_ns);
    uint64_t wait_ns = wake_ns > now ? wake_ns - now : 0;
    struct timespec wait;

    for (size_t i = 0; i < WATCHED; i++) {
        clients->fds[first + count + i] =
            (struct pollfd) { .fd = clients->watched[i], .events = POLLIN };
    }
    wait_ns = wait_ns < TURN_MAX_NS ? wait_ns : TURN_MAX_NS;
    wait = (struct timespec) { .tv_nsec = (long)wait_ns };
    if (ppoll(clients->fds + first, count + WATCHED, &wait, NULL) < 0) {
        return;
    }
    now = now_ns();
    for (size_t i = first; i < first + count; i++) {
        if (clients->fds[i].revents != 0 || clients->due_ns[i] <= now) {
            step(&clients->at[i]);
        }
    }
}

void clients_watch(struct clients *clients, int fd, int other)
{
    clients->watched[0] = fd;
    clients->watched[1] = other;
}

void clients_turn(struct clients *clients, uint64_t until_ns)
{
    turn(clients, 0, clients->count, until_ns);
}

void clients_push(struct clients *clients, size_t index)
{
    step(&clients->at[index]);
}

int clients_say_lost(enum godwit_status why, const char *text)
{
    int code = exit_code_of((enum status)why);

    if (why == GODWIT_IO || why == GODWIT_CLOSED || why == GODWIT_TIMEOUT
        || why == GODWIT_OK) {
        code = EXIT_UNREACHABLE;
    }
    if (!atomic_exchange(&told, true)) {
        fail(code, "the connection to the broker has ended: %s",
             text[0] != '\0' ? text : godwit_status_text(why));
    }
    return code;
}

bool clients_broken(struct clients *clients, int *code)
{
    for (size_t i = 0; i < clients->count; i++) {
        const struct bench_client *c = &clients->at[i];

        if (c->lost) {
            *code = clients_say_lost(c->why, c->text);
            return true;
        }
    }
    return false;
}

/* Are all of these connected? */
static bool all_connected(const struct clients *clients, size_t first,
                          size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        if (!clients->at[i].connected) {
            return false;
        }
    }
    return true;
}

/* In portions, so that a thousand handshakes are not a thousand polls of a
 * thousand sockets. */
int clients_connect(struct clients *clients, const struct bench_options *o)
{
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "connections", clients->count);
    for (size_t first = 0; first < clients->count;
         first += CONNECTING_AT_ONCE) {
        size_t left = clients->count - first;
        size_t count = left < CONNECTING_AT_ONCE ? left : CONNECTING_AT_ONCE;
        uint64_t deadline = now_ns() + o->session.connect_ms * 1000000;

        for (size_t i = first; i < first + count; i++) {
            clients_push(clients, i);
        }
        while (!all_connected(clients, first, count)) {
            if (interrupted()) {
                progress_end(&progress);
                return EXIT_INTERRUPTED;
            }
            if (clients_broken(clients, &code)) {
                progress_end(&progress);
                return code;
            }
            if (now_ns() > deadline) {
                progress_end(&progress);
                return fail(EXIT_UNREACHABLE,
                            "only %zu of %zu connections came about", first,
                            clients->count);
            }
            turn(clients, first, count, deadline);
        }
        progress_show(&progress, first + count);
    }
    progress_end(&progress);
    return EXIT_OK;
}
