/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "proto/limits.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct harness h;

static void set_up(void)
{
    harness_init(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(store, .init = set_up, .fini = tear_down, .timeout = 60);

Test(store, what_was_appended_can_be_read)
{
    struct record record;

    add_message(&h, 5, "first");
    add_message(&h, 6, "other topic");
    add_message(&h, 5, "");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(eq(str, (char *)message_text(&h, 5, 1), "first"));
    cr_assert(eq(str, (char *)message_text(&h, 6, 1), "other topic"));
    cr_assert(eq(int, message_at(&h, 5, 2, &record, NULL), STATUS_OK));
    cr_assert(eq(sz, record.body.len, 0));
    cr_assert(eq(u64, record.seq, 2));
    cr_assert(eq(u32, record.app, 1));
    cr_assert(eq(u64, record.time_us, h.now_us));
}

Test(store, files_belong_to_their_owner_alone)
{
    char path[600];
    struct stat st;

    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(int, stat(path, &st), 0));
    cr_assert(eq(u32, st.st_mode & 0777, 0600));
    snprintf(path, sizeof path, "%s/log", h.dir);
    cr_assert(eq(int, stat(path, &st), 0));
    cr_assert(eq(u32, st.st_mode & 0777, 0700));
    snprintf(path, sizeof path, "%s/keydir/data.mdb", h.dir);
    cr_assert(eq(int, stat(path, &st), 0));
    cr_assert(eq(u32, st.st_mode & 0777, 0600));
}

Test(store, a_message_that_is_not_there_says_which_is_next)
{
    struct record record;
    uint64_t next = 99;

    add_message(&h, 5, "a");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(eq(int, message_at(&h, 5, 2, &record, &next), STATUS_NOT_FOUND));
    cr_assert(eq(u64, next, 0));
    cr_assert(eq(int, message_at(&h, 5, 0, &record, &next), STATUS_NOT_FOUND));
    cr_assert(eq(u64, next, 1));
    cr_assert(eq(int, message_at(&h, 4, 1, &record, &next), STATUS_NOT_FOUND));
    cr_assert(eq(u64, next, 0));
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    harness_reopen(&h);
    cr_assert(eq(int, message_at(&h, 5, 0, &record, &next), STATUS_NOT_FOUND));
    cr_assert(eq(u64, next, 1));
    cr_assert(eq(int, message_at(&h, 5, 2, &record, &next), STATUS_NOT_FOUND));
    cr_assert(eq(u64, next, 0));
}

/* Numbers go on without a hole over every kind of end, each in turn. */
Test(store, seq_has_no_holes_across_restarts)
{
    uint64_t expected = 0;

    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 10; i++) {
            char body[32];
            expected++;
            snprintf(body, sizeof body, "message %d", (int)expected);
            add_message(&h, 3, body);
        }
        cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
        if (round % 2 == 0) {
            cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
        }
        if (round % 4 >= 2) {
            harness_kill(&h);
        } else {
            harness_close(&h);
        }
        if (round >= 4) {
            harness_delete_keydir(&h);
        }
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
        cr_assert(eq(u64, last_seq(&h, 3), expected));
        cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
        cr_assert(eq(u64, h.recovery.torn_bytes, 0));
    }
    for (uint64_t seq = 1; seq <= expected; seq++) {
        char body[32];
        snprintf(body, sizeof body, "message %d", (int)seq);
        cr_assert(eq(str, (char *)message_text(&h, 3, seq), body));
    }
}

Test(store, a_clean_end_goes_on_in_the_same_segment)
{
    add_message(&h, 1, "a");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_reopen(&h);
    cr_assert(h.recovery.clean);
    cr_assert(eq(u64, h.recovery.segment_count, 1));
    cr_assert(eq(u64, h.recovery.replayed_records, 0));
    add_message(&h, 1, "b");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(eq(str, (char *)message_text(&h, 1, 1), "a"));
    cr_assert(eq(str, (char *)message_text(&h, 1, 2), "b"));
}

