/* links: godwit_router godwit_storage godwit_proto */
#include "broker/router/authenticate.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/hmac.h>

static const uint64_t now_ms = 1790000000000;

static struct catalog *catalog;
static struct nonces *nonces;
static struct refusal refusal;
static char secrets[2][SECRET_LEN_MAX + 1];
static uint8_t signature[32];

static void add_app(const char *name, uint8_t salt, char *secret)
{
    uint8_t random[24] = { salt };
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_APP,
                                       .admin = true };
    struct catalog_context context = { .random = random };
    struct bytes body = { 0 };
    struct record_fact fact;

    snprintf(request.name, sizeof request.name, "%s", name);
    cr_assert_eq(
        catalog_decide(catalog, &request, &context, &body, secret, &refusal),
        STATUS_OK);
    cr_assert_eq(
        fact_read(slice_of(bytes_begin(&body), bytes_len(&body)), &fact),
        STATUS_OK);
    cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    bytes_fini(&body);
}

static void set_up(void)
{
    catalog = catalog_new();
    nonces = nonces_new(0);
    add_app("shop", 1, secrets[0]);
    add_app("bank", 2, secrets[1]);
}

static void tear_down(void)
{
    catalog_free(catalog);
    nonces_free(nonces);
}

TestSuite(authenticate, .init = set_up, .fini = tear_down, .timeout = 30);

static enum status login_at(const struct credentials *credentials, bool trusted,
                            uint64_t at_ms, const char *expected)
{
    const struct app *app = NULL;
    enum status status;

    refusal = (struct refusal) { 0 };
    status = authenticate(catalog, nonces, credentials, trusted, at_ms, &app,
                          &refusal);
    if (status == STATUS_OK) {
        cr_assert_str_eq(app->name, expected);
    } else {
        cr_assert_null(app);
        cr_assert_eq(refusal.status, status);
        cr_assert_neq(refusal.text[0], '\0');
    }
    return status;
}

static enum status bearer(const char *app, struct slice secret, bool trusted)
{
    struct credentials credentials = { .app = slice_text(app),
                                       .secret = secret };

    return login_at(&credentials, trusted, now_ms, app);
}

/* Our own signature, over our own text. */
static struct credentials sign(const char *app, const char *secret,
                               uint64_t timestamp_ms, const char *nonce)
{
    char text[512];
    unsigned len = 0;

    snprintf(text, sizeof text, "%s\n%llu\n%s", app,
             (unsigned long long)timestamp_ms, nonce);
    HMAC(EVP_sha256(), secret, (int)strlen(secret), (uint8_t *)text,
         strlen(text), signature, &len);
    cr_assert_eq(len, 32);
    return (struct credentials) { .app = slice_text(app),
                                  .timestamp_ms = timestamp_ms,
                                  .nonce = slice_text(nonce),
                                  .signature = slice_of(signature, 32) };
}

static enum status signed_at(uint64_t timestamp_ms, const char *nonce,
                             uint64_t at_ms)
{
    struct credentials credentials =
        sign("shop", secrets[0], timestamp_ms, nonce);

    return login_at(&credentials, false, at_ms, "shop");
}

/* ---- secrets ---- */

Test(authenticate, the_right_secret_is_taken)
{
    cr_assert_eq(bearer("shop", slice_text(secrets[0]), true), STATUS_OK);
    cr_assert_eq(bearer("bank", slice_text(secrets[1]), true), STATUS_OK);
}

