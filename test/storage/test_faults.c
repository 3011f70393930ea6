/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/faulty_vfs.c */

/* Fail the 1st, 2nd, 3rd... file call of a whole life in turn, until one life
 * passes untouched. What was synced must be there after the next start; what
 * failed may be there or not, but nothing else may. */
#include "test/lib/faulty_vfs.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The calls that are made again when a signal interrupts them. */
enum {
    RESUMED = FAULTY_OPEN | FAULTY_ALLOCATE | FAULTY_WRITE | FAULTY_READ
              | FAULTY_SYNC | FAULTY_TRUNCATE | FAULTY_SYNC_DIR
};

enum { TOPIC = 3, GROUP = 5, STEPS = 24, BODY_LEN = 2500 };

static struct harness h;
static struct faulty_vfs faulty;

static void set_up(void)
{
    harness_init(&h);
    faulty_vfs_init(&faulty);
    h.config.vfs = &faulty.vfs;
    h.config.segment_len = 32 * 1024;
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(faults, .init = set_up, .fini = tear_down, .timeout = 280);

/* ---- a life ---- */

struct life {
    uint64_t confirmed; /* messages 1..confirmed were synced */
    uint64_t acked;     /* and acks 1..acked */
    uint64_t tried;     /* messages handed to the store */
};

static void body_of(uint64_t number, char body[BODY_LEN])
{
    memset(body, 'a' + (char)(number % 26), BODY_LEN - 1);
    body[BODY_LEN - 1] = '\0';
    (void)snprintf(body, 32, "%llu", (unsigned long long)number);
    body[strlen(body)] = ' ';
}

/* One message and one ack. False: the store has stopped. */
static bool step(struct life *life)
{
    char body[BODY_LEN];
    struct store_commit commit;
    enum status status;

    body_of(life->tried + 1, body);
    add_message(&h, TOPIC, body);
    add_ack(&h, GROUP, TOPIC, life->tried + 1, life->tried + 1);
    life->tried++;
    status = harness_append(&h, &commit);
    if (status == STATUS_OK && commit.record_count == 2) {
        status = store_sync(h.store, &h.err);
        if (status == STATUS_OK) {
            life->confirmed = life->tried;
            life->acked = life->tried;
            status = store_view_commit(h.view, &commit, NULL);
            cr_assert(eq(int, status, STATUS_OK));
            status = store_apply(h.store, &commit);
            cr_assert(eq(int, status, STATUS_OK));
        }
    } else if (status == STATUS_OK) {
        return false; /* refused for want of space: this life ends */
    }
    if (status == STATUS_IO) {
        cr_assert(store_frozen(h.store));
        add_message(&h, TOPIC, "after");
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_FROZEN));
        cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_FROZEN));
    }
    return status == STATUS_OK;
}

static bool keep(uint64_t i)
{
    enum status status = STATUS_OK;

    if (i % 3 == 1) {
        status = store_prepare(h.store, &h.err);
    }
    if (i % 8 == 5) {
        enum status checkpoint = store_checkpoint(h.store, &h.err);
        status = checkpoint == STATUS_OK ? status : checkpoint;
    }
    return status == STATUS_OK || status == STATUS_NO_SPACE;
}

static void live(struct life *life)
{
    for (int part = 0; part < 2; part++) {
        bool going = harness_open(&h) == STATUS_OK;
        if (!going) {
            cr_assert(gt(sz, strlen(h.err.text), 0));
            return;
        }
        for (uint64_t i = 0; i < STEPS / 2 && going; i++) {
            going = step(life) && keep(i);
        }
        harness_close(&h);
        if (!going) {
            return;
        }
    }
}

static void check(const struct life *life, const char *what, unsigned nth)
{
    char expected[BODY_LEN];
    char lane[64];
    enum status status = harness_open(&h);

    cr_assert(eq(int, status, STATUS_OK), "%s %u: open: %s", what, nth,
              h.err.text);
    cr_assert(ge(u64, last_seq(&h, TOPIC), life->confirmed), "%s %u", what,
              nth);
    cr_assert(le(u64, last_seq(&h, TOPIC), life->tried), "%s %u", what, nth);
    cr_assert(eq(u64, h.recovery.damaged_bytes, 0), "%s %u", what, nth);
    for (uint64_t seq = 1; seq <= last_seq(&h, TOPIC); seq++) {
        body_of(seq, expected);
        cr_assert(eq(str, (char *)message_text(&h, TOPIC, seq), expected),
                  "%s %u: message %d", what, nth, (int)seq);
    }
    if (life->acked > 0) {
        unsigned long long last =
            strtoull(lane_text(&h, GROUP, TOPIC) + 2, NULL, 10);
        snprintf(lane, sizeof lane, "1-%llu", last);
        cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), lane), "%s %u",
                  what, nth);
        cr_assert(ge(u64, last, life->acked), "%s %u", what, nth);
    }
    add_message(&h, TOPIC, "goes on");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s %u", what, nth);
}

