/* links: godwit_offline godwit_storage godwit_proto */
/* Any bytes as a segment's batches, for the walk that the scrub and the offline
 * tools take. Checksums are put right first where the input says so, so that
 * whole batches with senseless records, indexes and chains come by as well. It
 * must end, tell of nothing outside the bytes, and never go back. */
#include "proto/check.h"
#include "storage/offline/books.h"
#include "storage/checksum.h"
#include "storage/examine.h"

#include <stdlib.h>
#include <string.h>

enum {
    BEGIN = 4096,
    SEED = 7,
    BATCHES_MAX = 8,
    CHUNK_LEN = 512,
    ID_MAX = 4096
};

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

/* What the input wants closed properly. */
enum wish { WISH_INDEX = 1, WISH_RECORDS = 2, WISH_CHAIN = 4, WISH_HASHES = 8 };

struct seen {
    struct books books;
    uint32_t limit;
    uint32_t records_at; /* of the batch at hand they only go forward */
};

static void close_records(uint8_t *at, uint32_t len)
{
    while (len >= RECORD_HEADER_LEN) {
        uint32_t size = get_u32(at);
        uint32_t padded = (size + RECORD_ALIGN - 1) & ~(RECORD_ALIGN - 1U);
        if (size < RECORD_HEADER_LEN || size > len || padded > len) {
            return;
        }
        put_u64(at + 48,
                checksum(at + RECORD_HEADER_LEN, size - RECORD_HEADER_LEN));
        put_u64(at + 56, checksum(at, 56));
        at += padded;
        len -= padded;
    }
}

/* Close the batch that begins at `at`, and say how long it is; 0: it has no
 * room for one. */
static uint32_t close_batch(uint8_t *base, uint32_t at, uint32_t limit,
                            uint64_t *previous)
{
    uint8_t *bytes = base + at;
    uint32_t wish = bytes[127];
    struct batch_header header = { .kind = 1 + get_u32(bytes + 12) % 3,
                                   .segment = 1,
                                   .offset = at,
                                   .epoch = 5,
                                   .records_len =
                                       get_u32(bytes + 56) % 2048 & ~7U,
                                   .record_count = bytes[60],
                                   .index_len =
                                       8 + (get_u32(bytes + 64) % 512 & ~7U) };
    struct batch batch = { .base = base };

    if (header.kind == BATCH_SEAL) {
        header.records_len = header.index_len = 0;
    }
    header.len = BATCH_HEADER_LEN + header.records_len + header.index_len;
    if (header.len > limit - at) {
        return 0;
    }
    if ((wish & WISH_RECORDS) != 0) {
        close_records(bytes + BATCH_HEADER_LEN, header.records_len);
    }
    if ((wish & WISH_INDEX) != 0) {
        header.index_hash =
            checksum_seeded(bytes + BATCH_HEADER_LEN + header.records_len,
                            header.index_len, SEED);
    }
    if ((wish & WISH_CHAIN) != 0) {
        header.previous = previous[1];
        header.number = previous[0] + 1;
    }
    batch.header = header;
    if ((wish & WISH_HASHES) != 0) {
        header.records_hash = batch_records_hash(&batch, SEED);
    }
    batch_header_write(bytes, &header, SEED);
    previous[0] = header.number;
    previous[1] = header.hash;
    return header.len;
}

/* Ids are given out one by one, and tables by id as long as that. */
static bool is_small(const struct record *record)
{
    uint32_t first = 0;
    uint32_t second = 0;

    if (record->kind != RECORD_MESSAGE && record->body.len >= 8) {
        first = get_u32(record->body.at);
        second = get_u32(record->body.at + 4);
    }
    if (record->kind == RECORD_CATALOG) {
        first = 0; /* its class; the id is the second */
    }
    return record->topic < ID_MAX && first < ID_MAX && second < ID_MAX;
}

static void on_record(void *arg, const struct batch *batch,
                      const struct record *record, uint32_t offset)
{
    struct seen *seen = arg;
    enum status status;

    CHECK(offset >= seen->records_at);
    CHECK(offset >= batch->header.offset + BATCH_HEADER_LEN);
    CHECK(record->body.at == batch->base + offset + RECORD_HEADER_LEN);
    CHECK((uint64_t)(record->body.at - batch->base) + record->body.len
          <= seen->limit);
    seen->records_at = offset + RECORD_HEADER_LEN;
    if (is_small(record)) {
        status = books_record(&seen->books, record, true);
        CHECK(status == STATUS_OK || status == STATUS_CORRUPT);
    }
}

static void on_damage(void *arg, const struct store_damage *damage)
{
    const struct seen *seen = arg;

    CHECK(damage->segment == 1 && damage->kind != DAMAGE_HEAD);
    CHECK((uint64_t)damage->offset + damage->len <= seen->limit);
}

static void on_topic(void *arg, const struct inspect_topic *topic)
{
    CHECK(topic->published == topic->present + topic->deleted + topic->missing);
    (void)arg;
}

static void on_lane(void *arg, const struct inspect_lane *lane)
{
    CHECK(!lane->balanced
          || lane->published
                 == lane->settled + lane->deleted + lane->missing
                        + lane->unsettled);
    (void)arg;
}

static void walk(uint8_t *base, uint32_t limit)
{
    struct seen seen = { .limit = limit };
    struct examine_visitor visitor = { .record = on_record,
                                       .damage = on_damage,
                                       .arg = &seen };
    struct examine e = { .source = { base, limit, 1, SEED },
                         .visitor = &visitor,
                         .at = BEGIN };
    enum examine_step step = EXAMINE_BATCH;

    while (step != EXAMINE_END) {
        uint32_t before = e.at;
        step = examine_next(&e);
        CHECK(e.at >= before && e.at <= limit);
        CHECK(step != EXAMINE_BATCH || e.at > before);
        if (step == EXAMINE_MORE) {
            CHECK(e.want > e.loaded && e.want <= limit);
            e.loaded =
                limit - e.loaded < CHUNK_LEN ? limit : e.loaded + CHUNK_LEN;
        }
    }
    CHECK(e.sealed || e.at == limit);
    books_each_topic(&seen.books, on_topic, NULL);
    CHECK(books_each_lane(&seen.books, on_lane, NULL) == STATUS_OK);
    books_fini(&seen.books);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    uint32_t limit = BEGIN + (uint32_t)(len < 65536 ? len : 65536);
    uint64_t previous[2] = { 0 };
    uint8_t *base = calloc(1, limit);
    uint32_t batch = BEGIN;

    if (base == NULL) {
        return 0;
    }
    memcpy(base + BEGIN, at, limit - BEGIN);
    for (int i = 0; i < BATCHES_MAX && limit - batch >= BATCH_HEADER_LEN; i++) {
        uint32_t size = close_batch(base, batch, limit, previous);
        if (size == 0) {
            break;
        }
        batch += size;
    }
    walk(base, limit);
    free(base);
    return 0;
}
