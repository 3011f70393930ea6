/* links: godwit_net godwit_proto ev ssl crypto */
/* with: test/lib/net_bed.c */
#include "broker/net/tls.h"
#include "test/lib/net_bed.h"

#include <criterion/criterion.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static char certificate_path[64];
static char key_path[64];
static struct tls_context *context;
static struct bed bed;
static SSL_CTX *client_context;

static FILE *temporary(char *path, size_t len, const char *name)
{
    int fd;

    snprintf(path, len, "/tmp/godwit-test-%s-XXXXXX", name);
    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    return fdopen(fd, "w");
}

/* A key, and a certificate that it signs itself. */
static void write_pair(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    FILE *file;

    cr_assert_not_null(key);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    cr_assert_gt(X509_sign(certificate, key, EVP_sha256()), 0);
    file = temporary(certificate_path, sizeof certificate_path, "cert");
    cr_assert_eq(PEM_write_X509(file, certificate), 1);
    fclose(file);
    file = temporary(key_path, sizeof key_path, "key");
    cr_assert_eq(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static struct net_config tls_config(void)
{
    struct net_config config = bed_config();

    config.tls = context;
    return config;
}

static void set_up(void)
{
    struct net_config config;
    struct error err = { 0 };

    write_pair();
    cr_assert_eq(tls_context_new(&context, certificate_path, key_path, &err),
                 STATUS_OK, "%s", err.text);
    client_context = SSL_CTX_new(TLS_client_method());
    config = tls_config();
    bed_open(&bed, &config);
}

static void tear_down(void)
{
    bed_close(&bed);
    SSL_CTX_free(client_context);
    tls_context_free(context);
    unlink(certificate_path);
    unlink(key_path);
}

static void set_up_with(struct net_config config)
{
    bed_close(&bed);
    bed_open(&bed, &config);
}

TestSuite(tls, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- a client ---- */

static SSL *client_start(int fd)
{
    SSL *ssl = SSL_new(client_context);

    SSL_set_fd(ssl, fd);
    SSL_set_connect_state(ssl);
    return ssl;
}

static SSL *client_open(struct bed *b, int *fd)
{
    SSL *ssl;
    int result = 0;

    *fd = client_connect(b->port);
    ssl = client_start(*fd);
    for (int i = 0; i < 1000 && result != 1; i++) {
        result = SSL_do_handshake(ssl);
        bed_run(b);
    }
    cr_assert_eq(result, 1, "%s", ERR_reason_error_string(ERR_peek_error()));
    return ssl;
}

static void client_write(struct bed *b, SSL *ssl, const void *from, size_t len)
{
    size_t sent = 0;
    int result = 0;

    for (int i = 0; i < 100000 && result != 1; i++) {
        result = SSL_write_ex(ssl, from, len, &sent);
        bed_run(b);
    }
    cr_assert_eq(result, 1);
}

/* Until `len` bytes are there, or the end. */
static struct bytes client_read(struct bed *b, SSL *ssl, size_t len)
{
    struct bytes got = { 0 };

    for (int i = 0; i < 100000 && bytes_len(&got) < len; i++) {
        size_t some = 0;

        cr_assert_eq(bytes_reserve(&got, 65536, SIZE_MAX / 2), STATUS_OK);
        if (SSL_read_ex(ssl, bytes_end(&got), 65536, &some) == 1) {
            bytes_filled(&got, some);
        } else if (SSL_get_error(ssl, 0) == SSL_ERROR_WANT_READ) {
            bed_run(b);
        } else {
            break;
        }
    }
    return got;
}

static void client_end(SSL *ssl, int fd)
{
    SSL_free(ssl);
    close(fd);
}

static void expect_text(struct bed *b, SSL *ssl, size_t len, const char *needle)
{
    struct bytes got = client_read(b, ssl, len);

    cr_assert(bytes_len(&got) > 0
                  && memmem(bytes_begin(&got), bytes_len(&got), needle,
                            strlen(needle))
                         != NULL,
              "no %s in %.*s", needle, (int)bytes_len(&got),
              (char *)bytes_begin(&got));
    bytes_fini(&got);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static void ask(struct bed *b, SSL *ssl)
{
    client_write(b, ssl, GET("/abc"), strlen(GET("/abc")));
    expect_text(b, ssl, 80, "\r\n\r\n/abc");
}

/* ---- the tests ---- */

Test(tls, a_request_is_answered_over_1_3_and_1_2)
{
    int versions[] = { TLS1_3_VERSION, TLS1_2_VERSION };

    for (size_t i = 0; i < COUNT_OF(versions); i++) {
        SSL *ssl;
        int fd;

        SSL_CTX_set_max_proto_version(client_context, versions[i]);
        ssl = client_open(&bed, &fd);
        cr_assert_eq(SSL_version(ssl), versions[i]);
        cr_assert(conn_secure(bed.conn));
        ask(&bed, ssl);
        ask(&bed, ssl);
        client_end(ssl, fd);
    }
}

Test(tls, older_versions_and_weak_ciphers_are_refused)
{
    SSL *ssl;
    int fd = client_connect(bed.port);
    int result = 0;

    SSL_CTX_set_max_proto_version(client_context, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(client_context, "ECDHE-ECDSA-AES128-SHA");
    ssl = client_start(fd);
    for (int i = 0; i < 50; i++) {
        result = SSL_do_handshake(ssl);
        bed_run(&bed);
    }
    cr_assert_neq(result, 1);
    client_end(ssl, fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, "tls");
}

Test(tls, http_1_1_is_agreed_when_offered)
{
    const unsigned char *chosen = NULL;
    unsigned len = 0;
    SSL *ssl;
    int fd;

    SSL_CTX_set_alpn_protos(client_context,
                            (const unsigned char *)"\x02h2\x08http/1.1", 12);
    ssl = client_open(&bed, &fd);
    SSL_get0_alpn_selected(ssl, &chosen, &len);
    cr_assert(slice_is(slice_of(chosen, len), "http/1.1"));
    client_end(ssl, fd);
}

Test(tls, plain_http_on_the_tls_port_is_ended)
{
    int fd = client_connect(bed.port);
    struct bytes got = { 0 };

    cr_assert(client_send_text(&bed, fd, GET("/abc")));
    cr_assert(client_receive(&bed, fd, &got, NULL));
    close(fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, "tls");
    cr_assert_eq(bed.requests, 0);
    bytes_fini(&got);
}

Test(tls, a_handshake_must_be_done_in_time)
{
    struct net_config config = tls_config();
    int fd;
    struct bytes got = { 0 };

    config.head_ms = 50;
    set_up_with(config);
    fd = client_connect(bed.port);
    cr_assert(client_send(&bed, fd, "\x16\x03\x01\x02", 4));
    cr_assert(client_receive(&bed, fd, &got, NULL));
    close(fd);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, "head_timeout");
    bytes_fini(&got);
}

/* The client's bytes go through us one at a time. */
Test(tls, records_may_be_cut_anywhere)
{
    int fd = client_connect(bed.port);
    SSL *ssl = SSL_new(client_context);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    char buffer[4096];
    bool asked = false;

    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    for (int i = 0; i < 1000 && bed.requests == 0; i++) {
        ssize_t got;

        if (SSL_do_handshake(ssl) == 1 && !asked) {
            asked = SSL_write(ssl, GET("/abc"), sizeof GET("/abc") - 1) > 0;
        }
        for (int len; (len = BIO_read(out, buffer, 1)) == 1;) {
            cr_assert(client_send(&bed, fd, buffer, 1));
        }
        got = recv(fd, buffer, sizeof buffer, 0);
        if (got > 0) {
            BIO_write(in, buffer, (int)got);
        }
        bed_run(&bed);
    }
    cr_assert_str_eq(bed_log(&bed), "GET /abc \n");
    client_end(ssl, fd);
}

static void answer_much(struct bed *b, struct conn *conn,
                        const struct http_request *request)
{
    (void)b;
    conn_respond(conn, 200, NULL, NULL, request->body);
}

Test(tls, four_megabytes_go_there_and_back)
{
    size_t len = HTTP_BODY_LEN_MAX;
    char *text = malloc(len + 200);
    int head = snprintf(text, 200,
                        "POST /much HTTP/1.1\r\nHost: x\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        len);
    struct bytes got;
    SSL *ssl;
    int fd;

    for (size_t i = 0; i < len; i++) {
        text[(size_t)head + i] = (char)(i * 31 + i / 251);
    }
    bed.on_request = answer_much;
    ssl = client_open(&bed, &fd);
    client_write(&bed, ssl, text, (size_t)head + len);
    got = client_read(&bed, ssl, len + 50);
    cr_assert_gt(bytes_len(&got), len);
    cr_assert_eq(memcmp(bytes_end(&got) - len, text + head, len), 0);
    cr_assert_eq(conn_backlog(bed.conn), 0);
    bytes_fini(&got);
    free(text);
    client_end(ssl, fd);
}

Test(tls, an_end_is_told_with_close_notify)
{
    SSL *ssl;
    int fd;
    char byte;
    int result;

    ssl = client_open(&bed, &fd);
    ask(&bed, ssl);
    net_drain(bed.net);
    bed_run(&bed);
    result = SSL_read(ssl, &byte, 1);
    cr_assert_eq(SSL_get_error(ssl, result), SSL_ERROR_ZERO_RETURN);
    client_end(ssl, fd);
}

Test(tls, the_peers_close_notify_is_heard)
{
    SSL *ssl;
    int fd;

    ssl = client_open(&bed, &fd);
    ask(&bed, ssl);
    SSL_shutdown(ssl);
    cr_assert(bed_run_until(&bed, bed_all_closed, 5000));
    cr_assert_str_eq(bed.reason, "peer_closed");
    client_end(ssl, fd);
}

static struct bed other;

static void hand_over(struct bed *b, struct conn *conn, bool text,
                      uint8_t *payload, size_t len)
{
    (void)text;
    (void)payload;
    (void)len;
    b->conn = NULL;
    conn_leave(conn);
    conn_enter(conn, other.net);
    conn_send(conn, WS_TEXT, slice_text("from the other side"));
}

Test(tls, a_websocket_is_handed_over_in_the_middle_of_its_bytes)
{
    struct net_config config = tls_config();
    struct bytes b = { 0 };
    SSL *ssl;
    int fd;

    bed_open(&other, &config);
    bed.on_message = hand_over;
    ssl = client_open(&bed, &fd);
    client_write(&bed, ssl, upgrade_request, strlen(upgrade_request));
    expect_text(&bed, ssl, 100, "\r\n\r\n");
    put_frame(&b, 0x82, "one", 3);
    put_frame(&b, 0x82, "two", 3);
    put_frame(&b, 0x81, "three", 5);
    /* two records, the second frame cut in half */
    client_write(&bed, ssl, bytes_begin(&b), 13);
    cr_assert_eq(bed.messages, 1);
    bed_run(&other);
    client_write(&other, ssl, bytes_begin(&b) + 13, bytes_len(&b) - 13);
    cr_assert_str_eq(bed_log(&other), "B:two\nT:three\n");
    expect_text(&other, ssl, 20, "from the other side");
    bytes_fini(&b);
    client_end(ssl, fd);
    cr_assert(bed_run_until(&other, bed_all_closed, 5000));
    bed_close(&other);
}

Test(tls, files_that_do_not_fit_are_named)
{
    struct tls_context *none = NULL;
    struct error err = { 0 };

    cr_assert_eq(tls_context_new(&none, "/nowhere/cert.pem", key_path, &err),
                 STATUS_INVALID);
    cr_assert_not_null(strstr(err.text, "/nowhere/cert.pem"), "%s", err.text);
    cr_assert_eq(
        tls_context_new(&none, certificate_path, "/nowhere/key.pem", &err),
        STATUS_INVALID);
    cr_assert_not_null(strstr(err.text, "/nowhere/key.pem"), "%s", err.text);
    cr_assert_eq(tls_context_new(&none, key_path, key_path, &err),
                 STATUS_INVALID);
    cr_assert_null(none);
}
