/* What a power cut may leave of a traced life. A disk is walked along a trace;
 * at any place of it images can be made. What was synced is there. Of the rest
 * each unit (a sector or a page) by itself shows any state it had since the
 * last sync of its file, each file any of its lengths, and names are changed or
 * not as a file system may reorder them. The call that was under way is done in
 * part. One thread. */
#ifndef GODWIT_TEST_STORAGE_DISK_IMAGE_H
#define GODWIT_TEST_STORAGE_DISK_IMAGE_H

#include "test/storage/disk_trace.h"

struct disk_list {
    size_t *ops; /* of the trace */
    size_t count;
    size_t capacity;
};

struct disk {
    const struct disk_trace *trace;
    size_t at;                /* so many of its calls are done */
    struct disk_bytes *files; /* as last synced */
    struct disk_list *dirty;  /* of each: writes and lengths not synced */
    int file_count;
    struct disk_name names[DISK_NAMES_MAX]; /* as last synced */
    struct disk_list changes;               /* of names, not synced */
};

void disk_init(struct disk *disk, const struct disk_trace *trace);
void disk_fini(struct disk *disk);
void disk_seek(struct disk *disk, size_t at); /* forward only */

enum disk_policy {
    DISK_NOTHING,     /* of what was not synced survives */
    DISK_EVERYTHING,  /* does, and the call under way is done */
    DISK_SOME,        /* each unit with a chance of `percent` */
    DISK_LATER,       /* what came after `pick`, and nothing before it */
    DISK_ALL_BUT_ONE, /* unit: number `pick` of those that differ */
    DISK_ONLY_ONE,
    DISK_CHOSEN /* bit i of `bits`: the i-th that differs, then the names */
};

struct disk_cut {
    enum disk_policy policy;
    size_t unit; /* 512 or 4096 */
    unsigned percent;
    uint64_t pick;
    uint64_t bits;
    uint64_t seed; /* of everything else that is left to chance */
    bool reorder;  /* names in any order that they allow, else as they came */
};

struct disk_cut disk_draw(uint64_t *state);

/* How many bits DISK_CHOSEN has here. */
size_t disk_choices(const struct disk *disk, size_t unit);

/* Write it into the empty folder `to`. */
void disk_image(const struct disk *disk, const struct disk_cut *cut,
                const char *to);

#endif
