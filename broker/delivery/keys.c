#include "broker/delivery/keys.h"

#include <stdlib.h>

struct key {
    uint64_t hash;
    uint64_t owner; /* 0: nobody */
    struct seqheap waiting;
    struct link woken;
};

enum { POPS_MAX = 1024 /* one by one, of one key when a lane is trimmed */ };

/* With its places in the two tables. */
enum { KEY_SIZE = sizeof(struct key) + 4 * sizeof(struct hash_slot) };

/* ---- the budget ---- */

static bool has_room(const struct key_account *account, size_t bytes)
{
    size_t left = account->budget->max - account->budget->used;

    return account->budget->used <= account->budget->max && bytes <= left
           && account->used + bytes <= left;
}

static void charge(struct keys *keys, size_t bytes)
{
    keys->account->used += bytes;
    keys->account->budget->used += bytes;
}

static void discharge(struct keys *keys, size_t bytes)
{
    CHECK(keys->account->used >= bytes);
    keys->account->used -= bytes;
    keys->account->budget->used -= bytes;
}

/* ---- making and ending ---- */

struct keys *keys_new(struct key_account *account)
{
    struct keys *keys = calloc(1, sizeof *keys);

    if (keys != NULL) {
        keys->account = account;
        link_init(&keys->woken);
    }
    return keys;
}

static void key_free(struct keys *keys, struct key *key)
{
    discharge(keys, KEY_SIZE + key->waiting.count * sizeof(uint64_t));
    link_remove(&key->woken);
    seqheap_fini(&key->waiting);
    free(key);
}

bool keys_free_some(struct keys *keys, size_t *budget)
{
    while (keys->freed_to < keys->by_hash.len) {
        struct key *key;

        if (budget != NULL && *budget == 0) {
            return false;
        }
        key = hash_next(&keys->by_hash, &keys->freed_to);
        if (key != NULL) {
            key_free(keys, key);
        }
        if (budget != NULL) {
            --*budget;
        }
    }
    return true;
}

void keys_free(struct keys *keys)
{
    if (keys == NULL) {
        return;
    }
    CHECK(keys_free_some(keys, NULL));
    hash_fini(&keys->by_hash);
    hash_fini(&keys->by_owner);
    free(keys);
}

static struct key *find(const struct keys *keys, uint64_t hash)
{
    return hash_get(&keys->by_hash, hash, 0);
}

static enum status add(struct keys *keys, uint64_t hash, struct key **out)
{
    enum status status = hash_reserve(&keys->by_hash);
    struct key *key;

    if (status != STATUS_OK) {
        return status;
    }
    key = calloc(1, sizeof *key);
    if (key == NULL) {
        return STATUS_NOMEM;
    }
    key->hash = hash;
    link_init(&key->woken);
    hash_put(&keys->by_hash, hash, 0, key);
    charge(keys, KEY_SIZE);
    *out = key;
    return STATUS_OK;
}

/* Nobody's, with somebody waiting: woken. With nobody: gone. */
static void settle_down(struct keys *keys, struct key *key)
{
    if (key->owner != 0) {
        link_remove(&key->woken);
    } else if (key->waiting.count > 0) {
        list_append(&keys->woken, &key->woken);
    } else {
        hash_remove(&keys->by_hash, key->hash, 0);
        key_free(keys, key);
    }
}

/* ---- having and waiting ---- */

enum status keys_reserve(struct keys *keys, uint64_t hash, uint64_t seq)
{
    struct key *key = find(keys, hash);
    bool is_free = keys_is_free(keys, hash, seq);
    size_t bytes = key == NULL ? KEY_SIZE : is_free ? 0 : sizeof(uint64_t);

    if (bytes > 0 && !has_room(keys->account, bytes)) {
        return STATUS_AGAIN;
    }
    if (hash_reserve(&keys->by_owner) != STATUS_OK) {
        return STATUS_NOMEM;
    }
    if (key == NULL) {
        return add(keys, hash, &key);
    }
    return is_free ? STATUS_OK : seqheap_reserve(&key->waiting);
}

bool keys_is_free(const struct keys *keys, uint64_t hash, uint64_t seq)
{
    const struct key *key = find(keys, hash);

    if (key == NULL || key->owner == seq) {
        return true;
    }
    return key->owner == 0
           && (key->waiting.count == 0 || seqheap_first(&key->waiting) >= seq);
}

