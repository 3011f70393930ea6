/* Retention and merge for tests: a policy of a few topics, and a loop that does
 * what the broker's keeper and journal do with store_upkeep(). */
#ifndef GODWIT_TEST_STORAGE_UPKEEP_H
#define GODWIT_TEST_STORAGE_UPKEEP_H

#include "test/storage/harness.h"

enum { KEPT_TOPICS_MAX = 16, KEPT_GROUPS_MAX = 8, KEPT_ROOM = 2 * 1024 * 1024 };

struct kept_topic {
    bool known;
    struct store_retention retention;
    struct store_owed owed[KEPT_GROUPS_MAX];
};

struct upkeep_bed {
    struct harness *h;
    struct kept_topic topics[KEPT_TOPICS_MAX]; /* by id */
    struct store_policy policy;
    uint8_t *to;
    size_t room;
    uint64_t moved_records; /* handed to store_append_merge() */
    bool views_rest;        /* before each call; true */
    /* Called between what was decided and its way into the log. */
    void (*meanwhile)(void *arg);
    void *meanwhile_arg;
    /* Planted bug: the first message that is moved is written twice and the
     * second not at all. */
    bool lose_moved;
};

void upkeep_bed_init(struct upkeep_bed *bed, struct harness *h);
void upkeep_bed_fini(struct upkeep_bed *bed);

void keep_until_settled(struct upkeep_bed *bed, uint32_t topic,
                        uint64_t age_us);
void keep_until_limit(struct upkeep_bed *bed, uint32_t topic, uint64_t age_us,
                      uint64_t bytes, uint64_t count);
/* The topic's messages after `after_seq` are owed to the group. */
void owe(struct upkeep_bed *bed, uint32_t topic, uint32_t group,
         uint64_t after_seq);
void owe_no_more(struct upkeep_bed *bed, uint32_t topic, uint32_t group);
void forget_topic(struct upkeep_bed *bed, uint32_t topic);

/* One call, and what it wrote goes through the log. */
enum status upkeep_once(struct upkeep_bed *bed, bool *more);
/* With a checkpoint first, and time passing, until nothing is left to do; at
 * most so many calls. How many it took. */
enum status upkeep_all(struct upkeep_bed *bed, unsigned *calls);

/* As store_each_topic() has it; 0 and 0 when it does not know the topic. */
uint64_t first_seq(struct harness *h, uint32_t topic);
uint64_t floor_seq(struct harness *h, uint32_t topic);
/* Bytes and number of the files in the log's folder that end in `ending`. */
uint64_t log_files(const struct harness *h, const char *ending,
                   uint64_t *bytes);

#endif
