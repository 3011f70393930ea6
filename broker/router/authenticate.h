/* Who is asking: bearer secrets over a trusted transport, or an HMAC-SHA256
 * over "app\ntimestamp_ms\nnonce" with the app's secret. Secrets and signatures
 * are compared in constant time; a refusal never says whether the app or the
 * secret was wrong... except that an unknown app is named, because apps' names
 * are no secret and the operator's typing error is the usual case. The only
 * user of OpenSSL's crypto in this folder. Called on workers' threads; the
 * nonces are shared (see nonces). */
#ifndef GODWIT_BROKER_ROUTER_AUTHENTICATE_H
#define GODWIT_BROKER_ROUTER_AUTHENTICATE_H

#include "broker/router/catalog.h"
#include "proto/wire.h"

/* The nonces seen within the time a timestamp is good for. Shared by all
 * workers behind a lock: logins are rare beside messages. Bounded:
 * NONCE_COUNT_MAX, and NONCE_APP_COUNT_MAX of one app; when full of fresh ones
 * a login is refused with STATUS_AGAIN. So is one that was signed before
 * `started_ms`, the wall clock's time at the process's start: whether it was
 * used before that is not known. */
struct nonces;
struct nonces *nonces_new(uint64_t started_ms);
void nonces_free(struct nonces *nonces);

struct credentials {
    struct slice app;
    struct slice secret; /* or empty, then: */
    uint64_t timestamp_ms;
    struct slice nonce;
    struct slice signature; /* 32 raw bytes */
};

/* Parse an Authorization header: `Bearer app:secret`, or
 * `Godwit-HMAC-SHA256 app=..,timestamp=..,nonce=..,signature=<64 hex>`.
 * `signature` is where the raw bytes go. */
MUST_CHECK enum status credentials_parse(struct slice header,
                                         struct credentials *out,
                                         uint8_t signature[SIGNATURE_LEN_MAX],
                                         struct refusal *refusal);

/* `trusted`: TLS or loopback, where a bearer secret may be sent. On STATUS_OK
 * *out is the app, in the catalog. */
MUST_CHECK enum status
authenticate(const struct catalog *catalog, struct nonces *nonces,
             const struct credentials *credentials, bool trusted,
             uint64_t now_ms, const struct app **out, struct refusal *refusal);

/* Raw bytes of randomness from the OS through OpenSSL. */
MUST_CHECK enum status random_bytes(uint8_t *at, size_t len);

#endif
