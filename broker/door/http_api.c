/* The HTTP door: one request at a time a connection.
 *
 *   http_api_request -> begin -> who is it -> handle_<target> -> session_*
 *   session_* -> door_http's on_<answer> -> respond -> end
 *
 * An answer may come from within the session call, or much later, and after
 * session_go_to_group() on another worker. So what a request still needs after
 * its call has returned stands in its exchange, and nothing of the exchange is
 * touched after a session call. */
#include "broker/door/doors.h"

#include "broker/door/http_path.h"
#include "broker/door/http_show.h"
#include "broker/door/json_read.h"
#include "broker/metrics.h"
#include "proto/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define JSON_TYPE     "application/json"
#define PROTOBUF_TYPE "application/protobuf"
#define METRICS_TYPE  "text/plain; version=0.0.4; charset=utf-8"

enum { CALL_ID = 1, EXTRA_LEN_MAX = 256 };

/* What became of one message of a batch. */
struct item {
    uint64_t seq;
    size_t refused_at;  /* its text in `texts`, refused_len bytes; 0 bytes: */
    size_t refused_len; /* it was stored */
    bool duplicate;
};

/* The request that is being answered. */
struct exchange {
    bool active;
    struct http_route route;
    enum http_method method;
    bool protobuf;      /* the answer's encoding */
    bool body_protobuf; /* the body's */
    struct bytes body;  /* of a settle, for when it has arrived */
    uint64_t count_max; /* of a pull */
    uint64_t wait_ms;
    /* what comes in pieces: a batch's results, a pull's messages and gaps */
    enum status status; /* STATUS_NOMEM once a piece was lost */
    struct item *items;
    size_t item_count;
    size_t item_done;
    struct bytes texts;
    struct bytes messages;
    struct bytes gaps;
};

static void exchange_clear(struct exchange *exchange)
{
    bytes_fini(&exchange->body);
    bytes_fini(&exchange->texts);
    bytes_fini(&exchange->messages);
    bytes_fini(&exchange->gaps);
    free(exchange->items);
    *exchange = (struct exchange) { 0 };
}

static struct exchange *exchange_of(const struct session *session)
{
    struct exchange *exchange = session_door_state(session);

    return exchange != NULL && exchange->active ? exchange : NULL;
}

static struct exchange *exchange_begin(struct session *session)
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

/* ---- answers ---- */

/* Ends the exchange: the next request may come from within conn_respond(). */
static void respond(struct session *session, int code, const char *type,
                    const char *extra, struct slice body)
{
    struct exchange *exchange = exchange_of(session);

    if (exchange != NULL) {
        exchange_clear(exchange);
    }
    conn_respond(session_conn(session), code, type, extra, body);
}

/* Takes the buffer. */
static void respond_bytes(struct session *session, int code, const char *type,
                          struct bytes *body)
{
    respond(
        session, code, type, NULL,
        slice_of(body->at == NULL ? NULL : bytes_begin(body), bytes_len(body)));
    bytes_fini(body);
}

static void respond_no_memory(struct session *session)
{
    respond(session, 503, JSON_TYPE, "Retry-After: 1\r\n",
            slice_text("{\"refused\":{\"status\":\"no_memory\","
                       "\"text\":\"out of memory\"}}"));
}

static void extra_headers(const struct refusal *refusal, int code,
                          const char *allow, char text[EXTRA_LEN_MAX])
{
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
        (void)snprintf(
            text, EXTRA_LEN_MAX, "Retry-After: %llu\r\n",
            (unsigned long long)(refusal->retry_after_ms / 1000 + 1));
    }
}

static void respond_refusal_as(struct session *session, int code,
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
        respond_no_memory(session);
        return;
    }
    extra_headers(refusal, code, allow, extra);
    respond(session, code, JSON_TYPE, extra[0] == '\0' ? NULL : extra,
            slice_of(bytes_begin(&body), bytes_len(&body)));
    bytes_fini(&body);
}

static void respond_refusal(struct session *session,
                            const struct refusal *refusal)
{
    respond_refusal_as(session, http_code_of(refusal->status), NULL, refusal);
}

