#include "broker/delivery/inflight.h"

#include "broker/delivery/hash.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Entries live in one anonymous mapping as large as the budget allows; its
 * pages exist from their first use on, so it neither moves nor is copied when
 * the number in flight grows. Free entries are a stack: a small working set
 * stays small. The index is open addressing with linear probing over words
 *
 *   high half: upper bits of the key's hash | low half: entry + 1, 0 = empty
 *
 * so that a probe touches an entry only when it is most likely the right one.
 * It doubles at three quarters full and shrinks never.
 *
 * The wheel has four levels of 64 slots; a tick is 64 ms, so the levels turn in
 * 4 s, 4.4 min, 4.7 h and 12 days. An entry lies on the level of the highest
 * digit (base 64) in which its tick differs from the wheel's, later than that
 * goes to the farthest slot and is placed anew from there. Which slots are in
 * use is one word a level: a jump of any length costs the slots that hold
 * something and no more. The slot of the wheel's own tick holds what is due. */

enum {
    INDEX_MIN = 16,
    INDEX_START = 1024,
    WHEEL_DIGIT = 6,
    WHEEL_SLOTS = 1 << WHEEL_DIGIT,
    WHEEL_LEVELS = 4
};

struct entry { /* one cache line */
    struct transaction t;
    uint32_t wheel_next; /* entry + 1; of a free one: the next free */
    uint32_t wheel_prev;
    uint32_t list_next;
    uint32_t list_prev;
    uint32_t slot; /* in the wheel: level * WHEEL_SLOTS + index */
    uint32_t in_use;
};

struct inflight {
    struct entry *entries; /* entries_max of them, mapped */
    size_t entries_max;
    size_t entries_touched; /* ever used: those behind are untouched pages */
    uint32_t free_first;    /* entry + 1 */
    uint64_t *index;
    size_t index_len; /* power of two */
    size_t index_len_max;
    size_t count;
    size_t places_kept;
    size_t bytes_max;
    uint64_t now_us; /* at the start */
};

struct inflight_group {
    struct inflight *table;
    uint32_t group;
    size_t count;
    size_t places_kept;
    uint64_t tick; /* of the wheel */
    uint64_t used[WHEEL_LEVELS];
    uint32_t slots[WHEEL_LEVELS * WHEEL_SLOTS]; /* first entry + 1 */
};

/* ---- the table ---- */

static size_t entries_for(size_t index_len, size_t heap_bytes)
{
    /* While it doubles, the old index is there as well. */
    size_t index_bytes = index_len * sizeof(uint64_t) / 2 * 3;
    size_t fit;

    if (heap_bytes <= index_bytes) {
        return 0;
    }
    fit = (heap_bytes - index_bytes) / sizeof(struct entry);
    return fit < index_len / 4 * 3 ? fit : index_len / 4 * 3;
}

/* The largest table the budget has room for. */
static void plan(struct inflight *table, size_t heap_bytes)
{
    size_t len = INDEX_MIN;

    table->index_len_max = len;
    table->entries_max = entries_for(len, heap_bytes);
    for (len *= 2; entries_for(len, heap_bytes) > table->entries_max
                   && len < UINT32_MAX / 2;
         len *= 2) {
        table->index_len_max = len;
        table->entries_max = entries_for(len, heap_bytes);
    }
}

struct inflight *inflight_new(const struct inflight_config *config)
{
    struct inflight *table = calloc(1, sizeof *table);
    size_t len;

    if (table == NULL) {
        return NULL;
    }
    plan(table, config->heap_bytes);
    table->bytes_max = config->heap_bytes;
    table->now_us = config->now_us;
    len =
        table->index_len_max < INDEX_START ? table->index_len_max : INDEX_START;
    table->index_len = len;
    table->index = calloc(len, sizeof *table->index);
    table->entries = mmap(NULL, (table->entries_max + 1) * sizeof(struct entry),
                          PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table->index == NULL || table->entries == MAP_FAILED) {
        inflight_free(table);
        return NULL;
    }
    return table;
}

void inflight_free(struct inflight *table)
{
    if (table == NULL) {
        return;
    }
    if (table->entries != MAP_FAILED && table->entries != NULL) {
        (void)munmap(table->entries,
                     (table->entries_max + 1) * sizeof(struct entry));
    }
    free(table->index);
    free(table);
}

bool inflight_has_room(const struct inflight *table)
{
    return table->count + table->places_kept < table->entries_max;
}

/* A group may grow while it has less than what is free: one group alone gets
 * half of the table, and nobody can take the last of it. */
