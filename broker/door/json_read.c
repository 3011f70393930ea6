#include "broker/door/json_read.h"

#include "broker/door/json.h"
#include "proto/codec.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>

void json_scratch_fini(struct json_scratch *scratch)
{
    json_decref(scratch->root);
    bytes_fini(&scratch->encoded);
    free(scratch->messages);
    free(scratch->ranges);
    *scratch = (struct json_scratch) { 0 };
}

/* ---- documents ---- */

static enum status invalid(struct refusal *refusal, const char *limit,
                           const char *text, const char *what)
{
    return refuse(refusal, STATUS_INVALID, limit, "%s%s", text, what);
}

static enum status no_memory(struct refusal *refusal)
{
    return refuse(refusal, STATUS_NOMEM, "memory", "out of memory");
}

static enum status beyond(struct refusal *refusal, const char *limit,
                          const char *text, uint64_t used, uint64_t allowed)
{
    (void)refuse(refusal, STATUS_TOO_LARGE, limit, "%s", text);
    refusal->used = used;
    refusal->allowed = allowed;
    return STATUS_TOO_LARGE;
}

struct extent {
    size_t depth;
    size_t values; /* as many at most */
};

/* Before the parser sees it, which would go 2,048 levels down by recursion and
 * makes a hundred bytes of three. In what is no JSON the counts may be wrong;
 * the parser refuses that anyway. */
static struct extent measure(struct slice text)
{
    struct extent extent = { .values = 1 };
    size_t depth = 0;
    bool inside = false; /* a string */

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];

        if (inside) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                inside = false;
            }
        } else if (c == '"') {
            inside = true;
        } else if (c == '{' || c == '[') {
            depth++;
            extent.values++;
            extent.depth = depth > extent.depth ? depth : extent.depth;
        } else if (c == ',') {
            extent.values++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return extent;
}

static enum status parse(struct slice text, json_t **out,
                         struct refusal *refusal)
{
    json_error_t error;
    struct extent extent = measure(text);
    json_t *root;

    if (extent.depth > JSON_DEPTH_MAX) {
        return beyond(refusal, "json_depth", "the JSON is nested too deep",
                      extent.depth, JSON_DEPTH_MAX);
    }
    if (extent.values > JSON_VALUE_COUNT_MAX) {
        return beyond(refusal, "json_values", "the JSON has too many values",
                      extent.values, JSON_VALUE_COUNT_MAX);
    }
    root = json_loadb(text.len == 0 ? "" : (const char *)text.at, text.len,
                      JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        if (json_error_code(&error) == json_error_out_of_memory) {
            return no_memory(refusal);
        }
        return refuse(refusal, STATUS_INVALID, "json",
                      "not valid JSON: line %d, column %d: %s", error.line,
                      error.column, error.text);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return invalid(refusal, "json", "a JSON object is expected", "");
    }
    *out = root;
    return STATUS_OK;
}

/* Typing errors should not go unnoticed. `known` ends with NULL. */
static enum status check_keys(json_t *object, const char *const *known,
                              struct refusal *refusal)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        size_t i = 0;

        while (known[i] != NULL && strcmp(known[i], key) != 0) {
            i++;
        }
        if (known[i] == NULL) {
            return refuse(refusal, STATUS_INVALID, "unknown_key",
                          "unknown key \"%.64s\"", key);
        }
    }
    return STATUS_OK;
}

/* ---- fields; one that is not there is left at its zero ---- */

static bool parse_u64(const char *text, size_t len, uint64_t *out)
{
    uint64_t value = 0;

    if (len == 0 || len > 20) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)(uint8_t)text[i] - '0';

        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static bool value_u64(json_t *value, uint64_t *out)
{
    if (json_is_string(value)) {
        return parse_u64(json_string_value(value), json_string_length(value),
                         out);
    }
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
        return true;
    }
    return false;
}

static struct slice value_text(json_t *value)
{
    return slice_of(json_string_value(value), json_string_length(value));
}

