/* The insides of struct store, for the files of storage/ alone.
 *
 *   open, close  store.c; recover*.c and given.c find out what is there,
 *                keeper_load.c teaches it
 *   journal      append.c, build.c, batch.c, producers.c
 *   keeper       keeper.c, lanes.c, checkpoint.c; prepare.c, pool.c, spare.c
 *                make files; merge.c and those it names; tally.c knows what is
 *                in each segment; scrub.c, snapshot.c
 *   readers      view.c; readers.c says when a segment has none any more
 *   any          segment.c (the table of files), keydir*.c, examine.c,
 *                damage.c, doubt.c, io.c, vfs.c */
#ifndef GODWIT_STORAGE_INTERNAL_H
#define GODWIT_STORAGE_INTERNAL_H

#include "proto/limits.h"
#include "storage/examine.h"
#include "storage/histories.h"
#include "storage/keydir.h"
#include "storage/lanes.h"
#include "storage/merge.h"
#include "storage/producers.h"
#include "storage/rest.h"
#include "storage/segment.h"
#include "storage/store.h"
#include "storage/tally.h"

#include <pthread.h>

enum {
    TOPIC_ID_MAX = (1 << 24) - 1, /* ids come from the catalog, one by one */
    GROUP_ID_MAX = (1 << 24) - 1,
    RESERVE_LEN_MAX = 4 * 1024 * 1024, /* of a segment, kept for acks */
    RESERVE_SHARE = 8,
    /* A start does not wait for a whole segment to be filled with zeros. */
    FIRST_SEGMENT_LEN_MAX = 32 * 1024 * 1024,
    /* ... and no call of the keeper fills more than this. */
    PREPARE_STEP_LEN = 8 * 1024 * 1024,
    PREPARE_PIECE_LEN = 1024 * 1024, /* and when there is time */
    IDLE_FREE_SEGMENTS = 8, /* free space for so many: prepare ahead of need */
    /* After a failure to make a segment the journal waits before it tries again
     * by itself; the keeper tries whenever it is asked to. */
    MAKE_PAUSE_US = 100 * 1000,
    /* Appended and not synced: at most so much and one batch more. A start may
     * look for the end of the log no further. */
    UNSYNCED_LEN_MAX = BATCH_LEN_MAX,
    /* records of one batch, by their least size */
    BATCH_RECORDS_MAX = BATCH_LEN_MAX / RECORD_HEADER_LEN,
    SWEEP_BUDGET = 10000, /* keys removed for deleted things in a checkpoint */
    /* Disk space held for the keydir, by a file that is given up for it. */
    SPARE_LEN = 4 * 1024 * 1024,
    OLD_FILES_MAX = 4, /* of the last run, that the keeper removes */
    SPARE_FREE_LEN_MIN = 4 * SPARE_LEN /* made only when so much is free */
};

/* Where the log stands after a batch. */
struct log_end {
    uint64_t place;  /* one past the batch */
    uint64_t number; /* of the batch */
    uint64_t hash;   /* of its header */
};

/* A topic as the journal sees it. */
struct topic_state {
    uint64_t last_seq;
    uint64_t floor_seq; /* of the last trim; 0: none */
    uint64_t batch;     /* number of the batch it was last in, */
    uint32_t run;       /* and which run of it */
};

struct run_build {
    uint32_t topic;
    uint32_t count;
    uint64_t first_seq;
};

/* The batch that is being put together. */
struct build {
    enum batch_kind kind;
    struct iovec iov[BATCH_RECORDS_MAX + 3];
    uint32_t offsets[BATCH_RECORDS_MAX]; /* of messages, in the segment */
    uint32_t run_of[BATCH_RECORDS_MAX];
    uint32_t visits[BATCH_RECORDS_MAX];
    struct run_build runs[BATCH_RECORDS_MAX];
    uint8_t hashes[BATCH_RECORDS_MAX * 8]; /* of all records, in order */
    uint32_t positions[BATCH_RECORDS_MAX]; /* of each run in the table */
    uint32_t iov_count;
    uint32_t message_count;
    uint32_t visit_count;
    uint32_t run_count;
    uint32_t record_count;
    uint32_t records_len;
    uint32_t moved_len;  /* of those, moved by a merge */
    uint32_t room;       /* for records and index */
    uint32_t full_room;  /* the same in a segment as they usually are */
    uint32_t reserve;    /* what messages leave of the segment */
    bool chain_waits;    /* what did not fit is a chain */
    size_t chain_left;   /* bytes of the one that is being taken, */
    uint8_t *chain_last; /* and its last message that was written */
    uint64_t duplicates;
    uint64_t refused;
    uint8_t header[BATCH_HEADER_LEN];
    uint8_t *index; /* BATCH_LEN_MAX bytes */
};

