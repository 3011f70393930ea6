#include "test/lib/calls.h"

#include "proto/check.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FDS_MAX = 1024, CALL_PATH_MAX = 600, CHEAP_LEN_MIN = 256 * 1024 };

/* The linker's names for the real ones and for ours. */
int __real_open(const char *path, int flags, ...);
int __real_close(int fd);
int __real_fallocate(int fd, int mode, off_t at, off_t len);
ssize_t __real_write(int fd, const void *from, size_t len);
ssize_t __real_writev(int fd, const struct iovec *iov, int count);
ssize_t __real_pwrite(int fd, const void *from, size_t len, off_t at);
ssize_t __real_pwritev(int fd, const struct iovec *iov, int count, off_t at);
ssize_t __real_pread(int fd, void *into, size_t len, off_t at);
off_t __real_lseek(int fd, off_t at, int whence);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
int __real_ftruncate(int fd, off_t len);
void *__real_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off);
int __real_fstat(int fd, struct stat *st);
int __real___fxstat(int version, int fd, struct stat *st);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_mkdir(const char *path, mode_t mode);
ssize_t __real_getrandom(void *into, size_t len, unsigned flags);
int __real_mdb_env_open(MDB_env *env, const char *path, unsigned flags,
                        mdb_mode_t mode);

int __wrap_open(const char *path, int flags, ...);
int __wrap_close(int fd);
int __wrap_fallocate(int fd, int mode, off_t at, off_t len);
ssize_t __wrap_write(int fd, const void *from, size_t len);
ssize_t __wrap_writev(int fd, const struct iovec *iov, int count);
ssize_t __wrap_pwrite(int fd, const void *from, size_t len, off_t at);
ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t at);
ssize_t __wrap_pread(int fd, void *into, size_t len, off_t at);
off_t __wrap_lseek(int fd, off_t at, int whence);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __wrap_ftruncate(int fd, off_t len);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off);
int __wrap_fstat(int fd, struct stat *st);
int __wrap___fxstat(int version, int fd, struct stat *st);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);
ssize_t __wrap_getrandom(void *into, size_t len, unsigned flags);
int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags,
                        mdb_mode_t mode);

struct open_fd {
    bool known;
    bool is_dir;
    bool each_synced;
    int tag;
    char path[CALL_PATH_MAX];
};

static struct {
    const char *dir;
    size_t dir_len;
    struct calls_observer observer;
    bool cheap;
    bool lmdb_without_sync;
    uint64_t seed;
    struct open_fd fds[FDS_MAX];
} calls;

void calls_watch(const char *dir, const struct calls_observer *observer)
{
    calls.dir = dir;
    calls.dir_len = dir == NULL ? 0 : strlen(dir);
    calls.observer =
        observer == NULL ? (struct calls_observer) { 0 } : *observer;
    for (int i = 0; i < FDS_MAX; i++) {
        calls.fds[i].known = false;
    }
}

void calls_be_cheap(bool cheap)
{
    calls.cheap = cheap;
}

void calls_seed(uint64_t seed)
{
    calls.seed = seed;
}

void calls_lmdb_without_sync(bool yes)
{
    calls.lmdb_without_sync = yes;
}

/* ---- what the wrappers share ---- */

static bool watched(const char *path)
{
    return calls.dir != NULL && strncmp(path, calls.dir, calls.dir_len) == 0
           && (path[calls.dir_len] == '/' || path[calls.dir_len] == '\0');
}

static struct open_fd *known_fd(int fd)
{
    return calls.dir != NULL && fd >= 0 && fd < FDS_MAX && calls.fds[fd].known
               ? &calls.fds[fd]
               : NULL;
}

static struct call call_of(enum call_kind kind, struct open_fd *file)
{
    return (struct call) { .kind = kind,
                           .path = file->path,
                           .tag = &file->tag,
                           .is_dir = file->is_dir,
                           .each_synced = file->each_synced };
}

/* False: it fails, errno says how. */
static bool may_go(struct call *call)
{
    int error = calls.observer.before == NULL
                    ? 0
                    : calls.observer.before(calls.observer.arg, call);

    errno = error != 0 ? error : errno;
    return error == 0;
}

static void went(const struct call *call)
{
    int kept = errno;

    if (calls.observer.after != NULL) {
        calls.observer.after(calls.observer.arg, call);
    }
    errno = kept;
}

/* ---- names ---- */

