/* links: godwit_delivery godwit_proto */
#include "broker/delivery/mailbox.h"
#include "proto/check.h"
#include "test/lib/stress.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* Three senders, one receiver that really sleeps. Every letter arrives once,
 * whole, and in the order of its sender. */

enum { SENDERS = 3, WORDS = 4, DEADLINE_MS = 5000, TAKEN_PER_TURN = 16 };
#define RUN_SECONDS 2.0

enum plant {
    PLANT_NONE,
    PLANT_EARLY, /* pushed before it is written */
    PLANT_CALL,  /* the call is forgotten after the last look */
    PLANT_REST   /* some are left and the receiver sleeps */
};

struct note {
    struct letter letter; /* first */
    size_t sender;
    uint64_t number;
    uint64_t words[WORDS];
};

struct run {
    struct mailbox *mailbox;
    enum plant plant;
    int deadline_ms;
    struct bed bed;
    _Atomic uint64_t sent[SENDERS];
    _Atomic size_t finished;
    uint64_t received[SENDERS];
    uint64_t slept;
};

struct sender {
    struct run *run;
    size_t index;
};

static void receive(struct letter *letter, void *receiver)
{
    struct run *run = receiver;
    struct note *note = container_of(letter, struct note, letter);

    STRESS_CHECK(note->sender < SENDERS, "no sender");
    STRESS_CHECK(note->number == run->received[note->sender], "out of order");
    for (size_t i = 0; i < WORDS; i++) {
        STRESS_CHECK(note->words[i] == stress_mix(note->number + i),
                     "torn letter");
    }
    run->received[note->sender]++;
    if (run->plant != PLANT_EARLY) { /* there its sender still writes it */
        free(note);
    }
}

static void send_one(struct sender *sender, uint64_t number)
{
    struct run *run = sender->run;
    struct note *note = calloc(1, sizeof *note);

    STRESS_CHECK(note != NULL, "no memory");
    note->letter.deliver = receive;
    note->sender = sender->index;
    if (run->plant == PLANT_EARLY) {
        mailbox_push(run->mailbox, &note->letter);
        stress_pause_us(50);
    }
    note->number = number;
    for (size_t i = 0; i < WORDS; i++) {
        note->words[i] = stress_mix(number + i);
    }
    if (run->plant != PLANT_EARLY) {
        mailbox_push(run->mailbox, &note->letter);
    }
    atomic_fetch_add(&run->sent[sender->index], 1);
}

static void *send_letters(void *arg)
{
    struct sender *sender = arg;
    double end = stress_seconds() + RUN_SECONDS;
    uint64_t number = 0;

    while (stress_seconds() < end) {
        uint64_t burst = stress_mix(number) % 40;
        for (uint64_t i = 0; i <= burst; i++) {
            send_one(sender, number++);
        }
        stress_pause_us(burst == 0 ? 2000 : 30); /* let it fall asleep */
    }
    send_one(sender, number);
    if (atomic_fetch_add(&sender->run->finished, 1) == SENDERS - 1) {
        bed_call(&sender->run->bed); /* it is over */
    }
    return NULL;
}

static bool all_received(const struct run *run)
{
    bool all = atomic_load(&run->finished) == SENDERS;

    for (size_t i = 0; i < SENDERS; i++) {
        all &= run->received[i] == atomic_load(&run->sent[i]);
    }
    return all;
}

static void take_some(struct run *run)
{
    struct letter *letter;
    int budget = TAKEN_PER_TURN;

    while (budget-- > 0 && (letter = mailbox_take(run->mailbox)) != NULL) {
        letter->deliver(letter, run);
    }
}

static void *receive_letters(void *arg)
{
    struct run *run = arg;

    while (!all_received(run)) {
        bool called;
        if (run->plant == PLANT_CALL) {
            stress_pause_us(100);
            (void)bed_sleep(&run->bed, 0);
        }
        run->slept++;
        called = bed_sleep(&run->bed, run->deadline_ms);
        STRESS_CHECK(called || all_received(run), "not called");
        do {
            take_some(run);
        } while (run->plant != PLANT_REST && !mailbox_empty(run->mailbox));
    }
    return NULL;
}

static void run(enum plant plant)
{
    static struct run r;
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS + 1];
    uint64_t total = 0;

    r.plant = plant;
    r.deadline_ms = plant == PLANT_NONE ? DEADLINE_MS : 500;
    bed_init(&r.bed);
    r.mailbox = mailbox_new(bed_call, &r.bed);
    STRESS_CHECK(r.mailbox != NULL, "no mailbox");
    (void)pthread_create(&threads[SENDERS], NULL, receive_letters, &r);
    for (size_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender) { &r, i };
        (void)pthread_create(&threads[i], NULL, send_letters, &senders[i]);
    }
    for (size_t i = 0; i <= SENDERS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    for (size_t i = 0; i < SENDERS; i++) {
        total += r.received[i];
    }
    mailbox_free(r.mailbox);
    bed_fini(&r.bed);
    (void)printf("%llu letters, slept %llu times\n", (unsigned long long)total,
                 (unsigned long long)r.slept);
}

static const struct {
    const char *name;
    enum plant plant;
} plants[] = {
    { "early", PLANT_EARLY },
    { "call", PLANT_CALL },
    { "rest", PLANT_REST },
};

int main(int argc, char **argv)
{
    if (argc == 3) {
        for (size_t i = 0; i < COUNT_OF(plants); i++) {
            if (strcmp(argv[2], plants[i].name) == 0) {
                run(plants[i].plant);
            }
        }
        return 0;
    }
    run(PLANT_NONE);
    for (size_t i = 0; i < COUNT_OF(plants); i++) {
        stress_expect_plant_fails(plants[i].name);
    }
    return 0;
}