struct journal {
    struct segment *active;
    uint32_t offset; /* where the next batch goes */
    struct log_end end;
    uint64_t durable; /* place known durable */
    bool unsynced;
    bool low; /* messages are refused */
    uint64_t make_after_us;
    struct topic_state *topics;
    uint32_t topic_count;
    struct producers producers;
    struct producers ids; /* of messages */
    size_t first_span;    /* whose turn it is to be taken first */
    struct build *build;
};

struct topic_note {
    uint64_t last_seq;
    uint64_t first_seq; /* of the last trim; 0: none */
    uint64_t floor_seq;
    bool dirty;
    bool deleted;
};

struct run_note {
    struct store_run run;
    bool moved;
};

struct fact_note {
    struct record_fact fact; /* name and value point into `bytes` */
    uint8_t *bytes;
};

/* What a damaged snapshot did say, while a start fills in from the log what it
 * did not: older records must not undo it. */
struct given {
    bool wanted;                            /* it was damaged */
    struct seqset facts[CATALOG_GROUP + 1]; /* ids of each class */
    uint64_t *lanes;                        /* group << 32 | topic, ascending */
    size_t lane_count;
    size_t lane_capacity;
};

/* Producers or ids to be removed from the keydir. */
struct gone_list {
    struct producer *entries;
    size_t count;
    size_t capacity;
};

struct keeper {
    struct log_end applied;
    uint64_t known; /* what the log says below came out of a snapshot, apart
                     * from where its messages are */
    struct given given;
    uint64_t pending_len; /* bytes applied since the last checkpoint, */
    uint64_t applied_len; /* and since the start */
    uint64_t moves_owed;  /* records for merge batches, not applied yet */
    struct tally tally;
    struct seqset untold; /* removed segments that the keydir still tallies */
    struct run_note *runs;
    size_t run_count;
    size_t run_capacity;
    struct topic_note *topics;
    uint32_t topic_count;
    bool *groups_deleted;
    uint32_t group_count;
    struct lanes lanes;
    struct fact_note *facts;
    size_t fact_count;
    size_t fact_capacity;
    struct producers producers;
    struct producers ids;
    struct gone_list gone_producers;
    struct gone_list gone_ids;
    struct histories histories;
    bool sweeping;           /* deleted things still have keys */
    uint32_t let_go_through; /* segment id */
    struct rest rest;        /* of the one behind that; segment 0: of none */
};

/* What an open view shows of itself to the keeper, which removes segments. */
struct view_mark {
    /* 0: it rests; else views.epoch as it was when it last held nothing. */
    _Atomic uint64_t seen;
    _Atomic uint64_t reached; /* place: it has got all commits before */
};

struct views {
    pthread_mutex_t lock; /* of the list */
    struct view_mark *open[STORE_VIEW_COUNT_MAX];
    size_t count;
    _Atomic uint64_t epoch; /* from 1; rises with each removal of a segment */
};

/* damage.c */
enum { DAMAGE_PLACES_MAX = 4096 /* told apart; a power of two */ };

struct damages {
    pthread_mutex_t lock; /* of all */
    struct store_damage kept[STORE_DAMAGE_KEPT];
    uint64_t count;
    uint64_t *places; /* NULL while there are none */
    size_t place_count;
};

/* How far the scrub is: the keeper's. */
enum scrub_part { SCRUB_LOG, SCRUB_SNAPSHOT, SCRUB_KEYDIR };

