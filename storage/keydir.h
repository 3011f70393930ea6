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

struct keydir;
struct keydir_reader;

/* What every checkpoint says about itself. */
struct keydir_meta {
    uint64_t store_id;
    uint64_t place;  /* the log is covered up to here */
    uint64_t number; /* of the last batch covered */
    uint64_t hash;   /* of its header */
    bool clean;      /* and nothing was written after it */
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
void keydir_put_topic(struct keydir *keydir, uint32_t topic, uint64_t last_seq);
void keydir_put_lane(struct keydir *keydir, uint32_t group, uint32_t topic,
                     struct slice value);
/* A deleted one leaves its id behind, and the work of removing its keys. */
void keydir_put_fact(struct keydir *keydir, const struct record_fact *fact);
void keydir_put_producer(struct keydir *keydir, const struct producer *entry);
void keydir_remove_producer(struct keydir *keydir,
                            const struct producer *entry);
/* Remove up to `budget` keys of deleted topics and groups. *more: some left. */
void keydir_sweep(struct keydir *keydir, size_t budget, bool *more);
void keydir_put_meta(struct keydir *keydir, const struct keydir_meta *meta);
MUST_CHECK enum status keydir_commit(struct keydir *keydir, struct error *err);
void keydir_abort(struct keydir *keydir);

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
                                            keydir_producer_fn fn, void *arg);
/* Fill an empty lane. STATUS_NOT_FOUND: it has no value. */
MUST_CHECK enum status keydir_get_lane(struct keydir *keydir,
                                       struct lane *lane);

/* ---- a reader ---- */
MUST_CHECK enum status keydir_reader_open(struct keydir_reader **out,
                                          struct keydir *keydir);
void keydir_reader_close(struct keydir_reader *reader);
/* Let go of the pages seen: the next look-up sees the newest checkpoint. */
void keydir_reader_reset(struct keydir_reader *reader);
/* The run that holds message `seq`. STATUS_NOT_FOUND: *next_seq is the first
 * message after it, 0 if none. STATUS_IO: what is there cannot be believed. */
MUST_CHECK enum status keydir_find_run(struct keydir_reader *reader,
                                       uint32_t topic, uint64_t seq,
                                       struct store_run *out,
                                       uint64_t *next_seq);

#endif
