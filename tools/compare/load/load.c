#include "tools/compare/load/load.h"

#include "tools/godwit/human.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 128,
    RETRY_MS = 1,
    READY_MS_MAX = 120 * 1000, /* a broker's start, with all it has stored */
    LATENCY_WARM_UP_S = 1
};

/* ---- what drivers report ---- */

static void confirm(struct peer *p, uint64_t id)
{
    p->waiting[id % PEER_RING] = false;
    p->open--;
    p->load->confirmed++;
    while (p->lowest < p->next && !p->waiting[p->lowest % PEER_RING]) {
        p->lowest++;
    }
}

void load_confirmed(struct peer *p, uint64_t id)
{
    if (id < p->lowest || id >= p->next || !p->waiting[id % PEER_RING]) {
        peer_fail(p, "it confirmed message %" PRIu64 ", which is not open", id);
        return;
    }
    confirm(p, id);
}

void load_confirmed_up_to(struct peer *p, uint64_t id)
{
    if (id < p->lowest || id >= p->next) {
        peer_fail(p, "it confirmed up to %" PRIu64 ", which is not open", id);
        return;
    }
    while (p->lowest <= id) {
        confirm(p, p->lowest); /* moves lowest */
    }
}

void load_delivered(struct peer *p, struct slice body)
{
    struct load *load = p->load;
    uint64_t now = now_ns();
    uint64_t due;
    uint64_t number;

    if (body.len < STAMP_LEN) {
        peer_fail(p, "it delivered a body of %zu bytes", body.len);
        return;
    }
    due = get_u64(body.at);
    number = get_u64(body.at + 8);
    if (number != p->expected) {
        peer_fail(p,
                  "it delivered message %" PRIu64 " when %" PRIu64 " was next",
                  number, p->expected);
        return;
    }
    p->expected++;
    load->delivered++;
    if (load->first_ns == 0) {
        load->first_ns = now;
    }
    if (load->counted_from_ns != 0 && due >= load->counted_from_ns) {
        histogram_add(&load->delivery_ns, now - due);
    }
}

void load_acked(struct peer *p)
{
    p->load->acked++;
}

/* ---- the connections ---- */

static bool fail_with(struct load *load, const char *text)
{
    (void)snprintf(load->text, sizeof load->text, "%s", text);
    return false;
}

static bool take_failure(struct load *load, const struct peer *p)
{
    return p->failed && !fail_with(load, p->text);
}

static bool add(struct load *load)
{
    const struct driver *driver = load->o.driver;
    struct peer *p = peer_connect(driver, load, (uint16_t)load->o.port);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = p };

    if (p == NULL) {
        return fail_with(load, "out of memory");
    }
    load->peers[load->opened++] = p;
    p->window = load->o.window;
    p->events = EPOLLIN;
    if (!p->failed) {
        driver->open(p);
    }
    if (take_failure(load, p)) {
        return false;
    }
    return epoll_ctl(load->epoll, EPOLL_CTL_ADD, p->fd, &event) == 0
           || fail_with(load, "epoll_ctl failed");
}

static bool open_peers(struct load *load, size_t producers, size_t count)
{
    load->peers = calloc(count, sizeof(struct peer *));
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->body = malloc(load->o.size);
    if (load->peers == NULL || load->epoll < 0 || load->body == NULL) {
        return fail_with(load, "out of memory");
    }
    for (size_t i = 0; i < load->o.size; i++) {
        load->body[i] = (char)('a' + i % 26);
    }
    load->peer_count = count;
    load->producer_count = producers;
    while (load->opened < count) {
        if (!add(load)) {
            return false;
        }
    }
    return true;
}

void load_fini(struct load *load)
{
    for (size_t i = 0; i < load->opened; i++) {
        peer_free(load->peers[i]);
    }
    if (load->epoll > 0) {
        close(load->epoll);
    }
    free(load->peers);
    free(load->body);
}

static bool make_place(struct load *load, size_t group_count, bool durable)
{
    struct peer *first = load->peers[0];

    load->place = (struct place) { load->o.name, group_count, durable };
    load->o.driver->make(first, &load->place);
    for (size_t i = 0; i < load->producer_count; i++) {
        load->o.driver->producer(load->peers[i], &load->place);
        if (take_failure(load, load->peers[i])) {
            return false;
        }
    }
    return !take_failure(load, first);
}

static bool unmake_place(struct load *load)
{
    load->o.driver->unmake(load->peers[0], &load->place);
    return !take_failure(load, load->peers[0]);
}

/* ---- turns ---- */

/* Wait for room in the socket exactly while there is something to send. */
static void want(struct load *load, struct peer *p)
{
    uint32_t events = EPOLLIN | (bytes_len(&p->out) > 0 ? EPOLLOUT : 0U);
    struct epoll_event event = { .events = events, .data.ptr = p };

    if (p->events != events) {
        p->events = events;
        (void)epoll_ctl(load->epoll, EPOLL_CTL_MOD, p->fd, &event);
    }
}

