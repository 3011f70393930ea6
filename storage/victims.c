/* Which segment is worth a merge: full, below the last checkpoint, and with
 * little in it that must stay. */
#include "storage/merge.h"

#include "storage/internal.h"

#include "storage/io.h"

enum {
    LOOSE_ROUNDS_MAX = 64, /* of MERGE_RUNS, to count one entry exactly, */
    LOOSE_ROUND_COST = 64  /* each as much work as so many entries */
};

void victims_begin(struct merge *merge)
{
    merge->choose_at = 0;
    merge->best = 0;
    merge->best_live = 0;
    merge->best_bytes = 1;
}

/* ---- may it go at all? ---- */

static bool is_done(const struct merge *merge, uint32_t id)
{
    for (size_t i = 0; i < merge->done_count; i++) {
        if (merge->done[i] == id) {
            return true;
        }
    }
    return false;
}

/* What stands behind that offset of the file must not come back. */
static bool cut_at(struct store *store, struct segment *segment, uint32_t end)
{
    bool cut = false;
    off_t len;

    if (store_rest_in_doubt(segment)) {
        return false;
    }
    if (segment_hold(segment, &store->log, NULL) == STATUS_OK) {
        len = store->vfs->size(store->vfs, segment->fd);
        if (len > (off_t)end
            && io_truncate(store->vfs, segment->fd, end) == 0) {
            log_disk(&store->log, (int64_t)end - len);
            len = end;
        }
        cut = len >= 0 && len <= (off_t)end
              && io_sync(store->vfs, segment->fd) == 0;
    }
    segment_let_go(segment, &store->log);
    return cut;
}

/* The head of a segment that a recovery made says where the one before ends: it
 * stays until that one's file ends there. */
static bool is_needed(struct store *store, uint32_t id)
{
    const struct segment *segment = log_segment(&store->log, id);
    uint64_t end = segment->header.previous_end;
    struct segment *before;

    if (segment->header_lost) {
        return log_segment(&store->log, id - 1) != NULL;
    }
    before = end == 0 ? NULL : log_segment(&store->log, place_segment(end));
    return before != NULL && !cut_at(store, before, place_offset(end));
}

static bool is_eligible(struct store *store, uint32_t id)
{
    const struct merge *merge = &store->merge;
    const struct segment *segment = log_segment(&store->log, id);

    return segment != NULL && !store_rest_in_doubt(segment)
           && id < place_segment(atomic_load(&store->checkpointed))
           && !is_done(merge, id) && !seqset_has(&merge->unreadable, id);
}

/* ---- what is in it ---- */

/* Of messages that were moved here the tally knows only about where they lie
 * among others: count those that the keydir has here. */
static enum status count_here(struct store *store, const struct keeping *k,
                              const struct keydir_stretch *stretch,
                              uint64_t first, uint64_t *stay)
{
    struct merge *merge = &store->merge;
    uint64_t next = first;
    uint64_t found = 0;

    for (int i = 0; i < LOOSE_ROUNDS_MAX && found < *stay; i++) {
        size_t count;
        merge->choose_cost += LOOSE_ROUND_COST;
        enum status status = keydir_runs_in(store->keydir, stretch, &next,
                                            merge->runs, MERGE_RUNS, &count);
        if (status != STATUS_OK) {
            return status;
        }
        for (size_t r = 0; r < count; r++) {
            const struct store_run *run = &merge->runs[r];
            found += keeping_count(k, run->first_seq,
                                   run->first_seq + run->count - 1, run->count);
        }
        if (next > stretch->last_seq) {
            *stay = found < *stay ? found : *stay;
            break;
        }
    }
    return STATUS_OK;
}

