#include "broker/net/http.h"

#include "proto/text.h"

/* The plan: go over the head line by line, once. A line ends at the first LF;
 * what is before it must end in CR and hold no other control byte. Nothing is
 * decoded or corrected: what is not exactly as the RFC's grammar has it is
 * refused, because a proxy in front of us may read it in another way. */

struct parse {
    const uint8_t *at; /* next line */
    const uint8_t *end;
    struct http_request *request;
    struct http_fault *fault;
    bool content_length;
    bool transfer_encoding;
    bool chunked; /* the only coding named */
    bool websocket;
    unsigned single_seen; /* bit i: single[i] was there */
};

/* Headers that may come once only. */
static const char *const single[] = {
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "authorization",
    "origin",
    "expect",
    "upgrade",
    "sec-websocket-key",
    "cookie",
    "sec-websocket-version",
    "sec-websocket-protocol",
};
enum { SINGLE_HOST, SINGLE_CONTENT_LENGTH, SINGLE_TRANSFER_ENCODING };

/* The texts below name them. */
_Static_assert(HTTP_HEAD_LEN_MAX == 8192 && HTTP_HEADER_COUNT_MAX == 64
                   && HTTP_BODY_LEN_MAX == 4194304,
               "the limits and the texts that name them differ");

/* Key of a WebSocket upgrade: base64 of 16 bytes. */
enum { WS_KEY_LEN = 24, WS_KEY_DIGITS = 22 };

static enum status refuse_head(struct parse *p, int code, const char *text)
{
    p->fault->code = code;
    p->fault->text = text;
    return STATUS_INVALID;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_one_of(uint8_t c, const char *set)
{
    return c != 0 && strchr(set, c) != NULL;
}

/* RFC 9110 section 5.6.2 */
static bool is_token_byte(uint8_t c)
{
    return is_digit(c) || is_alpha(c) || is_one_of(c, "!#$%&'*+-.^_`|~");
}

/* RFC 3986 section 3.3 and 3.4, the percent sign apart */
static bool is_target_byte(uint8_t c)
{
    return is_digit(c) || is_alpha(c) || is_one_of(c, "-._~!$&'()*+,;=:@/?");
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

static bool equal_ignoring_case(struct slice s, const char *text)
{
    size_t len = strlen(text);

    if (s.len != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (lower(s.at[i]) != lower((uint8_t)text[i])) {
            return false;
        }
    }
    return true;
}

static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_token_byte(s.at[i])) {
            return false;
        }
    }
    return s.len > 0;
}

/* The next line without its CRLF. */
static enum status next_line(struct parse *p, struct slice *out)
{
    size_t left = (size_t)(p->end - p->at);
    const uint8_t *lf = left > 0 ? memchr(p->at, '\n', left) : NULL;
    size_t len;

    if (lf == NULL) {
        return STATUS_AGAIN;
    }
    len = (size_t)(lf - p->at);
    if (len == 0 || lf[-1] != '\r') {
        return refuse_head(p, 400, "a line ends in LF without CR");
    }
    *out = slice_of(p->at, len - 1);
    p->at = lf + 1;
    for (size_t i = 0; i < out->len; i++) {
        uint8_t c = out->at[i];

        if ((c < ' ' && c != '\t') || c == 0x7F) {
            return refuse_head(p, 400, "a control byte in the head");
        }
    }
    return STATUS_OK;
}

/* ---- request line ---- */

static enum status parse_method(struct parse *p, struct slice word)
{
    static const struct {
        const char *name;
        enum http_method method;
    } served[] = {
        { "GET", HTTP_GET },       { "POST", HTTP_POST },
        { "PUT", HTTP_PUT },       { "PATCH", HTTP_PATCH },
        { "DELETE", HTTP_DELETE }, { "HEAD", HTTP_HEAD },
    };
    static const char *const known[] = { "OPTIONS", "TRACE", "CONNECT" };

    if (!is_token(word)) {
        return refuse_head(p, 400, "the method is no token");
    }
    for (size_t i = 0; i < COUNT_OF(served); i++) {
        if (slice_is(word, served[i].name)) {
            p->request->method = served[i].method;
            return STATUS_OK;
        }
    }
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (slice_is(word, known[i])) {
            return refuse_head(p, 405,
                               "this method is not served; GET, HEAD, POST, "
                               "PUT, PATCH and DELETE are");
        }
    }
    return refuse_head(p, 501,
                       "unknown method; GET, HEAD, POST, PUT, PATCH and "
                       "DELETE are served");
}

