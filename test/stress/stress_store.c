/* links: godwit_storage godwit_proto */
/* with: test/lib/tmpdir.c */

/* Journal, keeper and readers on one store at once, over many segments and
 * checkpoints, while the oldest segment is moved to the log's end and removed
 * again and again, and its file becomes the next one: every reader must see
 * every message, whole and in order, and what it has read must stay good until
 * it rests. Also run under
 * ThreadSanitizer.
 *
 * The planted bug (--plant): segments are unmapped without waiting for the
 * readers. The program runs itself once with it, and fails if that goes well. */
#include "proto/check.h"
#include "storage/internal.h"
#include "test/lib/tmpdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GROUP_COUNT = 1500,
    PER_GROUP = 40,
    TOPIC_COUNT = 5,
    READER_COUNT = 3,
    LAG_MAX = 64,
    HELD = 4, /* messages a reader keeps until it rests */
    SEGMENT_LEN = 512 * 1024,
    MERGE_LEN_MAX = 1024 * 1024,
    MERGES_MAX = 25
};

static struct store *store;
static struct store_commit commits[GROUP_COUNT * 6];
static _Atomic unsigned committed; /* how many of them are durable */
static _Atomic unsigned reached[READER_COUNT + 1]; /* by each consumer */
static _Atomic bool done;
static _Atomic uint64_t read_count;
static bool planted;

/* Records on their way from the keeper to the journal. */
static uint8_t merge_bytes[MERGE_LEN_MAX];
static _Atomic size_t merge_len; /* 0: the keeper may fill it */

/* ---- journal ---- */

static size_t put_message(uint8_t *at, uint32_t topic, uint64_t number)
{
    struct record record = { .kind = RECORD_MESSAGE,
                             .topic = topic,
                             .app = 1,
                             .producer = 1,
                             .producer_seq = number };
    size_t len = 8 + number % 300;

    memset(at + RECORD_HEADER_LEN, (int)(number % 251), len);
    memcpy(at + RECORD_HEADER_LEN, &number, sizeof number);
    record.body = slice_of(at + RECORD_HEADER_LEN, len);
    record_finish(at, &record);
    return record_size(len);
}

/* As a ring would: no further ahead of the slowest than LAG_MAX. */
static void wait_for_consumers(unsigned at)
{
    for (int i = 0; i <= READER_COUNT; i++) {
        while (at > atomic_load(&reached[i]) + LAG_MAX) {
            sched_yield();
        }
    }
}

static void push(const struct store_commit *commit)
{
    unsigned at = atomic_load(&committed);
    struct error err;

    CHECK(store_sync(store, &err) == STATUS_OK);
    CHECK(commit->record_count > 0 && at < COUNT_OF(commits));
    wait_for_consumers(at);
    commits[at] = *commit;
    atomic_store(&committed, at + 1);
}

