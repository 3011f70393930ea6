#include "test/storage/cut_vfs.h"

#include "proto/check.h"
#include "test/storage/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct cut_vfs *self(const struct vfs *vfs)
{
    return vfs->context;
}

static const struct vfs *real(void)
{
    return vfs_system();
}

static void changed(struct cut_vfs *c)
{
    if (c->hook != NULL) {
        c->hook(c->hook_arg);
    }
}

/* ---- names ---- */

static struct cut_name *find_name(struct cut_name *names, const char *path)
{
    for (int i = 0; i < CUT_FILES_MAX; i++) {
        if (strcmp(names[i].path, path) == 0) {
            return &names[i];
        }
    }
    return NULL;
}

static void set_name(struct cut_name *names, const char *path, int file)
{
    struct cut_name *name = find_name(names, path);

    if (name == NULL) {
        name = find_name(names, "");
    }
    CHECK(name != NULL);
    snprintf(name->path, sizeof name->path, "%s", path);
    name->file = file;
}

static void drop_name(struct cut_name *names, const char *path)
{
    struct cut_name *name = find_name(names, path);

    if (name != NULL) {
        name->path[0] = '\0';
    }
}

static void apply_op(struct cut_name *names, const struct cut_op *op)
{
    if (op->from[0] != '\0') {
        drop_name(names, op->from);
    }
    if (op->to[0] != '\0') {
        set_name(names, op->to, op->file);
    }
}

static void note_op(struct cut_vfs *c, const char *from, const char *to,
                    int file)
{
    struct cut_op *op = &c->ops[c->op_count];

    CHECK(c->op_count < CUT_OPS_MAX);
    snprintf(op->from, sizeof op->from, "%s", from);
    snprintf(op->to, sizeof op->to, "%s", to);
    op->file = file;
    apply_op(c->names, op);
    c->op_count++;
}

static bool in_folder(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return strncmp(path, dir, len) == 0 && path[len] == '/'
           && strchr(path + len + 1, '/') == NULL;
}

/* ---- files ---- */

static struct cut_file *file_of(struct cut_vfs *c, int fd)
{
    if (fd < 0 || fd >= CUT_FDS_MAX || c->file_of_fd[fd] < 0) {
        return NULL;
    }
    return &c->files[c->file_of_fd[fd]];
}

static void set_len(struct cut_file *file, size_t len)
{
    if (len > file->capacity) {
        size_t capacity = len + CUT_SECTOR_LEN;
        file->now = realloc(file->now, capacity);
        file->durable = realloc(file->durable, capacity);
        CHECK(file->now != NULL && file->durable != NULL);
        memset(file->now + file->capacity, 0, capacity - file->capacity);
        memset(file->durable + file->capacity, 0, capacity - file->capacity);
        file->capacity = capacity;
    }
    if (len < file->len) {
        memset(file->now + len, 0, file->len - len);
    }
    file->len = len;
}

static void make_durable(struct cut_file *file)
{
    if (file->capacity > 0) {
        memcpy(file->durable, file->now, file->capacity);
    }
    file->durable_len = file->len;
}

static int new_file(struct cut_vfs *c)
{
    CHECK(c->file_count < CUT_FILES_MAX);
    return c->file_count++;
}

static void load_file(struct cut_vfs *c, const char *path)
{
    int index = new_file(c);
    struct cut_file *file = &c->files[index];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    set_len(file, (size_t)file_len(path));
    CHECK(pread(fd, file->now, file->len, 0) == (ssize_t)file->len);
    close(fd);
    make_durable(file);
    set_name(c->names, path, index);
    set_name(c->durable, path, index);
}

static void load_folder(struct cut_vfs *c, const char *dir)
{
    DIR *open_dir = opendir(dir);
    struct dirent *entry;

    while (open_dir != NULL && (entry = readdir(open_dir)) != NULL) {
        char path[CUT_PATH_LEN + 300];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)
            && strcmp(entry->d_name, "store.lock") != 0) {
            load_file(c, path);
        }
    }
    if (open_dir != NULL) {
        closedir(open_dir);
    }
}

/* ---- the calls ---- */

static int cut_open(const struct vfs *vfs, const char *path, int flags,
                    mode_t mode)
{
    struct cut_vfs *c = self(vfs);
    struct cut_name *name = find_name(c->names, path);
    int fd = real()->open(real(), path, flags, mode);

    if (fd < 0 || strstr(path, "store.lock") != NULL) {
        return fd;
    }
    CHECK(fd < CUT_FDS_MAX);
    if (name == NULL) {
        int index = new_file(c);
        note_op(c, "", path, index);
        c->file_of_fd[fd] = index;
        changed(c);
        return fd;
    }
    c->file_of_fd[fd] = name->file;
    if ((flags & O_TRUNC) != 0) {
        set_len(&c->files[name->file], 0);
        changed(c);
    }
    return fd;
}

