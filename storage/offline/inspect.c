/* A pass over a whole data folder:
 *
 *   format file -> snapshot (what removed segments said, up to its place)
 *               -> each segment, in order of id, batch by batch
 *               -> the end of the last one: durable, doubtful, torn */
#include "storage/offline/inspect.h"

#include "storage/offline/books.h"
#include "storage/examine.h"
#include "storage/offline/inspect_impl.h"
#include "storage/io.h"
#include "storage/rest.h"
#include "storage/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_DIGITS = 10 };

/* ---- what is found on the way ---- */

/* Ids behind the snapshot's own place cannot have been removed. */
static bool is_gone(const struct inspect_pass *p, uint64_t id)
{
    return id < place_segment(p->place) && seqset_has(&p->gone, id);
}

/* The first failure ends the walk. */
static void fail(struct inspect_pass *p, enum status status)
{
    if (p->status == STATUS_OK && status != STATUS_OK) {
        p->status = status;
    }
}

static void count_damage(struct inspect_totals *totals,
                         const struct store_damage *damage)
{
    totals->damages++;
    totals->damaged_bytes += damage->len;
    switch (damage->kind) {
    case DAMAGE_MESSAGE:
        totals->damaged_messages++;
        break;
    case DAMAGE_RECORD:
        totals->damaged_records++;
        break;
    case DAMAGE_BATCH:
    case DAMAGE_CHAIN:
        totals->damaged_batches++;
        break;
    case DAMAGE_READ:
        totals->unreadable_bytes += damage->len;
        break;
    case DAMAGE_HEAD:
    case DAMAGE_INDEX:
    case DAMAGE_PADDING:
    case DAMAGE_SNAPSHOT:
    case DAMAGE_KEYDIR:
        break;
    }
}

void inspect_damage(struct inspect_pass *p, const struct store_damage *damage)
{
    count_damage(p->totals, damage);
    p->segment.damages++;
    if (damage->kind == DAMAGE_MESSAGE && damage->seq != 0) {
        fail(p, books_damaged(p->books, damage->topic, damage->seq));
    }
    if (p->visitor->damage != NULL) {
        p->visitor->damage(p->visitor->arg, damage);
    }
}

static void on_damage(void *arg, const struct store_damage *damage)
{
    inspect_damage(arg, damage);
}

static void tell_record(struct inspect_pass *p, const struct batch *batch,
                        const struct record *record, uint32_t offset)
{
    bool message = record->kind == RECORD_MESSAGE;
    struct inspect_record out = {
        .record = *record,
        .segment = batch->header.segment,
        .offset = offset,
        .batch = batch->header.number,
        .hash = record_hash_at(batch->base + offset),
        .moved = message && batch->header.kind == BATCH_MERGE,
        .deleted =
            message && books_deleted(p->books, record->topic, record->seq),
    };

    if (p->visitor->record != NULL && p->status == STATUS_OK
        && !p->visitor->record(p->visitor->arg, &out)) {
        p->status = STATUS_CLOSED;
    }
}

static void on_record(void *arg, const struct batch *batch,
                      const struct record *record, uint32_t offset)
{
    struct inspect_pass *p = arg;
    uint64_t place = place_of(batch->header.segment, batch->header.offset);
    enum status status;

    if (p->status != STATUS_OK) {
        return;
    }
    status = books_record(p->books, record,
                          place < p->known ? p->old_news : BOOKS_ALL);
    if (status == STATUS_CORRUPT) { /* ids out of all bounds */
        inspect_damage(p, &(struct store_damage) {
                              .kind = DAMAGE_RECORD,
                              .segment = batch->header.segment,
                              .offset = offset,
                              .len = (uint32_t)record_size(record->body.len) });
        return;
    }
    fail(p, status);
    p->segment.records++;
    if (record->kind == RECORD_MESSAGE) {
        p->segment.messages++;
        p->segment.moved += batch->header.kind == BATCH_MERGE;
    }
    tell_record(p, batch, record, offset);
}

static void on_batch(void *arg, const struct batch *batch)
{
    struct inspect_pass *p = arg;

    p->newest_us = batch->header.time_us;
    p->segment.batches++;
}

/* ---- the folder ---- */

