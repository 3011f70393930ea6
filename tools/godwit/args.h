/* Options of a command, told by a table: parsing, bounds and the help text come
 * from the same lines, so that they cannot disagree. */
#ifndef GODWIT_TOOLS_ARGS_H
#define GODWIT_TOOLS_ARGS_H

#include "proto/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { ARG_LIST_MAX = 64, OPERAND_MAX = 4 };

/* Values of an option that may be given several times. Texts are argv's. */
struct arg_list {
    const char *at[ARG_LIST_MAX];
    size_t count;
};

enum arg_kind {
    ARG_FLAG,    /* to: bool */
    ARG_TEXT,    /* to: const char * */
    ARG_LIST,    /* to: struct arg_list */
    ARG_COUNT,   /* to: uint64_t; 20000 or 20k, 3M (thousands) */
    ARG_SIZE,    /* to: uint64_t, bytes; 512 or 16K, 1M, 10GiB (times 1024) */
    ARG_SECONDS, /* to: uint64_t, milliseconds; 5 or 0.25 */
    ARG_AGE      /* to: uint64_t, milliseconds; 90s, 15m, 12h, 7d, 2w */
};

struct arg {
    const char *name; /* without the dashes; NULL ends a table */
    enum arg_kind kind;
    void *to;
    const char *value; /* what the help calls the value; NULL for a flag */
    const char *help;
    uint64_t min; /* of a number, in the unit of `to`; max 0: no bounds */
    uint64_t max;
};

/* What is left when the options are gone. Texts are argv's. */
struct operands {
    const char *at[OPERAND_MAX];
    size_t count;
};

/* Read argv[1..] by two tables (the command's own and the common one; either
 * may be NULL). "--" ends the options, "--name=value" works like "--name
 * value", and "-n" is short for "--count" where there is one. STATUS_INVALID:
 * err->text is a sentence for the user. */
MUST_CHECK enum status args_parse(const struct arg *own,
                                  const struct arg *common, int argc,
                                  char **argv, struct operands *operands,
                                  struct error *err);

/* One line for each option of a table, texts wrapped in their column. */
void args_help(FILE *out, const struct arg *table);

/* The number in `text`, by the rules of `kind`. False: it is none. */
bool args_number(enum arg_kind kind, const char *text, uint64_t *out);

#endif
