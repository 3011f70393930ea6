/* AMQP 0-9-1 with quorum queues, as RabbitMQ speaks it. A place is one queue,
 * or a fanout exchange with a queue for each group. Confirms are acks of the
 * number of the publish on its channel, from 1; "multiple" means all up to it.
 */
#include "tools/compare/load/peer.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    FRAME_METHOD = 1,
    FRAME_HEADER = 2,
    FRAME_BODY = 3,
    FRAME_HEARTBEAT = 8,
    FRAME_END = 0xce,
    FRAME_HEAD_LEN = 7,
    FRAME_MAX = 131072,
    PREFETCH = 10000,
    CHANNELS_MAX = 2047,
    CHANNEL = 1
};

/* class << 16 | method */
enum method {
    CONNECTION_START = 10 << 16 | 10,
    CONNECTION_START_OK = 10 << 16 | 11,
    CONNECTION_TUNE = 10 << 16 | 30,
    CONNECTION_TUNE_OK = 10 << 16 | 31,
    CONNECTION_OPEN = 10 << 16 | 40,
    CONNECTION_OPEN_OK = 10 << 16 | 41,
    CONNECTION_CLOSE = 10 << 16 | 50,
    CHANNEL_OPEN = 20 << 16 | 10,
    CHANNEL_OPEN_OK = 20 << 16 | 11,
    CHANNEL_CLOSE = 20 << 16 | 40,
    EXCHANGE_DECLARE = 40 << 16 | 10,
    EXCHANGE_DECLARE_OK = 40 << 16 | 11,
    EXCHANGE_DELETE = 40 << 16 | 20,
    EXCHANGE_DELETE_OK = 40 << 16 | 21,
    QUEUE_DECLARE = 50 << 16 | 10,
    QUEUE_DECLARE_OK = 50 << 16 | 11,
    QUEUE_BIND = 50 << 16 | 20,
    QUEUE_BIND_OK = 50 << 16 | 21,
    QUEUE_DELETE = 50 << 16 | 40,
    QUEUE_DELETE_OK = 50 << 16 | 41,
    BASIC_QOS = 60 << 16 | 10,
    BASIC_QOS_OK = 60 << 16 | 11,
    BASIC_CONSUME = 60 << 16 | 20,
    BASIC_CONSUME_OK = 60 << 16 | 21,
    BASIC_PUBLISH = 60 << 16 | 40,
    BASIC_DELIVER = 60 << 16 | 60,
    BASIC_ACK = 60 << 16 | 80,
    CONFIRM_SELECT = 85 << 16 | 10,
    CONFIRM_SELECT_OK = 85 << 16 | 11
};

struct own {
    uint8_t before[256]; /* the method frame of a publish */
    size_t before_len;
    uint64_t tag;  /* of the delivery that is arriving */
    uint64_t left; /* bytes of its body */
    bool arriving;
};

/* ---- big-endian fields ---- */

static size_t put_big(uint8_t *at, uint64_t value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        at[i] = (uint8_t)(value >> (8 * (len - 1 - i)));
    }
    return len;
}

static uint64_t get_big(const uint8_t *at, size_t len)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

/* A method frame that is being made. */
struct frame {
    uint8_t bytes[512];
    size_t len;
};

static void add(struct frame *f, uint64_t value, size_t len)
{
    f->len += put_big(f->bytes + f->len, value, len);
}

static void add_short(struct frame *f, const char *text) /* shortstr */
{
    size_t len = strlen(text);

    add(f, len, 1);
    memcpy(f->bytes + f->len, text, len);
    f->len += len;
}

static void add_long(struct frame *f, struct slice text) /* longstr */
{
    add(f, text.len, 4);
    memcpy(f->bytes + f->len, text.at, text.len);
    f->len += text.len;
}

static struct frame frame_of(enum method method, uint64_t channel)
{
    struct frame f = { .len = 0 };

    add(&f, FRAME_METHOD, 1);
    add(&f, channel, 2);
    add(&f, 0, 4); /* its length, when it is known */
    add(&f, method, 4);
    return f;
}

static void frame_end(struct frame *f)
{
    (void)put_big(f->bytes + 3, f->len - FRAME_HEAD_LEN, 4);
    add(f, FRAME_END, 1);
}

static void send_frame(struct peer *p, struct frame *f)
{
    frame_end(f);
    peer_put(p, f->bytes, f->len);
}

static void call(struct peer *p, struct frame *f)
{
    send_frame(p, f);
    peer_await(p, 1);
}

/* ---- set-up ---- */

static void log_in(struct peer *p)
{
    static const char who[] = "\0guest\0guest";
    struct frame f = frame_of(CONNECTION_START_OK, 0);

    add(&f, 0, 4); /* properties of the client: none */
    add_short(&f, "PLAIN");
    add_long(&f, slice_of(who, sizeof who - 1));
    add_short(&f, "en_US");
    call(p, &f);
}

