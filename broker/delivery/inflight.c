#include "broker/delivery/inflight.h"

#include "broker/delivery/inflight_tier.h"
#include "broker/delivery/inflight_wheel.h"

#include <stdlib.h>
#include <string.h>

/* Three tiers that share nothing. What begins goes to the highest there is.
 * When that is full, a hand goes over a window of its entries, and of those it
 * sees the older half goes one tier down: sampled, not sorted, because an order
 * of age would cost every transaction that never moves. A tier may have to do
 * the same before it can take them. So the work of one call is bounded by some
 * windows and batches, and what has just begun is in the heap.
 *
 * What moves takes its links along: into the wheel its group has in the other
 * tier and into its holder's list, which is found by the holder's number. */

enum {
    SWEEP_WINDOW = 64,   /* entries looked at */
    DEMOTE_BATCH = 32,   /* at most so many go down at a time */
    TURN_BUDGET = 2048,  /* entries placed anew in one inflight_due() */
    WHEELS_KEPT_MAX = 64 /* empty ones, for the next group */
};
/* A full disk is asked again so much later. */
#define DISK_RETRY_US (UINT64_C(10) * 1000 * 1000)
#define NEVER         UINT64_MAX
#define LIST_HEAD     UINT32_MAX /* in list_prev: nobody is before it */

struct inflight {
    struct inflight_tier tiers[TIER_COUNT];
    enum tier top;                 /* the highest that has places */
    struct hash groups;            /* number -> its part */
    struct hash lists;             /* holder, group -> its list */
    struct inflight_group *ending; /* parts of groups that are gone */
    struct inflight_wheel *wheels; /* empty ones */
    size_t wheels_kept;
    size_t count;
    size_t count_max;
    uint64_t now_us;   /* the latest */
    uint64_t retry_us; /* when to ask the disk again */
    uint64_t ended_us;
};

struct inflight_group {
    struct inflight *table;
    uint32_t group;
    size_t held;
    size_t waiting;
    struct inflight_wheel *wheels[TIER_COUNT]; /* NULL: nothing is there */
    struct inflight_group *next_ending;
};

/* ---- the table ---- */

static void count_places(struct inflight *table)
{
    table->count_max = 0;
    for (int i = 0; i < TIER_COUNT; i++) {
        table->count_max += table->tiers[i].count_max;
    }
}

enum status inflight_new(struct inflight **out,
                         const struct inflight_config *config,
                         struct error *err)
{
    struct inflight *table = calloc(1, sizeof *table);

    if (table == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "in-flight table");
    }
    for (int i = 0; i < TIER_COUNT; i++) {
        enum status status =
            tier_init(&table->tiers[i], (enum tier)i, config, err);
        if (status != STATUS_OK) {
            inflight_free(table);
            return status;
        }
    }
    while (table->top < TIER_FILE
           && table->tiers[table->top].count_planned == 0) {
        table->top++;
    }
    table->now_us = config->now_us;
    table->retry_us = NEVER;
    count_places(table);
    *out = table;
    return STATUS_OK;
}

void inflight_free(struct inflight *table)
{
    if (table == NULL) {
        return;
    }
    while (table->ending != NULL) {
        size_t all = SIZE_MAX;
        inflight_end_some(table, &all);
    }
    while (table->wheels != NULL) {
        struct inflight_wheel *wheel = table->wheels;
        table->wheels = wheel->next;
        free(wheel);
    }
    for (int i = 0; i < TIER_COUNT; i++) {
        tier_fini(&table->tiers[i]);
    }
    hash_fini(&table->groups);
    hash_fini(&table->lists);
    free(table);
}

/* A group may grow while it has less than what is free: one group alone gets
 * half of the table, and nobody can take the last of it. */
bool inflight_group_has_room(const struct inflight_group *part)
{
    const struct inflight *table = part->table;

    return table->count < table->count_max
           && part->held + part->waiting < table->count_max - table->count;
}

