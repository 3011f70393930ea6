#include "broker/net/inside.h"

#include <openssl/evp.h>
#include <stdio.h>

enum {
    ANSWER_HEAD_LEN_MAX = 512,
    SHA1_LEN = 20,
    ACCEPT_LEN = 28 /* SHA-1 in base64 */
};

/* ---- a request in ---- */

/* Head known, body still coming. */
static void await_body(struct conn *conn, const struct http_request *request,
                       size_t need)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

    conn->need = need;
    if (request->expect_continue && !conn->continued) {
        conn->continued = true;
        (void)conn_append(conn, go_on, sizeof go_on - 1);
    }
}

static void hand_in(struct conn *conn, struct http_request *request)
{
    struct net *net = conn->net;
    const struct conn_handler *handler = net->config.handler;

    conn->served = true;
    conn->continued = false;
    conn->due = true;
    conn->keep_alive = request->keep_alive;
    conn->head_only = request->method == HTTP_HEAD;
    conn->http_1_0 = request->minor == 0;
    net->stats.requests++;
    if (request->upgrade) {
        conn->keep_alive = false; /* for a refusal: frames may follow */
        net->request = request;
        handler->on_upgrade(conn, request);
        net->request = NULL;
    } else {
        handler->on_request(conn, request);
    }
}

bool http_step(struct conn *conn)
{
    struct net *net = conn->net;
    struct http_request request;
    struct http_fault fault;
    size_t head_len;
    size_t body_len;
    struct slice whole;

    switch ((int)http_head_parse(net->rest, &request, &head_len, &fault)) {
    case STATUS_OK:
        break;
    case STATUS_AGAIN:
        return false;
    default:
        http_refuse(conn, fault.code, fault.text, "bad_request");
        return true;
    }
    body_len = (size_t)request.body_len;
    if (net->rest.len - head_len < body_len) {
        await_body(conn, &request, head_len + body_len);
        return false;
    }
    whole = net_take(net, head_len + body_len);
    request.body = slice_of(whole.at + head_len, body_len);
    hand_in(conn, &request);
    return true;
}

/* ---- an answer out ---- */

static const char *connection_header(const struct conn *conn)
{
    if (!conn->keep_alive) {
        return "Connection: close\r\n";
    }
    return conn->http_1_0 ? "Connection: keep-alive\r\n" : "";
}

static bool write_answer(struct conn *conn, int code, const char *content_type,
                         const char *extra, struct slice body)
{
    char head[ANSWER_HEAD_LEN_MAX];
    char length[64] = "";
    int len;

    if (code != 204 && code != 304) {
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", body.len);
    } else {
        body.len = 0;
    }
    len =
        snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nServer: godwit\r\n%s%s",
                 code, http_reason(code), length, connection_header(conn));
    CHECK(len > 0 && (size_t)len < sizeof head);
    if (!conn_append(conn, head, (size_t)len)) {
        return false;
    }
    if (content_type != NULL && length[0] != '\0') {
        len = snprintf(head, sizeof head, "Content-Type: %s\r\n", content_type);
        CHECK(len > 0 && (size_t)len < sizeof head);
        if (!conn_append(conn, head, (size_t)len)) {
            return false;
        }
    }
    if (extra != NULL && !conn_append(conn, extra, strlen(extra))) {
        return false;
    }
    return conn_append(conn, "\r\n", 2)
           && (conn->head_only || conn_append(conn, body.at, body.len));
}

void conn_respond(struct conn *conn, int code, const char *content_type,
                  const char *extra, struct slice body)
{
    struct net *net = conn->net;

    if (conn->state != CONN_OPEN) {
        return;
    }
    CHECK(!conn->websocket && conn->due);
    if (net->draining) {
        conn->keep_alive = false;
    }
    if (!write_answer(conn, code, content_type, extra, body)) {
        return;
    }
    conn->due = false;
    if (!conn->keep_alive) {
        conn->discard = true;
        conn_begin_close(conn, net->draining ? "drain" : "done");
    } else if (net->visited != conn) {
        net_put_off(net, conn); /* pipelined requests, and its deadline */
    }
}

static const char *refusal_word(int code)
{
    switch (code) {
    case 408:
        return "timeout";
    case 413:
    case 431:
        return "too_large";
    case 405:
    case 411:
    case 417:
    case 426:
    case 501:
    case 505:
        return "unsupported";
    case 503:
        return "again";
    default:
        return "invalid";
    }
}

void http_refuse(struct conn *conn, int code, const char *text,
                 const char *reason)
{
    const char *extra = code == 405
                            ? "Allow: GET, HEAD, POST, PUT, PATCH, DELETE\r\n"
                        : code == 426 ? "Sec-WebSocket-Version: 13\r\n"
                                        "Upgrade: websocket\r\n"
                                      : NULL;
    char body[256];
    int len = snprintf(body, sizeof body,
                       "{\"refused\":{\"status\":\"%s\",\"text\":\"%s\"}}\n",
                       refusal_word(code), text);

    CHECK(len > 0 && (size_t)len < sizeof body);
    conn->net->stats.bad_requests++;
    conn->keep_alive = false;
    conn->head_only = false;
    if (write_answer(conn, code, "application/json", extra,
                     slice_of(body, (size_t)len))) {
        conn->discard = true;
        conn_begin_close(conn, reason);
    }
}

/* ---- from HTTP to WebSocket ---- */

/* RFC 6455 section 4.2.2, point 5.4. */
static bool accept_key(struct slice key, char out[ACCEPT_LEN + 1])
{
    uint8_t from[64];
    uint8_t digest[EVP_MAX_MD_SIZE];
    size_t guid_len = sizeof WS_GUID - 1;
    unsigned len = 0;

    CHECK(key.len + guid_len <= sizeof from);
    memcpy(from, key.at, key.len);
    memcpy(from + key.len, WS_GUID, guid_len);
    if (EVP_Digest(from, key.len + guid_len, digest, &len, EVP_sha1(), NULL)
            != 1
        || len != SHA1_LEN) {
        return false;
    }
    return EVP_EncodeBlock((unsigned char *)out, digest, SHA1_LEN)
           == ACCEPT_LEN;
}

void conn_upgrade(struct conn *conn, const char *subprotocol)
{
    const struct http_request *request = conn->net->request;
    char accept[ACCEPT_LEN + 1];
    char head[ANSWER_HEAD_LEN_MAX];
    int len;

    if (conn->state != CONN_OPEN) {
        return;
    }
    CHECK(conn->net->visited == conn && request != NULL && conn->due);
    if (!accept_key(request->ws_key, accept)) {
        conn_die(conn, "sha1");
        return;
    }
    len =
        snprintf(head, sizeof head,
                 "HTTP/1.1 101 Switching Protocols\r\n"
                 "Server: godwit\r\n"
                 "Upgrade: websocket\r\n"
                 "Connection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n"
                 "%s%s%s\r\n",
                 accept, subprotocol != NULL ? "Sec-WebSocket-Protocol: " : "",
                 subprotocol != NULL ? subprotocol : "",
                 subprotocol != NULL ? "\r\n" : "");
    CHECK(len > 0 && (size_t)len < sizeof head);
    if (conn_append(conn, head, (size_t)len)) {
        conn->due = false;
        conn->websocket = true;
    }
}
