#include "proto/pb.h"

#include "proto/limits.h"
#include "proto/utf8.h"

/* ---- reading ---- */

bool pb_varint_slow(struct pb_reader *r, uint64_t *out)
{
    const uint8_t *at = r->at;
    uint64_t value = 0;

    /* Two bytes are the length of most bodies. */
    if (r->end - at >= 2 && at[0] >= 0x80 && at[1] < 0x80) {
        *out = (uint64_t)(at[0] & 0x7F) | (uint64_t)at[1] << 7;
        r->at = at + 2;
        return true;
    }
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (at == r->end) {
            r->fault = "a number is cut off";
            return false;
        }
        value |= (uint64_t)(*at & 0x7F) << shift;
        if (*at < 0x80) {
            if (shift == 63 && *at > 1) {
                break;
            }
            r->at = at + 1;
            *out = value;
            return true;
        }
        at++;
    }
    r->fault = "a number has more than 64 bits";
    return false;
}

static bool advance(struct pb_reader *r, uint64_t len)
{
    if (len > (uint64_t)(r->end - r->at)) {
        r->fault = "a field runs past the end";
        return false;
    }
    r->at += len;
    return true;
}

static bool read_len(struct pb_reader *r, struct slice *out)
{
    const uint8_t *at = r->at;
    uint64_t len;

    if (!pb_varint(r, &len)) {
        return false;
    }
    if (r->at - at > PB_LEN_LEN_MAX) {
        r->fault = "a length is written in too many bytes";
        return false;
    }
    at = r->at;
    if (!advance(r, len)) {
        return false;
    }
    *out = slice_of(at, len);
    return true;
}

static bool read_fixed64(struct pb_reader *r, uint64_t *out)
{
    const uint8_t *at = r->at;

    if (!advance(r, sizeof *out)) {
        return false;
    }
    *out = get_u64(at);
    return true;
}

bool pb_next(struct pb_reader *r, struct pb_item *item)
{
    const uint8_t *begin = r->at;
    uint64_t tag;

    if (r->at == r->end || !pb_varint(r, &tag)) {
        return false;
    }
    if (tag > UINT32_MAX || tag >> 3 == 0 || r->at - begin > PB_TAG_LEN_MAX) {
        r->fault = "a field has an impossible number";
        return false;
    }
    item->number = (uint32_t)(tag >> 3);
    switch (tag & 7) {
    case PB_VARINT:
        item->wire = PB_VARINT;
        return pb_varint(r, &item->value);
    case PB_LEN:
        item->wire = PB_LEN;
        return read_len(r, &item->slice);
    case PB_FIXED64:
        item->wire = PB_FIXED64;
        return read_fixed64(r, &item->value);
    case PB_FIXED32:
        item->wire = PB_FIXED32;
        return advance(r, 4);
    default:
        r->fault = "a field has an unknown wire type";
        return false;
    }
}

bool pb_skip(struct pb_reader *r)
{
    if (++r->unknown > UNKNOWN_FIELD_COUNT_MAX) {
        r->fault = "too many unknown fields";
        return false;
    }
    return true;
}

bool pb_text_valid(struct slice text)
{
    return text.len == 0
           || (memchr(text.at, 0, text.len) == NULL && utf8_valid(text));
}

uint64_t pb_find_u64(struct slice from, uint32_t number)
{
    struct pb_reader r = pb_reader_of(from);
    struct pb_item item;
    uint64_t found = 0;

    while (pb_next(&r, &item)) {
        if (item.number == number && item.wire == PB_VARINT) {
            found = item.value;
        }
    }
    return found;
}

enum status pb_refuse(struct refusal *r, const char *message, const char *fault)
{
    return refuse(r, STATUS_INVALID, "encoding", "not a valid %s: %s", message,
                  fault);
}

/* ---- flat messages by table ---- */

static enum pb_wire wire_of(enum pb_kind kind)
{
    if (kind == PB_F64) {
        return PB_FIXED64;
    }
    return kind == PB_TEXT || kind == PB_BYTES ? PB_LEN : PB_VARINT;
}

