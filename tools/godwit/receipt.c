#include "tools/godwit/receipt.h"

#include "proto/name.h"
#include "proto/text.h"

#include <inttypes.h>
#include <stdio.h>

enum { CHECKSUM_LEN = 8 };

char *receipt_print(char text[RECEIPT_TEXT_LEN], const struct receipt *receipt)
{
    snprintf(text, RECEIPT_TEXT_LEN,
             "%s:%" PRIu64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu32 ":%016" PRIx64,
             receipt->topic, receipt->seq, receipt->count, receipt->segment,
             receipt->offset, receipt->checksum);
    return text;
}

/* Cut the part before the next colon off the front; without one, all of it. */
static struct slice next_part(struct slice *rest)
{
    const uint8_t *colon =
        rest->len == 0 ? NULL : memchr(rest->at, ':', rest->len);
    size_t len = colon == NULL ? rest->len : (size_t)(colon - rest->at);
    struct slice part = slice_of(rest->at, len);
    size_t skip = colon == NULL ? len : len + 1;

    *rest = slice_of(rest->at + skip, rest->len - skip);
    return part;
}

static bool next_number(struct slice *rest, uint64_t max, uint64_t *out)
{
    return text_decimal(next_part(rest), out) && *out > 0 && *out <= max;
}

bool receipt_parse(const char *text, struct receipt *out)
{
    struct slice rest = slice_text(text);
    struct slice topic = next_part(&rest);
    struct receipt r = { 0 };
    uint64_t segment;
    uint64_t offset;
    uint8_t sum[CHECKSUM_LEN];

    if (!name_valid(topic) || !next_number(&rest, UINT64_MAX, &r.seq)
        || !next_number(&rest, UINT64_MAX - r.seq + 1, &r.count)
        || !next_number(&rest, UINT32_MAX, &segment)
        || !next_number(&rest, UINT32_MAX, &offset)
        || !text_hex(rest, sum, sizeof sum)) {
        return false;
    }
    memcpy(r.topic, topic.at, topic.len);
    r.segment = (uint32_t)segment;
    r.offset = (uint32_t)offset;
    for (size_t i = 0; i < sizeof sum; i++) {
        r.checksum = r.checksum << 8 | sum[i];
    }
    *out = r;
    return true;
}
