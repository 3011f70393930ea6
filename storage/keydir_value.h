/* Keys and values of the keydir as bytes. Each value ends with a seal: a hash
 * of its table, its key and what stands before it, because LMDB has no
 * checksums of its own. Pure, any thread. */
#ifndef GODWIT_STORAGE_KEYDIR_VALUE_H
#define GODWIT_STORAGE_KEYDIR_VALUE_H

#include "storage/keydir.h"

enum {
    SEAL_LEN = 8,
    RUN_KEY_LEN = 12,
    LANE_KEY_LEN = 8,
    ID_KEY_LEN = 5, /* class and id */
    PRODUCER_KEY_LEN = 12,
    TALLY_KEY_LEN = 8,
    HISTORY_KEY_LEN = 16,
    /* values, without their seals */
    RUN_VALUE_LEN = 16,
    TOPIC_VALUE_LEN = 24,
    TALLY_VALUE_LEN = 40,
    PRODUCER_VALUE_LEN = 48 + PRODUCER_HOLES_MAX * 16,
    META_LEN = 56 + TABLE_COUNT * 8
};

uint64_t seal_of(enum keydir_table table, struct slice key, struct slice value);
/* *value: in with its seal, out without. False when it does not fit. */
bool seal_check(enum keydir_table table, struct slice key, struct slice *value);

void put_be32(uint8_t *at, uint32_t v);
void put_be64(uint8_t *at, uint64_t v);
uint32_t get_be32(const void *at);
uint64_t get_be64(const void *at);

void run_key(uint8_t key[RUN_KEY_LEN], uint32_t topic, uint64_t seq);
void run_value(uint8_t value[RUN_VALUE_LEN], const struct store_run *run);
/* False: not a run. */
bool run_read(struct slice key, struct slice value, struct store_run *out);

void topic_value(uint8_t value[TOPIC_VALUE_LEN],
                 const struct store_topic *topic);
bool topic_read(struct slice key, struct slice value, struct store_topic *out);

void tally_key(uint8_t key[TALLY_KEY_LEN], uint32_t segment, uint32_t topic);
void tally_value(uint8_t value[TALLY_VALUE_LEN],
                 const struct tally_entry *entry);
bool tally_read(struct slice key, struct slice value, uint32_t *segment,
                struct tally_entry *out);

void lane_key(uint8_t key[LANE_KEY_LEN], uint32_t group, uint32_t topic);
void history_key(uint8_t key[HISTORY_KEY_LEN], uint32_t group, uint32_t topic,
                 uint64_t seq);

void producer_key(uint8_t key[PRODUCER_KEY_LEN], const struct producer *entry);
void producer_value(uint8_t value[PRODUCER_VALUE_LEN],
                    const struct producer *entry);
/* Without room for holes that it has not. */
size_t producer_value_len(const struct producer *entry);
bool producer_read(struct slice key, struct slice value, struct producer *out);

/* sums: of the seals of each table's values, so that one that is missing is
 * missed. META's own is 0. */
void meta_value(uint8_t value[META_LEN], const struct keydir_meta *meta,
                const uint64_t sums[TABLE_COUNT]);
bool meta_read(struct slice value, struct keydir_meta *meta,
               uint64_t sums[TABLE_COUNT]);

#endif
