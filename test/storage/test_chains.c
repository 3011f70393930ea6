/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* All-or-nothing batches: messages that are chained with RECORD_MORE stand in
 * one batch of the log, or none of them does. */
#include "storage/batch.h"
#include "storage/block.h"
#include "storage/checksum.h"
#include "storage/internal.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOPIC = 4, BUFFER_LEN = 8 * 1024 * 1024 };

static struct harness h;

static void set_up(void)
{
    harness_init(&h);
    free(h.buffer);
    h.buffer = aligned_alloc(64, BUFFER_LEN);
    CHECK(h.buffer != NULL);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(chains, .init = set_up, .fini = tear_down, .timeout = 60);

/* With segments that hold the longest one. */
static void use_long_segments(void)
{
    harness_fini(&h);
    harness_init(&h);
    free(h.buffer);
    h.buffer = aligned_alloc(64, BUFFER_LEN);
    CHECK(h.buffer != NULL);
    h.config.segment_len = SEGMENT_MIB_MIN * 1024 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

struct link {
    size_t len;
    uint64_t producer, number;
    bool more;
};

/* A record at the end of the buffer; its place. */
static uint8_t *add_link(struct link link)
{
    struct record record = { .kind = RECORD_MESSAGE,
                             .flags = link.more ? RECORD_MORE : 0,
                             .topic = TOPIC,
                             .app = 1,
                             .producer = link.producer,
                             .producer_seq = link.number };
    uint8_t *at = h.buffer + h.len;

    CHECK(h.len + record_size(link.len) <= BUFFER_LEN);
    memset(at + RECORD_HEADER_LEN, 'c', link.len);
    record.body = slice_of(at + RECORD_HEADER_LEN, link.len);
    record_finish(at, &record);
    h.len += record_size(link.len);
    return at;
}

static void add_chain(unsigned count, size_t len)
{
    for (unsigned i = 1; i <= count; i++) {
        (void)add_link((struct link) { .len = len, .more = i < count });
    }
}

/* One batch; what is left of the buffer stays. */
static enum status append_some(struct store_commit *commit)
{
    struct store_span span = { .at = h.buffer, .len = h.len };
    enum status status;

    h.now_us += 1000;
    status = store_append(h.store, &span, 1, h.now_us, commit, &h.err);
    memmove(h.buffer, h.buffer + span.taken, h.len - span.taken);
    h.len -= span.taken;
    if (status == STATUS_OK && commit->record_count > 0) {
        cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
        cr_assert(eq(int, store_apply(h.store, commit), STATUS_OK));
    }
    return status;
}

/* Flags of the record that was at this place when all was taken at once. */
static void expect_flags(size_t at, uint8_t flags)
{
    cr_assert(eq(u8, record_flags_at(h.buffer + at), flags), "at %zu", at);
}

Test(chains, stand_in_one_batch_wherever_they_come)
{
    unsigned rolled = 0;

    for (unsigned i = 0; i < 200; i++) {
        struct store_commit commit;
        unsigned filler = i % 7;
        h.len = 0;
        for (unsigned k = 0; k < filler; k++) {
            (void)add_link((struct link) { .len = 900 + i });
        }
        add_chain(9, 700);
        cr_assert(eq(int, append_some(&commit), STATUS_OK));
        if (h.len > 0) { /* all of it is in the next one */
            uint32_t first = commit.record_count;
            cr_assert(le(u32, first, filler));
            rolled++;
            cr_assert(eq(int, append_some(&commit), STATUS_OK));
            cr_assert(eq(u32, first + commit.record_count, filler + 9));
            cr_assert(eq(sz, h.len, 0));
        } else {
            cr_assert(eq(u32, commit.record_count, filler + 9));
        }
    }
    cr_assert(gt(uint, rolled, 3));
    harness_kill(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
}

Test(chains, are_refused_whole_when_there_is_no_space)
{
    struct store_commit commit;
    uint64_t before = last_seq(&h, TOPIC);

    atomic_store(&h.store->keydir_low, true);
    add_chain(5, 40);
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 0));
    for (unsigned i = 0; i < 5; i++) {
        expect_flags(i * record_size(40),
                     RECORD_REFUSED | (i < 4 ? RECORD_MORE : 0));
    }
    cr_assert(eq(u64, last_seq(&h, TOPIC), before));
    atomic_store(&h.store->keydir_low, false);
    add_chain(5, 40);
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 5));
}

