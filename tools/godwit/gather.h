/* Copies of messages of one topic that are to be published together. One
 * thread. */
#ifndef GODWIT_TOOLS_GATHER_H
#define GODWIT_TOOLS_GATHER_H

#include "client/godwit.h"
#include "proto/bytes.h"

/* Zero-initialised is empty. */
struct gather {
    struct godwit_message *messages;
    size_t count;
    size_t capacity;
    size_t bytes; /* of all their bodies */
};

void gather_fini(struct gather *g);

/* Add a copy; the headers stay the caller's. STATUS_TOO_LARGE: there are as
 * many, or as long, as may go together. STATUS_NOMEM. */
MUST_CHECK enum status gather_add(struct gather *g,
                                  const struct godwit_message *message);

#endif