static enum status weigh_entry(struct store *store,
                               const struct store_upkeep *upkeep, uint32_t id,
                               const struct tally_entry *entry, uint64_t *live)
{
    struct keeping *k = &store->merge.keeping;
    struct keydir_stretch stretch = { entry->topic, id, entry->last_seq };
    enum status status = keeping_look(store, upkeep->policy, entry->topic, k);
    uint64_t stay;

    if (status != STATUS_OK || entry->count == 0) {
        return status;
    }
    stay = keeping_count(k, entry->first_seq, entry->last_seq, entry->count);
    if (stay > 0 && entry->last_seq - entry->first_seq + 1 > entry->count) {
        status = count_here(store, k, &stretch, entry->first_seq, &stay);
    }
    /* A run may be there whose records were damaged: it is to be erased. */
    *live += stay == 0 ? 0 : entry->bytes * stay / entry->count + 1;
    return status;
}

static enum status weigh(struct store *store, const struct store_upkeep *upkeep,
                         const struct tally_segment *segment, uint64_t *live)
{
    enum status status = STATUS_OK;

    *live = 0;
    for (size_t i = 0; i < segment->count && status == STATUS_OK; i++) {
        if (segment->entries[i].topic != 0) {
            status = weigh_entry(store, upkeep, segment->id,
                                 &segment->entries[i], live);
        }
    }
    return status;
}

/* ---- the choice ---- */

/* How much of a victim of so many bytes may have to stay. */
static uint64_t live_max(const struct store *store,
                         const struct store_upkeep *upkeep, uint64_t bytes)
{
    uint64_t free_bytes =
        atomic_load_explicit(&store->figures.free_bytes, memory_order_relaxed);

    if (upkeep->room == 0) {
        return 0;
    }
    if (store_space_low(store)) { /* it goes into what is kept for acks */
        uint64_t part = bytes / MERGE_LOW_PART;
        part = part < MERGE_LOW_LEN ? part : MERGE_LOW_LEN;
        return store->keeper.moves_owed > 0 ? 0 : part;
    }
    return free_bytes != 0 && free_bytes < 2 * (uint64_t)store->capacity
               ? bytes / 100 * MERGE_SHARE_SHORT
               : bytes / 100 * MERGE_SHARE_MAX;
}

/* Small ones, which crashes leave behind, are worth a merge even when all of it
 * must stay. */
static uint64_t weight_of(const struct store *store,
                          const struct tally_segment *segment)
{
    uint64_t bytes = tally_bytes(segment);
    uint64_t least = store->capacity / MERGE_SMALL_SHARE;

    return bytes > least ? bytes : least;
}

static void consider(struct store *store, const struct store_upkeep *upkeep,
                     const struct tally_segment *segment, uint64_t live)
{
    struct merge *merge = &store->merge;
    uint64_t bytes = weight_of(store, segment);

    if (live > live_max(store, upkeep, bytes)) {
        return;
    }
    if ((merge->best == 0
         || (double)live / (double)bytes
                < (double)merge->best_live / (double)merge->best_bytes)
        && !is_needed(store, segment->id)) {
        merge->best = segment->id;
        merge->best_live = live;
        merge->best_bytes = bytes;
    }
}

enum status victims_step(struct store *store, const struct store_upkeep *upkeep,
                         bool *done)
{
    struct merge *merge = &store->merge;
    const struct tally *tally = &store->keeper.tally;

    *done = false;
    merge->choose_cost = 0;
    for (size_t i = 0; i < tally->count; i++) {
        const struct tally_segment *segment = &tally->segments[i];
        enum status status;
        uint64_t live;

        if (segment->id <= merge->choose_at
            || !is_eligible(store, segment->id)) {
            continue;
        }
        if (merge->choose_cost > MERGE_ENTRIES_MAX) {
            return STATUS_OK;
        }
        merge->choose_cost += segment->count;
        status = weigh(store, upkeep, segment, &live);
        if (status != STATUS_OK) {
            return status;
        }
        merge->choose_at = segment->id;
        consider(store, upkeep, segment, live);
        if (merge->best != 0 && merge->best_live == 0) {
            break;
        }
    }
    *done = true;
    return STATUS_OK;
}
