/* The durable log and what is known about it: the face of storage/. The broker
 * includes this header and record.h and nothing else of the folder.
 *
 * Threads: three callers, each with its own half of the struct.
 *   journal  store_append, store_append_merge, store_sync     one at a time
 *   keeper   store_apply, store_checkpoint, store_prepare,
 *            store_upkeep, store_scrub                        one thread
 *   readers  struct store_view, one a thread
 * open and close belong to whoever has stopped the others. No call logs, sleeps
 * or starts a thread. */
#ifndef GODWIT_STORAGE_STORE_H
#define GODWIT_STORAGE_STORE_H

#include "proto/error.h"
#include "storage/record.h"
#include "storage/vfs.h"

#include <stdbool.h>

struct store;

struct store_config {
    const char *dir;       /* made when missing; mode 0700 */
    const struct vfs *vfs; /* NULL: vfs_system() */
    /* 0: STORE_SEGMENT_LEN. Holds any record that will be appended and that
     * was, so SEGMENT_MIB_MIN at least; tests take small ones. */
    uint64_t segment_len;
    uint64_t keydir_len_max; /* LMDB map size; 0: STORE_KEYDIR_LEN_MAX */
    uint64_t now_us;         /* wall clock at open */
    /* Told now and then while a recovery runs; may be NULL. */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_arg;
};

enum { STORE_SEGMENT_LEN = 256 * 1024 * 1024 };
#define STORE_KEYDIR_LEN_MAX (UINT64_C(64) << 30)

/* What opening found and did, for the log line of the broker. */
struct store_recovery {
    bool fresh;              /* an empty folder: a new store was made */
    bool clean;              /* the last run closed it properly */
    bool keydir_rebuilt;     /* missing or unusable: replayed from the start */
    uint64_t replayed_bytes; /* of the log, past the keydir's position */
    uint64_t replayed_records;
    uint64_t rescued_records; /* of a doubtful tail, written again and synced */
    uint64_t torn_bytes;      /* cut from the end: never confirmed */
    /* Headers of batches in there: a write that was cut short, or damage to
     * what was confirmed last; nothing says which. */
    uint64_t torn_batches;
    uint64_t damaged_batches; /* durable once, unreadable now */
    uint64_t damaged_bytes;
    uint64_t missing_segments; /* gone, or files that are not ours */
    uint64_t segment_count;
    uint64_t us; /* left 0; the caller's stopwatch fills it */
};

/* Open or make a store. Takes an exclusive lock on the folder: STATUS_BUSY when
 * another process has it. STATUS_NEWER: written by a newer format.
 * STATUS_IO/NO_SPACE/CORRUPT with the detail in *err. When it returns OK, all
 * that the log holds is durable and the keydir is current with it. */
MUST_CHECK enum status store_open(struct store **out,
                                  const struct store_config *config,
                                  struct store_recovery *recovery,
                                  struct error *err);

/* Sync, apply what the keeper has not, final checkpoint and clean mark if the
 * store is not frozen, then release everything. Accepts NULL. All views must be
 * closed before. */
void store_close(struct store *store);

/* ---- journal ---- */

/* Whole finished records, one after the other, in memory the store may write
 * to: seq, time, flags and header checksum are filled in place. */
struct store_span {
    uint8_t *at;
    size_t len;
    size_t taken; /* out: how far it got; always at a record's end */
    /* Out: where its first record that was written stands in the commit's
     * segment, the others close behind it; 0 when none was. */
    uint32_t offset;
};

/* Where one commit batch stands, and what is in it. */
struct store_commit {
    uint32_t segment;      /* from 1 */
    uint32_t offset;       /* of the batch in it */
    uint32_t len;          /* of the batch */
    uint32_t record_count; /* written; dropped and refused ones apart */
};

/* Number the records of the spans (of each in its order; a call that could not
 * take all lets another span go first the next time), drop duplicates,
 * and append what fits one batch (BATCH_LEN_MAX) and the segment; `taken` says
 * how far it came, so call again for the rest. Not durable yet. With nothing
 * to write (all dropped or refused) out->record_count is 0 and no sync is owed.
 * When no room is left for messages each is flagged RECORD_REFUSED and taken,
 * as is at any time one that not even an empty segment would hold; acks and
 * catalog facts go on into the reserve and are never refused. A seek goes no
 * farther back than the topic's floor, where it stands in the log, nor beyond
 * the last message: its record says afterwards where it went.
 * STATUS_NO_SPACE: not even that; nothing is taken. STATUS_IO, and STATUS_FROZEN
 * from then on: nothing written since the last good sync may be confirmed. */
MUST_CHECK enum status store_append(struct store *store,
                                    struct store_span *spans, size_t count,
                                    uint64_t now_us, struct store_commit *out,
                                    struct error *err);

