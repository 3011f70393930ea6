/* Segments of full length that are not wanted any more wait here for a later
 * life: writing over blocks that were written before costs a fraction of
 * growing a file or of filling it with zeros first.
 *
 *   0000000007.seg -> 0000000007.pool -> 0000000019.seg
 *
 * The folder is synced after the first rename and before the head is written
 * over, so that no file is ever found under a segment's name with another's
 * head. What an earlier life left behind never passes for a batch of this one:
 * store id, segment id, epoch and offset stand in each header, and the header
 * vouches for the records behind it. */
#include "storage/internal.h"

#include "storage/io.h"

#include <errno.h>
#include <fcntl.h>

/* What the pool keeps. Retention frees in bursts; a file that is made anew
 * costs zeros and, what weighs more in a virtual machine, fresh pages of
 * memory. When the disk is full only what messages can go on in. */
static uint32_t wanted(const struct store *store)
{
    uint64_t free_bytes =
        atomic_load_explicit(&store->figures.free_bytes, memory_order_relaxed);
    uint64_t quarter = free_bytes / 4 / store->capacity;

    if (!store_space_low(store)) { /* 0: nobody has asked the disk yet */
        return free_bytes != 0 && quarter < SEGMENT_POOL_MAX ? (uint32_t)quarter
                                                             : SEGMENT_POOL_MAX;
    }
    return atomic_load_explicit(&store->next, memory_order_acquire) == NULL;
}

static void count(struct store *store)
{
    atomic_store_explicit(&store->figures.pool_segments, store->pool_count,
                          memory_order_relaxed);
}

/* False: there is no room for it. */
static bool pool_put(struct store *store, uint32_t id)
{
    if (store->pool_count >= SEGMENT_POOL_MAX) {
        return false;
    }
    store->pool[store->pool_count++] = id;
    count(store);
    return true;
}

static uint32_t pool_count(struct store *store)
{
    uint32_t have;

    pthread_mutex_lock(&store->make_lock);
    have = store->pool_count;
    pthread_mutex_unlock(&store->make_lock);
    return have;
}

/* ---- into the pool ---- */

static bool has_full_length(struct store *store, struct segment *segment,
                            off_t *len)
{
    *len = segment_hold(segment, &store->log, NULL) == STATUS_OK
               ? store->vfs->size(store->vfs, segment->fd)
               : 0;
    segment_let_go(segment, &store->log);
    return *len == (off_t)store->capacity;
}

static int change_name(struct store *store, uint32_t id, bool keep)
{
    char name[PATH_LEN_MAX];
    char kept[PATH_LEN_MAX];

    segment_path(&store->log, id, "seg", name);
    segment_path(&store->log, id, "pool", kept);
    return keep ? store->vfs->rename(store->vfs, name, kept)
                : store->vfs->unlink(store->vfs, name);
}

enum status store_recycle(struct store *store, struct segment *segment,
                          struct error *err)
{
    uint32_t id = segment->header.id;
    off_t len;
    bool keep = has_full_length(store, segment, &len)
                && pool_count(store) < wanted(store);
    uint64_t cut;
    enum status status = segment_pass_on_end(segment, &store->log, &cut, err);

    scrub_forget(store, id);
    segment_free(segment, &store->log);
    if (status != STATUS_OK) {
        return status;
    }
    log_disk(&store->log, -(int64_t)cut);
    if (change_name(store, id, keep) != 0 && errno != ENOENT) {
        return error_set(err, STATUS_IO, errno, "segment %u: %s", id,
                         keep ? "put into the pool" : "remove");
    }
    if (io_sync_dir(store->vfs, store->log.dir) != 0) {
        return error_set(err, STATUS_IO, errno, "segment %u: sync the folder",
                         id);
    }
    if (keep) {
        pthread_mutex_lock(&store->make_lock);
        keep = pool_put(store, id); /* only this thread puts: there is room */
        pthread_mutex_unlock(&store->make_lock);
        CHECK(keep);
    } else {
        log_disk(&store->log, -(int64_t)len);
    }
    figure_add(&store->figures.freed_bytes, (uint64_t)len);
    atomic_fetch_sub_explicit(&store->figures.segments, 1,
                              memory_order_relaxed);
    return STATUS_OK;
}

/* ---- out of it; under make_lock ---- */

static void drop(struct store *store, uint32_t id)
{
    char path[PATH_LEN_MAX];

    segment_path(&store->log, id, "pool", path);
    if (store->vfs->unlink(store->vfs, path) == 0) {
        log_disk(&store->log, -(int64_t)store->capacity);
    }
}

enum status pool_make(struct store *store, struct segment **out,
                      const struct segment_header *wanted_header,
                      struct error *err)
{
    struct segment_header header = *wanted_header;
    enum status status = STATUS_NOT_FOUND;

    header.capacity = store->capacity;
    header.recycled = true;
    while (status == STATUS_NOT_FOUND && store->pool_count > 0) {
        uint32_t id = store->pool[--store->pool_count];
        status = segment_reuse(out, &store->log, &header, id, err);
        if (status == STATUS_NOT_FOUND) {
            drop(store, id); /* not as it was left */
        } else if (status != STATUS_OK) {
            store->pool_count++;
        }
    }
    count(store);
    return status;
}

void pool_shrink(struct store *store)
{
    pthread_mutex_lock(&store->make_lock);
    if (store->pool_count > wanted(store)) {
        drop(store, store->pool[--store->pool_count]);
        count(store);
    }
    pthread_mutex_unlock(&store->make_lock);
}

void pool_discard(struct store *store, struct segment *segment)
{
    uint32_t id = segment->pool_id;

    segment_discard(segment, &store->log);
    if (id != 0 && !pool_put(store, id)) {
        drop(store, id);
    }
}

/* ---- at start ---- */

/* An epoch that was given out must not be given out again, even if the segment
 * it was for never got its name: batches of it may stand in the file. So a file
 * whose head is lost is of no use. */
static bool look_at(struct store *store, uint32_t id, uint64_t *epoch)
{
    struct segment *segment = NULL;
    uint64_t len = 0;
    bool usable;

    if (segment_peek(&segment, &store->log, id, &len, NULL) != STATUS_OK) {
        return false;
    }
    usable = len == store->capacity && !segment->header_lost;
    if (usable && segment->header.epoch > *epoch) {
        *epoch = segment->header.epoch;
    }
    segment_free(segment, &store->log);
    return usable;
}

void pool_found(struct store *store, uint32_t id, uint64_t *epoch)
{
    char path[PATH_LEN_MAX];

    if (look_at(store, id, epoch) && pool_put(store, id)) {
        log_disk(&store->log, store->capacity);
    } else {
        segment_path(&store->log, id, "pool", path);
        (void)store->vfs->unlink(store->vfs, path);
    }
}
