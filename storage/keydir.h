/* What is known about the log, in LMDB: a checkpointed view that can always be
 * made again from the log. keydir.c is the only user of LMDB. One writer (the
 * keeper); each reader has its own struct. Values are sealed with a hash.
 * Writes gather in one transaction between keydir_begin() and keydir_commit(),
 * which is synced. */
#ifndef GODWIT_STORAGE_KEYDIR_H
#define GODWIT_STORAGE_KEYDIR_H

#include "proto/error.h"
#include "storage/lanes.h"
#include "storage/producers.h"
#include "storage/store.h"
#include "storage/tally.h"

struct keydir;
struct keydir_reader;
struct keydir_walk;

enum keydir_table {
    META,
    RUNS,
    TOPICS,
    LANES,
    FACTS,
    PRODUCERS,
    SWEEPS,
    SEGMENTS,
    HISTORIES, /* failures of messages not settled */
    IDS        /* message ids stored lately */
};
enum { TABLE_COUNT = IDS + 1 };

/* What every checkpoint says about itself. */
struct keydir_meta {
    uint64_t store_id;
    uint64_t place;  /* the log is covered up to here */
    uint64_t number; /* of the last batch covered */
    uint64_t hash;   /* of its header */
    /* Up to here the log's messages are noted only as to where they are: all
     * else that it says was in the snapshot this keydir was made from. */
    uint64_t known;
    bool clean; /* and nothing was written after it */
};

/* STATUS_CORRUPT: there is none, it is damaged, or of another version or store;
 * delete it and begin anew with `create`. */
MUST_CHECK enum status keydir_open(struct keydir **out, const char *path,
                                   uint64_t len_max, uint64_t store_id,
                                   bool create, struct keydir_meta *meta,
                                   struct error *err);
void keydir_close(struct keydir *keydir); /* accepts NULL */
/* Does each table hold what was committed? STATUS_CORRUPT: not. Of a very large
 * one each value is looked at when it is read. */
MUST_CHECK enum status keydir_check(struct keydir *keydir, struct error *err);
/* Remove the files; the folder stays. */
MUST_CHECK enum status keydir_delete(const char *path, struct error *err);

/* ---- writing ---- */
MUST_CHECK enum status keydir_begin(struct keydir *keydir);
/* The first failure of a transaction is kept and given by keydir_commit(). */
void keydir_put_run(struct keydir *keydir, const struct store_run *run);
/* One that a merge moved: it takes the place of what was known of its messages.
 */
void keydir_put_moved(struct keydir *keydir, const struct store_run *run);
void keydir_put_topic(struct keydir *keydir, const struct store_topic *topic);
void keydir_put_tally(struct keydir *keydir, uint32_t segment,
                      const struct tally_entry *entry);
void keydir_remove_tally(struct keydir *keydir, uint32_t segment);
void keydir_put_lane(struct keydir *keydir, uint32_t group, uint32_t topic,
                     struct slice value);
/* A deleted one leaves its id behind, and the work of removing its keys. */
void keydir_put_fact(struct keydir *keydir, const struct record_fact *fact);
/* In PRODUCERS or IDS. */
void keydir_put_producer(struct keydir *keydir, enum keydir_table table,
                         const struct producer *entry);
void keydir_remove_producer(struct keydir *keydir, enum keydir_table table,
                            const struct producer *entry);
/* Remove up to `budget` keys of deleted topics and groups. *more: some left. */
void keydir_sweep(struct keydir *keydir, size_t budget, bool *more);
/* The value of a key of HISTORIES as the transaction has it, appended to `to`.
 * STATUS_NOT_FOUND: it has none. */
MUST_CHECK enum status keydir_get_history(struct keydir *keydir,
                                          const uint8_t *key, struct bytes *to);
/* Some keys of HISTORIES, from `key` on. */
struct keydir_sweep_keys {
    uint8_t key[16]; /* in: the first one; out: where to go on */
    size_t budget;   /* to look at */
    /* Not wanted ones are removed; not OK ends the sweep. */
    enum status (*fn)(void *arg, const uint8_t *key, bool *wanted);
    void *arg;
    size_t kept; /* out */
    bool ended;  /* out: there are no more */
};
MUST_CHECK enum status keydir_sweep_histories(struct keydir *keydir,
                                              struct keydir_sweep_keys *sweep);
/* A key and value as keydir_walk_next() gave them. */
void keydir_put_raw(struct keydir *keydir, enum keydir_table table,
                    struct slice key, struct slice value);
