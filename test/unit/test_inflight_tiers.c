/* links: godwit_delivery godwit_storage godwit_proto */
/* with: test/lib/tmpdir.c */
/* wraps: tier_add wheel_link */
#include "broker/delivery/inflight_tier.h"
#include "broker/delivery/inflight_wheel.h"
#include "test/lib/tmpdir.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Which tier a transaction lies in must not be seen by anybody. One history of
 * calls, drawn from a seed and from nothing the table answers, is run with
 * different budgets; every answer is written down, what comes in no order in
 * the order of its keys; the books must be the same byte for byte. Each answer
 * is also compared with a plain array. With a bug planted into a lower tier the
 * books must differ or the array must disagree. */

enum {
    GROUPS = 3,
    HOLDERS = 5, /* of each group */
    KEYS = 1500, /* of each group */
    TOPICS = 3,
    STEPS = 60000
};
#define START  (UINT64_C(500) * 1000 * 1000)
#define TICK   ((uint64_t)INFLIGHT_TICK_US)
#define SECOND (UINT64_C(1000) * 1000)
#define DAY    (UINT64_C(86400) * SECOND)
#define HUGE   ((size_t)64 << 20)
#define SMALL  ((size_t)24 << 10)
#define TINY   ((size_t)2 << 10)

enum bug { BUG_NONE, BUG_LATE, BUG_CUT, BUG_MISPLACED };

static enum bug bug;

/* ---- the planted bugs: the linker puts these before the tier's own ---- */

struct entry *__real_tier_add(struct inflight_tier *tier, uint64_t hash,
                              const struct transaction *t);
struct entry *__wrap_tier_add(struct inflight_tier *tier, uint64_t hash,
                              const struct transaction *t);
void __real_wheel_link(struct inflight_wheel *wheel, struct inflight_tier *tier,
                       struct entry *entry);
void __wrap_wheel_link(struct inflight_wheel *wheel, struct inflight_tier *tier,
                       struct entry *entry);

struct entry *__wrap_tier_add(struct inflight_tier *tier, uint64_t hash,
                              const struct transaction *t)
{
    struct transaction copy = *t;

    if (bug == BUG_CUT && tier->kind == TIER_DIRECT) {
        copy.attempt = (uint8_t)copy.attempt; /* packed too tightly */
    }
    if (bug == BUG_LATE && tier->kind == TIER_FILE) {
        copy.due_us += TICK;
    }
    return __real_tier_add(tier, hash, &copy);
}

/* As if the wheel there stood somewhere else. */
void __wrap_wheel_link(struct inflight_wheel *wheel, struct inflight_tier *tier,
                       struct entry *entry)
{
    uint64_t tick = wheel->tick;

    if (bug == BUG_MISPLACED && tier->kind == TIER_FILE) {
        wheel->tick += 64;
    }
    __real_wheel_link(wheel, tier, entry);
    wheel->tick = tick;
}

/* ---- one run ---- */

struct known { /* what the plain array says of a key */
    uint8_t state;
    uint8_t holder; /* of HOLDERS, from 1 */
    uint8_t flags;
    uint32_t attempt;
    uint64_t due_us;
};

struct run {
    struct inflight *table;
    struct inflight_group *parts[GROUPS];
    struct inflight_list lists[GROUPS][HOLDERS + 1];
    struct known known[GROUPS][KEYS];
    uint64_t held[GROUPS], waiting[GROUPS];
    uint64_t now_us;
    uint64_t x; /* of the generator */
    unsigned char *book;
    size_t book_len, book_room;
    size_t wrong; /* answers that the plain array contradicts */
};

static char folder[256];

static void set_up(void)
{
    tmpdir_make(folder, sizeof folder);
}

static void tear_down(void)
{
    tmpdir_remove(folder);
}

TestSuite(inflight_tiers, .init = set_up, .fini = tear_down, .timeout = 120);

static uint64_t draw(struct run *r, uint64_t below)
{
    r->x = r->x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (r->x >> 33) % below;
}

static void note(struct run *r, const void *bytes, size_t len)
{
    if (r->book_len + len > r->book_room) {
        r->book_room = (r->book_len + len) * 2;
        r->book = realloc(r->book, r->book_room);
        cr_assert(r->book != NULL);
    }
    memcpy(r->book + r->book_len, bytes, len);
    r->book_len += len;
}