static enum status field_u64(json_t *object, const char *key, uint64_t *out,
                             struct refusal *refusal)
{
    json_t *value = json_object_get(object, key);

    if (value != NULL && !value_u64(value, out)) {
        return invalid(refusal, key,
                       "expected a whole number from 0 to 2^64-1, or such a "
                       "number as a string: ",
                       key);
    }
    return STATUS_OK;
}

static enum status field_text(json_t *object, const char *key,
                              struct slice *out, struct refusal *refusal)
{
    json_t *value = json_object_get(object, key);

    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_string(value)) {
        return invalid(refusal, key, "expected a string: ", key);
    }
    *out = value_text(value);
    return STATUS_OK;
}

static enum status field_bool(json_t *object, const char *key, bool *out,
                              struct refusal *refusal)
{
    json_t *value = json_object_get(object, key);

    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_boolean(value)) {
        return invalid(refusal, key, "expected true or false: ", key);
    }
    *out = json_is_true(value);
    return STATUS_OK;
}

/* ---- a value as compact text ---- */

static void write_value(struct json *json, json_t *value);

/* The shortest of the texts that read back as the same number. */
static void write_real(struct json *json, double real)
{
    char text[40];

    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, real);
        if (strtod(text, NULL) == real) {
            break;
        }
    }
    json_raw(json, NULL, slice_text(text));
}

static void write_object(struct json *json, json_t *object)
{
    const char *key;
    json_t *value;

    json_begin_object(json, NULL);
    json_object_foreach(object, key, value)
    {
        json_word(json, NULL, key);
        json_colon(json);
        write_value(json, value);
    }
    json_end_object(json);
}

static void write_array(struct json *json, json_t *array)
{
    json_begin_array(json, NULL);
    for (size_t i = 0; i < json_array_size(array); i++) {
        write_value(json, json_array_get(array, i));
    }
    json_end_array(json);
}

/* Recursion: no deeper than JSON_DEPTH_MAX. */
static void write_value(struct json *json, json_t *value)
{
    char text[24];

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_object(json, value);
        break;
    case JSON_ARRAY:
        write_array(json, value);
        break;
    case JSON_STRING:
        json_text(json, NULL, value_text(value));
        break;
    case JSON_INTEGER:
        (void)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT,
                       json_integer_value(value));
        json_raw(json, NULL, slice_text(text));
        break;
    case JSON_REAL:
        write_real(json, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        json_bool(json, NULL, json_is_true(value));
        break;
    case JSON_NULL:
        json_raw(json, NULL, slice_text("null"));
        break;
    }
}

/* ---- messages ---- */

static const char *const message_keys[] = { "key",         "headers", "body",
                                            "body_base64", "json",    NULL };

static enum status read_headers(json_t *object, struct wire_message *out,
                                struct refusal *refusal)
{
    json_t *headers = json_object_get(object, "headers");
    const char *key;
    json_t *value;

    if (headers == NULL) {
        return STATUS_OK;
    }
    if (!json_is_object(headers)) {
        return invalid(refusal, "headers", "expected an object: headers", "");
    }
    if (json_object_size(headers) > HEADER_COUNT_MAX) {
        return beyond(refusal, "header_count", "a message has too many headers",
                      json_object_size(headers), HEADER_COUNT_MAX);
    }
    json_object_foreach(headers, key, value)
    {
        if (!json_is_string(value)) {
            return refuse(refusal, STATUS_INVALID, "headers",
                          "the value of header \"%.64s\" is not a string", key);
        }
        out->headers[out->header_count++] =
            (struct wire_header) { slice_text(key), value_text(value) };
    }
    return STATUS_OK;
}

/* The body in whichever of the three ways; `made` holds it if it had to be made
 * and is empty before. */