Test(authenticate, a_wrong_secret_is_not)
{
    char wrong[SECRET_LEN_MAX + 2] = { 0 };
    size_t len = strlen(secrets[0]);

    cr_assert_eq(bearer("shop", slice_text(secrets[1]), true),
                 STATUS_UNAUTHENTICATED);
    cr_assert_str_eq(refusal.limit, "credentials");
    memcpy(wrong, secrets[0], len);
    cr_assert_eq(bearer("shop", slice_of(wrong, len), true), STATUS_OK);
    cr_assert_eq(bearer("shop", slice_of(wrong, len - 1), true),
                 STATUS_UNAUTHENTICATED);
    /* The field it is compared with is padded with zeros. */
    cr_assert_eq(bearer("shop", slice_of(wrong, len + 1), true),
                 STATUS_UNAUTHENTICATED);
    cr_assert_eq(bearer("shop", slice_of(wrong, SECRET_LEN_MAX), true),
                 STATUS_UNAUTHENTICATED);
    cr_assert_eq(bearer("shop", slice_of(wrong, SECRET_LEN_MAX + 1), true),
                 STATUS_UNAUTHENTICATED);
    for (size_t i = 0; i < len; i++) {
        memcpy(wrong, secrets[0], len);
        wrong[i] ^= 1;
        cr_assert_eq(bearer("shop", slice_of(wrong, len), true),
                     STATUS_UNAUTHENTICATED);
    }
}

Test(authenticate, a_secret_needs_a_trusted_transport)
{
    cr_assert_eq(bearer("shop", slice_text(secrets[0]), false),
                 STATUS_UNAUTHENTICATED);
    cr_assert_str_eq(refusal.limit, "transport");
}

Test(authenticate, an_unknown_app_is_named)
{
    cr_assert_eq(bearer("shoop", slice_text(secrets[0]), true),
                 STATUS_UNAUTHENTICATED);
    cr_assert_not_null(strstr(refusal.text, "shoop"));
    cr_assert_eq(bearer("", slice_text(secrets[0]), true),
                 STATUS_UNAUTHENTICATED);
    cr_assert_eq(bearer("a\x1b[2J", slice_text(secrets[0]), true),
                 STATUS_UNAUTHENTICATED);
    cr_assert_null(strchr(refusal.text, 0x1b));
}

Test(authenticate, nothing_at_all_is_not_enough)
{
    struct credentials credentials = { .app = slice_text("shop") };

    cr_assert_eq(login_at(&credentials, true, now_ms, ""),
                 STATUS_UNAUTHENTICATED);
}

/* ---- signatures ---- */

Test(authenticate, a_signature_is_taken_on_any_transport)
{
    struct credentials credentials =
        sign("shop", secrets[0], now_ms, "nonce-number-1");

    cr_assert_eq(login_at(&credentials, false, now_ms, "shop"), STATUS_OK);
    credentials = sign("bank", secrets[1], now_ms, "nonce-number-1");
    cr_assert_eq(login_at(&credentials, true, now_ms, "bank"), STATUS_OK);
}

Test(authenticate, every_part_is_signed)
{
    struct credentials credentials;

    for (int part = 0; part < 5; part++) {
        credentials = sign("shop", secrets[0], now_ms, "abcdefgh");
        if (part == 0) {
            credentials.app = slice_text("bank");
        } else if (part == 1) {
            credentials.timestamp_ms++;
        } else if (part == 2) {
            credentials.nonce = slice_text("abcdefgi");
        } else if (part == 3) {
            signature[31] ^= 1;
        } else {
            credentials.signature.len = 31;
        }
        cr_assert_eq(login_at(&credentials, true, now_ms, ""),
                     STATUS_UNAUTHENTICATED, "part %d", part);
        cr_assert_str_eq(refusal.limit, "credentials");
    }
    /* What was refused has not used the nonce up. */
    credentials = sign("shop", secrets[0], now_ms, "abcdefgh");
    cr_assert_eq(login_at(&credentials, true, now_ms, "shop"), STATUS_OK);
}

