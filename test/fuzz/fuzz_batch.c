/* links: godwit_storage godwit_proto */
/* Any bytes as a batch and as record bodies. The checksums are put right first,
 * or nothing would get past them: what is left to guard are the lengths and
 * offsets of something that was closed properly and still makes no sense. */
#include "proto/check.h"
#include "storage/batch.h"
#include "storage/checksum.h"
#include "storage/histories.h"
#include "storage/lanes.h"

#include <stdlib.h>
#include <string.h>

enum { BEGIN = 4096, SEED = 7 };

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

static bool inside(const struct batch *batch, const uint8_t *at, size_t len)
{
    const uint8_t *begin = batch->base + batch->header.offset;

    return len == 0 || (at >= begin && at + len <= begin + batch->header.len);
}

static void close_header(uint8_t *at, size_t len)
{
    struct batch_header header = { .kind = get_u32(at + 12) % 2 == 0
                                               ? BATCH_RECORDS
                                               : BATCH_MERGE,
                                   .segment = 1,
                                   .offset = BEGIN,
                                   .len = get_u32(at + 52),
                                   .records_len = get_u32(at + 56),
                                   .record_count = get_u32(at + 60),
                                   .index_len = get_u32(at + 64) };
    uint64_t index = (uint64_t)BATCH_HEADER_LEN + header.records_len;

    if (index + header.index_len <= len) {
        header.index_hash = checksum_seeded(at + index, header.index_len, SEED);
    }
    batch_header_write(at, &header, SEED);
}

/* Whatever it says of a lane, the lane is one afterwards. */
static void apply_to_lane(struct slice body)
{
    for (int kind = RECORD_ACK; kind <= RECORD_KIND_LAST; kind++) {
        struct record record = { .kind = (enum record_kind)kind, .body = body };
        struct lane_image lane = { 0 };
        struct lane_record r;
        uint64_t last;
        if (lane_record_read(&record, &r) == STATUS_OK) {
            CHECK(lane_bury(&lane, (struct seq_range) { 3, 9 }) == STATUS_OK
                  && lane_record_apply(&lane, &r, 2, &last) == STATUS_OK);
            for (size_t i = 0; i < seqset_range_count(&lane.dead); i++) {
                CHECK(!seqset_has(&lane.acked,
                                  seqset_ranges(&lane.dead)[i].first));
            }
        }
        lane_fini(&lane);
    }
}

static void read_bodies(struct slice body)
{
    struct ranges_reader ranges;
    struct retries_reader retries;
    struct record_fact fact;
    struct record_trim trim;
    struct failed_reader failed;
    struct record_seek seek;
    struct store_failure failures[HISTORY_MAX];
    struct lane_image lane = { 0 };
    size_t count;

    if (ranges_read(body, &ranges) == STATUS_OK) {
        for (size_t i = 0; i < ranges.count; i++) {
            struct seq_range range = ranges_next(&ranges);
            CHECK(range.first > 0 && range.first <= range.last);
        }
        CHECK(!ranges.reader.failed);
    }
    if (retries_read(body, &retries) == STATUS_OK) {
        for (size_t i = 0; i < retries.count; i++) {
            (void)retries_next(&retries);
        }
        CHECK(!retries.reader.failed);
    }
    if (failed_read(body, &failed) == STATUS_OK) {
        for (size_t i = 0; i < failed.count; i++) {
            struct failure failure = failed_next(&failed);
            CHECK(failure.seq > 0 && failure.reason.len <= REASON_LEN_MAX);
        }
        CHECK(!failed.reader.failed && failed.reader.at == failed.reader.end);
    }
    if (seek_read(body, &seek) == STATUS_OK) {
        CHECK(seek.after < UINT64_MAX);
    }
    if (history_read(body, failures, HISTORY_MAX, &count)) {
        CHECK(count <= HISTORY_MAX);
    }
    apply_to_lane(body);
    if (fact_read(body, &fact) == STATUS_OK) {
        CHECK(fact.name.len + fact.value.len < body.len);
    }
    if (trim_read(body, &trim) == STATUS_OK) {
        CHECK(trim.topic != 0 && trim.first_seq <= trim.floor_seq);
    }
    if (lane_read(&lane, body) == STATUS_OK) {
        CHECK(seqset_range_count(&lane.acked) <= body.len);
    }
    lane_fini(&lane);
}

static void read_records(const struct batch *batch)
{
    struct slice record;
    uint32_t offset = 0;

    while (batch_next(batch, &offset, &record)) {
        struct record out;
        CHECK(inside(batch, record.at, record.len));
        if (record_read(record, &out) == STATUS_OK) {
            CHECK(inside(batch, out.body.at, out.body.len));
        }
    }
}

/* A batch that stands as it was closed vouches for what is in it, and for
 * nothing else. */
static void vouch(struct batch *batch)
{
    uint8_t *at = (uint8_t *)batch->base + batch->header.offset;
    uint64_t right = batch_records_hash(batch, SEED);
    uint32_t offset = 0;
    uint32_t count = 0;
    struct slice record;

    while (batch_next(batch, &offset, &record)) {
        count++;
    }
    batch->header.records_hash = right;
    batch_header_write(at, &batch->header, SEED);
    CHECK(batch_vouches_for_records(batch, SEED)
          == (offset != UINT32_MAX && count == batch->header.record_count));
    batch->header.records_hash = right + 1;
    CHECK(!batch_vouches_for_records(batch, SEED));
}

static void read_index(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->run_count; i++) {
        struct store_run run;
        if (batch_run(batch, i, &run) == STATUS_OK) {
            CHECK(
                inside(batch, batch->base + run.table, (size_t)run.count * 4));
        }
    }
    for (uint32_t i = 0; i < batch->visit_count; i++) {
        struct slice visit = batch_visit(batch, i);
        CHECK(inside(batch, visit.at, visit.len));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct batch_source source = { .segment = 1, .seed = SEED };
    struct batch batch;
    uint8_t *segment;

    read_bodies(slice_of(at, len));
    if (len < BATCH_HEADER_LEN || len > 1024 * 1024) {
        return 0;
    }
    segment = malloc(BEGIN + len);
    CHECK(segment != NULL);
    memset(segment, 0, BEGIN);
    memcpy(segment + BEGIN, at, len);
    close_header(segment + BEGIN, len);
    source.base = segment;
    source.limit = (uint32_t)(BEGIN + len);
    if (batch_read_header(&source, BEGIN, &batch) == STATUS_OK) {
        read_records(&batch);
    }
    if (batch_read(&source, BEGIN, &batch) == STATUS_OK) {
        read_index(&batch);
        vouch(&batch);
    }
    free(segment);
    return 0;
}
