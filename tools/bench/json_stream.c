#include "tools/bench/json_stream.h"

#include "client/auth.h"
#include "client/link.h"
#include "proto/name.h"
#include "proto/wire.h"
#include "tools/godwit/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FRAME_LEN = 64 * 1024, /* a frame is sent when it has become so long */
    UNSENT_LEN_MAX = 4 * 1024 * 1024,
    RECEIVES_MAX = 16, /* of a step */
    RANGES_MAX = 256,  /* of one settle */
    CREDIT_DEFAULT = 1000,
    CREDIT_BYTES_DEFAULT = 16 * 1024 * 1024
};

/* A publish that waits for its answer. */
struct slot {
    godwit_confirm_fn done;
    void *arg;
};

/* What is to be said of one topic's deliveries. */
struct verdicts {
    struct seq_range ranges[RANGES_MAX];
    size_t count;
};

/*   CONNECTING --hello--> GREETING --welcome--> OPEN --> ENDED */
enum stream_state { CONNECTING, GREETING, OPEN, ENDED };

struct json_stream {
    enum stream_state state;
    struct godwit_options options;
    struct url url;
    struct tls_context *trust;
    struct link link;
    uint64_t next_id; /* of a request; publishes have one for each message */
    /* publishes: ids tail..next_id-1, in a ring of `window` */
    struct slot *slots;
    uint64_t tail;
    /* the frame that is being written; its topic */
    bool framing;
    size_t mark;
    char topic[NAME_LEN_MAX + 1];
    uint64_t framed; /* messages in it */
    /* a subscriber's */
    bool subscribed;
    char group[NAME_LEN_MAX + 1];
    struct godwit_subscription subscription;
    struct verdicts acks;
    struct verdicts nacks;
};

static void end(struct json_stream *s, enum status why, const char *text)
{
    if (s->state != ENDED) {
        s->state = ENDED;
        link_close(&s->link);
        s->framing = false;
        s->options.on_state(s->options.state_arg, GODWIT_ENDED,
                            (enum godwit_status)why, text);
    }
}

enum godwit_status json_stream_open(struct json_stream **out,
                                    const struct godwit_options *options,
                                    const char **problem)
{
    struct json_stream *s = calloc(1, sizeof *s);
    struct error err = { 0 };

    if (s == NULL) {
        return GODWIT_NO_MEMORY;
    }
    s->options = *options;
    s->next_id = 1;
    s->slots = calloc(options->window + 1, sizeof *s->slots);
    if (s->slots == NULL
        || url_read(&s->url, options->url, problem) != STATUS_OK
        || !name_valid(slice_text(options->app))) {
        json_stream_close(s);
        return GODWIT_INVALID;
    }
    s->trust = s->url.tls ? tls_context_new(options->ca_file) : NULL;
    if ((s->url.tls && s->trust == NULL)
        || link_init(&s->link, &s->url, s->trust) != STATUS_OK) {
        *problem = "the trusted certificates cannot be read";
        json_stream_close(s);
        return GODWIT_INVALID;
    }
    s->link.text = true;
    *out = s;
    if (link_start(&s->link, &err) != STATUS_OK) {
        end(s, STATUS_IO, err.text);
    }
    return GODWIT_OK;
}

void json_stream_close(struct json_stream *s)
{
    if (s == NULL) {
        return;
    }
    if (s->link.transport.url != NULL) {
        link_goodbye(&s->link);
        link_fini(&s->link);
    }
    tls_context_free(s->trust);
    free(s->slots);
    free(s);
}

/* ---- writing ---- */

static void put(struct json_stream *s, const char *text, size_t len)
{
    if (bytes_append(&s->link.out, text, len) != STATUS_OK) {
        end(s, STATUS_NOMEM, "send buffer: out of memory");
    }
}

static bool frame_begin(struct json_stream *s)
{
    if (link_frame_begin(&s->link, &s->mark) != STATUS_OK) {
        end(s, STATUS_NOMEM, "send buffer: out of memory");
        return false;
    }
    s->framing = true;
    return true;
}

