/* The last failures of each message that a group has not settled: a value of
 * the keydir for each message. Those of no checkpoint yet wait in memory,
 * HISTORIES_PENDING_MAX and those of one batch at most; what is settled,
 * trimmed or of a deleted group or topic is found again by a hand that goes
 * round the table, some keys in each checkpoint. The keeper's thread, but for
 * reading a value, which is pure. */
#ifndef GODWIT_STORAGE_HISTORIES_H
#define GODWIT_STORAGE_HISTORIES_H

#include "storage/keydir_value.h"
#include "storage/lanes.h"
#include "storage/store.h"

enum { HISTORY_SWEEP_MIN = 4096 /* keys a checkpoint */ };

struct history_note {
    uint32_t group;
    uint32_t topic;
    struct failure failure; /* its reason is reason_at.. of the reasons */
    uint64_t time_us;
    size_t reason_at;
    size_t order;
};

/* Where the hand is. */
struct history_hand {
    uint8_t
        key[HISTORY_KEY_LEN]; /* the next one to look at; 0: from the first */
    bool again;               /* something was settled since it was there */
    bool any;                 /* there may be something in the table */
};

struct histories {
    struct history_note *notes; /* in the order of the log */
    size_t count;
    size_t capacity;
    struct bytes reasons;
    struct history_hand hand;
    struct history_hand next; /* what it is when the transaction is committed */
};

/* A hand that may find anything anywhere. */
void histories_init(struct histories *histories);
void histories_fini(struct histories *histories);
bool histories_full(const struct histories *histories);

/* Failures of a lane, as the record says; those that it has settled since are
 * left out when they are written. */
MUST_CHECK enum status histories_note(struct histories *histories,
                                      const struct lane_record *record,
                                      uint64_t time_us);
/* Something was settled or deleted. */
void histories_settled(struct histories *histories);

/* In the keydir's transaction. *more: the hand is to go on. */
struct store;
MUST_CHECK enum status histories_write(struct store *store, bool *more);
/* It was committed. */
void histories_written(struct histories *histories);

/* The last `room` entries of a value. False: it is not one. */
bool history_read(struct slice value, struct store_failure *out, size_t room,
                  size_t *count);

#endif
