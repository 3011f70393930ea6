/* A byte stream to the broker: a non-blocking TCP socket, with TLS or without.
 * Tries the addresses of a name one after the other. One thread at a time. */
#ifndef GODWIT_CLIENT_TRANSPORT_H
#define GODWIT_CLIENT_TRANSPORT_H

#include "client/tls.h"
#include "client/url.h"

struct addrinfo;

struct transport {
    const struct url *url;     /* borrowed */
    struct tls_context *trust; /* borrowed; used when the URL asks for TLS */
    struct addrinfo *addresses;
    struct addrinfo *next; /* the address to try when this one fails */
    int fd;                /* -1: none */
    struct tls *tls;       /* NULL: none, or the socket is not connected yet */
    bool connected;        /* the socket is */
    bool wants_write;      /* what the last STATUS_AGAIN waits for */
};

void transport_init(struct transport *t, const struct url *url,
                    struct tls_context *trust);
/* Close. It may be started again. */
void transport_close(struct transport *t);

/* Look the name up (which may block, unless it is an address) and begin to
 * connect. STATUS_IO with words. */
MUST_CHECK enum status transport_start(struct transport *t, struct error *err);

/* Go on until bytes can flow. STATUS_AGAIN: wait for the socket. */
MUST_CHECK enum status transport_connect(struct transport *t,
                                         struct error *err);

/* At least one byte, or STATUS_AGAIN, STATUS_CLOSED at the end, STATUS_IO. */
MUST_CHECK enum status transport_read(struct transport *t, void *to, size_t len,
                                      size_t *got, struct error *err);
MUST_CHECK enum status transport_write(struct transport *t, const void *from,
                                       size_t len, size_t *put,
                                       struct error *err);

#endif