/* A document that was written, or was not. Takes the buffer. */
static void respond_json(struct session *session, int code, enum status status,
                         struct bytes *body)
{
    if (status != STATUS_OK) {
        bytes_fini(body);
        respond_no_memory(session);
        return;
    }
    respond_bytes(session, code, JSON_TYPE, body);
}

static void respond_not_found(struct session *session, const char *what,
                              const char *name)
{
    struct refusal refusal;

    (void)refuse(&refusal, STATUS_NOT_FOUND, "name", "no %s named %s", what,
                 name);
    (void)snprintf(refusal.scope, sizeof refusal.scope, "%s %s", what, name);
    respond_refusal(session, &refusal);
}

static void respond_forbidden(struct session *session, const char *limit,
                              const char *text)
{
    struct refusal refusal;

    (void)refuse(&refusal, STATUS_FORBIDDEN, limit, "%s", text);
    respond_refusal(session, &refusal);
}

/* ---- publish ---- */

static void on_single_confirm(struct session *session,
                              const struct wire_confirm *confirm)
{
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    json_begin_object(&json, NULL);
    json_u64(&json, "seq", confirm->seq);
    json_bool(&json, "duplicate", confirm->duplicate);
    json_end_object(&json);
    respond_json(session, 200, json.status, &body);
}

static void put_item(struct json *json, const struct exchange *exchange,
                     const struct item *item)
{
    json_begin_object(json, NULL);
    if (item->refused_len > 0) {
        json_raw(json, "refused",
                 slice_of(bytes_begin(&exchange->texts) + item->refused_at,
                          item->refused_len));
    } else {
        json_u64(json, "seq", item->seq);
        if (item->duplicate) {
            json_bool(json, "duplicate", true);
        }
    }
    json_end_object(json);
}

static void finish_batch(struct session *session, struct exchange *exchange)
{
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    if (exchange->status != STATUS_OK) {
        respond_no_memory(session);
        return;
    }
    json_begin_object(&json, NULL);
    json_begin_array(&json, "results");
    for (size_t i = 0; i < exchange->item_count; i++) {
        put_item(&json, exchange, &exchange->items[i]);
    }
    json_end_array(&json);
    json_end_object(&json);
    respond_json(session, 200, json.status, &body);
}

/* The items that ids `id` and on stand for; false when there are no such. */
static bool batch_items(const struct exchange *exchange, uint64_t id,
                        uint64_t count, size_t *first)
{
    if (id < CALL_ID || count == 0 || id - CALL_ID >= exchange->item_count
        || count > exchange->item_count - (id - CALL_ID)
        || exchange->item_done + count > exchange->item_count) {
        return false;
    }
    *first = (size_t)(id - CALL_ID);
    return true;
}

static void items_done(struct session *session, struct exchange *exchange,
                       uint64_t count)
{
    exchange->item_done += (size_t)count;
    if (exchange->item_done == exchange->item_count) {
        finish_batch(session, exchange);
    }
}

static void on_confirm(struct session *session,
                       const struct wire_confirm *confirm)
{
    struct exchange *exchange = exchange_of(session);
    size_t first;

    if (exchange == NULL) {
        return;
    }
    if (exchange->route.target != TARGET_BATCH) {
        on_single_confirm(session, confirm);
        return;
    }
    CHECK(batch_items(exchange, confirm->id, confirm->count, &first));
    for (size_t i = 0; i < confirm->count; i++) {
        struct item *item = &exchange->items[first + i];

        item->seq = confirm->seq == 0 ? 0 : confirm->seq + i;
        item->duplicate = confirm->duplicate;
    }
    items_done(session, exchange, confirm->count);
}

static void refuse_items(struct session *session, struct exchange *exchange,
                         uint64_t id, uint64_t count,
                         const struct refusal *refusal)
{
    size_t at = bytes_len(&exchange->texts);
    struct json json = json_to(&exchange->texts);
    size_t first;

    CHECK(batch_items(exchange, id, count, &first));
    json_begin_object(&json, NULL);
    json_refusal(&json, refusal);
    json_end_object(&json);
    if (json.status != STATUS_OK) {
        exchange->status = json.status;
    }
    for (size_t i = 0; i < count; i++) {
        exchange->items[first + i].refused_at = at;
        exchange->items[first + i].refused_len =
            bytes_len(&exchange->texts) - at;
    }
    items_done(session, exchange, count);
}

