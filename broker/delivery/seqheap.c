#include "broker/delivery/seqheap.h"

#include <stdlib.h>

enum { CAPACITY_MIN = 4 };

void seqheap_fini(struct seqheap *heap)
{
    free(heap->items);
    *heap = (struct seqheap) { 0 };
}

enum status seqheap_grow(struct seqheap *heap)
{
    size_t capacity = heap->capacity == 0 ? CAPACITY_MIN : heap->capacity * 2;
    uint64_t *items = realloc(heap->items, capacity * sizeof *items);

    if (items == NULL) {
        return STATUS_NOMEM;
    }
    heap->items = items;
    heap->capacity = capacity;
    return STATUS_OK;
}

enum status seqheap_reserve(struct seqheap *heap)
{
    return heap->count < heap->capacity ? STATUS_OK : seqheap_grow(heap);
}

void seqheap_push(struct seqheap *heap, uint64_t seq)
{
    size_t place = heap->count++;

    CHECK(place < heap->capacity);
    while (place > 0 && heap->items[(place - 1) / 2] > seq) {
        heap->items[place] = heap->items[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    heap->items[place] = seq;
}

void seqheap_pop(struct seqheap *heap)
{
    size_t place = 0;
    uint64_t seq;

    CHECK(heap->count > 0);
    seq = heap->items[--heap->count];
    for (size_t child = 1; child < heap->count; child = 2 * place + 1) {
        if (child + 1 < heap->count
            && heap->items[child + 1] < heap->items[child]) {
            child++;
        }
        if (heap->items[child] >= seq) {
            break;
        }
        heap->items[place] = heap->items[child];
        place = child;
    }
    if (heap->count > 0) {
        heap->items[place] = seq;
    }
}

static int by_seq(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return (*x > *y) - (*x < *y);
}

void seqheap_filter(struct seqheap *heap, bool (*keep)(void *arg, uint64_t seq),
                    void *arg)
{
    size_t count = 0;

    if (heap->count == 0) {
        return;
    }
    /* A sorted array is a heap, and has the same ones side by side. */
    qsort(heap->items, heap->count, sizeof *heap->items, by_seq);
    for (size_t i = 0; i < heap->count; i++) {
        uint64_t seq = heap->items[i];
        if ((count == 0 || heap->items[count - 1] != seq) && keep(arg, seq)) {
            heap->items[count++] = seq;
        }
    }
    heap->count = count;
}

void seqheap_drop_below(struct seqheap *heap, uint64_t first)
{
    size_t count = heap->count;

    /* None is put behind the place that it is read from. */
    heap->count = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t seq = heap->items[i];

        if (seq >= first) {
            seqheap_push(heap, seq);
        }
    }
}
