/* links: godwit_client godwit_proto */
/* with: test/lib/fake_broker.c test/lib/client_fixture.c */
/* Options of messages, batches that are all or nothing, what a handler may say
 * besides ack, and notices. */
#include "test/lib/client_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

TestSuite(client_options, .init = fixture_set_up, .fini = fixture_tear_down,
          .timeout = 30);

/* ---- what the callbacks saw: one at a time, on the client's thread ---- */

static struct godwit_confirm told[16]; /* by index */
static atomic_int told_count;
static char words[256];
static atomic_int word_count;

static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    cr_assert_eq(arg, told);
    cr_assert_lt(confirm->index, COUNT_OF(told));
    told[confirm->index] = *confirm;
    atomic_fetch_add(&told_count, 1);
}

static bool reaches(atomic_int *count, int wanted)
{
    struct timespec one = { .tv_nsec = 1000000 };

    for (int i = 0; i < 5000 && atomic_load(count) < wanted; i++) {
        (void)nanosleep(&one, NULL);
    }
    return atomic_load(count) == wanted;
}

static struct wire_message parts_of(const struct wire_request *request,
                                    size_t i)
{
    struct wire_message parts;
    struct refusal refusal;

    cr_assert_lt(i, request->publish.count);
    cr_assert_eq(
        codec_message_check(request->publish.messages[i], &parts, &refusal),
        STATUS_OK);
    return parts;
}

static void expect_publish(struct wire_request *request, uint64_t id,
                           uint64_t producer_seq, size_t count, bool atomic)
{
    cr_assert(fake_broker_next(&broker, request));
    cr_assert_eq(request->kind, REQUEST_PUBLISH);
    cr_assert_eq(request->id, id);
    cr_assert_eq(request->publish.producer_seq, producer_seq);
    cr_assert_eq(request->publish.count, count);
    cr_assert_eq(request->publish.atomic, atomic);
}

static enum godwit_status publish_id(const char *id)
{
    struct godwit_message message = { .id = id, .body = "b", .body_len = 1 };

    return godwit_publish(client, "topic", &message, on_confirm, told);
}

/* ---- messages ---- */

Test(client_options, are_sent_with_the_message)
{
    struct godwit_message message = { .tag = "red",
                                      .delay_ms = 1500,
                                      .ttl_ms = 60000 };
    struct wire_request request;
    struct wire_message parts;

    connect_client();
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_OK);
    expect_publish(&request, 1, 1, 1, false);
    parts = parts_of(&request, 0);
    cr_expect(slice_is(parts.tag, "red"));
    cr_expect_eq(parts.id.len, 0);
    cr_expect_eq(parts.delay_ms, 1500);
    cr_expect_eq(parts.ttl_ms, 60000);
    message = (struct godwit_message) { .deliver_at_ms = 1790000000000 };
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_OK);
    expect_publish(&request, 2, 2, 1, false);
    cr_expect_eq(parts_of(&request, 0).deliver_at_ms, 1790000000000);
}

Test(client_options, out_of_bounds_are_refused_at_once)
{
    static char text[MESSAGE_ID_LEN_MAX + 2];
    struct godwit_message message = { .delay_ms = PUBLISH_DELAY_MS_MAX + 1 };

    connect_client();
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_INVALID);
    cr_assert(error_says("delay_ms"));
    message = (struct godwit_message) { .ttl_ms = TTL_MS_MAX + 1 };
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_INVALID);
    memset(text, 'x', MESSAGE_ID_LEN_MAX + 1);
    message = (struct godwit_message) { .id = text };
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_TOO_LARGE);
    message = (struct godwit_message) { .tag = text };
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_TOO_LARGE);
    text[MESSAGE_ID_LEN_MAX] = '\0';
    cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                 GODWIT_OK);
}

/* Frames of their own, and the numbers of the others go on without a hole; all
 * of that again after a reconnect. */
