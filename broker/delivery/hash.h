/* A hash from two numbers to a pointer, for the lanes, members and keys
 * of a group. Open addressing, linear probing, no tombstones.
 * Zero-initialised is empty. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_HASH_H
#define GODWIT_BROKER_DELIVERY_HASH_H

#include "proto/check.h"
#include "proto/status.h"

#include <stddef.h>
#include <stdint.h>

/* Spread all bits of a number over all bits (the finaliser of splitmix64). */
static inline uint64_t hash_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline uint64_t hash_pair(uint64_t a, uint64_t b)
{
    return hash_mix(a * UINT64_C(0x9e3779b97f4a7c15) + b);
}

struct hash_slot {
    uint64_t a;
    uint64_t b;
    void *value; /* NULL: empty */
};

struct hash {
    struct hash_slot *slots;
    size_t len; /* power of two, or 0 */
    size_t count;
};

void hash_fini(struct hash *hash); /* the values are the caller's */
void *hash_get(const struct hash *hash, uint64_t a, uint64_t b); /* or NULL */
/* Room for one more put, which then cannot fail. STATUS_NOMEM. */
MUST_CHECK enum status hash_reserve(struct hash *hash);
/* The key must not be in it. */
void hash_put(struct hash *hash, uint64_t a, uint64_t b, void *value);
void hash_remove(struct hash *hash, uint64_t a, uint64_t b); /* must be in it */
/* Walk: *at from 0; NULL at the end. Nothing may be put or removed meanwhile. */
void *hash_next(const struct hash *hash, size_t *at);

#endif
