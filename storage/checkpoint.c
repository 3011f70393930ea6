/* The keeper's notes on their way into the keydir, the segments it looks after,
 * and following the log to its end. */
#include "storage/internal.h"

/* ---- checkpoint ---- */

static enum status write_lanes(struct store *store)
{
    const struct keeper *keeper = &store->keeper;
    const struct lanes *lanes = &keeper->lanes;
    struct bytes value = { 0 };
    enum status status = STATUS_OK;

    for (size_t i = 0; i < lanes->bucket_count; i++) {
        for (struct lane_image *lane = lanes->buckets[i]; lane != NULL;
             lane = lane->chained) {
            if (status == STATUS_OK) {
                status = lane_trim(lane, keeper_first_seq(keeper, lane->topic));
            }
            if (!lane->dirty || status != STATUS_OK) {
                continue;
            }
            value.begin = value.end = 0;
            status = lane_write(lane, &value);
            if (status == STATUS_OK) {
                keydir_put_lane(store->keydir, lane->group, lane->topic,
                                slice_of(value.at, value.end));
            }
        }
    }
    bytes_fini(&value);
    return status;
}

static void write_topics(struct store *store)
{
    struct keeper *keeper = &store->keeper;

    for (uint32_t i = 0; i < keeper->topic_count; i++) {
        const struct topic_note *note = &keeper->topics[i];
        struct store_topic topic = {
            .topic = i,
            .last_seq = note->last_seq,
            .first_seq = note->first_seq == 0 ? 1 : note->first_seq,
            .floor_seq = note->floor_seq == 0 ? 1 : note->floor_seq,
        };
        if (note->dirty) {
            keydir_put_topic(store->keydir, &topic);
        }
    }
}

static void write_runs(struct store *store)
{
    struct keeper *keeper = &store->keeper;

    for (size_t i = 0; i < keeper->run_count; i++) {
        const struct run_note *note = &keeper->runs[i];
        if (note->moved) {
            keydir_put_moved(store->keydir, &note->run);
        } else {
            keydir_put_run(store->keydir, &note->run);
        }
    }
}

/* Removed segments leave the tally. */
static void untell(struct store *store)
{
    const struct seqset *untold = &store->keeper.untold;

    for (size_t i = 0; i < seqset_range_count(untold); i++) {
        const struct seq_range *range = &seqset_ranges(untold)[i];
        for (uint64_t id = range->first; id <= range->last; id++) {
            keydir_remove_tally(store->keydir, (uint32_t)id);
        }
    }
}

static void write_tally(struct store *store)
{
    const struct tally *tally = &store->keeper.tally;

    for (size_t i = 0; i < tally->count; i++) {
        const struct tally_segment *segment = &tally->segments[i];
        for (size_t k = 0; segment->dirty && k < segment->count; k++) {
            if (segment->entries[k].dirty) {
                keydir_put_tally(store->keydir, segment->id,
                                 &segment->entries[k]);
            }
        }
    }
}

static void write_producers(struct store *store, enum keydir_table table,
                            const struct producers *known,
                            const struct gone_list *gone)
{
    for (size_t i = 0; i < gone->count; i++) {
        keydir_remove_producer(store->keydir, table, &gone->entries[i]);
    }
    for (uint32_t i = 0; i < known->count; i++) {
        if (known->entries[i].dirty) {
            keydir_put_producer(store->keydir, table, &known->entries[i]);
        }
    }
}

