#include "storage/tally.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENTS_MIN = 16, ENTRIES_MIN = 8, SLOTS_MIN = 64 };

void tally_fini(struct tally *tally)
{
    for (size_t i = 0; i < tally->count; i++) {
        free(tally->segments[i].entries);
    }
    free(tally->segments);
    free(tally->slots);
    *tally = (struct tally) { 0 };
}

/* ---- segments ---- */

/* Index of the first segment whose id is >= id. */
static size_t place_of_id(const struct tally *tally, uint32_t id)
{
    size_t low = 0;
    size_t high = tally->count;

    if (high > 0 && tally->segments[high - 1].id < id) {
        return high;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tally->segments[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct tally_segment *tally_find(const struct tally *tally, uint32_t segment)
{
    size_t at = place_of_id(tally, segment);

    return at < tally->count && tally->segments[at].id == segment
               ? &tally->segments[at]
               : NULL;
}

/* Nothing more comes to it, as a rule. */
static void shrink(struct tally_segment *segment)
{
    void *less = NULL;

    if (segment->count > 0 && segment->count < segment->capacity) {
        less = realloc(segment->entries,
                       segment->count * sizeof *segment->entries);
    }
    if (less != NULL) {
        segment->entries = less;
        segment->capacity = segment->count;
    }
}

static struct tally_segment *add_segment(struct tally *tally, uint32_t id)
{
    size_t at = place_of_id(tally, id);

    if (at > 0) {
        shrink(&tally->segments[at - 1]);
    }

    if (tally->count == tally->capacity) {
        size_t capacity =
            tally->capacity == 0 ? SEGMENTS_MIN : tally->capacity * 2;
        void *grown =
            realloc(tally->segments, capacity * sizeof *tally->segments);
        if (grown == NULL) {
            return NULL;
        }
        tally->segments = grown;
        tally->capacity = capacity;
    }
    memmove(tally->segments + at + 1, tally->segments + at,
            (tally->count - at) * sizeof *tally->segments);
    tally->segments[at] = (struct tally_segment) { .id = id };
    tally->count++;
    return &tally->segments[at];
}

void tally_drop(struct tally *tally, uint32_t segment)
{
    struct tally_segment *found = tally_find(tally, segment);
    size_t at;

    if (found == NULL) {
        return;
    }
    at = (size_t)(found - tally->segments);
    free(found->entries);
    tally->count--;
    memmove(found, found + 1, (tally->count - at) * sizeof *found);
}

uint64_t tally_bytes(const struct tally_segment *segment)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < segment->count; i++) {
        bytes += segment->entries[i].bytes;
    }
    return bytes;
}

/* ---- entries ---- */

static struct tally_slot *slot_of(struct tally *tally, uint32_t topic)
{
    if (topic >= tally->slot_count) {
        size_t count = tally->slot_count == 0 ? SLOTS_MIN : tally->slot_count;
        struct tally_slot *slots;

        while (count <= topic) {
            count *= 2;
        }
        slots = realloc(tally->slots, count * sizeof *slots);
        if (slots == NULL) {
            return NULL;
        }
        memset(slots + tally->slot_count, 0,
               (count - tally->slot_count) * sizeof *slots);
        tally->slots = slots;
        tally->slot_count = count;
    }
    return &tally->slots[topic];
}

static struct tally_entry *search(struct tally_segment *segment, uint32_t topic)
{
    for (size_t i = 0; i < segment->count; i++) {
        if (segment->entries[i].topic == topic) {
            return &segment->entries[i];
        }
    }
    return NULL;
}

static struct tally_entry *add_entry(struct tally_segment *segment,
                                     uint32_t topic)
{
    if (segment->count == segment->capacity) {
        size_t capacity =
            segment->capacity == 0 ? ENTRIES_MIN : segment->capacity * 2;
        void *grown =
            realloc(segment->entries, capacity * sizeof *segment->entries);
        if (grown == NULL) {
            return NULL;
        }
        segment->entries = grown;
        segment->capacity = capacity;
    }
    segment->entries[segment->count] = (struct tally_entry) { .topic = topic };
    return &segment->entries[segment->count++];
}

struct tally_entry *tally_at(struct tally *tally, uint32_t segment,
                             uint32_t topic)
{
    struct tally_slot *slot = slot_of(tally, topic);
    struct tally_segment *s = tally_find(tally, segment);
    struct tally_entry *entry = NULL;

    if (slot == NULL) {
        return NULL;
    }
    if (s == NULL) {
        s = add_segment(tally, segment);
    }
    if (s == NULL) {
        return NULL;
    }
    s->dirty = true;
    if (slot->segment == segment) {
        return &s->entries[slot->index];
    } else if (slot->segment > segment) {
        entry = search(s, topic);
    }
    if (entry != NULL) {
        return entry;
    }
    entry = add_entry(s, topic);
    if (entry != NULL && slot->segment < segment) {
        *slot = (struct tally_slot) { segment, (uint32_t)(s->count - 1) };
    }
    return entry;
}

uint32_t tally_figure(uint64_t value)
{
    return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

void tally_run(struct tally_entry *entry, uint64_t first_seq, uint64_t count)
{
    uint64_t last_seq = first_seq + count - 1;

    if (entry->count == 0 || first_seq < entry->first_seq) {
        entry->first_seq = first_seq;
    }
    if (last_seq > entry->last_seq) {
        entry->last_seq = last_seq;
    }
    entry->count = tally_figure(entry->count + count);
    entry->dirty = true;
}

void tally_message(struct tally_entry *entry, uint64_t bytes, uint64_t time_us)
{
    entry->bytes = tally_figure(entry->bytes + bytes);
    if (time_us > entry->newest_us) {
        entry->newest_us = time_us;
    }
    entry->dirty = true;
}
