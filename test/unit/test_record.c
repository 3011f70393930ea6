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
    static const int kinds[] = { 0, RECORD_KIND_LAST + 1, 255 };
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

static struct slice failures_body(struct bytes *body, const struct failure *in,
                                  size_t count)
{
    struct record_failures failures = { 3, 4, in, count };

    cr_assert(eq(int, record_failed_write(body, &failures), STATUS_OK));
    return slice_of(body->at, bytes_len(body));
}

Test(record, failures_come_back)
{
    const struct failure in[] = {
        { 5, 900, 77, 2, CAUSE_NACK, false, slice_text("no such customer") },
        { 6, 0, 0, 20, CAUSE_LEASE, true, { 0 } },
        { UINT64_MAX - 1, 1, 1, 1, CAUSE_REJECT, true, slice_text("x") }
    };
    struct failed_reader out;
    struct bytes body = { 0 };

    cr_assert(eq(int, failed_read(failures_body(&body, in, COUNT_OF(in)), &out),
                 STATUS_OK));
    cr_assert(eq(u32, out.group, 3));
    cr_assert(eq(u32, out.topic, 4));
    cr_assert(eq(sz, out.count, COUNT_OF(in)));
    for (size_t i = 0; i < COUNT_OF(in); i++) {
        struct failure failure = failed_next(&out);
        cr_assert(eq(u64, failure.seq, in[i].seq));
        cr_assert(eq(u64, failure.due_us, in[i].due_us));
        cr_assert(eq(u64, failure.holder, in[i].holder));
        cr_assert(eq(u32, failure.attempts, in[i].attempts));
        cr_assert(eq(u8, failure.cause, in[i].cause));
        cr_assert(eq(int, failure.dead, in[i].dead));
        cr_assert(slice_equal(failure.reason, in[i].reason));
    }
    cr_assert(not(out.reader.failed));
    bytes_fini(&body);
}

Test(record, failures_that_make_no_sense_are_corrupt)
{
    static const struct {
        size_t at;
        uint8_t value;
        bool good;
    } bytes[] = {
        { FAILURES_HEAD_LEN, 6, true },       /* seq 6 instead of 5 */
        { FAILURES_HEAD_LEN, 0, false },      /* seq 0 */
        { FAILURES_HEAD_LEN + 28, 0, false }, /* cause */
        { FAILURES_HEAD_LEN + 28, CAUSE_REJECT, true },
        { FAILURES_HEAD_LEN + 28, CAUSE_REJECT + 1, false },
        { FAILURES_HEAD_LEN + 29, 1, true }, /* dead */
        { FAILURES_HEAD_LEN + 29, 2, false },
        { FAILURES_HEAD_LEN + 30, 1, false }, /* a reason that is not there */
        { 8, 0, false },                      /* none, and bytes behind it */
        { 8, 2, false },
    };
    const struct failure in = { .seq = 5, .attempts = 1, .cause = CAUSE_NACK };

    for (size_t i = 0; i < COUNT_OF(bytes); i++) {
        struct failed_reader out;
        struct bytes body = { 0 };
        struct slice all = failures_body(&body, &in, 1);
        body.at[bytes[i].at] = bytes[i].value;
        cr_assert(eq(int, failed_read(all, &out) == STATUS_OK, bytes[i].good),
                  "%zu", i);
        bytes_fini(&body);
    }
}

Test(record, the_most_failures_with_the_longest_reasons_fit)
{
    struct failure *all = calloc(RECORD_FAILURES_MAX + 1, sizeof *all);
    char reason[REASON_LEN_MAX + 1];
    struct failed_reader out;
    struct bytes body = { 0 };
    struct slice bytes;

    memset(reason, 'r', sizeof reason);
    for (size_t i = 0; i <= RECORD_FAILURES_MAX; i++) {
        all[i] =
            (struct failure) { .seq = i + 1,
                               .cause = CAUSE_NACK,
                               .reason = slice_of(reason, REASON_LEN_MAX) };
    }
    bytes = failures_body(&body, all, RECORD_FAILURES_MAX);
    cr_assert(eq(int, failed_read(bytes, &out), STATUS_OK));
    /* one more, as only a disk could say */
    put_u32(body.at + 8, RECORD_FAILURES_MAX + 1);
    cr_assert(eq(int,
                 bytes_append(&body, body.at + FAILURES_HEAD_LEN,
                              FAILURE_LEN_MIN + REASON_LEN_MAX),
                 STATUS_OK));
    cr_assert(eq(int, failed_read(slice_of(body.at, bytes_len(&body)), &out),
                 STATUS_CORRUPT));
    bytes_fini(&body);
    /* a reason one longer, the same */
    bytes = failures_body(&body, all, 1);
    put_u16(body.at + FAILURES_HEAD_LEN + 30, REASON_LEN_MAX + 1);
    cr_assert(eq(int, bytes_append(&body, "r", 1), STATUS_OK));
    cr_assert(eq(int, failed_read(slice_of(body.at, bytes_len(&body)), &out),
                 STATUS_CORRUPT));
    bytes_fini(&body);
    free(all);
}

Test(record, more_failures_than_the_bound_are_a_bug, .signal = SIGABRT)
{
    struct record_failures failures = { 1, 1, NULL, RECORD_FAILURES_MAX + 1 };
    struct bytes body = { 0 };

    if (record_failed_write(&body, &failures) == STATUS_OK) {
        bytes_fini(&body);
    }
}

