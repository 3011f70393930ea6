/* links: godwit_proto godwit_wire */
#include "proto/codec.h"
#include "proto/limits.h"
#include "test/lib/wire_inputs.h"

#include "godwit.pb-c.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* Replies and pulls, held against the generated code both ways. */

typedef Godwit__V1__Reply pb_reply;

enum { ROUNDS = 3000, COUNT = 12 };

static struct codec *codec;
static struct bytes buffer;
static struct inputs *in;

static void set_up(void)
{
    codec = codec_new();
    buffer = (struct bytes) { 0 };
    in = inputs_new(2);
}

static void tear_down(void)
{
    codec_free(codec);
    bytes_fini(&buffer);
    free(in);
}

TestSuite(codec_reply, .init = set_up, .fini = tear_down, .timeout = 60);

static struct slice content(void)
{
    return slice_of(bytes_begin(&buffer), bytes_len(&buffer));
}

static void expect_text(const char *generated, struct slice ours)
{
    cr_assert_eq(strlen(generated), ours.len);
    cr_assert(slice_is(ours, generated));
}

/* ---- made-up replies ---- */

/* A Message as the broker has it: here key and body of one length. */
static struct slice random_message(void)
{
    static struct bytes kept[COUNT];
    static size_t turn;
    struct bytes *to = &kept[turn++ % COUNT];
    struct wire_message m = { .key = input_name(in, 60),
                              .body = input_body(in),
                              .tag = input_name(in, 9),
                              .ttl_ms = input_below(in, 2) };

    bytes_consume(to, bytes_len(to));
    cr_assert_eq(codec_message_write(to, &m), STATUS_OK);
    return slice_of(bytes_begin(to), bytes_len(to));
}

static struct wire_delivery deliveries[COUNT];
static struct wire_settled_range settled[COUNT];

static size_t random_deliveries(void)
{
    size_t count = input_below(in, COUNT);

    for (size_t i = 0; i < count; i++) {
        uint32_t attempt = input_u32(in) % 5;
        deliveries[i] =
            (struct wire_delivery) { input_u64(in), attempt == 0 ? 1 : attempt,
                                     input_u64(in), random_message() };
    }
    return count;
}

static size_t random_settled(void)
{
    size_t count = input_below(in, COUNT);

    for (size_t i = 0; i < count; i++) {
        settled[i] = (struct wire_settled_range) {
            input_u64(in), input_u64(in),
            (enum settle_outcome)(1 + input_below(in, 3)), input_u64(in)
        };
    }
    return count;
}

static struct refusal random_refusal(void)
{
    struct refusal r;

    refuse(&r, (enum status)input_below(in, STATUS_COUNT), "body_len",
           "used up by %zu", input_below(in, 1000000));
    snprintf(r.scope, sizeof r.scope, "topic %zu", input_below(in, 1000000));
    r.used = input_u64(in);
    r.allowed = input_u64(in);
    r.retry_after_ms = input_u64(in);
    return r;
}

static struct wire_reply random_reply(enum reply_kind kind)
{
    struct wire_reply r = { .kind = kind, .id = input_u64(in) };

    switch (kind) {
    case REPLY_WELCOME:
        r.welcome = (struct wire_welcome) { input_name(in, 60), input_u64(in),
                                            input_u64(in) };
        break;
    case REPLY_CONFIRM:
        r.confirm =
            (struct wire_confirm) { r.id,          input_u64(in),
                                    input_u64(in), input_below(in, 2) == 1,
                                    input_u32(in), input_u32(in),
                                    input_u64(in) };
        break;
    case REPLY_REFUSED:
        r.refused.count = input_u64(in);
        r.refused.refusal = random_refusal();
        break;
    case REPLY_ATTACHED:
        r.attached = (struct wire_attached) { input_name(in, NAME_LEN_MAX),
                                              input_u64(in), input_u64(in) };
        break;
    case REPLY_DETACHED:
        r.detached.reason = input_name(in, 100);
        break;
    case REPLY_DELIVER:
        r.deliver.topic = input_name(in, NAME_LEN_MAX);
        r.deliver.count = random_deliveries();
        r.deliver.deliveries = deliveries;
        break;
    case REPLY_SETTLED:
        r.settled.topic = input_name(in, NAME_LEN_MAX);
        r.settled.count = random_settled();
        r.settled.ranges = settled;
        break;
    case REPLY_GAP:
        r.gap = (struct wire_gap) { input_name(in, NAME_LEN_MAX),
                                    { input_u64(in), input_u64(in) } };
        break;
    case REPLY_NOTICE:
        r.notice = (struct wire_notice) { input_name(in, NAME_LEN_MAX),
                                          { input_u64(in), input_u64(in) },
                                          input_u64(in) };
        break;
    case REPLY_PONG:
        break;
    }
    return r;
}

