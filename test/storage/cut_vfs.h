/* File calls that remember what the disk would still have after a power cut.
 * Everything goes through to real files; beside them each file's last synced
 * bytes are kept, and the folder changes that were not synced. cut_vfs_image()
 * makes a folder as the disk might show it: every unsynced sector old or new,
 * lengths old or new, renames done up to some point. One thread. */
#ifndef GODWIT_TEST_STORAGE_CUT_VFS_H
#define GODWIT_TEST_STORAGE_CUT_VFS_H

#include "storage/vfs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CUT_FILES_MAX = 64,
    CUT_FDS_MAX = 1024,
    CUT_OPS_MAX = 64,
    CUT_PATH_LEN = 700,
    CUT_SECTOR_LEN = 512
};

struct cut_file {
    uint8_t *now;
    uint8_t *durable;
    size_t len;
    size_t durable_len;
    size_t capacity;
};

struct cut_name {
    char path[CUT_PATH_LEN]; /* "" is free */
    int file;
};

/* A change of a folder that was not synced. */
struct cut_op {
    char from[CUT_PATH_LEN]; /* gone; "" when made */
    char to[CUT_PATH_LEN];   /* there; "" when removed */
    int file;
};

struct cut_vfs {
    struct vfs vfs;
    char dir[CUT_PATH_LEN];
    struct cut_file files[CUT_FILES_MAX];
    int file_count;
    struct cut_name names[CUT_FILES_MAX];   /* as they are */
    struct cut_name durable[CUT_FILES_MAX]; /* as last synced */
    struct cut_op ops[CUT_OPS_MAX];
    int op_count;
    int file_of_fd[CUT_FDS_MAX];
    /* After every call that changes something. */
    void (*hook)(void *arg);
    void *hook_arg;
    /* Planted bugs: what a store that forgot them would do. */
    bool no_sync;
    bool no_dir_sync;
};

/* `dir` may hold a store already: all of it counts as synced. */
void cut_vfs_init(struct cut_vfs *c, const char *dir);
void cut_vfs_fini(struct cut_vfs *c);

/* Make `to` (an empty folder) what a cut might leave of the store's files,
 * keydir apart. `state`: of random_next(). */
void cut_vfs_image(const struct cut_vfs *c, const char *to, uint64_t *state);

#endif
