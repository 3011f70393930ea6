/* Retention and merge: what the keeper does between its checkpoints so that
 * what nobody is owed any more leaves the disk. For the files of storage/
 * alone: merge.c is the machine, trims.c says from where on topics are kept,
 * victims.c chooses segments, moving.c copies what must stay out of them,
 * removing.c removes them. All on the keeper's thread. */
#ifndef GODWIT_STORAGE_MERGE_H
#define GODWIT_STORAGE_MERGE_H

#include "storage/retention.h"
#include "storage/snapshot.h"

/*         due             trims            victim          copied
 * REST ---------> TRIMS --------> CHOOSE --------> MOVE --------> SETTLE
 *  ^               '--> TRIMMED -->^  |             | unreadable     | applied
 *  |                     applied      |<------------'                v
 *  |                                  |<---------------------------ERASE
 *  |                     none, enough v
 *  '--------- UNMAP <--- EMPTY <--- HOLD <--- SNAPSHOT
 *
 * Nothing of it is remembered over a restart, which begins with REST: all that
 * was done until then is good by itself, and what is left of it is found again.
 * Until the snapshot names a segment it can be used as it is; from then on
 * nothing in it is needed. */
enum merge_stage {
    MERGE_REST,
    MERGE_TRIMS,   /* how far may each topic's messages go? */
    MERGE_TRIMMED, /* wait until that is applied, then look once more */
    MERGE_CHOOSE,
    MERGE_MOVE,   /* what must stay is written to the end of the log */
    MERGE_SETTLE, /* wait until it is applied */
    MERGE_ERASE,  /* the keydir forgets what still points into the victim */
    MERGE_SNAPSHOT,
    /* While these two wait, messages are still trimmed. */
    MERGE_HOLD,  /* wait for a backup to let go, and for slow views */
    MERGE_EMPTY, /* out of the table: wait until nobody can be reading */
    MERGE_UNMAP  /* remove or recycle, one by one */
};

enum {
    MERGE_DONE_MAX = 16,   /* segments removed with one snapshot */
    MERGE_RUNS = 512,      /* of the victim, looked at in one go */
    MERGE_SHARE_MAX = 50,  /* per cent of a victim that may have to stay, */
    MERGE_SHARE_SHORT = 5, /* and when the disk is nearly full */
    MERGE_LOW_PART = 64,   /* when it is full: one of so many parts, */
    MERGE_LOW_LEN = 512 * 1024, /* and not more than this */
    MERGE_SMALL_SHARE = 8, /* a segment is taken to have at least this part */
    MERGE_ENTRIES_MAX = 4096, /* of the tally, in one call */
    MERGE_ERASE_MAX = 20000,  /* runs looked at in one checkpoint */
    MERGE_SNAPSHOT_STEP = 1024 * 1024,
    MERGE_PAUSE_US = 1000 * 1000,    /* between two looks, after a change */
    MERGE_AGE_US = 10 * 1000 * 1000, /* and when only time has passed */
    MERGE_LOOK_SHARE = 4 /* or when this part of a segment was written */
};

/* One topic during the looking. */
struct topic_plan {
    enum store_keep keep; /* 0: leave it alone */
    uint64_t age_us;
    uint64_t bytes;
    uint64_t bound;       /* settled: not above this message */
    uint64_t bytes_seen;  /* limit: of the newest segments, */
    uint64_t bytes_first; /* which begin with this message */
    uint64_t aged;        /* the same: this one and all before are too old */
};

/* What a message is read from: each has its own place in the file. */
enum merge_window { MERGE_TABLE, MERGE_RECORDS, MERGE_WINDOWS };

enum trims_part { TRIMS_ASK, TRIMS_TALLY, TRIMS_WRITE };

struct trims {
    enum trims_part part;
    struct topic_plan *plans; /* by topic id */
    size_t count;
    size_t capacity;
    size_t at;        /* topic, or how much of the entries */
    uint32_t segment; /* the ones before are still to be looked at */
    struct keydir_reader *reader;
    bool again; /* the floor has risen: what is below may go now */
    bool aged;  /* some topic goes by the age of its messages */
};