static enum status write_deliver(struct slice topic, size_t count)
{
    size_t sum = 0;
    enum status status;

    for (size_t i = 0; i < count; i++) {
        sum += codec_delivery_len(&deliveries[i]);
    }
    status = codec_deliver_begin(&buffer, topic, sum);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = codec_delivery_write(&buffer, &deliveries[i]);
    }
    return status;
}

static enum status write_reply(const struct wire_reply *r)
{
    switch (r->kind) {
    case REPLY_WELCOME:
        return codec_welcome_write(&buffer, r->id, &r->welcome);
    case REPLY_CONFIRM:
        return codec_confirm_write(&buffer, &r->confirm);
    case REPLY_REFUSED:
        return codec_refused_write(&buffer, r->id, r->refused.count,
                                   &r->refused.refusal);
    case REPLY_ATTACHED:
        return codec_attached_write(&buffer, r->id, &r->attached);
    case REPLY_DETACHED:
        return codec_detached_write(&buffer, r->id, r->detached.reason);
    case REPLY_DELIVER:
        return write_deliver(r->deliver.topic, r->deliver.count);
    case REPLY_SETTLED:
        return codec_settled_write(&buffer, r->id, r->settled.topic,
                                   r->settled.ranges, r->settled.count);
    case REPLY_GAP:
        return codec_gap_write(&buffer, r->gap.topic, r->gap.range);
    case REPLY_NOTICE:
        return codec_notice_write(&buffer, &r->notice);
    case REPLY_PONG:
        return codec_pong_write(&buffer, r->id);
    }
    return STATUS_INTERNAL;
}

/* ---- the same in the generated code's eyes ---- */

static void expect_refused(const Godwit__V1__Refused *g,
                           const struct wire_reply *r)
{
    const struct refusal *refusal = &r->refused.refusal;

    cr_assert_eq(g->id, r->id);
    cr_assert_eq(g->count, r->refused.count);
    cr_assert_eq(g->status, (uint32_t)refusal->status);
    cr_assert_str_eq(g->code, status_word(refusal->status));
    cr_assert_str_eq(g->limit, refusal->limit);
    cr_assert_str_eq(g->scope, refusal->scope);
    cr_assert_eq(g->used, refusal->used);
    cr_assert_eq(g->allowed, refusal->allowed);
    cr_assert_eq(g->retry_after_ms, refusal->retry_after_ms);
    cr_assert_str_eq(g->text, refusal->text);
}

static void expect_deliver(const Godwit__V1__Deliver *g,
                           const struct wire_delivery *ours, size_t count)
{
    cr_assert_eq(g->n_deliveries, count);
    for (size_t i = 0; i < count; i++) {
        const Godwit__V1__Delivery *d = g->deliveries[i];
        struct wire_message m;
        struct refusal refusal;

        cr_assert_eq(d->seq, ours[i].seq);
        cr_assert_eq(d->attempt == 0 ? 1 : d->attempt, ours[i].attempt);
        cr_assert_eq(d->time_us, ours[i].time_us);
        cr_assert_not_null(d->message);
        cr_assert_eq(codec_message_check(ours[i].message, &m, &refusal),
                     STATUS_OK);
        expect_text(d->message->key, m.key);
        expect_text(d->message->tag, m.tag);
        cr_assert_eq(d->message->ttl_ms, m.ttl_ms);
        cr_assert(slice_equal(
            slice_of(d->message->body.data, d->message->body.len), m.body));
    }
}

