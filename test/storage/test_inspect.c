/* links: godwit_offline godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/faulty_vfs.c */

/* A data folder read offline: what it holds, whose it is, what is damaged, and
 * that nothing in it is changed. */
#include "test/lib/faulty_vfs.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include "proto/check.h"
#include "storage/offline/inspect.h"
#include "storage/internal.h"
#include "storage/snapshot.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ORDERS = 2, MAIL = 3, BILLING = 6, AUDIT = 7 };

static struct harness h;
static struct inspect *inspect;
static struct inspect_totals totals;

/* What a walk told. */
static struct {
    struct store_damage damages[64];
    size_t damage_count;
    struct inspect_segment segments[64];
    size_t segment_count;
    uint64_t records;
    uint64_t deleted;
    uint64_t progress;
    uint64_t enough_after; /* 0: never */
} told;

static bool on_record(void *arg, const struct inspect_record *r)
{
    (void)arg;
    told.records++;
    told.deleted += r->deleted;
    return told.records != told.enough_after;
}

static void on_damage(void *arg, const struct store_damage *damage)
{
    (void)arg;
    if (told.damage_count < COUNT_OF(told.damages)) {
        told.damages[told.damage_count] = *damage;
    }
    told.damage_count++;
}

static void on_segment(void *arg, const struct inspect_segment *segment)
{
    (void)arg;
    CHECK(told.segment_count < COUNT_OF(told.segments));
    told.segments[told.segment_count++] = *segment;
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    CHECK(done <= total);
    told.progress = done;
}

/* Any open but to read is a bug. */
static int open_to_read(const struct vfs *vfs, const char *path, int flags,
                        mode_t mode)
{
    CHECK((flags & O_ACCMODE) == O_RDONLY
          && (flags & (O_CREAT | O_TRUNC)) == 0);
    return vfs_system()->open(vfs, path, flags, mode);
}

static enum status walk(void)
{
    static struct vfs vfs;
    struct inspect_visitor visitor = { .segment = on_segment,
                                       .record = on_record,
                                       .damage = on_damage,
                                       .progress = on_progress };
    uint64_t enough_after = told.enough_after;
    enum status status;

    vfs = *vfs_system();
    vfs.open = open_to_read;
    memset(&told, 0, sizeof told);
    told.enough_after = enough_after;
    inspect_close(inspect);
    inspect = NULL;
    status = inspect_open(&inspect, h.dir, &vfs, &h.err);
    if (status == STATUS_OK) {
        status = inspect_walk(inspect, &visitor, &totals, &h.err);
    }
    return status;
}

static void must_walk(void)
{
    enum status status = walk();

    cr_assert(eq(int, status, STATUS_OK), "%s", h.err.text);
}

static void must_commit(void)
{
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
}

static void add_numbered(uint32_t topic, uint64_t number)
{
    char body[64];

    snprintf(body, sizeof body, "message number %d stands here", (int)number);
    add_message(&h, topic, body);
}

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 32 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    inspect_close(inspect);
    harness_fini(&h);
}

TestSuite(inspect, .init = set_up, .fini = tear_down, .timeout = 120);

/* Ten orders, four mails; billing has settled 1-4 and given up 6, failed at 7;
 * audit has settled nothing but the last. */
static void fill(void)
{
    add_fact(&h, CATALOG_APP, 1, "shop", "", false);
    add_fact(&h, CATALOG_TOPIC, ORDERS, "orders", "{}", false);
    add_fact(&h, CATALOG_TOPIC, MAIL, "mail", "{}", false);
    add_fact(&h, CATALOG_GROUP, BILLING, "billing", "{}", false);
    add_fact(&h, CATALOG_GROUP, AUDIT, "audit", "{}", false);
    for (uint64_t i = 1; i <= 10; i++) {
        add_numbered(ORDERS, i);
    }
    must_commit();
    for (uint64_t i = 1; i <= 4; i++) {
        add_numbered(MAIL, i);
    }
    add_ack(&h, BILLING, ORDERS, 1, 4);
    add_gap(&h, BILLING, ORDERS, 6, 6);
    add_retry(&h, BILLING, ORDERS, (struct retry) { 7, 2, 99 });
    add_ack(&h, AUDIT, ORDERS, 10, 10);
    must_commit();
}

