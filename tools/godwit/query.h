/* The path of a request with a query behind it. */
#ifndef GODWIT_TOOLS_QUERY_H
#define GODWIT_TOOLS_QUERY_H

#include "proto/bytes.h"

/* Zero-initialised is empty. The first failure is kept. */
struct query {
    struct bytes text;
    enum status status;
    bool any; /* a value is in it */
};

void query_path(struct query *q, const char *format, ...) PRINTF_LIKE(2, 3);
/* name=value, with what is not plain as %XX. */
void query_text(struct query *q, const char *name, const char *value);
void query_number(struct query *q, const char *name, uint64_t value);
/* The whole of it; the query's, until query_fini(). NULL: out of memory. */
const char *query_done(struct query *q);
void query_fini(struct query *q);

#endif
