/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/calls.c */
/* with: test/storage/disk_trace.c test/storage/disk_image.c */
/* with: test/storage/power_model.c test/storage/power_life.c */
/* with: test/storage/power_bugs.c test/storage/power_check.c */
/* with: test/storage/power_records.c */
/* wraps: calls recovery_find_batch recovery_list batch_read_header */
/* wraps: producers_init snapshot_step */

/* All of the smallest lives: every sequence of up to three steps, and within its
 * last one every call, and there every subset of what was not synced, as long
 * as it is small. Most crash bugs of file systems and stores need no more. */
#include "test/storage/power_check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 16, STEPS_MAX = 3, SEED = 11 };
/* Cuts that are left out without $GODWIT_LONG: of lives of one step, of two.
 * With a sanitizer more: other images are the same code, and the release build
 * makes them; then the subsets of smaller sets only, too. */
#ifdef __SANITIZE_ADDRESS__
enum { ONE_IN_OF_ONE = 4, ONE_IN_OF_TWO = 60, CHOICES_MAX = 5, REMADE = 4 };
#else
enum { ONE_IN_OF_ONE = 2, ONE_IN_OF_TWO = 12, CHOICES_MAX = 7, REMADE = 12 };
#endif
enum { CHOICES_MAX_LONG = 10, REMADE_LONG = 100 };

static const enum life_step alphabet[] = {
    STEP_PUBLISH, STEP_PUBLISH_BIG, STEP_SETTLE, STEP_FACT,   STEP_FILL,
    STEP_PREPARE, STEP_CHECKPOINT,  STEP_UPKEEP, STEP_REOPEN, STEP_DIE,
};

struct small {
    struct power power;
    uint64_t state;
    unsigned lives;
    unsigned cuts;
    unsigned exhausted; /* cuts with all subsets made */
    unsigned one_in;    /* of the cuts */
    size_t choices_max; /* more of them are sampled */
};

static void every_subset(struct small *s, const struct life *life,
                         const struct disk *disk, size_t unit)
{
    struct disk_cut cut = { .policy = DISK_CHOSEN, .unit = unit };
    size_t choices = disk_choices(disk, unit);

    if (choices <= s->choices_max) {
        for (cut.bits = 0; cut.bits < UINT64_C(1) << choices; cut.bits++) {
            power_image(&s->power, life, disk, &cut, &s->state);
        }
        s->exhausted++;
        return;
    }
    for (int i = 0; i < SAMPLES; i++) {
        struct disk_cut some = disk_draw(&s->state);
        power_image(&s->power, life, disk, &some, &s->state);
    }
}

/* The cuts of all but the last step are those of a shorter life. */
static void live(struct small *s, const enum life_step *steps, int count)
{
    struct life *life = life_begin(SEED, s->power.bug);
    struct disk disk;
    size_t from = 0;

    for (int i = 0; i < count; i++) {
        from = i == count - 1 ? life->trace.count : 0;
        life_step(life, steps[i]);
    }
    life_end(life);
    disk_init(&disk, &life->trace);
    for (size_t cut = from; cut <= life->trace.count; cut++) {
        if (random_next(&s->state) % s->one_in == 0) {
            disk_seek(&disk, cut);
            every_subset(s, life, &disk, cut % 2 == 0 ? 4096 : 512);
            s->cuts++;
        }
    }
    disk_fini(&disk);
    life_free(life);
    s->lives++;
}

static void all_lives(struct small *s, int count)
{
    enum life_step steps[STEPS_MAX];
    size_t total = 1;

    for (int i = 0; i < count; i++) {
        total *= sizeof alphabet / sizeof alphabet[0];
    }
    for (size_t number = 0; number < total; number++) {
        size_t left = number;
        for (int i = 0; i < count; i++) {
            steps[i] = alphabet[left % (sizeof alphabet / sizeof alphabet[0])];
            left /= sizeof alphabet / sizeof alphabet[0];
        }
        live(s, steps, count);
        cr_assert(eq(u32, s->power.violations, 0), "life %d of %d steps: %s",
                  (int)number, count, s->power.what);
    }
}

/* The long form has all subsets of larger sets, and lives of three steps. */
static bool thorough(void)
{
    return getenv("GODWIT_LONG") != NULL;
}

static void try_all(int count, unsigned one_in)
{
    struct small s = { .state = SEED,
                       .one_in = one_in,
                       .choices_max =
                           thorough() ? CHOICES_MAX_LONG : CHOICES_MAX };

    all_lives(&s, count);
    fprintf(stderr,
            "%u lives of %d steps: %u cuts, %u of them exhausted, %u images\n",
            s.lives, count, s.cuts, s.exhausted, s.power.images);
    cr_assert(gt(u32, s.power.images, s.lives));
}

Test(power_small, lives_of_one_step)
{
    try_all(1, thorough() ? 1 : ONE_IN_OF_ONE);
}

Test(power_small, lives_of_two_steps)
{
    try_all(2, thorough() ? 1 : ONE_IN_OF_TWO);
}

Test(power_small, lives_of_three_steps)
{
    if (thorough()) {
        try_all(3, 12);
    }
}

/* LMDB dies of some of them, so none may come without its mark of doubt. */
Test(power_small, a_keydir_that_is_cut_short_while_it_is_made)
{
    struct power power = { .seed = SEED };
    struct life *life = life_begin(SEED, BUG_NONE);

    life_step(life, STEP_FILL);
    life_end(life);
    power_remake(&power, life, thorough() ? REMADE_LONG : REMADE);
    fprintf(stderr, "%u images of keydirs in the making\n", power.images);
    cr_assert(eq(u32, power.violations, 0), "%s", power.what);
    life_free(life);
}

/* Two steps are enough to see that. */
Test(power_small, a_confirm_before_the_sync_is_caught)
{
    const enum life_step steps[] = { STEP_PUBLISH, STEP_FACT };
    struct small s = { .power = { .bug = BUG_CONFIRM_EARLY },
                       .state = SEED,
                       .one_in = 1 };

    live(&s, steps, 2);
    cr_assert(gt(u32, s.power.violations, 0));
}
