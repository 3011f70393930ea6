/* A folder of a test's own under $TMPDIR, else in memory (/dev/shm) or in /tmp;
 * gone at the end. */
#ifndef GODWIT_TEST_LIB_TMPDIR_H
#define GODWIT_TEST_LIB_TMPDIR_H

#include <stddef.h>

/* Make one; its path goes into `path`. Aborts when it cannot. */
void tmpdir_make(char *path, size_t len);

/* Remove it and all that is in it. */
void tmpdir_remove(const char *path);

/* Copy every file and folder in `from` into `to`, which exists. */
void tmpdir_copy(const char *from, const char *to);

#endif
