/* Open and close, the library's own thread, and waiting. */
#include "client/client.h"
#include "proto/name.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Whose engine is running on this thread: its callbacks must not wait. */
static _Thread_local const struct godwit *stepping;

_Static_assert((int)GODWIT_INTERNAL == (int)STATUS_INTERNAL,
               "the public statuses are the wire's");

const char *godwit_status_text(enum godwit_status status)
{
    return status_text((enum status)status);
}

const char *godwit_version(void)
{
    return GODWIT_VERSION;
}

/* ---- clock, lock, notes ---- */

uint64_t clock_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct timespec clock_deadline(uint64_t deadline_ms)
{
    return (struct timespec) { .tv_sec = (time_t)(deadline_ms / 1000),
                               .tv_nsec =
                                   (long)(deadline_ms % 1000) * 1000000 };
}

void client_lock(struct godwit *c)
{
    CHECK(pthread_mutex_lock(&c->lock) == 0);
}

void client_unlock(struct godwit *c)
{
    CHECK(pthread_mutex_unlock(&c->lock) == 0);
}

bool client_in_callback(const struct godwit *c)
{
    return stepping == c;
}

enum status client_note(struct godwit *c, enum status status, const char *text)
{
    client_lock(c);
    (void)snprintf(c->text, sizeof c->text, "%s", text);
    client_unlock(c);
    return status;
}

void client_wake(struct godwit *c)
{
    uint64_t one = 1;

    /* Only the first to find it asleep pays for the call. */
    if (c->own_thread && atomic_exchange(&c->sleeping, false)) {
        (void)!write(c->wake_fd, &one, sizeof one);
    }
}

void client_changed(struct godwit *c)
{
    /* An addition of nothing: see publish_room(). */
    if (atomic_fetch_add(&c->change_waiters, 0) > 0) {
        client_lock(c);
        CHECK(pthread_cond_broadcast(&c->changed) == 0);
        client_unlock(c);
    }
}

void godwit_last_error(struct godwit *c, char *text, size_t len)
{
    if (len == 0) {
        return;
    }
    client_lock(c);
    (void)snprintf(text, len, "%s", c->text);
    client_unlock(c);
}

/* ---- the thread ---- */

static void engine_turn(struct godwit *c)
{
    const struct godwit *outer = stepping;

    stepping = c;
    engine_step(c);
    stepping = outer;
}

static short poll_events(const struct link_interest *interest)
{
    return (short)((interest->read ? POLLIN : 0)
                   | (interest->write ? POLLOUT : 0));
}

static void thread_sleep(struct godwit *c)
{
    bool pressed = engine_pressed(c);
    struct link_interest interest;
    struct pollfd fds[2];
    uint64_t wakes;
    int timeout_ms;

    if (!pressed) {
        publish_set_wake(c);
        atomic_store(&c->sleeping, true);
        /* Whoever gives us work after this look finds us asleep. */
        pressed = engine_pressed(c);
    }
    interest = engine_interest(c, &timeout_ms);
    fds[0] = (struct pollfd) { .fd = c->wake_fd, .events = POLLIN };
    fds[1] =
        (struct pollfd) { .fd = interest.fd, .events = poll_events(&interest) };
    (void)poll(fds, 2, pressed ? 0 : timeout_ms);
    atomic_store(&c->sleeping, false);
    if (fds[0].revents != 0) {
        (void)!read(c->wake_fd, &wakes, sizeof wakes);
    }
}

static void *thread_run(void *arg)
{
    struct godwit *c = arg;

    for (;;) {
        engine_turn(c);
        if (c->phase == PHASE_ENDED) {
            return NULL;
        }
        thread_sleep(c);
    }
}

/* Signals belong to the application's threads. */
static enum status thread_start(struct godwit *c)
{
    sigset_t all;
    sigset_t before;
    int failure;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    failure = pthread_create(&c->thread, NULL, thread_run, c);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure == 0 ? STATUS_OK : STATUS_NOMEM;
}

/* ---- open ---- */

void godwit_options_init(struct godwit_options *options)
{
    *options = (struct godwit_options) { .own_thread = true,
                                         .window = 1000,
                                         .sign = true,
                                         .connect_timeout_ms = 5000,
                                         .retry_min_ms = 50,
                                         .retry_max_ms = 5000 };
}

static const char *options_fault(const struct godwit_options *o)
{
    if (o->url == NULL) {
        return "url: missing";
    }
    if (o->app == NULL || !name_valid(slice_text(o->app))) {
        return "app: missing or no valid name";
    }
    if (o->secret == NULL || o->secret[0] == '\0'
        || strlen(o->secret) > SECRET_LEN_MAX
        || strpbrk(o->secret, "\r\n") != NULL) {
        return "secret: missing, too long or with a line break";
    }
    if (o->window > WINDOW_COUNT_MAX) {
        return "window: at most 1000000";
    }
    return NULL;
}