struct scrub {
    enum scrub_part part;
    uint32_t id; /* of the segment that it is in, or was in last */
    int fd;
    uint8_t *memory; /* NULL: in none */
    size_t memory_len;
    uint32_t forgotten; /* of it, given back */
    struct examine examine;
    struct keydir_walk *walk; /* NULL: not begun */
    int table;
};

struct figures {
    _Atomic uint64_t segments;
    _Atomic uint64_t log_bytes;
    _Atomic uint64_t records;
    _Atomic uint64_t batches;
    _Atomic uint64_t syncs;
    _Atomic uint64_t checkpoints;
    _Atomic uint64_t duplicates;
    _Atomic uint64_t refused;
    _Atomic uint64_t corrupt_reads;
    _Atomic uint64_t free_bytes;
    _Atomic uint64_t pool_segments;
    _Atomic uint64_t moved_bytes;
    _Atomic uint64_t freed_bytes;
    _Atomic uint64_t snapshots;
    _Atomic uint64_t scrubbed_bytes;
    _Atomic uint64_t scrub_passes;
    _Atomic uint64_t damaged_records;
    _Atomic uint64_t damaged_batches;
    _Atomic uint64_t keydir_bytes;
};

struct store {
    /* fixed once open */
    const struct vfs *vfs;
    char dir[PATH_LEN_MAX];
    uint32_t capacity; /* of a new segment */
    uint64_t epoch;
    int lock_fd;
    struct keydir *keydir;
    struct log log;

    bool spare_kept; /* the keeper's: the spare file is there */
    /* The keeper's: files of the last run that are to be removed, by id. */
    struct {
        uint32_t id;
        off_t len;
    } old[OLD_FILES_MAX];
    size_t old_count;
    /* The keeper's: ids of segments that were removed, or are about to be. */
    struct seqset gone;
    /* Fixed once open: ids of files named like segments that are not ours. */
    struct seqset foreign;
    struct merge merge; /* the keeper's */

    /* between journal and keeper */
    pthread_mutex_t make_lock;      /* whoever makes the next segment */
    _Atomic(struct segment *) next; /* ready, named, not in the table yet */
    _Atomic uint32_t active_id;
    _Atomic bool next_wanted;        /* the journal cannot go on without it */
    struct segment *making;          /* under make_lock: not ready yet, */
    uint32_t zeroed;                 /* filled with zeros up to here */
    uint32_t pool[SEGMENT_POOL_MAX]; /* under make_lock: ids of the files */
    uint32_t pool_count;

    /* any thread reads */
    _Atomic bool frozen;
    _Atomic bool space_low;
    _Atomic bool keydir_doubtful;  /* it gave what cannot be */
    _Atomic bool keydir_low;       /* its last commit found the disk full */
    _Atomic uint64_t checkpointed; /* place the keydir covers */
    _Atomic uint64_t now_us;       /* wall clock of the last append */
    struct figures figures;
    struct views views;
    struct damages damages;
    /* The log has lost something that the keydir may still know: the keeper is
     * to write a snapshot, and takes this back. */
    _Atomic bool snapshot_wanted;
    struct scrub scrub;

    struct journal journal;
    struct keeper keeper;
};

/* Ids are those of a topic, whoever sends. */
static inline uint32_t producer_app(const struct record *record)
{
    return (record->flags & RECORD_ID) != 0 ? 0 : record->app;
}

static inline void figure_add(_Atomic uint64_t *figure, uint64_t by)
{
    atomic_fetch_add_explicit(figure, by, memory_order_relaxed);
}

static inline bool store_next_ready(const struct store *store)
{
    return atomic_load_explicit(&store->next, memory_order_acquire) != NULL;
}

/* build.c */
/* What taking one record came to. */
enum taken {
    TAKEN,      /* in the batch, or dropped and flagged */
    TAKEN_NONE, /* does not fit in this batch, or this segment */
    TAKEN_NEVER /* does not fit in any */
};
void build_begin(struct store *store, enum batch_kind kind);
/* TAKEN: all of it; else what the record at `taken` came to. */
enum taken build_take_span(struct journal *journal, struct store_span *span,
                           uint64_t now_us);
/* After a batch that was full the next one begins with the span behind the one
 * that filled it, so that none has to wait for another's end. False: it is
 * full. */
