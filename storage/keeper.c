/* The keeper's half of the store: take note in memory of what each batch
 * changes. checkpoint.c writes the notes to the keydir in one synced
 * transaction, together with the place in the log it covers. A crash between
 * two checkpoints loses notes only; the log has the batches. */
#include "storage/internal.h"

#include <errno.h>
#include <stdlib.h>

enum { GONE_KEPT_MAX = 4096 /* places in memory, from one checkpoint on */ };

enum status keeper_reserve(void **array, size_t *capacity, size_t need,
                           size_t entry_len)
{
    size_t wanted = *capacity == 0 ? 64 : *capacity;
    void *grown;

    if (need <= *capacity) {
        return STATUS_OK;
    }
    while (wanted < need) {
        wanted *= 2;
    }
    grown = realloc(*array, wanted * entry_len);
    if (grown == NULL) {
        return STATUS_NOMEM;
    }
    *array = grown;
    *capacity = wanted;
    return STATUS_OK;
}

/* Its key has to leave the keydir, if it is there. If memory is short it stays
 * until the next rebuild, which does no harm. */
static void producer_gone(void *arg, const struct producer *entry)
{
    struct gone_list *list = arg;
    void *entries = list->entries;

    if (entry->saved
        && keeper_reserve(&entries, &list->capacity, list->count + 1,
                          sizeof *list->entries)
               == STATUS_OK) {
        list->entries = entries;
        list->entries[list->count++] = *entry;
    }
}

enum status keeper_init(struct keeper *keeper, uint64_t seed)
{
    enum status status;

    *keeper = (struct keeper) { .sweeping = true };
    histories_init(&keeper->histories);
    status = producers_init(&keeper->producers, 0, seed);
    keeper->producers.gone = producer_gone;
    keeper->producers.gone_arg = &keeper->gone_producers;
    if (status == STATUS_OK) {
        status = producers_init(&keeper->ids, MESSAGE_IDS_MAX, seed);
    }
    keeper->ids.gone = producer_gone;
    keeper->ids.gone_arg = &keeper->gone_ids;
    return status;
}

static void clear_facts(struct keeper *keeper)
{
    for (size_t i = 0; i < keeper->fact_count; i++) {
        free(keeper->facts[i].bytes);
    }
    keeper->fact_count = 0;
}

void keeper_fini(struct keeper *keeper)
{
    clear_facts(keeper);
    free(keeper->facts);
    free(keeper->runs);
    free(keeper->topics);
    free(keeper->groups_deleted);
    free(keeper->gone_producers.entries);
    free(keeper->gone_ids.entries);
    given_fini(&keeper->given);
    lanes_fini(&keeper->lanes);
    tally_fini(&keeper->tally);
    seqset_fini(&keeper->untold);
    producers_fini(&keeper->producers);
    producers_fini(&keeper->ids);
    histories_fini(&keeper->histories);
    *keeper = (struct keeper) { 0 };
}

/* ---- topics and groups ---- */

struct topic_note *keeper_topic(struct keeper *keeper, uint32_t topic)
{
    size_t capacity = keeper->topic_count;
    void *topics = keeper->topics;

    if (topic > TOPIC_ID_MAX) {
        return NULL;
    }
    if (topic >= keeper->topic_count) {
        if (keeper_reserve(&topics, &capacity, (size_t)topic + 1,
                           sizeof *keeper->topics)
            != STATUS_OK) {
            return NULL;
        }
        keeper->topics = topics;
        memset(keeper->topics + keeper->topic_count, 0,
               (capacity - keeper->topic_count) * sizeof *keeper->topics);
        keeper->topic_count = (uint32_t)capacity;
    }
    return &keeper->topics[topic];
}

