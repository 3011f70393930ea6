#include "broker/door/json.h"

#include "proto/codec.h"
#include "proto/limits.h"
#include "proto/utf8.h"

#include <inttypes.h>
#include <stdio.h>

/* Four decimal numbers, sixteen digits, four colons, the NUL. */
enum { RECEIPT_LEN = 20 + 20 + 10 + 10 + 16 + 4 + 1 };

static void put(struct json *json, const void *at, size_t len)
{
    if (json->status == STATUS_OK) {
        json->status = bytes_append(json->to, at, len);
    }
}

static void put_text(struct json *json, const char *text)
{
    put(json, text, strlen(text));
}

/* What stands before every value: a comma if need be, and its key. */
static void begin_value(struct json *json, const char *key)
{
    if (json->comma) {
        put(json, ",", 1);
    }
    json->comma = true;
    if (key != NULL) {
        put(json, "\"", 1);
        put_text(json, key);
        put(json, "\":", 2);
    }
}

void json_begin_object(struct json *json, const char *key)
{
    begin_value(json, key);
    put(json, "{", 1);
    json->comma = false;
}

void json_end_object(struct json *json)
{
    put(json, "}", 1);
    json->comma = true;
}

void json_begin_array(struct json *json, const char *key)
{
    begin_value(json, key);
    put(json, "[", 1);
    json->comma = false;
}

void json_end_array(struct json *json)
{
    put(json, "]", 1);
    json->comma = true;
}

void json_colon(struct json *json)
{
    put(json, ":", 1);
    json->comma = false;
}

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
}

static void put_escaped(struct json *json, uint8_t c)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = { '\\', 'u', '0', '0', digits[c >> 4], digits[c & 15] };

    switch (c) {
    case '"':
    case '\\':
        text[1] = (char)c;
        put(json, text, 2);
        break;
    case '\n':
        put(json, "\\n", 2);
        break;
    case '\r':
        put(json, "\\r", 2);
        break;
    case '\t':
        put(json, "\\t", 2);
        break;
    default:
        put(json, text, sizeof text);
    }
}

/* Runs of plain bytes go in one piece: bodies are mostly that. */
static void put_string(struct json *json, struct slice text)
{
    bool utf8 = utf8_valid(text);
    size_t begin = 0;

    put(json, "\"", 1);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        bool replaced = !utf8 && c >= 0x80;

        if (is_plain(c) && !replaced) {
            continue;
        }
        put(json, text.at + begin, i - begin);
        begin = i + 1;
        if (replaced) {
            put(json, "?", 1);
        } else {
            put_escaped(json, c);
        }
    }
    if (text.len > 0) {
        put(json, text.at + begin, text.len - begin);
    }
    put(json, "\"", 1);
}

void json_text(struct json *json, const char *key, struct slice text)
{
    begin_value(json, key);
    put_string(json, text);
}

void json_word(struct json *json, const char *key, const char *text)
{
    json_text(json, key, slice_text(text));
}

void json_u64(struct json *json, const char *key, uint64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof text, "\"%" PRIu64 "\"", value);

    begin_value(json, key);
    put(json, text, (size_t)len);
}

void json_number(struct json *json, const char *key, uint64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRIu64, value);

    begin_value(json, key);
    put(json, text, (size_t)len);
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin_value(json, key);
    put_text(json, value ? "true" : "false");
}

void json_raw(struct json *json, const char *key, struct slice text)
{
    begin_value(json, key);
    put(json, text.at, text.len);
}

/* ---- base64 ---- */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "abcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_encode(char *to, struct slice from)
{
    size_t i = 0;

    for (; i + 2 < from.len; i += 3) {
        uint32_t three = (uint32_t)from.at[i] << 16
                         | (uint32_t)from.at[i + 1] << 8 | from.at[i + 2];

        *to++ = base64_digits[three >> 18];
        *to++ = base64_digits[three >> 12 & 63];
        *to++ = base64_digits[three >> 6 & 63];
        *to++ = base64_digits[three & 63];
    }
    if (i < from.len) {
        uint32_t rest = (uint32_t)from.at[i] << 16;
        bool two = i + 1 < from.len;

        if (two) {
            rest |= (uint32_t)from.at[i + 1] << 8;
        }
        *to++ = base64_digits[rest >> 18];
        *to++ = base64_digits[rest >> 12 & 63];
        *to++ = two ? base64_digits[rest >> 6 & 63] : '=';
        *to++ = '=';
    }
}

void json_base64(struct json *json, const char *key, struct slice bytes)
{
    size_t len = (bytes.len + 2) / 3 * 4;

    begin_value(json, key);
    put(json, "\"", 1);
    if (json->status == STATUS_OK) {
        json->status = bytes_reserve(json->to, len, SIZE_MAX / 2);
    }
    if (json->status == STATUS_OK) {
        base64_encode((char *)bytes_end(json->to), bytes);
        bytes_filled(json->to, len);
    }
    put(json, "\"", 1);
}

static int base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four digits, the last `pad` of them '='. */
static bool decode_four(const uint8_t *at, unsigned pad, uint8_t out[3])
{
    uint32_t value = 0;

    for (unsigned i = 0; i < 4; i++) {
        int digit = i < 4 - pad ? base64_digit(at[i]) : 0;

        if (digit < 0) {
            return false;
        }
        value = value << 6 | (uint32_t)digit;
    }
    out[0] = (uint8_t)(value >> 16);
    out[1] = (uint8_t)(value >> 8);
    out[2] = (uint8_t)value;
    /* Bits that no byte is made of must be zero: one text for one content. */
    return (pad < 1 || out[2] == 0) && (pad < 2 || out[1] == 0);
}

