/* What a life says: records into the buffer, each with the event that it is
 * when the log has taken it. */
#ifndef GODWIT_TEST_STORAGE_POWER_RECORDS_H
#define GODWIT_TEST_STORAGE_POWER_RECORDS_H

#include "test/storage/power_life.h"

/* One of `below` numbers. */
uint64_t life_draw(struct life *life, uint64_t below);
uint32_t some_topic(struct life *life);

/* `again`: with the number that this producer sent last. */
void add_one(struct life *life, uint32_t topic, uint32_t producer, bool again);
void add_some_messages(struct life *life, unsigned count);
void add_many(struct life *life); /* a good part of a segment */
void add_settling(struct life *life);
/* Nearly all of a topic, by every group. */
void add_settling_of_all(struct life *life);
void add_fact_of(struct life *life, enum catalog_class class, uint32_t id,
                 bool deleted);
void add_some_fact(struct life *life);

#endif
