/* links: godwit_offline godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/memory.c */
/* wraps: memory */

/* The offline reader, the views and the scrub while memory is short: each call
 * says so, changes nothing, and works again afterwards. */
#include "test/lib/memory.h"
#include "test/storage/harness.h"

#include "storage/offline/inspect.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

enum { TOPIC = 2, GROUP = 6, NTH_MAX = 5000 };

static struct harness h;

static void fill(void)
{
    add_fact(&h, CATALOG_TOPIC, TOPIC, "orders", "{}", false);
    add_fact(&h, CATALOG_GROUP, GROUP, "billing", "{}", false);
    for (uint64_t i = 1; i <= 40; i++) {
        add_sized(&h, TOPIC, 2000, 'x');
        add_ack(&h, GROUP, TOPIC, i, i);
        add_retry(&h, GROUP, TOPIC, (struct retry) { i + 1, 1, 77 });
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
}

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 32 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    fill();
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(memory, .init = set_up, .fini = tear_down, .timeout = 120);

/* Make the n-th allocation of `work` fail, for every n until none does; how
 * many that were. */
static unsigned sweep(enum status (*work)(void), bool sticky)
{
    unsigned nth = 0;
    bool fired = true;

    while (fired && nth < NTH_MAX) {
        enum status status;
        memory_fail(++nth, sticky);
        memory_count(true);
        status = work();
        memory_count(false);
        fired = memory_fired() > 0;
        memory_fail(0, false);
        if (!fired) {
            cr_assert(eq(int, status, STATUS_OK));
        } else if (status != STATUS_OK) {
            cr_assert(eq(int, status, STATUS_NOMEM), "allocation %u", nth);
        }
    }
    cr_assert(lt(u32, nth, NTH_MAX));
    return nth;
}

static void ignore_lane(void *arg, const struct inspect_lane *lane)
{
    (void)lane;
    ++*(unsigned *)arg;
}

static enum status inspect_all(void)
{
    struct inspect_receipt receipt = { TOPIC, 1, 10, 1, 0, 0 };
    struct inspect_visitor visitor = { 0 };
    struct inspect_totals totals;
    struct inspect_proof proof;
    struct inspect *inspect = NULL;
    unsigned lanes = 0;
    enum status status = inspect_open(&inspect, h.dir, NULL, &h.err);

    if (status == STATUS_OK) {
        status = inspect_walk(inspect, &visitor, &totals, &h.err);
    }
    if (status == STATUS_OK) {
        cr_assert(eq(u64, totals.present, 40));
        cr_assert(eq(u64, totals.damages, 0));
        status = inspect_each_lane(inspect, ignore_lane, &lanes);
    }
    if (status == STATUS_OK) {
        status = inspect_receipt(inspect, &receipt, &proof, &h.err);
    }
    inspect_close(inspect);
    return status;
}

Test(memory, the_offline_reader_says_when_it_has_none)
{
    cr_assert(gt(u32, sweep(inspect_all, false), 10));
    cr_assert(gt(u32, sweep(inspect_all, true), 10));
}

static enum status scrub_all(void)
{
    struct store_scrub scrub = { .budget = 1 << 30 };
    enum status status = STATUS_OK;

    while (status == STATUS_OK && !scrub.done) {
        status = store_scrub(h.store, &scrub, &h.err);
    }
    return status;
}

Test(memory, the_scrub_says_when_it_has_none)
{
    struct store_stats stats;

    sweep(scrub_all, false);
    sweep(scrub_all, true);
    cr_assert(not(store_frozen(h.store)));
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_records + stats.damaged_batches, 0));
    cr_assert(gt(u64, stats.scrub_passes, 0));
}

static enum status open_view(void)
{
    struct store_view *view = NULL;
    enum status status = store_view_open(&view, h.store, &h.err);

    store_view_close(view);
    return status;
}

Test(memory, a_view_is_open_or_it_is_not)
{
    cr_assert(gt(u32, sweep(open_view, false), 1));
    cr_assert(gt(u32, sweep(open_view, true), 1));
    cr_assert(eq(int, open_view(), STATUS_OK));
}

/* Places that cannot be remembered are counted each time: rather twice than
 * never. */
Test(memory, damage_is_counted_all_the_same)
{
    struct store_stats stats;
    char path[600];

    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, find_in_file(path, "xxxx"), 1);
    memory_fail(1, true);
    memory_count(true);
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(str, (char *)message_text(&h, TOPIC, 1), "?"));
    }
    memory_count(false);
    memory_fail(0, false);
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_records, 2));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 1), "?"));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 1), "?"));
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_records, 3));
}
