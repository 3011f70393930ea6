#include "proto/codec_impl.h"

#include "proto/limits.h"
#include "proto/utf8.h"

#include <stdio.h>

/* ---- the flat replies ---- */

#define AT(member) offsetof(struct wire_reply, member)
#define ID                                                                     \
    {                                                                          \
        1, PB_U64, AT(id), 0, ""                                               \
    }
#define NAME_AT(number, offset)                                                \
    {                                                                          \
        number, PB_TEXT, offset, NAME_LEN_MAX, "name_len"                      \
    }

static const struct pb_field welcome_fields[] = {
    ID,
    { 2, PB_TEXT, AT(welcome.broker), 0, "" },
    { 4, PB_U64, AT(welcome.body_len_max), 0, "" },
    { 5, PB_U64, AT(welcome.frame_len_max), 0, "" },
};

static const struct pb_field confirm_fields[] = {
    { 1, PB_U64, offsetof(struct wire_confirm, id), 0, "" },
    { 2, PB_U64, offsetof(struct wire_confirm, count), 0, "" },
    { 3, PB_U64, offsetof(struct wire_confirm, seq), 0, "" },
    { 4, PB_BOOL, offsetof(struct wire_confirm, duplicate), 0, "" },
    { 5, PB_U32, offsetof(struct wire_confirm, segment), 0, "" },
    { 6, PB_U32, offsetof(struct wire_confirm, offset), 0, "" },
    { 7, PB_F64, offsetof(struct wire_confirm, checksum), 0, "" },
};

/* A refusal as it is on the wire. */
struct refused_flat {
    uint64_t id;
    uint64_t count;
    uint32_t status;
    struct slice code;
    struct slice limit;
    struct slice scope;
    uint64_t used;
    uint64_t allowed;
    uint64_t retry_after_ms;
    struct slice text;
};

#define OF(member) offsetof(struct refused_flat, member)
static const struct pb_field refused_fields[] = {
    { 1, PB_U64, OF(id), 0, "" },
    { 2, PB_U64, OF(count), 0, "" },
    { 3, PB_U32, OF(status), 0, "" },
    { 4, PB_TEXT, OF(code), 0, "" },
    { 5, PB_TEXT, OF(limit), 0, "" },
    { 6, PB_TEXT, OF(scope), 0, "" },
    { 7, PB_U64, OF(used), 0, "" },
    { 8, PB_U64, OF(allowed), 0, "" },
    { 9, PB_U64, OF(retry_after_ms), 0, "" },
    { 10, PB_TEXT, OF(text), 0, "" },
};

static const struct pb_field attached_fields[] = {
    ID,
    NAME_AT(2, AT(attached.group)),
    { 3, PB_U64, AT(attached.lease_ms), 0, "" },
    { 4, PB_U64, AT(attached.lease), 0, "" },
};

static const struct pb_field detached_fields[] = {
    ID,
    { 2, PB_TEXT, AT(detached.reason), 0, "" },
};

static const struct pb_field gap_fields[] = {
    NAME_AT(1, offsetof(struct wire_gap, topic)),
    { 2, PB_U64, offsetof(struct wire_gap, range.first), 0, "" },
    { 3, PB_U64, offsetof(struct wire_gap, range.last), 0, "" },
};

static const struct pb_field pong_fields[] = { ID };

static const struct pb_field notice_fields[] = {
    NAME_AT(1, offsetof(struct wire_notice, topic)),
    { 2, PB_U64, offsetof(struct wire_notice, range.first), 0, "" },
    { 3, PB_U64, offsetof(struct wire_notice, range.last), 0, "" },
    { 4, PB_U64, offsetof(struct wire_notice, ends_in_ms), 0, "" },
};

static const struct pb_field settled_fields[] = {
    ID,
    NAME_AT(2, AT(settled.topic)),
};

/* The outcome still as a number. */
struct settled_flat {
    uint64_t first;
    uint64_t last;
    uint64_t outcome;
    uint64_t holder;
};

static const struct pb_field settled_range_fields[] = {
    { 1, PB_U64, offsetof(struct settled_flat, first), 0, "" },
    { 2, PB_U64, offsetof(struct settled_flat, last), 0, "" },
    { 3, PB_U64, offsetof(struct settled_flat, outcome), 0, "" },
    { 4, PB_U64, offsetof(struct settled_flat, holder), 0, "" },
};

