#include "tools/godwit/input.h"

#include "proto/limits.h"
#include "tools/godwit/csv.h"
#include "tools/godwit/json.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

/* Room for the longest body, its line end, and a read behind it. */
enum { READ_LEN = 64 * 1024, BUFFER_LEN_MAX = BODY_LEN_MAX + 2 * READ_LEN };

struct input {
    int fd;
    int stop_fd;
    enum input_format format;
    struct input_fields fields;
    struct bytes buffer;
    bool at_end;
    size_t used; /* bytes of the message given last, consumed by the next call */
    uint64_t line;      /* where the next record begins, from 1 */
    uint64_t next_line; /* where the one behind it begins */
    bool header_read;
    size_t column[INPUT_PARTS]; /* CSV */
    struct bytes text[INPUT_PARTS];
    char *json_text[INPUT_PARTS];
};

struct part_kind {
    const char *word;
    size_t len_max;
};

static const struct part_kind *kind_of(size_t part)
{
    static const struct part_kind kinds[] = {
        [INPUT_KEY] = { "key", KEY_LEN_MAX },
        [INPUT_TAG] = { "tag", TAG_LEN_MAX },
        [INPUT_ID] = { "id", MESSAGE_ID_LEN_MAX },
        [INPUT_HEADER] = { "header", HEADER_VALUE_LEN_MAX },
    };

    return &kinds[part < INPUT_HEADER ? part : INPUT_HEADER];
}

enum status input_format_of(const char *name, enum input_format *out)
{
    static const char *const names[] = {
        [INPUT_LINES] = "lines", [INPUT_CSV] = "csv", [INPUT_JSON] = "json"
    };

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum input_format)i;
            return STATUS_OK;
        }
    }
    return STATUS_INVALID;
}

enum status input_open(struct input **out, int fd, int stop_fd,
                       enum input_format format,
                       const struct input_fields *fields)
{
    struct input *input = calloc(1, sizeof *input);
    enum status status;

    if (input == NULL) {
        return STATUS_NOMEM;
    }
    input->fd = fd;
    input->stop_fd = stop_fd;
    input->format = format;
    input->fields = *fields;
    input->line = 1;
    input->next_line = 1;
    status = bytes_reserve(&input->buffer, READ_LEN, BUFFER_LEN_MAX);
    for (size_t i = 0; status == STATUS_OK && i < INPUT_PARTS; i++) {
        status = fields->name[i] == NULL
                     ? STATUS_OK
                     : bytes_reserve(&input->text[i], kind_of(i)->len_max,
                                     BODY_LEN_MAX);
    }
    if (status != STATUS_OK) {
        input_close(input);
        return STATUS_NOMEM;
    }
    *out = input;
    return STATUS_OK;
}

void input_close(struct input *input)
{
    if (input == NULL) {
        return;
    }
    bytes_fini(&input->buffer);
    for (size_t i = 0; i < INPUT_PARTS; i++) {
        bytes_fini(&input->text[i]);
        free(input->json_text[i]);
    }
    free(input);
}

/* Wait until there is something to read. STATUS_AGAIN: stop. */
static enum status wait_readable(struct input *input, struct error *err)
{
    struct pollfd fds[2] = { { .fd = input->fd, .events = POLLIN },
                             { .fd = input->stop_fd, .events = POLLIN } };

    while (poll(fds, 2, -1) < 0) {
        if (errno != EINTR) {
            return error_set(err, STATUS_IO, errno, "waiting for input");
        }
    }
    return fds[1].revents != 0 ? STATUS_AGAIN : STATUS_OK;
}

static enum status refill(struct input *input, struct error *err)
{
    enum status status =
        bytes_reserve(&input->buffer, READ_LEN, BUFFER_LEN_MAX);
    ssize_t n;

