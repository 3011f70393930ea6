/* A message's way through a whole broker, in parts: each step runs the same
 * scene and meters one part of it. */
#include "test/bench/bed.h"
#include "test/bench/meter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FRAME_LEN = 64 * 1024, /* as the client's; see client/client.h */
    FRAME_COUNT_MAX = 512,
    FRAMES_PER_ROUND = 3,
    ROUNDS = 6,
    WARM_ROUNDS = 2,
    FEW = 50, /* messages a round, where each is much work */
    TURNS_MAX = 10000,
    GROUPS_MAX = 128
};

struct scene {
    const struct step *step;
    struct bed bed;
    struct peer producer;
    struct peer members[GROUPS_MAX];
    uint8_t *body;
    struct bytes out; /* frames of a round */
    uint64_t sent;    /* messages */
    uint64_t settled;
    unsigned frame_count;
    unsigned round_count;
};

/* Metered if it is of the step's part. */
static void run(struct scene *s, enum part part, void (*work)(void *bed))
{
    if (s->step->part == part) {
        metered(work, &s->bed);
    } else {
        work(&s->bed);
    }
}

static void turn(void *bed)
{
    bed_turn(bed);
}

static void append(void *bed)
{
    bed_append(bed);
}

static void apply(void *bed)
{
    bed_apply(bed);
}

static void checkpoint(void *bed)
{
    bed_checkpoint(bed);
}

/* ---- the scene ---- */

static unsigned frame_count(const struct step *step)
{
    size_t count = FRAME_LEN / (step->body_len + 32);

    if (step->frame_count > 0) {
        return step->frame_count;
    }
    return (unsigned)(count > FRAME_COUNT_MAX ? FRAME_COUNT_MAX : count);
}

static void open_groups(struct scene *s)
{
    for (unsigned i = 0; i < s->step->groups; i++) {
        char name[32];
        char json[128];

        snprintf(name, sizeof name, "g%u", i);
        snprintf(json, sizeof json, "{\"name\":\"%s\",\"topics\":[\"t\"]}",
                 name);
        bed_post(&s->bed, "/v1/groups", json);
        peer_open(&s->members[i], &s->bed);
        peer_attach(&s->members[i], &s->bed, name);
    }
}

static struct scene *scene_open(const struct step *step)
{
    struct scene *s = calloc(1, sizeof *s);

    must(s != NULL && step->groups <= GROUPS_MAX, "memory");
    s->step = step;
    s->frame_count = frame_count(step);
    s->round_count = s->frame_count * FRAMES_PER_ROUND;
    if (step->frame_count > 0 || step->groups > 1) {
        s->round_count = FEW;
    }
    bed_open(&s->bed);
    bed_post(&s->bed, "/v1/topics", "{\"name\":\"t\"}");
    open_groups(s);
    peer_open(&s->producer, &s->bed);
    s->body = calloc(1, step->body_len);
    must(s->body != NULL, "memory");
    return s;
}

static void scene_close(struct scene *s)
{
    peer_close(&s->producer);
    for (unsigned i = 0; i < s->step->groups; i++) {
        peer_close(&s->members[i]);
    }
    bed_close(&s->bed);
    free(s->body);
    bytes_fini(&s->out);
    free(s);
}

/* ---- a round ---- */

static void put_publish(struct scene *s, unsigned count)
{
    struct slice messages[FRAME_COUNT_MAX];
    struct bytes encoded = { 0 };
    struct bytes payload = { 0 };
    const struct wire_message message = { .body = slice_of(s->body,
                                                           s->step->body_len) };
    size_t len = codec_message_len(&message);
    struct wire_publish publish = { .topic = slice_text("t"),
                                    .producer_seq = s->sent + 1,
                                    .messages = messages,
                                    .count = count };

    for (unsigned i = 0; i < count; i++) {
        must(codec_message_write(&encoded, &message) == STATUS_OK, "message");
    }
    for (unsigned i = 0; i < count; i++) {
        messages[i] = slice_of(bytes_begin(&encoded) + i * len, len);
    }
    must(codec_publish_write(&payload, s->sent + 1, &publish) == STATUS_OK,
         "publish");
    put_frame(&s->out, slice_of(bytes_begin(&payload), bytes_len(&payload)));
    bytes_fini(&payload);
    bytes_fini(&encoded);
    s->sent += count;
}

static void put_round(struct scene *s)
{
    for (unsigned left = s->round_count; left > 0;) {
        unsigned count = left < s->frame_count ? left : s->frame_count;

        put_publish(s, count);
        left -= count;
    }
}

/* Sent and not read yet, as far as the sockets hold it. */
static void send_round(struct scene *s, struct peer *from)
{
    peer_send(from, &s->bed,
              slice_of(bytes_begin(&s->out), bytes_len(&s->out)));
    bytes_consume(&s->out, bytes_len(&s->out));
}

static void receive_all(struct scene *s)
{
    (void)peer_receive(&s->producer, NULL);
    for (unsigned i = 0; i < s->step->groups; i++) {
        (void)peer_receive(&s->members[i], NULL);
    }
}

