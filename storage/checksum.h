/* The one checksum of everything on disk: XXH3, 64 bits. checksum.c is the only
 * file of storage/ that includes xxHash. Pure, any thread. */
#ifndef GODWIT_STORAGE_CHECKSUM_H
#define GODWIT_STORAGE_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t checksum(const void *at, size_t len);

/* A seed ties the bytes to one store: what another store wrote never passes. */
uint64_t checksum_seeded(const void *at, size_t len, uint64_t seed);

/* checksum_seeded() of numbers one behind the other, 8 bytes little-endian
 * each, without having them in one place: next() gives them until false. */
uint64_t checksum_numbers(bool (*next)(void *arg, uint64_t *number), void *arg,
                          uint64_t seed);

#endif
