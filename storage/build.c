/* What goes into the next batch: records are numbered, those stored before are
 * dropped, messages that there is no room for are refused, and the index is
 * made. By whoever appends; append.c writes it. */
#include "storage/internal.h"

#include <stdlib.h>

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

/* ---- room ---- */

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

uint32_t build_reserve(const struct segment *segment)
{
    uint32_t reserve = segment->header.capacity / RESERVE_SHARE;

    return reserve > RESERVE_LEN_MAX ? RESERVE_LEN_MAX : reserve;
}

/* ---- one record ---- */

void build_begin(struct store *store, enum batch_kind kind)
{
    struct journal *journal = &store->journal;
    struct build *b = journal->build;

    b->kind = kind;
    b->iov_count = 1; /* 0 is the header's */
    b->message_count = b->visit_count = b->run_count = 0;
    b->record_count = b->records_len = b->moved_len = 0;
    b->duplicates = b->refused = 0;
    b->chain_waits = false;
    b->chain_left = 0;
    b->room = room_left(journal->active->header.capacity, journal->offset);
    b->full_room = room_left(store->capacity, SEGMENT_BEGIN);
    b->reserve = store_next_ready(store) ? 0 : build_reserve(journal->active);
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

uint32_t build_end(const struct journal *journal)
{
    return journal->offset + BATCH_HEADER_LEN + journal->build->records_len;
}

/* Room in this batch for a record and what it adds to the index, with `keep`
 * bytes of the segment left after it. */
static enum taken take_room(struct journal *journal, size_t size,
                            uint32_t index_len, uint32_t keep)
{
    struct build *b = journal->build;
    uint64_t left = journal->active->header.capacity - build_end(journal);

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
    b->offsets[b->message_count] = build_end(journal);
    b->run_of[b->message_count] = topic->run;
    b->message_count++;
}

static struct producers *told_by(struct journal *journal,
                                 const struct record *record)
{
    return (record->flags & RECORD_ID) != 0 ? &journal->ids
                                            : &journal->producers;
}

/* A message that an idempotent producer sent, or that has an id: stored before?
 */
static bool is_duplicate(struct journal *journal, const struct record *record,
                         struct producer **entry, uint64_t *seq)
{
    *entry = producers_find(told_by(journal, record), producer_app(record),
                            record->producer);
    return *entry != NULL && producer_stored(*entry, record->producer_seq, seq);
}

static void note_producer(struct journal *journal, const struct record *record,
                          struct producer *entry, uint64_t seq)
{
    struct producer message = { .app = producer_app(record),
                                .id = record->producer,
                                .topic = record->topic,
                                .last = record->producer_seq,
                                .run_seq = seq,
                                .used = journal->end.number + 1 };

    producers_note(told_by(journal, record), entry, &message);
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
 * the floor, of which no message ever goes that its group has not settled.
 *
 * It is not enough to go up to what is deleted already, the first message: what
 * lies between may have been let go of, and goes after the seek. Nor does the
 * lane lose any: the floor rises over nothing but what every group had settled,
 * or what is deleted. A writer that had not heard of the trim may deliver what
 * it still finds there. For the log that stays settled, however it ends: owed,
 * or dead, it would be one that goes nevertheless, and look lost. */
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
            b->visits[b->visit_count++] = build_end(journal);
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

/* ---- chains: all of it in one batch, or nothing ---- */

/* Messages of which each but the last has RECORD_MORE. */
struct chain {
    uint8_t *at;
    size_t len;
    uint32_t count;
    uint64_t need; /* of a batch, at most: for those not stored before */
    bool sound;    /* it has an end, is not too long, and can be written */
};

static void measure_message(struct journal *journal, struct chain *chain,
                            const uint8_t *at, size_t size)
{
    struct record record;
    struct producer *entry;
    uint64_t seq;

    record_fields_at(at, &record);
    if (record.producer == 0 || !is_duplicate(journal, &record, &entry, &seq)) {
        chain->need += size + 4 + BATCH_RUN_LEN;
        if (topic_state(journal, record.topic) == NULL) {
            chain->sound = false;
        }
    }
}

static struct chain measure_chain(struct journal *journal, uint8_t *at,
                                  size_t left)
{
    struct chain chain = { .at = at, .sound = true };
    bool more = true;

    while (more && left - chain.len >= RECORD_HEADER_LEN
           && at[chain.len + 4] == RECORD_MESSAGE) {
        uint8_t *record = at + chain.len;
        size_t size = record_size_at(record);
        CHECK(size >= RECORD_HEADER_LEN && size <= left - chain.len);
        measure_message(journal, &chain, record, size);
        more = (record_flags_at(record) & RECORD_MORE) != 0;
        chain.len += size;
        chain.count++;
    }
    if (more || chain.len > ATOMIC_LEN_MAX || chain.count > PUBLISH_COUNT_MAX) {
        chain.sound = false;
    }
    return chain;
}

static enum taken room_for_chain(const struct journal *journal,
                                 const struct chain *chain)
{
    const struct build *b = journal->build;
    uint64_t left = journal->active->header.capacity - build_end(journal);

    if (journal->low || !chain->sound || chain->need > b->full_room) {
        return TAKEN_NEVER;
    }
    return chain->need <= b->room
                   && b->record_count + chain->count <= BATCH_RECORDS_MAX
                   && (b->reserve == 0 || chain->need + b->reserve <= left)
               ? TAKEN
               : TAKEN_NONE;
}

static void refuse_chain(struct journal *journal, const struct chain *chain)
{
    for (size_t done = 0; done < chain->len;) {
        uint8_t *at = chain->at + done;
        struct record record;
        struct producer *entry;
        uint64_t seq;
        done += record_size_at(at);
        record_fields_at(at, &record);
        if (record.producer != 0
            && is_duplicate(journal, &record, &entry, &seq)) {
            record_drop(at, RECORD_DUPLICATE, seq);
            journal->build->duplicates++;
        } else {
            (void)refuse(journal->build, at);
        }
    }
}

/* What the last one of those written says of the next must be true. */
static void close_chain(struct build *b, uint8_t *last, uint64_t now_us)
{
    if ((record_flags_at(last) & RECORD_MORE) == 0) {
        return;
    }
    record_end_chain(last);
    record_number(last, record_seq_at(last), now_us);
    put_u64(b->hashes + ((size_t)b->record_count - 1) * 8,
            record_hash_at(last));
}

/* A chain begins here. TAKEN: its messages have room, one after the other;
 * TAKEN_NEVER: all are refused. *len: of all its records. */
static enum taken begin_chain(struct journal *journal, uint8_t *at, size_t left,
                              size_t *len)
{
    struct build *b = journal->build;
    struct chain chain = measure_chain(journal, at, left);
    enum taken taken = room_for_chain(journal, &chain);

    *len = chain.len;
    if (taken == TAKEN) {
        b->chain_left = chain.len;
        b->chain_last = NULL;
    } else if (taken == TAKEN_NONE) {
        b->chain_waits = true;
    } else {
        refuse_chain(journal, &chain);
    }
    return taken;
}

/* One of its messages has been taken. */
static void go_on_in_chain(struct build *b, uint8_t *at, size_t size,
                           uint64_t now_us)
{
    CHECK(size <= b->chain_left);
    b->chain_left -= size;
    if ((record_flags_at(at) & (RECORD_DUPLICATE | RECORD_REFUSED)) == 0) {
        b->chain_last = at;
    }
    if (b->chain_left == 0 && b->chain_last != NULL) {
        close_chain(b, b->chain_last, now_us);
    }
}

static bool begins_chain(const struct build *b, const uint8_t *at)
{
    return (at[5] & RECORD_MORE) != 0 && b->chain_left == 0
           && b->kind == BATCH_RECORDS && at[4] == RECORD_MESSAGE;
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

enum taken build_take_span(struct journal *journal, struct store_span *span,
                           uint64_t now_us)
{
    struct build *b = journal->build;

    while (span->taken < span->len) {
        uint8_t *at = span->at + span->taken;
        size_t size = record_size_at(at);
        uint32_t offset = build_end(journal);
        enum taken taken = TAKEN;

        CHECK(size >= RECORD_HEADER_LEN && size <= span->len - span->taken);
        if (begins_chain(b, at)) {
            size_t len;
            taken = begin_chain(journal, at, span->len - span->taken, &len);
            if (taken == TAKEN_NEVER) {
                span->taken += len;
                continue;
            }
        }
        if (taken == TAKEN) {
            taken = take_record(journal, at, size, now_us);
        }
        if (taken != TAKEN) {
            CHECK(b->chain_left == 0);
            return taken;
        }
        if (b->chain_left > 0) {
            go_on_in_chain(b, at, size, now_us);
        }
        span->taken += size;
        if (span->offset == 0 && build_end(journal) != offset) {
            span->offset = offset;
        }
    }
    return TAKEN;
}

bool build_take_spans(struct journal *journal, struct store_span *spans,
                      size_t count, uint64_t now_us)
{
    size_t first = journal->first_span;

    for (size_t k = 0; k < count; k++) {
        size_t i = (first + k) % count;
        if (build_take_span(journal, &spans[i], now_us) != TAKEN) {
            /* A chain needs much room at once, so it is its turn then; unless
             * it just was. */
            journal->first_span =
                journal->build->chain_waits && k > 0 ? i : (i + 1) % count;
            return false;
        }
    }
    return true;
}

/* ---- the index ---- */

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

uint32_t build_index(struct build *b, uint32_t offset)
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
