/* links: godwit_proto */
#include "proto/error.h"
#include "proto/refusal.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

TestSuite(error, .timeout = 10);

Test(error, set_formats_and_returns_the_status)
{
    struct error err;

    cr_assert_eq(error_set(&err, STATUS_CORRUPT, 0, "segment %d", 12),
                 STATUS_CORRUPT);
    cr_expect_str_eq(err.text, "segment 12");
    cr_expect_eq(err.sys, 0);
}

Test(error, set_appends_what_the_system_says)
{
    struct error err;

    cr_assert_eq(error_set(&err, STATUS_IO, ENOENT, "open"), STATUS_IO);
    cr_expect_str_eq(err.text, "open: No such file or directory");
    cr_expect_eq(err.sys, ENOENT);
}

Test(error, prefix_puts_the_outer_context_first)
{
    struct error err;

    error_set(&err, STATUS_IO, ENOSPC, "segment %d: open", 3);
    cr_assert_eq(error_prefix(&err, STATUS_NO_SPACE, "recover"),
                 STATUS_NO_SPACE);
    cr_expect_str_eq(err.text,
                     "recover: segment 3: open: No space left on device");
    cr_expect_eq(err.sys, ENOSPC);
}

Test(error, nobody_has_to_listen)
{
    cr_expect_eq(error_set(NULL, STATUS_IO, EIO, "open"), STATUS_IO);
    cr_expect_eq(error_prefix(NULL, STATUS_NEWER, "open"), STATUS_NEWER);
}

Test(error, long_text_is_cut_and_ended)
{
    struct error err;
    char filler[sizeof err.text + 100];

    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    error_set(&err, STATUS_IO, EIO, "%s", filler);
    cr_expect_eq(strlen(err.text), sizeof err.text - 1);
    error_prefix(&err, STATUS_IO, "%s", filler);
    cr_expect_eq(strlen(err.text), sizeof err.text - 1);
    error_prefix(&err, STATUS_IO, "recover");
    cr_expect_eq(strncmp(err.text, "recover: xxx", 12), 0);
}

Test(error, refusal_is_cleared_and_filled)
{
    struct refusal r;

    memset(&r, 0x55, sizeof r);
    cr_assert_eq(refuse(&r, STATUS_TOO_LARGE, "body_len", "%d bytes", 7),
                 STATUS_TOO_LARGE);
    cr_expect_eq(r.status, STATUS_TOO_LARGE);
    cr_expect_str_eq(r.limit, "body_len");
    cr_expect_str_eq(r.text, "7 bytes");
    cr_expect_str_eq(r.scope, "");
    cr_expect_eq(r.used, 0);
    cr_expect_eq(r.allowed, 0);
    cr_expect_eq(r.retry_after_ms, 0);
}
