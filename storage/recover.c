/* From files that a crash, a failed sync or a bad disk left behind to a store
 * that may append.
 *
 * 1. List the segments; open the keydir, or make it anew.
 * 2. A clean mark, and nothing after it: go on where the log ended.
 * 3. Else replay. Every segment but the last with batches was synced before the
 *    next one was written, so all in it was durable once: what is unreadable
 *    there is damage, counted and stepped over.
 * 4. In the last one a watermark parts what is known to have been durable (said
 *    by later batches, the keydir or the header) from the doubtful tail.
 * 5. The tail's whole batches are written again into a new segment with a new
 *    epoch, synced, named; its header says where the old one ends. What is torn
 *    after them was never confirmed and is cut.
 *
 * Files are read with pread into memory of our own after the page cache was
 * told to forget them: after a failed sync the cache may show what the disk
 * does not have, and a read error comes back as a code instead of a signal. A
 * read error ends the start: an error is no proof that the bytes are gone. */
#include "storage/recovery.h"

#include "storage/checksum.h"
#include "storage/io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- writing a doubtful tail again ---- */

/* Offsets in the index count from the segment's start: shift them. */
static void shift_index(uint8_t *index, const struct batch *batch,
                        uint32_t from, uint32_t to)
{
    uint8_t *at = index + BATCH_INDEX_HEAD_LEN;
    uint64_t entries = batch->visit_count;

    for (uint32_t i = 0; i < batch->run_count; i++, at += BATCH_RUN_LEN) {
        entries += get_u32(at + 4);
        put_u32(at + 16, get_u32(at + 16) - from + to);
    }
    for (uint64_t i = 0;
         i < entries && at + 4 <= index + batch->header.index_len;
         i++, at += 4) {
        put_u32(at, get_u32(at) - from + to);
    }
}

static enum status write_again(struct recovery *r, struct segment *segment,
                               uint32_t from, uint32_t to, struct log_end *end,
                               struct error *err)
{
    struct store *store = r->store;
    struct batch batch;
    struct batch_header header;
    uint8_t *bytes;
    int result;
    int sys;

    CHECK(recovery_batch_at(r, from, true, &batch));
    header = batch.header;
    /* In a copy: when there is no room for this segment another is tried. */
    bytes = malloc(header.len);
    if (bytes == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "segment %u: the tail",
                         segment->header.id);
    }
    memcpy(bytes, r->memory + from, header.len);
    shift_index(bytes + BATCH_HEADER_LEN + header.records_len, &batch, from,
                to);
    header.segment = segment->header.id;
    header.offset = to;
    header.epoch = segment->header.epoch;
    header.durable = segment->header.previous_end;
    header.previous = end->hash;
    header.number = end->number + 1;
    header.index_hash =
        checksum_seeded(bytes + BATCH_HEADER_LEN + header.records_len,
                        header.index_len, store->log.store_id);
    header.records_hash = batch_records_hash(&batch, store->log.store_id);
    batch_header_write(bytes, &header, store->log.store_id);
    result = io_write(store->vfs, segment->fd, bytes, header.len, to);
    sys = errno;
    free(bytes);
    if (result != 0) {
        return error_set(err, status_of_errno(sys), sys,
                         "segment %u: write the tail again",
                         segment->header.id);
    }
    end->place = place_of(segment->header.id, to + header.len);
    end->number = header.number;
    end->hash = header.hash;
    r->out->rescued_records += header.record_count;
    return STATUS_OK;
}

static enum status write_tail(struct recovery *r, struct segment *segment,
                              const struct tail *tail, struct error *err)
{
    struct log_end end = r->store->keeper.applied;
    uint32_t to = SEGMENT_BEGIN;

    for (size_t i = tail->first; i < tail->stop; i++) {
        enum status status =
            write_again(r, segment, r->batches[i].offset, to, &end, err);
        if (status != STATUS_OK) {
            return status;
        }
        to += r->batches[i].len;
    }
    atomic_store(&segment->end, to);
    return STATUS_OK;
}

/* Segments that were prepared and never used: gone before the new one is made,
 * so that it finds their space. */