static enum status read_body(json_t *object, struct wire_message *out,
                             struct bytes *made, struct refusal *refusal)
{
    json_t *text = json_object_get(object, "body");
    json_t *base64 = json_object_get(object, "body_base64");
    json_t *any = json_object_get(object, "json");
    struct json json = json_to(made);
    enum status status = STATUS_OK;

    if ((text != NULL) + (base64 != NULL) + (any != NULL) > 1) {
        return invalid(refusal, "body",
                       "a message has one of body, body_base64 and json", "");
    }
    if ((text != NULL && !json_is_string(text))
        || (base64 != NULL && !json_is_string(base64))) {
        return invalid(refusal, "body",
                       "expected a string: body and body_base64", "");
    }
    if (text != NULL) {
        out->body = value_text(text);
        return STATUS_OK;
    }
    if (base64 != NULL) {
        status = base64_decode(made, value_text(base64));
    } else if (any != NULL) {
        write_value(&json, any);
        status = json.status;
    }
    if (status == STATUS_INVALID) {
        return invalid(refusal, "body_base64",
                       "not base64 (RFC 4648, with padding): body_base64", "");
    }
    out->body = slice_of(made->at, bytes_len(made));
    return status == STATUS_OK ? status : no_memory(refusal);
}

static enum status read_message(json_t *object, struct bytes *encoded,
                                struct refusal *refusal)
{
    struct wire_message message;
    struct bytes made = { 0 };
    enum status status;

    memset(&message, 0, offsetof(struct wire_message, headers));
    if (!json_is_object(object)) {
        return invalid(refusal, "messages", "a message is an object", "");
    }
    status = check_keys(object, message_keys, refusal);
    if (status == STATUS_OK) {
        status = field_text(object, "key", &message.key, refusal);
    }
    if (status == STATUS_OK) {
        status = read_headers(object, &message, refusal);
    }
    if (status == STATUS_OK) {
        status = read_body(object, &message, &made, refusal);
    }
    if (status == STATUS_OK
        && codec_message_write(encoded, &message) != STATUS_OK) {
        status = no_memory(refusal);
    }
    bytes_fini(&made);
    return status;
}

static enum status message_failed(struct refusal *refusal, size_t index,
                                  enum status status)
{
    (void)snprintf(refusal->scope, sizeof refusal->scope, "messages[%zu]",
                   index);
    return status;
}

/* Lens first, places when the buffer has stopped moving. */
static enum status read_messages(struct json_scratch *scratch, json_t *array,
                                 struct wire_publish *out,
                                 struct refusal *refusal)
{
    size_t count = json_array_size(array);
    const uint8_t *at;

    if (!json_is_array(array) || count == 0) {
        return invalid(refusal, "messages",
                       "expected an array of at least one message: messages",
                       "");
    }
    if (count > PUBLISH_COUNT_MAX) {
        return beyond(refusal, "publish_count",
                      "too many messages in one request", count,
                      PUBLISH_COUNT_MAX);
    }
    scratch->messages = calloc(count, sizeof scratch->messages[0]);
    if (scratch->messages == NULL) {
        return no_memory(refusal);
    }
    for (size_t i = 0; i < count; i++) {
        size_t before = bytes_len(&scratch->encoded);
        enum status status =
            read_message(json_array_get(array, i), &scratch->encoded, refusal);

        if (status != STATUS_OK) {
            return message_failed(refusal, i, status);
        }
        scratch->messages[i].len = bytes_len(&scratch->encoded) - before;
    }
    at = scratch->encoded.at;
    for (size_t i = 0; i < count; i++) {
        scratch->messages[i].at = at;
        at += scratch->messages[i].len;
    }
    out->messages = scratch->messages;
    out->count = count;
    return STATUS_OK;
}

