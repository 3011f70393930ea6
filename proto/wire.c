#include "proto/wire.h"

const char *outcome_word(enum settle_outcome outcome)
{
    switch (outcome) {
    case OUTCOME_ACCEPTED:
        return "accepted";
    case OUTCOME_LATE:
        return "late";
    case OUTCOME_UNKNOWN:
        break;
    }
    return "unknown";
}
