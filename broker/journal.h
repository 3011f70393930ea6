/* The thread that makes messages durable. It takes whole spans of records from
 * the workers' submission rings, has the store number and append them as one
 * batch, syncs once, tells the commit ring, and shows each worker how far its
 * records are durable. What arrives during a sync is the next group. What the
 * keeper moves or trims comes over a ring as well, goes into a batch of its own
 * behind, and shares the sync. It knows nothing of connections.
 *
 * While its thread sleeps a worker may write and sync in its place: with little
 * to do, the two hops to the thread and back take longer than the sync. */
#ifndef GODWIT_BROKER_JOURNAL_H
#define GODWIT_BROKER_JOURNAL_H

#include "broker/delivery/ring.h"
#include "broker/delivery/submission.h"
#include "broker/metrics.h"
#include "proto/error.h"
#include "storage/store.h"

struct journal;

struct journal_config {
    struct store *store;
    /* Slots of struct store_commit. Whoever commits is its producer, and the
     * submission rings' consumer: one thread at a time. */
    struct ring *commits;
    struct submission *const *submissions;
    size_t worker_count;
    struct submission *keeper; /* of whole records for store_append_merge() */
    /* Called after each group by the thread that wrote it: all workers look. */
    void (*wake_worker)(void *arg, size_t worker);
    void *arg;
    struct journal_metrics *metrics;
};

MUST_CHECK enum status journal_start(struct journal **out,
                                     const struct journal_config *config,
                                     struct error *err);
/* Any thread: submission_publish() said that it must be woken. */
void journal_wake(struct journal *journal);
/* The same for worker number `worker` when it has nothing else to do, on its
 * own thread: writes and syncs what is in the workers' rings here, if the
 * journal sleeps and the disk is quick, and wakes the journal otherwise. Lasts
 * as long as the disk's sync. What fails is told as the journal tells it. */
void journal_commit(struct journal *journal, size_t worker);
/* Write and sync what is in the workers' rings, then end the thread. The workers
 * publish nothing any more; the keeper may still wake it. Accepts NULL. */
void journal_stop(struct journal *journal);
void journal_free(struct journal *journal); /* accepts NULL */

#endif
