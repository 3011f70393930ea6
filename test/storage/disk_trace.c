#include "test/storage/disk_trace.h"

#include "proto/check.h"
#include "test/lib/calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TAG_NONE = 0 }; /* else the index of the file, plus one */

/* ---- names ---- */

struct disk_name *disk_find(struct disk_name *names, const char *name)
{
    for (int i = 0; i < DISK_NAMES_MAX; i++) {
        if (strcmp(names[i].name, name) == 0) {
            return &names[i];
        }
    }
    return NULL;
}

void disk_set(struct disk_name *names, const char *name, int file)
{
    struct disk_name *slot = disk_find(names, name);

    if (slot == NULL) {
        slot = disk_find(names, "");
    }
    CHECK(slot != NULL && strlen(name) < DISK_NAME_LEN);
    snprintf(slot->name, sizeof slot->name, "%s", name);
    slot->file = file;
}

void disk_change(struct disk_name *names, const struct disk_op *op)
{
    struct disk_name *slot = disk_find(names, op->name);

    switch (op->kind) {
    case DISK_MAKE:
    case DISK_MAKE_DIR:
        disk_set(names, op->name, op->file);
        return;
    case DISK_RENAME:
    case DISK_UNLINK:
        if (slot != NULL) {
            int file = slot->file;
            slot->name[0] = '\0';
            if (op->kind == DISK_RENAME) {
                disk_set(names, op->to, file);
            }
        }
        return;
    case DISK_WRITE:
    case DISK_LEN:
    case DISK_SYNC:
    case DISK_SYNC_DIR:
        return;
    }
}

/* ---- bytes ---- */

void disk_bytes_put(struct disk_bytes *bytes, uint64_t at, const uint8_t *from,
                    size_t len)
{
    size_t stop = (size_t)at + len;

    while (len > 0 && stop > bytes->data_len && from[len - 1] == 0) {
        len--; /* zeros behind the data are there already */
        stop--;
    }
    if (len == 0) {
        return;
    }
    if (stop > bytes->capacity) {
        size_t capacity = stop * 2;
        bytes->at = realloc(bytes->at, capacity);
        CHECK(bytes->at != NULL);
        memset(bytes->at + bytes->capacity, 0, capacity - bytes->capacity);
        bytes->capacity = capacity;
    }
    memcpy(bytes->at + at, from, len);
    bytes->data_len = stop > bytes->data_len ? stop : bytes->data_len;
}

void disk_bytes_zero(struct disk_bytes *bytes, uint64_t at, uint64_t stop)
{
    stop = stop < bytes->data_len ? stop : bytes->data_len;
    if (at < stop) {
        memset(bytes->at + at, 0, stop - at);
        bytes->data_len = stop == bytes->data_len ? at : bytes->data_len;
    }
}

/* ---- the recorder ---- */

/* Locks and what LMDB keeps of its readers mean nothing after a cut. */
static bool counts(const char *name)
{
    return strcmp(name, "store.lock") != 0 && strcmp(name, "store.hold") != 0
           && strcmp(name, "keydir/lock.mdb") != 0;
}

static const char *name_in(const struct disk_trace *trace, const char *path)
{
    size_t len = strlen(trace->dir);

    return path[len] == '/' ? path + len + 1 : "";
}

static struct disk_op *add_op(struct disk_trace *trace, enum disk_op_kind kind,
                              int file, const char *name)
{
    struct disk_op *op;

    if (trace->count == trace->capacity) {
        trace->capacity = trace->capacity == 0 ? 256 : trace->capacity * 2;
        trace->ops = realloc(trace->ops, trace->capacity * sizeof *trace->ops);
        CHECK(trace->ops != NULL);
    }
    op = &trace->ops[trace->count++];
    *op = (struct disk_op) { .kind = kind, .file = file };
    CHECK(strlen(name) < DISK_NAME_LEN);
    snprintf(op->name, sizeof op->name, "%s", name);
    if (file >= 0) {
        op->len_before = trace->lens[file];
    }
    return op;
}

static int new_file(struct disk_trace *trace)
{
    size_t count = (size_t)trace->file_count + 1;

    trace->lens = realloc(trace->lens, count * sizeof *trace->lens);
    CHECK(trace->lens != NULL);
    trace->lens[trace->file_count] = 0;
    return trace->file_count++;
}

static void set_len(struct disk_trace *trace, int file, size_t len)
{
    if (trace->lens[file] != len) {
        add_op(trace, DISK_LEN, file, "")->len = len;
        trace->lens[file] = len;
    }
}

static void on_open(struct disk_trace *trace, const struct call *call,
                    const char *name)
{
    struct disk_name *known = disk_find(trace->names, name);
    int file = known != NULL ? known->file : -1;

    if (!counts(name) || name[0] == '\0' || call->is_dir) {
        return;
    }
    if (known == NULL) {
        file = new_file(trace);
        disk_change(trace->names, add_op(trace, DISK_MAKE, file, name));
    }
    if (file >= 0) {
        *call->tag = file + 1;
        if (call->cut_to_zero) {
            set_len(trace, file, 0);
        }
    }
}