void inflight_figures(const struct inflight *table,
                      struct inflight_figures *out)
{
    *out = (struct inflight_figures) { .ended_us = table->ended_us };
    for (int i = 0; i < TIER_COUNT; i++) {
        const struct inflight_tier *tier = &table->tiers[i];
        out->tiers[i].count = tier->count;
        out->tiers[i].count_max = tier->count_max;
        out->tiers[i].bytes = tier_bytes(tier);
        out->tiers[i].bytes_max = tier->bytes_max;
        out->tiers[i].ended = tier->ended;
        out->tiers[i].demoted = tier->demoted;
        out->tiers[i].promoted = tier->promoted;
    }
}

/* ---- wheels: a group has one in each tier in which it has something ---- */

static struct inflight_wheel *wheel_new(struct inflight_group *part,
                                        enum tier kind, uint64_t now_us)
{
    struct inflight *table = part->table;
    struct inflight_wheel *wheel = table->wheels;

    if (wheel != NULL) {
        table->wheels = wheel->next;
        table->wheels_kept--;
    } else {
        wheel = calloc(1, sizeof *wheel);
        if (wheel == NULL) {
            return NULL;
        }
    }
    wheel->tick = now_us / INFLIGHT_TICK_US;
    part->wheels[kind] = wheel;
    return wheel;
}

static struct inflight_wheel *wheel_get(struct inflight_group *part,
                                        enum tier kind, uint64_t now_us)
{
    struct inflight_wheel *wheel = part->wheels[kind];

    return wheel != NULL ? wheel : wheel_new(part, kind, now_us);
}

static void wheel_drop(struct inflight_group *part, enum tier kind)
{
    struct inflight *table = part->table;
    struct inflight_wheel *wheel = part->wheels[kind];

    part->wheels[kind] = NULL;
    if (table->wheels_kept == WHEELS_KEPT_MAX) {
        free(wheel);
        return;
    }
    wheel->next = table->wheels;
    table->wheels = wheel;
    table->wheels_kept++;
}

/* Something was taken out of it. */
static void wheel_put(struct inflight_group *part, enum tier kind)
{
    if (part->wheels[kind]->count == 0) {
        wheel_drop(part, kind);
    }
}

/* ---- holders' lists ---- */

static void list_link(struct inflight *table, struct inflight_list *list,
                      struct inflight_tier *tier, struct entry *entry)
{
    uint32_t next = list->first[tier->kind];

    if (!list->known && hash_reserve(&table->lists) == STATUS_OK) {
        /* Without the memory what is in it stays in its tier. */
        hash_put(&table->lists, entry->t.holder, entry->t.group, list);
        list->known = true;
    }
    entry->list_prev = LIST_HEAD;
    entry->list_next = next;
    list->first[tier->kind] = tier_link(tier, entry);
    if (next != 0) {
        tier_entry(tier, next - 1)->list_prev = list->first[tier->kind];
    }
    list->count++;
}

static void list_take(struct inflight_list *list, struct inflight_tier *tier,
                      struct entry *entry)
{
    uint32_t next = entry->list_next;
    uint32_t prev = entry->list_prev;

    CHECK(prev != 0);
    if (next != 0) {
        tier_entry(tier, next - 1)->list_prev = prev;
    }
    if (prev != LIST_HEAD) {
        tier_entry(tier, prev - 1)->list_next = next;
    } else {
        CHECK(list->first[tier->kind] == tier_link(tier, entry));
        list->first[tier->kind] = next;
    }
    entry->list_prev = 0;
    list->count--;
}

static void list_unlink(struct inflight *table, struct inflight_list *list,
                        struct inflight_tier *tier, struct entry *entry)
{
    list_take(list, tier, entry);
    if (list->count == 0 && list->known) {
        hash_remove(&table->lists, entry->t.holder, entry->t.group);
        list->known = false;
    }
}

/* ---- from tier to tier ---- */

/* About milliseconds. Time that goes back stands still. */
static uint32_t stamp_of(struct inflight *table, uint64_t now_us)
{
    table->now_us = now_us > table->now_us ? now_us : table->now_us;
    return (uint32_t)(table->now_us >> 10);
}

