#include "broker/delivery/inflight_tier.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Entries lie in one mapping as large as the budget allows; its pages exist
 * from their first use on, so it neither moves nor is copied when the number in
 * flight grows. Free entries are a stack: a small working set stays small. The
 * index is open addressing with linear probing over words
 *
 *   high half: upper bits of the key's hash | low half: entry + 1, 0 = empty
 *
 * so that a probe touches an entry only when it is most likely the right one.
 * Where a word belongs follows from its own upper bits: closing a hole and
 * growing read no entry, and growing reads and writes in order.
 *
 * The heap's index begins small and doubles at three quarters full, so that few
 * in flight stay in the caches. The lower tiers are used when there are many:
 * their index lies before their entries, at its full length from the start. */

enum {
    INDEX_BITS_MIN = 4,
    INDEX_BITS_START = 10,
    INDEX_BITS_MAX = 31,
    /* An emptied lower tier gives its memory back if it had so many. */
    RESET_MIN = 65536
};

static size_t index_len(unsigned bits)
{
    return (size_t)1 << bits;
}

/* ---- the budget ---- */

static size_t entries_for(const struct inflight_tier *tier, unsigned bits)
{
    size_t index_bytes = index_len(bits) * sizeof(uint64_t);
    size_t full = index_len(bits) / 4 * 3;
    size_t fit;

    if (tier->kind == TIER_HEAP) {
        /* While it doubles, the old index is there as well. */
        index_bytes = index_bytes / 2 * 3;
    }
    if (tier->bytes_max <= index_bytes) {
        return 0;
    }
    fit = (tier->bytes_max - index_bytes) / sizeof(struct entry);
    return fit < full ? fit : full;
}

/* The largest tier the budget has room for. */
static void plan(struct inflight_tier *tier)
{
    unsigned bits = INDEX_BITS_MIN;

    tier->index_bits_max = bits;
    tier->count_planned = entries_for(tier, bits);
    while (++bits <= INDEX_BITS_MAX
           && entries_for(tier, bits) > tier->count_planned) {
        tier->index_bits_max = bits;
        tier->count_planned = entries_for(tier, bits);
    }
    tier->count_max = tier->count_planned;
}

/* Its length is known; up to where neither it nor the file has to grow. */
static void index_begin(struct inflight_tier *tier)
{
    size_t full = index_len(tier->index_bits) / 4 * 3;

    tier->index_mask = index_len(tier->index_bits) - 1;
    tier->easy_max = full < tier->count_planned ? full : tier->count_planned;
    if (tier->file != NULL) {
        tier->easy_max = 0;
    }
}

