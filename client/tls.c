#include "client/tls.h"
#include "proto/ws_frame.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* ---- digests and randomness ---- */

bool random_bytes(void *to, size_t len)
{
    CHECK(len <= INT_MAX);
    return RAND_bytes(to, (int)len) == 1;
}

bool hmac_sha256(struct slice key, struct slice text, uint8_t out[HMAC_LEN])
{
    unsigned len = HMAC_LEN;

    CHECK(key.len <= INT_MAX);
    return HMAC(EVP_sha256(), key.at, (int)key.len, text.at, text.len, out,
                &len)
           != NULL;
}

void base64(char *out, struct slice from)
{
    CHECK(from.len < INT_MAX / 2);
    (void)EVP_EncodeBlock((unsigned char *)out, from.at, (int)from.len);
}

bool websocket_accept(const char *key, char out[ACCEPT_LEN + 1])
{
    char joined[128];
    uint8_t digest[SHA_DIGEST_LENGTH];
    unsigned len;
    int joined_len = snprintf(joined, sizeof joined, "%s%s", key, WS_GUID);

    CHECK(joined_len > 0 && (size_t)joined_len < sizeof joined);
    if (EVP_Digest(joined, (size_t)joined_len, digest, &len, EVP_sha1(), NULL)
        != 1) {
        return false;
    }
    base64(out, slice_of(digest, len));
    return true;
}

/* ---- the socket as OpenSSL sees it ---- */

/* OpenSSL's own socket BIO calls write(), which raises SIGPIPE when the broker
 * has gone; a library cannot ask its application to ignore that. So: a BIO
 * with send() and MSG_NOSIGNAL. */

static int bio_fd(BIO *bio)
{
    return *(const int *)BIO_get_data(bio);
}

static bool would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static int bio_send(BIO *bio, const char *from, int len)
{
    ssize_t put = send(bio_fd(bio), from, (size_t)len, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    if (put < 0 && would_block(errno)) {
        BIO_set_retry_write(bio);
    }
    return (int)put;
}

static int bio_receive(BIO *bio, char *to, int len)
{
    ssize_t got = recv(bio_fd(bio), to, (size_t)len, 0);

    BIO_clear_retry_flags(bio);
    if (got < 0 && would_block(errno)) {
        BIO_set_retry_read(bio);
    }
    return (int)got;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *bio_method_new(void)
{
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "godwit");

    if (method != NULL
        && (BIO_meth_set_write(method, bio_send) != 1
            || BIO_meth_set_read(method, bio_receive) != 1
            || BIO_meth_set_ctrl(method, bio_control) != 1)) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

/* ---- contexts ---- */

struct tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *bio;
};

static bool trust(SSL_CTX *ssl, const char *ca_file)
{
    return ca_file == NULL ? SSL_CTX_set_default_verify_paths(ssl) == 1
                           : SSL_CTX_load_verify_file(ssl, ca_file) == 1;
}

struct tls_context *tls_context_new(const char *ca_file)
{
    struct tls_context *context = calloc(1, sizeof *context);

    if (context == NULL) {
        return NULL;
    }
    context->bio = bio_method_new();
    context->ssl = SSL_CTX_new(TLS_client_method());
    if (context->bio == NULL || context->ssl == NULL
        || SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION) != 1
        || !trust(context->ssl, ca_file)) {
        ERR_clear_error();
        tls_context_free(context);
        return NULL;
    }
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE
                                       | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return context;
}

void tls_context_free(struct tls_context *context)
{
    if (context != NULL) {
        SSL_CTX_free(context->ssl);
        BIO_meth_free(context->bio);
        free(context);
    }
}

/* ---- sessions ---- */

struct tls {
    SSL *ssl;
    int fd; /* the BIO looks here */
    bool wants_write;
    bool failed; /* after a fatal error nothing may be sent */
};

static bool is_address(const char *host)
{
    uint8_t scratch[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, host, scratch) == 1
           || inet_pton(AF_INET6, host, scratch) == 1;
}

static bool expect_host(SSL *ssl, const char *host)
{
    if (is_address(host)) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1
           && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static bool attach(SSL *ssl, BIO_METHOD *method, int *fd)
{
    BIO *bio = BIO_new(method);

    if (bio == NULL) {
        return false;
    }
    BIO_set_data(bio, fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return true;
}

enum status tls_new(struct tls **out, struct tls_context *context, int fd,
                    const char *host, struct error *err)
{
    struct tls *tls = calloc(1, sizeof *tls);

    if (tls == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "TLS");
    }
    tls->fd = fd;
    tls->ssl = SSL_new(context->ssl);
    if (tls->ssl == NULL || !attach(tls->ssl, context->bio, &tls->fd)
        || !expect_host(tls->ssl, host)) {
        ERR_clear_error();
        tls->failed = true;
        tls_free(tls);
        return error_set(err, STATUS_NOMEM, 0, "TLS session");
    }
    SSL_set_connect_state(tls->ssl);
    *out = tls;
    return STATUS_OK;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL) {
        return;
    }
    if (!tls->failed && SSL_is_init_finished(tls->ssl)) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl);
        ERR_clear_error();
    }
    SSL_free(tls->ssl);
    free(tls);
}

bool tls_wants_write(const struct tls *tls)
{
    return tls->wants_write;
}

static enum status explain(struct tls *tls, int error, struct error *err)
{
    long verified = SSL_get_verify_result(tls->ssl);
    unsigned long code = ERR_get_error();
    char text[160];

    tls->failed = true;
    ERR_clear_error();
    if (verified != X509_V_OK) {
        return error_set(err, STATUS_IO, 0, "TLS certificate: %s",
                         X509_verify_cert_error_string(verified));
    }
    if (ERR_GET_LIB(code) == ERR_LIB_SSL
        && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER) {
        return error_set(err, STATUS_IO, 0,
                         "TLS: the other side does not speak it");
    }
    if (code != 0) {
        ERR_error_string_n(code, text, sizeof text);
        return error_set(err, STATUS_IO, 0, "TLS: %s", text);
    }
    if (error == SSL_ERROR_SYSCALL && errno != 0) {
        return error_set(err, STATUS_IO, errno, "TLS");
    }
    return error_set(err, STATUS_CLOSED, 0, "TLS: closed by the broker");
}

static enum status outcome(struct tls *tls, int result, struct error *err)
{
    int error;

    if (result > 0) {
        return STATUS_OK;
    }
    error = SSL_get_error(tls->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        tls->wants_write = error == SSL_ERROR_WANT_WRITE;
        return STATUS_AGAIN;
    }
    if (error == SSL_ERROR_ZERO_RETURN) {
        return error_set(err, STATUS_CLOSED, 0, "closed by the broker");
    }
    return explain(tls, error, err);
}

enum status tls_handshake(struct tls *tls, struct error *err)
{
    ERR_clear_error();
    errno = 0;
    return outcome(tls, SSL_do_handshake(tls->ssl), err);
}

enum status tls_read(struct tls *tls, void *to, size_t len, size_t *got,
                     struct error *err)
{
    ERR_clear_error();
    errno = 0;
    return outcome(tls, SSL_read_ex(tls->ssl, to, len, got), err);
}

enum status tls_write(struct tls *tls, const void *from, size_t len,
                      size_t *put, struct error *err)
{
    ERR_clear_error();
    errno = 0;
    return outcome(tls, SSL_write_ex(tls->ssl, from, len, put), err);
}
