/* links: godwit_proto godwit_wire */
#include "proto/codec.h"
#include "proto/limits.h"
#include "test/lib/wire_inputs.h"

#include "godwit.pb-c.h"

#include <criterion/criterion.h>

/* Requests and messages, held against the generated code both ways. */

typedef Godwit__V1__Request pb_request;

enum { ROUNDS = 2000, COUNT = 12 };

static struct codec *codec;
static struct bytes buffer;
static struct inputs *in;
static struct refusal refusal;

static void set_up(void)
{
    codec = codec_new();
    buffer = (struct bytes) { 0 };
    in = inputs_new(1);
    refusal = (struct refusal) { 0 };
}

static void tear_down(void)
{
    codec_free(codec);
    bytes_fini(&buffer);
    free(in);
}

TestSuite(codec, .init = set_up, .fini = tear_down, .timeout = 60);

static struct slice content(void)
{
    return slice_of(bytes_begin(&buffer), bytes_len(&buffer));
}

static void expect_text(const char *generated, struct slice ours)
{
    cr_assert_eq(strlen(generated), ours.len);
    cr_assert(slice_is(ours, generated));
}

static void expect_bytes(ProtobufCBinaryData generated, struct slice ours)
{
    cr_assert(slice_equal(slice_of(generated.data, generated.len), ours));
}

/* ---- made-up requests ---- */

static struct slice random_message(void)
{
    static struct bytes kept[COUNT];
    static size_t turn;
    struct bytes *to = &kept[turn++ % COUNT];
    struct wire_message m = { .key = input_name(in, 60),
                              .body = input_body(in),
                              .header_count = input_below(in, 4) };

    for (size_t i = 0; i < m.header_count; i++) {
        m.headers[i].name = slice_of(&"abcd"[i], 1);
        m.headers[i].value = input_name(in, 200);
    }
    if (input_below(in, 3) == 0) {
        m.tag = input_name(in, TAG_LEN_MAX);
        m.id = input_name(in, MESSAGE_ID_LEN_MAX);
        m.delay_ms = input_u64(in) % (PUBLISH_DELAY_MS_MAX + 1);
        m.deliver_at_ms = input_u64(in) % (DELIVER_AT_MS_MAX + 1);
        m.ttl_ms = input_u64(in) % (TTL_MS_MAX + 1);
    }
    bytes_consume(to, bytes_len(to));
    cr_assert_eq(codec_message_write(to, &m), STATUS_OK);
    cr_assert_eq(bytes_len(to), codec_message_len(&m));
    return slice_of(bytes_begin(to), bytes_len(to));
}

static struct slice messages[COUNT];
static struct seq_range ranges[COUNT];

static struct wire_request random_request(enum request_kind kind)
{
    struct wire_request r = { .kind = kind, .id = input_u64(in) };

    if (kind == REQUEST_HELLO) {
        r.hello = (struct wire_hello) {
            input_name(in, NAME_LEN_MAX),
            input_name(in, SECRET_LEN_MAX),
            input_u64(in),
            input_name(in, NONCE_LEN_MAX),
            slice_of(in->pool + input_below(in, 999), input_below(in, 33)),
            input_name(in, CLIENT_LEN_MAX),
            input_u64(in),
        };
    } else if (kind == REQUEST_PUBLISH) {
        r.publish.topic = input_name(in, NAME_LEN_MAX);
        r.publish.producer_seq = input_u64(in);
        r.publish.atomic = input_below(in, 2) == 1;
        r.publish.count = 1 + input_below(in, COUNT);
        r.publish.messages = messages;
        for (size_t i = 0; i < r.publish.count; i++) {
            messages[i] = random_message();
        }
    } else if (kind == REQUEST_ATTACH) {
        r.attach = (struct wire_attach) { input_name(in, NAME_LEN_MAX),
                                          input_u64(in), input_u64(in) };
    } else if (kind == REQUEST_SETTLE) {
        r.settle = (struct wire_settle) {
            .topic = input_name(in, NAME_LEN_MAX),
            .action = (enum settle_action)(1 + input_below(in, SETTLE_REJECT)),
            .count = 1 + input_below(in, COUNT),
            .ranges = ranges,
            .delay_ms = input_below(in, (size_t)DELAY_MS_MAX + 1),
            .reason = input_name(in, REASON_LEN_MAX),
            .lease = input_u64(in),
        };
        for (size_t i = 0; i < r.settle.count; i++) {
            ranges[i].first = 1 + (input_u64(in) >> 1);
            ranges[i].last = ranges[i].first + (input_u64(in) >> 2);
        }
    }
    return r;
}

