/* links: godwit_storage godwit_proto */
#include "storage/record.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static uint8_t at[4096];

static struct record sample(size_t body_len)
{
    struct record record = { .kind = RECORD_MESSAGE,
                             .topic = 7,
                             .app = 9,
                             .producer = 11,
                             .producer_seq = 13 };

    for (size_t i = 0; i < body_len; i++) {
        at[RECORD_HEADER_LEN + i] = (uint8_t)(i * 7 + 1);
    }
    record.body = slice_of(at + RECORD_HEADER_LEN, body_len);
    return record;
}

static size_t write_sample(size_t body_len)
{
    struct record record = sample(body_len);

    memset(at, 0xee, sizeof at);
    record = sample(body_len);
    record_finish(at, &record);
    record_number(at, 17, 19);
    return record_size(body_len);
}

Test(record, comes_back_as_it_was_written)
{
    for (size_t len = 0; len < 40; len++) {
        struct record out;
        size_t size = write_sample(len);
        cr_assert(eq(int, record_read(slice_of(at, size), &out), STATUS_OK));
        cr_assert(eq(int, (int)out.kind, RECORD_MESSAGE));
        cr_assert(eq(u8, out.flags, 0));
        cr_assert(eq(u32, out.topic, 7));
        cr_assert(eq(u32, out.app, 9));
        cr_assert(eq(u64, out.seq, 17));
        cr_assert(eq(u64, out.time_us, 19));
        cr_assert(eq(u64, out.producer, 11));
        cr_assert(eq(u64, out.producer_seq, 13));
        cr_assert(eq(sz, out.body.len, len));
        for (size_t i = 0; i < len; i++) {
            cr_assert(eq(u8, out.body.at[i], (uint8_t)(i * 7 + 1)));
        }
    }
}

Test(record, is_padded_with_zeros_to_eight)
{
    for (size_t len = 0; len < 40; len++) {
        size_t size = write_sample(len);
        cr_assert(eq(sz, size % RECORD_ALIGN, 0));
        cr_assert(eq(sz, size, record_size_at(at)));
        cr_assert(lt(sz, size - RECORD_HEADER_LEN - len, RECORD_ALIGN));
        for (size_t i = RECORD_HEADER_LEN + len; i < size; i++) {
            cr_assert(eq(u8, at[i], 0));
        }
        cr_assert(eq(u8, at[size], 0xee)); /* and not a byte further */
    }
}

/* Every single bit of header and body counts. */
Test(record, with_any_bit_flipped_is_not_one)
{
    size_t len = 21;
    size_t size = write_sample(len);
    struct record out;

    for (size_t bit = 0; bit < (RECORD_HEADER_LEN + len) * 8; bit++) {
        at[bit / 8] = (uint8_t)(at[bit / 8] ^ (1u << bit % 8));
        cr_assert(
            eq(int, record_read(slice_of(at, size), &out), STATUS_CORRUPT),
            "bit %zu", bit);
        at[bit / 8] = (uint8_t)(at[bit / 8] ^ (1u << bit % 8));
    }
    cr_assert(eq(int, record_read(slice_of(at, size), &out), STATUS_OK));
}

Test(record, cut_anywhere_is_not_one)
{
    size_t len = RECORD_HEADER_LEN + 21;
    struct record out;

    (void)write_sample(21);
    for (size_t cut = 0; cut < len; cut++) {
        /* memory of exactly that length, so that reading on is seen */
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, at, cut);
        cr_assert(
            eq(int, record_read(slice_of(exact, cut), &out), STATUS_CORRUPT));
        free(exact);
    }
    cr_assert(eq(int, record_read(slice_of(at, len), &out), STATUS_OK));
}

Test(record, that_was_not_numbered_is_not_one)
{
    struct record record = sample(4);
    struct record out;

    record_finish(at, &record);
    cr_assert(eq(int, record_read(slice_of(at, record_size(4)), &out),
                 STATUS_CORRUPT));
}

Test(record, of_zeros_is_not_one)
{
    struct record out;

    memset(at, 0, sizeof at);
    cr_assert(
        eq(int, record_read(slice_of(at, sizeof at), &out), STATUS_CORRUPT));
}

Test(record, of_an_unknown_kind_is_not_one)
{
    static const int kinds[] = { 0, RECORD_TRIM + 1, 255 };
    struct record out;

    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct record record = sample(4);
        record_finish(at, &record);
        at[4] = (uint8_t)kinds[i];
        record_number(at, 1, 1);
        cr_assert(eq(int, record_read(slice_of(at, record_size(4)), &out),
                     STATUS_CORRUPT));
    }
}

