/* The detail an operator reads when a call that opens, recovers or configures
 * something fails. Explicit and not thread-local, because work moves between
 * threads and the detail must travel with it. */
#ifndef GODWIT_PROTO_ERROR_H
#define GODWIT_PROTO_ERROR_H

#include "proto/check.h"
#include "proto/status.h"

struct error {
    int sys;        /* errno where it happened, 0 if none */
    char text[512]; /* outermost context first: "recover: segment 12: open" */
};

/* Fill *err (NULL is accepted) and return `status`, so that a failure is one
 * line. A `sys` other than 0 appends ": " and its strerror text. */
enum status error_set(struct error *err, enum status status, int sys,
                      const char *format, ...) PRINTF_LIKE(4, 5);

/* Put "context: " before the text that is there. Returns `status`. */
enum status error_prefix(struct error *err, enum status status,
                         const char *format, ...) PRINTF_LIKE(3, 4);

#endif
