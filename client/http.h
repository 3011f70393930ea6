/* HTTP/1.1 requests that wait for their answer, over kept connections. The pool
 * is guarded by its owner's lock; a connection by whoever took it. */
#ifndef GODWIT_CLIENT_HTTP_H
#define GODWIT_CLIENT_HTTP_H

#include "client/auth.h"
#include "client/transport.h"

enum {
    HTTP_IDLE_MAX = 4,
    HTTP_ANSWER_LEN_MAX = 64 * 1024 * 1024,
    HTTP_SLACK_MS = 10 * 1000 /* an answer may come so late, and no later */
};

struct http_connection;

struct http_pool {
    struct http_connection *idle;
    size_t idle_count;
};

struct http_request {
    const char *method;
    const char *path;
    const char *accept;       /* NULL: application/json */
    const char *content_type; /* NULL: application/json; only with a body */
    struct slice body;
};

struct http_response {
    int code;
    struct bytes body; /* the caller ends it with bytes_fini() */
};

struct http_connection *http_connection_new(const struct url *url,
                                            struct tls_context *trust);
void http_connection_free(struct http_connection *connection);

/* Take an idle connection that still stands, or NULL. */
struct http_connection *http_pool_take(struct http_pool *pool);
/* Keep it, or free it. */
void http_pool_give(struct http_pool *pool, struct http_connection *connection);
void http_pool_fini(struct http_pool *pool);

/* Ask and wait. On failure the connection is of no use any more; nor is it when
 * *keep comes back false. deadline_ms is of CLOCK_MONOTONIC. */
MUST_CHECK enum status http_ask(struct http_connection *connection,
                                const struct auth *auth,
                                const struct http_request *request,
                                uint64_t deadline_ms, struct http_response *out,
                                bool *keep, struct error *err);

#endif
