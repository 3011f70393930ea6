/* A whole data folder, read and verified without changing a byte of it: for the
 * offline tools. No keydir is needed, so a backup is read the same way. Of a
 * store that is being written the end may look torn; what was durable before
 * the call is seen. Nothing here keeps its broker from removing segments
 * meanwhile: the caller holds store.hold (hold.h). One segment at a time is in
 * memory, and which numbers of each topic and lane there are. One thread. */
#ifndef GODWIT_STORAGE_OFFLINE_INSPECT_H
#define GODWIT_STORAGE_OFFLINE_INSPECT_H

#include "proto/error.h"
#include "proto/seqset.h"
#include "storage/store.h"

struct inspect;

/* What the format file says. */
struct inspect_store {
    uint32_t version;
    uint64_t store_id;
    uint64_t made_us;
};

/* STATUS_NOT_FOUND: no store there; STATUS_NEWER: of a newer format;
 * STATUS_CORRUPT: the format file is beyond reading; STATUS_IO. vfs: NULL for
 * the system's. */
MUST_CHECK enum status inspect_open(struct inspect **out, const char *dir,
                                    const struct vfs *vfs, struct error *err);
void inspect_close(struct inspect *inspect); /* accepts NULL */

const struct inspect_store *inspect_store(const struct inspect *inspect);

/* ---- one pass over everything ---- */

struct inspect_segment {
    uint32_t id;
    uint64_t epoch; /* 0: not known */
    uint64_t made_us;
    uint64_t file_len;
    uint32_t end; /* one past the last whole batch */
    bool sealed;  /* by a last, empty batch */
    uint64_t batches;
    uint64_t records;
    uint64_t messages; /* of the records; moved ones too */
    uint64_t moved;    /* messages that a merge wrote */
    uint64_t damages;
};

/* One whole and verified record. */
struct inspect_record {
    struct record record; /* its body lies in memory until the call returns */
    uint32_t segment;
    uint32_t offset;
    uint64_t batch; /* number of the batch it is in */
    uint64_t hash;  /* record_hash_at() */
    bool moved;     /* by a merge: written before, maybe still there too */
    bool deleted;   /* a message below its topic's first_seq, as far as was
                     * known up to here, or of a deleted topic */
};

/* Each may be NULL. In the order of the log; `segment` after what is in it. */
struct inspect_visitor {
    void (*segment)(void *arg, const struct inspect_segment *segment);
    /* False: enough, go no further (the totals are then of no use). */
    bool (*record)(void *arg, const struct inspect_record *record);
    void (*damage)(void *arg, const struct store_damage *damage);
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *arg;
};

struct inspect_totals {
    uint64_t segments;
    uint64_t missing_segments; /* not said to be removed: between others, behind
                                * a seal, or before the snapshot's place */
    uint64_t foreign_files;    /* named like segments, and not ours */
    uint64_t bytes;            /* read */
    uint64_t batches;
    uint64_t records;
    uint64_t messages; /* records of them; one that was moved counts twice */
    uint64_t moved;
    uint64_t damages; /* places; by kind: */
    uint64_t damaged_messages;
    uint64_t damaged_records; /* others */
    uint64_t damaged_batches; /* whole batches unreadable, or a break between */
    uint64_t damaged_bytes;
    uint64_t lost_batches; /* as the numbers of those around tell */
    uint64_t unreadable_bytes;
    /* Behind the last that is known to have been durable: whole batches that
     * the next start will keep, and what it will cut. A crash leaves both, but
     * damage to what was written last looks the same. */
    uint64_t doubtful_batches;
    uint64_t torn_batches;
    uint64_t torn_bytes;
    bool snapshot; /* there is one, and */
    bool snapshot_damaged;
    uint64_t snapshot_damages; /* entries of it skipped */
    /* sums over topics and lanes, deleted topics and groups apart */
    uint64_t published; /* highest seqs */
    uint64_t present;
    uint64_t deleted;
    uint64_t missing;
    uint64_t topics;
    uint64_t groups;
    uint64_t lanes;
    uint64_t unsettled;  /* pairs of a lane and a message that is there */
    uint64_t dead;       /* of those, dead letters */
    uint64_t unbalanced; /* topics and lanes whose books do not balance */
};

/* Read and verify all. Damage is no failure: STATUS_OK with the places named.
 * STATUS_CLOSED: the visitor had enough. Others: it could not go on. May be
 * called again; what the calls below give is of the last one. */
