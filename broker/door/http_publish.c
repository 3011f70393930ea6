/* Publishing over HTTP: one message, the body verbatim and the rest in headers,
 * or a batch in JSON whose results come back item by item. */
#include "broker/door/http_exchange.h"

#include "broker/door/json_read.h"
#include "proto/codec.h"
#include "proto/text.h"

#include <stdlib.h>
#include <strings.h>

static void single_confirmed(struct session *session,
                             const struct wire_confirm *confirm)
{
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    json_begin_object(&json, NULL);
    json_u64(&json, "seq", confirm->seq);
    json_bool(&json, "duplicate", confirm->duplicate);
    json_receipt(&json, confirm);
    json_end_object(&json);
    http_respond_json(session, 200, json.status, &body);
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
        json_receipt(json, &item->receipt);
    }
    json_end_object(json);
}

static void finish_batch(struct session *session, struct exchange *exchange)
{
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    if (exchange->status != STATUS_OK) {
        http_respond_no_memory(session);
        return;
    }
    json_begin_object(&json, NULL);
    json_begin_array(&json, "results");
    for (size_t i = 0; i < exchange->item_count; i++) {
        put_item(&json, exchange, &exchange->items[i]);
    }
    json_end_array(&json);
    json_end_object(&json);
    http_respond_json(session, 200, json.status, &body);
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

void http_publish_confirmed(struct session *session,
                            const struct wire_confirm *confirm)
{
    struct exchange *exchange = http_exchange_of(session);
    size_t first;

    if (exchange == NULL) {
        return;
    }
    if (exchange->route.target != TARGET_BATCH) {
        single_confirmed(session, confirm);
        return;
    }
    CHECK(batch_items(exchange, confirm->id, confirm->count, &first));
    for (size_t i = 0; i < confirm->count; i++) {
        struct item *item = &exchange->items[first + i];

        item->seq = confirm->seq == 0 ? 0 : confirm->seq + i;
        item->duplicate = confirm->duplicate;
    }
    exchange->items[first].receipt = *confirm;
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
void http_publish_refused(struct session *session, uint64_t id, uint64_t count,
                          const struct refusal *refusal)
{
    struct exchange *exchange = http_exchange_of(session);

    if (exchange == NULL) {
        return;
    }
    if (exchange->route.target == TARGET_BATCH
        && (exchange->item_done > 0 || count < exchange->item_count)) {
        refuse_items(session, exchange, id, count, refusal);
        return;
    }
    http_respond_refusal(session, refusal);
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

/* The headers with one value each, and where it goes. */
struct place {
    const char *name;
    size_t offset; /* in struct message_headers */
};

static const struct place texts[] = {
    { "Godwit-Key", offsetof(struct message_headers, message.key) },
    { "Godwit-Tag", offsetof(struct message_headers, message.tag) },
    { "Godwit-Message-Id", offsetof(struct message_headers, message.id) },
};

static const struct place numbers[] = {
    { "Godwit-Producer", offsetof(struct message_headers, producer) },
    { "Godwit-Producer-Seq", offsetof(struct message_headers, producer_seq) },
    { "Godwit-Delay-Ms", offsetof(struct message_headers, message.delay_ms) },
    { "Godwit-Deliver-At-Ms",
      offsetof(struct message_headers, message.deliver_at_ms) },
    { "Godwit-Ttl-Ms", offsetof(struct message_headers, message.ttl_ms) },
};

static void *find_place(const struct place *places, size_t count,
                        struct slice name, struct message_headers *out)
{
    for (size_t i = 0; i < count; i++) {
        if (is_word(name, places[i].name)) {
            return (char *)out + places[i].offset;
        }
    }
    return NULL;
}

static enum status take_text(struct message_headers *out,
                             const struct http_header *header, struct slice *to,
                             struct refusal *refusal)
{
    if (to->at != NULL) {
        return bad_header(refusal, header->name, "more than once");
    }
    *to = keep(out, header->value);
    return to->at != NULL ? STATUS_OK
                          : bad_header(refusal, header->name,
                                       "a '%' is followed by two hexadecimal "
                                       "digits");
}

static enum status read_header(struct message_headers *out,
                               const struct http_header *header,
                               struct refusal *refusal)
{
    struct slice name = header->name;
    struct slice *text;
    uint64_t *number;

    if (begins(name, "Godwit-Header-")) {
        return add_header(out, name, header->value, refusal);
    }
    text = find_place(texts, COUNT_OF(texts), name, out);
    if (text != NULL) {
        return take_text(out, header, text, refusal);
    }
    number = find_place(numbers, COUNT_OF(numbers), name, out);
    if (number == NULL) {
        return bad_header(refusal, name, "there is no such header");
    }
    if (*number != 0 || !text_decimal(header->value, number) || *number == 0) {
        return bad_header(refusal, name, "one number from 1");
    }
    return STATUS_OK;
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

void http_publish_message(struct session *session, struct exchange *exchange,
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
        http_respond_refusal(session, &refusal);
        return;
    }
    headers.message.body = request->body;
    if (codec_message_write(&encoded, &headers.message) != STATUS_OK) {
        http_respond_no_memory(session);
        bytes_fini(&encoded);
        return;
    }
    message = slice_of(encoded.at, bytes_len(&encoded));
    publish.producer_seq = headers.producer_seq;
    session_set_producer(session, headers.producer);
    session_publish(session, CALL_ID, &publish);
    bytes_fini(&encoded);
}

void http_publish_batch(struct session *session, struct exchange *exchange,
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
            || codec_message_len(&headers.message) > 0)) {
        status = refuse(&refusal, STATUS_INVALID, "header",
                        "in a batch each message has its own key, headers and "
                        "options");
    }
    if (status == STATUS_OK) {
        status = json_batch_read(&scratch, request->body, &publish, &refusal);
    }
    if (status != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        json_scratch_fini(&scratch);
        return;
    }
    exchange->items = calloc(publish.count, sizeof exchange->items[0]);
    if (exchange->items == NULL) {
        http_respond_no_memory(session);
        json_scratch_fini(&scratch);
        return;
    }
    exchange->item_count = publish.count;
    publish.producer_seq = headers.producer_seq;
    session_set_producer(session, headers.producer);
    session_publish(session, CALL_ID, &publish);
    json_scratch_fini(&scratch);
}
