/* RFC 6455 section 5.2 frames in a buffer: the header's reading and writing,
 * and masking many bytes at a time. Both ends use it; what to do with control
 * frames, fragments and errors is theirs. Pure functions. */
#ifndef GODWIT_PROTO_WS_FRAME_H
#define GODWIT_PROTO_WS_FRAME_H

#include "proto/bytes.h"

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10
};

enum { WS_HEADER_LEN_MAX = 14 };

struct ws_header {
    bool fin;
    uint8_t rsv;    /* three bits */
    uint8_t opcode; /* four bits, any value */
    bool masked;
    uint8_t mask[4];
    uint64_t payload_len;
    size_t header_len;
};

/* STATUS_AGAIN: the header is not all there yet. STATUS_INVALID: a length not
 * in its shortest form, or its top bit set. Nothing else is judged. */
MUST_CHECK enum status ws_header_read(struct slice from, struct ws_header *out);

/* XOR `len` bytes with the mask, beginning at mask byte `phase` (0..3). */
void ws_mask(uint8_t *at, size_t len, const uint8_t mask[4], size_t phase);

/* Append the header of a whole frame whose payload the caller appends next, and
 * masks when `mask` is not NULL. For payloads of known length: nothing moves.
 * STATUS_NOMEM. */
MUST_CHECK enum status ws_header_write(struct bytes *to, enum ws_opcode opcode,
                                       uint64_t payload_len,
                                       const uint8_t *mask);

/* Write a frame whose payload length is not known yet: begin, append the
 * payload to `to`, end. ws_frame_end() fills in the header, moves the payload
 * if the header came out shorter or longer than reserved, and masks it when
 * `mask` is not NULL, which must be what `masked` said. Only the last begun
 * frame of a buffer may be ended, and nothing may be consumed from the buffer
 * in between. Begin can fail with STATUS_NOMEM; end may too (only for payloads
 * over 64 KiB), the frame is then as before and may be aborted. */
MUST_CHECK enum status ws_frame_begin(struct bytes *to, bool masked,
                                      size_t *mark);
MUST_CHECK enum status ws_frame_end(struct bytes *to, size_t mark,
                                    enum ws_opcode opcode, const uint8_t *mask);
/* Take a begun frame back. */
void ws_frame_abort(struct bytes *to, size_t mark);

/* The handshake's answer to a key (RFC 6455 section 4.2.2): base64 of SHA-1 of
 * key and GUID is the caller's; here is only the GUID. */
#define WS_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#endif
