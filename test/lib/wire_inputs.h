/* Made-up values for the codec's tests: the same for the same seed. */
#ifndef GODWIT_TEST_LIB_WIRE_INPUTS_H
#define GODWIT_TEST_LIB_WIRE_INPUTS_H

#include "proto/bytes.h"

#include <stdlib.h>

struct inputs {
    uint64_t state;
    uint8_t pool[65536]; /* texts and bodies are cut from these */
    uint8_t names[4096];
};

static inline uint64_t input_next(struct inputs *in)
{
    uint64_t z = in->state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline size_t input_below(struct inputs *in, size_t bound)
{
    return (size_t)(input_next(in) % bound);
}

static inline struct inputs *inputs_new(uint64_t seed)
{
    struct inputs *in = malloc(sizeof *in);

    in->state = seed;
    for (size_t i = 0; i < sizeof in->pool; i++) {
        in->pool[i] = (uint8_t)input_next(in);
    }
    for (size_t i = 0; i < sizeof in->names; i++) {
        in->names[i] =
            (uint8_t)("abcdefghijklmnopqrstuvwxyz.-_0"[input_below(in, 30)]);
    }
    return in;
}

/* Any number of bits, so that each length of varint comes up. */
static inline uint64_t input_u64(struct inputs *in)
{
    size_t bits = input_below(in, 65);

    return bits == 0 ? 0 : input_next(in) >> (64 - bits);
}

static inline uint32_t input_u32(struct inputs *in)
{
    return (uint32_t)(input_next(in) >> (32 + input_below(in, 32)));
}

/* ASCII, from 0 to len_max bytes; empty now and then. */
static inline struct slice input_name(struct inputs *in, size_t len_max)
{
    size_t len = input_below(in, 4) == 0 ? 0 : input_below(in, len_max + 1);

    return slice_of(in->names + input_below(in, sizeof in->names - len_max),
                    len);
}

/* Any bytes; mostly short, sometimes more than one byte of length says. */
static inline struct slice input_body(struct inputs *in)
{
    size_t len = input_below(in, input_below(in, 4) == 0 ? 20000 : 200);

    return slice_of(in->pool + input_below(in, sizeof in->pool - len), len);
}

/* A copy that ends where the heap block ends, so that a read past the end is
 * seen by the sanitizer. The caller frees it. */
static inline uint8_t *heap_copy(const void *from, size_t len)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);

    if (len > 0) {
        memcpy(copy, from, len);
    }
    return copy;
}

#endif
