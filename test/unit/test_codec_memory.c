/* links: godwit_proto */
#include "proto/codec.h"
#include "proto/seqset.h"
#include "proto/ws_frame.h"

#include <criterion/criterion.h>

/* Each allocation fails in turn: the call says so, and nothing is changed or
 * lost. The sanitizer brings its own allocator; there this file tests nothing. */

#if defined(__SANITIZE_ADDRESS__) || defined(__clang_analyzer__)
#define OWN_ALLOCATOR 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define OWN_ALLOCATOR 0
#endif
#endif
#ifndef OWN_ALLOCATOR
#define OWN_ALLOCATOR 1
#endif

static long allowed = -1; /* allocations until one fails; below 0: all may */

#if OWN_ALLOCATOR
void *__libc_malloc(size_t len);
void *__libc_realloc(void *at, size_t len);

static bool fails(void)
{
    return allowed >= 0 && allowed-- == 0;
}

__attribute__((visibility("default"))) void *malloc(size_t len)
{
    return fails() ? NULL : __libc_malloc(len);
}

__attribute__((visibility("default"))) void *realloc(void *at, size_t len)
{
    return fails() ? NULL : __libc_realloc(at, len);
}
#endif

static struct codec *codec;
static struct bytes buffer;
static struct refusal refusal;

static void set_up(void)
{
    codec = codec_new();
    buffer = (struct bytes) { 0 };
}

static void tear_down(void)
{
    codec_free(codec);
    codec_free(NULL);
    bytes_fini(&buffer);
}

TestSuite(codec_memory, .init = set_up, .fini = tear_down, .timeout = 30);

/* Run `step` with the first, the second, ... allocation failing until it comes
 * through; how many times it failed. */
static size_t sweep(enum status (*step)(void))
{
    for (long nth = 0; nth < 100; nth++) {
        size_t before = bytes_len(&buffer);
        enum status status;

        allowed = nth;
        status = step();
        allowed = -1;
        if (status == STATUS_OK) {
            return (size_t)nth;
        }
        cr_assert_eq(status, STATUS_NOMEM);
        cr_assert_eq(bytes_len(&buffer), before, "half of it was left behind");
        codec_free(codec); /* what it has got so far would not fail again */
        codec = codec_new();
    }
    cr_assert_fail("it never comes through");
    return 0;
}

static uint8_t large[100000];

static const struct wire_settled_range settled_range = { 1, 2, OUTCOME_LATE,
                                                         3 };
static const struct seq_range range = { 1, 2 };

static struct slice content(void)
{
    return slice_of(bytes_begin(&buffer), bytes_len(&buffer));
}

/* ---- writers ---- */

#define WRITER(name, call)                                                     \
    static enum status name(void)                                              \
    {                                                                          \
        return call;                                                           \
    }

WRITER(hello, codec_hello_write(&buffer, 1, &(struct wire_hello) { 0 }))
WRITER(attach, codec_attach_write(&buffer, 1, &(struct wire_attach) { 0 }))
WRITER(detach, codec_detach_write(&buffer, 1))
WRITER(ping, codec_ping_write(&buffer, 1))
WRITER(publish,
       codec_publish_write(&buffer, 1,
                           &(struct wire_publish) {
                               .messages = &(struct slice) { large,
                                                             sizeof large },
                               .count = 1 }))
WRITER(settle, codec_settle_write(&buffer, 1,
                                  &(struct wire_settle) { .ranges = &range,
                                                          .count = 1 }))
WRITER(settle_body, codec_settle_body_write(&buffer, 1,
                                            &(struct wire_settle) {
                                                .ranges = &range, .count = 1 }))
WRITER(message,
       codec_message_write(&buffer, &(struct wire_message) {
                                        .body = { large, sizeof large } }))
WRITER(welcome, codec_welcome_write(&buffer, 1, &(struct wire_welcome) { 0 }))
WRITER(confirm, codec_confirm_write(&buffer, &(struct wire_confirm) { 0 }))
WRITER(refused, codec_refused_write(&buffer, 1, 1, &(struct refusal) { 0 }))
WRITER(attached,
       codec_attached_write(&buffer, 1, &(struct wire_attached) { 0 }))
WRITER(detached, codec_detached_write(&buffer, 1, slice_text("gone")))
WRITER(settled,
       codec_settled_write(&buffer, 1, slice_text("t"), &settled_range, 1))
WRITER(settled_body,
       codec_settled_body_write(&buffer, 1, slice_text("t"), &settled_range, 1))
WRITER(gap, codec_gap_write(&buffer, slice_text("t"), range))
WRITER(pong, codec_pong_write(&buffer, 1))
WRITER(deliver, codec_deliver_begin(&buffer, slice_text("t"), 1000))
WRITER(delivery,
       codec_delivery_write(&buffer, &(struct wire_delivery) {
                                         .message = { large, sizeof large } }))
WRITER(pulled, codec_pulled_begin(&buffer, 1, 1))
WRITER(pulled_deliver,
       codec_pulled_deliver(&buffer, slice_text("t"),
                            &(struct wire_delivery) {
                                .message = { large, sizeof large } },
                            1))
WRITER(pulled_gap, codec_pulled_gap(&buffer, slice_text("t"), range))
WRITER(ws_header, ws_header_write(&buffer, WS_BINARY, 1, NULL))

