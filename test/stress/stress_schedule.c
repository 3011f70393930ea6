/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
/* Many messages with a delivery time each: none comes early, none more
 * than 50 ms late, also across a restart, and what they cost is the budget of
 * the in-flight table. Time is simulated: a step is 5 ms, in which the worker
 * turns as often as it has something to do, up to TURNS times.
 *
 *   stress_schedule            the short form, and its planted fault
 *   stress_schedule 1000000    a million: a minute or two
 *   stress_schedule --plant late    one that must fail */
#include "broker/dispatch/dispatch.h"
#include "proto/codec.h"
#include "test/lib/stress.h"
#include "test/storage/harness.h"

enum {
    TOPIC = 1,
    GROUP = 1,
    COUNT = 100000,
    STEP_US = 5000,
    TURNS = 64,
    LATE_US = 50000,
    SPREAD_US = 100 * 1000000, /* the times lie in so long ... */
    AHEAD_US = 20 * 1000000,   /* ... after this */
    RESTART_US = 60 * 1000000, /* in the middle */
    HEAP = 64 << 20,
    DIRECT = 256 << 20,
    SUBMISSION = 1 << 20
};

static struct harness h;
static struct dispatch *d;
static struct submission *submission;
static struct worker_metrics metrics;
static struct member *member;
static uint64_t now_us = 1000000;
static const uint64_t wall_offset_us = UINT64_C(1700000000000000);
static uint64_t count = COUNT;
static bool plant_late;

static uint64_t delivered;
static uint64_t held[CREDIT_MESSAGES_MAX]; /* delivered and not acked */
static size_t held_count;
static uint64_t too_late; /* of what was due while a start read it again */
static uint64_t latest_us;
static uint64_t caught_up_us; /* from here on all must be in time */

static uint64_t wall_us(void)
{
    return now_us + wall_offset_us;
}

/* A time for each, spread without order. */
static uint64_t due_wall_us(uint64_t seq)
{
    uint64_t begin = 1000000 + AHEAD_US + wall_offset_us;

    return (begin + stress_mix(seq) % SPREAD_US) / 1000 * 1000;
}

/* ---- the member ---- */

static void on_deliver(void *who, const char *topic,
                       const struct wire_delivery *deliveries, size_t n)
{
    (void)who;
    (void)topic;
    for (size_t i = 0; i < n; i++) {
        uint64_t due = due_wall_us(deliveries[i].seq) - wall_offset_us;

        STRESS_CHECK(now_us >= due, "a message came early");
        held[held_count++] = deliveries[i].seq;
        if (due < caught_up_us) {
            too_late += now_us - due > LATE_US;
        } else {
            STRESS_CHECK(now_us - due <= LATE_US, "a message came late");
            if (now_us - due > latest_us) {
                latest_us = now_us - due;
            }
        }
    }
    delivered += n;
}

static void on_gap(void *who, const char *topic, struct seq_range range)
{
    (void)who;
    (void)topic;
    (void)range;
    STRESS_CHECK(false, "a gap");
}

static bool never(void *who)
{
    (void)who;
    return false;
}

static void on_notice(void *who, const char *topic, struct seq_range range,
                      uint64_t ends_in_ms)
{
    (void)who;
    (void)topic;
    (void)range;
    (void)ends_in_ms;
}

static void on_evicted(void *who, enum status why)
{
    (void)who;
    (void)why;
}

static bool is_of_app(const void *who, uint32_t app)
{
    (void)who;
    (void)app;
    return false;
}

/* ---- the bed ---- */

static void open_dispatch(void)
{
    const struct dispatch_config config = {
        .store = h.store,
        .worker_count = 1,
        .in_flight_bytes = { HEAP, DIRECT },
        .now_us = now_us,
        .wall_us = wall_us(),
        .out = { on_deliver, on_gap, never, on_notice, on_evicted, is_of_app },
        .metrics = &metrics,
    };
    struct error err;

    STRESS_CHECK(dispatch_new(&d, &config, &err) == STATUS_OK, err.text);
}

