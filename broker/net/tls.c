#include "broker/net/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

/* OpenSSL reads and writes through a BIO of ours that looks straight into the
 * caller's buffers: the ready-made memory BIO keeps the largest buffer it ever
 * had, which idle connections would pay for. */

struct tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *buffers; /* see above */
};

struct tls {
    SSL *ssl;
    /* lent for the length of one call */
    struct slice from;
    struct bytes *to;
    bool established;
};

/* How much room SSL_read() gets at a time: one record's plain text. */
enum { TLS_READ_LEN = 16 * 1024 };

static int on_bio_read(BIO *bio, char *into, size_t len, size_t *done)
{
    struct tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (tls->from.len == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *done = len < tls->from.len ? len : tls->from.len;
    memcpy(into, tls->from.at, *done);
    tls->from.at += *done;
    tls->from.len -= *done;
    return 1;
}

static int on_bio_write(BIO *bio, const char *from, size_t len, size_t *done)
{
    struct tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (tls->to == NULL || bytes_append(tls->to, from, len) != STATUS_OK) {
        return 0;
    }
    *done = len;
    return 1;
}

static long on_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *buffers_new(void)
{
    BIO_METHOD *method = BIO_meth_new(
        BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection buffers");

    if (method != NULL) {
        BIO_meth_set_read_ex(method, on_bio_read);
        BIO_meth_set_write_ex(method, on_bio_write);
        BIO_meth_set_ctrl(method, on_bio_ctrl);
    }
    return method;
}

/* A client that offers protocols by name gets ours if it is among them. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char http[] = "\x08http/1.1";
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, http, sizeof http - 1, in,
                              in_len)
        != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static const char *openssl_text(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());

    return text == NULL ? "no reason given" : text;
}

static void set_options(SSL_CTX *ssl)
{
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION
                                 | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS
                              | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Tickets carry the session; a cache would be a lock shared by workers. */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(ssl, on_alpn, NULL);
}

static enum status load_files(SSL_CTX *ssl, const char *certificate_path,
                              const char *key_path, struct error *err)
{
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate_path) != 1) {
        return error_set(err, STATUS_INVALID, 0, "TLS certificate %s: %s",
                         certificate_path, openssl_text());
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, key_path, SSL_FILETYPE_PEM) != 1) {
        return error_set(err, STATUS_INVALID, 0, "TLS key %s: %s", key_path,
                         openssl_text());
    }
    if (SSL_CTX_check_private_key(ssl) != 1) {
        return error_set(err, STATUS_INVALID, 0,
                         "TLS key %s does not belong to certificate %s",
                         key_path, certificate_path);
    }
    return STATUS_OK;
}

enum status tls_context_new(struct tls_context **out,
                            const char *certificate_path, const char *key_path,
                            struct error *err)
{
    struct tls_context *context = calloc(1, sizeof *context);
    enum status status;

    if (context == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "TLS");
    }
    ERR_clear_error();
    context->buffers = buffers_new();
    context->ssl = SSL_CTX_new(TLS_server_method());
    if (context->buffers == NULL || context->ssl == NULL
        || SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION) != 1
        || SSL_CTX_set_cipher_list(context->ssl, "ECDHE+AESGCM:ECDHE+CHACHA20")
               != 1) {
        status = error_set(err, STATUS_NOMEM, 0, "TLS: %s", openssl_text());
        goto fail;
    }
    set_options(context->ssl);
    status = load_files(context->ssl, certificate_path, key_path, err);
    if (status != STATUS_OK) {
        goto fail;
    }
    *out = context;
    return STATUS_OK;

fail:
    tls_context_free(context);
    return status;
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL) {
        return;
    }
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->buffers);
    free(context);
}

struct tls *tls_new(struct tls_context *context)
{
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio;

    if (tls == NULL) {
        return NULL;
    }
    tls->ssl = SSL_new(context->ssl);
    bio = BIO_new(context->buffers);
    if (tls->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        tls_free(tls);
        return NULL;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio); /* takes it */
    SSL_set_accept_state(tls->ssl);
    return tls;
}

void tls_free(struct tls *tls)
{
    if (tls != NULL) {
        SSL_free(tls->ssl);
        free(tls);
    }
}

static enum status why_not(const struct tls *tls, int result, const char **why)
{
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return STATUS_OK; /* all taken */
    case SSL_ERROR_ZERO_RETURN:
        return STATUS_CLOSED;
    default:
        *why = openssl_text();
        return STATUS_INVALID;
    }
}

/* Until it wants more: what it holds decrypted is invisible to epoll. */
static enum status read_all(struct tls *tls, struct bytes *plain,
                            const char **why)
{
    for (;;) {
        size_t len = 0;
        int result;

        if (bytes_reserve(plain, TLS_READ_LEN, SIZE_MAX / 2) != STATUS_OK) {
            return STATUS_NOMEM;
        }
        result = SSL_read_ex(tls->ssl, bytes_end(plain), TLS_READ_LEN, &len);
        if (result != 1) {
            return why_not(tls, result, why);
        }
        bytes_filled(plain, len);
    }
}

enum status tls_receive(struct tls *tls, struct slice from_socket,
                        struct bytes *plain, struct bytes *wire,
                        const char **why)
{
    enum status status;

    ERR_clear_error();
    tls->from = from_socket;
    tls->to = wire;
    status = read_all(tls, plain, why);
    tls->established = SSL_is_init_finished(tls->ssl) == 1;
    tls->from = (struct slice) { 0 };
    tls->to = NULL;
    return status;
}

enum status tls_send(struct tls *tls, struct slice plain, struct bytes *wire)
{
    size_t written = 0;
    int result = 1;

    if (plain.len == 0) {
        return STATUS_OK;
    }
    ERR_clear_error();
    tls->to = wire;
    /* No partial writes: one call makes all the records. */
    result = SSL_write_ex(tls->ssl, plain.at, plain.len, &written);
    tls->to = NULL;
    return result == 1 && written == plain.len ? STATUS_OK : STATUS_INVALID;
}

bool tls_established(const struct tls *tls)
{
    return tls->established;
}

void tls_shutdown(struct tls *tls, struct bytes *wire)
{
    ERR_clear_error();
    tls->to = wire;
    /* Before the handshake is done, or after an error, there is nothing to
     * close, which it reports as a failure. */
    (void)SSL_shutdown(tls->ssl);
    tls->to = NULL;
    ERR_clear_error();
}
