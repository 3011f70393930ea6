/* One tier of the in-flight table: transactions in entries of one cache line,
 * and an index over them. Links between entries (wheel, holder's list) are
 * entry numbers plus one, 0 for none, and lead to entries of the same tier:
 * what is hot never looks at what is cold. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_INFLIGHT_TIER_H
#define GODWIT_BROKER_DELIVERY_INFLIGHT_TIER_H

#include "broker/delivery/hash.h"
#include "broker/delivery/inflight.h"
#include "broker/delivery/inflight_file.h"

struct entry {            /* one cache line */
    struct transaction t; /* state 0: free */
    uint32_t wheel_next;  /* of a free one: the next free */
    uint32_t wheel_prev;
    uint32_t list_next;
    uint32_t list_prev; /* 0: in no list */
};
_Static_assert(sizeof(struct entry) == 64, "one cache line");

struct inflight_tier {
    enum tier kind;
    struct entry *entries; /* addresses for count_planned of them */
    uint64_t *index;
    size_t index_mask; /* its length, a power of two, minus one */
    unsigned index_bits;
    unsigned index_bits_max;
    size_t count;
    size_t count_max;     /* less than planned: the disk is full */
    size_t count_planned; /* what the budget has room for */
    size_t touched;       /* entries ever used: behind are untouched pages */
    size_t easy_max;      /* below, there is a place without any work */
    uint32_t free_first;
    uint32_t hand;   /* where to look next for what lay long */
    uint64_t mapped; /* bytes of addresses; not of the heap's index */
    size_t bytes_max;
    struct inflight_file *file; /* NULL: not the file tier */
    uint64_t ended, demoted, promoted;
};

/* A budget too small for one entry makes a tier that has room for none. */
MUST_CHECK enum status tier_init(struct inflight_tier *tier, enum tier kind,
                                 const struct inflight_config *config,
                                 struct error *err);
void tier_fini(struct inflight_tier *tier); /* accepts a half-made one */

/* Is there room for one more? May take memory or disk space for it. When the
 * disk has none, count_max ends at what there is. */
bool tier_make_place(struct inflight_tier *tier);
/* There is room, and the key is not in it. It is in no list; its links of the
 * wheel are the wheel's to set. */
struct entry *tier_add(struct inflight_tier *tier, uint64_t hash,
                       const struct transaction *t);
void tier_remove(struct inflight_tier *tier, struct entry *entry);
struct entry *tier_find(struct inflight_tier *tier, uint64_t hash,
                        uint32_t group, uint32_t topic, uint64_t seq);
/* What it has of its budget now. */
size_t tier_bytes(const struct inflight_tier *tier);

static inline uint64_t transaction_hash(uint32_t group, uint32_t topic,
                                        uint64_t seq)
{
    return hash_pair((uint64_t)group << 32 | topic, seq);
}

static inline struct entry *tier_entry(struct inflight_tier *tier,
                                       uint32_t number)
{
    struct entry *entry = &tier->entries[number];

    if (tier->file != NULL) {
        inflight_file_touch(tier->file, entry);
    }
    return entry;
}

static inline uint32_t tier_number(const struct inflight_tier *tier,
                                   const struct entry *entry)
{
    return (uint32_t)(entry - tier->entries);
}

/* As it stands in links. */
static inline uint32_t tier_link(const struct inflight_tier *tier,
                                 const struct entry *entry)
{
    return tier_number(tier, entry) + 1;
}

static inline bool tier_has(const struct inflight_tier *tier,
                            const struct entry *entry)
{
    return (uintptr_t)entry - (uintptr_t)tier->entries
           < tier->touched * sizeof *entry;
}

#endif
