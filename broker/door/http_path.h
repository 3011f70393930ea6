/* What an HTTP request is about: its path, its query, and the text in its
 * headers. Strict: what is not understood is refused and named. Pure functions
 * over a request's bytes. */
#ifndef GODWIT_BROKER_DOOR_HTTP_PATH_H
#define GODWIT_BROKER_DOOR_HTTP_PATH_H

#include "broker/net/http.h"
#include "proto/limits.h"
#include "proto/refusal.h"

enum http_target {
    TARGET_HEALTH,
    TARGET_METRICS,
    TARGET_STREAM,
    TARGET_TOPICS,
    TARGET_TOPIC,
    TARGET_MESSAGES,
    TARGET_MESSAGE,
    TARGET_BATCH,
    TARGET_GROUPS,
    TARGET_GROUP,
    TARGET_PAUSE,
    TARGET_RESUME,
    TARGET_PULL,
    TARGET_SETTLE,
    TARGET_SEEK,
    TARGET_DEAD,
    TARGET_EXPLAIN,
    TARGET_REDRIVE,
    TARGET_REDRIVE_STOP,
    TARGET_REDRIVE_UNDO,
    TARGET_DISCARD,
    TARGET_APPS,
    TARGET_APP,
    TARGET_STORE
};

struct http_route {
    enum http_target target;
    char name[NAME_LEN_MAX + 1];  /* of the topic, group or app; valid, or "" */
    const char *allow;            /* the methods this path has, for 405 */
    char topic[NAME_LEN_MAX + 1]; /* a second name in the path, or "" */
    uint64_t seq;                 /* a message's number in the path, or 0 */
};

/* 0, or the code to refuse with: 400 (a bad name), 404, 405. HEAD counts as
 * GET. */
int http_route_find(const struct http_request *request, struct http_route *out,
                    struct refusal *refusal);

/* Are all names of the query in `known` (ends with NULL), once each? */
MUST_CHECK enum status http_query_check(const struct http_request *request,
                                        const char *const *known,
                                        struct refusal *refusal);

/* max= and wait= of a pull, with their defaults and bounds. */
MUST_CHECK enum status http_pull_read(const struct http_request *request,
                                      uint64_t *count_max, uint64_t *wait_ms,
                                      struct refusal *refusal);

/* The number name= of the query says, or *value as it is when it says none. It
 * is in min..max; the query has been checked. */
MUST_CHECK enum status http_query_number(const struct http_request *request,
                                         const char *name, uint64_t min,
                                         uint64_t max, uint64_t *value,
                                         struct refusal *refusal);
/* The text, decoded, as *value in `room`; its at is NULL when there is none.
 * Refused when it does not fit. */
MUST_CHECK enum status http_query_text(const struct http_request *request,
                                       const char *name, char *room,
                                       size_t room_len, struct slice *value,
                                       struct refusal *refusal);
/* wait= in milliseconds, 0 when there is none. */
MUST_CHECK enum status http_query_wait(const struct http_request *request,
                                       uint64_t *wait_ms,
                                       struct refusal *refusal);

/* Append what a header's value says: percent-encoded UTF-8. False: a '%' that is
 * not followed by two hexadecimal digits. `to` has room for the text's len. */
bool http_percent_decode(struct slice text, char *to, size_t *len);

/* Is this media type, parameters apart? */
bool http_media_is(struct slice value, const char *type);

/* The code for a refusal. */
int http_code_of(enum status status);

#endif
