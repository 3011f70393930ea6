/* A dispatch over a real store, with one member of paper, for its tests. What
 * the dispatch writes goes into the store when log_all() is called, as the
 * journal would do it. */
#ifndef GODWIT_TEST_LIB_DISPATCH_BED_H
#define GODWIT_TEST_LIB_DISPATCH_BED_H

#include "broker/router/filter.h"
#include "proto/codec.h"
#include "test/lib/store_bed.h"

#include <stdio.h>

enum { GROUP = 1, OUT_LEN = 1 << 20 };

static struct worker_metrics metrics;
static struct submission *submission;
static struct member *member;
static char out[OUT_LEN]; /* what the member was given */
static uint64_t now_us;
static size_t in_flight_bytes = 1 << 20;
static uint32_t segment_len = 1 << 20;

/* ---- a member of paper ---- */

static void say(const char *format, ...) PRINTF_LIKE(1, 2);
static void say(const char *format, ...)
{
    size_t len = strlen(out);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(out + len, sizeof out - len, format, args);
    va_end(args);
}

static void on_deliver(void *who, const char *topic,
                       const struct wire_delivery *deliveries, size_t count)
{
    (void)topic;
    for (size_t i = 0; i < count; i++) {
        if (who != &h) {
            say("%s:", (const char *)who); /* see join_group() */
        }
        say("%lu ", (unsigned long)deliveries[i].seq);
    }
}

static void on_gap(void *who, const char *topic, struct seq_range range)
{
    (void)who;
    (void)topic;
    say("gap%lu-%lu ", (unsigned long)range.first, (unsigned long)range.last);
}

static bool on_congested(void *who)
{
    (void)who;
    return false;
}

static void on_notice(void *who, const char *topic, struct seq_range range,
                      uint64_t ends_in_ms)
{
    (void)who;
    (void)topic;
    say("notice%lu-%lu:%lu ", (unsigned long)range.first,
        (unsigned long)range.last, (unsigned long)ends_in_ms);
}

static void on_evicted(void *who, enum status why)
{
    (void)who;
    (void)why;
    member = NULL;
}

static bool is_of_app(const void *who, uint32_t app)
{
    (void)who;
    return app == 0;
}

/* ---- the bed ---- */

static void open_dispatch(void)
{
    const struct dispatch_config config = {
        .store = h.store,
        .commits = ring,
        .worker_count = 1,
        .in_flight_bytes = { in_flight_bytes },
        .now_us = now_us,
        .wall_us = wall_us,
        .out = { on_deliver, on_gap, on_congested, on_notice, on_evicted,
                 is_of_app },
        .metrics = &metrics,
    };
    struct error err;

    cr_assert_eq(dispatch_new(&d, &config, &err), STATUS_OK, "%s", err.text);
}

MAYBE void set_up(void)
{
    now_us = 1000000;
    wall_us = UINT64_C(1700000000000000);
    harness_init(&h);
    h.config.segment_len = segment_len;
    cr_assert_eq(harness_open(&h), STATUS_OK, "%s", h.err.text);
    writer = catalog_new();
    ring = ring_new(sizeof(struct store_commit), 64, 1);
    submission = submission_new(1 << 20);
    cr_assert(writer != NULL && ring != NULL && submission != NULL);
    open_dispatch();
}

static void close_dispatch(void)
{
    dispatch_free(d);
    ring_free(ring);
    member = NULL;
}

MAYBE void tear_down(void)
{
    close_dispatch();
    submission_free(submission);
    catalog_free(writer);
    harness_fini(&h);
}

MAYBE void make_topic(void)
{
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_TOPIC,
                                       .name = "t" };

    change(&request);
}

MAYBE void make_group_named(const char *name, struct group_options options,
                            unsigned given)
{
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_GROUP,
                                       .from = FROM_EARLIEST,
                                       .options = options,
                                       .given = given };
    struct refusal refusal;

    snprintf(request.name, sizeof request.name, "%s", name);
    cr_assert_eq(patterns_add(&request.topics, slice_text("t"), &refusal),
                 STATUS_OK);
    change(&request);
}

/* With these of its options. */
MAYBE void make_group_with(struct group_options options, unsigned given)
{
    make_group_named("g", options, given);
}

MAYBE void make_group(void)
{
    make_group_with((struct group_options) { 0 }, 0);
}

