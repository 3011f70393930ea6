#include "tools/godwit/csv.h"

/* The state after one more byte. False: it cannot stand here. */
static bool step(enum csv_state *state, uint8_t byte)
{
    switch (*state) {
    case CSV_FIELD_START:
    case CSV_UNQUOTED:
        if (byte == ',') {
            *state = CSV_FIELD_START;
        } else if (byte == '"' && *state == CSV_FIELD_START) {
            *state = CSV_QUOTED;
        } else {
            *state = CSV_UNQUOTED;
        }
        return true;
    case CSV_QUOTED:
        if (byte == '"') {
            *state = CSV_QUOTE_SEEN;
        }
        return true;
    case CSV_QUOTE_SEEN:
        if (byte == '"') {
            *state = CSV_QUOTED;
        } else if (byte == ',') {
            *state = CSV_FIELD_START;
        } else {
            return byte == '\r'; /* of the line end */
        }
        return true;
    }
    return false;
}

enum status csv_record_find(struct csv_scan *scan, struct slice text,
                            size_t *len, size_t *next)
{
    for (size_t at = scan->at; at < text.len; at++) {
        if (text.at[at] == '\n' && scan->state != CSV_QUOTED) {
            *len = at > 0 && text.at[at - 1] == '\r' ? at - 1 : at;
            *next = at + 1;
            return STATUS_OK;
        }
        if (!step(&scan->state, text.at[at])) {
            return STATUS_INVALID;
        }
        scan->newlines += text.at[at] == '\n';
    }
    scan->at = text.len;
    return STATUS_AGAIN;
}

bool csv_scan_closed(const struct csv_scan *scan)
{
    return scan->state != CSV_QUOTED;
}

/* Does this byte belong to the field's value, rather than to its quoting? */
static bool is_value(enum csv_state before, enum csv_state after)
{
    switch (after) {
    case CSV_UNQUOTED:
        return true;
    case CSV_QUOTED: /* not the quote that opens; the second of "" is */
        return before == CSV_QUOTED || before == CSV_QUOTE_SEEN;
    case CSV_FIELD_START:
    case CSV_QUOTE_SEEN:
        break;
    }
    return false;
}

enum status csv_field(struct slice record, size_t index, struct bytes *out)
{
    enum csv_state state = CSV_FIELD_START;
    size_t field = 0;

    bytes_consume(out, bytes_len(out));
    for (size_t at = 0; at < record.len && field <= index; at++) {
        enum csv_state before = state;

        if (!step(&state, record.at[at])) {
            break;
        }
        if (state == CSV_FIELD_START) { /* a comma */
            field++;
        } else if (field == index && is_value(before, state)) {
            enum status status = bytes_append(out, &record.at[at], 1);

            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return field >= index ? STATUS_OK : STATUS_NOT_FOUND;
}