/* ---- requests ---- */

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum status read_signature(struct json_scratch *scratch,
                                  struct slice text, struct slice *out,
                                  struct refusal *refusal)
{
    if (text.at == NULL) {
        return STATUS_OK;
    }
    if (text.len != 2 * SIGNATURE_LEN_MAX) {
        return invalid(refusal, "signature",
                       "a signature is 64 hexadecimal digits", "");
    }
    for (size_t i = 0; i < SIGNATURE_LEN_MAX; i++) {
        int high = hex_digit(text.at[2 * i]);
        int low = hex_digit(text.at[2 * i + 1]);

        if (high < 0 || low < 0) {
            return invalid(refusal, "signature",
                           "a signature is 64 hexadecimal digits", "");
        }
        scratch->signature[i] = (uint8_t)(high << 4 | low);
    }
    *out = slice_of(scratch->signature, SIGNATURE_LEN_MAX);
    return STATUS_OK;
}

static enum status check_len(struct slice text, const char *key, size_t len_max,
                             struct refusal *refusal)
{
    if (text.len > len_max) {
        return beyond(refusal, key, "a field is longer than it may be",
                      text.len, len_max);
    }
    return STATUS_OK;
}

static enum status field_bounded(json_t *object, const char *key,
                                 size_t len_max, struct slice *out,
                                 struct refusal *refusal)
{
    enum status status = field_text(object, key, out, refusal);

    return status == STATUS_OK ? check_len(*out, key, len_max, refusal)
                               : status;
}

/* A name that must be there. Whether it is a good one is the session's. */
static enum status field_name(json_t *object, const char *key,
                              struct slice *out, struct refusal *refusal)
{
    enum status status = field_bounded(object, key, NAME_LEN_MAX, out, refusal);

    if (status == STATUS_OK && out->len == 0) {
        return invalid(refusal, key, "missing or empty: ", key);
    }
    return status;
}

static enum status read_hello(struct json_scratch *scratch, json_t *object,
                              struct wire_hello *out, struct refusal *refusal)
{
    struct slice hex = { 0 };
    /* None after a login by the Authorization header. */
    enum status status =
        field_bounded(object, "app", NAME_LEN_MAX, &out->app, refusal);

    if (status == STATUS_OK) {
        status = field_bounded(object, "secret", SECRET_LEN_MAX, &out->secret,
                               refusal);
    }
    if (status == STATUS_OK) {
        status = field_u64(object, "timestamp_ms", &out->timestamp_ms, refusal);
    }
    if (status == STATUS_OK) {
        status =
            field_bounded(object, "nonce", NONCE_LEN_MAX, &out->nonce, refusal);
    }
    if (status == STATUS_OK) {
        status = field_text(object, "signature", &hex, refusal);
    }
    if (status == STATUS_OK) {
        status = read_signature(scratch, hex, &out->signature, refusal);
    }
    if (status == STATUS_OK) {
        status = field_bounded(object, "client", CLIENT_LEN_MAX, &out->client,
                               refusal);
    }
    if (status == STATUS_OK) {
        status = field_u64(object, "producer", &out->producer, refusal);
    }
    return status;
}

static enum status read_publish(struct json_scratch *scratch, json_t *object,
                                struct wire_publish *out,
                                struct refusal *refusal)
{
    enum status status = field_name(object, "topic", &out->topic, refusal);

    if (status == STATUS_OK) {
        status = field_u64(object, "producer_seq", &out->producer_seq, refusal);
    }
    if (status == STATUS_OK) {
        status = read_messages(scratch, json_object_get(object, "messages"),
                               out, refusal);
    }
    return status;
}

static enum status read_attach(json_t *object, struct wire_attach *out,
                               struct refusal *refusal)
{
    enum status status = field_name(object, "group", &out->group, refusal);

    if (status == STATUS_OK) {
        status = field_u64(object, "credit_messages", &out->credit_messages,
                           refusal);
    }
    if (status == STATUS_OK) {
        status = field_u64(object, "credit_bytes", &out->credit_bytes, refusal);
    }
    return status;
}

/* ---- settle ---- */

