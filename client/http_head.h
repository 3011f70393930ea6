/* The head of an HTTP/1.1 response. Pure. */
#ifndef GODWIT_CLIENT_HTTP_HEAD_H
#define GODWIT_CLIENT_HTTP_HEAD_H

#include "proto/bytes.h"

enum { HTTP_RESPONSE_HEAD_MAX = 16 * 1024 };

/* Slices point into the bytes read. */
struct http_head {
    size_t len; /* with its blank line */
    int code;
    bool chunked;
    bool has_length;
    uint64_t content_length;
    bool close;              /* the connection ends after this answer */
    bool upgrade_websocket;  /* Upgrade: websocket */
    bool connection_upgrade; /* Connection: ... upgrade ... */
    struct slice accept;     /* Sec-WebSocket-Accept */
    struct slice protocol;   /* Sec-WebSocket-Protocol */
};

/* STATUS_AGAIN: not all there. STATUS_INVALID, STATUS_TOO_LARGE: *fault says
 * what is wrong. */
MUST_CHECK enum status http_head_read(struct slice from, struct http_head *out,
                                      const char **fault);

/* The end of the line that begins at `from`, without CR LF; *next is behind
 * them. False: no whole line. */
bool http_line(struct slice from, struct slice *line, size_t *next);

#endif