static void expect_settled(const Godwit__V1__Settled *g,
                           const struct wire_reply *r)
{
    cr_assert_eq(g->id, r->id);
    expect_text(g->topic, r->settled.topic);
    cr_assert_eq(g->n_ranges, r->settled.count);
    for (size_t i = 0; i < r->settled.count; i++) {
        cr_assert_eq(g->ranges[i]->first, r->settled.ranges[i].first);
        cr_assert_eq(g->ranges[i]->last, r->settled.ranges[i].last);
        cr_assert_eq((unsigned)g->ranges[i]->outcome,
                     (unsigned)r->settled.ranges[i].outcome);
        cr_assert_eq(g->ranges[i]->holder, r->settled.ranges[i].holder);
    }
}

static void expect_welcome(const Godwit__V1__Welcome *g,
                           const struct wire_reply *r)
{
    cr_assert_eq(g->id, r->id);
    expect_text(g->broker, r->welcome.broker);
    cr_assert_eq(g->body_len_max, r->welcome.body_len_max);
    cr_assert_eq(g->frame_len_max, r->welcome.frame_len_max);
}

static void expect_confirm(const Godwit__V1__Confirm *g,
                           const struct wire_reply *r)
{
    cr_assert_eq(g->id, r->id);
    cr_assert_eq(g->id, r->confirm.id);
    cr_assert_eq(g->count, r->confirm.count);
    cr_assert_eq(g->seq, r->confirm.seq);
    cr_assert_eq(g->duplicate, r->confirm.duplicate);
    cr_assert_eq(g->segment, r->confirm.segment);
    cr_assert_eq(g->offset, r->confirm.offset);
    cr_assert_eq(g->checksum, r->confirm.checksum);
}

static void expect_attached(const Godwit__V1__Attached *g,
                            const struct wire_reply *r)
{
    cr_assert_eq(g->id, r->id);
    expect_text(g->group, r->attached.group);
    cr_assert_eq(g->lease_ms, r->attached.lease_ms);
    cr_assert_eq(g->lease, r->attached.lease);
}

static void expect_same(const pb_reply *g, const struct wire_reply *r)
{
    cr_assert_eq((unsigned)g->kind_case, (unsigned)r->kind);
    switch (r->kind) {
    case REPLY_WELCOME:
        expect_welcome(g->welcome, r);
        return;
    case REPLY_CONFIRM:
        expect_confirm(g->confirm, r);
        return;
    case REPLY_REFUSED:
        expect_refused(g->refused, r);
        return;
    case REPLY_ATTACHED:
        expect_attached(g->attached, r);
        return;
    case REPLY_DETACHED:
        cr_assert_eq(g->detached->id, r->id);
        expect_text(g->detached->reason, r->detached.reason);
        return;
    case REPLY_DELIVER:
        expect_text(g->deliver->topic, r->deliver.topic);
        expect_deliver(g->deliver, r->deliver.deliveries, r->deliver.count);
        return;
    case REPLY_SETTLED:
        expect_settled(g->settled, r);
        return;
    case REPLY_GAP:
        expect_text(g->gap->topic, r->gap.topic);
        cr_assert_eq(g->gap->first, r->gap.range.first);
        cr_assert_eq(g->gap->last, r->gap.range.last);
        return;
    case REPLY_NOTICE:
        expect_text(g->notice->topic, r->notice.topic);
        cr_assert_eq(g->notice->first, r->notice.range.first);
        cr_assert_eq(g->notice->last, r->notice.range.last);
        cr_assert_eq(g->notice->ends_in_ms, r->notice.ends_in_ms);
        return;
    case REPLY_PONG:
        cr_assert_eq(g->pong->id, r->id);
        return;
    }
}

static void write_random(void)
{
    struct wire_reply r = random_reply(
        (enum reply_kind)(REPLY_WELCOME + input_below(in, REPLY_NOTICE)));

    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(write_reply(&r), STATUS_OK);
}

static void expect_read_as(const pb_reply *g, struct slice payload)
{
    struct wire_reply r;

    cr_assert_eq(codec_reply_read(codec, payload, &r), STATUS_OK);
    expect_same(g, &r);
}

/* Ours written, read by the generated code: what ours reads. Packed by it
 * again, the same bytes. */
Test(codec_reply, replies_are_what_the_generated_code_reads_and_writes)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct slice packed;
        pb_reply *g;
        uint8_t *at;

        write_random();
        g = godwit__v1__reply__unpack(NULL, content().len, content().at);
        cr_assert_not_null(g);
        at = malloc(godwit__v1__reply__get_packed_size(g));
        packed = slice_of(at, godwit__v1__reply__pack(g, at));
        expect_read_as(g, content());
        cr_assert(slice_equal(content(), packed), "kind %d", (int)g->kind_case);
        free(at);
        godwit__v1__reply__free_unpacked(g, NULL);
    }
}