static enum status read_action(json_t *object, enum settle_action *out,
                               struct refusal *refusal)
{
    static const char *const words[] = {
        [SETTLE_ACK] = "ack",
        [SETTLE_NACK] = "nack",
        [SETTLE_RELEASE] = "release",
        [SETTLE_EXTEND] = "extend",
    };
    struct slice text = { 0 };
    enum status status = field_text(object, "action", &text, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    for (unsigned i = SETTLE_ACK; i < COUNT_OF(words); i++) {
        if (slice_is(text, words[i])) {
            *out = (enum settle_action)i;
            return STATUS_OK;
        }
    }
    return invalid(refusal, "action",
                   "action is one of ack, nack, release and extend", "");
}

static bool range_ends(json_t *value, json_t **first, json_t **last)
{
    if (json_is_array(value)) {
        *first = json_array_get(value, 0);
        *last = json_array_get(value, 1);
        return json_array_size(value) == 2;
    }
    *first = json_object_get(value, "first");
    *last = json_object_get(value, "last");
    return json_object_size(value) == 2;
}

/* "seqs":["5",..], or "ranges":[["1","5"],{"first":"8","last":"9"},..]. */
static bool read_range(json_t *value, bool is_range, struct seq_range *out)
{
    json_t *first = value;
    json_t *last = value;

    if (is_range && !range_ends(value, &first, &last)) {
        return false;
    }
    return value_u64(first, &out->first) && value_u64(last, &out->last)
           && out->first > 0 && out->first <= out->last
           && out->last < UINT64_MAX;
}

/* Ranges that follow on each other become one: acknowledging 1, 2, 3 one by one
 * is what the simplest client does. */
static enum status read_array(struct json_scratch *scratch, json_t *array,
                              bool are_ranges, struct wire_settle *out,
                              struct refusal *refusal)
{
    size_t count = 0;

    scratch->ranges = calloc(RANGE_COUNT_MAX, sizeof scratch->ranges[0]);
    if (scratch->ranges == NULL) {
        return no_memory(refusal);
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        struct seq_range range;

        if (!read_range(json_array_get(array, i), are_ranges, &range)) {
            return refuse(refusal, STATUS_INVALID,
                          are_ranges ? "ranges" : "seqs", "item %zu is not %s",
                          i,
                          are_ranges ? "a range [first, last], 1 <= first <= "
                                       "last"
                                     : "a sequence number from 1");
        }
        if (count > 0 && scratch->ranges[count - 1].last + 1 == range.first) {
            scratch->ranges[count - 1].last = range.last;
            continue;
        }
        if (count == RANGE_COUNT_MAX) {
            return beyond(refusal, "range_count",
                          "too many ranges in one request", count + 1,
                          RANGE_COUNT_MAX);
        }
        scratch->ranges[count++] = range;
    }
    out->ranges = scratch->ranges;
    out->count = count;
    return STATUS_OK;
}

static enum status read_ranges(struct json_scratch *scratch, json_t *object,
                               struct wire_settle *out, struct refusal *refusal)
{
    json_t *seqs = json_object_get(object, "seqs");
    json_t *ranges = json_object_get(object, "ranges");
    json_t *array = seqs != NULL ? seqs : ranges;

    if ((seqs != NULL) == (ranges != NULL) || !json_is_array(array)
        || json_array_size(array) == 0) {
        return invalid(refusal, "ranges",
                       "expected one array with something in it: seqs or "
                       "ranges",
                       "");
    }
    return read_array(scratch, array, ranges != NULL, out, refusal);
}

static enum status read_settle(struct json_scratch *scratch, json_t *object,
                               struct wire_settle *out, struct refusal *refusal)
{
    enum status status = field_name(object, "topic", &out->topic, refusal);

