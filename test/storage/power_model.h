/* What a store must hold, told again in the plainest way: every record that was
 * handed to it, one event each, in log order, and what a given number of them
 * adds up to. Knows nothing of how the store does it. */
#ifndef GODWIT_TEST_STORAGE_POWER_MODEL_H
#define GODWIT_TEST_STORAGE_POWER_MODEL_H

#include "test/storage/harness.h"

enum {
    MODEL_TOPICS = 8, /* ids 1..7 */
    MODEL_GROUPS = 5,
    MODEL_SEQS = 1024,
    MODEL_IDS = 64, /* of facts */
    MODEL_PRODUCERS = 4,
    MODEL_IDS_BY = 3, /* this producer's numbers are message ids */
    MODEL_TEXT_LEN = 65536,
    MODEL_BODY_LEN = 3072
};

enum event_kind {
    EVENT_MESSAGE,
    EVENT_RANGE, /* of a lane; `how` is the kind of the record */
    EVENT_FAILED,
    EVENT_SEEK,
    EVENT_FACT,
    EVENT_TRIM
};

struct event {
    enum event_kind kind;
    uint32_t topic, group;
    enum record_kind how;
    uint64_t first, last; /* seq; of a trim first and floor; of a seek after */
    uint32_t salt;        /* of a message: what its body is made of */
    uint32_t producer;    /* 0 none */
    uint64_t number;      /* the producer's */
    uint32_t chain;       /* with others of this number, or 0 */
    struct retry retry;   /* what failed, and */
    bool dead;            /* for good */
    enum catalog_class class;
    uint32_t id, value;
    bool deleted;
};

struct model_topic {
    uint64_t last, first, floor;
    bool trimmed;
    uint32_t salts[MODEL_SEQS];
};

/* What became of a message in a lane. */
enum model_state {
    MODEL_OPEN,
    MODEL_DEAD,
    MODEL_SETTLED, /* this and what comes behind it */
    MODEL_GAP,
    MODEL_EXPIRED,
    MODEL_FILTERED,
    MODEL_DISCARDED
};

struct model_lane {
    bool known;
    uint8_t state[MODEL_SEQS]; /* enum model_state */
    uint32_t attempts[MODEL_SEQS];
    uint64_t due[MODEL_SEQS];
    bool sought;
    uint64_t after;
    /* Of the failures since it was settled last: how many, and the newest. */
    uint8_t failures[MODEL_SEQS];
    uint32_t last_attempts[MODEL_SEQS];
};

enum fact_state { FACT_NONE, FACT_LIVE, FACT_DELETED };

struct model {
    struct model_topic topics[MODEL_TOPICS];
    struct model_lane lanes[MODEL_GROUPS][MODEL_TOPICS];
    enum fact_state facts[4][MODEL_IDS];
    uint32_t values[4][MODEL_IDS];
    /* Groups begin at the floor of their day: owed nothing up to here. */
    uint64_t after[MODEL_GROUPS][MODEL_TOPICS];
    uint64_t numbers[MODEL_PRODUCERS]; /* the last of each producer, */
    uint32_t number_topics[MODEL_PRODUCERS];
    uint64_t number_seqs[MODEL_PRODUCERS]; /* and which message it is */
};

void model_init(struct model *model);
void model_apply(struct model *model, const struct event *event);

/* Topics, lanes and facts as text, one line each. */
void model_text(const struct model *model, char text[MODEL_TEXT_LEN]);
/* The same of an open store. */
void store_text(struct harness *h, char text[MODEL_TEXT_LEN]);

/* The first message whose history is not as it should be, as text; "" when all
 * are. For a store that has just been opened. */
const char *histories_differ(struct harness *h, const struct model *model);

/* A producer's number as a message; and as what the record says. */
void add_numbered(struct harness *h, uint32_t topic, const char *body,
                  uint32_t producer, uint64_t number, bool more);

/* May message `seq` be gone, because nobody is owed it any more? */
bool model_may_go(const struct model *model, uint32_t topic, uint64_t seq);
/* Is it deleted for everybody? The store may still have it. */
bool model_is_gone(const struct model *model, uint32_t topic, uint64_t seq);

/* The text of a message; returns its length. It does not have the seq, which is
 * not known before the log has the message. */
size_t model_body(uint32_t topic, uint32_t salt, char body[MODEL_BODY_LEN]);

#endif