void keydir_put_meta(struct keydir *keydir, const struct keydir_meta *meta);
MUST_CHECK enum status keydir_commit(struct keydir *keydir, struct error *err);
void keydir_abort(struct keydir *keydir);
/* Of its file, in bytes. */
uint64_t keydir_size(const struct keydir *keydir);

/* ---- the runs of one topic that lie in one segment ---- */
struct keydir_stretch {
    uint32_t topic;
    uint32_t segment;
    uint64_t last_seq; /* of those that begin at or before it */
};
/* Up to `room` of them, by seq, from *next_seq on; as many runs are looked at,
 * at most. *next_seq: where to go on; behind last_seq at the end. */
MUST_CHECK enum status keydir_runs_in(struct keydir *keydir,
                                      const struct keydir_stretch *stretch,
                                      uint64_t *next_seq,
                                      struct store_run *runs, size_t room,
                                      size_t *count);
/* Remove them; each run looked at takes one of *budget. Within a transaction.
 */
void keydir_erase_runs(struct keydir *keydir,
                       const struct keydir_stretch *stretch, uint64_t *next_seq,
                       size_t *budget);

/* ---- reading everything, in key order; any thread at start, else keeper ---- */
typedef void (*keydir_producer_fn)(void *arg, const struct producer *entry);
MUST_CHECK enum status keydir_each_topic(struct keydir *keydir,
                                         store_topic_fn fn, void *arg);
MUST_CHECK enum status keydir_each_lane(struct keydir *keydir, store_lane_fn fn,
                                        void *arg);
/* Deleted ones too. */
MUST_CHECK enum status keydir_each_fact(struct keydir *keydir, store_fact_fn fn,
                                        void *arg);
MUST_CHECK enum status keydir_each_producer(struct keydir *keydir,
                                            enum keydir_table table,
                                            keydir_producer_fn fn, void *arg);
typedef void (*keydir_tally_fn)(void *arg, uint32_t segment,
                                const struct tally_entry *entry);
MUST_CHECK enum status keydir_each_tally(struct keydir *keydir,
                                         keydir_tally_fn fn, void *arg);
/* Fill an empty lane. STATUS_NOT_FOUND: it has no value. */
MUST_CHECK enum status keydir_get_lane(struct keydir *keydir,
                                       struct lane_image *lane);

/* ---- everything of one moment, bit by bit; keeper ---- */
MUST_CHECK enum status keydir_walk_open(struct keydir_walk **out,
                                        struct keydir *keydir,
                                        struct keydir_meta *meta);
void keydir_walk_close(struct keydir_walk *walk); /* accepts NULL */
/* The next key and value of a table; they stay good until the walk is closed.
 * STATUS_NOT_FOUND: no more. */
MUST_CHECK enum status keydir_walk_next(struct keydir_walk *walk,
                                        enum keydir_table table,
                                        struct slice *key, struct slice *value);

/* What a key and value of TOPICS, LANES, FACTS or PRODUCERS say. */
struct keydir_visitor {
    store_topic_fn topic; /* each may be NULL */
    store_lane_fn lane;
    store_fact_fn fact;
    keydir_producer_fn producer;
    void *arg;
};
MUST_CHECK enum status keydir_decode(enum keydir_table table, struct slice key,
                                     struct slice value,
                                     const struct keydir_visitor *visitor);

/* ---- a reader ---- */
MUST_CHECK enum status keydir_reader_open(struct keydir_reader **out,
                                          struct keydir *keydir);
void keydir_reader_close(struct keydir_reader *reader);
/* Let go of the pages seen: the next look-up sees the newest checkpoint. */
void keydir_reader_reset(struct keydir_reader *reader);
/* The value of a key of HISTORIES, good until the reader is used again.
 * STATUS_NOT_FOUND: none; STATUS_IO: it cannot be believed. */
MUST_CHECK enum status keydir_find_history(struct keydir_reader *reader,
                                           const uint8_t *key,
                                           struct slice *value);
/* The same of a lane's value. */
MUST_CHECK enum status keydir_find_lane(struct keydir_reader *reader,
                                        uint32_t group, uint32_t topic,
                                        struct slice *value);
/* The run that holds message `seq`. STATUS_NOT_FOUND: *next_seq is the first
 * message after it, 0 if none. STATUS_IO: what is there cannot be believed. */
MUST_CHECK enum status keydir_find_run(struct keydir_reader *reader,
                                       uint32_t topic, uint64_t seq,
                                       struct store_run *out,
                                       uint64_t *next_seq);

#endif