enum status base64_decode(struct bytes *to, struct slice text)
{
    size_t len_max = text.len / 4 * 3;
    size_t len = 0;
    enum status status;

    if (text.len % 4 != 0) {
        return STATUS_INVALID;
    }
    status = bytes_reserve(to, len_max, SIZE_MAX / 2);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < text.len; i += 4) {
        const uint8_t *at = text.at + i;
        unsigned pad = 0;
        uint8_t three[3];

        if (i + 4 == text.len) {
            pad = at[3] != '=' ? 0 : at[2] != '=' ? 1 : 2;
        }
        if (!decode_four(at, pad, three)) {
            return STATUS_INVALID;
        }
        memcpy(bytes_end(to) + len, three, 3 - pad);
        len += 3 - pad;
    }
    bytes_filled(to, len);
    return STATUS_OK;
}

/* ---- shapes ---- */

void json_refusal(struct json *json, const struct refusal *refusal)
{
    json_word(json, "status", status_word(refusal->status));
    if (refusal->limit != NULL && refusal->limit[0] != '\0') {
        json_word(json, "limit", refusal->limit);
    }
    if (refusal->scope[0] != '\0') {
        json_word(json, "scope", refusal->scope);
    }
    if (refusal->used != 0 || refusal->allowed != 0) {
        json_u64(json, "used", refusal->used);
        json_u64(json, "allowed", refusal->allowed);
    }
    if (refusal->retry_after_ms != 0) {
        json_u64(json, "retry_after_ms", refusal->retry_after_ms);
    }
    json_word(json, "text",
              refusal->text[0] != '\0' ? refusal->text
                                       : status_text(refusal->status));
}

static void put_headers(struct json *json, const struct wire_message *message)
{
    if (message->header_count == 0) {
        return;
    }
    json_begin_object(json, "headers");
    for (size_t i = 0; i < message->header_count; i++) {
        json_text(json, NULL, message->headers[i].name);
        json_colon(json);
        json_text(json, NULL, message->headers[i].value);
    }
    json_end_object(json);
}

/* As the client said it; what it left out is left out. */
static void put_options(struct json *json, const struct wire_message *message)
{
    if (message->tag.len > 0) {
        json_text(json, "tag", message->tag);
    }
    if (message->id.len > 0) {
        json_text(json, "id", message->id);
    }
    if (message->delay_ms > 0) {
        json_u64(json, "delay_ms", message->delay_ms);
    }
    if (message->deliver_at_ms > 0) {
        json_u64(json, "deliver_at_ms", message->deliver_at_ms);
    }
    if (message->ttl_ms > 0) {
        json_u64(json, "ttl_ms", message->ttl_ms);
    }
}

/* As text when a browser's JSON.parse gives back the very same bytes. */
static void put_body(struct json *json, struct slice body)
{
    if (utf8_valid(body)
        && (body.len == 0 || memchr(body.at, '\0', body.len) == NULL)) {
        json_text(json, "body", body);
    } else {
        json_base64(json, "body_base64", body);
    }
}

void json_delivery(struct json *json, const char *topic,
                   const struct wire_delivery *delivery)
{
    struct wire_message message;
    struct refusal refusal;

    json_begin_object(json, NULL);
    if (topic != NULL) {
        json_word(json, "topic", topic);
    }
    json_u64(json, "seq", delivery->seq);
    if (delivery->attempt > 0) { /* it is looked at, not delivered */
        json_number(json, "attempt", delivery->attempt);
    }
    json_u64(json, "time_us", delivery->time_us);
    /* It was checked when it came, and its checksum when it was read. */
    if (codec_message_check(delivery->message, &message, &refusal)
        == STATUS_OK) {
        if (message.key.len > 0) {
            json_text(json, "key", message.key);
        }
        put_options(json, &message);
        put_headers(json, &message);
        put_body(json, message.body);
    } else {
        json_base64(json, "message_base64", delivery->message);
    }
    json_end_object(json);
}

void json_receipt(struct json *json, const struct wire_confirm *confirm)
{
    char text[RECEIPT_LEN];

    if (confirm->segment == 0) {
        return;
    }
    snprintf(text, sizeof text,
             "%" PRIu64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu32 ":%016" PRIx64,
             confirm->seq, confirm->count, confirm->segment, confirm->offset,
             confirm->checksum);
    json_word(json, "receipt", text);
}

void json_notice(struct json *json, const struct wire_notice *notice)
{
    json_text(json, "topic", notice->topic);
    json_u64(json, "first", notice->range.first);
    json_u64(json, "last", notice->range.last);
    json_u64(json, "ends_in_ms", notice->ends_in_ms);
}

void json_settled_ranges(struct json *json,
                         const struct wire_settled_range *ranges, size_t count)
{
    json_begin_array(json, "ranges");
    for (size_t i = 0; i < count; i++) {
        json_begin_object(json, NULL);
        json_u64(json, "first", ranges[i].first);
        json_u64(json, "last", ranges[i].last);
        json_word(json, "outcome", outcome_word(ranges[i].outcome));
        if (ranges[i].holder != 0) {
            json_u64(json, "holder", ranges[i].holder);
        }
        json_end_object(json);
    }
    json_end_array(json);
}
