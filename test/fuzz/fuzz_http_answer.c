/* links: godwit_client godwit_proto */
/* The head of a broker's answer, as the client reads it: any bytes, whole or
 * cut anywhere, are answered the same way, and nothing points outside. */
#include "client/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

static bool inside(struct slice s, const uint8_t *at, size_t len)
{
    return s.len == 0 || (s.at >= at && s.at + s.len <= at + len);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct http_head head = { 0 };
    struct http_head again = { 0 };
    const char *fault = NULL;
    enum status status = http_head_read(slice_of(at, len), &head, &fault);

    if (status == STATUS_AGAIN) {
        return 0;
    }
    if (status != STATUS_OK) {
        CHECK(fault != NULL);
        return 0;
    }
    CHECK(head.len > 0 && head.len <= len);
    CHECK(head.len <= HTTP_RESPONSE_HEAD_MAX);
    CHECK(head.code >= 100 && head.code <= 999);
    CHECK(inside(head.accept, at, head.len));
    CHECK(inside(head.protocol, at, head.len));
    /* What follows the head, a body, changes nothing about it. */
    CHECK(http_head_read(slice_of(at, head.len), &again, &fault) == STATUS_OK);
    CHECK(again.len == head.len && again.code == head.code
          && again.content_length == head.content_length);
    for (size_t cut = 0; cut < head.len; cut += 1 + head.len / 16) {
        CHECK(http_head_read(slice_of(at, cut), &again, &fault) != STATUS_OK);
    }
    return 0;
}
