/* TLS for one listener; the only user of OpenSSL's SSL. Sessions work on memory
 * buffers: the connection moves the bytes. One context is shared by all workers
 * (made before they start); a session belongs to its connection's thread. */
#ifndef GODWIT_BROKER_NET_TLS_H
#define GODWIT_BROKER_NET_TLS_H

#include "proto/bytes.h"
#include "proto/error.h"

struct tls_context;
struct tls;

/* TLS 1.2 with AEAD, or 1.3; no compression, renegotiation or early data. */
MUST_CHECK enum status tls_context_new(struct tls_context **out,
                                       const char *certificate_path,
                                       const char *key_path, struct error *err);
void tls_context_free(struct tls_context *context);

struct tls *tls_new(struct tls_context *context); /* NULL: no memory */
void tls_free(struct tls *tls);

/* Give it bytes from the socket; take plain text (appended to `plain`) and
 * bytes for the socket (appended to `wire`). STATUS_CLOSED: the peer closed
 * properly. STATUS_INVALID: a protocol error; *why is static text. */
MUST_CHECK enum status tls_receive(struct tls *tls, struct slice from_socket,
                                   struct bytes *plain, struct bytes *wire,
                                   const char **why);
MUST_CHECK enum status tls_send(struct tls *tls, struct slice plain,
                                struct bytes *wire);
bool tls_established(const struct tls *tls);
void tls_shutdown(struct tls *tls, struct bytes *wire); /* close_notify */

#endif
