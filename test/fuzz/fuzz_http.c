/* links: godwit_net godwit_proto */
/* Any bytes: the parser stays inside of them, decides the same for the same
 * bytes, and a head it takes is decided by its own bytes alone. */
#include "broker/net/http.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

static bool inside(struct slice s, const uint8_t *at, size_t len)
{
    return s.at == NULL || (s.at >= at && s.at + s.len <= at + len);
}

static void check_taken(const struct http_request *request, const uint8_t *at,
                        size_t head_len)
{
    struct http_request again;
    struct http_fault fault;
    size_t again_len = 0;
    char value[64];

    CHECK(head_len > 0 && head_len <= HTTP_HEAD_LEN_MAX);
    CHECK(inside(request->path, at, head_len));
    CHECK(inside(request->query, at, head_len));
    CHECK(inside(request->ws_key, at, head_len));
    CHECK(request->path.len > 0 && request->path.at[0] == '/');
    CHECK(request->header_count <= HTTP_HEADER_COUNT_MAX);
    CHECK(request->body_len <= HTTP_BODY_LEN_MAX);
    for (size_t i = 0; i < request->header_count; i++) {
        CHECK(inside(request->headers[i].name, at, head_len));
        CHECK(inside(request->headers[i].value, at, head_len));
        CHECK(request->headers[i].name.len > 0);
    }
    CHECK(http_header(request, "Transfer-Encoding").at == NULL);
    (void)http_query(request, "a", value, sizeof value);
    CHECK(http_head_parse(slice_of(at, head_len), &again, &again_len, &fault)
          == STATUS_OK);
    CHECK(again_len == head_len);
    CHECK(
        http_head_parse(slice_of(at, head_len - 1), &again, &again_len, &fault)
        != STATUS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *from, size_t len)
{
    struct http_request request;
    struct http_fault fault = { 0 };
    size_t head_len = 0;
    uint8_t *at = malloc(len + 1); /* so that ASan sees its end */

    if (at == NULL) {
        return 0;
    }
    if (len > 0) {
        memcpy(at, from, len);
    }
    switch (
        (int)http_head_parse(slice_of(at, len), &request, &head_len, &fault)) {
    case STATUS_OK:
        CHECK(head_len <= len);
        check_taken(&request, at, head_len);
        break;
    case STATUS_AGAIN:
        CHECK(len < HTTP_HEAD_LEN_MAX);
        break;
    default:
        CHECK(fault.text != NULL && fault.code >= 400 && fault.code < 600);
        break;
    }
    free(at);
    return 0;
}
