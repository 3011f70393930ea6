/* links: godwit_server godwit_storage godwit_delivery godwit_proto */
/* with: test/lib/tmpdir.c */
/* wraps: submission_sleep */

/* The real journal on a real store, and two workers that now wake it and now
 * write and sync in its place, as their turns are light or not: what is urgent
 * becomes durable, what is not does so a little later, all in the worker's
 * order and numbered without a hole, and nobody sleeps for ever. Also run under
 * ThreadSanitizer.
 *
 * Then a worker writes and syncs in its place all the time, with short pauses,
 * and what the keeper hands over is not left lying for that.
 *
 * The planted bug: a worker that took the journal's place does not leave the
 * wish to be woken behind, so the next record is told to nobody. */
#include "broker/delivery/submission.h"
#include "broker/journal.h"
#include "broker/log.h"
#include "test/lib/stress.h"
#include "test/lib/tmpdir.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    WORKERS = 2,
    TURNS = 3000,
    RECORDS_MAX = 6, /* of a turn */
    LEN_MAX = 200,
    TRIMS = 20,
    PAUSE_US = 100,    /* the keeper's records wait longer for company, */
    GROUPS_MAX = 1000, /* but not for so many of a worker's groups */
    RING_LEN = 64 * 1024,
    COMMITS_LEN = 64,
    SEGMENT_LEN = 64 * 1024 * 1024, /* more than is written */
    DEADLINE_MS = 5000
};

struct worker {
    size_t index;
    pthread_t thread;
    struct bed bed;
    struct submission *s;
    uint64_t random;
    uint64_t position; /* read back so far */
    uint64_t last_seq;
    uint64_t commits; /* batches seen on the ring */
};

static struct worker workers[WORKERS];
static struct submission *keeper;
static struct ring *commits;
static struct journal *journal;
static _Atomic uint64_t groups[2]; /* written by the journal, by a worker */
static _Atomic int finished;
static _Atomic bool kept;
static _Thread_local bool on_worker;
static bool planted;
static int deadline_ms = DEADLINE_MS;

bool __real_submission_sleep(struct submission *s, bool urgent_only);
bool __wrap_submission_sleep(struct submission *s, bool urgent_only);

bool __wrap_submission_sleep(struct submission *s, bool urgent_only)
{
    return (planted && on_worker) || __real_submission_sleep(s, urgent_only);
}

static void wake_worker(void *arg, size_t worker)
{
    (void)arg;
    if (worker == 0) {
        atomic_fetch_add(&groups[on_worker ? 1 : 0], 1);
    }
    bed_call(&workers[worker].bed);
}

/* ---- a worker ---- */

static uint64_t dice(struct worker *w, uint64_t sides)
{
    return stress_mix(++w->random) % sides;
}

static void read_back(struct worker *w)
{
    uint64_t durable = submission_durable(w->s);
    size_t count = ring_available(commits, w->index);

    if (count > 0) {
        ring_consumed(commits, w->index, count);
        w->commits += count;
    }
    while (w->position < durable) {
        const uint8_t *at = submission_at(w->s, w->position);
        STRESS_CHECK(record_flags_at(at) == 0, "not stored");
        STRESS_CHECK(record_seq_at(at) == ++w->last_seq, "not the next number");
        w->position += record_size_at(at);
    }
    submission_release(w->s, w->position);
}

static void await_all(struct worker *w)
{
    read_back(w);
    while (w->position < submission_written(w->s)) {
        STRESS_CHECK(bed_sleep(&w->bed, deadline_ms), "nobody synced it");
        read_back(w);
    }
}

static void write_one(struct worker *w, bool urgent)
{
    static const uint8_t body[LEN_MAX];
    const struct record record = { .kind = RECORD_MESSAGE,
                                   .topic = (uint32_t)w->index + 1,
                                   .app = 1,
                                   .body = slice_of(body, dice(w, LEN_MAX)) };

    (void)submission_put(w->s, &record, urgent);
}

static void turn(struct worker *w)
{
    uint64_t count = 1 + dice(w, RECORDS_MAX);
    bool urgent = dice(w, 4) > 0;

    for (uint64_t i = 0; i < count; i++) {
        write_one(w, urgent);
    }
    if (submission_publish(w->s)) {
        if (dice(w, 3) > 0) {
            journal_commit(journal, w->index);
        } else {
            journal_wake(journal);
        }
    }
    if (dice(w, 8) > 0
        || submission_room(w->s) < RECORDS_MAX * record_size(LEN_MAX)) {
        await_all(w);
    }
}

static void write_at_once(struct worker *w)
{
    write_one(w, true);
    if (submission_publish(w->s)) {
        journal_commit(journal, w->index);
    }
    await_all(w);
}