    if (status == STATUS_OK) {
        status = read_action(object, &out->action, refusal);
    }
    if (status == STATUS_OK) {
        status = read_ranges(scratch, object, out, refusal);
    }
    if (status == STATUS_OK) {
        status = field_u64(object, "delay_ms", &out->delay_ms, refusal);
    }
    if (status == STATUS_OK) {
        status = field_bounded(object, "reason", REASON_LEN_MAX, &out->reason,
                               refusal);
    }
    if (status == STATUS_OK) {
        status = field_u64(object, "lease", &out->lease, refusal);
    }
    return status;
}

/* ---- frames ---- */

struct kind {
    enum request_kind kind;
    const char *word;
    const char *keys[12];
};

static const struct kind kinds[] = {
    { REQUEST_HELLO,
      "hello",
      { "type", "id", "app", "secret", "timestamp_ms", "nonce", "signature",
        "client", "producer", NULL } },
    { REQUEST_PUBLISH,
      "publish",
      { "type", "id", "topic", "producer_seq", "messages", NULL } },
    { REQUEST_ATTACH,
      "attach",
      { "type", "id", "group", "credit_messages", "credit_bytes", NULL } },
    { REQUEST_DETACH, "detach", { "type", "id", NULL } },
    { REQUEST_SETTLE,
      "settle",
      { "type", "id", "topic", "action", "seqs", "ranges", "delay_ms", "reason",
        NULL } },
    { REQUEST_PING, "ping", { "type", "id", NULL } },
};

static const struct kind *find_kind(json_t *root)
{
    json_t *type = json_object_get(root, "type");

    for (size_t i = 0; json_is_string(type) && i < COUNT_OF(kinds); i++) {
        if (slice_is(value_text(type), kinds[i].word)) {
            return &kinds[i];
        }
    }
    return NULL;
}

static enum status refuse_type(json_t *root, struct refusal *refusal)
{
    json_t *type = json_object_get(root, "type");

    if (!json_is_string(type)) {
        return invalid(refusal, "type", "missing or no string: type", "");
    }
    return refuse(refusal, STATUS_UNSUPPORTED, "type",
                  "there is no request of type \"%.32s\"",
                  json_string_value(type));
}

static enum status read_kind(struct json_scratch *scratch, json_t *root,
                             struct wire_request *out, struct refusal *refusal)
{
    switch (out->kind) {
    case REQUEST_HELLO:
        return read_hello(scratch, root, &out->hello, refusal);
    case REQUEST_PUBLISH:
        return read_publish(scratch, root, &out->publish, refusal);
    case REQUEST_ATTACH:
        return read_attach(root, &out->attach, refusal);
    case REQUEST_SETTLE:
        return read_settle(scratch, root, &out->settle, refusal);
    case REQUEST_DETACH:
    case REQUEST_PING:
        return STATUS_OK;
    }
    return STATUS_INTERNAL;
}

enum status json_request_read(struct json_scratch *scratch, struct slice text,
                              struct wire_request *out, uint64_t *count,
                              struct refusal *refusal)
{
    const struct kind *kind;
    json_t *root = NULL;
    enum status status;