static void send_one(struct load *load, struct peer *p, uint64_t due_ns)
{
    uint64_t id = p->next;

    put_u64((uint8_t *)load->body, due_ns);
    put_u64((uint8_t *)load->body + 8, load->sent);
    p->waiting[id % PEER_RING] = true;
    p->next++;
    p->open++;
    load->sent++;
    load->o.driver->publish(p, id, slice_of(load->body, load->o.size));
}

static bool may_send(const struct load *load, const struct peer *p)
{
    return load->sent < load->o.count && p->open < p->window
           && p->next - p->lowest < PEER_RING
           && bytes_len(&p->out) < PEER_BACKLOG_LEN && !p->failed;
}

/* Until the window is full; while the socket takes it, the backlog is not. */
static void fill_window(struct load *load, struct peer *p)
{
    uint64_t now = now_ns();

    while (may_send(load, p)) {
        send_one(load, p, now);
        if (bytes_len(&p->out) >= PEER_FLUSH_LEN) {
            peer_flush(p);
        }
    }
}

/* Send, sleep until something comes or until `until_ns`, and take it. The
 * number of events; -1: one of them failed. */
static int turn(struct load *load, uint64_t until_ns)
{
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait;
    uint64_t now;
    int count;

    for (size_t i = 0; i < load->peer_count; i++) {
        struct peer *p = load->peers[i];

        peer_flush(p);
        want(load, p);
        if (take_failure(load, p)) {
            return -1;
        }
    }
    now = now_ns();
    now = until_ns > now ? until_ns - now : 0;
    wait = (struct timespec) { .tv_sec = (time_t)(now / 1000000000),
                               .tv_nsec = (long)(now % 1000000000) };
    count = epoll_pwait2(load->epoll, events, EVENTS_MAX, &wait, NULL);
    for (int i = 0; i < count; i++) {
        if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0) {
            peer_receive(events[i].data.ptr);
        }
    }
    return count < 0 && errno == EINTR ? 0 : count;
}

static uint64_t progress(const struct load *load)
{
    return load->confirmed + load->delivered + load->acked;
}

struct stall {
    uint64_t seen;
    uint64_t since_ns;
};

static bool has_stalled(struct load *load, struct stall *stall)
{
    uint64_t now = now_ns();

    if (progress(load) != stall->seen || stall->since_ns == 0) {
        stall->seen = progress(load);
        stall->since_ns = now;
    }
    if (now - stall->since_ns < load->o.stall_ms * 1000000) {
        return false;
    }
    (void)snprintf(load->text, sizeof load->text,
                   "nothing came for %" PRIu64 " ms: %" PRIu64 " sent, %" PRIu64
                   " confirmed, %" PRIu64 " delivered",
                   load->o.stall_ms, load->sent, load->confirmed,
                   load->delivered);
    return true;
}

static bool is_done(const struct load *load)
{
    uint64_t deliveries = load->o.count * load->place.group_count;

    if (load->peer_count == load->producer_count) {
        return load->confirmed == load->o.count;
    }
    return load->confirmed == load->o.count && load->delivered == deliveries
           && (!load->o.driver->acks_are_answered || load->acked == deliveries);
}

