/* What a whole log says, gathered in memory: facts, which messages of each
 * topic there are, and what each lane has settled; and the accounts that follow
 * from it. For the offline tools. One thread. */
#ifndef GODWIT_STORAGE_OFFLINE_BOOKS_H
#define GODWIT_STORAGE_OFFLINE_BOOKS_H

#include "storage/offline/inspect.h"
#include "storage/lanes.h"

enum { BOOKS_CLASSES = CATALOG_GROUP + 1 };

struct books_topic {
    struct seqset have;    /* whole messages */
    struct seqset damaged; /* named by damage */
    uint64_t last_seq;     /* of messages, or as a snapshot has it */
    uint64_t settled_last; /* the highest that a lane has settled */
    uint64_t first_seq;    /* 0: not known, so 1 */
    uint64_t floor_seq;
    uint64_t bytes;
};

struct books_fact {
    bool known;
    bool given;              /* by a snapshot */
    struct record_fact fact; /* name and value point into `bytes` */
    uint8_t *bytes;
};

/* Zero-initialised is empty. */
struct books {
    struct books_topic *topics; /* by id */
    size_t topic_count;
    struct books_fact *facts[BOOKS_CLASSES]; /* by id */
    size_t fact_counts[BOOKS_CLASSES];
    struct lanes lanes;
};

void books_fini(struct books *books);

/* What a record may tell. */
enum books_news {
    BOOKS_MESSAGES, /* a snapshot has said all else, */
    BOOKS_MISSING,  /* or not all of it, because it is damaged */
    BOOKS_ALL
};

/* Take note of a whole record. STATUS_CORRUPT: it cannot be so; STATUS_NOMEM. */
MUST_CHECK enum status books_record(struct books *books,
                                    const struct record *record,
                                    enum books_news news);
/* The same of what a snapshot says. */
MUST_CHECK enum status books_topic(struct books *books,
                                   const struct store_topic *topic);
MUST_CHECK enum status books_lane(struct books *books,
                                  const struct store_lane *lane);
MUST_CHECK enum status books_fact(struct books *books,
                                  const struct record_fact *fact);
/* A message is damaged in one place. */
MUST_CHECK enum status books_damaged(struct books *books, uint32_t topic,
                                     uint64_t seq);

bool books_gone(const struct books *books, enum catalog_class class,
                uint32_t id);
/* Is it below what was trimmed, or of a topic that is gone? */
bool books_deleted(const struct books *books, uint32_t topic, uint64_t seq);
struct slice books_name(const struct books *books, enum catalog_class class,
                        uint32_t id);

/* ---- the accounts ---- */
void books_each_topic(const struct books *books, inspect_topic_fn fn,
                      void *arg);
/* STATUS_NOMEM. */
MUST_CHECK enum status books_each_lane(const struct books *books,
                                       inspect_lane_fn fn, void *arg);

#endif
