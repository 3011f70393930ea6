/* The door of subprotocol godwit.v1.proto: payloads of binary frames to session
 * calls and back. Each answer is written straight into the connection's output
 * as one frame. */
#include "broker/door/doors.h"

#include "broker/net/conn.h"
#include "proto/codec.h"
#include "proto/ws_frame.h"

/* ---- answers ---- */

struct answer {
    struct conn *conn;
    struct bytes *to;
    size_t mark;
    enum status status;
};

static struct answer answer_begin(struct session *session)
{
    struct answer a = { .conn = session_conn(session) };

    a.to = conn_output(a.conn);
    a.status = ws_frame_begin(a.to, false, &a.mark);
    return a;
}

/* Out of memory for an answer: the connection cannot go on without it. */
static void answer_end(struct answer *a, enum status written)
{
    if (a->status == STATUS_OK) {
        a->status = written;
        if (written == STATUS_OK) {
            a->status = ws_frame_end(a->to, a->mark, WS_BINARY, NULL);
        } else {
            ws_frame_abort(a->to, a->mark);
        }
    }
    if (a->status != STATUS_OK) {
        conn_abort(a->conn, "out of memory");
    }
}

static void on_welcome(struct session *session, uint64_t id,
                       const struct wire_welcome *welcome)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_welcome_write(a.to, id, welcome));
}

static void on_confirm(struct session *session,
                       const struct wire_confirm *confirm)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_confirm_write(a.to, confirm));
}

static void on_refused(struct session *session, uint64_t id, uint64_t count,
                       const struct refusal *refusal)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_refused_write(a.to, id, count, refusal));
}

static void on_attached(struct session *session, uint64_t id,
                        const struct wire_attached *attached)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_attached_write(a.to, id, attached));
}

static void on_detached(struct session *session, uint64_t id,
                        const char *reason)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_detached_write(a.to, id, slice_text(reason)));
}

static enum status write_deliver(struct bytes *to, const char *topic,
                                 const struct wire_delivery *deliveries,
                                 size_t count)
{
    size_t len = 0;
    enum status status;

    for (size_t i = 0; i < count; i++) {
        len += codec_delivery_len(&deliveries[i]);
    }
    status = codec_deliver_begin(to, slice_text(topic), len);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = codec_delivery_write(to, &deliveries[i]);
    }
    return status;
}

static void on_deliver(struct session *session, const char *topic,
                       const struct wire_delivery *deliveries, size_t count)
{
    struct answer a = answer_begin(session);
    answer_end(&a, write_deliver(a.to, topic, deliveries, count));
}

static void on_gap(struct session *session, const char *topic,
                   struct seq_range range)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_gap_write(a.to, slice_text(topic), range));
}

static void on_settled(struct session *session, uint64_t id, struct slice topic,
                       const struct wire_settled_range *ranges, size_t count)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_settled_write(a.to, id, topic, ranges, count));
}

/* Pulls, changes and moves without attach are the HTTP door's. */
static void on_pulled(struct session *session, uint64_t id, uint64_t lease,
                      uint64_t lease_ms)
{
    (void)session;
    (void)id;
    (void)lease;
    (void)lease_ms;
}

static void on_changed(struct session *session, const struct change_done *done)
{
    (void)session;
    (void)done;
}

static void on_arrived(struct session *session, uint64_t id)
{
    (void)session;
    (void)id;
}

static void on_closed(struct session *session)
{
    (void)session; /* it has no state of its own */
}

const struct door door_proto = {
    .name = "proto",
    .welcome = on_welcome,
    .confirm = on_confirm,
    .refused = on_refused,
    .attached = on_attached,
    .detached = on_detached,
    .deliver = on_deliver,
    .gap = on_gap,
    .settled = on_settled,
    .pulled = on_pulled,
    .changed = on_changed,
    .arrived = on_arrived,
    .closed = on_closed,
};

/* ---- requests ---- */

static void pong(struct session *session, uint64_t id)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_pong_write(a.to, id));
}

void stream_proto_message(struct session *session, uint8_t *payload, size_t len)
{
    struct wire_request request;
    struct refusal refusal;

    if (codec_request_read(session_codec(session), slice_of(payload, len),
                           &request, &refusal)
        != STATUS_OK) {
        on_refused(session, request.id, 1, &refusal);
        return;
    }
    switch (request.kind) {
    case REQUEST_HELLO:
        session_hello(session, request.id, &request.hello);
        break;
    case REQUEST_PUBLISH:
        session_publish(session, request.id, &request.publish);
        break;
    case REQUEST_ATTACH:
        session_attach(session, request.id, &request.attach);
        break;
    case REQUEST_DETACH:
        session_detach(session, request.id);
        break;
    case REQUEST_SETTLE:
        session_settle(session, request.id, &request.settle);
        break;
    case REQUEST_PING:
        pong(session, request.id);
        break;
    }
}