static void append_merge(uint64_t now_us)
{
    size_t len = atomic_load(&merge_len);

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

static void *journal(void *arg)
{
    static uint8_t buffer[PER_GROUP * 512];
    uint64_t number = 0;
    struct error err;

    (void)arg;
    for (unsigned g = 0; g < GROUP_COUNT; g++) {
        size_t len = 0;
        size_t taken = 0;
        for (int i = 0; i < PER_GROUP; i++) {
            number++;
            len += put_message(buffer + len,
                               1 + (uint32_t)(number % TOPIC_COUNT), number);
        }
        while (taken < len) {
            struct store_span span = { .at = buffer + taken,
                                       .len = len - taken };
            struct store_commit commit;
            CHECK(store_append(store, &span, 1, number, &commit, &err)
                  == STATUS_OK);
            push(&commit);
            taken += span.taken;
        }
        append_merge(number);
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

/* One removal after the other. */
struct removing {
    uint32_t id;      /* the next one to go */
    unsigned written; /* commits there were when all was with the journal */
    bool moving;
    struct segment *segment; /* out of the table, still mapped */
    uint64_t epoch;
    unsigned count;
};

/* All messages of a segment that are still said to be in it, as a merge would
 * write them. False: they do not fit. */
static bool copy_messages(uint32_t id)
{
    struct segment *segment = log_segment(&store->log, id);
    struct batch_source source = segment_source(segment, &store->log);
    uint32_t at = SEGMENT_BEGIN;
    struct batch batch;
    size_t len = 0;

    while (at < source.limit && batch_read(&source, at, &batch) == STATUS_OK
           && batch.header.kind != BATCH_SEAL) {
        struct slice bytes;
        uint32_t record = 0;
        while (batch_next(&batch, &record, &bytes)) {
            CHECK(len + bytes.len <= MERGE_LEN_MAX);
            memcpy(merge_bytes + len, bytes.at, bytes.len);
            len += bytes.len;
        }
        at += batch.header.len;
    }
    atomic_store(&merge_len, len);
    return len > 0;
}

static void begin_removal(struct removing *r)
{
    uint64_t place = atomic_load(&store->checkpointed);

    if (r->count < MERGES_MAX && !atomic_load(&done)
        && r->id + 4 < place_segment(place)
        && store_retire_ready(store, r->id)) {
        r->moving = copy_messages(r->id);
    }
}

/* What was moved is applied once the journal has it and all commits up to there
 * came by; only then the keydir may say so and the segment go. */
static void take_out(struct removing *r)
{
    struct error err;

    if (atomic_load(&merge_len) != 0) {
        return;
    }
    if (r->written == 0) {
        r->written = atomic_load(&committed);
    }
    if (atomic_load(&reached[READER_COUNT]) < r->written) {
        return;
    }
    CHECK(store_checkpoint(store, &err) == STATUS_OK);
    r->segment = store_retire_begin(store, r->id, &r->epoch);
    CHECK(r->segment != NULL);
    r->moving = false;
    r->written = 0;
    r->id++;
}

static void drop_segment(struct segment *segment)
{
    struct error err;

    if (planted) { /* a file with the same bytes in its place would hide it */
        segment_free(segment, &store->log);
    } else {
        CHECK(store_recycle(store, segment, &err) == STATUS_OK);
    }
}

static void step_removal(struct removing *r)
{
    if (r->segment != NULL) {
        if (planted || store_retire_rested(store, r->epoch)) {
            drop_segment(r->segment);
            r->segment = NULL;
            r->count++;
        }
    } else if (r->moving) {
        take_out(r);
    } else {
        begin_removal(r);
    }
}

static void *keeper(void *arg)
{
    struct removing r = { .id = 1 };
    struct store_commit commit;
    struct error err;
    unsigned count = 0;
    bool ended = false;

    while (!ended || r.segment != NULL) {
        if (poll_commit(READER_COUNT, &commit, &ended)) {
            CHECK(store_apply(store, &commit) == STATUS_OK);
            atomic_fetch_add(&reached[READER_COUNT], 1);
            if (++count % 50 == 0) {
                CHECK(store_checkpoint(store, &err) == STATUS_OK);
            }
            CHECK(store_prepare(store, &err) == STATUS_OK);
        }
        step_removal(&r);
    }
    *(unsigned *)arg = r.count;
    return NULL;
}

/* ---- readers ---- */

struct reading {
    struct store_view *view;
    struct store_cursor cursors[TOPIC_COUNT + 1];
    uint64_t last[TOPIC_COUNT + 1]; /* known to be durable */
    uint64_t next[TOPIC_COUNT + 1];
    struct slice held[HELD]; /* bodies, good until the view rests */
    unsigned held_count;
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

static void check_body(struct slice body, uint32_t topic)
{
    uint64_t number;

    memcpy(&number, body.at, sizeof number);
    CHECK(topic == 0 || 1 + number % TOPIC_COUNT == topic);
    CHECK(body.len == 8 + number % 300);
    for (size_t i = sizeof number; i < body.len; i++) {
        CHECK(body.at[i] == number % 251);
    }
}

static void read_one(struct reading *r, uint32_t topic, uint64_t seq,
                     struct store_cursor *cursor)
{
    struct record record;

    CHECK(store_view_message(r->view, cursor, topic, seq, &record, NULL)
          == STATUS_OK);
    check_body(record.body, topic);
    r->held[r->held_count++ % HELD] = record.body;
    atomic_fetch_add_explicit(&read_count, 1, memory_order_relaxed);
}

/* What was read is still there; from here on it need not be. */
static void let_go(struct reading *r)
{
    for (unsigned i = 0; i < r->held_count && i < HELD; i++) {
        check_body(r->held[i], 0);
    }
    r->held_count = 0;
}

static void read_some(struct reading *r, int self)
{
    for (uint32_t t = 1; t <= TOPIC_COUNT; t++) {
        struct store_cursor fresh = { 0 };
        uint64_t lag = self == 0 ? 0 : 2000;
        while (r->next[t] + lag < r->last[t]) {
            r->next[t]++;
            read_one(r, t, r->next[t], &r->cursors[t]);
        }
        if (r->last[t] > 0) {
            read_one(r, t, 1 + random_next(r) % r->last[t], &fresh);
        }
    }
}

/* The first keeps up and rests after each turn; the second leaves work for
 * later, so that it reads from checkpointed runs as well, and rests now and
 * then; the third only takes its commits. */
static void *reader(void *arg)
{
    int self = (int)(intptr_t)arg;
    struct reading r = { .random = (uint64_t)self };
    struct store_visitor visitor = { .run = on_run, .arg = &r };
    struct store_commit commit;
    struct error err;
    bool ended = false;

    CHECK(store_view_open(&r.view, store, &err) == STATUS_OK);
    for (unsigned count = 0; !ended;) {
        if (!poll_commit(self, &commit, &ended)) {
            continue;
        }
        let_go(&r);
        CHECK(store_view_commit(r.view, &commit, &visitor) == STATUS_OK);
        read_some(&r, self);
        if (self == 0 || (self == 1 && ++count % 7 == 0)) {
            let_go(&r);
            store_view_rest(r.view);
        }
        atomic_fetch_add(&reached[self], 1);
    }
    for (uint32_t t = 1; t <= TOPIC_COUNT; t++) {
        while (r.next[t] < r.last[t]) {
            r.next[t]++;
            read_one(&r, t, r.next[t], &r.cursors[t]);
        }
        CHECK(r.last[t] == (uint64_t)GROUP_COUNT * PER_GROUP / TOPIC_COUNT);
    }
    store_view_close(r.view);
    return NULL;
}

/* ---- the whole ---- */

static void must_open(const char *dir)
{
    struct store_config config = { .dir = dir,
                                   .segment_len = SEGMENT_LEN,
                                   .keydir_len_max = UINT64_C(1) << 30,
                                   .now_us = 1 };
    struct store_recovery recovery;
    struct error err;

    if (store_open(&store, &config, &recovery, &err) != STATUS_OK) {
        fprintf(stderr, "open: %s\n", err.text);
        abort();
    }
}

static unsigned count_recycled(void)
{
    unsigned count = 0;

    for (uint32_t id = 1; id <= store->journal.active->header.id; id++) {
        const struct segment *segment = log_segment(&store->log, id);
        count += segment != NULL && segment->header.recycled;
    }
    return count;
}

static void run(const char *dir)
{
    pthread_t threads[READER_COUNT + 2];
    struct store_stats stats;
    unsigned removed = 0;

    must_open(dir);
    for (int i = 0; i < READER_COUNT; i++) {
        CHECK(pthread_create(&threads[i], NULL, reader, (void *)(intptr_t)i)
              == 0);
    }
    CHECK(pthread_create(&threads[READER_COUNT], NULL, keeper, &removed) == 0);
    CHECK(pthread_create(&threads[READER_COUNT + 1], NULL, journal, NULL) == 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    store_stats(store, &stats);
    CHECK(stats.records >= (uint64_t)GROUP_COUNT * PER_GROUP);
    CHECK(stats.corrupt_reads == 0);
    CHECK(removed >= 5);
    CHECK(stats.freed_bytes >= (uint64_t)removed * SEGMENT_LEN / 2);
    CHECK(count_recycled() > 0);
    printf("%llu records, %llu read, %llu segments, %u removed, "
           "%llu checkpoints\n",
           (unsigned long long)stats.records,
           (unsigned long long)atomic_load(&read_count),
           (unsigned long long)stats.segments, removed,
           (unsigned long long)stats.checkpoints);
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
        execl("/proc/self/exe", "stress_store", "--plant", dir, (char *)NULL);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
    printf("segments that did not wait for their readers were noticed\n");
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
