/* history-client publish|push|pull NAME LEDGER TOPIC|GROUP [RATE [BODY-MAX
 * [MISCHIEF [REJECTS]]]]
 *
 * A client of the kill loop that writes down what it does and sees: each line
 * goes to the file before its act goes to the network. SIGTERM: finish and end.
 * SIGUSR1: no more mischief (nacks, releases, held messages, and with
 * REJECTS rejections). The broker is
 * GODWIT_URL, GODWIT_APP, GODWIT_SECRET. One thread; every wait is a poll().
 *
 * A body is "NAME COUNTER " and filler made from both, so that a delivery names
 * its publish, and a body that changed names another one or has another hash. */
#include "client/godwit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_LEN_MAX = 1024,
    BODY_LEN_MAX = 64 * 1024,
    KEY_COUNT = 24,
    WINDOW = 400,
    CREDIT = 200,
    PULL_MAX = 100,
    LEASE_US = 1000000,
    DELAY_MS_MIN = 500,
    DELAY_MS_SPAN = 2000,
    CLOCK_SLACK_MS =
        300,       /* of the time that the broker stamps a message with */
    END_MS = 20000 /* to be answered at the end */
};

static volatile sig_atomic_t stopping;
static volatile sig_atomic_t draining;

static void on_signal(int number)
{
    if (number == SIGTERM) {
        stopping = 1;
    } else {
        draining = 1;
    }
}

struct writer {
    struct godwit *client;
    const char *name, *object; /* topics "a,b", or a group */
    int fd;
    unsigned rate, body_max, mischief; /* mischief: percent of deliveries */
    bool rejects;
    uint64_t session;
    bool attached, ended;
    uint64_t counter; /* of publishes */
    uint64_t pending; /* publishes or settlements without an answer */
};

/* ---- the ledger ---- */

