#include "tools/godwit/offline.h"

#include "storage/hold.h"
#include "tools/godwit/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_ROOM = 4096 };

static const char *advice(enum status status, int sys)
{
    if (sys == EACCES || sys == EPERM) {
        return "; a data folder belongs to the user its broker runs as";
    }
    if (status == STATUS_NO_SPACE) {
        return "; what was begun is removed again";
    }
    return "";
}

int offline_fail(enum status status, const struct error *err)
{
    if (status == STATUS_CLOSED) {
        return fail(EXIT_INTERRUPTED, "%s", err->text);
    }
    fail(OFFLINE_FAILED, "%s%s", err->text, advice(status, err->sys));
    return status == STATUS_CORRUPT ? OFFLINE_DAMAGE : OFFLINE_FAILED;
}

int offline_open_fail(const char *dir, enum status status,
                      const struct error *err)
{
    if (status == STATUS_NOT_FOUND) {
        return fail(OFFLINE_FAILED,
                    "there is no store in %s (it has no file `format`)", dir);
    }
    if (status == STATUS_NEWER) {
        return fail(OFFLINE_FAILED, "%s was written by a newer version: %s",
                    dir, err->text);
    }
    return offline_fail(status, err);
}

bool offline_check_folder(const char *dir)
{
    struct stat st;

    if (stat(dir, &st) != 0) {
        fail(OFFLINE_FAILED, "%s: %s%s", dir, strerror(errno),
             advice(STATUS_IO, errno));
        return false;
    }
    if (!S_ISDIR(st.st_mode)) {
        fail(OFFLINE_FAILED, "%s is not a folder", dir);
        return false;
    }
    return true;
}

/* A shared lock for a moment: a broker holds it for itself alone. */
static bool is_in_use(const char *dir)
{
    char path[PATH_ROOM];
    bool in_use;
    int fd;

    snprintf(path, sizeof path, "%.4000s/store.lock", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    in_use = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return in_use;
}

static bool may_wait(void *arg)
{
    (void)arg;
    return !interrupted();
}

enum status offline_hold(const char *dir, bool *in_use, int *fd,
                         struct error *err)
{
    *fd = -1;
    *in_use = is_in_use(dir);
    if (!*in_use) {
        return STATUS_OK;
    }
    return hold_take(fd, vfs_system(), dir, may_wait, NULL, err);
}

void offline_let_go(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

/* "a/b/" is in "a", "b" in ".". */
static char *real_parent(const char *path)
{
    char parent[PATH_ROOM];
    size_t len = strlen(path);
    char *slash;

    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    if (len >= sizeof parent) {
        return NULL;
    }
    memcpy(parent, path, len);
    parent[len] = '\0';
    slash = strrchr(parent, '/');
    if (slash == NULL) {
        return realpath(".", NULL);
    }
    slash[slash == parent ? 1 : 0] = '\0';
    return realpath(parent, NULL);
}

bool offline_inside(const char *inner, const char *outer)
{
    char *in = real_parent(inner);
    char *out = realpath(outer, NULL);
    size_t len = out == NULL ? 0 : strlen(out);
    bool inside = in != NULL && out != NULL && strncmp(in, out, len) == 0
                  && (in[len] == '/' || in[len] == '\0' || len == 1);

    free(in);
    free(out);
    return inside;
}
