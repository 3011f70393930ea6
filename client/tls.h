/* Everything the client has from OpenSSL: TLS over a non-blocking socket,
 * HMAC-SHA256, the handshake's digest, and random bytes. tls.c is its only
 * user. */
#ifndef GODWIT_CLIENT_TLS_H
#define GODWIT_CLIENT_TLS_H

#include "proto/bytes.h"
#include "proto/error.h"

enum { HMAC_LEN = 32, ACCEPT_LEN = 28 };

/* False when the system has no randomness to give. */
MUST_CHECK bool random_bytes(void *to, size_t len);

/* False only when memory is short. */
MUST_CHECK bool hmac_sha256(struct slice key, struct slice text,
                            uint8_t out[HMAC_LEN]);

/* Base64 with NUL: 4 * ((len + 2) / 3) + 1 bytes. */
void base64(char *out, struct slice from);

/* What a broker must answer to Sec-WebSocket-Key, with NUL. */
MUST_CHECK bool websocket_accept(const char *key, char out[ACCEPT_LEN + 1]);

/* Which certificates are trusted. Read once, shared by all connections of a
 * client, from any thread. */
struct tls_context;

/* `ca_file` NULL: the system's store. NULL when it cannot be read. */
struct tls_context *tls_context_new(const char *ca_file);
void tls_context_free(struct tls_context *context);

/* One session. One thread at a time. */
struct tls;

/* Over a connected socket, which stays the caller's. The certificate must be
 * for `host`, a name or an address. */
MUST_CHECK enum status tls_new(struct tls **out, struct tls_context *context,
                               int fd, const char *host, struct error *err);
void tls_free(struct tls *tls); /* sends a close_notify if it can */

/* Each: STATUS_AGAIN when the socket must become ready first, for writing if
 * tls_wants_write() says so, else for reading; STATUS_CLOSED at the end of the
 * stream; STATUS_IO with words. */
MUST_CHECK enum status tls_handshake(struct tls *tls, struct error *err);
MUST_CHECK enum status tls_read(struct tls *tls, void *to, size_t len,
                                size_t *got, struct error *err);
MUST_CHECK enum status tls_write(struct tls *tls, const void *from, size_t len,
                                 size_t *put, struct error *err);
bool tls_wants_write(const struct tls *tls);

#endif