static enum status remove_unused(struct recovery *r, struct error *err)
{
    struct store *store = r->store;

    while (r->found_count > r->last + 1) {
        struct found_segment *f = &r->found[r->found_count - 1];
        enum status status;
        if (f->segment == NULL || f->segment->header_lost) {
            break; /* not ours to remove */
        }
        status = store_recycle(store, f->segment, err);
        r->found_count--;
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* Of the pool, or a new one filled with zeros. */
static enum status make_segment(struct store *store, struct segment **out,
                                const struct segment_header *header,
                                struct error *err)
{
    enum status status = header->capacity > store->capacity
                             ? STATUS_NOT_FOUND
                             : pool_make(store, out, header, err);

    if (status != STATUS_NOT_FOUND) {
        return status;
    }
    status = segment_make(out, &store->log, header, err);
    if (status == STATUS_OK) {
        status = segment_zero(*out, &store->log, SEGMENT_BEGIN,
                              header->capacity - SEGMENT_BEGIN, err);
        if (status != STATUS_OK) {
            segment_discard(*out, &store->log);
        }
    }
    return status;
}

/* A segment with the tail in it. */
static enum status make_epoch(struct recovery *r,
                              const struct segment_header *header,
                              const struct tail *tail, struct error *err)
{
    struct store *store = r->store;
    struct segment *segment;
    enum status status = make_segment(store, &segment, header, err);

    if (status != STATUS_OK) {
        return status;
    }
    status = write_tail(r, segment, tail, err);
    if (status == STATUS_OK) {
        status = segment_publish(segment, &store->log, err);
    }
    if (status == STATUS_OK) {
        status = log_add(&store->log, segment);
        if (status != STATUS_OK) {
            error_set(err, status, 0, "segment %u", header->id);
        }
    }
    if (status != STATUS_OK) {
        pool_discard(store, segment);
        return status;
    }
    store->epoch = header->epoch;
    store->journal.active = segment;
    store->journal.offset = header->synced_end;
    return STATUS_OK;
}

/* The keeper looks at it for long rests; a full disk cannot wait. */
static bool is_nothing(const struct segment *segment, const struct log *log)
{
    struct rest rest = rest_of(segment, log);

    return rest_search(&rest, UINT32_MAX) == STATUS_OK && !rest.found;
}

/* Cut from the last segment what is no batch: it would be cut in the end. */
static void cut_last(struct recovery *r, const struct tail *tail)
{
    struct found_segment *f;

    if (r->found_count == 0) {
        return;
    }
    f = &r->found[r->last];
    if (f->segment == NULL || tail->keep < SEGMENT_BEGIN
        || f->file_len <= tail->keep
        || segment_hold(f->segment, &r->store->log, NULL) != STATUS_OK) {
        return;
    }
    if (is_nothing(f->segment, &r->store->log)
        && io_truncate(r->store->vfs, f->segment->fd, tail->keep) == 0) {
        f->file_len = tail->keep;
    }
    segment_let_go(f->segment, &r->store->log);
}

/* The disk is full: a segment as small as need be, so that at least acks can be
 * taken. Half of what is free stays for the keydir. */
static enum status make_small_epoch(struct recovery *r,
                                    struct segment_header *header,
                                    uint32_t need, const struct tail *tail,
                                    struct error *err)
{
    struct store *store = r->store;
    enum status status = STATUS_NO_SPACE;
    uint64_t half;

    cut_last(r, tail);
    half = store->vfs->free_bytes(store->vfs, store->dir) / 2;
    while (status == STATUS_NO_SPACE && header->capacity > need) {
        uint64_t capacity = header->capacity / 2;
        capacity = (capacity < half ? capacity : half) & ~(BLOCK_LEN - 1ULL);
        header->capacity = capacity < need ? need : (uint32_t)capacity;
        status = make_epoch(r, header, tail, err);
    }
    if (status == STATUS_NO_SPACE && spare_release(store)) {
        status = make_epoch(r, header, tail, err);
    }
    return status;
}

/* The segment of the new epoch. */
static enum status begin_epoch(struct recovery *r, const struct tail *tail,
                               uint64_t previous_end, struct error *err)
{
    struct store *store = r->store;
    uint64_t need = (uint64_t)SEGMENT_BEGIN + tail->len + SEGMENT_LEN_MIN;
    uint32_t before = place_segment(previous_end); /* that may be missing */
    struct segment_header header = {
        .epoch = r->epoch + 1,
        .time_us = r->config->now_us,
        .capacity = store->capacity,
        .previous_end = previous_end,
        .synced_end = SEGMENT_BEGIN + tail->len,
    };
    enum status status;

    if (r->found_count > 0 && r->found[r->found_count - 1].id > before) {
        before = r->found[r->found_count - 1].id;
    }
    if (header.capacity > FIRST_SEGMENT_LEN_MAX) {
        header.capacity = FIRST_SEGMENT_LEN_MAX;
    }
    if (header.capacity < need) {
        header.capacity = (uint32_t)need;
    }
    status = store_next_id(store, before, &header.id, err);
    if (status != STATUS_OK) {
        return status; /* no smaller one helps */
    }
    status = make_epoch(r, &header, tail, err);
    if (status == STATUS_NO_SPACE) {
        status = make_small_epoch(r, &header, (uint32_t)need, tail, err);
    }
    return status;
}

/* The rescued batches, from the new segment's own map. */
static enum status apply_rescued(struct recovery *r, struct error *err)
{
    struct store *store = r->store;
    struct segment *active = store->journal.active;
    struct batch_source source = segment_source(active, &store->log);
    uint32_t at = SEGMENT_BEGIN;

    while (at < source.limit) {
        struct batch batch;
        enum status status = batch_read(&source, at, &batch);
        uint64_t lost = 0;
        if (status == STATUS_OK) {
            status = keeper_apply_batch(store, &batch, TRUST_NOTHING, &lost);
        }
        if (status == STATUS_AGAIN) {
            status = keeper_checkpoint(store, CHECKPOINT_NOTES, err);
            if (status == STATUS_OK) {
                continue;
            }
        }
        if (status != STATUS_OK || lost != 0) {
            return error_set(err, status == STATUS_OK ? STATUS_IO : status, 0,
                             "segment %u: what was written again at %u does "
                             "not read back",
                             active->header.id, at);
        }
        at += batch.header.len;
    }
    return STATUS_OK;
}

/* ---- the table ---- */

/* Map it and let readers see it. Its end is what replay found, or for segments
 * the keydir covers the whole file. */
static enum status add_segment(struct recovery *r, size_t i, struct error *err)
{
    struct found_segment *f = &r->found[i];
    enum status status;

    if (f->segment == NULL || f->in_table) {
        return STATUS_OK;
    }
    if (atomic_load(&f->segment->end) > f->file_len) {
        recovery_set_end(f, (uint32_t)f->file_len);
    }
    if (f->file_len > 0) {
        size_t len = f->file_len > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX
                                                   : (size_t)f->file_len;
        status = segment_hold(f->segment, &r->store->log, err);
        if (status == STATUS_OK) {
            status = segment_map(f->segment, &r->store->log, len, err);
        }
        segment_let_go(f->segment, &r->store->log);
        if (status != STATUS_OK) {
            return status;
        }
    }
    status = log_add(&r->store->log, f->segment);
    if (status != STATUS_OK) {
        return error_set(err, status, 0, "segment %u", f->id);
    }
    f->in_table = true;
    return STATUS_OK;
}

static enum status add_segments(struct recovery *r, struct error *err)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; i < r->found_count && status == STATUS_OK; i++) {
        status = add_segment(r, i, err);
    }
    return status;
}

