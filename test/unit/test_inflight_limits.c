/* links: godwit_delivery godwit_storage godwit_proto */
/* with: test/lib/tmpdir.c test/lib/faulty_vfs.c test/lib/memory.c */
/* wraps: memory */
#include "broker/delivery/inflight.h"
#include "test/lib/faulty_vfs.h"
#include "test/lib/memory.h"
#include "test/lib/tmpdir.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where a tier ends: its budget, the memory, the disk. */

enum { GROUP = 5, HOLDER = 7 };
#define START  (UINT64_C(500) * 1000 * 1000)
#define TICK   ((uint64_t)INFLIGHT_TICK_US)
#define SECOND (UINT64_C(1000) * 1000)
#define KIB    ((size_t)1024)
#define MIB    (1024 * KIB)

static char folder[256];
static char path[300];
static struct faulty_vfs vfs;
static struct inflight *table;
static struct inflight_group *part;
static struct inflight_list list;
static uint64_t now_us;

static enum status try_open(size_t heap, size_t direct, size_t file)
{
    struct inflight_config config = { .bytes = { heap, direct, file },
                                      .file_path = path,
                                      .vfs = &vfs.vfs,
                                      .now_us = START };

    list = (struct inflight_list) { 0 };
    now_us = START;
    return inflight_new(&table, &config, NULL);
}

static void open_table(size_t heap, size_t direct, size_t file)
{
    cr_assert(try_open(heap, direct, file) == STATUS_OK);
    part = inflight_group_new(table, GROUP);
    cr_assert(part != NULL);
}

static void close_table(void)
{
    inflight_group_free(part);
    inflight_free(table);
    part = NULL;
    table = NULL;
}

static void set_up(void)
{
    tmpdir_make(folder, sizeof folder);
    (void)snprintf(path, sizeof path, "%s/inflight", folder);
    faulty_vfs_init(&vfs);
}

static void tear_down(void)
{
    close_table();
    tmpdir_remove(folder);
}

TestSuite(inflight_limits, .init = set_up, .fini = tear_down, .timeout = 60);

static enum status begin_due(uint64_t seq, uint64_t due_us)
{
    struct transaction t = { .group = GROUP,
                             .topic = 1,
                             .seq = seq,
                             .holder = HOLDER,
                             .due_us = due_us,
                             .attempt = 1,
                             .state = TRANSACTION_HELD };

    return inflight_begin(part, &t, &list, now_us);
}

static enum status begin(uint64_t seq)
{
    return begin_due(seq, now_us + 3600 * SECOND);
}

static void end(uint64_t seq)
{
    const struct transaction *t = inflight_find(part, 1, seq);

    cr_assert(t != NULL);
    inflight_end(part, t, &list, now_us);
}

static void extend(uint64_t seq)
{
    const struct transaction *t = inflight_find(part, 1, seq);
    struct transaction next;

    cr_assert(t != NULL);
    next = *t;
    next.due_us += SECOND;
    inflight_change(part, t, &next, &list, &list, now_us);
}

static struct inflight_figures figures(void)
{
    struct inflight_figures f;

    inflight_figures(table, &f);
    return f;
}

static uint64_t places(void)
{
    struct inflight_figures f = figures();

    return f.tiers[0].count_max + f.tiers[1].count_max + f.tiers[2].count_max;
}

static void check_found(uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq++) {
        const struct transaction *t = inflight_find(part, 1, seq);
        cr_assert(t != NULL && t->seq == seq, "%zu", (size_t)seq);
    }
}

/* ---- budgets ---- */

Test(inflight_limits, all_places_of_all_tiers_are_used_and_not_one_more)
{
    static const size_t budgets[][TIER_COUNT] = {
        { 4096, 4096, 65536 }, { 4096, 0, 0 },       { 0, 4096, 0 },
        { 0, 0, 65536 },       { 10000, 5000, 300 }, { 1200, 1000000, 4096 }
    };

    for (size_t i = 0; i < COUNT_OF(budgets); i++) {
        uint64_t fit;
        open_table(budgets[i][0], budgets[i][1], budgets[i][2]);
        fit = places();
        for (uint64_t seq = 1; seq <= fit; seq++) {
            now_us += 5000;
            cr_assert(begin(seq) == STATUS_OK, "%zu of %zu", (size_t)seq,
                      (size_t)fit);
        }
        cr_assert(begin(fit + 1) == STATUS_AGAIN);
        for (int tier = 0; tier < TIER_COUNT; tier++) {
            struct inflight_figures f = figures();
            cr_assert_eq(f.tiers[tier].count, f.tiers[tier].count_max);
            cr_assert(f.tiers[tier].bytes <= budgets[i][tier]);
        }
        check_found(1, fit);
        end(1 + fit / 2);
        cr_assert(begin(fit + 1) == STATUS_OK);
        cr_assert(begin(fit + 2) == STATUS_AGAIN);
        close_table();
    }
}