static void wipe(void)
{
    harness_close(&h);
    tmpdir_remove(h.dir);
    cr_assert(eq(int, mkdir(h.dir, 0700), 0));
}

/* `calls`: which may fail. `harmless`: a life with the fault is a whole one. */
static void sweep(const char *what, unsigned calls, int error, bool sticky,
                  bool harmless)
{
    unsigned nth = 0;

    do {
        struct life life = { 0 };
        nth++;
        faulty_vfs_arm(&faulty,
                       (struct faulty_plan) { calls, nth, sticky, error });
        live(&life);
        faulty_vfs_disarm(&faulty);
        check(&life, what, nth);
        if (faulty.fired == 0 || harmless) {
            cr_assert(eq(u64, life.confirmed, STEPS), "%s: untouched", what);
        }
        wipe();
    } while (faulty.fired > 0);
    cr_assert(gt(u32, nth, 20), "%s: only %u calls", what, nth);
    fprintf(stderr, "%s: %u lives\n", what, nth);
}

Test(faults, eio_once)
{
    sweep("EIO", FAULTY_ALL, EIO, false, false);
}

Test(faults, eio_for_good)
{
    sweep("EIO for good", FAULTY_ALL, EIO, true, false);
}

Test(faults, enospc_once)
{
    sweep("ENOSPC", FAULTY_ALL, ENOSPC, false, false);
}

Test(faults, enospc_for_good)
{
    sweep("ENOSPC for good", FAULTY_ALL, ENOSPC, true, false);
}

Test(faults, emfile_for_good)
{
    sweep("EMFILE for good", FAULTY_ALL, EMFILE, true, false);
}

/* Interrupted once is as if nothing had been. */
Test(faults, eintr_once)
{
    sweep("EINTR", RESUMED, EINTR, false, true);
}

Test(faults, eintr_for_good)
{
    sweep("EINTR for good", FAULTY_ALL, EINTR, true, false);
}

Test(faults, short_once)
{
    sweep("short", FAULTY_ALL, 0, false, true);
}

Test(faults, short_for_good)
{
    struct life life = { 0 };

    faulty_vfs_arm(&faulty, (struct faulty_plan) { FAULTY_ALL, 1, true, 0 });
    live(&life);
    cr_assert(eq(u64, life.confirmed, STEPS));
    faulty_vfs_disarm(&faulty);
    check(&life, "all short", 1);
}

/* ---- single promises ---- */

Test(faults, the_first_sync_error_is_final)
{
    struct store_commit commit;

    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    add_message(&h, TOPIC, "a");
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    faulty_vfs_arm(&faulty,
                   (struct faulty_plan) { FAULTY_SYNC, 1, false, EIO });
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_IO));
    cr_assert(store_frozen(h.store));
    cr_assert(strstr(h.err.text, "sync") != NULL);
    cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_FROZEN));
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_FROZEN));
    cr_assert(eq(int, store_checkpoint(h.store, &h.err), STATUS_FROZEN));
}

Test(faults, reads_go_on_when_frozen)
{
    struct store_commit commit;

    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    add_message(&h, TOPIC, "kept");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    add_message(&h, TOPIC, "lost");
    faulty_vfs_arm(&faulty,
                   (struct faulty_plan) { FAULTY_WRITE, 1, false, EIO });
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_IO));
    cr_assert(eq(str, (char *)message_text(&h, TOPIC, 1), "kept"));
}

/* ---- a full disk ---- */

static uint64_t fill_up(void)
{
    uint64_t stored = 0;

    for (int i = 0; i < 200; i++) {
        struct store_commit commit;
        add_sized(&h, TOPIC, 1000, (uint8_t)i);
        cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
        if (record_flags_at(h.buffer) == RECORD_REFUSED) {
            return stored;
        }
        cr_assert(eq(int, store_sync(h.store, &h.err), STATUS_OK));
        cr_assert(eq(int, store_view_commit(h.view, &commit, NULL), STATUS_OK));
        cr_assert(eq(int, store_apply(h.store, &commit), STATUS_OK));
        stored++;
    }
    cr_assert(0, "never full");
    return stored;
}

