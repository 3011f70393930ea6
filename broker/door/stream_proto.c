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

static void on_notice(struct session *session, const struct wire_notice *notice)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_notice_write(a.to, notice));
}

static void on_settled(struct session *session, uint64_t id, struct slice topic,
                       const struct wire_settled_range *ranges, size_t count)
{
    struct answer a = answer_begin(session);
    answer_end(&a, codec_settled_write(a.to, id, topic, ranges, count));
}

static void on_pong(struct session *session, uint64_t id)
{
    struct answer a = answer_begin(session);

    answer_end(&a, codec_pong_write(a.to, id));
}

/* Pulls, changes and going to a group are HTTP's; nothing is kept. */
const struct door door_proto = {
    .name = "proto",
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

/* ---- requests ---- */

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
    session_request(session, &request);
}
