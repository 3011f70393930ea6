/* Reads the whole log again and again, a bit at each call, and looks at every
 * byte that is durable: bits rot where nobody reads. Then the snapshot and the
 * values of the keydir. What is found goes to damage.c.
 *
 * The bytes come from the disk: the page cache is told to forget them first,
 * and pages that readers have mapped are given back (the next reader finds them
 * again). They go into memory of our own that has the segment's size but only
 * as many pages as one batch needs.
 *
 * The keeper's thread, which is also the one that removes segments: between two
 * calls a segment may be gone, during one it may not. */
#include "storage/examine.h"
#include "storage/internal.h"

#include "storage/io.h"
#include "storage/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

enum { SCRUB_CHUNK_LEN = 256 * 1024 };

struct scrubbing {
    struct store *store;
    const struct examine_visitor *visitor;
    struct store_scrub *out;
    enum status status;
};

static void leave(struct store *store)
{
    struct scrub *scrub = &store->scrub;

    if (scrub->memory != NULL) {
        munmap(scrub->memory, scrub->memory_len);
    }
    if (scrub->fd >= 0) {
        store->vfs->close(store->vfs, scrub->fd);
    }
    scrub->memory = NULL;
    scrub->fd = -1;
}

void scrub_init(struct scrub *scrub)
{
    *scrub = (struct scrub) { .fd = -1 };
}

void scrub_fini(struct store *store)
{
    leave(store);
    keydir_walk_close(store->scrub.walk);
    store->scrub.walk = NULL;
}

/* What was seen of a segment's end says nothing of the next one's begin. */
static void forget_links(struct scrub *scrub)
{
    scrub->examine.last = scrub->examine.unsealed = (struct examine_link) { 0 };
}

void scrub_forget(struct store *store, uint32_t id)
{
    if (store->scrub.memory != NULL && store->scrub.id == id) {
        leave(store);
        forget_links(&store->scrub);
    }
}

/* One past what is durable of a segment. */
static uint32_t durable_end(const struct store *store, struct segment *segment)
{
    uint64_t applied = store->keeper.applied.place;

    if (segment->header.id == place_segment(applied)) {
        return place_offset(applied);
    }
    return atomic_load_explicit(&segment->end, memory_order_acquire);
}

/* The first segment with an id of at least `id` that has something durable. */
static struct segment *segment_from(struct store *store, uint32_t id)
{
    uint32_t last = place_segment(store->keeper.applied.place);

    for (; id <= last; id++) {
        struct segment *segment = log_segment(&store->log, id);
        if (segment != NULL && segment->map != NULL
            && durable_end(store, segment) > SEGMENT_BEGIN) {
            return segment;
        }
    }
    return NULL;
}

/* Was the segment before this one looked at to its end, or has it grown since?
 * Only then is it known what the first batch here has to follow. */
static bool was_all(struct store *store, const struct examine *before)
{
    struct segment *segment = log_segment(&store->log, before->source.segment);

    return segment != NULL
           && durable_end(store, segment) == before->source.limit;
}

static enum status enter(struct scrubbing *s, struct segment *segment,
                         struct error *err)
{
    struct store *store = s->store;
    struct scrub *scrub = &store->scrub;
    uint32_t id = segment->header.id;
    uint32_t end = durable_end(store, segment);
    struct examine before = scrub->examine;
    char path[PATH_LEN_MAX];
    void *memory;

    scrub->memory_len = (size_t)end + BLOCK_LEN;
    memory = mmap(NULL, scrub->memory_len, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return error_set(err, STATUS_NOMEM, errno, "scrub: segment %u", id);
    }
    scrub->memory = memory;
    segment_path(&store->log, id, "seg", path);
    scrub->fd = io_open(store->vfs, path, O_RDONLY);
    if (scrub->fd < 0) {
        int sys = errno;
        leave(store);
        return error_set(err, status_of_errno(sys), sys,
                         "scrub: segment %u: open", id);
    }
    scrub->examine = (struct examine) {
        .source = { memory, end, id, store->log.store_id },
        .epoch = segment->header_lost ? 0 : segment->header.epoch,
        .at = SEGMENT_BEGIN,
    };
    if (id == scrub->id + 1 && was_all(store, &before)) {
        scrub->examine.last = before.last;
        scrub->examine.unsealed = before.unsealed;
    }
    scrub->id = id;
    scrub->forgotten = 0;
    return STATUS_OK;
}

