/* Images of a life's disk, opened by the real recovery and held against the
 * ledger. */
#ifndef GODWIT_TEST_STORAGE_POWER_CHECK_H
#define GODWIT_TEST_STORAGE_POWER_CHECK_H

#include "test/storage/disk_image.h"
#include "test/storage/power_life.h"

struct power {
    uint64_t seed; /* of the life */
    enum power_bug bug;
    int steps;
    unsigned images;         /* made and opened */
    unsigned recoveries;     /* of which cut again */
    unsigned opened;         /* stores, in all */
    struct store_stats done; /* by the life */
    unsigned rebuilt;        /* starts that had to make the keydir anew */
    bool apart; /* each image in a process of its own: one may kill it */
    unsigned violations;
    char what[1024];  /* the first one */
    char replay[256]; /* the command that shows it again */
};

/* A life of `steps` from the seed and about `images` images of it. */
void power_run(struct power *power, unsigned images);

/* The one image "cut:state". */
void power_replay(struct power *power, const char *image);

/* An image of a disk that stands at a cut of a life. `state`: of the chances
 * taken after the image is there. */
void power_image(struct power *power, const struct life *life,
                 const struct disk *disk, const struct disk_cut *cut,
                 uint64_t *state);

/* A life that was ended by a fault: its folder, opened again without faults. */
void power_restart(struct power *power, struct life *life);

/* The end of a life without its keydir, and `each` cuts in every call of the
 * start that makes it anew. */
void power_remake(struct power *power, const struct life *life, unsigned each);

enum power_bug power_bug_named(const char *name);

#endif
