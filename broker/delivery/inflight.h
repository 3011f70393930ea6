/* The ack transactions of one worker: one entry for each message in flight, by
 * (group, topic, seq). This is the heap tier: a hash on 64-bit keys, packed
 * entries in an array, a timer wheel for the lease ends; the direct and the
 * file tier come behind the same calls. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_INFLIGHT_H
#define GODWIT_BROKER_DELIVERY_INFLIGHT_H

#include "proto/check.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflight;

struct transaction {
    uint32_t group;
    uint32_t topic;
    uint64_t seq;
    uint32_t attempt;
    uint32_t bytes;        /* of the message, for the holder's credit */
    uint64_t holder;       /* lease number */
    uint64_t lease_end_us; /* monotonic */
};

struct inflight_config {
    size_t heap_bytes; /* budget; entries and index together */
    uint64_t now_us;
};

struct inflight *inflight_new(const struct inflight_config *config);
void inflight_free(struct inflight *inflight); /* accepts NULL */

bool inflight_has_room(const struct inflight *inflight);
/* STATUS_AGAIN: at its budget. The key must not be in it. */
MUST_CHECK enum status inflight_begin(struct inflight *inflight,
                                      const struct transaction *t);
/* NULL: not in flight. Valid until the next begin, end or expired. Change only
 * through inflight_extend(). */
const struct transaction *inflight_find(const struct inflight *inflight,
                                        uint32_t group, uint32_t topic,
                                        uint64_t seq);
void inflight_extend(struct inflight *inflight, uint32_t group, uint32_t topic,
                     uint64_t seq, uint64_t lease_end_us);
/* It ended, whatever the outcome. CHECKs that it is there. */
void inflight_end(struct inflight *inflight, uint32_t group, uint32_t topic,
                  uint64_t seq);
/* The next one whose lease ended at or before now_us; it stays in the table
 * until inflight_end(). False: none. */
bool inflight_expired(struct inflight *inflight, uint64_t now_us,
                      struct transaction *out);
/* A time at or before the earliest lease end; UINT64_MAX: empty. */
uint64_t inflight_due_us(const struct inflight *inflight);

/* All entries of one holder in one group, in no order; fn may end them. */
void inflight_each_of(struct inflight *inflight, uint32_t group,
                      uint64_t holder,
                      void (*fn)(void *arg, const struct transaction *t),
                      void *arg);
/* All entries of one lane; fn may end them. */
void inflight_each_in(struct inflight *inflight, uint32_t group, uint32_t topic,
                      void (*fn)(void *arg, const struct transaction *t),
                      void *arg);

struct inflight_figures {
    uint64_t heap_count, heap_bytes, heap_bytes_max;
    uint64_t begun, ended, expired, refused;
};
void inflight_figures(const struct inflight *inflight,
                      struct inflight_figures *out);

#endif
