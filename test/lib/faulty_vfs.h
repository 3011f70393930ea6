/* The real file calls, any of which can be made to fail: the n-th one counted
 * from arming, once or from then on. One thread. */
#ifndef GODWIT_TEST_LIB_FAULTY_VFS_H
#define GODWIT_TEST_LIB_FAULTY_VFS_H

#include "storage/vfs.h"

#include <stdbool.h>

enum faulty_call {
    FAULTY_OPEN = 1 << 0,
    FAULTY_ALLOCATE = 1 << 1,
    FAULTY_WRITE = 1 << 2, /* pwrite and pwritev */
    FAULTY_READ = 1 << 3,
    FAULTY_SYNC = 1 << 4,
    FAULTY_TRUNCATE = 1 << 5,
    FAULTY_MAP = 1 << 6,
    FAULTY_RENAME = 1 << 7,
    FAULTY_UNLINK = 1 << 8,
    FAULTY_SYNC_DIR = 1 << 9,
    FAULTY_MAKE_DIR = 1 << 10,
    FAULTY_LIST = 1 << 11,
    FAULTY_SIZE = 1 << 12,
    FAULTY_ALL = (1 << 13) - 1
};

struct faulty_plan {
    unsigned calls; /* which are counted, of enum faulty_call */
    unsigned nth;   /* the one that fails, from 1; 0: none */
    bool sticky;    /* and all of those calls after it */
    int error;      /* errno; 0: reads and writes move only half */
};

struct faulty_vfs {
    struct vfs vfs; /* give this one to the store */
    struct faulty_plan plan;
    unsigned count; /* of the calls that the plan counts */
    unsigned fired;
    bool no_space; /* allocate fails, free_bytes says 0 */
};

void faulty_vfs_init(struct faulty_vfs *f);
void faulty_vfs_arm(struct faulty_vfs *f, struct faulty_plan plan);
void faulty_vfs_disarm(struct faulty_vfs *f);

#endif
