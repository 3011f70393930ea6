/* links: godwit_storage godwit_proto */
/* with: test/storage/upkeep.c test/storage/harness.c test/lib/tmpdir.c */

/* Whole lives with retention and merge, against a simple model: what is owed to
 * somebody can be read and is what was published, acks and retries hold, no
 * number is used twice, whatever ended the life before, and with the keydir or
 * the snapshot lost in between. Also each step of one merge cut short in turn.
 * Run with GODWIT_SEED to see a failure again. */
#include "test/lib/tmpdir.h"
#include "test/storage/upkeep.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TOPICS = 4,
    GROUPS = 4,
    SEQ_MAX = 6000,
    BODY_LEN_MAX_HERE = 900,
    KEEP_COUNT = 200,
    STEPS = 3000,
    PRODUCER = 5
};
/* Topics: 1 settled, 2 until a count, 3 owed to nobody, 4 settled and old. */

struct model_lane {
    bool there;
    uint64_t after;
    bool acked[SEQ_MAX + 1];
    uint32_t retry[SEQ_MAX + 1]; /* attempts, 0 none */
    bool dead[SEQ_MAX + 1];
};

static struct model {
    uint64_t last[TOPICS + 1];
    uint64_t sent; /* producer's numbers on topic 1 */
    struct model_lane lanes[GROUPS + 1][TOPICS + 1];
    bool snapshot_spoilt;
} model;

static struct harness h;
static struct upkeep_bed bed;
static uint64_t state;
static bool soft; /* a broken promise is counted, not asserted */
static unsigned broken;

