/* The bytes of one record: what the log is made of. FORMAT.md has the layout
 * byte by byte. Pure functions, any thread. The broker's workers write finished
 * records with this header straight into their submission ring; the store fills
 * in seq, time and the header's checksum when it numbers them. */
#ifndef GODWIT_STORAGE_RECORD_H
#define GODWIT_STORAGE_RECORD_H

#include "proto/bytes.h"
#include "proto/limits.h"
#include "proto/seqset.h"
#include "proto/status.h"

enum { RECORD_HEADER_LEN = 64, RECORD_ALIGN = 8 };

enum record_kind {
    RECORD_MESSAGE = 1, /* body: the encoded Message, as the client sent it */
    RECORD_ACK = 2,     /* body: group, topic, ranges settled by acks */
    RECORD_RETRY = 3,   /* in logs of versions 1 and 2; now RECORD_FAILED */
    RECORD_CATALOG = 4, /* body: one fact about an app, a topic or a group */
    RECORD_GAP = 5,     /* body: group, topic, ranges lost to damage */
    RECORD_TRIM = 6,    /* body: from where on a topic's messages are there */
    RECORD_FAILED = 7,  /* body: group, topic, deliveries that failed */
    /* bodies: group, topic, ranges */
    RECORD_EXPIRED = 8, /* settled because their time to live was over */
    RECORD_FILTERED =
        9, /* settled because the group's filter is not for them */
    RECORD_REDRIVE = 10, /* dead ones are owed again, with no attempts yet */
    RECORD_BURY = 11,    /* owed ones are dead again: takes a redrive back */
    RECORD_DISCARD = 12, /* dead ones are settled */
    RECORD_SEEK = 13     /* body: group, topic, behind which it begins anew */
};

enum { RECORD_KIND_LAST = RECORD_SEEK };

/* Flags. The first two never reach the disk: the store sets them in the
 * submission ring for the worker to read. The others are the worker's, and stay
 * with the record wherever it is moved. */
enum record_flag {
    RECORD_DUPLICATE =
        1,              /* its producer sequence was stored before: dropped;
                         * seq holds the first one's, 0 if not known any more */
    RECORD_REFUSED = 2, /* no space for it: not written */
    RECORD_TIMED = 4,   /* the Message has a delay, a time or a time to live */
    RECORD_ID = 8,      /* producer and producer_seq are a message id's hash */
    RECORD_MORE = 16    /* the record behind it belongs to it: both or none */
};

/* A record as its header says. `body` points into where it was read. */
struct record {
    enum record_kind kind;
    uint8_t flags;
    uint32_t topic;    /* id; 0 for other kinds than message */
    uint32_t app;      /* id of the app that caused it; 0: the broker itself */
    uint64_t seq;      /* of a message in its topic, from 1; 0 otherwise */
    uint64_t time_us;  /* since 1970, by the journal's wall clock */
    uint64_t producer; /* 0: not idempotent */
    uint64_t producer_seq; /* rises from 1 per (app, producer) */
    struct slice body;
};

/* What a record with this body takes in the log, padding included. */
size_t record_size(size_t body_len);

/* Write a header at `at`; the body of body_len bytes must stand behind it
 * already (at + RECORD_HEADER_LEN): its checksum is taken here, and the padding
 * behind it is zeroed. seq and time are left 0 for record_number(). */
void record_finish(uint8_t *at, const struct record *record);

/* Give it its number and time and close the header with its checksum. Called by
 * the store, by whoever appends. */
void record_number(uint8_t *at, uint64_t seq, uint64_t time_us);

/* The size in the log of the record that begins at `at`, from its header alone,
 * unverified. For memory that this process wrote itself. */
size_t record_size_at(const uint8_t *at);

/* Is the header at this place as it was written? Its bytes must be readable. */
bool record_header_whole(const uint8_t *at);

/* Read and verify both checksums. STATUS_CORRUPT for anything that is not a
 * whole and correct record within `from`. */
MUST_CHECK enum status record_read(struct slice from, struct record *out);

/* For the store: mark a record as dropped or refused, and read the fields of
 * one in memory that this process wrote itself, unverified. */
void record_drop(uint8_t *at, uint8_t flag, uint64_t seq);
void record_fields_at(const uint8_t *at, struct record *out);

/* The same, of one it made: the seek goes there instead. */
void record_seek_again(uint8_t *at, uint64_t after);

/* Fields read in place by the worker from its own submission ring. */
uint64_t record_seq_at(const uint8_t *at);
uint8_t record_flags_at(const uint8_t *at);

/* For the store: it is the last of a chain after all. Number it after that. */
void record_end_chain(uint8_t *at);

/* The checksum in its header, which covers header and body; stays the same when
 * a merge moves the record. */
uint64_t record_hash_at(const uint8_t *at);

/* The checksum of a receipt: folded over the hashes of its records in order of
 * seq, beginning with 0. */
static inline uint64_t record_receipt(uint64_t sum, uint64_t hash)
{
    sum = (sum ^ hash) * UINT64_C(0x9E3779B97F4A7C15);
    return sum << 31 | sum >> 33;
}

/* ---- bodies ---- */

