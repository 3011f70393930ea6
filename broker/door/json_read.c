#include "broker/door/json_read.h"

#include "broker/door/json.h"
#include "broker/door/json_fields.h"
#include "proto/codec.h"
#include "proto/text.h"

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
        return refuse(refusal, STATUS_INVALID, "json",
                      "a JSON object is expected");
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

/* ---- fields ---- */

static void fail(struct fields *f, const char *limit, const char *text)
{
    f->status = refuse(f->refusal, STATUS_INVALID, limit, "%s", text);
}

static struct slice value_text(json_t *value)
{
    return slice_of(json_string_value(value), json_string_length(value));
}

static bool value_u64(json_t *value, uint64_t *out)
{
    if (json_is_string(value)) {
        return text_decimal(value_text(value), out);
    }
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
        return true;
    }
    return false;
}

/* NULL: not there, or something failed before. */
static json_t *field(struct fields *f, const char *key)
{
    return f->status == STATUS_OK ? json_object_get(f->object, key) : NULL;
}

void field_wrong(struct fields *f, const char *key, const char *want)
{
    f->status =
        refuse(f->refusal, STATUS_INVALID, key, "%s is not %s", key, want);
}

void field_u64(struct fields *f, const char *key, uint64_t *out)
{
    json_t *value = field(f, key);

    if (value != NULL && !value_u64(value, out)) {
        field_wrong(f, key,
                    "a whole number from 0 to 2^64-1, or such a number "
                    "as a string");
    }
}

void field_bool(struct fields *f, const char *key, bool *out)
{
    json_t *value = field(f, key);

    if (value != NULL && !json_is_boolean(value)) {
        field_wrong(f, key, "true or false");
    }
    *out = json_is_true(value);
}

void field_any_text(struct fields *f, const char *key, struct slice *out)
{
    json_t *value = field(f, key);

    if (value == NULL) {
        return;
    }
    if (!json_is_string(value)) {
        field_wrong(f, key, "a string");
        return;
    }
    *out = value_text(value);
}

/* `limit` is the bound's name. */
static void field_text(struct fields *f, const char *key, const char *limit,
                       size_t len_max, struct slice *out)
{
    field_any_text(f, key, out);
    if (f->status == STATUS_OK && out->len > len_max) {
        f->status =
            beyond(f->refusal, limit, "a field is longer than it may be",
                   out->len, len_max);
        (void)snprintf(f->refusal->scope, sizeof f->refusal->scope, "%s", key);
    }
}

/* A name that must be there. Whether it is a good one is the session's. */
void field_name(struct fields *f, const char *key, struct slice *out)
{
    field_text(f, key, "name_len", NAME_LEN_MAX, out);
    if (f->status == STATUS_OK && out->len == 0) {
        field_wrong(f, key, "there, or is empty");
    }
}

/* ---- for the bodies that are read elsewhere ---- */

void fields_open(struct fields *f, struct slice text, const char *const *known,
                 struct refusal *refusal)
{
    json_t *root = NULL;

    *f = (struct fields) { .refusal = refusal };
    f->status = parse(text, &root, refusal);
    f->object = root;
    if (f->status == STATUS_OK) {
        f->status = check_keys(root, known, refusal);
    }
}

void fields_close(struct fields *f)
{
    json_decref(f->object);
    f->object = NULL;
}

enum field_kind field_kind(struct fields *f, const char *key)
{
    const json_t *value = field(f, key);

    if (value == NULL) {
        return FIELD_ABSENT;
    }
    switch (json_typeof(value)) {
    case JSON_STRING:
        return FIELD_TEXT;
    case JSON_ARRAY:
        return FIELD_ARRAY;
    case JSON_OBJECT:
        return FIELD_OBJECT;
    case JSON_NULL:
        return FIELD_NULL;
    case JSON_INTEGER:
    case JSON_REAL:
    case JSON_TRUE:
    case JSON_FALSE:
        break;
    }
    return FIELD_OTHER;
}

void field_inside(struct fields *f, const char *key, const char *const *known,
                  struct fields *inside)
{
    *inside = (struct fields) { .object = field(f, key),
                                .status = f->status,
                                .refusal = f->refusal };
    if (f->status == STATUS_OK) {
        inside->status = f->status =
            check_keys(inside->object, known, f->refusal);
    }
}

