/* links: godwit_delivery godwit_storage godwit_proto -Wl,--wrap=madvise */
/* with: test/lib/tmpdir.c */
#include "broker/delivery/inflight.h"
#include "broker/delivery/inflight_file.h"
#include "test/lib/tmpdir.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Ten million transactions at once in 64 MiB of heap, 256 MiB of direct memory
 * and a file (a tenth of all of it unless GODWIT_LONG is set): every one is
 * found, extended, and ends or becomes due, and the process is never larger
 * than the two budgets, what of the file may be resident, and SLACK. Pages that
 * are never given back are noticed. Under a sanitizer, which has memory of its
 * own, that is not looked at. */

enum { GROUPS = 8, HOLDERS = 16, SHARE = 4 /* one of so many becomes due */ };
#define START  (UINT64_C(500) * 1000 * 1000)
#define SECOND (UINT64_C(1000) * 1000)
#define HOUR   (3600 * SECOND)
#define MIB    ((size_t)1 << 20)
#define SLACK  (15 * MIB) /* program, stack, indexes while they grow */

static struct inflight *table;
static struct inflight_group *parts[GROUPS];
static struct inflight_list lists[GROUPS][HOLDERS];
static uint64_t now_us = START;
static size_t budget;
static size_t rss_most;
static char folder[256];
static bool planted;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif
#else
static const bool sanitized = false;
#endif

int __real_madvise(void *at, size_t len, int advice);
int __wrap_madvise(void *at, size_t len, int advice);

int __wrap_madvise(void *at, size_t len, int advice)
{
    return planted && advice == MADV_DONTNEED ? 0
                                              : __real_madvise(at, len, advice);
}

static size_t resident(void)
{
    char text[128] = "";
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    cr_assert(file != NULL && fgets(text, sizeof text, file) != NULL, "statm");
    (void)fclose(file);
    cr_assert(sscanf(text, "%*u %zu", &pages) == 1, "statm");
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void look_at_memory(void)
{
    size_t rss = resident();

    rss_most = rss > rss_most ? rss : rss_most;
}

static struct transaction transaction_of(uint64_t seq)
{
    return (struct transaction) {
        .group = (uint32_t)(seq % GROUPS),
        .topic = 1,
        .seq = seq,
        .holder = 1 + seq / GROUPS % HOLDERS,
        .due_us = START + (seq % SHARE == 0 ? 2 * HOUR : 10 * HOUR)
                  + seq % 1000 * 1000,
        .attempt = 1,
        .bytes = (uint32_t)seq,
        .state = TRANSACTION_HELD
    };
}

static struct inflight_list *list_of(const struct transaction *t)
{
    return &lists[t->group][t->holder - 1];
}

static const struct transaction *find(uint64_t seq)
{
    const struct transaction *t = inflight_find(parts[seq % GROUPS], 1, seq);

    cr_assert(t != NULL && t->seq == seq && t->bytes == (uint32_t)seq,
              "a transaction is lost");
    return t;
}

static void begin_all(uint64_t count)
{
    for (uint64_t seq = 1; seq <= count; seq++) {
        struct transaction t = transaction_of(seq);
        now_us += 2;
        cr_assert(inflight_begin(parts[t.group], &t, list_of(&t), now_us)
                      == STATUS_OK,
                  "no place");
        if (seq % 65536 == 0) {
            look_at_memory();
        }
    }
}

/* Each second one of those that stay. */
static void extend_all(uint64_t count)
{
    for (uint64_t seq = 1; seq <= count; seq++) {
        const struct transaction *t = find(seq);
        struct transaction next = *t;
        if (seq % SHARE == 0 || seq % 2 == 0) {
            continue;
        }
        next.due_us += HOUR;
        inflight_change(parts[next.group], t, &next, list_of(&next),
                        list_of(&next), now_us);
        if (seq % 65536 == 1) {
            look_at_memory();
        }
    }
}

static uint64_t let_some_become_due(void)
{
    uint64_t due = 0;

    now_us = START + 3 * HOUR;
    for (size_t g = 0; g < GROUPS; g++) {
        while (inflight_due_us(parts[g]) <= now_us) {
            const struct transaction *t = inflight_due(parts[g], now_us);
            if (t == NULL) {
                continue;
            }
            cr_assert(t->seq % SHARE == 0, "due before its time");
            inflight_end(parts[g], t, list_of(t), now_us);
            due++;
        }
        look_at_memory();
    }
    return due;
}

static void end_the_others(uint64_t count)
{
    for (uint64_t seq = 1; seq <= count; seq++) {
        const struct transaction *t;
        if (seq % SHARE == 0) {
            continue;
        }
        t = find(seq);
        cr_assert(t->due_us
                      == transaction_of(seq).due_us + (seq % 2 == 0 ? 0 : HOUR),
                  "the extension is lost");
        inflight_end(parts[t->group], t, list_of(t), now_us);
        if (seq % 65536 == 1) {
            look_at_memory();
        }
    }
}

static uint64_t many(void)
{
    return getenv("GODWIT_LONG") != NULL ? 10000000 : 1000000;
}

static void open_table(void)
{
    size_t part = 10000000 / many();
    char path[300];
    struct inflight_config config = {
        .bytes = { 64 * MIB / part, 256 * MIB / part, 1024 * MIB / part },
        .file_path = path,
        .now_us = START
    };

    (void)snprintf(path, sizeof path, "%s/inflight", folder);
    budget = config.bytes[TIER_HEAP] + config.bytes[TIER_DIRECT];
    cr_assert(inflight_new(&table, &config, NULL) == STATUS_OK);
    for (uint32_t g = 0; g < GROUPS; g++) {
        parts[g] = inflight_group_new(table, g);
        cr_assert(parts[g] != NULL);
    }
}

static bool within_budget(void)
{
    return sanitized || rss_most <= budget + INFLIGHT_FILE_RESIDENT + SLACK;
}

static void set_up(void)
{
    tmpdir_make(folder, sizeof folder);
    open_table();
}

static void tear_down(void)
{
    for (uint32_t g = 0; g < GROUPS; g++) {
        inflight_group_free(parts[g]);
    }
    inflight_free(table);
    tmpdir_remove(folder);
}

TestSuite(inflight_many, .init = set_up, .fini = tear_down, .timeout = 900);

Test(inflight_many, all_are_found_extended_ended_and_due_within_the_budget)
{
    uint64_t count = many();
    struct inflight_figures f;

    begin_all(count);
    inflight_figures(table, &f);
    cr_assert(f.tiers[TIER_FILE].count > count / 2, "the file is used");
    extend_all(count);
    cr_assert_eq(let_some_become_due(), count / SHARE);
    end_the_others(count);
    inflight_figures(table, &f);
    for (int tier = 0; tier < TIER_COUNT; tier++) {
        cr_assert_eq(f.tiers[tier].count, 0);
        cr_assert(f.tiers[tier].ended > 0);
    }
    (void)printf("%zu at once, at most %zu MiB resident, budget %zu MiB\n",
                 (size_t)count, rss_most / MIB, budget / MIB);
    cr_assert(within_budget(), "%zu MiB resident, budget %zu", rss_most / MIB,
              budget / MIB);
}

Test(inflight_many, pages_never_given_back_are_noticed)
{
    planted = true;
    begin_all(many());
    planted = false;
    cr_assert(sanitized || !within_budget());
}
