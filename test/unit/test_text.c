/* links: godwit_proto */
#include "proto/text.h"

#include <criterion/criterion.h>
#include <stdlib.h>

TestSuite(text, .timeout = 10);

static uint64_t number;

static bool decimal(const char *text)
{
    number = 77;
    return text_decimal(slice_text(text), &number);
}

Test(text, decimals_are_read_to_the_last_bit)
{
    cr_expect(decimal("0"));
    cr_expect_eq(number, 0);
    cr_expect(decimal("18446744073709551615"));
    cr_expect_eq(number, UINT64_MAX);
    cr_expect(decimal("00000000000000000009"));
    cr_expect_eq(number, 9);
}

Test(text, what_is_no_decimal_changes_nothing)
{
    static const char *const bad[] = {
        "",
        "18446744073709551616",
        "99999999999999999999",
        "000000000000000000009",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.",
        "0x1",
        "1:",
        "1/",
        "\xEF\xBC\x91",
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_not(decimal(bad[i]), "%s", bad[i]);
        cr_expect_eq(number, 77, "%s", bad[i]);
    }
    cr_expect_not(text_decimal(slice_of(NULL, 0), &number));
    cr_expect_not(text_decimal(slice_of("1\0", 2), &number));
}

Test(text, a_hex_digit_is_one_of_22_bytes)
{
    uint8_t at[2] = { 0, '0' };
    uint8_t value;
    int count = 0;

    for (unsigned c = 0; c < 256; c++) {
        at[0] = (uint8_t)c;
        if (text_hex_pair(at, &value)) {
            char want[2] = { (char)c, '\0' };

            cr_expect_eq(value, strtoul(want, NULL, 16) << 4, "byte %u", c);
            count++;
        }
    }
    cr_expect_eq(count, 22);
    cr_expect_not(text_hex_pair((const uint8_t *)"0g", &value));
}

Test(text, hex_has_two_digits_for_each_byte)
{
    uint8_t out[2] = { 0, 0 };

    cr_expect(text_hex(slice_text("0aF9"), out, 2));
    cr_expect_eq(out[0], 0x0A);
    cr_expect_eq(out[1], 0xF9);
    cr_expect_not(text_hex(slice_text("0aF"), out, 2));
    cr_expect_not(text_hex(slice_text("0aF90"), out, 2));
    cr_expect_not(text_hex(slice_text("0aFx"), out, 2));
    cr_expect(text_hex(slice_of(NULL, 0), out, 0));
}

Test(text, trim_takes_blanks_from_both_ends)
{
    cr_expect(slice_is(text_trim(slice_text(" \t a b\t ")), "a b"));
    cr_expect(slice_is(text_trim(slice_text("a")), "a"));
    cr_expect_eq(text_trim(slice_text(" \t ")).len, 0);
    cr_expect_eq(text_trim(slice_of(NULL, 0)).len, 0);
    cr_expect(slice_is(text_trim(slice_text("\na\r")), "\na\r"));
}