static const struct pb_table welcome_table =
    PB_TABLE("Welcome", welcome_fields);
static const struct pb_table confirm_table =
    PB_TABLE("Confirm", confirm_fields);
static const struct pb_table refused_table =
    PB_TABLE("Refused", refused_fields);
static const struct pb_table attached_table =
    PB_TABLE("Attached", attached_fields);
static const struct pb_table detached_table =
    PB_TABLE("Detached", detached_fields);
static const struct pb_table gap_table = PB_TABLE("Gap", gap_fields);
static const struct pb_table pong_table = PB_TABLE("Pong", pong_fields);
static const struct pb_table notice_table = PB_TABLE("Notice", notice_fields);
static const struct pb_table settled_table =
    PB_TABLE("Settled", settled_fields);
static const struct pb_table settled_range_table =
    PB_TABLE("SettledRange", settled_range_fields);

enum { SETTLED_RANGES = 3 };
enum { DELIVER_TOPIC = 1, DELIVER_DELIVERIES = 2 };
enum {
    DELIVERY_SEQ = 1,
    DELIVERY_ATTEMPT = 2,
    DELIVERY_TIME = 3,
    DELIVERY_MESSAGE = 4
};
enum {
    PULLED_LEASE = 1,
    PULLED_LEASE_MS = 2,
    PULLED_DELIVER = 3,
    PULLED_GAP = 4
};

/* ---- writing flat replies ---- */

enum status codec_welcome_write(struct bytes *to, uint64_t id,
                                const struct wire_welcome *welcome)
{
    struct wire_reply reply = { .id = id, .welcome = *welcome };

    return write_flat(to, REPLY_WELCOME, &welcome_table, &reply);
}

enum status codec_confirm_write(struct bytes *to,
                                const struct wire_confirm *confirm)
{
    return write_flat(to, REPLY_CONFIRM, &confirm_table, confirm);
}

enum status codec_attached_write(struct bytes *to, uint64_t id,
                                 const struct wire_attached *attached)
{
    struct wire_reply reply = { .id = id, .attached = *attached };

    return write_flat(to, REPLY_ATTACHED, &attached_table, &reply);
}

enum status codec_detached_write(struct bytes *to, uint64_t id,
                                 struct slice reason)
{
    struct wire_reply reply = { .id = id, .detached = { reason } };

    return write_flat(to, REPLY_DETACHED, &detached_table, &reply);
}

enum status codec_gap_write(struct bytes *to, struct slice topic,
                            struct seq_range range)
{
    struct wire_gap gap = { topic, range };

    return write_flat(to, REPLY_GAP, &gap_table, &gap);
}

enum status codec_pong_write(struct bytes *to, uint64_t id)
{
    struct wire_reply reply = { .id = id };

    return write_flat(to, REPLY_PONG, &pong_table, &reply);
}

enum status codec_notice_write(struct bytes *to,
                               const struct wire_notice *notice)
{
    return write_flat(to, REPLY_NOTICE, &notice_table, notice);
}

/* A refusal's sentence may quote what a peer sent, and be cut anywhere. What is
 * not UTF-8 would make the whole reply unreadable to a strict client. */
static struct slice plain_text(const char *from, char *copy)
{
    struct slice text = slice_text(from);

    if (utf8_valid(text)) {
        return text;
    }
    for (size_t i = 0; i < text.len; i++) {
        copy[i] = (unsigned char)from[i] < 0x80 ? from[i] : '?';
    }
    return slice_of(copy, text.len);
}

enum status codec_refused_write(struct bytes *to, uint64_t id, uint64_t count,
                                const struct refusal *refusal)
{
    char scope[sizeof refusal->scope];
    char text[sizeof refusal->text];
    struct refused_flat flat = {
        .id = id,
        .count = count,
        .status = (uint32_t)refusal->status,
        .code = slice_text(status_word(refusal->status)),
        .limit = slice_text(refusal->limit == NULL ? "" : refusal->limit),
        .scope = plain_text(refusal->scope, scope),
        .used = refusal->used,
        .allowed = refusal->allowed,
        .retry_after_ms = refusal->retry_after_ms,
        .text = plain_text(refusal->text, text),
    };

    return write_flat(to, REPLY_REFUSED, &refused_table, &flat);
}

/* ---- settled ---- */

static struct settled_flat
settled_flat_of(const struct wire_settled_range *range)
{
    return (struct settled_flat) { range->first, range->last,
                                   (uint64_t)range->outcome, range->holder };
}

