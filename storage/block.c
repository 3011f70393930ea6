#include "storage/block.h"

#include "proto/bytes.h"
#include "storage/checksum.h"

void block_close(uint8_t *block)
{
    put_u64(block + BLOCK_FIELDS_LEN, checksum(block, BLOCK_FIELDS_LEN));
    memcpy(block + BLOCK_HALF_LEN, block, BLOCK_HALF_LEN);
}

static bool half_is_good(const uint8_t *half)
{
    return get_u64(half + BLOCK_FIELDS_LEN) == checksum(half, BLOCK_FIELDS_LEN);
}

const uint8_t *block_read(const uint8_t *block, bool *damaged)
{
    bool first = half_is_good(block);
    bool second = half_is_good(block + BLOCK_HALF_LEN);

    *damaged = !first || !second;
    if (first) {
        return block;
    }
    return second ? block + BLOCK_HALF_LEN : NULL;
}
