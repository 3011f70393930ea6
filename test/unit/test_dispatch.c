/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "broker/dispatch.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* The dispatch over a real store: what it does about trims, and about what the
 * store does not have. */

enum { TOPIC = 1, GROUP = 1, OUT_LEN = 4096 };

static struct harness h;
static struct ring *ring;
static struct dispatch *d;
static struct catalog *writer;
static struct worker_metrics metrics;
static struct submission *submission;
static struct member *member;
static char out[OUT_LEN]; /* what the member was given */
static uint64_t now_us = 1000000;

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
    (void)who;
    (void)topic;
    for (size_t i = 0; i < count; i++) {
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

static uint64_t no_seq(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return 0;
}

static void open_dispatch(void)
{
    const struct dispatch_config config = {
        .store = h.store,
        .commits = ring,
        .worker_count = 1,
        .in_flight_bytes = 1 << 20,
        .now_us = now_us,
        .out = { on_deliver, on_gap, on_congested, on_evicted, is_of_app },
        .metrics = &metrics,
    };
    struct error err;

    cr_assert_eq(dispatch_new(&d, &config, &err), STATUS_OK, "%s", err.text);
}

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 1 << 20;
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

static void tear_down(void)
{
    close_dispatch();
    submission_free(submission);
    catalog_free(writer);
    harness_fini(&h);
}

TestSuite(dispatch, .init = set_up, .fini = tear_down, .timeout = 60);

/* Durable and on the ring; the dispatch has not read it yet. */
static void put_on_ring(bool merge)
{
    struct store_span span = { .at = h.buffer, .len = h.len };
    struct store_commit *slot = ring_claim(ring);

    cr_assert_eq(merge ? store_append_merge(h.store, &span, 5, slot, &h.err)
                       : store_append(h.store, &span, 1, 5, slot, &h.err),
                 STATUS_OK, "%s", h.err.text);
    cr_assert_eq(span.taken, h.len);
    cr_assert_eq(store_sync(h.store, &h.err), STATUS_OK);
    cr_assert_eq(store_apply(h.store, slot), STATUS_OK);
    h.len = 0;
    ring_publish(ring);
}

static void read_ring(void)
{
    while (ring_available(ring, 0) > 0) {
        dispatch_commit(d, ring_entry(ring, 0, 0));
        ring_consumed(ring, 0, 1);
    }
}

static void put_record(enum record_kind kind, struct bytes *body)
{
    const struct record record = {
        .kind = kind, .body = slice_of(bytes_begin(body), bytes_len(body))
    };
    uint8_t *at = h.buffer + h.len;

    memcpy(at + RECORD_HEADER_LEN, record.body.at, record.body.len);
    record_finish(at, &record);
    h.len += record_size(record.body.len);
    bytes_fini(body);
}

static void trim(uint64_t first_seq, uint64_t floor_seq)
{
    const struct record_trim t = { TOPIC, first_seq, floor_seq };
    struct bytes body = { 0 };

    cr_assert_eq(record_trim_write(&body, &t), STATUS_OK);
    put_record(RECORD_TRIM, &body);
    put_on_ring(true);
}

static void change(struct catalog_request *request)
{
    const struct catalog_context context = { .random =
                                                 (const uint8_t[64]) { 0 },
                                             .last_seq = no_seq,
                                             .floor_seq = no_seq };
    struct bytes body = { 0 };
    struct record_fact fact;
    char secret[SECRET_LEN_MAX + 1];
    struct refusal refusal;

    cr_assert_eq(
        catalog_decide(writer, request, &context, &body, secret, &refusal),
        STATUS_OK, "%s", refusal.text);
    cr_assert_eq(
        fact_read(slice_of(bytes_begin(&body), bytes_len(&body)), &fact),
        STATUS_OK);
    cr_assert_eq(catalog_apply(writer, &fact), STATUS_OK);
    put_record(RECORD_CATALOG, &body);
    put_on_ring(false);
    catalog_request_fini(request);
}

static void make_topic(void)
{
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_TOPIC,
                                       .name = "t" };

    change(&request);
}