/* All of a batch refused in one breath, such as for an unknown topic: that is
 * the request's own refusal. */
static void on_refused(struct session *session, uint64_t id, uint64_t count,
                       const struct refusal *refusal)
{
    struct exchange *exchange = exchange_of(session);

    if (exchange == NULL) {
        return;
    }
    if (exchange->route.target == TARGET_BATCH
        && (exchange->item_done > 0 || count < exchange->item_count)) {
        refuse_items(session, exchange, id, count, refusal);
        return;
    }
    respond_refusal(session, refusal);
}

/* What a request's own headers say about its message. */
struct message_headers {
    struct wire_message message;
    uint64_t producer;
    uint64_t producer_seq;
    char text[HTTP_HEAD_LEN_MAX]; /* what was decoded or lower-cased */
    size_t text_len;
};

static struct slice keep(struct message_headers *out, struct slice text)
{
    char *at = out->text + out->text_len;
    size_t len;

    if (!http_percent_decode(text, at, &len)) {
        return slice_of(NULL, 0);
    }
    out->text_len += len;
    return slice_of(at, len);
}

static struct slice keep_lower(struct message_headers *out, struct slice text)
{
    char *at = out->text + out->text_len;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];

        at[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    out->text_len += text.len;
    return slice_of(at, text.len);
}

static bool begins(struct slice text, const char *word)
{
    size_t len = strlen(word);

    return text.len >= len
           && strncasecmp((const char *)text.at, word, len) == 0;
}

static bool is_word(struct slice text, const char *word)
{
    return text.len == strlen(word) && begins(text, word);
}

static enum status bad_header(struct refusal *refusal, struct slice name,
                              const char *text)
{
    return refuse(refusal, STATUS_INVALID, "header", "%.*s: %s",
                  (int)(name.len < 64 ? name.len : 64), (const char *)name.at,
                  text);
}

static enum status add_header(struct message_headers *out, struct slice name,
                              struct slice value, struct refusal *refusal)
{
    static const size_t prefix_len = sizeof "Godwit-Header-" - 1;
    struct wire_message *message = &out->message;
    struct slice kept = keep(out, value);

    if (kept.at == NULL) {
        return bad_header(refusal, name,
                          "a '%' is followed by two hexadecimal digits");
    }
    if (message->header_count == HEADER_COUNT_MAX) {
        (void)refuse(refusal, STATUS_TOO_LARGE, "header_count",
                     "a message has too many headers");
        refusal->used = HEADER_COUNT_MAX + 1;
        refusal->allowed = HEADER_COUNT_MAX;
        return STATUS_TOO_LARGE;
    }
    message->headers[message->header_count++] = (struct wire_header) {
        keep_lower(out, slice_of(name.at + prefix_len, name.len - prefix_len)),
        kept
    };
    return STATUS_OK;
}

static enum status read_header(struct message_headers *out,
                               const struct http_header *header,
                               struct refusal *refusal)
{
    struct slice name = header->name;

    if (begins(name, "Godwit-Header-")) {
        return add_header(out, name, header->value, refusal);
    }
    if (is_word(name, "Godwit-Key")) {
        if (out->message.key.at != NULL) {
            return bad_header(refusal, name, "more than once");
        }
        out->message.key = keep(out, header->value);
        return out->message.key.at != NULL
                   ? STATUS_OK
                   : bad_header(refusal, name,
                                "a '%' is followed by two hexadecimal "
                                "digits");
    }
    if (is_word(name, "Godwit-Producer")
        || is_word(name, "Godwit-Producer-Seq")) {
        uint64_t *to = is_word(name, "Godwit-Producer") ? &out->producer
                                                        : &out->producer_seq;

        if (*to != 0 || !http_number_parse(header->value, to) || *to == 0) {
            return bad_header(refusal, name, "one number from 1");
        }
        return STATUS_OK;
    }
    return bad_header(refusal, name, "there is no such header");
}

/* All that begins with Godwit- is meant for us, and a typing error in it should
 * not lose a key. */
static enum status read_headers(struct message_headers *out,
                                const struct http_request *request,
                                struct refusal *refusal)
{
    memset(&out->message, 0, sizeof out->message);
    out->producer = 0;
    out->producer_seq = 0;
    out->text_len = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        enum status status;