static bool silent(void)
{
    return totals.damages == 0 && totals.torn_bytes == 0;
}

/* ---- accounts as text ---- */

static char text[4096];

static void say_topic(void *arg, const struct inspect_topic *t)
{
    size_t len = strlen(text);

    (void)arg;
    snprintf(text + len, sizeof text - len,
             "%.*s%s: %llu = %llu present + %llu deleted + %llu missing\n",
             (int)t->name.len, (const char *)t->name.at, t->gone ? " gone" : "",
             (unsigned long long)t->published, (unsigned long long)t->present,
             (unsigned long long)t->deleted, (unsigned long long)t->missing);
}

static void say_lane(void *arg, const struct inspect_lane *l)
{
    size_t len = strlen(text);

    (void)arg;
    snprintf(text + len, sizeof text - len,
             "%.*s/%.*s: %llu = %llu settled (%llu gaps) + %llu deleted + "
             "%llu missing + %llu unsettled (%llu retries)%s\n",
             (int)l->group_name.len, (const char *)l->group_name.at,
             (int)l->topic_name.len, (const char *)l->topic_name.at,
             (unsigned long long)l->published, (unsigned long long)l->settled,
             (unsigned long long)l->gaps, (unsigned long long)l->deleted,
             (unsigned long long)l->missing, (unsigned long long)l->unsettled,
             (unsigned long long)l->retries, l->balanced ? "" : " !");
}

static char *accounts(void)
{
    text[0] = '\0';
    inspect_each_topic(inspect, say_topic, NULL);
    cr_assert(eq(int, inspect_each_lane(inspect, say_lane, NULL), STATUS_OK));
    return text;
}

static const char *const accounts_of_fill =
    "orders: 10 = 10 present + 0 deleted + 0 missing\n"
    "mail: 4 = 4 present + 0 deleted + 0 missing\n"
    "billing/orders: 10 = 5 settled (1 gaps) + 0 deleted + 0 missing + "
    "5 unsettled (1 retries)\n"
    "audit/orders: 10 = 1 settled (0 gaps) + 0 deleted + 0 missing + "
    "9 unsettled (0 retries)\n";

/* ---- what is there ---- */

static void say_fact(void *arg, const struct record_fact *fact)
{
    size_t len = strlen(text);

    (void)arg;
    snprintf(text + len, sizeof text - len, "%d:%u:%.*s=%.*s%s ", fact->class,
             fact->id, (int)fact->name.len, (const char *)fact->name.at,
             (int)fact->value.len, (const char *)fact->value.at,
             fact->deleted ? " deleted" : "");
}

Test(inspect, tells_everything_of_a_closed_store)
{
    fill();
    harness_close(&h);
    must_walk();
    cr_assert(eq(str, accounts(), (char *)accounts_of_fill));
    cr_assert(eq(u64, totals.damages, 0));
    cr_assert(eq(u64, totals.torn_bytes, 0));
    cr_assert(eq(u64, totals.missing_segments, 0));
    cr_assert(eq(u64, totals.unbalanced, 0));
    cr_assert(eq(u64, totals.records, 5 + 10 + 4 + 4));
    cr_assert(eq(u64, totals.records, told.records));
    cr_assert(eq(u64, totals.messages, 14));
    cr_assert(eq(u64, totals.published, 14));
    cr_assert(eq(u64, totals.present, 14));
    cr_assert(eq(u64, totals.topics, 2));
    cr_assert(eq(u64, totals.groups, 2));
    cr_assert(eq(u64, totals.lanes, 2));
    cr_assert(eq(u64, totals.unsettled, 14));
    cr_assert(eq(sz, told.segment_count, 1));
    cr_assert(eq(u64, told.progress, told.segments[0].file_len));
    cr_assert(eq(u32, inspect_store(inspect)->version, STORE_FORMAT_VERSION));
    cr_assert(eq(u64, inspect_store(inspect)->made_us, 1000000));
    text[0] = '\0';
    inspect_each_fact(inspect, say_fact, NULL);
    cr_assert(eq(str, text,
                 "1:1:shop= 2:2:orders={} 2:3:mail={} 3:6:billing={} "
                 "3:7:audit={} "));
}

