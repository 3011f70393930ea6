#include "proto/codec_impl.h"

#include "proto/limits.h"

#include <stdio.h>

/* ---- scratch and envelopes ---- */

struct codec *codec_new(void)
{
    return calloc(1, sizeof(struct codec));
}

void codec_free(struct codec *codec)
{
    if (codec == NULL) {
        return;
    }
    free(codec->messages.at);
    free(codec->ranges.at);
    free(codec->deliveries.at);
    free(codec->topics.at);
    free(codec->settled.at);
    free(codec->gaps.at);
    free(codec);
}

enum status scratch_room(struct scratch *s, size_t count, size_t item_len)
{
    size_t capacity = s->capacity == 0 ? 64 : s->capacity * 2;
    void *at;

    if (count < s->capacity) {
        return STATUS_OK;
    }
    at = realloc(s->at, capacity * item_len);
    if (at == NULL) {
        return STATUS_NOMEM;
    }
    s->at = at;
    s->capacity = capacity;
    return STATUS_OK;
}

enum status put_envelope(struct put *p, struct bytes *to, unsigned kind,
                         const struct pb_table *table, const void *from,
                         size_t extra_len)
{
    size_t len = pb_table_len(table, from) + extra_len;
    enum status status = put_begin(p, to, pb_nested_len(len));

    if (status == STATUS_OK) {
        p->at = pb_put_nested(p->at, kind, len);
        p->at = pb_table_put(p->at, table, from);
    }
    return status;
}

enum status write_flat(struct bytes *to, unsigned kind,
                       const struct pb_table *table, const void *from)
{
    struct put p;
    enum status status = put_envelope(&p, to, kind, table, from, 0);

    return status == STATUS_OK ? put_end(&p) : status;
}

enum status envelope_read(struct slice payload, const char *name,
                          unsigned kind_max, unsigned *kind,
                          struct slice *inner, struct refusal *refusal)
{
    struct pb_reader r = pb_reader_of(payload);
    struct pb_item item;

    *kind = 0;
    *inner = slice_of(NULL, 0);
    while (pb_next(&r, &item)) {
        if (item.number > kind_max) {
            if (!pb_skip(&r)) {
                break;
            }
        } else if (item.wire != PB_LEN) {
            return pb_refuse(refusal, name, "its kind is no message");
        } else if (*kind != 0) {
            return pb_refuse(refusal, name, "more than one kind in it");
        } else {
            *kind = item.number;
            *inner = item.slice;
        }
    }
    if (r.fault != NULL) {
        return pb_refuse(refusal, name, r.fault);
    }
    if (*kind == 0 && r.unknown > 0) {
        return refuse(refusal, STATUS_UNSUPPORTED, "kind",
                      "a %s of a kind that is not known here", name);
    }
    return *kind == 0 ? pb_refuse(refusal, name, "it is empty") : STATUS_OK;
}

/* ---- the flat parts of requests ---- */

#define AT(member) offsetof(struct wire_request, member)
#define NAME(number, member)                                                   \
    {                                                                          \
        number, PB_TEXT, AT(member), NAME_LEN_MAX, "name_len"                  \
    }

static const struct pb_field hello_fields[] = {
    { 1, PB_U64, AT(id), 0, "" },
    NAME(2, hello.app),
    { 3, PB_TEXT, AT(hello.secret), SECRET_LEN_MAX, "secret_len" },
    { 4, PB_U64, AT(hello.timestamp_ms), 0, "" },
    { 5, PB_TEXT, AT(hello.nonce), NONCE_LEN_MAX, "nonce_len" },
    { 6, PB_BYTES, AT(hello.signature), SIGNATURE_LEN_MAX, "signature_len" },
    { 7, PB_TEXT, AT(hello.client), CLIENT_LEN_MAX, "client_len" },
    { 8, PB_U64, AT(hello.producer), 0, "" },
};

