/* More to be done with a set of sequence numbers than proto/seqset.h has. */
#ifndef GODWIT_STORAGE_RANGES_H
#define GODWIT_STORAGE_RANGES_H

#include "proto/seqset.h"

/* Index of the first range that ends at or behind `seq`; the number of ranges
 * when there is none. */
size_t set_range_at(const struct seqset *set, uint64_t seq);

/* How many numbers of it are in the set. */
uint64_t set_count(const struct seqset *set, struct seq_range range);

/* What follows takes many ranges in one pass, so that none of them has others
 * moved; few go one by one. STATUS_NOMEM: some may be done. */

/* `out`, empty, gets what of `set` is in `other` (or, `absent`, is not). */
MUST_CHECK enum status set_common(const struct seqset *set,
                                  const struct seqset *other, bool absent,
                                  struct seqset *out);
MUST_CHECK enum status set_add_all(struct seqset *to, const struct seqset *set);
MUST_CHECK enum status set_remove_all(struct seqset *from,
                                      const struct seqset *set);

#endif