static enum status write_request(const struct wire_request *r)
{
    switch (r->kind) {
    case REQUEST_HELLO:
        return codec_hello_write(&buffer, r->id, &r->hello);
    case REQUEST_PUBLISH:
        return codec_publish_write(&buffer, r->id, &r->publish);
    case REQUEST_ATTACH:
        return codec_attach_write(&buffer, r->id, &r->attach);
    case REQUEST_DETACH:
        return codec_detach_write(&buffer, r->id);
    case REQUEST_SETTLE:
        return codec_settle_write(&buffer, r->id, &r->settle);
    case REQUEST_PING:
        return codec_ping_write(&buffer, r->id);
    }
    return STATUS_INTERNAL;
}

/* ---- the same in the generated code's eyes ---- */

static void expect_hello(const Godwit__V1__Hello *g, const struct wire_hello *h)
{
    expect_text(g->app, h->app);
    expect_text(g->secret, h->secret);
    cr_assert_eq(g->timestamp_ms, h->timestamp_ms);
    expect_text(g->nonce, h->nonce);
    expect_bytes(g->signature, h->signature);
    expect_text(g->client, h->client);
    cr_assert_eq(g->producer, h->producer);
}

static void expect_publish(const Godwit__V1__Publish *g,
                           const struct wire_publish *p)
{
    expect_text(g->topic, p->topic);
    cr_assert_eq(g->producer_seq, p->producer_seq);
    cr_assert_eq(g->atomic != 0, p->atomic);
    cr_assert_eq(g->n_messages, p->count);
    for (size_t i = 0; i < p->count; i++) {
        const Godwit__V1__Message *gm = g->messages[i];
        struct wire_message m;

        cr_assert_eq(codec_message_check(p->messages[i], &m, &refusal),
                     STATUS_OK, "%s", refusal.text);
        expect_text(gm->key, m.key);
        expect_bytes(gm->body, m.body);
        expect_text(gm->tag, m.tag);
        expect_text(gm->id, m.id);
        cr_assert_eq(gm->delay_ms, m.delay_ms);
        cr_assert_eq(gm->deliver_at_ms, m.deliver_at_ms);
        cr_assert_eq(gm->ttl_ms, m.ttl_ms);
        cr_assert_eq(gm->n_headers, m.header_count);
        for (size_t k = 0; k < m.header_count; k++) {
            expect_text(gm->headers[k]->name, m.headers[k].name);
            expect_text(gm->headers[k]->value, m.headers[k].value);
        }
    }
}

static void expect_settle(const Godwit__V1__Settle *g,
                          const struct wire_settle *s)
{
    expect_text(g->topic, s->topic);
    cr_assert_eq((unsigned)g->action, (unsigned)s->action);
    cr_assert_eq(g->delay_ms, s->delay_ms);
    expect_text(g->reason, s->reason);
    cr_assert_eq(g->lease, s->lease);
    cr_assert_eq(g->n_ranges, s->count);
    for (size_t i = 0; i < s->count; i++) {
        cr_assert_eq(g->ranges[i]->first, s->ranges[i].first);
        cr_assert_eq(g->ranges[i]->last, s->ranges[i].last);
    }
}

static void expect_same(const pb_request *g, const struct wire_request *r)
{
    cr_assert_eq((unsigned)g->kind_case, (unsigned)r->kind);
    switch (r->kind) {
    case REQUEST_HELLO:
        cr_assert_eq(g->hello->id, r->id);
        expect_hello(g->hello, &r->hello);
        return;
    case REQUEST_PUBLISH:
        cr_assert_eq(g->publish->id, r->id);
        expect_publish(g->publish, &r->publish);
        return;
    case REQUEST_ATTACH:
        cr_assert_eq(g->attach->id, r->id);
        expect_text(g->attach->group, r->attach.group);
        cr_assert_eq(g->attach->credit_messages, r->attach.credit_messages);
        cr_assert_eq(g->attach->credit_bytes, r->attach.credit_bytes);
        return;
    case REQUEST_DETACH:
        cr_assert_eq(g->detach->id, r->id);
        return;
    case REQUEST_SETTLE:
        cr_assert_eq(g->settle->id, r->id);
        expect_settle(g->settle, &r->settle);
        return;
    case REQUEST_PING:
        cr_assert_eq(g->ping->id, r->id);
        return;
    }
}

