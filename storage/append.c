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

/* What taking one record came to. */
enum taken {
    TAKEN,      /* in the batch, or dropped and flagged */
    TAKEN_NONE, /* does not fit in this batch, or this segment */
    TAKEN_NEVER /* does not fit in any */
};

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
    *journal = (struct journal) { 0 };
}

static enum status grow_topics(struct journal *journal, uint32_t topic)
{
    uint32_t count = journal->topic_count == 0 ? 64 : journal->topic_count;
    struct topic_state *topics;

    CHECK(topic <= TOPIC_ID_MAX);
    while (count <= topic) {
        count *= 2;
    }
    topics = realloc(journal->topics, count * sizeof *topics);
    if (topics == NULL) {
        return STATUS_NOMEM;
    }
    memset(topics + journal->topic_count, 0,
           (count - journal->topic_count) * sizeof *topics);
    journal->topics = topics;
    journal->topic_count = count;
    return STATUS_OK;
}

enum status journal_topic(struct journal *journal, uint32_t topic,
                          uint64_t last_seq, uint64_t floor_seq)
{
    if (topic >= journal->topic_count) {
        enum status status = grow_topics(journal, topic);
        if (status != STATUS_OK) {
            return status;
        }
    }
    journal->topics[topic].last_seq = last_seq;
    journal->topics[topic].floor_seq = floor_seq;
    return STATUS_OK;
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

static bool next_ready(const struct store *store)
{
    return atomic_load_explicit(&store->next, memory_order_acquire) != NULL;
}

/* The keeper has none ready: make one here, now and then. */
static enum status have_next(struct store *store, uint64_t now_us,
                             struct error *err)
{
    struct journal *journal = &store->journal;
    enum status status;

    if (next_ready(store)) {
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

    if (io_writev(store->vfs, segment->fd, iov, count, journal->offset) != 0) {
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

enum { BATCH_OVERHEAD = BATCH_HEADER_LEN + BATCH_INDEX_HEAD_LEN + BATCH_ALIGN };

_Static_assert(SEGMENT_BEGIN + BATCH_OVERHEAD + SETTLED_RECORD_LEN_MAX
                       + BATCH_SEAL_LEN
                   <= SEGMENT_LEN_MIN,
               "what is settled can be said in the least segment");
_Static_assert(SEGMENT_BEGIN + BATCH_LEN_MAX + BATCH_SEAL_LEN
                   <= SEGMENT_MIB_MIN * 1024 * 1024,
               "a segment holds a whole batch");

/* What is left of a segment's `capacity` behind `offset`, for records and index
 * of one batch. */
static uint32_t room_left(uint32_t capacity, uint32_t offset)
{
    uint32_t room = capacity - offset;

    if (room < BATCH_OVERHEAD + BATCH_SEAL_LEN) {
        return 0;
    }
    room -= BATCH_SEAL_LEN;
    room = room > BATCH_LEN_MAX ? BATCH_LEN_MAX : room;
    return room - BATCH_OVERHEAD;
}

/* The end of a segment that messages leave to acks and facts while there is no
 * other segment to go on in. */
static uint32_t reserve_of(const struct segment *segment)
{
    uint32_t reserve = segment->header.capacity / RESERVE_SHARE;

    return reserve > RESERVE_LEN_MAX ? RESERVE_LEN_MAX : reserve;
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

    if (left < 2 * reserve_of(journal->active)) {
        status = have_next(store, now_us, NULL);
    }
    /* What the keydir has left is for acks. */
    set_low(store, status != STATUS_OK
                       || atomic_load_explicit(&store->keydir_low,
                                               memory_order_relaxed));
    return status == STATUS_IO ? STATUS_IO : STATUS_OK;
}

/* ---- building a batch ---- */

static void build_begin(struct store *store, enum batch_kind kind)
{
    struct journal *journal = &store->journal;
    struct build *b = journal->build;

    b->kind = kind;
    b->iov_count = 1; /* 0 is the header's */
    b->message_count = b->visit_count = b->run_count = 0;
    b->record_count = b->records_len = b->moved_len = 0;
    b->duplicates = b->refused = 0;
    b->room = room_left(journal->active->header.capacity, journal->offset);
    b->full_room = room_left(store->capacity, SEGMENT_BEGIN);
    b->reserve = next_ready(store) ? 0 : reserve_of(journal->active);
}

/* A record that is numbered. */
static void add_record(struct build *b, uint8_t *at, size_t size)
{
    struct iovec *last = &b->iov[b->iov_count - 1];

    put_u64(b->hashes + (size_t)b->record_count * 8, record_hash_at(at));

    if (b->iov_count > 1 && (uint8_t *)last->iov_base + last->iov_len == at) {
        last->iov_len += size;
    } else {
        b->iov[b->iov_count++] = (struct iovec) { at, size };
    }
    b->records_len += (uint32_t)size;
    b->record_count++;
}

static uint32_t offset_of_next(const struct journal *journal)
{
    return journal->offset + BATCH_HEADER_LEN + journal->build->records_len;
}

/* Room in this batch for a record and what it adds to the index, with `keep`
 * bytes of the segment left after it. */
static enum taken take_room(struct journal *journal, size_t size,
                            uint32_t index_len, uint32_t keep)
{
    struct build *b = journal->build;
    uint64_t left = journal->active->header.capacity - offset_of_next(journal);

    if (size + index_len <= b->room && b->record_count < BATCH_RECORDS_MAX
        && (keep == 0 || size + index_len + keep <= left)) {
        b->room -= (uint32_t)size + index_len;
        return TAKEN;
    }
    /* The active one may be small, for want of space; the next is not. */
    return size + index_len > b->full_room ? TAKEN_NEVER : TAKEN_NONE;
}

static struct topic_state *topic_state(struct journal *journal, uint32_t topic)
{
    CHECK(topic != 0);
    if (topic >= journal->topic_count
        && grow_topics(journal, topic) != STATUS_OK) {
        return NULL;
    }
    return &journal->topics[topic];
}

/* The topic's run in this batch, if `seq` can be its next; else NULL. */
static struct run_build *run_before(const struct journal *journal,
                                    const struct topic_state *topic,
                                    uint64_t seq)
{
    struct run_build *run = &journal->build->runs[topic->run];

    return topic->batch == journal->end.number + 1
                   && run->first_seq + run->count == seq
               ? run
               : NULL;
}

/* What one more message adds to the index. */
static uint32_t index_len_of(const struct journal *journal,
                             const struct topic_state *topic, uint64_t seq)
{
    return run_before(journal, topic, seq) != NULL ? 4 : 4 + BATCH_RUN_LEN;
}

static void add_to_run(struct journal *journal, struct topic_state *topic,
                       uint32_t id, uint64_t seq)
{
    struct build *b = journal->build;

    if (run_before(journal, topic, seq) == NULL) {
        topic->batch = journal->end.number + 1;
        topic->run = b->run_count++;
        b->runs[topic->run] = (struct run_build) { id, 0, seq };
    }
    b->runs[topic->run].count++;
    b->offsets[b->message_count] = offset_of_next(journal);
    b->run_of[b->message_count] = topic->run;
    b->message_count++;
}

/* A message that an idempotent producer sent: stored before? */
static bool is_duplicate(struct journal *journal, const struct record *record,
                         struct producer **entry, uint64_t *seq)
{
    *entry = producers_find(&journal->producers, record->app, record->producer);
    return *entry != NULL && producer_stored(*entry, record->producer_seq, seq);
}

static void note_producer(struct journal *journal, const struct record *record,
                          struct producer *entry, uint64_t seq)
{
    struct producer message = { .app = record->app,
                                .id = record->producer,
                                .topic = record->topic,
                                .last = record->producer_seq,
                                .run_seq = seq,
                                .used = journal->end.number + 1 };

    producers_note(&journal->producers, entry, &message);
}

static enum taken refuse(struct build *b, uint8_t *at)
{
    record_drop(at, RECORD_REFUSED, 0);
    b->refused++;
    return TAKEN;
}

static enum taken take_message(struct journal *journal, uint8_t *at,
                               size_t size, uint64_t now_us)
{
    struct build *b = journal->build;
    struct topic_state *topic;
    struct producer *entry = NULL;
    struct record record;
    enum taken taken;
    uint64_t seq;

    record_fields_at(at, &record);
    if (record.producer != 0 && is_duplicate(journal, &record, &entry, &seq)) {
        record_drop(at, RECORD_DUPLICATE, seq);
        b->duplicates++;
        return TAKEN;
    }
    topic = topic_state(journal, record.topic);
    if (journal->low || topic == NULL) {
        return refuse(b, at);
    }
    taken = take_room(journal, size,
                      index_len_of(journal, topic, topic->last_seq + 1),
                      b->reserve);
    if (taken == TAKEN_NEVER) {
        return refuse(b, at);
    }
    if (taken == TAKEN) {
        topic->last_seq++;
        add_to_run(journal, topic, record.topic, topic->last_seq);
        record_number(at, topic->last_seq, now_us);
        if (record.producer != 0) {
            note_producer(journal, &record, entry, topic->last_seq);
        }
        add_record(b, at, size);
    }
    return taken;
}

static void note_floor(struct journal *journal, const uint8_t *at)
{
    struct record record;
    struct record_trim trim;
    struct topic_state *topic;

    record_fields_at(at, &record);
    if (trim_read(record.body, &trim) != STATUS_OK) {
        return;
    }
    topic = topic_state(journal, trim.topic);
    if (topic != NULL && trim.floor_seq > topic->floor_seq) {
        topic->floor_seq = trim.floor_seq;
    }
}

/* Below the floor not all messages are there: some were settled by everybody,
 * and are gone or about to go. So no seek goes farther back, by the log's own
 * order, whatever its writer knew of the last trims; and what may go once may
 * go for ever (retention.h), because what a seek makes owed again lies above
 * the floor, of which no message ever goes that its group has not settled. */
static void bound_seek(struct journal *journal, uint8_t *at)
{
    struct record record;
    struct record_seek seek;
    const struct topic_state *topic;
    uint64_t least;
    uint64_t after;

    record_fields_at(at, &record);
    if (seek_read(record.body, &seek) != STATUS_OK || seek.topic == 0) {
        return;
    }
    topic = topic_state(journal, seek.topic);
    if (topic == NULL) {
        return;
    }
    least = topic->floor_seq > 0 ? topic->floor_seq - 1 : 0;
    after = seek.after > topic->last_seq ? topic->last_seq : seek.after;
    after = after < least ? least : after;
    if (after != seek.after) {
        record_seek_again(at, after);
    }
}

static enum taken take_other(struct journal *journal, uint8_t *at, size_t size,
                             uint64_t now_us)
{
    struct build *b = journal->build;
    bool visited = at[4] == RECORD_CATALOG || at[4] == RECORD_TRIM;
    enum taken taken;

    taken = take_room(journal, size, visited ? 4 : 0, 0);
    CHECK(taken != TAKEN_NEVER); /* see limits.h: nobody makes such a one */
    if (taken == TAKEN) {
        if (visited) {
            b->visits[b->visit_count++] = offset_of_next(journal);
        }
        if (at[4] == RECORD_TRIM) {
            note_floor(journal, at);
        } else if (at[4] == RECORD_SEEK) {
            bound_seek(journal, at);
        }
        record_number(at, 0, now_us);
        add_record(b, at, size);
    }
    return taken;
}

/* One that has its number and stays as it is, wherever it stood before. */
static enum taken take_moved(struct journal *journal, uint8_t *at, size_t size)
{
    struct topic_state *topic;
    struct record record;
    enum taken taken;

    record_fields_at(at, &record);
    CHECK(record.seq != 0);
    topic = topic_state(journal, record.topic);
    if (topic == NULL) {
        return TAKEN_NEVER;
    }
    taken =
        take_room(journal, size, index_len_of(journal, topic, record.seq), 0);
    if (taken == TAKEN) {
        add_to_run(journal, topic, record.topic, record.seq);
        add_record(journal->build, at, size);
        journal->build->moved_len += (uint32_t)size;
    }
    return taken;
}

static enum taken take_record(struct journal *journal, uint8_t *at, size_t size,
                              uint64_t now_us)
{
    if (at[4] != RECORD_MESSAGE) {
        return take_other(journal, at, size, now_us);
    }
    return journal->build->kind == BATCH_MERGE
               ? take_moved(journal, at, size)
               : take_message(journal, at, size, now_us);
}

/* TAKEN: all of it; else what the record at `taken` came to. */
static enum taken take_span(struct journal *journal, struct store_span *span,
                            uint64_t now_us)
{
    while (span->taken < span->len) {
        uint8_t *at = span->at + span->taken;
        size_t size = record_size_at(at);

        uint32_t offset = offset_of_next(journal);
        enum taken taken;

        CHECK(size >= RECORD_HEADER_LEN && size <= span->len - span->taken);
        taken = take_record(journal, at, size, now_us);
        if (taken != TAKEN) {
            return taken;
        }
        span->taken += size;
        if (span->offset == 0 && offset_of_next(journal) != offset) {
            span->offset = offset;
        }
    }
    return TAKEN;
}

/* After a batch that was full the next one begins with the span behind the one
 * that filled it, so that none has to wait for another's end. */
static bool take_spans(struct journal *journal, struct store_span *spans,
                       size_t count, uint64_t now_us)
{
    size_t first = journal->first_span;

    for (size_t k = 0; k < count; k++) {
        size_t i = (first + k) % count;
        if (take_span(journal, &spans[i], now_us) != TAKEN) {
            journal->first_span = (i + 1) % count;
            return false;
        }
    }
    return true;
}

/* ---- closing a batch ---- */

/* The table of record offsets: those of each run together, in order. */
static void write_table(struct build *b, uint8_t *table)
{
    uint32_t position = 0;

    for (uint32_t i = 0; i < b->run_count; i++) {
        b->positions[i] = position;
        position += b->runs[i].count;
    }
    for (uint32_t i = 0; i < b->message_count; i++) {
        uint32_t slot = b->positions[b->run_of[i]]++;
        put_u32(table + (size_t)slot * 4, b->offsets[i]);
    }
}

/* The index, at `offset` in the segment. Its length. */
static uint32_t write_index(struct build *b, uint32_t offset)
{
    uint32_t visits = BATCH_INDEX_HEAD_LEN + b->run_count * BATCH_RUN_LEN;
    uint32_t table = visits + b->visit_count * 4;
    uint32_t len = table + b->message_count * 4;
    uint32_t position = offset + table;
    uint8_t *at = b->index + BATCH_INDEX_HEAD_LEN;

    put_u32(b->index, b->run_count);
    put_u32(b->index + 4, b->visit_count);
    for (uint32_t i = 0; i < b->run_count; i++, at += BATCH_RUN_LEN) {
        put_u32(at, b->runs[i].topic);
        put_u32(at + 4, b->runs[i].count);
        put_u64(at + 8, b->runs[i].first_seq);
        put_u32(at + 16, position);
        put_u32(at + 20, 0);
        position += b->runs[i].count * 4;
    }
    for (uint32_t i = 0; i < b->visit_count; i++) {
        put_u32(b->index + visits + (size_t)i * 4, b->visits[i]);
    }
    write_table(b, b->index + table);
    while (len % BATCH_ALIGN != 0) {
        b->index[len++] = 0;
    }
    return len;
}

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
    header.index_len = write_index(b, offset_of_next(journal));
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
    (void)take_spans(journal, spans, count, now_us);
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
    if (!take_spans(journal, spans, count, now_us)
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
    (void)take_span(&store->journal, span, now_us);
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
    taken = take_span(&store->journal, span, now_us);
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
