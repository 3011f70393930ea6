#include "tools/bench/load.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"

#include <poll.h>
#include <stdlib.h>

enum { CONNECTING_AT_ONCE = 128, TURN_MAX_NS = 100 * 1000 * 1000 };

struct crew {
    struct crew_client *clients;
    struct pollfd *fds;
    uint64_t *due_ns; /* when a client wants its step without an event */
    size_t capacity;
    size_t count;
    int watched; /* one more descriptor that ends a sleep; -1: none */
    bool told;
};

struct crew *crew_new(size_t count)
{
    struct crew *crew = calloc(1, sizeof *crew);

    if (crew == NULL) {
        return NULL;
    }
    crew->capacity = count;
    crew->watched = -1;
    crew->clients = calloc(count, sizeof *crew->clients);
    crew->fds = calloc(count + 1, sizeof *crew->fds);
    crew->due_ns = calloc(count, sizeof *crew->due_ns);
    if (crew->clients == NULL || crew->fds == NULL || crew->due_ns == NULL) {
        crew_free(crew);
        return NULL;
    }
    return crew;
}

void crew_free(struct crew *crew)
{
    if (crew == NULL) {
        return;
    }
    for (size_t i = 0; i < crew->count; i++) {
        godwit_close(crew->clients[i].client);
    }
    free(crew->clients);
    free(crew->fds);
    free(crew->due_ns);
    free(crew);
}

static void on_state(void *arg, enum godwit_state state, enum godwit_status why,
                     const char *text)
{
    struct crew_client *c = arg;

    (void)text;
    c->connected = state == GODWIT_CONNECTED;
    if (state == GODWIT_ENDED && why != GODWIT_OK) {
        c->ended = true;
        c->why = why;
    }
}

int crew_add(struct crew *crew, const struct bench_options *o, uint32_t window)
{
    struct crew_client *c = &crew->clients[crew->count];
    struct godwit_options options;
    const char *problem = "";
    enum godwit_status status;

    CHECK(crew->count < crew->capacity);
    session_client_options(&o->session, &options);
    options.own_thread = false;
    options.window = window;
    options.on_state = on_state;
    options.state_arg = c;
    options.connect_timeout_ms = (uint32_t)o->session.connect_ms;
    options.give_up_ms = (uint32_t)o->session.connect_ms;
    status = godwit_open(&c->client, &options, &problem);
    if (status != GODWIT_OK) {
        c->client = NULL;
        return fail(EXIT_FAILED, "%s",
                    problem != NULL && problem[0] != '\0'
                        ? problem
                        : godwit_status_text(status));
    }
    crew->count++;
    return EXIT_OK;
}

struct godwit *crew_client(struct crew *crew, size_t index)
{
    return crew->clients[index].client;
}

size_t crew_count(const struct crew *crew)
{
    return crew->count;
}

/* What clients first..first+count-1 wait for, and how long at most. */
static uint64_t gather(struct crew *crew, size_t first, size_t count,
                       uint64_t now, uint64_t until_ns)
{
    uint64_t wake_ns = until_ns;

    for (size_t i = first; i < first + count; i++) {
        struct godwit_interest interest = { .fd = -1, .timeout_ms = -1 };

        godwit_interest(crew->clients[i].client, &interest);
        crew->fds[i] = (struct pollfd) {
            .fd = interest.fd,
            .events = (short)((interest.read ? POLLIN : 0)
                              | (interest.write ? POLLOUT : 0)),
        };
        crew->due_ns[i] = interest.timeout_ms < 0
                              ? UINT64_MAX
                              : now + (uint64_t)interest.timeout_ms * 1000000;
        if (crew->due_ns[i] < wake_ns) {
            wake_ns = crew->due_ns[i];
        }
    }
    return wake_ns;
}