int __wrap_open(const char *path, int flags, ...)
{
    struct call call = { .kind = CALL_OPEN, .path = path };
    mode_t mode = 0;
    va_list args;
    int fd;

    va_start(args, flags);
    if ((flags & O_CREAT) != 0) {
        mode = (mode_t)va_arg(args, int);
    }
    va_end(args);
    if (!watched(path)) {
        return __real_open(path, flags, mode);
    }
    call.is_dir = (flags & O_DIRECTORY) != 0;
    call.cut_to_zero = (flags & O_TRUNC) != 0;
    call.each_synced = (flags & O_DSYNC) != 0;
    if (!may_go(&call)) {
        return -1;
    }
    fd = __real_open(path, flags, mode);
    if (fd < 0) {
        return fd;
    }
    CHECK(fd < FDS_MAX);
    calls.fds[fd] = (struct open_fd) { .known = true,
                                       .is_dir = call.is_dir,
                                       .each_synced = call.each_synced };
    snprintf(calls.fds[fd].path, CALL_PATH_MAX, "%s", path);
    call.tag = &calls.fds[fd].tag;
    went(&call);
    return fd;
}

int __wrap_close(int fd)
{
    if (fd >= 0 && fd < FDS_MAX) {
        calls.fds[fd].known = false;
    }
    return __real_close(fd);
}

int __wrap_rename(const char *from, const char *to)
{
    struct call call = { .kind = CALL_RENAME, .path = from, .to = to };
    int result;

    if (!watched(from)) {
        return __real_rename(from, to);
    }
    if (!may_go(&call)) {
        return -1;
    }
    result = __real_rename(from, to);
    if (result == 0) {
        went(&call);
    }
    return result;
}

int __wrap_unlink(const char *path)
{
    struct call call = { .kind = CALL_UNLINK, .path = path };
    int result;

    if (!watched(path)) {
        return __real_unlink(path);
    }
    if (!may_go(&call)) {
        return -1;
    }
    result = __real_unlink(path);
    if (result == 0) {
        went(&call);
    }
    return result;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    struct call call = { .kind = CALL_MAKE_DIR, .path = path, .is_dir = true };
    int result;

    if (!watched(path)) {
        return __real_mkdir(path, mode);
    }
    if (!may_go(&call)) {
        return -1;
    }
    result = __real_mkdir(path, mode);
    if (result == 0) {
        went(&call);
    }
    return result;
}

/* ---- bytes ---- */

static size_t len_of(const struct iovec *iov, int count)
{
    size_t len = 0;

    for (int i = 0; i < count; i++) {
        len += iov[i].iov_len;
    }
    return len;
}

/* Write call->len bytes, of which there may be less than the caller gave. */
static ssize_t write_part(int fd, const struct call *call)
{
    size_t left = call->len;
    ssize_t all = 0;

    for (int i = 0; i < call->iov_count && left > 0; i++) {
        size_t part = call->iov[i].iov_len < left ? call->iov[i].iov_len : left;
        ssize_t done = __real_pwrite(fd, call->iov[i].iov_base, part,
                                     (off_t)call->at + all);
        if (done < 0) {
            return all > 0 ? all : -1;
        }
        all += done;
        left -= (size_t)done;
        if ((size_t)done < part) {
            break;
        }
    }
    return all;
}

static ssize_t observed_write(struct open_fd *file, int fd,
                              const struct iovec *iov, int count, off_t at)
{
    struct call call = call_of(CALL_WRITE, file);
    ssize_t done;

    call.iov = iov;
    call.iov_count = count;
    call.at = (uint64_t)at;
    call.len = len_of(iov, count);
    if (!may_go(&call)) {
        return -1;
    }
    done = write_part(fd, &call);
    if (done > 0) {
        call.len = (size_t)done;
        went(&call);
    }
    return done;
}

ssize_t __wrap_pwrite(int fd, const void *from, size_t len, off_t at)
{
    struct open_fd *file = known_fd(fd);
    struct iovec iov = { (void *)from, len };

    return file == NULL ? __real_pwrite(fd, from, len, at)
                        : observed_write(file, fd, &iov, 1, at);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
    struct open_fd *file = known_fd(fd);

    return file == NULL ? __real_pwritev(fd, iov, count, at)
                        : observed_write(file, fd, iov, count, at);
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int count)
{
    struct open_fd *file = known_fd(fd);
    off_t at;
    ssize_t done;

    if (file == NULL) {
        return __real_writev(fd, iov, count);
    }
    at = __real_lseek(fd, 0, SEEK_CUR);
    done = observed_write(file, fd, iov, count, at);
    if (done > 0) {
        (void)__real_lseek(fd, at + done, SEEK_SET);
    }
    return done;
}