static size_t settled_ranges_len(const struct wire_settled_range *ranges,
                                 size_t count)
{
    size_t len = 0;

    for (size_t i = 0; i < count; i++) {
        struct settled_flat flat = settled_flat_of(&ranges[i]);
        len += pb_nested_len(pb_table_len(&settled_range_table, &flat));
    }
    return len;
}

static enum status put_settled_ranges(struct put *p,
                                      const struct wire_settled_range *ranges,
                                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct settled_flat flat = settled_flat_of(&ranges[i]);
        size_t len = pb_table_len(&settled_range_table, &flat);
        p->at = pb_put_nested(p->at, SETTLED_RANGES, len);
        p->at = pb_table_put(p->at, &settled_range_table, &flat);
    }
    return put_end(p);
}

enum status codec_settled_write(struct bytes *to, uint64_t id,
                                struct slice topic,
                                const struct wire_settled_range *ranges,
                                size_t count)
{
    struct wire_reply reply = { .id = id, .settled = { .topic = topic } };
    struct put p;
    enum status status =
        put_envelope(&p, to, REPLY_SETTLED, &settled_table, &reply,
                     settled_ranges_len(ranges, count));

    return status == STATUS_OK ? put_settled_ranges(&p, ranges, count) : status;
}

enum status codec_settled_body_write(struct bytes *to, uint64_t id,
                                     struct slice topic,
                                     const struct wire_settled_range *ranges,
                                     size_t count)
{
    struct wire_reply reply = { .id = id, .settled = { .topic = topic } };
    size_t len = pb_table_len(&settled_table, &reply)
                 + settled_ranges_len(ranges, count);
    struct put p;
    enum status status = put_begin(&p, to, len);

    if (status != STATUS_OK) {
        return status;
    }
    p.at = pb_table_put(p.at, &settled_table, &reply);
    return put_settled_ranges(&p, ranges, count);
}

/* ---- deliveries ---- */

/* A first attempt is the usual one, and is left out. */
static uint64_t attempt_on_wire(const struct wire_delivery *delivery)
{
    return delivery->attempt == 1 ? 0 : delivery->attempt;
}

static size_t delivery_inner_len(const struct wire_delivery *delivery)
{
    return pb_u64_len(delivery->seq) + pb_u64_len(attempt_on_wire(delivery))
           + pb_u64_len(delivery->time_us)
           + pb_nested_len(delivery->message.len);
}

static uint8_t *put_delivery(uint8_t *at, const struct wire_delivery *delivery)
{
    at = pb_put_nested(at, DELIVER_DELIVERIES, delivery_inner_len(delivery));
    at = pb_put_u64(at, DELIVERY_SEQ, delivery->seq);
    at = pb_put_u64(at, DELIVERY_ATTEMPT, attempt_on_wire(delivery));
    at = pb_put_u64(at, DELIVERY_TIME, delivery->time_us);
    at = pb_put_nested(at, DELIVERY_MESSAGE, delivery->message.len);
    return pb_put_raw(at, delivery->message);
}

size_t codec_delivery_len(const struct wire_delivery *delivery)
{
    return pb_nested_len(delivery_inner_len(delivery));
}

enum status codec_deliver_begin(struct bytes *to, struct slice topic,
                                size_t deliveries_len)
{
    size_t len = pb_slice_len(topic) + deliveries_len;
    struct put p;
    enum status status = put_begin(&p, to, pb_nested_len(len));

    if (status != STATUS_OK) {
        return status;
    }
    p.at = pb_put_nested(p.at, REPLY_DELIVER, len);
    p.at = pb_put_slice(p.at, DELIVER_TOPIC, topic);
    bytes_filled(to, (size_t)(p.at - bytes_end(to)));
    return STATUS_OK;
}

enum status codec_delivery_write(struct bytes *to,
                                 const struct wire_delivery *delivery)
{
    struct put p;
    enum status status = put_begin(&p, to, codec_delivery_len(delivery));

    if (status != STATUS_OK) {
        return status;
    }
    p.at = put_delivery(p.at, delivery);
    return put_end(&p);
}

/* ---- pulled ---- */