/* All that is in the buffer is durable, and the dispatch knows it. */
static void commit(void)
{
    size_t done = 0;

    while (done < h.len) {
        struct store_span span = { .at = h.buffer + done, .len = h.len - done };
        struct store_commit commit;

        STRESS_CHECK(store_prepare(h.store, &h.err) == STATUS_OK, h.err.text);
        STRESS_CHECK(store_append(h.store, &span, 1, wall_us(), &commit, &h.err)
                         == STATUS_OK,
                     h.err.text);
        STRESS_CHECK(store_sync(h.store, &h.err) == STATUS_OK, h.err.text);
        if (store_apply(h.store, &commit) == STATUS_AGAIN) {
            STRESS_CHECK(store_checkpoint(h.store, &h.err) == STATUS_OK
                             && store_apply(h.store, &commit) == STATUS_OK,
                         h.err.text);
        }
        dispatch_commit(d, &commit);
        done += span.taken;
    }
    h.len = 0;
}

static void put_record(const struct record *record)
{
    uint8_t *at = h.buffer + h.len;

    if (h.len + record_size(record->body.len) > HARNESS_BUFFER_LEN) {
        commit();
        at = h.buffer;
    }
    memcpy(at + RECORD_HEADER_LEN, record->body.at, record->body.len);
    record_finish(at, record);
    h.len += record_size(record->body.len);
}

static uint64_t no_seq(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return 0;
}

static void change(struct catalog *writer, struct catalog_request *request)
{
    const struct catalog_context context = {
        .random = (const uint8_t[64]) { 0 },
        .last_seq = no_seq,
        .floor_seq = no_seq,
    };
    struct record record = { .kind = RECORD_CATALOG };
    struct bytes body = { 0 };
    char secret[SECRET_LEN_MAX + 1];
    struct record_fact fact;
    struct refusal refusal;

    STRESS_CHECK(
        catalog_decide(writer, request, &context, &body, secret, &refusal)
            == STATUS_OK,
        refusal.text);
    record.body = slice_of(bytes_begin(&body), bytes_len(&body));
    STRESS_CHECK(fact_read(record.body, &fact) == STATUS_OK
                     && catalog_apply(writer, &fact) == STATUS_OK,
                 "catalog");
    put_record(&record);
    commit();
    bytes_fini(&body);
    catalog_request_fini(request);
}

static void make_catalog(void)
{
    struct catalog *writer = catalog_new();
    struct catalog_request topic = { .op = CATALOG_CREATE,
                                     .class = CATALOG_TOPIC,
                                     .name = "t" };
    struct catalog_request group = { .op = CATALOG_CREATE,
                                     .class = CATALOG_GROUP,
                                     .name = "g",
                                     .from = FROM_EARLIEST };
    struct refusal refusal;

    change(writer, &topic);
    STRESS_CHECK(patterns_add(&group.topics, slice_text("t"), &refusal)
                     == STATUS_OK,
                 refusal.text);
    change(writer, &group);
    catalog_free(writer);
}

static void publish_all(void)
{
    struct bytes body = { 0 };

    for (uint64_t seq = 1; seq <= count; seq++) {
        const struct wire_message message = { .deliver_at_ms =
                                                  due_wall_us(seq) / 1000 };
        struct record record = { .kind = RECORD_MESSAGE,
                                 .flags = RECORD_TIMED,
                                 .topic = TOPIC,
                                 .app = 1 };

        bytes_consume(&body, bytes_len(&body));
        STRESS_CHECK(codec_message_write(&body, &message) == STATUS_OK,
                     "memory");
        record.body = slice_of(bytes_begin(&body), bytes_len(&body));
        put_record(&record);
    }
    commit();
    bytes_fini(&body);
}

/* ---- time ---- */

static const struct group_fact *group(void)
{
    return catalog_group_by_id(dispatch_catalog(d), GROUP);
}

static void join(void)
{
    STRESS_CHECK(dispatch_join(d, group(), 7, CREDIT_MESSAGES_MAX,
                               CREDIT_BYTES_MAX, &h, &member)
                     == STATUS_OK,
                 "memory");
}

static void on_settled(void *arg, const struct wire_settled_range *range)
{
    (void)arg;
    STRESS_CHECK(range->outcome == OUTCOME_ACCEPTED, "an ack was not taken");
}