Test(faults, a_full_disk_refuses_messages_takes_acks_and_recovers)
{
    struct store_stats stats;
    uint64_t stored;

    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    faulty.no_space = true;
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_NO_SPACE));
    stored = fill_up();
    cr_assert(gt(u64, stored, 10));
    cr_assert(store_space_low(h.store));
    cr_assert(not(store_frozen(h.store)));
    store_stats(h.store, &stats);
    cr_assert(eq(u64, stats.refused, 1));
    for (uint64_t seq = 1; seq <= 8; seq++) {
        add_ack(&h, GROUP, TOPIC, seq, seq);
        cr_assert(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    }
    faulty.no_space = false;
    cr_assert(eq(int, store_prepare(h.store, &h.err), STATUS_OK));
    add_message(&h, TOPIC, "space again");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(not(store_space_low(h.store)));
    cr_assert(
        eq(str, (char *)message_text(&h, TOPIC, stored + 1), "space again"));
    harness_reopen(&h);
    cr_assert(eq(str, (char *)lane_text(&h, GROUP, TOPIC), "1-8"));
    cr_assert(eq(u64, last_seq(&h, TOPIC), stored + 1));
}

Test(faults, the_journal_finds_space_again_by_itself)
{
    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    faulty.no_space = true;
    (void)fill_up();
    faulty.no_space = false;
    h.now_us += 1000 * 1000;
    add_message(&h, TOPIC, "space again");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    cr_assert(eq(u8, record_flags_at(h.buffer), 0));
}

Test(faults, when_not_even_an_ack_fits_nothing_is_taken)
{
    struct store_commit commit;
    enum status status = STATUS_OK;

    cr_assert(eq(int, harness_open(&h), STATUS_OK));
    faulty.no_space = true;
    for (int i = 0; i < 1000 && status == STATUS_OK; i++) {
        add_ack(&h, GROUP, TOPIC, 1, 1);
        status = harness_append(&h, &commit);
    }
    cr_assert(eq(int, status, STATUS_NO_SPACE));
    cr_assert(not(store_frozen(h.store)));
    faulty.no_space = false;
    h.now_us += 1000 * 1000;
    add_ack(&h, GROUP, TOPIC, 1, 1);
    cr_assert(eq(int, harness_append(&h, &commit), STATUS_OK));
    cr_assert(eq(u32, commit.record_count, 1));
}

/* The same on a real file system that is really full. Needs root. */
Test(faults, a_real_full_file_system)
{
    char dir[512];

    tmpdir_make(dir, sizeof dir);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=700") != 0) {
        tmpdir_remove(dir);
        cr_skip_test("cannot mount a tmpfs: %s", strerror(errno));
    }
    h.config.vfs = NULL;
    h.config.dir = dir;
    h.config.segment_len = 256 * 1024;
    if (harness_open(&h) == STATUS_OK) {
        uint64_t stored = 0;
        enum status status = STATUS_OK;
        for (int i = 0; i < 4000 && status == STATUS_OK; i++) {
            add_sized(&h, TOPIC, 1000, (uint8_t)i);
            status = harness_commit(&h);
            if (record_flags_at(h.buffer) == RECORD_REFUSED) {
                break;
            }
            stored++;
        }
        cr_expect(eq(int, status, STATUS_OK), "%s", h.err.text);
        cr_expect(gt(u64, stored, 500));
        add_ack(&h, GROUP, TOPIC, 1, 3);
        cr_expect(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
        harness_close(&h);
    } else {
        cr_expect(0, "%s", h.err.text);
    }
    (void)umount(dir);
    tmpdir_remove(dir);
}

/* ---- a full disk and the keydir ---- */

static char disk[512];

static bool small_disk(const char *size)
{
    char options[64];

    tmpdir_make(disk, sizeof disk);
    snprintf(options, sizeof options, "size=%s,mode=700", size);
    if (mount("tmpfs", disk, "tmpfs", 0, options) != 0) {
        tmpdir_remove(disk);
        return false;
    }
    h.config.dir = disk;
    h.config.segment_len = 2 * 1024 * 1024;
    return true;
}

/* An unclean end: a failed sync freezes the store, so closing writes nothing. */
static void die(void)
{
    struct store_commit commit;

    add_ack(&h, GROUP, TOPIC, 900, 900);
    faulty_vfs_arm(&faulty, (struct faulty_plan) { FAULTY_SYNC, 1, true, EIO });
    if (harness_append(&h, &commit) == STATUS_OK) {
        cr_expect(eq(int, store_sync(h.store, &h.err), STATUS_IO));
    }
    faulty_vfs_disarm(&faulty);
    harness_close(&h);
}