enum status codec_pulled_begin(struct bytes *to, uint64_t lease,
                               uint64_t lease_ms)
{
    struct put p;
    enum status status =
        put_begin(&p, to, pb_u64_len(lease) + pb_u64_len(lease_ms));

    if (status != STATUS_OK) {
        return status;
    }
    p.at = pb_put_u64(p.at, PULLED_LEASE, lease);
    p.at = pb_put_u64(p.at, PULLED_LEASE_MS, lease_ms);
    return put_end(&p);
}

enum status codec_pulled_deliver(struct bytes *to, struct slice topic,
                                 const struct wire_delivery *deliveries,
                                 size_t count)
{
    size_t len = pb_slice_len(topic);
    enum status status;
    struct put p;

    for (size_t i = 0; i < count; i++) {
        len += codec_delivery_len(&deliveries[i]);
    }
    status = put_begin(&p, to, pb_nested_len(len));
    if (status != STATUS_OK) {
        return status;
    }
    p.at = pb_put_nested(p.at, PULLED_DELIVER, len);
    p.at = pb_put_slice(p.at, DELIVER_TOPIC, topic);
    for (size_t i = 0; i < count; i++) {
        p.at = put_delivery(p.at, &deliveries[i]);
    }
    return put_end(&p);
}

enum status codec_pulled_gap(struct bytes *to, struct slice topic,
                             struct seq_range range)
{
    struct wire_gap gap = { topic, range };
    size_t len = pb_table_len(&gap_table, &gap);
    struct put p;
    enum status status = put_begin(&p, to, pb_nested_len(len));

    if (status != STATUS_OK) {
        return status;
    }
    p.at = pb_put_nested(p.at, PULLED_GAP, len);
    p.at = pb_table_put(p.at, &gap_table, &gap);
    return put_end(&p);
}

/* ---- reading replies: why one is no reply matters to nobody ---- */

/* One of the four known fields. A second message would have to be merged with
 * the first: refused. */
static enum status take_delivery(const struct pb_item *item,
                                 struct wire_delivery *out)
{
    bool is_message = item->number == DELIVERY_MESSAGE;

    if (item->wire != (is_message ? PB_LEN : PB_VARINT)
        || (is_message && out->message.at != NULL)) {
        return STATUS_INVALID;
    }
    switch (item->number) {
    case DELIVERY_SEQ:
        out->seq = item->value;
        break;
    case DELIVERY_ATTEMPT:
        out->attempt =
            item->value < UINT32_MAX ? (uint32_t)item->value : UINT32_MAX;
        out->attempt += out->attempt == 0;
        break;
    case DELIVERY_TIME:
        out->time_us = item->value;
        break;
    default:
        out->message = item->slice;
        break;
    }
    return STATUS_OK;
}

static enum status read_delivery(struct slice from, struct wire_delivery *out)
{
    struct pb_reader r = pb_reader_of(from);
    struct pb_item item;
    enum status status = STATUS_OK;

    *out = (struct wire_delivery) { .attempt = 1 };
    while (status == STATUS_OK && pb_next(&r, &item)) {
        if (item.number <= DELIVERY_MESSAGE) {
            status = take_delivery(&item, out);
        } else if (!pb_skip(&r)) {
            break;
        }
    }
    return r.fault == NULL ? status : STATUS_INVALID;
}

static enum status add_delivery(struct codec *codec, struct slice from,
                                size_t *count)
{
    struct wire_delivery delivery;
    enum status status;

    if (*count == REPLY_ITEM_COUNT_MAX) {
        return STATUS_INVALID;
    }
    status = read_delivery(from, &delivery);
    if (status != STATUS_OK) {
        return status;
    }
    status = scratch_room(&codec->deliveries, *count, sizeof delivery);
    if (status != STATUS_OK) {
        return status;
    }
    ((struct wire_delivery *)codec->deliveries.at)[(*count)++] = delivery;
    return STATUS_OK;
}

static enum status take_topic(struct slice from, struct slice *topic)
{
    if (from.len > NAME_LEN_MAX || !pb_text_valid(from)) {
        return STATUS_INVALID;
    }
    *topic = from;
    return STATUS_OK;
}

/* Deliveries go behind the *count that are there already. */
static enum status read_deliver(struct codec *codec, struct slice from,
                                struct slice *topic, size_t *count)
{
    struct pb_reader r = pb_reader_of(from);
    struct pb_item item;
    enum status status = STATUS_OK;

