/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "broker/search.h"
#include "proto/codec.h"
#include "test/lib/store_bed.h"

#include <stdio.h>

/* Looking through a topic over a real store. */

enum { OUT_LEN = 1 << 20 };

static struct worker_metrics metrics;
static char out[OUT_LEN]; /* what was found */
static size_t out_len;
static enum search_state state;
static struct search_result result;
static unsigned runs; /* that the last search took */

/* ---- who looks ---- */

static void say(const char *format, ...) PRINTF_LIKE(1, 2);
static void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    out_len +=
        (size_t)vsnprintf(out + out_len, sizeof out - out_len, format, args);
    va_end(args);
    cr_assert_lt(out_len, sizeof out);
}

static void on_found(void *arg, const char *topic,
                     const struct wire_delivery *delivery)
{
    (void)arg;
    cr_assert_str_eq(topic, "t");
    cr_assert_eq(delivery->attempt, 0);
    say("%lu ", (unsigned long)delivery->seq);
}

static void on_lost(void *arg, const char *topic, struct seq_range range)
{
    (void)arg;
    (void)topic;
    say("gap%lu-%lu ", (unsigned long)range.first, (unsigned long)range.last);
}

static void catch_up(void *arg)
{
    (void)arg;
    read_ring();
}

static const struct search_out to_test = { on_found, on_lost, catch_up, NULL };

/* ---- the bed ---- */

static void change_topic(enum catalog_op op)
{
    struct catalog_request request = { .op = op,
                                       .class = CATALOG_TOPIC,
                                       .name = "t" };

    change(&request);
    read_ring();
}

static void set_up(void)
{
    struct dispatch_config config = { .worker_count = 1,
                                      .in_flight_bytes = { 1 << 20 },
                                      .now_us = 1,
                                      .metrics = &metrics };
    struct error err;

    harness_init(&h);
    h.config.segment_len = 16 << 20;
    cr_assert_eq(harness_open(&h), STATUS_OK, "%s", h.err.text);
    writer = catalog_new();
    ring = ring_new(sizeof(struct store_commit), 64, 1);
    config.store = h.store;
    config.commits = ring;
    cr_assert_eq(dispatch_new(&d, &config, &err), STATUS_OK, "%s", err.text);
    change_topic(CATALOG_CREATE);
}

static void tear_down(void)
{
    dispatch_free(d);
    ring_free(ring);
    catalog_free(writer);
    harness_fini(&h);
}

TestSuite(search, .init = set_up, .fini = tear_down, .timeout = 60);

static void add_one(const char *key, const char *tag, size_t body_len,
                    uint8_t fill)
{
    struct wire_message message = { .key = slice_text(key),
                                    .tag = slice_text(tag) };
    struct bytes encoded = { 0 };
    uint8_t *body = malloc(body_len + 1);

    memset(body, fill, body_len + 1);
    message.body = slice_of(body, body_len);
    cr_assert_eq(codec_message_write(&encoded, &message), STATUS_OK);
    put_record(
        (struct record) { .kind = RECORD_MESSAGE, .topic = TOPIC, .app = 1 },
        &encoded);
    free(body);
}

static void publish(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add_one("", "", 10, (uint8_t)('a' + i % 26));
        if (h.len > HARNESS_BUFFER_LEN / 2) {
            put_on_ring(false);
            read_ring();
        }
    }
    if (h.len > 0) {
        put_on_ring(false);
    }
}

/* One message each 1000 us. */
static void publish_in_time(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        wall_us = (i + 1) * 1000;
        publish(1);
    }
    read_ring();
}

static const struct topic *topic(void)
{
    return catalog_topic_by_id(dispatch_catalog(d), TOPIC);
}

/* All of a search, in as many bits as it takes. */
static const char *look(struct search_order order)
{
    struct search *search;

    order.count_max = order.count_max == 0 ? 100 : order.count_max;
    out_len = 0;
    out[0] = '\0';
    runs = 0;
    cr_assert_eq(search_new(&search, TOPIC, &order), STATUS_OK);
    do {
        cr_assert_eq(search_run(search, d, &to_test, UINT64_MAX, &state),
                     STATUS_OK);
        runs++;
    } while (state == SEARCH_GOES_ON);
    search_result(search, d, &result);
    search_free(search);
    return out;
}

