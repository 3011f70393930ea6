/* What is known to be damaged: the last places by name, and all of them (up to
 * a bound) so that each is counted once, however often it is read. Found
 * rarely, so a lock does. */
#include "storage/internal.h"

#include <stdlib.h>

enum { KIND_SHIFT = 56 };

void damages_init(struct damages *damages)
{
    *damages = (struct damages) { 0 };
    pthread_mutex_init(&damages->lock, NULL);
}

void damages_fini(struct damages *damages)
{
    free(damages->places);
    pthread_mutex_destroy(&damages->lock);
}

/* Add it to an open-addressed table that never fills up. False: known. When no
 * more places can be remembered each one counts as new: rather too many than
 * none. */
static bool is_new(struct damages *damages, uint64_t place)
{
    size_t mask = DAMAGE_PLACES_MAX * 2 - 1;
    size_t i = (size_t)((place * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & mask;

    if (damages->places == NULL) {
        damages->places = calloc(mask + 1, sizeof *damages->places);
        if (damages->places == NULL) {
            return true;
        }
    }
    for (; damages->places[i] != 0; i = (i + 1) & mask) {
        if (damages->places[i] == place) {
            return false;
        }
    }
    if (damages->place_count < DAMAGE_PLACES_MAX) {
        damages->places[i] = place;
        damages->place_count++;
    }
    return true;
}

static void count(struct figures *figures, enum damage_kind kind)
{
    switch (kind) {
    case DAMAGE_MESSAGE:
    case DAMAGE_RECORD:
    case DAMAGE_PADDING:
        figure_add(&figures->damaged_records, 1);
        break;
    case DAMAGE_HEAD:
    case DAMAGE_BATCH:
    case DAMAGE_INDEX:
    case DAMAGE_CHAIN:
        figure_add(&figures->damaged_batches, 1);
        break;
    case DAMAGE_READ:
    case DAMAGE_SNAPSHOT:
    case DAMAGE_KEYDIR:
        break;
    }
}

/* The log may have lost what only the keydir knows now. */
static bool wants_snapshot(enum damage_kind kind)
{
    return kind == DAMAGE_RECORD || kind == DAMAGE_BATCH || kind == DAMAGE_CHAIN
           || kind == DAMAGE_SNAPSHOT;
}

bool store_damage_note(struct store *store, const struct store_damage *damage)
{
    struct damages *damages = &store->damages;
    uint64_t place = place_of(damage->segment, damage->offset)
                     | (uint64_t)damage->kind << KIND_SHIFT;
    bool fresh;

    pthread_mutex_lock(&damages->lock);
    fresh = is_new(damages, place);
    if (fresh) {
        struct store_damage *kept =
            &damages->kept[damages->count % STORE_DAMAGE_KEPT];
        *kept = *damage;
        if (kept->segment == 0) {
            kept->offset = 0; /* it only told this one from others */
        }
        damages->count++;
    }
    pthread_mutex_unlock(&damages->lock);
    if (fresh) {
        count(&store->figures, damage->kind);
        if (wants_snapshot(damage->kind)) {
            atomic_store_explicit(&store->snapshot_wanted, true,
                                  memory_order_release);
        }
    }
    return fresh;
}

static bool can_read(struct store *store, const struct segment *segment,
                     uint64_t at, uint64_t len)
{
    return at + len <= segment_source(segment, &store->log).limit
           && segment_readable(segment, &store->log, at, at + len);
}

/* What the batch's table says of the message; 0: nothing that makes sense. */
static uint32_t place_in_table(struct store *store,
                               const struct segment *segment,
                               const struct store_run *run, uint64_t seq)
{
    uint64_t entry = run->table + (seq - run->first_seq) * 4;
    uint32_t at;

    if (run->table == 0 || !can_read(store, segment, entry, 4)) {
        return 0;
    }
    at = get_u32(segment->map + entry);
    return at > run->batch && at < run->table && at % RECORD_ALIGN == 0 ? at
                                                                        : 0;
}

void store_damage_message(struct store *store, const struct store_run *run,
                          uint64_t seq, enum damage_kind kind)
{
    const struct segment *segment = log_segment(&store->log, run->segment);
    struct store_damage damage = { .kind = kind,
                                   .segment = run->segment,
                                   .offset = run->batch,
                                   .topic = run->topic,
                                   .seq = seq };
    struct record record;
    uint32_t at = 0;

    if (segment != NULL && segment->map != NULL) {
        at = place_in_table(store, segment, run, seq);
    }
    if (at != 0) {
        damage.offset = at;
    }
    if (at != 0 && can_read(store, segment, at, RECORD_HEADER_LEN)
        && record_header_whole(segment->map + at)) {
        record_fields_at(segment->map + at, &record);
        if (record.topic == run->topic && record.seq == seq) {
            damage.len = (uint32_t)record_size_at(segment->map + at);
        } else { /* of another one: it is the table that is wrong */
            damage.offset = run->batch;
        }
    }
    (void)store_damage_note(store, &damage);
}

size_t store_damage_seen(struct store *store, uint64_t *next,
                         struct store_damage *out, size_t room)
{
    struct damages *damages = &store->damages;
    uint64_t at = *next;
    size_t given = 0;

    pthread_mutex_lock(&damages->lock);
    if (damages->count > STORE_DAMAGE_KEPT
        && at < damages->count - STORE_DAMAGE_KEPT) {
        at = damages->count - STORE_DAMAGE_KEPT;
    }
    while (at < damages->count && given < room) {
        out[given++] = damages->kept[at++ % STORE_DAMAGE_KEPT];
    }
    pthread_mutex_unlock(&damages->lock);
    *next = at;
    return given;
}

const char *store_damage_word(enum damage_kind kind)
{
    switch (kind) {
#define X(name, number, word)                                                  \
    case name:                                                                 \
        return word;
        STORE_DAMAGE_MAP(X)
#undef X
    }
    return "unknown";
}