/* Closed when hardly anything fits any more: a new segment, and clean still. */
Test(store, a_clean_end_in_a_full_segment_is_clean)
{
    struct store_stats stats = { 0 };
    uint64_t stored = 0;

    while (stats.log_bytes < h.config.segment_len - 4096 - 3000) {
        add_sized(&h, 1, 1000, 7);
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        store_stats(h.store, &stats);
        stored++;
    }
    cr_assert(eq(u64, stats.segments, 1));
    harness_reopen(&h);
    cr_assert(h.recovery.clean);
    cr_assert(eq(u64, h.recovery.segment_count, 2));
    cr_assert(eq(u64, h.recovery.replayed_records, 0));
    cr_assert(eq(u64, last_seq(&h, 1), stored));
    add_message(&h, 1, "goes on");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_reopen(&h);
    cr_assert(eq(str, (char *)message_text(&h, 1, stored + 1), "goes on"));
    cr_assert(eq(sz, strlen(message_text(&h, 1, stored)), 1000));
}

Test(store, an_unclean_end_begins_a_new_segment)
{
    add_message(&h, 1, "a");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(not(h.recovery.clean));
    cr_assert(eq(u64, h.recovery.segment_count, 2));
    cr_assert(eq(u64, h.recovery.rescued_records, 1));
    cr_assert(eq(str, (char *)message_text(&h, 1, 1), "a"));
}

/* A clean mark must not outlive the first append after it. */
Test(store, a_crash_after_a_clean_start_is_unclean)
{
    harness_reopen(&h);
    add_message(&h, 1, "a");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(not(h.recovery.clean));
    cr_assert(eq(str, (char *)message_text(&h, 1, 1), "a"));
}

Test(store, segments_roll_and_all_stays_readable)
{
    struct store_stats stats;

    for (int i = 0; i < 400; i++) {
        add_sized(&h, 1 + (uint32_t)i % 3, 1000, (uint8_t)i);
        cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
        if (i % 7 == 0) {
            cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
        }
        if (i % 100 == 50) {
            cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
        }
    }
    store_stats(h.store, &stats);
    cr_assert(ge(u64, stats.segments, 7));
    for (int pass = 0; pass < 3; pass++) {
        for (int i = 0; i < 400; i++) {
            struct record record;
            cr_assert(eq(int,
                         message_at(&h, 1 + (uint32_t)i % 3,
                                    (uint64_t)i / 3 + 1, &record, NULL),
                         STATUS_OK));
            cr_assert(eq(sz, record.body.len, 1000));
            cr_assert(eq(u8, record.body.at[999], (uint8_t)i));
        }
        if (pass == 0) {
            harness_reopen(&h);
        } else {
            harness_kill(&h);
            harness_delete_keydir(&h);
            cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
            cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
        }
    }
}

Test(store, a_full_segment_keeps_its_length_for_a_later_life)
{
    char path[600];

    for (int i = 0; i < 40; i++) {
        add_sized(&h, 1, 3000, 1);
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(u64, file_len(path), h.config.segment_len));
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(eq(u64, file_len(path), h.config.segment_len));
}

/* ---- producers ---- */

static uint64_t send(uint64_t producer, uint64_t producer_seq, uint8_t *flags)
{
    struct store_commit commit;

    add_sent(&h, 2, "x", producer, producer_seq);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    (void)commit;
    *flags = record_flags_at(h.buffer);
    return record_seq_at(h.buffer);
}

Test(store, a_number_sent_again_is_dropped_also_after_a_restart)
{
    uint8_t flags;
    struct store_stats stats;

    for (int end = 0; end < 3; end++) {
        uint64_t base = (uint64_t)end * 3;
        for (uint64_t i = 1; i <= 3; i++) {
            cr_assert(eq(u64, send(77, base + i, &flags), base + i));
            cr_assert(eq(u8, flags, 0));
        }
        if (end == 1) {
            harness_reopen(&h);
        } else if (end == 2) {
            harness_kill(&h);
            harness_delete_keydir(&h);
            cr_assert(eq(int, harness_open(&h), STATUS_OK));
        }
        cr_assert(eq(u64, send(77, base + 2, &flags), base + 2));
        cr_assert(eq(u8, flags, RECORD_DUPLICATE));
    }
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.duplicates, 1));
    cr_assert(eq(u64, last_seq(&h, 2), 9));
}

