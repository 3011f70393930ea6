#include "storage/merge.h"

#include "storage/internal.h"

enum { STEPS_MAX = 32 /* of a call */ };

/* What a step came to. */
enum turn {
    TURN_GO,   /* another step, in this call or the next */
    TURN_REST, /* nothing to do until something else happens */
    TURN_FAIL
};

static const bool may_follow[MERGE_UNMAP + 1][MERGE_UNMAP + 1] = {
    [MERGE_REST] = { [MERGE_TRIMS] = true, [MERGE_SNAPSHOT] = true },
    [MERGE_TRIMS] = { [MERGE_TRIMMED] = true, [MERGE_CHOOSE] = true },
    [MERGE_TRIMMED] = { [MERGE_TRIMS] = true, [MERGE_CHOOSE] = true },
    [MERGE_CHOOSE] = { [MERGE_MOVE] = true,
                       [MERGE_SNAPSHOT] = true,
                       [MERGE_REST] = true },
    [MERGE_MOVE] = { [MERGE_SETTLE] = true, [MERGE_CHOOSE] = true },
    [MERGE_SETTLE] = { [MERGE_ERASE] = true, [MERGE_CHOOSE] = true },
    [MERGE_ERASE] = { [MERGE_CHOOSE] = true, [MERGE_SNAPSHOT] = true },
    [MERGE_SNAPSHOT] = { [MERGE_HOLD] = true,
                         [MERGE_REST] = true,
                         [MERGE_SNAPSHOT] = true },
    [MERGE_HOLD] = { [MERGE_EMPTY] = true },
    [MERGE_EMPTY] = { [MERGE_UNMAP] = true },
    [MERGE_UNMAP] = { [MERGE_REST] = true },
};

static void move_to(struct merge *merge, enum merge_stage stage)
{
    CHECK(may_follow[merge->stage][stage]);
    merge->stage = stage;
    merge->trimming = false;
    switch (stage) {
    case MERGE_TRIMS:
        trims_begin(&merge->trims);
        break;
    case MERGE_CHOOSE:
        victims_begin(merge);
        break;
    case MERGE_MOVE:
        moving_begin(merge, merge->best);
        break;
    case MERGE_REST:
    case MERGE_TRIMMED:
    case MERGE_SETTLE:
    case MERGE_ERASE:
    case MERGE_SNAPSHOT:
    case MERGE_HOLD:
    case MERGE_EMPTY:
    case MERGE_UNMAP:
        break;
    }
}

/* One call. */
struct upkeep {
    struct store *store;
    struct store_upkeep *asked;
    struct error *err;
    enum status status;
};

static enum turn fail(struct upkeep *u, enum status status)
{
    u->status = status;
    return TURN_FAIL;
}

/* ---- when there may be work ---- */