static void leave_disk(void)
{
    harness_close(&h);
    (void)umount(disk);
    tmpdir_remove(disk);
}

static void ballast(bool there)
{
    static const char page[4096];
    char path[600];
    int fd;

    snprintf(path, sizeof path, "%s/ballast", disk);
    if (!there) {
        (void)unlink(path);
        return;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    while (fd >= 0 && write(fd, page, sizeof page) > 0) {
    }
    close(fd);
}

/* Acks of groups never seen before, so that the keydir has to grow, each with a
 * checkpoint: how many until one finds no space. */
static uint32_t note_acks(uint32_t from, uint32_t count)
{
    uint32_t i = 0;

    for (; i < count; i++) {
        enum status status;
        for (uint32_t k = 0; k < 50; k++) {
            add_ack(&h, from + i * 50 + k, TOPIC, 1, 3);
        }
        status = harness_commit(&h);
        if (status == STATUS_OK) {
            status = store_checkpoint(h.store, &h.err);
        }
        if (status != STATUS_OK) {
            cr_expect(eq(int, status, STATUS_NO_SPACE), "%s", h.err.text);
            break;
        }
    }
    return i;
}

Test(faults, a_keydir_without_space_does_not_freeze_the_store)
{
    enum { ROUNDS = 2000 };
    uint32_t done;

    if (!small_disk("40m")) {
        cr_skip_test("cannot mount a tmpfs: %s", strerror(errno));
    }
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    add_message(&h, TOPIC, "before");
    cr_expect(eq(int, harness_checkpoint(&h), STATUS_OK), "%s", h.err.text);
    ballast(true);
    done = note_acks(1, ROUNDS);
    cr_expect(gt(u32, done, 20)); /* out of the spare file */
    cr_expect(lt(u32, done, ROUNDS));
    cr_expect(not(store_frozen(h.store)));
    cr_expect(store_space_low(h.store));
    add_message(&h, TOPIC, "refused");
    cr_expect(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    cr_expect(eq(u8, record_flags_at(h.buffer), RECORD_REFUSED));
    add_ack(&h, GROUP, TOPIC, 7, 7);
    cr_expect(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    cr_expect(eq(int, store_checkpoint(h.store, &h.err), STATUS_NO_SPACE));
    ballast(false);
    cr_expect(eq(int, store_prepare(h.store, &h.err), STATUS_OK), "%s",
              h.err.text);
    cr_expect(eq(int, store_checkpoint(h.store, &h.err), STATUS_OK), "%s",
              h.err.text);
    add_message(&h, TOPIC, "again");
    cr_expect(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    cr_expect(not(store_space_low(h.store)));
    cr_expect(eq(str, (char *)message_text(&h, TOPIC, 2), "again"));
    harness_reopen(&h);
    cr_expect(eq(str, (char *)lane_text(&h, GROUP, TOPIC), "1-3,7-7"));
    cr_expect(eq(str, (char *)lane_text(&h, done * 50 + 1, TOPIC), "1-3"));
    leave_disk();
}

Test(faults, a_start_on_a_full_disk_reads_and_takes_acks)
{
    if (!small_disk("40m")) {
        cr_skip_test("cannot mount a tmpfs: %s", strerror(errno));
    }
    h.config.segment_len = 16 * 1024 * 1024;
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    add_message(&h, TOPIC, "before");
    cr_expect(eq(int, harness_checkpoint(&h), STATUS_OK), "%s", h.err.text);
    ballast(true);
    (void)note_acks(1, 5000);
    cr_expect(eq(int, store_checkpoint(h.store, &h.err), STATUS_NO_SPACE));
    for (int life = 0; life < 3; life++) {
        die();
        ballast(true);
        cr_expect(eq(int, harness_open(&h), STATUS_OK), "%d: %s", life,
                  h.err.text);
        if (h.store == NULL) {
            break;
        }
        cr_expect(eq(str, (char *)message_text(&h, TOPIC, 1), "before"));
        cr_expect(eq(str, (char *)lane_text(&h, 1, TOPIC), "1-3"));
        add_ack(&h, GROUP, TOPIC, 1 + (uint64_t)life, 1 + (uint64_t)life);
        cr_expect(eq(int, harness_commit(&h), STATUS_OK), "%s", h.err.text);
    }
    if (h.store != NULL) {
        harness_reopen(&h);
        cr_expect(eq(str, (char *)lane_text(&h, GROUP, TOPIC), "1-3,900-900"));
    }
    leave_disk();
}