Test(authenticate, timestamps_may_be_off_by_the_bound_and_no_more)
{
    const uint64_t skew = TIMESTAMP_SKEW_MS_MAX;

    cr_assert_eq(signed_at(now_ms - skew, "nonce--1", now_ms), STATUS_OK);
    cr_assert_eq(signed_at(now_ms + skew, "nonce--2", now_ms), STATUS_OK);
    cr_assert_eq(signed_at(now_ms - skew - 1, "nonce--3", now_ms),
                 STATUS_UNAUTHENTICATED);
    cr_assert_str_eq(refusal.limit, "timestamp_skew_ms");
    cr_assert_eq(refusal.used, skew + 1);
    cr_assert_eq(refusal.allowed, skew);
    cr_assert_not_null(strstr(refusal.text, "60001 ms behind"));
    cr_assert_eq(signed_at(now_ms + skew + 1, "nonce--4", now_ms),
                 STATUS_UNAUTHENTICATED);
    cr_assert_not_null(strstr(refusal.text, "60001 ms ahead"));
    cr_assert_eq(signed_at(0, "nonce--5", now_ms), STATUS_UNAUTHENTICATED);
    cr_assert_eq(signed_at(UINT64_MAX, "nonce--6", now_ms),
                 STATUS_UNAUTHENTICATED);
}

Test(authenticate, nonces_have_bounds)
{
    char nonce[NONCE_LEN_MAX + 2];

    memset(nonce, 'n', sizeof nonce);
    nonce[NONCE_LEN_MAX + 1] = '\0';
    cr_assert_eq(signed_at(now_ms, nonce, now_ms), STATUS_INVALID);
    cr_assert_eq(refusal.used, NONCE_LEN_MAX + 1);
    nonce[NONCE_LEN_MAX] = '\0';
    cr_assert_eq(signed_at(now_ms, nonce, now_ms), STATUS_OK);
    nonce[NONCE_LEN_MIN] = '\0';
    cr_assert_eq(signed_at(now_ms, nonce, now_ms), STATUS_OK);
    nonce[NONCE_LEN_MIN - 1] = '\0';
    cr_assert_eq(signed_at(now_ms, nonce, now_ms), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "nonce_len");
    cr_assert_eq(signed_at(now_ms, "with space", now_ms), STATUS_INVALID);
    cr_assert_eq(signed_at(now_ms, "with\nline", now_ms), STATUS_INVALID);
    cr_assert_eq(signed_at(now_ms, "", now_ms), STATUS_INVALID);
}

Test(authenticate, a_nonce_is_taken_once)
{
    struct credentials other;

    cr_assert_eq(signed_at(now_ms, "same-nonce", now_ms), STATUS_OK);
    cr_assert_eq(signed_at(now_ms, "same-nonce", now_ms),
                 STATUS_UNAUTHENTICATED);
    cr_assert_str_eq(refusal.limit, "nonce");
    cr_assert_eq(signed_at(now_ms + 5, "same-nonce", now_ms + 5),
                 STATUS_UNAUTHENTICATED);
    cr_assert_eq(signed_at(now_ms, "other-nonce", now_ms), STATUS_OK);
    other = sign("bank", secrets[1], now_ms, "same-nonce");
    cr_assert_eq(login_at(&other, false, now_ms, "bank"), STATUS_OK);
}

/* A message with a timestamp from the future may be replayed for twice the
 * skew. It is refused all that time, first as a replay, then as too old. */
Test(authenticate, a_replay_is_refused_for_as_long_as_its_timestamp_is_good)
{
    const uint64_t stamp = now_ms + TIMESTAMP_SKEW_MS_MAX;

    for (uint64_t offset = 0; offset <= NONCE_KEEP_MS; offset += 1000) {
        char before[32];

        nonces_free(nonces);
        nonces = nonces_new(0);
        /* Generations turn at different points of the life of the nonce. */
        snprintf(before, sizeof before, "first-%08llu",
                 (unsigned long long)offset);
        cr_assert_eq(signed_at(now_ms - offset, before, now_ms - offset),
                     STATUS_OK);
        cr_assert_eq(signed_at(stamp, "replayed", now_ms), STATUS_OK);
        for (uint64_t later = 0; later <= 3 * (uint64_t)NONCE_KEEP_MS;
             later += 7001) {
            cr_assert_eq(signed_at(stamp, "replayed", now_ms + later),
                         STATUS_UNAUTHENTICATED, "%llu %llu",
                         (unsigned long long)offset, (unsigned long long)later);
        }
    }
}

