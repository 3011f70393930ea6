/* Single modules of the hot path, by themselves: frames, the table of what is
 * in flight, and the client's ends of the wire. */
#include "test/bench/meter.h"

#include "broker/delivery/inflight.h"
#include "client/window.h"
#include "proto/codec.h"
#include "proto/ws_frame.h"

#include <stdlib.h>

enum {
    FRAME_LEN = 64 * 1024,
    MESSAGES_MAX = 512,
    ROUNDS = 8,
    OPEN_COUNT = 10000
};

static const uint8_t mask[4] = { 0x37, 0xfa, 0x21, 0x3d };

/* Messages of one frame. */
struct load {
    struct codec *codec;
    struct bytes encoded;
    struct bytes frame; /* as it came; */
    struct bytes room;  /* and a copy to work on */
    struct slice messages[MESSAGES_MAX];
    size_t count;
    uint8_t *body;
    struct wire_message message;
};

static void ok(enum status status, const char *what)
{
    must(status == STATUS_OK, what);
}

static struct load *load_new(size_t body_len)
{
    struct load *l = calloc(1, sizeof *l);
    size_t len;

    must(l != NULL, "memory");
    l->codec = codec_new();
    l->body = calloc(1, body_len);
    must(l->codec != NULL && l->body != NULL, "memory");
    l->message.body = slice_of(l->body, body_len);
    len = codec_message_len(&l->message);
    l->count = FRAME_LEN / len < MESSAGES_MAX ? FRAME_LEN / len : MESSAGES_MAX;
    for (size_t i = 0; i < l->count; i++) {
        ok(codec_message_write(&l->encoded, &l->message), "message");
    }
    for (size_t i = 0; i < l->count; i++) {
        l->messages[i] = slice_of(bytes_begin(&l->encoded) + i * len, len);
    }
    return l;
}

static void load_free(struct load *l)
{
    codec_free(l->codec);
    bytes_fini(&l->encoded);
    bytes_fini(&l->frame);
    bytes_fini(&l->room);
    free(l->body);
    free(l);
}

static void empty(struct bytes *b)
{
    bytes_consume(b, bytes_len(b));
}

/* The same work again and again, each time on a fresh copy of the frame. */
static void run_on_frames(const struct step *step, struct load *l,
                          void (*work)(void *arg))
{
    for (int i = 0; i <= ROUNDS; i++) {
        if (i == 1) {
            meter_begin(); /* the first was to warm up */
        }
        empty(&l->room);
        ok(bytes_append(&l->room, bytes_begin(&l->frame), bytes_len(&l->frame)),
           "memory");
        metered(work, l);
    }
    meter_end(step, ROUNDS * l->count);
    load_free(l);
}

static struct slice unwrap(struct load *l)
{
    struct slice all = slice_of(bytes_begin(&l->room), bytes_len(&l->room));
    struct ws_header header;
    uint8_t *payload;

    ok(ws_header_read(all, &header), "frame");
    payload = bytes_begin(&l->room) + header.header_len;
    if (header.masked) {
        ws_mask(payload, header.payload_len, header.mask, 0);
    }
    return slice_of(payload, header.payload_len);
}

/* ---- what the broker reads ---- */

static void decode_publish(void *arg)
{
    struct load *l = arg;
    struct slice payload = unwrap(l);
    struct wire_request request;
    struct wire_message parts;
    struct refusal refusal;

    ok(codec_request_read(l->codec, payload, &request, &refusal), "request");
    for (size_t i = 0; i < request.publish.count; i++) {
        ok(codec_message_check(request.publish.messages[i], &parts, &refusal),
           "message");
    }
}

static void run_decode_publish(const struct step *step)
{
    struct load *l = load_new(step->body_len);
    const struct wire_publish publish = { .topic = slice_text("t"),
                                          .producer_seq = 1,
                                          .messages = l->messages,
                                          .count = l->count };
    size_t mark;

    ok(ws_frame_begin(&l->frame, true, &mark), "frame");
    ok(codec_publish_write(&l->frame, 1, &publish), "publish");
    ok(ws_frame_end(&l->frame, mark, WS_BINARY, mask), "frame");
    run_on_frames(step, l, decode_publish);
}

/* ---- what the client reads ---- */

static void decode_delivery(void *arg)
{
    struct load *l = arg;
    struct slice payload = unwrap(l);
    struct wire_reply reply;
    struct wire_message parts;
    struct refusal refusal;

    ok(codec_reply_read(l->codec, payload, &reply), "reply");
    for (size_t i = 0; i < reply.deliver.count; i++) {
        ok(codec_message_check(reply.deliver.deliveries[i].message, &parts,
                               &refusal),
           "message");
    }
}

static struct wire_delivery delivery_of(const struct load *l, size_t i)
{
    return (struct wire_delivery) { .seq = 1000 + i,
                                    .attempt = 1,
                                    .time_us = UINT64_C(1700000000000000),
                                    .message = l->messages[i] };
}