/* 0: it does not begin with an id. */
static uint32_t id_of_any_name(const char *name)
{
    uint64_t id = 0;

    for (int i = 0; i < NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return 0;
        }
        id = id * 10 + (uint64_t)(name[i] - '0');
    }
    return name[NAME_DIGITS] == '.' && id <= SEGMENT_ID_MAX ? (uint32_t)id : 0;
}

static uint32_t id_of_name(const char *name)
{
    uint32_t id = id_of_any_name(name);

    return id != 0 && strcmp(name + NAME_DIGITS, ".seg") == 0 ? id : 0;
}

static void on_name(void *arg, const char *name)
{
    struct inspect_pass *p = arg;
    uint32_t id = id_of_name(name);

    if (id != 0 && !is_gone(p, id)) {
        fail(p, seqset_add(&p->ids, id, id, NULL));
    }
}

/* The file is of another store, or no segment at all. */
static bool is_stranger(struct inspect_pass *p, uint32_t id)
{
    struct segment *file = NULL;
    uint64_t len;
    bool damaged;
    bool stranger =
        segment_open(&file, p->log, id, &len, &damaged, NULL) == STATUS_CORRUPT;

    segment_free(file, p->log);
    return stranger;
}

/* Files behind the last segment that are only named like one: their ids do not
 * count. */
static void leave_strangers(struct inspect_pass *p)
{
    for (size_t i = seqset_range_count(&p->ids); i-- > 0;) {
        const struct seq_range *range = &seqset_ranges(&p->ids)[i];
        for (uint64_t id = range->last; id >= range->first; id--) {
            if (!is_stranger(p, (uint32_t)id)) {
                p->last_id = (uint32_t)id;
                return;
            }
            p->totals->missing_segments++;
            p->totals->foreign_files++;
        }
    }
}

/* Ids count up from 1 without holes, and the log reaches as far as the snapshot
 * does; a store has a first segment as soon as it is one. */
static void count_missing(struct inspect_pass *p)
{
    uint64_t last = p->last_id == 0 ? 1 : p->last_id;

    if (last < place_segment(p->place)) {
        last = place_segment(p->place);
    }
    for (uint64_t id = 1; id <= last; id++) {
        p->totals->missing_segments +=
            !seqset_has(&p->ids, id) && !is_gone(p, id);
    }
}

static enum status list(struct inspect_pass *p, struct error *err)
{
    const struct vfs *vfs = &p->inspect->vfs;

    if (vfs->list(vfs, p->log->dir, on_name, p) != 0 && errno != ENOENT) {
        return error_set(err, STATUS_IO, errno, "list %.200s", p->log->dir);
    }
    leave_strangers(p);
    count_missing(p);
    return p->status;
}

/* The next file of the log after `id` that can be opened; NULL: none is left. */
static enum status open_after(struct inspect_pass *p, uint32_t id,
                              struct segment **out, uint64_t *file_len,
                              struct error *err)
{
    *out = NULL;
    for (id++; id <= p->last_id; id++) {
        bool damaged;
        enum status status;
        if (!seqset_has(&p->ids, id)) {
            continue;
        }
        status = segment_open(out, p->log, id, file_len, &damaged, err);
        if (status == STATUS_OK || status == STATUS_NEWER
            || status == STATUS_NOMEM) {
            return status;
        }
        *out = NULL;
        p->totals->missing_segments++;
        if (status == STATUS_CORRUPT) {
            p->totals->foreign_files++;
        } else {
            inspect_damage(p, &(struct store_damage) { .kind = DAMAGE_READ,
                                                       .segment = id });
        }
    }
    return STATUS_OK;
}

/* Was anything ever written to it? Those behind the last were only prepared. */
static enum status has_batches(struct inspect_pass *p, struct segment *file,
                               uint64_t file_len, bool *out, struct error *err)
{
    struct tide tide;
    enum status status;

    if (file->header.id <= place_segment(p->place)
        || (!file->header_lost && file->header.previous_end != 0)) {
        *out = true;
        return STATUS_OK;
    }
    p->file = file;
    status = inspect_tide(
        p, file_len > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX : (uint32_t)file_len,
        &tide, err);
    *out = tide.any || p->unread;
    return status;
}

