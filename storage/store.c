/* Opening and closing: the folder, its lock, the format file, then recovery. */
#include "storage/internal.h"

#include "storage/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>

enum { DIR_MODE = 0700, DIR_LEN_MAX = 3900 };

/* Where each field of the format file stands. Magic and version keep their
 * places in every version to come. */
enum { AT_MAGIC = 0, AT_VERSION = 8, AT_STORE = 16, AT_TIME = 24 };

static const uint64_t format_magic = UINT64_C(0x314d524654574447);

static void path_in(const struct store *store, const char *name,
                    char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.3900s/%s", store->dir, name);
}

static enum status make_dir(struct store *store, const char *path,
                            struct error *err)
{
    if (store->vfs->make_dir(store->vfs, path, DIR_MODE) != 0
        && errno != EEXIST) {
        int sys = errno;
        return error_set(err, status_of_errno(sys), sys, "make %.300s", path);
    }
    return STATUS_OK;
}

static enum status sync_dir(struct store *store, const char *path,
                            struct error *err)
{
    if (io_sync_dir(store->vfs, path) != 0) {
        return error_set(err, STATUS_IO, errno, "sync %.300s", path);
    }
    return STATUS_OK;
}

static enum status take_lock(struct store *store, struct error *err)
{
    char path[PATH_LEN_MAX];

    path_in(store, "store.lock", path);
    store->lock_fd = io_open(store->vfs, path, O_RDWR | O_CREAT);
    if (store->lock_fd < 0) {
        int sys = errno;
        return error_set(err, status_of_errno(sys), sys, "open %.300s", path);
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        return STATUS_OK;
    }
    if (errno == EWOULDBLOCK) {
        return error_set(err, STATUS_BUSY, 0,
                         "%.300s is in use by another process (it holds the "
                         "lock on store.lock)",
                         store->dir);
    }
    return error_set(err, STATUS_IO, errno, "lock %.300s", path);
}

/* ---- the format file ---- */

static void count_name(void *arg, const char *name)
{
    size_t *count = arg;

    (void)name;
    (*count)++;
}

/* No format file: a new store, unless a log is there already. */
static enum status check_is_new(struct store *store, struct error *err)
{
    size_t count = 0;

    if (store->vfs->list(store->vfs, store->log.dir, count_name, &count) != 0
        && errno != ENOENT) {
        return error_set(err, STATUS_IO, errno, "list %.300s", store->log.dir);
    }
    if (count > 0) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "%.300s has a log but no format file", store->dir);
    }
    return STATUS_OK;
}

static int write_block(struct store *store, const char *path,
                       const uint8_t *block)
{
    int fd = io_open(store->vfs, path, O_RDWR | O_CREAT | O_TRUNC);
    int result;
    int kept;

    if (fd < 0) {
        return -1;
    }
    result = io_write(store->vfs, fd, block, BLOCK_LEN, 0);
    if (result == 0) {
        result = io_sync(store->vfs, fd);
    }
    kept = errno;
    store->vfs->close(store->vfs, fd);
    errno = kept;
    return result;
}

static enum status write_format(struct store *store, uint64_t time_us,
                                struct error *err)
{
    uint8_t block[BLOCK_LEN] = { 0 };
    char made[PATH_LEN_MAX];
    char name[PATH_LEN_MAX];

    put_u64(block + AT_MAGIC, format_magic);
    put_u32(block + AT_VERSION, STORE_FORMAT_VERSION);
    put_u64(block + AT_STORE, store->log.store_id);
    put_u64(block + AT_TIME, time_us);
    block_close(block);
    path_in(store, "format.tmp", made);
    path_in(store, "format", name);
    if (write_block(store, made, block) != 0
        || store->vfs->rename(store->vfs, made, name) != 0) {
        int sys = errno;
        return error_set(err, status_of_errno(sys), sys, "write %.300s", name);
    }
    return sync_dir(store, store->dir, err);
}

static enum status new_format(struct store *store, uint64_t now_us,
                              struct error *err)
{
    if (getrandom(&store->log.store_id, sizeof store->log.store_id, 0)
        != (ssize_t)sizeof store->log.store_id) {
        return error_set(err, STATUS_IO, errno, "random store id");
    }
    return write_format(store, now_us, err);
}