static void write_random(void)
{
    struct wire_request r = random_request(
        (enum request_kind)(REQUEST_HELLO + input_below(in, REQUEST_PING)));

    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(write_request(&r), STATUS_OK);
}

static void expect_read_as(const pb_request *g, struct slice payload)
{
    struct wire_request r;

    cr_assert_eq(codec_request_read(codec, payload, &r, &refusal), STATUS_OK,
                 "%s", refusal.text);
    expect_same(g, &r);
}

/* Ours written, read by the generated code: the values that ours reads. Packed
 * by it again: ours reads them once more, and they are the same bytes, but for
 * a Settle, whose ranges ours puts last, and an atomic Publish, whose messages
 * ours puts last. */
Test(codec, requests_are_what_the_generated_code_reads_and_writes)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct slice packed;
        pb_request *g;
        uint8_t *at;

        write_random();
        g = godwit__v1__request__unpack(NULL, content().len, content().at);
        cr_assert_not_null(g);
        at = malloc(godwit__v1__request__get_packed_size(g));
        packed = slice_of(at, godwit__v1__request__pack(g, at));
        expect_read_as(g, content());
        expect_read_as(g, packed);
        cr_assert_eq(packed.len, content().len);
        cr_assert(slice_equal(content(), packed)
                  || g->kind_case == GODWIT__V1__REQUEST__KIND_SETTLE
                  || (g->kind_case == GODWIT__V1__REQUEST__KIND_PUBLISH
                      && g->publish->atomic));
        free(at);
        godwit__v1__request__free_unpacked(g, NULL);
    }
}

Test(codec, no_request_cut_short_is_read)
{
    for (int i = 0; i < 60; i++) {
        write_random();
        for (size_t len = 0; len < content().len; len++) {
            uint8_t *copy;
            struct wire_request r;

            if (len > 600 && content().len - len > 600 && len % 97 != 0) {
                continue;
            }
            copy = heap_copy(content().at, len);
            cr_assert_eq(
                codec_request_read(codec, slice_of(copy, len), &r, &refusal),
                STATUS_INVALID, "%zu of %zu bytes", len, content().len);
            free(copy);
        }
    }
}

static bool accepts(struct slice payload, struct wire_request *r)
{
    refusal = (struct refusal) { 0 };
    if (codec_request_read(codec, payload, r, &refusal) != STATUS_OK) {
        return false;
    }
    for (size_t i = 0; r->kind == REQUEST_PUBLISH && i < r->publish.count;
         i++) {
        if (codec_message_check(r->publish.messages[i], NULL, &refusal)
            != STATUS_OK) {
            return false;
        }
    }
    return true;
}

/* Whatever ours accepts, the generated code accepts, and reads the same. (Not
 * the other way about: ours is stricter.) */
Test(codec, damaged_requests_are_refused_or_read_as_the_generated_code_does)
{
    size_t accepted = 0;

    for (int i = 0; i < ROUNDS * 5; i++) {
        struct slice damaged;
        struct wire_request r;
        uint8_t *copy;

        if (i % 10 == 0) {
            write_random();
        }
        copy = heap_copy(content().at, content().len);
        damaged = slice_of(copy, content().len);
        copy[input_below(in, damaged.len < 60 ? damaged.len : 60)] =
            (uint8_t)input_next(in);
        if (accepts(damaged, &r)) {
            pb_request *g =
                godwit__v1__request__unpack(NULL, damaged.len, copy);
            cr_assert_not_null(g);
            expect_same(g, &r);
            godwit__v1__request__free_unpacked(g, NULL);
            accepted++;
        } else {
            cr_assert_gt(strlen(refusal.text), 0);
        }
        free(copy);
    }
    cr_expect_gt(accepted, 100, "the test must see both");
    cr_expect_lt(accepted, ROUNDS * 5 - 100);
}

/* ---- requests by hand ---- */

static enum status read_request(const char *bytes, size_t len,
                                struct wire_request *r)
{
    uint8_t *copy = heap_copy(bytes, len);
    enum status status;

