#include "test/lib/tmpdir.h"

#include "proto/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Thousands of small stores are made and synced: memory is kinder than a disk. */
static bool memory_is_roomy(void)
{
    struct statvfs st;

    return statvfs("/dev/shm", &st) == 0 && access("/dev/shm", W_OK) == 0
           && (uint64_t)st.f_bavail * st.f_frsize > UINT64_C(1) << 30;
}

void tmpdir_make(char *path, size_t len)
{
    const char *base = getenv("TMPDIR");

    if (base == NULL || base[0] == '\0') {
        base = memory_is_roomy() ? "/dev/shm" : "/tmp";
    }
    CHECK((size_t)snprintf(path, len, "%s/godwit-test-XXXXXX", base) < len);
    CHECK(mkdtemp(path) != NULL);
}

static int remove_one(const char *path, const struct stat *st, int kind,
                      struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    (void)remove(path);
    return 0;
}

void tmpdir_remove(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Holes stay holes: a preallocated segment is mostly empty. */
static void copy_file(const char *from, const char *to)
{
    static char buffer[64 * 1024];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    off_t at = 0;
    ssize_t have;

    CHECK(in >= 0 && out >= 0);
    while ((have = pread(in, buffer, sizeof buffer, at)) > 0) {
        if (buffer[0] != 0
            || memcmp(buffer, buffer + 1, (size_t)have - 1) != 0) {
            CHECK(pwrite(out, buffer, (size_t)have, at) == have);
        }
        at += have;
    }
    CHECK(ftruncate(out, at) == 0);
    close(in);
    close(out);
}

void tmpdir_copy(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    struct dirent *entry;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        char a[4096];
        char b[4096];
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0
            || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        CHECK((size_t)snprintf(a, sizeof a, "%s/%s", from, entry->d_name)
              < sizeof a);
        CHECK((size_t)snprintf(b, sizeof b, "%s/%s", to, entry->d_name)
              < sizeof b);
        CHECK(lstat(a, &st) == 0);
        if (S_ISDIR(st.st_mode)) {
            CHECK(mkdir(b, 0700) == 0 || access(b, F_OK) == 0);
            tmpdir_copy(a, b);
        } else if (S_ISREG(st.st_mode)) {
            copy_file(a, b);
        }
    }
    closedir(dir);
}
