/* The filter language of groups, and of searching a topic:
 *
 *   expr    := or;  or := and { "||" and };  and := not { "&&" not }
 *   not     := "!" not | "(" or ")" | test
 *   test    := field op literal | field "in" "(" literal { "," literal } ")"
 *            | field "like" "prefix*" | "has" "(" field ")"
 *   field   := key | tag | a header's name, bare ([A-Za-z_][A-Za-z0-9_.-]*) or
 *              h"any name" when it is not; `key` and `tag` are the message's own
 *   op      := == != < <= > >=
 *   literal := "text" (with \" and \\) | number (decimal, sign, fraction)
 *
 * A comparison with a number is numeric and false when the header is missing or
 * no number; with a text it is by bytes. A missing field is equal to nothing:
 * != is true then. Compiled once, evaluated without memory, in time linear in
 * program and message; no recursion deeper than FILTER_DEPTH_MAX. */
#ifndef GODWIT_BROKER_ROUTER_FILTER_H
#define GODWIT_BROKER_ROUTER_FILTER_H

#include "proto/refusal.h"
#include "proto/wire.h"

struct filter;

/* *refusal: limit "filter", a text with the column (from 1) and what was
 * expected; `used` the column. Bounds: FILTER_LEN_MAX, FILTER_TERMS_MAX,
 * FILTER_DEPTH_MAX. STATUS_INVALID, STATUS_TOO_LARGE, STATUS_NOMEM. */
MUST_CHECK enum status filter_compile(struct filter **out, struct slice text,
                                      struct refusal *refusal);
void filter_free(struct filter *filter); /* accepts NULL */
bool filter_match(const struct filter *filter,
                  const struct wire_message *message);

#endif
