/* links: godwit_proto */
#include "proto/bytes.h"

#include <criterion/criterion.h>
#include <signal.h>

static struct bytes buffer;

static void set_up(void)
{
    buffer = (struct bytes) { 0 };
}

static void tear_down(void)
{
    bytes_fini(&buffer);
}

TestSuite(bytes, .init = set_up, .fini = tear_down, .timeout = 10);

static void append(const char *text)
{
    cr_assert_eq(bytes_append(&buffer, text, strlen(text)), STATUS_OK);
}

static struct slice content(void)
{
    return slice_of(bytes_begin(&buffer), bytes_len(&buffer));
}

Test(bytes, what_goes_in_at_the_end_comes_out_at_the_front)
{
    append("hello ");
    append("world");
    cr_expect(slice_is(content(), "hello world"));
    bytes_consume(&buffer, 6);
    cr_expect(slice_is(content(), "world"));
    bytes_consume(&buffer, 5);
    cr_expect_eq(bytes_len(&buffer), 0);
    cr_expect_eq(buffer.begin, 0);
}

Test(bytes, growing_keeps_the_content)
{
    for (int i = 0; i < 10000; i++) {
        uint8_t byte = (uint8_t)(i * 7);
        cr_assert_eq(bytes_append(&buffer, &byte, 1), STATUS_OK);
        if (i % 3 == 0) {
            bytes_consume(&buffer, 1);
        }
    }
    cr_assert_eq(bytes_len(&buffer), 10000 - 3334);
    for (size_t i = 0; i < bytes_len(&buffer); i++) {
        cr_assert_eq(bytes_begin(&buffer)[i], (uint8_t)((i + 3334) * 7));
    }
}

Test(bytes, reserve_holds_the_bound_and_not_one_more)
{
    cr_assert_eq(bytes_reserve(&buffer, 1000, 1000), STATUS_OK);
    bytes_filled(&buffer, 1000);
    cr_expect_eq(bytes_reserve(&buffer, 0, 1000), STATUS_OK);
    cr_expect_eq(bytes_reserve(&buffer, 1, 1000), STATUS_TOO_LARGE);
    cr_expect_eq(bytes_len(&buffer), 1000);
    bytes_consume(&buffer, 1);
    cr_expect_eq(bytes_reserve(&buffer, 1, 1000), STATUS_OK);
    cr_expect_eq(bytes_reserve(&buffer, 2, 1000), STATUS_TOO_LARGE);
}

Test(bytes, reserve_of_an_impossible_length_is_refused)
{
    append("x");
    cr_expect_eq(bytes_reserve(&buffer, SIZE_MAX, SIZE_MAX), STATUS_TOO_LARGE);
    cr_expect_eq(bytes_reserve(&buffer, SIZE_MAX / 2 + 1, SIZE_MAX),
                 STATUS_NOMEM);
    cr_expect(slice_is(content(), "x"));
}

Test(bytes, room_at_the_front_is_used_again)
{
    size_t capacity;

    append("0123456789");
    capacity = buffer.capacity;
    while (bytes_room(&buffer) > 0) {
        append("x");
    }
    bytes_consume(&buffer, capacity - 1);
    cr_assert_eq(bytes_reserve(&buffer, capacity - 1, SIZE_MAX / 2), STATUS_OK);
    cr_expect_eq(buffer.capacity, capacity);
    cr_expect(slice_is(content(), "x"));
}

Test(bytes, consuming_more_than_there_is_is_a_bug, .signal = SIGABRT)
{
    append("x");
    bytes_consume(&buffer, 2);
}

Test(bytes, filling_past_the_room_is_a_bug, .signal = SIGABRT)
{
    append("x");
    bytes_filled(&buffer, bytes_room(&buffer) + 1);
}

Test(bytes, fields_written_are_read_again)
{
    struct writer w = { .to = &buffer };
    struct reader r;

    writer_u8(&w, 0xAB);
    writer_u16(&w, 0xABCD);
    writer_u32(&w, 0xABCDEF01u);
    writer_u64(&w, 0xABCDEF0123456789u);
    writer_slice(&w, slice_text("tail"));
    cr_assert_eq(w.status, STATUS_OK);
    cr_assert_eq(bytes_len(&buffer), 1 + 2 + 4 + 8 + 4);
    cr_expect_eq(bytes_begin(&buffer)[1], 0xCD, "the low byte comes first");
    r = reader_of(content());
    cr_expect_eq(reader_u8(&r), 0xAB);
    cr_expect_eq(reader_u16(&r), 0xABCD);
    cr_expect_eq(reader_u32(&r), 0xABCDEF01u);
    cr_expect_eq(reader_u64(&r), 0xABCDEF0123456789u);
    cr_expect(slice_is(reader_slice(&r, 4), "tail"));
    cr_expect_not(r.failed);
    cr_expect_eq(reader_u8(&r), 0);
    cr_expect(r.failed);
}

Test(bytes, a_reader_that_failed_stays_failed)
{
    struct reader r = reader_of(slice_text("abc"));

    cr_expect_eq(reader_u32(&r), 0);
    cr_expect(r.failed);
    cr_expect_eq(reader_u8(&r), 0, "there are bytes, but it has failed");
    cr_expect_eq(reader_u16(&r), 0);
    cr_expect_eq(reader_slice(&r, 1).len, 0);
}

Test(bytes, slices_compare_by_content)
{
    cr_expect(slice_equal(slice_of(NULL, 0), slice_text("")));
    cr_expect(slice_is(slice_text("abc"), "abc"));
    cr_expect_not(slice_is(slice_text("abc"), "abd"));
    cr_expect_not(slice_is(slice_text("abc"), "ab"));
    cr_expect_not(slice_is(slice_text("ab"), "abc"));
}