Test(inspect, reads_beside_the_broker)
{
    fill();
    must_walk();
    cr_assert(eq(str, accounts(), (char *)accounts_of_fill));
    cr_assert(eq(u64, totals.damages + totals.torn_bytes, 0));
    add_numbered(MAIL, 5);
    must_commit();
    must_walk();
    cr_assert(eq(u64, totals.published, 15));
}

Test(inspect, reads_many_segments_and_the_chain_between_them)
{
    uint64_t sealed = 0;

    for (int i = 0; i < 60; i++) {
        add_sized(&h, ORDERS, 3000, 'x');
        must_commit();
    }
    harness_close(&h);
    must_walk();
    cr_assert(eq(u64, totals.damages, 0));
    cr_assert(eq(u64, totals.present, 60));
    cr_assert(gt(sz, told.segment_count, 3));
    for (size_t i = 0; i < told.segment_count; i++) {
        cr_assert(eq(u32, told.segments[i].id, (uint32_t)i + 1));
        sealed += told.segments[i].sealed;
    }
    cr_assert(eq(u64, sealed, told.segment_count - 1));
}

Test(inspect, deleted_things_have_no_books)
{
    fill();
    add_fact(&h, CATALOG_TOPIC, MAIL, "mail", "", true);
    add_fact(&h, CATALOG_GROUP, AUDIT, "audit", "", true);
    must_commit();
    must_walk();
    cr_assert(eq(str, accounts(),
                 "orders: 10 = 10 present + 0 deleted + 0 missing\n"
                 "mail gone: 4 = 4 present + 0 deleted + 0 missing\n"
                 "billing/orders: 10 = 5 settled (1 gaps) + 0 deleted + "
                 "0 missing + 5 unsettled (1 retries)\n"));
    cr_assert(eq(u64, totals.topics, 1));
    cr_assert(eq(u64, totals.groups, 1));
    cr_assert(eq(u64, totals.published, 10));
}

Test(inspect, a_name_is_found_and_the_living_one_first)
{
    fill();
    add_fact(&h, CATALOG_TOPIC, MAIL, "mail", "", true);
    must_commit();
    must_walk();
    cr_assert(eq(u32, inspect_id(inspect, CATALOG_TOPIC, slice_text("orders")),
                 ORDERS));
    cr_assert(
        eq(u32, inspect_id(inspect, CATALOG_TOPIC, slice_text("mail")), MAIL));
    cr_assert(
        eq(u32, inspect_id(inspect, CATALOG_TOPIC, slice_text("nobody")), 0));
    add_fact(&h, CATALOG_TOPIC, 9, "mail", "", false);
    must_commit();
    must_walk();
    cr_assert(
        eq(u32, inspect_id(inspect, CATALOG_TOPIC, slice_text("mail")), 9));
    cr_assert(slice_is(inspect_name(inspect, CATALOG_GROUP, AUDIT), "audit"));
    cr_assert(eq(sz, inspect_name(inspect, CATALOG_GROUP, 4711).len, 0));
}

Test(inspect, stops_when_the_visitor_has_enough)
{
    fill();
    told.enough_after = 3;
    cr_assert(eq(int, walk(), STATUS_CLOSED));
    cr_assert(eq(u64, told.records, 3));
}

/* ---- merges and trims ---- */

static uint8_t moved[64 * 1024];
static size_t moved_len;

static void move(uint32_t topic, uint64_t seq)
{
    struct record record;
    const uint8_t *at;
    size_t size;

    cr_assert(eq(int, message_at(&h, topic, seq, &record, NULL), STATUS_OK));
    at = record.body.at - RECORD_HEADER_LEN;
    size = record_size_at(at);
    CHECK(moved_len + size <= sizeof moved);
    memcpy(moved + moved_len, at, size);
    moved_len += size;
}

static void move_trim(uint32_t topic, uint64_t first, uint64_t floor)
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

static void merge(void)
{
    struct store_span span = { .at = moved, .len = moved_len };
    struct store_commit commit;

    cr_assert(eq(int,
                 store_append_merge(h.store, &span, 9000000, &commit, &h.err),
                 STATUS_OK),
              "%s", h.err.text);
    cr_assert(eq(sz, span.taken, moved_len));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    moved_len = 0;
}

