#include "broker/delivery/schedule.h"

#include "broker/delivery/lane.h"

#include <stdlib.h>

enum { WAITING_BLOCK = 64, HEAP_CAPACITY_MIN = 16 };

struct waiting_block {
    struct waiting_block *next;
    struct waiting items[WAITING_BLOCK];
};

/* ---- a heap that tells each item its place ---- */

void heap_fini(struct heap *heap)
{
    free(heap->items);
    *heap = (struct heap) { 0 };
}

static enum status heap_reserve(struct heap *heap, size_t count)
{
    size_t capacity =
        heap->capacity == 0 ? HEAP_CAPACITY_MIN : heap->capacity * 2;
    struct waiting **items;

    if (count <= heap->capacity) {
        return STATUS_OK;
    }
    items = realloc(heap->items, capacity * sizeof(struct waiting *));
    if (items == NULL) {
        return STATUS_NOMEM;
    }
    heap->items = items;
    heap->capacity = capacity;
    return STATUS_OK;
}

static void heap_set(struct heap *heap, size_t place, struct waiting *w)
{
    heap->items[place] = w;
    w->place = place;
}

static void heap_up(struct heap *heap, struct waiting *w, size_t place)
{
    while (place > 0) {
        size_t parent = (place - 1) / 2;
        if (heap->items[parent]->key <= w->key) {
            break;
        }
        heap_set(heap, place, heap->items[parent]);
        place = parent;
    }
    heap_set(heap, place, w);
}

static void heap_down(struct heap *heap, struct waiting *w, size_t place)
{
    for (size_t child = 2 * place + 1; child < heap->count;
         child = 2 * place + 1) {
        if (child + 1 < heap->count
            && heap->items[child + 1]->key < heap->items[child]->key) {
            child++;
        }
        if (heap->items[child]->key >= w->key) {
            break;
        }
        heap_set(heap, place, heap->items[child]);
        place = child;
    }
    heap_set(heap, place, w);
}

static void heap_push(struct heap *heap, struct waiting *w)
{
    CHECK(heap->count < heap->capacity);
    heap->count++;
    heap_up(heap, w, heap->count - 1);
}

static void heap_remove(struct heap *heap, const struct waiting *w)
{
    size_t place = w->place;
    struct waiting *last;

    CHECK(place < heap->count && heap->items[place] == w);
    last = heap->items[--heap->count];
    if (last == w) {
        return;
    }
    if (last->key < w->key) {
        heap_up(heap, last, place);
    } else {
        heap_down(heap, last, place);
    }
}

/* ---- the schedule ---- */

void schedule_fini(struct schedule *schedule)
{
    while (schedule->blocks != NULL) {
        struct waiting_block *next = schedule->blocks->next;
        free(schedule->blocks);
        schedule->blocks = next;
    }
    hash_fini(&schedule->all);
    heap_fini(&schedule->delayed);
    *schedule = (struct schedule) { 0 };
}

struct waiting *schedule_find(const struct schedule *schedule, uint32_t topic,
                              uint64_t seq)
{
    return hash_get(&schedule->all, topic, seq);
}

static enum status reserve_item(struct schedule *schedule)
{
    struct waiting_block *block;

    if (schedule->free_first != NULL) {
        return STATUS_OK;
    }
    block = malloc(sizeof *block);
    if (block == NULL) {
        return STATUS_NOMEM;
    }
    block->next = schedule->blocks;
    schedule->blocks = block;
    for (size_t i = 0; i < WAITING_BLOCK; i++) {
        block->items[i].next_free = schedule->free_first;
        schedule->free_first = &block->items[i];
    }
    return STATUS_OK;
}

enum status schedule_reserve(struct schedule *schedule, struct lane *lane)
{
    enum status status = hash_reserve(&schedule->all);

    if (status == STATUS_OK) {
        status = reserve_item(schedule);
    }
    /* Each heap may one day hold all that waits in it: moving between the two
     * must not need memory, because nobody could be told. */
    if (status == STATUS_OK) {
        status = heap_reserve(&schedule->delayed, schedule->all.count + 1);
    }
    if (status == STATUS_OK) {
        status = heap_reserve(&lane->ready, lane->waiting_count + 1);
    }
    return status;
}

struct waiting *schedule_add(struct schedule *schedule, struct lane *lane,
                             uint64_t seq, uint32_t attempts)
{
    struct waiting *w = schedule->free_first;

    CHECK(w != NULL);
    schedule->free_first = w->next_free;
    *w = (struct waiting) {
        .seq = seq, .attempts = attempts, .lane = lane, .key = seq
    };
    hash_put(&schedule->all, lane->topic, seq, w);
    heap_push(&lane->ready, w);
    lane->waiting_count++;
    return w;
}

static void unheap(struct schedule *schedule, const struct waiting *w)
{
    heap_remove(w->delayed ? &schedule->delayed : &w->lane->ready, w);
}

void schedule_delay(struct schedule *schedule, struct waiting *w,
                    uint64_t due_us)
{
    unheap(schedule, w);
    w->delayed = true;
    w->key = due_us;
    heap_push(&schedule->delayed, w);
}

void schedule_make_ready(struct schedule *schedule, struct waiting *w)
{
    unheap(schedule, w);
    w->delayed = false;
    w->key = w->seq;
    heap_push(&w->lane->ready, w);
}

void schedule_remove(struct schedule *schedule, struct waiting *w)
{
    unheap(schedule, w);
    hash_remove(&schedule->all, w->lane->topic, w->seq);
    w->lane->waiting_count--;
    w->next_free = schedule->free_first;
    schedule->free_first = w;
}

uint64_t schedule_due_us(const struct schedule *schedule)
{
    const struct waiting *first = heap_first(&schedule->delayed);

    return first == NULL ? UINT64_MAX : first->key;
}
