/* links: godwit_proto */
#include "proto/status.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(status, .timeout = 10);

Test(status, numbers_on_the_wire_never_change)
{
    static const char *const words[] = {
        "ok",          "again",     "no_memory", "invalid",
        "too_large",   "not_found", "exists",    "unauthenticated",
        "forbidden",   "corrupt",   "io",        "frozen",
        "no_space",    "closed",    "timeout",   "newer",
        "unsupported", "busy",      "internal",
    };

    cr_assert_eq(sizeof words / sizeof words[0], STATUS_COUNT);
    for (unsigned i = 0; i < STATUS_COUNT; i++) {
        cr_expect_str_eq(status_word((enum status)i), words[i], "number %u", i);
    }
}

Test(status, each_has_its_own_word_and_a_text)
{
    for (unsigned i = 0; i < STATUS_COUNT; i++) {
        cr_expect_gt(strlen(status_text((enum status)i)), 0, "number %u", i);
        for (unsigned k = 0; k < i; k++) {
            cr_expect_str_neq(status_word((enum status)i),
                              status_word((enum status)k));
        }
    }
}

Test(status, number_from_the_wire_is_a_status_or_internal)
{
    for (unsigned i = 0; i < STATUS_COUNT; i++) {
        cr_expect_eq(status_from_number(i), (enum status)i);
    }
    cr_expect_eq(status_from_number(STATUS_COUNT), STATUS_INTERNAL);
    cr_expect_eq(status_from_number(0xFFFFFFFFu), STATUS_INTERNAL);
}

Test(status, word_from_the_wire_is_a_failure_or_what_was_said)
{
    for (unsigned i = STATUS_OK + 1; i < STATUS_COUNT; i++) {
        const char *word = status_word((enum status)i);
        size_t len = strlen(word);

        cr_expect_eq(status_from_word(word, len, STATUS_OK), (enum status)i);
        cr_expect_eq(status_from_word(word, len - 1, STATUS_OK), STATUS_OK,
                     "a part of %s", word);
    }
    cr_expect_eq(status_from_word("ok", 2, STATUS_IO), STATUS_IO);
    cr_expect_eq(status_from_word("", 0, STATUS_BUSY), STATUS_BUSY);
    cr_expect_eq(status_from_word("frozen!", 7, STATUS_BUSY), STATUS_BUSY);
}

Test(status, unknown_number_has_a_word_too)
{
    cr_expect_str_eq(status_word((enum status)STATUS_COUNT), "unknown");
    cr_expect_str_eq(status_text((enum status)STATUS_COUNT), "unknown status");
}
