/* Looks at every byte of a segment's batches: what is whole is given to a
 * visitor, what is not is named. For bytes that were durable once; where they
 * end is the caller's to know. Pure: works on memory that is filled bit by bit.
 * The scrub and the offline tools use it. */
#ifndef GODWIT_STORAGE_EXAMINE_H
#define GODWIT_STORAGE_EXAMINE_H

#include "storage/batch.h"

/* Each may be NULL. */
struct examine_visitor {
    /* After its records. */
    void (*batch)(void *arg, const struct batch *batch);
    void (*record)(void *arg, const struct batch *batch,
                   const struct record *record, uint32_t offset);
    void (*damage)(void *arg, const struct store_damage *damage);
    void *arg;
};

/* What the header of the next batch says of this one. */
struct examine_link {
    uint64_t number; /* 0: not known */
    uint64_t hash;
};

struct examine {
    /* the caller's; before the first call */
    struct batch_source source; /* limit: one past what is to be examined */
    uint64_t epoch; /* that the batches carry; 0 not known: the first one's */
    const struct examine_visitor *visitor;
    uint32_t at; /* the next batch; SEGMENT_BEGIN */
    /* The batch before the first, if it is known; after the last call the last
     * one, for the next segment to go on with. */
    struct examine_link last;
    struct examine_link unsealed; /* the last that was no seal */

    /* the caller's; before each call */
    uint32_t loaded; /* bytes of the segment that are in memory */

    /* out */
    uint32_t want;   /* at EXAMINE_MORE: so many have to be */
    uint64_t lost;   /* batches, as the numbers of those around tell */
    bool sealed;     /* the segment's closing batch was seen */
    uint32_t seeked; /* what stands before is not looked at again */
};

enum examine_step {
    EXAMINE_BATCH, /* went one on */
    EXAMINE_MORE,  /* nothing happened for want of bytes */
    EXAMINE_END
};

enum examine_step examine_next(struct examine *e);

/* The head of a segment is not as it was written: in one half or, fatal, both.
 * `block`: its BLOCK_LEN bytes. */
void examine_head(const struct examine *e, const uint8_t *block);

#endif