static enum status write_notes(struct store *store, enum checkpoint kind,
                               bool *more, struct error *err)
{
    struct keeper *keeper = &store->keeper;
    struct keydir_meta meta = { .store_id = store->log.store_id,
                                .place = keeper->applied.place,
                                .number = keeper->applied.number,
                                .hash = keeper->applied.hash,
                                .known = keeper->known,
                                .clean = kind == CHECKPOINT_CLEAN };
    enum status status = keydir_begin(store->keydir);
    bool histories;

    if (status != STATUS_OK) {
        return error_set(err, status, 0, "keydir: begin");
    }
    write_runs(store);
    write_tally(store);
    untell(store);
    if (kind == CHECKPOINT_ERASE) { /* after the runs that were moved */
        merge_erase(store);
    }
    write_topics(store);
    write_producers(store, PRODUCERS, &keeper->producers,
                    &keeper->gone_producers);
    write_producers(store, IDS, &keeper->ids, &keeper->gone_ids);
    status = histories_write(store, &histories); /* it may ask for lanes */
    if (status == STATUS_OK) {
        status = write_lanes(store);
    }
    if (status != STATUS_OK) {
        keydir_abort(store->keydir);
        return error_set(err, status, 0, "keydir: lanes and histories");
    }
    for (size_t i = 0; i < keeper->fact_count; i++) {
        keydir_put_fact(store->keydir, &keeper->facts[i].fact);
    }
    *more = false;
    if (keeper->sweeping) {
        keydir_sweep(store->keydir, SWEEP_BUDGET, more);
    }
    *more = *more || histories;
    keydir_put_meta(store->keydir, &meta);
    return keydir_commit(store->keydir, err);
}

enum status keeper_checkpoint(struct store *store, enum checkpoint kind,
                              struct error *err)
{
    struct keeper *keeper = &store->keeper;
    enum status status;
    bool more = false;

    if (kind == CHECKPOINT_NOTES && keeper->pending_len == 0
        && !keeper->sweeping) {
        return STATUS_OK;
    }
    status = write_notes(store, kind, &more, err);
    if (status == STATUS_NO_SPACE) {
        atomic_store_explicit(&store->keydir_low, true, memory_order_relaxed);
        if (spare_release(store)) {
            status = write_notes(store, kind, &more, err);
        }
    }
    if (status != STATUS_OK) {
        /* Without space the notes stay, and the log has them anyway. */
        if (status == STATUS_CORRUPT) {
            store_doubt(store);
        }
        if (status != STATUS_NO_SPACE) {
            store_freeze(store);
        }
        return status;
    }
    if (store->spare_kept) {
        atomic_store_explicit(&store->keydir_low, false, memory_order_relaxed);
    }
    keeper->sweeping = more;
    keeper_forget_notes(keeper);
    atomic_store_explicit(&store->checkpointed, keeper->applied.place,
                          memory_order_release);
    figure_add(&store->figures.checkpoints, 1);
    atomic_store_explicit(&store->figures.keydir_bytes,
                          keydir_size(store->keydir), memory_order_relaxed);
    return STATUS_OK;
}

enum status store_checkpoint(struct store *store, struct error *err)
{
    if (store_frozen(store)) {
        return error_set(err, STATUS_FROZEN, 0,
                         "the store is frozen after an I/O error");
    }
    return keeper_checkpoint(store, CHECKPOINT_NOTES, err);
}

/* ---- following the log ---- */

static enum status apply_here(struct store *store, const struct batch *batch,
                              struct error *err)
{
    enum status status = keeper_apply_batch(store, batch, TRUST_ALL, NULL);

    if (status == STATUS_AGAIN) {
        status = keeper_checkpoint(store, CHECKPOINT_NOTES, err);
        if (status == STATUS_OK) {
            status = keeper_apply_batch(store, batch, TRUST_ALL, NULL);
        }
    }
    return status;
}

enum status keeper_catch_up(struct store *store, struct error *err)
{
    uint64_t place = store->keeper.applied.place;

    while (place < store->journal.end.place) {
        struct segment *segment =
            log_segment(&store->log, place_segment(place));
        struct batch batch;
        enum status status;

        CHECK(segment != NULL);
        if (place_offset(place)
            >= atomic_load_explicit(&segment->end, memory_order_acquire)) {
            place = place_of(place_segment(place) + 1, SEGMENT_BEGIN);
            continue;
        }
        status =
            segment_batch(segment, &store->log, place_offset(place), &batch);
        if (status == STATUS_OK && batch.header.kind != BATCH_SEAL) {
            status = apply_here(store, &batch, err);
        }
        if (status != STATUS_OK) {
            return error_set(err, status, 0, "segment %u: batch at %u",
                             place_segment(place), place_offset(place));
        }
        place += batch.header.len;
    }
    store->keeper.applied = store->journal.end;
    return STATUS_OK;
}