/* ---- the keydir ---- */

static void keydir_path(const struct store *store, char path[PATH_LEN_MAX])
{
    snprintf(path, PATH_LEN_MAX, "%.4000s/keydir", store->dir);
}

static struct found_segment *find_segment(struct recovery *r, uint32_t id)
{
    for (size_t i = 0; i < r->found_count; i++) {
        if (r->found[i].id == id) {
            return &r->found[i];
        }
    }
    return NULL;
}

/* The keydir is written after the log was synced, so a place that the log does
 * not have means that the log has lost something. The keydir still knows what
 * is acked and which seqs are used: it is kept. */
static void look_at_place(struct recovery *r, uint64_t place)
{
    const struct found_segment *f = find_segment(r, place_segment(place));
    uint32_t last = r->found[r->found_count - 1].id;
    uint32_t id = place_segment(place);

    if (f == NULL || f->segment == NULL) {
        r->log_short = true;
        r->out->missing_segments += id > last ? id - last : 0;
    } else if (place_offset(place) > f->file_len) {
        r->log_short = true;
        r->out->damaged_batches++;
        r->out->damaged_bytes += place_offset(place) - f->file_len;
    }
}

static bool is_place(uint64_t place)
{
    return place_segment(place) != 0 && place_segment(place) <= SEGMENT_ID_MAX
           && place_offset(place) >= SEGMENT_BEGIN
           && place_offset(place) <= SEGMENT_LEN_MAX
           && place_offset(place) % BATCH_ALIGN == 0;
}