static void run_decode_delivery(const struct step *step)
{
    struct load *l = load_new(step->body_len);
    size_t len = 0;
    size_t mark;

    ok(ws_frame_begin(&l->frame, false, &mark), "frame");
    for (size_t i = 0; i < l->count; i++) {
        const struct wire_delivery delivery = delivery_of(l, i);

        len += codec_delivery_len(&delivery);
    }
    ok(codec_deliver_begin(&l->frame, slice_text("t"), len), "deliver");
    for (size_t i = 0; i < l->count; i++) {
        const struct wire_delivery delivery = delivery_of(l, i);

        ok(codec_delivery_write(&l->frame, &delivery), "deliver");
    }
    ok(ws_frame_end(&l->frame, mark, WS_BINARY, NULL), "frame");
    run_on_frames(step, l, decode_delivery);
}

/* ---- what the client writes ---- */

struct publisher {
    struct load *load;
    struct window window;
    struct bytes out;
};

static void put_one(struct publisher *p)
{
    const struct wire_message *message = &p->load->message;
    const struct slice topic = slice_text("t");
    struct refusal refusal;
    size_t len;

    ok(window_measure(topic, message, &len, &refusal), "measure");
    ok(window_open(&p->window, topic, 1, len, &refusal), "open");
    ok(window_put(&p->window, message, len, NULL, NULL, &refusal), "put");
    window_commit(&p->window);
}

/* Into the window, out of it into a frame, and confirmed. */
static void client_publish(void *arg)
{
    struct publisher *p = arg;
    struct load *l = p->load;
    struct wire_publish publish = { .topic = slice_text("t"),
                                    .messages = l->messages };
    struct window_run run;
    struct window_done done;
    size_t mark;

    for (size_t i = 0; i < l->count; i++) {
        put_one(p);
    }
    window_take(&p->window, 2 * FRAME_LEN, MESSAGES_MAX, l->messages, &run);
    must(run.count == l->count, "window");
    publish.producer_seq = run.number;
    publish.count = run.count;
    ok(ws_frame_begin(&p->out, true, &mark), "frame");
    ok(codec_publish_write(&p->out, run.first, &publish), "publish");
    ok(ws_frame_end(&p->out, mark, WS_BINARY, mask), "frame");
    for (size_t i = 0; i < run.count; i++) {
        must(window_complete(&p->window, run.first + i, &done), "complete");
    }
    empty(&p->out);
}

static void run_client_publish(const struct step *step)
{
    struct publisher p = { .load = load_new(step->body_len) };

    ok(window_init(&p.window, 2 * MESSAGES_MAX), "window");
    for (int i = 0; i <= ROUNDS; i++) {
        if (i == 1) {
            meter_begin();
        }
        metered(client_publish, &p);
    }
    meter_end(step, ROUNDS * p.load->count);
    window_fini(&p.window);
    bytes_fini(&p.out);
    load_free(p.load);
}

/* ---- in flight ---- */

struct table {
    struct inflight *inflight;
    struct inflight_group *part;
    struct inflight_list list;
    uint64_t now_us;
};

static void begin_all(struct table *t)
{
    for (uint64_t seq = 1; seq <= OPEN_COUNT; seq++) {
        const struct transaction one = { .group = 1,
                                         .topic = 1,
                                         .seq = seq,
                                         .holder = 7,
                                         .attempt = 1,
                                         .bytes = 128,
                                         .state = TRANSACTION_HELD,
                                         .due_us = t->now_us + 30000000 };

        ok(inflight_begin(t->part, &one, &t->list, t->now_us), "begin");
    }
}

static void begin_find_end(void *arg)
{
    struct table *t = arg;

    begin_all(t);
    for (uint64_t seq = 1; seq <= OPEN_COUNT; seq++) {
        const struct transaction *found = inflight_find(t->part, 1, seq);

        must(found != NULL, "find");
        inflight_end(t->part, found, &t->list, t->now_us);
    }
    t->now_us += 1000;
}

static void run_inflight(const struct step *step)
{
    struct table t = { .now_us = 500000000 };
    const struct inflight_config config = { .bytes = { 16 << 20 },
                                            .now_us = t.now_us };

    ok(inflight_new(&t.inflight, &config, NULL), "table");
    t.part = inflight_group_new(t.inflight, 1);
    must(t.part != NULL, "memory");
    begin_find_end(&t);
    meter_begin();
    metered(begin_find_end, &t);
    meter_end(step, OPEN_COUNT);
    inflight_group_free(t.part);
    inflight_free(t.inflight);
}

const struct step module_steps[] = {
    { "decode publish 128 B", run_decode_publish, .body_len = 128 },
    { "decode publish 1 KiB", run_decode_publish, .body_len = 1024 },
    { "decode publish 16 KiB", run_decode_publish, .body_len = 16384 },
    { "in flight: begin, find, end", run_inflight, .body_len = 128 },
    { "client: publish 128 B", run_client_publish, .body_len = 128 },
    { "client: publish 1 KiB", run_client_publish, .body_len = 1024 },
    { "client: delivery 128 B", run_decode_delivery, .body_len = 128 },
    { "client: delivery 1 KiB", run_decode_delivery, .body_len = 1024 },
};
const size_t module_step_count = COUNT_OF(module_steps);