Test(inflight_limits, a_budget_for_less_than_one_is_none)
{
    open_table(0, 0, 0);
    cr_assert_eq(places(), 0);
    cr_assert(begin(1) == STATUS_AGAIN);
    cr_assert(!inflight_group_has_room(part));
    close_table();
    open_table(255, 191, 191);
    cr_assert_eq(places(), 0);
    close_table();
    open_table(256, 192, 192); /* an index and one entry */
    cr_assert_eq(places(), 3);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        cr_assert(begin(seq) == STATUS_OK);
    }
    cr_assert(begin(4) == STATUS_AGAIN);
    check_found(1, 3);
}

Test(inflight_limits, ten_thousand_idle_groups_cost_two_megabytes)
{
    enum { IDLE = 10000 };
    static struct inflight_group *idle[IDLE];
    size_t before = mallinfo2().uordblks;
    size_t after;

    open_table(4 * MIB, 4 * MIB, 0);
    for (uint32_t i = 0; i < IDLE; i++) {
        struct transaction t = { .group = GROUP + 1 + i,
                                 .topic = 1,
                                 .seq = 1,
                                 .due_us = START + SECOND,
                                 .state = TRANSACTION_DELAYED };
        idle[i] = inflight_group_new(table, t.group);
        cr_assert(idle[i] != NULL);
        cr_assert(inflight_begin(idle[i], &t, NULL, now_us) == STATUS_OK);
    }
    for (uint32_t i = 0; i < IDLE; i++) { /* idle again */
        inflight_end(idle[i], inflight_find(idle[i], 1, 1), NULL, now_us);
    }
    after = mallinfo2().uordblks;
    cr_assert(after - before < IDLE * 200 + 512 * KIB, "%zu", after - before);
    for (uint32_t i = 0; i < IDLE; i++) {
        inflight_group_free(idle[i]);
    }
}

/* ---- who lies where ---- */

Test(inflight_limits, what_is_fresh_ends_in_the_heap_whatever_lies_below)
{
    enum { STUCK = 20000, FRESH = 50000, WINDOW = 200 };
    struct inflight_figures before, after;

    open_table(64 * KIB, 256 * KIB, 16 * MIB);
    for (uint64_t seq = 1; seq <= STUCK; seq++) {
        now_us += 100;
        cr_assert(begin(seq) == STATUS_OK);
    }
    before = figures();
    cr_assert(before.tiers[TIER_FILE].count > STUCK / 2);
    cr_assert_eq(before.tiers[TIER_DIRECT].demoted,
                 before.tiers[TIER_DIRECT].count
                     + before.tiers[TIER_FILE].count);
    for (uint64_t seq = STUCK + 1; seq <= STUCK + FRESH; seq++) {
        now_us += 100;
        cr_assert(begin(seq) == STATUS_OK);
        if (seq > STUCK + WINDOW) {
            end(seq - WINDOW);
        }
    }
    after = figures();
    cr_assert(after.tiers[TIER_HEAP].ended * 1000
              >= (uint64_t)(FRESH - WINDOW) * 999);
    check_found(1, STUCK);
}

Test(inflight_limits, what_is_touched_comes_up_when_there_is_room)
{
    open_table(64 * KIB, 64 * KIB, 16 * MIB);
    for (uint64_t seq = 1; seq <= 5000; seq++) {
        now_us += 1000;
        cr_assert(begin(seq) == STATUS_OK);
    }
    extend(1); /* no room above: stays */
    cr_assert_eq(figures().tiers[TIER_HEAP].promoted, 0);
    for (uint64_t seq = 4000; seq <= 5000; seq++) {
        end(seq);
    }
    cr_assert(figures().tiers[TIER_HEAP].count
              < figures().tiers[TIER_HEAP].count_max / 2);
    extend(1);
    cr_assert_eq(figures().tiers[TIER_HEAP].promoted, 1);
    check_found(1, 3999);
}

