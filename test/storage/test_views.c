/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* Views and the removal of segments: a message is found wherever it is, by
 * cursors of any age; a segment stays as long as a view may look at it, and no
 * longer. */
#include "test/storage/harness.h"

#include "proto/check.h"
#include "storage/internal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOPIC = 2, FIRST = 1, BODY_LEN = 2000, MOVED_LEN_MAX = 1024 * 1024 };

static struct harness h;
static uint8_t *moved;
static size_t moved_len;
static uint64_t published;

static void publish(void)
{
    published++;
    add_sized(&h, TOPIC, BODY_LEN, (uint8_t)(published % 251));
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
}

static void checkpoint(void)
{
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK), "%s",
              h.err.text);
}

/* Three segments of messages, checkpointed; the view has got them all. */
static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 32 * 1024;
    moved = aligned_alloc(RECORD_ALIGN, MOVED_LEN_MAX);
    CHECK(moved != NULL);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    while (h.store->journal.active->header.id < FIRST + 3) {
        publish();
    }
    checkpoint();
}

static void tear_down(void)
{
    harness_fini(&h);
    free(moved);
}

TestSuite(views, .init = set_up, .fini = tear_down, .timeout = 60);

static enum status read_with(struct store_view *view,
                             struct store_cursor *cursor, uint64_t seq)
{
    struct record record;
    enum status status =
        store_view_message(view, cursor, TOPIC, seq, &record, NULL);

    if (status == STATUS_OK) {
        cr_assert(eq(sz, record.body.len, BODY_LEN));
        cr_assert(eq(int, record.body.at[7], (int)(seq % 251)));
    }
    return status;
}

static enum status read_one(struct store_view *view, uint64_t seq)
{
    struct store_cursor cursor = { 0 };

    return read_with(view, &cursor, seq);
}

static uint64_t last_in(uint32_t segment)
{
    struct store_cursor cursor = { 0 };
    uint64_t seq = published;

    for (; seq > 0; seq--) {
        cr_assert(eq(int, read_with(h.view, &cursor, seq), STATUS_OK));
        if (cursor.run.segment == segment) {
            break;
        }
    }
    return seq;
}

static void move(uint64_t seq)
{
    struct record record;
    const uint8_t *at;
    size_t size;

    cr_assert(eq(int, message_at(&h, TOPIC, seq, &record, NULL), STATUS_OK));
    at = record.body.at - RECORD_HEADER_LEN;
    size = record_size_at(at);
    CHECK(moved_len + size <= MOVED_LEN_MAX);
    memcpy(moved + moved_len, at, size);
    moved_len += size;
}

static struct store_commit append_moved(size_t *done)
{
    struct store_span span = { .at = moved + *done, .len = moved_len - *done };
    struct store_commit commit;

    h.now_us += 1000;
    cr_assert(eq(int,
                 store_append_merge(h.store, &span, h.now_us, &commit, &h.err),
                 STATUS_OK),
              "%s", h.err.text);
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    *done += span.taken;
    return commit;
}

/* Move a segment's messages and checkpoint; only `view` gets the commits. */
static void move_all(uint32_t segment, struct store_view *view)
{
    uint64_t last = last_in(segment);
    uint64_t first = segment == FIRST ? 1 : last_in(segment - 1) + 1;
    size_t done = 0;

    moved_len = 0;
    for (uint64_t seq = first; seq <= last; seq++) {
        move(seq);
    }
    while (done < moved_len) {
        struct store_commit commit = append_moved(&done);
        if (view != NULL) {
            cr_assert(
                eq(int, store_view_commit(view, &commit, NULL), STATUS_OK));
        }
        cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    }
    checkpoint();
}

static struct segment *take_out(uint32_t id, uint64_t *epoch)
{
    struct segment *segment = store_retire_begin(h.store, id, epoch);

    cr_assert(ne(ptr, segment, NULL));
    return segment;
}

/* ---- messages that moved ---- */

