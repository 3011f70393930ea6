/* links: godwit_router godwit_proto */
/* An Authorization header, patterns and names: what comes before anybody is
 * known. Slices stay inside; what is taken is within its bounds. */
#include "broker/router/authenticate.h"
#include "proto/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

static bool inside(struct slice s, const uint8_t *at, size_t len)
{
    return s.len == 0 || (s.at >= at && s.at + s.len <= at + len);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct slice text = slice_of(at, len);
    struct credentials who = { 0 };
    struct refusal refusal = { 0 };
    struct patterns patterns = { 0 };
    uint8_t signature[32];

    if (credentials_parse(text, &who, signature, &refusal) == STATUS_OK) {
        CHECK(inside(who.app, at, len));
        CHECK(inside(who.secret, at, len));
        CHECK(inside(who.nonce, at, len));
        CHECK(who.secret.len > 0 || who.signature.len == sizeof signature);
    } else {
        CHECK(refusal.status != STATUS_OK && refusal.text[0] != '\0');
    }
    if (patterns_add(&patterns, text, &refusal) == STATUS_OK) {
        CHECK(patterns.count > 0 && patterns.count <= APP_GRANT_COUNT_MAX);
        (void)patterns_match(&patterns, text);
    }
    patterns_fini(&patterns);
    return 0;
}
