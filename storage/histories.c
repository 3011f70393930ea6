#include "storage/histories.h"

#include "storage/internal.h"

#include <stdlib.h>

enum { ENTRIES_READ_MAX = 64, NOTES_KEPT_MAX = 4096 };

void histories_init(struct histories *histories)
{
    *histories = (struct histories) { .hand = { .any = true, .again = true } };
}

void histories_fini(struct histories *histories)
{
    free(histories->notes);
    bytes_fini(&histories->reasons);
    *histories = (struct histories) { 0 };
}

bool histories_full(const struct histories *histories)
{
    return histories->count >= HISTORIES_PENDING_MAX;
}

/* ---- taking note ---- */

static enum status note_one(struct histories *h,
                            const struct lane_record *record, uint64_t time_us,
                            const struct failure *failure)
{
    void *notes = h->notes;
    enum status status =
        keeper_reserve(&notes, &h->capacity, h->count + 1, sizeof *h->notes);

    if (status != STATUS_OK) {
        return status;
    }
    h->notes = notes;
    h->notes[h->count] = (struct history_note) {
        .group = record->group,
        .topic = record->topic,
        .failure = *failure,
        .time_us = time_us,
        .reason_at = bytes_len(&h->reasons),
        .order = h->count,
    };
    if (failure->reason.len > 0) {
        status =
            bytes_append(&h->reasons, failure->reason.at, failure->reason.len);
    }
    h->count += status == STATUS_OK;
    return status;
}

enum status histories_note(struct histories *histories,
                           const struct lane_record *record, uint64_t time_us)
{
    struct failed_reader r = record->body.failed;
    enum status status = STATUS_OK;

    CHECK(record->kind == RECORD_FAILED);
    for (size_t i = 0; i < r.count && status == STATUS_OK; i++) {
        struct failure failure = failed_next(&r);
        status = note_one(histories, record, time_us, &failure);
    }
    return status;
}

void histories_settled(struct histories *histories)
{
    if (histories->hand.any) {
        histories->hand.again = true;
    }
}

/* ---- a value ---- */

struct entry {
    uint64_t time_us;
    uint64_t holder;
    uint32_t attempts;
    uint8_t cause;
    bool dead;
    struct slice reason;
};

static bool next_entry(struct reader *r, struct entry *out)
{
    out->time_us = reader_u64(r);
    out->holder = reader_u64(r);
    out->attempts = reader_u32(r);
    out->cause = reader_u8(r);
    out->dead = reader_u8(r) != 0;
    out->reason = reader_slice(r, reader_u16(r));
    return !r->failed && out->cause >= CAUSE_NACK && out->cause <= CAUSE_REJECT
           && out->reason.len <= REASON_LEN_MAX;
}

/* All of them, oldest first; there are never more than ENTRIES_READ_MAX. */
static bool read_entries(struct slice value, struct entry *out, size_t *count)
{
    struct reader r = reader_of(value);

    *count = 0;
    while (r.at != r.end) {
        if (*count == ENTRIES_READ_MAX || !next_entry(&r, &out[*count])) {
            return false;
        }
        ++*count;
    }
    return true;
}

bool history_read(struct slice value, struct store_failure *out, size_t room,
                  size_t *count)
{
    struct entry entries[ENTRIES_READ_MAX];
    size_t all;

    if (!read_entries(value, entries, &all)) {
        return false;
    }
    *count = all < room ? all : room;
    for (size_t i = 0; i < *count; i++) {
        const struct entry *entry = &entries[all - *count + i];
        out[i] = (struct store_failure) {
            .time_us = entry->time_us,
            .holder = entry->holder,
            .attempts = entry->attempts,
            .cause = (enum failure_cause)entry->cause,
            .dead = entry->dead,
            .reason_len = (uint16_t)entry->reason.len,
        };
        if (entry->reason.len > 0) {
            memcpy(out[i].reason, entry->reason.at, entry->reason.len);
        }
    }
    return true;
}

