/* Short names for texts of any length: a message's key, a message's id. Two
 * texts with one digest are taken for the same. The broker's only user of
 * xxHash. Pure, any thread. */
#ifndef GODWIT_BROKER_DELIVERY_DIGEST_H
#define GODWIT_BROKER_DELIVERY_DIGEST_H

#include "proto/bytes.h"

#include <stdint.h>

/* Never 0. The seed keeps strangers from finding keys with the same digest:
 * they would wait for each other. */
uint64_t digest_key(struct slice key, uint64_t seed);

/* The same on every machine and in every version: it goes into the log. Neither
 * half is 0, `low` is below 2^63. Of (topic id, text). */
struct digest_id {
    uint64_t high;
    uint64_t low;
};
struct digest_id digest_id(uint32_t topic, struct slice id);

#endif
