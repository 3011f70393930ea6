/* What topics, groups and apps have in common: list, show, delete and create
 * over the HTTP interface. */
#ifndef GODWIT_TOOLS_RESOURCE_H
#define GODWIT_TOOLS_RESOURCE_H

#include "tools/godwit/session.h"
#include "tools/godwit/table.h"

struct resource_column {
    struct column shown;
    const char *field; /* of an item of the answer */
    /* Of the item itself, which is asked for one by one: AS_LANES the sum of
     * the field over its lanes, AS_HELD the gate that holds it.
     * AS_RETENTION: how a topic keeps its messages, of several fields. */
    enum { AS_TEXT, AS_COUNT, AS_MS, AS_LANES, AS_HELD, AS_RETENTION } as;
};

struct resource {
    const char *word;    /* "topic" */
    const char *operand; /* "TOPIC" */
    const char *path;    /* "/v1/topics" */
    const char *field;   /* "topics", the list in the answer */
    const struct resource_column *columns;
    size_t column_count;
};

int resource_list(const struct resource *r, int argc, char **argv);
int resource_show(const struct resource *r, int argc, char **argv);
int resource_delete(const struct resource *r, int argc, char **argv);

/* Print the document of a path, `help` being the command's: for what there is
 * one of. */
int resource_document(const char *path, const struct help *help, int argc,
                      char **argv);

/* POST `body` to the resource's path. Returns an exit code; *answer (may be
 * NULL) is for json_free(). */
int resource_post(const struct resource *r, struct session_options *so,
                  const char *body, struct json **answer);
/* PUT `body` to the path of the resource with this name. */
int resource_put(const struct resource *r, struct session_options *so,
                 const char *name, const char *body);
/* The same with PATCH: what `body` does not name stays as it is. */
int resource_patch(const struct resource *r, struct session_options *so,
                   const char *name, const char *body);

/* Is each pattern of "a,b.*" valid and are there any? False: said on stderr. */
bool check_patterns(const char *option, const char *list);

#endif
