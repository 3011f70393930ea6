/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* A message whose id was stored lately is dropped, whoever sends it, and after
 * any kind of start; so many ids are remembered and not one more. */
#include "test/storage/harness.h"

#include "proto/check.h"
#include "proto/limits.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { TOPIC = 4, BODY_LEN = 8, IN_ONE = 4000 };

static struct harness h;

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 16 * 1024 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(message_ids, .init = set_up, .fini = tear_down, .timeout = 120);

static void add_id(uint32_t app, uint64_t half, uint64_t number)
{
    struct record record = { .kind = RECORD_MESSAGE,
                             .flags = RECORD_ID,
                             .topic = TOPIC,
                             .app = app,
                             .producer = half,
                             .producer_seq = number };
    uint8_t *at = h.buffer + h.len;

    CHECK(h.len + record_size(BODY_LEN) <= HARNESS_BUFFER_LEN);
    memset(at + RECORD_HEADER_LEN, 'i', BODY_LEN);
    record.body = slice_of(at + RECORD_HEADER_LEN, BODY_LEN);
    record_finish(at, &record);
    h.len += record_size(BODY_LEN);
}

/* The halves of an id's hash. */
static uint64_t half_of(uint64_t id)
{
    return (id * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

static uint64_t number_of(uint64_t id)
{
    return ((id * UINT64_C(0xd6e8feb86659fd93)) >> 1) | 1;
}

/* The seq it is stored as; as a duplicate: 0 minus that. */
static int64_t send_as(uint32_t app, uint64_t half, uint64_t number)
{
    int64_t seq;

    add_id(app, half, number);
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    seq = (int64_t)record_seq_at(h.buffer);
    return (record_flags_at(h.buffer) & RECORD_DUPLICATE) != 0 ? -seq : seq;
}

static int64_t send(uint64_t id)
{
    return send_as(1, half_of(id), number_of(id));
}

static void open_again(bool kill, bool without_keydir)
{
    if (kill) {
        harness_kill(&h);
    } else {
        harness_close(&h);
    }
    if (without_keydir) {
        harness_delete_keydir(&h);
    }
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

Test(message_ids, are_stored_once_whoever_sends_them)
{
    cr_assert(eq(i64, send(7), 1));
    cr_assert(eq(i64, send(7), -1));
    cr_assert(eq(i64, send(8), 2));
    cr_assert(eq(i64, send_as(2, half_of(7), number_of(7)), -1));
    /* a producer of the same number is somebody else */
    add_sent(&h, TOPIC, "p", half_of(7), number_of(7));
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(eq(u8, record_flags_at(h.buffer), 0));
    cr_assert(eq(i64, send(8), -2));
}

Test(message_ids, are_known_after_any_start)
{
    for (int i = 0; i < 8; i++) {
        uint64_t id = (uint64_t)i + 1;
        cr_assert(eq(i64, send(id), i + 1));
        if (i % 3 == 0) {
            cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
        }
        open_again(i % 2 == 0, i >= 4);
        for (uint64_t k = 1; k <= id; k++) {
            cr_assert(eq(i64, send(k), -(int64_t)k), "start %d", i);
        }
    }
}

/* Halves that collide: neither hides the other. */
Test(message_ids, of_which_half_is_the_same_are_told_apart)
{
    const uint64_t numbers[] = { 1000, 500, 2000, 1, 501, 499 };

    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        cr_assert(eq(i64, send_as(1, 9, numbers[i]), (int64_t)i + 1));
        if (i % 2 == 0) {
            open_again(true, false);
        }
        cr_assert(lt(i64, send_as(1, 9, numbers[i]), 1));
    }
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        cr_assert(lt(i64, send_as(1, 9, numbers[i]), 1));
    }
}

static void send_many(uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last;) {
        for (int i = 0; i < IN_ONE && id <= last; i++, id++) {
            add_id(1, half_of(id), number_of(id));
        }
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        cr_assert(eq(u8, record_flags_at(h.buffer), RECORD_ID));
        cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
    }
}

/* Asking for one makes it the newest. */
static void check_bound(void)
{
    cr_assert(eq(i64, send(1), -1)); /* now 2 is the oldest */
    cr_assert(gt(i64, send(MESSAGE_IDS_MAX + 1), 0));
    cr_assert(eq(i64, send(3), -3));
    cr_assert(gt(i64, send(2), 0)); /* forgotten; and now 4 is */
    cr_assert(eq(i64, send(5), -5));
    cr_assert(gt(i64, send(4), 0));
    cr_assert(eq(i64, send(1), -1));
}

Test(message_ids, are_remembered_up_to_the_bound)
{
    send_many(1, MESSAGE_IDS_MAX);
    check_bound();
}

Test(message_ids, are_remembered_up_to_the_bound_after_a_start)
{
    send_many(1, MESSAGE_IDS_MAX);
    open_again(true, false);
    check_bound();
    open_again(false, false);
    cr_assert(eq(i64, send(9), -9));
}

Test(message_ids, are_remembered_up_to_the_bound_with_a_new_keydir)
{
    send_many(1, MESSAGE_IDS_MAX);
    open_again(true, true);
    check_bound();
}

/* What is forgotten leaves the keydir too. */
Test(message_ids, take_no_more_of_the_keydir_than_their_bound)
{
    struct store_stats before;
    struct store_stats after;

    send_many(1, 2 * MESSAGE_IDS_MAX);
    store_stats(h.store, &before);
    send_many(2 * MESSAGE_IDS_MAX + 1, 4 * MESSAGE_IDS_MAX);
    store_stats(h.store, &after);
    cr_assert(lt(u64, after.keydir_bytes,
                 before.keydir_bytes + before.keydir_bytes / 3));
}
