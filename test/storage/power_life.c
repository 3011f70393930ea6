#include "test/storage/power_life.h"

#include "proto/check.h"
#include "storage/internal.h"
#include "test/lib/calls.h"
#include "test/storage/power_bugs.h"
#include "test/storage/power_records.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_TOPICS = 3,
    FIRST_GROUPS = 2,
    SEGMENT_LEN = 32 * 1024,
    UPKEEP_ROOM = 1024 * 1024,
    UPKEEP_CALLS_MAX = 12,
    SPACE_TRIES_MAX = 5,
    SCRUB_LEN = 20000,
    KEPT_COUNT = 25 /* messages of the topics that are kept by count */
};

static void *grow(void *array, size_t *capacity, size_t count, size_t entry)
{
    if (count < *capacity) {
        return array;
    }
    *capacity = *capacity == 0 ? 64 : *capacity * 2;
    array = realloc(array, *capacity * entry);
    CHECK(array != NULL);
    return array;
}

/* The events of the next batch are applied. */
static void note_applied(struct life *life)
{
    size_t batch = life->applied_count++;
    size_t from = batch == 0 ? 0 : life->batches[batch - 1].event_stop;

    for (size_t i = from; i < life->batches[batch].event_stop; i++) {
        model_apply(&life->applied, &life->events[i]);
    }
}

/* ---- calls that may fail ---- */

static void note_inside(struct life *life, bool store)
{
    if (life->inside != NULL) {
        life->inside(store);
    }
}

/* A store that is full says so and goes on; one that cannot know what the disk
 * has does nothing any more. */
static bool went_well(struct life *life, enum status status)
{
    if (status == STATUS_OK) {
        return true;
    }
    if (!life->faulty) {
        fprintf(stderr, "%s: %s\n", status_word(status), life->h.err.text);
    }
    CHECK(life->faulty);
    life->failures++;
    if (store_frozen(life->h.store)) {
        life->stopped = true;
    } else if (status != STATUS_NO_SPACE && status != STATUS_NOMEM) {
        fprintf(stderr, "%s, and not frozen: %s\n", status_word(status),
                life->h.err.text);
        CHECK(!"frozen");
    }
    return false;
}

#define IN_STORE(life, call)                                                   \
    (note_inside(life, true), (life)->status = (call),                         \
     note_inside(life, false), (life)->status)

/* ---- the log ---- */

static void note_event(struct life *life, const struct event *event)
{
    life->events = grow(life->events, &life->event_capacity, life->event_count,
                        sizeof *life->events);
    life->events[life->event_count++] = *event;
    model_apply(&life->tried, event);
}

/* Of a chain all are refused or none is, and it is in one batch. */
static void check_chain(struct life *life, const struct event *event,
                        bool begins_batch, bool refused)
{
    if (event->chain != 0 && event->chain == life->last_chain) {
        CHECK(refused == life->chain_refused);
        CHECK(!begins_batch || life->bug == BUG_SPLIT_CHAIN);
    }
    life->last_chain = event->chain;
    life->chain_refused = refused;
}

/* One before it that was refused, or that was forgotten and so stored again,
 * has shifted it; that it is the next of its topic the model checks. */
static void note_numbered(struct life *life, const struct event *foreseen,
                          const uint8_t *record)
{
    struct event event = *foreseen;

    if (event.kind == EVENT_MESSAGE) {
        CHECK(life->faulty || record_seq_at(record) == event.first);
        event.first = record_seq_at(record);
    }
    note_event(life, &event);
}