/* Messages with RECORD_MORE and the one behind them are a chain: at most
 * PUBLISH_COUNT_MAX of them and ATOMIC_LEN_MAX bytes of records, whole in one
 * span. Its messages go into one batch, or all are refused (those stored before
 * are dropped as ever); a crash leaves all or none. A chain that is too long or
 * has no end is refused. */

/* The same for what store_upkeep() wrote: a batch of its own kind, whose
 * messages keep the number and time they have. Nothing is numbered, dropped or
 * refused; the other records (trims) get their time. Takes what fits one batch,
 * call again for the rest. STATUS_NO_SPACE: nothing is taken. May use the
 * segment's reserve. */
MUST_CHECK enum status store_append_merge(struct store *store,
                                          struct store_span *span,
                                          uint64_t now_us,
                                          struct store_commit *out,
                                          struct error *err);

/* fdatasync of what was appended. OK: durable. The first failure is final:
 * STATUS_IO now, STATUS_FROZEN ever after. */
MUST_CHECK enum status store_sync(struct store *store, struct error *err);

/* Any thread. */
bool store_frozen(const struct store *store);
bool store_space_low(
    const struct store *store); /* messages are being refused */

/* ---- keeper ---- */

/* Get the next segment ready before the journal needs it, a bounded bit at each
 * call (so call it often while there is traffic). Cheap when it is ready.
 * STATUS_NO_SPACE (for a segment, or for what the keydir has in reserve) is
 * reported and tried again at the next call. */
MUST_CHECK enum status store_prepare(struct store *store, struct error *err);

/* The next segment, files of the last run, or full segments are still to be
 * seen to: call store_prepare() soon, even without traffic. */
bool store_leftovers(const struct store *store);

/* Take note of one commit batch (in log order, each durable). Memory only.
 * STATUS_AGAIN: as much is pending as may be; checkpoint first, and when that
 * finds no space give the same commit again later. Any other failure freezes
 * the store. */
MUST_CHECK enum status store_apply(struct store *store,
                                   const struct store_commit *commit);

/* Bytes of log applied since the last checkpoint. */
uint64_t store_pending(const struct store *store);

/* Write what was applied to the keydir in one synced transaction that also
 * holds the log position. STATUS_NO_SPACE: nothing is written and nothing
 * forgotten, messages are refused from now on; call again later. Any other
 * failure freezes the store. */
MUST_CHECK enum status store_checkpoint(struct store *store, struct error *err);

/* How the messages of a topic are kept. */
enum store_keep {
    STORE_KEEP_UNTIL_SETTLED = 1, /* by each group they are owed to; a topic
                                   * owed to none keeps everything */
    STORE_KEEP_UNTIL_LIMIT = 2    /* whether settled or not: a log to replay */
};

/* A group of the topic, and the last message it was never to get. */
struct store_owed {
    uint32_t group;
    uint64_t after_seq;
};

struct store_retention {
    enum store_keep keep;
    uint64_t
        age_us; /* settled: kept at least so long; limit: at most. 0: none */
    uint64_t bytes; /* limit: records of the topic, about; 0: any */
    uint64_t count; /* limit; 0: any */
    const struct store_owed *owed; /* by group id */
    size_t owed_count;
};

struct store_policy {
    /* False: there is no such topic (any more). What it points to is lent until
     * the next call. As of the last commit given to store_apply(). */
    bool (*topic)(void *arg, uint32_t topic, struct store_retention *out);
    void *arg;
};

struct store_upkeep {
    const struct store_policy *policy;
    uint64_t now_us; /* wall clock */
    uint8_t *to;     /* aligned to 8; a message must fit: 2 MiB, */
    size_t room;     /* with 0 nothing that needs the log is begun */
    size_t len;      /* out: whole finished records in `to` */
    bool more;       /* out: call again soon */
};

/* One bounded bit of retention, merge, snapshot, removal and recycling. What it
 * wrote into `to` goes to store_append_merge(), in this order and before what a
 * later call writes; the commits come back through store_apply() like all.
 * STATUS_NO_SPACE: tried again later. Any other failure freezes the store. */
MUST_CHECK enum status store_upkeep(struct store *store,
                                    struct store_upkeep *upkeep,
                                    struct error *err);

struct store_scrub {
    size_t budget; /* bytes to read */
    size_t read;   /* out */
    bool done;     /* out: a pass over all that is durable has ended */
};

/* Read the next bytes of the log from the disk and verify them. What is damaged
 * is counted (see store_stats) and named by store_damage_seen(). STATUS_IO:
 * some did not read; the next call goes on behind them. */
MUST_CHECK enum status
store_scrub(struct store *store, struct store_scrub *scrub, struct error *err);

