/* The thread that keeps the keydir: it takes note of every commit, writes what
 * it noted in whole synced transactions now and then, and has the next segment
 * ready before the journal needs it. Between commits it does the upkeep (see
 * upkeep.h). It never stands on the publish path: while traffic flows it looks
 * at the ring a hundred times a second and is not woken; an idle broker lets it
 * sleep for seconds. */
#ifndef GODWIT_BROKER_KEEPER_H
#define GODWIT_BROKER_KEEPER_H

#include "broker/delivery/ring.h"
#include "broker/upkeep.h"

struct keeper;

struct keeper_config {
    struct store *store;
    struct ring *commits;
    size_t consumer;        /* its number on the ring */
    uint64_t checkpoint_us; /* between two keydir commits at most */
    struct upkeep *upkeep;  /* lent */
    /* Called on the keeper's thread when a checkpoint, an upkeep, or a commit
     * that could not be noted, froze the store. */
    void (*frozen)(void *arg);
    void *arg;
};

MUST_CHECK enum status keeper_start(struct keeper **out,
                                    const struct keeper_config *config,
                                    struct error *err);
/* Apply what is on the ring, then end; the journal has ended before. The last
 * checkpoint is store_close()'s. Accepts NULL. */
void keeper_stop(struct keeper *keeper);

#endif