/* Before anything is written in this version, so that no older build opens what
 * it would not understand. A full disk has the spare file for this. */
static enum status raise_format(struct store *store, uint64_t time_us,
                                struct error *err)
{
    enum status status = write_format(store, time_us, err);

    return status == STATUS_NO_SPACE && spare_release(store)
               ? write_format(store, time_us, err)
               : status;
}

static enum status read_format(struct store *store, const uint8_t *block,
                               struct error *err)
{
    bool damaged;
    const uint8_t *fields = block_read(block, &damaged);
    uint32_t version = get_u32(block + AT_VERSION);

    /* A newer version may close its block in another way. */
    if (get_u64(block + AT_MAGIC) == format_magic
        && version > STORE_FORMAT_VERSION && version < UINT16_MAX) {
        return error_set(err, STATUS_NEWER, 0,
                         "%.300s was written by a newer version: its format is "
                         "%u, this build reads up to %u; nothing was changed",
                         store->dir, version, (unsigned)STORE_FORMAT_VERSION);
    }
    if (fields == NULL || get_u64(fields + AT_MAGIC) != format_magic) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "%.300s/format is damaged or not a store's",
                         store->dir);
    }
    if (get_u32(fields + AT_VERSION) > STORE_FORMAT_VERSION) {
        return error_set(err, STATUS_NEWER, 0,
                         "%.300s was written by a newer version: its format is "
                         "%u, this build reads up to %u; nothing was changed",
                         store->dir, get_u32(fields + AT_VERSION),
                         (unsigned)STORE_FORMAT_VERSION);
    }
    store->log.store_id = get_u64(fields + AT_STORE);
    return get_u32(fields + AT_VERSION) == STORE_FORMAT_VERSION
               ? STATUS_OK
               : raise_format(store, get_u64(fields + AT_TIME), err);
}

static enum status open_format(struct store *store, uint64_t now_us,
                               struct error *err)
{
    uint8_t block[BLOCK_LEN] = { 0 };
    char path[PATH_LEN_MAX];
    ssize_t have;
    int fd;

    path_in(store, "format", path);
    fd = io_open(store->vfs, path, O_RDONLY);
    if (fd < 0 && errno == ENOENT) {
        enum status status = check_is_new(store, err);
        return status == STATUS_OK ? new_format(store, now_us, err) : status;
    }
    if (fd < 0) {
        int sys = errno;
        return error_set(err, status_of_errno(sys), sys, "open %.300s", path);
    }
    have = io_read(store->vfs, fd, block, sizeof block, 0);
    if (have < 0) {
        int sys = errno;
        store->vfs->close(store->vfs, fd);
        return error_set(err, STATUS_IO, sys, "read %.300s", path);
    }
    store->vfs->close(store->vfs, fd);
    return read_format(store, block, err);
}

/* ---- open and close ---- */

/* The file that a backup has and no store (offline/manifest.h). A start would
 * change the backup for good. When it cannot be told, what follows fails. */
static enum status refuse_backup(const struct store *store, struct error *err)
{
    char path[PATH_LEN_MAX];
    int fd;

    path_in(store, "backup", path);
    fd = io_open(store->vfs, path, O_RDONLY);
    if (fd < 0) {
        return STATUS_OK;
    }
    store->vfs->close(store->vfs, fd);
    return error_set(
        err, STATUS_INVALID, 0,
        "%.300s is a backup: make a data folder of it with `godwit "
        "restore`; nothing was changed",
        store->dir);
}

static enum status open_folder(struct store *store,
                               const struct store_config *config,
                               struct error *err)
{
    char parent[PATH_LEN_MAX];
    enum status status = refuse_backup(store, err);

    path_in(store, "..", parent);
    if (status == STATUS_OK) {
        status = make_dir(store, store->dir, err);
    }
    if (status == STATUS_OK) {
        status = take_lock(store, err);
    }
    if (status == STATUS_OK) {
        status = hold_open(store, err);
    }
    if (status == STATUS_OK) {
        status = open_format(store, config->now_us, err);
    }
    if (status == STATUS_OK) {
        status = make_dir(store, store->log.dir, err);
    }
    if (status == STATUS_OK) {
        status = sync_dir(store, store->dir, err);
    }
    if (status == STATUS_OK) {
        /* A parent that may not be read is no reason not to start. */
        (void)io_sync_dir(store->vfs, parent);
    }
    return status;
}