static const struct pb_field publish_fields[] = {
    { 1, PB_U64, AT(id), 0, "" },
    NAME(2, publish.topic),
    { 3, PB_U64, AT(publish.producer_seq), 0, "" },
    { 5, PB_BOOL, AT(publish.atomic), 0, "" },
};

static const struct pb_field attach_fields[] = {
    { 1, PB_U64, AT(id), 0, "" },
    NAME(2, attach.group),
    { 3, PB_U64, AT(attach.credit_messages), 0, "" },
    { 4, PB_U64, AT(attach.credit_bytes), 0, "" },
};

static const struct pb_field detach_fields[] = {
    { 1, PB_U64, AT(id), 0, "" },
};

/* A settle's fields apart from its ranges, and the action still a number. */
struct settle_flat {
    uint64_t id;
    struct slice topic;
    uint64_t action;
    uint64_t delay_ms;
    struct slice reason;
    uint64_t lease;
};

static const struct pb_field settle_fields[] = {
    { 1, PB_U64, offsetof(struct settle_flat, id), 0, "" },
    { 2, PB_TEXT, offsetof(struct settle_flat, topic), NAME_LEN_MAX,
      "name_len" },
    { 3, PB_U64, offsetof(struct settle_flat, action), 0, "" },
    { 5, PB_U64, offsetof(struct settle_flat, delay_ms), 0, "" },
    { 6, PB_TEXT, offsetof(struct settle_flat, reason), REASON_LEN_MAX,
      "reason_len" },
    { 7, PB_U64, offsetof(struct settle_flat, lease), 0, "" },
};

static const struct pb_table hello_table = PB_TABLE("Hello", hello_fields);
static const struct pb_table publish_table =
    PB_TABLE("Publish", publish_fields);
static const struct pb_table attach_table = PB_TABLE("Attach", attach_fields);
static const struct pb_table detach_table = PB_TABLE("Detach", detach_fields);
static const struct pb_table settle_table = PB_TABLE("Settle", settle_fields);
static const struct pb_table ping_table = PB_TABLE("Ping", detach_fields);

enum { PUBLISH_MESSAGES = 4, SETTLE_RANGES = 4 };

/* ---- reading requests ---- */

static enum status refuse_count(struct refusal *refusal, const char *limit,
                                size_t allowed)
{
    refuse(refusal, STATUS_TOO_LARGE, limit,
           "more than %zu of them in one request", allowed);
    refusal->used = allowed + 1;
    refusal->allowed = allowed;
    return refusal->status;
}

static enum status refuse_memory(struct refusal *refusal)
{
    return refuse(refusal, STATUS_NOMEM, "memory", "out of memory");
}

static enum status add_message(struct codec *codec, struct slice message,
                               struct wire_publish *out,
                               struct refusal *refusal)
{
    if (out->count == PUBLISH_COUNT_MAX) {
        return refuse_count(refusal, "publish_count", PUBLISH_COUNT_MAX);
    }
    if (scratch_room(&codec->messages, out->count, sizeof message)
        != STATUS_OK) {
        return refuse_memory(refusal);
    }
    ((struct slice *)codec->messages.at)[out->count++] = message;
    return STATUS_OK;
}

static enum status read_publish(struct codec *codec, struct slice from,
                                struct wire_request *out,
                                struct refusal *refusal)
{
    struct pb_reader r = pb_reader_of(from);
    struct pb_item item;
    enum status status = STATUS_OK;

