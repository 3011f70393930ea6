/* CHECK() is for what only a bug can break. It stays on in release, prints the
 * place and aborts. Bytes from a peer or a disk are never CHECKed. */
#ifndef GODWIT_PROTO_CHECK_H
#define GODWIT_PROTO_CHECK_H

#include <stddef.h>

_Noreturn void check_failed(const char *condition, const char *file, int line);

#define CHECK(condition)                                                       \
    ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))

/* A status nobody may drop. */
#define MUST_CHECK __attribute__((warn_unused_result))

#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define container_of(pointer, type, member)                                    \
    ((type *)((char *)(pointer)-offsetof(type, member)))

#endif
