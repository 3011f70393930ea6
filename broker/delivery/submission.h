/* The submission ring of one worker: a byte ring of finished records on their
 * way to the journal. The memory is mapped twice in a row, so no record wraps
 * and the journal hands whole spans to pwritev. One producer (the worker), one
 * consumer (the journal, or whoever commits in its place: one at a time), which
 * numbers the records in place.
 *
 *   released      durable         taken          published     written
 *   |  worker reads  |  being synced |  journal's    |  worker's   |
 *   |  seq and flags |               |  to take      |  this turn  |
 *
 * Positions are bytes since the start and never wrap. */
#ifndef GODWIT_BROKER_DELIVERY_SUBMISSION_H
#define GODWIT_BROKER_DELIVERY_SUBMISSION_H

#include "proto/check.h"
#include "proto/status.h"
#include "storage/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct submission;

/* Where a record stands in the log. */
struct submission_place {
    uint32_t segment;
    uint32_t offset;
};

/* len: a power of two and a multiple of the page. NULL: no memory. */
struct submission *submission_new(size_t len);
void submission_free(struct submission *s); /* accepts NULL */

/* ---- worker ---- */

/* Room for a record of `len` bytes, contiguous and aligned to 8; NULL when the
 * ring is full (then stop reading sockets). Not kept if nothing is written. */
uint8_t *submission_reserve(struct submission *s, size_t len);
/* The record of `len` bytes at the reserved place is finished. `urgent`:
 * someone waits for it (publishes, catalog); acks may ride along with the next.
 * Returns the position behind it. */
uint64_t submission_write(struct submission *s, size_t len, bool urgent);
/* All of that for a record whose room was looked for before: body copied,
 * header made. */
uint64_t submission_put(struct submission *s, const struct record *record,
                        bool urgent);
/* Show the journal what was written. Returns true if it must be woken. */
bool submission_publish(struct submission *s);
size_t submission_room(const struct submission *s);
uint64_t submission_written(const struct submission *s);
uint64_t submission_durable(const struct submission *s);
/* The record at a position that is not released yet. */
uint8_t *submission_at(const struct submission *s, uint64_t position);
/* Where the record at a durable position was written. False: nobody knows any
 * more. This and submission_dropped() are told in rising order of position. */
bool submission_placed(struct submission *s, uint64_t position,
                       struct submission_place *out);
/* The record of `len` bytes at `position` was not written: those behind it
 * stand so much nearer to the ones before. */
void submission_dropped(struct submission *s, uint64_t position, size_t len);
/* The records before `position` were read; their room is free again. */
void submission_release(struct submission *s, uint64_t position);

/* ---- journal ---- */

/* What was published and not taken. Returns its length. */
size_t submission_peek(struct submission *s, uint8_t **at);
bool submission_urgent(const struct submission *s); /* any of it is urgent */
void submission_take(struct submission *s, size_t len);
/* The first record written of the `len` bytes that will be taken next stands at
 * `place`, the others close behind it. Forgotten when the worker has not read
 * PLACES_MAX of these. */
void submission_note(struct submission *s, size_t len,
                     struct submission_place place);
/* All that was taken is settled: durable, or flagged in place as dropped. */
void submission_settle(struct submission *s);

/* The journal is about to sleep (then submission_publish() asks for a wake): for
 * `urgent_only`, only urgent records do. False: there is something already. */
bool submission_sleep(struct submission *s, bool urgent_only);
void submission_awake(struct submission *s);

#endif