/* There is a place for it. False: no memory for its links. */
static bool move(struct inflight *table, struct inflight_tier *from,
                 struct entry *entry, struct inflight_tier *to, uint64_t now_us)
{
    const struct transaction *t = &entry->t;
    struct inflight_group *part = hash_get(&table->groups, t->group, 0);
    struct inflight_list *list = NULL;
    struct entry *moved;

    if (entry->list_prev != 0) {
        list = hash_get(&table->lists, t->holder, t->group);
        if (list == NULL) {
            return false;
        }
    }
    if (wheel_get(part, to->kind, now_us) == NULL) {
        return false;
    }
    moved = tier_add(to, transaction_hash(t->group, t->topic, t->seq), t);
    wheel_link(part->wheels[to->kind], to, moved);
    if (list != NULL) {
        list_take(list, from, entry);
        list_link(table, list, to, moved);
    }
    wheel_unlink(part->wheels[from->kind], from, entry);
    wheel_put(part, from->kind);
    tier_remove(from, entry);
    return true;
}

/* The entries in use of the next window, and the mean of their ages. */
static size_t look_at_window(struct inflight_tier *tier, uint32_t now,
                             uint32_t *window, uint32_t *mean_age)
{
    uint64_t ages = 0;
    size_t count = 0;

    for (int i = 0; i < SWEEP_WINDOW && i < (int)tier->touched; i++) {
        const struct entry *entry;
        tier->hand = tier->hand >= tier->touched ? 0 : tier->hand;
        entry = tier_entry(tier, tier->hand);
        if (entry->t.state != 0) {
            ages += now - entry->t.since;
            window[count++] = tier->hand;
        }
        tier->hand++;
    }
    *mean_age = count == 0 ? 0 : (uint32_t)(ages / count);
    return count;
}

static bool make_place(struct inflight *table, enum tier kind, uint64_t now_us);

/* Some of what lay long in the full tier goes down. */
static bool demote_some(struct inflight *table, enum tier kind, uint64_t now_us)
{
    struct inflight_tier *tier = &table->tiers[kind];
    enum tier below = (enum tier)(kind + 1);
    uint32_t window[SWEEP_WINDOW];
    uint32_t now = stamp_of(table, now_us);
    uint32_t mean_age;
    size_t count;
    int moved = 0;

    while (below < TIER_COUNT && table->tiers[below].count_planned == 0) {
        below++;
    }
    if (below == TIER_COUNT) {
        return false;
    }
    count = look_at_window(tier, now, window, &mean_age);
    for (size_t i = 0; i < count && moved < DEMOTE_BATCH; i++) {
        struct entry *entry = tier_entry(tier, window[i]);
        if (now - entry->t.since < mean_age) {
            continue;
        }
        if (!make_place(table, below, now_us)) {
            break;
        }
        if (move(table, tier, entry, &table->tiers[below], now_us)) {
            table->tiers[below].demoted++;
            moved++;
        }
    }
    return moved > 0;
}

/* For one more in this tier. */
static bool make_place(struct inflight *table, enum tier kind, uint64_t now_us)
{
    struct inflight_tier *tier = &table->tiers[kind];

    if (tier->count_planned == 0) {
        return false;
    }
    if (tier_make_place(tier)) {
        return true;
    }
    if (tier->count_max < tier->count_planned) { /* no disk space */
        count_places(table);
        table->retry_us = now_us + DISK_RETRY_US;
    }
    return table->count < table->count_max && demote_some(table, kind, now_us)
           && tier_make_place(tier);
}

static void ask_disk_again(struct inflight *table, uint64_t now_us)
{
    struct inflight_tier *tier = &table->tiers[TIER_FILE];

    if (now_us >= table->retry_us) {
        tier->count_max = tier->count_planned;
        table->retry_us = NEVER;
        count_places(table);
    }
}

