/* A small strict HTTP/1.1 request parser for the shapes Godwit serves. Ours
 * rather than http-parser behind a pre-scan: Debian's build of that library
 * accepts (among others) a space before the colon, bare LF and folded headers,
 * so every rule would be checked twice; this is the smaller thing to fuzz to
 * the end. RFC 9110 and 9112; where they let a server refuse, this one refuses.
 * Pure functions over bytes; no I/O. */
#ifndef GODWIT_BROKER_NET_HTTP_H
#define GODWIT_BROKER_NET_HTTP_H

#include "proto/bytes.h"
#include "proto/limits.h"

enum http_method {
    HTTP_GET,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_HEAD
};

struct http_header {
    struct slice name;  /* as sent */
    struct slice value; /* without the white space around it */
};

struct http_request {
    enum http_method method;
    struct slice path;  /* up to '?', not decoded; begins with '/' */
    struct slice query; /* after '?', or empty */
    unsigned minor;     /* HTTP/1.minor: 0 or 1 */
    bool keep_alive;    /* as asked for, or the version's default */
    bool close;         /* Connection: close was there */
    bool expect_continue;
    size_t header_count;
    struct http_header headers[HTTP_HEADER_COUNT_MAX];
    uint64_t body_len; /* from Content-Length, 0 if none */
    struct slice body; /* filled by the connection when it is all there */
    /* upgrade */
    bool upgrade; /* a complete and valid WebSocket upgrade, version 13 */
    struct slice ws_key;
};

/* Why a head was refused: the answer's code and a sentence. */
struct http_fault {
    int code;
    const char *text; /* static */
};

/* Parse the head at the beginning of `from`. STATUS_AGAIN: not all there yet.
 * STATUS_OK: *head_len bytes were it. STATUS_INVALID: refuse with *fault and
 * close. Slices point into `from`. */
MUST_CHECK enum status http_head_parse(struct slice from,
                                       struct http_request *out,
                                       size_t *head_len,
                                       struct http_fault *fault);

/* The value of a header, case-insensitively; empty slice with at == NULL when it
 * is not there. Doubles of what must be single were refused by the parser. */
struct slice http_header(const struct http_request *request, const char *name);

/* The value of name= in the query, percent-decoded ('+' is a space) into `into`
 * with a NUL behind it. False: not there, or not decodable, or holds a NUL, or
 * does not fit. */
bool http_query(const struct http_request *request, const char *name,
                char *into, size_t into_len);

/* Does a comma-separated header value hold this token (case-insensitively)? */
bool http_list_has(struct slice value, const char *token);

/* The reason phrase of a code. */
const char *http_reason(int code);

#endif
