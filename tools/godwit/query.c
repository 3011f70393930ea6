#include "tools/godwit/query.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void put(struct query *q, const char *text, size_t len)
{
    if (q->status == STATUS_OK) {
        q->status = bytes_append(&q->text, text, len);
    }
}

void query_path(struct query *q, const char *format, ...)
{
    char path[512];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(path, sizeof path, format, args);
    va_end(args);
    CHECK(len >= 0 && (size_t)len < sizeof path);
    put(q, path, (size_t)len);
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || (c >= '0' && c <= '9')
           || (c != '\0' && strchr("-._~", c) != NULL);
}

static void put_name(struct query *q, const char *name)
{
    put(q, q->any ? "&" : "?", 1);
    put(q, name, strlen(name));
    put(q, "=", 1);
    q->any = true;
}

void query_text(struct query *q, const char *name, const char *value)
{
    put_name(q, name);
    for (; *value != '\0'; value++) {
        char escaped[4];

        if (is_plain(*value)) {
            put(q, value, 1);
        } else {
            snprintf(escaped, sizeof escaped, "%%%02X",
                     (unsigned)(unsigned char)*value);
            put(q, escaped, 3);
        }
    }
}

void query_number(struct query *q, const char *name, uint64_t value)
{
    char digits[24];

    put_name(q, name);
    put(q, digits, (size_t)snprintf(digits, sizeof digits, "%" PRIu64, value));
}

const char *query_done(struct query *q)
{
    put(q, "", 1);
    return q->status == STATUS_OK ? (const char *)bytes_begin(&q->text) : NULL;
}

void query_fini(struct query *q)
{
    bytes_fini(&q->text);
    *q = (struct query) { 0 };
}
