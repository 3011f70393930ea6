#include "tools/godwit/message.h"

#include "tools/godwit/human.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BODY_ON_TERMINAL = 400, SEQ_WIDTH = 6, LABEL_WIDTH = 10 };

static const char dim[] = "\033[2m";
static const char cyan[] = "\033[36m";
static const char red[] = "\033[31m";
static const char plain[] = "\033[0m";

/* The text in the making; the first failure is kept. */
struct page {
    struct bytes *to;
    enum status status;
    bool color;
};

static void put(struct page *page, const char *text, size_t len)
{
    if (page->status == STATUS_OK) {
        page->status = bytes_append(page->to, text, len);
    }
}

static void put_color(struct page *page, const char *color)
{
    if (page->color) {
        put(page, color, strlen(color));
    }
}

static void print(struct page *page, const char *format, ...) PRINTF_LIKE(2, 3);
static void print(struct page *page, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(page, text, strlen(text));
}

/* ---- texts of strangers ---- */

/* What moves a cursor or worse: C0 and DEL, and C1 as UTF-8 (C2 80 to C2 9F). */
static bool is_control(const char *at)
{
    unsigned char c = (unsigned char)*at;
    unsigned char next = (unsigned char)at[1];

    return c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next <= 0x9f);
}

static size_t put_control(struct page *page, const char *at)
{
    static const char letters[] = "abtnvfr"; /* from 7 on */
    unsigned char c = (unsigned char)*at;

    if (c == 0xc2) {
        print(page, "\\u%04x", (unsigned char)at[1]);
        return 2;
    }
    if (c >= 7 && c <= 13) {
        print(page, "\\%c", letters[c - 7]);
    } else {
        print(page, "\\x%02x", c);
    }
    return 1;
}

/* At most `max` characters of it. Returns whether that was all. */
static bool put_shown(struct page *page, const char *text, size_t max)
{
    for (size_t count = 0; *text != '\0'; count++) {
        size_t len = 1;

        if (max > 0 && count == max) {
            return false;
        }
        if (is_control(text)) {
            text += put_control(page, text);
            continue;
        }
        while (((unsigned char)text[len] & 0xc0) == 0x80) {
            len++;
        }
        put(page, text, len);
        text += len;
    }
    return true;
}

char *message_shown(const char *text)
{
    struct bytes to = { 0 };
    struct page page = { &to, STATUS_OK, false };
    char *shown = NULL;

    if (text == NULL) {
        return NULL;
    }
    (void)put_shown(&page, text, 0);
    put(&page, "", 1);
    if (page.status == STATUS_OK) {
        shown = strdup((const char *)bytes_begin(&to));
    }
    bytes_fini(&to);
    return shown;
}

/* ---- a line ---- */

/* "key=o-1" and so on, a space before each but the first. */
static void put_tagged(struct page *page, const char *name, const char *value,
                       bool *any)
{
    if (value == NULL) {
        return;
    }
    put(page, " ", *any ? 1 : 0);
    put_color(page, cyan);
    (void)put_shown(page, name, 0);
    put(page, "=", 1);
    put_color(page, plain);
    (void)put_shown(page, value, 0);
    *any = true;
}

static const char *const words[] = { "key", "tag", "id" };

static void put_words(struct page *page, const struct json *message)
{
    const struct json *headers = json_get(message, "headers");
    const struct json *value;
    const char *name;
    bool any = false;

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        put_tagged(page, words[i], json_text(json_get(message, words[i]), NULL),
                   &any);
    }
    for (size_t i = 0; (name = json_member(headers, i, &value)) != NULL; i++) {
        put_tagged(page, name, json_text(value, ""), &any);
    }
    put(page, "  ", any ? 2 : 0);
}

static size_t base64_len(const char *text)
{
    size_t len = strlen(text);
    size_t padding = 0;

    while (padding < 2 && padding < len && text[len - 1 - padding] == '=') {
        padding++;
    }
    return len / 4 * 3 - padding;
}

static void put_body(struct page *page, const struct json *message, size_t max)
{
    const char *text = json_text(json_get(message, "body"), NULL);
    const char *base64 = json_text(json_get(message, "body_base64"), NULL);
    char size[HUMAN_LEN];

    if (base64 != NULL) {
        human_bytes(size, (double)base64_len(base64));
        put_color(page, dim);
        print(page, "(%s, base64) ", size);
        put_color(page, plain);
        text = base64;
    }
    if (text == NULL || text[0] == '\0') {
        put_color(page, dim);
        print(page, "(empty)");
        put_color(page, plain);
    } else if (!put_shown(page, text, max)) {
        human_bytes(size, (double)strlen(text));
        put_color(page, dim);
        print(page, "… (%s)", size);
        put_color(page, plain);
    }
}