        if (!begins(request->headers[i].name, "Godwit-")) {
            continue;
        }
        status = read_header(out, &request->headers[i], refusal);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if ((out->producer == 0) != (out->producer_seq == 0)) {
        return refuse(refusal, STATUS_INVALID, "producer",
                      "Godwit-Producer and Godwit-Producer-Seq come "
                      "together or not at all");
    }
    return STATUS_OK;
}

static void handle_message(struct session *session, struct exchange *exchange,
                           const struct http_request *request)
{
    struct message_headers headers;
    struct refusal refusal;
    struct bytes encoded = { 0 };
    struct slice message;
    struct wire_publish publish = {
        .topic = slice_text(exchange->route.name),
        .messages = &message,
        .count = 1,
    };

    if (read_headers(&headers, request, &refusal) != STATUS_OK) {
        respond_refusal(session, &refusal);
        return;
    }
    headers.message.body = request->body;
    if (codec_message_write(&encoded, &headers.message) != STATUS_OK) {
        respond_no_memory(session);
        bytes_fini(&encoded);
        return;
    }
    message = slice_of(encoded.at, bytes_len(&encoded));
    publish.producer_seq = headers.producer_seq;
    session_set_producer(session, headers.producer);
    session_publish(session, CALL_ID, &publish);
    bytes_fini(&encoded);
}

static void handle_batch(struct session *session, struct exchange *exchange,
                         const struct http_request *request)
{
    struct message_headers headers;
    struct refusal refusal;
    struct json_scratch scratch = { 0 };
    struct wire_publish publish = {
        .topic = slice_text(exchange->route.name),
    };
    enum status status = read_headers(&headers, request, &refusal);

    if (status == STATUS_OK
        && (headers.message.key.at != NULL
            || headers.message.header_count > 0)) {
        status = refuse(&refusal, STATUS_INVALID, "header",
                        "in a batch each message has its own key and headers");
    }
    if (status == STATUS_OK) {
        status = json_batch_read(&scratch, request->body, &publish, &refusal);
    }
    if (status != STATUS_OK) {
        respond_refusal(session, &refusal);
        json_scratch_fini(&scratch);
        return;
    }
    exchange->items = calloc(publish.count, sizeof exchange->items[0]);
    if (exchange->items == NULL) {
        respond_no_memory(session);
        json_scratch_fini(&scratch);
        return;
    }
    exchange->item_count = publish.count;
    publish.producer_seq = headers.producer_seq;
    session_set_producer(session, headers.producer);
    session_publish(session, CALL_ID, &publish);
    json_scratch_fini(&scratch);
}

/* ---- pull ---- */

/* With a copy of the name: the answer may end the exchange. */
static void go_to_group(struct session *session,
                        const struct exchange *exchange)
{
    struct http_route route = exchange->route;

    session_go_to_group(session, CALL_ID, slice_text(route.name));
}

static void on_deliver(struct session *session, const char *topic,
                       const struct wire_delivery *deliveries, size_t count)
{
    struct exchange *exchange = exchange_of(session);
    struct json json;

    if (exchange == NULL || exchange->status != STATUS_OK) {
        return;
    }
    if (exchange->protobuf) {
        exchange->status = codec_pulled_deliver(
            &exchange->messages, slice_text(topic), deliveries, count);
        return;
    }
    json = json_to(&exchange->messages);
    json.comma = bytes_len(&exchange->messages) > 0;
    for (size_t i = 0; i < count; i++) {
        json_delivery(&json, topic, &deliveries[i]);
    }
    exchange->status = json.status;
}

static void on_gap(struct session *session, const char *topic,
                   struct seq_range range)
{
    struct exchange *exchange = exchange_of(session);
    struct json json;

    if (exchange == NULL || exchange->status != STATUS_OK) {
        return;
    }
    if (exchange->protobuf) {
        exchange->status =
            codec_pulled_gap(&exchange->gaps, slice_text(topic), range);
        return;
    }
    json = json_to(&exchange->gaps);
    json.comma = bytes_len(&exchange->gaps) > 0;
    json_begin_object(&json, NULL);
    json_word(&json, "topic", topic);
    json_u64(&json, "first", range.first);
    json_u64(&json, "last", range.last);
    json_end_object(&json);
    exchange->status = json.status;
}

