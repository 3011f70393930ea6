/* Every outcome a call can have: one list for the store, the broker, the wire
 * and the client, so that nothing is translated on the way. The numbers are on
 * the wire and never change. Any thread. */
#ifndef GODWIT_PROTO_STATUS_H
#define GODWIT_PROTO_STATUS_H

#include <stddef.h>

#define STATUS_MAP(X)                                                          \
    X(STATUS_OK, 0, "ok", "done")                                              \
    X(STATUS_AGAIN, 1, "again", "at its bound, try again later")               \
    X(STATUS_NOMEM, 2, "no_memory", "out of memory")                           \
    X(STATUS_INVALID, 3, "invalid", "malformed or out of range")               \
    X(STATUS_TOO_LARGE, 4, "too_large", "larger than its limit")               \
    X(STATUS_NOT_FOUND, 5, "not_found", "no such thing")                       \
    X(STATUS_EXISTS, 6, "exists", "exists already")                            \
    X(STATUS_UNAUTHENTICATED, 7, "unauthenticated", "not authenticated")       \
    X(STATUS_FORBIDDEN, 8, "forbidden", "not granted to this app")             \
    X(STATUS_CORRUPT, 9, "corrupt", "stored data is damaged")                  \
    X(STATUS_IO, 10, "io", "disk or socket operation failed")                  \
    X(STATUS_FROZEN, 11, "frozen", "the store is frozen after an I/O error")   \
    X(STATUS_NO_SPACE, 12, "no_space", "no disk space left")                   \
    X(STATUS_CLOSED, 13, "closed", "closed, or not open yet")                  \
    X(STATUS_TIMEOUT, 14, "timeout", "its time ran out")                       \
    X(STATUS_NEWER, 15, "newer", "written by a newer version")                 \
    X(STATUS_UNSUPPORTED, 16, "unsupported", "not offered here")               \
    X(STATUS_BUSY, 17, "busy", "in use by somebody else")                      \
    X(STATUS_INTERNAL, 18, "internal", "a fault of the program itself")

enum status {
#define X(name, number, word, text) name = number,
    STATUS_MAP(X)
#undef X
};
enum { STATUS_COUNT = STATUS_INTERNAL + 1 };

/* The word used on the wire, in JSON and in logs, such as "too_large". For a
 * number that is no status: "unknown". */
const char *status_word(enum status status);

/* One plain sentence part for people. */
const char *status_text(enum status status);

/* The status of a number from the wire; STATUS_INTERNAL when there is none. */
enum status status_from_number(unsigned number);

/* The failure that the `len` bytes at `word` name; `otherwise` when they name
 * none ("ok" is no failure). */
enum status status_from_word(const char *word, size_t len,
                             enum status otherwise);

#endif
