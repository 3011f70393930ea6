/* The journal's half of the store: number, drop what was stored before, write
 * one batch, sync. The order of a batch's life:
 *
 *   take records  -> seal index and header -> pwritev -> (store_sync) durable
 *
 * A failed write or sync freezes the store: what the file holds from then on is
 * for the next start to find out. */
#include "storage/internal.h"

#include "storage/checksum.h"
#include "storage/io.h"

#include <errno.h>
#include <stdlib.h>

/* Of shorter batches the disk's part is short, and with shorter records it is
 * not the disk that is waited for: one piece is the quicker. */
enum { EARLY_LEN_MIN = 4 * IO_PIECE_LEN, EARLY_RECORD_LEN_MIN = 8 * 1024 };

static bool pays_early(const struct build *b, uint32_t len)
{
    return len >= EARLY_LEN_MIN
           && b->records_len / EARLY_RECORD_LEN_MIN >= b->record_count;
}

enum status journal_init(struct journal *journal, uint64_t seed)
{
    *journal = (struct journal) { 0 };
    journal->build = malloc(sizeof *journal->build);
    if (journal->build == NULL) {
        return STATUS_NOMEM;
    }
    journal->build->index = malloc(BATCH_LEN_MAX);
    if (journal->build->index == NULL) {
        return STATUS_NOMEM;
    }
    if (producers_init(&journal->ids, MESSAGE_IDS_MAX, seed) != STATUS_OK) {
        return STATUS_NOMEM;
    }
    return producers_init(&journal->producers, 0, seed);
}

void journal_fini(struct journal *journal)
{
    if (journal->build != NULL) {
        free(journal->build->index);
    }
    free(journal->build);
    free(journal->topics);
    producers_fini(&journal->producers);
    producers_fini(&journal->ids);
    *journal = (struct journal) { 0 };
}

void store_freeze(struct store *store)
{
    atomic_store_explicit(&store->frozen, true, memory_order_release);
}

bool store_frozen(const struct store *store)
{
    return atomic_load_explicit(&store->frozen, memory_order_acquire);
}

bool store_space_low(const struct store *store)
{
    return atomic_load_explicit(&store->space_low, memory_order_relaxed)
           || atomic_load_explicit(&store->keydir_low, memory_order_relaxed);
}

static enum status frozen_error(struct error *err)
{
    return error_set(err, STATUS_FROZEN, 0,
                     "the store is frozen after an I/O error");
}

/* ---- segments ---- */

/* The keeper has none ready: make one here, now and then. */
static enum status have_next(struct store *store, uint64_t now_us,
                             struct error *err)
{
    struct journal *journal = &store->journal;
    enum status status;

    if (store_next_ready(store)) {
        return STATUS_OK;
    }
    if (now_us < journal->make_after_us
        && journal->make_after_us - now_us <= MAKE_PAUSE_US) {
        return error_set(err, STATUS_NO_SPACE, 0, "no space for a segment");
    }
    status = store_have_next(store, journal->active->header.id, now_us, err);
    journal->make_after_us = status == STATUS_OK ? 0 : now_us + MAKE_PAUSE_US;
    if (status == STATUS_IO) {
        store_freeze(store);
    }
    return status;
}

static enum status sync_active(struct store *store, struct error *err)
{
    struct journal *journal = &store->journal;

    if (io_sync(store->vfs, journal->active->fd) != 0) {
        int sys = errno;
        store_freeze(store);
        return error_set(err, STATUS_IO, sys, "segment %u: sync",
                         journal->active->header.id);
    }
    journal->durable = journal->end.place;
    journal->unsynced = false;
    figure_add(&store->figures.syncs, 1);
    return STATUS_OK;
}

/* Whoever appends and does not sync is made to, now and then. */
static enum status bound_unsynced(struct store *store, struct error *err)
{
    const struct journal *journal = &store->journal;
    uint32_t synced =
        place_segment(journal->durable) == journal->active->header.id
            ? place_offset(journal->durable)
            : SEGMENT_BEGIN;

    return journal->unsynced && journal->offset - synced > UNSYNCED_LEN_MAX
               ? sync_active(store, err)
               : STATUS_OK;
}

static enum status write_at_end(struct store *store, struct iovec *iov,
                                size_t count, uint32_t len, struct error *err)
{
    struct journal *journal = &store->journal;
    struct segment *segment = journal->active;
    int result =
        pays_early(journal->build, len)
            ? io_writev_early(store->vfs, segment->fd, iov, count,
                              journal->offset)
            : io_writev(store->vfs, segment->fd, iov, count, journal->offset);

    if (result != 0) {
        int sys = errno;
        store_freeze(store);
        return error_set(err, STATUS_IO, sys, "segment %u: write at %u",
                         segment->header.id, journal->offset);
    }
    journal->offset += len;
    journal->end.place = place_of(segment->header.id, journal->offset);
    journal->unsynced = true;
    atomic_store_explicit(&segment->end, journal->offset, memory_order_release);
    return STATUS_OK;
}

