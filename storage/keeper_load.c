/* What a start brings into the keeper's memory, and from there to the journal.
 */
#include "storage/internal.h"

#include <stdlib.h>

struct loading {
    struct store *store;
    struct producer *producers;
    size_t count;
    size_t capacity;
    enum status status;
};

static void load_topic(void *arg, const struct store_topic *topic)
{
    struct loading *l = arg;

    struct topic_note *note;

    if (l->status != STATUS_OK) {
        return;
    }
    note = keeper_topic(&l->store->keeper, topic->topic);
    if (note == NULL) {
        l->status = topic->topic > TOPIC_ID_MAX ? STATUS_CORRUPT : STATUS_NOMEM;
        return;
    }
    note->last_seq = topic->last_seq;
    note->first_seq = topic->first_seq;
    note->floor_seq = topic->floor_seq;
}

static void load_fact(void *arg, const struct record_fact *fact)
{
    struct loading *l = arg;

    if (l->status == STATUS_OK && fact->deleted) {
        l->status = keeper_set_deleted(&l->store->keeper, fact);
    }
}

static void load_producer(void *arg, const struct producer *entry)
{
    struct loading *l = arg;
    void *producers = l->producers;

    if (l->status == STATUS_OK) {
        l->status = keeper_reserve(&producers, &l->capacity, l->count + 1,
                                   sizeof *l->producers);
    }
    if (l->status == STATUS_OK) {
        l->producers = producers;
        l->producers[l->count++] = *entry;
    }
}

static void load_tally(void *arg, uint32_t segment,
                       const struct tally_entry *saved)
{
    struct loading *l = arg;
    struct tally_entry *entry;

    if (l->status != STATUS_OK) {
        return;
    }
    entry = saved->topic <= TOPIC_ID_MAX
                ? tally_at(&l->store->keeper.tally, segment, saved->topic)
                : NULL;
    if (entry == NULL) {
        l->status = saved->topic > TOPIC_ID_MAX ? STATUS_CORRUPT : STATUS_NOMEM;
        return;
    }
    *entry = *saved;
}

static int by_use(const void *a, const void *b)
{
    const struct producer *x = a;
    const struct producer *y = b;

    if (x->used != y->used) {
        return x->used < y->used ? -1 : 1;
    }
    return (x->run_seq > y->run_seq) - (x->run_seq < y->run_seq);
}

static enum status load_producers(struct loading *l, enum keydir_table table,
                                  struct producers *to)
{
    enum status status;

    l->count = 0;
    status = keydir_each_producer(l->store->keydir, table, load_producer, l);
    if (status == STATUS_OK) {
        status = l->status;
    }
    if (status == STATUS_OK && l->count > 0) {
        qsort(l->producers, l->count, sizeof *l->producers, by_use);
    }
    for (size_t i = 0; i < l->count && status == STATUS_OK; i++) {
        l->producers[i].saved = true;
        status = producers_put(to, &l->producers[i]);
    }
    return status;
}

enum status keeper_load(struct store *store)
{
    struct loading l = { .store = store };
    enum status status = keydir_each_topic(store->keydir, load_topic, &l);

    if (status == STATUS_OK) {
        status = keydir_each_fact(store->keydir, load_fact, &l);
    }
    if (status == STATUS_OK) {
        status = keydir_each_tally(store->keydir, load_tally, &l);
    }
    if (status == STATUS_OK) {
        status = l.status;
    }
    if (status == STATUS_OK) {
        status = load_producers(&l, PRODUCERS, &store->keeper.producers);
    }
    if (status == STATUS_OK) {
        status = load_producers(&l, IDS, &store->keeper.ids);
    }
    free(l.producers);
    return status;
}

static enum status teach_all(const struct producers *from, struct producers *to)
{
    enum status status = STATUS_OK;

    for (uint32_t i = from->oldest; i != UINT32_MAX && status == STATUS_OK;
         i = from->entries[i].newer) {
        status = producers_put(to, &from->entries[i]);
    }
    return status;
}

enum status keeper_teach(struct store *store)
{
    struct keeper *keeper = &store->keeper;
    enum status status = STATUS_OK;

    for (uint32_t i = 0; i < keeper->topic_count && status == STATUS_OK; i++) {
        if (keeper->topics[i].last_seq != 0) {
            status =
                journal_topic(&store->journal, i, keeper->topics[i].last_seq,
                              keeper->topics[i].floor_seq);
        }
    }
    if (status == STATUS_OK) {
        status = teach_all(&keeper->producers, &store->journal.producers);
    }
    return status == STATUS_OK ? teach_all(&keeper->ids, &store->journal.ids)
                               : status;
}
