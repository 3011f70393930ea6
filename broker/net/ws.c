#include "broker/net/inside.h"
#include "proto/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <wslay/wslay.h>

/* Whole, final text and binary frames are unmasked where they lie and handed
 * on. Pings, closes and fragmented messages go through wslay: its context is
 * made for the occasion and freed as soon as no message is half there, so that
 * only connections in the middle of a fragmented message pay for one. What
 * wslay leaves unbounded is bounded before it sees a frame: lengths, the number
 * of fragments, pongs. */

enum {
    CLOSE_CODE_LEN = 2,
    CLOSE_NORMAL = 1000,
    WS_FRAGMENT_COST = 64 /* what wslay needs beside the payload, about */
};

_Static_assert(FRAME_LEN_MAX == 4194304 && WS_FRAGMENT_COUNT_MAX == 1024,
               "the limits and the texts that name them differ");

struct ws_parts {
    wslay_event_context_ptr wslay; /* NULL: not needed now */
    struct conn *conn;
    struct slice from; /* lent to wslay: the frame it shall read */
    /* the fragmented message that is coming in */
    size_t count; /* frames so far; 0: none is coming */
    size_t len;
    uint64_t due_ms;
    /* and when it is whole */
    bool ready;
    bool text;
    struct bytes message;
    /* the latest ping that came while too much waited to be sent */
    bool ping_held;
    size_t ping_len;
    uint8_t ping[CONTROL_LEN_MAX];
};

/* ---- frames out ---- */

static bool send_frame(struct conn *conn, enum ws_opcode opcode, struct slice a,
                       struct slice b)
{
    struct bytes *out = conn_output(conn);

    if (ws_header_write(out, opcode, a.len + b.len, NULL) != STATUS_OK
        || bytes_append(out, a.at, a.len) != STATUS_OK
        || bytes_append(out, b.at, b.len) != STATUS_OK) {
        conn_die(conn, "no_memory");
        return false;
    }
    return true;
}

void conn_send(struct conn *conn, enum ws_opcode opcode, struct slice payload)
{
    if (conn->state == CONN_OPEN) {
        CHECK(conn->websocket);
        (void)send_frame(conn, opcode, payload, (struct slice) { 0 });
    }
}

void ws_ping(struct conn *conn)
{
    conn_send(conn, WS_PING, (struct slice) { 0 });
}

void ws_send_close(struct conn *conn, unsigned code, const char *text)
{
    unsigned sent = code == 0 ? CLOSE_NORMAL : code;
    uint8_t at[CLOSE_CODE_LEN] = { (uint8_t)(sent >> 8), (uint8_t)sent };
    struct slice reason = slice_text(text);

    if (reason.len > CONTROL_LEN_MAX - CLOSE_CODE_LEN) {
        reason.len = CONTROL_LEN_MAX - CLOSE_CODE_LEN;
    }
    (void)send_frame(conn, WS_CLOSE, slice_of(at, sizeof at), reason);
}

void ws_refuse(struct conn *conn, unsigned code, const char *text,
               const char *reason)
{
    conn->discard = true;
    conn->await_close = false;
    if (conn->state != CONN_OPEN) {
        list_append(&conn->net->dirty, &conn->dirty);
        return;
    }
    ws_send_close(conn, code, text);
    if (conn->state == CONN_OPEN) {
        conn_begin_close(conn, reason);
    }
}

/* The peer broke a rule: from here its bytes have no meaning. */
static void fail(struct conn *conn, unsigned code, const char *text)
{
    conn->net->stats.bad_frames++;
    ws_refuse(conn, code, text, "bad_frame");
}

/* ---- wslay ---- */

static ssize_t on_wslay_recv(wslay_event_context_ptr wslay, uint8_t *into,
                             size_t len, int flags, void *arg)
{
    struct ws_parts *parts = arg;

    (void)flags;
    if (parts->from.len == 0) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (len > parts->from.len) {
        len = parts->from.len;
    }
    memcpy(into, parts->from.at, len);
    parts->from.at += len;
    parts->from.len -= len;
    return (ssize_t)len;
}