Test(inspect, a_moved_message_counts_once)
{
    fill();
    move(ORDERS, 3);
    move(ORDERS, 7);
    merge();
    must_walk();
    cr_assert(eq(str, accounts(), (char *)accounts_of_fill));
    cr_assert(eq(u64, totals.messages, 16));
    cr_assert(eq(u64, totals.moved, 2));
    cr_assert(eq(u64, totals.damages, 0));
}

Test(inspect, a_copy_makes_good_for_a_damaged_original)
{
    char path[600];

    fill();
    move(ORDERS, 3);
    merge();
    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, find_in_file(path, "message number 3"), 2);
    must_walk();
    cr_assert(eq(u64, totals.damaged_messages, 1));
    cr_assert(eq(str, accounts(), (char *)accounts_of_fill));
}

/* Below `first` all is deleted; between it and `floor` what is not there was
 * settled by everybody. */
Test(inspect, trimmed_messages_are_deleted_and_not_missing)
{
    fill();
    move_trim(ORDERS, 4, 8);
    merge();
    must_walk();
    cr_assert(eq(str, accounts(),
                 "orders: 10 = 7 present + 3 deleted + 0 missing\n"
                 "mail: 4 = 4 present + 0 deleted + 0 missing\n"
                 "billing/orders: 10 = 5 settled (1 gaps) + 0 deleted + "
                 "0 missing + 5 unsettled (1 retries)\n"
                 "audit/orders: 10 = 1 settled (0 gaps) + 3 deleted + "
                 "0 missing + 6 unsettled (0 retries)\n"));
    cr_assert(eq(u64, totals.unbalanced, 0));
}

/* ---- removed segments ---- */

static void write_snapshot(uint32_t gone_id)
{
    struct snapshot_writer *writer;
    struct seqset gone = { 0 };
    bool done = false;

    CHECK(seqset_add(&gone, gone_id, gone_id, NULL) == STATUS_OK);
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int,
                 snapshot_begin(&writer, vfs_system(), h.dir, h.store->keydir,
                                &gone, &h.err),
                 STATUS_OK));
    while (!done) {
        cr_assert(eq(int, snapshot_step(writer, 1 << 20, &done, NULL, &h.err),
                     STATUS_OK));
    }
    snapshot_end(writer);
    seqset_fini(&gone);
}

static void fill_segments(void)
{
    fill();
    for (int i = 0; i < 30; i++) {
        add_sized(&h, MAIL, 3000, 'x');
        must_commit();
    }
}

/* All that the first segment said, but its messages, is in the snapshot; of
 * those two were moved, the others trimmed. */
Test(inspect, a_snapshot_speaks_for_removed_segments)
{
    char path[600];

    fill_segments();
    move_trim(ORDERS, 7, 9);
    move(ORDERS, 7);
    move(ORDERS, 9);
    move(ORDERS, 10);
    move_trim(MAIL, 20, 20);
    merge();
    write_snapshot(1);
    harness_close(&h);
    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(int, unlink(path), 0));
    must_walk();
    cr_assert(eq(u64, totals.missing_segments, 0));
    cr_assert(eq(u64, totals.damages, 0));
    cr_assert(totals.snapshot);
    cr_assert(eq(str, accounts(),
                 "orders: 10 = 3 present + 7 deleted + 0 missing\n"
                 "mail: 34 = 15 present + 19 deleted + 0 missing\n"
                 "billing/orders: 10 = 5 settled (1 gaps) + 2 deleted + "
                 "0 missing + 3 unsettled (1 retries)\n"
                 "audit/orders: 10 = 1 settled (0 gaps) + 7 deleted + "
                 "0 missing + 2 unsettled (0 retries)\n"));
    cr_assert(eq(u64, totals.unbalanced, 0));
    snprintf(path, sizeof path, "%s/snapshot", h.dir);
    flip_bit(path, find_in_file(path, "billing"), 1);
    must_walk();
    cr_assert(totals.snapshot_damaged);
    cr_assert(eq(u64, totals.snapshot_damages, 1));
    cr_assert(eq(u64, totals.damages, 1));
    flip_bit(path, 100, 2);
    flip_bit(path, 2148, 2); /* both halves of its head */
    must_walk();
    cr_assert(totals.snapshot_damaged);
    cr_assert(eq(u64, totals.missing_segments, 1));
}