static uint64_t now_us(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "history-client: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* One write() a line: what is written outlives this process. */
__attribute__((format(printf, 2, 3))) static void note(const struct writer *w,
                                                       const char *format, ...)
{
    char line[LINE_LEN_MAX];
    va_list args;
    int begin =
        snprintf(line, sizeof line, "%llu ", (unsigned long long)now_us());
    int len;

    va_start(args, format);
    len = vsnprintf(line + begin, sizeof line - (size_t)begin, format, args);
    va_end(args);
    if (len < 0 || (size_t)(begin + len) + 1 >= sizeof line) {
        die("a line is too long");
    }
    line[begin + len] = '\n';
    if (write(w->fd, line, (size_t)(begin + len) + 1) != begin + len + 1) {
        die("the ledger");
    }
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t hash_more(uint64_t hash, const void *at, size_t len)
{
    const uint8_t *bytes = at;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    }
    return mix(hash ^ len);
}

#define HASH_BEGIN UINT64_C(0xcbf29ce484222325)

/* ---- connections ---- */

static void on_state(void *arg, enum godwit_state state, enum godwit_status why,
                     const char *text)
{
    struct writer *w = arg;

    if (state == GODWIT_CONNECTED && w->session > 0) {
        note(w, "attach %llu %s - push", (unsigned long long)w->session,
             w->object);
        w->attached = true;
    } else if (w->attached) {
        note(w, "lost %llu", (unsigned long long)w->session++);
        w->attached = false;
    }
    if (state == GODWIT_ENDED && !stopping) {
        (void)fprintf(stderr, "history-client: %s: %s: %s\n", w->name,
                      godwit_status_text(why), text);
        w->ended = true;
    }
}

static void connect_to_broker(struct writer *w)
{
    struct godwit_options options;
    const char *why = "";

    godwit_options_init(&options);
    options.url = getenv("GODWIT_URL");
    options.app = getenv("GODWIT_APP");
    options.secret = getenv("GODWIT_SECRET");
    options.own_thread = false;
    options.window = WINDOW;
    options.retry_min_ms = 10;
    options.retry_max_ms = 100;
    options.on_state = on_state;
    options.state_arg = w;
    if (godwit_open(&w->client, &options, &why) != GODWIT_OK) {
        (void)fprintf(stderr, "history-client: %s\n", why);
        exit(2);
    }
}

/* Wait for the client's sockets and timers, at most `most_ms`, and serve them. */
static void step(struct writer *w, int most_ms)
{
    struct godwit_interest interest;
    struct pollfd fd;

    godwit_interest(w->client, &interest);
    fd.fd = interest.fd;
    fd.events =
        (short)((interest.read ? POLLIN : 0) | (interest.write ? POLLOUT : 0));
    if (interest.timeout_ms >= 0 && interest.timeout_ms < most_ms) {
        most_ms = interest.timeout_ms;
    }
    (void)poll(&fd, 1, most_ms);
    (void)godwit_step(w->client);
}

static void step_until_answered(struct writer *w)
{
    uint64_t deadline = now_us() + (uint64_t)END_MS * 1000;

    while (w->pending > 0 && now_us() < deadline && !w->ended) {
        step(w, 20);
    }
}

/* ---- publish ---- */

static const char *status_kind(enum godwit_status status)
{
    return status == GODWIT_CLOSED || status == GODWIT_TIMEOUT
                   || status == GODWIT_IO
               ? "unknown"
               : "no";
}

struct sent {
    struct writer *writer;
    uint64_t counter;
};

static void on_confirm(void *arg, const struct godwit_confirm *c)
{
    struct sent *sent = arg;
    struct writer *w = sent->writer;

    w->pending--;
    if (c->status == GODWIT_OK) {
        note(w, "ok %s %llu %llu %d", w->name,
             (unsigned long long)sent->counter, (unsigned long long)c->seq,
             c->duplicate);
    } else if (strcmp(status_kind(c->status), "no") == 0) {
        note(w, "no %s %llu %d", w->name, (unsigned long long)sent->counter,
             (int)c->status);
    } else {
        note(w, "unknown %s %llu", w->name, (unsigned long long)sent->counter);
    }
    free(sent);
}

static size_t fill_body(const struct writer *w, uint64_t counter, char *body)
{
    uint64_t dice = mix(hash_more(counter, w->name, strlen(w->name)));
    size_t len = (size_t)snprintf(body, BODY_LEN_MAX, "%s %llu ", w->name,
                                  (unsigned long long)counter);
    size_t more = w->body_max == 0 ? 0 : dice % w->body_max;

    for (size_t i = 0; i < more; i++) {
        if (i % 8 == 0) {
            dice = mix(dice + i);
        }
        body[len + i] = (char)(dice >> i % 8 * 8);
    }
    return len + more;
}

/* The n-th of "a,b,c" in turns. */
static void pick_topic(const struct writer *w, uint64_t counter, char *topic)
{
    const char *at = w->object;
    size_t count = 1;
    size_t len;

    for (const char *c = at; *c != '\0'; c++) {
        count += *c == ',';
    }
    for (size_t skip = mix(counter) % count; skip > 0; skip--) {
        at = strchr(at, ',') + 1;
    }
    len = strcspn(at, ",");
    (void)snprintf(topic, 200, "%.*s", (int)(len < 199 ? len : 199), at);
}

/* False: the window is full. */
static bool publish_one(struct writer *w)
{
    static char body[BODY_LEN_MAX];
    char topic[200];
    char key[16];
    char number[24];
    char due[32] = "";
    uint64_t counter = w->counter + 1;
    struct sent *sent = malloc(sizeof *sent);
    struct godwit_header header = { .name = "counter", .value = number };
    struct godwit_message message = { .body = body };
    uint64_t hash;

    if (sent == NULL) {
        die("memory");
    }
    *sent = (struct sent) { w, counter };
    pick_topic(w, counter, topic);
    (void)snprintf(key, sizeof key, "k%u",
                   (unsigned)(mix(counter) >> 32) % KEY_COUNT);
    (void)snprintf(number, sizeof number, "%llu", (unsigned long long)counter);
    message.body_len = fill_body(w, counter, body);
    message.key = counter % 16 == 0 ? NULL : key;
    message.headers = &header;
    message.header_count = counter % 4 == 0 ? 1 : 0;
    if (counter % 32 == 7) {
        message.delay_ms = DELAY_MS_MIN + mix(counter) % DELAY_MS_SPAN;
        (void)snprintf(
            due, sizeof due, " %llu",
            (unsigned long long)(now_us()
                                 + (message.delay_ms - CLOCK_SLACK_MS) * 1000));
    }
    if (godwit_publish(w->client, topic, &message, on_confirm, sent)
        != GODWIT_OK) {
        free(sent);
        return false;
    }
    hash = hash_more(HASH_BEGIN, body, message.body_len);
    if (message.header_count > 0) {
        hash = hash_more(hash, number, strlen(number));
    }
    /* Taken, and not yet sent: that is for the next step. */
    note(w, "send %s %llu %s %s %llu%s", w->name, (unsigned long long)counter,
         topic, message.key == NULL ? "-" : key, (unsigned long long)hash, due);
    w->counter = counter;
    w->pending++;
    return true;
}

static void publish(struct writer *w)
{
    uint64_t began = now_us();

    while (!stopping && !w->ended) {
        uint64_t due = (now_us() - began) * w->rate / 1000000;
        for (int i = 0; i < 200 && w->counter < due && publish_one(w); i++) {
        }
        step(w, 5);
    }
    step_until_answered(w);
    godwit_close(w->client);
    if (!w->ended) {
        note(w, "end");
    }
}

/* ---- push ---- */

static void note_got(const struct writer *w, const struct godwit_delivery *d)
{
    uint64_t hash = hash_more(HASH_BEGIN, d->body, d->body_len);
    char head[256];
    char name[128] = "?";
    unsigned long long counter = 0;

    (void)snprintf(head, sizeof head, "%.*s",
                   (int)(d->body_len < 200 ? d->body_len : 200),
                   (const char *)d->body);
    if (sscanf(head, "%100s %20llu ", name, &counter) != 2) {
        counter = 0;
    }
    for (size_t i = 0; i < d->header_count; i++) {
        hash = hash_more(hash, d->headers[i].value, d->headers[i].value_len);
    }
    note(w, "got %llu %s %llu %u %s %llu %.*s %llu",
         (unsigned long long)w->session, d->topic, (unsigned long long)d->seq,
         (unsigned)d->attempt, name, counter,
         d->key_len == 0 ? 1 : (int)d->key_len, d->key_len == 0 ? "-" : d->key,
         (unsigned long long)hash);
}

static void note_settle(struct writer *w, const char *action, const char *topic,
                        uint64_t first, uint64_t last)
{
    note(w, "settle %llu %s %s %llu %llu", (unsigned long long)w->session,
         action, topic, (unsigned long long)first, (unsigned long long)last);
    w->pending += last - first + 1;
}

static unsigned dice_of(const struct writer *w, const struct godwit_delivery *d)
{
    return (unsigned)(mix(d->seq * 31 + d->attempt + now_us()) % 100)
           + (draining || w->mischief == 0 ? 100 : 0);
}

static enum godwit_verdict nack(struct writer *w,
                                const struct godwit_delivery *d)
{
    note_settle(w, "nack", d->topic, d->seq, d->seq);
    if (d->seq % 2 == 0) {
        return GODWIT_NACK;
    }
    if (godwit_settle(w->client, GODWIT_DO_NACK, d->topic, d->seq, d->seq,
                      d->seq % 500, "does not like odd numbers")
        != GODWIT_OK) {
        die("nack");
    }
    return GODWIT_LATER;
}

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *d)
{
    struct writer *w = arg;
    unsigned dice = dice_of(w, d);

    note_got(w, d);
    if (dice >= w->mischief) {
        note_settle(w, "ack", d->topic, d->seq, d->seq);
        return GODWIT_ACK;
    }
    if (w->rejects && dice % 3 == 0) {
        note_settle(w, "reject", d->topic, d->seq, d->seq);
        return GODWIT_REJECT;
    }
    switch (dice % 4) {
    case 0:
        return GODWIT_LATER; /* and never: its lease will run out */
    case 1:
        note_settle(w, "release", d->topic, d->seq, d->seq);
        return GODWIT_RELEASE;
    case 2:
        note(w, "settle %llu extend %s %llu %llu %u",
             (unsigned long long)w->session, d->topic,
             (unsigned long long)d->seq, (unsigned long long)d->seq,
             (unsigned)LEASE_US);
        w->pending++;
        if (godwit_settle(w->client, GODWIT_DO_EXTEND, d->topic, d->seq, d->seq,
                          LEASE_US / 1000, NULL)
            != GODWIT_OK) {
            die("extend");
        }
        return GODWIT_LATER;
    default:
        return nack(w, d);
    }
}

