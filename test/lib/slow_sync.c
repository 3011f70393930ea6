/* Preloaded into a broker by the system tests: each fsync() and fdatasync()
 * takes SLOW_SYNC_MS milliseconds longer. Built by the test: cc -shared -fPIC.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef int (*sync_fn)(int fd);

static int slow(const char *name, int fd)
{
    const char *text = getenv("SLOW_SYNC_MS");
    long ms = text == NULL ? 0 : strtol(text, NULL, 10);
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    sync_fn fn;

    nanosleep(&time, NULL);
    *(void **)&fn = dlsym(RTLD_NEXT, name);
    return fn(fd);
}

int fdatasync(int fd)
{
    return slow("fdatasync", fd);
}

int fsync(int fd)
{
    return slow("fsync", fd);
}
