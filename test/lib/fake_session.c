#include "test/lib/fake_session.h"

#include "broker/session/look.h"
#include "broker/session/operate.h"
#include "proto/codec.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void note(struct session *session, const char *format, ...)
    PRINTF_LIKE(2, 3);

static void note(struct session *session, const char *format, ...)
{
    size_t len = strlen(session->calls);
    va_list args;

    va_start(args, format);
    vsnprintf(session->calls + len, sizeof session->calls - len, format, args);
    va_end(args);
    session->call_count++;
}

static void react(struct session *session)
{
    if (session->on_call != NULL) {
        session->on_call(session);
    }
}

struct session *fake_session_new(const struct door *door)
{
    struct session *session = calloc(1, sizeof *session);

    session->door = door;
    session->catalog = catalog_new();
    session->codec = codec_new();
    session->authorized = true;
    session->arrives = true;
    session->known_group = true;
    fake_session_add(session, CATALOG_APP, "admin", 0, NULL, true);
    session->app = catalog_app(session->catalog, slice_text("admin"));
    return session;
}

void fake_session_free(struct session *session)
{
    if (session->door->closed != NULL) {
        session->door->closed(session);
    }
    catalog_free(session->catalog);
    codec_free(session->codec);
    bytes_fini(&session->out);
    bytes_fini(&session->body);
    free(session);
}

static uint64_t no_seq(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return 0;
}

void fake_session_add(struct session *session, enum catalog_class class,
                      const char *name, uint32_t owner, const char *patterns,
                      bool admin)
{
    static const uint8_t random[24] = { 1 };
    struct catalog_context context = {
        .now_us = 5, .random = random, .last_seq = no_seq, .floor_seq = no_seq
    };
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = class,
                                       .app = owner,
                                       .admin = admin,
                                       .from = FROM_EARLIEST };
    char secret[SECRET_LEN_MAX + 1];
    struct refusal refusal;
    struct bytes body = { 0 };
    struct record_fact fact;

    snprintf(request.name, sizeof request.name, "%s", name);
    if (patterns != NULL) {
        struct patterns *to =
            class == CATALOG_APP ? &request.publish : &request.topics;
        CHECK(patterns_add(to, slice_text(patterns), &refusal) == STATUS_OK);
    }
    CHECK(catalog_decide(session->catalog, &request, &context, &body, secret,
                         &refusal)
          == STATUS_OK);
    CHECK(fact_read(slice_of(bytes_begin(&body), bytes_len(&body)), &fact)
          == STATUS_OK);
    CHECK(catalog_apply(session->catalog, &fact) == STATUS_OK);
    bytes_fini(&body);
    catalog_request_fini(&request);
}

char *fake_session_frame(struct session *session)
{
    static char text[4 * 1024 * 1024];
    struct ws_header header;

    if (bytes_len(&session->out) == 0) {
        return NULL;
    }
    CHECK(ws_header_read(
              slice_of(bytes_begin(&session->out), bytes_len(&session->out)),
              &header)
          == STATUS_OK);
    CHECK(header.opcode == WS_TEXT && header.fin && !header.masked);
    CHECK(header.payload_len < sizeof text);
    bytes_consume(&session->out, header.header_len);
    memcpy(text, bytes_begin(&session->out), header.payload_len);
    text[header.payload_len] = '\0';
    bytes_consume(&session->out, header.payload_len);
    return text;
}

/* ---- conn.h: the session is its own connection ---- */

struct bytes *conn_output(struct conn *conn)
{
    return &((struct session *)conn)->out;
}

void conn_respond(struct conn *conn, int code, const char *content_type,
                  const char *extra, struct slice body)
{
    struct session *session = (struct session *)conn;

    session->code = code;
    session->answer_count++;
    snprintf(session->type, sizeof session->type, "%s",
             content_type == NULL ? "" : content_type);
    snprintf(session->extra, sizeof session->extra, "%s",
             extra == NULL ? "" : extra);
    bytes_fini(&session->body);
    CHECK(bytes_append(&session->body, body.at, body.len) == STATUS_OK);
    CHECK(bytes_append(&session->body, "", 1) == STATUS_OK);
}

