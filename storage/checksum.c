#include "storage/checksum.h"

#include <xxhash.h>

uint64_t checksum(const void *at, size_t len)
{
    return XXH3_64bits(at, len);
}

uint64_t checksum_seeded(const void *at, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(at, len, seed);
}
