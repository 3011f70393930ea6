/* Is this valid UTF-8 (RFC 3629: no overlong forms, no surrogates, at most
 * U+10FFFF)? NUL is valid here; callers that forbid it look for it. */
#ifndef GODWIT_PROTO_UTF8_H
#define GODWIT_PROTO_UTF8_H

#include "proto/bytes.h"

bool utf8_valid(struct slice text);

#endif
