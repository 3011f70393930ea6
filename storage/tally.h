/* What each segment holds: of each topic how many messages, which and how many
 * bytes, moved ones too. The keeper's, in memory; the keydir has it entry by
 * entry. It says which segments are worth a merge, and how far retention may
 * go, without reading them. What was deleted since is not taken out again.
 *
 * Its memory: TALLY_ENTRY_LEN for each topic that a segment has messages of,
 * and there is no other bound than TOPIC_COUNT_MAX of them in each segment. */
#ifndef GODWIT_STORAGE_TALLY_H
#define GODWIT_STORAGE_TALLY_H

#include "proto/status.h"
#include "proto/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tally_entry {
    uint32_t topic; /* 0: the bytes of all that is no message */
    uint32_t count; /* these two stop at UINT32_MAX */
    uint32_t bytes;
    bool dirty; /* changed since it was written */
    uint64_t first_seq;
    uint64_t last_seq;
    uint64_t newest_us; /* of its messages */
};
enum { TALLY_ENTRY_LEN = 40 };
_Static_assert(sizeof(struct tally_entry) == TALLY_ENTRY_LEN, "");

struct tally_segment {
    uint32_t id;
    bool dirty;                  /* some entry is */
    struct tally_entry *entries; /* in the order in which they came */
    size_t count;
    size_t capacity;
};

struct tally_slot {
    uint32_t segment; /* the last one with the topic in it, */
    uint32_t index;   /* and where in that */
};

struct tally {
    struct tally_segment *segments; /* by id */
    size_t count;
    size_t capacity;
    struct tally_slot *slots; /* by topic */
    size_t slot_count;
};

void tally_fini(struct tally *tally);
/* The entry, made when there is none; good until the next call. Without memory
 * NULL. Segments mostly come in order. */
struct tally_entry *tally_at(struct tally *tally, uint32_t segment,
                             uint32_t topic);
/* NULL: nothing is known of it. */
struct tally_segment *tally_find(const struct tally *tally, uint32_t segment);
void tally_drop(struct tally *tally, uint32_t segment);

/* Messages first..first+count-1 stand there, ... */
void tally_run(struct tally_entry *entry, uint64_t first_seq, uint64_t count);
/* ... one of which takes so much and has that time. */
void tally_message(struct tally_entry *entry, uint64_t bytes, uint64_t time_us);

/* Less than 2^32, or that. */
uint32_t tally_figure(uint64_t value);

uint64_t tally_bytes(const struct tally_segment *segment);

#endif
