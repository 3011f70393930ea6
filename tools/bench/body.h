/* Bodies of messages, and the time that they carry. */
#ifndef GODWIT_BENCH_BODY_H
#define GODWIT_BENCH_BODY_H

#include <stddef.h>
#include <stdint.h>

/* A body of `size` letters that does not compress to nothing. The caller frees
 * it; NULL: out of memory. */
char *body_new(size_t size);

/* The first BODY_TIME_LEN bytes of a body carry a time (monotonic; 0: none) as
 * letters, so that it stays text for the JSON subprotocol. */
enum { BODY_TIME_LEN = 16 };
void body_set_time(char *body,
                   uint64_t ns); /* of BODY_TIME_LEN bytes at least */
uint64_t body_time(const void *body, size_t len); /* of a shorter one: 0 */

#endif