static uint32_t or_default(uint32_t value, uint32_t standard)
{
    return value == 0 ? standard : value;
}

static void options_take(struct godwit *c, const struct godwit_options *o)
{
    c->options = *o;
    c->own_thread = o->own_thread;
    (void)snprintf(c->app, sizeof c->app, "%s", o->app);
    (void)snprintf(c->secret, sizeof c->secret, "%s", o->secret);
    c->auth = (struct auth) { c->app, c->secret, o->sign };
    c->options.url = c->options.app = c->options.secret = NULL;
    c->options.ca_file = NULL;
    c->options.window = or_default(o->window, 1000);
    c->options.connect_timeout_ms = or_default(o->connect_timeout_ms, 5000);
    c->options.retry_min_ms = or_default(o->retry_min_ms, 50);
    c->options.retry_max_ms = or_default(o->retry_max_ms, 5000);
    if (c->options.retry_max_ms < c->options.retry_min_ms) {
        c->options.retry_max_ms = c->options.retry_min_ms;
    }
}

static void sync_init(struct godwit *c)
{
    pthread_condattr_t clock;

    CHECK(pthread_condattr_init(&clock) == 0);
    CHECK(pthread_condattr_setclock(&clock, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&c->publish_lock, NULL) == 0);
    CHECK(pthread_mutex_init(&c->lock, NULL) == 0);
    CHECK(pthread_cond_init(&c->room, &clock) == 0);
    CHECK(pthread_cond_init(&c->changed, &clock) == 0);
    CHECK(pthread_condattr_destroy(&clock) == 0);
}

static enum status choose_producer(struct godwit *c)
{
    while (c->producer == 0) {
        if (!random_bytes(&c->producer, sizeof c->producer)) {
            return STATUS_IO;
        }
    }
    return STATUS_OK;
}

static enum status begin(struct godwit *c, const char *ca_file,
                         const char **fault)
{
    enum status status;

    if (c->url.tls) {
        c->trust = tls_context_new(ca_file);
        if (c->trust == NULL) {
            *fault = "ca_file: the certificates to trust cannot be read";
            return STATUS_INVALID;
        }
    }
    status = choose_producer(c);
    if (status == STATUS_OK) {
        status = window_init(&c->window, c->options.window);
    }
    if (status == STATUS_OK) {
        status = engine_init(c);
    }
    if (status != STATUS_OK || !c->own_thread) {
        return status;
    }
    c->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return c->wake_fd < 0 ? STATUS_IO : thread_start(c);
}

static void client_free(struct godwit *c)
{
    engine_fini(c);
    window_fini(&c->window);
    settler_fini(&c->settler);
    http_pool_fini(&c->http);
    tls_context_free(c->trust);
    if (c->wake_fd >= 0) {
        (void)close(c->wake_fd);
    }
    CHECK(pthread_mutex_destroy(&c->publish_lock) == 0);
    CHECK(pthread_mutex_destroy(&c->lock) == 0);
    CHECK(pthread_cond_destroy(&c->room) == 0);
    CHECK(pthread_cond_destroy(&c->changed) == 0);
    explicit_bzero(c->secret, sizeof c->secret);
    free(c);
}

enum godwit_status godwit_open(struct godwit **out,
                               const struct godwit_options *options,
                               const char **error_text)
{
    const char *fault = options_fault(options);
    struct godwit *c;
    struct url url;
    enum status status =
        fault == NULL ? url_read(&url, options->url, &fault) : STATUS_INVALID;

    if (status == STATUS_OK) {
        c = calloc(1, sizeof *c);
        status = c == NULL ? STATUS_NOMEM : STATUS_OK;
    }
    if (status == STATUS_OK) {
        c->url = url;
        c->wake_fd = -1;
        sync_init(c);
        settler_init(&c->settler);
        options_take(c, options);
        transport_init(&c->link.transport, &c->url, NULL);
        status = begin(c, options->ca_file, &fault);
        if (status == STATUS_OK) {
            *out = c;
            return GODWIT_OK;
        }
        client_free(c);
    }
    if (error_text != NULL) {
        *error_text = fault != NULL ? fault : status_text(status);
    }
    return public_status(status);
}

void godwit_close(struct godwit *c)
{
    if (c == NULL) {
        return;
    }
    CHECK(!client_in_callback(c));
    atomic_store(&c->stopping, true);
    if (c->own_thread) {
        client_wake(c);
        CHECK(pthread_join(c->thread, NULL) == 0);
    } else {
        engine_turn(c);
    }
    client_free(c);
}

/* ---- the caller's own loop ---- */

void godwit_interest(struct godwit *c, struct godwit_interest *out)
{
    struct link_interest interest = { .fd = -1 };
    int timeout_ms = -1;

    if (!c->own_thread) {
        bool pressed = engine_pressed(c);
        interest = engine_interest(c, &timeout_ms);
        timeout_ms = pressed ? 0 : timeout_ms;
    }
    *out = (struct godwit_interest) { .fd = interest.fd,
                                      .read = interest.read,
                                      .write = interest.write,
                                      .timeout_ms = timeout_ms };
}