MAYBE void change_group(struct group_options options, unsigned given)
{
    struct catalog_request request = { .op = CATALOG_UPDATE,
                                       .class = CATALOG_GROUP,
                                       .name = "g",
                                       .options = options,
                                       .given = given };

    change(&request);
    read_ring();
}

MAYBE void publish(unsigned count)
{
    char text[64];

    for (unsigned i = 0; i < count; i++) {
        snprintf(text, sizeof text, "message number %u", i + 1);
        add_message(&h, TOPIC, text);
    }
    put_on_ring(false);
}

static const struct group_fact *group(void)
{
    return catalog_group_by_id(dispatch_catalog(d), GROUP);
}

/* A member that takes all it can have. */
MAYBE void join(void)
{
    read_ring();
    cr_assert_eq(dispatch_join(d, group(), 7, 1000, 1 << 20, &h, &member),
                 STATUS_OK);
}

/* Another group's member; what it gets is said with the group's name. */
MAYBE struct member *join_group(const char *name, uint64_t credit)
{
    static uint64_t lease = 100;
    const struct group_fact *fact =
        catalog_group(dispatch_catalog(d), slice_text(name));
    struct member *joined;

    cr_assert(fact != NULL);
    cr_assert_eq(dispatch_join(d, fact, lease++, credit, 1 << 24,
                               (void *)(uintptr_t)name, &joined),
                 STATUS_OK);
    return joined;
}

/* What it is given in a turn. */
MAYBE const char *pump(void)
{
    out[0] = '\0';
    dispatch_pump(d, now_us);
    return out;
}

/* One message, encoded, as a publish would store it. */
MAYBE void publish_message(const struct wire_message *message)
{
    struct bytes body = { 0 };
    bool timed = message->delay_ms > 0 || message->deliver_at_ms > 0
                 || message->ttl_ms > 0;
    struct record record = { .kind = RECORD_MESSAGE,
                             .flags = timed ? RECORD_TIMED : 0,
                             .topic = TOPIC,
                             .app = 1 };

    cr_assert_eq(codec_message_write(&body, message), STATUS_OK);
    put_record(record, &body);
    put_on_ring(false);
    read_ring();
}

MAYBE struct topic *topic(void)
{
    return catalog_topic_by_id(dispatch_catalog(d), TOPIC);
}

static void add_outcome(void *arg, const struct wire_settled_range *range)
{
    (void)arg;
    say("%s%lu-%lu ", outcome_word(range->outcome), (unsigned long)range->first,
        (unsigned long)range->last);
}

/* What the member is told. */
MAYBE const char *settle(enum settle_action action, uint64_t first,
                         uint64_t last, const char *reason)
{
    const struct settlement settlement = { .lease = 7,
                                           .topic = TOPIC,
                                           .action = action,
                                           .range = { first, last },
                                           .reason = slice_text(reason) };

    out[0] = '\0';
    cr_assert_eq(dispatch_settle(d, group(), &settlement, now_us, NULL, NULL,
                                 add_outcome, NULL),
                 STATUS_OK);
    return out;
}

/* What stands in the submission ring is durable and was read. */
MAYBE void store_submitted(void)
{
    uint8_t *at;
    size_t len;

    (void)submission_publish(submission);
    len = submission_peek(submission, &at);
    if (len == 0) {
        return;
    }
    memcpy(h.buffer, at, len);
    h.len = len;
    submission_take(submission, len);
    submission_settle(submission);
    put_on_ring(false);
    read_ring();
    dispatch_durable(d, submission_durable(submission));
}

/* What the dispatch has to tell the log is durable and was read. */
MAYBE void log_all(void)
{
    cr_assert(dispatch_log(d, submission, now_us, wall_us));
    store_submitted();
    submission_release(submission, submission_durable(submission));
}

MAYBE void pass(uint64_t us)
{
    now_us += us;
    wall_us += us;
    out[0] = '\0';
    dispatch_tick(d, now_us);
}

/* A new start on the same store. */
MAYBE void open_again(void)
{
    close_dispatch();
    harness_reopen(&h);
    ring = ring_new(sizeof(struct store_commit), 64, 1);
    now_us = 500000; /* another machine's uptime */
    open_dispatch();
}

MAYBE struct lane_books books(void)
{
    struct lane_books b = { 0 };

    cr_assert(dispatch_books(
        group(), catalog_topic_by_id(dispatch_catalog(d), TOPIC), &b));
    cr_assert(lane_books_balance(&b));
    return b;
}

#endif
