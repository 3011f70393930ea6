/* The connection's life, and what arrives on it. */
#include "client/client.h"

#include <stdio.h>

enum { RECEIVE_COUNT_MAX = 4, STABLE_MS = 5000, JITTER_BITS = 16 };

enum status engine_init(struct godwit *c)
{
    enum status status = link_init(&c->link, &c->url, c->trust);

    if (status != STATUS_OK) {
        return status;
    }
    c->codec = codec_new();
    if (c->codec == NULL) {
        return STATUS_NOMEM;
    }
    if (!random_bytes(&c->random, sizeof c->random)) {
        return STATUS_IO;
    }
    c->phase = PHASE_WAITING;
    c->next_id = REQUEST_ID_FIRST;
    c->ping_ms = CLIENT_PING_MS;
    c->alone_since_ms = clock_ms();
    c->deadline_ms = c->alone_since_ms;
    return STATUS_OK;
}

void engine_fini(struct godwit *c)
{
    link_fini(&c->link);
    codec_free(c->codec);
}

/* ---- states ---- */

static void move(struct godwit *c, enum phase to)
{
    static const bool may_follow[PHASE_ENDED + 1][PHASE_ENDED + 1] = {
        [PHASE_WAITING] = { [PHASE_LINKING] = true, [PHASE_WAITING] = true },
        [PHASE_LINKING] = { [PHASE_GREETING] = true, [PHASE_WAITING] = true },
        [PHASE_GREETING] = { [PHASE_RUNNING] = true, [PHASE_WAITING] = true },
        [PHASE_RUNNING] = { [PHASE_WAITING] = true },
    };

    CHECK(to == PHASE_ENDED || may_follow[c->phase][to]);
    c->phase = to;
}

static void tell_state(struct godwit *c, enum godwit_state state,
                       enum status why, const char *text)
{
    client_lock(c);
    c->state = state;
    if (state == GODWIT_ENDED) {
        c->ended_why = why;
    }
    client_unlock(c);
    if (c->options.on_state != NULL) {
        c->options.on_state(c->options.state_arg, state, public_status(why),
                            text);
    }
}

void engine_end(struct godwit *c, enum status why, const char *text)
{
    char kept[512];

    if (c->phase == PHASE_ENDED) {
        return;
    }
    (void)snprintf(kept, sizeof kept, "%s", text); /* may be in what we close */
    link_goodbye(&c->link);
    link_close(&c->link);
    move(c, PHASE_ENDED);
    c->attachment = DETACHED;
    c->corked_ms = 0;
    (void)client_note(c, why, kept);
    publish_end(c, why, kept);
    subscribe_end(c);
    tell_state(c, GODWIT_ENDED, why, kept);
}

/* Would the next try end like this one? */
static bool is_final(enum status status)
{
    return status == STATUS_UNAUTHENTICATED || status == STATUS_FORBIDDEN
           || status == STATUS_NOT_FOUND || status == STATUS_UNSUPPORTED
           || status == STATUS_INVALID || status == STATUS_TOO_LARGE;
}

static uint64_t jitter(struct godwit *c, uint64_t bound)
{
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    return (c->random >> (64 - JITTER_BITS)) * bound >> JITTER_BITS;
}

/* Half of it sure, half of it by chance, so that the clients of a broker that
 * restarts do not come back all at once. */
static uint64_t backoff_ms(struct godwit *c)
{
    uint64_t ms = c->options.retry_min_ms;

    for (uint32_t i = 0; i < c->tries && ms < c->options.retry_max_ms; i++) {
        ms *= 2;
    }
    if (ms > c->options.retry_max_ms) {
        ms = c->options.retry_max_ms;
    }
    c->tries++;
    return ms / 2 + jitter(c, ms - ms / 2 + 1);
}