/* What can be wrong with a place of the log. */
#define STORE_DAMAGE_MAP(X)                                                    \
    X(DAMAGE_HEAD, 1, "segment head")                                          \
    X(DAMAGE_BATCH, 2, "batch") /* its header: whatever was in it */           \
    X(DAMAGE_INDEX, 3, "index") /* of a batch: nothing is lost */              \
    X(DAMAGE_MESSAGE, 4, "message")                                            \
    X(DAMAGE_RECORD, 5, "record")   /* no message, or not known what */        \
    X(DAMAGE_PADDING, 6, "padding") /* behind a record: nothing is lost */     \
    X(DAMAGE_CHAIN, 7, "chain")     /* does not follow what stands before */   \
    X(DAMAGE_READ, 8, "read error") /* the disk does not give the bytes */     \
    X(DAMAGE_SNAPSHOT, 9, "snapshot")                                          \
    X(DAMAGE_KEYDIR, 10, "keydir")

enum damage_kind {
#define X(name, number, word) name = number,
    STORE_DAMAGE_MAP(X)
#undef X
};

/* Offset and length are those of what the kind names: of a head its block, of
 * an index or of bytes that do not read just these, of padding the record that
 * it is behind. A message whose record is not found has its batch's offset. */
struct store_damage {
    enum damage_kind kind;
    uint32_t segment; /* 0: not in the log; then offset and len are 0 too */
    uint32_t offset;
    uint32_t len;   /* 0: not known */
    uint32_t topic; /* of a message, 0 where not known */
    uint64_t seq;   /* the same */
};

/* The words of the list above. */
const char *store_damage_word(enum damage_kind kind);

enum { STORE_DAMAGE_KEPT = 64 };

/* Damage found since the store was opened is numbered from 0, each place once,
 * and the last STORE_DAMAGE_KEPT are kept: give those from *next on, at most
 * `room`, and how many that were. *next is then where to go on. Any thread. */
size_t store_damage_seen(struct store *store, uint64_t *next,
                         struct store_damage *out, size_t room);

/* ---- what a start needs; before the threads run ---- */

typedef void (*store_fact_fn)(void *arg, const struct record_fact *fact);
/* All facts not deleted, by class, then id. */
MUST_CHECK enum status store_each_fact(struct store *store, store_fact_fn fn,
                                       void *arg);

/* The highest id a fact of this class ever had, deleted ones included; 0 when
 * there was none. Ids are never used again. */
MUST_CHECK enum status store_last_id(struct store *store,
                                     enum catalog_class class, uint32_t *out);

/* One group's view of one topic, as the log has it. */
struct store_lane {
    uint32_t group;
    uint32_t topic;
    /* Settled numbers, from 1. Below the topic's first_seq only how many there
     * are is as it was. */
    const struct seqset *acked;
    const struct seqset *gaps;    /* of those, lost to damage */
    const struct seqset *expired; /* of those, over before they were settled */
    uint64_t filtered;            /* how many of those the filter kept away, */
    uint64_t discarded;           /* and how many were dead before */
    const struct seqset *dead;    /* not settled and not to be delivered */
    const struct retry *retries;  /* of numbers neither settled nor dead, by
                                   * seq */
    size_t retry_count;
    bool sought; /* it began anew behind `after`, wherever the group began; */
    uint64_t after; /* up to there all were settled then but the dead, and only
                     * `acked`, `dead` and `retries` speak of them */
};
typedef void (*store_lane_fn)(void *arg, const struct store_lane *lane);
MUST_CHECK enum status store_each_lane(struct store *store, store_lane_fn fn,
                                       void *arg);

struct store_topic {
    uint32_t topic;
    uint64_t last_seq;  /* 0 when it has no message */
    uint64_t first_seq; /* messages below are deleted, for everybody */
    uint64_t floor_seq; /* groups that are made now begin here at the earliest:
                         * below are only messages owed to older ones */
};
typedef void (*store_topic_fn)(void *arg, const struct store_topic *topic);
MUST_CHECK enum status store_each_topic(struct store *store, store_topic_fn fn,
                                        void *arg);

/* ---- readers ---- */

/* One thread's window on the durable log: the keydir for what is checkpointed,
 * a table of its own for what came since. */
struct store_view;

/* It knows what is checkpointed and the commits it is given: open it before the
 * journal starts, or give it every commit since the last checkpoint. */
MUST_CHECK enum status store_view_open(struct store_view **out,
                                       struct store *store, struct error *err);
void store_view_close(struct store_view *view);

/* Messages first_seq..first_seq+count-1 of one topic in one batch. */
struct store_run {
    uint32_t topic;
    uint32_t count;
    uint64_t first_seq;
    uint32_t segment;
    uint32_t batch; /* its offset */
    uint32_t table; /* offset of the run's table of record offsets */
};