static int cut_close(const struct vfs *vfs, int fd)
{
    if (fd >= 0 && fd < CUT_FDS_MAX) {
        self(vfs)->file_of_fd[fd] = -1;
    }
    return real()->close(real(), fd);
}

static int cut_allocate(const struct vfs *vfs, int fd, off_t len)
{
    struct cut_file *file = file_of(self(vfs), fd);

    if (real()->allocate(real(), fd, len) != 0) {
        return -1;
    }
    if ((size_t)len > file->len) {
        set_len(file, (size_t)len);
    }
    changed(self(vfs));
    return 0;
}

static void note_write(struct cut_file *file, const void *from, size_t len,
                       size_t at)
{
    if (at + len > file->len) {
        set_len(file, at + len);
    }
    memcpy(file->now + at, from, len);
}

static ssize_t cut_pwrite(const struct vfs *vfs, int fd, const void *from,
                          size_t len, off_t at)
{
    ssize_t done = real()->pwrite(real(), fd, from, len, at);

    if (done > 0) {
        note_write(file_of(self(vfs), fd), from, (size_t)done, (size_t)at);
        changed(self(vfs));
    }
    return done;
}

static ssize_t cut_pwritev(const struct vfs *vfs, int fd,
                           const struct iovec *iov, int count, off_t at)
{
    ssize_t done = real()->pwritev(real(), fd, iov, count, at);
    size_t left = done > 0 ? (size_t)done : 0;
    size_t to = (size_t)at;

    for (int i = 0; i < count && left > 0; i++) {
        size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;
        note_write(file_of(self(vfs), fd), iov[i].iov_base, part, to);
        to += part;
        left -= part;
    }
    changed(self(vfs));
    return done;
}

static ssize_t cut_pread(const struct vfs *vfs, int fd, void *into, size_t len,
                         off_t at)
{
    (void)vfs;
    return real()->pread(real(), fd, into, len, at);
}

/* The hook first: a cut while the sync runs may keep any part. */
static int cut_sync(const struct vfs *vfs, int fd)
{
    struct cut_vfs *c = self(vfs);

    changed(c);
    if (!c->no_sync) {
        make_durable(file_of(c, fd));
    }
    return 0;
}

static int cut_drop_cache(const struct vfs *vfs, int fd, off_t at, off_t len)
{
    (void)vfs;
    (void)fd;
    (void)at;
    (void)len;
    return 0;
}

static off_t cut_size(const struct vfs *vfs, int fd)
{
    (void)vfs;
    return real()->size(real(), fd);
}

static int cut_truncate(const struct vfs *vfs, int fd, off_t len)
{
    if (real()->truncate(real(), fd, len) != 0) {
        return -1;
    }
    set_len(file_of(self(vfs), fd), (size_t)len);
    changed(self(vfs));
    return 0;
}

static void *cut_map(const struct vfs *vfs, int fd, size_t len)
{
    (void)vfs;
    return real()->map(real(), fd, len);
}

static int cut_unmap(const struct vfs *vfs, void *at, size_t len)
{
    (void)vfs;
    return real()->unmap(real(), at, len);
}

static int cut_touch(const struct vfs *vfs, const void *at, size_t len)
{
    (void)vfs;
    return real()->touch(real(), at, len);
}

static int cut_rename(const struct vfs *vfs, const char *from, const char *to)
{
    struct cut_vfs *c = self(vfs);

    if (real()->rename(real(), from, to) != 0) {
        return -1;
    }
    note_op(c, from, to, find_name(c->names, from)->file);
    changed(c);
    return 0;
}

static int cut_unlink(const struct vfs *vfs, const char *path)
{
    if (real()->unlink(real(), path) != 0) {
        return -1;
    }
    note_op(self(vfs), path, "", -1);
    changed(self(vfs));
    return 0;
}

static int cut_sync_dir(const struct vfs *vfs, const char *path)
{
    struct cut_vfs *c = self(vfs);
    int kept = 0;

    changed(c);
    for (int i = 0; i < c->op_count && !c->no_dir_sync; i++) {
        const char *name =
            c->ops[i].to[0] != '\0' ? c->ops[i].to : c->ops[i].from;
        if (in_folder(name, path)) {
            apply_op(c->durable, &c->ops[i]);
        } else {
            c->ops[kept++] = c->ops[i];
        }
    }
    c->op_count = c->no_dir_sync ? c->op_count : kept;
    return 0;
}

static int cut_make_dir(const struct vfs *vfs, const char *path, mode_t mode)
{
    (void)vfs;
    return real()->make_dir(real(), path, mode);
}

