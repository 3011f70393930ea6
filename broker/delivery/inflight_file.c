#include "broker/delivery/inflight_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static size_t touched_words(size_t len)
{
    return len / (INFLIGHT_FILE_PAGE * 64) + 1;
}

static enum status file_failed(struct error *err, const char *path,
                               const char *what)
{
    enum status status =
        errno == ENOSPC || errno == EDQUOT ? STATUS_NO_SPACE : STATUS_IO;

    return error_set(err, status, errno, "in-flight file %s: %s", path, what);
}

/* Only this process knows it from here on. */
static enum status make_file(struct inflight_file *file, const char *path,
                             struct error *err)
{
    const struct vfs *vfs = file->vfs;

    file->fd =
        vfs->open(vfs, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file->fd < 0) {
        return file_failed(err, path, "open");
    }
    if (vfs->unlink(vfs, path) != 0) {
        return file_failed(err, path, "unlink");
    }
    return STATUS_OK;
}

static char *folder_of(const char *path)
{
    const char *end = strrchr(path, '/');

    return end == NULL ? strdup(".") : strndup(path, (size_t)(end - path) + 1);
}

enum status inflight_file_open(struct inflight_file **out,
                               const struct inflight_config *config,
                               size_t len_max, struct error *err)
{
    const char *path = config->file_path;
    struct inflight_file *file = calloc(1, sizeof *file);
    enum status status;

    if (file == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "in-flight file");
    }
    file->vfs = config->vfs == NULL ? vfs_system() : config->vfs;
    file->disk_free_min = config->disk_free_min;
    file->fd = -1;
    file->len_max = len_max;
    file->base = MAP_FAILED;
    file->touched = calloc(touched_words(len_max), sizeof *file->touched);
    file->folder = folder_of(path);
    if (file->touched == NULL || file->folder == NULL) {
        status = error_set(err, STATUS_NOMEM, 0, "in-flight file");
        goto fail;
    }
    status = make_file(file, path, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    /* Not through the vfs, whose mappings are to read: an address for all that
     * may come; what the file does not reach yet is not touched. */
    file->base =
        mmap(NULL, len_max, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
    if (file->base == MAP_FAILED) {
        status = file_failed(err, path, "map");
        goto fail;
    }
    (void)madvise(file->base, len_max, MADV_RANDOM);
    *out = file;
    return STATUS_OK;

fail:
    inflight_file_close(file);
    return status;
}

void inflight_file_close(struct inflight_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->base != MAP_FAILED) {
        (void)munmap(file->base, file->len_max);
    }
    if (file->fd >= 0) {
        (void)file->vfs->close(file->vfs, file->fd);
    }
    free(file->touched);
    free(file->folder);
    free(file);
}

static bool disk_has(const struct inflight_file *file, uint64_t more)
{
    uint64_t free_bytes = file->vfs->free_bytes(file->vfs, file->folder);

    return free_bytes >= more && free_bytes - more >= file->disk_free_min;
}

bool inflight_file_reach(struct inflight_file *file, size_t len)
{
    size_t want = file->len;
    int result;

    if (len <= file->len) {
        return true;
    }
    while (want < len) {
        want += INFLIGHT_FILE_STEP;
    }
    want = want > file->len_max ? file->len_max : want;
    if (!disk_has(file, want - file->len)) {
        return false;
    }
    do {
        result = file->vfs->allocate(file->vfs, file->fd, (off_t)want);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        return false;
    }
    file->len = want;
    return true;
}

static void give_back(struct inflight_file *file)
{
    /* Shared: the pages stay in the kernel's cache, and on the disk. */
    (void)madvise(file->base, file->len_max, MADV_DONTNEED);
    memset(file->touched, 0,
           touched_words(file->len_max) * sizeof *file->touched);
    file->touched_count = 0;
}

/* A page that is first read comes with those around it, sixteen and more, most
 * of which nobody wants and all of which have to be taken away again: so it is
 * written to, with what it has. */
static void fault_in(unsigned char *page)
{
    (void)__atomic_fetch_or(page, 0, __ATOMIC_RELAXED);
}

void inflight_file_touch(struct inflight_file *file, const void *at)
{
    size_t page =
        (size_t)((const unsigned char *)at - file->base) / INFLIGHT_FILE_PAGE;
    uint64_t bit = (uint64_t)1 << page % 64;

    if ((file->touched[page / 64] & bit) != 0) {
        return;
    }
    if (file->touched_count >= INFLIGHT_FILE_RESIDENT / INFLIGHT_FILE_PAGE) {
        give_back(file);
    }
    file->touched[page / 64] |= bit;
    file->touched_count++;
    fault_in(file->base + page * INFLIGHT_FILE_PAGE);
}

bool inflight_file_empty(struct inflight_file *file)
{
    if (file->vfs->truncate(file->vfs, file->fd, 0) != 0) {
        return false;
    }
    file->len = 0;
    give_back(file);
    return true;
}