/* Is it the last one that matters? One that does not open may be. */
static enum status is_last(struct inspect_pass *p, uint32_t id, bool *out,
                           struct error *err)
{
    struct segment *file = NULL;
    uint64_t file_len;
    bool damaged;
    enum status status =
        segment_open(&file, p->log, id, &file_len, &damaged, err);

    if (status == STATUS_OK) {
        status = has_batches(p, file, file_len, out, err);
        segment_free(file, p->log);
        return status;
    }
    *out = status != STATUS_CORRUPT; /* else it is foreign */
    return STATUS_OK;
}

/* The id of the last segment with something in it; of the first if none has. */
static enum status find_last(struct inspect_pass *p, uint32_t *last,
                             struct error *err)
{
    uint32_t id = p->last_id;
    enum status status = STATUS_OK;
    bool found = false;

    for (*last = id; id > 0 && !found && status == STATUS_OK; id--) {
        if (seqset_has(&p->ids, id)) {
            status = is_last(p, id, &found, err);
            *last = id;
        }
    }
    return status;
}

/* ---- the whole ---- */

static void end_segment(struct inspect_pass *p)
{
    struct inspect_totals *totals = p->totals;

    totals->segments++;
    totals->batches += p->segment.batches;
    totals->records += p->segment.records;
    totals->messages += p->segment.messages;
    totals->moved += p->segment.moved;
    if (p->visitor->segment != NULL && p->status == STATUS_OK) {
        p->visitor->segment(p->visitor->arg, &p->segment);
    }
    p->done_bytes += p->segment.file_len;
    if (p->visitor->progress != NULL) {
        p->visitor->progress(p->visitor->arg, p->done_bytes, p->total_bytes);
    }
}

/* What stands behind the end that the next one's head gave it. */
static void look_behind(struct inspect_pass *p, uint32_t end, uint32_t len)
{
    const struct segment_header *h = &p->file->header;
    struct rest rest = { .vfs = &p->inspect->vfs,
                         .fd = p->file->fd,
                         .store_id = p->log->store_id,
                         .segment = h->id,
                         .epoch = h->epoch,
                         .end = end,
                         .at = end,
                         .len = len };
    enum status status =
        p->file->header_lost ? STATUS_OK : rest_search(&rest, UINT32_MAX);

    if (status == STATUS_IO) {
        inspect_damage(p, &(struct store_damage) { .kind = DAMAGE_READ,
                                                   .segment = h->id,
                                                   .offset = rest.at });
    } else {
        fail(p, status);
    }
    if (rest.found) {
        inspect_damage(p, &(struct store_damage) { .kind = DAMAGE_BATCH,
                                                   .segment = h->id,
                                                   .offset = rest.offset,
                                                   .len = rest.batch_len });
    }
}

/* `next`: the one behind it says where it ends when a recovery made it. */
static enum status walk_segment(struct inspect_pass *p, uint64_t file_len,
                                const struct segment *next, bool last,
                                struct error *err)
{
    const struct segment_header *h = &p->file->header;
    uint32_t len =
        file_len > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX : (uint32_t)file_len;
    uint32_t limit = len;
    enum status status;

    p->segment = (struct inspect_segment) {
        .id = h->id,
        .epoch = p->file->header_lost ? 0 : h->epoch,
        .made_us = h->time_us,
        .file_len = file_len,
    };
    if (next != NULL && place_segment(next->header.previous_end) == h->id
        && place_offset(next->header.previous_end) < limit) {
        limit = place_offset(next->header.previous_end);
    }
    status =
        last ? inspect_last(p, limit, err) : inspect_durable(p, limit, err);
    if (status == STATUS_OK && limit < len) {
        look_behind(p, limit, len);
    }
    if (status == STATUS_OK) {
        end_segment(p);
    }
    return p->status == STATUS_OK ? status : p->status;
}

struct later {
    uint32_t than;
    bool any;
};

static void on_later(void *arg, const char *name)
{
    struct later *later = arg;

    later->any = later->any || id_of_any_name(name) > later->than;
}

/* A segment that is sealed has another one behind it, since before it was
 * sealed. It may have come since the folder was listed; and when a crash left
 * it without a batch, the next start makes it a file of the pool. */
static enum status look_behind_seal(struct inspect_pass *p, struct error *err)
{
    const struct vfs *vfs = &p->inspect->vfs;
    struct later later = { .than = p->segment.id };

