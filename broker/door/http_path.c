#include "broker/door/http_path.h"

#include "proto/name.h"
#include "proto/text.h"

#include <stdio.h>
#include <strings.h>

enum { SEGMENT_COUNT_MAX = 6, NUMBER_LEN_MAX = 32 };

struct path {
    enum http_target target;
    const char *segments[SEGMENT_COUNT_MAX]; /* "*": a name, "#": a seq */
    const char *allow;
};

static const struct path paths[] = {
    { TARGET_HEALTH, { "health" }, "GET, HEAD" },
    { TARGET_METRICS, { "metrics" }, "GET, HEAD" },
    { TARGET_STREAM, { "v1", "stream" }, "GET" },
    { TARGET_TOPICS, { "v1", "topics" }, "GET, HEAD, POST" },
    { TARGET_TOPIC, { "v1", "topics", "*" }, "GET, HEAD, PUT, DELETE" },
    { TARGET_MESSAGES, { "v1", "topics", "*", "messages" }, "GET, HEAD, POST" },
    { TARGET_MESSAGE, { "v1", "topics", "*", "messages", "#" }, "GET, HEAD" },
    { TARGET_BATCH, { "v1", "topics", "*", "batch" }, "POST" },
    { TARGET_GROUPS, { "v1", "groups" }, "GET, HEAD, POST" },
    { TARGET_GROUP, { "v1", "groups", "*" }, "GET, HEAD, PATCH, DELETE" },
    { TARGET_PAUSE, { "v1", "groups", "*", "pause" }, "POST" },
    { TARGET_RESUME, { "v1", "groups", "*", "resume" }, "POST" },
    { TARGET_PULL, { "v1", "groups", "*", "pull" }, "POST" },
    { TARGET_SETTLE, { "v1", "groups", "*", "settle" }, "POST" },
    { TARGET_SEEK, { "v1", "groups", "*", "seek" }, "POST" },
    { TARGET_DEAD, { "v1", "groups", "*", "dead" }, "GET, HEAD" },
    { TARGET_EXPLAIN,
      { "v1", "groups", "*", "messages", "*", "#" },
      "GET, HEAD" },
    { TARGET_REDRIVE, { "v1", "groups", "*", "redrive" }, "GET, HEAD, POST" },
    { TARGET_REDRIVE_STOP, { "v1", "groups", "*", "redrive", "stop" }, "POST" },
    { TARGET_REDRIVE_UNDO, { "v1", "groups", "*", "redrive", "undo" }, "POST" },
    { TARGET_DISCARD, { "v1", "groups", "*", "discard" }, "POST" },
    { TARGET_APPS, { "v1", "apps" }, "GET, HEAD, POST" },
    { TARGET_APP, { "v1", "apps", "*" }, "GET, HEAD, DELETE" },
    { TARGET_STORE, { "v1", "store" }, "GET, HEAD" },
};

static const char *method_word(enum http_method method)
{
    switch (method) {
    case HTTP_GET:
        return "GET";
    case HTTP_POST:
        return "POST";
    case HTTP_PUT:
        return "PUT";
    case HTTP_PATCH:
        return "PATCH";
    case HTTP_DELETE:
        return "DELETE";
    case HTTP_HEAD:
        return "HEAD";
    }
    return "";
}

bool http_percent_decode(struct slice text, char *to, size_t *len)
{
    size_t filled = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte;

        if (text.at[i] != '%') {
            to[filled++] = (char)text.at[i];
            continue;
        }
        if (text.len - i < 3 || !text_hex_pair(text.at + i + 1, &byte)) {
            return false;
        }
        to[filled++] = (char)byte;
        i += 2;
    }
    *len = filled;
    return true;
}

/* The pieces between the slashes; false when there are too many. */
static bool split(struct slice path, struct slice segments[SEGMENT_COUNT_MAX],
                  size_t *count)
{
    *count = 0;
    while (path.len > 0) {
        const uint8_t *slash;
        size_t len;

        if (path.at[0] != '/' || *count == SEGMENT_COUNT_MAX) {
            return false;
        }
        path = slice_of(path.at + 1, path.len - 1);
        slash = path.len == 0 ? NULL : memchr(path.at, '/', path.len);
        len = slash == NULL ? path.len : (size_t)(slash - path.at);
        segments[(*count)++] = slice_of(path.at, len);
        path = slice_of(path.at + len, path.len - len);
    }
    return *count > 0;
}

static bool path_fits(const struct path *path, const struct slice *segments,
                      size_t count)
{
    for (size_t i = 0; i < SEGMENT_COUNT_MAX; i++) {
        const char *want = path->segments[i];

        if (want == NULL) {
            return i == count;
        }
        if (i == count
            || (strcmp(want, "*") != 0 && strcmp(want, "#") != 0
                && !slice_is(segments[i], want))) {
            return false;
        }
    }
    return count == SEGMENT_COUNT_MAX;
}