size_t field_count(struct fields *f, const char *key)
{
    return json_array_size(field(f, key));
}

bool field_item_text(struct fields *f, const char *key, size_t index,
                     struct slice *out)
{
    json_t *item = json_array_get(field(f, key), index);

    if (!json_is_string(item)) {
        return false;
    }
    *out = value_text(item);
    return true;
}

bool field_item_u64(struct fields *f, const char *key, size_t index,
                    uint64_t *out)
{
    json_t *item = json_array_get(field(f, key), index);

    return item != NULL && value_u64(item, out);
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

static const char *const message_keys[] = {
    "key", "headers",  "body",          "body_base64", "json", "tag",
    "id",  "delay_ms", "deliver_at_ms", "ttl_ms",      NULL
};

static void read_headers(struct fields *f, struct wire_message *out)
{
    json_t *headers = field(f, "headers");
    const char *key;
    json_t *value;

    if (headers != NULL && !json_is_object(headers)) {
        field_wrong(f, "headers", "an object");
        return;
    }
    if (json_object_size(headers) > HEADER_COUNT_MAX) {
        f->status =
            beyond(f->refusal, "header_count", "a message has too many headers",
                   json_object_size(headers), HEADER_COUNT_MAX);
        return;
    }
    json_object_foreach(headers, key, value)
    {
        if (!json_is_string(value)) {
            f->status =
                refuse(f->refusal, STATUS_INVALID, "headers",
                       "the value of header \"%.64s\" is not a string", key);
            return;
        }
        out->headers[out->header_count++] =
            (struct wire_header) { slice_text(key), value_text(value) };
    }
}

/* The body in whichever of the three ways; `made` holds it if it had to be made
 * and is empty before. */
static void read_body(struct fields *f, struct wire_message *out,
                      struct bytes *made)
{
    json_t *any = field(f, "json");
    struct slice base64 = { 0 };
    struct json json = json_to(made);
    enum status status = STATUS_OK;

    field_any_text(f, "body", &out->body);
    field_any_text(f, "body_base64", &base64);
    if (f->status != STATUS_OK) {
        return;
    }
    if ((out->body.at != NULL) + (base64.at != NULL) + (any != NULL) > 1) {
        fail(f, "body", "a message has one of body, body_base64 and json");
        return;
    }
    if (base64.at != NULL) {
        status = base64_decode(made, base64);
    } else if (any != NULL) {
        write_value(&json, any);
        status = json.status;
    }
    if (status == STATUS_INVALID) {
        field_wrong(f, "body_base64", "base64 (RFC 4648, with padding)");
    } else if (status != STATUS_OK) {
        f->status = no_memory(f->refusal);
    } else if (out->body.at == NULL) {
        out->body = slice_of(made->at, bytes_len(made));
    }
}

static enum status read_message(json_t *object, struct bytes *encoded,
                                struct refusal *refusal)
{
    struct wire_message message;
    struct bytes made = { 0 };
    struct fields f = { object, STATUS_OK, refusal };

    memset(&message, 0, sizeof message);
    if (!json_is_object(object)) {
        fail(&f, "messages", "a message is an object");
        return f.status;
    }
    f.status = check_keys(object, message_keys, refusal);
    field_any_text(&f, "key", &message.key);
    field_any_text(&f, "tag", &message.tag);
    field_any_text(&f, "id", &message.id);
    field_u64(&f, "delay_ms", &message.delay_ms);
    field_u64(&f, "deliver_at_ms", &message.deliver_at_ms);
    field_u64(&f, "ttl_ms", &message.ttl_ms);
    read_headers(&f, &message);
    read_body(&f, &message, &made);
    if (f.status == STATUS_OK
        && codec_message_write(encoded, &message) != STATUS_OK) {
        f.status = no_memory(refusal);
    }
    bytes_fini(&made);
    return f.status;
}

/* Lens first, places when the buffer has stopped moving. */
static enum status encode_messages(struct json_scratch *scratch, json_t *array,
                                   size_t count, struct refusal *refusal)
{
    const uint8_t *at;

    for (size_t i = 0; i < count; i++) {
        size_t before = bytes_len(&scratch->encoded);
        enum status status =
            read_message(json_array_get(array, i), &scratch->encoded, refusal);

        if (status != STATUS_OK) {
            (void)snprintf(refusal->scope, sizeof refusal->scope,
                           "messages[%zu]", i);
            return status;
        }
        scratch->messages[i].len = bytes_len(&scratch->encoded) - before;
    }
    at = scratch->encoded.at;
    for (size_t i = 0; i < count; i++) {
        scratch->messages[i].at = at;
        at += scratch->messages[i].len;
    }
    return STATUS_OK;
}

static void read_messages(struct fields *f, struct json_scratch *scratch,
                          struct wire_publish *out)
{
    json_t *array = field(f, "messages");
    size_t count = json_array_size(array);

    if (f->status != STATUS_OK) {
        return;
    }
    if (count == 0) {
        field_wrong(f, "messages", "an array of at least one message");
        return;
    }
    if (count > PUBLISH_COUNT_MAX) {
        f->status = beyond(f->refusal, "publish_count",
                           "too many messages in one request", count,
                           PUBLISH_COUNT_MAX);
        return;
    }
    scratch->messages = calloc(count, sizeof scratch->messages[0]);
    f->status = scratch->messages == NULL
                    ? no_memory(f->refusal)
                    : encode_messages(scratch, array, count, f->refusal);
    out->messages = scratch->messages;
    out->count = count;
}

/* ---- requests ---- */

static void field_signature(struct fields *f, struct json_scratch *scratch,
                            struct slice *out)
{
    struct slice text = { 0 };

    field_any_text(f, "signature", &text);
    if (text.at == NULL) {
        return;
    }
    if (!text_hex(text, scratch->signature, SIGNATURE_LEN_MAX)) {
        field_wrong(f, "signature", "64 hexadecimal digits");
        return;
    }
    *out = slice_of(scratch->signature, SIGNATURE_LEN_MAX);
}

/* The app may be left out after a login by the Authorization header. */
static void read_hello(struct fields *f, struct json_scratch *scratch,
                       struct wire_hello *out)
{
    field_text(f, "app", "name_len", NAME_LEN_MAX, &out->app);
    field_text(f, "secret", "secret_len", SECRET_LEN_MAX, &out->secret);
    field_u64(f, "timestamp_ms", &out->timestamp_ms);
    field_text(f, "nonce", "nonce_len", NONCE_LEN_MAX, &out->nonce);
    field_signature(f, scratch, &out->signature);
    field_text(f, "client", "client_len", CLIENT_LEN_MAX, &out->client);
    field_u64(f, "producer", &out->producer);
}

static void read_publish(struct fields *f, struct json_scratch *scratch,
                         struct wire_publish *out)
{
    field_name(f, "topic", &out->topic);
    field_u64(f, "producer_seq", &out->producer_seq);
    field_bool(f, "atomic", &out->atomic);
    read_messages(f, scratch, out);
}

static void read_attach(struct fields *f, struct wire_attach *out)
{
    field_name(f, "group", &out->group);
    field_u64(f, "credit_messages", &out->credit_messages);
    field_u64(f, "credit_bytes", &out->credit_bytes);
}

/* ---- settle ---- */

static void field_action(struct fields *f, enum settle_action *out)
{
    static const char *const words[] = {
        [SETTLE_ACK] = "ack",         [SETTLE_NACK] = "nack",
        [SETTLE_RELEASE] = "release", [SETTLE_EXTEND] = "extend",
        [SETTLE_REJECT] = "reject",
    };
    struct slice text = { 0 };

    field_any_text(f, "action", &text);
    for (unsigned i = SETTLE_ACK; i < COUNT_OF(words); i++) {
        if (slice_is(text, words[i])) {
            *out = (enum settle_action)i;
            return;
        }
    }
    if (f->status == STATUS_OK) {
        field_wrong(f, "action",
                    "one of ack, nack, release, extend and reject");
    }
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
static void read_array(struct fields *f, struct seq_range *ranges,
                       json_t *array, bool are_ranges, size_t *count)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        struct seq_range range;

        if (!read_range(json_array_get(array, i), are_ranges, &range)) {
            fail(f, are_ranges ? "ranges" : "seqs",
                 are_ranges ? "a range is [first, last], 1 <= first <= last"
                            : "a sequence number is a whole number from 1");
            return;
        }
        if (*count > 0 && ranges[*count - 1].last + 1 == range.first) {
            ranges[*count - 1].last = range.last;
            continue;
        }
        if (*count == RANGE_COUNT_MAX) {
            f->status = beyond(f->refusal, "range_count",
                               "too many ranges in one request", *count + 1,
                               RANGE_COUNT_MAX);
            return;
        }
        ranges[(*count)++] = range;
    }
}

