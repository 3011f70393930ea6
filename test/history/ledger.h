/* Ledgers as files of lines, and all of them as one stream in order of time.
 * See README.md for the lines. */
#ifndef GODWIT_TEST_HISTORY_LEDGER_H
#define GODWIT_TEST_HISTORY_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FIELD_COUNT_MAX = 14, LEDGER_COUNT_MAX = 65535 };

struct field {
    const char *at;
    size_t len;
};

/* One line. Its fields are lent until the next event is asked for. */
struct event {
    uint64_t us;   /* CLOCK_MONOTONIC of the machine that all clients share */
    uint32_t file; /* from 0 */
    uint32_t line; /* from 1 */
    struct field word;
    struct field fields[FIELD_COUNT_MAX];
    size_t count;
    bool backwards; /* earlier than the line before it in its file */
};

/* False: no number, or past 64 bits. */
bool field_number(const struct field *field, uint64_t *out);
bool field_is(const struct field *field, const char *text);

struct ledgers;

struct ledgers *ledgers_new(void);
void ledgers_free(struct ledgers *ledgers);
/* False with errno: cannot be opened. */
bool ledgers_add_file(struct ledgers *ledgers, const char *path);
/* `text` is borrowed until ledgers_free(). */
void ledgers_add_text(struct ledgers *ledgers, const char *name,
                      const char *text, size_t len);
uint32_t ledgers_count(const struct ledgers *ledgers);
const char *ledgers_name(const struct ledgers *ledgers, uint32_t file);

enum ledgers_next {
    LEDGERS_EVENT,
    LEDGERS_MALFORMED, /* `out` has file and line only */
    LEDGERS_END
};
/* The next event of all. Events of the same microsecond come in the order of
 * the files. */
enum ledgers_next ledgers_next(struct ledgers *ledgers, struct event *out);

#endif
