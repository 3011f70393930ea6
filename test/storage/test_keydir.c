/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* A bit of the keydir flips at rest. Whatever it was: after the next start
 * nothing is acked that was not, no message is missing, no number is used
 * twice, because the keydir shows it and is made again. */
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MESSAGES = 40,
    FLIPS = 600,
    DIFFERS = 77,
    UNREADABLE = 78,
    DEATH_S = 20,
    STARTS_LOST_MAX = 3
};

static struct harness h;
static char saved[512];
static char database[600];

/* ---- what must be there ---- */

static void fill(void)
{
    char body[64];

    add_fact(&h, CATALOG_TOPIC, 1, "orders", "kept", false);
    add_fact(&h, CATALOG_TOPIC, 2, "bills", "", false);
    add_fact(&h, CATALOG_TOPIC, 3, "old", "", true);
    add_fact(&h, CATALOG_GROUP, 1, "shop", "", false);
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        snprintf(body, sizeof body, "message %d", (int)i);
        add_sent(&h, 1, body, 7, i);
        add_message(&h, 2, body);
        if (i == 20) {
            add_ack(&h, 1, 1, 1, 5);
            add_ack(&h, 1, 2, 9, 9);
            add_gap(&h, 1, 1, 8, 8);
            add_retry(&h, 1, 1, (struct retry) { 12, 99, 3 });
        }
        cr_assert(eq(int, harness_commit(&h), STATUS_OK));
        if (i % 10 == 0) {
            cr_assert(eq(int, harness_checkpoint(&h), STATUS_OK));
        }
    }
}

static int differs(int report, const char *what, uint64_t which)
{
    dprintf(report, "%s %d\n", what, (int)which);
    return DIFFERS;
}

static int check_messages(int report)
{
    char body[64];

    for (uint64_t i = 1; i <= MESSAGES; i++) {
        snprintf(body, sizeof body, "message %d", (int)i);
        for (uint32_t topic = 1; topic <= 2; topic++) {
            struct record record;
            if (message_at(&h, topic, i, &record, NULL) == STATUS_IO) {
                return UNREADABLE; /* no gap: it may be there */
            }
            if (strcmp(message_text(&h, topic, i), body) != 0) {
                return differs(report, "message", i);
            }
        }
    }
    return 0;
}

static int check_state(int report)
{
    if (strcmp(lane_text(&h, 1, 1), "1-5,8-8 gaps 8-8 retries 12x99@3") != 0) {
        return differs(report, lane_text(&h, 1, 1), 1);
    }
    if (strcmp(lane_text(&h, 1, 2), "9-9") != 0) {
        return differs(report, lane_text(&h, 1, 2), 2);
    }
    if (strcmp(facts_text(&h), "2:1:orders=kept 2:2:bills= 3:1:shop= ") != 0) {
        return differs(report, facts_text(&h), 0);
    }
    if (last_seq(&h, 1) != MESSAGES || last_seq(&h, 2) != MESSAGES) {
        return differs(report, "last seq", last_seq(&h, 1));
    }
    return 0;
}

static int check_numbers(int report)
{
    struct store_commit commit;

    add_sent(&h, 1, "known", 7, MESSAGES);
    add_sent(&h, 1, "new", 7, MESSAGES + 1);
    if (harness_append(&h, &commit) != STATUS_OK || commit.record_count != 1
        || record_flags_at(h.buffer) != RECORD_DUPLICATE) {
        return differs(report, "numbers", commit.record_count);
    }
    return 0;
}

/* In a process of its own: LMDB may well not survive what it reads. */
static int open_and_look(int report)
{
    int result;

    alarm(DEATH_S);
    if (harness_open(&h) != STATUS_OK) {
        return differs(report, h.err.text, 0);
    }
    result = check_messages(report);
    result = result != 0 ? result : check_state(report);
    return result != 0 ? result : check_numbers(report);
}