void conn_upgrade(struct conn *conn, const char *subprotocol)
{
    note((struct session *)conn, "upgrade %s\n", subprotocol);
}

void conn_close(struct conn *conn, unsigned ws_code, const char *reason)
{
    (void)reason;
    ((struct session *)conn)->closed = ws_code;
}

void conn_abort(struct conn *conn, const char *reason)
{
    conn_close(conn, 0, reason);
}

/* ---- session.h ---- */

struct conn *session_conn(const struct session *session)
{
    return (struct conn *)(uintptr_t)session;
}

struct codec *session_codec(const struct session *session)
{
    return session->codec;
}

void *session_door_state(const struct session *session)
{
    return session->door_state;
}

void session_set_door_state(struct session *session, void *state)
{
    session->door_state = state;
}

const struct app *session_app(const struct session *session)
{
    return session->app;
}

const struct catalog *session_catalog(const struct session *session)
{
    return session->catalog;
}

enum status session_authorize(struct session *session,
                              struct slice authorization,
                              struct refusal *refusal)
{
    if (session->refusal.status != STATUS_OK) {
        *refusal = session->refusal;
        return refusal->status;
    }
    if (!session->authorized || authorization.len == 0) {
        return refuse(refusal, STATUS_UNAUTHENTICATED, "credentials", "no");
    }
    return STATUS_OK;
}

void session_set_door(struct session *session, const struct door *door)
{
    if (session->door->closed != NULL) {
        session->door->closed(session);
    }
    session->door_state = NULL;
    session->door = door;
}

void session_forget_login(struct session *session)
{
    (void)session; /* session_authorize() decides anew each time here */
}

void session_hello_within(struct session *session, uint64_t ms)
{
    note(session, "hello within %" PRIu64 "\n", ms);
}

void session_hello(struct session *session, uint64_t id,
                   const struct wire_hello *h)
{
    note(session,
         "hello id=%" PRIu64 " app=%.*s secret=%.*s timestamp=%" PRIu64
         " nonce=%.*s signature=%zu client=%.*s producer=%" PRIu64 "\n",
         id, (int)h->app.len, h->app.at, (int)h->secret.len, h->secret.at,
         h->timestamp_ms, (int)h->nonce.len, h->nonce.at, h->signature.len,
         (int)h->client.len, h->client.at, h->producer);
    react(session);
}

/* What few messages have. */
static void note_options(struct session *session, const struct wire_message *m)
{
    if (m->tag.len > 0) {
        note(session, "tag=%.*s ", (int)m->tag.len, m->tag.at);
    }
    if (m->id.len > 0) {
        note(session, "id=%.*s ", (int)m->id.len, m->id.at);
    }
    if (m->delay_ms > 0) {
        note(session, "delay=%" PRIu64 " ", m->delay_ms);
    }
    if (m->deliver_at_ms > 0) {
        note(session, "at=%" PRIu64 " ", m->deliver_at_ms);
    }
    if (m->ttl_ms > 0) {
        note(session, "ttl=%" PRIu64 " ", m->ttl_ms);
    }
}

static void note_message(struct session *session, struct slice encoded)
{
    struct wire_message message;
    struct refusal refusal;
    enum status status = codec_message_check(encoded, &message, &refusal);

    if (status != STATUS_OK) {
        note(session, " (%s %s)", status_word(status), refusal.limit);
        return;
    }
    note(session, " (");
    note_options(session, &message);
    if (message.key.len > 0) {
        note(session, "%.*s:", (int)message.key.len, message.key.at);
    }
    for (size_t i = 0; i < message.header_count; i++) {
        note(session, "%.*s=%.*s ", (int)message.headers[i].name.len,
             message.headers[i].name.at, (int)message.headers[i].value.len,
             message.headers[i].value.at);
    }
    note(session, "%.*s)", (int)message.body.len, message.body.at);
}

