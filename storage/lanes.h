/* Lanes as the log has them: which messages of a topic a group has settled and
 * which wait for another delivery. Those touched lately are kept in memory; the
 * keydir has them all, one value each. One thread. */
#ifndef GODWIT_STORAGE_LANES_H
#define GODWIT_STORAGE_LANES_H

#include "proto/bytes.h"
#include "proto/seqset.h"
#include "storage/record.h"

struct lane {
    uint32_t group;
    uint32_t topic;
    struct seqset acked;
    struct seqset gaps;
    struct retry *retries; /* by seq, none of them acked */
    size_t retry_count;
    size_t retry_capacity;
    bool dirty; /* changed since it was written */
    struct lane *chained;
};

struct lanes {
    struct lane **buckets;
    size_t bucket_count;
    size_t count;
};

void lanes_fini(struct lanes *lanes);
/* NULL: not in memory. */
struct lane *lanes_find(const struct lanes *lanes, uint32_t group,
                        uint32_t topic);
/* A new, empty one; NULL without memory. */
struct lane *lanes_add(struct lanes *lanes, uint32_t group, uint32_t topic);
/* Drop from memory those the function says to. */
void lanes_drop(struct lanes *lanes,
                bool (*which)(const void *arg, const struct lane *lane),
                const void *arg);

MUST_CHECK enum status lane_ack(struct lane *lane, struct seq_range range);
MUST_CHECK enum status lane_gap(struct lane *lane, struct seq_range range);
/* Ignored when the message is settled. */
MUST_CHECK enum status lane_retry(struct lane *lane, const struct retry *retry);

/* Messages below are deleted, for everybody: their retries are dropped, and of
 * what was settled there only how many matters, so that it takes one range. */
MUST_CHECK enum status lane_trim(struct lane *lane, uint64_t first_seq);

/* The value in the keydir, appended to `to`; and back. */
MUST_CHECK enum status lane_write(const struct lane *lane, struct bytes *to);
MUST_CHECK enum status lane_read(struct lane *lane, struct slice value);
void lane_fini(struct lane *lane);

#endif
