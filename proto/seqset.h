/* A set of sequence numbers kept as sorted ranges that neither touch nor
 * overlap. Acknowledgements mostly come in order, so the usual set is a handful
 * of ranges; the worst (every other one) costs 8 bytes a number.
 * Zero-initialised is empty. One thread. */
#ifndef GODWIT_PROTO_SEQSET_H
#define GODWIT_PROTO_SEQSET_H

#include "proto/check.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seq_range {
    uint64_t first;
    uint64_t last; /* inclusive, never below first */
};

struct seqset {
    struct seq_range *ranges; /* begin..count are in use */
    size_t begin;             /* removed at the front without moving the rest */
    size_t end;
    size_t capacity;
};

void seqset_fini(struct seqset *set);

/* Add first..last. *added (may be NULL) says how many numbers were new.
 * STATUS_NOMEM: the set is as it was. */
MUST_CHECK enum status seqset_add(struct seqset *set, uint64_t first,
                                  uint64_t last, uint64_t *added);

/* Take first..last out. *removed (may be NULL) says how many there were.
 * STATUS_NOMEM: the set is as it was; never for a range that is not the inside
 * of one range of the set. */
MUST_CHECK enum status seqset_remove(struct seqset *set, uint64_t first,
                                     uint64_t last, uint64_t *removed);

bool seqset_has(const struct seqset *set, uint64_t seq);

/* The first number >= seq that is not in the set. */
uint64_t seqset_next_absent(const struct seqset *set, uint64_t seq);

/* The first stretch of `within` that is in the set. False: there is none. */
bool seqset_find(const struct seqset *set, struct seq_range within,
                 struct seq_range *out);

/* Forget all numbers <= seq. */
void seqset_drop_through(struct seqset *set, uint64_t seq);

void seqset_clear(struct seqset *set);

static inline size_t seqset_range_count(const struct seqset *set)
{
    return set->end - set->begin;
}

static inline const struct seq_range *seqset_ranges(const struct seqset *set)
{
    return set->ranges == NULL ? NULL : set->ranges + set->begin;
}

/* How many numbers are in it. */
uint64_t seqset_count(const struct seqset *set);

#endif