    memset(out, 0, sizeof *out);
    *count = 1;
    status = parse(text, &root, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    scratch->root = root;
    status = field_u64(root, "id", &out->id, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    kind = find_kind(root);
    if (kind == NULL) {
        return refuse_type(root, refusal);
    }
    out->kind = kind->kind;
    if (kind->kind == REQUEST_PUBLISH
        && json_array_size(json_object_get(root, "messages")) > 0) {
        *count = json_array_size(json_object_get(root, "messages"));
    }
    status = check_keys(root, kind->keys, refusal);
    return status == STATUS_OK ? read_kind(scratch, root, out, refusal)
                               : status;
}

/* ---- bodies of HTTP requests ---- */

enum status json_batch_read(struct json_scratch *scratch, struct slice text,
                            struct wire_publish *out, struct refusal *refusal)
{
    static const char *const keys[] = { "messages", NULL };
    json_t *root = NULL;
    enum status status = parse(text, &root, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    scratch->root = root;
    status = check_keys(root, keys, refusal);
    return status == STATUS_OK ? read_messages(
               scratch, json_object_get(root, "messages"), out, refusal)
                               : status;
}

enum status json_settle_read(struct json_scratch *scratch, struct slice text,
                             struct wire_settle *out, struct refusal *refusal)
{
    static const char *const keys[] = { "lease",  "topic",    "action", "seqs",
                                        "ranges", "delay_ms", "reason", NULL };
    json_t *root = NULL;
    enum status status = parse(text, &root, refusal);

    *out = (struct wire_settle) { 0 };
    if (status != STATUS_OK) {
        return status;
    }
    scratch->root = root;
    status = check_keys(root, keys, refusal);
    return status == STATUS_OK ? read_settle(scratch, root, out, refusal)
                               : status;
}

/* A string "a,b" or an array of strings. */
static enum status field_patterns(json_t *object, const char *key,
                                  struct patterns *out, struct refusal *refusal)
{
    json_t *value = json_object_get(object, key);

    if (value == NULL) {
        return STATUS_OK;
    }
    if (json_is_string(value)) {
        return patterns_add(out, value_text(value), refusal);
    }
    if (!json_is_array(value)) {
        return invalid(refusal, key, "expected an array of patterns: ", key);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *item = json_array_get(value, i);
        enum status status;

        if (!json_is_string(item)) {
            return invalid(refusal, key,
                           "expected an array of patterns: ", key);
        }
        status = patterns_add(out, value_text(item), refusal);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status read_from(json_t *root, enum group_from *out,
                             struct refusal *refusal)
{
    struct slice text = slice_text("earliest");
    enum status status = field_text(root, "from", &text, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    if (slice_is(text, "earliest")) {
        *out = FROM_EARLIEST;
        return STATUS_OK;
    }
    if (slice_is(text, "latest")) {
        *out = FROM_LATEST;
        return STATUS_OK;
    }
    return invalid(refusal, "from", "from is earliest or latest", "");
}

static enum status read_group(json_t *root, struct catalog_request *out,
                              struct refusal *refusal)
{
    enum status status = field_patterns(root, "topics", &out->topics, refusal);

    if (status == STATUS_OK) {
        status = read_from(root, &out->from, refusal);
    }
    if (status == STATUS_OK) {
        status = field_u64(root, "lease_ms", &out->lease_ms, refusal);
    }
    return status;
}

static enum status read_app(json_t *root, struct catalog_request *out,
                            struct refusal *refusal)
{
    enum status status = field_bool(root, "admin", &out->admin, refusal);

    if (status == STATUS_OK) {
        status = field_patterns(root, "publish", &out->publish, refusal);
    }
    if (status == STATUS_OK) {
        status = field_patterns(root, "subscribe", &out->subscribe, refusal);
    }
    return status;
}

static enum status read_change(json_t *root, struct catalog_request *out,
                               struct refusal *refusal)
{
    static const char *const topic_keys[] = { "name", NULL };
    static const char *const group_keys[] = { "name", "topics", "from",
                                              "lease_ms", NULL };
    static const char *const app_keys[] = { "name", "admin", "publish",
                                            "subscribe", NULL };
    const char *const *keys = out->class == CATALOG_TOPIC   ? topic_keys
                              : out->class == CATALOG_GROUP ? group_keys
                                                            : app_keys;
    struct slice name = { 0 };
    enum status status = check_keys(root, keys, refusal);

    if (status == STATUS_OK) {
        status = field_name(root, "name", &name, refusal);
    }
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(out->name, name.at, name.len);
    out->name[name.len] = '\0';
    switch (out->class) {
    case CATALOG_APP:
        return read_app(root, out, refusal);
    case CATALOG_TOPIC:
        return STATUS_OK;
    case CATALOG_GROUP:
        return read_group(root, out, refusal);
    }
    return STATUS_INTERNAL;
}

enum status json_change_read(struct slice text, struct catalog_request *out,
                             struct refusal *refusal)
{
    json_t *root = NULL;
    enum status status = parse(text, &root, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    status = read_change(root, out, refusal);
    json_decref(root);
    return status;
}
