/* Where the broker is. Pure. */
#ifndef GODWIT_CLIENT_URL_H
#define GODWIT_CLIENT_URL_H

#include "proto/bytes.h"

enum { HOST_LEN_MAX = 255, PORT_DEFAULT = 7654 };

struct url {
    char host[HOST_LEN_MAX + 1]; /* an IPv6 address is without its brackets */
    char port[6];                /* decimal */
    char authority[HOST_LEN_MAX + 10]; /* host:port, for the Host header */
    bool tls;
};

/* Read "ws://host[:port][/]"; also wss, http and https. A path, query, user or
 * fragment is refused: the broker lives at the root. On failure *why is a
 * static sentence. */
MUST_CHECK enum status url_read(struct url *out, const char *text,
                                const char **why);

#endif
