#include "broker/delivery/gate.h"

const char *gate_word(enum gate gate)
{
    switch (gate) {
#define X(name, word, releases)                                                \
    case name:                                                                 \
        return word;
        GATE_MAP(X)
#undef X
    }
    return "unknown";
}

const char *gate_releases(enum gate gate)
{
    switch (gate) {
#define X(name, word, releases)                                                \
    case name:                                                                 \
        return releases;
        /* Some say the same. */
        GATE_MAP(X) /* NOLINT(bugprone-branch-clone) */
#undef X
    }
    return "unknown";
}