Test(client_options, an_id_takes_the_place_of_the_number)
{
    static const char *const ids[] = { NULL, "i", NULL };
    struct wire_request request;

    connect_client();
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        cr_assert_eq(publish_id(ids[i]), GODWIT_OK);
        cr_assert(fake_broker_next(&broker, &request));
    }
    cr_assert(fake_broker_connect(&broker)); /* drops the old connection */
    expect_publish(&request, 1, 1, 1, false);
    expect_publish(&request, 2, 0, 1, false);
    cr_expect(slice_is(parts_of(&request, 0).id, "i"));
    expect_publish(&request, 3, 2, 1, false);
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, true));
    cr_assert(fake_broker_confirm(&broker, 2, 1, 2, true));
    cr_assert(fake_broker_confirm(&broker, 3, 1, 3, false));
    cr_assert_eq(godwit_flush(client, 5000), GODWIT_OK);
    cr_assert(reaches(&told_count, 3));
}

/* ---- all or nothing ---- */

static enum godwit_status publish_batch(size_t count, const char *id)
{
    static char bodies[16][24];
    struct godwit_message messages[16] = { { .key = NULL } };

    for (size_t i = 0; i < count; i++) {
        (void)snprintf(bodies[i], sizeof bodies[i], "b%zu", i);
        messages[i].body = bodies[i];
        messages[i].body_len = strlen(bodies[i]);
        messages[i].id = i > 0 ? id : NULL;
    }
    return godwit_publish_atomic(client, "topic", messages, count, on_confirm,
                                 told);
}

Test(client_options, a_batch_is_one_frame_and_told_one_by_one)
{
    struct wire_request request;

    connect_client();
    cr_assert_eq(publish_batch(5, NULL), GODWIT_OK);
    expect_publish(&request, 1, 1, 5, true);
    cr_expect(slice_is(parts_of(&request, 4).body, "b4"));
    cr_assert(fake_broker_confirm(&broker, 1, 5, 101, false));
    cr_assert(reaches(&told_count, 5));
    for (size_t i = 0; i < 5; i++) {
        cr_expect_eq(told[i].status, GODWIT_OK);
        cr_expect_eq(told[i].seq, 101 + i);
    }
    cr_assert_eq(publish_batch(2, NULL), GODWIT_OK);
    expect_publish(&request, 6, 6, 2, true);
    cr_assert(fake_broker_refuse(&broker, 6, 2, STATUS_TOO_LARGE, "key"));
    cr_assert(reaches(&told_count, 7));
    cr_expect_eq(told[0].status, GODWIT_TOO_LARGE);
    cr_expect_eq(told[1].status, GODWIT_TOO_LARGE);
}

Test(client_options, a_batch_is_sent_again_as_one)
{
    struct wire_request request;

    connect_client();
    cr_assert_eq(publish_id(NULL), GODWIT_OK);
    cr_assert_eq(publish_batch(3, NULL), GODWIT_OK);
    cr_assert_eq(publish_id(NULL), GODWIT_OK);
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert(fake_broker_connect(&broker));
    expect_publish(&request, 1, 1, 1, false);
    expect_publish(&request, 2, 2, 3, true);
    expect_publish(&request, 5, 5, 1, false);
    cr_assert(fake_broker_confirm(&broker, 1, 5, 1, true));
    cr_assert(reaches(&told_count, 5));
    cr_assert(told[2].duplicate);
}

static void *publish_four(void *arg)
{
    *(enum godwit_status *)arg = publish_batch(4, NULL);
    return NULL;
}

static void *publish_single(void *arg)
{
    *(enum godwit_status *)arg = publish_id(NULL);
    return NULL;
}

static pthread_t begin(void *(*fn)(void *), enum godwit_status *status,
                       uint32_t waiters)
{
    struct timespec one = { .tv_nsec = 1000000 };
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, fn, status), 0);
    for (int i = 0; i < 5000 && atomic_load(&client->room_waiters) < waiters;
         i++) {
        (void)nanosleep(&one, NULL);
    }
    cr_assert_eq(atomic_load(&client->room_waiters), waiters);
    return thread;
}

