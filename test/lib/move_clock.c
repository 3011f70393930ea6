/* Preloaded into a broker by the system tests: its wall clock is that of the
 * machine and as many seconds more as the 8 bytes of the file MOVE_CLOCK say,
 * which may change at any time. Other clocks stay as they are. Built by the
 * test: cc -shared -fPIC. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *seconds;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("MOVE_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *at;

    if (fd < 0) {
        abort();
    }
    at = mmap(NULL, sizeof *seconds, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        abort();
    }
    seconds = at;
    (void)close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*next)(clockid_t clock, struct timespec * time);
    int result;

    if (next == NULL) {
        *(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
    }
    result = next(clock, time);
    if (result == 0 && seconds != NULL
        && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        time->tv_sec += (time_t)*seconds;
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return -1;
    }
    *time = (struct timeval) { now.tv_sec, now.tv_nsec / 1000 };
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return -1;
    }
    if (out != NULL) {
        *out = now.tv_sec;
    }
    return now.tv_sec;
}