    if (status == STATUS_OK) {
        status = wait_readable(input, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    do {
        n = read(input->fd, bytes_end(&input->buffer),
                 bytes_room(&input->buffer));
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return error_set(err, STATUS_IO, errno, "reading the input");
    }
    bytes_filled(&input->buffer, (size_t)n);
    input->at_end = n == 0;
    return STATUS_OK;
}

static struct slice buffered(const struct input *input)
{
    return slice_of(bytes_begin(&input->buffer), bytes_len(&input->buffer));
}

/* Lines are records without quoting. */
static enum status line_find(struct csv_scan *scan, struct slice text,
                             size_t *len, size_t *next)
{
    const uint8_t *end = text.len > scan->at ? memchr(text.at + scan->at, '\n',
                                                      text.len - scan->at)
                                             : NULL;

    if (end == NULL) {
        scan->at = text.len;
        return STATUS_AGAIN;
    }
    *len = (size_t)(end - text.at);
    *next = *len + 1;
    *len -= *len > 0 && end[-1] == '\r';
    return STATUS_OK;
}

static enum status stray_text(const struct input *input,
                              const struct csv_scan *scan, struct error *err)
{
    return error_set(err, STATUS_CORRUPT, 0,
                     "line %" PRIu64 ": a quoted field goes on behind its "
                     "closing quote (a quote inside is written twice)",
                     input->line + scan->newlines);
}

/* What is left at the end of the input, without a line end. */
static enum status last_record(const struct input *input,
                               const struct csv_scan *scan, struct slice *out,
                               struct error *err)
{
    struct slice text = buffered(input);

    if (text.len == 0) {
        return STATUS_CLOSED;
    }
    if (!csv_scan_closed(scan)) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "line %" PRIu64 ": a quoted field of this row is "
                         "never closed",
                         input->line);
    }
    text.len -= text.at[text.len - 1] == '\r';
    *out = text;
    return STATUS_OK;
}

/* The next record, without its line end. */
static enum status next_record(struct input *input, struct slice *out,
                               struct error *err)
{
    struct csv_scan scan = { 0 };
    enum status status;