/* 2 was refused on the way and 3 overtook it: 2 is not stored yet. */
Test(store, a_number_that_was_overtaken_is_still_taken)
{
    uint8_t flags;

    cr_assert(eq(u64, send(9, 1, &flags), 1));
    cr_assert(eq(u64, send(9, 3, &flags), 2));
    harness_reopen(&h);
    cr_assert(eq(u64, send(9, 2, &flags), 3));
    cr_assert(eq(u8, flags, 0));
    cr_assert(eq(u64, send(9, 2, &flags), 3));
    cr_assert(eq(u8, flags, RECORD_DUPLICATE));
    cr_assert(eq(u64, send(9, 1, &flags), 0)); /* as which is forgotten */
    cr_assert(eq(u8, flags, RECORD_DUPLICATE));
}

Test(store, producers_of_different_apps_do_not_meet)
{
    uint8_t flags;
    struct record record = { .kind = RECORD_MESSAGE,
                             .topic = 2,
                             .app = 2,
                             .producer = 5,
                             .producer_seq = 1 };

    cr_assert(eq(u64, send(5, 1, &flags), 1));
    record_finish(h.buffer, &record);
    h.len = record_size(0);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(eq(u8, record_flags_at(h.buffer), 0));
    cr_assert(eq(u64, record_seq_at(h.buffer), 2));
}

Test(store, duplicates_alone_make_no_batch)
{
    struct store_commit commit;

    add_sent(&h, 2, "x", 4, 1);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    add_sent(&h, 2, "x", 4, 1);
    add_sent(&h, 2, "x", 4, 1);
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 0));
}

/* ---- lanes and facts ---- */

static void put_state(void)
{
    for (int i = 0; i < 10; i++) {
        add_message(&h, 4, "m");
    }
    add_fact(&h, CATALOG_TOPIC, 4, "orders", "v1", false);
    add_fact(&h, CATALOG_GROUP, 8, "group", "w", false);
    add_fact(&h, CATALOG_TOPIC, 4, "orders", "v2", false);
    add_ack(&h, 8, 4, 1, 3);
    add_ack(&h, 8, 4, 7, 7);
    add_retry(&h, 8, 4, (struct retry) { 5, 2, 900 });
    add_retry(&h, 8, 4, (struct retry) { 4, 1, 800 });
    add_retry(&h, 8, 4, (struct retry) { 7, 1, 800 }); /* settled: no effect */
    add_gap(&h, 8, 4, 9, 9);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    add_ack(&h, 8, 4, 4, 4); /* its retry goes */
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
}

static void check_state(const char *when)
{
    cr_assert(eq(str, (char *)lane_text(&h, 8, 4),
                 "1-4,7-7,9-9 gaps 9-9 retries 5x2@900"),
              "%s", when);
    cr_assert(eq(str, (char *)facts_text(&h), "2:4:orders=v2 3:8:group=w "),
              "%s", when);
}

Test(store, lanes_and_facts_survive_every_end)
{
    put_state();
    harness_reopen(&h);
    check_state("clean");
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    check_state("killed");
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(h.recovery.keydir_rebuilt);
    check_state("keydir deleted");
}

Test(store, a_kill_before_any_checkpoint_loses_no_state)
{
    put_state();
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    check_state("killed");
}

Test(store, a_lane_is_kept_across_checkpoints)
{
    put_state();
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    add_ack(&h, 8, 4, 5, 6);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(str, (char *)lane_text(&h, 8, 4), "1-7,9-9 gaps 9-9"));
}

Test(store, a_deleted_topic_takes_its_messages_and_lanes_along)
{
    struct record record;
    uint32_t last = 0;

    put_state();
    add_message(&h, 5, "stays");
    add_ack(&h, 8, 5, 1, 1);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    add_fact(&h, CATALOG_TOPIC, 4, "orders", "", true);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    add_ack(&h, 8, 4, 6, 6); /* late: no effect */
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    for (int pass = 0; pass < 3; pass++) {
        cr_assert(eq(str, (char *)lane_text(&h, 8, 4), ""));
        cr_assert(eq(str, (char *)lane_text(&h, 8, 5), "1-1"));
        cr_assert(eq(str, (char *)facts_text(&h), "3:8:group=w "));
        cr_assert(
            eq(int, message_at(&h, 4, 1, &record, NULL), STATUS_NOT_FOUND));
        cr_assert(eq(str, (char *)message_text(&h, 5, 1), "stays"));
        cr_assert(
            eq(int, store_last_id(h.store, CATALOG_TOPIC, &last), STATUS_OK));
        cr_assert(eq(u32, last, 4)); /* never used again */
        harness_close(&h);
        if (pass == 1) {
            harness_delete_keydir(&h);
        }
        cr_assert(eq(int, harness_open(&h), STATUS_OK));
    }
}

