/* What a start has to know of segments that a merge removed: the snapshot and
 * its list of them. Removals that a crash broke off are ended, what is missing
 * is told from what is gone, and a keydir that is made again begins with what
 * the snapshot says. */
#include "storage/recovery.h"

#include "storage/io.h"

#include <errno.h>
#include <stdio.h>

/* Ids at or behind the snapshot's own place cannot have been removed. */
static bool is_gone(const struct recovery *r, uint32_t id)
{
    return seqset_has(&r->store->gone, id)
           && id < place_segment(r->snapshot.place);
}

enum status recovery_read_snapshot(struct recovery *r, struct error *err)
{
    struct store *store = r->store;
    char path[PATH_LEN_MAX];
    uint64_t damaged = 0;
    enum status status =
        snapshot_read(store->vfs, store->dir, store->log.store_id, NULL,
                      &r->snapshot, &store->gone, &damaged, err);

    snprintf(path, sizeof path, "%.3900s/snapshot.tmp", store->dir);
    if (status != STATUS_NEWER) {
        (void)store->vfs->unlink(store->vfs, path);
    }
    r->has_snapshot = status == STATUS_OK;
    r->snapshot_whole = status == STATUS_OK && damaged == 0;
    if (status == STATUS_NOT_FOUND || status == STATUS_CORRUPT) {
        r->snapshot = (struct snapshot_head) { 0 };
        seqset_clear(&store->gone);
        r->out->damaged_batches += status == STATUS_CORRUPT;
        return STATUS_OK;
    }
    r->out->damaged_batches += damaged;
    return status;
}

/* Its head may say where the one before ends. STATUS_CORRUPT: it is foreign. */
static enum status pass_on_end(struct recovery *r, uint32_t id,
                               struct error *err)
{
    struct log *log = &r->store->log;
    struct segment *segment = NULL;
    uint64_t len;
    uint64_t cut;
    bool damaged;
    enum status status = segment_open(&segment, log, id, &len, &damaged, err);

    if (status == STATUS_OK) {
        status = segment_pass_on_end(segment, log, &cut, err);
        segment_free(segment, log);
    }
    return status;
}

enum status recovery_end_removals(struct recovery *r, struct error *err)
{
    struct store *store = r->store;
    size_t kept = 0;

    for (size_t i = 0; i < r->found_count; i++) {
        char path[PATH_LEN_MAX];
        enum status status;
        if (!is_gone(r, r->found[i].id)) {
            r->found[kept++] = r->found[i];
            continue;
        }
        status = pass_on_end(r, r->found[i].id, err);
        if (status == STATUS_CORRUPT) {
            r->found[kept++] = r->found[i];
            continue;
        }
        if (status != STATUS_OK) {
            return status;
        }
        segment_path(&store->log, r->found[i].id, "seg", path);
        if (store->vfs->unlink(store->vfs, path) != 0) {
            return error_set(err, STATUS_IO, errno, "segment %u: remove",
                             r->found[i].id);
        }
    }
    if (kept < r->found_count && io_sync_dir(store->vfs, store->log.dir) != 0) {
        return error_set(err, STATUS_IO, errno, "sync %.200s", store->log.dir);
    }
    r->found_count = kept;
    return STATUS_OK;
}

/* ---- what is missing ---- */

/* Not on the disk: is that as it should be? A keydir that was not made again
 * knows each segment that was not removed. */
static enum status look_at_hole(struct recovery *r, uint32_t id)
{
    struct store *store = r->store;

    if (is_gone(r, id) || seqset_has(&store->foreign, id)) {
        return STATUS_OK; /* the latter are counted already */
    }
    if (r->out->keydir_rebuilt
        || tally_find(&store->keeper.tally, id) != NULL) {
        r->out->missing_segments++;
        return STATUS_OK;
    }
    return seqset_add(&store->gone, id, id, NULL);
}

/* A removal that was broken off may have left its tally. */
static enum status forget_tallies(struct recovery *r)
{
    struct keeper *keeper = &r->store->keeper;

    for (size_t i = keeper->tally.count; i-- > 0;) {
        uint32_t id = keeper->tally.segments[i].id;
        if (is_gone(r, id)) {
            if (seqset_add(&keeper->untold, id, id, NULL) != STATUS_OK) {
                return STATUS_NOMEM;
            }
            tally_drop(&keeper->tally, id);
        }
    }
    return STATUS_OK;
}