static struct store *store_new(const struct store_config *config)
{
    struct store *store = calloc(1, sizeof *store);
    uint64_t capacity =
        config->segment_len == 0 ? STORE_SEGMENT_LEN : config->segment_len;

    if (store == NULL) {
        return NULL;
    }
    capacity = capacity < SEGMENT_LEN_MIN ? SEGMENT_LEN_MIN : capacity;
    capacity = capacity > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX : capacity;
    store->capacity = (uint32_t)(capacity & ~(uint64_t)(BLOCK_LEN - 1));
    store->vfs = config->vfs == NULL ? vfs_system() : config->vfs;
    store->lock_fd = -1;
    store->log.vfs = store->vfs;
    snprintf(store->dir, sizeof store->dir, "%s", config->dir);
    path_in(store, "log", store->log.dir);
    pthread_mutex_init(&store->make_lock, NULL);
    views_init(&store->views);
    damages_init(&store->damages);
    scrub_init(&store->scrub);
    merge_init(&store->merge);
    atomic_store(&store->now_us, config->now_us);
    return store;
}

static void store_free(struct store *store)
{
    scrub_fini(store);
    merge_fini(store);
    keydir_close(store->keydir);
    keeper_fini(&store->keeper);
    seqset_fini(&store->gone);
    seqset_fini(&store->foreign);
    journal_fini(&store->journal);
    if (store->making != NULL) {
        pool_discard(store, store->making);
    }
    segment_free(atomic_load(&store->next), &store->log);
    log_fini(&store->log);
    if (store->lock_fd >= 0) {
        store->vfs->close(store->vfs, store->lock_fd);
    }
    pthread_mutex_destroy(&store->make_lock);
    views_fini(&store->views);
    damages_fini(&store->damages);
    free(store);
}

/* *again: the keydir turned out to be unusable; the next try makes a new one. */
static enum status open_once(struct store **out,
                             const struct store_config *config,
                             struct store_recovery *recovery, bool *again,
                             struct error *err)
{
    struct store *store = store_new(config);
    enum status status;

    *recovery = (struct store_recovery) { 0 };
    if (store == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "store");
    }
    status = open_folder(store, config, err);
    if (status == STATUS_OK
        && (journal_init(&store->journal, store->log.store_id) != STATUS_OK
            || keeper_init(&store->keeper, store->log.store_id) != STATUS_OK)) {
        status = error_set(err, STATUS_NOMEM, 0, "store");
    }
    if (status == STATUS_OK) {
        status = store_recover(store, config, recovery, err);
    }
    if (status != STATUS_OK) {
        *again = atomic_load(&store->keydir_doubtful);
        store_free(store);
        return status;
    }
    atomic_store(&store->figures.segments, recovery->segment_count);
    atomic_store(&store->figures.freed_bytes, 0); /* since open */
    *out = store;
    return STATUS_OK;
}

enum status store_open(struct store **out, const struct store_config *config,
                       struct store_recovery *recovery, struct error *err)
{
    struct store_recovery unused;
    enum status status;
    bool again = false;

    if (strlen(config->dir) > DIR_LEN_MAX) {
        return error_set(err, STATUS_INVALID, 0,
                         "the folder's name is longer "
                         "than %d bytes",
                         DIR_LEN_MAX);
    }
    recovery = recovery == NULL ? &unused : recovery;
    status = open_once(out, config, recovery, &again, err);
    if (status != STATUS_OK && again) {
        status = open_once(out, config, recovery, &again, err);
    }
    return status;
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    /* What fails here is found by the next start, which then is unclean. */
    if (store_sync(store, NULL) == STATUS_OK
        && keeper_catch_up(store, NULL) == STATUS_OK) {
        enum status status = keeper_checkpoint(store, CHECKPOINT_CLEAN, NULL);
        (void)status;
    }
    store_free(store);
}

/* ---- what a start needs ---- */

struct facts_walk {
    store_fact_fn fn;
    void *arg;
    enum catalog_class class;
    uint32_t last;
};

static void give_living(void *arg, const struct record_fact *fact)
{
    struct facts_walk *walk = arg;

    if (!fact->deleted) {
        walk->fn(walk->arg, fact);
    }
}