/* What is written is what was meant, not only what is read again. */
Test(codec_reply, values_survive_the_way)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct wire_reply made = random_reply(
            (enum reply_kind)(REPLY_WELCOME + input_below(in, REPLY_NOTICE)));
        pb_reply *g;

        bytes_consume(&buffer, bytes_len(&buffer));
        cr_assert_eq(write_reply(&made), STATUS_OK);
        g = godwit__v1__reply__unpack(NULL, content().len, content().at);
        cr_assert_not_null(g);
        expect_same(g, &made);
        godwit__v1__reply__free_unpacked(g, NULL);
    }
}

Test(codec_reply, no_reply_cut_short_is_read)
{
    for (int i = 0; i < 60; i++) {
        write_random();
        for (size_t len = 0; len < content().len; len++) {
            struct wire_reply r;
            uint8_t *copy;

            if (len > 600 && content().len - len > 600 && len % 97 != 0) {
                continue;
            }
            copy = heap_copy(content().at, len);
            cr_assert_eq(codec_reply_read(codec, slice_of(copy, len), &r),
                         STATUS_INVALID, "%zu of %zu", len, content().len);
            free(copy);
        }
    }
}

static bool messages_are_sound(const struct wire_reply *r)
{
    struct refusal refusal;

    for (size_t i = 0; r->kind == REPLY_DELIVER && i < r->deliver.count; i++) {
        if (codec_message_check(r->deliver.deliveries[i].message, NULL,
                                &refusal)
            != STATUS_OK) {
            return false;
        }
    }
    return true;
}

Test(codec_reply, damaged_replies_are_refused_or_read_by_the_generated_code_too)
{
    size_t accepted = 0;

    for (int i = 0; i < ROUNDS * 5; i++) {
        struct wire_reply r;
        uint8_t *copy;

        if (i % 10 == 0) {
            write_random();
        }
        copy = heap_copy(content().at, content().len);
        copy[input_below(in, content().len < 60 ? content().len : 60)] =
            (uint8_t)input_next(in);
        if (codec_reply_read(codec, slice_of(copy, content().len), &r)
                == STATUS_OK
            && messages_are_sound(&r)) {
            pb_reply *g = godwit__v1__reply__unpack(NULL, content().len, copy);
            cr_assert_not_null(g);
            cr_assert_eq((unsigned)g->kind_case, (unsigned)r.kind);
            godwit__v1__reply__free_unpacked(g, NULL);
            accepted++;
        }
        free(copy);
    }
    cr_expect_gt(accepted, 100, "the test must see both");
    cr_expect_lt(accepted, ROUNDS * 5 - 100);
}

/* ---- by hand ---- */

static enum status read_reply(const char *bytes, size_t len,
                              struct wire_reply *r)
{
    uint8_t *copy = heap_copy(bytes, len);
    enum status status = codec_reply_read(codec, slice_of(copy, len), r);

    free(copy);
    return status;
}

#define READ(bytes, r) read_reply(bytes, sizeof(bytes) - 1, r)

Test(codec_reply, a_reply_has_exactly_one_kind)
{
    struct wire_reply r;

    cr_expect_eq(READ("", &r), STATUS_INVALID);
    cr_expect_eq(READ("\x4A\x02\x08\x07", &r), STATUS_OK);
    cr_expect_eq(r.kind, REPLY_PONG);
    cr_expect_eq(r.id, 7);
    cr_expect_eq(READ("\x4A\x02\x08\x07\x4A\x02\x08\x07", &r), STATUS_INVALID);
    cr_expect_eq(READ("\x48\x07", &r), STATUS_INVALID);
}

Test(codec_reply, one_of_a_newer_version_can_be_told_and_ignored)
{
    struct wire_reply r;

    cr_expect_eq(READ("\x72\x02\x08\x07", &r), STATUS_UNSUPPORTED);
    cr_expect_eq(READ("\x4A\x04\x78\x01\x08\x07", &r), STATUS_OK);
    cr_expect_eq(r.id, 7);
}