static enum status note_last_seq(struct keeper *keeper, uint32_t topic,
                                 uint64_t seq)
{
    struct topic_note *note = keeper_topic(keeper, topic);

    if (note == NULL) {
        return topic > TOPIC_ID_MAX ? STATUS_CORRUPT : STATUS_NOMEM;
    }
    if (seq > note->last_seq) {
        note->last_seq = seq;
        note->dirty = true;
    }
    return STATUS_OK;
}

uint64_t keeper_first_seq(const struct keeper *keeper, uint32_t topic)
{
    return topic < keeper->topic_count && keeper->topics[topic].first_seq != 0
               ? keeper->topics[topic].first_seq
               : 1;
}

bool keeper_topic_deleted(const struct keeper *keeper, uint32_t topic)
{
    return topic < keeper->topic_count && keeper->topics[topic].deleted;
}

static bool group_deleted(const struct keeper *keeper, uint32_t group)
{
    return group < keeper->group_count && keeper->groups_deleted[group];
}

static enum status set_group_deleted(struct keeper *keeper, uint32_t group,
                                     bool deleted)
{
    size_t capacity = keeper->group_count;
    void *groups = keeper->groups_deleted;

    if (group > GROUP_ID_MAX) {
        return STATUS_CORRUPT;
    }
    if (group >= keeper->group_count) {
        if (!deleted) {
            return STATUS_OK;
        }
        if (keeper_reserve(&groups, &capacity, (size_t)group + 1, sizeof(bool))
            != STATUS_OK) {
            return STATUS_NOMEM;
        }
        keeper->groups_deleted = groups;
        memset(keeper->groups_deleted + keeper->group_count, 0,
               (capacity - keeper->group_count) * sizeof(bool));
        keeper->group_count = (uint32_t)capacity;
    }
    keeper->groups_deleted[group] = deleted;
    return STATUS_OK;
}

enum status keeper_set_deleted(struct keeper *keeper,
                               const struct record_fact *fact)
{
    struct topic_note *note;

    switch (fact->class) {
    case CATALOG_APP:
        return STATUS_OK;
    case CATALOG_GROUP:
        return set_group_deleted(keeper, fact->id, fact->deleted);
    case CATALOG_TOPIC:
        note = keeper_topic(keeper, fact->id);
        if (note == NULL) {
            return fact->id > TOPIC_ID_MAX ? STATUS_CORRUPT : STATUS_NOMEM;
        }
        note->deleted = fact->deleted;
        return STATUS_OK;
    }
    return STATUS_CORRUPT;
}

/* ---- runs ---- */

static enum status tell_tally(struct keeper *keeper,
                              const struct store_run *run)
{
    struct tally_entry *entry =
        tally_at(&keeper->tally, run->segment, run->topic);

    if (entry == NULL) {
        return STATUS_NOMEM;
    }
    tally_run(entry, run->first_seq, run->count);
    return STATUS_OK;
}

static enum status note_run(struct keeper *keeper, const struct store_run *run,
                            bool moved)
{
    void *runs = keeper->runs;
    enum status status =
        note_last_seq(keeper, run->topic, run->first_seq + run->count - 1);

    if (status == STATUS_OK) {
        status = tell_tally(keeper, run);
    }
    if (status != STATUS_OK || keeper_topic_deleted(keeper, run->topic)) {
        return status;
    }
    status = keeper_reserve(&runs, &keeper->run_capacity, keeper->run_count + 1,
                            sizeof *keeper->runs);
    if (status == STATUS_OK) {
        keeper->runs = runs;
        keeper->runs[keeper->run_count++] = (struct run_note) { *run, moved };
    }
    return status;
}