static void set_up(void)
{
    memset(&model, 0, sizeof model);
    soft = false;
    broken = 0;
    harness_init(&h);
    upkeep_bed_init(&bed, &h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    keep_until_settled(&bed, 1, 0);
    keep_until_limit(&bed, 2, 0, 0, KEEP_COUNT);
    keep_until_settled(&bed, 3, 0);
    keep_until_settled(&bed, 4, 20 * 1000 * 1000);
}

static void tear_down(void)
{
    upkeep_bed_fini(&bed);
    harness_fini(&h);
}

TestSuite(merge_life, .init = set_up, .fini = tear_down, .timeout = 280);

static void promise(bool kept, const char *what, uint64_t a, uint64_t b)
{
    if (kept) {
        return;
    }
    broken++;
    if (!soft) {
        cr_fatal("%s: %" PRIu64 " %" PRIu64, what, a, b);
    }
}

static void must(enum status status)
{
    cr_assert(eq(int, status, STATUS_OK), "%s", h.err.text);
}

/* ---- what is done ---- */

static char *body_of(uint32_t topic, uint64_t seq)
{
    static char body[BODY_LEN_MAX_HERE + 64];
    size_t len = 20 + (seq * 7919 + topic * 131) % BODY_LEN_MAX_HERE;

    memset(body, 'a' + (int)((seq + topic) % 26), len);
    body[len] = '\0';
    snprintf(body, 20, "%u/%" PRIu64, topic, seq);
    body[strlen(body)] = ' ';
    return body;
}

static void publish(uint32_t topic, unsigned count)
{
    for (unsigned i = 0; i < count && model.last[topic] < SEQ_MAX; i++) {
        uint64_t seq = ++model.last[topic];
        if (topic == 1) {
            add_sent(&h, topic, body_of(topic, seq), PRODUCER, ++model.sent);
        } else {
            add_message(&h, topic, body_of(topic, seq));
        }
    }
    must(harness_commit(&h));
}

static void settle(uint32_t group, uint32_t topic, enum record_kind how,
                   struct seq_range range)
{
    struct model_lane *lane = &model.lanes[group][topic];

    if (!lane->there || range.first > range.last) {
        return;
    }
    add_lane(&h, how, group, topic, range.first, range.last);
    must(harness_commit(&h));
    for (uint64_t seq = range.first; seq <= range.last; seq++) {
        bool dead = lane->dead[seq];
        lane->dead[seq] = false;
        if (how == RECORD_REDRIVE || (how == RECORD_DISCARD && !dead)) {
            continue;
        }
        lane->acked[seq] = true;
        lane->retry[seq] = 0;
    }
}

static void ack(uint32_t group, uint32_t topic, uint64_t first, uint64_t last)
{
    settle(group, topic, RECORD_ACK, (struct seq_range) { first, last });
}

/* Mostly in order, with some left behind for long. */
static void ack_some(uint32_t group, uint32_t topic)
{
    uint64_t last = model.last[topic];
    uint64_t len = 1 + random_next(&state) % 40;
    uint64_t first = 1;
    struct model_lane *lane = &model.lanes[group][topic];

    while (first <= last && (lane->acked[first] || first % 61 == 3)) {
        first++;
    }
    if (random_next(&state) % 8 == 0 && last > 0) {
        first = 1 + random_next(&state) % last;
        len = 1;
    }
    for (uint64_t seq = first; len-- > 0 && seq <= last; seq++) {
        if (seq % 61 != 3 || len == 0) {
            ack(group, topic, seq, seq);
        }
    }
}

static void retry(uint32_t group, uint32_t topic)
{
    struct model_lane *lane = &model.lanes[group][topic];
    uint64_t seq;

    if (!lane->there || model.last[topic] == 0) {
        return;
    }
    seq = 1 + random_next(&state) % model.last[topic];
    if (!lane->acked[seq] && seq >= first_seq(&h, topic)) {
        bool dead = random_next(&state) % 3 == 0;
        add_failed(&h, group, topic,
                   (struct failure) { .seq = seq,
                                      .attempts = lane->retry[seq] + 1,
                                      .due_us = 1000 + seq,
                                      .cause = CAUSE_NACK,
                                      .dead = dead });
        must(harness_commit(&h));
        lane->dead[seq] = dead;
        lane->retry[seq] = dead ? 0 : lane->retry[seq] + 1;
    }
}

/* It goes where the log says. */
static void seek(uint32_t group, uint32_t topic)
{
    struct model_lane *lane = &model.lanes[group][topic];
    struct record record;
    struct record_seek went;

    add_seek(&h, group, topic, random_next(&state) % (model.last[topic] + 1));
    must(harness_commit(&h));
    must(record_read(slice_of(h.buffer, HARNESS_BUFFER_LEN), &record));
    must(seek_read(record.body, &went));
    lane->after = 0;
    for (uint64_t seq = 1; seq <= SEQ_MAX; seq++) {
        lane->dead[seq] = lane->dead[seq] && seq <= went.after;
        lane->acked[seq] = seq <= went.after && !lane->dead[seq];
        lane->retry[seq] = 0;
    }
}

/* What operators do, and what happens by itself. */
static void operate(uint32_t group, uint32_t topic)
{
    static const enum record_kind kinds[] = { RECORD_DISCARD, RECORD_REDRIVE,
                                              RECORD_FILTERED, RECORD_EXPIRED };
    uint64_t last = model.last[topic];
    uint64_t first = first_seq(&h, topic);
    struct seq_range range;

    first = first == 0 ? 1 : first;
    if (!model.lanes[group][topic].there || first > last) {
        return;
    }
    if (random_next(&state) % 16 == 0) {
        seek(group, topic);
        return;
    }
    range.first = first + random_next(&state) % (last - first + 1);
    range.last = range.first + random_next(&state) % 30;
    range.last = range.last > last ? last : range.last;
    settle(group, topic, kinds[random_next(&state) % COUNT_OF(kinds)], range);
}

/* A group that is made begins at the floor. */
static void make_group(uint32_t group, uint32_t topic)
{
    struct model_lane *lane = &model.lanes[group][topic];
    uint64_t floor;

    if (lane->there) {
        return;
    }
    must(harness_checkpoint(&h));
    floor = floor_seq(&h, topic);
    lane->there = true;
    lane->after = floor == 0 ? 0 : floor - 1;
    owe(&bed, topic, group, lane->after);
}

static void some_upkeep(unsigned calls)
{
    for (unsigned i = 0; i < calls; i++) {
        bool more;
        must(upkeep_once(&bed, &more));
        if (!more) {
            h.now_us += 1100000;
            must(store_checkpoint(h.store, &h.err));
        }
    }
}

/* ---- what must be ---- */

static bool is_owed(uint32_t topic, uint64_t seq, uint64_t first)
{
    if (topic == 2) {
        return seq >= first;
    }
    if (topic == 3) {
        return true;
    }
    for (uint32_t g = 1; g <= GROUPS; g++) {
        const struct model_lane *lane = &model.lanes[g][topic];
        if (lane->there && seq > lane->after && !lane->acked[seq]) {
            return true;
        }
    }
    return false;
}

static void check_messages(void)
{
    for (uint32_t topic = 1; topic <= TOPICS; topic++) {
        uint64_t first = first_seq(&h, topic);
        for (uint64_t seq = 1; seq <= model.last[topic]; seq++) {
            const char *text = message_text(&h, topic, seq);
            if (is_owed(topic, seq, first)) {
                promise(strcmp(text, body_of(topic, seq)) == 0,
                        "a message that is owed", topic, seq);
                promise(seq >= first, "first", topic, seq);
            } else if (text[0] != '\0') {
                promise(strcmp(text, body_of(topic, seq)) == 0,
                        "a message that is there", topic, seq);
            }
        }
        promise(last_seq(&h, topic) == model.last[topic], "last seq", topic,
                last_seq(&h, topic));
    }
    if (model.last[2] > KEEP_COUNT) {
        promise(first_seq(&h, 2) <= model.last[2] - KEEP_COUNT + 1,
                "the limit keeps", first_seq(&h, 2), model.last[2]);
    }
}

static void on_lane(void *arg, const struct store_lane *lane)
{
    const struct model_lane *m = &model.lanes[lane->group][lane->topic];
    uint64_t first = first_seq(&h, lane->topic);
    size_t at = 0;

    (void)arg;
    for (uint64_t seq = first > 0 ? first : 1; seq <= model.last[lane->topic];
         seq++) {
        promise(seqset_has(lane->acked, seq) == m->acked[seq], "ack",
                lane->group * 10 + lane->topic, seq);
        promise(seqset_has(lane->dead, seq) == m->dead[seq], "dead",
                lane->group * 10 + lane->topic, seq);
        if (m->retry[seq] != 0) {
            promise(at < lane->retry_count && lane->retries[at].seq == seq
                        && lane->retries[at].attempts == m->retry[seq],
                    "retry", lane->topic, seq);
            at++;
        }
    }
    promise(at == lane->retry_count, "retries", at, lane->retry_count);
}

static void check_state(void)
{
    struct store_commit commit;

    must(store_each_lane(h.store, on_lane, NULL));
    if (model.sent > 0) {
        add_sent(&h, 1, "again", PRODUCER, model.sent);
        add_sent(&h, 1, "again", PRODUCER, 1 + model.sent / 2);
        must(harness_append(&h, &commit));
        promise(commit.record_count == 0, "stored once", commit.record_count,
                model.sent);
        if (commit.record_count > 0) {
            model.last[1] += commit.record_count; /* known to be broken */
        }
    }
    promise(h.recovery.missing_segments == 0, "missing",
            h.recovery.missing_segments, 0);
    promise(h.recovery.damaged_batches == 0 || model.snapshot_spoilt, "damage",
            h.recovery.damaged_batches, h.recovery.damaged_bytes);
}

/* ---- ends of lives ---- */

static void open_again(void)
{
    must(harness_open(&h));
    check_messages();
    check_state();
    model.snapshot_spoilt = false;
}

static void snapshot_path(char path[600])
{
    snprintf(path, 600, "%s/snapshot", h.dir);
}

static void end_life(uint64_t how)
{
    char path[600];

    snapshot_path(path);
    switch (how % 6) {
    case 0:
        harness_close(&h);
        break;
    case 1:
        harness_kill(&h);
        break;
    case 2:
        harness_close(&h);
        harness_delete_keydir(&h);
        break;
    case 3:
        harness_kill(&h);
        harness_delete_keydir(&h);
        break;
    case 4:
        harness_kill(&h);
        unlink(path);
        break;
    case 5:
        harness_kill(&h);
        if (file_len(path) > 0) {
            model.snapshot_spoilt = true;
            flip_bit(path, random_next(&state) % file_len(path),
                     (int)(random_next(&state) % 8));
        }
        break;
    }
    open_again();
    if (how % 6 == 5) { /* the scrub finds it */
        struct store_scrub scrub = { .budget = 1024 * 1024 };
        for (int i = 0; i < 1000 && !scrub.done; i++) {
            must(store_scrub(h.store, &scrub, &h.err));
        }
    }
    if (how % 6 >= 4) {
        /* A new snapshot is written at once, if there is need of one: only then
         * may the keydir be lost. */
        some_upkeep(3);
    }
}

static void live(unsigned steps, unsigned life_len)
{
    for (unsigned i = 0; i < steps; i++) {
        uint64_t dice = random_next(&state) % 100;
        uint32_t topic = 1 + (uint32_t)(random_next(&state) % TOPICS);
        uint32_t group = 1 + (uint32_t)(random_next(&state) % 2);

        if (dice < 45) {
            publish(topic, 1 + (unsigned)(random_next(&state) % 12));
        } else if (dice < 65) {
            ack_some(group, topic == 3 ? 1 : topic);
        } else if (dice < 70) {
            retry(group, 1);
        } else if (dice < 74) {
            must(harness_checkpoint(&h));
        } else if (dice == 74 && i > steps / 3) {
            make_group(3, 1);
        } else if (dice == 75 && i > steps / 2) {
            make_group(3, 4);
        } else if (dice >= 76 && dice < 79) {
            operate(group, topic == 3 ? 1 : topic);
        } else {
            h.now_us += 300000;
            some_upkeep(1 + (unsigned)(random_next(&state) % 6));
        }
        if (random_next(&state) % life_len == 0) {
            end_life(random_next(&state));
        }
    }
}

static void begin(void)
{
    make_group(1, 1);
    make_group(2, 1);
    make_group(1, 4);
    make_group(2, 4);
    make_group(1, 2);
}

static void settle_everything(void)
{
    for (uint32_t topic = 1; topic <= TOPICS; topic++) {
        for (uint32_t g = 1; g <= GROUPS; g++) {
            ack(g, topic, 1, model.last[topic]);
        }
    }
    h.now_us += 60 * 1000 * 1000;
    must(upkeep_all(&bed, NULL));
}

Test(merge_life, whole_lives_keep_their_promises)
{
    uint64_t bytes;

    state = random_seed();
    printf("GODWIT_SEED=%" PRIu64 "\n", state);
    begin();
    live(STEPS, 60);
    end_life(3);
    settle_everything();
    printf("%" PRIu64 " messages, %" PRIu64 " segments at the end\n",
           model.last[1] + model.last[2] + model.last[3] + model.last[4],
           log_files(&h, ".seg", &bytes));
    end_life(2);
}

/* The same with a bug: one moved message is written over another. */
Test(merge_life, a_lost_move_is_noticed)
{
    soft = true;
    for (uint64_t seed = 1; seed <= 5 && broken == 0; seed++) {
        tear_down();
        set_up();
        soft = true;
        state = seed;
        begin();
        bed.lose_moved = true;
        live(400, 50);
        end_life(1);
    }
    cr_assert(gt(u32, broken, 0));
}

/* ---- each step cut short ---- */

static void build_one_merge(void)
{
    for (int i = 0; i < 60; i++) {
        publish(1, 10);
        publish(4, 4);
    }
    for (uint64_t seq = 1; seq <= model.last[1]; seq++) {
        if (seq % 60 != 7) {
            ack(1, 1, seq, seq);
            ack(2, 1, seq, seq);
        }
    }
    ack(1, 4, 1, model.last[4] / 2);
    ack(2, 4, 1, model.last[4] / 2);
    h.now_us += 30 * 1000 * 1000;
    must(harness_checkpoint(&h));
}

static void back_to(const char *saved)
{
    char next[512];

    harness_close(&h);
    tmpdir_make(next, sizeof next);
    tmpdir_copy(saved, next);
    tmpdir_remove(h.dir);
    cr_assert(eq(int, rename(next, h.dir), 0));
    must(harness_open(&h));
}

static unsigned cut_everywhere(uint64_t how)
{
    char saved[512];
    unsigned calls = 0;
    bool working = true;

    state = 1;
    begin();
    build_one_merge();
    tmpdir_make(saved, sizeof saved);
    harness_kill(&h);
    tmpdir_copy(h.dir, saved);
    must(harness_open(&h));
    for (; working && broken == 0; calls++) {
        unsigned idle = 0;
        back_to(saved);
        for (unsigned i = 0; i < calls; i++) {
            bool more;
            must(upkeep_once(&bed, &more));
            idle = more ? 0 : idle + 1;
            h.now_us += more ? 0 : 1100000;
        }
        working = idle < 4;
        end_life(how);
        must(upkeep_all(&bed, NULL));
        check_messages();
        end_life(3);
    }
    tmpdir_remove(saved);
    printf("cut after each of %u steps\n", calls);
    return calls;
}

Test(merge_life, any_step_may_be_the_last_before_a_kill)
{
    cr_assert(gt(u32, cut_everywhere(1), 10));
}

Test(merge_life, any_step_may_be_the_last_before_the_keydir_is_lost)
{
    cr_assert(gt(u32, cut_everywhere(3), 10));
}

Test(merge_life, any_step_may_be_the_last_before_the_snapshot_is_lost)
{
    cr_assert(gt(u32, cut_everywhere(4), 10));
}

Test(merge_life, any_step_may_be_the_last_before_the_snapshot_is_damaged)
{
    cr_assert(gt(u32, cut_everywhere(5), 10));
}