static void open_channel(struct peer *p)
{
    struct frame f = frame_of(CONNECTION_TUNE_OK, 0);

    add(&f, CHANNELS_MAX, 2);
    add(&f, FRAME_MAX, 4);
    add(&f, 0, 2); /* no heartbeats */
    send_frame(p, &f);
    f = frame_of(CONNECTION_OPEN, 0);
    add_short(&f, "/");
    add(&f, 0, 2);
    call(p, &f);
    f = frame_of(CHANNEL_OPEN, CHANNEL);
    add(&f, 0, 1);
    call(p, &f);
}

static void amqp_open(struct peer *p)
{
    p->own = calloc(1, sizeof(struct own));
    if (p->own == NULL) {
        peer_fail(p, "out of memory");
        return;
    }
    peer_put(p, "AMQP\0\0\x09\x01", 8);
    peer_await(p, 1);
    log_in(p);
    open_channel(p);
}

static void queue_name(char name[64], const struct place *place, size_t index)
{
    (void)snprintf(name, 64, "%s.%zu", place->name, index);
}

static void declare_queue(struct peer *p, const char *name)
{
    static const char arguments[] = "\x0cx-queue-typeS\0\0\0\x06quorum";
    struct frame f = frame_of(QUEUE_DECLARE, CHANNEL);

    add(&f, 0, 2);
    add_short(&f, name);
    add(&f, 2, 1); /* durable */
    add_long(&f, slice_of(arguments, sizeof arguments - 1));
    call(p, &f);
}

static void bind_queue(struct peer *p, const char *name, const char *exchange)
{
    struct frame f = frame_of(QUEUE_BIND, CHANNEL);

    add(&f, 0, 2);
    add_short(&f, name);
    add_short(&f, exchange);
    add_short(&f, "");
    add(&f, 0, 1);
    add(&f, 0, 4);
    call(p, &f);
}

static void declare_exchange(struct peer *p, const char *name)
{
    struct frame f = frame_of(EXCHANGE_DECLARE, CHANNEL);

    add(&f, 0, 2);
    add_short(&f, name);
    add_short(&f, "fanout");
    add(&f, 2, 1); /* durable */
    add(&f, 0, 4);
    call(p, &f);
}

static size_t queue_count(const struct place *place)
{
    return place->group_count > 1 ? place->group_count : 1;
}

static void amqp_make(struct peer *p, const struct place *place)
{
    bool fan = place->group_count > 1;

    if (fan) {
        declare_exchange(p, place->name);
    }
    for (size_t i = 0; i < queue_count(place); i++) {
        char name[64];

        queue_name(name, place, i);
        declare_queue(p, name);
        if (fan) {
            bind_queue(p, name, place->name);
        }
    }
}

static void amqp_unmake(struct peer *p, const struct place *place)
{
    struct frame f;

    for (size_t i = 0; i < queue_count(place); i++) {
        char name[64];

        queue_name(name, place, i);
        f = frame_of(QUEUE_DELETE, CHANNEL);
        add(&f, 0, 2);
        add_short(&f, name);
        add(&f, 0, 1);
        call(p, &f);
    }
    if (place->group_count > 1) {
        f = frame_of(EXCHANGE_DELETE, CHANNEL);
        add(&f, 0, 2);
        add_short(&f, place->name);
        add(&f, 0, 1);
        call(p, &f);
    }
}

static void amqp_producer(struct peer *p, const struct place *place)
{
    struct own *own = p->own;
    struct frame f = frame_of(CONFIRM_SELECT, CHANNEL);
    char name[64];

    add(&f, 0, 1);
    call(p, &f);
    queue_name(name, place, 0);
    f = frame_of(BASIC_PUBLISH, CHANNEL);
    add(&f, 0, 2);
    add_short(&f, place->group_count > 1 ? place->name : "");
    add_short(&f, place->group_count > 1 ? "" : name);
    add(&f, 0, 1);
    frame_end(&f);
    memcpy(own->before, f.bytes, f.len);
    own->before_len = f.len;
}

static void amqp_subscribe(struct peer *p, const struct place *place,
                           size_t index)
{
    struct frame f = frame_of(BASIC_QOS, CHANNEL);
    char name[64];

    add(&f, 0, 4);
    add(&f, PREFETCH, 2);
    add(&f, 0, 1);
    call(p, &f);
    queue_name(name, place, index);
    f = frame_of(BASIC_CONSUME, CHANNEL);
    add(&f, 0, 2);
    add_short(&f, name);
    add_short(&f, "c");
    add(&f, 0, 1); /* acks are wanted */
    add(&f, 0, 4);
    call(p, &f);
}

/* ---- messages ---- */