    *topic = slice_of(NULL, 0);
    while (status == STATUS_OK && pb_next(&r, &item)) {
        if (item.number > DELIVER_DELIVERIES) {
            if (!pb_skip(&r)) {
                break;
            }
        } else if (item.wire != PB_LEN) {
            status = STATUS_INVALID;
        } else if (item.number == DELIVER_DELIVERIES) {
            status = add_delivery(codec, item.slice, count);
        } else {
            status = take_topic(item.slice, topic);
        }
    }
    return r.fault == NULL ? status : STATUS_INVALID;
}

static enum status add_settled(struct codec *codec, struct slice from,
                               struct wire_reply *out)
{
    struct wire_settled_range range;
    struct settled_flat flat = { 0 };
    struct refusal ignored;
    enum status status;

    if (out->settled.count == REPLY_ITEM_COUNT_MAX) {
        return STATUS_INVALID;
    }
    status = pb_table_read(&settled_range_table, from, &flat, &ignored);
    if (status != STATUS_OK) {
        return STATUS_INVALID;
    }
    if (flat.outcome < OUTCOME_ACCEPTED || flat.outcome > OUTCOME_UNKNOWN) {
        return STATUS_INVALID;
    }
    status = scratch_room(&codec->settled, out->settled.count, sizeof range);
    if (status != STATUS_OK) {
        return status;
    }
    range = (struct wire_settled_range) { flat.first, flat.last,
                                          (enum settle_outcome)flat.outcome,
                                          flat.holder };
    ((struct wire_settled_range *)codec->settled.at)[out->settled.count++] =
        range;
    return STATUS_OK;
}

static enum status read_settled(struct codec *codec, struct slice from,
                                struct wire_reply *out)
{
    struct pb_reader r = pb_reader_of(from);
    struct pb_item item;
    struct refusal ignored;
    enum status status = STATUS_OK;

    while (status == STATUS_OK && pb_next(&r, &item)) {
        if (item.number == SETTLED_RANGES) {
            status = item.wire == PB_LEN ? add_settled(codec, item.slice, out)
                                         : STATUS_INVALID;
        } else if (!pb_table_take(&settled_table, &item, out, &status, &ignored)
                   && !pb_skip(&r)) {
            break;
        }
    }
    out->settled.ranges = codec->settled.at;
    return r.fault == NULL ? status : STATUS_INVALID;
}

/* The whole of a text that fits, or as many whole characters as do. */
static void copy_text(char *to, size_t size, struct slice from)
{
    size_t len = from.len < size ? from.len : size - 1;

    while (len > 0 && !utf8_valid(slice_of(from.at, len))) {
        len--;
    }
    if (len > 0) {
        memcpy(to, from.at, len);
    }
    to[len] = '\0';
}

static enum status read_refused(struct codec *codec, struct slice from,
                                struct wire_reply *out)
{
    struct refused_flat flat = { 0 };
    struct refusal *refusal = &out->refused.refusal;
    struct refusal ignored;
    enum status status = pb_table_read(&refused_table, from, &flat, &ignored);

    if (status != STATUS_OK) {
        return status;
    }
    out->id = flat.id;
    out->refused.count = flat.count;
    *refusal = (struct refusal) {
        .status = status_from_number(flat.status),
        .limit = codec->limit,
        .used = flat.used,
        .allowed = flat.allowed,
        .retry_after_ms = flat.retry_after_ms,
    };
    copy_text(codec->limit, sizeof codec->limit, flat.limit);
    copy_text(refusal->scope, sizeof refusal->scope, flat.scope);
    copy_text(refusal->text, sizeof refusal->text, flat.text);
    return STATUS_OK;
}

static enum status read_confirm(struct slice from, struct wire_reply *out)
{
    struct refusal ignored;
    enum status status =
        pb_table_read(&confirm_table, from, &out->confirm, &ignored);

    out->id = out->confirm.id;
    return status;
}

static enum status read_deliveries(struct codec *codec, struct slice from,
                                   struct wire_reply *out)
{
    enum status status =
        read_deliver(codec, from, &out->deliver.topic, &out->deliver.count);

    out->deliver.deliveries = codec->deliveries.at;
    return status;
}

static enum status read_kind(struct codec *codec, struct slice from,
                             struct wire_reply *out)
{
    struct refusal ignored;

