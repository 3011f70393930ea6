/* From where on the messages of each topic are kept. One look has three parts:
 * ask the policy about every topic; go over the tally of the segments, newest
 * first; say of each topic how far its first message and its floor may rise.
 *
 * Until settled: first the floor rises, over messages in full segments that are
 * old enough, up to the last one all groups have settled. Only when that is
 * applied, so that a group made meanwhile is either known or begins there, the
 * first message follows. Until a limit: both rise to the limit at once. */
#include "storage/merge.h"

#include "storage/internal.h"

#include <stdlib.h>

enum {
    TOPICS_MAX_HERE = 1024,
    TRIM_BODY_LEN_MAX = 64,
    PROBES_MAX = 24 /* messages asked for their time, in place of one */
};

void trims_fini(struct trims *trims)
{
    free(trims->plans);
    keydir_reader_close(trims->reader);
    *trims = (struct trims) { 0 };
}

void trims_begin(struct trims *trims)
{
    trims->part = TRIMS_ASK;
    trims->count = 0;
    trims->at = 0;
    trims->again = false;
    trims->aged = false;
}

/* ---- asking ---- */

static enum status ask_some(struct store *store, struct store_upkeep *upkeep)
{
    struct trims *t = &store->merge.trims;
    const struct keeper *keeper = &store->keeper;
    void *plans = t->plans;
    size_t stop = t->at + TOPICS_MAX_HERE;
    enum status status =
        keeper_reserve(&plans, &t->capacity, (size_t)keeper->topic_count + 1,
                       sizeof *t->plans);

    if (status != STATUS_OK) {
        return status;
    }
    t->plans = plans;
    for (; t->at < stop && t->at < keeper->topic_count; t->at++) {
        struct store_retention retention = { 0 };
        const struct store_policy *policy = upkeep->policy;
        t->plans[t->at] = (struct topic_plan) { 0 };
        if (keeper->topics[t->at].last_seq != 0
            && !keeper->topics[t->at].deleted
            && policy->topic(policy->arg, (uint32_t)t->at, &retention)) {
            t->plans[t->at] = (struct topic_plan) { .keep = retention.keep,
                                                    .age_us = retention.age_us,
                                                    .bytes = retention.bytes };
            t->aged = t->aged || retention.age_us != 0;
        }
    }
    if (t->at >= keeper->topic_count) {
        t->count = keeper->topic_count;
        t->part = TRIMS_TALLY;
        t->segment = UINT32_MAX;
    }
    return STATUS_OK;
}

/* ---- the tally ---- */

static bool is_old(uint64_t time_us, uint64_t age_us, uint64_t now_us)
{
    return age_us == 0 || (time_us <= now_us && now_us - time_us >= age_us);
}

static void look_at_entry(struct topic_plan *plan,
                          const struct tally_entry *entry, bool sealed,
                          uint64_t now_us)
{
    if (plan->keep == STORE_KEEP_UNTIL_SETTLED) {
        if (sealed && is_old(entry->newest_us, plan->age_us, now_us)
            && entry->last_seq > plan->bound) {
            plan->bound = entry->last_seq;
        }
        return;
    }
    /* The last one here is old, so all before it are, whatever they say. */
    if (plan->age_us != 0 && entry->newest_us != 0
        && entry->last_seq > plan->aged
        && is_old(entry->newest_us, plan->age_us, now_us)) {
        plan->aged = entry->last_seq;
    }
    if (plan->bytes_seen < plan->bytes) {
        plan->bytes_seen += entry->bytes;
        if (plan->bytes_first == 0 || entry->first_seq < plan->bytes_first) {
            plan->bytes_first = entry->first_seq;
        }
    }
}

static void tally_some(struct store *store, uint64_t now_us)
{
    struct trims *t = &store->merge.trims;
    const struct tally *tally = &store->keeper.tally;
    uint32_t active = place_segment(atomic_load(&store->checkpointed));
    size_t looked = 0;

    for (size_t i = tally->count; i-- > 0;) {
        const struct tally_segment *segment = &tally->segments[i];
        if (segment->id >= t->segment) {
            continue;
        }
        if (looked > MERGE_ENTRIES_MAX) {
            return;
        }
        for (size_t k = 0; k < segment->count; k++) {
            const struct tally_entry *entry = &segment->entries[k];
            if (entry->topic != 0 && entry->topic < t->count) {
                look_at_entry(&t->plans[entry->topic], entry,
                              segment->id < active, now_us);
            }
        }
        looked += segment->count;
        t->segment = segment->id;
    }
    t->part = TRIMS_WRITE;
    t->at = 0;
}