static void on_gap(void *arg, const char *topic, uint64_t first, uint64_t last)
{
    const struct writer *w = arg;

    note(w, "gap %llu %s %llu %llu", (unsigned long long)w->session, topic,
         (unsigned long long)first, (unsigned long long)last);
}

static void on_settled(void *arg, const char *topic, uint64_t first,
                       uint64_t last, const char *outcome,
                       enum godwit_status status)
{
    struct writer *w = arg;

    (void)status;
    if (strcmp(outcome, "refused") == 0) {
        outcome = "unsure"; /* the broker may have had it before we knew */
    }
    note(w, "outcome %llu %s %llu %llu %s", (unsigned long long)w->session,
         topic, (unsigned long long)first, (unsigned long long)last, outcome);
    w->pending -= last - first + 1;
}

static void push(struct writer *w)
{
    struct godwit_subscription subscription = { .group = w->object,
                                                .credit_messages = CREDIT,
                                                .handler = on_delivery,
                                                .on_gap = on_gap,
                                                .on_settled = on_settled,
                                                .arg = w };

    w->session = 1;
    if (godwit_subscribe(w->client, &subscription) != GODWIT_OK) {
        die("subscribe");
    }
    while (!stopping && !w->ended) {
        step(w, 100);
    }
    if (w->attached) {
        note(w, "leave %llu", (unsigned long long)w->session);
        w->attached = false;
    }
    (void)godwit_unsubscribe(w->client);
    step_until_answered(w);
    godwit_close(w->client);
    if (!w->ended) {
        note(w, "end");
    }
}

