#include "storage/producers.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 64 };
#define NONE UINT32_MAX

enum status producers_init(struct producers *p, uint32_t count_max,
                           uint64_t seed)
{
    uint32_t buckets = 1;

    *p = (struct producers) { .count_max = count_max, .seed = seed };
    if (count_max == 0) {
        p->count_max = PRODUCER_COUNT_MAX;
    }
    p->newest = p->oldest = p->hot = NONE;
    while (buckets < p->count_max) {
        buckets *= 2;
    }
    p->bucket_mask = buckets - 1;
    p->buckets = malloc(buckets * sizeof *p->buckets);
    if (p->buckets == NULL) {
        return STATUS_NOMEM;
    }
    memset(p->buckets, 0xff, buckets * sizeof *p->buckets);
    return STATUS_OK;
}

void producers_fini(struct producers *p)
{
    free(p->entries);
    free(p->buckets);
    *p = (struct producers) { 0 };
}

/* ---- the table: chains by hash, a list by age ---- */

static uint32_t *bucket_of(const struct producers *p, uint32_t app, uint64_t id)
{
    uint64_t x = (id ^ p->seed) + (uint64_t)app * UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    return &p->buckets[x & p->bucket_mask];
}

static void unlink_age(struct producers *p, uint32_t index)
{
    struct producer *entry = &p->entries[index];

    if (entry->older != NONE) {
        p->entries[entry->older].newer = entry->newer;
    } else {
        p->oldest = entry->newer;
    }
    if (entry->newer != NONE) {
        p->entries[entry->newer].older = entry->older;
    } else {
        p->newest = entry->older;
    }
}

static void link_newest(struct producers *p, uint32_t index)
{
    struct producer *entry = &p->entries[index];

    entry->newer = NONE;
    entry->older = p->newest;
    if (p->newest != NONE) {
        p->entries[p->newest].newer = index;
    } else {
        p->oldest = index;
    }
    p->newest = index;
}

struct producer *producers_find(struct producers *p, uint32_t app, uint64_t id)
{
    uint32_t index = p->hot;

    if (index != NONE && p->entries[index].id == id
        && p->entries[index].app == app) {
        return &p->entries[index];
    }
    for (index = *bucket_of(p, app, id); index != NONE;
         index = p->entries[index].chained) {
        struct producer *entry = &p->entries[index];
        if (entry->id == id && entry->app == app) {
            unlink_age(p, index);
            link_newest(p, index);
            p->hot = index;
            return entry;
        }
    }
    return NULL;
}

static void unchain(struct producers *p, uint32_t index)
{
    struct producer *entry = &p->entries[index];
    uint32_t *link = bucket_of(p, entry->app, entry->id);

    while (*link != index) {
        CHECK(*link != NONE);
        link = &p->entries[*link].chained;
    }
    *link = entry->chained;
}

static uint32_t take_oldest(struct producers *p)
{
    uint32_t index = p->oldest;

    CHECK(index != NONE);
    if (p->gone != NULL) {
        p->gone(p->gone_arg, &p->entries[index]);
    }
    unlink_age(p, index);
    unchain(p, index);
    return index;
}

/* A free slot: a new one while the bound and the memory allow, else the one of
 * the entry that was used longest ago. */
static uint32_t take_slot(struct producers *p)
{
    if (p->count == p->capacity && p->capacity < p->count_max) {
        uint32_t capacity = p->capacity == 0 ? CAPACITY_MIN : p->capacity * 2;
        struct producer *entries;

        if (capacity > p->count_max) {
            capacity = p->count_max;
        }
        entries = realloc(p->entries, capacity * sizeof *entries);
        if (entries != NULL) {
            p->entries = entries;
            p->capacity = capacity;
        }
    }
    if (p->count < p->capacity) {
        return p->count++;
    }
    return p->count == 0 ? NONE : take_oldest(p);
}

enum status producers_put(struct producers *p, const struct producer *saved)
{
    uint32_t index = take_slot(p);
    uint32_t *bucket = bucket_of(p, saved->app, saved->id);
    struct producer *entry;

    if (index == NONE) {
        return STATUS_NOMEM;
    }
    entry = &p->entries[index];
    *entry = *saved;
    entry->chained = *bucket;
    *bucket = index;
    link_newest(p, index);
    p->hot = index;
    return STATUS_OK;
}

/* ---- one producer's numbers ---- */

static uint32_t hole_at(const struct producer *entry, uint64_t number)
{
    for (uint32_t i = 0; i < entry->hole_count; i++) {
        if (number >= entry->holes[i].first && number <= entry->holes[i].last) {
            return i;
        }
    }
    return NONE;
}

bool producer_stored(const struct producer *entry, uint64_t number,
                     uint64_t *seq)
{
    if (number > entry->last || hole_at(entry, number) != NONE) {
        return false;
    }
    *seq = 0;
    if (number >= entry->run_first && number <= entry->run_last) {
        *seq = entry->run_seq + (number - entry->run_first);
    }
    return true;
}

/* With no room for one more the last hole grows over what lies between: those
 * numbers would be stored twice if they were sent again, never lost. */
static void add_hole(struct producer *entry, uint64_t first, uint64_t last)
{
    if (entry->hole_count == PRODUCER_HOLES_MAX) {
        entry->holes[PRODUCER_HOLES_MAX - 1].last = last;
        return;
    }
    entry->holes[entry->hole_count++] = (struct seq_range) { first, last };
}

static void fill_hole(struct producer *entry, uint64_t number)
{
    uint32_t i = hole_at(entry, number);
    struct seq_range *hole;

    if (i == NONE) {
        return;
    }
    hole = &entry->holes[i];
    if (hole->first == hole->last) {
        entry->hole_count--;
        memmove(hole, hole + 1, (entry->hole_count - i) * sizeof *hole);
    } else if (number == hole->first) {
        hole->first++;
    } else if (number == hole->last) {
        hole->last--;
    } else if (entry->hole_count < PRODUCER_HOLES_MAX) {
        memmove(hole + 1, hole, (entry->hole_count - i) * sizeof *hole);
        entry->hole_count++;
        hole[0].last = number - 1;
        hole[1].first = number + 1;
    }
}

static void note_number(struct producer *entry, const struct producer *message)
{
    uint64_t number = message->last;

    if (number > entry->last) {
        if (number > entry->last + 1) {
            add_hole(entry, entry->last + 1, number - 1);
        }
        entry->last = number;
    } else {
        fill_hole(entry, number);
    }
    if (number == entry->run_last + 1 && message->topic == entry->topic
        && message->run_seq == entry->run_seq + (number - entry->run_first)) {
        entry->run_last = number;
        return;
    }
    entry->topic = message->topic;
    entry->run_first = entry->run_last = number;
    entry->run_seq = message->run_seq;
}

void producers_note(struct producers *p, struct producer *entry,
                    const struct producer *message)
{
    if (entry == NULL) {
        struct producer fresh = { .app = message->app, .id = message->id };
        if (producers_put(p, &fresh) != STATUS_OK) {
            return;
        }
        entry = &p->entries[p->hot];
    }
    note_number(entry, message);
    entry->used = message->used;
    entry->dirty = true;
}

void producers_clean(struct producers *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        p->entries[i].saved = p->entries[i].saved || p->entries[i].dirty;
        p->entries[i].dirty = false;
    }
}
