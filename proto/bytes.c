#include "proto/bytes.h"

#include <stdlib.h>

enum { BYTES_CAPACITY_MIN = 256 };

void bytes_fini(struct bytes *b)
{
    free(b->at);
    *b = (struct bytes) { 0 };
}

/* Move what is left to the front when that alone makes the room. */
static bool make_room_by_moving(struct bytes *b, size_t len)
{
    size_t used = bytes_len(b);

    if (b->at == NULL || b->begin == 0 || used + len > b->capacity) {
        return false;
    }
    memmove(b->at, b->at + b->begin, used);
    b->begin = 0;
    b->end = used;
    return true;
}

static enum status grow(struct bytes *b, size_t len)
{
    size_t used = bytes_len(b);
    size_t capacity =
        b->capacity < BYTES_CAPACITY_MIN ? BYTES_CAPACITY_MIN : b->capacity;
    uint8_t *at;

    if (len > SIZE_MAX / 2 - used) {
        return STATUS_NOMEM;
    }
    while (capacity < used + len) {
        capacity *= 2;
    }
    at = malloc(capacity);
    if (at == NULL) {
        return STATUS_NOMEM;
    }
    if (b->at != NULL && used > 0) {
        memcpy(at, b->at + b->begin, used);
    }
    free(b->at);
    *b = (struct bytes) { .at = at, .end = used, .capacity = capacity };
    return STATUS_OK;
}

enum status bytes_reserve(struct bytes *b, size_t len, size_t len_max)
{
    if (len > len_max || bytes_len(b) > len_max - len) {
        return STATUS_TOO_LARGE;
    }
    if (b->at != NULL && bytes_room(b) >= len) {
        return STATUS_OK;
    }
    if (make_room_by_moving(b, len)) {
        return STATUS_OK;
    }
    return grow(b, len);
}

enum status bytes_append(struct bytes *b, const void *from, size_t len)
{
    enum status status = bytes_reserve(b, len, SIZE_MAX / 2);

    if (status != STATUS_OK) {
        return status;
    }
    if (len > 0) {
        memcpy(bytes_end(b), from, len);
    }
    bytes_filled(b, len);
    return STATUS_OK;
}

static const uint8_t *take(struct reader *r, size_t len)
{
    const uint8_t *at = r->at;

    if (r->failed || (size_t)(r->end - r->at) < len) {
        r->failed = true;
        return NULL;
    }
    r->at += len;
    return at;
}

uint8_t reader_u8(struct reader *r)
{
    const uint8_t *at = take(r, 1);
    return at == NULL ? 0 : *at;
}

uint16_t reader_u16(struct reader *r)
{
    const uint8_t *at = take(r, 2);
    return at == NULL ? 0 : get_u16(at);
}

uint32_t reader_u32(struct reader *r)
{
    const uint8_t *at = take(r, 4);
    return at == NULL ? 0 : get_u32(at);
}

uint64_t reader_u64(struct reader *r)
{
    const uint8_t *at = take(r, 8);
    return at == NULL ? 0 : get_u64(at);
}

struct slice reader_slice(struct reader *r, size_t len)
{
    const uint8_t *at = take(r, len);
    return at == NULL ? slice_of(NULL, 0) : slice_of(at, len);
}

static void writer_put(struct writer *w, const void *from, size_t len)
{
    if (w->status == STATUS_OK) {
        w->status = bytes_append(w->to, from, len);
    }
}

void writer_u8(struct writer *w, uint8_t v)
{
    writer_put(w, &v, sizeof v);
}

void writer_u16(struct writer *w, uint16_t v)
{
    writer_put(w, &v, sizeof v);
}

void writer_u32(struct writer *w, uint32_t v)
{
    writer_put(w, &v, sizeof v);
}

void writer_u64(struct writer *w, uint64_t v)
{
    writer_put(w, &v, sizeof v);
}

void writer_slice(struct writer *w, struct slice s)
{
    writer_put(w, s.at, s.len);
}