    if (vfs->list(vfs, p->log->dir, on_later, &later) != 0) {
        return error_set(err, STATUS_IO, errno, "list %.200s", p->log->dir);
    }
    p->totals->missing_segments += !later.any;
    return STATUS_OK;
}

static enum status walk_segments(struct inspect_pass *p, uint32_t last,
                                 struct error *err)
{
    struct segment *next = NULL;
    uint64_t next_len = 0;
    uint32_t before = 0;
    enum status status = open_after(p, 0, &next, &next_len, err);

    while (status == STATUS_OK && next != NULL && next->header.id <= last) {
        uint64_t len = next_len;
        p->file = next;
        next = NULL;
        if (p->file->header.id != before + 1) { /* what was between is gone */
            p->last = p->unsealed = (struct examine_link) { 0 };
        }
        before = p->file->header.id;
        status = open_after(p, before, &next, &next_len, err);
        if (status == STATUS_OK) {
            status = walk_segment(p, len, next, before == last, err);
        }
        segment_free(p->file, p->log);
    }
    segment_free(next, p->log);
    if (status == STATUS_OK && before == p->last_id && p->segment.sealed) {
        status = look_behind_seal(p, err);
    }
    return status;
}

/* ---- the snapshot ---- */

static void on_topic(void *arg, const struct store_topic *topic)
{
    struct inspect_pass *p = arg;

    fail(p, books_topic(p->books, topic));
}

static void on_lane(void *arg, const struct store_lane *lane)
{
    struct inspect_pass *p = arg;

    fail(p, books_lane(p->books, lane));
}

static void on_fact(void *arg, const struct record_fact *fact)
{
    struct inspect_pass *p = arg;

    fail(p, books_fact(p->books, fact));
}

static enum status on_value(void *arg, enum keydir_table table,
                            struct slice key, struct slice value)
{
    struct inspect_pass *p = arg;
    struct keydir_visitor visitor = {
        .topic = on_topic, .lane = on_lane, .fact = on_fact, .arg = p
    };
    enum status status = keydir_decode(table, key, value, &visitor);

    if (status == STATUS_OK) {
        status = p->status;
    }
    if (status != STATUS_CORRUPT) {
        return status;
    }
    p->totals->snapshot_damages++; /* whole, and makes no sense */
    p->status = STATUS_OK;
    return STATUS_OK;
}

static void snapshot_damaged(struct inspect_pass *p)
{
    p->totals->snapshot_damaged = true;
    inspect_damage(p, &(struct store_damage) { .kind = DAMAGE_SNAPSHOT });
}

/* Without it the segments that are left are all there is. */
static enum status read_snapshot(struct inspect_pass *p, struct error *err)
{
    struct snapshot_visitor visitor = { .value = on_value, .arg = p };
    struct snapshot_head head = { 0 };
    uint64_t damaged = 0;
    enum status status =
        snapshot_read(&p->inspect->vfs, p->inspect->dir, p->log->store_id,
                      &visitor, &head, &p->gone, &damaged, err);

    if (status == STATUS_NOT_FOUND) {
        return STATUS_OK;
    }
    p->totals->snapshot = true;
    if (status == STATUS_CORRUPT) {
        snapshot_damaged(p);
        return STATUS_OK;
    }
    p->place = p->known = head.place;
    p->totals->snapshot_damages += damaged;
    if (p->totals->snapshot_damages > 0) {
        p->old_news = BOOKS_MISSING;
        snapshot_damaged(p);
    }
    return status;
}

/* ---- totals ---- */

static void add_topic(void *arg, const struct inspect_topic *topic)
{
    struct inspect_totals *totals = arg;

    if (topic->gone) {
        return;
    }
    totals->topics++;
    totals->published += topic->published;
    totals->present += topic->present;
    totals->deleted += topic->deleted;
    totals->missing += topic->missing;
    totals->unbalanced +=
        topic->published != topic->present + topic->deleted + topic->missing;
}

static void add_lane(void *arg, const struct inspect_lane *lane)
{
    struct inspect_totals *totals = arg;

    totals->lanes++;
    totals->unsettled += lane->unsettled;
    totals->dead += lane->dead;
    totals->unbalanced += !lane->balanced;
}

