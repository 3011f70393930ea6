/* A small JSON writer into a bytes buffer: compact, valid UTF-8 whatever it is
 * given, 64-bit numbers as strings (a browser's numbers end at 2^53). Reading
 * is json_read.h's. Any thread, one writer a thread. */
#ifndef GODWIT_BROKER_DOOR_JSON_H
#define GODWIT_BROKER_DOOR_JSON_H

#include "proto/codec.h"

/* The first failure (STATUS_NOMEM only) is kept in `status`; what is written
 * after it is dropped. */
struct json {
    struct bytes *to;
    enum status status;
    bool comma; /* something stands before the next value */
};

static inline struct json json_to(struct bytes *to)
{
    return (struct json) { .to = to, .status = STATUS_OK };
}

/* `key` is NULL for an element of an array and for the outermost value. Keys
 * are our own plain words, written as they are. */
void json_begin_object(struct json *json, const char *key);
void json_end_object(struct json *json);
void json_begin_array(struct json *json, const char *key);
void json_end_array(struct json *json);

/* Bytes that are not UTF-8 become '?'. */
void json_text(struct json *json, const char *key, struct slice text);
void json_word(struct json *json, const char *key, const char *text);
/* "123", for all that is 64 bits wide on the wire. */
void json_u64(struct json *json, const char *key, uint64_t value);
/* 123, for what never grows beyond 2^53. */
void json_number(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);
void json_base64(struct json *json, const char *key, struct slice bytes);
/* What was just written as a text was a key; its value comes next. */
void json_colon(struct json *json);
/* JSON that was written elsewhere. */
void json_raw(struct json *json, const char *key, struct slice text);

/* ---- the shapes that the stream and HTTP share, as members of an object ---- */

/* status, limit, scope, used, allowed, retry_after_ms, text; what is empty or
 * zero is left out, status and text apart. */
void json_refusal(struct json *json, const struct refusal *refusal);
/* One object: seq, attempt, time_us, key, tag, id, delay_ms, deliver_at_ms,
 * ttl_ms, headers, body or body_base64; with a topic, that too. */
void json_delivery(struct json *json, const char *topic,
                   const struct wire_delivery *delivery);
/* "receipt":"SEQ:COUNT:SEGMENT:OFFSET:CHECKSUM"; nothing when there is none. */
void json_receipt(struct json *json, const struct wire_confirm *confirm);
/* topic, first, last, ends_in_ms */
void json_notice(struct json *json, const struct wire_notice *notice);
/* "ranges":[{first,last,outcome,holder}] */
void json_settled_ranges(struct json *json,
                         const struct wire_settled_range *ranges, size_t count);

/* Strict base64 (RFC 4648 section 4, padded, no white space, no stray bits),
 * appended. STATUS_INVALID, STATUS_NOMEM. */
MUST_CHECK enum status base64_decode(struct bytes *to, struct slice text);

#endif
