#include "client/link.h"
#include "client/http_head.h"

#include <stdio.h>

static const char *subprotocol(const struct link *link)
{
    return link->text ? "godwit.v1.json" : "godwit.v1.proto";
}

enum status link_init(struct link *link, const struct url *url,
                      struct tls_context *trust)
{
    *link = (struct link) { .state = LINK_CLOSED };
    transport_init(&link->transport, url, trust);
    if (!random_bytes(&link->random, sizeof link->random)) {
        return STATUS_IO;
    }
    link->random |= 1; /* xorshift must not begin at 0 */
    return STATUS_OK;
}

void link_close(struct link *link)
{
    transport_close(&link->transport);
    link->in.begin = link->in.end = 0;
    link->out.begin = link->out.end = 0;
    link->pieces.begin = link->pieces.end = 0;
    link->taken = 0;
    link->fragmented = link->pieces_lent = false;
    link->pong_due = false;
    link->state = LINK_CLOSED;
}

void link_fini(struct link *link)
{
    link_close(link);
    bytes_fini(&link->in);
    bytes_fini(&link->out);
    bytes_fini(&link->pieces);
}

static void mask_make(struct link *link, uint8_t mask[4])
{
    uint64_t x = link->random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    link->random = x;
    put_u32(mask, (uint32_t)(x >> 32));
}

/* ---- connect and upgrade ---- */

enum status link_start(struct link *link, struct error *err)
{
    enum status status;

    CHECK(link->state == LINK_CLOSED);
    status = transport_start(&link->transport, err);
    if (status == STATUS_OK) {
        link->state = LINK_CONNECTING;
    }
    return status;
}

static enum status ask_upgrade(struct link *link, struct error *err)
{
    uint8_t random[16];
    char key[25];
    char head[1024];
    int len;

    if (!random_bytes(random, sizeof random)) {
        return error_set(err, STATUS_IO, 0, "no randomness");
    }
    base64(key, slice_of(random, sizeof random));
    if (!websocket_accept(key, link->accept)) {
        return error_set(err, STATUS_NOMEM, 0, "WebSocket key");
    }
    len = snprintf(head, sizeof head,
                   "GET /v1/stream HTTP/1.1\r\n"
                   "Host: %s\r\n"
                   "Upgrade: websocket\r\n"
                   "Connection: Upgrade\r\n"
                   "Sec-WebSocket-Key: %s\r\n"
                   "Sec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Protocol: %s\r\n"
                   "User-Agent: libgodwit/" GODWIT_VERSION "\r\n"
                   "\r\n",
                   link->transport.url->authority, key, subprotocol(link));
    CHECK(len > 0 && (size_t)len < sizeof head);
    if (bytes_append(&link->out, head, (size_t)len) != STATUS_OK) {
        return error_set(err, STATUS_NOMEM, 0, "send buffer");
    }
    return STATUS_OK;
}

/* A refused upgrade comes with a sentence in its body; some of it will do. */
static enum status upgrade_refused(struct link *link,
                                   const struct http_head *head,
                                   struct error *err)
{
    enum status status = head->code == 401   ? STATUS_UNAUTHENTICATED
                         : head->code == 403 ? STATUS_FORBIDDEN
                                             : STATUS_IO;
    size_t rest = bytes_len(&link->in) - head->len;

    return error_set(err, status, 0, "upgrade refused with HTTP %d: %.*s",
                     head->code, (int)(rest > 200 ? 200 : rest),
                     (const char *)bytes_begin(&link->in) + head->len);
}

static enum status judge_upgrade(struct link *link,
                                 const struct http_head *head,
                                 struct error *err)
{
    if (head->code != 101) {
        return upgrade_refused(link, head, err);
    }
    if (!head->upgrade_websocket || !head->connection_upgrade
        || !slice_is(head->accept, link->accept)) {
        return error_set(err, STATUS_IO, 0,
                         "upgrade: the answer is not a WebSocket handshake");
    }
    if (!slice_is(head->protocol, subprotocol(link))) {
        return error_set(err, STATUS_UNSUPPORTED, 0,
                         "upgrade: the broker does not speak %s",
                         subprotocol(link));
    }
    bytes_consume(&link->in, head->len);
    link->state = LINK_OPEN;
    return STATUS_OK;
}

static enum status await_upgrade(struct link *link, struct error *err)
{
    struct http_head head;
    const char *fault = "";
    enum status status = link_flush(link, err);