#define LOOK(...) look((struct search_order) { __VA_ARGS__ })

static void cr_ends(enum search_state want, uint64_t next_seq, bool done)
{
    cr_assert_eq(state, want, "state %d", (int)state);
    cr_assert_eq(result.next_seq, next_seq, "next %lu",
                 (unsigned long)result.next_seq);
    cr_assert_eq(result.done, done);
}

/* ---- by seq ---- */

Test(search, an_empty_topic)
{
    cr_assert_str_eq(LOOK(0), "");
    cr_ends(SEARCH_AT_END, 1, true);
    cr_assert_str_eq(LOOK(.from = 5), "");
    cr_ends(SEARCH_AT_END, 5, true);
    cr_assert_str_eq(LOOK(.newest = true), "");
    cr_ends(SEARCH_DONE, 1, true);
}

Test(search, by_seq)
{
    publish(9);
    read_ring();
    cr_assert_str_eq(LOOK(0), "1 2 3 4 5 6 7 8 9 ");
    cr_ends(SEARCH_AT_END, 10, true);
    cr_assert_str_eq(LOOK(.from = 8), "8 9 ");
    cr_ends(SEARCH_AT_END, 10, true);
    cr_assert_str_eq(LOOK(.from = 3, .to = 5), "3 4 5 ");
    cr_ends(SEARCH_DONE, 6, true);
    cr_assert_str_eq(LOOK(.from = 9, .to = 20), "9 ");
    cr_ends(SEARCH_AT_END, 10, true);
    cr_assert_str_eq(LOOK(.from = 20), "");
    cr_ends(SEARCH_AT_END, 20, true);
}

Test(search, goes_on_where_it_ended)
{
    publish(5);
    read_ring();
    cr_assert_str_eq(LOOK(.count_max = 2), "1 2 ");
    cr_ends(SEARCH_BOUND, 3, false);
    cr_assert_str_eq(LOOK(.from = 3, .count_max = 3), "3 4 5 ");
    cr_assert(result.done);
}

Test(search, the_newest)
{
    publish(9);
    read_ring();
    cr_assert_str_eq(LOOK(.newest = true, .count_max = 3), "7 8 9 ");
    cr_ends(SEARCH_BOUND, 10, false);
    cr_assert_str_eq(LOOK(.newest = true, .count_max = 9),
                     "1 2 3 4 5 6 7 8 9 ");
    cr_ends(SEARCH_DONE, 10, true);
    cr_assert_str_eq(LOOK(.newest = true, .count_max = 10),
                     "1 2 3 4 5 6 7 8 9 ");
    cr_ends(SEARCH_DONE, 10, true);
    cr_assert_str_eq(LOOK(.newest = true, .count_max = 2, .to = 5), "4 5 ");
    cr_ends(SEARCH_BOUND, 6, false);
    cr_assert_str_eq(LOOK(.newest = true, .from = 8), "8 9 ");
    cr_ends(SEARCH_DONE, 10, true);
}

Test(search, a_search_sees_what_comes_between_its_bits)
{
    const struct search_order order = { .count_max = 100 };
    struct search *search;

    publish(2);
    read_ring();
    out_len = 0;
    cr_assert_eq(search_new(&search, TOPIC, &order), STATUS_OK);
    cr_assert_eq(search_run(search, d, &to_test, 0, &state), STATUS_OK);
    cr_assert_eq(state, SEARCH_GOES_ON);
    cr_assert_str_eq(out, "1 ", "one message at least: %s", out);
    while (state == SEARCH_GOES_ON) {
        cr_assert_eq(search_run(search, d, &to_test, 0, &state), STATUS_OK);
    }
    cr_assert_eq(state, SEARCH_AT_END);
    publish(1);
    read_ring();
    cr_assert_eq(search_run(search, d, &to_test, UINT64_MAX, &state),
                 STATUS_OK);
    cr_assert_eq(state, SEARCH_AT_END);
    cr_assert_str_eq(out, "1 2 3 ");
    search_free(search);
}

