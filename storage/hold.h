/* Whoever reads the files of a store that a broker serves from holds the lock
 * on store.hold shared meanwhile: segments are not removed until it is let go.
 * What must be removed waits; nothing else does. */
#ifndef GODWIT_STORAGE_HOLD_H
#define GODWIT_STORAGE_HOLD_H

#include "proto/error.h"
#include "storage/vfs.h"

#include <stdbool.h>

/* *fd ends with close(). The file is made when it is not there, and belongs to
 * the owner of the folder; where nothing can be written *fd is -1, because then
 * nothing is removed either. A removal that is on its way is waited for, as
 * long as go_on() (may be NULL) says so and for some seconds at most.
 * STATUS_BUSY: it did not end; STATUS_CLOSED: go_on() had enough; STATUS_IO. */
MUST_CHECK enum status hold_take(int *fd, const struct vfs *vfs,
                                 const char *dir, bool (*go_on)(void *arg),
                                 void *arg, struct error *err);

#endif
