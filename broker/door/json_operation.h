/* What an operator asks of a group, in JSON: seek, redrive, discard. */
#ifndef GODWIT_BROKER_DOOR_JSON_OPERATION_H
#define GODWIT_BROKER_DOOR_JSON_OPERATION_H

#include "broker/session/operate.h"

struct json_operation {
    struct operation operation; /* its topic is the one below */
    char topic[NAME_LEN_MAX + 1];
};

/* The body of a request for an operation of this kind; an empty one is {}. On
 * STATUS_OK the operation owns its ranges and filter: operation_fini(), or
 * session_operate(), which takes them. Otherwise there is nothing to free. */
MUST_CHECK enum status json_operation_read(struct json_operation *out,
                                           enum operation_kind kind,
                                           struct slice text,
                                           struct refusal *refusal);

#endif