static void *work(void *arg)
{
    struct worker *w = arg;

    on_worker = true;
    for (int i = 0; i < TURNS; i++) {
        turn(w);
    }
    await_all(w);
    (void)atomic_fetch_add(&finished, 1);
    while (!atomic_load(&kept)) { /* the ring must not fill */
        if (w->index == 0 && atomic_load(&finished) == WORKERS) {
            write_at_once(w);
            stress_pause_us(PAUSE_US);
        } else {
            (void)bed_sleep(&w->bed, 10);
            read_back(w);
        }
    }
    return NULL;
}

/* ---- the keeper's, while a worker never rests ---- */

static void put_trim(uint64_t first_seq)
{
    const struct record_trim trim = { 1, first_seq, first_seq };
    struct record record = { .kind = RECORD_TRIM };
    struct bytes body = { 0 };

    STRESS_CHECK(record_trim_write(&body, &trim) == STATUS_OK, "no memory");
    record.body = slice_of(bytes_begin(&body), bytes_len(&body));
    (void)submission_put(keeper, &record, false);
    bytes_fini(&body);
}

static void keep(void)
{
    while (atomic_load(&finished) < WORKERS) {
        stress_pause_us(1000);
    }
    for (uint64_t i = 1; i <= TRIMS; i++) {
        uint64_t begun = atomic_load(&groups[1]);
        put_trim(i);
        if (submission_publish(keeper)) {
            journal_wake(journal);
        }
        while (submission_durable(keeper) < submission_written(keeper)) {
            STRESS_CHECK(atomic_load(&groups[1]) - begun < GROUPS_MAX,
                         "the keeper waits for ever");
            stress_pause_us(PAUSE_US);
        }
        submission_release(keeper, submission_durable(keeper));
    }
    atomic_store(&kept, true);
}

/* ---- the whole ---- */

static struct store *open_store(const char *dir)
{
    const struct store_config config = { .dir = dir,
                                         .segment_len = SEGMENT_LEN,
                                         .keydir_len_max = UINT64_C(1) << 30,
                                         .now_us = 1 };
    struct store *store;
    struct store_recovery recovery;
    struct error err;

    STRESS_CHECK(store_open(&store, &config, &recovery, &err) == STATUS_OK,
                 "store_open");
    return store;
}

static void start_journal(struct store *store, struct journal_metrics *metrics)
{
    static struct submission *submissions[WORKERS];
    struct error err;

    commits = ring_new(sizeof(struct store_commit), COMMITS_LEN, WORKERS);
    keeper = submission_new(RING_LEN);
    STRESS_CHECK(commits != NULL && keeper != NULL, "no memory");
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i].index = i;
        workers[i].random = i * 1000003;
        workers[i].s = submissions[i] = submission_new(RING_LEN);
        STRESS_CHECK(submissions[i] != NULL, "no memory");
        bed_init(&workers[i].bed);
        ring_set_wake(commits, i, bed_call, &workers[i].bed);
    }
    const struct journal_config config = { .store = store,
                                           .commits = commits,
                                           .submissions = submissions,
                                           .worker_count = WORKERS,
                                           .keeper = keeper,
                                           .wake_worker = wake_worker,
                                           .metrics = metrics };
    STRESS_CHECK(journal_start(&journal, &config, &err) == STATUS_OK,
                 "journal_start");
}

static void end_journal(void)
{
    journal_stop(journal);
    journal_free(journal);
    for (size_t i = 0; i < WORKERS; i++) {
        submission_free(workers[i].s);
        bed_fini(&workers[i].bed);
    }
    submission_free(keeper);
    ring_free(commits);
}

static void run(const char *dir)
{
    struct journal_metrics metrics = { 0 };
    struct store *store = open_store(dir);

    start_journal(store, &metrics);
    for (size_t i = 0; i < WORKERS; i++) {
        (void)pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    keep();
    for (size_t i = 0; i < WORKERS; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
    STRESS_CHECK(workers[0].commits > 0 && workers[1].commits > 0,
                 "no batch on the ring");
    STRESS_CHECK(atomic_load(&groups[0]) > 0, "the journal never wrote");
    STRESS_CHECK(atomic_load(&groups[1]) > 0, "no worker ever wrote");
    (void)printf("%llu and %llu messages, %llu groups by the journal, "
                 "%llu by a worker\n",
                 (unsigned long long)workers[0].last_seq,
                 (unsigned long long)workers[1].last_seq,
                 (unsigned long long)atomic_load(&groups[0]),
                 (unsigned long long)atomic_load(&groups[1]));
    end_journal();
    store_close(store);
}

int main(int argc, char **argv)
{
    char dir[512];
    char path[sizeof dir + 16];

    if (argc == 3) { /* --plant DIR */
        planted = true;
        deadline_ms = 500;
        run(argv[2]);
        return 0;
    }
    tmpdir_make(dir, sizeof dir);
    (void)snprintf(path, sizeof path, "%s/good", dir);
    run(path);
    (void)snprintf(path, sizeof path, "%s/planted", dir);
    stress_expect_plant_fails(path);
    tmpdir_remove(dir);
    return 0;
}
