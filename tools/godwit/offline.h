/* What the commands share that read a data folder themselves, with no broker in
 * between. */
#ifndef GODWIT_TOOLS_OFFLINE_H
#define GODWIT_TOOLS_OFFLINE_H

#include "tools/godwit/command.h"

/* Their exit codes; Ctrl-C is EXIT_INTERRUPTED as everywhere. */
enum offline_code {
    OFFLINE_FINE = 0,
    OFFLINE_DAMAGE = 1, /* something is not as it was written, or not there */
    OFFLINE_FAILED = 2  /* the command line, or the work could not be done */
};

/* Say on stderr why it did not work, with a word about what to do. Returns the
 * exit code. */
int offline_fail(enum status status, const struct error *err);
/* The same after inspect_open() of `dir`. */
int offline_open_fail(const char *dir, enum status status,
                      const struct error *err);

/* Is there such a folder? False: the user was told that there is not. */
bool offline_check_folder(const char *dir);

/* When a broker has the folder, keep it from removing segments while they are
 * read; *fd (-1: no need) is for offline_let_go(). *in_use says whether it has.
 */
MUST_CHECK enum status offline_hold(const char *dir, bool *in_use, int *fd,
                                    struct error *err);
void offline_let_go(int fd);

/* Is `inner`, which need not exist, in `outer` or in a folder of it? */
bool offline_inside(const char *inner, const char *outer);

#endif
