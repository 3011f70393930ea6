/* Lanes as the log has them: which messages of a topic a group has settled,
 * which are dead for it, and which wait for another delivery. Those touched
 * lately are kept in memory; the keydir has them all, one value each. One
 * thread. */
#ifndef GODWIT_STORAGE_LANES_H
#define GODWIT_STORAGE_LANES_H

#include "proto/bytes.h"
#include "proto/seqset.h"
#include "storage/record.h"
#include "storage/waiting.h"

struct lane_image {
    uint32_t group;
    uint32_t topic;
    struct seqset acked;    /* settled, in whatever way */
    struct seqset gaps;     /* of those, lost to damage */
    struct seqset expired;  /* of those, because their time was over */
    struct seqset dead;     /* none of them settled */
    uint64_t filtered;      /* of those settled, how many by the filter, */
    uint64_t discarded;     /* and how many that were dead */
    bool sought;            /* it began anew */
    uint64_t after;         /* behind this message */
    struct waiting retries; /* none of them settled or dead */
    bool dirty;             /* changed since it was written */
    bool given;             /* a snapshot said it; for the offline books */
    struct lane_image *chained;
};

struct lanes {
    struct lane_image **buckets;
    size_t bucket_count;
    size_t count;
};

void lanes_fini(struct lanes *lanes);
/* NULL: not in memory. */
struct lane_image *lanes_find(const struct lanes *lanes, uint32_t group,
                              uint32_t topic);
/* A new, empty one; NULL without memory. */
struct lane_image *lanes_add(struct lanes *lanes, uint32_t group,
                             uint32_t topic);
/* Drop from memory those the function says to. */
void lanes_drop(struct lanes *lanes,
                bool (*which)(const void *arg, const struct lane_image *lane),
                const void *arg);

/* ---- what happens to messages of a lane ---- */

/* Settled by an ack, a gap, its time, the filter, or (of those, only the dead)
 * a discard. Those that are settled already stay as they are. */
MUST_CHECK enum status lane_settle_as(struct lane_image *lane,
                                      enum record_kind how,
                                      struct seq_range range);
/* Ignored when the message is settled. */
MUST_CHECK enum status lane_retry(struct lane_image *lane,
                                  const struct retry *retry);
/* Those not settled are dead. */
MUST_CHECK enum status lane_bury(struct lane_image *lane,
                                 struct seq_range range);

/* Messages below are deleted, for everybody: they are not dead or to be
 * delivered any more, and of what was settled there only how many matters, so
 * that it takes one range; two where the lane began anew, one on either side of
 * `after`. */
MUST_CHECK enum status lane_trim(struct lane_image *lane, uint64_t first_seq);

/* ---- what a record says of a lane ---- */

struct lane_record {
    enum record_kind kind;
    uint32_t group;
    uint32_t topic;
    union {
        struct ranges_reader ranges;
        struct retries_reader retries;
        struct failed_reader failed;
        struct record_seek seek;
    } body;
};

/* STATUS_CORRUPT: the body is not whole, or the kind is not of a lane. */
MUST_CHECK enum status lane_record_read(const struct record *record,
                                        struct lane_record *out);
/* Once after each reading. Messages below first_seq are deleted. *last_seq: the
 * highest that it names. */
MUST_CHECK enum status lane_record_apply(struct lane_image *lane,
                                         struct lane_record *record,
                                         uint64_t first_seq,
                                         uint64_t *last_seq);

/* The value in the keydir, appended to `to`; and back. */
MUST_CHECK enum status lane_write(const struct lane_image *lane,
                                  struct bytes *to);
MUST_CHECK enum status lane_read(struct lane_image *lane, struct slice value);
/* Of a value, however long, without reading all of it: is `seq` settled, was it
 * lost to damage, was its time over? */
struct lane_look {
    bool settled; /* in whatever way; the others say in which, if it is known */
    bool gap;
    bool expired;
};
MUST_CHECK enum status lane_value_look(struct slice value, uint64_t seq,
                                       struct lane_look *out);
void lane_fini(struct lane_image *lane);

#endif
