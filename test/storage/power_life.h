/* A store's life from a seed, traced call by call, and the ledger of it: what
 * was handed to the store and what it confirmed, each with the place in the
 * trace where that was. */
#ifndef GODWIT_TEST_STORAGE_POWER_LIFE_H
#define GODWIT_TEST_STORAGE_POWER_LIFE_H

#include "test/storage/disk_trace.h"
#include "test/storage/power_model.h"

/* Planted bugs: what a store that had them would do, or leave undone. */
enum power_bug {
    BUG_NONE,
    BUG_CONFIRM_EARLY,    /* before the sync */
    BUG_CHECKPOINT_EARLY, /* the keydir before the log */
    BUG_NO_SYNC,
    BUG_NO_DIR_SYNC,
    BUG_STOP_AT_BAD,     /* the first bad record ends the recovery */
    BUG_RESURRECT,       /* what stands behind a hole counts */
    BUG_LMDB_NO_SYNC,    /* MDB_NOSYNC */
    BUG_NO_SNAPSHOT,     /* segments go before there is one */
    BUG_REUSE_UNCHECKED, /* recycled bytes may pass as batches */
    BUG_CONFIRM_FAILED,  /* what a failed write was to store */
    BUG_SPLIT_CHAIN,     /* over several batches */
    POWER_BUGS
};

/* One batch of the log. */
struct life_batch {
    size_t event_stop; /* its events end here */
    size_t tried;      /* the trace was so long before it was written, */
    size_t confirmed;  /* and when it was confirmed; SIZE_MAX: not yet */
    uint64_t bytes;    /* of the log, with it */
};

struct life_checkpoint {
    size_t at;      /* length of the trace when it was there */
    uint64_t bytes; /* of the log that it covers */
};

struct life {
    struct harness h;
    struct disk_trace trace;
    enum power_bug bug;
    uint64_t state; /* of random_next() */
    struct model tried;
    struct model applied; /* what store_apply() was given: for the policy */
    size_t applied_count; /* batches */
    struct store_owed owed[MODEL_GROUPS];
    uint8_t *moving; /* where store_upkeep() writes */
    struct event *events;
    size_t event_count, event_capacity;
    struct life_batch *batches;
    size_t batch_count, batch_capacity;
    struct life_checkpoint *checkpoints;
    size_t checkpoint_count, checkpoint_capacity;
    size_t confirmed_count;  /* batches */
    uint64_t bytes;          /* of the log, appended */
    struct store_stats sums; /* of what was done, over all openings */
    /* not synced, or not applied */
    struct store_commit waiting[64];
    size_t waiting_count;
    /* With faults a call may fail; whether it may do so in this way is checked.
     * `stopped`: the store has frozen, or did not open. */
    bool faulty;
    bool stopped;
    enum status status;
    unsigned failures;
    unsigned refused;           /* messages */
    void (*inside)(bool store); /* told when a call begins and ends; or NULL */
    unsigned may_forget; /* producers, for want of memory: see producers.h */
    size_t added; /* events of the records in the buffer, not yet appended */
    struct event adding[512];
    bool expect_duplicate[512];
    uint32_t salt;
    uint32_t last_chain; /* of the last message taken, and ... */
    bool chain_refused;  /* ... what became of it */
};

/* One thing a life can do; each ends with everything synced and applied. */
enum life_step {
    STEP_PUBLISH,
    STEP_PUBLISH_BIG,
    STEP_SETTLE,
    STEP_FACT,
    STEP_FILL,       /* a good part of a segment */
    STEP_SETTLE_ALL, /* nearly all of a topic, by every group */
    STEP_UPKEEP,
    STEP_SCRUB,
    STEP_PREPARE,
    STEP_CHECKPOINT,
    STEP_REOPEN,
    STEP_DIE,
    LIFE_STEPS
};

struct life *life_begin(uint64_t seed, enum power_bug bug);
/* Without a trace, where calls may fail; life_cycle() opens the store. */
struct life *life_new_faulty(uint64_t seed, enum power_bug bug,
                             void (*inside)(bool store));
/* What a frozen store still has to do: nothing new, all that was. */
void life_check_frozen(struct life *life);
void life_step(struct life *life, enum life_step step);
/* Everything a store does, once: open, append, sync, fill segments, checkpoint,
 * recover, close. */
void life_cycle(struct life *life);
/* So many steps as chance will have it. */
void life_live(struct life *life, int steps);
/* Close and stop the trace; the ledger stays. */
void life_end(struct life *life);
void life_free(struct life *life);

/* How many batches must and may be there when the power goes at `cut`. */
size_t life_confirmed(const struct life *life, size_t cut);
size_t life_tried(const struct life *life, size_t cut);

#endif