/* A durable batch has come (in log order). Calls back once for each run of
 * messages that are new, and once for each record of another kind that must be
 * known (catalog facts, trims). After it, store_view_message() finds the batch.
 */
struct store_visitor {
    void (*run)(void *arg, const struct store_run *run);
    void (*fact)(void *arg, const struct record_fact *fact, uint32_t app);
    void (*trim)(void *arg, const struct record_trim *trim); /* or NULL */
    void *arg;
};
MUST_CHECK enum status store_view_commit(struct store_view *view,
                                         const struct store_commit *commit,
                                         const struct store_visitor *visitor);

/* The thread is about to sleep: it holds no message and no page any more. Any
 * other call wakes the view again. A view that neither rests nor gets commits
 * keeps removed segments on the disk; one that does not get its commits keeps
 * segments from being removed. */
void store_view_rest(struct store_view *view);

/* Remembers where a reader of one topic stands, so that the next message is
 * found without a search. Zero-initialise. Stays good for ever. */
struct store_cursor {
    struct store_run run;
    uint64_t readable[2]; /* places of pages known to be so; the store's */
};

/* Message `seq` of `topic`, verified. Its body points into the mapped segment
 * and stays good until the calling thread's next store_view_commit() or
 * store_view_rest().
 * STATUS_NOT_FOUND: no such message (never, or deleted); then *next_seq, if
 * not NULL, is the next one there is, 0 if none. STATUS_CORRUPT: it is damaged;
 * STATUS_IO: the disk or the keydir failed, the message may be whole. */
MUST_CHECK enum status store_view_message(struct store_view *view,
                                          struct store_cursor *cursor,
                                          uint32_t topic, uint64_t seq,
                                          struct record *out,
                                          uint64_t *next_seq);

/* A failed delivery, as the log has it. */
struct store_failure {
    uint64_t time_us; /* wall clock */
    uint64_t holder;  /* of which lease; 0: none */
    uint32_t attempts;
    enum failure_cause cause;
    bool dead; /* it was given up with this one */
    uint16_t reason_len;
    char reason[REASON_LEN_MAX];
};

/* The last failures of a message not settled, at most HISTORY_MAX, oldest
 * first, as of the last checkpoint; the last `room` of them when that is less.
 * None is STATUS_OK with *count 0. */
MUST_CHECK enum status store_view_history(struct store_view *view,
                                          uint32_t group, uint32_t topic,
                                          uint64_t seq,
                                          struct store_failure *out,
                                          size_t room, size_t *count);

/* How a group settled a message that it has settled, as of the last checkpoint:
 * SETTLED_SINCE then, so nothing is known; SETTLED_PLAINLY: neither as a gap
 * nor as expired. Costs a look at the whole lane: for people who ask. */
enum store_settled {
    SETTLED_SINCE,
    SETTLED_PLAINLY,
    SETTLED_AS_GAP,
    SETTLED_AS_EXPIRED
};
MUST_CHECK enum status store_view_settled(struct store_view *view,
                                          uint32_t group, uint32_t topic,
                                          uint64_t seq,
                                          enum store_settled *out);

/* ---- figures; any thread, each value by itself ---- */
enum store_wait {
    STORE_WAIT_HOLD = 1, /* somebody holds the lock on DIR/store.hold */
    STORE_WAIT_READER    /* a view neither rests nor gets commits */
};

struct store_stats {
    uint64_t segments;
    uint64_t log_bytes; /* appended since open */
    uint64_t records;
    uint64_t batches;
    uint64_t syncs;
    uint64_t checkpoints;
    uint64_t duplicates;
    uint64_t refused; /* for want of space */
    uint64_t corrupt_reads;
    uint64_t free_bytes; /* on the disk, at the last store_prepare() */
    uint64_t disk_bytes; /* of all segments, the pool's too */
    uint64_t pool_segments;
    uint64_t moved_bytes; /* by merges, since open */
    uint64_t freed_bytes; /* of segments removed or recycled, since open */
    uint64_t snapshots;   /* written since open */
    uint64_t scrubbed_bytes;
    uint64_t scrub_passes;
    uint64_t damaged_records; /* found by a reader or the scrub, each once */
    uint64_t damaged_batches; /* headers, indexes, breaks between them */
    uint64_t keydir_bytes;    /* of its file, at the last checkpoint */
    /* What the removal of segments that nothing is needed of waits for, and how
     * long already: 0 0 when it does not. As of the last store_upkeep(). */
    enum store_wait removal_waits;
    uint64_t removal_waits_us;
};
void store_stats(const struct store *store, struct store_stats *out);

/* The format versions this build writes, for --version. */
#define STORE_FORMAT_VERSION 3

#endif
