/* One segment on its way into a backup: read, verified, copied. */
#include "storage/offline/backup_impl.h"

#include "storage/io.h"
#include "storage/record.h"

#include <errno.h>
#include <sys/mman.h>

enum { FORGET_LEN = 16 * 1024 * 1024 /* read memory given back at a time */ };

/* ---- reading one segment ---- */

void backup_reading_close(struct backup *b)
{
    struct reading *r = &b->reading;

    if (r->base != NULL) {
        munmap(r->base, r->room);
    }
    if (r->fd >= 0) {
        b->vfs->close(b->vfs, r->fd);
    }
    *r = (struct reading) { .fd = -1 };
}

static enum status reading_open(struct backup *b, const struct source *s)
{
    struct reading *r = &b->reading;
    enum status status;
    void *base;

    backup_reading_close(b);
    status = backup_open_source(b, s, &r->fd);
    if (status != STATUS_OK) {
        return status;
    }
    r->len = (uint32_t)s->len;
    r->room = (size_t)r->len + BLOCK_LEN;
    base = mmap(NULL, r->room, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return error_set(b->err, STATUS_NOMEM, errno, "segment %u: memory",
                         s->id);
    }
    r->base = base;
    r->epoch = s->epoch;
    r->source = (struct batch_source) {
        .base = base, .limit = r->len, .segment = s->id, .seed = b->store_id
    };
    return STATUS_OK;
}

/* The room to grow of a segment takes no memory. */
static void forget_zeros(struct reading *r, uint32_t at, uint32_t len)
{
    const uint8_t *base = r->base + at;

    if (len == BACKUP_READ_LEN && base[0] == 0
        && memcmp(base, base + 1, len - 1) == 0) {
        (void)madvise(r->base + at, len, MADV_DONTNEED);
    }
}

/* Have the bytes before `to` in memory. A file that was cut meanwhile, when its
 * segment was sealed, goes on with zeros. */
static enum status reading_need(struct backup *b, uint64_t to)
{
    struct reading *r = &b->reading;

    to = to > r->len ? r->len : to;
    while (r->have < to) {
        uint32_t len = r->len - r->have < BACKUP_READ_LEN
                           ? r->len - r->have
                           : (uint32_t)BACKUP_READ_LEN;
        ssize_t have = io_read(b->vfs, r->fd, r->base + r->have, len, r->have);
        if (have < 0) {
            return backup_fail(b, "read the log in", b->job->from);
        }
        memset(r->base + r->have + have, 0, len - (size_t)have);
        forget_zeros(r, r->have, len);
        r->have += len;
    }
    return STATUS_OK;
}

/* Memory before `to` is not looked at again. */
static void reading_forget(struct backup *b, uint32_t to)
{
    struct reading *r = &b->reading;

    to &= ~(uint32_t)(BLOCK_LEN - 1);
    if (to > r->forgotten && to - r->forgotten >= FORGET_LEN) {
        (void)madvise(r->base + r->forgotten, to - r->forgotten, MADV_DONTNEED);
        r->forgotten = to;
    }
}

/* A batch's header of this life of the file, nothing more. */
static bool header_at(struct backup *b, uint32_t offset, struct batch *out)
{
    struct reading *r = &b->reading;

    return batch_read_header(&r->source, offset, out) == STATUS_OK
           && (r->epoch == 0 || out->header.epoch == r->epoch);
}

/* Look for a batch at `offset`: *len is its length, 0 when there is no header;
 * *whole: all of it is as it was written. */
static enum status look(struct backup *b, uint32_t offset, uint32_t *len,
                        bool *whole)
{
    struct reading *r = &b->reading;
    struct batch batch;
    enum status status = reading_need(b, (uint64_t)offset + BATCH_HEADER_LEN);

    *len = 0;
    *whole = false;
    if (status != STATUS_OK || !header_at(b, offset, &batch)) {
        return status;
    }
    status = reading_need(b, (uint64_t)offset + batch.header.len);
    if (status != STATUS_OK) {
        return status;
    }
    *len = batch.header.len;
    r->epoch = batch.header.epoch;
    *whole = batch_read(&r->source, offset, &batch) == STATUS_OK
             && batch_whole(&batch, b->store_id);
    return STATUS_OK;
}

/* The first header at or after `from`; *at is UINT32_MAX when there is none. */
static enum status find(struct backup *b, uint64_t from, uint32_t *at)
{
    struct reading *r = &b->reading;
    struct batch batch;

    *at = UINT32_MAX;
    for (; from + BATCH_HEADER_LEN <= r->len; from += BATCH_ALIGN) {
        enum status status = reading_need(b, from + BATCH_HEADER_LEN);
        if (status != STATUS_OK) {
            return status;
        }
        if (batch_may_begin(r->base + from)
            && header_at(b, (uint32_t)from, &batch)) {
            *at = (uint32_t)from;
            return STATUS_OK;
        }
    }
    return STATUS_OK;
}

/* ---- copying one segment ---- */

static enum status copy_part(struct backup *b, uint32_t from, uint32_t to)
{
    struct reading *r = &b->reading;
    enum status status = STATUS_OK;

    while (from < to && status == STATUS_OK) {
        uint32_t len =
            to - from < BACKUP_READ_LEN ? to - from : (uint32_t)BACKUP_READ_LEN;
        status =
            landing_put(&b->landing, slice_of(r->base + from, len), b->err);
        if (status == STATUS_OK) {
            status = backup_go_on(b, len);
        }
        from += len;
    }
    reading_forget(b, to);
    return status;
}