static void append(const char *bytes, size_t len)
{
    cr_assert_eq(bytes_append(&buffer, bytes, len), STATUS_OK);
}

/* Unknown fields inside the given tags, from the outermost; at most 8 KiB. */
static void nest_unknown(const char *tags, size_t count)
{
    size_t depth = strlen(tags);

    bytes_consume(&buffer, bytes_len(&buffer));
    for (size_t i = 0; i < depth; i++) {
        size_t len = 2 * count + 3 * (depth - 1 - i);
        char head[3] = { tags[i], (char)(len | 0x80), (char)(len >> 7) };

        append(head, sizeof head);
    }
    for (size_t i = 0; i < count; i++) {
        append("\x78\x01", 2);
    }
}

Test(codec_reply, unknown_fields_have_a_bound_at_each_depth)
{
    static const char *const places[] = {
        "\x0A", "\x12",     "\x1A", "\x22", "\x2A",
        "\x32", "\x32\x12", "\x3A", "\x42", "\x4A",
    };
    struct wire_reply r;

    for (size_t i = 0; i < COUNT_OF(places); i++) {
        nest_unknown(places[i], UNKNOWN_FIELD_COUNT_MAX);
        cr_expect_eq(codec_reply_read(codec, content(), &r), STATUS_OK,
                     "place %zu", i);
        nest_unknown(places[i], UNKNOWN_FIELD_COUNT_MAX + 1);
        cr_expect_eq(codec_reply_read(codec, content(), &r), STATUS_INVALID,
                     "place %zu", i);
    }
}

Test(codec_reply, unknown_fields_of_a_pull_have_a_bound_too)
{
    static const char *const places[] = { "", "\x1A", "\x1A\x12", "\x22" };
    struct wire_pulled p;

    for (size_t i = 0; i < COUNT_OF(places); i++) {
        nest_unknown(places[i], UNKNOWN_FIELD_COUNT_MAX);
        cr_expect_eq(codec_pulled_read(codec, content(), &p), STATUS_OK,
                     "place %zu", i);
        nest_unknown(places[i], UNKNOWN_FIELD_COUNT_MAX + 1);
        cr_expect_eq(codec_pulled_read(codec, content(), &p), STATUS_INVALID,
                     "place %zu", i);
    }
}

Test(codec_reply, gaps_of_one_pull_have_a_bound)
{
    struct wire_pulled p;

    for (size_t i = 0; i < REPLY_ITEM_COUNT_MAX; i++) {
        append("\x22\x00", 2);
    }
    cr_assert_eq(codec_pulled_read(codec, content(), &p), STATUS_OK);
    cr_expect_eq(p.gap_count, REPLY_ITEM_COUNT_MAX);
    append("\x22\x00", 2);
    cr_expect_eq(codec_pulled_read(codec, content(), &p), STATUS_INVALID);
}

Test(codec_reply, numbers_of_32_bits_have_no_more)
{
    struct wire_reply r;

    cr_expect_eq(READ("\x1A\x06\x18\xFF\xFF\xFF\xFF\x0F", &r), STATUS_OK);
    cr_expect_eq(READ("\x1A\x06\x18\xFF\xFF\xFF\xFF\x1F", &r), STATUS_INVALID);
    cr_expect_eq(READ("\x32\x08\x12\x06\x10\xFF\xFF\xFF\xFF\x1F", &r),
                 STATUS_OK);
    cr_expect_eq(r.deliver.deliveries[0].attempt, UINT32_MAX);
}

Test(codec_reply, a_name_over_its_bound_is_no_reply)
{
    struct wire_reply r;
    char topic[NAME_LEN_MAX + 1];

    memset(topic, 'a', sizeof topic);
    for (size_t len = NAME_LEN_MAX; len <= NAME_LEN_MAX + 1; len++) {
        enum status want = len > NAME_LEN_MAX ? STATUS_INVALID : STATUS_OK;

        bytes_consume(&buffer, bytes_len(&buffer));
        cr_assert_eq(write_deliver(slice_of(topic, len), 0), STATUS_OK);
        cr_expect_eq(codec_reply_read(codec, content(), &r), want);
        bytes_consume(&buffer, bytes_len(&buffer));
        cr_assert_eq(codec_gap_write(&buffer, slice_of(topic, len),
                                     (struct seq_range) { 1, 2 }),
                     STATUS_OK);
        cr_expect_eq(codec_reply_read(codec, content(), &r), want);
    }
}