static void frame_end(struct json_stream *s)
{
    s->framing = false;
    if (s->state != ENDED && link_frame_end(&s->link, s->mark) != STATUS_OK) {
        end(s, STATUS_NOMEM, "send buffer: out of memory");
    }
}

/* A request of its own frame. */
static void put_request(struct json_stream *s, const char *text, size_t len)
{
    if (frame_begin(s)) {
        put(s, text, len);
        frame_end(s);
    }
}

static void put_hello(struct json_stream *s)
{
    struct auth auth = { s->options.app, s->options.secret, true };
    struct auth_proof proof;
    char signature[2 * HMAC_LEN + 1];
    char text[512 + NAME_LEN_MAX];
    int len;

    if (auth_prove(&auth, &proof) != STATUS_OK) {
        end(s, STATUS_IO, "the login cannot be signed");
        return;
    }
    hex(signature, slice_of(proof.signature, sizeof proof.signature));
    len = snprintf(text, sizeof text,
                   "{\"type\":\"hello\",\"id\":\"%" PRIu64
                   "\",\"app\":\"%s\",\"timestamp_ms\":\"%" PRIu64
                   "\",\"nonce\":\"%s\",\"signature\":\"%s\",\"client\":"
                   "\"godwit bench\"}",
                   s->next_id++, s->options.app, proof.timestamp_ms,
                   proof.nonce, signature);
    CHECK(len > 0 && (size_t)len < sizeof text);
    put_request(s, text, (size_t)len);
    s->state = GREETING;
}

static void put_attach(struct json_stream *s)
{
    const struct godwit_subscription *sub = &s->subscription;
    char text[256 + NAME_LEN_MAX];
    int len = snprintf(
        text, sizeof text,
        "{\"type\":\"attach\",\"id\":\"%" PRIu64
        "\",\"group\":\"%s\",\"credit_messages\":%u,\"credit_bytes\":%u}",
        s->next_id++, s->group,
        sub->credit_messages != 0 ? sub->credit_messages : CREDIT_DEFAULT,
        sub->credit_bytes != 0 ? sub->credit_bytes : CREDIT_BYTES_DEFAULT);

    CHECK(len > 0 && (size_t)len < sizeof text);
    put_request(s, text, (size_t)len);
}

static void end_publish(struct json_stream *s)
{
    if (s->framing) {
        put(s, "]}", 2);
        frame_end(s);
    }
}

static void begin_publish(struct json_stream *s, const char *topic)
{
    char text[128 + NAME_LEN_MAX];
    int len = snprintf(text, sizeof text,
                       "{\"type\":\"publish\",\"id\":\"%" PRIu64
                       "\",\"topic\":\"%s\",\"messages\":[",
                       s->next_id, topic);

    CHECK(len > 0 && (size_t)len < sizeof text);
    if (frame_begin(s)) {
        put(s, text, (size_t)len);
        snprintf(s->topic, sizeof s->topic, "%s", topic);
        s->framed = 0;
    }
}

enum godwit_status json_stream_publish(struct json_stream *s, const char *topic,
                                       const struct godwit_message *message,
                                       godwit_confirm_fn done, void *arg)
{
    static const char before[] = ",{\"body\":\"";

    if (s->state != OPEN || bytes_len(&s->link.out) > UNSENT_LEN_MAX
        || s->next_id - s->tail >= s->options.window) {
        return GODWIT_AGAIN;
    }
    if (s->framing
        && (bytes_len(&s->link.out) - s->mark > FRAME_LEN
            || s->framed == PUBLISH_COUNT_MAX
            || strcmp(s->topic, topic) != 0)) {
        end_publish(s);
    }
    if (!s->framing) {
        begin_publish(s, topic);
    }
    put(s, before + (s->framed == 0), sizeof before - 1 - (s->framed == 0));
    put(s, message->body, message->body_len);
    put(s, "\"}", 2);
    if (s->state == ENDED) {
        return GODWIT_AGAIN;
    }
    s->framed++;
    s->slots[s->next_id++ % s->options.window] = (struct slot) { done, arg };
    return GODWIT_OK;
}

