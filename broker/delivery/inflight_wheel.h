/* The wheel of times of one group in one tier. Six levels of 64 slots; a tick
 * is 16 ms, so the levels turn in 1 s, 65 s, 70 min, 3 days, 198 days and 34
 * years. An entry lies on the level of the highest digit (base 64) in which its
 * tick differs from the wheel's; later than that goes to the farthest slot and
 * is placed anew from there. Which slots are in use is one word a level: a jump
 * of any length costs the slots that hold something and no more. The slot of
 * the wheel's own tick holds what is due. Entries that wait for no time lie in
 * a slot of their own, so that the slots lead to all that the group has here.
 * One thread. */
#ifndef GODWIT_BROKER_DELIVERY_INFLIGHT_WHEEL_H
#define GODWIT_BROKER_DELIVERY_INFLIGHT_WHEEL_H

#include "broker/delivery/inflight_tier.h"

enum {
    WHEEL_DIGIT = 6,
    WHEEL_SLOTS = 1 << WHEEL_DIGIT,
    WHEEL_LEVELS = 6,
    WHEEL_SLOT_READY = WHEEL_LEVELS * WHEEL_SLOTS, /* outside of time */
    WHEEL_SLOT_COUNT
};

struct inflight_wheel {
    uint64_t tick;
    uint64_t last_due_us; /* leases that begin in one turn end together: */
    uint64_t last_tick;   /* seen from here, ... */
    uint32_t last_slot;   /* ... in this slot */
    uint64_t used[WHEEL_LEVELS];
    uint32_t slots[WHEEL_SLOT_COUNT]; /* first entry + 1 */
    uint32_t count;                   /* in all slots; 0: these are all 0 */
    struct inflight_wheel *next;      /* of those kept for another group */
};

void wheel_link(struct inflight_wheel *wheel, struct inflight_tier *tier,
                struct entry *entry);
void wheel_unlink(struct inflight_wheel *wheel, struct inflight_tier *tier,
                  const struct entry *entry);
/* Its time or state has changed: to the slot where it belongs now. */
void wheel_move(struct inflight_wheel *wheel, struct inflight_tier *tier,
                struct entry *entry);
/* An entry that is due; NULL: none, or the budget of entries to place anew is
 * used up. */
struct entry *wheel_turn(struct inflight_wheel *wheel,
                         struct inflight_tier *tier, uint64_t now_us,
                         int *budget);
/* When to turn again, in the past: at once. UINT64_MAX: no need. */
uint64_t wheel_due_us(const struct inflight_wheel *wheel);

#endif