static struct slice content_of(const struct bytes *bytes)
{
    return bytes_len(bytes) == 0
               ? slice_of(NULL, 0)
               : slice_of(bytes_begin(bytes), bytes_len(bytes));
}

static enum status write_pulled_proto(const struct exchange *exchange,
                                      uint64_t lease, uint64_t lease_ms,
                                      struct bytes *body)
{
    enum status status = codec_pulled_begin(body, lease, lease_ms);

    if (status == STATUS_OK) {
        status = bytes_append(body, content_of(&exchange->messages).at,
                              bytes_len(&exchange->messages));
    }
    if (status == STATUS_OK) {
        status = bytes_append(body, content_of(&exchange->gaps).at,
                              bytes_len(&exchange->gaps));
    }
    return status;
}

static enum status write_pulled_json(const struct exchange *exchange,
                                     uint64_t lease, uint64_t lease_ms,
                                     struct bytes *body)
{
    struct json json = json_to(body);

    json_begin_object(&json, NULL);
    json_u64(&json, "lease", lease);
    json_u64(&json, "lease_ms", lease_ms);
    json_begin_array(&json, "messages");
    json_raw(&json, NULL, content_of(&exchange->messages));
    json_end_array(&json);
    json_begin_array(&json, "gaps");
    json_raw(&json, NULL, content_of(&exchange->gaps));
    json_end_array(&json);
    json_end_object(&json);
    return json.status;
}

static void on_pulled(struct session *session, uint64_t id, uint64_t lease,
                      uint64_t lease_ms)
{
    struct exchange *exchange = exchange_of(session);
    struct bytes body = { 0 };
    bool protobuf;

    (void)id;
    if (exchange == NULL) {
        return;
    }
    protobuf = exchange->protobuf;
    if (exchange->status == STATUS_OK) {
        exchange->status =
            protobuf ? write_pulled_proto(exchange, lease, lease_ms, &body)
                     : write_pulled_json(exchange, lease, lease_ms, &body);
    }
    if (exchange->status != STATUS_OK) {
        /* What was pulled comes again when its lease is over. */
        bytes_fini(&body);
        respond_no_memory(session);
        return;
    }
    respond_bytes(session, 200, protobuf ? PROTOBUF_TYPE : JSON_TYPE, &body);
}

static void handle_pull(struct session *session, struct exchange *exchange,
                        const struct http_request *request)
{
    struct refusal refusal;

    if (http_pull_read(request, &exchange->count_max, &exchange->wait_ms,
                       &refusal)
        != STATUS_OK) {
        respond_refusal(session, &refusal);
        return;
    }
    go_to_group(session, exchange);
}

/* ---- settle ---- */

/* A Settled alone: what the codec writes is a Reply, whose only field it is. */
static void take_reply_off(struct bytes *body)
{
    size_t head_len = 1; /* its tag, then a length of one to five bytes */

    while ((bytes_begin(body)[head_len] & 0x80) != 0) {
        head_len++;
    }
    bytes_consume(body, head_len + 1);
}

static void on_settled(struct session *session, uint64_t id, struct slice topic,
                       const struct wire_settled_range *ranges, size_t count)
{
    struct exchange *exchange = exchange_of(session);
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    if (exchange == NULL) {
        return;
    }
    if (exchange->protobuf) {
        if (codec_settled_write(&body, id, topic, ranges, count) != STATUS_OK) {
            bytes_fini(&body);
            respond_no_memory(session);
            return;
        }
        take_reply_off(&body);
        respond_bytes(session, 200, PROTOBUF_TYPE, &body);
        return;
    }
    json_begin_object(&json, NULL);
    json_text(&json, "topic", topic);
    json_settled_ranges(&json, ranges, count);
    json_end_object(&json);
    respond_json(session, 200, json.status, &body);
}

static void handle_settle(struct session *session, struct exchange *exchange,
                          const struct http_request *request)
{
    if (bytes_append(&exchange->body, request->body.at, request->body.len)
        != STATUS_OK) {
        respond_no_memory(session);
        return;
    }
    go_to_group(session, exchange);
}

static void settle_proto(struct session *session, const char *group,
                         struct slice body)
{
    struct wire_request request;
    struct refusal refusal;

