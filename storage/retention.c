#include "storage/retention.h"

#include "storage/internal.h"
#include "storage/ranges.h"

#include <stdlib.h>

/* Stretches of a topic that are looked at in one go. */
enum { STRETCHES_MAX = 8192 };

void keeping_fini(struct keeping *keeping)
{
    free(keeping->owed);
    *keeping = (struct keeping) { 0 };
}

static enum status look_at_groups(struct store *store, struct keeping *k,
                                  const struct store_retention *retention)
{
    void *owed = k->owed;
    enum status status = keeper_reserve(
        &owed, &k->owed_capacity, retention->owed_count + 1, sizeof *k->owed);

    k->owed = owed;
    k->owed_count = 0;
    for (size_t i = 0; i < retention->owed_count && status == STATUS_OK; i++) {
        struct lane_image *lane;
        status = keeper_lane(store, retention->owed[i].group, k->topic, &lane);
        /* Where it began anew counts, not where it began; the set has it. */
        k->owed[k->owed_count++] = (struct owed_lane) {
            lane != NULL && lane->sought ? 0 : retention->owed[i].after_seq,
            lane == NULL ? NULL : &lane->acked
        };
    }
    return status;
}

static bool is_clean(const void *arg, const struct lane_image *lane)
{
    (void)arg;
    return !lane->dirty;
}

/* Checkpoints keep the lanes in memory few; with nothing to write there are
 * none. */
enum status keeping_look(struct store *store, const struct store_policy *policy,
                         uint32_t topic, struct keeping *out)
{
    struct store_retention retention = { 0 };
    struct keeper *keeper = &store->keeper;
    struct topic_note *note =
        topic < keeper->topic_count ? &keeper->topics[topic] : NULL;

    out->topic = topic;
    out->owed_count = 0;
    if (keeper->lanes.count > LANES_CACHED_MAX * 2) {
        lanes_drop(&keeper->lanes, is_clean, NULL);
    }
    out->deleted = keeper_topic_deleted(keeper, topic);
    if (note == NULL || out->deleted) {
        return STATUS_OK;
    }
    out->last_seq = note->last_seq;
    out->first_seq = note->first_seq == 0 ? 1 : note->first_seq;
    out->floor_seq = note->floor_seq == 0 ? 1 : note->floor_seq;
    if (!policy->topic(policy->arg, topic, &retention)) {
        /* The log has not said so yet: nothing goes before it has. */
        out->keep = STORE_KEEP_UNTIL_SETTLED;
        out->age_us = out->bytes = out->count = 0;
        return STATUS_OK;
    }
    out->keep = retention.keep;
    out->age_us = retention.age_us;
    out->bytes = retention.bytes;
    out->count = retention.count;
    return out->keep == STORE_KEEP_UNTIL_SETTLED
               ? look_at_groups(store, out, &retention)
               : STATUS_OK;
}

/* ---- sets ---- */

/* Has the group settled it? *through: for how long the answer is the same. */
static bool is_settled(const struct owed_lane *owed, uint64_t seq,
                       uint64_t *through)
{
    const struct seqset *set = owed->settled;
    size_t i;

    if (seq <= owed->after_seq) {
        *through = owed->after_seq;
        return true;
    }
    i = set == NULL ? 0 : set_range_at(set, seq);
    if (set == NULL || i == seqset_range_count(set)) {
        *through = UINT64_MAX;
        return false;
    }
    if (seqset_ranges(set)[i].first > seq) {
        *through = seqset_ranges(set)[i].first - 1;
        return false;
    }
    *through = seqset_ranges(set)[i].last;
    return true;
}

/* ---- what may go ---- */

static bool settled_by_all(const struct keeping *k, uint64_t seq, uint64_t last,
                           uint64_t *through)
{
    *through = last;
    for (size_t i = 0; i < k->owed_count; i++) {
        uint64_t until;
        bool settled = is_settled(&k->owed[i], seq, &until);
        until = until < last ? until : last;
        if (!settled) {
            *through = until;
            return false;
        }
        *through = until < *through ? until : *through;
    }
    return true;
}

bool keeping_may_go(const struct keeping *k, uint64_t seq, uint64_t last,
                    uint64_t *through)
{
    uint64_t below_floor;

    *through = last;
    if (k->deleted) {
        return true;
    }
    if (seq < k->first_seq) {
        *through = k->first_seq - 1 < last ? k->first_seq - 1 : last;
        return true;
    }
    if (k->keep != STORE_KEEP_UNTIL_SETTLED || k->owed_count == 0
        || seq >= k->floor_seq) {
        return false;
    }
    below_floor = k->floor_seq - 1 < last ? k->floor_seq - 1 : last;
    return settled_by_all(k, seq, below_floor, through);
}

uint64_t keeping_count(const struct keeping *k, uint64_t first, uint64_t last,
                       uint64_t most)
{
    uint64_t stay = 0;
    uint64_t seq = first;

    for (int i = 0; seq <= last && stay < most; i++) {
        uint64_t through;
        if (i == STRETCHES_MAX) {
            return most;
        }
        if (!keeping_may_go(k, seq, last, &through)) {
            stay += through - seq + 1;
        }
        seq = through + 1;
    }
    return stay < most ? stay : most;
}

uint64_t keeping_first(const struct keeping *k)
{
    uint64_t seq = k->first_seq;
    uint64_t through;

    for (int i = 0; i < STRETCHES_MAX && seq < k->floor_seq; i++) {
        if (!keeping_may_go(k, seq, k->floor_seq - 1, &through)) {
            break;
        }
        seq = through + 1;
    }
    return seq;
}

/* The group's last settled message at or below `seq`. */
static uint64_t settled_before(const struct owed_lane *owed, uint64_t seq)
{
    const struct seqset *set = owed->settled;
    uint64_t found = 0;

    if (set != NULL && seqset_range_count(set) > 0) {
        size_t i = set_range_at(set, seq);
        if (i < seqset_range_count(set) && seqset_ranges(set)[i].first <= seq) {
            return seq;
        }
        found = i > 0 ? seqset_ranges(set)[i - 1].last : 0;
    }
    if (owed->after_seq > found) {
        found = owed->after_seq < seq ? owed->after_seq : seq;
    }
    return found;
}

uint64_t keeping_settled_through(const struct keeping *k, uint64_t seq)
{
    for (int i = 0; i < STRETCHES_MAX && seq >= k->floor_seq; i++) {
        uint64_t before = seq;
        for (size_t g = 0; g < k->owed_count; g++) {
            before = settled_before(&k->owed[g], before);
        }
        if (before == seq) {
            return seq;
        }
        seq = before;
    }
    return seq >= k->floor_seq ? seq : 0;
}