/* Milliseconds are enough for a line. */
static void put_time(struct page *page, const struct json *message)
{
    char time[HUMAN_LEN];

    human_time(time, json_number(json_get(message, "time_us"), 0));
    print(page, "%.23sZ", time);
}

static void put_line(struct page *page, const struct json *message,
                     size_t body_max)
{
    put_color(page, dim);
    print(page, "%*" PRIu64 "  ", SEQ_WIDTH,
          json_number(json_get(message, "seq"), 0));
    put_time(page, message);
    put_color(page, plain);
    put(page, "  ", 2);
    put_words(page, message);
    put_body(page, message, body_max);
    put(page, "\n", 1);
}

/* ---- JSON ---- */

static void copy_text(struct json_writer *w, const char *name,
                      const struct json *object)
{
    const char *text = json_text(json_get(object, name), NULL);

    if (text != NULL) {
        json_put_text(w, name, slice_text(text));
    }
}

static void copy_number(struct json_writer *w, const char *name,
                        const struct json *object)
{
    uint64_t number = json_number(json_get(object, name), 0);

    if (number != 0) {
        json_put_number(w, name, number);
    }
}

static void copy_headers(struct json_writer *w, const struct json *headers)
{
    const struct json *value;
    const char *name;

    if (headers == NULL) {
        return;
    }
    json_begin(w, "headers", '{');
    for (size_t i = 0; (name = json_member(headers, i, &value)) != NULL; i++) {
        json_put_text(w, name, slice_text(json_text(value, "")));
    }
    json_end(w, '}');
}

static enum status write_json(struct bytes *to, const struct json *message)
{
    static const char *const numbers[] = { "delay_ms", "deliver_at_ms",
                                           "ttl_ms" };
    struct json_writer w = { .text = *to };
    uint64_t time_us = json_number(json_get(message, "time_us"), 0);
    char time[HUMAN_LEN];

    json_begin(&w, NULL, '{');
    copy_text(&w, "topic", message);
    copy_number(&w, "seq", message);
    json_put_text(&w, "time", slice_text(human_time(time, time_us)));
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        copy_text(&w, words[i], message);
    }
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        copy_number(&w, numbers[i], message);
    }
    copy_headers(&w, json_get(message, "headers"));
    copy_text(&w, "body", message);
    copy_text(&w, "body_base64", message);
    json_end(&w, '}');
    *to = w.text; /* the writer borrowed the buffer */
    return w.status != STATUS_OK ? w.status : bytes_append(to, "\n", 1);
}

static enum status write_gap_json(struct bytes *to, const struct json *gap)
{
    struct json_writer w = { .text = *to };

    json_begin(&w, NULL, '{');
    copy_text(&w, "topic", gap);
    copy_number(&w, "first", gap);
    copy_number(&w, "last", gap);
    json_put_bool(&w, "gap", true);
    json_end(&w, '}');
    *to = w.text;
    return w.status != STATUS_OK ? w.status : bytes_append(to, "\n", 1);
}

/* ---- the face ---- */

struct message_style message_style_of_stdout(bool json, bool full)
{
    bool terminal = isatty(STDOUT_FILENO) == 1;
    const char *no_color = getenv("NO_COLOR");

    return (struct message_style) {
        .json = json,
        .color = terminal && (no_color == NULL || no_color[0] == '\0'),
        .body_max = terminal && !full ? BODY_ON_TERMINAL : 0,
    };
}

enum status message_line(struct bytes *to, const struct json *message,
                         const struct message_style *style)
{
    struct page page = { to, STATUS_OK, style->color };

    if (style->json) {
        return write_json(to, message);
    }
    put_line(&page, message, style->body_max);
    return page.status;
}

enum status message_gap(struct bytes *to, const struct json *gap,
                        const struct message_style *style)
{
    struct page page = { to, STATUS_OK, style->color };
    uint64_t first = json_number(json_get(gap, "first"), 0);
    uint64_t last = json_number(json_get(gap, "last"), 0);

    if (style->json) {
        return write_gap_json(to, gap);
    }
    put_color(&page, red);
    if (first == last) {
        print(&page, "%*" PRIu64 "  lost: damaged on the broker's disk",
              SEQ_WIDTH, first);
    } else {
        print(&page,
              "%*" PRIu64 "  to %" PRIu64 " lost: damaged on the broker's disk",
              SEQ_WIDTH, first, last);
    }
    put_color(&page, plain);
    put(&page, "\n", 1);
    return page.status;
}