Test(authenticate, a_clock_set_back_forgets_nothing)
{
    cr_assert_eq(signed_at(now_ms, "the-nonce", now_ms), STATUS_OK);
    cr_assert_eq(signed_at(now_ms, "the-nonce", now_ms - 30000),
                 STATUS_UNAUTHENTICATED);
    cr_assert_str_eq(refusal.limit, "nonce");
    cr_assert_eq(signed_at(now_ms, "the-nonce", now_ms),
                 STATUS_UNAUTHENTICATED);
    cr_assert_str_eq(refusal.limit, "nonce");
}

static enum status signed_by(const char *app, const char *secret,
                             const char *nonce)
{
    struct credentials credentials = sign(app, secret, now_ms, nonce);

    return login_at(&credentials, false, now_ms, app);
}

Test(authenticate, nonces_of_one_app_are_bounded_and_come_back)
{
    char nonce[32];

    for (int i = 0; i < NONCE_APP_COUNT_MAX; i++) {
        snprintf(nonce, sizeof nonce, "nonce-%08d", i);
        cr_assert_eq(signed_at(now_ms, nonce, now_ms), STATUS_OK);
    }
    cr_assert_eq(signed_at(now_ms, "one-more", now_ms + 1000), STATUS_AGAIN);
    cr_assert_str_eq(refusal.limit, "app_nonces");
    cr_assert_str_eq(refusal.scope, "app shop");
    cr_assert_eq(refusal.allowed, NONCE_APP_COUNT_MAX);
    cr_assert_eq(refusal.retry_after_ms, NONCE_KEEP_MS - 1000);
    cr_assert_eq(signed_by("bank", secrets[1], "one-more"), STATUS_OK);
    cr_assert_eq(signed_at(now_ms, "nonce-00000000", now_ms),
                 STATUS_UNAUTHENTICATED);
    cr_assert_eq(
        signed_at(now_ms + NONCE_KEEP_MS, "one-more", now_ms + NONCE_KEEP_MS),
        STATUS_OK);
}

Test(authenticate, nonces_of_all_apps_are_bounded)
{
    enum { APPS = NONCE_COUNT_MAX / NONCE_APP_COUNT_MAX };
    char secret[SECRET_LEN_MAX + 1];
    char app[16];
    char nonce[32];

    for (int a = 0; a < APPS; a++) {
        snprintf(app, sizeof app, "app-%d", a);
        add_app(app, (uint8_t)(10 + a), secret);
        for (int i = 0; i < NONCE_APP_COUNT_MAX; i++) {
            snprintf(nonce, sizeof nonce, "nonce-%08d", i);
            cr_assert_eq(signed_by(app, secret, nonce), STATUS_OK);
        }
    }
    cr_assert_eq(signed_by("shop", secrets[0], "one-more"), STATUS_AGAIN);
    cr_assert_str_eq(refusal.limit, "nonces");
    cr_assert_eq(refusal.allowed, NONCE_COUNT_MAX);
    cr_assert_eq(
        signed_at(now_ms + NONCE_KEEP_MS, "one-more", now_ms + NONCE_KEEP_MS),
        STATUS_OK);
}

Test(authenticate, what_was_signed_before_the_start_is_refused)
{
    nonces_free(nonces);
    nonces = nonces_new(now_ms);
    cr_assert_eq(signed_at(now_ms - 1, "nonce--1", now_ms + 5), STATUS_AGAIN);
    cr_assert_str_eq(refusal.limit, "timestamp_start");
    cr_assert_eq(refusal.retry_after_ms, 1);
    cr_assert_not_null(strstr(refusal.text, "before this broker started"));
    cr_assert_eq(signed_at(now_ms, "nonce--1", now_ms + 5), STATUS_OK);
}

/* ---- the header ---- */

static enum status parse(const char *text, struct credentials *out)
{
    refusal = (struct refusal) { 0 };
    return credentials_parse(slice_text(text), out, signature, &refusal);
}

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

