/* The broker as a whole: what is opened and started in which order, and stopped
 * in the reverse. Main's thread; it touches no socket and no group once all is
 * started. */
#ifndef GODWIT_BROKER_SERVER_H
#define GODWIT_BROKER_SERVER_H

#include "broker/config.h"

struct server;

/* Opens the store, recovers, makes the admin app on a first start, starts every
 * thread and listens. */
MUST_CHECK enum status server_start(struct server **out,
                                    const struct config *config,
                                    struct error *err);
/* Take nothing new, answer what was taken, close the connections, sync, write
 * the last checkpoint, end every thread. Bounded by config.drain_ms. False: the
 * store was frozen, so what was not durable by then is not confirmed. */
MUST_CHECK bool server_stop(struct server *server);

#endif