static ssize_t on_wslay_send(wslay_event_context_ptr wslay, const uint8_t *from,
                             size_t len, int flags, void *arg)
{
    struct ws_parts *parts = arg;

    (void)flags;
    /* not conn_append(): ending the connection would free wslay's context */
    if (bytes_append(conn_output(parts->conn), from, len) != STATUS_OK) {
        wslay_event_set_error(wslay, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return (ssize_t)len;
}

/* The message is copied: the door is called when wslay is done with its work,
 * because it may end or hand over the connection. */
static void on_wslay_message(wslay_event_context_ptr wslay,
                             const struct wslay_event_on_msg_recv_arg *message,
                             void *arg)
{
    struct ws_parts *parts = arg;

    if (wslay_is_ctrl_frame(message->opcode)) {
        return;
    }
    if (bytes_append(&parts->message, message->msg, message->msg_length)
        != STATUS_OK) {
        wslay_event_set_error(wslay, WSLAY_ERR_CALLBACK_FAILURE);
        return;
    }
    parts->text = message->opcode == WSLAY_TEXT_FRAME;
    parts->ready = true;
}

static struct ws_parts *parts_of(struct conn *conn)
{
    if (conn->parts == NULL) {
        conn->parts = calloc(1, sizeof *conn->parts);
        if (conn->parts != NULL) {
            conn->parts->conn = conn;
        }
    }
    return conn->parts;
}

static bool parts_start_wslay(struct ws_parts *parts)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_wslay_recv,
        .send_callback = on_wslay_send,
        .on_msg_recv_callback = on_wslay_message,
    };

    if (parts->wslay != NULL) {
        return true;
    }
    if (wslay_event_context_server_init(&parts->wslay, &callbacks, parts)
        != 0) {
        parts->wslay = NULL;
        return false;
    }
    wslay_event_config_set_max_recv_msg_length(parts->wslay, FRAME_LEN_MAX);
    return true;
}

void ws_parts_free(struct conn *conn)
{
    struct ws_parts *parts = conn->parts;

    if (parts == NULL) {
        return;
    }
    if (parts->wslay != NULL) {
        wslay_event_context_free(parts->wslay);
    }
    bytes_fini(&parts->message);
    free(parts);
    conn->parts = NULL;
}

/* Give back what is not needed in between. */
static void parts_release(struct conn *conn)
{
    struct ws_parts *parts = conn->parts;

    if (parts->count > 0) {
        return;
    }
    if (parts->wslay != NULL) {
        wslay_event_context_free(parts->wslay);
        parts->wslay = NULL;
    }
    if (!parts->ping_held) {
        ws_parts_free(conn);
    }
}

/* wslay reads no more: it got a close frame and has echoed it, or it found a
 * fault and has said so. */
static void end_by_wslay(struct conn *conn)
{
    bool proper = wslay_event_get_close_received(conn->parts->wslay) != 0;

    conn->discard = true;
    conn->net->stats.bad_frames += proper ? 0 : 1;
    conn_begin_close(conn, proper ? "peer_closed" : "bad_frame");
    ws_parts_free(conn);
}

static void hand_on_message(struct conn *conn)
{
    struct net *net = conn->net;
    struct bytes message = conn->parts->message;
    bool text = conn->parts->text;

    conn->parts->message = (struct bytes) { 0 };
    conn->parts->ready = false;
    parts_release(conn);
    net->config.handler->on_message(conn, text, bytes_begin(&message),
                                    bytes_len(&message));
    bytes_fini(&message); /* the connection may be gone */
}

static void through_wslay(struct conn *conn, struct slice frame)
{
    struct ws_parts *parts = parts_of(conn);

    if (parts == NULL || !parts_start_wslay(parts)) {
        conn_die(conn, "no_memory");
        return;
    }
    parts->from = frame;
    if (wslay_event_recv(parts->wslay) != 0
        || wslay_event_send(parts->wslay) != 0) {
        conn_die(conn, "no_memory");
        return;
    }
    if (wslay_event_get_read_enabled(parts->wslay) == 0) {
        end_by_wslay(conn);
    } else if (parts->ready) {
        hand_on_message(conn);
    } else {
        parts_release(conn);
    }
}

/* ---- fragments ---- */

size_t ws_held_len(const struct conn *conn)
{
    const struct ws_parts *parts = conn->parts;

    return parts == NULL || parts->count == 0
               ? 0
               : parts->len + parts->count * WS_FRAGMENT_COST;
}

bool ws_in_fragments(const struct conn *conn, uint64_t *due_ms)
{
    if (conn->parts == NULL || conn->parts->count == 0) {
        return false;
    }
    *due_ms = conn->parts->due_ms;
    return true;
}

/* Count one; false: over a limit, and refused. */
static bool count_fragment(struct conn *conn, const struct ws_header *header)
{
    struct ws_parts *parts = parts_of(conn);
    uint64_t body_ms = conn->net->config.body_ms;

    if (parts == NULL) {
        conn_die(conn, "no_memory");
        return false;
    }
    if (parts->count == 0) {
        parts->due_ms = body_ms == 0 ? 0 : net_clock_ms() + body_ms;
        parts->len = 0;
    }
    if (parts->count == WS_FRAGMENT_COUNT_MAX) {
        fail(conn, 1009, "the message is in more than 1024 frames");
        return false;
    }
    parts->count++;
    parts->len += (size_t)header->payload_len;
    return true;
}

/* A frame of a fragmented message, or one that must not come inside of one or
 * without one: wslay knows. */
static void take_fragment(struct conn *conn, const struct ws_header *header,
                          struct slice frame)
{
    uint64_t ignored;

    if (header->opcode != WS_CONTINUATION || ws_in_fragments(conn, &ignored)) {
        if (!count_fragment(conn, header)) {
            return;
        }
        if (header->fin) {
            conn->parts->count = 0;
        }
    }
    through_wslay(conn, frame);
}

