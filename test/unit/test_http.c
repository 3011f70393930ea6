/* links: godwit_net godwit_proto */
#include "broker/net/http.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(http, .timeout = 30);

static struct http_request request;
static struct http_fault fault;
static size_t head_len;

static enum status parse(const char *text)
{
    fault = (struct http_fault) { 0 };
    head_len = 0;
    return http_head_parse(slice_text(text), &request, &head_len, &fault);
}

static void expect_code(const char *text, int code)
{
    enum status status = parse(text);

    if (code == 0) {
        cr_assert_eq(status, STATUS_OK, "refused (%d %s): %s", fault.code,
                     fault.text, text);
        cr_assert_eq(head_len, strlen(text));
        return;
    }
    cr_assert_eq(status, STATUS_INVALID, "status %d: %s", status, text);
    cr_assert_eq(fault.code, code, "%d (%s), not %d: %s", fault.code,
                 fault.text, code, text);
    cr_assert(fault.text != NULL && strpbrk(fault.text, "\"\\\n") == NULL,
              "not fit for JSON as it is: %s", fault.text);
}

Test(http, request_line_and_headers_are_taken_apart)
{
    const char *text = "POST /v1/topics/a%20b?x=1&y=a%2Fb+c&z= HTTP/1.1\r\n"
                       "Host: localhost:1\r\n"
                       "X-Two:\t two \t\r\n"
                       "Content-Length: 012\r\n"
                       "\r\nbody";
    char value[8];

    cr_assert_eq(parse(text), STATUS_OK);
    cr_assert_eq(head_len, strlen(text) - 4);
    cr_assert_eq(request.method, HTTP_POST);
    cr_assert(slice_is(request.path, "/v1/topics/a%20b"));
    cr_assert(slice_is(request.query, "x=1&y=a%2Fb+c&z="));
    cr_assert(slice_is(http_header(&request, "x-two"), "two"));
    cr_assert_null(http_header(&request, "x-one").at);
    cr_assert_eq(request.body_len, 12);
    cr_assert(request.keep_alive && !request.upgrade && !request.close);
    cr_assert(http_query(&request, "y", value, sizeof value));
    cr_assert_str_eq(value, "a/b c");
    cr_assert(http_query(&request, "z", value, sizeof value));
    cr_assert_str_eq(value, "");
    cr_assert_not(http_query(&request, "w", value, sizeof value));
    cr_assert(http_query(&request, "y", value, 6));
    cr_assert_not(http_query(&request, "y", value, 5), "does not fit");
}

Test(http, a_query_value_with_nul_is_not_decodable)
{
    char value[8];

    expect_code("GET /?a=%00&b=%41 HTTP/1.1\r\nHost: x\r\n\r\n", 0);
    cr_assert_not(http_query(&request, "a", value, sizeof value));
    cr_assert(http_query(&request, "b", value, sizeof value));
    cr_assert_str_eq(value, "A");
}

Test(http, every_prefix_of_a_request_asks_for_more)
{
    const char *text = "GET /v1/stream?a=b HTTP/1.1\r\nHost: a\r\n"
                       "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                       "Sec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    for (size_t len = 0; len < strlen(text); len++) {
        /* a copy of its own: ASan sees a read past it */
        uint8_t *at = malloc(len + 1);

        memcpy(at, text, len);
        cr_assert_eq(
            http_head_parse(slice_of(at, len), &request, &head_len, &fault),
            STATUS_AGAIN, "at %zu", len);
        free(at);
    }
    expect_code(text, 0);
    cr_assert(request.upgrade);
    cr_assert(slice_is(request.ws_key, "dGhlIHNhbXBsZSBub25jZQ=="));
}

#define GET  "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\n"
#define HOST "Host: x\r\n"
#define END  "\r\n"