Test(store, a_deleted_group_takes_its_lanes_along)
{
    put_state();
    add_ack(&h, 9, 4, 1, 1);
    add_fact(&h, CATALOG_GROUP, 8, "group", "", true);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(str, (char *)lane_text(&h, 8, 4), ""));
    cr_assert(eq(str, (char *)lane_text(&h, 9, 4), "1-1"));
}

/* ---- who may open ---- */

Test(store, a_second_one_in_the_same_folder_is_refused)
{
    struct store *second = NULL;
    struct error err;

    cr_assert(eq(int, store_open(&second, &h.config, NULL, &err), STATUS_BUSY));
    cr_assert(strstr(err.text, "in use by another process") != NULL);
}

Test(store, a_newer_format_is_refused_and_left_alone)
{
    char path[600];

    add_message(&h, 1, "a");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_close(&h);
    snprintf(path, sizeof path, "%s/format", h.dir);
    flip_bit(path, 8, 2); /* version 3 becomes 7 */
    cr_assert(eq(int, harness_open(&h), STATUS_NEWER));
    cr_assert(strstr(h.err.text, "format is 7, this build reads up to 3")
              != NULL);
    flip_bit(path, 8, 2);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(h.recovery.clean);
}

Test(store, a_folder_name_that_is_too_long_is_refused)
{
    static char name[5000];

    harness_close(&h);
    memset(name, 'a', sizeof name - 1);
    h.config.dir = name;
    cr_assert(eq(int, harness_open(&h), STATUS_INVALID));
    h.config.dir = h.dir;
}

/* ---- views ---- */

struct seen {
    uint32_t runs, facts, topic, count;
    uint64_t first_seq;
    char name[64];
};

static void on_run(void *arg, const struct store_run *run)
{
    struct seen *seen = arg;

    seen->runs++;
    seen->topic = run->topic;
    seen->count = run->count;
    seen->first_seq = run->first_seq;
}

static void on_fact(void *arg, const struct record_fact *fact, uint32_t app)
{
    struct seen *seen = arg;

    seen->facts++;
    cr_assert(eq(u32, app, 7));
    snprintf(seen->name, sizeof seen->name, "%.*s", (int)fact->name.len,
             (const char *)fact->name.at);
}

Test(store, a_commit_tells_a_view_its_runs_and_facts)
{
    struct seen seen = { 0 };
    struct store_visitor visitor = { .run = on_run,
                                     .fact = on_fact,
                                     .arg = &seen };
    struct store_commit commit;

    add_message(&h, 3, "a");
    add_fact(&h, CATALOG_APP, 2, "shop", "", false);
    add_message(&h, 3, "b");
    add_ack(&h, 1, 3, 1, 1);
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 4));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_view_commit(h.view, &commit, &visitor), STATUS_OK));
    cr_assert(eq(u32, seen.runs, 1));
    cr_assert(eq(u32, seen.topic, 3));
    cr_assert(eq(u32, seen.count, 2));
    cr_assert(eq(u64, seen.first_seq, 1));
    cr_assert(eq(u32, seen.facts, 1));
    cr_assert(eq(str, seen.name, "shop"));
}

/* Old ones come from the keydir, new ones from the view's own table. */
Test(store, a_cursor_walks_over_checkpoints_and_segments)
{
    struct store_cursor cursor = { 0 };

    for (int i = 0; i < 300; i++) {
        char body[500];
        memset(body, 'x', sizeof body);
        snprintf(body, sizeof body, "%d", i + 1);
        add_message(&h, 1, body);
        add_message(&h, 2, "noise");
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        if (i % 50 == 20) {
            cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
        }
    }
    for (uint64_t seq = 1; seq <= 300; seq++) {
        struct record record;
        char body[16];
        snprintf(body, sizeof body, "%d", (int)seq);
        cr_assert(eq(int,
                     store_view_message(h.view, &cursor, 1, seq, &record, NULL),
                     STATUS_OK));
        cr_assert(slice_equal(record.body, slice_text(body)));
    }
}

