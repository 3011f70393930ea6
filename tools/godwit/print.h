/* A delivered message as text on its way to stdout. */
#ifndef GODWIT_TOOLS_PRINT_H
#define GODWIT_TOOLS_PRINT_H

#include "client/godwit.h"
#include "proto/bytes.h"

/* Append the body and a line end or, with `json`, one object a line: topic,
 * seq, attempt, time, then what it has of key, tag, id, delay_ms,
 * deliver_at_ms, ttl_ms and headers, and body, or body_base64 when the body is
 * not UTF-8. STATUS_NOMEM. */
MUST_CHECK enum status print_delivery(struct bytes *to,
                                      const struct godwit_delivery *delivery,
                                      bool json);

#endif
