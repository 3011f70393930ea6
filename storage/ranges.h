/* More to be done with a set of sequence numbers than proto/seqset.h has. */
#ifndef GODWIT_STORAGE_RANGES_H
#define GODWIT_STORAGE_RANGES_H

#include "proto/seqset.h"

/* Index of the first range that ends at or behind `seq`; the number of ranges
 * when there is none. */
size_t set_range_at(const struct seqset *set, uint64_t seq);

/* The first stretch of `within` that is in the set (or, `absent`, that is not).
 * False: there is none. */
bool set_stretch(const struct seqset *set, struct seq_range within, bool absent,
                 struct seq_range *out);

/* Take first..last out. STATUS_NOMEM: the set is as it was. */
MUST_CHECK enum status set_remove(struct seqset *set, struct seq_range range);

#endif