/* Turn after turn until a counter of the worker's has come so far. */
static void turn_until(struct scene *s, enum part part,
                       const _Atomic uint64_t *counter, uint64_t goal)
{
    for (int i = 0; *counter < goal; i++) {
        must(i < TURNS_MAX, "the broker does not go on");
        run(s, part, turn);
        receive_all(s);
    }
    run(s, part, turn); /* what it made of the last of them goes out */
    receive_all(s);
}

static void log_it(struct scene *s, enum part as_append, enum part as_apply)
{
    while (bed_has_records(&s->bed)) {
        run(s, as_append, append);
        bed_tell(&s->bed);
        run(s, as_apply, apply);
    }
}

static void publish_round(struct scene *s)
{
    const struct worker_metrics *m = &s->bed.worker_metrics;

    put_round(s);
    send_round(s, &s->producer);
    turn_until(s, PART_TAKE, &m->published_messages, s->sent);
    log_it(s, PART_APPEND, PART_APPLY);
    if (s->step->groups > 0) {
        turn_until(s, PART_ANSWER, &m->delivered_messages,
                   s->sent * s->step->groups);
    }
    turn_until(s, PART_ANSWER, &m->confirmed_messages, s->sent);
}

static void put_settle(struct scene *s, uint64_t first, uint64_t last)
{
    const struct seq_range range = { first, last };
    const struct wire_settle settle = { .topic = slice_text("t"),
                                        .action = SETTLE_ACK,
                                        .ranges = &range,
                                        .count = 1 };
    struct bytes payload = { 0 };

    must(codec_settle_write(&payload, first, &settle) == STATUS_OK, "settle");
    put_frame(&s->out, slice_of(bytes_begin(&payload), bytes_len(&payload)));
    bytes_fini(&payload);
}

/* Its own group's member settles what this round brought. */
static void settle_round(struct scene *s, unsigned member)
{
    const struct worker_metrics *m = &s->bed.worker_metrics;
    uint64_t first = s->sent - s->round_count + 1;

    if (s->step->ranges) {
        put_settle(s, first, s->sent);
    }
    for (uint64_t seq = first; !s->step->ranges && seq <= s->sent; seq++) {
        put_settle(s, seq, seq);
    }
    send_round(s, &s->members[member]);
    s->settled += s->round_count;
    turn_until(s, PART_SETTLE, &m->settled_accepted, s->settled);
    log_it(s, PART_SETTLE, PART_SETTLE);
    run(s, PART_SETTLE, turn);
    run(s, PART_SETTLE, turn);
    receive_all(s);
}

static void round_of(struct scene *s)
{
    publish_round(s);
    for (unsigned i = 0; i < s->step->groups; i++) {
        settle_round(s, i);
    }
}

static void run_scene(const struct step *step)
{
    struct scene *s = scene_open(step);
    uint64_t before;

    for (int i = 0; i < WARM_ROUNDS; i++) {
        round_of(s);
    }
    bed_checkpoint(&s->bed);
    before = s->sent;
    meter_begin();
    for (int i = 0; i < ROUNDS; i++) {
        round_of(s);
    }
    run(s, PART_CHECKPOINT, checkpoint);
    meter_end(step, (s->sent - before) * (step->groups > 1 ? step->groups : 1));
    scene_close(s);
}

#define STEP(text, what, len, ...)                                             \
    {                                                                          \
        .name = (text), .run = run_scene, .part = (what), .body_len = (len),   \
        __VA_ARGS__                                                            \
    }

const struct step broker_steps[] = {
    STEP("take 128 B", PART_TAKE, 128, ),
    STEP("take 1 KiB", PART_TAKE, 1024, ),
    STEP("take 16 KiB", PART_TAKE, 16384, ),
    STEP("take 128 B, one a frame", PART_TAKE, 128, .frame_count = 1),
    STEP("append 128 B", PART_APPEND, 128, ),
    STEP("append 1 KiB", PART_APPEND, 1024, ),
    STEP("append 16 KiB", PART_APPEND, 16384, ),
    STEP("apply 128 B", PART_APPLY, 128, ),
    STEP("checkpoint 128 B", PART_CHECKPOINT, 128, ),
    STEP("confirm 128 B", PART_ANSWER, 128, ),
    STEP("confirm 128 B, one a frame", PART_ANSWER, 128, .frame_count = 1),
    STEP("deliver 128 B", PART_ANSWER, 128, .groups = 1),
    STEP("deliver 1 KiB", PART_ANSWER, 1024, .groups = 1),
    STEP("deliver 16 KiB", PART_ANSWER, 16384, .groups = 1),
    STEP("deliver 128 B to 100 groups", PART_ANSWER, 128, .groups = 100),
    STEP("deliver 1 KiB to 100 groups", PART_ANSWER, 1024, .groups = 100),
    STEP("settle one by one", PART_SETTLE, 128, .groups = 1),
    STEP("settle in ranges", PART_SETTLE, 128, .groups = 1, .ranges = true),
    STEP("checkpoint settled", PART_CHECKPOINT, 128, .groups = 1,
         .ranges = true),
};
const size_t broker_step_count = COUNT_OF(broker_steps);