static enum status take_slice(const struct pb_field *field, struct slice from,
                              struct slice *out, const char *message,
                              struct refusal *refusal)
{
    if (field->len_max > 0 && from.len > field->len_max) {
        refuse(refusal, STATUS_TOO_LARGE, field->limit,
               "a field of the %s is longer than allowed", message);
        refusal->used = from.len;
        refusal->allowed = field->len_max;
        return refusal->status;
    }
    if (field->kind == PB_TEXT && !pb_text_valid(from)) {
        return pb_refuse(refusal, message,
                         "a string is not UTF-8 or holds a NUL");
    }
    *out = from;
    return STATUS_OK;
}

static enum status take(const struct pb_table *table,
                        const struct pb_field *field,
                        const struct pb_item *item, void *out,
                        struct refusal *refusal)
{
    void *place = (char *)out + field->offset;

    if (item->wire != wire_of(field->kind)) {
        return pb_refuse(refusal, table->name, "a field has a wrong type");
    }
    switch (field->kind) {
    case PB_U64:
    case PB_F64:
        *(uint64_t *)place = item->value;
        return STATUS_OK;
    case PB_U32:
        if (item->value > UINT32_MAX) {
            return pb_refuse(refusal, table->name,
                             "a number has more than 32 bits");
        }
        *(uint32_t *)place = (uint32_t)item->value;
        return STATUS_OK;
    case PB_BOOL:
        *(bool *)place = item->value != 0;
        return STATUS_OK;
    case PB_TEXT:
    case PB_BYTES:
        return take_slice(field, item->slice, place, table->name, refusal);
    }
    return STATUS_OK;
}

bool pb_table_take(const struct pb_table *table, const struct pb_item *item,
                   void *out, enum status *status, struct refusal *refusal)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->fields[i].number == item->number) {
            *status = take(table, &table->fields[i], item, out, refusal);
            return true;
        }
    }
    return false;
}

enum status pb_table_read(const struct pb_table *table, struct slice from,
                          void *out, struct refusal *refusal)
{
    struct pb_reader r = pb_reader_of(from);
    struct pb_item item;
    enum status status = STATUS_OK;

    while (pb_next(&r, &item)) {
        if (!pb_table_take(table, &item, out, &status, refusal)
            && !pb_skip(&r)) {
            break;
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return r.fault == NULL ? STATUS_OK
                           : pb_refuse(refusal, table->name, r.fault);
}

static uint64_t number_at(const struct pb_field *field, const void *from)
{
    const void *place = (const char *)from + field->offset;

    if (field->kind == PB_BOOL) {
        return *(const bool *)place ? 1 : 0;
    }
    return field->kind == PB_U32 ? *(const uint32_t *)place
                                 : *(const uint64_t *)place;
}

static struct slice slice_at(const struct pb_field *field, const void *from)
{
    return *(const struct slice *)(const void *)((const char *)from
                                                 + field->offset);
}

static size_t field_len(const struct pb_field *field, const void *from)
{
    switch (field->kind) {
    case PB_TEXT:
    case PB_BYTES:
        return pb_slice_len(slice_at(field, from));
    case PB_F64:
        return pb_f64_len(number_at(field, from));
    case PB_U64:
    case PB_U32:
    case PB_BOOL:
        return pb_u64_len(number_at(field, from));
    }
    return 0;
}

size_t pb_table_len(const struct pb_table *table, const void *from)
{
    size_t len = 0;

    for (size_t i = 0; i < table->count; i++) {
        len += field_len(&table->fields[i], from);
    }
    return len;
}

static uint8_t *put_field(uint8_t *at, const struct pb_field *field,
                          const void *from)
{
    switch (field->kind) {
    case PB_TEXT:
    case PB_BYTES:
        return pb_put_slice(at, field->number, slice_at(field, from));
    case PB_F64:
        return pb_put_f64(at, field->number, number_at(field, from));
    case PB_U64:
    case PB_U32:
    case PB_BOOL:
        return pb_put_u64(at, field->number, number_at(field, from));
    }
    return at;
}

uint8_t *pb_table_put(uint8_t *at, const struct pb_table *table,
                      const void *from)
{
    for (size_t i = 0; i < table->count; i++) {
        at = put_field(at, &table->fields[i], from);
    }
    return at;
}
