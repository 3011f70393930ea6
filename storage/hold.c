#include "storage/hold.h"

#include "storage/io.h"
#include "storage/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HOLD_TRIES = 200, HOLD_PAUSE_MS = 50 };

static enum status wait_for(int fd, const char *path, bool (*go_on)(void *arg),
                            void *arg, struct error *err)
{
    const struct timespec pause = { .tv_nsec = HOLD_PAUSE_MS * 1000L * 1000 };

    for (int i = 0; i < HOLD_TRIES; i++) {
        if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
            return STATUS_OK;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return error_set(err, STATUS_IO, errno, "lock %.300s", path);
        }
        nanosleep(&pause, NULL);
        if (go_on != NULL && !go_on(arg)) {
            return error_set(err, STATUS_CLOSED, 0, "stopped");
        }
    }
    return error_set(err, STATUS_BUSY, 0,
                     "somebody holds the lock on %.300s and does not let go",
                     path);
}

/* The broker makes the file when it first needs it; ours must not keep it out
 * when another user is who reads. Only root can give it away, and has to. */
static void give_to_owner(int fd, const char *dir)
{
    struct stat st;

    if (stat(dir, &st) == 0 && st.st_uid != geteuid()) {
        (void)!fchown(fd, st.st_uid, st.st_gid);
    }
}

enum status hold_take(int *fd, const struct vfs *vfs, const char *dir,
                      bool (*go_on)(void *arg), void *arg, struct error *err)
{
    char path[PATH_LEN_MAX];
    enum status status;

    snprintf(path, sizeof path, "%.3900s/store.hold", dir);
    *fd = io_open(vfs, path, O_RDONLY);
    if (*fd < 0 && errno == ENOENT) {
        *fd = io_open(vfs, path, O_RDWR | O_CREAT);
        if (*fd >= 0) {
            give_to_owner(*fd, dir);
        }
    }
    if (*fd < 0) {
        int sys = errno;
        return sys == EROFS ? STATUS_OK
                            : error_set(err, status_of_errno(sys), sys,
                                        "open %.300s", path);
    }
    status = wait_for(*fd, path, go_on, arg, err);
    if (status != STATUS_OK) {
        vfs->close(vfs, *fd);
        *fd = -1;
    }
    return status;
}