static enum status add_up(struct inspect_pass *p)
{
    const struct books *books = p->books;

    for (size_t id = 0; id < books->fact_counts[CATALOG_GROUP]; id++) {
        p->totals->groups += books->facts[CATALOG_GROUP][id].known
                             && !books->facts[CATALOG_GROUP][id].fact.deleted;
    }
    books_each_topic(books, add_topic, p->totals);
    return books_each_lane(books, add_lane, p->totals);
}

static void on_len(void *arg, const char *name)
{
    struct inspect_pass *p = arg;
    uint32_t id = id_of_name(name);
    char path[PATH_LEN_MAX];
    int fd;

    if (id == 0) {
        return;
    }
    segment_path(p->log, id, "seg", path);
    fd = io_open(&p->inspect->vfs, path, O_RDONLY);
    if (fd >= 0) {
        off_t len = p->inspect->vfs.size(&p->inspect->vfs, fd);
        p->total_bytes += len < 0 ? 0 : (uint64_t)len;
        p->inspect->vfs.close(&p->inspect->vfs, fd);
    }
}

enum status inspect_pass(struct inspect *inspect, struct books *books,
                         const struct inspect_visitor *visitor,
                         struct inspect_totals *totals, struct error *err)
{
    struct inspect_pass p = { .inspect = inspect,
                              .log = &inspect->log,
                              .books = books,
                              .visitor = visitor,
                              .totals = totals };
    enum status status;
    uint32_t last = 0;

    p.examined =
        (struct examine_visitor) { on_batch, on_record, on_damage, &p };
    *totals = (struct inspect_totals) { 0 };
    if (inspect->format_damaged) {
        inspect_damage(&p, &(struct store_damage) { .kind = DAMAGE_HEAD,
                                                    .len = BLOCK_LEN });
    }
    status = read_snapshot(&p, err);
    if (status == STATUS_OK) {
        status = list(&p, err);
    }
    if (status == STATUS_OK && visitor->progress != NULL) {
        (void)inspect->vfs.list(&inspect->vfs, p.log->dir, on_len, &p);
    }
    if (status == STATUS_OK) {
        status = find_last(&p, &last, err);
    }
    if (status == STATUS_OK) {
        status = walk_segments(&p, last, err);
    }
    if (status == STATUS_OK) {
        status = add_up(&p);
    }
    inspect_unload(&p);
    seqset_fini(&p.ids);
    seqset_fini(&p.gone);
    return status;
}

enum status inspect_walk(struct inspect *inspect,
                         const struct inspect_visitor *visitor,
                         struct inspect_totals *out, struct error *err)
{
    books_fini(&inspect->books);
    return inspect_pass(inspect, &inspect->books, visitor, out, err);
}

/* ---- what came out of it ---- */

void inspect_each_fact(const struct inspect *inspect, store_fact_fn fn,
                       void *arg)
{
    const struct books *books = &inspect->books;

    for (size_t class = 0; class < BOOKS_CLASSES; class ++) {
        for (size_t id = 0; id < books->fact_counts[class]; id++) {
            if (books->facts[class][id].known) {
                fn(arg, &books->facts[class][id].fact);
            }
        }
    }
}

struct slice inspect_name(const struct inspect *inspect,
                          enum catalog_class class, uint32_t id)
{
    return books_name(&inspect->books, class, id);
}

uint32_t inspect_id(const struct inspect *inspect, enum catalog_class class,
                    struct slice name)
{
    const struct books *books = &inspect->books;
    uint32_t found = 0;

    for (uint32_t id = 1; id < books->fact_counts[class]; id++) {
        const struct books_fact *f = &books->facts[class][id];
        if (f->known && slice_equal(f->fact.name, name)
            && (found == 0 || !f->fact.deleted
                || books_gone(books, class, found))) {
            found = id;
        }
    }
    return found;
}

void inspect_each_topic(const struct inspect *inspect, inspect_topic_fn fn,
                        void *arg)
{
    books_each_topic(&inspect->books, fn, arg);
}

enum status inspect_each_lane(const struct inspect *inspect, inspect_lane_fn fn,
                              void *arg)
{
    return books_each_lane(&inspect->books, fn, arg);
}