/* The records that this batch took: what became of each is as expected. */
static void note_records(struct life *life, size_t len, size_t *done)
{
    for (size_t at = 0; at < len; at += record_size_at(life->h.buffer + at)) {
        const uint8_t *record = life->h.buffer + at;
        const struct event *event = &life->adding[*done];
        bool duplicate = life->expect_duplicate[(*done)++];
        uint8_t flags = record_flags_at(record);
        if (life->faulty && (flags & RECORD_REFUSED) != 0
            && event->kind == EVENT_MESSAGE) {
            life->refused++;
            check_chain(life, event, at == 0, true);
            continue;
        }
        if (life->faulty && duplicate && (flags & RECORD_DUPLICATE) == 0) {
            /* what was to be known is forgotten, for want of memory */
            CHECK(life->inside != NULL);
        } else {
            CHECK(((flags & RECORD_DUPLICATE) != 0) == duplicate
                  && (flags & RECORD_REFUSED) == 0);
        }
        if ((flags & RECORD_DUPLICATE) != 0) {
            continue;
        }
        check_chain(life, event, at == 0, false);
        note_numbered(life, event, record);
    }
}

static void note_batch(struct life *life, const struct store_commit *commit,
                       size_t tried)
{
    life->bytes += commit->len;
    life->batches = grow(life->batches, &life->batch_capacity,
                         life->batch_count, sizeof *life->batches);
    life->batches[life->batch_count++] =
        (struct life_batch) { life->event_count, tried, SIZE_MAX, life->bytes };
    CHECK(life->waiting_count < COUNT_OF(life->waiting));
    life->waiting[life->waiting_count++] = *commit;
}

static void confirm(struct life *life)
{
    for (; life->confirmed_count < life->batch_count; life->confirmed_count++) {
        life->batches[life->confirmed_count].confirmed = life->trace.count;
    }
}

/* A write failed: nobody knows whether these are in the log. */
static void note_doubtful(struct life *life, size_t done)
{
    static const struct store_commit none;

    for (; done < life->added; done++) {
        struct event event = life->adding[done];
        if (event.kind == EVENT_MESSAGE) {
            event.first = life->tried.topics[event.topic].last + 1;
        }
        if (!life->expect_duplicate[done]) {
            note_event(life, &event);
        }
    }
    note_batch(life, &none, life->trace.count);
    life->waiting_count--;
}

/* The buffer into the log, in as many batches as it takes. */
static void append(struct life *life)
{
    struct harness *h = &life->h;
    size_t done = 0;

    while (h->len > 0 && !life->stopped) {
        struct store_span span = { .at = h->buffer, .len = h->len };
        struct store_commit commit;
        size_t tried = life->trace.count;
        if (life->bug == BUG_SPLIT_CHAIN) {
            h->buffer[5] &= (uint8_t)~RECORD_MORE;
            span.len = record_size_at(h->buffer);
        }
        h->now_us += 1000;
        if (!went_well(
                life, IN_STORE(life, store_append(h->store, &span, 1, h->now_us,
                                                  &commit, &h->err)))) {
            if (life->stopped) {
                note_doubtful(life, done);
                if (life->bug == BUG_CONFIRM_FAILED) {
                    confirm(life);
                }
            }
            break;
        }
        CHECK(span.taken > 0);
        note_records(life, span.taken, &done);
        if (commit.record_count > 0) {
            note_batch(life, &commit, tried);
        }
        memmove(h->buffer, h->buffer + span.taken, h->len - span.taken);
        h->len -= span.taken;
    }
    CHECK(done == life->added || life->failures > 0);
    h->len = 0;
    life->added = 0;
}

static void note_checkpoint(struct life *life)
{
    life->checkpoints = grow(life->checkpoints, &life->checkpoint_capacity,
                             life->checkpoint_count, sizeof *life->checkpoints);
    life->checkpoints[life->checkpoint_count++] =
        (struct life_checkpoint) { life->trace.count, life->bytes };
}

static void checkpoint(struct life *life)
{
    if (!life->stopped
        && went_well(life, IN_STORE(life, store_checkpoint(life->h.store,
                                                           &life->h.err)))) {
        note_checkpoint(life);
    }
}

static enum status apply_one(struct life *life,
                             const struct store_commit *commit)
{
    enum status status = IN_STORE(life, store_apply(life->h.store, commit));

    if (status == STATUS_AGAIN) {
        checkpoint(life);
        status = IN_STORE(life, store_apply(life->h.store, commit));
    }
    return status;
}