Test(inflight_limits, an_emptied_tier_gives_its_memory_back)
{
    enum { MANY = 300000 };

    open_table(64 * KIB, 8 * MIB, 64 * MIB);
    for (int round = 0; round < 2; round++) {
        struct inflight_figures f;
        for (uint64_t seq = 1; seq <= MANY; seq++) {
            now_us += 10;
            cr_assert(begin(seq) == STATUS_OK);
        }
        f = figures();
        cr_assert(f.tiers[TIER_FILE].bytes
                  >= f.tiers[TIER_FILE].count * sizeof(struct transaction));
        for (uint64_t seq = 1; seq <= MANY; seq++) {
            end(seq);
        }
        f = figures();
        cr_assert_eq(f.tiers[TIER_FILE].bytes, 0);
        cr_assert_eq(f.tiers[TIER_DIRECT].bytes, 0);
    }
}

Test(inflight_limits, how_long_they_were_held_is_counted)
{
    for (uint64_t seq = 1; seq <= 3; seq++) {
        if (table == NULL) {
            open_table(1 * MIB, 0, 0);
        }
        cr_assert(begin(seq) == STATUS_OK);
    }
    now_us += 60 * SECOND;
    extend(1); /* is the same holding */
    now_us += 60 * SECOND;
    end(1);
    end(2);
    cr_assert(figures().ended_us >= 239 * SECOND
              && figures().ended_us <= 241 * SECOND);
    now_us -= 200 * SECOND; /* time that goes back adds nothing */
    end(3);
    cr_assert(figures().ended_us <= 361 * SECOND);
    cr_assert_eq(figures().tiers[TIER_HEAP].ended, 3);
}

/* ---- a wheel with very much in one slot ---- */

Test(inflight_limits, a_slot_full_of_entries_is_turned_in_many_calls)
{
    enum { MANY = 100000 };
    uint64_t far = START + 90 * 24 * 3600 * SECOND; /* all on one high level */
    uint64_t before;
    size_t calls = 0;
    size_t due = 0;

    open_table(64 * MIB, 0, 0);
    for (uint64_t seq = 1; seq <= MANY; seq++) {
        cr_assert(begin_due(seq, far + seq % 1000) == STATUS_OK);
    }
    now_us = far - 20 * TICK;
    before = inflight_due_us(part);
    cr_assert(before <= now_us);
    while (inflight_due_us(part) <= now_us) {
        cr_assert(inflight_due(part, now_us) == NULL);
        calls++;
    }
    cr_assert(calls >= MANY / 2048, "%zu calls", calls);
    check_found(1, MANY);
    now_us = far + 2 * TICK;
    while (inflight_due_us(part) <= now_us) {
        const struct transaction *t = inflight_due(part, now_us);
        if (t != NULL) {
            inflight_end(part, t, &list, now_us);
            due++;
        }
    }
    cr_assert_eq(due, MANY);
}

/* ---- memory that ends ---- */

enum { SWEEP_MANY = 3000 };

/* Begins that are refused are asked for once more, with memory. */
static unsigned live_with(unsigned nth, bool sticky)
{
    unsigned fired;

    memory_fail(nth, sticky);
    memory_count(true);
    if (try_open(256 * KIB, 32 * KIB, 4 * MIB) != STATUS_OK) {
        memory_count(false);
        return memory_fired();
    }
    part = inflight_group_new(table, GROUP);
    if (part == NULL) {
        memory_count(false);
        part = inflight_group_new(table, GROUP);
    }
    for (uint64_t seq = 1; seq <= SWEEP_MANY; seq++) {
        now_us += 1000;
        if (begin(seq) != STATUS_OK) {
            cr_assert(inflight_find(part, 1, seq) == NULL);
            memory_count(false);
            cr_assert(begin(seq) == STATUS_OK);
        }
    }
    extend(1);
    memory_count(false);
    fired = memory_fired();
    check_found(1, SWEEP_MANY);
    cr_assert_eq(inflight_held(part), SWEEP_MANY);
    cr_assert_eq(list.count, SWEEP_MANY);
    for (uint64_t seq = 1; seq <= SWEEP_MANY; seq++) {
        end(seq);
    }
    cr_assert_eq(list.count, 0);
    close_table();
    return fired;
}

Test(inflight_limits, any_allocation_may_fail)
{
    unsigned nth = 0;

    while (live_with(++nth, false) > 0) {
    }
    cr_assert(nth > 8, "only %u allocations", nth);
    for (unsigned i = 1; i < nth; i++) {
        cr_assert(live_with(i, true) > 0);
    }
}

