#include "broker/door/http_exchange.h"

#include <stdio.h>
#include <stdlib.h>

enum { EXTRA_LEN_MAX = 256 };

static void exchange_clear(struct exchange *exchange)
{
    bytes_fini(&exchange->body);
    bytes_fini(&exchange->texts);
    bytes_fini(&exchange->messages);
    bytes_fini(&exchange->gaps);
    free(exchange->items);
    *exchange = (struct exchange) { 0 };
}

struct exchange *http_exchange_of(const struct session *session)
{
    struct exchange *exchange = session_door_state(session);

    return exchange != NULL && exchange->active ? exchange : NULL;
}

struct exchange *http_exchange_begin(struct session *session)
{
    struct exchange *exchange = session_door_state(session);

    if (exchange == NULL) {
        exchange = calloc(1, sizeof *exchange);
        session_set_door_state(session, exchange);
    }
    if (exchange != NULL) {
        exchange_clear(exchange);
        exchange->active = true;
    }
    return exchange;
}

struct slice http_content(const struct bytes *bytes)
{
    return bytes_len(bytes) == 0
               ? slice_of(NULL, 0)
               : slice_of(bytes_begin(bytes), bytes_len(bytes));
}

/* ---- answers ---- */

/* Ends the exchange: the next request may come from within conn_respond(). */
void http_respond(struct session *session, int code, const char *type,
                  const char *extra, struct slice body)
{
    struct exchange *exchange = http_exchange_of(session);

    if (exchange != NULL) {
        exchange_clear(exchange);
    }
    conn_respond(session_conn(session), code, type, extra, body);
}

void http_respond_bytes(struct session *session, int code, const char *type,
                        struct bytes *body)
{
    http_respond(
        session, code, type, NULL,
        slice_of(body->at == NULL ? NULL : bytes_begin(body), bytes_len(body)));
    bytes_fini(body);
}

void http_respond_no_memory(struct session *session)
{
    http_respond(session, 503, JSON_TYPE, "Retry-After: 1\r\n",
                 slice_text("{\"refused\":{\"status\":\"no_memory\","
                            "\"text\":\"out of memory\"}}"));
}

static void extra_headers(const struct refusal *refusal, int code,
                          const char *allow, char text[EXTRA_LEN_MAX])
{
    /* Rounded up, and not at once. */
    uint64_t seconds = (refusal->retry_after_ms + 999) / 1000;

    seconds = seconds == 0 ? 1 : seconds;
    text[0] = '\0';
    if (code == 401) {
        (void)snprintf(text, EXTRA_LEN_MAX,
                       "WWW-Authenticate: Bearer realm=\"godwit\"\r\n"
                       "WWW-Authenticate: Godwit-HMAC-SHA256 "
                       "realm=\"godwit\"\r\n");
    } else if (code == 405 && allow != NULL) {
        (void)snprintf(text, EXTRA_LEN_MAX, "Allow: %s\r\n", allow);
    } else if (code == 426) {
        (void)snprintf(text, EXTRA_LEN_MAX, "Upgrade: websocket\r\n");
    } else if (code == 429 || code == 503 || refusal->retry_after_ms > 0) {
        (void)snprintf(text, EXTRA_LEN_MAX, "Retry-After: %llu\r\n",
                       (unsigned long long)seconds);
    }
}

void http_respond_refusal_as(struct session *session, int code,
                             const char *allow, const struct refusal *refusal)
{
    char extra[EXTRA_LEN_MAX];
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    json_begin_object(&json, NULL);
    json_begin_object(&json, "refused");
    json_refusal(&json, refusal);
    json_end_object(&json);
    json_end_object(&json);
    if (json.status != STATUS_OK) {
        bytes_fini(&body);
        http_respond_no_memory(session);
        return;
    }
    extra_headers(refusal, code, allow, extra);
    http_respond(session, code, JSON_TYPE, extra[0] == '\0' ? NULL : extra,
                 slice_of(bytes_begin(&body), bytes_len(&body)));
    bytes_fini(&body);
}

void http_respond_refusal(struct session *session,
                          const struct refusal *refusal)
{
    http_respond_refusal_as(session, http_code_of(refusal->status), NULL,
                            refusal);
}

void http_respond_json(struct session *session, int code, enum status status,
                       struct bytes *body)
{
    if (status != STATUS_OK) {
        bytes_fini(body);
        http_respond_no_memory(session);
        return;
    }
    http_respond_bytes(session, code, JSON_TYPE, body);
}

/* With a copy of the name: the answer may end the exchange. */
void http_go_to_group(struct session *session, const struct exchange *exchange)
{
    struct http_route route = exchange->route;

    session_go_to_group(session, CALL_ID, slice_text(route.name));
}

void http_exchange_free(struct session *session)
{
    struct exchange *exchange = session_door_state(session);

    if (exchange != NULL) {
        exchange_clear(exchange);
        free(exchange);
        session_set_door_state(session, NULL);
    }
}