/* All kinds but those with a body of their own: ranges of a group on a topic. */
struct record_ranges {
    uint32_t group;
    uint32_t topic;
    const struct seq_range *ranges;
    size_t count; /* at most RECORD_RANGES_MAX */
};

/* RECORD_RETRY: what redelivery needs to know after a restart. */
struct retry {
    uint64_t seq;
    uint32_t attempts; /* deliveries that failed so far */
    uint64_t due_us;   /* wall clock: not before */
};

struct record_retries {
    uint32_t group;
    uint32_t topic;
    const struct retry *retries;
    size_t count; /* at most RECORD_RETRIES_MAX */
};

/* RECORD_FAILED: deliveries that failed. The numbers are on the disk. */
enum failure_cause {
    CAUSE_NACK = 1,  /* the subscriber said so */
    CAUSE_LEASE = 2, /* its lease was over */
    CAUSE_GONE = 3,  /* its connection was lost */
    CAUSE_REJECT = 4 /* the subscriber wants it dead */
};
/* "nack", "lease", "gone", "reject"; "unknown" for others. */
const char *failure_cause_word(uint8_t cause);

struct failure {
    uint64_t seq;
    uint64_t due_us;     /* wall clock: not again before; 0: at once */
    uint64_t holder;     /* of which lease; 0: none */
    uint32_t attempts;   /* deliveries that failed so far, this one counted */
    uint8_t cause;       /* enum failure_cause */
    bool dead;           /* no further delivery: a dead letter */
    struct slice reason; /* at most REASON_LEN_MAX */
};

struct record_failures {
    uint32_t group;
    uint32_t topic;
    const struct failure *failures;
    size_t count; /* at most RECORD_FAILURES_MAX */
};

/* RECORD_SEEK: what the group was given of the topic is forgotten. Messages up
 * to `after` are settled, but dead ones stay dead; those above are owed as if
 * they were new. */
struct record_seek {
    uint32_t group;
    uint32_t topic;
    uint64_t after;
};

/* RECORD_CATALOG: a fact; who may state it and what its value means is the
 * broker's affair (router/catalog). */
enum catalog_class { CATALOG_APP = 1, CATALOG_TOPIC = 2, CATALOG_GROUP = 3 };

struct record_fact {
    enum catalog_class class;
    uint32_t id;  /* unique in its class for ever, from 1 */
    bool deleted; /* the value is gone */
    struct slice name;
    struct slice value; /* opaque to the store */
};

/* RECORD_TRIM: the greatest values of a topic count. */
struct record_trim {
    uint32_t topic;
    uint64_t first_seq; /* messages below are deleted, for everybody */
    uint64_t floor_seq; /* groups made from now on begin here at the earliest */
};

enum {
    RECORD_RANGES_MAX = 65536,
    RECORD_RETRIES_MAX = 32768,
    RECORD_FAILURES_MAX = 1024,
    FAILURE_LEN_MIN = 32, /* in a body, without its reason */
    FAILURES_HEAD_LEN = 16
};

/* Each appends a body to `to`. */
MUST_CHECK enum status record_ranges_write(struct bytes *to,
                                           const struct record_ranges *ranges);
MUST_CHECK enum status record_retries_write(struct bytes *to,
                                            const struct record_retries *r);
MUST_CHECK enum status record_failed_write(struct bytes *to,
                                           const struct record_failures *f);
MUST_CHECK enum status record_seek_write(struct bytes *to,
                                         const struct record_seek *seek);
MUST_CHECK enum status record_fact_write(struct bytes *to,
                                         const struct record_fact *fact);

MUST_CHECK enum status record_trim_write(struct bytes *to,
                                         const struct record_trim *trim);

/* Each reads a body; arrays are decoded one by one because a body in the log
 * has no alignment. STATUS_CORRUPT when it is not one. */
struct ranges_reader {
    uint32_t group, topic;
    size_t count;
    struct reader reader;
};
MUST_CHECK enum status ranges_read(struct slice body,
                                   struct ranges_reader *out);
struct seq_range ranges_next(struct ranges_reader *r); /* `count` times */

struct retries_reader {
    uint32_t group, topic;
    size_t count;
    struct reader reader;
};
MUST_CHECK enum status retries_read(struct slice body,
                                    struct retries_reader *out);
struct retry retries_next(struct retries_reader *r); /* `count` times */

/* Reasons point into the body. */
struct failed_reader {
    uint32_t group, topic;
    size_t count;
    struct reader reader;
};
MUST_CHECK enum status failed_read(struct slice body,
                                   struct failed_reader *out);
struct failure failed_next(struct failed_reader *r); /* `count` times */

MUST_CHECK enum status seek_read(struct slice body, struct record_seek *out);
MUST_CHECK enum status fact_read(struct slice body, struct record_fact *out);
MUST_CHECK enum status trim_read(struct slice body, struct record_trim *out);

/* Does the body fit the kind? A message's is not looked at. */
bool record_body_whole(const struct record *record);

/* Of what topic a record speaks, and of what group; 0: of none, or its body is
 * not whole. */
uint32_t record_topic(const struct record *record);
uint32_t record_group(const struct record *record);

#endif