/* Or others would always be there first when there is room for one. */
Test(client_options, a_batch_that_waits_for_room_is_not_overtaken)
{
    enum godwit_status status[2] = { GODWIT_INTERNAL, GODWIT_INTERNAL };
    struct wire_request request;
    pthread_t threads[2];
    uint64_t got = 0;

    options.window = 4;
    connect_client();
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(publish_id(NULL), GODWIT_OK);
    }
    while (got < 4) {
        cr_assert(fake_broker_next(&broker, &request));
        got += request.publish.count;
    }
    threads[0] = begin(publish_four, &status[0], 1);
    threads[1] = begin(publish_single, &status[1], 2);
    cr_assert(fake_broker_confirm(&broker, 1, 1, 1, false));
    cr_assert(fake_broker_silent(&broker), "the room is the batch's");
    cr_assert(fake_broker_confirm(&broker, 2, 3, 2, false));
    expect_publish(&request, 5, 5, 4, true);
    cr_assert(fake_broker_confirm(&broker, 5, 4, 5, false));
    expect_publish(&request, 9, 9, 1, false);
    cr_assert(fake_broker_confirm(&broker, 9, 1, 9, false));
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
        cr_assert_eq(status[i], GODWIT_OK);
    }
    cr_assert(reaches(&told_count, 9));
}

Test(client_options, a_batch_that_cannot_go_together_is_refused_whole)
{
    struct godwit_message one = { .body = "x", .body_len = 1 };
    struct wire_request request;

    options.window = 4;
    connect_client();
    cr_assert_eq(publish_batch(3, "id"), GODWIT_INVALID);
    cr_assert(error_says("all have an id or none"));
    cr_assert_eq(publish_batch(5, NULL), GODWIT_TOO_LARGE);
    cr_assert_eq(godwit_publish_atomic(client, "topic", &one, 0, NULL, NULL),
                 GODWIT_INVALID);
    cr_assert_eq(publish_batch(4, NULL), GODWIT_OK);
    expect_publish(&request, 1, 1, 4, true);
    cr_assert_eq(atomic_load(&told_count), 0);
}

/* ---- a subscriber's other words ---- */

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *d)
{
    (void)arg;
    return d->seq == 1 ? GODWIT_REJECT : GODWIT_LATER;
}

static void on_notice(void *arg, const char *topic, uint64_t first,
                      uint64_t last, uint64_t ends_in_ms)
{
    cr_assert_eq(arg, words);
    (void)snprintf(words, sizeof words, "%s %llu-%llu %llu", topic,
                   (unsigned long long)first, (unsigned long long)last,
                   (unsigned long long)ends_in_ms);
    atomic_fetch_add(&word_count, 1);
}

static struct godwit_subscription sub = { .group = "group",
                                          .handler = on_delivery,
                                          .on_notice = on_notice,
                                          .arg = words };

static void attach(void)
{
    struct wire_request request;

    connect_client();
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
    cr_assert(fake_broker_next(&broker, &request));
    cr_assert_eq(request.kind, REQUEST_ATTACH);
    cr_assert(fake_broker_attach(&broker, request.id));
}

static void expect_settle(enum settle_action action, uint64_t seq,
                          const char *reason, uint64_t delay_ms)
{
    struct wire_request request;

    cr_assert(fake_broker_next(&broker, &request));
    cr_assert_eq(request.kind, REQUEST_SETTLE);
    cr_expect_eq(request.settle.action, action);
    cr_expect_eq(request.settle.ranges[0].first, seq);
    cr_expect_eq(request.settle.delay_ms, delay_ms);
    cr_expect(slice_is(request.settle.reason, reason));
}

Test(client_options, a_handler_may_reject)
{
    attach();
    cr_assert(fake_broker_deliver(&broker, "topic", 1, 3));
    expect_settle(SETTLE_REJECT, 1, "", 0);
    cr_assert_eq(godwit_settle(client, GODWIT_DO_REJECT, "topic", 2, 2, 0,
                               "no such customer"),
                 GODWIT_OK);
    expect_settle(SETTLE_REJECT, 2, "no such customer", 0);
    cr_assert_eq(
        godwit_settle(client, GODWIT_DO_NACK, "topic", 3, 3, 500, "busy"),
        GODWIT_OK);
    expect_settle(SETTLE_NACK, 3, "busy", 500);
}

Test(client_options, a_notice_is_told)
{
    const struct wire_notice notice = { slice_text("topic"), { 2, 3 }, 900 };

    attach();
    cr_assert_eq(codec_notice_write(fake_broker_reply(&broker), &notice),
                 STATUS_OK);
    cr_assert(fake_broker_send_reply(&broker));
    cr_assert(reaches(&word_count, 1));
    cr_assert_str_eq(words, "topic 2-3 900");
}
