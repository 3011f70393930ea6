/* links: godwit_storage godwit_proto */
/* with: test/storage/upkeep.c test/storage/harness.c test/lib/tmpdir.c */

/* What is told of a message's failed deliveries: as it was, after any start,
 * the newest ones, and nothing of messages that are settled or gone. */
#include "storage/internal.h"
#include "test/storage/upkeep.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { GROUP = 3, TOPIC = 4, TEXT_LEN = 4096 };

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

TestSuite(histories, .init = set_up, .fini = tear_down, .timeout = 120);

/* ---- helpers ---- */

static void publish(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add_message(&h, TOPIC, "m");
        if (h.len > HARNESS_BUFFER_LEN / 2) {
            cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        }
    }
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
}

static void fail_one(uint64_t seq, uint32_t attempts, const char *reason,
                     bool dead)
{
    add_failed(&h, GROUP, TOPIC,
               (struct failure) { .seq = seq,
                                  .attempts = attempts,
                                  .due_us = 77,
                                  .holder = 1000 + attempts,
                                  .cause = attempts % 2 == 0 ? CAUSE_LEASE
                                                             : CAUSE_NACK,
                                  .dead = dead,
                                  .reason = slice_text(reason) });
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
}

/* "1 nack why, 2 lease" with "dead" behind the last. */
static const char *history(uint32_t group, uint64_t seq)
{
    static char text[TEXT_LEN];
    struct store_failure failures[HISTORY_MAX];
    uint64_t before = 0;
    size_t len = 0;
    size_t count;

    cr_assert(eq(int,
                 store_view_history(h.view, group, TOPIC, seq, failures,
                                    HISTORY_MAX, &count),
                 STATUS_OK));
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const struct store_failure *f = &failures[i];
        cr_assert(ge(u64, f->time_us, before));
        cr_assert(eq(u64, f->holder, 1000 + f->attempts));
        before = f->time_us;
        len +=
            (size_t)snprintf(text + len, sizeof text - len, "%s%u %s%s%.*s%s",
                             i == 0 ? "" : ", ", f->attempts,
                             f->cause == CAUSE_NACK ? "nack" : "lease",
                             f->reason_len > 0 ? " " : "", (int)f->reason_len,
                             f->reason, f->dead ? " dead" : "");
    }
    return text;
}

static void expect(uint64_t seq, const char *text)
{
    cr_assert(eq(str, (char *)history(GROUP, seq), (char *)text),
              "message %" PRIu64, seq);
}

static void checkpoint(void)
{
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
}

/* After a checkpoint, and after any start. */
static void expect_always(uint64_t seq, const char *text)
{
    checkpoint();
    expect(seq, text);
    harness_reopen(&h);
    expect(seq, text);
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    expect(seq, text);
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    expect(seq, text);
}

static size_t keys(void)
{
    struct keydir_walk *walk;
    struct keydir_meta meta;
    struct slice key;
    struct slice value;
    size_t count = 0;

    cr_assert(
        eq(int, keydir_walk_open(&walk, h.store->keydir, &meta), STATUS_OK));
    while (keydir_walk_next(walk, HISTORIES, &key, &value) == STATUS_OK) {
        count++;
    }
    keydir_walk_close(walk);
    return count;
}

/* ---- what is told ---- */

Test(histories, are_told_as_they_were)
{
    publish(9);
    expect(5, "");
    fail_one(5, 1, "no such customer", false);
    expect(5, ""); /* as of the last checkpoint */
    fail_one(6, 1, "", false);
    expect_always(5, "1 nack no such customer");
    fail_one(5, 2, "", false);
    fail_one(5, 3, "for good", true);
    expect_always(5, "1 nack no such customer, 2 lease, 3 nack for good dead");
    expect(6, "1 nack");
    expect(7, "");
    cr_assert(eq(str, (char *)history(GROUP + 1, 5), ""));
}

Test(histories, not_checkpointed_yet_come_through_a_crash)
{
    publish(9);
    fail_one(5, 1, "a", false);
    checkpoint();
    fail_one(5, 2, "b", false);
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    expect(5, "1 nack a, 2 lease b");
}