/* ---- bodies ---- */

Test(record, ranges_come_back)
{
    const struct seq_range in[] = { { 1, 1 }, { 5, 9 }, { 7, 8 } };
    struct record_ranges ranges = { 3, 4, in, COUNT_OF(in) };
    struct ranges_reader out;
    struct bytes body = { 0 };

    cr_assert(eq(int, record_ranges_write(&body, &ranges), STATUS_OK));
    cr_assert(eq(int, ranges_read(slice_of(body.at, bytes_len(&body)), &out),
                 STATUS_OK));
    cr_assert(eq(u32, out.group, 3));
    cr_assert(eq(u32, out.topic, 4));
    cr_assert(eq(sz, out.count, COUNT_OF(in)));
    for (size_t i = 0; i < COUNT_OF(in); i++) {
        struct seq_range range = ranges_next(&out);
        cr_assert(eq(u64, range.first, in[i].first));
        cr_assert(eq(u64, range.last, in[i].last));
    }
    bytes_fini(&body);
}

Test(record, ranges_that_make_no_sense_are_corrupt)
{
    const struct seq_range bad[] = { { 0, 1 }, { 2, 1 }, { 1, UINT64_MAX } };

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct record_ranges ranges = { 3, 4, &bad[i], 1 };
        struct ranges_reader out;
        struct bytes body = { 0 };
        cr_assert(eq(int, record_ranges_write(&body, &ranges), STATUS_OK));
        cr_assert(eq(int,
                     ranges_read(slice_of(body.at, bytes_len(&body)), &out),
                     STATUS_CORRUPT));
        bytes_fini(&body);
    }
}

Test(record, retries_come_back)
{
    const struct retry in[] = { { 5, 2, 900 }, { 1, 1, 800 } };
    struct record_retries retries = { 3, 4, in, COUNT_OF(in) };
    struct retries_reader out;
    struct bytes body = { 0 };

    cr_assert(eq(int, record_retries_write(&body, &retries), STATUS_OK));
    cr_assert(eq(int, retries_read(slice_of(body.at, bytes_len(&body)), &out),
                 STATUS_OK));
    cr_assert(eq(sz, out.count, COUNT_OF(in)));
    for (size_t i = 0; i < COUNT_OF(in); i++) {
        struct retry retry = retries_next(&out);
        cr_assert(eq(u64, retry.seq, in[i].seq));
        cr_assert(eq(u32, retry.attempts, in[i].attempts));
        cr_assert(eq(u64, retry.due_us, in[i].due_us));
    }
    bytes_fini(&body);
}

Test(record, a_fact_comes_back)
{
    struct record_fact in = { CATALOG_GROUP, 12, false, slice_text("name"),
                              slice_text("value") };
    struct record_fact out;
    struct bytes body = { 0 };

    cr_assert(eq(int, record_fact_write(&body, &in), STATUS_OK));
    cr_assert(eq(int, fact_read(slice_of(body.at, bytes_len(&body)), &out),
                 STATUS_OK));
    cr_assert(eq(int, (int)out.class, CATALOG_GROUP));
    cr_assert(eq(u32, out.id, 12));
    cr_assert(not(out.deleted));
    cr_assert(slice_is(out.name, "name"));
    cr_assert(slice_is(out.value, "value"));
    bytes_fini(&body);
}

Test(record, a_trim_comes_back)
{
    struct record_trim in = { 12, 7, 9 };
    struct record_trim out;
    struct bytes body = { 0 };

    cr_assert(eq(int, record_trim_write(&body, &in), STATUS_OK));
    cr_assert(eq(int, trim_read(slice_of(body.at, bytes_len(&body)), &out),
                 STATUS_OK));
    cr_assert(eq(u32, out.topic, 12));
    cr_assert(eq(u64, out.first_seq, 7));
    cr_assert(eq(u64, out.floor_seq, 9));
    bytes_fini(&body);
}

Test(record, a_trim_that_makes_no_sense_is_corrupt)
{
    const struct record_trim bad[] = {
        { 0, 1, 1 }, { 1, 0, 1 }, { 1, 3, 2 }, { 1, 1, UINT64_MAX }
    };

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct record_trim out;
        struct bytes body = { 0 };
        cr_assert(eq(int, record_trim_write(&body, &bad[i]), STATUS_OK));
        cr_assert(eq(int, trim_read(slice_of(body.at, bytes_len(&body)), &out),
                     STATUS_CORRUPT),
                  "%zu", i);
        bytes_fini(&body);
    }
}

