/* links: godwit_proto */
#include "proto/utf8.h"

#include <criterion/criterion.h>
#include <stdlib.h>

TestSuite(utf8, .timeout = 60);

struct case_of {
    const char *bytes;
    size_t len;
    bool valid;
    const char *why;
};

#define CASE(bytes, valid, why)                                                \
    {                                                                          \
        bytes, sizeof(bytes) - 1, valid, why                                   \
    }

static const struct case_of cases[] = {
    CASE("", true, "nothing"),
    CASE("plain", true, "ASCII"),
    CASE("a\0b", true, "NUL is for the caller to judge"),
    CASE("\x7F", true, "the last ASCII"),
    CASE("\xC2\x80", true, "the first of two bytes"),
    CASE("\xDF\xBF", true, "the last of two bytes"),
    CASE("\xE0\xA0\x80", true, "the first of three bytes"),
    CASE("\xED\x9F\xBF", true, "the last before the surrogates"),
    CASE("\xEE\x80\x80", true, "the first behind the surrogates"),
    CASE("\xEF\xBF\xBF", true, "the last of three bytes"),
    CASE("\xF0\x90\x80\x80", true, "the first of four bytes"),
    CASE("\xF4\x8F\xBF\xBF", true, "U+10FFFF"),
    CASE("\x80", false, "a continuation alone"),
    CASE("\xBF", false, "a continuation alone"),
    CASE("\xC0\x80", false, "overlong NUL"),
    CASE("\xC1\xBF", false, "overlong"),
    CASE("\xE0\x80\x80", false, "overlong"),
    CASE("\xE0\x9F\xBF", false, "overlong"),
    CASE("\xF0\x80\x80\x80", false, "overlong"),
    CASE("\xF0\x8F\xBF\xBF", false, "overlong"),
    CASE("\xED\xA0\x80", false, "the first surrogate"),
    CASE("\xED\xBF\xBF", false, "the last surrogate"),
    CASE("\xF4\x90\x80\x80", false, "U+110000"),
    CASE("\xF5\x80\x80\x80", false, "a first byte past F4"),
    CASE("\xFE", false, "never a byte of UTF-8"),
    CASE("\xFF", false, "never a byte of UTF-8"),
    CASE("\xC3", false, "cut off"),
    CASE("\xE2\x82", false, "cut off"),
    CASE("\xE2", false, "cut off"),
    CASE("\xF0\x9F\x98", false, "cut off"),
    CASE("\xC3\x28", false, "a second byte that is none"),
    CASE("\xE2\x28\xA1", false, "a second byte that is none"),
    CASE("\xE2\x82\x28", false, "a third byte that is none"),
    CASE("\xF0\x9F\x98\x28", false, "a fourth byte that is none"),
    CASE("\xC3\xC3\xA4", false, "a first byte as the second"),
};

/* From the heap, so that a read past the end is seen. */
static bool valid_on_heap(const char *before, const struct case_of *c)
{
    size_t before_len = strlen(before);
    uint8_t *copy = malloc(before_len + c->len + 1);
    bool valid;

    memcpy(copy, before, before_len);
    memcpy(copy + before_len, c->bytes, c->len);
    copy = realloc(copy, before_len + c->len);
    valid = utf8_valid(slice_of(copy, before_len + c->len));
    free(copy);
    return valid;
}

Test(utf8, table_at_each_place_of_a_word)
{
    static const char filler[] = "0123456789abcdef";

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t skip = 0; skip < sizeof filler - 1; skip++) {
            cr_expect_eq(valid_on_heap(filler + skip, &cases[i]),
                         cases[i].valid, "case %zu: %s", i, cases[i].why);
        }
    }
}

static size_t encode(uint32_t c, uint8_t *out)
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xC0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

Test(utf8, every_code_point_but_surrogates)
{
    for (uint32_t c = 0; c < 0x120000; c++) {
        uint8_t text[4];
        size_t len = encode(c, text);
        bool expected = c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);

        cr_assert_eq(utf8_valid(slice_of(text, len)), expected, "U+%X", c);
        cr_assert_not(len > 1 && utf8_valid(slice_of(text, len - 1)));
    }
}

/* 128 ASCII twice, or one of 30 first bytes with one of 64 second ones. */
Test(utf8, exactly_the_strings_of_two_bytes_that_may_be)
{
    size_t valid = 0;

    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            uint8_t text[2] = { (uint8_t)a, (uint8_t)b };
            valid += utf8_valid(slice_of(text, 2));
        }
    }
    cr_expect_eq(valid, 128 * 128 + 30 * 64);
}
