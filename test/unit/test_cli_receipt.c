/* links: godwit_tool godwit_proto */
#include "tools/godwit/receipt.h"

#include <criterion/criterion.h>
#include <stdio.h>

TestSuite(receipt, .timeout = 10);

static void round_trip(const struct receipt *in, const char *expected)
{
    char text[RECEIPT_TEXT_LEN];
    char again[RECEIPT_TEXT_LEN];
    struct receipt out = { .seq = 77 };

    cr_assert_str_eq(receipt_print(text, in), expected);
    cr_assert(receipt_parse(text, &out));
    cr_assert_str_eq(receipt_print(again, &out), expected);
    cr_assert_eq(out.checksum, in->checksum);
}

Test(receipt, prints_and_reads_back)
{
    struct receipt r = { "orders", 41, 3, 2, 4096, 0x00c0ffee12345678 };

    round_trip(&r, "orders:41:3:2:4096:00c0ffee12345678");
}

Test(receipt, the_longest_fits_its_buffer)
{
    struct receipt r = { .seq = UINT64_MAX,
                         .count = 1,
                         .segment = UINT32_MAX,
                         .offset = UINT32_MAX,
                         .checksum = UINT64_MAX };
    char expected[RECEIPT_TEXT_LEN];

    memset(r.topic, 't', NAME_LEN_MAX);
    snprintf(expected, sizeof expected,
             "%s:18446744073709551615:1:4294967295:4294967295:"
             "ffffffffffffffff",
             r.topic);
    round_trip(&r, expected);
}

Test(receipt, a_topic_may_have_dots_and_dashes)
{
    struct receipt r = { "eu.orders-2_x", 1, 1, 1, 192, 0 };

    round_trip(&r, "eu.orders-2_x:1:1:1:192:0000000000000000");
}

Test(receipt, what_is_none_is_told_and_leaves_the_result_alone)
{
    static const char *const bad[] = {
        "",
        "orders",
        "orders:1:1:1:64",
        "orders:1:1:1:64:",
        "orders:1:1:1:64:00c0ffee1234567",
        "orders:1:1:1:64:00c0ffee123456789",
        "orders:1:1:1:64:00c0ffee1234567g",
        "orders:1:1:1:64:00c0ffee12345678:",
        ":1:1:1:64:00c0ffee12345678",
        "-x:1:1:1:64:00c0ffee12345678",
        "or/ders:1:1:1:64:00c0ffee12345678",
        "orders:0:1:1:64:00c0ffee12345678",
        "orders:1:0:1:64:00c0ffee12345678",
        "orders:1:1:0:64:00c0ffee12345678",
        "orders:1:1:1:0:00c0ffee12345678",
        "orders:1:1:4294967296:64:00c0ffee12345678",
        "orders:1:1:1:4294967296:00c0ffee12345678",
        "orders:18446744073709551615:2:1:64:00c0ffee12345678",
        "orders:18446744073709551616:1:1:64:00c0ffee12345678",
        "orders:+1:1:1:64:00c0ffee12345678",
        "orders: 1:1:1:64:00c0ffee12345678",
        "orders:1::1:64:00c0ffee12345678",
    };
    struct receipt out = { .seq = 77 };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_not(receipt_parse(bad[i], &out), "%s", bad[i]);
        cr_assert_eq(out.seq, 77);
    }
}