enum status store_each_fact(struct store *store, store_fact_fn fn, void *arg)
{
    struct facts_walk walk = { .fn = fn, .arg = arg };

    return keydir_each_fact(store->keydir, give_living, &walk);
}

static void note_id(void *arg, const struct record_fact *fact)
{
    struct facts_walk *walk = arg;

    if (fact->class == walk->class && fact->id > walk->last) {
        walk->last = fact->id;
    }
}

enum status store_last_id(struct store *store, enum catalog_class class,
                          uint32_t *out)
{
    struct facts_walk walk = { .class = class };
    enum status status = keydir_each_fact(store->keydir, note_id, &walk);

    if (status == STATUS_OK) {
        *out = walk.last;
    }
    return status;
}

struct lanes_walk {
    const struct keeper *keeper;
    store_lane_fn fn;
    void *arg;
};

/* What was deleted since the lane was written is left out of the retries and
 * the dead. The set's ranges are the walk's own, and gone after this. */
static void give_lane(void *arg, const struct store_lane *lane)
{
    const struct lanes_walk *walk = arg;
    uint64_t first_seq = keeper_first_seq(walk->keeper, lane->topic);
    struct store_lane kept = *lane;
    struct seqset dead = *lane->dead;

    while (kept.retry_count > 0 && kept.retries->seq < first_seq) {
        kept.retries++;
        kept.retry_count--;
    }
    seqset_drop_through(&dead, first_seq - 1);
    kept.dead = &dead;
    walk->fn(walk->arg, &kept);
}

enum status store_each_lane(struct store *store, store_lane_fn fn, void *arg)
{
    struct lanes_walk walk = { &store->keeper, fn, arg };

    return keydir_each_lane(store->keydir, give_lane, &walk);
}

enum status store_each_topic(struct store *store, store_topic_fn fn, void *arg)
{
    return keydir_each_topic(store->keydir, fn, arg);
}

/* ---- figures ---- */

void store_stats(const struct store *store, struct store_stats *out)
{
    const struct figures *f = &store->figures;

    *out = (struct store_stats) {
        .segments = atomic_load_explicit(&f->segments, memory_order_relaxed),
        .log_bytes = atomic_load_explicit(&f->log_bytes, memory_order_relaxed),
        .records = atomic_load_explicit(&f->records, memory_order_relaxed),
        .batches = atomic_load_explicit(&f->batches, memory_order_relaxed),
        .syncs = atomic_load_explicit(&f->syncs, memory_order_relaxed),
        .checkpoints =
            atomic_load_explicit(&f->checkpoints, memory_order_relaxed),
        .duplicates =
            atomic_load_explicit(&f->duplicates, memory_order_relaxed),
        .refused = atomic_load_explicit(&f->refused, memory_order_relaxed),
        .corrupt_reads =
            atomic_load_explicit(&f->corrupt_reads, memory_order_relaxed),
        .free_bytes =
            atomic_load_explicit(&f->free_bytes, memory_order_relaxed),
        .disk_bytes =
            atomic_load_explicit(&store->log.disk_bytes, memory_order_relaxed),
        .pool_segments =
            atomic_load_explicit(&f->pool_segments, memory_order_relaxed),
        .moved_bytes =
            atomic_load_explicit(&f->moved_bytes, memory_order_relaxed),
        .freed_bytes =
            atomic_load_explicit(&f->freed_bytes, memory_order_relaxed),
        .snapshots = atomic_load_explicit(&f->snapshots, memory_order_relaxed),
        .scrubbed_bytes =
            atomic_load_explicit(&f->scrubbed_bytes, memory_order_relaxed),
        .scrub_passes =
            atomic_load_explicit(&f->scrub_passes, memory_order_relaxed),
        .damaged_records =
            atomic_load_explicit(&f->damaged_records, memory_order_relaxed),
        .damaged_batches =
            atomic_load_explicit(&f->damaged_batches, memory_order_relaxed),
        .keydir_bytes =
            atomic_load_explicit(&f->keydir_bytes, memory_order_relaxed),
        .removal_waits = (enum store_wait)atomic_load_explicit(
            &store->merge.removal_waits, memory_order_relaxed),
        .removal_waits_us = atomic_load_explicit(&store->merge.removal_waits_us,
                                                 memory_order_relaxed),
    };
}