    refusal = (struct refusal) { 0 };
    status = codec_request_read(codec, slice_of(copy, len), r, &refusal);
    free(copy);
    return status;
}

#define READ(bytes, r) read_request(bytes, sizeof(bytes) - 1, r)

Test(codec, an_empty_request_is_refused)
{
    struct wire_request r;

    cr_expect_eq(READ("", &r), STATUS_INVALID);
    cr_expect_str_eq(refusal.limit, "encoding");
    cr_expect_str_eq(refusal.text, "not a valid Request: it is empty");
    cr_expect_eq(r.id, 0);
}

Test(codec, two_kinds_in_a_request_are_refused)
{
    struct wire_request r;

    cr_expect_eq(READ("\x32\x02\x08\x07\x22\x02\x08\x07", &r), STATUS_INVALID);
    cr_expect_not_null(strstr(refusal.text, "more than one kind"));
    cr_expect_eq(READ("\x32\x02\x08\x07\x32\x02\x08\x07", &r), STATUS_INVALID);
    cr_expect_eq(READ("\x32\x02\x08\x07", &r), STATUS_OK);
    cr_expect_eq(r.kind, REQUEST_PING);
    cr_expect_eq(r.id, 7);
}

Test(codec, a_kind_that_is_no_message_is_refused)
{
    struct wire_request r;

    cr_expect_eq(READ("\x30\x07", &r), STATUS_INVALID);
    cr_expect_eq(READ("\x33\x34", &r), STATUS_INVALID, "a group");
}

Test(codec, a_kind_of_a_newer_version_is_told_apart)
{
    struct wire_request r;

    cr_expect_eq(READ("\x72\x02\x08\x07", &r), STATUS_UNSUPPORTED);
    cr_expect_str_eq(refusal.limit, "kind");
}

Test(codec, fields_of_a_newer_version_are_skipped)
{
    struct wire_request r;

    /* in the Request: varint, fixed64, bytes, fixed32; in the Ping: bytes */
    cr_assert_eq(READ("\x78\x96\x01\x79\x01\x02\x03\x04\x05\x06\x07\x08"
                      "\x7A\x01x\x7D\x01\x02\x03\x04"
                      "\x32\x06\x7A\x02zz\x08\x07",
                      &r),
                 STATUS_OK, "%s", refusal.text);
    cr_expect_eq(r.kind, REQUEST_PING);
    cr_expect_eq(r.id, 7);
}

Test(codec, unknown_fields_have_a_bound)
{
    struct wire_request r;
    struct bytes inner = { 0 };

    for (size_t count = UNKNOWN_FIELD_COUNT_MAX;
         count <= UNKNOWN_FIELD_COUNT_MAX + 1; count++) {
        bytes_consume(&inner, bytes_len(&inner));
        for (size_t i = 0; i < count; i++) {
            cr_assert_eq(bytes_append(&inner, "\x78\x01", 2), STATUS_OK);
        }
        cr_assert_eq(bytes_append(&inner, "\x32\x02\x08\x07", 4), STATUS_OK);
        cr_expect_eq(
            read_request((char *)bytes_begin(&inner), bytes_len(&inner), &r),
            count > UNKNOWN_FIELD_COUNT_MAX ? STATUS_INVALID : STATUS_OK);
    }
    cr_expect_not_null(strstr(refusal.text, "too many unknown fields"));
    bytes_fini(&inner);
}

/* Unknown fields, then the rest, as field `number` of a request. */
static enum status read_with_unknown(unsigned number, size_t count,
                                     const char *rest, struct wire_request *r)
{
    size_t len = 2 * count + strlen(rest);
    uint8_t head[3] = { (uint8_t)(number << 3 | 2), (uint8_t)(len | 0x80),
                        (uint8_t)(len >> 7) };

    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(bytes_append(&buffer, head, sizeof head), STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(bytes_append(&buffer, "\x78\x01", 2), STATUS_OK);
    }
    cr_assert_eq(bytes_append(&buffer, rest, strlen(rest)), STATUS_OK);
    return codec_request_read(codec, content(), r, &refusal);
}

