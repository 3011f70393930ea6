/* The files of the log as a start finds them: listed and opened. */
#include "storage/recovery.h"

#include "storage/io.h"

#include <errno.h>
#include <stdlib.h>

enum { NAME_DIGITS = 10 };

/* ---- listing ---- */

/* "0000000012.seg": its id, 0 when it is no such name. */
static uint32_t id_of_name(const char *name, const char *ending)
{
    uint64_t id = 0;

    for (int i = 0; i < NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return 0;
        }
        id = id * 10 + (uint64_t)(name[i] - '0');
    }
    if (strcmp(name + NAME_DIGITS, ending) != 0 || id > SEGMENT_ID_MAX) {
        return 0;
    }
    return (uint32_t)id;
}

static void remove_file(struct store *store, uint32_t id, const char *ending)
{
    char path[PATH_LEN_MAX];

    segment_path(&store->log, id, ending, path);
    (void)store->vfs->unlink(store->vfs, path);
}

/* Unfinished ones are of no use. Where space is plenty they only get out of the
 * way: to give back as much as they have takes longer than all of a start, and
 * the keeper can do it. */
static void on_unfinished(struct store *store, uint32_t id)
{
    char path[PATH_LEN_MAX];
    char old[PATH_LEN_MAX];

    segment_path(&store->log, id, "tmp", path);
    segment_path(&store->log, id, "old", old);
    if (store->vfs->free_bytes(store->vfs, store->dir) < 2 * store->capacity
        || store->vfs->rename(store->vfs, path, old) != 0
        || !store_note_old(store, id)) {
        remove_file(store, id, "tmp");
        remove_file(store, id, "old");
    }
}

static void on_name(void *arg, const char *name)
{
    struct recovery *r = arg;
    uint32_t made = id_of_name(name, ".tmp");
    uint32_t old = id_of_name(name, ".old");
    uint32_t pooled = id_of_name(name, ".pool");
    uint32_t id = id_of_name(name, ".seg");

    if (made != 0) {
        on_unfinished(r->store, made);
    }
    if (old != 0 && !store_note_old(r->store, old)) {
        remove_file(r->store, old, "old");
    }
    if (pooled != 0) {
        pool_found(r->store, pooled, &r->epoch);
    }
    if (id == 0 || r->status != STATUS_OK) {
        return;
    }
    if (r->found_count == r->found_capacity) {
        size_t capacity = r->found_capacity == 0 ? 16 : r->found_capacity * 2;
        void *found = realloc(r->found, capacity * sizeof *r->found);
        if (found == NULL) {
            r->status = STATUS_NOMEM;
            return;
        }
        r->found = found;
        r->found_capacity = capacity;
    }
    r->found[r->found_count++] = (struct found_segment) { .id = id };
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = ((const struct found_segment *)a)->id;
    uint32_t y = ((const struct found_segment *)b)->id;

    return (x > y) - (x < y);
}

enum status recovery_list(struct recovery *r, struct error *err)
{
    const struct store *store = r->store;

    if (store->vfs->list(store->vfs, store->log.dir, on_name, r) != 0) {
        return error_set(err, STATUS_IO, errno, "list %.200s", store->log.dir);
    }
    if (r->status != STATUS_OK) {
        return error_set(err, r->status, 0, "list %.200s", store->log.dir);
    }
    if (r->found_count > 0) {
        qsort(r->found, r->found_count, sizeof *r->found, by_id);
    }
    return STATUS_OK;
}

/* Left alone, and reported; the log goes round its name. */
static enum status note_foreign(struct recovery *r, uint32_t id,
                                struct error *err)
{
    r->out->missing_segments++;
    return seqset_add(&r->store->foreign, id, id, NULL) == STATUS_OK
               ? STATUS_OK
               : error_set(err, STATUS_NOMEM, 0, "list of segments");
}

/* The last ones may only be named like segments: files without a whole head,
 * and with no batch. Their ids do not count. (One alone is all of the log.) */
static enum status leave_strangers(struct recovery *r, struct error *err)
{
    while (r->found_count > 1) {
        struct found_segment *f = &r->found[r->found_count - 1];
        struct batch batch;
        enum status status;

        if (!f->segment->header_lost) {
            return STATUS_OK;
        }
        status = recovery_load(r, f, SEGMENT_BEGIN, true, err);
        if (status != STATUS_OK
            || recovery_find_batch(r, SEGMENT_BEGIN, &batch)) {
            return status;
        }
        recovery_unload(r);
        log_disk(&r->store->log, -(int64_t)f->file_len);
        segment_free(f->segment, &r->store->log);
        r->found_count--;
        r->out->damaged_bytes -= BLOCK_LEN;
        status = note_foreign(r, f->id, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status recovery_open_segments(struct recovery *r, struct error *err)
{
    size_t count = r->found_count;

    r->found_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct found_segment *f = &r->found[r->found_count];
        bool damaged = false;
        enum status status;

        *f = r->found[i];
        status = segment_open(&f->segment, &r->store->log, f->id, &f->file_len,
                              &damaged, err);
        if (status == STATUS_CORRUPT) {
            status = note_foreign(r, f->id, err);
            if (status == STATUS_OK) {
                continue;
            }
        }
        if (status != STATUS_OK) {
            return status;
        }
        r->found_count++;
        if (damaged) {
            r->out->damaged_bytes += BLOCK_LEN;
        }
        segment_let_go(f->segment, &r->store->log);
        log_disk(&r->store->log, (int64_t)f->file_len);
        if (f->segment->header.epoch > r->epoch) {
            r->epoch = f->segment->header.epoch;
        }
    }
    return leave_strangers(r, err);
}