/* Bytes that the disk does not give stay zeros, which is no batch. */
static void read_failed(struct scrubbing *s, uint32_t len, int sys,
                        struct error *err)
{
    const struct scrub *scrub = &s->store->scrub;
    struct store_damage damage = { .kind = DAMAGE_READ,
                                   .segment = scrub->id,
                                   .offset = scrub->examine.loaded,
                                   .len = len };

    (void)store_damage_note(s->store, &damage);
    s->status = error_set(err, STATUS_IO, sys, "scrub: segment %u: read at %u",
                          scrub->id, scrub->examine.loaded);
}

/* The page cache only forgets pages that nobody has mapped. */
static void forget_pages(struct store *store, const struct segment *segment,
                         uint32_t at, uint32_t len)
{
    size_t end = (size_t)at + len;

    if (end <= segment->map_len) {
        (void)madvise((void *)(segment->map + at), len, MADV_DONTNEED);
    }
    (void)store->vfs->drop_cache(store->vfs, store->scrub.fd, (off_t)at,
                                 (off_t)len);
}

/* Have more of the segment in memory. */
static void load(struct scrubbing *s, const struct segment *segment,
                 struct error *err)
{
    struct store *store = s->store;
    struct scrub *scrub = &store->scrub;
    struct examine *e = &scrub->examine;
    uint32_t at = e->loaded;
    uint32_t left = e->source.limit - at;
    uint32_t len = left < SCRUB_CHUNK_LEN ? left : SCRUB_CHUNK_LEN;
    ssize_t have;

    forget_pages(store, segment, at, len);
    have = io_read(store->vfs, scrub->fd, scrub->memory + at, len, (off_t)at);
    if (have < 0) {
        read_failed(s, len, errno, err);
    }
    if (at == 0) {
        examine_head(e, scrub->memory);
    }
    e->loaded += len;
    s->out->read += len;
    figure_add(&store->figures.scrubbed_bytes, len);
}

/* Give back the pages that are done with. */
static void forget_done(struct scrub *scrub)
{
    uint32_t done = scrub->examine.seeked & ~(uint32_t)(BLOCK_LEN - 1);

    if (done > scrub->forgotten) {
        (void)madvise(scrub->memory + scrub->forgotten, done - scrub->forgotten,
                      MADV_DONTNEED);
        scrub->forgotten = done;
    }
}

/* Go on in the segment that was begun. False: it is done with. */
static bool go_on(struct scrubbing *s, struct error *err)
{
    struct scrub *scrub = &s->store->scrub;
    struct segment *segment = log_segment(&s->store->log, scrub->id);

    if (segment == NULL) { /* removed meanwhile */
        forget_links(scrub);
        return false;
    }
    scrub->examine.visitor = s->visitor;
    while (s->out->read < s->out->budget && s->status == STATUS_OK) {
        switch (examine_next(&scrub->examine)) {
        case EXAMINE_BATCH:
            break;
        case EXAMINE_MORE:
            forget_done(scrub);
            load(s, segment, err);
            break;
        case EXAMINE_END:
            return false;
        }
    }
    return true;
}

static void on_damage(void *arg, const struct store_damage *damage)
{
    (void)store_damage_note(arg, damage);
}

static void scrub_log(struct scrubbing *s, struct error *err)
{
    struct store *store = s->store;
    struct scrub *scrub = &store->scrub;

    if (scrub->memory == NULL) {
        struct segment *next = segment_from(store, scrub->id + 1);
        if (next == NULL) {
            scrub->part = SCRUB_SNAPSHOT;
            return;
        }
        s->status = enter(s, next, err);
        if (s->status == STATUS_IO) {
            scrub->id = next->header.id;
        }
    }
    if (s->status == STATUS_OK && !go_on(s, err)) {
        leave(store);
    }
}

/* ---- the snapshot ---- */

static enum status ignore(void *arg, enum keydir_table table, struct slice key,
                          struct slice value)
{
    (void)arg;
    (void)table;
    (void)key;
    (void)value;
    return STATUS_OK;
}

