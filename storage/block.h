/* A 4096-byte block that stands at the head of a file, written twice over: two
 * halves, each with its own checksum, so that one flipped bit loses nothing. */
#ifndef GODWIT_STORAGE_BLOCK_H
#define GODWIT_STORAGE_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { BLOCK_LEN = 4096, BLOCK_HALF_LEN = 2048, BLOCK_FIELDS_LEN = 2040 };

/* Close a block whose first BLOCK_FIELDS_LEN bytes are filled in. */
void block_close(uint8_t *block);

/* The fields of the first good half, NULL when neither is. *damaged: at least
 * one half is not as it was written. */
const uint8_t *block_read(const uint8_t *block, bool *damaged);

#endif
