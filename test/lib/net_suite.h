/* What the suites of net/ share: a bed that is made and taken down around each
 * test, and a client's usual words. A header of its own, so that each suite
 * keeps its bed to itself. */
#ifndef GODWIT_TEST_NET_SUITE_H
#define GODWIT_TEST_NET_SUITE_H

#include "test/lib/net_bed.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct bed bed;

static inline void set_up(void)
{
    struct net_config config = bed_config();

    bed_open(&bed, &config);
}

static inline void tear_down(void)
{
    bed_close(&bed);
}

static inline void set_up_with(struct net_config config)
{
    bed_close(&bed);
    bed_open(&bed, &config);
}

static inline bool one_closed(struct bed *b)
{
    return b->closed == 1;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static inline void expect_reply(int fd, const char *needle)
{
    free(client_reply(&bed, fd, needle));
}

/* ---- WebSocket ---- */

enum {
    FIN = 0x80,
    FIN_TEXT = FIN | WS_TEXT,
    FIN_BINARY = FIN | WS_BINARY,
    FIN_CONTINUATION = FIN | WS_CONTINUATION,
    FIN_CLOSE = FIN | WS_CLOSE,
    FIN_PING = FIN | WS_PING,
    FIN_PONG = FIN | WS_PONG
};

static inline void put_text(struct bytes *to, unsigned first,
                            const char *payload)
{
    put_frame(to, first, payload, strlen(payload));
}

static inline bool send_bytes(int fd, struct bytes *b)
{
    bool sent = client_send(&bed, fd, bytes_begin(b), bytes_len(b));

    bytes_fini(b);
    return sent;
}

static inline bool send_one(int fd, unsigned first, const void *payload,
                            size_t len)
{
    struct bytes b = { 0 };

    put_frame(&b, first, payload, len);
    return send_bytes(fd, &b);
}

/* What a client of ours gets, frame by frame, up to a close frame or the end:
 * "opcode:payload\n", a close frame's code in decimal before its text. */
static inline char *frames_of(int fd)
{
    struct bytes raw = { 0 };
    struct bytes text = { 0 };
    struct ws_header header;

    cr_assert(client_receive(&bed, fd, &raw, NULL));
    while (
        bytes_len(&raw) > 0
        && ws_header_read(slice_of(bytes_begin(&raw), bytes_len(&raw)), &header)
               == STATUS_OK) {
        const uint8_t *payload = bytes_begin(&raw) + header.header_len;
        size_t len = (size_t)header.payload_len;
        char start[32];
        int start_len = snprintf(start, sizeof start, "%d:", header.opcode);

        cr_assert(!header.masked && header.fin && header.rsv == 0);
        cr_assert_leq(header.header_len + len, bytes_len(&raw));
        if (header.opcode == WS_CLOSE && len >= 2) {
            start_len = snprintf(start, sizeof start, "8:%d ",
                                 payload[0] << 8 | payload[1]);
            payload += 2;
            len -= 2;
        }
        cr_assert_eq(bytes_append(&text, start, (size_t)start_len), STATUS_OK);
        cr_assert_eq(bytes_append(&text, payload, len), STATUS_OK);
        cr_assert_eq(bytes_append(&text, "\n", 1), STATUS_OK);
        bytes_consume(&raw, header.header_len + (size_t)header.payload_len);
    }
    cr_assert_eq(bytes_append(&text, "", 1), STATUS_OK);
    bytes_fini(&raw);
    return (char *)text.at;
}

/* The peer is told `answer` and the connection ends for `reason`. */
static inline void expect_end(int fd, const char *answer, const char *reason)
{
    char *frames = frames_of(fd);

    cr_assert_eq(strncmp(frames, answer, strlen(answer)), 0, "%s, not %s",
                 frames, answer);
    free(frames);
    close(fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, reason);
}

#endif