static void forget_snapshot(struct store *store)
{
    char path[PATH_LEN_MAX];
    int fd;

    snprintf(path, sizeof path, "%.3900s/snapshot", store->dir);
    fd = io_open(store->vfs, path, O_RDONLY);
    if (fd >= 0) {
        (void)store->vfs->drop_cache(store->vfs, fd, 0, 0);
        store->vfs->close(store->vfs, fd);
    }
}

/* In one go: it is small beside the log. Another one is wanted whenever it is
 * damaged, also where the same was found before. */
static void scrub_snapshot(struct scrubbing *s, struct error *err)
{
    struct store *store = s->store;
    struct snapshot_visitor visitor = { .value = ignore };
    struct snapshot_head head = { 0 };
    struct seqset gone = { 0 };
    uint64_t damaged = 0;
    enum status status;

    forget_snapshot(store);
    status = snapshot_read(store->vfs, store->dir, store->log.store_id,
                           &visitor, &head, &gone, &damaged, err);
    seqset_fini(&gone);
    store->scrub.part = SCRUB_KEYDIR;
    s->out->read += head.len;
    figure_add(&store->figures.scrubbed_bytes, head.len);
    if (status == STATUS_CORRUPT || (status == STATUS_OK && damaged > 0)) {
        struct store_damage damage = { .kind = DAMAGE_SNAPSHOT,
                                       .offset = (uint32_t)head.number };
        (void)store_damage_note(store, &damage);
        atomic_store(&store->snapshot_wanted, true);
    } else if (status != STATUS_NOT_FOUND) {
        s->status = status;
    }
}

/* ---- the keydir ---- */

static void end_pass(struct scrubbing *s)
{
    struct store *store = s->store;

    scrub_fini(store);
    scrub_init(&store->scrub);
    figure_add(&store->figures.scrub_passes, 1);
    s->out->done = true;
}

static void keydir_damaged(struct store *store)
{
    struct store_damage damage = { .kind = DAMAGE_KEYDIR };

    (void)store_damage_note(store, &damage);
    store_doubt(store);
}

/* Each value's seal. The pages of the moment when it began stay for so long. */
static void scrub_keydir(struct scrubbing *s, struct error *err)
{
    struct store *store = s->store;
    struct scrub *scrub = &store->scrub;
    struct keydir_meta meta;
    enum status status = STATUS_OK;

    if (scrub->walk == NULL) {
        status = keydir_walk_open(&scrub->walk, store->keydir, &meta);
        scrub->table = META + 1;
    }
    while (status == STATUS_OK && s->out->read < s->out->budget
           && scrub->table < TABLE_COUNT) {
        struct slice key = { 0 };
        struct slice value = { 0 };
        status = keydir_walk_next(scrub->walk, (enum keydir_table)scrub->table,
                                  &key, &value);
        if (status == STATUS_NOT_FOUND) {
            scrub->table++;
            status = STATUS_OK;
        } else if (status == STATUS_CORRUPT && key.at != NULL) {
            keydir_damaged(store);
            status = STATUS_OK;
        }
        s->out->read += key.len + value.len;
        figure_add(&store->figures.scrubbed_bytes, key.len + value.len);
    }
    if (status == STATUS_CORRUPT || status == STATUS_IO) {
        keydir_damaged(store);
        s->status = error_set(err, status, 0, "scrub: keydir");
    }
    if (status != STATUS_OK || scrub->table == TABLE_COUNT) {
        end_pass(s);
    }
}

/* ---- the whole ---- */

enum status store_scrub(struct store *store, struct store_scrub *out,
                        struct error *err)
{
    struct examine_visitor visitor = { .damage = on_damage, .arg = store };
    struct scrubbing s = { .store = store, .visitor = &visitor, .out = out };

    out->read = 0;
    out->done = false;
    while (out->read < out->budget && s.status == STATUS_OK && !out->done) {
        switch (store->scrub.part) {
        case SCRUB_LOG:
            scrub_log(&s, err);
            break;
        case SCRUB_SNAPSHOT:
            scrub_snapshot(&s, err);
            break;
        case SCRUB_KEYDIR:
            scrub_keydir(&s, err);
            break;
        }
    }
    return s.status;
}