/* Broken off before the file was unlinked: the next start ends it. */
Test(inspect, a_segment_that_is_as_good_as_removed_is_passed_by)
{
    fill_segments();
    write_snapshot(1);
    must_walk();
    cr_assert(eq(u64, totals.missing_segments, 0));
    cr_assert(eq(u32, told.segments[0].id, 2));
    write_snapshot(h.store->journal.active->header.id); /* cannot be */
    must_walk();
    cr_assert(eq(u32, told.segments[0].id, 1));
    cr_assert(eq(u64, totals.missing_segments, 0));
}

/* The one behind it, which said where it ends, is gone: its length says it. */
Test(inspect, a_segment_that_was_cut_has_a_length)
{
    uint32_t id = h.store->journal.active->header.id;
    char path[600];
    uint32_t end;

    fill();
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    fill_segments();
    must_walk();
    end = told.segments[0].end;
    write_snapshot(id + 1);
    segment_file(&h, id, path, sizeof path);
    cr_assert(eq(int, truncate(path, end), 0));
    must_walk();
    cr_assert(eq(u32, told.segments[0].id, id));
    cr_assert(eq(u32, told.segments[1].id, id + 2));
    cr_assert(silent());
    cr_assert(eq(u64, totals.missing_segments, 0));
    cr_assert(eq(int, truncate(path, (off_t)end - 8), 0));
    must_walk();
    cr_assert(not(silent()));
    cr_assert(eq(int, truncate(path, (off_t)end + 4096), 0));
    must_walk();
    cr_assert(not(silent()), "a batch may have been lost there");
}

/* ---- damage ---- */

static void flip_in_body(uint64_t number)
{
    char path[600];
    char body[64];

    snprintf(body, sizeof body, "message number %d stands", (int)number);
    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, find_in_file(path, body), 4);
}

Test(inspect, a_damaged_message_is_named_and_missing)
{
    fill();
    harness_close(&h);
    flip_in_body(8);
    must_walk();
    cr_assert(eq(u64, totals.damages, 1));
    cr_assert(eq(int, (int)told.damages[0].kind, DAMAGE_MESSAGE));
    cr_assert(eq(u64, told.damages[0].seq, 8));
    cr_assert(eq(str, accounts(),
                 "orders: 10 = 9 present + 0 deleted + 1 missing\n"
                 "mail: 4 = 4 present + 0 deleted + 0 missing\n"
                 "billing/orders: 10 = 5 settled (1 gaps) + 0 deleted + "
                 "1 missing + 4 unsettled (1 retries)\n"
                 "audit/orders: 10 = 1 settled (0 gaps) + 0 deleted + "
                 "1 missing + 8 unsettled (0 retries)\n"));
    cr_assert(eq(u64, totals.missing, 1));
}

/* What is trimmed may be absent, but not damaged without a word. */
Test(inspect, damage_below_the_floor_is_missing_too)
{
    fill();
    move_trim(ORDERS, 2, 9);
    merge();
    flip_in_body(8);
    must_walk();
    cr_assert(eq(u64, totals.missing, 1));
    cr_assert(eq(u64, totals.deleted, 1));
}

/* Every n-th bit of the store's log in turn; how many nobody noticed. */
static uint64_t sweep(uint32_t id, uint64_t from, uint64_t to, uint64_t step)
{
    uint64_t records;
    uint64_t unseen = 0;
    char path[600];

    must_walk();
    cr_assert(silent());
    records = totals.records;
    segment_file(&h, id, path, sizeof path);
    for (uint64_t bit = from * 8; bit < to * 8; bit += step) {
        flip_bit(path, bit / 8, (int)(bit % 8));
        must_walk();
        unseen += silent();
        cr_assert(le(u64, totals.records, records), "bit %d", (int)bit);
        flip_bit(path, bit / 8, (int)(bit % 8));
    }
    return unseen;
}

Test(inspect, a_flipped_bit_anywhere_is_told)
{
    for (int i = 0; i < 12; i++) {
        add_sized(&h, ORDERS, 3000, 'x');
        add_ack(&h, BILLING, ORDERS, (uint64_t)i + 1, (uint64_t)i + 1);
        must_commit();
    }
    harness_close(&h);
    must_walk();
    cr_assert(ge(sz, told.segment_count, 2));
    for (uint32_t i = 0; i < 2; i++) {
        struct inspect_segment segment = told.segments[i];
        cr_assert(eq(u64, sweep(i + 1, 0, segment.end, 149), 0));
    }
}