static void note_transaction(struct run *r, const struct transaction *t)
{
    struct transaction seen = { 0 };

    if (t != NULL) {
        memcpy(&seen, t, sizeof seen);
        seen.slot = 0;
        seen.since = 0;
    }
    note(r, &seen, sizeof seen);
}

/* Past the lanes of this: the same key always has the same topic. */
static uint32_t topic_of(uint64_t key)
{
    return (uint32_t)(key % TOPICS + 1);
}

static const struct transaction *find(struct run *r, size_t g, uint64_t key)
{
    const struct transaction *t =
        inflight_find(r->parts[g], topic_of(key), key);
    const struct known *known = &r->known[g][key];

    note_transaction(r, t);
    r->wrong += (t == NULL) != (known->state == 0);
    if (t != NULL) {
        r->wrong +=
            t->state != known->state || t->due_us != known->due_us
            || t->attempt != known->attempt || t->flags != known->flags
            || t->group != g + 1 || t->seq != key
            || t->holder
                   != (known->holder == 0 ? 0
                                          : known->holder + g * UINT64_C(1000));
    }
    return t;
}

static struct inflight_list *list_of(struct run *r, size_t g, uint8_t holder)
{
    return holder == 0 ? NULL : &r->lists[g][holder];
}

/* A state for it, drawn anew: times from a few ticks to beyond a year. */
static void draw_known(struct run *r, struct known *known)
{
    static const uint64_t spans[] = { 20 * TICK,     SECOND,  90 * SECOND,
                                      3600 * SECOND, 5 * DAY, 400 * DAY };

    known->state = (uint8_t)(TRANSACTION_HELD + draw(r, 5) / 2);
    known->holder =
        known->state == TRANSACTION_HELD ? (uint8_t)(1 + draw(r, HOLDERS)) : 0;
    known->attempt = (uint32_t)draw(r, 100000);
    known->flags = (uint8_t)draw(r, 256);
    known->due_us = known->state == TRANSACTION_READY
                        ? 0
                        : r->now_us + draw(r, spans[draw(r, 6)]);
}

static struct transaction transaction_of(size_t g, uint64_t key,
                                         const struct known *known)
{
    return (struct transaction) {
        .group = (uint32_t)g + 1,
        .topic = topic_of(key),
        .seq = key,
        .holder = known->holder == 0 ? 0 : known->holder + g * UINT64_C(1000),
        .due_us = known->due_us,
        .attempt = known->attempt,
        .bytes = (uint32_t)key,
        .state = known->state,
        .flags = known->flags
    };
}

static void count(struct run *r, size_t g, uint8_t state, int by)
{
    *(state == TRANSACTION_HELD ? &r->held[g] : &r->waiting[g]) +=
        (uint64_t)(int64_t)by;
}

static void begin_or_change(struct run *r, size_t g, uint64_t key)
{
    struct known *known = &r->known[g][key];
    struct known old = *known;
    const struct transaction *t = find(r, g, key);
    struct transaction next;

    draw_known(r, known);
    if (old.state != 0 && known->state == old.state && draw(r, 2) == 0) {
        known->holder = old.holder; /* extended */
    }
    next = transaction_of(g, key, known);
    count(r, g, known->state, 1);
    if (old.state != 0) {
        count(r, g, old.state, -1);
        if (t != NULL) {
            inflight_change(r->parts[g], t, &next, list_of(r, g, old.holder),
                            list_of(r, g, known->holder), r->now_us);
        }
    } else if (t == NULL) {
        cr_assert(inflight_begin(r->parts[g], &next,
                                 list_of(r, g, known->holder), r->now_us)
                  == STATUS_OK);
    }
}

static void end(struct run *r, size_t g, uint64_t key)
{
    struct known *known = &r->known[g][key];
    const struct transaction *t = find(r, g, key);

    if (t != NULL) {
        inflight_end(r->parts[g], t, list_of(r, g, known->holder), r->now_us);
    }
    if (known->state != 0) {
        count(r, g, known->state, -1);
    }
    *known = (struct known) { 0 };
}