static bool target_is_well_formed(struct slice target)
{
    uint8_t byte;

    for (size_t i = 0; i < target.len; i++) {
        if (target.at[i] != '%') {
            if (!is_target_byte(target.at[i])) {
                return false;
            }
        } else if (target.len - i < 3
                   || !text_hex_pair(target.at + i + 1, &byte)) {
            return false;
        }
    }
    return true;
}

static enum status parse_target(struct parse *p, struct slice target)
{
    const uint8_t *mark;

    if (target.len == 0 || target.at[0] != '/') {
        return refuse_head(p, 400,
                           "the target must be a path that begins "
                           "with a slash");
    }
    if (!target_is_well_formed(target)) {
        return refuse_head(p, 400,
                           "a byte in the target that must be "
                           "percent-encoded, or a broken %XX");
    }
    p->request->path = target;
    mark = memchr(target.at, '?', target.len);
    if (mark != NULL) {
        p->request->path.len = (size_t)(mark - target.at);
        p->request->query =
            slice_of(mark + 1, (size_t)(target.at + target.len - mark - 1));
    }
    return STATUS_OK;
}

static enum status parse_version(struct parse *p, struct slice word)
{
    if (slice_is(word, "HTTP/1.1")) {
        p->request->minor = 1;
        p->request->keep_alive = true;
        return STATUS_OK;
    }
    if (slice_is(word, "HTTP/1.0")) {
        p->request->minor = 0;
        return STATUS_OK;
    }
    if (word.len == 8 && memcmp(word.at, "HTTP/", 5) == 0
        && is_digit(word.at[5]) && word.at[6] == '.' && is_digit(word.at[7])) {
        return refuse_head(p, 505, "only HTTP/1.1 and HTTP/1.0 are served");
    }
    return refuse_head(p, 400, "the request line does not end in HTTP/1.1");
}

static enum status parse_request_line(struct parse *p, struct slice line)
{
    const uint8_t *end = line.at + line.len;
    const uint8_t *first = memchr(line.at, ' ', line.len);
    const uint8_t *second;
    enum status status;

    second = first == NULL ? NULL
                           : memchr(first + 1, ' ', (size_t)(end - first - 1));
    if (second == NULL) {
        return refuse_head(p, 400,
                           "the request line is not METHOD TARGET "
                           "VERSION");
    }
    status = parse_version(p, slice_of(second + 1, (size_t)(end - second - 1)));
    if (status == STATUS_OK) {
        status = parse_method(p, slice_of(line.at, (size_t)(first - line.at)));
    }
    if (status == STATUS_OK) {
        status =
            parse_target(p, slice_of(first + 1, (size_t)(second - first - 1)));
    }
    return status;
}

/* ---- headers ---- */

static enum status check_single(struct parse *p, struct slice name)
{
    for (size_t i = 0; i < COUNT_OF(single); i++) {
        if (equal_ignoring_case(name, single[i])) {
            if ((p->single_seen & 1U << i) != 0) {
                return refuse_head(p, 400,
                                   "a header that must come once "
                                   "came twice");
            }
            p->single_seen |= 1U << i;
        }
    }
    return STATUS_OK;
}

static enum status parse_content_length(struct parse *p, struct slice value)
{
    uint64_t len = 0;

    if (value.len == 0) {
        return refuse_head(p, 400, "Content-Length is no number");
    }
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit(value.at[i])) {
            return refuse_head(p, 400, "Content-Length is no number");
        }
        /* saturates: any value this large is refused below */
        if (len <= HTTP_BODY_LEN_MAX) {
            len = len * 10 + (uint64_t)(value.at[i] - '0');
        }
    }
    p->content_length = true;
    p->request->body_len = len;
    return STATUS_OK;
}

static enum status parse_host(struct parse *p, struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.at[i];

        if (!is_digit(c) && !is_alpha(c) && !is_one_of(c, "-._~:[]%")) {
            return refuse_head(p, 400, "Host is no host and port");
        }
    }
    return STATUS_OK;
}

/* Headers that steer the connection itself. */
static enum status apply_header(struct parse *p, struct http_header header)
{
    struct http_request *request = p->request;