    switch (out->kind) {
    case REPLY_WELCOME:
        return pb_table_read(&welcome_table, from, out, &ignored);
    case REPLY_CONFIRM:
        return read_confirm(from, out);
    case REPLY_REFUSED:
        return read_refused(codec, from, out);
    case REPLY_ATTACHED:
        return pb_table_read(&attached_table, from, out, &ignored);
    case REPLY_DETACHED:
        return pb_table_read(&detached_table, from, out, &ignored);
    case REPLY_DELIVER:
        return read_deliveries(codec, from, out);
    case REPLY_SETTLED:
        return read_settled(codec, from, out);
    case REPLY_GAP:
        return pb_table_read(&gap_table, from, &out->gap, &ignored);
    case REPLY_PONG:
        return pb_table_read(&pong_table, from, out, &ignored);
    case REPLY_NOTICE:
        return pb_table_read(&notice_table, from, &out->notice, &ignored);
    }
    return STATUS_INVALID;
}

/* A name over its limit is as unreadable as any other damage. */
static enum status only_invalid(enum status status)
{
    return status == STATUS_TOO_LARGE ? STATUS_INVALID : status;
}

enum status codec_reply_read(struct codec *codec, struct slice payload,
                             struct wire_reply *out)
{
    struct slice inner;
    struct refusal ignored;
    unsigned kind;
    enum status status;

    status =
        envelope_read(payload, "Reply", REPLY_NOTICE, &kind, &inner, &ignored);
    if (status != STATUS_OK) {
        return status;
    }
    memset(out, 0, sizeof *out);
    out->kind = (enum reply_kind)kind;
    return only_invalid(read_kind(codec, inner, out));
}

enum status codec_settled_body_read(struct codec *codec, struct slice payload,
                                    struct wire_reply *out)
{
    memset(out, 0, sizeof *out);
    out->kind = REPLY_SETTLED;
    return only_invalid(read_settled(codec, payload, out));
}

/* ---- reading an answer to a pull ---- */

static enum status pulled_deliver(struct codec *codec, struct slice from,
                                  struct wire_pulled *out)
{
    size_t before = out->count;
    struct slice topic;
    enum status status = read_deliver(codec, from, &topic, &out->count);

    for (size_t i = before; status == STATUS_OK && i < out->count; i++) {
        status = scratch_room(&codec->topics, i, sizeof topic);
        if (status == STATUS_OK) {
            ((struct slice *)codec->topics.at)[i] = topic;
        }
    }
    return status;
}

static enum status pulled_gap(struct codec *codec, struct slice from,
                              struct wire_pulled *out)
{
    struct wire_gap gap = { 0 };
    struct refusal ignored;
    enum status status;

    if (out->gap_count == REPLY_ITEM_COUNT_MAX) {
        return STATUS_INVALID;
    }
    status = only_invalid(pb_table_read(&gap_table, from, &gap, &ignored));
    if (status != STATUS_OK) {
        return status;
    }
    status = scratch_room(&codec->gaps, out->gap_count, sizeof gap);
    if (status == STATUS_OK) {
        ((struct wire_gap *)codec->gaps.at)[out->gap_count++] = gap;
    }
    return status;
}

static enum status pulled_take(struct codec *codec, struct pb_reader *r,
                               const struct pb_item *item,
                               struct wire_pulled *out)
{
    if (item->number > PULLED_GAP) {
        return pb_skip(r) ? STATUS_OK : STATUS_INVALID;
    }
    if (item->wire != (item->number >= PULLED_DELIVER ? PB_LEN : PB_VARINT)) {
        return STATUS_INVALID;
    }
    if (item->number == PULLED_LEASE) {
        out->lease = item->value;
        return STATUS_OK;
    }
    if (item->number == PULLED_LEASE_MS) {
        out->lease_ms = item->value;
        return STATUS_OK;
    }
    return item->number == PULLED_DELIVER
               ? pulled_deliver(codec, item->slice, out)
               : pulled_gap(codec, item->slice, out);
}

enum status codec_pulled_read(struct codec *codec, struct slice payload,
                              struct wire_pulled *out)
{
    struct pb_reader r = pb_reader_of(payload);
    struct wire_pulled pulled = { 0 };
    struct pb_item item;

    while (pb_next(&r, &item)) {
        enum status status = pulled_take(codec, &r, &item, &pulled);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (r.fault != NULL) {
        return STATUS_INVALID;
    }
    pulled.deliveries = codec->deliveries.at;
    pulled.topics = codec->topics.at;
    pulled.gaps = codec->gaps.at;
    *out = pulled;
    return STATUS_OK;
}