/* ---- the disk ---- */

Test(inflight_limits, the_file_has_no_name_while_it_is_used)
{
    open_table(4096, 4096, 1 * MIB);
    cr_assert(open(path, O_RDONLY) < 0 && errno == ENOENT);
}

Test(inflight_limits, a_file_that_cannot_be_made_is_said)
{
    static const struct {
        enum faulty_call call;
        int error;
        enum status status;
    } cases[] = { { FAULTY_OPEN, EACCES, STATUS_IO },
                  { FAULTY_OPEN, ENOSPC, STATUS_NO_SPACE },
                  { FAULTY_UNLINK, EIO, STATUS_IO } };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        faulty_vfs_arm(&vfs, (struct faulty_plan) { .calls = cases[i].call,
                                                    .nth = 1,
                                                    .error = cases[i].error });
        cr_assert(try_open(4096, 4096, 1 * MIB) == cases[i].status);
        cr_assert_eq(vfs.fired, 1);
        faulty_vfs_disarm(&vfs);
        (void)unlink(path);
    }
    cr_assert(try_open(4096, 0, 0) == STATUS_OK); /* none is asked for */
}

Test(inflight_limits, a_full_disk_ends_the_file_tier_where_it_is)
{
    uint64_t seq = 0;
    uint64_t planned;
    uint64_t fit;

    open_table(64 * KIB, 64 * KIB, 128 * MIB);
    planned = places();
    while (figures().tiers[TIER_FILE].count < 1000) {
        cr_assert(begin(++seq) == STATUS_OK);
    }
    vfs.no_space = true;
    while (begin(seq + 1) == STATUS_OK) {
        seq++;
    }
    fit = places();
    cr_assert(fit < planned / 2);
    cr_assert_eq(inflight_held(part), fit);
    cr_assert(!inflight_group_has_room(part));
    check_found(1, seq);
    end(1); /* one out lets one in, disk or no disk */
    cr_assert(begin(++seq) == STATUS_OK);
    cr_assert(begin(seq + 1) == STATUS_AGAIN);

    now_us += 9 * SECOND; /* the disk is not asked all the time */
    vfs.no_space = false;
    end(2);
    cr_assert_eq(places(), fit);
    now_us += 2 * SECOND;
    end(3);
    cr_assert_eq(places(), planned);
    for (int i = 0; i < 1000; i++) {
        cr_assert(begin(++seq) == STATUS_OK);
    }
    check_found(4, seq);
}

Test(inflight_limits, what_is_left_on_the_disk_is_for_others)
{
    uint64_t free_bytes = vfs_system()->free_bytes(vfs_system(), folder);
    struct inflight_config config = { .bytes = { 4096, 0, 1 * MIB },
                                      .file_path = path,
                                      .vfs = &vfs.vfs,
                                      .now_us = START };
    uint64_t seq = 0;

    now_us = START;
    config.disk_free_min = free_bytes * 2;
    cr_assert(inflight_new(&table, &config, NULL) == STATUS_OK);
    part = inflight_group_new(table, GROUP);
    faulty_vfs_arm(&vfs, (struct faulty_plan) { .calls = FAULTY_ALLOCATE,
                                                .nth = 1000,
                                                .error = EIO });
    while (begin(seq + 1) == STATUS_OK) {
        seq++;
    }
    cr_assert_eq(seq, figures().tiers[TIER_HEAP].count_max);
    cr_assert_eq(vfs.count, 0);
    close_table();

    config.disk_free_min = free_bytes / 2;
    list = (struct inflight_list) { 0 };
    cr_assert(inflight_new(&table, &config, NULL) == STATUS_OK);
    part = inflight_group_new(table, GROUP);
    for (uint64_t i = 1; i <= seq + 1; i++) {
        cr_assert(begin(i) == STATUS_OK);
    }
    cr_assert_eq(vfs.count, 1);
}

Test(inflight_limits, without_disk_space_from_the_start_there_are_two_tiers)
{
    uint64_t seq = 0;

    vfs.no_space = true;
    open_table(4096, 4096, 1 * MIB);
    while (begin(seq + 1) == STATUS_OK) {
        seq++;
    }
    cr_assert_eq(figures().tiers[TIER_FILE].count_max, 0);
    cr_assert_eq(seq, places());
    check_found(1, seq);
}