/* What a view cannot take in now it can a little later. */
static void show(struct life *life, const struct store_commit *commit)
{
    enum status status =
        IN_STORE(life, store_view_commit(life->h.view, commit, NULL));

    if (status != STATUS_OK) {
        CHECK(life->faulty && (status == STATUS_NOMEM || status == STATUS_IO));
        life->failures++;
        status = store_view_commit(life->h.view, commit, NULL);
    }
    CHECK(status == STATUS_OK);
}

static void apply_waiting(struct life *life)
{
    for (size_t i = 0; i < life->waiting_count; i++) {
        show(life, &life->waiting[i]);
    }
    for (size_t i = 0; i < life->waiting_count && !life->stopped; i++) {
        while (!went_well(life, apply_one(life, &life->waiting[i]))
               && !life->stopped) {
            CHECK(life->failures < 1000);
        }
        if (!life->stopped) {
            note_applied(life);
        }
    }
    store_view_rest(life->h.view);
    life->waiting_count = 0;
}

static void sync_all(struct life *life)
{
    if (life->stopped) {
        return;
    }
    if (life->bug == BUG_CONFIRM_EARLY) {
        confirm(life);
    }
    if (life->bug == BUG_CHECKPOINT_EARLY && life_draw(life, 3) == 0) {
        apply_waiting(life);
        checkpoint(life);
    }
    if (went_well(life,
                  IN_STORE(life, store_sync(life->h.store, &life->h.err)))) {
        confirm(life);
        apply_waiting(life);
    }
}

/* ---- upkeep ---- */

static bool policy_topic(void *arg, uint32_t topic, struct store_retention *out)
{
    struct life *life = arg;
    const struct model *now = &life->applied;

    if (topic >= MODEL_TOPICS
        || now->facts[CATALOG_TOPIC][topic] != FACT_LIVE) {
        return false;
    }
    *out = (struct store_retention) { .keep = STORE_KEEP_UNTIL_SETTLED,
                                      .owed = life->owed };
    if (topic % 3 == 2) {
        out->keep = STORE_KEEP_UNTIL_LIMIT;
        out->count = KEPT_COUNT;
    }
    for (uint32_t group = 1; group < MODEL_GROUPS; group++) {
        if (now->facts[CATALOG_GROUP][group] == FACT_LIVE) {
            life->owed[out->owed_count++] =
                (struct store_owed) { group, now->after[group][topic] };
        }
    }
    return true;
}

/* Trims are news; moved messages are what they were. */
static void note_moved(struct life *life, const uint8_t *at, size_t len)
{
    for (size_t done = 0; done < len; done += record_size_at(at + done)) {
        struct record record;
        struct record_trim trim;
        record_fields_at(at + done, &record);
        if (record.kind == RECORD_TRIM) {
            uint32_t body_len = get_u32(at + done) - RECORD_HEADER_LEN;
            CHECK(trim_read(slice_of(at + done + RECORD_HEADER_LEN, body_len),
                            &trim)
                  == STATUS_OK);
            note_event(life, &(struct event) { .kind = EVENT_TRIM,
                                               .topic = trim.topic,
                                               .first = trim.first_seq,
                                               .last = trim.floor_seq });
        }
    }
}

/* What upkeep wrote has to go into the log before anything else of it does. */
static void ask_for_space(struct life *life, int *tries)
{
    if (!life->stopped) {
        life->h.now_us += 1000 * 1000;
        (void)went_well(
            life, IN_STORE(life, store_prepare(life->h.store, &life->h.err)));
        life->stopped = life->stopped || ++*tries == SPACE_TRIES_MAX;
    }
}

static void append_moved(struct life *life, uint8_t *at, size_t len)
{
    struct harness *h = &life->h;
    int tries = 0;

    while (len > 0 && !life->stopped) {
        struct store_span span = { .at = at, .len = len };
        struct store_commit commit;
        size_t tried = life->trace.count;
        bool taken = went_well(
            life, IN_STORE(life, store_append_merge(h->store, &span, h->now_us,
                                                    &commit, &h->err)));
        if (!taken) {
            if (life->stopped) {
                note_moved(life, at, len);
                note_doubtful(life, 0);
            }
            ask_for_space(life, &tries);
            continue;
        }
        note_moved(life, at, span.taken);
        note_batch(life, &commit, tried);
        at += span.taken;
        len -= span.taken;
    }
}