    if (codec_settle_body_read(session_codec(session), body, &request, &refusal)
        != STATUS_OK) {
        respond_refusal(session, &refusal);
        return;
    }
    session_settle_in(session, CALL_ID, slice_text(group), &request.settle);
}

static void settle_json(struct session *session, const char *group,
                        struct slice body)
{
    struct json_scratch scratch = { 0 };
    struct wire_settle settle;
    struct refusal refusal;

    if (json_settle_read(&scratch, body, &settle, &refusal) == STATUS_OK) {
        session_settle_in(session, CALL_ID, slice_text(group), &settle);
    } else {
        respond_refusal(session, &refusal);
    }
    json_scratch_fini(&scratch);
}

/* The answer may come from within the call and end the exchange; the body must
 * outlive it. */
static void settle_arrived(struct session *session, struct exchange *exchange,
                           const char *group)
{
    struct bytes body = exchange->body;

    exchange->body = (struct bytes) { 0 };
    if (exchange->body_protobuf) {
        settle_proto(session, group, content_of(&body));
    } else {
        settle_json(session, group, content_of(&body));
    }
    bytes_fini(&body);
}

/* ---- groups: show ---- */

static void show_arrived(struct session *session, struct exchange *exchange)
{
    struct bytes body = { 0 };
    enum status status = show_group(session, exchange->route.name, &body);

    if (status == STATUS_NOT_FOUND) {
        bytes_fini(&body);
        respond_not_found(session, "group", exchange->route.name);
        return;
    }
    respond_json(session, 200, status, &body);
}

static void on_arrived(struct session *session, uint64_t id)
{
    struct exchange *exchange = exchange_of(session);
    struct http_route route;

    (void)id;
    if (exchange == NULL) {
        return;
    }
    route = exchange->route;
    if (exchange->route.target == TARGET_PULL) {
        session_pull(session, CALL_ID, slice_text(route.name),
                     exchange->count_max, exchange->wait_ms);
    } else if (exchange->route.target == TARGET_SETTLE) {
        settle_arrived(session, exchange, route.name);
    } else {
        show_arrived(session, exchange);
    }
}

static void handle_show_group(struct session *session,
                              struct exchange *exchange)
{
    const char *name = exchange->route.name;
    const struct group_fact *group =
        catalog_group(session_catalog(session), slice_text(name));

    if (group == NULL) {
        respond_not_found(session, "group", name);
    } else if (!may_see_group(session, group)) {
        respond_forbidden(session, "owner",
                          "only its owner or an admin app may see a group");
    } else {
        go_to_group(session, exchange);
    }
}

/* ---- catalog changes ---- */

static void on_changed(struct session *session, const struct change_done *done)
{
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    if (exchange_of(session) == NULL) {
        return;
    }
    if (done->request->op == CATALOG_DELETE) {
        respond(session, 204, NULL, NULL, slice_of(NULL, 0));
        return;
    }
    json_begin_object(&json, NULL);
    json_word(&json, "name", done->request->name);
    if (done->request->class == CATALOG_APP) {
        json_word(&json, "secret", done->secret);
    }
    json_end_object(&json);
    respond_json(session, 201, json.status, &body);
    /* respond_json() has freed the buffer that held the secret. */
}

static void handle_create(struct session *session, enum catalog_class class,
                          const struct http_request *request)
{
    struct catalog_request change = {
        .op = CATALOG_CREATE,
        .class = class,
        .app = session_app(session)->id,
    };
    struct refusal refusal;

    if (json_change_read(request->body, &change, &refusal) != STATUS_OK) {
        catalog_request_fini(&change);
        respond_refusal(session, &refusal);
        return;
    }
    session_change(session, CALL_ID, &change);
}

static void handle_delete(struct session *session, enum catalog_class class,
                          const char *name)
{
    struct catalog_request change = {
        .op = CATALOG_DELETE,
        .class = class,
        .app = session_app(session)->id,
    };

    memcpy(change.name, name, strlen(name) + 1);
    session_change(session, CALL_ID, &change);
}

/* ---- lists and shows ---- */

static void handle_topics(struct session *session,
                          const struct http_request *request)
{
    struct bytes body = { 0 };
    enum status status;

    if (request->method == HTTP_POST) {
        handle_create(session, CATALOG_TOPIC, request);
        return;
    }
    status = show_topics(session, &body);
    respond_json(session, 200, status, &body);
}

