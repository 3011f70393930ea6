/* CSV as RFC 4180 has it: fields between commas, quoted ones may hold commas,
 * line ends and doubled quotes. A quote inside an unquoted field is text. */
#ifndef GODWIT_TOOLS_CSV_H
#define GODWIT_TOOLS_CSV_H

#include "proto/bytes.h"

/*               "                    "
 * FIELD_START ----> QUOTED <--------------> QUOTE_SEEN
 *    |  ^                                      |
 *    v  '-- , ---------------------------------'
 * UNQUOTED
 */
enum csv_state {
    CSV_FIELD_START,
    CSV_UNQUOTED,
    CSV_QUOTED,
    CSV_QUOTE_SEEN /* the end of the field, or the first half of "" */
};

/* How far a record was looked through; lets the search go on where it stopped
 * when more bytes have come. Zero-initialised: at the start of a record. */
struct csv_scan {
    size_t at;
    enum csv_state state;
    uint64_t newlines; /* inside quotes so far */
};

/* Look for the end of the record that begins at text.at. STATUS_OK: *len is its
 * length without the line end, *next where the next one begins. STATUS_AGAIN:
 * it is not in `text`. STATUS_INVALID: text behind a closing quote. */
MUST_CHECK enum status csv_record_find(struct csv_scan *scan, struct slice text,
                                       size_t *len, size_t *next);

/* The end of the input closes the record: is it whole? (No quote is open.) */
bool csv_scan_closed(const struct csv_scan *scan);

/* Put field `index` of a record into `out` (emptied first), quotes removed.
 * STATUS_NOT_FOUND: the record has fewer fields. STATUS_NOMEM. */
MUST_CHECK enum status csv_field(struct slice record, size_t index,
                                 struct bytes *out);

#endif