Test(codec_reply, a_first_attempt_is_left_out_and_read_as_one)
{
    struct wire_delivery first = { .seq = 3, .attempt = 1, .time_us = 9 };
    struct wire_delivery again = { .seq = 3, .attempt = 2, .time_us = 9 };
    struct wire_reply r;

    cr_expect_eq(codec_delivery_len(&first) + 2, codec_delivery_len(&again));
    deliveries[0] = first;
    deliveries[1] = again;
    cr_assert_eq(write_deliver(slice_text("t"), 2), STATUS_OK);
    cr_assert_eq(codec_reply_read(codec, content(), &r), STATUS_OK);
    cr_assert_eq(r.deliver.count, 2);
    cr_expect_eq(r.deliver.deliveries[0].attempt, 1);
    cr_expect_eq(r.deliver.deliveries[1].attempt, 2);
}

Test(codec_reply, a_receipt_is_read_where_there_is_one)
{
    struct wire_reply r;

    cr_assert_eq(READ("\x12\x06\x08\x01\x10\x02\x18\x03", &r), STATUS_OK);
    cr_expect_eq(r.confirm.seq, 3);
    cr_expect_eq(r.confirm.segment, 0);
    cr_expect_eq(r.confirm.checksum, 0);
    cr_assert_eq(READ("\x12\x0F\x08\x01\x28\x04\x30\x05\x39"
                      "\x08\x07\x06\x05\x04\x03\x02\x81",
                      &r),
                 STATUS_OK);
    cr_expect_eq(r.confirm.segment, 4);
    cr_expect_eq(r.confirm.offset, 5);
    cr_expect_eq(r.confirm.checksum, 0x8102030405060708);
}

Test(codec_reply, a_receipt_that_is_none_is_refused)
{
    struct wire_reply r;

    /* a varint, cut off, over 32 bits */
    cr_expect_eq(READ("\x12\x04\x08\x01\x38\x01", &r), STATUS_INVALID);
    cr_expect_eq(READ("\x12\x0A\x08\x01\x39\x01\x02\x03\x04\x05\x06\x07", &r),
                 STATUS_INVALID);
    cr_expect_eq(READ("\x12\x08\x08\x01\x28\xFF\xFF\xFF\xFF\x0F", &r),
                 STATUS_OK);
    cr_expect_eq(READ("\x12\x08\x08\x01\x28\x80\x80\x80\x80\x10", &r),
                 STATUS_INVALID);
}

/* Found by fuzzing: the generated code merges the two. */
Test(codec_reply, a_delivery_with_two_messages_is_refused)
{
    struct wire_reply r;

    cr_expect_eq(READ("\x32\x04\x12\x02\x22\x00", &r), STATUS_OK);
    cr_expect_eq(READ("\x32\x06\x12\x04\x22\x00\x22\x00", &r), STATUS_INVALID);
}

Test(codec_reply, an_outcome_that_is_none_is_refused)
{
    struct wire_reply r;

    cr_expect_eq(READ("\x3A\x08\x1A\x06\x08\x01\x10\x01\x18\x03", &r),
                 STATUS_OK);
    cr_expect_eq(r.settled.ranges[0].outcome, OUTCOME_UNKNOWN);
    cr_expect_eq(READ("\x3A\x08\x1A\x06\x08\x01\x10\x01\x18\x04", &r),
                 STATUS_INVALID);
    cr_expect_eq(READ("\x3A\x06\x1A\x04\x08\x01\x10\x01", &r), STATUS_INVALID);
}

/* `count` deliveries of two bytes each. */
static enum status read_deliveries(size_t count, struct wire_reply *r)
{
    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(codec_deliver_begin(&buffer, slice_text("t"), count * 2),
                 STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(bytes_append(&buffer, "\x12\x00", 2), STATUS_OK);
    }
    return codec_reply_read(codec, content(), r);
}

Test(codec_reply, deliveries_of_one_reply_have_a_bound)
{
    struct wire_reply r;

    cr_assert_eq(read_deliveries(REPLY_ITEM_COUNT_MAX, &r), STATUS_OK);
    cr_expect_eq(r.deliver.count, REPLY_ITEM_COUNT_MAX);
    cr_expect_eq(read_deliveries(REPLY_ITEM_COUNT_MAX + 1, &r), STATUS_INVALID);
}

