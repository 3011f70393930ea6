/* links: godwit_storage */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* How much the pool may take of a disk. What becomes of its files is in
 * test_recycle.c. */
#include "storage/internal.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

enum { TOPIC = 1, SEGMENT_LEN = 64 * 1024, TEXT_LEN = 8000, FULL = 3 };

static struct harness h;
static uint64_t disk_free; /* what the disk says */

static uint64_t said_free(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    (void)path;
    return disk_free;
}

static uint64_t pool_segments(void)
{
    struct store_stats stats;

    store_stats(h.store, &stats);
    return stats.pool_segments;
}

/* Until the log goes on in another segment: the id of the one that is full. */
static uint32_t fill_segment(void)
{
    uint32_t id = h.store->journal.active->header.id;
    struct store_commit commit = { .segment = id };
    char text[TEXT_LEN + 1] = { 0 };

    memset(text, 'x', TEXT_LEN);
    while (commit.segment == id) {
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
        add_message(&h, TOPIC, text);
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
        cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
        cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
        cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
    }
    return id;
}

Test(pool, is_at_most_a_quarter_of_what_is_free)
{
    struct vfs vfs = *vfs_system();
    uint32_t ids[FULL];

    vfs.free_bytes = said_free;
    disk_free = UINT64_C(4) * FULL * SEGMENT_LEN;
    harness_init(&h);
    h.config.segment_len = SEGMENT_LEN;
    h.config.vfs = &vfs;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    for (size_t i = 0; i < FULL; i++) {
        ids[i] = fill_segment();
    }
    for (size_t i = 0; i < FULL; i++) {
        harness_remove_segment(&h, ids[i]);
    }
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    cr_assert(eq(u64, pool_segments(), FULL - 1), "one is the next segment");
    disk_free = UINT64_C(4) * (FULL - 1) * SEGMENT_LEN;
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    cr_assert(eq(u64, pool_segments(), FULL - 1));
    disk_free--;
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    cr_assert(eq(u64, pool_segments(), FULL - 2));
    harness_fini(&h);
}
