/* links: godwit_delivery godwit_proto */
#include "broker/delivery/ring.h"
#include "test/lib/stress.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* One producer, three consumers, a small ring, everybody really sleeping. Each
 * consumer must see every entry whole and in order, and nobody may sleep while
 * there is something to do.
 *
 *   flood   the ring is mostly full: slots are used again at once
 *   pulse   one entry at a time, all asleep in between: wake-ups */

enum { CONSUMERS = 3, SLOTS = 16, WORDS = 6, DEADLINE_MS = 5000 };
#define RUN_SECONDS 1.5

enum plant {
    PLANT_NONE,
    PLANT_EARLY,     /* published before it is filled */
    PLANT_OVERWRITE, /* done before it is read */
    PLANT_SLEEP,     /* sleeps although ring_sleep() said no */
    PLANT_ROOM       /* the producer likewise */
};

struct entry {
    uint64_t words[WORDS];
};

struct run {
    struct ring *ring;
    enum plant plant;
    bool pulse;
    int deadline_ms;
    struct bed producer;
    struct bed consumers[CONSUMERS];
    _Atomic bool done; /* nothing comes any more */
    uint64_t produced;
};

struct reader {
    struct run *run;
    size_t index;
    uint64_t seen;
    uint64_t slept;
};

static void fill(struct entry *entry, uint64_t number)
{
    for (size_t i = 0; i < WORDS; i++) {
        entry->words[i] = stress_mix(number + i);
    }
}

static void check_entry(const struct entry *entry, uint64_t number)
{
    for (size_t i = 0; i < WORDS; i++) {
        STRESS_CHECK(entry->words[i] == stress_mix(number + i),
                     "a torn or wrong entry");
    }
}

static void await_room(struct run *run)
{
    bool planted = run->plant == PLANT_ROOM;

    while (ring_claim(run->ring) == NULL) {
        if (planted) {
            stress_pause_us(2000); /* the consumers make room meanwhile */
        }
        if (ring_wait_room(run->ring) || planted) {
            STRESS_CHECK(bed_sleep(&run->producer, run->deadline_ms),
                         "the producer slept with room");
        }
    }
}

static void produce_one(struct run *run)
{
    struct entry *entry;

    await_room(run);
    entry = ring_claim(run->ring);
    STRESS_CHECK(entry == ring_claim(run->ring), "claimed twice");
    if (run->plant == PLANT_EARLY) {
        ring_publish(run->ring);
        sched_yield();
    }
    fill(entry, run->produced);
    run->produced++;
    if (run->plant != PLANT_EARLY) {
        ring_publish(run->ring);
    }
}

static void await_all_done(const struct run *run)
{
    double end = stress_seconds() + run->deadline_ms / 1000.0;

    for (size_t i = 0; i < CONSUMERS; i++) {
        while (ring_done(run->ring, i) < run->produced) {
            STRESS_CHECK(stress_seconds() < end,
                         "a consumer slept with an entry");
            sched_yield();
        }
    }
}

static void *produce(void *arg)
{
    struct run *run = arg;
    double end = stress_seconds() + RUN_SECONDS;

    while (stress_seconds() < end) {
        for (int i = 0; i < 64; i++) {
            produce_one(run);
            if (run->pulse) {
                await_all_done(run);
            }
        }
        if (run->produced % 1024 == 0) {
            stress_pause_us(100); /* let all fall asleep */
        }
    }
    await_all_done(run);
    /* One more wakes those who must see that it is over. */
    atomic_store(&run->done, true);
    produce_one(run);
    return NULL;
}

static void consume_some(struct reader *reader, size_t count)
{
    struct run *run = reader->run;

    if (run->plant == PLANT_OVERWRITE) {
        const struct entry *entry = ring_entry(run->ring, reader->index, 0);
        ring_consumed(run->ring, reader->index, 1);
        stress_pause_us(50);
        check_entry(entry, reader->seen++);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        check_entry(ring_entry(run->ring, reader->index, i), reader->seen + i);
    }
    ring_consumed(run->ring, reader->index, count);
    reader->seen += count;
    if (reader->seen % 997 == reader->index) {
        stress_pause_us(20); /* be the slowest now and then */
    }
}

static void sleep_if_idle(struct reader *reader)
{
    struct run *run = reader->run;
    bool planted = run->plant == PLANT_SLEEP;

    if (planted) {
        stress_pause_us(500); /* an entry comes meanwhile */
    }
    if (ring_sleep(run->ring, reader->index) || planted) {
        reader->slept++;
        STRESS_CHECK(
            bed_sleep(&run->consumers[reader->index], run->deadline_ms),
            "a consumer was not woken");
    }
    ring_awake(run->ring, reader->index);
}

static void *consume(void *arg)
{
    struct reader *reader = arg;
    struct run *run = reader->run;

    for (;;) {
        bool done = atomic_load(&run->done);
        size_t count = ring_available(run->ring, reader->index);
        STRESS_CHECK(count <= SLOTS, "more entries than slots");
        if (count > 0) {
            /* Sometimes all of them, sometimes one. */
            consume_some(reader, reader->seen % 3 == 0 ? 1 : count);
        } else if (done) {
            return NULL;
        } else {
            sleep_if_idle(reader);
        }
    }
}

static void run(enum plant plant, bool pulse)
{
    struct run r = { .ring = ring_new(sizeof(struct entry), SLOTS, CONSUMERS),
                     .plant = plant,
                     .pulse = pulse,
                     .deadline_ms = plant == PLANT_NONE ? DEADLINE_MS : 500 };
    struct reader readers[CONSUMERS];
    pthread_t threads[CONSUMERS + 1];

    STRESS_CHECK(r.ring != NULL, "no ring");
    bed_init(&r.producer);
    ring_set_producer_wake(r.ring, bed_call, &r.producer);
    for (size_t i = 0; i < CONSUMERS; i++) {
        bed_init(&r.consumers[i]);
        ring_set_wake(r.ring, i, bed_call, &r.consumers[i]);
        readers[i] = (struct reader) { .run = &r, .index = i };
        (void)pthread_create(&threads[i], NULL, consume, &readers[i]);
    }
    (void)pthread_create(&threads[CONSUMERS], NULL, produce, &r);
    for (size_t i = 0; i <= CONSUMERS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    for (size_t i = 0; i < CONSUMERS; i++) {
        STRESS_CHECK(readers[i].seen == r.produced
                         || readers[i].seen + 1 == r.produced,
                     "entries not seen");
        STRESS_CHECK(readers[i].slept > 0, "nobody ever slept");
        bed_fini(&r.consumers[i]);
    }
    bed_fini(&r.producer);
    ring_free(r.ring);
    (void)printf("%s: %llu entries\n", pulse ? "pulse" : "flood",
                 (unsigned long long)r.produced);
}

static const struct {
    const char *name;
    enum plant plant;
    bool pulse;
} plants[] = {
    { "early", PLANT_EARLY, false },
    { "overwrite", PLANT_OVERWRITE, false },
    { "sleep", PLANT_SLEEP, true },
    { "room", PLANT_ROOM, false },
};

int main(int argc, char **argv)
{
    if (argc == 3) {
        for (size_t i = 0; i < COUNT_OF(plants); i++) {
            if (strcmp(argv[2], plants[i].name) == 0) {
                run(plants[i].plant, plants[i].pulse);
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