    bytes_consume(&input->buffer, input->used);
    input->used = 0;
    input->line = input->next_line;
    for (;;) {
        size_t len = 0;
        size_t next = 0;

        status = input->format == INPUT_CSV
                     ? csv_record_find(&scan, buffered(input), &len, &next)
                     : line_find(&scan, buffered(input), &len, &next);
        if (status == STATUS_INVALID) {
            return stray_text(input, &scan, err);
        }
        if (status == STATUS_OK) {
            *out = slice_of(bytes_begin(&input->buffer), len);
            input->used = next;
            break;
        }
        if (bytes_len(&input->buffer) > BODY_LEN_MAX + 2) {
            return error_set(err, STATUS_TOO_LARGE, 0,
                             "line %" PRIu64 ": longer than a body may be "
                             "(%d bytes)",
                             input->line, BODY_LEN_MAX);
        }
        if (input->at_end) {
            status = last_record(input, &scan, out, err);
            if (status != STATUS_OK) {
                return status;
            }
            input->used = bytes_len(&input->buffer);
            break;
        }
        status = refill(input, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    input->next_line = input->line + 1 + scan.newlines;
    return STATUS_OK;
}

static enum status no_column(const char *name, struct slice header,
                             struct error *err)
{
    return error_set(err, STATUS_CORRUPT, 0,
                     "the header row has no column \"%s\"; it reads: %.*s",
                     name, (int)(header.len < 200 ? header.len : 200),
                     (const char *)header.at);
}

static enum status find_column(struct input *input, enum input_part part,
                               struct slice header, struct error *err)
{
    const char *name = input->fields.name[part];
    struct bytes *text = &input->text[part];

    for (size_t i = 0;; i++) {
        enum status status = csv_field(header, i, text);

        if (status == STATUS_NOT_FOUND) {
            return no_column(name, header, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (slice_is(slice_of(bytes_begin(text), bytes_len(text)), name)) {
            input->column[part] = i;
            return STATUS_OK;
        }
    }
}

/* Find the parts' columns in the header row. */
static enum status read_header(struct input *input, struct error *err)
{
    struct slice header = { 0 };
    enum status status = next_record(input, &header, err);

    if (status != STATUS_OK) {
        return status;
    }
    input->header_read = true;
    if (header.len >= 3 && memcmp(header.at, "\xEF\xBB\xBF", 3) == 0) {
        header = slice_of(header.at + 3, header.len - 3); /* byte order mark */
    }
    for (unsigned i = 0; status == STATUS_OK && i < INPUT_PARTS; i++) {
        if (input->fields.name[i] != NULL) {
            status = find_column(input, (enum input_part)i, header, err);
        }
    }
    return status;
}

/* They travel as C strings, and the broker has bounds for them. */
static enum status check_part(const struct input *input, enum input_part part,
                              const char *text, size_t len, struct error *err)
{
    const struct part_kind *kind = kind_of(part);
    const char *name = input->fields.name[part];

    if (len > kind->len_max) {
        return error_set(err, STATUS_INVALID, 0,
                         "line %" PRIu64 ": the %s in \"%s\" has %zu bytes; "
                         "allowed are %zu",
                         input->line, kind->word, name, len, kind->len_max);
    }
    if (memchr(text, '\0', len) != NULL) {
        return error_set(err, STATUS_INVALID, 0,
                         "line %" PRIu64 ": the %s in \"%s\" holds a NUL byte",
                         input->line, kind->word, name);
    }
    return STATUS_OK;
}

static enum status csv_part(struct input *input, enum input_part part,
                            struct slice row, const char **out,
                            struct error *err)
{
    struct bytes *text = &input->text[part];
    enum status status = csv_field(row, input->column[part], text);
    size_t len = bytes_len(text);

    if (status == STATUS_NOT_FOUND) {
        return error_set(err, STATUS_INVALID, 0,
                         "line %" PRIu64 ": the row has no column \"%s\"",
                         input->line, input->fields.name[part]);
    }
    if (status == STATUS_OK) {
        status = bytes_append(text, "", 1);
    }
    if (status != STATUS_OK) {
        return status;
    }
    *out = len > 0 ? (const char *)bytes_begin(text) : NULL;
    return check_part(input, part, (const char *)bytes_begin(text), len, err);
}

/* A document without the member, or with null there, has no such header. */
static enum status json_part(struct input *input, enum input_part part,
                             const struct json *document, const char **out,
                             struct error *err)
{
    const char *name = input->fields.name[part];
    const struct json *value = json_get(document, name);

    free(input->json_text[part]);
    input->json_text[part] = json_key_text(value);
    *out = input->json_text[part];
    if (*out == NULL && part >= INPUT_HEADER && json_is_none(value)) {
        return STATUS_OK;
    }
    if (*out == NULL) {
        return error_set(err, STATUS_INVALID, 0,
                         "line %" PRIu64 ": the document has no text or number "
                         "named \"%s\"",
                         input->line, name);
    }
    return check_part(input, part, *out, strlen(*out), err);
}

/* One part of each that has a field. `document` is NULL for CSV. */
static enum status take_each(struct input *input, struct slice record,
                             const struct json *document,
                             struct input_message *out, struct error *err)
{
    enum status status = STATUS_OK;

    for (unsigned i = 0; status == STATUS_OK && i < INPUT_PARTS; i++) {
        enum input_part part = (enum input_part)i;

        if (input->fields.name[part] == NULL) {
            continue;
        }
        status = document == NULL
                     ? csv_part(input, part, record, &out->part[part], err)
                     : json_part(input, part, document, &out->part[part], err);
    }
    return status;
}

/* Check one document, and take its parts. */
static enum status take_json(struct input *input, struct slice text,
                             struct input_message *out, struct error *err)
{
    struct json *document = NULL;
    enum status status = json_parse(text, &document, err);

    if (status != STATUS_OK) {
        return error_prefix(err, status, "line %" PRIu64, input->line);
    }
    status = take_each(input, text, document, out, err);
    json_free(document);
    return status;
}

static enum status take_parts(struct input *input, struct slice record,
                              struct input_message *out, struct error *err)
{
    switch (input->format) {
    case INPUT_JSON:
        return take_json(input, record, out, err);
    case INPUT_CSV:
        return take_each(input, record, NULL, out, err);
    case INPUT_LINES:
        break;
    }
    return STATUS_OK;
}

enum status input_next(struct input *input, struct input_message *out,
                       struct error *err)
{
    struct slice record = { 0 };
    struct input_message message = { .line = 0 };
    enum status status;

    if (input->format == INPUT_CSV && !input->header_read) {
        status = read_header(input, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    do { /* an empty line is a message among lines, nothing elsewhere */
        status = next_record(input, &record, err);
        if (status != STATUS_OK) {
            return status;
        }
    } while (record.len == 0 && input->format != INPUT_LINES);
    if (record.len > BODY_LEN_MAX) {
        return error_set(err, STATUS_INVALID, 0,
                         "line %" PRIu64
                         ": a body of %zu bytes; allowed are %d",
                         input->line, record.len, BODY_LEN_MAX);
    }
    message.body = record;
    message.line = input->line;
    status = take_parts(input, record, &message, err);
    if (status == STATUS_OK) {
        *out = message;
    }
    return status;
}