bool inflight_group_has_room(const struct inflight_group *part)
{
    const struct inflight *table = part->table;
    size_t used = table->count + table->places_kept;
    size_t own = part->count + part->places_kept;

    return used < table->entries_max && own < table->entries_max - used;
}

void inflight_figures(const struct inflight *table,
                      struct inflight_figures *out)
{
    *out = (struct inflight_figures) {
        .heap_count = table->count,
        .heap_count_max = table->entries_max,
        .heap_bytes = table->entries_touched * sizeof(struct entry)
                      + table->index_len * sizeof *table->index,
        .heap_bytes_max = table->bytes_max,
    };
}

/* ---- the index ---- */

static uint64_t key_hash(uint32_t group, uint32_t topic, uint64_t seq)
{
    return hash_pair((uint64_t)group << 32 | topic, seq);
}

static uint64_t index_word(uint64_t hash, uint32_t entry)
{
    return (hash & ~(uint64_t)UINT32_MAX) | (entry + 1);
}

static bool same_tag(uint64_t word, uint64_t hash)
{
    return (word ^ hash) >> 32 == 0;
}

static uint64_t entry_hash(const struct entry *entry)
{
    return key_hash(entry->t.group, entry->t.topic, entry->t.seq);
}

static void index_put(struct inflight *table, uint64_t hash, uint32_t entry)
{
    size_t mask = table->index_len - 1;
    size_t at = (size_t)hash & mask;

    while (table->index[at] != 0) {
        at = (at + 1) & mask;
    }
    table->index[at] = index_word(hash, entry);
}

static bool index_grow(struct inflight *table)
{
    uint64_t *old = table->index;
    size_t old_len = table->index_len;
    uint64_t *index = calloc(old_len * 2, sizeof *index);

    if (index == NULL) {
        return false;
    }
    table->index = index;
    table->index_len = old_len * 2;
    for (size_t i = 0; i < old_len; i++) {
        if (old[i] != 0) {
            uint32_t entry = (uint32_t)old[i] - 1;
            index_put(table, entry_hash(&table->entries[entry]), entry);
        }
    }
    free(old);
    return true;
}

static bool index_make_room(struct inflight *table)
{
    if (table->count < table->index_len / 4 * 3) {
        return true;
    }
    return table->index_len < table->index_len_max && index_grow(table);
}

