#include "client/http.h"
#include "client/http_head.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { READ_LEN = 64 * 1024, CHUNK_LINE_LEN_MAX = 256 };

struct http_connection {
    struct http_connection *next; /* idle ones */
    struct transport transport;
    bool open;
    struct bytes in;
};

struct http_connection *http_connection_new(const struct url *url,
                                            struct tls_context *trust)
{
    struct http_connection *connection = calloc(1, sizeof *connection);

    if (connection != NULL) {
        transport_init(&connection->transport, url, trust);
    }
    return connection;
}

void http_connection_free(struct http_connection *connection)
{
    if (connection != NULL) {
        transport_close(&connection->transport);
        bytes_fini(&connection->in);
        free(connection);
    }
}

/* ---- the pool ---- */

/* An idle connection has nothing to say but that it was closed. */
static bool still_stands(const struct http_connection *connection)
{
    struct pollfd fd = { .fd = connection->transport.fd, .events = POLLIN };

    return poll(&fd, 1, 0) == 0;
}

struct http_connection *http_pool_take(struct http_pool *pool)
{
    while (pool->idle != NULL) {
        struct http_connection *connection = pool->idle;
        pool->idle = connection->next;
        pool->idle_count--;
        if (still_stands(connection)) {
            return connection;
        }
        http_connection_free(connection);
    }
    return NULL;
}

void http_pool_give(struct http_pool *pool, struct http_connection *connection)
{
    if (pool->idle_count == HTTP_IDLE_MAX) {
        http_connection_free(connection);
        return;
    }
    connection->next = pool->idle;
    pool->idle = connection;
    pool->idle_count++;
}

void http_pool_fini(struct http_pool *pool)
{
    while (pool->idle != NULL) {
        struct http_connection *next = pool->idle->next;
        http_connection_free(pool->idle);
        pool->idle = next;
    }
    pool->idle_count = 0;
}

/* ---- waiting ---- */

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static enum status await(const struct http_connection *connection, bool write,
                         uint64_t deadline_ms, struct error *err)
{
    struct pollfd fd = { .fd = connection->transport.fd,
                         .events = write ? POLLOUT : POLLIN };
    uint64_t now = now_ms();
    uint64_t left_ms;

    if (now >= deadline_ms) {
        return error_set(err, STATUS_TIMEOUT, 0,
                         "%s: no answer in the time allowed",
                         connection->transport.url->authority);
    }
    left_ms = deadline_ms - now;
    if (poll(&fd, 1, left_ms > 60000 ? 60000 : (int)left_ms) < 0
        && errno != EINTR) {
        return error_set(err, STATUS_IO, errno, "poll");
    }
    return STATUS_OK;
}

static enum status open_connection(struct http_connection *connection,
                                   uint64_t deadline_ms, struct error *err)
{
    enum status status = transport_start(&connection->transport, err);

    while (status == STATUS_OK && !connection->open) {
        status = transport_connect(&connection->transport, err);
        if (status == STATUS_OK) {
            connection->open = true;
        } else if (status == STATUS_AGAIN) {
            status = await(connection, connection->transport.wants_write,
                           deadline_ms, err);
        }
    }
    return status;
}

/* ---- asking ---- */

static enum status append_text(struct bytes *to, const char *text)
{
    return bytes_append(to, text, strlen(text));
}

/* The lines before the authorization. */
static enum status put_lines(struct bytes *to, const char *authority,
                             const struct http_request *request)
{
    char lines[1024];
    const char *type = request->content_type != NULL ? request->content_type
                                                     : "application/json";
    int len =
        snprintf(lines, sizeof lines,
                 "Host: %s\r\n"
                 "User-Agent: libgodwit/" GODWIT_VERSION "\r\n"
                 "Accept: %s\r\n"
                 "Content-Length: %zu\r\n",
                 authority,
                 request->accept != NULL ? request->accept : "application/json",
                 request->body.len);
    enum status status;

    CHECK(len > 0 && (size_t)len < sizeof lines);
    status = append_text(to, lines);
    if (status == STATUS_OK && request->body.len > 0) {
        status = append_text(to, "Content-Type: ");
    }
    if (status == STATUS_OK && request->body.len > 0) {
        status = append_text(to, type);
    }
    if (status == STATUS_OK && request->body.len > 0) {
        status = append_text(to, "\r\n");
    }
    return status;
}