/* It was touched: up, if there is room. Not to the last place, or it would soon
 * come down again. */
static void promote(struct inflight *table, struct inflight_tier *from,
                    struct entry *entry, uint64_t now_us)
{
    for (enum tier to = table->top; to < from->kind; to++) {
        struct inflight_tier *tier = &table->tiers[to];
        if (tier->count < tier->count_max - tier->count_max / 8
            && tier_make_place(tier)
            && move(table, from, entry, tier, now_us)) {
            tier->promoted++;
            return;
        }
    }
}

/* ---- one group's part ---- */

struct inflight_group *inflight_group_new(struct inflight *table,
                                          uint32_t group)
{
    struct inflight_group *part = calloc(1, sizeof *part);
    size_t all = SIZE_MAX;

    if (hash_get(&table->groups, group, 0) != NULL) {
        inflight_end_some(table, &all); /* one of this number went before */
    }
    if (part == NULL || hash_reserve(&table->groups) != STATUS_OK) {
        free(part);
        return NULL;
    }
    part->table = table;
    part->group = group;
    hash_put(&table->groups, group, 0, part);
    return part;
}

/* The holders' lists may be gone already. */
static void forget_list(struct inflight *table, const struct entry *entry)
{
    const struct transaction *t = &entry->t;

    if (entry->list_prev != 0
        && hash_get(&table->lists, t->holder, t->group) != NULL) {
        hash_remove(&table->lists, t->holder, t->group);
    }
}

/* False: the budget ended before. */
static bool empty_wheel(struct inflight_group *part, enum tier kind,
                        size_t *budget)
{
    struct inflight *table = part->table;
    struct inflight_tier *tier = &table->tiers[kind];
    struct inflight_wheel *wheel = part->wheels[kind];

    for (size_t slot = 0; slot < WHEEL_SLOT_COUNT; slot++) {
        while (wheel->slots[slot] != 0) {
            struct entry *entry;
            if (*budget == 0) {
                return false;
            }
            --*budget;
            entry = tier_entry(tier, wheel->slots[slot] - 1);
            forget_list(table, entry);
            wheel_unlink(wheel, tier, entry);
            tier_remove(tier, entry);
            table->count--;
        }
    }
    wheel_put(part, kind);
    return true;
}

/* False: the budget ended before. */
static bool end_part(struct inflight_group *part, size_t *budget)
{
    for (int i = 0; i < TIER_COUNT; i++) {
        if (part->wheels[i] != NULL
            && !empty_wheel(part, (enum tier)i, budget)) {
            return false;
        }
    }
    hash_remove(&part->table->groups, part->group, 0);
    free(part);
    return true;
}

void inflight_group_free(struct inflight_group *part)
{
    size_t at_once = ENDED_AT_ONCE;

    if (part == NULL) {
        return;
    }
    if (part->held + part->waiting > ENDED_AT_ONCE) {
        part->next_ending = part->table->ending;
        part->table->ending = part;
        return;
    }
    CHECK(end_part(part, &at_once));
}

void inflight_end_some(struct inflight *table, size_t *budget)
{
    while (table->ending != NULL) {
        struct inflight_group *next = table->ending->next_ending;

        if (!end_part(table->ending, budget)) {
            return;
        }
        table->ending = next;
    }
}

bool inflight_has_ended_groups(const struct inflight *table)
{
    return table->ending != NULL;
}

size_t inflight_held(const struct inflight_group *part)
{
    return part->held;
}

size_t inflight_waiting(const struct inflight_group *part)
{
    return part->waiting;
}

static void count_state(struct inflight_group *part, uint8_t state, int by)
{
    size_t *count = state == TRANSACTION_HELD ? &part->held : &part->waiting;

    *count += (size_t)by;
}

static struct inflight_tier *tier_of(const struct inflight_group *part,
                                     const struct transaction *t)
{
    const struct entry *entry = (const struct entry *)t; /* its first field */
    struct inflight_tier *tier = part->table->tiers;

    while (!tier_has(tier, entry)) {
        CHECK(tier->kind < TIER_FILE);
        tier++;
    }
    CHECK(t->state != 0 && t->group == part->group);
    return tier;
}