static const struct {
    const char *text;
    int code; /* 0: fine */
} heads[] = {
    /* shapes that are served */
    { GET HOST END, 0 },
    { POST HOST "Content-Length: 4194304\r\n" END, 0 },
    { POST HOST "Content-Length: 0\r\n" END, 0 },
    { "HEAD / HTTP/1.0\r\n" END, 0 },
    { "DELETE /a/b HTTP/1.1\r\n" HOST END, 0 },
    { "PUT /~a;b=c,d/%7e?e=/? HTTP/1.1\r\n" HOST END, 0 },
    { "PATCH /a HTTP/1.1\r\n" HOST END, 0 },
    { GET "Host: [::1]:7411\r\n" END, 0 },
    { GET "Host:\r\n" END, 0 },
    { GET HOST "Upgrade: h2c\r\nConnection: Upgrade\r\n" END, 0 },
    { GET HOST "X: \x80\xff tab\tinside\r\n" END, 0 },
    /* line ends and control bytes */
    { "GET / HTTP/1.1\nHost: x\n\n", 400 },
    { GET "Host: x\n" END, 400 },
    { GET HOST "\n", 400 },
    { "\r\n" GET HOST END, 400 },
    { GET HOST "A: b\rc\r\n" END, 400 },
    { GET HOST "A: b\x01\r\n" END, 400 },
    { GET HOST "A: b\x7f\r\n" END, 400 },
    { GET HOST "A: b\r\r\n" END, 400 },
    { "\x16\x03\x01\x02", 400 },
    /* names */
    { GET HOST "Content-Length : 3\r\n" END, 400 },
    { GET HOST "A\tB: c\r\n" END, 400 },
    { GET HOST ": c\r\n" END, 400 },
    { GET HOST "no colon\r\n" END, 400 },
    { GET HOST "A: b\r\n folded\r\n" END, 400 },
    { GET " Host: x\r\n" END, 400 },
    { GET HOST "A(b): c\r\n" END, 400 },
    { GET HOST "A\xc3\xa4: c\r\n" END, 400 },
    /* host */
    { GET END, 400 },
    { GET HOST HOST END, 400 },
    { GET HOST "hOST: y\r\n" END, 400 },
    { GET "Host: a b\r\n" END, 400 },
    { GET "Host: a,b\r\n" END, 400 },
    { GET "Host: u@h\r\n" END, 400 },
    { "GET / HTTP/1.0\r\n" HOST HOST END, 400 },
    /* request line */
    { "GET  / HTTP/1.1\r\n" HOST END, 400 },
    { "GET / HTTP/1.1 \r\n" HOST END, 400 },
    { "GET /\r\n" END, 400 },
    { "GET\r\n" END, 400 },
    { " GET / HTTP/1.1\r\n" HOST END, 400 },
    { "GET / http/1.1\r\n" HOST END, 400 },
    { "GET / HTTP/01.1\r\n" HOST END, 400 },
    { "GET / HTTP/1.10\r\n" HOST END, 400 },
    { "GET / HTTP/2.0\r\n" HOST END, 505 },
    { "GET / HTTP/1.2\r\n" HOST END, 505 },
    { "GET / HTTP/9.9\r\n" HOST END, 505 },
    { "get / HTTP/1.1\r\n" HOST END, 501 },
    { "BREW / HTTP/1.1\r\n" HOST END, 501 },
    { "G{T / HTTP/1.1\r\n" HOST END, 400 },
    { "PRI * HTTP/2.0\r\n" END, 505 },
    { "OPTIONS / HTTP/1.1\r\n" HOST END, 405 },
    { "OPTIONS * HTTP/1.1\r\n" HOST END, 405 },
    { "TRACE / HTTP/1.1\r\n" HOST END, 405 },
    { "CONNECT x:1 HTTP/1.1\r\n" HOST END, 405 },
    /* targets */
    { "GET http://x/ HTTP/1.1\r\n" HOST END, 400 },
    { "GET x:80 HTTP/1.1\r\n" HOST END, 400 },
    { "GET * HTTP/1.1\r\n" HOST END, 400 },
    { "GET /a#b HTTP/1.1\r\n" HOST END, 400 },
    { "GET /a\\b HTTP/1.1\r\n" HOST END, 400 },
    { "GET /\xc3\xa4 HTTP/1.1\r\n" HOST END, 400 },
    { "GET /%4 HTTP/1.1\r\n" HOST END, 400 },
    { "GET /%zz HTTP/1.1\r\n" HOST END, 400 },
    { "GET /a\tb HTTP/1.1\r\n" HOST END, 400 },
    /* bodies */
    { POST HOST "Content-Length: 4194305\r\n" END, 413 },
    { POST HOST "Content-Length: 99999999999999999999999\r\n" END, 413 },
    { POST HOST "Content-Length: 18446744073709551617\r\n" END, 413 },
    { POST HOST "Content-Length: -1\r\n" END, 400 },
    { POST HOST "Content-Length: +1\r\n" END, 400 },
    { POST HOST "Content-Length: 1 1\r\n" END, 400 },
    { POST HOST "Content-Length: 4, 4\r\n" END, 400 },
    { POST HOST "Content-Length: 0x4\r\n" END, 400 },
    { POST HOST "Content-Length:\r\n" END, 400 },
    { POST HOST "Content-Length: 4\r\nContent-Length: 4\r\n" END, 400 },
    { GET HOST "Content-Length: 4\r\n" END, 400 },
    { "HEAD / HTTP/1.1\r\n" HOST "Content-Length: 4\r\n" END, 400 },
    { POST HOST "Transfer-Encoding: chunked\r\n" END, 411 },
    { POST HOST "Transfer-Encoding: Chunked\r\n" END, 411 },
    { POST HOST "Transfer-Encoding: gzip, chunked\r\n" END, 501 },
    { POST HOST "Transfer-Encoding: xchunked\r\n" END, 501 },
    { POST HOST "Transfer-Encoding:\r\n" END, 501 },
    { POST HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n" END,
      400 },
    { POST HOST "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n" END,
      400 },
    { POST HOST "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n" END,
      400 },
    { "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" END, 400 },
    { POST HOST "Expect: 100-continue\r\n" END, 0 },
    { POST HOST "Expect: a-pony\r\n" END, 417 },
    { GET HOST "Authorization: a\r\nAuthorization: b\r\n" END, 400 },
};