/* ---- pull ---- */

static void settle_pulled(struct writer *w, struct godwit_batch *batch,
                          const struct godwit_delivery *d, uint64_t last,
                          bool ack)
{
    const char *outcome = "unsure";
    uint64_t accepted = 0;
    enum godwit_status status;

    note_settle(w, ack ? "ack" : "nack", d->topic, d->seq, last);
    status = godwit_batch_settle(w->client, batch,
                                 ack ? GODWIT_DO_ACK : GODWIT_DO_NACK, d->topic,
                                 d->seq, last, 0, NULL, &accepted);
    if (status == GODWIT_OK && accepted == last - d->seq + 1) {
        outcome = "accepted";
    }
    on_settled(w, d->topic, d->seq, last, outcome, status);
}

/* Runs of what is to be acked, one request a run; some are nacked or held. */
static void settle_batch(struct writer *w, struct godwit_batch *batch)
{
    size_t count = godwit_batch_count(batch);

    for (size_t i = 0; i < count; i++) {
        const struct godwit_delivery *d = godwit_batch_at(batch, i);
        unsigned dice = dice_of(w, d);
        uint64_t last = d->seq;
        if (dice < w->mischief && dice % 2 == 0) {
            continue;
        }
        while (dice >= w->mischief && i + 1 < count) {
            const struct godwit_delivery *next = godwit_batch_at(batch, i + 1);
            if (next->seq != last + 1 || strcmp(next->topic, d->topic) != 0
                || dice_of(w, next) < w->mischief) {
                break;
            }
            last++;
            i++;
        }
        settle_pulled(w, batch, d, last, dice >= w->mischief);
    }
}

static void pull_once(struct writer *w)
{
    struct godwit_batch *batch = NULL;
    enum godwit_status status;
    size_t count = 0;

    note(w, "pull %llu", (unsigned long long)w->session);
    status = godwit_pull(w->client, w->object, PULL_MAX, 1000, &batch);
    if (status == GODWIT_OK) {
        count = godwit_batch_count(batch);
    }
    for (size_t i = 0; i < count; i++) {
        note_got(w, godwit_batch_at(batch, i));
    }
    note(w, "pulled %llu %zu", (unsigned long long)w->session, count);
    if (status == GODWIT_OK) {
        settle_batch(w, batch);
    } else {
        (void)poll(NULL, 0, 20); /* until the broker is there again */
    }
    godwit_batch_free(batch);
}

static void pull(struct writer *w)
{
    w->session = 1;
    note(w, "attach 1 %s - pull", w->object);
    while (!stopping) {
        pull_once(w);
    }
    note(w, "leave 1");
    note(w, "end");
    godwit_close(w->client);
}

/* ---- main ---- */

static unsigned number(int argc, char **argv, int index, unsigned otherwise)
{
    return argc > index ? (unsigned)strtoul(argv[index], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    struct writer w = { .fd = -1 };

    if (argc < 5) {
        (void)fprintf(stderr, "usage: history-client publish|push|pull NAME "
                              "LEDGER TOPICS|GROUP [RATE [BODY-MAX "
                              "[MISCHIEF [REJECTS]]]]\n");
        return 2;
    }
    w.name = argv[2];
    w.object = argv[4];
    w.rate = number(argc, argv, 5, 1000);
    w.body_max = number(argc, argv, 6, 1000);
    w.mischief = number(argc, argv, 7, 4);
    w.rejects = number(argc, argv, 8, 0) != 0;
    if (w.body_max > BODY_LEN_MAX / 2) {
        w.body_max = BODY_LEN_MAX / 2;
    }
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGUSR1, &action, NULL);
    w.fd =
        open(argv[3], O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (w.fd < 0) {
        die(argv[3]);
    }
    note(&w, "client %s", w.name);
    connect_to_broker(&w);
    if (strcmp(argv[1], "publish") == 0) {
        publish(&w);
    } else if (strcmp(argv[1], "push") == 0) {
        push(&w);
    } else {
        pull(&w);
    }
    (void)close(w.fd);
    return w.ended ? 1 : 0;
}
