/* links: godwit_storage godwit_proto */
/* with: test/storage/upkeep.c test/storage/harness.c test/lib/tmpdir.c */

/* Dead letters are kept, and what a seek makes owed again is not taken away by
 * anything that was decided before it. */
#include "test/storage/upkeep.h"

#include "proto/check.h"
#include "proto/limits.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <limits.h>

enum { COUNT = 400, BODY_LEN = 900, TOPIC = 1, GROUP = 1, STEPS_MAX = 400 };

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

TestSuite(keeping_dead, .init = set_up, .fini = tear_down, .timeout = 120);

static void publish(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add_sized(&h, TOPIC, BODY_LEN, 'x');
        if (i % 5 == 4 || i + 1 == count) {
            cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        }
    }
    cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
}

static void bury(uint64_t seq)
{
    add_failed(
        &h, GROUP, TOPIC,
        (struct failure) {
            .seq = seq, .attempts = 3, .cause = CAUSE_NACK, .dead = true });
}

static void upkeep(void)
{
    cr_assert(eq(int, upkeep_all(&bed, NULL), STATUS_OK), "%s", h.err.text);
}

static bool is_there(uint64_t seq)
{
    return message_text(&h, TOPIC, seq)[0] == 'x';
}

/* ---- the dead ---- */

Test(keeping_dead, stay_until_somebody_discards_them)
{
    keep_until_settled(&bed, TOPIC, 0);
    owe(&bed, TOPIC, GROUP, 0);
    publish(COUNT);
    bury(10);
    bury(90);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    add_ack(&h, GROUP, TOPIC, 1, 9);
    add_ack(&h, GROUP, TOPIC, 11, 89);
    add_ack(&h, GROUP, TOPIC, 91, COUNT);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    cr_assert(eq(u64, first_seq(&h, TOPIC), 10));
    cr_assert(is_there(10) && is_there(90));
    cr_assert(not(is_there(9) || is_there(11) || is_there(89)));
    add_lane(&h, RECORD_DISCARD, GROUP, TOPIC, 1, 50);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    cr_assert(eq(u64, first_seq(&h, TOPIC), 90));
    cr_assert(is_there(90));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(is_there(90));
    add_lane(&h, RECORD_REDRIVE, GROUP, TOPIC, 90, 90);
    add_ack(&h, GROUP, TOPIC, 90, 90);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    cr_assert(gt(u64, first_seq(&h, TOPIC), 200));
}

/* What the removed segments said is in the snapshot. */
Test(keeping_dead, are_known_with_their_history_from_a_snapshot)
{
    struct store_failure failures[HISTORY_MAX];
    struct record record = { .kind = RECORD_MESSAGE,
                             .flags = RECORD_ID,
                             .topic = TOPIC,
                             .producer = 5,
                             .producer_seq = 6 };
    char path[600];
    size_t count;

    keep_until_settled(&bed, TOPIC, 0);
    owe(&bed, TOPIC, GROUP, 0);
    record.body = slice_of(h.buffer + RECORD_HEADER_LEN, 0);
    record_finish(h.buffer, &record);
    h.len = record_size(0);
    publish(20);
    bury(10);
    add_lane(&h, RECORD_FILTERED, GROUP, TOPIC, 2, 3);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    publish(COUNT);
    add_ack(&h, GROUP, TOPIC, 1, 9);
    add_ack(&h, GROUP, TOPIC, 11, COUNT);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    segment_file(&h, 1, path, sizeof path);
    cr_assert(eq(u64, file_len(path), 0));
    harness_kill(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC),
                 "1-9,11-400 filtered 2 dead 10-10"));
    cr_assert(eq(int,
                 store_view_history(h.view, GROUP, TOPIC, 10, failures,
                                    HISTORY_MAX, &count),
                 STATUS_OK));
    cr_assert(eq(sz, count, 1));
    cr_assert(eq(u32, failures[0].attempts, 3));
    record_finish(h.buffer, &record);
    h.len = record_size(0);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(eq(u8, record_flags_at(h.buffer), RECORD_ID | RECORD_DUPLICATE));
    cr_assert(eq(u64, record_seq_at(h.buffer), 1));
}

