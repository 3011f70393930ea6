/* links: godwit_storage godwit_proto */
/* with: test/storage/upkeep.c test/storage/harness.c test/lib/tmpdir.c */

/* How long messages are kept: until all groups have settled them, or until a
 * limit, whichever the topic asks for. */
#include "storage/internal.h"
#include "test/storage/upkeep.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { COUNT = 400, BODY_LEN = 900, SECOND = 1000 * 1000 };

static struct harness h;
static struct upkeep_bed bed;

static void set_up(void)
{
    harness_init(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    upkeep_bed_init(&bed, &h);
}

static void tear_down(void)
{
    upkeep_bed_fini(&bed);
    harness_fini(&h);
}

TestSuite(keeping, .init = set_up, .fini = tear_down, .timeout = 60);

static void publish(uint32_t topic, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add_sized(&h, topic, BODY_LEN, 'x');
        if (i % 5 == 4 || i + 1 == count) {
            cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        }
    }
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
}

static void ack(uint32_t group, uint32_t topic, uint64_t first, uint64_t last)
{
    add_ack(&h, group, topic, first, last);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
}

static void upkeep(void)
{
    enum status status = upkeep_all(&bed, NULL);

    cr_assert(eq(int, status, STATUS_OK), "%s", h.err.text);
}

static bool is_there(uint32_t topic, uint64_t seq)
{
    return message_text(&h, topic, seq)[0] == 'x';
}

static uint64_t segments(void)
{
    uint64_t bytes;

    return log_files(&h, ".seg", &bytes);
}

/* ---- until settled ---- */

Test(keeping, settled_messages_in_full_segments_go)
{
    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    publish(1, COUNT);
    ack(1, 1, 1, COUNT);
    upkeep();
    cr_assert(not(is_there(1, 1)));
    cr_assert(is_there(1, COUNT)); /* its segment is not full */
    cr_assert(le(u64, segments(), 2));
    cr_assert(eq(u64, first_seq(&h, 1), floor_seq(&h, 1)));
    cr_assert(gt(u64, first_seq(&h, 1), COUNT / 2));
    cr_assert(eq(u64, last_seq(&h, 1), COUNT));
}

Test(keeping, the_slowest_group_decides)
{
    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    owe(&bed, 1, 2, 0);
    publish(1, COUNT);
    ack(1, 1, 1, COUNT);
    ack(2, 1, 1, 99);
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), 100));
    for (uint64_t seq = 100; seq <= COUNT; seq++) {
        cr_assert(is_there(1, seq), "message %" PRIu64, seq);
    }
    owe_no_more(&bed, 1, 2);
    add_fact(&h, CATALOG_GROUP, 2, "two", "", true);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    cr_assert(gt(u64, first_seq(&h, 1), COUNT / 2));
}

Test(keeping, what_a_group_was_never_to_get_is_not_owed_to_it)
{
    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    owe(&bed, 1, 2, 200);
    publish(1, COUNT);
    ack(1, 1, 1, 300);
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), 201));
}

Test(keeping, a_topic_owed_to_nobody_keeps_everything)
{
    keep_until_settled(&bed, 1, 0);
    publish(1, COUNT);
    upkeep();
    cr_assert(is_there(1, 1));
    cr_assert(eq(u64, floor_seq(&h, 1), 1));
}

Test(keeping, a_topic_the_policy_does_not_know_yet_keeps_everything)
{
    publish(1, COUNT);
    ack(1, 1, 1, COUNT);
    upkeep();
    cr_assert(is_there(1, 1));
    cr_assert(eq(u64, floor_seq(&h, 1), 1));
}

Test(keeping, settled_messages_stay_for_their_age)
{
    uint64_t age = UINT64_C(3600) * SECOND;

    keep_until_settled(&bed, 1, age);
    owe(&bed, 1, 1, 0);
    publish(1, COUNT);
    ack(1, 1, 1, COUNT);
    upkeep();
    cr_assert(is_there(1, 1));
    cr_assert(eq(u64, floor_seq(&h, 1), 1));
    h.now_us += age;
    upkeep();
    cr_assert(not(is_there(1, 1)));
}