static enum status map_memory(struct inflight_tier *tier, size_t len,
                              void **out, struct error *err)
{
    void *base = mmap(NULL, len, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (base == MAP_FAILED) {
        return error_set(err, STATUS_NOMEM, 0, "in-flight table");
    }
    tier->mapped = len;
    *out = base;
    return STATUS_OK;
}

static enum status init_heap(struct inflight_tier *tier, struct error *err)
{
    size_t len = tier->count_planned * sizeof(struct entry);
    void *base = NULL;
    enum status status = map_memory(tier, len, &base, err);

    if (status != STATUS_OK) {
        return status;
    }
    tier->entries = base;
    tier->index_bits = tier->index_bits_max < INDEX_BITS_START
                           ? tier->index_bits_max
                           : INDEX_BITS_START;
    tier->index = calloc(index_len(tier->index_bits), sizeof *tier->index);
    return tier->index == NULL
               ? error_set(err, STATUS_NOMEM, 0, "in-flight table")
               : STATUS_OK;
}

static enum status init_lower(struct inflight_tier *tier,
                              const struct inflight_config *config,
                              struct error *err)
{
    size_t index_bytes = index_len(tier->index_bits_max) * sizeof(uint64_t);
    size_t len = index_bytes + tier->count_planned * sizeof(struct entry);
    void *base = NULL;
    enum status status;

    if (tier->kind == TIER_FILE) {
        status = inflight_file_open(&tier->file, config, len, err);
        base = status == STATUS_OK ? tier->file->base : NULL;
    } else {
        status = map_memory(tier, len, &base, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    tier->index_bits = tier->index_bits_max;
    tier->index = base;
    tier->entries = (struct entry *)((unsigned char *)base + index_bytes);
    return STATUS_OK;
}

enum status tier_init(struct inflight_tier *tier, enum tier kind,
                      const struct inflight_config *config, struct error *err)
{
    enum status status;

    *tier = (struct inflight_tier) { .kind = kind,
                                     .bytes_max = config->bytes[kind] };
    if (kind == TIER_FILE && config->file_path == NULL) {
        tier->bytes_max = 0;
    }
    plan(tier);
    if (tier->count_planned == 0) {
        return STATUS_OK;
    }
    status = kind == TIER_HEAP ? init_heap(tier, err)
                               : init_lower(tier, config, err);
    if (status == STATUS_OK) {
        index_begin(tier);
    }
    return status;
}

void tier_fini(struct inflight_tier *tier)
{
    if (tier->kind == TIER_HEAP) {
        free(tier->index);
        if (tier->entries != NULL) {
            (void)munmap(tier->entries, tier->mapped);
        }
    } else if (tier->kind == TIER_DIRECT && tier->index != NULL) {
        (void)munmap(tier->index, tier->mapped);
    }
    inflight_file_close(tier->file);
    *tier = (struct inflight_tier) { .kind = tier->kind };
}

size_t tier_bytes(const struct inflight_tier *tier)
{
    if (tier->file != NULL) {
        return tier->file->len;
    }
    if (tier->kind != TIER_HEAP && tier->touched == 0) {
        return 0;
    }
    return tier->index == NULL
               ? 0
               : tier->touched * sizeof(struct entry)
                     + index_len(tier->index_bits) * sizeof *tier->index;
}

/* ---- the index ---- */

static uint64_t index_word(uint64_t hash, uint32_t number)
{
    return (hash & ~(uint64_t)UINT32_MAX) | (number + 1);
}

static bool same_tag(uint64_t word, uint64_t hash)
{
    return (word ^ hash) >> 32 == 0;
}

/* Of a hash, or of a word, whose upper half is the hash's. */
static size_t home_of(const struct inflight_tier *tier, uint64_t hash)
{
    return (size_t)(hash >> (64 - tier->index_bits));
}

static uint64_t *index_at(struct inflight_tier *tier, size_t at)
{
    if (tier->file != NULL) {
        inflight_file_touch(tier->file, &tier->index[at]);
    }
    return &tier->index[at];
}

static void index_put(struct inflight_tier *tier, uint64_t word)
{
    size_t mask = tier->index_mask;
    size_t at = home_of(tier, word);

    while (*index_at(tier, at) != 0) {
        at = (at + 1) & mask;
    }
    tier->index[at] = word;
}

static bool index_grow(struct inflight_tier *tier)
{
    uint64_t *old = tier->index;
    size_t old_len = index_len(tier->index_bits);
    uint64_t *index = calloc(old_len * 2, sizeof *index);

    if (index == NULL) {
        return false;
    }
    tier->index = index;
    tier->index_bits++;
    index_begin(tier);
    for (size_t i = 0; i < old_len; i++) {
        if (old[i] != 0) {
            index_put(tier, old[i]);
        }
    }
    free(old);
    return true;
}

/* Close the hole at `hole` by moving back what probed past it. */
static void index_remove_at(struct inflight_tier *tier, size_t hole)
{
    size_t mask = tier->index_mask;

    for (size_t at = (hole + 1) & mask; *index_at(tier, at) != 0;
         at = (at + 1) & mask) {
        size_t home = home_of(tier, tier->index[at]);
        /* May it stand at the hole? Yes if its home is not behind it. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            tier->index[hole] = tier->index[at];
            hole = at;
        }
    }
    tier->index[hole] = 0;
}

static void index_remove(struct inflight_tier *tier, uint64_t word)
{
    size_t mask = tier->index_mask;
    size_t at = home_of(tier, word);

    while (*index_at(tier, at) != word) {
        CHECK(tier->index[at] != 0);
        at = (at + 1) & mask;
    }
    index_remove_at(tier, at);
}

struct entry *tier_find(struct inflight_tier *tier, uint64_t hash,
                        uint32_t group, uint32_t topic, uint64_t seq)
{
    size_t mask = tier->index_mask;

    for (size_t at = home_of(tier, hash);; at = (at + 1) & mask) {
        uint64_t word = *index_at(tier, at);
        struct entry *entry;
        if (word == 0) {
            return NULL;
        }
        if (!same_tag(word, hash)) {
            continue;
        }
        entry = tier_entry(tier, (uint32_t)word - 1);
        if (entry->t.seq == seq && entry->t.topic == topic
            && entry->t.group == group) {
            return entry;
        }
    }
}

/* ---- entries ---- */

/* Disk space for the entry behind those ever used. */
static bool reach_next(struct inflight_tier *tier)
{
    const struct entry *end = &tier->entries[tier->touched + 1];
    const struct inflight_file *file = tier->file;

    if (inflight_file_reach(
            tier->file, (size_t)((const unsigned char *)end - file->base))) {
        return true;
    }
    tier->count_max = tier->touched;
    return false;
}

bool tier_make_place(struct inflight_tier *tier)
{
    if (tier->count < tier->easy_max) {
        return true;
    }
    if (tier->count >= tier->count_max) {
        return false;
    }
    if (tier->kind == TIER_HEAP
        && tier->count >= index_len(tier->index_bits) / 4 * 3
        && (tier->index_bits == tier->index_bits_max || !index_grow(tier))) {
        return false;
    }
    return tier->free_first != 0 || tier->file == NULL || reach_next(tier);
}

static uint32_t entry_new(struct inflight_tier *tier)
{
    uint32_t number = tier->free_first;

    if (number == 0) {
        return (uint32_t)tier->touched++;
    }
    tier->free_first = tier_entry(tier, number - 1)->wheel_next;
    return number - 1;
}

struct entry *tier_add(struct inflight_tier *tier, uint64_t hash,
                       const struct transaction *t)
{
    uint32_t number = entry_new(tier);
    struct entry *entry = tier_entry(tier, number);

    entry->t = *t;
    entry->list_prev = 0;
    index_put(tier, index_word(hash, number));
    tier->count++;
    return entry;
}

/* All of it is free: the memory of a lower tier that was much used goes back.
 * The index is all zero as it is, and as the kernel gives it anew. */
static void give_back(struct inflight_tier *tier)
{
    if (tier->file != NULL) {
        if (!inflight_file_empty(tier->file)) {
            return;
        }
    } else if (madvise(tier->index, tier->mapped, MADV_DONTNEED) != 0) {
        return;
    }
    tier->touched = 0;
    tier->free_first = 0;
    tier->hand = 0;
}

void tier_remove(struct inflight_tier *tier, struct entry *entry)
{
    uint32_t number = tier_number(tier, entry);
    uint64_t hash =
        transaction_hash(entry->t.group, entry->t.topic, entry->t.seq);

    index_remove(tier, index_word(hash, number));
    entry->t.state = 0;
    entry->wheel_next = tier->free_first;
    tier->free_first = number + 1;
    tier->count--;
    if (tier->count == 0 && tier->kind != TIER_HEAP
        && tier->touched >= RESET_MIN) {
        give_back(tier);
    }
}
