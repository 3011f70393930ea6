#include "storage/waiting.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_MIN = 4,
    CHUNK_MAX = 128, /* 3 KiB: what one change moves at most, but for places of
                      * chunks, which are so many times fewer */
    CHUNKS_MIN = 4
};

struct waiting_chunk {
    size_t count;
    size_t capacity;
    struct retry entries[];
};

void waiting_clear(struct waiting *waiting)
{
    for (size_t i = 0; i < waiting->chunk_count; i++) {
        free(waiting->chunks[i]);
    }
    free(waiting->chunks);
    *waiting = (struct waiting) { 0 };
}

void waiting_fini(struct waiting *waiting)
{
    waiting_clear(waiting);
}

/* ---- where ---- */

/* The last chunk that begins at or before `seq`; else the first one. */
static size_t chunk_of(const struct waiting *waiting, uint64_t seq)
{
    size_t low = 0;
    size_t high = waiting->chunk_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (waiting->chunks[middle]->entries[0].seq <= seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? low - 1 : 0;
}

/* Index of the first entry whose seq is >= seq. */
static size_t entry_at(const struct waiting_chunk *chunk, uint64_t seq)
{
    size_t low = 0;
    size_t high = chunk->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (chunk->entries[middle].seq < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct retry *waiting_find(const struct waiting *waiting, uint64_t seq)
{
    const struct waiting_chunk *chunk;
    size_t at;

    if (waiting->count == 0) {
        return NULL;
    }
    chunk = waiting->chunks[chunk_of(waiting, seq)];
    at = entry_at(chunk, seq);
    return at < chunk->count && chunk->entries[at].seq == seq
               ? &chunk->entries[at]
               : NULL;
}

const struct retry *waiting_next(const struct waiting *waiting,
                                 struct waiting_place *place)
{
    const struct waiting_chunk *chunk;

    if (place->chunk == waiting->chunk_count) {
        return NULL;
    }
    chunk = waiting->chunks[place->chunk];
    if (place->at + 1 < chunk->count) {
        return &chunk->entries[place->at++];
    }
    place->chunk++;
    place->at = 0;
    return &chunk->entries[chunk->count - 1];
}

/* ---- chunks ---- */

/* A new one at index `i`, with room for one entry at least; NULL without
 * memory. The caller puts something into it. */
static struct waiting_chunk *add_chunk(struct waiting *waiting, size_t i,
                                       size_t capacity)
{
    struct waiting_chunk *chunk;

    if (waiting->chunk_count == waiting->chunk_capacity) {
        size_t room = waiting->chunk_capacity == 0
                          ? CHUNKS_MIN
                          : waiting->chunk_capacity * 2;
        struct waiting_chunk **chunks =
            realloc(waiting->chunks, room * sizeof(struct waiting_chunk *));
        if (chunks == NULL) {
            return NULL;
        }
        waiting->chunks = chunks;
        waiting->chunk_capacity = room;
    }
    chunk = malloc(sizeof *chunk + capacity * sizeof chunk->entries[0]);
    if (chunk == NULL) {
        return NULL;
    }
    chunk->count = 0;
    chunk->capacity = capacity;
    memmove(waiting->chunks + i + 1, waiting->chunks + i,
            (waiting->chunk_count - i) * sizeof(struct waiting_chunk *));
    waiting->chunks[i] = chunk;
    waiting->chunk_count++;
    return chunk;
}

static void drop_chunks(struct waiting *waiting, size_t first, size_t stop)
{
    for (size_t i = first; i < stop; i++) {
        free(waiting->chunks[i]);
    }
    memmove(waiting->chunks + first, waiting->chunks + stop,
            (waiting->chunk_count - stop) * sizeof(struct waiting_chunk *));
    waiting->chunk_count -= stop - first;
}

static bool resize(struct waiting *waiting, size_t i, size_t capacity)
{
    struct waiting_chunk *chunk = waiting->chunks[i];

    chunk = realloc(chunk, sizeof *chunk + capacity * sizeof chunk->entries[0]);
    if (chunk == NULL) {
        return false;
    }
    chunk->capacity = capacity;
    waiting->chunks[i] = chunk;
    return true;
}

static void append_all(struct waiting_chunk *to, const struct retry *from,
                       size_t count)
{
    memcpy(to->entries + to->count, from, count * sizeof *from);
    to->count += count;
}

/* The upper half of a full one moves behind it. */
static bool split(struct waiting *waiting, size_t i)
{
    struct waiting_chunk *upper = add_chunk(waiting, i + 1, CHUNK_MAX);
    struct waiting_chunk *lower = waiting->chunks[i];

    if (upper == NULL) {
        return false;
    }
    lower->count /= 2;
    append_all(upper, lower->entries + lower->count, CHUNK_MAX - lower->count);
    return true;
}

/* Room for one more in front of entry *at of chunk *i. */
static bool make_room(struct waiting *waiting, size_t *i, size_t *at)
{
    struct waiting_chunk *chunk = waiting->chunks[*i];

    if (chunk->count < chunk->capacity) {
        return true;
    }
    if (chunk->capacity < CHUNK_MAX) {
        return resize(waiting, *i, chunk->capacity * 2);
    }
    if (*at == chunk->count) { /* in order: those before stay full */
        *at = 0;
        return add_chunk(waiting, ++*i, CHUNK_MAX) != NULL;
    }
    if (!split(waiting, *i)) {
        return false;
    }
    if (*at > chunk->count) {
        *at -= chunk->count;
        ++*i;
    }
    return true;
}

enum status waiting_put(struct waiting *waiting, const struct retry *retry)
{
    struct waiting_chunk *chunk;
    size_t i = chunk_of(waiting, retry->seq);
    size_t at;

    if (waiting->chunk_count == 0 && add_chunk(waiting, 0, CHUNK_MIN) == NULL) {
        return STATUS_NOMEM;
    }
    chunk = waiting->chunks[i];
    at = entry_at(chunk, retry->seq);
    if (at < chunk->count && chunk->entries[at].seq == retry->seq) {
        chunk->entries[at] = *retry;
        return STATUS_OK;
    }
    if (!make_room(waiting, &i, &at)) {
        return STATUS_NOMEM;
    }
    chunk = waiting->chunks[i];
    memmove(chunk->entries + at + 1, chunk->entries + at,
            (chunk->count - at) * sizeof *retry);
    chunk->entries[at] = *retry;
    chunk->count++;
    waiting->count++;
    return STATUS_OK;
}

/* Small ones become one with their neighbour, so that what few are left of many
 * take little. */
static void join(struct waiting *waiting, size_t i)
{
    struct waiting_chunk *chunk;
    const struct waiting_chunk *next;

    if (i + 1 >= waiting->chunk_count) {
        return;
    }
    chunk = waiting->chunks[i];
    next = waiting->chunks[i + 1];
    if (chunk->count + next->count <= CHUNK_MAX / 2
        && chunk->count + next->count <= chunk->capacity) {
        append_all(chunk, next->entries, next->count);
        drop_chunks(waiting, i + 1, i + 2);
    }
}

static size_t cut(struct waiting_chunk *chunk, struct seq_range range)
{
    size_t first = entry_at(chunk, range.first);
    size_t stop = entry_at(chunk, range.last + 1);

    memmove(chunk->entries + first, chunk->entries + stop,
            (chunk->count - stop) * sizeof chunk->entries[0]);
    chunk->count -= stop - first;
    return stop - first;
}

bool waiting_drop(struct waiting *waiting, struct seq_range range)
{
    size_t count = waiting->count;
    size_t begin = chunk_of(waiting, range.first);
    size_t first = begin;
    size_t stop = begin;
    size_t end;

    for (; stop < waiting->chunk_count
           && waiting->chunks[stop]->entries[0].seq <= range.last;
         stop++) {
        waiting->count -= cut(waiting->chunks[stop], range);
    }
    while (first < stop && waiting->chunks[first]->count > 0) {
        first++;
    }
    for (end = first; end < stop && waiting->chunks[end]->count == 0;) {
        end++;
    }
    if (waiting->count == count) {
        return false;
    }
    drop_chunks(waiting, first, end);
    for (size_t i = first + 1; i + 1 > begin && i > 0; i--) { /* both sides */
        join(waiting, i - 1);
    }
    return true;
}