static enum status note_index(struct keeper *keeper, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->run_count; i++) {
        struct store_run run;
        enum status status = batch_run(batch, i, &run);
        if (status == STATUS_OK) {
            status = note_run(keeper, &run, batch->header.kind == BATCH_MERGE);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* The index is damaged: put the runs together again from the records. Their
 * table is 0, so that a view looks through the batch instead. */
static enum status note_without_index(struct keeper *keeper, size_t first,
                                      const struct batch *batch,
                                      const struct record *record)
{
    struct store_run run = { .topic = record->topic,
                             .count = 1,
                             .first_seq = record->seq,
                             .segment = batch->header.segment,
                             .batch = batch->header.offset };

    if (record->topic == 0 || record->seq == 0) {
        return STATUS_CORRUPT;
    }
    for (size_t i = keeper->run_count; i > first; i--) {
        struct store_run *known = &keeper->runs[i - 1].run;
        if (known->topic == record->topic
            && known->first_seq + known->count == record->seq) {
            enum status status =
                note_last_seq(keeper, record->topic, record->seq);
            known->count++;
            return status == STATUS_OK ? tell_tally(keeper, &run) : status;
        }
    }
    return note_run(keeper, &run, batch->header.kind == BATCH_MERGE);
}

/* ---- lanes ---- */

static bool is_this(const void *arg, const struct lane_image *lane)
{
    return arg == lane;
}

enum status keeper_lane(struct store *store, uint32_t group, uint32_t topic,
                        struct lane_image **out)
{
    struct keeper *keeper = &store->keeper;
    enum status status;

    *out = NULL;
    if (keeper_topic_deleted(keeper, topic) || group_deleted(keeper, group)) {
        return STATUS_OK;
    }
    *out = lanes_find(&keeper->lanes, group, topic);
    if (*out != NULL) {
        return STATUS_OK;
    }
    *out = lanes_add(&keeper->lanes, group, topic);
    if (*out == NULL) {
        return STATUS_NOMEM;
    }
    status = keydir_get_lane(store->keydir, *out);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        lanes_drop(&keeper->lanes, is_this, *out);
        *out = NULL;
        if (status == STATUS_CORRUPT) {
            store_doubt(store); /* the record that led here is whole */
            status = STATUS_IO;
        }
        return status;
    }
    status = lane_trim(*out, keeper_first_seq(keeper, topic));
    (*out)->dirty = false; /* not worth writing for that */
    return status;
}

/* A batch on its way into the notes. */
struct noting {
    struct store *store;
    const struct batch *batch;
    size_t first_run;       /* of the batch's own */
    uint64_t message_bytes; /* of its length */
    bool known;             /* a snapshot had the rest */
    /* Over the batch; without a segment when it is in memory. */
    struct segment_walk walk;
};

/* Also keeps seqs that were settled from being used again when the batch of the
 * messages themselves was lost to damage. */
static enum status note_lane(struct noting *n, const struct record *record)
{
    struct keeper *keeper = &n->store->keeper;
    struct lane_record r;
    struct lane_image *lane;
    uint64_t last_seq = 0;
    enum status status = lane_record_read(record, &r);

    if (status == STATUS_OK && n->known
        && !given_not_lane(&keeper->given, r.group, r.topic)) {
        return STATUS_OK; /* what came later may have undone it */
    }
    if (status == STATUS_OK) {
        status = keeper_lane(n->store, r.group, r.topic, &lane);
    }
    if (status != STATUS_OK || lane == NULL) {
        return status;
    }
    if (record->kind == RECORD_FAILED) {
        status = histories_note(&keeper->histories, &r, record->time_us);
    } else {
        histories_settled(&keeper->histories);
    }
    if (status == STATUS_OK) {
        status = lane_record_apply(lane, &r, keeper_first_seq(keeper, r.topic),
                                   &last_seq);
    }
    return status == STATUS_OK ? note_last_seq(keeper, r.topic, last_seq)
                               : status;
}

/* ---- facts ---- */

static bool belongs_to(const void *arg, const struct lane_image *lane)
{
    const struct record_fact *fact = arg;

    return fact->class == CATALOG_TOPIC ? lane->topic == fact->id
                                        : lane->group == fact->id;
}

static enum status keep_fact(struct keeper *keeper, const struct record *record)
{
    void *facts = keeper->facts;
    struct fact_note *note;
    enum status status =
        keeper_reserve(&facts, &keeper->fact_capacity, keeper->fact_count + 1,
                       sizeof *keeper->facts);

