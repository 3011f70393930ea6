#include "storage/checksum.h"

#include "proto/bytes.h"

/* For the state on the stack: no memory is needed to verify. */
#define XXH_STATIC_LINKING_ONLY
#if defined(__x86_64__)
/* By what the processor has: Debian builds the plain form for SSE2 alone, which
 * takes twice the instructions. The result is the same. */
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

enum { NUMBER_LEN = 8, PART_LEN = 256 * NUMBER_LEN };

uint64_t checksum(const void *at, size_t len)
{
    return XXH3_64bits(at, len);
}

uint64_t checksum_seeded(const void *at, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(at, len, seed);
}

uint64_t checksum_numbers(bool (*next)(void *arg, uint64_t *number), void *arg,
                          uint64_t seed)
{
    XXH3_state_t state;
    uint8_t part[PART_LEN];
    uint64_t number;
    size_t len = 0;

    XXH3_INITSTATE(&state);
    (void)XXH3_64bits_reset_withSeed(&state, seed);
    while (next(arg, &number)) {
        put_u64(part + len, number);
        len += NUMBER_LEN;
        if (len == PART_LEN) {
            (void)XXH3_64bits_update(&state, part, len);
            len = 0;
        }
    }
    (void)XXH3_64bits_update(&state, part, len);
    return XXH3_64bits_digest(&state);
}
