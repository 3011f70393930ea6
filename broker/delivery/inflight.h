/* The open messages of one worker: one transaction for each that is in flight
 * or waits to be delivered (again), by (group, topic, seq), all groups of the
 * worker under one budget. Three tiers with the same meaning:
 *
 *   heap     what began or moved last: small, hot in the caches
 *   direct   an anonymous mapping
 *   file     a mapped file, unlinked while it is used, its space allocated
 *            before it is touched
 *
 * A new transaction begins in the heap; when that is full, those that have lain
 * there longest go down; when a lower one is touched it comes up if there is
 * room. Past the last budget a new one is refused (STATUS_AGAIN) and delivery
 * waits; nothing is dropped. Which tier one lies in shows in the figures and
 * nowhere else. Each group has its own part, and in it a wheel of times: ends
 * of leases, ends of delays. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_INFLIGHT_H
#define GODWIT_BROKER_DELIVERY_INFLIGHT_H

#include "proto/check.h"
#include "proto/error.h"
#include "proto/status.h"
#include "storage/vfs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflight;       /* the worker's table */
struct inflight_group; /* one group's part of it */

enum tier { TIER_HEAP, TIER_DIRECT, TIER_FILE, TIER_COUNT };

enum transaction_state {
    TRANSACTION_HELD = 1, /* in flight: due_us is the end of the lease */
    TRANSACTION_DELAYED,  /* due_us: when it becomes ready */
    TRANSACTION_READY     /* in no wheel: nothing becomes due */
};

struct transaction {
    uint32_t group;
    uint32_t topic;
    uint64_t seq;
    uint64_t holder;  /* lease number; 0: not held */
    uint64_t due_us;  /* monotonic; see the state */
    uint32_t attempt; /* held: which delivery this is, from 1; else: how many
                       * failed so far */
    uint32_t bytes;   /* held: of the message, for the holder's credit */
    uint8_t state;    /* enum transaction_state */
    uint8_t flags;    /* the group's; kept */
    uint16_t slot;    /* the table's own: where in the wheel, */
    uint32_t since;   /* and when it became so */
};

struct inflight_config {
    size_t bytes[TIER_COUNT]; /* budgets; index and entries together. 0: no such
                               * tier */
    const char *file_path;    /* NULL: no file tier */
    uint64_t disk_free_min;   /* left free on its disk: growing ends before */
    const struct vfs *vfs;    /* NULL: vfs_system() */
    uint64_t now_us;
};

/* STATUS_NOMEM, STATUS_IO, STATUS_NO_SPACE (for the file: made at the start,
 * grown when needed; a disk that is full later only makes the tier end where it
 * is). */
MUST_CHECK enum status inflight_new(struct inflight **out,
                                    const struct inflight_config *config,
                                    struct error *err);
void inflight_free(
    struct inflight *inflight); /* accepts NULL; groups are gone */

struct inflight_figures {
    struct {
        uint64_t count, count_max, bytes, bytes_max;
        uint64_t ended;    /* transactions that ended here, held ones */
        uint64_t demoted;  /* came down to here */
        uint64_t promoted; /* came up to here */
    } tiers[TIER_COUNT];
    uint64_t ended_us; /* sum of how long they were held */
};
void inflight_figures(const struct inflight *inflight,
                      struct inflight_figures *out);

/* ---- one group's part; only the group's files call these ----
 *
 * A pointer to a transaction is good until the next call that takes a
 * non-const part: beginning or changing one may move others between tiers.
 * Ending one moves no other. */

/* One part a group number. NULL: no memory. */
struct inflight_group *inflight_group_new(struct inflight *inflight,
                                          uint32_t group);
/* Ends what is in it: at once if that is at most ENDED_AT_ONCE, else in
 * inflight_end_some(), and takes its room until then. The lists of its holders
 * are not looked at and count no more; they may go if they were forgotten.
 * Accepts NULL. */
