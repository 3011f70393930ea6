/* links: godwit_storage godwit_proto */
/* with: test/lib/tmpdir.c */

/* Journal, keeper and readers at once while the keeper trims, merges, removes
 * and recycles for real, and scrubs: a message that is owed is never missing,
 * and never has other bytes. Also run under ThreadSanitizer.
 *
 * Of each topic the last KEPT messages and every ODD-th one of the others are
 * owed to a group, so that old segments are mostly dead and have to be merged.
 *
 * The planted bug (--plant): one message that is owed is said to be settled.
 * The program runs itself once with it, and fails if that goes well. */
#include "proto/check.h"
#include "storage/store.h"
#include "test/lib/tmpdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    GROUP_COUNT = 1500,
    PER_GROUP = 40,
    TOPIC_COUNT = 3,
    READER_COUNT = 3,
    GROUP = 9,
    LAG_MAX = 64,
    KEPT = 1500,
    ODD = 97,
    UPKEEP_LEN = 1024 * 1024,
    ACKS_LEN = 256 * 1024,
    FREED_MIN = 8 * 1024 * 1024,
    IDLE_S_MAX = 60,
    LAG_S_MAX = 120
};

static struct store *store;
static struct store_commit commits[GROUP_COUNT * 16];
static _Atomic unsigned committed; /* how many of them are durable */
static _Atomic unsigned reached[READER_COUNT + 1]; /* by each consumer */
static _Atomic bool done;
static _Atomic uint64_t read_count;
static _Atomic uint64_t gone_count;
static bool planted;

/* Records on their way from the keeper to the journal. */
static uint8_t merge_bytes[UPKEEP_LEN];
static _Atomic size_t merge_len; /* 0: the keeper may fill it */

/* Settled for ever: what a reader may find deleted. */
static bool owed(uint64_t seq)
{
    return seq % ODD == 0;
}

/* ---- journal ---- */

static size_t put_message(uint8_t *at, uint32_t topic, uint64_t number)
{
    struct record record = { .kind = RECORD_MESSAGE, .topic = topic, .app = 1 };
    size_t len = 8 + number % 300;

    memset(at + RECORD_HEADER_LEN, (int)(number % 251), len);
    memcpy(at + RECORD_HEADER_LEN, &number, sizeof number);
    record.body = slice_of(at + RECORD_HEADER_LEN, len);
    record_finish(at, &record);
    return record_size(len);
}

static size_t put_ack(uint8_t *at, uint32_t topic, uint64_t first,
                      uint64_t last)
{
    struct seq_range range = { first, last };
    struct record_ranges ranges = { GROUP, topic, &range, 1 };
    struct record record = { .kind = RECORD_ACK };
    struct bytes body = { 0 };
    size_t len;

    CHECK(record_ranges_write(&body, &ranges) == STATUS_OK);
    len = bytes_len(&body);
    memcpy(at + RECORD_HEADER_LEN, body.at, len);
    record.body = slice_of(at + RECORD_HEADER_LEN, len);
    record_finish(at, &record);
    bytes_fini(&body);
    return record_size(len);
}

/* As a ring would: no further ahead of the slowest than LAG_MAX. One that takes
 * nothing for so long is stuck. */
static void push(const struct store_commit *commit)
{
    unsigned at = atomic_load(&committed);
    struct error err;

    CHECK(store_sync(store, &err) == STATUS_OK);
    CHECK(commit->record_count > 0 && at < COUNT_OF(commits));
    for (int i = 0; i <= READER_COUNT; i++) {
        const time_t until = time(NULL) + LAG_S_MAX;
        while (at > atomic_load(&reached[i]) + LAG_MAX) {
            CHECK(time(NULL) < until);
            sched_yield();
        }
    }
    commits[at] = *commit;
    atomic_store(&committed, at + 1);
}

static void append_merge(uint64_t now_us)
{
    size_t len = atomic_load(&merge_len);

    if (len == 0) { /* the keeper's turn, from now on or since just now */
        return;
    }
    for (size_t taken = 0; taken < len;) {
        struct store_span span = { .at = merge_bytes + taken,
                                   .len = len - taken };
        struct store_commit commit;
        struct error err;
        CHECK(store_append_merge(store, &span, now_us, &commit, &err)
              == STATUS_OK);
        push(&commit);
        taken += span.taken;
    }
    atomic_store(&merge_len, 0);
}

static void append(uint8_t *at, size_t len, uint64_t now_us)
{
    for (size_t taken = 0; taken < len;) {
        struct store_span span = { .at = at + taken, .len = len - taken };
        struct store_commit commit;
        struct error err;
        CHECK(store_append(store, &span, 1, now_us, &commit, &err)
              == STATUS_OK);
        push(&commit);
        taken += span.taken;
    }
}