Test(authenticate, a_bearer_header_is_taken_apart_at_its_first_colon)
{
    struct credentials c;

    cr_assert_eq(parse("Bearer shop:se:cret", &c), STATUS_OK);
    cr_assert(slice_is(c.app, "shop"));
    cr_assert(slice_is(c.secret, "se:cret"));
    cr_assert_eq(c.signature.len, 0);
    cr_assert_eq(parse("bearer  shop:x", &c), STATUS_OK);
    cr_assert(slice_is(c.app, "shop"));
}

Test(authenticate, a_signed_header_has_its_four_parts_in_any_order)
{
    static const uint8_t half[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55,
                                      0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb,
                                      0xcc, 0xdd, 0xee, 0xff };
    struct credentials c;

    cr_assert_eq(parse("Godwit-HMAC-SHA256 signature=" HEX64
                       ", nonce=abc , app=shop,timestamp=123",
                       &c),
                 STATUS_OK);
    cr_assert(slice_is(c.app, "shop"));
    cr_assert(slice_is(c.nonce, "abc"));
    cr_assert_eq(c.timestamp_ms, 123);
    cr_assert_eq(c.secret.len, 0);
    cr_assert_eq(c.signature.len, 32);
    cr_assert_eq(memcmp(c.signature.at, half, 16), 0);
    cr_assert_eq(memcmp(c.signature.at + 16, half, 16), 0);
}

Test(authenticate, other_headers_are_refused)
{
    static const char *const bad[] = {
        "",
        "Bearer",
        "Bearer ",
        "Bearer shop",
        "Bearer shop:",
        "Basic c2hvcDp4",
        "Bearershop:x",
        "Godwit-HMAC-SHA256",
        "Godwit-HMAC-SHA256 ",
        "Godwit-HMAC-SHA256 app=a,timestamp=1,nonce=n",
        "Godwit-HMAC-SHA256 app=a,timestamp=1,signature=" HEX64,
        "Godwit-HMAC-SHA256 app=a,nonce=n,signature=" HEX64,
        "Godwit-HMAC-SHA256 timestamp=1,nonce=n,signature=" HEX64,
        "Godwit-HMAC-SHA256 app=a,app=b,timestamp=1,nonce=n,signature=" HEX64,
        "Godwit-HMAC-SHA256 app=a,timestamp=1x,nonce=n,signature=" HEX64,
        "Godwit-HMAC-SHA256 app=a,timestamp=-1,nonce=n,signature=" HEX64,
        "Godwit-HMAC-SHA256 app=a,timestamp=18446744073709551616,nonce=n,"
        "signature=" HEX64,
        "Godwit-HMAC-SHA256 app=a,timestamp=1,nonce=n,signature=0" HEX64,
        "Godwit-HMAC-SHA256 app=a,timestamp=1,nonce=n,signature=abc",
        "Godwit-HMAC-SHA256 app=a,timestamp=1,nonce=n,x=y,signature=" HEX64,
        "Godwit-HMAC-SHA256 app=,timestamp=1,nonce=n,signature=" HEX64,
        "Godwit-HMAC-SHA256 app=a,,timestamp=1,nonce=n,signature=" HEX64,
    };
    struct credentials c;

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cr_assert_eq(parse(bad[i], &c), STATUS_UNAUTHENTICATED, "%s", bad[i]);
        cr_assert_str_eq(refusal.limit, "authorization");
    }
    cr_assert_eq(parse("Godwit-HMAC-SHA256 app=a,timestamp="
                       "18446744073709551615,nonce=n,signature=" HEX64,
                       &c),
                 STATUS_OK);
    cr_assert_eq(c.timestamp_ms, UINT64_MAX);
}

Test(authenticate, randomness_is_not_the_same_twice)
{
    uint8_t a[24] = { 0 };
    uint8_t b[24] = { 0 };

    cr_assert_eq(random_bytes(a, sizeof a), STATUS_OK);
    cr_assert_eq(random_bytes(b, sizeof b), STATUS_OK);
    cr_assert_neq(memcmp(a, b, sizeof a), 0);
}