Test(http, each_shape_gets_its_code)
{
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        expect_code(heads[i].text, heads[i].code);
    }
}

Test(http, nul_is_refused_wherever_it_stands)
{
    char text[] = GET HOST "A: b\r\n" END;

    for (size_t i = 0; i + 1 < sizeof text; i++) {
        char kept = text[i];

        text[i] = '\0';
        cr_assert_neq(http_head_parse(slice_of(text, sizeof text - 1), &request,
                                      &head_len, &fault),
                      STATUS_OK, "at %zu", i);
        text[i] = kept;
    }
}

#define UPGRADE                                                                \
    GET HOST "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

Test(http, an_upgrade_must_be_complete)
{
    expect_code(UPGRADE VERSION KEY END, 0);
    cr_assert(request.upgrade);
    expect_code(UPGRADE KEY END, 426);
    expect_code(UPGRADE "Sec-WebSocket-Version: 12\r\n" KEY END, 426);
    expect_code(UPGRADE "Sec-WebSocket-Version: 13, 8\r\n" KEY END, 426);
    expect_code(UPGRADE VERSION END, 400);
    expect_code(UPGRADE VERSION KEY KEY END, 400);
    /* 15 and 17 bytes, and no base64 */
    expect_code(
        UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n" END, 400);
    expect_code(UPGRADE VERSION
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQQ=\r\n" END,
                400);
    expect_code(UPGRADE VERSION
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n" END,
                400);
    expect_code(GET HOST "Upgrade: websocket\r\n" VERSION KEY END, 400);
    expect_code("GET / HTTP/1.0\r\n" HOST
                "Connection: Upgrade\r\nUpgrade: websocket\r\n" VERSION KEY END,
                400);
    expect_code(POST HOST
                "Connection: Upgrade\r\nUpgrade: websocket\r\n" VERSION KEY END,
                400);
}

Test(http, keep_alive_is_the_versions_default_or_what_was_asked)
{
    expect_code("GET / HTTP/1.0\r\n\r\n", 0);
    cr_assert_not(request.keep_alive);
    expect_code("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 0);
    cr_assert(request.keep_alive);
    expect_code(GET HOST "Connection: foo, CLOSE\r\n" END, 0);
    cr_assert_not(request.keep_alive);
    expect_code(GET HOST "Connection: close\r\nConnection: keep-alive\r\n" END,
                0);
    cr_assert_not(request.keep_alive);
}

static char *head_of_len(size_t len)
{
    static const char start[] = GET HOST "A: ";
    char *text = malloc(len + 1);

    memset(text, 'a', len);
    memcpy(text, start, sizeof start - 1);
    memcpy(text + len - 4, "\r\n\r\n", 5);
    return text;
}

Test(http, a_head_at_its_limit_passes_and_one_past_it_does_not)
{
    char *fits = head_of_len(HTTP_HEAD_LEN_MAX);
    char *over = head_of_len(HTTP_HEAD_LEN_MAX + 1);

    expect_code(fits, 0);
    expect_code(over, 431);
    /* without an end in sight */
    memset(over, 'G', HTTP_HEAD_LEN_MAX + 1);
    cr_assert_eq(http_head_parse(slice_of(over, HTTP_HEAD_LEN_MAX - 1),
                                 &request, &head_len, &fault),
                 STATUS_AGAIN);
    expect_code(over, 431);
    free(fits);
    free(over);
}

static void header_lines(char *text, size_t len, int count)
{
    size_t used = (size_t)snprintf(text, len, GET HOST);

    for (int i = 1; i < count; i++) {
        used += (size_t)snprintf(text + used, len - used, "A%d: b\r\n", i);
    }
    snprintf(text + used, len - used, "\r\n");
}

Test(http, as_many_headers_as_the_limit_and_one_more)
{
    char text[2048];

    header_lines(text, sizeof text, HTTP_HEADER_COUNT_MAX);
    expect_code(text, 0);
    cr_assert_eq(request.header_count, HTTP_HEADER_COUNT_MAX);
    header_lines(text, sizeof text, HTTP_HEADER_COUNT_MAX + 1);
    expect_code(text, 431);
}

Test(http, lists_are_searched_by_whole_tokens)
{
    cr_assert(http_list_has(slice_text("a, Upgrade ,b"), "upgrade"));
    cr_assert(http_list_has(slice_text("upgrade"), "upgrade"));
    cr_assert_not(http_list_has(slice_text("upgraded, xupgrade"), "upgrade"));
    cr_assert_not(http_list_has(slice_text(""), "upgrade"));
    cr_assert_not(http_list_has(slice_text(",,"), "upgrade"));
}