bool build_take_spans(struct journal *journal, struct store_span *spans,
                      size_t count, uint64_t now_us);
/* Where the records end in the segment. */
uint32_t build_end(const struct journal *journal);
/* The index, at `offset` in the segment. Its length. */
uint32_t build_index(struct build *b, uint32_t offset);
/* The end of a segment that messages leave to acks and facts while there is no
 * other segment to go on in. */
uint32_t build_reserve(const struct segment *segment);
MUST_CHECK enum status journal_topic(struct journal *journal, uint32_t topic,
                                     uint64_t last_seq, uint64_t floor_seq);

/* append.c */
MUST_CHECK enum status journal_init(struct journal *journal, uint64_t seed);
void journal_fini(struct journal *journal);
void store_freeze(struct store *store);

/* prepare.c */
/* There is, or may be, something behind its end: its file is left alone. */
bool store_rest_in_doubt(const struct segment *segment);
/* The keeper removes the file "ID.old" of the log. False: at once, please. */
bool store_note_old(struct store *store, uint32_t id);
/* The id of the segment after that one: no other file has its name.
 * STATUS_NO_SPACE: they have run out. */
MUST_CHECK enum status store_next_id(const struct store *store, uint32_t after,
                                     uint32_t *id, struct error *err);
/* Have store->next at once; `after` is the id of the segment before it. */
MUST_CHECK enum status store_have_next(struct store *store, uint32_t after,
                                       uint64_t now_us, struct error *err);

/* pool.c */
/* The keeper's. Takes a segment that is out of the table and that nobody reads
 * any more: unmaps it, and puts its file into the pool for a later one, or
 * removes it when the pool is full or it is shorter than new ones are. Syncs
 * the folder; counts segments, freed_bytes and disk_bytes. Whatever comes of
 * it, the segment is freed; STATUS_IO: its file may still have its name. */
MUST_CHECK enum status
store_recycle(struct store *store, struct segment *segment, struct error *err);
/* The rest under make_lock, or at a start. A segment as segment_make() gives
 * it, of full capacity and with nothing left to be filled with zeros.
 * STATUS_NOT_FOUND: the pool is empty. */
MUST_CHECK enum status pool_make(struct store *store, struct segment **out,
                                 const struct segment_header *header,
                                 struct error *err);
/* The disk is full: remove a file that is not needed for the next segment. */
void pool_shrink(struct store *store);
/* segment_discard(); a file of the pool goes back there. */
void pool_discard(struct store *store, struct segment *segment);
/* A start has found such a file: takes it or removes it; raises *epoch to its.
 */
void pool_found(struct store *store, uint32_t id, uint64_t *epoch);

/* spare.c */
/* Have the spare file when there is plenty of space; else leave it. */
void spare_make(struct store *store);
/* Give its space to the keydir. False when there was none. */
bool spare_release(struct store *store);

/* damage.c */
void damages_init(struct damages *damages);
void damages_fini(struct damages *damages);
/* Any thread. False: this place was known. Without a segment the offset is no
 * place: it tells one from another of its kind. */
bool store_damage_note(struct store *store, const struct store_damage *damage);
/* A message that cannot be read where the run says, of a segment that stays
 * mapped meanwhile. Its record's place is noted as far as it can be told, else
 * the batch's, without a length. */
void store_damage_message(struct store *store, const struct store_run *run,
                          uint64_t seq, enum damage_kind kind);

/* scrub.c */
void scrub_init(struct scrub *scrub);
void scrub_fini(struct store *store);
/* Its file is about to go: hold it no longer. */
void scrub_forget(struct store *store, uint32_t id);

/* readers.c */
void views_init(struct views *views);
void views_fini(struct views *views);
/* STATUS_AGAIN: STORE_VIEW_COUNT_MAX are open. */
MUST_CHECK enum status views_add(struct views *views, struct view_mark *mark,
                                 uint64_t reached);
void views_remove(struct views *views, struct view_mark *mark);
/* The view's thread: it holds nothing, and is about to look into the table of
 * segments. */
