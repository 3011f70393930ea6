/* links: godwit_storage godwit_proto */
/* with: test/lib/tmpdir.c */

/* Journal, keeper and two readers on one store at once, over many segments and
 * checkpoints: every reader must see every message, whole and in order. Also
 * run under ThreadSanitizer. */
#include "proto/check.h"
#include "storage/store.h"
#include "test/lib/tmpdir.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 1500, PER_GROUP = 40, TOPICS = 5, READERS = 2, LAG_MAX = 64 };

static struct store *store;
static struct store_commit commits[GROUPS * 4];
static _Atomic unsigned committed;            /* how many of them are durable */
static _Atomic unsigned reached[READERS + 1]; /* by each consumer */
static _Atomic bool done;
static _Atomic uint64_t read_count;

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
    for (int i = 0; i <= READERS; i++) {
        while (at > atomic_load(&reached[i]) + LAG_MAX) {
            sched_yield();
        }
    }
}

static void *journal(void *arg)
{
    static uint8_t buffer[PER_GROUP * 512];
    uint64_t number = 0;
    struct error err;

    (void)arg;
    for (unsigned g = 0; g < GROUPS; g++) {
        size_t len = 0;
        size_t taken = 0;
        for (int i = 0; i < PER_GROUP; i++) {
            number++;
            len += put_message(buffer + len, 1 + (uint32_t)(number % TOPICS),
                               number);
        }
        while (taken < len) {
            struct store_span span = { .at = buffer + taken,
                                       .len = len - taken };
            unsigned at = atomic_load(&committed);
            struct store_commit commit;
            CHECK(store_append(store, &span, 1, number, &commit, &err)
                  == STATUS_OK);
            CHECK(store_sync(store, &err) == STATUS_OK);
            CHECK(commit.record_count > 0 && at < COUNT_OF(commits));
            wait_for_consumers(at);
            commits[at] = commit;
            atomic_store(&committed, at + 1);
            taken += span.taken;
        }
    }
    atomic_store(&done, true);
    return NULL;
}

/* The next commit for this consumer; false when there will be none. */
static bool next_commit(int consumer, struct store_commit *out)
{
    unsigned at = atomic_load(&reached[consumer]);

    while (at == atomic_load(&committed)) {
        if (atomic_load(&done) && at == atomic_load(&committed)) {
            return false;
        }
        sched_yield();
    }
    *out = commits[at];
    return true;
}

static void *keeper(void *arg)
{
    struct store_commit commit;
    struct error err;
    unsigned count = 0;

    (void)arg;
    while (next_commit(READERS, &commit)) {
        CHECK(store_apply(store, &commit) == STATUS_OK);
        atomic_fetch_add(&reached[READERS], 1);
        if (++count % 50 == 0) {
            CHECK(store_checkpoint(store, &err) == STATUS_OK);
        }
        CHECK(store_prepare(store, &err) == STATUS_OK);
    }
    return NULL;
}

struct reading {
    struct store_view *view;
    struct store_cursor cursors[TOPICS + 1];
    uint64_t last[TOPICS + 1]; /* known to be durable */
    uint64_t next[TOPICS + 1];
};

static void on_run(void *arg, const struct store_run *run)
{
    struct reading *r = arg;

    CHECK(run->first_seq == r->last[run->topic] + 1);
    r->last[run->topic] += run->count;
}

static void read_one(struct reading *r, uint32_t topic, uint64_t seq,
                     struct store_cursor *cursor)
{
    struct record record;
    uint64_t number;

    CHECK(store_view_message(r->view, cursor, topic, seq, &record, NULL)
          == STATUS_OK);
    memcpy(&number, record.body.at, sizeof number);
    CHECK(1 + number % TOPICS == topic);
    CHECK(record.body.len == 8 + number % 300);
    atomic_fetch_add_explicit(&read_count, 1, memory_order_relaxed);
}

/* One reader keeps up, the other leaves work for later, so that it reads from
 * checkpointed runs as well. */
static void *reader(void *arg)
{
    int self = (int)(intptr_t)arg;
    struct reading r = { 0 };
    struct store_visitor visitor = { .run = on_run, .arg = &r };
    struct store_commit commit;
    struct error err;

    CHECK(store_view_open(&r.view, store, &err) == STATUS_OK);
    atomic_fetch_add(&reached[self], 0);
    for (unsigned count = 0; next_commit(self, &commit); count++) {
        CHECK(store_view_commit(r.view, &commit, &visitor) == STATUS_OK);
        for (uint32_t t = 1; t <= TOPICS; t++) {
            struct store_cursor fresh = { 0 };
            uint64_t lag = self == 0 ? 0 : 2000;
            while (r.next[t] + lag < r.last[t]) {
                r.next[t]++;
                read_one(&r, t, r.next[t], &r.cursors[t]);
            }
            if (r.last[t] > 0) {
                read_one(&r, t, 1 + count % r.last[t], &fresh);
            }
        }
        atomic_fetch_add(&reached[self], 1);
    }
    for (uint32_t t = 1; t <= TOPICS; t++) {
        while (r.next[t] < r.last[t]) {
            r.next[t]++;
            read_one(&r, t, r.next[t], &r.cursors[t]);
        }
        CHECK(r.last[t] == (uint64_t)GROUPS * PER_GROUP / TOPICS);
    }
    store_view_close(r.view);
    return NULL;
}

static void must_open(const char *dir)
{
    struct store_config config = { .dir = dir,
                                   .segment_len = 512 * 1024,
                                   .keydir_len_max = UINT64_C(1) << 30,
                                   .now_us = 1 };
    struct store_recovery recovery;
    struct error err;

    if (store_open(&store, &config, &recovery, &err) != STATUS_OK) {
        fprintf(stderr, "open: %s\n", err.text);
        abort();
    }
    CHECK(recovery.clean);
}

int main(void)
{
    pthread_t threads[READERS + 2];
    struct store_stats stats;
    char dir[512];

    tmpdir_make(dir, sizeof dir);
    must_open(dir);
    for (int i = 0; i < READERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, reader, (void *)(intptr_t)i)
              == 0);
    }
    CHECK(pthread_create(&threads[READERS], NULL, keeper, NULL) == 0);
    CHECK(pthread_create(&threads[READERS + 1], NULL, journal, NULL) == 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    store_stats(store, &stats);
    CHECK(stats.records == (uint64_t)GROUPS * PER_GROUP);
    CHECK(stats.corrupt_reads == 0);
    printf("%llu records, %llu read, %llu segments, %llu checkpoints\n",
           (unsigned long long)stats.records,
           (unsigned long long)atomic_load(&read_count),
           (unsigned long long)stats.segments,
           (unsigned long long)stats.checkpoints);
    store_close(store);
    must_open(dir);
    store_close(store);
    tmpdir_remove(dir);
    return 0;
}
