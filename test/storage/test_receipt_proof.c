/* links: godwit_offline godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* Receipts, looked up offline: what a confirm said was written is there, or it
 * is said why not. */
#include "test/storage/harness.h"

#include "proto/check.h"
#include "storage/offline/inspect.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

enum { ORDERS = 2 };

static struct harness h;
static struct inspect *inspect;

static void set_up(void)
{
    harness_init(&h);
    h.config.segment_len = 32 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(int, inspect_open(&inspect, h.dir, NULL, &h.err), STATUS_OK));
}

static void tear_down(void)
{
    inspect_close(inspect);
    harness_fini(&h);
}

TestSuite(receipt, .init = set_up, .fini = tear_down, .timeout = 60);

static void add_numbered(uint32_t topic, uint64_t number)
{
    char body[64];

    snprintf(body, sizeof body, "message number %d stands here", (int)number);
    add_message(&h, topic, body);
}

static uint8_t moved[64 * 1024];
static size_t moved_len;

static void move(uint32_t topic, uint64_t seq)
{
    struct record record;
    const uint8_t *at;
    size_t size;

    cr_assert(eq(int, message_at(&h, topic, seq, &record, NULL), STATUS_OK));
    at = record.body.at - RECORD_HEADER_LEN;
    size = record_size_at(at);
    CHECK(moved_len + size <= sizeof moved);
    memcpy(moved + moved_len, at, size);
    moved_len += size;
}

static void move_trim(uint32_t topic, uint64_t first, uint64_t floor)
{
    struct record_trim trim = { topic, first, floor };
    struct record record = { .kind = RECORD_TRIM };
    struct bytes body = { 0 };

    CHECK(record_trim_write(&body, &trim) == STATUS_OK);
    memcpy(moved + moved_len + RECORD_HEADER_LEN, body.at, bytes_len(&body));
    record.body =
        slice_of(moved + moved_len + RECORD_HEADER_LEN, bytes_len(&body));
    record_finish(moved + moved_len, &record);
    moved_len += record_size(bytes_len(&body));
    bytes_fini(&body);
}

static void merge(void)
{
    struct store_span span = { .at = moved, .len = moved_len };
    struct store_commit commit;

    cr_assert(eq(int,
                 store_append_merge(h.store, &span, 9000000, &commit, &h.err),
                 STATUS_OK),
              "%s", h.err.text);
    cr_assert(eq(sz, span.taken, moved_len));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    moved_len = 0;
}

static void flip_in_body(uint64_t number)
{
    char path[600];
    char body[64];

    snprintf(body, sizeof body, "message number %d stands", (int)number);
    segment_file(&h, 1, path, sizeof path);
    flip_bit(path, find_in_file(path, body), 4);
}

/* Append `count` messages to a topic and keep what a confirm would say. */
static struct inspect_receipt publish(uint32_t topic, uint64_t first,
                                      uint64_t count)
{
    struct store_span span = { .at = h.buffer };
    struct inspect_receipt receipt = { topic, first, count, 0, 0, 0 };
    struct store_commit commit;
    size_t at = 0;

    for (uint64_t i = 0; i < count; i++) {
        add_numbered(topic, first + i);
    }
    span.len = h.len;
    cr_assert(eq(int, store_append(h.store, &span, 1, 5000, &commit, &h.err),
                 STATUS_OK));
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
    cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    receipt.segment = commit.segment;
    receipt.offset = span.offset;
    for (uint64_t i = 0; i < count; i++) {
        receipt.checksum =
            record_receipt(receipt.checksum, record_hash_at(h.buffer + at));
        at += record_size_at(h.buffer + at);
    }
    h.len = 0;
    return receipt;
}

static struct inspect_proof prove(const struct inspect_receipt *receipt)
{
    struct inspect_proof proof = { 0 };

    cr_assert(
        eq(int, inspect_receipt(inspect, receipt, &proof, &h.err), STATUS_OK));
    return proof;
}

Test(receipt, holds_until_it_does_not)
{
    struct inspect_receipt receipt;
    struct inspect_proof proof;

    publish(ORDERS, 1, 10);
    receipt = publish(ORDERS, 11, 5);
    proof = prove(&receipt);
    cr_assert(eq(int, (int)proof.verdict, RECEIPT_GOOD));
    cr_assert(eq(u32, proof.offset, receipt.offset));
    cr_assert(not(proof.moved));
    cr_assert(eq(u64, proof.present, 5));

    move(ORDERS, 11); /* a copy elsewhere, the original is there too */
    merge();
    cr_assert(eq(int, (int)prove(&receipt).verdict, RECEIPT_GOOD));
    cr_assert(not(prove(&receipt).moved));
    flip_in_body(11);
    proof = prove(&receipt); /* the copy has the same bytes */
    cr_assert(eq(int, (int)proof.verdict, RECEIPT_GOOD));
    cr_assert(proof.moved);

    flip_in_body(13);
    proof = prove(&receipt);
    cr_assert(eq(int, (int)proof.verdict, RECEIPT_MISSING));
    cr_assert(eq(u64, proof.first_missing, 13));
    cr_assert(eq(u64, proof.missing, 1));

    move_trim(ORDERS, 14, 14);
    merge();
    proof = prove(&receipt);
    cr_assert(eq(int, (int)proof.verdict, RECEIPT_DELETED));
    cr_assert(eq(u64, proof.deleted, 1));
}

Test(receipt, of_other_bytes_is_wrong)
{
    struct inspect_receipt receipt = publish(ORDERS, 1, 3);
    struct inspect_proof proof;

    receipt.checksum ^= 1;
    proof = prove(&receipt);
    cr_assert(eq(int, (int)proof.verdict, RECEIPT_WRONG));
    receipt.checksum ^= 1;
    receipt.offset += 8; /* only where it was written: not what */
    proof = prove(&receipt);
    cr_assert(eq(int, (int)proof.verdict, RECEIPT_GOOD));
    cr_assert(proof.moved);
}

Test(receipt, has_bounds)
{
    struct inspect_receipt receipt = publish(ORDERS, 1, 3);
    struct inspect_proof proof;

    receipt.count = 0;
    cr_assert(eq(int, inspect_receipt(inspect, &receipt, &proof, &h.err),
                 STATUS_INVALID));
    receipt.count = INSPECT_RECEIPT_COUNT_MAX + 1;
    cr_assert(eq(int, inspect_receipt(inspect, &receipt, &proof, &h.err),
                 STATUS_INVALID));
    receipt.count = INSPECT_RECEIPT_COUNT_MAX;
    cr_assert(eq(int, (int)prove(&receipt).verdict, RECEIPT_MISSING));
    cr_assert(eq(u64, prove(&receipt).present, 3));
}