    if (status != STATUS_OK) {
        return status;
    }
    keeper->facts = facts;
    note = &keeper->facts[keeper->fact_count];
    note->bytes = malloc(record->body.len);
    if (note->bytes == NULL) {
        return STATUS_NOMEM;
    }
    memcpy(note->bytes, record->body.at, record->body.len);
    status = fact_read(slice_of(note->bytes, record->body.len), &note->fact);
    CHECK(status == STATUS_OK);
    keeper->fact_count++;
    return STATUS_OK;
}

/* What was deleted stays so: ids are never used again. A snapshot may have said
 * it before. */
static bool is_late(const struct keeper *keeper, const struct record_fact *fact)
{
    if (fact->deleted) {
        return false;
    }
    return (fact->class == CATALOG_TOPIC
            && keeper_topic_deleted(keeper, fact->id))
           || (fact->class == CATALOG_GROUP && group_deleted(keeper, fact->id));
}

static enum status note_fact(struct noting *n, const struct record *record)
{
    struct keeper *keeper = &n->store->keeper;
    struct record_fact fact;
    enum status status = fact_read(record->body, &fact);

    if (status != STATUS_OK || is_late(keeper, &fact)
        || (n->known && !given_not_fact(&keeper->given, &fact))) {
        return status;
    }
    status = keeper_set_deleted(keeper, &fact);
    if (status == STATUS_OK) {
        status = keep_fact(keeper, record);
    }
    if (status == STATUS_OK && fact.deleted && fact.class != CATALOG_APP) {
        lanes_drop(&keeper->lanes, belongs_to, &fact);
        histories_settled(&keeper->histories);
        keeper->sweeping = true;
    }
    return status;
}

/* ---- trims ---- */

static enum status note_trim(struct keeper *keeper, const struct record *record)
{
    struct record_trim trim;
    struct topic_note *note;
    enum status status = trim_read(record->body, &trim);