static void handle_topic(struct session *session, struct exchange *exchange)
{
    const char *name = exchange->route.name;
    const struct topic *topic;
    struct bytes body = { 0 };
    enum status status;

    if (exchange->method == HTTP_DELETE) {
        handle_delete(session, CATALOG_TOPIC, name);
        return;
    }
    topic = catalog_topic(session_catalog(session), slice_text(name));
    if (topic == NULL) {
        respond_not_found(session, "topic", name);
        return;
    }
    if (!may_see_topic(session, topic)) {
        respond_forbidden(session, "grant",
                          "neither a publish nor a subscribe grant covers "
                          "this topic");
        return;
    }
    status = show_topic(session, topic, &body);
    respond_json(session, 200, status, &body);
}

static void handle_groups(struct session *session,
                          const struct http_request *request)
{
    struct bytes body = { 0 };
    enum status status;

    if (request->method == HTTP_POST) {
        handle_create(session, CATALOG_GROUP, request);
        return;
    }
    status = show_groups(session, &body);
    respond_json(session, 200, status, &body);
}

static void handle_group(struct session *session, struct exchange *exchange)
{
    if (exchange->method == HTTP_DELETE) {
        handle_delete(session, CATALOG_GROUP, exchange->route.name);
        return;
    }
    handle_show_group(session, exchange);
}

static void handle_apps(struct session *session,
                        const struct http_request *request)
{
    struct bytes body = { 0 };
    enum status status;

    if (request->method == HTTP_POST) {
        handle_create(session, CATALOG_APP, request);
        return;
    }
    if (!session_app(session)->admin) {
        respond_forbidden(session, "admin", "only an admin app may see apps");
        return;
    }
    status = show_apps(session, &body);
    respond_json(session, 200, status, &body);
}

static void handle_app(struct session *session, struct exchange *exchange)
{
    const char *name = exchange->route.name;
    const struct app *app;
    struct bytes body = { 0 };
    enum status status;

    if (exchange->method == HTTP_DELETE) {
        handle_delete(session, CATALOG_APP, name);
        return;
    }
    if (!session_app(session)->admin
        && strcmp(session_app(session)->name, name) != 0) {
        respond_forbidden(session, "admin",
                          "only an admin app may see other apps");
        return;
    }
    app = catalog_app(session_catalog(session), slice_text(name));
    if (app == NULL) {
        respond_not_found(session, "app", name);
        return;
    }
    status = show_app(session, app, &body);
    respond_json(session, 200, status, &body);
}

/* ---- how the broker is ---- */

static void handle_health(struct session *session,
                          const struct broker_metrics *metrics)
{
    struct bytes body = { 0 };
    int code = 200;
    enum status status = health_write(metrics, &body, &code);

    respond_json(session, code, status, &body);
}

static void handle_metrics(struct session *session,
                           const struct broker_metrics *metrics)
{
    struct bytes body = { 0 };

    if (metrics_write(metrics, &body) != STATUS_OK) {
        bytes_fini(&body);
        respond_no_memory(session);
        return;
    }
    respond_bytes(session, 200, METRICS_TYPE, &body);
}

static void handle_stream(struct session *session)
{
    struct refusal refusal;

    (void)refuse(&refusal, STATUS_UNSUPPORTED, "upgrade",
                 "this path takes WebSocket upgrades only, version 13, with "
                 "subprotocol godwit.v1.proto or godwit.v1.json");
    respond_refusal_as(session, 426, NULL, &refusal);
}

/* ---- requests ---- */

static bool takes_json(enum http_target target)
{
    switch (target) {
    case TARGET_TOPICS:
    case TARGET_GROUPS:
    case TARGET_APPS:
    case TARGET_BATCH:
    case TARGET_SETTLE:
        return true;
    case TARGET_HEALTH:
    case TARGET_METRICS:
    case TARGET_STREAM:
    case TARGET_TOPIC:
    case TARGET_GROUP:
    case TARGET_APP:
    case TARGET_MESSAGES:
    case TARGET_PULL:
        return false;
    }
    return false;
}

/* A missing type is taken for JSON, and so is what curl's -d says. Browsers may
 * send that across sites without asking; it carries no Authorization then. */
