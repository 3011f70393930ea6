/* links: godwit_proto */
#include "proto/ws_frame.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

static struct bytes buffer;
static const uint8_t MASK[4] = { 0x12, 0xFE, 0x00, 0xA7 };

static void set_up(void)
{
    buffer = (struct bytes) { 0 };
}

static void tear_down(void)
{
    bytes_fini(&buffer);
}

TestSuite(ws_frame, .init = set_up, .fini = tear_down, .timeout = 60);

static enum status read_header(const void *at, size_t len,
                               struct ws_header *out)
{
    return ws_header_read(slice_of(at, len), out);
}

#define READ(bytes, out) read_header(bytes, sizeof(bytes) - 1, out)

/* ---- reading headers ---- */

Test(ws_frame, every_bit_of_the_first_byte_is_told)
{
    struct ws_header h;

    cr_assert_eq(READ("\x82\x05", &h), STATUS_OK);
    cr_expect(h.fin);
    cr_expect_eq(h.rsv, 0);
    cr_expect_eq(h.opcode, WS_BINARY);
    cr_expect_not(h.masked);
    cr_expect_eq(h.payload_len, 5);
    cr_expect_eq(h.header_len, 2);
    cr_assert_eq(READ("\x7F\x00", &h), STATUS_OK);
    cr_expect_not(h.fin);
    cr_expect_eq(h.rsv, 7);
    cr_expect_eq(h.opcode, 15);
    cr_assert_eq(READ("\x49\x00", &h), STATUS_OK);
    cr_expect_eq(h.rsv, 4);
    cr_expect_eq(h.opcode, WS_PING);
}

Test(ws_frame, mask_is_behind_the_length)
{
    struct ws_header h;

    cr_assert_eq(READ("\x81\x85\x01\x02\x03\x04", &h), STATUS_OK);
    cr_expect(h.masked);
    cr_expect_arr_eq(h.mask, "\x01\x02\x03\x04", 4);
    cr_expect_eq(h.header_len, 6);
    cr_assert_eq(READ("\x82\xFE\x01\x00\x09\x08\x07\x06", &h), STATUS_OK);
    cr_expect_eq(h.payload_len, 256);
    cr_expect_arr_eq(h.mask, "\x09\x08\x07\x06", 4);
    cr_expect_eq(h.header_len, 8);
}

Test(ws_frame, lengths_in_their_shortest_form)
{
    struct ws_header h;

    cr_assert_eq(READ("\x82\x7D", &h), STATUS_OK);
    cr_expect_eq(h.payload_len, 125);
    cr_assert_eq(READ("\x82\x7E\x00\x7E", &h), STATUS_OK);
    cr_expect_eq(h.payload_len, 126);
    cr_assert_eq(READ("\x82\x7E\xFF\xFF", &h), STATUS_OK);
    cr_expect_eq(h.payload_len, 65535);
    cr_assert_eq(READ("\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00", &h),
                 STATUS_OK);
    cr_expect_eq(h.payload_len, 65536);
    cr_expect_eq(h.header_len, 10);
    cr_assert_eq(READ("\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", &h),
                 STATUS_OK);
    cr_expect_eq(h.payload_len, (uint64_t)INT64_MAX);
}

Test(ws_frame, longer_forms_and_the_top_bit_are_refused)
{
    struct ws_header h;

    cr_expect_eq(READ("\x82\x7E\x00\x00", &h), STATUS_INVALID);
    cr_expect_eq(READ("\x82\x7E\x00\x7D", &h), STATUS_INVALID);
    cr_expect_eq(READ("\x82\x7F\x00\x00\x00\x00\x00\x00\x00\x05", &h),
                 STATUS_INVALID);
    cr_expect_eq(READ("\x82\x7F\x00\x00\x00\x00\x00\x00\xFF\xFF", &h),
                 STATUS_INVALID);
    cr_expect_eq(READ("\x82\x7F\x80\x00\x00\x00\x00\x00\x00\x00", &h),
                 STATUS_INVALID);
    cr_expect_eq(READ("\x82\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", &h),
                 STATUS_INVALID);
}

/* From the heap, so that a read past the end is seen. */
Test(ws_frame, header_that_is_cut_off_waits_for_more)
{
    static const struct {
        const char *bytes;
        size_t len;
    } whole[] = {
        { "\x82\x05", 2 },
        { "\x82\x85\x01\x02\x03\x04", 6 },
        { "\x82\x7E\x01\x00", 4 },
        { "\x82\xFE\x01\x00\x01\x02\x03\x04", 8 },
        { "\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00", 10 },
        { "\x82\xFF\x00\x00\x00\x00\x00\x01\x00\x00\x01\x02\x03\x04", 14 },
    };

    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        for (size_t len = 0; len <= whole[i].len; len++) {
            struct ws_header h = { 0 };
            uint8_t *copy = malloc(len == 0 ? 1 : len);
            enum status status;

            memcpy(copy, whole[i].bytes, len);
            status = read_header(copy, len, &h);
            cr_expect_eq(status, len == whole[i].len ? STATUS_OK : STATUS_AGAIN,
                         "case %zu, %zu bytes", i, len);
            cr_expect_eq(h.header_len, len == whole[i].len ? len : 0);
            free(copy);
        }
    }
}

/* ---- masking ---- */

static void mask_plainly(uint8_t *at, size_t len, size_t phase)
{
    for (size_t i = 0; i < len; i++) {
        at[i] ^= MASK[(phase + i) % 4];
    }
}

