/* Redis streams: XADD, and XREADGROUP with an XACK for each message. Answers
 * come in the order of the commands. */
#include "tools/compare/load/peer.h"

#include <stdio.h>
#include <stdlib.h>

enum { READ_COUNT = 1000, ID_MAX = 48 };

/* Where in the answer to XREADGROUP the next token is:
 * *1 *2 $stream *N and N times *2 $id *2 $field $body. */
enum place_in_answer {
    OUTSIDE,
    STREAM_PAIR,
    STREAM_NAME,
    MESSAGES,
    MESSAGE_PAIR,
    MESSAGE_ID,
    FIELDS,
    FIELD_NAME,
    BODY
};

struct own {
    bool producing;
    bool reading;
    enum place_in_answer at;
    uint64_t left; /* messages of the answer */
    char id[ID_MAX];
    size_t id_len;
    char before[128]; /* of a command, up to its body or id */
    size_t before_len;
    char read[256]; /* the next XREADGROUP */
    size_t read_len;
};

static void redis_open(struct peer *p)
{
    p->own = calloc(1, sizeof(struct own));
    if (p->own == NULL) {
        peer_fail(p, "out of memory");
    }
    peer_print(p, "PING\r\n");
    peer_await(p, 1);
}

static void redis_make(struct peer *p, const struct place *place)
{
    for (size_t i = 0; i < place->group_count; i++) {
        peer_print(p, "XGROUP CREATE %s g%zu 0 MKSTREAM\r\n", place->name, i);
    }
    peer_await(p, place->group_count);
}

static void redis_unmake(struct peer *p, const struct place *place)
{
    ((struct own *)p->own)->producing = false;
    peer_print(p, "UNLINK %s\r\n", place->name);
    peer_await(p, 1);
}

static void redis_producer(struct peer *p, const struct place *place)
{
    struct own *own = p->own;

    own->producing = true;
    own->before_len = (size_t)snprintf(
        own->before, sizeof own->before,
        "*5\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n$1\r\n*\r\n$1\r\nb\r\n$",
        strlen(place->name), place->name);
}

/* own->before, and what comes after it. */
static void put_command(struct peer *p, struct slice last)
{
    const struct own *own = p->own;
    uint8_t *at = peer_room(p, own->before_len + last.len + PEER_SIZED_MORE);

    if (at != NULL) {
        size_t len = put_slice(at, slice_of(own->before, own->before_len));

        bytes_filled(&p->out, len + put_sized(at + len, last));
    }
}

static void redis_publish(struct peer *p, uint64_t id, struct slice body)
{
    (void)id; /* answered in order */
    put_command(p, body);
}

static void redis_subscribe(struct peer *p, const struct place *place,
                            size_t index)
{
    struct own *own = p->own;

    own->reading = true;
    own->read_len = (size_t)snprintf(
        own->read, sizeof own->read,
        "XREADGROUP GROUP g%zu c COUNT %d BLOCK 0 STREAMS %s >\r\n", index,
        READ_COUNT, place->name);
    own->before_len =
        (size_t)snprintf(own->before, sizeof own->before,
                         "*4\r\n$4\r\nXACK\r\n$%zu\r\n%s\r\n$%d\r\ng%zu\r\n$",
                         strlen(place->name), place->name,
                         snprintf(NULL, 0, "g%zu", index), index);
    peer_put(p, own->read, own->read_len);
    peer_flush(p);
}

static void on_bulk(struct peer *p, struct own *own, struct slice text)
{
    if (own->producing) {
        load_confirmed(p, p->lowest);
    } else if (!own->reading) {
        p->answers++;
    } else if (own->at == STREAM_NAME || own->at == FIELD_NAME) {
        own->at++;
    } else if (own->at == MESSAGE_ID && text.len < ID_MAX) {
        memcpy(own->id, text.at, text.len);
        own->id_len = text.len;
        own->at++;
    } else if (own->at == BODY) {
        load_delivered(p, text);
        put_command(p, slice_of(own->id, own->id_len)); /* XACK */
        own->at = MESSAGE_PAIR;
        if (--own->left == 0) { /* the acks and the next read: one write */
            own->at = OUTSIDE;
            peer_put(p, own->read, own->read_len);
        }
    } else {
        peer_fail(p, "a text where none is due");
    }
}

static void on_array(struct peer *p, struct own *own, uint64_t count)
{
    static const uint64_t due[] = {
        [OUTSIDE] = 1, [STREAM_PAIR] = 2, [MESSAGE_PAIR] = 2, [FIELDS] = 2
    };

    if (own->reading && own->at == MESSAGES && count > 0) {
        own->left = count;
        own->at++;
    } else if (own->reading && count > 0 && own->at < COUNT_OF(due)
               && due[own->at] == count) {
        own->at++;
    } else {
        peer_fail(p, "a list where none is due");
    }
}

static void on_number(struct peer *p, const struct own *own, uint64_t value)
{
    if (!own->reading) {
        p->answers++;
    } else if (value == 1) {
        load_acked(p);
    } else {
        peer_fail(p, "XACK acknowledged nothing");
    }
}

/* One token; false: it is not whole. */
static bool take(struct peer *p)
{
    struct own *own = p->own;
    struct slice line;
    size_t next;
    uint64_t number;

    if (!peer_line(p, 0, &line, &next) || line.len == 0) {
        return false;
    }
    number = strtoull((const char *)line.at + 1, NULL, 10);
    switch (line.at[0]) {
    case '$':
        if (line.at[1] == '-' || bytes_len(&p->in) < next + number + 2) {
            return false; /* nil never comes: no read has a time limit */
        }
        on_bulk(p, own, slice_of(bytes_begin(&p->in) + next, number));
        next += number + 2;
        break;
    case '*':
        on_array(p, own, number);
        break;
    case ':':
        on_number(p, own, number);
        break;
    case '+':
        p->answers++;
        break;
    default:
        peer_fail(p, "%.*s", (int)line.len, (const char *)line.at);
        return false;
    }
    bytes_consume(&p->in, next);
    return true;
}

static void redis_parse(struct peer *p)
{
    while (!p->failed && bytes_len(&p->in) > 0 && take(p)) {
    }
}

const struct driver driver_redis = {
    .name = "redis",
    .window_max = PEER_RING,
    .acks_are_answered = true,
    .open = redis_open,
    .make = redis_make,
    .unmake = redis_unmake,
    .producer = redis_producer,
    .publish = redis_publish,
    .subscribe = redis_subscribe,
    .parse = redis_parse,
};
