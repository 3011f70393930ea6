#include "proto/ws_frame.h"

enum {
    BIT_FIN = 0x80,
    BIT_MASKED = 0x80,
    LEN_IN_BYTE_MAX = 125,
    LEN_IS_16 = 126,
    LEN_IS_64 = 127,
    MASK_LEN = 4,
    BLOCK_LEN = 64
};

static uint64_t get_big_endian(const uint8_t *at, size_t len)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static void put_big_endian(uint8_t *at, uint64_t value, size_t len)
{
    for (size_t i = len; i > 0; i--) {
        at[i - 1] = (uint8_t)value;
        value >>= 8;
    }
}

/* How many bytes follow the second one to say a length. */
static size_t len_field_len(uint8_t len7)
{
    return len7 == LEN_IS_64 ? 8 : len7 == LEN_IS_16 ? 2 : 0;
}

static bool len_is_shortest(uint64_t len, size_t field_len)
{
    switch (field_len) {
    case 0:
        return true;
    case 2:
        return len > LEN_IN_BYTE_MAX;
    default:
        return len > UINT16_MAX && len <= INT64_MAX;
    }
}

enum status ws_header_read(struct slice from, struct ws_header *out)
{
    struct ws_header header = { .header_len = 2 };
    size_t field_len;

    if (from.len < 2) {
        return STATUS_AGAIN;
    }
    header.fin = (from.at[0] & BIT_FIN) != 0;
    header.rsv = (from.at[0] >> 4) & 7;
    header.opcode = from.at[0] & 0x0F;
    header.masked = (from.at[1] & BIT_MASKED) != 0;
    header.payload_len = from.at[1] & 0x7F;
    field_len = len_field_len((uint8_t)header.payload_len);
    if (from.len < 2 + field_len) {
        return STATUS_AGAIN;
    }
    if (field_len > 0) {
        header.payload_len = get_big_endian(from.at + 2, field_len);
        header.header_len += field_len;
    }
    if (!len_is_shortest(header.payload_len, field_len)) {
        return STATUS_INVALID;
    }
    if (header.masked) {
        if (from.len < header.header_len + MASK_LEN) {
            return STATUS_AGAIN;
        }
        memcpy(header.mask, from.at + header.header_len, MASK_LEN);
        header.header_len += MASK_LEN;
    }
    *out = header;
    return STATUS_OK;
}

/* The compiler makes vector registers of it, whatever the machine has. */
typedef uint64_t block __attribute__((vector_size(16)));

static void mask_block(uint8_t *at, block mask)
{
    block bytes;

    memcpy(&bytes, at, sizeof bytes);
    bytes ^= mask;
    memcpy(at, &bytes, sizeof bytes);
}

void ws_mask(uint8_t *at, size_t len, const uint8_t mask[4], size_t phase)
{
    uint8_t turned[sizeof(block)];
    block wide;
    size_t i = 0;

    for (size_t k = 0; k < sizeof turned; k++) {
        turned[k] = mask[(phase + k) % MASK_LEN];
    }
    memcpy(&wide, turned, sizeof wide);
    for (; len - i >= BLOCK_LEN; i += BLOCK_LEN) {
        mask_block(at + i, wide);
        mask_block(at + i + 16, wide);
        mask_block(at + i + 32, wide);
        mask_block(at + i + 48, wide);
    }
    for (; len - i >= sizeof wide; i += sizeof wide) {
        mask_block(at + i, wide);
    }
    for (size_t k = 0; i < len; i++, k++) {
        at[i] ^= turned[k];
    }
}

static size_t header_len_for(uint64_t payload_len, bool masked)
{
    size_t field_len = payload_len > UINT16_MAX        ? 8
                       : payload_len > LEN_IN_BYTE_MAX ? 2
                                                       : 0;
    return 2 + field_len + (masked ? MASK_LEN : 0);
}

/* Writes header_len_for() bytes. */
static void put_header(uint8_t *at, enum ws_opcode opcode, uint64_t payload_len,
                       const uint8_t *mask)
{
    size_t len = header_len_for(payload_len, mask != NULL);

    at[0] = (uint8_t)(BIT_FIN | (int)opcode);
    if (payload_len > UINT16_MAX) {
        at[1] = LEN_IS_64;
        put_big_endian(at + 2, payload_len, 8);
    } else if (payload_len > LEN_IN_BYTE_MAX) {
        at[1] = LEN_IS_16;
        put_big_endian(at + 2, payload_len, 2);
    } else {
        at[1] = (uint8_t)payload_len;
    }
    if (mask != NULL) {
        at[1] |= BIT_MASKED;
        memcpy(at + len - MASK_LEN, mask, MASK_LEN);
    }
}

enum status ws_header_write(struct bytes *to, enum ws_opcode opcode,
                            uint64_t payload_len, const uint8_t *mask)
{
    size_t len = header_len_for(payload_len, mask != NULL);
    enum status status = bytes_reserve(to, len, SIZE_MAX / 2);

    if (status != STATUS_OK) {
        return status;
    }
    put_header(bytes_end(to), opcode, payload_len, mask);
    bytes_filled(to, len);
    return STATUS_OK;
}

/* Reserved is the header of the middle size, because moving is then either two
 * bytes' worth of a tiny payload or rare. The mark counts from the first byte
 * not consumed, as the buffer may move its content while the payload grows; its
 * lowest bit says whether there is room for a mask. */
enum { RESERVED_LEN = 4 };

static size_t reserved_len(size_t mark)
{
    return RESERVED_LEN + (mark % 2 == 1 ? MASK_LEN : 0);
}

enum status ws_frame_begin(struct bytes *to, bool masked, size_t *mark)
{
    size_t begun = bytes_len(to) * 2 + (masked ? 1 : 0);
    enum status status;

    status = bytes_reserve(to, reserved_len(begun), SIZE_MAX / 2);
    if (status != STATUS_OK) {
        return status;
    }
    bytes_filled(to, reserved_len(begun));
    *mark = begun;
    return STATUS_OK;
}

enum status ws_frame_end(struct bytes *to, size_t mark, enum ws_opcode opcode,
                         const uint8_t *mask)
{
    size_t reserved = reserved_len(mark);
    size_t payload_len;
    size_t header_len;
    uint8_t *at;

    CHECK((mark % 2 == 1) == (mask != NULL));
    CHECK(bytes_len(to) >= mark / 2 + reserved);
    payload_len = bytes_len(to) - mark / 2 - reserved;
    header_len = header_len_for(payload_len, mask != NULL);
    if (header_len > reserved) {
        enum status status =
            bytes_reserve(to, header_len - reserved, SIZE_MAX / 2);
        if (status != STATUS_OK) {
            return status;
        }
    }
    at = bytes_begin(to) + mark / 2;
    if (header_len != reserved) {
        memmove(at + header_len, at + reserved, payload_len);
        to->end = to->end + header_len - reserved;
    }
    put_header(at, opcode, payload_len, mask);
    if (mask != NULL) {
        ws_mask(at + header_len, payload_len, mask, 0);
    }
    return STATUS_OK;
}

void ws_frame_abort(struct bytes *to, size_t mark)
{
    CHECK(bytes_len(to) >= mark / 2 + reserved_len(mark));
    to->end = to->begin + mark / 2;
}