/* A group that is made after the floor has risen and before anything is gone
 * begins at the floor; one that is made before it is in the policy. */
Test(keeping, a_group_made_between_trim_and_removal_loses_nothing)
{
    bool more = true;
    uint64_t floor = 1;

    keep_until_settled(&bed, 1, 0);
    owe(&bed, 1, 1, 0);
    publish(1, COUNT);
    ack(1, 1, 1, COUNT);
    h.now_us += 60 * SECOND;
    while (floor <= 1 && more) {
        cr_assert(eq(int, upkeep_once(&bed, &more), STATUS_OK));
        cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
        floor = floor_seq(&h, 1);
    }
    cr_assert(gt(u64, floor, 1));
    cr_assert(eq(u64, first_seq(&h, 1), 1));
    owe(&bed, 1, 2, floor - 1);
    owe(&bed, 1, 3, 50); /* made before the trim stood in the log */
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), 51));
    for (uint64_t seq = 51; seq <= COUNT; seq++) {
        cr_assert(is_there(1, seq), "message %" PRIu64, seq);
    }
}

Test(keeping, a_deleted_topic_goes_and_a_deleted_group_holds_nothing)
{
    uint64_t before;

    keep_until_settled(&bed, 1, 0);
    keep_until_settled(&bed, 2, 0);
    owe(&bed, 1, 1, 0);
    owe(&bed, 2, 1, 0);
    add_fact(&h, CATALOG_TOPIC, 1, "one", "", false);
    add_fact(&h, CATALOG_TOPIC, 2, "two", "", false);
    publish(1, COUNT);
    publish(2, 20);
    before = segments();
    upkeep();
    cr_assert(eq(u64, segments(), before));
    add_fact(&h, CATALOG_TOPIC, 1, "one", "", true);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    forget_topic(&bed, 1);
    upkeep();
    cr_assert(le(u64, segments(), 3));
    for (uint64_t seq = 1; seq <= 20; seq++) {
        cr_assert(is_there(2, seq));
    }
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)facts_text(&h), "2:2:two= "));
    cr_assert(not(is_there(1, COUNT)));
    cr_assert(is_there(2, 20));
}

/* ---- until a limit ---- */

Test(keeping, at_most_so_many)
{
    keep_until_limit(&bed, 1, 0, 0, 100);
    owe(&bed, 1, 1, 0);
    publish(1, 100);
    upkeep();
    cr_assert(le(u64, first_seq(&h, 1), 1));
    publish(1, 1);
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), 2));
    cr_assert(eq(u64, floor_seq(&h, 1), 2));
    publish(1, COUNT);
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), COUNT + 2));
    cr_assert(not(is_there(1, 300)));
    cr_assert(is_there(1, COUNT + 2));
    cr_assert(lt(u64, segments(), 5));
}

Test(keeping, at_most_so_old)
{
    uint64_t age = UINT64_C(100) * SECOND;

    keep_until_limit(&bed, 1, age, 0, 0);
    publish(1, 150);
    h.now_us += 50 * SECOND;
    publish(1, 150);
    upkeep();
    cr_assert(le(u64, first_seq(&h, 1), 1));
    h.now_us += 52 * SECOND;
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), 151));
    cr_assert(is_there(1, 151));
    h.now_us += age;
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), 301));
    cr_assert(eq(u64, last_seq(&h, 1), 300));
}

/* ---- ... even when the oldest one does not say how old it is ---- */

enum { AGE = 100 * SECOND };

/* More and more comes, and gets old. */
static void grow_old(void)
{
    for (int i = 0; i < 3; i++) {
        h.now_us += 2 * (uint64_t)AGE;
        upkeep();
        publish(1, COUNT);
    }
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), last_seq(&h, 1) - COUNT + 1));
    cr_assert(le(u64, segments(), 2 + COUNT * 1024 / h.config.segment_len));
}

static void damage_first(void)
{
    char path[600];

    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, find_in_file(path, "xxxxxxxxxxxxxxxx") + 100, 3);
}