void engine_fail(struct godwit *c, enum status status, const char *text)
{
    uint64_t now = clock_ms();
    char kept[512];

    if (is_final(status)) {
        engine_end(c, status, text);
        return;
    }
    (void)snprintf(kept, sizeof kept, "%s", text);
    if (c->phase == PHASE_RUNNING) {
        c->alone_since_ms = now;
        if (now - c->running_since_ms >= STABLE_MS) {
            c->tries = 0;
        }
    }
    link_close(&c->link);
    c->attachment = DETACHED;
    c->corked_ms = 0;
    window_rewind(&c->window);
    subscribe_disconnected(c);
    c->deadline_ms = now + backoff_ms(c);
    move(c, PHASE_WAITING);
    (void)client_note(c, status, kept);
    tell_state(c, GODWIT_CONNECTING, status, kept);
}

/* What breaks the rules of frames is no refusal: the next connection may be
 * better. */
static void link_failed(struct godwit *c, enum status status,
                        const struct error *err)
{
    bool rules = status == STATUS_INVALID || status == STATUS_TOO_LARGE;

    engine_fail(c, rules ? STATUS_IO : status, err->text);
}

/* ---- connect and greet ---- */

static void start(struct godwit *c)
{
    struct error err = { 0 };
    enum status status;

    c->deadline_ms = clock_ms() + c->options.connect_timeout_ms;
    status = link_start(&c->link, &err);
    move(c, PHASE_LINKING);
    if (status != STATUS_OK) {
        engine_fail(c, status, err.text);
    }
}

static enum status put_hello(struct godwit *c)
{
    struct wire_hello hello = { .app = slice_text(c->auth.app),
                                .client =
                                    slice_text("libgodwit/" GODWIT_VERSION),
                                .producer = c->producer };
    struct auth_proof proof;
    enum status status;

    if (c->auth.sign) {
        status = auth_prove(&c->auth, &proof);
        if (status != STATUS_OK) {
            return status;
        }
        hello.timestamp_ms = proof.timestamp_ms;
        hello.nonce = slice_of(proof.nonce, AUTH_NONCE_LEN);
        hello.signature = slice_of(proof.signature, sizeof proof.signature);
    } else {
        hello.secret = slice_text(c->auth.secret);
    }
    c->hello_id = c->next_id++;
    return codec_hello_write(&c->link.out, c->hello_id, &hello);
}

static void greet(struct godwit *c)
{
    size_t mark;
    enum status status = link_frame_begin(&c->link, &mark);

    if (status == STATUS_OK) {
        status = put_hello(c);
    }
    if (status == STATUS_OK) {
        status = link_frame_end(&c->link, mark);
    }
    if (status != STATUS_OK) {
        engine_fail(c, status, "hello: cannot be made");
        return;
    }
    move(c, PHASE_GREETING);
}

static void advance(struct godwit *c)
{
    struct error err = { 0 };
    enum status status = link_advance(&c->link, &err);

    if (status == STATUS_OK) {
        greet(c);
    } else if (status != STATUS_AGAIN) {
        link_failed(c, status, &err);
    }
}

static void welcomed(struct godwit *c, const struct wire_reply *reply)
{
    uint64_t frame_len = reply->welcome.frame_len_max;

    if (c->phase != PHASE_GREETING || reply->id != c->hello_id) {
        engine_fail(c, STATUS_IO, "the broker sent a welcome out of place");
        return;
    }
    c->frame_len = frame_len > 0 && frame_len < 2 * PUBLISH_FRAME_LEN
                       ? (size_t)frame_len / 2
                       : PUBLISH_FRAME_LEN;
    c->running_since_ms = c->heard_ms = clock_ms();
    c->pings = 0;
    atomic_fetch_add(&c->figures.connects, 1);
    move(c, PHASE_RUNNING);
    (void)client_note(c, STATUS_OK, "");
    tell_state(c, GODWIT_CONNECTED, STATUS_OK, "");
}

/* ---- what arrives ---- */