Test(search, ends_with_its_topic)
{
    const struct search_order order = { .count_max = 100 };
    struct search *search;

    publish(2);
    read_ring();
    cr_assert_eq(search_new(&search, TOPIC, &order), STATUS_OK);
    change_topic(CATALOG_DELETE);
    cr_assert_eq(search_run(search, d, &to_test, UINT64_MAX, &state),
                 STATUS_NOT_FOUND);
    search_result(search, d, &result);
    search_free(search);
}

/* ---- by key and tag ---- */

Test(search, by_key_and_tag)
{
    add_one("a", "", 1, 'x');
    add_one("b", "red", 1, 'x');
    add_one("a", "red", 1, 'x');
    add_one("", "red", 1, 'x');
    put_on_ring(false);
    read_ring();
    cr_assert_str_eq(LOOK(.key = slice_text("a")), "1 3 ");
    cr_assert_eq(result.scanned, 4);
    cr_assert_eq(result.found, 2);
    cr_assert_str_eq(LOOK(.key = slice_text("")), "4 ");
    cr_assert_str_eq(LOOK(.tag = slice_text("red")), "2 3 4 ");
    cr_assert_str_eq(LOOK(.tag = slice_text("re")), "");
    cr_assert_str_eq(LOOK(.key = slice_text("a"), .tag = slice_text("red")),
                     "3 ");
    cr_assert_str_eq(
        LOOK(.newest = true, .count_max = 1, .key = slice_text("a")), "3 ");
    cr_ends(SEARCH_BOUND, 5, false);
}

/* ---- by time ---- */

Test(search, by_time)
{
    publish_in_time(9);
    cr_assert_eq(dispatch_seq_at(d, topic(), 0), 1);
    cr_assert_eq(dispatch_seq_at(d, topic(), 1000), 1);
    cr_assert_eq(dispatch_seq_at(d, topic(), 1001), 2);
    cr_assert_eq(dispatch_seq_at(d, topic(), 9000), 9);
    cr_assert_eq(dispatch_seq_at(d, topic(), 9001), 10);
    cr_assert_str_eq(LOOK(.since_us = 7000), "7 8 9 ");
    cr_assert_eq(result.scanned, 3, "what is older is not looked at");
    cr_assert_str_eq(LOOK(.since_us = 6999, .until_us = 8000), "7 8 ");
    cr_ends(SEARCH_DONE, 9, true);
    cr_assert_str_eq(LOOK(.until_us = 999), "");
    cr_ends(SEARCH_DONE, 1, true);
    cr_assert_str_eq(LOOK(.since_us = 9001), "");
    cr_ends(SEARCH_AT_END, 10, true);
    cr_assert_str_eq(LOOK(.until_us = 2500), "1 2 ");
    cr_assert_str_eq(LOOK(.since_us = 4000, .from = 6, .to = 7), "6 7 ");
    cr_assert_str_eq(LOOK(.newest = true, .count_max = 2, .until_us = 4000),
                     "3 4 ");
}

Test(search, a_clock_that_was_set_back_shows_nothing_of_another_time)
{
    static const uint64_t times[] = { 1000, 2000, 9000, 3000, 4000, 5000 };

    for (size_t i = 0; i < COUNT_OF(times); i++) {
        wall_us = times[i];
        publish(1);
    }
    read_ring();
    LOOK(.since_us = 3000, .until_us = 5000);
    cr_assert_null(strstr(out, "3 "), "%s", out);
    cr_assert_not_null(strstr(out, "6 "), "%s", out);
}

/* ---- what is not there ---- */