ssize_t __wrap_write(int fd, const void *from, size_t len)
{
    struct iovec iov = { (void *)from, len };

    return known_fd(fd) == NULL ? __real_write(fd, from, len)
                                : __wrap_writev(fd, &iov, 1);
}

ssize_t __wrap_pread(int fd, void *into, size_t len, off_t at)
{
    struct open_fd *file = known_fd(fd);
    struct call call;
    ssize_t done;

    if (file == NULL) {
        return __real_pread(fd, into, len, at);
    }
    call = call_of(CALL_READ, file);
    call.at = (uint64_t)at;
    call.len = len;
    if (!may_go(&call)) {
        return -1;
    }
    done = __real_pread(fd, into, call.len, at);
    if (done >= 0) {
        call.len = (size_t)done;
        went(&call);
    }
    return done;
}

off_t __wrap_lseek(int fd, off_t at, int whence)
{
    struct open_fd *file = known_fd(fd);
    struct call call;

    if (file != NULL) {
        call = call_of(CALL_SEEK, file);
        if (!may_go(&call)) {
            return -1;
        }
    }
    return __real_lseek(fd, at, whence);
}

/* ---- lengths, syncs, maps ---- */

static int grow_cheaply(int fd, off_t len)
{
    struct stat st;

    if (__real_fstat(fd, &st) != 0) {
        return -1;
    }
    return st.st_size >= len ? 0 : __real_ftruncate(fd, len);
}

int __wrap_fallocate(int fd, int mode, off_t at, off_t len)
{
    struct open_fd *file = known_fd(fd);
    struct call call;
    int result;

    if (file != NULL) {
        call = call_of(CALL_ALLOCATE, file);
        call.len = (size_t)(at + len);
        if (!may_go(&call)) {
            return -1;
        }
    }
    result = calls.cheap && len >= CHEAP_LEN_MIN
                 ? grow_cheaply(fd, at + len)
                 : __real_fallocate(fd, mode, at, len);
    if (result == 0 && file != NULL) {
        went(&call);
    }
    return result;
}

int __wrap_ftruncate(int fd, off_t len)
{
    struct open_fd *file = known_fd(fd);
    struct call call;
    int result;

    if (file == NULL) {
        return __real_ftruncate(fd, len);
    }
    call = call_of(CALL_TRUNCATE, file);
    call.len = (size_t)len;
    if (!may_go(&call)) {
        return -1;
    }
    result = __real_ftruncate(fd, len);
    if (result == 0) {
        went(&call);
    }
    return result;
}

static int observed_sync(int fd, int (*sync)(int fd))
{
    struct open_fd *file = known_fd(fd);
    struct call call;
    int result;

    if (file == NULL) {
        return sync(fd);
    }
    call = call_of(CALL_SYNC, file);
    if (!may_go(&call)) {
        return -1;
    }
    result = sync(fd);
    if (result == 0) {
        went(&call);
    }
    return result;
}

int __wrap_fdatasync(int fd)
{
    return observed_sync(fd, __real_fdatasync);
}

int __wrap_fsync(int fd)
{
    return observed_sync(fd, __real_fsync);
}

void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
    struct open_fd *file = known_fd(fd);

    if (file != NULL) {
        struct call call = call_of(CALL_MAP, file);
        call.len = len;
        if (!may_go(&call)) {
            return MAP_FAILED;
        }
    }
    return __real_mmap(at, len, prot, flags, fd, off);
}

static bool may_look(int fd)
{
    struct open_fd *file = known_fd(fd);
    struct call call;

    if (file == NULL) {
        return true;
    }
    call = call_of(CALL_STAT, file);
    return may_go(&call);
}

int __wrap_fstat(int fd, struct stat *st)
{
    return may_look(fd) ? __real_fstat(fd, st) : -1;
}

/* What Debian's LMDB, built long ago, calls it. */
int __wrap___fxstat(int version, int fd, struct stat *st)
{
    return may_look(fd) ? __real___fxstat(version, fd, st) : -1;
}

/* ---- the rest ---- */

ssize_t __wrap_getrandom(void *into, size_t len, unsigned flags)
{
    uint8_t *to = into;

    if (calls.seed == 0) {
        return __real_getrandom(into, len, flags);
    }
    for (size_t i = 0; i < len; i++) {
        calls.seed = calls.seed * UINT64_C(6364136223846793005) + 1;
        to[i] = (uint8_t)(calls.seed >> 56);
    }
    return (ssize_t)len;
}

int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags,
                        mdb_mode_t mode)
{
    return __real_mdb_env_open(
        env, path, calls.lmdb_without_sync ? flags | MDB_NOSYNC : flags, mode);
}