static void pop(struct keys *keys, struct key *key)
{
    seqheap_pop(&key->waiting);
    discharge(keys, sizeof(uint64_t));
}

void keys_claim(struct keys *keys, uint64_t hash, uint64_t seq)
{
    struct key *key = find(keys, hash);

    CHECK(key != NULL && (key->owner == 0 || key->owner == seq));
    if (key->owner == 0) {
        key->owner = seq;
        hash_put(&keys->by_owner, seq, 0, key);
    }
    while (key->waiting.count > 0 && seqheap_first(&key->waiting) == seq) {
        pop(keys, key);
    }
    settle_down(keys, key);
}

void keys_wait(struct keys *keys, uint64_t hash, uint64_t seq)
{
    struct key *key = find(keys, hash);

    CHECK(key != NULL && key->owner != seq);
    seqheap_push(&key->waiting, seq);
    charge(keys, sizeof(uint64_t));
    settle_down(keys, key);
}

void keys_tidy(struct keys *keys, uint64_t hash)
{
    struct key *key = find(keys, hash);

    if (key != NULL) {
        settle_down(keys, key);
    }
}

bool keys_leave(struct keys *keys, uint64_t seq)
{
    struct key *key = hash_get(&keys->by_owner, seq, 0);
    bool woken;

    if (key == NULL) {
        return false;
    }
    hash_remove(&keys->by_owner, seq, 0);
    key->owner = 0;
    woken = key->waiting.count > 0;
    settle_down(keys, key);
    return woken;
}

static struct key *first_woken(const struct keys *keys)
{
    struct link *first = list_first(&keys->woken);

    return first == NULL ? NULL : container_of(first, struct key, woken);
}

uint64_t keys_woken(const struct keys *keys)
{
    const struct key *key = first_woken(keys);

    return key == NULL ? 0 : seqheap_first(&key->waiting);
}

void keys_pop_woken(struct keys *keys)
{
    struct key *key = first_woken(keys);

    CHECK(key != NULL);
    pop(keys, key);
    settle_down(keys, key);
}

void keys_drop_gone(struct keys *keys, uint64_t hash,
                    bool (*waits)(void *arg, uint64_t seq), void *arg)
{
    struct key *key = find(keys, hash);

    if (key == NULL || key->owner != 0) {
        return;
    }
    while (key->waiting.count > 0
           && !waits(arg, seqheap_first(&key->waiting))) {
        pop(keys, key);
    }
    settle_down(keys, key);
}

/* A few one by one, more than that all at once. */
static void drop_below(struct keys *keys, struct key *key, uint64_t first)
{
    size_t before;

    for (size_t i = 0; i < POPS_MAX && key->waiting.count > 0
                       && seqheap_first(&key->waiting) < first;
         i++) {
        pop(keys, key);
    }
    before = key->waiting.count;
    if (before > 0 && seqheap_first(&key->waiting) < first) {
        seqheap_drop_below(&key->waiting, first);
        discharge(keys, (before - key->waiting.count) * sizeof(uint64_t));
    }
}

void keys_trim(struct keys *keys, uint64_t first)
{
    size_t at = 0;
    struct key *key;

    while ((key = hash_next(&keys->by_hash, &at)) != NULL) {
        drop_below(keys, key, first);
    }
    for (struct link *link = keys->woken.next; link != &keys->woken;) {
        key = container_of(link, struct key, woken);
        link = link->next;
        settle_down(keys, key);
    }
}

/* ---- to look at ---- */

uint64_t keys_owner(const struct keys *keys, uint64_t hash)
{
    const struct key *key = find(keys, hash);

    return key == NULL ? 0 : key->owner;
}

size_t keys_count(const struct keys *keys,
                  bool (*counts)(void *arg, uint64_t seq), void *arg)
{
    size_t at = 0;
    size_t count = 0;
    const struct key *key;

    while ((key = hash_next(&keys->by_hash, &at)) != NULL) {
        for (size_t i = 0; i < key->waiting.count; i++) {
            count += counts(arg, key->waiting.items[i]);
        }
    }
    return count;
}
