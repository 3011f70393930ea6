/* links: godwit_offline godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* What the offline tools make of a damaged snapshot: what it does say is not
 * undone by what is older. */
#include "storage/internal.h"
#include "storage/offline/inspect.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAIL = 3 };

static struct harness h;
static struct inspect *inspect;

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 32 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    inspect_close(inspect);
    harness_fini(&h);
}

TestSuite(inspect_snapshot, .init = set_up, .fini = tear_down, .timeout = 60);

/* Facts and messages until the next segment begins; its id. */
static uint32_t fill_segment(const char *name)
{
    uint32_t id = h.store->journal.active->header.id;

    add_fact(&h, CATALOG_TOPIC, MAIL, name, "", false);
    add_sent(&h, MAIL, "for the producer", 1, id);
    while (h.store->journal.active->header.id == id) {
        add_sized(&h, MAIL, 3000, 'x');
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    return id;
}

static void write_snapshot(uint32_t gone_id)
{
    struct snapshot_writer *writer;
    struct seqset gone = { 0 };
    bool done = false;

    cr_assert(eq(int, seqset_add(&gone, gone_id, gone_id, NULL), STATUS_OK));
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int,
                 snapshot_begin(&writer, vfs_system(), h.dir, h.store->keydir,
                                &gone, &h.err),
                 STATUS_OK));
    while (!done) {
        cr_assert(eq(int, snapshot_step(writer, 1 << 20, &done, NULL, &h.err),
                     STATUS_OK));
    }
    snapshot_end(writer);
    seqset_fini(&gone);
}

static uint64_t damages(void)
{
    const struct inspect_visitor visitor = { 0 };
    struct inspect_totals totals;

    inspect_close(inspect);
    cr_assert(eq(int, inspect_open(&inspect, h.dir, NULL, &h.err), STATUS_OK));
    cr_assert(
        eq(int, inspect_walk(inspect, &visitor, &totals, &h.err), STATUS_OK),
        "%s", h.err.text);
    return totals.snapshot_damages;
}

static uint32_t topic(const char *name)
{
    return inspect_id(inspect, CATALOG_TOPIC, slice_text(name));
}

Test(inspect_snapshot, what_it_gives_is_not_undone_by_what_is_older)
{
    char path[600];
    uint32_t id;

    fill_segment("before");
    id = fill_segment("renamed");
    write_snapshot(id);
    harness_close(&h);
    segment_file(&h, id, path, sizeof path);
    cr_assert(eq(int, unlink(path), 0));
    snprintf(path, sizeof path, "%s/snapshot", h.dir);
    cr_assert(eq(u64, damages(), 0));
    cr_assert(eq(u32, topic("renamed"), MAIL));
    flip_bit(path, file_len(path) - 10, 2); /* of the last, the producer's */
    cr_assert(eq(u64, damages(), 1));
    cr_assert(eq(u32, topic("renamed"), MAIL));
    flip_bit(path, find_in_file(path, "renamed"), 2);
    cr_assert(eq(u64, damages(), 2));
    cr_assert(eq(u32, topic("before"), MAIL));
}