static void put_row(struct page *page, const char *label, const char *value)
{
    if (value != NULL) {
        print(page, "%-*s ", LABEL_WIDTH, label);
        (void)put_shown(page, value, 0);
        put(page, "\n", 1);
    }
}

static void put_time_row(struct page *page, const char *label, uint64_t time_us,
                         uint64_t now_us)
{
    bool past = time_us <= now_us;
    char time[HUMAN_LEN];
    char age[HUMAN_LEN];

    human_about(age, past ? now_us - time_us : time_us - now_us);
    print(page, "%-*s %s (%s%s%s)\n", LABEL_WIDTH, label,
          human_time(time, time_us), past ? "" : "in ", age,
          past ? " ago" : "");
}

/* Not in the past of what is stored: its own clock decides. */
static void put_option_rows(struct page *page, const struct json *message,
                            uint64_t now_us)
{
    uint64_t delay_ms = json_number(json_get(message, "delay_ms"), 0);
    uint64_t at_ms = json_number(json_get(message, "deliver_at_ms"), 0);
    uint64_t ttl_ms = json_number(json_get(message, "ttl_ms"), 0);
    char text[HUMAN_LEN];

    if (delay_ms > 0) {
        put_row(page, "delay", human_age(text, delay_ms));
    }
    if (at_ms > 0) {
        put_time_row(page, "deliver at", at_ms * 1000, now_us);
    }
    if (ttl_ms > 0) {
        put_row(page, "lives for", human_age(text, ttl_ms));
    }
}

static void put_header_rows(struct page *page, const struct json *headers)
{
    const struct json *value;
    const char *name;

    for (size_t i = 0; (name = json_member(headers, i, &value)) != NULL; i++) {
        print(page, "%-*s ", LABEL_WIDTH, i == 0 ? "headers" : "");
        (void)put_shown(page, name, 0);
        put(page, " = ", 3);
        (void)put_shown(page, json_text(value, ""), 0);
        put(page, "\n", 1);
    }
}

/* As it is, line ends too; what would move the cursor elsewhere is shown. */
static void put_text(struct page *page, const char *text)
{
    for (size_t len; *text != '\0'; text += len) {
        len = strcspn(text, "\n\t");
        if (len == 0) {
            put(page, text, 1);
            len = 1;
            continue;
        }
        char *line = strndup(text, len);

        if (line == NULL) {
            page->status = STATUS_NOMEM;
            return;
        }
        (void)put_shown(page, line, 0);
        free(line);
    }
    put(page, "\n", 1);
}

enum status message_card(struct bytes *to, const struct json *message,
                         uint64_t now_us)
{
    struct page page = { to, STATUS_OK, false };
    const char *text = json_text(json_get(message, "body"), NULL);
    const char *base64 = json_text(json_get(message, "body_base64"), "");
    size_t len = text != NULL ? strlen(text) : base64_len(base64);
    char size[HUMAN_LEN];

    put_row(&page, "topic", json_text(json_get(message, "topic"), "-"));
    put_row(&page, "seq", json_text(json_get(message, "seq"), "-"));
    put_time_row(&page, "stored", json_number(json_get(message, "time_us"), 0),
                 now_us);
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        put_row(&page, words[i], json_text(json_get(message, words[i]), NULL));
    }
    put_option_rows(&page, message, now_us);
    put_header_rows(&page, json_get(message, "headers"));
    print(&page, "%-*s %s%s\n", LABEL_WIDTH, "body",
          human_bytes(size, (double)len), text == NULL ? ", base64" : "");
    if (len > 0) {
        put(&page, "\n", 1);
        put_text(&page, text != NULL ? text : base64);
    }
    return page.status;
}

/* The value of a base64 digit; -1: it is none. */
static int digit_of(char c)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);

    return at == NULL ? -1 : (int)(at - digits);
}

static enum status decode(struct bytes *to, const char *text)
{
    unsigned held = 0;
    int bits = 0;

    for (; digit_of(*text) >= 0; text++) {
        held = held << 6 | (unsigned)digit_of(*text);
        bits += 6;
        if (bits >= 8) {
            uint8_t byte = (uint8_t)(held >> (bits - 8));

            bits -= 8;
            if (bytes_append(to, &byte, 1) != STATUS_OK) {
                return STATUS_NOMEM;
            }
        }
    }
    return STATUS_OK;
}

enum status message_body(struct bytes *to, const struct json *message)
{
    const char *text = json_text(json_get(message, "body"), NULL);
    const char *base64 = json_text(json_get(message, "body_base64"), NULL);

    if (text != NULL) {
        return bytes_append(to, text, strlen(text));
    }
    return base64 != NULL ? decode(to, base64) : STATUS_INVALID;
}
