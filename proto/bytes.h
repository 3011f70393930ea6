/* A growable buffer, and little-endian fields in bytes. */
#ifndef GODWIT_PROTO_BYTES_H
#define GODWIT_PROTO_BYTES_H

#include "proto/status.h"
#include "proto/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes that belong to somebody else. */
struct slice {
    const uint8_t *at;
    size_t len;
};

static inline struct slice slice_of(const void *at, size_t len)
{
    return (struct slice) { (const uint8_t *)at, len };
}

static inline struct slice slice_text(const char *text)
{
    return slice_of(text, strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool slice_is(struct slice a, const char *text)
{
    return slice_equal(a, slice_text(text));
}

/* A buffer that grows up to a bound. Zero-initialised is empty. Filled at the
 * end, consumed at the front. */
struct bytes {
    uint8_t *at;     /* heap, NULL while empty */
    size_t begin;    /* first byte not consumed */
    size_t end;      /* one past the last byte filled */
    size_t capacity; /* allocated */
};

void bytes_fini(struct bytes *b); /* accepts a zeroed one; leaves it empty */

/* Make room for `len` more bytes at the end. STATUS_TOO_LARGE: begin..end would
 * exceed `len_max`; STATUS_NOMEM. The buffer is untouched on failure. */
MUST_CHECK enum status bytes_reserve(struct bytes *b, size_t len,
                                     size_t len_max);

/* Append, growing as needed without a bound of its own (the caller has
 * checked one). STATUS_NOMEM. */
MUST_CHECK enum status bytes_append(struct bytes *b, const void *from,
                                    size_t len);

static inline size_t bytes_len(const struct bytes *b)
{
    return b->end - b->begin;
}

static inline uint8_t *bytes_begin(const struct bytes *b)
{
    return b->at + b->begin;
}

static inline uint8_t *bytes_end(const struct bytes *b)
{
    return b->at + b->end;
}

static inline size_t bytes_room(const struct bytes *b)
{
    return b->capacity - b->end;
}

static inline void bytes_filled(struct bytes *b, size_t len)
{
    CHECK(len <= bytes_room(b));
    b->end += len;
}

static inline void bytes_consume(struct bytes *b, size_t len)
{
    CHECK(len <= bytes_len(b));
    b->begin += len;
    if (b->begin == b->end) {
        b->begin = b->end = 0;
    }
}

/* Fixed-width little-endian fields. Any alignment. */
static inline void put_u16(uint8_t *at, uint16_t v)
{
    memcpy(at, &v, sizeof v);
}

static inline void put_u32(uint8_t *at, uint32_t v)
{
    memcpy(at, &v, sizeof v);
}

static inline void put_u64(uint8_t *at, uint64_t v)
{
    memcpy(at, &v, sizeof v);
}

static inline uint16_t get_u16(const uint8_t *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static inline uint32_t get_u32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static inline uint64_t get_u64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "put_u*/get_u* assume a little-endian machine; add the swaps"
#endif

/* A cursor that cannot read past its end. After any read that did not fit,
 * `failed` is set and stays set, and reads give zeros. */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct reader reader_of(struct slice s)
{
    return (struct reader) { s.at, s.at + s.len, false };
}

uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
struct slice reader_slice(struct reader *r, size_t len);

/* Appends to a bytes buffer; the first failure is kept in `status`. */
struct writer {
    struct bytes *to;
    enum status status;
};

void writer_u8(struct writer *w, uint8_t v);
void writer_u16(struct writer *w, uint16_t v);
void writer_u32(struct writer *w, uint32_t v);
void writer_u64(struct writer *w, uint64_t v);
void writer_slice(struct writer *w, struct slice s);

#endif
