#include "tools/godwit/command.h"

#include <stdarg.h>
#include <string.h>

int fail(int code, const char *format, ...)
{
    va_list args;

    fputs("godwit: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return code;
}

int exit_code_of(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return EXIT_OK;
    case STATUS_UNAUTHENTICATED:
    case STATUS_FORBIDDEN:
        return EXIT_DENIED;
    case STATUS_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case STATUS_EXISTS:
        return EXIT_EXISTS;
    case STATUS_TIMEOUT:
    case STATUS_CLOSED:
        return EXIT_UNREACHABLE;
    case STATUS_AGAIN:
    case STATUS_NOMEM:
    case STATUS_INVALID:
    case STATUS_TOO_LARGE:
    case STATUS_CORRUPT:
    case STATUS_IO:
    case STATUS_FROZEN:
    case STATUS_NO_SPACE:
    case STATUS_NEWER:
    case STATUS_UNSUPPORTED:
    case STATUS_BUSY:
    case STATUS_INTERNAL:
        break;
    }
    return EXIT_FAILED;
}

static void print_commands(FILE *out, const struct command *commands,
                           const char *program, const char *intro,
                           const char *outro)
{
    fprintf(out, "usage: %s COMMAND [options]\n\n", program);
    if (intro != NULL) {
        fprintf(out, "%s\n", intro);
    }
    fprintf(out, "Commands:\n");
    for (; commands->name != NULL; commands++) {
        fprintf(out, "  %-10s %s\n", commands->name, commands->summary);
    }
    fprintf(out, "\n`%s COMMAND --help` tells about one of them.\n", program);
    if (outro != NULL) {
        fprintf(out, "\n%s", outro);
    }
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0
           || strcmp(word, "help") == 0;
}

int command_dispatch(const struct command *commands, const char *program,
                     const char *intro, const char *outro, int argc,
                     char **argv)
{
    char help_word[] = "--help";

    if (argc < 2) {
        print_commands(stderr, commands, program, intro, outro);
        return EXIT_USAGE;
    }
    /* "godwit help pub" is "godwit pub --help" */
    if (strcmp(argv[1], "help") == 0 && argc == 3) {
        char *swapped[] = { argv[0], argv[2], help_word, NULL };

        return command_dispatch(commands, program, intro, outro, 3, swapped);
    }
    if (is_help(argv[1])) {
        print_commands(stdout, commands, program, intro, outro);
        return EXIT_OK;
    }
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (strcmp(c->name, argv[1]) == 0) {
            return c->run(argc - 1, argv + 1);
        }
    }
    return fail(EXIT_USAGE, "there is no command \"%s\"; see %s --help",
                argv[1], program);
}

static void print_help(const struct help *help, const struct arg *own,
                       const struct arg *common)
{
    printf("usage: %s\n\n%s", help->usage, help->text);
    if (own != NULL && own->name != NULL) {
        printf("\nOptions:\n");
        args_help(stdout, own);
    }
    if (common != NULL) {
        printf("\nConnection:\n");
        args_help(stdout, common);
    }
    if (help->examples != NULL) {
        printf("\nExamples:\n%s", help->examples);
    }
}

/* Help wins over everything else on the line, wrong options too. */
static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

/* The operand that is not there: the next word in capitals of the usage line. */
static void report_missing(const struct help *help, size_t given)
{
    const char *at = help->usage;

    while (*at != '\0') {
        size_t len = strcspn(at, " ");

        if (*at >= 'A' && *at <= 'Z' && given-- == 0) {
            fail(EXIT_USAGE, "%.*s is missing", (int)len, at);
            return;
        }
        at += len;
        at += strspn(at, " ");
    }
}

bool command_parse(struct parsed *parsed, const struct help *help,
                   const struct arg *own, const struct arg *common,
                   size_t operand_min, size_t operand_max, int argc,
                   char **argv)
{
    struct error err = { 0 };

    if (asks_for_help(argc, argv)) {
        print_help(help, own, common);
        parsed->code = EXIT_OK;
        return false;
    }
    parsed->code = EXIT_USAGE;
    if (args_parse(own, common, argc, argv, &parsed->operands, &err)
        != STATUS_OK) {
        fail(EXIT_USAGE, "%s", err.text);
    } else if (parsed->operands.count < operand_min) {
        report_missing(help, parsed->operands.count);
    } else if (parsed->operands.count > operand_max) {
        fail(EXIT_USAGE, "\"%s\" is one word too many",
             parsed->operands.at[operand_max]);
    } else {
        return true;
    }
    fprintf(stderr, "usage: %s\n(--help tells more)\n", help->usage);
    return false;
}