/* Whoever folds the same hashes in another order gets another sum. */
Test(record, a_receipt_depends_on_bytes_and_order)
{
    uint64_t first;
    uint64_t second;

    (void)write_sample(5);
    first = record_hash_at(at);
    (void)write_sample(6);
    second = record_hash_at(at);
    cr_assert(ne(u64, first, second));
    cr_assert(ne(u64, record_receipt(record_receipt(0, first), second),
                 record_receipt(record_receipt(0, second), first)));
    cr_assert(ne(u64, record_receipt(0, first), record_receipt(0, second)));
    cr_assert(
        ne(u64, record_receipt(0, 0), record_receipt(0, UINT64_C(1) << 63)));
}

typedef enum status (*read_fn)(struct slice body);

static enum status as_ranges(struct slice body)
{
    struct ranges_reader out;
    return ranges_read(body, &out);
}

static enum status as_retries(struct slice body)
{
    struct retries_reader out;
    return retries_read(body, &out);
}

static enum status as_fact(struct slice body)
{
    struct record_fact out;
    return fact_read(body, &out);
}

static enum status as_trim(struct slice body)
{
    struct record_trim out;
    return trim_read(body, &out);
}

/* One byte less and one byte more than a body are no body. */
static void check_len(struct bytes *body, read_fn read)
{
    size_t len = bytes_len(body);

    cr_assert(eq(int, bytes_append(body, "", 1), STATUS_OK));
    cr_assert(eq(int, read(slice_of(body->at, len + 1)), STATUS_CORRUPT));
    cr_assert(eq(int, read(slice_of(body->at, len)), STATUS_OK));
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, body->at, cut);
        cr_assert(eq(int, read(slice_of(exact, cut)), STATUS_CORRUPT));
        free(exact);
    }
    bytes_fini(body);
}

Test(record, a_body_has_exactly_its_length)
{
    struct seq_range range = { 1, 2 };
    struct retry retry = { 1, 1, 1 };
    struct record_ranges ranges = { 3, 4, &range, 1 };
    struct record_retries retries = { 3, 4, &retry, 1 };
    struct record_fact fact = { CATALOG_APP, 1, true, slice_text("n"),
                                slice_text("v") };
    struct record_trim trim = { 1, 2, 3 };
    struct bytes body = { 0 };

    cr_assert(eq(int, record_ranges_write(&body, &ranges), STATUS_OK));
    check_len(&body, as_ranges);
    cr_assert(eq(int, record_retries_write(&body, &retries), STATUS_OK));
    check_len(&body, as_retries);
    cr_assert(eq(int, record_fact_write(&body, &fact), STATUS_OK));
    check_len(&body, as_fact);
    cr_assert(eq(int, record_trim_write(&body, &trim), STATUS_OK));
    check_len(&body, as_trim);
}

Test(record, the_largest_body_of_ranges_fits)
{
    struct seq_range *all = calloc(RECORD_RANGES_MAX, sizeof *all);
    struct record_ranges ranges = { 1, 1, all, RECORD_RANGES_MAX };
    struct ranges_reader out;
    struct bytes body = { 0 };

    for (size_t i = 0; i < RECORD_RANGES_MAX; i++) {
        all[i] = (struct seq_range) { 2 * i + 1, 2 * i + 1 };
    }
    cr_assert(eq(int, record_ranges_write(&body, &ranges), STATUS_OK));
    cr_assert(
        eq(int, as_ranges(slice_of(body.at, bytes_len(&body))), STATUS_OK));
    cr_assert(eq(int, ranges_read(slice_of(body.at, bytes_len(&body)), &out),
                 STATUS_OK));
    cr_assert(eq(sz, out.count, RECORD_RANGES_MAX));
    /* one more, as only a disk could say */
    put_u32(body.at + 8, RECORD_RANGES_MAX + 1);
    cr_assert(eq(int, bytes_append(&body, "0123456789abcdef", 16), STATUS_OK));
    cr_assert(eq(int, as_ranges(slice_of(body.at, bytes_len(&body))),
                 STATUS_CORRUPT));
    bytes_fini(&body);
    free(all);
}

Test(record, more_ranges_than_the_bound_are_a_bug, .signal = SIGABRT)
{
    struct record_ranges ranges = { 1, 1, NULL, RECORD_RANGES_MAX + 1 };
    struct bytes body = { 0 };

    if (record_ranges_write(&body, &ranges) == STATUS_OK) {
        bytes_fini(&body);
    }
}
