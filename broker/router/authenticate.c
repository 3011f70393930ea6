/* The only user of OpenSSL's crypto in this folder. */
#include "broker/router/authenticate.h"

#include "proto/name.h"
#include "proto/text.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    TAG_LEN = 16,
    SET_CAPACITY_MIN = 1024,
    APP_PLACE_BITS = 15,
    APP_PLACES = 1 << APP_PLACE_BITS
};

_Static_assert(APP_PLACES >= 2 * APP_COUNT_MAX, "its probes are short");

/* ---- nonces ---- */

/* Open addressing; nothing is ever taken out of a set, sets are dropped whole. */
struct nonce_set {
    uint8_t (*tags)[TAG_LEN]; /* all zero: free */
    size_t count;
    size_t capacity; /* a power of two, or 0 */
};

/* Nonces of one app in the generation `now`. */
struct app_nonces {
    uint32_t app; /* 0: free */
    uint32_t count;
};

/* Two generations: a nonce is remembered for NONCE_KEEP_MS at least, which is
 * as long as a timestamp can be good for, and for twice that at most. */
struct nonces {
    pthread_mutex_t lock; /* guards all below */
    struct nonce_set now;
    struct nonce_set before;
    uint64_t began_ms; /* `now` did */
    uint32_t app_count;
    struct app_nonces apps[APP_PLACES]; /* open addressing too */
    /* not changed once it is made */
    uint64_t started_ms;
};

struct nonces *nonces_new(uint64_t started_ms)
{
    struct nonces *nonces = calloc(1, sizeof *nonces);

    if (nonces == NULL) {
        return NULL;
    }
    nonces->started_ms = started_ms;
    if (pthread_mutex_init(&nonces->lock, NULL) != 0) {
        free(nonces);
        return NULL;
    }
    return nonces;
}

void nonces_free(struct nonces *nonces)
{
    if (nonces == NULL) {
        return;
    }
    pthread_mutex_destroy(&nonces->lock);
    free(nonces->now.tags);
    free(nonces->before.tags);
    free(nonces);
}

static size_t set_place(const struct nonce_set *set, const uint8_t *tag)
{
    static const uint8_t zero[TAG_LEN];
    size_t at = (size_t)get_u64(tag) & (set->capacity - 1);

    while (memcmp(set->tags[at], zero, TAG_LEN) != 0
           && memcmp(set->tags[at], tag, TAG_LEN) != 0) {
        at = (at + 1) & (set->capacity - 1);
    }
    return at;
}

static bool set_has(const struct nonce_set *set, const uint8_t *tag)
{
    return set->capacity > 0
           && memcmp(set->tags[set_place(set, tag)], tag, TAG_LEN) == 0;
}

/* Half empty at least, so that probes are short. */
static bool set_grow(struct nonce_set *set)
{
    struct nonce_set larger = { .count = set->count };

    if ((set->count + 1) * 2 <= set->capacity) {
        return true;
    }
    larger.capacity = set->capacity == 0 ? SET_CAPACITY_MIN : set->capacity * 2;
    larger.tags = calloc(larger.capacity, TAG_LEN);
    if (larger.tags == NULL) {
        return false;
    }
    for (size_t i = 0; i < set->capacity; i++) {
        memcpy(larger.tags[set_place(&larger, set->tags[i])], set->tags[i],
               TAG_LEN);
    }
    free(set->tags);
    *set = larger;
    return true;
}

static void turn_generation(struct nonces *nonces, uint64_t now_ms)
{
    if (now_ms < nonces->began_ms) {
        nonces->began_ms = now_ms; /* the clock was set back: keep longer */
    }
    if (now_ms - nonces->began_ms < NONCE_KEEP_MS) {
        return;
    }
    free(nonces->before.tags);
    nonces->before = nonces->now;
    nonces->now = (struct nonce_set) { 0 };
    if (now_ms - nonces->began_ms >= 2 * (uint64_t)NONCE_KEEP_MS) {
        free(nonces->before.tags);
        nonces->before = (struct nonce_set) { 0 };
    }
    memset(nonces->apps, 0, sizeof nonces->apps);
    nonces->app_count = 0;
    nonces->began_ms = now_ms;
}

