/* What must stay of a victim is copied to the end of the log, byte by byte, and
 * the keydir's other entries for it are erased. What stands in the victim is
 * asked of the keydir: a message that was moved before, or never belonged
 * there, is not found. */
#include "storage/merge.h"

#include "storage/internal.h"

enum { WINDOW_LEN = 64 * 1024 };

void moving_begin(struct merge *merge, uint32_t victim)
{
    merge->victim = victim;
    merge->moved = false;
    merge->at = (struct merge_at) { 0 };
    merge->erased = merge->at;
    merge->erasing = merge->at;
    merge->run_count = merge->run_at = 0;
}

/* ---- one message ---- */

static bool is_message(const struct record *record, const struct store_run *run,
                       uint64_t seq)
{
    return record->kind == RECORD_MESSAGE && record->topic == run->topic
           && record->seq == seq;
}

/* A segment as it is read: what is to be looked at is first asked for, by the
 * window, so that a bad sector gives an error instead of a signal. */
struct look {
    struct store *store;
    struct segment *segment;
    struct batch_source source;
    bool failed; /* something could not be read */
};

static bool can_read(struct look *look, uint64_t offset, uint64_t len,
                     enum merge_window window)
{
    uint64_t *known = &look->store->merge.readable[window];
    uint64_t at = offset & ~(uint64_t)(WINDOW_LEN - 1);

    if (offset > look->source.limit || len > look->source.limit - offset) {
        return false;
    }
    for (; at < offset + len; at += WINDOW_LEN) {
        uint64_t place = place_of(look->segment->header.id, (uint32_t)at);
        uint64_t end = at + WINDOW_LEN < look->source.limit
                           ? at + WINDOW_LEN
                           : look->source.limit;
        if (*known != place
            && !segment_readable(look->segment, &look->store->log, at, end)) {
            look->failed = true;
            return false;
        }
        *known = place;
    }
    return true;
}

static bool by_table(struct look *look, const struct store_run *run,
                     uint64_t seq, struct record *out, struct slice *bytes)
{
    const uint8_t *base = look->source.base;
    uint64_t entry = run->table + (seq - run->first_seq) * 4;
    uint32_t offset;
    size_t size;

    if (run->table == 0 || !can_read(look, entry, 4, MERGE_TABLE)) {
        return false;
    }
    offset = get_u32(base + entry);
    if (offset % RECORD_ALIGN != 0
        || !can_read(look, offset, RECORD_HEADER_LEN, MERGE_RECORDS)) {
        return false;
    }
    size = record_size_at(base + offset);
    if (size < RECORD_HEADER_LEN
        || !can_read(look, offset, size, MERGE_RECORDS)) {
        return false;
    }
    *bytes = slice_of(base + offset, size);
    return record_read(*bytes, out) == STATUS_OK && is_message(out, run, seq);
}

static bool by_walk(struct look *look, const struct store_run *run,
                    uint64_t seq, struct record *out, struct slice *bytes)
{
    struct batch batch;
    uint32_t at = 0;

    if (!can_read(look, run->batch, BATCH_HEADER_LEN, MERGE_RECORDS)
        || batch_read_header(&look->source, run->batch, &batch) != STATUS_OK
        || !can_read(look, run->batch, batch.header.len, MERGE_RECORDS)) {
        return false;
    }
    while (batch_next(&batch, &at, bytes)) {
        if (record_read(*bytes, out) == STATUS_OK
            && is_message(out, run, seq)) {
            return true;
        }
    }
    return false;
}

enum status merge_message(struct store *store, const struct store_run *run,
                          uint64_t seq, struct record *out, struct slice *bytes)
{
    struct look look = { .store = store,
                         .segment = log_segment(&store->log, run->segment) };

    if (look.segment == NULL || look.segment->map == NULL) {
        return STATUS_CORRUPT;
    }
    look.source = segment_source(look.segment, &store->log);
    if (by_table(&look, run, seq, out, bytes)
        || (!look.failed && by_walk(&look, run, seq, out, bytes))) {
        return STATUS_OK;
    }
    return look.failed ? STATUS_IO : STATUS_CORRUPT;
}

/* ---- moving ---- */

/* STATUS_NO_SPACE: not in this call. */
static enum status copy_message(struct store *store,
                                struct store_upkeep *upkeep,
                                const struct store_run *run, uint64_t seq)
{
    struct record record;
    struct slice bytes;
    enum status status = merge_message(store, run, seq, &record, &bytes);

    if (status == STATUS_CORRUPT) { /* absent means lost */
        store_damage_message(store, run, seq, DAMAGE_MESSAGE);
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return STATUS_AGAIN;
    }
    if (bytes.len > upkeep->room - upkeep->len) {
        return upkeep->len == 0 ? STATUS_AGAIN : STATUS_NO_SPACE;
    }
    memcpy(upkeep->to + upkeep->len, bytes.at, bytes.len);
    upkeep->len += bytes.len;
    store->merge.moved = true;
    store->keeper.moves_owed++;
    return STATUS_OK;
}