Test(codec, unknown_fields_have_a_bound_inside_each_kind_too)
{
    static const char *const rests[] = {
        [REQUEST_HELLO] = "\x08\x07",
        [REQUEST_PUBLISH] = "\x08\x07\x22\x03\x1A\x01x",
        [REQUEST_ATTACH] = "\x08\x07",
        [REQUEST_DETACH] = "\x08\x07",
        [REQUEST_SETTLE] = "\x08\x07\x18\x01\x22\x04\x08\x01\x10\x01",
        [REQUEST_PING] = "\x08\x07",
    };
    struct wire_request r;

    for (unsigned kind = REQUEST_HELLO; kind <= REQUEST_PING; kind++) {
        cr_expect_eq(
            read_with_unknown(kind, UNKNOWN_FIELD_COUNT_MAX, rests[kind], &r),
            STATUS_OK, "kind %u: %s", kind, refusal.text);
        cr_expect_eq(r.id, 7);
        cr_expect_eq(read_with_unknown(kind, UNKNOWN_FIELD_COUNT_MAX + 1,
                                       rests[kind], &r),
                     STATUS_INVALID, "kind %u", kind);
        cr_expect_not_null(strstr(refusal.text, "too many unknown fields"));
        cr_expect_eq(r.id, 7, "the id is told all the same");
    }
}

Test(codec, of_a_scalar_twice_the_last_is_taken)
{
    struct wire_request r;

    cr_assert_eq(READ("\x32\x04\x08\x07\x08\x09", &r), STATUS_OK);
    cr_expect_eq(r.id, 9);
}

Test(codec, numbers_have_64_bits_and_not_one_more)
{
    struct wire_request r;

    cr_assert_eq(
        READ("\x32\x0B\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", &r),
        STATUS_OK);
    cr_expect_eq(r.id, UINT64_MAX);
    cr_expect_eq(
        READ("\x32\x0B\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", &r),
        STATUS_INVALID);
    cr_expect_eq(READ("\x32\x0C\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x81"
                      "\x00",
                      &r),
                 STATUS_INVALID);
    cr_expect_eq(READ("\x32\x02\x00\x07", &r), STATUS_INVALID, "field 0");
    cr_expect_eq(READ("\x32\x07\x80\x80\x80\x80\x80\x01\x07", &r),
                 STATUS_INVALID, "a field number past 29 bits");
    cr_expect_eq(READ("\x32\x06\x88\x80\x80\x80\x00\x07", &r), STATUS_OK);
    cr_expect_eq(READ("\x32\x07\x88\x80\x80\x80\x80\x00\x07", &r),
                 STATUS_INVALID, "a tag of six bytes");
}

Test(codec, a_wrong_type_is_refused_and_the_id_told)
{
    struct wire_request r;

    cr_expect_eq(READ("\x1A\x04\x10\x07\x08\x09", &r), STATUS_INVALID);
    cr_expect_eq(r.id, 9, "the id stands behind the fault");
    cr_expect_eq(r.kind, REQUEST_ATTACH);
    cr_expect_eq(READ("\x32\x03\x0A\x01\x07", &r), STATUS_INVALID);
    cr_expect_eq(READ("\x12\x04\x20\x07\x08\x09", &r), STATUS_INVALID,
                 "a message that is a number");
    cr_expect_eq(READ("\x2A\x04\x20\x07\x08\x09", &r), STATUS_INVALID,
                 "a range that is a number");
    cr_expect_eq(r.id, 9);
}

Test(codec, strings_are_utf8_without_nul)
{
    struct wire_request r;

    cr_expect_eq(READ("\x1A\x03\x12\x01z", &r), STATUS_OK);
    cr_expect_eq(READ("\x1A\x03\x12\x01\xFF", &r), STATUS_INVALID);
    cr_expect_eq(READ("\x1A\x04\x12\x02z\x00", &r), STATUS_INVALID);
    cr_expect_not_null(strstr(refusal.text, "UTF-8"));
}

/* ---- bounds of requests ---- */

static enum status read_back(struct wire_request *r)
{
    refusal = (struct refusal) { 0 };
    return codec_request_read(codec, content(), r, &refusal);
}

static void expect_limit(enum status status, const char *limit, uint64_t used,
                         uint64_t allowed)
{
    cr_assert_eq(status, STATUS_TOO_LARGE);
    cr_expect_eq(refusal.status, STATUS_TOO_LARGE);
    cr_expect_str_eq(refusal.limit, limit);
    cr_expect_eq(refusal.used, used);
    cr_expect_eq(refusal.allowed, allowed);
    cr_expect_gt(strlen(refusal.text), 0);
}