static bool read_name(struct slice segment, char name[NAME_LEN_MAX + 1])
{
    char decoded[HTTP_HEAD_LEN_MAX];
    size_t len;

    if (segment.len > sizeof decoded
        || !http_percent_decode(segment, decoded, &len)
        || !name_valid(slice_of(decoded, len))) {
        return false;
    }
    memcpy(name, decoded, len);
    name[len] = '\0';
    return true;
}

static enum status read_place(const char *want, struct slice segment,
                              struct http_route *out, struct refusal *refusal)
{
    char *to = out->name[0] == '\0' ? out->name : out->topic;

    if (strcmp(want, "*") == 0 && !read_name(segment, to)) {
        return refuse(refusal, STATUS_INVALID, "name",
                      "the name in the path is not 1 to %d letters, digits, "
                      "'.', '_' and '-', not beginning with '.' or '-'",
                      NAME_LEN_MAX);
    }
    if (strcmp(want, "#") == 0
        && (!text_decimal(segment, &out->seq) || out->seq == 0)) {
        return refuse(refusal, STATUS_INVALID, "seq",
                      "the message in the path is not a number from 1");
    }
    return STATUS_OK;
}

/* What stands where the path has a name or a number. */
static enum status read_places(const struct path *path,
                               const struct slice *segments, size_t count,
                               struct http_route *out, struct refusal *refusal)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = read_place(path->segments[i], segments[i], out, refusal);
    }
    return status;
}

int http_route_find(const struct http_request *request, struct http_route *out,
                    struct refusal *refusal)
{
    struct slice segments[SEGMENT_COUNT_MAX];
    const struct path *path = NULL;
    size_t count;
    bool whole = split(request->path, segments, &count);

    *out = (struct http_route) { 0 };
    for (size_t i = 0; whole && path == NULL && i < COUNT_OF(paths); i++) {
        path = path_fits(&paths[i], segments, count) ? &paths[i] : NULL;
    }
    if (path == NULL) {
        (void)refuse(refusal, STATUS_NOT_FOUND, "path",
                     "there is nothing under this path");
        return 404;
    }
    out->target = path->target;
    out->allow = path->allow;
    if (read_places(path, segments, count, out, refusal) != STATUS_OK) {
        return 400;
    }
    if (!http_list_has(slice_text(path->allow), method_word(request->method))) {
        (void)refuse(refusal, STATUS_UNSUPPORTED, "method",
                     "%s is not for this path, which has %s",
                     method_word(request->method), path->allow);
        return 405;
    }
    return 0;
}

/* ---- query ---- */

static size_t known_index(struct slice name, const char *const *known)
{
    size_t i = 0;

    while (known[i] != NULL && !slice_is(name, known[i])) {
        i++;
    }
    return i;
}

enum status http_query_check(const struct http_request *request,
                             const char *const *known, struct refusal *refusal)
{
    struct slice query = request->query;
    unsigned seen = 0;

    while (query.len > 0) {
        const uint8_t *end = memchr(query.at, '&', query.len);
        size_t len = end == NULL ? query.len : (size_t)(end - query.at);
        const uint8_t *equals = len == 0 ? NULL : memchr(query.at, '=', len);
        size_t name_len = equals == NULL ? len : (size_t)(equals - query.at);
        size_t i = known_index(slice_of(query.at, name_len), known);

        if (known[i] == NULL || (seen & 1U << i) != 0) {
            return refuse(
                refusal, STATUS_INVALID, "query", "%s in the query: %.*s",
                known[i] == NULL ? "unknown name" : "more than once",
                (int)(name_len < 64 ? name_len : 64), (const char *)query.at);
        }
        seen |= 1U << i;
        len += end == NULL ? 0 : 1;
        query = slice_of(query.at + len, query.len - len);
    }
    return STATUS_OK;
}

static bool seconds_parse(struct slice text, uint64_t *ms)
{
    const uint8_t *point =
        text.len == 0 ? NULL : memchr(text.at, '.', text.len);
    size_t whole_len = point == NULL ? text.len : (size_t)(point - text.at);
    uint64_t whole;
    uint64_t part = 0;

    if (!text_decimal(slice_of(text.at, whole_len), &whole)
        || whole > UINT32_MAX) {
        return false;
    }
    if (point != NULL) {
        size_t digits = text.len - whole_len - 1;

        if (digits > 3 || !text_decimal(slice_of(point + 1, digits), &part)) {
            return false;
        }
        for (; digits < 3; digits++) {
            part *= 10;
        }
    }
    *ms = whole * 1000 + part;
    return true;
}

static enum status outside(struct refusal *refusal, const char *limit,
                           const char *text, uint64_t used, uint64_t allowed)
{
    (void)refuse(refusal, STATUS_INVALID, limit, "%s", text);
    refusal->used = used;
    refusal->allowed = allowed;
    return STATUS_INVALID;
}

