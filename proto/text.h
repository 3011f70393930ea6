/* Numbers and blanks in text from the wire. Pure. */
#ifndef GODWIT_PROTO_TEXT_H
#define GODWIT_PROTO_TEXT_H

#include "proto/bytes.h"

enum { DECIMAL_LEN_MAX = 20 }; /* digits of 64 bits */

/* Digits alone, at least one and at most DECIMAL_LEN_MAX. False, and *out as it
 * was: something else, or more than 64 bits hold. */
bool text_decimal(struct slice text, uint64_t *out);

/* The two hexadecimal digits at `at`, of either case. False: they are none. */
bool text_hex_pair(const uint8_t *at, uint8_t *out);

/* 2 * len hexadecimal digits and no more. False: they are not. */
bool text_hex(struct slice text, uint8_t *out, size_t len);

/* Without the spaces and tabs around it. */
struct slice text_trim(struct slice text);

#endif
