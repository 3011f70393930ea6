/* A place in a topic as people say it on the command line: the same words for
 * where a group begins, where it seeks to, and what is looked at. */
#ifndef GODWIT_TOOLS_WHERE_H
#define GODWIT_TOOLS_WHERE_H

#include "tools/godwit/json.h"

#include <stdbool.h>
#include <stdint.h>

enum where_kind {
    WHERE_NOT_SAID,
    WHERE_EARLIEST,
    WHERE_LATEST,
    WHERE_SEQ,
    WHERE_TIME
};

struct where {
    enum where_kind kind;
    uint64_t at; /* the seq, or wall clock microseconds since 1970 */
};

/* For the text of a help. */
#define WHERE_HELP                                                             \
    "WHERE is earliest, latest, a seq (1201), how long ago (15m, 2h, 7d) or "  \
    "a time\n(2026-11-20, 2026-11-20T14:09:37, in UTC).\n"

/* `text` (NULL: not said) as a place; `option` is what it was said with, such as
 * "--from", or "". False: it is none, said on stderr. */
bool where_read(const char *option, const char *text, struct where *out);

/* "earliest", "latest", {"seq":"N"} or {"time_us":"N"}; nothing when it was not
 * said. */
void where_put(struct json_writer *w, const char *name,
               const struct where *where);

#endif
