/* Messages of a lane that wait for another delivery, sorted by seq, in chunks:
 * whoever fails or is settled, in whatever order, moves no more than a chunk.
 * Zero-initialised is empty. One thread. */
#ifndef GODWIT_STORAGE_WAITING_H
#define GODWIT_STORAGE_WAITING_H

#include "proto/seqset.h"
#include "storage/record.h"

struct waiting_chunk;

struct waiting {
    struct waiting_chunk **chunks; /* none is empty */
    size_t chunk_count;
    size_t chunk_capacity;
    size_t count; /* in all of them */
};

void waiting_fini(struct waiting *waiting);
void waiting_clear(struct waiting *waiting); /* gives the memory back */

/* Takes the place of what is there of its seq. STATUS_NOMEM: nothing changed. */
MUST_CHECK enum status waiting_put(struct waiting *waiting,
                                   const struct retry *retry);
/* True: there were some. */
bool waiting_drop(struct waiting *waiting, struct seq_range range);

/* NULL: it does not wait. Good until the next change. */
const struct retry *waiting_find(const struct waiting *waiting, uint64_t seq);

/* One after the other by seq, from a place that is zero; NULL: no more. */
struct waiting_place {
    size_t chunk;
    size_t at;
};
const struct retry *waiting_next(const struct waiting *waiting,
                                 struct waiting_place *place);

#endif