static enum status put_request(struct bytes *to, const char *authority,
                               const struct auth *auth,
                               const struct http_request *request)
{
    const char *const first[] = { request->method, " ", request->path,
                                  " HTTP/1.1\r\n" };
    enum status status = STATUS_OK;

    for (size_t i = 0; i < COUNT_OF(first) && status == STATUS_OK; i++) {
        status = append_text(to, first[i]);
    }
    if (status == STATUS_OK) {
        status = put_lines(to, authority, request);
    }
    if (status == STATUS_OK) {
        status = auth_header(auth, to);
    }
    if (status == STATUS_OK) {
        status = append_text(to, "\r\n");
    }
    return status == STATUS_OK
               ? bytes_append(to, request->body.at, request->body.len)
               : status;
}

static enum status send_all(struct http_connection *connection,
                            struct slice rest, uint64_t deadline_ms,
                            struct error *err)
{
    while (rest.len > 0) {
        size_t put = 0;
        enum status status = transport_write(&connection->transport, rest.at,
                                             rest.len, &put, err);
        if (status == STATUS_AGAIN) {
            status = await(connection, true, deadline_ms, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
        rest = slice_of(rest.at + put, rest.len - put);
    }
    return STATUS_OK;
}

/* ---- the answer ---- */

/* At least one more byte. */
static enum status receive_some(struct http_connection *connection,
                                uint64_t deadline_ms, struct error *err)
{
    size_t got = 0;
    enum status status =
        bytes_reserve(&connection->in, READ_LEN,
                      HTTP_ANSWER_LEN_MAX + HTTP_RESPONSE_HEAD_MAX);

    if (status != STATUS_OK) {
        return error_set(err, status, 0, "the answer is larger than %d bytes",
                         HTTP_ANSWER_LEN_MAX);
    }
    for (;;) {
        status =
            transport_read(&connection->transport, bytes_end(&connection->in),
                           READ_LEN, &got, err);
        if (status == STATUS_OK) {
            bytes_filled(&connection->in, got);
            return STATUS_OK;
        }
        if (status == STATUS_AGAIN) {
            status = await(connection, false, deadline_ms, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
}

static struct slice received(const struct http_connection *connection)
{
    static const uint8_t nothing[1];

    return connection->in.at == NULL ? slice_of(nothing, 0)
                                     : slice_of(bytes_begin(&connection->in),
                                                bytes_len(&connection->in));
}

static enum status bad_answer(struct error *err, const char *fault)
{
    return error_set(err, STATUS_IO, 0, "HTTP: %s", fault);
}

static enum status read_head(struct http_connection *connection,
                             uint64_t deadline_ms, struct http_head *head,
                             struct error *err)
{
    const char *fault = "";
    enum status status = http_head_read(received(connection), head, &fault);

    while (status == STATUS_AGAIN) {
        status = receive_some(connection, deadline_ms, err);
        if (status != STATUS_OK) {
            return status;
        }
        status = http_head_read(received(connection), head, &fault);
    }
    if (status != STATUS_OK) {
        return bad_answer(err, fault);
    }
    bytes_consume(&connection->in, head->len);
    return STATUS_OK;
}

static enum status take_bytes(struct http_connection *connection, uint64_t len,
                              uint64_t deadline_ms, struct bytes *to,
                              struct error *err)
{
    enum status status = STATUS_OK;

    if (len + bytes_len(to) > HTTP_ANSWER_LEN_MAX) {
        return bad_answer(err, "the answer is too large");
    }
    while (bytes_len(&connection->in) < len && status == STATUS_OK) {
        status = receive_some(connection, deadline_ms, err);
    }
    if (status == STATUS_OK && len > 0) {
        status = bytes_append(to, bytes_begin(&connection->in), (size_t)len);
        bytes_consume(&connection->in, (size_t)len);
    }
    return status;
}

static enum status take_line(struct http_connection *connection,
                             uint64_t deadline_ms,
                             char line[CHUNK_LINE_LEN_MAX], struct error *err)
{
    struct slice text;
    size_t next;
    enum status status;

    while (!http_line(received(connection), &text, &next)) {
        if (bytes_len(&connection->in) >= CHUNK_LINE_LEN_MAX) {
            return bad_answer(err, "a malformed chunk");
        }
        status = receive_some(connection, deadline_ms, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (text.len >= CHUNK_LINE_LEN_MAX) {
        return bad_answer(err, "a malformed chunk");
    }
    memcpy(line, text.at, text.len);
    line[text.len] = '\0';
    bytes_consume(&connection->in, next);
    return STATUS_OK;
}

/* The broker itself always says a length; what stands before it may not. */
static enum status take_chunks(struct http_connection *connection,
                               uint64_t deadline_ms, struct bytes *to,
                               struct error *err)
{
    char line[CHUNK_LINE_LEN_MAX] = "";
    unsigned long len = 1;
    enum status status = STATUS_OK;

    while (len > 0 && status == STATUS_OK) {
        status = take_line(connection, deadline_ms, line, err);
        if (status == STATUS_OK) {
            char *end;
            errno = 0;
            len = strtoul(line, &end, 16);
            if (end == line || errno != 0 || line[0] == '-') {
                return bad_answer(err, "a malformed chunk");
            }
            status = take_bytes(connection, len, deadline_ms, to, err);
        }
        if (status == STATUS_OK && len > 0) {
            status = take_line(connection, deadline_ms, line, err);
        }
    }
    do { /* trailers, up to the blank line */
        if (status == STATUS_OK) {
            status = take_line(connection, deadline_ms, line, err);
        }
    } while (status == STATUS_OK && line[0] != '\0');
    return status;
}

static enum status take_rest(struct http_connection *connection,
                             uint64_t deadline_ms, struct bytes *to,
                             struct error *err)
{
    enum status status;

    do {
        status = receive_some(connection, deadline_ms, err);
    } while (status == STATUS_OK);
    if (status != STATUS_CLOSED) {
        return status;
    }
    return take_bytes(connection, bytes_len(&connection->in), deadline_ms, to,
                      err);
}

static enum status read_body(struct http_connection *connection,
                             const struct http_request *request,
                             const struct http_head *head, uint64_t deadline_ms,
                             struct bytes *to, struct error *err)
{
    if (head->code == 204 || head->code == 304
        || strcmp(request->method, "HEAD") == 0) {
        return STATUS_OK;
    }
    if (head->chunked) {
        return take_chunks(connection, deadline_ms, to, err);
    }
    if (head->has_length) {
        return take_bytes(connection, head->content_length, deadline_ms, to,
                          err);
    }
    return take_rest(connection, deadline_ms, to, err);
}

static enum status exchange(struct http_connection *connection,
                            const struct http_request *request,
                            uint64_t deadline_ms, struct http_response *out,
                            bool *keep, struct error *err)
{
    struct http_head head = { .code = 0 };
    enum status status;

    do {
        status = read_head(connection, deadline_ms, &head, err);
    } while (status == STATUS_OK && head.code >= 100 && head.code < 200);
    if (status == STATUS_OK) {
        status =
            read_body(connection, request, &head, deadline_ms, &out->body, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    out->code = head.code;
    *keep = !head.close && (head.has_length || head.chunked)
            && bytes_len(&connection->in) == 0;
    return STATUS_OK;
}

enum status http_ask(struct http_connection *connection,
                     const struct auth *auth,
                     const struct http_request *request, uint64_t deadline_ms,
                     struct http_response *out, bool *keep, struct error *err)
{
    struct bytes text = { .at = NULL };
    struct http_response response = { .code = 0 };
    enum status status = STATUS_OK;

    *keep = false;
    if (!connection->open) {
        status = open_connection(connection, deadline_ms, err);
    }
    if (status == STATUS_OK
        && put_request(&text, connection->transport.url->authority, auth,
                       request)
               != STATUS_OK) {
        status = error_set(err, STATUS_NOMEM, 0, "HTTP request");
    }
    if (status == STATUS_OK) {
        status = send_all(connection, slice_of(text.at, bytes_len(&text)),
                          deadline_ms, err);
    }
    bytes_fini(&text);
    if (status == STATUS_OK) {
        status =
            exchange(connection, request, deadline_ms, &response, keep, err);
    }
    if (status != STATUS_OK) {
        bytes_fini(&response.body);
        return status;
    }
    *out = response;
    return STATUS_OK;
}
