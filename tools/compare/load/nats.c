/* NATS JetStream: a stream in a file, publishes answered over an inbox that
 * carries the message's number, push consumers with an ack for each message. */
#include "tools/compare/load/peer.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TOKENS_MAX = 6,
    ACKS_OPEN_MAX = 10000,
    SID_CONFIRM = 1,
    SID_DELIVER = 2,
    SID_ANSWER = 3
};

struct own {
    char before[128]; /* "PUB stream inbox.", the number and the size follow */
    size_t before_len;
    size_t inbox_len; /* of the subject of a confirm, before the number */
};

static void nats_open(struct peer *p)
{
    p->own = calloc(1, sizeof(struct own));
    if (p->own == NULL) {
        peer_fail(p, "out of memory");
    }
    peer_print(p, "CONNECT {\"verbose\":false,\"pedantic\":false,"
                  "\"headers\":true,\"lang\":\"c\",\"version\":\"1\","
                  "\"protocol\":1}\r\nPING\r\n");
    peer_await(p, 1);
}

/* One request of the API of JetStream and its answer. */
static void request(struct peer *p, const char *subject, const char *json)
{
    peer_print(p, "PUB $JS.API.%s answer.%d %zu\r\n%s\r\n", subject, p->fd,
               strlen(json), json);
    peer_await(p, 1);
}

static void listen_for_answers(struct peer *p)
{
    peer_print(p, "SUB answer.%d %d\r\n", p->fd, SID_ANSWER);
}

static void nats_make(struct peer *p, const struct place *place)
{
    char subject[128];
    char json[512];

    listen_for_answers(p);
    (void)snprintf(subject, sizeof subject, "STREAM.CREATE.%s", place->name);
    (void)snprintf(json, sizeof json,
                   "{\"name\":\"%s\",\"subjects\":[\"%s\"],"
                   "\"retention\":\"limits\",\"storage\":\"file\","
                   "\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,"
                   "\"num_replicas\":1,\"discard\":\"old\"}",
                   place->name, place->name);
    request(p, subject, json);
    for (size_t i = 0; i < place->group_count; i++) {
        (void)snprintf(subject, sizeof subject,
                       "CONSUMER.DURABLE.CREATE.%s.g%zu", place->name, i);
        (void)snprintf(json, sizeof json,
                       "{\"stream_name\":\"%s\",\"config\":{"
                       "\"durable_name\":\"g%zu\","
                       "\"deliver_subject\":\"deliver.%s.%zu\","
                       "\"deliver_policy\":\"all\","
                       "\"ack_policy\":\"explicit\",\"max_ack_pending\":%d,"
                       "\"replay_policy\":\"instant\"}}",
                       place->name, i, place->name, i, ACKS_OPEN_MAX);
        request(p, subject, json);
    }
}

static void nats_unmake(struct peer *p, const struct place *place)
{
    char subject[128];

    (void)snprintf(subject, sizeof subject, "STREAM.DELETE.%s", place->name);
    request(p, subject, "");
}

static void nats_producer(struct peer *p, const struct place *place)
{
    struct own *own = p->own;

    peer_print(p, "SUB confirm.%d.* %d\r\nPING\r\n", p->fd, SID_CONFIRM);
    own->before_len =
        (size_t)snprintf(own->before, sizeof own->before, "PUB %s confirm.%d.",
                         place->name, p->fd);
    own->inbox_len = (size_t)snprintf(NULL, 0, "confirm.%d.", p->fd);
    peer_await(p, 1);
}

static void nats_publish(struct peer *p, uint64_t id, struct slice body)
{
    const struct own *own = p->own;
    uint8_t *at = peer_room(p, own->before_len + body.len + 48);

    if (at != NULL) {
        size_t len = put_slice(at, slice_of(own->before, own->before_len));

        len += put_decimal(at + len, id);
        at[len++] = ' ';
        bytes_filled(&p->out, len + put_sized(at + len, body));
    }
}

static void nats_subscribe(struct peer *p, const struct place *place,
                           size_t index)
{
    peer_print(p, "SUB deliver.%s.%zu %d\r\nPING\r\n", place->name, index,
               SID_DELIVER);
    peer_await(p, 1);
}