static enum status copy_run(struct store *store, struct store_upkeep *upkeep,
                            const struct store_run *run)
{
    struct merge *merge = &store->merge;
    uint64_t last = run->first_seq + run->count - 1;

    while (merge->seq_at <= last) {
        uint64_t through;
        enum status status;
        if (keeping_may_go(&merge->keeping, merge->seq_at, last, &through)) {
            merge->seq_at = through + 1;
            continue;
        }
        status = copy_message(store, upkeep, run, merge->seq_at);
        if (status != STATUS_OK) {
            return status;
        }
        merge->seq_at++;
    }
    return STATUS_OK;
}

/* The runs that were found, until there is no more room. */
static enum status copy_runs(struct store *store, struct store_upkeep *upkeep)
{
    struct merge *merge = &store->merge;

    while (merge->run_at < merge->run_count) {
        const struct store_run *run = &merge->runs[merge->run_at];
        enum status status;
        if (merge->seq_at < run->first_seq) {
            merge->seq_at = run->first_seq;
        }
        status = copy_run(store, upkeep, run);
        if (status != STATUS_OK) {
            return status;
        }
        merge->run_at++;
    }
    return STATUS_OK;
}

static enum status find_runs(struct store *store, uint32_t topic,
                             uint64_t last_seq)
{
    struct merge *merge = &store->merge;
    struct keydir_stretch stretch = { topic, merge->victim, last_seq };

    merge->run_at = 0;
    merge->seq_at = 0;
    return keydir_runs_in(store->keydir, &stretch, &merge->at.seq, merge->runs,
                          MERGE_RUNS, &merge->run_count);
}

static void next_entry(struct merge *merge)
{
    merge->at.entry++;
    merge->at.seq = 0;
    merge->run_count = merge->run_at = 0;
}

enum status moving_step(struct store *store, struct store_upkeep *upkeep,
                        bool *done)
{
    struct merge *merge = &store->merge;
    const struct tally_segment *victim =
        tally_find(&store->keeper.tally, merge->victim);
    const struct tally_entry *entry;
    enum status status;

    *done = victim == NULL || merge->at.entry >= victim->count;
    if (*done) {
        return STATUS_OK;
    }
    entry = &victim->entries[merge->at.entry];
    if (entry->topic == 0 || entry->count == 0) {
        next_entry(merge);
        return STATUS_OK;
    }
    status = keeping_look(store, upkeep->policy, entry->topic, &merge->keeping);
    if (status == STATUS_OK && merge->run_at == merge->run_count) {
        if (merge->at.seq > entry->last_seq
            || (merge->at.seq == 0
                && keeping_count(&merge->keeping, entry->first_seq,
                                 entry->last_seq, 1)
                       == 0)) {
            next_entry(merge);
            return STATUS_OK;
        }
        merge->at.seq = merge->at.seq == 0 ? entry->first_seq : merge->at.seq;
        status = find_runs(store, entry->topic, entry->last_seq);
    }
    if (status == STATUS_OK) {
        status = copy_runs(store, upkeep);
    }
    return status;
}

/* ---- erasing ---- */

void merge_erase(struct store *store)
{
    struct merge *merge = &store->merge;
    const struct tally_segment *victim =
        tally_find(&store->keeper.tally, merge->victim);
    size_t budget = MERGE_ERASE_MAX;

    merge->erasing = merge->erased;
    while (victim != NULL && budget > 0
           && merge->erasing.entry < victim->count) {
        const struct tally_entry *entry =
            &victim->entries[merge->erasing.entry];
        struct keydir_stretch stretch = { entry->topic, merge->victim,
                                          entry->last_seq };
        if (merge->erasing.seq == 0) {
            merge->erasing.seq = entry->first_seq;
        }
        if (entry->topic != 0 && entry->count != 0) {
            keydir_erase_runs(store->keydir, &stretch, &merge->erasing.seq,
                              &budget);
        }
        if (entry->topic == 0 || entry->count == 0
            || merge->erasing.seq > entry->last_seq) {
            merge->erasing = (struct merge_at) { merge->erasing.entry + 1, 0 };
        }
    }
}

bool merge_erased(struct store *store)
{
    struct merge *merge = &store->merge;
    const struct tally_segment *victim =
        tally_find(&store->keeper.tally, merge->victim);

    merge->erased = merge->erasing;
    return victim == NULL || merge->erased.entry >= victim->count;
}
