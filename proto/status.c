#include "proto/status.h"

#include <string.h>

const char *status_word(enum status status)
{
    switch (status) {
#define X(name, number, word, text)                                            \
    case name:                                                                 \
        return word;
        STATUS_MAP(X)
#undef X
    }
    return "unknown";
}

const char *status_text(enum status status)
{
    switch (status) {
#define X(name, number, word, text)                                            \
    case name:                                                                 \
        return text;
        STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

enum status status_from_number(unsigned number)
{
    return number < STATUS_COUNT ? (enum status)number : STATUS_INTERNAL;
}

enum status status_from_word(const char *word, size_t len,
                             enum status otherwise)
{
    for (unsigned i = STATUS_OK + 1; i < STATUS_COUNT; i++) {
        const char *known = status_word((enum status)i);

        if (strlen(known) == len && memcmp(known, word, len) == 0) {
            return (enum status)i;
        }
    }
    return otherwise;
}