/* The planted bug: bytes that no hash covers. */
Test(inspect, the_sweep_notices_what_is_not_looked_at)
{
    struct inspect_segment segment;

    fill();
    harness_close(&h);
    must_walk();
    segment = told.segments[0];
    cr_assert(gt(u64, segment.file_len, segment.end + 4096));
    /* A file that was reused ends with its last batch; this one with zeros,
     * so a bit behind them looks torn: cut the tail away and nobody looks. */
    cr_assert(eq(u64, sweep(1, segment.end, segment.end + 8, 8), 0));
    {
        char path[600];
        snprintf(path, sizeof path, "%s/spare", h.dir);
        flip_bit(path, 100, 1);
        must_walk();
        cr_assert(silent());
    }
}

Test(inspect, missing_and_foreign_segments_are_counted)
{
    char path[600];
    int fd;

    for (int i = 0; i < 60; i++) {
        add_sized(&h, ORDERS, 3000, 'x');
        must_commit();
    }
    harness_close(&h);
    segment_file(&h, 2, path, sizeof path);
    cr_assert(eq(int, unlink(path), 0));
    must_walk();
    cr_assert(eq(u64, totals.missing_segments, 1));
    cr_assert(gt(u64, totals.missing, 0));
    cr_assert(eq(u64, totals.published, 60));
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    close(fd); /* empty: its head is lost */
    must_walk();
    cr_assert(gt(u64, totals.damages, 0));
    cr_assert(gt(u64, totals.missing, 0));
}

/* All segments but the first `keep` are gone. */
static uint64_t missing_with(uint32_t keep)
{
    char path[600];

    for (uint32_t id = 100; id > keep; id--) {
        segment_file(&h, id, path, sizeof path);
        cr_assert(unlink(path) == 0 || errno == ENOENT);
    }
    must_walk();
    return totals.missing_segments;
}

Test(inspect, a_lost_end_of_the_log_is_counted)
{
    char path[600];
    int fd;

    for (int i = 0; i < 60; i++) {
        add_sized(&h, ORDERS, 3000, 'x');
        must_commit();
    }
    harness_close(&h);
    cr_assert(eq(u64, missing_with(99), 0));
    cr_assert(eq(u64, missing_with(2), 1)); /* it ends with a seal */
    cr_assert(eq(u64, totals.damages, 0));
    /* ... but a start that ended early may leave the next one like this. */
    snprintf(path, sizeof path, "%s/log/0000000003.pool", h.dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    close(fd);
    cr_assert(eq(u64, missing_with(2), 0));
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(u64, missing_with(0), 1)); /* nothing is left at all */
    cr_assert(eq(u64, totals.segments, 0));
}

/* Fail the 1st, 2nd, 3rd... call in turn, once or from then on, until one pass
 * goes untouched. Whatever does not read is told, or ends the walk. */
static void fail_each(bool sticky)
{
    struct inspect_visitor visitor = { .damage = on_damage };
    struct faulty_vfs faulty;
    unsigned fired = 1;

    faulty_vfs_init(&faulty);
    for (unsigned nth = 1; fired > 0; nth++) {
        enum status status;
        inspect_close(inspect);
        inspect = NULL;
        faulty_vfs_arm(&faulty, (struct faulty_plan) { .calls = FAULTY_ALL,
                                                       .nth = nth,
                                                       .sticky = sticky,
                                                       .error = EIO });
        status = inspect_open(&inspect, h.dir, &faulty.vfs, &h.err);
        if (status == STATUS_OK) {
            status = inspect_walk(inspect, &visitor, &totals, &h.err);
        }
        fired = faulty.fired;
        faulty_vfs_disarm(&faulty);
        cr_assert(status != STATUS_OK || !silent()
                      || totals.missing_segments > 0 || totals.present == 44,
                  "call %u", nth);
        cr_assert(lt(u32, nth, 1000));
    }
    cr_assert(silent());
}

Test(inspect, what_does_not_read_is_told)
{
    fill_segments();
    harness_close(&h);
    fail_each(false);
    fail_each(true);
}

