#include "broker/delivery/hash.h"

#include <stdlib.h>

enum { HASH_LEN_MIN = 16 };

void hash_fini(struct hash *hash)
{
    free(hash->slots);
    *hash = (struct hash) { 0 };
}

/* Where the key is, or the empty slot where it would be. */
static size_t find(const struct hash *hash, uint64_t a, uint64_t b)
{
    size_t mask = hash->len - 1;
    size_t at = (size_t)hash_pair(a, b) & mask;

    while (hash->slots[at].value != NULL
           && (hash->slots[at].a != a || hash->slots[at].b != b)) {
        at = (at + 1) & mask;
    }
    return at;
}

void *hash_get(const struct hash *hash, uint64_t a, uint64_t b)
{
    return hash->count == 0 ? NULL : hash->slots[find(hash, a, b)].value;
}

enum status hash_reserve(struct hash *hash)
{
    struct hash grown = { .len = hash->len * 2, .count = hash->count };

    if (hash->count < hash->len / 4 * 3) {
        return STATUS_OK;
    }
    grown.len = grown.len == 0 ? HASH_LEN_MIN : grown.len;
    grown.slots = calloc(grown.len, sizeof *grown.slots);
    if (grown.slots == NULL) {
        return STATUS_NOMEM;
    }
    for (size_t i = 0; i < hash->len; i++) {
        const struct hash_slot *slot = &hash->slots[i];
        if (slot->value != NULL) {
            grown.slots[find(&grown, slot->a, slot->b)] = *slot;
        }
    }
    free(hash->slots);
    *hash = grown;
    return STATUS_OK;
}

void hash_put(struct hash *hash, uint64_t a, uint64_t b, void *value)
{
    size_t at;

    CHECK(value != NULL && hash->count < hash->len / 4 * 3);
    at = find(hash, a, b);
    CHECK(hash->slots[at].value == NULL);
    hash->slots[at] = (struct hash_slot) { a, b, value };
    hash->count++;
}

void hash_remove(struct hash *hash, uint64_t a, uint64_t b)
{
    size_t mask = hash->len - 1;
    size_t hole;

    CHECK(hash->count > 0);
    hole = find(hash, a, b);
    CHECK(hash->slots[hole].value != NULL);
    /* Move back what probed past the hole, so that no probe ends too early. */
    for (size_t at = (hole + 1) & mask; hash->slots[at].value != NULL;
         at = (at + 1) & mask) {
        const struct hash_slot *slot = &hash->slots[at];
        size_t home = (size_t)hash_pair(slot->a, slot->b) & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            hash->slots[hole] = *slot;
            hole = at;
        }
    }
    hash->slots[hole].value = NULL;
    hash->count--;
}

void *hash_next(const struct hash *hash, size_t *at)
{
    while (*at < hash->len) {
        void *value = hash->slots[(*at)++].value;
        if (value != NULL) {
            return value;
        }
    }
    return NULL;
}
