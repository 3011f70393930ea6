/* Which messages may go, as the policy and the lanes have it. What is settled
 * and what a trim said are what the keeper has applied, so they are durable.
 * What may go once may go for ever. The keeper's thread. */
#ifndef GODWIT_STORAGE_RETENTION_H
#define GODWIT_STORAGE_RETENTION_H

#include "storage/lanes.h"
#include "storage/store.h"

/* A group the messages are owed to. */
struct owed_lane {
    uint64_t after_seq;
    const struct seqset *settled; /* NULL: nothing */
};

/* One topic, looked at now: good until the policy is asked again or a lane
 * changes. Zero-initialise once, use again and again. */
struct keeping {
    uint32_t topic;
    bool deleted;
    enum store_keep keep;
    uint64_t age_us;
    uint64_t bytes;
    uint64_t count;
    uint64_t last_seq;
    uint64_t first_seq; /* as trimmed */
    uint64_t floor_seq;
    struct owed_lane *owed;
    size_t owed_count;
    size_t owed_capacity;
};

void keeping_fini(struct keeping *keeping);
MUST_CHECK enum status keeping_look(struct store *store,
                                    const struct store_policy *policy,
                                    uint32_t topic, struct keeping *out);

/* May message `seq` go? *through, at most `last`: for how long the answer is
 * the same. */
bool keeping_may_go(const struct keeping *keeping, uint64_t seq, uint64_t last,
                    uint64_t *through);

/* How many of the messages first..last must stay; not more than `most`, and
 * `most` when it takes too long to say. */
uint64_t keeping_count(const struct keeping *keeping, uint64_t first,
                       uint64_t last, uint64_t most);

/* The lowest message that must stay, below the floor. */
uint64_t keeping_first(const struct keeping *keeping);
/* The highest message up to `seq` that every group has settled, or that was
 * never owed to any; 0: none at or above the floor. */
uint64_t keeping_settled_through(const struct keeping *keeping, uint64_t seq);

#endif
