/* clang-format off: the grammar's lines are its own */
/* The filter language of groups, and of searching a topic:
 *
 *   expr    = and { or and }
 *   and     = not { and not }
 *   not     = "!" not | "(" expr ")" | test
 *   test    = field op literal
 *           | field [not] "in" "(" literal { "," literal } ")"
 *           | field [not] "like" text
 *           | "has" "(" field ")"
 *   field   = key | tag | a header's name: [A-Za-z_][A-Za-z0-9_.-]*, or
 *             h"any name"; bare key and tag are the message's own
 *   op      = == != < <= > >=
 *   literal = text | number | true | false
 *   text    = in "" or '', with \" \' \\ and \*
 *   number  = [+-] digits [ "." digits ]
 *
 * or: || or the word; and: && or the word; not: ! or the word; true and false:
 * the texts. Words in either case; a header with the name of one is h"or".
 *
 * A comparison with a text is by bytes; with `like` a * stands for any run of
 * characters, none too. One with a number is exact (100.10 equals 100.1,
 * however many digits; no exponents), and a value that is no such number is
 * like none at all. A field that is missing is equal to nothing, less and more
 * than nothing: but for != and not, which say the opposite always. An empty key
 * or tag is missing, an empty header is there.
 *
 * A filter is compiled once. To evaluate it takes no memory and no recursion,
 * and looks at no more than FILTER_COST_MAX bytes, whatever it is asked. */
/* clang-format on */
#ifndef GODWIT_BROKER_ROUTER_FILTER_H
#define GODWIT_BROKER_ROUTER_FILTER_H

#include "proto/limits.h"
#include "proto/refusal.h"
#include "proto/wire.h"

struct filter;

/* Each term finds its header among all, and compares once. */
enum {
    FILTER_COST_MAX = FILTER_TERMS_MAX
                      * (HEADER_COUNT_MAX * (1 + HEADER_NAME_LEN_MAX)
                         + HEADER_VALUE_LEN_MAX + FILTER_LEN_MAX)
};

/* *refusal: limit "filter", a text with the column and what was expected;
 * `used` the column, in characters from 1. The bounds have limits of their own:
 * filter_len, filter_terms, filter_depth. STATUS_INVALID, STATUS_TOO_LARGE,
 * STATUS_NOMEM. */
MUST_CHECK enum status filter_compile(struct filter **out, struct slice text,
                                      struct refusal *refusal);
void filter_free(struct filter *filter); /* accepts NULL */
bool filter_match(const struct filter *filter,
                  const struct wire_message *message);
/* The same, and how many bytes were looked at for it. */
bool filter_match_cost(const struct filter *filter,
                       const struct wire_message *message, size_t *cost);

#endif