Test(histories, keep_the_newest_up_to_the_bound)
{
    char expected[TEXT_LEN] = "";
    struct store_failure two[2];
    size_t len = 0;
    size_t count;

    publish(9);
    for (uint32_t i = 1; i <= HISTORY_MAX; i++) {
        fail_one(5, i, "r", false);
        if (i % 5 == 0) {
            checkpoint();
        }
        len += (size_t)snprintf(expected + len, sizeof expected - len,
                                "%s%u %s r", i == 1 ? "" : ", ", i,
                                i % 2 == 0 ? "lease" : "nack");
    }
    expect_always(5, expected);
    fail_one(5, HISTORY_MAX + 1, "r", false);
    len = (size_t)snprintf(expected + len, sizeof expected - len, ", %u nack r",
                           HISTORY_MAX + 1);
    expect_always(5, expected + strlen("1 nack r, "));
    cr_assert(eq(int,
                 store_view_history(h.view, GROUP, TOPIC, 5, two, 2, &count),
                 STATUS_OK));
    cr_assert(eq(sz, count, 2));
    cr_assert(eq(u32, two[0].attempts, HISTORY_MAX));
    cr_assert(eq(u32, two[1].attempts, HISTORY_MAX + 1));
}

Test(histories, with_reasons_of_every_length)
{
    char reason[REASON_LEN_MAX + 1];

    publish(9);
    memset(reason, 'r', sizeof reason);
    reason[REASON_LEN_MAX] = '\0';
    for (uint32_t i = 1; i <= HISTORY_MAX; i++) {
        fail_one(5, i, reason + (i % 2 == 0 ? 0 : REASON_LEN_MAX - i), false);
    }
    checkpoint();
    for (uint32_t i = HISTORY_MAX - 1; i <= HISTORY_MAX; i++) {
        struct store_failure last[2];
        size_t count;
        cr_assert(eq(
            int, store_view_history(h.view, GROUP, TOPIC, 5, last, 2, &count),
            STATUS_OK));
        cr_assert(eq(sz, last[1].reason_len, REASON_LEN_MAX));
        cr_assert(eq(sz, last[0].reason_len, HISTORY_MAX - 1));
        cr_assert(eq(int, memcmp(last[1].reason, reason, REASON_LEN_MAX), 0));
    }
}

/* The same failure told again, as a replay may, is the same. */
Test(histories, do_not_tell_a_failure_twice)
{
    struct failure failure = {
        .seq = 5, .attempts = 1, .holder = 1001, .cause = CAUSE_NACK
    };

    publish(9);
    add_failed(&h, GROUP, TOPIC, failure);
    add_failed(&h, GROUP, TOPIC, failure); /* in one batch: of one time */
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    expect_always(5, "1 nack");
    fail_one(5, 1, "", false); /* after a redrive attempts begin anew */
    expect_always(5, "1 nack, 1 nack");
}

/* ---- what goes ---- */

Test(histories, of_what_is_settled_go)
{
    publish(20);
    for (uint64_t seq = 1; seq <= 9; seq++) {
        fail_one(seq, 1, "", seq > 6);
    }
    checkpoint();
    cr_assert(eq(sz, keys(), 9));
    add_ack(&h, GROUP, TOPIC, 2, 3);
    add_lane(&h, RECORD_EXPIRED, GROUP, TOPIC, 4, 4);
    add_lane(&h, RECORD_DISCARD, GROUP, TOPIC, 7, 8);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(sz, keys(), 4));
    expect(1, "1 nack");
    expect(3, "");
    expect(9, "1 nack dead");
    add_ack(&h, GROUP, TOPIC, 1, 20);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(sz, keys(), 0));
    expect_always(9, "");
}

/* Settled before a checkpoint has seen it: nothing of it is written. */
Test(histories, of_what_is_settled_soon_are_never_written)
{
    publish(20);
    fail_one(5, 1, "", false);
    add_ack(&h, GROUP, TOPIC, 5, 5);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(sz, keys(), 0));
}

Test(histories, of_what_is_sought_again_stay)
{
    publish(20);
    fail_one(5, 1, "", false);
    add_seek(&h, GROUP, TOPIC, 4);
    expect_always(5, "1 nack");
    add_seek(&h, GROUP, TOPIC, 5);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    expect_always(5, "");
}