Test(views, a_cursor_outlives_its_segment)
{
    struct store_cursor cursor = { 0 };
    struct segment *segment;
    uint64_t epoch;

    cr_assert(eq(int, read_with(h.view, &cursor, 3), STATUS_OK));
    cr_assert(eq(u32, cursor.run.segment, FIRST));
    move_all(FIRST, h.view);
    cr_assert(eq(int, read_with(h.view, &cursor, 3), STATUS_OK));
    cr_assert(eq(u32, cursor.run.segment, FIRST), "it is still there");
    segment = take_out(FIRST, &epoch);
    store_view_rest(h.view);
    cr_assert(store_retire_rested(h.store, epoch));
    segment_free(segment, &h.store->log);
    cr_assert(eq(int, read_with(h.view, &cursor, 3), STATUS_OK));
    cr_assert(gt(u32, cursor.run.segment, FIRST));
    for (uint64_t seq = 1; seq <= published; seq++) {
        cr_assert(eq(int, read_one(h.view, seq), STATUS_OK));
        cr_assert(eq(int, read_with(h.view, &cursor, seq), STATUS_OK));
    }
    cr_assert(eq(u64, atomic_load(&h.store->figures.corrupt_reads), 0));
}

/* Its keydir reader still sees the checkpoint from before the merge. */
Test(views, a_lookup_from_before_the_merge_is_made_again)
{
    struct store_view *view;
    struct segment *segment;
    uint64_t epoch;

    cr_assert(eq(int, store_view_open(&view, h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, read_one(view, published / 2), STATUS_OK));
    move_all(FIRST, h.view);
    segment = take_out(FIRST, &epoch);
    store_view_rest(h.view);
    cr_assert(not(store_retire_rested(h.store, epoch)), "it may look there");
    cr_assert(eq(int, read_one(view, 2), STATUS_OK));
    store_view_rest(view);
    cr_assert(store_retire_rested(h.store, epoch));
    segment_free(segment, &h.store->log);
    cr_assert(eq(int, read_one(view, 2), STATUS_OK));
    store_view_close(view);
}

/* The run is in the view's own table, which no commit has trimmed since. */
Test(views, a_noted_run_that_moved_is_forgotten)
{
    struct segment *segment;
    uint64_t epoch;
    uint32_t id = h.store->journal.active->header.id;
    uint64_t seq;

    publish();
    seq = published;
    while (h.store->journal.active->header.id == id) {
        publish();
    }
    cr_assert(eq(int, read_one(h.view, seq), STATUS_OK));
    move_all(id, NULL);
    segment = take_out(id, &epoch);
    cr_assert(eq(int, read_one(h.view, seq), STATUS_OK));
    store_view_rest(h.view);
    segment_free(segment, &h.store->log);
    cr_assert(eq(int, read_one(h.view, seq), STATUS_OK));
}

/* Twice on, while the view looks the other way. */
Test(views, a_message_may_have_moved_more_than_once)
{
    struct store_cursor cursor = { 0 };
    uint32_t to;
    uint64_t epoch;

    cr_assert(eq(int, read_with(h.view, &cursor, 3), STATUS_OK));
    move_all(FIRST, h.view);
    store_view_rest(h.view);
    segment_free(take_out(FIRST, &epoch), &h.store->log);
    {
        struct store_cursor fresh = { 0 };
        cr_assert(eq(int, read_with(h.view, &fresh, 3), STATUS_OK));
        to = fresh.run.segment;
    }
    while (h.store->journal.active->header.id == to) {
        publish();
    }
    moved_len = 0;
    move(3);
    {
        size_t done = 0;
        struct store_commit commit = append_moved(&done);
        cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
        checkpoint();
    }
    store_view_rest(h.view);
    segment_free(take_out(to, &epoch), &h.store->log);
    cr_assert(eq(int, read_with(h.view, &cursor, 3), STATUS_OK));
}

/* A place that the newest checkpoint still names, and it is not there. */
Test(views, a_segment_that_is_lost_means_damage)
{
    struct store_damage damage;
    uint64_t next = 0;
    uint64_t epoch;
    struct segment *segment;

    store_view_rest(h.view);
    segment = take_out(FIRST, &epoch);
    segment_free(segment, &h.store->log);
    cr_assert(eq(int, read_one(h.view, 3), STATUS_CORRUPT));
    cr_assert(eq(u64, atomic_load(&h.store->figures.corrupt_reads), 1));
    cr_assert(eq(sz, store_damage_seen(h.store, &next, &damage, 1), 1));
    cr_assert(eq(int, (int)damage.kind, DAMAGE_MESSAGE));
    cr_assert(eq(u64, damage.seq, 3));
}

Test(views, a_moved_batch_without_its_index_is_walked)
{
    struct segment *segment;
    struct batch_source source;
    struct store_cursor cursor = { 0 };
    struct batch batch;
    char path[600];
    uint64_t epoch;

    move_all(FIRST, h.view);
    store_view_rest(h.view);
    segment_free(take_out(FIRST, &epoch), &h.store->log);
    cr_assert(eq(int, read_with(h.view, &cursor, 3), STATUS_OK));
    segment = log_segment(&h.store->log, cursor.run.segment);
    source = segment_source(segment, &h.store->log);
    cr_assert(
        eq(int, batch_read(&source, cursor.run.batch, &batch), STATUS_OK));
    segment_file(&h, cursor.run.segment, path, sizeof path);
    flip_bit(path, cursor.run.table + 4 * (3 - cursor.run.first_seq), 6);
    cr_assert(eq(int, read_with(h.view, &cursor, 3), STATUS_OK));
    cr_assert(eq(int, read_one(h.view, 4), STATUS_OK));
}

/* ---- waiting ---- */

Test(views, only_views_that_may_look_are_waited_for)
{
    struct store_view *sleeping;
    struct store_view *closed;
    struct store_view *late;
    struct segment *segment;
    uint64_t epoch;

    cr_assert(eq(int, store_view_open(&sleeping, h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_view_open(&closed, h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, read_one(closed, 3), STATUS_OK));
    move_all(FIRST, h.view);
    segment = take_out(FIRST, &epoch);
    cr_assert(eq(int, store_view_open(&late, h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, read_one(late, 3), STATUS_OK));
    cr_assert(not(store_retire_rested(h.store, epoch)));
    store_view_rest(h.view);
    cr_assert(not(store_retire_rested(h.store, epoch)), "closed is awake");
    store_view_close(closed);
    cr_assert(store_retire_rested(h.store, epoch), "late and sleeping");
    segment_free(segment, &h.store->log);
    cr_assert(eq(int, read_one(sleeping, 3), STATUS_OK));
    cr_assert(eq(int, read_one(late, 3), STATUS_OK));
    store_view_close(sleeping);
    store_view_close(late);
}

/* A message that was read stays good until then. */
Test(views, a_commit_lets_go_as_well)
{
    struct segment *segment;
    struct store_commit commit;
    uint64_t epoch;

    move_all(FIRST, h.view);
    segment = take_out(FIRST, &epoch);
    cr_assert(eq(int, read_one(h.view, published), STATUS_OK));
    cr_assert(not(store_retire_rested(h.store, epoch)), "it only read on");
    add_sized(&h, TOPIC, BODY_LEN, (uint8_t)(++published % 251));
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
    cr_assert(store_retire_rested(h.store, epoch));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    segment_free(segment, &h.store->log);
}

/* A view that has not got its commits yet still has to read them. */
Test(views, a_segment_waits_for_views_that_lag)
{
    uint32_t id = h.store->journal.active->header.id;
    struct store_view *lagging;
    struct store_commit commit;

    cr_assert(eq(int, store_view_open(&lagging, h.store, &h.err), STATUS_OK));
    cr_assert(store_retire_ready(h.store, FIRST));
    while (h.store->journal.active->header.id <= id + 1) {
        publish();
    }
    cr_assert(store_retire_ready(h.store, FIRST));
    cr_assert(not(store_retire_ready(h.store, id)));
    cr_assert(not(store_retire_ready(h.store, id + 1)));
    add_sized(&h, TOPIC, BODY_LEN, (uint8_t)(++published % 251));
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_view_commit(lagging, &commit, NULL), STATUS_OK));
    cr_assert(store_retire_ready(h.store, id + 1));
    cr_assert(not(store_retire_ready(h.store, commit.segment)));
    cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    store_view_close(lagging);
}

Test(views, no_segment_has_an_id_that_is_too_high)
{
    uint64_t epoch;

    cr_assert(eq(ptr, store_retire_begin(h.store, 4711, &epoch), NULL));
    cr_assert(eq(ptr, log_remove(&h.store->log, SEGMENT_ID_MAX + 1), NULL));
}

/* ---- what a view tells ---- */

struct told {
    uint64_t runs;
    uint64_t facts;
    uint64_t trims;
    struct record_trim trim;
};

static void on_run(void *arg, const struct store_run *run)
{
    (void)run;
    ((struct told *)arg)->runs++;
}

static void on_fact(void *arg, const struct record_fact *fact, uint32_t app)
{
    (void)fact;
    (void)app;
    ((struct told *)arg)->facts++;
}

static void on_trim(void *arg, const struct record_trim *trim)
{
    ((struct told *)arg)->trims++;
    ((struct told *)arg)->trim = *trim;
}

static void add_trim(uint32_t topic, uint64_t first, uint64_t floor)
{
    struct record_trim trim = { topic, first, floor };
    struct record record = { .kind = RECORD_TRIM };
    struct bytes body = { 0 };

    CHECK(record_trim_write(&body, &trim) == STATUS_OK);
    memcpy(moved + moved_len + RECORD_HEADER_LEN, body.at, bytes_len(&body));
    record.body =
        slice_of(moved + moved_len + RECORD_HEADER_LEN, bytes_len(&body));
    record_finish(moved + moved_len, &record);
    moved_len += record_size(bytes_len(&body));
    bytes_fini(&body);
}

Test(views, moved_runs_are_no_news_and_trims_are)
{
    struct told told = { 0 };
    struct store_visitor visitor = {
        .run = on_run, .fact = on_fact, .trim = on_trim, .arg = &told
    };
    struct store_commit commit;
    size_t done = 0;

    moved_len = 0;
    move(3);
    move(4);
    add_trim(TOPIC, 2, 3);
    commit = append_moved(&done);
    cr_assert(eq(int, store_view_commit(h.view, &commit, &visitor), STATUS_OK));
    cr_assert(eq(u64, told.runs, 0));
    cr_assert(eq(u64, told.facts, 0));
    cr_assert(eq(u64, told.trims, 1));
    cr_assert(eq(u32, told.trim.topic, TOPIC));
    cr_assert(eq(u64, told.trim.first_seq, 2));
    cr_assert(eq(u64, told.trim.floor_seq, 3));
    visitor.trim = NULL;
    cr_assert(eq(int, store_view_commit(h.view, &commit, &visitor), STATUS_OK));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
}

/* ---- how many ---- */

Test(views, so_many_may_be_open_and_not_one_more)
{
    struct store_view *views[STORE_VIEW_COUNT_MAX];
    struct store_view *more = NULL;
    int count = 0;

    while (count < STORE_VIEW_COUNT_MAX - 1) { /* the harness has one */
        cr_assert(eq(int, store_view_open(&views[count], h.store, &h.err),
                     STATUS_OK));
        cr_assert(eq(int, read_one(views[count], 3), STATUS_OK));
        count++;
    }
    cr_assert(eq(int, store_view_open(&more, h.store, &h.err), STATUS_AGAIN));
    cr_assert(eq(ptr, more, NULL));
    store_view_close(views[--count]);
    cr_assert(eq(int, store_view_open(&more, h.store, &h.err), STATUS_OK));
    store_view_close(more);
    while (count > 0) {
        store_view_close(views[--count]);
    }
}
