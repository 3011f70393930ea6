/* A record of the log as one line of JSON. */
#ifndef GODWIT_TOOLS_DUMP_H
#define GODWIT_TOOLS_DUMP_H

#include "proto/bytes.h"
#include "storage/offline/inspect.h"

struct dump_options {
    const char *topic; /* NULL: any */
    bool no_bodies;
};

/* "message", "ack"... False: there is no such kind. */
bool dump_kind_of(const char *word, enum record_kind *out);

/* Append the line. STATUS_NOMEM. Names are those known to `inspect` up to here;
 * ids are there anyway. */
MUST_CHECK enum status dump_record(struct bytes *to,
                                   const struct inspect *inspect,
                                   const struct dump_options *options,
                                   const struct inspect_record *r);

#endif