static struct batch_header next_header(const struct store *store,
                                       uint64_t now_us)
{
    const struct journal *journal = &store->journal;

    return (struct batch_header) {
        .segment = journal->active->header.id,
        .offset = journal->offset,
        .epoch = journal->active->header.epoch,
        .number = journal->end.number + 1,
        .durable = journal->durable,
        .time_us = now_us,
        .previous = journal->end.hash,
    };
}

/* Close the segment with an empty batch, so that a reader knows that it ends
 * here and not by damage. */
static enum status write_seal(struct store *store, uint64_t now_us,
                              struct error *err)
{
    struct journal *journal = &store->journal;
    struct batch_header header = next_header(store, now_us);
    uint8_t bytes[BATCH_SEAL_LEN];
    struct iovec iov = { bytes, sizeof bytes };
    enum status status;

    header.kind = BATCH_SEAL;
    header.len = BATCH_SEAL_LEN;
    batch_header_write(bytes, &header, store->log.store_id);
    status = write_at_end(store, &iov, 1, BATCH_SEAL_LEN, err);
    if (status == STATUS_OK) {
        journal->end.number = header.number;
        journal->end.hash = header.hash;
    }
    return status;
}

/* Go on in the next segment. The old one is synced first, so that nothing in a
 * later segment can be durable before all of the earlier. */
static enum status roll(struct store *store, uint64_t now_us, struct error *err)
{
    struct journal *journal = &store->journal;
    enum status status = have_next(store, now_us, err);
    struct segment *next;