/* How many records of the one chain in the buffer were written. */
static uint32_t written(void)
{
    struct store_commit commit;
    size_t len = h.len;
    uint32_t count = 0;

    while (len > 0) {
        cr_assert(eq(int, append_some(&commit), STATUS_OK), "%s", h.err.text);
        cr_assert(lt(sz, h.len, len));
        len = h.len;
        count += commit.record_count;
    }
    return count;
}

Test(chains, of_the_greatest_length_are_taken_and_no_longer_ones)
{
    enum { PART = 64 * 1024 - RECORD_HEADER_LEN };
    unsigned count = ATOMIC_LEN_MAX / (PART + RECORD_HEADER_LEN);

    use_long_segments();
    add_chain(count, PART);
    cr_assert(eq(sz, h.len, ATOMIC_LEN_MAX));
    cr_assert(eq(u32, written(), count));
    for (unsigned i = 1; i < count; i++) {
        (void)add_link((struct link) { .len = PART, .more = true });
    }
    (void)add_link((struct link) { .len = PART + 1 }); /* 8 with its padding */
    cr_assert(eq(u32, written(), 0));
    add_chain(1, PART);
    cr_assert(eq(u32, written(), 1));
}

Test(chains, of_the_most_messages_are_taken_and_no_more)
{
    use_long_segments();
    add_chain(PUBLISH_COUNT_MAX, 8);
    cr_assert(eq(u32, written(), PUBLISH_COUNT_MAX));
    add_chain(PUBLISH_COUNT_MAX + 1, 8);
    cr_assert(eq(u32, written(), 0));
}

/* Only a bug would send such ones. */
Test(chains, that_no_segment_holds_or_without_an_end_are_refused)
{
    struct store_commit commit;

    add_chain(100, 1000); /* segments of the tests are short */
    cr_assert(eq(u32, written(), 0));
    (void)add_link((struct link) { .len = 40, .more = true });
    (void)add_link((struct link) { .len = 40, .more = true });
    cr_assert(eq(u32, written(), 0));
    (void)add_link((struct link) { .len = 40, .more = true });
    add_ack(&h, 1, TOPIC, 1, 1); /* is no message: it is not refused */
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 1));
    expect_flags(0, RECORD_MORE | RECORD_REFUSED);
}

/* The flag of each record as the log has it. */
static void flags_on_disk(const struct store_commit *commit, uint8_t *flags)
{
    struct batch_source source = segment_source(
        log_segment(&h.store->log, commit->segment), &h.store->log);
    struct batch batch;
    struct slice bytes;
    uint32_t at = 0;
    size_t i = 0;

    cr_assert(eq(int, batch_read(&source, commit->offset, &batch), STATUS_OK));
    cr_assert(batch_whole(&batch, h.store->log.store_id));
    while (batch_next(&batch, &at, &bytes)) {
        struct record record;
        cr_assert(eq(int, record_read(bytes, &record), STATUS_OK));
        flags[i++] = record.flags;
    }
}

Test(chains, end_with_the_last_one_that_is_new)
{
    struct store_commit commit;
    uint8_t flags[8] = { 0 };

    (void)add_link((struct link) { 30, 77, 1, false });
    (void)add_link((struct link) { 30, 77, 2, false });
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    (void)add_link((struct link) { 30, 77, 2, true });
    (void)add_link((struct link) { 30, 77, 3, true });
    (void)add_link((struct link) { 30, 77, 4, true });
    (void)add_link((struct link) { 30, 77, 4, true }); /* twice in itself */
    (void)add_link((struct link) { 30, 77, 1, false });
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 2));
    expect_flags(0, RECORD_DUPLICATE | RECORD_MORE);
    expect_flags(record_size(30), RECORD_MORE);
    expect_flags(2 * record_size(30), 0);
    expect_flags(3 * record_size(30), RECORD_DUPLICATE | RECORD_MORE);
    expect_flags(4 * record_size(30), RECORD_DUPLICATE);
    flags_on_disk(&commit, flags);
    cr_assert(eq(u8, flags[0], RECORD_MORE));
    cr_assert(eq(u8, flags[1], 0));
}