void session_publish(struct session *session, uint64_t id,
                     const struct wire_publish *publish)
{
    note(session, "publish id=%" PRIu64 " topic=%.*s seq=%" PRIu64 " count=%zu",
         id, (int)publish->topic.len, publish->topic.at, publish->producer_seq,
         publish->count);
    note(session, publish->atomic ? " atomic" : "");
    for (size_t i = 0; i < publish->count && i < 8; i++) {
        note_message(session, publish->messages[i]);
    }
    note(session, "\n");
    react(session);
}

void session_set_producer(struct session *session, uint64_t producer)
{
    note(session, "producer %" PRIu64 "\n", producer);
}

void session_request(struct session *session,
                     const struct wire_request *request)
{
    switch (request->kind) {
    case REQUEST_HELLO:
        session_hello(session, request->id, &request->hello);
        break;
    case REQUEST_PUBLISH:
        session_publish(session, request->id, &request->publish);
        break;
    case REQUEST_ATTACH:
        session_attach(session, request->id, &request->attach);
        break;
    case REQUEST_DETACH:
        session_detach(session, request->id);
        break;
    case REQUEST_SETTLE:
        session_settle(session, request->id, &request->settle);
        break;
    case REQUEST_PING:
        session->door->pong(session, request->id);
        break;
    }
}

void session_attach(struct session *session, uint64_t id,
                    const struct wire_attach *attach)
{
    note(session,
         "attach id=%" PRIu64 " group=%.*s messages=%" PRIu64 " bytes=%" PRIu64
         "\n",
         id, (int)attach->group.len, attach->group.at, attach->credit_messages,
         attach->credit_bytes);
    react(session);
}

void session_detach(struct session *session, uint64_t id)
{
    note(session, "detach id=%" PRIu64 "\n", id);
    react(session);
}

static void note_settle(struct session *session, uint64_t id,
                        struct slice group, const struct wire_settle *settle)
{
    note(session,
         "settle id=%" PRIu64 " group=%.*s topic=%.*s action=%d delay=%" PRIu64
         " reason=%.*s lease=%" PRIu64,
         id, (int)group.len, group.at, (int)settle->topic.len, settle->topic.at,
         (int)settle->action, settle->delay_ms, (int)settle->reason.len,
         settle->reason.at, settle->lease);
    for (size_t i = 0; i < settle->count && i < 8; i++) {
        note(session, " %" PRIu64 "-%" PRIu64, settle->ranges[i].first,
             settle->ranges[i].last);
    }
    note(session, "\n");
    react(session);
}

void session_settle(struct session *session, uint64_t id,
                    const struct wire_settle *settle)
{
    note_settle(session, id, slice_text(""), settle);
}

void session_settle_in(struct session *session, uint64_t id, struct slice group,
                       const struct wire_settle *settle)
{
    note_settle(session, id, group, settle);
}

void session_go_to_group(struct session *session, uint64_t id,
                         struct slice group)
{
    note(session, "go %.*s\n", (int)group.len, group.at);
    if (session->arrives) {
        session->door->arrived(session, id);
    }
}

void session_pull(struct session *session, uint64_t id, struct slice group,
                  uint64_t count_max, uint64_t wait_ms)
{
    note(session,
         "pull id=%" PRIu64 " group=%.*s max=%" PRIu64 " wait=%" PRIu64 "\n",
         id, (int)group.len, group.at, count_max, wait_ms);
    react(session);
}

static void note_patterns(struct session *session, const char *what,
                          const struct patterns *patterns)
{
    note(session, " %s=", what);
    for (size_t i = 0; i < patterns->count; i++) {
        note(session, "%s,", patterns->at[i]);
    }
}

