/* Subprotocol godwit.v1.json: one JSON object in each WebSocket text frame, for
 * browsers and scripts. PROTOCOL.md has the shapes. */
#include "broker/door/doors.h"

#include "broker/door/json.h"
#include "broker/door/json_read.h"
#include "proto/ws_frame.h"

enum {
    CLOSE_INTERNAL = 1011,
    /* Deliveries of one call are split over frames of about this size: many
     * clients' limit on a message is 1 MiB. */
    DELIVER_LEN = 256 * 1024
};

/* ---- frames out ---- */

/* A reply that is being written. */
struct reply {
    struct session *session;
    struct bytes *to;
    size_t mark;
    bool begun;
    struct json json;
};

static struct reply reply_begin(struct session *session, const char *type)
{
    struct reply reply = { .session = session,
                           .to = conn_output(session_conn(session)) };

    reply.json = json_to(reply.to);
    reply.json.status = ws_frame_begin(reply.to, false, &reply.mark);
    reply.begun = reply.json.status == STATUS_OK;
    json_begin_object(&reply.json, NULL);
    json_word(&reply.json, "type", type);
    return reply;
}

/* Half a reply is no reply: without memory the connection ends, and the client
 * settles what it does not know after connecting again. */
static void reply_end(struct reply *reply)
{
    enum status status;

    json_end_object(&reply->json);
    status = reply->json.status;
    if (status == STATUS_OK) {
        status = ws_frame_end(reply->to, reply->mark, WS_TEXT, NULL);
    }
    if (status == STATUS_OK) {
        return;
    }
    if (reply->begun) {
        ws_frame_abort(reply->to, reply->mark);
    }
    conn_close(session_conn(reply->session), CLOSE_INTERNAL, "no_memory");
}

static void on_welcome(struct session *session, uint64_t id,
                       const struct wire_welcome *welcome)
{
    struct reply reply = reply_begin(session, "welcome");

    json_u64(&reply.json, "id", id);
    json_text(&reply.json, "broker", welcome->broker);
    json_u64(&reply.json, "body_len_max", welcome->body_len_max);
    json_u64(&reply.json, "frame_len_max", welcome->frame_len_max);
    reply_end(&reply);
}

static void on_confirm(struct session *session,
                       const struct wire_confirm *confirm)
{
    struct reply reply = reply_begin(session, "confirm");

    json_u64(&reply.json, "id", confirm->id);
    json_u64(&reply.json, "count", confirm->count);
    json_u64(&reply.json, "seq", confirm->seq);
    if (confirm->duplicate) {
        json_bool(&reply.json, "duplicate", true);
    }
    json_receipt(&reply.json, confirm);
    reply_end(&reply);
}

static void on_refused(struct session *session, uint64_t id, uint64_t count,
                       const struct refusal *refusal)
{
    struct reply reply = reply_begin(session, "refused");

    json_u64(&reply.json, "id", id);
    json_u64(&reply.json, "count", count);
    json_refusal(&reply.json, refusal);
    reply_end(&reply);
}

static void on_attached(struct session *session, uint64_t id,
                        const struct wire_attached *attached)
{
    struct reply reply = reply_begin(session, "attached");

    json_u64(&reply.json, "id", id);
    json_text(&reply.json, "group", attached->group);
    json_u64(&reply.json, "lease_ms", attached->lease_ms);
    json_u64(&reply.json, "lease", attached->lease);
    reply_end(&reply);
}

static void on_detached(struct session *session, uint64_t id,
                        const char *reason)
{
    struct reply reply = reply_begin(session, "detached");

    json_u64(&reply.json, "id", id);
    json_word(&reply.json, "reason", reason);
    reply_end(&reply);
}

/* As many of the deliveries as make one frame; how many it took. */
static size_t deliver_some(struct session *session, const char *topic,
                           const struct wire_delivery *deliveries, size_t count)
{
    struct reply reply = reply_begin(session, "deliver");
    size_t begin = bytes_len(reply.to);
    size_t i = 0;

    json_word(&reply.json, "topic", topic);
    json_begin_array(&reply.json, "deliveries");
    while (i < count && (i == 0 || bytes_len(reply.to) - begin < DELIVER_LEN)) {
        json_delivery(&reply.json, NULL, &deliveries[i]);
        i++;
    }
    json_end_array(&reply.json);
    reply_end(&reply);
    return i;
}

static void on_deliver(struct session *session, const char *topic,
                       const struct wire_delivery *deliveries, size_t count)
{
    for (size_t i = 0; i < count;) {
        i += deliver_some(session, topic, deliveries + i, count - i);
    }
}

static void on_gap(struct session *session, const char *topic,
                   struct seq_range range)
{
    struct reply reply = reply_begin(session, "gap");

    json_word(&reply.json, "topic", topic);
    json_u64(&reply.json, "first", range.first);
    json_u64(&reply.json, "last", range.last);
    reply_end(&reply);
}

static void on_notice(struct session *session, const struct wire_notice *notice)
{
    struct reply reply = reply_begin(session, "notice");

    json_notice(&reply.json, notice);
    reply_end(&reply);
}

static void on_settled(struct session *session, uint64_t id, struct slice topic,
                       const struct wire_settled_range *ranges, size_t count)
{
    struct reply reply = reply_begin(session, "settled");

    json_u64(&reply.json, "id", id);
    json_text(&reply.json, "topic", topic);
    json_settled_ranges(&reply.json, ranges, count);
    reply_end(&reply);
}

static void on_pong(struct session *session, uint64_t id)
{
    struct reply reply = reply_begin(session, "pong");

    json_u64(&reply.json, "id", id);
    reply_end(&reply);
}

/* Pulls, changes and going to a group are HTTP's; nothing is kept. */
const struct door door_json = {
    .name = "json",
    .welcome = on_welcome,
    .confirm = on_confirm,
    .refused = on_refused,
    .attached = on_attached,
    .detached = on_detached,
    .deliver = on_deliver,
    .gap = on_gap,
    .notice = on_notice,
    .settled = on_settled,
    .pong = on_pong,
};

/* ---- frames in ---- */

/* A parsed document is many times its text; strangers do not get that much. */
static enum status check_stranger(const struct session *session, size_t len,
                                  struct refusal *refusal)
{
    if (session_app(session) != NULL || len <= HELLO_LEN_MAX) {
        return STATUS_OK;
    }
    (void)refuse(refusal, STATUS_UNAUTHENTICATED, "hello_len",
                 "before hello a frame may not be that large");
    refusal->used = len;
    refusal->allowed = HELLO_LEN_MAX;
    return STATUS_UNAUTHENTICATED;
}

void stream_json_message(struct session *session, const uint8_t *payload,
                         size_t len)
{
    struct json_scratch scratch = { 0 };
    struct wire_request request = { 0 };
    struct refusal refusal;
    uint64_t count = 1;
    enum status status = check_stranger(session, len, &refusal);

    if (status == STATUS_OK) {
        status = json_request_read(&scratch, slice_of(payload, len), &request,
                                   &count, &refusal);
    }
    if (status == STATUS_OK) {
        session_request(session, &request);
    } else {
        on_refused(session, request.id, count, &refusal);
    }
    json_scratch_fini(&scratch);
}