/* NULL: as many apps as there can be, and this one is not among them. */
static struct app_nonces *app_place(struct nonces *nonces, uint32_t app)
{
    uint32_t at = app * UINT32_C(2654435769) >> (32 - APP_PLACE_BITS);

    while (nonces->apps[at].app != 0 && nonces->apps[at].app != app) {
        at = (at + 1) & (APP_PLACES - 1);
    }
    if (nonces->apps[at].app == 0) {
        if (nonces->app_count >= APP_COUNT_MAX) {
            return NULL;
        }
        nonces->apps[at].app = app;
        nonces->app_count++;
    }
    return &nonces->apps[at];
}

/* STATUS_AGAIN: *bound of them are there already. */
static enum status nonce_add(struct nonces *nonces, uint32_t app,
                             const uint8_t *tag, uint64_t now_ms,
                             uint32_t *bound)
{
    struct app_nonces *of_app;

    turn_generation(nonces, now_ms);
    if (set_has(&nonces->now, tag) || set_has(&nonces->before, tag)) {
        return STATUS_EXISTS;
    }
    of_app = app_place(nonces, app);
    if (of_app != NULL && of_app->count >= NONCE_APP_COUNT_MAX) {
        *bound = NONCE_APP_COUNT_MAX;
        return STATUS_AGAIN;
    }
    if (of_app == NULL || nonces->now.count >= NONCE_COUNT_MAX) {
        *bound = NONCE_COUNT_MAX;
        return STATUS_AGAIN;
    }
    if (!set_grow(&nonces->now)) {
        return STATUS_NOMEM;
    }
    memcpy(nonces->now.tags[set_place(&nonces->now, tag)], tag, TAG_LEN);
    nonces->now.count++;
    of_app->count++;
    return STATUS_OK;
}

static enum status internal(struct refusal *refusal)
{
    return refuse(refusal, STATUS_INTERNAL, "crypto",
                  "the cryptographic library failed");
}

static enum status refuse_nonces(struct refusal *refusal, const struct app *app,
                                 uint32_t bound, uint64_t retry_after_ms)
{
    if (bound == NONCE_COUNT_MAX) {
        (void)refuse(refusal, STATUS_AGAIN, "nonces",
                     "too many signed logins in a short time");
    } else {
        (void)refuse(refusal, STATUS_AGAIN, "app_nonces",
                     "too many signed logins of this app in a short time");
        (void)snprintf(refusal->scope, sizeof refusal->scope, "app %s",
                       app->name);
    }
    refusal->used = refusal->allowed = bound;
    refusal->retry_after_ms = retry_after_ms;
    return STATUS_AGAIN;
}

static enum status check_nonce(struct nonces *nonces, const struct app *app,
                               struct slice nonce, uint64_t now_ms,
                               struct refusal *refusal)
{
    uint8_t text[4 + NONCE_LEN_MAX];
    uint8_t hash[EVP_MAX_MD_SIZE];
    uint64_t retry_after_ms;
    uint32_t bound = 0;
    enum status status;

    put_u32(text, app->id);
    memcpy(text + 4, nonce.at, nonce.len);
    if (EVP_Digest(text, 4 + nonce.len, hash, NULL, EVP_sha256(), NULL) != 1) {
        return internal(refusal);
    }
    hash[0] |= 1; /* never all zero */
    pthread_mutex_lock(&nonces->lock);
    status = nonce_add(nonces, app->id, hash, now_ms, &bound);
    retry_after_ms = nonces->began_ms + NONCE_KEEP_MS - now_ms;
    pthread_mutex_unlock(&nonces->lock);
    if (status == STATUS_EXISTS) {
        return refuse(refusal, STATUS_UNAUTHENTICATED, "nonce",
                      "this nonce was used before; take a fresh one for each "
                      "login");
    }
    if (status == STATUS_AGAIN) {
        return refuse_nonces(refusal, app, bound, retry_after_ms);
    }
    return status == STATUS_OK
               ? status
               : refuse(refusal, STATUS_NOMEM, "memory", "out of memory");
}

