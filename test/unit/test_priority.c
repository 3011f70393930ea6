/* links: godwit_server */

/* What a thread asks the kernel for is of that thread alone. */
#include "broker/priority.h"

#include "proto/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As sched_getattr(2) has it; the kernel's header and the C library's both
 * define struct sched_param. */
struct attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns;
    uint64_t deadline_ns;
    uint64_t period_ns;
};

static struct attributes mine(void)
{
    struct attributes attr = { 0 };

    CHECK(syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) == 0);
    return attr;
}

static void *background(void *arg)
{
    priority_background();
    *(struct attributes *)arg = mine();
    return NULL;
}

static void *prompt(void *arg)
{
    priority_prompt();
    *(struct attributes *)arg = mine();
    return NULL;
}

static struct attributes of_thread(void *(*run)(void *arg))
{
    struct attributes attr;
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, run, &attr) == 0);
    pthread_join(thread, NULL);
    return attr;
}

Test(priority, who_gives_way_is_the_thread_that_says_so)
{
    struct attributes before = mine();
    struct attributes after = of_thread(background);

    cr_assert(eq(int, after.nice, before.nice < 15 ? before.nice + 5 : 19));
    cr_assert(eq(int, mine().nice, before.nice));
}

/* Kernels before 6.12 know no slices and say 0. */
Test(priority, who_is_waited_for_has_short_slices)
{
    struct attributes before = mine();
    struct attributes after = of_thread(prompt);

    cr_assert(eq(int, (int)after.policy, (int)before.policy));
    cr_assert(eq(int, after.nice, before.nice));
    if (before.policy == SCHED_OTHER && before.runtime_ns > 0) {
        cr_assert(eq(u64, after.runtime_ns, 100 * 1000));
    }
    cr_assert(eq(u64, mine().runtime_ns, before.runtime_ns));
}
