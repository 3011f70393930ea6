/* The segments before and behind the active one: the next is made ahead of
 * time, of a file of the pool or a bit at each call so that the keeper's other
 * work goes on, and full ones are let go of. The journal takes the next one as
 * far as it has come, or makes it by itself when there is none. */
#include "storage/internal.h"

#include "storage/io.h"

#include <fcntl.h>

/* Full segments need no descriptor any more. They are left as long as they are,
 * so that their files can be used again; what is behind their seal is less than
 * a batch. One with more behind its end was left like that by a crash, and cut
 * by no start yet. */
static bool is_long(const struct segment *segment)
{
    uint32_t end = atomic_load_explicit(&segment->end, memory_order_acquire);

    return !segment->header_lost && segment->map_len > end
           && segment->map_len - end > BATCH_LEN_MAX;
}

bool store_rest_in_doubt(const struct segment *segment)
{
    return segment->rest == REST_DAMAGED
           || (segment->rest == REST_UNKNOWN && is_long(segment));
}

/* The disk has lost what the log's end was told by, or does not give it. */
static void note_rest(struct store *store, const struct rest *rest)
{
    struct store_damage damage = {
        .kind = rest->found ? DAMAGE_BATCH : DAMAGE_READ,
        .segment = rest->segment,
        .offset = rest->found ? rest->offset : rest->at,
        .len = rest->found ? rest->batch_len : BLOCK_LEN,
    };

    (void)store_damage_note(store, &damage);
}

/* Some of it at each call. False: not done yet. */
static bool search_rest(struct store *store, struct segment *segment)
{
    struct rest *rest = &store->keeper.rest;
    enum status status = segment_hold(segment, &store->log, NULL);

    if (status != STATUS_OK) {
        return true; /* it is left as it is: the next start tries again */
    }
    if (rest->segment != segment->header.id) {
        *rest = rest_of(segment, &store->log);
    }
    rest->fd = segment->fd;
    status = rest_search(rest, PREPARE_STEP_LEN);
    if (status == STATUS_NOMEM
        || (status == STATUS_OK && !rest->found && rest->at < rest->len)) {
        return false;
    }
    segment->rest = REST_NOTHING;
    if (status != STATUS_OK || rest->found) {
        segment->rest = REST_DAMAGED;
        note_rest(store, rest);
    }
    return true;
}

/* False: call again. */
static bool let_go_of(struct store *store, struct segment *segment)
{
    bool cut = is_long(segment);

    if (cut && segment->rest == REST_UNKNOWN && !search_rest(store, segment)) {
        return false;
    }
    if (cut && segment->rest == REST_NOTHING) {
        /* Only gives space back: the next start tries again. */
        enum status trimmed = segment_trim(segment, &store->log, NULL);
        (void)trimmed;
    }
    segment_let_go(segment, &store->log);
    return true;
}

static void let_go_of_sealed(struct store *store)
{
    struct keeper *keeper = &store->keeper;
    uint32_t active =
        atomic_load_explicit(&store->active_id, memory_order_acquire);

    while (keeper->let_go_through + 1 < active) {
        struct segment *segment =
            log_segment(&store->log, keeper->let_go_through + 1);
        if (segment != NULL && !let_go_of(store, segment)) {
            return;
        }
        keeper->let_go_through++;
    }
}

static bool next_ready(const struct store *store)
{
    return atomic_load_explicit(&store->next, memory_order_acquire) != NULL;
}

/* Without traffic the next segment takes no space that may soon be short. */
static bool wants_next(const struct store *store)
{
    uint64_t free_bytes =
        atomic_load_explicit(&store->figures.free_bytes, memory_order_relaxed);

    return !next_ready(store)
           && free_bytes >= IDLE_FREE_SEGMENTS * (uint64_t)store->capacity;
}

bool store_leftovers(const struct store *store)
{
    return wants_next(store) || store->old_count > 0
           || store->keeper.let_go_through + 1 < atomic_load_explicit(
                  &store->active_id, memory_order_acquire);
}

bool store_note_old(struct store *store, uint32_t id)
{
    const struct vfs *vfs = store->vfs;
    char path[PATH_LEN_MAX];
    off_t len;
    int fd;

    if (store->old_count == OLD_FILES_MAX) {
        return false;
    }
    segment_path(&store->log, id, "old", path);
    fd = io_open(vfs, path, O_RDONLY);
    if (fd < 0) {
        return false;
    }
    len = vfs->size(vfs, fd);
    len = len < 0 ? 0 : len;
    vfs->close(vfs, fd);
    store->old[store->old_count].id = id;
    store->old[store->old_count++].len = len;
    log_disk(&store->log, len);
    return true;
}

/* One at a call. */
static void remove_old(struct store *store)
{
    char path[PATH_LEN_MAX];

    if (store->old_count > 0) {
        store->old_count--;
        segment_path(&store->log, store->old[store->old_count].id, "old", path);
        (void)store->vfs->unlink(store->vfs, path);
        log_disk(&store->log, -store->old[store->old_count].len);
    }
}

/* ---- the next segment; all under make_lock ---- */