static void on_write(struct disk_trace *trace, const struct call *call,
                     int file, const char *name)
{
    struct disk_op *op = add_op(trace, DISK_WRITE, file, name);
    size_t left = call->len;
    size_t done = 0;

    op->at = call->at;
    op->len = call->len;
    op->each_synced = call->each_synced && !trace->forget_syncs;
    op->data = malloc(call->len);
    CHECK(op->data != NULL);
    for (int i = 0; i < call->iov_count && left > 0; i++) {
        size_t part = call->iov[i].iov_len < left ? call->iov[i].iov_len : left;
        memcpy(op->data + done, call->iov[i].iov_base, part);
        done += part;
        left -= part;
    }
    if (call->at + call->len > trace->lens[file]) {
        trace->lens[file] = call->at + call->len;
    }
    if (strncmp(name, "log/", 4) == 0) {
        trace->log_bytes += call->len;
    }
}

static void on_sync(struct disk_trace *trace, const struct call *call,
                    const char *name)
{
    if (call->is_dir) {
        if (!trace->forget_dir_syncs) {
            add_op(trace, DISK_SYNC_DIR, -1, name);
        }
    } else if (*call->tag != TAG_NONE && !trace->forget_syncs) {
        add_op(trace, DISK_SYNC, *call->tag - 1, name);
    }
}

static void on_rename(struct disk_trace *trace, const struct call *call,
                      const char *name)
{
    struct disk_op *op = add_op(trace, DISK_RENAME, -1, name);

    snprintf(op->to, sizeof op->to, "%s", name_in(trace, call->to));
    disk_change(trace->names, op);
}

static void after_call(void *arg, const struct call *call)
{
    struct disk_trace *trace = arg;
    const char *name = name_in(trace, call->path);
    int file = call->tag == NULL ? -1 : *call->tag - 1;

    switch (call->kind) {
    case CALL_OPEN:
        on_open(trace, call, name);
        return;
    case CALL_WRITE:
        if (file >= 0) {
            on_write(trace, call, file, name);
        }
        return;
    case CALL_ALLOCATE:
        if (file >= 0 && call->len > trace->lens[file]) {
            set_len(trace, file, call->len);
        }
        return;
    case CALL_TRUNCATE:
        if (file >= 0) {
            set_len(trace, file, call->len);
        }
        return;
    case CALL_SYNC:
        on_sync(trace, call, name);
        return;
    case CALL_RENAME:
        on_rename(trace, call, name);
        return;
    case CALL_UNLINK:
        if (counts(name)) {
            disk_change(trace->names, add_op(trace, DISK_UNLINK, -1, name));
        }
        return;
    case CALL_MAKE_DIR:
        if (name[0] != '\0') {
            disk_change(trace->names, add_op(trace, DISK_MAKE_DIR, -1, name));
        }
        return;
    case CALL_READ:
        trace->read_bytes += call->len;
        return;
    case CALL_MAP:
    case CALL_STAT:
    case CALL_SEEK:
    case CALL_ALL:
        return;
    }
}

/* ---- beginning and end ---- */

static void load_file(struct disk_trace *trace, const char *path,
                      const char *name)
{
    int file = new_file(trace);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct disk_bytes *bytes;
    uint8_t block[4096];
    ssize_t have;
    uint64_t at = 0;

    trace->first =
        realloc(trace->first, (size_t)trace->file_count * sizeof *trace->first);
    CHECK(fd >= 0 && trace->first != NULL);
    bytes = &trace->first[file];
    *bytes = (struct disk_bytes) { 0 };
    while ((have = pread(fd, block, sizeof block, (off_t)at)) > 0) {
        disk_bytes_put(bytes, at, block, (size_t)have);
        at += (uint64_t)have;
    }
    close(fd);
    bytes->len = at;
    trace->lens[file] = at;
    disk_set(trace->names, name, file);
}

static void load_folder(struct disk_trace *trace, const char *below)
{
    char path[1200];
    DIR *dir;
    struct dirent *entry;

    snprintf(path, sizeof path, "%s/%s", trace->dir, below);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char name[DISK_NAME_LEN * 5];
        struct stat st;
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(name, sizeof name, "%s%s%s", below,
                 below[0] == '\0' ? "" : "/", entry->d_name);
        snprintf(path, sizeof path, "%s/%s", trace->dir, name);
        CHECK(stat(path, &st) == 0);
        if (S_ISDIR(st.st_mode)) {
            disk_set(trace->names, name, -1);
            load_folder(trace, name);
        } else if (counts(name)) {
            load_file(trace, path, name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

void disk_trace_start(struct disk_trace *trace, const char *dir)
{
    struct calls_observer observer = { .after = after_call, .arg = trace };

    snprintf(trace->dir, sizeof trace->dir, "%s", dir);
    load_folder(trace, "");
    memcpy(trace->first_names, trace->names, sizeof trace->names);
    trace->first_count = trace->file_count;
    calls_watch(trace->dir, &observer);
}

void disk_trace_stop(struct disk_trace *trace)
{
    (void)trace;
    calls_watch(NULL, NULL);
}

void disk_trace_fini(struct disk_trace *trace)
{
    for (size_t i = 0; i < trace->count; i++) {
        free(trace->ops[i].data);
    }
    for (int i = 0; i < trace->first_count; i++) {
        free(trace->first[i].at);
    }
    free(trace->first);
    free(trace->ops);
    free(trace->lens);
    *trace = (struct disk_trace) { 0 };
}