Test(keeping, a_damaged_message_does_not_stop_what_is_too_old)
{
    enum { FEW = 30 };
    struct store_stats stats;

    keep_until_limit(&bed, 1, AGE, 0, 0);
    publish(1, FEW);
    damage_first();
    /* in a segment that is not old as a whole */
    h.now_us += 2 * (uint64_t)AGE;
    add_sized(&h, 1, BODY_LEN, 'x');
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), FEW + 1));
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.damaged_records, 1));
    grow_old();
}

Test(keeping, a_missing_segment_does_not_stop_what_is_too_old)
{
    char path[600];

    keep_until_limit(&bed, 1, AGE, 0, 0);
    publish(1, COUNT / 2);
    harness_close(&h);
    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(eq(u64, h.recovery.missing_segments, 1));
    grow_old();
}

Test(keeping, a_message_of_the_future_does_not_stop_what_is_too_old)
{
    const uint64_t ahead = UINT64_C(1000000) * SECOND;

    keep_until_limit(&bed, 1, AGE, 0, 0);
    h.now_us += ahead;
    publish(1, 3);
    h.now_us -= ahead;
    publish(1, COUNT / 2);
    upkeep();
    cr_assert(le(u64, first_seq(&h, 1), 1));
    grow_old();
}

/* All that there is: nothing says that it is old. */
Test(keeping, what_is_all_of_the_future_stays)
{
    const uint64_t ahead = UINT64_C(1000000) * SECOND;

    keep_until_limit(&bed, 1, AGE, 0, 0);
    h.now_us += ahead;
    publish(1, COUNT);
    h.now_us -= ahead;
    upkeep();
    cr_assert(is_there(1, 1));
}

Test(keeping, at_most_so_many_bytes_by_whole_segments)
{
    enum { LIMIT = 200 * 1000 };
    uint64_t kept;

    keep_until_limit(&bed, 1, 0, LIMIT, 0);
    publish(1, 150);
    upkeep();
    cr_assert(le(u64, first_seq(&h, 1), 1));
    publish(1, 1000);
    upkeep();
    kept = last_seq(&h, 1) - first_seq(&h, 1) + 1;
    cr_assert(ge(u64, kept * (BODY_LEN + 64), LIMIT));
    cr_assert(lt(u64, kept * (BODY_LEN + 64), LIMIT + 2 * 64 * 1024));
    cr_assert(is_there(1, first_seq(&h, 1)));
}

Test(keeping, a_limit_does_not_ask_who_has_settled)
{
    keep_until_limit(&bed, 1, 0, 0, 300);
    owe(&bed, 1, 1, 0);
    publish(1, COUNT);
    ack(1, 1, 1, COUNT);
    upkeep();
    for (uint64_t seq = COUNT - 299; seq <= COUNT; seq++) {
        cr_assert(is_there(1, seq), "message %" PRIu64, seq);
    }
}

Test(keeping, no_limit_keeps_everything)
{
    keep_until_limit(&bed, 1, 0, 0, 0);
    publish(1, COUNT);
    upkeep();
    cr_assert(is_there(1, 1));
}

/* ---- what it takes ---- */

enum { MANY_TOPICS = 6 };

static struct store_owed everybody[LANES_CACHED_MAX];

static bool owe_everybody(void *arg, uint32_t topic,
                          struct store_retention *out)
{
    (void)arg;
    *out = (struct store_retention) { .keep = STORE_KEEP_UNTIL_SETTLED,
                                      .age_us = 1,
                                      .owed = everybody,
                                      .owed_count = LANES_CACHED_MAX };
    return topic >= 1 && topic <= MANY_TOPICS;
}

Test(keeping, an_idle_store_does_not_gather_lanes)
{
    size_t most = 0;

    for (uint32_t i = 0; i < LANES_CACHED_MAX; i++) {
        everybody[i].group = i + 1;
    }
    for (uint32_t topic = 1; topic <= MANY_TOPICS; topic++) {
        publish(topic, 100);
    }
    publish(MANY_TOPICS + 1, 100); /* the segments before are full */
    bed.policy = (struct store_policy) { owe_everybody, NULL };
    for (int i = 0; i < 50; i++) {
        bool more;
        cr_assert(eq(int, upkeep_once(&bed, &more), STATUS_OK));
        h.now_us += more ? 0 : 20 * SECOND;
        most = h.store->keeper.lanes.count > most ? h.store->keeper.lanes.count
                                                  : most;
    }
    cr_assert(gt(sz, most, LANES_CACHED_MAX)); /* it did look */
    cr_assert(le(sz, most, 3 * LANES_CACHED_MAX));
}

