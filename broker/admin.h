/* The first app: a fresh store gets an `admin` with every grant, and its
 * credentials go into DIR/admin.credentials (mode 0600), where the command line
 * finds them. Main's thread, before the others run. */
#ifndef GODWIT_BROKER_ADMIN_H
#define GODWIT_BROKER_ADMIN_H

#include "proto/error.h"
#include "storage/store.h"

MUST_CHECK enum status admin_make_if_none(struct store *store, const char *dir,
                                          struct error *err);
/* Bring the file's url line up to date, if the file is there. */
MUST_CHECK enum status admin_write_url(const char *dir, const char *host,
                                       uint16_t port, bool tls,
                                       struct error *err);

#endif