static void turn(struct crew *crew, size_t first, size_t count,
                 uint64_t until_ns)
{
    uint64_t now = now_ns();
    uint64_t wake_ns = gather(crew, first, count, now, until_ns);
    uint64_t wait_ns = wake_ns > now ? wake_ns - now : 0;
    struct timespec wait;

    crew->fds[first + count] =
        (struct pollfd) { .fd = crew->watched, .events = POLLIN };
    wait_ns = wait_ns < TURN_MAX_NS ? wait_ns : TURN_MAX_NS;
    wait = (struct timespec) { .tv_nsec = (long)wait_ns };
    if (ppoll(crew->fds + first, count + 1, &wait, NULL) < 0) {
        return;
    }
    now = now_ns();
    for (size_t i = first; i < first + count; i++) {
        if (crew->fds[i].revents != 0 || crew->due_ns[i] <= now) {
            (void)godwit_step(crew->clients[i].client);
        }
    }
}

void crew_watch(struct crew *crew, int fd)
{
    crew->watched = fd;
}

void crew_turn(struct crew *crew, uint64_t until_ns)
{
    turn(crew, 0, crew->count, until_ns);
}

void crew_push(struct crew *crew, size_t index)
{
    (void)godwit_step(crew->clients[index].client);
}

bool crew_broken(struct crew *crew, int *code)
{
    char text[512];

    for (size_t i = 0; i < crew->count; i++) {
        struct crew_client *c = &crew->clients[i];

        if (!c->ended) {
            continue;
        }
        *code = exit_code_of((enum status)c->why);
        if (c->why == GODWIT_IO) {
            *code = EXIT_UNREACHABLE;
        }
        if (!crew->told) {
            text[0] = '\0';
            godwit_last_error(c->client, text, sizeof text);
            fail(*code, "a connection has ended: %s",
                 text[0] != '\0' ? text : godwit_status_text(c->why));
            crew->told = true;
        }
        return true;
    }
    return false;
}

/* Are all of these connected? */
static bool all_connected(const struct crew *crew, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        if (!crew->clients[i].connected) {
            return false;
        }
    }
    return true;
}

/* In portions, so that a thousand handshakes are not a thousand polls of a
 * thousand sockets. */
int crew_connect(struct crew *crew, const struct bench_options *o)
{
    struct progress progress;
    int code = EXIT_OK;

    progress_begin(&progress, "connections", crew->count);
    for (size_t first = 0; first < crew->count; first += CONNECTING_AT_ONCE) {
        size_t left = crew->count - first;
        size_t count = left < CONNECTING_AT_ONCE ? left : CONNECTING_AT_ONCE;
        uint64_t deadline = now_ns() + o->session.connect_ms * 1000000;

        for (size_t i = first; i < first + count; i++) {
            crew_push(crew, i);
        }
        while (!all_connected(crew, first, count)) {
            if (interrupted()) {
                progress_end(&progress);
                return EXIT_INTERRUPTED;
            }
            if (crew_broken(crew, &code)) {
                progress_end(&progress);
                return code;
            }
            if (now_ns() > deadline) {
                progress_end(&progress);
                return fail(EXIT_UNREACHABLE,
                            "only %zu of %zu connections came about", first,
                            crew->count);
            }
            turn(crew, first, count, deadline);
        }
        progress_show(&progress, first + count);
    }
    progress_end(&progress);
    return EXIT_OK;
}

char *bench_body(size_t size)
{
    char *body = malloc(size);
    uint64_t random = 88172645463325252U;

    for (size_t i = 0; body != NULL && i < size; i++) {
        random ^= random << 13; /* xorshift: cheap and the same each time */
        random ^= random >> 7;
        random ^= random << 17;
        body[i] = (char)('a' + random % 26);
    }
    return body;
}

void body_set_time(char *body, uint64_t ns)
{
    memcpy(body, &ns, sizeof ns);
}

uint64_t body_time(const void *body, size_t len)
{
    uint64_t ns = 0;

    if (len >= sizeof ns) {
        memcpy(&ns, body, sizeof ns);
    }
    return ns;
}