    if (status != STATUS_OK) {
        return status;
    }
    status = write_seal(store, now_us, err);
    if (status == STATUS_OK) {
        status = sync_active(store, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    next = atomic_load_explicit(&store->next, memory_order_acquire);
    status = log_add(&store->log, next);
    if (status != STATUS_OK) { /* sealed already: nothing can follow */
        store_freeze(store);
        return error_set(err, STATUS_FROZEN, 0, "segment %u: no memory",
                         next->header.id);
    }
    journal->active = next;
    journal->offset = SEGMENT_BEGIN;
    journal->end.place = place_of(next->header.id, SEGMENT_BEGIN);
    /* active before next: the keeper makes the segment after the active one. */
    atomic_store_explicit(&store->active_id, next->header.id,
                          memory_order_release);
    atomic_store_explicit(&store->next, NULL, memory_order_release);
    figure_add(&store->figures.segments, 1);
    return STATUS_OK;
}

static void set_low(struct store *store, bool low)
{
    store->journal.low = low;
    atomic_store_explicit(&store->space_low, low, memory_order_relaxed);
}

/* Near the end of the segment, and no other to be had: refuse messages. */
static enum status look_at_space(struct store *store, uint64_t now_us)
{
    struct journal *journal = &store->journal;
    uint32_t left = journal->active->header.capacity - journal->offset;
    enum status status = STATUS_OK;

    if (left < 2 * build_reserve(journal->active)) {
        status = have_next(store, now_us, NULL);
    }
    /* What the keydir has left is for acks. */
    set_low(store, status != STATUS_OK
                       || atomic_load_explicit(&store->keydir_low,
                                               memory_order_relaxed));
    return status == STATUS_IO ? STATUS_IO : STATUS_OK;
}

/* ---- closing a batch ---- */

static enum status write_batch(struct store *store, uint64_t now_us,
                               struct store_commit *out, struct error *err)
{
    struct journal *journal = &store->journal;
    struct build *b = journal->build;
    struct batch_header header = next_header(store, now_us);
    enum status status = bound_unsynced(store, err);

    if (status != STATUS_OK) {
        return status;
    }
    header.durable = journal->durable;
    header.kind = b->kind;
    header.records_len = b->records_len;
    header.record_count = b->record_count;
    header.index_len = build_index(b, build_end(journal));
    header.len = BATCH_HEADER_LEN + b->records_len + header.index_len;
    header.index_hash =
        checksum_seeded(b->index, header.index_len, store->log.store_id);
    header.records_hash = checksum_seeded(
        b->hashes, (size_t)b->record_count * 8, store->log.store_id);
    batch_header_write(b->header, &header, store->log.store_id);
    b->iov[0] = (struct iovec) { b->header, BATCH_HEADER_LEN };
    b->iov[b->iov_count++] = (struct iovec) { b->index, header.index_len };
    status = write_at_end(store, b->iov, b->iov_count, header.len, err);
    if (status != STATUS_OK) {
        return status;
    }
    journal->end.number = header.number;
    journal->end.hash = header.hash;
    *out = (struct store_commit) { .segment = header.segment,
                                   .offset = header.offset,
                                   .len = header.len,
                                   .record_count = header.record_count };
    figure_add(&store->figures.batches, 1);
    figure_add(&store->figures.records, header.record_count);
    figure_add(&store->figures.log_bytes, header.len);
    figure_add(&store->figures.moved_bytes, b->moved_len);
    return STATUS_OK;
}

/* ---- the face ---- */

static void count_dropped(struct store *store)
{
    struct build *b = store->journal.build;

    if (b->duplicates != 0) {
        figure_add(&store->figures.duplicates, b->duplicates);
    }
    if (b->refused != 0) {
        figure_add(&store->figures.refused, b->refused);
    }
}

/* The first record to be written does not fit: a new segment, or without one
 * refuse the messages and take what else still fits. */
static enum status take_in_next(struct store *store, struct store_span *spans,
                                size_t count, uint64_t now_us,
                                struct error *err)
{
    struct journal *journal = &store->journal;
    uint64_t dropped = journal->build->duplicates + journal->build->refused;
    enum status status = roll(store, now_us, err);

    if (status == STATUS_IO || status == STATUS_FROZEN) {
        return status;
    }
    if (status != STATUS_OK) {
        set_low(store, true);
    }
    count_dropped(store);
    build_begin(store, BATCH_RECORDS);
    (void)build_take_spans(journal, spans, count, now_us);
    dropped += journal->build->duplicates + journal->build->refused;
    if (status != STATUS_OK && journal->build->record_count + dropped == 0) {
        return error_prefix(err, STATUS_NO_SPACE, "append");
    }
    return STATUS_OK;
}

enum status store_append(struct store *store, struct store_span *spans,
                         size_t count, uint64_t now_us,
                         struct store_commit *out, struct error *err)
{
    struct journal *journal = &store->journal;

    *out = (struct store_commit) { 0 };
    for (size_t i = 0; i < count; i++) {
        spans[i].taken = 0;
        spans[i].offset = 0;
    }
    atomic_store_explicit(&store->now_us, now_us, memory_order_relaxed);
    if (store_frozen(store) || look_at_space(store, now_us) == STATUS_IO) {
        return frozen_error(err);
    }
    build_begin(store, BATCH_RECORDS);
    if (!build_take_spans(journal, spans, count, now_us)
        && journal->build->record_count == 0) {
        enum status status = take_in_next(store, spans, count, now_us, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    count_dropped(store);
    if (journal->build->record_count == 0) {
        return STATUS_OK;
    }
    return write_batch(store, now_us, out, err);
}

/* It does not fit into what is left of the segment: the next one, or nothing. */
static enum status merge_in_next(struct store *store, struct store_span *span,
                                 uint64_t now_us, struct error *err)
{
    enum status status = roll(store, now_us, err);

    if (status != STATUS_OK) {
        return status == STATUS_IO || status == STATUS_FROZEN
                   ? status
                   : error_prefix(err, STATUS_NO_SPACE, "merge");
    }
    build_begin(store, BATCH_MERGE);
    (void)build_take_span(&store->journal, span, now_us);
    return STATUS_OK;
}

enum status store_append_merge(struct store *store, struct store_span *span,
                               uint64_t now_us, struct store_commit *out,
                               struct error *err)
{
    struct build *b = store->journal.build;
    enum taken taken;

    *out = (struct store_commit) { 0 };
    span->taken = 0;
    span->offset = 0;
    atomic_store_explicit(&store->now_us, now_us, memory_order_relaxed);
    if (store_frozen(store) || look_at_space(store, now_us) == STATUS_IO) {
        return frozen_error(err);
    }
    build_begin(store, BATCH_MERGE);
    taken = build_take_span(&store->journal, span, now_us);
    if (taken == TAKEN_NONE && b->record_count == 0) {
        enum status status = merge_in_next(store, span, now_us, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (b->record_count == 0) {
        return span->len == 0 ? STATUS_OK
                              : error_set(err, STATUS_NO_SPACE, 0,
                                          "merge: no memory, or a record "
                                          "that fits no segment");
    }
    return write_batch(store, now_us, out, err);
}

enum status store_sync(struct store *store, struct error *err)
{
    if (store_frozen(store)) {
        return frozen_error(err);
    }
    return store->journal.unsynced ? sync_active(store, err) : STATUS_OK;
}
