/* Protobuf's wire format by hand: a reader over fields, writers of varints, and
 * tables for messages that are flat. Internal to the codec. Written by hand and
 * not through protobuf-c, because that copies every body, cannot see a NUL in a
 * string, and allocates; protobuf-c is the oracle in the tests. */
#ifndef GODWIT_PROTO_PB_H
#define GODWIT_PROTO_PB_H

#include "proto/bytes.h"
#include "proto/refusal.h"

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_LEN = 2, PB_FIXED32 = 5 };

enum { PB_VARINT_LEN_MAX = 10, PB_TAG_LEN_MAX = 5, PB_LEN_LEN_MAX = 5 };

/* ---- reading ---- */

/* The fields of one message, from the front. */
struct pb_reader {
    const uint8_t *at;
    const uint8_t *end;
    const char *fault; /* what is wrong with the bytes; NULL: nothing so far */
    unsigned unknown;  /* fields skipped */
};

struct pb_item {
    uint32_t number;
    enum pb_wire wire;
    uint64_t value;     /* PB_VARINT, PB_FIXED64 */
    struct slice slice; /* PB_LEN */
};

static inline struct pb_reader pb_reader_of(struct slice from)
{
    static const uint8_t nothing[1];
    const uint8_t *at = from.len == 0 ? nothing : from.at;

    return (struct pb_reader) { .at = at, .end = at + from.len };
}

/* False, with the fault set, when no varint of at most 64 bits begins here. */
bool pb_varint_slow(struct pb_reader *r, uint64_t *out);

static inline bool pb_varint(struct pb_reader *r, uint64_t *out)
{
    if (r->at < r->end && *r->at < 0x80) {
        *out = *r->at++;
        return true;
    }
    return pb_varint_slow(r, out);
}

/* The next field. False at the end, or with the fault set. */
bool pb_next(struct pb_reader *r, struct pb_item *item);

/* Call for a field that is not known: false, with the fault set, when there
 * have been too many of them. */
bool pb_skip(struct pb_reader *r);

/* Valid UTF-8 without NUL: what a string field may hold. */
bool pb_text_valid(struct slice text);

/* The varint in field `number`, wherever it stands; 0 when it cannot be had.
 * For the id of a request that is refused for something else. */
uint64_t pb_find_u64(struct slice from, uint32_t number);

/* "not a Publish: a length runs past the end". STATUS_INVALID. */
enum status pb_refuse(struct refusal *r, const char *message,
                      const char *fault);

/* ---- flat messages by table ---- */

/* PB_F64: 64 bits in eight bytes. */
enum pb_kind { PB_U64, PB_U32, PB_F64, PB_BOOL, PB_TEXT, PB_BYTES };

struct pb_field {
    uint32_t number;
    enum pb_kind kind;
    size_t offset;  /* of a uint64_t, uint32_t, bool or struct slice */
    size_t len_max; /* of a PB_TEXT or PB_BYTES; 0: only the frame bounds it */
    const char *limit; /* the name of that bound */
};

struct pb_table {
    const char *name;
    const struct pb_field *fields;
    size_t count;
};

#define PB_TABLE(name_, fields_)                                               \
    {                                                                          \
        .name = (name_), .fields = (fields_), .count = COUNT_OF(fields_)       \
    }

/* Put one field into its place in `out`. False when the table does not know it.
 * *status tells of a field that is known but wrong. */
bool pb_table_take(const struct pb_table *table, const struct pb_item *item,
                   void *out, enum status *status, struct refusal *refusal);

/* Read a whole message; fields that are absent leave `out` as it was. */
MUST_CHECK enum status pb_table_read(const struct pb_table *table,
                                     struct slice from, void *out,
                                     struct refusal *refusal);

/* The length of the encoding, and the encoding. Zeros are left out. */
size_t pb_table_len(const struct pb_table *table, const void *from);
uint8_t *pb_table_put(uint8_t *at, const struct pb_table *table,
                      const void *from);

/* ---- writing: each returns the place behind what it wrote ---- */

static inline size_t pb_varint_len(uint64_t value)
{
    return ((size_t)(63 - __builtin_clzll(value | 1)) * 9 + 73) / 64;
}

static inline uint8_t *pb_put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

/* Field numbers here are all under 16: one byte of tag. */
static inline uint8_t *pb_put_tag(uint8_t *at, uint32_t number,
                                  enum pb_wire wire)
{
    *at++ = (uint8_t)(number << 3 | (unsigned)wire);
    return at;
}

static inline size_t pb_u64_len(uint64_t value)
{
    return value == 0 ? 0 : 1 + pb_varint_len(value);
}

static inline uint8_t *pb_put_u64(uint8_t *at, uint32_t number, uint64_t value)
{
    return value == 0 ? at
                      : pb_put_varint(pb_put_tag(at, number, PB_VARINT), value);
}

static inline size_t pb_f64_len(uint64_t value)
{
    return value == 0 ? 0 : 1 + sizeof value;
}

static inline uint8_t *pb_put_f64(uint8_t *at, uint32_t number, uint64_t value)
{
    if (value == 0) {
        return at;
    }
    at = pb_put_tag(at, number, PB_FIXED64);
    put_u64(at, value);
    return at + sizeof value;
}

/* Tag, length and content of that length. */
static inline size_t pb_nested_len(size_t len)
{
    return 1 + pb_varint_len(len) + len;
}

static inline uint8_t *pb_put_nested(uint8_t *at, uint32_t number, size_t len)
{
    return pb_put_varint(pb_put_tag(at, number, PB_LEN), len);
}

static inline uint8_t *pb_put_raw(uint8_t *at, struct slice content)
{
    if (content.len > 0) {
        memcpy(at, content.at, content.len);
    }
    return at + content.len;
}

/* A string or bytes field; left out when empty. */
static inline size_t pb_slice_len(struct slice content)
{
    return content.len == 0 ? 0 : pb_nested_len(content.len);
}

static inline uint8_t *pb_put_slice(uint8_t *at, uint32_t number,
                                    struct slice content)
{
    return content.len == 0
               ? at
               : pb_put_raw(pb_put_nested(at, number, content.len), content);
}

#endif
