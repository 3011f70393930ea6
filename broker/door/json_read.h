/* What clients say in JSON, to the same structs as the proto codec makes. The
 * only user of jansson. Duplicate and unknown keys, NUL, nesting beyond
 * JSON_DEPTH_MAX and anything behind the value are refused, by name where there
 * is one. 64-bit numbers come as strings or as numbers. No I/O. */
#ifndef GODWIT_BROKER_DOOR_JSON_READ_H
#define GODWIT_BROKER_DOOR_JSON_READ_H

#include "broker/router/catalog.h"
#include "proto/limits.h"
#include "proto/wire.h"

/* What one decoded thing stands in. Zero-initialise; the slices of the structs
 * that were filled live until json_scratch_fini(). */
struct json_scratch {
    void *root;           /* the parsed document */
    struct bytes encoded; /* Messages, one after the other */
    struct slice *messages;
    struct seq_range *ranges;
    uint8_t signature[SIGNATURE_LEN_MAX];
};
void json_scratch_fini(struct json_scratch *scratch);

/* One frame of godwit.v1.json. When it fails out->kind and out->id hold what
 * could be read, else 0, and *count how many ids it stood for (at least 1).
 * STATUS_INVALID, STATUS_TOO_LARGE, STATUS_UNSUPPORTED (a type that is not
 * known), STATUS_NOMEM. */
MUST_CHECK enum status json_request_read(struct json_scratch *scratch,
                                         struct slice text,
                                         struct wire_request *out,
                                         uint64_t *count,
                                         struct refusal *refusal);

/* Bodies of HTTP requests. */
/* {"messages":[..],"atomic"}; topic and producer_seq are left alone. */
MUST_CHECK enum status json_batch_read(struct json_scratch *scratch,
                                       struct slice text,
                                       struct wire_publish *out,
                                       struct refusal *refusal);
/* {"lease","topic","action","seqs"|"ranges","delay_ms","reason"} */
MUST_CHECK enum status json_settle_read(struct json_scratch *scratch,
                                        struct slice text,
                                        struct wire_settle *out,
                                        struct refusal *refusal);
/* What to create or to change, by out->op and out->class, which the caller has
 * set (and the name of what is to change). Owns its patterns:
 * catalog_request_fini(), after a failure too. */
MUST_CHECK enum status json_change_read(struct slice text,
                                        struct catalog_request *out,
                                        struct refusal *refusal);

#endif