    if (status == STATUS_OK) {
        status = note_last_seq(keeper, trim.topic, trim.floor_seq - 1);
    }
    if (status != STATUS_OK || keeper_topic_deleted(keeper, trim.topic)) {
        return status;
    }
    note = keeper_topic(keeper, trim.topic);
    if (trim.first_seq > note->first_seq) {
        note->first_seq = trim.first_seq;
        note->dirty = true;
        histories_settled(&keeper->histories);
    }
    if (trim.floor_seq > note->floor_seq) {
        note->floor_seq = trim.floor_seq;
        note->dirty = true;
    }
    return STATUS_OK;
}

/* ---- producers ---- */

static void note_producer(struct noting *n, const struct record *record)
{
    struct keeper *keeper = &n->store->keeper;
    uint64_t number = n->batch->header.number;
    struct producer message = { .app = producer_app(record),
                                .id = record->producer,
                                .topic = record->topic,
                                .last = record->producer_seq,
                                .run_seq = record->seq,
                                .used = number };
    struct producers *told_by =
        (record->flags & RECORD_ID) != 0 ? &keeper->ids : &keeper->producers;
    struct producer *entry =
        producers_find(told_by, message.app, record->producer);

    if (n->known
        && (!keeper->given.wanted || (entry != NULL && entry->used > number))) {
        return;
    }
    producers_note(told_by, entry, &message);
}

/* ---- a batch ---- */

static enum status note_message(struct noting *n, const struct record *record,
                                size_t size)
{
    struct keeper *keeper = &n->store->keeper;
    const struct batch_header *header = &n->batch->header;
    enum status status = STATUS_OK;
    struct tally_entry *entry;

    if (record->topic > TOPIC_ID_MAX) {
        return STATUS_CORRUPT;
    }
    if (n->batch->index_lost) {
        status = note_without_index(keeper, n->first_run, n->batch, record);
    }
    if (status != STATUS_OK) {
        return status;
    }
    entry = tally_at(&keeper->tally, header->segment, record->topic);
    if (entry == NULL) {
        return STATUS_NOMEM;
    }
    tally_message(entry, size, record->time_us);
    n->message_bytes += size;
    if (record->producer != 0 && header->kind != BATCH_MERGE) {
        note_producer(n, record);
    }
    return STATUS_OK;
}

static enum status note_record(struct noting *n, const struct record *record,
                               size_t size)
{
    struct store *store = n->store;

    switch (record->kind) {
    case RECORD_MESSAGE:
        return note_message(n, record, size);
    case RECORD_ACK:
    case RECORD_GAP:
    case RECORD_RETRY:
    case RECORD_FAILED:
    case RECORD_EXPIRED:
    case RECORD_FILTERED:
    case RECORD_REDRIVE:
    case RECORD_BURY:
    case RECORD_DISCARD:
    case RECORD_SEEK:
        return note_lane(n, record);
    case RECORD_CATALOG:
        return note_fact(n, record);
    case RECORD_TRIM:
        return note_trim(&store->keeper, record);
    }
    return STATUS_CORRUPT;
}

/* The record at `at`, as far as it will be looked into: of messages that is the
 * head. */
static bool can_read(struct noting *n, uint32_t at)
{
    const struct batch_header *h = &n->batch->header;
    uint32_t begin = h->offset + BATCH_HEADER_LEN;
    const uint8_t *record;
    uint64_t left;
    uint64_t len;

    at = at == 0 ? begin : at;
    if (n->walk.segment == NULL || at >= begin + h->records_len) {
        return true;
    }
    left = begin + h->records_len - at;
    if (!segment_walk_to(&n->walk, at,
                         left < RECORD_HEADER_LEN ? left : RECORD_HEADER_LEN)) {
        return false;
    }
    record = n->batch->base + at;
    len = record_size_at(record);
    return record[4] == RECORD_MESSAGE
           || segment_walk_to(&n->walk, at, len < left ? len : left);
}

static enum status note_records(struct noting *n, enum trust trust,
                                uint64_t *lost)
{
    struct slice bytes;
    uint32_t at = 0;

    for (;;) {
        struct record record;
        enum status status = STATUS_OK;
        if (!can_read(n, at)) {
            return STATUS_IO;
        }
        if (!batch_next(n->batch, &at, &bytes)) {
            break;
        }
        if (trust == TRUST_ALL) {
            record_fields_at(bytes.at, &record);
        } else {
            status = record_read(bytes, &record);
        }
        if (status == STATUS_OK) {
            status = note_record(n, &record, bytes.len);
        }
        if (status == STATUS_CORRUPT && lost != NULL) {
            *lost += bytes.len;
        } else if (status != STATUS_OK) {
            return status;
        }
    }
    if (at == UINT32_MAX && lost != NULL) {
        *lost += RECORD_HEADER_LEN; /* and what could not be reached after it */
    }
    return STATUS_OK;
}

static enum status note_rest(struct noting *n)
{
    const struct batch_header *header = &n->batch->header;
    struct tally_entry *entry =
        tally_at(&n->store->keeper.tally, header->segment, 0);

    if (entry == NULL) {
        return STATUS_NOMEM;
    }
    tally_message(entry, header->len - n->message_bytes, 0);
    return STATUS_OK;
}

static void settle_moves(struct keeper *keeper,
                         const struct batch_header *header)
{
    if (header->kind == BATCH_MERGE) {
        keeper->moves_owed -= header->record_count < keeper->moves_owed
                                  ? header->record_count
                                  : keeper->moves_owed;
    }
}

enum status keeper_apply_batch(struct store *store, const struct batch *batch,
                               enum trust trust, uint64_t *lost)
{
    struct keeper *keeper = &store->keeper;
    struct noting noting = {
        .store = store,
        .batch = batch,
        .first_run = keeper->run_count,
        .known = place_of(batch->header.segment, batch->header.offset)
                 < keeper->known,
        .walk.log = &store->log,
    };
    enum status status = STATUS_OK;