static void refused(struct godwit *c, const struct wire_reply *reply)
{
    const struct refusal *refusal = &reply->refused.refusal;
    const char *words =
        refusal->text[0] != '\0' ? refusal->text : status_text(refusal->status);
    const char *what = "a request";
    char text[512];

    if (reply->id > 0 && reply->id < REQUEST_ID_FIRST) {
        if (!publish_refused(c, reply->id, reply->refused.count, refusal)) {
            engine_fail(c, STATUS_IO, "the broker refused what was not sent");
        }
        return;
    }
    if (subscribe_refused(c, reply->id, refusal)) {
        return;
    }
    if (reply->id == c->hello_id) {
        what = "hello";
    } else if (c->attachment == ATTACHING && reply->id == c->attach_id) {
        what = "attach";
    }
    (void)snprintf(text, sizeof text, "%s refused: %s", what, words);
    engine_fail(c, refusal->status == STATUS_OK ? STATUS_IO : refusal->status,
                text);
}

static void dispatch_running(struct godwit *c, const struct wire_reply *reply)
{
    switch (reply->kind) {
    case REPLY_CONFIRM:
        if (!publish_confirmed(c, &reply->confirm)) {
            engine_fail(c, STATUS_IO, "the broker confirmed what was not sent");
        }
        break;
    case REPLY_ATTACHED:
        subscribe_attached(c, reply);
        break;
    case REPLY_DETACHED:
        subscribe_detached(c, reply);
        break;
    case REPLY_DELIVER:
        subscribe_delivered(c, reply);
        break;
    case REPLY_SETTLED:
        subscribe_settled(c, reply);
        break;
    case REPLY_GAP:
        subscribe_gap(c, reply);
        break;
    case REPLY_NOTICE:
        subscribe_notice(c, reply);
        break;
    case REPLY_PONG:
        break;
    case REPLY_WELCOME:
    case REPLY_REFUSED:
        CHECK(false);
    }
}

static void dispatch(struct godwit *c, struct slice payload)
{
    struct wire_reply reply;
    enum status status = codec_reply_read(c->codec, payload, &reply);

    if (status == STATUS_UNSUPPORTED) {
        return; /* of a newer broker's kind: not for us */
    }
    if (status == STATUS_NOMEM) {
        engine_fail(c, status, "a reply: out of memory");
    } else if (status != STATUS_OK) {
        engine_fail(c, STATUS_IO, "the broker sent a malformed reply");
    } else if (reply.kind == REPLY_WELCOME) {
        welcomed(c, &reply);
    } else if (reply.kind == REPLY_REFUSED) {
        refused(c, &reply);
    } else if (c->phase == PHASE_RUNNING) {
        dispatch_running(c, &reply);
    } else {
        engine_fail(c, STATUS_IO, "the broker sent a reply before its welcome");
    }
}

static bool is_linked(const struct godwit *c)
{
    return c->phase == PHASE_GREETING || c->phase == PHASE_RUNNING;
}

/* All whole messages that are there. */
static void take_replies(struct godwit *c)
{
    struct error err = { 0 };
    struct slice payload;
    enum status status;

    while (is_linked(c)) {
        status = link_next(&c->link, &payload, &err);
        if (status == STATUS_AGAIN) {
            return;
        }
        if (status != STATUS_OK) {
            link_failed(c, status, &err);
            return;
        }
        dispatch(c, payload);
    }
}

static void receive(struct godwit *c)
{
    struct error err = { 0 };
    enum status status;

    take_replies(c); /* the first may have come with the handshake's answer */
    for (int i = 0; i < RECEIVE_COUNT_MAX && is_linked(c); i++) {
        status = link_receive(&c->link, &err);
        if (status == STATUS_AGAIN) {
            return;
        }
        if (status != STATUS_OK) {
            link_failed(c, status, &err);
            return;
        }
        c->heard_ms = clock_ms();
        c->pings = 0;
        take_replies(c);
    }
    c->more = is_linked(c);
}

/* ---- time ---- */

static void put_ping(struct godwit *c)
{
    size_t mark;

    if (link_frame_begin(&c->link, &mark) != STATUS_OK) {
        return;
    }
    if (codec_ping_write(&c->link.out, c->next_id++) != STATUS_OK
        || link_frame_end(&c->link, mark) != STATUS_OK) {
        link_frame_abort(&c->link, mark);
    }
}

static uint64_t next_ping_ms(const struct godwit *c)
{
    return c->heard_ms + (uint64_t)c->ping_ms * (c->pings + 1);
}