static void make_group(void)
{
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_GROUP,
                                       .name = "g",
                                       .from = FROM_EARLIEST };
    struct refusal refusal;

    cr_assert_eq(patterns_add(&request.topics, slice_text("t"), &refusal),
                 STATUS_OK);
    change(&request);
}

static void publish(unsigned count)
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
static void join(void)
{
    read_ring();
    cr_assert_eq(dispatch_join(d, group(), 7, 1000, 1 << 20, &h, &member),
                 STATUS_OK);
}

/* What it is given in a turn. */
static const char *pump(void)
{
    out[0] = '\0';
    dispatch_pump(d, now_us);
    return out;
}

static struct lane_books books(void)
{
    struct lane_books b = { 0 };

    cr_assert(dispatch_books(
        group(), catalog_topic_by_id(dispatch_catalog(d), TOPIC), &b));
    cr_assert_eq(b.published, b.acked + b.gap + b.deleted + b.ready + b.delayed
                                  + b.in_flight);
    return b;
}

/* ---- trims ---- */

Test(dispatch, deleted_messages_are_not_delivered)
{
    make_topic();
    make_group();
    publish(6);
    trim(4, 4);
    join();
    cr_assert_str_eq(pump(), "4 5 6 ");
    cr_assert_eq(books().deleted, 3);
    cr_assert_eq(
        dispatch_first_seq(catalog_topic_by_id(dispatch_catalog(d), TOPIC)), 4);
}

Test(dispatch, a_trim_while_they_wait)
{
    make_topic();
    make_group();
    publish(3);
    join();
    cr_assert_str_eq(pump(), "1 2 3 ");
    publish(3);
    trim(6, 6);
    read_ring();
    cr_assert_str_eq(pump(), "6 ");
    cr_assert_eq(metrics.deleted_messages, 2);
    cr_assert_eq(books().deleted, 2);
    cr_assert_eq(books().in_flight, 4);
}

Test(dispatch, a_trim_never_goes_back)
{
    make_topic();
    make_group();
    publish(6);
    trim(5, 6);
    trim(2, 3);
    join();
    cr_assert_str_eq(pump(), "5 6 ");
    cr_assert_eq(
        dispatch_floor_seq(catalog_topic_by_id(dispatch_catalog(d), TOPIC)), 6);
}

Test(dispatch, a_start_knows_what_was_deleted)
{
    make_topic();
    make_group();
    publish(6);
    trim(4, 5);
    cr_assert_eq(store_checkpoint(h.store, &h.err), STATUS_OK);
    close_dispatch();
    ring = ring_new(sizeof(struct store_commit), 64, 1);
    open_dispatch();
    join();
    cr_assert_eq(books().deleted, 3);
    cr_assert_str_eq(pump(), "4 5 6 ");
}

/* ---- where a group begins ---- */

static uint64_t acked_in_log(void)
{
    uint8_t *at;
    size_t len;
    uint64_t count = 0;

    (void)submission_publish(submission);
    len = submission_peek(submission, &at);
    for (size_t done = 0; done < len; done += record_size_at(at + done)) {
        struct record record;
        struct ranges_reader r;

        record_fields_at(at + done, &record);
        cr_assert_eq(record.kind, RECORD_ACK);
        cr_assert_eq(ranges_read(record.body, &r), STATUS_OK);
        for (size_t i = 0; i < r.count; i++) {
            struct seq_range range = ranges_next(&r);
            count += range.last - range.first + 1;
        }
    }
    return count;
}

