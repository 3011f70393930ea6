/* A commit batch: what one write of the journal puts into a segment. A header,
 * the records, and an index that says where each topic's messages stand. Pure
 * functions over memory that holds a segment from its first byte; everything
 * read is checked against its bounds and checksums. */
#ifndef GODWIT_STORAGE_BATCH_H
#define GODWIT_STORAGE_BATCH_H

#include "proto/bytes.h"
#include "proto/status.h"
#include "storage/store.h"

enum {
    BATCH_VERSION = 2,
    BATCH_HEADER_LEN = 128,
    BATCH_ALIGN = 8,
    BATCH_INDEX_HEAD_LEN = 8,
    BATCH_RUN_LEN = 24,
    BATCH_SEAL_LEN = BATCH_HEADER_LEN /* what closes a full segment */
};

/* A place in the log as one number: ordered, 0 before everything. */
static inline uint64_t place_of(uint32_t segment, uint32_t offset)
{
    return (uint64_t)segment << 32 | offset;
}

static inline uint32_t place_segment(uint64_t place)
{
    return (uint32_t)(place >> 32);
}

static inline uint32_t place_offset(uint64_t place)
{
    return (uint32_t)place;
}

enum batch_kind {
    BATCH_RECORDS = 1,
    BATCH_SEAL = 2, /* no records: the log goes on in the next segment */
    BATCH_MERGE = 3 /* records; its messages were stored before and moved here:
                     * they keep seq, time and bytes */
};

struct batch_header {
    uint32_t version; /* filled in by write and read */
    enum batch_kind kind;
    uint32_t segment;
    uint32_t offset; /* in the segment, its own */
    uint32_t len;    /* of the whole batch, a multiple of BATCH_ALIGN */
    uint32_t records_len;
    uint32_t record_count;
    uint32_t index_len;
    uint64_t epoch;
    uint64_t number;  /* of the batch, from 1 in the store's life */
    uint64_t durable; /* place known durable when this was written */
    uint64_t time_us;
    uint64_t previous; /* `hash` of the batch before */
    uint64_t index_hash;
    uint64_t records_hash; /* of the hashes of its records, in their order; 0 in
                            * a seal and in version 1 */
    uint64_t hash;         /* of this header; filled in by write and read */
};

/* `seed`: the store's id, so that another store's batches do not pass. */
void batch_header_write(uint8_t *at, struct batch_header *header,
                        uint64_t seed);

/* A header as batch_header_write() leaves it stands at `at`. */
bool batch_header_read(const uint8_t *at, uint64_t seed,
                       struct batch_header *out);

/* The segment in memory and up to where it may be read. */
struct batch_source {
    const uint8_t *base;
    uint32_t limit;
    uint32_t segment; /* its id */
    uint64_t seed;
};

/* A batch found whole: header and index are verified, the records are not: see
 * batch_vouches_for_records(). */
struct batch {
    struct batch_header header;
    const uint8_t *base; /* of the segment */
    uint32_t run_count;
    uint32_t visit_count;
    bool index_lost; /* only batch_next() may be used */
};

/* STATUS_CORRUPT: no whole batch stands at `offset`. */
MUST_CHECK enum status batch_read(const struct batch_source *source,
                                  uint32_t offset, struct batch *out);

/* The same without looking at the index: the result has index_lost set. */
MUST_CHECK enum status batch_read_header(const struct batch_source *source,
                                         uint32_t offset, struct batch *out);

/* True when the bytes at `offset` begin like a batch; cheap, for scanning. */
bool batch_may_begin(const uint8_t *at);

/* Run number `i`. STATUS_CORRUPT when it points outside its batch. */
MUST_CHECK enum status batch_run(const struct batch *batch, uint32_t i,
                                 struct store_run *out);

/* The bytes of visit number `i` (a record that views must see) to the end of
 * the batch's records; empty when it points outside. */
struct slice batch_visit(const struct batch *batch, uint32_t i);

/* Walk the records in order: *at is 0 for the first. False at the end, or when
 * a length makes no sense (then *at is UINT32_MAX). The record is not verified
 * beyond its length. */
bool batch_next(const struct batch *batch, uint32_t *at, struct slice *record);

/* What `records_hash` says of records that stand as they should. */
uint64_t batch_records_hash(const struct batch *batch, uint64_t seed);

/* The records' headers are those that the batch was written with: their hashes
 * give the hash in its header. With record_read() of each, all is as it was
 * written; without, whole records of an earlier life of the file may stand in
 * the place of some. Batches of version 1 cannot tell: true. */
bool batch_vouches_for_records(const struct batch *batch, uint64_t seed);

/* With its header and index found whole by batch_read(), all of the batch is as
 * it was written: each record too, and none of an earlier life of the file is
 * among them. */
bool batch_whole(const struct batch *batch, uint64_t seed);

#endif
