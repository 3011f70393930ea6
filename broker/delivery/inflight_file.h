/* The memory of the file tier: one file, mapped, unlinked as soon as it is
 * open, so that nothing is left behind whatever happens. Its space is taken
 * from the disk before a page is touched: a full disk refuses to grow and never
 * raises SIGBUS. Pages that were touched are given back to the kernel now and
 * then, which keeps their content: the process holds at most
 * INFLIGHT_FILE_RESIDENT of them. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_INFLIGHT_FILE_H
#define GODWIT_BROKER_DELIVERY_INFLIGHT_FILE_H

#include "broker/delivery/inflight.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INFLIGHT_FILE_PAGE     ((size_t)4096)
#define INFLIGHT_FILE_RESIDENT ((size_t)32 * 1024 * 1024)
#define INFLIGHT_FILE_STEP     ((size_t)16 * 1024 * 1024)

struct inflight_file {
    const struct vfs *vfs;
    char *folder;
    uint64_t disk_free_min;
    int fd;
    unsigned char *base; /* len_max bytes of addresses */
    size_t len_max;
    size_t len;        /* the file has so much; no byte behind is touched */
    uint64_t *touched; /* one bit a page: may be resident */
    size_t touched_count;
};

/* A file at the path from before is replaced. STATUS_NOMEM, STATUS_IO,
 * STATUS_NO_SPACE. */
MUST_CHECK enum status inflight_file_open(struct inflight_file **out,
                                          const struct inflight_config *config,
                                          size_t len_max, struct error *err);
void inflight_file_close(struct inflight_file *file); /* accepts NULL */
/* The first `len` bytes have their space. False: the disk has none, or what is
 * left is for others. */
bool inflight_file_reach(struct inflight_file *file, size_t len);
/* Nothing in it is needed any more: its space goes back, and what is reached
 * anew is zero. False: all is as it was. */
bool inflight_file_empty(struct inflight_file *file);

/* To be said before each look at the memory. */
void inflight_file_touch(struct inflight_file *file, const void *at);

#endif