/* ---- who is it ---- */

static enum status refuse_secret(struct refusal *refusal, const struct app *app)
{
    (void)refuse(refusal, STATUS_UNAUTHENTICATED, "credentials",
                 "the credentials are wrong");
    (void)snprintf(refusal->scope, sizeof refusal->scope, "app %s", app->name);
    return STATUS_UNAUTHENTICATED;
}

/* Takes as long for a wrong secret as for the right one: the whole zero-padded
 * field is compared. */
static enum status check_secret(const struct app *app, struct slice secret,
                                bool trusted, struct refusal *refusal)
{
    char given[SECRET_LEN_MAX + 1] = { 0 };
    bool fits = secret.len <= SECRET_LEN_MAX;
    bool same;

    if (!trusted) {
        return refuse(refusal, STATUS_UNAUTHENTICATED, "transport",
                      "a secret may be sent over TLS or from this machine "
                      "only; sign with it instead");
    }
    memcpy(given, secret.at, fits ? secret.len : 0);
    same = CRYPTO_memcmp(given, app->secret, sizeof given) == 0;
    OPENSSL_cleanse(given, sizeof given);
    /* The length tells "abc" and "abc\0" apart. */
    if (!same || !fits || secret.len != strlen(app->secret)) {
        return refuse_secret(refusal, app);
    }
    return STATUS_OK;
}

static enum status check_timestamp(uint64_t timestamp_ms, uint64_t now_ms,
                                   struct refusal *refusal)
{
    bool behind = timestamp_ms < now_ms;
    uint64_t skew_ms = behind ? now_ms - timestamp_ms : timestamp_ms - now_ms;

    if (skew_ms <= TIMESTAMP_SKEW_MS_MAX) {
        return STATUS_OK;
    }
    (void)refuse(refusal, STATUS_UNAUTHENTICATED, "timestamp_skew_ms",
                 "the timestamp is %" PRIu64 " ms %s the broker's clock",
                 skew_ms, behind ? "behind" : "ahead of");
    refusal->used = skew_ms;
    refusal->allowed = TIMESTAMP_SKEW_MS_MAX;
    return STATUS_UNAUTHENTICATED;
}

/* What was used before the start is not remembered. Not STATUS_UNAUTHENTICATED:
 * who comes again with a new one will be let in, however slow its clock. */
static enum status check_not_before_start(const struct nonces *nonces,
                                          uint64_t timestamp_ms,
                                          struct refusal *refusal)
{
    if (timestamp_ms >= nonces->started_ms) {
        return STATUS_OK;
    }
    (void)refuse(refusal, STATUS_AGAIN, "timestamp_start",
                 "made before this broker started; sign a new one");
    refusal->retry_after_ms = nonces->started_ms - timestamp_ms;
    return STATUS_AGAIN;
}

/* HMAC-SHA256 over "app\ntimestamp_ms\nnonce". */
static enum status check_signature(const struct app *app,
                                   const struct credentials *credentials,
                                   struct refusal *refusal)
{
    char text[NAME_LEN_MAX + DECIMAL_LEN_MAX + NONCE_LEN_MAX + 3];
    uint8_t expected[EVP_MAX_MD_SIZE];
    unsigned expected_len = 0;
    int len = snprintf(text, sizeof text, "%s\n%" PRIu64 "\n%.*s", app->name,
                       credentials->timestamp_ms, (int)credentials->nonce.len,
                       (const char *)credentials->nonce.at);

