/* A real store and a dispatch that reads it by way of a ring, for their tests.
 * What is put into the store is durable and on the ring, as the journal would
 * do it. */
#ifndef GODWIT_TEST_LIB_STORE_BED_H
#define GODWIT_TEST_LIB_STORE_BED_H

#include "broker/dispatch/dispatch.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>

#define MAYBE __attribute__((unused)) static

enum { TOPIC = 1 };

static struct harness h;
static struct ring *ring;
static struct dispatch *d;
static struct catalog *writer;
static uint64_t wall_us = 1000;

/* Durable and on the ring; the dispatch has not read it yet. */
static void put_on_ring(bool merge)
{
    struct store_span span = { .at = h.buffer, .len = h.len };
    struct store_commit *slot = ring_claim(ring);

    cr_assert_eq(merge
                     ? store_append_merge(h.store, &span, wall_us, slot, &h.err)
                     : store_append(h.store, &span, 1, wall_us, slot, &h.err),
                 STATUS_OK, "%s", h.err.text);
    cr_assert_eq(span.taken, h.len);
    cr_assert_eq(store_sync(h.store, &h.err), STATUS_OK);
    cr_assert_eq(store_apply(h.store, slot), STATUS_OK);
    h.len = 0;
    ring_publish(ring);
}

MAYBE void read_ring(void)
{
    while (ring_available(ring, 0) > 0) {
        dispatch_commit(d, ring_entry(ring, 0, 0));
        ring_consumed(ring, 0, 1);
    }
}

/* Its body is that, which ends here. */
static void put_record(struct record record, struct bytes *body)
{
    uint8_t *at = h.buffer + h.len;

    record.body = slice_of(bytes_begin(body), bytes_len(body));
    memcpy(at + RECORD_HEADER_LEN, record.body.at, record.body.len);
    record_finish(at, &record);
    h.len += record_size(record.body.len);
    bytes_fini(body);
}

MAYBE void trim(uint64_t first_seq, uint64_t floor_seq)
{
    const struct record_trim t = { TOPIC, first_seq, floor_seq };
    struct bytes body = { 0 };

    cr_assert_eq(record_trim_write(&body, &t), STATUS_OK);
    put_record((struct record) { .kind = RECORD_TRIM }, &body);
    put_on_ring(true);
}

/* ---- the catalog ---- */

static uint64_t no_seq(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return 0;
}

/* For groups that begin at the latest. */
static uint64_t latest_seq;

static uint64_t seq_of_latest(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return latest_seq;
}

MAYBE void change(struct catalog_request *request)
{
    const struct catalog_context context = { .random =
                                                 (const uint8_t[64]) { 0 },
                                             .last_seq = seq_of_latest,
                                             .floor_seq = no_seq };
    struct bytes body = { 0 };
    struct record_fact fact;
    char secret[SECRET_LEN_MAX + 1];
    struct refusal refusal;

    cr_assert_eq(
        catalog_decide(writer, request, &context, &body, secret, &refusal),
        STATUS_OK, "%s", refusal.text);
    cr_assert_eq(
        fact_read(slice_of(bytes_begin(&body), bytes_len(&body)), &fact),
        STATUS_OK);
    cr_assert_eq(catalog_apply(writer, &fact), STATUS_OK);
    put_record((struct record) { .kind = RECORD_CATALOG }, &body);
    put_on_ring(false);
    catalog_request_fini(request);
}

#endif