void view_wake(struct views *views, struct view_mark *mark);
bool view_awake(const struct view_mark *mark);
void view_reached(struct view_mark *mark, uint64_t place);
/* It holds nothing and will not look without waking. */
void view_rest(struct view_mark *mark);
/* The keeper's. No view waits for a commit in this segment or before any more:
 * only then may it be taken out. */
bool store_retire_ready(struct store *store, uint32_t id);
/* Take it out of the table (NULL: there was none). The caller owns it, and may
 * unmap it as soon as all views have rested since. */
struct segment *store_retire_begin(struct store *store, uint32_t id,
                                   uint64_t *epoch);
bool store_retire_rested(struct store *store, uint64_t epoch);

/* doubt.c */
bool doubt_found(struct store *store);
/* A start takes the keydir in hand; and while it still does. */
void doubt_begin(struct store *store);
void doubt_set(struct store *store);
/* It has to be made anew: if this start does not, then the next. */
void doubt_insist(struct store *store);
void doubt_clear(struct store *store);
/* The keydir cannot be believed: the next start makes a new one. Any thread. */
void store_doubt(struct store *store);

/* keeper.c */
MUST_CHECK enum status keeper_init(struct keeper *keeper, uint64_t seed);
void keeper_fini(struct keeper *keeper);
/* Make an array hold `need` entries. */
MUST_CHECK enum status keeper_reserve(void **array, size_t *capacity,
                                      size_t need, size_t entry_len);
/* NULL: no such id, or no memory. */
struct topic_note *keeper_topic(struct keeper *keeper, uint32_t topic);
MUST_CHECK enum status keeper_set_deleted(struct keeper *keeper,
                                          const struct record_fact *fact);
/* Messages below are deleted. */
uint64_t keeper_first_seq(const struct keeper *keeper, uint32_t topic);
bool keeper_topic_deleted(const struct keeper *keeper, uint32_t topic);
/* The lane as the keeper has noted it. NULL with STATUS_OK: its group or topic
 * is gone. */
MUST_CHECK enum status keeper_lane(struct store *store, uint32_t group,
                                   uint32_t topic, struct lane_image **out);

/* given.c */
void given_fini(struct given *given);
MUST_CHECK enum status given_fact(struct given *given,
                                  const struct record_fact *fact);
MUST_CHECK enum status given_lane(struct given *given, uint32_t group,
                                  uint32_t topic);
/* Is it taken from the log, although that is older than the snapshot? */
bool given_not_fact(const struct given *given, const struct record_fact *fact);
bool given_not_lane(const struct given *given, uint32_t group, uint32_t topic);

/* keeper_load.c */
/* What the keydir knows, into the keeper's memory. */
MUST_CHECK enum status keeper_load(struct store *store);
/* What the keeper knows, into the journal's memory. */
MUST_CHECK enum status keeper_teach(struct store *store);

/* How much of a batch the keeper may believe. */
enum trust {
    TRUST_ALL,    /* this process wrote it; it is in the map */
    TRUST_NOTHING /* read from a disk: each record is verified */
};
/* Take note of a batch. *lost (may be NULL with TRUST_ALL) grows by the bytes
 * of records found damaged. STATUS_AGAIN: checkpoint first. */
MUST_CHECK enum status keeper_apply_batch(struct store *store,
                                          const struct batch *batch,
                                          enum trust trust, uint64_t *lost);

void keeper_forget_notes(struct keeper *keeper); /* they are written */

/* checkpoint.c */
enum checkpoint {
    CHECKPOINT_NOTES, /* when there is something to write */
    CHECKPOINT_MARK,  /* always: it takes a clean mark away */
    CHECKPOINT_ERASE, /* always: and forget what is erased of a merge's victim */
    CHECKPOINT_CLEAN  /* always, with a clean mark */
};
MUST_CHECK enum status
keeper_checkpoint(struct store *store, enum checkpoint kind, struct error *err);
/* Apply what the log holds past the keeper's position. */
MUST_CHECK enum status keeper_catch_up(struct store *store, struct error *err);

/* recover.c */
/* Find out what the log and the keydir hold, make them agree, and leave the
 * store ready to append. */
MUST_CHECK enum status store_recover(struct store *store,
                                     const struct store_config *config,
                                     struct store_recovery *out,
                                     struct error *err);

#endif
