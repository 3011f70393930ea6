/* What search and tail have in common: which messages of a topic, and how they
 * are shown. */
#ifndef GODWIT_TOOLS_LOOK_H
#define GODWIT_TOOLS_LOOK_H

#include "tools/godwit/message.h"
#include "tools/godwit/query.h"
#include "tools/godwit/session.h"

/* Which messages; NULL: any. */
struct look_options {
    const char *key;
    const char *tag;
    const char *filter;
    struct arg_list headers; /* NAME=VALUE each */
};

/* The options of them all, for a command's table. */
#define LOOK_ARGS(o)                                                           \
    { "key", ARG_TEXT, &(o)->key, "KEY", "only with this key", 0, 0 },         \
        { "tag", ARG_TEXT, &(o)->tag, "TAG", "only with this tag", 0, 0 },     \
        { "header",                                                            \
          ARG_LIST,                                                            \
          &(o)->headers,                                                       \
          "NAME=VALUE",                                                        \
          "only with this header; several times: with all of them",            \
          0,                                                                   \
          0 },                                                                 \
    {                                                                          \
        "filter", ARG_TEXT, &(o)->filter, "EXPR",                              \
            "only what this is true for: 'region == \"cn\" && amount > 100'; " \
            "`godwit group create --help` tells more",                         \
            0, 0                                                               \
    }

/* Put them into the query. False: said on stderr. */
bool look_query(struct query *q, const struct look_options *o);

/* Print the messages and gaps of an answer to stdout, by seq. *count (may be
 * NULL) grows by the messages. STATUS_CLOSED: nobody reads any more. */
MUST_CHECK enum status look_print(const struct json *answer,
                                  const struct message_style *style,
                                  uint64_t *count);

/* Say what printing failed by. Returns the exit code. */
int look_print_failed(enum status status);

#endif