Test(record, a_seek_comes_back)
{
    const uint64_t afters[] = { 0, 1, UINT64_MAX - 1, UINT64_MAX };

    for (size_t i = 0; i < COUNT_OF(afters); i++) {
        struct record_seek in = { 3, 4, afters[i] };
        struct record_seek out;
        struct bytes body = { 0 };
        cr_assert(eq(int, record_seek_write(&body, &in), STATUS_OK));
        cr_assert(eq(int, seek_read(slice_of(body.at, bytes_len(&body)), &out),
                     afters[i] == UINT64_MAX ? STATUS_CORRUPT : STATUS_OK));
        cr_assert(eq(u32, out.group, 3));
        cr_assert(eq(u32, out.topic, 4));
        cr_assert(eq(u64, out.after, afters[i]));
        bytes_fini(&body);
    }
}

/* Of every kind: who it speaks of, and that half a body is none. */
Test(record, of_any_kind_says_whom_it_speaks_of)
{
    const struct seq_range range = { 1, 2 };
    const struct retry retry = { 1, 1, 1 };
    const struct failure failure = { .seq = 1, .cause = CAUSE_GONE };
    const struct record_ranges ranges = { 3, 4, &range, 1 };
    const struct record_retries retries = { 3, 4, &retry, 1 };
    const struct record_failures failures = { 3, 4, &failure, 1 };
    const struct record_seek seek = { 3, 4, 9 };

    for (int kind = RECORD_ACK; kind <= RECORD_KIND_LAST; kind++) {
        struct record record = { .kind = (enum record_kind)kind };
        struct bytes body = { 0 };
        enum status status = STATUS_OK;
        if (kind == RECORD_CATALOG || kind == RECORD_TRIM) {
            continue; /* their own tests */
        }
        if (kind == RECORD_RETRY) {
            status = record_retries_write(&body, &retries);
        } else if (kind == RECORD_FAILED) {
            status = record_failed_write(&body, &failures);
        } else if (kind == RECORD_SEEK) {
            status = record_seek_write(&body, &seek);
        } else {
            status = record_ranges_write(&body, &ranges);
        }
        cr_assert(eq(int, status, STATUS_OK));
        record.body = slice_of(body.at, bytes_len(&body));
        cr_assert(record_body_whole(&record), "kind %d", kind);
        cr_assert(eq(u32, record_group(&record), 3));
        cr_assert(eq(u32, record_topic(&record), 4));
        record.body.len--;
        cr_assert(not(record_body_whole(&record)), "kind %d", kind);
        cr_assert(eq(u32, record_group(&record), 0));
        cr_assert(eq(u32, record_topic(&record), 0));
        bytes_fini(&body);
    }
}

Test(record, facts_and_trims_say_their_topic)
{
    const struct record_fact fact = { CATALOG_TOPIC, 12, true, slice_text("n"),
                                      slice_text("v") };
    const struct record_fact app = { CATALOG_APP, 12, true, slice_text("n"),
                                     slice_text("v") };
    const struct record_trim trim = { 13, 2, 3 };
    struct record record = { .kind = RECORD_CATALOG };
    struct bytes body = { 0 };

    cr_assert(eq(int, record_fact_write(&body, &fact), STATUS_OK));
    record.body = slice_of(body.at, bytes_len(&body));
    cr_assert(record_body_whole(&record));
    cr_assert(eq(u32, record_topic(&record), 12));
    bytes_consume(&body, bytes_len(&body));
    cr_assert(eq(int, record_fact_write(&body, &app), STATUS_OK));
    record.body = slice_of(body.at, bytes_len(&body));
    cr_assert(eq(u32, record_topic(&record), 0));
    bytes_consume(&body, bytes_len(&body));
    cr_assert(eq(int, record_trim_write(&body, &trim), STATUS_OK));
    record.kind = RECORD_TRIM;
    record.body = slice_of(body.at, bytes_len(&body));
    cr_assert(eq(u32, record_topic(&record), 13));
    record.body.len--;
    cr_assert(not(record_body_whole(&record)));
    cr_assert(eq(u32, record_topic(&record), 0));
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

static enum status as_failed(struct slice body)
{
    struct failed_reader out;
    return failed_read(body, &out);
}

static enum status as_seek(struct slice body)
{
    struct record_seek out;
    return seek_read(body, &out);
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
    struct failure failure = { .seq = 1,
                               .cause = CAUSE_NACK,
                               .reason = slice_text("why") };
    struct record_failures failures = { 3, 4, &failure, 1 };
    struct record_seek seek = { 3, 4, 5 };
    struct bytes body = { 0 };

    cr_assert(eq(int, record_failed_write(&body, &failures), STATUS_OK));
    check_len(&body, as_failed);
    cr_assert(eq(int, record_seek_write(&body, &seek), STATUS_OK));
    check_len(&body, as_seek);
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

Test(record, every_cause_has_a_word)
{
    cr_assert_str_eq(failure_cause_word(CAUSE_NACK), "nack");
    cr_assert_str_eq(failure_cause_word(CAUSE_LEASE), "lease");
    cr_assert_str_eq(failure_cause_word(CAUSE_GONE), "gone");
    cr_assert_str_eq(failure_cause_word(CAUSE_REJECT), "reject");
    cr_assert_str_eq(failure_cause_word(0), "unknown");
    cr_assert_str_eq(failure_cause_word(CAUSE_REJECT + 1), "unknown");
}