    while (status == STATUS_OK && pb_next(&r, &item)) {
        if (item.number == PUBLISH_MESSAGES) {
            status =
                item.wire == PB_LEN
                    ? add_message(codec, item.slice, &out->publish, refusal)
                    : pb_refuse(refusal, "Publish", "a field has a wrong type");
        } else if (!pb_table_take(&publish_table, &item, out, &status, refusal)
                   && !pb_skip(&r)) {
            break;
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (r.fault != NULL) {
        return pb_refuse(refusal, "Publish", r.fault);
    }
    if (out->publish.count == 0) {
        return refuse(refusal, STATUS_INVALID, "publish_count",
                      "a publish without a message");
    }
    out->publish.messages = codec->messages.at;
    return STATUS_OK;
}

static const struct pb_field range_fields[] = {
    { 1, PB_U64, offsetof(struct seq_range, first), 0, "" },
    { 2, PB_U64, offsetof(struct seq_range, last), 0, "" },
};
static const struct pb_table range_table = PB_TABLE("Range", range_fields);

/* The form that every encoder writes: both fields, in order, nothing else. */
static bool range_read_usual(struct slice from, struct seq_range *out)
{
    struct pb_reader r = pb_reader_of(from);

    return r.at < r.end && *r.at++ == (1 << 3 | PB_VARINT)
           && pb_varint(&r, &out->first) && r.at < r.end
           && *r.at++ == (2 << 3 | PB_VARINT) && pb_varint(&r, &out->last)
           && r.at == r.end;
}

/* One Range: first and last, or a longer form of them. */
static enum status range_read(struct slice from, struct seq_range *out,
                              struct refusal *refusal)
{
    if (range_read_usual(from, out)) {
        return STATUS_OK;
    }
    *out = (struct seq_range) { 0 };
    return pb_table_read(&range_table, from, out, refusal);
}

static enum status add_range(struct codec *codec, const struct pb_item *item,
                             struct wire_settle *out, struct refusal *refusal)
{
    struct seq_range range;
    enum status status;

    if (item->wire != PB_LEN) {
        return pb_refuse(refusal, "Settle", "a field has a wrong type");
    }
    if (out->count == RANGE_COUNT_MAX) {
        return refuse_count(refusal, "range_count", RANGE_COUNT_MAX);
    }
    if (scratch_room(&codec->ranges, out->count, sizeof range) != STATUS_OK) {
        return refuse_memory(refusal);
    }
    status = range_read(item->slice, &range, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    /* The largest number is no seq: whoever counts to last + 1 may. */
    if (range.first == 0 || range.last < range.first
        || range.last == UINT64_MAX) {
        return refuse(refusal, STATUS_INVALID, "range",
                      "a range must begin at 1 or above, not end before it "
                      "begins, and end below 2^64 - 1");
    }
    ((struct seq_range *)codec->ranges.at)[out->count++] = range;
    return STATUS_OK;
}

static enum status settle_finish(const struct settle_flat *flat,
                                 struct wire_settle *out,
                                 struct refusal *refusal)
{
    if (flat->action < SETTLE_ACK || flat->action > SETTLE_REJECT) {
        return refuse(
            refusal, STATUS_INVALID, "action",
            "a settle must be an ack, nack, release, extend or reject");
    }
    if (out->count == 0) {
        return refuse(refusal, STATUS_INVALID, "range_count",
                      "a settle without a range");
    }
    out->topic = flat->topic;
    out->action = (enum settle_action)flat->action;
    out->delay_ms = flat->delay_ms;
    out->reason = flat->reason;
    out->lease = flat->lease;
    return STATUS_OK;
}

static enum status read_settle(struct codec *codec, struct slice from,
                               struct wire_request *out,
                               struct refusal *refusal)
{
    struct pb_reader r = pb_reader_of(from);
    struct settle_flat flat = { 0 };
    struct pb_item item;
    enum status status = STATUS_OK;

    while (status == STATUS_OK && pb_next(&r, &item)) {
        if (item.number == SETTLE_RANGES) {
            status = add_range(codec, &item, &out->settle, refusal);
        } else if (!pb_table_take(&settle_table, &item, &flat, &status, refusal)
                   && !pb_skip(&r)) {
            break;
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (r.fault != NULL) {
        return pb_refuse(refusal, "Settle", r.fault);
    }
    out->id = flat.id;
    out->settle.ranges = codec->ranges.at;
    return settle_finish(&flat, &out->settle, refusal);
}

static enum status read_kind(struct codec *codec, struct slice from,
                             struct wire_request *out, struct refusal *refusal)
{
    switch (out->kind) {
    case REQUEST_HELLO:
        return pb_table_read(&hello_table, from, out, refusal);
    case REQUEST_PUBLISH:
        return read_publish(codec, from, out, refusal);
    case REQUEST_ATTACH:
        return pb_table_read(&attach_table, from, out, refusal);
    case REQUEST_DETACH:
        return pb_table_read(&detach_table, from, out, refusal);
    case REQUEST_SETTLE:
        return read_settle(codec, from, out, refusal);
    case REQUEST_PING:
        return pb_table_read(&ping_table, from, out, refusal);
    }
    return STATUS_INTERNAL;
}

/* Read the inside of a request; when it is refused, its kind and id are still
 * told, so that the refusal can be answered. */
static enum status read_as(struct codec *codec, enum request_kind kind,
                           struct slice from, struct wire_request *out,
                           struct refusal *refusal)
{
    enum status status;

    *out = (struct wire_request) { .kind = kind };
    status = read_kind(codec, from, out, refusal);
    if (status != STATUS_OK) {
        *out =
            (struct wire_request) { .kind = kind, .id = pb_find_u64(from, 1) };
    }
    return status;
}

enum status codec_request_read(struct codec *codec, struct slice payload,
                               struct wire_request *out,
                               struct refusal *refusal)
{
    struct slice inner;
    unsigned kind;
    enum status status;

    status =
        envelope_read(payload, "Request", REQUEST_PING, &kind, &inner, refusal);
    if (status != STATUS_OK) {
        *out = (struct wire_request) { 0 };
        return status;
    }
    return read_as(codec, (enum request_kind)kind, inner, out, refusal);
}

enum status codec_settle_body_read(struct codec *codec, struct slice payload,
                                   struct wire_request *out,
                                   struct refusal *refusal)
{
    return read_as(codec, REQUEST_SETTLE, payload, out, refusal);
}

/* ---- checking messages ---- */

enum {
    MESSAGE_KEY = 1,
    MESSAGE_HEADER = 2,
    MESSAGE_BODY = 3,
    MESSAGE_TAG = 4,
    MESSAGE_ID = 5,
    MESSAGE_DELAY = 6,
    MESSAGE_DELIVER_AT = 7,
    MESSAGE_TTL = 8
};
enum { HEADER_NAME = 1, HEADER_VALUE = 2 };

/* Nothing more than MESSAGE_LEN_MAX gets through the bounds on the parts, even
 * with each tag and length written as long as it can be. */
enum { PREFIX_LEN_MAX = PB_VARINT_LEN_MAX + PB_VARINT_LEN_MAX };
_Static_assert(8 * PREFIX_LEN_MAX + KEY_LEN_MAX + BODY_LEN_MAX + TAG_LEN_MAX
                       + MESSAGE_ID_LEN_MAX
                       + HEADER_COUNT_MAX
                             * (3 * PREFIX_LEN_MAX + HEADER_NAME_LEN_MAX
                                + HEADER_VALUE_LEN_MAX)
                   <= MESSAGE_LEN_MAX,
               "a message within its bounds fits a record");
_Static_assert(COUNT_OF(((struct wire_message *)0)->headers)
                   == HEADER_COUNT_MAX,
               "as many headers as allowed");

static enum status refuse_message(struct refusal *refusal, const char *fault)
{
    return pb_refuse(refusal, "Message", fault);
}

static enum status check_len(size_t used, size_t allowed, const char *limit,
                             struct refusal *refusal)
{
    if (used <= allowed) {
        return STATUS_OK;
    }
    refuse(refusal, STATUS_TOO_LARGE, limit,
           "a part of the message is larger than allowed");
    refusal->used = used;
    refusal->allowed = allowed;
    return refusal->status;
}

static enum status check_text(struct slice text, size_t allowed,
                              const char *limit, struct refusal *refusal)
{
    enum status status = check_len(text.len, allowed, limit, refusal);

    if (status == STATUS_OK && !pb_text_valid(text)) {
        return refuse_message(refusal,
                              "a key, header, tag or id is not UTF-8 or "
                              "holds a NUL");
    }
    return status;
}

static enum status read_header(struct slice from, struct wire_header *out,
                               struct refusal *refusal)
{
    struct pb_reader r = pb_reader_of(from);
    struct pb_item item;
    bool seen[HEADER_VALUE + 1] = { false };

    *out = (struct wire_header) { 0 };
    while (pb_next(&r, &item)) {
        if (item.number > HEADER_VALUE || item.wire != PB_LEN) {
            return refuse_message(refusal, "an unknown field in a header");
        }
        if (seen[item.number]) {
            return refuse_message(refusal, "a header has a part twice");
        }
        seen[item.number] = true;
        if (item.number == HEADER_NAME) {
            out->name = item.slice;
        } else {
            out->value = item.slice;
        }
    }
    if (r.fault != NULL) {
        return refuse_message(refusal, r.fault);
    }
    if (out->name.len == 0) {
        return refuse(refusal, STATUS_INVALID, "header_name",
                      "a header without a name");
    }
    return STATUS_OK;
}

static enum status add_header(struct slice from, struct wire_message *parts,
                              struct refusal *refusal)
{
    struct wire_header *header = &parts->headers[parts->header_count];
    enum status status;

    status = check_len(parts->header_count + 1, HEADER_COUNT_MAX,
                       "header_count", refusal);
    if (status != STATUS_OK) {
        return status;
    }
    status = read_header(from, header, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_text(header->name, HEADER_NAME_LEN_MAX, "header_name_len",
                        refusal);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < parts->header_count; i++) {
        if (slice_equal(parts->headers[i].name, header->name)) {
            refuse(refusal, STATUS_INVALID, "header_name",
                   "a header is there twice");
            snprintf(refusal->scope, sizeof refusal->scope, "header %.*s",
                     (int)header->name.len, (const char *)header->name.at);
            return refusal->status;
        }
    }
    parts->header_count++;
    return check_text(header->value, HEADER_VALUE_LEN_MAX, "header_value_len",
                      refusal);
}

/* A number of its own that must be within a bound; 0 is as if it were not
 * there. */
static enum status check_time(uint64_t used, uint64_t allowed,
                              const char *limit, struct refusal *refusal)
{
    if (used <= allowed) {
        return STATUS_OK;
    }
    refuse(refusal, STATUS_INVALID, limit,
           "%s of the message is beyond what is allowed", limit);
    refusal->used = used;
    refusal->allowed = allowed;
    return refusal->status;
}

static enum status take_time(const struct pb_item *item,
                             struct wire_message *parts,
                             struct refusal *refusal)
{
    switch (item->number) {
    case MESSAGE_DELAY:
        parts->delay_ms = item->value;
        return check_time(item->value, PUBLISH_DELAY_MS_MAX, "delay_ms",
                          refusal);
    case MESSAGE_DELIVER_AT:
        parts->deliver_at_ms = item->value;
        return check_time(item->value, DELIVER_AT_MS_MAX, "deliver_at_ms",
                          refusal);
    default:
        parts->ttl_ms = item->value;
        return check_time(item->value, TTL_MS_MAX, "ttl_ms", refusal);
    }
}

/* Bit `number` of *seen, which is set; false: it was there before. */
static bool is_first(unsigned *seen, uint32_t number)
{
    unsigned bit = 1U << number;
    bool first = (*seen & bit) == 0;

    *seen |= bit;
    return first;
}

static enum status refuse_twice(struct refusal *refusal)
{
    return refuse_message(refusal, "a part of it is there twice");
}

/* What few messages have: kept apart from the parts that most have. */
static enum status take_option(const struct pb_item *item, unsigned *seen,
                               struct wire_message *parts,
                               struct refusal *refusal)
{
    bool is_text = item->number <= MESSAGE_ID;

    if (item->number > MESSAGE_TTL
        || item->wire != (is_text ? PB_LEN : PB_VARINT)) {
        return refuse_message(refusal, "a field that is not known here");
    }
    if (!is_first(seen, item->number)) {
        return refuse_twice(refusal);
    }
    if (item->number == MESSAGE_TAG) {
        parts->tag = item->slice;
        return check_text(item->slice, TAG_LEN_MAX, "tag_len", refusal);
    }
    if (item->number == MESSAGE_ID) {
        parts->id = item->slice;
        return check_text(item->slice, MESSAGE_ID_LEN_MAX, "message_id_len",
                          refusal);
    }
    return take_time(item, parts, refusal);
}

static enum status take_part(const struct pb_item *item, unsigned *seen,
                             struct wire_message *parts,
                             struct refusal *refusal)
{
    if (item->number > MESSAGE_BODY) {
        return take_option(item, seen, parts, refusal);
    }
    if (item->wire != PB_LEN) {
        return refuse_message(refusal, "a field that is not known here");
    }
    if (item->number == MESSAGE_HEADER) {
        return add_header(item->slice, parts, refusal);
    }
    if (!is_first(seen, item->number)) {
        return refuse_twice(refusal);
    }
    if (item->number == MESSAGE_KEY) {
        parts->key = item->slice;
        return check_text(item->slice, KEY_LEN_MAX, "key_len", refusal);
    }
    parts->body = item->slice;
    return check_len(item->slice.len, BODY_LEN_MAX, "body_len", refusal);
}

static void begin_parts(struct wire_message *parts)
{
    const struct slice none = slice_of(NULL, 0);

    /* Not the headers, a kibibyte of them: they are filled as they come. */
    parts->key = parts->body = parts->tag = parts->id = none;
    parts->delay_ms = parts->deliver_at_ms = parts->ttl_ms = 0;
    parts->header_count = 0;
}

enum status codec_message_check(struct slice message, struct wire_message *out,
                                struct refusal *refusal)
{
    struct pb_reader r = pb_reader_of(message);
    struct wire_message unwanted;
    struct wire_message *parts = out == NULL ? &unwanted : out;
    unsigned seen = 0;
    struct pb_item item;

    begin_parts(parts);
    while (pb_next(&r, &item)) {
        enum status status = take_part(&item, &seen, parts, refusal);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return r.fault == NULL ? STATUS_OK : refuse_message(refusal, r.fault);
}

/* ---- writing requests ---- */

enum status codec_hello_write(struct bytes *to, uint64_t id,
                              const struct wire_hello *hello)
{
    struct wire_request request = { .id = id, .hello = *hello };

    return write_flat(to, REQUEST_HELLO, &hello_table, &request);
}

enum status codec_attach_write(struct bytes *to, uint64_t id,
                               const struct wire_attach *attach)
{
    struct wire_request request = { .id = id, .attach = *attach };

    return write_flat(to, REQUEST_ATTACH, &attach_table, &request);
}

enum status codec_detach_write(struct bytes *to, uint64_t id)
{
    struct wire_request request = { .id = id };

    return write_flat(to, REQUEST_DETACH, &detach_table, &request);
}

enum status codec_ping_write(struct bytes *to, uint64_t id)
{
    struct wire_request request = { .id = id };

    return write_flat(to, REQUEST_PING, &ping_table, &request);
}

enum status codec_publish_write(struct bytes *to, uint64_t id,
                                const struct wire_publish *publish)
{
    struct wire_request request = { .id = id, .publish = *publish };
    size_t messages_len = 0;
    enum status status;
    struct put p;

    for (size_t i = 0; i < publish->count; i++) {
        messages_len += pb_nested_len(publish->messages[i].len);
    }
    status = put_envelope(&p, to, REQUEST_PUBLISH, &publish_table, &request,
                          messages_len);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < publish->count; i++) {
        struct slice message = publish->messages[i];
        p.at = pb_put_nested(p.at, PUBLISH_MESSAGES, message.len);
        p.at = pb_put_raw(p.at, message);
    }
    return put_end(&p);
}

static struct settle_flat settle_flat_of(uint64_t id,
                                         const struct wire_settle *settle)
{
    return (struct settle_flat) {
        .id = id,
        .topic = settle->topic,
        .action = (uint64_t)settle->action,
        .delay_ms = settle->delay_ms,
        .reason = settle->reason,
        .lease = settle->lease,
    };
}

static size_t ranges_len(const struct wire_settle *settle)
{
    size_t len = 0;

    for (size_t i = 0; i < settle->count; i++) {
        len += pb_nested_len(pb_table_len(&range_table, &settle->ranges[i]));
    }
    return len;
}

static enum status put_ranges(struct put *p, const struct wire_settle *settle)
{
    for (size_t i = 0; i < settle->count; i++) {
        size_t len = pb_table_len(&range_table, &settle->ranges[i]);
        p->at = pb_put_nested(p->at, SETTLE_RANGES, len);
        p->at = pb_table_put(p->at, &range_table, &settle->ranges[i]);
    }
    return put_end(p);
}

enum status codec_settle_write(struct bytes *to, uint64_t id,
                               const struct wire_settle *settle)
{
    struct settle_flat flat = settle_flat_of(id, settle);
    struct put p;
    enum status status = put_envelope(&p, to, REQUEST_SETTLE, &settle_table,
                                      &flat, ranges_len(settle));

    return status == STATUS_OK ? put_ranges(&p, settle) : status;
}

enum status codec_settle_body_write(struct bytes *to, uint64_t id,
                                    const struct wire_settle *settle)
{
    struct settle_flat flat = settle_flat_of(id, settle);
    size_t len = pb_table_len(&settle_table, &flat) + ranges_len(settle);
    struct put p;
    enum status status = put_begin(&p, to, len);

    if (status != STATUS_OK) {
        return status;
    }
    p.at = pb_table_put(p.at, &settle_table, &flat);
    return put_ranges(&p, settle);
}

/* ---- writing messages ---- */

static size_t header_len(const struct wire_header *header)
{
    return pb_slice_len(header->name) + pb_slice_len(header->value);
}

size_t codec_message_len(const struct wire_message *message)
{
    size_t len = pb_slice_len(message->key) + pb_slice_len(message->body)
                 + pb_slice_len(message->tag) + pb_slice_len(message->id)
                 + pb_u64_len(message->delay_ms)
                 + pb_u64_len(message->deliver_at_ms)
                 + pb_u64_len(message->ttl_ms);

    for (size_t i = 0; i < message->header_count; i++) {
        len += pb_nested_len(header_len(&message->headers[i]));
    }
    return len;
}

enum status codec_message_write(struct bytes *to,
                                const struct wire_message *message)
{
    struct put p;
    enum status status = put_begin(&p, to, codec_message_len(message));

    if (status != STATUS_OK) {
        return status;
    }
    p.at = pb_put_slice(p.at, MESSAGE_KEY, message->key);
    for (size_t i = 0; i < message->header_count; i++) {
        const struct wire_header *header = &message->headers[i];
        p.at = pb_put_nested(p.at, MESSAGE_HEADER, header_len(header));
        p.at = pb_put_slice(p.at, HEADER_NAME, header->name);
        p.at = pb_put_slice(p.at, HEADER_VALUE, header->value);
    }
    p.at = pb_put_slice(p.at, MESSAGE_BODY, message->body);
    p.at = pb_put_slice(p.at, MESSAGE_TAG, message->tag);
    p.at = pb_put_slice(p.at, MESSAGE_ID, message->id);
    p.at = pb_put_u64(p.at, MESSAGE_DELAY, message->delay_ms);
    p.at = pb_put_u64(p.at, MESSAGE_DELIVER_AT, message->deliver_at_ms);
    p.at = pb_put_u64(p.at, MESSAGE_TTL, message->ttl_ms);
    return put_end(&p);
}
