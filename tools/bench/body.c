#include "tools/bench/body.h"

#include <stdlib.h>
#include <string.h>

char *body_new(size_t size)
{
    char *body = malloc(size);
    uint64_t random = 88172645463325252U;

    for (size_t i = 0; body != NULL && i < size; i++) {
        random ^= random << 13; /* xorshift: cheap and the same each time */
        random ^= random >> 7;
        random ^= random << 17;
        body[i] = (char)('a' + random % 26);
    }
    return body;
}

/* Half bytes of 32 bits, one a byte. */
static uint64_t spread(uint64_t x)
{
    x = (x | x << 16) & 0x0000FFFF0000FFFFU;
    x = (x | x << 8) & 0x00FF00FF00FF00FFU;
    return (x | x << 4) & 0x0F0F0F0F0F0F0F0FU;
}

static uint64_t gather_nibbles(uint64_t x)
{
    x = (x | x >> 4) & 0x00FF00FF00FF00FFU;
    x = (x | x >> 8) & 0x0000FFFF0000FFFFU;
    return (x | x >> 16) & 0xFFFFFFFFU;
}

void body_set_time(char *body, uint64_t ns)
{
    static const uint64_t letters = 0x6161616161616161U; /* "aaaaaaaa" */
    uint64_t low = spread(ns & 0xFFFFFFFFU) + letters;
    uint64_t high = spread(ns >> 32) + letters;

    memcpy(body, &low, sizeof low);
    memcpy(body + sizeof low, &high, sizeof high);
}

uint64_t body_time(const void *body, size_t len)
{
    static const uint64_t letters = 0x6161616161616161U;
    uint64_t low;
    uint64_t high;

    if (len < BODY_TIME_LEN) {
        return 0;
    }
    memcpy(&low, body, sizeof low);
    memcpy(&high, (const char *)body + sizeof low, sizeof high);
    return gather_nibbles(low - letters) | gather_nibbles(high - letters) << 32;
}