static void write_entry(struct writer *w, const struct entry *entry)
{
    writer_u64(w, entry->time_us);
    writer_u64(w, entry->holder);
    writer_u32(w, entry->attempts);
    writer_u8(w, entry->cause);
    writer_u8(w, entry->dead ? 1 : 0);
    writer_u16(w, (uint16_t)entry->reason.len);
    writer_slice(w, entry->reason);
}

/* ---- writing ---- */

/* One message's value in the making. */
struct history {
    uint8_t key[HISTORY_KEY_LEN];
    struct entry entries[HISTORY_MAX]; /* oldest first */
    size_t count;
    struct bytes old; /* what some of their reasons point into */
    struct bytes value;
};

/* The same failure told twice, by a replay of what a snapshot knew, is one. */
static void add_entry(struct history *history, const struct entry *entry)
{
    for (size_t i = 0; i < history->count; i++) {
        const struct entry *known = &history->entries[i];
        if (known->time_us == entry->time_us
            && known->attempts == entry->attempts) {
            return;
        }
    }
    if (history->count == HISTORY_MAX) {
        memmove(history->entries, history->entries + 1,
                (HISTORY_MAX - 1) * sizeof *history->entries);
        history->count--;
    }
    history->entries[history->count++] = *entry;
}

static enum status begin_history(struct keydir *keydir, struct history *history)
{
    struct entry entries[ENTRIES_READ_MAX];
    enum status status;
    size_t count;

    history->count = 0;
    history->old.begin = history->old.end = 0;
    status = keydir_get_history(keydir, history->key, &history->old);
    if (status != STATUS_OK) {
        return status == STATUS_NOT_FOUND ? STATUS_OK : status;
    }
    if (!read_entries(
            slice_of(bytes_begin(&history->old), bytes_len(&history->old)),
            entries, &count)) {
        return STATUS_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        add_entry(history, &entries[i]);
    }
    return STATUS_OK;
}

static enum status end_history(struct keydir *keydir, struct history *history)
{
    struct writer w = { &history->value, STATUS_OK };
    struct slice value = { 0 };

    history->value.begin = history->value.end = 0;
    for (size_t i = 0; i < history->count; i++) {
        write_entry(&w, &history->entries[i]);
    }
    if (bytes_len(&history->value) > 0) {
        value =
            slice_of(bytes_begin(&history->value), bytes_len(&history->value));
    }
    if (w.status == STATUS_OK) {
        keydir_put_raw(keydir, HISTORIES,
                       slice_of(history->key, HISTORY_KEY_LEN), value);
    }
    return w.status;
}

static void key_of(uint8_t key[HISTORY_KEY_LEN],
                   const struct history_note *note)
{
    history_key(key, note->group, note->topic, note->failure.seq);
}

static int by_key(const void *a, const void *b)
{
    const struct history_note *x = a;
    const struct history_note *y = b;
    uint8_t x_key[HISTORY_KEY_LEN];
    uint8_t y_key[HISTORY_KEY_LEN];
    int order;

    key_of(x_key, x);
    key_of(y_key, y);
    order = memcmp(x_key, y_key, HISTORY_KEY_LEN);
    return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

/* Is anything to be known of the message any more? */
static enum status is_wanted(struct store *store, uint32_t group,
                             uint32_t topic, uint64_t seq, bool *wanted)
{
    struct lane_image *lane;
    enum status status = keeper_lane(store, group, topic, &lane);

    *wanted = status == STATUS_OK && lane != NULL
              && seq >= keeper_first_seq(&store->keeper, topic)
              && !seqset_has(&lane->acked, seq);
    return status;
}

/* Those of one message: `count` notes. */
static enum status write_one(struct store *store, struct history *history,
                             const struct history_note *notes, size_t count)
{
    const struct histories *h = &store->keeper.histories;
    enum status status;
    bool wanted;

    status = is_wanted(store, notes->group, notes->topic, notes->failure.seq,
                       &wanted);
    if (status != STATUS_OK || !wanted) {
        return status; /* if the table has it the hand will find it */
    }
    key_of(history->key, notes);
    status = begin_history(store->keydir, history);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const struct failure *f = &notes[i].failure;
        const struct slice none = { 0 };
        add_entry(history,
                  &(struct entry) {
                      .time_us = notes[i].time_us,
                      .holder = f->holder,
                      .attempts = f->attempts,
                      .cause = f->cause,
                      .dead = f->dead,
                      .reason = f->reason.len == 0
                                    ? none
                                    : slice_of(bytes_begin(&h->reasons)
                                                   + notes[i].reason_at,
                                               f->reason.len),
                  });
    }
    return status == STATUS_OK ? end_history(store->keydir, history) : status;
}