/* Settle what is old, but every ODD-th. */
static size_t put_acks(uint8_t *at, uint64_t *settled, uint64_t last)
{
    size_t len = 0;

    for (uint32_t t = 1; t <= TOPIC_COUNT; t++) {
        for (uint64_t seq = *settled + 1; seq + KEPT <= last;) {
            uint64_t to = seq + ODD - 1 - seq % ODD; /* before the next owed */
            if (owed(seq)) {
                seq++;
                continue;
            }
            to = to + KEPT <= last ? to : last - KEPT;
            CHECK(len + 256 <= ACKS_LEN);
            len += put_ack(at + len, t, seq, to);
            seq = to + 1;
        }
    }
    if (planted && *settled < ODD && last > KEPT + ODD) {
        len += put_ack(at + len, 1, ODD, ODD);
    }
    *settled = last > KEPT ? last - KEPT : 0;
    return len;
}

/* The keeper has removed some segments and read everything. */
static bool has_enough(void)
{
    struct store_stats stats;

    store_stats(store, &stats);
    return stats.freed_bytes > FREED_MIN && stats.scrub_passes > 0;
}

static void *journal(void *arg)
{
    static uint8_t buffer[PER_GROUP * 512 + ACKS_LEN];
    uint64_t number = 0;
    uint64_t settled = 0;

    (void)arg;
    for (unsigned g = 0; g < GROUP_COUNT; g++) {
        size_t len = 0;
        for (int i = 0; i < PER_GROUP; i++) {
            number++;
            len += put_message(buffer + len,
                               1 + (uint32_t)(number % TOPIC_COUNT), number);
        }
        if (g % 20 == 19) {
            len += put_acks(buffer + len, &settled, number / TOPIC_COUNT);
        }
        append(buffer, len, number);
        append_merge(number);
    }
    for (time_t until = time(NULL) + IDLE_S_MAX;
         !has_enough() && time(NULL) < until;) {
        append_merge(number); /* what the keeper still has to move */
        sched_yield();
    }
    atomic_store(&done, true);
    return NULL;
}

/* The next commit for this consumer. False: there is none yet; *ended: nor will
 * there be. */
static bool poll_commit(int consumer, struct store_commit *out, bool *ended)
{
    unsigned at = atomic_load(&reached[consumer]);

    if (at == atomic_load(&committed)) {
        *ended = atomic_load(&done) && at == atomic_load(&committed);
        sched_yield();
        return false;
    }
    *out = commits[at];
    return true;
}

/* ---- keeper ---- */

static bool keep_topic(void *arg, uint32_t topic, struct store_retention *out)
{
    static const struct store_owed owed_to[] = { { GROUP, 0 } };

    (void)arg;
    (void)topic;
    *out = (struct store_retention) { .keep = STORE_KEEP_UNTIL_SETTLED,
                                      .owed = owed_to,
                                      .owed_count = 1 };
    return true;
}

