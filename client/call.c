/* HTTP requests of a client. */
#include "client/client.h"

#include <stdlib.h>

enum { PATH_LEN_MAX = 2048 };

static struct http_connection *connection_get(struct godwit *c)
{
    struct http_connection *connection;

    client_lock(c);
    connection = http_pool_take(&c->http);
    client_unlock(c);
    return connection != NULL ? connection
                              : http_connection_new(&c->url, c->trust);
}

static void connection_put(struct godwit *c, struct http_connection *connection,
                           bool keep)
{
    if (!keep) {
        http_connection_free(connection);
        return;
    }
    client_lock(c);
    http_pool_give(&c->http, connection);
    client_unlock(c);
}

enum status client_http(struct godwit *c, const struct http_request *request,
                        uint64_t deadline_ms, struct http_response *out)
{
    struct http_connection *connection = connection_get(c);
    struct error err = { 0 };
    enum status status;
    bool keep;

    if (connection == NULL) {
        return client_note(c, STATUS_NOMEM, status_text(STATUS_NOMEM));
    }
    status =
        http_ask(connection, &c->auth, request, deadline_ms, out, &keep, &err);
    connection_put(c, connection, status == STATUS_OK && keep);
    if (status == STATUS_CLOSED) {
        status = STATUS_IO; /* GODWIT_CLOSED would say that the client is */
    }
    return status == STATUS_OK ? status : client_note(c, status, err.text);
}

/* Only what may stand in a request line. */
static bool word_valid(const char *text, size_t len_max)
{
    size_t len = 0;

    while (text[len] > ' ' && text[len] < 0x7F) {
        len++;
    }
    return text[len] == '\0' && len > 0 && len <= len_max;
}

/* The answer as the caller gets it: malloc'd and ended by NUL. */
static enum status body_give(struct http_response *from,
                             struct godwit_response *out)
{
    size_t len = bytes_len(&from->body);
    char *text = malloc(len + 1);

    if (text != NULL) {
        if (len > 0) {
            memcpy(text, bytes_begin(&from->body), len);
        }
        text[len] = '\0';
        *out = (struct godwit_response) { from->code, text, len };
    }
    bytes_fini(&from->body);
    return text == NULL ? STATUS_NOMEM : STATUS_OK;
}

enum godwit_status godwit_call(struct godwit *c, const char *method,
                               const char *path, const char *body,
                               struct godwit_response *out, uint32_t timeout_ms)
{
    struct http_request request = { .method = method, .path = path };
    struct http_response response = { .code = 0 };
    enum status status;

    if (method == NULL || path == NULL || out == NULL || path[0] != '/'
        || !word_valid(method, 16) || !word_valid(path, PATH_LEN_MAX)) {
        return public_status(client_note(
            c, STATUS_INVALID, "call: method or path is no such thing"));
    }
    if (body != NULL) {
        request.body = slice_text(body);
    }
    status = client_http(c, &request, clock_ms() + timeout_ms, &response);
    return public_status(status == STATUS_OK ? body_give(&response, out)
                                             : status);
}

void godwit_response_fini(struct godwit_response *response)
{
    free(response->body);
    *response = (struct godwit_response) { .body = NULL };
}