static uint64_t decimal(struct slice text)
{
    uint64_t value = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9' || i > 18) {
            return UINT64_MAX;
        }
        value = value * 10 + (uint64_t)(text.at[i] - '0');
    }
    return text.len > 0 ? value : UINT64_MAX;
}

static bool says_error(struct slice body)
{
    static const char word[] = "\"error\"";

    return memmem(body.at, body.len, word, sizeof word - 1) != NULL;
}

static void ack(struct peer *p, struct slice reply)
{
    uint8_t *at = peer_room(p, reply.len + 32);

    if (at != NULL) {
        size_t len = put_slice(at, slice_text("PUB "));

        len += put_slice(at + len, reply);
        bytes_filled(&p->out,
                     len + put_slice(at + len, slice_text(" 4\r\n+ACK\r\n")));
    }
}

static void on_message(struct peer *p, const struct slice *tokens, size_t count,
                       struct slice body)
{
    const struct own *own = p->own;
    struct slice subject = tokens[1];

    switch (decimal(tokens[2])) {
    case SID_CONFIRM:
        if (says_error(body) || subject.len <= own->inbox_len) {
            peer_fail(p, "%.*s", (int)body.len, (const char *)body.at);
            return;
        }
        load_confirmed(p, decimal(slice_of(subject.at + own->inbox_len,
                                           subject.len - own->inbox_len)));
        return;
    case SID_DELIVER:
        load_delivered(p, body);
        if (count == 5) {
            ack(p, tokens[3]);
        }
        return;
    case SID_ANSWER:
        if (says_error(body)) {
            peer_fail(p, "%.*s", (int)body.len, (const char *)body.at);
        }
        p->answers++;
        return;
    default:
        peer_fail(p, "a message for nobody");
    }
}

static size_t split(struct slice line, struct slice tokens[TOKENS_MAX])
{
    size_t count = 0;
    size_t begin = 0;

    for (size_t i = 0; i <= line.len; i++) {
        if (i < line.len && line.at[i] != ' ') {
            continue;
        }
        if (i > begin && count < TOKENS_MAX) {
            tokens[count++] = slice_of(line.at + begin, i - begin);
        }
        begin = i + 1;
    }
    return count;
}

/* "MSG subject sid [reply] size", and the body. False: it is not whole. */
static bool take_message(struct peer *p, struct slice line, size_t *next)
{
    struct slice tokens[TOKENS_MAX];
    size_t count = split(line, tokens);
    uint64_t size = count > 0 ? decimal(tokens[count - 1]) : 0;

    if ((count != 4 && count != 5) || size > PEER_MESSAGE_MAX) {
        peer_fail(p, "%.*s", (int)line.len, (const char *)line.at);
        return false;
    }
    if (bytes_len(&p->in) < *next + size + 2) {
        return false;
    }
    on_message(p, tokens, count, slice_of(bytes_begin(&p->in) + *next, size));
    *next += size + 2;
    return true;
}

static bool begins(struct slice line, const char *word)
{
    return line.len >= strlen(word) && memcmp(line.at, word, strlen(word)) == 0;
}

static void nats_parse(struct peer *p)
{
    struct slice line;
    size_t next;

    while (!p->failed && bytes_len(&p->in) > 0
           && peer_line(p, 0, &line, &next)) {
        if (begins(line, "MSG ")) {
            if (!take_message(p, line, &next)) {
                return;
            }
        } else if (begins(line, "PONG")) {
            p->answers++;
        } else if (begins(line, "PING")) {
            peer_print(p, "PONG\r\n");
        } else if (!begins(line, "INFO ") && !begins(line, "+OK")) {
            peer_fail(p, "%.*s", (int)line.len, (const char *)line.at);
            return;
        }
        bytes_consume(&p->in, next);
    }
}

const struct driver driver_nats = {
    .name = "nats",
    .window_max = PEER_RING - 1,
    .open = nats_open,
    .make = nats_make,
    .unmake = nats_unmake,
    .producer = nats_producer,
    .publish = nats_publish,
    .subscribe = nats_subscribe,
    .parse = nats_parse,
};
