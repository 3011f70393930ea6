/* Included before everything when clang-tidy runs. The analyzer sees one file
 * at a time and does not know that these return the status they are given; with
 * that it no longer follows paths that cannot be. */
#ifndef GODWIT_TEST_CHECKS_ANALYZER_H
#define GODWIT_TEST_CHECKS_ANALYZER_H

#include "proto/error.h"

#ifndef ANALYZE_NO_REFUSAL
#include "proto/refusal.h"
#define refuse(refusal, answer, ...)                                           \
    (__extension__({                                                           \
        enum status given_ = (answer);                                         \
        (void)(refuse)((refusal), given_, __VA_ARGS__);                        \
        given_;                                                                \
    }))
#endif

#define error_set(err, answer, ...)                                            \
    (__extension__({                                                           \
        enum status given_ = (answer);                                         \
        (void)(error_set)((err), given_, __VA_ARGS__);                         \
        given_;                                                                \
    }))
#define error_prefix(err, answer, ...)                                         \
    (__extension__({                                                           \
        enum status given_ = (answer);                                         \
        (void)(error_prefix)((err), given_, __VA_ARGS__);                      \
        given_;                                                                \
    }))

#endif