/* ---- control frames ---- */

static void hold_ping(struct conn *conn, struct slice payload)
{
    struct ws_parts *parts = parts_of(conn);

    if (parts == NULL) {
        conn_die(conn, "no_memory");
        return;
    }
    conn->net->stats.pings_unanswered += parts->ping_held ? 1 : 0;
    parts->ping_held = true;
    parts->ping_len = payload.len;
    memcpy(parts->ping, payload.at, payload.len);
}

void ws_late_pong(struct conn *conn)
{
    struct ws_parts *parts = conn->parts;

    if (parts == NULL || !parts->ping_held || conn->state != CONN_OPEN
        || conn_backlog(conn) > WS_PONG_BACKLOG_MAX) {
        return;
    }
    parts->ping_held = false;
    if (send_frame(conn, WS_PONG, slice_of(parts->ping, parts->ping_len),
                   (struct slice) { 0 })) {
        parts_release(conn);
    }
}

static void take_control(struct conn *conn, const struct ws_header *header,
                         struct slice frame)
{
    struct slice payload =
        slice_of(frame.at + header->header_len, frame.len - header->header_len);

    if (header->opcode == WS_PONG) {
        return; /* any bytes show that it lives */
    }
    if (header->opcode == WS_CLOSE && payload.len == 1) {
        fail(conn, 1002, "a close frame with half a code");
    } else if (header->opcode == WS_PING
               && conn_backlog(conn) > WS_PONG_BACKLOG_MAX) {
        ws_mask((uint8_t *)payload.at, payload.len, header->mask, 0);
        hold_ping(conn, payload);
    } else {
        through_wslay(conn, frame);
    }
}

/* ---- frames in ---- */

static bool is_control(const struct ws_header *header)
{
    return (header->opcode & 8) != 0;
}

/* What can be judged by the header alone, before its payload is waited for. */
static bool header_is_fine(struct conn *conn, const struct ws_header *header)
{
    size_t before =
        conn->parts == NULL || conn->parts->count == 0 ? 0 : conn->parts->len;

    if (!header->masked) {
        fail(conn, 1002, "a frame from a client must be masked");
    } else if (header->rsv != 0) {
        fail(conn, 1002, "reserved bits are set; no extension was agreed");
    } else if (header->opcode > WS_PONG
               || (header->opcode > WS_BINARY && !is_control(header))) {
        fail(conn, 1002, "unknown opcode");
    } else if (is_control(header)
               && (!header->fin || header->payload_len > CONTROL_LEN_MAX)) {
        fail(conn, 1002, "a control frame in fragments or over 125 bytes");
    } else if (!is_control(header)
               && header->payload_len > FRAME_LEN_MAX - before) {
        fail(conn, 1009, "the message is over its limit of 4194304 bytes");
    } else if (!conn->known && !is_control(header)
               && before + header->payload_len
                      > conn->net->config.hello_len_max) {
        fail(conn, 1009, "too long for a message before the login");
    } else {
        return true;
    }
    return false;
}

static void take_whole(struct conn *conn, const struct ws_header *header,
                       struct slice frame)
{
    uint8_t *payload = (uint8_t *)frame.at + header->header_len;
    size_t len = (size_t)header->payload_len;
    bool text = header->opcode == WS_TEXT;

    ws_mask(payload, len, header->mask, 0);
    if (text && !utf8_valid(slice_of(payload, len))) {
        fail(conn, 1007, "the text is not UTF-8");
        return;
    }
    conn->net->config.handler->on_message(conn, text, payload, len);
}

/* We have closed and wait for the peer's close; all else is old news. */
static void take_while_closing(struct conn *conn,
                               const struct ws_header *header)
{
    if (header->opcode == WS_CLOSE) {
        conn->await_close = false;
        list_append(&conn->net->dirty, &conn->dirty);
    }
}

static void take(struct conn *conn, const struct ws_header *header,
                 struct slice frame)
{
    uint64_t ignored;

    if (conn->state != CONN_OPEN) {
        take_while_closing(conn, header);
    } else if (is_control(header)) {
        take_control(conn, header, frame);
    } else if (header->fin && header->opcode != WS_CONTINUATION
               && !ws_in_fragments(conn, &ignored)) {
        take_whole(conn, header, frame);
    } else {
        take_fragment(conn, header, frame);
    }
}

bool ws_step(struct conn *conn)
{
    struct net *net = conn->net;
    struct ws_header header;
    size_t len;

    switch ((int)ws_header_read(net->rest, &header)) {
    case STATUS_OK:
        break;
    case STATUS_AGAIN:
        return false;
    default:
        fail(conn, 1002, "a frame length that is not in its shortest form");
        return true;
    }
    if (!header_is_fine(conn, &header)) {
        return true;
    }
    len = header.header_len + (size_t)header.payload_len;
    if (net->rest.len < len) {
        conn->need = len;
        return false;
    }
    net->stats.frames++;
    take(conn, &header, net_take(net, len));
    return true;
}
