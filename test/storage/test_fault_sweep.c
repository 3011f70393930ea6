/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/calls.c */
/* with: test/storage/disk_trace.c test/storage/disk_image.c */
/* with: test/storage/power_model.c test/storage/power_life.c */
/* with: test/storage/power_bugs.c test/storage/power_check.c */
/* with: test/storage/power_records.c */
/* with: test/lib/memory.c */
/* wraps: calls memory recovery_find_batch recovery_list batch_read_header */
/* wraps: producers_init snapshot_step */

/* A whole life of the store, again and again: in the n-th one its n-th system
 * call fails, LMDB's included, until one life passes untouched; then the same
 * with allocations. Whatever failed, nothing is confirmed that the next start
 * does not find. */
#include "test/lib/calls.h"
#include "test/lib/memory.h"
#include "test/storage/power_check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without $GODWIT_LONG a sweep looks at every third place only; with a
 * sanitizer, which looks at what the ways out do with memory, at every ninth.
 */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 9, LIVES_MIN = 5 };
#else
enum { STRIDE = 3, LIVES_MIN = 15 };
#endif

/* Calls that are made again when a signal interrupts them. */
enum {
    RESUMED = CALL_OPEN | CALL_ALLOCATE | CALL_WRITE | CALL_READ | CALL_SYNC
              | CALL_TRUNCATE
};

struct plan {
    const char *what;
    unsigned calls; /* which are counted, of enum call_kind */
    int error;      /* 0: reads and writes move only half */
    bool sticky;
    bool log_only; /* not LMDB's */
    bool harmless; /* the life goes on as if nothing had been */
    enum power_bug bug;
};

struct sweep {
    struct plan plan;
    unsigned nth; /* 0: none */
    unsigned count;
    unsigned fired;
    unsigned stopped; /* lives that the fault ended */
    unsigned violations;
    struct life *life;
};

static int before_call(void *arg, struct call *call)
{
    struct sweep *s = arg;
    const struct plan *plan = &s->plan;

    if (s->nth == 0 || (plan->calls & call->kind) == 0
        || (plan->log_only && strstr(call->path, "/keydir/") != NULL)) {
        return 0;
    }
    s->count++;
    if (s->count != s->nth && !(plan->sticky && s->count > s->nth)) {
        return 0;
    }
    s->fired++;
    if (plan->error == 0 && (call->kind & (CALL_READ | CALL_WRITE)) != 0) {
        call->len = (call->len + 1) / 2;
    }
    return plan->error;
}

static unsigned stride(void)
{
    return getenv("GODWIT_LONG") == NULL ? STRIDE : 1;
}

/* The folder as the fault left it must hold what was confirmed. */
static void check_restart(struct sweep *s, const char *what, unsigned nth)
{
    struct power power = { .seed = nth };

    power_restart(&power, s->life);
    s->violations += power.violations;
    cr_assert(power.violations == 0 || s->plan.bug != BUG_NONE,
              "%s, call %u: %s", what, nth, power.what);
}

/* One life; false when it ran out of calls before the fault. */
static bool live_with_fault(struct sweep *s, unsigned nth)
{
    static char dir[512];
    struct calls_observer observer = { .before = before_call, .arg = s };
    unsigned fired = s->fired;

    s->nth = nth;
    s->count = 0;
    s->life = life_new_faulty(3, s->plan.bug, NULL);
    snprintf(dir, sizeof dir, "%s", s->life->h.dir);
    calls_watch(dir, &observer);
    life_cycle(s->life);
    s->nth = 0;
    if (s->plan.bug == BUG_NONE) {
        life_check_frozen(s->life);
    }
    s->stopped += s->life->stopped;
    fired = s->fired - fired;
    if (fired == 0 || s->plan.harmless) {
        cr_assert(eq(u32, s->life->failures, 0), "%s, call %u", s->plan.what,
                  nth);
    }
    s->nth = fired > 0 && s->plan.sticky ? 1 : 0; /* while closing too */
    life_end(s->life);
    s->nth = 0;
    if (fired == 0) { /* it was a whole life */
        cr_assert(gt(u64, s->life->sums.moved_bytes, 0));
        cr_assert(gt(u64, s->life->sums.freed_bytes, 0));
        cr_assert(gt(u64, s->life->sums.snapshots, 0));
    }
    check_restart(s, s->plan.what, nth);
    life_free(s->life);
    return fired > 0;
}