static int cut_list(const struct vfs *vfs, const char *path,
                    void (*entry)(void *arg, const char *name), void *arg)
{
    (void)vfs;
    return real()->list(real(), path, entry, arg);
}

static uint64_t cut_free_bytes(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    return real()->free_bytes(real(), path);
}

void cut_vfs_init(struct cut_vfs *c, const char *dir)
{
    char log[CUT_PATH_LEN + 10];

    memset(c, 0, sizeof *c);
    c->vfs = (struct vfs) { .open = cut_open,
                            .close = cut_close,
                            .allocate = cut_allocate,
                            .pwrite = cut_pwrite,
                            .pwritev = cut_pwritev,
                            .pread = cut_pread,
                            .sync = cut_sync,
                            .drop_cache = cut_drop_cache,
                            .size = cut_size,
                            .truncate = cut_truncate,
                            .map = cut_map,
                            .unmap = cut_unmap,
                            .touch = cut_touch,
                            .rename = cut_rename,
                            .unlink = cut_unlink,
                            .sync_dir = cut_sync_dir,
                            .make_dir = cut_make_dir,
                            .list = cut_list,
                            .free_bytes = cut_free_bytes,
                            .context = c };
    memset(c->file_of_fd, 0xff, sizeof c->file_of_fd);
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    load_folder(c, dir);
    snprintf(log, sizeof log, "%s/log", dir);
    load_folder(c, log);
}

void cut_vfs_fini(struct cut_vfs *c)
{
    for (int i = 0; i < c->file_count; i++) {
        free(c->files[i].now);
        free(c->files[i].durable);
    }
}

/* ---- an image ---- */

/* Which unsynced sectors reached the disk. */
struct fate {
    unsigned percent;  /* each by itself, */
    size_t hole_first; /* but none in here, */
    size_t hole_stop;
    bool only_hole; /* or all except in here */
};

static struct fate draw_fate(uint64_t *state, size_t sectors)
{
    static const unsigned percents[] = { 0, 5, 30, 50, 70, 95, 100 };
    struct fate fate = { 0 };

    fate.percent = percents[random_next(state) % COUNT_OF(percents)];
    if (random_next(state) % 3 == 0 && sectors > 0) {
        fate.only_hole = true;
        fate.hole_first = random_next(state) % sectors;
        fate.hole_stop = fate.hole_first + 1 + random_next(state) % 4;
    }
    return fate;
}

static bool survives(const struct fate *fate, size_t sector, uint64_t *state)
{
    if (fate->only_hole) {
        return sector < fate->hole_first || sector >= fate->hole_stop;
    }
    return random_next(state) % 100 < fate->percent;
}

static void write_image(const struct cut_file *file, const char *path,
                        uint64_t *state)
{
    size_t len = random_next(state) % 2 == 0 ? file->len : file->durable_len;
    size_t sectors = len / CUT_SECTOR_LEN + 1;
    struct fate fate = draw_fate(state, sectors);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && ftruncate(fd, (off_t)len) == 0);
    for (size_t i = 0; i < sectors; i++) {
        uint8_t sector[CUT_SECTOR_LEN];
        size_t at = i * CUT_SECTOR_LEN;
        size_t part = len - at < CUT_SECTOR_LEN ? len - at : CUT_SECTOR_LEN;
        if (part == 0) {
            break;
        }
        memcpy(sector, file->durable + at, part);
        if (memcmp(sector, file->now + at, part) != 0
            && survives(&fate, i, state)) {
            /* now and then a sector is torn in the middle */
            size_t torn =
                random_next(state) % 20 == 0 ? random_next(state) % part : part;
            memcpy(sector, file->now + at, torn);
        }
        CHECK(pwrite(fd, sector, part, (off_t)at) == (ssize_t)part);
    }
    close(fd);
}

void cut_vfs_image(const struct cut_vfs *c, const char *to, uint64_t *state)
{
    static struct cut_name names[CUT_FILES_MAX];
    int applied = c->op_count == 0
                      ? 0
                      : (int)(random_next(state) % (unsigned)(c->op_count + 1));
    char path[CUT_PATH_LEN * 2];

    memcpy(names, c->durable, sizeof names);
    for (int i = 0; i < applied; i++) {
        apply_op(names, &c->ops[i]);
    }
    snprintf(path, sizeof path, "%s/log", to);
    CHECK(mkdir(path, 0700) == 0);
    for (int i = 0; i < CUT_FILES_MAX; i++) {
        if (names[i].path[0] != '\0') {
            snprintf(path, sizeof path, "%s%s", to,
                     names[i].path + strlen(c->dir));
            write_image(&c->files[names[i].file], path, state);
        }
    }
}