/* Write what stands there already, before it is checked: LMDB looks at its list
 * of free pages, and at some fields of its pages, only when it writes. */
static enum status try_commit(struct store *store,
                              const struct keydir_meta *meta, struct error *err)
{
    enum status status = keydir_begin(store->keydir);

    if (status != STATUS_OK) {
        return error_set(err, status, 0, "keydir: begin");
    }
    keydir_put_meta(store->keydir, meta);
    status = keydir_commit(store->keydir, err);
    return status == STATUS_NO_SPACE ? STATUS_OK : status;
}

/* LMDB syncs the file and not its name, without which the next start would have
 * to read the whole log. */
static enum status name_keydir(struct store *store, const char *path,
                               struct error *err)
{
    if (io_sync_dir(store->vfs, path) != 0
        || io_sync_dir(store->vfs, store->dir) != 0) {
        return error_set(err, STATUS_IO, errno, "keydir: sync the folder");
    }
    return STATUS_OK;
}

static enum status open_keydir(struct recovery *r, bool create,
                               struct keydir_meta *meta, struct error *err)
{
    struct store *store = r->store;
    uint64_t len_max = r->config->keydir_len_max;
    char path[PATH_LEN_MAX];
    enum status status;

    keydir_path(store, path);
    if (create) {
        doubt_insist(store);
        keydir_close(store->keydir);
        store->keydir = NULL;
        /* The mark of doubt first: a keydir that is cut short while it is made
         * can kill the next start in LMDB. */
        (void)io_sync_dir(store->vfs, store->dir);
        status = keydir_delete(path, err);
        if (status != STATUS_OK) {
            return status;
        }
        /* It must not come back: it may know a place that is moved now. A
         * folder that is not there yet has nothing to come back. */
        (void)io_sync_dir(store->vfs, path);
    }
    status = keydir_open(&store->keydir, path,
                         len_max == 0 ? STORE_KEYDIR_LEN_MAX : len_max,
                         store->log.store_id, create, meta, err);
    if (status != STATUS_OK || create) {
        return status == STATUS_OK ? name_keydir(store, path, err) : status;
    }
    store->keeper.applied =
        (struct log_end) { meta->place, meta->number, meta->hash };
    store->keeper.known = meta->known;
    status = try_commit(store, meta, err);
    if (status == STATUS_OK) {
        status = keydir_check(store->keydir, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = keeper_load(store);
    return status == STATUS_OK ? status
                               : error_set(err, status, 0, "keydir: load");
}

static enum status new_keydir(struct recovery *r, struct keydir_meta *meta,
                              struct error *err)
{
    struct store *store = r->store;
    enum status status;

    keeper_fini(&store->keeper);
    if (keeper_init(&store->keeper, store->log.store_id) != STATUS_OK) {
        return error_set(err, STATUS_NOMEM, 0, "keeper");
    }
    r->out->keydir_rebuilt = r->found_count > 0;
    status = open_keydir(r, true, meta, err);
    if (status == STATUS_OK) {
        status = recovery_load_snapshot(r, meta, err);
    }
    if (status == STATUS_OK && is_place(r->known)) {
        look_at_place(r, r->known);
    }
    return status;
}

static enum status choose_keydir(struct recovery *r, bool doubtful,
                                 struct keydir_meta *meta, struct error *err)
{
    enum status status =
        doubtful ? STATUS_CORRUPT : open_keydir(r, false, meta, err);

    if (status == STATUS_OK && r->found_count == 0
        && meta->place > place_of(1, SEGMENT_BEGIN)) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "the log is gone: the keydir knows %u segments",
                         place_segment(meta->place));
    }
    if (r->found_count == 0 && r->has_snapshot) {
        return error_set(err, STATUS_CORRUPT, 0,
                         "the log is gone: the snapshot knows %u segments",
                         place_segment(r->snapshot.place));
    }
    if (status == STATUS_OK && meta->place < r->snapshot.place) {
        status = STATUS_CORRUPT; /* older than the snapshot, somehow */
    }
    if (status == STATUS_OK && r->found_count > 0 && is_place(meta->place)) {
        look_at_place(r, meta->place);
        return STATUS_OK;
    }
    if (status != STATUS_OK && status != STATUS_CORRUPT
        && status != STATUS_NOT_FOUND) {
        return status;
    }
    return new_keydir(r, meta, err);
}