/* Its exit code; UNREADABLE also when it died. */
static int in_a_child(void)
{
    pid_t pid = fork();
    int how = 0;

    cr_assert(ge(int, pid, 0));
    if (pid == 0) {
        int report = dup(STDERR_FILENO);
        int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(quiet, STDERR_FILENO); /* a death is no news here */
        _exit(open_and_look(report));
    }
    cr_assert(eq(int, waitpid(pid, &how, 0), pid));
    if (WIFEXITED(how)
        && (WEXITSTATUS(how) == 0 || WEXITSTATUS(how) == DIFFERS)) {
        return WEXITSTATUS(how);
    }
    return UNREADABLE;
}

static void set_up(void)
{
    harness_init(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    fill();
    harness_close(&h);
    tmpdir_make(saved, sizeof saved);
    tmpdir_copy(h.dir, saved);
    snprintf(database, sizeof database, "%s/keydir/data.mdb", h.dir);
}

static void tear_down(void)
{
    tmpdir_remove(saved);
    harness_fini(&h);
}

TestSuite(keydir, .init = set_up, .fini = tear_down, .timeout = 280);

static void restore(void)
{
    tmpdir_remove(h.dir);
    cr_assert(eq(int, mkdir(h.dir, 0700), 0));
    tmpdir_copy(saved, h.dir);
}

Test(keydir, is_right_when_nothing_flipped)
{
    cr_assert(eq(int, in_a_child(), 0));
}

static void flip_one(uint64_t offset, int bit, unsigned *again)
{
    int result;

    restore();
    flip_bit(database, offset, bit);
    result = in_a_child();
    /* A start that died is forgiven once. Before that it may have been the
     * serving that died, of an old copy of a page, which looks well. */
    for (int i = 0; i < STARTS_LOST_MAX && result == UNREADABLE; i++) {
        ++*again;
        result = in_a_child();
    }
    cr_assert(eq(int, result, 0), "offset %d bit %d: %d", (int)offset, bit,
              result);
}

Test(keydir, shows_any_bit_that_flips)
{
    uint64_t seed = random_seed();
    uint64_t state = seed;
    uint64_t len = file_len(database);
    unsigned again = 0;

    fprintf(stderr, "GODWIT_SEED=%llu\n", (unsigned long long)seed);
    for (int i = 0; i < FLIPS; i++) {
        /* Heads of pages are where it hurts most. */
        uint64_t offset = random_next(&state) % len;
        if (i % 3 == 0) {
            offset = offset / 4096 * 4096 + offset % 64;
        }
        flip_one(offset, (int)(random_next(&state) % 8), &again);
    }
    fprintf(stderr, "%u flips, %u second starts\n", (unsigned)FLIPS, again);
}

static void leave_mark(const char *bytes)
{
    char path[600];
    int fd;

    snprintf(path, sizeof path, "%s/keydir.doubt", h.dir);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(sz, (size_t)write(fd, bytes, strlen(bytes)), strlen(bytes)));
    close(fd);
}

static bool marked(void)
{
    char path[600];

    snprintf(path, sizeof path, "%s/keydir.doubt", h.dir);
    return access(path, F_OK) == 0;
}

Test(keydir, whose_opening_died_twice_is_made_again)
{
    static const char *const marks[] = { "!!", "!!!", "" };

    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        leave_mark(marks[i]);
        cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
        cr_assert(h.recovery.keydir_rebuilt, "%s", marks[i]);
        cr_assert(not(marked()));
        cr_assert(eq(int, check_messages(STDERR_FILENO), 0));
        cr_assert(eq(int, check_state(STDERR_FILENO), 0));
        harness_reopen(&h);
        cr_assert(not(h.recovery.keydir_rebuilt));
        harness_close(&h);
    }
}

Test(keydir, whose_opening_died_once_is_looked_at_again)
{
    leave_mark("!");
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(not(h.recovery.keydir_rebuilt));
    cr_assert(not(marked()));
    cr_assert(eq(int, check_messages(STDERR_FILENO), 0));
}