/* A segment that the keydir covers and tallies nothing of is one whose removal
 * was broken off, with the snapshot lost that named it: nothing is needed of it.
 */
static enum status tally_forgotten(struct recovery *r, uint64_t place)
{
    for (size_t i = 0; i < r->found_count; i++) {
        uint32_t id = r->found[i].id;
        struct keeper *keeper = &r->store->keeper;
        struct tally_entry *entry;
        if (id >= place_segment(place) || r->found[i].segment == NULL
            || tally_find(&keeper->tally, id) != NULL) {
            continue;
        }
        entry = tally_at(&keeper->tally, id, 0);
        if (entry == NULL) {
            return STATUS_NOMEM;
        }
        tally_message(entry, r->found[i].file_len, 0);
    }
    return STATUS_OK;
}

enum status recovery_count_missing(struct recovery *r, struct error *err)
{
    uint32_t id = 1;
    bool holes = false;

    if (forget_tallies(r) != STATUS_OK
        || tally_forgotten(r, r->store->keeper.applied.place) != STATUS_OK) {
        return error_set(err, STATUS_NOMEM, 0, "list of segments");
    }
    for (size_t i = 0; i < r->found_count; i++) {
        for (; id < r->found[i].id; id++) {
            holes = true;
            if (look_at_hole(r, id) != STATUS_OK) {
                return error_set(err, STATUS_NOMEM, 0, "list of segments");
            }
        }
        id = r->found[i].id + 1;
    }
    if (holes && !r->snapshot_whole) {
        atomic_store(&r->store->snapshot_wanted, true);
    }
    return STATUS_OK;
}

/* ---- a keydir made again ---- */

struct putting {
    struct store *store;
    enum status status;
};

static void put_fact(void *arg, const struct record_fact *fact)
{
    struct putting *p = arg;

    /* a deleted one has its keys removed again */
    keydir_put_fact(p->store->keydir, fact);
    p->status = given_fact(&p->store->keeper.given, fact);
}

static void put_lane(void *arg, const struct store_lane *lane)
{
    struct putting *p = arg;

    p->status = given_lane(&p->store->keeper.given, lane->group, lane->topic);
}

static enum status put_value(void *arg, enum keydir_table table,
                             struct slice key, struct slice value)
{
    struct recovery *r = arg;
    struct putting p = { .store = r->store };
    struct keydir_visitor visitor = { .fact = put_fact,
                                      .lane = put_lane,
                                      .arg = &p };
    enum status status = STATUS_OK;

    if (table == FACTS || table == LANES) {
        status = keydir_decode(table, key, value, &visitor);
    }
    if (table != FACTS) {
        keydir_put_raw(r->store->keydir, table, key, value);
    }
    return status == STATUS_OK ? p.status : status;
}

/* When entries are damaged what the log still has of those is noted; where it
 * only adds, of all. Whoever dies before that is through leaves the mark of
 * doubt, since nobody would know any more what came from where. */
enum status recovery_load_snapshot(struct recovery *r, struct keydir_meta *meta,
                                   struct error *err)
{
    struct store *store = r->store;
    struct snapshot_visitor visitor = { .value = put_value, .arg = r };
    struct snapshot_head head;
    uint64_t damaged = 0;
    enum status status;

    if (!r->has_snapshot) {
        return STATUS_OK;
    }
    status = keydir_begin(store->keydir);
    if (status != STATUS_OK) {
        return error_set(err, status, 0, "keydir: begin");
    }
    status = snapshot_read(store->vfs, store->dir, store->log.store_id,
                           &visitor, &head, &store->gone, &damaged, err);
    if (status != STATUS_OK) {
        keydir_abort(store->keydir);
        return status == STATUS_NOT_FOUND ? STATUS_IO : status;
    }
    r->known = head.place;
    r->snapshot_whole = damaged == 0;
    r->out->damaged_batches += damaged;
    meta->known = head.place;
    keydir_put_meta(store->keydir, meta);
    status = keydir_commit(store->keydir, err);
    store->keeper.known = meta->known;
    store->keeper.given.wanted = damaged != 0;
    return status == STATUS_OK ? keeper_load(store) : status;
}
