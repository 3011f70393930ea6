/* A refusal explains itself: which limit or rule, on what, how much was used,
 * how much is allowed, and when to come back (promise 12). */
#ifndef GODWIT_PROTO_REFUSAL_H
#define GODWIT_PROTO_REFUSAL_H

#include "proto/check.h"
#include "proto/status.h"

#include <stdint.h>

struct refusal {
    enum status status;
    const char *limit; /* the rule's name, such as "body_len"; static text, "" */
    char scope[160]; /* what it was applied to, such as "topic orders"; or "" */
    uint64_t used;   /* in the rule's unit; 0 with allowed 0: no numbers */
    uint64_t allowed;
    uint64_t retry_after_ms; /* 0: trying again will not help by itself */
    char text[200];          /* one sentence for a person */
};

/* Fill *r with a status, a rule and a sentence; the other fields are cleared.
 * Returns the status. */
enum status refuse(struct refusal *r, enum status status, const char *limit,
                   const char *format, ...) PRINTF_LIKE(4, 5);

#endif