static int by_seq(const void *a, const void *b)
{
    const struct transaction *left = a;
    const struct transaction *right = b;

    return (left->seq > right->seq) - (left->seq < right->seq);
}

struct gathered {
    struct transaction t[KEYS];
    size_t count;
};

static void note_gathered(struct run *r, struct gathered *all)
{
    qsort(all->t, all->count, sizeof *all->t, by_seq);
    note(r, &all->count, sizeof all->count);
    for (size_t i = 0; i < all->count; i++) {
        note_transaction(r, &all->t[i]);
    }
}

/* What is due ends, or gets another time. Nothing is due that the array does
 * not say is, and all that is. */
static void turn(struct run *r, size_t g)
{
    static struct gathered all;
    const struct transaction *t;

    all.count = 0;
    while (inflight_due_us(r->parts[g]) <= r->now_us) {
        t = inflight_due(r->parts[g], r->now_us);
        if (t == NULL) {
            continue;
        }
        cr_assert(all.count < KEYS);
        all.t[all.count++] = *t;
        r->wrong +=
            t->due_us > r->now_us || r->known[g][t->seq].due_us != t->due_us;
        end(r, g, t->seq);
        r->book_len -= sizeof *t; /* in no order */
    }
    note_gathered(r, &all);
    for (uint64_t key = 0; key < KEYS; key++) {
        const struct known *known = &r->known[g][key];
        r->wrong += (known->state == TRANSACTION_HELD
                     || known->state == TRANSACTION_DELAYED)
                    && (known->due_us + TICK - 1) / TICK <= r->now_us / TICK;
    }
}

/* All that one holder has goes back. */
static void leave(struct run *r, size_t g, uint8_t holder)
{
    static struct gathered all;
    const struct transaction *t;

    all.count = 0;
    while ((t = inflight_first(r->parts[g], &r->lists[g][holder])) != NULL) {
        cr_assert(all.count < KEYS);
        all.t[all.count++] = *t;
        r->wrong += r->known[g][t->seq].holder != holder;
        end(r, g, t->seq);
        r->book_len -= sizeof *t;
    }
    r->wrong += r->lists[g][holder].count != 0;
    note_gathered(r, &all);
}

static bool gather(void *arg, const struct transaction *t)
{
    struct gathered *all = arg;

    cr_assert(all->count < KEYS);
    all->t[all->count++] = *t;
    return true;
}

static void look_at_all(struct run *r, size_t g)
{
    static struct gathered all;

    for (uint32_t topic = 1; topic <= TOPICS; topic++) {
        all.count = 0;
        inflight_each(r->parts[g], topic, gather, &all);
        note_gathered(r, &all);
    }
}

static void new_group(struct run *r, size_t g)
{
    inflight_group_free(r->parts[g]);
    r->parts[g] = inflight_group_new(r->table, (uint32_t)g + 1);
    cr_assert(r->parts[g] != NULL);
    memset(r->known[g], 0, sizeof r->known[g]);
    memset(r->lists[g], 0, sizeof r->lists[g]);
    r->held[g] = 0;
    r->waiting[g] = 0;
}

static void step(struct run *r)
{
    size_t g = (size_t)draw(r, GROUPS);
    uint64_t what = draw(r, 1000);
    uint64_t key = draw(r, KEYS);

    if (what < 600) {
        begin_or_change(r, g, key);
    } else if (what < 850) {
        end(r, g, key);
    } else if (what < 950) {
        (void)find(r, g, key);
    } else if (what < 985) {
        r->now_us += draw(r, draw(r, 10) == 0 ? 100 * SECOND : 3 * TICK);
        turn(r, g);
    } else if (what < 993) {
        leave(r, g, (uint8_t)(1 + draw(r, HOLDERS)));
    } else if (what < 998) {
        look_at_all(r, g);
    } else if (what < 999) {
        r->now_us += draw(r, 30 * DAY);
    } else if (draw(r, 10) == 0) {
        new_group(r, g);
    }
    r->wrong += inflight_held(r->parts[g]) != r->held[g]
                || inflight_waiting(r->parts[g]) != r->waiting[g];
}

struct budgets {
    size_t bytes[TIER_COUNT];
};