/* ---- spans ---- */

Test(store, several_spans_become_one_batch_in_their_order)
{
    struct store_span spans[3];
    struct store_commit commit;
    size_t cut[4] = { 0 };

    for (int i = 0; i < 3; i++) {
        add_message(&h, 1, i == 0 ? "a" : i == 1 ? "b" : "c");
        cut[i + 1] = h.len;
    }
    for (int i = 0; i < 3; i++) {
        spans[i] = (struct store_span) { .at = h.buffer + cut[2 - i],
                                         .len = cut[3 - i] - cut[2 - i] };
    }
    cr_assert(eq(int, store_append(h.store, spans, 3, 1, &commit, &h.err),
                 STATUS_OK));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 3));
    cr_assert(eq(str, (char *)message_text(&h, 1, 1), "c"));
    cr_assert(eq(str, (char *)message_text(&h, 1, 3), "a"));
    for (int i = 0; i < 3; i++) {
        cr_assert(eq(sz, spans[i].taken, spans[i].len));
    }
    h.len = 0;
}

/* One that always has more than a batch holds does not keep the other waiting.
 */
Test(store, a_full_span_does_not_starve_the_next)
{
    struct store_span spans[2];
    struct store_commit commit;
    size_t cut;

    for (int i = 0; i < 200; i++) {
        add_sized(&h, 1, 1000, 'x');
    }
    cut = h.len;
    add_message(&h, 2, "me too");
    spans[0] = (struct store_span) { .at = h.buffer, .len = cut };
    spans[1] = (struct store_span) { .at = h.buffer + cut, .len = h.len - cut };
    cr_assert(eq(int, store_append(h.store, spans, 2, 1, &commit, &h.err),
                 STATUS_OK));
    cr_assert(gt(sz, spans[0].taken, 0));
    cr_assert(eq(sz, spans[1].taken, 0));
    spans[0].at += spans[0].taken;
    spans[0].len -= spans[0].taken;
    cr_assert(gt(sz, spans[0].len, 64 * 1024)); /* again more than one holds */
    cr_assert(eq(int, store_append(h.store, spans, 2, 1, &commit, &h.err),
                 STATUS_OK));
    cr_assert(eq(sz, spans[1].taken, spans[1].len));
    h.len = 0;
}

Test(store, a_record_no_segment_can_hold_is_refused)
{
    struct store_commit commit;

    add_sized(&h, 1, 100 * 1024, 1); /* segments of 64 KiB here */
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 0));
    cr_assert(eq(u8, record_flags_at(h.buffer), RECORD_REFUSED));
    cr_assert(not(store_frozen(h.store)));
}

Test(store, an_empty_append_does_nothing)
{
    struct store_commit commit;

    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 0));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
}

/* ---- bounds ---- */

static void open_large(uint64_t segment_len)
{
    harness_close(&h);
    tmpdir_remove(h.dir);
    h.config.segment_len = segment_len;
    h.config.keydir_len_max = UINT64_C(1) << 30;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

/* What a start has to look through for the log's end is bounded, whoever
 * forgets to sync. */
Test(store, what_waits_for_a_sync_is_bounded)
{
    struct store_stats stats;
    struct store_commit commit;
    uint64_t unsynced = 0;

    open_large(64 * 1024 * 1024);
    for (int i = 0; i < 60; i++) {
        add_sized(&h, 1, 900 * 1024, 'x');
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
        store_stats(h.store, &stats);
        unsynced = stats.syncs == 0 ? unsynced + commit.len : 0;
        cr_assert(le(u64, unsynced, 2 * BATCH_LEN_MAX));
    }
    cr_assert(ge(u64, stats.syncs, 60 * 900 / (2 * 4096) - 1));
    cr_assert(le(u64, stats.syncs, 60 * 900 / 4096));
}

/* Every second one is dropped: more pieces than one pwritev() takes. */
Test(store, many_dropped_records_between_kept_ones)
{
    enum { COUNT = 3000 };
    struct store_commit commit;

    open_large(4 * 1024 * 1024);
    for (uint64_t i = 1; i <= COUNT; i++) {
        add_sent(&h, 1, "x", 5, i);
        add_sent(&h, 1, "x", 5, i);
    }
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    add_message(&h, 1, "last");
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u64, record_seq_at(h.buffer), COUNT + 1));
    cr_assert(eq(u32, commit.record_count, 1));
    for (uint64_t seq = 1; seq <= COUNT; seq++) {
        cr_assert(eq(str, (char *)message_text(&h, 1, seq), "x"));
    }
}