static void expect_hello_bound(struct slice *field, struct wire_hello *hello,
                               size_t allowed, const char *limit)
{
    struct wire_request r;

    *field = slice_of(in->names, allowed);
    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(codec_hello_write(&buffer, 3, hello), STATUS_OK);
    cr_expect_eq(read_back(&r), STATUS_OK, "%s", limit);
    field->len++;
    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(codec_hello_write(&buffer, 3, hello), STATUS_OK);
    expect_limit(read_back(&r), limit, allowed + 1, allowed);
    cr_expect_eq(r.id, 3);
    *field = slice_of(NULL, 0);
}

Test(codec, texts_of_a_hello_have_bounds)
{
    struct wire_hello h = { 0 };

    expect_hello_bound(&h.app, &h, NAME_LEN_MAX, "name_len");
    expect_hello_bound(&h.secret, &h, SECRET_LEN_MAX, "secret_len");
    expect_hello_bound(&h.nonce, &h, NONCE_LEN_MAX, "nonce_len");
    expect_hello_bound(&h.signature, &h, SIGNATURE_LEN_MAX, "signature_len");
    expect_hello_bound(&h.client, &h, CLIENT_LEN_MAX, "client_len");
}

static enum status publish_count(size_t count, struct wire_request *r)
{
    struct slice *many = calloc(count + 1, sizeof *many);
    struct wire_publish p = { .topic = slice_text("t"),
                              .messages = many,
                              .count = count };

    for (size_t i = 0; i < count; i++) {
        many[i] = slice_text("\x1A\x01x");
    }
    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(codec_publish_write(&buffer, 5, &p), STATUS_OK);
    free(many);
    return read_back(r);
}

Test(codec, messages_of_a_publish_have_a_bound)
{
    struct wire_request r;

    cr_assert_eq(publish_count(PUBLISH_COUNT_MAX, &r), STATUS_OK);
    cr_expect_eq(r.publish.count, PUBLISH_COUNT_MAX);
    cr_expect(slice_is(r.publish.messages[PUBLISH_COUNT_MAX - 1], "\x1A\x01x"));
    expect_limit(publish_count(PUBLISH_COUNT_MAX + 1, &r), "publish_count",
                 PUBLISH_COUNT_MAX + 1, PUBLISH_COUNT_MAX);
    cr_expect_eq(r.id, 5);
    cr_expect_eq(publish_count(0, &r), STATUS_INVALID);
    cr_expect_str_eq(refusal.limit, "publish_count");
}

static enum status settle_with(struct wire_settle s, struct wire_request *r)
{
    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(codec_settle_write(&buffer, 6, &s), STATUS_OK);
    return read_back(r);
}

static enum status settle_count(size_t count, struct wire_request *r)
{
    struct seq_range *many = calloc(count + 1, sizeof *many);
    enum status status;

    for (size_t i = 0; i < count; i++) {
        many[i] = (struct seq_range) { 2 * i + 1, 2 * i + 1 };
    }
    status = settle_with((struct wire_settle) { .action = SETTLE_ACK,
                                                .ranges = many,
                                                .count = count },
                         r);
    free(many);
    return status;
}

Test(codec, ranges_of_a_settle_have_a_bound)
{
    struct wire_request r;

    cr_assert_eq(settle_count(RANGE_COUNT_MAX, &r), STATUS_OK);
    cr_expect_eq(r.settle.count, RANGE_COUNT_MAX);
    cr_expect_eq(r.settle.ranges[RANGE_COUNT_MAX - 1].last,
                 2 * RANGE_COUNT_MAX - 1);
    expect_limit(settle_count(RANGE_COUNT_MAX + 1, &r), "range_count",
                 RANGE_COUNT_MAX + 1, RANGE_COUNT_MAX);
    cr_expect_eq(r.id, 6);
    cr_expect_eq(settle_count(0, &r), STATUS_INVALID);
    cr_expect_str_eq(refusal.limit, "range_count");
}