/* All that it holds is acked, and durably so. */
static void ack_all(void)
{
    struct settlement settlement = { .lease = 7,
                                     .topic = TOPIC,
                                     .action = SETTLE_ACK };
    uint8_t *at;
    size_t len;

    while (held_count > 0) {
        held_count--;
        settlement.range.first = settlement.range.last = held[held_count];
        STRESS_CHECK(dispatch_settle(d, group(), &settlement, now_us, NULL,
                                     NULL, on_settled, NULL)
                         == STATUS_OK,
                     "memory");
    }
    (void)dispatch_log(d, submission, now_us, wall_us());
    (void)submission_publish(submission);
    len = submission_peek(submission, &at);
    memcpy(h.buffer, at, len);
    h.len = len;
    commit();
    submission_take(submission, len);
    submission_settle(submission);
    submission_release(submission, submission_durable(submission));
}

static void step(void)
{
    uint64_t before = delivered;

    now_us += STEP_US;
    if (plant_late && now_us % 1000000 < 60000) {
        return;
    }
    dispatch_tick(d, now_us);
    for (int turn = 0; turn < TURNS && dispatch_has_more(d); turn++) {
        dispatch_pump(d, now_us);
        dispatch_tick(d, now_us);
    }
    if (delivered > before && now_us / STEP_US % 8 == 0) {
        ack_all();
    }
    dispatch_rest(d);
}

static void run_until(uint64_t until_us)
{
    while (now_us < until_us) {
        step();
    }
}

static uint64_t delayed(void)
{
    struct lane_books books;

    STRESS_CHECK(dispatch_books(group(),
                                catalog_topic_by_id(dispatch_catalog(d), TOPIC),
                                &books)
                     && lane_books_balance(&books),
                 "books");
    return books.delayed;
}

static void tell(const char *when)
{
    uint64_t bytes = 0;
    uint64_t max = 0;

    dispatch_show(d, &metrics);
    for (size_t i = 0; i < TIER_COUNT; i++) {
        bytes += metrics.tiers[i].in_flight_bytes;
        max += metrics.tiers[i].in_flight_bytes_max;
    }
    (void)printf("%s: %llu wait, %llu KiB of %llu KiB\n", when,
                 (unsigned long long)delayed(),
                 (unsigned long long)(bytes >> 10),
                 (unsigned long long)(max >> 10));
    STRESS_CHECK(bytes <= max, "beyond the budget");
}

static void restart(void)
{
    ack_all();
    dispatch_free(d);
    harness_reopen(&h);
    open_dispatch();
    join();
    /* It reads them all again first. */
    caught_up_us = UINT64_MAX;
    do {
        step();
    } while (dispatch_has_more(d));
    caught_up_us = now_us;
}

static void run(void)
{
    submission = submission_new(SUBMISSION);
    harness_init(&h);
    h.config.segment_len = 64 << 20;
    STRESS_CHECK(harness_open(&h) == STATUS_OK, h.err.text);
    open_dispatch();
    make_catalog();
    publish_all();
    join();
    run_until(AHEAD_US);
    tell("before the first is due");
    STRESS_CHECK(delayed() == count && delivered == 0, "not all wait");
    run_until(RESTART_US);
    restart();
    tell("after the restart");
    run_until(2 * 1000000 + AHEAD_US + SPREAD_US);
    STRESS_CHECK(delayed() == 0, "some still wait");
    STRESS_CHECK(delivered == count, "not each was delivered once");
    (void)printf("delivered %llu, the latest %llu ms late, %llu late behind "
                 "the restart\n",
                 (unsigned long long)delivered,
                 (unsigned long long)(latest_us / 1000),
                 (unsigned long long)too_late);
    STRESS_CHECK(too_late < count / 100, "a start takes too long");
    dispatch_free(d);
    submission_free(submission);
    harness_fini(&h);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--plant") == 0) {
        plant_late = strcmp(argv[2], "late") == 0;
        count = 20000;
    } else if (argc == 2) {
        count = strtoull(argv[1], NULL, 10);
    } else {
        stress_expect_plant_fails("late");
    }
    run();
    return 0;
}