/* It looks for work again as time goes by. */
static uint64_t clock_us(void)
{
    struct timespec now;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void keep_up(void)
{
    struct store_policy policy = { .topic = keep_topic };
    struct store_scrub scrub = { .budget = 64 * 1024 };
    struct store_upkeep call = { .policy = &policy,
                                 .now_us = clock_us(),
                                 .to = merge_bytes,
                                 .room = UPKEEP_LEN };
    struct error err;
    enum status status;

    if (atomic_load(&merge_len) == 0 && !atomic_load(&done)) {
        status = store_upkeep(store, &call, &err);
        CHECK(status == STATUS_OK || status == STATUS_NO_SPACE);
        atomic_store(&merge_len, call.len);
    }
    CHECK(store_scrub(store, &scrub, &err) == STATUS_OK);
}

static void *keeper(void *arg)
{
    struct store_commit commit;
    struct error err;
    unsigned count = 0;
    bool ended = false;

    (void)arg;
    while (!ended) {
        if (poll_commit(READER_COUNT, &commit, &ended)) {
            CHECK(store_apply(store, &commit) == STATUS_OK);
            atomic_fetch_add(&reached[READER_COUNT], 1);
            CHECK(store_prepare(store, &err) == STATUS_OK);
        }
        if (++count % 50 == 0) {
            CHECK(store_checkpoint(store, &err) == STATUS_OK);
        }
        keep_up();
    }
    return NULL;
}

/* ---- readers ---- */

struct reading {
    struct store_view *view;
    struct store_cursor cursors[TOPIC_COUNT + 1];
    uint64_t last[TOPIC_COUNT + 1]; /* known to be durable */
    uint64_t first[TOPIC_COUNT + 1];
    uint64_t random;
};

static uint64_t random_next(struct reading *r)
{
    r->random = r->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return r->random >> 33;
}

static void on_run(void *arg, const struct store_run *run)
{
    struct reading *r = arg;

    CHECK(run->first_seq == r->last[run->topic] + 1);
    r->last[run->topic] += run->count;
}

static void on_trim(void *arg, const struct record_trim *trim)
{
    struct reading *r = arg;

    CHECK(trim->first_seq <= ODD && trim->floor_seq >= trim->first_seq);
    r->first[trim->topic] = trim->first_seq;
}

static void check_body(struct slice body, uint32_t topic)
{
    uint64_t number;

    memcpy(&number, body.at, sizeof number);
    CHECK(1 + number % TOPIC_COUNT == topic);
    CHECK(body.len == 8 + number % 300);
    for (size_t i = sizeof number; i < body.len; i++) {
        CHECK(body.at[i] == number % 251);
    }
}

/* One that is owed is there; of the others a part is. */
static void read_one(struct reading *r, uint32_t topic, uint64_t seq,
                     struct store_cursor *cursor)
{
    struct record record;
    enum status status =
        store_view_message(r->view, cursor, topic, seq, &record, NULL);

    if (status == STATUS_NOT_FOUND && !owed(seq)
        && seq + KEPT <= r->last[topic]) {
        atomic_fetch_add_explicit(&gone_count, 1, memory_order_relaxed);
        return;
    }
    CHECK(status == STATUS_OK);
    check_body(record.body, topic);
    atomic_fetch_add_explicit(&read_count, 1, memory_order_relaxed);
}

static void read_some(struct reading *r)
{
    for (uint32_t t = 1; t <= TOPIC_COUNT; t++) {
        uint64_t last = r->last[t];
        struct store_cursor fresh = { 0 };
        if (last > 2 * (uint64_t)ODD) {
            read_one(r, t, 1 + random_next(r) % last, &fresh);
            read_one(r, t, ODD, &r->cursors[t]);
            read_one(r, t, (1 + random_next(r) % (last / ODD)) * ODD,
                     &r->cursors[t]);
        }
    }
}

static void *reader(void *arg)
{
    int self = (int)(intptr_t)arg;
    struct reading r = { .random = (uint64_t)self };
    struct store_visitor visitor = { .run = on_run,
                                     .trim = on_trim,
                                     .arg = &r };
    struct store_commit commit;
    struct error err;
    bool ended = false;

    CHECK(store_view_open(&r.view, store, &err) == STATUS_OK);
    for (unsigned count = 0; !ended;) {
        if (!poll_commit(self, &commit, &ended)) {
            store_view_rest(r.view);
            continue;
        }
        CHECK(store_view_commit(r.view, &commit, &visitor) == STATUS_OK);
        read_some(&r);
        if (self == 0 || (self == 1 && ++count % 7 == 0)) {
            store_view_rest(r.view);
        }
        atomic_fetch_add(&reached[self], 1);
    }
    for (uint64_t seq = ODD; seq <= r.last[1]; seq += ODD) {
        read_one(&r, 1, seq, &r.cursors[1]);
    }
    store_view_close(r.view);
    return NULL;
}

/* ---- the whole ---- */

static void must_open(const char *dir)
{
    struct store_config config = { .dir = dir,
                                   .segment_len = 256 * 1024,
                                   .keydir_len_max = UINT64_C(1) << 30,
                                   .now_us = 1 };
    struct store_recovery recovery;
    struct error err;

    if (store_open(&store, &config, &recovery, &err) != STATUS_OK) {
        fprintf(stderr, "open: %s\n", err.text);
        abort();
    }
    CHECK(recovery.damaged_bytes == 0 && recovery.missing_segments == 0);
}

static void run(const char *dir)
{
    pthread_t threads[READER_COUNT + 2];
    struct store_stats stats;

    must_open(dir);
    for (int i = 0; i < READER_COUNT; i++) {
        CHECK(pthread_create(&threads[i], NULL, reader, (void *)(intptr_t)i)
              == 0);
    }
    CHECK(pthread_create(&threads[READER_COUNT], NULL, keeper, NULL) == 0);
    CHECK(pthread_create(&threads[READER_COUNT + 1], NULL, journal, NULL) == 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    store_stats(store, &stats);
    CHECK(stats.corrupt_reads == 0);
    CHECK(stats.damaged_records == 0 && stats.damaged_batches == 0);
    CHECK(has_enough());
    printf("%llu records, %llu read, %llu found deleted, %llu segments, "
           "%llu KiB moved, %llu KiB freed, %llu snapshots, %llu scrubs\n",
           (unsigned long long)stats.records,
           (unsigned long long)atomic_load(&read_count),
           (unsigned long long)atomic_load(&gone_count),
           (unsigned long long)stats.segments,
           (unsigned long long)(stats.moved_bytes >> 10),
           (unsigned long long)(stats.freed_bytes >> 10),
           (unsigned long long)stats.snapshots,
           (unsigned long long)stats.scrub_passes);
    store_close(store);
    must_open(dir);
    store_close(store);
}

/* With the planted bug, in a process of its own, and quiet: it has to die. */
static void run_planted(const char *dir)
{
    int status;
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execl("/proc/self/exe", "stress_upkeep", "--plant", dir, (char *)NULL);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
    printf("an ack too many was noticed\n");
}

int main(int argc, char **argv)
{
    char dir[512];

    if (argc > 2 && strcmp(argv[1], "--plant") == 0) {
        planted = true;
        run(argv[2]);
        return 0;
    }
    tmpdir_make(dir, sizeof dir);
    run_planted(dir);
    tmpdir_remove(dir);
    tmpdir_make(dir, sizeof dir);
    run(dir);
    tmpdir_remove(dir);
    return 0;
}
