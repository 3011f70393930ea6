/* A message of the HTTP interface as text: what peek, search and tail print.
 * Whatever is in it, it does nothing to a terminal. */
#ifndef GODWIT_TOOLS_MESSAGE_H
#define GODWIT_TOOLS_MESSAGE_H

#include "proto/bytes.h"
#include "tools/godwit/json.h"

struct message_style {
    bool json;       /* one object a line, as `sub --json` prints */
    bool color;      /* what is not the body in other colours */
    size_t body_max; /* characters of a body in a line; 0: all */
};

/* As fits the terminal, or whatever else stdout is. */
struct message_style message_style_of_stdout(bool json, bool full);

/* All append. STATUS_NOMEM. */
/*   1201  2026-11-20T14:09:37.123Z  key=o-1 tag=paid region=cn  hello */
MUST_CHECK enum status message_line(struct bytes *to,
                                    const struct json *message,
                                    const struct message_style *style);
/* A stretch that is lost: {topic, first, last}. */
MUST_CHECK enum status message_gap(struct bytes *to, const struct json *gap,
                                   const struct message_style *style);
/* Several lines, with all there is. */
MUST_CHECK enum status
message_card(struct bytes *to, const struct json *message, uint64_t now_us);
/* A text of strangers in a cell: nothing in it does anything to a terminal. The
 * caller frees it; NULL: none, or out of memory. */
char *message_shown(const char *text);
/* The bytes of the body, and nothing else. STATUS_INVALID: there are none. */
MUST_CHECK enum status message_body(struct bytes *to,
                                    const struct json *message);

#endif