Test(codec, a_settle_must_make_sense)
{
    struct seq_range one = { 1, 1 };
    struct seq_range zero = { 0, 4 };
    struct seq_range back = { 5, 4 };
    struct seq_range wide = { 1, UINT64_MAX - 1 };
    struct seq_range wider = { 1, UINT64_MAX };
    struct wire_settle s = { .action = SETTLE_NACK,
                             .ranges = &one,
                             .count = 1 };
    struct wire_request r;

    cr_expect_eq(settle_with(s, &r), STATUS_OK);
    s.delay_ms = UINT64_MAX; /* its bound is the session's, for both doors */
    cr_expect_eq(settle_with(s, &r), STATUS_OK);
    cr_expect_eq(r.settle.delay_ms, UINT64_MAX);
    s.delay_ms = 0;
    s.ranges = &zero;
    cr_expect_eq(settle_with(s, &r), STATUS_INVALID);
    cr_expect_str_eq(refusal.limit, "range");
    s.ranges = &back;
    cr_expect_eq(settle_with(s, &r), STATUS_INVALID);
    s.ranges = &wide;
    cr_expect_eq(settle_with(s, &r), STATUS_OK);
    s.ranges = &wider;
    cr_expect_eq(settle_with(s, &r), STATUS_INVALID);
    s.ranges = &one;
    s.action = (enum settle_action)0;
    cr_expect_eq(settle_with(s, &r), STATUS_INVALID);
    cr_expect_str_eq(refusal.limit, "action");
    s.action = (enum settle_action)(SETTLE_REJECT + 1);
    cr_expect_eq(settle_with(s, &r), STATUS_INVALID);
}

Test(codec, a_range_in_an_unusual_form_is_read_too)
{
    struct wire_request r;

    /* last before first, an unknown field between */
    cr_assert_eq(READ("\x2A\x0A\x18\x01\x22\x06\x10\x09\x78\x01\x08\x03", &r),
                 STATUS_OK, "%s", refusal.text);
    cr_assert_eq(r.settle.count, 1);
    cr_expect_eq(r.settle.ranges[0].first, 3);
    cr_expect_eq(r.settle.ranges[0].last, 9);
    cr_expect_eq(READ("\x2A\x06\x18\x01\x22\x02\x08\x03", &r), STATUS_INVALID,
                 "no last");
    cr_expect_eq(READ("\x2A\x07\x18\x01\x22\x03\x08\x03\x10", &r),
                 STATUS_INVALID, "last cut off");
}

Test(codec, a_settle_alone_is_the_inside_of_its_request)
{
    for (int i = 0; i < 200; i++) {
        struct wire_request made = random_request(REQUEST_SETTLE);
        struct wire_request r;
        Godwit__V1__Settle *g;

        bytes_consume(&buffer, bytes_len(&buffer));
        cr_assert_eq(codec_settle_body_write(&buffer, made.id, &made.settle),
                     STATUS_OK);
        g = godwit__v1__settle__unpack(NULL, content().len, content().at);
        cr_assert_not_null(g);
        cr_assert_eq(codec_settle_body_read(codec, content(), &r, &refusal),
                     STATUS_OK);
        cr_assert_eq(r.id, made.id);
        cr_assert_eq(r.kind, REQUEST_SETTLE);
        expect_settle(g, &r.settle);
        godwit__v1__settle__free_unpacked(g, NULL);
    }
}

Test(codec, bodies_are_not_copied)
{
    struct slice message = slice_text("\x1A\x05hello");
    struct wire_publish p = { .topic = slice_text("t"),
                              .messages = &message,
                              .count = 1 };
    struct wire_message parts;
    struct wire_request r;

    cr_assert_eq(codec_publish_write(&buffer, 1, &p), STATUS_OK);
    cr_assert_eq(read_back(&r), STATUS_OK);
    cr_assert_eq(codec_message_check(r.publish.messages[0], &parts, &refusal),
                 STATUS_OK);
    cr_expect(parts.body.at >= content().at
              && parts.body.at + 5 <= content().at + content().len);
}

/* ---- messages: more in test_codec_message.c ---- */

Test(codec, the_parts_of_a_message_come_back)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct slice message = random_message();
        struct wire_message parts;
        struct bytes again = { 0 };

        cr_assert_eq(codec_message_check(message, &parts, &refusal), STATUS_OK);
        cr_assert_eq(codec_message_write(&again, &parts), STATUS_OK);
        cr_assert(slice_equal(
            message, slice_of(bytes_begin(&again), bytes_len(&again))));
        bytes_fini(&again);
    }
}