enum status store_next_id(const struct store *store, uint32_t after,
                          uint32_t *id, struct error *err)
{
    uint64_t next = (uint64_t)after + 1;

    while (seqset_has(&store->foreign, next)) {
        next++;
    }
    if (next > SEGMENT_ID_MAX) {
        return error_set(err, STATUS_NO_SPACE, 0,
                         "no segment id is left: the log has used all up to %u",
                         SEGMENT_ID_MAX);
    }
    *id = (uint32_t)next;
    return STATUS_OK;
}

static enum status begin(struct store *store, uint32_t after, uint64_t now_us,
                         struct error *err)
{
    enum status status;
    struct segment_header header = { .epoch = store->epoch,
                                     .time_us = now_us,
                                     .capacity = store->capacity,
                                     .synced_end = SEGMENT_BEGIN };

    status = store_next_id(store, after, &header.id, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = pool_make(store, &store->making, &header, err);
    if (status != STATUS_NOT_FOUND) {
        store->zeroed = store->capacity;
        return status;
    }
    store->zeroed = SEGMENT_BEGIN;
    return segment_make(&store->making, &store->log, &header, err);
}

static void abandon(struct store *store)
{
    pool_discard(store, store->making);
    store->making = NULL;
}

static enum status finish(struct store *store, struct error *err)
{
    enum status status = segment_publish(store->making, &store->log, err);

    if (status != STATUS_OK) {
        abandon(store);
        return status;
    }
    atomic_store_explicit(&store->next, store->making, memory_order_release);
    store->making = NULL;
    return STATUS_OK;
}

/* As things go the next one is ready before the active one is full. */
static bool is_ahead(struct store *store)
{
    struct segment *active =
        log_segment(&store->log, atomic_load_explicit(&store->active_id,
                                                      memory_order_acquire));
    uint64_t capacity = store->making->header.capacity;
    uint64_t used;

    if (active == NULL) {
        return false;
    }
    used = atomic_load_explicit(&active->end, memory_order_relaxed);
    return store->zeroed * (uint64_t)active->header.capacity >= used * capacity;
}

static enum status fill_some(struct store *store, struct error *err)
{
    enum status status = STATUS_OK;
    uint32_t left;
    uint32_t len;

    CHECK(store->making != NULL);
    left = store->making->header.capacity - store->zeroed;
    len = left < PREPARE_PIECE_LEN ? left : PREPARE_PIECE_LEN;
    if (len > 0) {
        status =
            segment_zero(store->making, &store->log, store->zeroed, len, err);
    }
    if (status != STATUS_OK) {
        abandon(store);
        return status;
    }
    store->zeroed += len;
    return len == left ? finish(store, err) : STATUS_OK;
}

enum status store_have_next(struct store *store, uint32_t after,
                            uint64_t now_us, struct error *err)
{
    enum status status = STATUS_OK;

    atomic_store(&store->next_wanted, true);
    pthread_mutex_lock(&store->make_lock);
    if (!next_ready(store)) {
        if (store->making == NULL) {
            status = begin(store, after, now_us, err);
        }
        if (status == STATUS_OK) {
            status = finish(store, err);
        }
    }
    pthread_mutex_unlock(&store->make_lock);
    atomic_store(&store->next_wanted, false);
    return status;
}

static enum status make_piece(struct store *store, struct error *err)
{
    uint32_t active =
        atomic_load_explicit(&store->active_id, memory_order_acquire);
    uint64_t now_us =
        atomic_load_explicit(&store->now_us, memory_order_relaxed);
    enum status status = STATUS_OK;

    if (store->making == NULL) {
        status = begin(store, active, now_us, err);
    }
    return status == STATUS_OK ? fill_some(store, err) : status;
}

/* One piece where that will do: the journal's syncs wait for ours. It may have
 * the lock, and what there is, between any two. */
static enum status make_some(struct store *store, struct error *err)
{
    enum status status = STATUS_OK;
    bool more = true;

    for (uint32_t len = 0; more && len < PREPARE_STEP_LEN;
         len += PREPARE_PIECE_LEN) {
        pthread_mutex_lock(&store->make_lock);
        if (!next_ready(store)) {
            status = make_piece(store, err);
        }
        more = status == STATUS_OK && store->making != NULL && !is_ahead(store)
               && !atomic_load(&store->next_wanted);
        pthread_mutex_unlock(&store->make_lock);
    }
    return status;
}

/* After the segment: messages cannot go on without that one. */
static enum status look_at_spare(struct store *store, struct error *err)
{
    spare_make(store);
    if (!store->spare_kept
        && atomic_load_explicit(&store->keydir_low, memory_order_relaxed)) {
        return error_set(err, STATUS_NO_SPACE, 0, "no space for the keydir");
    }
    return STATUS_OK;
}

enum status store_prepare(struct store *store, struct error *err)
{
    enum status status = STATUS_OK;

    if (store_frozen(store)) {
        return error_set(err, STATUS_FROZEN, 0,
                         "the store is frozen after an I/O error");
    }
    atomic_store_explicit(&store->figures.free_bytes,
                          store->vfs->free_bytes(store->vfs, store->dir),
                          memory_order_relaxed);
    let_go_of_sealed(store);
    remove_old(store);
    pool_shrink(store);
    if (!next_ready(store)) {
        status = make_some(store, err);
        if (status == STATUS_IO) {
            store_freeze(store);
        }
    }
    return status == STATUS_OK ? look_at_spare(store, err) : status;
}