void json_stream_subscribe(struct json_stream *s,
                           const struct godwit_subscription *subscription)
{
    s->subscription = *subscription;
    snprintf(s->group, sizeof s->group, "%s", subscription->group);
    s->subscribed = true;
    if (s->state == OPEN) {
        put_attach(s);
    }
}

/* ---- settling ---- */

static void put_settle(struct json_stream *s, struct verdicts *v,
                       const char *action, const char *topic)
{
    struct json_writer w = { 0 };
    const char *text;

    if (v->count == 0) {
        return;
    }
    json_begin(&w, NULL, '{');
    json_put_text(&w, "type", slice_text("settle"));
    json_put_number(&w, "id", s->next_id++);
    json_put_text(&w, "topic", slice_text(topic));
    json_put_text(&w, "action", slice_text(action));
    json_begin(&w, "ranges", '[');
    for (size_t i = 0; i < v->count; i++) {
        json_begin(&w, NULL, '[');
        json_put_number(&w, NULL, v->ranges[i].first);
        json_put_number(&w, NULL, v->ranges[i].last);
        json_end(&w, ']');
    }
    json_end(&w, ']');
    json_end(&w, '}');
    v->count = 0;
    text = json_done(&w);
    if (text != NULL) {
        put_request(s, text, strlen(text));
    } else {
        end(s, STATUS_NOMEM, "out of memory");
    }
    json_writer_fini(&w);
}

static void add_verdict(struct json_stream *s, struct verdicts *v,
                        const char *action, const char *topic, uint64_t seq)
{
    if (v->count > 0 && v->ranges[v->count - 1].last + 1 == seq) {
        v->ranges[v->count - 1].last = seq;
        return;
    }
    if (v->count == RANGES_MAX) {
        put_settle(s, v, action, topic);
    }
    v->ranges[v->count++] = (struct seq_range) { seq, seq };
}

/* ---- reading ---- */

static void answered(struct json_stream *s, uint64_t id, uint64_t count,
                     const struct godwit_confirm *confirm)
{
    for (; count > 0 && id >= s->tail && id < s->next_id; id++, count--) {
        struct slot *slot = &s->slots[id % s->options.window];
        godwit_confirm_fn done = slot->done;

        slot->done = NULL;
        if (done != NULL) {
            done(slot->arg, confirm);
        }
        while (s->tail < s->next_id
               && s->slots[s->tail % s->options.window].done == NULL) {
            s->tail++;
        }
    }
}

static void on_confirm(struct json_stream *s, const struct json *reply)
{
    const struct godwit_confirm confirm = { .status = GODWIT_OK, .text = "" };

    answered(s, json_u64(reply, "id"), json_u64(reply, "count"), &confirm);
}

static void on_refused(struct json_stream *s, const struct json *reply)
{
    const char *word = json_text(json_get(reply, "status"), "");
    const char *text = json_text(json_get(reply, "text"), word);
    enum status status = status_from_word(word, strlen(word), STATUS_INTERNAL);
    const struct godwit_confirm confirm = { .status =
                                                (enum godwit_status)status,
                                            .text = text };

    if (s->state == OPEN && !s->subscribed) {
        answered(s, json_u64(reply, "id"),
                 json_number(json_get(reply, "count"), 1), &confirm);
    } else {
        end(s, status, text);
    }
}

