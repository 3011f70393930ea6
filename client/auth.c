#include "client/auth.h"
#include "proto/limits.h"

#include <stdio.h>
#include <time.h>

void hex(char *out, struct slice from)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < from.len; i++) {
        out[2 * i] = digits[from.at[i] >> 4];
        out[2 * i + 1] = digits[from.at[i] & 15];
    }
    out[2 * from.len] = '\0';
}

static uint64_t wall_clock_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

enum status auth_prove(const struct auth *auth, struct auth_proof *out)
{
    uint8_t random[AUTH_NONCE_LEN / 2];
    char text[NAME_LEN_MAX + 64 + AUTH_NONCE_LEN];
    int len;

    if (!random_bytes(random, sizeof random)) {
        return STATUS_IO;
    }
    hex(out->nonce, slice_of(random, sizeof random));
    out->timestamp_ms = wall_clock_ms();
    len = snprintf(text, sizeof text, "%s\n%llu\n%s", auth->app,
                   (unsigned long long)out->timestamp_ms, out->nonce);
    CHECK(len > 0 && (size_t)len < sizeof text);
    return hmac_sha256(slice_text(auth->secret), slice_of(text, (size_t)len),
                       out->signature)
               ? STATUS_OK
               : STATUS_NOMEM;
}

enum status auth_header(const struct auth *auth, struct bytes *to)
{
    char line[512 + NAME_LEN_MAX + SECRET_LEN_MAX];
    char signature[2 * HMAC_LEN + 1];
    struct auth_proof proof;
    enum status status;
    int len;

    if (!auth->sign) {
        len = snprintf(line, sizeof line, "Authorization: Bearer %s:%s\r\n",
                       auth->app, auth->secret);
    } else {
        status = auth_prove(auth, &proof);
        if (status != STATUS_OK) {
            return status;
        }
        hex(signature, slice_of(proof.signature, sizeof proof.signature));
        len = snprintf(line, sizeof line,
                       "Authorization: Godwit-HMAC-SHA256 app=%s,timestamp=%llu"
                       ",nonce=%s,signature=%s\r\n",
                       auth->app, (unsigned long long)proof.timestamp_ms,
                       proof.nonce, signature);
    }
    CHECK(len > 0 && (size_t)len < sizeof line);
    return bytes_append(to, line, (size_t)len);
}
