/* The ack transactions of one worker: one entry for each message in flight, by
 * (group, topic, seq), all groups of the worker under one budget. This is the
 * heap tier: a hash on mixed keys and packed entries in one mapping; the direct
 * and the file tier come behind the same calls. Each group has its own part,
 * and in it a wheel of lease ends. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_INFLIGHT_H
#define GODWIT_BROKER_DELIVERY_INFLIGHT_H

#include "proto/check.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflight;       /* the worker's table */
struct inflight_group; /* one group's part of it */

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

/* NULL: no memory. */
struct inflight *inflight_new(const struct inflight_config *config);
void inflight_free(
    struct inflight *inflight); /* accepts NULL; groups are gone */

/* Room for one more message, of any group? Those that were given back and wait
 * for redelivery keep their places. */
bool inflight_has_room(const struct inflight *inflight);

struct inflight_figures {
    uint64_t heap_count, heap_count_max, heap_bytes, heap_bytes_max;
};
void inflight_figures(const struct inflight *inflight,
                      struct inflight_figures *out);

/* ---- one group's part; only group.c and settle.c call these ---- */

struct inflight_group *inflight_group_new(struct inflight *inflight,
                                          uint32_t group); /* NULL: no memory */
void inflight_group_free(struct inflight_group *part); /* ends what is in it */
size_t inflight_group_count(const struct inflight_group *part);

/* What one holder has: a list through the entries, so that a member that leaves
 * costs what it held. Zero-initialised is empty; kept by the holder's owner. */
struct inflight_list {
    uint32_t first; /* entry + 1 */
    uint32_t count;
};

/* Room for one more of this group? After the dynamic thresholds of shared
 * packet buffers (Choudhury and Hahne, 1998), so that one group, or an app with
 * some, cannot starve the others. */
bool inflight_group_has_room(const struct inflight_group *part);

/* t->group is the part's. STATUS_AGAIN: every place has a message in flight
 * (places kept do not count), or no memory for a larger index. The key must not
 * be in it. */
MUST_CHECK enum status inflight_begin(struct inflight_group *part,
                                      const struct transaction *t,
                                      struct inflight_list *list);
/* NULL: not in flight. Transactions stay where they are until they end; they
 * change only through inflight_extend(). */
const struct transaction *inflight_find(const struct inflight_group *part,
                                        uint32_t topic, uint64_t seq);
void inflight_extend(struct inflight_group *part, const struct transaction *t,
                     uint64_t lease_end_us);
/* It ended, whatever the outcome; `list` is the one it began with. */
void inflight_end(struct inflight_group *part, const struct transaction *t,
                  struct inflight_list *list);
/* A message that is not in flight any more but will be again keeps a place in
 * the budget, so that giving back cannot fill the memory. At a start there may
 * be more such messages than places. */
void inflight_keep_place(struct inflight_group *part);
void inflight_leave_place(struct inflight_group *part);

/* Any one of a holder's; NULL: it holds nothing. */
const struct transaction *inflight_first(const struct inflight_group *part,
                                         const struct inflight_list *list);
/* Any one whose lease ended at or before now_us, up to INFLIGHT_TICK_US late;
 * it stays until inflight_end(). NULL: none. */
enum { INFLIGHT_TICK_US = 64 * 1000 };
const struct transaction *inflight_expired(struct inflight_group *part,
                                           uint64_t now_us);
/* When to ask again; nothing expires before. UINT64_MAX: empty. */
uint64_t inflight_due_us(const struct inflight_group *part);

/* How many are of this topic. Looks at every entry: for audits. */
size_t inflight_count_in(const struct inflight_group *part, uint32_t topic);

#endif