/* Close the hole at `hole` by moving back what probed past it. */
static void index_remove_at(struct inflight *table, size_t hole)
{
    size_t mask = table->index_len - 1;
    size_t at = (hole + 1) & mask;

    while (table->index[at] != 0) {
        uint32_t entry = (uint32_t)table->index[at] - 1;
        size_t home = (size_t)entry_hash(&table->entries[entry]) & mask;
        /* May it stand at the hole? Yes if its home is not behind it. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            table->index[hole] = table->index[at];
            hole = at;
        }
        at = (at + 1) & mask;
    }
    table->index[hole] = 0;
}

static void index_remove(struct inflight *table, uint64_t hash, uint32_t entry)
{
    size_t mask = table->index_len - 1;
    size_t at = (size_t)hash & mask;
    uint64_t word = index_word(hash, entry);

    while (table->index[at] != word) {
        CHECK(table->index[at] != 0);
        at = (at + 1) & mask;
    }
    index_remove_at(table, at);
}

const struct transaction *inflight_find(const struct inflight_group *part,
                                        uint32_t topic, uint64_t seq)
{
    const struct inflight *table = part->table;
    uint64_t hash = key_hash(part->group, topic, seq);
    size_t mask = table->index_len - 1;

    for (size_t at = (size_t)hash & mask; table->index[at] != 0;
         at = (at + 1) & mask) {
        const struct entry *entry;
        if (!same_tag(table->index[at], hash)) {
            continue;
        }
        entry = &table->entries[(uint32_t)table->index[at] - 1];
        if (entry->t.seq == seq && entry->t.topic == topic
            && entry->t.group == part->group) {
            return &entry->t;
        }
    }
    return NULL;
}

/* ---- the wheel ---- */

/* The first tick at whose beginning the lease is over. */
static uint64_t tick_of(uint64_t us)
{
    return us / INFLIGHT_TICK_US + (us % INFLIGHT_TICK_US != 0);
}

static uint32_t slot_for(const struct inflight_group *part, uint64_t tick)
{
    unsigned level = 0;
    unsigned top = WHEEL_DIGIT * (WHEEL_LEVELS - 1);
    uint64_t now = part->tick;

    if (tick < now) {
        tick = now;
    }
    if ((tick >> top) - (now >> top) >= WHEEL_SLOTS) {
        tick = ((now >> top) + WHEEL_SLOTS - 1) << top;
    }
    while (level < WHEEL_LEVELS - 1
           && tick >> (WHEEL_DIGIT * (level + 1))
                  != now >> (WHEEL_DIGIT * (level + 1))) {
        level++;
    }
    return level * WHEEL_SLOTS
           + (uint32_t)((tick >> (WHEEL_DIGIT * level)) & (WHEEL_SLOTS - 1));
}

static void wheel_link(struct inflight_group *part, uint32_t number)
{
    struct entry *entries = part->table->entries;
    struct entry *entry = &entries[number];
    uint32_t slot = slot_for(part, tick_of(entry->t.lease_end_us));
    uint32_t first = part->slots[slot];

    entry->slot = slot;
    entry->wheel_prev = 0;
    entry->wheel_next = first;
    if (first != 0) {
        entries[first - 1].wheel_prev = number + 1;
    }
    part->slots[slot] = number + 1;
    part->used[slot / WHEEL_SLOTS] |= (uint64_t)1 << slot % WHEEL_SLOTS;
}

static void wheel_unlink(struct inflight_group *part, uint32_t number)
{
    struct entry *entries = part->table->entries;
    const struct entry *entry = &entries[number];

    if (entry->wheel_next != 0) {
        entries[entry->wheel_next - 1].wheel_prev = entry->wheel_prev;
    }
    if (entry->wheel_prev != 0) {
        entries[entry->wheel_prev - 1].wheel_next = entry->wheel_next;
        return;
    }
    part->slots[entry->slot] = entry->wheel_next;
    if (entry->wheel_next == 0) {
        part->used[entry->slot / WHEEL_SLOTS] &=
            ~((uint64_t)1 << entry->slot % WHEEL_SLOTS);
    }
}

/* The next tick at which a slot comes up; lower levels come before higher ones
 * because they hold the nearer part of the same turn. */
static uint64_t next_event(const struct inflight_group *part)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t turn = part->tick >> (WHEEL_DIGIT * level);
        unsigned now = (unsigned)turn & (WHEEL_SLOTS - 1);
        /* Bit 0: the slot after this one, going round. Only the top level can
         * hold anything at or before `now` in that order. */
        uint64_t ahead = part->used[level] & ~((uint64_t)1 << now);
        unsigned shift = (now + 1) % WHEEL_SLOTS;
        if (shift != 0) {
            ahead = ahead >> shift | ahead << (WHEEL_SLOTS - shift);
        }
        if (ahead != 0) {
            turn += 1 + (unsigned)__builtin_ctzll(ahead);
            return turn << (WHEEL_DIGIT * level);
        }
    }
    return UINT64_MAX;
}

/* The wheel has just come to its tick: what lies in the higher slots that begin
 * here moves down. */
static void cascade(struct inflight_group *part)
{
    for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--) {
        uint64_t turn = part->tick >> (WHEEL_DIGIT * level);
        uint32_t slot = level * WHEEL_SLOTS + (turn & (WHEEL_SLOTS - 1));
        uint32_t next = part->slots[slot];
        if (part->tick != turn << (WHEEL_DIGIT * level)) {
            continue;
        }
        part->slots[slot] = 0;
        part->used[level] &= ~((uint64_t)1 << slot % WHEEL_SLOTS);
        while (next != 0) {
            uint32_t number = next - 1;
            next = part->table->entries[number].wheel_next;
            wheel_link(part, number);
        }
    }
}

const struct transaction *inflight_expired(struct inflight_group *part,
                                           uint64_t now_us)
{
    uint64_t target = now_us / INFLIGHT_TICK_US;

    while (part->slots[part->tick & (WHEEL_SLOTS - 1)] == 0) {
        uint64_t next = next_event(part);
        if (part->tick >= target) {
            return NULL;
        }
        if (next > target) {
            part->tick = target;
            return NULL;
        }
        part->tick = next;
        cascade(part);
    }
    return &part->table
                ->entries[part->slots[part->tick & (WHEEL_SLOTS - 1)] - 1]
                .t;
}

uint64_t inflight_due_us(const struct inflight_group *part)
{
    uint64_t next = part->tick;

    if (part->slots[part->tick & (WHEEL_SLOTS - 1)] == 0) {
        next = next_event(part);
    }
    return next > UINT64_MAX / INFLIGHT_TICK_US ? UINT64_MAX
                                                : next * INFLIGHT_TICK_US;
}

/* ---- one group's part ---- */