/* ---- by age ---- */

/* A message that is there and cannot be read; one whose whole segment is gone
 * is told by the start. */
static void note_unread(struct store *store, const struct store_run *run,
                        uint64_t seq, enum status status)
{
    if (log_segment(&store->log, run->segment) != NULL) {
        store_damage_message(store, run, seq,
                             status == STATUS_IO ? DAMAGE_READ
                                                 : DAMAGE_MESSAGE);
    }
}

/* The time of the first message at or behind *seq that the keydir knows.
 * STATUS_CORRUPT, STATUS_IO: it cannot be read. STATUS_NOT_FOUND: none. */
static enum status time_of(struct store *store, uint32_t topic, uint64_t *seq,
                           uint64_t *time_us)
{
    struct trims *t = &store->merge.trims;
    struct store_run run;
    struct record record;
    struct slice bytes;
    uint64_t next;
    enum status status;

    if (t->reader == NULL
        && keydir_reader_open(&t->reader, store->keydir) != STATUS_OK) {
        return STATUS_NOT_FOUND;
    }
    status = keydir_find_run(t->reader, topic, *seq, &run, &next);
    if (status == STATUS_NOT_FOUND && next != 0) {
        *seq = next;
        status = keydir_find_run(t->reader, topic, *seq, &run, &next);
    }
    if (status != STATUS_OK) {
        return STATUS_NOT_FOUND;
    }
    status = merge_message(store, &run, *seq, &record, &bytes);
    if (status != STATUS_OK) {
        note_unread(store, &run, *seq, status);
        return status;
    }
    *time_us = record.time_us;
    return STATUS_OK;
}

/* Is the first message from *seq on, and before `stop`, that says so old? One
 * that cannot be read or is of the future says nothing; the next ones asked lie
 * ever farther behind it. *seq: which one said it. */
static bool begins_old(struct store *store, const struct keeping *k,
                       uint64_t *seq, uint64_t stop, uint64_t now_us)
{
    for (int i = 0; i < PROBES_MAX && *seq < stop; i++) {
        uint64_t time_us = 0;
        enum status status = time_of(store, k->topic, seq, &time_us);
        if (status == STATUS_NOT_FOUND || *seq >= stop) {
            return false;
        }
        if (status == STATUS_OK && time_us <= now_us) {
            return is_old(time_us, k->age_us, now_us);
        }
        *seq += UINT64_C(1) << i;
    }
    return false;
}

/* The first message that is not too old, by halves: times rise with the seqs.
 * `aged`: this one and all before are, as the tally has it. */
static uint64_t first_by_age(struct store *store, const struct keeping *k,
                             uint64_t aged, uint64_t now_us)
{
    uint64_t begin = aged >= k->first_seq ? aged + 1 : k->first_seq;
    uint64_t high = k->last_seq + 1;
    uint64_t low = begin;

    while (low < high) {
        uint64_t middle = low == begin ? low : low + (high - low) / 2;
        uint64_t seq = middle;
        if (begins_old(store, k, &seq, high, now_us)) {
            low = seq + 1;
        } else {
            high = middle;
        }
    }
    if (store->merge.trims.reader != NULL) {
        keydir_reader_reset(store->merge.trims.reader);
    }
    return low;
}

/* ---- how far ---- */

static struct record_trim settled_trim(const struct keeping *k,
                                       const struct topic_plan *plan)
{
    struct record_trim trim = { k->topic, keeping_first(k), k->floor_seq };

    if (k->owed_count > 0 && plan->bound >= k->floor_seq) {
        uint64_t through = keeping_settled_through(k, plan->bound);
        if (through >= k->floor_seq) {
            trim.floor_seq = through + 1;
        }
    }
    return trim;
}

