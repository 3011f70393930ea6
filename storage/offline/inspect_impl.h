/* The insides of struct inspect, for the files inspect*.c alone. */
#ifndef GODWIT_STORAGE_OFFLINE_INSPECT_IMPL_H
#define GODWIT_STORAGE_OFFLINE_INSPECT_IMPL_H

#include "storage/offline/books.h"
#include "storage/examine.h"
#include "storage/segment.h"

struct inspect {
    struct vfs vfs; /* reads only */
    const struct vfs *base;
    char dir[PATH_LEN_MAX];
    struct log log; /* its table stays empty */
    struct inspect_store store;
    bool format_damaged; /* in one half */
    struct books books;  /* of the last walk */
};

/* One walk. */
struct inspect_pass {
    struct inspect *inspect;
    struct log *log;
    struct books *books;
    const struct inspect_visitor *visitor;
    struct inspect_totals *totals;
    enum status status;              /* the first failure of a callback */
    struct examine_visitor examined; /* the callbacks */
    struct seqset ids;               /* of the log's files */
    struct seqset gone;              /* as the snapshot says */
    uint32_t last_id;                /* of the last that is ours */
    uint64_t place;                  /* that the snapshot covers, */
    uint64_t known;           /* and up to where records may only tell ... */
    enum books_news old_news; /* ... this */
    uint64_t newest_us;       /* when the last batch was written */
    struct examine_link last; /* the batch before this segment, */
    struct examine_link unsealed; /* and the last that was no seal */
    uint64_t done_bytes;
    uint64_t total_bytes;
    /* the segment being looked at */
    struct segment *file;
    struct inspect_segment segment;
    uint32_t cached; /* id of the one that was read from the disk a moment ago:
                      * another time the page cache is as good */
    uint8_t *memory;
    size_t memory_len;
    uint32_t limit;
    uint32_t loaded;
    bool unread; /* some of it could not be read */
    uint32_t forgotten;
    uint32_t data_end; /* one past the last byte read that was not 0 */
};

MUST_CHECK enum status inspect_pass(struct inspect *inspect,
                                    struct books *books,
                                    const struct inspect_visitor *visitor,
                                    struct inspect_totals *totals,
                                    struct error *err);

/* Count and tell it. */
void inspect_damage(struct inspect_pass *p, const struct store_damage *damage);

/* ---- inspect_segment.c: of p->file, whose first `limit` bytes count ---- */

/* What its batches say of where the log was known to be durable. */
struct tide {
    uint32_t segment;
    uint32_t durable; /* offset */
    bool any;         /* there is a batch */
};
MUST_CHECK enum status inspect_tide(struct inspect_pass *p, uint32_t limit,
                                    struct tide *tide, struct error *err);
/* A segment with others behind it: all in it was durable. */
MUST_CHECK enum status inspect_durable(struct inspect_pass *p, uint32_t limit,
                                       struct error *err);
MUST_CHECK enum status inspect_last(struct inspect_pass *p, uint32_t limit,
                                    struct error *err);
/* Give back the memory; accepts that there is none. */
void inspect_unload(struct inspect_pass *p);

#endif
