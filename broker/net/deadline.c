#include "broker/net/deadline.h"

#include <stdlib.h>

enum { CAPACITY_MIN = 64 };

void deadlines_fini(struct deadlines *d)
{
    free(d->at);
    *d = (struct deadlines) { 0 };
}

enum status deadlines_reserve(struct deadlines *d, size_t count)
{
    size_t capacity = d->capacity == 0 ? CAPACITY_MIN : d->capacity;
    struct deadline **at;

    if (count <= d->capacity) {
        return STATUS_OK;
    }
    while (capacity < count) {
        capacity *= 2;
    }
    at = realloc(d->at, capacity * sizeof(struct deadline *));
    if (at == NULL) {
        return STATUS_NOMEM;
    }
    d->at = at;
    d->capacity = capacity;
    return STATUS_OK;
}

static void put(struct deadlines *d, size_t place, struct deadline *deadline)
{
    d->at[place - 1] = deadline;
    deadline->place = place;
}

static struct deadline *get(const struct deadlines *d, size_t place)
{
    return d->at[place - 1];
}

static void sift_up(struct deadlines *d, struct deadline *deadline)
{
    size_t place = deadline->place;

    while (place > 1 && get(d, place / 2)->due_ms > deadline->due_ms) {
        put(d, place, get(d, place / 2));
        place /= 2;
    }
    put(d, place, deadline);
}

static void sift_down(struct deadlines *d, struct deadline *deadline)
{
    size_t place = deadline->place;

    for (;;) {
        size_t child = place * 2;

        if (child > d->count) {
            break;
        }
        if (child < d->count
            && get(d, child + 1)->due_ms < get(d, child)->due_ms) {
            child++;
        }
        if (get(d, child)->due_ms >= deadline->due_ms) {
            break;
        }
        put(d, place, get(d, child));
        place = child;
    }
    put(d, place, deadline);
}

void deadline_set(struct deadlines *d, struct deadline *deadline,
                  uint64_t due_ms)
{
    deadline->due_ms = due_ms;
    if (deadline->place == 0) {
        CHECK(d->count < d->capacity);
        put(d, ++d->count, deadline);
    }
    CHECK(get(d, deadline->place) == deadline);
    sift_up(d, deadline);
    sift_down(d, deadline);
}

void deadline_clear(struct deadlines *d, struct deadline *deadline)
{
    struct deadline *last;
    size_t place = deadline->place;

    if (place == 0) {
        return;
    }
    CHECK(get(d, place) == deadline);
    deadline->place = 0;
    last = get(d, d->count--);
    if (last != deadline) {
        put(d, place, last);
        sift_up(d, last);
        sift_down(d, last);
    }
}

struct deadline *deadlines_first(const struct deadlines *d)
{
    return d->count == 0 ? NULL : d->at[0];
}