static uint64_t apart(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static bool is_due(const struct store *store, uint64_t now_us)
{
    const struct merge *merge = &store->merge;
    const struct keeper *keeper = &store->keeper;
    uint64_t pause = apart(now_us, merge->looked_us);

    if (!merge->looked) {
        return true;
    }
    if (keeper->applied.place == merge->looked_place
        && atomic_load(&store->checkpointed) == merge->looked_checkpoint) {
        return merge->trims.aged && pause >= MERGE_AGE_US;
    }
    return pause >= MERGE_PAUSE_US
           || keeper->applied_len - merge->looked_len
                  >= store->capacity / MERGE_LOOK_SHARE;
}

static void note_look(struct upkeep *u)
{
    struct merge *merge = &u->store->merge;

    merge->looked = true;
    merge->looked_us = u->asked->now_us;
    merge->looked_place = u->store->keeper.applied.place;
    merge->looked_checkpoint = atomic_load(&u->store->checkpointed);
    merge->looked_len = u->store->keeper.applied_len;
}

static enum turn rest(struct upkeep *u)
{
    struct store *store = u->store;
    struct merge *merge = &store->merge;

    if (atomic_load_explicit(&store->snapshot_wanted, memory_order_relaxed)) {
        move_to(merge, MERGE_SNAPSHOT);
        return TURN_GO;
    }
    if (!is_due(store, u->asked->now_us)) {
        return TURN_REST;
    }
    note_look(u);
    move_to(merge, MERGE_TRIMS);
    return TURN_GO;
}

/* ---- trims ---- */

/* While there is no space trims go into the reserve, those of one look at a
 * time: without them nothing would ever become removable. */
static bool has_room(const struct upkeep *u)
{
    return u->asked->room > 0
           && (!store_space_low(u->store) || u->store->keeper.moves_owed == 0);
}

static enum turn trims(struct upkeep *u)
{
    struct merge *merge = &u->store->merge;
    enum status status;
    bool done;

    if (!has_room(u)) { /* nothing that the log has to hear of: later */
        merge->looked_place = 0;
        move_to(merge, MERGE_CHOOSE);
        return TURN_GO;
    }
    status = trims_step(u->store, u->asked, &done);
    if (status != STATUS_OK) {
        return fail(u, status);
    }
    if (done) {
        move_to(merge,
                u->store->keeper.moves_owed > 0 ? MERGE_TRIMMED : MERGE_CHOOSE);
    }
    return TURN_GO;
}

/* What was written waits for the log; while that has no space only so long.
 * What can be done without it is done then. */
static enum turn wait_or_leave(struct upkeep *u)
{
    struct merge *merge = &u->store->merge;

    if (!store_space_low(u->store)
        || apart(u->asked->now_us, merge->waits_us) < MERGE_PAUSE_US) {
        return TURN_REST;
    }
    move_to(merge, MERGE_CHOOSE);
    return TURN_GO;
}

static enum turn trimmed(struct upkeep *u)
{
    struct merge *merge = &u->store->merge;

    if (u->store->keeper.moves_owed == 0) {
        move_to(merge, merge->trims.again ? MERGE_TRIMS : MERGE_CHOOSE);
        return TURN_GO;
    }
    return wait_or_leave(u);
}

/* ---- victims ---- */

/* A snapshot is worth it when it is small beside what it frees. */
static bool is_enough(const struct store *store)
{
    const struct merge *merge = &store->merge;

    return merge->done_count > 0
           && (merge->done_count == MERGE_DONE_MAX || store_space_low(store)
               || merge->done_len >= 2 * merge->snapshot_len);
}

static enum turn choose(struct upkeep *u)
{
    struct store *store = u->store;
    struct merge *merge = &store->merge;
    enum status status;
    bool done;

    if (merge->done_count == MERGE_DONE_MAX) {
        move_to(merge, MERGE_SNAPSHOT);
        return TURN_GO;
    }
    status = victims_step(store, u->asked, &done);
    if (status != STATUS_OK) {
        return fail(u, status);
    }
    if (!done) {
        return TURN_GO;
    }
    if (merge->best != 0) {
        move_to(merge, MERGE_MOVE);
        return TURN_GO;
    }
    move_to(merge, is_enough(store) ? MERGE_SNAPSHOT : MERGE_REST);
    return merge->stage == MERGE_REST ? TURN_REST : TURN_GO;
}

static enum turn move(struct upkeep *u)
{
    struct store *store = u->store;
    struct merge *merge = &store->merge;
    bool done = false;
    enum status status;

    if (u->asked->room == 0) {
        return wait_or_leave(u);
    }
    status = moving_step(store, u->asked, &done);
    if (status == STATUS_AGAIN) {
        status =
            seqset_add(&merge->unreadable, merge->victim, merge->victim, NULL);
        move_to(merge, MERGE_CHOOSE);
    }
    if (status == STATUS_NO_SPACE) { /* of this call */
        return TURN_REST;
    }
    if (status != STATUS_OK) {
        return fail(u, status);
    }
    if (done) {
        move_to(merge, MERGE_SETTLE);
    }
    return TURN_GO;
}

static enum turn settle(struct upkeep *u)
{
    struct merge *merge = &u->store->merge;

    if (!merge->moved || u->store->keeper.moves_owed == 0) {
        move_to(merge, MERGE_ERASE);
        return TURN_GO;
    }
    return wait_or_leave(u);
}

static enum turn erase(struct upkeep *u)
{
    struct store *store = u->store;
    struct merge *merge = &store->merge;
    const struct segment *segment = log_segment(&store->log, merge->victim);
    enum status status = keeper_checkpoint(store, CHECKPOINT_ERASE, u->err);

    if (status != STATUS_OK) {
        return fail(u, status);
    }
    if (!merge_erased(store)) {
        return TURN_GO;
    }
    merge->done[merge->done_count++] = merge->victim;
    merge->done_len += segment == NULL ? 0 : segment->map_len;
    move_to(merge, merge->done_count == MERGE_DONE_MAX ? MERGE_SNAPSHOT
                                                       : MERGE_CHOOSE);
    return TURN_GO;
}

/* ---- removal ---- */

static enum turn snapshot(struct upkeep *u)
{
    struct store *store = u->store;
    bool done;
    enum status status = snapshot_stage(store, &done, u->err);

    if (status == STATUS_NO_SPACE && spare_release(store)) {
        return TURN_GO; /* it frees more than the spare file held */
    }
    if (status != STATUS_OK) {
        return fail(u, status);
    }
    if (done) {
        move_to(&store->merge,
                store->merge.done_count > 0 ? MERGE_HOLD : MERGE_REST);
    }
    return TURN_GO;
}

/* A removal that has to wait, for hours perhaps, is no reason to show messages
 * that are past their limit. */
static enum turn trim_meanwhile(struct upkeep *u)
{
    struct merge *merge = &u->store->merge;
    enum status status;
    bool done;

    if (!has_room(u)) {
        return TURN_REST;
    }
    if (!merge->trimming) {
        if (u->store->keeper.moves_owed > 0
            || !is_due(u->store, u->asked->now_us)) {
            return TURN_REST;
        }
        note_look(u);
        trims_begin(&merge->trims);
        merge->trimming = true;
    }
    status = trims_step(u->store, u->asked, &done);
    if (status != STATUS_OK) {
        return fail(u, status);
    }
    merge->trimming = !done;
    return done ? TURN_REST : TURN_GO;
}

static enum turn hold(struct upkeep *u)
{
    bool done;
    enum status status = hold_stage(u->store, &done, u->err);

    if (status != STATUS_OK) {
        return fail(u, status);
    }
    if (!done) {
        return trim_meanwhile(u);
    }
    move_to(&u->store->merge, MERGE_EMPTY);
    return TURN_GO;
}

static enum turn empty(struct upkeep *u)
{
    bool done;
    enum status status = empty_stage(u->store, &done);

    if (status != STATUS_OK) {
        return fail(u, status);
    }
    if (!done) {
        return trim_meanwhile(u);
    }
    move_to(&u->store->merge, MERGE_UNMAP);
    return TURN_GO;
}

static enum turn unmap(struct upkeep *u)
{
    struct merge *merge = &u->store->merge;
    bool done;
    enum status status = unmap_stage(u->store, &done, u->err);

    if (status != STATUS_OK) {
        return fail(u, status);
    }
    if (done) {
        merge->looked = false; /* there may be more */
        move_to(merge, MERGE_REST);
    }
    return TURN_GO;
}

/* ---- the face ---- */

static enum turn step(struct upkeep *u)
{
    switch (u->store->merge.stage) {
    case MERGE_REST:
        return rest(u);
    case MERGE_TRIMS:
        return trims(u);
    case MERGE_TRIMMED:
        return trimmed(u);
    case MERGE_CHOOSE:
        return choose(u);
    case MERGE_MOVE:
        return move(u);
    case MERGE_SETTLE:
        return settle(u);
    case MERGE_ERASE:
        return erase(u);
    case MERGE_SNAPSHOT:
        return snapshot(u);
    case MERGE_HOLD:
        return hold(u);
    case MERGE_EMPTY:
        return empty(u);
    case MERGE_UNMAP:
        return unmap(u);
    }
    return TURN_REST;
}

/* These write and sync by themselves: one of them is enough for a call. */
static bool is_heavy(enum merge_stage stage)
{
    return stage == MERGE_ERASE || stage == MERGE_SNAPSHOT
           || stage == MERGE_UNMAP;
}

static void tell_wait(struct merge *merge, uint64_t now_us)
{
    bool waits = (merge->stage == MERGE_HOLD || merge->stage == MERGE_EMPTY)
                 && now_us > merge->waits_us;

    atomic_store_explicit(&merge->removal_waits, waits ? merge->waits_for : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&merge->removal_waits_us,
                          waits ? now_us - merge->waits_us : 0,
                          memory_order_relaxed);
}

enum status store_upkeep(struct store *store, struct store_upkeep *upkeep,
                         struct error *err)
{
    struct upkeep u = { .store = store, .asked = upkeep, .err = err };
    enum turn turn = TURN_GO;

    upkeep->len = 0;
    upkeep->more = false;
    memset(store->merge.readable, 0, sizeof store->merge.readable);
    if (err != NULL) {
        err->text[0] = '\0';
    }
    if (store_frozen(store)) {
        return error_set(err, STATUS_FROZEN, 0,
                         "the store is frozen after an I/O error");
    }
    for (int i = 0; i < STEPS_MAX && turn == TURN_GO; i++) {
        enum merge_stage stage = store->merge.stage;
        turn = step(&u);
        if (store->merge.stage != stage) {
            store->merge.waits_us = upkeep->now_us;
        }
        if (is_heavy(stage)
            || (store->merge.stage == stage && stage != MERGE_MOVE)) {
            break; /* it has done as much as it may */
        }
    }
    tell_wait(&store->merge, upkeep->now_us);
    upkeep->more = turn == TURN_GO || upkeep->len > 0;
    if (turn != TURN_FAIL) {
        return STATUS_OK;
    }
    if (u.status == STATUS_CORRUPT) {
        store_doubt(store);
    }
    if (u.status != STATUS_NO_SPACE && u.status != STATUS_NOMEM) {
        store_freeze(store);
    }
    return err != NULL && err->text[0] != '\0'
               ? error_prefix(err, u.status, "merge")
               : error_set(err, u.status, 0, "merge: stage %d",
                           (int)store->merge.stage);
}