static void upkeep(struct life *life)
{
    struct store_policy policy = { policy_topic, life };
    bool more = true;

    sync_all(life);
    for (int i = 0; i < UPKEEP_CALLS_MAX && more && !life->stopped; i++) {
        struct store_upkeep asked = { .policy = &policy,
                                      .now_us = life->h.now_us,
                                      .to = life->moving,
                                      .room = UPKEEP_ROOM };
        if (!went_well(life, IN_STORE(life, store_upkeep(life->h.store, &asked,
                                                         &life->h.err)))) {
            return;
        }
        more = asked.more;
        append_moved(life, life->moving, asked.len);
        sync_all(life);
    }
}

/* Nothing here is damaged; a fault may look so. */
static void scrub(struct life *life)
{
    struct store_scrub asked = { .budget = SCRUB_LEN };
    struct store_damage damage;
    uint64_t next = 0;
    enum status status =
        IN_STORE(life, store_scrub(life->h.store, &asked, &life->h.err));

    if (status == STATUS_IO && life->faulty) {
        life->failures++;
        return; /* what did not read is named, and it goes on behind it */
    }
    if (went_well(life, status)
        && store_damage_seen(life->h.store, &next, &damage, 1) > 0) {
        fprintf(stderr, "scrub: %s in segment %u at %u, %u bytes\n",
                store_damage_word(damage.kind), damage.segment, damage.offset,
                damage.len);
        CHECK(life->failures > 0);
    }
}

/* ---- open, close, die ---- */

/* It must be as it was, to the letter. */
static void check_self(struct life *life)
{
    static char has[MODEL_TEXT_LEN];
    static char expected[MODEL_TEXT_LEN];

    const char *history = histories_differ(&life->h, &life->tried);

    if (history[0] != '\0') {
        fprintf(stderr, "after a reopening: history of %s\n", history);
        CHECK(!"the histories are as they were");
    }
    store_text(&life->h, has);
    model_text(&life->tried, expected);
    if (strcmp(has, expected) != 0) {
        fprintf(stderr, "after a reopening:\n%s\nexpected:\n%s\n", has,
                expected);
        CHECK(!"the store is as it was");
    }
}

static void open_store(struct life *life)
{
    enum status status = IN_STORE(life, harness_open(&life->h));

    if (status != STATUS_OK) {
        if (!life->faulty) {
            fprintf(stderr, "open: %s\n", life->h.err.text);
        }
        if (life->h.err.text[0] == '\0') {
            fprintf(stderr, "open: %s, and no text\n", status_word(status));
        }
        CHECK(life->faulty && life->h.err.text[0] != '\0');
        life->failures++;
        life->stopped = true;
        return;
    }
    confirm(life); /* all that the log holds is durable */
    while (life->applied_count < life->batch_count) {
        note_applied(life);
    }
    life->waiting_count = 0;
    note_checkpoint(life);
    if (!life->faulty) {
        check_self(life);
    }
}

static void add_stats(struct life *life)
{
    struct store_stats stats;

    if (life->h.store != NULL) {
        store_stats(life->h.store, &stats);
        life->sums.log_bytes += stats.log_bytes;
        life->sums.checkpoints += stats.checkpoints;
        life->sums.moved_bytes += stats.moved_bytes;
        life->sums.freed_bytes += stats.freed_bytes;
        life->sums.snapshots += stats.snapshots;
        life->sums.scrub_passes += stats.scrub_passes;
    }
}

static void close_store(struct life *life)
{
    add_stats(life);
    note_inside(life, true);
    harness_close(&life->h);
    note_inside(life, false);
}

/* Without a clean end. */
static void die(struct life *life)
{
    store_freeze(life->h.store);
    close_store(life);
    open_store(life);
}

