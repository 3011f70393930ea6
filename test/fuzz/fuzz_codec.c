/* links: godwit_proto godwit_wire */
#include "proto/codec.h"

#include "godwit.pb-c.h"

#include <stdlib.h>

/* Anything at all as a request, reply, message, settle or pull. What ours
 * reads, the generated code must read, and what ours then writes, ours must
 * read again as the same bytes. */

static struct codec *codec;

static void expect(bool condition)
{
    if (!condition) {
        abort();
    }
}

static bool message_is_sound(struct slice message)
{
    struct refusal refusal;

    return codec_message_check(message, NULL, &refusal) == STATUS_OK;
}

static enum status write_request(struct bytes *to, const struct wire_request *r)
{
    switch (r->kind) {
    case REQUEST_HELLO:
        return codec_hello_write(to, r->id, &r->hello);
    case REQUEST_PUBLISH:
        return codec_publish_write(to, r->id, &r->publish);
    case REQUEST_ATTACH:
        return codec_attach_write(to, r->id, &r->attach);
    case REQUEST_DETACH:
        return codec_detach_write(to, r->id);
    case REQUEST_SETTLE:
        return codec_settle_write(to, r->id, &r->settle);
    case REQUEST_PING:
        return codec_ping_write(to, r->id);
    }
    return STATUS_INTERNAL;
}

static void expect_generated_reads_request(const struct wire_request *r,
                                           struct slice payload)
{
    Godwit__V1__Request *g;

    for (size_t i = 0; r->kind == REQUEST_PUBLISH && i < r->publish.count;
         i++) {
        if (!message_is_sound(r->publish.messages[i])) {
            return;
        }
    }
    g = godwit__v1__request__unpack(NULL, payload.len, payload.at);
    expect(g != NULL && (unsigned)g->kind_case == (unsigned)r->kind);
    godwit__v1__request__free_unpacked(g, NULL);
}

static void fuzz_request(struct slice payload)
{
    struct bytes once = { 0 };
    struct bytes twice = { 0 };
    struct wire_request r;
    struct refusal refusal;

    if (codec_request_read(codec, payload, &r, &refusal) != STATUS_OK) {
        expect(refusal.text[0] != '\0');
        return;
    }
    expect_generated_reads_request(&r, payload);
    expect(write_request(&once, &r) == STATUS_OK);
    expect(codec_request_read(codec,
                              slice_of(bytes_begin(&once), bytes_len(&once)),
                              &r, &refusal)
           == STATUS_OK);
    expect(write_request(&twice, &r) == STATUS_OK);
    expect(slice_equal(slice_of(bytes_begin(&once), bytes_len(&once)),
                       slice_of(bytes_begin(&twice), bytes_len(&twice))));
    bytes_fini(&once);
    bytes_fini(&twice);
}

static void fuzz_reply(struct slice payload)
{
    Godwit__V1__Reply *g;
    struct wire_reply r;

    if (codec_reply_read(codec, payload, &r) != STATUS_OK) {
        return;
    }
    for (size_t i = 0; r.kind == REPLY_DELIVER && i < r.deliver.count; i++) {
        if (!message_is_sound(r.deliver.deliveries[i].message)) {
            return;
        }
    }
    g = godwit__v1__reply__unpack(NULL, payload.len, payload.at);
    expect(g != NULL && (unsigned)g->kind_case == (unsigned)r.kind);
    godwit__v1__reply__free_unpacked(g, NULL);
}

static void fuzz_message(struct slice payload)
{
    struct bytes written = { 0 };
    struct wire_message m;
    struct refusal refusal;
    Godwit__V1__Message *g;

    if (codec_message_check(payload, &m, &refusal) != STATUS_OK) {
        expect(refusal.text[0] != '\0');
        return;
    }
    g = godwit__v1__message__unpack(NULL, payload.len, payload.at);
    expect(g != NULL && g->body.len == m.body.len
           && g->n_headers == m.header_count && slice_is(m.key, g->key)
           && slice_is(m.tag, g->tag) && slice_is(m.id, g->id)
           && g->delay_ms == m.delay_ms && g->deliver_at_ms == m.deliver_at_ms
           && g->ttl_ms == m.ttl_ms);
    godwit__v1__message__free_unpacked(g, NULL);
    expect(codec_message_write(&written, &m) == STATUS_OK);
    expect(bytes_len(&written) == codec_message_len(&m));
    expect(
        message_is_sound(slice_of(bytes_begin(&written), bytes_len(&written))));
    bytes_fini(&written);
}

static void fuzz_settle(struct slice payload)
{
    struct wire_request r;
    struct refusal refusal;

    if (codec_settle_body_read(codec, payload, &r, &refusal) == STATUS_OK) {
        Godwit__V1__Settle *g =
            godwit__v1__settle__unpack(NULL, payload.len, payload.at);
        expect(g != NULL && g->n_ranges == r.settle.count && g->id == r.id);
        godwit__v1__settle__free_unpacked(g, NULL);
    }
}

static void fuzz_settled(struct slice payload)
{
    struct wire_reply r;

    if (codec_settled_body_read(codec, payload, &r) == STATUS_OK) {
        Godwit__V1__Settled *g =
            godwit__v1__settled__unpack(NULL, payload.len, payload.at);
        expect(g != NULL && g->n_ranges == r.settled.count && g->id == r.id);
        godwit__v1__settled__free_unpacked(g, NULL);
    }
}

static void fuzz_pulled(struct slice payload)
{
    struct wire_pulled p;
    size_t total = 0;

    if (codec_pulled_read(codec, payload, &p) == STATUS_OK) {
        for (size_t i = 0; i < p.count; i++) {
            total += p.deliveries[i].message.len + p.topics[i].len;
        }
        expect(p.count == 0 || total <= payload.len * p.count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct slice payload;

    if (codec == NULL) {
        codec = codec_new();
    }
    if (len == 0) {
        return 0;
    }
    payload = slice_of(at + 1, len - 1);
    switch (at[0] % 6) {
    case 0:
        fuzz_request(payload);
        break;
    case 1:
        fuzz_reply(payload);
        break;
    case 2:
        fuzz_message(payload);
        break;
    case 3:
        fuzz_settle(payload);
        break;
    case 4:
        fuzz_settled(payload);
        break;
    default:
        fuzz_pulled(payload);
        break;
    }
    return 0;
}