    if (status == STATUS_OK) {
        status = link_receive(link, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = http_head_read(
        slice_of(bytes_begin(&link->in), bytes_len(&link->in)), &head, &fault);
    if (status == STATUS_OK) {
        return judge_upgrade(link, &head, err);
    }
    if (status == STATUS_AGAIN) {
        return status;
    }
    return error_set(err, STATUS_IO, 0, "upgrade: %s", fault);
}

enum status link_advance(struct link *link, struct error *err)
{
    enum status status;

    if (link->state == LINK_CONNECTING) {
        status = transport_connect(&link->transport, err);
        if (status == STATUS_OK) {
            status = ask_upgrade(link, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
        link->state = LINK_UPGRADING;
    }
    if (link->state == LINK_UPGRADING) {
        return await_upgrade(link, err);
    }
    CHECK(link->state == LINK_OPEN);
    return STATUS_OK;
}

/* ---- receiving ---- */

static void give_back(struct link *link)
{
    bytes_consume(&link->in, link->taken);
    link->taken = 0;
    if (link->pieces_lent) {
        link->pieces.begin = link->pieces.end = 0;
        link->pieces_lent = false;
    }
}

/* The length of the frame that has begun to arrive, as far as it is known. */
static size_t frame_wanted(const struct link *link)
{
    struct ws_header header;
    size_t len = bytes_len(&link->in);

    if (link->state != LINK_OPEN || len == 0
        || ws_header_read(slice_of(bytes_begin(&link->in), len), &header)
               != STATUS_OK
        || header.payload_len > FRAME_LEN_MAX) {
        return 0;
    }
    return header.header_len + (size_t)header.payload_len;
}

enum status link_receive(struct link *link, struct error *err)
{
    size_t want = frame_wanted(link);
    size_t got = 0;
    size_t len;
    enum status status;

    give_back(link);
    len = bytes_len(&link->in);
    want = want > LINK_IN_LEN ? want : LINK_IN_LEN;
    want = want > len ? want - len : 1;
    if (bytes_reserve(&link->in, want, SIZE_MAX / 2) != STATUS_OK) {
        return error_set(err, STATUS_NOMEM, 0, "receive buffer");
    }
    status = transport_read(&link->transport, bytes_end(&link->in),
                            bytes_room(&link->in), &got, err);
    if (status == STATUS_OK) {
        bytes_filled(&link->in, got);
    }
    return status;
}

static enum status broken(struct error *err, const char *what)
{
    return error_set(err, STATUS_INVALID, 0, "the broker sent %s", what);
}

static enum status judge_header(const struct link *link,
                                const struct ws_header *h, struct error *err)
{
    bool control = h->opcode >= WS_CLOSE;

    if (h->masked) {
        return broken(err, "a masked frame");
    }
    if (h->rsv != 0) {
        return broken(err, "a frame with reserved bits");
    }
    if (h->opcode == (link->text ? WS_BINARY : WS_TEXT)) {
        return broken(err, link->text ? "a binary frame" : "a text frame");
    }
    if (h->opcode > WS_PONG || (h->opcode > WS_BINARY && !control)) {
        return broken(err, "a frame with an unknown opcode");
    }
    if (control && (!h->fin || h->payload_len > CONTROL_LEN_MAX)) {
        return broken(err, "a control frame in pieces, or too long");
    }
    if (!control && (h->opcode == WS_CONTINUATION) != link->fragmented) {
        return broken(err, "a fragment out of place");
    }
    if (h->payload_len + bytes_len(&link->pieces) > FRAME_LEN_MAX) {
        return error_set(err, STATUS_TOO_LARGE, 0,
                         "the broker sent a message over %d bytes",
                         FRAME_LEN_MAX);
    }
    return STATUS_OK;
}

static enum status goodbye_received(struct slice payload, struct error *err)
{
    int code = payload.len >= 2 ? payload.at[0] << 8 | payload.at[1] : 0;
    int len = payload.len > 2 ? (int)payload.len - 2 : 0;

    return error_set(
        err, STATUS_CLOSED, 0, "closed by the broker with code %d%s%.*s", code,
        len > 0 ? ": " : "", len, len > 0 ? (const char *)payload.at + 2 : "");
}

/* Only the latest ping is answered, and when there is room: a flood of them
 * costs nothing. */
static void ping_received(struct link *link, struct slice payload)
{
    memcpy(link->pong, payload.at, payload.len);
    link->pong_len = payload.len;
    link->pong_due = true;
}

static enum status piece_received(struct link *link, const struct ws_header *h,
                                  struct slice payload, struct slice *out,
                                  struct error *err)
{
    if (bytes_append(&link->pieces, payload.at, payload.len) != STATUS_OK) {
        return error_set(err, STATUS_NOMEM, 0, "receive buffer");
    }
    link->fragmented = !h->fin;
    if (!h->fin) {
        return STATUS_AGAIN;
    }
    link->pieces_lent = true;
    *out = slice_of(bytes_begin(&link->pieces), bytes_len(&link->pieces));
    return STATUS_OK;
}

/* STATUS_AGAIN: nothing for the caller in it. */
static enum status frame_received(struct link *link, const struct ws_header *h,
                                  struct slice payload, struct slice *out,
                                  struct error *err)
{
    switch (h->opcode) {
    case WS_CLOSE:
        return goodbye_received(payload, err);
    case WS_PING:
        ping_received(link, payload);
        return STATUS_AGAIN;
    case WS_PONG:
        return STATUS_AGAIN;
    default:
        break;
    }
    if (!h->fin || h->opcode == WS_CONTINUATION) {
        return piece_received(link, h, payload, out, err);
    }
    *out = payload;
    return STATUS_OK;
}

enum status link_next(struct link *link, struct slice *payload,
                      struct error *err)
{
    struct ws_header header;
    struct slice in;
    enum status status;

    do {
        give_back(link);
        if (link->in.at == NULL) {
            return STATUS_AGAIN;
        }
        in = slice_of(bytes_begin(&link->in), bytes_len(&link->in));
        status = ws_header_read(in, &header);
        if (status == STATUS_AGAIN) {
            return status;
        }
        if (status != STATUS_OK) {
            return broken(err, "a malformed frame");
        }
        status = judge_header(link, &header, err);
        if (status != STATUS_OK) {
            return status;
        }
        if (in.len - header.header_len < header.payload_len) {
            return STATUS_AGAIN;
        }
        link->taken = header.header_len + (size_t)header.payload_len;
        status = frame_received(
            link, &header,
            slice_of(in.at + header.header_len, (size_t)header.payload_len),
            payload, err);
    } while (status == STATUS_AGAIN);
    return status;
}

/* ---- sending ---- */

enum status link_frame_begin(struct link *link, size_t *mark)
{
    return ws_frame_begin(&link->out, true, mark);
}

enum status link_frame_end(struct link *link, size_t mark)
{
    uint8_t mask[4];

    mask_make(link, mask);
    return ws_frame_end(&link->out, mark, link->text ? WS_TEXT : WS_BINARY,
                        mask);
}

void link_frame_abort(struct link *link, size_t mark)
{
    ws_frame_abort(&link->out, mark);
}

static void put_control(struct link *link, enum ws_opcode opcode,
                        struct slice payload)
{
    uint8_t mask[4];
    size_t mark;

    mask_make(link, mask);
    if (ws_frame_begin(&link->out, true, &mark) != STATUS_OK) {
        return;
    }
    if (bytes_append(&link->out, payload.at, payload.len) != STATUS_OK
        || ws_frame_end(&link->out, mark, opcode, mask) != STATUS_OK) {
        ws_frame_abort(&link->out, mark);
    }
}

enum status link_flush(struct link *link, struct error *err)
{
    if (link->pong_due && bytes_len(&link->out) < LINK_OUT_LEN) {
        put_control(link, WS_PONG, slice_of(link->pong, link->pong_len));
        link->pong_due = false;
    }
    while (bytes_len(&link->out) > 0) {
        size_t put = 0;
        enum status status =
            transport_write(&link->transport, bytes_begin(&link->out),
                            bytes_len(&link->out), &put, err);
        if (status == STATUS_AGAIN) {
            return STATUS_OK;
        }
        if (status != STATUS_OK) {
            return status;
        }
        bytes_consume(&link->out, put);
    }
    return STATUS_OK;
}

void link_goodbye(struct link *link)
{
    static const uint8_t normal[2] = { 1000 >> 8, 1000 & 0xFF };
    struct error ignored;

    if (link->state == LINK_OPEN) {
        put_control(link, WS_CLOSE, slice_of(normal, sizeof normal));
        (void)!link_flush(link, &ignored);
    }
}

struct link_interest link_interest(const struct link *link)
{
    const struct transport *t = &link->transport;
    struct link_interest interest = { .fd = t->fd };

    switch (link->state) {
    case LINK_CLOSED:
        interest.fd = -1;
        break;
    case LINK_CONNECTING:
        interest.write = t->wants_write;
        interest.read = !t->wants_write;
        break;
    case LINK_UPGRADING:
    case LINK_OPEN:
        interest.read = true;
        interest.write = bytes_len(&link->out) > 0 || link->pong_due;
        break;
    }
    return interest;
}