Test(search, what_was_deleted_is_said)
{
    publish(9);
    trim(4, 4);
    read_ring();
    cr_assert_str_eq(LOOK(0), "4 5 6 7 8 9 ");
    cr_assert_eq(result.deleted.first, 0, "it was not asked for by seq");
    cr_assert_eq(result.first_seq, 4);
    cr_assert_eq(result.last_seq, 9);
    cr_assert_str_eq(LOOK(.from = 2, .to = 5), "4 5 ");
    cr_assert_eq(result.deleted.first, 2);
    cr_assert_eq(result.deleted.last, 3);
    cr_assert_str_eq(LOOK(.from = 1, .to = 2), "");
    cr_assert_eq(result.deleted.last, 2);
    cr_ends(SEARCH_DONE, 4, true);
    cr_assert_str_eq(LOOK(.newest = true, .to = 2), "");
    cr_assert_eq(dispatch_seq_at(d, topic(), 0), 4);
}

static void damage(const char *text)
{
    char path[600];

    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, find_in_file(path, text), 3);
}

/* What the store cannot give was perhaps deleted by a commit that this thread
 * has not read. */
Test(search, what_is_just_being_deleted_is_no_gap)
{
    publish(9);
    read_ring();
    damage("bbbbbbbbbb");
    trim(4, 4);
    cr_assert_str_eq(LOOK(.from = 1), "1 4 5 6 7 8 9 ");
    cr_assert_eq(result.deleted.first, 2);
    cr_assert_eq(result.deleted.last, 3);
    damage("eeeeeeeeee");
    trim(7, 7);
    cr_assert_str_eq(LOOK(.newest = true), "7 8 9 ");
    cr_ends(SEARCH_DONE, 10, true);
}

Test(search, what_is_lost_is_a_gap)
{
    publish(6);
    read_ring();
    damage("bbbbbbbbbb");
    damage("cccccccccc");
    damage("ffffffffff");
    cr_assert_str_eq(LOOK(0), "1 gap2-3 4 5 gap6-6 ");
    cr_ends(SEARCH_AT_END, 7, true);
    cr_assert_str_eq(LOOK(.from = 2, .to = 2), "gap2-2 ");
    cr_assert_str_eq(LOOK(.newest = true, .count_max = 2), "gap6-6 4 5 ");
    cr_assert_str_eq(LOOK(.newest = true), "gap6-6 gap2-3 1 4 5 ");
}

/* ---- bounds ---- */

Test(search, the_messages_looked_at_are_bounded)
{
    publish(SEARCH_MESSAGES_MAX + 1);
    read_ring();
    cr_assert_str_eq(LOOK(.key = slice_text("k")), "");
    /* The time may be over first. */
    cr_assert_eq(state, SEARCH_BOUND);
    cr_assert_leq(result.scanned, SEARCH_MESSAGES_MAX);
    cr_assert_eq(result.next_seq, result.scanned + 1);
    cr_assert_not(result.done);
    cr_assert_str_eq(LOOK(.key = slice_text("k"), .from = SEARCH_MESSAGES_MAX),
                     "");
    cr_assert(result.done);
    cr_assert_str_eq(LOOK(.newest = true, .key = slice_text("k")), "");
    cr_assert_leq(result.scanned, SEARCH_MESSAGES_MAX);
    cr_ends(SEARCH_BOUND, SEARCH_MESSAGES_MAX + 2, false);
}

Test(search, the_bytes_found_are_bounded)
{
    enum { LEN = 900 * 1024 };

    for (int i = 0; i < 4; i++) {
        add_one("", "", LEN, (uint8_t)('a' + i));
        put_on_ring(false);
        read_ring();
    }
    cr_assert_str_eq(LOOK(0), "1 2 3 ", "as many as fit an answer");
    cr_ends(SEARCH_BOUND, 4, false);
    cr_assert_str_eq(LOOK(.newest = true), "2 3 4 ");
}

Test(search, the_bytes_looked_at_are_bounded)
{
    enum { LEN = 900 * 1024, COUNT = 12 };

    for (int i = 0; i < COUNT; i++) {
        add_one("", "", LEN, (uint8_t)('a' + i));
        put_on_ring(false);
        read_ring();
    }
    cr_assert_str_eq(LOOK(.key = slice_text("k")), "");
    cr_assert_eq(state, SEARCH_BOUND);
    cr_assert_leq(result.scanned, SEARCH_BYTES_MAX / LEN + 1);
}
