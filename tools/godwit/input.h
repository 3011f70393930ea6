/* Messages out of a file or a pipe: one a line, one a CSV row, or one JSON
 * document a line. The body is always the bytes as they stand in the input,
 * without the line end (LF or CR LF). */
#ifndef GODWIT_TOOLS_INPUT_H
#define GODWIT_TOOLS_INPUT_H

#include "proto/bytes.h"
#include "proto/error.h"
#include "proto/limits.h"

enum input_format { INPUT_LINES, INPUT_CSV, INPUT_JSON };

struct input;

/* What a CSV column or a member of a JSON document may be to its message,
 * besides a part of the body. */
enum input_part {
    INPUT_KEY,
    INPUT_TAG,
    INPUT_ID,
    INPUT_HEADER /* the first header; the others follow */
};
enum { INPUT_PARTS = INPUT_HEADER + HEADER_COUNT_MAX };

/* The columns' or members' names; NULL: there is none. */
struct input_fields {
    const char *name[INPUT_PARTS];
};

struct input_message {
    struct slice body;
    const char *part[INPUT_PARTS]; /* end with NUL; NULL: none */
    uint64_t line;                 /* where it began, from 1 */
};

/* Read from `fd`, which stays the caller's; `stop_fd` (or -1) makes a waiting
 * read give up as soon as it is readable. The names are kept, not copied.
 * STATUS_NOMEM. The caller ends it with input_close(). */
MUST_CHECK enum status input_open(struct input **out, int fd, int stop_fd,
                                  enum input_format format,
                                  const struct input_fields *fields);
void input_close(struct input *input); /* accepts NULL */

/* The next message, valid until the next call.
 * STATUS_CLOSED: the end of the input. STATUS_AGAIN: stop_fd spoke.
 * STATUS_INVALID: this one is no message (err says why); the next call goes on
 * behind it. STATUS_CORRUPT, STATUS_TOO_LARGE, STATUS_IO, STATUS_NOMEM: reading
 * cannot go on (err says why). */
MUST_CHECK enum status input_next(struct input *input,
                                  struct input_message *out, struct error *err);

/* STATUS_INVALID: no such format. */
MUST_CHECK enum status input_format_of(const char *name,
                                       enum input_format *out);

#endif
