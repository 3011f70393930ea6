#include "tools/godwit/json.h"

#include "proto/text.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const json_t *in(const struct json *value)
{
    return (const json_t *)(const void *)value;
}

static const struct json *out_of(const json_t *value)
{
    return (const struct json *)(const void *)value;
}

enum status json_parse(struct slice text, struct json **out, struct error *err)
{
    json_error_t problem;
    json_t *root =
        json_loadb((const char *)text.at, text.len,
                   JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &problem);

    if (root == NULL) {
        return error_set(err, STATUS_INVALID, 0, "no JSON: %s (column %d)",
                         problem.text, problem.column);
    }
    *out = (struct json *)(void *)root;
    return STATUS_OK;
}

void json_free(struct json *document)
{
    json_decref((json_t *)(void *)document);
}

const struct json *json_get(const struct json *object, const char *name)
{
    return out_of(json_object_get(in(object), name));
}

size_t json_count(const struct json *array)
{
    return json_array_size(in(array));
}

const struct json *json_at(const struct json *array, size_t index)
{
    return out_of(json_array_get(in(array), index));
}

const char *json_member(const struct json *object, size_t index,
                        const struct json **value)
{
    json_t *o = (json_t *)object; /* its iterators want no const */
    void *iter = json_object_iter(o);

    while (iter != NULL && index-- > 0) {
        iter = json_object_iter_next(o, iter);
    }
    if (iter == NULL) {
        return NULL;
    }
    *value = out_of(json_object_iter_value(iter));
    return json_object_iter_key(iter);
}

const char *json_text(const struct json *value, const char *absent)
{
    const char *text = json_string_value(in(value));

    return text != NULL ? text : absent;
}

uint64_t json_number(const struct json *value, uint64_t absent)
{
    const char *text = json_string_value(in(value));

    if (text != NULL) {
        uint64_t number = absent;

        return text_decimal(slice_text(text), &number) ? number : absent;
    }
    if (json_is_integer(in(value)) && json_integer_value(in(value)) >= 0) {
        return (uint64_t)json_integer_value(in(value));
    }
    return absent;
}

uint64_t json_u64(const struct json *object, const char *name)
{
    return json_number(json_get(object, name), 0);
}

static char *copy_text(const char *text)
{
    return strdup(text);
}

static char *display_list(const struct json *list)
{
    struct bytes joined = { 0 };
    bool whole = true;

    for (size_t i = 0; i < json_count(list) && whole; i++) {
        char *item = json_display(json_at(list, i));

        whole = item != NULL
                && (i == 0 || bytes_append(&joined, ", ", 2) == STATUS_OK)
                && bytes_append(&joined, item, strlen(item)) == STATUS_OK;
        free(item);
    }
    whole = whole && bytes_append(&joined, "", 1) == STATUS_OK;
    char *text = whole ? copy_text((const char *)bytes_begin(&joined)) : NULL;
    bytes_fini(&joined);
    return text;
}

bool json_flag(const struct json *value)
{
    return json_is_true(in(value));
}

char *json_display(const struct json *value)
{
    if (value == NULL) {
        return NULL;
    }
    if (json_is_string(in(value))) {
        return copy_text(json_string_value(in(value)));
    }
    if (json_is_boolean(in(value))) {
        return copy_text(json_is_true(in(value)) ? "yes" : "no");
    }
    if (json_is_null(in(value))) {
        return copy_text("-");
    }
    if (json_is_array(in(value))) {
        return display_list(value);
    }
    return json_dumps(in(value), JSON_ENCODE_ANY | JSON_COMPACT);
}

bool json_is_none(const struct json *value)
{
    return value == NULL || json_is_null(in(value));
}

char *json_key_text(const struct json *value)
{
    if (json_is_boolean(in(value))) {
        return copy_text(json_is_true(in(value)) ? "true" : "false");
    }
    if (json_is_string(in(value))) {
        return copy_text(json_string_value(in(value)));
    }
    if (json_is_number(in(value))) {
        return json_dumps(in(value), JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    }
    return NULL;
}

/* ---- writing ---- */

static void put(struct json_writer *w, const char *text, size_t len)
{
    if (w->status == STATUS_OK) {
        w->status = bytes_append(&w->text, text, len);
    }
}

static void put_string(struct json_writer *w, struct slice text)
{
    size_t done = 0;

    put(w, "\"", 1);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        char escape[8];

        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        put(w, (const char *)text.at + done, i - done);
        if (c == '"' || c == '\\') {
            snprintf(escape, sizeof escape, "\\%c", c);
        } else if (c == '\n') {
            snprintf(escape, sizeof escape, "\\n");
        } else {
            snprintf(escape, sizeof escape, "\\u%04x", c);
        }
        put(w, escape, strlen(escape));
        done = i + 1;
    }
    if (text.len > done) {
        put(w, (const char *)text.at + done, text.len - done);
    }
    put(w, "\"", 1);
}

/* The comma before a member, and its name if it has one. */
static void put_name(struct json_writer *w, const char *name)
{
    if (w->need_comma) {
        put(w, ",", 1);
    }
    w->need_comma = true;
    if (name != NULL) {
        put_string(w, slice_text(name));
        put(w, ":", 1);
    }
}

void json_begin(struct json_writer *w, const char *name, char bracket)
{
    put_name(w, name);
    put(w, &bracket, 1);
    w->need_comma = false;
}

void json_end(struct json_writer *w, char bracket)
{
    put(w, &bracket, 1);
    w->need_comma = true;
}

void json_put_text(struct json_writer *w, const char *name, struct slice text)
{
    put_name(w, name);
    put_string(w, text);
}

void json_put_base64(struct json_writer *w, const char *name,
                     struct slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+/";

    put_name(w, name);
    put(w, "\"", 1);
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
        uint32_t bits = (uint32_t)bytes.at[i] << 16;
        char group[4];

        bits |= n > 1 ? (uint32_t)bytes.at[i + 1] << 8 : 0;
        bits |= n > 2 ? bytes.at[i + 2] : 0;
        group[0] = digits[bits >> 18];
        group[1] = digits[(bits >> 12) & 63];
        group[2] = n > 1 ? digits[(bits >> 6) & 63] : '=';
        group[3] = n > 2 ? digits[bits & 63] : '=';
        put(w, group, sizeof group);
    }
    put(w, "\"", 1);
}

void json_put_number(struct json_writer *w, const char *name, uint64_t value)
{
    char text[32];

    put_name(w, name);
    snprintf(text, sizeof text, "%" PRIu64, value);
    put(w, text, strlen(text));
}

void json_put_real(struct json_writer *w, const char *name, double value)
{
    char text[64] = "null";

    put_name(w, name);
    if (isfinite(value)) {
        snprintf(text, sizeof text, "%.9g", value);
    }
    put(w, text, strlen(text));
}

void json_put_bool(struct json_writer *w, const char *name, bool value)
{
    put_name(w, name);
    put(w, value ? "true" : "false", value ? 4 : 5);
}

void json_put_split(struct json_writer *w, const char *name, const char *list)
{
    json_begin(w, name, '[');
    while (*list != '\0') {
        size_t len = strcspn(list, ",");

        if (len > 0) {
            json_put_text(w, NULL, slice_of(list, len));
        }
        list += len;
        list += *list == ',';
    }
    json_end(w, ']');
}

const char *json_done(struct json_writer *w)
{
    put(w, "", 1);
    return w->status == STATUS_OK ? (const char *)bytes_begin(&w->text) : NULL;
}

void json_writer_fini(struct json_writer *w)
{
    bytes_fini(&w->text);
    *w = (struct json_writer) { 0 };
}