Test(ws_frame, masks_as_byte_by_byte_at_any_place_and_phase)
{
    uint8_t *fast = malloc(512);
    uint8_t *plain = malloc(512);

    for (size_t len = 0; len <= 300; len++) {
        for (size_t offset = 0; offset < 16; offset++) {
            for (size_t phase = 0; phase < 4; phase++) {
                for (size_t i = 0; i < 512; i++) {
                    fast[i] = plain[i] = (uint8_t)(i * 31 + len);
                }
                ws_mask(fast + offset, len, MASK, phase);
                mask_plainly(plain + offset, len, phase);
                cr_assert_arr_eq(fast, plain, 512,
                                 "%zu bytes at %zu, phase %zu", len, offset,
                                 phase);
            }
        }
    }
    free(fast);
    free(plain);
}

Test(ws_frame, parts_masked_one_after_the_other_are_the_whole)
{
    uint8_t whole[200];
    uint8_t parts[200];

    for (size_t cut = 0; cut <= sizeof whole; cut++) {
        memset(whole, 0x33, sizeof whole);
        memset(parts, 0x33, sizeof parts);
        ws_mask(whole, sizeof whole, MASK, 0);
        ws_mask(parts, cut, MASK, 0);
        ws_mask(parts + cut, sizeof parts - cut, MASK, cut % 4);
        cr_assert_arr_eq(whole, parts, sizeof whole, "cut at %zu", cut);
    }
}

/* ---- writing ---- */

static void fill(size_t len)
{
    cr_assert_eq(bytes_reserve(&buffer, len, SIZE_MAX / 2), STATUS_OK);
    for (size_t i = 0; i < len; i++) {
        bytes_end(&buffer)[i] = (uint8_t)(i * 131 + len);
    }
    bytes_filled(&buffer, len);
}

/* The next frame of the buffer is binary, of this length, with fill()'s bytes. */
static void expect_frame(size_t len, const uint8_t *mask)
{
    struct ws_header h;
    uint8_t *payload;

    cr_assert_eq(read_header(bytes_begin(&buffer), bytes_len(&buffer), &h),
                 STATUS_OK);
    cr_assert(h.fin);
    cr_assert_eq(h.rsv, 0);
    cr_assert_eq(h.opcode, WS_BINARY);
    cr_assert_eq(h.masked, mask != NULL);
    cr_assert_eq(h.payload_len, len);
    cr_assert_geq(bytes_len(&buffer), h.header_len + len);
    payload = bytes_begin(&buffer) + h.header_len;
    if (mask != NULL) {
        cr_assert_arr_eq(h.mask, mask, 4);
        mask_plainly(payload, len, 0);
    }
    for (size_t i = 0; i < len; i++) {
        cr_assert_eq(payload[i], (uint8_t)(i * 131 + len), "byte %zu", i);
    }
    bytes_consume(&buffer, h.header_len + len);
}

static const size_t LENS[] = { 0,   1,   124,   125,   126,   127,   255,
                               256, 999, 65534, 65535, 65536, 65537, 1000000 };
enum { LEN_COUNT = sizeof LENS / sizeof LENS[0] };

static void write_all(const uint8_t *mask)
{
    for (size_t i = 0; i < LEN_COUNT; i++) {
        size_t mark;
        cr_assert_eq(ws_frame_begin(&buffer, mask != NULL, &mark), STATUS_OK);
        fill(LENS[i]);
        cr_assert_eq(ws_frame_end(&buffer, mark, WS_BINARY, mask), STATUS_OK);
    }
}

Test(ws_frame, frames_written_are_read_again)
{
    write_all(NULL);
    for (size_t i = 0; i < LEN_COUNT; i++) {
        expect_frame(LENS[i], NULL);
    }
    cr_expect_eq(bytes_len(&buffer), 0);
}

Test(ws_frame, masked_frames_written_are_read_again)
{
    write_all(MASK);
    for (size_t i = 0; i < LEN_COUNT; i++) {
        expect_frame(LENS[i], MASK);
    }
    cr_expect_eq(bytes_len(&buffer), 0);
}

Test(ws_frame, header_of_known_length_is_the_same)
{
    for (size_t i = 0; i < LEN_COUNT; i++) {
        cr_assert_eq(ws_header_write(&buffer, WS_BINARY, LENS[i], NULL),
                     STATUS_OK);
        fill(LENS[i]);
        expect_frame(LENS[i], NULL);
    }
}

/* What was consumed before the frame began lets the buffer move its content
 * while the payload grows. */
Test(ws_frame, a_moving_buffer_does_not_lose_the_frame)
{
    size_t mark;

    fill(200);
    bytes_consume(&buffer, 150);
    cr_assert_eq(ws_frame_begin(&buffer, false, &mark), STATUS_OK);
    fill(180);
    cr_assert_eq(ws_frame_end(&buffer, mark, WS_BINARY, NULL), STATUS_OK);
    bytes_consume(&buffer, 50);
    expect_frame(180, NULL);
}

Test(ws_frame, an_aborted_frame_leaves_nothing)
{
    size_t mark;

    fill(10);
    cr_assert_eq(ws_frame_begin(&buffer, true, &mark), STATUS_OK);
    fill(100);
    ws_frame_abort(&buffer, mark);
    cr_expect_eq(bytes_len(&buffer), 10);
    cr_assert_eq(ws_frame_begin(&buffer, false, &mark), STATUS_OK);
    ws_frame_abort(&buffer, mark);
    cr_expect_eq(bytes_len(&buffer), 10);
}

Test(ws_frame, ending_with_a_mask_not_begun_with_is_a_bug, .signal = SIGABRT)
{
    size_t mark;

    cr_assert_eq(ws_frame_begin(&buffer, false, &mark), STATUS_OK);
    cr_assert_eq(ws_frame_end(&buffer, mark, WS_BINARY, MASK), STATUS_OK);
}