/* Others fill every batch; after one or two it is the chain's turn. */
Test(chains, wait_for_nobody_for_long)
{
    enum { PART = 64 * 1024 - RECORD_HEADER_LEN, OTHERS = 60 };
    uint8_t *others = aligned_alloc(64, (size_t)OTHERS * 65536);
    size_t len;
    unsigned batches = 0;
    bool taken = false;

    use_long_segments();
    CHECK(others != NULL);
    add_chain(OTHERS, PART);
    len = h.len;
    memcpy(others, h.buffer, len);
    for (size_t at = 0; at < len; at += record_size_at(others + at)) {
        others[at + 5] = 0; /* not chained */
    }
    h.len = 0;
    add_chain(ATOMIC_LEN_MAX / 65536, PART);
    while (!taken) {
        struct store_span spans[2] = { { .at = h.buffer, .len = h.len },
                                       { .at = others, .len = len } };
        struct store_commit commit;
        cr_assert(lt(uint, batches++, 4));
        cr_assert(eq(int,
                     store_append(h.store, spans, 2, h.now_us, &commit, &h.err),
                     STATUS_OK));
        cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
        cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
        cr_assert(spans[0].taken == 0 || spans[0].taken == h.len);
        taken = spans[0].taken > 0;
    }
    free(others);
}

/* ---- a store that did split one ---- */

enum { AT_RECORDS_HASH = 104, AT_HASH = 120, AT_RECORD_HASH = 56 };

/* The only record of that batch says that another belongs to it. */
static void break_chain(const struct store_commit *commit, uint64_t store_id)
{
    uint8_t bytes[4096];
    uint8_t *record = bytes + BATCH_HEADER_LEN;
    char path[600];
    int fd;

    CHECK(commit->len <= sizeof bytes);
    segment_file(&h, commit->segment, path, sizeof path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(pread(fd, bytes, commit->len, commit->offset)
          == (ssize_t)commit->len);
    record[5] |= RECORD_MORE;
    put_u64(record + AT_RECORD_HASH, checksum(record, AT_RECORD_HASH));
    put_u64(bytes + AT_RECORDS_HASH,
            checksum_seeded(record + AT_RECORD_HASH, 8, store_id));
    put_u64(bytes + AT_HASH, checksum_seeded(bytes, AT_HASH, store_id));
    CHECK(pwrite(fd, bytes, commit->len, commit->offset)
          == (ssize_t)commit->len);
    close(fd);
}

/* Two batches behind the last sync; the last one is half a chain, or not. */
static void die_with_two(bool broken)
{
    struct store_commit commit;
    uint64_t store_id = h.store->log.store_id;

    for (int i = 0; i < 2; i++) {
        (void)add_link((struct link) { .len = 40 });
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    }
    harness_kill(&h);
    if (broken) {
        break_chain(&commit, store_id);
    }
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
}

Test(chains, half_of_one_at_the_end_is_cut)
{
    die_with_two(false);
    cr_assert(eq(u64, h.recovery.rescued_records, 2));
    cr_assert(eq(u64, last_seq(&h, TOPIC), 2));
    die_with_two(true);
    cr_assert(eq(u64, h.recovery.rescued_records, 1));
    cr_assert(gt(u64, h.recovery.torn_bytes, 0));
    cr_assert(eq(u64, last_seq(&h, TOPIC), 3));
    harness_reopen(&h);
    cr_assert(eq(u64, last_seq(&h, TOPIC), 3));
}