void field_seqs(struct fields *f, struct seq_range *ranges, size_t *count)
{
    json_t *seqs = field(f, "seqs");
    json_t *pairs = field(f, "ranges");
    json_t *array = seqs != NULL ? seqs : pairs;

    *count = 0;
    if (f->status != STATUS_OK) {
        return;
    }
    if ((seqs != NULL && pairs != NULL)
        || (array != NULL && json_array_size(array) == 0)) {
        fail(f, "ranges",
             "expected one array with something in it: seqs or ranges");
        return;
    }
    read_array(f, ranges, array, pairs != NULL, count);
}

static void field_ranges(struct fields *f, struct json_scratch *scratch,
                         struct wire_settle *out)
{
    if (f->status != STATUS_OK) {
        return;
    }
    scratch->ranges = calloc(RANGE_COUNT_MAX, sizeof scratch->ranges[0]);
    if (scratch->ranges == NULL) {
        f->status = no_memory(f->refusal);
        return;
    }
    field_seqs(f, scratch->ranges, &out->count);
    if (f->status == STATUS_OK && out->count == 0) {
        fail(f, "ranges",
             "expected one array with something in it: seqs or ranges");
    }
    out->ranges = scratch->ranges;
}

static void read_settle(struct fields *f, struct json_scratch *scratch,
                        struct wire_settle *out)
{
    field_name(f, "topic", &out->topic);
    field_action(f, &out->action);
    field_ranges(f, scratch, out);
    field_u64(f, "delay_ms", &out->delay_ms);
    field_text(f, "reason", "reason_len", REASON_LEN_MAX, &out->reason);
    field_u64(f, "lease", &out->lease);
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
      { "type", "id", "topic", "producer_seq", "atomic", "messages", NULL } },
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
        return refuse(refusal, STATUS_INVALID, "type",
                      "type is not there, or no string");
    }
    return refuse(refusal, STATUS_UNSUPPORTED, "type",
                  "there is no request of type \"%.32s\"",
                  json_string_value(type));
}