/* The keydir as it is, or a new one when there is any doubt. Whoever dies in
 * between leaves the mark of doubt. */
static enum status have_keydir(struct recovery *r, struct keydir_meta *meta,
                               struct error *err)
{
    struct store *store = r->store;
    bool doubtful = doubt_found(store);
    enum status status;

    doubt_begin(store);
    status = choose_keydir(r, doubtful, meta, err);
    if (!store->keeper.given.wanted) {
        doubt_clear(store); /* else when the log was read */
    }
    return status;
}

/* ---- putting it together ---- */

/* Index of the last segment with a batch in it, or made by a recovery, or
 * covered by the keydir: those after it were prepared and never used. */
static enum status find_last(struct recovery *r, uint64_t place,
                             struct error *err)
{
    for (size_t i = r->found_count; i-- > 0;) {
        struct found_segment *f = &r->found[i];
        struct batch batch;
        enum status status;
        if (f->segment == NULL) {
            continue;
        }
        r->last = i;
        if (f->id <= place_segment(place)
            || f->segment->header.previous_end != 0) {
            return STATUS_OK;
        }
        status = recovery_load(r, f, SEGMENT_BEGIN, false, err);
        if (status != STATUS_OK
            || recovery_find_batch(r, SEGMENT_BEGIN, &batch)) {
            return status;
        }
    }
    return STATUS_OK;
}

static bool is_sealed(struct recovery *r, uint32_t from)
{
    struct batch batch;

    while (recovery_find_batch(r, from, &batch)) {
        if (batch.header.kind == BATCH_SEAL) {
            return true;
        }
        from = batch.header.offset + batch.header.len;
    }
    return false;
}

/* Behind a seal the next segment was about to be used. That nothing is found
 * where it begins may be the disk's fault: all of it is looked at. */
static enum status look_behind_seal(struct recovery *r, uint64_t place,
                                    struct error *err)
{
    struct found_segment *f = &r->found[r->last];
    uint64_t begin = place_of(f->id, SEGMENT_BEGIN);
    uint32_t from = place_offset(place > begin ? place : begin);
    struct batch batch;
    enum status status;

    if (r->last + 1 == r->found_count || f->id < place_segment(place)
        || f[1].segment->header_lost) {
        return STATUS_OK;
    }
    status = recovery_load(r, f, from, false, err);
    if (status != STATUS_OK || !is_sealed(r, from)) {
        return status;
    }
    f[1].whole = true;
    status = recovery_load(r, f + 1, SEGMENT_BEGIN, true, err);
    if (status == STATUS_OK && recovery_find_batch(r, SEGMENT_BEGIN, &batch)) {
        r->last++;
    }
    return status;
}

static enum status start_anew(struct recovery *r, struct error *err)
{
    struct tail none = { 0 };
    enum status status = begin_epoch(r, &none, 0, err);

    r->out->fresh = true;
    r->out->clean = true;
    return status;
}

