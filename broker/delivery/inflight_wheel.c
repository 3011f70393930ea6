#include "broker/delivery/inflight_wheel.h"

/* A page of the file tier costs more than a look into memory. */
enum { FILE_PRICE = 8 };

/* The first tick at whose beginning the time is over. */
static uint64_t tick_of(uint64_t us)
{
    return us > UINT64_MAX - INFLIGHT_TICK_US
               ? UINT64_MAX / INFLIGHT_TICK_US
               : (us + INFLIGHT_TICK_US - 1) / INFLIGHT_TICK_US;
}

static unsigned slot_of_tick(unsigned level, uint64_t tick)
{
    return (unsigned)(tick >> (WHEEL_DIGIT * level)) & (WHEEL_SLOTS - 1);
}

static uint32_t slot_of_time(const struct inflight_wheel *wheel,
                             uint64_t due_us)
{
    enum { TOP = WHEEL_DIGIT * (WHEEL_LEVELS - 1) };
    uint64_t now = wheel->tick;
    uint64_t tick = tick_of(due_us);
    unsigned level;

    if (tick <= now) {
        return slot_of_tick(0, now);
    }
    /* The digit of the highest bit that differs. */
    level = (63 - (unsigned)__builtin_clzll(tick ^ now)) / WHEEL_DIGIT;
    if (level >= WHEEL_LEVELS - 1) {
        level = WHEEL_LEVELS - 1;
        if ((tick >> TOP) - (now >> TOP) >= WHEEL_SLOTS) {
            tick = ((now >> TOP) + WHEEL_SLOTS - 1) << TOP;
        }
    }
    return level * WHEEL_SLOTS + slot_of_tick(level, tick);
}

static uint32_t slot_for(struct inflight_wheel *wheel,
                         const struct transaction *t)
{
    if (t->state == TRANSACTION_READY) {
        return WHEEL_SLOT_READY;
    }
    if (t->due_us != wheel->last_due_us || wheel->tick != wheel->last_tick) {
        wheel->last_slot = slot_of_time(wheel, t->due_us);
        wheel->last_due_us = t->due_us;
        wheel->last_tick = wheel->tick;
    }
    return wheel->last_slot;
}

static void link_at(struct inflight_wheel *wheel, struct inflight_tier *tier,
                    struct entry *entry, uint32_t slot)
{
    uint32_t first = wheel->slots[slot];

    entry->t.slot = (uint16_t)slot;
    entry->wheel_prev = 0;
    entry->wheel_next = first;
    wheel->slots[slot] = tier_link(tier, entry);
    wheel->count++;
    if (first != 0) {
        tier_entry(tier, first - 1)->wheel_prev = wheel->slots[slot];
    } else if (slot != WHEEL_SLOT_READY) {
        wheel->used[slot / WHEEL_SLOTS] |= (uint64_t)1 << slot % WHEEL_SLOTS;
    }
}

void wheel_link(struct inflight_wheel *wheel, struct inflight_tier *tier,
                struct entry *entry)
{
    link_at(wheel, tier, entry, slot_for(wheel, &entry->t));
}

void wheel_unlink(struct inflight_wheel *wheel, struct inflight_tier *tier,
                  const struct entry *entry)
{
    uint32_t slot = entry->t.slot;
    uint32_t next = entry->wheel_next;
    uint32_t prev = entry->wheel_prev;

    wheel->count--;
    if (next != 0) {
        tier_entry(tier, next - 1)->wheel_prev = prev;
    }
    if (prev != 0) {
        tier_entry(tier, prev - 1)->wheel_next = next;
        return;
    }
    CHECK(wheel->slots[slot] == tier_link(tier, entry));
    wheel->slots[slot] = next;
    if (next == 0 && slot != WHEEL_SLOT_READY) {
        wheel->used[slot / WHEEL_SLOTS] &= ~((uint64_t)1 << slot % WHEEL_SLOTS);
    }
}

void wheel_move(struct inflight_wheel *wheel, struct inflight_tier *tier,
                struct entry *entry)
{
    uint32_t slot = slot_for(wheel, &entry->t);

    if (slot != entry->t.slot) {
        wheel_unlink(wheel, tier, entry);
        link_at(wheel, tier, entry, slot);
    }
}

static uint64_t rotate_right(uint64_t bits, uint64_t by)
{
    return bits >> (by & 63) | bits << (-by & 63);
}

/* The next tick at which a slot comes up; lower levels come before higher ones
 * because they hold the nearer part of the same turn. */
static uint64_t next_event(const struct inflight_wheel *wheel)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t turn = wheel->tick >> (WHEEL_DIGIT * level);
        /* Bit 0: the slot of now, then those after it, going round. Only the
         * top level can hold anything that lies before `now` in its slots. */
        uint64_t ahead = rotate_right(wheel->used[level], turn) & ~UINT64_C(1);
        if (ahead != 0) {
            turn += (unsigned)__builtin_ctzll(ahead);
            return turn << (WHEEL_DIGIT * level);
        }
    }
    return UINT64_MAX;
}

/* What lies in a higher slot that has begun belongs further down. One with
 * something in it, 0: none. */
static uint32_t slot_begun(const struct inflight_wheel *wheel)
{
    for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--) {
        unsigned slot = slot_of_tick(level, wheel->tick);
        if ((wheel->used[level] >> slot & 1) != 0) {
            return level * WHEEL_SLOTS + slot;
        }
    }
    return 0;
}

/* False: the budget ended before. */
static bool cascade(struct inflight_wheel *wheel, struct inflight_tier *tier,
                    int *budget)
{
    int price = tier->file == NULL ? 1 : FILE_PRICE;
    uint32_t slot;

    while ((slot = slot_begun(wheel)) != 0) {
        while (wheel->slots[slot] != 0) {
            if (*budget <= 0) {
                return false;
            }
            wheel_move(wheel, tier, tier_entry(tier, wheel->slots[slot] - 1));
            *budget -= price;
        }
    }
    return true;
}

struct entry *wheel_turn(struct inflight_wheel *wheel,
                         struct inflight_tier *tier, uint64_t now_us,
                         int *budget)
{
    uint64_t target = now_us / INFLIGHT_TICK_US;

    while (wheel->tick <= target) {
        uint32_t due = wheel->slots[wheel->tick & (WHEEL_SLOTS - 1)];
        uint64_t next;
        if (due != 0) {
            return tier_entry(tier, due - 1);
        }
        if (!cascade(wheel, tier, budget)) {
            return NULL;
        }
        if (wheel->slots[wheel->tick & (WHEEL_SLOTS - 1)] != 0) {
            continue;
        }
        next = next_event(wheel);
        if (next > target) {
            wheel->tick = target;
            return NULL;
        }
        wheel->tick = next;
    }
    return NULL;
}

uint64_t wheel_due_us(const struct inflight_wheel *wheel)
{
    uint64_t next = wheel->tick;

    if (wheel->slots[wheel->tick & (WHEEL_SLOTS - 1)] == 0
        && slot_begun(wheel) == 0) {
        next = next_event(wheel);
    }
    return next > UINT64_MAX / INFLIGHT_TICK_US ? UINT64_MAX
                                                : next * INFLIGHT_TICK_US;
}