/* ---- the end of the log ---- */

Test(inspect, a_torn_tail_is_told_from_damage)
{
    struct store_commit commit;
    char path[600];

    fill();
    add_message(&h, ORDERS, "written but not synced");
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    harness_kill(&h);
    segment_file(&h, 1, path, sizeof path);
    must_walk();
    cr_assert(eq(u64, totals.torn_bytes, 0));
    cr_assert(ge(u64, totals.doubtful_batches, 1));
    cr_assert(eq(u64, totals.published, 15));
    flip_bit(path, find_in_file(path, "not synced"), 1);
    must_walk();
    cr_assert(eq(u64, totals.damages, 0));
    cr_assert(eq(u64, totals.torn_batches, 1));
    cr_assert(gt(u64, totals.torn_bytes, 200));
    cr_assert(eq(u64, totals.published, 14));
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(eq(u64, h.recovery.torn_bytes, totals.torn_bytes));
    cr_assert(eq(u64, h.recovery.torn_batches, totals.torn_batches));
    must_walk();
    cr_assert(silent());
    cr_assert(eq(str, accounts(), (char *)accounts_of_fill));
}

/* As if the file had a life before: what stands behind its end says nothing. */
static void make_recycled(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t block[BLOCK_LEN];

    CHECK(pread(fd, block, sizeof block, 0) == (ssize_t)sizeof block);
    put_u32(block + 56, 1);
    block_close(block);
    CHECK(pwrite(fd, block, sizeof block, 0) == (ssize_t)sizeof block);
    memset(block, 0x5a, sizeof block);
    CHECK(pwrite(fd, block, sizeof block, 40000) == (ssize_t)sizeof block);
    close(fd);
}

/* The last batch's header is damaged, and its records tell that it was one. */
Test(inspect, a_lost_end_of_a_recycled_file_is_told)
{
    struct inspect_segment segment;
    char path[600];

    fill();
    add_message(&h, ORDERS, "the last one");
    must_commit();
    harness_close(&h);
    segment_file(&h, 1, path, sizeof path);
    make_recycled(path);
    must_walk();
    cr_assert(silent());
    segment = told.segments[0];
    for (int bit = 0; bit < BATCH_HEADER_LEN * 8; bit++) {
        uint64_t header = find_in_file(path, "the last one") - RECORD_HEADER_LEN
                          - BATCH_HEADER_LEN;
        flip_bit(path, header + (uint64_t)bit / 8, bit % 8);
        must_walk();
        cr_assert(lt(u32, told.segments[0].end, segment.end));
        cr_assert(not(silent()), "bit %d", bit);
        flip_bit(path, header + (uint64_t)bit / 8, bit % 8);
    }
}

Test(inspect, crashes_leave_no_damage)
{
    for (int i = 0; i < 5; i++) {
        fill();
        harness_kill(&h);
        must_walk();
        cr_assert(silent());
        cr_assert(eq(u64, totals.published, 14 * ((uint64_t)i + 1)));
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    }
}

/* ---- opening ---- */

Test(inspect, says_why_it_cannot_open)
{
    char path[600];
    char name[5000];

    harness_close(&h);
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    cr_assert(
        eq(int, inspect_open(&inspect, name, NULL, &h.err), STATUS_INVALID));
    cr_assert(eq(int, inspect_open(&inspect, "/nowhere", NULL, &h.err),
                 STATUS_NOT_FOUND));
    snprintf(path, sizeof path, "%s/format", h.dir);
    flip_bit(path, 100, 1);
    must_walk();
    cr_assert(eq(u64, totals.damages, 1)); /* the other half is good */
    flip_bit(path, 2148, 1);
    cr_assert(eq(int, walk(), STATUS_CORRUPT));
    flip_bit(path, 8, 3); /* version + 8 */
    cr_assert(eq(int, walk(), STATUS_NEWER));
}

Test(inspect, an_empty_store_is_no_failure)
{
    char path[600];

    segment_file(&h, 2, path, sizeof path);
    while (access(path, F_OK) != 0) { /* one is ready for later */
        cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    }
    must_walk();
    cr_assert(silent());
    cr_assert(eq(u64, totals.records, 0));
    cr_assert(eq(str, accounts(), ""));
}