    CHECK(len > 0 && (size_t)len < sizeof text);
    if (HMAC(EVP_sha256(), app->secret, (int)strlen(app->secret),
             (const uint8_t *)text, (size_t)len, expected, &expected_len)
            == NULL
        || expected_len != SIGNATURE_LEN_MAX) {
        return internal(refusal);
    }
    if (credentials->signature.len != SIGNATURE_LEN_MAX
        || CRYPTO_memcmp(expected, credentials->signature.at, SIGNATURE_LEN_MAX)
               != 0) {
        return refuse_secret(refusal, app);
    }
    return STATUS_OK;
}

/* Printable, so that text and signature are what they seem. */
static enum status check_nonce_text(struct slice nonce, struct refusal *refusal)
{
    bool good = nonce.len >= NONCE_LEN_MIN && nonce.len <= NONCE_LEN_MAX;

    if (!good) {
        (void)refuse(refusal, STATUS_INVALID, "nonce_len",
                     "a nonce has %d to %d characters", NONCE_LEN_MIN,
                     NONCE_LEN_MAX);
        refusal->used = nonce.len;
        refusal->allowed = NONCE_LEN_MAX;
        return STATUS_INVALID;
    }
    for (size_t i = 0; i < nonce.len; i++) {
        if (nonce.at[i] <= ' ' || nonce.at[i] > '~') {
            return refuse(refusal, STATUS_INVALID, "nonce",
                          "a nonce is printable ASCII without spaces");
        }
    }
    return STATUS_OK;
}