static enum status recover_unclean(struct recovery *r, uint64_t place,
                                   struct error *err)
{
    uint64_t known = place < r->known ? r->known : place;
    struct found_segment *last;
    struct tail tail = { 0 };
    enum status status = recovery_replay(r, place, &tail, err);
    uint64_t end;

    if (status != STATUS_OK) {
        return status;
    }
    last = &r->found[r->last];
    end = place_of(last->id, tail.end);
    end = end < known ? known : end; /* what was there is gone */
    if (r->store->keeper.applied.place < r->known) {
        r->store->keeper.applied =
            (struct log_end) { r->known, r->snapshot.number, r->snapshot.hash };
    }
    status = remove_unused(r, err);
    if (status == STATUS_OK) {
        status = add_segments(r, err);
    }
    if (status == STATUS_OK) {
        status = begin_epoch(r, &tail, end, err);
    }
    if (status == STATUS_OK) {
        status = apply_rescued(r, err);
    }
    return status;
}

/* ---- after a clean end ---- */

/* A segment that was prepared for later, unused, can serve as that. */
static bool is_prepared(struct recovery *r, const struct found_segment *f,
                        const struct segment *before)
{
    uint32_t id;

    if (f->segment == NULL
        || segment_hold(f->segment, &r->store->log, NULL) != STATUS_OK) {
        return false;
    }
    return !f->segment->header_lost
           && store_next_id(r->store, before->header.id, &id, NULL) == STATUS_OK
           && f->id == id && f->segment->header.epoch == before->header.epoch
           && f->segment->header.previous_end == 0
           && f->file_len == f->segment->header.capacity
           && recovery_untouched(r, f, SEGMENT_BEGIN);
}

static bool ends_at(struct recovery *r, const struct found_segment *f,
                    uint32_t offset)
{
    if (f->segment == NULL
        || segment_hold(f->segment, &r->store->log, NULL) != STATUS_OK) {
        return false;
    }
    return !f->segment->header_lost
           && f->file_len == f->segment->header.capacity
           && f->file_len - offset > SEGMENT_BEGIN
           && recovery_untouched(r, f, offset);
}

/* The log ends where the clean mark says, in a segment that has room: go on
 * there. *done stays false when anything looks otherwise. */
static enum status go_on(struct recovery *r, uint64_t place, bool *done,
                         struct error *err)
{
    struct store *store = r->store;
    struct found_segment *f = find_segment(r, place_segment(place));
    size_t i = (size_t)(f - r->found);
    size_t after = r->found_count - 1 - i;
    enum status status;

    if (!ends_at(r, f, place_offset(place)) || after > 1
        || (after == 1 && !is_prepared(r, f + 1, f->segment))) {
        return STATUS_OK;
    }
    for (size_t k = 0; k < i; k++) {
        recovery_end_covered(r, k);
    }
    recovery_set_end(f, place_offset(place));
    if (after == 1) {
        status =
            segment_map(f[1].segment, &store->log, (size_t)f[1].file_len, err);
        if (status != STATUS_OK) {
            return status;
        }
        atomic_store(&store->next, f[1].segment);
        f[1].in_table = true; /* the store owns it now */
        r->found_count--;
    }
    status = add_segments(r, err);
    if (status == STATUS_OK) {
        status = segment_hold(f->segment, &store->log, err);
    }
    if (status == STATUS_OK) {
        store->epoch = f->segment->header.epoch;
        store->journal.active = f->segment;
        store->journal.offset = place_offset(place);
        r->out->clean = true;
        *done = true;
    }
    return status;
}

/* ---- the whole ---- */

static enum status bring_up(struct recovery *r, struct keydir_meta *meta,
                            struct error *err)
{
    enum status status;
    bool done = false;

    if (r->found_count == 0) {
        return start_anew(r, err);
    }
    if (meta->clean && r->out->damaged_bytes == 0 && !r->log_short) {
        status = go_on(r, meta->place, &done, err);
        if (status != STATUS_OK || done) {
            return status;
        }
    }
    status = find_last(r, meta->place < r->known ? r->known : meta->place, err);
    if (status == STATUS_OK) {
        status = look_behind_seal(r, meta->place, err);
    }
    if (status == STATUS_OK) {
        status = recover_unclean(r, meta->place, err);
        /* Closed properly, with no room left in its segment. */
        r->out->clean = meta->clean && !r->log_short
                        && r->out->replayed_bytes == 0
                        && r->out->torn_bytes == 0;
    }
    return status;
}