static void sweep(struct plan plan, unsigned first)
{
    struct sweep s = { .plan = plan };
    unsigned lives = 0;

    for (unsigned nth = 1 + first % stride(); live_with_fault(&s, nth);
         nth += stride()) {
        lives++;
    }
    fprintf(stderr, "%s: %u faults in %u lives, of which %u ended\n", plan.what,
            s.fired, lives, s.stopped);
    cr_assert(ge(u32, lives, LIVES_MIN));
}

#define SWEEP(name, first, ...)                                                \
    Test(fault_sweep, name)                                                    \
    {                                                                          \
        sweep((struct plan) { .what = #name, __VA_ARGS__ }, first);            \
    }

SWEEP(eio, 0, CALL_ALL, EIO)
SWEEP(eio_for_good, 1, CALL_ALL, EIO, .sticky = true)
SWEEP(enospc, 2, CALL_ALL, ENOSPC)
SWEEP(enospc_for_good, 3, CALL_ALL, ENOSPC, .sticky = true)
SWEEP(edquot, 4, CALL_ALL, EDQUOT)
SWEEP(edquot_for_good, 5, CALL_ALL, EDQUOT, .sticky = true)
SWEEP(emfile, 6, CALL_ALL, EMFILE)
SWEEP(emfile_for_good, 0, CALL_ALL, EMFILE, .sticky = true)
SWEEP(enomem, 1, CALL_ALL, ENOMEM)
SWEEP(enomem_for_good, 2, CALL_ALL, ENOMEM, .sticky = true)
SWEEP(eagain, 3, CALL_ALL, EAGAIN)
SWEEP(eintr_of_lmdb, 4, CALL_ALL, EINTR)
/* LMDB asks again for as long as it takes. */
SWEEP(eintr_for_good, 5, CALL_ALL, EINTR, .sticky = true, .log_only = true)
SWEEP(eintr, 6, RESUMED, EINTR, .log_only = true, .harmless = true)
SWEEP(short_of_lmdb, 0, CALL_READ | CALL_WRITE, 0)
SWEEP(short_once, 1, CALL_READ | CALL_WRITE, 0, .log_only = true,
      .harmless = true)
SWEEP(short_for_good, 2, CALL_READ | CALL_WRITE, 0, .sticky = true,
      .log_only = true, .harmless = true)

Test(fault_sweep, a_confirm_of_a_failed_write_is_caught)
{
    struct sweep s = { .plan = { .what = "planted",
                                 .calls = CALL_WRITE,
                                 .error = EIO,
                                 .log_only = true,
                                 .bug = BUG_CONFIRM_FAILED } };

    for (unsigned nth = 1; live_with_fault(&s, nth); nth++) {
    }
    fprintf(stderr, "planted: %u violations\n", s.violations);
    cr_assert(gt(u32, s.violations, 5));
}

/* ---- memory ---- */

static unsigned live_without_memory(struct sweep *s, unsigned nth, bool sticky)
{
    unsigned fired;

    s->life = life_new_faulty(3, BUG_NONE, memory_count);
    memory_fail(nth, sticky);
    life_cycle(s->life);
    s->stopped += s->life->stopped;
    life_check_frozen(s->life);
    life_end(s->life);
    fired = memory_fired();
    s->life->may_forget = fired;
    memory_fail(0, false);
    if (fired == 0) {
        cr_assert(eq(u32, s->life->failures, 0));
    }
    check_restart(s, s->plan.what, nth);
    life_free(s->life);
    return fired;
}

static void memory_sweep(const char *what, bool sticky)
{
    struct sweep s = { .plan = { .what = what } };
    unsigned lives = 0;
    unsigned fired;

    do {
        fired = live_without_memory(&s, 1 + lives * stride(), sticky);
        s.fired += fired;
        lives += fired > 0;
    } while (fired > 0);
    fprintf(stderr, "%s: %u faults in %u lives, of which %u ended\n", what,
            s.fired, lives, s.stopped);
    cr_assert(ge(u32, lives, LIVES_MIN));
}

Test(fault_sweep, no_memory_once)
{
    memory_sweep("no memory", false);
}

Test(fault_sweep, no_memory_for_good)
{
    memory_sweep("no memory for good", true);
}