Test(keeping_dead, go_with_the_limit)
{
    keep_until_limit(&bed, TOPIC, 0, 0, 100);
    publish(COUNT);
    bury(10);
    bury(COUNT - 5);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    cr_assert(eq(u64, first_seq(&h, TOPIC), COUNT - 99));
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), " dead 395-395"));
    harness_kill(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), " dead 395-395"));
}

/* ---- seeks ---- */

Test(keeping_dead, a_seek_back_counts_more_than_where_the_group_began)
{
    keep_until_settled(&bed, TOPIC, 0);
    owe(&bed, TOPIC, GROUP, 300);
    publish(COUNT);
    add_seek(&h, GROUP, TOPIC, 50);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    cr_assert(eq(u64, first_seq(&h, TOPIC), 51));
    for (uint64_t seq = 51; seq <= COUNT; seq++) {
        cr_assert(is_there(seq), "message %" PRIu64, seq);
    }
}

Test(keeping_dead, a_seek_forward_lets_go_of_what_is_behind)
{
    keep_until_settled(&bed, TOPIC, 0);
    owe(&bed, TOPIC, GROUP, 0);
    publish(COUNT);
    bury(120);
    add_seek(&h, GROUP, TOPIC, 200);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    upkeep();
    cr_assert(eq(u64, first_seq(&h, TOPIC), 120));
    cr_assert(not(is_there(119) || is_there(121)));
    cr_assert(is_there(120) && is_there(201));
}

struct seeker {
    unsigned left; /* steps until it seeks; UINT_MAX: it has */
    uint64_t after;
    bool late; /* planted bug: what it says goes around the journal's bound */
};

/* To the beginning, and look where it went. */
static void seek_back(struct seeker *s)
{
    struct record record;
    struct record_seek seek;

    add_seek(&h, GROUP, TOPIC, 0);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(
        eq(int, record_read(slice_of(h.buffer, 512), &record), STATUS_OK));
    cr_assert(eq(int, seek_read(record.body, &seek), STATUS_OK));
    s->after = s->late ? 0 : seek.after;
}

static void maybe_seek(void *arg)
{
    struct seeker *s = arg;

    if (s->left == 0) {
        seek_back(s);
        s->left = UINT_MAX;
    } else if (s->left != UINT_MAX) {
        s->left--;
    }
}

/* How many messages a group misses that began anew when so many steps of the
 * upkeep were decided, the last one not written yet. *sought: it came to it. */
static unsigned missing_after(unsigned steps, bool late, bool *sought)
{
    struct seeker seeker = { .left = steps, .late = late };
    unsigned missing = 0;

    keep_until_settled(&bed, TOPIC, 0);
    owe(&bed, TOPIC, GROUP, 0);
    publish(COUNT);
    add_ack(&h, GROUP, TOPIC, 1, 150);
    add_ack(&h, GROUP, TOPIC, 160, COUNT);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    bed.meanwhile = maybe_seek;
    bed.meanwhile_arg = &seeker;
    upkeep();
    *sought = seeker.left == UINT_MAX;
    for (uint64_t seq = seeker.after + 1; *sought && seq <= COUNT; seq++) {
        missing += !is_there(seq);
    }
    cr_assert(le(u64, floor_seq(&h, TOPIC), COUNT));
    return missing;
}

Test(keeping_dead, nothing_decided_before_a_seek_takes_from_it)
{
    bool sought = true;
    unsigned steps = 0;

    for (; sought; steps++) {
        cr_assert(lt(uint, steps, STEPS_MAX));
        cr_assert(eq(uint, missing_after(steps, false, &sought), 0),
                  "after %u steps", steps);
        tear_down();
        set_up();
    }
    cr_assert(gt(uint, steps, 5));
}

/* A seek that went to the beginning whatever the floor is would miss some. */
Test(keeping_dead, a_seek_below_the_floor_would_be_found)
{
    bool sought = true;
    unsigned found = 0;

    for (unsigned steps = 0; sought; steps++) {
        found += missing_after(steps, true, &sought) > 0;
        tear_down();
        set_up();
    }
    cr_assert(gt(uint, found, 0));
}