/* What an unclean end left behind is always cut; much of it takes a while, so
 * that is left to the keeper's first turns. Sealed segments are as long as they
 * were made, see prepare.c. */
static bool worth_a_trim(const struct recovery *r, size_t i)
{
    const struct found_segment *f = &r->found[i];
    uint32_t end;

    if (f->segment == NULL || f->segment == r->store->journal.active
        || f->segment->header_lost) {
        return false;
    }
    end = atomic_load(&f->segment->end);
    return f->file_len > end
           && (i == r->last || f->file_len - end > BATCH_LEN_MAX);
}

static void cut_ends(struct recovery *r)
{
    struct store *store = r->store;

    store->keeper.let_go_through = store->journal.active->header.id - 1;
    for (size_t i = r->found_count; i-- > 0;) {
        struct found_segment *f = &r->found[i];

        if (!worth_a_trim(r, i)) {
            continue;
        }
        if (f->file_len - atomic_load(&f->segment->end) > BATCH_LEN_MAX) {
            store->keeper.let_go_through = f->id - 1;
        } else {
            /* Only gives space back: no reason not to start. */
            enum status trimmed = segment_trim(f->segment, &store->log, NULL);
            (void)trimmed;
        }
    }
}

/* From here on journal and keeper agree on where the log ends. */
static enum status settle(struct recovery *r, struct error *err)
{
    struct store *store = r->store;
    struct journal *journal = &store->journal;
    enum status status;

    store->keeper.applied.place =
        place_of(journal->active->header.id, journal->offset);
    journal->end = store->keeper.applied;
    journal->durable = journal->end.place;
    atomic_store(&journal->active->end, journal->offset);
    atomic_store(&store->active_id, journal->active->header.id);
    doubt_set(store); /* LMDB may still find its free pages damaged */
    status = keeper_checkpoint(store, CHECKPOINT_MARK, err);
    if (!atomic_load(&store->keydir_doubtful)) {
        doubt_clear(store);
        /* Should it come back, the next start would read the whole log. */
        (void)io_sync_dir(store->vfs, store->dir);
    }
    given_fini(&store->keeper.given);
    if (status == STATUS_OK) {
        status = keeper_teach(store);
        if (status != STATUS_OK) {
            error_set(err, status, 0, "what the log holds");
        }
    }
    if (status == STATUS_OK) {
        cut_ends(r);
    }
    atomic_store(&store->figures.free_bytes,
                 store->vfs->free_bytes(store->vfs, store->dir));
    spare_make(store);
    return status;
}

static void recovery_fini(struct recovery *r)
{
    for (size_t i = 0; i < r->found_count; i++) {
        if (!r->found[i].in_table) {
            segment_free(r->found[i].segment, &r->store->log);
        }
    }
    recovery_unload(r);
    free(r->found);
    free(r->batches);
}

enum status store_recover(struct store *store,
                          const struct store_config *config,
                          struct store_recovery *out, struct error *err)
{
    struct recovery r = { .store = store, .config = config, .out = out };
    struct keydir_meta meta = { 0 };
    enum status status = recovery_read_snapshot(&r, err);

    if (status == STATUS_OK) {
        status = recovery_list(&r, err);
    }
    if (status == STATUS_OK) {
        status = recovery_end_removals(&r, err);
    }
    if (status == STATUS_OK) {
        status = recovery_open_segments(&r, err);
    }
    if (status == STATUS_OK) {
        status = have_keydir(&r, &meta, err);
    }
    if (status == STATUS_OK) {
        status = recovery_count_missing(&r, err);
    }
    if (status == STATUS_OK) {
        status = bring_up(&r, &meta, err);
    }
    if (status == STATUS_OK) {
        status = settle(&r, err);
    }
    out->segment_count = r.found_count;
    if (store->journal.active != NULL
        && find_segment(&r, store->journal.active->header.id) == NULL) {
        out->segment_count++;
    }
    recovery_fini(&r);
    return status;
}
