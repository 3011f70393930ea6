/* The one checksum of everything on disk: XXH3, 64 bits. checksum.c is the only
 * file of storage/ that includes xxHash. Pure, any thread. */
#ifndef GODWIT_STORAGE_CHECKSUM_H
#define GODWIT_STORAGE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t checksum(const void *at, size_t len);

/* A seed ties the bytes to one store: what another store wrote never passes. */
uint64_t checksum_seeded(const void *at, size_t len, uint64_t seed);

#endif
