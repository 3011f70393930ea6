/* links: godwit_tool godwit_proto */
#include "tools/godwit/args.h"
#include "tools/godwit/command.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <string.h>

static bool flag;
static const char *text;
static uint64_t count;
static uint64_t size;
static uint64_t seconds_ms;
static struct arg_list list;
static struct operands operands;
static struct error err;

static const struct arg own[] = {
    { "flag", ARG_FLAG, &flag, NULL, "a flag", 0, 0 },
    { "text", ARG_TEXT, &text, "WORD", "a text", 0, 0 },
    { "count", ARG_COUNT, &count, "N", "a count", 1, 5000 },
    { "size", ARG_SIZE, &size, "BYTES", "a size", 0, 0 },
    { "list", ARG_LIST, &list, "K=V", "a list", 0, 0 },
    { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
};
static const struct arg common[] = {
    { "seconds", ARG_SECONDS, &seconds_ms, "SECONDS", "a time", 100, 60000 },
    { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
};

/* Words of a command line, NULL at the end. */
static enum status parse(const char *const *words)
{
    char *argv[80];
    int argc = 0;

    for (; words[argc] != NULL; argc++) {
        argv[argc] = (char *)words[argc];
    }
    argv[argc] = NULL;
    return args_parse(own, common, argc, argv, &operands, &err);
}
#define PARSE(...) parse((const char *const[]) { "cmd", __VA_ARGS__, NULL })

TestSuite(args, .timeout = 10);

Test(args, options_and_operands_may_mix)
{
    cr_assert_eq(PARSE("one", "--flag", "--text", "word", "two", "--count=12"),
                 STATUS_OK);
    cr_assert(flag);
    cr_assert_str_eq(text, "word");
    cr_assert_eq(count, 12);
    cr_assert_eq(operands.count, 2);
    cr_assert_str_eq(operands.at[1], "two");
}

Test(args, common_options_are_known_too)
{
    cr_assert_eq(PARSE("--seconds", "1.25"), STATUS_OK);
    cr_assert_eq(seconds_ms, 1250);
}

Test(args, bounds_are_inclusive_and_named)
{
    cr_assert_eq(PARSE("--count", "5000"), STATUS_OK);
    cr_assert_eq(PARSE("--count", "1"), STATUS_OK);
    cr_assert_eq(PARSE("--count", "5001"), STATUS_INVALID);
    cr_assert_str_eq(err.text, "--count 5001: allowed are 1 to 5000");
    cr_assert_eq(PARSE("--count", "0"), STATUS_INVALID);
    cr_assert_eq(count, 1, "a refused value is not stored");
    cr_assert_eq(PARSE("--seconds", "0.099"), STATUS_INVALID);
    cr_assert_str_eq(err.text,
                     "--seconds 0.099: allowed are 0.1 to 60 seconds");
}

Test(args, wrong_use_is_named)
{
    cr_assert_eq(PARSE("--nothing"), STATUS_INVALID);
    cr_assert_str_eq(err.text, "there is no option --nothing");
    cr_assert_eq(PARSE("-x"), STATUS_INVALID);
    cr_assert_eq(PARSE("--text"), STATUS_INVALID);
    cr_assert_str_eq(err.text, "--text needs a value (WORD)");
    cr_assert_eq(PARSE("--flag=yes"), STATUS_INVALID);
    cr_assert_str_eq(err.text, "--flag takes no value");
    cr_assert_eq(PARSE("1", "2", "3", "4"), STATUS_OK);
    cr_assert_eq(PARSE("1", "2", "3", "4", "5"), STATUS_INVALID);
}

Test(args, two_dashes_end_the_options)
{
    cr_assert_eq(PARSE("--", "--flag", "-"), STATUS_OK);
    cr_assert_not(flag);
    cr_assert_eq(operands.count, 2);
    cr_assert_str_eq(operands.at[0], "--flag");
}

Test(args, a_list_takes_its_bound_and_no_more)
{
    const char *words[2 * (ARG_LIST_MAX + 1) + 2] = { "cmd" };

    for (size_t i = 0; i < ARG_LIST_MAX + 1; i++) {
        words[1 + 2 * i] = "--list";
        words[2 + 2 * i] = "k=v";
    }
    char *argv[2 * (ARG_LIST_MAX + 1) + 2];
    for (size_t i = 0; i < 2 * (ARG_LIST_MAX + 1) + 1; i++) {
        argv[i] = (char *)words[i];
    }
    cr_assert_eq(
        args_parse(own, common, 2 * ARG_LIST_MAX + 1, argv, &operands, &err),
        STATUS_OK);
    cr_assert_eq(list.count, ARG_LIST_MAX);
    list.count = 0;
    cr_assert_eq(
        args_parse(own, common, 2 * ARG_LIST_MAX + 3, argv, &operands, &err),
        STATUS_INVALID);
}

static void expect_number(enum arg_kind kind, const char *word, uint64_t want)
{
    uint64_t value = 0;

    cr_assert(args_number(kind, word, &value), "%s", word);
    cr_assert_eq(value, want, "%s gave %lu", word, (unsigned long)value);
}

Test(args, numbers_with_suffixes)
{
    expect_number(ARG_COUNT, "20k", 20000);
    expect_number(ARG_COUNT, "3M", 3000000);
    expect_number(ARG_SIZE, "16K", 16384);
    expect_number(ARG_SIZE, "1M", 1048576);
    expect_number(ARG_SIZE, "10GiB", UINT64_C(10) << 30);
    expect_number(ARG_SIZE, "2TiB", UINT64_C(2) << 40);
    expect_number(ARG_SIZE, "1KiB", 1024);
    expect_number(ARG_COUNT, "2G", 2000000000);
    expect_number(ARG_AGE, "90s", 90 * 1000);
    expect_number(ARG_AGE, "15m", 15 * 60 * 1000);
    expect_number(ARG_AGE, "12h", 12 * 3600 * 1000);
    expect_number(ARG_AGE, "7d", 7 * 24 * 3600 * 1000);
    expect_number(ARG_AGE, "2w", 14 * 24 * 3600 * 1000);
    expect_number(ARG_COUNT, "18446744073709551615", UINT64_MAX);
    expect_number(ARG_SECONDS, "5", 5000);
    expect_number(ARG_SECONDS, "5s", 5000);
    expect_number(ARG_SECONDS, "0.25", 250);
    expect_number(ARG_SECONDS, "0.0019", 1);
}

Test(args, what_is_no_number_is_refused)
{
    static const char *const words[] = { "",
                                         "k",
                                         "-1",
                                         "+1",
                                         " 1",
                                         "1 ",
                                         "1kk",
                                         "0x10",
                                         "1.5",
                                         "18446744073709551616",
                                         "18446744073709551615k" };
    uint64_t value;

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        cr_assert_not(args_number(ARG_COUNT, words[i], &value), "\"%s\"",
                      words[i]);
    }
    cr_assert_not(args_number(ARG_SIZE, "1Ki", &value));
    cr_assert_not(args_number(ARG_SIZE, "10GB", &value)); /* 10^10 or GiB? */
    cr_assert_not(args_number(ARG_SIZE, "1GiBs", &value));
    cr_assert_not(args_number(ARG_SIZE, "17000000T", &value));
    cr_assert_not(args_number(ARG_COUNT, "1MiB", &value));
    cr_assert_not(args_number(ARG_AGE, "7", &value)); /* of what? */
    cr_assert_not(args_number(ARG_AGE, "7days", &value));
    cr_assert_not(args_number(ARG_AGE, "", &value));
    cr_assert_not(args_number(ARG_AGE, "d", &value));
    cr_assert_not(args_number(ARG_AGE, "99999999999999d", &value));
    cr_assert_not(args_number(ARG_SECONDS, "5m", &value));
    cr_assert_not(args_number(ARG_SECONDS, "4294967296", &value));
    cr_assert_not(args_number(ARG_SECONDS, ".", &value));
}

Test(args, help_lists_every_option_and_stays_narrow)
{
    char shown[4096];
    FILE *out = fmemopen(shown, sizeof shown, "w");

    args_help(out, own);
    fclose(out);
    cr_assert(strstr(shown, "--flag ") != NULL);
    cr_assert(strstr(shown, "--list K=V") != NULL);
    for (char *line = shown; *line != '\0';) {
        size_t len = strcspn(line, "\n");

        cr_assert_leq(len, 79);
        line += len + (line[len] == '\n');
    }
}

static int ran(int argc, char **argv)
{
    return argc == 2 && strcmp(argv[0], "go") == 0
                   && strcmp(argv[1], "far") == 0
               ? 42
               : 1;
}

static const struct command commands[] = { { "go", "goes", ran },
                                           { NULL, NULL, NULL } };

Test(args, dispatch_runs_the_named_command, .init = cr_redirect_stderr)
{
    char *go[] = { "godwit", "go", "far", NULL };
    char *stop[] = { "godwit", "stop", NULL };
    char *none[] = { "godwit", NULL };

    cr_assert_eq(command_dispatch(commands, "godwit", NULL, NULL, 3, go), 42);
    cr_assert_eq(command_dispatch(commands, "godwit", NULL, NULL, 2, stop),
                 EXIT_USAGE);
    cr_assert_eq(command_dispatch(commands, "godwit", NULL, NULL, 1, none),
                 EXIT_USAGE);
}

Test(args, statuses_have_their_exit_codes)
{
    cr_assert_eq(exit_code_of(STATUS_OK), 0);
    cr_assert_eq(exit_code_of(STATUS_FORBIDDEN), 4);
    cr_assert_eq(exit_code_of(STATUS_UNAUTHENTICATED), 4);
    cr_assert_eq(exit_code_of(STATUS_NOT_FOUND), 5);
    cr_assert_eq(exit_code_of(STATUS_EXISTS), 6);
    cr_assert_eq(exit_code_of(STATUS_TIMEOUT), 3);
    cr_assert_eq(exit_code_of(STATUS_NO_SPACE), 1);
}
