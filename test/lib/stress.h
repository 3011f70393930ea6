/* For stress programs: real sleeping with a deadline, so that a lost wake-up
 * fails instead of hanging, and running a planted fault of the same program,
 * which must fail. */
#ifndef GODWIT_TEST_LIB_STRESS_H
#define GODWIT_TEST_LIB_STRESS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STRESS_CHECK(condition, text)                                          \
    do {                                                                       \
        if (!(condition)) {                                                    \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, text);    \
            _exit(1);                                                          \
        }                                                                      \
    } while (0)

/* A bed for one sleeper. */
struct bed {
    int fd;
};

static inline void bed_init(struct bed *bed)
{
    bed->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    STRESS_CHECK(bed->fd >= 0, "eventfd");
}

static inline void bed_fini(struct bed *bed)
{
    (void)close(bed->fd);
}

/* False: nobody called in time. */
static inline bool bed_sleep(struct bed *bed, int deadline_ms)
{
    struct pollfd pollfd = { .fd = bed->fd, .events = POLLIN };
    uint64_t count;

    while (poll(&pollfd, 1, deadline_ms) < 0 && errno == EINTR) {
    }
    return read(bed->fd, &count, sizeof count) == (ssize_t)sizeof count;
}

static inline void bed_call(void *arg)
{
    const struct bed *bed = arg;
    uint64_t one = 1;

    (void)!write(bed->fd, &one, sizeof one);
}

static inline double stress_seconds(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static inline void stress_pause_us(long us)
{
    const struct timespec ts = { .tv_nsec = us * 1000 };

    (void)nanosleep(&ts, NULL);
}

static inline uint64_t stress_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Run this program with "--plant name", quietly; it must fail. */
static inline void stress_expect_plant_fails(const char *name)
{
    int status = 0;
    pid_t pid = fork();

    STRESS_CHECK(pid >= 0, "fork");
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        (void)dup2(null, STDOUT_FILENO);
        (void)dup2(null, STDERR_FILENO);
        (void)execl("/proc/self/exe", "stress", "--plant", name, (char *)NULL);
        _exit(0); /* counts as not found */
    }
    STRESS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        (void)fprintf(stderr, "planted fault not found: %s\n", name);
        _exit(1);
    }
    (void)printf("planted fault found: %s\n", name);
}

#endif
