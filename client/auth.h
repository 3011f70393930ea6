/* Who the client says it is: a signature over time and nonce, or the secret
 * itself. Pure, but for the clock and the randomness. */
#ifndef GODWIT_CLIENT_AUTH_H
#define GODWIT_CLIENT_AUTH_H

#include "client/tls.h"

struct auth {
    const char *app;
    const char *secret;
    bool sign;
};

enum { AUTH_NONCE_LEN = 32 };

struct auth_proof {
    uint64_t timestamp_ms;
    char nonce[AUTH_NONCE_LEN + 1]; /* hex */
    uint8_t signature[HMAC_LEN];
};

/* A fresh proof, good for one use. STATUS_NOMEM, or STATUS_IO when the system
 * gives no randomness. */
MUST_CHECK enum status auth_prove(const struct auth *auth,
                                  struct auth_proof *out);

/* Append the Authorization header line, with its CR LF. */
MUST_CHECK enum status auth_header(const struct auth *auth, struct bytes *to);

void hex(char *out, struct slice from); /* 2 * len + 1 bytes */

#endif
