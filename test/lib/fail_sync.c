/* Preloaded into a broker by the system tests: fdatasync() and fsync() fail
 * with EIO while the file named by FAIL_SYNC_WHILE exists. Other calls are
 * untouched. Built by the test: cc -shared -fPIC. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int failing(void)
{
    const char *path = getenv("FAIL_SYNC_WHILE");

    return path != NULL && access(path, F_OK) == 0;
}

typedef int (*sync_fn)(int fd);

static sync_fn real(const char *name)
{
    sync_fn fn;

    *(void **)&fn = dlsym(RTLD_NEXT, name);
    return fn;
}

int fdatasync(int fd)
{
    if (failing()) {
        errno = EIO;
        return -1;
    }
    return real("fdatasync")(fd);
}

int fsync(int fd)
{
    if (failing()) {
        errno = EIO;
        return -1;
    }
    return real("fsync")(fd);
}
