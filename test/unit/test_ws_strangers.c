/* links: godwit_net godwit_proto ev wslay */
/* with: test/lib/net_bed.c */
#include "test/lib/net_suite.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wslay/wslay.h>

TestSuite(ws_strangers, .init = set_up, .fini = tear_down, .timeout = 120);

/* ---- before a login ---- */

static void set_up_for_strangers(size_t input_max)
{
    struct net_config config = bed_config();

    config.hello_len_max = HELLO_LEN_MAX;
    config.input_max = input_max;
    set_up_with(config);
}

static void send_frame_of(int fd, unsigned first, size_t len)
{
    struct bytes b = { 0 };
    uint8_t *payload = calloc(1, len);

    put_frame(&b, first, payload, len);
    (void)client_send(&bed, fd, bytes_begin(&b), bytes_len(&b));
    free(payload);
    bytes_fini(&b);
    bed_run(&bed);
}

Test(ws_strangers, a_message_before_the_login_is_short)
{
    int fd;

    set_up_for_strangers(0);
    fd = client_upgrade(&bed);
    send_frame_of(fd, 0x82, HELLO_LEN_MAX);
    cr_assert_eq(bed.messages, 1);
    send_frame_of(fd, 0x82, HELLO_LEN_MAX + 1);
    cr_assert_eq(bed.messages, 1);
    expect_end(fd, "8:1009 ", "bad_frame");
    fd = client_upgrade(&bed);
    send_frame_of(fd, 0x02, HELLO_LEN_MAX);
    send_frame_of(fd, 0x80, 1);
    cr_assert_eq(bed.messages, 1, "in fragments neither");
    expect_end(fd, "8:1009 ", "bad_frame");
}

Test(ws_strangers, a_message_after_the_login_is_long)
{
    int fd;

    set_up_for_strangers(0);
    fd = client_upgrade(&bed);
    conn_set_known(bed.conn, true);
    send_frame_of(fd, 0x82, HELLO_LEN_MAX + 1);
    cr_assert_eq(bed.messages, 1);
    close(fd);
}

static bool one_open(struct bed *b)
{
    return bed_open_count(b) == 1;
}

static uint64_t held_input(void)
{
    struct net_stats stats;

    net_stats(bed.net, &stats);
    return stats.input_bytes;
}

/* A frame of 4 MB less 64 KiB is announced and `len` bytes of it come. */
static int send_half_frame(size_t len)
{
    int fd = client_upgrade(&bed);
    uint8_t *payload = calloc(1, len);

    cr_assert(client_send(&bed, fd, "\x82\xff\0\0\0\0\0\x3f\0\0\0\0\0\0", 14));
    (void)client_send(&bed, fd, payload, len);
    free(payload);
    bed_run(&bed);
    return fd;
}

Test(ws_strangers, half_frames_of_all_together_are_bounded)
{
    struct net_config config = bed_config();
    int a, b;

    config.input_max = 3 << 20;
    set_up_with(config);
    a = send_half_frame(2 << 20);
    cr_assert_eq(held_input(), (2 << 20) + 14);
    b = send_half_frame(0);
    cr_assert_eq(held_input(), (2 << 20) + 28, "only what has come");
    close(b);
    cr_assert(bed_run_until(&bed, one_open, 5000));
    b = send_half_frame(1 << 20);
    free(client_reply(&bed, b, "\x03\xf5too many half messages")); /* 1013 */
    close(b);
    cr_assert(bed_run_until(&bed, one_open, 5000));
    cr_assert_str_eq(bed.reason, "input_max");
    close(a);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_eq(held_input(), 0);
}

Test(ws_strangers, fragments_that_wait_for_the_rest_count)
{
    struct net_config config = bed_config();
    int a, b;

    config.input_max = 4 << 20;
    set_up_with(config);
    a = client_upgrade(&bed);
    send_frame_of(a, 0x02, 3 << 20);
    cr_assert_eq(held_input() >> 20, 3);
    b = client_upgrade(&bed);
    send_frame_of(b, 0x02, 2 << 20);
    free(client_reply(&bed, b, "\x03\xf5")); /* 1013 */
    close(b);
    cr_assert(bed_run_until(&bed, one_open, 5000));
    cr_assert_str_eq(bed.reason, "input_max");
    cr_assert_eq(held_input() >> 20, 3);
    send_frame_of(a, 0x80, 1);
    cr_assert_eq(bed.messages, 1);
    cr_assert_eq(held_input(), 0);
    close(a);
}

static void answer_long(struct bed *b, struct conn *conn, bool text,
                        uint8_t *payload, size_t len)
{
    static const uint8_t answer[8 * 1024];

    (void)b;
    (void)text;
    (void)payload;
    (void)len;
    conn_send(conn, WS_BINARY, slice_of(answer, sizeof answer));
}

static bool all_thousand(struct bed *b)
{
    return b->messages == 1000;
}

Test(ws_strangers, a_stranger_s_messages_wait_while_it_does_not_read)
{
    struct bytes b = { 0 };
    int fd;

    set_up_for_strangers(0);
    bed.on_message = answer_long;
    fd = client_upgrade(&bed);
    cr_assert_eq(
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int) { 4096 }, sizeof(int)), 0);
    for (int i = 0; i < 1000; i++) {
        put_text(&b, FIN_BINARY, "what?");
    }
    cr_assert(send_bytes(fd, &b));
    bed_run(&bed);
    cr_assert_lt(bed.messages, 1000);
    cr_assert_geq(held_input(), (size_t)(1000 - bed.messages) * 11);
    cr_assert_leq(conn_backlog(bed.conn), NET_UNKNOWN_OUTPUT_HIGH + 8200);
    conn_set_known(bed.conn, true); /* and now it need not wait */
    cr_assert(bed_run_until(&bed, all_thousand, 5000));
    cr_assert_eq(held_input(), 0);
    close(fd);
}
