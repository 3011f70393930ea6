#include "tools/godwit/interrupt.h"

#include "tools/godwit/command.h"
#include "tools/godwit/human.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SECOND_AFTER_NS = 200 * 1000 * 1000 };

static atomic_bool asked;
static int asked_fd = -1;
static const char *_Atomic left_behind;
static sigset_t waited_for;

/* A second signal counts only some time after the first: shells and wrappers
 * such as timeout(1) send the same one to the process and to its group. */
static bool wait_for_second(void)
{
    uint64_t first_ns = now_ns();
    int signal_number;

    do {
        if (sigwait(&waited_for, &signal_number) != 0) {
            return false;
        }
    } while (now_ns() - first_ns < SECOND_AFTER_NS);
    return true;
}

static void *wait_for_signals(void *arg)
{
    static const char last[] = "\ngodwit: stopped at once\n";
    int signal_number;

    (void)arg;
    if (sigwait(&waited_for, &signal_number) != 0) {
        return NULL;
    }
    atomic_store(&asked, true);
    if (asked_fd >= 0) {
        (void)!eventfd_write(asked_fd, 1);
    }
    if (wait_for_second()) {
        const char *left = atomic_load(&left_behind);

        (void)!write(STDERR_FILENO, last, sizeof last - 1);
        if (left != NULL) {
            (void)!write(STDERR_FILENO, left, strlen(left));
        }
        _exit(EXIT_INTERRUPTED);
    }
    return NULL;
}

void interrupt_init(void)
{
    pthread_t thread;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&waited_for);
    sigaddset(&waited_for, SIGINT);
    sigaddset(&waited_for, SIGTERM);
    asked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pthread_sigmask(SIG_BLOCK, &waited_for, NULL) != 0) {
        return;
    }
    if (pthread_create(&thread, NULL, wait_for_signals, NULL) != 0) {
        pthread_sigmask(SIG_UNBLOCK, &waited_for, NULL);
        return;
    }
    pthread_detach(thread);
}

void interrupt_leaves(const char *line)
{
    atomic_store(&left_behind, line);
}

bool interrupted(void)
{
    return atomic_load(&asked);
}

int interrupt_fd(void)
{
    return asked_fd;
}