/* Three frames: the method, the header (persistent), the body. */
static void amqp_publish(struct peer *p, uint64_t id, struct slice body)
{
    const struct own *own = p->own;
    uint8_t *at = peer_room(p, own->before_len + body.len + 64);
    uint8_t *begin = at;

    (void)id; /* the channel counts */
    if (at == NULL) {
        return;
    }
    memcpy(at, own->before, own->before_len);
    at += own->before_len;
    at += put_big(at, FRAME_HEADER, 1);
    at += put_big(at, CHANNEL, 2);
    at += put_big(at, 15, 4);
    at += put_big(at, 60 << 16, 4);
    at += put_big(at, body.len, 8);
    at += put_big(at, 0x1000, 2); /* delivery mode */
    at += put_big(at, 2, 1);
    at += put_big(at, FRAME_END, 1);
    at += put_big(at, FRAME_BODY, 1);
    at += put_big(at, CHANNEL, 2);
    at += put_big(at, body.len, 4);
    memcpy(at, body.at, body.len);
    at[body.len] = FRAME_END;
    bytes_filled(&p->out, (size_t)(at - begin) + body.len + 1);
}

static void ack(struct peer *p, uint64_t tag)
{
    static const uint8_t before[] = { FRAME_METHOD, 0, CHANNEL, 0, 0, 0,
                                      13,           0, 60,      0, 80 };
    uint8_t *at = peer_room(p, 21);

    if (at != NULL) {
        memcpy(at, before, sizeof before);
        (void)put_big(at + sizeof before, tag, 8);
        at[19] = 0;
        at[20] = FRAME_END;
        bytes_filled(&p->out, 21);
    }
}

static void on_ack(struct peer *p, struct slice rest)
{
    if (rest.len != 9) {
        peer_fail(p, "an ack of %zu bytes", rest.len);
    } else if (rest.at[8] != 0) {
        load_confirmed_up_to(p, get_big(rest.at, 8) - 1);
    } else {
        load_confirmed(p, get_big(rest.at, 8) - 1);
    }
}

static void on_deliver(struct peer *p, struct slice rest)
{
    struct own *own = p->own;
    size_t tag_at = rest.len > 0 ? 1U + rest.at[0] : 0;

    if (rest.len < tag_at + 9) {
        peer_fail(p, "a delivery cut short");
        return;
    }
    own->tag = get_big(rest.at + tag_at, 8);
    own->arriving = true;
}

static void on_close(struct peer *p, struct slice rest)
{
    size_t len = rest.len > 2 ? rest.at[2] : 0;

    peer_fail(p, "it closed: %.*s", (int)(rest.len < 3 + len ? 0 : len),
              (const char *)rest.at + 3);
}

static void on_method(struct peer *p, struct slice payload)
{
    struct slice rest = slice_of(payload.at + 4, payload.len - 4);

    switch (get_big(payload.at, 4)) {
    case BASIC_ACK:
        on_ack(p, rest);
        return;
    case BASIC_DELIVER:
        on_deliver(p, rest);
        return;
    case CONNECTION_CLOSE:
    case CHANNEL_CLOSE:
        on_close(p, rest);
        return;
    case CONNECTION_START:
    case CONNECTION_TUNE:
    case CONNECTION_OPEN_OK:
    case CHANNEL_OPEN_OK:
    case EXCHANGE_DECLARE_OK:
    case EXCHANGE_DELETE_OK:
    case QUEUE_DECLARE_OK:
    case QUEUE_BIND_OK:
    case QUEUE_DELETE_OK:
    case BASIC_QOS_OK:
    case BASIC_CONSUME_OK:
    case CONFIRM_SELECT_OK:
        p->answers++;
        return;
    default:
        peer_fail(p, "a method that was not expected: %x",
                  (unsigned)get_big(payload.at, 4));
    }
}

/* All of ours fit one body frame. */
static void on_content(struct peer *p, uint8_t kind, struct slice payload)
{
    struct own *own = p->own;

    if (kind == FRAME_HEADER && own->arriving && payload.len >= 12) {
        own->left = get_big(payload.at + 4, 8);
    } else if (kind == FRAME_BODY && own->arriving
               && payload.len == own->left) {
        own->arriving = false;
        load_delivered(p, payload);
        ack(p, own->tag);
    } else {
        peer_fail(p, "a body where none is due");
    }
}

static void amqp_parse(struct peer *p)
{
    while (!p->failed && bytes_len(&p->in) >= FRAME_HEAD_LEN + 1) {
        const uint8_t *at = bytes_begin(&p->in);
        size_t len = get_big(at + 3, 4);
        struct slice payload = slice_of(at + FRAME_HEAD_LEN, len);

        if (at[0] == 'A' || len > PEER_MESSAGE_MAX) {
            peer_fail(p, "it speaks another protocol");
            return;
        }
        if (bytes_len(&p->in) < FRAME_HEAD_LEN + len + 1) {
            return;
        }
        if (at[0] == FRAME_METHOD && len >= 4) {
            on_method(p, payload);
        } else if (at[0] != FRAME_HEARTBEAT) {
            on_content(p, at[0], payload);
        }
        bytes_consume(&p->in, FRAME_HEAD_LEN + len + 1);
    }
}

const struct driver driver_amqp = {
    .name = "amqp",
    .window_max = PEER_RING - 1,
    .open = amqp_open,
    .make = amqp_make,
    .unmake = amqp_unmake,
    .producer = amqp_producer,
    .publish = amqp_publish,
    .subscribe = amqp_subscribe,
    .parse = amqp_parse,
};
