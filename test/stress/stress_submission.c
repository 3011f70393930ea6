/* links: godwit_delivery godwit_proto */
#include "broker/delivery/submission.h"
#include "test/lib/stress.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* A worker and a journal on one small submission ring, both really sleeping. A
 * record is its length, its number in the worker's count, the place where the
 * journal notes its own number, and words that follow from the number. Each
 * must reach the journal whole and in order, and come back numbered and placed:
 * the log of this journal begins where the ring does, without heads and gaps.
 *
 *   flood   any record wakes the journal; the ring is mostly full
 *   ride    only urgent ones do, the others must ride along */

enum { RING_LEN = 16384, RECORD_WORDS_MAX = 64, DEADLINE_MS = 5000 };
#define RUN_SECONDS 1.5

enum plant {
    PLANT_NONE,
    PLANT_EARLY,   /* published before it is filled */
    PLANT_SLEEP,   /* the journal sleeps although it was told not to */
    PLANT_NUMBERS, /* settled before it is numbered */
    PLANT_URGENT,  /* the worker does not say that it is urgent */
    PLANT_PLACE    /* settled before its place is noted */
};

enum { WORD_LEN, WORD_NUMBER, WORD_SEQ, WORD_BODY };

struct run {
    struct submission *s;
    enum plant plant;
    bool ride;
    int deadline_ms;
    struct bed worker;
    struct bed journal;
    _Atomic bool done;
    uint64_t written;
    uint64_t read_back;
    uint64_t taken;
    uint64_t taken_bytes;
    uint64_t slept;
};

/* ---- worker ---- */

static size_t words_of(uint64_t number)
{
    return WORD_BODY + stress_mix(number) % (RECORD_WORDS_MAX - WORD_BODY);
}

static void fill(uint64_t *record, uint64_t number)
{
    size_t words = words_of(number);

    record[WORD_LEN] = words * sizeof *record;
    record[WORD_NUMBER] = number;
    record[WORD_SEQ] = 0;
    for (size_t i = WORD_BODY; i < words; i++) {
        record[i] = stress_mix(number + i);
    }
}

static void publish(struct run *run)
{
    if (submission_publish(run->s)) {
        bed_call(&run->journal);
    }
}

static void check_place(struct run *run, uint64_t position)
{
    struct submission_place place;

    STRESS_CHECK(submission_placed(run->s, position, &place), "no place");
    STRESS_CHECK(place.offset == (uint32_t)position, "not its place");
}

static void read_back(struct run *run, uint64_t *position)
{
    uint64_t durable = submission_durable(run->s);

    while (*position < durable) {
        const uint64_t *record =
            (const uint64_t *)(void *)submission_at(run->s, *position);
        STRESS_CHECK(record[WORD_NUMBER] == run->read_back, "out of order");
        STRESS_CHECK(record[WORD_SEQ] == run->read_back + 1, "not numbered");
        check_place(run, *position);
        run->read_back++;
        *position += record[WORD_LEN];
    }
    submission_release(run->s, *position);
}

static uint64_t *reserve(struct run *run, size_t len, uint64_t *position)
{
    uint8_t *at;

    while ((at = submission_reserve(run->s, len)) == NULL) {
        uint64_t durable = submission_durable(run->s);
        if (durable > *position) {
            read_back(run, position);
            continue;
        }
        /* The ride must not wait for urgency that cannot come. */
        STRESS_CHECK(!run->ride, "full of records that ride");
        publish(run);
        STRESS_CHECK(bed_sleep(&run->worker, run->deadline_ms),
                     "nothing became durable");
    }
    return (uint64_t *)(void *)at;
}

static void write_one(struct run *run, bool urgent, uint64_t *position)
{
    uint64_t number = run->written++;
    size_t len = words_of(number) * sizeof(uint64_t);
    uint64_t *record = reserve(run, len, position);

    if (run->plant == PLANT_EARLY) {
        record[WORD_LEN] = len;
        (void)submission_write(run->s, len, urgent);
        publish(run);
        sched_yield();
        fill(record, number);
        return;
    }
    fill(record, number);
    (void)submission_write(run->s, len,
                           run->plant == PLANT_URGENT ? false : urgent);
}

static void await_durable(struct run *run, uint64_t *position)
{
    while (submission_durable(run->s) < submission_written(run->s)) {
        STRESS_CHECK(bed_sleep(&run->worker, run->deadline_ms),
                     "the journal slept with an urgent record");
    }
    read_back(run, position);
}

static void *work(void *arg)
{
    struct run *run = arg;
    double end = stress_seconds() + RUN_SECONDS;
    uint64_t position = 0;

    while (stress_seconds() < end) {
        uint64_t turn = stress_mix(run->written);
        for (uint64_t i = 0; i <= turn % 8; i++) {
            write_one(run, !run->ride, &position);
            if (turn % 3 == 0) {
                publish(run);
            }
        }
        if (run->ride) {
            publish(run);
            write_one(run, true, &position);
        }
        publish(run);
        if (run->ride || turn % 64 == 0) {
            await_durable(run, &position);
        } else {
            read_back(run, &position);
        }
    }
    atomic_store(&run->done, true);
    write_one(run, true, &position);
    publish(run);
    await_durable(run, &position);
    return NULL;
}

