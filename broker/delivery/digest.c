#include "broker/delivery/digest.h"

#include "proto/check.h"
#include "proto/limits.h"

#include <string.h>
#include <xxhash.h>

uint64_t digest_key(struct slice key, uint64_t seed)
{
    uint64_t digest = XXH3_64bits_withSeed(key.at, key.len, seed);

    return digest == 0 ? 1 : digest;
}

struct digest_id digest_id(uint32_t topic, struct slice id)
{
    uint8_t text[4 + MESSAGE_ID_LEN_MAX];
    XXH128_hash_t digest;

    CHECK(id.len > 0 && id.len <= MESSAGE_ID_LEN_MAX);
    put_u32(text, topic);
    memcpy(text + 4, id.at, id.len);
    digest = XXH3_128bits(text, 4 + id.len);
    return (struct digest_id) { digest.high64 | 1,
                                (digest.low64 & INT64_MAX) | 1 };
}