static enum status (*const writers[])(void) = {
    hello,       attach,         detach,     ping,      publish,      settle,
    settle_body, message,        welcome,    confirm,   refused,      attached,
    detached,    settled,        gap,        pong,      deliver,      delivery,
    pulled,      pulled_deliver, pulled_gap, ws_header, settled_body,
};

Test(codec_memory, writers_leave_nothing_behind)
{
    for (size_t i = 0; i < COUNT_OF(writers); i++) {
        bytes_fini(&buffer);
        cr_expect_eq(sweep(writers[i]), OWN_ALLOCATOR, "writer %zu", i);
        cr_expect_gt(bytes_len(&buffer), 0, "writer %zu", i);
    }
}

/* ---- frames ---- */

static size_t mark;

WRITER(frame_begin, ws_frame_begin(&buffer, false, &mark))
WRITER(frame_end, ws_frame_end(&buffer, mark, WS_BINARY, NULL))

Test(codec_memory, a_frame_that_cannot_end_is_as_it_was)
{
    struct ws_header h;

    cr_expect_eq(sweep(frame_begin), OWN_ALLOCATOR);
    cr_assert_eq(bytes_append(&buffer, large, 70000), STATUS_OK);
    cr_assert_eq(bytes_append(&buffer, large, bytes_room(&buffer)), STATUS_OK);
    cr_expect_eq(sweep(frame_end), OWN_ALLOCATOR);
    cr_assert_eq(ws_header_read(content(), &h), STATUS_OK);
    cr_expect_eq(h.header_len + h.payload_len, bytes_len(&buffer));
}

/* ---- readers ---- */

static void write_publish_of(size_t count)
{
    struct slice *many = calloc(count, sizeof *many);
    struct wire_publish p = { .messages = many, .count = count };

    cr_assert_eq(codec_publish_write(&buffer, 9, &p), STATUS_OK);
    free(many);
}

static enum status read_request(void)
{
    struct wire_request r;
    enum status status = codec_request_read(codec, content(), &r, &refusal);

    cr_assert_eq(r.id, 9, "the id is told, whatever happens");
    return status;
}

Test(codec_memory, a_publish_is_read_or_refused)
{
    write_publish_of(100);
    cr_expect_eq(sweep(read_request), 2 * OWN_ALLOCATOR);
    cr_expect_eq(sweep(read_request), 0, "its memory is used again");
}

Test(codec_memory, a_settle_is_read_or_refused)
{
    struct seq_range many[100];

    for (size_t i = 0; i < COUNT_OF(many); i++) {
        many[i] = (struct seq_range) { i + 1, i + 1 };
    }
    cr_assert_eq(
        codec_settle_write(&buffer, 9,
                           &(struct wire_settle) { .action = SETTLE_ACK,
                                                   .ranges = many,
                                                   .count = COUNT_OF(many) }),
        STATUS_OK);
    cr_expect_eq(sweep(read_request), 2 * OWN_ALLOCATOR);
    cr_expect_eq(sweep(read_request), 0);
}

static enum status read_reply(void)
{
    struct wire_reply r;

    return codec_reply_read(codec, content(), &r);
}

Test(codec_memory, a_deliver_is_read_or_refused)
{
    cr_assert_eq(codec_deliver_begin(&buffer, slice_text("t"), 200), STATUS_OK);
    for (size_t i = 0; i < 100; i++) {
        cr_assert_eq(bytes_append(&buffer, "\x12\x00", 2), STATUS_OK);
    }
    cr_expect_eq(sweep(read_reply), 2 * OWN_ALLOCATOR);
    cr_expect_eq(sweep(read_reply), 0);
}

Test(codec_memory, outcomes_are_read_or_refused)
{
    cr_assert_eq(settled(), STATUS_OK);
    cr_expect_eq(sweep(read_reply), OWN_ALLOCATOR);
    cr_expect_eq(sweep(read_reply), 0);
}

static enum status read_pulled(void)
{
    struct wire_pulled p;

    return codec_pulled_read(codec, content(), &p);
}

Test(codec_memory, a_pull_is_read_or_refused)
{
    cr_assert_eq(pulled_deliver(), STATUS_OK);
    cr_assert_eq(pulled_gap(), STATUS_OK);
    cr_expect_eq(sweep(read_pulled), 3 * OWN_ALLOCATOR,
                 "deliveries, topics, gaps");
    cr_expect_eq(sweep(read_pulled), 0);
}

/* ---- sets ---- */

static struct seqset set;

static enum status add_many(void)
{
    size_t ranges_before = seqset_range_count(&set);
    uint64_t count_before = seqset_count(&set);
    enum status status = seqset_add(&set, 1000, 1000, NULL);

    if (status != STATUS_OK) {
        cr_assert_eq(seqset_range_count(&set), ranges_before);
        cr_assert_eq(seqset_count(&set), count_before);
        cr_assert_not(seqset_has(&set, 1000));
    }
    return status;
}

Test(codec_memory, a_set_that_cannot_grow_is_as_it_was)
{
    while (set.end < set.capacity || set.capacity == 0) {
        uint64_t seq = 2 * seqset_range_count(&set) + 1;
        cr_assert_eq(seqset_add(&set, seq, seq, NULL), STATUS_OK);
    }
    cr_expect_eq(sweep(add_many), OWN_ALLOCATOR);
    seqset_fini(&set);
}