static bool same_message(const struct history_note *a,
                         const struct history_note *b)
{
    return a->group == b->group && a->topic == b->topic
           && a->failure.seq == b->failure.seq;
}

static enum status write_notes(struct store *store)
{
    struct histories *h = &store->keeper.histories;
    struct history history = { .count = 0 };
    enum status status = STATUS_OK;

    if (h->count > 1) {
        qsort(h->notes, h->count, sizeof *h->notes, by_key);
    }
    for (size_t i = 0; i < h->count && status == STATUS_OK;) {
        size_t stop = i + 1;
        while (stop < h->count && same_message(&h->notes[i], &h->notes[stop])) {
            stop++;
        }
        status = write_one(store, &history, &h->notes[i], stop - i);
        i = stop;
    }
    bytes_fini(&history.old);
    bytes_fini(&history.value);
    return status;
}

/* ---- the hand ---- */

static enum status look_at_key(void *arg, const uint8_t *key, bool *wanted)
{
    return is_wanted(arg, get_be32(key), get_be32(key + 4), get_be64(key + 8),
                     wanted);
}

/* From the first key to the last, in as many checkpoints as that takes, and
 * then again if anything was settled meanwhile. */
static enum status move_hand(struct store *store)
{
    static const uint8_t first[HISTORY_KEY_LEN];
    struct histories *h = &store->keeper.histories;
    struct keydir_sweep_keys sweep = {
        .fn = look_at_key,
        .arg = store,
        .budget = HISTORY_SWEEP_MIN + 2 * h->count,
    };
    bool begins = memcmp(h->next.key, first, sizeof first) == 0;
    enum status status;

    if (begins && !h->next.again) {
        return STATUS_OK;
    }
    if (begins) {
        h->next.again = false;
    }
    memcpy(sweep.key, h->next.key, sizeof sweep.key);
    status = keydir_sweep_histories(store->keydir, &sweep);
    memcpy(h->next.key, sweep.ended ? first : sweep.key, sizeof h->next.key);
    if (begins && sweep.ended && sweep.kept == 0) {
        h->next.any = h->next.again = false;
    }
    return status;
}

enum status histories_write(struct store *store, bool *more)
{
    struct histories *h = &store->keeper.histories;
    enum status status;

    h->next = h->hand;
    h->next.any = h->hand.any || h->count > 0;
    status = write_notes(store);
    if (status == STATUS_OK && h->next.any) {
        status = move_hand(store);
    }
    *more = h->next.again || get_u64(h->next.key) != 0
            || get_u64(h->next.key + 8) != 0;
    return status;
}

void histories_written(struct histories *histories)
{
    histories->count = 0;
    histories->reasons.begin = histories->reasons.end = 0;
    if (histories->capacity > NOTES_KEPT_MAX) { /* there was a storm */
        free(histories->notes);
        bytes_fini(&histories->reasons);
        histories->notes = NULL;
        histories->capacity = 0;
    }
    histories->hand = histories->next;
}