/* The nonce is noted last: only who has the secret can fill the table. */
static enum status check_signed(const struct app *app, struct nonces *nonces,
                                const struct credentials *credentials,
                                uint64_t now_ms, struct refusal *refusal)
{
    enum status status = check_nonce_text(credentials->nonce, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    status = check_timestamp(credentials->timestamp_ms, now_ms, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_signature(app, credentials, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_not_before_start(nonces, credentials->timestamp_ms, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    return check_nonce(nonces, app, credentials->nonce, now_ms, refusal);
}

static enum status find_app(const struct catalog *catalog, struct slice name,
                            const struct app **out, struct refusal *refusal)
{
    if (!name_valid(name)) {
        return refuse(refusal, STATUS_UNAUTHENTICATED, "app",
                      name.len == 0 ? "no app is named"
                                    : "the app's name is not a valid name");
    }
    *out = catalog_app(catalog, name);
    if (*out == NULL) {
        return refuse(refusal, STATUS_UNAUTHENTICATED, "app",
                      "there is no app named %.*s", (int)name.len,
                      (const char *)name.at);
    }
    return STATUS_OK;
}

enum status authenticate(const struct catalog *catalog, struct nonces *nonces,
                         const struct credentials *credentials, bool trusted,
                         uint64_t now_ms, const struct app **out,
                         struct refusal *refusal)
{
    const struct app *app = NULL;
    enum status status = find_app(catalog, credentials->app, &app, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    if (credentials->secret.len > 0) {
        status = check_secret(app, credentials->secret, trusted, refusal);
    } else if (credentials->signature.len > 0) {
        status = check_signed(app, nonces, credentials, now_ms, refusal);
    } else {
        status = refuse(refusal, STATUS_UNAUTHENTICATED, "credentials",
                        "neither a secret nor a signature was given");
    }
    if (status == STATUS_OK) {
        *out = app;
    }
    return status;
}

enum status random_bytes(uint8_t *at, size_t len)
{
    CHECK(len <= INT32_MAX);
    return RAND_bytes(at, (int)len) == 1 ? STATUS_OK : STATUS_IO;
}

/* ---- the Authorization header ---- */

static enum status refuse_header(struct refusal *refusal, const char *text)
{
    return refuse(refusal, STATUS_UNAUTHENTICATED, "authorization", "%s", text);
}

/* Take `word` and the spaces behind it off the front; letters of any case. */
static bool take_scheme(struct slice *from, const char *word)
{
    size_t len = strlen(word);

    if (from->len <= len || from->at[len] != ' '
        || strncasecmp((const char *)from->at, word, len) != 0) {
        return false;
    }
    while (len < from->len && from->at[len] == ' ') {
        len++;
    }
    *from = slice_of(from->at + len, from->len - len);
    return true;
}

static enum status parse_bearer(struct slice text, struct credentials *out,
                                struct refusal *refusal)
{
    const uint8_t *colon =
        text.len == 0 ? NULL : memchr(text.at, ':', text.len);

    if (colon == NULL || colon + 1 == text.at + text.len) {
        return refuse_header(refusal, "Bearer is followed by app:secret");
    }
    out->app = slice_of(text.at, (size_t)(colon - text.at));
    out->secret = slice_of(colon + 1, text.len - out->app.len - 1);
    return STATUS_OK;
}

enum { PART_APP = 1, PART_TIMESTAMP = 2, PART_NONCE = 4, PART_SIGNATURE = 8 };

/* One name=value; gives the bit of what it was, 0 when it is nothing good. */
static unsigned parse_part(struct slice part, struct credentials *out,
                           uint8_t signature[SIGNATURE_LEN_MAX])
{
    const uint8_t *equals =
        part.len == 0 ? NULL : memchr(part.at, '=', part.len);
    struct slice name;
    struct slice value;

    if (equals == NULL) {
        return 0;
    }
    name = slice_of(part.at, (size_t)(equals - part.at));
    value = slice_of(equals + 1, part.len - name.len - 1);
    if (slice_is(name, "app") && value.len > 0) {
        out->app = value;
        return PART_APP;
    }
    if (slice_is(name, "timestamp")) {
        return text_decimal(value, &out->timestamp_ms) ? PART_TIMESTAMP : 0;
    }
    if (slice_is(name, "nonce") && value.len > 0) {
        out->nonce = value;
        return PART_NONCE;
    }
    if (slice_is(name, "signature")
        && text_hex(value, signature, SIGNATURE_LEN_MAX)) {
        out->signature = slice_of(signature, SIGNATURE_LEN_MAX);
        return PART_SIGNATURE;
    }
    return 0;
}

static enum status parse_signed(struct slice text, struct credentials *out,
                                uint8_t signature[SIGNATURE_LEN_MAX],
                                struct refusal *refusal)
{
    unsigned seen = 0;

    while (text.len > 0) {
        const uint8_t *comma = memchr(text.at, ',', text.len);
        size_t len = comma == NULL ? text.len : (size_t)(comma - text.at);
        unsigned part =
            parse_part(text_trim(slice_of(text.at, len)), out, signature);

        if (part == 0 || (seen & part) != 0) {
            break;
        }
        seen |= part;
        if (comma == NULL) {
            text.len = 0;
            break;
        }
        text = slice_of(comma + 1, text.len - len - 1);
    }
    if (text.len > 0
        || seen != (PART_APP | PART_TIMESTAMP | PART_NONCE | PART_SIGNATURE)) {
        return refuse_header(refusal,
                             "Godwit-HMAC-SHA256 is followed by app=, "
                             "timestamp= (ms), nonce= and signature= (64 hex "
                             "digits), once each, with commas between");
    }
    return STATUS_OK;
}

enum status credentials_parse(struct slice header, struct credentials *out,
                              uint8_t signature[SIGNATURE_LEN_MAX],
                              struct refusal *refusal)
{
    *out = (struct credentials) { 0 };
    if (header.len == 0) {
        return refuse_header(refusal, "no Authorization header");
    }
    if (take_scheme(&header, "Bearer")) {
        return parse_bearer(header, out, refusal);
    }
    if (take_scheme(&header, "Godwit-HMAC-SHA256")) {
        return parse_signed(header, out, signature, refusal);
    }
    return refuse_header(refusal,
                         "the Authorization header is neither Bearer nor "
                         "Godwit-HMAC-SHA256");
}
