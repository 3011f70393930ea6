#include "proto/status.h"

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