/* As fast as it confirms. */
static bool flow(struct load *load, double *seconds)
{
    struct stall stall = { 0 };
    uint64_t begin = now_ns();

    while (!is_done(load)) {
        for (size_t i = 0; i < load->producer_count; i++) {
            fill_window(load, load->peers[i]);
        }
        if (has_stalled(load, &stall)
            || turn(load, now_ns() + load->o.stall_ms * 1000000) < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < load->peer_count; i++) {
        peer_flush(load->peers[i]); /* the last acks */
    }
    *seconds = (double)(now_ns() - begin) / 1e9;
    return true;
}

/* ---- the measurements ---- */

static void print_rates(const struct load *load, double seconds)
{
    printf("{\"confirmed\":%" PRIu64 ",\"delivered\":%" PRIu64
           ",\"seconds\":%.6f,\"messages_per_second\":%.1f,"
           "\"deliveries_per_second\":%.1f}\n",
           load->confirmed, load->delivered, seconds,
           (double)load->confirmed / seconds,
           (double)load->delivered / seconds);
}

bool load_publish(struct load *load)
{
    size_t producers = load->o.connections;
    double seconds = 0;

    if (!open_peers(load, producers, producers) || !make_place(load, 0, false)
        || !flow(load, &seconds)) {
        return false;
    }
    print_rates(load, seconds);
    return unmake_place(load);
}

bool load_fill(struct load *load)
{
    double seconds = 0;

    if (!open_peers(load, 1, 1) || !make_place(load, 1, true)
        || !flow(load, &seconds)) {
        return false;
    }
    print_rates(load, seconds);
    return true;
}

static bool subscribe_all(struct load *load)
{
    for (size_t i = load->producer_count; i < load->peer_count; i++) {
        load->o.driver->subscribe(load->peers[i], &load->place,
                                  i - load->producer_count);
        if (take_failure(load, load->peers[i])) {
            return false;
        }
    }
    return true;
}

bool load_fanout(struct load *load)
{
    size_t groups = load->o.connections;
    double seconds = 0;

    if (!open_peers(load, 1, 1 + groups) || !make_place(load, groups, false)
        || !subscribe_all(load) || !flow(load, &seconds)) {
        return false;
    }
    print_rates(load, seconds);
    return unmake_place(load);
}

/* Send what is due; when the next is due. */
static uint64_t send_due(struct load *load, uint64_t begin_ns)
{
    struct peer *p = load->peers[0];

    while (may_send(load, p)) {
        uint64_t due = begin_ns + load->sent * 1000000000 / load->o.rate;
        uint64_t now = now_ns();

        if (due > now) {
            return due;
        }
        send_one(load, p, due);
        if (due >= load->counted_from_ns) {
            histogram_add(&load->late_ns, now - due);
        }
    }
    return now_ns() + 1000000; /* all sent, or it is far behind */
}

static bool flow_at_rate(struct load *load)
{
    struct stall stall = { 0 };
    uint64_t begin_ns = now_ns() + 1000000;

    load->counted_from_ns = begin_ns + LATENCY_WARM_UP_S * 1000000000U;
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    while (!is_done(load)) {
        if (has_stalled(load, &stall)
            || turn(load, send_due(load, begin_ns)) < 0) {
            return false;
        }
    }
    return true;
}

static void print_histogram(const char *name, const struct histogram *h)
{
    printf("\"%s\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p99_9\":%.1f,"
           "\"max\":%.1f}",
           name, (double)histogram_percentile(h, 50) / 1e3,
           (double)histogram_percentile(h, 90) / 1e3,
           (double)histogram_percentile(h, 99) / 1e3,
           (double)histogram_percentile(h, 99.9) / 1e3, (double)h->max / 1e3);
}

bool load_latency(struct load *load)
{
    load->o.count += load->o.rate * LATENCY_WARM_UP_S;
    load->o.window = load->o.driver->window_max;
    if (!open_peers(load, 1, 2) || !make_place(load, 1, false)
        || !subscribe_all(load) || !flow_at_rate(load)) {
        return false;
    }
    printf("{\"measured\":%" PRIu64 ",", load->delivery_ns.count);
    print_histogram("delivery_us", &load->delivery_ns);
    printf(",");
    print_histogram("late_us", &load->late_ns);
    printf("}\n");
    return unmake_place(load);
}

/* Says when all are there, and holds them until its input ends. */
bool load_idle(struct load *load)
{
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };

    if (!open_peers(load, 0, load->o.connections)) {
        return false;
    }
    printf("{\"connections\":%zu}\n", load->opened);
    (void)fflush(stdout);
    (void)poll(&input, 1, -1);
    return true;
}

/* A broker that is being started: refusals are no failure until it is late. */
static bool try_again(struct load *load, uint64_t begin_ns)
{
    if (now_ns() - begin_ns > READY_MS_MAX * 1000000ULL) {
        return false;
    }
    load_fini(load);
    load->peers = NULL;
    load->body = NULL;
    load->epoll = -1;
    load->opened = 0;
    (void)poll(NULL, 0, RETRY_MS);
    return true;
}

bool load_ping(struct load *load)
{
    uint64_t begin_ns = now_ns();

    while (!open_peers(load, 0, 1)) {
        if (!try_again(load, begin_ns)) {
            return false;
        }
    }
    printf("{\"ready_ns\":%" PRIu64 "}\n", now_ns());
    return true;
}

static bool subscribe_once(struct load *load)
{
    return open_peers(load, 0, 1) && subscribe_all(load);
}

static bool first_came(struct load *load)
{
    struct stall stall = { 0 };

    if (!subscribe_once(load)) {
        return false;
    }
    while (load->first_ns == 0) {
        if (turn(load, now_ns() + 1000000000) < 0
            || has_stalled(load, &stall)) {
            return false;
        }
    }
    return true;
}

/* The first delivery of what load_fill() has left, from a broker that may still
 * be starting. */
bool load_first(struct load *load)
{
    uint64_t begin_ns = now_ns();

    load->place = (struct place) { load->o.name, 1, true };
    while (!first_came(load)) {
        if (!try_again(load, begin_ns)) {
            return false;
        }
    }
    printf("{\"first_ns\":%" PRIu64 "}\n", load->first_ns);
    return true;
}