static enum status read_kind(struct json_scratch *scratch, json_t *root,
                             struct wire_request *out, struct refusal *refusal)
{
    struct fields f = { root, STATUS_OK, refusal };

    switch (out->kind) {
    case REQUEST_HELLO:
        read_hello(&f, scratch, &out->hello);
        break;
    case REQUEST_PUBLISH:
        read_publish(&f, scratch, &out->publish);
        break;
    case REQUEST_ATTACH:
        read_attach(&f, &out->attach);
        break;
    case REQUEST_SETTLE:
        read_settle(&f, scratch, &out->settle);
        break;
    case REQUEST_DETACH:
    case REQUEST_PING:
        break;
    }
    return f.status;
}

enum status json_request_read(struct json_scratch *scratch, struct slice text,
                              struct wire_request *out, uint64_t *count,
                              struct refusal *refusal)
{
    struct fields f = { NULL, STATUS_OK, refusal };
    const struct kind *kind;
    json_t *root = NULL;
    enum status status = parse(text, &root, refusal);

    memset(out, 0, sizeof *out);
    *count = 1;
    if (status != STATUS_OK) {
        return status;
    }
    scratch->root = f.object = root;
    field_u64(&f, "id", &out->id);
    if (f.status != STATUS_OK) {
        return f.status;
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
    static const char *const keys[] = { "messages", "atomic", NULL };
    struct fields f;

    fields_open(&f, text, keys, refusal);
    scratch->root = f.object;
    field_bool(&f, "atomic", &out->atomic);
    if (f.status == STATUS_OK) {
        read_messages(&f, scratch, out);
    }
    return f.status;
}

enum status json_settle_read(struct json_scratch *scratch, struct slice text,
                             struct wire_settle *out, struct refusal *refusal)
{
    static const char *const keys[] = { "lease",  "topic",    "action", "seqs",
                                        "ranges", "delay_ms", "reason", NULL };
    struct fields f;

    *out = (struct wire_settle) { 0 };
    fields_open(&f, text, keys, refusal);
    scratch->root = f.object;
    if (f.status == STATUS_OK) {
        read_settle(&f, scratch, out);
    }
    return f.status;
}