static enum status read_wait(const struct http_request *request,
                             uint64_t *wait_ms, struct refusal *refusal)
{
    char text[NUMBER_LEN_MAX];

    if (!http_query(request, "wait", text, sizeof text)
        || !seconds_parse(slice_text(text), wait_ms)) {
        return refuse(refusal, STATUS_INVALID, "wait",
                      "wait is a number of seconds, such as 20 or 0.5");
    }
    if (*wait_ms > PULL_WAIT_MS_MAX) {
        return outside(refusal, "wait_ms", "the wait is too long", *wait_ms,
                       PULL_WAIT_MS_MAX);
    }
    return STATUS_OK;
}

/* Is there a name= of this name at all? The query has been checked. */
static bool query_has(const struct http_request *request, const char *name)
{
    size_t len = strlen(name);
    struct slice query = request->query;

    while (query.len >= len) {
        const uint8_t *end;

        if (memcmp(query.at, name, len) == 0
            && (query.len == len || query.at[len] == '='
                || query.at[len] == '&')) {
            return true;
        }
        end = memchr(query.at, '&', query.len);
        if (end == NULL) {
            return false;
        }
        query = slice_of(end + 1, query.len - (size_t)(end + 1 - query.at));
    }
    return false;
}

enum status http_query_number(const struct http_request *request,
                              const char *name, uint64_t min, uint64_t max,
                              uint64_t *value, struct refusal *refusal)
{
    char text[NUMBER_LEN_MAX];
    uint64_t number;

    if (!query_has(request, name)) {
        return STATUS_OK;
    }
    if (!http_query(request, name, text, sizeof text)
        || !text_decimal(slice_text(text), &number)) {
        return refuse(refusal, STATUS_INVALID, name, "%s is not a number",
                      name);
    }
    if (number < min || number > max) {
        (void)refuse(refusal, STATUS_INVALID, name,
                     "%s is at least %llu, and bounded", name,
                     (unsigned long long)min);
        refusal->used = number;
        refusal->allowed = max;
        return STATUS_INVALID;
    }
    *value = number;
    return STATUS_OK;
}

enum status http_query_text(const struct http_request *request,
                            const char *name, char *room, size_t room_len,
                            struct slice *value, struct refusal *refusal)
{
    *value = slice_of(NULL, 0);
    if (!query_has(request, name)) {
        return STATUS_OK;
    }
    if (!http_query(request, name, room, room_len)) {
        (void)refuse(refusal, STATUS_INVALID, name,
                     "%s is longer than %zu bytes, or not decodable", name,
                     room_len - 1);
        refusal->allowed = room_len - 1;
        return STATUS_INVALID;
    }
    *value = slice_text(room);
    return STATUS_OK;
}

enum status http_query_wait(const struct http_request *request,
                            uint64_t *wait_ms, struct refusal *refusal)
{
    *wait_ms = 0;
    return query_has(request, "wait") ? read_wait(request, wait_ms, refusal)
                                      : STATUS_OK;
}

enum status http_pull_read(const struct http_request *request,
                           uint64_t *count_max, uint64_t *wait_ms,
                           struct refusal *refusal)
{
    static const char *const known[] = { "max", "wait", NULL };
    enum status status = http_query_check(request, known, refusal);

    *count_max = PULL_COUNT_DEFAULT;
    *wait_ms = 0;
    if (status == STATUS_OK) {
        status = http_query_number(request, "max", 1, PULL_COUNT_MAX, count_max,
                                   refusal);
    }
    return status == STATUS_OK ? http_query_wait(request, wait_ms, refusal)
                               : status;
}

/* ---- headers ---- */

bool http_media_is(struct slice value, const char *type)
{
    size_t len = strlen(type);

    if (value.len < len
        || strncasecmp((const char *)value.at, type, len) != 0) {
        return false;
    }
    return value.len == len || value.at[len] == ';' || value.at[len] == ' ';
}

int http_code_of(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return 200;
    case STATUS_INVALID:
        return 400;
    case STATUS_UNAUTHENTICATED:
        return 401;
    case STATUS_FORBIDDEN:
        return 403;
    case STATUS_NOT_FOUND:
        return 404;
    case STATUS_TIMEOUT:
        return 408;
    case STATUS_EXISTS:
    case STATUS_BUSY:
        return 409;
    case STATUS_TOO_LARGE:
        return 413;
    case STATUS_AGAIN:
        return 429;
    case STATUS_UNSUPPORTED:
        return 501;
    case STATUS_NO_SPACE:
        return 507;
    case STATUS_NOMEM:
    case STATUS_CORRUPT:
    case STATUS_IO:
    case STATUS_FROZEN:
    case STATUS_CLOSED:
    case STATUS_NEWER:
    case STATUS_INTERNAL:
        return 503;
    }
    return 503;
}