    if (equal_ignoring_case(header.name, "content-length")) {
        return parse_content_length(p, header.value);
    }
    if (equal_ignoring_case(header.name, "host")) {
        return parse_host(p, header.value);
    }
    if (equal_ignoring_case(header.name, "transfer-encoding")) {
        p->transfer_encoding = true;
        p->chunked = equal_ignoring_case(header.value, "chunked");
    } else if (equal_ignoring_case(header.name, "connection")) {
        if (http_list_has(header.value, "close")) {
            request->keep_alive = false;
            request->close = true;
        } else if (http_list_has(header.value, "keep-alive")
                   && !request->close) {
            request->keep_alive = true;
        }
        p->websocket |= http_list_has(header.value, "upgrade");
    } else if (equal_ignoring_case(header.name, "expect")) {
        if (!equal_ignoring_case(header.value, "100-continue")) {
            return refuse_head(p, 417,
                               "the only expectation met here is "
                               "100-continue");
        }
        request->expect_continue = request->minor == 1;
    }
    return STATUS_OK;
}

static enum status parse_header(struct parse *p, struct slice line)
{
    struct http_request *request = p->request;
    struct http_header header;
    const uint8_t *colon;
    enum status status;

    if (line.at[0] == ' ' || line.at[0] == '\t') {
        return refuse_head(p, 400, "a header is folded over two lines");
    }
    colon = memchr(line.at, ':', line.len);
    if (colon == NULL) {
        return refuse_head(p, 400, "a header line without a colon");
    }
    header.name = slice_of(line.at, (size_t)(colon - line.at));
    if (!is_token(header.name)) {
        return refuse_head(p, 400,
                           "a header name is no token; no space may "
                           "stand before the colon");
    }
    header.value =
        text_trim(slice_of(colon + 1, line.len - header.name.len - 1));
    if (request->header_count == HTTP_HEADER_COUNT_MAX) {
        return refuse_head(p, 431, "more than 64 headers");
    }
    request->headers[request->header_count++] = header;
    status = check_single(p, header.name);
    return status == STATUS_OK ? apply_header(p, header) : status;
}

/* ---- the whole ---- */

static bool is_websocket_key(struct slice key)
{
    if (key.len != WS_KEY_LEN || key.at[22] != '=' || key.at[23] != '=') {
        return false;
    }
    for (size_t i = 0; i < WS_KEY_DIGITS; i++) {
        uint8_t c = key.at[i];

        if (!is_digit(c) && !is_alpha(c) && c != '+' && c != '/') {
            return false;
        }
    }
    return true;
}

static enum status check_upgrade(struct parse *p)
{
    struct http_request *request = p->request;

    if (!http_list_has(http_header(request, "Upgrade"), "websocket")) {
        return STATUS_OK; /* another protocol's: may be ignored */
    }
    if (request->method != HTTP_GET || request->minor == 0) {
        return refuse_head(p, 400, "a WebSocket upgrade is a GET of HTTP/1.1");
    }
    if (!p->websocket) {
        return refuse_head(p, 400, "Upgrade without Connection: Upgrade");
    }
    if (!slice_is(http_header(request, "Sec-WebSocket-Version"), "13")) {
        return refuse_head(p, 426, "the WebSocket version served is 13");
    }
    request->ws_key = http_header(request, "Sec-WebSocket-Key");
    if (!is_websocket_key(request->ws_key)) {
        return refuse_head(p, 400,
                           "Sec-WebSocket-Key is not 16 bytes in "
                           "base64");
    }
    request->upgrade = true;
    return STATUS_OK;
}

static enum status check_body(struct parse *p)
{
    struct http_request *request = p->request;

    if (p->transfer_encoding) {
        if (p->content_length || request->minor == 0) {
            return refuse_head(p, 400,
                               "Transfer-Encoding with Content-Length "
                               "or in HTTP/1.0");
        }
        return p->chunked ? refuse_head(p, 411,
                                        "chunked bodies are not served; send "
                                        "Content-Length")
                          : refuse_head(p, 501,
                                        "no Transfer-Encoding is served; "
                                        "send Content-Length");
    }
    if (request->body_len > HTTP_BODY_LEN_MAX) {
        return refuse_head(p, 413,
                           "the body is over its limit of 4194304 "
                           "bytes");
    }
    if (request->body_len > 0
        && (request->method == HTTP_GET || request->method == HTTP_HEAD)) {
        return refuse_head(p, 400, "a GET or HEAD request with a body");
    }
    return STATUS_OK;
}

static enum status check_whole(struct parse *p)
{
    enum status status;

    if ((p->single_seen & 1U << SINGLE_HOST) == 0 && p->request->minor == 1) {
        return refuse_head(p, 400, "no Host header");
    }
    status = check_body(p);
    return status == STATUS_OK ? check_upgrade(p) : status;
}

static enum status parse_lines(struct parse *p)
{
    struct slice line;
    enum status status = next_line(p, &line);