/* A batch ends at its bound; the rest is taken by the next call. */
Test(store, more_than_a_batch_holds_is_taken_in_two)
{
    enum { COUNT = 5, LEN = 1000 * 1000 };
    size_t size = record_size(LEN);
    uint8_t *buffer = calloc(COUNT, size);
    struct store_span span = { .at = buffer, .len = COUNT * size };
    struct store_commit commit;

    cr_assert(ne(ptr, buffer, NULL));
    open_large(16 * 1024 * 1024);
    for (size_t i = 0; i < COUNT; i++) {
        struct record record = { .kind = RECORD_MESSAGE, .topic = 1 };
        record.body = slice_of(buffer + i * size + RECORD_HEADER_LEN, LEN);
        record_finish(buffer + i * size, &record);
    }
    cr_assert(eq(int, store_append(h.store, &span, 1, 1, &commit, &h.err),
                 STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 4));
    cr_assert(le(u32, commit.len, BATCH_LEN_MAX));
    cr_assert(eq(sz, span.taken, 4 * size));
    span = (struct store_span) { .at = buffer + 4 * size, .len = size };
    cr_assert(eq(int, store_append(h.store, &span, 1, 1, &commit, &h.err),
                 STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 1));
    cr_assert(eq(u64, record_seq_at(buffer + 4 * size), 5));
    free(buffer);
}

static void append_and_apply(uint64_t *again)
{
    size_t done = 0;

    while (done < h.len) {
        struct store_span span = { .at = h.buffer + done, .len = h.len - done };
        struct store_commit commit;
        enum status status;
        cr_assert(eq(int, store_append(h.store, &span, 1, 1, &commit, &h.err),
                     STATUS_OK));
        cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
        status = store_apply(h.store, &commit);
        if (status == STATUS_AGAIN) {
            ++*again;
            cr_assert(gt(u64, store_pending(h.store), 0));
            cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
            cr_assert(eq(u64, store_pending(h.store), 0));
            status = store_apply(h.store, &commit);
        }
        cr_assert(eq(int, status, STATUS_OK));
        done += span.taken;
    }
    h.len = 0;
}

/* What may wait for a checkpoint is bounded: apply says so and goes on after. */
Test(store, apply_asks_for_a_checkpoint_at_its_bound)
{
    enum { PER_BATCH = 10000, BATCHES = 120 };
    uint64_t again = 0;

    open_large(64 * 1024 * 1024);
    for (uint32_t b = 0; b < BATCHES; b++) {
        for (uint32_t i = 1; i <= PER_BATCH; i++) {
            add_message(&h, i, "");
        }
        append_and_apply(&again);
    }
    cr_assert(eq(u64, again, 1));
    harness_reopen(&h);
    cr_assert(eq(u64, last_seq(&h, 1), BATCHES));
    cr_assert(eq(u64, last_seq(&h, PER_BATCH), BATCHES));
}

/* Its runs go over several checkpoints, a bounded number each. */
Test(store, a_deleted_topic_with_many_runs_goes_bit_by_bit)
{
    enum { RUNS = 12000 };
    struct record record;
    uint64_t next = 0;

    open_large(16 * 1024 * 1024);
    for (int i = 0; i < RUNS; i++) {
        add_message(&h, 4, "x");
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    }
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    add_fact(&h, CATALOG_TOPIC, 4, "t", "", true);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    add_message(&h, 5, "x"); /* lets go of what the view had seen */
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(eq(int, message_at(&h, 4, 1, &record, &next), STATUS_NOT_FOUND));
    cr_assert(gt(u64, next, 1)); /* the first ones are gone, not yet all */
    harness_reopen(&h);
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    harness_reopen(&h);
    cr_assert(eq(int, message_at(&h, 4, 1, &record, &next), STATUS_NOT_FOUND));
    cr_assert(eq(u64, next, 0));
    cr_assert(eq(str, (char *)message_text(&h, 5, 1), "x"));
}