/* Its fact was decided when the floor was lower, and stands behind the trim. */
Test(dispatch, a_group_begins_at_the_floor_and_the_log_is_told)
{
    make_topic();
    publish(6);
    trim(2, 5);
    make_group();
    join();
    cr_assert_str_eq(pump(), "5 6 ");
    cr_assert(dispatch_log(d, submission, now_us, now_us));
    cr_assert_eq(acked_in_log(), 3); /* 2..4; 1 is deleted for everybody */
}

static void open_again(void)
{
    close_dispatch();
    harness_reopen(&h);
    ring = ring_new(sizeof(struct store_commit), 64, 1);
    open_dispatch();
}

/* Messages 1 to 4 of 6 are gone: another group has settled them. */
static void lose_four(void)
{
    make_topic();
    add_ack(&h, GROUP + 7, TOPIC, 1, 4);
    put_on_ring(false);
    open_again();
    publish(2);
}

/* ... and the broker died before the log was told. */
Test(dispatch, a_group_begins_at_the_floor_although_the_log_was_not_told)
{
    lose_four();
    trim(2, 5);
    make_group();
    open_again();
    join();
    cr_assert_str_eq(pump(), "5 6 ");
    cr_assert_eq(books().gap, 0);
    cr_assert(dispatch_log(d, submission, now_us, now_us));
    cr_assert_eq(acked_in_log(), 3);
}

/* A group that has settled something began before: what it misses is lost. */
Test(dispatch, what_is_missing_below_the_floor_is_lost_to_who_was_there)
{
    lose_four();
    make_group();
    add_ack(&h, GROUP, TOPIC, 5, 5);
    put_on_ring(false);
    trim(2, 5);
    open_again();
    join();
    cr_assert_str_eq(pump(), "gap2-4 6 ");
    cr_assert_eq(books().gap, 3);
}

/* At the floor and above it is lost in any case. */
Test(dispatch, what_is_missing_at_the_floor_is_lost)
{
    lose_four();
    trim(2, 4);
    make_group();
    open_again();
    join();
    cr_assert_str_eq(pump(), "gap4-4 5 6 ");
    cr_assert_eq(books().gap, 1);
}

Test(dispatch, a_group_that_was_there_before_is_owed_what_is_below_the_floor)
{
    make_topic();
    make_group();
    publish(6);
    trim(2, 5);
    join();
    cr_assert_str_eq(pump(), "2 3 4 5 6 ");
    cr_assert(dispatch_log(d, submission, now_us, now_us));
    cr_assert_eq(acked_in_log(), 0);
}

/* ---- what the store does not have ---- */

static void damage_message(const char *text)
{
    char path[600];

    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, find_in_file(path, text), 3);
}

Test(dispatch, what_is_lost_is_a_gap)
{
    make_topic();
    make_group();
    publish(3);
    damage_message("message number 2");
    join();
    cr_assert_str_eq(pump(), "1 gap2-2 3 ");
    cr_assert_eq(books().gap, 1);
}

/* The keeper is ahead: what it deleted is gone before we hear of it. */
Test(dispatch, what_may_have_been_deleted_waits_for_the_ring)
{
    make_topic();
    make_group();
    publish(4);
    damage_message("message number 2");
    join();
    trim(4, 4); /* on the ring, not read */
    cr_assert_str_eq(pump(), "1 ");
    cr_assert(dispatch_has_more(d));
    cr_assert_eq(books().gap, 0);
    read_ring();
    cr_assert_str_eq(pump(), "4 ");
    cr_assert_eq(books().gap, 0);
    cr_assert_eq(books().deleted, 2);
}

Test(dispatch, what_was_not_deleted_after_all_is_a_gap)
{
    make_topic();
    make_group();
    publish(4);
    damage_message("message number 2");
    join();
    trim(2, 2);
    cr_assert_str_eq(pump(), "1 ");
    cr_assert_str_eq(pump(), ""); /* as long as the ring is not read */
    read_ring();
    publish(1); /* more on the ring, but what was there then is read */
    cr_assert_str_eq(pump(), "gap2-2 3 4 ");
}