Test(histories, of_deleted_groups_and_topics_go)
{
    publish(20);
    fail_one(5, 1, "", true);
    checkpoint();
    add_fact(&h, CATALOG_GROUP, GROUP, "g", "", true);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(sz, keys(), 0));
    add_failed(&h, GROUP + 1, TOPIC,
               (struct failure) { .seq = 6, .cause = CAUSE_GONE });
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(sz, keys(), 1));
    add_fact(&h, CATALOG_TOPIC, TOPIC, "t", "", true);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(sz, keys(), 0));
}

Test(histories, of_deleted_messages_go)
{
    struct upkeep_bed bed;

    upkeep_bed_init(&bed, &h);
    keep_until_limit(&bed, TOPIC, 0, 0, 10);
    publish(20);
    fail_one(5, 1, "", true);
    fail_one(15, 1, "", true);
    checkpoint();
    cr_assert(eq(sz, keys(), 2));
    cr_assert(eq(int, upkeep_all(&bed, NULL), STATUS_OK));
    cr_assert(eq(u64, first_seq(&h, TOPIC), 11));
    expect(5, "");
    expect(15, "1 nack dead");
    upkeep_bed_fini(&bed);
}

/* ---- how much at a time ---- */

/* One record of a thousand failures, of messages first.. */
static void fail_many(uint64_t first, size_t count)
{
    static struct failure all[RECORD_FAILURES_MAX];
    struct record_failures failures = { GROUP, TOPIC, all, count };
    struct record record = { .kind = RECORD_FAILED };
    struct bytes body = { 0 };

    for (size_t i = 0; i < count; i++) {
        all[i] = (struct failure) {
            .seq = first + i, .attempts = 1, .holder = 1001, .cause = CAUSE_NACK
        };
    }
    CHECK(record_failed_write(&body, &failures) == STATUS_OK);
    memcpy(h.buffer + RECORD_HEADER_LEN, body.at, bytes_len(&body));
    record.body = slice_of(h.buffer + RECORD_HEADER_LEN, bytes_len(&body));
    record_finish(h.buffer, &record);
    h.len = record_size(bytes_len(&body));
    bytes_fini(&body);
}

static enum status apply_many(uint64_t first, size_t count,
                              struct store_commit *commit)
{
    fail_many(first, count);
    cr_assert(eq(int, harness_append(&h, commit), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    return store_apply(h.store, commit);
}

Test(histories, pending_at_their_bound_want_a_checkpoint)
{
    struct store_commit commit;
    uint64_t seq = 1;

    publish(HISTORIES_PENDING_MAX + 10);
    checkpoint();
    for (; seq + 512 <= HISTORIES_PENDING_MAX; seq += 512) {
        cr_assert(eq(int, apply_many(seq, 512, &commit), STATUS_OK));
    }
    cr_assert(eq(int, apply_many(seq, 511, &commit), STATUS_OK));
    cr_assert(eq(int, apply_many(seq + 511, 1, &commit), STATUS_OK));
    cr_assert(eq(int, apply_many(seq + 512, 1, &commit), STATUS_AGAIN));
    checkpoint();
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    checkpoint();
    cr_assert(eq(sz, keys(), HISTORIES_PENDING_MAX + 1));
    expect(HISTORIES_PENDING_MAX, "1 nack");
    /* and they go a bounded number at a time, without any more news */
    add_ack(&h, GROUP, TOPIC, 1, HISTORIES_PENDING_MAX + 10);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    for (size_t left = keys(); left > 0;) {
        size_t before = left;
        checkpoint();
        left = keys();
        cr_assert(le(sz, before - left, HISTORY_SWEEP_MIN));
        cr_assert(lt(sz, left, before));
    }
    expect(HISTORIES_PENDING_MAX, "");
}

/* A message that fails again and again takes no more than its bound. */
Test(histories, of_a_storm_take_no_more_of_the_keydir)
{
    struct store_stats before;
    struct store_stats after;

    publish(500);
    for (unsigned i = 0; i < 100; i++) {
        struct store_commit commit;
        cr_assert(eq(int, apply_many(1, 500, &commit), STATUS_OK));
        h.now_us += 1000;
        checkpoint();
        if (i == 2 * HISTORY_MAX) {
            store_stats(h.store, &before);
        }
    }
    store_stats(h.store, &after);
    cr_assert(eq(sz, keys(), 500));
    cr_assert(le(u64, after.keydir_bytes,
                 before.keydir_bytes + before.keydir_bytes / 4));
}
