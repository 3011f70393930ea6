#include "client/http_head.h"

#include "proto/text.h"

#include <strings.h>

static bool is_word(struct slice s, const char *word)
{
    return s.len == strlen(word)
           && strncasecmp((const char *)s.at, word, s.len) == 0;
}

/* Is `word` one of the comma-separated parts? */
static bool list_has(struct slice list, const char *word)
{
    while (list.len > 0) {
        const uint8_t *comma = memchr(list.at, ',', list.len);
        size_t len = comma == NULL ? list.len : (size_t)(comma - list.at);
        if (is_word(text_trim(slice_of(list.at, len)), word)) {
            return true;
        }
        len += comma != NULL;
        list = slice_of(list.at + len, list.len - len);
    }
    return false;
}

bool http_line(struct slice from, struct slice *line, size_t *next)
{
    const uint8_t *end = from.len == 0 ? NULL : memchr(from.at, '\n', from.len);

    if (end == NULL || end == from.at || end[-1] != '\r') {
        return false;
    }
    *line = slice_of(from.at, (size_t)(end - from.at) - 1);
    *next = line->len + 2;
    return true;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK" */
static bool status_line_read(struct slice line, struct http_head *out)
{
    if (line.len < 12 || memcmp(line.at, "HTTP/1.", 7) != 0
        || (line.at[7] != '0' && line.at[7] != '1') || line.at[8] != ' '
        || !is_digit(line.at[9]) || line.at[9] == '0' || !is_digit(line.at[10])
        || !is_digit(line.at[11]) || (line.len > 12 && line.at[12] != ' ')) {
        return false;
    }
    out->code = (line.at[9] - '0') * 100 + (line.at[10] - '0') * 10
                + (line.at[11] - '0');
    out->close = line.at[7] == '0';
    return true;
}

static bool length_read(struct slice value, struct http_head *out)
{
    uint64_t length;

    if (!text_decimal(value, &length) || length > INT64_MAX) {
        return false;
    }
    if (out->has_length && out->content_length != length) {
        return false;
    }
    out->has_length = true;
    out->content_length = length;
    return true;
}

static bool header_take(struct slice name, struct slice value,
                        struct http_head *out)
{
    if (is_word(name, "content-length")) {
        return length_read(value, out);
    }
    if (is_word(name, "transfer-encoding")) {
        out->chunked = is_word(value, "chunked");
        return out->chunked;
    }
    if (is_word(name, "connection")) {
        out->close = out->close || list_has(value, "close");
        out->connection_upgrade = list_has(value, "upgrade");
    } else if (is_word(name, "upgrade")) {
        out->upgrade_websocket = list_has(value, "websocket");
    } else if (is_word(name, "sec-websocket-accept")) {
        out->accept = value;
    } else if (is_word(name, "sec-websocket-protocol")) {
        out->protocol = value;
    }
    return true;
}

static bool header_line_read(struct slice line, struct http_head *out)
{
    const uint8_t *colon = memchr(line.at, ':', line.len);
    size_t name_len;

    if (colon == NULL || colon == line.at) {
        return false;
    }
    name_len = (size_t)(colon - line.at);
    return header_take(slice_of(line.at, name_len),
                       text_trim(slice_of(colon + 1, line.len - name_len - 1)),
                       out);
}

static enum status fail(const char **fault, enum status status,
                        const char *text)
{
    *fault = text;
    return status;
}

enum status http_head_read(struct slice from, struct http_head *out,
                           const char **fault)
{
    struct http_head head = { .len = 0 };
    struct slice line;
    size_t next;

    while (http_line(slice_of(from.at + head.len, from.len - head.len), &line,
                     &next)) {
        bool first = head.len == 0;
        head.len += next;
        if (line.len == 0 && !first) {
            *out = head;
            return head.chunked && head.has_length ? fail(
                       fault, STATUS_INVALID, "two lengths in one HTTP answer")
                                                   : STATUS_OK;
        }
        if (first ? !status_line_read(line, &head)
                  : !header_line_read(line, &head)) {
            return fail(fault, STATUS_INVALID,
                        first ? "the answer is not HTTP/1.1"
                              : "a malformed header in the HTTP answer");
        }
    }
    if (from.len - head.len > 0
        && memchr(from.at + head.len, '\n', from.len - head.len) != NULL) {
        return fail(fault, STATUS_INVALID, "the answer is not HTTP/1.1");
    }
    if (from.len > HTTP_RESPONSE_HEAD_MAX) {
        return fail(fault, STATUS_TOO_LARGE, "the HTTP answer's head is long");
    }
    return STATUS_AGAIN;
}