static void reopen(struct life *life)
{
    close_store(life);
    open_store(life);
}

static struct life *new_life(uint64_t seed, enum power_bug bug)
{
    struct life *life = calloc(1, sizeof *life);

    CHECK(life != NULL);
    life->state = seed;
    life->bug = bug;
    model_init(&life->tried);
    model_init(&life->applied);
    life->moving = malloc(UPKEEP_ROOM);
    CHECK(life->moving != NULL);
    harness_init(&life->h);
    life->h.config.segment_len = SEGMENT_LEN;
    calls_be_cheap(true);
    calls_seed(seed | 1);
    power_bug_set(bug);
    return life;
}

static void begin(struct life *life)
{
    open_store(life);
    if (life->stopped) {
        return;
    }
    for (uint32_t i = 1; i <= FIRST_TOPICS; i++) {
        add_fact_of(life, CATALOG_TOPIC, i, false);
    }
    for (uint32_t i = 1; i <= FIRST_GROUPS; i++) {
        add_fact_of(life, CATALOG_GROUP, i, false);
    }
    append(life);
    sync_all(life);
}

struct life *life_begin(uint64_t seed, enum power_bug bug)
{
    struct life *life = new_life(seed, bug);

    life->trace.forget_syncs = bug == BUG_NO_SYNC;
    life->trace.forget_dir_syncs = bug == BUG_NO_DIR_SYNC;
    disk_trace_start(&life->trace, life->h.dir);
    begin(life);
    return life;
}

struct life *life_new_faulty(uint64_t seed, enum power_bug bug,
                             void (*inside)(bool store))
{
    struct life *life = new_life(seed, bug);

    life->faulty = true;
    life->inside = inside;
    return life;
}

void life_end(struct life *life)
{
    close_store(life);
    disk_trace_stop(&life->trace);
    calls_seed(0);
    power_bug_set(BUG_NONE);
}

void life_free(struct life *life)
{
    harness_fini(&life->h);
    disk_trace_fini(&life->trace);
    free(life->moving);
    free(life->events);
    free(life->batches);
    free(life->checkpoints);
    free(life);
}

/* ---- steps ---- */

void life_step(struct life *life, enum life_step step)
{
    if (life->stopped) {
        return;
    }
    switch (step) {
    case STEP_PUBLISH:
        add_one(life, some_topic(life), 0, false);
        break;
    case STEP_PUBLISH_BIG:
        add_some_messages(life, 6);
        break;
    case STEP_SETTLE:
        add_settling(life);
        break;
    case STEP_FACT:
        add_some_fact(life);
        break;
    case STEP_FILL:
        add_many(life);
        break;
    case STEP_SETTLE_ALL:
        add_settling_of_all(life);
        break;
    case STEP_UPKEEP:
        upkeep(life);
        return;
    case STEP_SCRUB:
        scrub(life);
        return;
    case STEP_PREPARE:
        (void)went_well(
            life, IN_STORE(life, store_prepare(life->h.store, &life->h.err)));
        return;
    case STEP_CHECKPOINT:
        checkpoint(life);
        return;
    case STEP_REOPEN:
        reopen(life);
        return;
    case STEP_DIE:
        die(life);
        return;
    case LIFE_STEPS:
        return;
    }
    append(life);
    sync_all(life);
}

/* One to four batches, then mostly one sync for all of them. */
static void work(struct life *life)
{
    unsigned batches = 1 + (unsigned)life_draw(life, 4);

    while (batches-- > 0) {
        if (life_draw(life, 12) == 0) {
            add_some_fact(life);
        } else {
            add_some_messages(life, 1 + (unsigned)life_draw(life, 6));
            for (uint64_t i = life_draw(life, 4); i > 0; i--) {
                add_settling(life);
            }
        }
        append(life);
    }
    if (life_draw(life, 10) != 0) {
        sync_all(life);
    }
}