/* Those that are given. */
static void note_group_options(struct session *session,
                               const struct catalog_request *r)
{
    const struct group_options *o = &r->options;
    const struct {
        enum group_option option;
        const char *name;
        uint64_t value;
    } numbers[] = { { OPTION_MODE, "mode", o->mode },
                    { OPTION_PRIORITY, "priority", o->priority },
                    { OPTION_LEASE, "lease", o->lease_ms },
                    { OPTION_ATTEMPTS, "attempts", o->attempts_max },
                    { OPTION_BACKOFF, "backoff", o->backoff_count },
                    { OPTION_IN_FLIGHT, "in_flight", o->in_flight_max },
                    { OPTION_NOTICE, "notice", o->notice_ms },
                    { OPTION_PAUSED, "paused", o->paused } };

    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        if ((r->given & numbers[i].option) != 0) {
            note(session, " %s=%" PRIu64, numbers[i].name, numbers[i].value);
        }
        for (size_t j = 0; numbers[i].option == OPTION_BACKOFF
                           && (r->given & OPTION_BACKOFF) != 0
                           && j < o->backoff_count && j < BACKOFF_COUNT_MAX;
             j++) {
            note(session, ",%" PRIu32, o->backoff_ms[j]);
        }
    }
    if ((r->given & OPTION_FILTER) != 0) {
        note(session, " filter=%s", o->filter == NULL ? "-" : o->filter);
    }
}

void session_change(struct session *session, uint64_t id,
                    struct catalog_request *request)
{
    struct catalog_request taken = *request;

    *request = (struct catalog_request) { 0 };
    note(session, "change id=%" PRIu64 " op=%d class=%d app=%u name=%s", id,
         (int)taken.op, (int)taken.class, taken.app, taken.name);
    if (taken.class == CATALOG_APP && taken.op == CATALOG_CREATE) {
        note(session, " admin=%d", taken.admin);
        note_patterns(session, "publish", &taken.publish);
        note_patterns(session, "subscribe", &taken.subscribe);
    } else if (taken.class == CATALOG_TOPIC && taken.retention.keep != 0) {
        const struct retention *r = &taken.retention;

        note(session, " keep=%d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
             (int)r->keep, r->ms_min, r->ms_max, r->bytes_max, r->count_max);
    } else if (taken.class == CATALOG_GROUP && taken.op == CATALOG_CREATE) {
        note_patterns(session, "topics", &taken.topics);
        note(session, " from=%d", (int)taken.from);
        if (taken.from_at != 0) {
            note(session, " at=%" PRIu64, taken.from_at);
        }
    }
    note_group_options(session, &taken);
    note(session, "\n");
    catalog_request_fini(&taken);
    react(session);
}

bool session_group_view(struct session *session, struct slice group,
                        struct group_figures *figures, size_t *members,
                        lane_view_fn lane, void *arg)
{
    struct lane_books even = { .published = 28,
                               .acked = 4,
                               .dead = 7,
                               .expired = 5,
                               .filtered = 3,
                               .gap = 1,
                               .deleted = 3,
                               .ready = 2,
                               .delayed = 1,
                               .in_flight = 2 };
    struct lane_books odd = { .published = 1 };

    (void)group;
    if (!session->known_group) {
        return false;
    }
    *figures = (struct group_figures) { .delivered = 7 };
    *members = 3;
    lane(arg, "orders", &even);
    lane(arg, "other", &odd);
    return true;
}

bool session_held_by(struct session *session, struct slice group,
                     struct standing *out)
{
    (void)group;
    *out = session->held;
    return session->known_group;
}

uint64_t session_topic_last_seq(const struct topic *topic)
{
    return 100 + topic->id;
}

uint64_t session_topic_first_seq(const struct topic *topic)
{
    return topic->id + 10;
}

uint64_t session_topic_floor_seq(const struct topic *topic)
{
    return topic->id + 20;
}

void session_peek(struct session *session, uint64_t id, struct slice topic,
                  uint64_t seq)
{
    note(session, "peek id=%" PRIu64 " topic=%.*s seq=%" PRIu64 "\n", id,
         (int)topic.len, topic.at, seq);
    react(session);
}