    if (status != STATUS_OK) {
        return status;
    }
    status = parse_request_line(p, line);
    while (status == STATUS_OK) {
        status = next_line(p, &line);
        if (status != STATUS_OK) {
            return status;
        }
        if (line.len == 0) {
            return check_whole(p);
        }
        status = parse_header(p, line);
    }
    return status;
}

enum status http_head_parse(struct slice from, struct http_request *out,
                            size_t *head_len, struct http_fault *fault)
{
    struct slice head = from;
    struct parse p = { .request = out, .fault = fault };
    enum status status;

    if (head.len > HTTP_HEAD_LEN_MAX) {
        head.len = HTTP_HEAD_LEN_MAX;
    }
    p.at = head.at;
    p.end = head.at + head.len;
    out->path = out->query = out->body = out->ws_key = (struct slice) { 0 };
    out->header_count = 0;
    out->body_len = 0;
    out->close = out->expect_continue = out->upgrade = false;
    out->keep_alive = false;
    /* Something that speaks another protocol may never send a line end. */
    if (head.len > 0 && !is_token_byte(head.at[0])) {
        return refuse_head(&p, 400,
                           "the request line is not METHOD TARGET "
                           "VERSION");
    }
    status = parse_lines(&p);
    if (status == STATUS_AGAIN && head.len == HTTP_HEAD_LEN_MAX) {
        return refuse_head(&p, 431,
                           "the head is over its limit of 8192 "
                           "bytes");
    }
    if (status == STATUS_OK) {
        *head_len = (size_t)(p.at - from.at);
    }
    return status;
}

/* ---- looking things up ---- */

struct slice http_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (equal_ignoring_case(request->headers[i].name, name)) {
            return request->headers[i].value;
        }
    }
    return (struct slice) { 0 };
}

bool http_list_has(struct slice value, const char *token)
{
    while (value.len > 0) {
        const uint8_t *comma = memchr(value.at, ',', value.len);
        size_t len = comma == NULL ? value.len : (size_t)(comma - value.at);
        size_t step = comma == NULL ? len : len + 1;

        if (equal_ignoring_case(text_trim(slice_of(value.at, len)), token)) {
            return true;
        }
        value.at += step;
        value.len -= step;
    }
    return false;
}

static bool query_decode(struct slice value, char *into, size_t into_len)
{
    size_t used = 0;

    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.at[i];

        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            if (value.len - i < 3 || !text_hex_pair(value.at + i + 1, &c)) {
                return false;
            }
            i += 2;
        }
        if (c == 0 || used + 1 >= into_len) {
            return false;
        }
        into[used++] = (char)c;
    }
    if (used >= into_len) {
        return false;
    }
    into[used] = '\0';
    return true;
}

bool http_query(const struct http_request *request, const char *name,
                char *into, size_t into_len)
{
    struct slice left = request->query;
    size_t name_len = strlen(name);

    while (left.len > 0) {
        const uint8_t *amp = memchr(left.at, '&', left.len);
        size_t len = amp == NULL ? left.len : (size_t)(amp - left.at);
        size_t step = amp == NULL ? len : len + 1;

        if (len > name_len && left.at[name_len] == '='
            && memcmp(left.at, name, name_len) == 0) {
            return query_decode(
                slice_of(left.at + name_len + 1, len - name_len - 1), into,
                into_len);
        }
        left.at += step;
        left.len -= step;
    }
    return false;
}

const char *http_reason(int code)
{
    static const struct {
        int code;
        const char *text;
    } reasons[] = {
        { 100, "Continue" },
        { 101, "Switching Protocols" },
        { 200, "OK" },
        { 201, "Created" },
        { 202, "Accepted" },
        { 204, "No Content" },
        { 304, "Not Modified" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 406, "Not Acceptable" },
        { 408, "Request Timeout" },
        { 409, "Conflict" },
        { 411, "Length Required" },
        { 413, "Content Too Large" },
        { 415, "Unsupported Media Type" },
        { 417, "Expectation Failed" },
        { 422, "Unprocessable Content" },
        { 426, "Upgrade Required" },
        { 429, "Too Many Requests" },
        { 431, "Request Header Fields Too Large" },
        { 500, "Internal Server Error" },
        { 501, "Not Implemented" },
        { 503, "Service Unavailable" },
        { 505, "HTTP Version Not Supported" },
        { 507, "Insufficient Storage" },
    };

    for (size_t i = 0; i < COUNT_OF(reasons); i++) {
        if (reasons[i].code == code) {
            return reasons[i].text;
        }
    }
    return "Unknown";
}