enum { ENDED_AT_ONCE = 1024 };
void inflight_group_free(struct inflight_group *part);
/* Each that is ended comes out of *budget. */
void inflight_end_some(struct inflight *inflight, size_t *budget);
/* Groups went and left something to inflight_end_some(). */
bool inflight_has_ended_groups(const struct inflight *inflight);
size_t inflight_held(const struct inflight_group *part);
size_t inflight_waiting(const struct inflight_group *part); /* delayed, ready */

/* What one holder has: a list through the entries, so that a member that leaves
 * costs what it held. Zero-initialised is empty; kept by the holder's owner,
 * and not moved in memory while something is in it: the table writes to it when
 * an entry goes to another tier. A holder number has one list in a group. */
struct inflight_list {
    uint32_t first[TIER_COUNT]; /* entry + 1 */
    uint32_t count;
    bool known; /* the table can find it */
};

/* Room for one more of this group? After the dynamic thresholds of shared
 * packet buffers (Choudhury and Hahne, 1998), so that one group, or an app with
 * some, cannot starve the others. */
bool inflight_group_has_room(const struct inflight_group *part);

/* t->group is the part's; the key must not be in it. `list`: the holder's, NULL
 * when it is not held. `now_us` counts for the residence time and for which
 * entries have lain longest. STATUS_AGAIN: no place in any tier, or no memory
 * for a larger index: nothing changed. */
MUST_CHECK enum status inflight_begin(struct inflight_group *part,
                                      const struct transaction *t,
                                      struct inflight_list *list,
                                      uint64_t now_us);
/* NULL: neither in flight nor waiting. */
const struct transaction *inflight_find(const struct inflight_group *part,
                                        uint32_t topic, uint64_t seq);
/* The same of the number behind it: at once, if the same holder got it next. */
const struct transaction *inflight_find_next(const struct inflight_group *part,
                                             const struct transaction *t);
/* Since when it is held, or waits: to about a millisecond, of the last 49 days.
 */
uint64_t inflight_since_us(const struct transaction *t, uint64_t now_us);
/* It becomes *next (same key): from held to waiting, from waiting to held,
 * another due time. Never fails. `from` and `to`: the lists of the old and the
 * new holder, NULL where there is none. */
void inflight_change(struct inflight_group *part, const struct transaction *t,
                     const struct transaction *next, struct inflight_list *from,
                     struct inflight_list *to, uint64_t now_us);
/* It ended, whatever the outcome. */
void inflight_end(struct inflight_group *part, const struct transaction *t,
                  struct inflight_list *list, uint64_t now_us);

/* Which one of several inflight_first(), inflight_due() and inflight_each()
 * give first depends on the tiers; what is made of them must not (draw jitter
 * by message, not in the order in which they come). */

/* Any one of a holder's; NULL: it holds nothing. */
const struct transaction *inflight_first(const struct inflight_group *part,
                                         const struct inflight_list *list);
/* The list goes, and what is in it does not come back. */
void inflight_forget_list(struct inflight_group *part,
                          struct inflight_list *list, uint64_t holder);
/* Where this holder's are listed; NULL: it has none, or the table had no memory
 * to note it. For repairs. */
struct inflight_list *inflight_list_of(const struct inflight_group *part,
                                       uint64_t holder);
/* Any one whose time is over at now_us (a lease that ended, a delay), up to
 * INFLIGHT_TICK_US late; it stays until it is changed or ended. NULL: none, or
 * the wheel is still being turned (then inflight_due_us() says: at once). The
 * work of one call is bounded. */
enum { INFLIGHT_TICK_US = 16 * 1000 };
const struct transaction *inflight_due(struct inflight_group *part,
                                       uint64_t now_us);
/* When to ask again; nothing is due before. UINT64_MAX: nothing will be. */
uint64_t inflight_due_us(const struct inflight_group *part);

/* All of this topic: `fn` may look only. Looks at all that the group has: for
 * audits, and for topics and lanes that go. False: stop. */
void inflight_each(const struct inflight_group *part, uint32_t topic,
                   bool (*fn)(void *arg, const struct transaction *t),
                   void *arg);

#endif