void life_live(struct life *life, int steps)
{
    for (int i = 0; i < steps && !life->stopped; i++) {
        work(life);
        if (life_draw(life, 4) == 0) {
            life_step(life, STEP_PREPARE);
        }
        if (life_draw(life, 9) == 0) {
            sync_all(life);
            life_step(life, STEP_CHECKPOINT);
        }
        if (life_draw(life, 4) == 0) {
            life_step(life, STEP_SETTLE_ALL);
        }
        if (life_draw(life, 3) == 0) {
            life_step(life, STEP_UPKEEP);
        }
        if (life_draw(life, 8) == 0) {
            life_step(life, STEP_SCRUB);
        }
        if (life_draw(life, 6) == 0) {
            life_step(life, STEP_FILL);
        }
        if (life_draw(life, 30) == 0) {
            life_step(life, life_draw(life, 2) == 0 ? STEP_REOPEN : STEP_DIE);
        }
    }
}

void life_cycle(struct life *life)
{
    static const enum life_step steps[] = {
        STEP_PUBLISH_BIG, STEP_SETTLE,     STEP_PREPARE,    STEP_FILL,
        STEP_CHECKPOINT,  STEP_FACT,       STEP_SETTLE,     STEP_FILL,
        STEP_PUBLISH_BIG, STEP_DIE,        STEP_SETTLE,     STEP_PREPARE,
        STEP_SETTLE_ALL,  STEP_FILL,       STEP_CHECKPOINT, STEP_FILL,
        STEP_SETTLE_ALL,  STEP_SETTLE_ALL, STEP_SETTLE_ALL, STEP_CHECKPOINT,
        STEP_UPKEEP,      STEP_SCRUB,      STEP_UPKEEP,     STEP_PREPARE,
        STEP_FILL,        STEP_FILL,       STEP_REOPEN,     STEP_PUBLISH,
        STEP_SETTLE,      STEP_UPKEEP,     STEP_FILL,
    };

    begin(life);
    for (size_t i = 0; i < COUNT_OF(steps) && !life->stopped; i++) {
        life_step(life, steps[i]);
    }
}

/* ---- frozen ---- */

static void check_readable(struct life *life, const struct event *event)
{
    struct record record;
    char body[MODEL_BODY_LEN];
    size_t len = model_body(event->topic, event->salt, body);
    enum status status =
        message_at(&life->h, event->topic, event->first, &record, NULL);

    if (status == STATUS_NOT_FOUND
        && (life->tried.facts[CATALOG_TOPIC][event->topic] == FACT_DELETED
            || model_is_gone(&life->tried, event->topic, event->first)
            || model_may_go(&life->tried, event->topic, event->first))) {
        return;
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "frozen: topic %u seq %llu: %s\n", event->topic,
                (unsigned long long)event->first, status_word(status));
    }
    CHECK(status == STATUS_OK && record.body.len == len
          && memcmp(record.body.at, body, len) == 0);
}

void life_check_frozen(struct life *life)
{
    struct harness *h = &life->h;
    struct store_commit commit;
    size_t stop = life->confirmed_count == 0
                      ? 0
                      : life->batches[life->confirmed_count - 1].event_stop;

    if (h->store == NULL || !store_frozen(h->store)) {
        return;
    }
    add_message(h, 1, "after");
    CHECK(harness_append(h, &commit) == STATUS_FROZEN);
    CHECK(store_sync(h->store, &h->err) == STATUS_FROZEN);
    CHECK(store_prepare(h->store, &h->err) == STATUS_FROZEN);
    CHECK(store_checkpoint(h->store, &h->err) == STATUS_FROZEN);
    for (size_t i = 0; i < stop; i++) {
        if (life->events[i].kind == EVENT_MESSAGE) {
            check_readable(life, &life->events[i]);
        }
    }
}

/* ---- the ledger at a cut ---- */

size_t life_confirmed(const struct life *life, size_t cut)
{
    size_t count = 0;

    while (count < life->batch_count && life->batches[count].confirmed <= cut) {
        count++;
    }
    return count;
}

size_t life_tried(const struct life *life, size_t cut)
{
    size_t count = 0;

    while (count < life->batch_count && life->batches[count].tried <= cut) {
        count++;
    }
    return count;
}