static enum status begin_in(struct inflight_group *part, enum tier kind,
                            const struct transaction *t,
                            struct inflight_list *list, uint64_t now_us)
{
    struct inflight *table = part->table;
    struct inflight_tier *tier = &table->tiers[kind];
    struct inflight_wheel *wheel;
    struct entry *entry;

    if (tier->count >= tier->easy_max && !make_place(table, kind, now_us)) {
        return STATUS_AGAIN;
    }
    wheel = wheel_get(part, kind, now_us);
    if (wheel == NULL) {
        return STATUS_AGAIN;
    }
    entry = tier_add(tier, transaction_hash(t->group, t->topic, t->seq), t);
    entry->t.since = stamp_of(table, now_us);
    wheel_link(wheel, tier, entry);
    if (list != NULL) {
        list_link(table, list, tier, entry);
    }
    count_state(part, t->state, 1);
    table->count++;
    return STATUS_OK;
}

enum status inflight_begin(struct inflight_group *part,
                           const struct transaction *t,
                           struct inflight_list *list, uint64_t now_us)
{
    const struct inflight *table = part->table;

    CHECK(t->group == part->group && t->state != 0);
    CHECK((t->state == TRANSACTION_HELD) == (list != NULL));
    for (enum tier kind = table->top;
         kind < TIER_COUNT && table->count < table->count_max; kind++) {
        if (begin_in(part, kind, t, list, now_us) == STATUS_OK) {
            return STATUS_OK;
        }
    }
    return STATUS_AGAIN;
}

const struct transaction *inflight_find(const struct inflight_group *part,
                                        uint32_t topic, uint64_t seq)
{
    struct inflight *table = part->table;
    uint64_t hash = transaction_hash(part->group, topic, seq);

    for (int i = 0; i < TIER_COUNT; i++) {
        const struct entry *entry;
        if (part->wheels[i] == NULL) {
            continue; /* the group has nothing there */
        }
        entry = tier_find(&table->tiers[i], hash, part->group, topic, seq);
        if (entry != NULL) {
            return &entry->t;
        }
    }
    return NULL;
}

const struct transaction *inflight_find_next(const struct inflight_group *part,
                                             const struct transaction *t)
{
    const struct entry *entry = (const struct entry *)t;

    if (entry->list_prev != 0 && entry->list_prev != LIST_HEAD) {
        entry = tier_entry(tier_of(part, t), entry->list_prev - 1);
        if (entry->t.seq == t->seq + 1 && entry->t.topic == t->topic) {
            return &entry->t;
        }
    }
    return inflight_find(part, t->topic, t->seq + 1);
}

uint64_t inflight_since_us(const struct transaction *t, uint64_t now_us)
{
    uint64_t age = (uint64_t)((uint32_t)(now_us >> 10) - t->since) << 10;

    return age < now_us ? now_us - age : 0;
}

void inflight_change(struct inflight_group *part, const struct transaction *t,
                     const struct transaction *next, struct inflight_list *from,
                     struct inflight_list *to, uint64_t now_us)
{
    struct inflight *table = part->table;
    struct inflight_tier *tier = tier_of(part, t);
    struct entry *entry =
        tier_entry(tier, tier_number(tier, (const struct entry *)t));
    bool renewed = t->state != next->state || t->holder != next->holder;
    uint32_t since = renewed ? stamp_of(table, now_us) : t->since;
    uint16_t slot = t->slot;

    CHECK(next->topic == t->topic && next->seq == t->seq
          && next->group == t->group && next->state != 0);
    CHECK((next->state == TRANSACTION_HELD) == (to != NULL));
    CHECK(from != to || from == NULL || next->holder == t->holder);
    if (from != NULL && from != to) {
        list_unlink(table, from, tier, entry);
    }
    count_state(part, t->state, -1);
    count_state(part, next->state, 1);
    entry->t = *next;
    entry->t.since = since;
    entry->t.slot = slot;
    wheel_move(part->wheels[tier->kind], tier, entry);
    if (to != NULL && from != to) {
        list_link(table, to, tier, entry);
    }
    if (tier->kind != table->top) {
        promote(table, tier, entry, now_us);
    }
}