static enum status read_settled(size_t count, struct wire_reply *r)
{
    struct wire_settled_range *many = calloc(count, sizeof *many);
    enum status status;

    for (size_t i = 0; i < count; i++) {
        many[i] = (struct wire_settled_range) { i, i, OUTCOME_LATE, 4 };
    }
    bytes_consume(&buffer, bytes_len(&buffer));
    status = codec_settled_write(&buffer, 1, slice_text("t"), many, count);
    cr_assert_eq(status, STATUS_OK);
    free(many);
    return codec_reply_read(codec, content(), r);
}

Test(codec_reply, outcomes_of_one_reply_have_a_bound)
{
    struct wire_reply r;

    cr_assert_eq(read_settled(REPLY_ITEM_COUNT_MAX, &r), STATUS_OK);
    cr_expect_eq(r.settled.count, REPLY_ITEM_COUNT_MAX);
    cr_expect_eq(r.settled.ranges[9].first, 9);
    cr_expect_eq(r.settled.ranges[9].holder, 4);
    cr_expect_eq(read_settled(REPLY_ITEM_COUNT_MAX + 1, &r), STATUS_INVALID);
}

Test(codec_reply, a_refusal_quoting_rubbish_is_still_utf8)
{
    struct refusal refusal;
    struct wire_reply r;
    pb_reply *g;

    refuse(&refusal, STATUS_INVALID, "name", "no topic \xFF\xC3");
    snprintf(refusal.scope, sizeof refusal.scope, "topic \xE2\x82");
    cr_assert_eq(codec_refused_write(&buffer, 1, 1, &refusal), STATUS_OK);
    cr_assert_eq(codec_reply_read(codec, content(), &r), STATUS_OK);
    cr_expect_str_eq(r.refused.refusal.text, "no topic ??");
    cr_expect_str_eq(r.refused.refusal.scope, "topic ??");
    g = godwit__v1__reply__unpack(NULL, content().len, content().at);
    cr_assert_not_null(g);
    godwit__v1__reply__free_unpacked(g, NULL);
}

Test(codec_reply, a_refusal_longer_than_its_fields_is_cut_between_characters)
{
    Godwit__V1__Refused refused = GODWIT__V1__REFUSED__INIT;
    Godwit__V1__Reply reply = GODWIT__V1__REPLY__INIT;
    struct wire_reply r;
    char text[300];
    uint8_t packed[1000];

    for (size_t i = 0; i + 2 < sizeof text; i += 2) {
        memcpy(text + i, "\xC3\xA4", 3);
    }
    refused.status = 999;
    refused.limit = refused.scope = refused.text = text;
    reply.kind_case = GODWIT__V1__REPLY__KIND_REFUSED;
    reply.refused = &refused;
    cr_assert_eq(codec_reply_read(
                     codec,
                     slice_of(packed, godwit__v1__reply__pack(&reply, packed)),
                     &r),
                 STATUS_OK);
    cr_expect_eq(r.refused.refusal.status, STATUS_INTERNAL);
    cr_expect_eq(strlen(r.refused.refusal.limit), 62);
    cr_expect_eq(strlen(r.refused.refusal.scope), 158);
    cr_expect_eq(strlen(r.refused.refusal.text), 198);
}

Test(codec_reply, a_settled_alone_is_the_inside_of_its_reply)
{
    for (int i = 0; i < 200; i++) {
        struct wire_reply made = random_reply(REPLY_SETTLED);
        struct wire_reply r;
        Godwit__V1__Settled *g;

        bytes_consume(&buffer, bytes_len(&buffer));
        cr_assert_eq(
            codec_settled_body_write(&buffer, made.id, made.settled.topic,
                                     made.settled.ranges, made.settled.count),
            STATUS_OK);
        g = godwit__v1__settled__unpack(NULL, content().len, content().at);
        cr_assert_not_null(g);
        expect_settled(g, &made);
        cr_assert_eq(codec_settled_body_read(codec, content(), &r), STATUS_OK);
        cr_assert_eq(r.kind, REPLY_SETTLED);
        expect_settled(g, &r);
        godwit__v1__settled__free_unpacked(g, NULL);
    }
}