    if (keeper->run_count + batch->run_count > RUNS_PENDING_MAX
        || keeper->fact_count + batch->visit_count > FACTS_PENDING_MAX
        || histories_full(&keeper->histories)) {
        return STATUS_AGAIN;
    }
    if (trust == TRUST_ALL) {
        noting.walk.segment = log_segment(&store->log, batch->header.segment);
    }
    if (!batch->index_lost) {
        status = note_index(keeper, batch);
    }
    if (status == STATUS_OK) {
        status = note_records(&noting, trust, lost);
    }
    if (status == STATUS_OK) {
        status = note_rest(&noting);
    }
    if (status != STATUS_OK) {
        return status; /* half of it is noted: no checkpoint may follow */
    }
    settle_moves(keeper, &batch->header);
    keeper->applied.place = place_of(batch->header.segment,
                                     batch->header.offset + batch->header.len);
    keeper->applied.number = batch->header.number;
    keeper->applied.hash = batch->header.hash;
    keeper->pending_len += batch->header.len;
    keeper->applied_len += batch->header.len;
    return STATUS_OK;
}

enum status store_apply(struct store *store, const struct store_commit *commit)
{
    struct segment *segment = log_segment(&store->log, commit->segment);
    struct batch batch;
    enum status status;

    CHECK(segment != NULL);
    if (place_of(commit->segment, commit->offset)
        < store->keeper.applied.place) {
        return STATUS_OK; /* known already */
    }
    status = segment_batch(segment, &store->log, commit->offset, &batch);
    if (status != STATUS_OK) {
        store_freeze(store);
        return status;
    }
    status = keeper_apply_batch(store, &batch, TRUST_ALL, NULL);
    if (status != STATUS_OK && status != STATUS_AGAIN) {
        /* Half of it may be noted: no checkpoint may claim the whole. */
        store_freeze(store);
    }
    return status;
}

uint64_t store_pending(const struct store *store)
{
    return store->keeper.pending_len;
}

/* ---- after a checkpoint ---- */

static bool is_clean(const void *arg, const struct lane_image *lane)
{
    (void)arg;
    return !lane->dirty;
}

static void clean_tally(struct tally *tally)
{
    for (size_t i = 0; i < tally->count; i++) {
        struct tally_segment *segment = &tally->segments[i];
        for (size_t k = 0; segment->dirty && k < segment->count; k++) {
            segment->entries[k].dirty = false;
        }
        segment->dirty = false;
    }
}

static void forget_gone(struct gone_list *list)
{
    list->count = 0;
    if (list->capacity > GONE_KEPT_MAX) {
        free(list->entries);
        *list = (struct gone_list) { 0 };
    }
}

void keeper_forget_notes(struct keeper *keeper)
{
    keeper->run_count = 0;
    forget_gone(&keeper->gone_producers);
    forget_gone(&keeper->gone_ids);
    keeper->pending_len = 0;
    clear_facts(keeper);
    histories_written(&keeper->histories);
    for (uint32_t i = 0; i < keeper->topic_count; i++) {
        keeper->topics[i].dirty = false;
    }
    clean_tally(&keeper->tally);
    seqset_clear(&keeper->untold);
    producers_clean(&keeper->producers);
    producers_clean(&keeper->ids);
    for (size_t i = 0; i < keeper->lanes.bucket_count; i++) {
        for (struct lane_image *lane = keeper->lanes.buckets[i]; lane != NULL;
             lane = lane->chained) {
            lane->dirty = false;
        }
    }
    if (keeper->lanes.count > LANES_CACHED_MAX) {
        lanes_drop(&keeper->lanes, is_clean, NULL);
    }
}