MUST_CHECK enum status inspect_walk(struct inspect *inspect,
                                    const struct inspect_visitor *visitor,
                                    struct inspect_totals *out,
                                    struct error *err);

/* ---- what came out of it ---- */

/* Facts, deleted ones too, by class and id. Lent until the next walk. */
void inspect_each_fact(const struct inspect *inspect, store_fact_fn fn,
                       void *arg);
/* The name in the fact; empty when there is none. */
struct slice inspect_name(const struct inspect *inspect,
                          enum catalog_class class, uint32_t id);
/* The id of the living one with this name (or, when there is none, of the last
 * deleted one); 0: no such name. */
uint32_t inspect_id(const struct inspect *inspect, enum catalog_class class,
                    struct slice name);

/* published = present + deleted + missing. */
struct inspect_topic {
    uint32_t topic;
    struct slice name;  /* empty: no fact of it is left */
    bool gone;          /* the topic was deleted */
    uint64_t published; /* the highest seq that was ever used */
    uint64_t first_seq;
    uint64_t floor_seq;
    uint64_t present; /* whole and readable, each once, from first_seq on */
    uint64_t deleted; /* below first_seq */
    uint64_t missing; /* damaged or not there at all */
    uint64_t bytes;   /* records of the present ones, each copy */
    const struct seqset *have; /* whole ones, below first_seq too */
};
typedef void (*inspect_topic_fn)(void *arg, const struct inspect_topic *topic);
/* By id. */
void inspect_each_topic(const struct inspect *inspect, inspect_topic_fn fn,
                        void *arg);

/* published = settled + deleted + missing + unsettled, for a group that was to
 * get all; what was before it counts as unsettled here (where a group begins is
 * the broker's to know: see its fact). */
struct inspect_lane {
    uint32_t group;
    uint32_t topic;
    struct slice group_name;
    struct slice topic_name;
    uint64_t published;
    uint64_t settled;   /* in whatever way; of those: */
    uint64_t gaps;      /* given up as lost */
    uint64_t expired;   /* over before they were delivered */
    uint64_t filtered;  /* kept away by the group's filter */
    uint64_t discarded; /* dead, and then given up */
    uint64_t deleted;   /* not settled, below first_seq */
    uint64_t missing;   /* not settled, and not there */
    uint64_t unsettled; /* there, and not settled; of those: */
    uint64_t retries;   /* failed before */
    uint64_t dead;      /* not to be delivered any more */
    bool sought;        /* it began anew behind after_seq */
    uint64_t after_seq;
    /* False: it settled what was never published, or the parts do not fit. */
    bool balanced;
    const struct seqset *acked; /* all settled */
    const struct seqset *lost;
};
typedef void (*inspect_lane_fn)(void *arg, const struct inspect_lane *lane);
/* By group, then topic; those of deleted groups and topics are gone.
 * STATUS_NOMEM. */
MUST_CHECK enum status inspect_each_lane(const struct inspect *inspect,
                                         inspect_lane_fn fn, void *arg);

/* ---- receipts; after a walk or without ---- */

/* What a confirm gave its publisher. */
struct inspect_receipt {
    uint32_t topic;
    uint64_t seq;
    uint64_t count;
    uint32_t segment;
    uint32_t offset;
    uint64_t checksum;
};

enum receipt_verdict {
    RECEIPT_GOOD = 1, /* all of them are there, and as they were confirmed */
    RECEIPT_DELETED,  /* some are below the topic's first_seq, by retention, or
                       * the topic was deleted; the others are there */
    RECEIPT_MISSING,  /* some are not there, or damaged */
    RECEIPT_WRONG     /* all are there, but not what the receipt says */
};

struct inspect_proof {
    enum receipt_verdict verdict;
    uint64_t present;
    uint64_t deleted;
    uint64_t missing;
    uint64_t first_missing; /* seq */
    uint64_t checksum;      /* of what is there; when all are */
    /* Where the first one stands now; 0 nowhere. */
    uint32_t segment;
    uint32_t offset;
    bool moved; /* not where the receipt says */
};

/* Reads all. STATUS_INVALID: a receipt of nothing, or of more than
 * INSPECT_RECEIPT_COUNT_MAX. */
enum { INSPECT_RECEIPT_COUNT_MAX = 1 << 20 };
MUST_CHECK enum status inspect_receipt(struct inspect *inspect,
                                       const struct inspect_receipt *receipt,
                                       struct inspect_proof *out,
                                       struct error *err);

#endif
