/* A command, its help, and what the process says with its exit code. */
#ifndef GODWIT_TOOLS_COMMAND_H
#define GODWIT_TOOLS_COMMAND_H

#include "tools/godwit/args.h"

enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,      /* refused, or not everything was done */
    EXIT_USAGE = 2,       /* the command line or the input makes no sense */
    EXIT_UNREACHABLE = 3, /* no connection, or none any more */
    EXIT_DENIED = 4,      /* unauthenticated or forbidden */
    EXIT_NOT_FOUND = 5,
    EXIT_EXISTS = 6,
    EXIT_INTERRUPTED = 130 /* Ctrl-C before the work was done */
};

/* argv[0] is the command's own word. Returns an exit code. */
typedef int (*command_fn)(int argc, char **argv);

struct command {
    const char *name; /* NULL ends a table */
    const char *summary;
    command_fn run;
};

/* Run the command that argv[1] names. `program` is what came before, such as
 * "godwit topic"; `intro` and `outro` go around the list that --help shows. */
int command_dispatch(const struct command *commands, const char *program,
                     const char *intro, const char *outro, int argc,
                     char **argv);

struct help {
    const char *usage;    /* "godwit pub TOPIC [options]" */
    const char *text;     /* a paragraph or two, with line ends */
    const char *examples; /* lines, indented by two; NULL: none */
};

struct parsed {
    struct operands operands;
    int code; /* exit with this when command_parse() says false */
};

/* Parse the options of one command. False: help was printed or the usage was
 * wrong; the caller returns parsed->code. `common` (may be NULL) is the table
 * of options about the connection. The command has operand_min to operand_max
 * operands. */
bool command_parse(struct parsed *parsed, const struct help *help,
                   const struct arg *own, const struct arg *common,
                   size_t operand_min, size_t operand_max, int argc,
                   char **argv);

/* "godwit: ..." on stderr. Returns `code`, so that a failure is one line. */
int fail(int code, const char *format, ...) PRINTF_LIKE(2, 3);

/* The exit code that fits a status. */
int exit_code_of(enum status status);

#endif
