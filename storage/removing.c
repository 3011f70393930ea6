/* The end of segments that nothing is needed of: a snapshot says what else they
 * said and names them, then they leave the table, and when no view can be
 * reading them any more their files are removed or used again. */
#include "storage/merge.h"

#include "storage/internal.h"

#include "storage/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

/* ---- the snapshot ---- */

static enum status begin_snapshot(struct store *store, struct error *err)
{
    struct merge *merge = &store->merge;
    struct seqset gone = { 0 };
    enum status status = STATUS_OK;

    for (size_t i = 0; i < seqset_range_count(&store->gone); i++) {
        const struct seq_range *range = &seqset_ranges(&store->gone)[i];
        if (status == STATUS_OK) {
            status = seqset_add(&gone, range->first, range->last, NULL);
        }
    }
    for (size_t i = 0; i < merge->done_count && status == STATUS_OK; i++) {
        status = seqset_add(&gone, merge->done[i], merge->done[i], NULL);
    }
    if (status == STATUS_OK) {
        /* Taken back now: what is found damaged while it is written counts
         * again. */
        atomic_store_explicit(&store->snapshot_wanted, false,
                              memory_order_relaxed);
        status = snapshot_begin(&merge->writer, store->vfs, store->dir,
                                store->keydir, &gone, err);
        merge->named = true;
    }
    seqset_fini(&gone);
    return status;
}

static void end_snapshot(struct merge *merge)
{
    snapshot_end(merge->writer);
    merge->writer = NULL;
}

static enum status note_gone(struct store *store)
{
    struct merge *merge = &store->merge;
    enum status status = STATUS_OK;

    for (size_t i = 0; i < merge->done_count && status == STATUS_OK; i++) {
        status = seqset_add(&store->gone, merge->done[i], merge->done[i], NULL);
    }
    return status;
}

/* Before their files go: what the keydir tallies and is not on the disk counts
 * as missing. Without memory or space it is told later. */
static enum status leave_tally(struct store *store, struct error *err)
{
    struct merge *merge = &store->merge;
    struct keeper *keeper = &store->keeper;
    enum status status;

    for (size_t i = 0; i < merge->done_count; i++) {
        tally_drop(&keeper->tally, merge->done[i]);
        if (seqset_add(&keeper->untold, merge->done[i], merge->done[i], NULL)
            != STATUS_OK) {
            return STATUS_OK;
        }
    }
    status = merge->done_count == 0
                 ? STATUS_OK
                 : keeper_checkpoint(store, CHECKPOINT_MARK, err);
    return status == STATUS_NO_SPACE ? STATUS_OK : status;
}

enum status snapshot_stage(struct store *store, bool *done, struct error *err)
{
    struct merge *merge = &store->merge;
    enum status status = STATUS_OK;

    *done = false;
    if (merge->writer == NULL) {
        status = begin_snapshot(store, err);
    }
    if (status == STATUS_OK) {
        status = snapshot_step(merge->writer, MERGE_SNAPSHOT_STEP, done,
                               &merge->snapshot_len, err);
    }
    if (status == STATUS_OK && *done) {
        status = note_gone(store);
        figure_add(&store->figures.snapshots, 1);
    }
    if (status == STATUS_OK && *done) {
        status = leave_tally(store, err);
    }
    if (status != STATUS_OK || *done) {
        end_snapshot(merge);
    }
    if (status != STATUS_OK) {
        atomic_store_explicit(&store->snapshot_wanted, true,
                              memory_order_relaxed);
    }
    return status;
}

/* ---- nobody reads them ---- */

static void close_hold(struct store *store)
{
    struct merge *merge = &store->merge;

    if (merge->hold_fd >= 0) {
        store->vfs->close(store->vfs, merge->hold_fd);
        merge->hold_fd = -1;
    }
}

static enum status open_hold(struct store *store, struct error *err)
{
    char path[PATH_LEN_MAX];

    close_hold(store);
    snprintf(path, sizeof path, "%.3900s/store.hold", store->dir);
    store->merge.hold_fd = io_open(store->vfs, path, O_RDWR | O_CREAT);
    if (store->merge.hold_fd < 0) {
        int sys = errno;
        return error_set(err, status_of_errno(sys), sys, "open %.200s", path);
    }
    return STATUS_OK;
}

enum status hold_open(struct store *store, struct error *err)
{
    enum status status = open_hold(store, err);

    return status == STATUS_NO_SPACE ? STATUS_OK : status;
}

/* A backup locks what has the name now. */
static bool has_name(int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink > 0;
}

/* A backup that copies the files holds this lock shared meanwhile: then it is
 * STATUS_AGAIN. */
static enum status take_hold(struct store *store, struct error *err)
{
    enum status status = STATUS_OK;

    if (!has_name(store->merge.hold_fd)) {
        status = open_hold(store, err);
    }
    if (status != STATUS_OK
        || flock(store->merge.hold_fd, LOCK_EX | LOCK_NB) == 0) {
        return status;
    }
    if (errno == EWOULDBLOCK || errno == EINTR) {
        return STATUS_AGAIN;
    }
    return error_set(err, errno == ENOLCK ? STATUS_NOMEM : STATUS_IO, errno,
                     "lock %.200s/store.hold", store->dir);
}

static void let_go(struct store *store)
{
    if (store->merge.hold_fd >= 0) {
        (void)flock(store->merge.hold_fd, LOCK_UN);
    }
}

enum status hold_stage(struct store *store, bool *done, struct error *err)
{
    struct merge *merge = &store->merge;
    enum status status;

    *done = false;
    merge->waits_for = STORE_WAIT_READER;
    for (size_t i = 0; i < merge->done_count; i++) {
        if (!store_retire_ready(store, merge->done[i])) {
            return STATUS_OK;
        }
    }
    status = take_hold(store, err);
    if (status == STATUS_AGAIN) {
        merge->waits_for = STORE_WAIT_HOLD;
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < merge->done_count; i++) {
        merge->retiring[i] =
            store_retire_begin(store, merge->done[i], &merge->epoch);
    }
    *done = true;
    return STATUS_OK;
}

enum status empty_stage(struct store *store, bool *done)
{
    store->merge.waits_for = STORE_WAIT_READER;
    *done = store_retire_rested(store, store->merge.epoch);
    return STATUS_OK;
}

/* ---- their files ---- */

enum status unmap_stage(struct store *store, bool *done, struct error *err)
{
    struct merge *merge = &store->merge;
    size_t last = merge->done_count;
    enum status status = STATUS_OK;

    *done = last == 0;
    if (*done) {
        let_go(store);
        merge->done_len = 0;
        return STATUS_OK;
    }
    merge->done_count = --last;
    if (merge->retiring[last] != NULL) {
        status = store_recycle(store, merge->retiring[last], err);
        merge->retiring[last] = NULL;
    }
    return status;
}

/* ---- the whole ---- */

void merge_init(struct merge *merge)
{
    *merge = (struct merge) { .hold_fd = -1 };
}

void merge_fini(struct store *store)
{
    struct merge *merge = &store->merge;

    end_snapshot(merge);
    close_hold(store);
    for (size_t i = 0; i < MERGE_DONE_MAX; i++) {
        segment_free(merge->retiring[i], &store->log);
    }
    seqset_fini(&merge->unreadable);
    trims_fini(&merge->trims);
    keeping_fini(&merge->keeping);
}