static bool read_types(struct exchange *exchange,
                       const struct http_request *request)
{
    struct slice type = http_header(request, "Content-Type");
    struct slice accept = http_header(request, "Accept");
    bool protobuf = http_media_is(type, PROTOBUF_TYPE)
                    || http_media_is(type, "application/x-protobuf");

    exchange->body_protobuf =
        exchange->route.target == TARGET_SETTLE && protobuf;
    exchange->protobuf = exchange->body_protobuf
                         || http_list_has(accept, PROTOBUF_TYPE)
                         || http_list_has(accept, "application/x-protobuf");
    return request->method != HTTP_POST || !takes_json(exchange->route.target)
           || exchange->body_protobuf || type.len == 0
           || http_media_is(type, JSON_TYPE)
           || http_media_is(type, "application/x-www-form-urlencoded");
}

static void dispatch(struct session *session, struct exchange *exchange,
                     const struct http_request *request,
                     const struct broker_metrics *metrics)
{
    switch (exchange->route.target) {
    case TARGET_HEALTH:
        handle_health(session, metrics);
        break;
    case TARGET_METRICS:
        handle_metrics(session, metrics);
        break;
    case TARGET_STREAM:
        handle_stream(session);
        break;
    case TARGET_TOPICS:
        handle_topics(session, request);
        break;
    case TARGET_TOPIC:
        handle_topic(session, exchange);
        break;
    case TARGET_MESSAGES:
        handle_message(session, exchange, request);
        break;
    case TARGET_BATCH:
        handle_batch(session, exchange, request);
        break;
    case TARGET_GROUPS:
        handle_groups(session, request);
        break;
    case TARGET_GROUP:
        handle_group(session, exchange);
        break;
    case TARGET_PULL:
        handle_pull(session, exchange, request);
        break;
    case TARGET_SETTLE:
        handle_settle(session, exchange, request);
        break;
    case TARGET_APPS:
        handle_apps(session, request);
        break;
    case TARGET_APP:
        handle_app(session, exchange);
        break;
    }
}

static enum status check_query(const struct http_request *request,
                               enum http_target target, struct refusal *refusal)
{
    static const char *const none[] = { NULL };

    return target == TARGET_PULL ? STATUS_OK
                                 : http_query_check(request, none, refusal);
}

static bool is_open(enum http_target target)
{
    return target == TARGET_HEALTH || target == TARGET_METRICS
           || target == TARGET_STREAM;
}

void http_api_request(struct session *session,
                      const struct http_request *request,
                      const struct broker_metrics *metrics)
{
    struct exchange *exchange = exchange_begin(session);
    struct refusal refusal;
    int code;

    if (exchange == NULL) {
        respond_no_memory(session);
        return;
    }
    exchange->method = request->method;
    code = http_route_find(request, &exchange->route, &refusal);
    if (code != 0) {
        respond_refusal_as(session, code, exchange->route.allow, &refusal);
        return;
    }
    if (!is_open(exchange->route.target)
        && session_authorize(session, http_header(request, "Authorization"),
                             &refusal)
               != STATUS_OK) {
        respond_refusal(session, &refusal);
        return;
    }
    if (check_query(request, exchange->route.target, &refusal) != STATUS_OK) {
        respond_refusal(session, &refusal);
        return;
    }
    if (!read_types(exchange, request)) {
        (void)refuse(&refusal, STATUS_UNSUPPORTED, "content_type",
                     "the body's type is not taken here; send " JSON_TYPE);
        respond_refusal_as(session, 415, NULL, &refusal);
        return;
    }
    dispatch(session, exchange, request, metrics);
}

static void on_closed(struct session *session)
{
    struct exchange *exchange = session_door_state(session);

    if (exchange != NULL) {
        exchange_clear(exchange);
        free(exchange);
        session_set_door_state(session, NULL);
    }
}

/* Logins and memberships are the streams'. */
const struct door door_http = {
    .name = "http",
    .confirm = on_confirm,
    .refused = on_refused,
    .deliver = on_deliver,
    .gap = on_gap,
    .settled = on_settled,
    .pulled = on_pulled,
    .changed = on_changed,
    .arrived = on_arrived,
    .closed = on_closed,
};
