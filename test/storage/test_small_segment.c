/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* A start on a full disk makes a segment that is smaller than what the log may
 * be told at once. Nothing of that is lost: it waits for the next one. */
#include "test/storage/harness.h"

#include "storage/record.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
    SEGMENT_LEN = 4 * 1024 * 1024,
    SMALL_LEN = 64 * 1024,
    RANGE_COUNT = 8192, /* 128 KiB in one record */
    GROUP = 7,
    TOPIC = 3
};

static struct harness h;
static struct vfs vfs;
static bool full;

static int allocate(const struct vfs *self, int fd, off_t len)
{
    (void)self;
    if (full && len > SMALL_LEN) {
        errno = ENOSPC;
        return -1;
    }
    return vfs_system()->allocate(vfs_system(), fd, len);
}

static uint64_t free_bytes(const struct vfs *self, const char *path)
{
    (void)self;
    (void)path;
    return full ? 0 : UINT64_C(1) << 36;
}

/* The store has started on a full disk: its segment is a small one. */
static void set_up(void)
{
    vfs = *vfs_system();
    vfs.allocate = allocate;
    vfs.free_bytes = free_bytes;
    full = false;
    harness_init(&h);
    h.config.vfs = &vfs;
    h.config.segment_len = SEGMENT_LEN;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    add_message(&h, TOPIC, "before");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    full = true;
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(small_segment, .init = set_up, .fini = tear_down, .timeout = 60);

/* One ack of every other number. */
static void add_sparse_ack(void)
{
    struct seq_range *ranges = calloc(RANGE_COUNT, sizeof *ranges);
    struct record_ranges acked = {
        .group = GROUP, .topic = TOPIC, .ranges = ranges, .count = RANGE_COUNT
    };
    struct record record = { .kind = RECORD_ACK };
    struct bytes body = { 0 };

    cr_assert(ne(ptr, ranges, NULL));
    for (uint64_t i = 0; i < RANGE_COUNT; i++) {
        ranges[i] = (struct seq_range) { 2 * i + 1, 2 * i + 1 };
    }
    cr_assert(eq(int, record_ranges_write(&body, &acked), STATUS_OK));
    record.body = slice_of(bytes_begin(&body), bytes_len(&body));
    memcpy(h.buffer + RECORD_HEADER_LEN, record.body.at, record.body.len);
    record_finish(h.buffer, &record);
    h.len = record_size(record.body.len);
    bytes_fini(&body);
    free(ranges);
}

static struct store_span span_of_buffer(void)
{
    return (struct store_span) { .at = h.buffer, .len = h.len };
}

/* As the journal and the keeper do it, a second later. */
static void space_is_back(void)
{
    full = false;
    h.now_us += 5 * 1000 * 1000;
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK), "%s",
              h.err.text);
}

static void count_ranges(void *arg, const struct store_lane *lane)
{
    *(size_t *)arg += seqset_range_count(lane->acked);
}

static size_t acked_ranges(void)
{
    size_t count = 0;

    cr_assert(
        eq(int, store_each_lane(h.store, count_ranges, &count), STATUS_OK));
    return count;
}

Test(small_segment, an_ack_that_does_not_fit_waits_for_a_larger_one)
{
    struct store_commit commit;
    struct store_span span;

    add_sparse_ack();
    for (int i = 0; i < 3; i++) {
        span = span_of_buffer();
        h.now_us += 1000 * 1000;
        cr_assert(eq(int,
                     store_append(h.store, &span, 1, h.now_us, &commit, &h.err),
                     STATUS_NO_SPACE));
        cr_assert(eq(sz, span.taken, 0));
        cr_assert(eq(u8, record_flags_at(h.buffer), 0));
    }
    space_is_back();
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    harness_kill(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(sz, acked_ranges(), RANGE_COUNT));
}

Test(small_segment, a_message_is_refused_only_while_there_is_no_space)
{
    struct store_commit commit;

    add_sized(&h, TOPIC, 2 * SMALL_LEN, 'x');
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u8, record_flags_at(h.buffer), RECORD_REFUSED));
    space_is_back();
    add_sized(&h, TOPIC, 2 * SMALL_LEN, 'x');
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u8, record_flags_at(h.buffer), 0));
    cr_assert(eq(u32, commit.record_count, 1));
}

Test(small_segment, what_is_moved_waits_too)
{
    struct store_commit commit;
    struct store_span span;

    add_sized(&h, TOPIC, 2 * SMALL_LEN, 'x');
    record_number(h.buffer, 1, h.now_us);
    span = span_of_buffer();
    cr_assert(eq(int,
                 store_append_merge(h.store, &span, h.now_us, &commit, &h.err),
                 STATUS_NO_SPACE));
    cr_assert(eq(sz, span.taken, 0));
    space_is_back();
    cr_assert(eq(int,
                 store_append_merge(h.store, &span, h.now_us, &commit, &h.err),
                 STATUS_OK),
              "%s", h.err.text);
    cr_assert(eq(sz, span.taken, span.len));
    cr_assert(eq(u32, commit.record_count, 1));
    h.len = 0;
}