/* Where one stands in a victim: its entry of the tally, and from which message
 * on. */
struct merge_at {
    size_t entry;
    uint64_t seq;
};

struct merge {
    enum merge_stage stage;
    bool looked;       /* for work, see below */
    uint64_t waits_us; /* since when it is in that stage */
    struct keeping keeping;
    struct trims trims;
    uint64_t readable[MERGE_WINDOWS]; /* places found so, in this call */
    /* when it was looked for work last */
    uint64_t looked_us;
    uint64_t looked_place;
    uint64_t looked_checkpoint; /* segments below were there to choose from */
    uint64_t looked_len;        /* keeper.applied_len */
    /* choosing */
    uint32_t choose_at; /* segments up to this id were looked at */
    uint32_t best;
    size_t choose_cost; /* of this call, in entries of the tally */
    uint64_t best_live;
    uint64_t best_bytes;
    struct seqset unreadable; /* ids: left alone until the next start */
    /* the victim */
    uint32_t victim;
    bool moved; /* something was written */
    struct merge_at at;
    struct store_run runs[MERGE_RUNS];
    size_t run_count;
    size_t run_at;
    uint64_t seq_at;
    struct merge_at erased;  /* up to here, committed; */
    struct merge_at erasing; /* in the transaction */
    /* those that are empty, before and during their removal */
    uint32_t done[MERGE_DONE_MAX];
    size_t done_count;
    uint64_t done_len;
    struct snapshot_writer *writer;
    bool named; /* the snapshot being written names them */
    uint64_t snapshot_len;
    struct segment *retiring[MERGE_DONE_MAX];
    uint64_t epoch;
    int hold_fd; /* of DIR/store.hold, locked from HOLD to UNMAP */
    enum store_wait waits_for;
    bool trimming; /* limits go on while HOLD or EMPTY waits */
    /* any thread reads; see struct store_stats */
    _Atomic uint64_t removal_waits;
    _Atomic uint64_t removal_waits_us;
};

struct upkeep; /* one call */

void merge_init(struct merge *merge);
void merge_fini(struct store *store);

/* Each step does a bounded bit; *done: the stage is over. */

/* trims.c */
void trims_fini(struct trims *trims);
void trims_begin(struct trims *trims);
MUST_CHECK enum status trims_step(struct store *store,
                                  struct store_upkeep *upkeep, bool *done);

/* victims.c: merge.best is 0 when there is none. */
void victims_begin(struct merge *merge);
MUST_CHECK enum status victims_step(struct store *store,
                                    const struct store_upkeep *upkeep,
                                    bool *done);

/* moving.c */
void moving_begin(struct merge *merge, uint32_t victim);
/* STATUS_AGAIN: the victim cannot be read, leave it. */
MUST_CHECK enum status moving_step(struct store *store,
                                   struct store_upkeep *upkeep, bool *done);
/* A message where the run says, verified. STATUS_CORRUPT: damaged; STATUS_IO:
 * the disk does not give it. */
MUST_CHECK enum status merge_message(struct store *store,
                                     const struct store_run *run, uint64_t seq,
                                     struct record *out, struct slice *bytes);
/* Within the keydir's transaction, and when it was committed. */
void merge_erase(struct store *store);
bool merge_erased(struct store *store);

/* removing.c */
MUST_CHECK enum status snapshot_stage(struct store *store, bool *done,
                                      struct error *err);
/* Open DIR/store.hold, which is made when it is not there: whatever is wrong
 * with it shows at the start. Without space it is opened later. */
MUST_CHECK enum status hold_open(struct store *store, struct error *err);
/* Not done: waits_for says why. */
MUST_CHECK enum status hold_stage(struct store *store, bool *done,
                                  struct error *err);
MUST_CHECK enum status empty_stage(struct store *store, bool *done);
MUST_CHECK enum status unmap_stage(struct store *store, bool *done,
                                   struct error *err);

#endif
