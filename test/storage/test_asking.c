/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* Nothing of the mapped log is read that was not asked for before: a bad sector
 * gives an error then, and no signal. Here a page can be read only once it was
 * asked for. And of messages that nobody reads the bodies are not asked for:
 * that costs more than all else that is done with a commit. */
#include "test/storage/harness.h"

#include "proto/check.h"
#include "storage/internal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TOPIC = 3, OTHER = 4, GROUP = 5, LONG = 17000 };

static struct harness h;
static struct vfs vfs;
static const uint8_t *bad; /* the page with this byte does not read */

static void *map_shut(const struct vfs *table, int fd, size_t len)
{
    (void)table;
    return mmap(NULL, len, PROT_NONE, MAP_SHARED, fd, 0);
}

static int open_pages(const struct vfs *table, const void *at, size_t len)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)at & ~(page - 1);
    uintptr_t to = ((uintptr_t)at + len + page - 1) & ~(page - 1);

    (void)table;
    if (bad != NULL && (uintptr_t)bad >= from && (uintptr_t)bad < to) {
        errno = EFAULT;
        return -1;
    }
    return mprotect((void *)from, to - from, PROT_READ);
}

static void set_up(void)
{
    harness_init(&h);
    vfs = *vfs_system();
    vfs.map = map_shut;
    vfs.touch = open_pages;
    bad = NULL;
    h.config.vfs = &vfs;
    h.config.segment_len = 4 * 1024 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

static void tear_down(void)
{
    bad = NULL;
    harness_fini(&h);
}

TestSuite(asking, .init = set_up, .fini = tear_down, .timeout = 60);

/* The system reads the byte for us, and says so when it cannot. */
static bool is_open(const uint8_t *at)
{
    int ends[2];
    bool open;

    CHECK(pipe(ends) == 0);
    open = write(ends[1], at, 1) == 1;
    CHECK(open || errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return open;
}

static const uint8_t *place(const struct store_commit *commit, uint32_t at)
{
    return log_segment(&h.store->log, commit->segment)->map + commit->offset
           + at;
}

static void add_some_of_all(size_t len)
{
    add_fact(&h, CATALOG_TOPIC, TOPIC, "topic", "value", false);
    for (int i = 0; i < 5; i++) {
        add_sized(&h, TOPIC, len, 'x');
        add_sized(&h, OTHER, len / 2, 'y');
    }
    add_ack(&h, GROUP, TOPIC, 1, 3);
    add_fact(&h, CATALOG_GROUP, GROUP, "group", "value", false);
    add_retry(&h, GROUP, TOPIC, (struct retry) { .seq = 4, .attempts = 1 });
}

static void append_and_sync(struct store_commit *commit)
{
    cr_assert(eq(int, harness_append(&h, commit), STATUS_OK), "%s", h.err.text);
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
}

static void check_messages(size_t len, uint64_t from, uint64_t to)
{
    struct record record;

    for (uint64_t seq = from; seq <= to; seq++) {
        cr_assert(
            eq(int, message_at(&h, TOPIC, seq, &record, NULL), STATUS_OK));
        cr_assert(eq(sz, record.body.len, len));
        cr_assert(
            eq(int, message_at(&h, OTHER, seq, &record, NULL), STATUS_OK));
        cr_assert(eq(sz, record.body.len, len / 2));
    }
}

Test(asking, comes_before_reading_in_a_life_with_messages_of_any_length)
{
    static const size_t lens[] = { 10, 900, 4000, 8200, LONG, 70000 };
    uint64_t seq = 0;

    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        struct store_commit commit;
        add_some_of_all(lens[i]);
        cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
        check_messages(lens[i], seq + 1, seq + 5);
        cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK));
        check_messages(lens[i], seq + 1, seq + 5);
        add_some_of_all(lens[i]);
        append_and_sync(&commit); /* closing takes note of it */
        harness_reopen(&h);
        check_messages(lens[i], seq + 1, seq + 10);
        seq += 10;
    }
}

/* Also shows that pages nobody asked for are shut. */
Test(asking, leaves_out_the_bodies_of_messages)
{
    struct store_commit commit;
    uint32_t body = BATCH_HEADER_LEN + RECORD_HEADER_LEN + LONG / 2;
    struct record record;

    add_sized(&h, TOPIC, LONG, 'x');
    add_sized(&h, TOPIC, LONG, 'x');
    add_fact(&h, CATALOG_TOPIC, TOPIC, "topic", "value", false);
    append_and_sync(&commit);
    cr_assert(not(is_open(place(&commit, 0))));
    cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
    cr_assert(is_open(place(&commit, 0)));
    cr_assert(is_open(place(&commit, commit.len - 1)));
    cr_assert(not(is_open(place(&commit, body))));
    cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
    cr_assert(not(is_open(place(&commit, body))));
    cr_assert(eq(int, message_at(&h, TOPIC, 1, &record, NULL), STATUS_OK));
    cr_assert(is_open(place(&commit, body)));
}

/* Where the bad byte is, and what the view and the keeper say of the commit. */
static void check_bad(uint32_t at, struct store_commit *commit,
                      enum status for_view, enum status for_keeper)
{
    bad = place(commit, at);
    cr_assert(eq(int, store_view_commit(h.view, commit, NULL), for_view));
    cr_assert(eq(int, store_apply(h.store, commit), for_keeper));
    cr_assert(eq(int, store_frozen(h.store), for_keeper != STATUS_OK));
    bad = NULL;
}

static struct store_commit two_and_a_fact(void)
{
    struct store_commit commit;

    add_sized(&h, TOPIC, LONG, 'x');
    add_sized(&h, TOPIC, LONG, 'x');
    add_fact(&h, CATALOG_TOPIC, TOPIC, "topic", "value", false);
    add_sized(&h, TOPIC, LONG, 'x');
    append_and_sync(&commit);
    return commit;
}

Test(asking, a_bad_body_is_nothing_to_who_does_not_read_it)
{
    struct store_commit commit = two_and_a_fact();

    check_bad(LONG / 2, &commit, STATUS_OK, STATUS_OK);
}

Test(asking, a_bad_batch_header_is_an_error)
{
    struct store_commit commit = two_and_a_fact();

    check_bad(0, &commit, STATUS_IO, STATUS_IO);
}

Test(asking, a_bad_index_is_an_error)
{
    struct store_commit commit = two_and_a_fact();

    check_bad(commit.len - 1, &commit, STATUS_IO, STATUS_IO);
}

Test(asking, a_bad_head_of_a_message_concerns_the_keeper)
{
    struct store_commit commit = two_and_a_fact();

    check_bad(BATCH_HEADER_LEN + (uint32_t)record_size(LONG), &commit,
              STATUS_OK, STATUS_IO);
}

Test(asking, a_bad_fact_is_an_error)
{
    struct store_commit commit = two_and_a_fact();

    check_bad(BATCH_HEADER_LEN + 2 * (uint32_t)record_size(LONG), &commit,
              STATUS_IO, STATUS_IO);
}
