/* links: godwit_proto */
#include "proto/ws_frame.h"

#include <stdlib.h>

/* Anything at all as a stream of frames: a header that is read is the header
 * that would be written, and masking twice is the identity. */

static void expect(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void expect_same_header(const uint8_t *at, const struct ws_header *h)
{
    struct bytes written = { 0 };
    struct ws_header again;

    expect(ws_header_write(&written, (enum ws_opcode)h->opcode, h->payload_len,
                           h->masked ? h->mask : NULL)
           == STATUS_OK);
    expect(bytes_len(&written) == h->header_len);
    expect(memcmp(bytes_begin(&written) + 1, at + 1, h->header_len - 1) == 0);
    expect(ws_header_read(slice_of(bytes_begin(&written), bytes_len(&written)),
                          &again)
           == STATUS_OK);
    expect(again.payload_len == h->payload_len && again.opcode == h->opcode);
    bytes_fini(&written);
}

/* The header alone decides, and no shorter piece of it does. */
static void expect_all_of_it_needed(const uint8_t *at,
                                    const struct ws_header *h)
{
    for (size_t len = 0; len < h->header_len; len++) {
        uint8_t *copy = malloc(len + 1);
        struct ws_header ignored;

        memcpy(copy, at, len);
        expect(ws_header_read(slice_of(copy, len), &ignored) == STATUS_AGAIN);
        free(copy);
    }
}

static void unmask_twice(const uint8_t *at, size_t len,
                         const struct ws_header *h)
{
    uint8_t *copy = malloc(len + 1);
    size_t cut = len / 3;

    memcpy(copy, at, len);
    ws_mask(copy, len, h->mask, 0);
    for (size_t i = 0; i < len; i++) {
        expect(copy[i] == (uint8_t)(at[i] ^ h->mask[i % 4]));
    }
    ws_mask(copy, cut, h->mask, 0);
    ws_mask(copy + cut, len - cut, h->mask, cut % 4);
    expect(memcmp(copy, at, len) == 0);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct ws_header h;

    while (ws_header_read(slice_of(at, len), &h) == STATUS_OK) {
        size_t payload_len;

        expect(h.header_len <= len && h.header_len <= WS_HEADER_LEN_MAX);
        expect_same_header(at, &h);
        expect_all_of_it_needed(at, &h);
        at += h.header_len;
        len -= h.header_len;
        payload_len = h.payload_len < len ? (size_t)h.payload_len : len;
        if (h.masked) {
            unmask_twice(at, payload_len, &h);
        }
        at += payload_len;
        len -= payload_len;
    }
    return 0;
}