Test(keeping, the_tally_of_a_full_segment_takes_no_more_than_it_must)
{
    const struct tally *tally = &h.store->keeper.tally;

    for (uint32_t topic = 1; topic <= 9; topic++) {
        add_sized(&h, topic, BODY_LEN, 'x');
    }
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    publish(1, 100);
    cr_assert(gt(sz, tally->count, 1));
    cr_assert(eq(sz, tally->segments[0].count, 10)); /* and topic 0 */
    cr_assert(eq(sz, tally->segments[0].capacity, 10));
}

Test(keeping, what_the_tally_counts_stops_at_its_bound)
{
    struct tally_entry entry = { .topic = 1 };

    tally_run(&entry, 1, UINT32_MAX - 1);
    tally_message(&entry, UINT32_MAX - 1, 1);
    cr_assert(eq(u32, entry.count, UINT32_MAX - 1));
    cr_assert(eq(u32, entry.bytes, UINT32_MAX - 1));
    tally_run(&entry, UINT32_MAX, 2);
    tally_message(&entry, 2, 1);
    cr_assert(eq(u32, entry.count, UINT32_MAX));
    cr_assert(eq(u32, entry.bytes, UINT32_MAX));
    cr_assert(eq(u64, entry.last_seq, UINT64_C(1) + UINT32_MAX));
}

/* ---- what the lanes still say of messages that are gone ---- */

static void retry(uint64_t seq)
{
    add_retry(&h, 1, 1, (struct retry) { .seq = seq, .due_us = 1 });
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
}

Test(keeping, retries_of_deleted_messages_go)
{
    enum { LIMIT = 10 };

    keep_until_limit(&bed, 1, 0, 0, LIMIT);
    for (int i = 0; i < 3; i++) {
        uint64_t last = last_seq(&h, 1);
        publish(1, 100);
        for (uint64_t seq = last + 1; seq <= last + 100; seq += 11) {
            retry(seq);
        }
        upkeep();
        retry(1); /* late */
    }
    cr_assert(eq(str, (char *)lane_text(&h, 1, 1), " retries 300x0@1"));
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(eq(str, (char *)lane_text(&h, 1, 1), " retries 300x0@1"));
    add_ack(&h, 1, 1, 299, 300); /* the lane is written again */
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(str, (char *)lane_text(&h, 1, 1), "299-300"));
}

/* Of those below the first message that is kept only the number counts. */
Test(keeping, settled_holes_of_deleted_messages_go)
{
    keep_until_limit(&bed, 1, 0, 0, 10);
    publish(1, 100);
    for (uint64_t seq = 2; seq <= 100; seq += 2) {
        ack(1, 1, seq, seq);
    }
    add_gap(&h, 1, 1, 31, 31);
    add_gap(&h, 1, 1, 51, 51);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), 91));
    ack(1, 1, 95, 95);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    /* 45 acked and 2 lost of 1-90 */
    cr_assert(eq(str, (char *)lane_text(&h, 1, 1),
                 "44-90,92-92,94-96,98-98,100-100 gaps 89-90"));
    harness_reopen(&h);
    publish(1, 5);
    upkeep();
    ack(1, 1, 99, 99);
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
    cr_assert(eq(str, (char *)lane_text(&h, 1, 1), "46-96,98-100 gaps 94-95"));
}

/* Trims only rise, over every kind of start. */
Test(keeping, what_was_trimmed_stays_so)
{
    keep_until_limit(&bed, 1, 0, 0, 100);
    publish(1, COUNT);
    upkeep();
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(eq(u64, first_seq(&h, 1), COUNT - 99));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    cr_assert(eq(u64, first_seq(&h, 1), COUNT - 99));
    keep_until_limit(&bed, 1, 0, 0, 200);
    upkeep();
    cr_assert(eq(u64, first_seq(&h, 1), COUNT - 99));
}
