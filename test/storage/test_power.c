/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/calls.c */
/* with: test/storage/disk_trace.c test/storage/disk_image.c */
/* with: test/storage/power_model.c test/storage/power_life.c */
/* with: test/storage/power_bugs.c test/storage/power_check.c */
/* with: test/storage/power_records.c */
/* wraps: calls recovery_find_batch recovery_list batch_read_header */
/* wraps: producers_init snapshot_step */

/* Power cuts. A store lives, every call of it and of LMDB is recorded, and then
 * thousands of disks are made as a cut at any moment might have left them.
 * README.md tells how, and how one of them is made again. */
#include "test/storage/power_check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef __SANITIZE_ADDRESS__
/* Other images are the same code: the release build makes them. */
enum { LIVES = 1, IMAGES = 60, STEPS = 30 };
#else
enum { LIVES = 4, IMAGES = 300, STEPS = 30 };
#endif
enum { LIVES_LONG = 150 }; /* with $GODWIT_LONG, of either half */

static unsigned long setting(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : strtoul(text, NULL, 10);
}

static void add(struct store_stats *sums, const struct store_stats *done)
{
    sums->log_bytes += done->log_bytes;
    sums->checkpoints += done->checkpoints;
    sums->moved_bytes += done->moved_bytes;
    sums->freed_bytes += done->freed_bytes;
    sums->snapshots += done->snapshots;
}

static void survive(uint64_t seed, unsigned lives)
{
    struct store_stats sums = { 0 };
    unsigned images = 0;
    unsigned opened = 0;

    for (unsigned i = 0; i < lives; i++) {
        struct power power = { .seed = seed + i, .steps = STEPS };
        power_run(&power, IMAGES);
        images += power.images;
        opened += power.opened;
        add(&sums, &power.done);
        cr_assert(gt(u32, power.images, IMAGES / 2));
        cr_assert(eq(u32, power.violations, 0), "%s\nagain: %s", power.what,
                  power.replay);
    }
    fprintf(stderr,
            "%u images of %u lives from seed %llu, %u starts; the lives: %llu "
            "KiB of log, %llu checkpoints, %llu KiB moved, %llu KiB freed, "
            "%llu snapshots\n",
            images, lives, (unsigned long long)seed, opened,
            (unsigned long long)sums.log_bytes / 1024,
            (unsigned long long)sums.checkpoints,
            (unsigned long long)sums.moved_bytes / 1024,
            (unsigned long long)sums.freed_bytes / 1024,
            (unsigned long long)sums.snapshots);
    cr_assert(gt(u64, sums.moved_bytes, 0));
    cr_assert(gt(u64, sums.freed_bytes, 0));
    cr_assert(gt(u64, sums.snapshots, 0));
}

/* In two halves, for two processors. */
static void half(unsigned long from)
{
    unsigned long lives = getenv("GODWIT_LONG") != NULL ? LIVES_LONG : LIVES;
    unsigned long seed = setting("GODWIT_SEED", (unsigned long)time(NULL));

    survive(seed + from * 100000, (unsigned)setting("GODWIT_LIVES", lives));
}

Test(power, nothing_confirmed_is_lost)
{
    half(0);
}

Test(power, nor_in_other_lives)
{
    half(1);
}

/* One image again, as a failure has printed it. */
Test(power, replay)
{
    struct power power = { .seed = setting("GODWIT_SEED", 1),
                           .bug = power_bug_named(getenv("GODWIT_BUG")),
                           .steps = (int)setting("GODWIT_STEPS", STEPS) };

    if (getenv("GODWIT_IMAGE") != NULL) {
        power_replay(&power, getenv("GODWIT_IMAGE"));
        cr_assert(eq(u32, power.violations, 0), "%s", power.what);
    }
}

/* ---- the same with a planted bug must be caught ---- */

static void caught(enum power_bug bug)
{
    /* LMDB does not always outlive what was not synced. */
    struct power power = {
        .seed = 1, .steps = STEPS, .bug = bug, .apart = bug == BUG_NO_SYNC
    };

    if (bug == BUG_REUSE_UNCHECKED) { /* which takes a recycled segment */
        power.steps *= 2;
    }
    power_run(&power, IMAGES);
    fprintf(stderr, "%u of %u: %s\n  %s\n", power.violations, power.images,
            power.what, power.replay);
    cr_assert(gt(u32, power.violations, 0));
}

Test(power, a_confirm_before_the_sync_is_caught)
{
    caught(BUG_CONFIRM_EARLY);
}

Test(power, a_keydir_before_its_log_is_caught)
{
    caught(BUG_CHECKPOINT_EARLY);
}

Test(power, no_sync_is_caught)
{
    caught(BUG_NO_SYNC);
}

Test(power, no_sync_of_folders_is_caught)
{
    caught(BUG_NO_DIR_SYNC);
}

Test(power, a_stop_at_the_first_bad_record_is_caught)
{
    caught(BUG_STOP_AT_BAD);
}

Test(power, what_rises_behind_a_hole_is_caught)
{
    caught(BUG_RESURRECT);
}

Test(power, half_of_a_chain_is_caught)
{
    caught(BUG_SPLIT_CHAIN);
}

Test(power, a_removal_without_a_snapshot_is_caught)
{
    caught(BUG_NO_SNAPSHOT);
}

Test(power, a_batch_of_an_earlier_life_is_caught)
{
    caught(BUG_REUSE_UNCHECKED);
}

/* LMDB's own words: without sync it may be corrupt after a crash. What such a
 * keydir does to the store is seen as a crash, as a wrong answer, or as doubt
 * that has it made anew. The same harness finds none of it with the syncs. */
Test(power, lmdb_without_sync_is_caught)
{
    struct power with = { .seed = 1, .steps = STEPS, .apart = true };
    struct power without = with;

    without.bug = BUG_LMDB_NO_SYNC;
    power_run(&with, IMAGES / 2);
    power_run(&without, IMAGES / 2);
    fprintf(stderr, "sync: %u wrong, %u made anew; no sync: %u and %u of %u\n",
            with.violations, with.rebuilt, without.violations, without.rebuilt,
            without.images);
    cr_assert(eq(u32, with.violations, 0));
    cr_assert(lt(u32, with.rebuilt, with.images / 10));
    cr_assert(
        ge(u32, without.violations + without.rebuilt, without.images / 2));
}