void inflight_end(struct inflight_group *part, const struct transaction *t,
                  struct inflight_list *list, uint64_t now_us)
{
    struct inflight *table = part->table;
    struct inflight_tier *tier = tier_of(part, t);
    struct entry *entry =
        tier_entry(tier, tier_number(tier, (const struct entry *)t));

    if (t->state == TRANSACTION_HELD) {
        tier->ended++;
        table->ended_us += (uint64_t)(stamp_of(table, now_us) - t->since) << 10;
    }
    CHECK((list != NULL) == (entry->list_prev != 0));
    if (list != NULL) {
        list_unlink(table, list, tier, entry);
    }
    count_state(part, t->state, -1);
    table->count--;
    wheel_unlink(part->wheels[tier->kind], tier, entry);
    wheel_put(part, tier->kind);
    tier_remove(tier, entry);
    ask_disk_again(table, now_us);
}

const struct transaction *inflight_first(const struct inflight_group *part,
                                         const struct inflight_list *list)
{
    for (int i = 0; i < TIER_COUNT; i++) {
        if (list->first[i] != 0) {
            return &tier_entry(&part->table->tiers[i], list->first[i] - 1)->t;
        }
    }
    return NULL;
}

/* ---- time ---- */

void inflight_forget_list(struct inflight_group *part,
                          struct inflight_list *list, uint64_t holder)
{
    if (list->known) {
        hash_remove(&part->table->lists, holder, part->group);
    }
    *list = (struct inflight_list) { 0 };
}

struct inflight_list *inflight_list_of(const struct inflight_group *part,
                                       uint64_t holder)
{
    return hash_get(&part->table->lists, holder, part->group);
}

const struct transaction *inflight_due(struct inflight_group *part,
                                       uint64_t now_us)
{
    int budget = TURN_BUDGET;

    for (int i = 0; i < TIER_COUNT; i++) {
        struct inflight_tier *tier = &part->table->tiers[i];
        const struct entry *due;
        if (part->wheels[i] == NULL) {
            continue;
        }
        due = wheel_turn(part->wheels[i], tier, now_us, &budget);
        if (due != NULL) {
            return &due->t;
        }
    }
    return NULL;
}

uint64_t inflight_due_us(const struct inflight_group *part)
{
    uint64_t first = NEVER;

    for (int i = 0; i < TIER_COUNT; i++) {
        if (part->wheels[i] != NULL) {
            uint64_t due = wheel_due_us(part->wheels[i]);
            first = due < first ? due : first;
        }
    }
    return first;
}

/* ---- all of a topic ---- */

static bool each_in_slot(struct inflight_tier *tier, uint32_t first,
                         uint32_t topic,
                         bool (*fn)(void *arg, const struct transaction *t),
                         void *arg)
{
    for (uint32_t next = first; next != 0;) {
        const struct entry *entry = tier_entry(tier, next - 1);
        if (entry->t.topic == topic && !fn(arg, &entry->t)) {
            return false;
        }
        next = entry->wheel_next;
    }
    return true;
}

void inflight_each(const struct inflight_group *part, uint32_t topic,
                   bool (*fn)(void *arg, const struct transaction *t),
                   void *arg)
{
    for (int i = 0; i < TIER_COUNT; i++) {
        const struct inflight_wheel *wheel = part->wheels[i];
        struct inflight_tier *tier = &part->table->tiers[i];
        for (size_t slot = 0; wheel != NULL && slot < WHEEL_SLOT_COUNT;
             slot++) {
            if (!each_in_slot(tier, wheel->slots[slot], topic, fn, arg)) {
                return;
            }
        }
    }
}
