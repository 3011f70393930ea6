/* MQTT 3.1.1 with QoS 1, as mosquitto speaks it. */
#include "tools/compare/load/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ID_COUNT = 65535, /* of packets: 1 to 65,535 */
    CONNACK = 0x20,
    PUBLISH_QOS1 = 0x32,
    PUBACK = 0x40,
    SUBACK = 0x90,
    CLEAN = 2,
    LENGTH_MAX = 4
};

struct own {
    uint8_t topic[PEER_NAME_MAX + 2];
    size_t topic_len;
};

/* A length in seven bits a byte; how many bytes. */
static size_t put_length(uint8_t *at, size_t len)
{
    size_t count = 0;

    do {
        at[count] = (uint8_t)(len % 128 | (len >= 128 ? 128U : 0U));
        len /= 128;
        count++;
    } while (len > 0);
    return count;
}

static size_t put_text(uint8_t *at, const char *text)
{
    size_t len = put_slice(at + 2, slice_text(text));

    at[0] = (uint8_t)(len >> 8);
    at[1] = (uint8_t)len;
    return len + 2;
}

static void say_hello(struct peer *p, const char *client, bool clean)
{
    uint8_t packet[128] = { 0x10, 0,   0,   4, 'M',
                            'Q',  'T', 'T', 4, clean ? CLEAN : 0,
                            0,    0 };
    size_t len = 12 + put_text(packet + 12, client);

    packet[1] = (uint8_t)(len - 2);
    peer_put(p, packet, len);
    peer_await(p, 1);
}

static void mqtt_open(struct peer *p)
{
    char client[64];

    p->own = calloc(1, sizeof(struct own));
    if (p->own == NULL) {
        peer_fail(p, "out of memory");
        return;
    }
    (void)snprintf(client, sizeof client, "load-%d-%d", (int)getpid(), p->fd);
    say_hello(p, client, true);
}

static void subscribe_to(struct peer *p, const char *topic)
{
    uint8_t packet[128] = { 0x82, 0, 0, 1 };
    size_t len = 4 + put_text(packet + 4, topic);

    packet[len++] = 1; /* QoS */
    packet[1] = (uint8_t)(len - 2);
    peer_put(p, packet, len);
    peer_await(p, 1);
}

/* Somebody who subscribed and went away: what is published then is kept. */
static void mqtt_make(struct peer *p, const struct place *place)
{
    const uint8_t bye[] = { 0xe0, 0 };
    struct peer *away =
        place->durable ? peer_connect(p->driver, p->load, p->port) : NULL;

    if (place->durable && away == NULL) {
        peer_fail(p, "out of memory");
    }
    if (away == NULL) {
        return;
    }
    say_hello(away, place->name, false);
    subscribe_to(away, place->name);
    peer_put(away, bye, sizeof bye);
    peer_flush(away);
    if (away->failed) {
        peer_fail(p, "%s", away->text);
    }
    peer_free(away);
}

static void mqtt_unmake(struct peer *p, const struct place *place)
{
    (void)p; /* nothing is kept without a subscriber */
    (void)place;
}

static void mqtt_producer(struct peer *p, const struct place *place)
{
    struct own *own = p->own;

    own->topic_len = put_text(own->topic, place->name);
}

static void mqtt_publish(struct peer *p, uint64_t id, struct slice body)
{
    const struct own *own = p->own;
    size_t rest = own->topic_len + 2 + body.len;
    uint8_t *at = peer_room(p, 1 + LENGTH_MAX + rest);
    uint8_t *begin = at;
    uint64_t number = id % ID_COUNT + 1;

    if (at == NULL) {
        return;
    }
    *at++ = PUBLISH_QOS1;
    at += put_length(at, rest);
    memcpy(at, own->topic, own->topic_len);
    at += own->topic_len;
    *at++ = (uint8_t)(number >> 8);
    *at++ = (uint8_t)number;
    memcpy(at, body.at, body.len);
    bytes_filled(&p->out, (size_t)(at - begin) + body.len);
}

static void mqtt_subscribe(struct peer *p, const struct place *place,
                           size_t index)
{
    (void)index; /* each gets everything */
    subscribe_to(p, place->name);
}

/* The message that has this packet's number: among the open ones only one. */
static void on_confirm(struct peer *p, uint64_t number)
{
    uint64_t ahead = (number - 1 + ID_COUNT - p->lowest % ID_COUNT) % ID_COUNT;

    if (number == 0) {
        peer_fail(p, "a confirm without a number");
        return;
    }
    load_confirmed(p, p->lowest + ahead);
}

static void on_message(struct peer *p, struct slice rest)
{
    size_t topic_len =
        rest.len < 2 ? 0 : (size_t)(rest.at[0] << 8 | rest.at[1]);
    size_t begin = 2 + topic_len + 2;

    if (rest.len < begin) {
        peer_fail(p, "a message cut short");
        return;
    }
    load_delivered(p, slice_of(rest.at + begin, rest.len - begin));
    peer_put(
        p,
        (const uint8_t[]) { PUBACK, 2, rest.at[begin - 2], rest.at[begin - 1] },
        4);
}

static void on_packet(struct peer *p, uint8_t kind, struct slice rest)
{
    if (kind == PUBACK && rest.len == 2) {
        on_confirm(p, (uint64_t)(rest.at[0] << 8 | rest.at[1]));
    } else if ((kind & 0xf6) == PUBLISH_QOS1) { /* DUP and RETAIN aside */
        on_message(p, rest);
    } else if ((kind == CONNACK && rest.len == 2 && rest.at[1] == 0)
               || (kind == SUBACK && rest.len == 3 && rest.at[2] == 1)) {
        p->answers++;
    } else {
        peer_fail(p, "it refused, or sent what it must not: %02x", kind);
    }
}

/* The length of a packet's head; 0: it is not whole. */
static size_t head_of(const struct peer *p, size_t *rest)
{
    const uint8_t *at = bytes_begin(&p->in);
    size_t len = bytes_len(&p->in);

    *rest = 0;
    for (size_t i = 1; i <= LENGTH_MAX && i < len; i++) {
        *rest |= (size_t)(at[i] & 127) << (7 * (i - 1));
        if (at[i] < 128) {
            return i + 1;
        }
    }
    return 0;
}

static void mqtt_parse(struct peer *p)
{
    while (!p->failed && bytes_len(&p->in) >= 2) {
        size_t rest;
        size_t head = head_of(p, &rest);
        const uint8_t *at = bytes_begin(&p->in);

        if (head == 0 || bytes_len(&p->in) < head + rest) {
            return;
        }
        on_packet(p, at[0], slice_of(at + head, rest));
        bytes_consume(&p->in, head + rest);
    }
}

const struct driver driver_mqtt = {
    .name = "mqtt",
    .window_max = ID_COUNT - 1,
    .open = mqtt_open,
    .make = mqtt_make,
    .unmake = mqtt_unmake,
    .producer = mqtt_producer,
    .publish = mqtt_publish,
    .subscribe = mqtt_subscribe,
    .parse = mqtt_parse,
};