static void on_batch(void *arg, const struct batch *batch)
{
    struct backup *b = arg;

    b->out->batches++;
    b->out->segment = batch->header.segment;
    b->out->offset = batch->header.offset + batch->header.len;
}

static void on_record(void *arg, const struct batch *batch,
                      const struct record *record, uint32_t offset)
{
    struct backup *b = arg;

    (void)batch;
    (void)offset;
    b->out->records++;
    b->out->messages += record->kind == RECORD_MESSAGE;
}

static void on_damage(void *arg, const struct store_damage *damage)
{
    backup_tell_damage(arg, damage);
}

/* Its chain goes on from the segment before, if that is there. */
static void examine_begin(struct backup *b)
{
    const struct reading *r = &b->reading;

    if (r->source.segment != b->copied + 1) {
        b->chain = (struct chain) { 0 };
    }
    b->examined =
        (struct examine_visitor) { on_batch, on_record, on_damage, b };
    b->examine = (struct examine) { .source = r->source,
                                    .epoch = r->epoch,
                                    .visitor = &b->examined,
                                    .at = SEGMENT_BEGIN,
                                    .last = b->chain.last,
                                    .unsealed = b->chain.unsealed };
    examine_head(&b->examine, r->base);
}

/* Count, and tell what is damaged, up to `limit`, which is in memory. */
static void examine_to(struct backup *b, uint32_t limit)
{
    b->examine.source.limit = b->examine.loaded = limit;
    while (examine_next(&b->examine) == EXAMINE_BATCH) {
    }
}

/* No whole batch stands at *at. Go to where the next one begins, the bytes
 * between copied as they are, or say that this is the end. The next one may
 * have been written after we looked, and this one before it: look again. */
static enum status step_over(struct backup *b, uint32_t *at, uint32_t len,
                             bool *end)
{
    uint32_t next;
    bool whole;
    enum status status =
        find(b, (uint64_t)*at + (len == 0 ? BATCH_ALIGN : len), &next);

    *end = next == UINT32_MAX;
    if (status != STATUS_OK || *end) {
        return status;
    }
    b->reading.have = *at & ~(uint32_t)(BLOCK_LEN - 1);
    status = look(b, *at, &len, &whole);
    if (status != STATUS_OK || whole) {
        return status;
    }
    status = reading_need(b, next);
    if (status != STATUS_OK) {
        return status;
    }
    /* What its header vouches for is told record by record; bytes that are no
     * batch are told with the next one, which they break the chain to. */
    if (len > 0) {
        examine_to(b, *at + len);
    }
    status = copy_part(b, *at, next);
    *at = next;
    return status;
}

/* All batches from SEGMENT_BEGIN on; *at: where they end. */
static enum status copy_batches(struct backup *b, uint32_t *at)
{
    enum status status = STATUS_OK;
    bool end = false;

    while (status == STATUS_OK && !end && !b->examine.sealed) {
        uint32_t len;
        bool whole;

        status = look(b, *at, &len, &whole);
        if (status == STATUS_OK && !whole) {
            status = step_over(b, at, len, &end);
        } else if (status == STATUS_OK) {
            examine_to(b, *at + len);
            status = copy_part(b, *at, *at + len);
            *at += len;
        }
    }
    return status;
}

/* A segment that another follows ends with a seal, or with its file, or where
 * the other one says. What stands behind the last batch else was durable once,
 * and is copied as it is. */
static enum status copy_lost_end(struct backup *b, size_t i, uint32_t at)
{
    const struct source *next = &b->sources[i + 1];
    uint32_t end = b->reading.len;

    if (at >= end || (next->id == b->sources[i].id + 1 && next->epoch == 0)) {
        return STATUS_OK;
    }
    examine_to(b, end);
    return copy_part(b, at, end);
}

static enum status copy_content(struct backup *b, size_t i)
{
    uint32_t len = b->reading.len;
    uint32_t at = SEGMENT_BEGIN;
    enum status status = reading_need(b, SEGMENT_BEGIN);

    if (status == STATUS_OK) {
        examine_begin(b);
        status = copy_part(b, 0, len < SEGMENT_BEGIN ? len : SEGMENT_BEGIN);
    }
    if (status == STATUS_OK) {
        status = copy_batches(b, &at);
    }
    if (status == STATUS_OK && !b->examine.sealed && i < b->last) {
        status = copy_lost_end(b, i, at);
    }
    b->sealed = b->examine.sealed;
    b->chain = (struct chain) { b->examine.last, b->examine.unsealed };
    return status;
}

enum status backup_segment(struct backup *b, size_t i)
{
    struct landing_name name;
    enum status status = reading_open(b, &b->sources[i]);

    backup_name_of(b->sources[i].id, &name);
    if (status == STATUS_OK) {
        status = landing_file(&b->landing, name.text, b->err);
    }
    if (status == STATUS_OK) {
        status = copy_content(b, i);
    }
    if (status == STATUS_OK) {
        status = backup_still_there(b, &b->sources[i], b->reading.fd);
    }
    return status == STATUS_OK ? backup_end_file(b, name.text) : status;
}

enum status backup_any_batch(struct backup *b, const struct source *s,
                             bool *any)
{
    enum status status = reading_open(b, s);
    uint32_t at;

    if (status == STATUS_OK) {
        status = find(b, SEGMENT_BEGIN, &at);
    }
    if (status == STATUS_OK) {
        *any = at != UINT32_MAX;
    }
    return status;
}