static void on_deliver(struct json_stream *s, const struct json *reply)
{
    const char *topic = json_text(json_get(reply, "topic"), "");
    const struct json *list = json_get(reply, "deliveries");
    size_t count = json_count(list);

    for (size_t i = 0; i < count; i++) {
        const struct json *item = json_at(list, i);
        const char *body = json_text(json_get(item, "body"), "");
        struct godwit_delivery delivery = {
            .topic = topic,
            .seq = json_u64(item, "seq"),
            .attempt = (uint32_t)json_u64(item, "attempt"),
            .body = body,
            .body_len = strlen(body),
        };

        if (s->subscription.handler(s->subscription.arg, &delivery)
            == GODWIT_ACK) {
            add_verdict(s, &s->acks, "ack", topic, delivery.seq);
        } else {
            add_verdict(s, &s->nacks, "nack", topic, delivery.seq);
        }
    }
    put_settle(s, &s->acks, "ack", topic);
    put_settle(s, &s->nacks, "nack", topic);
}

static void on_settled(struct json_stream *s, const struct json *reply)
{
    const char *topic = json_text(json_get(reply, "topic"), "");
    const struct json *ranges = json_get(reply, "ranges");
    size_t count = json_count(ranges);

    for (size_t i = 0; i < count; i++) {
        const struct json *range = json_at(ranges, i);

        s->subscription.on_settled(
            s->subscription.arg, topic, json_u64(range, "first"),
            json_u64(range, "last"), json_text(json_get(range, "outcome"), ""),
            GODWIT_OK);
    }
}

static void on_welcome(struct json_stream *s)
{
    s->state = OPEN;
    s->tail = s->next_id;
    if (s->subscribed) {
        put_attach(s);
    }
    s->options.on_state(s->options.state_arg, GODWIT_CONNECTED, GODWIT_OK, "");
}

static void take(struct json_stream *s, struct slice payload)
{
    struct json *reply = NULL;
    struct error err = { 0 };
    const char *type;

    if (json_parse(payload, &reply, &err) != STATUS_OK) {
        end(s, STATUS_IO, err.text);
        return;
    }
    type = json_text(json_get(reply, "type"), "");
    if (strcmp(type, "deliver") == 0) {
        on_deliver(s, reply);
    } else if (strcmp(type, "confirm") == 0) {
        on_confirm(s, reply);
    } else if (strcmp(type, "settled") == 0) {
        on_settled(s, reply);
    } else if (strcmp(type, "refused") == 0) {
        on_refused(s, reply);
    } else if (strcmp(type, "welcome") == 0) {
        on_welcome(s);
    }
    json_free(reply);
}

/* ---- driven by a loop ---- */

void json_stream_interest(struct json_stream *s, struct godwit_interest *out)
{
    struct link_interest want = link_interest(&s->link);

    *out = (struct godwit_interest) { want.fd, want.read,
                                      want.write || s->framing, -1 };
}

/* False: nothing more now, or it has ended. */
static bool receive(struct json_stream *s)
{
    struct error err = { 0 };
    struct slice payload;
    enum status status = link_receive(&s->link, &err);

    if (status == STATUS_AGAIN) {
        return false;
    }
    while (status == STATUS_OK && s->state != ENDED) {
        status = link_next(&s->link, &payload, &err);
        if (status == STATUS_OK) {
            take(s, payload);
        }
    }
    if (status != STATUS_AGAIN) {
        end(s, STATUS_IO, err.text[0] != '\0' ? err.text : "connection closed");
    }
    return s->state != ENDED;
}

static void flush(struct json_stream *s)
{
    struct error err = { 0 };

    end_publish(s);
    if (s->state != ENDED && link_flush(&s->link, &err) != STATUS_OK) {
        end(s, STATUS_IO, err.text);
    }
}

void json_stream_step(struct json_stream *s)
{
    struct error err = { 0 };

    if (s->state == ENDED) {
        return;
    }
    if (s->state == CONNECTING) {
        enum status status = link_advance(&s->link, &err);

        if (status == STATUS_AGAIN) {
            return;
        }
        if (status != STATUS_OK) {
            end(s, status, err.text);
            return;
        }
        put_hello(s);
    }
    flush(s);
    for (int i = 0; i < RECEIVES_MAX && receive(s); i++) {
    }
    flush(s);
}
