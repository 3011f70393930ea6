/* What the keeper does beside the keydir: retention and merge, the scrub, and a
 * look at how full the disk is. Each call does a bounded bit of what is due, so
 * that commits are never kept waiting. One thread: the keeper's. */
#ifndef GODWIT_BROKER_UPKEEP_H
#define GODWIT_BROKER_UPKEEP_H

#include "broker/config.h"
#include "broker/delivery/submission.h"
#include "broker/journal.h"
#include "broker/metrics.h"
#include "storage/store.h"

struct upkeep;

struct upkeep_config {
    struct store *store;
    const char *data_dir;
    struct submission *to;   /* what is moved and trimmed, for the journal */
    struct journal *journal; /* reads it; must outlive the upkeep */
    uint64_t scrub_bytes_s;  /* 0: no scrub */
    uint64_t scrub_every_us; /* from one pass's beginning to the next's */
    uint64_t free_bytes_min; /* below: publishes are refused; or
                              * FREE_BYTES_BY_DISK */
    struct keeper_metrics *metrics;
};

/* Reads the catalog from the store; before the threads run. */
MUST_CHECK enum status upkeep_new(struct upkeep **out,
                                  const struct upkeep_config *config,
                                  struct error *err);
void upkeep_free(struct upkeep *upkeep); /* accepts NULL */

/* The store has taken note of one more commit. */
void upkeep_commit(struct upkeep *upkeep, const struct store_commit *commit);

/* Do what is due. `busy`: messages come in, take a smaller share. Not
 * STATUS_OK: the store froze, and *err says why. */
MUST_CHECK enum status upkeep_step(struct upkeep *upkeep, bool busy,
                                   struct error *err);

/* When upkeep_step() has something to do next (monotonic). */
uint64_t upkeep_due_us(const struct upkeep *upkeep);
/* Less is free than is wanted: ask the store to prepare now and then. */
bool upkeep_space_low(const struct upkeep *upkeep);
/* The thread is about to sleep. */
void upkeep_rest(struct upkeep *upkeep);

#endif