static void keep_alive(struct godwit *c, uint64_t now)
{
    char text[128];

    if (now < next_ping_ms(c)) {
        return;
    }
    if (c->pings == CLIENT_PING_COUNT_MAX) {
        (void)snprintf(text, sizeof text,
                       "no sign of life from the broker for %llu ms",
                       (unsigned long long)(now - c->heard_ms));
        engine_fail(c, STATUS_TIMEOUT, text);
        return;
    }
    put_ping(c);
    c->pings++;
}

static uint64_t give_up_at(const struct godwit *c)
{
    return c->options.give_up_ms == 0
               ? UINT64_MAX
               : c->alone_since_ms + c->options.give_up_ms;
}

static void give_up(struct godwit *c)
{
    char text[512];
    int len = snprintf(text, sizeof text, "no connection for %u ms",
                       c->options.give_up_ms);

    client_lock(c);
    if (c->text[0] != '\0') {
        (void)snprintf(text + len, sizeof text - (size_t)len, "; last: %.400s",
                       c->text);
    }
    client_unlock(c);
    engine_end(c, STATUS_TIMEOUT, text);
}

static void try_timed_out(struct godwit *c)
{
    char text[HOST_LEN_MAX + 128];

    (void)snprintf(text, sizeof text, "connect %s: no answer within %u ms",
                   c->url.authority, c->options.connect_timeout_ms);
    engine_fail(c, STATUS_TIMEOUT, text);
}

static void step_timers(struct godwit *c)
{
    uint64_t now = clock_ms();

    if (atomic_load(&c->stopping)) {
        if (c->phase == PHASE_RUNNING) {
            subscribe_send(c); /* the last verdicts, if the socket takes them */
        }
        engine_end(c, STATUS_CLOSED, "closed by the application");
        return;
    }
    if (c->phase == PHASE_RUNNING) {
        keep_alive(c, now);
    } else if (now >= give_up_at(c)) {
        give_up(c);
    } else if (c->phase == PHASE_WAITING && now >= c->deadline_ms) {
        start(c);
    } else if (c->phase != PHASE_WAITING && now >= c->deadline_ms) {
        try_timed_out(c);
    }
}

/* ---- the step ---- */

static void flush(struct godwit *c)
{
    struct error err = { 0 };
    enum status status;

    if (!is_linked(c)) {
        return;
    }
    status = link_flush(&c->link, &err);
    if (status != STATUS_OK) {
        link_failed(c, status, &err);
    }
}

void engine_step(struct godwit *c)
{
    c->more = false;
    if (c->phase == PHASE_ENDED) {
        return;
    }
    step_timers(c);
    if (c->phase == PHASE_LINKING) {
        advance(c);
    }
    receive(c);
    if (c->phase == PHASE_RUNNING) {
        subscribe_send(c);
    }
    if (c->phase == PHASE_RUNNING) {
        publish_send(c);
    }
    flush(c);
    publish_room(c);
    client_changed(c);
}

bool engine_pressed(struct godwit *c)
{
    if (c->phase == PHASE_ENDED) {
        return false;
    }
    return c->more || atomic_load(&c->stopping)
           || (c->phase == PHASE_RUNNING
               && (publish_due(c) || subscribe_due(c)));
}

struct link_interest engine_interest(struct godwit *c, int *timeout_ms)
{
    uint64_t now = clock_ms();
    uint64_t at = UINT64_MAX;

    switch (c->phase) {
    case PHASE_WAITING:
    case PHASE_LINKING:
    case PHASE_GREETING:
        at = c->deadline_ms < give_up_at(c) ? c->deadline_ms : give_up_at(c);
        break;
    case PHASE_RUNNING:
        at = next_ping_ms(c);
        at = publish_corked(c) && now + 1 < at ? now + 1 : at;
        break;
    case PHASE_ENDED:
        break;
    }
    if (at == UINT64_MAX) {
        *timeout_ms = -1;
    } else if (at <= now) {
        *timeout_ms = 0;
    } else {
        *timeout_ms = at - now > 60000 ? 60000 : (int)(at - now);
    }
    return link_interest(&c->link);
}
