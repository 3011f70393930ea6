/* The text form of a receipt, as `godwit pub --receipts` prints it and
 * `godwit verify --receipt` takes it:
 *
 *   TOPIC:SEQ:COUNT:SEGMENT:OFFSET:CHECKSUM
 *
 * Messages SEQ..SEQ+COUNT-1 of TOPIC; the record of the first one was written
 * at OFFSET in SEGMENT; CHECKSUM, 16 hexadecimal digits, is record_receipt()
 * folded over the hashes of all of them in order. The other numbers are
 * decimal. Pure. */
#ifndef GODWIT_TOOLS_RECEIPT_H
#define GODWIT_TOOLS_RECEIPT_H

#include "proto/bytes.h"
#include "proto/limits.h"

enum {
    RECEIPT_TEXT_MAX = NAME_LEN_MAX + 5 + 2 * 20 + 2 * 10 + 16,
    RECEIPT_TEXT_LEN = RECEIPT_TEXT_MAX + 1 /* with the NUL */
};

struct receipt {
    char topic[NAME_LEN_MAX + 1];
    uint64_t seq;   /* from 1 */
    uint64_t count; /* from 1 */
    uint32_t segment;
    uint32_t offset;
    uint64_t checksum;
};

/* Writes into `text` and returns it. */
char *receipt_print(char text[RECEIPT_TEXT_LEN], const struct receipt *receipt);

/* False, and *out as it was: not a receipt. */
bool receipt_parse(const char *text, struct receipt *out);

#endif