/* ---- journal ---- */

static void check_record(const uint64_t *record, uint64_t number)
{
    size_t words = words_of(number);

    STRESS_CHECK(record[WORD_NUMBER] == number, "not the next record");
    STRESS_CHECK(record[WORD_LEN] == words * sizeof *record, "wrong length");
    for (size_t i = WORD_BODY; i < words; i++) {
        STRESS_CHECK(record[i] == stress_mix(number + i), "torn record");
    }
}

/* So and so many bytes are written: take them. */
static void take(struct run *run, size_t len)
{
    const struct submission_place place = { 1, (uint32_t)run->taken_bytes };

    if (run->plant != PLANT_PLACE) {
        submission_note(run->s, len, place);
    }
    submission_take(run->s, len);
    run->taken_bytes += len;
}

/* Number what is there, or sometimes only a part. */
static size_t number_records(struct run *run, uint8_t *at, size_t len)
{
    size_t done = 0;

    while (done < len && (done == 0 || run->taken % 5 != 0)) {
        uint64_t *record = (uint64_t *)(void *)(at + done);
        check_record(record, run->taken);
        done += record[WORD_LEN];
        run->taken++;
        if (run->plant == PLANT_NUMBERS) {
            take(run, record[WORD_LEN]);
            submission_settle(run->s);
            bed_call(&run->worker);
            stress_pause_us(50);
        }
        record[WORD_SEQ] = run->taken;
    }
    return done;
}

/* Planted: only when the worker may have read it already. */
static void note_late(struct run *run, size_t len)
{
    uint64_t begin = run->taken_bytes - len;

    if (run->plant == PLANT_PLACE) {
        bed_call(&run->worker);
        stress_pause_us(50);
        submission_note(run->s, len,
                        (struct submission_place) { 1, (uint32_t)begin });
    }
}

static void take_some(struct run *run, uint8_t *at, size_t len)
{
    size_t done = number_records(run, at, len);

    if (run->plant != PLANT_NUMBERS) {
        take(run, done);
        if (run->taken % 7 == 0) {
            stress_pause_us(30); /* a sync takes its time */
        }
        submission_settle(run->s);
        note_late(run, done);
    }
    bed_call(&run->worker);
}

static void sleep_if_idle(struct run *run)
{
    bool planted = run->plant == PLANT_SLEEP;

    if (planted) {
        stress_pause_us(2000); /* a record comes meanwhile */
    }
    if (submission_sleep(run->s, run->ride) || planted) {
        run->slept++;
        STRESS_CHECK(bed_sleep(&run->journal, run->deadline_ms),
                     "the journal was not woken");
    }
    submission_awake(run->s);
}

static void *keep_journal(void *arg)
{
    struct run *run = arg;

    for (;;) {
        bool done = atomic_load(&run->done);
        bool urgent = submission_urgent(run->s);
        uint8_t *at;
        size_t len = submission_peek(run->s, &at);
        if (len > 0 && (urgent || !run->ride)) {
            take_some(run, at, len);
        } else if (done && len == 0) {
            return NULL;
        } else {
            sleep_if_idle(run);
        }
    }
}

static void run(enum plant plant, bool ride)
{
    struct run r = { .s = submission_new(RING_LEN),
                     .plant = plant,
                     .ride = ride,
                     .deadline_ms = plant == PLANT_NONE ? DEADLINE_MS : 500 };
    pthread_t worker;
    pthread_t journal;

    STRESS_CHECK(r.s != NULL, "no ring");
    bed_init(&r.worker);
    bed_init(&r.journal);
    (void)pthread_create(&journal, NULL, keep_journal, &r);
    (void)pthread_create(&worker, NULL, work, &r);
    (void)pthread_join(worker, NULL);
    (void)pthread_join(journal, NULL);
    STRESS_CHECK(r.read_back == r.written && r.taken == r.written,
                 "records are missing");
    STRESS_CHECK(r.slept > 0, "the journal never slept");
    bed_fini(&r.worker);
    bed_fini(&r.journal);
    submission_free(r.s);
    (void)printf("%s: %llu records, slept %llu times\n",
                 ride ? "ride" : "flood", (unsigned long long)r.written,
                 (unsigned long long)r.slept);
}

static const struct {
    const char *name;
    enum plant plant;
    bool ride;
} plants[] = {
    { "early", PLANT_EARLY, false },     { "sleep", PLANT_SLEEP, true },
    { "numbers", PLANT_NUMBERS, false }, { "urgent", PLANT_URGENT, true },
    { "place", PLANT_PLACE, false },
};

int main(int argc, char **argv)
{
    if (argc == 3) {
        for (size_t i = 0; i < COUNT_OF(plants); i++) {
            if (strcmp(argv[2], plants[i].name) == 0) {
                run(plants[i].plant, plants[i].ride);
            }
        }
        return 0;
    }
    run(PLANT_NONE, false);
    run(PLANT_NONE, true);
    for (size_t i = 0; i < COUNT_OF(plants); i++) {
        stress_expect_plant_fails(plants[i].name);
    }
    return 0;
}