static struct record_trim limit_trim(struct store *store,
                                     const struct keeping *k,
                                     const struct topic_plan *plan,
                                     uint64_t now_us)
{
    uint64_t first = k->first_seq;

    if (k->count != 0 && k->last_seq > k->count
        && k->last_seq - k->count + 1 > first) {
        first = k->last_seq - k->count + 1;
    }
    if (plan->bytes != 0 && plan->bytes_seen >= plan->bytes
        && plan->bytes_first > first) {
        first = plan->bytes_first;
    }
    if (k->age_us != 0) {
        uint64_t young = first_by_age(store, k, plan->aged, now_us);
        first = young > first ? young : first;
    }
    return (struct record_trim) { k->topic, first,
                                  first > k->floor_seq ? first : k->floor_seq };
}

/* ---- writing ---- */

static enum status write_trim(struct store *store, struct store_upkeep *upkeep,
                              const struct record_trim *trim)
{
    struct record record = { .kind = RECORD_TRIM };
    struct bytes body = { 0 };
    uint8_t *at = upkeep->to + upkeep->len;
    enum status status = record_trim_write(&body, trim);

    if (status == STATUS_OK) {
        size_t len = bytes_len(&body);
        memcpy(at + RECORD_HEADER_LEN, bytes_begin(&body), len);
        record.body = slice_of(at + RECORD_HEADER_LEN, len);
        record_finish(at, &record);
        upkeep->len += record_size(len);
        store->keeper.moves_owed++;
    }
    bytes_fini(&body);
    return status;
}

static enum status look_at_topic(struct store *store,
                                 struct store_upkeep *upkeep, uint32_t topic)
{
    struct trims *t = &store->merge.trims;
    struct keeping *k = &store->merge.keeping;
    const struct topic_plan *plan = &t->plans[topic];
    struct record_trim trim;
    enum status status = keeping_look(store, upkeep->policy, topic, k);

    if (status != STATUS_OK || k->deleted || k->keep != plan->keep) {
        return status;
    }
    trim = k->keep == STORE_KEEP_UNTIL_SETTLED
               ? settled_trim(k, plan)
               : limit_trim(store, k, plan, upkeep->now_us);
    if (trim.first_seq <= k->first_seq && trim.floor_seq <= k->floor_seq) {
        return STATUS_OK;
    }
    if (trim.floor_seq > k->floor_seq && k->keep == STORE_KEEP_UNTIL_SETTLED) {
        t->again = true;
    }
    return write_trim(store, upkeep, &trim);
}

/* Nothing lies between first message and floor, nor may the floor rise: no need
 * to look at what the groups have settled. */
static bool is_at_rest(const struct store *store, size_t topic)
{
    const struct topic_plan *plan = &store->merge.trims.plans[topic];
    const struct topic_note *note = &store->keeper.topics[topic];
    uint64_t floor_seq = note->floor_seq == 0 ? 1 : note->floor_seq;

    return plan->keep == 0
           || (plan->keep == STORE_KEEP_UNTIL_SETTLED && plan->bound < floor_seq
               && (floor_seq == 1 || note->first_seq >= floor_seq));
}

static enum status write_some(struct store *store, struct store_upkeep *upkeep,
                              bool *done)
{
    struct trims *t = &store->merge.trims;
    size_t stop = t->at + TOPICS_MAX_HERE / 4;

    for (; t->at < t->count; t->at++) {
        enum status status;
        if (is_at_rest(store, t->at)) {
            continue;
        }
        if (t->at >= stop
            || upkeep->room - upkeep->len < record_size(TRIM_BODY_LEN_MAX)) {
            return STATUS_OK;
        }
        status = look_at_topic(store, upkeep, (uint32_t)t->at);
        if (status != STATUS_OK) {
            return status;
        }
    }
    *done = true;
    return STATUS_OK;
}

enum status trims_step(struct store *store, struct store_upkeep *upkeep,
                       bool *done)
{
    *done = false;
    switch (store->merge.trims.part) {
    case TRIMS_ASK:
        return ask_some(store, upkeep);
    case TRIMS_TALLY:
        tally_some(store, upkeep->now_us);
        return STATUS_OK;
    case TRIMS_WRITE:
        return write_some(store, upkeep, done);
    }
    return STATUS_OK;
}