static void note_text(struct session *session, const char *what,
                      struct slice text)
{
    if (text.at != NULL) {
        note(session, " %s=\"%.*s\"", what, (int)text.len, text.at);
    }
}

void session_search(struct session *session, uint64_t id, struct slice topic,
                    const struct search_order *order, uint64_t wait_ms)
{
    note(session,
         "search id=%" PRIu64 " topic=%.*s %" PRIu64 "-%" PRIu64
         " time=%" PRIu64 "-%" PRIu64 " %s=%" PRIu64,
         id, (int)topic.len, topic.at, order->from, order->to, order->since_us,
         order->until_us, order->newest ? "newest" : "max", order->count_max);
    note_text(session, "key", order->key);
    note_text(session, "tag", order->tag);
    note(session, "%s wait=%" PRIu64 "\n",
         order->filter != NULL ? " filtered" : "", wait_ms);
    filter_free(order->filter);
    react(session);
}

/* ---- operate.h ---- */

void operation_fini(struct operation *operation)
{
    seqset_fini(&operation->ranges);
    filter_free(operation->filter);
}

void session_operate(struct session *session, uint64_t id, struct slice group,
                     struct operation *o)
{
    const struct seq_range *ranges = seqset_ranges(&o->ranges);

    note(session, "operate id=%" PRIu64 " group=%.*s kind=%d topic=%.*s", id,
         (int)group.len, group.at, (int)o->kind, (int)o->topic.len,
         o->topic.len > 0 ? (const char *)o->topic.at : "");
    if (o->kind == OPERATION_SEEK) {
        note(session, " to=%d %" PRIu64, (int)o->to, o->seek);
    }
    for (size_t i = 0; i < seqset_range_count(&o->ranges); i++) {
        note(session, " %" PRIu64 "-%" PRIu64, ranges[i].first, ranges[i].last);
    }
    if (o->kind == OPERATION_REDRIVE) {
        note(session, " cause=%d rate=%" PRIu64 " cap=%" PRIu64 "%s%s",
             (int)o->cause, o->rate, o->cap,
             o->filter != NULL ? " filtered" : "", o->dry_run ? " dry" : "");
    }
    note(session, "\n");
    operation_fini(o);
    react(session);
}

enum status session_explain(struct session *session, struct slice group,
                            struct slice topic, uint64_t seq,
                            struct dispatch_explanation *out,
                            struct refusal *refusal)
{
    note(session, "explain %.*s %.*s %" PRIu64 "\n", (int)group.len, group.at,
         (int)topic.len, topic.at, seq);
    if (session->look_refusal.status != STATUS_OK) {
        *refusal = session->look_refusal;
        return refusal->status;
    }
    *out = session->explanation;
    return STATUS_OK;
}

enum status session_dead(struct session *session, struct dead_page *page,
                         struct refusal *refusal)
{
    note(session, "dead %.*s %.*s %" PRIu64 "%s room=%zu\n",
         (int)page->group.len, page->group.at, (int)page->topic.len,
         page->topic.len > 0 ? (const char *)page->topic.at : "", page->seq,
         page->one_topic ? " only" : "", page->room);
    if (session->look_refusal.status != STATUS_OK) {
        *refusal = session->look_refusal;
        return refusal->status;
    }
    page->count =
        session->dead_count < page->room ? session->dead_count : page->room;
    page->next = NULL;
    for (size_t i = 0; i < page->count; i++) {
        page->dead[i] = session->dead[i];
    }
    if (page->count < session->dead_count) {
        page->next = session->dead[page->count].topic;
        page->next_seq = session->dead[page->count].seq;
    }
    return STATUS_OK;
}

bool session_redrive_state(struct session *session, struct slice group,
                           struct redrive_state *out)
{
    note(session, "redrive state %.*s\n", (int)group.len, group.at);
    *out = session->redrive;
    return session->redriven;
}
