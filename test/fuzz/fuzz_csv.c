/* links: godwit_tool godwit_proto */
/* CSV records and their fields: the same records whether the bytes come at once
 * or in pieces, and never more bytes in a field than in its record. */
#include "tools/godwit/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

static void check_fields(struct slice record, struct bytes *field)
{
    for (size_t index = 0; index < 8; index++) {
        enum status status = csv_field(record, index, field);

        if (status == STATUS_NOT_FOUND) {
            return;
        }
        CHECK(status == STATUS_OK);
        CHECK(bytes_len(field) <= record.len);
    }
}

/* The same record found when the text grows byte by byte. */
static void check_in_pieces(struct slice text, enum status want, size_t len,
                            size_t next)
{
    struct csv_scan scan = { 0 };
    enum status status = STATUS_AGAIN;
    size_t found_len = 0;
    size_t found_next = 0;

    for (size_t have = 0; have <= text.len && status == STATUS_AGAIN; have++) {
        status = csv_record_find(&scan, slice_of(text.at, have), &found_len,
                                 &found_next);
    }
    CHECK(status == want);
    CHECK(status != STATUS_OK || (found_len == len && found_next == next));
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct slice text = slice_of(at, len);
    struct bytes field = { 0 };

    while (text.len > 0) {
        struct csv_scan scan = { 0 };
        size_t record_len = 0;
        size_t next = 0;
        enum status status = csv_record_find(&scan, text, &record_len, &next);

        if (text.len < 4096) {
            check_in_pieces(text, status, record_len, next);
        }
        if (status != STATUS_OK) {
            break;
        }
        CHECK(record_len <= next && next <= text.len && next > 0);
        check_fields(slice_of(text.at, record_len), &field);
        text = slice_of(text.at + next, text.len - next);
    }
    bytes_fini(&field);
    return 0;
}
