#include "test/storage/power_bugs.h"

#include "storage/recovery.h"
#include "storage/snapshot.h"
#include "test/lib/calls.h"

/* Enough for these lives: a start does not lay out half a megabyte. */
enum { PRODUCERS_KEPT = 256 };
/* Where a batch header has its segment's id. */
enum { AT_SEGMENT = 20 };

bool __real_recovery_find_batch(struct recovery *r, uint32_t from,
                                struct batch *out);
bool __wrap_recovery_find_batch(struct recovery *r, uint32_t from,
                                struct batch *out);
enum status __real_batch_read_header(const struct batch_source *source,
                                     uint32_t offset, struct batch *out);
enum status __wrap_batch_read_header(const struct batch_source *source,
                                     uint32_t offset, struct batch *out);
enum status __real_recovery_list(struct recovery *r, struct error *err);
enum status __wrap_recovery_list(struct recovery *r, struct error *err);
enum status __real_snapshot_step(struct snapshot_writer *writer, size_t budget,
                                 bool *done, struct error *err);
enum status __wrap_snapshot_step(struct snapshot_writer *writer, size_t budget,
                                 bool *done, struct error *err);
enum status __real_producers_init(struct producers *p, uint32_t count_max,
                                  uint64_t seed);
enum status __wrap_producers_init(struct producers *p, uint32_t count_max,
                                  uint64_t seed);

static enum power_bug bug;
static uint64_t epoch; /* BUG_REUSE_UNCHECKED: of the last batch that passed */
static bool stopped;   /* BUG_STOP_AT_BAD: for the rest of this start */

void power_bug_set(enum power_bug to)
{
    bug = to;
    calls_lmdb_without_sync(to == BUG_LMDB_NO_SYNC);
}

enum status __wrap_recovery_list(struct recovery *r, struct error *err)
{
    stopped = false;
    return __real_recovery_list(r, err);
}

bool __wrap_recovery_find_batch(struct recovery *r, uint32_t from,
                                struct batch *out)
{
    bool found = __real_recovery_find_batch(r, from, out);

    if (bug != BUG_STOP_AT_BAD) {
        return found;
    }
    stopped = stopped || (found && out->header.offset != from);
    return found && !stopped;
}

/* Any batch that stands at its offset, of whatever segment and epoch. */
static enum status read_any(const struct batch_source *source, uint32_t offset,
                            struct batch *out)
{
    struct batch_source any = *source;
    enum status status;

    if (source->limit - offset < BATCH_HEADER_LEN) {
        return STATUS_CORRUPT;
    }
    any.segment = get_u32(source->base + offset + AT_SEGMENT);
    status = __real_batch_read_header(&any, offset, out);
    if (status == STATUS_OK) {
        out->header.segment = source->segment;
        out->header.epoch = epoch;
    }
    return status;
}

enum status __wrap_batch_read_header(const struct batch_source *source,
                                     uint32_t offset, struct batch *out)
{
    enum status status = __real_batch_read_header(source, offset, out);

    if (status == STATUS_OK && bug == BUG_RESURRECT) {
        /* as if all before it had been durable */
        out->header.durable = place_of(source->segment, offset);
    }
    if (bug == BUG_REUSE_UNCHECKED && status != STATUS_OK
        && offset < source->limit) {
        return read_any(source, offset, out);
    }
    if (status == STATUS_OK) {
        epoch = out->header.epoch;
    }
    return status;
}

enum status __wrap_snapshot_step(struct snapshot_writer *writer, size_t budget,
                                 bool *done, struct error *err)
{
    if (bug == BUG_NO_SNAPSHOT) {
        *done = true;
        return STATUS_OK;
    }
    return __real_snapshot_step(writer, budget, done, err);
}

enum status __wrap_producers_init(struct producers *p, uint32_t count_max,
                                  uint64_t seed)
{
    bool whole = count_max == 0 || count_max == MESSAGE_IDS_MAX;

    return __real_producers_init(p, whole ? PRODUCERS_KEPT : count_max, seed);
}