static void run_history(struct run *r, uint64_t seed,
                        const struct budgets *budgets)
{
    char path[300];
    struct inflight_config config = { .now_us = START, .file_path = path };

    (void)snprintf(path, sizeof path, "%s/inflight", folder);
    memcpy(config.bytes, budgets->bytes, sizeof config.bytes);
    *r = (struct run) { .x = seed, .now_us = START };
    cr_assert(inflight_new(&r->table, &config, NULL) == STATUS_OK);
    for (size_t g = 0; g < GROUPS; g++) {
        new_group(r, g);
    }
    for (int i = 0; i < STEPS; i++) {
        step(r);
    }
    for (size_t g = 0; g < GROUPS; g++) {
        look_at_all(r, g);
        inflight_group_free(r->parts[g]);
    }
}

static struct inflight_figures close_run(struct run *r)
{
    struct inflight_figures figures;

    inflight_figures(r->table, &figures);
    inflight_free(r->table);
    free(r->book);
    return figures;
}

/* The last is where the rest goes; all are used. */
static const struct budgets all_budgets[] = {
    { { HUGE, 0, 0 } },    { { TINY, TINY, HUGE } },  { { 0, 0, HUGE } },
    { { TINY, 0, HUGE } }, { { 0, TINY, HUGE } },     { { 0, HUGE, 0 } },
    { { TINY, HUGE, 0 } }, { { SMALL, TINY, HUGE } }, { { SMALL, SMALL, HUGE } }
};

static void check_figures(const struct inflight_figures *figures,
                          const struct budgets *budgets)
{
    for (int tier = 0; tier < TIER_COUNT; tier++) {
        cr_assert_eq(figures->tiers[tier].count, 0);
        cr_assert((budgets->bytes[tier] > 0)
                  == (figures->tiers[tier].ended > 0));
    }
}

static void compare_all(uint64_t seed)
{
    static struct run first, other;

    run_history(&first, seed, &all_budgets[0]);
    cr_assert_eq(first.wrong, 0);
    cr_assert(first.book_len > 1000000);
    for (size_t i = 1; i < COUNT_OF(all_budgets); i++) {
        struct inflight_figures figures;
        run_history(&other, seed, &all_budgets[i]);
        cr_assert_eq(other.wrong, 0, "GODWIT_SEED=%zu, budgets %zu: %zu wrong",
                     (size_t)seed, i, other.wrong);
        cr_assert(other.book_len == first.book_len
                      && memcmp(other.book, first.book, first.book_len) == 0,
                  "GODWIT_SEED=%zu, budgets %zu", (size_t)seed, i);
        figures = close_run(&other);
        check_figures(&figures, &all_budgets[i]);
    }
    (void)close_run(&first);
}

Test(inflight_tiers, budgets_change_nothing_that_can_be_seen)
{
    const char *given = getenv("GODWIT_SEED");

    for (uint64_t seed = 1; seed <= 2; seed++) {
        compare_all(seed);
    }
    compare_all(given != NULL ? strtoull(given, NULL, 10)
                              : (uint64_t)time(NULL));
}

/* ---- and the harness finds what is wrong ---- */

static bool notices(enum bug planted, const struct budgets *budgets)
{
    static struct run right, wrong;
    bool noticed;

    bug = BUG_NONE;
    run_history(&right, 3, budgets);
    bug = planted;
    run_history(&wrong, 3, budgets);
    bug = BUG_NONE;
    noticed = wrong.book_len != right.book_len
              || memcmp(wrong.book, right.book, right.book_len) != 0;
    noticed = noticed && wrong.wrong > 0;
    (void)close_run(&right);
    (void)close_run(&wrong);
    return noticed;
}

Test(inflight_tiers, a_time_that_is_moved_on_the_way_down_is_noticed)
{
    cr_assert(notices(BUG_LATE, &all_budgets[1]));
}

Test(inflight_tiers, a_field_that_is_cut_on_the_way_down_is_noticed)
{
    cr_assert(notices(BUG_CUT, &all_budgets[1]));
}

Test(inflight_tiers, a_wheel_that_turns_past_it_is_noticed)
{
    cr_assert(notices(BUG_MISPLACED, &all_budgets[1]));
}