struct inflight_group *inflight_group_new(struct inflight *table,
                                          uint32_t group)
{
    struct inflight_group *part = calloc(1, sizeof *part);

    if (part != NULL) {
        part->table = table;
        part->group = group;
        part->tick = table->now_us / INFLIGHT_TICK_US;
    }
    return part;
}

static void entry_free(struct inflight *table, uint32_t number)
{
    struct entry *entry = &table->entries[number];

    index_remove(table, entry_hash(entry), number);
    entry->in_use = 0;
    entry->wheel_next = table->free_first;
    table->free_first = number + 1;
    table->count--;
}

void inflight_group_free(struct inflight_group *part)
{
    if (part == NULL) {
        return;
    }
    for (size_t slot = 0; slot < COUNT_OF(part->slots); slot++) {
        while (part->slots[slot] != 0) {
            uint32_t number = part->slots[slot] - 1;
            wheel_unlink(part, number);
            entry_free(part->table, number);
        }
    }
    part->table->places_kept -= part->places_kept;
    free(part);
}

void inflight_keep_place(struct inflight_group *part)
{
    part->places_kept++;
    part->table->places_kept++;
}

void inflight_leave_place(struct inflight_group *part)
{
    CHECK(part->places_kept > 0);
    part->places_kept--;
    part->table->places_kept--;
}

size_t inflight_group_count(const struct inflight_group *part)
{
    return part->count;
}

static uint32_t number_of(const struct inflight_group *part,
                          const struct transaction *t)
{
    const struct entry *entry = (const struct entry *)t; /* its first field */

    CHECK(entry->in_use && t->group == part->group);
    return (uint32_t)(entry - part->table->entries);
}

static uint32_t entry_new(struct inflight *table)
{
    uint32_t number = table->free_first;

    if (number == 0) {
        return (uint32_t)table->entries_touched++;
    }
    table->free_first = table->entries[number - 1].wheel_next;
    return number - 1;
}

static void list_link(struct inflight *table, struct inflight_list *list,
                      uint32_t number)
{
    struct entry *entry = &table->entries[number];

    entry->list_prev = 0;
    entry->list_next = list->first;
    if (list->first != 0) {
        table->entries[list->first - 1].list_prev = number + 1;
    }
    list->first = number + 1;
    list->count++;
}

static void list_unlink(struct inflight *table, struct inflight_list *list,
                        uint32_t number)
{
    const struct entry *entry = &table->entries[number];

    if (entry->list_next != 0) {
        table->entries[entry->list_next - 1].list_prev = entry->list_prev;
    }
    if (entry->list_prev != 0) {
        table->entries[entry->list_prev - 1].list_next = entry->list_next;
    } else {
        CHECK(list->first == number + 1);
        list->first = entry->list_next;
    }
    list->count--;
}

enum status inflight_begin(struct inflight_group *part,
                           const struct transaction *t,
                           struct inflight_list *list)
{
    struct inflight *table = part->table;
    uint32_t number;

    CHECK(t->group == part->group);
    if (table->count == table->entries_max || !index_make_room(table)) {
        return STATUS_AGAIN;
    }
    number = entry_new(table);
    table->entries[number].t = *t;
    table->entries[number].in_use = 1;
    index_put(table, key_hash(t->group, t->topic, t->seq), number);
    wheel_link(part, number);
    list_link(table, list, number);
    table->count++;
    part->count++;
    return STATUS_OK;
}

void inflight_extend(struct inflight_group *part, const struct transaction *t,
                     uint64_t lease_end_us)
{
    uint32_t number = number_of(part, t);

    wheel_unlink(part, number);
    part->table->entries[number].t.lease_end_us = lease_end_us;
    wheel_link(part, number);
}

void inflight_end(struct inflight_group *part, const struct transaction *t,
                  struct inflight_list *list)
{
    uint32_t number = number_of(part, t);

    wheel_unlink(part, number);
    list_unlink(part->table, list, number);
    entry_free(part->table, number);
    part->count--;
}

const struct transaction *inflight_first(const struct inflight_group *part,
                                         const struct inflight_list *list)
{
    return list->first == 0 ? NULL : &part->table->entries[list->first - 1].t;
}

size_t inflight_count_in(const struct inflight_group *part, uint32_t topic)
{
    const struct inflight *table = part->table;
    size_t count = 0;

    for (size_t i = 0; i < table->entries_touched; i++) {
        const struct entry *entry = &table->entries[i];
        count += entry->in_use && entry->t.group == part->group
                 && entry->t.topic == topic;
    }
    return count;
}