/* ---- pulled ---- */

static void expect_pulled(const Godwit__V1__Pulled *g,
                          const struct wire_pulled *p)
{
    size_t at = 0;

    cr_assert_eq(g->lease, p->lease);
    cr_assert_eq(g->lease_ms, p->lease_ms);
    for (size_t i = 0; i < g->n_deliver; i++) {
        size_t count = g->deliver[i]->n_deliveries;

        cr_assert_leq(at + count, p->count);
        expect_deliver(g->deliver[i], p->deliveries + at, count);
        for (size_t k = 0; k < count; k++) {
            expect_text(g->deliver[i]->topic, p->topics[at + k]);
        }
        at += count;
    }
    cr_assert_eq(at, p->count);
    cr_assert_eq(g->n_gaps, p->gap_count);
    for (size_t i = 0; i < g->n_gaps; i++) {
        expect_text(g->gaps[i]->topic, p->gaps[i].topic);
        cr_assert_eq(g->gaps[i]->first, p->gaps[i].range.first);
        cr_assert_eq(g->gaps[i]->last, p->gaps[i].range.last);
    }
}

static void write_pulled(void)
{
    size_t topics = input_below(in, 4);
    size_t gaps = input_below(in, 3);

    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(codec_pulled_begin(&buffer, input_u64(in), input_u64(in)),
                 STATUS_OK);
    for (size_t i = 0; i < topics; i++) {
        cr_assert_eq(codec_pulled_deliver(&buffer, slice_of(&"abcd"[i], 1),
                                          deliveries, random_deliveries()),
                     STATUS_OK);
    }
    for (size_t i = 0; i < gaps; i++) {
        struct seq_range range = { input_u64(in), input_u64(in) };
        cr_assert_eq(
            codec_pulled_gap(&buffer, input_name(in, NAME_LEN_MAX), range),
            STATUS_OK);
    }
}

Test(codec_reply, pulls_are_what_the_generated_code_reads)
{
    for (int i = 0; i < 300; i++) {
        Godwit__V1__Pulled *g;
        struct wire_pulled p;

        write_pulled();
        g = godwit__v1__pulled__unpack(NULL, content().len, content().at);
        cr_assert_not_null(g);
        cr_assert_eq(codec_pulled_read(codec, content(), &p), STATUS_OK);
        expect_pulled(g, &p);
        godwit__v1__pulled__free_unpacked(g, NULL);
    }
}

/* A pull cut between two fields is a shorter one; the generated code must agree
 * where that is. */
Test(codec_reply, a_pull_cut_short_is_refused_unless_between_two_fields)
{
    for (int i = 0; i < 20; i++) {
        write_pulled();
        for (size_t len = 0; len < content().len && len < 3000; len++) {
            uint8_t *copy = heap_copy(content().at, len);
            Godwit__V1__Pulled *g = godwit__v1__pulled__unpack(NULL, len, copy);
            struct wire_pulled p;

            cr_assert_eq(codec_pulled_read(codec, slice_of(copy, len), &p)
                             == STATUS_OK,
                         g != NULL, "%zu bytes", len);
            if (g != NULL) {
                godwit__v1__pulled__free_unpacked(g, NULL);
            }
            free(copy);
        }
    }
}

Test(codec_reply, an_empty_pull_is_a_pull)
{
    struct wire_pulled p;

    cr_assert_eq(codec_pulled_read(codec, slice_of(NULL, 0), &p), STATUS_OK);
    cr_expect_eq(p.count, 0);
    cr_expect_eq(p.gap_count, 0);
    cr_expect_eq(codec_pulled_read(codec, slice_text("\x0A\x01x"), &p),
                 STATUS_INVALID, "a lease that is bytes");
    cr_expect_eq(codec_pulled_read(codec, slice_text("\x18\x01"), &p),
                 STATUS_INVALID, "a deliver that is a number");
}

Test(codec_reply, outcomes_have_their_words)
{
    cr_expect_str_eq(outcome_word(OUTCOME_ACCEPTED), "accepted");
    cr_expect_str_eq(outcome_word(OUTCOME_LATE), "late");
    cr_expect_str_eq(outcome_word(OUTCOME_UNKNOWN), "unknown");
    cr_expect_str_eq(outcome_word((enum settle_outcome)9), "unknown");
}
