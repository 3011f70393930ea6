#include "tools/godwit/look.h"

#include "tools/godwit/outlet.h"

#include <errno.h>
#include <unistd.h>

/* ---- which ---- */

static enum status put_literal(struct bytes *to, const char *text)
{
    enum status status = bytes_append(to, "\"", 1);

    for (; status == STATUS_OK && *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            status = bytes_append(to, "\\", 1);
        }
        if (status == STATUS_OK) {
            status = bytes_append(to, text, 1);
        }
    }
    return status == STATUS_OK ? bytes_append(to, "\"", 1) : status;
}

static enum status put_text(struct bytes *to, const char *text)
{
    return bytes_append(to, text, strlen(text));
}

/* h"name" == "value" */
static enum status put_test(struct bytes *to, const char *header)
{
    size_t len = strcspn(header, "=");
    char name[256];
    enum status status = bytes_len(to) > 0 ? put_text(to, " && ") : STATUS_OK;

    CHECK(len < sizeof name);
    memcpy(name, header, len);
    name[len] = '\0';
    if (status == STATUS_OK) {
        status = put_text(to, "h");
    }
    if (status == STATUS_OK) {
        status = put_literal(to, name);
    }
    if (status == STATUS_OK) {
        status = put_text(to, " == ");
    }
    return status == STATUS_OK ? put_literal(to, header + len + 1) : status;
}

static bool check_header(const char *header)
{
    size_t len = strcspn(header, "=");

    if (len == 0 || header[len] != '=') {
        fail(EXIT_USAGE, "--header %s: expected NAME=VALUE", header);
        return false;
    }
    if (len > 128) {
        fail(EXIT_USAGE, "--header %s: names are 1 to 128 bytes long", header);
        return false;
    }
    return true;
}

/* The headers are tests of a filter. */
static enum status make_filter(struct bytes *to, const struct look_options *o)
{
    enum status status = STATUS_OK;

    if (o->filter != NULL && o->headers.count == 0) {
        return put_text(to, o->filter);
    }
    if (o->filter != NULL) {
        status = put_text(to, "(");
        if (status == STATUS_OK) {
            status = put_text(to, o->filter);
        }
        if (status == STATUS_OK) {
            status = put_text(to, ")");
        }
    }
    for (size_t i = 0; status == STATUS_OK && i < o->headers.count; i++) {
        status = put_test(to, o->headers.at[i]);
    }
    return status;
}

bool look_query(struct query *q, const struct look_options *o)
{
    struct bytes filter = { 0 };

    for (size_t i = 0; i < o->headers.count; i++) {
        if (!check_header(o->headers.at[i])) {
            return false;
        }
    }
    if (o->key != NULL) {
        query_text(q, "key", o->key);
    }
    if (o->tag != NULL) {
        query_text(q, "tag", o->tag);
    }
    if (o->filter != NULL || o->headers.count > 0) {
        if (make_filter(&filter, o) != STATUS_OK
            || bytes_append(&filter, "", 1) != STATUS_OK) {
            bytes_fini(&filter);
            fail(EXIT_FAILED, "out of memory");
            return false;
        }
        query_text(q, "filter", (const char *)bytes_begin(&filter));
        bytes_fini(&filter);
    }
    return true;
}

/* ---- what was found ---- */

/* Those that begin between two messages; behind the last one: `before` 0. */
static enum status put_gaps(struct bytes *to, const struct json *gaps,
                            const struct message_style *style, uint64_t behind,
                            uint64_t before)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < json_count(gaps); i++) {
        uint64_t first = json_u64(json_at(gaps, i), "first");

        if (first > behind && (before == 0 || first < before)) {
            status = message_gap(to, json_at(gaps, i), style);
        }
    }
    return status;
}

static enum status put_all(struct bytes *to, const struct json *answer,
                           const struct message_style *style)
{
    const struct json *messages = json_get(answer, "messages");
    const struct json *gaps = json_get(answer, "gaps");
    enum status status = STATUS_OK;
    uint64_t behind = 0;

    for (size_t i = 0; status == STATUS_OK && i < json_count(messages); i++) {
        const struct json *message = json_at(messages, i);
        uint64_t seq = json_u64(message, "seq");

        status = put_gaps(to, gaps, style, behind, seq);
        if (status == STATUS_OK) {
            status = message_line(to, message, style);
        }
        behind = seq;
    }
    return status == STATUS_OK ? put_gaps(to, gaps, style, behind, 0) : status;
}

enum status look_print(const struct json *answer,
                       const struct message_style *style, uint64_t *count)
{
    struct outlet outlet = { 0 };
    enum status status = put_all(&outlet.text, answer, style);

    if (status == STATUS_OK && count != NULL) {
        *count += json_count(json_get(answer, "messages"));
    }
    if (status == STATUS_OK) {
        status = outlet_write(&outlet, STDOUT_FILENO);
    }
    outlet_fini(&outlet);
    return status;
}

int look_print_failed(enum status status)
{
    if (status == STATUS_CLOSED) {
        return EXIT_OK; /* such as `| head` */
    }
    return status == STATUS_NOMEM
               ? fail(EXIT_FAILED, "out of memory")
               : fail(EXIT_FAILED, "stdout: %s", strerror(errno));
}