enum godwit_status godwit_step(struct godwit *c)
{
    if (c->own_thread || client_in_callback(c)) {
        return GODWIT_INVALID;
    }
    engine_turn(c);
    return c->phase == PHASE_ENDED ? GODWIT_CLOSED : GODWIT_OK;
}

/* ---- waiting ---- */

static enum status wait_for_thread(struct godwit *c, client_ready_fn ready,
                                   void *arg, uint64_t deadline_ms)
{
    struct timespec deadline = clock_deadline(deadline_ms);
    bool in_time = true;
    bool is_ready;

    atomic_fetch_add(&c->change_waiters, 1);
    client_lock(c);
    for (;;) {
        is_ready = ready(c, arg);
        if (is_ready || !in_time) {
            break;
        }
        in_time = pthread_cond_timedwait(&c->changed, &c->lock, &deadline) == 0;
    }
    client_unlock(c);
    atomic_fetch_sub(&c->change_waiters, 1);
    return is_ready ? STATUS_OK : STATUS_TIMEOUT;
}

static bool look(struct godwit *c, client_ready_fn ready, void *arg)
{
    bool is_ready;

    client_lock(c);
    is_ready = ready(c, arg);
    client_unlock(c);
    return is_ready;
}

/* Without a thread the caller's wait is what drives the engine. */
static enum status wait_stepping(struct godwit *c, client_ready_fn ready,
                                 void *arg, uint64_t deadline_ms)
{
    for (;;) {
        struct godwit_interest interest;
        struct pollfd fd;
        uint64_t now;
        int left_ms;

        engine_turn(c);
        now = clock_ms();
        if (look(c, ready, arg)) {
            return STATUS_OK;
        }
        if (now >= deadline_ms) {
            return STATUS_TIMEOUT;
        }
        left_ms = deadline_ms - now > 60000 ? 60000 : (int)(deadline_ms - now);
        godwit_interest(c, &interest);
        if (interest.timeout_ms >= 0 && interest.timeout_ms < left_ms) {
            left_ms = interest.timeout_ms;
        }
        fd = (struct pollfd) { .fd = interest.fd };
        fd.events = (short)((interest.read ? POLLIN : 0)
                            | (interest.write ? POLLOUT : 0));
        (void)poll(&fd, 1, left_ms);
    }
}

enum status client_wait(struct godwit *c, client_ready_fn ready, void *arg,
                        uint64_t deadline_ms)
{
    if (client_in_callback(c)) {
        return STATUS_INVALID;
    }
    return c->own_thread ? wait_for_thread(c, ready, arg, deadline_ms)
                         : wait_stepping(c, ready, arg, deadline_ms);
}

static bool is_settled_state(struct godwit *c, void *arg)
{
    (void)arg;
    return c->state != GODWIT_CONNECTING;
}

enum godwit_status godwit_wait_connected(struct godwit *c, uint32_t timeout_ms)
{
    enum status status =
        client_wait(c, is_settled_state, NULL, clock_ms() + timeout_ms);

    if (status == STATUS_OK) {
        client_lock(c);
        status = c->state == GODWIT_ENDED ? c->ended_why : STATUS_OK;
        client_unlock(c);
    }
    return public_status(status);
}

struct flush_target {
    uint64_t head;
    uint64_t epoch;
};

static bool is_flushed(struct godwit *c, void *arg)
{
    struct flush_target *target = arg;

    return c->state == GODWIT_ENDED
           || (atomic_load(&c->told) >= target->head && !c->answering
               && settler_done(&c->settler, target->epoch));
}

enum godwit_status godwit_flush(struct godwit *c, uint32_t timeout_ms)
{
    struct flush_target target = { .head = window_head(&c->window) };
    enum status status;

    client_lock(c);
    target.epoch = c->settler.epoch;
    client_unlock(c);
    status = client_wait(c, is_flushed, &target, clock_ms() + timeout_ms);
    if (status == STATUS_OK) {
        client_lock(c);
        status = c->state == GODWIT_ENDED ? c->ended_why : STATUS_OK;
        client_unlock(c);
    }
    return public_status(status);
}

void godwit_figures(struct godwit *c, struct godwit_figures *out)
{
    uint64_t tail = window_tail(&c->window);
    uint64_t head = window_head(&c->window);
    struct figures *f = &c->figures;

    *out = (struct godwit_figures) {
        .published = head - 1,
        .confirmed = atomic_load(&f->confirmed),
        .duplicates = atomic_load(&f->duplicates),
        .refused = atomic_load(&f->refused),
        .resent = atomic_load(&f->resent),
        .delivered = atomic_load(&f->delivered),
        .settled = atomic_load(&f->settled),
        .connects = atomic_load(&f->connects),
        .unconfirmed = head - tail,
    };
}
