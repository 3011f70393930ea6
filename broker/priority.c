#include "broker/priority.h"

#include "broker/log.h"

#include <errno.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SLICE_NS = 100 * 1000, /* the shortest there is */
    NICE = 5
};

void priority_prompt(void)
{
    struct sched_attr attr = { 0 };

    /* Any other policy was chosen by somebody who knows better. */
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0
        || attr.sched_policy != SCHED_NORMAL) {
        return;
    }
    attr.sched_runtime = SLICE_NS;
    if (syscall(SYS_sched_setattr, 0, &attr, 0) != 0) {
        log_debug("no short time slices reason=\"%s\"", strerror(errno));
    }
}

void priority_background(void)
{
    int nice = getpriority(PRIO_PROCESS, 0) + NICE;

    if (setpriority(PRIO_PROCESS, 0, nice) != 0) {
        log_warn("keeper: no lower priority reason=\"%s\"", strerror(errno));
    }
}
